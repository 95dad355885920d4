//! Expect files: the known deviations of a target, one line a case: `id verdict "reason"`, `#` comments.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::{Case, Verdict};

/// What is expected of a target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expectations {
    lines: BTreeMap<String, Line>,
    /// Comments behind the last line.
    tail: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    number: u32,
    verdict: Verdict,
    reason: String,
    /// Comments and empty lines before it, as they stood.
    comments: Vec<String>,
}

/// Where an expect file is wrong and what was expected there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct ExpectError {
    /// Counted from 1.
    pub line: u32,
    /// Counted from 1, in characters.
    pub column: u32,
    /// What is wrong, and what was expected.
    pub message: String,
}

impl Expectations {
    /// Reads an expect file.
    ///
    /// # Errors
    /// At the first line that is wrong.
    pub fn parse(text: &str) -> Result<Expectations, ExpectError> {
        let mut all = Expectations::default();
        let mut comments = Vec::new();
        for (number, text) in (1..).zip(text.lines()) {
            if text.trim().is_empty() || text.trim_start().starts_with('#') {
                comments.push(text.to_owned());
                continue;
            }
            let (id, mut line) = parse_line(number, text)?;
            line.comments = std::mem::take(&mut comments);
            if let Some(first) = all.lines.get(&id) {
                let message = format!("{id} stands in line {} already", first.number);
                return Err(ExpectError { line: number, column: 1, message });
            }
            all.lines.insert(id, line);
        }
        all.tail = comments;
        Ok(all)
    }

    /// Writes what is expected into the cases. Returns the ids that no case has, among `known` ones of the whole suite.
    pub fn apply(&self, cases: &mut [Case], known: &BTreeSet<String>) -> Vec<String> {
        for case in cases {
            if let Some(line) = self.lines.get(&case.id) {
                case.expected = Some(line.verdict);
                case.expected_reason = Some(line.reason.clone());
            }
        }
        self.lines.keys().filter(|id| !known.contains(*id)).cloned().collect()
    }

    /// The expect file that makes `cases` no finding: lines that still hold keep their reasons, lines of cases that did not run or were not
    /// measured stay, others say why.
    pub fn rewritten(&self, cases: &[Case], strict: bool) -> String {
        let ran: BTreeMap<&str, &Case> = cases.iter().map(|case| (case.id.as_str(), case)).collect();
        let ids: BTreeSet<&str> = self.lines.keys().map(String::as_str).chain(ran.keys().copied()).collect();
        let mut out = String::new();
        for id in ids {
            let old = self.lines.get(id);
            let case = ran.get(id).filter(|c| c.verdict != Verdict::Skip && c.branch != Case::NOT_MEASURED);
            let line = match (old, case) {
                (Some(old), None) => Some((old.verdict, old.reason.as_str())),
                (Some(old), Some(case)) if old.verdict == case.verdict => {
                    Some((old.verdict, old.reason.as_str()))
                }
                (_, Some(case)) => {
                    let unexpected = Case { expected: None, ..(*case).clone() };
                    let said = if case.branch.is_empty() { &case.why } else { &case.branch };
                    unexpected.finding(strict).map(|_| (case.verdict, said.as_str()))
                }
                (None, None) => None,
            };
            for comment in old.iter().flat_map(|old| &old.comments) {
                out.push_str(comment);
                out.push('\n');
            }
            if let Some((verdict, reason)) = line {
                let reason = reason.replace(['"', '\n', '\r'], "'");
                out.push_str(&format!("{id} {} \"{reason}\"\n", verdict.name()));
            }
        }
        for comment in &self.tail {
            out.push_str(comment);
            out.push('\n');
        }
        out
    }
}

fn parse_line(number: u32, text: &str) -> Result<(String, Line), ExpectError> {
    let column = |rest: &str| 1 + (text.chars().count() - rest.chars().count()) as u32;
    let error = |rest: &str, message: String| ExpectError { line: number, column: column(rest), message };
    let rest = text.trim_start();
    let (id, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let at = if rest.is_empty() { &text[text.len()..] } else { rest.trim_start() };
    let (word, rest) = at.split_once(char::is_whitespace).unwrap_or((at, ""));
    let verdict =
        Verdict::ALL.into_iter().find(|v| v.name() == word && *v != Verdict::Skip).ok_or_else(|| {
            error(at, format!("expected pass, info, lenient, blocked or fail behind the id, found '{word}'"))
        })?;
    let at = if rest.is_empty() { &text[text.len()..] } else { rest.trim_start() };
    let quoted = at.strip_prefix('"').and_then(|r| r.trim_end().strip_suffix('"'));
    let reason = quoted.filter(|r| !r.contains('"') && !r.trim().is_empty()).ok_or_else(|| {
        error(at, format!("expected a reason in double quotes and nothing behind it, found '{at}'"))
    })?;
    Ok((id.to_owned(), Line { number, verdict, reason: reason.to_owned(), comments: Vec::new() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(id: &str, verdict: Verdict) -> Case {
        Case {
            id: id.into(),
            clause: vec!["rtmp/5/1".into()],
            level: "MUST".into(),
            title: String::new(),
            verdict,
            expected: None,
            expected_reason: None,
            branch: String::new(),
            why: "it said \"no\"".into(),
            duration_ms: 0,
            notes: Vec::new(),
            trace: Vec::new(),
            repeat: String::new(),
        }
    }

    #[test]
    fn mistakes_have_a_place() {
        let table = [
            ("a/b\n", "1:4: expected pass"),
            ("# c\na/b fial \"x\"\n", "2:5: expected pass"),
            ("a/b skip \"x\"", "1:5: expected pass"),
            ("a/b fail", "1:9: expected a reason"),
            ("a/b fail why", "1:10: expected a reason"),
            ("a/b fail \"why\" not", "1:10: expected a reason"),
            ("a/b fail \"\"", "1:10: expected a reason"),
            ("a/b fail \"x\"\na/b pass \"y\"", "2:1: a/b stands in line 1 already"),
        ];
        for (text, want) in table {
            let got = Expectations::parse(text).expect_err(text).to_string();
            assert!(got.starts_with(want), "{text:?}: {got}");
        }
    }

    #[test]
    fn worse_better_and_unknown_are_findings() {
        let expected = Expectations::parse(
            "a fail \"x\"\nb fail \"x\"\nc lenient \"x\"\nd fail \"x\"\ngone fail \"x\"\n",
        )
        .unwrap();
        let mut cases = [
            case("a", Verdict::Fail),
            case("b", Verdict::Pass),
            case("c", Verdict::Fail),
            case("d", Verdict::Skip),
            case("e", Verdict::Fail),
            case("f", Verdict::Lenient),
        ];
        let known = cases.iter().map(|c| c.id.clone()).collect();
        assert_eq!(expected.apply(&mut cases, &known), ["gone"]);
        let found: Vec<_> = cases.iter().map(|c| c.finding(false)).collect();
        let want =
            [None, Some("better than expected"), Some("worse than expected"), None, Some("failed"), None];
        assert_eq!(found, want);
        assert_eq!(cases[5].finding(true), Some("lenient"));
        cases[2].branch = Case::NOT_MEASURED.into();
        assert_eq!(cases[2].finding(false), None);
    }

    #[test]
    fn rewriting_keeps_reasons_that_hold() {
        let old = "# head\na fail \"known\"\n# of b\nb fail \"old\"\nnot-run fail \"kept\"\n# tail\n";
        let cases = [case("a", Verdict::Fail), case("b", Verdict::Blocked), case("c", Verdict::Lenient)];
        let expected = Expectations::parse(old).unwrap();
        let new = expected.rewritten(&cases, false);
        assert_eq!(
            new,
            "# head\na fail \"known\"\n# of b\nb blocked \"it said 'no'\"\nnot-run fail \"kept\"\n# tail\n"
        );
        assert!(expected.rewritten(&cases, true).contains("c lenient"));
        let mut cases = cases;
        let known = ["a", "b", "c", "not-run"].map(str::to_owned).into();
        assert!(Expectations::parse(&new).unwrap().apply(&mut cases, &known).is_empty());
        assert!(cases.iter().all(|c| c.finding(false).is_none()));
    }
}
