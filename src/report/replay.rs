//! What `replay` did, as text.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::count;
use super::inspect::{plain, type_name};
use crate::record::Record;
use crate::record::replay::{Departure, End, Session, Verify};

/// Differences shown of a session; the record has all of them.
const SHOWN: usize = 20;
/// Sessions shown; of more, those first that found something.
const SHOWN_SESSIONS: usize = 50;

/// The whole result; empty when the record is of another verb.
pub fn text(record: &Record) -> String {
    let mut t = String::new();
    let Some(replay) = &record.replay else { return t };
    let url = record.target.as_ref().map_or("", |target| target.url.as_str());
    let _ = write!(t, "{} to {url}, pace {}", replay.capture, replay.pace);
    if replay.loops > 1 {
        let _ = write!(t, ", media {} times", replay.loops);
    }
    if replay.copies > 1 {
        let _ = write!(t, ", {} copies", replay.copies);
    }
    t.push('\n');
    let mut sessions: Vec<&Session> = replay.sessions.iter().collect();
    sessions.sort_by_key(|s| !s.is_found());
    for s in sessions.iter().take(SHOWN_SESSIONS) {
        t.push('\n');
        session(&mut t, s, replay.copies > 1);
    }
    if sessions.len() > SHOWN_SESSIONS {
        let _ = writeln!(t, "\nand {}", count((sessions.len() - SHOWN_SESSIONS) as u64, "more session"));
    }
    let found = sessions.iter().filter(|s| s.is_found()).count();
    let differ = sessions.iter().filter(|s| !s.departures.is_empty()).count();
    let _ = writeln!(
        t,
        "\n{}: {found} failed, {differ} answered otherwise than recorded",
        count(sessions.len() as u64, "session")
    );
    t
}

fn session(t: &mut String, s: &Session, copies: bool) {
    let copy = if copies { format!(" copy {}", s.copy) } else { String::new() };
    let names = s.names.iter().map(|n| plain(&n.target)).collect::<Vec<_>>().join(", ");
    let _ = writeln!(t, "{}{copy} {} {names}: {}", s.key, s.role, end(s));
    let _ = writeln!(t, "  sent      {}", traffic(&s.sent.messages, s.sent.frames, s.sent.bytes));
    let _ = writeln!(t, "  received  {}", traffic(&s.received.messages, s.received.frames, s.received.bytes));
    let streams = s.streams.iter().map(|m| format!("stream {} is {}", m.recorded, m.target));
    let calls = s.calls.iter().map(|m| format!("call {} is {}", m.recorded, m.target));
    let mapped: Vec<String> = streams.chain(calls).take(SHOWN).collect();
    if !mapped.is_empty() {
        let _ = writeln!(t, "  mapped    {}", mapped.join(", "));
    }
    for d in s.departures.iter().take(SHOWN) {
        let _ = writeln!(t, "  {:<9} {}", d.kind, difference(d));
    }
    let more = s.departures.len().saturating_sub(SHOWN) as u64 + s.more_departures;
    if more > 0 {
        let _ = writeln!(t, "  and {}", count(more, "more difference"));
    }
    for note in &s.notes {
        let _ = writeln!(t, "  note      {}", plain(note));
    }
    for v in &s.verify {
        verified(t, v);
    }
}

fn verified(t: &mut String, v: &Verify) {
    let (name, came) = (plain(&v.name), format!("{} of {}", v.came, count(v.sent, "frame")));
    let why = plain(v.why.as_deref().unwrap_or_default());
    let _ = match v.held {
        Some(true) => writeln!(t, "  verified  {name}: {came}, each once, in order, unchanged"),
        Some(false) if v.differences.is_empty() => writeln!(t, "  NO PLAYER {name}: {why}"),
        Some(false) => writeln!(t, "  DIFFERS   {name}: {came} came; {why}"),
        None => writeln!(t, "  unchecked {name}: {why}"),
    };
}

fn end(s: &Session) -> String {
    let word = match s.end {
        End::Waiting => "did not begin",
        End::Done => "done",
        End::Refused => "REFUSED",
        End::Closed => "CLOSED",
        End::Unreachable => "UNREACHABLE",
        End::Late => "OUT OF TIME",
        End::Interrupted => "interrupted",
    };
    match &s.why {
        Some(why) => format!("{word}, {}", plain(why)),
        None => word.into(),
    }
}

fn traffic(messages: &BTreeMap<u8, u64>, frames: u64, bytes: u64) -> String {
    let types = messages.iter().map(|(id, n)| format!("{} {n}", type_name(*id))).collect::<Vec<_>>();
    let total = messages.values().sum();
    format!("{} ({}), {}, {bytes} bytes", count(total, "message"), types.join(", "), count(frames, "frame"))
}

fn difference(d: &Departure) -> String {
    let about = plain(&d.about);
    match (&d.recorded, &d.came) {
        (Some(recorded), Some(came)) => format!("{about}: {}; recorded: {}", plain(came), plain(recorded)),
        (Some(recorded), None) => format!("{about}: {}", plain(recorded)),
        (None, Some(came)) => format!("{about}: {}", plain(came)),
        (None, None) => about,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::replay::{Difference, Mapped, Replay, Traffic};
    use crate::record::{Host, Outcome, Target, Tool};

    #[test]
    fn what_is_shown() {
        let traffic = |n| Traffic { messages: [(20, n), (9, 3)].into(), frames: 2, bytes: 500 };
        let departure = Departure {
            kind: "changed".into(),
            about: "call(2)".into(),
            recorded: Some("_result".into()),
            came: Some("_error \u{1b}[1m".into()),
        };
        let verify = |held, why: Option<&str>, differences| Verify {
            name: "cam".into(),
            held,
            sent: 2,
            came: 1,
            why: why.map(str::to_owned),
            differences,
        };
        let session = Session {
            key: "a->b".into(),
            copy: 1,
            role: "publish".into(),
            names: vec![Mapped { recorded: "cam".into(), target: "cam".into() }],
            end: End::Refused,
            why: Some("publish was refused: NetStream.Publish.BadName".into()),
            sent: traffic(5),
            received: traffic(1),
            streams: vec![Mapped { recorded: 1, target: 7 }],
            departures: vec![departure],
            notes: vec!["not sent again: 2 acknowledgements".into()],
            verify: vec![
                verify(Some(true), None, vec![]),
                verify(Some(false), Some("audio frame 2 of 2: came twice"), vec![Difference::default()]),
                verify(Some(false), Some("the player was refused"), vec![]),
                verify(None, Some("nothing was published"), vec![]),
            ],
            ..Session::default()
        };
        let replay = Replay {
            capture: "x.pcap".into(),
            pace: "asap".into(),
            loops: 2,
            copies: 3,
            sessions: vec![session],
            ..Replay::default()
        };
        let record = Record {
            schema: String::new(),
            tool: Tool::default(),
            verb: "replay".into(),
            args: Vec::new(),
            seed: None,
            started_at: String::new(),
            duration_ms: 0,
            host: Host::default(),
            target: Some(Target { url: "rtmp://h/live".into(), ..Target::default() }),
            outcome: Outcome::Found,
            why: None,
            test: None,
            inspect: None,
            load: None,
            replay: Some(replay),
        };
        let want = "\
x.pcap to rtmp://h/live, pace asap, media 2 times, 3 copies

a->b copy 1 publish cam: REFUSED, publish was refused: NetStream.Publish.BadName
  sent      8 messages (video 3, command 5), 2 frames, 500 bytes
  received  4 messages (video 3, command 1), 2 frames, 500 bytes
  mapped    stream 1 is 7
  changed   call(2): _error \\u{1b}[1m; recorded: _result
  note      not sent again: 2 acknowledgements
  verified  cam: 1 of 2 frames, each once, in order, unchanged
  DIFFERS   cam: 1 of 2 frames came; audio frame 2 of 2: came twice
  NO PLAYER cam: the player was refused
  unchecked cam: nothing was published

1 session: 1 failed, 1 answered otherwise than recorded
";
        assert_eq!(text(&record), want);
    }
}
