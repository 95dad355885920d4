//! Commands and their answers (rtmp 7.2).

use bstr::ByteSlice;

use super::{At, Found, Lint};
use crate::notation::print;
use crate::wire::amf0::Value;
use crate::wire::message::Command;
use crate::wire::note::NoteKind;

/// Calls remembered of a session; with more of them, answers are not judged.
const MAX_CALLS: usize = 64;
/// Message streams remembered of a session; others are not judged.
const MAX_STREAMS: usize = 16;
/// Bytes shown of a word that the peer chose.
const MAX_SEEN: usize = 64;

/// What was said so far.
#[derive(Debug, Default)]
pub(super) struct Talk {
    connect: Connect,
    /// The server's answer to connect states AMF0.
    pub(super) answered_amf0: bool,
    calls: Vec<Call>,
    calls_left_out: bool,
    /// Answers that came without a call.
    orphans: Vec<f64>,
    /// A command with transaction id 0 came, which wants no answer.
    called_with_0: bool,
    streams: Vec<Stream>,
    /// The client used message streams in a way that does not tell which one it means.
    confused: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Connect {
    #[default]
    No,
    Asked,
    Accepted,
    Refused,
}

/// A command of the client that wants an answer.
#[derive(Debug)]
struct Call {
    id: f64,
    what: What,
    end: u64,
    open: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Connect,
    CreateStream,
    Other,
}

/// A message stream.
#[derive(Debug, Default)]
pub(super) struct Stream {
    msid: u32,
    /// Where the result that names it ends.
    created: Option<u64>,
    /// By createStream and no other call.
    by_create: bool,
    deleted: bool,
    pub(super) publish: Asked,
    pub(super) play: Asked,
    /// The last timestamps of audio and video.
    pub(super) last: [Option<u32>; 2],
    /// Whether an AAC and an AVC header came.
    pub(super) header: [bool; 2],
}

/// Publish or play.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    #[default]
    No,
    Open,
    Answered,
}

impl Talk {
    /// The stream of this id; none when there are too many.
    pub(super) fn stream(&mut self, msid: u32) -> Option<&mut Stream> {
        let at = self.streams.iter().position(|s| s.msid == msid);
        let at = match at {
            Some(at) => at,
            None if self.streams.len() >= MAX_STREAMS => return None,
            None => {
                self.streams.push(Stream { msid, ..Stream::default() });
                self.streams.len() - 1
            }
        };
        self.streams.get_mut(at)
    }

    /// Whether it is certain which message streams the client means.
    pub(super) fn is_clear(&self) -> bool {
        !self.confused
    }

    fn call(&mut self, id: f64, what: What, end: u64) {
        if self.calls.len() < MAX_CALLS {
            self.calls.push(Call { id, what, end, open: true });
        } else {
            self.calls_left_out = true;
        }
    }

    fn waits_for(&self, what: What) -> bool {
        self.calls.iter().any(|call| call.open && call.what == what)
    }

    /// The stream other than 0 that the client publishes or plays on, if it never does so on 0.
    fn used(&self) -> Option<u32> {
        let used = |s: &&Stream| s.publish != Asked::No || s.play != Asked::No;
        let all = || self.streams.iter().filter(used);
        all().all(|s| s.msid != 0).then(|| all().next().map(|s| s.msid)).flatten()
    }
}

impl Lint {
    pub(super) fn client_says(&mut self, at: &At, command: &Command) {
        let what = match command.name.as_slice() {
            b"_result" | b"_error" | b"onStatus" => return,
            b"connect" => {
                self.connects(at, command);
                What::Connect
            }
            b"createStream" => {
                self.creates(at, command);
                What::CreateStream
            }
            b"publish" | b"play" | b"play2" | b"pause" | b"seek" | b"receiveAudio" | b"receiveVideo"
            | b"deleteStream" => {
                self.stream_command(at, command);
                What::Other
            }
            _ => What::Other,
        };
        match command.transaction_id {
            Some(id) if id != 0.0 => {
                self.talk.call(id, what, at.end);
                self.disordered |= self.talk.orphans.contains(&id);
                let value = number(Some(id)).0;
                self.clear(&[NoteKind::AnswerTwice], |s| s.found.note.value == value);
            }
            _ if what == What::Other => self.talk.called_with_0 = true,
            // What cannot go without an answer is answered with 0 then, and nobody can tell which answer is whose.
            _ => self.talk.calls_left_out = true,
        }
    }

    /// rtmp 7.2.1.1
    fn connects(&mut self, at: &At, command: &Command) {
        let (value, seen) = number(command.transaction_id);
        if command.transaction_id != Some(1.0) {
            self.say_seen(at, NoteKind::ConnectId, value, seen);
        }
        if at.header.msid != 0 {
            self.say(at, NoteKind::ConnectPlace, u64::from(at.header.msid));
        }
        if self.talk.connect == Connect::Accepted {
            self.say_of_both(at, NoteKind::ConnectAgain, value);
        } else {
            self.talk.connect = Connect::Asked;
        }
    }

    /// rtmp 7.2.1.3
    fn creates(&mut self, at: &At, command: &Command) {
        if at.header.msid != 0 {
            self.say(at, NoteKind::CreatePlace, u64::from(at.header.msid));
        }
        if matches!(self.talk.connect, Connect::No | Connect::Asked) {
            self.suspect(at, NoteKind::CreateEarly, number(command.transaction_id).0);
        }
    }

    /// rtmp 7.2.2: transaction id 0 and a null command object, on the stream it concerns (deleteStream names its stream, and no
    /// client sends it there).
    fn stream_command(&mut self, at: &At, command: &Command) {
        let (msid, deletes) = (at.header.msid, command.name == "deleteStream");
        let (value, seen) = number(command.transaction_id);
        if command.transaction_id != Some(0.0) {
            self.say_seen(at, NoteKind::StreamCommandId, value, seen);
        }
        if command.args.first().is_some_and(|object| !is_null(object)) {
            self.say(at, NoteKind::StreamCommandObject, u64::from(msid));
        }
        if msid == 0 && !deletes {
            self.say(at, NoteKind::StreamCommandPlace, value);
            self.talk.confused = true;
            self.clear(&[NoteKind::StatusPlace, NoteKind::MediaUnplayed], |_| true);
        }
        match command.name.as_slice() {
            b"deleteStream" => self.deletes(command),
            b"publish" => self.publishes(at, command),
            b"play" | b"play2" => self.plays(at),
            _ => {}
        }
    }

    fn deletes(&mut self, command: &Command) {
        let named = command.args.get(1).and_then(whole_number);
        let Some(stream) = named.and_then(|msid| self.talk.stream(msid)) else { return };
        stream.deleted = true;
        let msid = u64::from(stream.msid);
        self.clear(&[NoteKind::CreateSameId], |s| s.found.note.value == msid);
    }

    fn publishes(&mut self, at: &At, command: &Command) {
        let msid = at.header.msid;
        // rtmp 7.2.2.6; left out it means live.
        match command.args.get(2) {
            Some(kind) if !is_null(kind) && !is_one_of(kind, &["live", "record", "append"]) => {
                self.say_seen(at, NoteKind::PublishType, u64::from(msid), Some(shown(kind)));
            }
            _ => {}
        }
        self.uses(at);
        if let Some(stream) = self.talk.stream(msid) {
            (stream.publish, stream.last, stream.header) = (Asked::Open, [None; 2], [false; 2]);
        }
    }

    fn plays(&mut self, at: &At) {
        let msid = at.header.msid;
        self.uses(at);
        if let Some(stream) = self.talk.stream(msid)
            && stream.play == Asked::No
        {
            stream.play = Asked::Open;
        }
        self.clear(&[NoteKind::MediaUnplayed], |s| s.found.note.value == u64::from(msid));
    }

    /// rtmp 7.2.1.3: a stream is there once the server's answer named it.
    fn uses(&mut self, at: &At) {
        let (msid, waits) = (at.header.msid, self.talk.waits_for(What::CreateStream));
        if msid == 0 {
            return;
        }
        match self.talk.stream(msid).map(|stream| stream.created) {
            Some(Some(end)) => self.has_read(at, end),
            Some(None) if self.talk.calls_left_out || self.talk.confused => {}
            Some(None) if waits => self.suspect(at, NoteKind::StreamEarly, u64::from(msid)),
            Some(None) => self.suspect(at, NoteKind::StreamUnknown, u64::from(msid)),
            None => {}
        }
    }

    pub(super) fn server_says(&mut self, at: &At, command: &Command) {
        match command.name.as_slice() {
            b"_result" | b"_error" => self.answers(at, command),
            b"onStatus" => self.status(at, command),
            _ => {}
        }
    }

    /// rtmp 7.2: an answer carries the transaction id of its call.
    fn answers(&mut self, at: &At, answer: &Command) {
        let about_connect = code(answer).is_some_and(|code| code.starts_with(b"NetConnection.Connect."));
        let Some(id) = answer.transaction_id else { return };
        let call = self.talk.calls.iter_mut().find(|call| call.open && call.id == id);
        let what = call.map(|call| {
            call.open = false;
            (call.what, call.end)
        });
        match what {
            Some((what, end)) => {
                self.has_read(at, end);
                if what != What::Other && at.header.msid != 0 {
                    self.say_of_both(at, NoteKind::AnswerPlace, u64::from(at.header.msid));
                }
            }
            None => self.answers_nothing(at, id),
        }
        let what = what.map(|(what, _)| what);
        if what == Some(What::Connect) || about_connect {
            self.answers_connect(answer);
        }
        self.names_a_stream(at, answer, what);
        self.confirmed();
    }

    fn answers_nothing(&mut self, at: &At, id: f64) {
        let (value, _) = number(Some(id));
        if self.talk.calls_left_out {
        } else if self.talk.calls.iter().any(|call| call.id == id) {
            self.suspect(at, NoteKind::AnswerTwice, value);
        } else if id == 0.0 && self.talk.called_with_0 {
            self.say_of_both(at, NoteKind::AnswerUnasked, 0);
        } else {
            if self.talk.orphans.len() < MAX_CALLS {
                self.talk.orphans.push(id);
            }
            self.suspect(at, NoteKind::AnswerUnknown, value);
        }
    }

    fn answers_connect(&mut self, answer: &Command) {
        let accepted = answer.name == "_result";
        self.talk.connect = if accepted { Connect::Accepted } else { Connect::Refused };
        let encoding = answer.args.iter().find_map(|arg| arg.get("objectEncoding"));
        self.talk.answered_amf0 = accepted && encoding.and_then(Value::as_number) == Some(0.0);
        self.clear(&[NoteKind::CreateEarly], |_| true);
    }

    /// rtmp 7.2.1.3. Other calls that answer with a number may name a stream too.
    fn names_a_stream(&mut self, at: &At, answer: &Command, what: Option<What>) {
        if answer.name != "_result" || what == Some(What::Connect) {
            return;
        }
        let created = what == Some(What::CreateStream);
        let Some(msid) = answer.args.get(1).and_then(whole_number) else {
            if created {
                let (value, _) = number(answer.transaction_id);
                let found = at.found(NoteKind::CreateResult, value);
                self.keep(Found { seen: answer.args.get(1).map(shown), ..found });
                self.talk.confused = true;
            }
            return;
        };
        let Some(stream) = self.talk.stream(msid) else { return };
        let again = created && stream.by_create && !stream.deleted;
        (stream.created, stream.deleted) = (Some(at.end), false);
        stream.by_create |= created;
        if again {
            self.suspect(at, NoteKind::CreateSameId, u64::from(msid));
        }
        let kinds = [NoteKind::StreamEarly, NoteKind::StreamUnknown];
        self.clear(&kinds, |s| s.found.note.value == u64::from(msid));
    }

    /// rtmp 7.2.2
    fn status(&mut self, at: &At, status: &Command) {
        let msid = u64::from(at.header.msid);
        if status.transaction_id != Some(0.0) {
            let (value, seen) = number(status.transaction_id);
            self.say_seen(at, NoteKind::StatusId, value, seen);
        }
        if status.args.first().is_some_and(|object| !is_null(object)) {
            self.say(at, NoteKind::StatusObject, msid);
        }
        self.status_info(at, status);
        let of_stream = code(status).is_some_and(|code| code.starts_with(b"NetStream."));
        if let Some(used) = self.talk.used().filter(|_| of_stream && at.header.msid == 0) {
            self.suspect(at, NoteKind::StatusPlace, u64::from(used));
        }
        self.confirmed();
    }

    fn status_info(&mut self, at: &At, status: &Command) {
        let info = status.args.get(1);
        if matches!(info, Some(Value::Amf3(_) | Value::Reference(_))) {
            return;
        }
        let text = |name: &str| info.and_then(|info| info.get(name)).filter(|v| v.as_text().is_some());
        let lacks: Vec<&str> =
            ["level", "code", "description"].into_iter().filter(|name| text(name).is_none()).collect();
        if !lacks.is_empty() {
            let seen = format!("no {}", lacks.join(", no "));
            self.say_seen(at, NoteKind::StatusInfo, u64::from(at.header.msid), Some(seen));
        }
        if let Some(level) = text("level").filter(|v| !is_one_of(v, &["status", "warning", "error"])) {
            self.say_seen(at, NoteKind::StatusLevel, u64::from(at.header.msid), Some(shown(level)));
        }
    }

    /// The server answered: whichever of several streams it means, none waits any longer for certain.
    fn confirmed(&mut self) {
        for asked in self.talk.streams.iter_mut().flat_map(|s| [&mut s.publish, &mut s.play]) {
            if *asked == Asked::Open {
                *asked = Asked::Answered;
            }
        }
        self.clear(&[NoteKind::MediaEarly], |_| true);
    }
}

/// A transaction id as a whole number; as text where it is none.
fn number(id: Option<f64>) -> (u64, Option<String>) {
    match id {
        Some(id) if id >= 0.0 && id.fract() == 0.0 && id < 9e15 => (id as u64, None),
        Some(id) => (0, Some(id.to_string())),
        None => (0, Some("none".into())),
    }
}

/// A message stream id above 0.
fn whole_number(value: &Value) -> Option<u32> {
    let n = value.as_number()?;
    (n >= 1.0 && n <= f64::from(u32::MAX) && n.fract() == 0.0).then_some(n as u32)
}

/// Null, or what is not looked into.
fn is_null(value: &Value) -> bool {
    matches!(value, Value::Null | Value::Undefined | Value::Amf3(_) | Value::Reference(_))
}

fn is_one_of(value: &Value, words: &[&str]) -> bool {
    value.as_text().is_some_and(|text| words.iter().any(|word| text == word))
}

fn code(command: &Command) -> Option<&[u8]> {
    command.args.iter().find_map(|arg| arg.get("code")).and_then(Value::as_text).map(|text| text.as_bytes())
}

/// A value, short.
fn shown(value: &Value) -> String {
    match value.as_text() {
        Some(text) => text.get(..MAX_SEEN).unwrap_or(text).to_str_lossy().into_owned(),
        None if matches!(value, Value::Number(_) | Value::Boolean(_) | Value::Null | Value::Undefined) => {
            print::value(value)
        }
        None => "no string".into(),
    }
}
