//! C0 C1 C2 S0 S1 S2: plain and digest, both roles (rtmp 5.2; spec notes on the signed handshake of Flash Player 9).

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
            for (to, from) in bytes[8..].iter_mut().zip(random.iter().cycle()) {
                *to = *from;
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
        let _ = (signer, schema);
        panic!("skeleton")
    }

    /// The valid digest in C1 or S1, if there is one in either schema.
    pub fn digest(&self, signer: Signer) -> Option<(Schema, [u8; 32])> {
        let _ = signer;
        panic!("skeleton")
    }

    /// Writes the signature of C2 or S2 into its last 32 bytes; `digest` is the one found in the peer's C1 or S1.
    pub fn sign_answer(&mut self, signer: Signer, digest: &[u8; 32]) {
        let _ = (signer, digest);
        panic!("skeleton")
    }

    /// Whether C2 or S2 carries the right signature for `digest`.
    pub fn answer_signed(&self, signer: Signer, digest: &[u8; 32]) -> bool {
        let _ = (signer, digest);
        panic!("skeleton")
    }

    /// The plain answer to this C1 or S1: its time, `read_at` as second word, its random bytes (rtmp 5.2.4).
    pub fn echo(&self, read_at: u32) -> Block {
        Block::new(self.time(), read_at, self.random())
    }
}
