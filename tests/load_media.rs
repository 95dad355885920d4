//! `load --media`: files of foreign encoders go to players whole, with stamps and without, and decode as they did before.
#![allow(clippy::print_stdout)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rtmp_bench::load::media::{Kind, Media, Stamp};
use rtmp_bench::wire::flv;
use rtmp_bench::wire::media as heads;
use rtmp_bench::wire::sample;
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_rtmp-bench");
const EVERY: u64 = 7;

fn installed(program: &str) -> bool {
    let there = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    if !there {
        println!("SKIPPED: not installed: {program}");
    }
    there
}

fn ffmpeg(args: &[&str]) -> String {
    let output = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-y"])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("ffmpeg runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{args:?}: {said}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Two seconds, 25 frames a second, with these codecs.
fn clip(dir: &Path, codecs: &[&str]) -> PathBuf {
    let file = dir.join("clip.flv");
    let sources = ["-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25", "-f", "lavfi", "-i"];
    let noise = ["aevalsrc=0.1*random(0):s=44100", "-t", "2", "-pix_fmt", "yuv420p"];
    ffmpeg(&[&sources, &noise[..], codecs, &[file.to_str().expect("UTF-8")]].concat());
    file
}

const H264_AAC: &[&str] =
    &["-c:v", "libx264", "-preset", "veryfast", "-g", "25", "-bf", "2", "-c:a", "aac", "-threads", "1"];
const SORENSON_MP3: &[&str] = &["-c:v", "flv1", "-g", "25", "-c:a", "libmp3lame", "-ac", "1"];

/// What decodes: a hash for each picture and each second or so of sound.
fn decoded(file: &Path, kind: &str) -> Vec<String> {
    let text = ffmpeg(&["-i", file.to_str().expect("UTF-8"), "-map", kind, "-f", "framemd5", "-"]);
    let hash = |line: &str| Some(line.rsplit(',').next()?.trim().to_owned());
    text.lines().filter(|line| !line.starts_with('#')).filter_map(hash).collect()
}

/// `serve`, ended when it is dropped, and its URL.
struct Server(Child, String);

impl Server {
    fn start(args: &[&str]) -> Server {
        let mut child = Command::new(BINARY)
            .args(["serve", "127.0.0.1:0"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
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

/// The load part of the record, and the exit status.
fn load(file: &Path, args: &[&str]) -> (Value, i32) {
    let output = Command::new(BINARY)
        .args(["load", "--ramp", "0s", "--allow-limited", "-o", "json", "--media"])
        .arg(file)
        .args(args)
        .output()
        .expect("the program runs");
    let record: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    (record["load"].clone(), output.status.code().expect("an exit status"))
}

fn frames(load: &Value, what: &str) -> u64 {
    load["frames"][what].as_u64().unwrap_or_else(|| panic!("{what}: {load}"))
}

/// Two and a half rounds to three players: all of it comes.
fn comes_whole(file: &Path, args: &[&str]) -> Value {
    let (load, status) = load(file, &[&["--players", "3", "--hold", "5s"], args].concat());
    assert_eq!(status, 0, "{load}");
    for what in ["lost", "duplicated", "reordered", "corrupt", "foreign"] {
        assert_eq!(frames(&load, what), 0, "{what}: {load}");
    }
    assert!(frames(&load, "expected") > 3 * 300, "{load}");
    assert_eq!(load["latency"]["frame"]["count"], load["frames"]["expected"]);
    load
}

#[test]
fn h264_with_b_frames_and_aac_come_whole_and_stamped() {
    if !installed("ffmpeg") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let clip = clip(dir.path(), H264_AAC);
    let whole = comes_whole(&clip, &[]);
    for (kind, codec) in [("video", "avc"), ("audio", "aac")] {
        let track = &whole["plan"]["media"][kind];
        assert_eq!((&track["codecs"][0], &track["frames"]), (&codec.into(), &track["stamped"]), "{track}");
    }
    assert_eq!(whole["plan"]["media"]["video"]["frames"], 50);
    assert_eq!(whole["latency"]["frame_raw"]["count"], whole["frames"]["expected"]);
    let untouched = comes_whole(&clip, &["--media-untouched"]);
    assert_eq!(untouched["plan"]["media"]["video"]["stamped"], 0);
    assert_eq!(untouched["latency"].get("frame_raw"), None);
}

#[test]
fn codecs_without_a_place_for_a_stamp_come_whole() {
    if installed("ffmpeg") {
        let dir = tempfile::tempdir().expect("a folder");
        let whole = comes_whole(&clip(dir.path(), SORENSON_MP3), &[]);
        for (kind, codec) in [("video", "h263"), ("audio", "mp3")] {
            let track = &whole["plan"]["media"][kind];
            assert_eq!((&track["codecs"][0], &track["stamped"]), (&codec.into(), &0.into()), "{track}");
        }
    }
}

#[test]
fn content_tells_faults_as_stamps_do() {
    if !installed("ffmpeg") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let clip = clip(dir.path(), H264_AAC);
    for (fault, what, of) in [
        ("relay-drops", "lost", "expected"),
        ("relay-doubles", "duplicated", "expected"),
        ("relay-damages", "corrupt", "received"),
    ] {
        let server = Server::start(&["--fault", fault]);
        let (load, _) = load(&clip, &[&server.1, "--players", "1", "--hold", "5s", "--media-untouched"]);
        let (count, all) = (frames(&load, what), frames(&load, of));
        // Of a frame that came with other bytes as the first of its kind nothing can be said but that.
        assert!(all > 300 && count.abs_diff(all / EVERY) <= 1, "{fault}: {load}");
        for other in ["lost", "duplicated", "reordered", "corrupt"].iter().filter(|other| **other != what) {
            assert_eq!(frames(&load, other), 0, "{fault} {other}: {load}");
        }
    }
    let server = Server::start(&["--fault", "relay-swaps"]);
    let (load, _) = load(&clip, &[&server.1, "--players", "1", "--hold", "5s", "--media-untouched"]);
    assert!(frames(&load, "reordered") > 10, "{load}");
    // A frame that is to change places with the one behind it may be the last.
    assert!(frames(&load, "lost") <= 1, "{load}");
    assert_eq!((frames(&load, "duplicated"), frames(&load, "corrupt")), (0, 0));
}

#[test]
fn what_ffmpeg_plays_decodes_as_the_file_does() {
    if !installed("ffmpeg") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let clip = clip(dir.path(), H264_AAC);
    let server = Server::start(&[]);
    let got = dir.path().join("got.flv");
    let player = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-y", "-i", &format!("{}/x-0", server.1), "-c", "copy"])
        .arg(&got)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ffmpeg runs");
    let (load, status) = load(&clip, &[&format!("{}/x", server.1), "--players", "1", "--hold", "7s"]);
    let said = player.wait_with_output().expect("it was started").stderr;
    assert_eq!(status, 0, "{load}");
    assert_eq!(String::from_utf8_lossy(&said), "");
    // From its first key frame on the same pictures, over and over.
    let (want, came) = (decoded(&clip, "0:v"), decoded(&got, "0:v"));
    let first = want.iter().position(|hash| *hash == came[0]).expect("a picture of the clip");
    assert!(want.len() == 50 && came.len() > 100, "{} of {}", came.len(), want.len());
    // Where the stream ends in decoding order, the last few are not in the order of display.
    let came = &came[..came.len() - 3];
    let wrong = came.iter().enumerate().position(|(at, hash)| *hash != want[(first + at) % want.len()]);
    assert_eq!(wrong, None);
}

/// The file once more, with all stamps in it.
fn marked(file: &Path, out: &Path) {
    let media = Media::file(file, false).expect("a file");
    let stamp = Stamp { run: u32::MAX, publisher: 7, seq: 1 << 30, planned_ns: u64::MAX, late_us: 1 };
    let mut next = [0; 2];
    let reader = flv::Reader::new(BufReader::new(File::open(file).expect("a file"))).expect("an FLV");
    let mut writer = flv::Writer::new(Vec::new(), reader.header()).expect("memory");
    for tag in reader.map(|tag| tag.expect("a tag")) {
        let kind = Kind::of(tag.type_id).filter(|_| heads::is_coded_frame(tag.type_id, &tag.data));
        let Some(kind) = kind else {
            writer.write(tag.type_id, tag.timestamp, &tag.data).expect("memory");
            continue;
        };
        let frame = media.frame(kind, next[kind as usize]).expect("a frame");
        next[kind as usize] += 1;
        writer.write(tag.type_id, tag.timestamp, &frame.stamped(&stamp)).expect("memory");
    }
    fs::write(out, writer.into_inner()).expect("own folder");
}

#[test]
fn stamps_change_no_picture_and_no_sound() {
    if !installed("ffmpeg") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let clip = clip(dir.path(), H264_AAC);
    let out = dir.path().join("marked.flv");
    marked(&clip, &out);
    assert!(fs::metadata(&out).expect("a file").len() > fs::metadata(&clip).expect("a file").len() + 7000);
    for kind in ["0:v", "0:a"] {
        let want = decoded(&clip, kind);
        assert!(want.len() >= 50);
        assert_eq!(decoded(&out, kind), want, "{kind}");
    }
}

/// The data of each video frame, behind the heads.
fn bodies(file: &Path, kind: heads::Kind) -> Vec<Vec<u8>> {
    let reader = flv::Reader::new(BufReader::new(File::open(file).expect("a file"))).expect("an FLV");
    let video = reader.map(|tag| tag.expect("a tag")).filter(|tag| tag.type_id == 9);
    let of_kind = video.filter(|tag| heads::kind(9, &tag.data) == Some(kind));
    let body = |tag: flv::Tag| {
        let head = heads::Media::video(&tag.data).expect("a head");
        head.tracks().next().expect("a track").expect("its data").data.to_vec()
    };
    of_kind.map(body).collect()
}

/// h265 annex B of an enhanced FLV.
fn annex_b(file: &Path, out: &Path) {
    let mut bytes = Vec::new();
    let mut unit = |unit: &[u8]| bytes.extend([&[0, 0, 0, 1], unit].concat());
    let header = &bodies(file, heads::Kind::Header)[0];
    // iso14496-15 8.3.3.1.2: arrays of units behind 23 bytes.
    let mut at = 23;
    for _ in 0..header[22] {
        let count = u16::from_be_bytes([header[at + 1], header[at + 2]]);
        at += 3;
        for _ in 0..count {
            let len = usize::from(u16::from_be_bytes([header[at], header[at + 1]]));
            unit(&header[at + 2..at + 2 + len]);
            at += 2 + len;
        }
    }
    for body in bodies(file, heads::Kind::Frame) {
        let mut rest = &body[..];
        while let Some((len, tail)) = rest.split_first_chunk::<4>() {
            let (nal, tail) = tail.split_at(u32::from_be_bytes(*len) as usize);
            unit(nal);
            rest = tail;
        }
    }
    fs::write(out, bytes).expect("own folder");
}

#[test]
fn enhanced_hevc_is_stamped_and_opus_told_by_content() {
    let dir = tempfile::tempdir().expect("a folder");
    let flv = dir.path().join("enhanced.flv");
    let capture =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("captures/loc-ertmp-hevc-opus-ffmpeg9-publish.pcapng");
    let status = Command::new(BINARY)
        .arg("inspect")
        .arg(capture)
        .arg("--flv")
        .arg(&flv)
        .stdout(Stdio::null())
        .status()
        .expect("the program runs");
    assert!(status.success());
    let (load, status) = load(&flv, &["--players", "3", "--hold", "4s"]);
    assert_eq!(status, 0, "{load}");
    for what in ["lost", "duplicated", "reordered", "corrupt"] {
        assert_eq!(frames(&load, what), 0, "{what}: {load}");
    }
    assert!(frames(&load, "expected") > 300, "{load}");
    let media = &load["plan"]["media"];
    assert_eq!(
        (&media["video"]["codecs"][0], &media["audio"]["codecs"][0]),
        (&"hvc1".into(), &"Opus".into())
    );
    assert_eq!(media["video"]["stamped"], media["video"]["frames"]);
    assert_eq!(media["audio"]["stamped"], 0);
    if installed("ffmpeg") {
        let out = dir.path().join("marked.flv");
        marked(&flv, &out);
        let streams = [(&flv, "plain.h265"), (&out, "marked.h265")].map(|(file, name)| {
            let path = dir.path().join(name);
            annex_b(file, &path);
            decoded(&path, "0:v")
        });
        assert!(streams[0].len() > 10);
        assert_eq!(streams[0], streams[1]);
    }
}

/// An enhanced FLV of the AV1 in an IVF file.
fn av1_flv(ivf: &[u8], out: &Path) {
    let header = flv::Header { audio: false, video: true };
    let mut writer = flv::Writer::new(Vec::new(), header).expect("memory");
    writer.write(9, 0, &[&[0x90][..], b"av01", &[0x81, 0, 0x0C, 0]].concat()).expect("memory");
    let mut rest = &ivf[32..];
    let mut timestamp = 0;
    while let Some((len, tail)) = rest.split_first_chunk::<4>() {
        let (frame, tail) = tail[8..].split_at(u32::from_le_bytes(*len) as usize);
        // av1-isobmff 2.4: without temporal delimiters.
        let frame = frame.strip_prefix(&[0x12, 0]).unwrap_or(frame);
        let head = if timestamp == 0 { 0x91 } else { 0xA1 };
        writer.write(9, timestamp, &[&[head][..], b"av01", frame].concat()).expect("memory");
        timestamp += 40;
        rest = tail;
    }
    fs::write(out, writer.into_inner()).expect("own folder");
}

#[test]
fn enhanced_av1_is_stamped_and_decodes_as_before() {
    if !installed("ffmpeg") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let [ivf, flv, out] = ["clip.ivf", "clip.flv", "marked.flv"].map(|name| dir.path().join(name));
    let source = ["-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25", "-t", "1", "-pix_fmt", "yuv420p"];
    let codec = ["-c:v", "libsvtav1", "-preset", "12", "-g", "25", ivf.to_str().expect("UTF-8")];
    // This encoder reports about itself without being asked.
    let made = Command::new("ffmpeg").args(["-hide_banner", "-y"]).args(source).args(codec).output();
    if !made.expect("ffmpeg runs").status.success() {
        println!("SKIPPED: this ffmpeg has no AV1 encoder");
        return;
    }
    av1_flv(&fs::read(&ivf).expect("a file"), &flv);
    let (load, status) = load(&flv, &["--players", "2", "--hold", "3s"]);
    assert_eq!((status, frames(&load, "lost"), frames(&load, "corrupt")), (0, 0, 0), "{load}");
    let video = &load["plan"]["media"]["video"];
    assert_eq!((&video["codecs"][0], &video["stamped"]), (&"av01".into(), &video["frames"]));
    marked(&flv, &out);
    let streams = [(&flv, "plain.obu"), (&out, "marked.obu")].map(|(file, name)| {
        let path = dir.path().join(name);
        let frames = bodies(file, heads::Kind::Frame);
        fs::write(&path, frames.iter().flat_map(|f| [&[0x12, 0], &f[..]].concat()).collect::<Vec<u8>>())
            .expect("own folder");
        decoded(&path, "0:v")
    });
    assert!(streams[0].len() >= 20, "{}", streams[0].len());
    assert_eq!(streams[0], streams[1]);
}

#[test]
fn frames_longer_than_a_chunk_come_whole() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("long.flv");
    let mut writer = flv::Writer::new(Vec::new(), flv::Header { audio: true, video: true }).expect("memory");
    writer.write(9, 0, &sample::avc_header()).expect("memory");
    for i in 0..10_u32 {
        let picture = if i == 0 { sample::avc_key(300_000, 0) } else { sample::avc_inter(70_000, i.into()) };
        writer.write(9, i * 100, &picture).expect("memory");
        // Told by its content, which is longer than a chunk too.
        writer.write(8, i * 100, &sample::mp3(61_000, i.into())).expect("memory");
    }
    fs::write(&file, writer.into_inner()).expect("own folder");
    let (load, status) = load(&file, &["--players", "2", "--hold", "3s"]);
    assert_eq!((status, frames(&load, "lost"), frames(&load, "corrupt")), (0, 0, 0), "{load}");
    assert!(frames(&load, "expected") > 80, "{load}");
}

/// A run of media made here, with one player.
fn made(args: &[&str]) -> Value {
    let hold: &[&str] = if args.contains(&"--hold") { &[] } else { &["--hold", "2s"] };
    let args = [&["load", "--ramp", "0s", "--players", "1", "--allow-limited"], hold, args].concat();
    let output = Command::new(BINARY).args(args).args(["-o", "json"]).output().expect("the program runs");
    let record: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(output.status.code(), Some(0), "{record}");
    record["load"].clone()
}

#[test]
fn audio_is_as_much_as_was_asked_for() {
    // 43 frames of audio a second and 30 of video, less what a join misses.
    for (args, per_second, key) in [
        (&["--audio", "none"][..], 20..=30, true),
        (&["--fps", "0", "--audio", "96k"], 30..=44, false),
        (&["--fps", "0"], 30..=44, false),
        (&["--audio", "128k"], 55..=74, true),
    ] {
        let load = made(args);
        let expected = frames(&load, "expected");
        assert!(per_second.contains(&(expected / 2)) && frames(&load, "lost") == 0, "{args:?}: {load}");
        assert_eq!(load["latency"].get("first_keyframe").is_some(), key, "{args:?}");
    }
    assert_eq!(made(&["--audio", "128k"])["plan"]["audio_bps"], 128_000);
    for (args, want) in [
        (&["--fps", "0", "--audio", "none"][..], "nothing to send"),
        (&["--audio", "20k"], "20000 bit/s are too little for audio"),
        (&["--audio", "1M"], "expected none, or bit/s from 10k to 256k"),
        (&["--audio", "64k", "--media", "x.flv"], "cannot be used with"),
    ] {
        let output = Command::new(BINARY).arg("load").args(args).output().expect("the program runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(want), "{args:?}: {said}");
    }
}

#[test]
fn media_made_here_decodes() {
    if !installed("ffmpeg") {
        return;
    }
    let server = Server::start(&[]);
    let dir = tempfile::tempdir().expect("a folder");
    for (name, args, pictures, sound) in [
        ("both", &[][..], true, true),
        ("silent", &["--audio", "none", "--gop", "500ms"], true, false),
        ("loud", &["--audio", "256k", "--bitrate", "3M", "--fps", "60"], true, true),
        ("blind", &["--fps", "0", "--audio", "48k"], false, true),
    ] {
        let got = dir.path().join(format!("{name}.flv"));
        let player = Command::new("ffmpeg")
            .args(["-hide_banner", "-loglevel", "error", "-y", "-i", &format!("{}/{name}-0", server.1)])
            .args(["-c", "copy"])
            .arg(&got)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ffmpeg runs");
        let load = made(&[&[&*format!("{}/{name}", server.1), "--hold", "3s"], args].concat());
        let played = player.wait_with_output().expect("it was started");
        assert_eq!(String::from_utf8_lossy(&played.stderr), "", "{name}");
        // Any complaint of the decoder fails here.
        let of = |kind: &str| decoded(&got, kind).len() as u64;
        if pictures {
            let fps = load["plan"]["fps"].as_u64().expect("a number");
            assert!(of("0:v") > fps * 3 / 2, "{name}: {} pictures", of("0:v"));
        }
        if sound {
            assert!(of("0:a") > 60, "{name}: {} blocks of sound", of("0:a"));
        }
    }
}

#[test]
fn files_that_cannot_be_sent_are_told_before_anything_is() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("wrong.flv");
    for (bytes, want) in [
        (&b"FLV\x01\x05\0\0\0\x09\0\0\0\0\x09\0\0\x20"[..], "flv at byte 14: ends inside the head of a tag"),
        (b"GIF89a", "flv at byte 0: begins with"),
        (b"FLV\x01\x05\0\0\0\x09\0\0\0\0", "no audio or video frame"),
    ] {
        fs::write(&file, bytes).expect("own folder");
        let output = Command::new(BINARY).args(["load", "--media"]).arg(&file).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(want), "{said}");
        assert!(said.contains("wrong.flv"), "{said}");
    }
    let output = Command::new(BINARY).args(["load", "--media", "none.flv"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
}
