//! What `replay` did: each session that was sent again, and how the target's answers differ from the recorded server's.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A capture that was sent again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Replay {
    /// The file.
    pub capture: String,
    /// `capture`, `media`, `asap`, or a factor as `2x`.
    pub pace: String,
    /// How often the media was sent.
    pub loops: u32,
    /// How many of each session there were at once.
    pub copies: u32,
    /// Each session of each copy, in the order of the recording.
    pub sessions: Vec<Session>,
    /// Recorded sessions that were not replayed.
    pub left_out: Vec<LeftOut>,
}

/// A recorded session that was not replayed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeftOut {
    /// As `inspect` names it.
    pub key: String,
    /// Why.
    pub why: String,
}

/// How the replay of a session ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// It did not begin.
    #[default]
    Waiting,
    /// All was sent.
    Done,
    /// The target refused what the recorded server granted, or did not answer what all else stands on.
    Refused,
    /// The target closed, reset or broke the connection before the end.
    Closed,
    /// No connection, or not one byte came.
    Unreachable,
    /// The time for the whole run was up.
    Late,
    /// The user ended it.
    Interrupted,
}

/// One session that was sent again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Session {
    /// The recorded session, as `inspect` names it.
    pub key: String,
    /// The how manieth of the copies, from 1.
    pub copy: u32,
    /// What the recorded client did: `publish`, `play`, `publish+play`, `connect only`.
    pub role: String,
    /// Stream names, secrets masked.
    pub names: Vec<Mapped<String>>,
    /// How it ended.
    pub end: End,
    /// Why, where it is not `done`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What was sent.
    pub sent: Traffic,
    /// What came.
    pub received: Traffic,
    /// What the recorded server sent, by message type id.
    pub recorded: BTreeMap<u8, u64>,
    /// Message stream ids.
    pub streams: Vec<Mapped<u32>>,
    /// Transaction ids of the server's own calls that the client answered.
    pub calls: Vec<Mapped<f64>>,
    /// How the target's answers differ.
    pub departures: Vec<Departure>,
    /// Departures that were left out of the list.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_departures: u64,
    /// What else there is to say: what was not sent, and why.
    pub notes: Vec<String>,
    /// What a player got of each stream that was published.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verify: Vec<Verify>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Messages and bytes of one direction.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Traffic {
    /// By message type id.
    pub messages: BTreeMap<u8, u64>,
    /// Coded audio and video frames, those inside aggregates too.
    pub frames: u64,
    /// On the wire, handshake included.
    pub bytes: u64,
}

/// What the recording has, and what stood in its place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Mapped<T> {
    /// In the recording.
    pub recorded: T,
    /// At the target.
    pub target: T,
}

/// One difference between the recorded server and the target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Departure {
    /// `missing`, `changed`, `added` or `order`.
    pub kind: String,
    /// What was answered: a command and its transaction id, `status`, `call`, `media`.
    pub about: String,
    /// What the recorded server said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<String>,
    /// What the target said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub came: Option<String>,
}

/// What a player got of a stream while it was published.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verify {
    /// The name it played, secrets masked.
    pub name: String,
    /// Whether every coded frame came once, in order within its kind, byte for byte, behind its sequence header; null where nothing was compared.
    pub held: Option<bool>,
    /// Coded frames that were published.
    pub sent: u64,
    /// Coded frames that came.
    pub came: u64,
    /// What is wrong where it did not hold, or why nothing was compared. Without differences it is the player that the target refused or did
    /// not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Each kind of difference, with counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
}

/// Frames that did not come as they were published.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// `missing`, `late` (behind one that was sent after it), `doubled`, `changed`, `strange` (never sent) or `header` (behind another sequence
    /// header than it was sent behind, or none).
    pub kind: String,
    /// `audio` or `video`.
    pub media: String,
    /// How many frames.
    pub count: u64,
    /// The first of them.
    pub first: String,
}

impl Session {
    /// Whether the target did what ends a run with "found".
    pub fn is_found(&self) -> bool {
        matches!(self.end, End::Refused | End::Closed | End::Unreachable | End::Late)
            || self.verify.iter().any(|v| v.held == Some(false))
    }
}
