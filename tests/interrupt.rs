//! ^C and SIGTERM, whatever the verb: the first reports, the second kills.

use std::fs;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const SIGNALS: [Signal; 2] = [Signal::SIGINT, Signal::SIGTERM];

fn start(args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_rtmp-bench"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs")
}

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id() as i32), signal).expect("it runs");
}

/// The exit status and the record on stdout.
fn ended(child: Child) -> (Option<i32>, Value) {
    let output = child.wait_with_output().expect("it ends");
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default())
}

/// Bytes that it wrote, of the 64 KiB that a pipe holds.
fn written(child: &Child) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/io", child.id())).expect("it runs");
    let bytes = text.lines().find_map(|line| line.strip_prefix("wchar: "));
    bytes.and_then(|bytes| bytes.parse().ok()).expect("a number")
}

fn moment() {
    thread::sleep(Duration::from_millis(10));
}

#[test]
fn before_the_target_takes_a_connection_a_record_says_so() {
    for (verb, signal) in ["test", "load"].into_iter().zip(SIGNALS) {
        let folder = tempfile::tempdir().unwrap();
        let began = folder.path().join("began");
        let command = format!("touch '{}'; sleep 60", began.display());
        let child = start(&[verb, "rtmp://127.0.0.1:1/live", "--spawn", &command, "-o", "json"]);
        while !began.exists() {
            moment();
        }
        send(&child, signal);
        let (status, record) = ended(child);
        assert_eq!((status, &record["outcome"]), (Some(130), &"interrupted".into()), "{verb}");
    }
}

/// Packets come without end.
#[test]
fn inspect_tells_what_it_has_read() {
    let capture = fs::read("captures/loc-sll-any-ffmpeg-publish.pcap").unwrap();
    let (header, packets) = capture.split_at(24);
    for signal in SIGNALS {
        let mut child = start(&["inspect", "/dev/stdin", "-o", "json"]);
        let mut to = child.stdin.take().expect("it is piped");
        to.write_all(header).expect("it reads");
        // More than a pipe holds: it reads, and is ready for a signal.
        (0..4).for_each(|_| to.write_all(packets).expect("it reads"));
        send(&child, signal);
        while to.write_all(packets).is_ok() {}
        let (status, record) = ended(child);
        assert_eq!((status, &record["outcome"]), (Some(130), &"interrupted".into()));
        assert!(record["inspect"]["packets"].as_u64() > Some(0), "{record}");
    }
}

#[test]
fn the_second_kills_although_nobody_reads_the_result() {
    for signal in SIGNALS {
        let capture = fs::read("captures/loc-sll-any-ffmpeg-publish.pcap").unwrap();
        let mut child = start(&["inspect", "/dev/stdin", "--messages", "--hex"]);
        let mut to = child.stdin.take().expect("it is piped");
        // Its messages fill the pipe that nobody reads, and it takes no more packets.
        to.write_all(&capture[..24]).expect("it reads");
        let feeding = thread::spawn(move || while to.write_all(&capture[24..]).is_ok() {});
        while written(&child) < 48 << 10 {
            moment();
        }
        send(&child, signal);
        while child.try_wait().expect("it is ours").is_none() {
            send(&child, signal);
            moment();
        }
        assert_eq!(child.wait().expect("it ended").code(), Some(130));
        feeding.join().expect("the pipe is gone");
    }
}
