//! Whether a value or a message is what a pattern says, and what it binds.

use bstr::{BStr, BString, ByteSlice};

use super::amf3::plain;
use super::eval::{Bound, Env, add};
use super::expr::*;
use crate::wire::amf0::Value;
use crate::wire::chunk::MessageHeader;
use crate::wire::media;
use crate::wire::message::{Message, UserControl, type_id};

/// What a pattern would bind; earlier ones are seen by what stands behind them.
pub type Bindings = Vec<(String, Value)>;

impl MessagePat {
    /// Whether a message is what this says. Binds in `env` when it is, nothing otherwise. `decoded` is the payload's message where it decodes.
    pub fn matches(
        &self,
        header: &MessageHeader,
        payload: &[u8],
        decoded: Option<&Message>,
        env: &mut Env,
    ) -> bool {
        let mut trial = Trial::new(env);
        let holds = trial.message(self, header, payload, decoded);
        let bindings = trial.bindings;
        if holds {
            bind(env, bindings);
        }
        holds
    }

    /// Whether a message of this type can be what this says, by its kind alone.
    pub fn takes_type(&self, type_id: u8) -> bool {
        match &self.kind {
            MessageKindPat::Any => self.fields.iter().all(|(field, pat)| match (field, pat) {
                (FieldName::Type, Pat::Is(Expr::Literal(Value::Number(n)))) => *n == f64::from(type_id),
                _ => true,
            }),
            MessageKindPat::Control(id, _) => *id == type_id,
            MessageKindPat::Type(id) | MessageKindPat::Bytes(id, _) => same_kind(*id, type_id),
            MessageKindPat::SetPeerBandwidth(..) => type_id == type_id::SET_PEER_BANDWIDTH,
            MessageKindPat::Event(..) | MessageKindPat::UserControl(_) => type_id == type_id::USER_CONTROL,
            MessageKindPat::Data(..) => matches!(type_id, type_id::DATA_AMF0 | type_id::DATA_AMF3),
            MessageKindPat::Command(..) => matches!(type_id, type_id::COMMAND_AMF0 | type_id::COMMAND_AMF3),
            MessageKindPat::Coded => matches!(type_id, type_id::AUDIO | type_id::VIDEO),
        }
    }
}

impl Pat {
    /// Whether a value is what this says; binds in `env` when it is, nothing otherwise.
    pub fn matches(&self, value: &Value, env: &mut Env) -> bool {
        let mut trial = Trial::new(env);
        let holds = trial.value(self, value);
        let bindings = trial.bindings;
        if holds {
            bind(env, bindings);
        }
        holds
    }
}

/// Binds what a pattern found.
pub(crate) fn bind(env: &mut Env, bindings: Bindings) {
    for (name, value) in bindings {
        env.set(&name, value);
    }
}

/// A pattern being tried: what it binds is kept apart until it holds.
pub(crate) struct Trial<'a> {
    pub(crate) env: &'a mut Env,
    pub(crate) bindings: Bindings,
}

impl<'a> Trial<'a> {
    pub(crate) fn new(env: &'a mut Env) -> Trial<'a> {
        Trial { env, bindings: Vec::new() }
    }

    /// Runs an attempt; what it bound is forgotten unless it holds.
    pub(crate) fn attempt(&mut self, attempt: impl FnOnce(&mut Self) -> bool) -> bool {
        let mark = self.bindings.len();
        let holds = attempt(self);
        if !holds {
            self.bindings.truncate(mark);
        }
        holds
    }

    pub(crate) fn message(
        &mut self,
        pat: &MessagePat,
        header: &MessageHeader,
        payload: &[u8],
        decoded: Option<&Message>,
    ) -> bool {
        self.kind(&pat.kind, header, payload, decoded)
            && pat.fields.iter().all(|(field, pat)| {
                let n = match field {
                    FieldName::Csid => header.csid,
                    FieldName::Ts => header.timestamp,
                    FieldName::Msid => header.msid,
                    FieldName::Len => header.len,
                    FieldName::Type => u32::from(header.type_id),
                };
                self.number(pat, n)
            })
    }

    fn kind(
        &mut self,
        kind: &MessageKindPat,
        header: &MessageHeader,
        payload: &[u8],
        decoded: Option<&Message>,
    ) -> bool {
        match (kind, decoded) {
            (MessageKindPat::Any, _) => true,
            (MessageKindPat::Type(id), _) => same_kind(*id, header.type_id),
            (MessageKindPat::Bytes(id, bytes), _) => {
                let body = match header.type_id {
                    type_id::SHARED_OBJECT_AMF3 => payload.get(1..).unwrap_or_default(),
                    _ => payload,
                };
                same_kind(*id, header.type_id) && self.env.payload(bytes).is_ok_and(|bytes| bytes == body)
            }
            (MessageKindPat::Coded, _) => media::is_coded_frame(header.type_id, payload),
            (MessageKindPat::Control(id, pat), Some(message)) => {
                let n = match message {
                    Message::SetChunkSize(n)
                    | Message::Abort(n)
                    | Message::Acknowledgement(n)
                    | Message::WindowAckSize(n) => *n,
                    _ => return false,
                };
                *id == header.type_id && self.number(pat, n)
            }
            (MessageKindPat::SetPeerBandwidth(a, b), Some(Message::SetPeerBandwidth { size, limit })) => {
                self.number(a, *size) && self.number(b, u32::from(*limit))
            }
            (MessageKindPat::Event(number, pats), Some(Message::UserControl(event))) => {
                *number == event.event() && pats.iter().zip(words(event)).all(|(pat, n)| self.number(pat, n))
            }
            (MessageKindPat::UserControl(pat), Some(Message::UserControl(event))) => {
                self.number(pat, u32::from(event.event()))
            }
            (MessageKindPat::Data(pats, open), Some(Message::Data(_, values))) => {
                self.values(pats, *open, values.iter())
            }
            (MessageKindPat::Command(name, pats, open), Some(Message::Command(command))) => {
                let id = command.transaction_id.map(Value::Number);
                self.value(name, &Value::String(command.name.clone()))
                    && self.values(pats, *open, id.iter().chain(&command.args))
            }
            _ => false,
        }
    }

    pub(crate) fn number(&mut self, pat: &Pat, n: u32) -> bool {
        self.value(pat, &Value::Number(f64::from(n)))
    }

    fn values<'v>(&mut self, pats: &[Pat], open: bool, mut values: impl Iterator<Item = &'v Value>) -> bool {
        let all = pats.iter().all(|pat| values.next().is_some_and(|value| self.value(pat, value)));
        all && (open || values.next().is_none())
    }

    pub(crate) fn value(&mut self, pat: &Pat, value: &Value) -> bool {
        if let Value::Amf3(value) = value {
            return self.value(pat, &plain(value));
        }
        match pat {
            Pat::Any => true,
            Pat::Not(inner) => {
                let mark = self.bindings.len();
                let holds = self.value(inner, value);
                self.bindings.truncate(mark);
                !holds
            }
            Pat::Or(pats) => pats.iter().any(|pat| self.attempt(|trial| trial.value(pat, value))),
            Pat::Is(expr) => self.eval(expr).is_some_and(|wanted| same(&wanted, value)),
            Pat::Range(low, high) => self.within(low, high, value),
            Pat::Var { name, plus, range } => {
                let in_range = range.as_ref().is_none_or(|(low, high)| self.within(low, high, value));
                let known = match self.bindings.iter().rev().find(|(bound, _)| bound == name) {
                    Some((_, value)) => Some(value.clone()),
                    None => match self.env.get(name) {
                        Some(Bound::Value(value)) => Some(value.clone()),
                        Some(Bound::Bytes(bytes)) => Some(Value::String(bytes.to_vec().into())),
                        None => None,
                    },
                };
                match known {
                    Some(Value::Number(n)) => in_range && same(&Value::Number(add(n, *plus)), value),
                    Some(known) => in_range && *plus == 0 && same(&known, value),
                    None if *plus == 0 && in_range => {
                        self.bindings.push((name.clone(), value.clone()));
                        true
                    }
                    None => false,
                }
            }
            Pat::Glob(text) => match value.as_text() {
                Some(value) => self.glob(text).is_some_and(|parts| glob(&parts, value)),
                None => false,
            },
            Pat::Object(fields, open) => {
                let (Value::Object(found) | Value::EcmaArray(found) | Value::Typed { fields: found, .. }) =
                    value
                else {
                    return false;
                };
                let have = fields.iter().all(|(name, pat)| {
                    let field = found.iter().find(|(other, _)| other == name);
                    field.is_some_and(|(_, value)| self.value(pat, value))
                });
                have && (*open || found.len() == fields.len())
            }
            Pat::Array(pats, open) => match value {
                Value::StrictArray(values) => self.values(pats, *open, values.iter()),
                _ => false,
            },
        }
    }

    /// An expression, with what this pattern bound so far.
    fn eval(&mut self, expr: &Expr) -> Option<Value> {
        if let Expr::Var { name, plus } = expr
            && let Some((_, value)) = self.bindings.iter().rev().find(|(bound, _)| bound == name)
        {
            return match value {
                Value::Number(n) => Some(Value::Number(add(*n, *plus))),
                value => (*plus == 0).then(|| value.clone()),
            };
        }
        self.env.value(expr).ok()
    }

    /// A range whose end lies below its begin wraps at 2^32.
    fn within(&mut self, low: &Expr, high: &Expr, value: &Value) -> bool {
        let (Some(Value::Number(low)), Some(Value::Number(high))) = (self.eval(low), self.eval(high)) else {
            return false;
        };
        match value {
            Value::Number(n) if low <= high => (low..=high).contains(n),
            Value::Number(n) => *n >= low || *n <= high,
            _ => false,
        }
    }

    /// The literal parts between the stars.
    fn glob(&mut self, text: &Text) -> Option<Vec<BString>> {
        let mut parts = vec![BString::default()];
        for part in &text.0 {
            match part {
                TextPart::Star => parts.push(BString::default()),
                part => {
                    let text = self.env.text(&Text(vec![part.clone()])).ok()?;
                    parts.last_mut()?.extend_from_slice(&text);
                }
            }
        }
        Some(parts)
    }
}

/// A kind of message is meant in both its encodings.
fn same_kind(wanted: u8, found: u8) -> bool {
    wanted == found || wanted == type_id::SHARED_OBJECT_AMF0 && found == type_id::SHARED_OBJECT_AMF3
}

fn words(event: &UserControl) -> Vec<u32> {
    match event {
        UserControl::StreamBegin(n)
        | UserControl::StreamEof(n)
        | UserControl::StreamDry(n)
        | UserControl::StreamIsRecorded(n)
        | UserControl::PingRequest(n)
        | UserControl::PingResponse(n) => vec![*n],
        UserControl::SetBufferLength { msid, ms } => vec![*msid, *ms],
        UserControl::Unknown { .. } => Vec::new(),
    }
}

/// Equal in meaning: both lengths of strings are strings, and nan is nan.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.is_nan() && b.is_nan(),
        (Value::String(a) | Value::LongString(a), Value::String(b) | Value::LongString(b)) => a == b,
        (a, Value::Amf3(b)) => same(a, &plain(b)),
        (Value::Amf3(a), b) => same(&plain(a), b),
        (a, b) => a == b,
    }
}

/// Parts found one behind the other: the first at the begin, the last at the end.
fn glob(parts: &[BString], text: &BStr) -> bool {
    let Some((last, before)) = parts.split_last() else { return text.is_empty() };
    let mut rest: &[u8] = text;
    for (index, part) in before.iter().enumerate() {
        match rest.find(part) {
            Some(at) if index > 0 || at == 0 => rest = &rest[at + part.len()..],
            _ => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last) && (!before.is_empty() || rest.len() == last.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notation::parse::Parser;

    /// Whether the message that a text says is what a pattern says, and what `$x` is then.
    fn tried(pattern: &str, message: &str, env: &mut Env) -> bool {
        let pat = Parser::new(pattern)
            .and_then(|mut p| p.message_pat())
            .unwrap_or_else(|e| panic!("{pattern}: {e}"));
        let (message, fields) = crate::notation::parse(message).unwrap();
        let (type_id, payload) = env.message(&message).unwrap();
        let number = |n: &Option<Expr>| n.as_ref().map_or(0, |n| env.u32(n).unwrap());
        let (csid, msid) = (number(&fields.csid), number(&fields.msid));
        let timestamp = match &fields.ts {
            Some(TsExpr::At(n) | TsExpr::After(n)) => env.u32(n).unwrap(),
            None => 0,
        };
        let header = MessageHeader { csid, timestamp, len: payload.len() as u32, type_id, msid };
        pat.matches(&header, &payload, Message::decode(type_id, &payload).ok().as_ref(), env)
    }

    #[test]
    fn patterns_over_messages() {
        let rows = [
            ("SetChunkSize 4096", "SetChunkSize 4096", true),
            ("SetChunkSize 1..9", "SetChunkSize 10", false),
            ("SetChunkSize", "Abort 4", false),
            ("SetPeerBandwidth _ (hard | dynamic)", "SetPeerBandwidth 1 soft", false),
            ("SetPeerBandwidth 1 !soft", "SetPeerBandwidth 1 dynamic", true),
            ("StreamBegin 1", "StreamBegin 1", true),
            ("StreamBegin", "StreamEof 1", false),
            ("SetBufferLength 1 $x", "SetBufferLength 1 3000", true),
            ("UserControl 26", "UserControl 26 hex \"00\"", true),
            ("message type=(3 | 5)", "WindowAckSize 1", true),
            ("message type=3", "WindowAckSize 1", false),
            ("audio len=2 msid=1 csid=4 ts=9", "audio hex \"af 01\" msid=1 csid=4 ts=9", true),
            ("audio ts=10", "audio hex \"af 01\" ts=9", false),
            ("audio hex \"af 01\"", "audio hex \"af 01\"", true),
            ("audio hex \"af 01\"", "audio hex \"af 02\"", false),
            ("audio", "video hex \"17\"", false),
            ("coded", "audio aac.frame(9)", true),
            ("coded", "audio aac.header", false),
            ("f(1, null)", "f(1, null)", true),
            ("f(1, null)", "amf3 f(1, null)", true),
            ("f(1)", "f(1, null)", false),
            ("f(1, ...)", "f(1, null)", true),
            ("f(1, null, ...)", "f(1)", false),
            ("command(\"on*\", ...)", "onStatus(0, null)", true),
            ("command(\"on*us\", ...)", "onStatus(0, null)", true),
            ("command(\"on*a\", ...)", "onStatus(0, null)", false),
            ("command(\"*\" , ...)", "x()", true),
            ("command(\"a*a\", ...)", "a()", false),
            ("command(\"\\*\", ...)", "x()", false),
            ("f(1, \"x\")", "f(1, long(\"x\"))", true),
            ("f(1, \"x\")", "f(1, xml(\"x\"))", false),
            ("f(nan)", "f(nan)", true),
            ("f(1, {a: 1, ...})", "f(1, ecma{b: 2, a: 1})", true),
            ("f(1, {a: 1})", "f(1, {b: 2, a: 1})", false),
            ("f(1, {a: _, c: _, ...})", "f(1, {b: 2, a: 1})", false),
            ("f(1, {...})", "f(1, typed \"C\" {})", true),
            ("f(1, {...})", "f(1, null)", false),
            ("f(1, [1, ...])", "f(1, [1, 2])", true),
            ("f(1, [1])", "f(1, [1, 2])", false),
            ("f(1, {a: 5})", "amf3 f(1, amf3({a: 5}))", true),
            ("f(1, !null)", "f(1, null)", false),
            ("f(1, 2 | 3)", "f(1, 3)", true),
            ("data(\"onMetaData\", {width: 1..9, ...})", "data(\"onMetaData\", ecma{width: 5})", true),
            ("f(1, 4294967290..5)", "f(1, 2)", true),
            ("f(1, 4294967290..5)", "f(1, 6)", false),
        ];
        for (pattern, message, holds) in rows {
            assert_eq!(tried(pattern, message, &mut Env::new(1)), holds, "{pattern} over {message}");
        }
    }

    #[test]
    fn variables_bind_when_the_whole_pattern_holds() {
        let mut env = Env::new(1);
        assert!(!tried("f($x, 2)", "f(7, 3)", &mut env));
        assert_eq!(env.get("x"), None);
        assert!(!tried("f($x, $x)", "f(7, 3)", &mut env));
        assert!(tried("f($x, $x)", "f(7, 7)", &mut env));
        assert_eq!(env.get("x"), Some(&Bound::from(7.0)));
        assert!(!tried("f($x)", "f(8)", &mut env));
        assert!(tried("f($x+20)", "f(27)", &mut env));
        assert!(tried("f($x-8)", "f(4294967295)", &mut env));
        assert!(!tried("f($y+1)", "f(1)", &mut env));
        assert!(!tried("f($y = 1..9)", "f(10)", &mut env));
        assert!(tried("f($y = 1..9, $y..$y+3)", "f(9, 12)", &mut env));
        assert_eq!(env.get("y"), Some(&Bound::from(9.0)));
        assert!(!tried("f($x..$x+5)", "f(13)", &mut env));
        // What an alternative or a negation bound before it failed is forgotten.
        assert!(tried("f(!{a: $z, b: 2})", "f({a: 1, b: 3})", &mut env));
        assert_eq!(env.get("z"), None);
        assert!(tried("f([$z, 1] | [_, 2])", "f([5, 2])", &mut env));
        assert_eq!(env.get("z"), None);
    }
}
