//! TCP streams out of segments: disorder, repeats, overlaps and gaps (rfc 9293 3.4 for the arithmetic of sequence numbers).
//!
//! Bytes are handed on as soon as they are in order. Bytes behind a gap wait; the gap becomes a [`Hole`]
//! - at once, where the missing bytes are those that the capture cut off a packet (snaplen),
//! - when more waits behind it than [`MAX_HELD_PER_DIRECTION`], [`MAX_PIECES`] or, over all connections, [`MAX_HELD`] allow,
//! - when the connection or the capture ends.
//!
//! An acknowledgement by the peer proves that the bytes were sent, and not that they do not come later in an unsorted file: it declares none.
//! Of bytes that came twice the first copy counts. A direction whose SYN was not seen waits for [`SETTLE`] bytes before its start is fixed.
//!
//! FIN and RST do not end a connection in a file that may be unsorted: what comes behind them belongs to it by its sequence numbers and time,
//! and only a SYN with another number makes another connection of the same ends. One that was heard from one side only stays when that side
//! says FIN or RST until [`MAX_ONE_SIDED`] others did; one that was closed, or whose ends connected again, stays until
//! [`MAX_CLOSED`] others followed it. Not put together are therefore parts of a connection with more than that between them in the file, and
//! an earlier part that stands behind a later one whose start was fixed already.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;

use super::frame::Segment;
use crate::wire::time::Time;
use half::{Half, Out};

mod half;

/// Bytes that wait behind a gap, in one direction of one connection, at most.
pub const MAX_HELD_PER_DIRECTION: usize = 4 << 20;
/// Bytes that wait, over all connections, at most.
pub const MAX_HELD: usize = 32 << 20;
/// Pieces that wait behind a gap in one direction, at most.
pub const MAX_PIECES: usize = 4096;
/// Bytes that wait in a direction whose first sequence number is not known, before the lowest is taken for it.
pub const SETTLE: usize = 64 << 10;
/// Connections followed at a time; the ones idle for longest are ended when there are more.
pub const MAX_CONNECTIONS: usize = 16_384;
/// Connections that were closed, or whose ends connected again, and are kept for what comes late of them.
pub const MAX_CLOSED: usize = 256;
/// Connections that one side ended, of whose other side nothing came yet, at most; the first gives way.
pub const MAX_ONE_SIDED: usize = 2048;
/// Connections remembered after that by their two ends alone, so that late packets without payload do not count as new ones.
pub const MAX_RETIRED: usize = 16_384;
/// How far ahead of what came a segment may lie, in bytes, before it is taken for damage.
pub const MAX_AHEAD: u64 = 1 << 30;
/// How far ahead of what came an acknowledgement alone is believed, in bytes: more than windows are in practice.
pub const MAX_ACKED_AHEAD: u64 = 16 << 20;
/// Bytes that were handed on and are kept to be compared with what comes again, in one direction.
pub const HISTORY: usize = 8 << 10;
/// Payload of a SYN, in bytes, that its acknowledgement may cover (rfc 7413: what one segment takes).
const MAX_SYN_PAYLOAD: u32 = 9000;
/// What a piece that waits counts for beside its bytes, so that many small ones are bounded too.
const PIECE: usize = 64;

/// One of the two directions of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From client to server.
    C2s,
    /// From server to client.
    S2c,
}

impl Direction {
    /// Both, in the order of their numbers.
    pub const BOTH: [Direction; 2] = [Direction::C2s, Direction::S2c];

    /// As records spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Direction::C2s => "c2s",
            Direction::S2c => "s2c",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why bytes are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The capture kept only the beginning of the packet.
    Snaplen,
    /// The capture has no packet with these bytes.
    CaptureDrop,
    /// The capture began after the connection; how much came before is not known, the hole's length is 0.
    MidStream,
}

impl Cause {
    /// As records spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Cause::Snaplen => "snaplen",
            Cause::CaptureDrop => "capture drop",
            Cause::MidStream => "mid-stream",
        }
    }
}

/// Bytes that a direction has and the capture lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hole {
    /// Which direction.
    pub direction: Direction,
    /// The first missing byte, counted from the first byte of the direction.
    pub offset: u64,
    /// How many are missing.
    pub bytes: u64,
    /// Why.
    pub cause: Cause,
}

/// What is known of a connection beside its bytes.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The how manieth of the capture, in the order of the first packets, from 0.
    pub number: u64,
    /// Who opened it, or seems to have.
    pub client: SocketAddr,
    /// The other end.
    pub server: SocketAddr,
    /// How many connections of the same two ends came before it.
    pub reuse: u32,
    /// Packets.
    pub packets: u64,
    /// The first packet's time.
    pub first: Time,
    /// The last packet's time.
    pub last: Time,
    /// Whether the first byte of each direction is known for what it is, by SYN or by what answered it.
    pub began: [bool; 2],
    /// The sequence number of the first byte of each direction.
    pub start: [Option<u32>; 2],
    /// Whether each direction ended with FIN.
    pub fin: [bool; 2],
    /// Whether there was an RST.
    pub rst: bool,
    /// How often bytes came again and differed from the first copy, and where first.
    pub conflicts: u64,
    /// The place of the first conflict.
    pub first_conflict: Option<(Direction, u64)>,
    /// Segments too far ahead to belong to the connection.
    pub implausible: u64,
    /// A segment acknowledged bytes that stand behind it in the file, or nowhere: what one direction says before the other in the
    /// file, it need not have said before.
    pub disordered: bool,
}

impl Connection {
    /// The first of a capture between these two, of which nothing is known yet.
    pub(super) fn new(client: SocketAddr, server: SocketAddr, time: Time) -> Connection {
        Connection {
            number: 0,
            client,
            server,
            reuse: 0,
            packets: 0,
            first: time,
            last: time,
            began: [false; 2],
            start: [None; 2],
            fin: [false; 2],
            rst: false,
            conflicts: 0,
            first_conflict: None,
            implausible: 0,
            disordered: false,
        }
    }

    /// The name that records and `--session` use: `CLIENT->SERVER`, with `#2` and so on when the ends connect again.
    pub fn key(&self) -> String {
        let again = if self.reuse == 0 { String::new() } else { format!("#{}", self.reuse + 1) };
        format!("{}->{}{again}", self.client, self.server)
    }
}

/// What takes the streams. Offsets count from the first byte of a direction, holes included; both directions of a connection
/// come in order, each by itself, with the time of the packet that brought the bytes.
pub trait Handler {
    /// What is kept for a connection.
    type State: Default;
    /// Bytes of one direction, the next in order.
    fn data(
        &mut self,
        state: &mut Self::State,
        of: &Connection,
        direction: Direction,
        time: Time,
        offset: u64,
        bytes: &[u8],
    );
    /// Bytes that are missing at this place.
    fn hole(&mut self, state: &mut Self::State, of: &Connection, time: Time, hole: Hole);
    /// No more will come.
    fn end(&mut self, state: Self::State, of: Connection);
}

/// Puts segments back into streams.
pub struct Streams<H: Handler> {
    /// What takes the streams.
    pub handler: H,
    /// Of the same ends the newest is the last; those before it are among the closed.
    flows: HashMap<Ends, Vec<Flow<H::State>>>,
    /// Connections that may go, the first to go first, by their ends and number.
    closed: VecDeque<(Ends, u64)>,
    /// Those that were ended and heard from one side only when they were.
    one_sided: VecDeque<(Ends, u64)>,
    /// How many connections of these ends came before the next one.
    retired: HashMap<Ends, u32>,
    opened: u64,
    held: usize,
}

/// The two ends of a connection, the lower address first.
type Ends = (SocketAddr, SocketAddr);

struct Flow<S> {
    connection: Connection,
    /// The side (0: the lower address) that is the client, once that is known.
    client: Option<usize>,
    sides: [Half; 2],
    /// Whether there were packets of each side.
    heard: [bool; 2],
    state: S,
}

impl<H: Handler> Streams<H> {
    /// No connection yet.
    pub fn new(handler: H) -> Streams<H> {
        Streams {
            handler,
            flows: HashMap::new(),
            closed: VecDeque::new(),
            one_sided: VecDeque::new(),
            retired: HashMap::new(),
            opened: 0,
            held: 0,
        }
    }

    /// Connections seen so far.
    pub fn connections(&self) -> u64 {
        self.opened
    }

    /// Takes a segment; the number of the connection that it belongs to.
    pub fn segment(&mut self, s: &Segment<'_>) -> Option<u64> {
        let (key, side) = if s.from <= s.to { ((s.from, s.to), 0) } else { ((s.to, s.from), 1) };
        let (number, ended) = match self.flows.get_mut(&key).and_then(|flows| owner(flows, side, s)) {
            Some(flow) => flow.take(side, s, &mut self.handler, &mut self.held),
            None => self.open(key, side, s)?,
        };
        match ended {
            Some(Ended::Closed) => self.closed.push_back((key, number)),
            Some(Ended::OneSided) => self.one_sided.push_back((key, number)),
            None => {}
        }
        self.give_way();
        Some(number)
    }

    /// Ends the connections that are kept no longer.
    fn give_way(&mut self) {
        while self.closed.len() > MAX_CLOSED {
            self.closed.pop_front().into_iter().for_each(|(key, number)| self.retire(key, number));
        }
        while self.one_sided.len() > MAX_ONE_SIDED {
            let Some((key, number)) = self.one_sided.pop_front() else { return };
            let mut of_ends = self.flows.get(&key).into_iter().flatten();
            if of_ends.any(|flow| flow.connection.number == number && flow.ended() == Some(Ended::OneSided)) {
                self.retire(key, number);
            }
        }
    }

    /// Takes a connection's first segment; as of [`Flow::take`]. The one of the same ends before it stays a while, for what comes late of
    /// it. `None`: what comes late of a connection that ended.
    fn open(&mut self, key: Ends, side: usize, s: &Segment<'_>) -> Option<(u64, Option<Ended>)> {
        let known = self.retired.get(&key).copied();
        if !s.syn && s.len == 0 && known.is_some() {
            return None;
        }
        if self.flows.len() >= MAX_CONNECTIONS {
            self.end_idle();
        }
        let former = self.flows.get(&key).and_then(|flows| flows.last());
        let reuse = former.map(|flow| flow.connection.reuse + 1).or(known).unwrap_or(0);
        self.closed.extend(
            former
                .filter(|flow| flow.ended() != Some(Ended::Closed))
                .map(|flow| (key, flow.connection.number)),
        );
        let mut flow = Flow::new(s, self.opened, reuse);
        self.opened += 1;
        let taken = flow.take(side, s, &mut self.handler, &mut self.held);
        self.flows.entry(key).or_default().push(flow);
        Some(taken)
    }

    /// Ends a connection; only its ends are remembered.
    fn retire(&mut self, key: Ends, number: u64) {
        let Some(flows) = self.flows.get_mut(&key) else { return };
        let Some(at) = flows.iter().position(|flow| flow.connection.number == number) else { return };
        let flow = flows.remove(at);
        if flows.is_empty() {
            self.flows.remove(&key);
        }
        if self.retired.len() >= MAX_RETIRED {
            self.retired.clear();
        }
        let reuse = self.retired.entry(key).or_default();
        *reuse = (*reuse).max(flow.connection.reuse + 1);
        self.finish(flow);
    }

    /// Ends every connection, in the order of their first packets.
    pub fn finish_all(&mut self) {
        let mut flows: Vec<_> = self.flows.drain().flat_map(|(_, flows)| flows).collect();
        flows.sort_by_key(|flow| flow.connection.number);
        for flow in flows {
            self.finish(flow);
        }
    }

    fn finish(&mut self, mut flow: Flow<H::State>) {
        flow.end(&mut self.handler, &mut self.held);
        self.handler.end(flow.state, flow.connection);
    }

    /// Ends the quarter of the connections that is idle for longest.
    fn end_idle(&mut self) {
        let all =
            self.flows.iter().flat_map(|(key, flows)| flows.iter().map(|flow| (*key, &flow.connection)));
        let mut all: Vec<_> = all.map(|(key, of)| (of.last, key, of.number)).collect();
        all.sort_unstable();
        for (_, key, number) in all.into_iter().take(MAX_CONNECTIONS / 4) {
            self.retire(key, number);
        }
    }
}

/// Of the connections of the same ends, the newest last, the one that a segment belongs to: the newest for which its numbers are likely and
/// that was there at its time. `None`: it opens another one.
fn owner<'a, S: Default>(flows: &'a mut [Flow<S>], side: usize, s: &Segment<'_>) -> Option<&'a mut Flow<S>> {
    let newest = flows.len() - 1;
    let is_candidate = |(at, flow): &(usize, &Flow<S>)| {
        if *at == newest { !flow.is_over(side, s) } else { flow.is_near(side, s) }
    };
    let candidates = flows.iter().enumerate().filter(is_candidate);
    let likely = |(_, flow): &(usize, &Flow<S>)| (flow.is_near(side, s), flow.connection.first <= s.time);
    let (at, _) = candidates.max_by_key(likely)?;
    flows.get_mut(at)
}

/// How far a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Both sides were heard.
    Closed,
    /// One side was, and all of the other may follow.
    OneSided,
}

impl<S: Default> Flow<S> {
    fn new(s: &Segment<'_>, number: u64, reuse: u32) -> Flow<S> {
        let connection = Connection { number, reuse, ..Connection::new(s.from, s.to, s.time) };
        Flow { connection, client: None, sides: Default::default(), heard: [false; 2], state: S::default() }
    }

    /// Whether nothing of it follows in a sorted file.
    fn has_ended(&self) -> bool {
        self.connection.rst || self.sides.iter().all(|h| h.fin.is_some())
    }

    fn ended(&self) -> Option<Ended> {
        let said_fin = self.sides.iter().any(|h| h.fin.is_some());
        match self.heard == [true; 2] {
            true => self.has_ended().then_some(Ended::Closed),
            false => (self.connection.rst || said_fin).then_some(Ended::OneSided),
        }
    }

    /// Whether this segment opens a new connection between the same two ends.
    fn is_over(&self, side: usize, s: &Segment<'_>) -> bool {
        let half = &self.sides[side];
        if !s.syn {
            return self.has_ended() && s.len > 0 && half.is_far(s.seq);
        }
        if self.is_opened_by(side, s) {
            return false;
        }
        let answers_another = s.ack.is_some() && self.sides[1 - side].began;
        let follows = self.has_ended() && (answers_another || s.time >= self.connection.last);
        half.began || follows || !half.may_begin(s.seq.wrapping_add(1))
    }

    /// Whether this is its SYN, or the answer to its SYN.
    fn is_opened_by(&self, side: usize, s: &Segment<'_>) -> bool {
        let (half, other) = (&self.sides[side], &self.sides[1 - side]);
        let answers = |(ack, base): (u32, u32)| ack.wrapping_sub(base) <= MAX_SYN_PAYLOAD;
        half.base.map_or_else(
            || other.began && s.ack.zip(other.base).is_some_and(answers),
            |base| base == s.seq.wrapping_add(1),
        )
    }

    /// Whether this segment's sequence number is likely in this connection.
    fn is_near(&self, side: usize, s: &Segment<'_>) -> bool {
        if s.syn { self.is_opened_by(side, s) } else { !self.sides[side].is_far(s.seq) }
    }

    /// The connection's number, and how it ended, if that is so since this segment.
    fn take<H: Handler<State = S>>(
        &mut self,
        side: usize,
        s: &Segment<'_>,
        handler: &mut H,
        held: &mut usize,
    ) -> (u64, Option<Ended>) {
        let before = self.ended();
        self.heard[side] = true;
        self.connection.packets += 1;
        self.connection.first = self.connection.first.min(s.time);
        self.connection.last = self.connection.last.max(s.time);
        self.connection.rst |= s.rst;
        let first = s.seq.wrapping_add(u32::from(s.syn));
        if s.syn {
            self.connection.disordered |= self.sides[side].spoken_of;
            self.client.get_or_insert(if s.ack.is_some() { 1 - side } else { side });
            self.begin(side, first, handler, held);
            if let Some(ack) = s.ack {
                self.begin(1 - side, ack, handler, held);
            }
        }
        if let Some(ack) = s.ack.filter(|_| !s.rst) {
            self.connection.disordered |= self.sides[1 - side].is_ahead(ack);
        }
        // An RST of a connection that is not known has 0 there.
        if let Some(ack) = s.ack.filter(|ack| !s.rst || *ack != 0) {
            self.sides[1 - side].acked(ack);
        }
        if s.len > 0 {
            if self.sides[side].base.is_some() {
                self.insert(side, first, s.payload, s.len, s.time, handler, held);
            } else {
                *held += self.sides[side].wait(first, s);
                if self.sides[side].held > SETTLE || *held > MAX_HELD {
                    self.settle(handler, held);
                }
            }
        }
        if s.fin {
            self.sides[side].fin.get_or_insert(first.wrapping_add(s.len as u32));
        }
        let ended = self.ended().filter(|ended| before != Some(*ended));
        if ended.is_some() {
            // It is kept a while, among many.
            self.sides.iter_mut().for_each(|half| half.keep_history(HISTORY));
        }
        (self.connection.number, ended)
    }

    /// The sequence number of a side's first byte is known: by its SYN, or by the acknowledgement of it.
    fn begin<H: Handler<State = S>>(&mut self, side: usize, first: u32, handler: &mut H, held: &mut usize) {
        if self.sides[side].base.is_none() {
            self.sides[side].base = Some(first);
            self.sides[side].began = true;
            self.release(side, handler, held);
        }
    }

    /// Fixes the start of directions whose SYN was not seen at the lowest byte that came.
    fn settle<H: Handler<State = S>>(&mut self, handler: &mut H, held: &mut usize) {
        let earliest = |h: &Half| h.waiting.iter().map(|w| w.time).min();
        if self.client.is_none() {
            let side = match (earliest(&self.sides[0]), earliest(&self.sides[1])) {
                (Some(a), Some(b)) => usize::from(b < a),
                (None, Some(_)) => 1,
                _ => 0,
            };
            self.client = Some(side);
        }
        for side in [self.client.unwrap_or(0), 1 - self.client.unwrap_or(0)] {
            if self.sides[side].base.is_none() {
                self.sides[side].base = self.sides[side].lowest_waiting();
                self.release(side, handler, held);
            }
        }
    }

    /// Hands the bytes on that waited for the start to be known.
    fn release<H: Handler<State = S>>(&mut self, side: usize, handler: &mut H, held: &mut usize) {
        let half = &mut self.sides[side];
        let waiting = std::mem::take(&mut half.waiting);
        *held -= std::mem::take(&mut half.held);
        for w in waiting {
            self.insert(side, w.seq, &w.bytes, w.len, w.time, handler, held);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a segment's fields, from the packet or from what waited")]
    fn insert<H: Handler<State = S>>(
        &mut self,
        side: usize,
        seq: u32,
        bytes: &[u8],
        len: usize,
        time: Time,
        handler: &mut H,
        held: &mut usize,
    ) {
        let direction = self.direction(side);
        let place = self.sides[side].place(seq);
        if place > self.sides[side].next.saturating_add(MAX_AHEAD) as i64 {
            self.connection.implausible += 1;
            return;
        }
        let others = *held - self.sides[side].held;
        let room = MAX_HELD_PER_DIRECTION.min(MAX_HELD.saturating_sub(others));
        let (half, connection, state) = (&mut self.sides[side], &self.connection, &mut self.state);
        let conflict = half.insert(place, bytes, len, time, room, &mut |out| {
            pass_on(handler, state, connection, direction, out)
        });
        *held = others + half.held;
        if let Some(offset) = conflict {
            self.connection.conflicts += 1;
            self.connection.first_conflict.get_or_insert((direction, offset));
        }
    }

    /// The direction of a side, and with it who is the client, fixed from here on.
    fn direction(&mut self, side: usize) -> Direction {
        let client = *self.client.get_or_insert(side);
        self.name_ends(client);
        if client == side { Direction::C2s } else { Direction::S2c }
    }

    fn name_ends(&mut self, client: usize) {
        let c = &mut self.connection;
        let (low, high) = if c.client <= c.server { (c.client, c.server) } else { (c.server, c.client) };
        (c.client, c.server) = if client == 0 { (low, high) } else { (high, low) };
        c.began = [self.sides[client].began, self.sides[1 - client].began];
        c.start = [self.sides[client].base, self.sides[1 - client].base];
    }

    fn end<H: Handler<State = S>>(&mut self, handler: &mut H, held: &mut usize) {
        if self.sides.iter().any(|h| !h.waiting.is_empty()) {
            self.settle(handler, held);
        }
        let opener = usize::from(self.connection.client > self.connection.server);
        let client = *self.client.get_or_insert(opener);
        self.name_ends(client);
        for side in [client, 1 - client] {
            let direction = self.direction(side);
            let last = self.connection.last;
            let (half, connection, state) = (&mut self.sides[side], &self.connection, &mut self.state);
            *held -= half.held;
            half.end(last, &mut |out| pass_on(handler, state, connection, direction, out));
            self.connection.fin[direction as usize] = self.sides[side].fin.is_some();
        }
    }
}

fn pass_on<H: Handler>(
    handler: &mut H,
    state: &mut H::State,
    of: &Connection,
    direction: Direction,
    out: Out<'_>,
) {
    match out {
        Out::Data { time, offset, bytes } => handler.data(state, of, direction, time, offset, bytes),
        Out::Hole { time, offset, bytes, cause } => {
            handler.hole(state, of, time, Hole { direction, offset, bytes, cause })
        }
    }
}
