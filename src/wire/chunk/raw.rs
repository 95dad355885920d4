//! Chunks field by field, and the basic header that the writer shares.

use super::EXTENDED;

/// A chunk that is written field by field, right or wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RawChunk {
    /// The two bits.
    pub fmt: u8,
    /// Chunk stream id.
    pub csid: u32,
    /// Bytes of the basic header, 1 to 3; `None`: the shortest. A form that cannot hold `csid` gets its low bits.
    pub basic_len: Option<u8>,
    /// The 24-bit timestamp or delta, in types 0 to 2; `None`: 0xFFFFFF with `ext`, else 0.
    pub timestamp: Option<u32>,
    /// The length field, in types 0 and 1; `None`: the payload's length.
    pub len: Option<u32>,
    /// The type field, in types 0 and 1; `None`: 0.
    pub type_id: Option<u8>,
    /// The message stream id, in type 0; `None`: 0.
    pub msid: Option<u32>,
    /// The extended timestamp; written wherever it is given.
    pub ext: Option<u32>,
    /// The payload of this chunk, any length.
    pub payload: Vec<u8>,
}

impl RawChunk {
    /// Appends exactly these fields to `out`. Fields that a chunk type does not have are not written.
    pub fn write(&self, out: &mut Vec<u8>) {
        basic_header(out, self.fmt, self.csid, self.basic_len);
        let fmt = self.fmt & 3;
        if fmt < 3 {
            let absent = if self.ext.is_some() { EXTENDED } else { 0 };
            be24(out, self.timestamp.unwrap_or(absent));
        }
        if fmt < 2 {
            be24(out, self.len.unwrap_or(self.payload.len() as u32));
            out.push(self.type_id.unwrap_or(0));
        }
        if fmt == 0 {
            out.extend_from_slice(&self.msid.unwrap_or(0).to_le_bytes());
        }
        if let Some(ext) = self.ext {
            out.extend_from_slice(&ext.to_be_bytes());
        }
        out.extend_from_slice(&self.payload);
    }
}

/// Appends a basic header of `len` bytes, by default the shortest that holds `csid` (rtmp 5.3.1.1).
pub(super) fn basic_header(out: &mut Vec<u8>, fmt: u8, csid: u32, len: Option<u8>) {
    let fmt = fmt << 6;
    let shortest = match csid {
        0..64 => 1,
        64..320 => 2,
        _ => 3,
    };
    let above = csid.wrapping_sub(64);
    match len.unwrap_or(shortest) {
        2 => out.extend_from_slice(&[fmt, above as u8]),
        3 => out.extend_from_slice(&[fmt | 1, above as u8, (above >> 8) as u8]), // the low byte first
        _ => out.push(fmt | (csid as u8 & 0x3F)),
    }
}

/// Appends the low 24 bits, high byte first.
pub(super) fn be24(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes()[1..]);
}
