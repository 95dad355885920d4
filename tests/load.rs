//! The verb `load` as a user runs it. The faults of the reference server are the ground truth: the report says what the server did.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};

use base64::Engine;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_rtmp-bench");
/// The machine of a test may be as busy as it likes.
const SHORT: &[&str] = &["--ramp", "200ms", "--allow-limited"];
const HOLD: &[&str] = &["--hold", "1500ms"];
/// Every so many messages of audio and video a relay with one of these faults does something wrong, sequence headers included.
const EVERY: u64 = 100;
/// Enough of them, most of them video.
const MANY: &[&str] = &["--fps", "200", "--bitrate", "3M", "--hold", "3s"];

fn run(args: &[&str]) -> Output {
    Command::new(BINARY).arg("load").args(args).output().expect("the program runs")
}

fn status(output: &Output) -> i32 {
    output.status.code().expect("an exit status")
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

/// The load part of the record, and the exit status.
fn load(args: &[&str]) -> (Value, i32) {
    let hold = if args.contains(&"--hold") { &[] } else { HOLD };
    let output = run(&[SHORT, hold, &["-o", "json"], args].concat());
    let record: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", err(&output)));
    (record["load"].clone(), status(&output))
}

fn frames(load: &Value, what: &str) -> u64 {
    load["frames"][what].as_u64().unwrap_or_else(|| panic!("{what}: {load}"))
}

/// `serve` with these arguments, ended when it is dropped, and its URL.
struct Server(Child, String);

impl Server {
    fn start(fault: &str) -> Server {
        Server::with(&["--fault", fault], Stdio::null())
    }

    fn with(args: &[&str], stderr: Stdio) -> Server {
        let mut child = Command::new(BINARY)
            .args(["serve", "127.0.0.1:0"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("the program runs");
        let mut url = String::new();
        BufReader::new(child.stdout.as_mut().expect("stdout is piped")).read_line(&mut url).expect("a line");
        Server(child, url.trim().to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One player of one stream of a server with this fault, and more arguments.
fn faulty(fault: &str, more: &[&str]) -> (Value, i32) {
    let server = Server::start(fault);
    load(&[&[server.1.as_str(), "--players", "1"], more].concat())
}

/// How often the fault struck a player to whom the relay sent all that was expected, and that many sequence headers.
fn struck(load: &Value, headers: u64) -> u64 {
    let relayed = headers + frames(load, "join_burst") + frames(load, "expected");
    assert!(relayed > 4 * EVERY, "{load}");
    relayed / EVERY
}

#[test]
fn without_a_target_the_reference_server_carries_all() {
    let (load, status) = load(&["--publishers", "2", "--players", "4"]);
    assert_eq!(status, 0, "{load}");
    assert_eq!((&load["sessions"]["started"], &load["sessions"]["ended"]), (&6.into(), &6.into()));
    for what in ["lost", "duplicated", "reordered", "corrupt", "foreign"] {
        assert_eq!(frames(&load, what), 0, "{what}: {load}");
    }
    let (received, burst, expected) =
        (frames(&load, "received"), frames(&load, "join_burst"), frames(&load, "expected"));
    assert!(expected > 100 && received - burst == expected, "{load}");
    assert_eq!(load["latency"]["frame"]["count"], expected);
    assert_eq!(load["latency"]["frame"]["censored"], 0);
    for name in ["tcp", "handshake", "connect", "create_stream"] {
        assert_eq!(load["latency"][name]["count"], 6, "{name}");
    }
    for (name, count) in [("publish_start", 2), ("play_start", 4), ("first_frame", 4), ("first_keyframe", 4)]
    {
        assert_eq!(load["latency"][name]["count"], count, "{name}");
    }
    // What one publisher sends: 30 + 43 frames a second.
    let sent: u64 =
        load["intervals"].as_array().unwrap().iter().map(|row| row["sent"].as_u64().unwrap()).sum();
    assert_eq!(sent, frames(&load, "sent"));
}

#[test]
fn the_screen_says_that_nobody_elses_server_was_measured() {
    let output = run(&[SHORT, HOLD, &["--players", "1"]].concat());
    let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    assert_eq!(status(&output), 0, "{text}{}", err(&output));
    assert!(text.contains("embedded server, same cores: not a server's figure"), "{text}");
    assert!(
        text.contains("held      lost = 0: 0")
            && text.contains("\n frame ")
            && text.contains("0 lost, 0 sessions failed"),
        "{text}"
    );
}

#[test]
fn seconds_are_written_as_csv_and_as_a_histogram_log() {
    let dir = tempfile::tempdir().expect("a folder");
    let [csv, log] = ["seconds.csv", "run.hlog"].map(|name| dir.path().join(name));
    let outputs = [format!("csv:{}", csv.display()), format!("hlog:{}", log.display())];
    let (load, _) = load(&["-o", &outputs[0], "-o", &outputs[1]]);
    let csv = std::fs::read_to_string(csv).expect("a file");
    let columns: Vec<usize> = csv.lines().map(|line| line.split(',').count()).collect();
    assert_eq!(columns.len(), 1 + load["intervals"].as_array().unwrap().len());
    assert!(columns.iter().all(|count| *count == columns[0]), "{csv}");
    let log = std::fs::read_to_string(log).expect("a file");
    assert!(log.starts_with("#[Histogram log format version 1.3]\n"), "{log}");
    let frames = log.lines().filter_map(|line| line.strip_prefix("Tag=frame,")?.rsplit(',').next());
    let all: u64 = frames.map(|hdr| histogram(&serde_json::json!({ "hdr": hdr })).len()).sum();
    assert_eq!(load["latency"]["frame"]["count"], all);
}

#[test]
fn what_a_relay_drops_is_lost() {
    let (load, status) = faulty("relay-drops=100", MANY);
    assert_eq!((status, frames(&load, "lost")), (1, struck(&load, 2)), "{load}");
    // It shows while the run lasts.
    let rows = load["intervals"].as_array().expect("rows");
    assert!(rows.iter().any(|row| row["missing"].as_u64() > Some(3)), "{load}");
    assert_eq!(rows.last().expect("one")["missing"], 0);
    assert_eq!(
        (frames(&load, "corrupt"), frames(&load, "duplicated"), frames(&load, "reordered")),
        (0, 0, 0)
    );
    let lost =
        load["slo"].as_array().unwrap().iter().find(|slo| slo["expr"] == "lost = 0").expect("a default");
    assert_eq!(
        (lost["held"].as_bool(), lost["value"].as_f64()),
        (Some(false), Some(frames(&load, "lost") as f64))
    );
    // A promise of one's own takes the default's place.
    let (load, status) = faulty("relay-drops", &["--slo", "lost < 20%"]);
    assert_eq!(status, 0, "{load}");
    assert!(frames(&load, "lost").abs_diff(frames(&load, "expected") / 7) <= 1, "every seventh: {load}");
}

#[test]
fn what_a_relay_doubles_is_duplicated() {
    let (load, status) = faulty("relay-doubles=100", &[MANY, &["--slo", "duplicated = 0"]].concat());
    assert_eq!((status, frames(&load, "duplicated")), (1, struck(&load, 2)), "{load}");
    assert_eq!((frames(&load, "lost"), frames(&load, "corrupt"), frames(&load, "reordered")), (0, 0, 0));
    assert_eq!(load["latency"]["frame"]["count"], frames(&load, "expected"));
}

#[test]
fn what_a_relay_damages_is_corrupt() {
    let (load, status) = faulty("relay-damages=100", MANY);
    assert_eq!((status, frames(&load, "corrupt")), (1, struck(&load, 2)), "{load}");
    assert_eq!((frames(&load, "lost"), frames(&load, "duplicated"), frames(&load, "reordered")), (0, 0, 0));
}

#[test]
fn what_a_relay_swaps_is_reordered() {
    // Video alone, so that neighbours of one kind change places.
    let video = [MANY, &["--audio", "none", "--slo", "lost < 1%"]].concat();
    let (load, status) = faulty("relay-swaps=100", &video);
    assert_eq!(status, 0, "{load}");
    let (reordered, lost) = (frames(&load, "reordered"), frames(&load, "lost"));
    // A frame that waits for the one behind it is lost when none is.
    assert!(lost <= 1 && reordered + lost == struck(&load, 1), "{load}");
    assert_eq!((frames(&load, "duplicated"), frames(&load, "corrupt")), (0, 0));
}

#[test]
fn timestamps_that_step_back_are_counted() {
    let (load, status) = faulty("times-back", &[]);
    assert_eq!(status, 0, "{load}");
    let back = ["video", "audio"].map(|kind| load["timestamps_back"][kind].as_u64().expect("a count"));
    assert!(back[0] > 2 && back[1] > 2, "{load}");
    assert!((back[0] + back[1]).abs_diff(frames(&load, "received") / 7) <= 1, "{load}");
    let (load, _) = self::load(&[]);
    assert_eq!(load["timestamps_back"], serde_json::json!({ "video": 0, "audio": 0 }));
}

#[test]
fn skew_is_what_the_relay_adds() {
    let (load, _) = faulty("audio-later", &[]);
    let skew_ms = |load: &Value, what: &str| load["latency"]["av_skew"][what].as_u64().map(|us| us / 1000);
    assert_eq!([skew_ms(&load, "min_us"), skew_ms(&load, "max_us")], [Some(80), Some(80)], "{load}");
    let (load, _) = self::load(&[]);
    assert_eq!(skew_ms(&load, "max_us"), Some(0), "{load}");
}

#[test]
fn a_join_is_told_by_its_key_frame() {
    // Players that come 2 s behind a key frame and long before the next.
    let late = ["--gop", "10s", "--stage", "2s:0", "--stage", "0s:3", "--stage", "1s:3"];
    let output = run(&[&late[..], &["--allow-limited", "-o", "json"]].concat());
    let record: Value = serde_json::from_slice(&output.stdout).expect("a record");
    let (joins, age) = (&record["load"]["joins"], &record["load"]["latency"]["key_age"]);
    assert_eq!(*joins, serde_json::json!({ "players": 3, "at_key_frame": 3, "frames_before_key": 0 }));
    assert_eq!(age["count"], 3, "{age}");
    let [min, max] = ["min_us", "max_us"].map(|what| age[what].as_u64().expect("a time"));
    assert!(min > 1_900_000 && max < 3_000_000, "{age}");

    let (load, _) = faulty("first-key-dropped", &[]);
    assert_eq!((&load["joins"]["players"], &load["joins"]["at_key_frame"]), (&1.into(), &0.into()), "{load}");
    // All of the first second but its key frame.
    assert_eq!(load["joins"]["frames_before_key"], 29, "{load}");
}

#[test]
fn departures_are_counted_with_a_sample() {
    let (load, _) = faulty("control-on-csid-3", &[]);
    let seen = &load["departures"]["control-place"];
    // The publisher's session and the player's, each with several.
    assert!(seen["count"].as_u64() >= Some(2) && seen["clause"] == "rtmp/5.4/1", "{load}");
    assert!(seen["sample"].as_str().is_some_and(|text| text.contains("csid=3")), "{seen}");
    let (load, _) = self::load(&[]);
    assert_eq!(load.get("departures"), None);
}

#[test]
fn a_relay_that_stops_is_charged_in_full() {
    let (load, status) = faulty("relay-stops", &[]);
    assert_eq!(status, 1);
    let frame = &load["latency"]["frame"];
    assert!(frame["censored"].as_u64() > Some(40), "{load}");
    assert_eq!(frame["censored"], load["frames"]["lost"]);
    // The first that did not come was waited for until all was over: 1.5 s of media and 5 s behind it.
    assert!(frame["max_us"].as_u64() > Some(5_500_000), "{frame}");
    let oldest =
        load["intervals"].as_array().unwrap().iter().filter_map(|row| row["oldest_outstanding_us"].as_u64());
    assert!(oldest.max() > Some(1_000_000), "{load}");
}

#[test]
fn what_a_relay_delays_is_late() {
    let (load, status) = faulty("relay-late", &["--slo", "frame.min < 200ms"]);
    assert_eq!(status, 1, "{load}");
    assert_eq!(frames(&load, "lost"), 0);
    assert!(load["latency"]["frame"]["min_us"].as_u64() >= Some(200_000), "{load}");
    assert!(load["latency"]["frame_raw"]["min_us"].as_u64() >= Some(195_000), "{load}");
}

#[test]
fn a_stall_is_charged_to_each_frame_behind_it() {
    let (load, status) = faulty("relay-stalls", &["--hold", "4s"]);
    assert_eq!(status, 0, "{load}");
    let frame = &load["latency"]["frame"];
    // Half of the 2 s that the frames of 2 s wait, evenly spread: 147 of them, 73 for more than a second.
    let histogram = histogram(frame);
    let late = histogram.count_between(1_000_000, u64::MAX);
    assert!((60..=90).contains(&late), "{late} of {frame}");
    assert!(frame["max_us"].as_u64() > Some(1_900_000) && frame["censored"] == 0, "{frame}");
}

fn histogram(latency: &Value) -> hdrhistogram::Histogram<u64> {
    let bytes =
        base64::engine::general_purpose::STANDARD.decode(latency["hdr"].as_str().expect("hdr")).unwrap();
    hdrhistogram::serialization::Deserializer::new().deserialize(&mut &bytes[..]).expect("a histogram")
}

#[test]
fn refused_sessions_are_counted_where_they_failed() {
    let server = Server::start("connects-refused");
    let slos = ["--slo", "failed <= 5%", "--slo", "failed < 5%"];
    let (load, status) = load(&[&[server.1.as_str(), "--players", "39"], &slos[..]].concat());
    assert_eq!(status, 1, "{load}");
    let failed = &load["sessions"]["failed_by_phase"];
    assert_eq!(failed.as_object().map(|phases| phases.len()), Some(1), "{failed}");
    assert_eq!(
        (&failed["connect"]["count"], &load["sessions"]["started"]),
        (&2.into(), &38.into()),
        "{failed}"
    );
    let sample = failed["connect"]["sample"].as_str().expect("a sample");
    assert!(sample.starts_with("refused by the target: NetConnection.Connect.Rejected"), "{sample}");
    let slos = [0, 1].map(|i| (load["slo"][i]["held"].as_bool(), load["slo"][i]["value"].as_f64()));
    assert_eq!(slos, [(Some(true), Some(5.0)), (Some(false), Some(5.0))], "{}", load["slo"]);
}

#[test]
fn what_was_not_measured_is_no_number() {
    let publishing = ["--players", "0", "--hold", "300ms", "--ramp", "0s", "--allow-limited"];
    let output = run(&publishing);
    let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    assert_eq!(status(&output), 0, "{text}");
    for line in
        ["no data   lost = 0: nothing in this run", "received; none expected, nothing is known of losses"]
    {
        assert!(text.contains(line), "{text}");
    }
    let output = run(&[&publishing[..], &["--slo", "lost < 1%"]].concat());
    let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    assert!(status(&output) == 1 && text.contains("MISSED    lost < 1%: no data"), "{text}");
}

#[test]
fn a_sweep_says_so() {
    let (load, status) = load(&["--tick", "20ms", "--players", "3"]);
    assert_eq!(status, 0, "{load}");
    assert_eq!((&load["plan"]["read_mode"], &load["plan"]["tick_ms"]), (&"sweep".into(), &20.into()));
    assert_eq!(load["plan"]["receipt_clock"], "user");
    assert_eq!(frames(&load, "user_clock"), frames(&load, "received"));
    assert!(frames(&load, "lost") == 0 && frames(&load, "expected") > 100, "{load}");
}

#[test]
fn the_name_that_is_played_is_masked_as_in_the_target() {
    let ways = ["--ramp", "0s", "--hold", "200ms", "-o", "json", "--publishers", "0", "--players", "1"];
    let shown = |args: &[&str], name: &str| {
        let mut load = Command::new(BINARY);
        let load = load.arg("load").args(ways).args(args).env("RTMP_BENCH_PLAY", name);
        let output = load.output().expect("the program runs");
        let record: Value = serde_json::from_slice(&output.stdout).expect("a record");
        let said = [output.stdout, output.stderr].map(|out| String::from_utf8(out).expect("UTF-8")).concat();
        (record["load"]["plan"]["play"].clone(), said)
    };
    for (name, masked) in [("SECRET99x", "***"), ("SECRET99x{i}?token=SECRET99x", "***?token=***")] {
        let given = format!("--play={name}");
        for args in [&[][..], &["--play", name], &[&given]] {
            let (play, said) = shown(args, name);
            assert!(play == masked && !said.contains("SECRET99x"), "{args:?}: {said}");
        }
    }
    let (play, said) = shown(&["--play=SECRET99x", "--show-secrets"], "");
    assert!(play == "SECRET99x" && said.contains("--play=SECRET99x"), "{said}");
}

#[test]
fn what_others_publish_is_played_without_latency() {
    let server = Server::start("no-pongs");
    let mut publisher = Command::new(BINARY)
        .args(["load", &format!("{}/other", server.1), "--players", "0", "--ramp", "0s", "--hold", "20s"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program runs");
    let (load, status) = load(&[&server.1, "--publishers", "0", "--players", "2", "--play", "other-0"]);
    let _ = publisher.kill();
    let _ = publisher.wait();
    assert_eq!(status, 0, "{load}");
    assert!(frames(&load, "foreign") > 50, "{load}");
    for what in ["lost", "duplicated", "reordered", "corrupt"] {
        assert!(load["frames"][what].is_null(), "{what}: {load}");
    }
    for expr in ["lost = 0", "corrupt = 0"] {
        let slo = load["slo"].as_array().unwrap().iter().find(|slo| slo["expr"] == expr).expect("a default");
        assert_eq!((slo.get("held"), &slo["unmeasurable"]), (Some(&Value::Null), &true.into()), "{slo}");
        assert!(slo.get("value").is_none(), "{slo}");
    }
    assert!(load["latency"].get("frame").is_none() && load["latency"].get("gap").is_some(), "{load}");
}

#[test]
fn nobody_there_is_unreachable() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (load, status) = load(&[&format!("rtmp://127.0.0.1:{port}/live")]);
    assert_eq!(status, 3);
    let tcp = &load["sessions"]["failed_by_phase"]["tcp"];
    assert_eq!(tcp["count"], 1, "{load}");
    assert!(tcp["sample"].as_str().unwrap().contains("refused"), "{tcp}");
    assert_eq!(load["sessions"]["started"], 0);
}

#[test]
fn a_target_without_an_address_is_unreachable_and_a_record_says_so() {
    let output = Command::new(BINARY).args(["load", "rtmp://no..host/live", "-o", "json"]).output().unwrap();
    assert_eq!(status(&output), 3);
    let record: Value = serde_json::from_slice(&output.stdout).expect("a record");
    assert_eq!(record["outcome"], "unreachable");
    assert!(record["why"].as_str().is_some_and(|why| why.contains("no..host")), "{record}");
}

#[test]
fn a_silent_target_costs_a_bounded_time() {
    let server = Server::start("silent");
    let (load, status) = load(&[&server.1, "--publishers", "3", "--hold", "500ms"]);
    let unfinished = &load["sessions"]["unfinished_by_phase"]["handshake"];
    assert_eq!((status, &unfinished["count"], &unfinished["late"]), (3, &3.into(), &0.into()), "{load}");
}

#[test]
fn mistakes_are_told_before_anything_is_sent() {
    for (args, want) in [
        (
            &["--slo", "frme.p99 < 1s"][..],
            "column 1 of 'frme.p99 < 1s': unknown latency 'frme'; did you mean 'frame'?",
        ),
        (&["--slo", "frame.p99 < 1"], "column 13"),
        (&["--publishers", "0"], "--play"),
        (&["--duration", "2s"], "--duration 2s: nothing is left of it behind the ramp of 2s"),
        (
            &["--duration", "5s", "--late-join", "--gop", "2s"],
            "--duration 5s: nothing is left of it behind the ramp of 2s and the 4s of --late-join",
        ),
        (&["--duration", "5s", "--hold", "1s"], "cannot be used with '--hold"),
        (&["--duration", "5s", "--stage", "1s:1"], "cannot be used with '--stage"),
        (&["--find", "frame.p99 < 1s", "--stage", "1s:1"], "cannot be used with '--stage"),
        (&["--find", "frame.p99"], "column 10 of 'frame.p99': expected <"),
        (&["--find", "frame.p99 < 1s", "--players", "0"], "measured for it: there are no players"),
        (
            &["--find", "tls.p99 < 1s"],
            "--find 'tls.p99 < 1s': nothing could be measured for it: the target is",
        ),
        (
            &["--find", "first_keyframe.p99 < 1s", "--fps", "0"],
            "--find 'first_keyframe.p99 < 1s': nothing could be measured for it: there is no video",
        ),
        (
            &["--slo", "first_keyframe.max < 1s", "--fps", "0"],
            "measured for it: there is no video in what is",
        ),
        (&["--slo", "av_skew.p99 < 1s", "--audio", "none"], "measured for it: there is no audio in what is"),
        (&["--bitrate", "20k"], "--bitrate: 20000 bit/s are too little for 30 frames"),
        (&["--stage", "10s"], "TIME:PLAYERS"),
        (&["-o", "junit"], "this verb has no format 'junit'; expected text, json, csv or hlog"),
        (&["--late-join", "--players", "0"], "--late-join is about players"),
        (&["--churn", "50/s", "--rate", "10"], "more come back than --rate lets begin"),
        (&["--churn", "1000/s", "--hold", "2h", "--max-time", "2h"], "a run has at most"),
        (&["--slow-players", "5"], "PCT@RATE"),
        (&["--source-ip", "127.0.0.2,::1"], "IPv4 and IPv6"),
        (&["rtmp://127.0.0.1/live/cam{x}"], "expected {i}, {n} or {FROM..TO}"),
        (&["--rate", "x"], "invalid value 'x' for '--rate <N>': expected a whole number from 1 to 100000"),
        (&["--players", "-1"], "'-1' for '--players <N>': expected a whole number from 0 to 20000"),
        (&["--ramp", "5"], "'5' for '--ramp <TIME>': expected a time such as 500ms"),
        (&["--tick", "0s"], "'0s' for '--tick <TIME>': expected a time from 1ms to 1s"),
        (&["--gop", "1h"], "--gop 1h: 108000 frames at --fps 30; expected 1 to 2400"),
        (&["--stage", "x:5"], "'x': expected a time such as"),
        (&["--stage", "5s:-1"], "'-1': expected a whole number from 0 to 20000"),
        (&["--source-ip", "x"], "'x' for '--source-ip <IP>': expected an IP address such as"),
        (&["--metrics", "x"], "'x' for '--metrics <ADDR>': expected an IP address and a port"),
        (&["--tls-ca", "/none", "rtmps://127.0.0.1/live"], "--tls-ca /none: No such file"),
    ] {
        let output = run(args);
        assert!(status(&output) == 2 && err(&output).contains(want), "{args:?}: {}", err(&output));
    }
}

#[test]
fn a_wrong_value_of_the_environment_is_told_with_its_name() {
    let with = |args: &[&str]| {
        let mut command = Command::new(BINARY);
        command.arg("load").args(args).env("RTMP_BENCH_PLAYERS", "abc").output().expect("the program runs")
    };
    let output = with(&[]);
    assert_eq!(status(&output), 2);
    for want in
        ["'abc' for '--players <N>': expected a whole number", "RTMP_BENCH_PLAYERS of the environment"]
    {
        assert!(err(&output).contains(want), "{}", err(&output));
    }
    let said = err(&with(&["--players", "x"]));
    assert!(said.contains("'x' for '--players <N>'") && !said.contains("environment"), "{said}");
    // Nor what is wrong without a value.
    let said = err(&run(&["--stage", "1s:2", "--players", "3"]));
    assert!(said.contains("cannot be used with") && !said.contains("environment"), "{said}");
}

#[test]
fn a_duration_is_from_the_first_connection_to_silence() {
    // The rate stretches the ramp of 100 ms to a second: what is held is shorter for it.
    let args = ["load", "--duration", "2s", "--ramp", "100ms", "--rate", "4", "--players", "3", "-o", "json"];
    let output = Command::new(BINARY).args(args).output().expect("the program runs");
    let record: Value = serde_json::from_slice(&output.stdout).expect("a record");
    // 30 + 43 frames a second of the one publisher, which begins at once.
    let sent = frames(&record["load"], "sent");
    assert!((140..=147).contains(&sent), "{sent} of 146");
    assert_eq!(record["load"]["plan"]["stages"], serde_json::json!([[100, 3], [1900, 3]]));
    // What late players take is part of it.
    let args = ["--duration", "3s", "--ramp", "0s", "--late-join", "--gop", "500ms", "-o", "json"];
    let output = run(&[&args[..], &["--allow-limited"]].concat());
    let record: Value = serde_json::from_slice(&output.stdout).expect("a record");
    let sent = frames(&record["load"], "sent");
    assert!((214..=220).contains(&sent), "{sent} of 219");
    assert_eq!(record["load"]["plan"]["stages"], serde_json::json!([[0, 10], [2000, 10]]));
}

#[test]
fn more_sessions_than_descriptors_are_refused_or_the_limit_is_raised() {
    let limited = |limit: &str, args: &[&str]| {
        let script =
            format!("ulimit {limit}; exec \"$0\" load --ramp 0s --hold 300ms --allow-limited \"$@\"");
        Command::new("sh").args(["-c", &script, BINARY]).args(args).output().expect("sh runs")
    };
    let raised = limited("-Sn 64", &["--players", "30", "-o", "json"]);
    assert_eq!(status(&raised), 0, "{}", err(&raised));
    let refused = limited("-n 80", &["--players", "20"]);
    assert_eq!(status(&refused), 2, "{}", err(&refused));
    let want = "42 sockets need 106 file descriptors and no more than 80 can be had";
    assert!(err(&refused).contains(want), "{}", err(&refused));
}

#[test]
fn connections_come_from_the_addresses_in_turn() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtmp://{}/live", listener.local_addr().unwrap());
    let mut child = Command::new(BINARY)
        .args(["load", &url, "--publishers", "4", "--source-ip", "127.0.0.2,127.0.0.3", "--shards", "1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program runs");
    let from = (0..4).map(|_| listener.accept().expect("a connection").1.ip().to_string());
    let from: Vec<String> = from.collect();
    let _ = child.kill();
    let _ = child.wait();
    assert_eq!(from, ["127.0.0.2", "127.0.0.3", "127.0.0.2", "127.0.0.3"]);
}

#[test]
fn the_screen_says_what_is_not_as_usual() {
    let more = ["--slow-players", "50%@100k", "--burst", "300ms", "--churn", "2/s", "--players", "2"];
    let output = run(&[SHORT, HOLD, &more[..]].concat());
    let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    for part in
        ["2 players a second leave and come back", "once in 300 ms", "slow      50 % of the players read 100"]
    {
        assert!(text.contains(part), "{part}: {text}{}", err(&output));
    }
}

#[test]
fn an_interrupted_run_reports_what_ran() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtmp://{}/live", listener.local_addr().unwrap());
    let child = Command::new(BINARY)
        .args(["load", &url, "--hold", "60s", "-o", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program runs");
    // It has begun when it connects.
    let _peer = listener.accept().expect("a connection");
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).expect("a signal");
    let output = child.wait_with_output().expect("an end");
    assert_eq!(status(&output), 130);
    let record: Value = serde_json::from_slice(&output.stdout).expect("a record");
    assert_eq!(record["outcome"], "interrupted");
    assert_eq!(record["load"]["sessions"]["unfinished_by_phase"]["handshake"]["count"], 1);
}

/// A run that stood still while another one of a second came and went, with this more.
fn held_up(more: &[&str]) -> Output {
    let mut server = Server::with(&[], Stdio::piped());
    let mut lines = BufReader::new(server.0.stderr.take().expect("stderr is piped")).lines();
    let child = Command::new(BINARY)
        .args(["load", &server.1, "--players", "2", "--ramp", "0s", "--hold", "3s"])
        .args(more)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program runs");
    let plays = |line: std::io::Result<String>| line.is_ok_and(|line| line.contains(" plays "));
    assert!(lines.by_ref().any(plays));
    let pid = Pid::from_raw(child.id() as i32);
    kill(pid, Signal::SIGSTOP).expect("a signal");
    let other = ["load", &server.1, "--players", "1", "--ramp", "0s", "--hold", "1s", "--allow-limited"];
    let other = Command::new(BINARY).args(other).output().expect("the program runs");
    kill(pid, Signal::SIGCONT).expect("a signal");
    assert_eq!(status(&other), 0, "{}", err(&other));
    child.wait_with_output().expect("an end")
}

#[test]
fn a_run_that_stood_still_does_not_pass_unless_that_is_allowed() {
    let output = held_up(&[]);
    let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    assert_eq!(status(&output), 1, "{text}");
    assert!(
        text.contains("\ngenerator-limited: ") && text.contains(" seconds: own lateness p99 up to "),
        "{text}"
    );
    assert!(
        text.contains("\nno answer lost = 0: 0, but we were the limit") && !text.contains("\nheld"),
        "{text}"
    );
    let output = held_up(&["--allow-limited"]);
    let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    assert!(status(&output) == 0 && text.contains("\nheld      lost = 0: 0\n"), "{text}");
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a socket");
    let url = format!("rtmp://{}/live/c{{1..3}}", listener.local_addr().expect("an address"));
    for (args, why) in [
        (["--watch-pid", "4194305"], "--watch-pid 4194305: no such process"),
        (["--watch-pid", "0"], "--watch-pid 0: no such process"),
        (["--source-ip", "192.0.2.1"], "--source-ip 192.0.2.1: "),
        (["--source-ip", "127.0.0.1,192.0.2.1"], "--source-ip 192.0.2.1: "),
        (["--publishers", "5"], "3 names for 5 publishers"),
    ] {
        let output = run(&[&[url.as_str()], &args[..]].concat());
        assert!(status(&output) == 2 && err(&output).contains(why), "{args:?}: {}", err(&output));
        assert!(listener.accept().is_err(), "{args:?}");
    }
}

#[test]
fn the_help_shows_all_places_of_a_pattern() {
    let help = String::from_utf8(run(&["--help"]).stdout).expect("UTF-8");
    assert_eq!(help.matches("{n}").count(), 2, "{help}");
    assert!(help.lines().all(|line| line.trim_end() == line), "{help}");
}
