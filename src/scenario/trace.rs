//! What passed on a case's connections, as lines of a record.

use crate::net::conn::{Conn, Direction, Entry, How, Seen};
use crate::notation::print;
use crate::record::TraceLine;
use crate::wire::chunk::Fmt;

/// Lines before the deciding entry, and after it.
const BEFORE: usize = 40;
const AFTER: usize = 10;
/// Writes made by hand, of each connection, that are told in any case.
const WRITES: usize = 16;
/// Bytes that a line shows.
const HEX: usize = 48;

/// One entry in the notation.
pub(super) fn text(entry: &Entry) -> String {
    match &entry.seen {
        Seen::Version(n) => format!("{} {n}", handshake(entry, 0)),
        Seen::Hello(block) | Seen::Answer(block) => {
            let which = if matches!(entry.seen, Seen::Hello(_)) { 1 } else { 2 };
            format!(
                "{} time={:#010x} zero={:#010x}",
                handshake(entry, which),
                block.time(),
                block.second_word()
            )
        }
        Seen::Chunk(header) => print::print_chunk(header),
        Seen::Message(header, payload) => print::brief_payload(header, payload),
        Seen::Note(note) => note.to_string(),
        Seen::Bytes(bytes) => format!("bytes {}", print::hex(&bytes[..bytes.len().min(HEX)])),
        Seen::Write(len, head) => {
            let shown = &head[..head.len().min(HEX)];
            let more = if shown.len() < *len { "…" } else { "" };
            format!("{}{len} bytes: {}{more}", TraceLine::WRITE, print::hex(shown))
        }
        Seen::Reached(goal) => format!("reached {}", super::ground::goal_name(*goal)),
        Seen::Refused(refusal) => format!("refused: {refusal}"),
        Seen::Broken(error) => format!("unreadable: {error}"),
        Seen::Closed(How::Fin) => "closed by fin".into(),
        Seen::Closed(How::Rst) => "closed by rst".into(),
        Seen::Stuck => "stuck".into(),
        Seen::Full => "our log is full, nothing more is read".into(),
    }
}

fn handshake(entry: &Entry, which: u8) -> String {
    let side = if entry.direction == Direction::Sent { 'C' } else { 'S' };
    format!("{side}{which}")
}

/// What passed around the entry of this order, over all connections.
pub(super) fn around(conns: &[(String, Conn)], order: u64) -> Vec<TraceLine> {
    // Of each connection no more than that is told of all.
    let mut all: Vec<(u64, TraceLine)> = Vec::new();
    for (name, conn) in conns {
        conn.log(|log| {
            let decided = log.partition_point(|e| e.order <= order);
            let told = |e: &&Entry| is_told(e);
            let (before, after) = log.split_at(decided);
            // What was written by hand is what most cases are about: it is told however long ago it was.
            let written = before.iter().rev().filter(|e| matches!(e.seen, Seen::Write(..))).take(WRITES);
            all.extend(written.map(|e| (e.order, line(name, e))));
            let before = before.iter().rev().filter(told).take(BEFORE);
            let after = after.iter().filter(told).take(AFTER);
            all.extend(before.chain(after).map(|e| (e.order, line(name, e))));
        });
    }
    all.sort_by_key(|(order, _)| *order);
    let decided = all.partition_point(|(at, _)| *at <= order);
    let from = decided.saturating_sub(BEFORE);
    let to = (decided + AFTER).min(all.len());
    let told = |(i, (_, line)): (usize, (u64, TraceLine))| {
        ((from..to).contains(&i) || line.is_write()).then_some(line)
    };
    all.into_iter().enumerate().filter_map(told).collect()
}

/// Continuations go without saying.
fn is_told(entry: &Entry) -> bool {
    !matches!(&entry.seen, Seen::Chunk(header) if !header.first && header.fmt == Fmt::Type3)
        && !matches!(&entry.seen, Seen::Write(..))
}

fn line(name: &str, entry: &Entry) -> TraceLine {
    let hex = match &entry.seen {
        Seen::Message(_, payload) if !payload.is_empty() => {
            Some(print::hex(&payload[..payload.len().min(HEX)]))
        }
        _ => None,
    };
    let direction = match (&entry.seen, entry.direction) {
        (Seen::Reached(_) | Seen::Stuck | Seen::Full, _) => '-',
        (_, Direction::Sent) => '>',
        (_, Direction::Received) => '<',
    };
    TraceLine { at_us: entry.at.as_micros(), conn: name.to_owned(), direction, text: text(entry), hex }
}
