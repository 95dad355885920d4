//! The rows of the table: each measures one promise.

use std::io;
use std::thread::sleep;
use std::time::Duration;

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use serde_json::Value;

use crate::lab::{Lab, Process, Way, Window, number};

/// What a round of a row came to.
#[derive(Debug, Clone)]
pub struct Round {
    pub ours: f64,
    /// What it is held against.
    pub against: f64,
    pub void: Option<String>,
    pub remark: String,
}

/// A promise.
pub struct Row {
    pub name: &'static str,
    pub what: &'static str,
    pub unit: &'static str,
    pub judged: Judged,
    pub must: f64,
    pub goal: f64,
    pub round: fn(&Lab, u64) -> io::Result<Round>,
    /// Sessions, and in the quick mode.
    pub n: (u64, u64),
}

/// Which number must not be above `must`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    /// Ours in terms of what it is held against.
    Ratio,
    Ours,
    /// How far ours is off, in its unit.
    Difference,
    /// How far ours is off, in per cent.
    PerCent,
}

use Judged::{Difference, Ours, PerCent, Ratio};

#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    Row { name: "player", what: "player, precise, latency on, 1 Mbit/s", unit: "CPU-s/GB", judged: Ratio, must: 1.4, goal: 1.2, round: player, n: (1000, 300) },
    Row { name: "player-play", what: "the same, a stream that others publish", unit: "CPU-s/GB", judged: Ratio, must: 1.4, goal: 1.2, round: player_play, n: (1000, 300) },
    Row { name: "tick", what: "player, `--tick 100ms`", unit: "CPU-s/GB", judged: Ratio, must: 1.5, goal: 1.25, round: tick, n: (1000, 300) },
    Row { name: "publisher", what: "publisher, every frame on time, 315 kbit/s", unit: "CPU-s/GB", judged: Ratio, must: 1.25, goal: 1.1, round: publisher, n: (1000, 300) },
    Row { name: "burst", what: "publisher, `--burst 300ms`, 315 kbit/s", unit: "CPU-s/GB", judged: Ratio, must: 1.78, goal: 1.25, round: burst, n: (1000, 300) },
    Row { name: "memory-player", what: "resident memory of a player", unit: "KiB", judged: Ours, must: 4.0, goal: 1.5, round: memory_player, n: (4000, 1000) },
    Row { name: "memory-publisher", what: "resident memory of a publisher", unit: "KiB", judged: Ours, must: 4.0, goal: 1.5, round: memory_publisher, n: (4000, 1000) },
    Row { name: "ramp", what: "from nothing to all players", unit: "ms", judged: Ratio, must: 1.5, goal: 1.0, round: ramp, n: (4000, 1000) },
    Row { name: "rate", what: "`--rate`, sessions a second", unit: "/s", judged: PerCent, must: 2.0, goal: 2.0, round: rate, n: (2000, 500) },
    Row { name: "lateness", what: "own lateness p99 of publishers at no more than 70 % of a core", unit: "ms", judged: Ours, must: 2.0, goal: 1.0, round: lateness, n: (1000, 300) },
    Row { name: "lateness-player", what: "own lateness p99 of players at no more than 70 % of a core", unit: "ms", judged: Ours, must: 2.0, goal: 1.0, round: lateness_player, n: (1000, 300) },
    Row { name: "latency", what: "reported `frame` p99", unit: "ms", judged: Difference, must: 0.5, goal: 0.1, round: latency, n: (1000, 100) },
    Row { name: "latency-raw", what: "reported `frame_raw` p99", unit: "ms", judged: Difference, must: 0.5, goal: 0.1, round: latency_raw, n: (1000, 100) },
    Row { name: "stop", what: "share of frames at least 1 s late, 2 s stop", unit: "%", judged: PerCent, must: 1.0, goal: 1.0, round: stop, n: (10, 10) },
];

/// Until it is ended.
const HOLD: &str = "--ramp 1s --rate 100000 --hold 120s";
/// Gently: what many handshakes at once take leaves holes that are no session's.
const GENTLE: &str = "--ramp 8s --rate 100000 --hold 120s";

fn player(lab: &Lab, n: u64) -> io::Result<Round> {
    let floor = floor_player(lab, n, 0)?;
    let (mut stub, address) = lab.stub("--relay")?;
    let ours = lab.load(&address, &format!("--publishers 1 --players {n} {HOLD}"))?;
    Ok(compare(lab.watch(&mut stub, &ours, n, Way::ToPlayers)?, floor))
}

fn player_play(lab: &Lab, n: u64) -> io::Result<Round> {
    let floor = floor_player(lab, n, 0)?;
    let (mut stub, address) = lab.stub("")?;
    let ours = lab.load(&address, &format!("--publishers 0 --play s --players {n} {HOLD}"))?;
    Ok(compare(lab.watch(&mut stub, &ours, n, Way::ToPlayers)?, floor))
}

fn tick(lab: &Lab, n: u64) -> io::Result<Round> {
    let floor = floor_player(lab, n, 100)?;
    let (mut stub, address) = lab.stub("--relay")?;
    let ours = lab.load(&address, &format!("--publishers 1 --players {n} --tick 100ms {HOLD}"))?;
    Ok(compare(lab.watch(&mut stub, &ours, n, Way::ToPlayers)?, floor))
}

fn floor_player(lab: &Lab, n: u64, tick: u64) -> io::Result<Window> {
    let (mut stub, address) = lab.stub("")?;
    let floor = lab.floor(&address, &format!("--n {n} --tick {tick}"))?;
    lab.watch(&mut stub, &floor, n, Way::ToPlayers)
}

fn publisher(lab: &Lab, n: u64) -> io::Result<Round> {
    publishers(lab, n, "", "")
}

fn burst(lab: &Lab, n: u64) -> io::Result<Round> {
    publishers(lab, n, "--burst 300", "--burst 300ms")
}

fn publishers(lab: &Lab, n: u64, floor: &str, ours: &str) -> io::Result<Round> {
    let floor = {
        let (mut stub, address) = lab.stub("--quiet")?;
        let floor = lab.floor(&address, &format!("--n {n} --publish --bitrate 315000 --fps 25 {floor}"))?;
        lab.watch(&mut stub, &floor, n, Way::FromPublishers)?
    };
    let (mut stub, address) = lab.stub("--quiet")?;
    let args = format!("--publishers {n} --players 0 --bitrate 315k --fps 25 {ours} {HOLD}");
    let ours = lab.load(&address, &args)?;
    Ok(compare(lab.watch(&mut stub, &ours, n, Way::FromPublishers)?, floor))
}

fn compare(ours: Window, floor: Window) -> Round {
    // Of the same work: what was lost on the way makes the rest dearer or cheaper.
    let off = (ours.bytes_per_s / floor.bytes_per_s - 1.0).abs() > 0.03;
    let off = off.then_some("ours and the floor did not move the same");
    Round {
        ours: ours.cpu_s_per_gb,
        against: floor.cpu_s_per_gb,
        void: ours.void.or(floor.void).or(off).map(str::to_owned),
        remark: format!(
            "{:.0} and {:.0} % of a core, the stub {:.2} CPU-s/GB",
            ours.cpu * 100.0,
            floor.cpu * 100.0,
            ours.stub_cpu_s_per_gb
        ),
    }
}

/// A stream that hardly moves: what is measured is not traffic.
const SPARSE: &str = "--bitrate 60000 --fps 5 --silent";

fn memory_player(lab: &Lab, n: u64) -> io::Result<Round> {
    memory(lab, n, Way::ToPlayers, |n| format!("--publishers 0 --play s --players {n} {GENTLE}"))
}

fn memory_publisher(lab: &Lab, n: u64) -> io::Result<Round> {
    let args = |n| format!("--publishers {n} --players 0 --bitrate 60k --audio none --fps 5 {GENTLE}");
    memory(lab, n, Way::FromPublishers, args)
}

/// The difference between two numbers of sessions: what they share drops out.
fn memory(lab: &Lab, n: u64, way: Way, args: impl Fn(u64) -> String) -> io::Result<Round> {
    let few = n / 8;
    let resident = |n: u64| {
        let (mut stub, address) = lab.stub(if way == Way::ToPlayers { SPARSE } else { "--quiet" })?;
        let ours = lab.load(&address, &args(n))?;
        let window = lab.watch(&mut stub, &ours, n, way)?;
        Ok::<_, io::Error>((ours.resident()?, window.cpu))
    };
    let ((low, _), (high, cpu)) = (resident(few)?, resident(n)?);
    Ok(Round {
        ours: (high - low) / (n - few) as f64,
        against: f64::NAN,
        // What waits for a processor that is not there fills buffers.
        void: (cpu > 0.9).then(|| "a core was too little for it".into()),
        remark: format!("{low:.0} KiB at {few}, {high:.0} KiB at {n}"),
    })
}

fn ramp(lab: &Lab, n: u64) -> io::Result<Round> {
    let took = |stub: &mut Process| {
        stub.wait_for("plays", n)?;
        let counts = stub.ask()?;
        Ok::<_, io::Error>((number(&counts, "last_play_ns") - number(&counts, "first_accept_ns")) / 1e6)
    };
    let (floor, floor_cpu) = {
        let (mut stub, address) = lab.stub(SPARSE)?;
        let floor = lab.floor(&address, &format!("--n {n}"))?;
        (took(&mut stub)?, floor.cpu()?)
    };
    let (mut stub, address) = lab.stub(SPARSE)?;
    let args = format!("--publishers 0 --play s --players {n} --ramp 0s --rate 100000 --hold 60s");
    let load = lab.load(&address, &args)?;
    let ours = took(&mut stub)?;
    let remark = format!("{:.2} and {floor_cpu:.2} CPU-s by then", load.cpu()?);
    Ok(Round { ours, against: floor, void: None, remark })
}

fn rate(lab: &Lab, n: u64) -> io::Result<Round> {
    let rate = n / 2;
    let (mut stub, address) = lab.stub(SPARSE)?;
    let args = format!("--publishers 0 --play s --players {n} --ramp 0s --rate {rate} --hold 60s");
    let _ours = lab.load(&address, &args)?;
    stub.wait_for("plays", n)?;
    let counts = stub.ask()?;
    let time = (number(&counts, "last_accept_ns") - number(&counts, "first_accept_ns")) / 1e9;
    Ok(Round { ours: (n - 1) as f64 / time, against: rate as f64, void: None, remark: String::new() })
}

/// Finds how many sessions take 65 % of a core, ours or the stub's, and how late they are then: whom a server that is full sends to is late by its doing.
fn late(lab: &Lab, n: u64, way: Way, args: fn(u64) -> String) -> io::Result<Round> {
    let cpu = {
        let (mut stub, address) = lab.stub("--relay")?;
        let ours = lab.load(&address, &format!("{} {HOLD}", args(n)))?;
        let Window { cpu, stub_cpu, .. } = lab.watch(&mut stub, &ours, n, way)?;
        cpu.max(stub_cpu)
    };
    let n = (n as f64 * 0.65 / cpu) as u64;
    let (mut stub, address) = lab.stub("--relay")?;
    let hold = format!("--ramp 2s --rate 100000 --hold {}s -o json", 8 + lab.window.as_secs() * 3 / 2);
    let ours = lab.load(&address, &format!("{} {hold}", args(n)))?;
    let window = lab.watch(&mut stub, &ours, n, way)?;
    let stub_saw = number(&window.report["arrival"], "p99_us") / 1e3;
    let record = record(ours)?;
    let busiest = window.cpu.max(window.stub_cpu);
    let off = !(0.5..=0.7).contains(&busiest);
    let off = off.then(|| format!("{:.0} % of a core is not what was wanted", busiest * 100.0));
    Ok(Round {
        ours: number(&record["load"]["generator"], "lag_p99_us") / 1e3,
        against: f64::NAN,
        void: window.void.map(str::to_owned).or(off),
        remark: format!(
            "{n} sessions, {:.0} % of a core and {:.0} % by the stub; frames reached it {stub_saw:.2} ms (p99) behind their time",
            window.cpu * 100.0,
            window.stub_cpu * 100.0
        ),
    })
}

fn lateness(lab: &Lab, n: u64) -> io::Result<Round> {
    late(lab, n, Way::FromPublishers, |n| format!("--publishers {n} --players 0 --bitrate 315k --fps 25"))
}

fn lateness_player(lab: &Lab, n: u64) -> io::Result<Round> {
    late(lab, n, Way::ToPlayers, |n| format!("--publishers 1 --players {n}"))
}

fn latency(lab: &Lab, n: u64) -> io::Result<Round> {
    reported(lab, n, "frame")
}

fn latency_raw(lab: &Lab, n: u64) -> io::Result<Round> {
    reported(lab, n, "frame_raw")
}

/// What the tool reports of a relay that is up to 40 ms slow, against what the relay knows.
fn reported(lab: &Lab, n: u64, name: &str) -> io::Result<Round> {
    let (mut stub, address) = lab.stub("--relay --delay 40")?;
    let hold = format!("--ramp 0s --rate 100000 --hold {}s -o json", 2 * lab.window.as_secs());
    let ours = lab.load(&address, &format!("--publishers 1 --players {n} {hold}"))?;
    let record = record(ours)?;
    let truth = stub.ask()?;
    let (ours, truth) = (&record["load"]["latency"][name], &truth[name]);
    let ms = |value: &Value, q: &str| number(value, q) / 1e3;
    Ok(Round {
        ours: ms(ours, "p99_us"),
        against: ms(truth, "p99_us"),
        void: (number(truth, "count") == 0.0).then(|| "the stub found no stamps".into()),
        remark: format!(
            "{} of {} frames; p50 {:.2} against {:.2}, max {:.2} against {:.2}",
            number(ours, "count"),
            number(truth, "count"),
            ms(ours, "p50_us"),
            ms(truth, "p50_us"),
            ms(ours, "max_us"),
            ms(truth, "max_us")
        ),
    })
}

/// The server stands still for two seconds. All that is planned then comes when they are over: what is planned in the first of them is
/// at least a second late by then, and nothing else is. Few players: what waited goes out within milliseconds.
fn stop(lab: &Lab, n: u64) -> io::Result<Round> {
    let (mut stub, address) = lab.stub("--relay")?;
    let ours = lab.load(
        &address,
        &format!("--publishers 1 --players {n} --ramp 0s --rate 100000 --hold 20s -o json"),
    )?;
    stub.wait_for("plays", n)?;
    sleep(Duration::from_secs(5));
    stub.signal(Signal::SIGSTOP)?;
    let from = monotonic();
    sleep(Duration::from_secs(2));
    let until = monotonic() - 1_000_000_000;
    stub.signal(Signal::SIGCONT)?;
    let record = record(ours)?;
    let truth = stub.ask()?;
    let planned: Vec<u64> =
        truth["planned_ns"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    let late = planned.iter().filter(|at| (from..=until).contains(at)).count();
    let share = |late: f64, all: f64| late / all * 100.0;
    let frame = &record["load"]["latency"]["frame"];
    let (count, ours) = (number(frame, "count"), late_ones(frame)?);
    let stub_share = share(number(&truth["frame"], "second_late"), number(&truth["frame"], "count"));
    Ok(Round {
        ours: share(ours, count),
        against: share(late as f64, planned.len() as f64),
        void: planned.is_empty().then(|| "the stub found no stamps".into()),
        remark: format!("{late} of {} frames a player; by the stub's clock {stub_share:.3} %", planned.len()),
    })
}

/// How many values of a recorded latency are a second or more.
fn late_ones(latency: &Value) -> io::Result<f64> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(latency["hdr"].as_str().unwrap_or_default());
    let bytes = bytes.map_err(io::Error::other)?;
    let histogram: Histogram<u64> =
        Deserializer::new().deserialize(&mut &bytes[..]).map_err(io::Error::other)?;
    Ok(histogram.count_between(1_000_000, u64::MAX) as f64)
}

fn monotonic() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |t| t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64)
}

fn record(ours: Process) -> io::Result<Value> {
    Ok(serde_json::from_str(&ours.finish()?)?)
}
