//! What every record has, whatever the verb.

use std::fs;
use std::time::{Instant, SystemTime};

use crate::capture::secrets::{self, Place};
use crate::net::target::{self, Target};
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

/// What takes a stream's name or an app, either of which may hold a key or a query.
const NAMED: [&str; 2] = ["--name", "--app"];
/// What takes a stream's name in place of the target's, and hides it as that does.
const PLAYED: &str = "--play";

/// The arguments behind the verb; secrets in URLs, names and other texts are masked unless they are to be shown, those of the target
/// wherever they stand.
pub fn arguments(show_secrets: bool, target: Option<&Target>) -> Vec<String> {
    let arguments = std::env::args().skip(2);
    if show_secrets { arguments.collect() } else { masked(arguments, target) }
}

fn masked(arguments: impl Iterator<Item = String>, target: Option<&Target>) -> Vec<String> {
    let mut before = String::new();
    let one = |argument: String| {
        let (flag, value) = match argument.split_once('=').filter(|_| argument.starts_with("--")) {
            Some((flag, value)) => (Some(flag), value),
            None => (None, argument.as_str()),
        };
        let of = flag.unwrap_or(&before);
        let shown = match value.parse::<Target>() {
            _ if of == PLAYED => target::masked_name(value),
            Ok(target) if value.contains("://") => target.display(false),
            _ => secrets::shown(value, if NAMED.contains(&of) { Place::Name } else { Place::Other }),
        };
        let shown = flag.map_or_else(|| shown.clone(), |flag| format!("{flag}={shown}"));
        before = argument;
        target.map_or_else(|| shown.clone(), |target| target.mask(&shown))
    };
    arguments.map(one).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_arguments_are_masked() {
        for (given, shown) in [
            ("--name=cam?token=SECRET99x", "--name=cam?token=***"),
            ("--name cam?token=SECRET99x", "--name cam?token=***"),
            ("--name=live_SECRET99xabcd123", "--name=***"),
            ("--play SECRET99x --players 2", "--play *** --players 2"),
            ("--play=SECRET99x{i}?token=SECRET99x", "--play=***?token=***"),
            ("--app live?k=SECRET99x --verify", "--app live?k=*** --verify"),
            ("--app=live --name cam{i} --verify", "--app=live --name cam{i} --verify"),
            (
                "x.pcap rtmp://host/live/SECRET99x?e=1 --pace=asap",
                "x.pcap rtmp://host:1935/live/***?e=*** --pace=asap",
            ),
            ("--broker=redis://user:SECRET99x@host", "--broker=redis://user:***@host"),
            ("-s relay/audio-and-video-1 --seed 7", "-s relay/audio-and-video-1 --seed 7"),
        ] {
            let arguments = given.split(' ').map(str::to_owned);
            assert_eq!(masked(arguments, None).join(" "), shown, "{given}");
        }
        let target = "rtmp://h/live/SECRET99x".parse().expect("a target");
        let spawn = ["--spawn".into(), "send rtmp://h/live?token=SECRET99x SECRET99x-0".into()];
        assert_eq!(masked(spawn.into_iter(), Some(&target))[1], "send rtmp://h/live?token=*** ***-0");
    }
}
