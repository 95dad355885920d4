//! What cases and calibration stand on: connections to the target, opened, brought to a goal, asked whether they are in step.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::ast::{TimeKind, TimeSpec};
use super::board::{Board, Look};
use super::trace;
use crate::net::conn::{Conn, Dial, Direction, Entry, Kept, Origin, Seen};
use crate::record::{Fingerprint, Milestone};
use crate::wire::amf0::Value;
use crate::wire::chunk::Limits;
use crate::wire::message::{Message, UserControl, type_id};
use crate::wire::session::{Config, Fields, Goal, Refusal};

/// What a case needs to know of its target.
#[derive(Clone)]
pub struct Context {
    /// Opens connections.
    pub dial: Arc<dyn Dial>,
    /// The application in connect.
    pub app: String,
    /// The URL in connect.
    pub tc_url: String,
    /// What every stream name begins with.
    pub prefix: String,
    /// What every stream name ends with.
    pub suffix: String,
    /// The target's process.
    pub pid: Option<u32>,
    /// What proves that a connection still parses.
    pub sentinel: Sentinel,
    /// It relays pictures as they were sent, and writes what is around them anew: nothing else is compared.
    pub remuxes: bool,
    /// What a new connection must reach for the target to be alive: connected, or less where calibration got no further.
    pub life: Goal,
    /// How long is waited.
    pub times: Times,
    /// What every random choice is drawn from.
    pub seed: u64,
    /// What the logs of the run take.
    pub kept: Kept,
}

/// The kinds of waits, fitted to a target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Times {
    /// What the defaults are multiplied by.
    pub scale: f64,
}

impl Times {
    /// How long this is.
    pub fn of(self, time: TimeSpec) -> Duration {
        match time {
            TimeSpec::Kind(kind) => self.kind(kind),
            TimeSpec::Exactly(duration) => duration,
        }
    }

    /// How long this kind of wait is.
    pub fn kind(self, kind: TimeKind) -> Duration {
        let seconds = match kind {
            TimeKind::Reply => 2.0,
            TimeKind::Quiet => 0.7,
            TimeKind::Close => 5.0,
            TimeKind::Relay => 3.0,
            TimeKind::Idle => 70.0,
            TimeKind::Slow => 120.0,
        };
        Duration::from_secs_f64(seconds * self.scale)
    }
}

/// What proves that a connection still parses; calibration takes the first that the target answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sentinel {
    /// A PingRequest on chunk stream 2.
    Ping,
    /// createStream with a fresh transaction id.
    CreateStream,
    /// A call of an unknown method with a fresh transaction id.
    Call,
}

impl Sentinel {
    /// In the order of preference.
    pub const ALL: [Sentinel; 3] = [Sentinel::Ping, Sentinel::CreateStream, Sentinel::Call];

    /// That which the fingerprint names; none where it is another sign, or nothing.
    pub fn of(fingerprint: &Fingerprint) -> Option<Sentinel> {
        Sentinel::ALL.into_iter().find(|s| Some(s.name()) == fingerprint.sentinel.as_deref())
    }

    /// As the fingerprint says it.
    pub fn name(self) -> &'static str {
        match self {
            Sentinel::Ping => "ping",
            Sentinel::CreateStream => "createStream",
            Sentinel::Call => "call",
        }
    }

    /// The question, and what its answer is; `n` makes it fresh.
    fn question(self, n: u32) -> (Message, impl Fn(&Entry) -> bool + Send) {
        let id = f64::from(900_000 + n);
        let token = 0x5EED_0000 + n;
        let question = match self {
            Sentinel::Ping => Message::UserControl(UserControl::PingRequest(token)),
            Sentinel::CreateStream => Message::command("createStream", id, vec![Value::Null]),
            Sentinel::Call => Message::command("areYouThere", id, vec![Value::Null]),
        };
        let is_answer = move |entry: &Entry| {
            let Seen::Message(header, payload) = &entry.seen else { return false };
            match Message::decode(header.type_id, payload) {
                Ok(Message::UserControl(UserControl::PingResponse(n))) => n == token,
                Ok(Message::Command(c)) => {
                    c.transaction_id == Some(id) && (c.name == "_result" || c.name == "_error")
                }
                _ => false,
            }
        };
        (question, is_answer)
    }
}

/// The connections of one case.
pub(super) struct Ground<'a> {
    pub(super) cx: &'a Context,
    pub(super) board: Board,
    /// This case's own.
    pub(super) seed: u64,
    began: Instant,
    life: Mutex<Life>,
    ids: AtomicU32,
}

/// What a case saw of its target's life.
#[derive(Debug, Clone, Default)]
pub(super) struct Life {
    /// When each connection was begun, by name: the last of that name.
    begun: BTreeMap<String, Instant>,
    /// Of connections that came as far as calibration: when each was begun, and when it had.
    pub(super) signs: Vec<(Instant, Instant)>,
    /// The target looked dead: no connection, or none that came to anything. When the first such was begun.
    pub(super) lifeless: Option<Instant>,
    /// A connection was opened.
    pub(super) met: bool,
    /// And one was refused.
    pub(super) refused: bool,
    /// When anything came last.
    pub(super) heard: Option<Instant>,
    /// When the peer closed connections.
    pub(super) closed: Vec<Instant>,
    /// How long before the peer closed a connection something was sent on it: the shortest.
    pub(super) provoked: Option<Duration>,
}

impl Life {
    fn sign(&mut self, name: &str) {
        if let Some(begun) = self.begun.get(name) {
            self.signs.push((*begun, Instant::now()));
        }
    }

    fn is_missed(&mut self, name: &str) {
        let begun = self.begun.get(name).copied().unwrap_or_else(Instant::now);
        self.lifeless = Some(self.lifeless.map_or(begun, |first| first.min(begun)));
    }
}

impl<'a> Ground<'a> {
    /// For the case of this id.
    pub(super) fn new(cx: &'a Context, id: &str) -> Ground<'a> {
        Ground {
            cx,
            board: Board::new(Origin::new(cx.kept.clone())),
            seed: case_seed(cx.seed, id),
            began: Instant::now(),
            life: Mutex::default(),
            ids: AtomicU32::new(0),
        }
    }

    /// A number that no other step of this case has.
    pub(super) fn fresh_id(&self) -> u32 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// When this kind of wait is over that begins now.
    pub(super) fn by(&self, kind: TimeKind) -> Instant {
        Instant::now() + self.cx.times.kind(kind)
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was seen of the target's life up to now.
    pub(super) fn seen_life(&self) -> Life {
        let mut life = self.life().clone();
        let instant = |entry: &Entry| self.began + Duration::from_micros(entry.at.as_micros());
        for (_, conn) in self.board.conns() {
            conn.log(|log| {
                let closed = log.iter().rposition(|entry| matches!(entry.seen, Seen::Closed(_)));
                let before = &log[..closed.unwrap_or(log.len())];
                let last = |of| before.iter().rev().find(|entry| entry.direction == of).map(instant);
                life.heard = life.heard.max(last(Direction::Received));
                life.closed.extend(closed.map(|at| instant(&log[at])));
                if let (Some(closed), Some(sent)) = (closed, last(Direction::Sent)) {
                    let gap = instant(&log[closed]).saturating_duration_since(sent);
                    life.provoked = Some(life.provoked.map_or(gap, |least| least.min(gap)));
                }
            });
        }
        life
    }

    /// `$name`.
    pub(super) fn stream_name(&self) -> String {
        self.other_name("")
    }

    /// Another stream's name: `$name` with this behind it, before its query.
    pub(super) fn other_name(&self, tail: &str) -> String {
        format!("{}{:010x}{tail}{}", self.cx.prefix, self.seed & 0xFF_FFFF_FFFF, self.cx.suffix)
    }

    /// What a well-behaved client of this case is like.
    pub(super) fn customary_config(&self) -> Config {
        Config {
            app: self.cx.app.clone(),
            tc_url: self.cx.tc_url.clone(),
            name: self.stream_name(),
            seed: self.seed.wrapping_add(u64::from(self.fresh_id())),
            report_chunks: true,
            // One of the largest messages at a time.
            limits: Limits { held_bytes: 17 << 20, ..Limits::default() },
            ..Config::default()
        }
    }

    /// Opens a connection and puts it on the board.
    pub(super) async fn open(&self, name: &str, config: Config) -> Result<Conn, String> {
        let wait = self.cx.times.kind(TimeKind::Reply);
        self.life().begun.insert(name.to_owned(), Instant::now());
        let why = match timeout(wait, self.cx.dial.dial()).await {
            Ok(Ok(io)) => {
                let conn = Conn::start(io, config, self.board.origin().clone());
                self.board.add(name, conn.clone());
                self.life().met = true;
                return Ok(conn);
            }
            Ok(Err(error)) => {
                self.life().refused = true;
                error.to_string()
            }
            Err(_) => format!("nothing within {} ms", wait.as_millis()),
        };
        self.life().is_missed(name);
        Err(format!("{name}: no connection: {why}"))
    }

    /// Brings a connection to a goal; each step on the way has the reply time. Gives the places of the answers that it used up.
    pub(super) async fn pursue(&self, name: &str, conn: &Conn, goal: Goal) -> Result<Vec<u64>, String> {
        let (mut at, mut used) = (conn.log(<[Entry]>::len), Vec::new());
        conn.pursue(goal);
        if conn.reached() >= goal {
            return Ok(used);
        }
        loop {
            let mut last = None;
            let step = self.board.watch(name, self.by(TimeKind::Reply), |log| {
                while let Some(entry) = log.get(at) {
                    at += 1;
                    match &entry.seen {
                        Seen::Message(..) if entry.direction == Direction::Received => {
                            last = Some(entry.order)
                        }
                        Seen::Reached(reached) => {
                            if *reached == self.cx.life {
                                self.life().sign(name);
                            }
                            used.extend(last.filter(|_| *reached > Goal::Handshaken));
                            return Look::Found(Ok(*reached));
                        }
                        Seen::Refused(_) | Seen::Broken(_) | Seen::Closed(_) | Seen::Full => {
                            return Look::Found(Err(trace::text(entry)));
                        }
                        _ => {}
                    }
                }
                Look::Wait
            });
            match step.await {
                Some(Ok(reached)) if reached == goal => return Ok(used),
                Some(Ok(_)) => {}
                Some(Err(why)) => return Err(self.not_reached(name, conn, goal, &why)),
                None => {
                    let why =
                        format!("no answer within {} ms", self.cx.times.kind(TimeKind::Reply).as_millis());
                    return Err(self.not_reached(name, conn, goal, &why));
                }
            }
        }
    }

    fn not_reached(&self, name: &str, conn: &Conn, goal: Goal, why: &str) -> String {
        let reached = conn.reached();
        if reached < self.cx.life {
            self.life().is_missed(name);
        }
        format!("{name} did not reach {}: {why} ({} was reached)", goal_name(goal), goal_name(reached))
    }

    /// The place of the first received entry that is the answer.
    pub(super) async fn answer(
        &self,
        name: &str,
        deadline: Instant,
        is_answer: impl Fn(&Entry) -> bool + Send,
    ) -> Option<u64> {
        let mut at = 0;
        let look = |log: &[Entry]| {
            while let Some(entry) = log.get(at) {
                at += 1;
                if entry.direction == Direction::Received && is_answer(entry) {
                    return Look::Found(entry.order);
                }
                if matches!(entry.seen, Seen::Closed(_) | Seen::Full) {
                    return Look::Never;
                }
            }
            Look::Wait
        };
        self.board.watch(name, deadline, look).await
    }

    /// Asks a connection whether it is in step; the place of the answer. Before connect a correct connect is the question, and that it is
    /// refused by `_error` is an answer too.
    pub(super) async fn in_step(&self, name: &str, conn: &Conn, deadline: Instant) -> Option<u64> {
        if is_connected(conn) {
            return self.ask(name, conn, self.cx.sentinel, deadline).await;
        }
        conn.pursue(Goal::Connected);
        let is_answer = |entry: &Entry| match entry.seen {
            Seen::Reached(goal) => goal >= Goal::Connected,
            Seen::Refused(refusal) => refusal == Refusal::Connect,
            _ => false,
        };
        self.answer(name, deadline, is_answer).await
    }

    /// Asks one kind of question.
    pub(super) async fn ask(
        &self,
        name: &str,
        conn: &Conn,
        sentinel: Sentinel,
        deadline: Instant,
    ) -> Option<u64> {
        let (question, is_answer) = sentinel.question(self.fresh_id());
        let bytes = conn.encode(&question, Fields { msid: Some(0), ..Fields::default() });
        self.write(conn, bytes).await;
        self.answer(name, deadline, is_answer).await
    }

    /// A new connection reaches what calibration did.
    pub(super) async fn alive(&self, deadline: Instant) -> Result<(), String> {
        let name = format!("alive-{}", self.fresh_id());
        let conn = self.open(&name, self.customary_config()).await?;
        let goal = self.cx.life;
        if goal == Goal::Open {
            self.life().sign(&name);
            return Ok(());
        }
        conn.pursue(goal);
        let is_there = |entry: &Entry| matches!(entry.seen, Seen::Reached(reached) if reached == goal);
        let answer = self.answer(&name, deadline, is_there).await;
        conn.close();
        if answer.is_none() {
            self.life().is_missed(&name);
            return Err(format!("a new connection did not reach {}", goal_name(goal)));
        }
        self.life().sign(&name);
        Ok(())
    }

    /// Writes bytes; a peer that closed or takes no more gets none, which judges nothing.
    pub(super) async fn write(&self, conn: &Conn, bytes: Bytes) {
        let _ = timeout(self.cx.times.kind(TimeKind::Close), conn.write(bytes)).await;
    }
}

impl From<Milestone> for Goal {
    fn from(milestone: Milestone) -> Goal {
        match milestone {
            Milestone::Handshaken => Goal::Handshaken,
            Milestone::Connected => Goal::Connected,
            Milestone::Created => Goal::Created,
            Milestone::Publishing => Goal::Publishing,
            Milestone::Playing => Goal::Playing,
        }
    }
}

/// The word of a goal.
pub(super) fn goal_name(goal: Goal) -> &'static str {
    let milestone = match goal {
        Goal::Open => return "open",
        Goal::Handshaken => Milestone::Handshaken,
        Goal::Connected => Milestone::Connected,
        Goal::Created => Milestone::Created,
        Goal::Publishing => Milestone::Publishing,
        Goal::Playing => Milestone::Playing,
    };
    milestone.name()
}

/// Whether connect was answered on this connection, or sent by hand.
fn is_connected(conn: &Conn) -> bool {
    conn.log(|log| {
        log.iter().any(|entry| match &entry.seen {
            Seen::Reached(goal) => *goal >= Goal::Connected,
            Seen::Message(header, payload) => {
                let command = matches!(header.type_id, type_id::COMMAND_AMF0 | type_id::COMMAND_AMF3);
                let named = payload.windows(7).take(5).any(|bytes| bytes == b"connect");
                entry.direction == Direction::Sent && command && named
            }
            _ => false,
        })
    })
}

/// A seed of its own for each case, whatever runs beside it (FNV-1a over the id).
pub(super) fn case_seed(seed: u64, id: &str) -> u64 {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    id.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, mix)
}
