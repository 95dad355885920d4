//! What a run must keep: `frame.p99 < 500ms`, `failed < 1%`, `lost = 0`.

use std::str::FromStr;
use std::time::Duration;

use super::Found;
use super::media::Shape;
use super::plan::Plan;
use super::stats::{Count, Metric, Stats};
use crate::record::load;

/// One promise, its names checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Slo {
    text: String,
    what: What,
    relation: Relation,
    /// Not only by default.
    asked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum What {
    Latency(Metric, Stat, u64),
    Count(Count, f64),
    Share(Count, f64),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stat {
    Min,
    Mean,
    Max,
    Percentile(f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    Below,
    AtMost,
    Equal,
}

/// Why a text is no promise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column} of '{text}': {why}")]
pub struct SloError {
    text: String,
    column: usize,
    why: String,
}

impl FromStr for Slo {
    type Err = SloError;

    fn from_str(text: &str) -> Result<Slo, SloError> {
        let fail = |at: usize, why: String| {
            let column = text[..at].chars().count() + 1;
            SloError { text: text.to_owned(), column, why }
        };
        let trimmed = |from: usize, to: usize| {
            let part = &text[from..to];
            (from + part.len() - part.trim_start().len(), part.trim())
        };
        let Some(at) = text.find(['<', '=', '>']) else {
            return Err(fail(text.len(), "expected <, <= or =".into()));
        };
        let (relation, len) = match &text[at..] {
            rest if rest.starts_with("<=") => (Relation::AtMost, 2),
            rest if rest.starts_with('<') => (Relation::Below, 1),
            rest if rest.starts_with("==") => (Relation::Equal, 2),
            rest if rest.starts_with('=') => (Relation::Equal, 1),
            _ => return Err(fail(at, "expected <, <= or =".into())),
        };
        let (name_at, name) = trimmed(0, at);
        let (limit_at, limit) = trimmed(at + len, text.len());
        let what = match name.split_once('.') {
            Some((metric, stat)) => {
                let metric = metric_named(metric).map_err(|why| fail(name_at, why))?;
                let stat = stat_named(stat).map_err(|why| fail(name_at + name.len() - stat.len(), why))?;
                let time = time(limit).map_err(|why| fail(limit_at, why))?;
                What::Latency(metric, stat, time)
            }
            None => {
                let count = count_named(name).map_err(|why| fail(name_at, why))?;
                counted(count, limit).map_err(|why| fail(limit_at, why))?
            }
        };
        Ok(Slo { text: text.trim().to_owned(), what, relation, asked: true })
    }
}

fn metric_named(name: &str) -> Result<Metric, String> {
    let found = Metric::ALL.into_iter().find(|metric| metric.name() == name);
    found.ok_or_else(|| unknown("latency", name, &Metric::ALL.map(Metric::name)))
}

fn count_named(name: &str) -> Result<Count, String> {
    if metric_named(name).is_ok() {
        return Err(format!("expected '{name}.' and min, mean, max or a percentile such as p99"));
    }
    let found = Count::ALL.into_iter().find(|count| count.name() == name);
    found.ok_or_else(|| unknown("count", name, &Count::ALL.map(Count::name)))
}

fn stat_named(name: &str) -> Result<Stat, String> {
    match name {
        "min" => return Ok(Stat::Min),
        "mean" => return Ok(Stat::Mean),
        "max" | "p100" => return Ok(Stat::Max),
        _ => {}
    }
    // p5 is no use, p999 is 99.9, and whoever writes p1000 or p00 does not mean 10.00 or 0.
    let digits = name.strip_prefix('p').filter(|d| (2..=5).contains(&d.len()));
    let digits = digits.filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
    let digits = digits.filter(|d| !d.starts_with("100") && !d.starts_with("00"));
    let percentile = digits.and_then(|d| d.parse::<f64>().ok().map(|n| n / 10_f64.powi(d.len() as i32 - 2)));
    percentile.map(Stat::Percentile).ok_or_else(|| {
        format!("unknown figure '{name}'; expected min, mean, max or a percentile such as p50 or p999")
    })
}

fn unknown(what: &str, name: &str, names: &[&str]) -> String {
    let near = names.iter().min_by_key(|known| strsim::damerau_levenshtein(known, name));
    let near = near.filter(|known| strsim::damerau_levenshtein(known, name) <= 2);
    match near {
        Some(near) => format!("unknown {what} '{name}'; did you mean '{near}'?"),
        None => format!("unknown {what} '{name}'; expected one of {}", names.join(", ")),
    }
}

fn time(text: &str) -> Result<u64, String> {
    let micros = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
    humantime::parse_duration(text)
        .map(micros)
        .map_err(|_| format!("expected a time such as 500ms, not '{text}'"))
}

fn counted(count: Count, limit: &str) -> Result<What, String> {
    let number = limit.strip_suffix('%').unwrap_or(limit).trim_end();
    let parsed = number.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
    let parsed = parsed.ok_or_else(|| format!("expected a number or a percentage, not '{limit}'"))?;
    Ok(if limit.ends_with('%') { What::Share(count, parsed) } else { What::Count(count, parsed) })
}

/// What was asked for, with the three that hold where nothing else was said of them.
pub fn with_defaults(asked: &[Slo]) -> Vec<Slo> {
    let mut all = asked.to_vec();
    for count in [Count::Failed, Count::Corrupt, Count::Lost] {
        let named = |slo: &Slo| matches!(slo.what, What::Count(c, _) | What::Share(c, _) if c == count);
        if !asked.iter().any(named) {
            let text = format!("{} = 0", count.name());
            all.push(Slo { text, what: What::Count(count, 0.0), relation: Relation::Equal, asked: false });
        }
    }
    all
}

/// What a run made of its promises. Where we were its limit none is kept or missed, unless that is allowed.
pub fn judge(promises: &[Slo], plan: &Plan, found: &Found, allow_limited: bool) -> Vec<load::Slo> {
    let limited = found.load.generator.limited && !allow_limited;
    let judged = promises.iter().map(|slo| slo.judge(plan, &found.stats));
    let ours = |slo: load::Slo| load::Slo {
        held: slo.held.map(|held| held && !limited),
        limited: limited && !slo.unmeasurable,
        ..slo
    };
    judged.map(ours).collect()
}

impl Slo {
    /// As it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Why nothing can be measured for it in any run of this plan, `secure` if that is by TLS; `None` where something may be.
    pub fn lacks(&self, plan: &Plan, secure: bool) -> Option<&'static str> {
        let metric = match self.what {
            What::Latency(metric, ..) => metric,
            What::Count(Count::Failed, _) | What::Share(Count::Failed, _) => return None,
            What::Count(..) | What::Share(..) => return no_frames(plan),
        };
        let nobody = match metric {
            Metric::Tls => (!secure).then_some("the target is not reached by TLS"),
            Metric::PublishStart => (plan.publishers == 0).then_some("there are no publishers"),
            Metric::PlayStart => (plan.players() == 0).then_some(NO_PLAYERS),
            Metric::FirstFrame | Metric::FirstKeyframe | Metric::Gap => no_receipt(plan),
            Metric::Frame | Metric::FrameRaw | Metric::KeyAge | Metric::Skew => no_frames(plan),
            Metric::Tcp | Metric::Handshake | Metric::Connect | Metric::CreateStream | Metric::Lag => None,
        };
        nobody.or(self.lacks_media(plan))
    }

    /// Why what we publish has nothing that it could be measured of, whoever plays it; `None` where it may have.
    pub fn lacks_media(&self, plan: &Plan) -> Option<&'static str> {
        let What::Latency(metric, ..) = self.what else { return None };
        let of_both = metric == Metric::Skew;
        let of_video = of_both || matches!(metric, Metric::FirstKeyframe | Metric::KeyAge);
        match plan.shape {
            // Nobody knows what others publish.
            _ if plan.play.is_some() => None,
            Shape { fps: 0, .. } if of_video => Some("there is no video in what is published"),
            Shape { audio_bps: 0, .. } if of_both => Some("there is no audio in what is published"),
            _ => None,
        }
    }

    /// Whether what was measured in a run of this plan kept it. Where there is no data it is not kept; that counts as missed unless nobody asked for it and the plan
    /// has nothing that it could be measured of.
    pub fn judge(&self, plan: &Plan, stats: &Stats) -> load::Slo {
        let (value, limit, unit) = match self.what {
            What::Latency(metric, stat, limit) => (latency(stats, metric, stat), limit as f64, "us"),
            What::Count(count, limit) => (stats.count(count).map(|n| n as f64), limit, "count"),
            What::Share(count, limit) => (share(stats, count), limit, "percent"),
        };
        let held = value.is_some_and(|value| match self.relation {
            Relation::Below => value < limit,
            Relation::AtMost => value <= limit,
            Relation::Equal => value == limit,
        });
        // None of the three defaults is about TLS.
        let unmeasurable = value.is_none() && !self.asked && self.lacks(plan, true).is_some();
        let held = (!unmeasurable).then_some(held);
        load::Slo { expr: self.text.clone(), held, value, unit: unit.into(), unmeasurable, limited: false }
    }
}

const NO_PLAYERS: &str = "there are no players";

/// Why in no run of this plan it is looked at what players get, if it is in none.
fn no_receipt(plan: &Plan) -> Option<&'static str> {
    match plan.players() {
        0 => Some(NO_PLAYERS),
        players => (0..players)
            .all(|number| plan.is_slow(number))
            .then_some("all players are slow ones, which are counted apart"),
    }
}

/// Why in no run of this plan frames are held against what was planned, if they are in none.
fn no_frames(plan: &Plan) -> Option<&'static str> {
    let foreign = plan.play.as_ref().map(|_| "what others publish is measured against nothing");
    no_receipt(plan).or(foreign)
}

fn latency(stats: &Stats, metric: Metric, stat: Stat) -> Option<f64> {
    let histogram = stats.histogram(metric)?;
    Some(match stat {
        Stat::Min => histogram.min() as f64,
        Stat::Mean => histogram.mean(),
        Stat::Max => histogram.max() as f64,
        Stat::Percentile(p) => histogram.value_at_percentile(p) as f64,
    })
}

fn share(stats: &Stats, count: Count) -> Option<f64> {
    stats.count(count).map(|n| n as f64 * 100.0 / stats.out_of(count) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::plan::{Slow, Stage};

    #[test]
    fn mistakes_have_a_place() {
        for (text, column, why) in [
            ("frme.p99 < 1s", 1, "did you mean 'frame'?"),
            ("frame.p9x < 1s", 7, "unknown figure 'p9x'"),
            ("frame.p1000 < 1s", 7, "unknown figure 'p1000'"),
            ("frame.p00 < 1s", 7, "unknown figure 'p00'"),
            ("frame < 1s", 1, "expected 'frame.'"),
            ("  lots < 1", 3, "unknown count 'lots'; did you mean 'lost'?"),
            ("frame.p99 < 5", 13, "expected a time"),
            ("lost < many", 8, "expected a number or a percentage"),
            ("lost", 5, "expected <"),
            ("lost > 5", 6, "expected <"),
        ] {
            let error = text.parse::<Slo>().expect_err(text);
            assert!(error.column == column && error.why.contains(why), "{error}");
        }
    }

    #[test]
    fn promises_are_kept_or_not() {
        let mut stats = Stats::default();
        (1..=1000).for_each(|ms| stats.record_us(Metric::Frame, ms * 1000));
        (stats.counts.attempted, stats.counts.expected, stats.counts.lost) = (200, 1000, 5);
        for (text, held) in [
            ("frame.p50 < 510ms", true),
            ("frame.p50 < 490ms", false),
            ("frame.p999 <= 1001ms", true),
            ("frame.max < 1s", false),
            ("frame.p100 < 1s", false),
            ("frame.p100 < 1001ms", true),
            ("gap.p99 < 1h", false),
            ("lost < 1%", true),
            ("lost <= 0.5%", true),
            ("lost < 0.5 %", false),
            ("lost = 5", true),
            ("failed = 0", true),
            ("duplicated < 1%", false),
            ("duplicated = 0", false),
            ("corrupt = 0", false),
        ] {
            let slo: Slo = text.parse().unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(slo.judge(&Plan::default(), &stats).held, Some(held), "{text}");
        }
    }

    #[test]
    fn three_hold_without_being_asked_for() {
        let texts = |asked: &[Slo]| with_defaults(asked).into_iter().map(|slo| slo.text).collect::<Vec<_>>();
        assert_eq!(texts(&[]), ["failed = 0", "corrupt = 0", "lost = 0"]);
        assert_eq!(texts(&["lost < 1%".parse().unwrap()]), ["lost < 1%", "failed = 0", "corrupt = 0"]);
    }

    #[test]
    fn no_data_is_never_kept_and_missed_where_there_could_be_some() {
        let verdicts = |asked: &[Slo], plan: &Plan, stats: &Stats| {
            let judged = with_defaults(asked).into_iter().map(|slo| slo.judge(plan, stats));
            judged.map(|slo| (slo.held, slo.missed())).collect::<Vec<_>>()
        };
        let stages = vec![Stage { time: Duration::from_secs(1), players: 2 }];
        let ours = Plan { publishers: 1, stages: stages.clone(), ..Plan::default() };
        let foreign = Plan { play: Some("theirs".into()), stages, ..Plan::default() };
        let publishing = Plan { publishers: 1, ..Plan::default() };
        let slow = Plan { slow: Some(Slow { per_cent: 100.0, rate_bps: 1000 }), ..ours.clone() };
        let mut stats = Stats::default();
        (stats.counts.attempted, stats.counts.received, stats.counts.foreign) = (2, 100, 100);
        let (kept, missed, void) = ((Some(true), false), (Some(false), true), (None, false));
        assert_eq!(verdicts(&[], &ours, &stats), [kept, missed, missed]);
        for plan in [&foreign, &publishing, &slow] {
            assert_eq!(verdicts(&[], plan, &stats), [kept, void, void]);
            assert_eq!(verdicts(&["lost = 0".parse().unwrap()], plan, &stats), [missed, kept, void]);
        }
        (stats.counts.attempted, stats.counts.received, stats.counts.expected) = (0, 101, 1);
        assert_eq!(verdicts(&[], &ours, &stats), [missed, kept, kept]);
    }

    /// Two players, and publishers of this.
    fn played(publishers: u32, shape: Shape) -> Plan {
        let stages = vec![Stage { time: Duration::from_secs(1), players: 2 }];
        Plan { publishers, stages, shape, ..Plan::default() }
    }

    #[test]
    fn what_no_run_can_measure_is_known_before() {
        let ours = played(1, Shape::new(1_000_000, 30, 30));
        let foreign = Plan { publishers: 0, play: Some("theirs".into()), ..ours.clone() };
        let publishing = Plan { publishers: 1, ..Plan::default() };
        let slow = Plan { slow: Some(Slow { per_cent: 100.0, rate_bps: 1000 }), ..ours.clone() };
        let known = |text: &str, secure| {
            let slo: Slo = text.parse().unwrap_or_else(|e| panic!("{e}"));
            [&ours, &foreign, &publishing, &slow].map(|plan| slo.lacks(plan, secure).is_none())
        };
        for (text, measurable) in [
            ("frame.p99 < 1s", [true, false, false, false]),
            ("key_age.p99 < 1s", [true, false, false, false]),
            ("lost < 1%", [true, false, false, false]),
            ("gap.p99 < 1s", [true, true, false, false]),
            ("play_start.p99 < 1s", [true, true, false, true]),
            ("publish_start.p99 < 1s", [true, false, true, true]),
            ("failed < 1%", [true; 4]),
            ("connect.p99 < 1s", [true; 4]),
            ("tls.p99 < 1s", [false; 4]),
        ] {
            assert_eq!(known(text, false), measurable, "{text}");
        }
        assert_eq!(known("tls.p99 < 1s", true), [true; 4]);
    }

    #[test]
    fn what_is_not_published_cannot_be_measured() {
        let blind = Shape { bitrate_bps: 64_000, fps: 0, gop: 0, audio_bps: 64_000 };
        let silent = Shape { audio_bps: 0, ..Shape::new(1_000_000, 30, 30) };
        let foreign = Plan { play: Some("theirs".into()), ..played(0, blind) };
        let plans = [played(1, Shape::new(1_000_000, 30, 30)), played(1, blind), played(1, silent), foreign];
        for (text, measurable) in [
            ("first_keyframe.p99 < 1s", [true, false, true, true]),
            ("key_age.p99 < 1s", [true, false, true, true]),
            ("av_skew.p99 < 1s", [true, false, false, true]),
            ("first_frame.p99 < 1s", [true; 4]),
            ("frame.p99 < 1s", [true; 4]),
            ("lost = 0", [true; 4]),
        ] {
            let slo: Slo = text.parse().unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(plans.each_ref().map(|plan| slo.lacks_media(plan).is_none()), measurable, "{text}");
            // A search needs no less.
            assert!(
                plans.iter().all(|plan| slo.lacks_media(plan).is_none() || slo.lacks(plan, true).is_some())
            );
        }
    }
}
