//! One single-threaded event loop: its sessions never leave it, and what they measure is its own until it hands it over each second.

use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::time::ClockId;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::{JoinError, JoinSet, LocalSet, yield_now};
use tokio::time::{Instant, sleep_until};

use super::media::Kind;
use super::plan::{Job, Role};
use super::pump::Pump;
use super::said::Said;
use super::stats::{Metric, Stats};
use super::track::{Came, Receiver};
use super::wheel::{Timer, Wheel};
use super::worker::Players;
use super::{Run, clock_ns, worker};
use crate::wire::chunk::MessageHeader;

/// Bytes of the one buffer that all its sessions read into.
const BUFFER: usize = 64 << 10;
/// Sessions that are begun at a time, before those that are there have their turn.
const BEGUN: usize = 4;
/// What a session takes of memory, less rather than more.
const SESSION_BYTES: usize = 2560;
/// Somewhat less than the 32 MiB above which everything is mapped apart (mallopt(3), M_MMAP_THRESHOLD).
const MAX_RESERVED: usize = 24 << 20;
/// How often it looks after itself.
const LOOK: Duration = Duration::from_millis(100);
/// A step of the clocks against each other above which kernel stamps are not believed until the next look, in nanoseconds.
const STEP: u64 = 1_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// What a shard found in a second.
#[derive(Debug)]
pub struct Report {
    /// Which, from the start.
    pub second: u64,
    /// What was counted and measured in it.
    pub stats: Stats,
    /// What slow players got.
    pub slow: Stats,
    /// Sessions that publish or play.
    pub up: u64,
    /// Age of the frame that has been outstanding longest.
    pub oldest_us: Option<u64>,
    /// Frames that later ones overtook and that have not come, of the players there are.
    pub missing: u64,
}

/// What its sessions share.
#[derive(Debug)]
pub struct Shard {
    pub run: Arc<Run>,
    pub buffer: RefCell<Vec<u8>>,
    pub control: RefCell<Vec<u8>>,
    /// The last command of whichever session is read.
    pub said: RefCell<Said>,
    pub stats: RefCell<Stats>,
    /// What slow players got: it says nothing of the others.
    pub slow: RefCell<Stats>,
    pub up: Cell<u64>,
    /// Bytes that its sessions hold of what is not whole or was not taken.
    held: Cell<usize>,
    /// Of those that listen; one that nobody else holds has ended.
    pub receivers: RefCell<Vec<Rc<RefCell<Receiver>>>>,
    pub wheel: Wheel,
    pub pump: RefCell<Pump>,
    pub players: RefCell<Players>,
    /// The real-time clock less the monotonic one; `None` while they step.
    pub offset_ns: Cell<Option<u64>>,
    /// When the bytes came that are being taken is told by our own clock.
    pub user_clock: Cell<bool>,
}

/// Starts a thread that runs these jobs.
///
/// # Errors
/// When there is no thread or no runtime.
pub fn start(
    run: Arc<Run>,
    number: usize,
    jobs: Vec<Job>,
    reports: UnboundedSender<Report>,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(format!("shard {number}")).spawn(move || {
        reserve(jobs.len().min((run.plan.publishers + run.plan.players()) as usize));
        LocalSet::new().block_on(&runtime, async {
            // Without an exact one frames are up to two milliseconds later, and are said to be.
            let timer = Timer::exact().unwrap_or_else(|_| Timer::coarse());
            drive(run, jobs, reports, timer).await;
        });
    })
}

/// Lets the allocator have memory for so many sessions at hand. glibc's grows the heap of a thread that is not the first page by page, with a system
/// call each; what is freed goes back to the heap, if not to the system. The first of the two is mapped apart, which makes the second one the heap's.
/// That one is written to, so that no page is asked for amid the ramp.
fn reserve(sessions: usize) {
    let bytes = (sessions * SESSION_BYTES).min(MAX_RESERVED);
    drop(black_box(Vec::<u8>::with_capacity(bytes)));
    drop(black_box(vec![1_u8; bytes]));
}

/// Runs these jobs, in a [`LocalSet`].
pub async fn drive(run: Arc<Run>, jobs: Vec<Job>, reports: UnboundedSender<Report>, timer: Timer) {
    let shard = Rc::new(Shard::new(run));
    let (turned, serving, looking) = (shard.clone(), shard.clone(), shard.clone());
    // Tasks of their own: this one is looked at whenever any session is.
    let mut own = JoinSet::new();
    own.spawn_local(async move {
        let also = |now| {
            let frames = turned.pump.borrow_mut().turn(&turned, now);
            turned.players.borrow_mut().sweep(&turned.run, now).min(frames)
        };
        turned.wheel.turn(turned.run.clock, timer, also).await;
    });
    own.spawn_local(async move { Players::serve(&serving.players).await });
    let seconds = reports.clone();
    own.spawn_local(async move { look_after(&looking, &seconds).await });
    tokio::select! {
        () = work(&shard, jobs) => {}
        Some(ended) = own.join_next() => panicked(ended),
    }
    let second = shard.second(shard.run.clock.now());
    shard.hand_over(&reports, second);
}

/// Begins each job at its time and waits for all.
async fn work(shard: &Rc<Shard>, jobs: Vec<Job>) {
    let run = &shard.run;
    let mut sessions = JoinSet::new();
    for (i, job) in jobs.into_iter().enumerate() {
        if i.is_multiple_of(BEGUN) {
            // Where we are late those that are on their way come first: the target is to have work while we begin more.
            yield_now().await;
        }
        let begin = run.clock.at(job.begin);
        loop {
            let now = run.clock.now();
            if now >= begin || now >= run.silence() {
                break;
            }
            sleep_until(run.clock.instant(begin.min(now + LOOK.as_nanos() as u64))).await;
        }
        if run.clock.now() >= run.silence() {
            break;
        }
        if matches!(job.role, Role::Player(_)) {
            run.playing.fetch_add(1, Ordering::Relaxed);
        }
        sessions.spawn_local(worker::work(shard.clone(), job));
        // Those that have ended are let go.
        while let Some(ended) = sessions.try_join_next() {
            panicked(ended);
        }
    }
    while let Some(ended) = sessions.join_next().await {
        panicked(ended);
    }
}

/// A task that panicked takes its shard with it.
fn panicked(ended: Result<(), JoinError>) {
    if let Err(e) = ended
        && e.is_panic()
    {
        std::panic::resume_unwind(e.into_panic());
    }
}

/// Measures how late the loop is, compares the clocks, hands over each second.
async fn look_after(shard: &Shard, reports: &UnboundedSender<Report>) {
    let run = &shard.run;
    let mut second = 0;
    let mut next = run.clock.origin;
    let mut silence = run.silence();
    loop {
        next = (next + LOOK).max(Instant::now() - LOOK);
        sleep_until(next).await;
        let late = Instant::now().saturating_duration_since(next);
        shard.stats.borrow_mut().record_us(Metric::Lag, late.as_micros() as u64);
        let offset = clock_offset();
        let stepped = shard.offset_ns.get().zip(offset).is_some_and(|(old, new)| old.abs_diff(new) > STEP);
        shard.offset_ns.set(offset.filter(|_| !stepped));
        if std::mem::replace(&mut silence, run.silence()) != silence {
            shard.wheel.wake_all();
        }
        let now = shard.second(run.clock.now());
        if now > second {
            shard.hand_over(reports, now - 1);
            second = now;
        }
    }
}

/// The try that took least: what held us up between two readings would look like a step of the clocks.
fn clock_offset() -> Option<u64> {
    let tries = (0..5).map(|_| {
        let before = clock_ns(ClockId::CLOCK_MONOTONIC);
        let real = clock_ns(ClockId::CLOCK_REALTIME);
        let took = clock_ns(ClockId::CLOCK_MONOTONIC).saturating_sub(before);
        (took, real.checked_sub(before + took / 2))
    });
    tries.min_by_key(|(took, _)| *took)?.1
}

impl Shard {
    pub fn new(run: Arc<Run>) -> Shard {
        Shard {
            run,
            buffer: RefCell::new(vec![0; BUFFER]),
            control: RefCell::new(nix::cmsg_space!(nix::sys::time::TimeSpec)),
            said: RefCell::default(),
            stats: RefCell::default(),
            slow: RefCell::default(),
            up: Cell::new(0),
            held: Cell::new(0),
            receivers: RefCell::default(),
            wheel: Wheel::default(),
            pump: RefCell::default(),
            players: RefCell::default(),
            offset_ns: Cell::new(clock_offset()),
            user_clock: Cell::new(false),
        }
    }

    fn second(&self, now: u64) -> u64 {
        (now - self.run.clock.origin_ns) / SECOND_NS
    }

    fn hand_over(&self, reports: &UnboundedSender<Report>, second: u64) {
        let now = self.run.clock.now();
        let mut receivers = self.receivers.borrow_mut();
        receivers.retain(|receiver| Rc::strong_count(receiver) > 1);
        let oldest =
            receivers.iter().filter_map(|receiver| receiver.borrow().oldest_ns(&self.run, now)).min();
        // Whoever does not listen any more needs no report.
        let _ = reports.send(Report {
            second,
            stats: self.stats.take(),
            slow: self.slow.take(),
            up: self.up.get(),
            missing: receivers.iter().map(|receiver| receiver.borrow().missing()).sum(),
            oldest_us: oldest.map(|planned| now.saturating_sub(planned) / 1000),
        });
    }

    /// A session holds other bytes than before; whether all of them together may.
    pub fn hold(&self, before: usize, now: usize) -> bool {
        let held = self.held.get() - before + now;
        self.held.set(held);
        now <= before || held <= self.run.held_bytes
    }

    /// What slow players got is counted apart.
    pub fn account(&self, slow: bool) -> &RefCell<Stats> {
        if slow { &self.slow } else { &self.stats }
    }

    /// Gives a player's messages to its account.
    pub fn message(
        &self,
        to: Option<&Rc<RefCell<Receiver>>>,
        slow: bool,
        at: u64,
        header: MessageHeader,
        payload: &[u8],
    ) {
        let Some(receiver) = to else { return };
        if let Some(kind) = Kind::of(header.type_id) {
            let mut stats = self.account(slow).borrow_mut();
            let came = Came { at, kind, timestamp: header.timestamp };
            let before = stats.counts.received;
            receiver.borrow_mut().take(&self.run, &mut stats, came, payload);
            let frames = stats.counts.received - before;
            stats.counts.user_clock += if self.user_clock.get() { frames } else { 0 };
        } else {
            receiver.borrow_mut().hear(header.type_id, payload);
        }
    }

    /// When bytes came, by the kernel's stamp of them if there is one that can be believed.
    pub fn receipt(&self, stamp: Option<u64>, now: u64) -> u64 {
        let at = stamp.zip(self.offset_ns.get()).and_then(|(stamp, offset)| stamp.checked_sub(offset));
        let at = at.filter(|at| *at <= now + STEP && *at > self.run.clock.origin_ns);
        self.user_clock.set(at.is_none());
        at.unwrap_or(now).min(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_that_of_the_frames_and_not_of_what_came_before_them() {
        let (run, began) = Run::of_one();
        let payload = run.first_frame(run.id);
        let (shard, receiver) = (Shard::new(run), Rc::new(RefCell::new(Receiver::new(Some(0), began))));
        shard.offset_ns.set(Some(5));
        let header = MessageHeader {
            csid: 6,
            timestamp: 0,
            len: payload.len() as u32,
            type_id: Kind::Video.type_id(),
            msid: 1,
        };
        let frame = |at| {
            shard.message(Some(&receiver), false, at, header, &payload);
            let counts = shard.stats.borrow().counts;
            (counts.received, counts.user_clock)
        };
        let now = began + 1_000_000;
        assert_eq!(shard.receipt(None, now), now);
        assert_eq!(shard.receipt(Some(now - 1000), now), now - 1005);
        assert_eq!(frame(now), (1, 0));
        // Before the run, or long after now: not to be believed.
        for stamp in [None, Some(began), Some(now + 2 * STEP)] {
            assert_eq!(shard.receipt(stamp, now), now);
        }
        assert_eq!(frame(now), (2, 1));
        shard.receipt(Some(now), now);
        assert_eq!(frame(now), (3, 1));
    }
}
