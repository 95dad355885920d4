//! The tolerant, talkative reader.

mod header;
mod skim;

use std::collections::HashMap;

use super::wrong::{self, Before, Misread};
use super::{
    ChunkError, ChunkErrorKind, ChunkHeader, DEFAULT_CHUNK_SIZE, Fmt, Limits, MAX_MESSAGE_LEN, MessageHeader,
    Quirks, ReadEvent, Type3Delta, chunk_size_of,
};
use crate::wire::message::type_id;
use crate::wire::note::{Note, NoteKind};

/// The longest header: basic 3, message 11, extended timestamp 4.
const MAX_HEADER: usize = 18;
/// Chunk stream ids below this have one-byte basic headers and are looked up in an array.
const NEAR: usize = 64;
/// No chunk stream yet, or one beyond what fits: those are looked up as the far ones are.
const NONE: u16 = u16::MAX;

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
    near: [u16; NEAR],
    /// The same of all others.
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

    /// The offset of the chunk that was read last: behind a message, of the one that completed it.
    pub fn chunk_offset(&self) -> u64 {
        self.chunk_offset
    }

    /// Payload bytes held of unfinished messages.
    pub fn held_bytes(&self) -> usize {
        let coming = self.current.filter(|&i| !self.streams[i].skimmed).map_or(0, |_| self.left as usize);
        self.held - coming
    }

    /// Frees what is kept for reuse.
    pub fn free_idle(&mut self) {
        for s in self.streams.iter_mut().filter(|s| !s.open) {
            self.allocated -= s.buf.capacity();
            s.buf = Vec::new();
        }
        self.streams.shrink_to_fit();
        self.notes.shrink_to_fit();
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

    /// [`ChunkReader::read`] of the whole plain chunks of one chunk stream that do not end their message, as far as they fit what is allocated.
    #[inline]
    fn read_inside(&mut self, input: &mut &[u8]) {
        let Some(i) = self.plain_inside(input) else { return };
        let (s, first, size) = (&mut self.streams[i], input[0], self.chunk_size as usize);
        if s.skimmed {
            return;
        }
        while s.len - s.taken > self.chunk_size
            && input.len() > size
            && input[0] == first
            && s.buf.capacity() - s.buf.len() >= size
            && self.held + size <= self.limits.held_bytes
        {
            s.buf.extend_from_slice(&take(input, 1 + size)[1..]);
            s.taken += self.chunk_size;
            self.held += size;
            self.chunk_offset = self.offset;
            self.offset += 1 + size as u64;
        }
    }

    /// The chunk stream of the next chunk, when that is plain, lies whole in the input and does not end its
    /// message, which is none that takes effect here.
    #[inline]
    fn plain_inside(&self, input: &[u8]) -> Option<usize> {
        let i = self.plain(input).filter(|_| self.current.is_none())?;
        let s = &self.streams[i];
        let inside = s.len - s.taken > self.chunk_size && input.len() > self.chunk_size as usize;
        (inside && !matches!(s.type_id, type_id::SET_CHUNK_SIZE | type_id::ABORT)).then_some(i)
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
                self.read_inside(input);
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
                if !s.open {
                    s.buf.clear();
                }
                s.buf.shrink_to(2 * s.buf.len());
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
        match self.near.get(csid as usize) {
            Some(&i) if i != NONE => Some(usize::from(i)),
            _ => self.far.get(&csid).map(|i| *i as usize),
        }
    }

    /// The chunk stream of a header with this first byte, if it is among the near ones; 0 and 1, the longer forms, never are.
    #[inline]
    fn near(&self, first: u8) -> Option<usize> {
        let i = self.near[usize::from(first & 0x3F)];
        (i != NONE).then_some(usize::from(i))
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

    #[inline]
    fn plain_continuation(&mut self, input: &mut &[u8]) -> Option<usize> {
        let i = self.plain(input)?;
        *input = &input[1..];
        self.chunk_offset = self.offset;
        self.offset += 1;
        Some(i)
    }

    /// The most frequent chunk by far: type 3, one-byte basic header, no extended timestamp, inside a message.
    #[inline]
    fn plain(&self, input: &[u8]) -> Option<usize> {
        let first = *input.first()?;
        if first < 0xC2
            || self.kept.len() > 0
            || self.report_chunks
            || self.error.is_some()
            || self.quirks.misread.is_some()
        {
            return None;
        }
        let i = self.near(first)?;
        let s = self.streams.get(i)?;
        (s.open && s.ext.is_none()).then_some(i)
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
            Some(near) if i < usize::from(NONE) => *near = i as u16,
            _ => drop(self.far.insert(csid, i as u32)),
        }
        self.streams.push(Stream { csid, ..Stream::default() });
        Ok(i)
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

fn take<'a>(input: &mut &'a [u8], n: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(n);
    *input = rest;
    taken
}
