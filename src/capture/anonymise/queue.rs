//! Packets on their way into the file: behind a fragment all wait, in their order, until its datagram is whole.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::io;

use super::Written;
use super::packets::{Container, Found, Layout, Payload, checksums, end_in_tcp};
use crate::capture::frame::Piece;
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
    /// What waits, in bytes.
    held: usize,
    /// What was written; its packets are numbered from 0.
    written: Written,
}

struct Waiting {
    packet: Packet<'static>,
    bytes: Vec<u8>,
    content: Content,
}

/// What there is behind the headers that are known.
enum Content {
    /// TCP.
    Tcp,
    /// The part of a datagram, behind these headers; without a place in one it stays zeros.
    Fragment(Option<Piece>, Found),
    /// Zeros.
    Unknown,
}

impl<'a> Queue<'a> {
    /// Nothing waits.
    pub fn new(container: Container<'a>) -> Queue<'a> {
        let written = Written { packets: 0, fragments: 0, others: 0 };
        Queue { container, waiting: VecDeque::new(), open: HashMap::new(), held: 0, written }
    }

    /// Appends a packet that has these bytes; of a fragment those behind its headers may follow.
    pub fn push(&mut self, packet: &Packet<'_>, layout: &mut Layout, bytes: Vec<u8>) -> io::Result<()> {
        let content = match layout.fragment.take() {
            Some(piece) => Content::Fragment(piece, std::mem::take(&mut layout.headers)),
            None if end_in_tcp(&layout.headers) => Content::Tcp,
            None => Content::Unknown,
        };
        if let Content::Fragment(Some(piece), _) = &content {
            let number = self.written.packets + self.waiting.len() as u64;
            self.open.entry(piece.datagram).or_default().push_back(number);
        }
        self.held += bytes.len() + PACKET;
        let Packet { time, nanos, interface, link, wire_len, .. } = *packet;
        let packet = Packet { time, nanos, interface, link, wire_len, data: &[] };
        self.waiting.push_back(Waiting { packet, bytes, content });
        self.write(MAX_WAITING)
    }

    /// Gives the fragments of a datagram that wait their bytes.
    pub fn fill(&mut self, datagram: u64, bytes: &[u8], tcp: bool) -> io::Result<()> {
        for number in self.open.remove(&datagram).unwrap_or_default() {
            let waiting = self.waiting.get_mut((number - self.written.packets) as usize);
            waiting.into_iter().for_each(|waiting| waiting.fill(bytes, tcp));
        }
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
            let piece = match &first.content {
                Content::Fragment(piece, _) => piece.as_ref(),
                _ => None,
            };
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
            self.written.fragments += u64::from(matches!(first.content, Content::Fragment(..)));
            self.written.others += u64::from(matches!(first.content, Content::Unknown));
            self.waiting.pop_front();
        }
        Ok(())
    }
}

impl Waiting {
    fn fill(&mut self, datagram: &[u8], tcp: bool) {
        if let Content::Fragment(Some(piece), headers) = &self.content {
            let (at, from) = (piece.at.clone(), datagram.get(piece.offset..).unwrap_or_default());
            let to = self.bytes.get_mut(at).unwrap_or_default();
            let len = to.len().min(from.len());
            to[..len].copy_from_slice(&from[..len]);
            // Those of a tunnel around the fragment.
            checksums(&mut self.bytes, headers, &Payload::default(), &[]);
            self.content = if tcp { Content::Tcp } else { Content::Unknown };
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
            let piece = Piece { datagram: n, at: 8..16, offset: 8 };
            let fragment = (n % 3 == 0).then_some(Some(piece));
            let mut layout = Layout { fragment, ..Layout::default() };
            queue.push(&packet, &mut layout, [&n.to_be_bytes()[..], &[0; LEN - 8]].concat()).unwrap();
            assert!(queue.held <= MAX_WAITING && queue.open.len() <= queue.waiting.len());
        }
        queue.fill(0, &[7; 16], true).unwrap();
        queue.fill(all - 1, &[7; 16], true).unwrap();
        queue.fill(all - 3, &[7; 16], true).unwrap();
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
