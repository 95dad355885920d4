//! `test`: a server judged, scenario by scenario.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;

use super::embedded;
use super::envelope::{self, Envelope};
use super::output::{self, Format, Output};
use super::progress::{Progress, each_second};
use super::spawn::{Kept, SpawnArgs};
use super::tls::TlsArgs;
use super::{Exit, Failure, interrupted, stopping, value};
use crate::capture::secrets::{self, Place};
use crate::capture::write::PcapngWriter;
use crate::net::conn::Dial;
use crate::net::target::Target;
use crate::record::{self, Case, Record, Test, Totals};
use crate::report::{junit, probe, table};
use crate::scenario::ast::Fact;
use crate::scenario::clauses::Severity;
use crate::scenario::expect::Expectations;
use crate::scenario::suite::{self, Listed, Outcome, Segment, Selection, Settings, Suite, text_of};

/// Judge a server, scenario by scenario.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// rtmp[s]://host[:port]/app[/prefix][?query]; without it the built-in reference server is judged.
    target: Option<Target>,
    /// What to run: a path or a clause id as a glob, a FILE.scn (FILE.scn:ROW for one case of a table), or a folder of them. Repeatable.
    #[arg(short = 's', long = "scenario", value_name = "GLOB")]
    scenario: Vec<String>,
    /// Only requirements of at least this severity: cosmetic, interop or security.
    #[arg(long, value_parser = severity)]
    severity: Option<Severity>,
    /// Run the slow scenarios too.
    #[arg(long)]
    slow: bool,
    /// Say what would run, and run nothing.
    #[arg(long)]
    list: bool,
    /// Find out what the target is like, and run no scenario.
    #[arg(long)]
    probe: bool,
    /// Where results go: text, json, junit[:FILE] or pcapng:DIR. Repeatable.
    #[arg(short = 'o', long = "output", value_name = "FORMAT[:FILE]", value_parser = output::one_of(FORMATS))]
    output: Vec<Output>,
    /// Stop at the first finding.
    #[arg(long)]
    fail_fast: bool,
    #[command(flatten)]
    spawn: SpawnArgs,
    /// For the whole run.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = value::time)]
    max_time: Duration,
    /// Cases at once.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = value::whole(1_u16..=256))]
    jobs: u16,
    /// Multiply all waits: more for slow targets.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = scale)]
    timeout_scale: f64,
    /// Known deviations of the target: lines of `id verdict "reason"`.
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
    /// Write the file that makes this run no finding, keeping reasons that still hold.
    #[arg(long, value_name = "FILE", value_parser = output::file())]
    write_expect: Option<PathBuf>,
    /// Lenient verdicts count as found.
    #[arg(long)]
    strict: bool,
    /// The target's process, so that memory can be judged.
    #[arg(long, value_parser = value::whole(0_u32..=u32::MAX))]
    pid: Option<u32>,
    /// A fact about the target that wins over what calibration finds (`relay=passthrough`, `acks`). Repeatable.
    #[arg(long, value_name = "FACT")]
    profile: Vec<Fact>,
    /// What every random choice is drawn from; without it another one each run.
    #[arg(long, value_parser = value::whole(0_u64..=u64::MAX))]
    seed: Option<u64>,
    /// Show stream keys and passwords.
    #[arg(long)]
    show_secrets: bool,
    #[command(flatten)]
    tls: TlsArgs,
}

fn severity(s: &str) -> Result<Severity, String> {
    Severity::ALL
        .into_iter()
        .find(|severity| severity.name() == s)
        .ok_or_else(|| "expected cosmetic, interop or security".into())
}

fn scale(s: &str) -> Result<f64, String> {
    s.parse()
        .ok()
        .filter(|f| (0.1..=100.0).contains(f))
        .ok_or_else(|| "expected a number from 0.1 to 100".into())
}

/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What can be written.
const FORMATS: &[Format] = &[Format::Text, Format::Json, Format::Junit, Format::Pcapng];

/// Runs the verb.
///
/// # Errors
/// When it could not run: with the exit status and what to say.
pub fn run(args: &TestArgs) -> Result<Exit, Failure> {
    let selection = Selection { patterns: args.scenario.clone(), severity: args.severity, slow: args.slow };
    let suite = Suite::select(&selection).map_err(Failure::usage)?;
    keep_apart(args, &suite)?;
    let outputs = output::resolve(&args.output).map_err(Failure::usage)?;
    let expectations = read_expectations(args)?;
    if args.list {
        return list(&suite, &outputs);
    }
    if let Some(pid) = args.pid.filter(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
        return Err(Failure::usage(format!("--pid {pid}: no such process")));
    }
    args.write_expect.iter().try_for_each(|file| output::prepare(file)).map_err(Failure::usage)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::internal(format!("no runtime: {e}")))?;
    tokio::task::LocalSet::new().block_on(&runtime, judge(args, &suite, &expectations, &outputs))
}

fn keep_apart(args: &TestArgs, suite: &Suite) -> Result<(), Failure> {
    // The same file may be read and made anew.
    let renewed = |file: &Path| {
        let names =
            [Some(file), args.write_expect.as_deref()].map(|file| file.and_then(|f| f.canonicalize().ok()));
        names[0].is_some() && names[0] == names[1]
    };
    let expect = args.expect.as_deref().filter(|file| !renewed(file)).map(|file| ("--expect", file));
    let scenarios = suite.files().iter().map(|file| ("-s", file.as_path()));
    let made = args.write_expect.iter().map(|file| ("--write-expect", file.as_path()));
    let read = scenarios.chain(expect).chain(args.tls.file());
    output::keep_apart(read, made.chain(output::files(&args.output))).map_err(Failure::usage)
}

fn list(suite: &Suite, outputs: &[Output]) -> Result<Exit, Failure> {
    let listed = suite.list();
    output::write_all(outputs, |output| match output.format {
        Format::Json => output.write(&output::json(&listed)?),
        _ => {
            let line = |l: &Listed| format!("{:<48} {:<24} {}\n", l.id, l.clause.join(","), l.title);
            output.write(&listed.iter().map(line).collect::<String>())
        }
    })?;
    Ok(Exit::Clean)
}

fn read_expectations(args: &TestArgs) -> Result<Expectations, Failure> {
    let place = |file: &Path, what: String| Failure::usage(format!("{}:{what}", file.display()));
    // The file that is about to be written is also where the old reasons are.
    let old = args.write_expect.as_ref().filter(|f| args.expect.is_none() && f.exists());
    let Some(file) = args.expect.as_ref().or(old) else { return Ok(Expectations::default()) };
    let text = text_of(file).map_err(Failure::usage)?;
    Expectations::parse(&text).map_err(|e| place(file, e.to_string()))
}

async fn judge(
    args: &TestArgs,
    suite: &Suite,
    expectations: &Expectations,
    outputs: &[Output],
) -> Result<Exit, Failure> {
    let envelope = Envelope::begin("test");
    let mut stop = std::pin::pin!(stopping(interrupted()));
    let target = match &args.target {
        Some(target) => target.clone(),
        None => embedded::start()?,
    };
    let tls = args.tls.for_target(&target)?;
    let url = target.display(args.show_secrets);
    // Two runs at once, or one after another, publish other names.
    let seed = args.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let mut run = Run {
        args,
        envelope,
        target,
        url,
        seed,
        outputs,
        expectations,
        known: known(suite)?,
        spawned: None,
        gone: None,
        unknown: Vec::new(),
    };
    let spawned = match args.spawn.start(&run.target, &mut stop).await {
        Err(why) if why.exit == Exit::Interrupted => return run.stopped(Vec::new()).and(Err(why)),
        spawned => spawned?,
    };
    let kept = args.spawn.keep(spawned);
    let settings = settings(args, &run.target, &run.url, seed, kept.clone());
    let settings = Settings { wire: outputs.iter().any(|o| o.format == Format::Pcapng), ..settings };
    let dial: Arc<dyn Dial> = Arc::new(run.target.dialer(CONNECT_TIMEOUT, tls));
    if args.probe {
        let print = tokio::select! {
            print = suite::probe(&settings, dial) => Some(print),
            () = stop => None,
        };
        run.over(kept).await;
        return match print {
            Some(print) => run.probed(print),
            None => run.stopped(Vec::new()),
        };
    }
    let mut done = Vec::new();
    let cases = suite.list().len() as u64;
    let progress = Progress::new(Some(cases), "{bar:30} {pos}/{len} cases, {msg}, {elapsed}");
    let standing = Mutex::new((progress, 0));
    let step = |cases, more: u32| {
        let mut standing = standing.lock().unwrap_or_else(PoisonError::into_inner);
        let (progress, found) = &mut *standing;
        *found += more;
        progress.step(cases, || format!("{found} failed or blocked"));
    };
    let mut on_result = |outcome: &Outcome| {
        step(1, outcome.case.finding(false).is_some().into());
        done.push(outcome.clone());
    };
    let result = tokio::select! {
        result = suite::run(suite, &settings, dial, &mut on_result) => Some(result),
        () = stop => None,
        // Cases may take long, and calibration before them.
        never = each_second(|| step(0, 0)) => match never {},
    };
    drop(standing);
    run.over(kept).await;
    match result {
        Some(Ok(report)) => {
            run.gone = report.gone;
            run.judged(report.fingerprint, report.outcomes, report.out_of_time)
        }
        Some(Err(why)) => run.unreachable(&why),
        None => run.stopped(done),
    }
}

/// The cases of the suite and those of files that are run.
fn known(suite: &Suite) -> Result<BTreeSet<String>, Failure> {
    let everything = Selection { slow: true, ..Selection::default() };
    let mut known = Suite::select(&everything).map_err(Failure::internal)?.ids();
    known.extend(suite.ids());
    Ok(known)
}

fn settings(args: &TestArgs, target: &Target, url: &str, seed: u64, kept: Option<Arc<Kept>>) -> Settings {
    let shown = if args.target.is_some() { format!(" '{url}'") } else { String::new() };
    Settings {
        app: target.app(),
        tc_url: target.tc_url(),
        prefix: if target.prefix().is_empty() { String::new() } else { format!("{}-", target.prefix()) },
        suffix: target.suffix(),
        pid: args
            .pid
            .or_else(|| kept.as_ref()?.pid())
            .or_else(|| args.target.is_none().then(std::process::id)),
        profile: args.profile.clone(),
        jobs: usize::from(args.jobs),
        fail_fast: args.fail_fast,
        max_time: args.max_time,
        timeout_scale: args.timeout_scale,
        seed,
        repeat: format!("rtmp-bench test{shown} --seed {seed} -s '{{}}'{}", again(args, target)),
        wire: false,
        patience: args.spawn.patience(),
        keeper: kept.map(|kept| kept as _),
    }
}

/// The arguments that a verdict hangs on, for the command that runs a case again.
fn again(args: &TestArgs, target: &Target) -> String {
    let mut words = String::new();
    let mut add = |flag: &str, value: Option<String>| {
        words.push_str(&format!(" {flag}"));
        words.extend(value.map(|value| format!(" {value}")));
    };
    args.profile.iter().for_each(|fact| add("--profile", Some(fact.to_string())));
    if args.timeout_scale != 1.0 {
        add("--timeout-scale", Some(args.timeout_scale.to_string()));
    }
    if args.strict {
        add("--strict", None);
    }
    args.pid.iter().for_each(|pid| add("--pid", Some(pid.to_string())));
    let spawn = |command: &str| match args.show_secrets {
        true => output::quoted(command),
        false => output::quoted(&masked(command, target)),
    };
    args.spawn.command().into_iter().for_each(|command| add("--spawn", Some(spawn(command))));
    args.tls.arguments().for_each(|argument| add(&argument, None));
    words
}

/// What is not ours to say, secrets masked: the target's and what looks like one.
fn masked(text: &str, target: &Target) -> String {
    target.mask(&secrets::shown(text, Place::Other))
}

/// A run and where its results go.
struct Run<'a> {
    args: &'a TestArgs,
    envelope: Envelope,
    target: Target,
    url: String,
    seed: u64,
    outputs: &'a [Output],
    expectations: &'a Expectations,
    /// All cases there are.
    known: BTreeSet<String>,
    /// What became of the target, where it was started by us.
    spawned: Option<record::Spawned>,
    /// Since when it answers no more.
    gone: Option<String>,
    /// What was expected of cases that do not exist.
    unknown: Vec<String>,
}

impl Run<'_> {
    /// Ends the target, where it was started by us.
    async fn over(&mut self, kept: Option<Arc<Kept>>) {
        let Some(kept) = kept else { return };
        let secrets = self.args.show_secrets;
        let mask = |line: &str| if secrets { line.to_owned() } else { masked(line, &self.target) };
        self.spawned = kept.end(mask).await;
    }

    fn record(
        &self,
        outcome: record::Outcome,
        fingerprint: Option<record::Fingerprint>,
        cases: Vec<Case>,
    ) -> Record {
        let args = envelope::arguments(self.args.show_secrets, self.args.target.as_ref());
        let mut record = self.envelope.end(outcome, args);
        record.seed = Some(self.seed);
        record.target = Some(record::Target {
            url: self.url.clone(),
            embedded: self.args.target.is_none(),
            spawned: self.spawned.clone(),
            fingerprint,
        });
        record.test = (!self.args.probe).then(|| Test {
            totals: Totals::of(&cases),
            cases,
            unknown: self.unknown.clone(),
            gone: self.gone.clone(),
        });
        record
    }

    /// What goes into the record, secrets masked.
    fn cases(&self, outcomes: &[Outcome]) -> Vec<Case> {
        let mut cases: Vec<Case> = outcomes.iter().map(|o| o.case.clone()).collect();
        if self.args.show_secrets {
            return cases;
        }
        for case in &mut cases {
            case.why = self.target.mask(&case.why);
            case.branch = self.target.mask(&case.branch);
            case.notes = case.notes.iter().map(|note| self.target.mask(note)).collect();
            for line in &mut case.trace {
                let masked = self.target.mask(&line.text);
                if masked != line.text {
                    (line.text, line.hex) = (masked, None);
                }
            }
        }
        cases
    }

    /// The same with what was expected of them.
    fn expected(&mut self, outcomes: &[Outcome]) -> Vec<Case> {
        let mut cases = self.cases(outcomes);
        self.unknown = self.expectations.apply(&mut cases, &self.known);
        cases
    }

    fn probed(&mut self, print: record::Fingerprint) -> Result<Exit, Failure> {
        if print.reach == "nothing" {
            return self.unreachable(print.refusal.as_deref().unwrap_or("not one byte came"));
        }
        self.write(&self.record(record::Outcome::Clean, Some(print), Vec::new()), &[])?;
        Ok(Exit::Clean)
    }

    fn judged(
        &mut self,
        print: record::Fingerprint,
        outcomes: Vec<Outcome>,
        out_of_time: bool,
    ) -> Result<Exit, Failure> {
        let cases = self.expected(&outcomes);
        let made = match &self.args.write_expect {
            Some(file) if !out_of_time => {
                fs::write(file, self.expectations.rewritten(&cases, self.args.strict))
                    .map_err(|e| Failure::internal(format!("{}: {e}", file.display())))
            }
            _ => Ok(()),
        };
        if out_of_time {
            let time = humantime::format_duration(self.args.max_time);
            super::complain(&format!("time was up after {time} (--max-time): not all cases ran"));
        }
        let died = self.spawned.as_ref().is_some_and(|spawned| spawned.died.is_some());
        let found =
            died || !self.unknown.is_empty() || cases.iter().any(|c| c.finding(self.args.strict).is_some());
        let ran = cases.iter().any(|c| c.verdict != record::Verdict::Skip);
        if let (false, Some(first)) = (ran, cases.first()) {
            super::complain(&format!("every case was skipped, nothing was judged: {}", first.why));
        }
        let outcome = if found { record::Outcome::Found } else { record::Outcome::Clean };
        self.write(&self.record(outcome, Some(print), cases), &outcomes)?;
        made?;
        Ok(match (ran, found) {
            (_, true) => Exit::Found,
            (false, false) => Exit::Usage, // everything skipped: nothing was judged
            (true, false) => Exit::Clean,
        })
    }

    fn unreachable(&mut self, why: &str) -> Result<Exit, Failure> {
        let mut record = self.record(record::Outcome::Unreachable, None, Vec::new());
        let why = self.target.mask(why);
        record.why = Some(why.clone());
        self.write(&record, &[])?;
        super::complain(&format!("{}: {why}", self.url));
        Ok(Exit::Unreachable)
    }

    fn stopped(&mut self, done: Vec<Outcome>) -> Result<Exit, Failure> {
        let mut cases = self.expected(&done);
        cases.sort_by(|a, b| a.id.cmp(&b.id));
        self.write(&self.record(record::Outcome::Interrupted, None, cases), &done)?;
        Ok(Exit::Interrupted)
    }

    fn write(&self, record: &Record, outcomes: &[Outcome]) -> Result<(), Failure> {
        let probed = self.args.probe && record.outcome == record::Outcome::Clean;
        output::write_all(self.outputs, |output| match output.format {
            Format::Text if probed => output.write(&probe::screen(record)),
            Format::Json => output.write(&output::json(record)?),
            Format::Junit => output.write(&junit::test(record, self.args.strict)),
            Format::Pcapng => {
                self.captures(record, outcomes, output.file.as_deref().unwrap_or(Path::new(".")))
            }
            _ => {
                let look = table::Look { colour: output.colour(), strict: self.args.strict };
                output.write(&table::test(record, look))
            }
        })
    }

    /// Each finding as a capture.
    fn captures(&self, record: &Record, outcomes: &[Outcome], folder: &Path) -> Result<(), String> {
        let failed = |file: &Path, e: std::io::Error| format!("{}: {e}", file.display());
        fs::create_dir_all(folder).map_err(|e| failed(folder, e))?;
        let cases =
            record.test.iter().flat_map(|t| &t.cases).filter(|c| c.finding(self.args.strict).is_some());
        for case in cases {
            let Some(outcome) = outcomes.iter().find(|o| o.case.id == case.id) else { continue };
            let file = folder.join(format!("{}.pcapng", case.id.replace(['/', ':'], "-")));
            let written = fs::File::create(&file).and_then(|f| {
                let mut writer =
                    PcapngWriter::new(std::io::BufWriter::new(f), &format!("{}: {}", case.id, case.why))?;
                for (segment, bytes) in outcome.wire.iter().zip(self.shown(&outcome.wire)) {
                    writer.payload(segment.at_us, segment.conn as u16, segment.sent, &bytes)?;
                }
                Ok(())
            });
            written.map_err(|e| failed(&file, e))?;
        }
        Ok(())
    }

    /// The bytes of each segment, secrets masked: they are looked for in whole directions, since reads and writes cut them anywhere.
    fn shown(&self, wire: &[Segment]) -> Vec<Vec<u8>> {
        let mut shown: Vec<Vec<u8>> = wire.iter().map(|segment| segment.bytes.to_vec()).collect();
        let directions: BTreeSet<_> = wire.iter().map(|segment| (segment.conn, segment.sent)).collect();
        for of in directions.into_iter().filter(|_| !self.args.show_secrets) {
            let pieces =
                wire.iter().zip(&mut shown).filter(|(segment, _)| (segment.conn, segment.sent) == of);
            let pieces: Vec<&mut Vec<u8>> = pieces.map(|(_, bytes)| bytes).collect();
            let mut whole: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
            self.target.mask_bytes(&mut whole);
            let mut whole = whole.into_iter();
            pieces.into_iter().flatten().zip(&mut whole).for_each(|(byte, masked)| *byte = masked);
        }
        shown
    }
}
