//! A run of `load`, or the runs of a search: what stands around them, and what is said of them.

use std::cell::Cell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::crowd::names_of;
use super::preflight::{self, Machine, Needs};
use super::{LoadArgs, MAX_SESSIONS};
use crate::capture::secrets::{self, Place};
use crate::cli::embedded;
use crate::cli::envelope::{self, Envelope};
use crate::cli::output::{self, Format, Output};
use crate::cli::progress::Progress;
use crate::cli::spawn;
use crate::cli::{Exit, Failure, complain, interrupted, stopping};
use crate::load::find::{Answer, Bound, Search};
use crate::load::media::{Kind, Media};
use crate::load::metrics::Exposed;
use crate::load::plan::Plan;
use crate::load::slo::{self, Slo};
use crate::load::{self, Beside, Error, Found, Stats};
use crate::net::spawn::Spawned;
use crate::net::target::{self, Target};
use crate::net::tls::Tls;
use crate::record::load::{Find, FindStep, Interval, Load};
use crate::record::{self, Outcome};
use crate::report;

/// Between two runs of a search: servers let go of what has ended.
const SETTLE: Duration = Duration::from_millis(500);

/// Runs what the arguments say and reports it.
pub async fn drive(args: &LoadArgs, plan: Plan, media: Media, outputs: &[Output]) -> Result<Exit, Failure> {
    let envelope = Envelope::begin("load");
    let plan = if searches_all(args, &plan) { widest(args, plan, &media) } else { plan };
    let raise = cleared(args, &plan, &media)?;
    let mut stop = std::pin::pin!(stopping(interrupted()));
    let target = match &args.target {
        Some(target) => target.clone(),
        None => embedded::start()?,
    };
    let tls = args.tls.for_target(&target)?;
    let url = target.display(args.show_secrets);
    let exposed = expose(args.metrics).await?;
    let report = Report { args, envelope, url, outputs };
    let spawned = match args.spawn.start(&target, &mut stop).await {
        Err(why) if why.exit == Exit::Interrupted => return report.nothing(Outcome::Interrupted, why),
        spawned => spawned?,
    };
    // Not before: what was started has the limits that its user gave it.
    raise.map_or(Ok(()), preflight::raise).map_err(Failure::internal)?;
    let pid = args.watch_pid.or(spawned.as_ref().map(Spawned::pid));
    let log = outputs.iter().any(|output| output.format == Format::Hlog);
    let mut runs = Runs {
        media: Arc::new(media),
        target: &target,
        tls,
        beside: Beside { pid, log },
        stop,
        spawned,
        progress: Progress::new(None, "{spinner} {wide_msg}"),
        exposed,
        stopped: false,
        died: false,
    };
    let ran = match &args.find {
        None => runs.once(plan.clone()).await.map(|found| {
            let promises = slo::with_defaults(&args.slo);
            let slo = slo::judge(&promises, &plan, &found, args.allow_limited);
            (Load { slo, ..found.load }, found.log)
        }),
        Some(slo) => runs.search(args, slo, plan).await,
    };
    let Runs { spawned, stopped, progress, exposed, .. } = runs;
    drop((progress, exposed));
    let mask = |text: &str| {
        if args.show_secrets {
            return text.to_owned();
        }
        let masked = target.mask(&secrets::shown(text, Place::Other));
        args.play.as_ref().map_or_else(|| masked.clone(), |name| target::mask_name(&masked, name))
    };
    let spawned = spawn::end(spawned, mask).await;
    let (mut load, log) = match ran {
        Ok(ran) => ran,
        Err(Error::Resolve(e)) => {
            return report
                .nothing(Outcome::Unreachable, Failure::unreachable(format!("{}: {e}", report.url)));
        }
        Err(e @ Error::Internal(_)) => return Err(Failure::internal(e.to_string())),
    };
    if let Some(name) = load.plan.play.as_mut().filter(|_| !args.show_secrets) {
        *name = target::masked_name(name);
    }
    for failed in load.sessions.failed_by_phase.values_mut() {
        failed.sample = mask(&failed.sample);
    }
    let died = spawned.as_ref().is_some_and(|spawned| spawned.died.is_some());
    let (outcome, exit) = verdict(&load, stopped, died, args.allow_limited);
    report.write(outcome, spawned, Ok(load), log.as_deref())?;
    if exit == Exit::Unreachable {
        complain(&format!("{}: not one session started", report.url));
    }
    Ok(exit)
}

/// What a record says of a run beside its numbers, and where it goes.
struct Report<'a> {
    args: &'a LoadArgs,
    envelope: Envelope,
    url: String,
    outputs: &'a [Output],
}

impl Report<'_> {
    /// Of a run that came to nothing.
    fn nothing(&self, outcome: Outcome, why: Failure) -> Result<Exit, Failure> {
        self.write(outcome, None, Err(why.message.clone()), None)?;
        Err(why)
    }

    fn write(
        &self,
        outcome: Outcome,
        spawned: Option<record::Spawned>,
        load: Result<Load, String>,
        log: Option<&str>,
    ) -> Result<(), Failure> {
        let args = envelope::arguments(self.args.show_secrets, self.args.target.as_ref());
        let mut record = self.envelope.end(outcome, args);
        let embedded = self.args.target.is_none();
        record.target = Some(record::Target { url: self.url.clone(), embedded, spawned, fingerprint: None });
        record.why = load.as_ref().err().cloned();
        record.load = load.ok();
        output::write_all(self.outputs, |output| match output.format {
            Format::Json => output.write(&output::json(&record)?),
            Format::Csv => output.write(&report::load::csv(&record)),
            Format::Hlog => output.write(log.unwrap_or_default()),
            _ => output.write(&report::load::screen(&record)),
        })
    }
}

/// Whether the most sessions are searched for and nobody said how many at most.
fn searches_all(args: &LoadArgs, plan: &Plan) -> bool {
    let asked = if plan.players() > 0 { args.players } else { args.publishers };
    args.find.is_some() && asked.is_none()
}

/// The plan with as many of what is searched for as this machine can make.
fn widest(args: &LoadArgs, plan: Plan, media: &Media) -> Plan {
    let machine = Machine::look();
    let can = |n: u32| {
        let plan = with(&plan, n);
        names_of(&plan) == plan.publishers && preflight::check(&needs(args, &plan, media), &machine).is_ok()
    };
    let (mut most, mut more) = (1, MAX_SESSIONS + 1);
    while more - most > 1 {
        let middle = most + (more - most) / 2;
        *if can(middle) { &mut most } else { &mut more } = middle;
    }
    with(&plan, most)
}

/// Whether this machine can do it; the descriptors to which the limit is to be raised.
fn cleared(args: &LoadArgs, plan: &Plan, media: &Media) -> Result<Option<u64>, Failure> {
    preflight::present(args.watch_pid, &plan.sources).map_err(Failure::usage)?;
    let cleared = preflight::check(&needs(args, plan, media), &Machine::look()).map_err(Failure::usage)?;
    // Of a search to where it cannot go further that is known.
    if !searches_all(args, plan) {
        cleared.warnings.iter().for_each(|warning| complain(&format!("warning: {warning}")));
    }
    Ok(cleared.raise)
}

fn needs(args: &LoadArgs, plan: &Plan, media: &Media) -> Needs {
    let second = Duration::from_secs(1).as_nanos() as u64;
    Needs {
        publishers: plan.publishers.into(),
        players: plan.players().into(),
        frames_per_s: Kind::ALL.iter().map(|kind| u64::from(media.count_before(*kind, second))).sum(),
        churned_per_min: plan.churn.map_or(0, |gap| 60_000_000_000 / gap.as_nanos().max(1) as u64),
        swept: plan.tick.is_some(),
        embedded: args.target.is_none(),
        addresses: plan.sources.len().max(1) as u64,
    }
}

/// Runs against one target, one behind the other.
struct Runs<'a, F> {
    media: Arc<Media>,
    target: &'a Target,
    tls: Option<Tls>,
    beside: Beside,
    stop: Pin<&'a mut F>,
    spawned: Option<Spawned>,
    progress: Progress,
    exposed: Option<Exposed>,
    /// By the user.
    stopped: bool,
    /// The target that we started.
    died: bool,
}

impl<F: Future<Output = ()>> Runs<'_, F> {
    async fn once(&mut self, plan: Plan) -> Result<Found, Error> {
        let Runs { media, target, tls, beside, stop, spawned, progress, exposed, .. } = self;
        let mut on_second = |row: &Interval, total: &Stats| {
            progress.step(1, || report::load::second(row, total.counts.lost + row.missing, total.failed()));
            if let Some(exposed) = exposed {
                exposed.show(total, row);
            }
        };
        let (stopped, died) = (Cell::new(false), Cell::new(false));
        let over = async {
            tokio::select! {
                () = stop => stopped.set(true),
                _ = death(spawned) => died.set(true),
            }
        };
        let found = load::run(plan, media.clone(), target, tls.clone(), *beside, over, &mut on_second).await;
        (self.stopped, self.died) = (stopped.get(), died.get());
        found
    }

    /// The most sessions with which all is kept: what is found, and the run that found it.
    async fn search(
        &mut self,
        args: &LoadArgs,
        wanted: &Slo,
        plan: Plan,
    ) -> Result<(Load, Option<String>), Error> {
        let began = Instant::now();
        let players = plan.players();
        let promises = [&[wanted.clone()][..], &args.slo].concat();
        let promises = slo::with_defaults(&promises);
        let why = if searches_all(args, &plan) { Bound::Generator } else { Bound::Asked };
        let mut search = Search::new(if players > 0 { players } else { plan.publishers }, why);
        let of = if players > 0 { "players" } else { "publishers" };
        let mut find = Find { slo: wanted.text().to_owned(), of: of.to_owned(), ..Find::default() };
        let mut best: Option<(Load, Option<String>)> = None;
        while let Some(sessions) = search.next() {
            let plan = with(&plan, sessions);
            let time = began.elapsed() + plan.timetable().silence;
            if !find.steps.is_empty() && time > args.max_time {
                break;
            }
            let found = self.once(plan.clone()).await?;
            let [slo, measured] =
                [args.allow_limited, true].map(|allow| slo::judge(&promises, &plan, &found, allow));
            let (load, log) = (Load { slo, ..found.load }, found.log);
            if self.stopped {
                best.get_or_insert((load, log));
                break;
            }
            find.unit = load.slo.first().map_or_else(String::new, |slo| slo.unit.clone());
            let over = load.sessions.started == 0 || self.died;
            let mut step = step(sessions, &load, &measured);
            if self.died {
                (step.held, step.limited) = (false, false);
                step.missed.push("the target stays up".into());
            }
            let (answer, what) = match (step.held, step.limited) {
                (true, _) => (Answer::Held, "held"),
                (false, true) if !args.allow_limited => (Answer::Limited, "no answer: we were the limit"),
                (false, true) => (Answer::Missed(Bound::Generator), "not held, but we were the limit"),
                (false, false) => (Answer::Missed(Bound::Target), "not held"),
            };
            let tried = report::count(sessions.into(), of.trim_end_matches('s'));
            self.progress.say(&format!("{tried}: {what}"));
            find.steps.push(step);
            search.take(sessions, answer);
            if answer == Answer::Held || search.most().is_none() {
                best = Some((load, log));
            }
            if over {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(SETTLE) => {}
                () = self.stop.as_mut() => {
                    self.stopped = true;
                    break;
                }
            }
        }
        find.most = search.most();
        find.bound = search.next().is_none().then(|| search.bound().name().to_owned());
        let (load, log) = best.unwrap_or_default();
        Ok((Load { find: Some(find), ..load }, log))
    }
}

/// The plan with another number of what is searched for.
fn with(plan: &Plan, sessions: u32) -> Plan {
    let mut plan = plan.clone();
    match plan.players() {
        0 => plan.publishers = sessions,
        _ => plan.stages.iter_mut().for_each(|stage| stage.players = sessions),
    }
    plan
}

/// A run's answer, and what it missed by what was measured, whether or not we were the limit.
fn step(sessions: u32, load: &Load, measured: &[record::load::Slo]) -> FindStep {
    FindStep {
        sessions,
        held: load.slo.iter().all(|slo| slo.held != Some(false)),
        value: load.slo.first().and_then(|slo| slo.value),
        limited: load.generator.limited,
        missed: measured.iter().filter(|slo| slo.missed()).map(|slo| slo.expr.clone()).collect(),
    }
}

/// Where it is told how the run goes, if somebody asks.
async fn expose(address: Option<SocketAddr>) -> Result<Option<Exposed>, Failure> {
    let Some(address) = address else { return Ok(None) };
    let exposed = Exposed::start(address).await;
    let exposed =
        exposed.map_err(|e| Failure::usage(format!("--metrics: cannot listen on {address}: {e}")))?;
    complain(&format!("metrics at http://{}/metrics", exposed.address()));
    Ok(Some(exposed))
}

/// Ready when the target that we started has ended by itself.
async fn death(spawned: &mut Option<Spawned>) -> String {
    match spawned {
        Some(spawned) => spawned.died().await,
        None => std::future::pending().await,
    }
}

fn verdict(load: &Load, stopped: bool, died: bool, allow_limited: bool) -> (Outcome, Exit) {
    let limited = match &load.find {
        None => load.generator.limited,
        Some(find) => find.bound.as_deref() == Some(Bound::Generator.name()),
    };
    let missed = match &load.find {
        None => load.slo.iter().any(|slo| slo.missed()),
        Some(find) => find.most.is_none(),
    };
    match load.sessions.started {
        _ if stopped => (Outcome::Interrupted, Exit::Interrupted),
        0 => (Outcome::Unreachable, Exit::Unreachable),
        _ if died => (Outcome::Found, Exit::Found),
        _ if limited && !allow_limited => (Outcome::Limited, Exit::Found),
        _ if missed => (Outcome::Found, Exit::Found),
        _ if limited => (Outcome::Limited, Exit::Clean),
        _ => (Outcome::Clean, Exit::Clean),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::load::{Generator, Slo};

    #[test]
    fn what_was_missed_is_named_where_we_were_the_limit_too() {
        let slo = |expr: &str, held, limited| Slo {
            expr: expr.into(),
            held: Some(held),
            limited,
            ..Slo::default()
        };
        let load = Load {
            slo: vec![slo("frame.p99 < 1s", false, true), slo("lost = 0", false, true)],
            generator: Generator { limited: true, ..Generator::default() },
            ..Load::default()
        };
        let measured = [slo("frame.p99 < 1s", true, false), slo("lost = 0", false, false)];
        let step = step(8, &load, &measured);
        assert_eq!((step.held, step.limited, step.missed), (false, true, vec!["lost = 0".to_owned()]));
    }
}
