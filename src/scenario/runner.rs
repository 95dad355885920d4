//! Running the suite: calibration first, then so many cases at once, and alone what looked dead.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::ast::{Fact, TimeKind};
use super::calibrate::calibrate;
use super::ground::{Context, Ground, Sentinel, Times};
use super::run::{Ended, Job, run as run_case};
use super::suite::{Item, Outcome, Report, Segment, Settings, Suite};
use super::trace;
use crate::net::conn::{Dial, Kept};
use crate::record::{Fingerprint, Verdict};
use crate::wire::session::Goal;

/// The longest a case may take, but for what it says of slow waits.
const CASE_LIMIT: Duration = Duration::from_secs(30);
const SLOW_LIMIT: Duration = Duration::from_secs(300);
/// How long a target that died may take to come back.
const REVIVAL: Duration = Duration::from_secs(4);
/// Cases that looked dead, or ran beside one that did, are run again alone, at most so many.
const RERUNS: usize = 32;
/// And for so long: where many look dead, one that runs alone tells no culprit.
const RERUNS_TIME: Duration = Duration::from_secs(12);
/// Bytes of each connection of a finding that are kept for a capture.
const KEPT_WIRE: usize = 256 << 10;

/// Calibrates and runs what is selected; each result is told as it comes, in any order.
///
/// # Errors
/// When the target gives no connection, or not one byte of S0: why.
pub async fn run(
    suite: &Suite,
    settings: &Settings,
    dial: Arc<dyn Dial>,
    on_result: &mut (dyn FnMut(&Outcome) + Send),
) -> Result<Report, String> {
    let deadline = Instant::now() + settings.max_time;
    let mut cx = context(settings, dial);
    let Ok(mut fingerprint) = timeout_at(deadline, calibrate(&cx)).await else {
        return Err(format!("it was not known within {:?}", settings.max_time));
    };
    if fingerprint.reach == "nothing" {
        return Err(fingerprint.refusal.unwrap_or_else(|| "not one byte came".into()));
    }
    profile(&mut fingerprint, &settings.profile);
    cx.know(&fingerprint);
    Ok(judge(suite, settings, cx, fingerprint, deadline, on_result).await)
}

/// Runs what is selected against a target that is known already; nothing is found out first.
pub async fn run_known(
    suite: &Suite,
    settings: &Settings,
    dial: Arc<dyn Dial>,
    fingerprint: Fingerprint,
    on_result: &mut (dyn FnMut(&Outcome) + Send),
) -> Report {
    let deadline = Instant::now() + settings.max_time;
    let mut cx = context(settings, dial);
    cx.know(&fingerprint);
    judge(suite, settings, cx, fingerprint, deadline, on_result).await
}

async fn judge(
    suite: &Suite,
    settings: &Settings,
    cx: Context,
    fingerprint: Fingerprint,
    deadline: Instant,
    on_result: &mut (dyn FnMut(&Outcome) + Send),
) -> Report {
    let mut runner = Runner {
        settings,
        cx: Arc::new(cx),
        fingerprint: &fingerprint,
        deadline,
        on_result,
        outcomes: Vec::new(),
    };
    let out_of_time = runner.all(suite).await;
    let mut outcomes = runner.outcomes;
    outcomes.sort_by(|a, b| a.case.id.cmp(&b.case.id));
    Report { fingerprint, outcomes, out_of_time }
}

impl Context {
    /// Fits waits and questions to what was found out.
    fn know(&mut self, fingerprint: &Fingerprint) {
        self.times.scale *= fingerprint.time_scale.unwrap_or(1.0);
        let named = Sentinel::ALL.into_iter().find(|s| Some(s.name()) == fingerprint.sentinel.as_deref());
        self.sentinel = named.unwrap_or(Sentinel::Ping);
        self.life = reached(fingerprint).min(Goal::Connected);
    }
}

/// Finds out what a target is like and runs nothing.
pub async fn probe(settings: &Settings, dial: Arc<dyn Dial>) -> Fingerprint {
    let mut fingerprint = calibrate(&context(settings, dial)).await;
    profile(&mut fingerprint, &settings.profile);
    fingerprint
}

fn context(settings: &Settings, dial: Arc<dyn Dial>) -> Context {
    Context {
        dial,
        app: settings.app.clone(),
        tc_url: settings.tc_url.clone(),
        prefix: settings.prefix.clone(),
        suffix: settings.suffix.clone(),
        pid: settings.pid,
        sentinel: Sentinel::Ping,
        life: Goal::Connected,
        times: Times { scale: settings.timeout_scale },
        seed: settings.seed,
        kept: Kept::default(),
    }
}

/// How far calibration got.
fn reached(fingerprint: &Fingerprint) -> Goal {
    match fingerprint.reach.as_str() {
        "nothing" | "bytes" => Goal::Open,
        "handshaken" => Goal::Handshaken,
        "connected" => Goal::Connected,
        _ => Goal::Created,
    }
}

/// What the user states wins.
fn profile(fingerprint: &mut Fingerprint, stated: &[Fact]) {
    for fact in stated {
        fingerprint.facts.retain(|found| found.split('=').next() != Some(&fact.name));
        fingerprint.facts.push(fact.to_string());
    }
}

/// A case that ended, until it is known what happened beside it.
struct Held {
    item: Arc<Item>,
    outcome: Outcome,
    began: Instant,
    ended: Instant,
}

struct Runner<'a> {
    settings: &'a Settings,
    cx: Arc<Context>,
    fingerprint: &'a Fingerprint,
    deadline: Instant,
    on_result: &'a mut (dyn FnMut(&Outcome) + Send),
    outcomes: Vec<Outcome>,
}

impl Runner<'_> {
    /// Runs everything; whether the time was up before the end.
    async fn all(&mut self, suite: &Suite) -> bool {
        let (mut side_by_side, mut alone) = (Vec::new(), Vec::new());
        for item in &suite.items {
            match self.without_running(item) {
                Some(outcome) => self.tell(outcome),
                None if item.is_alone() => alone.push(item.clone()),
                None => side_by_side.push(item.clone()),
            }
        }
        let mut dead = Vec::new();
        let mut late = self.batch(side_by_side, self.settings.jobs.max(1), &mut dead).await;
        late |= self.batch(alone, 1, &mut dead).await;
        dead.sort_by(|a, b| a.item.id.cmp(&b.item.id));
        let mut gone = late;
        let end = Instant::now() + RERUNS_TIME;
        for (i, Held { item, outcome, .. }) in dead.into_iter().enumerate() {
            gone = gone || i >= RERUNS || Instant::now() >= end || !self.answers().await;
            let outcome = if gone { not_rerun(outcome) } else { self.once_more(&item, outcome).await };
            self.tell(outcome);
        }
        let told: BTreeSet<String> = self.outcomes.iter().map(|outcome| outcome.case.id.clone()).collect();
        let why = if late { "not run: the time for all was up" } else { "not run: one before it was found" };
        for item in suite.items.iter().filter(|item| !told.contains(&item.id)) {
            self.tell(item.outcome(self.settings, Verdict::Skip, "not run", why.into()));
        }
        late
    }

    /// What can be said of a case before it runs.
    fn without_running(&self, item: &Item) -> Option<Outcome> {
        let say = |verdict, branch: &str, why| Some(item.outcome(self.settings, verdict, branch, why));
        if let Some(need) = item.scenario.needs.iter().find(|need| !self.holds(need)) {
            let branch = format!("needs {need}");
            let why = format!("{branch}, which the target is not known to have");
            return say(Verdict::Skip, &branch, why);
        }
        if self.fingerprint.one_shot == Some(true) {
            return say(
                Verdict::Skip,
                "one-shot",
                "one-shot: it served calibration and takes no other connection".into(),
            );
        }
        let reach = reached(self.fingerprint);
        if item.goal > reach && reach < Goal::Connected {
            let why = self.fingerprint.refusal.clone().unwrap_or_default();
            return say(Verdict::Blocked, "blocked", format!("calibration came no further: {why}"));
        }
        if reach >= Goal::Connected && self.fingerprint.sentinel.is_none() && item.asks_in_step() {
            let why = "no question is known that this target answers: whether it is in step cannot be told";
            return say(Verdict::Blocked, "blocked", why.into());
        }
        None
    }

    fn holds(&self, need: &Fact) -> bool {
        let need = need.to_string();
        self.fingerprint.facts.iter().any(|fact| *fact == need || fact.strip_suffix("=yes") == Some(&need))
    }

    fn tell(&mut self, outcome: Outcome) {
        (self.on_result)(&outcome);
        self.outcomes.push(outcome);
    }

    /// Runs these, so many at once. Whatever ran beside a case that looked dead is kept apart: who killed the target shows when each runs alone.
    async fn batch(&mut self, items: Vec<Arc<Item>>, jobs: usize, dead: &mut Vec<Held>) -> bool {
        let mut waiting = items.into_iter();
        let mut running = JoinSet::new();
        let mut since: BTreeMap<String, Instant> = BTreeMap::new();
        let (mut held, mut deaths) = (Vec::new(), Vec::new());
        let mut found = false;
        loop {
            while running.len() < jobs
                && !found
                && let Some(item) = waiting.next()
            {
                let (cx, settings, began) = (self.cx.clone(), self.settings.clone(), Instant::now());
                since.insert(item.id.clone(), began);
                running.spawn(async move {
                    let outcome = one(&item, &cx, &settings).await;
                    Held { item, outcome, began, ended: Instant::now() }
                });
            }
            let done = match timeout_at(self.deadline, running.join_next()).await {
                Ok(Some(Ok(done))) => done,
                Ok(Some(Err(error))) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Ok(Some(Err(_))) => continue,
                Ok(None) => return false,
                Err(_) => {
                    running.abort_all();
                    self.settle(&mut held, &deaths, None, dead);
                    return true;
                }
            };
            since.remove(&done.item.id);
            let is_found = done.outcome.case.finding(false).is_some();
            found |= self.settings.fail_fast && is_found;
            if done.outcome.lifeless && is_found {
                deaths.push((done.began, done.ended));
            }
            held.push(done);
            self.settle(&mut held, &deaths, since.values().min().copied(), dead);
        }
    }

    /// Tells the outcomes of cases beside which nothing runs any more (`oldest`: since when the longest runs), and keeps those apart beside which the target died.
    fn settle(
        &mut self,
        held: &mut Vec<Held>,
        deaths: &[(Instant, Instant)],
        oldest: Option<Instant>,
        dead: &mut Vec<Held>,
    ) {
        for done in std::mem::take(held) {
            if oldest.is_some_and(|oldest| oldest < done.ended) {
                held.push(done);
            } else if deaths.iter().any(|(began, ended)| done.began < *ended && *began < done.ended) {
                dead.push(done);
            } else {
                self.tell(done.outcome);
            }
        }
    }

    /// Runs a case again with nothing beside it, once the target answers.
    async fn once_more(&mut self, item: &Arc<Item>, first: Outcome) -> Outcome {
        let mut again = one(item, &self.cx, self.settings).await;
        let word = first.case.verdict.name();
        again.case.notes.push(format!("run again alone; beside others it was {word}: {}", first.case.why));
        again
    }

    /// Whether a new connection reaches connected, given some time to come back.
    async fn answers(&self) -> bool {
        let end = Instant::now() + REVIVAL;
        loop {
            let ground = Ground::new(&self.cx, "between");
            let alive = ground.alive(ground.by(TimeKind::Reply));
            if ground.board.drive(Box::pin(alive)).await.is_ok() {
                return true;
            }
            if Instant::now() >= end {
                return false;
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}

fn not_rerun(mut outcome: Outcome) -> Outcome {
    outcome
        .case
        .notes
        .push("not run again alone: the target answers no more, or too many cases asked for it".into());
    outcome
}

/// Runs one case.
async fn one(item: &Item, cx: &Context, settings: &Settings) -> Outcome {
    let job = Job {
        scenario: &item.scenario,
        source: &item.source,
        case: &item.scenario.cases[item.case],
        id: &item.id,
        level: item.level,
        severity: item.severity,
    };
    let limit = if item.scenario.slow { SLOW_LIMIT } else { CASE_LIMIT }.mul_f64(cx.times.scale);
    let ended = run_case(cx, job, limit).await;
    outcome_of(item, settings, ended)
}

fn outcome_of(item: &Item, settings: &Settings, ended: Ended) -> Outcome {
    let mut outcome = item.outcome(settings, ended.verdict, &ended.branch, ended.why);
    outcome.case.duration_ms = ended.duration_ms;
    outcome.case.notes = ended.notes;
    outcome.lifeless = ended.lifeless;
    if outcome.case.finding(true).is_some() {
        outcome.case.trace = trace::around(&ended.conns, ended.decided_at);
        for (i, (_, conn)) in (0..).zip(&ended.conns).filter(|_| settings.wire) {
            conn.wire(|wire| {
                let mut kept = 0;
                let kept = wire.iter().take_while(|piece| {
                    kept += piece.bytes.len();
                    kept <= KEPT_WIRE
                });
                outcome.wire.extend(kept.map(|piece| Segment {
                    at_us: piece.at.as_micros(),
                    conn: i,
                    sent: piece.direction == crate::net::conn::Direction::Sent,
                    bytes: piece.bytes.clone(),
                }));
            });
        }
        outcome.wire.sort_by_key(|segment| segment.at_us);
    }
    for (_, conn) in &ended.conns {
        conn.close();
    }
    outcome
}
