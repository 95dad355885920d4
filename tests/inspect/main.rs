//! `inspect` as a user runs it: what it prints, writes and returns.

mod anonymise;
#[path = "../capture_gen/mod.rs"]
mod capture_gen;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use capture_gen::{ACK, Packet, SYN, pcap};
use serde_json::Value;

fn inspect(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rtmp-bench"))
        .arg("inspect")
        .args(args)
        .output()
        .expect("rtmp-bench runs")
}

fn shipped(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("captures").join(name).to_string_lossy().into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A file of these bytes that goes away with the folder.
fn file(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("written");
    path
}

#[test]
fn text_is_a_table_of_sessions() {
    let out = inspect(&[&shipped("loc-rejected-and-aborted.pcapng")]);
    let text = stdout(&out);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    assert!(text.contains("754 packets, 5 TCP connections, 5 RTMP sessions"), "{text}");
    assert!(
        text.contains("\n2 127.0.0.1:32970->127.0.0.1:19399 play rtmp://127.0.0.1:19399/vod/nosuch.flv\n"),
        "{text}"
    );
    assert!(text.contains("onStatus<NetStream.Play.StreamNotFound>"), "{text}");
    assert!(
        text.contains("video: avc 64; 62 frames (3 key), 2 other messages, 0..4066 ms, 73 kbit/s"),
        "{text}"
    );
}

#[test]
fn one_stream_of_several() {
    let out = inspect(&[&shipped("loc-rejected-and-aborted.pcapng"), "--stream", "3"]);
    assert!(stdout(&out).contains("\n3 127.0.0.1:"), "{}", stdout(&out));
    assert!(!stdout(&out).contains("\n2 127.0.0.1:"), "{}", stdout(&out));
    let out = inspect(&[&shipped("loc-rejected-and-aborted.pcapng"), "--stream", "9"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).ends_with("it has no TCP connection 9\n"), "{}", stderr(&out));
}

#[test]
fn json_is_a_record() {
    let out = inspect(&[&shipped("loc-ffmpeg-publish.pcapng"), "-o", "json"]);
    let record: Value = serde_json::from_slice(&out.stdout).expect("JSON alone");
    assert_eq!(
        (&record["schema"], &record["verb"], &record["outcome"]),
        (&"rtmp-bench/record/1".into(), &"inspect".into(), &"clean".into())
    );
    let session = &record["inspect"]["sessions"][0];
    assert_eq!(record["inspect"]["tcp_connections"], 1);
    assert_eq!(session["key"], "127.0.0.1:56882->127.0.0.1:19399");
    assert_eq!(
        (&session["messages"]["c2s"]["8"], &session["messages"]["s2c"]["20"]),
        (&174.into(), &4.into())
    );
    assert_eq!(session["chunk_sizes"]["c2s"], serde_json::json!([4096]));
    assert_eq!(session["media"]["c2s"]["video"]["key_frames"], 3);

    let out = inspect(&[&shipped("loc-snaplen96-ffmpeg-publish.pcap"), "-o", "json"]);
    let record: Value = serde_json::from_slice(&out.stdout).expect("JSON alone");
    let session = &record["inspect"]["sessions"][0];
    assert_eq!(session["sha256"], serde_json::json!({"c2s": null, "s2c": null}));
    assert_eq!(
        session["holes"][0],
        serde_json::json!({"direction": "c2s", "offset": 30, "bytes": 1507, "cause": "snaplen"})
    );

    let out = inspect(&[&shipped("loc-midstream-ffmpeg-publish.pcapng"), "-o", "json"]);
    let record: Value = serde_json::from_slice(&out.stdout).expect("JSON alone");
    assert_eq!(record["inspect"]["sessions"], serde_json::json!([]));
    let what = record["inspect"]["other"][0]["what"].as_str().expect("a name");
    assert!(what.starts_with("starts mid-stream"), "{what}");
}

#[test]
fn text_and_json_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let json = folder.path().join("found.json");
    let out =
        inspect(&[&shipped("loc-ipv6-ffmpeg-publish.pcapng"), "-o", &format!("json:{}", json.display())]);
    assert!(stdout(&out).contains("[::1]:"), "{}", stdout(&out));
    let record: Value = serde_json::from_slice(&std::fs::read(json).expect("written")).expect("JSON");
    assert_eq!(record["inspect"]["sessions"][0]["complete"], true);
}

#[test]
fn messages_are_notation_without_secrets() {
    let capture = shipped("loc-ffmpeg-publish-token.pcapng");
    let text = stdout(&inspect(&[&capture, "--messages"]));
    assert!(
        text.contains(
            "0 > publish(5, null, \"cam2?token=***&expires=***&sign=***\", \"live\") csid=8 ts=0 msid=1\n"
        ),
        "{text}"
    );
    assert!(text.contains("0 < SetChunkSize 4096 csid=2 ts=0 msid=0\n"), "{text}");
    let hex = stdout(&inspect(&[&capture, "--messages", "--hex"]));
    assert!(hex.contains("000000  02 00 07 70 75 62 6c 69 73 68 00"), "publish as bytes: {hex}");
    assert!(hex.contains("74 6f 6b 65 6e 3d ** ** ** 26"), "token= is masked: {hex}");
    let sent = "              ** is masked; as sent these are 86 bytes\n";
    assert!(hex.contains(sent), "{hex}");
    assert!(!hex.contains("s3cr") && !hex.contains("73 33 63 72"), "a secret is shown");
    assert!(stdout(&inspect(&[&capture, "--messages", "--show-secrets"])).contains("token=s3cr%20et"));
    let out = inspect(&[&capture, "--messages", "-o", "json"]);
    assert_eq!((out.status.code(), stdout(&out).as_str()), (Some(2), ""), "messages would spoil the JSON");
}

#[test]
fn bytes_that_only_look_masked_are_shown() {
    use rtmp_bench::wire::chunk::{ChunkWriter, MessageHeader};
    let mut dump = vec![3];
    dump.resize(3073, 0);
    let header = MessageHeader { csid: 3, timestamp: 0, len: 0, type_id: 18, msid: 0 };
    ChunkWriter::default().write(&mut dump, header, b"\x02\0\x03***", None);
    let folder = tempfile::tempdir().expect("a folder");
    let out = inspect(&[&file(&folder, "client.bin", &dump).to_string_lossy(), "--hex"]);
    assert!(stdout(&out).contains("02 00 03 2a 2a 2a"), "{}", stdout(&out));
}

#[test]
fn a_dump_is_a_clients_unless_its_first_command_is_a_servers() {
    use rtmp_bench::wire::chunk::{ChunkWriter, MessageHeader};
    use rtmp_bench::wire::message::Message;
    let folder = tempfile::tempdir().expect("a folder");
    for (name, direction) in [
        ("connect", "c2s"),
        ("createStream", "c2s"),
        ("FCPublish", "c2s"),
        ("_result", "s2c"),
        ("_error", "s2c"),
        ("onBWDone", "s2c"),
    ] {
        let mut dump = vec![3];
        dump.resize(3073, 0);
        let mut payload = Vec::new();
        Message::command(name, 1.0, vec![]).encode(&mut payload);
        let header = MessageHeader { csid: 3, timestamp: 0, len: 0, type_id: 20, msid: 0 };
        ChunkWriter::default().write(&mut dump, header, &payload, None);
        let out = inspect(&[&file(&folder, "a.bin", &dump).to_string_lossy(), "-o", "json"]);
        let record: Value = serde_json::from_slice(&out.stdout).expect("JSON");
        let commands = &record["inspect"]["sessions"][0]["commands"][direction];
        assert_eq!(commands, &serde_json::json!([name]), "{name}");
    }
}

#[test]
fn departures_are_notes_with_clauses_and_strict_finds_them() {
    // Behind the handshake a Set Chunk Size in a type 1 chunk, first of its chunk stream and away from chunk stream 2.
    let mut client = vec![3];
    client.extend([0; 3072]);
    client.extend([0x45, 0, 0, 0, 0, 0, 4, 1, 0, 0, 16, 0]);
    let capture = pcap(&[Packet::new(0, 99, SYN, &[]), Packet::new(0, 100, ACK, &client)]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(&folder, "departs.pcap", &capture);
    let out = inspect(&[&path.to_string_lossy(), "-o", "json"]);
    assert_eq!(out.status.code(), Some(0), "without --strict nothing is found");
    let record: Value = serde_json::from_slice(&out.stdout).expect("JSON alone");
    let notes = record["inspect"]["sessions"][0]["notes"].as_array().expect("notes");
    let fresh = notes.iter().find(|n| n["note"] == "fresh-csid-fmt").expect("the note");
    assert_eq!(
        (&fresh["clause"], &fresh["direction"], &fresh["offset"]),
        (&"rtmp/5.3.1.2.1/3".into(), &"c2s".into(), &3073.into())
    );
    assert_eq!((&fresh["level"], &fresh["time_us"]), (&"MUST".into(), &1000.into()));
    assert!(notes.iter().any(|n| n["note"] == "control-place"), "{notes:?}");
    let out = inspect(&[&path.to_string_lossy(), "--strict"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(
        stdout(&out).contains("note: c2s at 3073 fresh-csid-fmt [rtmp/5.3.1.2.1/3 MUST]:"),
        "{}",
        stdout(&out)
    );
}

#[test]
fn handshakes_are_linted() {
    // nginx-rtmp answers an unsigned C1 with its copy.
    let copied = shipped("loc-gst-rtmp2src-play.pcapng");
    let out = inspect(&[&copied, "--strict", "--messages"]);
    assert_eq!(out.status.code(), Some(1));
    let text = stdout(&out);
    assert!(text.contains("  note: s2c at 1 s1-copy [rtmp/5.2.3/2 SHOULD]: "), "{text}");
    assert!(text.contains("0 < # note s1-copy csid=0 value=0xe29a5 at 1 (rtmp/5.2.3/2)\n"), "{text}");
    // A signed handshake, whose C2 and S2 repeat nothing.
    let mut all = with_aggregates();
    let sums = |packets: &[Packet]| {
        let folder = tempfile::tempdir().expect("a folder");
        let path = file(&folder, "signed.pcap", &pcap(packets));
        let out = inspect(&[&path.to_string_lossy(), "-o", "json"]);
        let record: Value = serde_json::from_slice(&out.stdout).expect("JSON");
        let notes = record["inspect"]["sessions"][0]["notes"].as_array().cloned().unwrap_or_default();
        notes
            .iter()
            .map(|n| format!("{} {}", n["note"].as_str().unwrap_or_default(), n["clause"]))
            .collect::<Vec<_>>()
    };
    let chunk = r#"fresh-csid-fmt "rtmp/5.3.1.2.1/3""#;
    let id = r#"stream-command-id "rtmp/7.2.2/11""#;
    let early = r#"c2-early "rtmp/5.2.1/6""#;
    assert_eq!(sums(&all), [chunk, id, early], "the client's packets stand before all of the server's");
    // One bit of C1, in its digest or in what the digest is over: neither C1 nor the answer to it is signed then.
    all[2].payload[9] ^= 1;
    assert_eq!(sums(&all), [chunk, id, r#"c1-word "rtmp/5.2.3/5""#, early, r#"s2-echo "rtmp/5.2.4/2""#]);
}

#[test]
fn strict_finds_notes_holes_and_damage_and_nothing_else() {
    let status = |args: &[&str]| inspect(args).status.code();
    let cut = shipped("loc-snaplen96-ffmpeg-publish.pcap");
    assert_eq!((status(&[&cut]), status(&[&cut, "--strict"])), (Some(0), Some(1)));
    let good = shipped("loc-rtmpdump-live-play-server.bin");
    assert_eq!(status(&[&good, "--strict"]), Some(0), "{}", stdout(&inspect(&[&good])));
    // FFmpeg numbers its publish and deleteStream, which the text has as 0.
    let departs = shipped("loc-ffmpeg-publish.pcapng");
    assert_eq!((status(&[&departs]), status(&[&departs, "--strict"])), (Some(0), Some(1)));
    let note = "  note: c2s at 3353 stream-command-id [rtmp/7.2.2/11 implied]: a stream's command whose transaction id is not 0 \
                (value: it) (value 5, 2 times, first at 0.179045 s)\n";
    assert!(stdout(&inspect(&[&departs])).contains(note), "{}", stdout(&inspect(&[&departs])));
    let folder = tempfile::tempdir().expect("a folder");
    let whole = std::fs::read(shipped("loc-rtmpe-attempt-rtmpdump.pcapng")).expect("a capture");
    let damaged = file(&folder, "damaged.pcapng", &whole[..whole.len() - 1]);
    let damaged = damaged.to_string_lossy();
    assert_eq!((status(&[&damaged]), status(&[&damaged, "--strict"])), (Some(0), Some(1)));
    assert!(stdout(&inspect(&[&damaged])).contains("the file is damaged at byte "));
}

#[test]
fn what_cannot_be_read_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let nothing = folder.path().join("nothing");
    let text = file(&folder, "text", b"hello");
    for (path, says) in [
        (&nothing, "No such file"),
        (&text, "not a capture: begins with 68 65 6c 6c 6f; expected pcap, pcapng"),
        (&file(&folder, "head", b"\xd4\xc3\xb2\xa1"), "at byte 0: the pcap header is cut"),
        (
            &file(&folder, "packed", b"\x1f\x8b"),
            "at byte 0: gzip is cut or damaged: unexpected end of file; expected a capture",
        ),
    ] {
        let out = inspect(&[&path.to_string_lossy()]);
        assert_eq!((out.status.code(), out.stdout.len()), (Some(2), 0));
        assert!(stderr(&out).contains(says), "{}", stderr(&out));
        assert!(stderr(&out).contains(&*path.to_string_lossy()), "{}", stderr(&out));
    }
}

#[test]
fn flv_has_every_frame() {
    let folder = tempfile::tempdir().expect("a folder");
    let [_, server] = raw_dumps();
    let aggregated = file(&folder, "aggregates.bin", &aggregated(&server)).to_string_lossy().into_owned();
    for (capture, frames) in [
        (&shipped("loc-ffmpeg-publish.pcapng"), [173, 62]),
        (&shipped("loc-legacy-sorenson-speex-publish.pcap"), [150, 30]),
        (&shipped("loc-rtmpdump-live-play-server.bin"), [142, 90]),
        (&aggregated, [142, 90]),
    ] {
        let path = folder.path().join("out.flv");
        let out = inspect(&[capture, "--flv", &path.to_string_lossy()]);
        assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
        let bytes = std::fs::read(&path).expect("written");
        assert_eq!(&bytes[..9], b"FLV\x01\x05\0\0\0\x09", "{capture}");
        let mut reader = rtmp_bench::wire::flv::Reader::new(&bytes[..]).expect("an FLV file");
        let mut seen = [0, 0];
        while let Some(tag) = reader.next().transpose().expect("a tag") {
            if rtmp_bench::wire::media::is_coded_frame(tag.type_id, &tag.data) {
                seen[usize::from(tag.type_id == 9)] += 1;
            }
        }
        assert_eq!(seen, frames, "{capture}");
    }
    let mut decoded = 0;
    for entry in std::fs::read_dir(shipped("")).expect("captures/") {
        let capture = entry.expect("an entry").path().to_string_lossy().into_owned();
        let path = folder.path().join("any.flv");
        // FFmpeg before 6.1 reads no codecs by FourCC.
        let written = inspect(&[&capture, "--flv", &path.to_string_lossy()]).status.code() == Some(0);
        if written && !capture.contains("ertmp") {
            ffmpeg_decodes(&path);
            decoded += 1;
        }
    }
    assert!(decoded >= 17, "{decoded}");
    let path = folder.path().join("none.flv");
    let out = inspect(&[&shipped("loc-rtmpe-attempt-rtmpdump.pcapng"), "--flv", &path.to_string_lossy()]);
    assert_eq!((out.status.code(), path.exists()), (Some(2), false), "no media, no file");
}

/// Where FFmpeg is there, it decodes the file without an error.
fn ffmpeg_decodes(path: &Path) {
    let Ok(out) = Command::new("ffmpeg")
        .args(["-v", "error", "-xerror", "-i"])
        .arg(path)
        .args(["-f", "null", "-"])
        .output()
    else {
        #[allow(clippy::print_stdout)]
        {
            println!("SKIPPED: ffmpeg is not installed");
        }
        return;
    };
    assert!(out.status.success(), "{}: {}", path.display(), stderr(&out));
}

/// The two raw dumps of one session: client's and server's.
fn raw_dumps() -> [Vec<u8>; 2] {
    ["client", "server"]
        .map(|side| std::fs::read(shipped(&format!("loc-rtmpdump-live-play-{side}.bin"))).expect("a dump"))
}

/// The same messages of a direction, audio and video in aggregates of ten.
fn aggregated(dump: &[u8]) -> Vec<u8> {
    use rtmp_bench::wire::chunk::{ChunkReader, ChunkWriter, Limits, MessageHeader, Quirks, ReadEvent};
    use rtmp_bench::wire::message::{Message, SubMessage, type_id};
    let (handshake, mut rest) = dump.split_at(3073);
    let mut reader = ChunkReader::new(Limits::default(), Quirks::default(), 0);
    let mut all = Vec::new();
    while let Some(event) = reader.read(&mut rest).expect("chunks") {
        if let ReadEvent::Message(header, payload) = event {
            all.push((header, payload.to_vec()));
        }
    }
    let is_media =
        |(header, _): &(MessageHeader, _)| matches!(header.type_id, type_id::AUDIO | type_id::VIDEO);
    let (mut out, mut writer) = (handshake.to_vec(), ChunkWriter::default());
    for run in all.chunk_by(|a, b| is_media(a) && is_media(b)).flat_map(|run| run.chunks(10)) {
        let (mut header, mut payload) = run[0].clone();
        if is_media(&run[0]) {
            let part = |(header, payload): &(MessageHeader, Vec<u8>)| {
                let (back_pointer, payload) = (11 + payload.len() as u32, payload.clone().into());
                SubMessage {
                    type_id: header.type_id,
                    timestamp: header.timestamp,
                    msid: 0,
                    payload,
                    back_pointer,
                }
            };
            (header.type_id, payload) = (type_id::AGGREGATE, Vec::new());
            Message::Aggregate(run.iter().map(part).collect()).encode(&mut payload);
        }
        writer.write(&mut out, header, &payload, None);
    }
    out
}

/// A session with aggregate messages, as packets.
fn with_aggregates() -> Vec<Packet> {
    let [client, server] = raw_dumps();
    let mut all =
        vec![Packet::new(0, 99, SYN, &[]), Packet { ack: 100, ..Packet::new(1, 499, SYN | ACK, &[]) }];
    for (side, bytes, mut seq) in [(0, client, 100u32), (1, aggregated(&server), 500)] {
        for piece in bytes.chunks(1400) {
            all.push(Packet::new(side, seq, ACK, piece));
            seq += piece.len() as u32;
        }
    }
    all
}

#[test]
fn what_tcp_repeats_with_other_bytes_is_noted() {
    let mut hello = vec![3];
    hello.resize(1537, 7);
    let all =
        [Packet::new(0, 99, SYN, &[]), Packet::new(0, 100, ACK, &hello), Packet::new(0, 600, ACK, b"other")];
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(&folder, "conflict.pcap", &pcap(&all));
    let out = inspect(&[&path.to_string_lossy(), "--strict"]);
    let text = stdout(&out);
    assert_eq!(out.status.code(), Some(1));
    assert!(text.contains("note: c2s at 500 tcp-conflict: bytes that came again differ"), "{text}");
    assert!(text.contains("c1-word"), "{text}");
}

#[test]
fn the_clients_side_becomes_a_scenario() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("recorded.scn").to_string_lossy().into_owned();
    let mut written = 0;
    for entry in std::fs::read_dir(shipped("")).expect("captures/") {
        let capture = entry.expect("an entry").path().to_string_lossy().into_owned();
        if inspect(&[&capture, "--scn", &path]).status.code() != Some(0) {
            continue;
        }
        written += 1;
        let checked = Command::new(env!("CARGO_BIN_EXE_rtmp-bench"))
            .args(["check", &path])
            .output()
            .expect("rtmp-bench runs");
        assert_eq!(checked.status.code(), Some(0), "{capture}: {}", stderr(&checked));
        let text = std::fs::read_to_string(&path).expect("written");
        assert!(text.contains("app: \"{app}\"") && !text.contains("127.0.0.1:19399/"), "{capture}: {text}");
        assert!(!text.contains("s3cr"), "{capture}: a secret is shown");
    }
    assert!(written >= 18, "{written} scenarios");

    inspect(&[&shipped("loc-gst-rtmp2sink-publish.pcap"), "--scn", &path]);
    let text = std::fs::read_to_string(&path).expect("written");
    for line in [
        "reach handshaken",
        "< _result(1, ...)",
        "> createStream(2, null) csid=3 ts=0 msid=0",
        "< _result(2, _, $stream1)",
        "> publish(0, null, \"{name}\", \"live\") csid=3 ts=0 msid=$stream1",
        "< onStatus(_, _, {code: \"NetStream.Publish.Start\", ...}, ...)",
        "> deleteStream(0, null, \"{name}\") csid=3 ts=0 msid=0",
        "alive",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\nis not in\n{text}");
    }
    let of = |prefix: &str| text.lines().filter(|l| l.starts_with(prefix)).count();
    let json = inspect(&[&shipped("loc-gst-rtmp2sink-publish.pcap"), "-o", "json"]);
    let record: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    let sent = &record["inspect"]["sessions"][0]["messages"]["c2s"];
    assert_eq!(
        (Some(of("> audio") as u64), Some(of("> video") as u64)),
        (sent["8"].as_u64(), sent["9"].as_u64())
    );
    // FFmpeg deletes its stream by number.
    inspect(&[&shipped("loc-ffmpeg-publish.pcapng"), "--scn", &path]);
    let text = std::fs::read_to_string(&path).expect("written");
    assert!(
        text.lines().any(|l| l.starts_with("> deleteStream(") && l.contains(", null, $stream1)")),
        "{text}"
    );
    let none = folder.path().join("none.scn");
    let out = inspect(&[&shipped("loc-snaplen96-ffmpeg-publish.pcap"), "--scn", &none.to_string_lossy()]);
    assert_eq!((out.status.code(), none.exists()), (Some(2), false), "no client connects");
}

#[test]
fn such_a_scenario_passes_on_the_reference_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let scenario = |capture: &str| {
        let path = folder.path().join(format!("{capture}.scn")).to_string_lossy().into_owned();
        let out = inspect(&[&shipped(capture), "--scn", &path]);
        assert_eq!(out.status.code(), Some(0), "{capture}: {}", stderr(&out));
        path
    };
    let test = |paths: &[String]| {
        let out = Command::new(env!("CARGO_BIN_EXE_rtmp-bench"))
            .arg("test")
            .args(paths.iter().flat_map(|path| ["-s", path]))
            .output()
            .expect("rtmp-bench runs");
        (out.status.code(), stdout(&out))
    };
    let passing = [
        "loc-ffmpeg-publish.pcapng",
        "loc-ffmpeg-publish-token.pcapng",
        "loc-exttimestamp-chunk128-ffmpeg-publish.pcapng",
        "loc-ertmp-hevc-opus-ffmpeg9-publish.pcapng",
        "loc-gst-rtmp2sink-publish.pcap",
        "loc-gst-rtmpsink-librtmp-publish.pcapng",
        "loc-legacy-sorenson-speex-publish.pcap",
        "loc-gst-rtmp2src-play.pcapng",
        "loc-rtmpdump-live-play-client.bin",
    ];
    let (status, text) = test(&passing.map(scenario));
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("9 pass"), "{text}");
    // rtmp 7.2.2.1: this one plays with start 0, a recorded stream alone, which the reference server has not.
    let (status, text) = test(&[scenario("loc-rtmpdump-play-chunk128.pcap")]);
    assert!(status == Some(1) && text.contains("1 blocked"), "{text}");
}

#[test]
fn what_a_client_says_has_no_secrets_unless_asked_for() {
    use rtmp_bench::wire::amf0::Value as Amf;
    use rtmp_bench::wire::chunk::{ChunkWriter, MessageHeader};
    use rtmp_bench::wire::message::Message;
    let object = Amf::object([
        ("app", "live".into()),
        ("authToken", "hush-hush".into()),
        ("pageUrl", "http://host/?sid=whisper".into()),
    ]);
    let mut dump = vec![3];
    dump.resize(3073, 0);
    let header = MessageHeader { csid: 3, timestamp: 0, len: 0, type_id: 20, msid: 0 };
    let mut writer = ChunkWriter::default();
    let mut say = |message: Message| {
        let mut payload = Vec::new();
        message.encode(&mut payload);
        writer.write(&mut dump, header, &payload, None);
    };
    say(Message::command("connect", 1.0, vec![object, "murmur".into()]));
    say(Message::command("custom_login", 2.0, vec![Amf::Null, "mutter".into()]));
    say(Message::command("note", 3.0, vec![Amf::Null, "as whisper, password=mumble".into()]));
    let folder = tempfile::tempdir().expect("a folder");
    let capture = file(&folder, "client.bin", &dump).to_string_lossy().into_owned();
    let scn = folder.path().join("client.scn").to_string_lossy().into_owned();
    for (more, shown) in [(&[][..], false), (&["--show-secrets"], true)] {
        let out = inspect(&[&[&capture[..], "--scn", &scn], more].concat());
        assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
        let text = std::fs::read_to_string(&scn).expect("written");
        let hex = stdout(&inspect(&[&[&capture[..], "--messages", "--hex"], more].concat()));
        for secret in ["hush-hush", "whisper", "murmur", "mutter", "mumble"] {
            assert_eq!(text.contains(secret), shown, "{secret}: {text}");
            // Lines of bytes end after 16.
            assert_eq!(hex.lines().any(|line| line.contains(secret)), shown, "{secret}: {hex}");
        }
        assert!(hex.contains("custom_login(2, null, ") && hex.contains("app: \"live\""), "{hex}");
    }
}

#[test]
fn metadata_written_as_flv_has_no_secrets_unless_asked_for() {
    use rtmp_bench::wire::amf0::Value as Amf;
    use rtmp_bench::wire::chunk::{ChunkWriter, MessageHeader};
    use rtmp_bench::wire::message::Message;
    let mut dump = vec![3];
    dump.resize(3073, 0);
    let mut writer = ChunkWriter::default();
    let mut say = |message: Message| {
        let mut payload = Vec::new();
        message.encode(&mut payload);
        let header = MessageHeader { csid: 3, timestamp: 0, len: 0, type_id: message.type_id(), msid: 1 };
        writer.write(&mut dump, header, &payload, None);
    };
    let metadata = Amf::object([
        ("width", 640.0.into()),
        ("encoder", "Lavf".into()),
        ("streamKey", "hush-hush".into()),
        ("title", "whisper, live".into()),
    ]);
    say(Message::command("publish", 5.0, vec![Amf::Null, "cam?sid=whisper".into(), "live".into()]));
    say(Message::Data(
        rtmp_bench::wire::message::Encoding::Amf0,
        vec!["@setDataFrame".into(), "onMetaData".into(), metadata],
    ));
    say(Message::Video(vec![0x17, 1, 0, 0, 0, 9].into()));
    let folder = tempfile::tempdir().expect("a folder");
    let capture = file(&folder, "client.bin", &dump).to_string_lossy().into_owned();
    let path = folder.path().join("out.flv");
    let flv = |more: &[&str]| {
        let out = inspect(&[&[&capture[..], "--flv", &path.to_string_lossy()], more].concat());
        assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
        String::from_utf8_lossy(&std::fs::read(&path).expect("written")).into_owned()
    };
    let (masked, shown) = (flv(&[]), flv(&["--show-secrets"]));
    assert!(shown.contains("hush-hush") && shown.contains("whisper, live"), "{shown}");
    assert_eq!(masked, shown.replace("hush-hush", "*********").replace("whisper", "*******"));
}

#[test]
fn stdout_is_no_file() {
    let capture = shipped("loc-ffmpeg-publish.pcapng");
    let folder = tempfile::tempdir().expect("a folder");
    for flag in ["--flv", "--scn", "--anonymise", "-o"] {
        let file = if flag == "-o" { "json:-" } else { "-" };
        let out = Command::new(env!("CARGO_BIN_EXE_rtmp-bench"))
            .args(["inspect", &capture, flag, file])
            .current_dir(&folder)
            .output()
            .expect("rtmp-bench runs");
        let (said, status) = (stderr(&out), out.status.code());
        assert!(
            status == Some(2) && said.contains("stdout is for the result; expected a file"),
            "{flag}: {said}"
        );
        assert!(!folder.path().join("-").exists(), "{flag} wrote it");
    }
}
