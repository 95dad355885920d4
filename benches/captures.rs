//! Captures of 1 GiB, made by repeating a small one under other addresses, read by `inspect` and by tshark: time and memory.
//!
//! `cargo bench --bench captures [-- MEBIBYTES]` prints a table for each; the file is made in the system's temporary folder and removed.
#![allow(clippy::print_stdout, missing_docs, reason = "a program of its own")]

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Ethernet captures on loopback, in microseconds and little endian: a publish of four seconds, and three short sessions.
const SOURCES: [(&str, u64); 2] =
    [("captures/loc-gst-rtmp2sink-publish.pcap", 1), ("captures/drv-port-reuse-three-sessions.pcap", 3)];

fn main() -> std::io::Result<()> {
    let mebibytes = std::env::args().filter_map(|a| a.parse::<u64>().ok()).next().unwrap_or(1024);
    let file = std::env::temp_dir().join(format!("rtmp-bench-{}.pcap", std::process::id()));
    SOURCES.iter().try_for_each(|(source, sessions)| table(source, *sessions, &file, mebibytes << 20))?;
    std::fs::remove_file(file)
}

fn table(source: &str, sessions: u64, file: &Path, bytes: u64) -> std::io::Result<()> {
    let sessions = sessions * repeat(Path::new(source), file, bytes)?;
    let bytes = file.metadata()?.len();
    println!("{bytes} bytes, {sessions} sessions, repeated from {source}\n");
    println!("| program | seconds | of which computing | MiB/s | peak memory, MiB |\n|---|---|---|---|---|");
    let ours = Path::new(env!("CARGO_BIN_EXE_rtmp-bench"));
    let path = file.as_os_str().to_string_lossy().into_owned();
    row("rtmp-bench inspect", ours, &["inspect", &path], bytes)?;
    row("rtmp-bench inspect -o json", ours, &["inspect", &path, "-o", "json"], bytes)?;
    row("tshark -q -z conv,tcp", Path::new("tshark"), &["-r", &path, "-q", "-z", "conv,tcp"], bytes)?;
    let port = "tcp.port==19399,rtmpt";
    row("tshark -Y rtmpt", Path::new("tshark"), &["-r", &path, "-d", port, "-Y", "rtmpt"], bytes)?;
    println!();
    Ok(())
}

/// Writes the packets again and again, each time between two other addresses.
fn repeat(from: &Path, to: &Path, bytes: u64) -> std::io::Result<u64> {
    let source = std::fs::read(from)?;
    let (header, packets) = source.split_at(24);
    let mut out = BufWriter::new(File::create(to)?);
    out.write_all(header)?;
    let mut written = 24;
    let mut n = 0u64;
    while written < bytes {
        let mut copy = packets.to_vec();
        let mut at = 0;
        while at + 16 + 34 <= copy.len() {
            let len = u32::from_le_bytes([copy[at + 8], copy[at + 9], copy[at + 10], copy[at + 11]]) as usize;
            // Behind 16 bytes of record header and 14 of Ethernet: the addresses of IPv4, 127.0.0.1 both.
            for place in [at + 16 + 14 + 12, at + 16 + 14 + 16] {
                copy[place + 1..place + 4].copy_from_slice(&(n as u32).to_be_bytes()[1..]);
            }
            at += 16 + len;
        }
        out.write_all(&copy)?;
        written += copy.len() as u64;
        n += 1;
    }
    out.flush()?;
    Ok(n)
}

fn row(name: &str, program: &Path, args: &[&str], bytes: u64) -> std::io::Result<()> {
    let Ok(Cost { time, computing, memory }) = measure(program, args) else {
        println!("| `{name}` | not there | | | |");
        return Ok(());
    };
    let rate = bytes as f64 / f64::from(1 << 20) / time.as_secs_f64();
    println!("| `{name}` | {:.2} | {computing:.2} | {rate:.0} | {} |", time.as_secs_f64(), memory >> 10);
    Ok(())
}

struct Cost {
    time: Duration,
    /// Seconds of processor time, which other programs on the machine change little.
    computing: f64,
    /// The most memory it had, in KiB.
    memory: u64,
}

/// As far as it was seen by looking each 10 ms.
fn measure(program: &Path, args: &[&str]) -> std::io::Result<Cost> {
    let start = Instant::now();
    let mut child = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let stat = format!("/proc/{}/stat", child.id());
    let (mut peak, mut ticks) = (0, 0);
    while child.try_wait()?.is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let high =
            text.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        peak = peak.max(high.unwrap_or(0));
        // Behind the name in brackets: the 12th and 13th field are user and system time, in hundredths of a second.
        let text = std::fs::read_to_string(&stat).unwrap_or_default();
        let fields = text.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
        ticks = ticks.max(fields.filter_map(|f| f.parse::<u64>().ok()).sum());
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(Cost { time: start.elapsed(), computing: ticks as f64 / 100.0, memory: peak })
}
