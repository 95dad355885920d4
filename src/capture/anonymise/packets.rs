//! Packets with the headers they had, other addresses in them, and other bytes behind them.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::io::{self, Write};
use std::ops::Range;

use etherparse::{Ipv6ExtensionSlice, Ipv6ExtensionsSlice};

use crate::capture::frame::{Header, Headers};
use crate::capture::pcap::{FileFacts, Packet};
use crate::capture::write::Blocks;

/// The longest packet that the header of a pcap announces, in bytes; longer ones are written all the same.
const SNAPLEN: u32 = 0x4_0000;

/// A packet's headers, each where it stands.
pub type Found = Vec<(Header, Range<usize>)>;

impl Headers for Found {
    fn header(&mut self, header: Header, at: Range<usize>) {
        self.push((header, at));
    }
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
    pub fn packet(&mut self, data: &[u8], headers: &Found, payload: &[u8]) -> Vec<u8> {
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
            let len = room.len().min(payload.len());
            room[..len].copy_from_slice(&payload[..len]);
        }
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
            Header::Udp => keep(from, to, 0..6),
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
        let sum: u32 = to.chunks_exact(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
        let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
        to[10..12].copy_from_slice(&sum.to_be_bytes());
    }
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
    let mut at = 0;
    for extension in Ipv6ExtensionsSlice::from_slice_lax(first.into(), from).0 {
        let (kept, len) = match extension {
            Ipv6ExtensionSlice::Fragment(f) => (8, f.slice().len()),
            Ipv6ExtensionSlice::Routing(r) => (4, r.slice().len()),
            Ipv6ExtensionSlice::Authentication(a) => (2, a.slice().len()),
            Ipv6ExtensionSlice::HopByHop(o) | Ipv6ExtensionSlice::DestinationOptions(o) => {
                (2, o.slice().len())
            }
        };
        keep(from, to, at..at + kept);
        at += len;
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
