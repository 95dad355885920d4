//! A capture written again so that it can be shown to others: what it says about people and places is replaced, lengths, times and structure stay.
//!
//! Each packet stays a packet of the same length at the same time, behind the same headers, with other addresses in them; checksums of TCP and UDP
//! are made again, but become 0 where the capture lacks what they are of. Fragments get the parts of their datagram, which is put together as the
//! reader does it; those of a datagram that is never whole keep headers alone. Of RTMP are kept handshakes, chunk headers, control messages, the
//! shape of commands and data, sequence headers and the first bytes of audio and video. All else becomes zeros, also what could not be decoded;
//! other protocols keep the few bytes that name them. In commands and data each word of a text becomes another word of the same length, the same
//! one throughout the file. Comments of the file are left out.

mod packets;
mod queue;
mod words;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::frame::{Segment, Unwrapper};
use super::pcap::{self, FileFacts, Reader, Source};
use super::secrets::logs_in;
use super::session::naming;
use super::stream::{Connection, Direction, Handler, Hole, Streams};
use crate::record::spool::Spool;
use crate::wire::chunk::{ChunkHeader, ChunkReader, Limits, MessageHeader, Quirks, ReadEvent};
use crate::wire::handshake::BLOCK_LEN;
use crate::wire::media::{Kind, kind};
use crate::wire::message::{Message, type_id};
use crate::wire::time::Time;
use packets::{Container, Layout, Masks, Payload, Whole};
use queue::Queue;
use words::{Words, without_number};

/// C0, C1 and C2.
const HANDSHAKE: u64 = 1 + 2 * BLOCK_LEN as u64;
/// Bytes of a coded frame that are kept: frame type, codec or FourCC, packet type, composition time.
const FRAME_HEAD: usize = 8;
/// The longest sequence header that is kept.
const MAX_HEADER: usize = 4096;

/// Why a capture could not be written again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] pcap::Error),
    /// The result cannot be written.
    #[error(transparent)]
    Write(#[from] io::Error),
    /// It is the bytes of one direction and no capture.
    #[error("a raw dump has no addresses and no packets to be written again")]
    Raw,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// All packets.
    pub packets: u64,
    /// Of these, fragments of IP datagrams that were not put together: zeros behind their IP headers.
    pub fragments: u64,
    /// Of these, others in which no TCP was found: zeros behind the headers that are known.
    pub others: u64,
}

/// Reads a capture twice and writes its packets without what is personal, in the same format. `create` is asked for the output once it is
/// known that there is something to write.
///
/// # Errors
/// When it cannot be read or the result not be written. A damaged file is written as far as it can be read.
pub fn anonymise<W: Write>(path: &Path, create: impl FnOnce() -> io::Result<W>) -> Result<Written, Error> {
    let plans = plan(open(path)?)?;
    let mut out = create()?;
    let written = write(open(path)?, &plans, &mut out)?;
    out.flush()?;
    Ok(written)
}

/// The second pass.
fn write(mut reader: Reader, plans: &Plans, out: &mut dyn Write) -> Result<Written, Error> {
    let mut queue = Queue::new(Container::new(out, &plans.facts, &plans.links)?);
    let (mut unwrapper, mut payloads, mut masks) =
        (Unwrapper::default(), Payloads::new(&plans.plans), Masks::default());
    while let Ok(Some(packet)) = reader.packet() {
        let mut layout = Layout::default();
        let segment = unwrapper.segment_and_headers(packet, &mut layout);
        let payload = segment.map_or_else(|| Ok(Payload::default()), |segment| payloads.of(&segment))?;
        let bytes = masks.packet(packet.data, &layout.headers, &payload);
        let whole = masks.datagram(&layout, &payload, &bytes);
        queue.push(&packet, &mut layout, bytes)?;
        if let (Some(Whole { datagram, .. }), Some((bytes, tcp))) = (layout.whole, whole) {
            queue.fill(datagram, &bytes, tcp)?;
        }
    }
    Ok(queue.finish()?)
}

/// Payloads of segments as they are to be written; of connections that are read now the plan is in memory.
struct Payloads<'a> {
    plans: &'a Spool<Plan>,
    read: HashMap<u64, Option<Plan>>,
    streams: Streams<Ended>,
}

impl Payloads<'_> {
    fn new(plans: &Spool<Plan>) -> Payloads<'_> {
        Payloads { plans, read: HashMap::new(), streams: Streams::new(Ended::default()) }
    }

    fn of(&mut self, segment: &Segment<'_>) -> io::Result<Payload> {
        let number = self.streams.segment(segment);
        self.streams.handler.0.drain(..).for_each(|number| drop(self.read.remove(&number)));
        let plan = match number.map(|number| (number, self.read.entry(number))) {
            None => None,
            Some((_, Entry::Occupied(known))) => known.into_mut().as_mut(),
            Some((number, Entry::Vacant(new))) => new.insert(self.plans.get(number)?).as_mut(),
        };
        let zeros = || vec![0; segment.payload.len()];
        let bytes = plan.map_or_else(zeros, |plan| plan.payload(segment));
        Ok(Payload { bytes, complete: segment.payload.len() == segment.len })
    }
}

fn open(path: &Path) -> Result<Reader, Error> {
    match pcap::open(path)? {
        Source::Packets(reader) => Ok(reader),
        Source::Raw(_) => Err(Error::Raw),
    }
}

/// What the first pass finds out.
struct Plans {
    /// By the number of the connection, of those of which anything is kept.
    plans: Spool<Plan>,
    facts: FileFacts,
    /// Of each interface that has packets.
    links: BTreeMap<u64, i32>,
}

fn plan(mut reader: Reader) -> Result<Plans, Error> {
    let mut unwrapper = Unwrapper::default();
    let mut streams = Streams::new(Planner::default());
    let mut links = BTreeMap::new();
    loop {
        match reader.packet() {
            Ok(Some(packet)) => {
                links.insert(packet.interface, packet.link);
                if let Some(segment) = unwrapper.segment(packet) {
                    streams.segment(&segment);
                }
            }
            Err(e) if links.is_empty() => return Err(e.into()),
            Ok(None) | Err(_) => break,
        }
    }
    streams.finish_all();
    let Planner { mut plans, failed, .. } = streams.handler;
    failed.map_or(Ok(()), Err)?;
    plans.sort();
    Ok(Plans { plans, facts: reader.facts(), links })
}

/// What is kept of a connection's bytes.
#[derive(Serialize, Deserialize)]
struct Plan {
    client: std::net::SocketAddr,
    sides: [Kept; 2],
}

/// One direction: pieces by place, in order; what lies between them becomes zeros.
#[derive(Serialize, Deserialize)]
struct Kept {
    start: Option<u32>,
    pieces: Vec<Piece>,
    /// The place that the last segment had: sequence numbers wrap, places do not.
    near: u64,
}

#[derive(Serialize, Deserialize)]
struct Piece {
    #[serde(rename = "a")]
    at: u64,
    #[serde(rename = "l")]
    len: u64,
    /// `None`: as it stands in the capture.
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    bytes: Option<Vec<u8>>,
}

impl Plan {
    /// The segment's payload as it is to be written.
    fn payload(&mut self, s: &Segment<'_>) -> Vec<u8> {
        let side = &mut self.sides[usize::from(s.from != self.client)];
        let mut out = vec![0; s.payload.len()];
        let Some(start) = side.start else { return out };
        let seq = s.seq.wrapping_add(u32::from(s.syn));
        let place = side.near as i64
            + i64::from(seq.wrapping_sub(start.wrapping_add(side.near as u32)).cast_signed());
        side.near = place.max(0) as u64;
        let end = place + out.len() as i64;
        let first = side.pieces.partition_point(|p| (p.at + p.len) as i64 <= place);
        for piece in side.pieces[first..].iter().take_while(|p| (p.at as i64) < end) {
            let (from, to) = ((piece.at as i64).max(place), ((piece.at + piece.len) as i64).min(end));
            let range = (from - place) as usize..(to - place) as usize;
            let source = match &piece.bytes {
                Some(bytes) => &bytes[(from - piece.at as i64) as usize..(to - piece.at as i64) as usize],
                None => &s.payload[range.clone()],
            };
            out[range].copy_from_slice(source);
        }
        out
    }
}

/// Finds out what is kept.
#[derive(Default)]
struct Planner {
    plans: Spool<Plan>,
    words: Words,
    failed: Option<io::Error>,
}

#[derive(Default)]
struct Planning {
    sides: [Reading; 2],
}

#[derive(Default)]
struct Reading {
    rtmp: bool,
    /// Nothing more is understood.
    lost: bool,
    reader: Option<Box<ChunkReader>>,
    pieces: Vec<Piece>,
    /// Where the payload of each unfinished message lies, by chunk stream.
    open: HashMap<u32, Vec<(u64, u64)>>,
}

impl Handler for Planner {
    type State = Planning;

    fn data(
        &mut self,
        state: &mut Planning,
        of: &Connection,
        direction: Direction,
        _: Time,
        offset: u64,
        bytes: &[u8],
    ) {
        let client_is_rtmp = state.sides[0].rtmp;
        let side = &mut state.sides[direction as usize];
        if offset == 0 {
            side.rtmp = bytes.first() == Some(&3) || (direction == Direction::S2c && client_is_rtmp);
            side.lost = !side.rtmp;
            if side.lost {
                // The first byte alone tells encrypted RTMP.
                let len = naming(bytes).max(usize::from(of.began[direction as usize]));
                side.keep(0, bytes.len().min(len) as u64);
            }
        }
        if !side.lost {
            side.read(offset, bytes, &self.words);
        }
    }

    fn hole(&mut self, state: &mut Planning, _: &Connection, _: Time, hole: Hole) {
        state.sides[hole.direction as usize].lost = true;
    }

    fn end(&mut self, state: Planning, of: Connection) {
        if state.sides.iter().all(|side| side.pieces.is_empty()) {
            return;
        }
        let mut starts = of.start.into_iter();
        let sides = state.sides.map(|side| side.kept(starts.next().flatten()));
        let pushed = self.plans.push(of.number, &Plan { client: of.client, sides });
        self.failed = self.failed.take().or(pushed.err());
    }
}

impl Reading {
    fn kept(self, start: Option<u32>) -> Kept {
        let mut pieces = self.pieces;
        pieces.dedup_by(|next, last| {
            let joined = next.bytes.is_none() && last.bytes.is_none() && last.at + last.len == next.at;
            last.len += if joined { next.len } else { 0 };
            joined
        });
        Kept { start, pieces, near: 0 }
    }

    fn keep(&mut self, at: u64, len: u64) {
        match self.pieces.last_mut() {
            Some(last) if last.bytes.is_none() && last.at + last.len == at => last.len += len,
            _ => self.pieces.push(Piece { at, len, bytes: None }),
        }
    }

    fn read(&mut self, offset: u64, bytes: &[u8], words: &Words) {
        let handshake = HANDSHAKE.saturating_sub(offset).min(bytes.len() as u64);
        if handshake > 0 {
            self.keep(offset, handshake);
        }
        let mut reader = self.reader.take().unwrap_or_else(|| {
            let mut reader = ChunkReader::new(Limits::default(), Quirks::default(), HANDSHAKE);
            reader.report_chunks(true);
            Box::new(reader)
        });
        let mut rest = &bytes[handshake as usize..];
        loop {
            let mut left = rest;
            let event = reader.read(&mut left);
            rest = &rest[rest.len() - left.len()..];
            match event {
                Ok(Some(ReadEvent::Chunk(header))) => self.chunk(&header),
                Ok(Some(ReadEvent::Message(header, payload))) => self.message(header, payload, words),
                Ok(Some(ReadEvent::Note(_))) => {}
                Ok(None) => break,
                Err(_) => {
                    self.lost = true;
                    break;
                }
            }
        }
        self.reader = Some(reader);
        self.pieces_in_order();
    }

    fn chunk(&mut self, header: &ChunkHeader) {
        let fields = [11, 7, 3, 0][header.fmt as usize] + if header.ext.is_some() { 4 } else { 0 };
        let len = u64::from(header.basic_len) + fields;
        self.pieces.push(Piece { at: header.offset, len, bytes: None });
        let open = self.open.entry(header.csid).or_default();
        if header.first {
            open.clear();
        }
        open.push((header.offset + len, u64::from(header.payload_len)));
    }

    fn message(&mut self, header: MessageHeader, payload: &[u8], words: &Words) {
        let mut at = 0;
        let kept = kept_payload(header.type_id, payload, words);
        let as_it_stands = payload.starts_with(&kept);
        for (place, len) in self.open.remove(&header.csid).unwrap_or_default() {
            let end = (at + len as usize).min(kept.len());
            if at < end {
                self.pieces.push(Piece {
                    at: place,
                    len: (end - at) as u64,
                    bytes: (!as_it_stands).then(|| kept[at..end].to_vec()),
                });
            }
            at += len as usize;
        }
    }

    /// A message's payload is known behind later chunk headers: the pieces of one read are put in order.
    fn pieces_in_order(&mut self) {
        let sorted = self.pieces.is_sorted_by_key(|p| p.at);
        if !sorted {
            self.pieces.sort_by_key(|p| p.at);
        }
    }
}

/// The payload as it is to be written; where it is shorter, zeros follow.
fn kept_payload(type_id: u8, payload: &[u8], words: &Words) -> Vec<u8> {
    match type_id {
        1..=6 => payload.to_vec(),
        type_id::AUDIO | type_id::VIDEO => payload[..media_head(type_id, payload)].to_vec(),
        type_id::AGGREGATE => aggregate(payload),
        type_id::COMMAND_AMF0 | type_id::DATA_AMF0 | type_id::COMMAND_AMF3 | type_id::DATA_AMF3 => {
            values(type_id, payload, words).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

/// How many bytes of audio or video are kept.
fn media_head(type_id: u8, payload: &[u8]) -> usize {
    let most = match kind(type_id, payload) {
        Some(Kind::Header) if payload.len() <= MAX_HEADER => payload.len(),
        _ if type_id == type_id::AUDIO && payload.first().is_some_and(|b| b >> 4 != 9) => 2,
        _ => FRAME_HEAD,
    };
    most.min(payload.len())
}

/// The heads and back pointers of the parts, and the first bytes of their audio and video (rtmp 7.1.6).
fn aggregate(payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; payload.len()];
    let mut at = 0;
    while let Some(&[type_id, a, b, c, ..]) = payload.get(at..at + 11) {
        let len = u32::from_be_bytes([0, a, b, c]) as usize;
        let (body, end) = (at + 11, (at + 11 + len).min(payload.len()));
        out[at..body].copy_from_slice(&payload[at..body]);
        if matches!(type_id, type_id::AUDIO | type_id::VIDEO) {
            let head = media_head(type_id, &payload[body..end]);
            out[body..body + head].copy_from_slice(&payload[body..body + head]);
        }
        at = (end + 4).min(payload.len());
        out[end..at].copy_from_slice(&payload[end..at]);
    }
    out
}

/// A command or data message with other words in its texts; `None` where its bytes cannot be made again.
fn values(type_id: u8, payload: &[u8], words: &Words) -> Option<Vec<u8>> {
    let mut message = Message::decode(type_id, payload).ok()?;
    let mut same = Vec::new();
    message.encode(&mut same);
    if same != payload {
        return None;
    }
    match &mut message {
        Message::Command(command) => {
            if logs_in(&command.name) || command.name == "connect" {
                command.args.iter_mut().for_each(without_number);
            }
            command.args.iter_mut().all(|v| words.replace(v))
        }
        Message::Data(_, values) => {
            let names = 1 + usize::from(
                values.first().is_some_and(|v| v.as_text().is_some_and(|t| t.starts_with(b"@"))),
            );
            values.iter_mut().skip(names).all(|v| words.replace(v))
        }
        _ => false,
    }
    .then_some(())?;
    let mut out = Vec::new();
    message.encode(&mut out);
    (out.len() == payload.len()).then_some(out)
}

/// The second pass asks only which connection a segment belongs to, and which ended since.
#[derive(Default)]
struct Ended(Vec<u64>);

impl Handler for Ended {
    type State = ();
    fn data(&mut self, (): &mut (), _: &Connection, _: Direction, _: Time, _: u64, _: &[u8]) {}
    fn hole(&mut self, (): &mut (), _: &Connection, _: Time, _: Hole) {}
    fn end(&mut self, (): (), of: Connection) {
        self.0.push(of.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::amf0::Value;

    #[test]
    fn numbers_that_are_secrets_become_0() {
        let command = |name: &str, pin: f64, other: f64| {
            let object = Value::object([("pin", pin.into()), ("capabilities", 15.0.into())]);
            let mut payload = Vec::new();
            Message::command(name, 1.0, vec![object, other.into()]).encode(&mut payload);
            payload
        };
        for (name, other) in [("connect", 0.0), ("login", 0.0), ("seek", 12.0)] {
            let kept = kept_payload(type_id::COMMAND_AMF0, &command(name, 4711.0, 12.0), &Words::default());
            assert_eq!(kept, command(name, 0.0, other), "{name}");
        }
    }

    #[test]
    fn an_aggregate_keeps_heads_and_back_pointers() {
        let part = |type_id: u8, body: &[u8]| {
            let head = [type_id, 0, 0, body.len() as u8, 0, 0, 5, 0, 0, 0, 1];
            [&head[..], body, &(11 + body.len() as u32).to_be_bytes()].concat()
        };
        let whole =
            [part(9, &[0x27, 1, 0, 0, 0, 7, 7, 7, 7, 7]), part(8, &[0xaf, 1, 7, 7]), part(18, &[2, 0, 1, 7])]
                .concat();
        let kept =
            [part(9, &[0x27, 1, 0, 0, 0, 7, 7, 7, 0, 0]), part(8, &[0xaf, 1, 0, 0]), part(18, &[0; 4])]
                .concat();
        assert_eq!(kept_payload(22, &whole, &Words::default()), kept);
        for len in 0..whole.len() {
            assert_eq!(kept_payload(22, &whole[..len], &Words::default()).len(), len, "cut anywhere");
        }
    }
}
