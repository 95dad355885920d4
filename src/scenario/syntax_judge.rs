//! What a line judges: conditions, and the branches of `one of`.

use super::ast::*;
use crate::notation::error::Error;
use crate::notation::expr::*;
use crate::notation::lex::Tok;
use crate::notation::parse::{Parser, Result};

/// What a branch or `otherwise` says of the target.
pub(super) const VERDICTS: [&str; 5] = ["pass", "info", "lenient", "fail", "broken"];
const CONDITIONS: [&str; 9] =
    ["never", "all", "count", "received", "in", "alive", "controlled", "relayed", "again"];

impl Parser<'_> {
    pub(super) fn one_of(&mut self, conn: &Text) -> Result<StepKind> {
        self.keyword("of")?;
        let within = self.within()?;
        let open = self.pos();
        self.block(|p| {
            let (mut branches, mut otherwise) = (Vec::new(), None);
            loop {
                while p.take_newline() {}
                if p.at_sign("}") {
                    break;
                }
                if otherwise.is_some() {
                    return Err(Error::new(p.pos(), "'otherwise' is the last line of 'one of'"));
                }
                if p.take_word("otherwise") {
                    let judgement = p.verdict()?;
                    otherwise = Some((judgement, p.literal("the reason in quotes")?.to_string()));
                } else {
                    branches.push(p.branch(conn)?);
                }
                if !p.at_sign("}") {
                    p.end_of_line()?;
                    if *p.peek() == Tok::End {
                        return p.expected("'}'");
                    }
                }
            }
            match otherwise {
                Some(otherwise) => Ok(StepKind::OneOf { within, branches, otherwise }),
                None => Err(Error::new(open, "'one of' needs a last line: otherwise VERDICT \"why\"")),
            }
        })
    }

    fn verdict(&mut self) -> Result<Judgement> {
        let pos = self.pos();
        let word = self.word("a verdict (pass info lenient fail broken)")?;
        Ok(match word.as_str() {
            "pass" => Judgement::Pass,
            "info" => Judgement::Info,
            "lenient" => Judgement::Lenient,
            "fail" => Judgement::Fail,
            "broken" => Judgement::Broken,
            _ => {
                return Err(Error::unknown(
                    pos,
                    "verdict",
                    &word,
                    VERDICTS.iter().chain(&["otherwise"]).copied(),
                ));
            }
        })
    }

    fn branch(&mut self, conn: &Text) -> Result<Branch> {
        let pos = self.pos();
        let judgement = self.verdict()?;
        let label = match self.peek() {
            Tok::Str(_) => Some(self.literal("a label")?.to_string()),
            _ => None,
        };
        let before = self.within()?;
        let condition = self.condition(conn)?;
        let within = if before.is_some() { before } else { self.within()? };
        Ok(Branch { pos, judgement, label, within, condition })
    }

    fn starts_condition(tok: &Tok) -> bool {
        match tok {
            Tok::Word(word) => CONDITIONS.contains(&word.as_str()),
            Tok::Sign(sign) => matches!(*sign, "<" | "{"),
            _ => false,
        }
    }

    pub(super) fn condition(&mut self, conn: &Text) -> Result<Condition> {
        let pos = self.pos();
        let conn = self.conn(conn, Self::starts_condition)?;
        let kind = self.condition_kind(&conn)?;
        Ok(Condition { pos, conn, kind })
    }

    fn condition_kind(&mut self, conn: &Text) -> Result<ConditionKind> {
        let pos = self.pos();
        if self.at_sign("{") {
            return self.steps(conn).map(ConditionKind::Steps);
        }
        if self.take_sign("<") {
            return self.pattern().map(ConditionKind::Seen);
        }
        match self.word("a condition")?.as_str() {
            "never" => {
                self.sign("<")?;
                let pattern = self.pattern()?;
                if self.take_word("until") {
                    self.sign("<")?;
                    return Ok(ConditionKind::NeverUntil(pattern, self.pattern()?));
                }
                if !self.take_word("for") {
                    return self.expected("'for TIME' or 'until < …'");
                }
                Ok(ConditionKind::NeverFor(pattern, self.time()?))
            }
            "all" => {
                self.sign("<")?;
                let pattern = self.pattern()?;
                self.keyword("are")?;
                Ok(ConditionKind::All(pattern, self.pattern()?))
            }
            "count" => {
                let (from, to) = self.range()?;
                self.sign("<")?;
                Ok(ConditionKind::Count(from, to, self.pattern()?))
            }
            "received" => self.range().map(|(from, to)| ConditionKind::Received(from, to)),
            "in" => self.keyword("step").map(|()| ConditionKind::InStep),
            "alive" => Ok(ConditionKind::Alive),
            "controlled" => Ok(ConditionKind::Controlled),
            "relayed" => self.relayed(),
            "again" => {
                self.keyword("reach")?;
                Ok(ConditionKind::Again(Box::new(self.reach()?)))
            }
            other => Err(Error::unknown(pos, "condition", other, CONDITIONS)),
        }
    }

    fn range(&mut self) -> Result<(Expr, Expr)> {
        let from = self.number()?;
        self.sign("..")?;
        Ok((from, self.number()?))
    }

    fn relayed(&mut self) -> Result<ConditionKind> {
        let from = self.conn_name()?;
        self.keyword("to")?;
        let to = self.conn_name()?;
        let spacing = self.take_word("spacing");
        let gaps_at_key = self.take_word("gaps");
        if gaps_at_key {
            self.keyword("at")?;
            self.keyword("key")?;
        }
        let tail = if self.take_word("tail") { self.constant()? as u32 } else { 0 };
        Ok(ConditionKind::Relayed { from, to, spacing, gaps_at_key, tail })
    }
}
