//! A [`Session`] over any byte stream, with everything that passed kept in order.
//!
//! A pump task reads, feeds the session, writes what it answers by itself and appends to the log; whoever drives the
//! connection waits for log entries and writes bytes. Works under simulated time: the clock is tokio's.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::wire::chunk::{ChunkHeader, ChunkReader, Limits, MessageHeader, Quirks, ReadEvent};
use crate::wire::handshake::{BLOCK_LEN, Block};
use crate::wire::message::Message;
use crate::wire::note::Note;
use crate::wire::session::{self, Config, Event, Fields, Goal, Refusal, Session};
use crate::wire::time::Time;

/// A byte stream that can also be reset. TCP, TLS and the in-memory pipe are ones.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {
    /// Ends the stream by RST instead of FIN when it is dropped next.
    ///
    /// # Errors
    /// When the socket refuses the option.
    fn reset(&mut self) -> io::Result<()>;

    /// Bytes that the kernel holds for it at most (socket(7), SO_RCVBUF), where that is known.
    fn room(&self) -> Option<usize> {
        None
    }
}

/// A connection that is being opened.
pub type Dialing<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Io>>> + Send + 'a>>;

/// Opens connections to one target: TCP to a real one, in-memory pipes to the reference server.
pub trait Dial: Send + Sync {
    /// A new connection.
    fn dial(&self) -> Dialing<'_>;
}

/// Who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// We.
    Sent,
    /// The peer.
    Received,
}

/// One thing that passed.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// When, since the run's origin.
    pub at: Time,
    /// A number that grows over all connections of a run.
    pub order: u64,
    /// Who sent it.
    pub direction: Direction,
    /// Bytes of this direction before it (its first byte's offset where that is known).
    pub offset: u64,
    /// What it is.
    pub seen: Seen,
}

/// What passed. Sent bytes are decoded by a reader of our own, so that raw chunks show as the messages they make.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// C0 or S0.
    Version(u8),
    /// C1 or S1.
    Hello(Block),
    /// C2 or S2.
    Answer(Block),
    /// A chunk header.
    Chunk(ChunkHeader),
    /// A message.
    Message(MessageHeader, Bytes),
    /// A departure.
    Note(Note),
    /// Bytes that no reader could make sense of (sent on purpose, or behind an error); at most the first 256 are kept.
    Bytes(Bytes),
    /// A write as it was asked for: how long, and its first bytes, at most 256.
    Write(usize, Bytes),
    /// The session came this far.
    Reached(Goal),
    /// The peer refused.
    Refused(Refusal),
    /// The peer's bytes cannot be read further.
    Broken(session::Error),
    /// The peer's side ended.
    Closed(How),
    /// A write of ours does not complete: the peer takes no more.
    Stuck,
    /// The log is full: nothing more is read.
    Full,
}

/// Memory that the logs of a run take together, in bytes: all of its connections share one.
#[derive(Debug, Clone, Default)]
pub struct Kept(Arc<AtomicUsize>);

/// How a side ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum How {
    /// End of stream.
    Fin,
    /// Connection reset.
    Rst,
}

/// How long a write may make no progress before it counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(3);
/// Memory that the log of one connection may take, in bytes; two of the largest messages fit.
const KEPT_BYTES: usize = 40 << 20;
/// Memory that all logs of a run may take together, in bytes.
const KEPT_BYTES_IN_ALL: usize = 80 << 20;
/// Bytes that an allocation costs beside what it holds.
const ALLOCATION: usize = 64;
/// Bytes of pieces that are kept for captures.
const KEPT_WIRE: usize = 1 << 20;
/// Bytes behind the end of what can be read that are still taken, so that a close is seen.
const DEAF_BYTES: usize = 4 << 20;
/// Bytes that one read takes at most.
const READ_SIZE: usize = 64 << 10;
/// Bytes of an entry that no reader could make sense of.
const KEPT_OF_BYTES: usize = 256;

/// The clock and the counter that all connections of a run share.
#[derive(Debug, Clone)]
pub struct Origin(Arc<OriginInner>);

#[derive(Debug)]
struct OriginInner {
    began: Instant,
    order: AtomicU64,
    arrival: Notify,
    kept: Kept,
}

impl Default for Origin {
    fn default() -> Origin {
        Origin::new(Kept::default())
    }
}

impl Origin {
    /// Begins now; what its connections keep counts with what others of the same run do.
    pub fn new(kept: Kept) -> Origin {
        Origin(Arc::new(OriginInner {
            began: Instant::now(),
            order: AtomicU64::new(1),
            arrival: Notify::new(),
            kept,
        }))
    }

    /// The time since this was made.
    pub fn now(&self) -> Time {
        Time::ZERO + self.0.began.elapsed()
    }

    fn next(&self) -> u64 {
        self.0.order.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns when the next entry of any connection is logged; those logged after this call count, polled or not.
    pub fn arrival(&self) -> impl Future<Output = ()> + Send + '_ {
        self.0.arrival.notified()
    }
}

/// Bytes of one read or write.
#[derive(Debug, Clone)]
pub struct Piece {
    /// When.
    pub at: Time,
    /// Who sent them.
    pub direction: Direction,
    /// The bytes.
    pub bytes: Bytes,
}

/// A connection; clones are handles of the same one. Its pump ends when the peer and we have ended, or when the last handle goes.
#[derive(Clone)]
pub struct Conn {
    shared: Arc<Shared>,
    /// Closes when the last handle goes.
    _life: Arc<Life>,
}

struct Life(Arc<Shared>);

impl Drop for Life {
    fn drop(&mut self) {
        self.0.end(End::Close);
    }
}

struct Shared {
    origin: Origin,
    state: Mutex<State>,
    written: Notify,
}

struct State {
    session: Session,
    log: Vec<Entry>,
    kept: usize,
    kept_in_all: Kept,
    wire: Vec<Piece>,
    wire_kept: usize,
    sent: u64,
    received: u64,
    own: OwnReader,
    out: VecDeque<Bytes>,
    reading: bool,
    /// The log is full.
    full: bool,
    /// Bytes that came behind the end of what can be read.
    unread: usize,
    end: Option<End>,
    /// The peer's side ended or its bytes cannot be read further.
    deaf: bool,
    stuck: bool,
    /// No write will ever complete.
    mute: bool,
    pump: Option<Waker>,
}

/// How our side is to end, once what is queued has been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Half,
    Close,
    Reset,
}

impl Conn {
    /// Runs a client over a byte stream; nothing is sent until [`Conn::pursue`] or [`Conn::write`].
    pub fn start(io: Box<dyn Io>, config: Config, origin: Origin) -> Conn {
        let state = State {
            session: Session::client(config),
            log: Vec::new(),
            kept: 0,
            kept_in_all: origin.0.kept.clone(),
            wire: Vec::new(),
            wire_kept: 0,
            sent: 0,
            received: 0,
            own: OwnReader::default(),
            out: VecDeque::new(),
            reading: true,
            full: false,
            unread: 0,
            end: None,
            deaf: false,
            stuck: false,
            mute: false,
            pump: None,
        };
        let shared = Arc::new(Shared { origin, state: Mutex::new(state), written: Notify::new() });
        let mut pump = Pump { shared: shared.clone(), io: Some(io), timer: None, half: false };
        tokio::spawn(async move { poll_fn(|cx| pump.poll(cx)).await });
        Conn { _life: Arc::new(Life(shared.clone())), shared }
    }

    /// Calls `look` with everything that passed so far.
    pub fn log<T>(&self, look: impl FnOnce(&[Entry]) -> T) -> T {
        look(&self.shared.lock().log)
    }

    /// Calls `look` with the bytes that passed, as they were read and written; at most the first MiB is kept.
    pub fn wire<T>(&self, look: impl FnOnce(&[Piece]) -> T) -> T {
        look(&self.shared.lock().wire)
    }

    /// Sets the session's goal; what can be sent towards it is sent.
    pub fn pursue(&self, goal: Goal) {
        let mut state = self.shared.lock();
        let now = self.shared.origin.now();
        state.session.pursue(now, goal);
        state.collect_output();
    }

    /// The stream name that publish and play will use.
    pub fn rename(&self, name: String) {
        self.shared.lock().session.rename(name);
    }

    /// How far the session came.
    pub fn reached(&self) -> Goal {
        self.shared.lock().session.reached()
    }

    /// The message stream that createStream returned.
    pub fn msid(&self) -> Option<u32> {
        self.shared.lock().session.msid()
    }

    /// Bytes that the socket took.
    pub fn sent(&self) -> u64 {
        self.shared.lock().sent
    }

    /// Bytes that came.
    pub fn received(&self) -> u64 {
        self.shared.lock().received
    }

    /// A correct C1.
    pub fn hello(&self) -> Block {
        self.shared.lock().session.hello()
    }

    /// S1, once it is in.
    pub fn peer_hello(&self) -> Option<Block> {
        self.shared.lock().session.peer_hello().cloned()
    }

    /// The chunks of a message, for [`Conn::write`]; the writer's state moves on as if they were sent.
    pub fn encode(&self, message: &Message, fields: Fields) -> Bytes {
        self.shared.lock().session.encode(message, fields)
    }

    /// Keeps in the log that these bytes are about to be written as they are; what they decode to follows.
    pub fn announce(&self, bytes: &Bytes) {
        let mut state = self.shared.lock();
        if !state.mute && !state.stuck && state.end.is_none() {
            let offset = state.sent;
            let head = Bytes::copy_from_slice(&bytes[..bytes.len().min(KEPT_OF_BYTES)]);
            state.keep(&self.shared.origin, Direction::Sent, offset, Seen::Write(bytes.len(), head));
        }
    }

    /// Writes bytes and returns when the socket took them, or when it will not: the peer closed, or takes no more.
    pub async fn write(&self, bytes: Bytes) {
        let mark = {
            let mut state = self.shared.lock();
            if state.mute || state.stuck || state.end.is_some() || bytes.is_empty() {
                return;
            }
            state.session.sent_handshake(&bytes);
            let queued: usize = state.out.iter().map(Bytes::len).sum();
            let mark = state.sent + (queued + bytes.len()) as u64;
            state.out.push_back(bytes);
            state.wake();
            mark
        };
        loop {
            let written = self.shared.written.notified();
            {
                let state = self.shared.lock();
                if state.sent >= mark || state.mute || state.stuck {
                    return;
                }
            }
            written.await;
        }
    }

    /// Whether the peer takes no more bytes: a write failed or is stuck.
    pub fn is_deaf_to_us(&self) -> bool {
        let state = self.shared.lock();
        state.stuck || (state.mute && state.end.is_none())
    }

    /// FIN both ways, once what is queued has been written: the socket is given back.
    pub fn close(&self) {
        self.shared.end(End::Close);
    }

    /// FIN; reading goes on.
    pub fn half_close(&self) {
        self.shared.end(End::Half);
    }

    /// RST.
    pub fn reset(&self) {
        self.shared.end(End::Reset);
    }

    /// Whether what comes is read.
    pub fn read_on(&self, on: bool) {
        let mut state = self.shared.lock();
        state.reading = on && !state.full;
        state.wake();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, end: End) {
        let mut state = self.lock();
        if state.end.is_none() || end != End::Half {
            state.end = Some(end);
        }
        state.wake();
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.kept_in_all.0.fetch_sub(self.kept, Ordering::Relaxed);
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(pump) = self.pump.take() {
            pump.wake();
        }
    }

    fn collect_output(&mut self) {
        let output = self.session.output();
        if !output.is_empty() && !self.mute && self.end.is_none() {
            self.out.push_back(output);
            self.wake();
        }
    }

    fn keep(&mut self, origin: &Origin, direction: Direction, offset: u64, seen: Seen) {
        let payload = match &seen {
            Seen::Message(_, payload) | Seen::Bytes(payload) | Seen::Write(_, payload) => payload.len(),
            Seen::Hello(_) | Seen::Answer(_) => BLOCK_LEN,
            _ => 0,
        };
        // As it is allocated: a growing Vec holds up to twice its entries, and each payload has a head and a tail of its own.
        let size = 2 * size_of::<Entry>() + if payload == 0 { 0 } else { payload + ALLOCATION };
        self.kept += size;
        let in_all = self.kept_in_all.0.fetch_add(size, Ordering::Relaxed) + size;
        self.log.push(Entry { at: origin.now(), order: origin.next(), direction, offset, seen });
        if self.reading && (self.kept > KEPT_BYTES || in_all > KEPT_BYTES_IN_ALL) {
            self.fill_up(origin, direction, offset);
        }
        origin.0.arrival.notify_waiters();
    }

    /// What a peer sends costs a bounded amount of memory and time: its writes block from here on.
    fn fill_up(&mut self, origin: &Origin, direction: Direction, offset: u64) {
        self.reading = false;
        self.full = true;
        self.log.push(Entry { at: origin.now(), order: origin.next(), direction, offset, seen: Seen::Full });
        origin.0.arrival.notify_waiters();
    }

    fn keep_wire(&mut self, at: Time, direction: Direction, bytes: &[u8]) {
        if self.wire_kept < KEPT_WIRE {
            self.wire_kept += bytes.len();
            self.wire.push(Piece { at, direction, bytes: Bytes::copy_from_slice(bytes) });
        }
    }

    /// Feeds what came to the session.
    fn receive(&mut self, origin: &Origin, mut bytes: &[u8]) {
        let now = origin.now();
        self.keep_wire(now, Direction::Received, bytes);
        let offset = self.received;
        self.received += bytes.len() as u64;
        if self.deaf {
            self.unread += bytes.len();
            if self.unread > DEAF_BYTES && self.reading {
                self.fill_up(origin, Direction::Received, offset);
            }
            return;
        }
        loop {
            let mut rest = bytes;
            let read = self.session.read(now, &mut rest).map(|event| event.map(seen_of));
            bytes = &bytes[bytes.len() - rest.len()..];
            let seen = match read {
                Ok(Some(seen)) => seen,
                Ok(None) => break,
                Err(error) => {
                    self.deaf = true;
                    self.keep(origin, Direction::Received, offset, Seen::Broken(error));
                    break;
                }
            };
            self.keep(origin, Direction::Received, offset, seen);
        }
        self.collect_output();
    }

    /// Decodes what the socket took.
    fn wrote(&mut self, origin: &Origin, bytes: &[u8]) {
        self.keep_wire(origin.now(), Direction::Sent, bytes);
        let offset = self.sent;
        self.sent += bytes.len() as u64;
        let mut own = std::mem::take(&mut self.own);
        own.read(bytes, &mut |seen| self.keep(origin, Direction::Sent, offset, seen));
        self.own = own;
    }
}

fn seen_of(event: Event<'_>) -> Seen {
    match event {
        Event::Version(n) => Seen::Version(n),
        Event::Hello(block) => Seen::Hello(block.clone()),
        Event::Answer(block) => Seen::Answer(block.clone()),
        Event::Chunk(header) => Seen::Chunk(header),
        Event::Message(header, payload) => Seen::Message(header, Bytes::copy_from_slice(payload)),
        Event::Note(note) => Seen::Note(note),
        Event::Reached(goal) => Seen::Reached(goal),
        Event::Refused(refusal) => Seen::Refused(refusal),
    }
}

/// Reads what we sent, right or wrong, so that raw chunks show as the messages they make.
struct OwnReader {
    handshake: Vec<u8>,
    chunks: ChunkReader,
    lost: bool,
}

impl Default for OwnReader {
    fn default() -> OwnReader {
        let offset = 1 + 2 * BLOCK_LEN as u64;
        OwnReader {
            handshake: Vec::new(),
            chunks: ChunkReader::new(Limits::default(), Quirks::default(), offset),
            lost: false,
        }
    }
}

impl OwnReader {
    fn read(&mut self, mut bytes: &[u8], keep: &mut dyn FnMut(Seen)) {
        while self.handshake.len() < 1 + 2 * BLOCK_LEN {
            let before = self.handshake.len();
            let ends = [1, 1 + BLOCK_LEN, 1 + 2 * BLOCK_LEN];
            let Some(end) = ends.into_iter().find(|end| *end > before) else { break };
            let take = bytes.len().min(end - before);
            if take == 0 {
                return;
            }
            self.handshake.extend_from_slice(&bytes[..take]);
            bytes = &bytes[take..];
            if self.handshake.len() < end {
                return;
            }
            let block = |from: usize| {
                let mut block = Block::new(0, 0, &[]);
                block.0.copy_from_slice(&self.handshake[from..from + BLOCK_LEN]);
                block
            };
            match end {
                1 => keep(Seen::Version(self.handshake[0])),
                n if n == 1 + BLOCK_LEN => keep(Seen::Hello(block(1))),
                _ => keep(Seen::Answer(block(1 + BLOCK_LEN))),
            }
        }
        while !self.lost {
            let mut rest = bytes;
            let read = self.chunks.read(&mut rest).map(|event| {
                event.map(|event| match event {
                    ReadEvent::Message(header, payload) => {
                        Some(Seen::Message(header, Bytes::copy_from_slice(payload)))
                    }
                    _ => None,
                })
            });
            bytes = &bytes[bytes.len() - rest.len()..];
            match read {
                Ok(Some(seen)) => {
                    if let Some(seen) = seen {
                        keep(seen);
                    }
                }
                Ok(None) => return,
                Err(_) => self.lost = true,
            }
        }
        if !bytes.is_empty() {
            keep(Seen::Bytes(Bytes::copy_from_slice(&bytes[..bytes.len().min(KEPT_OF_BYTES)])));
        }
    }
}

/// The task behind a connection.
struct Pump {
    shared: Arc<Shared>,
    io: Option<Box<dyn Io>>,
    /// Runs while a write makes no progress.
    timer: Option<Pin<Box<Sleep>>>,
    half: bool,
}

impl Pump {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let shared = self.shared.clone();
        let mut state = shared.lock();
        state.pump = Some(cx.waker().clone());
        if state.end == Some(End::Reset)
            && let Some(mut io) = self.io.take()
        {
            // A socket that refuses the option ends by FIN.
            let _ = io.reset();
            state.mute = true;
        }
        if self.io.is_some() {
            self.poll_write(&mut state, cx);
        }
        if self.io.is_some() {
            self.poll_read(&mut state, cx);
        }
        drop(state);
        if self.io.is_none() {
            let mut state = shared.lock();
            state.mute = true;
            shared.written.notify_waiters();
            return Poll::Ready(());
        }
        Poll::Pending
    }

    fn poll_write(&mut self, state: &mut State, cx: &mut Context<'_>) {
        let origin = &self.shared.origin;
        let Some(io) = &mut self.io else { return };
        while let Some(front) = state.out.front().cloned() {
            match Pin::new(&mut **io).poll_write(cx, &front) {
                Poll::Ready(Ok(0)) | Poll::Ready(Err(_)) => {
                    state.mute = true;
                    state.out.clear();
                    break;
                }
                Poll::Ready(Ok(n)) => {
                    self.timer = None;
                    state.stuck = false;
                    state.wrote(origin, &front[..n]);
                    if let Some(front) = state.out.front_mut() {
                        front.advance(n);
                    }
                    if state.out.front().is_some_and(Bytes::is_empty) {
                        state.out.pop_front();
                    }
                }
                Poll::Pending => {
                    let timer =
                        self.timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + STUCK_AFTER)));
                    if !state.stuck && timer.as_mut().poll(cx).is_ready() {
                        state.stuck = true;
                        let offset = state.sent;
                        state.keep(origin, Direction::Sent, offset, Seen::Stuck);
                        self.shared.written.notify_waiters();
                    }
                    break;
                }
            }
        }
        let _ = Pin::new(&mut **io).poll_flush(cx);
        self.shared.written.notify_waiters();
        match state.end {
            Some(End::Half) if state.out.is_empty() && !self.half => {
                self.half = Pin::new(&mut **io).poll_shutdown(cx).is_ready();
            }
            Some(End::Close) if state.out.is_empty() || state.stuck => {
                let _ = Pin::new(&mut **io).poll_shutdown(cx);
                self.io = None;
            }
            _ => {}
        }
    }

    fn poll_read(&mut self, state: &mut State, cx: &mut Context<'_>) {
        let origin = self.shared.origin.clone();
        let mut buffer = [0u8; READ_SIZE];
        for _ in 0..16 {
            let Some(io) = &mut self.io else { return };
            if !state.reading {
                return;
            }
            let mut read = ReadBuf::new(&mut buffer);
            let how = match Pin::new(&mut **io).poll_read(cx, &mut read) {
                Poll::Pending => {
                    // Answers that were queued while reading.
                    return if state.out.is_empty() || state.stuck {
                    } else {
                        self.poll_write(state, cx)
                    };
                }
                Poll::Ready(Ok(())) if read.filled().is_empty() => How::Fin,
                Poll::Ready(Ok(())) => {
                    state.receive(&origin, read.filled());
                    continue;
                }
                Poll::Ready(Err(_)) => How::Rst,
            };
            let offset = state.received;
            state.keep(&origin, Direction::Received, offset, Seen::Closed(how));
            state.deaf = true;
            state.reading = false;
            if how == How::Rst {
                state.mute = true;
                self.io = None;
            }
            return;
        }
        cx.waker().wake_by_ref();
    }
}
