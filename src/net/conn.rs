//! A [`Session`](crate::wire::session::Session) over any byte stream, with everything that passed kept in order.
//!
//! A pump task reads, feeds the session, writes what it answers by itself and appends to the log; whoever drives the
//! connection waits for log entries and writes bytes. Works under simulated time: the clock is tokio's.

use std::io;
use std::pin::Pin;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::wire::chunk::{ChunkHeader, MessageHeader};
use crate::wire::handshake::Block;
use crate::wire::note::Note;
use crate::wire::session::{self, Goal, Refusal};
use crate::wire::time::Time;

/// A byte stream that can also be reset. TCP, TLS and the in-memory pipe are ones.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {
    /// Ends the stream by RST instead of FIN when it is dropped next.
    ///
    /// # Errors
    /// When the socket refuses the option.
    fn reset(&mut self) -> io::Result<()>;
}

/// Opens connections to one target: TCP to a real one, in-memory pipes to the reference server.
pub trait Dial: Send + Sync {
    /// A new connection.
    fn dial(&self) -> Pin<Box<dyn Future<Output = io::Result<Box<dyn Io>>> + Send + '_>>;
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
}

/// How a side ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum How {
    /// End of stream.
    Fin,
    /// Connection reset.
    Rst,
}
