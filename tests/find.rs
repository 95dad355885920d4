//! `--find`: the most sessions that still keep a promise, by the program as a user runs it and by simulated runs.

use std::io;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use rtmp_bench::load::find::{Answer, Bound, Search};
use rtmp_bench::load::media::{Media, Shape};
use rtmp_bench::load::plan::{Plan, Stage};
use rtmp_bench::load::simulate;
use rtmp_bench::load::slo::{Slo, with_defaults};
use rtmp_bench::net::conn::{Dial, Dialing};
use rtmp_bench::net::peer::{Options, Peer};
use serde_json::{Value, json};

/// A server that takes no more than so many connections.
struct Small(Peer, usize);

impl Dial for Small {
    fn dial(&self) -> Dialing<'_> {
        match self.0.sessions() < self.1 {
            true => self.0.dial(),
            false => Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) }),
        }
    }
}

#[test]
fn what_a_server_takes_is_found() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let (mut search, mut tried) = (Search::new(1000, Bound::Asked), Vec::new());
    let promises = with_defaults(&["frame.p99 < 500ms".parse::<Slo>().unwrap()]);
    let shape = Shape { bitrate_bps: 100_000, fps: 10, gop: 10, audio_bps: 30_000 };
    runtime.block_on(async {
        // One publisher, and so 29 players.
        let dial = Arc::new(Small(Peer::new(Options::default()), 30));
        while let Some(players) = search.next() {
            let plan = Plan {
                publishers: 1,
                stages: [1, 3].map(|s| Stage { time: Duration::from_secs(s), players }).to_vec(),
                shape,
                ..Plan::default()
            };
            let (media, target) = (Media::new(shape).unwrap(), "rtmp://peer/live".parse().unwrap());
            let found =
                simulate(plan.clone(), media, &target, dial.clone(), std::future::pending(), &mut |_, _| {})
                    .await;
            let held = promises.iter().all(|slo| slo.judge(&plan, &found.stats).held == Some(true));
            search.take(players, if held { Answer::Held } else { Answer::Missed(Bound::Target) });
            tried.push(players);
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    });
    assert_eq!(tried, [8, 16, 32, 24, 28, 30, 29]);
    assert_eq!((search.most(), search.bound()), (Some(29), Bound::Target));
}

fn load(args: &[&str]) -> (Value, Output) {
    let short = ["load", "--ramp", "0s", "--hold", "300ms", "-o", "json"];
    let output =
        Command::new(env!("CARGO_BIN_EXE_rtmp-bench")).args(short).args(args).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let record: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {text}"));
    (record, output)
}

#[test]
fn all_that_may_be_tried_may_be_the_answer() {
    let (record, output) = load(&["--players", "9", "--find", "frame.p50 < 20s", "--allow-limited"]);
    let find = &record["load"]["find"];
    assert_eq!(output.status.code(), Some(0), "{find}");
    assert_eq!((&find["slo"], &find["of"]), (&json!("frame.p50 < 20s"), &json!("players")));
    assert_eq!((&find["most"], &find["bound"]), (&json!(9), &json!("asked")), "{find}");
    let steps = find["steps"].as_array().expect("steps");
    let sessions: Vec<&Value> = steps.iter().map(|step| &step["sessions"]).collect();
    assert_eq!(sessions, [&json!(8), &json!(9)]);
    assert!(steps.iter().all(|step| step["held"] == true && step["value"].as_f64() > Some(0.0)), "{find}");
    // All else is of that run.
    assert_eq!(
        (&record["load"]["plan"]["players"], &record["load"]["sessions"]["started"]),
        (&json!(9), &json!(10))
    );
}

#[test]
fn without_a_number_the_search_goes_on_beyond_the_usual_one() {
    for (args, of) in [(&[][..], "players"), (&["--players", "0"], "publishers")] {
        let open = ["--find", "tcp.max < 20s", "--allow-limited", "--max-time", "4s"];
        let (record, _) = load(&[args, &open].concat());
        let find = &record["load"]["find"];
        let tried: Vec<_> =
            find["steps"].as_array().expect("steps").iter().map(|s| s["sessions"].as_u64()).collect();
        assert_eq!((&find["of"], &tried[..2]), (&json!(of), &[Some(8), Some(16)][..]), "{find}");
    }
}

#[test]
fn a_promise_that_none_keeps_is_found_to_be_so() {
    let args = ["--players", "0", "--publishers", "2", "--find", "tcp.max < 1us", "--allow-limited"];
    let (record, output) = load(&args);
    let find = &record["load"]["find"];
    assert_eq!(output.status.code(), Some(1), "{find}");
    assert_eq!((&find["of"], find.get("most")), (&json!("publishers"), None), "{find}");
    let steps = find["steps"].as_array().expect("steps");
    assert_eq!(steps.iter().map(|step| step["sessions"].as_u64()).collect::<Vec<_>>(), [Some(2), Some(1)]);
    assert!(steps.iter().all(|step| step["missed"] == json!(["tcp.max < 1us"])), "{find}");
}

#[test]
fn a_search_keeps_to_its_time() {
    let args = ["--players", "1000", "--find", "frame.p50 < 20s", "--allow-limited", "--max-time", "1s"];
    let (record, _) = load(&args);
    let find = &record["load"]["find"];
    assert!(find["steps"].as_array().is_some_and(|steps| (1..=3).contains(&steps.len())), "{find}");
    assert_eq!(find.get("bound"), None, "{find}");
}
