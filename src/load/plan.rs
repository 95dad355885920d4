//! When which session begins and ends: stages and rate as a list.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::media::Shape;
use super::name::Pattern;

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Publishers; they begin before the players.
    pub publishers: u32,
    /// Each changes the number of players, evenly, to what stands at its end.
    pub stages: Vec<Stage>,
    /// New sessions a second at most.
    pub rate: u32,
    /// What publishers send.
    pub shape: Shape,
    /// How players read; `None`: at once.
    pub tick: Option<Duration>,
    /// What is played in place of what we publish.
    pub play: Option<String>,
    /// From the first connection to where publishers fall silent, at most.
    pub max_time: Duration,
    /// Event loops; 0: one a core.
    pub shards: usize,
    /// Each time so much of it passed, the player that has been there longest leaves and comes back; where there are none, the publisher.
    pub churn: Option<Duration>,
    /// Players that read slowly.
    pub slow: Option<Slow>,
    /// Players come once the streams have run for a while, each at a random place between two key frames.
    pub late_join: bool,
    /// The addresses that connections are made from, one after the other; none: as the system likes.
    pub sources: Vec<IpAddr>,
    /// Names of streams; `None`: as the target says.
    pub name: Option<Pattern>,
    /// The query behind the name, with its `?`; `None`: as the target says.
    pub suffix: Option<Pattern>,
    /// Publishers send what fell due in such a time at once; `None`: each frame on its time.
    pub burst: Option<Duration>,
    /// Bytes that a target may make all sessions hold: of messages that it does not end, and of answers that it does not take.
    pub held_bytes: usize,
}

/// Some players take no more than so much.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slow {
    /// Of all players.
    pub per_cent: f64,
    /// Bits a second that each of them reads.
    pub rate_bps: u64,
}

/// So long, and the players wanted at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// How long it takes.
    pub time: Duration,
    /// Players.
    pub players: u32,
}

/// What a session does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Sends the stream of this number.
    Publisher(u32),
    /// The player of this number.
    Player(u32),
}

/// A session of the plan. Times are behind the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    /// What it does.
    pub role: Role,
    /// When it begins.
    pub begin: Duration,
    /// When it ends; `None`: with the run.
    pub end: Option<Duration>,
}

/// The sessions in the order in which they begin, and when publishers fall silent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timetable {
    /// The sessions.
    pub jobs: Vec<Job>,
    /// When publishers fall silent.
    pub silence: Duration,
}

impl Default for Plan {
    /// Nobody, for an hour at most.
    fn default() -> Plan {
        Plan {
            publishers: 0,
            stages: Vec::new(),
            rate: 1000,
            shape: Shape::new(1_000_000, 30, 30),
            tick: None,
            play: None,
            max_time: Duration::from_secs(3600),
            shards: 0,
            churn: None,
            slow: None,
            late_join: false,
            sources: Vec::new(),
            name: None,
            suffix: None,
            burst: None,
            held_bytes: 512 << 20,
        }
    }
}

impl Plan {
    /// Players at most at a time.
    pub fn players(&self) -> u32 {
        self.stages.iter().map(|stage| stage.players).max().unwrap_or(0)
    }

    /// Whether the player of this number reads slowly: those that do are spread evenly.
    pub fn is_slow(&self, number: u32) -> bool {
        let share = self.slow.map_or(0.0, |slow| slow.per_cent / 100.0);
        (f64::from(number + 1) * share).floor() > (f64::from(number) * share).floor()
    }

    /// The whole run, laid out.
    pub fn timetable(&self) -> Timetable {
        let (mut crowd, mut at) = (self.publishers_come(), Duration::ZERO);
        if self.players() > 0 {
            // Those that come and go are the players.
            crowd.there.clear();
            crowd.spread = if self.late_join { self.shape.round() } else { Duration::ZERO };
            at = crowd.pace.next + crowd.spread;
            (crowd.pace.next, crowd.churn) = (at, self.churn_from(at));
        }
        let mut from: u32 = 0;
        for stage in &self.stages {
            let to = stage.players;
            for k in 0..from.abs_diff(to) {
                let when = at + stage.time * (k + u32::from(to < from)) / from.abs_diff(to);
                crowd.churn_before(when);
                if to > from { crowd.join(when) } else { crowd.leave(when) }
            }
            // A stage that the rate stretched ends later, and what is behind it too.
            at = (at + stage.time).max(if to > from { crowd.pace.next } else { at });
            crowd.churn_before(at.min(self.max_time));
            from = to;
        }
        let silence = (at.max(crowd.pace.next) + crowd.spread).min(self.max_time);
        let mut jobs = crowd.jobs;
        jobs.sort_by_key(|job| job.begin);
        Timetable { jobs, silence }
    }

    /// The publishers. Where there are no players, ramp and churn are theirs.
    fn publishers_come(&self) -> Crowd {
        let pace = Pace { next: Duration::ZERO, step: Duration::from_secs(1) / self.rate.max(1) };
        let (jobs, there, spread) = (Vec::new(), VecDeque::new(), Duration::ZERO);
        let mut crowd = Crowd { pace, jobs, there, number: 0, churn: None, spread };
        let mut ramp = Duration::ZERO;
        if self.players() == 0 {
            ramp = self.stages.first().map_or(ramp, |stage| stage.time);
            crowd.churn = self.churn_from(Duration::ZERO);
        }
        for i in 0..self.publishers {
            let when = ramp * i / self.publishers;
            crowd.churn_before(when);
            crowd.come(Role::Publisher(i), when);
        }
        crowd
    }

    /// When the first one leaves, and how long after it each other.
    fn churn_from(&self, at: Duration) -> Option<(Duration, Duration)> {
        self.churn.map(|gap| (at + gap, gap))
    }
}

/// How long a publisher that comes back stays away: the target is to let go of its name.
const AWAY: Duration = Duration::from_millis(100);

/// Sessions that come and go.
struct Crowd {
    pace: Pace,
    jobs: Vec<Job>,
    /// Those that are there, the earliest first.
    there: VecDeque<usize>,
    /// Of the next player.
    number: u32,
    /// When the next one leaves and comes back, and how long after it the one behind.
    churn: Option<(Duration, Duration)>,
    /// In what time each comes late at random.
    spread: Duration,
}

impl Crowd {
    fn join(&mut self, when: Duration) {
        self.come(Role::Player(self.number), when);
        self.number += 1;
    }

    fn come(&mut self, role: Role, when: Duration) {
        // The same plan is the same run, random places included.
        let share = StdRng::seed_from_u64(self.jobs.len() as u64).random::<f64>();
        let begin = self.pace.take(when) + self.spread.mul_f64(share);
        self.there.push_back(self.jobs.len());
        self.jobs.push(Job { role, begin, end: None });
    }

    fn leave(&mut self, when: Duration) {
        if let Some(last) = self.there.pop_back() {
            self.jobs[last].end = Some(when.max(self.jobs[last].begin));
        }
    }

    /// Lets those that are there leave and come back as far as their time is before this.
    fn churn_before(&mut self, until: Duration) {
        while let Some((when, gap)) = self.churn.filter(|(when, _)| *when < until) {
            if let Some(first) = self.there.pop_front() {
                let Job { role, begin, end } = &mut self.jobs[first];
                let (role, when) = (*role, when.max(*begin));
                *end = Some(when);
                self.come(role, if matches!(role, Role::Publisher(_)) { when + AWAY } else { when });
            }
            self.churn = Some((when + gap, gap));
        }
    }
}

/// Spaces out what begins.
struct Pace {
    next: Duration,
    step: Duration,
}

impl Pace {
    fn take(&mut self, wanted: Duration) -> Duration {
        let at = wanted.max(self.next);
        self.next = at + self.step;
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn plan(publishers: u32, rate: u32, stages: &[(u32, u32)]) -> Timetable {
        let stages = stages.iter().map(|&(s, players)| Stage { time: SECOND * s, players }).collect();
        let shape = Shape::new(1_000_000, 30, 30);
        Plan { publishers, stages, rate, shape, ..Plan::default() }.timetable()
    }

    fn up(table: &Timetable, at: Duration) -> usize {
        let player = |job: &&Job| matches!(job.role, Role::Player(_));
        let there = |job: &&Job| job.begin <= at && job.end.is_none_or(|end| end > at);
        table.jobs.iter().filter(player).filter(there).count()
    }

    #[test]
    fn players_come_and_go_by_the_stages() {
        let table = plan(0, 1_000_000, &[(10, 100), (5, 100), (10, 20), (0, 20)]);
        for (at, players) in [(0, 1), (5, 51), (10, 100), (15, 100), (20, 60), (25, 20)] {
            assert!(up(&table, SECOND * at).abs_diff(players) <= 1, "{at}: {}", up(&table, SECOND * at));
        }
        assert_eq!(table.silence, SECOND * 25);
    }

    #[test]
    fn the_rate_stretches_the_ramp_and_hold_counts_from_its_end() {
        let table = plan(10, 10, &[(0, 20), (5, 20)]);
        assert_eq!(table.jobs[0].role, Role::Publisher(0));
        assert_eq!(table.jobs[10].begin, SECOND);
        assert!(table.jobs.windows(2).all(|w| w[1].begin - w[0].begin >= SECOND / 10));
        assert_eq!(table.silence, SECOND * 8);
    }

    #[test]
    fn churn_replaces_the_earliest_evenly() {
        let stages = vec![Stage { time: SECOND, players: 10 }, Stage { time: SECOND * 10, players: 10 }];
        let churn = Some(SECOND / 4);
        let table = Plan { stages, churn, ..Plan::default() }.timetable();
        // Ten come, and from the first quarter of a second on one in four a second.
        let comeback = |job: &&Job| job.begin >= SECOND;
        assert_eq!(table.jobs.len(), 10 + 43);
        assert_eq!(table.jobs.iter().filter(comeback).count(), 10 * 4);
        for (i, job) in table.jobs.iter().enumerate() {
            let Some(end) = job.end else { continue };
            assert!(end - job.begin >= SECOND / 4, "{i}");
            // Under the rate of a thousand a second.
            let soon = end..=end + SECOND / 1000;
            let back =
                table.jobs.iter().filter(|other| soon.contains(&other.begin) && other.role == job.role);
            let back = back.count();
            assert_eq!(back, 1, "{i}");
        }
        assert!((2..11).all(|second| up(&table, SECOND * second) == 10));
        assert!(table.jobs.windows(2).all(|w| w[0].begin <= w[1].begin));
    }

    #[test]
    fn where_there_are_no_players_publishers_leave_and_come_back() {
        let stages = [1, 10].map(|s| Stage { time: SECOND * s, players: 0 }).to_vec();
        let churn = Some(SECOND / 2);
        let table = Plan { publishers: 4, stages, churn, ..Plan::default() }.timetable();
        assert_eq!(table.jobs.len(), 4 + 21);
        for (i, job) in table.jobs.iter().enumerate() {
            let later = table.jobs[i + 1..].iter().find(|other| other.role == job.role);
            assert_eq!(later.map(|other| other.begin), job.end.map(|end| end + AWAY), "{i}");
        }
        let with_players = Plan {
            publishers: 1,
            stages: vec![Stage { time: SECOND * 5, players: 2 }],
            churn,
            ..Plan::default()
        };
        let publisher = |job: &&Job| job.role == Role::Publisher(0);
        assert_eq!(with_players.timetable().jobs.iter().filter(publisher).count(), 1);
    }

    #[test]
    fn late_players_come_at_all_places_between_two_key_frames() {
        let stages = vec![Stage { time: SECOND, players: 200 }, Stage { time: SECOND * 5, players: 200 }];
        let shape = Shape::new(1_000_000, 30, 60);
        let plan = Plan { publishers: 2, stages, shape, late_join: true, ..Plan::default() };
        let table = plan.timetable();
        assert_eq!(table, plan.timetable());
        let begins: Vec<f64> = table.jobs[2..].iter().map(|job| job.begin.as_secs_f64()).collect();
        assert!(begins[0] >= 2.0 && begins[199] <= 5.1, "{begins:?}");
        // Streams run for two seconds before, and the last comes as long after its time.
        assert_eq!(table.silence, SECOND * 10 + SECOND / 500);
        let max_time = SECOND * 7;
        assert_eq!(Plan { max_time, ..plan }.timetable().silence, max_time);
        // Of the place between two key frames, two seconds apart, nothing is known from the number.
        let early = begins.iter().filter(|begin| **begin % 2.0 < 1.0).count();
        assert!((70..130).contains(&early), "{early}");
    }

    #[test]
    fn slow_players_are_spread_evenly() {
        let slow = |per_cent| Plan { slow: Some(Slow { per_cent, rate_bps: 1 }), ..Plan::default() };
        let numbers = |per_cent| (0..20).filter(|i| slow(per_cent).is_slow(*i)).collect::<Vec<_>>();
        assert_eq!(numbers(20.0), [4, 9, 14, 19]);
        assert_eq!(numbers(100.0).len(), 20);
        assert_eq!(numbers(33.4).len(), 6);
        assert!(!(0..20).any(|i| Plan::default().is_slow(i)));
    }

    #[test]
    fn without_players_the_ramp_is_the_publishers() {
        let table = plan(4, 1000, &[(2, 0), (10, 0)]);
        assert_eq!(table.jobs[2].begin, SECOND);
        assert_eq!(table.silence, SECOND * 12);
    }
}
