//! Numbers that a pattern awaits and that never come, since no field of the protocol holds them.

use std::ops::RangeInclusive;

use super::ast::*;
use crate::notation::expr::*;
use crate::notation::parse::{CONTROLS, EVENTS};
use crate::wire::amf0::Value;

/// A number of 32 bits.
const WORD: RangeInclusive<u32> = 0..=u32::MAX;
/// rtmp 5.3.1.1: 0 and 1 announce the longer forms, which reach up to 65599.
const CSID: RangeInclusive<u32> = 2..=65599;
/// rtmp 5.3.1.2: 24 bits.
const LEN: RangeInclusive<u32> = 0..=0xFF_FFFF;

/// A number that is awaited: what it is, what it can be, what it must be.
pub(super) type Awaited<'p> = (&'static str, RangeInclusive<u32>, &'p Pat);

/// The numbers that a message's pattern awaits.
pub(super) fn of_message(pat: &MessagePat) -> Vec<Awaited<'_>> {
    let name = |id: u8| CONTROLS.iter().find(|(_, control)| *control == id).map_or("", |(name, _)| name);
    let event = |id: u16| EVENTS.iter().find(|(_, event, _)| *event == id).map_or("", |(name, ..)| name);
    let mut all: Vec<Awaited<'_>> = match &pat.kind {
        MessageKindPat::Control(id, n) => vec![(name(*id), WORD, n)],
        MessageKindPat::UserControl(n) => vec![("UserControl", 0..=65535, n)],
        MessageKindPat::SetPeerBandwidth(size, limit) => {
            vec![("SetPeerBandwidth", WORD, size), ("limit type", 0..=255, limit)]
        }
        MessageKindPat::Event(id, words) => words.iter().map(|word| (event(*id), WORD, word)).collect(),
        _ => Vec::new(),
    };
    all.extend(pat.fields.iter().map(|(field, pat)| match field {
        FieldName::Csid => ("csid", CSID, pat),
        FieldName::Ts => ("ts", WORD, pat),
        FieldName::Msid => ("msid", WORD, pat),
        FieldName::Len => ("len", LEN, pat),
        FieldName::Type => ("type", 0..=255, pat),
    }));
    all
}

/// What a chunk header's pattern awaits; `None`: no number.
pub(super) fn of_chunk(field: ChunkField, pat: &Pat) -> Option<Awaited<'_>> {
    Some(match field {
        ChunkField::Fmt => ("fmt", 0..=3, pat),
        ChunkField::Csid => ("csid", CSID, pat),
        ChunkField::Form => ("form", 1..=3, pat),
        ChunkField::Ts => ("ts", WORD, pat),
        ChunkField::Len => ("len", LEN, pat),
        ChunkField::Type => ("type", 0..=255, pat),
        ChunkField::Msid => ("msid", WORD, pat),
        ChunkField::Ext => ("ext", WORD, pat),
        ChunkField::Size => ("size", LEN, pat),
        ChunkField::First => return None,
    })
}

/// What of this no number of the range is; with the number it begins with, where it is one.
pub(super) fn never(range: &RangeInclusive<u32>, pat: &Pat) -> Vec<(Option<f64>, String)> {
    let (least, most) = (f64::from(*range.start()), f64::from(*range.end()));
    match pat {
        Pat::Is(Expr::Literal(Value::Number(n))) if n.fract() == 0.0 && (least..=most).contains(n) => vec![],
        Pat::Is(Expr::Literal(Value::Number(n))) => vec![(Some(*n), n.to_string())],
        Pat::Range(low, high) | Pat::Var { range: Some((low, high)), .. } => match (low, high) {
            (Expr::Literal(Value::Number(low)), Expr::Literal(Value::Number(high)))
                if low.ceil() > most || high.floor() < least =>
            {
                vec![(Some(*low), format!("{low}..{high}"))]
            }
            _ => vec![],
        },
        Pat::Any | Pat::Var { .. } | Pat::Is(Expr::Var { .. }) => vec![],
        Pat::Not(inner) => never(range, inner),
        Pat::Or(all) => all.iter().flat_map(|pat| never(range, pat)).collect(),
        Pat::Is(_) | Pat::Glob(_) | Pat::Object(..) | Pat::Array(..) => vec![(None, "anything else".into())],
    }
}

/// Whether this can be true or false.
pub(super) fn is_truth(pat: &Pat) -> bool {
    match pat {
        Pat::Any | Pat::Var { range: None, .. } => true,
        Pat::Is(expr) => matches!(expr, Expr::Literal(Value::Boolean(_)) | Expr::Var { .. }),
        Pat::Not(inner) => is_truth(inner),
        Pat::Or(all) => all.iter().all(is_truth),
        _ => false,
    }
}
