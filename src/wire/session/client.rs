//! The client's way to a goal: what it asks, and which answers it takes.
//!
//! Answers are matched by what they say, never by their place: real servers differ in order, chunk stream and message stream.

use std::sync::Arc;

use bstr::{BStr, ByteSlice};

use super::{Config, Core, Goal, Refusal};
use crate::wire::amf0::Value;
use crate::wire::chunk::MessageHeader;
use crate::wire::message::{Command, Message, UserControl, type_id};
use crate::wire::time::Time;

/// How far a client is, and what it waits for.
#[derive(Debug, Default)]
pub(super) struct Pursuit {
    goal: Goal,
    pub reached: Goal,
    pub refused: bool,
    pub msid: Option<u32>,
    connect: Step,
    create: Step,
    start: Step,
    /// What `start` asked for: publishing or playing.
    starting: Goal,
    /// The name that it asked for.
    name: String,
    /// The highest transaction id used so far.
    last_id: f64,
    /// Earlier streams of this connection.
    earlier: Vec<u32>,
}

/// One request.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
enum Step {
    #[default]
    Idle,
    /// Sent with this transaction id.
    Asked(f64),
    Done,
}

impl Step {
    fn answered_by(self, command: &Command) -> bool {
        matches!(self, Step::Asked(id) if command.transaction_id == Some(id))
    }

    fn is_asked(self) -> bool {
        matches!(self, Step::Asked(_))
    }
}

/// Publishing and playing are two ends, not one behind the other.
fn is_end(goal: Goal) -> bool {
    goal >= Goal::Publishing
}

impl Pursuit {
    pub fn aim(&mut self, goal: Goal, name: &str) {
        let another = self.start != Step::Idle && (goal != self.starting || name != self.name);
        if is_end(goal) && another {
            self.earlier.extend(self.msid);
            self.leave_stream();
        }
        self.goal = goal;
        self.refused = false;
    }

    /// A goal that was reached is not pursued again when what it stood on is taken away by hand.
    pub fn arrive(&mut self, goal: Goal) {
        self.reached = goal;
        if goal == self.goal {
            self.goal = Goal::Open;
        }
    }

    /// Nothing is pursued further.
    pub fn settle(&mut self) {
        (self.name, self.earlier, self.goal) = Default::default();
    }

    fn leave_stream(&mut self) {
        self.msid = None;
        (self.create, self.start) = (Step::Idle, Step::Idle);
        self.reached = self.reached.min(Goal::Connected);
    }

    /// A command goes out, by ourselves or by hand: its answer counts either way.
    pub fn sent(&mut self, command: &Command, msid: u32) {
        let id = command.transaction_id.unwrap_or(0.0);
        self.used(id);
        let asked = Step::Asked(id);
        match &command.name[..] {
            b"connect" => self.connecting(id),
            b"createStream" if self.create == Step::Idle => self.create = asked,
            b"publish" if self.starts(msid) => (self.start, self.starting) = (asked, Goal::Publishing),
            b"play" if self.starts(msid) => (self.start, self.starting) = (asked, Goal::Playing),
            b"deleteStream" if command.args.get(1).and_then(Value::as_number) == self.msid.map(f64::from) => {
                self.leave_stream();
            }
            _ => return,
        }
        if self.start == asked {
            let name = command.args.get(1).and_then(Value::as_text);
            self.name = name.map(|name| name.to_str_lossy().into_owned()).unwrap_or_default();
        }
    }

    /// The same of a connect.
    fn connecting(&mut self, id: f64) {
        self.used(id);
        if self.connect == Step::Idle {
            self.connect = Step::Asked(id);
        }
    }

    fn used(&mut self, id: f64) {
        if id.is_finite() {
            self.last_id = self.last_id.max(id.floor());
        }
    }

    fn starts(&self, msid: u32) -> bool {
        self.start == Step::Idle && self.msid == Some(msid)
    }

    fn next_id(&self) -> f64 {
        self.last_id + 1.0
    }
}

impl Core {
    /// Sends what can be sent towards the goal.
    pub(super) fn advance(&mut self, now: Time) {
        if self.server || self.pursuit.refused || self.pursuit.goal < Goal::Handshaken {
            return;
        }
        self.shake_hands(now);
        if !self.may_speak() {
            return;
        }
        self.announce();
        if self.pursuit.goal >= Goal::Connected && self.pursuit.connect == Step::Idle {
            self.connect();
        }
        if self.pursuit.connect != Step::Done {
            return;
        }
        if self.pursuit.goal >= Goal::Created && self.pursuit.create == Step::Idle {
            // A connect by hand may have had any transaction id; the next is fresh in any case.
            self.queue(&Message::command("createStream", self.pursuit.next_id(), vec![Value::Null]));
        }
        if let (Some(msid), Step::Idle) = (self.pursuit.msid, self.pursuit.start) {
            match self.pursuit.goal {
                Goal::Publishing => self.publish(),
                Goal::Playing => self.play(msid),
                _ => {}
            }
        }
    }

    fn announce(&mut self) {
        if !std::mem::replace(&mut self.announced, true) {
            if let Some(window) = self.config.window {
                self.queue(&Message::WindowAckSize(window));
            }
            if let Some(size) = self.config.chunk_size {
                self.queue(&Message::SetChunkSize(size));
            }
        }
    }

    fn connect(&mut self) {
        let Some(payload) = self.config.connect.clone() else {
            return self.queue(&connect(&self.config, self.pursuit.goal));
        };
        let header = MessageHeader { csid: 3, timestamp: 0, len: 0, type_id: type_id::COMMAND_AMF0, msid: 0 };
        let before = self.out.len();
        self.writer.write(&mut self.out, header, &payload, None);
        self.flow.sent += (self.out.len() - before) as u64;
        self.pursuit.connecting(CONNECT_ID);
    }

    fn publish(&mut self) {
        let args = vec![Value::Null, self.config.name.as_str().into(), "live".into()];
        self.queue(&Message::command("publish", self.pursuit.next_id(), args));
    }

    fn play(&mut self, msid: u32) {
        // rtmp 7.2.2.1: start -2 is a live stream, else a recorded one, else waiting for a live one.
        let args = vec![Value::Null, self.config.name.as_str().into(), Value::Number(-2.0)];
        self.queue(&Message::command("play", self.pursuit.next_id(), args));
        self.queue(&Message::UserControl(UserControl::SetBufferLength { msid, ms: BUFFER_MS }));
    }

    /// Looks for the answers that the goal waits for.
    pub(super) fn pursued(&mut self, now: Time, header: MessageHeader, payload: &[u8]) {
        let waiting = [self.pursuit.connect, self.pursuit.create, self.pursuit.start];
        if !waiting.into_iter().any(Step::is_asked) {
            return;
        }
        match header.type_id {
            type_id::COMMAND_AMF0 | type_id::COMMAND_AMF3 => {
                if let Ok(Message::Command(command)) = Message::decode(header.type_id, payload) {
                    self.answer(header.msid, &command);
                    self.advance(now);
                }
            }
            // Some servers confirm play by media alone.
            type_id::AUDIO | type_id::VIDEO | type_id::AGGREGATE
                if self.pursuit.starting == Goal::Playing && !self.is_earlier(header.msid) =>
            {
                self.started();
            }
            _ => {}
        }
    }

    fn answer(&mut self, msid: u32, command: &Command) {
        let pursuit = &mut self.pursuit;
        match &command.name[..] {
            b"_result" if pursuit.connect.answered_by(command) => {
                pursuit.connect = Step::Done;
                self.reach(Goal::Connected);
            }
            b"_result" if pursuit.create.answered_by(command) => self.created(command),
            b"_result" if pursuit.start.answered_by(command) => self.started(),
            b"_error" if pursuit.connect.answered_by(command) => self.refused(Refusal::Connect),
            b"_error" if pursuit.create.answered_by(command) => self.refused(Refusal::CreateStream),
            b"_error" if pursuit.start.answered_by(command) => self.start_refused(),
            b"onStatus" if !self.is_earlier(msid) => self.status(command),
            _ => {}
        }
    }

    fn created(&mut self, command: &Command) {
        // rtmp 7.2.1.3: null, then the stream id.
        let id = command.args.iter().rev().find_map(Value::as_number);
        match id.filter(|id| (0.0..4_294_967_296.0).contains(id)) {
            Some(id) => {
                self.pursuit.create = Step::Done;
                self.pursuit.msid = Some(id as u32);
                self.reach(Goal::Created);
            }
            None => self.refused(Refusal::CreateStream),
        }
    }

    fn status(&mut self, command: &Command) {
        if self.pursuit.connect.is_asked() {
            let (code, level) = status_of(command);
            if code.starts_with(b"NetConnection.Connect.") && level == "error" {
                self.refused(Refusal::Connect);
            }
        } else if self.pursuit.start.is_asked() {
            match start_answered(self.pursuit.starting, command) {
                Some(true) => self.started(),
                Some(false) => self.start_refused(),
                None => {}
            }
        }
    }

    /// Whether the message stream is one of the connection's earlier ones; a server that numbers all streams alike makes none earlier.
    fn is_earlier(&self, msid: u32) -> bool {
        self.pursuit.msid != Some(msid) && self.pursuit.earlier.contains(&msid)
    }

    fn started(&mut self) {
        if self.pursuit.start.is_asked() {
            self.pursuit.start = Step::Done;
            self.reach(self.pursuit.starting);
        }
    }

    fn start_refused(&mut self) {
        let playing = self.pursuit.starting == Goal::Playing;
        self.refused(if playing { Refusal::Play } else { Refusal::Publish });
    }

    /// The step may be tried again by a later pursuit.
    fn refused(&mut self, refusal: Refusal) {
        let pursuit = &mut self.pursuit;
        match refusal {
            Refusal::Version(_) => {}
            Refusal::Connect => pursuit.connect = Step::Idle,
            Refusal::CreateStream => pursuit.create = Step::Idle,
            Refusal::Publish | Refusal::Play => pursuit.start = Step::Idle,
        }
        self.refuse(refusal);
    }
}

/// What a client with this goal says in connect, for [`Config::connect`].
pub fn connect_payload(config: &Config, goal: Goal) -> Arc<[u8]> {
    let mut payload = Vec::new();
    connect(config, goal).encode(&mut payload);
    payload.into()
}

fn connect(config: &Config, goal: Goal) -> Message {
    let text = |s: &str| Value::from(s);
    let mut fields = vec![
        ("app".into(), text(&config.app)),
        ("type".into(), text("nonprivate")),
        ("flashVer".into(), text(FLASH_VER)),
        ("tcUrl".into(), text(&config.tc_url)),
    ];
    if goal == Goal::Playing {
        fields.extend([
            ("fpad".into(), Value::Boolean(false)),
            ("capabilities".into(), Value::Number(15.0)),
            ("audioCodecs".into(), Value::Number(4071.0)),
            ("videoCodecs".into(), Value::Number(252.0)),
            ("videoFunction".into(), Value::Number(1.0)),
        ]);
    }
    for (name, value) in &config.connect_with {
        match fields.iter_mut().find(|(known, _)| *known == name.as_str()) {
            Some((_, old)) => *old = value.clone(),
            None => fields.push((name.as_str().into(), value.clone())),
        }
    }
    Message::command("connect", CONNECT_ID, vec![Value::Object(fields)])
}

/// Whether an onStatus confirms (`true`) or refuses what publishing or playing asked for; `None`: it says neither.
pub fn start_answered(starting: Goal, status: &Command) -> Option<bool> {
    let (code, level) = status_of(status);
    let confirms = match starting {
        Goal::Publishing => code == "NetStream.Publish.Start",
        _ => PLAY_CONFIRMED.iter().any(|known| code == *known),
    };
    // Servers exist that give a refusal the level "status".
    let refuses = REFUSED.iter().any(|known| code == *known);
    match (confirms, refuses || (level == "error" && !code.is_empty())) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
    }
}

/// Code and level of the information object; empty where there is none.
fn status_of(command: &Command) -> (&BStr, &BStr) {
    let info = command.args.iter().rev().find(|value| value.get("code").is_some());
    let field = |name| info.and_then(|info| info.get(name)).and_then(Value::as_text).unwrap_or_default();
    (field("code"), field("level"))
}

/// rtmp 7.2.1.1: the transaction id of connect is always 1.
const CONNECT_ID: f64 = 1.0;
/// What good clients of today call themselves.
const FLASH_VER: &str = "FMLE/3.0 (compatible; rtmp-bench)";
/// What a player asks to be buffered, in milliseconds.
const BUFFER_MS: u32 = 3000;
const PLAY_CONFIRMED: &[&str] = &[
    "NetStream.Play.Start",
    "NetStream.Play.PublishNotify",
    "NetStream.Play.Switch",
    "NetStream.Data.Start",
];
const REFUSED: &[&str] = &[
    "NetStream.Failed",
    "NetStream.Publish.BadName",
    "NetStream.Publish.Denied",
    "NetStream.Publish.Failed",
    "NetStream.Publish.Rejected",
    "NetStream.Publish.Unauthorized",
    "NetStream.Play.Denied",
    "NetStream.Play.Failed",
    "NetStream.Play.StreamNotFound",
    "NetStream.Play.Unauthorized",
];
