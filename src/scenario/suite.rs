//! The suite: which cases run, in which order and how many at once.

use std::sync::Arc;
use std::time::Duration;

use crate::net::conn::Dial;
use crate::record::{Case, Fingerprint};

/// Which cases are wanted.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Globs over ids and clauses, `FILE.scn` or folders; empty: everything built in.
    pub patterns: Vec<String>,
    /// Only rows of at least this severity.
    pub severity: Option<String>,
    /// The slow ones too.
    pub slow: bool,
}

/// Against what, and how.
pub struct Settings {
    /// The application in connect.
    pub app: String,
    /// The URL in connect.
    pub tc_url: String,
    /// What every stream name begins with.
    pub prefix: String,
    /// The target's process, for memory.
    pub pid: Option<u32>,
    /// Facts that the user states, as in `needs`; they win over what calibration finds.
    pub profile: Vec<String>,
    /// Cases at once.
    pub jobs: usize,
    /// Stop at the first case that is found.
    pub fail_fast: bool,
    /// For everything.
    pub max_time: Duration,
    /// All kinds of waits are multiplied by it.
    pub timeout_scale: f64,
    /// What every random choice is drawn from.
    pub seed: u64,
    /// The command that runs one case again, with `{}` for its id.
    pub repeat: String,
}

/// One case with what passed, for writers of captures.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What goes into the record.
    pub case: Case,
    /// What passed on its connections, where the case is a finding.
    pub wire: Vec<Segment>,
}

/// Bytes that passed in one read or write.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Microseconds since the case began.
    pub at_us: u64,
    /// The connection, counted from 0 within the case.
    pub conn: u32,
    /// Whether we sent it.
    pub sent: bool,
    /// The bytes.
    pub bytes: bytes::Bytes,
}

/// What a run of the suite gave.
#[derive(Debug)]
pub struct Report {
    /// What the target is like.
    pub fingerprint: Fingerprint,
    /// By id.
    pub outcomes: Vec<Outcome>,
    /// Whether the time was up before all had run.
    pub out_of_time: bool,
}

/// Calibrates and runs what is selected; each result is told as it comes, in any order.
///
/// # Errors
/// When the target gives no connection, or not one byte of S0: why.
pub async fn run(
    suite: &Suite,
    settings: &Settings,
    dial: Arc<dyn Dial>,
    on_result: &mut (dyn FnMut(&Outcome) + Send),
) -> Result<Report, String> {
    let _ = (suite, settings, dial, on_result);
    panic!("skeleton")
}

/// The cases that were selected, by id.
#[derive(Debug)]
pub struct Suite {}

/// One line of `--list`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Listed {
    /// As in the record.
    pub id: String,
    /// Rows of `clauses.tsv`.
    pub clause: Vec<String>,
    /// The level of the first.
    pub level: String,
    /// What the scenario says.
    pub title: String,
}

impl Suite {
    /// Reads and checks what is selected.
    ///
    /// # Errors
    /// All mistakes in the files, as text with their places; or that nothing is selected.
    pub fn select(selection: &Selection) -> Result<Suite, String> {
        let _ = selection;
        panic!("skeleton")
    }

    /// What would run.
    pub fn list(&self) -> Vec<Listed> {
        Vec::new()
    }
}
