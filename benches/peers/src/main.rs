//! The chunk reader beside those of other crates and beside memcpy, on the same bytes.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml [-- ROUNDS]` prints a table for each chunk size.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use rml_rtmp::chunk_io::ChunkDeserializer;
use rtmp::chunk::unpacketizer::{ChunkUnpacketizer, UnpackResult};
use rtmp_bench::wire::chunk::{ChunkReader, ChunkWriter, Limits, MessageHeader, Quirks, ReadEvent};
use rtmp_bench::wire::message::type_id::{AUDIO, SET_CHUNK_SIZE, VIDEO};
use scuffle_rtmp::messages::MessageType;
use shiguredo_rtmp::tests::{RtmpChunkDecoder, RtmpChunkSize, RtmpMessageType};

const CHUNK_SIZES: [u32; 3] = [128, 4096, 65_536];
/// Bytes of each stream, about.
const STREAM: usize = 64 << 20;
/// What a socket hands over at a time, in bytes.
const PIECE: usize = 64 << 10;
const ROUNDS: usize = 9;

/// Messages, and the bytes of their payloads.
type Sum = (u64, u64);
/// Reads a piece; what it completed.
type Reader = Box<dyn FnMut(&[u8]) -> Sum>;

const OURS: [(&str, fn() -> Reader); 2] = [("rtmp-bench, read", read), ("rtmp-bench, skim", skim)];
const PEERS: [(&str, fn() -> Reader); 4] = [
    ("rml_rtmp 0.8.0", rml),
    ("scuffle-rtmp 0.2.3", scuffle),
    ("shiguredo_rtmp 2026.1.0-canary.6", shiguredo),
    ("rtmp 0.6.5 (xiu)", xiu),
];

fn main() {
    let rounds = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(ROUNDS).max(7);
    for chunk_size in CHUNK_SIZES {
        let (bytes, sum) = stream(chunk_size);
        let contenders: Vec<_> = OURS.into_iter().chain(PEERS).collect();
        let mut times = vec![vec![]; contenders.len() + 2];
        for _ in 0..rounds {
            for ((name, reader), times) in contenders.iter().zip(&mut times) {
                let (found, taken) = run(&bytes, reader());
                assert_eq!(found, sum, "{name} at chunk size {chunk_size}");
                times.push(taken);
            }
            times[contenders.len()].push(run(&bytes, memcpy()).1);
            times[contenders.len() + 1].push(run(&bytes, nothing()).1);
        }
        let mut times: Vec<_> = times.iter().map(|rounds| total(rounds)).collect();
        // What the clock itself takes is nobody's.
        let clock = times.pop().unwrap();
        times.iter_mut().for_each(|time| *time -= clock);
        print(chunk_size, &bytes, sum, &contenders, &times);
        println!(
            "\nReading the clock, taken off each time: {:?} a piece.",
            clock / (bytes.len() / PIECE) as u32
        );
    }
}

/// Hands the stream over piece by piece, each in the same buffer, where a socket would have put it. What was read, and how long each piece took.
fn run(bytes: &[u8], mut reader: Reader) -> (Sum, Vec<Duration>) {
    let (mut sum, mut buffer) = ((0, 0), vec![0; PIECE]);
    let times = bytes.chunks(PIECE).map(|piece| {
        let buffer = &mut buffer[..piece.len()];
        buffer.copy_from_slice(piece);
        let start = Instant::now();
        let (messages, payload) = reader(black_box(buffer));
        let time = start.elapsed();
        sum = (sum.0 + messages, sum.1 + payload);
        time
    });
    let times = times.collect();
    (sum, times)
}

/// The sum over the pieces of the median over the rounds: what the scheduler took from a piece in one round does not count.
fn total(rounds: &[Vec<Duration>]) -> Duration {
    (0..rounds[0].len()).map(|piece| median(rounds.iter().map(|times| times[piece]).collect())).sum()
}

fn print(chunk_size: u32, bytes: &[u8], sum: Sum, contenders: &[(&str, fn() -> Reader)], times: &[Duration]) {
    let fastest = times[OURS.len()..contenders.len()].iter().min().unwrap();
    let memcpy = times.last().unwrap();
    println!(
        "\nChunk size {chunk_size}: {} bytes, {} messages, {} bytes of payload.\n",
        bytes.len(),
        sum.0,
        sum.1
    );
    println!(
        "| reader | GB/s | times as fast as the fastest peer | times memcpy's time |\n|---|---|---|---|"
    );
    for (name, time) in contenders.iter().map(|(name, _)| *name).chain(["memcpy"]).zip(times) {
        let rate = bytes.len() as f64 / time.as_secs_f64() / 1e9;
        let ratio = |a: &Duration, b: &Duration| a.as_secs_f64() / b.as_secs_f64();
        println!("| {name} | {rate:.2} | {:.2} | {:.2} |", ratio(fastest, time), ratio(time, memcpy));
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// A stream as a publisher sends it: 30 frames a second of 2 to 60 kB with a larger key frame each second, audio of 100 to 500 bytes between them.
fn stream(chunk_size: u32) -> (Vec<u8>, Sum) {
    let (mut rng, mut writer, mut bytes) = (StdRng::seed_from_u64(1), ChunkWriter::default(), vec![]);
    let mut sum = (0, 0);
    let mut payload = vec![0; 200_000];
    rng.fill_bytes(&mut payload);
    let mut write = |bytes: &mut Vec<u8>, csid, timestamp, type_id, payload: &[u8]| {
        let msid = u32::from(csid > 2);
        writer.write(bytes, MessageHeader { csid, timestamp, len: 0, type_id, msid }, payload, None);
        sum = (sum.0 + 1, sum.1 + payload.len() as u64);
    };
    write(&mut bytes, 2, 0, SET_CHUNK_SIZE, &chunk_size.to_be_bytes());
    let mut frame = 0;
    while bytes.len() < STREAM {
        let time = frame * 1000 / 30;
        let video =
            if frame % 30 == 0 { rng.random_range(60_000..200_000) } else { rng.random_range(2_000..60_000) };
        write(&mut bytes, 6, time, VIDEO, &payload[..video]);
        for half in 0..2 {
            let audio = rng.random_range(100..500);
            write(&mut bytes, 4, time + half * 16, AUDIO, &payload[..audio]);
        }
        frame += 1;
    }
    (bytes, sum)
}

/// Copies each piece into another buffer, both in the cache.
fn memcpy() -> Reader {
    let mut to = vec![1; PIECE];
    Box::new(move |piece| {
        to[..piece.len()].copy_from_slice(piece);
        black_box(&to);
        (0, 0)
    })
}

fn nothing() -> Reader {
    Box::new(|_| (0, 0))
}

fn read() -> Reader {
    let mut reader = ChunkReader::new(Limits::default(), Quirks::default(), 0);
    Box::new(move |mut piece| {
        let mut sum = (0, 0);
        while let Some(event) = reader.read(&mut piece).expect("a good stream") {
            if let ReadEvent::Message(_, payload) = event {
                sum = (sum.0 + 1, sum.1 + black_box(payload).len() as u64);
            }
        }
        sum
    })
}

fn skim() -> Reader {
    let mut reader = ChunkReader::new(Limits::default(), Quirks::default(), 0);
    Box::new(move |mut piece| {
        let mut sum = (0, 0);
        while let Some(slice) = reader.skim(&mut piece).expect("a good stream") {
            sum = (sum.0 + u64::from(slice.last), sum.1 + black_box(slice.bytes).len() as u64);
        }
        sum
    })
}

fn rml() -> Reader {
    let mut deserializer = ChunkDeserializer::new();
    Box::new(move |mut piece| {
        let mut sum = (0, 0);
        while let Some(message) = deserializer.get_next_message(piece).expect("a good stream") {
            piece = &[];
            if message.type_id == SET_CHUNK_SIZE {
                deserializer.set_max_chunk_size(be32(&message.data)).expect("a good size");
            }
            sum = (sum.0 + 1, sum.1 + black_box(message.data).len() as u64);
        }
        sum
    })
}

fn scuffle() -> Reader {
    let (mut reader, mut buffer) = (scuffle_rtmp::chunk::reader::ChunkReader::default(), BytesMut::new());
    Box::new(move |piece| {
        let mut sum = (0, 0);
        buffer.extend_from_slice(piece);
        while let Some(message) = reader.read_chunk(&mut buffer).expect("a good stream") {
            if message.message_header.msg_type_id == MessageType::SetChunkSize {
                assert!(reader.update_max_chunk_size(be32(&message.payload)));
            }
            sum = (sum.0 + 1, sum.1 + black_box(message.payload).len() as u64);
        }
        sum
    })
}

/// It reads from a slice and fails at the end of what is there; the rest stays for the next piece.
fn shiguredo() -> Reader {
    let (mut decoder, mut buffer) = (RtmpChunkDecoder::default(), Vec::new());
    Box::new(move |piece| {
        let mut sum = (0, 0);
        buffer.extend_from_slice(piece);
        let mut rest = &buffer[..];
        while let Ok((n, message)) = decoder.decode(rest) {
            rest = &rest[n..];
            let Some(message) = message else { continue };
            if message.message_type == RtmpMessageType::SetChunkSize {
                decoder.set_chunk_size(RtmpChunkSize::new(be32(&message.payload)).expect("a good size"));
            }
            sum = (sum.0 + 1, sum.1 + black_box(message.payload).len() as u64);
        }
        let read = buffer.len() - rest.len();
        buffer.drain(..read);
        sum
    })
}

fn xiu() -> Reader {
    let mut unpacketizer = ChunkUnpacketizer::new();
    Box::new(move |piece| {
        let mut sum = (0, 0);
        unpacketizer.extend_data(piece);
        while let Ok(UnpackResult::Chunks(messages)) = unpacketizer.read_chunks() {
            for message in messages {
                if message.message_header.msg_type_id == SET_CHUNK_SIZE {
                    unpacketizer.update_max_chunk_size(be32(&message.payload));
                }
                sum = (sum.0 + 1, sum.1 + black_box(message.payload).len() as u64);
            }
        }
        sum
    })
}

fn be32(payload: &[u8]) -> usize {
    u32::from_be_bytes(*payload.first_chunk().expect("four bytes")) as usize
}
