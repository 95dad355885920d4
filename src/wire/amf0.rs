//! AMF0 values, to and from bytes (amf0-file-format-specification).

use bstr::BString;

use super::amf3;

/// The fields of an object, in the order of the wire; a name may come twice.
pub type Fields = Vec<(BString, Value)>;

/// One AMF0 value. Strings are bytes: the text says UTF-8, the wire does not always.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Marker 0x00.
    Number(f64),
    /// Marker 0x01.
    Boolean(bool),
    /// Marker 0x02, at most 65535 bytes; longer ones are encoded as [`Value::LongString`].
    String(BString),
    /// Marker 0x03.
    Object(Fields),
    /// Marker 0x04, reserved: never has a body.
    MovieClip,
    /// Marker 0x05.
    Null,
    /// Marker 0x06.
    Undefined,
    /// Marker 0x07: the index of an earlier complex value of the same message.
    Reference(u16),
    /// Marker 0x08. The count on the wire is a hint; the number of fields is written.
    EcmaArray(Fields),
    /// Marker 0x0A.
    StrictArray(Vec<Value>),
    /// Marker 0x0B: milliseconds since 1970 and a time zone that should be 0.
    Date {
        /// Milliseconds since 1970-01-01 UTC.
        ms: f64,
        /// Minutes; reserved, should be 0.
        zone: i16,
    },
    /// Marker 0x0C.
    LongString(BString),
    /// Marker 0x0D.
    Unsupported,
    /// Marker 0x0E, reserved: never has a body.
    RecordSet,
    /// Marker 0x0F.
    Xml(BString),
    /// Marker 0x10.
    Typed {
        /// The class name.
        class: BString,
        /// The fields.
        fields: Fields,
    },
    /// Marker 0x11: one value in AMF3.
    Amf3(amf3::Value),
}

/// How deep values may nest before decoding is refused.
pub const MAX_DEPTH: usize = 64;

/// Why bytes are not AMF0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("amf0 at byte {offset}: {kind}")]
pub struct DecodeError {
    /// Offset from the start of the payload, in bytes.
    pub offset: usize,
    /// What is wrong there.
    pub kind: DecodeErrorKind,
}

/// What is wrong with the bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeErrorKind {
    /// The bytes end inside a value.
    #[error("ends inside {0}")]
    Truncated(&'static str),
    /// No value begins with this marker.
    #[error("unknown marker {0:#04x}")]
    Marker(u8),
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// The AMF3 part after marker 0x11 is wrong.
    #[error("{0}")]
    Amf3(amf3::DecodeErrorKind),
}

/// Decodes values until the payload ends.
///
/// # Errors
/// With the offset and what is wrong there.
pub fn decode_all(payload: &[u8]) -> Result<Vec<Value>, DecodeError> {
    let _ = payload;
    panic!("skeleton")
}

impl Value {
    /// Appends the value's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let _ = out;
        panic!("skeleton")
    }

    /// The field of this name, if this is an object, a typed object or an ECMA array that has it.
    pub fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Object(fields) | Value::EcmaArray(fields) | Value::Typed { fields, .. } => {
                fields.iter().find(|(k, _)| k == name).map(|(_, v)| v)
            }
            _ => None,
        }
    }

    /// The text of a string, long string or XML document.
    pub fn as_text(&self) -> Option<&bstr::BStr> {
        match self {
            Value::String(s) | Value::LongString(s) | Value::Xml(s) => Some(bstr::BStr::new(s)),
            _ => None,
        }
    }

    /// The number, if this is one.
    pub fn as_number(&self) -> Option<f64> {
        if let Value::Number(n) = self { Some(*n) } else { None }
    }

    /// An object of text fields, in this order.
    pub fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
        Value::Object(fields.into_iter().map(|(k, v)| (k.into(), v)).collect())
    }
}

impl From<&str> for Value {
    fn from(s: &str) -> Value {
        Value::String(s.into())
    }
}

impl From<f64> for Value {
    fn from(n: f64) -> Value {
        Value::Number(n)
    }
}
