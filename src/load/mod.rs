//! Many publishers and players on one target: what they got, when, and whether the numbers are the target's or ours.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::resource::{Resource, getrlimit};
use nix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::net::conn::Dial;
use crate::net::target::Target;
use crate::net::tls::Tls;
use crate::record::load;
use crate::wire::session::{Config, Goal, connect_payload};

pub mod find;
mod limit;
mod link;
pub mod media;
pub mod metrics;
pub mod name;
pub mod plan;
mod pump;
mod said;
mod shard;
pub mod slo;
mod stats;
mod track;
mod watch;
mod wheel;
mod worker;

pub use stats::Stats;

use link::Way;
use media::{Kind, Media, Stamp};
use plan::{Job, Plan, Role};
use shard::Report;
use stats::Count;
use watch::Watch;
use wheel::Timer;

/// How long players wait for what is under way once publishers are silent.
pub const DRAIN: Duration = Duration::from_secs(5);
/// Descriptors for all that is no session.
pub const SPARE_DESCRIPTORS: u64 = 64;

/// Why a run cannot be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The target's name has no address.
    #[error("{0}")]
    Resolve(io::Error),
    /// No thread, no runtime, or one that panicked.
    #[error("{0}")]
    Internal(String),
}

/// What a run came to.
#[derive(Debug)]
pub struct Found {
    /// For the record; promises are not judged yet.
    pub load: load::Load,
    /// All counts and histograms.
    pub stats: Stats,
    /// An HdrHistogram interval log, if it was wanted.
    pub log: Option<String>,
    /// Whether it was stopped before its time.
    pub interrupted: bool,
}

/// What is looked at beside the sessions.
#[derive(Debug, Clone, Copy, Default)]
pub struct Beside {
    /// A process whose processor time and memory are recorded.
    pub pid: Option<u32>,
    /// Whether an interval log is wanted.
    pub log: bool,
}

/// What all shards of a run share. On the way of a message nothing of it is written.
#[derive(Debug)]
struct Run {
    plan: Plan,
    media: Arc<Media>,
    way: Way,
    /// What connect says of players and of publishers.
    connects: [Arc<[u8]>; 2],
    /// Of stream names.
    prefix: String,
    suffix: String,
    id: u32,
    clock: Clock,
    slots: Vec<Slot>,
    /// Bytes that the sessions of one shard may hold.
    held_bytes: usize,
    /// When publishers fall silent.
    silence_ns: AtomicU64,
    /// Players that are there.
    playing: AtomicU64,
    /// Connections that were begun.
    dialled: AtomicUsize,
    /// Streams of others of which a player got a frame.
    served: Mutex<HashSet<String>>,
}

/// When a publisher sent its first frame and when it fell silent, in nanoseconds; 0: not yet.
#[derive(Debug, Default)]
struct Slot {
    began_ns: AtomicU64,
    ended_ns: AtomicU64,
}

/// The runtime's clock, in nanoseconds: the monotonic one, unless time is simulated.
#[derive(Debug, Clone, Copy)]
struct Clock {
    origin: Instant,
    origin_ns: u64,
}

impl Clock {
    fn start() -> Clock {
        Clock { origin: Instant::now(), origin_ns: clock_ns(ClockId::CLOCK_MONOTONIC) }
    }

    fn now(&self) -> u64 {
        self.origin_ns + self.origin.elapsed().as_nanos() as u64
    }

    fn at(&self, behind: Duration) -> u64 {
        self.origin_ns + behind.as_nanos() as u64
    }

    fn instant(&self, ns: u64) -> Instant {
        self.origin + Duration::from_nanos(ns.saturating_sub(self.origin_ns))
    }
}

fn clock_ns(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |t| t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64)
}

impl Run {
    /// What shards share, and the sessions of each.
    fn lay_out(
        plan: Plan,
        media: Arc<Media>,
        target: &Target,
        way: Way,
        cores: usize,
    ) -> (Arc<Run>, Vec<Vec<Job>>) {
        let timetable = plan.timetable();
        let wanted = if plan.shards == 0 { cores } else { plan.shards };
        let shards = wanted.min(timetable.jobs.len()).max(1);
        let clock = Clock::start();
        let id: u32 = rand::random();
        let config = Config {
            app: target.app(),
            tc_url: target.tc_url(),
            connect_with: media.connect_with(),
            ..Config::default()
        };
        let run = Run {
            prefix: if target.prefix().is_empty() {
                format!("bench-{id:08x}")
            } else {
                target.prefix().into()
            },
            suffix: target.suffix(),
            connects: [Goal::Playing, Goal::Publishing].map(|goal| connect_payload(&config, goal)),
            slots: (0..plan.publishers).map(|_| Slot::default()).collect(),
            held_bytes: plan.held_bytes / shards,
            silence_ns: AtomicU64::new(clock.at(timetable.silence)),
            playing: AtomicU64::new(0),
            dialled: AtomicUsize::new(0),
            served: Mutex::default(),
            plan,
            media,
            way,
            id,
            clock,
        };
        let share = |i| timetable.jobs.iter().copied().skip(i).step_by(shards).collect();
        (Arc::new(run), (0..shards).map(share).collect())
    }

    fn silence(&self) -> u64 {
        self.silence_ns.load(Ordering::Relaxed)
    }

    /// When the last session ends.
    fn end(&self) -> u64 {
        self.silence() + DRAIN.as_nanos() as u64
    }

    /// How many frames a publisher planned before this instant.
    fn planned_before(&self, publisher: u32, kind: Kind, until: u64) -> u32 {
        let slot = &self.slots[publisher as usize];
        let began = slot.began_ns.load(Ordering::Acquire);
        let ended = slot.ended_ns.load(Ordering::Acquire);
        let until = until.min(self.silence()).min(if ended == 0 { u64::MAX } else { ended });
        let behind = if began == 0 { 0 } else { until.saturating_sub(began) };
        match self.burst_ns() {
            // What fell due by the last burst before that.
            Some(burst) if behind > 0 => self.media.count_before(kind, (behind - 1) / burst * burst + 1),
            _ => self.media.count_before(kind, behind),
        }
    }

    fn planned_ns(&self, publisher: u32, kind: Kind, seq: u32) -> u64 {
        let began = self.slots[publisher as usize].began_ns.load(Ordering::Acquire);
        let offset = self.media.offset_ns(kind, seq);
        let burst = self.burst_ns().unwrap_or(1);
        began.saturating_add(offset.div_ceil(burst).saturating_mul(burst))
    }

    fn burst_ns(&self) -> Option<u64> {
        self.plan.burst.map(|burst| burst.as_nanos() as u64).filter(|ns| *ns > 0)
    }

    /// Whether this publisher can have sent this by now: a target may say anything.
    fn sent_that(&self, publisher: u32, kind: Kind, stamp: &Stamp, now: u64) -> bool {
        (stamp.run, stamp.publisher) == (self.id, publisher)
            && stamp.planned_ns == self.planned_ns(publisher, kind, stamp.seq)
            && stamp.planned_ns <= now
    }

    /// The name of a stream of ours for the session of this number.
    fn name(&self, stream: u32, session: u32) -> String {
        let name = match &self.plan.name {
            Some(pattern) => pattern.fill(stream, session),
            None => format!("{}-{stream}", self.prefix),
        };
        name + &self.behind(stream, session)
    }

    /// The name of a stream of others for the player of this number.
    fn foreign_name(&self, name: &str, player: u32) -> String {
        self.foreign_stream(name, player) + &self.behind(player, player)
    }

    /// The same without what stands behind it.
    fn foreign_stream(&self, name: &str, player: u32) -> String {
        self.plan.name.as_ref().map_or_else(|| name.to_owned(), |pattern| pattern.fill(player, player))
    }

    /// A player got a first frame: if of a stream of others, it is there.
    fn serve(&self, role: Role) {
        if let (Role::Player(player), Some(name)) = (role, &self.plan.play) {
            self.served().insert(self.foreign_stream(name, player));
        }
    }

    /// Whether any player got a frame of the stream of others that this one plays.
    fn is_served(&self, role: Role) -> bool {
        matches!((role, &self.plan.play), (Role::Player(player), Some(name)) if self.served().contains(&self.foreign_stream(name, player)))
    }

    fn served(&self) -> MutexGuard<'_, HashSet<String>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn behind(&self, stream: u32, session: u32) -> String {
        self.plan.suffix.as_ref().map_or_else(|| self.suffix.clone(), |pattern| pattern.fill(stream, session))
    }

    /// The address that the next connection is made from, if not any.
    fn source(&self) -> Option<IpAddr> {
        let sources = &self.plan.sources;
        let next = self.dialled.fetch_add(1, Ordering::Relaxed);
        sources.get(next.checked_rem(sources.len())?).copied()
    }
}

#[cfg(test)]
impl Run {
    /// Of one publisher, which begins as the run does; and when that was.
    fn of_one() -> (Arc<Run>, u64) {
        let media = Arc::new(Media::new(media::Shape::new(1_000_000, 30, 30)).expect("enough"));
        let target = "rtmp://127.0.0.1/live".parse().expect("a target");
        let way = Way::Tcp(([127, 0, 0, 1], 1).into());
        let (run, _) = Run::lay_out(Plan { publishers: 1, ..Plan::default() }, media, &target, way, 1);
        let began = run.clock.origin_ns;
        run.slots[0].began_ns.store(began, Ordering::Release);
        (run, began)
    }

    /// The first video frame, as the run of this number has it.
    fn first_frame(&self, id: u32) -> Vec<u8> {
        let planned_ns = self.planned_ns(0, Kind::Video, 0);
        let stamp = Stamp { run: id, publisher: 0, seq: 0, planned_ns, late_us: 0 };
        self.media.frame(Kind::Video, 0).expect("a frame").stamped(&stamp).to_vec()
    }
}

/// Runs the plan against the target, with `tls` by TLS, until it is through or `stop` is; `on_second` sees each second when it is over, and all until then.
///
/// # Errors
/// When the target has no address, or for want of threads.
pub async fn run(
    plan: Plan,
    media: impl Into<Arc<Media>>,
    target: &Target,
    tls: Option<Tls>,
    beside: Beside,
    stop: impl Future<Output = ()>,
    on_second: &mut dyn FnMut(&load::Interval, &Stats),
) -> Result<Found, Error> {
    let mut addrs = tokio::net::lookup_host(target.address()).await.map_err(Error::Resolve)?;
    let addr = addrs.find(|addr| plan.sources.iter().all(|source| source.is_ipv4() == addr.is_ipv4()));
    let addr = addr.ok_or_else(|| Error::Resolve(io::Error::other("no address")))?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let way = match tls {
        Some(tls) => Way::Tls(addr, tls, target.host().to_owned()),
        None => Way::Tcp(addr),
    };
    make_room(plan.publishers.saturating_add(plan.players()));
    let (run, shares) = Run::lay_out(plan, media.into(), target, way, cores);
    let (reports, seconds) = mpsc::unbounded_channel();
    let mut collector = Collector::new(shares.len(), Some(Watch::new(beside.pid)), beside.log);
    let planned = shares.iter().map(Vec::len).sum::<usize>() as u64;
    let threads = (shares.into_iter().enumerate())
        .map(|(i, jobs)| shard::start(run.clone(), i, jobs, reports.clone()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(|e| Error::Internal(format!("no shard: {e}")))?;
    drop(reports);
    let interrupted = collector.collect(&run, seconds, stop, on_second).await;
    for thread in threads {
        thread.join().map_err(|_| Error::Internal("a shard panicked".into()))?;
    }
    Ok(collector.end(&run, planned, interrupted))
}

/// Lets the kernel make room for the descriptors of so many sessions at once. Its table would double as they come, and each time a process of several
/// threads waits until all processors have let go of the old one: up to 15 ms in which a shard does nothing.
fn make_room(sessions: u32) {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    let last = (u64::from(sessions) + SPARE_DESCRIPTORS).min(limit.saturating_sub(1));
    // Without it all is as good, and slower.
    if let (Ok(some), Ok(last)) = (std::fs::File::open("/dev/null"), last.try_into())
        && let Ok(last) = fcntl(&some, FcntlArg::F_DUPFD_CLOEXEC(last))
    {
        let _ = nix::unistd::close(last);
    }
}

/// The same in the calling runtime and by its clock, which may be a simulated one, over the dialler's connections. What the machine does
/// meanwhile is not looked at.
pub async fn simulate(
    plan: Plan,
    media: impl Into<Arc<Media>>,
    target: &Target,
    dial: Arc<dyn Dial>,
    stop: impl Future<Output = ()>,
    on_second: &mut dyn FnMut(&load::Interval, &Stats),
) -> Found {
    let (run, shares) = Run::lay_out(plan, media.into(), target, Way::Dial(dial), 1);
    let (reports, seconds) = mpsc::unbounded_channel();
    let mut collector = Collector::new(shares.len(), None, false);
    let planned = shares.iter().map(Vec::len).sum::<usize>() as u64;
    let shards = LocalSet::new();
    for jobs in shares {
        shards.spawn_local(shard::drive(run.clone(), jobs, reports.clone(), Timer::coarse()));
    }
    drop(reports);
    let interrupted = shards.run_until(collector.collect(&run, seconds, stop, on_second)).await;
    collector.end(&run, planned, interrupted)
}

/// Puts the shards' seconds together.
struct Collector {
    shards: usize,
    /// `None` where time is simulated.
    watch: Option<Watch>,
    total: Stats,
    /// Of slow players.
    slow: Stats,
    /// Seconds that not every shard handed over.
    open: BTreeMap<u64, (usize, Stats, load::Interval)>,
    rows: Vec<load::Interval>,
    log: Option<String>,
}

impl Collector {
    fn new(shards: usize, watch: Option<Watch>, log: bool) -> Collector {
        let log = log.then(|| stats::LOG_HEAD.to_owned());
        Collector {
            shards,
            watch,
            total: Stats::default(),
            slow: Stats::default(),
            open: BTreeMap::new(),
            rows: Vec::new(),
            log,
        }
    }

    async fn collect(
        &mut self,
        run: &Run,
        mut seconds: mpsc::UnboundedReceiver<Report>,
        stop: impl Future<Output = ()>,
        on_second: &mut dyn FnMut(&load::Interval, &Stats),
    ) -> bool {
        let mut interrupted = false;
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                report = seconds.recv() => match report {
                    Some(report) => self.take(report, on_second),
                    None => break,
                },
                () = &mut stop, if !interrupted => {
                    interrupted = true;
                    run.silence_ns.fetch_min(run.clock.now(), Ordering::Relaxed);
                }
            }
        }
        while let Some((_, open)) = self.open.pop_first() {
            self.close(open, on_second);
        }
        interrupted
    }

    fn take(&mut self, report: Report, on_second: &mut dyn FnMut(&load::Interval, &Stats)) {
        let (came, stats, row) = self.open.entry(report.second).or_default();
        row.start_ms = report.second * 1000;
        *came += 1;
        row.sessions_up += report.up;
        row.missing += report.missing;
        row.oldest_outstanding_us = row.oldest_outstanding_us.max(report.oldest_us);
        stats.add(&report.stats);
        self.slow.add(&report.slow);
        // A shard that ended hands over no more: what is behind waits no longer either.
        let whole = *came == self.shards;
        while let Some(first) = self.open.first_entry() {
            if *first.key() > report.second || !(whole || *first.key() < report.second.saturating_sub(1)) {
                break;
            }
            let open = first.remove();
            self.close(open, on_second);
        }
    }

    fn close(
        &mut self,
        (_, stats, mut row): (usize, Stats, load::Interval),
        on_second: &mut dyn FnMut(&load::Interval, &Stats),
    ) {
        let counts = stats.counts;
        (row.attempted, row.failed) = (counts.attempted, stats.failed());
        (row.sent, row.received) = (counts.sent, counts.received);
        (row.bytes_sent, row.bytes_received) = (counts.bytes_sent, counts.bytes_received);
        row.full_sweeps = counts.full_sweeps;
        row.latency = stats.briefs();
        if let Some(watch) = &mut self.watch {
            watch.second(&mut row);
        }
        row.limited_why = limit::second(&self.rows, &row);
        row.limited = row.limited_why.is_some();
        if let Some(log) = &mut self.log {
            stats.log(log, row.start_ms as f64 / 1000.0);
        }
        self.total.add(&stats);
        on_second(&row, &self.total);
        self.rows.push(row);
    }

    fn end(self, run: &Run, planned: u64, interrupted: bool) -> Found {
        let Collector { watch, total, slow, rows, shards, log, .. } = self;
        let counts = total.counts;
        let plan = &run.plan;
        let millis = |d: Duration| d.as_millis() as u64;
        let load = load::Load {
            plan: load::Plan {
                publishers: plan.publishers,
                players: plan.players(),
                stages: plan.stages.iter().map(|stage| (millis(stage.time), stage.players)).collect(),
                rate_per_s: plan.rate,
                bitrate_bps: run.media.shape().bitrate_bps,
                fps: run.media.shape().fps,
                gop: run.media.shape().gop,
                audio_bps: run.media.shape().audio_bps,
                read_mode: if plan.tick.is_some() { "sweep" } else { "precise" }.into(),
                tick_ms: plan.tick.map(millis),
                receipt_clock: receipt_clock(&counts).into(),
                play: plan.play.clone(),
                media: media_plan(&run.media),
                churn_per_s: plan.churn.map(|gap| (1000.0 / gap.as_secs_f64()).round() / 1000.0),
                late_join: plan.late_join,
                burst_ms: plan.burst.map(millis),
                sources: plan.sources.iter().map(ToString::to_string).collect(),
                shards: shards as u32,
            },
            sessions: load::Sessions {
                planned,
                attempted: counts.attempted,
                started: counts.started,
                ended: counts.ended + slow.counts.ended,
                failed_by_phase: total.failed_by_phase(),
                unfinished_by_phase: total.unfinished_by_phase(),
                silent_by_status: total.silent_by_status(),
            },
            frames: frames(&total),
            slow: plan.slow.map(|asked| load::SlowPlayers {
                per_cent: asked.per_cent,
                rate_bps: asked.rate_bps,
                ended: slow.counts.ended,
                dropped: slow.failed(),
                frames: frames(&slow),
                latency: slow.latencies(),
            }),
            timestamps_back: load::Back { video: counts.back_video, audio: counts.back_audio },
            joins: load::Joins {
                players: counts.joined,
                at_key_frame: counts.joined_at_key,
                frames_before_key: counts.before_key,
            },
            departures: total.departures(),
            bytes: load::Bytes { sent: counts.bytes_sent, received: counts.bytes_received },
            latency: total.latencies(),
            generator: limit::run(&total, watch.as_ref(), &rows),
            watched: watch.as_ref().and_then(Watch::watched),
            intervals: rows,
            slo: Vec::new(),
            find: None,
        };
        Found { load, stats: total, log, interrupted }
    }
}

/// What told when frames came.
fn receipt_clock(counts: &stats::Counts) -> &'static str {
    match counts.user_clock {
        0 => "kernel",
        n if n == counts.received => "user",
        _ => "mixed",
    }
}

fn frames(stats: &Stats) -> load::Frames {
    let counts = stats.counts;
    load::Frames {
        sent: counts.sent,
        received: counts.received,
        expected: counts.expected,
        lost: stats.count(Count::Lost),
        duplicated: stats.count(Count::Duplicated),
        reordered: stats.count(Count::Reordered),
        corrupt: stats.count(Count::Corrupt),
        strayed: counts.strayed,
        unplaced: counts.unplaced,
        join_burst: counts.join_burst,
        foreign: counts.foreign,
        user_clock: counts.user_clock,
    }
}

/// What a file held.
fn media_plan(media: &Media) -> Option<load::MediaFile> {
    let track = |kind| {
        let (frames, stamped) = media.counts(kind);
        let codecs = media.codecs(kind).iter().map(ToString::to_string).collect();
        (frames > 0).then_some(load::MediaTrack { codecs, frames: frames as u64, stamped: stamped as u64 })
    };
    let (file, round_ms) = media.source()?;
    Some(load::MediaFile {
        file: file.to_owned(),
        round_ms,
        video: track(Kind::Video),
        audio: track(Kind::Audio),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_has_room_for_the_descriptors_before_they_come() {
        let size = || {
            let status = std::fs::read_to_string("/proc/self/status").expect("a status");
            let line = status.lines().find_map(|line| line.strip_prefix("FDSize:")).expect("a size");
            line.trim().parse::<u64>().expect("a number")
        };
        assert!(size() < 700, "{}", size());
        make_room(700);
        assert!(size() >= 700 + SPARE_DESCRIPTORS, "{}", size());
    }
}
