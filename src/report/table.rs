//! A record of `test` for people.

use std::fmt::Write;

use crate::record::{Case, Outcome, Record, Test, TraceLine, Verdict};

/// Lines of a finding's trace that are shown.
const TRACE: usize = 20;
/// Characters of a line's hex that are shown.
const HEX: usize = 72;

/// How it is shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look {
    /// With colours of a terminal.
    pub colour: bool,
    /// `lenient` counts as found.
    pub strict: bool,
}

/// Findings in full, then what was not a plain pass in a line each, then the totals.
pub fn test(record: &Record, look: Look) -> String {
    let mut out = String::new();
    let empty = Test::default();
    let test = record.test.as_ref().unwrap_or(&empty);
    header(&mut out, record);
    let (found, rest): (Vec<&Case>, Vec<&Case>) =
        test.cases.iter().partition(|c| c.finding(look.strict).is_some());
    for verdict in [Verdict::Fail, Verdict::Blocked, Verdict::Lenient, Verdict::Info, Verdict::Skip] {
        for case in rest.iter().filter(|c| c.verdict == verdict) {
            line(&mut out, case, look);
        }
    }
    for case in &found {
        finding(&mut out, case, look);
    }
    for id in &test.unknown {
        let _ = writeln!(
            out,
            "\n{} {id}\n  the expect file names it, and there is no such case",
            word(Verdict::Fail, look)
        );
    }
    totals(&mut out, record, test, found.len() + test.unknown.len());
    if let Some(gone) = &test.gone {
        let advice = "with --spawn, or --wait-target and a supervisor that starts it again, the suite goes on and names the case";
        let _ = writeln!(out, "\n{gone}\nall that had not run is blocked; {advice}");
    }
    if let Some(target) = &record.target {
        super::death(&mut out, target);
    }
    out
}

fn header(out: &mut String, record: &Record) {
    let Some(target) = &record.target else { return };
    let embedded = if target.embedded { "  (the built-in reference server)" } else { "" };
    let _ = writeln!(out, "target {}{embedded}", target.url);
    if let Some(print) = &target.fingerprint {
        let known = [print.server.as_deref(), print.handshake.as_deref(), print.relay.as_deref()];
        let known: Vec<&str> = known.into_iter().flatten().collect();
        let _ = writeln!(out, "       {}", known.join(", "));
        for note in &print.notes {
            let _ = writeln!(out, "       note: {note}");
        }
    }
    out.push('\n');
}

/// One case in a line: verdict, id, and why.
fn line(out: &mut String, case: &Case, look: Look) {
    let why = case.expected_reason.as_deref().map(|reason| format!("expected: {reason}"));
    let said = if case.branch.is_empty() { &case.why } else { &case.branch };
    let why = why.unwrap_or_else(|| said.lines().next().unwrap_or_default().to_owned());
    let _ = writeln!(out, "{} {:<44} {why}", word(case.verdict, look), case.id);
}

/// One finding: what was expected, what came, the trace around it, the clause, and how to run it again.
fn finding(out: &mut String, case: &Case, look: Look) {
    let _ = writeln!(out, "\n{} {}", word(case.verdict, look), case.id);
    let _ = writeln!(out, "  {}", case.title);
    let _ = writeln!(out, "  clause    {} ({})", case.clause.join(", "), case.level);
    if let Some(expected) = case.expected {
        let reason = case.expected_reason.as_deref().unwrap_or_default();
        let _ = writeln!(out, "  expected  {} \"{reason}\"", expected.name());
    }
    if !case.branch.is_empty() {
        let _ = writeln!(out, "  judged    {}", case.branch);
    }
    for (i, why) in case.why.lines().enumerate() {
        let _ = writeln!(out, "  {} {why}", if i == 0 { "why      " } else { "         " });
    }
    for note in &case.notes {
        let _ = writeln!(out, "  note      {note}");
    }
    // Whether the target lives is asked on connections of their own: no part of what led there, unless it is the finding.
    let is_shown = |line: &&TraceLine| !line.conn.starts_with("alive-") || case.why.contains("not alive");
    let shown: Vec<&TraceLine> = case.trace.iter().filter(is_shown).collect();
    let (earlier, last) = shown.split_at(shown.len().saturating_sub(TRACE));
    let written = earlier.iter().filter(|line| line.is_write());
    let more = earlier.len() - written.clone().count();
    if more > 0 {
        let _ = writeln!(out, "  trace     {more} earlier lines are in the record (-o json)");
    }
    for passed in written.chain(last) {
        trace(out, passed);
    }
    let _ = writeln!(out, "  again     {}", case.repeat);
}

fn trace(out: &mut String, passed: &TraceLine) {
    let TraceLine { at_us, conn, direction, text, hex } = passed;
    let conn = if conn == "main" { "" } else { conn };
    let _ = writeln!(out, "  {:>8}.{:03} {conn} {direction} {text}", at_us / 1000, at_us % 1000);
    // Hex adds to the text what the text abbreviates or decodes.
    if let Some(hex) = hex.as_deref().filter(|hex| hex.len() <= HEX || direction == &'<') {
        let shown: String = hex.chars().take(HEX).collect();
        let more = if shown.len() < hex.len() { "…\"" } else { "" };
        let _ = writeln!(out, "                   {shown}{more}");
    }
}

fn totals(out: &mut String, record: &Record, test: &Test, found: usize) {
    let t = test.totals;
    let counts = [
        (t.pass, "pass"),
        (t.lenient, "lenient"),
        (t.info, "info"),
        (t.fail, "fail"),
        (t.blocked, "blocked"),
        (t.skip, "skip"),
    ];
    let counts: Vec<String> =
        counts.iter().filter(|(n, _)| *n > 0).map(|(n, name)| format!("{n} {name}")).collect();
    let counts = if counts.is_empty() { "none judged".to_owned() } else { counts.join(", ") };
    let seconds = record.duration_ms as f64 / 1000.0;
    let cases = super::count(test.cases.len() as u64, "case");
    let found = match found {
        0 => "nothing found".to_owned(),
        n => format!("{n} found"),
    };
    if let Some(why) = &record.why {
        let _ = writeln!(out, "\nnothing was judged: {why}");
        return;
    }
    let print = record.target.as_ref().and_then(|target| target.fingerprint.as_ref());
    if let Some(why) = print.and_then(|print| print.refusal.as_ref()) {
        let _ = writeln!(
            out,
            "\ncalibration came no further than {}: {why}",
            print.map_or("", |print| &print.reach)
        );
        if print.is_some_and(|print| print.reach == "handshaken") {
            let _ = writeln!(out, "does the target serve the app of this URL?");
        }
    }
    let needed =
        [(print.and_then(|print| print.publish), "publish"), (print.and_then(|print| print.play), "play")];
    for (_, fact) in needed.iter().filter(|(fact, _)| *fact == Some(false)) {
        let _ = writeln!(
            out,
            "\n{fact} does not work here: what needs it was skipped; --profile {fact} says that it must"
        );
    }
    let so_far =
        if record.outcome == Outcome::Interrupted { ", interrupted: the rest did not run" } else { "" };
    let _ = writeln!(out, "\n{cases} in {seconds:.1} s: {counts} - {found}{so_far}");
}

fn word(verdict: Verdict, look: Look) -> String {
    let name = match verdict {
        Verdict::Fail => "FAIL",
        Verdict::Blocked => "BLOCKED",
        other => other.name(),
    };
    let colour = match verdict {
        Verdict::Fail | Verdict::Blocked => "\x1b[31m",
        Verdict::Lenient => "\x1b[33m",
        Verdict::Pass => "\x1b[32m",
        Verdict::Info | Verdict::Skip => "\x1b[2m",
    };
    if look.colour { format!("{colour}{name:<8}\x1b[0m") } else { format!("{name:<8}") }
}
