//! A record of `test` as JUnit XML: one suite a folder of scenarios, one test case a case.

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::record::{Case, Outcome, Record, Target, Verdict};

/// The XML document. Findings are failures, skipped cases are skipped; a verdict that was expected is a success with a note.
pub fn test(record: &Record, strict: bool) -> String {
    let mut report = Report::new("rtmp-bench test");
    let cases = record.test.as_ref().map_or(&[][..], |t| &t.cases);
    for chunk in cases.chunk_by(|a, b| folder(&a.id) == folder(&b.id)) {
        let mut suite = TestSuite::new(folder(&chunk[0].id));
        suite.add_test_cases(chunk.iter().map(|case| test_case(case, strict)));
        report.add_test_suite(suite);
    }
    let unknown = record.test.iter().flat_map(|test| &test.unknown).map(|id| {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
        status.set_type("unknown").set_message("the expect file names it, and there is no such case");
        TestCase::new(id.clone(), status)
    });
    let mut suite = TestSuite::new("expected");
    suite.add_test_cases(unknown);
    if suite.tests > 0 {
        report.add_test_suite(suite);
    }
    if let Some((died, lines)) = record.target.as_ref().and_then(Target::death) {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
        status.set_type("died").set_message(format!("the target ended by itself: {died}"));
        status.set_description(lines.join("\n"));
        let mut suite = TestSuite::new("target");
        suite.add_test_case(TestCase::new("stays up", status));
        report.add_test_suite(suite);
    }
    let cut_short = match record.outcome {
        Outcome::Unreachable => Some(("unreachable", record.why.as_deref().unwrap_or_default())),
        Outcome::Interrupted => Some(("interrupted", "what had not ended by then is not here")),
        _ => None,
    };
    if let Some((how, why)) = cut_short {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
        status.set_type(how).set_message(why);
        let mut suite = TestSuite::new("run");
        suite.add_test_case(TestCase::new("comes to its end", status));
        report.add_test_suite(suite);
    }
    report.to_string().unwrap_or_default() + "\n"
}

fn folder(id: &str) -> &str {
    id.rsplit_once('/').map_or("scenarios", |(folder, _)| folder)
}

fn test_case(case: &Case, strict: bool) -> TestCase {
    let status = match (case.finding(strict), case.verdict) {
        (Some(found), _) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_type(case.verdict.name()).set_message(format!("{found}: {}", case.why));
            status.set_description(details(case));
            status
        }
        (None, Verdict::Skip) => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(case.why.clone());
            status
        }
        (None, _) => TestCaseStatus::success(),
    };
    let mut out = TestCase::new(case.id.clone(), status);
    out.set_classname(case.clause.join(" ")).set_time(std::time::Duration::from_millis(case.duration_ms));
    if case.finding(strict).is_none() && case.verdict != Verdict::Skip {
        out.set_system_out(format!("{}: {} {}", case.verdict.name(), case.branch, case.why));
    }
    out
}

fn details(case: &Case) -> String {
    let mut text =
        format!("{}\nclause {} ({})\n{}\n", case.title, case.clause.join(", "), case.level, case.why);
    for line in &case.trace {
        text.push_str(&format!("{:>9} us {} {} {}\n", line.at_us, line.conn, line.direction, line.text));
    }
    text.push_str(&format!("again: {}\n", case.repeat));
    text
}
