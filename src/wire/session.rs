//! One connection, client or server: bytes and time in, events and bytes out.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::amf0::Value;
use super::chunk::{
    ChunkError, ChunkHeader, ChunkReader, ChunkWriter, Fmt, Limits, MessageHeader, Quirks, ReadEvent,
};
use super::handshake::{BLOCK_LEN, Block, Schema, Signer, Version};
use super::message::{Message, UserControl, type_id};
use super::note::Note;
use super::time::Time;

mod client;
mod flow;
mod quick;

use client::Pursuit;
pub use client::{connect_payload, start_answered};
use flow::Flow;
use quick::Gathering;
pub use quick::{Heads, MediaWriter, Skimmed};

/// Bytes of the handshake in each direction (rtmp 5.2).
pub const HANDSHAKE_LEN: u64 = 1 + 2 * BLOCK_LEN as u64;

/// How far a client session is to go by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Goal {
    /// Nothing is sent; what comes is read.
    #[default]
    Open,
    /// C2 sent and S2 read.
    Handshaken,
    /// connect answered with `_result`.
    Connected,
    /// createStream answered with a stream id.
    Created,
    /// publish confirmed.
    Publishing,
    /// play confirmed.
    Playing,
}

/// What a session says and does by itself.
#[derive(Debug, Clone)]
pub struct Config {
    /// The application's name in connect.
    pub app: String,
    /// The URL in connect.
    pub tc_url: String,
    /// The stream name of publish and play.
    pub name: String,
    /// Fields of the connect object that are added or, where the name is there already, replaced.
    pub connect_with: Vec<(String, Value)>,
    /// What connect says, spelled ahead of time where many sessions say the same ([`connect_payload`]); `None`: what follows from the fields above.
    pub connect: Option<Arc<[u8]>>,
    /// Whether acknowledgements are sent as the peer's window asks.
    pub acks: bool,
    /// Whether Set Peer Bandwidth is answered and heeded.
    pub bandwidth: bool,
    /// Whether ping requests are answered.
    pub pongs: bool,
    /// A Window Acknowledgement Size announced after the handshake.
    pub window: Option<u32>,
    /// A Set Chunk Size announced after the handshake.
    pub chunk_size: Option<u32>,
    /// A ping request is sent whenever so many milliseconds passed; `None`: never.
    pub ping_ms: Option<u32>,
    /// C1's (or S1's) time, not 0 by default so that echoes of zero show.
    pub hello_time: u32,
    /// Sign C1 in this schema; `None`: the plain handshake. A server answers in the client's schema.
    pub digest: Option<Schema>,
    /// Seed of the random bytes of C1 or S1.
    pub seed: u64,
    /// What the reader may hold.
    pub limits: Limits,
    /// How the reader reads.
    pub quirks: Quirks,
    /// Whether each chunk header becomes an event.
    pub report_chunks: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            app: "live".into(),
            tc_url: "rtmp://localhost/live".into(),
            name: "stream".into(),
            connect_with: Vec::new(),
            connect: None,
            acks: true,
            bandwidth: true,
            pongs: true,
            window: None,
            chunk_size: None,
            ping_ms: None,
            hello_time: 0x0102_0304,
            digest: None,
            seed: 1,
            limits: Limits::default(),
            quirks: Quirks::default(),
            report_chunks: false,
        }
    }
}

/// What a session found next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event<'a> {
    /// C0 (at a server) or S0 (at a client).
    Version(u8),
    /// C1 or S1.
    Hello(&'a Block),
    /// C2 or S2.
    Answer(&'a Block),
    /// A chunk header, with [`Config::report_chunks`].
    Chunk(ChunkHeader),
    /// A message; the payload is lent.
    Message(MessageHeader, &'a [u8]),
    /// A departure from the text.
    Note(Note),
    /// The session came this far.
    Reached(Goal),
    /// The peer refused what the goal needs; nothing further is sent by itself.
    Refused(Refusal),
}

/// Which step the peer refused, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// S0 or C0 cannot be spoken (RTMPE, not RTMP).
    Version(u8),
    /// `_error` to connect.
    Connect,
    /// `_error` to createStream.
    CreateStream,
    /// `_error` or an error status to publish.
    Publish,
    /// `_error` or an error status to play.
    Play,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Version(byte) => match unspoken(*byte) {
                Some(why) => write!(f, "version {byte}: {why}"),
                None => write!(f, "version {byte}"),
            },
            Refusal::Connect => f.write_str("connect"),
            Refusal::CreateStream => f.write_str("createStream"),
            Refusal::Publish => f.write_str("publish"),
            Refusal::Play => f.write_str("play"),
        }
    }
}

/// Why a version cannot be spoken; `None`: it can be met with 3 (rtmp 5.2.2: 32 and above are not RTMP).
fn unspoken(byte: u8) -> Option<&'static str> {
    match Version::from(byte) {
        Version::Rtmpe(_) => Some("RTMPE is not spoken"),
        // "HTTP/1.1 …", or a page without a head.
        Version::NotRtmp(b'H' | b'<') => Some("not RTMP; HTTP begins so"),
        Version::NotRtmp(_) => Some("not RTMP"),
        _ => None,
    }
}

/// Why a session cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The chunk stream is broken.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// The version byte cannot be spoken.
    #[error("version byte {0:#04x}: {1}")]
    Version(u8, &'static str),
}

/// The fields of a message that its sender may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fields {
    /// Chunk stream id; `None`: the customary one of the type.
    pub csid: Option<u32>,
    /// Timestamp in milliseconds; `None`: 0.
    pub timestamp: Option<u32>,
    /// Message stream id; `None`: 0 for control and NetConnection commands, else the session's stream.
    pub msid: Option<u32>,
    /// Type of the first chunk; `None`: the shortest right one.
    pub fmt: Option<Fmt>,
}

/// One connection. Four calls and no socket: [`read`](Session::read), [`output`](Session::output), [`deadline`](Session::deadline), [`timeout`](Session::timeout).
#[derive(Debug)]
pub struct Session {
    reader: ChunkReader,
    core: Core,
}

/// All but the reader, which lends payloads while the core looks at them.
#[derive(Debug)]
struct Core {
    config: Config,
    server: bool,
    phase: Phase,
    /// Of the handshake piece that is coming in.
    piece: Vec<u8>,
    peer_hello: Option<Block>,
    peer_answer: Option<Block>,
    /// Handshake bytes of the own side that are done.
    shaken: u64,
    /// When the own time began, which is then the configured hello time.
    began: Option<Time>,
    pinged: Option<Time>,
    writer: ChunkWriter,
    out: Vec<u8>,
    flow: Flow,
    pursuit: Pursuit,
    announced: bool,
    pending: VecDeque<Pending>,
    /// Messages in pieces, while there are some.
    gathering: Option<Box<Gathering>>,
    failed: Option<Error>,
}

/// Which piece comes in next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Version,
    Hello,
    Answer,
    Chunks,
}

/// Events that follow from the one before.
#[derive(Debug, Clone, Copy)]
enum Pending {
    Reached(Goal),
    Refused(Refusal),
}

impl Session {
    /// A client that reads and sends nothing until [`Session::pursue`].
    pub fn client(config: Config) -> Session {
        Session::new(config, false)
    }

    /// A server: it answers the handshake, acks and pings by itself; commands are events for the caller to answer.
    pub fn server(config: Config) -> Session {
        Session::new(config, true)
    }

    fn new(config: Config, server: bool) -> Session {
        let mut reader = ChunkReader::new(config.limits, config.quirks, HANDSHAKE_LEN);
        reader.report_chunks(config.report_chunks);
        Session { reader, core: Core::new(config, server) }
    }

    /// What it does by itself, to be changed on the way. What the reader holds and how it reads is settled at the beginning.
    pub fn config_mut(&mut self) -> &mut Config {
        &mut self.core.config
    }

    /// The stream name that publish and play will use from now on.
    pub fn rename(&mut self, name: String) {
        self.core.config.name = name;
    }

    /// Sets the goal and queues what can be sent towards it. From where the session is: what was done by hand is not done again.
    /// To publish or play when the session already does, under another name or the other way round, is a further stream of the same connection.
    pub fn pursue(&mut self, now: Time, goal: Goal) {
        self.core.pursuit.aim(goal, &self.core.config.name);
        self.core.advance(now);
    }

    /// The next event from `bytes`, consumed from the front; `None`: more are needed. Also when automatic answers were queued: see [`Session::output`].
    ///
    /// # Errors
    /// When the peer's bytes cannot be read further.
    pub fn read<'a>(&'a mut self, now: Time, bytes: &mut &'a [u8]) -> Result<Option<Event<'a>>, Error> {
        let Session { reader, core } = self;
        match core.pending.pop_front() {
            Some(Pending::Reached(goal)) => return Ok(Some(Event::Reached(goal))),
            Some(Pending::Refused(refusal)) => return Ok(Some(Event::Refused(refusal))),
            None => {}
        }
        if let Some(error) = &core.failed {
            return Err(error.clone());
        }
        if core.phase != Phase::Chunks {
            return Ok(core.read_handshake(now, bytes));
        }
        let before = bytes.len();
        let found = reader.read(bytes);
        core.flow.received += (before - bytes.len()) as u64;
        match found {
            Ok(Some(ReadEvent::Chunk(header))) => Ok(Some(Event::Chunk(header))),
            Ok(Some(ReadEvent::Note(note))) => Ok(Some(Event::Note(note))),
            Ok(Some(ReadEvent::Message(header, payload))) => {
                core.message(now, header, payload);
                Ok(Some(Event::Message(header, payload)))
            }
            Ok(None) => {
                core.acknowledge();
                Ok(None)
            }
            Err(error) => Err(core.failed.insert(error.into()).clone()),
        }
    }

    /// What is to be sent, all of it; empty when nothing is.
    pub fn output(&mut self) -> Bytes {
        self.take_output().into()
    }

    /// The same, not to be shared.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.core.out)
    }

    /// When [`Session::timeout`] wants to be called.
    pub fn deadline(&self) -> Option<Time> {
        let core = &self.core;
        let interval = core.config.ping_ms.filter(|_| core.may_speak())?;
        Some(core.pinged? + std::time::Duration::from_millis(u64::from(interval)))
    }

    /// Tells the session that its deadline came.
    pub fn timeout(&mut self, now: Time) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.core.pinged = Some(now);
            // rtmp 7.1.7: the event data is the server's time.
            self.core.queue(&Message::UserControl(UserControl::PingRequest(now.as_rtmp_millis())));
        }
    }

    /// The chunks of a message, for the caller to send as it likes; the writer's state moves on as if they were sent.
    pub fn encode(&mut self, message: &Message, fields: Fields) -> Bytes {
        let mut out = Vec::new();
        self.core.encode(&mut out, message, fields);
        out.into()
    }

    /// Queues a message.
    pub fn send(&mut self, message: &Message, fields: Fields) {
        let mut out = std::mem::take(&mut self.core.out);
        self.core.encode(&mut out, message, fields);
        self.core.out = out;
    }

    /// Tells the session that these bytes were sent by hand: as far as the own side's handshake was not done yet, they count as its bytes.
    pub fn sent_handshake(&mut self, bytes: &[u8]) {
        let counted = (HANDSHAKE_LEN - self.core.shaken).min(bytes.len() as u64);
        self.core.shaken += counted;
        self.core.flow.sent += counted;
        self.core.check_handshaken();
    }

    /// The message stream id that createStream returned.
    pub fn msid(&self) -> Option<u32> {
        self.core.pursuit.msid
    }

    /// How far the session came.
    pub fn reached(&self) -> Goal {
        self.core.pursuit.reached
    }

    /// The peer's C1 or S1, once it is in.
    pub fn peer_hello(&self) -> Option<&Block> {
        self.core.peer_hello.as_ref()
    }

    /// A correct C1 (or S1), as configured.
    pub fn hello(&self) -> Block {
        self.core.hello()
    }

    /// Bytes received so far, handshake included.
    pub fn received(&self) -> u64 {
        self.core.flow.received
    }

    /// Bytes of messages begun and not finished that the reader holds.
    pub fn held_bytes(&self) -> usize {
        self.reader.held_bytes()
    }

    /// The Window Acknowledgement Size that the peer announced last, in bytes.
    pub fn peer_window(&self) -> Option<u32> {
        self.core.flow.peer_window
    }

    /// Bytes of our own that may be unacknowledged, whatever Set Peer Bandwidth said.
    pub fn limit_output(&mut self, limit: Option<u32>) {
        self.core.flow.limit = limit;
    }

    /// Whether media may be sent: the peer's Set Peer Bandwidth limits what may be unacknowledged (rtmp 5.4.5).
    pub fn may_send_media(&self) -> bool {
        self.core.flow.open()
    }
}

impl Core {
    fn new(config: Config, server: bool) -> Core {
        let writer = ChunkWriter::new(config.quirks.miswrite);
        Core {
            config,
            server,
            phase: Phase::Version,
            piece: Vec::new(),
            peer_hello: None,
            peer_answer: None,
            shaken: 0,
            began: None,
            pinged: None,
            writer,
            out: Vec::new(),
            flow: Flow::default(),
            pursuit: Pursuit::default(),
            announced: false,
            pending: VecDeque::new(),
            gathering: None,
            failed: None,
        }
    }

    fn read_handshake<'a>(&'a mut self, now: Time, bytes: &mut &'a [u8]) -> Option<Event<'a>> {
        if self.phase == Phase::Version {
            let (&byte, rest) = bytes.split_first()?;
            *bytes = rest;
            self.flow.received += 1;
            self.phase = Phase::Hello;
            self.version(now, byte);
            return Some(Event::Version(byte));
        }
        let block = self.block(bytes)?;
        if self.phase == Phase::Hello {
            self.phase = Phase::Answer;
            if self.server {
                self.answer_hello(now, &block);
            }
            self.peer_hello = Some(block);
            self.advance(now);
            return self.peer_hello.as_ref().map(Event::Hello);
        }
        self.phase = Phase::Chunks;
        self.pinged = Some(now);
        self.check_handshaken();
        self.advance(now);
        Some(Event::Answer(self.peer_answer.insert(block)))
    }

    fn version(&mut self, now: Time, byte: u8) {
        self.began.get_or_insert(now);
        let Some(why) = unspoken(byte) else { return };
        if self.server {
            self.failed = Some(Error::Version(byte, why));
        } else {
            self.refuse(Refusal::Version(byte));
        }
    }

    /// The next whole handshake piece.
    fn block(&mut self, bytes: &mut &[u8]) -> Option<Block> {
        let (part, rest) = bytes.split_at(bytes.len().min(BLOCK_LEN - self.piece.len()));
        *bytes = rest;
        self.flow.received += part.len() as u64;
        self.piece.extend_from_slice(part);
        if self.piece.len() < BLOCK_LEN {
            return None;
        }
        std::mem::take(&mut self.piece).into_boxed_slice().try_into().ok().map(Block)
    }

    /// S0, S1 and S2, in the client's schema when C1 is signed.
    fn answer_hello(&mut self, now: Time, c1: &Block) {
        let mut s1 = self.hello();
        let mut s2 = c1.echo(self.own_time(now));
        if let Some((schema, digest)) = c1.digest(Signer::Client).filter(|_| c1.second_word() != 0) {
            s1.0[4..8].copy_from_slice(&SERVER_VERSION.to_be_bytes());
            s1.sign(Signer::Server, schema);
            s2.sign_answer(Signer::Server, &digest);
        }
        // rtmp 5.2.2: a server that does not know the requested version answers 3.
        self.shake(&[&[3], &s1.0[..], &s2.0[..]].concat());
    }

    /// The client's next handshake bytes, as far as the server's came.
    fn shake_hands(&mut self, now: Time) {
        const HELLO_END: u64 = 1 + BLOCK_LEN as u64;
        self.began.get_or_insert(now);
        if self.shaken < HELLO_END {
            let hello = self.hello();
            self.out.reserve(1 + BLOCK_LEN);
            if self.shaken == 0 {
                self.shake(&[3]);
            }
            self.shake(&hello.0[self.shaken as usize - 1..]);
        }
        // rtmp 5.2.1: the client waits for S1 before it sends C2.
        let read_at = self.own_time(now);
        if let Some(s1) = &self.peer_hello
            && (HELLO_END..HANDSHAKE_LEN).contains(&self.shaken)
        {
            self.out.reserve(BLOCK_LEN + COMMAND_ROOM);
            let mut c2 = s1.echo(read_at);
            if let Some((_, digest)) = self.config.digest.and_then(|_| s1.digest(Signer::Server)) {
                c2.sign_answer(Signer::Client, &digest);
            }
            self.shake(&c2.0[(self.shaken - HELLO_END) as usize..]);
        }
        self.check_handshaken();
    }

    fn shake(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
        self.flow.sent += bytes.len() as u64;
        self.shaken += bytes.len() as u64;
    }

    fn check_handshaken(&mut self) {
        if self.may_speak() && self.pursuit.reached < Goal::Handshaken {
            self.reach(Goal::Handshaken);
        }
    }

    /// Whether chunks may be sent: rtmp 5.2.1 forbids any before the other side's answer is in.
    fn may_speak(&self) -> bool {
        self.phase == Phase::Chunks && self.shaken == HANDSHAKE_LEN
    }

    fn hello(&self) -> Block {
        // rtmp 5.2.3: the second word is zero; with a digest it is a version.
        let signed = self.config.digest.filter(|_| !self.server);
        let mut block = Block::new(self.config.hello_time, signed.map_or(0, |_| CLIENT_VERSION), &[]);
        let mut state = self.config.seed;
        for random in block.0[8..].chunks_exact_mut(8) {
            random.copy_from_slice(&split_mix(&mut state).to_le_bytes());
        }
        if let Some(schema) = signed {
            block.sign(Signer::Client, schema);
        }
        block
    }

    fn own_time(&mut self, now: Time) -> u32 {
        let began = *self.began.get_or_insert(now);
        self.config.hello_time.wrapping_add(now.since(began).as_millis() as u32)
    }

    fn reach(&mut self, goal: Goal) {
        self.pursuit.arrive(goal);
        self.pending.push_back(Pending::Reached(goal));
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.pursuit.refused = true;
        self.pending.push_back(Pending::Refused(refusal));
    }

    fn message(&mut self, now: Time, header: MessageHeader, payload: &[u8]) {
        match header.type_id {
            type_id::ACKNOWLEDGEMENT
            | type_id::USER_CONTROL
            | type_id::WINDOW_ACK_SIZE
            | type_id::SET_PEER_BANDWIDTH => {
                // A control message that does not decode is ignored: rtmp 5.4 gives it no meaning.
                if let Ok(message) = Message::decode(header.type_id, payload) {
                    self.control(&message);
                }
            }
            _ if !self.server => self.pursued(now, header, payload),
            _ => {}
        }
    }

    fn control(&mut self, message: &Message) {
        match message {
            Message::Acknowledgement(count) => self.flow.acknowledged(*count),
            Message::WindowAckSize(window) => self.flow.peer_window = Some(*window),
            Message::SetPeerBandwidth { size, limit } if self.config.bandwidth => {
                self.bandwidth(*size, *limit);
            }
            Message::UserControl(UserControl::PingRequest(time)) if self.config.pongs => {
                self.queue(&Message::UserControl(UserControl::PingResponse(*time)));
            }
            _ => {}
        }
    }

    /// rtmp 5.4.5: answered when the size is not the one announced last; a window that was asked for stays.
    fn bandwidth(&mut self, size: u32, limit_type: u8) {
        if self.flow.heed(size, limit_type) && self.config.acks && self.config.window.is_none() {
            self.queue(&Message::WindowAckSize(size));
        }
    }

    /// rtmp 5.4.3: after each window of bytes, counted from the last acknowledgement. The number is all bytes received,
    /// the handshake included, modulo 2^32.
    fn acknowledge(&mut self) {
        if self.config.acks && self.may_speak() && self.flow.due() {
            self.flow.last_ack = self.flow.received;
            self.queue(&Message::Acknowledgement(self.flow.received as u32));
        }
    }

    fn queue(&mut self, message: &Message) {
        if self.may_speak() {
            let mut out = std::mem::take(&mut self.out);
            if out.capacity() == 0 {
                out.reserve(QUEUED_ROOM);
            }
            self.encode(&mut out, message, Fields::default());
            self.out = out;
        }
    }

    fn encode(&mut self, out: &mut Vec<u8>, message: &Message, fields: Fields) {
        // A payload made by hand goes where good peers put what it decodes to.
        let decoded = match message {
            Message::Unknown { type_id, payload } => Message::decode(*type_id, payload).ok(),
            _ => None,
        };
        let meaning = decoded.as_ref().unwrap_or(message);
        let (csid, on_stream) = customary(meaning);
        let msid = fields.msid.unwrap_or_else(|| self.pursuit.msid.filter(|_| on_stream).unwrap_or(0));
        let header = MessageHeader {
            csid: fields.csid.unwrap_or(csid),
            timestamp: fields.timestamp.unwrap_or(0),
            len: 0,
            type_id: message.type_id(),
            msid,
        };
        let before = out.len();
        match message {
            Message::Audio(payload) | Message::Video(payload) | Message::Unknown { payload, .. } => {
                self.writer.write(out, header, payload, fields.fmt);
            }
            _ => {
                let mut payload = Vec::with_capacity(QUEUED_ROOM);
                message.encode(&mut payload);
                self.writer.write(out, header, &payload, fields.fmt);
            }
        }
        self.flow.sent += (out.len() - before) as u64;
        match meaning {
            Message::WindowAckSize(window) => self.flow.window_sent = Some(*window),
            Message::Command(command) if !self.server => self.pursuit.sent(command, header.msid),
            _ => {}
        }
    }
}

/// The chunk stream that good peers put a message on, and whether it goes on a message stream.
pub fn customary(message: &Message) -> (u32, bool) {
    match message {
        Message::SetChunkSize(_)
        | Message::Abort(_)
        | Message::Acknowledgement(_)
        | Message::UserControl(_)
        | Message::WindowAckSize(_)
        | Message::SetPeerBandwidth { .. } => (2, false), // rtmp 5.4, 6.2
        Message::SharedObject(..) => (3, false),
        Message::Command(command) => {
            let on_stream = NET_STREAM_COMMANDS.iter().any(|name| command.name == *name);
            (if on_stream { 8 } else { 3 }, on_stream)
        }
        Message::Audio(_) => (4, true),
        Message::Data(..) => (5, true),
        Message::Video(_) => (6, true),
        Message::Unknown { type_id: type_id::COMMAND_AMF0 | type_id::COMMAND_AMF3, .. } => (3, false),
        Message::Unknown { type_id: ..=type_id::SET_PEER_BANDWIDTH, .. } => (2, false),
        Message::Aggregate(_) | Message::Unknown { .. } => (7, true),
    }
}

/// What most that a session says by itself fits into, a message or two, in bytes: it is to grow at once.
const QUEUED_ROOM: usize = 128;
/// What most connects fit into, in bytes.
const COMMAND_ROOM: usize = 512;

/// rtmp 7.2.2: what is said on a message stream; every other command is one of NetConnection.
const NET_STREAM_COMMANDS: &[&str] =
    &["play", "play2", "publish", "closeStream", "receiveAudio", "receiveVideo", "seek", "pause", "onStatus"];

/// What C1 says in place of the zero word when it is signed: that of a player with digests.
const CLIENT_VERSION: u32 = 0x8000_0702;
/// What S1 says in place of the zero word when it is signed.
const SERVER_VERSION: u32 = 0x0405_0001;

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
