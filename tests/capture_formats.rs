//! File formats, link layers, tunnels and fragments: each brings the same two segments.

mod capture_gen;

use std::io::{Cursor, Write};
use std::ops::Range;

use capture_gen::{ACK, Packet, Random, SYN, pcap_frames};
use rtmp_bench::capture::frame::{Header, Headers, Unwrapper};
use rtmp_bench::capture::pcap::{Error, Reader, Source, source};

fn reader(bytes: Vec<u8>) -> Result<Reader, Error> {
    source(Box::new(Cursor::new(bytes))).map(|s| match s {
        Source::Packets(reader) => reader,
        Source::Raw(_) => panic!("taken for a raw dump"),
    })
}

struct Seen(Vec<(Header, Range<usize>)>);

impl Headers for Seen {
    fn header(&mut self, header: Header, at: Range<usize>) {
        self.0.push((header, at));
    }
}

/// Time in microseconds, payload and length on the wire.
type Part = (u64, Vec<u8>, usize);

/// Each segment, and why the file could not be read further.
fn segments(bytes: Vec<u8>) -> (Vec<Part>, Reader, Option<Error>) {
    let mut reader = reader(bytes).expect("a capture");
    let mut unwrapper = Unwrapper::default();
    let mut found = Vec::new();
    let error = loop {
        match reader.packet() {
            Ok(Some(packet)) => {
                found.extend(
                    unwrapper.segment(packet).map(|s| (s.time.as_micros(), s.payload.to_vec(), s.len)),
                );
            }
            Ok(None) => break None,
            Err(e) => break Some(e),
        }
    };
    (found, reader, error)
}

fn two() -> [Packet; 2] {
    [Packet::new(0, 99, SYN, &[]), Packet::new(0, 100, ACK, b"hello, world")]
}

fn payloads(link: u32, wrap: impl Fn(Vec<u8>) -> Vec<u8>) -> Vec<Vec<u8>> {
    let frames: Vec<_> = two().iter().map(|p| wrap(p.ipv4())).collect();
    let file = pcap_frames(link, frames.iter().map(|f| (&f[..], f.len())));
    is_anonymised_alike(&file);
    segments(file).0.into_iter().map(|s| s.1).collect()
}

/// Anonymised as it should be; no address and no payload is left.
fn is_anonymised_alike(file: &[u8]) {
    let shared = anonymised(file);
    for secret in [&b"ello"[..], &[3, 3, 3, 3], &[2, 2, 2, 2], &[9; 6], b"comment"] {
        assert!(!shared.windows(secret.len()).any(|w| w == secret), "{secret:02x?} is still there");
    }
}

/// The file anonymised: each packet as long, of the same interface, at the same nanosecond and with the same headers.
fn anonymised(file: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("any");
    std::fs::write(&path, file).expect("written");
    let mut shared = Vec::new();
    rtmp_bench::capture::anonymise::anonymise(&path, || Ok(&mut shared), || false).expect("anonymised");
    let read = |file: &[u8]| {
        let mut reader = reader(file.to_vec()).expect("a capture");
        let (mut unwrapper, mut all) = (Unwrapper::default(), Vec::new());
        while let Some(packet) = reader.packet().expect("a packet") {
            let (mut headers, p) = (Seen(Vec::new()), packet);
            let segment = unwrapper.segment_and_headers(packet, &mut headers);
            let tcp = segment.map(|s| (s.seq, s.ack, s.len, s.payload.len(), s.from.port(), s.to.port()));
            all.push((p.time, p.nanos, p.link, p.interface, p.data.len(), p.wire_len, headers.0, tcp));
        }
        (all, reader.facts().format, reader.facts().dropped)
    };
    assert_eq!(read(file), read(&shared));
    shared
}

fn before(head: &[u8]) -> impl Fn(Vec<u8>) -> Vec<u8> {
    move |ip| [head, &ip].concat()
}

const BOTH: [&[u8]; 2] = [b"", b"hello, world"];

#[test]
fn link_layers() {
    let mac = [9u8; 12];
    let ethernet = |tail: &[u8]| [&mac[..], tail].concat();
    for (name, link, head) in [
        ("Ethernet", 1, ethernet(&[8, 0])),
        ("802.1Q", 1, ethernet(&[0x81, 0, 0x20, 100, 8, 0])),
        ("QinQ", 1, ethernet(&[0x88, 0xa8, 0, 1, 0x81, 0, 0, 2, 8, 0])),
        ("QinQ of before 802.1ad", 1, ethernet(&[0x91, 0, 0, 1, 0x92, 0, 0, 2, 8, 0])),
        ("Linux cooked v1", 113, [&[0, 0, 0, 1, 0, 6][..], &[9; 6], &[0, 0, 8, 0]].concat()),
        ("Linux cooked v2", 276, [&[8, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 6][..], &[9; 6], &[0; 2]].concat()),
        ("NULL, little endian", 0, vec![2, 0, 0, 0]),
        ("NULL, big endian", 0, vec![0, 0, 0, 2]),
        ("LOOP", 108, vec![0, 0, 0, 2]),
        ("raw IP", 101, vec![]),
        ("raw IP as some systems number it", 12, vec![]),
        ("raw IP as OpenBSD numbers it", 14, vec![]),
        ("raw IPv4", 228, vec![]),
    ] {
        assert_eq!(payloads(link, before(&head)), BOTH, "{name}");
    }
    let head_of_six = |link: u32, head: &[u8]| {
        let frame = [head, &ipv6(6, &two()[1].tcp())].concat();
        segments(pcap_frames(link, [(&frame[..], frame.len())].into_iter())).0
    };
    for (name, link, head) in [
        ("Ethernet", 1, ethernet(&[0x86, 0xdd])),
        ("Linux cooked v1", 113, [&[0; 14][..], &[0x86, 0xdd]].concat()),
        ("Linux cooked v2", 276, [&[0x86, 0xdd][..], &[0; 18]].concat()),
        ("NULL", 0, vec![30, 0, 0, 0]),
        ("raw IPv6", 229, vec![]),
    ] {
        assert_eq!(head_of_six(link, &head)[0].1, b"hello, world", "{name} with IPv6");
    }
    assert!(payloads(105, before(&[0; 24])).is_empty(), "802.11 is not read");
    assert!(payloads(1, before(&ethernet(&[0x81, 0, 0, 1].repeat(9)))).is_empty(), "tags without end");
}

#[test]
fn other_protocols_are_anonymised_to_their_headers() {
    let ethernet = |kind: [u8; 2], body: &[u8]| [&[9; 12][..], &kind, body].concat();
    let ip = |protocol: u8, body: &[u8]| {
        let len = ((20 + body.len()) as u16).to_be_bytes();
        let head = [0x45, 0, len[0], len[1], 0, 1, 0, 0, 64, protocol, 0, 0, 3, 3, 3, 3, 2, 2, 2, 2];
        ethernet([8, 0], &[&head[..], body].concat())
    };
    let arp =
        [&[0, 1, 8, 0, 6, 4, 0, 1][..], &[9; 6], &[3, 3, 3, 3], &[9; 6], &[2, 2, 2, 2], b"hello"].concat();
    let options =
        [&[0, 80, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x80, 16, 1, 1, 0, 0, 0, 0][..], &[254, 8], b"hello", &[0]];
    let tcp = [&options.concat()[..], &[1, 3, 3, 7], b"hello"].concat();
    let six = ipv6(0, &[&[6, 0, 5, 2, b'h', b'e', b'l', b'l'][..], &tcp].concat());
    let frames = [
        ethernet([8, 6], &arp),
        ip(17, b"\0\x35\0\x35\0\x0d\x11\x11hello"),
        ip(1, b"\x08\0\x11\x11hello"),
        ip(50, b"hello"),
        ip(6, &tcp),
        ethernet([0x86, 0xdd], &six),
        ethernet([0x88, 0xcc], b"hello"),
    ];
    for len in 0..=frames[5].len() {
        let cut = frames.iter().map(|f| (&f[..f.len().min(len)], f.len()));
        is_anonymised_alike(&pcap_frames(1, cut));
    }
    for seed in 0..1000 {
        let mut r = Random::new(seed);
        let mut frames = frames.clone();
        for frame in &mut frames {
            let at = r.below(frame.len() as u64) as usize;
            frame[at] ^= 1 << r.below(8);
        }
        anonymised(&pcap_frames(1, frames.iter().map(|f| (&f[..], f.len()))));
    }
}

#[test]
fn padding_of_short_frames_is_no_payload() {
    assert_eq!(payloads(101, |ip| [&ip[..], &[0; 6]].concat()), BOTH);
}

#[test]
fn tunnels() {
    let udp = |port: u16, inner: &[u8]| {
        let mut p = vec![0x45, 0];
        p.extend(((28 + inner.len()) as u16).to_be_bytes());
        p.extend([0, 1, 0, 0, 64, 17, 0, 0, 3, 3, 3, 3, 2, 2, 2, 2]);
        p.extend(port.to_be_bytes());
        p.extend(port.to_be_bytes());
        p.extend(((8 + inner.len()) as u16).to_be_bytes());
        p.extend([0, 0]);
        p.extend(inner);
        p
    };
    let gtp = |flags: u8, options: &[u8], ip: &[u8]| {
        let len = ((options.len() + ip.len()) as u16).to_be_bytes();
        [&[flags, 255, len[0], len[1], 0, 0, 0, 7], options, ip].concat()
    };
    assert_eq!(payloads(101, |ip| udp(2152, &gtp(0x30, &[], &ip))), BOTH, "GTP-U");
    assert_eq!(
        payloads(101, |ip| udp(2152, &gtp(0x32, &[0, 9, 0, 0], &ip))),
        BOTH,
        "GTP-U with a sequence number"
    );
    let extended = [0, 0, 0, 0x85, 1, 0, 0, 0];
    assert_eq!(payloads(101, |ip| udp(2152, &gtp(0x34, &extended, &ip))), BOTH, "GTP-U with an extension");
    assert!(payloads(101, |ip| udp(2153, &gtp(0x30, &[], &ip))).is_empty(), "another port");
    let nested = |mut ip: Vec<u8>| {
        for _ in 0..9 {
            ip = udp(2152, &gtp(0x30, &[], &ip));
        }
        ip
    };
    assert!(payloads(101, nested).is_empty(), "nested without end");
}

/// An IPv6 header before `inner`.
fn ipv6(next: u8, inner: &[u8]) -> Vec<u8> {
    let mut p = vec![0x60, 0, 0, 0];
    p.extend((inner.len() as u16).to_be_bytes());
    p.extend([next, 64]);
    p.extend(
        [[0u8; 15], [0; 15]].concat().chunks(15).enumerate().flat_map(|(i, a)| [a, &[i as u8 + 1]].concat()),
    );
    p.extend(inner);
    p
}

#[test]
fn ipv6_extensions_and_fragments() {
    let [_, data] = two();
    let tcp = data.tcp();
    let hop_by_hop = [&[60, 0, 1, 4, 0, 0, 0, 0][..], &[6, 0, 1, 4, 0, 0, 0, 0], &tcp].concat();
    let fragment_of = |next: u8, offset: u16, more: u16, bytes: &[u8]| {
        let place = (offset | more).to_be_bytes();
        ipv6(44, &[&[next, 0, place[0], place[1], 0, 0, 0, 9], bytes].concat())
    };
    let fragment = |offset, more, bytes: &[u8]| fragment_of(6, offset, more, bytes);
    let options = [&[43, 0, 1, 4, 0, 0, 0, 0][..], &[6, 0, 0, 0, 0, 0, 0, 0], &tcp].concat();
    for (name, frames) in [
        (
            "fragments of options, a routing header and what follows",
            vec![fragment_of(60, 0, 1, &options[..24]), fragment_of(60, 24, 0, &options[24..])],
        ),
        ("plain", vec![ipv6(6, &tcp)]),
        ("hop by hop and destination options", vec![ipv6(0, &hop_by_hop)]),
        ("fragments", vec![fragment(0, 1, &tcp[..16]), fragment(16, 0, &tcp[16..])]),
        ("fragments, the last first", vec![fragment(16, 0, &tcp[16..]), fragment(0, 1, &tcp[..16])]),
    ] {
        let file = pcap_frames(229, frames.iter().map(|f| (&f[..], f.len())));
        let shared = anonymised(&file);
        assert!(!shared.windows(4).any(|w| w == b"ello"), "{name}");
        let (found, ..) = segments(file);
        assert_eq!(found.iter().map(|s| &s.1[..]).collect::<Vec<_>>(), [b"hello, world"], "{name}");
    }
}

#[test]
fn ipv4_fragments() {
    let [_, data] = two();
    let whole = data.ipv4();
    let fragment = |from: usize, to: usize, id: u8| {
        let mut p = whole[..20].to_vec();
        let more = if to < whole.len() - 20 { 0x20 } else { 0 };
        (p[2], p[3]) = (0, (20 + to - from) as u8);
        (p[5], p[6], p[7]) = (id, more, (from / 8) as u8);
        p.extend(&whole[20 + from..20 + to]);
        p
    };
    let len = whole.len() - 20;
    // The second datagram's fragments stand between those of the first; a third one is never whole.
    let frames = [
        fragment(0, 8, 1),
        fragment(0, 24, 3),
        fragment(0, 16, 2),
        fragment(24, len, 1),
        fragment(16, len, 2),
        fragment(8, 24, 1),
    ];
    let (found, ..) = segments(pcap_frames(101, frames.iter().map(|f| (&f[..], f.len()))));
    assert_eq!(found.iter().map(|s| &s.1[..]).collect::<Vec<_>>(), [b"hello, world"; 2]);
}

#[test]
fn fragments_that_lie_apart_are_of_two_datagrams() {
    let of = |text: &[u8]| capture_gen::fragments(&Packet::new(0, 100, ACK, text).ipv4(), 7, 24);
    let (early, late) = (of(b"first words"), of(b"other words"));
    // The second half of the first never comes; the other has its number.
    let found = |seconds: u32| {
        let mut file = pcap_frames(
            101,
            [&early[0], &late[1], &late[0], &late[1]].map(|f| (&f[..], f.len())).into_iter(),
        );
        // Behind the file's header and the first packet, the seconds of each that follows.
        let mut at = 24 + 16 + early[0].len();
        for fragment in [&late[1], &late[0], &late[1]] {
            file[at..at + 4].copy_from_slice(&(1_700_000_000 + seconds).to_le_bytes());
            at += 16 + fragment.len();
        }
        segments(file).0.into_iter().map(|s| s.1).collect::<Vec<_>>()
    };
    assert_eq!(found(61), [b"other words"]);
    // Within a minute they are of one, as any receiver takes them.
    assert_eq!(found(59), [b"firsr words", b"other words"]);
}

#[test]
fn fragments_of_any_kind_are_anonymised_alike() {
    let mut segments = 0;
    for seed in 0..2000 {
        let mut r = Random::new(seed);
        let mut frames = Vec::new();
        for id in 1..4 {
            // Some sizes twice over one another, some with other bytes, some cut.
            for _ in 0..=r.below(2) {
                let text = r.bytes(60);
                let ip = Packet::new(0, 100 * id, ACK, &text).ipv4();
                let size = 8 * (1 + r.below(6) as usize);
                frames.extend(capture_gen::fragments(&ip, id.min(2), size));
            }
        }
        for _ in 0..r.below(8) {
            let (a, b) = (r.below(frames.len() as u64) as usize, r.below(frames.len() as u64) as usize);
            frames.swap(a, b);
        }
        if r.chance(30) {
            let again = frames[r.below(frames.len() as u64) as usize].clone();
            frames.push(again);
        }
        let cut = if r.chance(20) { r.below(frames.len() as u64) as usize } else { frames.len() };
        let kept = |i: usize, f: &[u8]| f.len() - if i == cut { 3.min(f.len() - 21) } else { 0 };
        let file = pcap_frames(101, frames.iter().enumerate().map(|(i, f)| (&f[..kept(i, f)], f.len())));
        anonymised(&file);
        segments += self::segments(file).0.len();
    }
    assert!(segments > 4000, "{segments} datagrams became whole");
}

#[test]
fn segmentation_offload_without_a_length() {
    let big = |ip: Vec<u8>| {
        let mut ip = ip;
        (ip[2], ip[3]) = (0, 0);
        ip
    };
    assert_eq!(payloads(101, big), BOTH);
}

#[test]
fn cut_packets_keep_their_length() {
    let frames: Vec<_> = two().iter().map(Packet::ipv4).collect();
    let cut = |len: usize| pcap_frames(101, frames.iter().map(|f| (&f[..f.len().min(len)], f.len())));
    (0..60).for_each(|len| is_anonymised_alike(&cut(len)));
    let (found, ..) = segments(cut(45));
    assert_eq!(found.iter().map(|s| (s.1.len(), s.2)).collect::<Vec<_>>(), [(0, 0), (5, 12)]);
}

/// A pcap header and one packet, by hand.
fn classic(big_endian: bool, magic: u32, fraction: u32) -> Vec<u8> {
    let word = |n: u32| if big_endian { n.to_be_bytes() } else { n.to_le_bytes() };
    let half = |n: u16| if big_endian { n.to_be_bytes() } else { n.to_le_bytes() };
    let ip = two()[1].ipv4();
    let len = ip.len() as u32;
    let mut out =
        [&word(magic)[..], &half(2), &half(4), &word(0), &word(0), &word(65535), &word(101)].concat();
    out.extend([word(1_700_000_000), word(fraction), word(len), word(len)].concat());
    out.extend(ip);
    out
}

#[test]
fn pcap_of_either_resolution_and_byte_order() {
    for (big_endian, magic, fraction) in [
        (false, 0xa1b2_c3d4, 250_000),
        (true, 0xa1b2_c3d4, 250_000),
        (false, 0xa1b2_3c4d, 250_000_999),
        (true, 0xa1b2_3c4d, 250_000_999),
    ] {
        is_anonymised_alike(&classic(big_endian, magic, fraction));
        let (found, .., error) = segments(classic(big_endian, magic, fraction));
        assert_eq!(found, [(1_700_000_000_250_000, b"hello, world".to_vec(), 12)], "{big_endian} {magic:x}");
        assert!(error.is_none());
    }
}

/// pcapng blocks in one byte order.
struct Ng {
    big_endian: bool,
    out: Vec<u8>,
}

impl Ng {
    fn word(&self, n: u32) -> [u8; 4] {
        if self.big_endian { n.to_be_bytes() } else { n.to_le_bytes() }
    }

    fn half(&self, n: u16) -> [u8; 2] {
        if self.big_endian { n.to_be_bytes() } else { n.to_le_bytes() }
    }

    fn long(&self, n: u64) -> [u8; 8] {
        if self.big_endian { n.to_be_bytes() } else { n.to_le_bytes() }
    }

    fn block(&mut self, kind: u32, body: &[u8]) {
        let padded = body.len().next_multiple_of(4);
        let len = self.word(12 + padded as u32);
        let block = [&self.word(kind)[..], &len, body, &vec![0; padded - body.len()], &len].concat();
        self.out.extend(block);
    }

    fn option(&self, code: u16, value: &[u8]) -> Vec<u8> {
        let padding = vec![0; value.len().next_multiple_of(4) - value.len()];
        [&self.half(code)[..], &self.half(value.len() as u16), value, &padding].concat()
    }

    fn section(&mut self) {
        let body = [
            &self.word(0x1a2b_3c4d)[..],
            &self.half(1),
            &self.half(0),
            &[0xff; 8],
            &self.option(1, b"a comment"),
        ]
        .concat();
        self.block(0x0a0d_0d0a, &body);
    }

    fn interface(&mut self, link: u16, resolution: u8, offset: u64) {
        let options = [self.option(9, &[resolution]), self.option(14, &self.long(offset))].concat();
        let body = [&self.half(link)[..], &[0, 0], &self.word(0), &options].concat();
        self.block(1, &body);
    }

    fn packet(&mut self, interface: u32, time: u64, frame: &[u8]) {
        let len = self.word(frame.len() as u32);
        let padding = vec![0; frame.len().next_multiple_of(4) - frame.len()];
        let head =
            [self.word(interface), self.word((time >> 32) as u32), self.word(time as u32), len, len].concat();
        self.block(6, &[&head[..], frame, &padding].concat());
    }

    fn obsolete_packet(&mut self, interface: u16, time: u64, frame: &[u8]) {
        let len = self.word(frame.len() as u32);
        let place = [self.half(interface), self.half(7)].concat();
        let head = [self.word((time >> 32) as u32), self.word(time as u32), len, len].concat();
        self.block(2, &[&place[..], &head, frame].concat());
    }

    fn statistics(&mut self, interface: u32, dropped: u64) {
        let body = [&self.word(interface)[..], &[0; 8], &self.option(5, &self.long(dropped))].concat();
        self.block(5, &body);
    }
}

/// Sections of the byte orders given; interfaces of their own link types and resolutions.
fn pcapng(orders: &[bool]) -> Vec<u8> {
    let ip = two()[1].ipv4();
    let mut ng = Ng { big_endian: false, out: Vec::new() };
    for &big_endian in orders {
        ng.big_endian = big_endian;
        ng.section();
        ng.interface(101, 6, 0);
        ng.interface(1, 9, 10);
        ng.interface(113, 0x80 | 10, 0);
        ng.packet(0, 5_000_001, &ip);
        ng.block(0x0bad, b"a block nobody knows");
        ng.packet(1, 5_000_002_999, &[&[0; 12][..], &[8, 0], &ip].concat());
        ng.packet(2, 5 << 10 | 512, &[&[0; 14][..], &[8, 0], &ip].concat());
        ng.obsolete_packet(1, 5_000_003_999, &[&[0; 12][..], &[8, 0], &ip].concat());
        ng.statistics(1, 3);
        ng.statistics(1, 4);
        ng.block(3, &[&ng.word(ip.len() as u32)[..], &ip].concat());
    }
    ng.out
}

#[test]
fn pcapng_of_either_byte_order() {
    for orders in [[false, false, false], [true, true, true], [false, true, false], [true, false, true]] {
        is_anonymised_alike(&pcapng(&orders));
        let (found, reader, error) = segments(pcapng(&orders));
        assert!(error.is_none(), "{orders:?}: {error:?}");
        let times: Vec<_> = found.iter().map(|s| s.0).collect();
        let section = [5_000_001, 15_000_002, 5_500_000, 15_000_003, 0];
        assert_eq!(times, [section; 3].concat(), "{orders:?}");
        assert!(found.iter().all(|s| s.1 == b"hello, world"), "{orders:?}");
        let facts = reader.facts();
        assert_eq!(
            (facts.format, facts.interfaces, facts.packets, facts.dropped),
            ("pcapng", 9, 15, 12),
            "{orders:?}"
        );
        assert_eq!(facts.comments, ["a comment"; 3]);
    }
}

#[test]
fn obsolete_packet_blocks_that_are_wrong() {
    let with = |block: &[u8]| {
        let mut ng = Ng { big_endian: false, out: Vec::new() };
        ng.section();
        ng.interface(101, 6, 0);
        ng.block(2, block);
        segments(ng.out).2.map(|e| e.to_string()).unwrap_or_default()
    };
    assert!(with(&[0; 16]).ends_with("a packet block shorter than its fields"), "{}", with(&[0; 16]));
    let none = [&[5, 0][..], &[0; 18]].concat();
    assert!(with(&none).ends_with("a packet of interface 5, where 1 are described"), "{}", with(&none));
    let long = with(&[&[0; 12][..], &[255; 4], &[0; 4]].concat());
    assert!(long.ends_with("a packet of 4294967295 bytes in a block that has room for 0"), "{long}");
}

#[test]
fn secrets_in_comments_are_masked() {
    let mut ng = Ng { big_endian: false, out: Vec::new() };
    ng.section();
    let options = ng.option(1, b"taken with password=hunter2 at night");
    ng.block(1, &[&ng.half(101)[..], &[0, 0], &ng.word(0), &options].concat());
    for (show, said) in
        [(false, "taken with password=*** at night"), (true, "taken with password=hunter2 at night")]
    {
        let opened = source(Box::new(Cursor::new(ng.out.clone())));
        let found =
            rtmp_bench::capture::read_source(opened.expect("a capture"), show, &mut ()).expect("read");
        assert_eq!(found.comments, ["a comment", said]);
    }
}

#[test]
fn gzip() {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&pcapng(&[false, true])).expect("into memory");
    let (found, .., error) = segments(gz.finish().expect("into memory"));
    assert_eq!((found.len(), error.is_none()), (10, true));
}

#[test]
fn what_is_no_capture_is_refused() {
    for (bytes, says) in [
        (&b""[..], "not a capture: begins with nothing, it is empty"),
        (b"GIF89a", "not a capture: begins with 47 49 46 38 39 61; expected pcap, pcapng"),
        (b"\xd4\xc3\xb2\xa1\x02", "at byte 0: the pcap header is cut"),
        (b"\x0a\x0d\x0d\x0a\x1c\0\0\0", "at byte 0: the pcapng section header is cut or broken"),
    ] {
        let error = reader(bytes.to_vec()).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.starts_with(says), "{error}");
    }
}

#[test]
fn damage_is_told_with_its_place() {
    let whole = pcapng(&[false, false]);
    let cut = whole[..whole.len() - 3].to_vec();
    let (found, .., error) = segments(cut);
    let last = whole.len() - 12 - 4 - 52;
    assert_eq!(found.len(), 9);
    assert_eq!(
        error.map(|e| e.to_string()).unwrap_or_default(),
        format!("at byte {last}: the file ends inside a record, 65 bytes of it are there")
    );

    // A packet that says it is longer than its block.
    let mut lies = whole.clone();
    let at = whole.windows(8).position(|w| w == [6, 0, 0, 0, 84, 0, 0, 0]).expect("a packet");
    lies[at + 20..at + 24].copy_from_slice(&60_000u32.to_le_bytes());
    let (found, .., error) = segments(lies);
    assert_eq!(found.len(), 0);
    let says = error.map(|e| e.to_string()).unwrap_or_default();
    assert_eq!(says, format!("at byte {at}: a block whose lengths or fields contradict each other"));

    // A record longer than any.
    let mut huge = classic(false, 0xa1b2_c3d4, 0);
    huge[24 + 8..24 + 12].copy_from_slice(&u32::MAX.to_le_bytes());
    huge.resize(20 << 20, 0);
    let (.., error) = segments(huge);
    assert_eq!(
        error.map(|e| e.to_string()).unwrap_or_default(),
        "at byte 24: a record longer than 16777216 bytes"
    );
}
