//! What `inspect` found in a capture.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::spool::Spool;

/// A capture with more sessions than memory should hold.
pub type Spooled = Inspect<Spool<Session>, Spool<Other>>;

/// A capture.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Inspect")]
pub struct Inspect<S = Vec<Session>, O = Vec<Other>> {
    /// `pcap`, `pcapng` or `raw` (the bytes of one direction).
    pub format: String,
    /// Packets read.
    pub packets: u64,
    /// Packets that the capturing program says it dropped.
    pub dropped_packets: u64,
    /// Packets that hold no TCP segment that can be read, by what they are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub passed_over: BTreeMap<String, u64>,
    /// Comments in the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comments: Vec<String>,
    /// Where and why the file could not be read to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
    /// TCP connections.
    pub tcp_connections: u64,
    /// Connections whose client side begins with C0 = 3 and a handshake's length.
    pub sessions: S,
    /// The other connections.
    pub other: O,
    /// Entries of the lists here that were left out, so that a capture without end is still read in little memory.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: u64,
}

impl Spooled {
    /// All of it in memory.
    ///
    /// # Errors
    /// When a session cannot be read back.
    pub fn load(self) -> io::Result<Inspect> {
        Ok(Inspect {
            format: self.format,
            packets: self.packets,
            dropped_packets: self.dropped_packets,
            passed_over: self.passed_over,
            comments: self.comments,
            damage: self.damage,
            tcp_connections: self.tcp_connections,
            sessions: self.sessions.iter().collect::<io::Result<_>>()?,
            other: self.other.iter().collect::<io::Result<_>>()?,
            omitted: self.omitted,
        })
    }
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// A value for each direction.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub struct Both<T> {
    pub c2s: T,
    pub s2c: T,
}

/// An RTMP session.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Session {
    /// The how manieth TCP connection it is, from 0: what `--stream` takes.
    pub stream: u64,
    /// `CLIENT->SERVER`, with `#2` and so on when the same ends connect again; what `--session` takes.
    pub key: String,
    /// Address and port.
    pub client: String,
    /// Address and port.
    pub server: String,
    /// What the client does: `publish`, `play`, `publish+play`, `connect only`, `unknown`.
    pub role: String,
    /// tcUrl and stream name, secrets masked; absent when connect was not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Whether both handshakes and every message are there: no hole, nothing undecodable, no message cut off by the end.
    pub complete: bool,
    /// How it ended: `fin`, `rst`, or `open` where the capture shows no end.
    pub end: String,
    /// Microseconds from 1970 to the first packet.
    pub started_us: u64,
    /// Milliseconds from the first packet to the last.
    pub duration_ms: u64,
    /// From a direction's first byte to its last, holes included.
    pub bytes: Both<u64>,
    /// Of a direction's bytes; null where there is a hole or no byte.
    pub sha256: Both<Option<String>>,
    /// Whole messages before the first hole, by message type id.
    pub messages: Both<BTreeMap<u8, u64>>,
    /// The values of Set Chunk Size, in order.
    pub chunk_sizes: Both<Vec<u32>>,
    /// Commands and, in brackets, data messages; the status code of an answer stands behind its name.
    pub commands: Both<Vec<String>>,
    /// Commands, chunk sizes and holes that had no room in their lists; they are among those of the capture.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: u64,
    /// Audio and video, where there is any.
    // Boxed, since a map makes room for eleven entries and mostly has one.
    pub media: BTreeMap<String, Box<Media>>,
    /// What the capture lacks.
    pub holes: Vec<Hole>,
    /// Departures from the specification, and what else is odd.
    pub notes: Vec<Note>,
}

/// Audio and video of one direction.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Media {
    /// Audio messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio: Option<Track>,
    /// Video messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video: Option<Track>,
    /// The timestamp of a video frame minus that of the audio frame before it: least and most, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skew_ms: Option<(i64, i64)>,
}

/// Audio or video.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Track {
    /// Codecs, with counts of messages.
    pub codecs: BTreeMap<String, u64>,
    /// Coded frames.
    pub frames: u64,
    /// Key frames among them; of video only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_frames: Option<u64>,
    /// Sequence headers, ends and other messages without a frame.
    pub headers: u64,
    /// Payload bytes.
    pub bytes: u64,
    /// The first frame's timestamp, milliseconds.
    pub first_ms: u32,
    /// The last frame's timestamp, milliseconds.
    pub last_ms: u32,
    /// Bits a second, over the time that the timestamps span; absent where they span none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitrate_bps: Option<u64>,
}

/// Bytes that the capture lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hole {
    /// `c2s` or `s2c`.
    pub direction: String,
    /// The first missing byte, from the first byte of the direction.
    pub offset: u64,
    /// How many; 0 where that cannot be known (mid-stream).
    pub bytes: u64,
    /// `snaplen`, `capture drop` or `mid-stream`.
    pub cause: String,
}

/// Something odd, in one entry however often it was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Note {
    /// `c2s` or `s2c`: whose bytes are odd.
    pub direction: Cow<'static, str>,
    /// Its name.
    pub note: Cow<'static, str>,
    /// The row of the specification it departs from; absent where it is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clause: Option<Cow<'static, str>>,
    /// How binding that row is: `MUST`, `SHOULD`, `MAY`, `implied` (follows from the text) or `defacto` (what peers do though no text says so).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Cow<'static, str>>,
    /// Where it was seen first, from the first byte of the direction. Of what is missing: where it could have stood first.
    pub offset: u64,
    /// When that was, in microseconds from the session's first packet; absent where the capture has no times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_us: Option<u64>,
    /// The value that shows it, at the first place.
    pub value: u64,
    /// The text that shows it, at the first place, where it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
    /// How often it was seen.
    pub count: u64,
    /// A sentence.
    pub text: Cow<'static, str>,
}

/// A connection that is no RTMP session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Other {
    /// The how manieth TCP connection it is, from 0.
    pub stream: u64,
    /// As of a session.
    pub key: String,
    /// What it is, as far as it can be told.
    pub what: String,
    /// As of a session.
    pub bytes: Both<u64>,
}
