//! Refuses what cannot be right before a byte is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use super::ast::*;
use super::clauses::Clauses;
use super::names::{Kind, Names};
use super::syntax;
use crate::notation::error::{Error, nearest};
use crate::notation::expr::*;
use crate::wire::amf0::Value;

/// How often `repeat` may run.
pub const MAX_REPEAT: u32 = 1_000_000;

/// Facts about a target, and the values that they take.
const FACTS: [(&str, &[&str]); 14] = [
    ("publish", &[]),
    ("play", &[]),
    ("ping", &[]),
    ("acks", &[]),
    ("amf3", &[]),
    ("ertmp", &[]),
    ("signed", &[]),
    ("relay", &["passthrough", "remux", "transcode", "partial"]),
    ("streams", &["many", "one"]),
    ("taken", &["refuse", "close", "takeover", "silent"]),
    ("missing", &["wait", "refuse", "close"]),
    ("pid", &[]),
    ("vod", &[]),
    ("one-shot", &[]),
];

fn expected_value(name: &str, values: &[&str]) -> String {
    format!("expected {name}={}", values.join(&format!(" or {name}=")))
}

impl FromStr for Fact {
    type Err = String;

    /// `NAME` or `NAME=VALUE`, with a name that scenarios can need.
    fn from_str(text: &str) -> Result<Fact, String> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        let names = FACTS.iter().map(|(name, _)| *name);
        let Some((_, values)) = FACTS.iter().find(|(known, _)| *known == name) else {
            let near = nearest(name, names.clone()).map(|near| format!("; did you mean '{near}'?"));
            let all: Vec<_> = names.collect();
            return Err(format!(
                "unknown fact{}; expected one of {}",
                near.unwrap_or_default(),
                all.join(" ")
            ));
        };
        match value {
            Some(value) if values.is_empty() && !["yes", "no"].contains(&value.as_str()) => {
                Err(format!("'{name}' is yes or no"))
            }
            value if !values.is_empty() && !value.iter().any(|value| values.contains(&value.as_str())) => {
                Err(expected_value(name, values))
            }
            value => Ok(Fact { name: name.to_owned(), value }),
        }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={value}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// What is bound from the begin.
const GIVEN: [&str; 7] = ["name", "app", "url", "msid", "window", "sent", "received"];

/// What is bound anew before each line: a name of the file's own would be lost.
const PER_LINE: [&str; 4] = ["msid", "window", "sent", "received"];

/// What scenarios may name.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The rows that `clause` cites.
    pub clauses: &'a Clauses,
    /// The faults that `bites` names.
    pub faults: &'a [&'a str],
}

/// Reads and checks one file.
///
/// # Errors
/// Every mistake found, in the order of the text.
pub fn read(id: &str, text: &str, known: Known<'_>) -> Result<Scenario, Vec<Error>> {
    let scenario = syntax::parse(id, text)?;
    let mut errors = check(&scenario, text, known);
    if errors.is_empty() {
        return Ok(scenario);
    }
    errors.sort_by_key(|error| (error.pos.line, error.pos.column));
    Err(errors)
}

fn check(scenario: &Scenario, text: &str, known: Known<'_>) -> Vec<Error> {
    // The first row cited decides.
    let first = scenario.clauses.first().and_then(|id| known.clauses.get(id));
    let mut checker = Checker {
        names: Names::new(text, GIVEN),
        opened: BTreeSet::new(),
        refuse_fail: first.filter(|clause| !clause.may_fail()).map(|clause| {
            let level = clause.level.name();
            format!(
                "{} is {level}: say lenient, or broken for a crash, a hang, wrong bytes or harm",
                clause.id
            )
        }),
        judges: false,
    };
    checker.head(scenario, known);
    checker.columns(scenario);
    checker.steps(&scenario.steps);
    checker.unused_columns(scenario);
    if !checker.judges && checker.names.errors.is_empty() {
        let message = "nothing is judged: expect something, or end with in step, alive or one of";
        let pos = scenario.steps.last().map_or(Pos { line: 1, column: 1 }, |step| step.pos);
        checker.names.errors.push(Error::new(pos, message));
    }
    checker.names.errors
}

struct Checker {
    names: Names,
    /// Connections that were begun, as they are spelt.
    opened: BTreeSet<String>,
    /// Why `fail` may not be said.
    refuse_fail: Option<String>,
    judges: bool,
}

impl Checker {
    fn head(&mut self, scenario: &Scenario, known: Known<'_>) {
        let ids = known.clauses.iter().map(|clause| clause.id.as_str());
        for id in &scenario.clauses {
            if known.clauses.get(id).is_none() {
                self.names.unknown_word("clause", id, ids.clone());
            }
        }
        for fault in &scenario.bites {
            if !known.faults.contains(&fault.as_str()) {
                self.names.unknown_word("fault", fault, known.faults.iter().copied());
            }
        }
        for bug in &scenario.bugs {
            let number = bug.strip_prefix("FB-").unwrap_or("");
            if number.len() != 3 || !number.chars().all(|c| c.is_ascii_digit()) {
                self.names.wrong_word(bug, format!("'{bug}' is no id like FB-001"));
            }
        }
        for fact in &scenario.needs {
            match FACTS.iter().find(|(name, _)| *name == fact.name) {
                None => self.names.unknown_word("fact", &fact.name, FACTS.iter().map(|(name, _)| *name)),
                Some((name, [])) if fact.value.is_some() => {
                    self.names.wrong_word(name, format!("'{name}' takes no value"));
                }
                Some((name, values @ [_, ..]))
                    if !fact.value.iter().any(|v| values.contains(&v.as_str())) =>
                {
                    self.names.wrong_word(name, expected_value(name, values));
                }
                Some(_) => {}
            }
        }
        for list in [&scenario.clauses, &scenario.bites, &scenario.bugs] {
            for (index, word) in list.iter().enumerate() {
                if list[..index].contains(word) {
                    self.names.wrong_word(word, format!("'{word}' stands twice"));
                }
            }
        }
    }

    /// Binds the columns of the table.
    fn columns(&mut self, scenario: &Scenario) {
        self.names.look_for("for");
        let Some(first) = scenario.cases.first() else { return };
        for (column, (name, value)) in first.vars.iter().enumerate() {
            let kind = Kind::of(value);
            if scenario.cases.iter().any(|case| Kind::of(&case.vars[column].1) != kind) {
                let message = format!("the column '{name}' holds values in one row and bytes in another");
                self.names.wrong(message);
            }
        }
        for case in &scenario.cases {
            for (_, value) in &case.vars {
                match value {
                    CaseValue::Value(value) => self.names.expr(value),
                    CaseValue::Payload(payload) => self.names.payload(payload),
                }
            }
        }
        for (name, value) in &first.vars {
            self.bind(name, Kind::of(value));
        }
    }

    /// Binds a name of the file's own.
    fn bind(&mut self, name: &str, kind: Kind) -> Option<Kind> {
        if PER_LINE.contains(&name) {
            self.names.wrong_word(name, format!("'{name}' is given: choose another name"));
        }
        self.names.bind(name, kind)
    }

    fn unused_columns(&mut self, scenario: &Scenario) {
        self.names.at = Pos { line: 1, column: 1 };
        self.names.look_for("for");
        for (name, _) in scenario.cases.first().map_or(&[][..], |case| &case.vars) {
            if !self.names.used(name) {
                self.names.wrong_word(name, format!("the column '{name}' is never used"));
            }
        }
    }

    fn steps(&mut self, steps: &[Step]) {
        for step in steps {
            if self.names.full() {
                return;
            }
            self.step(step);
        }
    }

    fn step(&mut self, step: &Step) {
        self.names.at = step.pos;
        match &step.kind {
            StepKind::Let(name, payload) => {
                self.names.payload(payload);
                self.bind(name, Kind::Bytes);
                return;
            }
            StepKind::Wait(_) => return,
            StepKind::Repeat { count, var, body, .. } => return self.repeat(count, var.as_deref(), body),
            StepKind::Memory { body, .. } => {
                self.judges = true;
                return self.steps(body);
            }
            StepKind::Reach(reach) => {
                self.reach(reach);
                self.names.text(&step.conn);
                self.opened.insert(spelt(&step.conn));
                return;
            }
            StepKind::Judge(condition, _) => {
                self.judges = true;
                return self.condition(condition);
            }
            StepKind::OneOf { branches, otherwise, .. } => return self.one_of(step.pos, branches, otherwise),
            _ => {}
        }
        self.conn(&step.conn);
        match &step.kind {
            StepKind::Send(send) => self.send(send),
            StepKind::Together(sends) => sends.iter().for_each(|send| self.send(send)),
            StepKind::Await(wait) => self.names.pattern(&wait.pattern),
            _ => {}
        }
    }

    fn repeat(&mut self, count: &Expr, var: Option<&str>, body: &[Step]) {
        self.names.number(count);
        if let Expr::Literal(Value::Number(n)) = count
            && !(0.0..=f64::from(MAX_REPEAT)).contains(n)
        {
            self.names.wrong(format!("'repeat' runs 0 to {MAX_REPEAT} times"));
        }
        let before = var.and_then(|name| self.bind(name, Kind::Value));
        self.steps(body);
        if let Some(name) = var {
            self.names.restore(name, before);
        }
    }

    fn one_of(&mut self, pos: Pos, branches: &[Branch], otherwise: &(Judgement, String)) {
        self.judges = true;
        if branches.is_empty() {
            self.names.wrong("'one of' has no branch before 'otherwise'".to_owned());
        }
        let mut last = pos;
        for branch in branches {
            last = branch.pos;
            if branch.judgement == Judgement::Fail {
                self.refused(branch.pos);
            }
            // What a branch binds is bound when it holds: not behind it.
            let scope = self.names.scope();
            self.condition(&branch.condition);
            self.names.leave(scope);
        }
        if otherwise.0 == Judgement::Fail {
            self.names.at = last;
            self.names.look_for("otherwise");
            self.names.look_for("fail");
            self.refused(self.names.at);
        }
    }

    fn refused(&mut self, pos: Pos) {
        if let Some(why) = &self.refuse_fail {
            self.names.errors.push(Error::new(pos, why.clone()));
        }
    }

    fn reach(&mut self, reach: &Reach) {
        reach.name.iter().for_each(|name| self.names.text(name));
        reach.with.iter().for_each(|with| self.names.expr(with));
        reach.window.iter().chain(&reach.chunk).for_each(|n| self.names.number(n));
    }

    /// A connection that is used must have been begun.
    fn conn(&mut self, conn: &Text) {
        self.names.text(conn);
        let name = spelt(conn);
        let many = |name: &str| name.contains('{');
        let known = |opened: &String| (many(opened) || many(&name)) && same_family(opened, &name);
        if self.opened.contains(&name) || self.opened.iter().any(known) {
            return;
        }
        let message = match crate::notation::error::nearest(&name, self.opened.iter().map(String::as_str)) {
            Some(near) => format!("connection '{name}' has no 'reach' before this; did you mean '{near}'?"),
            None => format!("connection '{name}' has no 'reach' before this"),
        };
        self.names.wrong(message);
    }

    fn send(&mut self, send: &Send) {
        self.names.at = send.pos;
        match &send.what {
            SendWhat::Message(message, fields) => self.names.message(message, fields),
            SendWhat::Chunk(chunk) => self.chunk(chunk),
            SendWhat::Bytes(payload) => self.names.payload(payload),
            SendWhat::C0(n) => {
                self.names.number(n);
                self.names.at_most("C0", n, 255);
            }
            SendWhat::C1 { time, version, random, .. } => {
                time.iter().chain(version).for_each(|n| self.names.number(n));
                random.iter().for_each(|payload| self.names.payload(payload));
            }
            SendWhat::C2 { time, version, random, flip, .. } => {
                time.iter().chain(version).chain(flip).for_each(|n| self.names.number(n));
                random.iter().for_each(|payload| self.names.payload(payload));
                flip.iter().for_each(|bit| self.names.at_most("flip", bit, 1536 * 8 - 1));
            }
        }
        match &send.split {
            Split::At(offsets) => offsets.iter().for_each(|n| self.names.number(n)),
            Split::Each(n) => {
                self.names.number(n);
                if matches!(n, Expr::Literal(Value::Number(n)) if *n < 1.0) {
                    self.names.wrong("'split each' needs at least one byte".to_owned());
                }
            }
            Split::Whole | Split::Random => {}
        }
    }

    /// What does not fit into a header's fields cannot be sent.
    fn chunk(&mut self, chunk: &ChunkExpr) {
        let fields = [
            ("fmt", &chunk.fmt, 3),
            ("csid", &chunk.csid, 65599),
            ("form", &chunk.form, 3),
            ("ts", &chunk.ts, u32::MAX),
            ("len", &chunk.len, 0xFF_FFFF),
            ("type", &chunk.type_id, 255),
            ("msid", &chunk.msid, u32::MAX),
            ("ext", &chunk.ext, u32::MAX),
        ];
        for (name, field, most) in fields {
            if let Some(n) = field {
                self.names.number(n);
                self.names.at_most(name, n, most);
            }
        }
        self.names.payload(&chunk.payload);
    }

    fn condition(&mut self, condition: &Condition) {
        self.names.at = condition.pos;
        match &condition.kind {
            ConditionKind::Alive => return,
            ConditionKind::Again(reach) => return self.reach(reach),
            ConditionKind::Relayed { from, to, .. } => {
                self.conn(from);
                return self.conn(to);
            }
            ConditionKind::Steps(steps) => return self.steps(steps),
            _ => self.conn(&condition.conn),
        }
        match &condition.kind {
            ConditionKind::Seen(pattern) => self.names.pattern(pattern),
            ConditionKind::NeverFor(pattern, _) => self.in_scope(|names| names.pattern(pattern)),
            ConditionKind::NeverUntil(never, until) => {
                self.in_scope(|names| names.pattern(never));
                self.names.pattern(until);
            }
            ConditionKind::All(pattern, are) => self.in_scope(|names| {
                names.pattern(pattern);
                names.pattern(are);
            }),
            ConditionKind::Count(from, to, pattern) => {
                self.names.number(from);
                self.names.number(to);
                self.names.range(from, to);
                self.in_scope(|names| names.pattern(pattern));
            }
            ConditionKind::Received(from, to) => {
                self.names.number(from);
                self.names.number(to);
                self.names.range(from, to);
            }
            _ => {}
        }
    }

    /// What is bound inside is forgotten.
    fn in_scope(&mut self, inside: impl FnOnce(&mut Names)) {
        let scope = self.names.scope();
        inside(&mut self.names);
        self.names.leave(scope);
    }
}

/// A connection's name as it is written.
fn spelt(conn: &Text) -> String {
    let part = |part: &TextPart| match part {
        TextPart::Literal(text) => text.to_string(),
        TextPart::Var(name) => format!("{{{name}}}"),
        TextPart::Star => "*".to_owned(),
    };
    conn.0.iter().map(part).collect()
}

/// Whether `c{i}` and `c0` can be the same connection.
fn same_family(a: &str, b: &str) -> bool {
    let stem = |name: &str| {
        name.split('{').next().unwrap_or("").trim_end_matches(|c: char| c.is_ascii_digit()).to_owned()
    };
    stem(a) == stem(b)
}

/// The scope of names: what each stands for.
pub(super) type Scope = BTreeMap<String, Kind>;
