//! Every built-in scenario parses, cites a clause and says pass or info of the reference server. `SCN=GLOB` looks at some of them only.

mod simulated;

use std::collections::BTreeMap;

use rtmp_bench::record::{Case, Verdict};
use rtmp_bench::scenario::ast::{Fact, Scenario};
use rtmp_bench::scenario::suite::Report;
use simulated::{judge, judge_known, options, suite};

/// What the reference server cannot be, whatever it is asked.
const NEVER: [&str; 6] = ["vod", "pid", "one-shot", "taken=close", "missing=close", "streams=one"];

/// The needs of a scenario, as its file says them.
fn needs(scenario: &Scenario) -> Vec<String> {
    let word = |need: &Fact| match &need.value {
        Some(value) => format!("{}={value}", need.name),
        None => need.name.clone(),
    };
    scenario.needs.iter().map(word).collect()
}

#[test]
fn each_passes_against_the_reference_server() {
    let suite = suite();
    let mut by_needs: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
    for scenario in suite.scenarios() {
        by_needs.entry(needs(&scenario)).or_default().push(scenario.id.clone());
    }
    let mut wrong = String::new();
    for (needs, ids) in by_needs {
        let some = suite.only(|id| ids.iter().any(|of| of == id.split(':').next().unwrap_or(id)));
        let words: Vec<&str> = needs.iter().map(String::as_str).collect();
        let report = judge(&some, options(&words)).expect("reachable");
        let never = words.iter().any(|need| NEVER.contains(need));
        for outcome in report.outcomes {
            let case = outcome.case;
            let fine = matches!(case.verdict, Verdict::Pass | Verdict::Info)
                || case.branch == Case::NOT_MEASURED
                || (never && case.verdict == Verdict::Skip);
            if !fine {
                wrong.push_str(&explain(&case));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn explain(case: &Case) -> String {
    let mut out = format!("\n{} is {}: {}\n", case.id, case.verdict.name(), case.why);
    for line in &case.trace {
        out.push_str(&format!("  {:>9} us  {} {} {}\n", line.at_us, line.conn, line.direction, line.text));
    }
    for note in &case.notes {
        out.push_str(&format!("  {note}\n"));
    }
    out
}

#[test]
fn each_gives_the_same_words_twice() {
    let suite = suite();
    let words = |report: Report| {
        let word = |case: Case| (case.id, case.verdict, case.branch, case.why);
        report.outcomes.into_iter().map(|outcome| word(outcome.case)).collect::<Vec<_>>()
    };
    let first = judge(&suite, options(&[])).expect("reachable");
    let second = judge_known(&suite, options(&[]), &first.fingerprint);
    assert_eq!(words(first), words(second));
}
