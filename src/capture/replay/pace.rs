//! When a message is due.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tokio::time::Instant;

use crate::wire::time::Time;

/// Pauses between messages are cut to this: what paused for longer was idle, or the times are damaged.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Timestamps that jump ahead by more, in milliseconds, begin anew.
const LONGEST_STEP: u32 = 10_000;

/// How fast a recording is sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// As recorded, so many times faster.
    Capture(f64),
    /// Audio and video by their timestamps, all else at once.
    Media,
    /// As fast as the target takes it.
    Asap,
}

impl FromStr for Pace {
    type Err = String;

    fn from_str(s: &str) -> Result<Pace, String> {
        let factor = |x: &str| x.parse::<f64>().ok().filter(|f| f.is_finite() && *f >= 0.001 && *f <= 1e6);
        match s {
            "capture" => Ok(Pace::Capture(1.0)),
            "media" => Ok(Pace::Media),
            "asap" => Ok(Pace::Asap),
            _ => s
                .strip_suffix('x')
                .and_then(factor)
                .map(Pace::Capture)
                .ok_or_else(|| "expected capture, media, asap or a factor such as 2x".into()),
        }
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pace::Capture(1.0) => f.write_str("capture"),
            Pace::Capture(factor) => write!(f, "{factor}x"),
            Pace::Media => f.write_str("media"),
            Pace::Asap => f.write_str("asap"),
        }
    }
}

impl Pace {
    /// A pause of the recording at this pace; none where the recording's clock does not count.
    pub fn pause(self, recorded: Duration) -> Duration {
        match self {
            Pace::Capture(factor) => recorded.min(LONGEST_PAUSE).div_f64(factor),
            Pace::Media | Pace::Asap => Duration::ZERO,
        }
    }

    /// Several such pauses in a row.
    pub fn pauses(self, recorded: impl Iterator<Item = Duration>) -> Duration {
        recorded.map(|pause| self.pause(pause)).sum()
    }
}

/// The schedule of one session.
#[derive(Debug)]
pub struct Clock {
    pace: Pace,
    due: Instant,
    recorded: Option<Time>,
    stamp: Option<u32>,
}

impl Clock {
    /// One that begins now.
    pub fn new(pace: Pace) -> Clock {
        Clock { pace, due: Instant::now(), recorded: None, stamp: None }
    }

    /// The schedule goes on from now, which was this time in the recording: an answer was waited for.
    pub fn set(&mut self, recorded: Time) {
        self.due = Instant::now();
        self.recorded = Some(recorded);
    }

    /// The recording's clock goes back to here, the schedule does not: the media begins again.
    pub fn rewind(&mut self, recorded: Time) {
        self.recorded = Some(recorded);
    }

    /// When a message is due that was recorded at this time; `stamp` is its timestamp in milliseconds if it is of audio or video.
    pub fn due(&mut self, recorded: Time, stamp: Option<u32>) -> Instant {
        match (self.pace, stamp) {
            (Pace::Capture(_), _) => {
                let before = self.recorded.replace(recorded).unwrap_or(recorded);
                self.due += self.pace.pause(recorded.since(before));
                self.recorded = Some(recorded.max(before));
            }
            (Pace::Media, Some(stamp)) => {
                let step = stamp.wrapping_sub(*self.stamp.get_or_insert(stamp)).cast_signed();
                if step.unsigned_abs() > LONGEST_STEP {
                    self.stamp = Some(stamp);
                } else if step > 0 {
                    self.due += Duration::from_millis(u64::from(step.unsigned_abs()));
                    self.stamp = Some(stamp);
                }
            }
            _ => {}
        }
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paces_by_name() {
        for (text, want) in [
            ("capture", Some(Pace::Capture(1.0))),
            ("media", Some(Pace::Media)),
            ("asap", Some(Pace::Asap)),
            ("2x", Some(Pace::Capture(2.0))),
            ("0.5x", Some(Pace::Capture(0.5))),
            ("0x", None),
            ("-1x", None),
            ("nanx", None),
            ("x", None),
            ("2", None),
        ] {
            assert_eq!(text.parse::<Pace>().ok(), want, "{text}");
            assert!(want.is_none_or(|pace| pace.to_string() == text));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn schedules() {
        let at = |ms: u64| Time::from_micros(ms * 1000);
        let begin = Instant::now();
        type Row = (Pace, [(u64, Option<u32>); 5], [u64; 5]);
        let table: [Row; 4] = [
            (
                Pace::Capture(1.0),
                [(5, None), (25, None), (25, Some(9)), (20, None), (100_000, None)],
                [0, 20, 20, 20, 60_020],
            ),
            (
                Pace::Capture(2.0),
                [(5, None), (25, None), (25, None), (45, None), (65, None)],
                [0, 10, 10, 20, 30],
            ),
            (
                Pace::Media,
                [(5, None), (25, Some(0)), (25, Some(40)), (45, Some(30)), (65, Some(90))],
                [0, 0, 40, 40, 90],
            ),
            (
                Pace::Media,
                [(5, Some(0)), (25, Some(20_000_000)), (25, Some(20_000_040)), (0, None), (65, Some(3))],
                [0, 0, 40, 40, 40],
            ),
        ];
        for (pace, steps, want) in table {
            let mut clock = Clock::new(pace);
            let got = steps.map(|(ms, stamp)| (clock.due(at(ms), stamp) - begin).as_millis() as u64);
            assert_eq!(got, want, "{pace}");
        }
    }
}
