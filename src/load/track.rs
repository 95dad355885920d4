//! What a player got, held against what was planned for it.

use std::ops::Range;

use super::media::{Found, Kind, Likeness};
use super::stats::{Metric, Stats};
use super::{Run, said};
use crate::wire::media::{self, is_keyframe};

/// Ranges of missing frames that are remembered; beyond, the oldest are lost for good.
const MAX_GAPS: usize = 1024;

/// Whether a player without a frame had to get one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owed {
    /// None was planned since its play was confirmed.
    Nothing,
    /// Some were, but a target that waits for a key frame may have sent none.
    Maybe,
    /// It had to.
    Frames,
    /// The stream is not ours.
    Unknown,
}

/// The frames of one player.
#[derive(Debug)]
pub struct Receiver {
    /// The publisher it listens to, where that is one of ours.
    publisher: Option<u32>,
    /// When `play` was sent.
    asked_ns: u64,
    last_ns: Option<u64>,
    /// What was said behind it of a stream that is not ours and is over.
    over: Option<&'static str>,
    keyed: bool,
    /// Its video began.
    joined: bool,
    /// The age of its first key frame is known.
    aged: bool,
    /// The last timestamp of each kind.
    timestamps: [Option<u32>; 2],
    /// By how much the target moved the timestamp of the last frame of each kind, in milliseconds modulo 2^32.
    shifts: [Option<u32>; 2],
    tracks: [Track; 2],
    /// Where stamps stood in the last frame of each kind.
    near: [usize; 2],
}

impl Receiver {
    /// A player that sends `play` now.
    pub fn new(publisher: Option<u32>, asked_ns: u64) -> Receiver {
        Receiver {
            publisher,
            asked_ns,
            last_ns: None,
            over: None,
            keyed: false,
            joined: false,
            aged: false,
            timestamps: [None; 2],
            shifts: [None; 2],
            tracks: [Track::default(), Track::default()],
            near: [0; 2],
        }
    }

    /// Brings it into the caches; the number means nothing.
    pub fn touch(&self) -> u64 {
        let [video, audio] = &self.tracks;
        let parts = [self.near[0] as u64, video.next.into(), audio.next.into(), self.asked_ns];
        parts.into_iter().fold(self.last_ns.unwrap_or(0), u64::wrapping_add)
    }

    /// When the last frame came, in nanoseconds.
    pub fn last_ns(&self) -> Option<u64> {
        self.last_ns
    }

    /// Takes what else the target says: only of a stream that is not ours nobody knows when it is over.
    pub fn hear(&mut self, type_id: u8, payload: &[u8]) {
        if self.publisher.is_none() {
            let over = said::stream_status(type_id, payload).map(|(said, over)| over.then_some(said));
            self.over = over.unwrap_or(self.over);
        }
    }

    /// Takes an audio or video message.
    pub fn take(&mut self, run: &Run, stats: &mut Stats, came: Came, payload: &[u8]) {
        let Came { at, kind, timestamp } = came;
        let type_id = kind.type_id();
        let coded = match media::kind(type_id, payload) {
            Some(media::Kind::Frame) => true,
            Some(_) => return,
            None => false,
        };
        stats.counts.received += 1;
        self.over = None;
        match self.last_ns.replace(at) {
            Some(last) => stats.record_ns(Metric::Gap, last, at),
            None => stats.record_ns(Metric::FirstFrame, self.asked_ns, at),
        }
        let found = self.publisher.and_then(|_| run.media.find(kind, payload, &mut self.near[kind as usize]));
        let found = found.filter(|_| coded);
        match found.map(|found| found.stamp) {
            // What the target kept of an earlier run.
            Some(stamp) if stamp.run != run.id => {
                stats.counts.foreign += 1;
                return;
            }
            Some(stamp) if Some(stamp.publisher) != self.publisher => {
                stats.counts.strayed += 1;
                stats.corrupt_for_none();
                return;
            }
            _ => {}
        }
        if let Some(last) = self.timestamps[kind as usize].replace(timestamp)
            && (timestamp.wrapping_sub(last) as i32) < 0
        {
            match kind {
                Kind::Video => stats.counts.back_video += 1,
                Kind::Audio => stats.counts.back_audio += 1,
            }
        }
        if kind == Kind::Video && !self.keyed {
            self.begin(stats, at, is_keyframe(type_id, payload));
        }
        let Some(publisher) = self.publisher else {
            stats.counts.foreign += 1;
            return;
        };
        match found.filter(|found| run.sent_that(publisher, kind, &found.stamp, at)) {
            Some(found) => self.stamped(run, stats, came, publisher, found),
            None if run.media.has_unmarked(kind) => self.unstamped(run, stats, came, publisher, payload),
            None => stats.corrupt_for_none(),
        }
    }

    /// A video frame before which there was no key frame.
    fn begin(&mut self, stats: &mut Stats, at: u64, key: bool) {
        let first = !std::mem::replace(&mut self.joined, true);
        self.keyed = key;
        stats.counts.joined += u64::from(first);
        stats.counts.joined_at_key += u64::from(first && key);
        if key {
            stats.record_ns(Metric::FirstKeyframe, self.asked_ns, at);
        } else {
            stats.counts.before_key += 1;
        }
    }

    /// Takes a frame that only its content tells.
    fn unstamped(&mut self, run: &Run, stats: &mut Stats, came: Came, publisher: u32, payload: &[u8]) {
        let sent = run.planned_before(publisher, came.kind, came.at + 1);
        let track = &self.tracks[came.kind as usize];
        let next = track.base.map(|_| track.due);
        let seq = match run.media.like(came.kind, payload, next, sent, |seq| track.misses(seq)) {
            Likeness::Frame(seq) => Some(seq),
            Likeness::Several => None,
            Likeness::None => {
                stats.counts.corrupt += 1;
                next.filter(|next| *next < sent)
            }
        };
        let Some(seq) = seq else {
            stats.counts.unplaced += 1;
            return;
        };
        let planned = run.planned_ns(publisher, came.kind, seq);
        self.arrived(run, stats, came, publisher, (seq, planned));
    }

    fn stamped(&mut self, run: &Run, stats: &mut Stats, came: Came, publisher: u32, found: Found) {
        let stamp = found.stamp;
        stats.counts.corrupt += u64::from(!found.intact);
        if self.arrived(run, stats, came, publisher, (stamp.seq, stamp.planned_ns)) {
            let written = stamp.planned_ns + u64::from(stamp.late_us) * 1000;
            stats.record_ns(Metric::FrameRaw, written, came.at);
        }
    }

    /// Accounts for a frame that came, and that was planned for this instant; whether it is one that is measured.
    fn arrived(
        &mut self,
        run: &Run,
        stats: &mut Stats,
        came: Came,
        publisher: u32,
        (seq, planned): (u32, u64),
    ) -> bool {
        let kind = came.kind;
        if kind == Kind::Video && self.keyed && !self.aged {
            self.aged = true;
            if planned < self.asked_ns {
                stats.record_ns(Metric::KeyAge, planned, self.asked_ns);
            }
        }
        let track = &mut self.tracks[kind as usize];
        track.due = track.due.max(seq.saturating_add(1));
        if planned < self.asked_ns {
            stats.counts.join_burst += 1;
            track.begin(run.planned_before(publisher, kind, self.asked_ns));
            return false;
        }
        match track.take(seq) {
            Arrival::Again => {
                stats.counts.duplicated += 1;
                return false;
            }
            Arrival::Late => stats.counts.reordered += 1,
            Arrival::Next => {}
        }
        stats.record_ns(Metric::Frame, planned, came.at);
        self.shifts[kind as usize] = Some(came.timestamp.wrapping_sub(run.media.timestamp(kind, seq)));
        if let (Kind::Video, [Some(video), Some(audio)]) = (kind, self.shifts) {
            let skew_ms = (video.wrapping_sub(audio) as i32).unsigned_abs();
            stats.record_us(Metric::Skew, u64::from(skew_ms) * 1000);
        }
        true
    }

    /// Whether all that was planned before `until` came. Frames that others overtook are waited for only if so asked.
    pub fn complete(&self, run: &Run, until: u64, gaps_too: bool) -> bool {
        let Some(publisher) = self.publisher else { return true };
        Kind::ALL.iter().all(|&kind| {
            let track = &self.tracks[kind as usize];
            let all = track.next >= run.planned_before(publisher, kind, until);
            track.base.is_none() || (all && (track.gaps.is_empty() || !gaps_too))
        })
    }

    /// What a player whose play was confirmed at `since` and that got nothing had to get of what was planned before `until`.
    pub fn owed(&self, run: &Run, since: u64, until: u64) -> Owed {
        let Some(publisher) = self.publisher else { return Owed::Unknown };
        let planned =
            |from| Kind::ALL.iter().any(|&kind| planned_between(run, publisher, kind, from, until) > 0);
        match (planned(since), planned(since + patience_ns(run))) {
            (_, true) => Owed::Frames,
            (true, false) => Owed::Maybe,
            (false, false) => Owed::Nothing,
        }
    }

    /// What is wrong when nothing came of one kind, of which some had to by `until`, and the other flowed.
    pub fn absent(&self, run: &Run, until: u64) -> Option<String> {
        let publisher = self.publisher.filter(|_| self.last_ns.is_some())?;
        let missing = |kind: Kind| {
            let from = self.asked_ns + patience_ns(run);
            let all = planned_between(run, publisher, kind, from, until);
            (self.timestamps[kind as usize].is_none() && all > 0)
                .then(|| format!("no {} came: {all} frames of it were planned", kind.name()))
        };
        Kind::ALL.into_iter().find_map(missing)
    }

    /// Since when the frame that has been outstanding longest was planned, if there is one.
    pub fn oldest_ns(&self, run: &Run, now: u64) -> Option<u64> {
        let publisher = self.publisher?;
        let oldest = |kind: Kind| {
            let track = &self.tracks[kind as usize];
            let outstanding = track.base.is_some() && track.next < run.planned_before(publisher, kind, now);
            outstanding.then(|| run.planned_ns(publisher, kind, track.next))
        };
        Kind::ALL.into_iter().filter_map(oldest).min()
    }

    /// Frames that a later one of their kind overtook and that have not come.
    pub fn missing(&self) -> u64 {
        self.tracks.iter().map(|track| track.lost(track.next)).sum()
    }

    /// How many nanoseconds before its end it got the last frame of a stream that is not ours, and by what the target said since that this is over.
    pub fn silence(&self, end: u64) -> Option<(u64, Option<&'static str>)> {
        let last = self.last_ns.filter(|_| self.publisher.is_none())?;
        Some((end.saturating_sub(last), self.over))
    }

    /// Accounts for what was planned before `until` and did not come: each such frame once.
    pub fn end(&self, run: &Run, stats: &mut Stats, until: u64, now: u64) {
        let Some(publisher) = self.publisher else { return };
        for kind in Kind::ALL {
            let track = &self.tracks[kind as usize];
            let Some(base) = track.base else { continue };
            // What came of frames planned later was expected too.
            let planned = run.planned_before(publisher, kind, until).max(track.next);
            stats.counts.expected += u64::from(planned.saturating_sub(base));
            stats.counts.lost += track.lost(planned);
            for seq in track.next..planned {
                stats.counts.censored += 1;
                stats.record_ns(Metric::Frame, run.planned_ns(publisher, kind, seq), now);
            }
        }
    }
}

/// Frames that a publisher planned from one instant to another.
fn planned_between(run: &Run, publisher: u32, kind: Kind, from: u64, until: u64) -> u32 {
    let before = |at| run.planned_before(publisher, kind, at);
    before(until).saturating_sub(before(from))
}

/// How long a target may wait for a key frame before it sends any: two rounds of them.
fn patience_ns(run: &Run) -> u64 {
    let shape = run.media.shape();
    2_000_000_000 * u64::from(shape.gop.max(1)) / u64::from(shape.fps.max(1))
}

/// When a frame came, and what its message says.
#[derive(Debug, Clone, Copy)]
pub struct Came {
    /// In nanoseconds.
    pub at: u64,
    /// Audio or video.
    pub kind: Kind,
    /// In milliseconds.
    pub timestamp: u32,
}

/// Which frames of a kind came.
#[derive(Debug, Default)]
struct Track {
    /// The first that is expected.
    base: Option<u32>,
    /// Behind the highest that came, of those that are expected.
    next: u32,
    /// Behind the highest that came, join burst included.
    due: u32,
    /// What is missing between.
    gaps: Vec<Range<u32>>,
    /// What was forgotten of it.
    given_up: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrival {
    Next,
    Late,
    Again,
}

impl Track {
    /// All from here on are expected.
    fn begin(&mut self, first: u32) {
        if self.base.is_none() {
            (self.base, self.next) = (Some(first), first);
        }
    }

    fn take(&mut self, seq: u32) -> Arrival {
        let base = *self.base.get_or_insert(seq);
        if self.next <= base {
            self.next = self.next.max(base);
        }
        if seq < base {
            self.base = Some(seq);
            if seq + 1 < base {
                self.gap(seq + 1..base);
            }
            return Arrival::Late;
        }
        if seq >= self.next {
            if seq > self.next {
                self.gap(self.next..seq);
            }
            self.next = seq + 1;
            return Arrival::Next;
        }
        let Some(at) = self.gaps.iter().position(|gap| gap.contains(&seq)) else { return Arrival::Again };
        let gap = self.gaps.swap_remove(at);
        self.gaps.extend([gap.start..seq, seq + 1..gap.end].into_iter().filter(|part| !part.is_empty()));
        Arrival::Late
    }

    /// Whether this one is missing among those that came.
    fn misses(&self, seq: u32) -> bool {
        self.gaps.iter().any(|gap| gap.contains(&seq))
    }

    fn gap(&mut self, gap: Range<u32>) {
        if self.gaps.len() >= MAX_GAPS {
            let oldest =
                self.gaps.iter().enumerate().min_by_key(|(_, gap)| gap.start).map_or(0, |(at, _)| at);
            self.given_up += self.gaps.swap_remove(oldest).len() as u64;
        }
        self.gaps.push(gap);
    }

    /// What did not come of the first `planned`.
    fn lost(&self, planned: u32) -> u64 {
        let gaps: u64 =
            self.gaps.iter().map(|gap| u64::from(gap.end.min(planned).saturating_sub(gap.start))).sum();
        gaps + self.given_up + u64::from(planned.saturating_sub(self.next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Arrival::{Again, Late, Next};

    #[test]
    fn what_was_kept_of_another_run_is_foreign_and_not_corrupt() {
        let (run, began) = Run::of_one();
        let (mut receiver, mut stats) = (Receiver::new(Some(0), began), Stats::default());
        for (id, damaged) in [(run.id ^ 1, false), (run.id ^ 1, true), (run.id, false), (run.id, true)] {
            let mut payload = run.first_frame(id);
            *payload.last_mut().expect("bytes") ^= u8::from(damaged);
            receiver.take(&run, &mut stats, Came { at: began, kind: Kind::Video, timestamp: 0 }, &payload);
        }
        let counts = stats.counts;
        assert_eq!((counts.received, counts.foreign, counts.corrupt, counts.duplicated), (4, 2, 1, 1));
        // Only what is ours tells that video came.
        assert_eq!((counts.joined, counts.joined_at_key), (1, 1));
    }

    #[test]
    fn arrivals_are_told_apart() {
        let mut track = Track::default();
        let steps =
            [(5, Next), (6, Next), (9, Next), (8, Late), (8, Again), (5, Again), (3, Late), (10, Next)];
        for (seq, arrival) in steps {
            assert_eq!(track.take(seq), arrival, "{seq}");
        }
        // 4 and 7 are missing, 11 and 12 outstanding.
        assert_eq!((track.base, track.next, track.lost(11), track.lost(13)), (Some(3), 11, 2, 4));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut track = Track::default();
        (0..10_000).for_each(|i| assert_eq!(track.take(i * 2), Next));
        assert!(track.gaps.len() <= MAX_GAPS);
        assert_eq!(track.lost(19_999), 9_999);
    }

    #[test]
    fn a_join_burst_sets_where_counting_begins() {
        let mut track = Track::default();
        track.begin(7);
        track.begin(9);
        assert_eq!(track.take(8), Next);
        assert_eq!((track.base, track.lost(9)), (Some(7), 1));
    }
}
