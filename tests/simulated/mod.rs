//! The built-in scenarios against the reference server, in simulated time and over connections in memory.

use std::sync::Arc;

use globset::Glob;
use rtmp_bench::net::peer::{AnyFault, Missing, Options, Peer, Taken};
use rtmp_bench::record::Fingerprint;
use rtmp_bench::scenario::suite::{Report, Selection, Settings, Suite, run, run_known};

/// Every scenario, the slow ones too; only those that the glob in `SCN` names, where it is set.
pub fn suite() -> Suite {
    let selection = Selection { slow: true, ..Selection::default() };
    let suite = Suite::select(&selection).unwrap_or_else(|errors| panic!("{errors}"));
    match std::env::var("SCN") {
        Ok(glob) => {
            let glob = Glob::new(&glob).expect("SCN is a glob over ids").compile_matcher();
            suite.only(|id| glob.is_match(id) || glob.is_match(id.split(':').next().unwrap_or(id)))
        }
        Err(_) => suite,
    }
}

/// A reference server with one misbehaviour.
pub fn options(fault: &str) -> Options {
    let mut options = Options::default();
    if let Ok(fault) = fault.parse::<AnyFault>() {
        options.add(fault);
    }
    options
}

/// What a need asks of the server that it does otherwise by default.
pub fn obliging(needs: &[(&str, &str)]) -> Options {
    let mut options = Options::default();
    for need in needs {
        match need {
            ("missing", "refuse") => options.missing = Missing::Refuse,
            ("taken", "takeover") => options.taken = Taken::Takeover,
            _ => {}
        }
    }
    options
}

/// Calibrates and runs.
pub fn judge(suite: &Suite, options: Options) -> Report {
    simulated(async {
        let peer = Arc::new(Peer::new(options));
        run(suite, &Settings::default(), peer, &mut |_| {}).await.expect("reachable")
    })
}

/// Runs against a server of which everything is known.
#[allow(dead_code)]
pub fn judge_known(suite: &Suite, options: Options, fingerprint: &Fingerprint) -> Report {
    simulated(async {
        let peer = Arc::new(Peer::new(options));
        run_known(suite, &Settings::default(), peer, fingerprint.clone(), &mut |_| {}).await
    })
}

fn simulated<T>(work: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(work)
}
