//! AMF3 values in the spelling of AMF0 ones, where they have one.

use crate::wire::amf0::{self, Value};
use crate::wire::amf3;

/// The AMF0 value that is spelt like this one; what has no spelling of its own becomes the nearest one.
pub(crate) fn plain(value: &amf3::Value) -> Value {
    match value {
        amf3::Value::Undefined => Value::Undefined,
        amf3::Value::Null => Value::Null,
        amf3::Value::Boolean(b) => Value::Boolean(*b),
        amf3::Value::Integer(n) => Value::Number(f64::from(*n)),
        amf3::Value::Double(n) => Value::Number(*n),
        amf3::Value::String(s) => Value::String(s.clone()),
        amf3::Value::XmlDoc(s) | amf3::Value::Xml(s) => Value::Xml(s.clone()),
        amf3::Value::Date(ms) => Value::Date { ms: *ms, zone: 0 },
        amf3::Value::Array { named, dense } if named.is_empty() => plain_list(dense),
        amf3::Value::Array { named, .. } => Value::EcmaArray(plain_fields(named)),
        amf3::Value::Object(object) => {
            let mut fields = plain_fields(&object.sealed);
            fields.extend(plain_fields(object.dynamic.as_deref().unwrap_or_default()));
            if object.class.is_empty() {
                return Value::Object(fields);
            }
            Value::Typed { class: object.class.clone(), fields }
        }
        amf3::Value::ByteArray(bytes) => Value::String(bytes.clone().into()),
        amf3::Value::VectorInt { items, .. } => numbers(items.iter().map(|n| f64::from(*n))),
        amf3::Value::VectorUint { items, .. } => numbers(items.iter().map(|n| f64::from(*n))),
        amf3::Value::VectorDouble { items, .. } => numbers(items.iter().copied()),
        amf3::Value::VectorObject { items, .. } => plain_list(items),
        amf3::Value::Reference { .. } => Value::Undefined,
    }
}

fn plain_list(values: &[amf3::Value]) -> Value {
    Value::StrictArray(values.iter().map(plain).collect())
}

fn plain_fields(fields: &[(bstr::BString, amf3::Value)]) -> amf0::Fields {
    fields.iter().map(|(name, value)| (name.clone(), plain(value))).collect()
}

fn numbers(numbers: impl Iterator<Item = f64>) -> Value {
    Value::StrictArray(numbers.map(Value::Number).collect())
}

/// The AMF3 value that is spelt like this one: whole numbers that fit are integers. `None`: AMF3 has nothing like it.
pub(crate) fn from_plain(value: &Value) -> Option<amf3::Value> {
    let fields = |fields: &amf0::Fields| {
        fields
            .iter()
            .map(|(name, value)| Some((name.clone(), from_plain(value)?)))
            .collect::<Option<Vec<_>>>()
    };
    Some(match value {
        Value::Undefined => amf3::Value::Undefined,
        Value::Null => amf3::Value::Null,
        Value::Boolean(b) => amf3::Value::Boolean(*b),
        Value::Number(n) => number(*n),
        Value::String(s) => amf3::Value::String(s.clone()),
        Value::Xml(s) => amf3::Value::Xml(s.clone()),
        Value::Date { ms, zone: 0 } => amf3::Value::Date(*ms),
        Value::StrictArray(items) => amf3::Value::Array {
            named: Vec::new(),
            dense: items.iter().map(from_plain).collect::<Option<_>>()?,
        },
        Value::EcmaArray(named) => amf3::Value::Array { named: fields(named)?, dense: Vec::new() },
        Value::Object(dynamic) => amf3::Value::Object(Box::new(amf3::Object {
            dynamic: Some(fields(dynamic)?),
            ..amf3::Object::default()
        })),
        Value::Typed { class, fields: sealed } => amf3::Value::Object(Box::new(amf3::Object {
            class: class.clone(),
            sealed: fields(sealed)?,
            dynamic: None,
        })),
        _ => return None,
    })
}

fn number(n: f64) -> amf3::Value {
    let whole = n as i32;
    let fits = (-(1 << 28)..1 << 28).contains(&whole) && f64::from(whole).to_bits() == n.to_bits();
    if fits { amf3::Value::Integer(whole) } else { amf3::Value::Double(n) }
}
