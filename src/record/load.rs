//! What `load` found.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One run of `load`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Load {
    /// What was to be done.
    pub plan: Plan,
    /// Publishers and players.
    pub sessions: Sessions,
    /// Audio and video messages that carry media.
    pub frames: Frames,
    /// Frames at players whose timestamp is before that of the one before of their kind.
    #[serde(default)]
    pub timestamps_back: Back,
    /// What video begins with at players.
    #[serde(default)]
    pub joins: Joins,
    /// Departures from the specification until publish or play was confirmed, by name; behind that only media is looked at.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub departures: BTreeMap<String, Departure>,
    /// Players of `--slow-players`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow: Option<SlowPlayers>,
    /// On the wire, above TCP.
    pub bytes: Bytes,
    /// By name; those without a value are absent.
    pub latency: BTreeMap<String, Latency>,
    /// One a second, from the start.
    pub intervals: Vec<Interval>,
    /// Whether the numbers are the target's or ours.
    pub generator: Generator,
    /// The process of `--watch-pid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watched: Option<Watched>,
    /// What was promised.
    pub slo: Vec<Slo>,
    /// The search of `--find`. All else is of its step with the most sessions that kept it, or, where none did, of its last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub find: Option<Find>,
}

/// A search for the most sessions that keep a promise.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Find {
    /// The promise.
    pub slo: String,
    /// Of the steps' values: `us`, `count` or `percent`.
    pub unit: String,
    /// What was varied: `players` or `publishers`.
    pub of: String,
    /// In the order in which they ran.
    pub steps: Vec<FindStep>,
    /// The most that kept it; absent where none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<u32>,
    /// Why no more did: `target`; `generator`: we could not make more or were the limit with more, whatever was missed then: nothing is said of the target; `asked`: no more were allowed; absent
    /// where the search did not come to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<String>,
}

/// A run of a search.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FindStep {
    /// Players or publishers.
    pub sessions: u32,
    /// Whether the promise and all that hold beside it were kept.
    pub held: bool,
    /// What was measured of the promise; absent where there was nothing to measure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// We were the limit: it says nothing of the target, and is not held unless with `--allow-limited`.
    pub limited: bool,
    /// Which promises were not kept by what was measured; where we were the limit, nobody knows by whom.
    pub missed: Vec<String>,
}

/// Players that read slowly, counted apart: what they get is in no other number but bytes and sessions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SlowPlayers {
    /// Of all players.
    pub per_cent: f64,
    /// Bits a second that each of them reads.
    pub rate_bps: u64,
    /// That were there until we ended them.
    pub ended: u64,
    /// That the target ended.
    pub dropped: u64,
    /// What they got.
    pub frames: Frames,
    /// By name.
    pub latency: BTreeMap<String, Latency>,
}

/// What was to be done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// Publishers.
    pub publishers: u32,
    /// Players at most at a time.
    pub players: u32,
    /// Milliseconds and the players wanted at their end, one stage behind the other.
    pub stages: Vec<(u64, u32)>,
    /// New sessions a second at most.
    pub rate_per_s: u32,
    /// Of one publisher, payload.
    pub bitrate_bps: u64,
    /// Video frames a second; 0: there is no video.
    pub fps: u32,
    /// Video frames from key frame to key frame.
    pub gop: u32,
    /// How much of the payload is audio; 0: there is none.
    #[serde(default)]
    pub audio_bps: u64,
    /// `precise` or `sweep`.
    pub read_mode: String,
    /// Of a sweep: the resolution of receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tick_ms: Option<u64>,
    /// What receipt of frames is told by: `kernel` (time stamps of the socket), `user` (after the read) or `mixed`; `frames.user_clock` says how many.
    pub receipt_clock: String,
    /// What is played that we do not publish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub play: Option<String>,
    /// The file that publishers send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media: Option<MediaFile>,
    /// Players that leave and come back, a second; publishers where there are no players.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub churn_per_s: Option<f64>,
    /// Players come at random places between two key frames of streams that run.
    #[serde(default)]
    pub late_join: bool,
    /// Publishers send what falls due in so many milliseconds at once, at their end: that is when it was planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst_ms: Option<u64>,
    /// The addresses that connections are made from; empty: as the system likes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// Event loops.
    pub shards: u32,
}

/// A file that publishers send, over and over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MediaFile {
    /// As it was given.
    pub file: String,
    /// How long it takes once.
    pub round_ms: u64,
    /// What it has of video.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video: Option<MediaTrack>,
    /// What it has of audio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio: Option<MediaTrack>,
}

/// The frames of one kind in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MediaTrack {
    /// A FourCC or a legacy name.
    pub codecs: Vec<String>,
    /// Frames.
    pub frames: u64,
    /// Of them, those that get a stamp; the others are told by their content, without `frame_raw`.
    pub stamped: u64,
}

/// Publishers and players.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sessions {
    /// That the plan has.
    pub planned: u64,
    /// That were begun.
    pub attempted: u64,
    /// publish or play was confirmed.
    pub started: u64,
    /// That went on until we ended them.
    pub ended: u64,
    /// By the phase they failed in.
    pub failed_by_phase: BTreeMap<String, Failed>,
    /// By the phase in which the end of the run cut them off, so that nobody knows what would have come of them: `first_frame` of players of a stream
    /// that is not ours, which are among `started`, and all else of those that are not.
    #[serde(default)]
    pub unfinished_by_phase: BTreeMap<String, Unfinished>,
    /// Of those that went on until we ended them: players of a stream that is not ours to which nothing came any more, for two seconds or longer, or
    /// since the target said that the stream is over; by the message that said so, or `nothing`. The time without a frame is in
    /// `gap` too.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub silent_by_status: BTreeMap<String, Silent>,
}

/// Players that got nothing more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Silent {
    /// How many.
    pub count: u64,
    /// How long before its end one of them got its last frame at most.
    pub longest_ms: u64,
}

impl Silent {
    /// Adds others.
    pub fn add(&mut self, other: &Silent) {
        self.count += other.count;
        self.longest_ms = self.longest_ms.max(other.longest_ms);
    }
}

/// Sessions that the end of the run cut off in one phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unfinished {
    /// How many.
    pub count: u64,
    /// Of them, those that had waited for two seconds or longer since they began (in `first_frame`: since play was confirmed): promises about `failed` count them; the others are in no percentage.
    pub late: u64,
    /// How long one of them had waited at most.
    pub longest_ms: u64,
}

impl Unfinished {
    /// Adds others.
    pub fn add(&mut self, other: &Unfinished) {
        self.count += other.count;
        self.late += other.late;
        self.longest_ms = self.longest_ms.max(other.longest_ms);
    }
}

/// Sessions that failed in one phase.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failed {
    /// How many.
    pub count: u64,
    /// What the first of them met.
    pub sample: String,
}

/// Audio and video messages that carry media.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Frames {
    /// By publishers.
    pub sent: u64,
    /// By players, join bursts and repeats included.
    pub received: u64,
    /// By players: planned behind the first of their kind until they leave, or until the last that came. `received` is `expected` - `lost` +
    /// `duplicated` + `join_burst` + `foreign` + `unplaced`.
    pub expected: u64,
    /// Expected and never received; null where none was expected.
    #[serde(default)]
    pub lost: Option<u64>,
    /// Received again; null, as the two that follow, where no frame was ours.
    #[serde(default)]
    pub duplicated: Option<u64>,
    /// Received behind a later one of their kind.
    #[serde(default)]
    pub reordered: Option<u64>,
    /// With other bytes than were sent, without a stamp that can be read, or of another of our streams.
    #[serde(default)]
    pub corrupt: Option<u64>,
    /// Those of `corrupt` that are of another of our streams, by their stamp.
    #[serde(default)]
    pub strayed: u64,
    /// Received, and for which planned frame they stand is not known: corrupt ones without a stamp that can be read or of another of our streams, and of
    /// those that only their content tells the first ones, where others are like them.
    #[serde(default)]
    pub unplaced: u64,
    /// Planned before the player's `play`.
    pub join_burst: u64,
    /// On streams that are not ours, or with the stamp of another run: what the target kept of it.
    pub foreign: u64,
    /// Of those received: when is told by our own clock, after the read.
    #[serde(default)]
    pub user_clock: u64,
}

/// Of each kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub struct Back {
    pub video: u64,
    pub audio: u64,
}

/// What video begins with at players; the age of the key frame is the latency `key_age`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Joins {
    /// Players that got video.
    pub players: u64,
    /// Of them, those whose first frame was a key frame.
    pub at_key_frame: u64,
    /// Frames that came to the others before the first key frame.
    pub frames_before_key: u64,
}

/// A departure from the specification.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Departure {
    /// The row of the requirements that it departs from.
    pub clause: String,
    /// How often it was seen.
    pub count: u64,
    /// The first of them.
    pub sample: String,
}

/// On the wire, above TCP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub struct Bytes {
    pub sent: u64,
    pub received: u64,
}

/// The values of one latency.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub struct Latency {
    pub count: u64,
    /// Of `frame`: still outstanding when the run or their session ended, with their age then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub censored: Option<u64>,
    pub min_us: u64,
    pub mean_us: f64,
    pub p50_us: u64,
    pub p90_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub max_us: u64,
    /// HdrHistogram, V2 deflate, base64.
    pub hdr: String,
}

/// One second.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Interval {
    /// From the start of the run.
    pub start_ms: u64,
    /// Sessions that publish or play at its end.
    pub sessions_up: u64,
    /// Sessions begun in it.
    pub attempted: u64,
    /// Sessions that failed in it.
    pub failed: u64,
    /// Frames.
    pub sent: u64,
    /// Frames.
    pub received: u64,
    /// On the wire.
    pub bytes_sent: u64,
    /// On the wire.
    pub bytes_received: u64,
    /// Frames of players there are at its end that a later one of their kind overtook and that have not come so far.
    pub missing: u64,
    /// Age of the frame that has been outstanding longest, at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_outstanding_us: Option<u64>,
    /// Ticks of `--tick` at which a player found its socket full for the second time on end: the target could not send all in time.
    #[serde(default)]
    pub full_sweeps: u64,
    /// By name.
    pub latency: BTreeMap<String, Brief>,
    /// This process, of one core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_pct: Option<f64>,
    /// The whole machine, of all cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_pct: Option<f64>,
    /// Resident memory of this process, at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rss_bytes: Option<u64>,
    /// The process of `--watch-pid`, of one core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watched_cpu_pct: Option<f64>,
    /// Its resident memory, at the end of the second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watched_rss_bytes: Option<u64>,
    /// We were the limit.
    pub limited: bool,
    /// Why, if we were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limited_why: Option<String>,
}

/// A latency in one second.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub struct Brief {
    pub p50_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
}

/// Whether the numbers are the target's or ours.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Generator {
    /// Our own lateness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_p99_us: Option<u64>,
    /// This process over the run, of one core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_pct: Option<f64>,
    /// The whole machine over the run, of all cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_pct: Option<f64>,
    /// We were the limit, of the run as a whole or in some second of it.
    pub limited: bool,
    /// Why, and in how many seconds.
    pub reasons: Vec<String>,
}

/// The process of `--watch-pid`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Watched {
    /// Its id.
    pub pid: u32,
    /// Over the run, or until it was last seen, of one core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_pct: Option<f64>,
    /// The most that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rss_bytes: Option<u64>,
}

/// A promise.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Slo {
    /// As it was given.
    pub expr: String,
    /// Whether it was kept, and by the target: in a run that we were the limit of only with `--allow-limited`; null where it is unmeasurable.
    pub held: Option<bool>,
    /// What was measured; absent where there was nothing to measure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Of the value: `us`, `count` or `percent`.
    pub unit: String,
    /// It holds by default, and the run had nothing that it could be measured of: it is neither kept nor missed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unmeasurable: bool,
    /// We were the limit: whatever was measured, it is neither kept nor missed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub limited: bool,
}

impl Slo {
    /// Whether the run is to be blamed for it.
    pub fn missed(&self) -> bool {
        self.held == Some(false) && !self.limited
    }
}
