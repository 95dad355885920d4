//! The suite: which cases run, in which order and how many at once.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use globset::{Glob, GlobMatcher};
use include_dir::{Dir, include_dir};

use super::ast::{self, CaseValue, Fact, Scenario, SendWhat, Step, StepKind};
use super::check::{self, Known};
use super::clauses::{Clauses, Level, Severity};
pub use super::runner::{probe, run, run_known};
use crate::notation::error::nearest;
use crate::record::{self, Fingerprint, Milestone, Totals, Verdict};
use crate::wire::session::Goal;

/// Bytes that a file of ours may have.
const LARGEST: u64 = 4 << 20;

static BUILT_IN: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/scenarios");

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
    pub profile: Vec<Fact>,
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
    /// The command that runs one case again, with its first `{}` for what `-s` takes.
    pub repeat: String,
    /// Whether the bytes of findings are kept.
    pub wire: bool,
    /// How long a target that died may take to come back, where that is longer than customary.
    pub patience: Duration,
    /// Who starts the target again when it died.
    pub keeper: Option<Arc<dyn Keeper>>,
}

/// A target's process in our hands.
pub trait Keeper: std::fmt::Debug + Send + Sync {
    /// How it ended by itself, where it has.
    fn death(&self) -> Option<String>;
    /// Starts it again, ended first where it is not; gives its process.
    fn restart(&self) -> Restarting<'_>;
}

/// A target that is being started again; an error says why that cannot be.
pub type Restarting<'a> = Pin<Box<dyn Future<Output = Result<u32, String>> + Send + 'a>>;

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
            wire: true,
            patience: Duration::ZERO,
            keeper: None,
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
    /// Since when the target answers no more, where it died and did not come back.
    pub gone: Option<String>,
}

impl Report {
    /// As the record has it.
    pub fn test(&self) -> record::Test {
        let cases: Vec<record::Case> = self.outcomes.iter().map(|outcome| outcome.case.clone()).collect();
        record::Test { totals: Totals::of(&cases), cases, unknown: Vec::new(), gone: self.gone.clone() }
    }
}

/// The cases that were selected, by id.
#[derive(Debug, Clone)]
pub struct Suite {
    pub(super) items: Vec<Arc<Item>>,
    /// That the patterns name, and those in folders that they name.
    files: Vec<PathBuf>,
}

/// One case.
#[derive(Debug)]
pub(super) struct Item {
    pub id: String,
    /// What `-s` takes for it alone.
    pub selector: String,
    pub scenario: Arc<Scenario>,
    pub source: Arc<str>,
    pub case: usize,
    pub level: Level,
    pub severity: Severity,
    /// How far connections must get for it to be judged.
    pub goal: Goal,
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
        let (mut globs, mut files, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for pattern in &selection.patterns {
            let (file, row) = match pattern.rsplit_once(".scn:") {
                Some((stem, row)) => (format!("{stem}.scn"), Some(row)),
                None => (pattern.clone(), None),
            };
            let path = Path::new(&file);
            if let Some(row) = row {
                rows.push((id_of(&file), row.to_owned(), pattern));
            }
            if file.ends_with(".scn") || (path.is_dir() && !pattern.contains('*')) {
                let before = files.len();
                read_files(path, &mut files)?;
                if files.len() == before {
                    return Err(format!(
                        "no scenario is selected by -s {pattern}: no file in it ends with .scn"
                    ));
                }
            } else {
                let glob = Glob::new(pattern).map_err(|error| format!("-s {pattern}: {error}"))?;
                globs.push(glob.compile_matcher());
            }
        }
        let named = !files.is_empty();
        let mut suite = Suite::read(&files, clauses, true)?;
        suite.files = files.into_iter().map(|(_, place, _)| place.into()).collect();
        // Of a file with rows named only those.
        suite.items.retain(|item| {
            let mut named = rows.iter().filter(|(id, ..)| *id == item.scenario.id).peekable();
            named.peek().is_none() || named.any(|(id, row, _)| item.id == format!("{id}:{row}"))
        });
        let is_there = |(id, row, _): &&(String, String, &String)| {
            suite.items.iter().any(|item| item.id == format!("{id}:{row}"))
        };
        if let Some((_, row, pattern)) = rows.iter().find(|row| !is_there(row)) {
            return Err(format!("no scenario is selected by -s {pattern}: the file has no row '{row}'"));
        }
        if !globs.is_empty() || selection.patterns.is_empty() {
            let built_in: Vec<_> =
                built_in_files().into_iter().map(|(id, place, text)| (id, place, text.to_owned())).collect();
            let mut all = Suite::parse(&built_in, clauses)?;
            if let Some(glob) = globs
                .iter()
                .find(|glob| !all.items.iter().any(|item| item.is_named(std::slice::from_ref(glob))))
            {
                return Err(no_such(glob.glob().glob(), &all));
            }
            all.items.retain(|item| globs.is_empty() || item.is_named(&globs));
            suite.items.extend(all.items);
        }
        let slow = selection.slow || named;
        suite.items.retain(|item| {
            (slow || !item.scenario.slow) && selection.severity.is_none_or(|least| item.severity >= least)
        });
        suite.items.sort_by(|a, b| a.id.cmp(&b.id));
        // A file comes before what is built in under its name.
        let twice = |pair: &&[Arc<Item>]| pair[0].id == pair[1].id && pair[1].selector.ends_with(".scn");
        if let Some(pair) =
            suite.items.windows(2).find(twice).filter(|pair| pair[0].selector != pair[1].selector)
        {
            return Err(format!(
                "{} and {} are both '{}'; give one another name",
                pair[0].selector, pair[1].selector, pair[0].id
            ));
        }
        suite.items.dedup_by(|a, b| a.id == b.id);
        if suite.items.is_empty() {
            let left_out = "what -s names is left out by --severity, or is slow and needs --slow";
            return Err(format!("no scenario is selected: {left_out}"));
        }
        Ok(suite)
    }

    /// The cases of these files: id, place for messages, text.
    ///
    /// # Errors
    /// All mistakes, as text with their places.
    pub fn parse(files: &[(String, String, String)], clauses: &Clauses) -> Result<Suite, String> {
        Suite::read(files, clauses, false)
    }

    /// `named`: by their places, and not as parts of the suite.
    fn read(files: &[(String, String, String)], clauses: &Clauses, named: bool) -> Result<Suite, String> {
        let (mut items, mut errors) = (Vec::new(), String::new());
        let faults = crate::net::peer::fault_names();
        for (id, place, text) in files {
            match check::read(id, text, Known { clauses, faults: &faults }) {
                Ok(scenario) => items.extend(Item::cases(scenario, named.then_some(place), text, clauses)),
                Err(found) => errors.extend(found.iter().map(|error| error.render(place, text))),
            }
        }
        if errors.is_empty() { Ok(Suite { items, files: Vec::new() }) } else { Err(errors) }
    }

    /// Those of the selection that are no built-in ones.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
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
        let items = self.items.iter().filter(|item| keep(&item.id)).cloned().collect();
        Suite { items, files: self.files.clone() }
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
    let text = text_of(path)?;
    out.push((id_of(&place), place, text));
    Ok(())
}

/// Reads a file that a person wrote: a scenario, clauses, what is expected.
///
/// # Errors
/// What is wrong with it, and where: it cannot be read, is over 4 MiB, or is not UTF-8.
pub fn text_of(path: &Path) -> Result<String, String> {
    let place = path.display();
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| format!("{place}: {error}"))?;
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|error| format!("{place}: {error}"))?;
    if bytes.len() as u64 > LARGEST {
        return Err(format!("{place}: larger than {LARGEST} bytes, which no such file is"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let (right, wrong) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
        let line = 1 + right.iter().filter(|byte| **byte == b'\n').count();
        let column = 1 + right
            .iter()
            .rev()
            .take_while(|byte| **byte != b'\n')
            .filter(|byte| **byte & 0xc0 != 0x80)
            .count();
        format!("{place}:{line}:{column}: byte 0x{:02x} is no UTF-8 text", wrong[0])
    })
}

/// A pattern that names nothing, and what it may have meant.
fn no_such(pattern: &str, suite: &Suite) -> String {
    let ids = suite
        .items
        .iter()
        .flat_map(|item| [&item.id, &item.scenario.id].into_iter().chain(&item.scenario.clauses));
    if suite.items.iter().any(|item| item.id.starts_with(&format!("{pattern}/"))) {
        return format!("no scenario is selected by -s {pattern}; did you mean '{pattern}/*'?");
    }
    match nearest(pattern, ids.map(String::as_str)) {
        Some(near) => format!("no scenario is selected by -s {pattern}; did you mean '{near}'?"),
        None => format!(
            "no scenario is selected by -s {pattern}: neither an id nor a clause is like it (--list shows them)"
        ),
    }
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
    fn cases(scenario: Scenario, place: Option<&String>, text: &str, clauses: &Clauses) -> Vec<Arc<Item>> {
        let clause = scenario.clauses.first().and_then(|id| clauses.get(id));
        let level = clause.map_or(Level::Must, |clause| clause.level);
        let severity = clause.map_or(Severity::Interop, |clause| clause.severity);
        let goal = furthest(&scenario);
        let (scenario, source) = (Arc::new(scenario), Arc::from(text));
        let item = |case: usize| {
            let of = |stem: &str| match &scenario.cases[case].row {
                Some(row) => format!("{stem}:{row}"),
                None => stem.to_owned(),
            };
            let (id, selector) = (of(&scenario.id), of(place.unwrap_or(&scenario.id)));
            let (scenario, source) = (scenario.clone(), Arc::clone(&source));
            Arc::new(Item { id, selector, scenario, source, case, level, severity, goal })
        };
        (0..scenario.cases.len()).map(item).collect()
    }

    fn is_named(&self, globs: &[GlobMatcher]) -> bool {
        let names = [&self.id, &self.scenario.id].into_iter().chain(&self.scenario.clauses);
        names.into_iter().any(|name| globs.iter().any(|glob| glob.is_match(name)))
    }

    pub fn is_alone(&self) -> bool {
        self.scenario.alone || self.scenario.steps.iter().any(Step::measures_memory)
    }

    pub fn asks_in_step(&self) -> bool {
        self.scenario.steps.iter().any(Step::asks_in_step)
    }

    /// Whether it asks a connection that is to publish.
    pub fn asks_a_publisher(&self) -> bool {
        let publishes =
            |step: &Step| matches!(&step.kind, StepKind::Reach(reach) if reach.goal == Goal::Publishing);
        self.asks_in_step() && self.scenario.steps.iter().any(|step| step.any(&mut |step| publishes(step)))
    }

    /// Whether it takes the answer to createStream as a sign of something else: its rows are not about that command (rtmp 7.2.1.3).
    pub fn asks_for_streams(&self) -> bool {
        let about = self.scenario.clauses.iter().any(|clause| clause.starts_with("rtmp/7.2.1.3/"));
        let says = |step: &Step| step.any(&mut |step| step.says("createStream"));
        let in_table = self.scenario.cases[self.case].vars.iter().any(|(_, value)| match value {
            CaseValue::Value(value) => value.says("createStream"),
            CaseValue::Payload(payload) => payload.says("createStream"),
        });
        !about && (in_table || self.scenario.steps.iter().any(says))
    }

    /// Of these goals, at which the target ends the session of whoever waits, the first that a connection of this case is brought to or past.
    pub fn is_ended_at(&self, ends: &[Milestone]) -> Option<Milestone> {
        // A player never publishes on its way.
        let passes = |reach: Goal, at: Goal| at == reach || at < reach && at <= Goal::Created;
        let comes = |at: Goal| {
            self.scenario.steps.iter().any(|step| {
                step.any(&mut |step| matches!(&step.kind, StepKind::Reach(reach) if passes(reach.goal, at)))
            })
        };
        ends.iter().copied().find(|at| comes((*at).into()))
    }

    pub fn outcome(&self, settings: &Settings, verdict: Verdict, branch: &str, why: String) -> Outcome {
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
            repeat: settings.repeat.replacen("{}", &self.selector, 1),
        };
        Outcome { case, wire: Vec::new() }
    }
}

/// How far a connection must get for what a scenario does to be judged.
fn furthest(scenario: &Scenario) -> Goal {
    let is_message = |send: &ast::Send| matches!(send.what, SendWhat::Message(..) | SendWhat::Chunk(_));
    let mut goal = Goal::Open;
    for step in &scenario.steps {
        step.any(&mut |step| {
            goal = goal.max(match &step.kind {
                StepKind::Reach(reach) => reach.goal,
                // Also a connect sent by hand: what comes behind it is judged.
                StepKind::Send(send) if is_message(send) => Goal::Connected,
                StepKind::Together(sends) if sends.iter().any(is_message) => Goal::Connected,
                _ => Goal::Open,
            });
            false
        });
    }
    goal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_streams() {
        let asks = |clause: &str, head: &str, steps: &str| {
            let text = format!("scenario \"x\"\nclause {clause}\n{head}\nreach connected\n{steps}\nalive\n");
            let file = ("x".to_owned(), "x.scn".to_owned(), text);
            let suite = Suite::parse(&[file], Clauses::built_in()).unwrap_or_else(|e| panic!("{e}"));
            suite.items.iter().map(|item| item.asks_for_streams()).collect::<Vec<_>>()
        };
        let other = "rtmp/5.3.1.3/4";
        let create = "createStream(2, null)";
        for (steps, want) in [
            (format!("> {create}"), true),
            (format!("> amf3 {create} csid=9"), true),
            (format!("repeat 3 {{ together {{\n> {create}\n}} }}"), true),
            (format!("> bytes wire({create})"), true),
            (format!("> bytes repeat(2, cut(wire({create}), 0, 9))"), true),
            ("> chunk fmt=0 csid=3 len=25 type=20 msid=0 ts=0 amf0(\"createStream\", 2, null)".into(), true),
            ("> call(1, {method: [\"createStream\"]})".into(), true),
            (format!("let v = wire({create})\n> bytes $v"), true),
            ("> call(1, null) # not createStream(2, null)".into(), false),
            ("> call(1, \"a createStream(\")".into(), false),
            ("> audio text \"createStream(\"".into(), false),
        ] {
            assert_eq!(asks(other, "", &steps), [want], "{steps}");
            assert_eq!(asks("rtmp/7.2.1.3/1", "", &steps), [false], "{steps}");
        }
        let table = "for v in { a: wire(createStream(2, null)); b: hex \"00\" }";
        assert_eq!(asks(other, table, "> bytes $v"), [true, false]);
    }
}
