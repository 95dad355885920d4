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

/// How deep values may nest before decoding is refused: this many containers inside one another are read.
pub const MAX_DEPTH: usize = 64;
/// How many values one payload may hold, nested ones counted, before decoding is refused. One value costs as little as a byte on the wire and some
/// fifty in memory.
pub const MAX_VALUES: usize = 1 << 18;

/// Why bytes are not AMF0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("amf0 at byte {offset}: {kind}")]
pub struct DecodeError {
    /// Offset from the start of the payload, in bytes: of the marker or field that is wrong, or that the bytes end in.
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
    /// More values than [`MAX_VALUES`].
    #[error("more than {MAX_VALUES} values")]
    TooMany,
    /// The AMF3 part after marker 0x11 is wrong.
    #[error("amf3: {0}")]
    Amf3(amf3::DecodeErrorKind),
}

/// Decodes values until the payload ends.
///
/// # Errors
/// With the offset and what is wrong there.
pub fn decode_all(payload: &[u8]) -> Result<Vec<Value>, DecodeError> {
    let mut decoder = Decoder { r: Reader::new(payload), amf3: amf3::Tables::default() };
    let mut values = Vec::new();
    while !decoder.r.is_empty() {
        values.push(decoder.value(0)?);
    }
    Ok(values)
}

/// Appends the bytes of the values, one after the other, to `out`.
pub fn encode_all(values: &[Value], out: &mut Vec<u8>) {
    for value in values {
        value.encode(out);
    }
}

/// Bytes of a payload, read from the front; a failed read consumes nothing.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    /// Bytes consumed so far.
    pub(super) at: usize,
    /// Values that may still be read.
    left: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0, left: MAX_VALUES }
    }

    fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// The next `n` bytes, or `what` as the name of what the bytes end in.
    pub(super) fn take(&mut self, n: usize, what: &'static str) -> Result<&'a [u8], &'static str> {
        let taken = self.bytes[self.at..].get(..n).ok_or(what)?;
        self.at += n;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], &'static str> {
        let taken = *self.bytes[self.at..].first_chunk().ok_or(what)?;
        self.at += N;
        Ok(taken)
    }

    /// The next byte, not consumed.
    pub(super) fn peek(&self, what: &'static str) -> Result<u8, &'static str> {
        self.bytes.get(self.at).copied().ok_or(what)
    }

    /// Counts a value; false when there were too many.
    pub(super) fn count(&mut self) -> bool {
        let within = self.left > 0;
        self.left = self.left.saturating_sub(1);
        within
    }
}

struct Decoder<'a> {
    r: Reader<'a>,
    /// amf3 4.1: the reference tables live as long as the message.
    amf3: amf3::Tables,
}

impl Decoder<'_> {
    fn fail<T>(&self, kind: DecodeErrorKind) -> Result<T, DecodeError> {
        Err(DecodeError { offset: self.r.at, kind })
    }

    fn bytes<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        self.r.array(what).or_else(|what| self.fail(DecodeErrorKind::Truncated(what)))
    }

    fn text(&mut self, len: usize, what: &'static str) -> Result<BString, DecodeError> {
        match self.r.take(len, what) {
            Ok(bytes) => Ok(bytes.into()),
            Err(what) => self.fail(DecodeErrorKind::Truncated(what)),
        }
    }

    // amf0 1.3.1: the length of a UTF-8 string is an unsigned 16-bit integer.
    fn short_text(&mut self, what: &'static str) -> Result<BString, DecodeError> {
        let len = u16::from_be_bytes(self.bytes(what)?);
        self.text(usize::from(len), what)
    }

    // amf0 1.3.1: that of a long one has 32 bits.
    fn long_text(&mut self, what: &'static str) -> Result<BString, DecodeError> {
        let len = u32::from_be_bytes(self.bytes(what)?);
        self.text(usize::try_from(len).unwrap_or(usize::MAX), what)
    }

    /// The value that begins here, inside `depth` containers.
    fn value(&mut self, depth: usize) -> Result<Value, DecodeError> {
        let Ok(marker) = self.r.peek("a value") else {
            return self.fail(DecodeErrorKind::Truncated("a value"));
        };
        if !self.r.count() {
            return self.fail(DecodeErrorKind::TooMany);
        }
        if matches!(marker, 0x03 | 0x08 | 0x0A | 0x10) && depth == MAX_DEPTH {
            return self.fail(DecodeErrorKind::TooDeep);
        }
        if marker > 0x11 || marker == 0x09 {
            // amf0 2.11: an object end stands only behind an empty name, inside an object.
            return self.fail(DecodeErrorKind::Marker(marker));
        }
        self.r.at += 1;
        Ok(match marker {
            0x00 => Value::Number(f64::from_be_bytes(self.bytes("a number")?)),
            // amf0 2.3: zero is false, every other byte true.
            0x01 => Value::Boolean(self.bytes::<1>("a boolean")? != [0]),
            0x02 => Value::String(self.short_text("a string")?),
            0x03 => Value::Object(self.fields(depth)?),
            0x04 => Value::MovieClip,
            0x05 => Value::Null,
            0x06 => Value::Undefined,
            0x07 => Value::Reference(u16::from_be_bytes(self.bytes("a reference")?)),
            0x08 => {
                self.bytes::<4>("the count of an ECMA array")?;
                Value::EcmaArray(self.fields(depth)?)
            }
            0x0A => self.strict_array(depth)?,
            0x0B => Value::Date {
                ms: f64::from_be_bytes(self.bytes("a date")?),
                zone: i16::from_be_bytes(self.bytes("a date's time zone")?),
            },
            0x0C => Value::LongString(self.long_text("a long string")?),
            0x0D => Value::Unsupported,
            0x0E => Value::RecordSet,
            0x0F => Value::Xml(self.long_text("an XML document")?),
            0x10 => Value::Typed { class: self.short_text("a class name")?, fields: self.fields(depth)? },
            _ => match amf3::decode(&mut self.r, &mut self.amf3, depth) {
                Ok(value) => Value::Amf3(value),
                Err(kind) => return self.fail(DecodeErrorKind::Amf3(kind)),
            },
        })
    }

    // amf0 2.5: an empty name followed by the object end marker ends the fields; an empty name alone does not.
    fn fields(&mut self, depth: usize) -> Result<Fields, DecodeError> {
        let mut fields = Fields::new();
        loop {
            let name = self.short_text("a field's name")?;
            if name.is_empty() && self.r.peek("") == Ok(0x09) {
                self.r.at += 1;
                return Ok(fields);
            }
            fields.push((name, self.value(depth + 1)?));
        }
    }

    fn strict_array(&mut self, depth: usize) -> Result<Value, DecodeError> {
        let count = u32::from_be_bytes(self.bytes("the count of a strict array")?);
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(self.value(depth + 1)?);
        }
        Ok(Value::StrictArray(values))
    }
}

/// A length or count field; what memory holds is always below 4 GiB here.
fn be32(n: usize) -> [u8; 4] {
    u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes()
}

fn put_name(out: &mut Vec<u8>, name: &[u8]) {
    let len = u16::try_from(name.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&name[..usize::from(len)]);
}

/// Appends a string as [`Value::encode`] does.
pub(super) fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    if text.len() > usize::from(u16::MAX) {
        return put_long(out, 0x0C, text);
    }
    out.push(0x02);
    put_name(out, text);
}

fn put_long(out: &mut Vec<u8>, marker: u8, text: &[u8]) {
    out.push(marker);
    out.extend_from_slice(&be32(text.len()));
    out.extend_from_slice(text);
}

fn put_fields(out: &mut Vec<u8>, fields: &Fields) {
    for (name, value) in fields {
        put_name(out, name);
        value.encode(out);
    }
    out.extend_from_slice(&[0, 0, 9]);
}

impl Value {
    /// Appends the value's bytes to `out`. A string above 65535 bytes becomes a long string; a name of a field or class has no long form and is cut there.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Value::Number(n) => {
                out.push(0x00);
                out.extend_from_slice(&n.to_be_bytes());
            }
            Value::Boolean(b) => out.extend_from_slice(&[0x01, u8::from(*b)]),
            Value::String(s) => put_string(out, s),
            Value::Object(fields) => {
                out.push(0x03);
                put_fields(out, fields);
            }
            Value::MovieClip => out.push(0x04),
            Value::Null => out.push(0x05),
            Value::Undefined => out.push(0x06),
            Value::Reference(index) => {
                out.push(0x07);
                out.extend_from_slice(&index.to_be_bytes());
            }
            Value::EcmaArray(fields) => {
                out.push(0x08);
                out.extend_from_slice(&be32(fields.len()));
                put_fields(out, fields);
            }
            Value::StrictArray(values) => {
                out.push(0x0A);
                out.extend_from_slice(&be32(values.len()));
                encode_all(values, out);
            }
            Value::Date { ms, zone } => {
                out.push(0x0B);
                out.extend_from_slice(&ms.to_be_bytes());
                out.extend_from_slice(&zone.to_be_bytes());
            }
            Value::LongString(s) => put_long(out, 0x0C, s),
            Value::Unsupported => out.push(0x0D),
            Value::RecordSet => out.push(0x0E),
            Value::Xml(s) => put_long(out, 0x0F, s),
            Value::Typed { class, fields } => {
                out.push(0x10);
                put_name(out, class);
                put_fields(out, fields);
            }
            Value::Amf3(value) => {
                out.push(0x11);
                value.encode(out);
            }
        }
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

    /// The text of a string, long string or XML document, or of a string in AMF3.
    pub fn as_text(&self) -> Option<&bstr::BStr> {
        match self {
            Value::String(s) | Value::LongString(s) | Value::Xml(s) | Value::Amf3(amf3::Value::String(s)) => {
                Some(bstr::BStr::new(s))
            }
            _ => None,
        }
    }

    /// The number, if this is one, in AMF3 too.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Value::Number(n) | Value::Amf3(amf3::Value::Double(n)) => Some(*n),
            Value::Amf3(amf3::Value::Integer(n)) => Some(f64::from(*n)),
            _ => None,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn error(payload: &[u8]) -> String {
        decode_all(payload).map_or_else(|e| e.to_string(), |values| format!("{values:?}"))
    }

    fn round_trip(value: Value) {
        let mut out = Vec::new();
        value.encode(&mut out);
        assert_eq!(decode_all(&out), Ok(vec![value]), "{out:02x?}");
    }

    /// `levels` containers inside one another.
    fn nested(levels: usize, open: &[u8], close: &[u8]) -> Vec<u8> {
        [open.repeat(levels), vec![0x05], close.repeat(levels)].concat()
    }

    #[test]
    fn every_kind_of_value_comes_back() {
        let fields =
            || vec![("a".into(), Value::Null), ("a".into(), Value::Boolean(true)), ("".into(), Value::Null)];
        for value in [
            Value::Number(-0.5),
            Value::Number(f64::INFINITY),
            Value::Number(5e-324),
            Value::Boolean(false),
            Value::from(""),
            Value::String(b"\xC0\x80\xFF".into()),
            Value::String(vec![b'x'; 65535].into()),
            Value::Object(fields()),
            Value::Object(vec![]),
            Value::MovieClip,
            Value::Null,
            Value::Undefined,
            Value::Reference(65535),
            Value::EcmaArray(fields()),
            Value::StrictArray(vec![Value::Null, Value::StrictArray(vec![]), Value::Undefined]),
            Value::Date { ms: 1e12, zone: -60 },
            Value::LongString("short".into()),
            Value::Unsupported,
            Value::RecordSet,
            Value::Xml("<a/>".into()),
            Value::Typed { class: "C".into(), fields: fields() },
            Value::Amf3(amf3::Value::Integer(-1)),
        ] {
            round_trip(value);
        }
    }

    #[test]
    fn nan_keeps_its_bits() {
        let bytes = [0, 0x7F, 0xF8, 0, 0, 0, 0, 0x12, 0x34];
        let mut out = Vec::new();
        encode_all(&decode_all(&bytes).expect("a number"), &mut out);
        assert_eq!(out, bytes);
    }

    #[test]
    fn a_string_too_long_for_16_bits_becomes_a_long_string() {
        let text = BString::from(vec![b'x'; 65536]);
        let mut out = Vec::new();
        Value::String(text.clone()).encode(&mut out);
        assert_eq!(decode_all(&out), Ok(vec![Value::LongString(text)]));
    }

    #[test]
    fn a_name_too_long_for_16_bits_is_cut() {
        let mut out = Vec::new();
        Value::Object(vec![(vec![b'x'; 65536].into(), Value::Null)]).encode(&mut out);
        assert_eq!(decode_all(&out), Ok(vec![Value::Object(vec![(vec![b'x'; 65535].into(), Value::Null)])]));
    }

    #[test]
    fn wrong_bytes_say_where_and_what() {
        let rows: [(&[u8], &str); 18] = [
            (&[0x00, 1, 2], "amf0 at byte 1: ends inside a number"),
            (&[0x05, 0x01], "amf0 at byte 2: ends inside a boolean"),
            (&[0x02, 0xFF, 0xFF, b'a'], "amf0 at byte 3: ends inside a string"),
            (&[0x03], "amf0 at byte 1: ends inside a field's name"),
            (&[0x03, 0, 0], "amf0 at byte 3: ends inside a value"),
            (&[0x03, 0, 1, b'a'], "amf0 at byte 4: ends inside a value"),
            (&[0x03, 0, 1, b'a', 0x09], "amf0 at byte 4: unknown marker 0x09"),
            (&[0x07, 0], "amf0 at byte 1: ends inside a reference"),
            (&[0x08, 0, 0, 0], "amf0 at byte 1: ends inside the count of an ECMA array"),
            (&[0x08, 0, 0, 0, 1, 0, 1, b'a', 0x05], "amf0 at byte 9: ends inside a field's name"),
            (&[0x09], "amf0 at byte 0: unknown marker 0x09"),
            (&[0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0x05], "amf0 at byte 6: ends inside a value"),
            (&[0x0B, 0, 0, 0, 0, 0, 0, 0, 0, 1], "amf0 at byte 9: ends inside a date's time zone"),
            (&[0x0C, 0xFF, 0xFF, 0xFF, 0xFF], "amf0 at byte 5: ends inside a long string"),
            (&[0x0F, 0, 0, 0, 1], "amf0 at byte 5: ends inside an XML document"),
            (&[0x10, 0, 1], "amf0 at byte 3: ends inside a class name"),
            (&[0x11, 0x11], "amf0 at byte 1: amf3: dictionary, which is not read"),
            (&[0x05, 0x12], "amf0 at byte 1: unknown marker 0x12"),
        ];
        for (payload, expected) in rows {
            assert_eq!(error(payload), expected, "{payload:02x?}");
        }
    }

    #[test]
    fn nesting_is_read_to_the_limit_and_refused_beyond() {
        let kinds: [(&[u8], &[u8]); 4] = [
            (&[0x03, 0, 1, b'a'], &[0, 0, 9]),
            (&[0x08, 0, 0, 0, 0, 0, 1, b'a'], &[0, 0, 9]),
            (&[0x0A, 0, 0, 0, 1], &[]),
            (&[0x10, 0, 0, 0, 1, b'a'], &[0, 0, 9]),
        ];
        for (open, close) in kinds {
            assert!(decode_all(&nested(MAX_DEPTH, open, close)).is_ok(), "{open:?}");
            let offset = MAX_DEPTH * open.len();
            let refused = DecodeError { offset, kind: DecodeErrorKind::TooDeep };
            assert_eq!(decode_all(&nested(MAX_DEPTH + 1, open, close)), Err(refused.clone()), "{open:?}");
            assert_eq!(decode_all(&nested(100_000, open, close)), Err(refused), "{open:?}");
        }
    }

    #[test]
    fn as_many_values_as_the_limit_are_read() {
        assert_eq!(decode_all(&vec![0x05; MAX_VALUES]).map(|v| v.len()), Ok(MAX_VALUES));
        let refused = DecodeError { offset: MAX_VALUES, kind: DecodeErrorKind::TooMany };
        assert_eq!(decode_all(&vec![0x05; MAX_VALUES + 1]), Err(refused));
    }

    #[test]
    fn the_count_of_an_ecma_array_is_a_hint() {
        for count in [[0; 4], [0, 0, 0, 1], [0xFF; 4]] {
            let payload = [&[0x08], &count[..], &[0, 1, b'a', 0x05, 0, 0, 9]].concat();
            assert_eq!(decode_all(&payload), Ok(vec![Value::EcmaArray(vec![("a".into(), Value::Null)])]));
        }
    }

    #[test]
    fn the_switch_to_amf3_lasts_one_value() {
        let values = decode_all(&[0x11, 0x04, 0x05, 0x05]).expect("two values");
        assert_eq!(values, [Value::Amf3(amf3::Value::Integer(5)), Value::Null]);
    }

    #[test]
    fn get_finds_the_first_of_a_name() {
        let object = Value::object([("a", 1.0.into()), ("a", 2.0.into())]);
        assert_eq!(object.get("a"), Some(&Value::Number(1.0)));
        assert_eq!(object.get("b"), None);
        assert_eq!(Value::from("a").get("a"), None);
    }
}
