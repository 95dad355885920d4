//! `--anonymise`: what is left of a capture and what is not.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::capture_gen::{self, ACK, Packet, pcap};
use crate::{file, inspect, shipped, stderr, stdout, with_aggregates};

#[test]
fn an_anonymised_capture_has_the_same_structure_and_no_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let json = |path: &str| -> Value {
        let out = inspect(&[path, "--show-secrets", "-o", "json"]);
        serde_json::from_slice(&out.stdout).expect("JSON")
    };
    let all = |record: &Value, list: &str| record["inspect"][list].as_array().cloned().unwrap_or_default();
    let mut sessions = 0;
    let rebuilt = file(&folder, "rebuilt.pcap", &pcap(&with_aggregates()));
    let shipped_files =
        std::fs::read_dir(shipped("")).expect("captures/").map(|entry| entry.expect("an entry").path());
    for path in shipped_files.chain([rebuilt]) {
        let path = path.to_string_lossy().into_owned();
        if !(path.ends_with(".pcap") || path.ends_with(".pcapng")) {
            continue;
        }
        let shown = folder.path().join("shown.pcap").to_string_lossy().into_owned();
        let out = inspect(&[&path, "--anonymise", &shown]);
        assert_eq!(out.status.code(), Some(0), "{path}: {}", stderr(&out));
        let bytes = std::fs::read(&shown).expect("written");
        for secret in [
            &b"s3cr"[..],
            b"cam1",
            b"cam2",
            b"/gst1",
            b"options:",
            &[127, 0, 0, 1, 127],
            b"127.0.0.1",
            b"[::1]",
            b"19399",
        ] {
            assert!(
                !bytes.windows(secret.len()).any(|w| w == secret),
                "{path}: {secret:02x?} is still there"
            );
        }
        let (mut before, mut after) = (json(&path), json(&shown));
        // What is not read as RTMP, also behind a hole, becomes zeros, which tshark may take for it.
        let whole = all(&before, "other").is_empty()
            && all(&before, "sessions").iter().all(|s| s["complete"] == true);
        let fields = if whole { 2 } else { 1 };
        let [one, other] = [&path, &shown].map(|path| tshark(path, &TSHARK[..fields]));
        for (one, other) in one.iter().zip(&other) {
            assert_eq!(one, other, "{path}");
        }
        assert_eq!(one.len(), other.len(), "{path}");
        let bad = tshark(&shown, &["ip.checksum.status"]).iter().filter(|status| *status == "0").count();
        assert_eq!(bad, 0, "{path}: IPv4 headers whose checksum is wrong");
        sessions += all(&before, "sessions").len();
        [&mut before, &mut after].into_iter().for_each(without_names);
        assert_eq!(before["inspect"], after["inspect"], "{path}");
    }
    assert!(sessions >= 20, "{sessions} sessions compared");
    let out = inspect(&[
        &shipped("loc-rtmpdump-live-play-client.bin"),
        "--anonymise",
        &folder.path().join("x").to_string_lossy(),
    ]);
    assert_eq!(out.status.code(), Some(2), "a raw dump is no capture");
}

#[test]
fn an_anonymised_capture_has_its_fragments() {
    use capture_gen::{fragments, in_gtp};
    type Wrap = fn(&[u8], u32) -> Vec<Vec<u8>>;
    let ways: [(&str, Wrap); 10] = [
        ("fragments", |ip, id| fragments(ip, id, 512)),
        ("the last first", |ip, id| fragments(ip, id, 1480).into_iter().rev().collect()),
        ("all but the last twice", |ip, id| {
            let all = fragments(ip, id, 1024);
            all.iter()
                .flat_map(|f| all[..all.len() - 1].contains(f).then_some(f).into_iter().chain([f]))
                .cloned()
                .collect()
        }),
        ("each twice", |ip, id| fragments(ip, id, 1024).into_iter().flat_map(|f| [f.clone(), f]).collect()),
        ("all but the last again", |ip, id| {
            let all = fragments(ip, id, 512);
            [&all[..], &all[..all.len() - 1]].concat()
        }),
        ("each twice in a tunnel with checksums", |ip, id| {
            let twice = |f: Vec<u8>| [in_gtp(&f, true), in_gtp(&f, true)];
            fragments(ip, id, 1024).into_iter().flat_map(twice).collect()
        }),
        ("in a tunnel", |ip, id| fragments(ip, id, 1024).iter().map(|f| in_gtp(f, false)).collect()),
        ("in a tunnel with checksums", |ip, id| {
            fragments(ip, id, 1024).iter().map(|f| in_gtp(f, true)).collect()
        }),
        ("of a tunnel", |ip, id| fragments(&in_gtp(ip, false), id, 1400)),
        ("of a tunnel with checksums", |ip, id| fragments(&in_gtp(ip, true), id, 1400)),
    ];
    let captures = [
        ("loc-ffmpeg-publish-token.pcapng", 14),
        ("loc-ipv6-ffmpeg-publish.pcapng", 14),
        ("drv-nsec-vlan-ffmpeg-publish.pcap", 18),
        ("loc-rtmpdump-play-chunk128.pcap", 14),
    ];
    // The first two in every way, the others in one.
    for (i, (capture, link)) in captures.into_iter().enumerate() {
        for (way, wrap) in &ways[..if i < 2 { ways.len() } else { 1 }] {
            is_anonymised_in_fragments(&format!("{capture}, {way}"), &refragmented(capture, link, wrap));
        }
    }
}

/// The packets of a shipped capture, each as `wrap` says behind its link header of so many bytes; of every three datagrams that follow one another
/// the packets take turns.
fn refragmented(name: &str, link: usize, wrap: impl Fn(&[u8], u32) -> Vec<Vec<u8>>) -> Vec<u8> {
    use rtmp_bench::capture::pcap::{Source, open};
    let Ok(Source::Packets(mut reader)) = open(Path::new(&shipped(name))) else { panic!("{name}") };
    let mut all = Vec::new();
    while let Some(p) = reader.packet().expect("a packet") {
        let version = |ip: &[u8]| if ip[0] >> 4 == 6 { [0x86, 0xdd] } else { [8, 0] };
        let framed = |ip: Vec<u8>| [&p.data[..link - 2], &version(&ip), &ip].concat();
        all.push(wrap(&p.data[link..], all.len() as u32 + 1).into_iter().map(framed).collect::<Vec<_>>());
    }
    let mut frames = Vec::new();
    for turn in all.chunks(3) {
        let longest = turn.iter().map(Vec::len).max().unwrap_or(0);
        frames.extend((0..longest).flat_map(|i| turn.iter().filter_map(move |datagram| datagram.get(i))));
    }
    capture_gen::pcap_frames(1, frames.into_iter().map(|f| (&f[..], f.len())))
}

fn is_anonymised_in_fragments(what: &str, capture: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(&folder, "fragments.pcap", capture).to_string_lossy().into_owned();
    let shown = folder.path().join("shown.pcap").to_string_lossy().into_owned();
    let out = inspect(&[&path, "--anonymise", &shown]);
    assert_eq!((out.status.code(), stderr(&out).as_str()), (Some(0), ""), "{what}");
    let [before, after] = [&path, &shown].map(|path| {
        let out = inspect(&[path, "--show-secrets", "-o", "json"]);
        let mut record: Value = serde_json::from_slice(&out.stdout).expect("JSON");
        assert_eq!(record["inspect"]["sessions"].as_array().map(Vec::len), Some(1), "{what}");
        without_names(&mut record);
        record["inspect"].take()
    });
    assert_eq!(before, after, "{what}");
    assert_eq!(outline(&path), outline(&shown), "{what}");
    let [before, after] = [&path, &shown].map(|path| tshark(path, &[TSHARK[0], TSHARK[1], FRAGMENTS]));
    before.iter().zip(&after).for_each(|(before, after)| assert_eq!(before, after, "{what}"));
    let bad = tshark(&shown, &["ip.checksum.status tcp.checksum.status udp.checksum.status"]);
    assert_eq!(bad.iter().find(|statuses| statuses.contains('0')), None, "{what}: wrong checksums");
    let bytes = std::fs::read(&shown).expect("written");
    let secrets = [&b"s3cr"[..], b"cam1", b"cam2", b"127.0.0.1", b"[::1]", b"19399"];
    let shows = |secret: &&&[u8]| bytes.windows(secret.len()).any(|w| w == **secret);
    assert_eq!(secrets.iter().find(shows), None, "{what}");
}

/// Of each frame: what fragments say of themselves, and where the whole is.
const FRAGMENTS: &str = "ip.id ip.flags.mf ip.frag_offset ip.reassembled_in ip.fragment.count ipv6.fraghdr.ident ipv6.fraghdr.more ipv6.fraghdr.offset \
     ipv6.reassembled.in udp.length gtp.length";

/// Takes out of a record what an anonymised capture has otherwise; that URLs are URLs is looked at.
fn without_names(record: &mut Value) {
    let found = record["inspect"].as_object_mut().expect("a record");
    found.remove("comments");
    for session in found["sessions"].as_array_mut().expect("a list") {
        let url = session["url"].take();
        session["url length"] = url.as_str().map(str::len).into();
        assert!(url.as_str().is_none_or(is_rtmp_url), "{url}");
        for direction in ["c2s", "s2c"] {
            session["sha256"][direction] = session["sha256"][direction].is_null().into();
        }
        for field in ["key", "client", "server"] {
            session[field] = Value::Null;
        }
    }
    for other in found["other"].as_array_mut().expect("a list") {
        other["key"] = Value::Null;
    }
}

/// Whether it has an address and a port that can be.
fn is_rtmp_url(url: &str) -> bool {
    let authority = url.strip_prefix("rtmp://").and_then(|rest| rest.split('/').next());
    authority.is_some_and(|at| {
        at.parse::<std::net::SocketAddr>().is_ok() || at.parse::<std::net::IpAddr>().is_ok()
    })
}

/// Of each frame: time, lengths, headers; then what it is taken for, chunk headers and calls.
const TSHARK: [&str; 2] = [
    "frame.time_epoch frame.len frame.cap_len frame.encap_type frame.interface_id vlan.id ip.len ipv6.plen tcp.srcport tcp.stream \
     tcp.flags tcp.seq_raw tcp.ack_raw tcp.len tcp.options",
    "frame.protocols rtmpt.header.typeid rtmpt.header.csid rtmpt.header.bodysize rtmpt.header.timestamp rtmpt.scm.chunksize \
     rtmpt.function.call rtmpt.video.format rtmpt.audio.format",
];

/// What tshark sees, a line a frame. Nothing where it is not there.
fn tshark(path: &str, fields: &[&str]) -> Vec<String> {
    // Of the captures themselves those of TCP are wrong, where the network card was to make them: then tshark joins no segments.
    let checked = fields.iter().any(|f| f.contains("tcp.checksum.status"));
    let check = ["-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"];
    let Ok(out) = Command::new("tshark")
        .args(check.iter().filter(|_| checked))
        .args([
            "-r",
            path,
            "-o",
            "ip.check_checksum:TRUE",
            "-d",
            "tcp.port==19398-19399,rtmpt",
            "-d",
            "tcp.port==1935,rtmpt",
            "-T",
            "fields",
        ])
        .args(fields.iter().flat_map(|f| f.split_whitespace()).flat_map(|field| ["-e", field]))
        .output()
    else {
        #[allow(clippy::print_stdout)]
        {
            println!("SKIPPED: tshark is not installed");
        }
        return Vec::new();
    };
    assert!(out.status.success() && !out.stdout.is_empty(), "{path}: {}", stderr(&out));
    stdout(&out).lines().map(str::to_owned).collect()
}

/// Of each packet: time in nanoseconds, length on the wire and captured length.
fn outline(path: &str) -> Vec<(u64, usize, usize)> {
    use rtmp_bench::capture::pcap::{Source, open};
    let Ok(Source::Packets(mut reader)) = open(Path::new(path)) else { panic!("{path}") };
    let mut all = Vec::new();
    while let Some(p) = reader.packet().expect("a packet") {
        all.push((p.time.as_micros() * 1000 + u64::from(p.nanos), p.wire_len, p.data.len()));
    }
    all
}

#[test]
fn an_anonymised_capture_has_the_same_times_and_lengths_and_no_media() {
    let folder = tempfile::tempdir().expect("a folder");
    let shown = folder.path().join("shown.pcap").to_string_lossy().into_owned();
    for (name, coded) in [("loc-ffmpeg-publish.pcapng", 230), ("drv-two-interfaces.pcapng", 230)] {
        let capture = shipped(name);
        let flv = |path: &str| {
            let out = folder.path().join("out.flv");
            inspect(&[path, "--flv", &out.to_string_lossy()]);
            let bytes = std::fs::read(&out).expect("written");
            let reader = rtmp_bench::wire::flv::Reader::new(&bytes[..]).expect("an FLV file");
            reader.map(|tag| tag.expect("a tag")).filter(|t| t.data.len() > 30).collect::<Vec<_>>()
        };
        assert_eq!(inspect(&[&capture, "--anonymise", &shown]).status.code(), Some(0));
        assert_eq!(outline(&capture), outline(&shown), "{name}");
        assert!(
            outline(&capture).iter().any(|p| p.0 % 1000 > 0),
            "{name}: times of microseconds prove nothing"
        );
        let (before, after) = (flv(&capture), flv(&shown));
        assert!(before.len() >= coded && before.len() == after.len(), "{name}: {} frames", before.len());
        let replaced = before.iter().zip(&after).filter(|(b, a)| b.data[20..] != a.data[20..]);
        assert!(replaced.count() >= coded, "{name}");
    }
}

#[test]
fn a_raw_dump_is_not_anonymised_and_no_file_is_touched() {
    let folder = tempfile::tempdir().expect("a folder");
    let (new, old) = (folder.path().join("new"), file(&folder, "old", b"kept"));
    for to in [&new, &old] {
        let out =
            inspect(&[&shipped("loc-rtmpdump-live-play-client.bin"), "--anonymise", &to.to_string_lossy()]);
        assert_eq!(out.status.code(), Some(2));
        assert!(stderr(&out).contains("a raw dump has no addresses"), "{}", stderr(&out));
    }
    assert!(!new.exists(), "created");
    assert_eq!(std::fs::read(old).expect("it is there"), b"kept");
}

#[test]
fn packets_that_are_anonymised_to_zeros_are_counted() {
    let packet = Packet::new(0, 100, ACK, b"hello, world").ipv4();
    let fragment = |from: usize, to: usize| {
        let mut p = [&packet[..20], &packet[20 + from..20 + to]].concat();
        let more = if to < packet.len() - 20 { 0x20 } else { 0 };
        (p[3], p[6], p[7]) = (p.len() as u8, more, (from / 8) as u8);
        p
    };
    let udp = [&packet[..9], &[17], &packet[10..]].concat();
    let frames = [packet.clone(), fragment(0, 24), fragment(24, packet.len() - 20), udp];
    let folder = tempfile::tempdir().expect("a folder");
    let shown = folder.path().join("shown").to_string_lossy().into_owned();
    let said = |frames: &[Vec<u8>]| {
        let bytes = capture_gen::pcap_frames(101, frames.iter().map(|f| (&f[..], f.len())));
        let path = file(&folder, "any.pcap", &bytes);
        stderr(&inspect(&[&path.to_string_lossy(), "--anonymise", &shown]))
    };
    let lost = |what: &str| format!("rtmp-bench: {shown}: {what}\n");
    let what =
        "1 of 4 packets have only zeros behind their headers: 0 of datagrams not put together, 1 without TCP";
    assert_eq!(said(&frames), lost(what));
    let what =
        "2 of 3 packets have only zeros behind their headers: 1 of datagrams not put together, 1 without TCP";
    assert_eq!(said(&[&frames[..1], &frames[2..]].concat()), lost(what));
    assert_eq!(said(&frames[..3]), "", "nothing is lost");
    let again = |datagram: &[Vec<u8>]| [datagram, &datagram[1..], &datagram[1..]].concat();
    assert_eq!(said(&again(&frames[1..3])), "", "what comes again has the bytes that it had");
    let other = [&frames[2][..frames[2].len() - 1], b"D"].concat();
    let what =
        "1 of 3 packets have only zeros behind their headers: 1 of datagrams not put together, 0 without TCP";
    assert_eq!(said(&[&frames[1..3], &[other]].concat()), lost(what));
    let udp = [&frames[3][..20], &packet[20..]].concat();
    let parts = again(&capture_gen::fragments(&udp, 7, 16));
    let n = parts.len();
    let what = format!(
        "{n} of {n} packets have only zeros behind their headers: 0 of datagrams not put together, {n} without TCP"
    );
    assert_eq!(said(&parts), lost(&what));
}

#[test]
fn what_can_be_read_only_once_is_not_anonymised() {
    let folder = tempfile::tempdir().expect("a folder");
    let shown = folder.path().join("shown").display().to_string();
    let piped = |args: &[&str]| {
        let mut inspect = Command::new(env!("CARGO_BIN_EXE_rtmp-bench"))
            .args(["inspect", "/dev/stdin"])
            .args(args)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("rtmp-bench runs");
        let capture = std::fs::read(shipped("loc-ffmpeg-publish.pcapng")).expect("it is there");
        // Refused, it reads nothing of it.
        let _ = std::io::Write::write_all(&mut inspect.stdin.take().expect("stdin"), &capture);
        inspect.wait_with_output().expect("it ends")
    };
    let out = piped(&["--anonymise", &shown]);
    assert_eq!((out.status.code(), out.stdout.len()), (Some(2), 0), "{}", stderr(&out));
    assert!(stderr(&out).contains("/dev/stdin: it can be read only once"), "{}", stderr(&out));
    assert!(!Path::new(&shown).exists(), "written");
    let out = piped(&[]);
    assert!(out.status.success() && stdout(&out).contains("1 RTMP session"), "{}", stdout(&out));
}
