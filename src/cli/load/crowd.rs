//! How sessions come, go and behave beside what all of them do.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use clap::Args;

use crate::cli::{Failure, value};
use crate::load::media::Shape;
use crate::load::name::Pattern;
use crate::load::plan::{Plan, Slow};
use crate::net::target::Target;
use crate::report::count;

/// Of `load`.
#[derive(Debug, Args)]
pub struct CrowdArgs {
    /// So many players a second leave and come back, evenly: 5, 0.5/s. Those that have been there longest go first; they come back at once, to
    /// the same stream, as new sessions under --rate. Publishers stay, unless there are no players: then it is they, a tenth of a second later.
    #[arg(long, value_name = "R/s", value_parser = churn)]
    churn: Option<Duration>,
    /// This share of the players reads no more than so many bit/s each: 5%@200k. What they get is counted apart, latencies of frames too; those that
    /// the target ends for it are no failures.
    #[arg(long, value_name = "PCT@RATE", value_parser = slow)]
    slow_players: Option<Slow>,
    /// Players come when the streams have run from one key frame to the next, each late by a random part of that: first_frame,
    /// first_keyframe and the join bursts are what viewers get who tune in. The run takes both times longer, unless --duration says how long.
    #[arg(long)]
    late_join: bool,
    /// Connect from these addresses in turn: each has ports of its own. 127.0.0.2,127.0.0.3
    #[arg(long, value_name = "IP", value_delimiter = ',', value_parser = value::ip)]
    source_ip: Vec<IpAddr>,
    /// Publishers send what falls due in so long a time in one go at its end, as many encoders do. Latency counts from there.
    #[arg(long, value_name = "TIME", value_parser = value::time_in(Duration::from_millis(1)..=Duration::from_secs(10)))]
    burst: Option<Duration>,
}

impl CrowdArgs {
    /// What waiting for late players adds to a run that publishes media of this shape: before the first of them, and behind the last.
    pub fn late(&self, shape: Shape) -> Duration {
        if self.late_join { shape.round() * 2 } else { Duration::ZERO }
    }

    /// Puts it into the plan.
    ///
    /// # Errors
    /// When it contradicts the rest of it.
    pub fn apply(&self, plan: &mut Plan, target: Option<&Target>) -> Result<(), Failure> {
        plan.churn = self.churn;
        plan.slow = self.slow_players;
        plan.late_join = self.late_join;
        plan.sources.clone_from(&self.source_ip);
        plan.burst = self.burst;
        names(plan, target)?;
        let players = plan.players() > 0;
        for (asked, name) in [(plan.slow.is_some(), "--slow-players"), (plan.late_join, "--late-join")] {
            if asked && !players {
                return Err(Failure::usage(format!("{name} is about players, and there are none")));
            }
        }
        if plan.burst.is_some() && plan.publishers == 0 {
            return Err(Failure::usage("--burst is about publishers, and there are none"));
        }
        if plan.sources.iter().any(|ip| ip.is_ipv4() != plan.sources[0].is_ipv4()) {
            return Err(Failure::usage(
                "--source-ip: addresses of IPv4 and IPv6 do not reach the same target",
            ));
        }
        let Some(gap) = plan.churn else { return Ok(()) };
        if gap < Duration::from_secs(1) / plan.rate {
            return Err(Failure::usage("--churn: more come back than --rate lets begin"));
        }
        let time: Duration = plan.stages.iter().map(|stage| stage.time).sum();
        match time.min(plan.max_time).as_secs_f64() / gap.as_secs_f64() {
            sessions if sessions > MAX_CHURN => {
                Err(Failure::usage(format!("--churn: {sessions:.0} sessions; a run has at most {MAX_CHURN}")))
            }
            _ => Ok(()),
        }
    }
}

/// Names and query by pattern, where there are places in them.
fn names(plan: &mut Plan, target: Option<&Target>) -> Result<(), Failure> {
    let parse = |what: &str, text: &str| {
        let pattern: Pattern = text.parse().map_err(|e| Failure::usage(format!("{what}: {e}")))?;
        Ok::<_, Failure>((!pattern.is_fixed()).then_some(pattern))
    };
    let (what, name) = match (&plan.play, target) {
        (Some(play), _) => ("--play", play.as_str()),
        (None, Some(target)) => ("the stream's name", target.prefix()),
        (None, None) => return Ok(()),
    };
    plan.name = parse(what, name)?;
    let names = names_of(plan);
    if names < plan.publishers {
        let (names, publishers) = (count(names.into(), "name"), plan.publishers);
        return Err(Failure::usage(format!(
            "the stream's name: {names} for {publishers} publishers; with an {{i}} each has its own"
        )));
    }
    plan.suffix = parse("the query", &target.map(Target::suffix).unwrap_or_default())?;
    Ok(())
}

/// How many different names the publishers have.
pub fn names_of(plan: &Plan) -> u32 {
    let Some(name) = &plan.name else { return plan.publishers };
    (0..plan.publishers).map(|i| name.fill(i, i)).collect::<HashSet<_>>().len() as u32
}

/// The time from one to the next.
fn churn(s: &str) -> Result<Duration, String> {
    let number = s.strip_suffix("/s").unwrap_or(s);
    let rate = number.parse::<f64>().ok().filter(|rate| (0.001..=100_000.0).contains(rate));
    rate.map(|rate| Duration::from_secs_f64(1.0 / rate))
        .ok_or_else(|| "expected from 0.001 to 100000 a second: 5, 0.5/s".into())
}

fn slow(s: &str) -> Result<Slow, String> {
    let wrong = || "expected PCT@RATE, for example 5%@200k".to_owned();
    let (share, rate) = s.split_once('@').ok_or_else(wrong)?;
    let share = share.strip_suffix('%').unwrap_or(share).parse::<f64>().map_err(|_| wrong())?;
    if !(share > 0.0 && share <= 100.0) {
        return Err("expected more than 0 and at most 100 per cent".into());
    }
    let rate = value::bits(rate).filter(|bits| (1e3..=1e9).contains(bits));
    let rate_bps = rate.ok_or("expected bit/s from 1k to 1000M")? as u64;
    Ok(Slow { per_cent: share, rate_bps })
}

/// Sessions that come back in a run, at most: each is laid out beforehand.
const MAX_CHURN: f64 = 1e6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read() {
        assert_eq!(churn("5/s"), Ok(Duration::from_millis(200)));
        assert_eq!(churn("0.5"), Ok(Duration::from_secs(2)));
        for wrong in ["0", "-1", "x", "5/m", ""] {
            assert!(churn(wrong).is_err(), "{wrong}");
        }
        assert_eq!(slow("5%@200k"), Ok(Slow { per_cent: 5.0, rate_bps: 200_000 }));
        assert_eq!(slow("12.5@1.5M"), Ok(Slow { per_cent: 12.5, rate_bps: 1_500_000 }));
        for wrong in ["5", "0@1M", "101%@1M", "5%@", "5%@10", "nan@1M"] {
            assert!(slow(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_by_pattern_differ() {
        let plan = |name: &str, publishers| {
            let mut plan = Plan { publishers, ..Plan::default() };
            let target = format!("rtmp://host/live/{name}").parse().expect("a target");
            names(&mut plan, Some(&target)).map(|()| plan)
        };
        let named = plan("cam-{i:02}?token=t{n}", 20).expect("right");
        let [name, suffix] = [named.name, named.suffix].map(|pattern| pattern.expect("a pattern").fill(7, 9));
        assert_eq!((name.as_str(), suffix.as_str()), ("cam-07", "?token=t9"));
        let plain = plan("cam?token=t", 2).expect("right");
        assert_eq!((plain.name, plain.suffix), (None, None));
        assert!(plan("cam{1..1}", 2).is_err() && plan("cam{1..1}", 1).is_ok() && plan("cam{x}", 1).is_err());
        assert!(plan("cam{1..3}", 3).is_ok() && plan("cam{1..3}", 4).is_err());
    }
}
