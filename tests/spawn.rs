//! `--spawn`: the target is a command that we start, watch and end, whatever happens.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_rtmp-bench");

/// An address where nobody listens yet.
fn free() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// The reference server as a command, behind a shell that stays and is its parent.
fn serve(addr: &str, more: &str) -> String {
    format!("{BINARY} serve {addr} {more}; echo over >&2; exit 7")
}

fn run(args: &[&str]) -> Output {
    Command::new(BINARY).args(args).stdin(Stdio::null()).output().expect("the program runs")
}

fn status(output: &Output) -> i32 {
    output.status.code().expect("an exit status")
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", err(output)))
}

fn assert_gone(addr: &str) {
    let refused = TcpStream::connect(addr).expect_err("nobody listens any more");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

/// A short load on the target at this address.
fn load<'a>(url: &'a str, command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let args = ["load", url, "--spawn", command, "--players", "1", "--ramp", "0s", "--allow-limited"];
    [&args, more].concat()
}

#[test]
fn a_spawned_server_is_waited_for_watched_and_ended() {
    let addr = free();
    let (url, command) = (format!("rtmp://{addr}/live"), serve(&addr, ""));
    let command = format!("sleep 0.3; {command}");
    let output = run(&load(&url, &command, &["--hold", "1s", "-o", "json"]));
    let record = json(&output);
    assert_eq!(status(&output), 0, "{}", err(&output));
    assert_gone(&addr);
    let spawned = &record["target"]["spawned"];
    assert!(spawned.get("died").is_none(), "{spawned}");
    assert!(spawned["last_lines"].to_string().contains(&url), "{spawned}");
    // The shell's children are what takes memory.
    let watched = &record["load"]["watched"];
    assert_eq!(watched["pid"], spawned["pid"]);
    assert!(watched["rss_bytes"].as_u64() > Some(6 << 20), "{watched}");
    let rows = record["load"]["intervals"].as_array().expect("rows");
    let memory = |name: &str| rows.iter().filter_map(|row| row[name].as_u64()).max();
    assert!(
        memory("rss_bytes") > Some(4 << 20) && memory("watched_rss_bytes") == watched["rss_bytes"].as_u64()
    );
    assert!(rows.iter().any(|row| row["watched_cpu_pct"].is_f64()), "{rows:?}");
    let output = run(&["test", &url, "--spawn", &command, "-s", "chunk/type-3-after-type-0"]);
    assert_eq!(status(&output), 0, "{}", err(&output));
    assert_gone(&addr);
}

/// Whatever stands in the target's command.
#[test]
fn the_command_that_runs_a_case_again_starts_the_target_again() {
    let addr = free();
    let (url, case) = (format!("rtmp://{addr}/live"), "chunk/type-3-after-type-0");
    // It starts only where its braces are still there.
    let braces = "test 'it {}' = \"it {\"\"}\" || exit 9";
    let command = format!("{braces}; {}", serve(&addr, "--fault type-3-after-type-0-zero"));
    let found = json(&run(&["test", &url, "--spawn", &command, "-s", case, "--strict", "-o", "json"]));
    let repeat = found["test"]["cases"][0]["repeat"].as_str().expect("a command");
    let again = repeat.replacen("rtmp-bench", BINARY, 1) + " -o json";
    let again = Command::new("sh").args(["-c", &again]).output().expect("sh runs");
    assert_eq!(status(&again), 1, "{repeat}: {}", err(&again));
    let (first, second) = (&found["test"]["cases"], &json(&again)["test"]["cases"]);
    assert_eq!((&second[0]["id"], &second[0]["verdict"]), (&case.into(), &first[0]["verdict"]), "{repeat}");
    assert_gone(&addr);
}

#[test]
fn a_server_that_dies_is_found_with_status_and_last_lines() {
    let addr = free();
    let (url, command) = (format!("rtmp://{addr}/live"), format!("timeout -s INT 2 {}", serve(&addr, "")));
    // It ends the run, whose time would be an hour.
    let output = run(&load(&url, &command, &["--hold", "1h", "-o", "json"]));
    assert_eq!(status(&output), 1, "{}", err(&output));
    let record = json(&output);
    assert_eq!(record["outcome"], "found");
    let spawned = &record["target"]["spawned"];
    assert_eq!(spawned["died"], "exit status: 7");
    let lines = spawned["last_lines"].as_array().expect("lines");
    assert_eq!(lines.last().expect("one"), "over", "{spawned}");
    assert_gone(&addr);
    // A scenario after which it crashes is found even where the scenario itself has nothing to say.
    let command = serve(&addr, "--fault event-short-crashes");
    let dir = tempfile::tempdir().expect("a folder");
    let junit = dir.path().join("report.xml");
    let to_junit = format!("junit:{}", junit.display());
    let output = run(&[
        "test",
        &url,
        "--spawn",
        &command,
        "-s",
        "control/truncated-events",
        "--jobs",
        "1",
        "-o",
        &to_junit,
    ]);
    let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    assert_eq!(status(&output), 1, "{text}{}", err(&output));
    assert!(
        text.contains("the target ended by itself during the run: exit status: 7; it was started again "),
        "{text}"
    );
    let xml = fs::read_to_string(junit).expect("a file");
    assert!(xml.contains("<testcase name=\"stays up\"") && xml.contains("exit status: 7"), "{xml}");
}

#[test]
fn one_that_never_serves_is_unreachable() {
    let url = format!("rtmp://{}/live", free());
    for verb in ["load", "test"] {
        let output = run(&[verb, &url, "--spawn", "echo no such file >&2; exit 3", "-o", "json"]);
        assert_eq!(status(&output), 3, "{}", err(&output));
        let spawned = &json(&output)["target"]["spawned"];
        assert_eq!(
            (&spawned["died"], &spawned["last_lines"][0]),
            (&"exit status: 3".into(), &"no such file".into())
        );
    }
    let output = run(&["load", &url, "--spawn", "sleep 600", "--wait-target", "200ms"]);
    assert_eq!(status(&output), 3, "{}", err(&output));
}

#[test]
fn what_cannot_be_measured_is_said_before_anything_is_started() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().expect("a folder");
    let mark = dir.path().join("started");
    let (url, command) =
        (format!("rtmp://{}/live", taken.local_addr().unwrap()), format!("touch {}", mark.display()));
    for verb in ["load", "test"] {
        let output = run(&[verb, &url, "--spawn", &command]);
        assert!(status(&output) == 2 && err(&output).contains("is served already"), "{}", err(&output));
        let output = run(&[verb, "--spawn", &command]);
        assert!(status(&output) == 2 && err(&output).contains("TARGET"), "{}", err(&output));
    }
    assert!(!mark.exists());
}

/// Starts a load on a spawned server, sends it these signals once it runs, and waits for the server's end.
fn ended_by(signals: &[Signal]) -> Option<i32> {
    let addr = free();
    let dir = tempfile::tempdir().expect("a folder");
    let pipe = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("it runs").success());
    // The server holds the pipe open for writing: its end is the server's.
    let (url, command) = (
        format!("rtmp://{addr}/live"),
        format!("exec 3>{}; echo up >&3; {}", pipe.display(), serve(&addr, "")),
    );
    let mut child = Command::new(BINARY)
        .args(load(&url, &command, &["--hold", "1h"]))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program runs");
    let mut pipe = fs::File::open(&pipe).expect("the command opens it");
    let mut up = [0; 3];
    pipe.read_exact(&mut up).expect("a word");
    for signal in signals {
        kill(Pid::from_raw(child.id() as i32), *signal).expect("a signal");
    }
    let status = child.wait().expect("an end").code();
    pipe.read_to_end(&mut Vec::new()).expect("the end of all that held it");
    assert_gone(&addr);
    status
}

#[test]
fn an_interrupted_run_ends_it() {
    assert_eq!(ended_by(&[Signal::SIGINT]), Some(130));
    assert_eq!(ended_by(&[Signal::SIGTERM]), Some(130));
}

#[test]
fn a_killed_run_ends_it_too() {
    assert_eq!(ended_by(&[Signal::SIGKILL]), None);
}
