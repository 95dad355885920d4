//! The chunk layer: headers, the tolerant reader, the writer of good peers, and raw chunks (rtmp 5.3).

mod raw;
mod reader;
mod writer;
mod wrong;

pub use raw::RawChunk;
pub use reader::ChunkReader;
pub use writer::ChunkWriter;
pub use wrong::{Misread, Miswrite};

use super::note::Note;

/// The chunk size of each direction until Set Chunk Size says otherwise (rtmp 5.4.1).
pub const DEFAULT_CHUNK_SIZE: u32 = 128;
/// The largest length that the 24-bit field holds.
pub const MAX_MESSAGE_LEN: u32 = 0xFF_FFFF;
/// The 24-bit timestamp that stands for "see the extended timestamp" (rtmp 5.3.1.3).
const EXTENDED: u32 = 0xFF_FFFF;

/// The chunk size that the payload of a Set Chunk Size puts in force: without its top bit, at most the longest message; `None` for 0 or
/// a payload that is too short (rtmp 5.4.1).
fn chunk_size_of(payload: &[u8]) -> Option<u32> {
    let size = u32::from_be_bytes(*payload.first_chunk()?) & 0x7FFF_FFFF;
    (size != 0).then_some(size.min(MAX_MESSAGE_LEN))
}

/// The chunk type, the first two bits of a chunk (rtmp 5.3.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Fmt {
    /// Type 0: 11 bytes, an absolute timestamp and everything else.
    Type0 = 0,
    /// Type 1: 7 bytes, a delta, length and type.
    Type1 = 1,
    /// Type 2: 3 bytes, a delta.
    Type2 = 2,
    /// Type 3: no message header.
    Type3 = 3,
}

impl Fmt {
    /// The type that the first two bits of a basic header name.
    fn of(first: u8) -> Fmt {
        match first >> 6 {
            0 => Fmt::Type0,
            1 => Fmt::Type1,
            2 => Fmt::Type2,
            _ => Fmt::Type3,
        }
    }
}

/// A chunk header exactly as it stood on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChunkHeader {
    /// Offset of its first byte, in bytes from the first byte this side received (handshake included when the session counts it).
    pub offset: u64,
    /// Chunk type.
    pub fmt: Fmt,
    /// Chunk stream id, 2 to 65599.
    pub csid: u32,
    /// Bytes of the basic header: 1, 2 or 3.
    pub basic_len: u8,
    /// The 24-bit timestamp or delta field, in types 0 to 2.
    pub timestamp: Option<u32>,
    /// The message length field, in types 0 and 1.
    pub len: Option<u32>,
    /// The message type id field, in types 0 and 1.
    pub type_id: Option<u8>,
    /// The message stream id field, in type 0.
    pub msid: Option<u32>,
    /// The extended timestamp, where read.
    pub ext: Option<u32>,
    /// Whether a message begins here (false: a continuation).
    pub first: bool,
    /// Payload bytes this chunk carries.
    pub payload_len: u32,
}

/// What the chunk layer knows of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageHeader {
    /// Chunk stream id.
    pub csid: u32,
    /// Absolute timestamp in milliseconds, modulo 2^32.
    pub timestamp: u32,
    /// Payload length in bytes.
    pub len: u32,
    /// Message type id.
    pub type_id: u8,
    /// Message stream id.
    pub msid: u32,
}

/// What [`ChunkReader::read`] found next. Payloads are lent: from the input when a message lies whole in it, else from the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadEvent<'a> {
    /// A chunk header; only with [`ChunkReader::report_chunks`].
    Chunk(ChunkHeader),
    /// A whole message.
    Message(MessageHeader, &'a [u8]),
    /// A departure; what it departs in was read all the same.
    Note(Note),
}

/// What [`ChunkReader::skim`] found next: nothing is stored, payload slices pass through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice<'a> {
    /// The message that the slice belongs to.
    pub header: MessageHeader,
    /// Where the slice begins inside the message's payload, in bytes.
    pub at: u32,
    /// The bytes; empty for an empty message.
    pub bytes: &'a [u8],
    /// Whether the message ends with this slice.
    pub last: bool,
}

/// How chunks are read and written where the text leaves it open, where peers do differently, or wrongly on request. The default is the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quirks {
    /// A type 3 chunk that begins a message right after a type 0 chunk: the text's delta is the type 0 timestamp.
    pub type3_after_type0: Type3Delta,
    /// The extended timestamp on type 3 chunks.
    pub type3_ext: Type3Ext,
    /// A wrong way to read.
    pub misread: Option<Misread>,
    /// A wrong way to write.
    pub miswrite: Option<Miswrite>,
}

/// The delta that a type 3 chunk right after a type 0 chunk stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Type3Delta {
    /// The type 0 timestamp, as rtmp 5.3.1.2.4 says.
    #[default]
    Timestamp,
    /// Zero, as several servers do.
    Zero,
}

/// Whether type 3 chunks carry the extended timestamp of their header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Type3Ext {
    /// Always, as rtmp 5.3.1.3 says.
    #[default]
    Present,
    /// Never, as librtmp does.
    Absent,
    /// Present when the four bytes equal the header's, else absent.
    Peeked,
}

/// What a reader may hold. Lengths off the wire allocate nothing: memory grows with bytes that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Messages begun and not finished, at most.
    pub open_messages: usize,
    /// Payload bytes of unfinished messages, at most.
    pub held_bytes: usize,
    /// The longest message.
    pub message_len: u32,
    /// Chunk streams whose headers are remembered, at most.
    pub chunk_streams: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { open_messages: 64, held_bytes: 32 << 20, message_len: MAX_MESSAGE_LEN, chunk_streams: 1024 }
    }
}

/// Why a chunk stream cannot be read any further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("chunk at byte {offset}: {kind}")]
pub struct ChunkError {
    /// Offset of the chunk's first byte.
    pub offset: u64,
    /// What is wrong with it.
    pub kind: ChunkErrorKind,
}

/// What is wrong with a chunk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkErrorKind {
    /// A type 2 or 3 chunk (which has no length) on a chunk stream that had no header yet.
    #[error("type {fmt} on chunk stream {csid}, which has no earlier header to take the length from")]
    NoHeader {
        /// Chunk stream id.
        csid: u32,
        /// Chunk type, 2 or 3.
        fmt: u8,
    },
    /// A limit of ours, not of the protocol, was met.
    #[error("{what} {value} is above the limit of {limit}")]
    Limit {
        /// Which limit.
        what: &'static str,
        /// What was asked for.
        value: u64,
        /// What is allowed.
        limit: u64,
    },
}
