//! A command of the user that is the target: started by us, watched, and ended with the run whatever ends it.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::timeout;

/// How long it may take to end when asked.
const GRACE: Duration = Duration::from_secs(3);
/// How long the last lines may take to come.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Lines of its output that are kept: the last.
const LINES: usize = 20;
/// Bytes of a line that are kept.
const LINE_LEN: u64 = 1000;

/// A command that runs, in a process group of its own: ^C at the terminal is ours alone.
#[derive(Debug)]
pub struct Spawned {
    child: Child,
    pid: u32,
    /// The first of the group, there before the command and behind it, so that the group's number is nobody else's.
    guard: Child,
    group: Pid,
    output: Arc<Output>,
}

#[derive(Debug, Default)]
struct Output {
    lines: Mutex<VecDeque<String>>,
    /// Nobody can write any more: all of the group are gone.
    ended: watch::Sender<bool>,
}

impl Spawned {
    /// Starts it by `sh -c`. What it writes is kept, the last lines of it; it reads nothing.
    ///
    /// # Errors
    /// When there is no shell or no process.
    pub fn start(command: &str) -> io::Result<Spawned> {
        let (reader, writer) = io::pipe()?;
        let (guard, group) = guard()?;
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).process_group(group.as_raw()).kill_on_drop(true).stdin(Stdio::null());
        shell.stdout(writer.try_clone()?).stderr(writer);
        let child = shell.spawn()?;
        // The ends of the pipe that the command holds are to be the only ones.
        drop(shell);
        let pid = child.id().ok_or_else(|| io::Error::other("it has no process"))?;
        let spawned = Spawned { child, pid, guard, group, output: Arc::default() };
        let output = spawned.output.clone();
        std::thread::Builder::new().name("output of the target".into()).spawn(move || output.read(reader))?;
        Ok(spawned)
    }

    /// The shell's process, often the command's own.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Ready when it has ended by itself.
    pub async fn died(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(e) => e.to_string(),
        }
    }

    /// How it ended by itself, where it has.
    pub fn death(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(status) => status.map(|status| status.to_string()),
            Err(e) => Some(e.to_string()),
        }
    }

    /// The last lines it wrote, to stdout and stderr alike; of one that has ended the very last.
    pub async fn last_lines(&mut self) -> Vec<String> {
        if !matches!(self.child.try_wait(), Ok(None)) {
            self.output.ended().await;
        }
        self.output.lines.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Ends it and all that it started: asked first, killed when it takes too long.
    pub async fn end(mut self) {
        self.signal(Signal::SIGTERM);
        let _ = timeout(GRACE, self.child.wait()).await;
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait().await;
        let _ = self.guard.wait().await;
        self.output.ended().await;
    }

    fn signal(&self, signal: Signal) {
        // A group that is gone needs none.
        let _ = killpg(self.group, signal);
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        // Once the guard is buried the number may be somebody else's.
        if self.guard.id().is_some() {
            self.signal(Signal::SIGKILL);
        }
    }
}

/// A shell that reads a pipe of ours until its end and then kills its group: nothing of ours runs when we are killed or exit in haste.
fn guard() -> io::Result<(Child, Pid)> {
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' TERM INT HUP; read -r _; kill -s KILL 0"]).process_group(0).kill_on_drop(true);
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let guard = shell.spawn()?;
    let group = guard.id().and_then(|pid| i32::try_from(pid).ok());
    Ok((guard, Pid::from_raw(group.ok_or_else(|| io::Error::other("it has no process"))?)))
}

impl Output {
    /// Keeps the last lines until nobody can write any more.
    fn read(&self, from: impl Read) {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        loop {
            line.clear();
            match (&mut from).take(LINE_LEN).read_until(b'\n', &mut line) {
                Ok(1..) => self.keep(String::from_utf8_lossy(&line).trim_end()),
                _ => break,
            }
        }
        self.ended.send_replace(true);
    }

    async fn ended(&self) {
        let _ = timeout(LAST_WORDS, self.ended.subscribe().wait_for(|ended| *ended)).await;
    }

    fn keep(&self, line: &str) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The processes of a group, by /proc.
    fn members(group: Pid) -> Vec<u32> {
        let pids =
            std::fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
        let of_group = |pid: &u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let mut words = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ');
            let (state, _, pgrp) = (words.next(), words.next(), words.next());
            state != Some("Z") && pgrp == Some(&group.to_string())
        };
        pids.filter(of_group).collect()
    }

    #[tokio::test]
    async fn all_that_it_started_ends_with_it() {
        // One that ends when asked, and one whose child is deaf to it.
        for command in
            ["sleep 600 & sleep 600", "sh -c 'trap \"\" TERM; sleep 600; sleep 600' & exec sleep 600"]
        {
            let spawned = Spawned::start(command).expect("a shell");
            let group = spawned.group;
            while members(group).len() < 3 {
                tokio::task::yield_now().await;
            }
            spawned.end().await;
            while !members(group).is_empty() {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn one_that_is_dropped_is_killed() {
        let spawned = Spawned::start("sleep 600; sleep 600").expect("a shell");
        let group = spawned.group;
        drop(spawned);
        while !members(group).is_empty() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_death_has_a_status_and_last_lines() {
        let command =
            "i=0; while [ $i -lt 100 ]; do echo line $i; i=$((i+1)); done; echo gone >&2; kill -SEGV $$";
        let mut spawned = Spawned::start(command).expect("a shell");
        let how = spawned.died().await;
        assert!(how.contains("signal: 11"), "{how}");
        let lines = spawned.last_lines().await;
        assert_eq!((lines.len(), lines[0].as_str(), lines[LINES - 1].as_str()), (LINES, "line 81", "gone"));
    }

    #[test]
    fn what_it_writes_is_kept_bounded() {
        let output = Output::default();
        output.read(&vec![b'x'; 100 * LINE_LEN as usize][..]);
        let lines = output.lines.lock().unwrap();
        assert!(lines.len() == LINES && lines.iter().all(|line| line.len() <= LINE_LEN as usize));
    }
}
