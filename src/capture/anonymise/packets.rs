//! Packets with the headers they had, other addresses in them, and other bytes behind them.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::io::{self, Write};
use std::ops::Range;

use etherparse::{IpNumber, ip_number};

use crate::capture::frame::{Header, Headers, Piece, extension_len};
use crate::capture::pcap::{FileFacts, Packet};
use crate::capture::write::Blocks;

/// The longest packet that the header of a pcap announces, in bytes; longer ones are written all the same.
const SNAPLEN: u32 = 0x4_0000;

/// Headers, each where it stands.
pub type Found = Vec<(Header, Range<usize>)>;

/// What stands where in a packet.
#[derive(Default)]
pub struct Layout {
    /// Its headers.
    pub headers: Found,
    /// Where it is a fragment: the place of its bytes, if it is used.
    pub fragment: Option<Option<Piece>>,
    /// The datagram that it made whole.
    pub whole: Option<Whole>,
}

/// A datagram that came in fragments, without its IP header.
pub struct Whole {
    /// Its number.
    pub datagram: u64,
    bytes: Vec<u8>,
    headers: Found,
}

impl Headers for Layout {
    fn header(&mut self, header: Header, at: Range<usize>) {
        self.whole.as_mut().map_or(&mut self.headers, |whole| &mut whole.headers).push((header, at));
    }

    fn fragment(&mut self, piece: Option<Piece>) {
        self.fragment = Some(piece);
    }

    fn whole(&mut self, datagram: u64, bytes: &[u8]) {
        self.whole = Some(Whole { datagram, bytes: bytes.to_vec(), headers: Found::new() });
    }
}

/// What is to stand behind a TCP header.
#[derive(Default)]
pub struct Payload {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether the capture has all of it.
    pub complete: bool,
}

/// Whether the last of these is TCP's.
pub fn end_in_tcp(headers: &Found) -> bool {
    matches!(headers.last(), Some((Header::Tcp, _)))
}

/// Addresses, numbered in the order of their first packets.
#[derive(Debug, Default)]
pub struct Masks {
    hardware: Numbers<[u8; 6]>,
    ipv4: Numbers<[u8; 4]>,
    ipv6: Numbers<[u8; 16]>,
}

#[derive(Debug)]
struct Numbers<T>(HashMap<T, u32>);

impl<T> Default for Numbers<T> {
    fn default() -> Numbers<T> {
        Numbers(HashMap::new())
    }
}

impl<T: Eq + Hash> Numbers<T> {
    fn of(&mut self, address: T) -> [u8; 4] {
        let next = self.0.len() as u32 + 1;
        self.0.entry(address).or_insert(next).to_be_bytes()
    }
}

impl Masks {
    /// A packet of the same length: its headers, then, where the last of them is TCP's, `payload`. All else is zeros.
    pub fn packet(&mut self, data: &[u8], headers: &Found, payload: &Payload) -> Vec<u8> {
        self.bytes(data, headers, payload, &[])
    }

    /// The same of a datagram that came in fragments; and whether it has TCP. `last`: the fragment that made it whole, as it is written.
    pub fn datagram(&mut self, layout: &Layout, payload: &Payload, last: &[u8]) -> Option<(Vec<u8>, bool)> {
        let whole = layout.whole.as_ref()?;
        let addresses = addresses(last, &layout.headers);
        let bytes = self.bytes(&whole.bytes, &whole.headers, payload, &addresses);
        Some((bytes, end_in_tcp(&whole.headers)))
    }

    /// `addresses`: those of an IP header that is not among the headers.
    fn bytes(&mut self, data: &[u8], headers: &Found, payload: &Payload, addresses: &[u8]) -> Vec<u8> {
        let mut out = vec![0; data.len()];
        let mut next = 0;
        for (header, at) in headers {
            let at = at.start.min(data.len())..at.end.min(data.len());
            let (from, to) = (&data[at.clone()], &mut out[at]);
            self.header(*header, next, from, to);
            next = from.get(6).copied().unwrap_or(0);
        }
        if let Some((Header::Tcp, at)) = headers.last() {
            let room = out.get_mut(at.end..).unwrap_or_default();
            let len = room.len().min(payload.bytes.len());
            room[..len].copy_from_slice(&payload.bytes[..len]);
        }
        checksums(&mut out, headers, payload, addresses);
        out
    }

    /// `next`: the type of the first extension, where the header is those of IPv6.
    fn header(&mut self, header: Header, next: u8, from: &[u8], to: &mut [u8]) {
        match header {
            Header::Tag | Header::Family | Header::Icmp => keep(from, to, 0..from.len()),
            Header::Ethernet => {
                keep(from, to, 12..14);
                self.hardware(from, to, 0);
                self.hardware(from, to, 6);
            }
            Header::CookedV1 => {
                keep(from, to, 0..6);
                keep(from, to, 14..16);
                self.hardware(from, to, 6);
            }
            Header::CookedV2 => {
                keep(from, to, 0..12);
                self.hardware(from, to, 12);
            }
            Header::Arp => self.arp(from, to),
            Header::Ipv4 => self.ipv4_header(from, to),
            Header::Ipv6 => {
                keep(from, to, 0..8);
                self.ipv6(from, to, 8);
                self.ipv6(from, to, 24);
            }
            Header::Extensions => extensions(next, from, to),
            Header::Tcp => tcp(from, to),
            Header::Udp => keep(from, to, 0..8),
            Header::GtpU => gtp(from, to),
        }
    }

    /// A hardware address, locally administered; none stays none, and a group stays a group.
    fn hardware(&mut self, from: &[u8], to: &mut [u8], at: usize) {
        let (Some(from), Some(to)) = (chunk::<6>(from, at), to.get_mut(at..at + 6)) else { return };
        if *from != [0; 6] {
            let [_, a, b, c] = self.hardware.of(*from);
            to.copy_from_slice(&[2 | (from[0] & 1), 0, 0, a, b, c]);
        }
    }

    fn ipv4(&mut self, from: &[u8], to: &mut [u8], at: usize) {
        let (Some(from), Some(to)) = (chunk::<4>(from, at), to.get_mut(at..at + 4)) else { return };
        let [_, a, b, c] = self.ipv4.of(*from);
        to.copy_from_slice(&[10, a, b, c]);
    }

    fn ipv6(&mut self, from: &[u8], to: &mut [u8], at: usize) {
        let (Some(from), Some(to)) = (chunk::<16>(from, at), to.get_mut(at..at + 16)) else {
            return;
        };
        to[0] = 0xfd;
        to[12..].copy_from_slice(&self.ipv6.of(*from));
    }

    fn arp(&mut self, from: &[u8], to: &mut [u8]) {
        keep(from, to, 0..8);
        // rfc 826: lengths of hardware and protocol addresses; sender and target.
        if let Some([6, 4]) = from.get(4..6)
            && from.len() >= 28
        {
            for at in [8, 18] {
                self.hardware(from, to, at);
                self.ipv4(from, to, at + 6);
            }
        }
    }

    /// Its options may name addresses: they become the end of options.
    fn ipv4_header(&mut self, from: &[u8], to: &mut [u8]) {
        keep(from, to, 0..10);
        self.ipv4(from, to, 12);
        self.ipv4(from, to, 16);
        let sum = checksum(&[to]);
        to[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Makes those of TCP and UDP again, the inner ones first; 0 where a part is missing of what they are of. UDP may have none.
pub fn checksums(out: &mut [u8], headers: &Found, payload: &Payload, outside: &[u8]) {
    for (i, (header, at)) in headers.iter().enumerate().rev() {
        let at = at.start;
        let (protocol, place, len) = match (header, out.get(at..at + 8)) {
            (Header::Tcp, _) => {
                (6, at + 16, payload.complete.then(|| headers[i].1.len() + payload.bytes.len()))
            }
            (Header::Udp, Some(&[_, _, _, _, a, b, c, d])) if (c, d) != (0, 0) => {
                (17, at + 6, Some(usize::from(u16::from_be_bytes([a, b]).max(8))))
            }
            _ => continue,
        };
        let inside = addresses(out, &headers[..i]);
        let addresses = if inside.is_empty() { outside } else { &inside };
        out.get_mut(place..place + 2).unwrap_or_default().fill(0);
        let Some(covered) = len.and_then(|len| out.get(at..at + len)) else { continue };
        let [_, a, b, c] = (covered.len() as u32).to_be_bytes();
        // rfc 9293 3.1, rfc 8200 8.1: in both pseudo headers the same numbers stand.
        let sum = checksum(&[addresses, &[0, a, b, c, 0, protocol], covered]);
        // rfc 768: a sum of 0 is sent as all ones.
        let sum = if sum == 0 && protocol == 17 { !0 } else { sum };
        out[place..place + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

/// The addresses in the last IP header of these.
fn addresses(bytes: &[u8], headers: &[(Header, Range<usize>)]) -> Vec<u8> {
    let of = headers.iter().rev().find_map(|(header, at)| match header {
        Header::Ipv4 => bytes.get(at.start + 12..at.start + 20),
        Header::Ipv6 => bytes.get(at.start + 8..at.start + 40),
        _ => None,
    });
    of.unwrap_or_default().to_vec()
}

/// Of these side by side (rfc 1071); the last may be of odd length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let sum_of = |part: &&[u8]| {
        let pairs = part.chunks_exact(2);
        let odd = pairs.remainder().first().map_or(0, |byte| u64::from(*byte) << 8);
        odd + pairs.map(|pair| u64::from(u16::from_be_bytes([pair[0], pair[1]]))).sum::<u64>()
    };
    let mut sum: u64 = parts.iter().map(sum_of).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn chunk<const N: usize>(from: &[u8], at: usize) -> Option<&[u8; N]> {
    from.get(at..)?.first_chunk()
}

/// Takes over what is there of these bytes.
fn keep(from: &[u8], to: &mut [u8], range: Range<usize>) {
    let range = range.start.min(from.len())..range.end.min(from.len());
    to[range.clone()].copy_from_slice(&from[range]);
}

/// Types and lengths; what options and routing say becomes padding.
fn extensions(first: u8, from: &[u8], to: &mut [u8]) {
    let (mut kind, mut at) = (IpNumber(first), 0);
    while let Some(len) = extension_len(kind, from.get(at..).unwrap_or_default())
        && at < from.len()
    {
        let kept = match kind {
            ip_number::IPV6_FRAG => 8,
            ip_number::IPV6_ROUTE => 4,
            _ => 2,
        };
        keep(from, to, at..at + kept);
        (kind, at) = (IpNumber(from[at]), at + len);
    }
}

/// All but the checksum; options that are not known become padding.
fn tcp(from: &[u8], to: &mut [u8]) {
    keep(from, to, 0..16);
    keep(from, to, 18..20);
    let mut at = 20;
    while let Some(kind) = from.get(at) {
        // End, padding, and those with a length: segment size, window scale, SACK, timestamps.
        let len = match kind {
            0 => return,
            1 => 1,
            _ => usize::from(from.get(at + 1).copied().unwrap_or(0)),
        };
        if len == 0 || at + len > from.len() {
            return;
        }
        match kind {
            1..=5 | 8 => keep(from, to, at..at + len),
            _ => to[at..at + len].fill(1),
        }
        at += len;
    }
}

/// Flags, type, length, sequence number; types and lengths of extensions. The tunnel's number becomes 0.
fn gtp(from: &[u8], to: &mut [u8]) {
    keep(from, to, 0..4);
    keep(from, to, 8..12);
    let mut at = 12;
    while let Some(units @ 1..) = from.get(at) {
        let end = at + usize::from(*units) * 4;
        keep(from, to, at..at + 1);
        keep(from, to, end - 1..end);
        at = end;
    }
}

/// The file that is written: of the format that was read.
pub enum Container<'a> {
    /// One link type for all packets.
    Pcap {
        /// Where it goes.
        out: &'a mut dyn Write,
        /// Whether its times have them.
        nanoseconds: bool,
    },
    /// Interfaces that no packet came from are left out.
    Pcapng {
        /// Where it goes.
        out: Blocks<&'a mut dyn Write>,
        /// Their numbers in the file that was read.
        interfaces: Vec<u64>,
        /// Packets that the capturing side dropped.
        dropped: u64,
    },
}

impl<'a> Container<'a> {
    /// Begins a file as this one was; `links`: the link type of each interface.
    pub fn new(
        out: &'a mut dyn Write,
        facts: &FileFacts,
        links: &BTreeMap<u64, i32>,
    ) -> io::Result<Container<'a>> {
        if facts.format == "pcap" {
            let link = links.first_key_value().map_or(1, |(_, link)| *link);
            pcap_header(out, facts.nanoseconds, link as u32)?;
            return Ok(Container::Pcap { out, nanoseconds: facts.nanoseconds });
        }
        let mut out = Blocks::new(out, None)?;
        links.values().try_for_each(|link| out.interface(*link as u16, 9))?;
        let interfaces = links.keys().copied().collect();
        Ok(Container::Pcapng { out, interfaces, dropped: facts.dropped })
    }

    /// Appends `bytes` as the packet's.
    pub fn packet(&mut self, packet: &Packet<'_>, bytes: &[u8]) -> io::Result<()> {
        let (micros, nanos) = (packet.time.as_micros(), u64::from(packet.nanos));
        match self {
            Container::Pcap { out, nanoseconds } => {
                let fraction = micros % 1_000_000;
                let fraction = if *nanoseconds { fraction * 1000 + nanos } else { fraction };
                let lens = [bytes.len() as u32, packet.wire_len as u32];
                for word in [(micros / 1_000_000) as u32, fraction as u32].into_iter().chain(lens) {
                    out.write_all(&word.to_le_bytes())?;
                }
                out.write_all(bytes)
            }
            Container::Pcapng { out, interfaces, .. } => {
                let number = interfaces.partition_point(|known| *known < packet.interface) as u32;
                let time = micros.saturating_mul(1000).saturating_add(nanos);
                out.packet(number, time, packet.wire_len as u32, bytes)
            }
        }
    }

    /// Writes what stands at the end.
    pub fn finish(self) -> io::Result<()> {
        match self {
            Container::Pcapng { mut out, interfaces, dropped } if dropped > 0 && !interfaces.is_empty() => {
                out.dropped(0, dropped)
            }
            _ => Ok(()),
        }
    }
}

fn pcap_header(out: &mut dyn Write, nanoseconds: bool, link: u32) -> io::Result<()> {
    let magic: u32 = if nanoseconds { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
    // Magic, version 2.4, two fields that are 0.
    for word in [magic, 0x0004_0002, 0, 0, SNAPLEN, link] {
        out.write_all(&word.to_le_bytes())?;
    }
    Ok(())
}
