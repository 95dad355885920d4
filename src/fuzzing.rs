//! One function a fuzz target, for `fuzz/` and for tests on stable.

use crate::capture;
use crate::notation::{self, eval::Env};
use crate::scenario::check::{self, Known};
use crate::scenario::clauses::Clauses;
use crate::wire::amf0;
use crate::wire::chunk::{
    ChunkError, ChunkHeader, ChunkReader, Limits, MessageHeader, Misread, Quirks, ReadEvent, Type3Delta,
    Type3Ext,
};
use crate::wire::note::Note;

/// Any bytes as a chunk stream, behind two bytes that say how it is read and cut: [`chunks_alike`] holds, and the wrong ways of reading end.
///
/// # Panics
/// When that does not hold.
pub fn chunk_split(bytes: &[u8]) {
    let &[way, cut, ref stream @ ..] = bytes else { return };
    let small = Limits { open_messages: 5, held_bytes: 1000, message_len: 700, chunk_streams: 8 };
    let limits = if way & 0x10 != 0 { small } else { Limits::default() };
    if way & 0x80 != 0 {
        let misread = Some(Misread::ALL[usize::from(way & 0x7F) % Misread::ALL.len()]);
        chunk_events(stream, Quirks { misread, ..Quirks::default() }, limits, cuts(cut));
        return;
    }
    let type3_ext = [Type3Ext::Present, Type3Ext::Absent, Type3Ext::Peeked, Type3Ext::Peeked];
    let type3_after_type0 = if way & 4 != 0 { Type3Delta::Zero } else { Type3Delta::Timestamp };
    let quirks =
        Quirks { type3_ext: type3_ext[usize::from(way & 3)], type3_after_type0, ..Quirks::default() };
    chunks_alike(stream, quirks, limits, || cuts(cut));
}

/// What [`ChunkReader::read`] found, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// A chunk header.
    Chunk(ChunkHeader),
    /// A whole message.
    Message(MessageHeader, Vec<u8>),
    /// A departure.
    Note(Note),
    /// The end of what can be read.
    Error(ChunkError),
}

/// Lengths of pieces: `cut` 0 is byte by byte, else they are up to `cut` bytes long, empty ones among them.
pub fn cuts(cut: u8) -> impl Iterator<Item = usize> {
    let mut state = u32::from(cut);
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if cut == 0 { 1 } else { (state >> 16) as usize % (usize::from(cut) + 1) }
    })
}

/// The events are the same in one piece, cut as `cuts` says and byte by byte; the same without chunk headers; and skimmed it is the same payload.
///
/// # Panics
/// When that does not hold, and as [`chunk_events`].
pub fn chunks_alike<C: Iterator<Item = usize>>(
    stream: &[u8],
    quirks: Quirks,
    limits: Limits,
    cuts: impl Fn() -> C,
) -> Vec<Seen> {
    let whole = chunk_events(stream, quirks, limits, std::iter::repeat(stream.len().max(1)));
    for seen in &whole {
        // A wrong way of reading may lose payload; the right ones may not.
        assert!(
            !matches!(seen, Seen::Message(header, payload) if header.len as usize != payload.len()),
            "{seen:?}"
        );
    }
    assert_eq!(chunk_events(stream, quirks, limits, cuts()), whole);
    assert_eq!(chunk_events(stream, quirks, limits, std::iter::repeat(1)), whole);
    let mut reader = ChunkReader::new(limits, quirks, 0);
    let quiet = read_all(&mut reader, stream, limits, cuts());
    assert!(quiet.iter().eq(whole.iter().filter(|seen| !matches!(seen, Seen::Chunk(_)))));
    skim_alike(stream, quirks, limits, cuts(), &whole);
    whole
}

/// Every event of a chunk stream that comes in pieces of these lengths, chunk headers among them.
///
/// # Panics
/// When the reader holds more than it may, makes more events than bytes can, leaves bytes behind or forgets its error.
pub fn chunk_events(
    stream: &[u8],
    quirks: Quirks,
    limits: Limits,
    cuts: impl Iterator<Item = usize>,
) -> Vec<Seen> {
    let mut reader = ChunkReader::new(limits, quirks, 0);
    reader.report_chunks(true);
    read_all(&mut reader, stream, limits, cuts)
}

fn read_all(
    reader: &mut ChunkReader,
    stream: &[u8],
    limits: Limits,
    cuts: impl Iterator<Item = usize>,
) -> Vec<Seen> {
    let (mut seen, mut at) = (Vec::new(), 0);
    for cut in cuts {
        let end = stream.len().min(at + cut);
        loop {
            let mut rest = &stream[at..end];
            let event = match reader.read(&mut rest) {
                Ok(None) => break assert!(rest.is_empty(), "all is consumed when more is needed"),
                Ok(Some(ReadEvent::Chunk(header))) => Seen::Chunk(header),
                Ok(Some(ReadEvent::Message(header, payload))) => Seen::Message(header, payload.to_vec()),
                Ok(Some(ReadEvent::Note(note))) => Seen::Note(note),
                Err(error) => Seen::Error(error),
            };
            at = end - rest.len();
            bounded(reader, limits, end);
            seen.push(event);
            // A chunk: its header, a message and the few notes that one chunk can earn.
            assert!(seen.len() <= 10 * (end + 1), "events without end");
            if let Some(Seen::Error(error)) = seen.last() {
                assert_eq!(reader.read(&mut &stream[at..]).as_ref(), Err(error), "an error is for good");
                return seen;
            }
        }
        bounded(reader, limits, end);
        at = end;
        if at == stream.len() {
            break;
        }
    }
    seen
}

/// What is held is within the limits, and no more was allocated than what `came` accounts for.
fn bounded(reader: &ChunkReader, limits: Limits, came: usize) {
    assert!(reader.held_bytes() <= limits.held_bytes.min(came), "{} held", reader.held_bytes());
    let allocated = reader.allocated_bytes();
    assert!(allocated <= 2 * limits.held_bytes.min(came), "{allocated} allocated of {came}");
}

/// Skimming finds the messages that reading found, and its error. What is held unread counts for reading alone, so that its limit is too.
fn skim_alike(
    stream: &[u8],
    quirks: Quirks,
    limits: Limits,
    cuts: impl Iterator<Item = usize>,
    whole: &[Seen],
) {
    if matches!(whole.last(), Some(Seen::Error(error)) if error.to_string().contains("held bytes")) {
        return;
    }
    let expected = whole.iter().filter(|seen| matches!(seen, Seen::Message(..) | Seen::Error(_)));
    let mut reader = ChunkReader::new(limits, quirks, 0);
    let mut open = std::collections::HashMap::<u32, Vec<u8>>::new();
    let (mut seen, mut at) = (Vec::new(), 0);
    'pieces: for cut in cuts {
        let end = stream.len().min(at + cut);
        loop {
            let mut rest = &stream[at..end];
            match reader.skim(&mut rest) {
                Ok(None) => break assert!(rest.is_empty(), "all is consumed when more is needed"),
                Ok(Some(slice)) => {
                    let payload = open.entry(slice.header.csid).or_default();
                    payload.truncate(slice.at as usize); // a message that broke off leaves its bytes
                    assert_eq!(payload.len(), slice.at as usize, "slices follow one another");
                    payload.extend_from_slice(slice.bytes);
                    if slice.last {
                        seen.push(Seen::Message(slice.header, std::mem::take(payload)));
                    }
                    at = end - rest.len();
                }
                Err(error) => {
                    seen.push(Seen::Error(error));
                    break 'pieces;
                }
            }
            assert_eq!((reader.held_bytes(), reader.allocated_bytes()), (0, 0), "skimming holds nothing");
        }
        at = end;
        if at == stream.len() {
            break;
        }
    }
    assert!(seen.iter().eq(expected), "skimmed {seen:?} of {whole:?}");
}

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
