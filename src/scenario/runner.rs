//! Running the suite: calibration first, then so many cases at once, and alone what looked dead.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::ast::Fact;
use super::calibrate::calibrate;
use super::deaths::{Budget, Held, Queued};
use super::ground::{Context, Sentinel, Times};
use super::run::{Ended, Job, run as run_case};
use super::suite::{Item, Outcome, Report, Segment, Settings, Suite};
use super::trace;
use crate::net::conn::{Dial, Kept};
use crate::record::{Fingerprint, Verdict};
use crate::wire::session::Goal;

/// The longest a case may take, but for what it says of slow waits.
const CASE_LIMIT: Duration = Duration::from_secs(30);
const SLOW_LIMIT: Duration = Duration::from_secs(300);
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
        return Ok(Report::late(suite, settings, on_result));
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
        began: Instant::now(),
        found: false,
        budget: Budget::default(),
        signs: Vec::new(),
        deaths: Vec::new(),
        closed: Vec::new(),
        together: Vec::new(),
        gone: None,
    };
    let out_of_time = runner.all(suite).await;
    let (mut outcomes, gone) = (runner.outcomes, runner.gone);
    outcomes.sort_by(|a, b| a.case.id.cmp(&b.case.id));
    Report { fingerprint, outcomes, out_of_time, gone }
}

impl Report {
    /// The time for all was up before it was known what the target is like.
    fn late(suite: &Suite, settings: &Settings, on_result: &mut (dyn FnMut(&Outcome) + Send)) -> Report {
        let why = "not run: the time for all was up before calibration ended";
        let outcomes: Vec<Outcome> = suite
            .items
            .iter()
            .map(|item| item.outcome(settings, Verdict::Blocked, "not run", why.into()))
            .inspect(|outcome| on_result(outcome))
            .collect();
        Report { fingerprint: Fingerprint::default(), outcomes, out_of_time: true, gone: None }
    }
}

impl Context {
    /// Fits waits and questions to what was found out.
    fn know(&mut self, fingerprint: &Fingerprint) {
        self.times.scale *= fingerprint.time_scale.unwrap_or(1.0);
        self.sentinel = Sentinel::of(fingerprint).unwrap_or(Sentinel::Ping);
        self.life = reached(fingerprint).min(Goal::Connected);
        self.remuxes = fingerprint.facts.iter().any(|fact| fact == "relay=remux");
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
        remuxes: false,
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

pub(super) struct Runner<'a> {
    pub(super) settings: &'a Settings,
    pub(super) cx: Arc<Context>,
    fingerprint: &'a Fingerprint,
    pub(super) deadline: Instant,
    on_result: &'a mut (dyn FnMut(&Outcome) + Send),
    outcomes: Vec<Outcome>,
    pub(super) began: Instant,
    /// With `fail_fast`: one was found.
    found: bool,
    pub(super) budget: Budget,
    /// Connections that came as far as calibration: when each was begun, and when it had.
    pub(super) signs: Vec<(Instant, Instant)>,
    /// Deaths that nobody looked into: between when and when.
    pub(super) deaths: Vec<(Instant, Instant)>,
    /// When the target closed connections, and of which cases.
    pub(super) closed: Vec<(Instant, String)>,
    /// Those that failed when it closed several of different cases at once.
    pub(super) together: Vec<Held>,
    /// Why nothing runs any more: the target did not come back.
    pub(super) gone: Option<String>,
}

impl Runner<'_> {
    /// Runs everything; whether the time was up before the end.
    async fn all(&mut self, suite: &Suite) -> bool {
        let (mut side_by_side, mut alone) = (VecDeque::new(), VecDeque::new());
        for item in &suite.items {
            let queued = Queued { item: item.clone(), before: None };
            match self.without_running(item) {
                Some(outcome) => self.tell(outcome),
                None if item.is_alone() => alone.push_back(queued),
                None => side_by_side.push_back(queued),
            }
        }
        let mut late = self.batch(side_by_side, self.settings.jobs.max(1)).await;
        late |= self.batch(alone, 1).await;
        self.recheck().await;
        let told: BTreeSet<String> = self.outcomes.iter().map(|outcome| outcome.case.id.clone()).collect();
        let (verdict, branch, why) = match &self.gone {
            Some(why) => (Verdict::Blocked, "blocked", why.clone()),
            None if late => (Verdict::Blocked, "not run", "not run: the time for all was up".into()),
            None => (Verdict::Skip, "not run", "not run: one before it was found".into()),
        };
        for item in suite.items.iter().filter(|item| !told.contains(&item.id)) {
            self.tell(item.outcome(self.settings, verdict, branch, why.clone()));
        }
        late
    }

    /// What can be said of a case before it runs.
    fn without_running(&self, item: &Item) -> Option<Outcome> {
        let say = |verdict, branch: &str, why| Some(item.outcome(self.settings, verdict, branch, why));
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
        if let Some(at) = item.is_ended_at(&self.fingerprint.ends) {
            let why = format!(
                "calibration: whoever is {} and only waits is closed, or gets what cannot be read; what is sent there judges nothing",
                at.name()
            );
            return say(Verdict::Blocked, "blocked", why);
        }
        if let Some(need) = item.scenario.needs.iter().find(|need| !self.holds(need)) {
            let branch = format!("needs {need}");
            let why = format!("{branch}, which the target is not known to have");
            return say(Verdict::Skip, &branch, why);
        }
        if reach == Goal::Connected && item.asks_for_streams() {
            let why = self.fingerprint.refusal.clone().unwrap_or_default();
            return say(
                Verdict::Blocked,
                "blocked",
                format!("its question is createStream, and calibration came no further: {why}"),
            );
        }
        if self.fingerprint.answers_publisher == Some(false) && item.asks_a_publisher() {
            let why = "a publisher that does nothing wrong gets no answer either: whether it is in step cannot be told";
            return say(Verdict::Blocked, "blocked", why.into());
        }
        if self.fingerprint.sentinel.is_none() && item.asks_in_step() {
            let why = "no question is known that this target answers: whether it is in step cannot be told";
            return say(Verdict::Blocked, "blocked", why.into());
        }
        None
    }

    fn holds(&self, need: &Fact) -> bool {
        let need = need.to_string();
        self.fingerprint.facts.iter().any(|fact| *fact == need || fact.strip_suffix("=yes") == Some(&need))
    }

    pub(super) fn tell(&mut self, outcome: Outcome) {
        self.found |= self.settings.fail_fast && outcome.case.finding(false).is_some();
        (self.on_result)(&outcome);
        self.outcomes.push(outcome);
    }

    /// Runs these, so many at once; whether the time was up before the end. When the target looks dead, no more are begun until it is known who killed it.
    async fn batch(&mut self, mut waiting: VecDeque<Queued>, jobs: usize) -> bool {
        let mut running = JoinSet::new();
        let mut since: BTreeMap<String, Instant> = BTreeMap::new();
        let mut held = Vec::new();
        let mut alarm = false;
        loop {
            let last = waiting.is_empty() || self.found || self.gone.is_some();
            if running.is_empty() && (alarm || (last && self.ends_dead(&mut held).await)) {
                let again = self.examine(std::mem::take(&mut held)).await;
                again.into_iter().rev().for_each(|queued| waiting.push_front(queued));
                alarm = false;
            }
            while running.len() < jobs
                && !alarm
                && !self.found
                && self.gone.is_none()
                && let Some(queued) = waiting.pop_front()
            {
                since.insert(queued.item.id.clone(), Instant::now());
                running.spawn(one(queued, self.cx.clone(), self.settings.clone(), false));
            }
            let done: Held = match timeout_at(self.deadline, running.join_next()).await {
                Ok(Some(Ok(done))) => done,
                Ok(Some(Err(error))) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Ok(Some(Err(_))) => continue,
                Ok(None) => return false,
                Err(_) => {
                    running.abort_all();
                    if alarm {
                        self.give_up(&held);
                    }
                    held.into_iter().for_each(|done| self.conclude(done));
                    return true;
                }
            };
            since.remove(done.id());
            self.learn(&done.life);
            self.closed.extend(done.life.closed.iter().map(|at| (*at, done.id().to_owned())));
            self.found |= self.settings.fail_fast && done.is_found() && !done.is_dead();
            let dies = done.is_dead() || self.process_died().is_some();
            held.push(done);
            alarm |= dies && self.is_worth_it(&held);
            if dies && !alarm {
                self.give_up(&held);
            }
            if !alarm {
                self.settle(&mut held, since.values().min().copied());
            }
        }
    }

    /// Nothing runs any more: whether the target is dead, and worth an examination. If not, all is told.
    async fn ends_dead(&mut self, held: &mut Vec<Held>) -> bool {
        if held.is_empty() {
            return false;
        }
        if self.dies().await {
            if self.is_worth_it(held) {
                return true;
            }
            self.give_up(held);
        }
        std::mem::take(held).into_iter().for_each(|done| self.conclude(done));
        false
    }

    /// Tells the outcomes of cases beside which nothing runs any more (`oldest`: since when the longest runs) and behind which the target lived.
    fn settle(&mut self, held: &mut Vec<Held>, oldest: Option<Instant>) {
        let alive = self.alive_before(None);
        for done in std::mem::take(held) {
            if oldest.is_some_and(|oldest| oldest < done.ended) || !done.outlived(alive) {
                held.push(done);
            } else {
                self.conclude(done);
            }
        }
    }

    /// Tells the outcome of a case that ran beside others.
    pub(super) fn conclude(&mut self, mut done: Held) {
        let beside = |(from, to): &(Instant, Instant)| *from < done.ended && done.began < *to;
        if done.is_found() && self.deaths.iter().any(beside) {
            done.doubt(
                "the target looked dead while this ran beside others, and there was no time to run it alone; one that takes few connections at once needs --jobs 1",
            );
        } else if self.is_cut_with_others(&done) {
            self.together.push(done);
            return;
        } else if let Some(before) = &done.queued.before {
            done.outcome
                .case
                .notes
                .push(format!("run again; when the target died beside it, it was {before}"));
        }
        self.tell(done.outcome);
    }
}

/// Runs one case. `traced`: what passed is kept even where it is no finding.
pub(super) async fn one(queued: Queued, cx: Arc<Context>, settings: Settings, traced: bool) -> Held {
    let (item, began) = (queued.item.clone(), Instant::now());
    let job = Job {
        scenario: &item.scenario,
        source: &item.source,
        case: &item.scenario.cases[item.case],
        id: &item.id,
        level: item.level,
        severity: item.severity,
    };
    let limit = if item.scenario.slow { SLOW_LIMIT } else { CASE_LIMIT }.mul_f64(cx.times.scale);
    let ended = run_case(&cx, job, limit).await;
    let life = ended.life.clone();
    let outcome = outcome_of(&item, &settings, ended, traced);
    Held { queued, outcome, life, began, ended: Instant::now() }
}

fn outcome_of(item: &Item, settings: &Settings, ended: Ended, traced: bool) -> Outcome {
    let mut outcome = item.outcome(settings, ended.verdict, &ended.branch, ended.why);
    outcome.case.duration_ms = ended.duration_ms;
    outcome.case.notes = ended.notes;
    if traced || outcome.case.finding(true).is_some() {
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
