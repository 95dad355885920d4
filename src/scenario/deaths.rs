//! Who killed the target: what ran beside a death is run again alone, one by one, and the target asked after each whether it still answers.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::ast::TimeKind;
use super::ground::{Context, Ground, Life};
use super::runner::{Runner, one};
use super::suite::{Item, Outcome};
use crate::record::Verdict;

/// How long a target that died may take to come back, where nothing is said.
const REVIVAL: Duration = Duration::from_secs(4);
/// How long after a case its doings may take to show: a death sooner than that may be its work.
const LINGER: Duration = Duration::from_millis(100);
/// Between two questions whether it is back.
const AGAIN: Duration = Duration::from_millis(200);
/// Where the target looked dead and was not: cases are run again alone, at most so many.
const RERUNS: usize = 32;
/// And for so long: where many look dead, one that runs alone tells no culprit.
const RERUNS_TIME: Duration = Duration::from_secs(12);
/// Where it was: so many deaths are looked into.
const DEATHS: usize = 64;
/// Each for so long.
const DEATH_TIME: Duration = Duration::from_secs(30);
/// Connections that are closed within this time are closed at once: by a process that died, though another may answer already.
const AT_ONCE: Duration = Duration::from_millis(20);
/// So many failed cases whose connections were closed with those of two others are run again alone, and for so long.
const RECHECKS: usize = 16;
const RECHECK_TIME: Duration = Duration::from_secs(4);
/// Names of cases in a reason.
const NAMES: usize = 12;
const DIED: &str = "the target died";
const KILLS: &str = "the target answered no more after this case alone";

/// What is left for looking into deaths.
pub(super) struct Budget {
    runs: usize,
    time: Duration,
    deaths: usize,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { runs: RERUNS, time: RERUNS_TIME, deaths: DEATHS }
    }
}

/// A case that waits for its turn.
pub(super) struct Queued {
    pub(super) item: Arc<Item>,
    /// What was said of it when the target died beside it.
    pub(super) before: Option<String>,
}

/// A case that ended, until it is known what happened beside it.
pub(super) struct Held {
    pub(super) queued: Queued,
    pub(super) outcome: Outcome,
    pub(super) life: Life,
    pub(super) began: Instant,
    pub(super) ended: Instant,
}

impl Held {
    pub(super) fn id(&self) -> &str {
        &self.queued.item.id
    }

    pub(super) fn is_found(&self) -> bool {
        self.outcome.case.finding(false).is_some()
    }

    /// The target looked dead, and that is held against it.
    pub(super) fn is_dead(&self) -> bool {
        self.life.lifeless.is_some() && self.is_found()
    }

    /// Whether the target lived on behind it; it was alive at this instant.
    pub(super) fn outlived(&self, alive: Option<Instant>) -> bool {
        alive.is_some_and(|alive| alive >= self.ended + LINGER)
    }

    /// As a case that is run once more.
    fn again(self) -> Queued {
        let case = &self.outcome.case;
        let before = self.queued.before.or(Some(format!("{}: {}", case.verdict.name(), case.why)));
        Queued { before, ..self.queued }
    }

    /// What was said of it may be another's doing.
    pub(super) fn doubt(&mut self, why: &str) {
        let case = &mut self.outcome.case;
        case.notes.push(format!("it was {}: {}", case.verdict.name(), case.why));
        (case.verdict, case.branch, case.why) = (Verdict::Blocked, DIED.into(), why.into());
    }

    /// What was said of it stands, and this case alone is to blame. `sure`: it was so twice.
    fn convict(&mut self, sure: bool) {
        let case = &mut self.outcome.case;
        if sure && case.finding(false).is_none() {
            // Broken is fail under every level.
            case.notes.push(format!("else it is {}: {}", case.verdict.name(), case.why));
            (case.verdict, case.branch, case.why) = (Verdict::Fail, DIED.into(), KILLS.into());
        } else {
            case.notes.push(KILLS.into());
        }
    }
}

/// What became of a suspect that ran alone.
enum Fate {
    /// The target answers still.
    Innocent,
    /// It killed the target, which came back.
    Culprit,
    /// And which did not.
    Last,
}

impl Runner<'_> {
    /// Whether these died of something that there is time to look into.
    pub(super) fn is_worth_it(&self, held: &[Held]) -> bool {
        match self.is_real(held) {
            true => self.budget.deaths > 0,
            false => self.budget.runs > 0 && !self.budget.time.is_zero(),
        }
    }

    /// Whether the target was really gone, and not only slow to answer.
    fn is_real(&self, held: &[Held]) -> bool {
        held.iter().any(|done| done.life.refused) || self.process_died().is_some()
    }

    /// Nothing runs, and the target looked dead to one of these or does so now. Tells what is sure; gives back those that are to run beside others again.
    pub(super) async fn examine(&mut self, held: Vec<Held>) -> Vec<Queued> {
        let real = self.is_real(&held);
        let mut suspects = self.suspects(held);
        if !self.revive().await {
            self.bury(suspects.into());
            return Vec::new();
        }
        let (began, before) = (Instant::now(), suspects.len());
        let (runs, time) = if real { (before, DEATH_TIME) } else { (self.budget.runs, self.budget.time) };
        self.search(&mut suspects, runs, began + time).await;
        if real {
            self.budget.deaths -= 1;
        } else {
            self.budget.runs = self.budget.runs.saturating_sub((before - suspects.len()).max(1));
            self.budget.time = self.budget.time.saturating_sub(began.elapsed());
        }
        if self.gone.is_some() {
            self.bury(suspects.into());
            return Vec::new();
        }
        suspects.into_iter().map(Held::again).collect()
    }

    /// Those behind which the target lived are none. The likeliest first: upon whose bytes it closed the connection soonest. Last are those that
    /// never had one.
    fn suspects(&mut self, held: Vec<Held>) -> VecDeque<Held> {
        let missed = held.iter().filter_map(|done| done.life.lifeless).min();
        let alive = self.alive_before(missed);
        let (mut suspects, clear): (Vec<Held>, Vec<Held>) =
            held.into_iter().partition(|done| !done.outlived(alive));
        clear.into_iter().for_each(|done| self.conclude(done));
        suspects.sort_by_key(|done| {
            // One that had ended by itself is timed from there.
            let since = missed.map(|missed| missed.saturating_duration_since(done.ended));
            let gap = done.life.provoked.or(since).unwrap_or(Duration::MAX);
            (!done.life.met, gap, done.ended)
        });
        suspects.into()
    }

    /// Runs suspects alone until one is found or there is no more time for it.
    async fn search(&mut self, suspects: &mut VecDeque<Held>, mut runs: usize, end: Instant) {
        let only = suspects.iter().filter(|suspect| suspect.life.met).count() == 1;
        while runs > 0
            && Instant::now() < end.min(self.deadline)
            && suspects.front().is_some_and(|suspect| suspect.life.met)
            && let Some(suspect) = suspects.pop_front()
        {
            runs -= 1;
            match self.accuse(suspect.again(), only).await {
                Fate::Innocent => {}
                Fate::Culprit | Fate::Last => return,
            }
        }
    }

    /// Runs one alone. `only`: nothing else can have caused the death before.
    async fn accuse(&mut self, suspect: Queued, only: bool) -> Fate {
        let (mut done, mut kills) = self.alone(suspect).await;
        if kills && !only {
            if !self.revive().await {
                return self.last(done, false);
            }
            // Perhaps it was the one before, with delay.
            (done, kills) = self.alone(done.queued).await;
        }
        if !kills {
            if done.outcome.case.finding(true).is_none() {
                (done.outcome.case.trace, done.outcome.wire) = (Vec::new(), Vec::new());
            }
            self.tell(done.outcome);
            return Fate::Innocent;
        }
        if !self.revive().await {
            return self.last(done, true);
        }
        done.convict(true);
        self.tell(done.outcome);
        Fate::Culprit
    }

    fn last(&mut self, mut done: Held, sure: bool) -> Fate {
        done.convict(sure);
        self.gone = Some(format!("the target answers no more since {}, which ran alone", done.id()));
        self.tell(done.outcome);
        Fate::Last
    }

    /// Runs a case with nothing beside it; whether the target answers no more then.
    async fn alone(&mut self, queued: Queued) -> (Held, bool) {
        let mut done = one(queued, self.cx.clone(), self.settings.clone(), true).await;
        self.learn(&done.life);
        let before = done.queued.before.as_deref().unwrap_or_default();
        done.outcome.case.notes.push(format!("run again alone; beside others it was {before}"));
        let dies = self.dies().await;
        if let Some(how) = self.process_died() {
            done.outcome.case.notes.push(format!("the target's process ended: {how}"));
        }
        (done, dies)
    }

    /// Whether this failed, and the target closed connections of at least two others at the same time.
    pub(super) fn is_cut_with_others(&self, done: &Held) -> bool {
        let at_once = |a: Instant, b: Instant| a.max(b) - a.min(b) <= AT_ONCE;
        let with = |at: &Instant| {
            let near = self.closed.iter().filter(|(other, id)| id != done.id() && at_once(*at, *other));
            near.map(|(_, id)| id.as_str()).collect::<BTreeSet<_>>().len() >= 2
        };
        done.outcome.case.verdict == Verdict::Fail && done.life.closed.iter().any(with)
    }

    /// Runs again alone what failed when the target closed several connections at once.
    pub(super) async fn recheck(&mut self) {
        let end = self.deadline.min(Instant::now() + RECHECK_TIME);
        for (i, mut done) in std::mem::take(&mut self.together).into_iter().enumerate() {
            if i < RECHECKS && Instant::now() < end && self.gone.is_none() {
                self.accuse(done.again(), false).await;
            } else {
                let note =
                    "connections of others were closed at the same time; there was no time to run it alone";
                done.outcome.case.notes.push(note.into());
                self.tell(done.outcome);
            }
        }
    }

    /// The target does not come back: what was judged before it went stands.
    fn bury(&mut self, suspects: Vec<Held>) {
        let heard = suspects.iter().filter_map(|done| done.life.heard).max();
        let only = suspects.len() == 1 && self.gone.is_none();
        let why = self.gone.clone().unwrap_or_else(|| {
            let since = heard.map_or(Duration::ZERO, |heard| heard - self.began).as_secs_f64();
            let met = suspects.iter().filter(|done| done.life.met);
            let names: Vec<&str> = met.take(NAMES).map(Held::id).collect();
            format!(
                "the target answers no more since {since:.1} s into the run; what ran last: {}",
                names.join(", ")
            )
        });
        for mut done in suspects {
            if only {
                done.outcome.case.notes.push("the target answers no more since this case".into());
            } else if done.life.lifeless.is_some() || !done.outlived(heard) {
                done.doubt(&why);
            }
            self.tell(done.outcome);
        }
        self.gone = Some(why);
    }

    /// When the last connection was begun that came to something before this instant.
    pub(super) fn alive_before(&self, before: Option<Instant>) -> Option<Instant> {
        let then = self.signs.iter().filter(|(_, came)| before.is_none_or(|before| *came <= before));
        then.map(|(begun, _)| *begun).max()
    }

    /// The target looked dead to one of these, and nobody looks into it any more.
    pub(super) fn give_up(&mut self, held: &[Held]) {
        let missed = held.iter().filter_map(|done| done.life.lifeless).min();
        self.deaths.push((self.alive_before(missed).unwrap_or(self.began), Instant::now()));
    }

    pub(super) fn learn(&mut self, life: &Life) {
        self.signs.extend(&life.signs);
    }

    /// Whether a new connection reaches what calibration did.
    async fn is_alive(&mut self) -> bool {
        if self.process_died().is_some() {
            return false;
        }
        let cx = self.cx.clone();
        let ground = Ground::new(&cx, "between");
        let alive = ground.alive(ground.by(TimeKind::Reply));
        let alive = ground.board.drive(Box::pin(alive)).await.is_ok();
        self.learn(&ground.seen_life());
        alive
    }

    /// Whether the target answers no more, now or in a moment.
    pub(super) async fn dies(&mut self) -> bool {
        if self.is_alive().await {
            sleep(LINGER).await;
        }
        !self.is_alive().await
    }

    /// Whether the target answers, given some time to come back; one that is ours is started again.
    async fn revive(&mut self) -> bool {
        let patience = self.settings.patience.max(REVIVAL);
        let (mut end, mut started) = (Instant::now() + patience, false);
        loop {
            let gone = self.process_died().is_some();
            if !gone && self.is_alive().await {
                return true;
            }
            if gone || Instant::now() >= end {
                if started || !self.start_again().await {
                    return false;
                }
                (end, started) = (Instant::now() + patience, true);
            }
            sleep(AGAIN).await;
        }
    }

    async fn start_again(&mut self) -> bool {
        let Some(keeper) = self.settings.keeper.clone() else { return false };
        let Ok(pid) = keeper.restart().await else { return false };
        self.cx = Arc::new(Context { pid: Some(pid), ..Context::clone(&self.cx) });
        true
    }

    /// How the target's process ended, where it is ours and has.
    pub(super) fn process_died(&self) -> Option<String> {
        self.settings.keeper.as_ref()?.death()
    }
}
