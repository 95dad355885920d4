//! Chunk headers: taken off the bytes, and judged.

use super::super::{ChunkErrorKind, ChunkHeader, EXTENDED, Fmt, MessageHeader, Misread, Type3Ext};
use super::{ChunkReader, Kept, MAX_HEADER, Stream, take};
use crate::wire::note::NoteKind;

impl ChunkReader {
    /// The next header and its length, once it is all there; until then its bytes are kept.
    pub(super) fn whole_header(
        &mut self,
        input: &mut &[u8],
    ) -> Result<Option<(ChunkHeader, usize)>, ChunkErrorKind> {
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

    /// A header inside an unfinished message continues it or ends it.
    pub(super) fn judge_place_in_message(&mut self, i: usize, header: &ChunkHeader) {
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
    pub(super) fn judge_ext(&mut self, i: usize, header: &ChunkHeader) {
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
    pub(super) fn judge_message(&mut self, i: usize) {
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
