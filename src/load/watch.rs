//! Processor time and memory: ours, the machine's, the watched process's.

use std::fs;
use std::time::Instant;

use nix::time::ClockId;

use super::clock_ns;
use crate::record::load;

/// What `/proc` says now.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    own_ns: u64,
    /// Busy and all, in ticks.
    machine: Option<(u64, u64)>,
    /// In ticks.
    watched: Option<u64>,
}

/// Looks each second.
#[derive(Debug)]
pub struct Watch {
    pid: Option<u32>,
    first: Sample,
    last: Sample,
    /// When the watched process was there last.
    seen: Sample,
    rss_bytes: Option<u64>,
}

/// The kernel counts processor time of processes in hundredths of a second towards user space.
const TICKS_PER_S: f64 = 100.0;
/// Over less than so many nanoseconds a share of processor time says nothing.
const MEANINGFUL_NS: u128 = 100_000_000;

impl Watch {
    /// Begins now.
    pub fn new(pid: Option<u32>) -> Watch {
        let first = sample(pid);
        Watch { pid, first, last: first, seen: first, rss_bytes: None }
    }

    /// Puts what was taken since the last call, and the memory that is held now, into a row.
    pub fn second(&mut self, row: &mut load::Interval) {
        let now = sample(self.pid);
        let last = std::mem::replace(&mut self.last, now);
        if now.watched.is_some() {
            self.seen = now;
        }
        (row.cpu_pct, row.machine_pct) = between(&last, &now);
        row.rss_bytes = rss(std::process::id());
        row.watched_cpu_pct = watched_between(&last, &now);
        row.watched_rss_bytes = self.pid.and_then(|pid| sum(&family(pid), rss));
        self.rss_bytes = self.rss_bytes.max(row.watched_rss_bytes);
    }

    /// The same since the beginning.
    pub fn whole(&self) -> (Option<f64>, Option<f64>) {
        between(&self.first, &self.last)
    }

    /// What the watched process took while it was there.
    pub fn watched(&self) -> Option<load::Watched> {
        let pid = self.pid?;
        let cpu_pct = watched_between(&self.first, &self.seen);
        Some(load::Watched { pid, cpu_pct, rss_bytes: self.rss_bytes })
    }
}

fn sample(pid: Option<u32>) -> Sample {
    Sample {
        at: Instant::now(),
        own_ns: clock_ns(ClockId::CLOCK_PROCESS_CPUTIME_ID),
        machine: machine(),
        watched: pid.and_then(|pid| sum(&family(pid), ticks)),
    }
}

fn between(from: &Sample, to: &Sample) -> (Option<f64>, Option<f64>) {
    let ns = (to.at - from.at).as_nanos();
    if ns < MEANINGFUL_NS {
        return (None, None);
    }
    let own = Some(to.own_ns.saturating_sub(from.own_ns) as f64 / ns as f64 * 100.0);
    let machine = from.machine.zip(to.machine).and_then(|(from, to)| {
        let all = to.1.checked_sub(from.1).filter(|all| *all > 0)?;
        Some(to.0.saturating_sub(from.0) as f64 / all as f64 * 100.0)
    });
    (own, machine)
}

/// Per cent of a core.
fn watched_between(from: &Sample, to: &Sample) -> Option<f64> {
    let time = (to.at - from.at).as_secs_f64();
    let ticks = from.watched.zip(to.watched).map(|(from, to)| to.saturating_sub(from));
    ticks
        .filter(|_| time * 1e9 >= MEANINGFUL_NS as f64)
        .map(|ticks| ticks as f64 / TICKS_PER_S / time * 100.0)
}

fn machine() -> Option<(u64, u64)> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let words = text.lines().next()?.split_whitespace().skip(1).take(8);
    let ticks = words.map(|word| word.parse().ok()).collect::<Option<Vec<u64>>>()?;
    let all: u64 = ticks.iter().sum();
    // user nice system idle iowait irq softirq steal
    Some((all - ticks.get(3)? - ticks.get(4)?, all))
}

/// A process and all that it started and that is still there.
fn family(pid: u32) -> Vec<u32> {
    let mut family = vec![pid];
    let mut at = 0;
    while let Some(parent) = family.get(at).copied() {
        at += 1;
        let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten();
        for task in tasks.filter_map(Result::ok) {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let pids = children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok());
            let new: Vec<u32> = pids.filter(|pid| !family.contains(pid)).collect();
            family.extend(new);
        }
    }
    family
}

/// Absent where the first, which started the others, has gone.
fn sum(family: &[u32], of: impl Fn(u32) -> Option<u64>) -> Option<u64> {
    let (first, rest) = family.split_first()?;
    Some(of(*first)? + rest.iter().filter_map(|pid| of(*pid)).sum::<u64>())
}

/// Processor time of itself and of children that it has buried: the words of `/proc/PID/stat` behind the name, which may hold spaces.
fn ticks(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut words = text[text.rfind(')')? + 1..].split_whitespace().skip(11);
    let mut next = || words.next()?.parse::<u64>().ok();
    Some(next()? + next()? + next()? + next()?)
}

fn rss(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_a_process_took_is_known_when_it_has_gone() {
        let mut process = Command::new("sleep").arg("60").spawn().expect("it starts");
        let mut watch = Watch::new(Some(process.id()));
        let mut second = || {
            // As if it had looked so long ago.
            watch.first.at -= Duration::from_nanos(MEANINGFUL_NS as u64);
            watch.last.at -= Duration::from_nanos(MEANINGFUL_NS as u64);
            let mut row = load::Interval::default();
            watch.second(&mut row);
            row.watched_cpu_pct
        };
        assert!(second().is_some());
        process.kill().and_then(|()| process.wait()).expect("it ends");
        assert_eq!(second(), None);
        assert!(watch.watched().is_some_and(|watched| watched.cpu_pct.is_some()));
    }
}
