//! What a line sends, and patterns over what arrives.

use super::ast::*;
use crate::notation::error::Error;
use crate::notation::lex::Tok;
use crate::notation::parse::{MESSAGES, Parser, Result};
use crate::wire::note::NoteKind;

const C1_OPTIONS: [&str; 6] = ["time", "version", "random", "digest", "schema", "split"];
const C2_OPTIONS: [&str; 6] = ["echo", "signed", "flip", "time", "version", "random"];
const CHUNK_FIELDS: [&str; 8] = ["fmt", "csid", "form", "ts", "len", "type", "msid", "ext"];
const BLOCK_TESTS: [&str; 6] = ["time", "zero", "random", "echo", "copy", "digest"];
/// The names of [`ChunkField`] in patterns.
const CHUNK_PATTERN: [(&str, ChunkField); 10] = [
    ("fmt", ChunkField::Fmt),
    ("csid", ChunkField::Csid),
    ("form", ChunkField::Form),
    ("ts", ChunkField::Ts),
    ("len", ChunkField::Len),
    ("type", ChunkField::Type),
    ("msid", ChunkField::Msid),
    ("ext", ChunkField::Ext),
    ("first", ChunkField::First),
    ("size", ChunkField::Size),
];
/// What a pattern may begin with, besides messages.
const PATTERNS: [&str; 8] = ["S0", "S1", "S2", "chunk", "note", "closed", "unreadable", "stuck"];

impl Parser<'_> {
    /// `> … [split …] [gap TIME]`.
    pub(super) fn send(&mut self) -> Result<Send> {
        let pos = self.pos();
        self.sign(">")?;
        let what = self.send_what()?;
        let split = self.split()?;
        let gap = if self.take_word("gap") { Some(self.time()?) } else { None };
        if gap.is_some() && split == Split::Whole {
            return Err(Error::new(pos, "'gap' needs a 'split' before it"));
        }
        Ok(Send { pos, what, split, gap })
    }

    fn send_what(&mut self) -> Result<SendWhat> {
        let pos = self.pos();
        let Tok::Word(word) = self.peek().clone() else { return self.expected("what to send") };
        let raw = matches!(word.as_str(), "chunk" | "bytes" | "C0" | "C1" | "C2");
        if !raw || *self.ahead(1) == Tok::Sign("(") {
            let message = self.message().map_err(|error| match MESSAGES.contains(&word.as_str()) {
                true => error,
                false if error.pos == pos && error.message.starts_with("unknown message") => {
                    let known = MESSAGES.iter().chain(&["chunk", "bytes", "C0", "C1", "C2"]).copied();
                    let better = Error::unknown(pos, "message", &word, known);
                    if better.message.contains("did you mean") { better } else { error }
                }
                false => error,
            })?;
            return Ok(SendWhat::Message(message, self.send_fields()?));
        }
        self.next();
        match word.as_str() {
            "chunk" => self.chunk().map(SendWhat::Chunk),
            "bytes" => self.payload().map(SendWhat::Bytes),
            "C0" => self.number().map(SendWhat::C0),
            "C1" => self.c1(),
            _ => self.c2(),
        }
    }

    fn chunk(&mut self) -> Result<ChunkExpr> {
        let mut chunk = ChunkExpr::default();
        while self.at_field() {
            let pos = self.pos();
            let name = self.word("a field")?;
            self.next();
            let field = match name.as_str() {
                "fmt" => &mut chunk.fmt,
                "csid" => &mut chunk.csid,
                "form" => &mut chunk.form,
                "ts" => &mut chunk.ts,
                "len" => &mut chunk.len,
                "type" => &mut chunk.type_id,
                "msid" => &mut chunk.msid,
                "ext" => &mut chunk.ext,
                _ => return Err(Error::unknown(pos, "field", &name, CHUNK_FIELDS)),
            };
            if field.replace(self.number()?).is_some() {
                return Err(Error::new(pos, format!("'{name}=' stands twice")));
            }
        }
        for (name, field) in [("fmt", &chunk.fmt), ("csid", &chunk.csid)] {
            if field.is_none() {
                return self.expected(&format!("'{name}='"));
            }
        }
        chunk.payload = self.pieces()?;
        Ok(chunk)
    }

    fn c1(&mut self) -> Result<SendWhat> {
        let (mut time, mut version, mut random, mut schema) = (None, None, None, None);
        let mut signed = false;
        while self.at_field() {
            let pos = self.pos();
            let name = self.word("an option")?;
            self.next();
            match name.as_str() {
                "time" => time = Some(self.number()?),
                "version" => version = Some(self.number()?),
                "random" => random = Some(self.payload()?),
                "digest" => {
                    self.keyword("client")?;
                    signed = true;
                }
                "schema" => schema = Some(self.schema()?),
                _ => return Err(Error::unknown(pos, "option", &name, C1_OPTIONS)),
            }
        }
        if schema.is_some() && !signed {
            return self.expected("'digest=client' with 'schema='");
        }
        let schema = signed.then(|| schema.unwrap_or(0));
        Ok(SendWhat::C1 { time, version, random, schema })
    }

    fn c2(&mut self) -> Result<SendWhat> {
        let (mut signed, mut time, mut version, mut random, mut flip) = (false, None, None, None, None);
        loop {
            let pos = self.pos();
            let Tok::Word(name) = self.peek().clone() else { break };
            let field = self.at_field();
            if matches!(name.as_str(), "split" | "gap") {
                break;
            }
            self.next();
            if field {
                self.next();
            }
            match (name.as_str(), field) {
                ("echo", false) => {}
                ("signed", false) => signed = true,
                ("flip", true) => flip = Some(self.number()?),
                ("time", true) => time = Some(self.number()?),
                ("version", true) => version = Some(self.number()?),
                ("random", true) => random = Some(self.payload()?),
                _ => return Err(Error::unknown(pos, "option", &name, C2_OPTIONS)),
            }
        }
        Ok(SendWhat::C2 { signed, time, version, random, flip })
    }

    fn split(&mut self) -> Result<Split> {
        if !self.take_word("split") {
            return Ok(Split::Whole);
        }
        if self.take_word("random") {
            return Ok(Split::Random);
        }
        if self.take_word("each") {
            return self.number().map(Split::Each);
        }
        let mut offsets = vec![self.number()?];
        while self.take_sign(",") {
            offsets.push(self.number()?);
        }
        Ok(Split::At(offsets))
    }

    /// `P | P`.
    pub(super) fn pattern(&mut self) -> Result<Pattern> {
        let pos = self.pos();
        let first = self.one_pattern()?;
        if !self.at_sign("|") {
            return Ok(first);
        }
        let mut all = vec![first];
        while self.take_sign("|") {
            all.push(self.one_pattern()?);
        }
        Ok(Pattern { pos, kind: PatternKind::Or(all) })
    }

    fn one_pattern(&mut self) -> Result<Pattern> {
        let pos = self.pos();
        if self.take_sign("!") {
            let kind = self.deeper(|p| Ok(PatternKind::Not(Box::new(p.one_pattern()?))))?;
            return Ok(Pattern { pos, kind });
        }
        if self.at_sign("(") {
            return self.bracketed("(", ")", Self::pattern);
        }
        Ok(Pattern { pos, kind: self.pattern_kind()? })
    }

    fn pattern_kind(&mut self) -> Result<PatternKind> {
        let pos = self.pos();
        let word = match self.peek() {
            Tok::Word(word) => word.clone(),
            _ => return self.expected("a pattern"),
        };
        if !PATTERNS.contains(&word.as_str()) || *self.ahead(1) == Tok::Sign("(") {
            return self.message_pat().map(PatternKind::Message).map_err(|error| {
                let near = Error::unknown(pos, "pattern", &word, PATTERNS.iter().chain(&MESSAGES).copied());
                let unknown = error.pos == pos && error.message.starts_with("unknown message");
                if unknown && near.message.contains("did you mean") { near } else { error }
            });
        }
        self.next();
        match word.as_str() {
            "S0" => self.maybe_pat().map(PatternKind::S0),
            "S1" => self.block_tests().map(|tests| PatternKind::Block { which: 1, tests }),
            "S2" => self.block_tests().map(|tests| PatternKind::Block { which: 2, tests }),
            "chunk" => self.chunk_pattern(),
            "note" => self.note(),
            "closed" => {
                if !self.take_word("by") {
                    return Ok(PatternKind::Closed(None));
                }
                if self.take_word("rst") {
                    return Ok(PatternKind::Closed(Some(CloseHow::Rst)));
                }
                self.keyword("fin")?;
                Ok(PatternKind::Closed(Some(CloseHow::Fin)))
            }
            "unreadable" => Ok(PatternKind::Unreadable),
            _ => Ok(PatternKind::Stuck),
        }
    }

    fn note(&mut self) -> Result<PatternKind> {
        let pos = self.pos();
        let name = self.word("the name of a note")?;
        match NoteKind::READER.iter().find(|kind| kind.name() == name) {
            Some(kind) => Ok(PatternKind::Note(*kind)),
            None => Err(Error::unknown(pos, "note", &name, NoteKind::READER.iter().map(|kind| kind.name()))),
        }
    }

    fn chunk_pattern(&mut self) -> Result<PatternKind> {
        let mut fields = Vec::new();
        while self.at_field() {
            let pos = self.pos();
            let name = self.word("a field")?;
            self.next();
            match CHUNK_PATTERN.iter().find(|(known, _)| *known == name) {
                Some((_, field)) => fields.push((*field, self.one_pat()?)),
                None => {
                    return Err(Error::unknown(pos, "field", &name, CHUNK_PATTERN.map(|(name, _)| name)));
                }
            }
        }
        Ok(PatternKind::Chunk(fields))
    }

    fn block_tests(&mut self) -> Result<Vec<BlockTest>> {
        let mut tests = Vec::new();
        loop {
            let not = self.take_sign("!");
            let known = matches!(self.peek(), Tok::Word(w) if BLOCK_TESTS.contains(&w.as_str()));
            if !known && (not || self.at_field()) {
                let found = self.word("what to test (time zero random echo copy digest)")?;
                self.at -= 1;
                return Err(Error::unknown(self.pos(), "test", &found, BLOCK_TESTS));
            }
            if !known {
                return Ok(tests);
            }
            let test = self.block_test()?;
            tests.push(if not { BlockTest::Not(Box::new(test)) } else { test });
        }
    }

    fn block_test(&mut self) -> Result<BlockTest> {
        match self.word("a test")?.as_str() {
            "echo" => Ok(BlockTest::Echo),
            "copy" => Ok(BlockTest::Copy),
            "time" => {
                self.sign("=")?;
                self.one_pat().map(BlockTest::Time)
            }
            "zero" => {
                self.sign("=")?;
                self.one_pat().map(BlockTest::Word)
            }
            "random" => {
                self.sign("=")?;
                self.payload().map(BlockTest::Random)
            }
            _ => {
                self.sign("=")?;
                self.keyword("server")?;
                let schema = if self.take_field("schema") { Some(self.schema()?) } else { None };
                Ok(BlockTest::Signed(schema))
            }
        }
    }
}
