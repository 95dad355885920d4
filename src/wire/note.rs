//! A departure from the specification that was seen and could be read all the same.

use std::fmt;

/// What was seen, where, and the value that shows it. Small and `Copy`, so that a hostile peer costs nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Note {
    /// Which departure.
    pub kind: NoteKind,
    /// The offset of the chunk or handshake piece, in bytes from the first byte this side received.
    pub offset: u64,
    /// The chunk stream id concerned, 0 where there is none.
    pub csid: u32,
    /// The value seen; its meaning is in the kind's text.
    pub value: u64,
}

macro_rules! note_kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $clause:literal, $text:literal;)*) => {
        /// The kinds of departures that a reader reports.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum NoteKind { $(#[doc = $text] $variant),* }

        impl NoteKind {
            /// Every kind, in the order of the clauses.
            pub const ALL: &'static [NoteKind] = &[$(NoteKind::$variant),*];

            /// The name that scenarios and reports use, for example `fresh-csid-fmt`.
            pub const fn name(self) -> &'static str {
                match self { $(NoteKind::$variant => $name),* }
            }

            /// The row of `clauses.tsv` that it departs from, as it reads for a server's bytes.
            pub const fn clause(self) -> &'static str {
                match self { $(NoteKind::$variant => $clause),* }
            }

            /// One sentence saying what was seen; `value` is explained in it.
            pub const fn text(self) -> &'static str {
                match self { $(NoteKind::$variant => $text),* }
            }
        }
    };
}

// One row a kind: name, clause, sentence. A new departure is a new row.
note_kinds! {
    ServerEarly = "s2-data-early", "rtmp/5.2.1/4", "the server sent data before C2 was there (value: by how many microseconds)";
    EarlyAnswer = "c2-early", "rtmp/5.2.1/6", "C2 was there before S1 (value: by how many microseconds)";
    ClientEarly = "c2-data-early", "rtmp/5.2.1/7", "the client sent data before S2 was there (value: by how many microseconds)";
    ServerVersion = "s0-version", "rtmp/5.2.2/1", "S0 is not the version that C0 asks for (value: S0)";
    ServerWord = "s1-word", "rtmp/5.2.3/1", "the second word of S1 is not zero and S1 is not signed (value: the word)";
    ServerCopy = "s1-copy", "rtmp/5.2.3/2", "the random bytes of S1 are those of C1 (value: the time of S1)";
    ClientWord = "c1-word", "rtmp/5.2.3/5", "the second word of C1 is not zero and C1 is not signed (value: the word)";
    ServerEchoTime = "s2-time", "rtmp/5.2.4/1", "S2 does not begin with the time of C1 (value: its first word)";
    ServerEcho = "s2-echo", "rtmp/5.2.4/2", "S2 neither repeats the random bytes of C1 nor is signed over its digest (value: the first byte that differs)";
    ClientEchoTime = "c2-time", "rtmp/5.2.4/4", "C2 does not begin with the time of S1 (value: its first word)";
    ClientEcho = "c2-echo", "rtmp/5.2.4/5", "C2 neither repeats the random bytes of S1 nor is signed over its digest (value: the first byte that differs)";
    FreshCsidFmt = "fresh-csid-fmt", "rtmp/5.3.1.2.1/1", "the first chunk of a chunk stream is not type 0 (value: its fmt)";
    BackwardDelta = "backward-delta", "rtmp/5.3.1.2.1/2", "a time that steps back was sent as a delta that wraps (value: the delta)";
    ContinuationFmt = "continuation-fmt", "rtmp/5.3.1.2.4/1", "a continuation chunk is not type 3 (value: its fmt)";
    LongBasicHeader = "long-basic-header", "rtmp/5.3.1.1/6", "a longer basic header than the chunk stream id needs (value: its bytes)";
    MediaOnControlCsid = "media-on-csid-2", "rtmp/5.3.1.1/7", "audio, video or data on chunk stream 2 (value: the message type id)";
    InterruptedMessage = "interrupted-message", "rtmp/5.3.1.2.1/7", "a new header inside an unfinished message (value: the bytes that were missing)";
    ExtendedTimestampAbsent = "ext-timestamp-absent", "rtmp/5.3.1.3/8", "a type 3 chunk lacks the extended timestamp (value: the one that it should repeat)";
    ExtendedTimestampDiffers = "ext-timestamp-differs", "rtmp/5.3.1.3/8", "a type 3 chunk repeats another extended timestamp than its header's (value: what it repeats)";
    RedundantExtendedTimestamp = "redundant-ext-timestamp", "rtmp/5.3.1.3/7", "an extended timestamp below 0xFFFFFF (value: it)";
    ControlPlace = "control-place", "rtmp/5.4/1", "a protocol control message away from chunk stream 2 or message stream 0 (value: the message stream id)";
    UserControlPlace = "user-control-place", "rtmp/6.2/1", "a user control message away from chunk stream 2 or message stream 0 (value: the message stream id)";
    UserControlSplit = "user-control-split", "rtmp/6.2/3", "a user control message in more than one chunk (value: its length)";
    ChunkSizeInvalid = "chunk-size-invalid", "rtmp/5.4.1/14", "Set Chunk Size of 0 or with the top bit set (value: it)";
    ChunkSizeSmall = "chunk-size-small", "rtmp/5.4.1/14", "Set Chunk Size below 128 (value: it)";
    ChunkSizeLarge = "chunk-size-large", "rtmp/5.4.1/14", "Set Chunk Size above 0xFFFFFF (value: it)";
    ControlLength = "control-length", "rtmp/5.4/7", "a control message whose payload is shorter or longer than its layout (value: the length)";
    AbortUnknown = "abort-unknown", "rtmp/5.4.2/2", "Abort of a chunk stream without an unfinished message (value: the chunk stream id it names)";
    Payload = "payload", "rtmp/7.1.1/1", "a message whose payload does not decode (value: the message type id)";
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "note {} csid={} value={:#x} at {} ({})",
            self.kind.name(),
            self.csid,
            self.value,
            self.offset,
            self.kind.clause()
        )
    }
}
