//! The tolerant, talkative reader.

use std::collections::HashMap;

use super::wrong::{self, Before, Misread};
use super::{
    ChunkError, ChunkErrorKind, ChunkHeader, DEFAULT_CHUNK_SIZE, EXTENDED, Fmt, Limits, MAX_MESSAGE_LEN,
    MessageHeader, Quirks, ReadEvent, Slice, Type3Delta, Type3Ext, chunk_size_of,
};
use crate::wire::message::type_id;
use crate::wire::note::{Note, NoteKind};

/// The longest header: basic 3, message 11, extended timestamp 4.
const MAX_HEADER: usize = 18;
/// Chunk stream ids below this have one-byte basic headers and are looked up in an array.
const NEAR: usize = 64;
/// No chunk stream yet.
const NONE: u32 = u32::MAX;

/// Reads a chunk stream: tolerant and talkative. Set Chunk Size and Abort take effect inside it, wherever they are sent; every message is
/// reported all the same. However the bytes are cut, the events are the same.
///
/// A header inside an unfinished message: type 3 continues it; so does a type 1 or 2 of the same length and type (noted as
/// [`NoteKind::ContinuationFmt`], its delta counts from the next message on); any other drops what came of the message
/// ([`NoteKind::InterruptedMessage`]) and begins a new one.
///
/// Payload memory grows with the bytes that came, never with lengths that were announced, and stays below twice [`Limits::held_bytes`].
#[derive(Debug)]
pub struct ChunkReader {
    limits: Limits,
    quirks: Quirks,
    report_chunks: bool,
    chunk_size: u32,
    /// A chunk size that waits, in wrong ways of reading.
    later_size: Option<u32>,
    /// Index into `streams` of each chunk stream id below [`NEAR`].
    near: [u32; NEAR],
    far: HashMap<u32, u32>,
    streams: Vec<Stream>,
    /// The offset of the next byte that was not looked at.
    offset: u64,
    /// Offset of the chunk being read.
    chunk_offset: u64,
    /// The chunk stream whose chunk is being read.
    current: Option<usize>,
    /// Payload bytes missing of the chunk being read.
    left: u32,
    /// A header, or the bytes peeked behind it, that came in pieces; they stand before the input.
    kept: Kept,
    chunk: Option<ChunkHeader>,
    notes: Vec<Note>,
    notes_told: usize,
    error: Option<ChunkError>,
    /// Messages of more than one chunk that are not finished.
    open: usize,
    /// Payload bytes of unfinished messages, the chunk being read in full.
    held: usize,
    /// Capacity of all payload buffers.
    allocated: usize,
}

/// What is remembered of a chunk stream.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) csid: u32,
    pub(super) timestamp: u32,
    pub(super) delta: u32,
    pub(super) len: u32,
    pub(super) type_id: u8,
    pub(super) msid: u32,
    /// The extended timestamp of the latest type 0, 1 or 2 chunk.
    pub(super) ext: Option<u32>,
    /// A header came.
    pub(super) known: bool,
    /// A message is unfinished.
    pub(super) open: bool,
    /// It is of more than one chunk.
    split: bool,
    /// It was begun, or gone on with, by [`ChunkReader::skim`].
    skimmed: bool,
    /// Its payload bytes so far, the chunk being read in full.
    pub(super) taken: u32,
    /// The first payload bytes of Set Chunk Size and Abort, which take effect in both modes.
    control: [u8; 4],
    buf: Vec<u8>,
}

#[derive(Debug, Default)]
struct Kept {
    bytes: [u8; MAX_HEADER],
    from: usize,
    to: usize,
}

/// What is to be lent, in a form that borrows nothing.
enum Found {
    Chunk(ChunkHeader),
    Note(Note),
    /// The whole message is the next so many bytes of the input.
    Whole(MessageHeader, usize),
    /// The whole message is in the buffer of this chunk stream.
    Buffered(usize),
}

impl ChunkReader {
    /// A reader at the default chunk size; `offset` is what the offsets of headers and notes begin with, in bytes.
    pub fn new(limits: Limits, quirks: Quirks, offset: u64) -> ChunkReader {
        ChunkReader {
            limits,
            quirks,
            report_chunks: false,
            chunk_size: DEFAULT_CHUNK_SIZE,
            later_size: None,
            near: [NONE; NEAR],
            far: HashMap::new(),
            streams: Vec::new(),
            offset,
            chunk_offset: offset,
            current: None,
            left: 0,
            kept: Kept::default(),
            chunk: None,
            notes: Vec::new(),
            notes_told: 0,
            error: None,
            open: 0,
            held: 0,
            allocated: 0,
        }
    }

    /// Whether each chunk header becomes an event of its own, before its notes and the message it completes.
    pub fn report_chunks(&mut self, on: bool) {
        self.report_chunks = on;
    }

    /// The chunk size in force, in bytes.
    pub fn chunk_size(&self) -> u32 {
        self.chunk_size
    }

    /// Payload bytes held of unfinished messages.
    pub fn held_bytes(&self) -> usize {
        let coming = self.current.filter(|&i| !self.streams[i].skimmed).map_or(0, |_| self.left as usize);
        self.held - coming
    }

    /// Bytes allocated for payloads, kept for reuse included.
    pub fn allocated_bytes(&self) -> usize {
        self.allocated
    }

    /// The next event; consumes from the front of `input`. `None`: more bytes are needed (all of `input` is consumed then, header
    /// fragments are kept inside). What Set Chunk Size and Abort say wrong is noted after the message, all else before it.
    ///
    /// # Errors
    /// When the stream cannot be read further; every later call returns the same error.
    pub fn read<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Result<Option<ReadEvent<'a>>, ChunkError> {
        Ok(match self.find(input)? {
            None => {
                self.apply_later_size(Misread::ChunkSizeRead);
                None
            }
            Some(Found::Chunk(header)) => Some(ReadEvent::Chunk(header)),
            Some(Found::Note(note)) => Some(ReadEvent::Note(note)),
            Some(Found::Whole(header, len)) => {
                let payload = take(input, len);
                if header.type_id == type_id::SET_CHUNK_SIZE && self.quirks.misreads(Misread::ReadEnds) {
                    *input = &[];
                }
                Some(ReadEvent::Message(header, payload))
            }
            Some(Found::Buffered(i)) => {
                Some(ReadEvent::Message(self.streams[i].header(), &self.streams[i].buf))
            }
        })
    }

    /// The next payload slice, storing none and noting nothing; Set Chunk Size and Abort still take effect. For load. After a change
    /// from [`ChunkReader::read`] the unfinished messages go on from where they are; after a change back those are not reported.
    ///
    /// # Errors
    /// As [`ChunkReader::read`].
    pub fn skim<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Result<Option<Slice<'a>>, ChunkError> {
        let i = match self.current {
            Some(i) => i,
            None => match self.begin_chunk(input, true)? {
                Some(i) => i,
                None => return Ok(None),
            },
        };
        self.let_go(i);
        let (kept, from) = (self.kept.len(), self.kept.from);
        let n = if kept > 0 { kept } else { input.len() }.min(self.left as usize);
        if n == 0 && self.left > 0 {
            return Ok(None);
        }
        let s = &mut self.streams[i];
        let (header, at) = (s.header(), s.taken - self.left);
        s.see_control(at, if kept > 0 { &self.kept.bytes[from..from + n] } else { &input[..n] });
        self.advance(n);
        let last = self.left == 0 && self.end_chunk(i);
        self.drop_notes();
        let bytes = if kept > 0 {
            self.kept.from += n;
            &self.kept.bytes[from..from + n]
        } else {
            take(input, n)
        };
        Ok(Some(Slice { header, at, bytes, last }))
    }

    fn find(&mut self, input: &mut &[u8]) -> Result<Option<Found>, ChunkError> {
        loop {
            if let Some(header) = self.chunk.take() {
                return Ok(Some(Found::Chunk(header)));
            }
            if let Some(&note) = self.notes.get(self.notes_told) {
                self.notes_told += 1;
                return Ok(Some(Found::Note(note)));
            }
            let Some(i) = self.current else {
                if self.begin_chunk(input, false)?.is_none() {
                    return Ok(None);
                }
                continue;
            };
            if let Some(found) = self.payload(i, input) {
                return Ok(Some(found));
            }
            if self.current.is_some() {
                return Ok(None);
            }
        }
    }

    /// Reads on in the payload of the chunk; a message that it completes.
    fn payload(&mut self, i: usize, input: &mut &[u8]) -> Option<Found> {
        let s = &mut self.streams[i];
        let left = self.left as usize;
        if self.left == s.len && self.kept.len() == 0 && input.len() >= left && !s.skimmed {
            let header = s.header();
            s.see_control(0, &input[..left]);
            self.advance(left);
            self.end_chunk(i);
            return Some(Found::Whole(header, left));
        }
        while self.left > 0 {
            let peeked = self.kept.take(self.left as usize);
            let piece = match &peeked {
                Some((bytes, n)) => &bytes[..*n],
                None => take(input, input.len().min(self.left as usize)),
            };
            if piece.is_empty() {
                return None;
            }
            self.store(i, piece);
            self.advance(piece.len());
        }
        let skimmed = self.streams[i].skimmed;
        (self.end_chunk(i) && !skimmed).then_some(Found::Buffered(i))
    }

    fn advance(&mut self, n: usize) {
        self.left -= n as u32;
        self.offset += n as u64;
    }

    fn store(&mut self, i: usize, piece: &[u8]) {
        let s = &mut self.streams[i];
        s.see_control(s.taken - self.left, piece);
        if s.skimmed || s.taken > self.chunk_size && self.quirks.misreads(Misread::ContinuationLost) {
            return;
        }
        if s.buf.capacity() - s.buf.len() < piece.len() {
            self.grow(i, piece.len());
        }
        self.streams[i].buf.extend_from_slice(piece);
    }

    /// Makes room for `more` bytes: at most twice what came, at most the message. When there is much, buffers kept for reuse go first: idle
    /// ones, and what a long message left to a short one.
    #[cold]
    fn grow(&mut self, i: usize, more: usize) {
        let s = &self.streams[i];
        let (before, have) = (s.buf.capacity(), s.buf.len());
        let want = (have + more).max((2 * have).min(s.len as usize));
        if self.allocated + want - before > self.limits.held_bytes {
            let others = self.streams.iter_mut().enumerate().filter(|(other, _)| *other != i);
            for s in others.map(|(_, s)| s) {
                self.allocated -= s.buf.capacity();
                s.buf.shrink_to(if s.open { 2 * s.buf.len() } else { 0 });
                self.allocated += s.buf.capacity();
            }
        }
        let buf = &mut self.streams[i].buf;
        buf.reserve_exact(want - have);
        self.allocated = self.allocated - before + buf.capacity();
    }

    /// Ends the chunk; whether it ends the message too.
    fn end_chunk(&mut self, i: usize) -> bool {
        self.current = None;
        let s = &self.streams[i];
        if s.taken < s.len {
            return false;
        }
        if s.len > 0 && s.len.is_multiple_of(self.chunk_size) && self.quirks.misreads(Misread::TrailingChunk)
        {
            return false;
        }
        let (csid, kind, len, control) = (s.csid, s.type_id, s.len, s.control);
        self.close(i);
        match kind {
            type_id::SET_CHUNK_SIZE if len >= 4 => self.set_chunk_size(csid, control),
            type_id::ABORT if len >= 4 => self.abort(csid, u32::from_be_bytes(control)),
            _ => {}
        }
        true
    }

    /// The message of this chunk stream, finished or not, is held no longer.
    fn close(&mut self, i: usize) {
        let s = &mut self.streams[i];
        if !s.skimmed {
            self.held -= s.taken as usize;
        }
        self.open -= usize::from(s.split);
        (s.open, s.split, s.skimmed, s.taken) = (false, false, false, 0);
        if self.later_size.is_some() {
            self.apply_later_size(Misread::ChunkSizeMessage);
        }
    }

    /// Lets go of what is held of a message that is skimmed from here on.
    fn let_go(&mut self, i: usize) {
        let s = &mut self.streams[i];
        if !s.skimmed {
            s.skimmed = true;
            self.held -= s.taken as usize;
            self.allocated -= s.buf.capacity();
            s.buf = Vec::new();
        }
    }

    fn set_chunk_size(&mut self, csid: u32, payload: [u8; 4]) {
        let size = u32::from_be_bytes(payload);
        // rtmp 5.4.1: at least 1, the first bit MUST be zero; SHOULD be at least 128; more than the longest message is the same as it.
        match size {
            0 | 0x8000_0000.. => self.note(NoteKind::ChunkSizeInvalid, csid, size),
            1..DEFAULT_CHUNK_SIZE => self.note(NoteKind::ChunkSizeSmall, csid, size),
            DEFAULT_CHUNK_SIZE..=MAX_MESSAGE_LEN => {}
            _ => self.note(NoteKind::ChunkSizeLarge, csid, size),
        }
        let size = chunk_size_of(&payload).unwrap_or(self.chunk_size);
        match self.quirks.misread {
            Some(Misread::ChunkSizeIgnored) => {}
            Some(Misread::ChunkSizeCapped) if size > 65_536 => {}
            Some(Misread::ChunkSizeGrows) if size < self.chunk_size => {}
            Some(Misread::ChunkSizeMessage) if self.open > 0 => self.later_size = Some(size),
            Some(Misread::ChunkSizeRead) => self.later_size = Some(size),
            _ => self.chunk_size = size,
        }
    }

    /// A chunk size that was put off takes effect.
    #[cold]
    fn apply_later_size(&mut self, at: Misread) {
        if self.quirks.misreads(at) && (at == Misread::ChunkSizeRead || self.open == 0) {
            self.chunk_size = self.later_size.take().unwrap_or(self.chunk_size);
        }
    }

    /// rtmp 5.4.2: the partly received message is discarded; the header state stays.
    fn abort(&mut self, csid: u32, named: u32) {
        let named = match self.quirks.misread {
            Some(Misread::AbortIgnored) => return,
            Some(Misread::AbortShortId) => named & 0xFF,
            Some(Misread::AbortAll) => {
                for i in 0..self.streams.len() {
                    if self.streams[i].open {
                        self.close(i);
                    }
                }
                return;
            }
            _ => named,
        };
        match self.lookup(named) {
            Some(i) if self.quirks.misreads(Misread::AbortHeader) => {
                if self.streams[i].open {
                    self.close(i);
                }
                self.streams[i].type_id = 0;
            }
            Some(i) if self.streams[i].open => self.close(i),
            _ => self.note(NoteKind::AbortUnknown, csid, named),
        }
    }

    fn note(&mut self, kind: NoteKind, csid: u32, value: u32) {
        if self.notes_told == self.notes.len() {
            self.drop_notes();
        }
        self.notes.push(Note { kind, offset: self.chunk_offset, csid, value: u64::from(value) });
    }

    fn lookup(&self, csid: u32) -> Option<usize> {
        let i = match self.near.get(csid as usize) {
            Some(&i) => i,
            None => self.far.get(&csid).copied().unwrap_or(NONE),
        };
        (i != NONE).then_some(i as usize)
    }

    /// Reads a chunk header, if it is all there, and what it means.
    #[inline]
    fn begin_chunk(&mut self, input: &mut &[u8], skim: bool) -> Result<Option<usize>, ChunkError> {
        if let Some(i) = self.plain_continuation(input) {
            self.begin_payload(i, skim)?;
            return Ok(Some(i));
        }
        self.begin_any_chunk(input, skim)
    }

    /// The most frequent chunk by far: type 3, one-byte basic header, no extended timestamp, inside a message.
    #[inline]
    fn plain_continuation(&mut self, input: &mut &[u8]) -> Option<usize> {
        let (&first, rest) = input.split_first()?;
        if first < 0xC2
            || self.kept.len() > 0
            || self.report_chunks
            || self.error.is_some()
            || self.quirks.misread.is_some()
        {
            return None;
        }
        let i = self.near[usize::from(first & 0x3F)] as usize;
        let s = self.streams.get(i)?;
        if !s.open || s.ext.is_some() {
            return None;
        }
        *input = rest;
        self.chunk_offset = self.offset;
        self.offset += 1;
        Some(i)
    }

    fn begin_any_chunk(&mut self, input: &mut &[u8], skim: bool) -> Result<Option<usize>, ChunkError> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        self.chunk_offset = self.offset;
        let Some((header, len)) = self.whole_header(input).map_err(|kind| self.fail(kind))? else {
            return Ok(None);
        };
        self.offset += len as u64;
        let i = self.apply(&header).map_err(|kind| self.fail(kind))?;
        let first = !self.streams[i].open;
        self.begin_payload(i, skim)?;
        if first {
            self.judge_message(i);
        }
        if skim {
            self.drop_notes();
        } else if self.report_chunks {
            self.chunk =
                Some(ChunkHeader { offset: self.chunk_offset, first, payload_len: self.left, ..header });
        }
        Ok(Some(i))
    }

    /// The next header and its length, once it is all there; until then its bytes are kept.
    fn whole_header(&mut self, input: &mut &[u8]) -> Result<Option<(ChunkHeader, usize)>, ChunkErrorKind> {
        let before = self.kept.len();
        if before == 0 {
            let parsed = self.parse(input)?;
            match parsed {
                Some((_, len)) => drop(take(input, len)),
                None if self.quirks.misreads(Misread::HeaderLost) => drop(take(input, input.len())),
                None => self.kept.add(take(input, input.len())),
            }
            return Ok(parsed);
        }
        let more = input.len().min(MAX_HEADER - before);
        self.kept.add(&input[..more]);
        let parsed = self.parse(self.kept.get())?;
        let Some((_, len)) = parsed else {
            take(input, more);
            return Ok(None);
        };
        if len >= before {
            take(input, len - before);
            self.kept = Kept::default();
        } else {
            // Bytes that were peeked at are payload.
            self.kept.to -= more;
            self.kept.from += len;
        }
        Ok(parsed)
    }

    /// The header at the front of `b` and its length. Needs the state only for what type 3 leaves out.
    fn parse(&self, b: &[u8]) -> Result<Option<(ChunkHeader, usize)>, ChunkErrorKind> {
        let Some((fmt, csid, basic_len)) = basic_header(b) else { return Ok(None) };
        let csid = self.quirks.csid(csid, basic_len)?;
        let stream = self.lookup(csid).map(|i| &self.streams[i]);
        if stream.is_none() && fmt >= Fmt::Type2 && !self.quirks.misreads(Misread::HeaderlessIgnored) {
            return Err(ChunkErrorKind::NoHeader { csid, fmt: fmt as u8 });
        }
        let (fields, ext) =
            match b.get(usize::from(basic_len)..).map(|b| b.split_at_checked(message_header_len(fmt))) {
                Some(Some(split)) => split,
                _ => return Ok(None),
            };
        let be24 = |at: usize| fields.get(at..at + 3).map(|b| u32::from_be_bytes([0, b[0], b[1], b[2]]));
        let timestamp = be24(0);
        let ext = match (stream, timestamp) {
            (_, Some(field)) if self.quirks.is_marker(field) => {
                ext.first_chunk().map(|b| Some(u32::from_be_bytes(*b)))
            }
            (Some(s), None) => self.type3_ext(s, ext),
            _ => Some(None),
        };
        let Some(ext) = ext else { return Ok(None) };
        let header = ChunkHeader {
            offset: 0,
            fmt,
            csid,
            basic_len,
            timestamp,
            len: be24(3),
            type_id: fields.get(6).copied(),
            msid: fields.get(7..).and_then(|b| b.first_chunk()).map(|b| u32::from_le_bytes(*b)),
            ext,
            first: false,
            payload_len: 0,
        };
        let len = usize::from(basic_len) + fields.len() + if ext.is_some() { 4 } else { 0 };
        Ok(Some((header, len)))
    }

    /// The extended timestamp of a type 3 chunk, in so far as this reader thinks that there is one; `None`: more bytes are needed.
    fn type3_ext(&self, s: &Stream, b: &[u8]) -> Option<Option<u32>> {
        let Some(ext) = s.ext else { return Some(None) };
        match self.quirks.type3_ext {
            Type3Ext::Absent => Some(None),
            Type3Ext::Present => b.first_chunk().map(|b| Some(u32::from_be_bytes(*b))), // rtmp 5.3.1.3
            Type3Ext::Peeked => {
                // The first byte that differs decides, so that a short payload is not kept waiting for four bytes.
                let n = b.len().min(4);
                if b[..n] != ext.to_be_bytes()[..n] { Some(None) } else { (n == 4).then_some(Some(ext)) }
            }
        }
    }

    /// Takes the header into the state of its chunk stream and notes what is wrong with it.
    fn apply(&mut self, header: &ChunkHeader) -> Result<usize, ChunkErrorKind> {
        let ChunkHeader { fmt, csid, .. } = *header;
        let i = match self.lookup(csid) {
            Some(i) => i,
            None => self.add_stream(csid)?,
        };
        if header.basic_len == 3 && csid < 320 {
            self.note(NoteKind::LongBasicHeader, csid, 3); // rtmp 5.3.1.1: the smallest form SHOULD be used
        }
        if fmt != Fmt::Type0 && !self.streams[i].known {
            self.note(NoteKind::FreshCsidFmt, csid, fmt as u32);
        }
        self.judge_place_in_message(i, header);
        self.judge_ext(i, header);
        let after_type0 = match self.quirks.type3_after_type0 {
            Type3Delta::Timestamp => None,
            Type3Delta::Zero => Some(0),
        };
        let s = &mut self.streams[i];
        let before = Before::of(s);
        s.known = true;
        if let Some(field) = header.timestamp {
            let time = header.ext.unwrap_or(field);
            s.ext = header.ext;
            s.delta = time;
            if fmt == Fmt::Type0 {
                s.timestamp = 0;
            }
        }
        s.len = header.len.unwrap_or(s.len);
        s.type_id = header.type_id.unwrap_or(s.type_id);
        s.msid = header.msid.unwrap_or(s.msid);
        if !s.open {
            s.timestamp = s.timestamp.wrapping_add(s.delta);
            // rtmp 5.3.1.2.1: a time that steps back MUST be of type 0.
            if fmt != Fmt::Type0 && s.delta >= 1 << 31 {
                let delta = s.delta;
                self.note(NoteKind::BackwardDelta, csid, delta);
            }
        }
        let s = &mut self.streams[i];
        if fmt == Fmt::Type0 {
            s.delta = after_type0.unwrap_or(s.delta); // rtmp 5.3.1.2.4: the delta after type 0 is its timestamp
        }
        if let Some(misread) = self.quirks.misread {
            wrong::misread(misread, header, before, s)?;
            self.misread_others(i);
        }
        let (value, limit) = (self.streams[i].len, self.limits.message_len);
        if value > limit {
            return Err(ChunkErrorKind::Limit {
                what: "message length",
                value: value.into(),
                limit: limit.into(),
            });
        }
        Ok(i)
    }

    /// What a new message does to those on other chunk streams, and a new read to what is left of it.
    fn misread_others(&mut self, i: usize) {
        if self.quirks.misreads(Misread::OneBuffer) && !self.streams[i].open {
            let others = self.streams.iter_mut().enumerate().filter(|(other, s)| *other != i && s.open);
            others.for_each(|(_, s)| s.buf.fill(0));
        }
    }

    fn add_stream(&mut self, csid: u32) -> Result<usize, ChunkErrorKind> {
        let i = self.streams.len();
        let limit = self.limits.chunk_streams;
        if i >= limit {
            return Err(ChunkErrorKind::Limit {
                what: "number of chunk streams",
                value: i as u64 + 1,
                limit: limit as u64,
            });
        }
        match self.near.get_mut(csid as usize) {
            Some(near) => *near = i as u32,
            None => drop(self.far.insert(csid, i as u32)),
        }
        self.streams.push(Stream { csid, ..Stream::default() });
        Ok(i)
    }

    /// A header inside an unfinished message continues it or ends it.
    fn judge_place_in_message(&mut self, i: usize, header: &ChunkHeader) {
        let s = &self.streams[i];
        if !s.open || header.fmt == Fmt::Type3 {
            return;
        }
        let same =
            header.len.is_none_or(|len| len == s.len) && header.type_id.is_none_or(|kind| kind == s.type_id);
        if header.fmt != Fmt::Type0 && same {
            self.note(NoteKind::ContinuationFmt, header.csid, header.fmt as u32); // rtmp 5.3.1.2.4: SHOULD be type 3
        } else {
            let missing = s.len - s.taken;
            self.note(NoteKind::InterruptedMessage, header.csid, missing);
            if !self.quirks.misreads(Misread::Splice) {
                self.close(i);
            }
        }
    }

    /// rtmp 5.3.1.3: 0xFFFFFF in the field means an extended timestamp, which type 3 chunks repeat.
    fn judge_ext(&mut self, i: usize, header: &ChunkHeader) {
        let expected = self.streams[i].ext;
        match (header.fmt, header.ext) {
            (Fmt::Type3, Some(ext)) if expected != Some(ext) => {
                self.note(NoteKind::ExtendedTimestampDiffers, header.csid, ext)
            }
            (Fmt::Type3, None) if expected.is_some() && self.quirks.type3_ext == Type3Ext::Peeked => {
                self.note(NoteKind::ExtendedTimestampAbsent, header.csid, expected.unwrap_or(0));
            }
            (Fmt::Type0 | Fmt::Type1 | Fmt::Type2, Some(ext)) if ext < EXTENDED => {
                self.note(NoteKind::RedundantExtendedTimestamp, header.csid, ext);
            }
            _ => {}
        }
    }

    /// Notes what a message's header shows to be wrong with it.
    fn judge_message(&mut self, i: usize) {
        let MessageHeader { csid, msid, len, type_id, .. } = self.streams[i].header();
        let misplaced = csid != 2 || msid != 0;
        match type_id {
            // rtmp 5.4: chunk stream 2 and message stream 0, and each has one layout.
            1 | 2 | 3 | 5 | 6 => {
                if misplaced {
                    self.note(NoteKind::ControlPlace, csid, msid);
                }
                if len != if type_id == 6 { 5 } else { 4 } {
                    self.note(NoteKind::ControlLength, csid, len);
                }
            }
            // rtmp 6.2: the same place, and a single chunk.
            4 => {
                if misplaced {
                    self.note(NoteKind::UserControlPlace, csid, msid);
                }
                if self.left < len {
                    self.note(NoteKind::UserControlSplit, csid, len);
                }
            }
            8 | 9 | 15 | 18 | 22 if csid == 2 => {
                self.note(NoteKind::MediaOnControlCsid, csid, type_id.into())
            }
            _ => {}
        }
    }

    /// Begins the payload of a chunk on this chunk stream, and a message if none is open.
    #[inline]
    fn begin_payload(&mut self, i: usize, skim: bool) -> Result<(), ChunkError> {
        if skim {
            self.let_go(i);
        }
        let s = &mut self.streams[i];
        let n = self.chunk_size.min(s.len - s.taken);
        if !s.open {
            s.open = true;
            s.split = n < s.len;
            s.skimmed = skim;
            s.buf.clear();
            self.open += usize::from(s.split);
            if self.open > self.limits.open_messages {
                return Err(self.over("number of unfinished messages", self.open, self.limits.open_messages));
            }
        }
        if !self.streams[i].skimmed {
            let held = self.held + n as usize;
            if held > self.limits.held_bytes {
                return Err(self.over("number of held bytes", held, self.limits.held_bytes));
            }
            self.held = held;
        }
        self.streams[i].taken += n;
        self.left = n;
        self.current = Some(i);
        Ok(())
    }

    #[cold]
    fn over(&mut self, what: &'static str, value: usize, limit: usize) -> ChunkError {
        self.fail(ChunkErrorKind::Limit { what, value: value as u64, limit: limit as u64 })
    }

    fn drop_notes(&mut self) {
        self.notes.clear();
        self.notes_told = 0;
    }

    #[cold]
    fn fail(&mut self, kind: ChunkErrorKind) -> ChunkError {
        self.drop_notes();
        self.current = None;
        let error = ChunkError { offset: self.chunk_offset, kind };
        self.error = Some(error.clone());
        error
    }
}

impl Stream {
    fn header(&self) -> MessageHeader {
        let &Stream { csid, timestamp, len, type_id, msid, .. } = self;
        MessageHeader { csid, timestamp, len, type_id, msid }
    }

    /// Remembers the first four payload bytes of Set Chunk Size and Abort; `piece` begins at `at`.
    #[inline]
    fn see_control(&mut self, at: u32, piece: &[u8]) {
        if matches!(self.type_id, type_id::SET_CHUNK_SIZE | type_id::ABORT) {
            for (to, from) in self.control.iter_mut().skip(at as usize).zip(piece) {
                *to = *from;
            }
        }
    }
}

impl Kept {
    #[inline]
    fn len(&self) -> usize {
        self.to - self.from
    }

    fn get(&self) -> &[u8] {
        &self.bytes[self.from..self.to]
    }

    /// Adds bytes, which fit.
    fn add(&mut self, more: &[u8]) {
        self.bytes.copy_within(self.from..self.to, 0);
        (self.from, self.to) = (0, self.len());
        self.bytes[self.to..self.to + more.len()].copy_from_slice(more);
        self.to += more.len();
    }

    /// Up to `n` bytes from the front.
    #[inline]
    fn take(&mut self, n: usize) -> Option<([u8; MAX_HEADER], usize)> {
        if self.len() == 0 {
            return None;
        }
        let n = n.min(self.len());
        let mut taken = [0; MAX_HEADER];
        taken[..n].copy_from_slice(&self.get()[..n]);
        self.from += n;
        Some((taken, n))
    }
}

/// The chunk type, the chunk stream id and the bytes they took; `None` until enough bytes are here (rtmp 5.3.1.1).
fn basic_header(b: &[u8]) -> Option<(Fmt, u32, u8)> {
    let first = *b.first()?;
    let (csid, len) = match first & 0x3F {
        0 => (64 + u32::from(*b.get(1)?), 2),
        1 => (64 + u32::from(*b.get(1)?) + 256 * u32::from(*b.get(2)?), 3),
        id => (u32::from(id), 1),
    };
    Some((Fmt::of(first), csid, len))
}

/// rtmp 5.3.1.2.
fn message_header_len(fmt: Fmt) -> usize {
    match fmt {
        Fmt::Type0 => 11,
        Fmt::Type1 => 7,
        Fmt::Type2 => 3,
        Fmt::Type3 => 0,
    }
}

fn take<'a>(input: &mut &'a [u8], n: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(n);
    *input = rest;
    taken
}
