//! A capture written again so that it can be shown to others: what it says about people and places is replaced, lengths, times and structure stay.
//!
//! Each packet stays a packet of the same length at the same time, behind the same headers, with other addresses in them; checksums of TCP and UDP
//! are made again, but become 0 where the capture lacks what they are of. Fragments get the parts of their datagram, which is put together as the
//! reader does it; those of a datagram that is never whole keep headers alone, unless they repeat one that was. Bytes that came twice are replaced
//! alike, whichever copy differs.
//! Of a direction that is shown to be RTMP, by a message or by the answer to the handshake, are kept the handshake, chunk headers, control messages, the
//! shape of commands and data, sequence headers (without texts) and the first bytes of audio and video. All else becomes zeros, also what could not be decoded;
//! other protocols keep the few bytes that name them. In commands and data, AMF0 or AMF3 without references to strings and traits, each word of a
//! text becomes another word of the same length, the same one throughout the file. Comments of the file are left out.

mod header;
mod packets;
mod pieces;
mod queue;
mod words;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::frame::{Segment, Unwrapper};
use super::pcap::{self, FileFacts, Reader, Source};
use super::secrets::{NAMED, logs_in};
use super::session::{MAX_UNFINISHED, naming};
use super::shake::is_met;
use super::stream::{Connection, Direction, Handler, Hole, Streams};
use crate::record::spool::{Bytes, Spool};
use crate::wire::amf0::Value;
use crate::wire::chunk::{ChunkHeader, ChunkReader, Limits, MessageHeader, Quirks, ReadEvent};
use crate::wire::handshake::BLOCK_LEN;
use crate::wire::media::{Kind, Media};
use crate::wire::message::{Message, type_id};
use crate::wire::time::Time;
use packets::{Container, Layout, Masks, Payload, Whole};
use pieces::Pieces;
use queue::Queue;
use words::{Words, without_number};

/// C0, C1 and C2.
const HANDSHAKE: u64 = 1 + 2 * BLOCK_LEN as u64;
/// Bytes of a chunk header, at most: basic header, fields, extended timestamp.
const MAX_CHUNK_HEADER: usize = 3 + 11 + 4;
/// Chunks of one direction's unfinished messages whose places are remembered; a message for whose chunks there is no more room becomes zeros.
const MAX_PLACES: usize = 1 << 17;
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
/// known that there is something to write. Once `stopped` is true nothing more is read; `None` when nothing was written until then.
///
/// # Errors
/// When it cannot be read or the result not be written. A damaged file is written as far as it can be read.
pub fn anonymise<W: Write>(
    path: &Path,
    create: impl FnOnce() -> io::Result<W>,
    stopped: impl Fn() -> bool,
) -> Result<Option<Written>, Error> {
    let plans = plan(open(path)?, &stopped)?;
    if stopped() {
        return Ok(None);
    }
    let mut out = create()?;
    let written = write(open(path)?, &plans, &mut out, &stopped)?;
    out.flush()?;
    Ok(Some(written))
}

/// The second pass.
fn write(
    mut reader: Reader,
    plans: &Plans,
    out: &mut dyn Write,
    stopped: &dyn Fn() -> bool,
) -> Result<Written, Error> {
    let mut queue = Queue::new(Container::new(out, &plans.facts, &plans.links)?);
    let (mut unwrapper, mut payloads, mut masks) =
        (Unwrapper::default(), Payloads::new(plans), Masks::default());
    while !stopped()
        && let Ok(Some(packet)) = reader.packet()
    {
        let mut layout = Layout::default();
        let segment = unwrapper.segment_and_headers(packet, &mut layout);
        let payload = segment.map_or_else(|| Ok(Payload::default()), |segment| payloads.of(&segment))?;
        let bytes = masks.packet(packet.data, &layout.headers, &payload);
        let whole = masks.datagram(&layout, &payload, &bytes);
        queue.push(&packet, &mut layout, bytes)?;
        if let (Some(Whole { datagram, .. }), Some((bytes, tcp))) = (layout.whole, whole) {
            queue.fill(datagram, bytes, tcp)?;
        }
    }
    Ok(queue.finish()?)
}

/// Payloads of segments as they are to be written; of connections that are read now the plan is in memory.
struct Payloads<'a> {
    plans: &'a Spool<Plan>,
    bytes: &'a Bytes,
    read: HashMap<u64, Option<Plan>>,
    streams: Streams<Ended>,
}

impl Payloads<'_> {
    fn new(plans: &Plans) -> Payloads<'_> {
        let Plans { plans, bytes, .. } = plans;
        Payloads { plans, bytes, read: HashMap::new(), streams: Streams::new(Ended::default()) }
    }

    fn of(&mut self, segment: &Segment<'_>) -> io::Result<Payload> {
        let number = self.streams.segment(segment);
        self.streams.handler.0.drain(..).for_each(|number| drop(self.read.remove(&number)));
        let plan = match number.map(|number| (number, self.read.entry(number))) {
            None => None,
            Some((_, Entry::Occupied(known))) => known.into_mut().as_mut(),
            Some((number, Entry::Vacant(new))) => new.insert(self.plans.get(number)?).as_mut(),
        };
        let mut bytes = vec![0; segment.payload.len()];
        plan.map_or(Ok(()), |plan| plan.payload(segment, &mut bytes, self.bytes))?;
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
    /// Where their pieces lie.
    bytes: Bytes,
    facts: FileFacts,
    /// Of each interface that has packets.
    links: BTreeMap<u64, i32>,
}

fn plan(mut reader: Reader, stopped: &dyn Fn() -> bool) -> Result<Plans, Error> {
    let mut unwrapper = Unwrapper::default();
    let mut streams = Streams::new(Planner::default());
    let mut links = BTreeMap::new();
    while !stopped() {
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
    let Planner { mut plans, bytes, failed, .. } = streams.handler;
    failed.map_or(Ok(()), Err)?;
    plans.sort();
    Ok(Plans { plans, bytes, facts: reader.facts(), links })
}

/// What is kept of a connection's bytes.
#[derive(Serialize, Deserialize)]
struct Plan {
    client: std::net::SocketAddr,
    sides: [Kept; 2],
}

/// One direction.
#[derive(Serialize, Deserialize)]
struct Kept {
    start: Option<u32>,
    pieces: Pieces,
    /// The place that the last segment had: sequence numbers wrap, places do not.
    near: u64,
}

impl Plan {
    /// The segment's payload as it is to be written, in place of zeros.
    fn payload(&mut self, s: &Segment<'_>, out: &mut [u8], bytes: &Bytes) -> io::Result<()> {
        let side = &mut self.sides[usize::from(s.from != self.client)];
        let Some(start) = side.start else { return Ok(()) };
        let seq = s.seq.wrapping_add(u32::from(s.syn));
        let place = side.near as i64
            + i64::from(seq.wrapping_sub(start.wrapping_add(side.near as u32)).cast_signed());
        side.near = place.max(0) as u64;
        side.pieces.fill(place, out, bytes)
    }
}

/// Finds out what is kept.
#[derive(Default)]
struct Planner {
    plans: Spool<Plan>,
    bytes: Bytes,
    words: Words,
    /// Bytes of unfinished messages, over all connections.
    unfinished: usize,
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
    /// A message came that is none by chance.
    proven: bool,
    /// Of the first bytes, those that name what it is.
    named: Vec<u8>,
    /// C0 C1 C2 or S0 S1 S2, until it is known whether it is to be kept.
    handshake: Vec<u8>,
    reader: Option<Box<ChunkReader>>,
    unfinished: usize,
    pieces: pieces::Writer,
    /// The last bytes before those that come next, as many as a chunk header may have.
    recent: Vec<u8>,
    /// Where the payload of each unfinished message lies, by chunk stream.
    open: HashMap<u32, Vec<(u64, u64)>>,
    /// How many places are in `open`.
    places: usize,
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
            let is_3 = bytes.first() == Some(&3);
            side.rtmp = is_3 || (direction == Direction::S2c && client_is_rtmp);
            side.lost = !side.rtmp;
            // The first byte alone tells RTMP, encrypted or not.
            let len = naming(bytes).max(usize::from(is_3 || of.began[direction as usize]));
            side.named = bytes[..len.min(bytes.len())].to_vec();
        }
        if !side.lost {
            let before = side.unfinished;
            let read = side.read(offset, bytes, &self.words, &mut self.bytes);
            self.failed = self.failed.take().or(read.err());
            self.unfinished = self.unfinished - before + side.unfinished;
            if side.lost || self.unfinished > MAX_UNFINISHED {
                self.lose(side);
            }
            if state.sides.iter().all(|side| side.proven) {
                state.sides.iter_mut().for_each(|side| self.keep_handshake(side));
            }
        }
    }

    fn hole(&mut self, state: &mut Planning, _: &Connection, _: Time, hole: Hole) {
        self.lose(&mut state.sides[hole.direction as usize]);
    }

    fn end(&mut self, state: Planning, of: Connection) {
        let [client, server] = &state.sides;
        let is_met = is_met([&client.handshake, &server.handshake]);
        let kept = state.sides.into_iter().zip(of.start).map(|(mut side, start)| {
            self.lose(&mut side);
            if side.proven || (is_met && side.named == [3]) {
                self.keep_handshake(&mut side);
            } else {
                side.pieces = pieces::Writer::default();
                side.pieces.push(0, &side.named, &mut self.bytes)?;
            }
            Ok(Kept { start, pieces: side.pieces.finish(&mut self.bytes)?, near: 0 })
        });
        let pushed =
            kept.collect::<io::Result<Vec<_>>>().and_then(|sides| match <[Kept; 2]>::try_from(sides) {
                Ok(sides) if sides.iter().any(|side| !side.pieces.is_empty()) => {
                    self.plans.push(of.number, &Plan { client: of.client, sides })
                }
                _ => Ok(()),
            });
        self.failed = self.failed.take().or(pushed.err());
    }
}

impl Planner {
    fn keep_handshake(&mut self, side: &mut Reading) {
        let kept = side.pieces.push(0, &std::mem::take(&mut side.handshake), &mut self.bytes);
        self.failed = self.failed.take().or(kept.err());
    }

    /// Reads a direction no further.
    fn lose(&mut self, side: &mut Reading) {
        side.lost = true;
        self.unfinished -= std::mem::take(&mut side.unfinished);
        (side.reader, side.places) = (None, 0);
        (side.recent, side.open) = Default::default();
    }
}

impl Reading {
    fn read(&mut self, offset: u64, bytes: &[u8], words: &Words, store: &mut Bytes) -> io::Result<()> {
        let handshake = HANDSHAKE.saturating_sub(offset).min(bytes.len() as u64) as usize;
        self.handshake.extend_from_slice(&bytes[..handshake]);
        let mut reader = self.reader.take().unwrap_or_else(|| {
            let mut reader = ChunkReader::new(Limits::default(), Quirks::default(), HANDSHAKE);
            reader.report_chunks(true);
            Box::new(reader)
        });
        let mut rest = &bytes[handshake..];
        loop {
            let mut left = rest;
            let event = reader.read(&mut left);
            rest = &rest[rest.len() - left.len()..];
            match event {
                Ok(Some(ReadEvent::Chunk(header))) => self.chunk(&header, offset, bytes, store)?,
                Ok(Some(ReadEvent::Message(header, payload))) => {
                    self.message(header, payload, words, store)?;
                }
                Ok(Some(ReadEvent::Note(_))) => {}
                Ok(None) => break,
                Err(_) => {
                    self.lost = true;
                    break;
                }
            }
        }
        self.unfinished = reader.held_bytes();
        self.reader = Some(reader);
        let last = &bytes[bytes.len().saturating_sub(MAX_CHUNK_HEADER)..];
        self.recent.extend_from_slice(last);
        self.recent.drain(..self.recent.len().saturating_sub(MAX_CHUNK_HEADER));
        Ok(())
    }

    /// A chunk header that ends in `bytes`, which stand at `offset`.
    fn chunk(
        &mut self,
        header: &ChunkHeader,
        offset: u64,
        bytes: &[u8],
        store: &mut Bytes,
    ) -> io::Result<()> {
        let fields = [11, 7, 3, 0][header.fmt as usize] + if header.ext.is_some() { 4 } else { 0 };
        let len = u64::from(header.basic_len) + fields;
        let (at, end) = (header.offset, header.offset + len);
        let before = offset.saturating_sub(at).min(self.recent.len() as u64) as usize;
        self.pieces.push(at, &self.recent[self.recent.len() - before..], store)?;
        let here = at.max(offset);
        self.pieces.push(here, &bytes[(here - offset) as usize..(end - offset) as usize], store)?;
        let places = self.open.entry(header.csid).or_default();
        if header.first {
            self.places -= std::mem::take(places).len();
        }
        if self.places == MAX_PLACES {
            self.places -= std::mem::take(places).len();
        } else if header.first || !places.is_empty() {
            self.places += 1;
            places.push((end, header.payload_len.into()));
        }
        Ok(())
    }

    fn message(
        &mut self,
        header: MessageHeader,
        payload: &[u8],
        words: &Words,
        store: &mut Bytes,
    ) -> io::Result<()> {
        self.proven = self.proven || is_rtmp(header, payload);
        let kept = kept_payload(header.type_id, payload, words);
        let places = self.open.remove(&header.csid).unwrap_or_default();
        self.places -= places.len();
        let mut at = 0;
        for (place, len) in places {
            let end = (at + len as usize).min(kept.len());
            if at < end {
                self.pieces.push(place, &kept[at..end], store)?;
            }
            at += len as usize;
        }
        Ok(())
    }
}

/// Whether a message is RTMP's and cannot be something else's bytes that happen to be read as one.
fn is_rtmp(header: MessageHeader, payload: &[u8]) -> bool {
    match (header.type_id, Message::decode(header.type_id, payload)) {
        // rtmp 5.4: control messages have this chunk stream and message stream.
        (1..=6, Ok(_)) => {
            header.csid == 2 && header.msid == 0 && control_len(header.type_id, payload) == payload.len()
        }
        (_, Ok(Message::Command(command))) => {
            let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
            !command.name.is_empty() && command.name.iter().all(is_of_name)
        }
        _ => false,
    }
}

/// How many bytes of a control message have a meaning (rtmp 5.4, 7.1.7).
fn control_len(type_id: u8, payload: &[u8]) -> usize {
    let len = match (type_id, payload) {
        (type_id::USER_CONTROL, [0, 3, ..]) => 10,
        (type_id::USER_CONTROL, [0, 0..=2 | 4 | 6 | 7 | 31 | 32, ..]) => 6,
        (type_id::USER_CONTROL, _) => 2,
        (type_id::SET_PEER_BANDWIDTH, _) => 5,
        _ => 4,
    };
    len.min(payload.len())
}

/// The payload as it is to be written; where it is shorter, zeros follow.
fn kept_payload(type_id: u8, payload: &[u8], words: &Words) -> Vec<u8> {
    match type_id {
        1..=6 => payload[..control_len(type_id, payload)].to_vec(),
        type_id::AUDIO | type_id::VIDEO => media(type_id, payload),
        type_id::AGGREGATE => aggregate(payload),
        type_id::COMMAND_AMF0 | type_id::DATA_AMF0 | type_id::COMMAND_AMF3 | type_id::DATA_AMF3 => {
            values(type_id, payload, words).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

/// What is kept of audio or video.
fn media(type_id: u8, payload: &[u8]) -> Vec<u8> {
    let read = if type_id == type_id::AUDIO { Media::audio(payload) } else { Media::video(payload) };
    let header = read.ok().filter(|media| media.kind == Kind::Header && payload.len() <= MAX_HEADER);
    if let Some(kept) = header.and_then(|media| header::without_texts(&media, payload)) {
        return kept;
    }
    let is_short = type_id == type_id::AUDIO && payload.first().is_some_and(|b| b >> 4 != 9);
    let most = if is_short { 2 } else { FRAME_HEAD };
    payload[..most.min(payload.len())].to_vec()
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
            let kept = media(type_id, &payload[body..end]);
            out[body..body + kept.len()].copy_from_slice(&kept);
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
            if logs_in(&command.name) || !is_of_protocol(&command.name) {
                command.args.iter_mut().for_each(without_number);
            }
            words.name(&mut command.name);
            command.args.iter_mut().for_each(|v| words.replace(v));
        }
        Message::Data(_, values) => {
            let for_another = values.first().and_then(Value::as_text).is_some_and(|t| t.starts_with(b"@"));
            let names = values.len().min(1 + usize::from(for_another));
            let (names, values) = values.split_at_mut(names);
            names.iter_mut().for_each(|name| match name {
                Value::String(name) => words.name(name),
                other => words.replace(other),
            });
            values.iter_mut().for_each(|v| words.replace(v));
        }
        _ => return None,
    }
    let mut out = Vec::new();
    message.encode(&mut out);
    (out.len() == payload.len()).then_some(out)
}

/// Whether the numbers among a command's arguments are what the protocol says: streams, times, positions.
fn is_of_protocol(command: &[u8]) -> bool {
    let others = [
        &b"createStream"[..],
        b"deleteStream",
        b"closeStream",
        b"pause",
        b"pauseRaw",
        b"seek",
        b"receiveAudio",
        b"receiveVideo",
    ];
    NAMED.contains(&command)
        || others.contains(&command)
        || command.starts_with(b"_")
        || command.starts_with(b"on")
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
    use crate::wire::amf3;
    use crate::wire::message::{Command, Encoding};

    #[test]
    fn numbers_that_are_secrets_become_0() {
        let command = |name: &str, pin: f64, other: f64| {
            let object = Value::object([("pin", pin.into()), ("capabilities", 15.0.into())]);
            let mut payload = Vec::new();
            Message::command(name, 1.0, vec![object, other.into()]).encode(&mut payload);
            payload
        };
        for (name, other) in
            [("connect", 0.0), ("login", 0.0), ("joinRoom", 0.0), ("seek", 12.0), ("onStatus", 12.0)]
        {
            let kept = kept_payload(type_id::COMMAND_AMF0, &command(name, 4711.0, 12.0), &Words::default());
            assert_eq!(kept, command(name, 0.0, other), "{name}");
        }
    }

    #[test]
    fn commands_and_data_of_both_encodings_have_other_words() {
        let value = Value::Amf3(amf3::Value::String("sekret".into()));
        for encoding in [Encoding::Amf0, Encoding::Amf3] {
            let command = Command {
                encoding,
                name: "auth?key=sekret".into(),
                transaction_id: Some(3.0),
                args: vec![Value::Null, value.clone(), Value::Amf3(amf3::Value::Integer(4711))],
            };
            let data = vec!["@setDataFrame".into(), "onMetaData".into(), "sekret".into(), value.clone()];
            for message in [Message::Command(command), Message::Data(encoding, data)] {
                let mut payload = Vec::new();
                message.encode(&mut payload);
                let kept = kept_payload(message.type_id(), &payload, &Words::default());
                assert_eq!(kept.len(), payload.len());
                let shows = |text: &[u8]| kept.windows(text.len()).any(|w| w == text);
                assert!(!shows(b"sekret") && !shows(&[0xa4, 0x67]), "{kept:?}");
                let is_data = matches!(message, Message::Data(..));
                assert_eq!(is_data, shows(b"@setDataFrame") && shows(b"onMetaData"));
                assert!(Message::decode(message.type_id(), &kept).is_ok());
            }
        }
    }

    #[test]
    fn of_control_messages_is_kept_what_has_a_meaning() {
        for (type_id, payload, kept) in [
            (2, &b"\0\0\0\x05password=x"[..], 4),
            (6, b"\0\x10\0\0\x02password", 5),
            (4, b"\0\x03\0\0\0\x01\0\0\x0b\xb8password", 10),
            (4, b"\0\x06\0\0\0\x01password", 6),
            (4, b"\0\x63password", 2),
            (1, b"\0\0", 2),
        ] {
            assert_eq!(
                kept_payload(type_id, payload, &Words::default()),
                payload[..kept],
                "{type_id} {payload:?}"
            );
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
