//! One session sent again: each step when it is due and its answers are there, with what the target calls things by.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bstr::{BStr, ByteSlice};
use tokio::time::Instant;

use super::ears::Ears;
use super::line::{Limit, Line, Stop};
use super::order::Turn;
use super::pace::{Clock, LONGEST_PAUSE, Pace};
use super::recording::{Act, Kind, Recording, Step, Stream, carries_media, is_media, names_in};
use super::verify::Watcher;
use super::{ANSWER_TIME, Names, Settings, shown};
use crate::net::conn::Dial;
use crate::net::relay;
use crate::record::replay::{End, Mapped, Session};
use crate::wire::amf0::Value;
use crate::wire::amf3;
use crate::wire::message::{Command, Message, UserControl, type_id};
use crate::wire::session::{Config, Event, Fields, Goal};
use crate::wire::time::Time;

/// How long an acknowledgement may take, where the target's bandwidth allows no more without one.
const ACK_TIME: Duration = Duration::from_secs(3);
/// Whoever waited longer for other sessions goes on from there, and does not catch up.
const LATE: Duration = Duration::from_millis(250);
/// After the last message: how long nothing more comes before the session ends.
const QUIET: Duration = Duration::from_secs(1);
/// After the last message: how long a session is held open where the recording has no time.
const HELD: Duration = Duration::from_secs(10);

/// What is the same for all sessions of a copy.
pub struct Stage {
    /// As asked for.
    pub settings: Settings,
    /// To the target.
    pub dial: Arc<dyn Dial>,
    /// What streams are called.
    pub names: Names,
    /// When everything must end.
    pub limit: Limit,
    /// The how manieth copy.
    pub copy: u32,
}

impl Stage {
    /// Sends the recording and tells what became of it. `turn` is its own among the other sessions.
    pub async fn perform(&self, recording: &Recording, turn: &mut Turn) -> Session {
        let mut record = self.blank(recording);
        match self.dial.dial().await {
            Ok(io) => {
                let performance = Performance {
                    stage: self,
                    recording,
                    line: Line::new(io, self.config(recording), self.limit.clone()),
                    ears: Ears::new(recording),
                    clock: Clock::new(self.settings.pace),
                    pace: self.settings.pace,
                    watchers: Vec::new(),
                    turn,
                };
                performance.run(&mut record).await;
            }
            Err(e) => (record.end, record.why) = (End::Unreachable, Some(format!("no connection: {e}"))),
        }
        record
    }

    /// The record of a session that has not begun.
    pub fn blank(&self, recording: &Recording) -> Session {
        let names = recording.names.iter().filter_map(|name| {
            let (recorded, target) = (name.to_string(), self.names.of(name.as_bstr())?.to_string());
            let mask = |name: &str| shown(name, self.settings.show_secrets);
            Some(Mapped { recorded: mask(&recorded), target: mask(&target) })
        });
        Session {
            key: recording.key.clone(),
            copy: self.copy,
            role: recording.role.clone(),
            names: names.collect(),
            recorded: recording.came.clone(),
            notes: recording
                .passed_over
                .iter()
                .map(|(what, n)| format!("not sent again: {n} {what}"))
                .collect(),
            ..Session::default()
        }
    }

    /// What to do where nothing came to a player because nobody published it.
    fn nothing_came(&self, recording: &Recording, ears: &Ears<'_>) -> Option<String> {
        let recorded =
            !recording.server_spoke || recording.came.keys().any(|type_id| carries_media(*type_id));
        let mut steps = recording.steps.iter().filter(|_| recorded && ears.media() == 0);
        let name = steps.find_map(|step| match step.act {
            Act::Call(_, call) if ears.was_asked(call) => step.names(Kind::Play, &recording.calls),
            _ => None,
        });
        let name = self.names.of(name.filter(|name| !self.names.is_published(name))?)?.to_string();
        Some(format!(
            "nothing came of {}, which no session of this replay publishes: the target must have it, live or as a file; --name plays another",
            shown(&name, self.settings.show_secrets)
        ))
    }

    fn config(&self, recording: &Recording) -> Config {
        let app = self.settings.app.clone().unwrap_or_else(|| recording.app.to_string());
        Config {
            tc_url: format!("rtmp://{}/{app}", self.settings.address),
            app,
            digest: recording.digest,
            ..Config::default()
        }
    }
}

/// What a session is at.
struct Performance<'a> {
    stage: &'a Stage,
    recording: &'a Recording,
    line: Line,
    ears: Ears<'a>,
    clock: Clock,
    pace: Pace,
    /// With the calls that publish its name, one after another.
    watchers: Vec<(Vec<usize>, Watcher)>,
    turn: &'a mut Turn,
}

/// Why a session ends before its time.
#[derive(Debug)]
enum Broken {
    Stop(Stop),
    Refused(String),
}

impl From<Stop> for Broken {
    fn from(stop: Stop) -> Broken {
        Broken::Stop(stop)
    }
}

impl Performance<'_> {
    async fn run(mut self, record: &mut Session) {
        let result = self.play_all(record).await;
        let refused = self.ears.refusal();
        (record.end, record.why) = match (result, refused) {
            (Ok(()), None) => (End::Done, None),
            (Ok(()), Some(why)) | (Err(Broken::Refused(why)), _) => (End::Refused, Some(why)),
            (Err(Broken::Stop(Stop::Closed | Stop::Broken(_))), Some(why)) => (End::Refused, Some(why)),
            (Err(Broken::Stop(stop @ (Stop::Closed | Stop::Broken(_)))), None) => {
                let end = if self.line.received() == 0 { End::Unreachable } else { End::Closed };
                (end, Some(stop.to_string()))
            }
            (Err(Broken::Stop(Stop::Late)), _) => (End::Late, Some(Stop::Late.to_string())),
            (Err(Broken::Stop(Stop::Interrupted)), _) => (End::Interrupted, None),
        };
        record.sent.bytes = self.line.sent;
        record.received.bytes = self.line.received();
        let show = self.stage.settings.show_secrets;
        let Performance { line, mut ears, watchers, .. } = self;
        line.close(&mut |event| ears.hear(event)).await;
        for (_, watcher) in watchers {
            record.verify.push(watcher.finish(|name| shown(name, show)).await);
        }
        let nothing_came = self.stage.nothing_came(self.recording, &ears);
        ears.into_record(record);
        record.notes.extend(nothing_came);
    }

    async fn turn(&mut self, until: Instant) -> Result<bool, Stop> {
        let ears = &mut self.ears;
        self.line.turn(until, &mut |event| ears.hear(event)).await
    }

    async fn play_all(&mut self, record: &mut Session) -> Result<(), Broken> {
        self.shake_hands().await?;
        let (steps, body) = (&self.recording.steps, self.recording.body());
        self.announce(record);
        self.clock = Clock::new(self.pace);
        for step in &steps[..body.end] {
            self.step(step, record).await?;
        }
        let (begin, length) = span(&steps[body.clone()]);
        for round in 1..self.stage.settings.loops {
            let Some(first) = steps.get(body.start) else { break };
            self.clock.rewind(first.time);
            for step in steps[body.clone()].iter().filter(|s| is_media(s.header.type_id)) {
                // What stood before the first frame, such as headers at time 0, does not go back behind the last.
                let late = step.header.timestamp.wrapping_sub(begin).cast_signed() < 0;
                let from = if late { begin.wrapping_sub(step.header.timestamp) } else { 0 };
                self.send_step(step, from.wrapping_add(length.wrapping_mul(round)), record).await?;
            }
        }
        self.drain().await?;
        for step in &steps[body.end..] {
            self.step(step, record).await?;
        }
        self.await_plays().await?;
        self.hold().await
    }

    async fn shake_hands(&mut self) -> Result<(), Broken> {
        let until = Instant::now() + ANSWER_TIME;
        let now = self.line.now();
        self.line.session.pursue(now, Goal::Handshaken);
        while self.line.session.reached() < Goal::Handshaken {
            if let Some(why) = self.ears.unspeakable.take() {
                return Err(Broken::Refused(why));
            }
            if !self.turn(until).await? || Instant::now() > until {
                let why = format!("no handshake within {ANSWER_TIME:?}");
                return Err(Broken::Stop(Stop::Broken(why)));
            }
        }
        Ok(())
    }

    /// Our chunk size, unless it is to be as recorded.
    fn announce(&mut self, record: &mut Session) {
        if let Some(size) = self.stage.settings.chunk_size {
            self.line.session.send(&Message::SetChunkSize(size), Fields::default());
            record.sent.messages.insert(type_id::SET_CHUNK_SIZE, 1);
        }
    }

    /// Sends one message when it is its turn.
    async fn step(&mut self, step: &Step, record: &mut Session) -> Result<(), Broken> {
        let calls = &self.recording.calls;
        let open = step.after.iter().filter(|call| !self.ears.is_settled(**call));
        let answers = open.filter_map(|call| calls[*call].answered_at);
        self.turn.set(answers.chain([step.time]).min().unwrap_or(step.time));
        for &call in &step.after {
            self.answered(call, step.time).await?;
        }
        let waited = self.await_turn(step.time).await?;
        self.await_media(step).await?;
        if waited > LATE {
            self.clock.set(step.time);
        }
        self.send_step(step, 0, record).await
    }

    /// Waits until the other sessions have sent and been answered what they had before this time of the recording; for how long.
    async fn await_turn(&mut self, recorded: Time) -> Result<Duration, Stop> {
        let began = Instant::now();
        self.turn.set(recorded);
        let Performance { line, ears, turn, .. } = self;
        loop {
            let mut hear = |event: Event<'_>| ears.hear(event);
            tokio::select! {
                biased;
                () = turn.come() => return Ok(began.elapsed()),
                turned = line.turn(Instant::now() + LONGEST_PAUSE, &mut hear) => drop(turned?),
            }
        }
    }

    /// Players whose play nothing stands behind go on when it is answered, where the recorded server answered it.
    async fn await_plays(&mut self) -> Result<(), Broken> {
        let Recording { steps, calls, .. } = self.recording;
        let is_last = |call: usize| !steps.iter().any(|step| step.after.contains(&call));
        let plays = calls.iter().enumerate().filter(|(i, call)| call.kind == Kind::Play && is_last(*i));
        for (call, answered_at) in plays.filter_map(|(i, call)| Some((i, call.answered_at?))) {
            if !self.ears.is_settled(call) {
                self.turn.set(answered_at);
                self.answered(call, answered_at).await?;
            }
        }
        Ok(())
    }

    /// Sends one message when it is due, `later` milliseconds later than its timestamp says.
    async fn send_step(&mut self, step: &Step, later: u32, record: &mut Session) -> Result<(), Broken> {
        let timestamp = step.header.timestamp.wrapping_add(later);
        let stamp = carries_media(step.header.type_id);
        let due = self.clock.due(step.time, stamp.then_some(timestamp));
        while Instant::now() < due {
            if !self.turn(due).await? {
                break;
            }
        }
        if let Act::Call(_, call) = step.act
            && self.recording.calls[call].kind == Kind::Publish
        {
            self.watch(step, call).await?;
        }
        if let Act::Reply(_, Some(to)) = step.act {
            let until = Instant::now() + QUIET;
            while self.ears.call_like(to).is_none() && self.turn(until).await? && Instant::now() < until {}
        }
        if is_media(step.header.type_id) {
            self.await_window(record).await?;
        }
        let Some(message) = self.message(step, record) else { return Ok(()) };
        self.send(&message, step, timestamp, record).await
    }

    /// A player at its own pace goes on when as much has come as when it was recorded, or nothing more comes.
    async fn await_media(&mut self, step: &Step) -> Result<(), Stop> {
        let mut quiet_at = Instant::now() + QUIET;
        while !matches!(self.pace, Pace::Capture(_)) && self.ears.media() < step.media_before {
            let before = self.ears.media();
            if !self.turn(quiet_at).await? || Instant::now() >= quiet_at {
                break;
            }
            if self.ears.media() > before {
                quiet_at = Instant::now() + QUIET;
            }
        }
        Ok(())
    }

    /// rtmp 5.4.5: no more is unacknowledged than the target's Set Peer Bandwidth allows. Few clients heed it and some targets
    /// acknowledge nothing, so that it is waited for a while and then no longer.
    async fn await_window(&mut self, record: &mut Session) -> Result<(), Stop> {
        let until = Instant::now() + ACK_TIME;
        while !self.line.session.may_send_media() {
            if !self.turn(until).await? || Instant::now() >= until {
                self.line.session.limit_output(None);
                record.notes.push(format!(
                    "not heeded: the target's Set Peer Bandwidth, since it acknowledged nothing for {ACK_TIME:?}"
                ));
            }
        }
        Ok(())
    }

    async fn send(
        &mut self,
        message: &Message,
        step: &Step,
        timestamp: u32,
        record: &mut Session,
    ) -> Result<(), Broken> {
        let msid = self.ears.msid(step.stream);
        if let Act::Call(_, call) = step.act {
            self.ears.asked(call, msid);
        }
        let mut frames = Vec::new();
        relay::frames_of(&step.header, &step.payload, 0, &mut frames);
        if carries_media(step.header.type_id) {
            for (calls, watcher) in &self.watchers {
                // A name that is published again may be so on another stream.
                if calls.last().is_some_and(|call| self.recording.calls[*call].stream == step.stream) {
                    watcher.sent(&step.header, &step.payload);
                }
            }
        }
        let fields =
            Fields { csid: Some(step.header.csid), timestamp: Some(timestamp), msid: Some(msid), fmt: None };
        self.line.session.send(message, fields);
        *record.sent.messages.entry(step.header.type_id).or_default() += 1;
        self.stage.settings.sent.fetch_add(1, Ordering::Relaxed);
        record.sent.frames += frames.len() as u64;
        let ears = &mut self.ears;
        Ok(self.line.flush(&mut |event| ears.hear(event)).await?)
    }

    /// Waits until the target answered a call, before what was recorded at this time.
    async fn answered(&mut self, call: usize, before: Time) -> Result<(), Broken> {
        let (recorded, until) = (&self.recording.calls[call], Instant::now() + ANSWER_TIME);
        let mut waited = false;
        while !self.ears.is_settled(call) {
            waited = true;
            if !self.turn(until).await? || Instant::now() > until {
                // A player may be answered by media alone, or only once there is some.
                if recorded.kind == Kind::Play {
                    break;
                }
                return Err(Broken::Refused(format!(
                    "{} was not answered within {ANSWER_TIME:?}",
                    recorded.name
                )));
            }
        }
        if let Some(why) = self.ears.refusal() {
            return Err(Broken::Refused(why));
        }
        if recorded.kind == Kind::Publish {
            waited |= self.watch_late(call).await?;
        }
        if waited {
            self.clock.set(recorded.answered_at.unwrap_or(before));
        }
        Ok(())
    }

    /// Has a player wait on the name that is about to be published, unless the recorded server refused that.
    async fn watch(&mut self, step: &Step, call: usize) -> Result<(), Stop> {
        if !self.stage.settings.verify || self.recording.calls[call].refused {
            return Ok(());
        }
        let name =
            step.names(Kind::Publish, &self.recording.calls).and_then(|name| self.stage.names.of(name));
        let Some(name) = name else { return Ok(()) };
        let name = name.to_string();
        // A player stays while its stream goes and comes again.
        if let Some((calls, _)) = self.watchers.iter_mut().find(|(_, watcher)| watcher.is_there(&name)) {
            calls.push(call);
            return Ok(());
        }
        let config = Config { name, chunk_size: None, digest: None, ..self.stage.config(self.recording) };
        let watcher = Watcher::start(self.stage.dial.clone(), config, self.stage.limit.clone());
        self.watchers.push((vec![call], watcher));
        self.await_player().await
    }

    /// Where a player cannot wait for a stream it joins as soon as there is one, before the first frame; whether that was waited for.
    async fn watch_late(&mut self, call: usize) -> Result<bool, Stop> {
        let Some(at) = self.watchers.iter().position(|(calls, w)| calls.contains(&call) && w.may_try_again())
        else {
            return Ok(false);
        };
        let (calls, watcher) = self.watchers.swap_remove(at);
        self.watchers.push((calls, watcher.again()));
        self.await_player().await?;
        Ok(true)
    }

    /// Waits until the player that was started last plays, is refused, or has not been answered for too long.
    async fn await_player(&mut self) -> Result<(), Stop> {
        let Performance { line, ears, watchers, .. } = self;
        let Some((_, watcher)) = watchers.last() else { return Ok(()) };
        let ready = watcher.ready();
        tokio::pin!(ready);
        loop {
            let mut hear = |event: Event<'_>| ears.hear(event);
            tokio::select! {
                biased;
                () = &mut ready => return Ok(()),
                turned = line.turn(Instant::now() + LONGEST_PAUSE, &mut hear) => drop(turned?),
            }
        }
    }

    /// Waits until the players have all that was published, before the stream is taken away.
    async fn drain(&mut self) -> Result<(), Stop> {
        for (_, watcher) in &self.watchers {
            while let Some(until) = watcher.drained_at() {
                let (line, ears) = (&mut self.line, &mut self.ears);
                let mut hear = |event: Event<'_>| ears.hear(event);
                tokio::select! {
                    turned = line.turn(until, &mut hear) => if !turned? { break },
                    () = watcher.arrival() => {}
                }
            }
        }
        Ok(())
    }

    /// After the last message: as long as the recording went on, or until nothing more is to be expected.
    async fn hold(&mut self) -> Result<(), Broken> {
        let (recording, pace) = (self.recording, self.pace);
        let last = recording.steps.last().map_or(recording.span.0, |s| s.time);
        let rest = recording.span.1.since(last).min(LONGEST_PAUSE);
        let timed = matches!(pace, Pace::Capture(_));
        let due = Instant::now() + if timed { pace.pause(rest) } else { Duration::ZERO };
        match self.await_turn(recording.span.1).await {
            Err(Stop::Closed) => return Ok(()),
            turn => turn?,
        };
        let end = if timed { due } else { Instant::now() + rest.max(HELD) };
        loop {
            let quiet = if self.ears.is_complete() { QUIET / 4 } else { QUIET };
            let until = if timed { end } else { end.min(Instant::now() + quiet) };
            match self.turn(until).await {
                Ok(true) if Instant::now() < end => {}
                Ok(_) => return Ok(()),
                // Everything was sent: that the target ends it now is a server's way. A reset says that it did not read all.
                Err(Stop::Closed) => return Ok(()),
                Err(stop) => return Err(stop.into()),
            }
        }
    }

    /// The message as the target is to get it; `None`: it is not sent.
    fn message(&mut self, step: &Step, record: &mut Session) -> Option<Message> {
        let plain = || Message::Unknown { type_id: step.header.type_id, payload: step.payload.clone() };
        match &step.act {
            Act::Plain => Some(plain()),
            Act::ChunkSize(size) => {
                // rtmp 5.4.1: at least 1, and the first bit is zero.
                let legal = (1..=0x7FFF_FFFF).contains(size);
                (self.stage.settings.chunk_size.is_none() && legal).then_some(Message::SetChunkSize(*size))
            }
            Act::BufferLength(stream, ms) => {
                let msid = self.ears.msid(*stream);
                Some(Message::UserControl(UserControl::SetBufferLength { msid, ms: *ms }))
            }
            Act::Call(command, call) => {
                let mut adapted = command.clone();
                self.adapt(&mut adapted, *call);
                Some(if adapted == *command { plain() } else { Message::Command(adapted) })
            }
            Act::Reply(command, to) => {
                let recorded = to.and_then(|to| self.recording.server_calls.get(to));
                let Some(target) = to.and_then(|to| self.ears.call_like(to)) else {
                    let what = recorded.map_or("a call that was not recorded", |call| &call.name);
                    record.notes.push(format!("not sent: the client's answer to {what}"));
                    return None;
                };
                record.calls.extend(recorded.map(|call| Mapped { recorded: call.id, target }));
                Some(Message::Command(Command { transaction_id: Some(target), ..command.clone() }))
            }
        }
    }

    /// Puts the target's app, URL, names and stream ids in.
    fn adapt(&self, command: &mut Command, call: usize) {
        let Config { app, tc_url, .. } = self.stage.config(self.recording);
        let names = &self.stage.names;
        match command.args.as_mut_slice() {
            [Value::Object(fields), ..] if self.recording.calls[call].kind == Kind::Connect => {
                for (name, value) in fields {
                    // swfUrl and pageUrl of some clients are the same URL again.
                    let is_url = value.as_text().is_some_and(|text| text == self.recording.tc_url);
                    if name == "app" {
                        *value = app.as_str().into();
                    } else if name == "tcUrl" || (is_url && !self.recording.tc_url.is_empty()) {
                        *value = tc_url.as_str().into();
                    }
                }
            }
            [_, id, ..] => {
                if let Some(stream @ Stream::Of(_)) = self.recording.calls[call].deletes {
                    let target = f64::from(self.ears.msid(stream));
                    *id = match id {
                        Value::Amf3(_) => Value::Amf3(amf3::Value::Double(target)),
                        _ => Value::Number(target),
                    };
                }
            }
            _ => {}
        }
        for text in names_in(command) {
            if let Some(name) = names.of(BStr::new(text)) {
                *text = name;
            }
        }
    }
}

/// The first frame's time, and how long one round of the media is, in milliseconds: up to where the next frame would be.
fn span(body: &[Step]) -> (u32, u32) {
    let mut frames = Vec::new();
    body.iter().for_each(|s| relay::frames_of(&s.header, &s.payload, 0, &mut frames));
    let Some(first) = frames.first().map(|f| f.timestamp) else { return (0, 0) };
    let since = |stamp: u32| stamp.wrapping_sub(first).cast_signed().max(0) as u32;
    let mut step = 1;
    for kind in [type_id::AUDIO, type_id::VIDEO] {
        let stamps: Vec<u32> =
            frames.iter().filter(|f| f.type_id == kind).map(|f| since(f.timestamp)).collect();
        let last = stamps.iter().max().copied().unwrap_or(0);
        step = step.max(last / (stamps.len().max(2) as u32 - 1));
    }
    (first, frames.iter().map(|f| since(f.timestamp)).max().unwrap_or(0) + step)
}
