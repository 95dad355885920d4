//! Generated captures through file reader, unwrapper and reassembly, against a naive byte map and, where it is there, tshark.

mod capture_gen;

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::process::Command;

use capture_gen::{ACK, Case, Packet, RST, SYN, case, pcap};
use rtmp_bench::capture::frame::Unwrapper;
use rtmp_bench::capture::pcap::{Reader, Source, source};
use rtmp_bench::capture::stream::{Connection, Direction, Handler, Hole, Streams};
use rtmp_bench::wire::time::Time;

/// Keeps all that the streams hand on.
#[derive(Default)]
struct Keep {
    ended: Vec<(Connection, Kept)>,
    /// Bytes handed on, over all connections.
    handed: u64,
}

#[derive(Default)]
struct Kept {
    /// Without the holes.
    bytes: [Vec<u8>; 2],
    next: [u64; 2],
    holes: Vec<Hole>,
    /// How many bytes came with which time.
    times: [Vec<(Time, usize)>; 2],
}

impl Handler for Keep {
    type State = Kept;

    fn data(
        &mut self,
        kept: &mut Kept,
        _: &Connection,
        direction: Direction,
        time: Time,
        offset: u64,
        bytes: &[u8],
    ) {
        let d = direction as usize;
        self.handed += bytes.len() as u64;
        assert!(time.as_micros() >= 1_700_000_000_000_000, "bytes without a time");
        assert_eq!(offset, kept.next[d], "not in order");
        kept.next[d] += bytes.len() as u64;
        kept.bytes[d].extend_from_slice(bytes);
        kept.times[d].push((time, bytes.len()));
    }

    fn hole(&mut self, kept: &mut Kept, _: &Connection, _: Time, hole: Hole) {
        let d = hole.direction as usize;
        assert_eq!(hole.offset, kept.next[d], "a hole that is not where the bytes end");
        kept.next[d] += hole.bytes;
        kept.holes.push(hole);
    }

    fn end(&mut self, kept: Kept, connection: Connection) {
        self.ended.push((connection, kept));
    }
}

fn packets(bytes: Vec<u8>) -> Reader {
    match source(Box::new(Cursor::new(bytes))) {
        Ok(Source::Packets(reader)) => reader,
        Ok(Source::Raw(_)) => panic!("taken for a raw dump"),
        Err(e) => panic!("{e}"),
    }
}

fn reassemble(capture: Vec<u8>) -> Vec<(Connection, Kept)> {
    let mut streams = feed(capture);
    streams.finish_all();
    streams.handler.ended
}

/// All packets taken, no connection ended by the end of the file yet.
fn feed(capture: Vec<u8>) -> Streams<Keep> {
    let mut reader = packets(capture);
    let mut unwrapper = Unwrapper::default();
    let mut streams = Streams::new(Keep::default());
    while let Some(packet) = reader.packet().expect("a whole file") {
        if let Some(segment) = unwrapper.segment(packet) {
            streams.segment(&segment);
        }
    }
    streams
}

/// How many seeds: `RTMP_BENCH_CASES`, or a thousand.
fn cases() -> u64 {
    std::env::var("RTMP_BENCH_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(1000)
}

/// Where a byte map has no bytes, before its last one.
fn gaps(map: &BTreeMap<u64, u8>) -> Vec<(u64, u64)> {
    let mut next = 0;
    let mut gaps = Vec::new();
    for place in map.keys() {
        gaps.extend((*place > next).then(|| (next, place - next)));
        next = place + 1;
    }
    gaps
}

#[test]
fn generated_captures_equal_a_byte_map() {
    let (mut with_holes, mut with_conflicts) = (0, 0);
    for seed in 0..cases() {
        let case = case(seed);
        let ended = reassemble(pcap(&case.packets));
        assert_eq!(ended.len(), 1, "seed {seed}: connections");
        let (connection, kept) = &ended[0];
        // Without SYN the client is whoever spoke first.
        let client = usize::from(connection.client.port() == 1935);
        if case.syn {
            assert_eq!(client, 0, "seed {seed}: who is the client");
        }
        for d in 0..2 {
            let want = &case.bytes[d ^ client];
            let direction = Direction::BOTH[d];
            assert!(want.values().eq(&kept.bytes[d]), "seed {seed}, {direction}: other bytes");
            // Each packet is a millisecond behind the one before it.
            let at = |packet: &usize| Time::from_micros(1_700_000_000_000_000 + *packet as u64 * 1000);
            let times = kept.times[d].iter().flat_map(|(time, n)| std::iter::repeat_n(*time, *n));
            assert!(
                times.eq(case.brought[d ^ client].iter().map(at)),
                "seed {seed}, {direction}: other times"
            );
            let holes = kept.holes.iter().filter(|h| h.direction == direction).map(|h| (h.offset, h.bytes));
            // Behind the last byte that came, FIN or an acknowledgement may show another hole.
            let holes: Vec<_> =
                holes.filter(|h| want.keys().next_back().is_some_and(|last| h.0 < *last)).collect();
            assert_eq!(holes, gaps(want), "seed {seed}, {direction}: holes");
        }
        with_holes += u64::from(!kept.holes.is_empty());
        with_conflicts += u64::from(connection.conflicts > 0);
        assert!(case.conflicts || connection.conflicts == 0, "seed {seed}: a conflict where there is none");
    }
    assert!(with_holes > cases() / 10, "the generator makes captures with holes");
    assert!(with_conflicts > cases() / 50, "conflicts are made and seen");
}

/// Both directions of each connection of a capture as tshark follows them: by stream, the first packet's sender first.
fn followed(capture: &[u8], streams: usize) -> BTreeMap<usize, [Vec<u8>; 2]> {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(capture).expect("written");
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(file.path()).arg("-q");
    for n in 0..streams {
        tshark.arg("-z").arg(format!("follow,tcp,raw,{n}"));
    }
    let out = tshark.output().expect("tshark");
    let text = String::from_utf8(out.stdout).expect("hex");
    let (mut all, mut stream) = (BTreeMap::new(), 0);
    for line in text.lines().filter(|line| !line.is_empty()) {
        let hex = line.trim();
        if let Some(n) = line.strip_prefix("Filter: tcp.stream eq ") {
            stream = n.parse().expect("a number");
            all.insert(stream, [vec![], vec![]]);
        } else if hex.bytes().all(|c| c.is_ascii_hexdigit()) {
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
            all.get_mut(&stream).expect("a stream")[usize::from(line.starts_with('\t'))]
                .extend((0..hex.len()).step_by(2).map(byte));
        }
    }
    all
}

/// A byte map as tshark prints a stream, and which of these bytes came with other values too.
fn as_followed(case: &Case, side: usize) -> (Vec<u8>, Vec<bool>) {
    let (mut bytes, mut contested, mut next) = (vec![], vec![], 0);
    for (place, byte) in &case.bytes[side] {
        if *place > next {
            bytes.extend(format!("[{} bytes missing in capture file]\0", place - next).bytes());
        }
        contested.resize(bytes.len(), false);
        contested.push(case.contested[side].contains(place));
        bytes.push(*byte);
        next = place + 1;
    }
    (bytes, contested)
}

/// So many generated connections to a file, told apart by the client's port: tshark takes its time to start.
const TOGETHER: usize = 50;

fn together(cases: &[Case]) -> Vec<u8> {
    let mut frames = Vec::new();
    for (case, port) in cases.iter().zip(40_000u16..) {
        for p in &case.packets {
            let mut ip = p.ipv4();
            let place = if p.side == 0 { 20 } else { 22 };
            ip[place..place + 2].copy_from_slice(&port.to_be_bytes());
            frames.push(ip);
        }
    }
    capture_gen::pcap_frames(101, frames.iter().map(|f| (&f[..], f.len())))
}

#[test]
fn tshark_follows_the_same_streams() {
    if Command::new("tshark").arg("--version").output().is_err() {
        #[allow(clippy::print_stdout)]
        {
            println!("skipped: tshark is not installed");
        }
        return;
    }
    let (mut equal, mut other_copy, mut later_start, mut with_holes) = (0, 0, 0, 0);
    for from in (0..cases()).step_by(TOGETHER) {
        let cases: Vec<_> = (from..cases().min(from + TOGETHER as u64)).map(case).collect();
        let capture = together(&cases);
        let (followed, ours) = (followed(&capture, cases.len()), reassemble(capture));
        assert_eq!((followed.len(), ours.len()), (cases.len(), cases.len()));
        for ((i, case), (connection, kept)) in cases.iter().enumerate().zip(&ours) {
            let client = usize::from(connection.client.port() == 1935);
            for side in 0..2 {
                let what = format!("seed {} side {side}", from + i as u64);
                let (want, contested) = as_followed(case, side);
                let theirs = &followed[&i][side ^ case.packets[0].side];
                let first = case.packets.iter().find(|p| p.side == side && !p.payload.is_empty());
                assert!(case.bytes[side].values().eq(&kept.bytes[side ^ client]), "{what}: ours");
                with_holes += u32::from(want.len() > case.bytes[side].len());
                if *theirs == want {
                    equal += 1;
                } else if !case.syn && first.is_some_and(|p| !case.is_lowest(side, p)) {
                    // Without SYN tshark takes the first packet in the file for the beginning, and bytes before it for old ones.
                    assert!(want.ends_with(theirs), "{what}: more than the beginning is missing");
                    later_start += 1;
                } else {
                    // Of two copies that wait behind a gap tshark takes the one that begins first, and not the one that came first.
                    assert_eq!(theirs.len(), want.len(), "{what}: tshark has other bytes");
                    let differ = theirs.iter().zip(&want).map(|(a, b)| a != b);
                    assert!(differ.zip(contested).all(|(d, c)| c || !d), "{what}: tshark has other bytes");
                    other_copy += 1;
                }
            }
        }
    }
    let all = cases() as u32 * 2;
    assert_eq!(equal + other_copy + later_start, all);
    assert!(other_copy + later_start <= all / 100, "{other_copy} and {later_start} of {all} differ");
    assert!(with_holes > all / 20, "{with_holes} of {all} have holes");
}

#[test]
fn packets_cut_by_the_capture_are_holes_of_that_cause() {
    let mut all = vec![Packet::new(0, 99, capture_gen::SYN, &[])];
    for i in 0..3u32 {
        let mut p = Packet::new(0, 100 + i * 50, capture_gen::ACK, &[7; 50]);
        p.kept = 20;
        all.push(p);
    }
    let (_, kept) = &reassemble(pcap(&all))[0];
    let holes: Vec<_> = kept.holes.iter().map(|h| (h.offset, h.bytes, h.cause.name())).collect();
    assert_eq!(holes, [(20, 30, "snaplen"), (70, 30, "snaplen"), (120, 30, "snaplen")]);
}

#[test]
fn a_syn_with_another_number_is_another_connection() {
    let mut all = Vec::new();
    for isn in [1000u32, 500_000, 900] {
        all.push(Packet::new(0, isn, capture_gen::SYN, &[]));
        all.push(Packet::new(0, isn, capture_gen::SYN, &[]));
        all.push(Packet::new(0, isn + 1, capture_gen::ACK, &isn.to_be_bytes()));
    }
    let ended = reassemble(pcap(&all));
    let keys: Vec<_> = ended.iter().map(|(c, k)| (c.key(), k.bytes[0].len())).collect();
    let key = "10.0.0.1:40000->10.0.0.2:1935";
    assert_eq!(keys, [(key.to_string(), 4), (format!("{key}#2"), 4), (format!("{key}#3"), 4)]);
}

#[test]
fn what_waits_behind_a_gap_is_bounded() {
    // A gap of one byte: 5 MiB in pieces below the limit of pieces, and small pieces above it.
    for (what, n, len) in [("bytes", 3500u32, 1400u32), ("pieces", 5000, 10)] {
        let mut all = vec![Packet::new(0, 99, capture_gen::SYN, &[])];
        let payload = vec![1; len as usize];
        all.extend((0..n).map(|i| Packet::new(0, 101 + i * len, capture_gen::ACK, &payload)));
        let mut streams = feed(pcap(&all));
        assert!(streams.handler.handed > 1000, "{what}: handed on before the end");
        streams.finish_all();
        let (_, kept) = &streams.handler.ended[0];
        let holes: Vec<_> = kept.holes.iter().map(|h| (h.offset, h.bytes, h.cause.name())).collect();
        assert_eq!(holes, [(0, 1, "capture drop")], "{what}");
        assert_eq!(kept.next[0], u64::from(1 + n * len), "{what}");
    }
}

#[test]
fn what_waits_is_bounded_over_all_connections() {
    // 40 connections of 1 MiB each, none of which is too much by itself.
    let mut frames = Vec::new();
    for n in 0..40u8 {
        for i in 0..750u32 {
            let (flags, seq, payload) = if i == 0 {
                (capture_gen::SYN, 99, vec![])
            } else {
                (capture_gen::ACK, 101 + i * 1400, vec![1; 1400])
            };
            let mut ip = Packet::new(0, seq, flags, &payload).ipv4();
            ip[15] = n;
            frames.push(ip);
        }
    }
    let streams = feed(capture_gen::pcap_frames(101, frames.iter().map(|f| (&f[..], f.len()))));
    assert!(streams.handler.handed > 4 << 20, "{} bytes handed on before the end", streams.handler.handed);
}

#[test]
fn a_keep_alive_byte_is_no_conflict() {
    let all = [
        Packet::new(0, 99, capture_gen::SYN, &[]),
        Packet::new(0, 100, capture_gen::ACK, b"hello"),
        Packet::new(0, 104, capture_gen::ACK, b"\0"),
        Packet::new(0, 105, capture_gen::ACK, b"world"),
        Packet::new(0, 103, capture_gen::ACK, b"XX"),
    ];
    for (taken, conflicts) in [(4, 0), (5, 1)] {
        let (connection, kept) = &reassemble(pcap(&all[..taken]))[0];
        assert_eq!(kept.bytes[0], b"helloworld", "the first copy counts");
        assert_eq!(connection.conflicts, conflicts);
    }
}

#[test]
fn what_was_cut_behind_a_gap_may_come_again() {
    let mut cut = Packet::new(0, 110, capture_gen::ACK, &[7; 50]);
    cut.kept = 20;
    let all = [
        Packet::new(0, 99, capture_gen::SYN, &[]),
        cut,
        Packet::new(0, 140, capture_gen::ACK, &[8; 30]),
        Packet::new(0, 100, capture_gen::ACK, &[6; 10]),
    ];
    let (_, kept) = &reassemble(pcap(&all))[0];
    let holes: Vec<_> = kept.holes.iter().map(|h| (h.offset, h.bytes, h.cause.name())).collect();
    assert_eq!(holes, [(30, 10, "snaplen")]);
    assert_eq!((kept.next[0], kept.bytes[0].len()), (70, 60));
}

#[test]
fn bytes_that_were_acknowledged_or_stand_before_fin_are_missing_too() {
    let data = [Packet::new(0, 99, capture_gen::SYN, &[]), Packet::new(0, 100, capture_gen::ACK, b"hello")];
    for (what, last, missing) in [
        ("FIN", Packet::new(0, 115, capture_gen::FIN, &[]), Some((5, 10))),
        ("FIN in its place", Packet::new(0, 105, capture_gen::FIN, &[]), None),
        ("ack", Packet { ack: 116, ..Packet::new(1, 500, capture_gen::ACK, &[]) }, Some((5, 10))),
        (
            "ack of a FIN that was not captured",
            Packet { ack: 106, ..Packet::new(1, 500, capture_gen::ACK, &[]) },
            None,
        ),
    ] {
        let (_, kept) = &reassemble(pcap(&[&data[..], &[last]].concat()))[0];
        assert_eq!(kept.holes.first().map(|h| (h.offset, h.bytes)), missing, "{what}");
    }
}

#[test]
fn acknowledgements_that_no_window_allows_need_another() {
    let start = 0xfff0_0000u32;
    let ack = |ahead: u32, flags: u8| Packet {
        ack: start.wrapping_add(ahead),
        ..Packet::new(1, 500, ACK | flags, &[])
    };
    const FAR: u32 = 1 << 28;
    for (what, last, missing) in [
        ("near", vec![ack(6 + (1 << 20), 0)], 1 << 20),
        ("far", vec![ack(FAR, 0)], 0),
        ("far, twice the same", vec![ack(FAR, 0), ack(FAR, 0)], 0),
        ("far and lower", vec![ack(FAR, 0), ack(FAR - 5, 0)], 0),
        ("far, and one that goes on", vec![ack(FAR, 0), ack(FAR + 1446, 0)], u64::from(FAR) + 1440),
        ("two that have nothing to do with each other", vec![ack(FAR, 0), ack(3 * FAR, 0)], 0),
        ("RST that acknowledges nothing", vec![Packet { ack: 0, ..ack(0, RST) }], 0),
    ] {
        let data = [Packet::new(0, start.wrapping_sub(1), SYN, &[]), Packet::new(0, start, ACK, b"hello")];
        let (_, kept) = &reassemble(pcap(&[&data[..], &last].concat()))[0];
        assert_eq!(kept.holes.iter().map(|h| h.bytes).sum::<u64>(), missing, "{what}");
    }
}

#[test]
fn closed_connections_make_room_and_are_not_counted_twice() {
    let mut all = Vec::new();
    for port in 0..2000u16 {
        let mut frames = vec![
            Packet::new(0, 99, capture_gen::SYN, &[]),
            Packet::new(0, 100, capture_gen::ACK, b"bytes"),
            Packet::new(1, 500, capture_gen::RST, &[]),
        ];
        // Long after the first ones were let go, acknowledgements of theirs.
        frames.extend(
            (port >= 1000).then(|| Packet { ack: 105, ..Packet::new(1, 500, capture_gen::ACK, &[]) }),
        );
        for (i, p) in frames.iter().enumerate() {
            let mut ip = p.ipv4();
            let client = if i == 3 { port - 1000 } else { port };
            let place = if p.side == 0 { 20 } else { 22 };
            ip[place..place + 2].copy_from_slice(&(10_000 + client).to_be_bytes());
            all.push(ip);
        }
    }
    let mut streams = feed(capture_gen::pcap_frames(101, all.iter().map(|f| (&f[..], f.len()))));
    assert!(streams.handler.ended.len() >= 1700, "ended before the end of the file");
    streams.finish_all();
    let ended = streams.handler.ended;
    assert_eq!(ended.len(), 2000);
    assert!(ended.iter().all(|(c, k)| c.reuse == 0 && k.bytes[0].len() == 5));
}

/// Captured so many milliseconds after the first.
fn at_times(frames: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut file = capture_gen::pcap_frames(101, frames.iter().map(|(_, f)| (&f[..], f.len())));
    let mut place = 24;
    for (ms, frame) in frames {
        let time = [1_700_000_000 + ms / 1000, ms % 1000 * 1000].map(u32::to_le_bytes).concat();
        file[place..place + 8].copy_from_slice(&time);
        place += 16 + frame.len();
    }
    file
}

/// 100 pairs of ends that connect twice, 1000 that connect once; the client ends each connection with RST. One side's packets stand behind the
/// other's, and some SYN-ACKs are missing; not those by which alone connections of the same ends can be told apart.
fn one_side_behind_the_other(first: usize) -> Vec<u8> {
    let mut sides = [vec![], vec![]];
    let twice = (0..200u32).map(|n| (n % 100, n / 100));
    for (ends, again) in twice.chain((100..1100).map(|ends| (ends, 0))) {
        let (time, seq) = (again * 10_000 + ends, again * 700_000 + 99);
        let payload = time.to_be_bytes();
        let answer =
            |at, flags, payload: &[u8]| Packet { ack: seq + 1, ..Packet::new(1, seq + at, flags, payload) };
        let packets = [
            Packet::new(0, seq, capture_gen::SYN, &[]),
            answer(400, capture_gen::SYN | capture_gen::ACK, &[]),
            Packet::new(0, seq + 1, capture_gen::ACK, &payload),
            answer(401, capture_gen::ACK, &payload),
            Packet::new(0, seq + 5, capture_gen::RST, &[]),
        ];
        let misses = ends % 5 == 0 && (first == 0 || ends >= 100);
        for (after, p) in (0..).zip(&packets).filter(|(after, _)| *after != 1 || !misses) {
            let mut ip = p.ipv4();
            let client = if p.side == 0 { 20 } else { 22 };
            ip[client..client + 2].copy_from_slice(&(10_000 + ends as u16).to_be_bytes());
            sides[p.side].push((time + after, ip));
        }
    }
    at_times(&[&sides[first][..], &sides[1 - first]].concat())
}

#[test]
fn what_a_direction_says_behind_the_other_is_of_the_same_connections() {
    for first in [0, 1] {
        let ended = reassemble(one_side_behind_the_other(first));
        assert_eq!(ended.len(), 1200, "side {first} first");
        for (c, kept) in ended {
            assert_eq!(kept.bytes[0], kept.bytes[1], "side {first} first: {}", c.key());
            assert_eq!((kept.bytes[0].len(), kept.holes.len()), (4, 0), "side {first} first: {}", c.key());
        }
    }
}
