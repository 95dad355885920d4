//! One connection, client or server: bytes and time in, events and bytes out.

use bytes::Bytes;

use super::amf0::Value;
use super::chunk::{ChunkError, ChunkHeader, Fmt, Limits, MessageHeader, Quirks};
use super::handshake::{Block, Schema};
use super::message::Message;
use super::note::Note;
use super::time::Time;

/// How far a client session is to go by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Goal {
    /// Nothing is sent; what comes is read.
    #[default]
    Open,
    /// C2 sent.
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
    /// Whether acknowledgements are sent as the peer's window asks.
    pub acks: bool,
    /// Whether ping requests are answered.
    pub pongs: bool,
    /// A Window Acknowledgement Size announced after the handshake.
    pub window: Option<u32>,
    /// A Set Chunk Size announced after the handshake.
    pub chunk_size: Option<u32>,
    /// C1's (or S1's) time, not 0 by default so that echoes of zero show.
    pub hello_time: u32,
    /// Sign C1 in this schema; `None`: the plain handshake.
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
            acks: true,
            pongs: true,
            window: None,
            chunk_size: None,
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
    config: Config,
}

impl Session {
    /// A client that reads and sends nothing until [`Session::pursue`].
    pub fn client(config: Config) -> Session {
        Session { config }
    }

    /// A server: it answers the handshake, acks and pings by itself; commands are events for the caller to answer.
    pub fn server(config: Config) -> Session {
        Session { config }
    }

    /// The stream name that publish and play will use from now on.
    pub fn rename(&mut self, name: String) {
        self.config.name = name;
    }

    /// Sets the goal and queues what can be sent towards it. From where the session is: what was done by hand is not done again.
    pub fn pursue(&mut self, now: Time, goal: Goal) {
        let _ = (now, goal);
        panic!("skeleton")
    }

    /// The next event from `bytes`, consumed from the front; `None`: more are needed. Also when automatic answers were queued: see [`Session::output`].
    ///
    /// # Errors
    /// When the peer's bytes cannot be read further.
    pub fn read<'a>(&'a mut self, now: Time, bytes: &mut &'a [u8]) -> Result<Option<Event<'a>>, Error> {
        let _ = (now, bytes);
        panic!("skeleton")
    }

    /// What is to be sent, all of it; empty when nothing is.
    pub fn output(&mut self) -> Bytes {
        panic!("skeleton")
    }

    /// When [`Session::timeout`] wants to be called.
    pub fn deadline(&self) -> Option<Time> {
        panic!("skeleton")
    }

    /// Tells the session that its deadline came.
    pub fn timeout(&mut self, now: Time) {
        let _ = now;
        panic!("skeleton")
    }

    /// The chunks of a message, for the caller to send as it likes; the writer's state moves on as if they were sent.
    pub fn encode(&mut self, message: &Message, fields: Fields) -> Bytes {
        let _ = (message, fields);
        panic!("skeleton")
    }

    /// Queues a message.
    pub fn send(&mut self, message: &Message, fields: Fields) {
        let _ = (message, fields);
        panic!("skeleton")
    }

    /// Tells the session that these handshake bytes were sent by hand: so many bytes of the own side are done.
    pub fn sent_handshake(&mut self, bytes: &[u8]) {
        let _ = bytes;
        panic!("skeleton")
    }

    /// The message stream id that createStream returned.
    pub fn msid(&self) -> Option<u32> {
        panic!("skeleton")
    }

    /// How far the session came.
    pub fn reached(&self) -> Goal {
        panic!("skeleton")
    }

    /// The peer's C1 or S1, once it is in.
    pub fn peer_hello(&self) -> Option<&Block> {
        panic!("skeleton")
    }

    /// A correct C1 (or S1) for this session, as configured.
    pub fn hello(&self) -> Block {
        let _ = &self.config;
        panic!("skeleton")
    }

    /// Bytes received so far, handshake included.
    pub fn received(&self) -> u64 {
        panic!("skeleton")
    }
}
