//! The frames of a shard's publishers, each made and written when it is due.
//!
//! What frames need of their publisher lies together, apart from the rest of its session, and is fetched for all that are due before the first of them writes:
//! one wait for memory in place of many, for what the kernel does for a write leaves little of ours in the caches.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hint::black_box;
use std::io::{self, IoSlice};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::task::Waker;

use nix::errno::Errno;

use super::Run;
use super::link::write;
use super::media::{Kind, Stamp};
use super::shard::Shard;
use super::stats::Metric;
use crate::wire::session::{Heads, MediaWriter};

/// Payloads up to so many bytes are written out of one piece: putting it together costs less than handing over its parts.
const COPIED: usize = 16 << 10;
/// Publishers that write before others have their turn.
const TURN: usize = 256;
/// Frames that fall due between two instants so far apart are sent at the second, in nanoseconds.
const GRID_NS: u64 = 600_000;

/// Outlets and when they are due.
#[derive(Debug, Default)]
pub struct Pump {
    outlets: Vec<Option<Outlet>>,
    /// Places of those that were closed.
    free: Vec<u32>,
    wanted: BinaryHeap<Reverse<(u64, u32)>>,
    /// Places of those whose turn it is.
    due: Vec<u32>,
    buffer: Vec<u8>,
}

/// Whose frames they are, and how they go out.
#[derive(Debug)]
pub struct Source {
    pub publisher: u32,
    pub writer: MediaWriter,
    /// Where they can be written past the session; otherwise it writes them.
    pub fd: Option<RawFd>,
    /// When the session ends, if the run does not before.
    pub end: u64,
    /// The session has something to write first.
    pub held: bool,
    /// Whom to wake for what was not taken.
    pub session: Waker,
}

/// What one publisher sends.
#[derive(Debug)]
struct Outlet {
    source: Source,
    /// The next frame of each kind, and when it is due.
    next: [u32; 2],
    due: [u64; 2],
    /// When it is wanted.
    armed: u64,
    /// When the socket took all again.
    unblocked: u64,
    /// What was not taken, and why.
    left: Vec<u8>,
    failed: Option<io::Error>,
}

/// A session's hold on its outlet, which closes with it.
pub struct Tap {
    shard: Rc<Shard>,
    place: u32,
}

impl Tap {
    /// Sends its frames from here on.
    pub fn open(shard: &Rc<Shard>, source: Source) -> Tap {
        let outlet = Outlet::new(&shard.run, source);
        let mut pump = shard.pump.borrow_mut();
        let place = pump.free.pop().unwrap_or_else(|| {
            pump.outlets.push(None);
            pump.outlets.len() as u32 - 1
        });
        pump.outlets[place as usize] = Some(outlet);
        let tap = Tap { shard: shard.clone(), place };
        tap.arm(&mut pump);
        tap
    }

    /// Moves what was not taken behind what is in `out`.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn left(&self, out: &mut Vec<u8>) -> io::Result<()> {
        self.with(|outlet| {
            out.append(&mut outlet.left);
            outlet.left = Vec::new();
            outlet.failed.take().map_or(Ok(()), Err)
        })
    }

    /// What the session has to write comes first.
    pub fn hold(&self) {
        self.with(|outlet| outlet.source.held = true);
    }

    /// The session has written all; what it was hindered from before `unblocked` is not our lateness.
    pub fn release(&self, unblocked: u64) {
        self.with(|outlet| (outlet.source.held, outlet.unblocked) = (false, unblocked));
        self.arm(&mut self.shard.pump.borrow_mut());
    }

    /// When the next frame is due.
    pub fn due(&self) -> u64 {
        self.with(|outlet| outlet.first().1)
    }

    fn with<T>(&self, f: impl FnOnce(&mut Outlet) -> T) -> T {
        let mut pump = self.shard.pump.borrow_mut();
        f(pump.outlets[self.place as usize].as_mut().expect("it is open"))
    }

    fn arm(&self, pump: &mut Pump) {
        let Some(outlet) = pump.outlets[self.place as usize].as_mut().filter(|outlet| !outlet.source.held)
        else {
            return;
        };
        let due = outlet.first().1;
        if due < outlet.until(&self.shard.run) && due != outlet.armed {
            outlet.armed = due;
            pump.wanted.push(Reverse((due, self.place)));
            self.shard.wheel.hurry(on_grid(&self.shard.run, due));
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let mut pump = self.shard.pump.borrow_mut();
        pump.outlets[self.place as usize] = None;
        pump.free.push(self.place);
    }
}

impl Pump {
    /// Sends what is due by now; when it is to be called next.
    pub fn turn(&mut self, shard: &Shard, now: u64) -> u64 {
        let Pump { outlets, wanted, due, buffer, .. } = self;
        due.clear();
        while due.len() < TURN
            && let Some(Reverse((_, place))) = wanted.peek().filter(|Reverse((at, _))| *at <= now)
        {
            due.push(*place);
            wanted.pop();
        }
        let open = |place: &u32| outlets[*place as usize].as_ref();
        black_box(due.iter().filter_map(open).map(Outlet::touch).fold(0, u64::wrapping_add));
        for place in due {
            let Some(outlet) = &mut outlets[*place as usize] else { continue };
            if let Some(next) = outlet.send(shard, now, buffer) {
                wanted.push(Reverse((next, *place)));
            }
        }
        wanted.peek().map_or(u64::MAX, |Reverse((next, _))| on_grid(&shard.run, *next))
    }
}

/// The next instant at which frames are sent.
fn on_grid(run: &Run, at: u64) -> u64 {
    let origin = run.clock.origin_ns;
    origin.saturating_add(at.saturating_sub(origin).div_ceil(GRID_NS).saturating_mul(GRID_NS))
}

impl Outlet {
    fn new(run: &Run, source: Source) -> Outlet {
        let mut outlet = Outlet {
            source,
            next: [0; 2],
            due: [u64::MAX; 2],
            armed: u64::MAX,
            unblocked: 0,
            left: Vec::new(),
            failed: None,
        };
        Kind::ALL.into_iter().for_each(|kind| outlet.plan(run, kind, 0));
        outlet
    }

    /// Brings it into the caches.
    fn touch(&self) -> u64 {
        self.due[0] ^ self.unblocked ^ self.source.end ^ self.left.len() as u64 ^ self.source.writer.touch()
    }

    fn plan(&mut self, run: &Run, kind: Kind, seq: u32) {
        self.next[kind as usize] = seq;
        self.due[kind as usize] = run.planned_ns(self.source.publisher, kind, seq);
    }

    fn until(&self, run: &Run) -> u64 {
        self.source.end.min(run.silence())
    }

    /// The next frame and its planned instant.
    fn first(&self) -> (Kind, u64) {
        let [video, audio] = self.due;
        if audio < video { (Kind::Audio, audio) } else { (Kind::Video, video) }
    }

    /// Sends the frames that were due at `asked`, as long as the socket takes them; when the next one is due, unless the session comes first or
    /// there is none.
    fn send(&mut self, shard: &Shard, asked: u64, buffer: &mut Vec<u8>) -> Option<u64> {
        let run = &*shard.run;
        if self.armed > asked {
            return None;
        }
        self.armed = u64::MAX;
        if self.source.held {
            return None;
        }
        let (now, until) = (run.clock.now(), self.until(run));
        let mut stats = shard.stats.borrow_mut();
        buffer.clear();
        while self.left.is_empty() || run.plan.burst.is_some() {
            let (kind, due) = self.first();
            if due > now || due >= until {
                break;
            }
            // What the target's refusal to take bytes delayed is not our lateness.
            stats.record_ns(Metric::Lag, due.max(self.unblocked), now);
            stats.counts.sent += 1;
            stats.counts.bytes_sent += self.frame(run, (kind, due), now, buffer);
            if buffer.len() >= COPIED {
                stats.counts.bytes_sent += self.write(&[IoSlice::new(buffer)]);
                buffer.clear();
            }
        }
        if !buffer.is_empty() {
            stats.counts.bytes_sent += self.write(&[IoSlice::new(buffer)]);
        }
        if !self.left.is_empty() {
            self.source.held = true;
            self.source.session.wake_by_ref();
            return None;
        }
        let due = Some(self.first().1).filter(|due| *due < until);
        self.armed = due.unwrap_or(u64::MAX);
        due
    }

    /// Puts the next frame of this kind behind what is in the buffer, or writes both; bytes that were taken.
    fn frame(&mut self, run: &Run, (kind, due): (Kind, u64), now: u64, buffer: &mut Vec<u8>) -> u64 {
        let (media, seq) = (&run.media, self.next[kind as usize]);
        self.plan(run, kind, seq + 1);
        let late_us = u32::try_from((now - due) / 1000).unwrap_or(u32::MAX);
        let stamp = Stamp { run: run.id, publisher: self.source.publisher, seq, planned_ns: due, late_us };
        let (Some(frame), timestamp) = (media.frame(kind, seq), media.timestamp(kind, seq)) else { return 0 };
        for message in media.ahead(kind, seq) {
            self.source.writer.write(buffer, message, timestamp);
        }
        let before = buffer.len();
        let Heads { first, chunk_size } =
            self.source.writer.head(buffer, kind.type_id(), timestamp, frame.len() as u32);
        let stamp = frame.stamp(&stamp);
        let stamp: &[u8] = stamp.as_ref().map_or(&[], |bytes| bytes);
        let payload = [&frame.before()[..], stamp, frame.after()];
        if frame.len() <= chunk_size.min(COPIED) {
            payload.iter().for_each(|part| buffer.extend_from_slice(part));
            return 0;
        }
        let (first, other) = buffer.split_at(before + first);
        let taken = self.write(&chunked(first, other, chunk_size, payload));
        buffer.clear();
        taken
    }

    /// Writes all of it; what is not taken at once is kept for the session. Bytes that were taken.
    fn write(&mut self, slices: &[IoSlice<'_>]) -> u64 {
        let mut rest = 0;
        if let (true, Some(fd)) = (self.left.is_empty(), self.source.fd) {
            match write(fd, slices) {
                Ok(taken) => rest = taken,
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(e) => self.failed = Some(e.into()),
            }
        }
        let taken = rest as u64;
        for slice in slices {
            let skipped = rest.min(slice.len());
            self.left.extend_from_slice(&slice[skipped..]);
            rest -= skipped;
        }
        taken
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
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use super::*;
    use crate::load::link::Way;
    use crate::load::media::{Media, Shape};
    use crate::load::plan::Plan;
    use crate::wire::chunk::{ChunkReader, Limits, Quirks, ReadEvent};
    use crate::wire::message::Message;
    use crate::wire::session::{Config, Fields, Session};

    /// A shard whose one publisher began so many seconds ago.
    fn shard(plan: Plan, shape: Shape, began_s: u64) -> Rc<Shard> {
        let media = Arc::new(Media::new(shape).expect("enough"));
        let target = "rtmp://127.0.0.1/live".parse().expect("a target");
        let way = Way::Tcp(([127, 0, 0, 1], 1).into());
        let (run, _) = Run::lay_out(Plan { publishers: 1, ..plan }, media, &target, way, 1);
        let began = run.clock.now() - began_s * 1_000_000_000;
        run.slots[0].began_ns.store(began, Ordering::Release);
        run.silence_ns.store(u64::MAX, Ordering::Relaxed);
        Rc::new(Shard::new(run))
    }

    fn tap(shard: &Rc<Shard>, chunk_size: u32, fd: Option<RawFd>) -> Tap {
        let mut session = Session::client(Config::default());
        session.send(&Message::SetChunkSize(chunk_size), Fields::default());
        let writer = session.media_writer();
        let session = Waker::noop().clone();
        Tap::open(shard, Source { publisher: 0, writer, fd, end: u64::MAX, held: false, session })
    }

    /// The frames in these bytes, by kind and place.
    fn frames(shard: &Shard, chunk_size: u32, bytes: &[u8]) -> Vec<(Kind, u32)> {
        let mut reader = ChunkReader::new(Limits::default(), Quirks::default(), 0);
        let announced =
            [&[2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0][..], &chunk_size.to_be_bytes(), bytes].concat();
        let mut bytes = &announced[..];
        let mut frames = Vec::new();
        while let Some(event) = reader.read(&mut bytes).expect("chunks") {
            if let ReadEvent::Message(header, payload) = event
                && let Some(kind) = Kind::of(header.type_id)
            {
                let found = shard.run.media.find(kind, payload, &mut 0).expect("a stamp");
                assert!(found.intact);
                frames.push((kind, found.stamp.seq));
            }
        }
        assert!(bytes.is_empty());
        frames
    }

    /// One publisher and a peer that reads late: all frames that were sent, in their order.
    fn to_a_late_reader(chunk_size: u32, burst: Option<Duration>, times: u32) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let socket = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        let mut peer = listener.accept().expect("a connection").0;
        // Frames of half a megabyte, written from where they lie, and those of audio, put together.
        let shard = shard(Plan { burst, ..Plan::default() }, Shape::new(100_000_000, 25, 25), 3);
        let tap = tap(&shard, chunk_size, Some(socket.as_raw_fd()));
        let (mut bytes, mut taken, mut sent) = (Vec::new(), 0, 0);
        for _ in 0..times {
            let turn = || shard.pump.borrow_mut().turn(&shard, shard.run.clock.now());
            assert_eq!((turn(), turn()), (u64::MAX, u64::MAX), "it is the session's turn");
            let counts = shard.stats.borrow().counts;
            assert!(counts.sent > sent && counts.bytes_sent > taken);
            let mut came = vec![0; (counts.bytes_sent - taken) as usize];
            peer.read_exact(&mut came).expect("what was taken");
            bytes.append(&mut came);
            let before = bytes.len();
            tap.left(&mut bytes).expect("it is whole");
            assert!(bytes.len() > before);
            (taken, sent) = (counts.bytes_sent, counts.sent);
            tap.release(shard.run.clock.now());
        }
        let frames = frames(&shard, chunk_size, &bytes);
        assert_eq!(frames.len() as u64, sent);
        for kind in Kind::ALL {
            let seqs: Vec<u32> = frames.iter().filter(|frame| frame.0 == kind).map(|frame| frame.1).collect();
            assert_eq!(seqs, (0..seqs.len() as u32).collect::<Vec<_>>());
            assert!(seqs.len() > 1);
        }
    }

    #[test]
    fn what_a_socket_does_not_take_is_the_sessions_and_nothing_is_lost_or_passes_it() {
        to_a_late_reader(60_000, None, 3);
        // More pieces than one write may have.
        to_a_late_reader(128, None, 3);
        to_a_late_reader(60_000, Some(Duration::from_millis(300)), 1);
    }

    #[test]
    fn frames_that_are_due_at_once_are_put_together() {
        let shard = shard(Plan::default(), Shape::new(300_000, 25, 25), 2);
        let tap = tap(&shard, 60_000, None);
        assert_eq!(shard.pump.borrow_mut().turn(&shard, shard.run.clock.now()), u64::MAX);
        let mut left = Vec::new();
        tap.left(&mut left).expect("it is whole");
        let frames = frames(&shard, 60_000, &left);
        assert!(frames.len() > 1 && left.len() < 2 * COPIED, "{} in {}", frames.len(), left.len());
        assert!(tap.due() < shard.run.clock.now());
        drop(tap);
        assert!(shard.pump.borrow().outlets.iter().all(Option::is_none));
    }

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
