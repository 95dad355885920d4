//! C0 C1 C2 S0 S1 S2: plain and digest, both roles (rtmp 5.2; spec notes on the signed handshake of Flash Player 9).

use std::ops::Range;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of C1, C2, S1 and S2 each.
pub const BLOCK_LEN: usize = 1536;

/// One of C1, C2, S1, S2.
#[derive(Clone, PartialEq, Eq)]
pub struct Block(pub Box<[u8; BLOCK_LEN]>);

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Block(time={:#010x} word={:#010x})", self.time(), self.second_word())
    }
}

/// Where the digest lies: schema 0 has the key block first, schema 1 the digest block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Schema {
    /// Digest in the second 764-byte block.
    Zero,
    /// Digest in the first 764-byte block.
    One,
}

/// Whose keys sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signer {
    /// "Genuine Adobe Flash Player 001".
    Client,
    /// "Genuine Adobe Flash Media Server 001".
    Server,
}

/// What the version byte C0 or S0 asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// 3.
    Plain,
    /// 6, 8, 9: RTMPE and its variants, refused by name.
    Rtmpe(u8),
    /// 0 to 2.
    Deprecated(u8),
    /// 4, 5, 7, 10 to 31.
    Reserved(u8),
    /// 32 to 255: not RTMP, so that text protocols can be told apart (rtmp 5.2.2).
    NotRtmp(u8),
}

impl From<u8> for Version {
    fn from(byte: u8) -> Version {
        match byte {
            3 => Version::Plain,
            6 | 8 | 9 => Version::Rtmpe(byte),
            0..=2 => Version::Deprecated(byte),
            32.. => Version::NotRtmp(byte),
            _ => Version::Reserved(byte),
        }
    }
}

impl Block {
    /// A block of the given first and second word; `random` fills the other 1528 bytes and is repeated or cut to fit.
    pub fn new(time: u32, second_word: u32, random: &[u8]) -> Block {
        let mut bytes = Box::new([0u8; BLOCK_LEN]);
        bytes[..4].copy_from_slice(&time.to_be_bytes());
        bytes[4..8].copy_from_slice(&second_word.to_be_bytes());
        if !random.is_empty() {
            for part in bytes[8..].chunks_mut(random.len()) {
                part.copy_from_slice(&random[..part.len()]);
            }
        }
        Block(bytes)
    }

    /// The first word: the sender's time (C1, S1) or the peer's time echoed (C2, S2), in milliseconds.
    pub fn time(&self) -> u32 {
        u32::from_be_bytes([self.0[0], self.0[1], self.0[2], self.0[3]])
    }

    /// The second word: zero or a version (C1, S1), or the time of reading (C2, S2).
    pub fn second_word(&self) -> u32 {
        u32::from_be_bytes([self.0[4], self.0[5], self.0[6], self.0[7]])
    }

    /// The 1528 bytes after the two words.
    pub fn random(&self) -> &[u8] {
        &self.0[8..]
    }

    /// Writes the signer's digest into C1 or S1 (the place is computed from its own pointer bytes) and returns it.
    pub fn sign(&mut self, signer: Signer, schema: Schema) -> [u8; 32] {
        let place = self.digest_place(schema);
        let digest = self.digest_without(signer, place.clone());
        self.0[place].copy_from_slice(&digest);
        digest
    }

    /// The valid digest in C1 or S1, if there is one in either schema.
    pub fn digest(&self, signer: Signer) -> Option<(Schema, [u8; 32])> {
        [Schema::Zero, Schema::One].into_iter().find_map(|schema| {
            let place = self.digest_place(schema);
            let digest = self.digest_without(signer, place.clone());
            (self.0[place] == digest).then_some((schema, digest))
        })
    }

    /// Writes the signature of C2 or S2 into its last 32 bytes; `digest` is the one found in the peer's C1 or S1.
    pub fn sign_answer(&mut self, signer: Signer, digest: &[u8; 32]) {
        let signature = self.answer_signature(signer, digest);
        self.0[ANSWER_SIGNED..].copy_from_slice(&signature);
    }

    /// Whether C2 or S2 carries the right signature for `digest`.
    pub fn answer_signed(&self, signer: Signer, digest: &[u8; 32]) -> bool {
        self.0[ANSWER_SIGNED..] == self.answer_signature(signer, digest)
    }

    /// Where the 32 digest bytes lie: four pointer bytes at the front of the digest block are added up.
    pub fn digest_place(&self, schema: Schema) -> Range<usize> {
        let pointer = match schema {
            Schema::Zero => 772,
            Schema::One => 8,
        };
        let sum: usize = self.0[pointer..pointer + 4].iter().map(|&b| usize::from(b)).sum();
        let from = pointer + 4 + sum % 728;
        from..from + 32
    }

    fn digest_without(&self, signer: Signer, place: Range<usize>) -> [u8; 32] {
        hmac(signer.words(), &[&self.0[..place.start], &self.0[place.end..]])
    }

    fn answer_signature(&self, signer: Signer, digest: &[u8; 32]) -> [u8; 32] {
        let key = hmac(&[signer.words(), &KEY_TAIL].concat(), &[digest]);
        hmac(&key, &[&self.0[..ANSWER_SIGNED]])
    }

    /// The plain answer to this C1 or S1: its time, `read_at` as second word, its random bytes (rtmp 5.2.4).
    pub fn echo(&self, read_at: u32) -> Block {
        Block::new(self.time(), read_at, self.random())
    }
}

impl Signer {
    fn words(self) -> &'static [u8] {
        match self {
            Signer::Client => b"Genuine Adobe Flash Player 001",
            Signer::Server => b"Genuine Adobe Flash Media Server 001",
        }
    }
}

fn hmac(key: &[u8], pieces: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for piece in pieces {
        mac.update(piece);
    }
    mac.finalize().into_bytes().into()
}

/// C2 and S2 without their signature.
const ANSWER_SIGNED: usize = BLOCK_LEN - 32;

/// What follows the words in the keys of C2 and S2. Published in the source of many programs; it gives no security.
const KEY_TAIL: [u8; 32] = [
    0xf0, 0xee, 0xc2, 0x4a, 0x80, 0x68, 0xbe, 0xe8, 0x2e, 0x00, 0xd0, 0xd1, 0x02, 0x9e, 0x7e, 0x57, 0x6e,
    0xec, 0x5d, 0x2d, 0x29, 0x80, 0x6f, 0xab, 0x93, 0xb8, 0xe6, 0x36, 0xcf, 0xeb, 0x31, 0xae,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        // rtmp 5.2.2: 0 to 2 deprecated, 3 this one, 4 to 31 reserved, 32 to 255 not allowed; 6, 8 and 9 are in use.
        for byte in 0..=u8::MAX {
            let expected = match byte {
                0..=2 => Version::Deprecated(byte),
                3 => Version::Plain,
                6 | 8 | 9 => Version::Rtmpe(byte),
                4 | 5 | 7 | 10..=31 => Version::Reserved(byte),
                32..=255 => Version::NotRtmp(byte),
            };
            assert_eq!(Version::from(byte), expected);
        }
    }

    #[test]
    fn random_bytes_are_repeated_or_cut() {
        let block = Block::new(0x0102_0304, 0x0506_0708, b"abc");
        assert_eq!(block.0[..11], [1, 2, 3, 4, 5, 6, 7, 8, b'a', b'b', b'c']);
        assert_eq!(block.0[BLOCK_LEN - 4..], *b"abca"); // 1528 = 3 * 509 + 1
        assert_eq!(Block::new(0, 0, &[7; 2000]).random(), [7; 1528]);
        assert_eq!(Block::new(0, 0, &[]).random(), [0; 1528]);
    }

    #[test]
    fn an_echo_has_the_time_and_the_random_bytes() {
        let block = Block::new(1, 2, b"xyz");
        let echo = block.echo(9);
        assert_eq!((echo.time(), echo.second_word(), echo.random()), (1, 9, block.random()));
    }
}
