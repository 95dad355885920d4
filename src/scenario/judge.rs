//! When a condition holds: each form of `expect` and of the branches of `one of`.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::ast::{Condition, ConditionKind, Pattern, PatternKind, Reach, Step, StepKind, TimeKind, TimeSpec};
use super::board::{Boxed, Look, View, first_of};
use super::pattern::{Arrival, Sent};
use super::remux;
use super::run::{Run, Stop};
use super::scope::Scope;
use super::trace;
use crate::net::conn::{Conn, Direction, Entry, Seen};
use crate::net::relay::{self, Frame, Relayed, Rules};
use crate::notation::expr::{Pos, Text};
use crate::wire::amf0::Value;
use crate::wire::message::Message;
use crate::wire::session::Goal;
use crate::wire::time::Time;

/// How long a condition is given where nothing is said.
pub(super) fn customary(kind: &ConditionKind) -> TimeSpec {
    TimeSpec::Kind(match kind {
        ConditionKind::Relayed { .. } => TimeKind::Relay,
        ConditionKind::Controlled | ConditionKind::Again(_) => TimeKind::Close,
        _ => TimeKind::Reply,
    })
}

/// Whether its failing is a hang or a crash: fail under every level.
pub(super) fn is_harm(kind: &ConditionKind) -> bool {
    matches!(kind, ConditionKind::Alive | ConditionKind::Controlled)
}

impl Run<'_> {
    /// Waits until a condition holds; why not, where it does not by its time.
    pub(super) fn holds<'b>(
        &'b self,
        condition: &'b Condition,
        scope: &'b mut Scope,
        deadline: Instant,
    ) -> Boxed<'b, Result<(), String>> {
        Box::pin(async move {
            let name = scope.text(&condition.conn)?;
            match &condition.kind {
                ConditionKind::Seen(pattern) => self.seen(&name, pattern, scope, deadline).await,
                ConditionKind::NeverFor(pattern, time) => {
                    let deadline = Instant::now() + self.ground.cx.times.of(*time);
                    self.never(&name, pattern, None, scope, deadline).await
                }
                ConditionKind::NeverUntil(pattern, until) => {
                    self.never(&name, pattern, Some(until), scope, deadline).await
                }
                ConditionKind::All(pattern, are) => self.all(&name, pattern, are, scope),
                ConditionKind::Count(from, to, pattern) => {
                    let range = (scope.number(from)?, scope.number(to)?);
                    self.count(&name, range, pattern, scope, deadline).await
                }
                ConditionKind::Received(from, to) => {
                    let range = (scope.number(from)?, scope.number(to)?);
                    self.received(&name, range, deadline).await
                }
                ConditionKind::InStep => self.in_step(&name, scope, deadline).await,
                ConditionKind::Alive => self.alive(deadline).await,
                ConditionKind::Controlled => self.controlled(&name, scope, deadline).await,
                ConditionKind::Relayed { .. } => {
                    self.relayed(&condition.kind, scope, deadline, Duration::ZERO).await
                }
                ConditionKind::Again(reach) => self.again(&name, reach, scope, deadline).await,
                ConditionKind::Steps(steps) => self.branch(steps, scope, deadline).await,
            }
        })
    }

    fn conn(&self, name: &str) -> Result<Conn, String> {
        self.ground.board.conn(name).ok_or_else(|| format!("{name} was never opened"))
    }

    async fn branch(&self, steps: &[Step], scope: &mut Scope, deadline: Instant) -> Result<(), String> {
        match self.steps(steps, scope, &mut Some(deadline), false).await {
            Ok(()) => Ok(()),
            Err(Stop::Missed(why, _)) => Err(why),
            Err(Stop::Decided) => Err("decided elsewhere".into()),
        }
    }

    /// The first arrival not yet taken that matches.
    pub(super) async fn seen(
        &self,
        name: &str,
        pattern: &Pattern,
        scope: &mut Scope,
        deadline: Instant,
    ) -> Result<(), String> {
        let c1 = self.given(name, scope);
        let sent = Sent { c1: c1.as_ref() };
        let waits_on = outlives(pattern);
        let mut at = 0;
        let found = self.ground.board.watch(name, deadline, |log| {
            while let Some(entry) = log.get(at) {
                at += 1;
                if is_arrival(entry) && !scope.taken.contains(&entry.order) {
                    if pattern.matches(&Arrival::new(&entry.seen), sent, &mut scope.env) {
                        return Look::Found((entry.order, is_event(entry)));
                    }
                    if is_end(entry) && !waits_on {
                        return Look::Never;
                    }
                }
            }
            Look::Wait
        });
        match found.await {
            Some((order, event)) => {
                if event {
                    scope.taken.insert(order);
                }
                Ok(())
            }
            None => Err(format!("expected `{}`; {}", self.line(pattern.pos), self.what_came(name))),
        }
    }

    /// The next message of the pattern's types, which must match.
    pub(super) async fn next_seen(
        &self,
        name: &str,
        pattern: &Pattern,
        scope: &mut Scope,
        deadline: Instant,
    ) -> Result<(), String> {
        let c1 = self.given(name, scope);
        let sent = Sent { c1: c1.as_ref() };
        // Behind the last of its type that was taken.
        let taken = |entry: &&Entry| {
            scope.taken.contains(&entry.order) && pattern.same_type(&Arrival::new(&entry.seen))
        };
        let last = self.conn(name)?.log(|log| log.iter().rev().find(taken).map_or(0, |entry| entry.order));
        let mut at = 0;
        let found = self.ground.board.watch(name, deadline, |log| {
            while let Some(entry) = log.get(at) {
                at += 1;
                if is_end(entry) {
                    return Look::Never;
                }
                let arrival = Arrival::new(&entry.seen);
                if is_arrival(entry) && entry.order > last && pattern.same_type(&arrival) {
                    let holds = pattern.matches(&arrival, sent, &mut scope.env);
                    return if holds { Look::Found(entry.order) } else { Look::Never };
                }
            }
            Look::Wait
        });
        match found.await {
            Some(order) => {
                scope.taken.insert(order);
                Ok(())
            }
            None => Err(format!("expected `{}` next; {}", self.line(pattern.pos), self.what_came(name))),
        }
    }

    /// Holds when the time is up (or, with `until`, that came) and nothing matched before.
    async fn never(
        &self,
        name: &str,
        pattern: &Pattern,
        until: Option<&Pattern>,
        scope: &mut Scope,
        deadline: Instant,
    ) -> Result<(), String> {
        let c1 = self.given(name, scope);
        let sent = Sent { c1: c1.as_ref() };
        let waits_on = outlives(pattern);
        let mut at = 0;
        let came = self.ground.board.watch(name, deadline, |log| {
            while let Some(entry) = log.get(at) {
                at += 1;
                if !is_arrival(entry) || scope.taken.contains(&entry.order) {
                    continue;
                }
                let arrival = Arrival::new(&entry.seen);
                if pattern.matches(&arrival, sent, &mut scope.env.clone()) {
                    return Look::Found(Some(trace::text(entry)));
                }
                if until.is_some_and(|until| until.matches(&arrival, sent, &mut scope.env)) {
                    scope.taken.insert(entry.order);
                    return Look::Found(None);
                }
                if is_end(entry) && !waits_on {
                    return Look::Never;
                }
            }
            Look::Wait
        });
        match (came.await, until) {
            (Some(Some(came)), _) => Err(format!("`{}`: {came} came", self.line(pattern.pos))),
            (Some(None), _) | (None, None) => Ok(()),
            (None, Some(_)) => {
                Err(format!("`{}`: the end did not come; {}", self.line(pattern.pos), self.what_came(name)))
            }
        }
    }

    /// Of all that has arrived.
    fn all(&self, name: &str, pattern: &Pattern, are: &Pattern, scope: &mut Scope) -> Result<(), String> {
        let c1 = self.given(name, scope);
        let sent = Sent { c1: c1.as_ref() };
        let conn = self.conn(name)?;
        let mut env = scope.env.clone();
        conn.log(|log| {
            for entry in log.iter().filter(|entry| is_arrival(entry)) {
                let mut tried = env.clone();
                let arrival = Arrival::new(&entry.seen);
                if !pattern.matches(&arrival, sent, &mut tried) {
                    continue;
                }
                if !are.matches(&arrival, sent, &mut tried) {
                    return Err(format!("`{}`: {} came", self.line(pattern.pos), trace::text(entry)));
                }
                env = tried;
            }
            Ok(())
        })?;
        scope.env = env;
        Ok(())
    }

    async fn count(
        &self,
        name: &str,
        (from, to): (f64, f64),
        pattern: &Pattern,
        scope: &mut Scope,
        deadline: Instant,
    ) -> Result<(), String> {
        let c1 = self.given(name, scope);
        let sent = Sent { c1: c1.as_ref() };
        let (mut at, mut count) = (0, 0.0);
        let _ = self
            .ground
            .board
            .watch(name, deadline, |log| {
                while let Some(entry) = log.get(at) {
                    at += 1;
                    let new = is_arrival(entry) && !scope.taken.contains(&entry.order);
                    if new && pattern.matches(&Arrival::new(&entry.seen), sent, &mut scope.env.clone()) {
                        count += 1.0;
                    }
                    if count > to || is_end(entry) {
                        return Look::<()>::Never;
                    }
                }
                Look::Wait
            })
            .await;
        if (from..=to).contains(&count) {
            return Ok(());
        }
        Err(format!("`{}`: {count} came, {from} to {to} were expected", self.line(pattern.pos)))
    }

    async fn received(&self, name: &str, (from, to): (f64, f64), deadline: Instant) -> Result<(), String> {
        let conn = self.conn(name)?;
        let _ = self
            .ground
            .board
            .watch_all(deadline, |view| match conn.received() as f64 > to {
                true => Look::<()>::Never,
                false => view.log(name, &mut |log| {
                    if log.last().is_some_and(is_end) { Look::Never } else { Look::Wait }
                }),
            })
            .await;
        let received = conn.received() as f64;
        if (from..=to).contains(&received) {
            return Ok(());
        }
        Err(format!("{received} bytes came, {from} to {to} were expected; {}", self.what_came(name)))
    }

    /// This connection still answers.
    async fn in_step(&self, name: &str, scope: &mut Scope, deadline: Instant) -> Result<(), String> {
        let conn = self.conn(name)?;
        match self.ground.in_step(name, &conn, deadline).await {
            Some(order) => {
                scope.taken.insert(order);
                Ok(())
            }
            None => Err(format!("in step: the sentinel was not answered; {}", self.what_came(name))),
        }
    }

    /// A new connection reaches connected.
    async fn alive(&self, deadline: Instant) -> Result<(), String> {
        self.ground.alive(deadline).await.map_err(|why| format!("not alive: {why}"))
    }

    /// An error answer, a close or in step; and then alive.
    async fn controlled(&self, name: &str, scope: &mut Scope, deadline: Instant) -> Result<(), String> {
        let taken = scope.taken.clone();
        let is_error = move |entry: &Entry| match &entry.seen {
            Seen::Message(header, payload) => {
                !taken.contains(&entry.order)
                    && Message::decode(header.type_id, payload).is_ok_and(|m| is_error_answer(&m))
            }
            Seen::Closed(_) => true,
            _ => false,
        };
        let mut stepped = scope.clone();
        let branches: Vec<Option<Boxed<'_, Option<()>>>> = vec![
            Some(Box::pin(async move { self.ground.answer(name, deadline, is_error).await.map(|_| ()) })),
            Some(Box::pin(async move { self.in_step(name, &mut stepped, deadline).await.ok() })),
        ];
        if first_of(branches).await.is_none() {
            let came = self.what_came(name);
            return Err(format!("not controlled: no error answer, no close, and not in step; {came}"));
        }
        self.alive(self.ground.by(TimeKind::Reply)).await
    }

    /// `linger`: how long is looked on after all has come, for a last frame that comes twice. Where a branch of several waits for the
    /// same arrival, that would let another win.
    pub(super) async fn relayed(
        &self,
        kind: &ConditionKind,
        scope: &Scope,
        deadline: Instant,
        linger: Duration,
    ) -> Result<(), String> {
        let ConditionKind::Relayed { from, to, spacing, gaps_at_key, tail } = kind else { return Ok(()) };
        let (spacing, gaps_at_key, tail) = (*spacing, *gaps_at_key, *tail as usize);
        let mut rules = Rules { since: 0, spacing, gaps_at_key, tail };
        let (from, to) = (scope.text(from)?, scope.text(to)?);
        // What we sent before this line is known, wherever the horizon is.
        let pictures = self.ground.cx.remuxes;
        let mut sent = Side { pictures, ..Side::default() };
        let sender = self.conn(&from)?;
        sender.log(|log| sent.read(log, Direction::Sent, usize::MAX));
        if let Some(closed) = sender.log(end).filter(|_| sent.frames.is_empty()) {
            if !self.has_asked_by(closed) {
                return Err(
                    self.cut_off(format!("{from} was closed by the target before anything was asked"))
                );
            }
            let what = if pictures { "picture" } else { "frame" };
            return Err(format!("{from} was closed by the target before a {what} was sent"));
        }
        if sent.ended || sender.is_deaf_to_us() {
            // What a sender that was closed did not get to send is no tail.
            rules.tail = 0;
        }
        let mut came = Side { pictures, ..Side::default() };
        // One more than was sent is wrong already: what is behind it is not looked at.
        let most = sent.frames.len() + 1;
        let mut last = Relayed::Outstanding("nothing came".into());
        let mut compare = |view: &View<'_>| {
            let before = came.at;
            view.log(&to, &mut |log| {
                came.read(log, Direction::Received, most);
                Look::<()>::Wait
            });
            if came.at != before {
                rules.since = came.since.max(came.joined(&sent));
                last = relay::compare(&sent.frames, &came.frames, rules);
            }
            (last.clone(), came.ended)
        };
        let until_whole = |view: &View<'_>| match compare(view) {
            (Relayed::Outstanding(_), false) => Look::<()>::Wait,
            _ => Look::Never,
        };
        let _ = self.ground.board.watch_all(deadline, until_whole).await;
        if !linger.is_zero() {
            let until_wrong = |view: &View<'_>| match compare(view) {
                (Relayed::Whole, false) => Look::<()>::Wait,
                _ => Look::Never,
            };
            let _ = self.ground.board.watch_all(Instant::now() + linger, until_wrong).await;
        }
        match last {
            Relayed::Whole => Ok(()),
            Relayed::Outstanding(why) if came.ended => Err(format!("{to}: {why}; it was closed")),
            Relayed::Outstanding(why) | Relayed::Wrong(why) => Err(format!("{to}: {why}")),
        }
    }

    /// Tried anew on fresh connections until the time is up.
    async fn again(
        &self,
        name: &str,
        reach: &Reach,
        scope: &mut Scope,
        deadline: Instant,
    ) -> Result<(), String> {
        loop {
            if let Some(conn) = self.ground.board.forget(name) {
                conn.close();
            }
            let last = self.reach(name, reach, scope).await;
            if last.is_ok() || Instant::now() >= deadline {
                return last;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// What came last on a connection, for the reason of a verdict.
    pub(super) fn what_came(&self, name: &str) -> String {
        let conn = match self.conn(name) {
            Ok(conn) => conn,
            Err(why) => return why,
        };
        let horizon = self.ground.board.horizon();
        conn.log(|log| {
            let told = log.iter().rev().filter(|entry| {
                let told = !matches!(entry.seen, Seen::Chunk(_) | Seen::Reached(_));
                told && is_arrival(entry) && entry.order <= horizon
            });
            let mut last: Vec<String> = told.take(3).map(trace::text).collect();
            last.reverse();
            match last.is_empty() {
                true => "nothing came".into(),
                false => format!("last came: {}", last.join(", ")),
            }
        })
    }
}

/// The connection that a condition is about most.
pub(super) fn subject(condition: &Condition) -> &Text {
    match &condition.kind {
        ConditionKind::Relayed { to, .. } => to,
        ConditionKind::Steps(steps) => steps.first().map_or(&condition.conn, |step| match &step.kind {
            StepKind::Judge(inner, _) => subject(inner),
            _ => &step.conn,
        }),
        _ => &condition.conn,
    }
}

/// Where a condition's own words stand: a block is known by its first line.
pub(super) fn place(condition: &Condition) -> Pos {
    match &condition.kind {
        ConditionKind::Steps(steps) => steps.first().map_or(condition.pos, |step| step.pos),
        _ => condition.pos,
    }
}

/// The frames of one side of a relay.
#[derive(Default)]
struct Side {
    /// Entries read.
    at: usize,
    frames: Vec<Frame>,
    /// When play was confirmed.
    since: u64,
    /// Of frames only the pictures.
    pictures: bool,
    ended: bool,
}

impl Side {
    /// Where the first picture that came was sent: who writes anew may begin at any.
    fn joined(&self, sent: &Side) -> u64 {
        let first = self.frames.first().filter(|_| self.pictures);
        let origin = first.and_then(|first| sent.frames.iter().find(|sent| sent.payload == first.payload));
        origin.map_or(0, |origin| origin.order)
    }

    /// `most`: so many frames are kept.
    fn read(&mut self, log: &[Entry], direction: Direction, most: usize) {
        while let Some(entry) = log.get(self.at) {
            self.at += 1;
            match &entry.seen {
                Seen::Message(header, payload) if entry.direction == direction => {
                    let mut frames = Vec::new();
                    relay::frames_of(header, payload, entry.order, &mut frames);
                    let room = most - self.frames.len();
                    match self.pictures {
                        true => self.frames.extend(remux::pictures(&frames).take(room)),
                        false => self.frames.extend(frames.into_iter().take(room)),
                    }
                }
                Seen::Reached(Goal::Playing) => self.since = entry.order,
                Seen::Closed(_) => self.ended = true,
                _ => {}
            }
        }
    }
}

/// When the peer closed a connection.
fn end(log: &[Entry]) -> Option<Time> {
    log.iter().find(|entry| matches!(entry.seen, Seen::Closed(_))).map(|entry| entry.at)
}

/// Whether this entry is the last of what the peer sends.
fn is_end(entry: &Entry) -> bool {
    matches!(entry.seen, Seen::Closed(_) | Seen::Full)
}

/// Whether this came from the peer, or says of it that it takes no more.
pub(super) fn is_arrival(entry: &Entry) -> bool {
    entry.direction == Direction::Received || entry.seen == Seen::Stuck
}

/// Whether a pattern takes this away: what happens once. States (closed, stuck, the handshake's pieces) stay to be seen.
fn is_event(entry: &Entry) -> bool {
    matches!(entry.seen, Seen::Chunk(_) | Seen::Message(..) | Seen::Note(_))
}

/// Whether a pattern may still match something behind the peer's end.
fn outlives(pattern: &Pattern) -> bool {
    match &pattern.kind {
        PatternKind::Stuck | PatternKind::Not(_) => true,
        PatternKind::Or(any) => any.iter().any(outlives),
        _ => false,
    }
}

/// Whether an info object says that something went wrong (`level: "error"`).
fn is_error_answer(message: &Message) -> bool {
    let Message::Command(command) = message else { return false };
    match command.name.as_slice() {
        b"_error" => true,
        b"onStatus" => command
            .args
            .iter()
            .filter_map(|arg| arg.get("level").and_then(Value::as_text))
            .any(|level| level == "error"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::chunk::MessageHeader;
    use crate::wire::message::type_id;

    #[test]
    fn no_more_pictures_are_kept_than_asked_for() {
        let payload = [&[0x17, 1, 0, 0, 0][..], &[0, 0, 0, 1, 0x65].repeat(1000)].concat();
        let len = payload.len() as u32;
        let header = MessageHeader { csid: 6, timestamp: 0, len, type_id: type_id::VIDEO, msid: 1 };
        let seen = Seen::Message(header, payload.into());
        let entry = Entry { at: Time::ZERO, order: 1, direction: Direction::Received, offset: 0, seen };
        let log = [entry.clone(), entry];
        for (most, kept) in [(3, 3), (1500, 1500), (usize::MAX, 2000)] {
            let mut side = Side { pictures: true, ..Side::default() };
            side.read(&log, Direction::Received, most);
            assert_eq!((side.at, side.frames.len()), (2, kept), "{most}");
        }
    }
}
