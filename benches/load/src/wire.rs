//! As much RTMP as the floor and the stub need: chunks walked, commands spelled, a stream chunked ahead of time.

use std::ops::Range;

pub const AUDIO: u8 = 8;
pub const VIDEO: u8 = 9;
pub const COMMAND: u8 = 20;
const SET_CHUNK_SIZE: u8 = 1;

/// C1, C2, S1 and S2.
pub const HANDSHAKE: usize = 1536;
/// Of what the stub and the floor send.
pub const CHUNK_SIZE: usize = 4096;

/// What is known of the message that a slice belongs to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Head {
    /// The chunk stream, modulo 8.
    pub csid: usize,
    pub type_id: u8,
    pub time: u32,
    delta: u32,
    len: u32,
    left: u32,
}

/// Walks chunks and stores no payload. For peers that behave: chunk stream ids below 8, no extended timestamps.
#[derive(Debug)]
pub struct Walker {
    chunk_size: u32,
    /// Of the chunk's payload.
    left: u32,
    csid: usize,
    header: [u8; 12],
    have: usize,
    announced: u32,
    streams: [Head; 8],
}

impl Default for Walker {
    fn default() -> Walker {
        let (header, streams) = ([0; 12], [Head::default(); 8]);
        Walker { chunk_size: 128, left: 0, csid: 0, header, have: 0, announced: 0, streams }
    }
}

impl Walker {
    /// Calls `on` with each slice of a payload and whether it ends its message.
    #[inline]
    pub fn walk(&mut self, mut bytes: &[u8], mut on: impl FnMut(&Head, &[u8], bool)) {
        while !bytes.is_empty() {
            if self.left == 0 && !self.begin(&mut bytes) {
                return;
            }
            let n = bytes.len().min(self.left as usize);
            let (piece, rest) = bytes.split_at(n);
            bytes = rest;
            self.left -= n as u32;
            let head = &self.streams[self.csid];
            let last = self.left == 0 && head.left == 0;
            if head.type_id == SET_CHUNK_SIZE {
                self.announced = piece.iter().fold(self.announced, |size, b| size << 8 | u32::from(*b));
                if last {
                    self.chunk_size = self.announced & 0x7FFF_FFFF;
                }
            }
            if n > 0 || last {
                on(head, piece, last);
            }
        }
    }

    /// Reads a chunk's header; whether it was all there.
    #[inline]
    fn begin(&mut self, bytes: &mut &[u8]) -> bool {
        let first = if self.have > 0 { self.header[0] } else { bytes[0] };
        let fmt = first >> 6;
        let need = [12, 8, 4, 1][usize::from(fmt)];
        let more = bytes.len().min(need - self.have);
        self.header[self.have..self.have + more].copy_from_slice(&bytes[..more]);
        *bytes = &bytes[more..];
        self.have += more;
        if self.have < need {
            return false;
        }
        self.have = 0;
        self.csid = usize::from(first & 7);
        let h = &self.header;
        let head = &mut self.streams[self.csid];
        head.csid = self.csid;
        if fmt < 3 {
            head.delta = be24(&h[1..]);
        }
        if fmt < 2 {
            (head.len, head.type_id) = (be24(&h[4..]), h[7]);
        }
        if head.left == 0 {
            head.time = if fmt == 0 { head.delta } else { head.time.wrapping_add(head.delta) };
            head.left = head.len;
        }
        self.left = head.left.min(self.chunk_size);
        head.left -= self.left;
        true
    }
}

fn be24(b: &[u8]) -> u32 {
    u32::from_be_bytes([0, b[0], b[1], b[2]])
}

/// Appends a message in chunks of [`CHUNK_SIZE`], all headers in full.
pub fn message(out: &mut Vec<u8>, csid: u8, type_id: u8, time: u32, msid: u8, payload: &[u8]) {
    let (t, len) = (time.to_be_bytes(), (payload.len() as u32).to_be_bytes());
    out.extend([csid, t[1], t[2], t[3], len[1], len[2], len[3], type_id, msid, 0, 0, 0]);
    for (i, piece) in payload.chunks(CHUNK_SIZE).enumerate() {
        out.extend((i > 0).then_some(0xC0 | csid));
        out.extend(piece);
    }
}

/// The chunk stream of audio or video.
pub fn media_csid(type_id: u8) -> u8 {
    if type_id == AUDIO { 4 } else { 6 }
}

/// A value of AMF0.
pub enum Amf<'a> {
    Number(f64),
    Text(&'a str),
    Null,
    Object(&'a [(&'a str, &'a str)]),
    /// A good status with this code.
    Status(&'a str),
}

/// Appends a command message.
pub fn command(out: &mut Vec<u8>, msid: u8, values: &[Amf<'_>]) {
    let mut body = Vec::new();
    for value in values {
        match value {
            Amf::Number(n) => {
                body.push(0);
                body.extend(n.to_be_bytes());
            }
            Amf::Text(s) => {
                body.push(2);
                text(&mut body, s);
            }
            Amf::Null => body.push(5),
            Amf::Object(fields) => object(&mut body, fields),
            Amf::Status(code) => {
                object(&mut body, &[("level", "status"), ("code", code), ("description", "fine")]);
            }
        }
    }
    message(out, 3, COMMAND, 0, msid, &body);
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u16).to_be_bytes());
    out.extend(text.as_bytes());
}

fn object(out: &mut Vec<u8>, fields: &[(&str, &str)]) {
    out.push(3);
    for (name, value) in fields {
        text(out, name);
        out.push(2);
        text(out, value);
    }
    out.extend([0, 0, 9]);
}

/// Set Chunk Size to [`CHUNK_SIZE`].
pub fn set_chunk_size(out: &mut Vec<u8>) {
    message(out, 2, SET_CHUNK_SIZE, 0, 0, &(CHUNK_SIZE as u32).to_be_bytes());
}

/// A command's name, transaction and, where it has one, the stream name.
pub fn parse_command(body: &[u8]) -> Option<(&[u8], f64, &[u8])> {
    let text = |b: &'_ [u8]| -> Option<Range<usize>> {
        let len = usize::from(u16::from_be_bytes(*b.get(1..)?.first_chunk()?));
        (b[0] == 2 && b.len() >= 3 + len).then_some(3..3 + len)
    };
    let name = text(body)?;
    let rest = &body[name.end..];
    let transaction = f64::from_be_bytes(*rest.get(1..)?.first_chunk()?);
    let stream = rest.get(10..).and_then(|rest| Some(&rest[text(rest)?])).unwrap_or_default();
    Some((&body[name], transaction, stream))
}

/// What a stream is like.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Shape {
    /// Bits of payload a second.
    #[arg(long, default_value_t = 1_000_000)]
    pub bitrate: u64,
    /// Video frames a second.
    #[arg(long, default_value_t = 30)]
    pub fps: u64,
    /// No audio.
    #[arg(long)]
    pub silent: bool,
}

/// A message of a [`Stream`].
#[derive(Debug, Clone)]
pub struct Piece {
    pub bytes: Range<usize>,
    /// Behind the beginning, in nanoseconds.
    pub at: u64,
}

/// Twenty seconds of audio and video, chunked, over and over.
#[derive(Debug)]
pub struct Stream {
    pub bytes: Vec<u8>,
    pub pieces: Vec<Piece>,
}

/// What a [`Stream`] takes, in nanoseconds.
pub const LOOP: u64 = 20_000_000_000;
const AUDIO_BPS: u64 = 64_000;
/// A key frame is as long as so many others; there is one a second.
const KEY_SHARES: u64 = 4;

impl Stream {
    pub fn new(shape: Shape) -> Stream {
        let Shape { bitrate, fps, silent } = shape;
        let audio_bps = if silent { 0 } else { AUDIO_BPS.min(bitrate / 3) };
        let audio = [&[0xAF, 1][..], &vec![0x21; (audio_bps * 1024 / 44_100 / 8) as usize]].concat();
        let share = (bitrate - audio_bps) / 8 / (fps - 1 + KEY_SHARES);
        let video = |first: u8, nal: u8, len: u64| {
            let nal_len = (len as u32 - 9).to_be_bytes();
            [&[first, 1, 0, 0, 0][..], &nal_len, &[nal], &vec![0x55; len as usize - 10]].concat()
        };
        let (key, inter) = (video(0x17, 0x65, share * KEY_SHARES), video(0x27, 0x41, share));
        let audio_times =
            (0..).map(|k| k * 1024 * 1_000_000_000 / 44_100).take_while(|at| *at < LOOP && !silent);
        let mut plan: Vec<(u64, u8, &[u8])> = audio_times.map(|at| (at, AUDIO, &audio[..])).collect();
        plan.extend((0..LOOP / 1_000_000_000 * fps).map(|k| {
            let frame = if k % fps == 0 { &key } else { &inter };
            (k * 1_000_000_000 / fps, VIDEO, &frame[..])
        }));
        plan.sort_by_key(|(at, ..)| *at);
        let mut stream = Stream { bytes: Vec::new(), pieces: Vec::new() };
        for (at, type_id, payload) in plan {
            let from = stream.bytes.len();
            message(&mut stream.bytes, media_csid(type_id), type_id, (at / 1_000_000) as u32, 1, payload);
            stream.pieces.push(Piece { bytes: from..stream.bytes.len(), at });
        }
        stream
    }

    /// Gives a message another timestamp, in milliseconds.
    pub fn stamp(&mut self, piece: usize, time: u64) {
        let from = self.pieces[piece].bytes.start;
        self.bytes[from + 1..from + 4].copy_from_slice(&(time as u32).to_be_bytes()[1..]);
    }
}
