//! Cut, corrupt and hostile captures: read as far as they go, told with the place, never a panic.

mod capture_gen;

use std::io::{Cursor, Write};
use std::path::Path;

use capture_gen::{ACK, Packet, RST, Random, SYN, pcap};
use rtmp_bench::capture::frame::Unwrapper;
use rtmp_bench::capture::pcap::{Source, source};
use rtmp_bench::capture::stream::MAX_CONNECTIONS;
use rtmp_bench::capture::{self};
use rtmp_bench::record::inspect::{Inspect, Note, Session};

fn inspect(bytes: Vec<u8>) -> Result<Inspect, String> {
    source(Box::new(Cursor::new(bytes)))
        .and_then(|source| capture::read_source(source, false, &mut ()))
        .map_err(|e| e.to_string())
}

fn shipped(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("captures").join(name))
        .expect("a shipped capture")
}

/// The byte that a message names.
fn place(message: &str) -> Option<u64> {
    message.strip_prefix("at byte ")?.split(':').next()?.parse().ok()
}

/// Each prefix says no more than the next longer one, and where it ends.
fn check_prefixes(name: &str, lengths: impl Iterator<Item = usize>) {
    let whole = shipped(name);
    let all = inspect(whole.clone()).expect("the whole file");
    let mut packets = 0;
    for len in lengths.filter(|len| *len <= whole.len()) {
        match inspect(whole[..len].to_vec()) {
            Err(says) => {
                assert_eq!(packets, 0, "{name}, {len} bytes: {says}");
                let told = says.starts_with("not a capture: begins with")
                    || place(&says).is_some_and(|at| at <= len as u64);
                assert!(told, "{name}, {len} bytes: {says}");
            }
            Ok(found) => {
                assert!(
                    found.packets >= packets && found.packets <= all.packets,
                    "{name}, {len} bytes: {} packets",
                    found.packets
                );
                packets = found.packets;
                if let Some(damage) = found.damage {
                    assert!(
                        place(&damage).is_some_and(|at| at < len as u64),
                        "{name}, {len} bytes: {damage}"
                    );
                }
            }
        }
    }
    assert_eq!(inspect(whole).as_ref(), Ok(&all));
}

#[test]
fn every_prefix_of_a_pcapng() {
    check_prefixes("loc-rtmpe-attempt-rtmpdump.pcapng", 0..3000);
}

#[test]
fn prefixes_of_a_pcap_with_sessions() {
    check_prefixes("drv-port-reuse-three-sessions.pcap", 0..50_000);
}

#[test]
fn prefixes_of_a_cut_pcap() {
    check_prefixes("loc-snaplen96-ffmpeg-publish.pcap", 0..40_000);
}

#[test]
fn prefixes_of_a_raw_dump() {
    let whole = shipped("loc-rtmpdump-live-play-client.bin");
    for len in 1..whole.len() {
        let found = inspect(whole[..len].to_vec()).expect("a raw dump");
        assert_eq!(
            (found.sessions.len(), found.other.len()),
            if len < 1537 { (0, 1) } else { (1, 0) },
            "{len} bytes"
        );
        if let Some(session) = found.sessions.first() {
            assert_eq!((session.bytes.c2s, session.complete), (len as u64, false), "{len} bytes");
        }
    }
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gz.write_all(bytes).expect("into memory");
    gz.finish().expect("into memory")
}

const GZIP_DAMAGE: &str = "gzip is cut or damaged (bytes are counted unpacked)";

#[test]
fn prefixes_of_a_gzipped_capture() {
    let gz = packed(&shipped("loc-rtmpe-attempt-rtmpdump.pcapng"));
    for len in 0..gz.len() {
        match inspect(gz[..len].to_vec()) {
            Err(says) => assert!(!says.is_empty(), "{len} bytes"),
            Ok(found) => {
                let damage = found.damage.unwrap_or_default();
                assert!(damage.contains(GZIP_DAMAGE), "{len} bytes: {damage}");
            }
        }
    }
    assert_eq!(inspect(gz).map(|found| found.damage), Ok(None));
}

/// As gzip(1) does: members are read one after the other, zeros behind the last are no damage, anything else is.
#[test]
fn what_follows_the_first_member_of_gzip() {
    use std::io::Write;
    let whole = shipped("loc-rtmpe-attempt-rtmpdump.pcapng");
    let member = |bytes: &[u8]| {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(bytes).and_then(|()| gz.finish()).expect("into memory")
    };
    let (one, two) = (member(&whole), [member(&whole[..999]), member(&whole[999..])].concat());
    let found = inspect(whole).expect("a capture");
    for gz in [one, two] {
        for zeros in [0, 1, 511, 300_000] {
            let padded = [&gz[..], &vec![0; zeros]].concat();
            assert_eq!(inspect(padded.clone()).as_ref(), Ok(&found), "{zeros} zeros");
            for behind in [&b"x"[..], &gz] {
                let damage = inspect([&padded, behind].concat()).map(|found| found.damage.is_some());
                // Right behind, the same members are another section of the file.
                assert_eq!(damage, Ok(zeros > 0 || behind == b"x"), "{zeros} zeros");
            }
        }
    }
}

/// A bit that changes what was packed, or the checksum or length behind it, is told, whatever can be read all the same.
#[test]
fn flipped_bits_of_gzipped_captures() {
    let all = |found: Inspect| serde_json::to_value(found).expect("json");
    for file in ["loc-rtmpe-attempt-rtmpdump.pcapng", "loc-rtmpdump-live-play-client.bin"] {
        let gz = packed(&shipped(file));
        let whole = inspect(gz.clone()).map(all);
        let (trailer, mut read_all) = (gz.len() - 8, 0);
        let mut r = Random::new(7);
        let places = (trailer * 8..gz.len() * 8)
            .chain((0..200).map(|_| 80 + r.below(trailer as u64 * 8 - 80) as usize));
        for bit in places.collect::<Vec<_>>() {
            let mut bytes = gz.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Ok(found) = inspect(bytes) else { continue };
            read_all += usize::from(bit >= trailer * 8 && !found.sessions.is_empty());
            assert!(found.damage.is_some() || Ok(all(found)) == whole, "{file}: bit {bit}");
        }
        let sessions = usize::from(file.ends_with(".bin"));
        assert_eq!(read_all, 64 * sessions, "{file}: what stands before a wrong checksum is shown");
    }
}

#[test]
fn datagrams_that_are_not_whole_at_the_end_are_counted() {
    let ip = Packet::new(0, 100, ACK, &[7; 100]).ipv4();
    let all = [capture_gen::fragments(&ip, 1, 64), capture_gen::fragments(&ip, 2, 64)].concat();
    let file = capture_gen::pcap_frames(101, all[..3].iter().map(|f| (&f[..], f.len())));
    let passed = inspect(file).expect("read").passed_over;
    assert_eq!(passed.get("datagrams whose other fragments never came"), Some(&1), "{passed:?}");
}

#[test]
fn fragments_of_a_whole_datagram_that_come_again_miss_nothing() {
    let parts = capture_gen::fragments(&Packet::new(0, 100, ACK, &[7; 100]).ipv4(), 1, 40);
    let passed = |frames: &[&Vec<u8>]| {
        let file = capture_gen::pcap_frames(101, frames.iter().map(|f| (&f[..], f.len())));
        inspect(file).expect("read").passed_over.into_iter().collect::<Vec<_>>()
    };
    let (again, lost) = ("fragments that came again", "datagrams whose other fragments never came");
    let [a, b, c] = &parts[..] else { panic!("{} parts", parts.len()) };
    assert_eq!(passed(&[a, b, c, c, c]), [(again.to_string(), 2)]);
    assert_eq!(passed(&[a, b, c, b, a]), [(again.to_string(), 2)]);
    assert_eq!(passed(&[a, b, c, a, b, c]), []);
    let mut other = c.clone();
    *other.last_mut().expect("a byte") = 8;
    assert_eq!(passed(&[a, b, c, &other]), [(lost.to_string(), 1)]);
    assert_eq!(passed(&[a, b, c, a, &other]), [(lost.to_string(), 1)]);
    // The same bytes, but not the last ones.
    let longer = capture_gen::fragments(&Packet::new(0, 100, ACK, &[7; 200]).ipv4(), 1, 40);
    assert_eq!(passed(&[a, b, c, &longer[2]]), [(lost.to_string(), 1)]);
}

#[test]
fn flipped_bits() {
    let files = [
        "loc-rtmpe-attempt-rtmpdump.pcapng",
        "drv-port-reuse-three-sessions.pcap",
        "loc-gst-rtmpsink-librtmp-publish.pcapng",
        "loc-rtmpdump-live-play-client.bin",
    ];
    let mut damaged = 0;
    for seed in 0..400 {
        let mut r = Random::new(seed);
        let mut bytes = shipped(files[seed as usize % files.len()]);
        for _ in 0..=r.below(8) {
            let at = r.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << r.below(8);
        }
        rtmp_bench::fuzzing::capture(&bytes);
        let len = bytes.len() as u64;
        match inspect(bytes) {
            Err(says) => assert!(
                says.starts_with("not a capture") || place(&says).is_some_and(|at| at <= len),
                "seed {seed}: {says}"
            ),
            Ok(found) => {
                damaged += u64::from(
                    found.damage.is_some()
                        || found.sessions.iter().any(|s| !s.notes.is_empty() || !s.complete),
                )
            }
        }
    }
    assert!(damaged > 20, "flipped bits are seen ({damaged})");
}

#[test]
fn what_is_damaged_is_anonymised_as_far_as_it_can_be_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("damaged.pcap");
    let mut bytes_kept = 0;
    for seed in 0..200 {
        let mut r = Random::new(seed);
        let mut bytes = shipped(
            ["drv-port-reuse-three-sessions.pcap", "loc-snaplen96-ffmpeg-publish.pcap"][seed as usize % 2],
        );
        for _ in 0..=r.below(40) {
            let at = r.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << r.below(8);
        }
        std::fs::write(&path, &bytes).expect("written");
        let mut out = Vec::new();
        if capture::anonymise::anonymise(&path, || Ok(&mut out), || false).is_ok() {
            let (before, after) = (inspect(bytes).expect("read once"), inspect(out).expect("a capture"));
            assert_eq!(
                (before.tcp_connections, &after.damage),
                (after.tcp_connections, &None),
                "seed {seed}"
            );
            let bytes = |found: &Inspect| found.sessions.iter().map(|s| s.bytes.c2s).collect::<Vec<_>>();
            assert_eq!(bytes(&before), bytes(&after), "seed {seed}");
            bytes_kept += bytes(&after).iter().sum::<u64>();
        }
    }
    assert!(bytes_kept > 1_000_000, "most files can be read ({bytes_kept})");
}

#[test]
fn noise_behind_a_good_beginning() {
    for seed in 0..60 {
        let mut r = Random::new(seed);
        let whole = shipped("drv-port-reuse-three-sessions.pcap");
        let keep = r.below(8000) as usize + 24;
        let noise = r.bytes(60_000);
        let found = inspect([&whole[..keep], &noise].concat());
        assert!(found.is_err() || found.is_ok_and(|f| f.damage.is_some() || f.packets > 0), "seed {seed}");
    }
}

/// A connection of one segment each way, from a port.
fn connection(client: &[u8], server: &[u8]) -> Vec<u8> {
    let mut all =
        vec![Packet::new(0, 99, SYN, &[]), Packet { ack: 100, ..Packet::new(1, 499, SYN | ACK, &[]) }];
    all.extend((!client.is_empty()).then(|| Packet::new(0, 100, ACK, client)));
    all.extend((!server.is_empty()).then(|| Packet::new(1, 500, ACK, server)));
    all.push(Packet::new(1, 500 + server.len() as u32, RST, &[]));
    pcap(&all)
}

#[test]
fn what_is_no_rtmp_is_named() {
    let hello = |version: u8| [&[version][..], &[7; 1536]].concat();
    for (client, server, what) in [
        (
            &b"\x16\x03\x01\x02\0\x01\0"[..],
            &b"\x16\x03\x03"[..],
            "TLS (RTMPS, if it is RTMP), encrypted, not decoded",
        ),
        (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", "HTTP"),
        (
            b"POST /open/1 HTTP/1.1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
            "RTMPT, RTMP inside HTTP, not decoded",
        ),
        (b"POST /fcs/ident2 HTTP/1.1\r\n\r\n", b"", "RTMPT, RTMP inside HTTP, not decoded"),
        (&hello(6), b"", "RTMPE (C0 = 6), encrypted, not decoded"),
        (&hello(8), b"", "RTMPE (C0 = 8), encrypted, not decoded"),
        (&hello(3)[..1536], b"", "begins with C0 = 3 and ends after 1536 bytes, before a handshake's length"),
        (b"SSH-2.0-x", b"SSH-2.0-y", "not RTMP: the client begins with 53 53 48 2d 32 2e 30 2d"),
        (b"", b"220 mail", "not RTMP: the server speaks first, with 32 32 30 20 6d 61 69 6c"),
        (b"", b"", "no payload, refused or reset"),
    ] {
        let found = inspect(connection(client, server)).expect("a capture");
        assert_eq!(found.sessions.len(), 0, "{what}");
        assert_eq!(found.other.iter().map(|o| o.what.as_str()).collect::<Vec<_>>(), [what]);
    }
    let found = inspect(connection(&hello(3), b"")).expect("a capture");
    assert_eq!((found.sessions.len(), found.other.len()), (1, 0), "C0 and C1 make a session");
    assert!(!found.sessions[0].complete);
}

#[test]
fn more_connections_than_are_followed_at_a_time() {
    let mut frames = Vec::new();
    let many = MAX_CONNECTIONS as u32 + 500;
    for n in 0..many {
        let mut ip = Packet::new(0, 99, SYN, &[]).ipv4();
        // The client's address tells them apart.
        ip[12..16].copy_from_slice(&(0x0b00_0000 + n).to_be_bytes());
        frames.push(ip);
    }
    let found =
        inspect(capture_gen::pcap_frames(101, frames.iter().map(|f| (&f[..], f.len())))).expect("a capture");
    assert_eq!((found.tcp_connections, found.other.len()), (u64::from(many), many as usize));
    assert!(
        found.other.iter().enumerate().all(|(i, o)| o.stream == i as u64),
        "in the order of their first packets"
    );
}

#[test]
fn secrets_are_masked_unless_asked_for() {
    let file = shipped("loc-ffmpeg-publish-token.pcapng");
    let read = |show| {
        let opened = source(Box::new(Cursor::new(file.clone()))).expect("a capture");
        capture::read_source(opened, show, &mut ()).expect("a capture").sessions[0]
            .url
            .clone()
            .unwrap_or_default()
    };
    let base = "rtmp://127.0.0.1:19399/live/cam2";
    assert_eq!(read(false), format!("{base}?token=***&expires=***&sign=***"));
    assert_eq!(read(true), format!("{base}?token=s3cr%20et&expires=1700000000&sign=a%2Fb%3D%3D"));
}

/// Where each record of a little-endian pcap lies.
fn records(pcap: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut records = Vec::new();
    let mut at = 24;
    while at < pcap.len() {
        let len = u32::from_le_bytes([pcap[at + 8], pcap[at + 9], pcap[at + 10], pcap[at + 11]]) as usize;
        records.push(at..at + 16 + len);
        at += 16 + len;
    }
    records
}

#[test]
fn disorder_repeats_and_missing_syns_change_no_sum() {
    let whole = shipped("loc-gst-rtmp2sink-publish.pcap");
    let in_order = records(&whole);
    let want = inspect(whole.clone()).expect("the whole file").sessions.remove(0);
    let windows = in_order.chunks(9).flat_map(|w| w.iter().rev()).cloned().collect();
    let twice = in_order.iter().flat_map(|r| [r.clone(), r.clone()]).collect();
    let late_again = in_order.chunks(100).flat_map(|w| [w, w].concat()).collect();
    for (what, order) in [
        ("in windows of nine from back to front", windows),
        ("each packet twice", twice),
        ("each hundred packets twice", late_again),
        ("without SYN and SYN-ACK", in_order[2..].to_vec()),
        ("without SYN", in_order[1..].to_vec()),
        ("without the last packet", in_order[..in_order.len() - 1].to_vec()),
    ] {
        let bytes: Vec<u8> = order.iter().flat_map(|r| whole[r.clone()].iter().copied()).collect();
        let mut found = inspect([&whole[..24], &bytes].concat()).expect("a capture");
        assert_eq!((found.sessions.len(), found.other.len()), (1, 0), "{what}");
        let got = found.sessions.remove(0);
        assert_eq!((&got.key, &got.role, got.complete), (&want.key, &want.role, true), "{what}");
        assert_eq!(
            (&got.bytes, &got.sha256, &got.messages),
            (&want.bytes, &want.sha256, &want.messages),
            "{what}"
        );
        // Times count from the first packet, which is another one here.
        let untimed =
            |s: &Session| s.notes.iter().map(|n| Note { time_us: None, ..n.clone() }).collect::<Vec<_>>();
        assert_eq!((&got.holes, untimed(&got)), (&want.holes, untimed(&want)), "{what}");
    }
}

/// A capture's packets, those to the server before those of it or behind them: the files of each direction one after the other.
fn by_direction(whole: &[u8], to_server_first: bool) -> Vec<u8> {
    let Ok(Source::Packets(mut reader)) = source(Box::new(Cursor::new(whole.to_vec()))) else {
        panic!("no capture")
    };
    let mut unwrapper = Unwrapper::default();
    let mut parts = [whole[..24].to_vec(), vec![]];
    for record in records(whole) {
        let packet = reader.packet().expect("a whole file").expect("a packet");
        let to_server = unwrapper.segment(packet).is_some_and(|s| s.from.port() > s.to.port());
        parts[usize::from(to_server != to_server_first)].extend_from_slice(&whole[record]);
    }
    parts.concat()
}

#[test]
fn one_direction_may_stand_behind_the_other() {
    // The first two end with RST, the third with FIN; the last has three connections of the same ends.
    for name in [
        "loc-legacy-sorenson-speex-publish.pcap",
        "drv-nsec-vlan-ffmpeg-publish.pcap",
        "loc-gst-rtmp2sink-publish.pcap",
        "drv-port-reuse-three-sessions.pcap",
    ] {
        let whole = shipped(name);
        let sums = |found: Inspect| {
            let sum = |s: Session| (s.key, s.role, s.complete, s.end, s.bytes, s.sha256, s.messages, s.holes);
            let other: Vec<_> = found.other.into_iter().map(|o| o.what).collect();
            (found.tcp_connections, found.sessions.into_iter().map(sum).collect::<Vec<_>>(), other)
        };
        let want = sums(inspect(whole.clone()).expect("the whole file"));
        for to_server_first in [true, false] {
            let got = sums(inspect(by_direction(&whole, to_server_first)).expect("a capture"));
            assert_eq!(got, want, "{name}, to the server first: {to_server_first}");
        }
    }
}

#[test]
fn a_packet_that_is_missing_ends_the_messages_of_its_direction() {
    let whole = shipped("loc-gst-rtmp2sink-publish.pcap");
    let all = inspect(whole.clone()).expect("the whole file").sessions.remove(0);
    let records = records(&whole);
    // From the middle on, the first packet with a payload of the client.
    let missing =
        records.iter().skip(records.len() / 2).find(|r| r.len() > 16 + 66 + 50).expect("a packet").clone();
    let found = inspect([&whole[..missing.start], &whole[missing.end..]].concat()).expect("a capture");
    let session = &found.sessions[0];
    assert_eq!(session.bytes, all.bytes);
    assert_eq!((&session.sha256.c2s, &session.sha256.s2c), (&None, &all.sha256.s2c));
    let holes: Vec<_> =
        session.holes.iter().map(|h| (h.direction.as_str(), h.bytes, h.cause.as_str())).collect();
    assert_eq!(holes, [("c2s", (missing.len() - 16 - 66) as u64, "capture drop")]);
    let audio = |s: &rtmp_bench::record::inspect::Session| s.messages.c2s[&8];
    assert!(
        audio(session) > 0 && audio(session) < audio(&all) * 3 / 4,
        "{} of {}",
        audio(session),
        audio(&all)
    );
    assert_eq!((session.complete, session.notes.len()), (false, all.notes.len()), "{:?}", session.notes);
}

#[test]
fn a_clock_that_jumps_by_days_still_makes_a_scenario() {
    let mut bytes = shipped("loc-gst-rtmp2sink-publish.pcap");
    let mut at = 24;
    while at < bytes.len() {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let (seconds, len) = (word(at), word(at + 8) as usize);
        if at > 80_000 {
            bytes[at..at + 4].copy_from_slice(&(seconds + 10 * 86_400).to_le_bytes());
        }
        at += 16 + len;
    }
    rtmp_bench::fuzzing::capture(&bytes);
}
