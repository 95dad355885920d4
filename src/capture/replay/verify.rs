//! A player that waits on a name before it is published, and what it got in the end.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::compare;
use super::line::{Limit, Line};
use super::recording::carries_media;
use crate::net::conn::Dial;
use crate::net::relay::{self, Frame};
use crate::record::replay::Verify;
use crate::wire::chunk::MessageHeader;
use crate::wire::message::type_id;
use crate::wire::session::{Config, Event, Goal};

/// How long play may take to be confirmed.
const PLAY_TIME: Duration = Duration::from_secs(3);
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
    /// It is the second try.
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
    sent: Vec<Frame>,
    /// The places of each kind's frames in `sent`.
    by_kind: [Vec<usize>; 2],
    came: Vec<Frame>,
    /// Frames of each kind that came.
    counts: [usize; 2],
    strange: usize,
    /// Of these, what had no room.
    left_out: u64,
    /// The payloads in `sent`.
    known: HashSet<Bytes>,
    progress: Option<Instant>,
    closed: Option<String>,
}

impl Watcher {
    /// Starts a player of the configured name.
    pub fn start(dial: Arc<dyn Dial>, config: Config, limit: Limit) -> Watcher {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Notify::new() });
        let (ended, end) = watch::channel(false);
        let player = tokio::spawn(play(dial.clone(), config.clone(), limit.clone(), shared.clone(), end));
        Watcher { dial, config, limit, shared, player, ended, late: false }
    }

    /// Whether the player was refused, and another may still try.
    pub fn may_try_again(&self) -> bool {
        !self.late && matches!(self.shared.lock().ready, Some(Err(_)))
    }

    /// Whether it plays this name, or still waits for it.
    pub fn is_there(&self, name: &str) -> bool {
        let state = self.shared.lock();
        self.config.name == name && state.closed.is_none() && !matches!(state.ready, Some(Err(_)))
    }

    /// Another player in place of one that was refused.
    pub fn again(self) -> Watcher {
        let _ = self.ended.send(true);
        Watcher { late: true, ..Watcher::start(self.dial, self.config, self.limit) }
    }

    /// Waits until it plays, for a while: `Ok` also when play was neither granted nor refused.
    ///
    /// # Errors
    /// Why it does not play.
    pub async fn ready(&self) -> Result<(), String> {
        let until = Instant::now() + PLAY_TIME;
        loop {
            let changed = self.shared.changed.notified();
            if let Some(ready) = &self.shared.lock().ready {
                return ready.clone();
            }
            if tokio::time::timeout_at(until, changed).await.is_err() {
                return Ok(());
            }
        }
    }

    /// Notes what is about to be published.
    pub fn sent(&self, header: &MessageHeader, payload: &Bytes) {
        let mut state = self.shared.lock();
        let State { sent, by_kind, known, .. } = &mut *state;
        let before = sent.len();
        relay::frames_of(header, payload, 0, sent);
        for (at, frame) in sent.iter().enumerate().skip(before) {
            by_kind[kind(frame.type_id)].push(at);
            known.insert(frame.payload.clone());
        }
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
        let counts = (state.sent.len() as u64, state.counts.iter().sum::<usize>() as u64);
        let (mut why, mut differences) = (None, Vec::new());
        if let Some(Err(refused)) = &state.ready {
            why = Some(refused.clone());
        } else if state.sent.is_empty() {
            why = (counts.1 > 0).then(|| "frames came and none was sent".into());
        } else {
            differences = compare::differences(&state.sent, &state.came);
            let sentences = differences
                .iter()
                .map(|d| compare::sentence(d, state.by_kind[usize::from(d.media == "video")].len()));
            let closed = state.closed.iter().map(|closed| format!("the player: {closed}"));
            let more =
                (state.left_out > 0).then(|| format!("{} frames too many are not compared", state.left_out));
            if !differences.is_empty() {
                why = Some(sentences.chain(more).chain(closed).collect::<Vec<_>>().join("; "));
            }
        }
        let name = mask(&self.config.name);
        Verify { name, held: why.is_none(), sent: counts.0, came: counts.1, why, differences }
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
    fn frames(&mut self, header: &MessageHeader, payload: &[u8]) {
        let mut frames = Vec::new();
        relay::frames_of(header, &Bytes::copy_from_slice(payload), 0, &mut frames);
        for mut frame in frames {
            let kind = kind(frame.type_id);
            self.counts[kind] += 1;
            let known = self.known.get(&frame.payload);
            let is_due = known.is_some() && self.counts[kind] <= self.by_kind[kind].len();
            if is_due {
                self.progress = Some(Instant::now());
            } else if self.strange > MAX_STRANGE {
                self.left_out += 1;
                continue;
            } else {
                self.strange += size_of::<Frame>() + if known.is_some() { 0 } else { frame.payload.len() };
            }
            // The bytes that are there already are not kept twice.
            frame.payload = known.cloned().unwrap_or(frame.payload);
            self.came.push(frame);
        }
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
        Event::Reached(Goal::Playing) => shared.set(|s| s.ready = Some(Ok(()))),
        Event::Refused(refusal) => {
            shared.set(|s| s.ready = Some(Err(format!("the player was refused: {refusal:?}"))));
        }
        Event::Message(header, payload) if carries_media(header.type_id) => {
            shared.set(|s| s.frames(&header, payload));
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
                    s.closed = Some(why.to_string());
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
