//! What a run found: plain data, saved as JSON. Units stand in the fields' names; "no data" is absent, never 0.

pub mod inspect;
pub mod load;
pub mod replay;
pub mod spool;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The value of [`Record::schema`].
pub const SCHEMA: &str = "rtmp-bench/record/1";

/// One run of one verb.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: String,
    /// Which program wrote this.
    pub tool: Tool,
    /// The verb: `test`, `load`, ….
    pub verb: String,
    /// The arguments behind the verb, secrets masked.
    pub args: Vec<String>,
    /// What every random choice was drawn from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// RFC 3339.
    pub started_at: String,
    /// Milliseconds from start to end.
    pub duration_ms: u64,
    /// The machine we ran on.
    pub host: Host,
    /// What was tested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, where nothing could be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What `test` found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<Test>,
    /// What `inspect` found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inspect: Option<inspect::Inspect>,
    /// What `load` found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<load::Load>,
    /// What `replay` did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<replay::Replay>,
}

/// The program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tool {
    /// `rtmp-bench`.
    pub name: String,
    /// As in Cargo.toml.
    pub version: String,
}

impl Default for Tool {
    fn default() -> Tool {
        Tool { name: env!("CARGO_PKG_NAME").into(), version: env!("CARGO_PKG_VERSION").into() }
    }
}

/// The machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// Processors that this process may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cores: Option<u32>,
    /// Memory of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Kernel release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Descriptors this process may open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fd_limit: Option<u64>,
}

/// The server (or client) under test.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Target {
    /// Secrets masked.
    pub url: String,
    /// Whether it was our own reference server.
    pub embedded: bool,
    /// The command of `--spawn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spawned: Option<Spawned>,
    /// What calibration found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
}

/// A target that we started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Spawned {
    /// Of its shell, and its process group.
    pub pid: u32,
    /// How it ended, where it did so before the run was over: the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub died: Option<String>,
    /// How often it was started again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<u32>,
    /// The last it wrote, to stdout and stderr alike; before it ended the first time.
    pub last_lines: Vec<String>,
}

impl Target {
    /// How a target that we started ended, where it did so by itself, and the last it wrote.
    pub fn death(&self) -> Option<(&str, &[String])> {
        let spawned = self.spawned.as_ref()?;
        Some((spawned.died.as_deref()?, &spawned.last_lines))
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Nothing found.
    Clean,
    /// Something found.
    Found,
    /// The target was not reached.
    Unreachable,
    /// Stopped by the user.
    Interrupted,
    /// The generator was the limit.
    Limited,
}

/// How far a client has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Milestone {
    Handshaken,
    Connected,
    Created,
    Publishing,
    Playing,
}

impl Milestone {
    /// Its word, as in the record.
    pub fn name(self) -> &'static str {
        match self {
            Milestone::Handshaken => "handshaken",
            Milestone::Connected => "connected",
            Milestone::Created => "created",
            Milestone::Publishing => "publishing",
            Milestone::Playing => "playing",
        }
    }
}

/// What a target is like, found before the first scenario. `None` is "not found out".
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Fingerprint {
    /// How far a client gets: `nothing`, `bytes`, `handshaken`, `connected`, `created`.
    pub reach: String,
    /// Why it gets no further.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// Where the target closes a client that did nothing wrong and only waits, or sends it what cannot be read. What is sent there judges
    /// nothing, since it would end anyway.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ends: Vec<Milestone>,
    /// What answers a plain C1: `plain`, `plain, S1 is a copy of C1`, `digest schema N`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshake: Option<String>,
    /// What answers a signed C1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_handshake: Option<String>,
    /// `fmsVer` of connect's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Its Window Acknowledgement Size, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_ack_size: Option<u32>,
    /// Its Set Peer Bandwidth, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_bandwidth: Option<u32>,
    /// The limit type beside it: 0 hard, 1 soft, 2 dynamic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_bandwidth_limit: Option<u8>,
    /// Its Set Chunk Size, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunk_size: Option<u32>,
    /// What proves that a connection still parses: `ping`, `createStream`, `call`; `connect` where that is answered by `_error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sentinel: Option<String>,
    /// Whether the sentinel is answered to a client that publishes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers_publisher: Option<bool>,
    /// Whether publish is confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish: Option<bool>,
    /// Whether play of what is published brings its frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub play: Option<bool>,
    /// `passthrough`, `remux` (pictures in other bytes), `transcode` (other pictures too), or `partial` where only audio or only video comes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
    /// Message streams on one connection: `many` or `one`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streams: Option<String>,
    /// A second publisher of a name: `refuse`, `close`, `takeover`, `silent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken: Option<String>,
    /// Play of a name that nobody publishes: `wait`, `refuse`, `close`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// Whether Acknowledgements come when our window asks for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acks: Option<bool>,
    /// Whether connect's answer announces enhanced RTMP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ertmp: Option<bool>,
    /// Whether connect's answer agrees to object encoding 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amf3: Option<bool>,
    /// Whether it serves a single connection and then no other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_shot: Option<bool>,
    /// How long it took when nothing else went on.
    pub baseline: Baseline,
    /// What the times of the suite were multiplied by, beside `--timeout-scale`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_scale: Option<f64>,
    /// Facts in the words of `needs`.
    pub facts: Vec<String>,
    /// What else was seen.
    pub notes: Vec<String>,
}

/// Idle latencies, in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Baseline {
    /// Opening a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_us: Option<u64>,
    /// C0 to S2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshake_us: Option<u64>,
    /// connect to its `_result`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_us: Option<u64>,
    /// The sentinel to its answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sentinel_us: Option<u64>,
    /// publish to its confirmation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish_start_us: Option<u64>,
    /// play to its confirmation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub play_start_us: Option<u64>,
    /// A frame from publisher to player.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay_us: Option<u64>,
}

/// What `test` found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Test {
    /// As judged, before what was expected; cases, not files.
    pub totals: Totals,
    /// In the order of their ids.
    pub cases: Vec<Case>,
    /// Ids that the expect file names and no case has: each is a finding.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
    /// Since when the target answered no more and what ran last, where it died and did not come back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<String>,
}

/// Cases by verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub struct Totals {
    pub pass: u32,
    pub lenient: u32,
    pub info: u32,
    pub fail: u32,
    pub blocked: u32,
    pub skip: u32,
}

impl Totals {
    /// Counts the verdicts of `cases`.
    pub fn of(cases: &[Case]) -> Totals {
        let mut totals = Totals::default();
        for case in cases {
            *match case.verdict {
                Verdict::Pass => &mut totals.pass,
                Verdict::Info => &mut totals.info,
                Verdict::Lenient => &mut totals.lenient,
                Verdict::Blocked => &mut totals.blocked,
                Verdict::Fail => &mut totals.fail,
                Verdict::Skip => &mut totals.skip,
            } += 1;
        }
        totals
    }
}

/// What is said of one case; a later one is worse, but for `Skip`, which says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// A stated need is missing.
    Skip,
    /// Conformant.
    Pass,
    /// The text is silent; recorded.
    Info,
    /// Conformant, but not as a SHOULD or common practice says.
    Lenient,
    /// The point under test was not reached.
    Blocked,
    /// Not conformant.
    Fail,
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Verdict; 6] =
        [Verdict::Skip, Verdict::Pass, Verdict::Info, Verdict::Lenient, Verdict::Blocked, Verdict::Fail];

    /// The word that outputs and expect files use.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Skip => "skip",
            Verdict::Pass => "pass",
            Verdict::Info => "info",
            Verdict::Lenient => "lenient",
            Verdict::Blocked => "blocked",
            Verdict::Fail => "fail",
        }
    }
}

/// One case of one scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Case {
    /// The scenario's path, `:row` behind it where it is a row of a table.
    pub id: String,
    /// Rows of `clauses.tsv`.
    pub clause: Vec<String>,
    /// The level of the first one.
    pub level: String,
    /// What the scenario says.
    pub title: String,
    /// What was judged.
    pub verdict: Verdict,
    /// The verdict that the expect file names for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Verdict>,
    /// The reason beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_reason: Option<String>,
    /// The label of the branch (or the step) that decided.
    pub branch: String,
    /// What was expected and what came.
    pub why: String,
    /// Milliseconds.
    pub duration_ms: u64,
    /// Departures that the reader saw, and what was recorded by the way.
    pub notes: Vec<String>,
    /// What passed around the deciding point; empty where nothing was found.
    pub trace: Vec<TraceLine>,
    /// The command that runs this case alone.
    pub repeat: String,
}

impl Case {
    /// The label of a verdict that could not be measured for want of the target's pid; such a case is never a finding.
    pub const NOT_MEASURED: &'static str = "not measured";

    /// Why this case is a finding; `None` where it is none. `strict` counts lenient as found where nothing else was expected.
    pub fn finding(&self, strict: bool) -> Option<&'static str> {
        if self.verdict == Verdict::Skip || self.branch == Case::NOT_MEASURED {
            return None;
        }
        match (self.expected, self.verdict) {
            (Some(expected), verdict) if verdict > expected => Some("worse than expected"),
            (Some(expected), verdict) if verdict < expected => Some("better than expected"),
            (Some(_), _) => None,
            (None, Verdict::Fail) => Some("failed"),
            (None, Verdict::Blocked) => Some("blocked"),
            (None, Verdict::Lenient) if strict => Some("lenient"),
            (None, _) => None,
        }
    }
}

/// One thing that passed, in the notation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TraceLine {
    /// Microseconds since the case began.
    pub at_us: u64,
    /// The connection's name in the scenario.
    pub conn: String,
    /// `>` sent, `<` received, `-` neither.
    pub direction: char,
    /// As notation.
    pub text: String,
    /// The first bytes, where the notation does not show them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hex: Option<String>,
}

impl TraceLine {
    /// How the text of a write that was made by hand begins.
    pub const WRITE: &str = "a write of ";

    /// Whether it is one.
    pub fn is_write(&self) -> bool {
        self.text.starts_with(TraceLine::WRITE)
    }
}

/// The JSON Schema of [`Record`], as `reports/record.schema.json` holds it.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Record).into()
}
