//! One publisher or player, from the first SYN to the end.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::link::Link;
use super::plan::{Job, Role};
use super::pump::{Source, Tap};
use super::shard::Shard;
use super::stats::{Metric, Phase};
use super::track::{Owed, Receiver};
use super::{DRAIN, Run};
use crate::wire::chunk::Limits;
use crate::wire::session::{Config, Event, Fields, Goal, Refusal, Session, Skimmed};
use crate::wire::time::Time;

mod open;
mod players;

use open::{Opened, open};
pub use players::Players;

/// What each phase before media may take.
const PHASE_NS: u64 = 10_000_000_000;
/// How long a publisher waits for a target that takes no more bytes.
const STUCK_NS: u64 = 10_000_000_000;
/// How often a session that is to end looks whether it may.
const LOOK_NS: u64 = 50_000_000;
/// How long frames that others overtook are waited for at the end.
const STRAGGLERS_NS: u64 = 500_000_000;
/// How often a slow player reads.
const SLOW_NS: u64 = 100_000_000;
/// Bytes that the kernel may hold for a slow player: the target is to feel it soon.
const SLOW_ROOM: u32 = 32 << 10;
/// Reads that a session does before others have their turn.
const READS: usize = 16;
/// Reads of a sweep, each of a whole buffer: a target that never stops sending holds up nobody else.
const SWEPT_READS: usize = 256;
/// Bytes at one tick below which no socket was full.
const FULL: usize = 64 << 10;
/// What publishers announce: each frame is one chunk.
const CHUNK_SIZE: u32 = 60_000;
/// What a target may make one session hold.
const LIMITS: Limits =
    Limits { open_messages: 16, held_bytes: 4 << 20, message_len: 4 << 20, chunk_streams: 64 };

/// Where and why a session failed.
type Failure = (Phase, String);

/// Runs one session and accounts for it.
pub async fn work(shard: Rc<Shard>, job: Job) {
    let player = matches!(job.role, Role::Player(_));
    // What only the way to the connection needs is gone with it.
    if let Some(worker) = Box::pin(open(&shard, job)).await {
        let result = poll_fn(|cx| {
            let mut this = worker.borrow_mut();
            if this.joined {
                return this.done.take().map_or(Poll::Pending, Poll::Ready);
            }
            let result = this.poll(cx);
            if result.is_pending() && this.is_player() {
                (this.joined, this.armed) = (true, u64::MAX);
                let due = shard.players.borrow_mut().join(&shard.run, Rc::downgrade(&worker), cx.waker());
                shard.wheel.hurry(due);
            }
            result
        });
        let result = result.await;
        worker.borrow_mut().end(result);
    }
    if player {
        shard.run.playing.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a slow player may read.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    rate_bps: u64,
    /// When it began, and what was read since.
    since: u64,
    bytes: u64,
}

impl Allowance {
    fn of(run: &Run, role: Role) -> Option<Allowance> {
        let slow =
            run.plan.slow.filter(|_| matches!(role, Role::Player(number) if run.plan.is_slow(number)))?;
        Some(Allowance { rate_bps: slow.rate_bps, since: 0, bytes: 0 })
    }

    /// Bytes that may be read by now.
    fn left(&self, now: u64) -> usize {
        let all = u128::from(now - self.since) * u128::from(self.rate_bps) / 8_000_000_000;
        (all as u64).saturating_sub(self.bytes) as usize
    }
}

/// What follows from an event.
enum Step {
    On,
    Reached(Goal),
    Fail(String),
}

struct Worker {
    shard: Rc<Shard>,
    job: Job,
    publisher: Option<u32>,
    /// `None` on the way from one way of reading to the other.
    link: Option<Link>,
    session: Session,
    phase: Phase,
    /// When it began, and when the phase did.
    began: u64,
    since: u64,
    /// Bytes that the socket did not take yet.
    out: Vec<u8>,
    written: usize,
    /// Bytes that the shard knows it to hold.
    held: usize,
    /// The socket takes no more; when it took bytes last, and when it last took all again.
    blocked: bool,
    moved: u64,
    unblocked: u64,
    /// A publisher's frames.
    tap: Option<Tap>,
    receiver: Option<Rc<RefCell<Receiver>>>,
    /// It reads no more than this allows.
    slow: Option<Allowance>,
    /// It publishes or plays.
    up: bool,
    /// What comes is only skimmed.
    skims: bool,
    /// When it is woken at the latest.
    armed: u64,
    /// When a player that sweeps reads next.
    next_read: Option<u64>,
    /// The shard turns to it, and its task waits for the end.
    joined: bool,
    /// The last read may not have got all.
    filled: bool,
    /// The last tick found the socket full.
    full: bool,
    /// It is through, and its task does not know it yet.
    done: Option<Result<(), Failure>>,
}

impl Worker {
    fn new(
        shard: &Rc<Shard>,
        job: Job,
        publisher: Option<u32>,
        name: String,
        Opened { link, began, since }: Opened,
    ) -> Worker {
        let run = &*shard.run;
        let publishes = matches!(job.role, Role::Publisher(_));
        let (Role::Publisher(number) | Role::Player(number)) = job.role;
        let config = Config {
            app: String::new(),
            tc_url: String::new(),
            name,
            connect: Some(run.connects[usize::from(publishes)].clone()),
            chunk_size: publishes.then_some(CHUNK_SIZE),
            seed: u64::from(run.id) << 33 | u64::from(number) << 1 | u64::from(publishes),
            limits: LIMITS,
            ..Config::default()
        };
        let mut worker = Worker {
            shard: shard.clone(),
            job,
            publisher,
            link: Some(link),
            session: Session::client(config),
            phase: Phase::Handshake,
            began,
            since,
            out: Vec::new(),
            written: 0,
            held: 0,
            blocked: false,
            moved: 0,
            unblocked: 0,
            tap: None,
            receiver: None,
            slow: Allowance::of(run, job.role),
            up: false,
            skims: false,
            armed: u64::MAX,
            next_read: None,
            joined: false,
            filled: false,
            full: false,
            done: None,
        };
        let now = worker.now();
        let goal = if publishes { Goal::Publishing } else { Goal::Playing };
        worker.session.pursue(worker.time(now), goal);
        worker
    }

    fn run(&self) -> &Run {
        &self.shard.run
    }

    fn now(&self) -> u64 {
        self.run().clock.now()
    }

    fn time(&self, now: u64) -> Time {
        Time::from_micros((now - self.run().clock.origin_ns) / 1000)
    }

    fn publishes(&self) -> bool {
        matches!(self.job.role, Role::Publisher(_))
    }

    fn fail<T>(&self, why: impl Into<String>) -> Result<T, Failure> {
        Err((self.phase, why.into()))
    }

    /// When it stops sending, or counting what it gets.
    fn until(&self) -> u64 {
        self.own_end().min(self.run().silence())
    }

    /// The same if the run is not over before.
    fn own_end(&self) -> u64 {
        self.job.end.map_or(u64::MAX, |end| self.run().clock.at(end))
    }

    /// The phase is over: how long it took, and what comes next.
    fn pass(&mut self, metric: Metric, next: Phase, now: u64) {
        self.shard.stats.borrow_mut().record_ns(metric, self.since, now);
        (self.phase, self.since) = (next, now);
    }

    /// Reads what there is and writes on time, until all is done.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let mut at = None;
        for _ in 0..READS {
            self.flush(cx)?;
            let Poll::Ready(now) = self.receive(cx)? else {
                let now = at.unwrap_or_else(|| self.now());
                self.publish(cx.waker());
                if self.finished(now)? {
                    return Poll::Ready(Ok(()));
                }
                self.arm(cx.waker(), now);
                return Poll::Pending;
            };
            if self.finished(now)? {
                return Poll::Ready(Ok(()));
            }
            at = Some(now);
            if !self.up && !self.session.is_silent() {
                // It answers once all that has come is read: a target on this machine would fall asleep between two answers, and to wake it is dear.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        // Others have their turn.
        self.publish(cx.waker());
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sees to it that it is woken when something is due.
    fn arm(&mut self, waker: &Waker, now: u64) {
        let at = self.wake(now);
        if at < self.armed || self.armed <= now {
            self.armed = at;
            self.shard.wheel.wake_at(at, waker);
        }
    }

    /// When to look again at the latest.
    fn wake(&self, now: u64) -> u64 {
        let next_read = self.next_read.filter(|_| self.slow.is_some()).unwrap_or(u64::MAX);
        if !self.up {
            return (self.since + PHASE_NS).min(self.run().silence());
        }
        let until = self.until();
        let end = if now < until { until } else { now + LOOK_NS };
        let stuck = if self.blocked { self.moved + STUCK_NS } else { u64::MAX };
        let first =
            if self.phase == Phase::FirstFrame && now < self.limit() { self.limit() } else { u64::MAX };
        end.min(stuck).min(first).min(next_read)
    }

    /// Has a publisher's frames sent from here on.
    fn publish(&mut self, waker: &Waker) {
        let (None, true, Some(publisher)) = (&self.tap, self.up && self.publishes(), self.publisher) else {
            return;
        };
        let source = Source {
            publisher,
            writer: self.session.media_writer(),
            fd: self.link.as_ref().and_then(Link::fd),
            end: self.own_end(),
            held: !self.out.is_empty() || !self.session.is_silent(),
            session: waker.clone(),
        };
        self.tap = Some(Tap::open(&self.shard, source));
    }

    /// Takes what is left of frames, and what the session has to say behind it.
    fn hear(&mut self) -> Result<(), Failure> {
        if let Some(tap) = &self.tap {
            tap.left(&mut self.out).or_else(|e| self.fail(e.to_string()))?;
        }
        if self.out.is_empty() {
            self.out = self.session.take_output();
        } else if !self.session.is_silent() {
            self.out.extend_from_slice(&self.session.take_output());
        }
        Ok(())
    }

    /// Writes all that.
    fn flush(&mut self, cx: &mut Context<'_>) -> Result<(), Failure> {
        self.hear()?;
        if self.out.is_empty() {
            return Ok(());
        }
        while self.written < self.out.len() {
            let Some(link) = &mut self.link else { break };
            match link.poll_write(cx, &self.out[self.written..]) {
                Poll::Ready(Ok(n @ 1..)) => {
                    self.written += n;
                    self.moved = if self.blocked { self.now() } else { self.moved };
                    self.shard.stats.borrow_mut().counts.bytes_sent += n as u64;
                }
                Poll::Ready(Ok(_)) => return self.fail("the target takes no more"),
                Poll::Ready(Err(e)) => return self.fail(e.to_string()),
                Poll::Pending => {
                    if !std::mem::replace(&mut self.blocked, true) {
                        self.moved = self.now();
                    }
                    self.tap.as_ref().inspect(|tap| tap.hold());
                    return Ok(());
                }
            }
        }
        if std::mem::take(&mut self.blocked) {
            self.unblocked = self.now();
        }
        (self.out, self.written) = (Vec::new(), 0);
        self.tap.as_ref().inspect(|tap| tap.release(self.unblocked));
        self.hold()
    }

    /// Whether it is through, or cut off by the end of the run; an error when its time is up.
    fn finished(&self, now: u64) -> Result<bool, Failure> {
        if !self.up {
            let late = now >= self.since + PHASE_NS;
            return if late { self.nothing_came(now) } else { Ok(now >= self.run().silence()) };
        }
        let until = self.until();
        if self.blocked && now > self.moved + STUCK_NS {
            return self.fail(format!("the target took no bytes for {} s", STUCK_NS / 1_000_000_000));
        }
        // What a slow player did not read in its time it never will.
        if now >= until && self.slow.is_some() {
            return Ok(true);
        }
        if self.phase == Phase::FirstFrame {
            return self.without_frame(now, until);
        }
        if now < until || now >= until + DRAIN.as_nanos() as u64 {
            return Ok(now >= until);
        }
        Ok(match &self.receiver {
            Some(receiver) => receiver.borrow().complete(self.run(), until, now < until + STRAGGLERS_NS),
            None => {
                self.out.is_empty()
                    && self.tap.as_ref().is_none_or(|tap| tap.due() >= until)
                    && self.run().playing.load(Ordering::Relaxed) == 0
            }
        })
    }

    /// The same of a player that got no frame yet: it fails only where one had to come.
    fn without_frame(&self, now: u64, until: u64) -> Result<bool, Failure> {
        let owed = |until| {
            let receiver = self.receiver.as_ref().map(|receiver| receiver.borrow());
            receiver.map_or(Owed::Nothing, |receiver| receiver.owed(self.run(), self.since, until))
        };
        let late = if now < until { now >= self.limit() } else { now >= until + DRAIN.as_nanos() as u64 };
        match owed(until.min(now)) {
            Owed::Frames if late => self.nothing_came(now),
            Owed::Frames => Ok(false),
            Owed::Maybe => Ok(now >= until + STRAGGLERS_NS),
            Owed::Unknown if now >= self.limit() => self.nothing_came(now),
            Owed::Nothing | Owed::Unknown => Ok(now >= until),
        }
    }

    fn nothing_came<T>(&self, now: u64) -> Result<T, Failure> {
        self.fail(format!("nothing within {:?}", Duration::from_millis((now - self.since) / 1_000_000)))
    }

    /// When the first frame must have come.
    fn limit(&self) -> u64 {
        (self.since + PHASE_NS).min(self.run().end())
    }

    /// Reads once, if there is something and its time has come; when it was read.
    fn receive(&mut self, cx: &mut Context<'_>) -> Result<Poll<u64>, Failure> {
        let Some(due) = self.next_read else { return self.read(cx) };
        let now = self.now();
        if now < due {
            return Ok(Poll::Pending);
        }
        self.shard.stats.borrow_mut().record_ns(Metric::Lag, due, now);
        // Nobody is to be woken by what comes between two sweeps.
        let mut idle = Context::from_waker(Waker::noop());
        let before = self.shard.stats.borrow().counts.bytes_received;
        for _ in 0..SWEPT_READS {
            if self.read(&mut idle)?.is_pending() || !self.filled {
                break;
            }
        }
        let swept = self.shard.stats.borrow().counts.bytes_received - before;
        self.judge_room(swept as usize);
        self.next_read = self.next_sweep(self.now());
        Ok(Poll::Pending)
    }

    /// A socket that two ticks on end find full holds up what the target sends: that frames come late is then of our making. What a target held back
    /// for a while comes at one tick.
    fn judge_room(&mut self, swept: usize) {
        // Sockets begin with room for so much: below that there is no need to ask.
        let room = self.link.as_ref().filter(|_| self.slow.is_none() && swept >= FULL).and_then(Link::room);
        let full = room.is_some_and(|room| 3 * swept >= 2 * room);
        if std::mem::replace(&mut self.full, full) && full {
            self.shard.stats.borrow_mut().counts.full_sweeps += 1;
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Result<Poll<u64>, Failure> {
        let shard = self.shard.clone();
        let mut buffer = shard.buffer.borrow_mut();
        let room = match &self.slow {
            Some(slow) if self.up => slow.left(self.now()).min(buffer.len()),
            _ => buffer.len(),
        };
        let (Some(link), 1..) = (&mut self.link, room) else { return Ok(Poll::Pending) };
        let by_pieces = link.reads_by_pieces();
        let got = match link.poll_read(cx, &mut buffer[..room], &mut shard.control.borrow_mut()) {
            Poll::Ready(Ok(got)) if got.bytes == 0 => return self.fail("closed by the target"),
            Poll::Ready(Ok(got)) => got,
            Poll::Ready(Err(e)) => return self.fail(e.to_string()),
            Poll::Pending => return Ok(Poll::Pending),
        };
        let now = self.now();
        let at = shard.receipt(got.stamp.filter(|_| self.stamped()), now);
        {
            let mut stats = shard.stats.borrow_mut();
            stats.counts.bytes_received += got.bytes as u64;
            if at < now {
                stats.record_ns(Metric::Lag, at, now);
            }
        }
        self.filled = got.bytes == room || by_pieces;
        if let Some(slow) = &mut self.slow {
            slow.bytes += got.bytes as u64;
        }
        self.take(&buffer[..got.bytes], at)?;
        self.hold()?;
        Ok(Poll::Ready(now))
    }

    /// Tells the shard what it holds.
    fn hold(&mut self) -> Result<(), Failure> {
        let held = self.session.held_bytes() + self.out.len();
        if self.shard.hold(std::mem::replace(&mut self.held, held), held) {
            return Ok(());
        }
        let mib = self.run().plan.held_bytes >> 20;
        self.fail(format!(
            "what the target does not end or does not take fills the {mib} MiB that all sessions may hold"
        ))
    }

    /// Whether the kernel's stamps tell when something came.
    fn stamped(&self) -> bool {
        !self.publishes() && self.run().plan.tick.is_none() && self.slow.is_none()
    }

    /// Players that are up read when the tick comes round, if so asked: all of a process together.
    fn begin_sweeps(&mut self) -> Result<(), Failure> {
        self.next_read = self.next_sweep(self.now());
        if self.next_read.is_some() {
            let unwatched = self.link.take().map(Link::unwatch).transpose();
            self.link = unwatched.or_else(|e| self.fail(e.to_string()))?;
        }
        Ok(())
    }

    fn next_sweep(&self, now: u64) -> Option<u64> {
        if self.slow.is_some() {
            return Some(now + SLOW_NS);
        }
        self.run().next_tick(now).filter(|_| !self.publishes())
    }

    /// Takes bytes that came at this instant.
    fn take(&mut self, mut bytes: &[u8], at: u64) -> Result<(), Failure> {
        while !self.skims {
            let mut rest = bytes;
            let step = match self.session.read(self.time(at), &mut rest) {
                Ok(Some(Event::Message(header, payload))) => {
                    self.shard.message(self.receiver.as_ref(), self.slow.is_some(), at, header, payload);
                    self.shard.said.borrow_mut().keep(header.type_id, payload);
                    Step::On
                }
                Ok(Some(Event::Note(note))) => {
                    self.shard.stats.borrow_mut().note(note);
                    Step::On
                }
                Ok(Some(Event::Reached(goal))) => Step::Reached(goal),
                Ok(Some(Event::Refused(refused @ Refusal::Version(_)))) => Step::Fail(refused.to_string()),
                Ok(Some(Event::Refused(_))) => Step::Fail(self.shard.said.borrow().refusal()),
                Ok(Some(_)) => Step::On,
                Ok(None) => break,
                Err(e) => Step::Fail(e.to_string()),
            };
            bytes = &bytes[bytes.len() - rest.len()..];
            match step {
                Step::On => {}
                Step::Reached(goal) => self.reached(goal, at)?,
                Step::Fail(why) => return self.fail(why),
            }
            // A message that is half read is read to its end.
            self.skims = self.up && self.session.held_bytes() == 0;
            if self.skims {
                self.session.settle();
            }
        }
        if self.skims {
            self.skim(bytes, at)?;
        }
        let came = |receiver: &Rc<RefCell<Receiver>>| receiver.borrow().last_ns().is_some();
        if self.phase == Phase::FirstFrame && self.receiver.as_ref().is_some_and(came) {
            self.phase = Phase::Media;
            self.run().serve(self.job.role);
        }
        Ok(())
    }

    /// The same when only media and what asks for an answer matter.
    fn skim(&mut self, mut bytes: &[u8], at: u64) -> Result<(), Failure> {
        let time = self.time(at);
        loop {
            match self.session.skim(time, &mut bytes) {
                Ok(Some(Skimmed::Message(header, payload))) => {
                    self.shard.message(self.receiver.as_ref(), self.slow.is_some(), at, header, payload);
                }
                Ok(Some(Skimmed::Part)) => {}
                Ok(None) => return Ok(()),
                Err(e) => return self.fail(e.to_string()),
            }
        }
    }

    fn reached(&mut self, goal: Goal, at: u64) -> Result<(), Failure> {
        match goal {
            Goal::Open => {}
            Goal::Handshaken => self.pass(Metric::Handshake, Phase::Connect, at),
            Goal::Connected => self.pass(Metric::Connect, Phase::CreateStream, at),
            Goal::Created if self.publishes() => self.pass(Metric::CreateStream, Phase::Publish, at),
            Goal::Created => {
                self.pass(Metric::CreateStream, Phase::Play, at);
                let receiver = Rc::new(RefCell::new(Receiver::new(self.publisher, self.now())));
                if self.slow.is_none() {
                    self.shard.receivers.borrow_mut().push(receiver.clone());
                }
                self.receiver = Some(receiver);
            }
            Goal::Publishing => {
                self.pass(Metric::PublishStart, Phase::Media, at);
                self.begin();
                for message in self.shard.run.media.headers() {
                    self.session.send(message, Fields { timestamp: Some(0), ..Fields::default() });
                }
                if let Some(publisher) = self.publisher {
                    let slot = &self.shard.run.slots[publisher as usize];
                    slot.began_ns.store(self.now(), Ordering::Release);
                }
            }
            Goal::Playing => {
                self.pass(Metric::PlayStart, Phase::FirstFrame, at);
                self.begin();
                if let Some(slow) = &mut self.slow {
                    (slow.since, slow.bytes) = (at, 0);
                }
                self.begin_sweeps()?;
            }
        }
        Ok(())
    }

    fn begin(&mut self) {
        self.up = true;
        self.shard.up.set(self.shard.up.get() + 1);
        self.shard.stats.borrow_mut().counts.started += 1;
    }

    /// Accounts for the session.
    fn end(&mut self, mut result: Result<(), Failure>) {
        let now = self.now();
        self.shard.hold(self.held, 0);
        // Why a slow player lost its place is the target's way with slow ones.
        let slow = self.slow.is_some() && self.up;
        let mut stats = self.shard.account(slow).borrow_mut();
        if self.up {
            self.shard.up.set(self.shard.up.get() - 1);
        }
        let until = self.until().min(now);
        let mut silence = None;
        if let Some(receiver) = self.receiver.take() {
            receiver.borrow().end(self.run(), &mut stats, until, now);
            let absent = receiver.borrow().absent(self.run(), until).filter(|_| !slow && result.is_ok());
            result = absent.map_or(result, |why| Err((Phase::FirstFrame, why)));
            silence = receiver.borrow().silence(until).filter(|_| !slow);
        } else if let Role::Publisher(number) = self.job.role {
            let until = if result.is_ok() { until } else { now };
            self.shard.run.slots[number as usize].ended_ns.store(until, Ordering::Release);
        }
        // Of a stream that is not ours a frame may yet have come, or there may be none.
        let waits = self.phase == Phase::FirstFrame && self.publisher.is_none() && !slow;
        match result {
            Ok(()) if !self.up => stats.cut_off(self.phase, now - self.began, false),
            // Nobody knows when a stream that is not ours, but is there, has its next key frame.
            Ok(()) if waits => {
                stats.cut_off(self.phase, now - self.since, self.run().is_served(self.job.role));
            }
            Ok(()) => {
                stats.counts.ended += 1;
                silence.into_iter().for_each(|(ago, said)| stats.last_came(ago, said));
            }
            Err((phase, why)) => stats.fail(phase, why),
        }
    }
}
