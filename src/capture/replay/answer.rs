//! What a server says in commands, reduced to what two servers can be compared by; and how two differ.

use std::collections::BTreeMap;

use bstr::{BStr, ByteSlice};

use crate::record::replay::Departure;
use crate::wire::amf0::Value;
use crate::wire::message::Command;

/// Departures listed of a session, at most.
pub const MAX_DEPARTURES: usize = 200;
/// Of what is not compared, so many are named.
const MAX_ASIDE: usize = 20;
/// Characters kept of a name or a code that a server chose.
const MAX_WORD: usize = 96;

/// One command of a server.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// `_result`, `onStatus`, or what is called.
    pub name: String,
    /// The transaction id; 0 where there is none.
    pub id: f64,
    /// The status code.
    pub code: Option<String>,
    /// The last number among the arguments: createStream's answer.
    pub number: Option<f64>,
}

impl Answer {
    /// What the command says.
    pub fn of(command: &Command) -> Answer {
        let code = command.args.iter().find_map(|a| a.get("code")).and_then(Value::as_text);
        Answer {
            name: word(command.name.as_bstr()),
            id: command.transaction_id.unwrap_or(0.0),
            code: code.map(word),
            number: command.args.iter().rev().find_map(Value::as_number),
        }
    }

    /// Whether it answers a call of the client.
    pub fn is_reply(&self) -> bool {
        self.name == "_result" || self.name == "_error"
    }

    /// Name and code, for people and for comparing.
    pub fn says(&self) -> String {
        match &self.code {
            Some(code) => format!("{} {code}", self.name),
            None => self.name.clone(),
        }
    }
}

fn word(text: &BStr) -> String {
    text.to_str_lossy().chars().take(MAX_WORD).collect()
}

/// One call of the client with the recorded answer and the target's.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// The command.
    pub name: &'a str,
    /// Its transaction id.
    pub id: f64,
    /// What the recorded server said.
    pub recorded: Option<&'a Answer>,
    /// What the target said.
    pub came: Option<&'a Answer>,
}

/// How the replies to the client's calls differ.
pub fn of_replies<'a>(calls: impl Iterator<Item = Answered<'a>>, out: &mut Vec<Departure>) {
    for call in calls {
        let (recorded, came) = (call.recorded.map(Answer::says), call.came.map(Answer::says));
        if recorded != came {
            let kind = match (&recorded, &came) {
                (Some(_), None) => "missing",
                (None, _) => "added",
                _ => "changed",
            };
            out.push(departure(kind, format!("{}({})", call.name, call.id), recorded, came));
        }
    }
}

/// How statuses (or the server's own calls) differ, whatever stands between them: what is missing, what is more, and where both
/// servers said the same, whether they said it in the same order.
pub fn of_statuses(about: &str, recorded: &[String], came: &[String], out: &mut Vec<Departure>) {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    recorded.iter().for_each(|s| *counts.entry(s).or_default() += 1);
    came.iter().for_each(|s| *counts.entry(s).or_default() -= 1);
    let same = counts.values().all(|n| *n == 0);
    for (text, n) in counts.into_iter().filter(|(_, n)| *n != 0) {
        let times = if n.abs() > 1 { format!("{text}, {} times", n.abs()) } else { text.to_string() };
        out.push(if n > 0 {
            departure("missing", about.into(), Some(times), None)
        } else {
            departure("added", about.into(), None, Some(times))
        });
    }
    if same && recorded != came {
        out.push(departure("order", about.into(), Some(recorded.join(", ")), Some(came.join(", "))));
    }
}

/// Takes out what only shows that the recording has less than the server said: what is left out and why, for people.
pub fn set_aside(all: &mut Vec<Departure>, why: &str) -> Option<String> {
    let of_more = |d: &mut Departure| matches!(d.kind.as_str(), "added" | "order");
    let aside: Vec<Departure> = all.extract_if(.., of_more).collect();
    let listed = aside.iter().take(MAX_ASIDE).map(|d| match &d.came {
        Some(came) => format!("{} {came}", d.about),
        None => d.about.clone(),
    });
    let mut listed: Vec<String> = listed.collect();
    let more = aside.len().saturating_sub(MAX_ASIDE);
    listed.extend((more > 0).then(|| format!("{more} more")));
    (!listed.is_empty())
        .then(|| format!("not compared, since the recording may lack it ({why}): {}", listed.join(", ")))
}

/// One entry.
pub fn departure(kind: &str, about: String, recorded: Option<String>, came: Option<String>) -> Departure {
    Departure { kind: kind.into(), about, recorded, came }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(name: &str, code: Option<&str>) -> Answer {
        Answer { name: name.into(), id: 1.0, code: code.map(str::to_owned), number: None }
    }

    #[test]
    fn replies() {
        let (ok, ok2, error) =
            (answer("_result", None), answer("_result", Some("X.Success")), answer("_error", None));
        for (recorded, came, want) in [
            (Some(&ok), Some(&ok), None),
            (None, None, None),
            (Some(&ok), None, Some("missing")),
            (None, Some(&ok), Some("added")),
            (Some(&ok), Some(&error), Some("changed")),
            (Some(&ok), Some(&ok2), Some("changed")),
        ] {
            let mut out = Vec::new();
            of_replies([Answered { name: "call", id: 2.0, recorded, came }].into_iter(), &mut out);
            assert_eq!(out.first().map(|d| d.kind.as_str()), want, "{out:?}");
            assert!(out.iter().all(|d| d.about == "call(2)"));
        }
    }

    #[test]
    fn statuses() {
        let list = |s: &str| s.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for (recorded, came, want) in [
            ("a b", "a b", ""),
            ("a b", "b a", "order a, b"),
            ("a b b", "a", "missing b, 2 times"),
            ("a", "a c", "added c"),
        ] {
            let mut out = Vec::new();
            of_statuses("status", &list(recorded), &list(came), &mut out);
            let got: Vec<_> = out
                .iter()
                .map(|d| format!("{} {}", d.kind, d.recorded.as_ref().or(d.came.as_ref()).unwrap()))
                .collect();
            assert_eq!(got.join("; "), want, "{recorded} -> {came}");
        }
    }
}
