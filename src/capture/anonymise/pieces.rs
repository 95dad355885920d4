//! What is written in place of a direction's bytes: pieces by their place, and zeros between them. They lie in blocks, in memory or a temporary
//! file; in memory for certain is only where each block is.

use std::io;

use serde::{Deserialize, Serialize};

use crate::record::spool::Bytes;

/// Bytes of a block, about.
const BLOCK: usize = 2 << 10;
/// How far apart the places of a block's first and last byte may be.
const SPAN: u64 = 64 << 10;

/// Takes pieces in about the order of their places.
#[derive(Debug, Default)]
pub struct Writer {
    /// Bytes that came last and follow one another, and the place of the first.
    run: Vec<u8>,
    at: u64,
    blocks: Vec<Block>,
    /// The block that is being made: the places it has, and its bytes.
    from: u64,
    to: u64,
    bytes: Vec<u8>,
    /// Behind its last piece.
    last: u64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Block {
    #[serde(rename = "f")]
    from: u64,
    #[serde(rename = "t")]
    to: u64,
    #[serde(rename = "a")]
    at: u64,
    #[serde(rename = "l")]
    len: usize,
}

impl Writer {
    /// These bytes stand at this place.
    pub fn push(&mut self, place: u64, bytes: &[u8], store: &mut Bytes) -> io::Result<()> {
        for (at, part) in (place..).step_by(BLOCK).zip(bytes.chunks(BLOCK)) {
            if at != self.at + self.run.len() as u64 || self.run.len() + part.len() > BLOCK {
                self.end_run(store)?;
                self.at = at;
            }
            self.run.extend_from_slice(part);
        }
        Ok(())
    }

    fn end_run(&mut self, store: &mut Bytes) -> io::Result<()> {
        let (at, end) = (self.at, self.at + self.run.len() as u64);
        if at == end {
            return Ok(());
        }
        if self.bytes.len() + self.run.len() > BLOCK || self.to.max(end) - self.from.min(at) > SPAN {
            self.flush(store)?;
        }
        if self.bytes.is_empty() {
            (self.from, self.to, self.last) = (at, end, 0);
        }
        (self.from, self.to) = (self.from.min(at), self.to.max(end));
        let ahead = at.wrapping_sub(self.last).cast_signed();
        number(&mut self.bytes, ((ahead << 1) ^ (ahead >> 63)).cast_unsigned());
        number(&mut self.bytes, self.run.len() as u64);
        self.bytes.append(&mut self.run);
        self.last = end;
        Ok(())
    }

    fn flush(&mut self, store: &mut Bytes) -> io::Result<()> {
        if !self.bytes.is_empty() {
            let at = store.push(&self.bytes)?;
            self.blocks.push(Block { from: self.from, to: self.to, at, len: self.bytes.len() });
            self.bytes.clear();
        }
        Ok(())
    }

    /// All of them.
    pub fn finish(mut self, store: &mut Bytes) -> io::Result<Pieces> {
        self.end_run(store)?;
        self.flush(store)?;
        self.blocks.sort_by_key(|block| block.from);
        Ok(Pieces { blocks: self.blocks })
    }
}

/// All pieces of a direction.
#[derive(Debug, Serialize, Deserialize)]
pub struct Pieces {
    /// In the order of their first places.
    blocks: Vec<Block>,
}

impl Pieces {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Puts what stands at `place` and behind it into `out`, which is zeros. A place before the first byte has nothing.
    pub fn fill(&self, place: i64, out: &mut [u8], store: &Bytes) -> io::Result<()> {
        let end = place + out.len() as i64;
        let first = self.blocks.partition_point(|block| (block.from + SPAN) as i64 <= place);
        let mut buffer = Vec::new();
        for block in self.blocks[first..].iter().take_while(|block| (block.from as i64) < end) {
            if block.to as i64 > place {
                block.fill(place, out, store.read(block.at, block.len, &mut buffer)?);
            }
        }
        Ok(())
    }
}

impl Block {
    fn fill(&self, place: i64, out: &mut [u8], mut bytes: &[u8]) {
        let end = place + out.len() as i64;
        let mut at = 0;
        while let Some(ahead) = take(&mut bytes) {
            at += (ahead >> 1).cast_signed() ^ -((ahead & 1).cast_signed());
            let len = take(&mut bytes).unwrap_or(0) as usize;
            let (piece, rest) = bytes.split_at(len.min(bytes.len()));
            let (from, to) = (at.max(place), (at + piece.len() as i64).min(end));
            if from < to {
                let source = &piece[(from - at) as usize..(to - at) as usize];
                out[(from - place) as usize..(to - place) as usize].copy_from_slice(source);
            }
            (bytes, at) = (rest, at + piece.len() as i64);
        }
    }
}

/// Appends a number, seven bits a byte, the lower ones first.
fn number(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a number off; `None` at the end.
fn take(bytes: &mut &[u8]) -> Option<u64> {
    let (mut value, mut shift) = (0, 0);
    loop {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 || shift > 63 {
            return Some(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_back_wherever_they_were_put() {
        const LEN: usize = 1 << 20;
        let mut all = vec![0; LEN];
        let (mut store, mut writer) = (Bytes::default(), Writer::default());
        let mut put = |place: usize, len: usize| {
            let bytes: Vec<u8> = (place..place + len).map(|n| (n % 251) as u8 + 1).collect();
            all[place..place + len].copy_from_slice(&bytes);
            writer.push(place as u64, &bytes, &mut store).unwrap();
        };
        for n in 0..2000 {
            put(n * 500 + 100, 1 + n % 12);
            // What is known late.
            if n % 7 == 6 {
                put(n * 500 - 1200, 200);
            }
            if n % 300 == 299 {
                put((n - 250) * 500 + 200, 80);
            }
        }
        put(LEN - 9000, 9000);
        let pieces = writer.finish(&mut store).unwrap();
        for (place, len) in (0..LEN).step_by(997).flat_map(|at| [(at, 1), (at, 1460), (at, 70_000)]) {
            let mut out = vec![0; len.min(LEN - place)];
            pieces.fill(place as i64, &mut out, &store).unwrap();
            assert!(out == all[place..place + out.len()], "{len} at {place}");
        }
        let mut out = vec![0; 200];
        pieces.fill(-50, &mut out, &store).unwrap();
        assert!(out[..50] == [0; 50] && out[50..] == all[..150], "before the first byte");
    }
}
