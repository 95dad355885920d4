//! The client's side of a recorded session as steps: what was sent, on which stream, and which answers had come before.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::time::Duration;

use bstr::{BStr, BString, ByteSlice};
use bytes::Bytes;

use super::answer::Answer;
use super::pace::Pace;
use crate::capture::secrets::NAMED;
use crate::capture::session::{Heard, Watch};
use crate::capture::stream::{Connection, Direction};
use crate::record::inspect;
use crate::wire::amf0::Value;
use crate::wire::amf3;
use crate::wire::chunk::MessageHeader;
use crate::wire::handshake::{Schema, Signer};
use crate::wire::message::{Command, Message, UserControl, type_id};
use crate::wire::session::{Goal, start_answered};
use crate::wire::time::Time;

/// Bytes that are kept of all recorded sessions together, at most.
pub const MAX_KEPT: usize = 512 << 20;
/// What a message counts for beside its payload.
const STEP: usize = size_of::<Step>();
/// Commands that name a stream by its number.
const DELETES: [&[u8]; 2] = [b"deleteStream", b"closeStream"];
/// Fields of play2's parameters that are stream names.
const PLAY2_NAMES: [&[u8]; 2] = [b"streamName", b"oldStreamName"];

/// A recorded session.
#[derive(Debug)]
pub struct Recording {
    /// As `inspect` names it.
    pub key: String,
    /// As `inspect` says.
    pub role: String,
    /// When it began and ended, on the capture's clock.
    pub span: (Time, Time),
    /// How C1 was signed.
    pub digest: Option<Schema>,
    /// What the client sent, in order.
    pub steps: Vec<Step>,
    /// The client's calls.
    pub calls: Vec<Call>,
    /// The server's statuses, in order.
    pub statuses: Vec<String>,
    /// The server's own calls, in order.
    pub server_calls: Vec<Answer>,
    /// What the server sent, by type.
    pub came: BTreeMap<u8, u64>,
    /// Where and why the client's side cannot be followed further.
    pub hole: Option<String>,
    /// Stream names, in the order in which they were first said, with their queries.
    pub names: Vec<BString>,
    /// `app` of connect.
    pub app: BString,
    /// `tcUrl` of connect.
    pub tc_url: BString,
    /// What is not sent again, and how often it was there.
    pub passed_over: BTreeMap<&'static str, u64>,
    /// Stream ids as the recorded server gave them, with the call that made each.
    pub streams: Vec<(u32, usize)>,
    /// Whether the server's side was recorded at all.
    pub server_spoke: bool,
    /// Why the server may have said more than was recorded.
    pub lacks: Option<String>,
}

/// One message of the client.
#[derive(Debug)]
pub struct Step {
    /// When it was complete, on the capture's clock.
    pub time: Time,
    /// As recorded.
    pub header: MessageHeader,
    /// As recorded.
    pub payload: Bytes,
    /// On which stream it goes.
    pub stream: Stream,
    /// How it is sent.
    pub act: Act,
    /// Calls whose answers must be there before.
    pub after: Vec<usize>,
    /// Audio and video messages that had come before.
    pub media_before: u64,
}

impl Step {
    /// The name in it, where it is a call of this kind; `calls`: those of its recording.
    pub fn names(&self, kind: Kind, calls: &[Call]) -> Option<&BStr> {
        match &self.act {
            Act::Call(command, call) if calls[*call].kind == kind => {
                command.args.get(1).and_then(Value::as_text)
            }
            _ => None,
        }
    }
}

/// A message stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Of this id, whatever the target says.
    Id(u32),
    /// The one that this call of createStream makes.
    Of(usize),
}

/// How a message is sent.
#[derive(Debug)]
pub enum Act {
    /// As it is.
    Plain,
    /// A command; the number of its call.
    Call(Command, usize),
    /// The client's answer to this of the server's calls; `None`: the recording does not show which.
    Reply(Command, Option<usize>),
    /// Only where the recorded chunk sizes are asked for.
    ChunkSize(u32),
    /// Set Buffer Length of a stream, in milliseconds.
    BufferLength(Stream, u32),
}

/// One call of the client.
#[derive(Debug)]
pub struct Call {
    /// The command.
    pub name: String,
    /// Its transaction id.
    pub id: f64,
    /// What it is to the session.
    pub kind: Kind,
    /// The stream it was made on.
    pub stream: Stream,
    /// `_result` or `_error`.
    pub reply: Option<Answer>,
    /// When the answer that counts came.
    pub answered_at: Option<Time>,
    /// Whether what it asked for was refused.
    pub refused: bool,
    /// The stream that deleteStream names by its number.
    pub deletes: Option<Stream>,
}

/// What a call is to the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// All else stands on its answer.
    Connect,
    /// Its answer is a stream id.
    Create,
    /// Media waits for its answer.
    Publish,
    /// Its answer or media shows that it was granted.
    Play,
    /// Anything else.
    Other,
}

impl Kind {
    fn of(name: &[u8]) -> Kind {
        match name {
            b"connect" => Kind::Connect,
            b"createStream" => Kind::Create,
            b"publish" => Kind::Publish,
            b"play" => Kind::Play,
            _ => Kind::Other,
        }
    }

    /// The goal that a status confirms or refuses.
    pub fn goal(self) -> Option<Goal> {
        match self {
            Kind::Publish => Some(Goal::Publishing),
            Kind::Play => Some(Goal::Playing),
            _ => None,
        }
    }
}

/// Whether messages of this type are media or go with it: they are what `--loop` repeats.
pub fn is_media(type_id: u8) -> bool {
    carries_media(type_id) || matches!(type_id, type_id::DATA_AMF0 | type_id::DATA_AMF3)
}

/// Whether messages of this type are audio, video or both.
pub fn carries_media(type_id: u8) -> bool {
    matches!(type_id, type_id::AUDIO | type_id::VIDEO | type_id::AGGREGATE)
}

impl Recording {
    /// The steps from the first audio or video message to the last.
    pub fn body(&self) -> Range<usize> {
        let is = |s: &Step| carries_media(s.header.type_id);
        let first = self.steps.iter().position(is).unwrap_or(self.steps.len());
        first..self.steps.iter().rposition(is).map_or(first, |last| last + 1)
    }

    /// Whether it publishes under this name, which is without a query.
    pub fn publishes(&self, name: &BStr) -> bool {
        let named =
            |step: &Step| step.names(Kind::Publish, &self.calls).is_some_and(|said| base(said) == name);
        self.steps.iter().any(named)
    }

    /// The pauses between messages that are sat out at this pace and last at least so long: how many, and their sum. What the recorded
    /// server took for its answers is none of them.
    pub fn long_pauses(&self, pace: Pace, least: Duration) -> (usize, Duration) {
        let mut before = self.steps.first().map_or(self.span.1, |step| step.time);
        let answered = |step: &Step| step.after.iter().filter_map(|call| self.calls[*call].answered_at).max();
        let steps = self.steps.iter().map(|step| (answered(step), step.time));
        let pauses = steps.chain([(None, self.span.1)]).map(|(answered, time)| {
            let from = before.max(answered.unwrap_or(before));
            before = from.max(time);
            pace.pause(time.since(from))
        });
        let long: Vec<Duration> = pauses.filter(|pause| *pause >= least).collect();
        (long.len(), long.iter().sum())
    }
}

/// Collects sessions while a capture is read: all of them, or the one of a key.
#[derive(Debug, Default)]
pub struct Collector {
    only: Option<String>,
    all: HashMap<u64, Draft>,
    kept: usize,
    most: usize,
}

/// A recording that is being made.
#[derive(Debug, Default)]
struct Draft {
    digest: Option<Schema>,
    steps: Vec<Step>,
    calls: Vec<Call>,
    statuses: Vec<String>,
    server_calls: Vec<Answer>,
    hole: Option<String>,
    names: Vec<BString>,
    app: BString,
    tc_url: BString,
    passed_over: BTreeMap<&'static str, u64>,
    /// As of [`Recording`]; an id that was given again stands for the later call.
    streams: Vec<(u32, usize)>,
    /// Answers that came since the client's last message.
    came: Vec<usize>,
    server_spoke: bool,
    /// Where and why the server's side cannot be followed further.
    server_hole: Option<String>,
    /// Audio and video messages of the server so far.
    media: u64,
}

impl Collector {
    /// `only`: the key of a session, or the number of its TCP connection; `most`: bytes that are kept.
    pub fn new(only: Option<String>, most: usize) -> Collector {
        Collector { only, most, ..Collector::default() }
    }

    /// Whether more was to be kept than may be.
    pub fn is_full(&self) -> bool {
        self.kept > self.most
    }

    /// The session that `inspect` made of it; `None` where it was not to be collected.
    pub fn take(&mut self, session: &inspect::Session) -> Option<Recording> {
        let mut draft = match self.all.remove(&session.stream) {
            Some(draft) => draft,
            None if self.wants(&session.key, session.stream) => Draft::default(),
            None => return None,
        };
        draft.await_connect();
        let begin = Time::from_micros(session.started_us);
        Some(Recording {
            key: session.key.clone(),
            role: session.role.clone(),
            span: (begin, begin + std::time::Duration::from_millis(session.duration_ms)),
            came: session.messages.s2c.clone(),
            digest: draft.digest,
            steps: draft.steps,
            calls: draft.calls,
            statuses: draft.statuses,
            server_calls: draft.server_calls,
            hole: draft.hole,
            names: draft.names,
            app: draft.app,
            tc_url: draft.tc_url,
            passed_over: draft.passed_over,
            streams: draft.streams,
            server_spoke: draft.server_spoke,
            lacks: draft.server_hole.or_else(|| {
                (session.end == "open").then(|| "the recording ends while the connection is open".into())
            }),
        })
    }

    fn wants(&self, key: &str, number: u64) -> bool {
        self.only.as_ref().is_none_or(|only| only == key || *only == number.to_string())
    }
}

impl Watch for Collector {
    fn heard(&mut self, of: &Connection, direction: Direction, time: Time, what: Heard<'_>) {
        if self.is_full() || !(self.all.contains_key(&of.number) || self.wants_connection(of)) {
            return;
        }
        let draft = self.all.entry(of.number).or_default();
        match (direction, what) {
            (Direction::C2s, Heard::Hello(c1)) => {
                draft.digest = c1.digest(Signer::Client).map(|(schema, _)| schema);
            }
            (_, Heard::Hole(hole)) => {
                draft.lost(direction, || {
                    let (offset, bytes, cause) = (hole.offset, hole.bytes, hole.cause.name());
                    format!("{} at {offset}: {bytes} bytes are missing ({cause})", direction.name())
                });
            }
            (_, Heard::Broken(why)) => {
                draft.lost(direction, || format!("{} cannot be read further: {why}", direction.name()));
            }
            (Direction::C2s, Heard::Message(header, payload)) => {
                self.kept += STEP + payload.len();
                draft.sent(time, header, payload);
            }
            (Direction::S2c, Heard::Version(_)) => draft.server_spoke = true,
            (Direction::S2c, Heard::Message(header, payload)) => {
                draft.media += u64::from(carries_media(header.type_id));
                if let type_id::COMMAND_AMF0 | type_id::COMMAND_AMF3 = header.type_id
                    && let Ok(Message::Command(command)) = Message::decode(header.type_id, payload)
                {
                    self.kept += STEP;
                    draft.heard(time, &command);
                }
            }
            _ => {}
        }
    }
}

impl Collector {
    fn wants_connection(&self, of: &Connection) -> bool {
        // The key of a raw dump is known only when it was read: it is the only session then.
        self.only.as_deref() == Some("raw") || self.only.is_none() || self.wants(&of.key(), of.number)
    }
}

impl Draft {
    /// A direction is heard no further; the first reason counts.
    fn lost(&mut self, direction: Direction, why: impl FnOnce() -> String) {
        let hole = match direction {
            Direction::C2s => &mut self.hole,
            Direction::S2c => &mut self.server_hole,
        };
        hole.get_or_insert_with(why);
    }

    fn sent(&mut self, time: Time, header: MessageHeader, payload: &[u8]) {
        let decoded = match header.type_id {
            // Not looked into.
            t if is_media(t) => None,
            t => Message::decode(t, payload).ok(),
        };
        let act = match decoded {
            Some(Message::Acknowledgement(_)) => return self.pass_over("acknowledgements"),
            Some(Message::Abort(_)) => return self.pass_over("aborts"),
            Some(Message::UserControl(UserControl::PingResponse(_))) => {
                return self.pass_over("ping responses");
            }
            Some(Message::UserControl(UserControl::SetBufferLength { msid, ms })) => {
                Act::BufferLength(self.stream(msid), ms)
            }
            Some(Message::SetChunkSize(size)) => Act::ChunkSize(size),
            Some(Message::Command(command)) if command.name == "_result" || command.name == "_error" => {
                let id = command.transaction_id;
                let to = self.server_calls.iter().rposition(|call| Some(call.id) == id);
                Act::Reply(command, to)
            }
            Some(Message::Command(command)) => self.call(&header, command),
            _ => Act::Plain,
        };
        let stream = self.stream(header.msid);
        let mut after = std::mem::take(&mut self.came);
        let named = match &act {
            Act::BufferLength(stream, _) => Some(*stream),
            Act::Call(_, call) => self.calls[*call].deletes,
            _ => None,
        };
        for stream in [Some(stream), named].into_iter().flatten() {
            after.extend(match stream {
                Stream::Of(create) => Some(create),
                Stream::Id(_) => None,
            });
        }
        if is_media(header.type_id) {
            after.extend(self.calls.iter().rposition(|c| c.kind == Kind::Publish && c.stream == stream));
        }
        self.steps.push(Step {
            time,
            header,
            payload: Bytes::copy_from_slice(payload),
            stream,
            act,
            after,
            media_before: self.media,
        });
    }

    fn pass_over(&mut self, what: &'static str) {
        *self.passed_over.entry(what).or_default() += 1;
    }

    fn call(&mut self, header: &MessageHeader, mut command: Command) -> Act {
        let kind = Kind::of(&command.name);
        let text = |value: Option<&Value>| value.and_then(Value::as_text).map(BStr::to_owned);
        if kind == Kind::Connect {
            let object = command.args.first();
            self.app = text(object.and_then(|o| o.get("app"))).unwrap_or_default();
            self.tc_url = text(object.and_then(|o| o.get("tcUrl"))).unwrap_or_default();
        }
        let named = NAMED.contains(&command.name.as_slice());
        let said = names_in(&mut command).into_iter().filter(|_| named).map(|name| name.clone());
        for name in said.filter(|name| !name.is_empty()).collect::<Vec<_>>() {
            match self.names.iter_mut().find(|known| base(known.as_bstr()) == base(name.as_bstr())) {
                None => self.names.push(name),
                // The query is a part of what is published; FCPublish says it without.
                Some(known) if known.len() < name.len() => *known = name,
                Some(_) => {}
            }
        }
        let number = command
            .args
            .get(1)
            .and_then(Value::as_number)
            .filter(|_| DELETES.contains(&command.name.as_slice()));
        let deletes = number.map(|id| self.stream(id as u32));
        let stream = self.stream(header.msid);
        self.calls.push(Call {
            deletes,
            name: command.name.to_str_lossy().chars().take(64).collect(),
            id: command.transaction_id.unwrap_or(0.0),
            kind,
            stream,
            reply: None,
            answered_at: None,
            refused: false,
        });
        Act::Call(command, self.calls.len() - 1)
    }

    /// The stream that a recorded id stands for. Where the answer to createStream is not there, the first stream id that is new belongs to
    /// the first such call without one.
    fn stream(&mut self, id: u32) -> Stream {
        if let Some((_, create)) = self.streams.iter().rev().find(|(known, _)| *known == id) {
            return Stream::Of(*create);
        }
        let is_free = |(i, c): &(usize, &Call)| {
            c.kind == Kind::Create && !c.refused && !self.streams.iter().any(|(_, create)| create == i)
        };
        match self.calls.iter().enumerate().find(is_free) {
            Some((create, _)) if id != 0 => {
                self.streams.push((id, create));
                Stream::Of(create)
            }
            _ => Stream::Id(id),
        }
    }

    fn heard(&mut self, time: Time, command: &Command) {
        let answer = Answer::of(command);
        if answer.is_reply() {
            let asked = |c: &Call| c.id == answer.id && c.id != 0.0 && c.reply.is_none();
            let Some(at) = self.calls.iter().rposition(asked) else { return };
            let call = &mut self.calls[at];
            call.refused = answer.name == "_error" && call.kind != Kind::Other;
            if call.kind == Kind::Create
                && let Some(id) = answer.number
                && !self.streams.contains(&(id as u32, at))
            {
                self.streams.push((id as u32, at));
            }
            if call.kind != Kind::Other && call.answered_at.replace(time).is_none() {
                self.came.push(at);
            }
            call.reply = Some(answer);
        } else if answer.name == "onStatus" {
            let settles = |c: &Call| {
                let open = c.kind.goal().filter(|_| c.answered_at.is_none());
                open.and_then(|goal| start_answered(goal, command))
            };
            if let Some((at, granted)) =
                self.calls.iter().enumerate().find_map(|(i, c)| settles(c).map(|granted| (i, granted)))
            {
                self.calls[at].answered_at = Some(time);
                self.calls[at].refused = !granted;
                self.came.push(at);
            }
            self.statuses.push(answer.says());
        } else {
            self.server_calls.push(answer);
        }
    }

    /// A recording without the server's side does not show what waited for connect: all that follows does.
    fn await_connect(&mut self) {
        let Some(connect) = self.calls.iter().position(|c| c.kind == Kind::Connect) else { return };
        let at = self.steps.iter().position(|s| matches!(s.act, Act::Call(_, call) if call == connect));
        if let Some(next) = at.and_then(|at| self.steps.get_mut(at + 1)).filter(|_| !self.server_spoke) {
            next.after.push(connect);
        }
    }
}

/// What may name a stream in a command: the text behind the command object, and play2's fields; in AMF0 or AMF3.
pub fn names_in(command: &mut Command) -> Vec<&mut BString> {
    let of_play2 = command.name == "play2";
    match command.args.get_mut(1) {
        Some(Value::String(text) | Value::LongString(text) | Value::Amf3(amf3::Value::String(text))) => {
            vec![text]
        }
        Some(Value::Object(fields) | Value::Typed { fields, .. } | Value::EcmaArray(fields)) if of_play2 => {
            let named = fields.iter_mut().filter(|(name, _)| PLAY2_NAMES.contains(&name.as_slice()));
            named.filter_map(|(_, v)| if let Value::String(text) = v { Some(text) } else { None }).collect()
        }
        Some(Value::Amf3(amf3::Value::Object(object))) if of_play2 => {
            let fields = object.sealed.iter_mut().chain(object.dynamic.iter_mut().flatten());
            let named = fields.filter(|(name, _)| PLAY2_NAMES.contains(&name.as_slice()));
            named
                .filter_map(|(_, v)| if let amf3::Value::String(text) = v { Some(text) } else { None })
                .collect()
        }
        _ => Vec::new(),
    }
}

/// A name without its query.
pub fn base(name: &BStr) -> &BStr {
    name.split_once_str("?").map_or(name, |(base, _)| base.as_bstr())
}
