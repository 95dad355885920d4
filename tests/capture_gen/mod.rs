//! Captures made from seeds: packets with the faults of real networks and real capturing, written as pcap.
#![allow(missing_docs, dead_code, reason = "each test binary uses a part of it")]

use std::collections::{BTreeMap, BTreeSet};

/// A small generator of numbers, the same on every machine (xorshift64*).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n.max(1)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

pub const SYN: u8 = 0x02;
pub const ACK: u8 = 0x10;
pub const FIN: u8 = 0x01;
pub const RST: u8 = 0x04;

/// A TCP segment between 10.0.0.1:40000 (side 0) and 10.0.0.2:1935 (side 1).
#[derive(Clone)]
pub struct Packet {
    pub side: usize,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub payload: Vec<u8>,
    /// Bytes of the payload that the capture kept.
    pub kept: usize,
}

impl Packet {
    pub fn new(side: usize, seq: u32, flags: u8, payload: &[u8]) -> Packet {
        Packet { side, seq, ack: 0, flags, payload: payload.to_vec(), kept: payload.len() }
    }

    /// The IPv4 packet.
    pub fn ipv4(&self) -> Vec<u8> {
        let mut p = vec![0x45, 0];
        p.extend(((40 + self.payload.len()) as u16).to_be_bytes());
        p.extend([0, 1, 0, 0, 64, 6, 0, 0]);
        let ends = [[10, 0, 0, 1], [10, 0, 0, 2]];
        p.extend(ends[self.side]);
        p.extend(ends[1 - self.side]);
        p.extend(self.tcp());
        p
    }

    /// The TCP header and payload.
    pub fn tcp(&self) -> Vec<u8> {
        let ports = [40000u16, 1935];
        let mut p = ports[self.side].to_be_bytes().to_vec();
        p.extend(ports[1 - self.side].to_be_bytes());
        p.extend(self.seq.to_be_bytes());
        p.extend(self.ack.to_be_bytes());
        p.extend([0x50, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        p.extend(&self.payload);
        p
    }
}

/// A classic pcap (microseconds, little endian) of raw IP packets, one each millisecond.
pub fn pcap(packets: &[Packet]) -> Vec<u8> {
    let frames: Vec<_> = packets.iter().map(|p| (p.ipv4(), p.payload.len() - p.kept)).collect();
    pcap_frames(101, frames.iter().map(|(f, cut)| (&f[..f.len() - cut], f.len())))
}

/// A classic pcap of any frames: their bytes and their length on the wire.
pub fn pcap_frames<'a>(link: u32, frames: impl Iterator<Item = (&'a [u8], usize)>) -> Vec<u8> {
    let mut out = 0xa1b2_c3d4u32.to_le_bytes().to_vec();
    out.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    out.extend(0x4_0000u32.to_le_bytes());
    out.extend(link.to_le_bytes());
    for (i, (frame, wire_len)) in frames.enumerate() {
        let time = [1_700_000_000 + i as u32 / 1000, i as u32 % 1000 * 1000];
        for word in [time[0], time[1], frame.len() as u32, wire_len as u32] {
            out.extend(word.to_le_bytes());
        }
        out.extend(frame);
    }
    out
}

/// The IP packet in fragments of at most `size` bytes (a multiple of 8) behind their headers, all with this id.
pub fn fragments(ip: &[u8], id: u32, size: usize) -> Vec<Vec<u8>> {
    let six = ip[0] >> 4 == 6;
    let (head, body) = ip.split_at(if six { 40 } else { usize::from(ip[0] & 15) * 4 });
    let piece = |(i, piece): (usize, &[u8])| {
        let (more, offset) = (i * size + piece.len() < body.len(), (i * size) as u16);
        if six {
            let place = (offset | u16::from(more)).to_be_bytes();
            let fragment = [&[head[6], 0, place[0], place[1]][..], &id.to_be_bytes(), piece].concat();
            let mut p = [head, &fragment].concat();
            p[4..6].copy_from_slice(&(fragment.len() as u16).to_be_bytes());
            p[6] = 44;
            return p;
        }
        let mut p = [head, piece].concat();
        let len = p.len() as u16;
        p[2..4].copy_from_slice(&len.to_be_bytes());
        p[4..6].copy_from_slice(&(id as u16).to_be_bytes());
        p[6..8].copy_from_slice(&((offset / 8) | if more { 0x2000 } else { 0 }).to_be_bytes());
        with_checksum(p)
    };
    body.chunks(size).enumerate().map(piece).collect()
}

/// GTP-U over UDP and IPv6 with its checksum, or over IPv4 without, around an IP packet.
pub fn in_gtp(ip: &[u8], six: bool) -> Vec<u8> {
    let gtp = [&[0x30, 255][..], &(ip.len() as u16).to_be_bytes(), &[0, 0, 0, 7], ip].concat();
    let len = (8 + gtp.len()) as u16;
    let mut udp =
        [&2152u16.to_be_bytes()[..], &2152u16.to_be_bytes(), &len.to_be_bytes(), &[0, 0], &gtp].concat();
    if !six {
        let mut p = vec![0x45, 0];
        p.extend((20 + len).to_be_bytes());
        p.extend([0, 1, 0, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
        return with_checksum([p, udp].concat());
    }
    let ends = [[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 3]; 2].concat();
    let pseudo = [&ends[..], &u32::from(len).to_be_bytes(), &[0, 0, 0, 17], &udp].concat();
    udp[6..8].copy_from_slice(&checksum(&pseudo));
    [&[0x60, 0, 0, 0][..], &len.to_be_bytes(), &[17, 64], &ends, &udp].concat()
}

/// An IPv4 packet with the checksum of its header.
fn with_checksum(mut ip: Vec<u8>) -> Vec<u8> {
    ip[10..12].fill(0);
    let sum = checksum(&ip[..usize::from(ip[0] & 15) * 4]);
    ip[10..12].copy_from_slice(&sum);
    ip
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let sum: u32 = bytes.chunks(2).map(word).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    (!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes()
}

/// One generated connection, and what a byte map of its packets holds.
#[derive(Default)]
pub struct Case {
    pub packets: Vec<Packet>,
    pub syn: bool,
    /// By direction: place -> byte, from the lowest place.
    pub bytes: [BTreeMap<u64, u8>; 2],
    pub conflicts: bool,
    /// By direction: for each byte, in the order of the places, the packet that brought it.
    pub brought: [Vec<usize>; 2],
    /// By direction: places whose copies differ.
    pub contested: [BTreeSet<u64>; 2],
    /// The sequence number of the lowest place of each direction.
    pub lowest: [u32; 2],
}

impl Case {
    /// Whether no byte of the direction stands before this packet.
    pub fn is_lowest(&self, side: usize, packet: &Packet) -> bool {
        packet.seq == self.lowest[side]
    }
}

/// A connection with disorder, repeats, overlaps, loss, wrap and keep-alives, as the seed says.
pub fn case(seed: u64) -> Case {
    let mut r = Random::new(seed);
    let syn = !r.chance(25);
    let (loss, disorder, repeat, overlap) =
        (r.below(4) * 2, r.below(3) * 10, r.below(3) * 5, r.below(3) * 10);
    let conflicts = r.chance(20);
    // A third of the sequence numbers wrap on the way.
    let mut isn = [r.next() as u32, r.next() as u32];
    if r.chance(33) {
        isn = isn.map(|n| 0u32.wrapping_sub(n % 4000));
    }
    let mut packets = Vec::new();
    if syn {
        packets.push(Packet::new(0, isn[0], SYN, &[]));
        packets.push(Packet { ack: isn[0].wrapping_add(1), ..Packet::new(1, isn[1], SYN | ACK, &[]) });
    }
    let data = [r.below(12_000) as usize + 100, r.below(12_000) as usize + 100].map(|n| r.bytes(n));
    let mut sent = [0usize; 2];
    while (0..2).any(|s| sent[s] < data[s].len()) {
        let side = r.below(2) as usize;
        let (all, at) = (&data[side], sent[side]);
        if at == all.len() {
            continue;
        }
        let len = (r.below(1400) as usize + 60).min(all.len() - at);
        sent[side] += len;
        let seq = |place: usize| seq_of(isn[side], place);
        if at > 0 && r.chance(3) {
            // Some keep-alives carry a byte of any value; told apart from data only where it stands right behind it.
            let any = if disorder + loss + overlap == 0 { 0 } else { all[at - 1] };
            packets.push(Packet::new(side, seq(at - 1), ACK, &[any]));
        }
        if !r.chance(loss) {
            packets.push(Packet::new(side, seq(at), ACK, &all[at..at + len]));
        }
        if r.chance(repeat) {
            packets.push(Packet::new(side, seq(at), ACK, &all[at..at + len]));
        }
        if r.chance(overlap) {
            let from = at.saturating_sub(r.below(900) as usize);
            let to = (at + len + r.below(900) as usize).min(all.len());
            let mut again = all[from..to].to_vec();
            if conflicts {
                let i = r.below(again.len() as u64) as usize;
                again[i] ^= 0x55;
            }
            packets.push(Packet::new(side, seq(from), ACK, &again));
        }
    }
    for i in 2..packets.len() {
        if r.chance(disorder) {
            let to = (i + 1 + r.below(6) as usize).min(packets.len() - 1);
            packets[i..=to].rotate_left(1);
        }
    }
    if r.chance(60) {
        for side in 0..2 {
            packets.push(Packet::new(side, seq_of(isn[side], data[side].len()), FIN | ACK, &[]));
        }
    }
    packets.extend([0, 1].map(|side| Packet::new(side, seq_of(isn[side], data[side].len()), ACK, &[])));
    acknowledge(&mut packets, isn);
    byte_map(packets, isn, syn, conflicts)
}

fn seq_of(isn: u32, place: usize) -> u32 {
    isn.wrapping_add(1).wrapping_add(place as u32)
}

/// Each packet acknowledges what came before it in the file, and what the capture lost among that.
fn acknowledge(packets: &mut [Packet], isn: [u32; 2]) {
    for (side, isn) in isn.into_iter().enumerate() {
        let (first, _) = first_copies(packets, side, isn);
        let mut ahead = first.iter().enumerate().filter_map(|(at, f)| f.map(|(_, i)| (at, i))).peekable();
        let mut acked = 0;
        for (i, p) in packets.iter_mut().enumerate().filter(|(_, p)| p.side != side) {
            while let Some((at, _)) = ahead.next_if(|(_, first)| *first < i) {
                acked = at + 1;
            }
            p.ack = seq_of(isn, acked);
        }
    }
}

/// By place, the first copy of a byte and the packet that brought it; and the places where other copies differ.
type Copies = (Vec<Option<(u8, usize)>>, BTreeSet<usize>);

fn first_copies(packets: &[Packet], side: usize, isn: u32) -> Copies {
    let (mut first, mut contested) = (Vec::new(), BTreeSet::new());
    for (i, p) in packets.iter().enumerate().filter(|(_, p)| p.side == side && p.kept > 0) {
        let from = p.seq.wrapping_sub(seq_of(isn, 0)) as usize;
        first.resize(first.len().max(from + p.kept), None);
        for (at, byte) in (from..).zip(&p.payload[..p.kept]) {
            if first[at].get_or_insert((*byte, i)).0 != *byte {
                contested.insert(at);
            }
        }
    }
    (first, contested)
}

/// The naive way: each byte at its place, the first copy counts, keep-alive bytes are none.
fn byte_map(packets: Vec<Packet>, isn: [u32; 2], syn: bool, conflicts: bool) -> Case {
    let mut case = Case { packets, syn, conflicts, ..Case::default() };
    for (side, isn) in isn.into_iter().enumerate() {
        let (first, contested) = first_copies(&case.packets, side, isn);
        let least = first.iter().position(Option::is_some).filter(|_| !syn).unwrap_or(0);
        let place = |at: usize| (at - least) as u64;
        let all = || first.iter().enumerate().filter_map(|(at, f)| f.map(|(byte, i)| (place(at), byte, i)));
        case.lowest[side] = seq_of(isn, least);
        case.bytes[side] = all().map(|(at, byte, _)| (at, byte)).collect();
        case.brought[side] = all().map(|(.., i)| i).collect();
        case.contested[side] = contested.into_iter().map(place).collect();
    }
    case
}
