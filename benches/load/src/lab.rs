//! Processes side by side: started, pinned to a core each, asked and measured.

use std::fs;
use std::io::{self, BufRead, BufReader, Lines, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use serde_json::Value;

/// Busier than this the machine starves somebody, and what it starves looks cheap.
const MAX_BUSY: f64 = 0.95;
/// What a generator may take to have all sessions up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where everything runs.
pub struct Lab {
    /// `rtmp-bench`.
    pub tool: PathBuf,
    /// This program.
    pub me: PathBuf,
    pub server_core: String,
    pub generator_core: String,
    pub window: Duration,
}

/// A process of ours; it ends with this value.
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

/// What a generator did while it was watched.
#[derive(Debug, Clone)]
pub struct Window {
    pub cpu_s_per_gb: f64,
    /// Of one core.
    pub cpu: f64,
    pub stub_cpu_s_per_gb: f64,
    /// The same of the stub.
    pub stub_cpu: f64,
    pub bytes_per_s: f64,
    /// What the stub measured.
    pub report: Value,
    /// Why it does not count.
    pub void: Option<&'static str>,
}

/// Which way the media go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    ToPlayers,
    FromPublishers,
}

impl Lab {
    /// A stub, and the address it listens at.
    pub fn stub(&self, args: &str) -> io::Result<(Process, String)> {
        let mut stub = Process::start(&self.server_core, &self.me, &format!("stub {args}"), true)?;
        let port = stub.line()?["port"].as_u64().unwrap_or(0);
        Ok((stub, format!("127.0.0.1:{port}")))
    }

    pub fn floor(&self, address: &str, args: &str) -> io::Result<Process> {
        Process::start(&self.generator_core, &self.me, &format!("floor {address} {args}"), true)
    }

    /// `rtmp-bench load` against the streams called `s`.
    pub fn load(&self, address: &str, args: &str) -> io::Result<Process> {
        Process::start(
            &self.generator_core,
            &self.tool,
            &format!("load rtmp://{address}/live/s {args}"),
            false,
        )
    }

    /// Waits until so many sessions are there, lets them settle, and measures.
    pub fn watch(&self, stub: &mut Process, generator: &Process, n: u64, way: Way) -> io::Result<Window> {
        let (sessions, bytes) = match way {
            Way::ToPlayers => ("plays", "bytes_out"),
            Way::FromPublishers => ("publishes", "bytes_in"),
        };
        stub.wait_for(sessions, n)?;
        sleep(self.window / 2);
        let (before, cpu, stub_cpu, busy) = (stub.ask()?, generator.cpu()?, stub.cpu()?, Busy::now());
        let begin = Instant::now();
        sleep(self.window);
        let (after, cpu) = (stub.ask()?, generator.cpu()? - cpu);
        let (stub_cpu, busy, time) = (stub.cpu()? - stub_cpu, busy.since(), begin.elapsed().as_secs_f64());
        let moved = number(&after, bytes) - number(&before, bytes);
        let void = match () {
            () if busy > MAX_BUSY && !comes_first() => Some("the machine was over 95 % busy"),
            () if number(&after, "pending") > moved / 100.0 => Some("the generator did not keep up"),
            () if moved == 0.0 => Some("nothing moved"),
            () => None,
        };
        Ok(Window {
            cpu_s_per_gb: cpu / moved * 1e9,
            cpu: cpu / time,
            stub_cpu_s_per_gb: stub_cpu / moved * 1e9,
            stub_cpu: stub_cpu / time,
            bytes_per_s: moved / time,
            report: after,
            void,
        })
    }
}

pub fn number(value: &Value, name: &str) -> f64 {
    value[name].as_f64().unwrap_or(0.0)
}

impl Process {
    /// Starts a program on these cores; one that listens to its standard input ends with it.
    pub fn start(core: &str, program: &PathBuf, args: &str, listens: bool) -> io::Result<Process> {
        let mut command = Command::new("taskset");
        command.args(["-c", core]).arg(program).args(args.split_whitespace()).stdout(Stdio::piped());
        command.stdin(if listens { Stdio::piped() } else { Stdio::null() });
        // Players that are cut off in the middle complain.
        command.stderr(if listens { Stdio::inherit() } else { Stdio::null() });
        let mut child = command.spawn()?;
        let lines = child.stdout.take().map(|out| BufReader::new(out).lines()).expect("it is piped");
        Ok(Process { stdin: child.stdin.take(), child, lines })
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// The next line it prints.
    pub fn line(&mut self) -> io::Result<Value> {
        let line = self.lines.next().ok_or_else(|| io::Error::other("a process ended early"))??;
        Ok(serde_json::from_str(&line)?)
    }

    /// What it says when asked.
    pub fn ask(&mut self) -> io::Result<Value> {
        if let Some(stdin) = &mut self.stdin {
            stdin.write_all(b"\n")?;
        }
        self.line()
    }

    /// Asks until this count is reached.
    pub fn wait_for(&mut self, name: &str, n: u64) -> io::Result<()> {
        let begin = Instant::now();
        while number(&self.ask()?, name) < n as f64 {
            if begin.elapsed() > PATIENCE {
                return Err(io::Error::other(format!("not {n} {name} within {PATIENCE:?}")));
            }
            sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Seconds of processor time so far, of all its threads.
    pub fn cpu(&self) -> io::Result<f64> {
        let time = clock_getcpuclockid(self.pid())?.now()?;
        Ok(Duration::from(time).as_secs_f64())
    }

    /// Resident memory in KiB.
    pub fn resident(&self) -> io::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().split(' ').next()?.parse().ok());
        kib.ok_or_else(|| io::Error::other("no VmRSS"))
    }

    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill(self.pid(), signal)?)
    }

    /// Waits for its end; all that it still prints.
    pub fn finish(mut self) -> io::Result<String> {
        self.stdin = None;
        let lines: io::Result<Vec<_>> = self.lines.by_ref().collect();
        self.child.wait()?;
        Ok(lines?.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether we, and all that we start, come before what else runs on the machine: real-time priority, as `chrt -f 1` gives it.
fn comes_first() -> bool {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // proc(5): the policy is field 41; the second may hold blanks and ends with the last parenthesis.
    let policy = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(38));
    matches!(policy, Some("1" | "2"))
}

/// The machine's ticks: all, and those in which a core did nothing.
pub struct Busy(f64, f64);

impl Busy {
    pub fn now() -> Busy {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let ticks = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
        let ticks: Vec<f64> = ticks.filter_map(|n| n.parse().ok()).collect();
        Busy(ticks.iter().take(8).sum(), ticks.iter().skip(3).take(2).sum())
    }

    /// The share of busy ones since then.
    pub fn since(&self) -> f64 {
        let Busy(all, idle) = Busy::now();
        1.0 - (idle - self.1) / (all - self.0).max(1.0)
    }
}
