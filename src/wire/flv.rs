//! FLV files: reading and writing (flv annex E), over anything that reads or writes.

use std::io::{self, Read, Write};

/// Bytes of the file header of version 1, and of a tag's.
const HEADER_LEN: u32 = 9;
const TAG_HEAD_LEN: u32 = 11;
/// The longest file header that is skipped; version 1 has 9 bytes.
pub const MAX_HEADER_LEN: u32 = 1 << 16;

/// What the file header says (flv E.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Audio tags are said to be present.
    pub audio: bool,
    /// Video tags are said to be present.
    pub video: bool,
}

/// One tag (flv E.4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// Offset of its first byte in the file.
    pub offset: u64,
    /// 8 audio, 9 video, 18 script data: the message type ids of RTMP. Others are read alike.
    pub type_id: u8,
    /// Whether the bytes need to be decrypted first (flv annex F).
    pub filter: bool,
    /// Milliseconds.
    pub timestamp: u32,
    /// Should be 0.
    pub msid: u32,
    /// What an RTMP message of the type has as its payload.
    pub data: Vec<u8>,
    /// The size of the tag as the file repeats it behind the tag; 11 + the data's when right.
    pub back_pointer: u32,
}

/// Why a file cannot be read further.
#[derive(Debug, thiserror::Error)]
#[error("flv at byte {offset}: {kind}")]
pub struct Error {
    /// Offset in the file of the part that is wrong, or that the file ends in.
    pub offset: u64,
    /// What is wrong there.
    pub kind: ErrorKind,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum ErrorKind {
    /// The file ends there.
    #[error("ends inside {0}")]
    Truncated(&'static str),
    /// No FLV file begins so.
    #[error("begins with {:02x?} instead of \"FLV\"", .0)]
    Signature([u8; 3]),
    /// Only version 1 is known.
    #[error("version {0} instead of 1")]
    Version(u8),
    /// Below 9 or above [`MAX_HEADER_LEN`].
    #[error("a header of {0} bytes; 9 to {MAX_HEADER_LEN} can be")]
    HeaderLen(u32),
    /// The input itself failed.
    #[error(transparent)]
    Io(io::Error),
}

/// Reads tags one by one; memory grows with the bytes of one tag that are there.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    offset: u64,
    header: Header,
    failed: bool,
}

impl<R: Read> Reader<R> {
    /// Reads the file header.
    ///
    /// # Errors
    /// When this is no FLV file of version 1.
    pub fn new(input: R) -> Result<Reader<R>, Error> {
        let header = Header { audio: false, video: false };
        let mut reader = Reader { input, offset: 0, header, failed: false };
        let [a, b, c] = reader.array("the signature")?;
        if [a, b, c] != *b"FLV" {
            return Err(Error { offset: 0, kind: ErrorKind::Signature([a, b, c]) });
        }
        let [version] = reader.array("the file header")?;
        if version != 1 {
            return Err(Error { offset: 3, kind: ErrorKind::Version(version) });
        }
        let [flags] = reader.array("the file header")?;
        reader.header = Header { audio: flags & 0x04 != 0, video: flags & 0x01 != 0 };
        // flv E.2: the field is there so that headers can be longer.
        let len = u32::from_be_bytes(reader.array("the file header")?);
        if !(HEADER_LEN..=MAX_HEADER_LEN).contains(&len) {
            return Err(Error { offset: 5, kind: ErrorKind::HeaderLen(len) });
        }
        reader.exactly(len - HEADER_LEN, "the file header")?;
        // flv E.3: the first back pointer is always 0 and points at nothing.
        reader.array::<4>("the first back pointer")?;
        Ok(reader)
    }

    /// What the file header says.
    pub fn header(&self) -> Header {
        self.header
    }

    fn tag(&mut self) -> Result<Option<Tag>, Error> {
        let offset = self.offset;
        let first = self.up_to(1)?;
        let [first] = first[..] else { return Ok(None) };
        let [l2, l1, l0, t2, t1, t0, t3, s2, s1, s0] = self.array("the head of a tag")?;
        let data = self.exactly(u32::from_be_bytes([0, l2, l1, l0]), "a tag")?;
        let back_pointer = u32::from_be_bytes(self.array("a back pointer")?);
        Ok(Some(Tag {
            offset,
            type_id: first & 0x1F,
            filter: first & 0x20 != 0,
            // flv E.4.1: TimestampExtended is the upper 8 bits.
            timestamp: u32::from_be_bytes([t3, t2, t1, t0]),
            msid: u32::from_be_bytes([0, s2, s1, s0]),
            data,
            back_pointer,
        }))
    }

    fn up_to(&mut self, n: u32) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let read = self.input.by_ref().take(u64::from(n)).read_to_end(&mut bytes);
        read.map_err(|e| Error { offset: self.offset, kind: ErrorKind::Io(e) })?;
        self.offset += bytes.len() as u64;
        Ok(bytes)
    }

    fn exactly(&mut self, n: u32, what: &'static str) -> Result<Vec<u8>, Error> {
        let offset = self.offset;
        let bytes = self.up_to(n)?;
        if bytes.len() < n as usize {
            return Err(Error { offset, kind: ErrorKind::Truncated(what) });
        }
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        array.copy_from_slice(&self.exactly(N as u32, what)?);
        Ok(array)
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Tag, Error>;

    /// The next tag; after an error there are no more.
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let tag = self.tag().transpose();
        self.failed = matches!(tag, Some(Err(_)));
        tag
    }
}

/// Writes a file tag by tag.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
}

impl<W: Write> Writer<W> {
    /// Writes the file header.
    ///
    /// # Errors
    /// As `out` does.
    pub fn new(mut out: W, header: Header) -> io::Result<Writer<W>> {
        let flags = u8::from(header.audio) << 2 | u8::from(header.video);
        out.write_all(&[b'F', b'L', b'V', 1, flags])?;
        out.write_all(&HEADER_LEN.to_be_bytes())?;
        out.write_all(&[0; 4])?;
        Ok(Writer { out })
    }

    /// Writes a tag and its back pointer.
    ///
    /// # Errors
    /// When the data does not fit the 24-bit size, and as `out` does.
    pub fn write(&mut self, type_id: u8, timestamp: u32, data: &[u8]) -> io::Result<()> {
        let Some(len) = u32::try_from(data.len()).ok().filter(|len| *len < 1 << 24) else {
            let text = format!("a tag of {} bytes; 16777215 can be", data.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        };
        let [_, l2, l1, l0] = len.to_be_bytes();
        let [t3, t2, t1, t0] = timestamp.to_be_bytes();
        self.out.write_all(&[type_id & 0x1F, l2, l1, l0, t2, t1, t0, t3, 0, 0, 0])?;
        self.out.write_all(data)?;
        self.out.write_all(&(TAG_HEAD_LEN + len).to_be_bytes())
    }

    /// Gives the output back.
    pub fn into_inner(self) -> W {
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: [u8; 13] = [b'F', b'L', b'V', 1, 5, 0, 0, 0, 9, 0, 0, 0, 0];

    fn read(bytes: &[u8]) -> Result<Vec<Tag>, String> {
        let reader = Reader::new(bytes).map_err(|e| e.to_string())?;
        reader.map(|tag| tag.map_err(|e| e.to_string())).collect()
    }

    #[test]
    fn a_file_by_hand() {
        let tag = [9, 0, 0, 2, 0, 0, 1, 2, 0, 0, 0, 0xAA, 0xBB, 0, 0, 0, 13];
        let file = [&HEAD[..], &tag].concat();
        let tags = read(&file).expect("a file");
        let expected = Tag {
            offset: 13,
            type_id: 9,
            filter: false,
            timestamp: 0x0200_0001,
            msid: 0,
            data: vec![0xAA, 0xBB],
            back_pointer: 13,
        };
        assert_eq!(tags, [expected]);
        let header = Reader::new(&file[..]).expect("a header").header();
        assert_eq!(header, Header { audio: true, video: true });
        let mut writer = Writer::new(Vec::new(), header).expect("a header");
        writer.write(9, 0x0200_0001, &[0xAA, 0xBB]).expect("a tag");
        assert_eq!(writer.into_inner(), file);
    }

    #[test]
    fn longer_headers_encrypted_tags_and_wrong_back_pointers_are_read() {
        let long = [&HEAD[..8], &[11, 7, 7, 0, 0, 0, 0], &[0x28, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 99]]
            .concat();
        let tags = read(&long).expect("a file");
        assert_eq!((tags[0].offset, tags[0].type_id, tags[0].filter), (15, 8, true));
        assert_eq!((tags[0].msid, tags[0].back_pointer), (5, 99));
    }

    #[test]
    fn wrong_files_say_where_and_what() {
        let rows: [(&[&[u8]], &str); 9] = [
            (&[b"FL"], "flv at byte 0: ends inside the signature"),
            (&[b"\x00\x00\x00\x18ftyp"], "flv at byte 0: begins with [00, 00, 00] instead of \"FLV\""),
            (&[b"FLV\x02"], "flv at byte 3: version 2 instead of 1"),
            (&[b"FLV\x01\x05\x00\x00"], "flv at byte 5: ends inside the file header"),
            (&[b"FLV\x01\x05\x00\x00\x00\x08"], "flv at byte 5: a header of 8 bytes; 9 to 65536 can be"),
            (
                &[b"FLV\x01\x05\xFF\xFF\xFF\xFF"],
                "flv at byte 5: a header of 4294967295 bytes; 9 to 65536 can be",
            ),
            (&[&HEAD, &[9, 0]], "flv at byte 14: ends inside the head of a tag"),
            (&[&HEAD, &[9, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0, 1]], "flv at byte 24: ends inside a tag"),
            (&[&HEAD, &[9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]], "flv at byte 24: ends inside a back pointer"),
        ];
        for (parts, expected) in rows {
            assert_eq!(read(&parts.concat()), Err(expected.into()), "{parts:02x?}");
        }
    }

    struct Broken;

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("no more"))
        }
    }

    #[test]
    fn after_an_error_there_are_no_more_tags() {
        let reader = Reader::new(HEAD.chain(Broken)).expect("a header");
        let tags: Vec<String> = reader.take(2).map(|tag| tag.expect_err("an error").to_string()).collect();
        assert_eq!(tags, ["flv at byte 13: no more"]);
    }

    #[test]
    fn a_tag_too_long_for_its_size_field_is_not_written() {
        let mut writer = Writer::new(Vec::new(), Header { audio: true, video: false }).expect("a header");
        assert!(writer.write(8, 0, &vec![0; 1 << 24]).is_err());
        assert_eq!(writer.into_inner().len(), HEAD.len());
    }
}
