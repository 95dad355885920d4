//! What lies around a TCP segment: link layer, VLAN tags, IPv4 and IPv6 with extensions and fragments, GTP-U tunnels.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use etherparse::defrag::IpDefragBuf;
use etherparse::{IpFragOffset, IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice, UdpHeaderSlice, ip_number};

use super::pcap::Packet;
use crate::wire::time::Time;

/// IP headers inside one another that are unwrapped, at most.
pub const MAX_TUNNELS: usize = 4;
/// VLAN tags on one frame, at most.
pub const MAX_TAGS: usize = 4;
/// Datagrams that wait for fragments, at most; the oldest gives way.
pub const MAX_FRAGMENTED: usize = 256;
/// Datagrams put together whose bytes are remembered, at most, so that fragments are known that come again.
pub const MAX_WHOLE: usize = 64;
/// How far apart the fragments of a datagram may be in time (rfc 8200 4.5); one that comes later is of another with the same number.
pub const MAX_APART: Duration = Duration::from_secs(60);
/// The port of GTP-U (3GPP TS 29.281).
const GTP_U: u16 = 2152;

/// A TCP segment.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// When it was captured.
    pub time: Time,
    /// Where it comes from.
    pub from: SocketAddr,
    /// Where it goes.
    pub to: SocketAddr,
    /// Sequence number of its first byte (of SYN, where set).
    pub seq: u32,
    /// The acknowledged sequence number, where the flag is set.
    pub ack: Option<u32>,
    /// SYN.
    pub syn: bool,
    /// FIN.
    pub fin: bool,
    /// RST.
    pub rst: bool,
    /// The captured bytes of the payload.
    pub payload: &'a [u8],
    /// How long the payload was on the wire.
    pub len: usize,
}

/// A header that stands before or inside an IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Header {
    Ethernet,
    /// 802.1Q or QinQ.
    Tag,
    /// An address family (NULL, LOOP).
    Family,
    CookedV1,
    CookedV2,
    /// The whole packet.
    Arp,
    /// With its options.
    Ipv4,
    /// Without extensions.
    Ipv6,
    /// Of IPv6: all of them.
    Extensions,
    /// With its options.
    Tcp,
    Udp,
    /// With its optional fields and extensions.
    GtpU,
    /// Type and code.
    Icmp,
}

/// A fragment's bytes: where they stand in its packet and in the datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The how manieth datagram that came in fragments.
    pub datagram: u64,
    /// In the packet.
    pub at: Range<usize>,
    /// Of its first byte, behind the IP header of the datagram.
    pub offset: usize,
    /// The one of the last [`MAX_WHOLE`] datagrams that became whole that had the same number, and these bytes there.
    pub again: Option<u64>,
}

/// Hears of each header where it stands in the packet, the outer ones first.
pub trait Headers {
    /// Of a header that was cut, the range ends behind the packet.
    fn header(&mut self, header: Header, at: Range<usize>);

    /// The packet is a fragment; `None`: one that the capture cut, so that it is not used.
    fn fragment(&mut self, _: Option<Piece>) {}

    /// The packet made a datagram whole: these are its bytes behind the IP header, and the headers told from here on stand in them.
    fn whole(&mut self, _datagram: u64, _bytes: &[u8]) {}
}

/// Hears nothing.
impl Headers for () {
    fn header(&mut self, _: Header, _: Range<usize>) {}
}

/// Bytes as captured and how many there were on the wire.
#[derive(Clone, Copy)]
struct Body<'a> {
    bytes: &'a [u8],
    len: usize,
    /// Where they begin in the packet.
    at: usize,
}

impl<'a> Body<'a> {
    /// What follows after `n` bytes.
    fn after(self, n: usize) -> Body<'a> {
        let bytes = self.bytes.get(n..).unwrap_or_default();
        Body { bytes, len: self.len.saturating_sub(n), at: self.at + n }
    }

    /// At most `len` bytes of it.
    fn cut(self, len: usize) -> Body<'a> {
        let len = len.min(self.len);
        Body { bytes: &self.bytes[..self.bytes.len().min(len)], len, ..self }
    }

    fn be16(self, at: usize) -> Option<u16> {
        Some(u16::from_be_bytes(self.bytes.get(at..at + 2)?.try_into().ok()?))
    }
}

/// Takes headers off packets; keeps fragments until their datagram is whole.
#[derive(Default)]
pub struct Unwrapper {
    fragments: HashMap<FragmentKey, Datagram>,
    order: VecDeque<FragmentKey>,
    datagrams: u64,
    /// Those that became whole last.
    whole: VecDeque<Whole>,
    passed_over: BTreeMap<&'static str, u64>,
}

/// One that waits for fragments.
struct Datagram {
    number: u64,
    first: Time,
    buffer: IpDefragBuf,
    /// How many fragments it has, as long as each repeats one of a datagram that became whole.
    again: Option<u64>,
}

/// One that was put together.
struct Whole {
    key: FragmentKey,
    number: u64,
    first: Time,
    bytes: Vec<u8>,
}

impl Whole {
    /// Whether a fragment with this key repeats bytes of it.
    fn has(&self, fragment: &Ip<'_>, time: Time) -> bool {
        let Some((_, offset, more)) = fragment.fragment else { return false };
        let at = usize::from(offset.byte_offset());
        let end = at + fragment.body.bytes.len();
        !apart(self.first, time)
            && more == (end < self.bytes.len())
            && self.bytes.get(at..end) == Some(fragment.body.bytes)
    }
}

/// Whether fragments at these times are of two datagrams.
fn apart(one: Time, other: Time) -> bool {
    one.since(other).max(other.since(one)) > MAX_APART
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct FragmentKey {
    from: IpAddr,
    to: IpAddr,
    id: u32,
    protocol: u8,
}

/// An IP header: who, what, and the place in a fragmented datagram.
struct Ip<'a> {
    from: IpAddr,
    to: IpAddr,
    protocol: IpNumber,
    body: Body<'a>,
    fragment: Option<(u32, IpFragOffset, bool)>,
}

impl Unwrapper {
    /// The TCP segment in this packet, if there is one (or one became whole with it).
    pub fn segment<'a>(&'a mut self, packet: Packet<'a>) -> Option<Segment<'a>> {
        self.segment_and_headers(packet, &mut ())
    }

    /// As [`Unwrapper::segment`], and tells which headers stand around it.
    pub fn segment_and_headers<'a>(
        &'a mut self,
        packet: Packet<'a>,
        headers: &mut impl Headers,
    ) -> Option<Segment<'a>> {
        match link(packet.link, Body { bytes: packet.data, len: packet.wire_len, at: 0 }, headers) {
            Ok(body) => match network(body, packet.time, headers) {
                Ok(Network::Segment(segment)) => return Some(segment),
                Ok(Network::Fragment(ip)) => return self.fragment(ip, packet.time, headers),
                Err(what) => self.pass_over(what),
            },
            Err(what) => self.pass_over(what),
        }
        None
    }

    /// What was no TCP segment, with counts of packets.
    pub fn passed_over(&self) -> &BTreeMap<&'static str, u64> {
        &self.passed_over
    }

    /// No more packets come: datagrams that are not whole never will be.
    pub fn finish(&mut self) {
        while let Some(oldest) = self.order.front().copied() {
            self.give_up(oldest);
        }
    }

    fn pass_over(&mut self, what: &'static str) {
        *self.passed_over.entry(what).or_default() += 1;
    }

    /// Keeps a fragment; the segment in the datagram once it is whole.
    fn fragment(&mut self, ip: Ip<'_>, time: Time, headers: &mut impl Headers) -> Option<Segment<'_>> {
        let (id, offset, more) = ip.fragment?;
        if ip.body.bytes.len() < ip.body.len {
            headers.fragment(None);
            self.pass_over("fragments cut by the capture");
            return None;
        }
        let key = FragmentKey { from: ip.from, to: ip.to, id, protocol: ip.protocol.0 };
        let known = self.whole.iter().rev().find(|whole| whole.key == key);
        let again = known.filter(|whole| whole.has(&ip, time)).map(|whole| whole.number);
        let datagram = self.datagram(key, time);
        datagram.again = datagram.again.filter(|_| again.is_some()).map(|n| n + 1);
        let (at, offset_bytes) = (ip.body.at..ip.body.at + ip.body.len, offset.byte_offset().into());
        headers.fragment(Some(Piece { datagram: datagram.number, at, offset: offset_bytes, again }));
        let added = datagram.buffer.add(offset, more, ip.body.bytes);
        if added.is_ok() && !datagram.buffer.is_complete() {
            return None;
        }
        let Datagram { number, first, buffer, .. } = self.forget(key)?;
        if added.is_err() {
            self.pass_over("fragments that contradict each other");
            return None;
        }
        if self.whole.len() == MAX_WHOLE {
            self.whole.pop_front();
        }
        self.whole.push_back(Whole { key, number, first, bytes: buffer.take_bufs().0 });
        let bytes = &self.whole.back()?.bytes;
        headers.whole(number, bytes);
        match segment_of(ip, bytes, time, headers) {
            Ok(segment) => Some(segment),
            Err(what) => {
                *self.passed_over.entry(what).or_default() += 1;
                None
            }
        }
    }

    /// The datagram that a fragment belongs to.
    fn datagram(&mut self, key: FragmentKey, time: Time) -> &mut Datagram {
        if self.fragments.get(&key).is_some_and(|datagram| apart(datagram.first, time)) {
            self.give_up(key);
        }
        if self.fragments.len() == MAX_FRAGMENTED && !self.fragments.contains_key(&key) {
            self.order.front().copied().into_iter().for_each(|oldest| self.give_up(oldest));
        }
        self.fragments.entry(key).or_insert_with(|| {
            self.order.push_back(key);
            self.datagrams += 1;
            let buffer = IpDefragBuf::new(key.protocol.into(), Vec::new(), Vec::new());
            Datagram { number: self.datagrams, first: time, buffer, again: Some(0) }
        })
    }

    fn give_up(&mut self, key: FragmentKey) {
        match self.forget(key).and_then(|datagram| datagram.again) {
            Some(fragments) => {
                *self.passed_over.entry("fragments that came again").or_default() += fragments;
            }
            None => self.pass_over("datagrams whose other fragments never came"),
        }
    }

    fn forget(&mut self, key: FragmentKey) -> Option<Datagram> {
        self.order.retain(|k| *k != key);
        self.fragments.remove(&key)
    }
}

/// The segment in a datagram that was put together again.
fn segment_of<'a>(
    ip: Ip<'_>,
    whole: &'a [u8],
    time: Time,
    headers: &mut impl Headers,
) -> Result<Segment<'a>, &'static str> {
    let body = Body { bytes: whole, len: whole.len(), at: 0 };
    let ip = match ip.from {
        IpAddr::V4(_) => Ip { body, fragment: None, ..ip },
        IpAddr::V6(_) => Ip { from: ip.from, to: ip.to, ..extensions(ip.protocol, body, headers)? },
    };
    if ip.fragment.is_some() {
        return Err("fragments inside a datagram that came in fragments");
    }
    match transport(&ip, time, headers)? {
        Transport::Segment(segment) => Ok(segment),
        Transport::Tunnel(inner) => match network(inner, time, headers)? {
            Network::Segment(segment) => Ok(segment),
            Network::Fragment(_) => Err("fragments inside a fragmented tunnel"),
        },
    }
}

/// Through any tunnels down to TCP.
fn network<'a>(
    mut body: Body<'a>,
    time: Time,
    headers: &mut impl Headers,
) -> Result<Network<'a>, &'static str> {
    for _ in 0..MAX_TUNNELS {
        let ip = ip(body, headers)?;
        if ip.fragment.is_some() {
            return Ok(Network::Fragment(ip));
        }
        match transport(&ip, time, headers)? {
            Transport::Segment(segment) => return Ok(Network::Segment(segment)),
            Transport::Tunnel(inner) => body = inner,
        }
    }
    Err("tunnels nested too deep")
}

enum Network<'a> {
    Segment(Segment<'a>),
    Fragment(Ip<'a>),
}

enum Transport<'a> {
    Segment(Segment<'a>),
    Tunnel(Body<'a>),
}

/// Takes the link layer off; what follows begins with an IP header.
fn link<'a>(link: i32, body: Body<'a>, headers: &mut impl Headers) -> Result<Body<'a>, &'static str> {
    let (header, len, kind) = match link {
        1 => (Header::Ethernet, 14, Some(12)),
        // BSD loopback: an address family in the byte order of the host (NULL) or of the network (LOOP). IP says its version itself.
        0 | 108 => (Header::Family, 4, None),
        // Raw IP under its several numbers.
        12 | 14 | 101 | 228 | 229 => return Ok(body),
        113 => (Header::CookedV1, 16, Some(14)),
        276 => (Header::CookedV2, 20, Some(0)),
        _ => return Err("frames of a link type that is not read"),
    };
    headers.header(header, body.at..body.at + len);
    let Some(kind) = kind else { return Ok(body.after(len)) };
    ethertype(body.be16(kind).ok_or("frames cut inside the link header")?, body.after(len), headers)
}

fn ethertype<'a>(
    mut kind: u16,
    mut body: Body<'a>,
    headers: &mut impl Headers,
) -> Result<Body<'a>, &'static str> {
    for _ in 0..=MAX_TAGS {
        match kind {
            0x0800 | 0x86dd => return Ok(body),
            // 802.1Q, QinQ and its older numbers.
            0x8100 | 0x88a8 | 0x9100 | 0x9200 => {
                headers.header(Header::Tag, body.at..body.at + 4);
                kind = body.be16(2).ok_or("frames cut inside a VLAN tag")?;
                body = body.after(4);
            }
            0x0806 => {
                headers.header(Header::Arp, body.at..body.at + body.bytes.len());
                return Err("ARP");
            }
            _ => return Err("frames that carry no IP"),
        }
    }
    Err("frames with too many VLAN tags")
}

fn ip<'a>(body: Body<'a>, headers: &mut impl Headers) -> Result<Ip<'a>, &'static str> {
    match body.bytes.first().ok_or("packets cut before the IP header")? >> 4 {
        4 => ipv4(body, headers),
        6 => ipv6(body, headers),
        _ => Err("packets that are neither IPv4 nor IPv6"),
    }
}

fn ipv4<'a>(body: Body<'a>, headers: &mut impl Headers) -> Result<Ip<'a>, &'static str> {
    let header = Ipv4HeaderSlice::from_slice(body.bytes).map_err(|_| "broken or cut IPv4 headers")?;
    headers.header(Header::Ipv4, body.at..body.at + header.slice().len());
    // Segmentation offload above 64 KiB leaves the length 0: the frame's own length counts then.
    let total = if header.total_len() == 0 { body.len } else { usize::from(header.total_len()) };
    let fragment = header
        .is_fragmenting_payload()
        .then(|| (u32::from(header.identification()), header.fragments_offset(), header.more_fragments()));
    Ok(Ip {
        from: header.source_addr().into(),
        to: header.destination_addr().into(),
        protocol: header.protocol(),
        body: body.cut(total).after(header.slice().len()),
        fragment,
    })
}

fn ipv6<'a>(body: Body<'a>, headers: &mut impl Headers) -> Result<Ip<'a>, &'static str> {
    let header = Ipv6HeaderSlice::from_slice(body.bytes).map_err(|_| "broken or cut IPv6 headers")?;
    headers.header(Header::Ipv6, body.at..body.at + header.slice().len());
    let mut rest = body.after(header.slice().len());
    if header.payload_length() != 0 {
        rest = rest.cut(usize::from(header.payload_length()));
    }
    let extended = extensions(header.next_header(), rest, headers)?;
    Ok(Ip { from: header.source_addr().into(), to: header.destination_addr().into(), ..extended })
}

/// What follows after the extension headers of IPv6; behind the header of a fragment come bytes of the datagram, which may begin with more of
/// them (rfc 8200 4.5). The addresses are not known here.
fn extensions<'a>(
    first: IpNumber,
    body: Body<'a>,
    headers: &mut impl Headers,
) -> Result<Ip<'a>, &'static str> {
    let (mut protocol, mut len, mut fragment) = (first, 0, None);
    while let Some(more) = extension_len(protocol, &body.bytes[len..])
        && fragment.is_none()
    {
        let header = body.bytes.get(len..len + more).ok_or("broken or cut IPv6 extension headers")?;
        if protocol == ip_number::IPV6_FRAG {
            fragment = place_in_datagram(header);
        }
        (protocol, len) = (header[0].into(), len + more);
    }
    headers.header(Header::Extensions, body.at..body.at + len);
    let nowhere = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    Ok(Ip { from: nowhere, to: nowhere, protocol, body: body.after(len), fragment })
}

/// What a fragment's header says (rfc 8200 4.5): the datagram's number, the place in it, and whether more follow. `None`: it is all of it.
fn place_in_datagram(header: &[u8]) -> Option<(u32, IpFragOffset, bool)> {
    let &[_, _, a, b, c, d, e, f] = header else { return None };
    let (place, more) = (u16::from_be_bytes([a, b]) >> 3, b & 1 != 0);
    let offset = IpFragOffset::try_new(place).ok()?;
    (more || place > 0).then_some((u32::from_be_bytes([c, d, e, f]), offset, more))
}

/// How long the extension header of this kind says to be (rfc 8200 4, rfc 4302 2.2); `None`: none that is known.
pub fn extension_len(kind: IpNumber, bytes: &[u8]) -> Option<usize> {
    let units = usize::from(bytes.get(1).copied().unwrap_or(0));
    match kind {
        ip_number::IPV6_HEADER_HOP_BY_HOP | ip_number::IPV6_ROUTE | ip_number::IPV6_DEST_OPTIONS => {
            Some((units + 1) * 8)
        }
        ip_number::IPV6_FRAG => Some(8),
        ip_number::AUTH => Some((units + 2) * 4),
        _ => None,
    }
}

fn transport<'a>(ip: &Ip<'a>, time: Time, headers: &mut impl Headers) -> Result<Transport<'a>, &'static str> {
    let mut found = |header, len| headers.header(header, ip.body.at..ip.body.at + len);
    match ip.protocol {
        ip_number::TCP => {
            let segment = tcp(ip, time)?;
            found(Header::Tcp, ip.body.len - segment.len);
            Ok(Transport::Segment(segment))
        }
        ip_number::UDP => {
            let udp = UdpHeaderSlice::from_slice(ip.body.bytes).map_err(|_| "broken or cut UDP headers")?;
            found(Header::Udp, 8);
            if udp.source_port() == GTP_U || udp.destination_port() == GTP_U {
                let inner = gtp(ip.body.after(8))?;
                headers.header(Header::GtpU, ip.body.at + 8..inner.at);
                return Ok(Transport::Tunnel(inner));
            }
            Err("UDP")
        }
        // IP in IP.
        ip_number::IPV4 | ip_number::IPV6 => Ok(Transport::Tunnel(ip.body)),
        ip_number::ICMP | ip_number::IPV6_ICMP => {
            found(Header::Icmp, 2);
            Err("ICMP")
        }
        _ => Err("IP that carries no TCP"),
    }
}

/// The packet inside a G-PDU (3GPP TS 29.281, 5.1).
fn gtp(body: Body<'_>) -> Result<Body<'_>, &'static str> {
    let (Some(&flags), Some(&kind), Some(len)) = (body.bytes.first(), body.bytes.get(1), body.be16(2)) else {
        return Err("GTP-U cut inside its header");
    };
    if flags >> 4 != 3 || kind != 255 {
        return Err("GTP-U that carries no packet");
    }
    let mut inner = body.after(8).cut(usize::from(len));
    if flags & 7 != 0 {
        let mut next = inner.bytes.get(3).copied();
        inner = inner.after(4);
        // Each extension says its length in units of four bytes and ends with the type of the next.
        while let Some(1..) = next {
            let units = usize::from(*inner.bytes.first().ok_or("GTP-U cut inside its header")?);
            if units == 0 {
                return Err("GTP-U with an extension of no length");
            }
            next = inner.bytes.get(units * 4 - 1).copied();
            inner = inner.after(units * 4);
        }
    }
    Ok(inner)
}

/// Read by hand and not by etherparse: where the capture cut the options off, the length of the payload is known all the same.
fn tcp<'a>(ip: &Ip<'a>, time: Time) -> Result<Segment<'a>, &'static str> {
    let Some(header) = ip.body.bytes.first_chunk::<20>() else { return Err("TCP cut inside its header") };
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let port = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let header_len = usize::from(header[12] >> 4) * 4;
    if header_len < 20 || header_len > ip.body.len {
        return Err("TCP with a header length that cannot be");
    }
    let payload = ip.body.after(header_len);
    let flags = header[13];
    Ok(Segment {
        time,
        from: SocketAddr::new(ip.from, port(0)),
        to: SocketAddr::new(ip.to, port(2)),
        seq: word(4),
        ack: (flags & 0x10 != 0).then(|| word(8)),
        syn: flags & 0x02 != 0,
        fin: flags & 0x01 != 0,
        rst: flags & 0x04 != 0,
        payload: payload.bytes,
        len: payload.len,
    })
}
