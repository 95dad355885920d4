//! Tokens into values, payloads and messages; patterns are in `parse_pat.rs`.

use bstr::BString;

use super::error::Error;
use super::expr::*;
use super::lex::{Tok, Token, lex};
use crate::wire::amf0::Value;
use crate::wire::message::type_id;

/// How deep brackets may nest.
pub const MAX_NESTING: u32 = 100;

/// The words that begin a piece of a payload.
pub(crate) const PIECES: [&str; 20] = [
    "hex",
    "text",
    "fill",
    "random",
    "be16",
    "be24",
    "be32",
    "le32",
    "f64",
    "amf0",
    "wire",
    "repeat",
    "cut",
    "avc.header",
    "avc.key",
    "avc.inter",
    "aac.header",
    "aac.frame",
    "mp3",
    "h263.key",
];
/// The words that begin a message, besides the names of commands.
pub(crate) const MESSAGES: [&str; 22] = [
    "SetChunkSize",
    "Abort",
    "Acknowledgement",
    "WindowAckSize",
    "SetPeerBandwidth",
    "StreamBegin",
    "StreamEof",
    "StreamDry",
    "SetBufferLength",
    "StreamIsRecorded",
    "PingRequest",
    "PingResponse",
    "UserControl",
    "audio",
    "video",
    "data",
    "command",
    "sharedobject",
    "aggregate",
    "message",
    "amf3",
    "coded",
];
const VALUES: [&str; 20] = [
    "true",
    "false",
    "null",
    "undefined",
    "unsupported",
    "movieclip",
    "recordset",
    "nan",
    "inf",
    "hard",
    "soft",
    "dynamic",
    "ecma",
    "typed",
    "date",
    "long",
    "xml",
    "ref",
    "amf3",
    "raw",
];

/// The control messages of one number: name and type.
pub(crate) const CONTROLS: [(&str, u8); 4] = [
    ("SetChunkSize", type_id::SET_CHUNK_SIZE),
    ("Abort", type_id::ABORT),
    ("Acknowledgement", type_id::ACKNOWLEDGEMENT),
    ("WindowAckSize", type_id::WINDOW_ACK_SIZE),
];
/// The user control events with a name: event type and count of 32-bit words (rtmp 7.1.7).
pub(crate) const EVENTS: [(&str, u16, usize); 7] = [
    ("StreamBegin", 0, 1),
    ("StreamEof", 1, 1),
    ("StreamDry", 2, 1),
    ("SetBufferLength", 3, 2),
    ("StreamIsRecorded", 4, 1),
    ("PingRequest", 6, 1),
    ("PingResponse", 7, 1),
];

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Reads the tokens of one text from the front.
pub(crate) struct Parser<'a> {
    pub(crate) text: &'a str,
    pub(crate) tokens: Vec<Token>,
    pub(crate) at: usize,
    /// Above 0, the ends of lines are blanks.
    nest: u32,
    depth: u32,
}

impl<'a> Parser<'a> {
    pub(crate) fn new(text: &'a str) -> Result<Parser<'a>> {
        Ok(Parser { text, tokens: lex(text)?, at: 0, nest: 0, depth: 0 })
    }

    fn index(&self, ahead: usize) -> usize {
        let mut index = self.at;
        let mut left = ahead;
        loop {
            match self.tokens[index].tok {
                Tok::End => return index,
                Tok::Newline if self.nest > 0 => {}
                _ if left == 0 => return index,
                _ => left -= 1,
            }
            index += 1;
        }
    }

    /// The token that is this far ahead.
    pub(crate) fn ahead(&self, ahead: usize) -> &Tok {
        &self.tokens[self.index(ahead)].tok
    }

    pub(crate) fn peek(&self) -> &Tok {
        self.ahead(0)
    }

    pub(crate) fn pos(&self) -> Pos {
        self.tokens[self.index(0)].pos
    }

    pub(crate) fn next(&mut self) -> Tok {
        let index = self.index(0);
        self.at = (index + 1).min(self.tokens.len() - 1);
        self.tokens[index].tok.clone()
    }

    pub(crate) fn at_word(&self, word: &str) -> bool {
        matches!(self.peek(), Tok::Word(w) if w == word)
    }

    pub(crate) fn at_sign(&self, sign: &str) -> bool {
        matches!(self.peek(), Tok::Sign(s) if *s == sign)
    }

    /// Whether `word =` stands here.
    pub(crate) fn at_field(&self) -> bool {
        matches!((self.peek(), self.ahead(1)), (Tok::Word(_), Tok::Sign("=")))
    }

    pub(crate) fn take_word(&mut self, word: &str) -> bool {
        let here = self.at_word(word);
        if here {
            self.next();
        }
        here
    }

    pub(crate) fn take_sign(&mut self, sign: &str) -> bool {
        let here = self.at_sign(sign);
        if here {
            self.next();
        }
        here
    }

    /// Takes `word=`.
    pub(crate) fn take_field(&mut self, word: &str) -> bool {
        let here = self.at_field() && self.at_word(word);
        if here {
            self.next();
            self.next();
        }
        here
    }

    pub(crate) fn expected<T>(&self, what: &str) -> Result<T> {
        Err(Error::new(self.pos(), format!("expected {what}, found {}", self.peek())))
    }

    pub(crate) fn sign(&mut self, sign: &str) -> Result<()> {
        if self.take_sign(sign) { Ok(()) } else { self.expected(&format!("'{sign}'")) }
    }

    pub(crate) fn keyword(&mut self, word: &str) -> Result<()> {
        if self.take_word(word) { Ok(()) } else { self.expected(&format!("'{word}'")) }
    }

    pub(crate) fn word(&mut self, what: &str) -> Result<String> {
        match self.peek() {
            Tok::Word(word) => {
                let word = word.clone();
                self.next();
                Ok(word)
            }
            _ => self.expected(what),
        }
    }

    pub(crate) fn string(&mut self, what: &str) -> Result<Text> {
        match self.peek() {
            Tok::Str(_) => match self.next() {
                Tok::Str(text) => Ok(text),
                _ => self.expected(what),
            },
            _ => self.expected(what),
        }
    }

    /// A string without variables.
    pub(crate) fn literal(&mut self, what: &str) -> Result<BString> {
        let pos = self.pos();
        let text = unstar(self.string(what)?);
        match text.0.as_slice() {
            [] => Ok(BString::default()),
            [TextPart::Literal(s)] => Ok(s.clone()),
            _ => Err(Error::new(pos, format!("no variable may stand in {what}"))),
        }
    }

    /// Runs `inside` one level deeper.
    pub(crate) fn deeper<T>(&mut self, inside: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= MAX_NESTING {
            return Err(Error::new(self.pos(), format!("nested deeper than {MAX_NESTING}")));
        }
        self.depth += 1;
        let result = inside(self);
        self.depth -= 1;
        result
    }

    /// `open … close`, where lines may break anywhere.
    pub(crate) fn bracketed<T>(
        &mut self,
        open: &str,
        close: &str,
        inside: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        self.sign(open)?;
        self.nest += 1;
        let result = self.deeper(inside).and_then(|value| {
            if self.at_sign(close) { Ok(value) } else { self.expected(&format!("'{close}'")) }
        });
        self.nest -= 1;
        if result.is_ok() {
            // Blank ends of lines before the closing sign go with it.
            while self.tokens[self.at].tok == Tok::Newline {
                self.at += 1;
            }
            self.next();
        }
        result
    }

    /// `{ … }` of lines: the ends of lines count again.
    pub(crate) fn block<T>(&mut self, inside: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let nest = std::mem::take(&mut self.nest);
        let result = self.sign("{").and_then(|()| self.deeper(inside));
        let result = result.and_then(|value| self.sign("}").map(|()| value));
        self.nest = nest;
        result
    }

    /// Items between commas; a comma may stand at the end.
    pub(crate) fn list<T>(
        &mut self,
        close: &str,
        mut item: impl FnMut(&mut Self) -> Result<Option<T>>,
    ) -> Result<Vec<T>> {
        let mut items = Vec::new();
        while !self.at_sign(close) {
            match item(self)? {
                Some(one) => items.push(one),
                None => break,
            }
            if !self.take_sign(",") && !self.at_sign(close) {
                return self.expected(&format!("',' or '{close}'"));
            }
        }
        Ok(items)
    }

    // Values.

    pub(crate) fn expr(&mut self) -> Result<Expr> {
        match self.peek().clone() {
            Tok::Num(n) => {
                self.next();
                Ok(Expr::Literal(Value::Number(n)))
            }
            Tok::Sign("-") => self.negative(),
            Tok::Var(name) => {
                self.next();
                let plus = self.plus()?;
                Ok(Expr::Var { name, plus })
            }
            Tok::Str(text) => {
                self.next();
                Ok(Expr::Text(TextKind::String, unstar(text)))
            }
            Tok::Sign("{") => Ok(Expr::Object(ObjectKind::Object, self.object()?)),
            Tok::Sign("[") => {
                self.bracketed("[", "]", |p| p.list("]", |p| p.expr().map(Some))).map(Expr::Array)
            }
            Tok::Word(word) => self.value_word(&word),
            _ => self.expected("a value"),
        }
    }

    fn negative(&mut self) -> Result<Expr> {
        self.next();
        if let Tok::Num(n) = *self.peek() {
            self.next();
            return Ok(Expr::Literal(Value::Number(-n)));
        }
        if self.take_word("inf") {
            return Ok(Expr::Literal(Value::Number(f64::NEG_INFINITY)));
        }
        self.expected("a number behind '-'")
    }

    /// What is added to a variable: `+20`, `-20`.
    pub(crate) fn plus(&mut self) -> Result<i64> {
        let sign = match self.peek() {
            Tok::Sign("+") => 1,
            Tok::Sign("-") => -1,
            _ => return Ok(0),
        };
        self.next();
        match *self.peek() {
            Tok::Num(n) if n.fract() == 0.0 && n <= f64::from(u32::MAX) => {
                self.next();
                Ok(sign * n as i64)
            }
            _ => self.expected("a whole number below 2^32"),
        }
    }

    fn value_word(&mut self, word: &str) -> Result<Expr> {
        let literal = match word {
            "true" => Value::Boolean(true),
            "false" => Value::Boolean(false),
            "null" => Value::Null,
            "undefined" => Value::Undefined,
            "unsupported" => Value::Unsupported,
            "movieclip" => Value::MovieClip,
            "recordset" => Value::RecordSet,
            "nan" => Value::Number(f64::NAN),
            "inf" => Value::Number(f64::INFINITY),
            "hard" => Value::Number(0.0),
            "soft" => Value::Number(1.0),
            "dynamic" => Value::Number(2.0),
            _ => return self.value_form(word),
        };
        self.next();
        Ok(Expr::Literal(literal))
    }

    fn value_form(&mut self, word: &str) -> Result<Expr> {
        let pos = self.pos();
        if PIECES.contains(&word) {
            return Err(Error::new(pos, format!("'{word}' makes bytes, not a value; write raw({word} …)")));
        }
        if !VALUES.contains(&word) {
            return Err(Error::unknown(pos, "word", word, VALUES));
        }
        self.next();
        match word {
            "ecma" => Ok(Expr::Object(ObjectKind::Ecma, self.object()?)),
            "typed" => {
                let class = self.literal("a class name")?;
                Ok(Expr::Object(ObjectKind::Typed(class), self.object()?))
            }
            "date" => self.bracketed("(", ")", |p| {
                let ms = p.constant()?;
                let zone = if p.take_sign(",") { p.constant()? } else { 0.0 };
                Ok(Expr::Literal(Value::Date { ms, zone: zone as i16 }))
            }),
            "long" => self.text_form(TextKind::Long),
            "xml" => self.text_form(TextKind::Xml),
            "ref" => self.bracketed("(", ")", |p| Ok(Expr::Literal(Value::Reference(p.constant()? as u16)))),
            "amf3" => self.bracketed("(", ")", |p| {
                let bytes = matches!(p.peek(), Tok::Word(w) if PIECES.contains(&w.as_str()));
                if bytes { p.payload().map(Expr::Amf3Bytes) } else { Ok(Expr::Amf3(Box::new(p.expr()?))) }
            }),
            _ => self.bracketed("(", ")", |p| p.payload().map(Expr::Raw)),
        }
    }

    fn text_form(&mut self, kind: TextKind) -> Result<Expr> {
        self.bracketed("(", ")", |p| Ok(Expr::Text(kind, unstar(p.string("a string")?))))
    }

    fn object(&mut self) -> Result<Vec<(Text, Expr)>> {
        self.bracketed("{", "}", |p| {
            p.list("}", |p| {
                let key = p.key()?;
                p.sign(":")?;
                Ok(Some((key, p.expr()?)))
            })
        })
    }

    /// The name of a field.
    pub(crate) fn key(&mut self) -> Result<Text> {
        match self.peek() {
            Tok::Str(_) => self.string("a name").map(unstar),
            Tok::Word(_) => {
                let word = self.word("a name")?;
                Ok(Text(vec![TextPart::Literal(word.into())]))
            }
            _ => self.expected("the name of a field"),
        }
    }

    /// A number without variables.
    pub(crate) fn constant(&mut self) -> Result<f64> {
        let pos = self.pos();
        match self.number()? {
            Expr::Literal(Value::Number(n)) => Ok(n),
            _ => Err(Error::new(pos, "expected a number without variables")),
        }
    }

    /// A value that can be a number.
    pub(crate) fn number(&mut self) -> Result<Expr> {
        let number = match self.peek() {
            Tok::Num(_) | Tok::Var(_) | Tok::Sign("-") => true,
            Tok::Word(word) => matches!(word.as_str(), "nan" | "inf" | "hard" | "soft" | "dynamic"),
            _ => false,
        };
        if number { self.expr() } else { self.expected("a number") }
    }

    // Payloads.

    pub(crate) fn at_piece(&self) -> bool {
        match self.peek() {
            Tok::Word(word) => PIECES.contains(&word.as_str()) && !self.at_field(),
            Tok::Var(_) => true,
            Tok::Sign(sign) => *sign == "(",
            _ => false,
        }
    }

    /// At least one piece.
    pub(crate) fn payload(&mut self) -> Result<Payload> {
        if self.at_piece() {
            return self.pieces();
        }
        match self.peek() {
            Tok::Word(word) => Err(Error::unknown(self.pos(), "word", word, PIECES)),
            _ => self.expected("a payload"),
        }
    }

    /// As many pieces as there are.
    pub(crate) fn pieces(&mut self) -> Result<Payload> {
        let mut pieces = Vec::new();
        while self.at_piece() {
            if self.at_sign("(") {
                pieces.append(&mut self.bracketed("(", ")", Self::payload)?.0);
            } else {
                pieces.push(self.piece()?);
            }
        }
        Ok(Payload(pieces))
    }

    fn piece(&mut self) -> Result<Piece> {
        let word = match self.next() {
            Tok::Var(name) => return Ok(Piece::Var(name)),
            Tok::Word(word) => word,
            _ => return self.expected("a payload"),
        };
        let int = |width, little_endian| move |value| Piece::Int { width, little_endian, value };
        match word.as_str() {
            "hex" => self.hex().map(Piece::Hex),
            "text" => self.string("a string").map(|text| Piece::Text(unstar(text))),
            "fill" => self.bracketed("(", ")", |p| {
                let byte = p.number()?;
                p.comma("fill(byte, count)")?;
                Ok(Piece::Fill(byte, p.number()?))
            }),
            "random" => self.one_number().map(Piece::Random),
            "be16" => self.one_number().map(int(2, false)),
            "be24" => self.one_number().map(int(3, false)),
            "be32" => self.one_number().map(int(4, false)),
            "le32" => self.one_number().map(int(4, true)),
            "f64" => self.one_number().map(Piece::F64),
            "amf0" => self.values().map(Piece::Amf0),
            "wire" => self.bracketed("(", ")", |p| {
                let message = p.message()?;
                Ok(Piece::Wire(Box::new(message), p.send_fields()?))
            }),
            "repeat" => self.bracketed("(", ")", |p| {
                let count = p.number()?;
                p.comma("repeat(count, PAYLOAD)")?;
                Ok(Piece::Repeat(count, p.payload()?))
            }),
            "cut" => self.bracketed("(", ")", |p| {
                let payload = p.payload()?;
                p.comma("cut(PAYLOAD, from, to)")?;
                let from = p.number()?;
                p.comma("cut(PAYLOAD, from, to)")?;
                Ok(Piece::Cut(payload, from, p.number()?))
            }),
            "avc.header" => Ok(Piece::Media(MediaKind::AvcHeader, None)),
            "aac.header" => Ok(Piece::Media(MediaKind::AacHeader, None)),
            "avc.key" => self.media(MediaKind::AvcKey),
            "avc.inter" => self.media(MediaKind::AvcInter),
            "aac.frame" => self.media(MediaKind::AacFrame),
            "mp3" => self.media(MediaKind::Mp3),
            _ => self.media(MediaKind::H263Key),
        }
    }

    fn media(&mut self, kind: MediaKind) -> Result<Piece> {
        self.one_number().map(|size| Piece::Media(kind, Some(size)))
    }

    fn comma(&mut self, form: &str) -> Result<()> {
        if self.take_sign(",") { Ok(()) } else { self.expected(&format!("',' as in {form}")) }
    }

    fn one_number(&mut self) -> Result<Expr> {
        self.bracketed("(", ")", Self::number)
    }

    fn values(&mut self) -> Result<Vec<Expr>> {
        self.bracketed("(", ")", |p| p.list(")", |p| p.expr().map(Some)))
    }

    fn hex(&mut self) -> Result<Vec<u8>> {
        let pos = self.pos();
        let digits = self.literal("hexadecimal digits in quotes")?;
        let mut bytes = Vec::with_capacity(digits.len() / 2);
        let mut half = None;
        for (column, c) in (1..).zip(digits.iter()) {
            let Some(digit) = (*c as char).to_digit(16) else {
                if c.is_ascii_whitespace() {
                    continue;
                }
                let pos = Pos { column: pos.column + column, ..pos };
                return Err(Error::new(pos, format!("{:?} is no hexadecimal digit", *c as char)));
            };
            half = match half {
                None => Some(digit),
                Some(high) => {
                    bytes.push((high * 16 + digit) as u8);
                    None
                }
            };
        }
        match half {
            None => Ok(bytes),
            Some(_) => Err(Error::new(pos, "an odd count of hexadecimal digits")),
        }
    }

    // Messages.

    pub(crate) fn message(&mut self) -> Result<MessageExpr> {
        let pos = self.pos();
        let word = self.word("a message")?;
        if let Some((_, type_id)) = CONTROLS.iter().find(|(name, _)| *name == word) {
            return Ok(MessageExpr::Control(*type_id, self.number()?));
        }
        if let Some((_, event, words)) = EVENTS.iter().find(|(name, ..)| *name == word) {
            let words = (0..*words).map(|_| self.number()).collect::<Result<_>>()?;
            return Ok(MessageExpr::Event(*event, words));
        }
        match word.as_str() {
            "SetPeerBandwidth" => Ok(MessageExpr::SetPeerBandwidth(self.number()?, self.number()?)),
            "UserControl" => Ok(MessageExpr::UserControl(self.number()?, self.pieces()?)),
            "audio" => Ok(MessageExpr::Opaque(type_id::AUDIO, self.pieces()?)),
            "video" => Ok(MessageExpr::Opaque(type_id::VIDEO, self.pieces()?)),
            "sharedobject" => Ok(MessageExpr::Opaque(type_id::SHARED_OBJECT_AMF0, self.pieces()?)),
            "aggregate" => self.aggregate(),
            "message" => {
                if !self.take_field("type") {
                    return self.expected("'type='");
                }
                Ok(MessageExpr::Raw(self.number()?, self.pieces()?))
            }
            "amf3" if !self.at_sign("(") => self.amf3_message(),
            _ => self.call(pos, word, false),
        }
    }

    fn amf3_message(&mut self) -> Result<MessageExpr> {
        let pos = self.pos();
        let word = self.word("data, sharedobject or a command")?;
        if word == "sharedobject" {
            return Ok(MessageExpr::Opaque(type_id::SHARED_OBJECT_AMF3, self.pieces()?));
        }
        self.call(pos, word, true)
    }

    /// `data(…)`, `command("name", …)`, `name(…)`.
    fn call(&mut self, pos: Pos, word: String, amf3: bool) -> Result<MessageExpr> {
        if !self.at_sign("(") {
            return Err(unknown_message(pos, &word));
        }
        match word.as_str() {
            "data" => Ok(MessageExpr::Data { amf3, values: self.values()? }),
            "command" => self.bracketed("(", ")", |p| {
                let name = unstar(p.string("the command's name")?);
                let args = if p.take_sign(",") { p.list(")", |p| p.expr().map(Some))? } else { Vec::new() };
                Ok(MessageExpr::Command { amf3, name, args })
            }),
            word => {
                command_name(pos, word)?;
                let name = Text(vec![TextPart::Literal(word.into())]);
                Ok(MessageExpr::Command { amf3, name, args: self.values()? })
            }
        }
    }

    fn aggregate(&mut self) -> Result<MessageExpr> {
        self.block(|p| {
            let mut parts = Vec::new();
            loop {
                while p.take_sign(";") || *p.peek() == Tok::Newline && p.next() == Tok::Newline {}
                if p.at_sign("}") {
                    return Ok(MessageExpr::Aggregate(parts));
                }
                let message = p.message()?;
                parts.push((message, p.send_fields()?));
                if !p.at_sign(";") && !p.at_sign("}") && *p.peek() != Tok::Newline {
                    return p.expected("';' or '}'");
                }
            }
        })
    }

    pub(crate) fn send_fields(&mut self) -> Result<SendFields> {
        let mut fields = SendFields::default();
        while self.at_field() {
            let pos = self.pos();
            let name = self.word("a field")?;
            self.next();
            let twice = match name.as_str() {
                "csid" => fields.csid.replace(self.number()?).is_some(),
                "msid" => fields.msid.replace(self.number()?).is_some(),
                "fmt" => fields.fmt.replace(self.number()?).is_some(),
                "ts" if self.take_sign("+") => fields.ts.replace(TsExpr::After(self.number()?)).is_some(),
                "ts" => fields.ts.replace(TsExpr::At(self.number()?)).is_some(),
                _ => return Err(Error::unknown(pos, "field", &name, ["csid", "ts", "msid", "fmt"])),
            };
            if twice {
                return Err(Error::new(pos, format!("'{name}=' stands twice")));
            }
        }
        Ok(fields)
    }
}

pub(crate) fn unknown_message(pos: Pos, word: &str) -> Error {
    let mut error = Error::unknown(pos, "message", word, MESSAGES);
    if !error.message.contains("did you mean") {
        error.message.push_str(&format!("; a command is written {word}(…)"));
    }
    error
}

/// Refuses what is more likely a slip than the name of a command.
pub(crate) fn command_name(pos: Pos, word: &str) -> Result<()> {
    if word.contains('{') {
        return Err(Error::new(pos, format!("write command(\"{word}\", …) for a name with variables")));
    }
    if PIECES.contains(&word) || VALUES.contains(&word) || MESSAGES.contains(&word) {
        return Err(Error::new(
            pos,
            format!("expected a message; write command(\"{word}\", …) for a command of this name"),
        ));
    }
    Ok(())
}

/// Stars are themselves where no pattern is.
pub(crate) fn unstar(text: Text) -> Text {
    let mut parts: Vec<TextPart> = Vec::with_capacity(text.0.len());
    for part in text.0 {
        let part = if part == TextPart::Star { TextPart::Literal("*".into()) } else { part };
        match (parts.last_mut(), part) {
            (Some(TextPart::Literal(before)), TextPart::Literal(more)) => before.extend_from_slice(&more),
            (_, part) => parts.push(part),
        }
    }
    Text(parts)
}
