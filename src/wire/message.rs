//! Each message type, to and from its payload (rtmp 5.4, 6, 7).

use bstr::BString;
use bytes::Bytes;

use super::amf0::{self, Value};

/// The message type ids.
pub mod type_id {
    #![allow(missing_docs)]
    pub const SET_CHUNK_SIZE: u8 = 1;
    pub const ABORT: u8 = 2;
    pub const ACKNOWLEDGEMENT: u8 = 3;
    pub const USER_CONTROL: u8 = 4;
    pub const WINDOW_ACK_SIZE: u8 = 5;
    pub const SET_PEER_BANDWIDTH: u8 = 6;
    pub const AUDIO: u8 = 8;
    pub const VIDEO: u8 = 9;
    pub const DATA_AMF3: u8 = 15;
    pub const SHARED_OBJECT_AMF3: u8 = 16;
    pub const COMMAND_AMF3: u8 = 17;
    pub const DATA_AMF0: u8 = 18;
    pub const SHARED_OBJECT_AMF0: u8 = 19;
    pub const COMMAND_AMF0: u8 = 20;
    pub const AGGREGATE: u8 = 22;
}

/// Whether a data, shared object or command message is of the AMF0 type or of the AMF3 type (with its selector byte).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Encoding {
    /// Types 18, 19, 20.
    #[default]
    Amf0,
    /// Types 15, 16, 17.
    Amf3,
}

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Type 1, bytes.
    SetChunkSize(u32),
    /// Type 2, the chunk stream id.
    Abort(u32),
    /// Type 3, bytes received so far.
    Acknowledgement(u32),
    /// Type 4.
    UserControl(UserControl),
    /// Type 5, bytes.
    WindowAckSize(u32),
    /// Type 6.
    SetPeerBandwidth {
        /// Bytes.
        size: u32,
        /// 0 hard, 1 soft, 2 dynamic; others are undefined.
        limit: u8,
    },
    /// Type 8: an FLV audio tag body.
    Audio(Bytes),
    /// Type 9: an FLV video tag body.
    Video(Bytes),
    /// Types 18 and 15: the values, the first of which is the handler's name.
    Data(Encoding, Vec<Value>),
    /// Types 19 and 16.
    SharedObject(Encoding, Bytes),
    /// Types 20 and 17.
    Command(Command),
    /// Type 22.
    Aggregate(Vec<SubMessage>),
    /// Any other type.
    Unknown {
        /// Message type id.
        type_id: u8,
        /// Payload.
        payload: Bytes,
    },
}

/// A command: name, transaction id, and what follows (command object first).
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// AMF0 or AMF3 form.
    pub encoding: Encoding,
    /// For example `connect`.
    pub name: BString,
    /// `None` where the message ends before it (one real message does).
    pub transaction_id: Option<f64>,
    /// The command object and the arguments.
    pub args: Vec<Value>,
}

/// A user control event (rtmp 7.1.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserControl {
    /// Event 0, message stream id.
    StreamBegin(u32),
    /// Event 1, message stream id.
    StreamEof(u32),
    /// Event 2, message stream id.
    StreamDry(u32),
    /// Event 3.
    SetBufferLength {
        /// Message stream id.
        msid: u32,
        /// Milliseconds.
        ms: u32,
    },
    /// Event 4, message stream id.
    StreamIsRecorded(u32),
    /// Event 6, the server's time in milliseconds.
    PingRequest(u32),
    /// Event 7, the time of the request.
    PingResponse(u32),
    /// Any other event.
    Unknown {
        /// Event type.
        event: u16,
        /// Event data.
        data: Bytes,
    },
}

/// A part of an aggregate message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubMessage {
    /// Message type id.
    pub type_id: u8,
    /// The timestamp as written in the sub message, milliseconds.
    pub timestamp: u32,
    /// The stream id as written (24 bits).
    pub msid: u32,
    /// Payload.
    pub payload: Bytes,
    /// The back pointer as written; 11 + length when right.
    pub back_pointer: u32,
}

/// Why a payload does not decode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Shorter than its layout.
    #[error("{what}: {have} bytes where {need} are needed")]
    Short {
        /// The message or part.
        what: &'static str,
        /// Bytes there.
        have: usize,
        /// Bytes needed.
        need: usize,
    },
    /// The AMF inside is wrong.
    #[error(transparent)]
    Amf0(#[from] amf0::DecodeError),
    /// A command that does not begin with a string and a number.
    #[error("{0}")]
    Command(&'static str),
}

impl Message {
    /// The message type id this is written with.
    pub fn type_id(&self) -> u8 {
        panic!("skeleton")
    }

    /// Decodes a payload. Extra bytes behind a fixed layout are ignored (the reader notes them).
    ///
    /// # Errors
    /// When the payload is shorter than its layout or its AMF is undecodable.
    pub fn decode(type_id: u8, payload: &[u8]) -> Result<Message, DecodeError> {
        let _ = (type_id, payload);
        panic!("skeleton")
    }

    /// Appends the payload to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let _ = out;
        panic!("skeleton")
    }

    /// A command in AMF0.
    pub fn command(name: &str, transaction_id: f64, args: Vec<Value>) -> Message {
        Message::Command(Command {
            encoding: Encoding::Amf0,
            name: name.into(),
            transaction_id: Some(transaction_id),
            args,
        })
    }
}
