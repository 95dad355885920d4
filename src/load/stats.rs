//! What is counted and measured. Each shard has its own and hands it over each second.

use std::collections::BTreeMap;
use std::fmt::Write;

use base64::Engine;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};

use crate::record::load;
use crate::wire::note::Note;

macro_rules! named {
    ($(#[$doc:meta])* $type:ident { $($variant:ident = $name:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $type { $(#[doc = $text] $variant),* }

        impl $type {
            /// All of them.
            pub const ALL: [$type; [$($name),*].len()] = [$($type::$variant),*];

            /// As records and arguments name it.
            pub const fn name(self) -> &'static str {
                match self { $($type::$variant => $name),* }
            }
        }
    };
}

named! {
    /// What is measured, in microseconds.
    Metric {
        Tcp = "tcp", "Opening the connection.";
        Tls = "tls", "From there to the end of TLS's handshake.";
        Handshake = "handshake", "From there to the handshake's end.";
        Connect = "connect", "`connect` to its `_result`.";
        CreateStream = "create_stream", "`createStream` to its `_result`.";
        PublishStart = "publish_start", "`publish` to its confirmation.";
        PlayStart = "play_start", "`play` to its confirmation.";
        FirstFrame = "first_frame", "`play` to the first frame.";
        FirstKeyframe = "first_keyframe", "`play` to the first key frame.";
        Frame = "frame", "The planned instant to receipt.";
        FrameRaw = "frame_raw", "The write to receipt.";
        Gap = "gap", "Between two frames at a player; of a stream that is not ours also from the last one to the player's end, where it got nothing more.";
        Skew = "av_skew", "How much further audio and video timestamps are apart at a player than they were sent, at each video frame.";
        KeyAge = "key_age", "How old the first key frame was when `play` was sent: what a join burst begins with.";
        Lag = "lag", "Our own lateness.";
    }
}

named! {
    /// Where a session fails.
    Phase {
        Tcp = "tcp", "Opening the connection.";
        Tls = "tls", "TLS's handshake.";
        Handshake = "handshake", "Until S2.";
        Connect = "connect", "Until connect's answer.";
        CreateStream = "create_stream", "Until createStream's answer.";
        Publish = "publish", "Until publish is confirmed.";
        Play = "play", "Until play is confirmed.";
        FirstFrame = "first_frame", "Until a player's first frame.";
        Media = "media", "While media is sent or received.";
    }
}

named! {
    /// What a promise can be about beside latencies.
    Count {
        Failed = "failed", "Sessions.";
        Lost = "lost", "Frames.";
        Duplicated = "duplicated", "Frames.";
        Reordered = "reordered", "Frames.";
        Corrupt = "corrupt", "Frames.";
    }
}

/// Who waited for less when the run ended may have been about to be served, or to get the next frame.
const PATIENCE_NS: u64 = 2_000_000_000;

/// Plain counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Counts {
    pub attempted: u64,
    pub started: u64,
    pub ended: u64,
    pub sent: u64,
    pub received: u64,
    pub expected: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub reordered: u64,
    pub corrupt: u64,
    pub join_burst: u64,
    pub foreign: u64,
    /// Corrupt, because they are of another of our streams.
    pub strayed: u64,
    /// Received, and for which planned frame they stand is not known.
    pub unplaced: u64,
    /// Received, and when is told by our own clock.
    pub user_clock: u64,
    pub censored: u64,
    pub back_video: u64,
    pub back_audio: u64,
    pub joined: u64,
    pub joined_at_key: u64,
    pub before_key: u64,
    /// Ticks at which a player found its socket full for the second time on end.
    pub full_sweeps: u64,
    pub bytes_sent: u64,
    pub bytes_received: u64,
}

impl Counts {
    fn each(&mut self) -> [&mut u64; 24] {
        let Counts { attempted, started, ended, sent, received, expected, lost, duplicated, .. } = self;
        let Counts { reordered, corrupt, join_burst, foreign, censored, bytes_sent, bytes_received, .. } =
            self;
        let Counts { back_video, back_audio, joined, joined_at_key, before_key, user_clock, .. } = self;
        let Counts { strayed, unplaced, full_sweeps, .. } = self;
        [
            attempted,
            started,
            ended,
            sent,
            received,
            expected,
            lost,
            duplicated,
            reordered,
            corrupt,
            join_burst,
            foreign,
            censored,
            bytes_sent,
            bytes_received,
            back_video,
            back_audio,
            joined,
            joined_at_key,
            before_key,
            user_clock,
            strayed,
            unplaced,
            full_sweeps,
        ]
    }

    fn add(&mut self, mut other: Counts) {
        for (own, other) in self.each().into_iter().zip(other.each()) {
            *own += *other;
        }
    }
}

/// Counts, histograms and failures of a second or of a run.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Plain counts.
    pub counts: Counts,
    histograms: [Option<Box<Histogram<u64>>>; Metric::ALL.len()],
    failed: BTreeMap<Phase, load::Failed>,
    unfinished: BTreeMap<Phase, load::Unfinished>,
    silent: BTreeMap<&'static str, load::Silent>,
    departures: BTreeMap<&'static str, load::Departure>,
}

impl Stats {
    /// Adds a value.
    pub fn record_us(&mut self, metric: Metric, us: u64) {
        let slot = &mut self.histograms[metric as usize];
        if slot.is_none() {
            *slot = histogram().map(Box::new);
        }
        if let Some(histogram) = slot {
            histogram.saturating_record(us.max(1));
        }
    }

    /// Adds the time between two instants in nanoseconds; 0 when they are the wrong way round.
    pub fn record_ns(&mut self, metric: Metric, from: u64, to: u64) {
        self.record_us(metric, to.saturating_sub(from) / 1000);
    }

    /// Counts a session that failed.
    pub fn fail(&mut self, phase: Phase, why: String) {
        let failed = self.failed.entry(phase).or_insert_with(|| load::Failed { count: 0, sample: why });
        failed.count += 1;
    }

    /// The end of the run cut off, in this phase, a session that had waited for so many nanoseconds since it began, or since its play was confirmed.
    /// Too long a wait is `excused` where nobody knows that it was to be served.
    pub fn cut_off(&mut self, phase: Phase, waited_ns: u64, excused: bool) {
        let late = u64::from(waited_ns >= PATIENCE_NS && !excused);
        let one = load::Unfinished { count: 1, late, longest_ms: waited_ns / 1_000_000 };
        self.unfinished.entry(phase).or_default().add(&one);
    }

    /// A player of a stream that is not ours ended so many nanoseconds behind its last frame; since then it was said that the stream is over, or nothing was.
    pub fn last_came(&mut self, ago_ns: u64, said: Option<&'static str>) {
        if ago_ns >= PATIENCE_NS || said.is_some() {
            self.record_ns(Metric::Gap, 0, ago_ns);
            let one = load::Silent { count: 1, longest_ms: ago_ns / 1_000_000 };
            self.silent.entry(said.unwrap_or("nothing")).or_default().add(&one);
        }
    }

    /// Counts a frame that is corrupt and stands for none that was planned.
    pub fn corrupt_for_none(&mut self) {
        self.counts.corrupt += 1;
        self.counts.unplaced += 1;
    }

    /// Counts a departure from the specification.
    pub fn note(&mut self, note: Note) {
        let departure = self.departures.entry(note.kind.name()).or_insert_with(|| load::Departure {
            clause: note.kind.clause().to_owned(),
            count: 0,
            sample: note.to_string(),
        });
        departure.count += 1;
    }

    /// Adds all of another.
    pub fn add(&mut self, other: &Stats) {
        self.counts.add(other.counts);
        for (own, other) in self.histograms.iter_mut().zip(&other.histograms) {
            match (own, other) {
                (Some(own), Some(other)) => {
                    // Both have the same bounds, so that it cannot fail.
                    let _ = own.add(&**other);
                }
                (own, Some(other)) => *own = Some(other.clone()),
                (_, None) => {}
            }
        }
        for (phase, failed) in &other.failed {
            let own = self.failed.entry(*phase).or_default();
            if own.count == 0 {
                own.sample.clone_from(&failed.sample);
            }
            own.count += failed.count;
        }
        for (phase, unfinished) in &other.unfinished {
            self.unfinished.entry(*phase).or_default().add(unfinished);
        }
        for (said, silent) in &other.silent {
            self.silent.entry(said).or_default().add(silent);
        }
        for (name, departure) in &other.departures {
            let own = self
                .departures
                .entry(name)
                .or_insert_with(|| load::Departure { count: 0, ..departure.clone() });
            own.count += departure.count;
        }
    }

    /// The values of a latency; `None` where there is none.
    pub fn histogram(&self, metric: Metric) -> Option<&Histogram<u64>> {
        self.histograms[metric as usize].as_deref().filter(|h| !h.is_empty())
    }

    /// Sessions that failed.
    pub fn failed(&self) -> u64 {
        self.failed.values().map(|failed| failed.count).sum()
    }

    /// By phase, for the record.
    pub fn failed_by_phase(&self) -> BTreeMap<String, load::Failed> {
        self.failed.iter().map(|(phase, failed)| (phase.name().to_owned(), failed.clone())).collect()
    }

    /// Sessions that the end of the run cut off, by phase, for the record.
    pub fn unfinished_by_phase(&self) -> BTreeMap<String, load::Unfinished> {
        self.unfinished.iter().map(|(phase, of)| (phase.name().to_owned(), *of)).collect()
    }

    /// How many those are, and how many of them are late.
    fn unfinished(&self) -> load::Unfinished {
        let mut all = load::Unfinished::default();
        self.unfinished.values().for_each(|of| all.add(of));
        all
    }

    /// Players that got nothing more of a stream that is not ours, by what was said of it, for the record.
    pub fn silent_by_status(&self) -> BTreeMap<String, load::Silent> {
        self.silent.iter().map(|(said, silent)| ((*said).to_owned(), *silent)).collect()
    }

    /// By name, for the record.
    pub fn departures(&self) -> BTreeMap<String, load::Departure> {
        self.departures.iter().map(|(name, departure)| ((*name).to_owned(), departure.clone())).collect()
    }

    /// What a promise is about; `None` where nothing was measured of it.
    pub fn count(&self, count: Count) -> Option<u64> {
        (self.out_of(count) > 0).then(|| match count {
            // Whoever was not served for long keeps no promise, whatever would have come of it.
            Count::Failed => self.failed() + self.unfinished().late,
            Count::Lost => self.counts.lost,
            Count::Duplicated => self.counts.duplicated,
            Count::Reordered => self.counts.reordered,
            Count::Corrupt => self.counts.corrupt,
        })
    }

    /// What its percentages are of.
    pub fn out_of(&self, count: Count) -> u64 {
        match count {
            Count::Failed => {
                let unfinished = self.unfinished();
                self.counts.attempted.saturating_sub(unfinished.count - unfinished.late)
            }
            Count::Lost => self.counts.expected,
            Count::Duplicated | Count::Reordered | Count::Corrupt => {
                self.counts.received - self.counts.foreign
            }
        }
    }

    /// Every latency that has values, for the record.
    pub fn latencies(&self) -> BTreeMap<String, load::Latency> {
        let known = Metric::ALL.into_iter().filter_map(|metric| Some((metric, self.histogram(metric)?)));
        known
            .map(|(metric, h)| {
                let censored = (metric == Metric::Frame).then_some(self.counts.censored);
                (metric.name().to_owned(), latency(h, censored))
            })
            .collect()
    }

    /// A line of an HdrHistogram interval log for each of them, of the second that begins so many seconds behind the start.
    pub fn log(&self, out: &mut String, start_s: f64) {
        for (metric, h) in Metric::ALL.into_iter().filter_map(|m| Some((m, self.histogram(m)?))) {
            let (name, max, hdr) = (metric.name(), h.max() as f64 / 1000.0, encoded(h));
            // Writing to memory does not fail.
            let _ = writeln!(out, "Tag={name},{start_s:.3},1.000,{max:.3},{hdr}");
        }
    }

    /// The same in brief, for an interval.
    pub fn briefs(&self) -> BTreeMap<String, load::Brief> {
        let known = Metric::ALL.into_iter().filter_map(|metric| Some((metric, self.histogram(metric)?)));
        known
            .map(|(metric, h)| {
                let brief = load::Brief {
                    p50_us: h.value_at_quantile(0.5),
                    p99_us: h.value_at_quantile(0.99),
                    max_us: h.max(),
                };
                (metric.name().to_owned(), brief)
            })
            .collect()
    }
}

/// One microsecond to an hour, three digits.
fn histogram() -> Option<Histogram<u64>> {
    Histogram::new_with_bounds(1, 3_600_000_000, 3).ok()
}

fn latency(h: &Histogram<u64>, censored: Option<u64>) -> load::Latency {
    load::Latency {
        count: h.len(),
        censored,
        min_us: h.min(),
        mean_us: h.mean(),
        p50_us: h.value_at_quantile(0.5),
        p90_us: h.value_at_quantile(0.9),
        p99_us: h.value_at_quantile(0.99),
        p999_us: h.value_at_quantile(0.999),
        max_us: h.max(),
        hdr: encoded(h),
    }
}

/// V2 deflate in base64, as the tools of HdrHistogram read it.
fn encoded(h: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    // Writing to memory does not fail.
    let _ = V2DeflateSerializer::new().serialize(h, &mut bytes);
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// What begins an HdrHistogram interval log.
pub const LOG_HEAD: &str = "#[Histogram log format version 1.3]\n#[Values are in microseconds, Interval_Max in milliseconds]\n\
    \"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_was_not_served_for_long_keeps_no_promise() {
        let judged = |phase: Phase, waited_ms: &[u64], excused: bool| {
            let (mut stats, mut second) = (Stats::default(), Stats::default());
            waited_ms.iter().for_each(|ms| second.cut_off(phase, ms * 1_000_000, excused));
            stats.add(&second);
            stats.counts.attempted = waited_ms.len() as u64;
            let load::Unfinished { count, late, longest_ms } = stats.unfinished_by_phase()[phase.name()];
            let known = (stats.count(Count::Failed), stats.out_of(Count::Failed));
            ((count, late, longest_ms), known)
        };
        assert_eq!(judged(Phase::Connect, &[1999, 2000, 3000], false), ((3, 2, 3000), (Some(2), 2)));
        // Nothing is known of anybody.
        assert_eq!(judged(Phase::Tcp, &[1], false), ((1, 0, 1), (None, 0)));
        // A stream of others may be between two key frames, if there is one.
        assert_eq!(judged(Phase::FirstFrame, &[9000], true), ((1, 0, 9000), (None, 0)));
        assert_eq!(judged(Phase::FirstFrame, &[9000], false), ((1, 1, 9000), (Some(1), 1)));
    }

    #[test]
    fn sums_lose_nothing() {
        let mut all = Stats::default();
        for shard in 0..3 {
            let mut stats = Stats::default();
            (1..=100).for_each(|us| stats.record_us(Metric::Frame, us));
            stats.record_ns(Metric::Lag, 5000, 1000);
            stats.fail(Phase::Play, format!("shard {shard}"));
            stats.counts.received = 100;
            all.add(&stats);
        }
        assert_eq!((all.counts.received, all.failed()), (300, 3));
        assert_eq!(all.failed_by_phase()["play"].sample, "shard 0");
        let latencies = all.latencies();
        assert_eq!(latencies.keys().collect::<Vec<_>>(), ["frame", "lag"]);
        assert_eq!((latencies["frame"].count, latencies["frame"].p50_us), (300, 50));
    }
}
