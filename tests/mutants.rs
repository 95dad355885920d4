//! Each scenario names in `bites` faults of the reference server that must worsen its verdict; each fault is named by one.
//!
//! `SCN=GLOB` looks at some scenarios only. `RTMP_BENCH_MATRIX=1 cargo test --test mutants -- --nocapture` prints which scenario sees which fault.

mod simulated;

use std::collections::{BTreeMap, BTreeSet};

use rtmp_bench::net::peer::fault_names;
use rtmp_bench::record::{Fingerprint, Verdict};
use rtmp_bench::scenario::suite::{Report, Suite};
use simulated::{judge, judge_known, options, suite};

/// What only many sessions, or times as a player has them, can show: `tests/load.rs` sees to it that `load` does.
const LOADS: &[&str] = &["relay-late", "relay-stalls", "connects-refused", "audio-later", "audio-withheld"];

type Verdicts = BTreeMap<String, Verdict>;

fn verdicts(report: Report) -> Verdicts {
    report.outcomes.into_iter().map(|outcome| (outcome.case.id, outcome.case.verdict)).collect()
}

/// The scenario of a case.
fn scenario_of(id: &str) -> &str {
    id.split(':').next().unwrap_or(id)
}

/// The scenarios of which a case got worse.
fn bitten<'a>(before: &'a Verdicts, after: &'a Verdicts) -> BTreeSet<&'a str> {
    let worse = after.iter().filter(|(id, verdict)| before.get(*id).is_some_and(|before| *verdict > before));
    worse.map(|(id, _)| scenario_of(id)).collect()
}

/// What a server says that does nothing wrong, and is as this asks.
fn known(suite: &Suite, needs: &[&str]) -> (Verdicts, Fingerprint) {
    let report = judge(suite, options(needs)).expect("reachable");
    let fingerprint = report.fingerprint.clone();
    (verdicts(report), fingerprint)
}

#[test]
fn each_bite_is_felt() {
    let suite = suite();
    let as_needed = ["relay=remux"].map(|need| (need, known(&suite, &[need])));
    let plain = known(&suite, &[]);
    let mut wrong = String::new();
    for scenario in suite.scenarios() {
        let needed = |need: &str| scenario.needs.iter().any(|fact| fact.to_string() == need);
        let special = as_needed.iter().find(|(need, _)| needed(need));
        let (before, fingerprint) = special.map_or(&plain, |(_, known)| known);
        let need = special.map(|(need, _)| *need);
        let own = suite.only(|id| scenario_of(id) == scenario.id);
        for fault in &scenario.bites {
            // A server of its own: what another scenario killed is no catch.
            let words: Vec<&str> = need.into_iter().chain([fault.as_str()]).collect();
            let after = verdicts(judge_known(&own, options(&words), fingerprint));
            if bitten(before, &after).is_empty() {
                let is: BTreeSet<&str> = after.values().map(|verdict| verdict.name()).collect();
                wrong.push_str(&format!("\n{} does not see {fault}: {is:?} with it", scenario.id));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// As a user runs it: what calibration makes of a server that misbehaves must not take the faults out of sight.
#[test]
fn calibration_hides_no_fault() {
    let suite = suite();
    let scenarios = suite.scenarios();
    let (before, _) = known(&suite, &[]);
    let mut hidden = String::new();
    for fault in fault_names().into_iter().filter(|fault| !LOADS.contains(fault)) {
        let bites = scenarios.iter().filter(|scenario| scenario.bites.iter().any(|bite| bite == fault));
        let biting: BTreeSet<&str> = bites.map(|scenario| &scenario.id[..]).collect();
        let own = suite.only(|id| biting.contains(scenario_of(id)));
        let Ok(report) = judge(&own, options(&[fault])) else { continue };
        let after: Verdicts =
            verdicts(report).into_iter().filter(|(_, verdict)| *verdict != Verdict::Skip).collect();
        if bitten(&before, &after).is_empty() {
            hidden.push_str(&format!("\n{fault}: {biting:?}"));
        }
    }
    assert!(hidden.is_empty(), "{hidden}");
}

/// Loss, and the like, do not take a server that writes pictures anew for one of which nothing can be told.
#[test]
fn a_remuxer_that_loses_is_judged() {
    let own = suite().only(|id| id == "relay/pictures");
    for (fault, verdict) in [
        (None, Verdict::Pass),
        (Some("relay-drops"), Verdict::Lenient),
        (Some("relay-doubles"), Verdict::Lenient),
        (Some("relay-swaps"), Verdict::Lenient),
        (Some("relay-damages"), Verdict::Skip),
    ] {
        let words: Vec<&str> = ["relay=remux"].into_iter().chain(fault).collect();
        for outcome in judge(&own, options(&words)).expect("reachable").outcomes {
            assert_eq!(outcome.case.verdict, verdict, "{fault:?}: {}", outcome.case.why);
        }
    }
}

#[test]
fn each_scenario_bites_and_each_fault_is_bitten() {
    let all = suite();
    let scenarios = all.scenarios();
    let mut wrong = String::new();
    for scenario in scenarios.iter().filter(|scenario| scenario.bites.is_empty()) {
        wrong.push_str(&format!("\n{} bites nothing", scenario.id));
    }
    if std::env::var_os("SCN").is_none() {
        let named: BTreeSet<&str> = scenarios.iter().flat_map(|s| &s.bites).map(String::as_str).collect();
        for fault in
            fault_names().into_iter().filter(|fault| !named.contains(fault) && !LOADS.contains(fault))
        {
            wrong.push_str(&format!("\nno scenario bites {fault}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// rtmp/4/6: how a server relays times is its own matter, and that it batches too. Rows about chunks accuse nobody of it.
#[test]
fn rewritten_times_and_batches_fail_nothing() {
    let rows = suite().only(|id| id.starts_with("chunk/") || id.starts_with("relay/"));
    let (_, fingerprint) = known(&rows, &[]);
    for fault in ["times-smoothed", "times-stretched", "times-31-bit", "batching"] {
        let after = verdicts(judge_known(&rows, options(&[fault]), &fingerprint));
        let found: Vec<_> = after.iter().filter(|(_, verdict)| **verdict >= Verdict::Blocked).collect();
        assert!(found.is_empty(), "{fault}: {found:?}");
    }
}

#[test]
fn the_matrix_on_demand() {
    if std::env::var_os("RTMP_BENCH_MATRIX").is_none() {
        return;
    }
    let suite = suite();
    let (before, fingerprint) = known(&suite, &[]);
    let mut out = String::new();
    for fault in fault_names() {
        let mut seen = Vec::new();
        for scenario in suite.scenarios() {
            let own = suite.only(|id| scenario_of(id) == scenario.id);
            let after = verdicts(judge_known(&own, options(&[fault]), &fingerprint));
            if !bitten(&before, &after).is_empty() {
                seen.push(scenario.id.clone());
            }
        }
        out.push_str(&format!("{fault}: {}\n", seen.join(" ")));
    }
    // The matrix is what was asked for; a passing test shows it with --nocapture.
    std::io::Write::write_all(&mut std::io::stdout(), out.as_bytes()).expect("stdout");
}
