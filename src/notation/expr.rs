//! What the notation's text parses into: values, payloads, messages and patterns over them, with variables where scenarios have them.

use bstr::BString;

use crate::wire::amf0::Value;

/// Where a token stands in its file, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Pos {
    /// Line.
    pub line: u32,
    /// Column, in characters.
    pub column: u32,
}

/// A string with variables in braces: `"a-{name}"`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Text(pub Vec<TextPart>);

/// A part of a [`Text`].
#[derive(Debug, Clone, PartialEq)]
pub enum TextPart {
    /// As it stands.
    Literal(BString),
    /// The value of a variable.
    Var(String),
    /// `*`: anything in a pattern, itself elsewhere (`\\*` is a literal star everywhere).
    Star,
}

/// A value that may contain variables. Numbers are `f64` throughout: exact for every integer the protocol has.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// A literal without variables inside: `1`, `0xFF`, `nan`, `true`, `null`, `undefined`, `date(…)`, `ref(n)`, …
    Literal(Value),
    /// `"a-{name}"`; kind tells string, `long("…")` and `xml("…")` apart.
    Text(TextKind, Text),
    /// `$x`, `$x+20`, `$x-20` (modulo 2^32).
    Var {
        /// Name without the `$`.
        name: String,
        /// What is added.
        plus: i64,
    },
    /// `{k: v}`, `ecma{…}`, `typed "C" {…}`.
    Object(ObjectKind, Vec<(Text, Expr)>),
    /// `[…]`.
    Array(Vec<Expr>),
    /// `amf3(v)`.
    Amf3(Box<Expr>),
    /// `amf3(PAYLOAD)`: marker 0x11 and these bytes.
    Amf3Bytes(Payload),
    /// `raw(PAYLOAD)`: any bytes where a value stands.
    Raw(Payload),
}

impl Text {
    /// Whether it is this, and no variable in it.
    pub fn is(&self, text: &str) -> bool {
        matches!(&self.0[..], [TextPart::Literal(literal)] if literal == text)
    }
}

impl Expr {
    /// Whether this text is the value or stands in it.
    pub fn says(&self, text: &str) -> bool {
        match self {
            Expr::Text(_, own) => own.is(text),
            Expr::Object(_, fields) => fields.iter().any(|(_, value)| value.says(text)),
            Expr::Array(items) => items.iter().any(|item| item.says(text)),
            Expr::Amf3(inner) => inner.says(text),
            Expr::Amf3Bytes(payload) | Expr::Raw(payload) => payload.says(text),
            Expr::Literal(_) | Expr::Var { .. } => false,
        }
    }
}

impl Payload {
    /// Whether this text stands in it as a value or the name of a command.
    pub fn says(&self, text: &str) -> bool {
        self.0.iter().any(|piece| match piece {
            Piece::Amf0(values) => values.iter().any(|value| value.says(text)),
            Piece::Wire(message, _) => message.says(text),
            Piece::Repeat(_, inner) | Piece::Cut(inner, ..) => inner.says(text),
            _ => false,
        })
    }
}

impl MessageExpr {
    /// As of a payload.
    pub fn says(&self, text: &str) -> bool {
        match self {
            MessageExpr::Command { name, args, .. } => name.is(text) || args.iter().any(|arg| arg.says(text)),
            MessageExpr::Data { values, .. } => values.iter().any(|value| value.says(text)),
            MessageExpr::Aggregate(parts) => parts.iter().any(|(part, _)| part.says(text)),
            MessageExpr::UserControl(_, payload)
            | MessageExpr::Opaque(_, payload)
            | MessageExpr::Raw(_, payload) => payload.says(text),
            MessageExpr::Control(..) | MessageExpr::SetPeerBandwidth(..) | MessageExpr::Event(..) => false,
        }
    }
}

/// Which AMF0 string marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextKind {
    /// Marker 0x02 (0x0C when too long).
    String,
    /// Marker 0x0C.
    Long,
    /// Marker 0x0F.
    Xml,
}

/// Which kind of object.
#[derive(Debug, Clone, PartialEq)]
pub enum ObjectKind {
    /// Marker 0x03.
    Object,
    /// Marker 0x08.
    Ecma,
    /// Marker 0x10, with its class name.
    Typed(BString),
}

/// Bytes: pieces side by side are joined.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Payload(pub Vec<Piece>);

/// A piece of a payload.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// `hex "17 01"`.
    Hex(Vec<u8>),
    /// `text "GET / HTTP/1.1\r\n"`.
    Text(Text),
    /// `fill(byte, n)`.
    Fill(Expr, Expr),
    /// `random(n)`: from the run's seed.
    Random(Expr),
    /// `be16(n) be24 be32 le32`.
    Int {
        /// Bytes, 1 to 4.
        width: u8,
        /// Least significant byte first.
        little_endian: bool,
        /// The number; it is cut to the width.
        value: Expr,
    },
    /// `f64(n)`.
    F64(Expr),
    /// `amf0(v, …)`.
    Amf0(Vec<Expr>),
    /// `wire(MESSAGE [fields])`: the chunks of a message as a fresh writer at the default chunk size makes them.
    Wire(Box<MessageExpr>, SendFields),
    /// `repeat(n, PAYLOAD)`.
    Repeat(Expr, Payload),
    /// `cut(PAYLOAD, from, to)`: from inclusive, to exclusive.
    Cut(Payload, Expr, Expr),
    /// `avc.key(300)`: valid media of exactly so many payload bytes; headers take no size.
    Media(MediaKind, Option<Expr>),
    /// `$v`: bytes bound by `let` or `for`.
    Var(String),
}

/// Valid media that the tool makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum MediaKind {
    AvcHeader,
    AvcKey,
    AvcInter,
    AacHeader,
    AacFrame,
    Mp3,
    H263Key,
}

/// A message to send.
#[derive(Debug, Clone, PartialEq)]
pub enum MessageExpr {
    /// `SetChunkSize n`, `Abort n`, `Acknowledgement n`, `WindowAckSize n`: types 1, 2, 3, 5.
    Control(u8, Expr),
    /// `SetPeerBandwidth n hard|soft|dynamic|N`.
    SetPeerBandwidth(Expr, Expr),
    /// `StreamBegin 0` and the like: event type and its 32-bit words.
    Event(u16, Vec<Expr>),
    /// `UserControl event PAYLOAD`.
    UserControl(Expr, Payload),
    /// `audio PAYLOAD` (8), `video PAYLOAD` (9), `sharedobject PAYLOAD` (19, 16 with `amf3`).
    Opaque(u8, Payload),
    /// `data(v, …)`: type 18, or 15 with `amf3`.
    Data {
        /// Whether `amf3` stood before it.
        amf3: bool,
        /// The values.
        values: Vec<Expr>,
    },
    /// `name(transaction id, object, …)`: type 20, or 17 with `amf3`.
    Command {
        /// Whether `amf3` stood before it.
        amf3: bool,
        /// The command's name.
        name: Text,
        /// Transaction id, command object, arguments.
        args: Vec<Expr>,
    },
    /// `aggregate { MESSAGE ts=n … }`: type 22.
    Aggregate(Vec<(MessageExpr, SendFields)>),
    /// `message type=N PAYLOAD`.
    Raw(Expr, Payload),
}

/// The fields behind a message to send; `None` is the customary value.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SendFields {
    /// `csid=`.
    pub csid: Option<Expr>,
    /// `ts=`, milliseconds; `ts=+20` is relative to the last message of its type on this connection.
    pub ts: Option<TsExpr>,
    /// `msid=`.
    pub msid: Option<Expr>,
    /// `fmt=`.
    pub fmt: Option<Expr>,
}

/// A timestamp to send.
#[derive(Debug, Clone, PartialEq)]
pub enum TsExpr {
    /// Milliseconds.
    At(Expr),
    /// Milliseconds after the last message of its type.
    After(Expr),
}

/// A pattern over one value.
#[derive(Debug, Clone, PartialEq)]
pub enum Pat {
    /// `_`.
    Any,
    /// `$x` where it first stands binds, afterwards it must be equal; `$x = a..b` binds within a range; `$x+20` must be equal.
    Var {
        /// Name.
        name: String,
        /// What is added before comparing; only once it is bound.
        plus: i64,
        /// Both ends included.
        range: Option<(Expr, Expr)>,
    },
    /// `a..b`, both ends included.
    Range(Expr, Expr),
    /// Equal to a value.
    Is(Expr),
    /// A string with `*` in it.
    Glob(Text),
    /// `{k: p, …}`: an object, ECMA array or typed object with at least these fields when `...` ends it, else exactly these.
    Object(Vec<(BString, Pat)>, bool),
    /// `[p, …]`, open when `...` ends it.
    Array(Vec<Pat>, bool),
    /// `!p`.
    Not(Box<Pat>),
    /// `p | q`.
    Or(Vec<Pat>),
}

/// A pattern over one message.
#[derive(Debug, Clone, PartialEq)]
pub struct MessagePat {
    /// What it must be.
    pub kind: MessageKindPat,
    /// `csid=`, `ts=`, `msid=`, `len=`, `type=` as they must be.
    pub fields: Vec<(FieldName, Pat)>,
}

/// A field of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum FieldName {
    Csid,
    Ts,
    Msid,
    Len,
    Type,
}

/// What a message must be.
#[derive(Debug, Clone, PartialEq)]
pub enum MessageKindPat {
    /// `message`: any.
    Any,
    /// `SetChunkSize p` and the like: type and value.
    Control(u8, Pat),
    /// `SetPeerBandwidth p q`.
    SetPeerBandwidth(Pat, Pat),
    /// `StreamBegin p` and the like: event type and its words.
    Event(u16, Vec<Pat>),
    /// `UserControl p`: any event of this number.
    UserControl(Pat),
    /// `audio`, `video`, `sharedobject`, `aggregate`: the type alone (AMF3 forms included).
    Type(u8),
    /// `audio PAYLOAD`: the type and exactly these bytes.
    Bytes(u8, Payload),
    /// `data(p, …)`: types 18 and 15; open when `...` ends it.
    Data(Vec<Pat>, bool),
    /// `name(p, …)`: types 20 and 17. The name may hold `*`; `command(name pattern, …)` takes any pattern.
    Command(Box<Pat>, Vec<Pat>, bool),
    /// `coded`: an audio or video message that carries media (no headers, no metadata).
    Coded,
}
