//! What publishers send, prepared once: frames that are made here or come out of a file, with a place for the stamp that measures them.

use std::fmt;
use std::path::Path;

use bytes::Bytes;

use crate::wire::amf0::Value;
use crate::wire::media::Codec;
use crate::wire::message::{Message, type_id};
use content::Contents;

mod content;
mod file;
mod generate;
mod mark;
mod stamp;

pub use content::Likeness;
pub use file::Error as FileError;
pub use generate::{Shape, TooLittle};
pub use stamp::Stamp;

/// Audio or video: each has sequence numbers of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Type 9.
    Video = 0,
    /// Type 8.
    Audio = 1,
}

impl Kind {
    /// Both.
    pub const ALL: [Kind; 2] = [Kind::Video, Kind::Audio];

    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Video => "video",
            Kind::Audio => "audio",
        }
    }

    /// Its message type.
    pub fn type_id(self) -> u8 {
        match self {
            Kind::Video => type_id::VIDEO,
            Kind::Audio => type_id::AUDIO,
        }
    }

    /// Which kind a message type is.
    pub fn of(type_id: u8) -> Option<Kind> {
        match type_id {
            type_id::VIDEO => Some(Kind::Video),
            type_id::AUDIO => Some(Kind::Audio),
            _ => None,
        }
    }
}

/// What a payload says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The stamp.
    pub stamp: Stamp,
    /// Whether all other bytes are as they were sent.
    pub intact: bool,
}

/// Frames of both kinds, over and over.
pub struct Media {
    shape: Shape,
    tracks: [Track; 2],
    headers: Vec<Message>,
    /// The file, and how many milliseconds it takes; `None`: made here.
    source: Option<(String, u64)>,
}

impl Media {
    /// Makes frames of the right lengths.
    ///
    /// # Errors
    /// When the rate is too low for a stamp in each frame.
    pub fn new(shape: Shape) -> Result<Media, TooLittle> {
        generate::media(shape)
    }

    /// Reads an FLV file into memory. Each frame gets a stamp where its codec has a place for one; `untouched`: none does.
    ///
    /// # Errors
    /// When it is no FLV file, is broken or too large; the text says at which byte.
    pub fn file(path: &Path, untouched: bool) -> Result<Media, FileError> {
        file::media(path, untouched)
    }

    /// Rates and distances; of a file on average.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// What goes ahead of the frames.
    pub fn headers(&self) -> &[Message] {
        &self.headers
    }

    /// What goes ahead of this frame, at its instant, because it changed since the one before.
    pub fn ahead(&self, kind: Kind, seq: u32) -> &[Message] {
        self.tracks[kind as usize].ahead(seq)
    }

    /// The frame of this place; what repeats is shared. `None`: there are none of this kind.
    pub fn frame(&self, kind: Kind, seq: u32) -> Option<&Frame> {
        self.tracks[kind as usize].frame(seq)
    }

    /// When it is to be sent, in nanoseconds behind the first of all; `u64::MAX` where there are none of this kind.
    pub fn offset_ns(&self, kind: Kind, seq: u32) -> u64 {
        self.tracks[kind as usize].offset_ns(seq)
    }

    /// Its RTMP timestamp, in milliseconds, modulo 2^32.
    pub fn timestamp(&self, kind: Kind, seq: u32) -> u32 {
        (self.offset_ns(kind, seq) / NS_PER_MS) as u32
    }

    /// How many frames are to be sent before this instant, in nanoseconds behind the first of all.
    pub fn count_before(&self, kind: Kind, offset_ns: u64) -> u32 {
        self.tracks[kind as usize].count_before(offset_ns)
    }

    /// The stamp in a payload, if there is a whole one, and whether all around it is as it was sent. `near` is where the one before stood; it is moved.
    pub fn find(&self, kind: Kind, payload: &[u8], near: &mut usize) -> Option<Found> {
        let (stamp, at) = Stamp::find(payload, near)?;
        let (before, after) = (&payload[..at], &payload[at + Stamp::LEN..]);
        let sent = self.frame(kind, stamp.seq).filter(|frame| frame.marked);
        // What a server put in before it is its own affair.
        let intact = |sent: &Frame| after == sent.after && (at != sent.before.len() || before == sent.before);
        Some(Found { stamp, intact: sent.is_some_and(intact) })
    }

    /// Whether there are frames of this kind that have no stamp.
    pub fn has_unmarked(&self, kind: Kind) -> bool {
        self.contents(kind).is_some()
    }

    /// Which frame without a stamp this payload is where the first `sent` of its kind were sent. `next` is due, if any came yet, and some before it are `missing`.
    pub fn like(
        &self,
        kind: Kind,
        payload: &[u8],
        next: Option<u32>,
        sent: u32,
        missing: impl Fn(u32) -> bool,
    ) -> Likeness {
        self.contents(kind).map_or(Likeness::None, |contents| contents.like(payload, next, sent, missing))
    }

    fn contents(&self, kind: Kind) -> Option<&Contents> {
        self.tracks[kind as usize].contents.as_ref()
    }

    /// The codecs of a kind, in the order of their first frames.
    pub fn codecs(&self, kind: Kind) -> &[Codec] {
        &self.tracks[kind as usize].codecs
    }

    /// What connect has to say of the enhanced codecs, if there are any.
    pub fn connect_with(&self) -> Vec<(String, Value)> {
        let cc = |codec: &Codec| match codec {
            Codec::FourCc(cc) => std::str::from_utf8(cc).ok().map(str::to_owned),
            _ => None,
        };
        let of = |kind| self.codecs(kind).iter().filter_map(cc).collect::<Vec<String>>();
        let (video, audio) = (of(Kind::Video), of(Kind::Audio));
        let all = [&video[..], &audio[..]].concat();
        if all.is_empty() {
            return Vec::new();
        }
        // ertmp2, NetConnection connect: 1 decode, 2 encode.
        let map =
            |ccs: Vec<String>| Value::Object(ccs.into_iter().map(|cc| (cc.into(), 3.0.into())).collect());
        vec![
            ("fourCcList".into(), Value::StrictArray(all.iter().map(|cc| cc.as_str().into()).collect())),
            ("videoFourCcInfoMap".into(), map(video)),
            ("audioFourCcInfoMap".into(), map(audio)),
        ]
    }

    /// The file and how long it takes, in milliseconds; `None`: made here.
    pub fn source(&self) -> Option<(&str, u64)> {
        self.source.as_ref().map(|(file, round_ms)| (&**file, *round_ms))
    }

    /// How many different frames there are of this kind, and how many of them have stamps.
    pub fn counts(&self, kind: Kind) -> (usize, usize) {
        let frames = &self.tracks[kind as usize].frames;
        (frames.len(), frames.iter().filter(|frame| frame.marked).count())
    }
}

impl fmt::Debug for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Media").field("shape", &self.shape).finish_non_exhaustive()
    }
}

const NS_PER_MS: u64 = 1_000_000;

/// The frames of one kind.
struct Track {
    frames: Vec<Frame>,
    pace: Pace,
    /// What goes ahead of a frame of this index.
    ahead: Vec<(usize, Vec<Message>)>,
    /// What goes ahead of the first when it comes round again.
    again: Vec<Message>,
    contents: Option<Contents>,
    codecs: Vec<Codec>,
}

/// When frames are to be sent.
enum Pace {
    /// Evenly: a frame's number times this many nanoseconds, a fraction.
    Even(u64, u64),
    /// At these milliseconds, which do not decrease, and again after so many.
    Listed(Vec<u64>, u64),
}

impl Track {
    fn frame(&self, seq: u32) -> Option<&Frame> {
        self.frames.get(self.place(seq)?.1)
    }

    /// How often the frames went round before this one, and its index.
    fn place(&self, seq: u32) -> Option<(usize, usize)> {
        let len = self.frames.len();
        (len > 0).then(|| (seq as usize / len, seq as usize % len))
    }

    fn ahead(&self, seq: u32) -> &[Message] {
        match self.place(seq) {
            Some((1.., 0)) => &self.again,
            Some((_, index)) => match self.ahead.binary_search_by_key(&index, |(at, _)| *at) {
                Ok(at) => &self.ahead[at].1,
                Err(_) => &[],
            },
            None => &[],
        }
    }

    fn offset_ns(&self, seq: u32) -> u64 {
        let Some((round, index)) = self.place(seq) else { return u64::MAX };
        match &self.pace {
            // Of the first frames, of some days that is, without the long way of dividing.
            Pace::Even(num, den) => match u64::from(seq).checked_mul(*num) {
                Some(product) => product / den,
                None => (u128::from(seq) * u128::from(*num) / u128::from(*den)) as u64,
            },
            // A target may name a frame that is centuries ahead.
            Pace::Listed(times, again) => {
                (round as u64).saturating_mul(*again).saturating_add(times[index]).saturating_mul(NS_PER_MS)
            }
        }
    }

    fn count_before(&self, offset_ns: u64) -> u32 {
        if self.frames.is_empty() {
            return 0;
        }
        let count = match &self.pace {
            Pace::Even(num, den) => (u128::from(offset_ns) * u128::from(*den)).div_ceil(u128::from(*num)),
            Pace::Listed(times, again) => {
                let ms = offset_ns.div_ceil(NS_PER_MS);
                let (round, rest) = (ms / again, ms % again);
                let within = times.partition_point(|time| *time < rest);
                u128::from(round) * times.len() as u128 + within as u128
            }
        };
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}

/// One message's payload with a place for the stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    before: Bytes,
    after: Bytes,
    marked: bool,
}

impl Frame {
    /// With a stamp between.
    fn marked(before: Bytes, after: Bytes) -> Frame {
        Frame { before, after, marked: true }
    }

    /// Without one.
    fn plain(payload: Bytes) -> Frame {
        Frame { before: payload, after: Bytes::new(), marked: false }
    }

    /// What stands before the stamp: all, where there is none.
    pub fn before(&self) -> &Bytes {
        &self.before
    }

    /// The stamp's bytes, where one belongs between.
    pub fn stamp(&self, stamp: &Stamp) -> Option<[u8; Stamp::LEN]> {
        self.marked.then(|| stamp.encode())
    }

    /// What stands behind it.
    pub fn after(&self) -> &Bytes {
        &self.after
    }

    /// Bytes of the whole payload.
    pub fn len(&self) -> usize {
        self.before.len() + if self.marked { Stamp::LEN } else { 0 } + self.after.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The payload with this stamp in it.
    pub fn stamped(&self, stamp: &Stamp) -> Bytes {
        let between = self.stamp(stamp);
        [&self.before[..], between.as_ref().map_or(&[][..], |bytes| bytes), &self.after[..]].concat().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::media::is_coded_frame;

    const SHAPE: Shape = Shape::new(1_000_000, 30, 30);
    const STAMP: Stamp =
        Stamp { run: u32::MAX, publisher: 7, seq: 1 << 31, planned_ns: u64::MAX, late_us: 1 };

    fn media() -> Media {
        Media::new(SHAPE).expect("enough")
    }

    #[test]
    fn a_stamp_is_found_wherever_it_stands() {
        for kind in Kind::ALL {
            let payload = media().frame(kind, STAMP.seq).expect("a frame").stamped(&STAMP);
            assert!(is_coded_frame(if kind == Kind::Video { 9 } else { 8 }, &payload));
            let mut near = 0;
            let found = media().find(kind, &payload, &mut near);
            assert_eq!(found, Some(Found { stamp: STAMP, intact: true }), "{kind:?}");
            assert_eq!(media().find(kind, &payload, &mut near), found);
            let moved = [&[0x55; 100], &payload[..]].concat();
            assert_eq!(media().find(kind, &moved, &mut near), found);
        }
    }

    #[test]
    fn every_changed_byte_shows() {
        for kind in Kind::ALL {
            let media = media();
            let payload = media.frame(kind, STAMP.seq).expect("a frame").stamped(&STAMP);
            for at in 0..payload.len() {
                for flip in [1, 0x80] {
                    let mut changed = payload.to_vec();
                    changed[at] ^= flip;
                    let found = media.find(kind, &changed, &mut 0);
                    assert!(found.is_none_or(|found| !found.intact), "{kind:?} {at}");
                }
            }
            for len in 0..payload.len() {
                assert!(media.find(kind, &payload[..len], &mut 0).is_none_or(|found| !found.intact));
            }
        }
    }

    #[test]
    fn the_rate_is_kept() {
        let loud = Shape { audio_bps: 128_000, ..SHAPE };
        let silent = Shape { audio_bps: 0, ..SHAPE };
        let blind = Shape { bitrate_bps: 96_000, fps: 0, gop: 0, audio_bps: 96_000 };
        for shape in [SHAPE, Shape::new(300_000, 25, 50), Shape::new(5_000_000, 60, 1), loud, silent, blind] {
            let Shape { bitrate_bps, fps, audio_bps, .. } = shape;
            let media = Media::new(shape).expect("enough");
            let none = Kind::ALL.map(|kind| media.frame(kind, 0).is_none());
            assert_eq!(none, [fps == 0, audio_bps == 0]);
            assert_eq!(media.headers().len(), 3 - none.iter().filter(|none| **none).count());
            let ten_seconds = 10_000_000_000;
            let bytes: u64 = Kind::ALL
                .iter()
                .flat_map(|&kind| (0..media.count_before(kind, ten_seconds)).map(move |seq| (kind, seq)))
                .map(|(kind, seq)| media.frame(kind, seq).expect("a frame").len() as u64)
                .sum();
            let rate = bytes * 8 / 10;
            assert!(rate.abs_diff(bitrate_bps) < bitrate_bps / 50, "{rate} for {bitrate_bps}");
        }
        for rate in [30_000, 100_000, 200_000] {
            let error = Media::new(Shape::new(rate, 60, 1)).expect_err("too little");
            let needed = Media::new(Shape::new(error.needed, 60, 1));
            assert!(needed.is_ok(), "{error}");
        }
    }

    #[test]
    fn counting_and_times_agree() {
        let media = media();
        for kind in Kind::ALL {
            for seq in [0, 1, 2, 29, 30, 1000, 4_000_000_000] {
                let at = media.offset_ns(kind, seq);
                assert_eq!(media.count_before(kind, at), seq);
                assert_eq!(media.count_before(kind, at + 1), seq + 1);
            }
        }
    }
}
