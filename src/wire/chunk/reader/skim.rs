//! Skimming: chunks that need no judgement and whose header lies whole in the input without detours, all else in the general way.

use super::{ChunkReader, NEAR, Stream, take};
use crate::wire::chunk::{ChunkError, EXTENDED, Slice, Type3Delta};
use crate::wire::message::type_id;

/// A header that begins a message on a chunk stream whose earlier header is known.
struct First {
    /// Bytes of the header.
    size: usize,
    timestamp: u32,
    delta: u32,
    len: u32,
    type_id: u8,
    msid: u32,
}

impl ChunkReader {
    /// The next payload slice, storing none and noting nothing; Set Chunk Size and Abort still take effect. For load. After a change
    /// from [`ChunkReader::read`] the unfinished messages go on from where they are; after a change back those are not reported.
    ///
    /// # Errors
    /// As [`ChunkReader::read`].
    #[inline]
    pub fn skim<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Result<Option<Slice<'a>>, ChunkError> {
        match self.skim_inside(input) {
            Some(slice) => Ok(Some(slice)),
            None => self.skim_any(input),
        }
    }

    /// Brings its state into the caches; the number means nothing.
    pub fn touch(&self) -> u64 {
        let streams = self.streams.iter().map(|s| u64::from(s.timestamp) ^ s.buf.capacity() as u64);
        let near = u64::from(self.near[0]) ^ u64::from(self.near[NEAR / 2]);
        let flags = self.error.is_some() ^ self.notes.is_empty() ^ self.report_chunks;
        let own =
            self.offset ^ u64::from(self.left) ^ u64::from(self.limits.message_len) ^ self.kept.len() as u64;
        streams.fold(own ^ near ^ u64::from(flags), u64::wrapping_add)
    }

    fn skim_any<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Result<Option<Slice<'a>>, ChunkError> {
        if let Some(slice) = self.skim_plain(input) {
            return Ok(Some(slice));
        }
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

    /// The next chunk as one slice, when it is of the inside of a message: by far the most frequent one.
    #[inline]
    fn skim_inside<'i>(&mut self, input: &mut &'i [u8]) -> Option<Slice<'i>> {
        let i = self.plain_inside(input)?;
        let s = &mut self.streams[i];
        if !s.skimmed || self.notes_told < self.notes.len() {
            return None;
        }
        let (at, size) = (s.taken, self.chunk_size);
        s.taken += size;
        let header = s.header();
        self.chunk_offset = self.offset;
        self.offset += 1 + u64::from(size);
        let bytes = &take(input, 1 + size as usize)[1..];
        Some(Slice { header, at, bytes, last: false })
    }

    /// The next slice, when its chunk is plain.
    #[inline]
    fn skim_plain<'i>(&mut self, input: &mut &'i [u8]) -> Option<Slice<'i>> {
        let quick = self.kept.len() == 0
            && !self.report_chunks
            && self.error.is_none()
            && self.quirks.misread.is_none()
            && self.notes.is_empty();
        let first = *input.first().filter(|_| quick)?;
        if let Some(i) = self.current {
            let s = &self.streams[i];
            return (s.skimmed && self.left > 0 && !is_control(s.type_id))
                .then(|| self.skim_left(i, 0, input));
        }
        let i = self.near(first)?;
        let s = self.streams.get(i)?;
        if !s.open {
            return self.skim_first(i, input);
        }
        if first < 0xC0 || s.ext.is_some() || !s.skimmed || is_control(s.type_id) || input.len() < 2 {
            return None;
        }
        Some(self.skim_chunk(i, 1, input))
    }

    /// A chunk that begins a message.
    #[inline]
    fn skim_first<'i>(&mut self, i: usize, input: &mut &'i [u8]) -> Option<Slice<'i>> {
        let zero = self.quirks.type3_after_type0 == Type3Delta::Zero;
        let s = &mut self.streams[i];
        let first = s.first(input, zero)?;
        let split = first.len > self.chunk_size;
        if s.buf.capacity() > 0
            || first.len > self.limits.message_len
            || split && self.open >= self.limits.open_messages
            || first.len > 0 && input.len() == first.size
        {
            return None;
        }
        let First { size, timestamp, delta, len, type_id, msid } = first;
        (s.timestamp, s.delta, s.len, s.type_id, s.msid, s.ext) =
            (timestamp, delta, len, type_id, msid, None);
        (s.open, s.split, s.skimmed) = (true, split, true);
        self.open += usize::from(split);
        Some(self.skim_chunk(i, size, input))
    }

    /// A chunk of an open message that is skimmed, as far as it is here; its header takes `size` bytes.
    #[inline]
    fn skim_chunk<'i>(&mut self, i: usize, size: usize, input: &mut &'i [u8]) -> Slice<'i> {
        let s = &mut self.streams[i];
        self.left = self.chunk_size.min(s.len - s.taken);
        s.taken += self.left;
        self.chunk_offset = self.offset;
        self.skim_left(i, size, input)
    }

    /// What is here of the chunk being read, behind `size` bytes.
    #[inline]
    fn skim_left<'i>(&mut self, i: usize, size: usize, input: &mut &'i [u8]) -> Slice<'i> {
        let s = &mut self.streams[i];
        let n = (input.len() - size).min(self.left as usize);
        let (header, at) = (s.header(), s.taken - self.left);
        self.left -= n as u32;
        self.offset += (size + n) as u64;
        self.current = (self.left > 0).then_some(i);
        let last = self.left == 0 && s.taken == s.len;
        if last {
            self.open -= usize::from(s.split);
            (s.open, s.split, s.skimmed, s.taken) = (false, false, false, 0);
        }
        Slice { header, at, bytes: &take(input, size + n)[size..], last }
    }
}

impl Stream {
    /// The header at the front of `b`, when it is whole, has no extended timestamp, and its message takes no effect in the reader.
    #[inline]
    fn first(&self, b: &[u8], zero_after_type0: bool) -> Option<First> {
        let fmt = *b.first()? >> 6;
        if !self.known || fmt == 3 && self.ext.is_some() {
            return None;
        }
        let be24 = |at: usize| b.get(at..at + 3).map(|b| u32::from_be_bytes([0, b[0], b[1], b[2]]));
        let field = if fmt == 3 { self.delta } else { be24(1).filter(|field| *field != EXTENDED)? };
        let (len, type_id) = if fmt < 2 { (be24(4)?, *b.get(7)?) } else { (self.len, self.type_id) };
        if is_control(type_id) || fmt != 0 && field >= 1 << 31 {
            return None;
        }
        let (size, timestamp, delta, msid) = match fmt {
            // rtmp 5.3.1.2.4: the delta after type 0 is its timestamp
            0 => (
                12,
                field,
                if zero_after_type0 { 0 } else { field },
                u32::from_le_bytes(*b.get(8..)?.first_chunk()?),
            ),
            1 => (8, self.timestamp.wrapping_add(field), field, self.msid),
            2 => (4, self.timestamp.wrapping_add(field), field, self.msid),
            _ => (1, self.timestamp.wrapping_add(field), field, self.msid),
        };
        Some(First { size, timestamp, delta, len, type_id, msid })
    }
}

/// Messages that take effect in the reader.
fn is_control(type_id: u8) -> bool {
    matches!(type_id, type_id::SET_CHUNK_SIZE | type_id::ABORT)
}
