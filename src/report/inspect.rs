//! What a capture holds, as text.

use std::fmt::Write;
use std::io;

use super::count;
use crate::record::inspect::{Both, Media, Note, Session, Spooled, Track};

/// The whole result; `file` is its name.
///
/// # Errors
/// When it cannot be written, or a session not be read back.
pub fn text(out: &mut dyn io::Write, file: &str, found: &Spooled) -> io::Result<()> {
    out.write_all(head(file, found).as_bytes())?;
    for s in found.sessions.iter() {
        let mut t = String::from('\n');
        session(&mut t, &s?);
        out.write_all(t.as_bytes())?;
    }
    if !found.other.is_empty() {
        writeln!(out, "\nnot RTMP sessions")?;
    }
    for o in found.other.iter() {
        let o = o?;
        let (what, bytes) = (plain(&o.what), o.bytes);
        writeln!(out, "  {} {}: {what} (c2s {}, s2c {} bytes)", o.stream, o.key, bytes.c2s, bytes.s2c)?;
    }
    if found.omitted > 0 {
        writeln!(out, "\nleft out of these lists: {} entries", found.omitted)?;
    }
    if let Some(damage) = &found.damage {
        writeln!(out, "\nthe file is damaged {}; what stands before it is shown", plain(damage))?;
    }
    Ok(())
}

fn head(file: &str, found: &Spooled) -> String {
    let mut t = String::new();
    let _ = write!(t, "{file}: {}", found.format);
    if found.format != "raw" {
        let _ = write!(
            t,
            ", {}, {}",
            count(found.packets, "packet"),
            count(found.tcp_connections, "TCP connection")
        );
    }
    let _ = writeln!(t, ", {}", count(found.sessions.len() as u64, "RTMP session"));
    if found.dropped_packets > 0 {
        let _ = writeln!(t, "the capturing program dropped {}", count(found.dropped_packets, "packet"));
    }
    for (what, n) in &found.passed_over {
        let _ = writeln!(t, "passed over: {} ({what})", count(*n, "packet"));
    }
    for comment in &found.comments {
        let _ = writeln!(t, "comment: {}", plain(comment));
    }
    t
}

fn session(t: &mut String, s: &Session) {
    let _ = writeln!(
        t,
        "{} {} {} {}",
        s.stream,
        s.key,
        s.role,
        plain(s.url.as_deref().unwrap_or("(no connect)"))
    );
    let state = if s.complete { "complete" } else { "not complete" };
    let _ = writeln!(t, "  {}.{:03} s, {state}, end: {}", s.duration_ms / 1000, s.duration_ms % 1000, s.end);
    for d in ["c2s", "s2c"] {
        let sha = of(&s.sha256, d).as_deref().unwrap_or("-");
        let _ = writeln!(t, "  {d} {} bytes, sha256 {sha}", of(&s.bytes, d));
        let messages =
            of(&s.messages, d).iter().map(|(id, n)| format!("{} {n}", type_name(*id))).collect::<Vec<_>>();
        list(t, "messages", &messages);
        list(t, "chunk sizes", &of(&s.chunk_sizes, d).iter().map(u32::to_string).collect::<Vec<_>>());
        list(t, "commands", &of(&s.commands, d).iter().map(|c| plain(c)).collect::<Vec<_>>());
        if let Some(m) = s.media.get(d) {
            media(t, m);
        }
    }
    for h in s.holes.iter().take(SHOWN_HOLES) {
        let _ = writeln!(t, "  hole: {} at {}: {} bytes ({})", h.direction, h.offset, h.bytes, h.cause);
    }
    if s.omitted > 0 {
        let _ = writeln!(t, "  left out of these lists: {} entries", s.omitted);
    }
    if let Some(more) = s.holes.get(SHOWN_HOLES..).filter(|more| !more.is_empty()) {
        let bytes: u64 = more.iter().map(|h| h.bytes).sum();
        let _ = writeln!(t, "  and {}, {bytes} bytes", count(more.len() as u64, "more hole"));
    }
    s.notes.iter().for_each(|n| note(t, n));
}

fn note(t: &mut String, n: &Note) {
    let level = n.level.as_ref().map(|level| format!(" {level}")).unwrap_or_default();
    let clause = n.clause.as_ref().map(|clause| format!(" [{clause}{level}]")).unwrap_or_default();
    let seen = n.seen.as_ref().map(|seen| format!("seen \"{}\", ", plain(seen))).unwrap_or_default();
    // Some are read as numbers, some as bytes.
    let value = if n.value < 10 { n.value.to_string() } else { format!("{0} = {0:#x}", n.value) };
    let first = n.time_us.map(|us| format!(", first at {}.{:06} s", us / 1_000_000, us % 1_000_000));
    let _ = writeln!(
        t,
        "  note: {} at {} {}{clause}: {} ({seen}value {value}, {}{})",
        n.direction,
        n.offset,
        n.note,
        plain(&n.text),
        count(n.count, "time"),
        first.unwrap_or_default()
    );
}

fn media(t: &mut String, m: &Media) {
    let track = |track: &Track| {
        let codecs = track
            .codecs
            .iter()
            .map(|(name, n)| format!("{} {n}", plain(name)))
            .collect::<Vec<_>>()
            .join(", ");
        let keys = track.key_frames.map(|n| format!(" ({n} key)")).unwrap_or_default();
        let rate = track.bitrate_bps.map(|b| format!(", {} kbit/s", b / 1000)).unwrap_or_default();
        let span = format!("{}..{} ms", track.first_ms, track.last_ms);
        format!(
            "{codecs}; {}{keys}, {}, {span}{rate}",
            count(track.frames, "frame"),
            count(track.headers, "other message")
        )
    };
    for (name, t_) in [("audio", &m.audio), ("video", &m.video)] {
        if let Some(t_) = t_ {
            let _ = writeln!(t, "      {name}: {}", track(t_));
        }
    }
    if let Some((least, most)) = m.skew_ms {
        let _ = writeln!(t, "      video before the audio that came last: {least} to {most} ms");
    }
}

fn of<'a, T>(both: &'a Both<T>, direction: &str) -> &'a T {
    if direction == "c2s" { &both.c2s } else { &both.s2c }
}

/// What a terminal can take of a list; the record has all of it.
const SHOWN: usize = 40;
const SHOWN_HOLES: usize = 8;

fn list(t: &mut String, what: &str, items: &[String]) {
    if items.is_empty() {
        return;
    }
    let more =
        if items.len() > SHOWN { format!(", and {} more", items.len() - SHOWN) } else { String::new() };
    let _ = writeln!(t, "      {what}: {}{more}", items[..items.len().min(SHOWN)].join(", "));
}

/// Text from a peer without what a terminal would obey.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}

/// The name of a message type, as the specification has it.
pub(super) fn type_name(id: u8) -> String {
    match id {
        1 => "SetChunkSize",
        2 => "Abort",
        3 => "Acknowledgement",
        4 => "UserControl",
        5 => "WindowAckSize",
        6 => "SetPeerBandwidth",
        8 => "audio",
        9 => "video",
        15 => "data (AMF3)",
        16 => "shared object (AMF3)",
        17 => "command (AMF3)",
        18 => "data",
        19 => "shared object",
        20 => "command",
        22 => "aggregate",
        other => return format!("type {other}"),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_that_end_early_say_so() {
        let text = |omitted| {
            let mut t = String::new();
            session(&mut t, &Session { omitted, ..Session::default() });
            t
        };
        assert!(text(2).contains("\n  left out of these lists: 2 entries\n"), "{}", text(2));
        assert!(!text(0).contains("left out"));
    }
}
