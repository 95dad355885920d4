//! Chunk streams beside rml_rtmp, and, where messages interleave, beside shiguredo_rtmp.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::{IndexedMutRandom, IndexedRandom};
use rand::{Rng, RngExt, SeedableRng};
use rml_rtmp::chunk_io::{ChunkDeserializer, ChunkSerializer};
use rml_rtmp::messages::MessagePayload;
use rml_rtmp::time::RtmpTimestamp;
use rtmp_bench::wire::chunk::{ChunkReader, ChunkWriter, Fmt, Limits, MessageHeader, Quirks, ReadEvent};
use rtmp_bench::wire::message::type_id;
use shiguredo_rtmp::tests::{RtmpChunkDecoder, RtmpChunkSize};

const SEEDS: u64 = 100;
const CHUNK_SIZES: [u32; 7] = [1, 127, 128, 129, 4096, 65_536, 0xFF_FFFF];
const EXTENDED: u32 = 0xFF_FFFF;

/// What a message is, however it was cut: timestamp, type, message stream and payload.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    timestamp: u32,
    type_id: u8,
    msid: u32,
    payload: Vec<u8>,
}

#[test]
fn rml_reads_what_we_write() {
    for seed in 0..SEEDS {
        let mut rng = StdRng::seed_from_u64(seed);
        let chunk_size = *CHUNK_SIZES.choose(&mut rng).unwrap();
        // rml keeps one payload buffer for all chunk streams, so messages here never interleave (rtmp 5.3 allows it).
        let mut lanes = [2, 3, 5, 63, 64, 319, 320, 65_599].map(|csid| (csid, start(&mut rng)));
        let (mut said, mut bytes, mut writer) = (vec![], vec![], ChunkWriter::default());
        set_chunk_size(&mut writer, &mut bytes, &mut said, chunk_size);
        for _ in 0..80 {
            let (csid, last) = lanes.choose_mut(&mut rng).unwrap();
            *last = message(&mut rng, chunk_size, last);
            let fmt = *[None, None, Some(Fmt::Type0), Some(Fmt::Type1), Some(Fmt::Type2), Some(Fmt::Type3)]
                .choose(&mut rng)
                .unwrap();
            write(&mut writer, &mut bytes, *csid, last, fmt);
            said.push(last.clone());
        }
        assert_eq!(ours(&mut rng, &bytes), said, "ours, seed {seed}, chunk size {chunk_size}");
        assert_eq!(rml(&mut rng, &bytes), said, "rml_rtmp, seed {seed}, chunk size {chunk_size}");
    }
}

#[test]
fn we_read_what_rml_writes() {
    for seed in 0..SEEDS {
        let mut rng = StdRng::seed_from_u64(seed);
        let chunk_size = *CHUNK_SIZES.choose(&mut rng).unwrap();
        let mut serializer = ChunkSerializer::new();
        let mut bytes = serializer.set_max_chunk_size(chunk_size, RtmpTimestamp::new(0)).unwrap().bytes;
        let mut said = vec![chunk_size_message(chunk_size)];
        let mut last = start(&mut rng);
        for _ in 0..80 {
            let next = message(&mut rng, chunk_size, &last);
            last = next.clone();
            if next.payload.is_empty() {
                continue; // rml writes no chunk at all for an empty message, whose length rtmp 5.3.1.2.1 gives no minimum.
            }
            // rml also repeats type 0 in the middle of a message when told not to compress: rtmp 5.3.1.2.4 asks for type 3 there.
            let whole = rng.random_bool(0.2) && next.payload.len() <= chunk_size as usize;
            let droppable = rng.random_bool(0.1);
            let payload = MessagePayload {
                timestamp: RtmpTimestamp::new(next.timestamp),
                type_id: next.type_id,
                message_stream_id: next.msid,
                data: Bytes::from(next.payload.clone()),
            };
            bytes.extend(serializer.serialize(&payload, whole, droppable).unwrap().bytes);
            said.push(next);
        }
        assert_eq!(ours(&mut rng, &bytes), said, "seed {seed}, chunk size {chunk_size}");
    }
}

#[test]
fn interleaved_messages_are_the_same_to_shiguredo() {
    for seed in 0..SEEDS {
        let mut rng = StdRng::seed_from_u64(seed);
        // shiguredo_rtmp takes no chunk size above 65536, where rtmp 5.4.1 allows 0x7FFFFFFF.
        let chunk_size = *[1, 128, 4096, 65_536].choose(&mut rng).unwrap();
        let (mut first, mut bytes, mut setter) = (vec![], vec![], ChunkWriter::default());
        set_chunk_size(&mut setter, &mut bytes, &mut first, chunk_size);
        // The chunks of each chunk stream, written alone: what a chunk stream's headers leave out is its own (rtmp 5.3.1.2).
        let mut lanes = vec![];
        for csid in [3, 4, 64, 320] {
            let mut writer = setter.clone();
            let (mut alone, mut last) = (vec![], start(&mut rng));
            for _ in 0..20 {
                last = message(&mut rng, chunk_size, &last);
                let fmt = *[None, None, Some(Fmt::Type0)].choose(&mut rng).unwrap();
                write(&mut writer, &mut alone, csid, &last, fmt);
            }
            lanes.push(chunks(chunk_size, &alone).into_iter());
        }
        while !lanes.is_empty() {
            let i = rng.random_range(0..lanes.len());
            match lanes[i].next() {
                Some(chunk) => bytes.extend(chunk),
                None => drop(lanes.remove(i)),
            }
        }
        let theirs = shiguredo(&bytes);
        assert_eq!(theirs.len(), 81);
        assert_eq!(ours(&mut rng, &bytes), theirs, "seed {seed}, chunk size {chunk_size}");
    }
}

/// What a chunk stream's first message follows: a time near each edge of the fields, too.
fn start(rng: &mut impl Rng) -> Said {
    let timestamp = *[0, 1000, EXTENDED - 40, EXTENDED, EXTENDED + 1, u32::MAX - 100].choose(rng).unwrap();
    Said { timestamp, type_id: 9, msid: 1, payload: vec![] }
}

/// The message after `last`, often of its shape, so that type 2 and 3 can say it: regular steps, some that need the extended field, some past
/// 2^32 (rtmp 5.3.1.3), some as long as the time itself, which type 3 right after type 0 means (rtmp 5.3.1.2.4).
fn message(rng: &mut impl Rng, chunk_size: u32, last: &Said) -> Said {
    let time = last.timestamp;
    let step = *[0, 20, 20, 20, 33, time, EXTENDED - 1, EXTENDED, EXTENDED + 1].choose(rng).unwrap();
    let near = chunk_size.min(5000);
    let mut next = Said { timestamp: time.wrapping_add(step), ..last.clone() };
    if rng.random_bool(0.5) {
        let len = *[0, 1, near - 1, near, near + 1, 3 * near, 100, 100].choose(rng).unwrap();
        next.payload.resize(if chunk_size == 1 { len.min(9) } else { len } as usize, 0);
        next.type_id = *[8, 9, 9, 18, 20].choose(rng).unwrap();
        next.msid = *[0, 1, 1, 1, 0x0102_0304].choose(rng).unwrap();
    }
    rng.fill_bytes(&mut next.payload);
    next
}

fn chunk_size_message(chunk_size: u32) -> Said {
    let payload = chunk_size.to_be_bytes().to_vec();
    Said { timestamp: 0, type_id: type_id::SET_CHUNK_SIZE, msid: 0, payload }
}

fn set_chunk_size(writer: &mut ChunkWriter, bytes: &mut Vec<u8>, said: &mut Vec<Said>, chunk_size: u32) {
    let message = chunk_size_message(chunk_size);
    write(writer, bytes, 2, &message, None);
    said.push(message);
}

fn write(writer: &mut ChunkWriter, bytes: &mut Vec<u8>, csid: u32, said: &Said, fmt: Option<Fmt>) {
    let &Said { timestamp, type_id, msid, .. } = said;
    writer.write(bytes, MessageHeader { csid, timestamp, len: 0, type_id, msid }, &said.payload, fmt);
}

fn reader() -> ChunkReader {
    ChunkReader::new(Limits::default(), Quirks::default(), 0)
}

/// The stream in pieces as a socket hands them over.
fn pieces<'a>(rng: &mut impl Rng, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
    let mut pieces = vec![];
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(rng.random_range(1..=bytes.len().min(3000)));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

fn ours(rng: &mut impl Rng, bytes: &[u8]) -> Vec<Said> {
    let (mut said, mut reader) = (vec![], reader());
    for mut piece in pieces(rng, bytes) {
        while let Some(event) = reader.read(&mut piece).unwrap() {
            if let ReadEvent::Message(MessageHeader { timestamp, type_id, msid, .. }, payload) = event {
                said.push(Said { timestamp, type_id, msid, payload: payload.to_vec() });
            }
        }
    }
    said
}

fn rml(rng: &mut impl Rng, bytes: &[u8]) -> Vec<Said> {
    let (mut said, mut deserializer) = (vec![], ChunkDeserializer::new());
    for piece in pieces(rng, bytes) {
        let mut next = deserializer.get_next_message(piece).unwrap();
        while let Some(MessagePayload { timestamp, type_id, message_stream_id: msid, data }) = next {
            if type_id == type_id::SET_CHUNK_SIZE {
                let size = u32::from_be_bytes(*data.first_chunk().unwrap());
                deserializer.set_max_chunk_size(size as usize).unwrap();
            }
            said.push(Said { timestamp: timestamp.value, type_id, msid, payload: data.to_vec() });
            next = deserializer.get_next_message(&[]).unwrap();
        }
    }
    said
}

fn shiguredo(mut bytes: &[u8]) -> Vec<Said> {
    let (mut said, mut decoder) = (vec![], RtmpChunkDecoder::default());
    while !bytes.is_empty() {
        let (n, message) = decoder.decode(bytes).unwrap();
        bytes = &bytes[n..];
        let Some(message) = message else { continue };
        let type_id = message.message_type as u8;
        if type_id == type_id::SET_CHUNK_SIZE {
            let size = u32::from_be_bytes(*message.payload.first_chunk().unwrap());
            decoder.set_chunk_size(RtmpChunkSize::new(size as usize).unwrap());
        }
        let (timestamp, msid) = (message.timestamp.as_millis(), message.message_stream_id.get());
        said.push(Said { timestamp, type_id, msid, payload: message.payload });
    }
    said
}

/// Cuts the bytes of one chunk stream into its chunks.
fn chunks(chunk_size: u32, bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut reader, mut set) = (reader(), vec![]);
    set_chunk_size(&mut ChunkWriter::default(), &mut set, &mut vec![], chunk_size);
    let (mut input, before) = (&set[..], set.len());
    while reader.read(&mut input).unwrap().is_some() {}
    reader.report_chunks(true);
    let (mut input, mut cuts) = (bytes, vec![]);
    while let Some(event) = reader.read(&mut input).unwrap() {
        if let ReadEvent::Chunk(header) = event {
            cuts.push(header.offset as usize - before);
        }
    }
    cuts.push(bytes.len());
    cuts.windows(2).map(|cut| bytes[cut[0]..cut[1]].to_vec()).collect()
}
