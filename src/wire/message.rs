//! Each message type, to and from its payload (rtmp 5.4, 6, 7).

use bstr::BString;
use bytes::Bytes;

use super::amf0::{self, Value};
use super::amf3;

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
    /// `None` where no number follows the name (one real message ends there).
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
    /// A command without a name.
    #[error("{0}")]
    Command(&'static str),
    /// Types 15, 16 and 17 begin with a byte 0.
    #[error("the byte before the values is {0:#04x}, not 0")]
    Selector(u8),
}

impl Message {
    /// The message type id this is written with.
    pub fn type_id(&self) -> u8 {
        match self {
            Message::SetChunkSize(_) => type_id::SET_CHUNK_SIZE,
            Message::Abort(_) => type_id::ABORT,
            Message::Acknowledgement(_) => type_id::ACKNOWLEDGEMENT,
            Message::UserControl(_) => type_id::USER_CONTROL,
            Message::WindowAckSize(_) => type_id::WINDOW_ACK_SIZE,
            Message::SetPeerBandwidth { .. } => type_id::SET_PEER_BANDWIDTH,
            Message::Audio(_) => type_id::AUDIO,
            Message::Video(_) => type_id::VIDEO,
            Message::Data(Encoding::Amf0, _) => type_id::DATA_AMF0,
            Message::Data(Encoding::Amf3, _) => type_id::DATA_AMF3,
            Message::SharedObject(Encoding::Amf0, _) => type_id::SHARED_OBJECT_AMF0,
            Message::SharedObject(Encoding::Amf3, _) => type_id::SHARED_OBJECT_AMF3,
            Message::Command(command) => match command.encoding {
                Encoding::Amf0 => type_id::COMMAND_AMF0,
                Encoding::Amf3 => type_id::COMMAND_AMF3,
            },
            Message::Aggregate(_) => type_id::AGGREGATE,
            Message::Unknown { type_id, .. } => *type_id,
        }
    }

    /// Decodes a payload. Extra bytes behind a fixed layout are ignored (the reader notes them).
    ///
    /// # Errors
    /// When the payload is shorter than its layout or its AMF is undecodable.
    pub fn decode(type_id: u8, payload: &[u8]) -> Result<Message, DecodeError> {
        let bytes = || Bytes::copy_from_slice(payload);
        Ok(match type_id {
            // rtmp 5.4.1: the top bit must be zero; it is kept here, for the reader to note.
            type_id::SET_CHUNK_SIZE => Message::SetChunkSize(be32("Set Chunk Size", payload, 0)?),
            type_id::ABORT => Message::Abort(be32("Abort", payload, 0)?),
            type_id::ACKNOWLEDGEMENT => Message::Acknowledgement(be32("Acknowledgement", payload, 0)?),
            type_id::USER_CONTROL => Message::UserControl(UserControl::decode(payload)?),
            type_id::WINDOW_ACK_SIZE => {
                Message::WindowAckSize(be32("Window Acknowledgement Size", payload, 0)?)
            }
            type_id::SET_PEER_BANDWIDTH => {
                let [a, b, c, d, limit] = *array("Set Peer Bandwidth", payload, 0)?;
                Message::SetPeerBandwidth { size: u32::from_be_bytes([a, b, c, d]), limit }
            }
            type_id::AUDIO => Message::Audio(bytes()),
            type_id::VIDEO => Message::Video(bytes()),
            type_id::DATA_AMF0 => Message::Data(Encoding::Amf0, amf0::decode_all(payload)?),
            type_id::DATA_AMF3 => {
                Message::Data(Encoding::Amf3, selected_values("an AMF3 data message", payload)?)
            }
            type_id::SHARED_OBJECT_AMF0 => Message::SharedObject(Encoding::Amf0, bytes()),
            type_id::SHARED_OBJECT_AMF3 => {
                let body = selected("an AMF3 shared object message", payload)?;
                Message::SharedObject(Encoding::Amf3, Bytes::copy_from_slice(body))
            }
            type_id::COMMAND_AMF0 => {
                Message::Command(Command::new(Encoding::Amf0, amf0::decode_all(payload)?)?)
            }
            type_id::COMMAND_AMF3 => {
                let values = selected_values("an AMF3 command message", payload)?;
                Message::Command(Command::new(Encoding::Amf3, values)?)
            }
            type_id::AGGREGATE => Message::Aggregate(aggregate(payload)?),
            type_id => Message::Unknown { type_id, payload: bytes() },
        })
    }

    /// Appends the payload to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Message::SetChunkSize(n)
            | Message::Abort(n)
            | Message::Acknowledgement(n)
            | Message::WindowAckSize(n) => out.extend_from_slice(&n.to_be_bytes()),
            Message::UserControl(event) => event.encode(out),
            Message::SetPeerBandwidth { size, limit } => {
                out.extend_from_slice(&size.to_be_bytes());
                out.push(*limit);
            }
            Message::Audio(payload) | Message::Video(payload) | Message::Unknown { payload, .. } => {
                out.extend_from_slice(payload);
            }
            Message::Data(encoding, values) => {
                select(*encoding, out);
                amf0::encode_all(values, out);
            }
            Message::SharedObject(encoding, body) => {
                select(*encoding, out);
                out.extend_from_slice(body);
            }
            Message::Command(command) => command.encode(out),
            Message::Aggregate(parts) => parts.iter().for_each(|part| part.encode(out)),
        }
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

impl Command {
    // rtmp 7.1.1: the name, the transaction id, then the command object.
    fn new(encoding: Encoding, mut args: Vec<Value>) -> Result<Command, DecodeError> {
        let name = match args.first_mut() {
            Some(Value::String(name) | Value::LongString(name)) => std::mem::take(name),
            Some(Value::Amf3(amf3::Value::String(name))) => std::mem::take(name),
            Some(_) => return Err(DecodeError::Command("a command whose first value is no string")),
            None => return Err(DecodeError::Command("a command without a name")),
        };
        let transaction_id = match args.get(1) {
            Some(Value::Number(n)) => Some(*n),
            Some(Value::Amf3(amf3::Value::Double(n))) => Some(*n),
            Some(Value::Amf3(amf3::Value::Integer(n))) => Some(f64::from(*n)),
            _ => None,
        };
        args.drain(..1 + usize::from(transaction_id.is_some()));
        Ok(Command { encoding, name, transaction_id, args })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        select(self.encoding, out);
        amf0::put_string(out, &self.name);
        if let Some(id) = self.transaction_id {
            Value::Number(id).encode(out);
        }
        amf0::encode_all(&self.args, out);
    }
}

impl UserControl {
    /// The event type.
    pub fn event(&self) -> u16 {
        match self {
            UserControl::StreamBegin(_) => 0,
            UserControl::StreamEof(_) => 1,
            UserControl::StreamDry(_) => 2,
            UserControl::SetBufferLength { .. } => 3,
            UserControl::StreamIsRecorded(_) => 4,
            UserControl::PingRequest(_) => 6,
            UserControl::PingResponse(_) => 7,
            UserControl::Unknown { event, .. } => *event,
        }
    }

    fn decode(payload: &[u8]) -> Result<UserControl, DecodeError> {
        let event = u16::from_be_bytes(*array("User Control", payload, 0)?);
        let word = |what| be32(what, payload, 2);
        Ok(match event {
            0 => UserControl::StreamBegin(word("Stream Begin")?),
            1 => UserControl::StreamEof(word("Stream EOF")?),
            2 => UserControl::StreamDry(word("StreamDry")?),
            3 => UserControl::SetBufferLength {
                msid: word("SetBuffer Length")?,
                ms: be32("SetBuffer Length", payload, 6)?,
            },
            4 => UserControl::StreamIsRecorded(word("StreamIs Recorded")?),
            6 => UserControl::PingRequest(word("PingRequest")?),
            7 => UserControl::PingResponse(word("PingResponse")?),
            _ => UserControl::Unknown { event, data: Bytes::copy_from_slice(&payload[2..]) },
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.event().to_be_bytes());
        match self {
            UserControl::StreamBegin(n)
            | UserControl::StreamEof(n)
            | UserControl::StreamDry(n)
            | UserControl::StreamIsRecorded(n)
            | UserControl::PingRequest(n)
            | UserControl::PingResponse(n) => out.extend_from_slice(&n.to_be_bytes()),
            UserControl::SetBufferLength { msid, ms } => {
                out.extend_from_slice(&msid.to_be_bytes());
                out.extend_from_slice(&ms.to_be_bytes());
            }
            UserControl::Unknown { data, .. } => out.extend_from_slice(data),
        }
    }
}

/// Bytes of an FLV tag's head, which sub messages begin with (rtmp 7.1.6, flv E.4.1).
const SUB_HEAD_LEN: usize = 11;

impl SubMessage {
    /// A part with the back pointer that fits.
    pub fn new(type_id: u8, timestamp: u32, payload: Bytes) -> SubMessage {
        let back_pointer = u32::try_from(SUB_HEAD_LEN + payload.len()).unwrap_or(u32::MAX);
        SubMessage { type_id, timestamp, msid: 0, payload, back_pointer }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.type_id);
        out.extend_from_slice(&u32::try_from(self.payload.len()).unwrap_or(u32::MAX).to_be_bytes()[1..]);
        // The split of FLV: the low 24 bits, then the high 8.
        out.extend_from_slice(&self.timestamp.to_be_bytes()[1..]);
        out.extend_from_slice(&self.timestamp.to_be_bytes()[..1]);
        out.extend_from_slice(&self.msid.to_be_bytes()[1..]);
        out.extend_from_slice(&self.payload);
        out.extend_from_slice(&self.back_pointer.to_be_bytes());
    }
}

/// The parts of an aggregate message with the times they stand for: the aggregate's time plus the part's distance from the first part, in milliseconds
/// modulo 2^32 (rtmp 7.1.6).
pub fn normalised(
    aggregate_timestamp: u32,
    parts: &[SubMessage],
) -> impl Iterator<Item = (u32, &SubMessage)> {
    let first = parts.first().map_or(0, |part| part.timestamp);
    parts.iter().map(move |part| (aggregate_timestamp.wrapping_add(part.timestamp.wrapping_sub(first)), part))
}

fn aggregate(payload: &[u8]) -> Result<Vec<SubMessage>, DecodeError> {
    let mut parts = Vec::new();
    let mut at = 0;
    while at < payload.len() {
        let [type_id, l2, l1, l0, t2, t1, t0, t3, s2, s1, s0] =
            *array::<SUB_HEAD_LEN>("the head of an aggregate's part", payload, at)?;
        at += SUB_HEAD_LEN;
        let end = at + u32::from_be_bytes([0, l2, l1, l0]) as usize;
        let Some(body) = payload.get(at..end) else {
            return Err(DecodeError::Short { what: "an aggregate's part", have: payload.len(), need: end });
        };
        parts.push(SubMessage {
            type_id,
            timestamp: u32::from_be_bytes([t3, t2, t1, t0]),
            msid: u32::from_be_bytes([0, s2, s1, s0]),
            payload: Bytes::copy_from_slice(body),
            back_pointer: be32("the back pointer of an aggregate's part", payload, end)?,
        });
        at = end + 4;
    }
    Ok(parts)
}

fn array<'a, const N: usize>(
    what: &'static str,
    payload: &'a [u8],
    at: usize,
) -> Result<&'a [u8; N], DecodeError> {
    let short = DecodeError::Short { what, have: payload.len(), need: at + N };
    payload.get(at..).and_then(|rest| rest.first_chunk()).ok_or(short)
}

fn be32(what: &'static str, payload: &[u8], at: usize) -> Result<u32, DecodeError> {
    array(what, payload, at).map(|bytes| u32::from_be_bytes(*bytes))
}

/// The byte 0 that types 15, 16 and 17 begin with.
fn select(encoding: Encoding, out: &mut Vec<u8>) {
    if encoding == Encoding::Amf3 {
        out.push(0);
    }
}

/// What follows the byte 0 of types 15, 16 and 17.
fn selected<'a>(what: &'static str, payload: &'a [u8]) -> Result<&'a [u8], DecodeError> {
    match payload.split_first() {
        Some((0, rest)) => Ok(rest),
        Some((selector, _)) => Err(DecodeError::Selector(*selector)),
        None => Err(DecodeError::Short { what, have: 0, need: 1 }),
    }
}

fn selected_values(what: &'static str, payload: &[u8]) -> Result<Vec<Value>, DecodeError> {
    let values = amf0::decode_all(selected(what, payload)?);
    Ok(values.map_err(|e| amf0::DecodeError { offset: e.offset + 1, kind: e.kind })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(message: &Message) -> Vec<u8> {
        let mut out = Vec::new();
        message.encode(&mut out);
        out
    }

    #[test]
    fn every_type_comes_back_from_its_payload() {
        let part = |time| SubMessage::new(8, time, Bytes::from_static(b"\x2fabc"));
        let values = || vec![Value::from("onMetaData"), Value::Number(1.5)];
        let command = |encoding, transaction_id| {
            Message::Command(Command { encoding, name: "close".into(), transaction_id, args: vec![] })
        };
        let messages = [
            Message::SetChunkSize(4096),
            Message::Abort(3),
            Message::Acknowledgement(u32::MAX),
            Message::UserControl(UserControl::StreamBegin(1)),
            Message::UserControl(UserControl::StreamEof(1)),
            Message::UserControl(UserControl::StreamDry(1)),
            Message::UserControl(UserControl::SetBufferLength { msid: 1, ms: 3000 }),
            Message::UserControl(UserControl::StreamIsRecorded(1)),
            Message::UserControl(UserControl::PingRequest(7)),
            Message::UserControl(UserControl::PingResponse(7)),
            Message::UserControl(UserControl::Unknown { event: 32, data: Bytes::from_static(&[0, 0, 0, 1]) }),
            Message::UserControl(UserControl::Unknown { event: 26, data: Bytes::new() }),
            Message::WindowAckSize(2_500_000),
            Message::SetPeerBandwidth { size: 2_500_000, limit: 2 },
            Message::Audio(Bytes::from_static(&[0xAF, 1, 2])),
            Message::Video(Bytes::new()),
            Message::Data(Encoding::Amf0, values()),
            Message::Data(Encoding::Amf3, values()),
            Message::Data(Encoding::Amf0, vec![]),
            Message::SharedObject(Encoding::Amf0, Bytes::from_static(b"\x00\x01a")),
            Message::SharedObject(Encoding::Amf3, Bytes::from_static(b"\x00\x01a")),
            command(Encoding::Amf0, Some(0.0)),
            command(Encoding::Amf3, Some(4.0)),
            command(Encoding::Amf0, None),
            Message::Aggregate(vec![]),
            Message::Aggregate(vec![part(0xFFFF_FFF0), part(4)]),
            Message::Unknown { type_id: 7, payload: Bytes::from_static(b"x") },
        ];
        for message in messages {
            assert_eq!(Message::decode(message.type_id(), &bytes(&message)).as_ref(), Ok(&message));
        }
    }

    #[test]
    fn wrong_payloads_say_what_is_wrong() {
        let rows: [(u8, &[u8], &str); 14] = [
            (1, &[0, 0, 1], "Set Chunk Size: 3 bytes where 4 are needed"),
            (4, &[0], "User Control: 1 bytes where 2 are needed"),
            (4, &[0, 3, 0, 0, 0, 1], "SetBuffer Length: 6 bytes where 10 are needed"),
            (6, &[0, 0, 0, 1], "Set Peer Bandwidth: 4 bytes where 5 are needed"),
            (15, &[], "an AMF3 data message: 0 bytes where 1 are needed"),
            (15, &[2, 0, 1, b'a'], "the byte before the values is 0x02, not 0"),
            (16, &[1], "the byte before the values is 0x01, not 0"),
            (17, &[0, 0x13], "amf0 at byte 1: unknown marker 0x13"),
            (17, &[0], "a command without a name"),
            (20, &[], "a command without a name"),
            (20, &[5], "a command whose first value is no string"),
            (18, &[2, 0, 2, b'a'], "amf0 at byte 3: ends inside a string"),
            (22, &[8, 0, 0], "the head of an aggregate's part: 3 bytes where 11 are needed"),
            (22, &[8, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], "an aggregate's part: 11 bytes where 12 are needed"),
        ];
        for (type_id, payload, error) in rows {
            assert_eq!(
                Message::decode(type_id, payload).map_err(|e| e.to_string()),
                Err(error.into()),
                "{payload:?}"
            );
        }
    }

    #[test]
    fn bytes_behind_a_fixed_layout_are_ignored() {
        assert_eq!(Message::decode(3, &[0, 0, 0, 9, 1]), Ok(Message::Acknowledgement(9)));
        let begin = Message::UserControl(UserControl::StreamBegin(1));
        assert_eq!(Message::decode(4, &[0, 0, 0, 0, 0, 1, 0xFF]), Ok(begin));
    }

    #[test]
    fn a_command_without_number_keeps_its_arguments() {
        let payload = [2, 0, 1, b'f', 5];
        let Ok(Message::Command(command)) = Message::decode(20, &payload) else { panic!("no command") };
        assert_eq!((command.transaction_id, command.args), (None, vec![Value::Null]));
    }

    #[test]
    fn parts_are_timed_from_the_aggregate() {
        let parts = [0xFFFF_FFFE, 1, 0xFFFF_FFF0].map(|time| SubMessage::new(9, time, Bytes::new()));
        let times: Vec<u32> = normalised(10, &parts).map(|(time, _)| time).collect();
        assert_eq!(times, [10, 13, 0xFFFF_FFFC]);
    }
}
