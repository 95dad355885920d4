//! What a target is like, found out before the first scenario, so that one missing feature does not fail fifty rows.
//!
//! As much as possible is asked on the first connection, because some targets serve only one.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};

use super::ast::TimeKind;
use super::board::{Board, Look};
use super::ground::{Context, Ground, Sentinel, goal_name};
use super::remux::{How, how_relayed};
use crate::net::conn::{Conn, Direction, Entry, Seen};
use crate::net::relay::{self, Frame, Relayed, Rules};
use crate::record::{Fingerprint, Milestone};
use crate::wire::amf0::Value;
use crate::wire::handshake::{Block, Signer};
use crate::wire::message::{Message, type_id};
use crate::wire::sample;
use crate::wire::session::{Config, Fields, Goal, Refusal};

/// The window that is asked for, to see whether it is acknowledged, in bytes.
const WINDOW: u32 = 2_500;
/// Frames of each kind published; more than the window in all.
const FRAMES: u32 = 12;
/// What the kind of a signed handshake begins with; its schema follows.
const SIGNED: &str = "digest schema";
/// Time between two of them.
const PACE: Duration = Duration::from_millis(20);

/// Finds out what the target is like. Always ends, within a few seconds; never fails: what could not be found out is `None`.
pub async fn calibrate(cx: &Context) -> Fingerprint {
    let ground = Ground::new(cx, "calibration");
    let probe = Probe { ground: &ground };
    let limit = cx.times.kind(TimeKind::Reply) * 8;
    let mut found = Fingerprint::default();
    if timeout(limit, ground.board.drive(Box::pin(probe.all(&mut found)))).await.is_err() {
        found.notes.push("calibration was cut short".into());
    }
    for (_, conn) in ground.board.conns() {
        conn.close();
    }
    let slowest = [found.baseline.connect_us, found.baseline.sentinel_us, found.baseline.relay_us];
    let slowest = slowest.into_iter().flatten().max().unwrap_or(0);
    // A reply is given two seconds, or ten times what it takes when nothing else goes on.
    found.time_scale = Some((slowest as f64 / 200_000.0).clamp(1.0, 5.0));
    found.facts = facts(&found, cx.pid.is_some());
    found
}

/// The facts that `needs` may ask for.
fn facts(found: &Fingerprint, pid: bool) -> Vec<String> {
    let flags = [
        ("publish", found.publish == Some(true)),
        ("play", found.play == Some(true)),
        ("ping", found.sentinel.as_deref() == Some(Sentinel::Ping.name())),
        ("acks", found.acks == Some(true)),
        ("amf3", found.amf3 == Some(true)),
        ("ertmp", found.ertmp == Some(true)),
        ("signed", found.signed_handshake.as_deref().is_some_and(|kind| kind.starts_with(SIGNED))),
        ("one-shot", found.one_shot == Some(true)),
        ("pid", pid),
    ];
    let values = [
        ("relay", &found.relay),
        ("streams", &found.streams),
        ("taken", &found.taken),
        ("missing", &found.missing),
    ];
    let flags = flags.into_iter().filter(|(_, holds)| *holds).map(|(name, _)| name.to_owned());
    let values = values.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)));
    flags.chain(values).collect()
}

struct Probe<'a> {
    ground: &'a Ground<'a>,
}

impl Probe<'_> {
    fn board(&self) -> &Board {
        &self.ground.board
    }

    fn by(&self, kind: TimeKind) -> Instant {
        self.ground.by(kind)
    }

    /// A client like others, but for one thing.
    fn config(&self, change: impl FnOnce(&mut Config)) -> Config {
        let mut config = self.ground.customary_config();
        change(&mut config);
        config
    }

    async fn all(&self, found: &mut Fingerprint) {
        found.reach = "nothing".into();
        if let Some(publisher) = self.first(found).await {
            self.rest(&publisher, found).await;
        }
        // Asked last: a close may come a moment behind the answer.
        for (name, goal) in [("main", Milestone::Publishing), ("play", Milestone::Playing)] {
            if found.ends.is_empty() && self.was_ended(name) {
                found.ends.extend(self.ends(goal).await);
            }
        }
    }

    /// What the other connections find out, while the first publishes.
    async fn rest(&self, publisher: &Conn, found: &mut Fingerprint) {
        if found.publish == Some(true) {
            self.publish_headers(publisher).await;
        }
        let others = async {
            if let Err(why) = self.ground.open("second", self.config(|_| {})).await {
                found.one_shot = Some(true);
                found.notes.push(why);
            }
        };
        others.await;
        if found.one_shot == Some(true) {
            self.acknowledged(publisher, found).await;
            return;
        }
        let (played, signed, taken, missing, amf3) = tokio::join!(
            self.play(publisher, found.publish == Some(true)),
            self.signed(),
            self.taken(found.publish == Some(true)),
            self.missing(),
            self.amf3(),
        );
        found.one_shot = Some(!played.connected && signed.is_none() && missing.is_none() && amf3.is_none());
        found.play =
            played.frames.as_ref().map(|frames| !frames.is_empty()).or(played.refused.then_some(false));
        found.relay = played.relay;
        found.notes.extend(played.notes);
        found.baseline.play_start_us = played.start_us;
        found.baseline.relay_us = played.relay_us;
        found.ertmp = played.ertmp;
        found.signed_handshake = signed;
        (found.streams, found.taken) = taken;
        found.missing = missing;
        found.amf3 = amf3;
        self.acknowledged(publisher, found).await;
        if let (Some(true), Some(sentinel)) = (found.publish, Sentinel::of(found)) {
            let answer = self.ground.ask("main", publisher, sentinel, self.by(TimeKind::Reply)).await;
            found.answers_publisher = Some(answer.is_some());
        }
    }

    /// The first connection: handshake, connect, a sentinel, publish.
    async fn first(&self, found: &mut Fingerprint) -> Option<Conn> {
        let began = Instant::now();
        let conn = match self.ground.open("main", self.config(|c| c.window = Some(WINDOW))).await {
            Ok(conn) => conn,
            Err(why) => {
                found.refusal = Some(why);
                return None;
            }
        };
        found.baseline.tcp_us = Some(us(began));
        for goal in [Goal::Handshaken, Goal::Connected, Goal::Created] {
            let began = Instant::now();
            if let Err(why) = self.ground.pursue("main", &conn, goal).await {
                let any = conn.received() > 0;
                if goal == Goal::Handshaken && any {
                    found.reach = "bytes".into();
                }
                let is_answered = |entry: &Entry| entry.seen == Seen::Refused(Refusal::Connect);
                if conn.log(|log| log.iter().any(is_answered)) {
                    found.sentinel = Some("connect".into());
                }
                found.refusal = Some(why);
                conn.log(|log| hello(log, found));
                return None;
            }
            found.reach = goal_name(goal).into();
            match goal {
                Goal::Handshaken => {
                    found.baseline.handshake_us = Some(us(began));
                    conn.log(|log| hello(log, found));
                }
                Goal::Connected => {
                    found.baseline.connect_us = Some(us(began));
                    conn.log(|log| connected(log, found));
                }
                _ => {}
            }
        }
        let conn = self.sentinel(conn, found).await;
        let began = Instant::now();
        match self.ground.pursue("main", &conn, Goal::Publishing).await {
            Ok(_) => {
                found.publish = Some(true);
                found.baseline.publish_start_us = Some(us(began));
            }
            Err(why) => {
                found.publish = Some(false);
                found.notes.push(why);
            }
        }
        // Some say these only now.
        conn.log(|log| connected(log, found));
        Some(conn)
    }

    fn was_ended(&self, name: &str) -> bool {
        self.board().conn(name).is_some_and(|conn| conn.log(|log| log.iter().any(is_end)))
    }

    /// At which goal on the way to `last` the target ends a client at once that asks for nothing more and waits. An end that answers the
    /// next question is a refusal, one that comes later is an idle timer, and neither is one of these.
    async fn ends(&self, last: Milestone) -> Option<Milestone> {
        let conn =
            self.ground.open("idle", self.config(|c| c.name = self.ground.other_name("-idle"))).await.ok()?;
        let at_once = self.ground.cx.times.kind(TimeKind::Quiet) / 3;
        for milestone in [Milestone::Handshaken, Milestone::Connected, Milestone::Created, last] {
            self.ground.pursue("idle", &conn, milestone.into()).await.ok()?;
            if self.ground.answer("idle", Instant::now() + at_once, is_end).await.is_some() {
                return Some(milestone);
            }
        }
        conn.close();
        None
    }

    /// Asks in turn. One that ends the session has another take its place; the session that goes on.
    async fn sentinel(&self, mut conn: Conn, found: &mut Fingerprint) -> Conn {
        for sentinel in Sentinel::ALL {
            let began = Instant::now();
            // A target that answers at all has answered connect by now: half the reply time is plenty.
            let deadline = began + self.ground.cx.times.kind(TimeKind::Reply) / 2;
            if self.ground.ask("main", &conn, sentinel, deadline).await.is_some() {
                found.sentinel = Some(sentinel.name().into());
                found.baseline.sentinel_us = Some(us(began));
                break;
            }
            if self.was_ended("main") {
                found.notes.push(format!("the session ends when it is asked: {}", sentinel.name()));
                let Ok(again) = self.ground.open("main", self.config(|c| c.window = Some(WINDOW))).await
                else {
                    break;
                };
                conn = again;
                if self.ground.pursue("main", &conn, Goal::Created).await.is_err() {
                    break;
                }
            }
        }
        conn
    }

    async fn publish_headers(&self, conn: &Conn) {
        let video = Message::Video(Bytes::from(sample::avc_header()));
        let audio = Message::Audio(Bytes::from(sample::aac_header()));
        for message in [video, audio] {
            let bytes = conn.encode(&message, Fields::default());
            self.ground.write(conn, bytes).await;
        }
    }

    /// One player of what the first connection publishes. It also announces enhanced RTMP.
    async fn play(&self, publisher: &Conn, published: bool) -> Played {
        let mut played = Played::default();
        let config = self.config(|c| {
            let list = ["hvc1", "av01", "vp09"].map(Value::from).into();
            c.connect_with = vec![
                ("fourCcList".into(), Value::StrictArray(list)),
                ("videoFourCcInfoMap".into(), Value::object([("*", 7.0.into())])),
                ("audioFourCcInfoMap".into(), Value::object([("*", 7.0.into())])),
                ("capsEx".into(), 4.0.into()),
            ];
        });
        let Ok(conn) = self.ground.open("play", config).await else { return played };
        if self.ground.pursue("play", &conn, Goal::Created).await.is_err() {
            return played;
        }
        played.connected = true;
        played.ertmp = Some(conn.log(|log| {
            let names = ["fourCcList", "videoFourCcInfoMap", "audioFourCcInfoMap", "capsEx"];
            result(log)
                .is_some_and(|args| args.iter().any(|arg| names.iter().any(|name| arg.get(name).is_some())))
        }));
        let began = Instant::now();
        if let Err(why) = self.ground.pursue("play", &conn, Goal::Playing).await {
            played.refused = true;
            played.notes.push(why);
            return played;
        }
        played.start_us = Some(us(began));
        if published {
            self.frames(publisher, &mut played).await;
        }
        played
    }

    /// Publishes frames and looks at what comes.
    async fn frames(&self, publisher: &Conn, played: &mut Played) {
        for i in 0..FRAMES {
            let n = 400 + i as usize;
            let payload =
                if i % 4 == 0 { sample::avc_key(n, i.into()) } else { sample::avc_inter(n, (i % 4).into()) };
            let audio = sample::aac_frame(100 + i as usize, i.into());
            let fields = Fields { timestamp: Some(40 * i), ..Fields::default() };
            for message in [Message::Video(payload.into()), Message::Audio(audio.into())] {
                let bytes = publisher.encode(&message, fields);
                self.ground.write(publisher, bytes).await;
            }
            sleep(PACE).await;
        }
        let sent = frames_in(publisher, Direction::Sent);
        let rules = Rules { since: u64::MAX, gaps_at_key: true, ..Rules::default() };
        let last = sent.last().map(|last| &last.payload);
        let (mut came, mut at): (Vec<Frame>, usize) = (Vec::new(), 0);
        let _ = self
            .board()
            .watch("play", self.by(TimeKind::Reply), |log| {
                let new = came.len();
                came.extend(frames_of(&log[at..], Direction::Received));
                at = log.len();
                let found = came[new..].iter().any(|frame| Some(&frame.payload) == last);
                if found { Look::Found(()) } else { Look::Wait }
            })
            .await;
        let is_aggregate = |entry: &Entry| matches!(&entry.seen, Seen::Message(header, _) if header.type_id == type_id::AGGREGATE);
        let aggregates =
            self.board().conn("play").is_some_and(|conn| conn.log(|log| log.iter().any(is_aggregate)));
        played.relay = how_relayed(&sent, &came, aggregates).map(How::name).map(str::to_owned);
        if let Relayed::Wrong(why) = relay::compare(&sent, &came, rules) {
            played.notes.push(format!("relay: {why}"));
        }
        let delay = |frame: &Frame| {
            let origin = sent.iter().find(|s| s.payload == frame.payload)?;
            let at =
                |conn: &Conn, order: u64| conn.log(|log| log.iter().find(|e| e.order == order).map(|e| e.at));
            let arrived = at(&self.board().conn("play")?, frame.order)?;
            Some(arrived.since(at(publisher, origin.order)?).as_micros() as u64)
        };
        let mut delays: Vec<u64> = came.iter().filter_map(delay).collect();
        delays.sort_unstable();
        played.relay_us = delays.get(delays.len() / 2).copied();
        played.frames = Some(came);
    }

    /// What answers a signed C1.
    async fn signed(&self) -> Option<String> {
        let config = self.config(|c| c.digest = Some(crate::wire::handshake::Schema::One));
        let conn = self.ground.open("signed", config).await.ok()?;
        let reached = self.ground.pursue("signed", &conn, Goal::Handshaken).await;
        let kind = conn.log(answer_kind)?;
        conn.close();
        Some(if reached.is_ok() { kind } else { format!("{kind}, not completed") })
    }

    /// Whether createStream gives more than one stream, and what becomes of a second publisher of a name.
    async fn taken(&self, published: bool) -> (Option<String>, Option<String>) {
        let Ok(conn) = self.ground.open("taken", self.config(|_| {})).await else { return (None, None) };
        let Ok(_) = self.ground.pursue("taken", &conn, Goal::Created).await else { return (None, None) };
        let first = conn.msid();
        let create =
            conn.encode(&Message::command("createStream", 77.0, vec![Value::Null]), Fields::default());
        self.ground.write(&conn, create).await;
        let is_answer = |entry: &Entry| command(entry).is_some_and(|c| c.transaction_id == Some(77.0));
        let streams =
            self.ground.answer("taken", self.by(TimeKind::Quiet), is_answer).await.and_then(|order| {
                let answer = conn.log(|log| log.iter().find(|e| e.order == order).and_then(command))?;
                let second = answer.args.get(1).and_then(Value::as_number)?;
                let many = first.is_some_and(|first| f64::from(first) != second);
                Some(if many { "many" } else { "one" }.to_owned())
            });
        if !published {
            return (streams, None);
        }
        let end = self.ground.pursue("taken", &conn, Goal::Publishing).await;
        self.settle("taken").await;
        let taken = self.how_it_ended(&conn, end.is_ok(), "takeover", "silent");
        conn.close();
        (streams, taken)
    }

    /// What becomes of the player of a name that nobody publishes.
    async fn missing(&self) -> Option<String> {
        let config = self.config(|c| c.name = self.ground.other_name("-missing"));
        let conn = self.ground.open("missing", config).await.ok()?;
        self.ground.pursue("missing", &conn, Goal::Created).await.ok()?;
        let end = self.ground.pursue("missing", &conn, Goal::Playing).await;
        self.settle("missing").await;
        let missing = self.how_it_ended(&conn, end.is_ok(), "wait", "wait");
        conn.close();
        missing
    }

    /// Some confirm, and close behind it.
    async fn settle(&self, name: &str) {
        let _ = self.ground.answer(name, self.by(TimeKind::Quiet), is_end).await;
    }

    fn how_it_ended(&self, conn: &Conn, reached: bool, yes: &str, silence: &str) -> Option<String> {
        conn.log(|log| {
            let seen = |is: fn(&Seen) -> bool| log.iter().any(|entry| is(&entry.seen));
            let word = if seen(|s| matches!(s, Seen::Refused(_))) {
                "refuse"
            } else if seen(|s| matches!(s, Seen::Closed(_))) {
                "close"
            } else if reached {
                yes
            } else {
                silence
            };
            Some(word.to_owned())
        })
    }

    /// Whether object encoding 3 is agreed to.
    async fn amf3(&self) -> Option<bool> {
        let config = self.config(|c| c.connect_with = vec![("objectEncoding".into(), 3.0.into())]);
        let conn = self.ground.open("amf3", config).await.ok()?;
        self.ground.pursue("amf3", &conn, Goal::Connected).await.ok()?;
        let agreed = conn.log(|log| {
            let args = result(log)?;
            let encoding = |arg: &Value| arg.get("objectEncoding").and_then(Value::as_number);
            Some(args.iter().filter_map(encoding).any(|n| n == 3.0))
        });
        conn.close();
        agreed
    }

    /// Whether what was published was acknowledged; where nothing could be published, other messages are sent.
    async fn acknowledged(&self, conn: &Conn, found: &mut Fingerprint) {
        let padding = "x".repeat(200);
        for _ in 0..3 * WINDOW / 200 {
            let call = Message::command("areYouThere", 0.0, vec![Value::Null, padding.as_str().into()]);
            if found.publish == Some(true) {
                break;
            }
            let bytes = conn.encode(&call, Fields { msid: Some(0), ..Fields::default() });
            self.ground.write(conn, bytes).await;
        }
        if found.one_shot == Some(true) && found.publish == Some(true) {
            self.frames(conn, &mut Played::default()).await;
        }
        let is_ack = |entry: &Entry| matches!(&entry.seen, Seen::Message(h, _) if h.type_id == type_id::ACKNOWLEDGEMENT);
        found.acks = Some(self.ground.answer("main", self.by(TimeKind::Quiet), is_ack).await.is_some());
    }
}

/// The target closed, or sent what cannot be read.
fn is_end(entry: &Entry) -> bool {
    matches!(entry.seen, Seen::Closed(_) | Seen::Broken(_))
}

#[derive(Default)]
struct Played {
    connected: bool,
    refused: bool,
    ertmp: Option<bool>,
    start_us: Option<u64>,
    relay: Option<String>,
    relay_us: Option<u64>,
    frames: Option<Vec<Frame>>,
    notes: Vec<String>,
}

fn us(since: Instant) -> u64 {
    since.elapsed().as_micros() as u64
}

fn command(entry: &Entry) -> Option<crate::wire::message::Command> {
    match &entry.seen {
        Seen::Message(header, payload) if entry.direction == Direction::Received => {
            match Message::decode(header.type_id, payload) {
                Ok(Message::Command(command)) => Some(command),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The arguments of connect's `_result`.
fn result(log: &[Entry]) -> Option<Vec<Value>> {
    let is_result = |c: &crate::wire::message::Command| c.name == "_result" && c.transaction_id == Some(1.0);
    log.iter().filter_map(command).find(is_result).map(|c| c.args)
}

fn frames_in(conn: &Conn, direction: Direction) -> Vec<Frame> {
    conn.log(|log| frames_of(log, direction))
}

fn frames_of(log: &[Entry], direction: Direction) -> Vec<Frame> {
    let mut frames = Vec::new();
    for entry in log.iter().filter(|entry| entry.direction == direction) {
        if let Seen::Message(header, payload) = &entry.seen {
            relay::frames_of(header, payload, entry.order, &mut frames);
        }
    }
    frames
}

fn blocks(log: &[Entry]) -> (Option<&Block>, Option<&Block>) {
    let hello = |direction| {
        log.iter().find_map(move |entry| match &entry.seen {
            Seen::Hello(block) if entry.direction == direction => Some(block),
            _ => None,
        })
    };
    (hello(Direction::Sent), hello(Direction::Received))
}

/// What S1 is like; where S0 is no version of RTMP there is none.
fn answer_kind(log: &[Entry]) -> Option<String> {
    if log.iter().any(|entry| matches!(entry.seen, Seen::Refused(Refusal::Version(_)))) {
        return None;
    }
    let (c1, s1) = blocks(log);
    let s1 = s1?;
    Some(match s1.digest(Signer::Server) {
        Some((schema, _)) => format!("{SIGNED} {}", schema as u8),
        None if c1 == Some(s1) => "plain, S1 is a copy of C1".into(),
        None => "plain".into(),
    })
}

fn hello(log: &[Entry], found: &mut Fingerprint) {
    found.handshake = answer_kind(log);
}

/// What the target says of itself around connect.
fn connected(log: &[Entry], found: &mut Fingerprint) {
    for entry in log.iter().filter(|entry| entry.direction == Direction::Received) {
        let Seen::Message(header, payload) = &entry.seen else { continue };
        match Message::decode(header.type_id, payload) {
            Ok(Message::WindowAckSize(n)) => found.window_ack_size = Some(n),
            Ok(Message::SetPeerBandwidth { size, limit }) => {
                (found.peer_bandwidth, found.peer_bandwidth_limit) = (Some(size), Some(limit));
            }
            Ok(Message::SetChunkSize(n)) => found.chunk_size = Some(n),
            _ => {}
        }
    }
    let version = |arg: &Value| Some(arg.get("fmsVer")?.as_text()?.to_string());
    found.server = result(log).and_then(|args| args.iter().find_map(version));
}
