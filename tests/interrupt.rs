//! ^C and SIGTERM, whatever the verb: the first reports, the second kills.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const SIGNALS: [Signal; 2] = [Signal::SIGINT, Signal::SIGTERM];
/// Behind it something is awaited in vain.
const PATIENCE: Duration = Duration::from_secs(60);
/// A pcap file's header.
const HEADER: usize = 24;

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

/// Whether its first thread sleeps in a call about this file: nobody reads what it writes.
fn is_held(child: &Child, file: &Path) -> bool {
    let call = fs::read_to_string(format!("/proc/{}/syscall", child.id())).expect("it runs");
    let number =
        call.split(' ').nth(1).and_then(|first| u32::from_str_radix(first.strip_prefix("0x")?, 16).ok());
    number.is_some_and(|number| opened(child, number).is_ok_and(|held| held == file))
}

/// What a descriptor of it stands for.
fn opened(child: &Child, number: u32) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/{}/fd/{number}", child.id()))
}

/// Sends the signal once nobody reads what it writes to this file, and waits until it is taken.
fn send_held(child: &mut Child, file: &Path, signal: Signal) {
    awaited(child, "that nobody reads what it writes", |child| is_held(child, file));
    let before = sleeps(child);
    send(child, signal);
    awaited(child, "that the signal is taken", |child| sleeps(child) > before);
}

/// How often its threads but the first went to sleep.
fn sleeps(child: &Child) -> u64 {
    let first = child.id().to_string();
    let threads = fs::read_dir(format!("/proc/{first}/task")).expect("it runs").flatten();
    let others = threads.filter(|thread| thread.file_name() != *first);
    let texts = others.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
    let number = |text: String| {
        text.lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse::<u64>().ok())
    };
    texts.filter_map(number).sum()
}

fn awaited(child: &mut Child, what: &str, mut is_so: impl FnMut(&mut Child) -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so(child) {
        if Instant::now() > end {
            in_vain(child, what);
        }
        thread::yield_now();
    }
}

fn in_vain(child: &mut Child, what: &str) -> ! {
    child.kill().expect("it runs");
    panic!("in vain awaited: {what}");
}

/// Packets until it reads no more.
fn feed(child: &mut Child, to: &mut ChildStdin, packets: &[u8]) {
    let most = (1 << 29) / packets.len();
    if (0..most).all(|_| to.write_all(packets).is_ok()) {
        in_vain(child, "the end of its reading");
    }
}

fn capture() -> Vec<u8> {
    fs::read("captures/loc-sll-any-ffmpeg-publish.pcap").expect("it is there")
}

#[test]
fn before_the_target_takes_a_connection_a_record_says_so() {
    for (verb, signal) in ["test", "load"].into_iter().zip(SIGNALS) {
        let folder = tempfile::tempdir().unwrap();
        let began = folder.path().join("began");
        let command = format!("touch '{}'; sleep 60", began.display());
        let mut child = start(&[verb, "rtmp://127.0.0.1:1/live", "--spawn", &command, "-o", "json"]);
        awaited(&mut child, "the target's start", |_| began.exists());
        send(&child, signal);
        let (status, record) = ended(child);
        assert_eq!((status, &record["outcome"]), (Some(130), &"interrupted".into()), "{verb}");
    }
}

/// Packets come without end.
#[test]
fn inspect_tells_what_it_has_read() {
    let capture = capture();
    let (header, packets) = capture.split_at(HEADER);
    // A connection that may yet come is not said to be missing.
    for (signal, more) in SIGNALS.into_iter().zip([&[][..], &["--stream", "7"]]) {
        let mut child = start(&[&["inspect", "/dev/stdin", "-o", "json"], more].concat());
        let mut to = child.stdin.take().expect("it is piped");
        to.write_all(header).expect("it reads");
        // More than a pipe holds: it reads, and is ready for a signal.
        (0..4).for_each(|_| to.write_all(packets).expect("it reads"));
        send(&child, signal);
        feed(&mut child, &mut to, packets);
        let (status, record) = ended(child);
        assert_eq!((status, &record["outcome"]), (Some(130), &"interrupted".into()));
        assert!(record["inspect"]["packets"].as_u64() > Some(0), "{record}");
    }
}

#[test]
fn a_capture_is_anonymised_no_further() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder_path = fs::canonicalize(folder.path()).expect("it is there");
    let [from, to] = ["from", "to"].map(|name| folder_path.join(name));
    let capture = capture();
    let (header, packets) = capture.split_at(HEADER);
    fs::write(&from, [header, &packets.repeat(100)].concat()).expect("written");
    assert!(Command::new("mkfifo").arg(&to).status().expect("it runs").success());
    for signal in SIGNALS {
        let names = [&from, &to].map(|path| path.to_str().expect("a plain name"));
        let mut child = start(&["inspect", names[0], "--anonymise", names[1], "-o", "json"]);
        let (go, may_read) = mpsc::channel();
        let pipe = to.clone();
        let reading = thread::spawn(move || {
            let mut shared = File::open(pipe).expect("it is there");
            may_read.recv().expect("somebody says so");
            io::copy(&mut shared, &mut io::sink()).expect("a pipe") as usize
        });
        send_held(&mut child, &to, signal);
        go.send(()).expect("it waits");
        let (status, record) = ended(child);
        let came = reading.join().expect("it is read");
        assert_eq!((status, &record["outcome"]), (Some(130), &"interrupted".into()));
        assert!(came >= HEADER && came < packets.len() * 50, "{came}");
    }
}

/// There is nothing to report before anything is sent.
#[test]
fn while_replay_reads_the_first_kills() {
    let capture = capture();
    let (header, packets) = capture.split_at(HEADER);
    for signal in SIGNALS {
        let mut child = start(&["replay", "/dev/stdin"]);
        let mut to = child.stdin.take().expect("it is piped");
        to.write_all(header).expect("it reads");
        // More than a pipe holds: it reads.
        (0..4).for_each(|_| to.write_all(packets).expect("it reads"));
        send(&child, signal);
        feed(&mut child, &mut to, packets);
        assert_eq!(child.wait().expect("it ended").signal(), Some(signal as i32));
    }
}

#[test]
fn the_second_kills_although_nobody_reads_the_result() {
    for signal in SIGNALS {
        let capture = capture();
        let mut child = start(&["inspect", "/dev/stdin", "--messages", "--hex"]);
        let mut to = child.stdin.take().expect("it is piped");
        // Its messages fill the pipe that nobody reads, and it takes no more packets.
        to.write_all(&capture[..HEADER]).expect("it reads");
        let feeding = thread::spawn(move || while to.write_all(&capture[HEADER..]).is_ok() {});
        let stdout = opened(&child, 1).expect("it is piped");
        send_held(&mut child, &stdout, signal);
        assert_eq!(child.try_wait().expect("it is ours"), None, "the first killed");
        send(&child, signal);
        awaited(&mut child, "its end", |child| child.try_wait().expect("it is ours").is_some());
        assert_eq!(child.wait().expect("it ended").code(), Some(130));
        feeding.join().expect("the pipe is gone");
    }
}
