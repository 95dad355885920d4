//! When which session begins and ends: stages and rate as a list.

use std::time::Duration;

use super::media::Shape;

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

impl Plan {
    /// Players at most at a time.
    pub fn players(&self) -> u32 {
        self.stages.iter().map(|stage| stage.players).max().unwrap_or(0)
    }

    /// The whole run, laid out.
    pub fn timetable(&self) -> Timetable {
        let mut pace = Pace { next: Duration::ZERO, step: Duration::from_secs(1) / self.rate.max(1) };
        // Where there are no players the ramp is the publishers'.
        let ramp = self.stages.first().filter(|_| self.players() == 0).map_or(Duration::ZERO, |s| s.time);
        let mut jobs: Vec<Job> = (0..self.publishers)
            .map(|i| {
                let begin = pace.take(ramp * i / self.publishers);
                Job { role: Role::Publisher(i), begin, end: None }
            })
            .collect();
        let mut at = if self.players() == 0 { Duration::ZERO } else { pace.next };
        let mut playing: Vec<usize> = Vec::new();
        let mut number = 0;
        for stage in &self.stages {
            let (from, to) = (playing.len() as u32, stage.players);
            for k in 0..from.abs_diff(to) {
                let when = at + stage.time * (k + u32::from(to < from)) / from.abs_diff(to);
                if to > from {
                    playing.push(jobs.len());
                    jobs.push(Job { role: Role::Player(number), begin: pace.take(when), end: None });
                    number += 1;
                } else if let Some(last) = playing.pop() {
                    jobs[last].end = Some(when.max(jobs[last].begin));
                }
            }
            // A stage that the rate stretched ends later, and what is behind it too.
            at = (at + stage.time).max(if to > from { pace.next } else { at });
        }
        Timetable { jobs, silence: at.max(pace.next).min(self.max_time) }
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
        let max_time = SECOND * 3600;
        Plan { publishers, stages, rate, shape, tick: None, play: None, max_time, shards: 0 }.timetable()
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
    fn without_players_the_ramp_is_the_publishers() {
        let table = plan(4, 1000, &[(2, 0), (10, 0)]);
        assert_eq!(table.jobs[2].begin, SECOND);
        assert_eq!(table.silence, SECOND * 12);
    }
}
