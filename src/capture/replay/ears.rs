//! What the target says to one session: its answers, its numbers, and how both differ from the recorded server's.

use super::answer::{self, Answer, Answered, MAX_DEPARTURES};
use super::recording::{Kind, Recording, Stream, carries_media};
use crate::record::replay::{End, Mapped, Session, Traffic};
use crate::wire::chunk::MessageHeader;
use crate::wire::media;
use crate::wire::message::{Command, Message, type_id};
use crate::wire::session::{Event, Refusal, start_answered};

/// Statuses and calls of the target that are kept of a session, at most.
const MAX_KEPT: usize = 10_000;

/// Hears the target.
pub struct Ears<'a> {
    recording: &'a Recording,
    /// Beside each call of the recording.
    live: Vec<Live>,
    statuses: Vec<String>,
    calls: Vec<Answer>,
    traffic: Traffic,
    /// Why the target cannot be spoken to.
    pub unspeakable: Option<String>,
}

/// A call at the target.
#[derive(Debug, Clone, Default)]
struct Live {
    /// The message stream it was sent on.
    on: Option<u32>,
    reply: Option<Answer>,
    granted: Option<bool>,
    /// What granted or refused it.
    by: String,
    /// The stream that it made.
    msid: Option<u32>,
}

impl<'a> Ears<'a> {
    /// Nothing was heard yet.
    pub fn new(recording: &'a Recording) -> Ears<'a> {
        Ears {
            recording,
            live: vec![Live::default(); recording.calls.len()],
            statuses: Vec::new(),
            calls: Vec::new(),
            traffic: Traffic::default(),
            unspeakable: None,
        }
    }

    /// A call went out.
    pub fn asked(&mut self, call: usize, msid: u32) {
        self.live[call].on = Some(msid);
    }

    /// Whether a call went out.
    pub fn was_asked(&self, call: usize) -> bool {
        self.live[call].on.is_some()
    }

    /// Whether a call was granted or refused.
    pub fn is_settled(&self, call: usize) -> bool {
        self.live[call].granted.is_some()
    }

    /// The target's id of a stream.
    pub fn msid(&self, stream: Stream) -> u32 {
        match stream {
            Stream::Id(id) => id,
            Stream::Of(call) => self.live[call].msid.unwrap_or(0),
        }
    }

    /// The transaction id of the target's call that is like this one of the recorded server: the same name, the how manieth of it.
    pub fn call_like(&self, recorded: usize) -> Option<f64> {
        let calls = &self.recording.server_calls;
        let name = &calls.get(recorded)?.name;
        let before = calls[..recorded].iter().filter(|c| c.name == *name).count();
        self.calls.iter().filter(|c| c.name == *name).nth(before).map(|c| c.id)
    }

    /// What the target refused that the recorded server did not.
    pub fn refusal(&self) -> Option<String> {
        let mut calls = self.recording.calls.iter().zip(&self.live);
        let (call, live) = calls.find(|(call, live)| live.granted == Some(false) && !call.refused)?;
        Some(format!("{} was refused: {}", call.name, live.by))
    }

    /// Whether as much came as the recorded server sent.
    pub fn is_complete(&self) -> bool {
        let media: u64 = self.recording.came.iter().filter(|(t, _)| carries_media(**t)).map(|(_, n)| n).sum();
        let mut calls = self.recording.calls.iter().zip(&self.live);
        calls.all(|(call, live)| call.reply.is_none() || live.reply.is_some())
            && self.statuses.len() >= self.recording.statuses.len()
            && self.media() >= media
    }

    /// Audio and video messages that came.
    pub fn media(&self) -> u64 {
        self.traffic.messages.iter().filter(|(t, _)| carries_media(**t)).map(|(_, n)| n).sum()
    }

    /// Takes what the session found.
    pub fn hear(&mut self, event: Event<'_>) {
        match event {
            Event::Message(header, payload) => self.message(header, payload),
            Event::Refused(refused @ Refusal::Version(_)) => self.unspeakable = Some(refused.to_string()),
            _ => {}
        }
    }

    fn message(&mut self, header: MessageHeader, payload: &[u8]) {
        *self.traffic.messages.entry(header.type_id).or_default() += 1;
        match header.type_id {
            type_id::AUDIO | type_id::VIDEO => {
                self.traffic.frames += u64::from(media::is_coded_frame(header.type_id, payload));
                self.media_on(header.msid);
            }
            type_id::AGGREGATE => {
                if let Ok(Message::Aggregate(parts)) = Message::decode(header.type_id, payload) {
                    let coded = parts.iter().filter(|p| media::is_coded_frame(p.type_id, &p.payload));
                    self.traffic.frames += coded.count() as u64;
                }
                self.media_on(header.msid);
            }
            type_id::COMMAND_AMF0 | type_id::COMMAND_AMF3 => {
                if let Ok(Message::Command(command)) = Message::decode(header.type_id, payload) {
                    self.command(header.msid, &command);
                }
            }
            _ => {}
        }
    }

    /// Some servers confirm play by media alone.
    fn media_on(&mut self, msid: u32) {
        for (call, live) in self.recording.calls.iter().zip(&mut self.live) {
            if call.kind == Kind::Play && live.on == Some(msid) {
                live.granted.get_or_insert(true);
            }
        }
    }

    fn command(&mut self, msid: u32, command: &Command) {
        let answer = Answer::of(command);
        if answer.is_reply() {
            self.reply(answer);
        } else if answer.name == "onStatus" {
            self.status(msid, command, &answer);
            if self.statuses.len() < MAX_KEPT {
                self.statuses.push(answer.says());
            }
        } else if self.calls.len() < MAX_KEPT {
            self.calls.push(answer);
        }
    }

    fn reply(&mut self, answer: Answer) {
        let recorded = &self.recording.calls;
        let asked = |(i, live): &(usize, &Live)| {
            live.on.is_some() && live.reply.is_none() && recorded[*i].id == answer.id && answer.id != 0.0
        };
        let Some(at) = self.live.iter().enumerate().filter(asked).map(|(i, _)| i).next_back() else { return };
        let live = &mut self.live[at];
        let number = answer.number.filter(|n| (0.0..4_294_967_296.0).contains(n));
        if recorded[at].kind != Kind::Other && live.granted.is_none() {
            let granted = answer.name == "_result" && (recorded[at].kind != Kind::Create || number.is_some());
            (live.granted, live.by) = (Some(granted), answer.says());
        }
        if recorded[at].kind == Kind::Create && live.granted == Some(true) {
            live.msid = number.map(|n| n as u32);
        }
        live.reply = Some(answer);
    }

    fn status(&mut self, msid: u32, command: &Command, answer: &Answer) {
        let open = |i: &usize| {
            let (call, live) = (&self.recording.calls[*i], &self.live[*i]);
            let goal = call.kind.goal().filter(|_| live.on.is_some() && live.granted.is_none())?;
            start_answered(goal, command).map(|granted| (*i, granted))
        };
        let mut all = (0..self.live.len()).filter_map(|i| open(&i));
        // Some servers say it on another stream than that of the call.
        let here = (0..self.live.len()).filter(|i| self.live[*i].on == Some(msid)).find_map(|i| open(&i));
        if let Some((at, granted)) = here.or_else(|| all.next()) {
            (self.live[at].granted, self.live[at].by) = (Some(granted), answer.says());
        }
    }

    /// Puts down what was heard and how it differs.
    pub fn into_record(self, record: &mut Session) {
        let recorded = self.recording;
        record.streams.extend(
            recorded.streams.iter().filter_map(|(id, call)| {
                self.live[*call].msid.map(|target| Mapped { recorded: *id, target })
            }),
        );
        let mut out = Vec::new();
        let calls = recorded.calls.iter().zip(&self.live);
        let calls = calls.filter(|(call, live)| call.id != 0.0 && live.on.is_some());
        answer::of_replies(
            calls.map(|(call, live)| Answered {
                name: &call.name,
                id: call.id,
                recorded: call.reply.as_ref(),
                came: live.reply.as_ref(),
            }),
            &mut out,
        );
        let names = |calls: &[Answer]| calls.iter().map(Answer::says).collect::<Vec<_>>();
        let said = [
            ("status", recorded.statuses.clone(), self.statuses.clone()),
            ("call", names(&recorded.server_calls), names(&self.calls)),
        ];
        for (about, mut before, mut now) in said {
            if recorded.hole.is_some() || !matches!(record.end, End::Done | End::Refused) {
                // What the recorded server said at last may be about what was not sent again.
                before.truncate(now.len());
                now.truncate(before.len());
            }
            answer::of_statuses(about, &before, &now, &mut out);
        }
        for (name, type_id) in [("audio", type_id::AUDIO), ("video", type_id::VIDEO)] {
            let count = |n: Option<&u64>| n.copied().unwrap_or(0);
            let (before, now) =
                (count(recorded.came.get(&type_id)), count(self.traffic.messages.get(&type_id)));
            if (before == 0) != (now == 0) {
                let kind = if now == 0 { "missing" } else { "added" };
                let times = |n: u64| (n > 0).then(|| format!("{n} {name} messages"));
                out.push(answer::departure(kind, "media".into(), times(before), times(now)));
            }
        }
        if !recorded.server_spoke {
            record.notes.push("the recording has no server side: no answer is compared".into());
            out.clear();
        }
        if let Some(why) = &recorded.lacks {
            record.notes.extend(answer::set_aside(&mut out, why));
        }
        record.more_departures = out.len().saturating_sub(MAX_DEPARTURES) as u64;
        out.truncate(MAX_DEPARTURES);
        record.departures = out;
        let bytes = record.received.bytes;
        record.received = Traffic { bytes, ..self.traffic };
    }
}
