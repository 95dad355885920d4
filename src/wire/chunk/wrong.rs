//! Wrong ways to read and to write chunks, each a named one: what the reference peer does on request, so that a check can be seen to notice it.

use super::reader::Stream;
use super::{
    ChunkErrorKind, ChunkHeader, EXTENDED, Fmt, MAX_MESSAGE_LEN, MessageHeader, Quirks, Type3Delta, Type3Ext,
};
use crate::wire::message::type_id;

macro_rules! wrong_ways {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal, $why:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $(#[doc = $why] $variant),* }

        impl $name {
            /// Every one.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            /// The name that scenarios and `--fault` use.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text),* }
            }

            /// One sentence saying what is done.
            pub const fn text(self) -> &'static str {
                match self { $($name::$variant => $why),* }
            }
        }
    };
}

wrong_ways! {
    /// A wrong way to read chunks.
    Misread {
        CsidLimit = "csid-limit", "A chunk stream id of 32 or more ends the session";
        CsidSwapped = "csid-swapped", "The two bytes of a three-byte basic header are read the other way round";
        CsidLowBits = "csid-low-bits", "Only the low six bits of a chunk stream id tell chunk streams apart";
        CsidControlOnly = "csid-2-control-only", "Commands on chunk stream 2 are ignored";
        HeaderLost = "header-in-pieces", "A chunk header that comes in pieces is lost";
        ReadEnds = "rest-of-read-lost", "What follows a Set Chunk Size in the same read is lost";
        HeaderlessIgnored = "headerless-ignored", "A type 2 or 3 chunk without an earlier header is an empty message";
        Type1FirstHangs = "type-1-first-hangs", "A type 1 chunk without an earlier header swallows what follows";
        Type1KeepsType = "type-1-keeps-type", "The message type of a type 1 header is ignored";
        Type1KeepsLength = "type-1-keeps-length", "The length of a type 1 header is ignored";
        MsidKept = "msid-of-first", "The first message stream of a chunk stream stays for good";
        NoExtended = "ext-timestamp-unknown", "Extended timestamps are not known: the field is payload";
        MarkerEarly = "ext-marker-early", "0xFFFFFE announces an extended timestamp too";
        ExtendedSticky = "ext-timestamp-sticky", "Type 3 chunks carry an extended timestamp for good once a header had one";
        ExtendedAbsolute = "ext-delta-absolute", "The extended timestamp of a type 1 or 2 header is an absolute time";
        DeltaSigned = "delta-signed", "A 24-bit delta is signed";
        DeltaIgnored = "delta-ignored", "The delta of a type 1 or 2 header counts as 0";
        DeltaRepeated = "delta-on-continuation", "Each continuation chunk adds the delta again";
        NewType3NoDelta = "type-3-no-delta", "A type 3 chunk that begins a message adds no delta";
        NewType3Ignored = "type-3-new-ignored", "A message that begins with a type 3 chunk is ignored";
        AbsoluteAdded = "absolute-added", "A type 0 timestamp is added to the one before it";
        OlderIgnored = "older-ignored", "A message whose time is a smaller number than the one before it is ignored";
        Time31 = "times-31-bit", "The top bit of times is cleared";
        Splice = "splice", "A new header inside an unfinished message adds its payload to it";
        OneBuffer = "one-payload-buffer", "All chunk streams share one buffer of unfinished payload";
        ContinuationLost = "continuation-lost", "The payload of continuation chunks is lost";
        TrailingChunk = "trailing-empty-chunk", "A message of a multiple of the chunk size is not finished without one more chunk";
        EmptyCloses = "empty-message-closes", "An empty message ends the session";
        LongCloses = "long-message-closes", "A message above 1 MiB ends the session";
        ChunkSizeIgnored = "chunk-size-ignored", "Set Chunk Size is ignored";
        ChunkSizeCapped = "chunk-size-capped", "Set Chunk Size above 65536 is ignored";
        ChunkSizeGrows = "chunk-size-never-shrinks", "A Set Chunk Size below the size in force is ignored";
        ChunkSizeMessage = "chunk-size-next-message", "Set Chunk Size waits until no message is unfinished";
        ChunkSizeRead = "chunk-size-next-read", "Set Chunk Size waits for the next read";
        AbortIgnored = "abort-ignored", "Abort is ignored";
        AbortHeader = "abort-drops-header", "Abort drops the header state of its chunk stream too";
        AbortAll = "abort-drops-all", "Abort drops the unfinished messages of all chunk streams";
        AbortShortId = "abort-8-bit-id", "Abort looks at the low eight bits of the chunk stream id";
    }
}

wrong_ways! {
    /// A wrong way to write chunks.
    Miswrite {
        FreshType1 = "fresh-csid-type-1", "The first chunk of a chunk stream is of type 1";
        LongBasicHeader = "long-basic-header", "Audio and video are on chunk streams above 64 with a three-byte basic header";
        MediaOnCsid2 = "media-on-csid-2", "Audio and video are on chunk stream 2";
        AlwaysType0 = "always-type-0", "Every message begins with a type 0 chunk";
        ContinuationType1 = "continuation-type-1", "Continuation chunks of audio and video are of type 1";
        ContinuationStray = "continuation-stray", "Continuation chunks of audio and video are on a chunk stream of their own";
        ContinuationNoExtended = "continuation-no-ext", "Type 3 chunks lack the extended timestamp";
        ContinuationOtherExtended = "continuation-other-ext", "Type 3 chunks repeat the extended timestamp plus one";
        ExtendedAbsolute = "ext-absolute-out", "Past 0xFFFFFF a type 1 or 2 header has the absolute time in its extended timestamp";
        Delta24 = "delta-24-bit-out", "A delta is cut to 24 bits";
        Time24 = "time-24-bit-out", "A type 0 timestamp is cut to 24 bits";
        BackwardDelta = "backward-delta-out", "A time that steps back is a delta that wraps";
    }
}

impl Miswrite {
    /// The type of a message's first chunk where `right` would be.
    pub(super) fn fmt(self, right: Fmt, step: u32) -> Fmt {
        match self {
            Miswrite::AlwaysType0 => Fmt::Type0,
            Miswrite::Delta24 if (EXTENDED..1 << 31).contains(&step) => Fmt::Type1,
            Miswrite::BackwardDelta if step >= 1 << 31 => Fmt::Type1,
            Miswrite::ExtendedAbsolute if right == Fmt::Type3 => Fmt::Type2,
            _ => right,
        }
    }

    /// The bytes of the basic header, where they are not as few as can be.
    pub(super) fn basic_len(self, csid: u32) -> Option<u8> {
        (self == Miswrite::LongBasicHeader && csid >= 64).then_some(3)
    }

    /// The time and the extended timestamp of a message's first chunk.
    pub(super) fn time(self, fmt: Fmt, at: u32, time: u32, ext: Option<u32>) -> (u32, Option<u32>) {
        let delta = matches!(fmt, Fmt::Type1 | Fmt::Type2);
        match self {
            Miswrite::ExtendedAbsolute if delta && at >= EXTENDED => (EXTENDED, Some(at)),
            Miswrite::Delta24 if delta => (time & EXTENDED, None),
            Miswrite::Time24 if fmt == Fmt::Type0 => (time & EXTENDED, None),
            _ => (time, ext),
        }
    }

    /// The type, the chunk stream and the extended timestamp of continuation chunks.
    pub(super) fn continuation(self, header: &MessageHeader, ext: Option<u32>) -> (Fmt, u32, Option<u32>) {
        let media = matches!(header.type_id, type_id::AUDIO | type_id::VIDEO);
        match self {
            Miswrite::ContinuationType1 if media => (Fmt::Type1, header.csid, ext),
            Miswrite::ContinuationStray if media => (Fmt::Type3, header.csid + 31, ext),
            Miswrite::ContinuationNoExtended => (Fmt::Type3, header.csid, None),
            Miswrite::ContinuationOtherExtended => {
                (Fmt::Type3, header.csid, ext.map(|ext| ext.wrapping_add(1)))
            }
            _ => (Fmt::Type3, header.csid, ext),
        }
    }
}

const TEXT: Quirks = Quirks {
    type3_after_type0: Type3Delta::Timestamp,
    type3_ext: Type3Ext::Present,
    misread: None,
    miswrite: None,
};
const TYPE3: [(&str, Quirks); 2] = [
    ("type-3-after-type-0-zero", Quirks { type3_after_type0: Type3Delta::Zero, ..TEXT }),
    ("type-3-ext-absent", Quirks { type3_ext: Type3Ext::Absent, ..TEXT }),
];

/// What a chunk stream was before a header.
#[derive(Clone, Copy)]
pub(super) struct Before {
    known: bool,
    timestamp: u32,
    len: u32,
    type_id: u8,
    msid: u32,
    ext: Option<u32>,
}

impl Before {
    pub(super) fn of(s: &Stream) -> Before {
        let &Stream { known, timestamp, len, type_id, msid, ext, .. } = s;
        Before { known, timestamp, len, type_id, msid, ext }
    }
}

impl Quirks {
    /// The names of all single departures from the text: every [`Misread`] and [`Miswrite`], and what several peers do with type 3 chunks.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let read = Misread::ALL.iter().map(|m| m.name());
        TYPE3.iter().map(|(name, _)| *name).chain(read).chain(Miswrite::ALL.iter().map(|m| m.name()))
    }

    /// The same with what each does.
    pub fn texts() -> impl Iterator<Item = (&'static str, &'static str)> {
        let type3 = [
            "reads a type 3 chunk after a type 0 one as delta 0",
            "reads no extended timestamp on type 3 chunks",
            "reads an extended timestamp on type 3 chunks where the bytes equal it",
        ];
        let read = Misread::ALL.iter().map(|m| (m.name(), m.text()));
        let write = Miswrite::ALL.iter().map(|m| (m.name(), m.text()));
        TYPE3.iter().map(|(name, _)| *name).zip(type3).chain(read).chain(write)
    }

    /// The departure of this name alone.
    pub fn named(name: &str) -> Option<Quirks> {
        let misread = Misread::ALL.iter().copied().find(|m| m.name() == name);
        let miswrite = Miswrite::ALL.iter().copied().find(|m| m.name() == name);
        match TYPE3.iter().find(|(of, _)| *of == name) {
            Some((_, quirks)) => Some(*quirks),
            None if misread.is_none() && miswrite.is_none() => None,
            None => Some(Quirks { misread, miswrite, ..TEXT }),
        }
    }

    pub(super) fn misreads(&self, misread: Misread) -> bool {
        self.misread == Some(misread)
    }

    /// The chunk stream that a basic header is taken to name.
    pub(super) fn csid(&self, csid: u32, basic_len: u8) -> Result<u32, ChunkErrorKind> {
        match self.misread {
            Some(Misread::CsidLimit) if csid >= 32 => Err(limit("chunk stream id", csid, 31)),
            Some(Misread::CsidSwapped) if basic_len == 3 => Ok(64 + ((csid - 64) as u16).swap_bytes() as u32),
            Some(Misread::CsidLowBits) => Ok(csid & 0x3F),
            _ => Ok(csid),
        }
    }

    /// Whether a timestamp field is taken to announce an extended timestamp.
    pub(super) fn is_marker(&self, field: u32) -> bool {
        match self.misread {
            Some(Misread::NoExtended) => false,
            Some(Misread::MarkerEarly) => field >= EXTENDED - 1,
            _ => field == EXTENDED,
        }
    }
}

/// Changes what a header made of a chunk stream's state. `open`: the header is inside an unfinished message.
pub(super) fn misread(
    misread: Misread,
    header: &ChunkHeader,
    before: Before,
    s: &mut Stream,
) -> Result<(), ChunkErrorKind> {
    let delta = matches!(header.fmt, Fmt::Type1 | Fmt::Type2);
    let new = !s.open;
    match misread {
        Misread::CsidControlOnly if s.csid == 2 && s.type_id == type_id::COMMAND_AMF0 => s.type_id = 0,
        Misread::Type1FirstHangs if header.fmt == Fmt::Type1 && !before.known => s.len = MAX_MESSAGE_LEN,
        Misread::Type1KeepsType if header.fmt == Fmt::Type1 && before.known => s.type_id = before.type_id,
        Misread::Type1KeepsLength if header.fmt == Fmt::Type1 && before.known => s.len = before.len,
        Misread::MsidKept if before.msid != 0 => s.msid = before.msid,
        Misread::ExtendedSticky => s.ext = s.ext.or(before.ext),
        Misread::ExtendedAbsolute if delta && new => s.timestamp = header.ext.unwrap_or(s.timestamp),
        Misread::DeltaSigned if delta && new && header.ext.is_none() && s.delta >= 1 << 23 => {
            s.timestamp = before.timestamp.wrapping_add(s.delta | 0xFF00_0000);
        }
        Misread::DeltaIgnored if delta && new => s.timestamp = before.timestamp,
        Misread::DeltaRepeated if !new => s.timestamp = s.timestamp.wrapping_add(s.delta),
        Misread::NewType3NoDelta if new && header.fmt == Fmt::Type3 => s.timestamp = before.timestamp,
        Misread::NewType3Ignored if new && header.fmt == Fmt::Type3 => s.type_id = 0,
        Misread::AbsoluteAdded if header.fmt == Fmt::Type0 => {
            s.timestamp = s.timestamp.wrapping_add(before.timestamp);
        }
        Misread::OlderIgnored if new && s.timestamp < before.timestamp => s.type_id = 0,
        Misread::Time31 => s.timestamp &= 0x7FFF_FFFF,
        Misread::Splice if !new => {
            s.len = header.len.map_or(s.len, |len| (s.taken + len).min(MAX_MESSAGE_LEN))
        }
        Misread::EmptyCloses if s.len == 0 => return Err(limit("emptiness", 0, 1)),
        Misread::LongCloses if s.len > 1 << 20 => return Err(limit("message length", s.len, 1 << 20)),
        _ => {}
    }
    Ok(())
}

fn limit(what: &'static str, value: u32, limit: u32) -> ChunkErrorKind {
    ChunkErrorKind::Limit { what, value: value.into(), limit: limit.into() }
}

#[cfg(test)]
mod tests {
    use super::super::{ChunkReader, ChunkWriter, Limits, ReadEvent};
    use super::*;

    /// What a reader makes of bytes that come in pieces of `n`.
    fn read(quirks: Quirks, bytes: &[u8], n: usize) -> Vec<String> {
        let mut reader = ChunkReader::new(Limits::default(), quirks, 0);
        let mut events = Vec::new();
        for piece in bytes.chunks(n) {
            let mut at = 0;
            loop {
                let mut rest = &piece[at..];
                let event = match reader.read(&mut rest) {
                    Ok(None) => break,
                    Ok(Some(ReadEvent::Message(header, payload))) => Ok(format!("{header:?} {payload:?}")),
                    Ok(Some(event)) => Ok(format!("{event:?}")),
                    Err(error) => Err(error.to_string()),
                };
                at = piece.len() - rest.len();
                let failed = event.is_err();
                events.push(event.unwrap_or_else(|error| error));
                if failed {
                    return events;
                }
            }
        }
        events
    }

    fn message(csid: u32, timestamp: u32, type_id: u8, msid: u32) -> MessageHeader {
        MessageHeader { csid, timestamp, len: 0, type_id, msid }
    }

    #[test]
    fn every_wrong_way_to_read_survives_any_bytes() {
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            // Half of the bytes are small, so that lengths are short and messages end.
            (state >> 33) as u8 & if state >> 60 & 1 == 0 { 0xFF } else { 0xC3 }
        };
        for _ in 0..200 {
            let bytes: Vec<u8> = (0..600).map(|_| next()).collect();
            for &misread in Misread::ALL {
                read(Quirks { misread: Some(misread), ..Quirks::default() }, &bytes, 97);
            }
        }
    }

    #[test]
    fn every_wrong_way_to_write_is_seen_by_a_reader() {
        let write = |miswrite| {
            let mut out = Vec::new();
            let mut writer = ChunkWriter::new(miswrite);
            for (time, type_id, len) in [
                (0, 8, 30),
                (20, 8, 30),
                (0x0100_0014, 8, 31),
                (0x0100_0010, 8, 30),
                (0x0100_0030, 8, 31),
                (0x0100_0030, 9, 300),
            ] {
                let csid = u32::from(type_id);
                writer.write(&mut out, message(csid, time, type_id, 1), &vec![type_id; len], None);
            }
            read(Quirks::default(), &out, out.len())
        };
        let names: Vec<&str> = Quirks::names().collect();
        assert!(
            names.iter().all(|name| Quirks::named(name).is_some_and(|quirks| quirks != Quirks::default()))
        );
        assert_eq!(Quirks::named("no such"), None);
        let right = write(None);
        assert_eq!(right.len(), 6, "{right:?}");
        for &miswrite in Miswrite::ALL {
            if miswrite != Miswrite::AlwaysType0 {
                assert_ne!(write(Some(miswrite)), right, "{}", miswrite.name());
            }
        }
    }
}
