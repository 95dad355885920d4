//! Tokens into patterns over values and messages.

use bstr::BString;

use super::error::Error;
use super::expr::*;
use super::lex::Tok;
use super::parse::{CONTROLS, EVENTS, Parser, Result, command_name, unknown_message, unstar};
use crate::wire::message::type_id;

impl Parser<'_> {
    /// `p | q`.
    pub(crate) fn pat(&mut self) -> Result<Pat> {
        let first = self.one_pat()?;
        if !self.at_sign("|") {
            return Ok(first);
        }
        let mut all = vec![first];
        while self.take_sign("|") {
            all.push(self.one_pat()?);
        }
        Ok(Pat::Or(all))
    }

    /// A pattern without `|` outside of brackets.
    pub(crate) fn one_pat(&mut self) -> Result<Pat> {
        if self.take_word("_") {
            return Ok(Pat::Any);
        }
        if self.take_sign("!") {
            return self.deeper(|p| Ok(Pat::Not(Box::new(p.one_pat()?))));
        }
        match self.peek().clone() {
            Tok::Sign("(") => self.bracketed("(", ")", Self::pat),
            Tok::Sign("{") => self.object_pat(),
            Tok::Sign("[") => self.bracketed("[", "]", |p| {
                let (items, open) = p.pats("]")?;
                Ok(Pat::Array(items, open))
            }),
            Tok::Str(text) if text.0.contains(&TextPart::Star) => {
                self.next();
                Ok(Pat::Glob(text))
            }
            Tok::Var(name) => self.var_pat(name),
            _ => {
                let low = self.expr()?;
                if self.take_sign("..") { Ok(Pat::Range(low, self.number()?)) } else { Ok(Pat::Is(low)) }
            }
        }
    }

    fn var_pat(&mut self, name: String) -> Result<Pat> {
        self.next();
        let plus = self.plus()?;
        if self.take_sign("..") {
            return Ok(Pat::Range(Expr::Var { name, plus }, self.number()?));
        }
        if plus != 0 || !self.take_sign("=") {
            return Ok(Pat::Var { name, plus, range: None });
        }
        let low = self.number()?;
        self.sign("..")?;
        Ok(Pat::Var { name, plus, range: Some((low, self.number()?)) })
    }

    /// Patterns between commas, and whether `...` ends them.
    fn pats(&mut self, close: &str) -> Result<(Vec<Pat>, bool)> {
        let mut open = false;
        let pats = self.list(close, |p| {
            open = p.take_sign("...");
            if open { Ok(None) } else { p.pat().map(Some) }
        })?;
        Ok((pats, open))
    }

    fn object_pat(&mut self) -> Result<Pat> {
        self.bracketed("{", "}", |p| {
            let mut open = false;
            let fields = p.list("}", |p| {
                open = p.take_sign("...");
                if open {
                    return Ok(None);
                }
                let key = p.key_literal()?;
                p.sign(":")?;
                Ok(Some((key, p.pat()?)))
            })?;
            Ok(Pat::Object(fields, open))
        })
    }

    fn key_literal(&mut self) -> Result<BString> {
        match self.peek() {
            Tok::Str(_) => self.literal("the name of a field"),
            _ => self.word("the name of a field or '...'").map(BString::from),
        }
    }

    /// Whether a value's pattern stands here.
    fn at_pat(&self) -> bool {
        match self.peek() {
            Tok::Num(_) | Tok::Var(_) | Tok::Str(_) => true,
            Tok::Sign(sign) => matches!(*sign, "-" | "!" | "(" | "{" | "["),
            Tok::Word(word) => {
                matches!(word.as_str(), "_" | "nan" | "inf" | "hard" | "soft" | "dynamic") && !self.at_field()
            }
            _ => false,
        }
    }

    /// A pattern, or any value where none stands.
    pub(crate) fn maybe_pat(&mut self) -> Result<Pat> {
        if self.at_pat() { self.one_pat() } else { Ok(Pat::Any) }
    }

    pub(crate) fn message_pat(&mut self) -> Result<MessagePat> {
        let kind = self.message_kind()?;
        let mut fields = Vec::new();
        while self.at_field() {
            let pos = self.pos();
            let name = self.word("a field")?;
            self.next();
            let field = match name.as_str() {
                "csid" => FieldName::Csid,
                "ts" => FieldName::Ts,
                "msid" => FieldName::Msid,
                "len" => FieldName::Len,
                "type" => FieldName::Type,
                _ => {
                    return Err(Error::unknown(pos, "field", &name, ["csid", "ts", "msid", "len", "type"]));
                }
            };
            fields.push((field, self.one_pat()?));
        }
        Ok(MessagePat { kind, fields })
    }

    fn message_kind(&mut self) -> Result<MessageKindPat> {
        let pos = self.pos();
        let word = self.word("a pattern")?;
        if let Some((_, type_id)) = CONTROLS.iter().find(|(name, _)| *name == word) {
            return Ok(MessageKindPat::Control(*type_id, self.maybe_pat()?));
        }
        if let Some((_, event, words)) = EVENTS.iter().find(|(name, ..)| *name == word) {
            let words = (0..*words).map(|_| self.maybe_pat()).collect::<Result<_>>()?;
            return Ok(MessageKindPat::Event(*event, words));
        }
        match word.as_str() {
            "SetPeerBandwidth" => Ok(MessageKindPat::SetPeerBandwidth(self.maybe_pat()?, self.maybe_pat()?)),
            "UserControl" => Ok(MessageKindPat::UserControl(self.maybe_pat()?)),
            "audio" => self.bytes_pat(type_id::AUDIO),
            "video" => self.bytes_pat(type_id::VIDEO),
            "sharedobject" => self.bytes_pat(type_id::SHARED_OBJECT_AMF0),
            "aggregate" => Ok(MessageKindPat::Type(type_id::AGGREGATE)),
            "message" => Ok(MessageKindPat::Any),
            "coded" => Ok(MessageKindPat::Coded),
            _ if !self.at_sign("(") => Err(unknown_message(pos, &word)),
            "data" => {
                let (values, open) = self.bracketed("(", ")", |p| p.pats(")"))?;
                Ok(MessageKindPat::Data(values, open))
            }
            "command" => self.bracketed("(", ")", |p| {
                let name = p.pat()?;
                let (args, open) = if p.take_sign(",") { p.pats(")")? } else { (Vec::new(), false) };
                Ok(MessageKindPat::Command(Box::new(name), args, open))
            }),
            word => {
                command_name(pos, word)?;
                let name = Text(vec![TextPart::Literal(word.into())]);
                let name = Pat::Is(Expr::Text(TextKind::String, unstar(name)));
                let (args, open) = self.bracketed("(", ")", |p| p.pats(")"))?;
                Ok(MessageKindPat::Command(Box::new(name), args, open))
            }
        }
    }

    fn bytes_pat(&mut self, type_id: u8) -> Result<MessageKindPat> {
        if self.at_piece() {
            return Ok(MessageKindPat::Bytes(type_id, self.pieces()?));
        }
        Ok(MessageKindPat::Type(type_id))
    }
}
