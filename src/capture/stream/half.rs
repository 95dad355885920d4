//! One direction of a connection: its bytes in order, those that wait, and what is missing between.

use std::collections::BTreeMap;

use super::{Cause, HISTORY, MAX_ACKED_AHEAD, MAX_AHEAD, MAX_HELD_PER_DIRECTION, MAX_PIECES, PIECE, SETTLE};
use crate::capture::frame::Segment;
use crate::wire::time::Time;

/// What a direction hands on.
pub(super) enum Out<'a> {
    Data { time: Time, offset: u64, bytes: &'a [u8] },
    Hole { time: Time, offset: u64, bytes: u64, cause: Cause },
}

/// A segment that waits for the start of its direction to be known.
pub(super) struct Waiting {
    pub(super) seq: u32,
    pub(super) bytes: Vec<u8>,
    pub(super) len: usize,
    pub(super) time: Time,
}

/// One direction. Places are 64-bit offsets from its first byte; sequence numbers wrap, places do not.
#[derive(Default)]
pub(super) struct Half {
    /// The sequence number of place 0.
    pub(super) base: Option<u32>,
    /// Whether `base` comes from a SYN or its acknowledgement.
    pub(super) began: bool,
    /// All before it was handed on.
    pub(super) next: u64,
    /// Bytes that came behind a gap, by place; they do not overlap.
    pub(super) pending: BTreeMap<u64, (Time, Vec<u8>)>,
    /// Ranges that the capture cut off packets behind a gap: start, end and time.
    pub(super) cuts: BTreeMap<u64, (u64, Time)>,
    pub(super) waiting: Vec<Waiting>,
    /// What `pending`, `cuts` and `waiting` count for, in bytes.
    pub(super) held: usize,
    /// The sequence number of FIN.
    pub(super) fin: Option<u32>,
    /// The highest place that the peer acknowledged.
    pub(super) acked: u64,
    /// One too far ahead to be believed alone.
    pub(super) far_ack: Option<u64>,
    /// The peer acknowledged something before the start was known.
    pub(super) spoken_of: bool,
    pub(super) history: Vec<u8>,
}

impl Half {
    /// The place of a sequence number: the one nearest to what comes next.
    pub(super) fn place(&self, seq: u32) -> i64 {
        let next = self.base.unwrap_or(seq).wrapping_add(self.next as u32);
        self.next as i64 + i64::from(seq.wrapping_sub(next).cast_signed())
    }

    /// Whether a sequence number is further from what comes next than anything is held for.
    pub(super) fn is_far(&self, seq: u32) -> bool {
        self.base.is_some()
            && (self.place(seq) - self.next as i64).unsigned_abs() > MAX_HELD_PER_DIRECTION as u64
    }

    /// Whether this may be the first byte: a SYN that comes late in an unsorted file lies a little before the start that was guessed.
    pub(super) fn may_begin(&self, first: u32) -> bool {
        self.base.is_none_or(|base| base.wrapping_sub(first) <= SETTLE as u32)
    }

    /// An acknowledgement far ahead of all that is known counts once a later one is near it and ahead of it.
    pub(super) fn acked(&mut self, ack: u32) {
        let place = u64::try_from(self.place(ack)).unwrap_or(0);
        let is_near = |of: u64| place <= of.saturating_add(MAX_ACKED_AHEAD);
        if self.base.is_none() {
            return;
        }
        if is_near(self.seen().max(self.acked)) || self.far_ack.is_some_and(|far| far < place && is_near(far))
        {
            self.acked = self.acked.max(place);
        } else {
            self.far_ack = Some(place);
        }
    }

    /// The place behind all that came, FIN included.
    pub(super) fn seen(&self) -> u64 {
        let waits = self.pending.last_key_value().map(|(start, (_, bytes))| start + bytes.len() as u64);
        let cut = self.cuts.last_key_value().map(|(_, (end, _))| *end);
        self.next.max(waits.unwrap_or(0)).max(cut.unwrap_or(0)) + u64::from(self.fin.is_some())
    }

    /// Whether an acknowledgement speaks of bytes that did not come yet; FIN counts as one.
    pub(super) fn is_ahead(&mut self, ack: u32) -> bool {
        self.spoken_of |= self.base.is_none();
        self.base.is_some() && self.place(ack) > self.seen() as i64
    }

    pub(super) fn wait(&mut self, seq: u32, s: &Segment<'_>) -> usize {
        let cost = s.payload.len() + PIECE;
        self.waiting.push(Waiting { seq, bytes: s.payload.to_vec(), len: s.len, time: s.time });
        self.held += cost;
        cost
    }

    pub(super) fn lowest_waiting(&self) -> Option<u32> {
        let any = self.waiting.first()?.seq;
        self.waiting.iter().map(|w| w.seq).min_by_key(|seq| seq.wrapping_sub(any).cast_signed())
    }

    /// Takes bytes at a place; `len` is more than there are where the capture cut the packet. The place of a conflict, if there is one.
    pub(super) fn insert(
        &mut self,
        place: i64,
        bytes: &[u8],
        len: usize,
        time: Time,
        room: usize,
        out: &mut dyn FnMut(Out<'_>),
    ) -> Option<u64> {
        let end = u64::try_from(place + len as i64).ok()?;
        let before = (self.next as i64 - place).max(0) as usize;
        // rfc 9293 3.8.4: a keep-alive repeats the byte before the next, with any value.
        let conflict =
            if before == len && len == 1 { None } else { self.conflict_with_history(place, bytes) };
        if end <= self.next {
            return conflict;
        }
        let bytes = &bytes[before.min(bytes.len())..];
        let start = (place.max(0) as u64).max(self.next);
        let cut_from = start + bytes.len() as u64;
        if start == self.next && self.pending.is_empty() && self.cuts.is_empty() {
            self.deliver(time, bytes, out);
            if cut_from < end {
                self.give_up(end, Cause::Snaplen, time, out);
            }
            return conflict;
        }
        let conflict = self.hold(start, bytes, time).or(conflict);
        if cut_from < end {
            let cut = self.cuts.entry(cut_from).or_insert_with(|| {
                self.held += PIECE;
                (end, time)
            });
            cut.0 = cut.0.max(end);
        }
        self.drain(room, MAX_PIECES, out);
        conflict
    }

    /// Where bytes that came again differ from those handed on, as far as these are kept.
    pub(super) fn conflict_with_history(&self, place: i64, bytes: &[u8]) -> Option<u64> {
        let kept_from = self.next as i64 - self.history.len() as i64;
        let from = place.max(kept_from);
        let to = (place + bytes.len() as i64).min(self.next as i64);
        if from >= to {
            return None;
        }
        let old = &self.history[(from - kept_from) as usize..(to - kept_from) as usize];
        let new = &bytes[(from - place) as usize..(to - place) as usize];
        old.iter().zip(new).position(|(a, b)| a != b).map(|at| from as u64 + at as u64)
    }

    /// Keeps what is new of bytes behind a gap. The place of a conflict, if there is one.
    pub(super) fn hold(&mut self, start: u64, bytes: &[u8], time: Time) -> Option<u64> {
        let stop = start + bytes.len() as u64;
        let mut conflict = None;
        let mut at = start;
        while at < stop {
            let rest = &bytes[(at - start) as usize..];
            let covering = self.pending.range(..=at).next_back().map(|(s, (_, b))| (*s, b));
            if let Some((s, old)) = covering.filter(|(s, b)| s + b.len() as u64 > at) {
                let old = &old[(at - s) as usize..];
                let differs = old.iter().zip(rest).position(|(a, b)| a != b);
                conflict = conflict.or(differs.map(|d| at + d as u64));
                at += old.len() as u64;
                continue;
            }
            let free = self.pending.range(at..).next().map_or(stop, |(s, _)| (*s).min(stop));
            let new = rest[..(free - at) as usize].to_vec();
            self.held += new.len() + PIECE;
            self.pending.insert(at, (time, new));
            at = free;
        }
        conflict
    }

    /// Hands on what is in order; gives up the first gap as long as more waits than `room` bytes or `pieces` pieces.
    pub(super) fn drain(&mut self, room: usize, pieces: usize, out: &mut dyn FnMut(Out<'_>)) {
        loop {
            let first = self.pending.first_key_value().map(|(s, _)| *s);
            if first.is_some_and(|s| s <= self.next) {
                if let Some((start, (time, bytes))) = self.pending.pop_first() {
                    self.held -= bytes.len() + PIECE;
                    self.deliver(time, &bytes[((self.next - start) as usize).min(bytes.len())..], out);
                }
                continue;
            }
            let cut = self.cuts.first_key_value().map(|(s, (e, t))| (*s, *e, *t));
            match cut {
                Some((_, end, _)) if end <= self.next => {
                    self.cuts.pop_first();
                    self.held -= PIECE;
                }
                Some((start, end, time)) if start <= self.next => {
                    self.give_up(first.map_or(end, |f| f.min(end)), Cause::Snaplen, time, out);
                }
                _ => {
                    let after = first.into_iter().chain(cut.map(|(s, ..)| s)).min();
                    let Some(after) = after else { return };
                    if self.held <= room && self.pending.len() + self.cuts.len() <= pieces {
                        return;
                    }
                    let time = self.pending.first_key_value().map(|(_, (t, _))| *t).or(cut.map(|(.., t)| t));
                    self.give_up(after, Cause::CaptureDrop, time.unwrap_or_default(), out);
                }
            }
        }
    }

    pub(super) fn deliver(&mut self, time: Time, bytes: &[u8], out: &mut dyn FnMut(Out<'_>)) {
        if bytes.is_empty() {
            return;
        }
        out(Out::Data { time, offset: self.next, bytes });
        self.next += bytes.len() as u64;
        let kept = &bytes[bytes.len().saturating_sub(HISTORY)..];
        if self.history.len() + kept.len() > 2 * HISTORY {
            self.history.drain(..(self.history.len() + kept.len() - HISTORY).min(self.history.len()));
        }
        self.history.extend_from_slice(kept);
    }

    /// Keeps the last `most` bytes of it, and no more room.
    pub(super) fn keep_history(&mut self, most: usize) {
        self.history.drain(..self.history.len().saturating_sub(most));
        self.history.shrink_to_fit();
    }

    /// Declares all up to `end` missing.
    pub(super) fn give_up(&mut self, end: u64, cause: Cause, time: Time, out: &mut dyn FnMut(Out<'_>)) {
        out(Out::Hole { time, offset: self.next, bytes: end - self.next, cause });
        self.next = end;
        self.history.clear();
    }

    /// Hands on all that waits; what the peer acknowledged or FIN stands behind, and is not there, is a hole too.
    pub(super) fn end(&mut self, time: Time, out: &mut dyn FnMut(Out<'_>)) {
        self.drain(0, 0, out);
        if self.base.is_none() {
            return;
        }
        let fin = self.fin.map(|seq| self.place(seq).max(0) as u64);
        // Without FIN the last acknowledged number may be that of a FIN which was not captured.
        let end = fin.unwrap_or(self.acked.saturating_sub(1));
        if end > self.next && end - self.next <= MAX_AHEAD {
            self.give_up(end, Cause::CaptureDrop, time, out);
        }
        (self.history, self.held) = (Vec::new(), 0);
    }
}
