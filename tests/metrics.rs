//! `--metrics`: what is exposed parses, is consistent in itself, and comes to what the record says.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rtmp_bench::load::media::{Media, Shape};
use rtmp_bench::load::metrics::{Dialect, text};
use rtmp_bench::load::plan::{Plan, Stage};
use rtmp_bench::load::simulate;
use rtmp_bench::net::peer::{Options, Peer};

/// Every sample by its name and labels; each family is described before its samples.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let mut family = (String::new(), String::new());
    for line in text.lines().filter(|line| *line != "# EOF") {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", _, help] => assert!(!help.is_empty(), "{line}"),
            ["#", "TYPE", name, kind] => family = (name.to_owned(), kind.to_owned()),
            [sample, value] => {
                let name = sample.split('{').next().expect("a name");
                let suffix =
                    name.strip_prefix(&family.0).unwrap_or_else(|| panic!("{line} is not of {}", family.0));
                let right: &[&str] = match family.1.as_str() {
                    "counter" => &["", "_total"],
                    "gauge" => &[""],
                    "histogram" => &["_bucket", "_sum", "_count"],
                    other => panic!("the type {other}"),
                };
                assert!(right.contains(&suffix), "{line} in {family:?}");
                let old = samples.insert(sample.to_owned(), value.parse().expect(line));
                assert_eq!(old, None, "{line} stands twice");
            }
            _ => panic!("'{line}' is no line of it"),
        }
    }
    samples
}

/// Each histogram's count, once its buckets are cumulative and end with it.
fn counts(samples: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let names = samples.keys().filter_map(|name| name.strip_suffix("_seconds_count"));
    let check = |name: &str| {
        let begin = format!("{name}_seconds_bucket{{le=\"");
        let bound =
            |key: &str| key.strip_prefix(&begin).and_then(|rest| rest.strip_suffix("\"}")?.parse().ok());
        let mut buckets: Vec<(f64, f64)> =
            samples.iter().filter_map(|(key, value)| Some((bound(key)?, *value))).collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(buckets.len() > 10 && buckets.windows(2).all(|w| w[0].1 <= w[1].1), "{buckets:?}");
        let count = samples[&format!("{name}_seconds_count")];
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, count)));
        assert!(samples[&format!("{name}_seconds_sum")] >= 0.0);
        (name.trim_start_matches("rtmp_bench_").to_owned(), count)
    };
    names.map(check).collect()
}

#[test]
fn at_the_end_it_is_what_the_record_says() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let shape = Shape { bitrate_bps: 300_000, fps: 30, gop: 30, audio_bps: 64_000 };
        let stages = [0, 5].map(|s| Stage { time: Duration::from_secs(s), players: 3 }).to_vec();
        let plan = Plan { publishers: 2, stages, shape, ..Plan::default() };
        let media = Media::new(shape).expect("media");
        let target = "rtmp://peer/live".parse().expect("a target");
        let mut last = String::new();
        let found = simulate(
            plan,
            media,
            &target,
            Arc::new(Peer::new(Options::default())),
            std::future::pending(),
            &mut |row, total| last = text(total, row, Dialect::OpenMetrics),
        )
        .await;
        let samples = parse(&last);
        let load = found.load;
        let recorded: BTreeMap<String, f64> =
            load.latency.iter().map(|(name, l)| (name.clone(), l.count as f64)).collect();
        assert_eq!(counts(&samples), recorded);
        assert!(recorded["frame"] > 500.0, "{recorded:?}");
        for (name, value) in [
            ("frames_sent_total", load.frames.sent),
            ("frames_received_total", load.frames.received),
            ("frames_expected_total", load.frames.expected),
            ("frames_lost_total", load.frames.lost.expect("frames of ours")),
            ("sessions_started_total", 5),
            ("received_bytes_total", load.bytes.received),
            ("sessions_up", 0),
        ] {
            assert_eq!(samples[&format!("rtmp_bench_{name}")], value as f64, "{name}");
        }
    });
}

fn scrape(address: &str) -> String {
    let mut socket = TcpStream::connect(address).expect("it listens");
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body.to_owned()
}

#[test]
fn it_can_be_asked_for_while_the_run_lasts() {
    let args = [
        "load",
        "--metrics",
        "127.0.0.1:0",
        "--players",
        "2",
        "--ramp",
        "0s",
        "--hold",
        "4s",
        "--allow-limited",
    ];
    let mut child = Command::new(env!("CARGO_BIN_EXE_rtmp-bench"))
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut line = String::new();
    BufReader::new(child.stderr.take().expect("piped")).read_line(&mut line).expect("a line");
    let address =
        line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address").to_owned();
    let samples = loop {
        let samples = parse(&scrape(&address));
        if samples["rtmp_bench_frames_received_total"] > 0.0 {
            break samples;
        }
    };
    assert!(counts(&samples)["frame"] > 0.0 && samples["rtmp_bench_sessions_up"] == 3.0, "{samples:?}");
    assert_eq!(child.wait().expect("an end").code(), Some(0));
    assert!(TcpStream::connect(&address).is_err());
}

#[test]
fn an_address_that_is_taken_is_said_before_anything_is_sent() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_rtmp-bench"))
        .args(["load", "--metrics", &address])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("--metrics: cannot listen on"), "{said}");
}
