//! The ways in which the reference server can misbehave, one name each.

use std::num::NonZeroU32;
use std::str::FromStr;

use crate::wire::chunk::Quirks;

macro_rules! faults {
    ($($variant:ident = $name:literal, $text:literal;)*) => {
        /// One misbehaviour of the reference server. How it reads and writes chunks wrongly is a [`Quirks`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Fault { $(#[doc = $text] $variant),* }

        impl Fault {
            /// Every fault.
            pub const ALL: &'static [Fault] = &[$(Fault::$variant),*];

            /// The name that scenarios and `--fault` use.
            pub const fn name(self) -> &'static str {
                match self { $(Fault::$variant => $name),* }
            }

            /// What it does, for people.
            pub const fn text(self) -> &'static str {
                match self { $(Fault::$variant => $text),* }
            }
        }
    };
}

// One row a fault: name and what it does. "Crashes" ends the whole server; "hangs" means that the session neither answers nor closes.
faults! {
    // rtmp 5.2: the handshake.
    Silent = "silent", "accepts connections and never says anything";
    SpeaksFirst = "speaks-first", "sends S0 before C0 came";
    EarlyS2 = "s2-before-c1", "sends S0, S1 and S2 as soon as C0 is in";
    LateS2 = "s2-after-c2", "holds S2 back until C2 is in";
    ChattyBeforeC2 = "chatty-before-c2", "sends Window Acknowledgement Size before C2 came";
    ChattyInC2 = "chatty-in-c2", "sends Window Acknowledgement Size when a part of C2 is in";
    ClosesAt1536 = "closes-at-1536", "takes 1536 bytes for the whole of C0 and C1";
    EatsAfterC2 = "eats-after-c2", "drops what comes in the same segment behind C2";
    HandshakeInOneRead = "handshake-in-one-read", "takes C0 and C1 only when they come in one segment";
    ExtraByte = "handshake-extra-byte", "sends a byte between S1 and S2";
    MissingByte = "handshake-missing-byte", "sends S2 without its last byte";
    VersionEchoed = "version-echoed", "S0 repeats C0, whatever it is";
    VersionStrict = "version-strict", "closes when C0 is not 3";
    VersionFour = "s0-is-4", "S0 is 4 for a client that asks for 3";
    VersionHangs = "version-hangs", "hangs when C0 is not 3";
    TextCrashes = "text-crashes", "crashes when C0 is a letter";
    TlsCrashes = "tls-crashes", "crashes when C0 is 0x16";
    S1ZeroField = "s1-zero-field", "the zero field of S1 holds the time of C1";
    S1Version = "s1-version-unsigned", "the zero field of S1 holds a version, without a digest";
    S1CopiesC1 = "s1-copies-c1", "S1 is a copy of C1";
    S2TimeZero = "s2-time-zero", "the first word of S2 is 0";
    S2ReadTimeZero = "s2-read-time-zero", "the second word of S2 is 0";
    S2RandomWrong = "s2-random-wrong", "the last byte of S2 is not that of C1";
    C1TimeLimited = "c1-time-limited", "closes when the time of C1 has its top bit set";
    C1TimeZero = "c1-time-zero-refused", "closes when the time of C1 is 0";
    C1RandomChecked = "c1-random-checked", "closes when all random bytes of C1 are the same";
    C2MustEcho = "c2-must-echo", "closes when C2 does not repeat the random bytes of S1";
    DigestWrong = "digest-wrong", "signs S1 wrongly";
    NoHandshakeTimer = "no-handshake-timer", "waits for the handshake without end";
    // rtmp 5.1, 5.4: what the server says of itself.
    LittleEndian = "little-endian-values", "writes window, bandwidth and chunk size with the low byte first";
    MsidBigEndian = "msid-big-endian", "reads and writes message stream ids with the high byte first";
    ControlOnCsid3 = "control-on-csid-3", "sends protocol control messages on chunk stream 3";
    ControlOnStream1 = "control-on-stream-1", "sends protocol control messages on message stream 1";
    EventsOnCsid3 = "events-on-csid-3", "sends user control messages on chunk stream 3";
    EventsSplit = "events-split", "sends each user control message in two chunks";
    ChunkSizeZeroOut = "chunk-size-zero-out", "announces a chunk size of 0";
    ChunkSizeSmallOut = "chunk-size-64-out", "announces a chunk size of 64";
    ChunksLonger = "chunks-longer", "writes longer chunks than it announced";
    ChunksShorter = "chunks-shorter", "writes shorter chunks than it announced";
    ChunksUnannounced = "chunks-unannounced", "writes chunks of 4096 bytes and does not announce that";
    ChunksAsClient = "chunks-as-client", "writes chunks of the size that the client announced for its own";
    // rtmp 5.4: what the client says.
    ChunkSizeOneCloses = "chunk-size-small-closes", "closes when a chunk size below 128 is announced";
    ChunkSizeOneHangs = "chunk-size-small-hangs", "hangs when a chunk size below 128 is announced";
    ChunkSizeZeroCrashes = "chunk-size-zero-crashes", "crashes when a chunk size of 0 is announced";
    ChunkSizeHugeHangs = "chunk-size-huge-hangs", "hangs when a chunk size above 0xFFFFFF is announced";
    ChunkSizeTopCrashes = "chunk-size-top-bit-crashes", "crashes when a chunk size with the top bit set is announced";
    ChunkSizeOften = "chunk-size-often-hangs", "hangs at the hundredth Set Chunk Size";
    AbortUnknownHangs = "abort-unknown-hangs", "hangs when Abort names a chunk stream that was not used";
    AbortTwoCrashes = "abort-csid-2-crashes", "crashes when Abort names chunk stream 2";
    AbortHangs = "abort-hangs", "hangs at every Abort";
    ControlShortCrashes = "control-short-crashes", "crashes when a control message is shorter than its layout";
    ControlLongHangs = "control-long-hangs", "hangs when a control message is longer than its layout";
    ControlElsewhereHangs = "control-elsewhere-hangs", "hangs when a control message is not on chunk stream 2 and message stream 0";
    ControlTimeHangs = "control-time-hangs", "hangs when the time of a control message is above 0xFFFFFF";
    // rtmp 5.4.3, 5.4.4: acknowledgements.
    NoAcks = "no-acks", "never acknowledges what it received";
    AckOnce = "ack-once", "acknowledges once and never again";
    AckLate = "ack-late", "acknowledges at thirty times the window";
    AckTooHigh = "ack-too-high", "acknowledges twice what it received";
    AckConstant = "ack-constant", "acknowledges the same number each time";
    AckUnasked = "ack-unasked-wrong", "acknowledges a wrong number without having been asked";
    WindowZeroStorm = "window-zero-storm", "acknowledges every message when the window is 0";
    WindowZeroCrashes = "window-zero-crashes", "crashes when the window is 0";
    WindowOneStorm = "window-one-storm", "acknowledges five times a read when the window is 1";
    WindowOneCrashes = "window-one-crashes", "crashes when the window is 1";
    WindowSigned = "window-signed", "closes when the window is 0x7FFFFFFF or more";
    WindowTopStorm = "window-top-bit-storm", "acknowledges every message when the window has its top bit set";
    WindowFirst = "window-first-only", "heeds the first window alone";
    AcksDemanded = "acks-demanded", "closes when 200000 bytes it sent are not acknowledged";
    AckNonsenseCrashes = "ack-nonsense-crashes", "crashes at an acknowledgement above what it sent";
    AckNonsenseStalls = "ack-nonsense-stalls", "sends no more media after an acknowledgement above what it sent";
    // rtmp 5.4.5: bandwidth.
    BandwidthUnanswered = "bandwidth-unanswered", "does not answer Set Peer Bandwidth";
    BandwidthAlwaysAnswered = "bandwidth-always-answered", "answers Set Peer Bandwidth although its window is the same";
    BandwidthUnlimited = "bandwidth-unlimited", "sends on whatever Set Peer Bandwidth said";
    BandwidthSoftReplaces = "bandwidth-soft-replaces", "a soft limit replaces a smaller one";
    BandwidthDynamicIgnored = "bandwidth-dynamic-ignored", "ignores a dynamic limit after a hard one";
    BandwidthDynamicHard = "bandwidth-dynamic-hard", "takes every dynamic limit for a hard one";
    BandwidthTypeHangs = "bandwidth-type-hangs", "hangs at an undefined limit type";
    BandwidthZeroCrashes = "bandwidth-zero-crashes", "crashes at a bandwidth of 0";
    // rtmp 6: messages and events.
    TypeUnknownCloses = "type-unknown-closes", "closes at an unknown message type";
    TypeUnknownHangs = "type-unknown-hangs", "hangs at an unknown message type";
    EventUnknownCloses = "event-unknown-closes", "closes at an unknown user control event";
    EventUnknownHangs = "event-unknown-hangs", "hangs at an unknown user control event";
    EventShortCrashes = "event-short-crashes", "crashes at a user control event that is too short";
    EventElsewhereHangs = "event-elsewhere-hangs", "hangs when a user control message is not on chunk stream 2 and message stream 0";
    EventTimeHangs = "event-time-hangs", "hangs when the time of a user control message is above 0xFFFFFF or steps back";
    EventStrayHangs = "event-stray-hangs", "hangs at a user control event that only servers send";
    NoPongs = "no-pongs", "does not answer ping requests";
    // rtmp 7: commands.
    NoConnectResult = "no-connect-result", "does not answer connect";
    ConnectOddHangs = "connect-odd-hangs", "hangs when connect says other than four plain strings";
    WindowAfterResult = "window-after-result", "announces window, bandwidth and chunk size behind the result of connect";
    EncodingAlways3 = "encoding-always-3", "states object encoding 3, whatever was asked for";
    AnswersOnStream1 = "answers-on-stream-1", "sends answers to calls on message stream 1";
    ResultIdWrong = "result-id-wrong", "answers with the transaction id plus one";
    SameStreamId = "same-stream-id", "gives every stream the id 1";
    UnknownCallHangs = "unknown-call-hangs", "hangs at an unknown call";
    CallAnsweredWithoutId = "call-0-answered", "answers a call with transaction id 0";
    StatusOnStream0 = "status-on-stream-0", "sends onStatus on message stream 0";
    PublishUnanswered = "publish-unanswered", "takes what is published and does not confirm publish";
    NoStreamBegin = "no-stream-begin", "sends no Stream Begin";
    NoStreamEof = "no-stream-eof", "sends no Stream EOF";
    // What players get.
    TimesSmoothed = "times-smoothed", "a step of more than 250 ms is relayed as 10 ms";
    TimesShifted = "times-stretched", "times are relayed 1 % too long";
    Batching = "batching", "media is relayed nine messages at a time";
    RelayDrops = "relay-drops", "every seventh audio or video message does not come to players";
    RelayDoubles = "relay-doubles", "every seventh audio or video message comes twice to players";
    RelaySwaps = "relay-swaps", "every seventh audio or video message and the one behind it change places";
    RelayDamages = "relay-damages", "the last byte of every seventh audio or video message is changed";
    RelayMixes = "relay-mixes", "players get the media of every stream";
    MediaOnStream1 = "media-on-stream-1", "players get media on message stream 1, whichever plays";
    RelayNothing = "relay-nothing", "no audio or video comes to players";
    RelayStops = "relay-stops", "nothing more comes to players after three messages";
    RelayLate = "relay-late", "players get every message 200 ms late";
    RelayStalls = "relay-stalls", "players get nothing for 2 s, once, from the fiftieth audio or video message on";
    TimesBack = "times-back", "the time of every seventh audio or video message is relayed 1000 ms too early";
    AudioLater = "audio-later", "the times of audio are relayed 80 ms too late";
    AudioWithheld = "audio-withheld", "players get no audio";
    FirstKeyDropped = "first-key-dropped", "the first key frame does not come to players";
    ConnectsRefused = "connects-refused", "the connect of every twentieth session is refused";
}

impl Fault {
    /// Of a fault that does not do wrong each time: every how many messages or sessions it does, unless told otherwise.
    pub const fn every(self) -> Option<u32> {
        match self {
            Fault::RelayDrops
            | Fault::RelayDoubles
            | Fault::RelaySwaps
            | Fault::RelayDamages
            | Fault::TimesBack => Some(7),
            Fault::ConnectsRefused => Some(20),
            _ => None,
        }
    }
}

/// A set of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults(u128);

const _: () = assert!(Fault::ALL.len() <= 128);

impl Faults {
    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the fault is on.
    pub fn has(self, fault: Fault) -> bool {
        self.0 & (1 << fault as u32) != 0
    }

    /// The first of these that is on.
    pub fn one_of(self, faults: &[Fault]) -> Option<Fault> {
        faults.iter().copied().find(|&fault| self.has(fault))
    }

    /// Switches the fault on.
    pub fn add(&mut self, fault: Fault) {
        self.0 |= 1 << fault as u32;
    }
}

/// A fault of the server, or a wrong way of its chunk reader or writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnyFault {
    /// Of the server, and every how many messages or sessions, if that is said.
    Peer(Fault, Option<NonZeroU32>),
    /// Of the chunk layer.
    Chunk(Quirks),
}

/// Why a text is no fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// It names none.
    #[error("no fault is named '{given}'{}", .near.map(|near| format!("; did you mean '{near}'?")).unwrap_or_default())]
    Unknown {
        /// The name.
        given: String,
        /// One that is like it.
        near: Option<&'static str>,
    },
    /// It has a number and does not count.
    #[error("'{0}' does not count: it takes no =N")]
    Countless(String),
    /// What it has is no number.
    #[error("{name}=N, every how many, is a whole number from 1, not '{given}'")]
    Number {
        /// The fault's name.
        name: &'static str,
        /// What it has.
        given: String,
    },
}

impl FromStr for AnyFault {
    type Err = FaultError;

    fn from_str(given: &str) -> Result<AnyFault, FaultError> {
        let Some((name, number)) = given.split_once('=') else { return named(given) };
        match named(name)? {
            AnyFault::Peer(fault, _) if fault.every().is_some() => {
                let wrong = |_| FaultError::Number { name: fault.name(), given: number.to_owned() };
                Ok(AnyFault::Peer(fault, Some(number.parse().map_err(wrong)?)))
            }
            _ => Err(FaultError::Countless(name.to_owned())),
        }
    }
}

fn named(given: &str) -> Result<AnyFault, FaultError> {
    let peer =
        Fault::ALL.iter().find(|fault| fault.name() == given).map(|fault| AnyFault::Peer(*fault, None));
    peer.or_else(|| Quirks::named(given).map(AnyFault::Chunk)).ok_or_else(|| {
        let distance = |name: &&str| strsim::damerau_levenshtein(name, given);
        let near = fault_names().into_iter().min_by_key(distance).filter(|name| distance(name) <= 3);
        FaultError::Unknown { given: given.to_owned(), near }
    })
}

/// The names of all faults: how the server misbehaves, and how it reads and writes chunks wrongly.
pub fn fault_names() -> Vec<&'static str> {
    Fault::ALL.iter().map(|fault| fault.name()).chain(Quirks::names()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lead_back() {
        let mut names = fault_names();
        assert!(names.iter().all(|name| name.parse::<AnyFault>().is_ok()));
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
        let error = "no-ackz".parse::<AnyFault>().unwrap_err();
        assert_eq!(error.to_string(), "no fault is named 'no-ackz'; did you mean 'no-acks'?");
    }

    #[test]
    fn only_those_that_count_take_a_number() {
        let hundred = "relay-drops=100".parse::<AnyFault>();
        assert_eq!(hundred, Ok(AnyFault::Peer(Fault::RelayDrops, NonZeroU32::new(100))));
        for (given, want) in [
            ("no-acks=3", "'no-acks' does not count: it takes no =N"),
            ("delta-ignored=3", "'delta-ignored' does not count: it takes no =N"),
            ("relay-drops=0", "relay-drops=N, every how many, is a whole number from 1, not '0'"),
            ("relay-drops=", "relay-drops=N, every how many, is a whole number from 1, not ''"),
            ("relay-dops=100", "no fault is named 'relay-dops'; did you mean 'relay-drops'?"),
        ] {
            assert_eq!(given.parse::<AnyFault>().expect_err(given).to_string(), want);
        }
    }
}
