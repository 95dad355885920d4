//! `replay` as a user runs it: what it prints and returns.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::recorded::Conversation;
use crate::shipped;

fn replay(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rtmp-bench")).arg("replay").args(args).output().expect("rtmp-bench runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn path(name: &str) -> String {
    shipped(name).to_string_lossy().into_owned()
}

/// The reference server as a process of its own, which ends with this.
pub struct Served(Child, pub String);

impl Served {
    pub fn with(args: &[&str]) -> Served {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rtmp-bench"))
            .args(["serve", "127.0.0.1:0"])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .expect("rtmp-bench runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        Served(child, line.trim().to_owned())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn without_a_target_the_reference_server_is_used() {
    let out = replay(&[&path("loc-ffmpeg-publish-token.pcapng"), "--pace", "asap", "--verify"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let shown = text(&out.stdout);
    for line in [
        "publish cam2?token=***&expires=***&sign=***: done",
        "mapped    stream 1 is 1",
        "177 of 177 frames, each once, in order, unchanged",
        "1 session: 0 failed, 1 answered otherwise than recorded",
    ] {
        assert!(shown.contains(line), "{line}\n{shown}");
    }
    assert!(!shown.contains("s3cr"), "a secret is shown: {shown}");
}

#[test]
fn the_record_has_all_of_it_and_no_secrets() {
    let served = Served::with(&[]);
    let target = format!("{}/hush-hush-1?key=hush", served.1);
    let capture = path("loc-ffmpeg-publish-token.pcapng");
    let out = replay(&[
        &capture, &target, "--pace", "asap", "--loop", "2", "--copies", "2", "--verify", "-o", "json",
    ]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert!(!text(&out.stdout).contains("hush"), "{}", text(&out.stdout));
    let record: Value = serde_json::from_slice(&out.stdout).expect("JSON alone");
    assert_eq!((&record["verb"], &record["outcome"]), (&"replay".into(), &"clean".into()));
    let replay = &record["replay"];
    assert_eq!(
        (&replay["pace"], &replay["loops"], &replay["copies"]),
        (&"asap".into(), &2.into(), &2.into())
    );
    let sessions = replay["sessions"].as_array().expect("sessions");
    assert_eq!(sessions.len(), 2);
    for session in sessions {
        assert_eq!(session["end"], "done");
        assert_eq!(session["sent"]["frames"], 2 * 177);
        assert_eq!(session["verify"][0]["held"], true);
        assert_eq!(session["streams"][0]["recorded"], 1);
        assert!(session["received"]["messages"]["20"].as_u64() >= Some(3));
        assert!(session["departures"].as_array().is_some_and(|d| !d.is_empty()));
    }
}

#[test]
fn a_frame_that_is_changed_on_the_way_is_found() {
    let served = Served::with(&["--fault", "relay-damages"]);
    let capture = path("loc-gst-rtmpsink-librtmp-publish.pcapng");
    let out = replay(&[&capture, &served.1, "--pace", "asap", "--verify"]);
    assert_eq!(out.status.code(), Some(1), "{}", text(&out.stderr));
    assert!(text(&out.stdout).contains("DIFFERS"), "{}", text(&out.stdout));
    let out = replay(&[&capture, &served.1, "--pace", "asap"]);
    assert_eq!(out.status.code(), Some(0), "nobody looked: {}", text(&out.stdout));
}

#[test]
fn a_hole_is_not_crossed() {
    let out = replay(&[&path("loc-snaplen96-ffmpeg-publish.pcap"), "--pace", "asap"]);
    assert_eq!((out.status.code(), out.stdout.len()), (Some(2), 0));
    assert!(
        text(&out.stderr).contains("c2s at 30: 1507 bytes are missing (snaplen)"),
        "{}",
        text(&out.stderr)
    );
    let none = replay(&[&path("loc-snaplen96-ffmpeg-publish.pcap"), "--allow-holes"]);
    assert_eq!(none.status.code(), Some(2), "there is no whole message: {}", text(&none.stdout));

    let folder = tempfile::tempdir().expect("a folder");
    let lossy = folder.path().join("lossy.pcap");
    // The fourth frame of six is missing.
    std::fs::write(&lossy, Conversation::rich().frames(2, 6, 50, 40).without(2)).expect("written");
    let lossy = lossy.to_string_lossy();
    let out = replay(&[&lossy, "--pace", "asap"]);
    assert_eq!(out.status.code(), Some(2), "{}", text(&out.stdout));
    assert!(text(&out.stderr).contains("bytes are missing (capture drop)"), "{}", text(&out.stderr));
    let out = replay(&[&lossy, "--pace", "asap", "--allow-holes", "--verify", "-o", "json"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("what stands before it is replayed"), "{}", text(&out.stderr));
    let record: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert_eq!(record["replay"]["sessions"][0]["sent"]["frames"], 3);
}

#[test]
fn long_pauses_are_told_before_they_are_sat_out() {
    let mut capture = Conversation::rich().frames(2, 6, 50, 40).pcap();
    // Its last frames are twenty seconds later, and the last of these fifty.
    let (mut at, frames) = (24, capture.len() - 300);
    while at < capture.len() {
        let word =
            |at: usize| u32::from_le_bytes([capture[at], capture[at + 1], capture[at + 2], capture[at + 3]]);
        let (seconds, len) = (word(at), word(at + 8) as usize);
        let late = 20 * u32::from(at > frames) + 30 * u32::from(at + 16 + len == capture.len());
        capture[at..at + 4].copy_from_slice(&(seconds + late).to_le_bytes());
        at += 16 + len;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pauses.pcap");
    std::fs::write(&file, capture).expect("written");
    let file = file.to_string_lossy().into_owned();
    let told = "sits out 2 pauses of 10 s or more, 50 s together; --pace media, asap";
    let out = replay(&[&file, "--max-time", "1ms"]);
    assert!(text(&out.stderr).contains(told), "{}", text(&out.stderr));
    for pace in ["asap", "media", "10x"] {
        let out = replay(&[&file, "--max-time", "1ms", "--pace", pace]);
        assert!(!text(&out.stderr).contains("sits out"), "{pace}: {}", text(&out.stderr));
    }
}

#[test]
fn what_cannot_be_replayed_is_told() {
    let (plain, raw) = (path("loc-ffmpeg-publish.pcapng"), path("loc-rtmpdump-live-play-client.bin"));
    for (args, exit, says) in [
        (&[&path("loc-midstream-ffmpeg-publish.pcapng")[..]][..], 2, "starts mid-stream"),
        (&[&path("loc-rtmpe-attempt-rtmpdump.pcapng")], 2, "RTMPE"),
        (&[&path("loc-rtmpdump-live-play-server.bin")], 2, "the client does not connect"),
        (&[&plain, "--session", "nobody"], 2, "no client's session of the key 'nobody'"),
        (&[&path("README.md")], 2, "not a capture"),
        (&[&raw, "--pace", "capture"], 2, "the dump has no times"),
        (&[&plain, "--pace", "0x"], 2, "expected capture, media, asap or a factor"),
        (&[&plain, "--chunk-size", "0"], 2, "expected 1 to 16777215, or recorded"),
        (&[&plain, "--copies", "0"], 2, "expected a whole number from 1 to 10000"),
        (&[&path("loc-rejected-and-aborted.pcapng"), "--copies", "9999"], 2, "more than 10000"),
        (&[&plain, "rtmp://127.0.0.1:1/live"], 3, "unreachable"),
        (
            &[&path("loc-gst-rtmp2src-play.pcapng"), "--pace", "asap", "--verify"],
            2,
            "nothing of what was replayed",
        ),
        // rtmp 7.2.2.1: start 0 asks for a recorded stream, which the reference server has not.
        (&[&path("loc-rtmpdump-play-chunk128.pcap"), "--pace", "asap"], 1, ""),
    ] {
        let out = replay(args);
        assert_eq!(out.status.code(), Some(exit), "{args:?}: {}{}", text(&out.stdout), text(&out.stderr));
        assert!(text(&out.stderr).contains(says), "{args:?}: {}", text(&out.stderr));
    }
}

#[test]
fn a_player_of_nothing_is_told_what_to_do() {
    let hint = |name: &str| {
        format!(
            "  note      nothing came of {name}, which no session of this replay publishes: the target must have it, live or as a file; --name plays another\n"
        )
    };
    for (capture, name, status) in [
        ("loc-gst-rtmp2src-play.pcapng", "base.flv", 0),
        ("loc-rtmpdump-play-chunk128.pcap", "base.flv", 1),
        ("loc-rtmpdump-live-play-client.bin", "cam5", 0),
    ] {
        let out = replay(&[&path(capture), "--pace", "asap"]);
        let said = text(&out.stdout);
        assert_eq!(out.status.code(), Some(status), "{said}");
        assert!(said.contains(&hint(name)), "{capture}: {said}");
    }
    // Where the recorded player got nothing either, or somebody publishes, there is nothing to do.
    for capture in ["loc-rejected-and-aborted.pcapng", "loc-ffmpeg-publish.pcapng"] {
        let said = text(&replay(&[&path(capture), "--pace", "asap"]).stdout);
        assert!(!said.contains("nothing came"), "{capture}: {said}");
    }
}

#[test]
fn one_session_by_its_key_or_number() {
    let capture = path("loc-rejected-and-aborted.pcapng");
    for key in ["127.0.0.1:32994->127.0.0.1:19399", "4"] {
        let out = replay(&[&capture, "--session", key, "--pace", "asap", "--verify", "-o", "json"]);
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
        let record: Value = serde_json::from_slice(&out.stdout).expect("JSON");
        let sessions = record["replay"]["sessions"].as_array().expect("sessions");
        assert_eq!(sessions.len(), 1);
        assert_eq!(sessions[0]["names"][0]["target"], "kill9");
        assert_eq!(sessions[0]["verify"][0]["came"], 39);
    }
}

#[test]
fn interrupted_it_still_reports() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let target = format!("rtmp://{}/live", listener.local_addr().expect("an address"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_rtmp-bench"))
        .args(["replay", &path("loc-ffmpeg-publish.pcapng"), &target, "-o", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("rtmp-bench runs");
    let (mut taken, _) = listener.accept().expect("a connection");
    taken.read_exact(&mut [0; 1537]).expect("C0 and C1");
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill runs");
    assert!(killed.success());
    let mut out = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut out).expect("text");
    assert_eq!(child.wait().expect("it ends").code(), Some(130), "{out}");
    let record: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(record["outcome"], "interrupted");
    assert_eq!(record["replay"]["sessions"][0]["end"], "interrupted");
    assert_eq!(record["replay"]["sessions"][0]["sent"]["bytes"], 1537);
}

#[test]
fn a_name_that_the_target_gives_is_masked_as_in_its_url() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let target = format!("rtmp://{address}/live/mykey?k=tellnobody");
    for format in ["text", "json"] {
        let out = replay(&[&path("loc-ffmpeg-publish.pcapng"), &target, "--copies", "2", "-o", format]);
        let said = text(&out.stdout) + &text(&out.stderr);
        assert!(said.contains("***-1?k=***") && !said.contains("mykey"), "{format}: {said}");
    }
}

#[test]
fn what_is_no_rtmp_is_named() {
    for (target, first, said) in [
        ("rtmp", "HTTP/1.1 400 Bad Request", "version 72: not RTMP; HTTP begins so"),
        ("rtmps", "", "TLS: no answer within 5s"),
    ] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let target = format!("{target}://{}/live", listener.local_addr().expect("an address"));
        let held = std::thread::spawn(move || {
            let (mut taken, _) = listener.accept().expect("a connection");
            taken.write_all(first.as_bytes()).expect("taken");
            taken.read_to_end(&mut Vec::new())
        });
        let out = text(&replay(&[&path("loc-ffmpeg-publish.pcapng"), &target, "--insecure"]).stdout);
        assert!(out.contains(said), "{out}");
        let _ = held.join();
    }
}
