//! AMF3 values, to and from bytes (amf3-file-format-spec): as much as message types 15, 16 and 17 carry.

use std::rc::Rc;

use bstr::BString;

use super::amf0::{MAX_DEPTH, MAX_VALUES, Reader};

/// The fields of an object or the named part of an array, in the order of the wire.
pub type Fields = Vec<(BString, Value)>;

/// One AMF3 value. References to strings and traits are resolved; references to objects stay as they are.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Marker 0x00.
    Undefined,
    /// Marker 0x01.
    Null,
    /// Markers 0x02 (false) and 0x03 (true).
    Boolean(bool),
    /// Marker 0x04: 29 bits with a sign. What does not fit is encoded as [`Value::Double`].
    Integer(i32),
    /// Marker 0x05.
    Double(f64),
    /// Marker 0x06.
    String(BString),
    /// Marker 0x07: an XMLDocument.
    XmlDoc(BString),
    /// Marker 0x08: milliseconds since 1970-01-01 UTC.
    Date(f64),
    /// Marker 0x09.
    Array {
        /// The associative part; an empty name cannot be written and ends it.
        named: Fields,
        /// The dense part.
        dense: Vec<Value>,
    },
    /// Marker 0x0A.
    Object(Box<Object>),
    /// Marker 0x0B: an XML of E4X.
    Xml(BString),
    /// Marker 0x0C.
    ByteArray(Vec<u8>),
    /// Marker 0x0D.
    VectorInt {
        /// Whether the length is fixed.
        fixed: bool,
        /// The items.
        items: Vec<i32>,
    },
    /// Marker 0x0E.
    VectorUint {
        /// Whether the length is fixed.
        fixed: bool,
        /// The items.
        items: Vec<u32>,
    },
    /// Marker 0x0F.
    VectorDouble {
        /// Whether the length is fixed.
        fixed: bool,
        /// The items.
        items: Vec<f64>,
    },
    /// Marker 0x10.
    VectorObject {
        /// Whether the length is fixed.
        fixed: bool,
        /// The class of the items, `*` for any.
        class: BString,
        /// The items.
        items: Vec<Value>,
    },
    /// An earlier object of the same message, under the marker that announces it again.
    Reference {
        /// 0x07 to 0x10.
        marker: u8,
        /// Its place in the table of objects.
        index: u32,
    },
}

/// An object: its traits and values.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Object {
    /// The class name; empty for an anonymous object.
    pub class: BString,
    /// The members that the traits name.
    pub sealed: Fields,
    /// The members besides them, for a dynamic object; an empty name cannot be written and ends them.
    pub dynamic: Option<Fields>,
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
    /// No such string came before.
    #[error("reference to string {0}, which did not come yet")]
    StringReference(u32),
    /// No such traits came before.
    #[error("reference to traits {0}, which did not come yet")]
    TraitsReference(u32),
    /// Only the class itself knows the layout of its objects.
    #[error("object of the externalizable class '{0}', whose layout only that class knows")]
    Externalizable(BString),
    /// Marker 0x11 is not read.
    #[error("dictionary, which is not read")]
    Dictionary,
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// More values than [`MAX_VALUES`].
    #[error("more than {MAX_VALUES} values")]
    TooMany,
    /// References to strings repeat more than [`MAX_REPEATED`] bytes.
    #[error("references repeat more than {MAX_REPEATED} bytes of strings")]
    Repeated,
}

/// How many bytes of strings one payload may have by reference or through traits; each costs one byte on the wire and the whole string in memory.
pub const MAX_REPEATED: usize = 16 << 20;

impl From<&'static str> for DecodeErrorKind {
    fn from(what: &'static str) -> DecodeErrorKind {
        DecodeErrorKind::Truncated(what)
    }
}

type Result<T> = std::result::Result<T, DecodeErrorKind>;

/// The strings and traits of a message so far (amf3 2.2).
#[derive(Default)]
pub(super) struct Tables {
    strings: Vec<BString>,
    traits: Vec<Rc<Traits>>,
    repeated: usize,
}

struct Traits {
    class: BString,
    dynamic: bool,
    names: Vec<BString>,
}

/// A copy of a string that stood on the wire elsewhere.
fn repeat(string: &BString, repeated: &mut usize) -> Result<BString> {
    *repeated += string.len();
    if *repeated > MAX_REPEATED { Err(DecodeErrorKind::Repeated) } else { Ok(string.clone()) }
}

/// Decodes the value that begins here, inside `depth` containers. After an error the reader stands where it is.
pub(super) fn decode(r: &mut Reader<'_>, tables: &mut Tables, depth: usize) -> Result<Value> {
    Decoder { r, tables }.value(depth)
}

struct Decoder<'d, 'a> {
    r: &'d mut Reader<'a>,
    tables: &'d mut Tables,
}

impl Decoder<'_, '_> {
    fn value(&mut self, depth: usize) -> Result<Value> {
        let marker = self.r.peek("a value")?;
        if !self.r.count() {
            return Err(DecodeErrorKind::TooMany);
        }
        match marker {
            0x09 | 0x0A | 0x10 if depth == MAX_DEPTH => return Err(DecodeErrorKind::TooDeep),
            0x11 => return Err(DecodeErrorKind::Dictionary),
            0x12.. => return Err(DecodeErrorKind::Marker(marker)),
            _ => self.r.at += 1,
        }
        Ok(match marker {
            0x00 => Value::Undefined,
            0x01 => Value::Null,
            0x02 | 0x03 => Value::Boolean(marker == 0x03),
            // amf3 3.6: bit 28 is the sign.
            0x04 => Value::Integer((self.u29("an integer")? << 3) as i32 >> 3),
            0x05 => Value::Double(f64::from_be_bytes(self.r.array("a double")?)),
            0x06 => Value::String(self.string("a string")?),
            _ => {
                let word = self.u29("a length or reference")?;
                if word & 1 == 0 {
                    return Ok(Value::Reference { marker, index: word >> 1 });
                }
                self.complex(marker, word >> 1, depth)?
            }
        })
    }

    /// A value that the object table counts, behind its first word, which held `n` above the low bit.
    fn complex(&mut self, marker: u8, n: u32, depth: usize) -> Result<Value> {
        let len = n as usize;
        Ok(match marker {
            0x07 => Value::XmlDoc(self.r.take(len, "an XML document")?.into()),
            0x08 => Value::Date(f64::from_be_bytes(self.r.array("a date")?)),
            0x09 => {
                let named = self.fields(depth)?;
                Value::Array { named, dense: self.values(n, depth)? }
            }
            0x0A => self.object(n, depth)?,
            0x0B => Value::Xml(self.r.take(len, "an XML document")?.into()),
            0x0C => Value::ByteArray(self.r.take(len, "a byte array")?.into()),
            _ => {
                let fixed = self.r.array::<1>("a vector")? != [0];
                match marker {
                    0x0D => Value::VectorInt { fixed, items: self.items(len, i32::from_be_bytes)? },
                    0x0E => Value::VectorUint { fixed, items: self.items(len, u32::from_be_bytes)? },
                    0x0F => Value::VectorDouble { fixed, items: self.items(len, f64::from_be_bytes)? },
                    _ => {
                        let class = self.string("the class of a vector")?;
                        Value::VectorObject { fixed, class, items: self.values(n, depth)? }
                    }
                }
            }
        })
    }

    // amf3 1.3.1: seven bits a byte while the top bit is set; a fourth byte has all eight.
    fn u29(&mut self, what: &'static str) -> Result<u32> {
        let mut word = 0;
        for _ in 0..3 {
            let [byte] = self.r.array(what)?;
            word = word << 7 | u32::from(byte & 0x7F);
            if byte & 0x80 == 0 {
                return Ok(word);
            }
        }
        let [byte] = self.r.array(what)?;
        Ok(word << 8 | u32::from(byte))
    }

    // amf3 1.3.2: a reference or the bytes; the empty string is never in the table.
    fn string(&mut self, what: &'static str) -> Result<BString> {
        let word = self.u29(what)?;
        let n = (word >> 1) as usize;
        if word & 1 == 0 {
            let string = self.tables.strings.get(n).ok_or(DecodeErrorKind::StringReference(word >> 1))?;
            return repeat(string, &mut self.tables.repeated);
        }
        let string = BString::from(self.r.take(n, what)?);
        if n > 0 {
            self.tables.strings.push(string.clone());
        }
        Ok(string)
    }

    /// Names and values up to the empty name.
    fn fields(&mut self, depth: usize) -> Result<Fields> {
        let mut fields = Fields::new();
        loop {
            let name = self.string("a field's name")?;
            if name.is_empty() {
                return Ok(fields);
            }
            fields.push((name, self.value(depth + 1)?));
        }
    }

    fn values(&mut self, count: u32, depth: usize) -> Result<Vec<Value>> {
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(self.value(depth + 1)?);
        }
        Ok(values)
    }

    /// The items of a vector of numbers; the bytes must be there before memory is.
    fn items<T, const N: usize>(&mut self, count: usize, item: fn([u8; N]) -> T) -> Result<Vec<T>> {
        let bytes = self.r.take(count.saturating_mul(N), "the items of a vector")?;
        Ok(bytes.as_chunks().0.iter().map(|chunk| item(*chunk)).collect())
    }

    fn traits(&mut self, word: u32) -> Result<Rc<Traits>> {
        if word & 1 == 0 {
            let traits = self.tables.traits.get((word >> 1) as usize);
            return traits.cloned().ok_or(DecodeErrorKind::TraitsReference(word >> 1));
        }
        let class = self.string("a class name")?;
        if word & 2 != 0 {
            return Err(DecodeErrorKind::Externalizable(class));
        }
        let mut names = Vec::new();
        for _ in 0..word >> 3 {
            if !self.r.count() {
                return Err(DecodeErrorKind::TooMany);
            }
            names.push(self.string("the name of a sealed member")?);
        }
        let traits = Rc::new(Traits { class, dynamic: word & 4 != 0, names });
        self.tables.traits.push(Rc::clone(&traits));
        Ok(traits)
    }

    // amf3 3.12: the next bits say whether the traits are here, externalizable, dynamic; the rest counts the sealed members.
    fn object(&mut self, word: u32, depth: usize) -> Result<Value> {
        let traits = self.traits(word)?;
        let class = repeat(&traits.class, &mut self.tables.repeated)?;
        let mut sealed = Fields::new();
        for name in &traits.names {
            let value = self.value(depth + 1)?;
            sealed.push((repeat(name, &mut self.tables.repeated)?, value));
        }
        let dynamic = if traits.dynamic { Some(self.fields(depth)?) } else { None };
        Ok(Value::Object(Box::new(Object { class, sealed, dynamic })))
    }
}

/// The largest 29-bit word.
const U29_MAX: u32 = (1 << 29) - 1;

fn put_u29(out: &mut Vec<u8>, word: u32) {
    let w = word.min(U29_MAX);
    match w {
        0..0x80 => out.push(w as u8),
        0x80..0x4000 => out.extend_from_slice(&[(w >> 7) as u8 | 0x80, w as u8 & 0x7F]),
        0x4000..0x20_0000 => {
            out.extend_from_slice(&[(w >> 14) as u8 | 0x80, (w >> 7) as u8 | 0x80, w as u8 & 0x7F]);
        }
        _ => out.extend_from_slice(&[
            (w >> 22) as u8 | 0x80,
            (w >> 15) as u8 | 0x80,
            (w >> 8) as u8 | 0x80,
            w as u8,
        ]),
    }
}

/// A length or count with the bit that says "no reference".
fn put_len(out: &mut Vec<u8>, len: usize) {
    put_u29(out, u32::try_from(len).unwrap_or(U29_MAX).saturating_mul(2) | 1);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_fields(out: &mut Vec<u8>, fields: &Fields) {
    for (name, value) in fields.iter().filter(|(name, _)| !name.is_empty()) {
        put_bytes(out, name);
        value.encode(out);
    }
    put_bytes(out, b"");
}

fn put_vector<T: Copy, const N: usize>(
    out: &mut Vec<u8>,
    marker: u8,
    fixed: bool,
    items: &[T],
    item: fn(T) -> [u8; N],
) {
    out.push(marker);
    put_len(out, items.len());
    out.push(u8::from(fixed));
    out.extend(items.iter().flat_map(|i| item(*i)));
}

impl Value {
    /// Appends the value's bytes to `out`: strings and traits in full, which is always right.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Value::Undefined => out.push(0x00),
            Value::Null => out.push(0x01),
            Value::Boolean(b) => out.push(0x02 + u8::from(*b)),
            Value::Integer(n) if (-(1 << 28)..1 << 28).contains(n) => {
                out.push(0x04);
                put_u29(out, *n as u32 & U29_MAX);
            }
            Value::Integer(n) => Value::Double(f64::from(*n)).encode(out),
            Value::Double(n) => {
                out.push(0x05);
                out.extend_from_slice(&n.to_be_bytes());
            }
            Value::String(s) => {
                out.push(0x06);
                put_bytes(out, s);
            }
            Value::XmlDoc(s) => {
                out.push(0x07);
                put_bytes(out, s);
            }
            Value::Date(ms) => {
                out.extend_from_slice(&[0x08, 0x01]);
                out.extend_from_slice(&ms.to_be_bytes());
            }
            Value::Array { named, dense } => {
                out.push(0x09);
                put_len(out, dense.len());
                put_fields(out, named);
                dense.iter().for_each(|v| v.encode(out));
            }
            Value::Object(object) => object.encode(out),
            Value::Xml(s) => {
                out.push(0x0B);
                put_bytes(out, s);
            }
            Value::ByteArray(bytes) => {
                out.push(0x0C);
                put_bytes(out, bytes);
            }
            Value::VectorInt { fixed, items } => put_vector(out, 0x0D, *fixed, items, i32::to_be_bytes),
            Value::VectorUint { fixed, items } => put_vector(out, 0x0E, *fixed, items, u32::to_be_bytes),
            Value::VectorDouble { fixed, items } => put_vector(out, 0x0F, *fixed, items, f64::to_be_bytes),
            Value::VectorObject { fixed, class, items } => {
                out.push(0x10);
                put_len(out, items.len());
                out.push(u8::from(*fixed));
                put_bytes(out, class);
                items.iter().for_each(|v| v.encode(out));
            }
            Value::Reference { marker, index } => {
                out.push(*marker);
                put_u29(out, index << 1);
            }
        }
    }
}

impl Object {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(0x0A);
        let count = u32::try_from(self.sealed.len()).unwrap_or(u32::MAX);
        put_u29(out, count.saturating_mul(16) | if self.dynamic.is_some() { 0b1011 } else { 0b0011 });
        put_bytes(out, &self.class);
        self.sealed.iter().for_each(|(name, _)| put_bytes(out, name));
        self.sealed.iter().for_each(|(_, value)| value.encode(out));
        if let Some(fields) = &self.dynamic {
            put_fields(out, fields);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::amf0;
    use super::*;

    fn decode(bytes: &[u8]) -> std::result::Result<Value, String> {
        let mut r = Reader::new(bytes);
        super::decode(&mut r, &mut Tables::default(), 0).map_err(|e| format!("{e} at {}", r.at))
    }

    fn round_trip(value: Value) {
        let mut out = Vec::new();
        value.encode(&mut out);
        assert_eq!(decode(&out), Ok(value), "{out:02x?}");
    }

    #[test]
    fn every_kind_of_value_comes_back() {
        let fields = || vec![("a".into(), Value::Null), ("a".into(), Value::Integer(2))];
        let object =
            |dynamic| Value::Object(Box::new(Object { class: "C".into(), sealed: fields(), dynamic }));
        for value in [
            Value::Undefined,
            Value::Null,
            Value::Boolean(true),
            Value::Boolean(false),
            Value::Double(f64::MIN_POSITIVE),
            Value::String(b"\xFF".into()),
            Value::XmlDoc("<a/>".into()),
            Value::Date(-1.0),
            Value::Array { named: fields(), dense: vec![Value::Null; 70] },
            object(None),
            object(Some(vec![])),
            object(Some(fields())),
            Value::Xml("".into()),
            Value::ByteArray(vec![7; 20_000]),
            Value::VectorInt { fixed: true, items: vec![i32::MIN, 1] },
            Value::VectorUint { fixed: false, items: vec![u32::MAX] },
            Value::VectorDouble { fixed: false, items: vec![0.5] },
            Value::VectorObject { fixed: false, class: "*".into(), items: vec![Value::Null] },
            Value::Reference { marker: 0x0A, index: 300 },
        ] {
            round_trip(value);
        }
    }

    #[test]
    fn integers_have_29_bits_and_a_sign() {
        let rows: [(&[u8], i32); 9] = [
            (&[0x00], 0),
            (&[0x7F], 0x7F),
            (&[0x81, 0x00], 0x80),
            (&[0xFF, 0x7F], 0x3FFF),
            (&[0x81, 0x80, 0x00], 0x4000),
            (&[0xFF, 0xFF, 0x7F], 0x1F_FFFF),
            (&[0x80, 0xC0, 0x80, 0x00], 0x20_0000),
            (&[0xBF, 0xFF, 0xFF, 0xFF], (1 << 28) - 1),
            (&[0xC0, 0x80, 0x80, 0x00], -(1 << 28)),
        ];
        for (word, n) in rows {
            let bytes = [&[0x04], word].concat();
            assert_eq!(decode(&bytes), Ok(Value::Integer(n)));
            let mut out = Vec::new();
            Value::Integer(n).encode(&mut out);
            assert_eq!(out, bytes);
        }
        // Longer than needed, and read all the same.
        assert_eq!(decode(&[0x04, 0x80, 0x80, 0x80, 0x05]), Ok(Value::Integer(5)));
        let mut out = Vec::new();
        Value::Integer(1 << 28).encode(&mut out);
        assert_eq!(decode(&out), Ok(Value::Double(f64::from(1 << 28))));
    }

    #[test]
    fn references_to_strings_and_traits_are_resolved() {
        // An array of two objects of class "C" with a sealed member "m"; the second has both by reference, its value too.
        let bytes = [9, 5, 1, 10, 0x13, 3, b'C', 3, b'm', 6, 3, b'v', 10, 0x01, 6, 4];
        let object = Object {
            class: "C".into(),
            sealed: vec![("m".into(), Value::String("v".into()))],
            dynamic: None,
        };
        let object = || Value::Object(Box::new(object.clone()));
        assert_eq!(decode(&bytes), Ok(Value::Array { named: vec![], dense: vec![object(), object()] }));
    }

    #[test]
    fn the_tables_last_as_long_as_the_message() {
        let values = amf0::decode_all(&[0x11, 6, 3, b's', 0x11, 6, 0]).expect("two strings");
        assert_eq!(values[0], values[1]);
    }

    #[test]
    fn wrong_bytes_say_where_and_what() {
        let rows: [(&[u8], &str); 16] = [
            (&[], "ends inside a value at 0"),
            (&[0x04, 0x80, 0x80, 0x80], "ends inside an integer at 4"),
            (&[0x05, 0], "ends inside a double at 1"),
            (&[0x06, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3], "ends inside a string at 5"),
            (&[0x06, 200, 0], "reference to string 4608, which did not come yet at 3"),
            (&[0x09, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], "ends inside a value at 6"),
            (&[0x09, 0x01, 0x03, b'a'], "ends inside a value at 4"),
            (&[0x0A, 0x01], "reference to traits 0, which did not come yet at 2"),
            (
                &[0x0A, 0x07, 3, b'E'],
                "object of the externalizable class 'E', whose layout only that class knows at 4",
            ),
            (&[0x0A, 0xFF, 0xFF, 0xFF, 0xF3, 1], "ends inside the name of a sealed member at 6"),
            (&[0x0C, 0xFF, 0xFF, 0xFF, 0xFF, 1], "ends inside a byte array at 5"),
            (&[0x0D, 0xFF, 0xFF, 0xFF, 0xFF, 0, 1], "ends inside the items of a vector at 6"),
            (&[0x0F, 3, 0, 1], "ends inside the items of a vector at 3"),
            (&[0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0, 1], "ends inside a value at 7"),
            (&[0x11, 3, 0], "dictionary, which is not read at 0"),
            (&[0x12], "unknown marker 0x12 at 0"),
        ];
        for (bytes, expected) in rows {
            assert_eq!(decode(bytes), Err(expected.into()), "{bytes:02x?}");
        }
    }

    #[test]
    fn nesting_counts_together_with_amf0() {
        let nested = |levels| [&[0x0A, 0, 0, 0, 1, 0x11][..], &[9, 3, 1].repeat(levels), &[1]].concat();
        assert!(amf0::decode_all(&nested(MAX_DEPTH - 1)).is_ok());
        let refused = amf0::decode_all(&nested(MAX_DEPTH)).map_err(|e| e.kind);
        assert_eq!(refused, Err(amf0::DecodeErrorKind::Amf3(DecodeErrorKind::TooDeep)));
        let objects = [&[0x11][..], &[10, 0x0B, 1, 3, b'a'].repeat(MAX_DEPTH + 1)].concat();
        let refused = amf0::decode_all(&objects).map_err(|e| e.kind);
        assert_eq!(refused, Err(amf0::DecodeErrorKind::Amf3(DecodeErrorKind::TooDeep)));
    }

    #[test]
    fn values_and_names_are_counted() {
        let count = u32::try_from(MAX_VALUES).expect("a small limit");
        let mut bytes = vec![9];
        put_u29(&mut bytes, count << 1 | 1);
        bytes.push(1);
        bytes.resize(bytes.len() + MAX_VALUES, 1);
        assert_eq!(decode(&bytes), Err(format!("{} at {}", DecodeErrorKind::TooMany, bytes.len() - 1)));
        let mut bytes = vec![10];
        put_u29(&mut bytes, count << 4 | 3);
        bytes.resize(bytes.len() + MAX_VALUES + 1, 1);
        assert_eq!(decode(&bytes), Err(format!("{} at {}", DecodeErrorKind::TooMany, bytes.len() - 1)));
    }

    #[test]
    fn strings_repeated_by_reference_are_bounded() {
        const LEN: usize = 1 << 20;
        let array_of = |first: &[u8], item: &[u8], items: usize| {
            let mut bytes = vec![9];
            put_len(&mut bytes, items + 1);
            bytes.push(1);
            bytes.extend_from_slice(first);
            bytes.extend(item.repeat(items));
            bytes
        };
        let mut text = Vec::new();
        put_bytes(&mut text, &vec![b'x'; LEN]);
        let string = [&[6], &text[..]].concat();
        assert!(decode(&array_of(&string, &[6, 0], MAX_REPEATED / LEN)).is_ok());
        let refused = decode(&array_of(&string, &[6, 0], MAX_REPEATED / LEN + 1)).unwrap_err();
        assert!(refused.contains("repeat"), "{refused}");
        let class = [&[10, 3], &text[..]].concat();
        let refused = decode(&array_of(&class, &[10, 1], MAX_REPEATED / LEN + 1)).unwrap_err();
        assert!(refused.contains("repeat"), "{refused}");
        let member = [&[10, 0x13, 1], &text[..], &[1]].concat();
        let refused = decode(&array_of(&member, &[10, 1, 1], MAX_REPEATED / LEN + 1)).unwrap_err();
        assert!(refused.contains("repeat"), "{refused}");
    }
}
