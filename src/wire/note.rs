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
    ($($(#[$doc:meta])* $group:ident {
        $($variant:ident = $name:literal, [$server:literal, $client:literal], $text:literal;)*
    })*) => {
        /// The kinds of departures.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum NoteKind { $($(#[doc = $text] $variant,)*)* }

        impl NoteKind {
            /// Every kind.
            pub const ALL: &'static [NoteKind] = &[$($(NoteKind::$variant,)*)*];

            $($(#[$doc])* pub const $group: &'static [NoteKind] = &[$(NoteKind::$variant),*];)*

            /// The name that scenarios and reports use, for example `fresh-csid-fmt`.
            pub const fn name(self) -> &'static str {
                match self { $($(NoteKind::$variant => $name,)*)* }
            }

            /// The row of `clauses.tsv` that a server's bytes depart from.
            pub const fn clause(self) -> &'static str {
                match self { $($(NoteKind::$variant => $server,)*)* }
            }

            /// The row that a client's bytes depart from; where the list has none of its own for the client, the one about the same place in the text.
            pub const fn client_clause(self) -> &'static str {
                match self { $($(NoteKind::$variant => $client,)*)* }
            }

            /// One sentence saying what was seen; `value` is explained in it.
            pub const fn text(self) -> &'static str {
                match self { $($(NoteKind::$variant => $text,)*)* }
            }
        }
    };
}

// One row a kind: name, clause of a server and of a client, sentence. A new departure is a new row.
note_kinds! {
    /// Of both handshakes together; only captures show them.
    HANDSHAKE {
        ServerEarly = "s2-data-early", ["rtmp/5.2.1/4", "rtmp/5.2.1/4"], "the server sent data before C2 was there (value: by how many microseconds)";
        EarlyAnswer = "c2-early", ["rtmp/5.2.1/6", "rtmp/5.2.1/6"], "C2 was there before S1 (value: by how many microseconds)";
        ClientEarly = "c2-data-early", ["rtmp/5.2.1/7", "rtmp/5.2.1/7"], "the client sent data before S2 was there (value: by how many microseconds)";
        ServerVersion = "s0-version", ["rtmp/5.2.2/1", "rtmp/5.2.2/1"], "S0 is not the version that C0 asks for (value: S0)";
        ServerWord = "s1-word", ["rtmp/5.2.3/1", "rtmp/5.2.3/1"], "the second word of S1 is not zero and S1 is not signed (value: the word)";
        ServerCopy = "s1-copy", ["rtmp/5.2.3/2", "rtmp/5.2.3/2"], "the random bytes of S1 are those of C1 (value: the time of S1)";
        ClientWord = "c1-word", ["rtmp/5.2.3/5", "rtmp/5.2.3/5"], "the second word of C1 is not zero and C1 is not signed (value: the word)";
        ServerEchoTime = "s2-time", ["rtmp/5.2.4/1", "rtmp/5.2.4/1"], "S2 does not begin with the time of C1 (value: its first word)";
        ServerEcho = "s2-echo", ["rtmp/5.2.4/2", "rtmp/5.2.4/2"], "S2 neither repeats the random bytes of C1 nor is signed over its digest (value: the first byte that differs)";
        ClientEchoTime = "c2-time", ["rtmp/5.2.4/4", "rtmp/5.2.4/4"], "C2 does not begin with the time of S1 (value: its first word)";
        ClientEcho = "c2-echo", ["rtmp/5.2.4/5", "rtmp/5.2.4/5"], "C2 neither repeats the random bytes of S1 nor is signed over its digest (value: the first byte that differs)";
    }
    /// What a reader sees in one direction alone.
    READER {
        FreshCsidFmt = "fresh-csid-fmt", ["rtmp/5.3.1.2.1/1", "rtmp/5.3.1.2.1/3"], "the first chunk of a chunk stream is not type 0 (value: its fmt)";
        BackwardDelta = "backward-delta", ["rtmp/5.3.1.2.1/2", "rtmp/5.3.1.2.1/10"], "a time that steps back was sent as a delta that wraps (value: the delta)";
        ContinuationFmt = "continuation-fmt", ["rtmp/5.3.1.2.4/1", "rtmp/5.3.1.2.4/8"], "a continuation chunk is not type 3 (value: its fmt)";
        LongBasicHeader = "long-basic-header", ["rtmp/5.3.1.1/6", "rtmp/5.3.1.1/9"], "a longer basic header than the chunk stream id needs (value: its bytes)";
        MediaOnControlCsid = "media-on-csid-2", ["rtmp/5.3.1.1/7", "rtmp/5.3.1.1/7"], "audio, video or data on chunk stream 2 (value: the message type id)";
        InterruptedMessage = "interrupted-message", ["rtmp/5.3.1.2.1/7", "rtmp/5.3.1.2.1/7"], "a new header inside an unfinished message (value: the bytes that were missing)";
        ExtendedTimestampAbsent = "ext-timestamp-absent", ["rtmp/5.3.1.3/8", "rtmp/5.3.1.3/11"], "a type 3 chunk lacks the extended timestamp (value: the one that it should repeat)";
        ExtendedTimestampDiffers = "ext-timestamp-differs", ["rtmp/5.3.1.3/8", "rtmp/5.3.1.3/11"], "a type 3 chunk repeats another extended timestamp than its header's (value: what it repeats)";
        RedundantExtendedTimestamp = "redundant-ext-timestamp", ["rtmp/5.3.1.3/7", "rtmp/5.3.1.3/7"], "an extended timestamp below 0xFFFFFF (value: it)";
        ControlPlace = "control-place", ["rtmp/5.4/1", "rtmp/5.4/2"], "a protocol control message away from chunk stream 2 or message stream 0 (value: the message stream id)";
        UserControlPlace = "user-control-place", ["rtmp/6.2/1", "rtmp/6.2/7"], "a user control message away from chunk stream 2 or message stream 0 (value: the message stream id)";
        UserControlSplit = "user-control-split", ["rtmp/6.2/3", "rtmp/6.2/3"], "a user control message in more than one chunk (value: its length)";
        ChunkSizeInvalid = "chunk-size-invalid", ["rtmp/5.4.1/14", "rtmp/5.4.1/19"], "Set Chunk Size of 0 or with the top bit set (value: it)";
        ChunkSizeSmall = "chunk-size-small", ["rtmp/5.4.1/4", "rtmp/5.4.1/4"], "Set Chunk Size below 128, which is legal and discouraged (value: it)";
        ChunkSizeLarge = "chunk-size-large", ["rtmp/5.4.1/7", "rtmp/5.4.1/7"], "Set Chunk Size above 0xFFFFFF, which is legal and acts like it (value: it)";
        ControlLength = "control-length", ["rtmp/5.4/7", "rtmp/5.4/7"], "a control message whose payload is shorter or longer than its layout (value: the length)";
        AbortUnknown = "abort-unknown", ["rtmp/5.4.2/2", "rtmp/5.4.2/2"], "Abort of a chunk stream without an unfinished message (value: the chunk stream id it names)";
        Payload = "payload", ["rtmp/7.1.1/1", "rtmp/7.1.1/1"], "a message whose payload does not decode (value: the message type id)";
    }
    /// Of a session, both directions together; only captures show them.
    SESSION {
        ConnectId = "connect-id", ["rtmp/7.2.1.1/19", "rtmp/7.2.1.1/19"], "the transaction id of connect is not 1 (value: it)";
        ConnectPlace = "connect-place", ["rtmp/7.2.1.1/19", "rtmp/7.2.1.1/19"], "connect away from message stream 0 (value: the message stream id)";
        ConnectAgain = "connect-again", ["rtmp/7.2.1.1/17", "rtmp/7.2.1.1/17"], "connect once more, after it was accepted (value: its transaction id)";
        CreateEarly = "create-early", ["rtmp/7.2.1.1/21", "rtmp/7.2.1.1/21"], "createStream before connect was answered (value: its transaction id)";
        CreatePlace = "create-place", ["rtmp/7.2.1.3/4", "rtmp/7.2.1.3/4"], "createStream away from message stream 0 (value: the message stream id)";
        StreamEarly = "stream-early", ["rtmp/7.2.2.1/18", "rtmp/7.2.2.1/18"], "publish or play before createStream was answered (value: the message stream id)";
        StreamUnknown = "stream-unknown", ["rtmp/7.2.1.3/5", "rtmp/7.2.1.3/5"], "publish or play on a message stream that no answer to createStream names (value: the message stream id)";
        StreamCommandPlace = "stream-command-place", ["rtmp/7.2.2/11", "rtmp/7.2.2/11"], "a stream's command on message stream 0 (value: its transaction id)";
        StreamCommandId = "stream-command-id", ["rtmp/7.2.2/11", "rtmp/7.2.2/11"], "a stream's command whose transaction id is not 0 (value: it)";
        StreamCommandObject = "stream-command-object", ["rtmp/7.2.2/11", "rtmp/7.2.2/11"], "a stream's command whose command object is not null (value: the message stream id)";
        PublishType = "publish-type", ["rtmp/7.2.2.6/12", "rtmp/7.2.2.6/12"], "the publishing type is none of live, record and append (value: the message stream id)";
        MediaEarly = "media-early", ["rtmp/7.2.2.6/11", "rtmp/7.2.2.6/11"], "audio or video before its publish was answered (value: the message stream id)";
        TimeBack = "time-back", ["rtmp/4/5", "rtmp/4/5"], "a frame's timestamp is before that of the frame of its kind before it (value: by how many milliseconds)";
        AacFrameFirst = "aac-frame-first", ["flv/E.4.2.1/2", "flv/E.4.2.1/2"], "an AAC frame before any AAC sequence header (value: the message stream id)";
        AvcFrameFirst = "avc-frame-first", ["flv/E.4.3.1/1", "flv/E.4.3.1/1"], "an AVC frame before any AVC sequence header (value: the message stream id)";
        AnswerUnknown = "answer-unknown", ["rtmp/7.2/1", "rtmp/7.2/1"], "an answer whose transaction id is that of no call (value: it)";
        AnswerTwice = "answer-twice", ["rtmp/7.2/2", "rtmp/7.2/2"], "a second answer to one call (value: its transaction id)";
        AnswerUnasked = "answer-unasked", ["rtmp/7.2.1.2/2", "rtmp/7.2.1.2/2"], "an answer to a command whose transaction id is 0 (value: 0)";
        AnswerPlace = "answer-place", ["rtmp/7.2.1.3/7", "rtmp/7.2.1.3/7"], "an answer to connect or createStream away from message stream 0 (value: the message stream id)";
        CreateResult = "create-result", ["rtmp/7.2.1.3/1", "rtmp/7.2.1.3/1"], "the result of createStream holds no whole number above 0 (value: its transaction id)";
        CreateSameId = "create-same-id", ["rtmp/7.2.1.3/2", "rtmp/7.2.1.3/2"], "the result of createStream names a message stream that is there already (value: the message stream id)";
        StatusId = "status-id", ["rtmp/7.2.2/1", "rtmp/7.2.2/1"], "onStatus whose transaction id is not 0 (value: it)";
        StatusObject = "status-object", ["rtmp/7.2.2/1", "rtmp/7.2.2/1"], "onStatus whose command object is not null (value: the message stream id)";
        StatusInfo = "status-info", ["rtmp/7.2.2/2", "rtmp/7.2.2/2"], "onStatus whose information lacks level, code or description as a string (value: the message stream id)";
        StatusLevel = "status-level", ["rtmp/7.2.2/3", "rtmp/7.2.2/3"], "onStatus whose level is none of status, warning and error (value: the message stream id)";
        StatusPlace = "status-place", ["rtmp/7.2.2/4", "rtmp/7.2.2/4"], "onStatus of a stream on message stream 0 (value: the message stream id of the command before it)";
        MediaUnplayed = "media-unplayed", ["rtmp/7.2.2.1/19", "rtmp/7.2.2.1/19"], "audio or video on a message stream that the client plays nothing on (value: the message stream id)";
        MediaUnconfirmed = "media-unconfirmed", ["rtmp/7.2.2.1/2", "rtmp/7.2.2.1/2"], "audio or video before its play was confirmed (value: the message stream id)";
        Amf3Unasked = "amf3-unasked", ["ertmp2/amf3/5", "ertmp2/amf3/5"], "a message of an AMF3 type where the server answered objectEncoding 0 (value: the message type id)";
        AckMissing = "ack-missing", ["rtmp/5.4.3/1", "rtmp/5.4.3/7"], "more bytes read without an acknowledgement than the window that the other side announced (value: how many, at least)";
        AckNumber = "ack-number", ["rtmp/5.4.3/2", "rtmp/5.4.3/2"], "an acknowledgement of more bytes than were sent (value: its number)";
        AckBackward = "ack-backward", ["rtmp/5.4.3/2", "rtmp/5.4.3/2"], "an acknowledgement whose number is below the one before it (value: its number)";
        BandwidthLimit = "bandwidth-limit", ["rtmp/5.4.5/6", "rtmp/5.4.5/6"], "Set Peer Bandwidth with a limit type that is not 0, 1 or 2 (value: it)";
        BandwidthUnanswered = "bandwidth-unanswered", ["rtmp/5.4.5/1", "rtmp/5.4.5/8"], "no Window Acknowledgement Size in answer to Set Peer Bandwidth (value: its window)";
        MessageType = "message-type", ["rtmp/6.1/1", "rtmp/6.1/1"], "a message type that the text does not define (value: it)";
        UserControlEvent = "user-control-event", ["rtmp/7.1.7/14", "rtmp/6.2/4"], "a user control event that the text does not define for this side (value: it)";
        PingUnanswered = "ping-unanswered", ["defacto/ping/1", "rtmp/7.1.7/8"], "no Ping Response to a Ping Request (value: the number in it)";
        PingDiffers = "ping-differs", ["defacto/ping/1", "rtmp/7.1.7/8"], "a Ping Response with another number than any Ping Request that is open (value: it)";
    }
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
