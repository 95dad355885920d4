//! A player that waits on a name before it is published, and what it got in the end.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::ANSWER_TIME;
use super::compare::{self, Coded, Headers, Part};
use super::line::{Limit, Line, Stop};
use super::recording::carries_media;
use crate::net::conn::Dial;
use crate::net::relay::{self, Frame};
use crate::record::replay::{Difference, Verify};
use crate::wire::chunk::MessageHeader;
use crate::wire::message::type_id;
use crate::wire::session::{Config, Event, Goal};

/// How long nothing more comes before the player is done, while something is missing.
const DRAIN: Duration = Duration::from_secs(3);
/// How long nothing more comes before the player is done, when all is there.
const QUIET: Duration = Duration::from_millis(300);
/// Bytes kept of frames that were never sent, and of more than were sent, at most.
const MAX_STRANGE: usize = 8 << 20;

/// A player beside a publication.
pub struct Watcher {
    dial: Arc<dyn Dial>,
    config: Config,
    limit: Limit,
    shared: Arc<Shared>,
    player: JoinHandle<()>,
    ended: watch::Sender<bool>,
    /// Its stream is there, and it was looked at again.
    late: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// `Ok` when it plays.
    ready: Option<Result<(), String>>,
    /// What the target has answered so far, and when.
    reached: Goal,
    stepped: Option<Instant>,
    /// What it did not answer for [`ANSWER_TIME`], in words.
    unanswered: Option<String>,
    /// So many of `sent` were sent before it played.
    before: usize,
    sent: Vec<Coded>,
    /// The places of each kind's frames in `sent`.
    by_kind: [Vec<usize>; 2],
    came: Vec<Coded>,
    /// What stands of the headers that were sent, and of those that came.
    headers: [Headers; 2],
    /// Frames of each kind that came.
    counts: [usize; 2],
    strange: usize,
    /// Of these, what had no room.
    left_out: u64,
    /// The payloads in `sent`, and of the headers that were sent.
    known: HashSet<Bytes>,
    progress: Option<Instant>,
    closed: Option<Stop>,
}

impl Watcher {
    /// Starts a player of the configured name.
    pub fn start(dial: Arc<dyn Dial>, config: Config, limit: Limit) -> Watcher {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Notify::new() });
        let (ended, end) = watch::channel(false);
        let player = tokio::spawn(play(dial.clone(), config.clone(), limit.clone(), shared.clone(), end));
        Watcher { dial, config, limit, shared, player, ended, late: false }
    }

    /// Whether it does not play, and may still when its stream is there.
    pub fn may_try_again(&self) -> bool {
        let state = self.shared.lock();
        !self.late && (matches!(state.ready, Some(Err(_))) || state.ready.is_none())
    }

    /// Whether it plays this name, or still waits for it.
    pub fn is_there(&self, name: &str) -> bool {
        let state = self.shared.lock();
        self.config.name == name && state.closed.is_none() && !matches!(state.ready, Some(Err(_)))
    }

    /// Another player in place of one that was refused; one that was not answered stays.
    pub fn again(self) -> Watcher {
        let waits = self.shared.lock().ready.is_none();
        if waits {
            return Watcher { late: true, ..self };
        }
        let _ = self.ended.send(true);
        Watcher { late: true, ..Watcher::start(self.dial, self.config, self.limit) }
    }

    /// Returns when it plays or does not, or when the target has not answered it for [`ANSWER_TIME`].
    pub async fn ready(&self) {
        let began = Instant::now();
        loop {
            let changed = self.shared.changed.notified();
            let until = {
                let state = self.shared.lock();
                if state.ready.is_some() {
                    return;
                }
                state.stepped.map_or(began, |stepped| stepped.max(began)) + ANSWER_TIME
            };
            if tokio::time::timeout_at(until, changed).await.is_err() {
                return self.shared.set(State::give_up);
            }
        }
    }

    /// Notes what is about to be published.
    pub fn sent(&self, header: &MessageHeader, payload: &Bytes) {
        let mut state = self.shared.lock();
        relay::each_of(header, payload, |type_id, timestamp, payload| {
            state.publish(type_id, timestamp, payload);
        });
        state.progress = Some(Instant::now());
    }

    /// When there is nothing to wait for any more, unless more comes; `None`: at once.
    pub fn drained_at(&self) -> Option<Instant> {
        let state = self.shared.lock();
        let done = state.came.len() >= state.sent.len() || state.closed.is_some();
        state.progress.filter(|_| !done).map(|at| at + DRAIN)
    }

    /// Returns when something came.
    pub async fn arrival(&self) {
        self.shared.changed.notified().await;
    }

    /// Waits for what is outstanding and compares.
    pub async fn finish(self, mask: impl Fn(&str) -> String) -> Verify {
        let _ = self.ended.send(true);
        let _ = self.player.await;
        let state = self.shared.lock();
        let (sent, came) = (state.sent.len() as u64, state.counts.iter().sum::<usize>() as u64);
        let (held, why, differences) = state.judge();
        Verify { name: mask(&self.config.name), held, sent, came, why, differences }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_waiters();
    }
}

impl State {
    /// Whether all came as it was sent, `None` where nothing can be said; what is wrong, and each difference.
    fn judge(&self) -> (Option<bool>, Option<String>, Vec<Difference>) {
        if self.sent.is_empty() {
            return (None, Some("nothing was published, so that nothing is compared".into()), Vec::new());
        }
        let ours = self.closed.iter().find(|stop| matches!(stop, Stop::Late | Stop::Interrupted));
        if let (Some(Err(refused)), None) = (&self.ready, ours) {
            return (Some(false), Some(refused.clone()), Vec::new());
        }
        let (mut differences, unseen) = compare::differences(&self.sent, &self.came, self.judged_from());
        if ours.is_some() {
            // What was on its way then may not have come.
            differences.retain(|d| d.kind != "missing");
        }
        let unanswered = self.unanswered.iter().filter(|_| unseen > 0 && ours.is_none());
        let unanswered = unanswered.map(|what| match self.ready {
            Some(_) => format!(
                "{what}; {unseen} frames that were sent before it was did not come, and are not compared"
            ),
            None => format!("{what}, and no frame came: nothing is compared"),
        });
        let sentences = differences
            .iter()
            .map(|d| compare::sentence(d, self.by_kind[usize::from(d.media == "video")].len()));
        let found = !differences.is_empty();
        let more = (found && self.left_out > 0)
            .then(|| format!("{} frames too many are not compared", self.left_out));
        let closed = self.closed.iter().filter(|_| found || ours.is_some());
        let closed = closed.map(|closed| format!("the player: {closed}"));
        let why: Vec<String> = sentences.chain(unanswered).chain(more).chain(closed).collect();
        let held = match (found, ours) {
            (false, Some(_)) => None,
            _ => Some(why.is_empty()),
        };
        (held, (!why.is_empty()).then(|| why.join("; ")), differences)
    }

    /// The first of `sent` that must come.
    fn judged_from(&self) -> usize {
        if self.ready == Some(Ok(())) { self.before } else { self.sent.len() }
    }

    fn step(&mut self, goal: Goal) {
        (self.reached, self.stepped) = (goal, Some(Instant::now()));
        if goal == Goal::Playing {
            (self.ready, self.before) = (Some(Ok(())), self.sent.len());
        }
    }

    fn give_up(&mut self) {
        let what = match self.reached {
            Goal::Open => "handshake",
            Goal::Handshaken => "connect",
            Goal::Connected => "createStream",
            _ => "play",
        };
        let words = || format!("the player's {what} was not answered within {ANSWER_TIME:?}");
        self.unanswered.get_or_insert_with(words);
    }

    /// What is about to be published.
    fn publish(&mut self, type_id: u8, timestamp: u32, payload: &Bytes) {
        let header = match self.headers[0].take(type_id, payload, || payload.clone()) {
            Part::Other => return,
            Part::Header => None,
            Part::Frame(header) => Some(header),
        };
        self.known.insert(payload.clone());
        if let Some(header) = header {
            self.by_kind[kind(type_id)].push(self.sent.len());
            let frame = Frame { type_id, timestamp, payload: payload.clone(), order: 0 };
            self.sent.push(Coded { frame, header });
        }
    }

    /// What came.
    fn receive(&mut self, type_id: u8, timestamp: u32, payload: &Bytes) {
        let known = self.known.get(payload).cloned();
        let strange = &mut self.strange;
        let header = match self.headers[1].take(type_id, payload, || {
            known.clone().unwrap_or_else(|| {
                *strange += payload.len();
                payload.slice(..payload.len().min(MAX_STRANGE.saturating_sub(*strange)))
            })
        }) {
            Part::Frame(header) => header,
            Part::Header | Part::Other => return,
        };
        let kind = kind(type_id);
        self.counts[kind] += 1;
        let is_due = known.is_some() && self.counts[kind] <= self.by_kind[kind].len();
        if is_due {
            self.progress = Some(Instant::now());
        } else if self.strange > MAX_STRANGE {
            self.left_out += 1;
            return;
        } else {
            self.strange += size_of::<Coded>() + if known.is_some() { 0 } else { payload.len() };
        }
        // The bytes that are there already are not kept twice.
        let payload = known.unwrap_or_else(|| payload.clone());
        self.came.push(Coded { frame: Frame { type_id, timestamp, payload, order: 0 }, header });
    }
}

fn kind(type_id: u8) -> usize {
    usize::from(type_id == type_id::VIDEO)
}

/// The player's connection, until all came and nothing more does.
async fn play(
    dial: Arc<dyn Dial>,
    config: Config,
    limit: Limit,
    shared: Arc<Shared>,
    mut end: watch::Receiver<bool>,
) {
    let io = match dial.dial().await {
        Ok(io) => io,
        Err(e) => return shared.set(|s| s.ready = Some(Err(format!("the player got no connection: {e}")))),
    };
    let mut line = Line::new(io, config, limit);
    line.session.pursue(line.now(), Goal::Playing);
    let mut hear = |event: Event<'_>| match event {
        Event::Reached(goal) => shared.set(|s| s.step(goal)),
        Event::Refused(refusal) => {
            shared.set(|s| s.ready = Some(Err(format!("the player was refused: {refusal}"))));
        }
        Event::Message(header, payload) if carries_media(header.type_id) => {
            let payload = Bytes::copy_from_slice(payload);
            shared.set(|s| relay::each_of(&header, &payload, |t, time, payload| s.receive(t, time, payload)));
        }
        _ => {}
    };
    loop {
        let far = Instant::now() + Duration::from_secs(3600);
        let until = if *end.borrow() { quiet_at(&shared) } else { far };
        let turned = tokio::select! {
            turned = line.turn(until, &mut hear) => turned,
            Ok(()) = end.changed() => continue,
        };
        match turned {
            Ok(true) => {}
            Ok(false) => break,
            Err(why) => {
                shared.set(|s| {
                    s.ready.get_or_insert(Err(format!("the player: {why}")));
                    s.closed = Some(why);
                });
                return;
            }
        }
    }
    line.close(&mut hear).await;
}

/// When a player whose publisher is done has waited long enough.
fn quiet_at(shared: &Shared) -> Instant {
    let state = shared.lock();
    let wait = if state.came.len() >= state.sent.len() { QUIET } else { DRAIN };
    state.progress.unwrap_or_else(Instant::now) + wait
}
