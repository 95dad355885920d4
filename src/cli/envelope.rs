//! What every record has, whatever the verb.

use std::fs;
use std::time::{Instant, SystemTime};

use crate::record::{Host, Outcome, Record, SCHEMA, Tool};

/// A run that has begun.
#[derive(Debug)]
pub struct Envelope {
    verb: &'static str,
    started: Instant,
    started_at: SystemTime,
}

impl Envelope {
    /// Begins a run of this verb.
    pub fn begin(verb: &'static str) -> Envelope {
        Envelope { verb, started: Instant::now(), started_at: SystemTime::now() }
    }

    /// The record of the run, without what the verb found.
    pub fn end(&self, outcome: Outcome, args: Vec<String>) -> Record {
        Record {
            schema: SCHEMA.into(),
            tool: Tool::default(),
            verb: self.verb.into(),
            args,
            started_at: humantime::format_rfc3339_millis(self.started_at).to_string(),
            duration_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            host: host(),
            seed: None,
            target: None,
            outcome,
            why: None,
            test: None,
            inspect: None,
            load: None,
            replay: None,
        }
    }
}

/// The arguments behind the verb, with the secrets in URLs masked.
pub fn arguments(mask: impl Fn(&str) -> String) -> Vec<String> {
    std::env::args().skip(2).map(|arg| mask(&arg)).collect()
}

/// The machine as it is now.
pub fn host() -> Host {
    Host {
        cores: std::thread::available_parallelism().ok().and_then(|n| u32::try_from(n.get()).ok()),
        memory_bytes: field("/proc/meminfo", "MemTotal:", 1).map(|kib: u64| kib * 1024),
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease").ok().map(|s| s.trim().to_owned()),
        fd_limit: field("/proc/self/limits", "Max open files", 3),
    }
}

/// The number at this place among the words of the line that begins so.
fn field(file: &str, begins: &str, place: usize) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find(|l| l.starts_with(begins))?.split_whitespace().nth(place)?.parse().ok()
}
