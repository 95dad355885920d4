//! Text into tokens, each with its line and column.

use std::time::Duration;

use super::error::Error;
use super::expr::{Pos, Text, TextPart};

/// The longest text that is read, in bytes.
pub const MAX_TEXT: usize = 16 << 20;

/// A token and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token {
    pub(crate) tok: Tok,
    pub(crate) pos: Pos,
    /// Its bytes in the text.
    pub(crate) span: (usize, usize),
}

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tok {
    /// `hex`, `half-close`, `avc.key`, `rtmp/5.2.1/2`, `c{i}`.
    Word(String),
    /// `$x`.
    Var(String),
    /// `1`, `0xFF`, `1e18`, `64MiB`.
    Num(f64),
    /// `5ms`, `2s`, `1min`.
    Time(Duration),
    /// `"a-{name}"`.
    Str(Text),
    /// One of [`SIGNS`].
    Sign(&'static str),
    /// The end of a line that is not empty.
    Newline,
    /// The end of the text.
    End,
}

/// Longer ones first.
const SIGNS: [&str; 17] =
    ["...", "..", ">", "<", "{", "}", "(", ")", "[", "]", ",", ";", ":", "=", "|", "!", "+"];
/// Not among the others because a name may hold it.
const MINUS: &str = "-";

impl std::fmt::Display for Tok {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Tok::Word(word) => write!(f, "'{word}'"),
            Tok::Var(name) => write!(f, "'${name}'"),
            Tok::Num(n) => write!(f, "the number {n}"),
            Tok::Time(_) => write!(f, "a time"),
            Tok::Str(_) => write!(f, "a string"),
            Tok::Sign(sign) => write!(f, "'{sign}'"),
            Tok::Newline => write!(f, "the end of the line"),
            Tok::End => write!(f, "the end of the text"),
        }
    }
}

/// The tokens of a text; the last one is [`Tok::End`].
pub(crate) fn lex(text: &str) -> Result<Vec<Token>, Error> {
    if text.len() > MAX_TEXT {
        let message = format!("{} bytes of text where at most {MAX_TEXT} are read", text.len());
        return Err(Error::new(Pos { line: 1, column: 1 }, message));
    }
    let mut lexer = Lexer { text, at: 0, pos: Pos { line: 1, column: 1 } };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blanks();
        let (pos, start) = (lexer.pos, lexer.at);
        let tok = lexer.token()?;
        let end = tok == Tok::End;
        // Lines that hold nothing are nothing.
        if tok != Tok::Newline || tokens.last().is_some_and(|t: &Token| t.tok != Tok::Newline) {
            tokens.push(Token { tok, pos, span: (start, lexer.at) });
        }
        if end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    pos: Pos,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        if c == '\n' {
            self.pos = Pos { line: self.pos.line + 1, column: 1 };
        } else {
            self.pos.column += 1;
        }
        Some(c)
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let start = self.at;
        while self.peek().is_some_and(&wanted) {
            self.bump();
        }
        &self.text[start..self.at]
    }

    fn skip_blanks(&mut self) {
        self.take_while(|c| matches!(c, ' ' | '\t' | '\r' | '\u{feff}'));
        if self.peek() == Some('#') {
            self.take_while(|c| c != '\n');
        }
    }

    fn token(&mut self) -> Result<Tok, Error> {
        let pos = self.pos;
        let Some(c) = self.peek() else { return Ok(Tok::End) };
        match c {
            '\n' => {
                self.bump();
                Ok(Tok::Newline)
            }
            '"' => self.string(),
            '$' => {
                self.bump();
                match self.ident() {
                    "" => Err(Error::new(pos, "expected a name behind '$'")),
                    name => Ok(Tok::Var(name.to_owned())),
                }
            }
            '0'..='9' => self.number(),
            'a'..='z' | 'A'..='Z' | '_' => Ok(Tok::Word(self.word())),
            '-' => {
                self.bump();
                Ok(Tok::Sign(MINUS))
            }
            _ => match SIGNS.iter().find(|sign| self.rest().starts_with(**sign)) {
                Some(sign) => {
                    sign.chars().for_each(|_| _ = self.bump());
                    Ok(Tok::Sign(sign))
                }
                None => Err(Error::new(pos, format!("no word begins with {c:?}"))),
            },
        }
    }

    fn ident(&mut self) -> &'a str {
        match self.peek() {
            Some(c) if c.is_ascii_alphabetic() || c == '_' => {
                self.take_while(|c| c.is_ascii_alphanumeric() || c == '_')
            }
            _ => "",
        }
    }

    /// Dots, dashes and slashes belong to a word when a letter or digit follows; so does `{name}` without blanks.
    fn word(&mut self) -> String {
        let start = self.at;
        loop {
            self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
            let mut ahead = self.rest().chars();
            let more = match (ahead.next(), ahead.next()) {
                (Some('.' | '-' | '/'), Some(c)) => c.is_ascii_alphanumeric(),
                (Some('{'), _) => template(self.rest()).is_some(),
                _ => false,
            };
            if !more {
                return self.text[start..self.at].to_owned();
            }
            let skip = template(self.rest()).map_or(1, |name| name.len() + 2);
            (0..skip).for_each(|_| _ = self.bump());
        }
    }

    fn number(&mut self) -> Result<Tok, Error> {
        let (pos, start) = (self.pos, self.at);
        if self.rest().starts_with("0x") {
            self.bump();
            self.bump();
            let digits = self.take_while(|c| c.is_ascii_alphanumeric());
            let n = u64::from_str_radix(digits, 16).map_err(|_| {
                Error::new(pos, format!("'0x{digits}' is no hexadecimal number of at most 16 digits"))
            })?;
            return Ok(Tok::Num(n as f64));
        }
        self.take_while(|c| c.is_ascii_digit());
        if self.rest().starts_with('.') && self.follows(1, |c| c.is_ascii_digit()) {
            self.bump();
            self.take_while(|c| c.is_ascii_digit());
        }
        let signed = usize::from(self.follows(1, |c| matches!(c, '+' | '-')));
        if self.follows(0, |c| c == 'e') && self.follows(1 + signed, |c| c.is_ascii_digit()) {
            (0..=signed).for_each(|_| _ = self.bump());
            self.take_while(|c| c.is_ascii_digit());
        }
        let digits = &self.text[start..self.at];
        let n: f64 = digits.parse().map_err(|_| Error::new(pos, format!("'{digits}' is no number")))?;
        let unit = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
        let time = |seconds: f64| {
            let time = Duration::try_from_secs_f64(seconds).ok().filter(|t| t.as_secs() <= 86_400);
            time.map(Tok::Time).ok_or_else(|| Error::new(pos, "a time of more than a day"))
        };
        match unit {
            "" => Ok(Tok::Num(n)),
            "ms" => time(n / 1000.0),
            "s" => time(n),
            "min" => time(n * 60.0),
            "KiB" => Ok(Tok::Num(n * 1024.0)),
            "MiB" => Ok(Tok::Num(n * 1_048_576.0)),
            _ => Err(Error::unknown(pos, "unit", unit, ["ms", "s", "min", "KiB", "MiB"])),
        }
    }

    fn follows(&self, ahead: usize, wanted: impl Fn(char) -> bool) -> bool {
        self.rest().chars().nth(ahead).is_some_and(wanted)
    }

    fn string(&mut self) -> Result<Tok, Error> {
        let begin = self.pos;
        self.bump();
        let (mut parts, mut literal) = (Vec::new(), Vec::new());
        loop {
            let pos = self.pos;
            if let Some(name) = template(self.rest()) {
                flush(&mut parts, &mut literal);
                parts.push(TextPart::Var(name.to_owned()));
                (0..name.len() + 2).for_each(|_| _ = self.bump());
                continue;
            }
            match self.bump() {
                Some('"') => break,
                Some('\\') => literal.push(self.escape(pos)?),
                Some('*') => {
                    flush(&mut parts, &mut literal);
                    parts.push(TextPart::Star);
                }
                None | Some('\n') => return Err(Error::new(begin, "the string does not end on its line")),
                Some(c) => literal.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        flush(&mut parts, &mut literal);
        Ok(Tok::Str(Text(parts)))
    }

    fn escape(&mut self, pos: Pos) -> Result<u8, Error> {
        Ok(match self.bump() {
            Some('n') => b'\n',
            Some('r') => b'\r',
            Some('t') => b'\t',
            Some('0') => 0,
            Some(c @ ('"' | '\\' | '{' | '}' | '*')) => c as u8,
            Some('x') => {
                let digits = self.rest().get(..2).unwrap_or("");
                let byte = u8::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'));
                let byte =
                    byte.ok_or_else(|| Error::new(pos, "expected two hexadecimal digits behind '\\x'"))?;
                self.bump();
                self.bump();
                byte
            }
            _ => return Err(Error::new(pos, r#"unknown escape; there are \n \r \t \0 \" \\ \{ \} \* \xNN"#)),
        })
    }
}

fn flush(parts: &mut Vec<TextPart>, literal: &mut Vec<u8>) {
    if !literal.is_empty() {
        parts.push(TextPart::Literal(std::mem::take(literal).into()));
    }
}

/// The name in `{name}` when that is what the text begins with.
fn template(text: &str) -> Option<&str> {
    let rest = text.strip_prefix('{')?;
    let len = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))?;
    let first = rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    (first && rest[len..].starts_with('}')).then_some(&rest[..len])
}

/// The parts of a word with templates: `c{i}`.
pub(crate) fn word_text(word: &str) -> Text {
    let mut parts = Vec::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('{') {
        if !before.is_empty() {
            parts.push(TextPart::Literal(before.into()));
        }
        let (name, after) = after.split_once('}').unwrap_or((after, ""));
        parts.push(TextPart::Var(name.to_owned()));
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(TextPart::Literal(rest.into()));
    }
    Text(parts)
}
