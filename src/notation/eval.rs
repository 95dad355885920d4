//! What was parsed into bytes and values, with the variables of one case.

use std::collections::BTreeMap;

use bstr::BString;
use bytes::Bytes;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};

use super::amf3::from_plain;
use super::expr::*;
use super::print;
use crate::wire::amf0::Value;
use crate::wire::chunk::{ChunkWriter, MessageHeader};
use crate::wire::message::{Message, SubMessage, type_id};
use crate::wire::sample;
use crate::wire::session::customary;

/// The most bytes that one line may make.
pub const MAX_BYTES: usize = 32 << 20;

/// What a variable stands for.
#[derive(Debug, Clone, PartialEq)]
pub enum Bound {
    /// A value.
    Value(Value),
    /// Bytes.
    Bytes(Bytes),
}

/// Why something has no bytes or no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// No variable has this name.
    #[error("unbound name '{0}'")]
    Unbound(String),
    /// The variable is of another kind.
    #[error("'{0}' is not {1}")]
    Kind(String, &'static str),
    /// A value that is no number stands where one is needed.
    #[error("a number is needed, found {0}")]
    NotNumber(String),
    /// `raw(…)` stands where a value itself is needed.
    #[error("raw(…) has bytes and no value")]
    Raw,
    /// AMF3 has nothing like this value.
    #[error("amf3(…) cannot hold {0}")]
    Amf3(String),
    /// More than [`MAX_BYTES`].
    #[error("more than {MAX_BYTES} bytes")]
    TooLong,
}

type Result<T> = std::result::Result<T, EvalError>;

/// The variables of one case, and what random bytes and media are drawn from.
#[derive(Debug, Clone)]
pub struct Env {
    vars: BTreeMap<String, Bound>,
    /// The query of stream names.
    query: BString,
    rng: Xoshiro256PlusPlus,
    /// Media made so far; each piece is told apart by it.
    pieces: u64,
    /// Inter frames since the last key frame.
    inter: u64,
    /// Bytes that the line may still make.
    left: usize,
}

impl Env {
    /// No variables; random bytes from this seed.
    pub fn new(seed: u64) -> Env {
        Env {
            vars: BTreeMap::new(),
            query: BString::default(),
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            pieces: 0,
            inter: 0,
            left: MAX_BYTES,
        }
    }

    /// Binds a name, anew where it is bound already.
    pub fn set(&mut self, name: &str, value: impl Into<Bound>) {
        self.vars.insert(name.to_owned(), value.into());
    }

    /// What a name stands for.
    pub fn get(&self, name: &str) -> Option<&Bound> {
        self.vars.get(name)
    }

    /// Forgets a name.
    pub fn unset(&mut self, name: &str) {
        self.vars.remove(name);
    }

    /// Stream names have this query, with its `?`: it stays their end, whatever a text puts behind the name.
    pub fn keep_last(&mut self, query: &str) {
        self.query = query.into();
    }

    /// The text of a string.
    ///
    /// # Errors
    /// When a variable in it is unbound.
    pub fn text(&self, text: &Text) -> Result<BString> {
        let (mut out, mut query) = (BString::default(), &b""[..]);
        for part in &text.0 {
            match part {
                TextPart::Literal(s) => out.extend_from_slice(s),
                TextPart::Star => out.push(b'*'),
                TextPart::Var(name) => {
                    let start = out.len();
                    match self.bound(name)? {
                        Bound::Bytes(bytes) => out.extend_from_slice(bytes),
                        Bound::Value(Value::String(s) | Value::LongString(s)) => out.extend_from_slice(s),
                        Bound::Value(value) => out.extend_from_slice(print::value(value).as_bytes()),
                    }
                    if let Some(stem) = out[start..].strip_suffix(self.query.as_slice()) {
                        let end = start + stem.len();
                        out.truncate(end);
                        query = &self.query;
                    }
                }
            }
        }
        out.extend_from_slice(query);
        Ok(out)
    }

    /// A text as UTF-8, what is none replaced.
    ///
    /// # Errors
    /// As [`Env::text`].
    pub fn string(&self, text: &Text) -> Result<String> {
        Ok(self.text(text)?.to_string())
    }

    /// The number that an expression stands for.
    ///
    /// # Errors
    /// When it is no number or a name is unbound.
    pub fn number(&self, expr: &Expr) -> Result<f64> {
        match expr {
            Expr::Literal(Value::Number(n)) => Ok(*n),
            Expr::Var { name, plus } => match self.bound(name)? {
                Bound::Value(Value::Number(n)) => Ok(add(*n, *plus)),
                _ => Err(EvalError::Kind(name.clone(), "a number")),
            },
            other => Err(EvalError::NotNumber(
                self.value(other).map(|value| print::value(&value)).unwrap_or_else(|e| e.to_string()),
            )),
        }
    }

    /// A number cut to 32 bits.
    ///
    /// # Errors
    /// As [`Env::number`].
    pub fn u32(&self, expr: &Expr) -> Result<u32> {
        self.number(expr).map(|n| int(n) as u32)
    }

    /// The value that an expression stands for.
    ///
    /// # Errors
    /// When a name is unbound or bound to bytes, or where `raw(…)` is inside.
    pub fn value(&self, expr: &Expr) -> Result<Value> {
        Ok(match expr {
            Expr::Literal(value) => value.clone(),
            Expr::Text(TextKind::String, text) => Value::String(self.text(text)?),
            Expr::Text(TextKind::Long, text) => Value::LongString(self.text(text)?),
            Expr::Text(TextKind::Xml, text) => Value::Xml(self.text(text)?),
            Expr::Var { name, plus: 0 } => match self.bound(name)? {
                Bound::Value(value) => value.clone(),
                Bound::Bytes(_) => return Err(EvalError::Kind(name.clone(), "a value")),
            },
            Expr::Var { .. } => Value::Number(self.number(expr)?),
            Expr::Object(kind, fields) => {
                let field = |(name, value): &(Text, Expr)| Ok((self.text(name)?, self.value(value)?));
                let fields = fields.iter().map(field).collect::<Result<_>>()?;
                match kind {
                    ObjectKind::Object => Value::Object(fields),
                    ObjectKind::Ecma => Value::EcmaArray(fields),
                    ObjectKind::Typed(class) => Value::Typed { class: class.clone(), fields },
                }
            }
            Expr::Array(items) => {
                Value::StrictArray(items.iter().map(|item| self.value(item)).collect::<Result<_>>()?)
            }
            Expr::Amf3(inner) => {
                let value = self.value(inner)?;
                Value::Amf3(from_plain(&value).ok_or_else(|| EvalError::Amf3(print::value(&value)))?)
            }
            Expr::Raw(_) | Expr::Amf3Bytes(_) => return Err(EvalError::Raw),
        })
    }

    /// The bytes of a payload.
    ///
    /// # Errors
    /// When a name is unbound, a number is none, or the bytes are more than [`MAX_BYTES`].
    pub fn payload(&mut self, payload: &Payload) -> Result<Vec<u8>> {
        self.left = MAX_BYTES;
        let mut out = Vec::new();
        self.put_payload(payload, &mut out)?;
        Ok(out)
    }

    /// The type id and the payload of a message.
    ///
    /// # Errors
    /// As [`Env::payload`].
    pub fn message(&mut self, message: &MessageExpr) -> Result<(u8, Vec<u8>)> {
        self.left = MAX_BYTES;
        self.put_message(message)
    }

    fn bound(&self, name: &str) -> Result<&Bound> {
        self.vars.get(name).ok_or_else(|| EvalError::Unbound(name.to_owned()))
    }

    /// Counts bytes that are about to be made.
    fn spend(&mut self, bytes: usize) -> Result<()> {
        self.left = self.left.checked_sub(bytes).ok_or(EvalError::TooLong)?;
        Ok(())
    }

    /// A count of bytes or times.
    fn size(&self, expr: &Expr) -> Result<usize> {
        self.number(expr).map(|n| n as usize)
    }

    fn put(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<()> {
        self.spend(bytes.len())?;
        out.extend_from_slice(bytes);
        Ok(())
    }

    fn put_payload(&mut self, payload: &Payload, out: &mut Vec<u8>) -> Result<()> {
        payload.0.iter().try_for_each(|piece| self.put_piece(piece, out))
    }

    fn put_piece(&mut self, piece: &Piece, out: &mut Vec<u8>) -> Result<()> {
        match piece {
            Piece::Hex(bytes) => self.put(bytes, out),
            Piece::Text(text) => {
                let text = self.text(text)?;
                self.put(&text, out)
            }
            Piece::Fill(byte, count) => {
                let (byte, count) = (int(self.number(byte)?) as u8, self.size(count)?);
                self.spend(count)?;
                out.resize(out.len() + count, byte);
                Ok(())
            }
            Piece::Random(count) => {
                let (start, count) = (out.len(), self.size(count)?);
                self.spend(count)?;
                out.resize(start + count, 0);
                self.rng.fill_bytes(&mut out[start..]);
                Ok(())
            }
            Piece::Int { width, little_endian, value } => {
                let n = int(self.number(value)?) as u32;
                let width = usize::from(*width).min(4);
                match little_endian {
                    true => self.put(&n.to_le_bytes()[..width], out),
                    false => self.put(&n.to_be_bytes()[4 - width..], out),
                }
            }
            Piece::F64(n) => {
                let n = self.number(n)?;
                self.put(&n.to_be_bytes(), out)
            }
            Piece::Amf0(values) => values.iter().try_for_each(|value| self.put_value(value, out)),
            Piece::Wire(message, fields) => self.put_chunks(message, fields, out),
            Piece::Repeat(count, inner) => {
                let count = self.size(count)?;
                let mut once = Vec::new();
                self.put_payload(inner, &mut once)?;
                if !once.is_empty() {
                    self.spend(once.len().saturating_mul(count))?;
                    out.extend_from_slice(&once.repeat(count));
                }
                Ok(())
            }
            Piece::Cut(inner, from, to) => {
                let mut whole = Vec::new();
                self.put_payload(inner, &mut whole)?;
                let to = self.size(to)?.min(whole.len());
                let from = self.size(from)?.min(to);
                self.put(&whole[from..to], out)
            }
            Piece::Media(kind, size) => {
                let size = size.as_ref().map_or(Ok(0), |size| self.size(size))?;
                self.spend(size)?;
                let media = self.media(*kind, size);
                self.put(&media, out)
            }
            Piece::Var(name) => match self.bound(name)? {
                Bound::Bytes(bytes) => {
                    let bytes = bytes.clone();
                    self.put(&bytes, out)
                }
                Bound::Value(_) => Err(EvalError::Kind(name.clone(), "bytes")),
            },
        }
    }

    /// Each piece differs from those before it; inter frames count from their key frame.
    fn media(&mut self, kind: MediaKind, size: usize) -> Vec<u8> {
        let seed = self.pieces;
        self.pieces += 1;
        match kind {
            MediaKind::AvcHeader => sample::avc_header(),
            MediaKind::AvcKey => {
                self.inter = 0;
                sample::avc_key(size, seed)
            }
            MediaKind::AvcInter => {
                self.inter += 1;
                sample::avc_inter(size, self.inter - 1)
            }
            MediaKind::AacHeader => sample::aac_header(),
            MediaKind::AacFrame => sample::aac_frame(size, seed),
            MediaKind::Mp3 => sample::mp3(size, seed),
            MediaKind::H263Key => sample::h263_key(size, seed),
        }
    }

    fn put_chunks(&mut self, message: &MessageExpr, fields: &SendFields, out: &mut Vec<u8>) -> Result<()> {
        let (type_id, payload) = self.put_message(message)?;
        let timestamp = match &fields.ts {
            Some(TsExpr::At(n) | TsExpr::After(n)) => self.u32(n)?,
            None => 0,
        };
        let message = Message::decode(type_id, &payload)
            .unwrap_or_else(|_| Message::Unknown { type_id, payload: Bytes::new() });
        let header = MessageHeader {
            csid: fields.csid.as_ref().map_or(Ok(customary(&message).0), |n| self.u32(n))?,
            timestamp,
            len: 0,
            type_id,
            msid: fields.msid.as_ref().map_or(Ok(0), |n| self.u32(n))?,
        };
        self.spend(payload.len())?;
        ChunkWriter::default().write(out, header, &payload, None);
        Ok(())
    }

    fn put_message(&mut self, message: &MessageExpr) -> Result<(u8, Vec<u8>)> {
        let mut out = Vec::new();
        let word = |n: u32| n.to_be_bytes();
        let type_id = match message {
            MessageExpr::Control(type_id, n) => {
                out.extend_from_slice(&word(self.u32(n)?));
                *type_id
            }
            MessageExpr::SetPeerBandwidth(size, limit) => {
                out.extend_from_slice(&word(self.u32(size)?));
                out.push(self.u32(limit)? as u8);
                type_id::SET_PEER_BANDWIDTH
            }
            MessageExpr::Event(event, words) => {
                out.extend_from_slice(&event.to_be_bytes());
                for n in words {
                    out.extend_from_slice(&word(self.u32(n)?));
                }
                type_id::USER_CONTROL
            }
            MessageExpr::UserControl(event, data) => {
                out.extend_from_slice(&(self.u32(event)? as u16).to_be_bytes());
                self.put_payload(data, &mut out)?;
                type_id::USER_CONTROL
            }
            MessageExpr::Opaque(type_id, payload) => {
                if *type_id == type_id::SHARED_OBJECT_AMF3 {
                    out.push(0);
                }
                self.put_payload(payload, &mut out)?;
                *type_id
            }
            MessageExpr::Data { amf3, values } => {
                self.put_values(*amf3, values, &mut out)?;
                if *amf3 { type_id::DATA_AMF3 } else { type_id::DATA_AMF0 }
            }
            MessageExpr::Command { amf3, name, args } => {
                let name = Expr::Text(TextKind::String, name.clone());
                self.put_values(*amf3, std::slice::from_ref(&name), &mut out)?;
                args.iter().try_for_each(|value| self.put_value(value, &mut out))?;
                if *amf3 { type_id::COMMAND_AMF3 } else { type_id::COMMAND_AMF0 }
            }
            MessageExpr::Aggregate(parts) => {
                for (message, fields) in parts {
                    self.put_part(message, fields, &mut out)?;
                }
                type_id::AGGREGATE
            }
            MessageExpr::Raw(type_id, payload) => {
                self.put_payload(payload, &mut out)?;
                self.u32(type_id)? as u8
            }
        };
        Ok((type_id, out))
    }

    fn put_part(&mut self, message: &MessageExpr, fields: &SendFields, out: &mut Vec<u8>) -> Result<()> {
        let (type_id, payload) = self.put_message(message)?;
        let timestamp = match &fields.ts {
            Some(TsExpr::At(n) | TsExpr::After(n)) => self.u32(n)?,
            None => 0,
        };
        let msid = fields.msid.as_ref().map_or(Ok(0), |n| self.u32(n))?;
        self.spend(payload.len())?;
        let part = SubMessage { msid, ..SubMessage::new(type_id, timestamp, payload.into()) };
        Message::Aggregate(vec![part]).encode(out);
        Ok(())
    }

    /// The selector byte of the AMF3 types, then the values.
    fn put_values(&mut self, amf3: bool, values: &[Expr], out: &mut Vec<u8>) -> Result<()> {
        if amf3 {
            out.push(0);
        }
        values.iter().try_for_each(|value| self.put_value(value, out))
    }

    fn put_value(&mut self, expr: &Expr, out: &mut Vec<u8>) -> Result<()> {
        match expr {
            Expr::Raw(payload) => self.put_payload(payload, out),
            Expr::Amf3Bytes(payload) => {
                out.push(0x11);
                self.put_payload(payload, out)
            }
            Expr::Object(kind, fields) => self.put_object(kind, fields, out),
            Expr::Array(items) => {
                self.put(&[0x0A], out)?;
                self.put(&(items.len() as u32).to_be_bytes(), out)?;
                items.iter().try_for_each(|item| self.put_value(item, out))
            }
            Expr::Var { name, plus: 0 } if matches!(self.bound(name)?, Bound::Bytes(_)) => {
                Err(EvalError::Kind(name.clone(), "a value; write raw(…)"))
            }
            _ => {
                let mut bytes = Vec::new();
                self.value(expr)?.encode(&mut bytes);
                self.put(&bytes, out)
            }
        }
    }

    /// Written piece by piece, since `raw(…)` may stand inside.
    fn put_object(&mut self, kind: &ObjectKind, fields: &[(Text, Expr)], out: &mut Vec<u8>) -> Result<()> {
        match kind {
            ObjectKind::Object => self.put(&[0x03], out)?,
            ObjectKind::Ecma => {
                self.put(&[0x08], out)?;
                self.put(&(fields.len() as u32).to_be_bytes(), out)?;
            }
            ObjectKind::Typed(class) => {
                self.put(&[0x10], out)?;
                self.put_name(class, out)?;
            }
        }
        for (name, value) in fields {
            let name = self.text(name)?;
            self.put_name(&name, out)?;
            self.put_value(value, out)?;
        }
        self.put(&[0, 0, 9], out)
    }

    fn put_name(&mut self, name: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let name = &name[..name.len().min(usize::from(u16::MAX))];
        self.put(&(name.len() as u16).to_be_bytes(), out)?;
        self.put(name, out)
    }
}

impl From<Value> for Bound {
    fn from(value: Value) -> Bound {
        Bound::Value(value)
    }
}

impl From<f64> for Bound {
    fn from(n: f64) -> Bound {
        Bound::Value(Value::Number(n))
    }
}

impl From<u32> for Bound {
    fn from(n: u32) -> Bound {
        Bound::Value(Value::Number(f64::from(n)))
    }
}

impl From<&str> for Bound {
    fn from(s: &str) -> Bound {
        Bound::Value(Value::String(s.into()))
    }
}

impl From<Vec<u8>> for Bound {
    fn from(bytes: Vec<u8>) -> Bound {
        Bound::Bytes(bytes.into())
    }
}

/// `$x+20` is modulo 2^32; `$x` alone is as it is.
pub(crate) fn add(n: f64, plus: i64) -> f64 {
    if plus == 0 { n } else { (n + plus as f64).rem_euclid(4_294_967_296.0) }
}

/// Cut towards zero; what does not fit wraps when it is cut further.
fn int(n: f64) -> i128 {
    n as i128
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notation::parse::Parser;

    fn env() -> Env {
        let mut env = Env::new(7);
        env.set("n", 5u32);
        env.set("s", "text");
        env.set("b", vec![0xab, 0xcd]);
        env.set("big", vec![0; MAX_BYTES / 2 + 1]);
        env
    }

    fn payload(text: &str) -> Result<Vec<u8>> {
        let payload = Parser::new(text).unwrap().payload().unwrap_or_else(|e| panic!("{text}: {e}"));
        env().payload(&payload)
    }

    #[test]
    fn a_streams_query_stays_its_end() {
        let [name, tail, literal] = [
            TextPart::Var("name".into()),
            TextPart::Literal("-gone".into()),
            TextPart::Literal("a?b".into()),
        ];
        for (query, parts, want) in [
            ("?token=abc", vec![&name, &tail], "key-07-gone?token=abc"),
            ("?token=abc", vec![&name], "key-07?token=abc"),
            ("?token=abc", vec![&name, &tail, &name], "key-07-gonekey-07?token=abc"),
            ("?token=abc", vec![&tail], "-gone"),
            ("?", vec![&name, &literal], "key-07a?b?"),
            // What the file itself says is no query.
            ("?", vec![&literal], "a?b"),
        ] {
            let mut env = Env::new(0);
            env.set("name", Value::from(format!("key-07{query}").as_str()));
            env.keep_last(query);
            assert_eq!(env.string(&Text(parts.into_iter().cloned().collect())).expect("bound"), want);
        }
    }

    #[test]
    fn payloads() {
        let rows: &[(&str, &[u8])] = &[
            (r#"hex "17 01" text "a{n}{s}\xff""#, b"\x17\x01a5text\xff"),
            ("fill(0xAA, 3) fill(-1, 1) fill(9, -4)", &[0xaa, 0xaa, 0xaa, 0xff]),
            ("be16(0x10203) be24($n) be32(-2) le32(1)", &[2, 3, 0, 0, 5, 255, 255, 255, 254, 1, 0, 0, 0]),
            (
                "be32($n-6) be32(nan) f64(-0.5)",
                &[255, 255, 255, 255, 0, 0, 0, 0, 0xbf, 0xe0, 0, 0, 0, 0, 0, 0],
            ),
            (r#"amf0("{s}", $n, null)"#, b"\x02\0\x04text\0\x40\x14\0\0\0\0\0\0\x05"),
            (
                "amf0({k: raw($b)}, [true], ecma{})",
                b"\x03\0\x01k\xab\xcd\0\0\x09\x0a\0\0\0\x01\x01\x01\x08\0\0\0\0\0\0\x09",
            ),
            (r#"amf0(amf3(5), amf3(hex "0c"), typed "C" {})"#, b"\x11\x04\x05\x11\x0c\x10\0\x01C\0\0\x09"),
            ("repeat(2, $b hex \"00\") repeat(1e12, hex \"\")", &[0xab, 0xcd, 0, 0xab, 0xcd, 0]),
            ("cut(hex \"00 01 02 03\", 1, 3) cut($b, 1, 99) cut($b, 5, 1)", &[1, 2, 0xcd]),
            ("wire(SetChunkSize 4096 ts=1)", &[2, 0, 0, 1, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 16, 0]),
        ];
        for (text, bytes) in rows {
            assert_eq!(payload(text).as_deref(), Ok(*bytes), "{text}");
        }
    }

    #[test]
    fn mistakes() {
        let unbound = |name: &str| EvalError::Unbound(name.into());
        let rows = [
            ("$x", unbound("x")),
            ("fill(0, $x)", unbound("x")),
            ("text \"{x}\"", unbound("x")),
            ("$n", EvalError::Kind("n".into(), "bytes")),
            ("be16($s)", EvalError::Kind("s".into(), "a number")),
            ("amf0($b)", EvalError::Kind("b".into(), "a value; write raw(…)")),
            ("amf0(amf3(ref(1)))", EvalError::Amf3("ref(1)".into())),
            ("fill(0, 33554433)", EvalError::TooLong),
            ("random(1e300)", EvalError::TooLong),
            ("repeat(1e9, $b)", EvalError::TooLong),
            ("$big $big", EvalError::TooLong),
            ("amf0([raw($big), raw($big)])", EvalError::TooLong),
            ("cut(fill(0, 3e7), 0, 1) cut(fill(0, 3e7), 0, 1)", EvalError::TooLong),
            ("avc.key(1e9)", EvalError::TooLong),
            ("wire(video fill(0, 2e7))", EvalError::TooLong),
        ];
        for (text, error) in rows {
            assert_eq!(payload(text), Err(error), "{text}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let random = Payload(vec![Piece::Random(Expr::Literal(Value::Number(20.0)))]);
        let (mut a, mut b, mut c) = (Env::new(1), Env::new(1), Env::new(2));
        let first = a.payload(&random).unwrap();
        assert_eq!(b.payload(&random).unwrap(), first);
        assert_ne!(c.payload(&random).unwrap(), first);
        assert_ne!(a.payload(&random).unwrap(), first);
    }

    #[test]
    fn media_differ_from_piece_to_piece() {
        let frames = payload("cut(aac.frame(50) aac.frame(50), 0, 50)").unwrap();
        let both = payload("aac.frame(50) aac.frame(50)").unwrap();
        assert_eq!(both.len(), 100);
        assert_eq!(both[..50], frames);
        assert_ne!(both[..50], both[50..]);
    }
}
