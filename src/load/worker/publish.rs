//! The publisher's side: frames on their time, without a copy of what all publishers share.

use std::io::IoSlice;
use std::task::{Context, Poll};

use super::{Failure, Worker};
use crate::load::media::{Kind, Stamp};
use crate::load::stats::Metric;
use crate::wire::session::{Fields, Heads};

/// Payloads up to so many bytes are written out of one piece: putting it together costs less than handing over its parts.
const COPIED: usize = 16 << 10;

impl Worker {
    /// Sends the frames whose time has come, as long as the socket takes them.
    pub(super) fn publish(&mut self, cx: &mut Context<'_>, mut now: u64) -> Result<(), Failure> {
        let until = self.until();
        let burst = self.run().plan.burst.is_some();
        while self.out.is_empty() || burst && !self.blocked {
            let (kind, due) = self.due();
            if due > now || due >= until {
                break;
            }
            {
                // What the target's refusal to take bytes delayed is not our lateness.
                let mut stats = self.shard.stats.borrow_mut();
                stats.record_ns(Metric::Lag, due.max(self.unblocked), now);
                stats.counts.sent += 1;
            }
            self.frame(cx, kind, due, now)?;
            // What is sent at once was to be sent at once.
            now = if burst { now } else { self.now() };
        }
        self.flush(cx)
    }

    /// Sends the next frame of this kind.
    fn frame(&mut self, cx: &mut Context<'_>, kind: Kind, due: u64, now: u64) -> Result<(), Failure> {
        let seq = self.next[kind as usize];
        self.plan_next(kind, seq + 1);
        let shard = self.shard.clone();
        let (media, publisher) = (&shard.run.media, self.publisher.unwrap_or_default());
        let late_us = u32::try_from((now - due) / 1000).unwrap_or(u32::MAX);
        let stamp = Stamp { run: shard.run.id, publisher, seq, planned_ns: due, late_us };
        let (Some(frame), timestamp) = (media.frame(kind, seq), media.timestamp(kind, seq)) else {
            return Ok(());
        };
        for message in media.ahead(kind, seq) {
            self.session.send(message, Fields { timestamp: Some(timestamp), ..Fields::default() });
        }
        let mut heads = shard.heads.borrow_mut();
        heads.clear();
        let Heads { first, chunk_size } =
            self.session.head(&mut heads, kind.type_id(), timestamp, frame.len() as u32);
        let stamp = frame.stamp(&stamp);
        let stamp: &[u8] = stamp.as_ref().map_or(&[], |bytes| bytes);
        let payload = [&frame.before()[..], stamp, frame.after()];
        if frame.len() <= chunk_size.min(COPIED) {
            payload.iter().for_each(|part| heads.extend_from_slice(part));
            return self.write(cx, &[IoSlice::new(&heads)]);
        }
        let (first, other) = heads.split_at(first);
        if frame.len() <= chunk_size {
            let [before, stamp, after] = payload;
            self.write(cx, &[first, before, stamp, after].map(IoSlice::new))
        } else {
            self.write(cx, &chunked(first, other, chunk_size, payload))
        }
    }

    pub(super) fn plan_next(&mut self, kind: Kind, seq: u32) {
        let publisher = self.publisher.unwrap_or_default();
        self.next[kind as usize] = seq;
        self.due[kind as usize] = self.run().planned_ns(publisher, kind, seq);
    }

    /// Writes all of it; what is not taken at once, or is to go with what follows, is kept for later.
    fn write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Result<(), Failure> {
        let mut taken = 0;
        // What the session has to say comes first: the frame was counted behind it.
        self.hear();
        let burst = self.run().plan.burst.is_some();
        if let (true, Some(link)) = (self.out.is_empty() && !burst, &mut self.link) {
            match link.poll_write(cx, slices) {
                Poll::Ready(Ok(n)) => taken = n,
                Poll::Ready(Err(e)) => return self.fail(e.to_string()),
                Poll::Pending => {}
            }
        }
        self.shard.stats.borrow_mut().counts.bytes_sent += taken as u64;
        for slice in slices {
            let skipped = taken.min(slice.len());
            self.out.extend_from_slice(&slice[skipped..]);
            taken -= skipped;
        }
        // Sees to it that it is told when more can be written.
        if burst { Ok(()) } else { self.flush(cx) }
    }
}

/// A payload in chunks: `first` stands before the first one and `other` before each other.
fn chunked<'a>(
    first: &'a [u8],
    other: &'a [u8],
    chunk_size: usize,
    payload: [&'a [u8]; 3],
) -> Vec<IoSlice<'a>> {
    let mut slices = vec![IoSlice::new(first)];
    let mut room = chunk_size;
    for mut part in payload {
        while !part.is_empty() {
            if room == 0 {
                slices.push(IoSlice::new(other));
                room = chunk_size;
            }
            let piece;
            (piece, part) = part.split_at(part.len().min(room));
            room -= piece.len();
            slices.push(IoSlice::new(piece));
        }
    }
    slices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_cut_into_chunks_wherever_their_parts_end() {
        let whole: Vec<u8> = (0..40).collect();
        for chunk_size in 1..45 {
            for (one, two) in [(0, 0), (0, 10), (5, 10), (10, 40), (40, 40)] {
                let slices = chunked(
                    &[200],
                    &[201, 202],
                    chunk_size,
                    [&whole[..one], &whole[one..two], &whole[two..]],
                );
                let mut want = vec![200];
                for (i, chunk) in whole.chunks(chunk_size).enumerate() {
                    want.extend_from_slice(if i == 0 { &[] } else { &[201, 202] });
                    want.extend_from_slice(chunk);
                }
                let got: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
                assert_eq!(got, want, "{chunk_size} {one} {two}");
            }
        }
    }
}
