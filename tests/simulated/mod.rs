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

/// A reference server with these misbehaviours, or that is as these needs ask; most needs it meets by default.
pub fn options(words: &[&str]) -> Options {
    let mut options = Options::default();
    for word in words {
        match (*word, word.parse::<AnyFault>()) {
            ("missing=refuse", _) => options.missing = Missing::Refuse,
            ("relay=remux", _) => options.remuxes = true,
            ("taken=takeover", _) => options.taken = Taken::Takeover,
            (_, Ok(fault)) => options.add(fault),
            (_, Err(_)) => {}
        }
    }
    options
}

/// Calibrates and runs; why not, where the server gives nothing to judge.
pub fn judge(suite: &Suite, options: Options) -> Result<Report, String> {
    simulated(async {
        let peer = Arc::new(Peer::new(options));
        run(suite, &Settings::default(), peer, &mut |_| {}).await
    })
}

/// Runs against a server of which everything is known.
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
