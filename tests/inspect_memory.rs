//! How much memory `inspect` takes for sessions that ended: next to none each, however many there are. Alone in its process: the most that any
//! child of it took is what the system tells.

mod capture_gen;

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Seek, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use capture_gen::{ACK, FIN, Packet, SYN};
use nix::sys::resource::{UsageWho, getrusage};
use rtmp_bench::capture::stream::MAX_ONE_SIDED;
use rtmp_bench::wire::amf0::Value;
use rtmp_bench::wire::chunk::{ChunkWriter, MessageHeader};
use rtmp_bench::wire::message::Message;

/// What sessions that ended, or one that is long, may take in memory, in KiB.
const ROOM: i64 = 8 << 10;

#[test]
fn sessions_that_ended_take_no_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let file_of = |sessions: u32, packets: &[Packet]| {
        let path = folder.path().join(format!("{sessions}-{}.pcap", packets.len()));
        write(&path, sessions, packets).expect("written");
        path
    };
    let file = |sessions: u32| file_of(sessions, &session());
    // As many as are kept a while for what may still come of them.
    let shared = folder.path().join("shared.pcap").to_string_lossy().into_owned();
    let anonymise = ["--anonymise", &shared];
    inspect(&file(600), &anonymise, folder.path());
    let base = peak();
    let many = file(8_000);
    for args in [&[][..], &["-o", "json"], &anonymise] {
        let (_, result) = inspect(&many, args, folder.path());
        let more = peak() - base;
        assert!(more < ROOM, "{args:?}: {more} KiB more");
        let lines = BufReader::new(result).lines().map(|line| line.expect("a line"));
        assert_eq!(
            lines.filter(|line| line.contains("->10.")).count(),
            8_000,
            "each session is in the result"
        );
    }
    let (out, result) = inspect(&many, &[], &folder.path().join("none"));
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(said.contains("a temporary file in") && result.metadata().is_ok_and(|m| m.len() == 0), "{said}");
    // Of these the other side may stand behind in the file: more are kept, but not all.
    let mut one_sided = session();
    one_sided.retain(|packet| packet.side == 0);
    inspect(&file_of(MAX_ONE_SIDED as u32, &one_sided), &[], folder.path());
    let base = peak();
    let (_, result) = inspect(&file_of(8_000, &one_sided), &[], folder.path());
    assert!(peak() - base < ROOM, "one-sided: {} KiB more", peak() - base);
    let lines = BufReader::new(result).lines().map(|line| line.expect("a line"));
    assert_eq!(lines.filter(|line| line.contains("->10.")).count(), 8_000);
    // One connection of many chunks, each of a byte: of every one the header is kept.
    let base = peak();
    inspect(&file_of(1, &empty_messages(3_000_000)), &anonymise, folder.path());
    assert!(peak() - base < ROOM, "many chunks: {} KiB more", peak() - base);
}

/// A session that goes on with so many messages of no bytes.
fn empty_messages(count: usize) -> Vec<Packet> {
    const SIZE: usize = 60_000;
    let mut packets = session();
    packets.truncate(4);
    let last = &packets[2];
    let start = last.seq + last.payload.len() as u32;
    let mut bytes = vec![5, 0, 0, 0, 0, 0, 0, 8, 1, 0, 0, 0];
    bytes.resize(count, 0xc5);
    let segments = bytes.chunks(SIZE).enumerate();
    packets.extend(segments.map(|(n, part)| Packet::new(0, start + (n * SIZE) as u32, ACK, part)));
    packets
}

/// The result in a file: what this process takes would count as the next child's.
fn inspect(path: &Path, args: &[&str], temporary: &Path) -> (Output, File) {
    let mut result = tempfile::tempfile().expect("a file");
    let out = Command::new(env!("CARGO_BIN_EXE_rtmp-bench"))
        .arg("inspect")
        .arg(path)
        .args(args)
        .env("TMPDIR", temporary)
        .stdin(Stdio::null())
        .stdout(result.try_clone().expect("the same file"))
        .stderr(Stdio::piped())
        .output()
        .expect("rtmp-bench runs");
    result.rewind().expect("a file");
    (out, result)
}

/// The most that a child took so far, in KiB.
fn peak() -> i64 {
    getrusage(UsageWho::RUSAGE_CHILDREN).expect("the system tells").max_rss()
}

/// A capture of short publishes, one after another, each from an address of its own.
fn write(path: &Path, sessions: u32, packets: &[Packet]) -> std::io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    out.write_all(&capture_gen::pcap(&[]))?;
    for n in 0..sessions {
        for packet in packets {
            let mut frame = packet.ipv4();
            let client = if packet.side == 0 { 12..16 } else { 16..20 };
            frame[client].copy_from_slice(&(0x0b00_0000 + n).to_be_bytes());
            for word in [1_700_000_000 + n, 0, frame.len() as u32, frame.len() as u32] {
                out.write_all(&word.to_le_bytes())?;
            }
            out.write_all(&frame)?;
        }
    }
    out.flush()
}

fn session() -> Vec<Packet> {
    let info = Value::object([("code", "NetStream.Publish.Start".into())]);
    let sides = [
        vec![
            Message::command("connect", 1.0, vec![Value::object([("tcUrl", "rtmp://server/live".into())])]),
            Message::SetChunkSize(4096),
            Message::command("releaseStream", 2.0, vec![Value::Null, "name".into()]),
            Message::command("FCPublish", 3.0, vec![Value::Null, "name".into()]),
            Message::command("createStream", 4.0, vec![Value::Null]),
            Message::command("publish", 5.0, vec![Value::Null, "name".into(), "live".into()]),
            Message::Video(vec![0x17, 1, 0, 0, 0, 0, 0, 0, 1, 9].into()),
            Message::Audio(vec![0xaf, 1, 0x21].into()),
        ],
        vec![
            Message::WindowAckSize(2_500_000),
            Message::command("_result", 1.0, vec![Value::Null, Value::Null]),
            Message::command("_result", 4.0, vec![Value::Null, Value::Number(1.0)]),
            Message::command("onStatus", 0.0, vec![Value::Null, info]),
        ],
    ];
    let bytes = sides.map(|messages| {
        let (mut out, mut writer) = (vec![3; 1], ChunkWriter::default());
        out.extend([0; 3072]);
        for message in messages {
            let mut payload = Vec::new();
            message.encode(&mut payload);
            let header = MessageHeader { csid: 3, timestamp: 0, len: 0, type_id: message.type_id(), msid: 0 };
            writer.write(&mut out, header, &payload, None);
        }
        out
    });
    let mut packets = vec![Packet::new(0, 99, SYN, &[]), Packet::new(1, 499, SYN | ACK, &[])];
    for (side, seq) in [(0, 100), (1, 500)] {
        packets.push(Packet::new(side, seq, ACK, &bytes[side]));
    }
    for (side, seq) in [(0, 100), (1, 500)] {
        packets.push(Packet::new(side, seq + bytes[side].len() as u32, FIN | ACK, &[]));
    }
    packets
}
