//! One function a fuzz target, for `fuzz/` and for tests on stable.

use crate::capture;
use crate::notation::{self, eval::Env};
use crate::scenario::check::{self, Known};
use crate::scenario::clauses::Clauses;
use crate::wire::amf0;
use crate::wire::chunk::MessageHeader;

/// Any bytes as AMF0: read or refused; what was read can be written, reads again, and is then written alike.
///
/// # Panics
/// When that does not hold.
pub fn amf0(bytes: &[u8]) {
    let Ok(values) = amf0::decode_all(bytes) else { return };
    // Written again, AMF3 traits stand in full: more values than the limit can come of what was within it.
    if bytes.len() > amf0::MAX_VALUES / 4 {
        return;
    }
    let (mut once, mut twice) = (Vec::new(), Vec::new());
    amf0::encode_all(&values, &mut once);
    let again =
        amf0::decode_all(&once).unwrap_or_else(|e| panic!("{e} in {once:02x?}, written for {values:?}"));
    amf0::encode_all(&again, &mut twice);
    assert_eq!(once, twice);
}

/// Any text as a scenario and as a message: read or refused with a place inside it, and what is read makes its bytes or is refused for a reason.
///
/// # Panics
/// When that does not hold.
pub fn scenario_text(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let known = Known { clauses: Clauses::built_in(), faults: &[] };
    if let Err(errors) = check::read("fuzz", &text, known) {
        assert!(!errors.is_empty());
        for error in errors {
            assert!(error.render("fuzz.scn", &text).starts_with("fuzz.scn:"));
            assert!(error.pos.line as usize <= text.matches('\n').count() + 1, "{error}");
        }
    }
    let Ok((message, _)) = notation::parse(&text) else { return };
    let Ok((type_id, payload)) = Env::new(1).message(&message) else { return };
    // A few words make megabytes, and three times as much text.
    if payload.len() > 1 << 16 {
        return;
    }
    let header = MessageHeader { csid: 3, timestamp: 0, len: 0, type_id, msid: 0 };
    let printed = notation::print_payload(&header, &payload);
    let (again, _) =
        notation::parse(&printed).unwrap_or_else(|error| panic!("{}", error.render("", &printed)));
    assert_eq!(Env::new(2).message(&again), Ok((type_id, payload)), "{printed}");
}

/// Any bytes as a capture: refused, or read with sums that agree with themselves; a client's side makes a scenario that the check takes.
///
/// # Panics
/// When that does not hold.
pub fn capture(bytes: &[u8]) {
    let input = Box::new(std::io::Cursor::new(bytes.to_vec()));
    let mut script = capture::script::Script::new(None, false);
    let found =
        capture::pcap::source(input).and_then(|source| capture::read_source(source, false, &mut script));
    let Ok(found) = found else { return };
    if let Some(text) = script.finish() {
        let known = Known { clauses: Clauses::built_in(), faults: &[] };
        if let Err(errors) = check::read("recorded", &text, known) {
            panic!("{}", errors[0].render("recorded.scn", &text));
        }
    }
    assert!((found.sessions.len() + found.other.len()) as u64 + found.omitted >= found.tcp_connections);
    for session in &found.sessions {
        for (direction, bytes, sha256) in
            [("c2s", session.bytes.c2s, &session.sha256.c2s), ("s2c", session.bytes.s2c, &session.sha256.s2c)]
        {
            let mut holes = 0;
            let mut next = 0;
            for hole in session.holes.iter().filter(|h| h.direction == direction) {
                assert!(hole.offset >= next, "holes in order and apart");
                next = hole.offset + hole.bytes;
                holes += 1;
            }
            assert!(next <= bytes, "holes inside the direction");
            assert!(sha256.is_none() || (holes == 0 && bytes > 0), "no digest across a hole");
            assert!(!session.complete || holes == 0, "not complete with a hole");
        }
    }
}
