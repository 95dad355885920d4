//! Messages into text.

use std::fmt::Write;

use bstr::{BStr, ByteSlice};

use super::amf3::{from_plain, plain};
use super::parse::{CONTROLS, EVENTS, command_name};
use crate::notation::expr::Pos;
use crate::wire::amf0::Value;
use crate::wire::chunk::{ChunkHeader, MessageHeader};
use crate::wire::message::{Command, Encoding, Message, SubMessage, UserControl};

/// Bytes of a payload that a brief form shows.
const BRIEF_BYTES: usize = 16;
/// The longest brief form, in bytes of text.
const BRIEF_TEXT: usize = 400;

/// The canonical text of a message: parsing it gives the message's bytes and fields again.
pub fn print(message: &Message, header: &MessageHeader) -> String {
    let mut printer = Printer { out: String::new(), brief: false };
    printer.message(message);
    printer.fields(header);
    printer.out
}

/// The text of a message for people: long payloads and strings are cut, and their length is told.
pub fn brief(message: &Message, header: &MessageHeader) -> String {
    let mut printer = Printer { out: String::new(), brief: true };
    printer.message(message);
    printer.end_brief();
    printer.fields(header);
    printer.out
}

/// The canonical text of a payload: as a message where that gives the same bytes again, else `message type=N hex "…"`.
pub fn print_payload(header: &MessageHeader, payload: &[u8]) -> String {
    let mut printer = Printer { out: String::new(), brief: false };
    printer.payload_of(header.type_id, payload);
    printer.fields(header);
    printer.out
}

/// The text of a payload for people.
pub fn brief_payload(header: &MessageHeader, payload: &[u8]) -> String {
    match Message::decode(header.type_id, payload) {
        Ok(message) => brief(&message, header),
        Err(_) => {
            let mut printer = Printer { out: String::new(), brief: true };
            printer.raw(header.type_id, payload);
            printer.fields(header);
            printer.out
        }
    }
}

/// The fields of a chunk header as they stood: `chunk fmt=3 csid=6 size=72`.
pub fn print_chunk(header: &ChunkHeader) -> String {
    let mut out = format!("chunk fmt={} csid={}", header.fmt as u8, header.csid);
    let shortest = 1 + u8::from(header.csid >= 64) + u8::from(header.csid >= 320);
    let fields = [
        ("form", (header.basic_len != shortest).then_some(u32::from(header.basic_len))),
        ("ts", header.timestamp),
        ("len", header.len),
        ("type", header.type_id.map(u32::from)),
        ("msid", header.msid),
        ("ext", header.ext),
        ("size", Some(header.payload_len)),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            _ = write!(out, " {name}={value}");
        }
    }
    if !header.first {
        out.push_str(" first=false");
    }
    out
}

/// A number in its shortest form that reads back as itself.
pub fn number(n: f64) -> String {
    let size = n.abs();
    if n.is_nan() {
        "nan".to_owned()
    } else if size >= 1e16 && n.is_finite() || size < 1e-5 && size > 0.0 {
        format!("{n:e}")
    } else {
        n.to_string()
    }
}

/// A value's text.
pub fn value(value: &Value) -> String {
    let mut printer = Printer { out: String::new(), brief: false };
    printer.value(value);
    printer.out
}

/// A text in quotes.
pub fn quoted(text: &[u8]) -> String {
    let mut printer = Printer { out: String::new(), brief: false };
    printer.string(text.as_bstr());
    printer.out
}

/// Bytes as `hex "…"`.
pub fn hex(bytes: &[u8]) -> String {
    let mut printer = Printer { out: String::new(), brief: false };
    printer.hex(bytes);
    printer.out
}

struct Printer {
    out: String,
    brief: bool,
}

impl Printer {
    fn put(&mut self, text: &str) {
        if !self.full() {
            self.out.push_str(text);
        }
    }

    /// Whether a brief form has no more room.
    fn full(&self) -> bool {
        self.brief && self.out.len() > BRIEF_TEXT
    }

    fn end_brief(&mut self) {
        if self.full() {
            self.out.push('…');
        }
    }

    fn fields(&mut self, header: &MessageHeader) {
        _ = write!(self.out, " csid={} ts={} msid={}", header.csid, header.timestamp, header.msid);
    }

    fn message(&mut self, message: &Message) {
        match message {
            Message::SetChunkSize(n)
            | Message::Abort(n)
            | Message::Acknowledgement(n)
            | Message::WindowAckSize(n) => {
                let name =
                    CONTROLS.iter().find(|(_, id)| *id == message.type_id()).map_or("", |(name, _)| name);
                self.put(&format!("{name} {n}"));
            }
            Message::SetPeerBandwidth { size, limit } => {
                let limit = match limit {
                    0 => "hard".to_owned(),
                    1 => "soft".to_owned(),
                    2 => "dynamic".to_owned(),
                    n => n.to_string(),
                };
                self.put(&format!("SetPeerBandwidth {size} {limit}"));
            }
            Message::UserControl(event) => self.event(event),
            Message::Audio(bytes) => self.opaque("audio", bytes),
            Message::Video(bytes) => self.opaque("video", bytes),
            Message::SharedObject(Encoding::Amf0, bytes) => self.opaque("sharedobject", bytes),
            Message::SharedObject(Encoding::Amf3, bytes) => self.opaque("amf3 sharedobject", bytes),
            Message::Data(encoding, values) => {
                self.put(if *encoding == Encoding::Amf3 { "amf3 data(" } else { "data(" });
                self.list(values.iter());
                self.put(")");
            }
            Message::Command(command) => self.command(command),
            Message::Aggregate(parts) => self.aggregate(parts),
            Message::Unknown { type_id, payload } => self.raw(*type_id, payload),
        }
    }

    fn payload_of(&mut self, type_id: u8, payload: &[u8]) {
        if let Ok(message) = Message::decode(type_id, payload) {
            let mut again = Vec::with_capacity(payload.len());
            message.encode(&mut again);
            if again == payload {
                return self.message(&message);
            }
        }
        self.raw(type_id, payload);
    }

    fn raw(&mut self, type_id: u8, payload: &[u8]) {
        self.opaque(&format!("message type={type_id}"), payload);
    }

    fn opaque(&mut self, name: &str, payload: &[u8]) {
        self.put(name);
        self.put(" ");
        self.hex(payload);
    }

    fn hex(&mut self, bytes: &[u8]) {
        let shown = if self.brief { bytes.len().min(BRIEF_BYTES) } else { bytes.len() };
        self.put("hex \"");
        for (index, word) in bytes[..shown].chunks(4).enumerate() {
            self.put(if index > 0 { " " } else { "" });
            word.iter().for_each(|byte| self.put(&format!("{byte:02x}")));
        }
        self.put(if shown < bytes.len() { " …\"" } else { "\"" });
        if shown < bytes.len() {
            self.put(&format!(" ({} bytes)", bytes.len()));
        }
    }

    fn event(&mut self, event: &UserControl) {
        let words: &[u32] = match event {
            UserControl::StreamBegin(n)
            | UserControl::StreamEof(n)
            | UserControl::StreamDry(n)
            | UserControl::StreamIsRecorded(n)
            | UserControl::PingRequest(n)
            | UserControl::PingResponse(n) => &[*n],
            UserControl::SetBufferLength { msid, ms } => &[*msid, *ms],
            UserControl::Unknown { event, data } => {
                return self.opaque(&format!("UserControl {event}"), data);
            }
        };
        let name =
            EVENTS.iter().find(|(_, number, _)| *number == event.event()).map_or("", |(name, ..)| name);
        self.put(name);
        words.iter().for_each(|word| self.put(&format!(" {word}")));
    }

    fn command(&mut self, command: &Command) {
        if command.encoding == Encoding::Amf3 {
            self.put("amf3 ");
        }
        let id = command.transaction_id.map(Value::Number);
        let args = id.iter().chain(&command.args);
        match command.name.to_str() {
            Ok(name) if is_name(name) && command_name(Pos::default(), name).is_ok() => {
                self.put(name);
                self.put("(");
            }
            _ => {
                self.put("command(");
                self.string(command.name.as_bstr());
                self.put(if id.is_some() || !command.args.is_empty() { ", " } else { "" });
            }
        }
        self.list(args);
        self.put(")");
    }

    fn aggregate(&mut self, parts: &[SubMessage]) {
        // A part says nothing of its back pointer; one that is wrong shows in the bytes alone.
        let right = |part: &SubMessage| part.back_pointer as usize == part.payload.len() + 11;
        if !parts.iter().all(right) {
            let mut payload = Vec::new();
            Message::Aggregate(parts.to_vec()).encode(&mut payload);
            return self.raw(crate::wire::message::type_id::AGGREGATE, &payload);
        }
        self.put("aggregate {");
        for (index, part) in parts.iter().enumerate() {
            self.put(if index > 0 { " ; " } else { " " });
            // An aggregate inside an aggregate is shown as bytes: nothing bounds how deep they nest.
            match part.type_id {
                crate::wire::message::type_id::AGGREGATE => self.raw(part.type_id, &part.payload),
                type_id => self.payload_of(type_id, &part.payload),
            }
            self.put(&format!(" ts={} msid={}", part.timestamp, part.msid));
        }
        self.put(" }");
    }

    fn list<'a>(&mut self, values: impl Iterator<Item = &'a Value>) {
        for (index, value) in values.enumerate() {
            if self.full() {
                return;
            }
            self.put(if index > 0 { ", " } else { "" });
            self.value(value);
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Number(n) => self.put(&number(*n)),
            Value::Boolean(b) => self.put(if *b { "true" } else { "false" }),
            Value::String(s) => self.string(s.as_bstr()),
            Value::Object(fields) => self.object("", fields),
            Value::EcmaArray(fields) => self.object("ecma", fields),
            Value::Typed { class, fields } => {
                self.put("typed ");
                self.string(class.as_bstr());
                self.object(" ", fields);
            }
            Value::MovieClip => self.put("movieclip"),
            Value::Null => self.put("null"),
            Value::Undefined => self.put("undefined"),
            Value::Unsupported => self.put("unsupported"),
            Value::RecordSet => self.put("recordset"),
            Value::Reference(n) => self.put(&format!("ref({n})")),
            Value::StrictArray(values) => {
                self.put("[");
                self.list(values.iter());
                self.put("]");
            }
            Value::Date { ms, zone } => self.put(&format!("date({}, {zone})", number(*ms))),
            Value::LongString(s) => self.wrapped("long", s.as_bstr()),
            Value::Xml(s) => self.wrapped("xml", s.as_bstr()),
            Value::Amf3(value) => {
                let spelt = plain(value);
                self.put("amf3(");
                if self.brief || from_plain(&spelt).as_ref() == Some(value) {
                    self.value(&spelt);
                } else {
                    let mut bytes = Vec::new();
                    value.encode(&mut bytes);
                    self.hex(&bytes);
                }
                self.put(")");
            }
        }
    }

    fn wrapped(&mut self, form: &str, text: &BStr) {
        self.put(form);
        self.put("(");
        self.string(text);
        self.put(")");
    }

    fn object(&mut self, prefix: &str, fields: &[(bstr::BString, Value)]) {
        self.put(prefix);
        self.put("{");
        for (index, (name, value)) in fields.iter().enumerate() {
            if self.full() {
                return;
            }
            self.put(if index > 0 { ", " } else { "" });
            match name.to_str() {
                Ok(name) if is_name(name) => self.put(name),
                _ => self.string(name.as_bstr()),
            }
            self.put(": ");
            self.value(value);
        }
        self.put("}");
    }

    fn string(&mut self, text: &BStr) {
        self.put("\"");
        for (start, end, c) in text.char_indices() {
            if self.full() {
                break;
            }
            match c {
                '"' => self.put("\\\""),
                '\\' => self.put("\\\\"),
                '\n' => self.put("\\n"),
                '\r' => self.put("\\r"),
                '\t' => self.put("\\t"),
                '{' => self.put("\\{"),
                '\u{fffd}' => text[start..end].iter().for_each(|byte| self.put(&format!("\\x{byte:02x}"))),
                c if c.is_control() => {
                    text[start..end].iter().for_each(|byte| self.put(&format!("\\x{byte:02x}")));
                }
                c => self.put(c.encode_utf8(&mut [0; 4])),
            }
        }
        self.put("\"");
    }
}

/// Whether this can stand without quotes.
fn is_name(text: &str) -> bool {
    let first = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    first && text != "_" && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
