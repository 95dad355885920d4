//! Packets out of pcap and pcapng files, told apart by their first bytes and not by their name; gzip'd ones too.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

use flate2::bufread::GzDecoder;
use pcap_parser::traits::PcapReaderIterator;
use pcap_parser::{Block, LegacyPcapReader, PcapBlockOwned, PcapError, PcapNGOption, PcapNGReader};

use crate::wire::time::Time;

/// The longest record (packet or block with its headers) that is read, in bytes.
pub const MAX_RECORD: usize = 16 << 20;
/// Interfaces of one pcapng section, at most.
pub const MAX_INTERFACES: usize = 4096;
/// Comments kept, at most, and bytes of each.
pub const MAX_COMMENTS: usize = 16;
/// Bytes kept of one comment.
pub const MAX_COMMENT_LEN: usize = 1024;
/// What is read at a time, in bytes.
const BUFFER: usize = 256 << 10;

/// Why a file cannot be read (further).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system could not read it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The first bytes are none that are known.
    #[error(
        "not a capture: begins with {0}; expected pcap, pcapng, either of them gzip'd, or a raw RTMP stream (first byte 03)"
    )]
    Magic(String),
    /// A record that cannot be read; all before it could.
    #[error("at byte {offset}: {what}")]
    Broken {
        /// Where the record begins, in bytes from the start of the (unpacked) file.
        offset: u64,
        /// What is wrong with it.
        what: String,
    },
}

/// One packet, its bytes lent from the reader.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// When it was captured, counted from 1970.
    pub time: Time,
    /// Nanoseconds behind that microsecond, 0 to 999.
    pub nanos: u16,
    /// The how manieth interface of the file it was captured on, from 0.
    pub interface: u64,
    /// The link type, as in the registry of tcpdump.org.
    pub link: i32,
    /// The captured bytes.
    pub data: &'a [u8],
    /// How many bytes it had on the wire; more than `data` has where the capture cut it.
    pub wire_len: usize,
}

/// What a file turned out to be.
pub enum Source {
    /// A capture.
    Packets(Reader),
    /// The bytes of one direction of one RTMP connection.
    Raw(Box<dyn Read + Send>),
}

/// Opens a file by what its first bytes say.
///
/// # Errors
/// When it cannot be opened or is no capture.
pub fn open(path: &Path) -> Result<Source, Error> {
    source(Box::new(File::open(path)?))
}

/// As [`open`], from any reader.
///
/// # Errors
/// As [`open`].
pub fn source(input: Box<dyn Read + Send>) -> Result<Source, Error> {
    let (magic, input) = peek(input)?;
    if magic.starts_with(&[0x1f, 0x8b]) {
        let unpacked = peek(Box::new(Gzip(Some(GzDecoder::new(BufReader::new(input))))));
        let (magic, input) = unpacked.map_err(|e| Error::Broken {
            offset: 0,
            what: format!("gzip is cut or damaged: {e}; expected a capture in it"),
        })?;
        return by_magic(&magic, input).map(|mut source| {
            if let Source::Packets(reader) = &mut source {
                reader.packed = true;
            }
            source
        });
    }
    by_magic(&magic, input)
}

/// The first bytes, and a reader that has them still.
fn peek(mut input: Box<dyn Read + Send>) -> io::Result<(Vec<u8>, Box<dyn Read + Send>)> {
    let mut first = Vec::new();
    input.by_ref().take(24).read_to_end(&mut first)?;
    Ok((first.clone(), Box::new(Cursor::new(first).chain(input))))
}

fn by_magic(magic: &[u8], input: Box<dyn Read + Send>) -> Result<Source, Error> {
    let broken = |what: &str| Error::Broken { offset: 0, what: what.into() };
    match magic {
        [0xd4, 0xc3, 0xb2, 0xa1, ..]
        | [0xa1, 0xb2, 0xc3, 0xd4, ..]
        | [0x4d, 0x3c, 0xb2, 0xa1, ..]
        | [0xa1, 0xb2, 0x3c, 0x4d, ..]
        | [0x34, 0xcd, 0xb2, 0xa1, ..] => {
            let inner = LegacyPcapReader::new(BUFFER, Full::new(input))
                .map_err(|_| broken("the pcap header is cut"))?;
            Ok(Source::Packets(Reader::new(Box::new(inner))))
        }
        [0x0a, 0x0d, 0x0d, 0x0a, ..] => {
            let inner = PcapNGReader::new(BUFFER, Full::new(input))
                .map_err(|_| broken("the pcapng section header is cut or broken"))?;
            Ok(Source::Packets(Reader::new(Box::new(inner))))
        }
        [3, ..] => Ok(Source::Raw(input)),
        [] => Err(Error::Magic("nothing, it is empty".into())),
        other => Err(Error::Magic(
            other.iter().take(8).map(|b| format!("{b:02x} ")).collect::<String>().trim_end().into(),
        )),
    }
}

/// Members of gzip one after the other, up to zeros that nothing follows: padding, which gzip(1) ignores too.
struct Gzip(Option<Member>);

type Member = GzDecoder<BufReader<Box<dyn Read + Send>>>;

impl Read for Gzip {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.0 {
            let unpacked = member.read(buf)?;
            if unpacked > 0 || buf.is_empty() {
                return Ok(unpacked);
            }
            self.0 = self.0.take().map(next_member).transpose()?.flatten();
        }
        Ok(0)
    }
}

fn next_member(before: Member) -> io::Result<Option<Member>> {
    let mut input = before.into_inner();
    let zeros = skip_zeros(&mut input)?;
    match input.fill_buf()?.is_empty() {
        true => Ok(None),
        false if zeros == 0 => Ok(Some(GzDecoder::new(input))),
        false => Err(io::Error::other("there is more behind the zeros that follow its end")),
    }
}

/// How many there were.
fn skip_zeros(input: &mut impl BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let bytes = input.fill_buf()?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        if zeros == 0 {
            return Ok(skipped);
        }
        input.consume(zeros);
        skipped += zeros as u64;
    }
}

/// Fills the buffer it is given as far as the input has bytes, so that a short read is the end.
struct Full {
    input: Box<dyn Read + Send>,
    /// Met behind bytes that are still good; gzip says but once that its checksum is wrong.
    failed: Option<io::Error>,
}

impl Full {
    fn new(input: Box<dyn Read + Send>) -> Full {
        Full { input, failed: None }
    }
}

impl Read for Full {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut have = 0;
        self.failed.take().map_or(Ok(()), Err)?;
        while have < buf.len() {
            match self.input.read(&mut buf[have..]) {
                Ok(0) => break,
                Ok(n) => have += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if have > 0 => {
                    self.failed = Some(e);
                    break;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(have)
    }
}

/// What the file says about itself beside its packets.
#[derive(Debug, Clone, Default)]
pub struct FileFacts {
    /// "pcap" or "pcapng".
    pub format: &'static str,
    /// Whether the times of a pcap have nanoseconds.
    pub nanoseconds: bool,
    /// Packets read.
    pub packets: u64,
    /// Interfaces described, over all sections.
    pub interfaces: u64,
    /// Packets that the capturing side says it dropped, over all interfaces.
    pub dropped: u64,
    /// Comments, the first [`MAX_COMMENTS`].
    pub comments: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
struct Interface {
    link: i32,
    snaplen: u32,
    /// Time units a second.
    resolution: u128,
    /// Seconds added to every time.
    offset: i64,
    dropped: u64,
}

/// Reads packets one after another.
pub struct Reader {
    inner: Box<dyn PcapReaderIterator + Send>,
    facts: FileFacts,
    interfaces: Vec<Interface>,
    /// Drops counted in sections that ended.
    dropped_before: u64,
    big_endian: bool,
    record_header: usize,
    /// Bytes of the record that was lent last.
    lent: usize,
    broken: bool,
    /// Its bytes come out of gzip.
    packed: bool,
}

/// Where in the buffer a packet lies.
struct Found {
    time: Time,
    nanos: u16,
    interface: u64,
    link: i32,
    start: usize,
    len: usize,
    wire_len: usize,
}

impl Reader {
    fn new(inner: Box<dyn PcapReaderIterator + Send>) -> Reader {
        Reader {
            inner,
            facts: FileFacts::default(),
            interfaces: Vec::new(),
            dropped_before: 0,
            big_endian: false,
            record_header: 16,
            lent: 0,
            broken: false,
            packed: false,
        }
    }

    /// What the file said so far beside its packets.
    pub fn facts(&self) -> FileFacts {
        let dropped =
            self.interfaces.iter().map(|i| i.dropped).fold(self.dropped_before, u64::saturating_add);
        FileFacts { dropped, ..self.facts.clone() }
    }

    /// The next packet; `None` at the end, and after an error.
    ///
    /// # Errors
    /// When a record cannot be read; there is nothing more to read then.
    pub fn packet(&mut self) -> Result<Option<Packet<'_>>, Error> {
        if self.broken {
            return Ok(None);
        }
        match self.find() {
            Ok(None) => Ok(None),
            Ok(Some(f)) => {
                self.facts.packets += 1;
                let data = self.inner.data().get(f.start..f.start + f.len).unwrap_or_default();
                let Found { time, nanos, interface, link, .. } = f;
                let wire_len = f.wire_len.max(f.len);
                Ok(Some(Packet { time, nanos, interface, link, data, wire_len }))
            }
            Err(e) => {
                self.broken = true;
                Err(e)
            }
        }
    }

    fn find(&mut self) -> Result<Option<Found>, Error> {
        loop {
            self.inner.consume(std::mem::take(&mut self.lent));
            let offset = self.inner.consumed() as u64;
            let broken = |what: String| Error::Broken { offset, what };
            let (have, whole) = (self.inner.data().len(), self.block_is_whole());
            match self.inner.next() {
                Ok((used, block)) => {
                    self.lent = used;
                    let state = State {
                        facts: &mut self.facts,
                        interfaces: &mut self.interfaces,
                        dropped_before: &mut self.dropped_before,
                        big_endian: &mut self.big_endian,
                        record_header: &mut self.record_header,
                    };
                    if let Some(found) = state.block(&block).map_err(broken)? {
                        return Ok(Some(found));
                    }
                }
                Err(PcapError::Eof) => return Ok(None),
                Err(PcapError::Incomplete(_) | PcapError::BufferTooSmall) if !whole => {
                    self.more(offset, have)?
                }
                Err(PcapError::UnexpectedEof) if have == 0 => return Ok(None),
                Err(PcapError::UnexpectedEof) if !whole => {
                    return Err(broken(format!(
                        "the file ends inside a record, {have} bytes of it are there"
                    )));
                }
                Err(PcapError::ReadError) => return Err(broken("the file cannot be read".into())),
                Err(_) => return Err(broken("a block whose lengths or fields contradict each other".into())),
            }
        }
    }

    /// Whether a whole pcapng block is in the buffer: a parser that still asks for more met lengths that contradict each other.
    fn block_is_whole(&self) -> bool {
        let data = self.inner.data();
        let Some(&[a, b, c, d]) = data.get(4..8) else { return false };
        let len =
            if self.big_endian { u32::from_be_bytes([a, b, c, d]) } else { u32::from_le_bytes([a, b, c, d]) };
        self.facts.format == "pcapng" && len as usize <= data.len()
    }

    /// More bytes into the buffer, which grows only when it is full of bytes that came.
    fn more(&mut self, offset: u64, have: usize) -> Result<(), Error> {
        let what = match self.packed {
            true => "gzip is cut or damaged (bytes are counted unpacked)",
            false => "the file cannot be read",
        };
        self.inner.refill().map_err(|_| Error::Broken { offset, what: what.into() })?;
        if self.inner.data().len() > have || self.inner.reader_exhausted() {
            return Ok(());
        }
        let grown = (have * 2).max(BUFFER);
        if grown > MAX_RECORD {
            return Err(Error::Broken { offset, what: format!("a record longer than {MAX_RECORD} bytes") });
        }
        self.inner.grow(grown);
        Ok(())
    }
}

/// The reader's fields without its buffer, which a block borrows.
struct State<'r> {
    facts: &'r mut FileFacts,
    interfaces: &'r mut Vec<Interface>,
    dropped_before: &'r mut u64,
    big_endian: &'r mut bool,
    record_header: &'r mut usize,
}

impl State<'_> {
    fn block(self, block: &PcapBlockOwned<'_>) -> Result<Option<Found>, String> {
        match block {
            PcapBlockOwned::LegacyHeader(h) => {
                self.facts.format = "pcap";
                self.facts.interfaces = 1;
                self.facts.nanoseconds = h.is_nanosecond_precision();
                *self.record_header = if h.is_modified_format() { 24 } else { 16 };
                // The upper bits of the field say how long a frame check sequence is.
                let link = h.network.0 & 0xffff;
                self.interfaces.push(Interface {
                    link,
                    snaplen: h.snaplen,
                    resolution: 1_000_000,
                    offset: 0,
                    dropped: 0,
                });
                Ok(None)
            }
            PcapBlockOwned::Legacy(b) => {
                let nanos = u64::from(b.ts_usec) * if self.facts.nanoseconds { 1 } else { 1000 };
                let (time, nanos) = split(u128::from(b.ts_sec) * 1_000_000_000 + u128::from(nanos));
                let link = self.interfaces.first().map_or(1, |i| i.link);
                Ok(Some(Found {
                    time,
                    nanos,
                    interface: 0,
                    link,
                    start: *self.record_header,
                    len: b.data.len(),
                    wire_len: b.origlen as usize,
                }))
            }
            PcapBlockOwned::NG(block) => self.ng_block(block),
        }
    }

    fn ng_block(self, block: &Block<'_>) -> Result<Option<Found>, String> {
        match block {
            Block::SectionHeader(b) => {
                self.facts.format = "pcapng";
                *self.big_endian = b.big_endian();
                *self.dropped_before =
                    self.interfaces.iter().map(|i| i.dropped).fold(*self.dropped_before, u64::saturating_add);
                self.interfaces.clear();
                comments(self.facts, &b.options);
            }
            Block::InterfaceDescription(b) => {
                if self.interfaces.len() == MAX_INTERFACES {
                    return Err(format!("more than {MAX_INTERFACES} interfaces"));
                }
                self.facts.interfaces += 1;
                comments(self.facts, &b.options);
                self.interfaces.push(Interface {
                    link: b.linktype.0,
                    snaplen: b.snaplen,
                    resolution: resolution(b.if_tsresol)?,
                    offset: number(&b.options, 14, *self.big_endian).map_or(0, u64::cast_signed),
                    dropped: 0,
                });
            }
            Block::InterfaceStatistics(b) => {
                // pcapng 4.6: isb_ifdrop (5) and isb_osdrop (7) count from the start of the capture.
                let drops = |code| number(&b.options, code, *self.big_endian).unwrap_or(0);
                if let Some(interface) = self.interfaces.get_mut(b.if_id as usize) {
                    interface.dropped = interface.dropped.max(drops(5).saturating_add(drops(7)));
                }
            }
            Block::EnhancedPacket(b) => {
                let count = self.interfaces.len();
                let before = self.facts.interfaces - count as u64;
                let Some(interface) = self.interfaces.get(b.if_id as usize) else {
                    return Err(format!("a packet of interface {}, where {count} are described", b.if_id));
                };
                if !b.options.is_empty() {
                    comments(self.facts, &b.options);
                }
                let (time, nanos) = time(u64::from(b.ts_high) << 32 | u64::from(b.ts_low), interface);
                let len = (b.caplen as usize).min(b.data.len());
                return Ok(Some(Found {
                    time,
                    nanos,
                    interface: before + u64::from(b.if_id),
                    link: interface.link,
                    start: 28,
                    len,
                    wire_len: b.origlen as usize,
                }));
            }
            Block::SimplePacket(b) => {
                let before = self.facts.interfaces - self.interfaces.len() as u64;
                let Some(interface) = self.interfaces.first() else {
                    return Err("a packet before any interface".into());
                };
                // pcapng 4.4: the captured length is the shortest of the original, the snapshot and what the block holds.
                let snaplen = if interface.snaplen == 0 { usize::MAX } else { interface.snaplen as usize };
                let len = (b.origlen as usize).min(b.data.len()).min(snaplen);
                return Ok(Some(Found {
                    time: Time::ZERO,
                    nanos: 0,
                    interface: before,
                    link: interface.link,
                    start: 12,
                    len,
                    wire_len: b.origlen as usize,
                }));
            }
            // The parser reads the number of an unknown block as little endian in any section.
            Block::Unknown(b)
                if b.block_type
                    == if *self.big_endian { PACKET_BLOCK.swap_bytes() } else { PACKET_BLOCK } =>
            {
                return self.packet_block(b.data).map(Some);
            }
            _ => {}
        }
        Ok(None)
    }

    /// The obsolete block that older programs write (pcapng, appendix A): interface and drops in 16 bits each, then as an enhanced one.
    fn packet_block(&self, data: &[u8]) -> Result<Found, String> {
        let word = |at: usize| {
            let bytes = *data.get(at..)?.first_chunk()?;
            Some(if *self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
        };
        let (Some(first), Some(high), Some(low), Some(captured), Some(original)) =
            (word(0), word(4), word(8), word(12), word(16))
        else {
            return Err("a packet block shorter than its fields".into());
        };
        let number = if *self.big_endian { first >> 16 } else { first & 0xffff };
        let (count, room) = (self.interfaces.len(), data.len() - 20);
        let Some(interface) = self.interfaces.get(number as usize) else {
            return Err(format!("a packet of interface {number}, where {count} are described"));
        };
        if captured as usize > room {
            return Err(format!("a packet of {captured} bytes in a block that has room for {room}"));
        }
        let (time, nanos) = time(u64::from(high) << 32 | u64::from(low), interface);
        Ok(Found {
            time,
            nanos,
            interface: self.facts.interfaces - count as u64 + u64::from(number),
            link: interface.link,
            start: 28,
            len: captured as usize,
            wire_len: original as usize,
        })
    }
}

/// The number of the obsolete Packet Block.
const PACKET_BLOCK: u32 = 2;

/// Time units a second out of if_tsresol: 10^-n, or 2^-n where the top bit is set (pcapng 4.2).
fn resolution(code: u8) -> Result<u128, String> {
    let n = u32::from(code & 0x7f);
    let units = if code & 0x80 == 0 { 10u128.checked_pow(n) } else { 1u128.checked_shl(n) };
    units.filter(|_| n < 64).ok_or_else(|| format!("a time resolution of {code:#04x}"))
}

fn time(units: u64, interface: &Interface) -> (Time, u16) {
    // At most 2^64 units and 2^63 seconds: no overflow.
    let nanos = u128::from(units) * 1_000_000_000 / interface.resolution;
    let offset = i128::from(interface.offset) * 1_000_000_000;
    split(u128::try_from(nanos as i128 + offset).unwrap_or(0))
}

/// The microsecond, and the nanoseconds behind it.
fn split(nanos: u128) -> (Time, u16) {
    (Time::from_micros(u64::try_from(nanos / 1000).unwrap_or(0)), (nanos % 1000) as u16)
}

/// The 64-bit value of an option, in the byte order of the section.
fn number(options: &[PcapNGOption<'_>], code: u16, big_endian: bool) -> Option<u64> {
    let value = options.iter().find(|o| o.code.0 == code)?.value.get(..8)?.try_into().ok()?;
    Some(if big_endian { u64::from_be_bytes(value) } else { u64::from_le_bytes(value) })
}

fn comments(facts: &mut FileFacts, options: &[PcapNGOption<'_>]) {
    for option in options.iter().filter(|o| o.code.0 == 1) {
        if facts.comments.len() == MAX_COMMENTS {
            return;
        }
        let bytes = option.as_bytes().unwrap_or_default();
        facts.comments.push(String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_COMMENT_LEN)]).into_owned());
    }
}
