//! Where results go, whatever the verb: files that cannot be written or are read, readers that went away.

use std::fs;
use std::io::pipe;
use std::process::{Command, Output, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_rtmp-bench");
/// A case that takes milliseconds.
const CASE: &str = "handshake/version-3";
const CAPTURE: &str = "captures/loc-ffmpeg-publish.pcapng";

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(args: &[&str]) -> (i32, String) {
    told(program(args).output().expect("the program runs"))
}

/// The exit status and what stands on stderr.
fn told(output: Output) -> (i32, String) {
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    (output.status.code().expect("an exit status"), said)
}

/// The end to write to of a pipe that nobody reads.
fn unread() -> Stdio {
    pipe().expect("a pipe").1.into()
}

#[test]
fn a_reader_that_went_away_is_no_error() {
    let verbs: [&[&str]; 6] = [
        &["check", "scenarios"],
        &["serve", "--list-faults"],
        &["test", "--list"],
        &["test", "-s", CASE],
        &["inspect", CAPTURE, "--messages"],
        &["replay", CAPTURE, "--pace", "asap"],
    ];
    for args in verbs {
        let output = program(args).stdout(unread()).output().expect("the program runs");
        assert_eq!(told(output), (0, String::new()), "{args:?}");
    }
}

#[test]
fn an_exit_status_does_not_hang_on_who_reads_what_is_said() {
    let verbs: [(&[&str], i32); 3] = [
        (&["check", "Cargo.toml"], 2),
        (&["inspect", "Cargo.toml"], 2),
        (&["test", "rtmp://127.0.0.1:1/live"], 3),
    ];
    for (args, status) in verbs {
        let output = program(args).stderr(unread()).output().expect("the program runs");
        assert_eq!(output.status.code(), Some(status), "{args:?}");
    }
}

#[test]
fn what_cannot_be_written_keeps_no_other_result_from_its_place() {
    let verbs: [&[&str]; 3] =
        [&["test", "-s", CASE], &["inspect", CAPTURE], &["replay", CAPTURE, "--pace", "asap"]];
    for args in verbs {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = format!("text:{}", file.path().display());
        let (status, said) = run(&[args, &["-o", "json:/dev/full", "-o", &text]].concat());
        assert_eq!(status, 4, "{said}");
        assert!(said.contains("/dev/full: No space left"), "{said}");
        assert!(!fs::read(file.path()).unwrap().is_empty(), "{args:?}");
    }
}

#[test]
fn results_are_not_written_over_what_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let named = |name: &str, text: &str| {
        let file = folder.path().join(name).display().to_string();
        fs::write(&file, text).unwrap();
        file
    };
    let scenario = named("own.scn", &fs::read_to_string("scenarios/handshake/version-3.scn").unwrap());
    let expect = named("expect.txt", &format!("{CASE} pass \"x\"\n"));
    let media = named("x.flv", "FLV");
    let other = named("other", "");
    let over = |file: &str| format!("json:{file}");
    let below = folder.path().display().to_string();
    let refused: [&[&str]; 6] = [
        &["test", "-s", &scenario, "-o", &over(&scenario)],
        &["test", "-s", &below, "-o", &over(&scenario)],
        &["test", "-s", CASE, "--expect", &expect, "-o", &over(&expect)],
        &["test", "-s", CASE, "--write-expect", &other, "-o", &over(&other)],
        &["test", "-s", CASE, "--expect", &expect, "--write-expect", &scenario, "-s", &scenario],
        &["load", "--media", &media, "-o", &over(&media)],
    ];
    for args in refused {
        let (status, said) = run(args);
        assert!(status == 2 && said.contains("would write over"), "{args:?}: {said}");
    }
    assert!(fs::read_to_string(&scenario).unwrap().starts_with("scenario"));
    let renewed = run(&["test", "-s", CASE, "--expect", &expect, "--write-expect", &expect]);
    assert_eq!(renewed, (0, String::new()));
    assert_eq!(fs::read_to_string(expect).unwrap(), format!("{CASE} pass \"x\"\n"));
}

#[test]
fn what_is_no_file_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("own");
    fs::create_dir(&own).unwrap();
    fs::copy("scenarios/handshake/version-3.scn", own.join("version-3.scn")).unwrap();
    // A pattern, and a folder of scenarios.
    for name in [CASE, "own"] {
        let args = ["test", "-s", name, "-o", &format!("pcapng:{name}")];
        let output = program(&args).current_dir(&folder).output().expect("the program runs");
        assert_eq!(told(output), (0, String::new()), "{name}");
    }
}
