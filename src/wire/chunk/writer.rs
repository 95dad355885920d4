//! The writer of good peers.

use super::raw::{basic_header, be24};
use super::{DEFAULT_CHUNK_SIZE, EXTENDED, Fmt, MAX_MESSAGE_LEN, MessageHeader, Miswrite, chunk_size_of};
use crate::wire::message::type_id;

/// Writes chunks as good peers do: the shortest header that is right, type 3 continuations, extended timestamps repeated.
#[derive(Debug, Clone)]
pub struct ChunkWriter {
    chunk_size: u32,
    /// By chunk stream id.
    streams: Vec<Sent>,
    miswrite: Option<Miswrite>,
}

/// The latest message of a chunk stream.
#[derive(Debug, Clone, Copy)]
struct Sent {
    header: MessageHeader,
    /// What a type 3 chunk would add.
    delta: u32,
    after_type0: bool,
    /// The extended timestamp of the latest type 0, 1 or 2 chunk.
    ext: Option<u32>,
}

impl Default for ChunkWriter {
    fn default() -> ChunkWriter {
        ChunkWriter { chunk_size: DEFAULT_CHUNK_SIZE, streams: Vec::new(), miswrite: None }
    }
}

impl ChunkWriter {
    /// One that writes wrongly, if so asked.
    pub fn new(miswrite: Option<Miswrite>) -> ChunkWriter {
        ChunkWriter { miswrite, ..ChunkWriter::default() }
    }

    /// The chunk size in force, in bytes.
    pub fn chunk_size(&self) -> u32 {
        self.chunk_size
    }

    /// Appends the message to `out`. `header.len` is ignored, `payload.len()` is written; a payload is cut to [`MAX_MESSAGE_LEN`], which is
    /// all that the field can say. `fmt` forces the type of the first chunk where state allows it (the fields it lacks must then equal the
    /// state, else type 0 is written). A Set Chunk Size message takes effect right after itself.
    pub fn write(&mut self, out: &mut Vec<u8>, header: MessageHeader, payload: &[u8], fmt: Option<Fmt>) {
        let payload = &payload[..payload.len().min(MAX_MESSAGE_LEN as usize)];
        let header = MessageHeader { len: payload.len() as u32, ..header };
        let (fmt, sent) = self.begin(header, fmt);
        self.chunks(out, fmt, &sent, payload);
        if header.type_id == type_id::SET_CHUNK_SIZE {
            self.chunk_size = chunk_size_of(payload).unwrap_or(self.chunk_size);
        }
    }

    /// Appends what stands before the first chunk of the message and, where there are more, what stands before each other; bytes of the
    /// first. Here `header.len` is heeded: the caller writes as many bytes of payload. Not for Set Chunk Size.
    pub fn head(&mut self, out: &mut Vec<u8>, header: MessageHeader) -> usize {
        let header = MessageHeader { len: header.len.min(MAX_MESSAGE_LEN), ..header };
        let (fmt, sent) = self.begin(header, None);
        let before = out.len();
        let [first, other] = self.heads(fmt, &sent);
        first.write(out);
        let len = out.len() - before;
        if header.len > self.chunk_size {
            other.write(out);
        }
        len
    }

    /// Brings its state into the caches; the number means nothing.
    pub fn touch(&self) -> u64 {
        self.streams.iter().map(|sent| u64::from(sent.header.timestamp)).fold(0, u64::wrapping_add)
    }

    /// Takes note of the message; the type of its first chunk.
    fn begin(&mut self, mut header: MessageHeader, fmt: Option<Fmt>) -> (Fmt, Sent) {
        let media = matches!(header.type_id, type_id::AUDIO | type_id::VIDEO);
        match self.miswrite {
            Some(Miswrite::LongBasicHeader) if media => header.csid = 64 + header.csid % 200,
            Some(Miswrite::MediaOnCsid2) if media => header.csid = 2,
            _ => {}
        }
        let place = self.streams.binary_search_by_key(&header.csid, |sent| sent.header.csid);
        let before = place.ok().map(|place| &self.streams[place]);
        let fmt = match (before, fmt) {
            (None, _) if self.miswrite == Some(Miswrite::FreshType1) => Fmt::Type1,
            (None, _) => Fmt::Type0,
            (Some(sent), None) => match self.miswrite {
                None => sent.shortest(&header),
                Some(miswrite) => miswrite.fmt(sent.shortest(&header), sent.step(&header)),
            },
            (Some(sent), Some(fmt)) => sent.allows(fmt, &header),
        };
        let sent = Sent::after(before, fmt, header);
        match place {
            Ok(place) => self.streams[place] = sent,
            Err(place) => self.streams.insert(place, sent),
        }
        (fmt, sent)
    }

    /// What stands before the first chunk, and before each other.
    fn heads(&self, fmt: Fmt, sent: &Sent) -> [Head; 2] {
        let basic_len = self.miswrite.and_then(|miswrite| miswrite.basic_len(sent.header.csid));
        let mut first = Head { fmt, sent: *sent, basic_len };
        if let Some(miswrite) = self.miswrite {
            (first.sent.delta, first.sent.ext) =
                miswrite.time(fmt, sent.header.timestamp, sent.delta, sent.ext);
        }
        // rtmp 5.3.1.2.4: continuations SHOULD be type 3
        let mut other = Head { fmt: Fmt::Type3, ..first };
        if let Some(miswrite) = self.miswrite {
            (other.fmt, other.sent.header.csid, other.sent.ext) =
                miswrite.continuation(&sent.header, other.sent.ext);
        }
        [first, other]
    }

    fn chunks(&self, out: &mut Vec<u8>, fmt: Fmt, sent: &Sent, payload: &[u8]) {
        let size = self.chunk_size as usize;
        out.reserve(payload.len() + 18 + payload.len() / size * 7);
        let [first, other] = self.heads(fmt, sent);
        let (chunk, mut rest) = payload.split_at(payload.len().min(size));
        first.write(out);
        out.extend_from_slice(chunk);
        while !rest.is_empty() {
            let chunk;
            (chunk, rest) = rest.split_at(rest.len().min(size));
            other.write(out);
            out.extend_from_slice(chunk);
        }
    }
}

/// What stands before a chunk.
#[derive(Debug, Clone, Copy)]
struct Head {
    fmt: Fmt,
    sent: Sent,
    basic_len: Option<u8>,
}

impl Head {
    fn write(&self, out: &mut Vec<u8>) {
        self.sent.write(out, self.fmt, self.basic_len);
    }
}

impl Sent {
    /// The state after `header` went out with a first chunk of type `fmt`, which `before` allows.
    fn after(before: Option<&Sent>, fmt: Fmt, header: MessageHeader) -> Sent {
        let (delta, ext) = match (fmt, before) {
            (Fmt::Type3, Some(before)) => (before.delta, before.ext),
            (Fmt::Type1 | Fmt::Type2, Some(before)) => (before.step(&header), None),
            _ => (header.timestamp, None),
        };
        let ext = ext.or((fmt != Fmt::Type3 && delta >= EXTENDED).then_some(delta));
        Sent { header, delta, after_type0: fmt == Fmt::Type0, ext }
    }

    fn step(&self, next: &MessageHeader) -> u32 {
        next.timestamp.wrapping_sub(self.header.timestamp)
    }

    /// The shortest type that every reader understands alike: no extended deltas, and no type 3 right after type 0, whose delta is the
    /// timestamp by rtmp 5.3.1.2.4 and 0 for several servers. A time that steps back needs type 0 (rtmp 5.3.1.2.1).
    fn shortest(&self, next: &MessageHeader) -> Fmt {
        let (last, step) = (&self.header, self.step(next));
        if next.msid != last.msid || step >= EXTENDED {
            Fmt::Type0
        } else if (next.len, next.type_id) != (last.len, last.type_id) {
            Fmt::Type1
        } else if step != self.delta || self.after_type0 {
            Fmt::Type2
        } else {
            Fmt::Type3
        }
    }

    /// `fmt` if what it leaves out is as it was, else type 0.
    fn allows(&self, fmt: Fmt, next: &MessageHeader) -> Fmt {
        let last = &self.header;
        let same_stream = next.msid == last.msid;
        let same_shape = same_stream && (next.len, next.type_id) == (last.len, last.type_id);
        let allowed = match fmt {
            Fmt::Type0 => true,
            Fmt::Type1 => same_stream,
            Fmt::Type2 => same_shape,
            Fmt::Type3 => same_shape && self.step(next) == self.delta,
        };
        if allowed { fmt } else { Fmt::Type0 }
    }

    fn write(&self, out: &mut Vec<u8>, fmt: Fmt, basic_len: Option<u8>) {
        let MessageHeader { csid, len, type_id, msid, .. } = self.header;
        basic_header(out, fmt as u8, csid, basic_len);
        if fmt < Fmt::Type3 {
            be24(out, self.delta.min(EXTENDED));
        }
        if fmt < Fmt::Type2 {
            be24(out, len);
            out.push(type_id);
        }
        if fmt == Fmt::Type0 {
            out.extend_from_slice(&msid.to_le_bytes()); // rtmp 5.3.1.2.1: little-endian
        }
        if let Some(ext) = self.ext {
            out.extend_from_slice(&ext.to_be_bytes()); // rtmp 5.3.1.3: present in type 3 too
        }
    }
}
