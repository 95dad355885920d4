//! What publishers send, prepared once: frames that are made here or come out of a file, with a place for the stamp that measures them.

use std::fmt;

use bytes::Bytes;

use crate::wire::message::{Message, type_id};

mod generate;
mod stamp;

pub use generate::{Shape, TooLittle};
pub use stamp::{Found, Stamp};

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

    /// Which kind a message type is.
    pub fn of(type_id: u8) -> Option<Kind> {
        match type_id {
            type_id::VIDEO => Some(Kind::Video),
            type_id::AUDIO => Some(Kind::Audio),
            _ => None,
        }
    }
}

/// Frames of both kinds, over and over.
pub struct Media {
    shape: Shape,
    tracks: [Track; 2],
    headers: Vec<Message>,
}

impl Media {
    /// Makes frames of the right lengths.
    ///
    /// # Errors
    /// When the rate is too low for a stamp in each frame.
    pub fn new(shape: Shape) -> Result<Media, TooLittle> {
        generate::media(shape)
    }

    /// Rates and distances.
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
}

/// When frames are to be sent.
enum Pace {
    /// Evenly: a frame's number times this many nanoseconds, a fraction.
    Even(u64, u64),
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
        if self.frames.is_empty() {
            return u64::MAX;
        }
        match &self.pace {
            Pace::Even(num, den) => (u128::from(seq) * u128::from(*num) / u128::from(*den)) as u64,
        }
    }

    fn count_before(&self, offset_ns: u64) -> u32 {
        if self.frames.is_empty() {
            return 0;
        }
        let count = match &self.pace {
            Pace::Even(num, den) => (u128::from(offset_ns) * u128::from(*den)).div_ceil(u128::from(*num)),
        };
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}

/// One message's payload with a place for the stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    before: Bytes,
    after: Bytes,
    /// Of what is behind the stamp.
    crc: u32,
    marked: bool,
}

impl Frame {
    /// With a stamp between.
    fn marked(before: Bytes, after: Bytes) -> Frame {
        Frame { crc: crc32fast::hash(&after), before, after, marked: true }
    }

    /// What stands before the stamp: all, where there is none.
    pub fn before(&self) -> &Bytes {
        &self.before
    }

    /// The stamp's bytes, where one belongs between.
    pub fn stamp(&self, stamp: &Stamp) -> Option<[u8; Stamp::LEN]> {
        self.marked.then(|| stamp.encode(self.crc))
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

    const SHAPE: Shape = Shape { bitrate_bps: 1_000_000, fps: 30, gop: 30 };
    const STAMP: Stamp =
        Stamp { run: u32::MAX, publisher: 7, seq: 1 << 31, planned_ns: u64::MAX, late_us: 1 };

    fn media() -> Media {
        Media::new(SHAPE).expect("enough")
    }

    #[test]
    fn a_stamp_is_found_wherever_it_stands() {
        for kind in Kind::ALL {
            let payload = media().frame(kind, 0).expect("a frame").stamped(&STAMP);
            assert!(is_coded_frame(if kind == Kind::Video { 9 } else { 8 }, &payload));
            let mut near = 0;
            let found = Stamp::find(&payload, &mut near);
            assert_eq!(found, Some(Found { stamp: STAMP, intact: true }), "{kind:?}");
            assert_eq!(Stamp::find(&payload, &mut near), found);
            let moved = [&[0x55; 100], &payload[..]].concat();
            assert_eq!(Stamp::find(&moved, &mut near), found);
        }
    }

    #[test]
    fn every_changed_byte_shows() {
        for kind in Kind::ALL {
            let payload = media().frame(kind, 1).expect("a frame").stamped(&STAMP);
            for at in 0..payload.len() {
                for flip in [1, 0x80] {
                    let mut changed = payload.to_vec();
                    changed[at] ^= flip;
                    let found = Stamp::find(&changed, &mut 0);
                    assert!(found.is_none_or(|found| !found.intact), "{kind:?} {at}");
                }
            }
            for len in 0..payload.len() {
                assert!(Stamp::find(&payload[..len], &mut 0).is_none_or(|found| !found.intact));
            }
        }
    }

    #[test]
    fn the_rate_is_kept() {
        for (bitrate_bps, fps, gop) in [(1_000_000, 30, 30), (300_000, 25, 50), (5_000_000, 60, 1)] {
            let media = Media::new(Shape { bitrate_bps, fps, gop }).expect("enough");
            let ten_seconds = 10_000_000_000;
            let bytes: u64 = Kind::ALL
                .iter()
                .flat_map(|&kind| (0..media.count_before(kind, ten_seconds)).map(move |seq| (kind, seq)))
                .map(|(kind, seq)| media.frame(kind, seq).expect("a frame").len() as u64)
                .sum();
            let rate = bytes * 8 / 10;
            assert!(rate.abs_diff(bitrate_bps) < bitrate_bps / 50, "{rate} for {bitrate_bps}");
        }
        let error = Media::new(Shape { bitrate_bps: 30_000, ..SHAPE }).expect_err("too little");
        let needed = Media::new(Shape { bitrate_bps: error.needed, ..SHAPE });
        assert!(needed.is_ok(), "{error}");
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
