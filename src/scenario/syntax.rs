//! A file into a [`Scenario`]: its head, lines and conditions; what is sent and awaited is in `syntax_wire.rs`.

use super::ast::*;
use super::syntax_judge::VERDICTS;
use crate::notation::error::Error;
use crate::notation::expr::*;
use crate::notation::lex::{Tok, word_text};
use crate::notation::parse::{MESSAGES, PIECES, Parser, Result, unstar};
use crate::wire::session::Goal;

/// The longest file that is read, in bytes: what a fuzzer saves may carry long payloads.
pub const MAX_FILE: usize = 8 << 20;
/// The most words, strings, numbers and signs of one file.
pub const MAX_TOKENS: usize = 100_000;
/// How many mistakes of one file are told.
const MAX_ERRORS: usize = 20;
const MAX_ROWS: usize = 1000;

const HEAD: [&str; 8] = ["scenario", "clause", "bug", "bites", "needs", "slow", "alone", "for"];
/// The words that begin a line, behind the name of its connection.
const LINES: [&str; 24] = [
    "let",
    "reach",
    "close",
    "half-close",
    "reset",
    "stop",
    "resume",
    "wait",
    "together",
    "repeat",
    "next",
    "expect",
    "never",
    "all",
    "one",
    "count",
    "received",
    "in",
    "alive",
    "relayed",
    "again",
    "controlled",
    "memory",
    "otherwise",
];
const GOALS: [(&str, Goal); 6] = [
    ("open", Goal::Open),
    ("handshaken", Goal::Handshaken),
    ("connected", Goal::Connected),
    ("created", Goal::Created),
    ("publishing", Goal::Publishing),
    ("playing", Goal::Playing),
];
const TIMES: [(&str, TimeKind); 6] = [
    ("reply", TimeKind::Reply),
    ("quiet", TimeKind::Quiet),
    ("close", TimeKind::Close),
    ("relay", TimeKind::Relay),
    ("idle", TimeKind::Idle),
    ("slow", TimeKind::Slow),
];

/// Reads one file. `id` is its path below the scenarios' folder without the suffix.
///
/// # Errors
/// Every mistake found, in the order of the text; a mistake inside a block hides the rest of that block.
pub fn parse(id: &str, text: &str) -> std::result::Result<Scenario, Vec<Error>> {
    if text.len() > MAX_FILE {
        let message = format!("{} bytes where a scenario has at most {MAX_FILE}", text.len());
        return Err(vec![Error::new(Pos { line: 1, column: 1 }, message)]);
    }
    let mut parser = Parser::new(text).map_err(|error| vec![error])?;
    if let Some(token) = parser.tokens.get(MAX_TOKENS) {
        return Err(vec![Error::new(
            token.pos,
            format!("more than {MAX_TOKENS} words, strings, numbers and signs"),
        )]);
    }
    let mut file = File {
        scenario: Scenario {
            id: id.to_owned(),
            title: String::new(),
            clauses: Vec::new(),
            bugs: Vec::new(),
            bites: Vec::new(),
            needs: Vec::new(),
            slow: false,
            alone: false,
            cases: Vec::new(),
            steps: Vec::new(),
        },
        titled: false,
    };
    let mut errors = Vec::new();
    while *parser.peek() != Tok::End && errors.len() < MAX_ERRORS {
        if *parser.peek() == Tok::Newline {
            parser.next();
            continue;
        }
        let start = parser.at;
        if let Err(error) = file.line(&mut parser).and_then(|()| parser.end_of_line()) {
            errors.push(error);
            parser.skip_line(start);
        }
    }
    if errors.is_empty() && !file.titled {
        errors.push(Error::new(
            Pos { line: 1, column: 1 },
            "expected 'scenario \"what it shows\"' as the first line",
        ));
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut scenario = file.scenario;
    if scenario.cases.is_empty() {
        scenario.cases.push(Case::default());
    }
    scenario.alone |= scenario.steps.iter().any(Step::measures_memory);
    Ok(scenario)
}

struct File {
    scenario: Scenario,
    titled: bool,
}

impl File {
    fn line(&mut self, p: &mut Parser<'_>) -> Result<()> {
        let pos = p.pos();
        let word = match (p.peek(), p.ahead(1)) {
            (Tok::Word(word), _) if HEAD.contains(&word.as_str()) => word.clone(),
            _ => {
                self.scenario.steps.push(p.step(&main_conn())?);
                return Ok(());
            }
        };
        if !self.scenario.steps.is_empty() {
            return Err(Error::new(pos, format!("'{word}' belongs to the head, before the first step")));
        }
        p.next();
        if word != "scenario" && !self.titled {
            return Err(Error::new(pos, "expected 'scenario \"what it shows\"' as the first line"));
        }
        let s = &mut self.scenario;
        match word.as_str() {
            "scenario" if self.titled => return Err(Error::new(pos, "a second 'scenario' line")),
            "scenario" => {
                s.title = p.literal("the title")?.to_string();
                self.titled = true;
            }
            "clause" => s.clauses.extend(words(p, "the id of a clause")?),
            "bug" => s.bugs.extend(words(p, "the id of a bug")?),
            "bites" => s.bites.extend(words(p, "the name of a fault")?),
            "needs" => loop {
                let name = p.word("a fact")?;
                let value = if p.take_sign("=") { Some(p.word("the fact's value")?) } else { None };
                s.needs.push(Fact { name, value });
                if !matches!(p.peek(), Tok::Word(_)) {
                    break;
                }
            },
            "slow" => s.slow = true,
            "alone" => s.alone = true,
            "for" if !s.cases.is_empty() => return Err(Error::new(pos, "a second table")),
            "for" => s.cases = table(p)?,
            _ => return Err(Error::unknown(pos, "word", &word, HEAD)),
        }
        Ok(())
    }
}

fn main_conn() -> Text {
    word_text("main")
}

/// At least one word, up to the end of the line.
fn words(p: &mut Parser<'_>, what: &str) -> Result<Vec<String>> {
    let mut words = vec![p.word(what)?];
    while matches!(p.peek(), Tok::Word(_)) {
        words.push(p.word(what)?);
    }
    Ok(words)
}

/// `x, y in { row: value, value; … }`.
fn table(p: &mut Parser<'_>) -> Result<Vec<Case>> {
    let mut names = vec![p.bound_name()?];
    while p.take_sign(",") {
        names.push(p.bound_name()?);
    }
    p.keyword("in")?;
    p.block(|p| {
        let mut cases: Vec<Case> = Vec::new();
        loop {
            while p.take_sign(";") || p.take_newline() {}
            let pos = p.pos();
            if p.at_sign("}") && !cases.is_empty() {
                return Ok(cases);
            }
            let case = row(p, &names)?;
            if cases.iter().any(|other| other.row == case.row) {
                let name = case.row.unwrap_or_default();
                return Err(Error::new(pos, format!("a second row named '{name}'")));
            }
            if cases.len() == MAX_ROWS {
                return Err(Error::new(pos, format!("more than {MAX_ROWS} rows")));
            }
            cases.push(case);
            if !p.at_sign(";") && !p.at_sign("}") && *p.peek() != Tok::Newline {
                return p.expected("',', ';' or '}'");
            }
        }
    })
}

fn row(p: &mut Parser<'_>, names: &[String]) -> Result<Case> {
    let pos = p.pos();
    let named = *p.ahead(1) == Tok::Sign(":");
    let own_name = if named { Some(row_name(p)?) } else { None };
    let start = p.tokens[p.at].span.0;
    let mut vars = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        if index > 0 && !p.take_sign(",") {
            let message = format!("expected {} values in this row, found {index}", names.len());
            return Err(Error::new(p.pos(), message));
        }
        let value = if p.at_piece() && !matches!(p.peek(), Tok::Var(_)) {
            CaseValue::Payload(p.payload()?)
        } else {
            CaseValue::Value(p.expr()?)
        };
        vars.push((name.clone(), value));
    }
    if p.at_sign(",") {
        let message = format!("expected {} values in this row, found more", names.len());
        return Err(Error::new(p.pos(), message));
    }
    let text = p.text[start..p.tokens[p.at].span.0].trim().trim_matches('"');
    let row = match own_name {
        Some(name) => name,
        None if is_row_name(text) => text.to_owned(),
        None => return Err(Error::new(pos, "this row needs a name; write name: value")),
    };
    Ok(Case { row: Some(row), vars })
}

fn row_name(p: &mut Parser<'_>) -> Result<String> {
    let pos = p.pos();
    let start = p.tokens[p.at].span;
    p.next();
    p.sign(":")?;
    let name = p.text[start.0..start.1].trim_matches('"');
    if is_row_name(name) {
        return Ok(name.to_owned());
    }
    Err(Error::new(pos, "a row's name is made of letters, digits, dots, dashes and underscores"))
}

fn is_row_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    !text.is_empty() && text.len() <= 64 && text.chars().all(fits)
}

impl Parser<'_> {
    pub(super) fn take_newline(&mut self) -> bool {
        let here = *self.peek() == Tok::Newline;
        if here {
            self.next();
        }
        here
    }

    pub(super) fn end_of_line(&mut self) -> Result<()> {
        match self.peek() {
            Tok::Newline => {
                self.next();
                Ok(())
            }
            Tok::End => Ok(()),
            Tok::Word(word) => {
                let known = ["within", "split", "gap", "for", "until", "are", "every", "as", "with", "by"];
                let fields = ["csid", "ts", "msid", "fmt", "len", "type"];
                let known = known.iter().chain(&PIECES).chain(&fields).copied();
                Err(Error::unknown(self.pos(), "word", word, known))
            }
            _ => self.expected("the end of the line"),
        }
    }

    /// Goes behind the line that begins at this token, with the blocks it opens.
    fn skip_line(&mut self, start: usize) {
        let stuck = self.at.max(start);
        let (mut at, mut open) = (start, 0u32);
        loop {
            match self.tokens[at].tok {
                Tok::End => break,
                Tok::Newline if open == 0 && at >= stuck => break,
                Tok::Sign("{") => open += 1,
                Tok::Sign("}") => open = open.saturating_sub(1),
                _ => {}
            }
            at += 1;
        }
        self.at = at;
    }

    /// A name behind `for`, `let`, `as`; `$` may stand before it.
    fn bound_name(&mut self) -> Result<String> {
        let name = match self.peek() {
            Tok::Word(name) | Tok::Var(name) => name.clone(),
            _ => return self.expected("a name"),
        };
        if name == "_" || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            let message = format!("'{name}' is no name: letters, digits and underscores");
            return Err(Error::new(self.pos(), message));
        }
        self.next();
        Ok(name)
    }

    fn starts_line(tok: &Tok) -> bool {
        match tok {
            Tok::Word(word) => LINES.contains(&word.as_str()),
            Tok::Sign(sign) => matches!(*sign, ">" | "<"),
            _ => false,
        }
    }

    /// The connection's name that the line begins with, or the one given.
    pub(super) fn conn(&mut self, default: &Text, starts: impl Fn(&Tok) -> bool) -> Result<Text> {
        match (self.peek().clone(), self.ahead(1)) {
            (Tok::Word(word), _) if VERDICTS.contains(&word.as_str()) => Ok(default.clone()),
            (Tok::Word(word), next) if !starts(&Tok::Word(word.clone())) && starts(next) => self.conn_name(),
            _ => Ok(default.clone()),
        }
    }

    pub(super) fn conn_name(&mut self) -> Result<Text> {
        let pos = self.pos();
        let word = self.word("the name of a connection")?;
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '{' | '}');
        if word.chars().all(fits) {
            return Ok(word_text(&word));
        }
        Err(Error::new(
            pos,
            format!("'{word}' is no name of a connection: letters, digits, dashes and {{i}}"),
        ))
    }

    /// `{ lines }`, about this connection unless they name another.
    pub(super) fn steps(&mut self, conn: &Text) -> Result<Vec<Step>> {
        self.block(|p| {
            let mut steps = Vec::new();
            loop {
                while p.take_newline() {}
                if p.at_sign("}") {
                    return Ok(steps);
                }
                steps.push(p.step(conn)?);
                if !p.at_sign("}") {
                    p.end_of_line()?;
                    if *p.peek() == Tok::End {
                        return p.expected("'}'");
                    }
                }
            }
        })
    }

    fn step(&mut self, conn: &Text) -> Result<Step> {
        let pos = self.pos();
        if let Some(word) = self.word_as_name() {
            return Err(Error::new(
                pos,
                format!("'{word}' is a word of the language; no connection has this name"),
            ));
        }
        let conn = self.conn(conn, Self::starts_line)?;
        let kind = self.step_kind(&conn)?;
        Ok(Step { pos, conn, kind })
    }

    /// A word of the language where a connection's name must be meant.
    fn word_as_name(&self) -> Option<String> {
        let Tok::Word(word) = self.peek() else { return None };
        let other = match self.ahead(1) {
            Tok::Sign(">") => true,
            Tok::Sign("<") => !["next", "expect", "never", "all", "memory"].contains(&word.as_str()),
            Tok::Word(next) => next == "reach" && word != "again" && word != "expect",
            _ => false,
        };
        (other && LINES.contains(&word.as_str())).then(|| word.clone())
    }

    fn step_kind(&mut self, conn: &Text) -> Result<StepKind> {
        let pos = self.pos();
        match self.peek() {
            Tok::Sign(">") => return self.send().map(StepKind::Send),
            Tok::Sign("<") => return self.await_line(false),
            _ => {}
        }
        let word = self.word("a step")?;
        match word.as_str() {
            "let" => {
                let name = self.bound_name()?;
                self.sign("=")?;
                Ok(StepKind::Let(name, self.payload()?))
            }
            "reach" => self.reach().map(StepKind::Reach),
            "close" => Ok(StepKind::Close),
            "half-close" => Ok(StepKind::HalfClose),
            "reset" => Ok(StepKind::Reset),
            "stop" => self.keyword("reading").map(|()| StepKind::StopReading),
            "resume" => self.keyword("reading").map(|()| StepKind::ResumeReading),
            "wait" => self.time().map(StepKind::Wait),
            "together" => self.together(),
            "repeat" => self.repeat(conn),
            "next" => self.await_line(true),
            "expect" => self.judge(conn, true),
            "one" => self.one_of(conn),
            "memory" => {
                self.sign("<")?;
                let below = self.constant()?;
                Ok(StepKind::Memory { below: below as u64, body: self.steps(conn)? })
            }
            "otherwise" => Err(Error::new(pos, "'otherwise' belongs into 'one of { … }'")),
            _ if Self::starts_line(&Tok::Word(word.clone())) => {
                self.at -= 1;
                self.judge(conn, false)
            }
            _ if VERDICTS.contains(&word.as_str()) => {
                Err(Error::new(pos, format!("'{word}' belongs into 'one of {{ … }}'")))
            }
            _ => Err(self.unknown_line(pos, &word)),
        }
    }

    /// A misspelt line, or a line whose `>` was forgotten.
    fn unknown_line(&self, pos: Pos, word: &str) -> Error {
        if MESSAGES.contains(&word) || self.at_sign("(") || word == "bytes" || word == "chunk" {
            return Error::new(pos, format!("expected '>' or '<' before '{word}'"));
        }
        Error::unknown(pos, "word", word, LINES.iter().chain(&HEAD).copied())
    }

    fn await_line(&mut self, next: bool) -> Result<StepKind> {
        self.sign("<")?;
        let pattern = self.pattern()?;
        let within = self.within()?;
        Ok(StepKind::Await(Await { pattern, within, next }))
    }

    fn judge(&mut self, conn: &Text, expect: bool) -> Result<StepKind> {
        let condition = self.condition(conn)?;
        if expect && matches!(condition.kind, ConditionKind::Steps(_)) {
            return Err(Error::new(
                condition.pos,
                "'{ … }' is a branch of 'one of'; expect each line by itself",
            ));
        }
        let within = self.within()?;
        Ok(StepKind::Judge(condition, within))
    }

    pub(super) fn within(&mut self) -> Result<Option<TimeSpec>> {
        if self.take_word("within") { self.time().map(Some) } else { Ok(None) }
    }

    /// `reply` or `5ms`.
    pub(super) fn time(&mut self) -> Result<TimeSpec> {
        let pos = self.pos();
        match self.peek().clone() {
            Tok::Time(time) => {
                self.next();
                Ok(TimeSpec::Exactly(time))
            }
            Tok::Word(word) => match TIMES.iter().find(|(name, _)| *name == word) {
                Some((_, kind)) => {
                    self.next();
                    Ok(TimeSpec::Kind(*kind))
                }
                None => Err(Error::unknown(pos, "time", &word, TIMES.map(|(name, _)| name))),
            },
            Tok::Num(n) => Err(Error::new(pos, format!("a time needs its unit: {n}ms or {n}s"))),
            _ => self.expected("a time (reply quiet close relay idle slow, or 5ms, 2s)"),
        }
    }

    fn repeat(&mut self, conn: &Text) -> Result<StepKind> {
        let count = self.number()?;
        let var = if self.take_word("as") { Some(self.bound_name()?) } else { None };
        let every = if self.take_word("every") { Some(self.time()?) } else { None };
        Ok(StepKind::Repeat { count, var, every, body: self.steps(conn)? })
    }

    fn together(&mut self) -> Result<StepKind> {
        self.block(|p| {
            let mut sends = Vec::new();
            loop {
                while p.take_newline() {}
                if p.at_sign("}") && !sends.is_empty() {
                    return Ok(StepKind::Together(sends));
                }
                if !p.at_sign(">") {
                    return p.expected("'>': 'together { … }' holds sends of one connection");
                }
                sends.push(p.send()?);
                if !p.at_sign("}") {
                    p.end_of_line()?;
                }
            }
        })
    }

    pub(super) fn reach(&mut self) -> Result<Reach> {
        let pos = self.pos();
        let word = self.word("a goal")?;
        let Some((_, goal)) = GOALS.iter().find(|(name, _)| *name == word) else {
            return Err(Error::unknown(pos, "goal", &word, GOALS.map(|(name, _)| name)));
        };
        let mut reach = Reach {
            goal: *goal,
            name: None,
            with: None,
            acks: true,
            pongs: true,
            window: None,
            chunk: None,
            signed: None,
        };
        if matches!(self.peek(), Tok::Str(_)) {
            if *goal < Goal::Publishing {
                return Err(Error::new(self.pos(), "only publishing and playing take a stream name"));
            }
            reach.name = Some(unstar(self.string("a stream name")?));
        }
        if self.take_word("with") {
            if !self.at_sign("{") {
                return self.expected("'{'");
            }
            reach.with = Some(self.expr()?);
        }
        while self.at_field() {
            let pos = self.pos();
            let name = self.word("an option")?;
            self.next();
            match name.as_str() {
                "acks" => reach.acks = self.on_off()?,
                "pongs" => reach.pongs = self.on_off()?,
                "window" => reach.window = Some(self.number()?),
                "chunk" => reach.chunk = Some(self.number()?),
                "signed" => reach.signed = Some(self.schema()?),
                _ => {
                    let known = ["acks", "pongs", "window", "chunk", "signed"];
                    return Err(Error::unknown(pos, "option", &name, known));
                }
            }
        }
        Ok(reach)
    }

    fn on_off(&mut self) -> Result<bool> {
        let pos = self.pos();
        match self.word("'on' or 'off'")?.as_str() {
            "on" => Ok(true),
            "off" => Ok(false),
            other => Err(Error::new(pos, format!("expected 'on' or 'off', found '{other}'"))),
        }
    }

    /// 0 or 1.
    pub(super) fn schema(&mut self) -> Result<u8> {
        let pos = self.pos();
        match self.constant()? {
            0.0 => Ok(0),
            1.0 => Ok(1),
            n => Err(Error::new(pos, format!("expected schema 0 or 1, found {n}"))),
        }
    }
}
