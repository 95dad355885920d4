//! Names in a scenario: where they are bound, that they are when they are used, and for what.

use std::collections::BTreeSet;

use super::ast::*;
use super::check::Scope;
use super::numbers::{self, Awaited};
use crate::notation::error::{Error, nearest};
use crate::notation::eval::MAX_BYTES;
use crate::notation::expr::*;
use crate::notation::lex::{Tok, Token, lex, word_text};
use crate::wire::amf0::Value;

/// How many mistakes of one file are told.
const MAX_ERRORS: usize = 50;
/// The most names of one scenario.
pub(super) const MAX_NAMES: usize = 200;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Value,
    Bytes,
}

impl Kind {
    pub(super) fn of(value: &CaseValue) -> Kind {
        match value {
            CaseValue::Value(_) => Kind::Value,
            CaseValue::Payload(_) => Kind::Bytes,
        }
    }
}

/// The names in force while the lines are walked, and the mistakes found so far.
pub(super) struct Names {
    tokens: Vec<Token>,
    scope: Scope,
    used: BTreeSet<String>,
    /// The line under check; places are looked for from here.
    pub(super) at: Pos,
    pub(super) errors: Vec<Error>,
}

impl Names {
    pub(super) fn new<'a>(text: &str, given: impl IntoIterator<Item = &'a str>) -> Names {
        Names {
            // The text was read before, so it has tokens.
            tokens: lex(text).unwrap_or_default(),
            scope: given.into_iter().map(|name| (name.to_owned(), Kind::Value)).collect(),
            used: BTreeSet::new(),
            at: Pos { line: 1, column: 1 },
            errors: Vec::new(),
        }
    }

    // Places.

    fn place(&self, wanted: impl Fn(&Tok) -> bool) -> Option<Pos> {
        self.place_behind(self.at, wanted)
    }

    fn place_behind(&self, from: Pos, wanted: impl Fn(&Tok) -> bool) -> Option<Pos> {
        let here = |pos: Pos| (pos.line, pos.column) >= (from.line, from.column);
        self.tokens.iter().find(|token| here(token.pos) && wanted(&token.tok)).map(|token| token.pos)
    }

    /// Moves to where this word stands next.
    pub(super) fn look_for(&mut self, word: &str) {
        self.at = self.place(|tok| matches!(tok, Tok::Word(w) if w == word)).unwrap_or(self.at);
    }

    /// Whether enough mistakes are told.
    pub(super) fn full(&self) -> bool {
        self.errors.len() >= MAX_ERRORS
    }

    /// A mistake at the line under check.
    pub(super) fn wrong(&mut self, message: String) {
        if !self.full() {
            self.errors.push(Error::new(self.at, message));
        }
    }

    /// A mistake where this word stands next.
    pub(super) fn wrong_word(&mut self, word: &str, message: String) {
        self.wrong_at(self.word_place(word), message);
    }

    pub(super) fn unknown_word<'a>(
        &mut self,
        what: &str,
        word: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) {
        if !self.full() {
            self.errors.push(Error::unknown(self.word_place(word), what, word, known));
        }
    }

    fn word_place(&self, word: &str) -> Pos {
        let here = |tok: &Tok| matches!(tok, Tok::Word(w) | Tok::Var(w) if w == word);
        self.place(here).unwrap_or(self.at)
    }

    // The scope.

    pub(super) fn bind(&mut self, name: &str, kind: Kind) -> Option<Kind> {
        if self.scope.len() >= MAX_NAMES && !self.scope.contains_key(name) {
            self.wrong(format!("more than {MAX_NAMES} names"));
            return None;
        }
        self.scope.insert(name.to_owned(), kind)
    }

    pub(super) fn restore(&mut self, name: &str, before: Option<Kind>) {
        match before {
            Some(kind) => _ = self.scope.insert(name.to_owned(), kind),
            None => _ = self.scope.remove(name),
        }
    }

    pub(super) fn scope(&self) -> Scope {
        self.scope.clone()
    }

    pub(super) fn leave(&mut self, scope: Scope) {
        self.scope = scope;
    }

    pub(super) fn used(&self, name: &str) -> bool {
        self.used.contains(name)
    }

    fn use_name(&mut self, name: &str, wanted: Option<Kind>) {
        if self.full() {
            return;
        }
        self.used.insert(name.to_owned());
        let message = match (self.scope.get(name), wanted) {
            (None, _) => match nearest(name, self.scope.keys().map(String::as_str)) {
                Some(near) => format!("unbound name '${name}'; did you mean '${near}'?"),
                None => format!("unbound name '${name}'"),
            },
            (Some(Kind::Value), Some(Kind::Bytes)) => {
                format!(
                    "'${name}' is a value where bytes are needed; write be32(${name}), text \"{{{name}}}\" or amf0(${name})"
                )
            }
            (Some(Kind::Bytes), Some(Kind::Value)) => {
                format!("'${name}' is bytes where a value is needed; write raw(${name})")
            }
            _ => return,
        };
        let in_text = |text: &Text| text.0.contains(&TextPart::Var(name.to_owned()));
        let pos = self.place(|tok| match tok {
            Tok::Var(other) => other == name,
            Tok::Str(text) => in_text(text),
            Tok::Word(word) => word.contains('{') && in_text(&word_text(word)),
            _ => false,
        });
        self.errors.push(Error::new(pos.unwrap_or(self.at), message));
    }

    // What uses names.

    pub(super) fn text(&mut self, text: &Text) {
        for part in &text.0 {
            if let TextPart::Var(name) = part {
                self.use_name(name, None);
            }
        }
    }

    /// A number that goes into 32 bits or fewer, or counts something.
    pub(super) fn number(&mut self, expr: &Expr) {
        self.expr(expr);
        if let Expr::Literal(Value::Number(n)) = expr
            && !(n.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(n))
        {
            let pos =
                self.place(|tok| matches!(tok, Tok::Num(other) if other.abs() == n.abs())).unwrap_or(self.at);
            self.wrong_at(pos, format!("expected a whole number from 0 to {}, found {n}", u32::MAX));
        }
    }

    /// From the lower to the higher.
    pub(super) fn range(&mut self, low: &Expr, high: &Expr) {
        if let (Expr::Literal(Value::Number(from)), Expr::Literal(Value::Number(to))) = (low, high)
            && from > to
        {
            let pos = self.place(|tok| matches!(tok, Tok::Num(other) if other == from)).unwrap_or(self.at);
            self.wrong_at(pos, format!("{from}..{to} holds no number; write the lower one first"));
        }
    }

    fn wrong_at(&mut self, pos: Pos, message: String) {
        if !self.full() {
            self.errors.push(Error::new(pos, message));
        }
    }

    pub(super) fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Literal(_) => {}
            Expr::Text(_, text) => self.text(text),
            Expr::Var { name, .. } => self.use_name(name, Some(Kind::Value)),
            Expr::Object(_, fields) => {
                for (name, value) in fields {
                    self.text(name);
                    self.expr(value);
                }
            }
            Expr::Array(items) => items.iter().for_each(|item| self.expr(item)),
            Expr::Amf3(inner) => self.expr(inner),
            Expr::Amf3Bytes(payload) | Expr::Raw(payload) => self.payload(payload),
        }
    }

    /// A number that its field cannot hold.
    pub(super) fn at_most(&mut self, field: &str, expr: &Expr, most: u32) {
        if let Expr::Literal(Value::Number(n)) = expr
            && !(0.0..=f64::from(most)).contains(n)
        {
            self.wrong_word(field, format!("'{field}' holds 0 to {most}, not {n}"));
        }
    }

    pub(super) fn payload(&mut self, payload: &Payload) {
        payload.0.iter().for_each(|piece| self.piece(piece));
        let size = size(payload);
        if size > MAX_BYTES as f64 {
            self.wrong(format!("a payload of {size} bytes where at most {MAX_BYTES} are made"));
        }
    }

    fn piece(&mut self, piece: &Piece) {
        match piece {
            Piece::Hex(_) => {}
            Piece::Text(text) => self.text(text),
            Piece::Fill(a, b) => {
                self.number(a);
                self.number(b);
            }
            Piece::Random(n) | Piece::Int { value: n, .. } => self.number(n),
            Piece::F64(n) => self.expr(n),
            Piece::Amf0(values) => values.iter().for_each(|value| self.expr(value)),
            Piece::Wire(message, fields) => self.message(message, fields),
            Piece::Repeat(count, inner) => {
                self.number(count);
                inner.0.iter().for_each(|piece| self.piece(piece));
            }
            Piece::Cut(inner, from, to) => {
                self.payload(inner);
                self.number(from);
                self.number(to);
            }
            Piece::Media(_, size) => size.iter().for_each(|n| self.number(n)),
            Piece::Var(name) => self.use_name(name, Some(Kind::Bytes)),
        }
    }

    pub(super) fn message(&mut self, message: &MessageExpr, fields: &SendFields) {
        match message {
            MessageExpr::Control(_, n) => self.number(n),
            MessageExpr::SetPeerBandwidth(size, limit) => {
                self.number(size);
                self.number(limit);
                self.at_most("limit type", limit, 255);
            }
            MessageExpr::Event(_, words) => words.iter().for_each(|n| self.number(n)),
            MessageExpr::UserControl(event, data) => {
                self.number(event);
                self.at_most("UserControl", event, 65535);
                self.payload(data);
            }
            MessageExpr::Opaque(_, payload) => self.payload(payload),
            MessageExpr::Data { values, .. } => values.iter().for_each(|value| self.expr(value)),
            MessageExpr::Command { name, args, .. } => {
                self.text(name);
                args.iter().for_each(|value| self.expr(value));
            }
            MessageExpr::Aggregate(parts) => {
                parts.iter().for_each(|(message, fields)| self.message(message, fields));
            }
            MessageExpr::Raw(type_id, payload) => {
                self.number(type_id);
                self.at_most("type", type_id, 255);
                self.payload(payload);
            }
        }
        let ts = fields.ts.as_ref().map(|(TsExpr::At(n) | TsExpr::After(n))| n);
        let limits =
            [("csid", &fields.csid, 65599), ("msid", &fields.msid, u32::MAX), ("fmt", &fields.fmt, 3)];
        for (name, field, most) in limits {
            if let Some(n) = field {
                self.number(n);
                self.at_most(name, n, most);
            }
        }
        ts.into_iter().for_each(|n| self.number(n));
    }

    // Patterns: what they bind is bound behind them.

    pub(super) fn pattern(&mut self, pattern: &Pattern) {
        match &pattern.kind {
            PatternKind::Message(pat) => self.message_pat(pat),
            PatternKind::S0(pat) => self.number_pat(("S0", 0..=255, pat)),
            PatternKind::Block { tests, .. } => tests.iter().for_each(|test| self.block_test(test)),
            PatternKind::Chunk(fields) => {
                for (field, pat) in fields {
                    match numbers::of_chunk(*field, pat) {
                        Some(awaited) => self.number_pat(awaited),
                        None => self.truth_pat(pat),
                    }
                }
            }
            PatternKind::Or(all) => self.alternatives(all, Self::pattern),
            PatternKind::Not(inner) => self.alternatives(std::slice::from_ref(&**inner), Self::nothing_bound),
            PatternKind::Note(_) | PatternKind::Closed(_) | PatternKind::Unreadable | PatternKind::Stuck => {}
        }
    }

    fn nothing_bound(&mut self, pattern: &Pattern) {
        let before = self.scope.clone();
        self.pattern(pattern);
        self.scope = before;
    }

    /// Behind alternatives, what all of them bind is bound.
    fn alternatives<T>(&mut self, all: &[T], mut walk: impl FnMut(&mut Self, &T)) {
        let before = self.scope.clone();
        let mut common: Option<Scope> = None;
        for one in all {
            self.scope.clone_from(&before);
            walk(self, one);
            common = Some(match common {
                None => self.scope.clone(),
                Some(common) => {
                    common.into_iter().filter(|(name, _)| self.scope.contains_key(name)).collect()
                }
            });
        }
        self.scope = common.unwrap_or(before);
    }

    fn block_test(&mut self, test: &BlockTest) {
        match test {
            BlockTest::Time(pat) => self.number_pat(("time", 0..=u32::MAX, pat)),
            BlockTest::Word(pat) => self.number_pat(("zero", 0..=u32::MAX, pat)),
            BlockTest::Random(payload) => self.payload(payload),
            BlockTest::Not(inner) => self.block_test(inner),
            BlockTest::Echo | BlockTest::Copy | BlockTest::Signed(_) => {}
        }
    }

    fn message_pat(&mut self, pat: &MessagePat) {
        match &pat.kind {
            MessageKindPat::Bytes(_, payload) => self.payload(payload),
            MessageKindPat::Data(values, _) => values.iter().for_each(|value| self.pat(value)),
            MessageKindPat::Command(name, args, _) => {
                self.pat(name);
                args.iter().for_each(|arg| self.pat(arg));
            }
            _ => {}
        }
        numbers::of_message(pat).into_iter().for_each(|awaited| self.number_pat(awaited));
    }

    /// A pattern over a number; one that never comes is a mistake.
    fn number_pat(&mut self, (what, range, pat): Awaited<'_>) {
        self.pat(pat);
        let (least, most) = range.clone().into_inner();
        for (number, found) in numbers::never(&range, pat) {
            let name = self.word_place(what);
            let is_it =
                |tok: &Tok| matches!((tok, number), (Tok::Num(tok), Some(number)) if *tok == number.abs());
            let place = self.place_behind(name, is_it).unwrap_or(name);
            let message = format!("'{what}' is a whole number from {least} to {most}, never {found}");
            self.wrong_at(place, message);
        }
    }

    /// A pattern over `first=`.
    fn truth_pat(&mut self, pat: &Pat) {
        self.pat(pat);
        if !numbers::is_truth(pat) {
            self.wrong_word("first", "'first' is true or false".to_owned());
        }
    }

    fn pat(&mut self, pat: &Pat) {
        match pat {
            Pat::Any => {}
            Pat::Var { name, plus, range } => {
                if let Some((low, high)) = range {
                    self.expr(low);
                    self.expr(high);
                    self.range(low, high);
                }
                if *plus != 0 || self.scope.contains_key(name) {
                    return self.use_name(name, None);
                }
                self.bind(name, Kind::Value);
            }
            Pat::Range(low, high) => {
                self.expr(low);
                self.expr(high);
                self.range(low, high);
            }
            Pat::Is(expr) => self.expr(expr),
            Pat::Glob(text) => self.text(text),
            Pat::Object(fields, _) => fields.iter().for_each(|(_, pat)| self.pat(pat)),
            Pat::Array(items, _) => items.iter().for_each(|item| self.pat(item)),
            Pat::Not(inner) => {
                let before = self.scope.clone();
                if let Pat::Var { name, .. } = &**inner {
                    self.use_name(name, None);
                } else {
                    self.pat(inner);
                }
                self.scope = before;
            }
            Pat::Or(all) => self.alternatives(all, Self::pat),
        }
    }
}

/// The bytes that a payload has at least, as far as literal numbers tell.
fn size(payload: &Payload) -> f64 {
    let literal = |expr: &Expr| match expr {
        Expr::Literal(Value::Number(n)) if *n > 0.0 => *n,
        _ => 0.0,
    };
    let piece = |piece: &Piece| match piece {
        Piece::Hex(bytes) => bytes.len() as f64,
        Piece::Fill(_, count) | Piece::Random(count) | Piece::Media(_, Some(count)) => literal(count),
        Piece::Repeat(count, inner) => literal(count) * size(inner),
        Piece::Int { width, .. } => f64::from(*width),
        _ => 0.0,
    };
    payload.0.iter().map(piece).sum()
}
