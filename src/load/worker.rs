//! One publisher or player, from the first SYN to the end.

use std::cell::RefCell;
use std::io::{self, IoSliceMut, Read, Write};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{sleep, sleep_until, timeout};

use super::media::{Kind, Stamp};
use super::plan::{Job, Role};
use super::shard::Shard;
use super::stats::{Metric, Phase};
use super::track::Receiver;
use super::{Run, Slot};
use crate::wire::chunk::Limits;
use crate::wire::message::Message;
use crate::wire::session::{Config, Event, Fields, Goal, Refusal, Session};
use crate::wire::time::Time;

/// What each phase before media may take.
const PHASE_NS: u64 = 10_000_000_000;
/// How long a publisher waits for a target that takes no more bytes.
const STUCK_NS: u64 = 10_000_000_000;
/// How often a session that gets nothing looks at the time.
const LOOK_NS: u64 = 100_000_000;
/// How long frames that others overtook are waited for at the end.
const STRAGGLERS_NS: u64 = 500_000_000;
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
    if let Some((publisher, name)) = stream_of(&shard.run, job.role).await {
        shard.stats.borrow_mut().counts.attempted += 1;
        let mut worker = Worker::new(&shard, job, publisher, name);
        let result = worker.run().await;
        worker.end(result);
    }
    if player {
        shard.run.playing.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What it publishes or plays: players are spread over the streams that are there. `None` when there will be none.
async fn stream_of(run: &Run, role: Role) -> Option<(Option<u32>, String)> {
    let number = match (role, &run.plan.play) {
        (Role::Publisher(i), _) => return Some((Some(i), run.name(i))),
        (Role::Player(_), Some(name)) => return Some((None, format!("{name}{}", run.suffix))),
        (Role::Player(number), None) => number,
    };
    let count = run.plan.publishers;
    let mut tried = 0;
    while tried < count && run.clock.now() < run.silence() {
        let wanted = (number % count + tried) % count;
        match run.slots[wanted as usize].state() {
            State::Live => return Some((Some(wanted), run.name(wanted))),
            State::Gone => tried += 1,
            State::Coming => sleep(Duration::from_millis(5)).await,
        }
    }
    None
}

enum State {
    Coming,
    Live,
    Gone,
}

impl Slot {
    fn state(&self) -> State {
        match (self.began_ns.load(Ordering::Acquire), self.ended_ns.load(Ordering::Acquire)) {
            (_, 1..) => State::Gone,
            (0, _) => State::Coming,
            _ => State::Live,
        }
    }
}

/// What follows from an event.
enum Step {
    On,
    Reached(Goal),
    Fail(String),
}

struct Worker<'a> {
    shard: &'a Rc<Shard>,
    run: &'a Run,
    job: Job,
    publisher: Option<u32>,
    session: Session,
    phase: Phase,
    /// When the phase began.
    since: u64,
    /// Bytes that the socket did not take yet.
    out: Vec<u8>,
    written: usize,
    /// The socket takes no more; when it took bytes last, and when it last took all again.
    blocked: bool,
    moved: u64,
    unblocked: u64,
    /// The next frame of each kind, at a publisher.
    next: [u32; 2],
    receiver: Option<Rc<RefCell<Receiver>>>,
    /// It publishes or plays.
    up: bool,
}

impl<'a> Worker<'a> {
    fn new(shard: &'a Rc<Shard>, job: Job, publisher: Option<u32>, name: String) -> Worker<'a> {
        let run = &*shard.run;
        let publishes = matches!(job.role, Role::Publisher(_));
        let (Role::Publisher(number) | Role::Player(number)) = job.role;
        let config = Config {
            app: run.app.clone(),
            tc_url: run.tc_url.clone(),
            name,
            chunk_size: publishes.then_some(CHUNK_SIZE),
            seed: u64::from(run.id) << 33 | u64::from(number) << 1 | u64::from(publishes),
            limits: LIMITS,
            ..Config::default()
        };
        Worker {
            shard,
            run,
            job,
            publisher,
            session: Session::client(config),
            phase: Phase::Tcp,
            since: run.clock.now(),
            out: Vec::new(),
            written: 0,
            blocked: false,
            moved: 0,
            unblocked: 0,
            next: [0; 2],
            receiver: None,
            up: false,
        }
    }

    fn now(&self) -> u64 {
        self.run.clock.now()
    }

    fn time(&self, now: u64) -> Time {
        Time::from_micros((now - self.run.clock.origin_ns) / 1000)
    }

    fn publishes(&self) -> bool {
        matches!(self.job.role, Role::Publisher(_))
    }

    fn fail<T>(&self, why: impl Into<String>) -> Result<T, Failure> {
        Err((self.phase, why.into()))
    }

    /// When it stops sending, or counting what it gets.
    fn until(&self) -> u64 {
        let own = self.job.end.map_or(u64::MAX, |end| self.run.clock.at(end));
        own.min(self.run.silence())
    }

    async fn run(&mut self) -> Result<(), Failure> {
        let patience = Duration::from_nanos(PHASE_NS / 2);
        let stream = match timeout(patience, TcpStream::connect(self.run.addr)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(e)) => return self.fail(e.to_string()),
            Err(_) => return self.fail(format!("no connection within {patience:?}")),
        };
        let now = self.now();
        self.pass(Metric::Tcp, Phase::Handshake, now);
        // Without these two the numbers are worse and the session is as good.
        let _ = stream.set_nodelay(true);
        let _ = setsockopt(&stream, sockopt::ReceiveTimestampns, &true);
        let goal = if self.publishes() { Goal::Publishing } else { Goal::Playing };
        self.session.pursue(self.time(now), goal);
        let swept = self.run.plan.tick.filter(|_| !self.publishes());
        let done = self.serve(&stream, swept.is_some()).await?;
        match (done, swept) {
            (false, Some(tick)) => {
                let stream = stream.into_std().map_err(|e| (self.phase, e.to_string()))?;
                self.sweep(stream, tick).await
            }
            _ => Ok(()),
        }
    }

    /// The phase is over: how long it took, and what comes next.
    fn pass(&mut self, metric: Metric, next: Phase, now: u64) {
        self.shard.stats.borrow_mut().record_ns(metric, self.since, now);
        (self.phase, self.since) = (next, now);
    }

    /// Reads at once and writes on time, until all is done (true) or, if so asked, until it is up.
    async fn serve(&mut self, stream: &TcpStream, until_up: bool) -> Result<bool, Failure> {
        let mut armed = self.wake(self.now());
        let mut timer = std::pin::pin!(sleep_until(self.run.clock.instant(armed)));
        loop {
            self.collect(|bytes| stream.try_write(bytes))?;
            let now = self.now();
            if self.finished(now)? {
                return Ok(true);
            }
            if until_up && self.up {
                return Ok(false);
            }
            let wake = self.wake(now);
            if wake != armed && (wake < armed || now >= armed) {
                armed = wake;
                timer.as_mut().reset(self.run.clock.instant(armed));
            }
            tokio::select! {
                biased;
                ready = stream.readable() => {
                    ready.map_err(|e| (self.phase, e.to_string()))?;
                    self.receive(stream)?;
                }
                _ = stream.writable(), if self.written < self.out.len() => {}
                () = &mut timer => {}
            }
            self.publish(stream)?;
        }
    }

    /// When to look again at the latest.
    fn wake(&self, now: u64) -> u64 {
        let look = now + LOOK_NS;
        let sends = self.publisher.filter(|_| self.up && self.publishes() && self.out.is_empty());
        let due = sends.map(|publisher| self.due(publisher).1).filter(|due| *due < self.until());
        due.map_or(look, |due| due.min(look))
    }

    /// The next frame and its planned instant.
    fn due(&self, publisher: u32) -> (Kind, u64) {
        let at = |kind: Kind| self.run.planned_ns(publisher, kind, self.next[kind as usize]);
        let (video, audio) = (at(Kind::Video), at(Kind::Audio));
        if audio < video { (Kind::Audio, audio) } else { (Kind::Video, video) }
    }

    /// Writes what the session has to say and what is left.
    fn collect(&mut self, mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> Result<(), Failure> {
        let said = self.session.output();
        self.out.extend_from_slice(&said);
        while self.written < self.out.len() {
            match write(&self.out[self.written..]) {
                Ok(n @ 1..) => {
                    self.written += n;
                    self.moved = if self.blocked { self.now() } else { self.moved };
                    self.shard.stats.borrow_mut().counts.bytes_sent += n as u64;
                }
                Ok(_) => return self.fail("the target takes no more"),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if !std::mem::replace(&mut self.blocked, true) {
                        self.moved = self.now();
                    }
                    return Ok(());
                }
                Err(e) => return self.fail(e.to_string()),
            }
        }
        if std::mem::take(&mut self.blocked) {
            self.unblocked = self.now();
        }
        (self.out, self.written) = (Vec::new(), 0);
        Ok(())
    }

    /// Whether it is through; an error when its time is up.
    fn finished(&self, now: u64) -> Result<bool, Failure> {
        let waits_for_frames = self.phase == Phase::FirstFrame;
        if !self.up || waits_for_frames {
            let limit = (self.since + PHASE_NS).min(self.run.end());
            return if now < limit {
                Ok(false)
            } else {
                self.fail(format!(
                    "nothing within {:?}",
                    Duration::from_millis((now - self.since) / 1_000_000)
                ))
            };
        }
        let until = self.until();
        if self.blocked && now > self.moved + STUCK_NS {
            return self.fail(format!("the target took no bytes for {} s", STUCK_NS / 1_000_000_000));
        }
        if now < until {
            return Ok(false);
        }
        if now >= until + super::DRAIN.as_nanos() as u64 {
            return Ok(true);
        }
        Ok(match &self.receiver {
            Some(receiver) => receiver.borrow().complete(self.run, until, now < until + STRAGGLERS_NS),
            None => {
                self.out.is_empty() && self.caught_up(until) && self.run.playing.load(Ordering::Relaxed) == 0
            }
        })
    }

    fn caught_up(&self, until: u64) -> bool {
        self.publisher.is_none_or(|publisher| self.due(publisher).1 >= until)
    }

    /// Sends the frames whose time has come, as long as the socket takes them.
    fn publish(&mut self, stream: &TcpStream) -> Result<(), Failure> {
        let Some(publisher) = self.publisher.filter(|_| self.up && self.publishes()) else { return Ok(()) };
        let until = self.until();
        loop {
            let (kind, due) = self.due(publisher);
            let now = self.now();
            if due > now || due >= until || !self.out.is_empty() {
                return Ok(());
            }
            // What the target's refusal to take bytes delayed is not our lateness.
            self.shard.stats.borrow_mut().record_ns(Metric::Lag, due.max(self.unblocked), now);
            self.shard.stats.borrow_mut().counts.sent += 1;
            self.frame(publisher, kind, due, now);
            self.collect(|bytes| stream.try_write(bytes))?;
        }
    }

    fn frame(&mut self, publisher: u32, kind: Kind, due: u64, now: u64) {
        let seq = self.next[kind as usize];
        self.next[kind as usize] += 1;
        let late_us = u32::try_from((now - due) / 1000).unwrap_or(u32::MAX);
        let stamp = Stamp { run: self.run.id, publisher, seq, planned_ns: due, late_us };
        let media = &self.run.media;
        let Some(frame) = media.frame(kind, seq) else { return };
        let payload = frame.stamped(&stamp);
        let message = match kind {
            Kind::Video => Message::Video(payload),
            Kind::Audio => Message::Audio(payload),
        };
        let fields = Fields { timestamp: Some(media.timestamp(kind, seq)), ..Fields::default() };
        for message in media.ahead(kind, seq).iter().chain([&message]) {
            self.session.send(message, fields);
        }
    }

    /// Reads what there is, with the kernel's stamp of it.
    fn receive(&mut self, stream: &TcpStream) -> Result<(), Failure> {
        let mut buffer = self.shard.buffer.borrow_mut();
        let mut control = self.shard.control.borrow_mut();
        let mut got = None;
        let tried = stream.try_io(Interest::READABLE, || {
            let room = buffer.len();
            let mut slices = [IoSliceMut::new(&mut buffer)];
            let read = recvmsg::<()>(stream.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::empty())?;
            let stamp = read.cmsgs().ok().into_iter().flatten().find_map(|message| match message {
                ControlMessageOwned::ScmTimestampns(at) => {
                    Some(at.tv_sec() as u64 * 1_000_000_000 + at.tv_nsec() as u64)
                }
                _ => None,
            });
            got = Some((read.bytes, stamp));
            // What came was all there was: without this the next wait would cost another read.
            if (1..room).contains(&read.bytes) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match (got, tried) {
            (Some((0, _)), _) => self.fail("closed by the target"),
            (Some((n, stamp)), _) => {
                let now = self.now();
                let at = if self.publishes() { now } else { self.shard.receipt(stamp, now) };
                if at < now {
                    self.shard.stats.borrow_mut().record_ns(Metric::Lag, at, now);
                }
                self.take(&buffer[..n], at)
            }
            (None, Err(e)) if e.kind() != io::ErrorKind::WouldBlock => self.fail(e.to_string()),
            (None, _) => Ok(()),
        }
    }

    /// Reads everything each time the tick comes round; all players of a process sweep together.
    async fn sweep(&mut self, mut stream: std::net::TcpStream, tick: Duration) -> Result<(), Failure> {
        let tick = tick.as_nanos() as u64;
        loop {
            self.collect(|bytes| stream.write(bytes))?;
            let now = self.now();
            if self.finished(now)? {
                return Ok(());
            }
            let since = now - self.run.clock.origin_ns;
            sleep_until(self.run.clock.instant(now - since % tick + tick)).await;
            loop {
                let mut buffer = self.shard.buffer.borrow_mut();
                match stream.read(&mut buffer) {
                    Ok(0) => return self.fail("closed by the target"),
                    Ok(n) => {
                        self.take(&buffer[..n], self.now())?;
                        if n < buffer.len() {
                            break;
                        }
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(e) => return self.fail(e.to_string()),
                }
            }
        }
    }

    /// Takes bytes that came at this instant.
    fn take(&mut self, mut bytes: &[u8], at: u64) -> Result<(), Failure> {
        self.shard.stats.borrow_mut().counts.bytes_received += bytes.len() as u64;
        let time = self.time(at);
        loop {
            let mut rest = bytes;
            let step = match self.session.read(time, &mut rest) {
                Ok(Some(Event::Message(header, payload))) => {
                    if let (Some(kind), Some(receiver)) = (Kind::of(header.type_id), &self.receiver) {
                        let mut stats = self.shard.stats.borrow_mut();
                        receiver.borrow_mut().take(self.run, &mut stats, at, kind, header.type_id, payload);
                    }
                    Step::On
                }
                Ok(Some(Event::Reached(goal))) => Step::Reached(goal),
                Ok(Some(Event::Refused(Refusal::Version(byte)))) => Step::Fail(format!("S0 is {byte}")),
                Ok(Some(Event::Refused(_))) => Step::Fail("refused by the target".into()),
                Ok(Some(_)) => Step::On,
                Ok(None) => break,
                Err(e) => Step::Fail(e.to_string()),
            };
            bytes = &bytes[bytes.len() - rest.len()..];
            match step {
                Step::On => {}
                Step::Reached(goal) => self.reached(goal, at),
                Step::Fail(why) => return self.fail(why),
            }
        }
        let came = |receiver: &Rc<RefCell<Receiver>>| receiver.borrow().last_ns().is_some();
        if self.phase == Phase::FirstFrame && self.receiver.as_ref().is_some_and(came) {
            self.phase = Phase::Media;
        }
        Ok(())
    }

    fn reached(&mut self, goal: Goal, at: u64) {
        match goal {
            Goal::Open => {}
            Goal::Handshaken => self.pass(Metric::Handshake, Phase::Connect, at),
            Goal::Connected => self.pass(Metric::Connect, Phase::CreateStream, at),
            Goal::Created if self.publishes() => self.pass(Metric::CreateStream, Phase::Publish, at),
            Goal::Created => {
                self.pass(Metric::CreateStream, Phase::Play, at);
                let receiver = Rc::new(RefCell::new(Receiver::new(self.publisher, self.now())));
                let (Role::Publisher(number) | Role::Player(number)) = self.job.role;
                self.shard.players.borrow_mut().insert(number, receiver.clone());
                self.receiver = Some(receiver);
            }
            Goal::Publishing => {
                self.pass(Metric::PublishStart, Phase::Media, at);
                self.begin();
                for message in self.run.media.headers() {
                    self.session.send(message, Fields { timestamp: Some(0), ..Fields::default() });
                }
                if let Some(publisher) = self.publisher {
                    let slot = &self.run.slots[publisher as usize];
                    slot.began_ns.store(self.now(), Ordering::Release);
                }
            }
            Goal::Playing => {
                self.pass(Metric::PlayStart, Phase::FirstFrame, at);
                self.begin();
            }
        }
    }

    fn begin(&mut self) {
        self.up = true;
        self.shard.up.set(self.shard.up.get() + 1);
        self.shard.stats.borrow_mut().counts.started += 1;
    }

    /// Accounts for the session.
    fn end(&mut self, result: Result<(), Failure>) {
        let now = self.now();
        let mut stats = self.shard.stats.borrow_mut();
        if self.up {
            self.shard.up.set(self.shard.up.get() - 1);
        }
        let (Role::Publisher(number) | Role::Player(number)) = self.job.role;
        if let Some(receiver) = self.receiver.take() {
            receiver.borrow().end(self.run, &mut stats, self.until().min(now), now);
            self.shard.players.borrow_mut().remove(&number);
        } else if self.publishes() {
            let until = if result.is_ok() { self.until() } else { now };
            self.run.slots[number as usize].ended_ns.store(until.min(now), Ordering::Release);
        }
        match result {
            Ok(()) => stats.counts.ended += 1,
            Err((phase, why)) => stats.fail(phase, why),
        }
    }
}
