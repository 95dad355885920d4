//! The suite: which cases run, in which order and how many at once.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use globset::{Glob, GlobMatcher};
use include_dir::{Dir, include_dir};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::ast::{Fact, Scenario, Step, StepKind, TimeKind};
use super::calibrate::calibrate;
use super::check::{self, Known};
use super::clauses::{Clauses, Level, Severity};
use super::ground::{Context, Ground, Sentinel, Times};
use super::run::{Ended, Job, run as run_case};
use super::trace;
use crate::net::conn::Dial;
use crate::record::{self, Fingerprint, Totals, Verdict};
use crate::wire::session::Goal;

static BUILT_IN: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/scenarios");

/// The longest a case may take, but for what it says of slow waits.
const CASE_LIMIT: Duration = Duration::from_secs(30);
const SLOW_LIMIT: Duration = Duration::from_secs(300);
/// How long a target that died may take to come back.
const REVIVAL: Duration = Duration::from_secs(4);
/// Cases that looked dead are run again alone, at most so many.
const RERUNS: usize = 32;

/// Which cases are wanted.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Globs over ids and clauses, `FILE.scn` or folders; empty: everything built in.
    pub patterns: Vec<String>,
    /// Only rows of at least this severity.
    pub severity: Option<Severity>,
    /// The slow ones too.
    pub slow: bool,
}

/// Against what, and how.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The application in connect.
    pub app: String,
    /// The URL in connect.
    pub tc_url: String,
    /// What every stream name begins with.
    pub prefix: String,
    /// What every stream name ends with: a query with its `?`.
    pub suffix: String,
    /// The target's process, for memory.
    pub pid: Option<u32>,
    /// Facts that the user states, as in `needs`; they win over what calibration finds.
    pub profile: Vec<String>,
    /// Cases at once.
    pub jobs: usize,
    /// Stop at the first case that is found.
    pub fail_fast: bool,
    /// For everything.
    pub max_time: Duration,
    /// All kinds of waits are multiplied by it.
    pub timeout_scale: f64,
    /// What every random choice is drawn from.
    pub seed: u64,
    /// The command that runs one case again, with `{}` for its id.
    pub repeat: String,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            app: "live".into(),
            tc_url: "rtmp://localhost/live".into(),
            prefix: String::new(),
            suffix: String::new(),
            pid: None,
            profile: Vec::new(),
            jobs: 8,
            fail_fast: false,
            max_time: Duration::from_secs(600),
            timeout_scale: 1.0,
            seed: 1,
            repeat: "rtmp-bench test -s '{}'".into(),
        }
    }
}

/// One case with what passed, for writers of captures.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What goes into the record.
    pub case: record::Case,
    /// What passed on its connections, where the case is a finding.
    pub wire: Vec<Segment>,
    /// Whether the target looked dead.
    lifeless: bool,
}

/// Bytes that passed in one read or write.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Microseconds since the case began.
    pub at_us: u64,
    /// The connection, counted from 0 within the case.
    pub conn: u32,
    /// Whether we sent it.
    pub sent: bool,
    /// The bytes.
    pub bytes: bytes::Bytes,
}

/// What a run of the suite gave.
#[derive(Debug)]
pub struct Report {
    /// What the target is like.
    pub fingerprint: Fingerprint,
    /// By id.
    pub outcomes: Vec<Outcome>,
    /// Whether the time was up before all had run.
    pub out_of_time: bool,
}

impl Report {
    /// As the record has it.
    pub fn test(&self) -> record::Test {
        let cases: Vec<record::Case> = self.outcomes.iter().map(|outcome| outcome.case.clone()).collect();
        record::Test { totals: Totals::of(&cases), cases }
    }
}

/// The cases that were selected, by id.
#[derive(Debug, Clone)]
pub struct Suite {
    items: Vec<Arc<Item>>,
}

/// One case.
#[derive(Debug)]
struct Item {
    id: String,
    scenario: Arc<Scenario>,
    source: Arc<str>,
    case: usize,
    level: Level,
    severity: Severity,
    /// How far its first connection must get for anything to be judged.
    goal: Goal,
}

/// One line of `--list`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Listed {
    /// As in the record.
    pub id: String,
    /// Rows of `clauses.tsv`.
    pub clause: Vec<String>,
    /// The level of the first.
    pub level: String,
    /// What the scenario says.
    pub title: String,
}

/// The built-in scenarios: id, place for messages, text.
pub fn built_in_files() -> Vec<(String, String, &'static str)> {
    fn collect(dir: &'static Dir<'static>, out: &mut Vec<(String, String, &'static str)>) {
        for file in dir.files() {
            let path = file.path().to_string_lossy().replace('\\', "/");
            if let (Some(id), Some(text)) = (path.strip_suffix(".scn"), file.contents_utf8()) {
                out.push((id.to_owned(), format!("scenarios/{path}"), text));
            }
        }
        for dir in dir.dirs() {
            collect(dir, out);
        }
    }
    let mut out = Vec::new();
    collect(&BUILT_IN, &mut out);
    out.sort();
    out
}

impl Suite {
    /// Reads and checks what is selected.
    ///
    /// # Errors
    /// All mistakes in the files, as text with their places; or that nothing is selected.
    pub fn select(selection: &Selection) -> Result<Suite, String> {
        let clauses = Clauses::built_in();
        let (mut globs, mut files) = (Vec::new(), Vec::new());
        for pattern in &selection.patterns {
            let path = Path::new(pattern);
            if pattern.ends_with(".scn") || (path.is_dir() && !pattern.contains('*')) {
                read_files(path, &mut files)?;
            } else {
                let glob = Glob::new(pattern).map_err(|error| format!("-s {pattern}: {error}"))?;
                globs.push(glob.compile_matcher());
            }
        }
        let named = !files.is_empty();
        let mut suite = Suite::parse(&files, clauses)?;
        if !globs.is_empty() || selection.patterns.is_empty() {
            let built_in: Vec<_> =
                built_in_files().into_iter().map(|(id, place, text)| (id, place, text.to_owned())).collect();
            let mut all = Suite::parse(&built_in, clauses)?;
            all.items.retain(|item| globs.is_empty() || item.is_named(&globs));
            suite.items.extend(all.items);
        }
        let slow = selection.slow || named;
        suite.items.retain(|item| {
            (slow || !item.scenario.slow) && selection.severity.is_none_or(|least| item.severity >= least)
        });
        suite.items.sort_by(|a, b| a.id.cmp(&b.id));
        suite.items.dedup_by(|a, b| a.id == b.id);
        if suite.items.is_empty() {
            return Err(format!("no scenario is selected by -s {}", selection.patterns.join(" -s ")));
        }
        Ok(suite)
    }

    /// The cases of these files: id, place for messages, text.
    ///
    /// # Errors
    /// All mistakes, as text with their places.
    pub fn parse(files: &[(String, String, String)], clauses: &Clauses) -> Result<Suite, String> {
        let (mut items, mut errors) = (Vec::new(), String::new());
        let faults = crate::net::peer::fault_names();
        for (id, place, text) in files {
            match check::read(id, text, Known { clauses, faults: &faults }) {
                Ok(scenario) => items.extend(Item::cases(scenario, text, clauses)),
                Err(found) => errors.extend(found.iter().map(|error| error.render(place, text))),
            }
        }
        if errors.is_empty() { Ok(Suite { items }) } else { Err(errors) }
    }

    /// What would run.
    pub fn list(&self) -> Vec<Listed> {
        let listed = |item: &Arc<Item>| Listed {
            id: item.id.clone(),
            clause: item.scenario.clauses.clone(),
            level: item.level.name().into(),
            title: item.scenario.title.clone(),
        };
        self.items.iter().map(listed).collect()
    }

    /// The scenarios that the cases are of, each once.
    pub fn scenarios(&self) -> Vec<Arc<Scenario>> {
        let mut scenarios: Vec<Arc<Scenario>> = self.items.iter().map(|item| item.scenario.clone()).collect();
        scenarios.dedup_by(|a, b| a.id == b.id);
        scenarios
    }

    /// The ids of all cases.
    pub fn ids(&self) -> BTreeSet<String> {
        self.items.iter().map(|item| item.id.clone()).collect()
    }

    /// Only the cases that `keep` names.
    #[must_use]
    pub fn only(&self, keep: impl Fn(&str) -> bool) -> Suite {
        Suite { items: self.items.iter().filter(|item| keep(&item.id)).cloned().collect() }
    }
}

fn read_files(path: &Path, out: &mut Vec<(String, String, String)>) -> Result<(), String> {
    let place = path.display().to_string();
    if path.is_dir() {
        let entries = std::fs::read_dir(path).map_err(|error| format!("{place}: {error}"))?;
        let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        for path in paths.iter().filter(|p| p.is_dir() || p.extension().is_some_and(|e| e == "scn")) {
            read_files(path, out)?;
        }
        return Ok(());
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("{place}: {error}"))?;
    out.push((id_of(&place), place, text));
    Ok(())
}

/// Below a folder named `scenarios` the path, else the file's name.
fn id_of(place: &str) -> String {
    let path = place.strip_suffix(".scn").unwrap_or(place);
    match path.rsplit_once("scenarios/") {
        Some((_, id)) => id.to_owned(),
        None => path.trim_start_matches("./").to_owned(),
    }
}

impl Item {
    fn cases(scenario: Scenario, text: &str, clauses: &Clauses) -> Vec<Arc<Item>> {
        let clause = scenario.clauses.first().and_then(|id| clauses.get(id));
        let level = clause.map_or(Level::Must, |clause| clause.level);
        let severity = clause.map_or(Severity::Interop, |clause| clause.severity);
        let goal =
            scenario.steps.iter().map(first_goal).find(|goal| *goal > Goal::Open).unwrap_or(Goal::Open);
        let (scenario, source) = (Arc::new(scenario), Arc::from(text));
        let item = |case: usize| {
            let id = match &scenario.cases[case].row {
                Some(row) => format!("{}:{row}", scenario.id),
                None => scenario.id.clone(),
            };
            let (scenario, source) = (scenario.clone(), Arc::clone(&source));
            Arc::new(Item { id, scenario, source, case, level, severity, goal })
        };
        (0..scenario.cases.len()).map(item).collect()
    }

    fn is_named(&self, globs: &[GlobMatcher]) -> bool {
        let names = [&self.id, &self.scenario.id].into_iter().chain(&self.scenario.clauses);
        names.into_iter().any(|name| globs.iter().any(|glob| glob.is_match(name)))
    }

    fn is_alone(&self) -> bool {
        self.scenario.alone || has_memory(&self.scenario.steps)
    }

    fn outcome(&self, settings: &Settings, verdict: Verdict, branch: &str, why: String) -> Outcome {
        let case = record::Case {
            id: self.id.clone(),
            clause: self.scenario.clauses.clone(),
            level: self.level.name().into(),
            title: self.scenario.title.clone(),
            verdict,
            expected: None,
            expected_reason: None,
            branch: branch.into(),
            why,
            duration_ms: 0,
            notes: Vec::new(),
            trace: Vec::new(),
            repeat: settings.repeat.replace("{}", &self.id),
        };
        Outcome { case, wire: Vec::new(), lifeless: false }
    }
}

/// How far a step brings a connection.
fn first_goal(step: &Step) -> Goal {
    match &step.kind {
        StepKind::Reach(reach) => reach.goal,
        StepKind::Repeat { body, .. } | StepKind::Memory { body, .. } => {
            body.iter().map(first_goal).find(|goal| *goal > Goal::Open).unwrap_or(Goal::Open)
        }
        _ => Goal::Open,
    }
}

fn has_memory(steps: &[Step]) -> bool {
    steps.iter().any(|step| match &step.kind {
        StepKind::Memory { .. } => true,
        StepKind::Repeat { body, .. } => has_memory(body),
        _ => false,
    })
}

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
    let mut fingerprint = calibrate(&cx).await;
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
fn profile(fingerprint: &mut Fingerprint, stated: &[String]) {
    for fact in stated {
        let name = fact.split('=').next().unwrap_or(fact);
        fingerprint.facts.retain(|found| found.split('=').next() != Some(name));
        fingerprint.facts.push(fact.clone());
    }
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
        dead.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
        let mut gone = late;
        for (i, (item, first)) in dead.into_iter().enumerate() {
            gone = gone || i >= RERUNS || !self.answers().await;
            let outcome = if gone { not_rerun(first) } else { self.once_more(&item, first).await };
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
            let need = need_text(need);
            return say(
                Verdict::Skip,
                "needs",
                format!("needs {need}, which the target is not known to have"),
            );
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
        None
    }

    fn holds(&self, need: &Fact) -> bool {
        let need = need_text(need);
        self.fingerprint.facts.iter().any(|fact| *fact == need || fact.strip_suffix("=yes") == Some(&need))
    }

    fn tell(&mut self, outcome: Outcome) {
        (self.on_result)(&outcome);
        self.outcomes.push(outcome);
    }

    /// Runs these, so many at once. Those that looked dead are kept apart: who killed the target shows when each runs alone.
    async fn batch(
        &mut self,
        items: Vec<Arc<Item>>,
        jobs: usize,
        dead: &mut Vec<(Arc<Item>, Outcome)>,
    ) -> bool {
        let mut waiting = items.into_iter();
        let mut running = JoinSet::new();
        let mut found = false;
        loop {
            while running.len() < jobs
                && !found
                && let Some(item) = waiting.next()
            {
                let (cx, settings) = (self.cx.clone(), self.settings.clone());
                running.spawn(async move {
                    let outcome = one(&item, &cx, &settings).await;
                    (item, outcome)
                });
            }
            let next = match timeout_at(self.deadline, running.join_next()).await {
                Ok(Some(Ok((item, outcome)))) => (item, outcome),
                Ok(Some(Err(error))) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Ok(Some(Err(_))) => continue,
                Ok(None) => return false,
                Err(_) => {
                    running.abort_all();
                    return true;
                }
            };
            let (item, outcome) = next;
            found |= self.settings.fail_fast && outcome.case.finding(false).is_some();
            if outcome.lifeless && outcome.case.finding(false).is_some() {
                dead.push((item, outcome));
            } else {
                self.tell(outcome);
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

fn need_text(need: &Fact) -> String {
    match &need.value {
        Some(value) => format!("{}={value}", need.name),
        None => need.name.clone(),
    }
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
        for (i, (_, conn)) in (0..).zip(&ended.conns) {
            conn.wire(|wire| {
                outcome.wire.extend(wire.iter().map(|piece| Segment {
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
