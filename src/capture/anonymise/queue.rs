//! Packets on their way into the file: behind a fragment all wait, in their order, until its datagram is whole.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::io;

use super::Written;
use super::packets::{Container, Found, Layout, Payload, checksums, end_in_tcp};
use crate::capture::frame::{MAX_WHOLE, Piece};
use crate::capture::pcap::Packet;

/// What packets that wait may take, in bytes; beyond that the first goes as it is.
pub const MAX_WAITING: usize = 16 << 20;
/// What a packet that waits counts for beside its bytes.
const PACKET: usize = 256;

/// Writes packets in their order.
pub struct Queue<'a> {
    container: Container<'a>,
    waiting: VecDeque<Waiting>,
    /// The numbers of the packets that wait for each datagram.
    open: HashMap<u64, VecDeque<u64>>,
    /// The last datagrams that became whole.
    whole: VecDeque<Whole>,
    /// What waits, in bytes.
    held: usize,
    /// What was written; its packets are numbered from 0.
    written: Written,
}

struct Waiting {
    packet: Packet<'static>,
    bytes: Vec<u8>,
    content: Content,
    /// The part of a datagram that it waits for, and its headers.
    part: Option<(Piece, Found)>,
}

/// What there is behind the headers that are known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    /// TCP.
    Tcp,
    /// The part of a datagram that was not put together: zeros.
    Fragment,
    /// Zeros.
    Unknown,
}

/// A datagram as it is written.
struct Whole {
    number: u64,
    bytes: Vec<u8>,
    content: Content,
}

impl<'a> Queue<'a> {
    /// Nothing waits.
    pub fn new(container: Container<'a>) -> Queue<'a> {
        let written = Written { packets: 0, fragments: 0, others: 0 };
        let (waiting, whole) = (VecDeque::new(), VecDeque::new());
        Queue { container, waiting, open: HashMap::new(), whole, held: 0, written }
    }

    /// Appends a packet that has these bytes; of a fragment those behind its headers may follow.
    pub fn push(&mut self, packet: &Packet<'_>, layout: &mut Layout, bytes: Vec<u8>) -> io::Result<()> {
        let content = match layout.fragment {
            Some(_) => Content::Fragment,
            None => Content::behind(end_in_tcp(&layout.headers)),
        };
        let part = layout.fragment.take().flatten().map(|piece| (piece, std::mem::take(&mut layout.headers)));
        if let Some((piece, _)) = &part {
            let number = self.written.packets + self.waiting.len() as u64;
            self.open.entry(piece.datagram).or_default().push_back(number);
        }
        self.held += bytes.len() + PACKET;
        let Packet { time, nanos, interface, link, wire_len, .. } = *packet;
        let packet = Packet { time, nanos, interface, link, wire_len, data: &[] };
        let mut waiting = Waiting { packet, bytes, content, part };
        // What comes again has the bytes that it had, unless another datagram becomes whole with it.
        let again = waiting.part.as_ref().and_then(|(piece, _)| piece.again);
        let again = self.whole.iter().find(|whole| Some(whole.number) == again);
        again.into_iter().for_each(|whole| waiting.fill(whole));
        self.waiting.push_back(waiting);
        self.write(MAX_WAITING)
    }

    /// Gives the fragments of a datagram that wait their bytes.
    pub fn fill(&mut self, datagram: u64, bytes: Vec<u8>, tcp: bool) -> io::Result<()> {
        let whole = Whole { number: datagram, bytes, content: Content::behind(tcp) };
        for number in self.open.remove(&datagram).unwrap_or_default() {
            if let Some(waiting) = self.waiting.get_mut((number - self.written.packets) as usize) {
                waiting.fill(&whole);
                waiting.part = None;
            }
        }
        if self.whole.len() == MAX_WHOLE {
            self.whole.pop_front();
        }
        self.whole.push_back(whole);
        self.write(MAX_WAITING)
    }

    /// Writes what waits; nothing more comes.
    pub fn finish(mut self) -> io::Result<Written> {
        self.write(0)?;
        self.container.finish()?;
        Ok(self.written)
    }

    /// Writes the first packets, as far as they wait for nothing or more than `room` bytes wait.
    fn write(&mut self, room: usize) -> io::Result<()> {
        while let Some(first) = self.waiting.front() {
            let piece = first.part.as_ref().map(|(piece, _)| piece);
            if piece.is_some() && self.held <= room {
                break;
            }
            if let Some(Piece { datagram, .. }) = piece
                && let Entry::Occupied(mut numbers) = self.open.entry(*datagram)
            {
                numbers.get_mut().pop_front();
                if numbers.get().is_empty() {
                    numbers.remove();
                }
            }
            self.container.packet(&first.packet, &first.bytes)?;
            self.held -= first.bytes.len() + PACKET;
            self.written.packets += 1;
            self.written.fragments += u64::from(first.content == Content::Fragment);
            self.written.others += u64::from(first.content == Content::Unknown);
            self.waiting.pop_front();
        }
        Ok(())
    }
}

impl Content {
    fn behind(tcp: bool) -> Content {
        if tcp { Content::Tcp } else { Content::Unknown }
    }
}

impl Waiting {
    fn fill(&mut self, datagram: &Whole) {
        if let Some((piece, headers)) = &self.part {
            let (at, from) = (piece.at.clone(), datagram.bytes.get(piece.offset..).unwrap_or_default());
            let to = self.bytes.get_mut(at).unwrap_or_default();
            let len = to.len().min(from.len());
            to[..len].copy_from_slice(&from[..len]);
            // Those of a tunnel around the fragment.
            checksums(&mut self.bytes, headers, &Payload::default(), &[]);
            self.content = datagram.content;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::time::Time;

    #[test]
    fn what_waits_is_bounded_and_keeps_its_order() {
        const LEN: usize = 1 << 16;
        let packet = Packet { time: Time::ZERO, nanos: 0, interface: 0, link: 1, data: &[], wire_len: LEN };
        let mut file = Vec::new();
        let mut queue = Queue::new(Container::Pcap { out: &mut file, nanoseconds: false });
        let all = 3 * (MAX_WAITING / LEN) as u64;
        for n in 0..all {
            let piece = Piece { datagram: n, at: 8..16, offset: 8, again: None };
            let fragment = (n % 3 == 0).then_some(Some(piece));
            let mut layout = Layout { fragment, ..Layout::default() };
            queue.push(&packet, &mut layout, [&n.to_be_bytes()[..], &[0; LEN - 8]].concat()).unwrap();
            assert!(queue.held <= MAX_WAITING && queue.open.len() <= queue.waiting.len());
        }
        queue.fill(0, vec![7; 16], true).unwrap();
        queue.fill(all - 1, vec![7; 16], true).unwrap();
        queue.fill(all - 3, vec![7; 16], true).unwrap();
        let written = queue.finish().unwrap();
        assert_eq!(written, Written { packets: all, fragments: all / 3 - 1, others: all - all / 3 });
        for (n, packet) in (0..).zip(file.chunks(16 + LEN)) {
            let behind = u8::from(n == all - 3) * 7;
            assert_eq!(
                (&packet[16..24], packet[24..32] == [behind; 8]),
                (&u64::to_be_bytes(n)[..], true),
                "{n}"
            );
        }
    }
}
