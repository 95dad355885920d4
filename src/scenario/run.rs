//! One case against a target: steps and connections in, a verdict with its reason and trace out.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::ast::{
    Await, Branch, Case, Condition, ConditionKind, Judgement, Reach, Scenario, Step, StepKind, TimeKind,
    TimeSpec,
};
use super::board::{Boxed, first_of};
use super::clauses::{Level, Severity};
use super::ground::{Context, Ground, Life};
use super::judge;
use super::memory;
use super::scope::Scope;
use crate::net::conn::{Conn, Direction, Entry, Seen};
use crate::notation::expr::Pos;
use crate::record;
use crate::record::Verdict;
use crate::wire::note::Note;
use crate::wire::session::{Config, Goal};
use crate::wire::time::Time;

/// One case to run.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// The file.
    pub scenario: &'a Scenario,
    /// Its text, for messages.
    pub source: &'a str,
    /// The row.
    pub case: &'a Case,
    /// The case's id.
    pub id: &'a str,
    /// What a failed judgement costs: the first clause's level.
    pub level: Level,
    /// And its severity.
    pub severity: Severity,
}

/// What a case came to.
pub struct Ended {
    /// The worst of what was said.
    pub verdict: Verdict,
    /// The label of what decided.
    pub branch: String,
    /// What was expected and what came.
    pub why: String,
    /// What else was said, and the departures that were seen.
    pub notes: Vec<String>,
    /// Milliseconds.
    pub duration_ms: u64,
    /// What it saw of the target's life.
    pub(super) life: Life,
    /// What passed, by connection.
    pub conns: Vec<(String, Conn)>,
    /// The order of the entry at which it was decided.
    pub decided_at: u64,
}

/// Runs one case; always ends, at the latest when `limit` is up.
pub async fn run(cx: &Context, job: Job<'_>, limit: Duration) -> Ended {
    let began = Instant::now();
    let run = Run::new(cx, job);
    let mut scope = match run.scope() {
        Ok(scope) => scope,
        Err(why) => {
            run.say(Verdict::Blocked, "blocked", why, Pos::default());
            return run.ended(began.elapsed());
        }
    };
    let mut first = None;
    let case = run.steps(&job.scenario.steps, &mut scope, &mut first, true);
    match timeout(limit, run.ground.board.drive(case)).await {
        Ok(Ok(()) | Err(Stop::Decided)) => {}
        Ok(Err(Stop::Missed(why, pos))) => run.say(Verdict::Blocked, "blocked", why, pos),
        Err(_) => {
            let why = format!("the case was not over after {} s", limit.as_secs());
            run.say(Verdict::Blocked, "out of time", why, Pos::default());
        }
    }
    run.ended(began.elapsed())
}

/// Why steps stopped.
pub(super) enum Stop {
    /// The worst has been said.
    Decided,
    /// A precondition (inside a branch: anything) does not hold: why, and where it stands.
    Missed(String, Pos),
}

struct Finding {
    verdict: Verdict,
    label: String,
    why: String,
    horizon: u64,
}

/// A case under way.
pub(super) struct Run<'a> {
    pub(super) ground: Ground<'a>,
    job: Job<'a>,
    findings: Mutex<Vec<Finding>>,
    /// Why what a case asks could not be asked, whatever its judgements say.
    cut_off: Mutex<Option<String>>,
    /// When the file first did something that a target may answer by closing any connection: sent something, or had a connection that is not
    /// as others are, or a second one that is to publish.
    asked: Mutex<Option<Time>>,
    publishers: AtomicU32,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl<'a> Run<'a> {
    fn new(cx: &'a Context, job: Job<'a>) -> Run<'a> {
        Run {
            ground: Ground::new(cx, job.id),
            job,
            findings: Mutex::default(),
            cut_off: Mutex::default(),
            asked: Mutex::default(),
            publishers: AtomicU32::new(0),
        }
    }

    fn scope(&self) -> Result<Scope, String> {
        let (cx, name) = (self.ground.cx, self.ground.stream_name());
        let given = [("name", name.as_str()), ("app", &cx.app), ("url", &cx.tc_url)];
        Scope::new(self.ground.seed, &given, &cx.suffix, self.job.case)
    }

    /// The line of the file that a position is in, without its comment.
    pub(super) fn line(&self, pos: Pos) -> String {
        let line = self.job.source.lines().nth(pos.line.saturating_sub(1) as usize).unwrap_or("");
        let code = line.split(" #").next().unwrap_or("").trim();
        code.trim_end_matches('{').trim().to_owned()
    }

    /// The words of a line behind its verdict.
    fn words(&self, pos: Pos) -> String {
        let line = self.line(pos);
        let verdict = ["pass ", "info ", "lenient ", "fail ", "broken "];
        let words = verdict.iter().find_map(|word| line.strip_prefix(word));
        words.unwrap_or(&line).trim().to_owned()
    }

    /// Says a verdict.
    fn say(&self, verdict: Verdict, label: impl Into<String>, why: String, pos: Pos) {
        let why = match pos.line {
            0 => why,
            line => format!("line {line}: {why}"),
        };
        lock(&self.findings).push(Finding {
            verdict,
            label: label.into(),
            why,
            horizon: self.ground.board.horizon(),
        });
    }

    /// The file does something that a connection may be closed for.
    pub(super) fn asks(&self) {
        lock(&self.asked).get_or_insert_with(|| self.ground.board.origin().now());
    }

    /// Whether it had done so by this time.
    pub(super) fn has_asked_by(&self, time: Time) -> bool {
        lock(&self.asked).is_some_and(|asked| asked <= time)
    }

    /// The case cannot ask what it asks: why, which is given back.
    pub(super) fn cut_off(&self, why: String) -> String {
        lock(&self.cut_off).insert(why).clone()
    }

    /// Says a verdict in a place where steps go on; the worst one ends them. Nothing is judged of what could not be asked.
    fn say_on(&self, verdict: Verdict, label: impl Into<String>, why: String, pos: Pos) -> Result<(), Stop> {
        let cut_off = lock(&self.cut_off).take();
        if let Some(why) = cut_off.filter(|_| verdict != Verdict::Pass) {
            return Err(Stop::Missed(why, pos));
        }
        self.say(verdict, label, why, pos);
        if verdict == Verdict::Fail { Err(Stop::Decided) } else { Ok(()) }
    }

    fn ended(self, took: Duration) -> Ended {
        let mut notes = Vec::new();
        let conns = self.ground.board.conns();
        for (name, conn) in &conns {
            conn.log(|log| notes.extend(departures(name, log)));
        }
        let findings = std::mem::take(&mut *lock(&self.findings));
        let worst = findings.iter().map(|f| f.verdict).max();
        for finding in &findings {
            if finding.verdict == Verdict::Info && worst != Some(Verdict::Info) {
                notes.push(format!("info: {}", finding.why));
            }
        }
        let life = self.ground.seen_life();
        let decided = findings.into_iter().find(|f| Some(f.verdict) == worst).unwrap_or(Finding {
            verdict: Verdict::Blocked,
            label: "nothing was judged".into(),
            why: "the case ended without a judgement".into(),
            horizon: 0,
        });
        // What was not read cannot be missed.
        let full = |(_, conn): &(String, Conn)| conn.log(|log| log.iter().any(|e| e.seen == Seen::Full));
        let decided = match conns.iter().find(|conn| full(conn)) {
            Some((name, _)) if decided.verdict > Verdict::Pass => Finding {
                verdict: Verdict::Blocked,
                label: "more came than is kept".into(),
                why: format!("{name} sends without end, and not all of it was read; else: {}", decided.why),
                ..decided
            },
            _ => decided,
        };
        Ended {
            verdict: decided.verdict,
            branch: decided.label,
            why: decided.why,
            notes,
            duration_ms: took.as_millis() as u64,
            life,
            conns,
            decided_at: decided.horizon,
        }
    }

    /// All steps in their order. `first` is when the first wait is over at the latest, where a branch says so; `judged`: at the top, where judgements are said
    /// (inside a branch they must hold).
    pub(super) fn steps<'b>(
        &'b self,
        steps: &'b [Step],
        scope: &'b mut Scope,
        first: &'b mut Option<Instant>,
        judged: bool,
    ) -> Boxed<'b, Result<(), Stop>> {
        Box::pin(async move {
            for step in steps {
                self.step(step, scope, first, judged).await?;
            }
            Ok(())
        })
    }

    async fn step(
        &self,
        step: &Step,
        scope: &mut Scope,
        first: &mut Option<Instant>,
        judged: bool,
    ) -> Result<(), Stop> {
        let missed = |why| Stop::Missed(why, step.pos);
        let name = scope.text(&step.conn).map_err(missed)?;
        match &step.kind {
            StepKind::Let(var, payload) => {
                self.given(&name, scope);
                scope.bind_payload(var, payload).map_err(missed)
            }
            StepKind::Reach(reach) => self.reach(&name, reach, scope).await.map_err(missed),
            StepKind::Wait(time) => {
                sleep(self.ground.cx.times.of(*time)).await;
                Ok(())
            }
            StepKind::Close | StepKind::HalfClose | StepKind::Reset => {
                self.asks();
                if let Some(conn) = self.ground.board.conn(&name) {
                    match step.kind {
                        StepKind::HalfClose => conn.half_close(),
                        StepKind::Reset => conn.reset(),
                        _ => conn.close(),
                    }
                }
                Ok(())
            }
            StepKind::StopReading | StepKind::ResumeReading => {
                self.asks();
                if let Some(conn) = self.ground.board.conn(&name) {
                    conn.read_on(matches!(step.kind, StepKind::ResumeReading));
                }
                Ok(())
            }
            StepKind::Send(send) => self.send(&name, std::slice::from_ref(send), scope).await.map_err(missed),
            StepKind::Together(sends) => self.send(&name, sends, scope).await.map_err(missed),
            StepKind::Repeat { count, var, every, body } => {
                let count = scope.number(count).map_err(missed)?;
                let every = every.map(|time| self.ground.cx.times.of(time));
                let began = Instant::now();
                for i in 0..count.clamp(0.0, 1e7) as u32 {
                    if let Some(every) = every {
                        sleep_until(began + every * i).await;
                    }
                    if let Some(var) = var {
                        scope.bind_number(var, Some(f64::from(i)));
                    }
                    self.steps(body, scope, first, judged).await?;
                }
                Ok(())
            }
            StepKind::Await(wanted) => self.awaited(&name, wanted, scope, first).await.map_err(missed),
            StepKind::Judge(condition, within) => self.judge(condition, *within, scope, first, judged).await,
            StepKind::OneOf { within, branches, otherwise } => {
                self.one_of(*within, branches, otherwise, scope, step.pos, judged).await
            }
            StepKind::Memory { below, body } => self.memory(*below, body, scope, step.pos, judged).await,
        }
    }

    async fn awaited(
        &self,
        name: &str,
        wanted: &Await,
        scope: &mut Scope,
        first: &mut Option<Instant>,
    ) -> Result<(), String> {
        let within = wanted.within.unwrap_or(TimeSpec::Kind(TimeKind::Reply));
        let within = self.ground.cx.times.of(within);
        let deadline = first.take().unwrap_or_else(|| Instant::now() + within);
        if wanted.next {
            self.next_seen(name, &wanted.pattern, scope, deadline).await
        } else {
            self.seen(name, &wanted.pattern, scope, deadline).await
        }
    }

    async fn judge(
        &self,
        condition: &Condition,
        within: Option<TimeSpec>,
        scope: &mut Scope,
        first: &mut Option<Instant>,
        judged: bool,
    ) -> Result<(), Stop> {
        let within = self.ground.cx.times.of(within.unwrap_or_else(|| judge::customary(&condition.kind)));
        let deadline = first.take().unwrap_or_else(|| Instant::now() + within);
        let held = match condition.kind {
            ConditionKind::Relayed { .. } if judged => {
                let linger = self.ground.cx.times.kind(TimeKind::Quiet) / 7;
                self.relayed(&condition.kind, scope, deadline, linger).await
            }
            _ => self.holds(condition, scope, deadline).await,
        };
        let pos = condition.pos;
        match held {
            Ok(()) if judged => self.say_on(Verdict::Pass, self.line(pos), self.line(pos), pos),
            Ok(()) => Ok(()),
            Err(why) if judged => {
                let verdict = match judge::is_harm(&condition.kind) {
                    true => Verdict::Fail,
                    false => cost(self.job.level, self.job.severity),
                };
                self.say_on(verdict, self.line(pos), why, pos)
            }
            Err(why) => Err(Stop::Missed(why, pos)),
        }
    }

    async fn one_of(
        &self,
        within: Option<TimeSpec>,
        branches: &[Branch],
        otherwise: &(Judgement, String),
        scope: &mut Scope,
        pos: Pos,
        judged: bool,
    ) -> Result<(), Stop> {
        let now = Instant::now();
        // Without a time of its own a branch is watched as long as the others are.
        let customary =
            branches.iter().map(|branch| self.ground.cx.times.of(judge::customary(&branch.condition.kind)));
        let customary = customary.max().unwrap_or_default();
        let tries = branches.iter().map(|branch| {
            let time = branch.within.or(within).map_or(customary, |time| self.ground.cx.times.of(time));
            let mut scope = scope.clone();
            let held = async move {
                self.holds(&branch.condition, &mut scope, now + time).await.ok().map(|()| scope)
            };
            Some(Box::pin(held) as Boxed<'_, Option<Scope>>)
        });
        let (judgement, label, pos) = match first_of(tries.collect()).await {
            Some((i, won)) => {
                *scope = won;
                let branch = &branches[i];
                let label =
                    branch.label.clone().unwrap_or_else(|| self.words(judge::place(&branch.condition)));
                (branch.judgement, label, branch.pos)
            }
            None => (otherwise.0, otherwise.1.clone(), pos),
        };
        let verdict = verdict_of(judgement);
        if !judged {
            return if verdict <= Verdict::Info { Ok(()) } else { Err(Stop::Missed(label, pos)) };
        }
        let mut why = label.clone();
        if verdict != Verdict::Pass
            && let Some(branch) = branches.first()
            && let Ok(name) = scope.text(judge::subject(&branch.condition))
        {
            let passes = branches.iter().filter(|branch| branch.judgement == Judgement::Pass);
            let passes = passes.map(|branch| format!("`{}`", self.words(judge::place(&branch.condition))));
            let passes: Vec<String> = passes.collect();
            let passes = match passes.is_empty() {
                true => String::new(),
                false => format!("{} would pass; ", passes.join(" or ")),
            };
            why = format!("{label}; {passes}{}", self.what_came(&name));
        }
        self.say_on(verdict, label, why, pos)
    }

    async fn memory(
        &self,
        below: u64,
        body: &[Step],
        scope: &mut Scope,
        pos: Pos,
        judged: bool,
    ) -> Result<(), Stop> {
        let before = self.ground.cx.pid.and_then(memory::resident_bytes);
        self.steps(body, scope, &mut None, judged).await?;
        let after = self.ground.cx.pid.and_then(memory::resident_bytes);
        let (verdict, label, why) = match (before, after) {
            (Some(before), Some(after)) => {
                let grown = after.saturating_sub(before);
                let why =
                    format!("resident memory grew by {} KiB, {} KiB are allowed", grown >> 10, below >> 10);
                let verdict = if grown < below { Verdict::Pass } else { Verdict::Fail };
                (verdict, self.line(pos), why)
            }
            _ if self.ground.cx.pid.is_none() => {
                let why = "not measured: the target's process is not known (--pid)".to_owned();
                (Verdict::Lenient, record::Case::NOT_MEASURED.to_owned(), why)
            }
            _ => (Verdict::Fail, self.line(pos), "the target's process is gone".into()),
        };
        self.say_on(verdict, label, why, pos)
    }

    /// Brings a connection to a goal, a new one where there is none of this name.
    pub(super) async fn reach(&self, name: &str, reach: &Reach, scope: &mut Scope) -> Result<(), String> {
        let publishes = u32::from(reach.goal == Goal::Publishing);
        let another = self.publishers.fetch_add(publishes, Ordering::Relaxed) > 0 && publishes > 0;
        if another || !reach.is_customary() {
            self.asks();
        }
        let conn = match self.ground.board.conn(name) {
            Some(conn) => conn,
            None => self.ground.open(name, self.config(reach, scope)?).await?,
        };
        if let Some(text) = &reach.name {
            conn.rename(scope.text(text)?);
        }
        let answers = self.ground.pursue(name, &conn, reach.goal).await?;
        scope.taken.extend(answers);
        self.given(name, scope);
        Ok(())
    }

    fn config(&self, reach: &Reach, scope: &Scope) -> Result<Config, String> {
        let mut config = self.ground.customary_config();
        if let Some(name) = &reach.name {
            config.name = scope.text(name)?;
        }
        if let Some(with) = &reach.with {
            config.connect_with = scope.fields(with)?;
        }
        config.acks = reach.acks;
        config.pongs = reach.pongs;
        config.window = reach.window.as_ref().map(|n| scope.u32(n)).transpose()?;
        config.chunk_size = reach.chunk.as_ref().map(|n| scope.u32(n)).transpose()?;
        config.digest = reach.signed.map(super::send::schema);
        Ok(config)
    }
}

/// What a failed judgement costs at most.
pub fn cost(level: Level, severity: Severity) -> Verdict {
    match (level, severity) {
        (Level::Must | Level::Implied, _) | (Level::Defacto, Severity::Security) => Verdict::Fail,
        (Level::Should | Level::Defacto, _) => Verdict::Lenient,
        (Level::May, _) => Verdict::Info,
    }
}

fn verdict_of(judgement: Judgement) -> Verdict {
    match judgement {
        Judgement::Pass => Verdict::Pass,
        Judgement::Info => Verdict::Info,
        Judgement::Lenient => Verdict::Lenient,
        Judgement::Fail | Judgement::Broken => Verdict::Fail,
    }
}

/// The departures that a reader saw on a connection, each kind once.
fn departures(name: &str, log: &[Entry]) -> Vec<String> {
    let mut kinds = std::collections::BTreeMap::new();
    for entry in log {
        if let Seen::Note(note) = &entry.seen
            && entry.direction == Direction::Received
        {
            kinds.entry(note.kind.name()).or_insert((*note, 0u32)).1 += 1;
        }
    }
    let line = |(note, count): (Note, u32)| match count {
        1 => format!("{name}: {note}"),
        n => format!("{name}: {note}, {n} times"),
    };
    kinds.into_values().map(line).collect()
}
