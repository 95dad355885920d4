//! Whether we were the limit, in a second and in a run: then its numbers are not the target's.

use super::stats::{Metric, Stats};
use super::watch::Watch;
use crate::record::load::{Generator, Interval};

/// Own lateness above which the numbers of a second are ours.
const MAX_LAG_US: u64 = 50_000;
/// Per cent of the machine above which they are, if it goes on.
const MAX_BUSY: f64 = 95.0;
/// Seconds on end: sessions that begin may take all there is for a moment, and what that delays is seen in the lateness.
const GOES_ON: usize = 3;

/// What `--tick` is too long for.
const FULL: &str = "sockets of players were full at each tick: a shorter --tick is needed";

/// Why we were the limit in a second, with those before it; `None`: we were not.
pub fn second(before: &[Interval], row: &Interval) -> Option<String> {
    let on_end = [row].into_iter().chain(before.iter().rev()).take(GOES_ON);
    let goes_on = on_end.filter(|row| busy(row).is_some()).count() == GOES_ON;
    let late = late(row).map(|us| format!("own lateness p99 {} ms", us / 1000));
    let busy = busy(row).filter(|_| goes_on).map(|pct| format!("the machine {pct:.0} % busy"));
    let full = (row.full_sweeps > 0).then(|| FULL.to_owned());
    let why: Vec<String> = late.into_iter().chain(busy).chain(full).collect();
    (!why.is_empty()).then(|| why.join(" and "))
}

/// The lateness that is above what may be.
fn late(row: &Interval) -> Option<u64> {
    Some(row.latency.get(Metric::Lag.name())?.p99_us).filter(|us| *us > MAX_LAG_US)
}

fn busy(row: &Interval) -> Option<f64> {
    row.machine_pct.filter(|pct| *pct > MAX_BUSY)
}

/// What the run says of us: one second in which we were the limit is enough.
pub fn run(total: &Stats, watch: Option<&Watch>, rows: &[Interval]) -> Generator {
    let (cpu_pct, machine_pct) = watch.map_or((None, None), Watch::whole);
    let whole = machine_pct.filter(|pct| *pct > MAX_BUSY);
    let whole = whole.map(|pct| format!("the machine was {pct:.0} % busy, above {MAX_BUSY:.0} %"));
    let reasons: Vec<String> = whole.into_iter().chain(seconds(rows)).collect();
    Generator {
        lag_p99_us: total.histogram(Metric::Lag).map(|h| h.value_at_quantile(0.99)),
        cpu_pct,
        machine_pct,
        limited: !reasons.is_empty(),
        reasons,
    }
}

/// In how many seconds we were the limit, and why at most; `None`: in none.
fn seconds(rows: &[Interval]) -> Option<String> {
    let limited: Vec<&Interval> = rows.iter().filter(|row| row.limited).collect();
    let lag = limited.iter().filter_map(|row| late(row)).max();
    let lag = lag.map(|us| format!("own lateness p99 up to {} ms", us / 1000));
    let busy = limited.iter().filter_map(|row| busy(row)).reduce(f64::max);
    let busy = busy.map(|pct| format!("the machine up to {pct:.0} % busy"));
    let full = limited.iter().any(|row| row.full_sweeps > 0).then(|| FULL.to_owned());
    let why = lag.into_iter().chain(busy).chain(full).collect::<Vec<_>>().join(", ");
    (!limited.is_empty()).then(|| format!("in {} of {} seconds: {why}", limited.len(), rows.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::load::Brief;

    /// Seconds of such a lateness in ms and such a machine, each looked at when it is over.
    fn looked_at(seconds: &[(u64, f64)]) -> Vec<Interval> {
        let mut rows = Vec::new();
        for (ms, busy) in seconds {
            let lag = Brief { p99_us: ms * 1000, ..Brief::default() };
            let mut row = Interval {
                machine_pct: Some(*busy),
                latency: [("lag".to_owned(), lag)].into(),
                ..Interval::default()
            };
            row.limited_why = second(&rows, &row);
            row.limited = row.limited_why.is_some();
            rows.push(row);
        }
        rows
    }

    #[test]
    fn one_second_in_which_we_were_late_limits_the_run() {
        let rows = looked_at(&[(49, 40.0), (130, 40.0), (60, 40.0), (50, 40.0)]);
        let found = run(&Stats::default(), None, &rows);
        assert!(found.limited);
        assert_eq!(found.reasons, ["in 2 of 4 seconds: own lateness p99 up to 130 ms"]);
        let found = run(&Stats::default(), None, &rows[..1]);
        assert!(!found.limited && found.reasons.is_empty());
    }

    #[test]
    fn sockets_that_were_full_at_each_tick_limit_the_run() {
        let full = |full_sweeps| Interval { full_sweeps, ..Interval::default() };
        assert_eq!((second(&[], &full(0)), second(&[], &full(1)).as_deref()), (None, Some(FULL)));
        let row = Interval { limited: true, ..full(3) };
        assert_eq!(
            run(&Stats::default(), None, &[full(0), row]).reasons,
            [format!("in 1 of 2 seconds: {FULL}")]
        );
    }

    #[test]
    fn a_busy_machine_limits_when_it_goes_on() {
        let limited = |busy: &[f64]| {
            let rows = looked_at(&busy.iter().map(|pct| (1, *pct)).collect::<Vec<_>>());
            rows.iter().map(|row| row.limited).collect::<Vec<_>>()
        };
        assert_eq!(limited(&[100.0, 96.0, 95.0, 96.0, 96.0]), [false; 5]);
        assert_eq!(limited(&[99.0, 96.0, 97.0, 96.0, 20.0]), [false, false, true, true, false]);
        let rows = looked_at(&[(1, 99.0), (60, 96.0), (1, 97.0)]);
        let why = |row: &Interval| row.limited_why.clone();
        let late = Some("own lateness p99 60 ms".to_owned());
        assert_eq!(
            rows.iter().map(why).collect::<Vec<_>>(),
            [None, late, Some("the machine 97 % busy".into())]
        );
        let reasons = run(&Stats::default(), None, &rows).reasons;
        assert_eq!(reasons, ["in 2 of 3 seconds: own lateness p99 up to 60 ms, the machine up to 97 % busy"]);
    }
}
