//! What publishers send, prepared once, and the stamp inside each frame that measures it.

use std::fmt;

use bstr::ByteSlice;
use bytes::Bytes;

use crate::wire::amf0::Value;
use crate::wire::message::{Encoding, Message, type_id};
use crate::wire::sample;

/// Audio or video: each has sequence numbers of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// AVC.
    Video = 0,
    /// AAC.
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

/// What is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Bits of audio and video payload a second.
    pub bitrate_bps: u64,
    /// Video frames a second.
    pub fps: u32,
    /// Video frames from one key frame to the next.
    pub gop: u32,
}

/// The rate does not hold the frames that were asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given} bit/s is too little for {fps} frames a second: {needed} bit/s are needed")]
pub struct TooLittle {
    given: u64,
    fps: u32,
    needed: u64,
}

/// Frames of one second or so, over and over.
pub struct Media {
    shape: Shape,
    keys: [Frame; 2],
    inters: Vec<Frame>,
    audio: Frame,
    /// What goes ahead of the frames.
    pub headers: Vec<Message>,
}

/// One message's payload with a place for the stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    bytes: Vec<u8>,
    at: usize,
    crc: u32,
}

/// AAC frames have 1024 samples.
const AUDIO_SAMPLES: u128 = 1024;
const AUDIO_RATE: u128 = 44_100;
const AUDIO_BPS: u64 = 64_000;
/// A key frame is as long as so many others.
const KEY_SHARES: u64 = 4;
/// The shortest frames that hold a stamp.
const MIN_VIDEO: u64 = 140;
const MIN_AUDIO: u64 = 80;

impl Media {
    /// Prepares frames of the right lengths.
    ///
    /// # Errors
    /// When the rate is too low for a stamp in each frame.
    pub fn new(shape: Shape) -> Result<Media, TooLittle> {
        let Shape { bitrate_bps, fps, gop } = shape;
        let audio_bps = AUDIO_BPS.min(bitrate_bps / 3);
        let audio_len = audio_bps * AUDIO_SAMPLES as u64 / AUDIO_RATE as u64 / 8;
        let shares = u64::from(gop) - 1 + KEY_SHARES;
        let share = (bitrate_bps - audio_bps) / 8 * u64::from(gop) / u64::from(fps) / shares;
        if audio_len < MIN_AUDIO || share < MIN_VIDEO {
            let video = MIN_VIDEO * shares * 8 * u64::from(fps) / u64::from(gop) * 3 / 2;
            let audio = (MIN_AUDIO + 1) * 8 * 44_100 / 1024 * 3;
            return Err(TooLittle { given: bitrate_bps, fps, needed: video.max(audio) + 1000 });
        }
        let video = |make: fn(usize, u64) -> Vec<u8>, len: u64, seed| {
            Frame::new(&VIDEO_LEAD, &make(len as usize - VIDEO_STAMP, seed), 5)
        };
        let key = |seed| video(sample::avc_key, share * KEY_SHARES, seed);
        Ok(Media {
            shape,
            keys: [key(0), key(1)],
            inters: (0..u64::from(gop) - 1).map(|seed| video(sample::avc_inter, share, seed)).collect(),
            audio: Frame::new(&AUDIO_LEAD, &sample::aac_frame(audio_len as usize - AUDIO_STAMP, 100), 2),
            headers: headers(shape),
        })
    }

    /// What was asked for.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The frame of this place; what repeats is shared.
    pub fn frame(&self, kind: Kind, seq: u32) -> &Frame {
        if kind == Kind::Audio {
            return &self.audio;
        }
        match seq % self.shape.gop {
            // h264 7.4.3: neighbouring IDR pictures have different ids.
            0 => &self.keys[(seq / self.shape.gop % 2) as usize],
            place => &self.inters[place as usize - 1],
        }
    }

    /// When it is to be sent, in nanoseconds behind the first.
    pub fn offset_ns(&self, kind: Kind, seq: u32) -> u64 {
        let (num, den) = self.period_ns(kind);
        (u128::from(seq) * num / den) as u64
    }

    /// Its RTMP timestamp, in milliseconds.
    pub fn timestamp(&self, kind: Kind, seq: u32) -> u32 {
        (self.offset_ns(kind, seq) / 1_000_000) as u32
    }

    /// How many frames are to be sent before this instant, in nanoseconds behind the first.
    pub fn count_before(&self, kind: Kind, offset_ns: u64) -> u32 {
        let (num, den) = self.period_ns(kind);
        u32::try_from((u128::from(offset_ns) * den).div_ceil(num)).unwrap_or(u32::MAX)
    }

    fn period_ns(&self, kind: Kind) -> (u128, u128) {
        match kind {
            Kind::Video => (1_000_000_000, u128::from(self.shape.fps)),
            Kind::Audio => (AUDIO_SAMPLES * 1_000_000_000, AUDIO_RATE),
        }
    }
}

impl fmt::Debug for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Media").field("shape", &self.shape).finish_non_exhaustive()
    }
}

fn headers(shape: Shape) -> Vec<Message> {
    let meta = Value::EcmaArray(vec![
        ("width".into(), 64.0.into()),
        ("height".into(), 64.0.into()),
        ("framerate".into(), f64::from(shape.fps).into()),
        ("videocodecid".into(), 7.0.into()),
        ("audiocodecid".into(), 10.0.into()),
        ("audiosamplerate".into(), 44_100.0.into()),
        ("stereo".into(), Value::Boolean(false)),
    ]);
    vec![
        Message::Data(Encoding::Amf0, vec!["@setDataFrame".into(), "onMetaData".into(), meta]),
        Message::Video(sample::avc_header().into()),
        Message::Audio(sample::aac_header().into()),
    ]
}

impl Frame {
    /// `whole` with a lead and a stamp put in behind its first `head` bytes.
    fn new(lead: &[u8], whole: &[u8], head: usize) -> Frame {
        let (head, body) = whole.split_at(head);
        // h264 7.3.2.3: the trailing bits of the SEI unit.
        let tail = [if lead == VIDEO_LEAD { &[0x80][..] } else { &[] }, body].concat();
        let at = head.len() + lead.len();
        let bytes = [head, lead, &[0; Stamp::LEN], &tail].concat();
        Frame { crc: crc32fast::hash(&tail), bytes, at }
    }

    /// The payload with this stamp in it.
    pub fn stamped(&self, stamp: &Stamp) -> Bytes {
        let mut bytes = self.bytes.clone();
        bytes[self.at..self.at + Stamp::LEN].copy_from_slice(&stamp.encode(self.crc));
        bytes.into()
    }
}

/// Which frame it is and when it was to be sent and was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Drawn for each run: frames of another run measure nothing.
    pub run: u32,
    /// Which publisher.
    pub publisher: u32,
    /// Its place among the frames of its kind.
    pub seq: u32,
    /// When it was to be sent, in nanoseconds of the monotonic clock.
    pub planned_ns: u64,
    /// How much later it was written, in microseconds.
    pub late_us: u32,
}

/// What a payload says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The stamp.
    pub stamp: Stamp,
    /// Whether all other bytes are as they were sent.
    pub intact: bool,
}

/// The UUID of SEI user data and what begins the data stream element.
const UUID: [u8; 16] = *b"rtmp-bench stamp";
/// h264 7.3.2.3: the NAL length, an SEI unit, user data unregistered, 60 bytes. One byte of trailing bits ends the unit.
const VIDEO_LEAD: [u8; 7] = [0, 0, 0, Stamp::LEN as u8 + 4, 0x06, 0x05, Stamp::LEN as u8];
/// iso14496-3 4.4.2.7: a data stream element, tag 0, byte-aligned; its count.
const AUDIO_LEAD: [u8; 2] = [0x81, Stamp::LEN as u8];
const VIDEO_STAMP: usize = VIDEO_LEAD.len() + Stamp::LEN + 1;
const AUDIO_STAMP: usize = AUDIO_LEAD.len() + Stamp::LEN;
/// How far into a payload a stamp is looked for: a server may put parameter sets before it.
const SEARCHED: usize = 512;

impl Stamp {
    /// Bytes: the UUID, six numbers of five bytes and one of ten, seven bits each.
    pub const LEN: usize = 16 + 6 * 5 + 10;

    fn encode(&self, crc: u32) -> [u8; Stamp::LEN] {
        let mut out = [0; Stamp::LEN];
        out[..16].copy_from_slice(&UUID);
        let mut at = 16;
        let mut put = |value: u64, len: usize| {
            put7(&mut out[at..at + len], value);
            at += len;
        };
        put(u64::from(self.run), 5);
        put(u64::from(self.publisher), 5);
        put(u64::from(self.seq), 5);
        put(u64::from(self.late_us), 5);
        put(u64::from(crc), 5);
        put(self.planned_ns, 10);
        let own = crc32fast::hash(&out[..Stamp::LEN - 5]);
        put7(&mut out[Stamp::LEN - 5..], u64::from(own));
        out
    }

    /// The stamp in a payload, if there is a whole one. `near` is where the one before stood; it is moved.
    pub fn find(payload: &[u8], near: &mut usize) -> Option<Found> {
        let at = match payload.get(*near..).filter(|rest| rest.starts_with(&UUID)) {
            Some(_) => *near,
            None => payload[..payload.len().min(SEARCHED)].find(UUID)?,
        };
        let bytes: &[u8; Stamp::LEN] = payload[at..].first_chunk()?;
        let get = |from: usize, len: usize| get7(&bytes[from..from + len]);
        let short = |from| get(from, 5).and_then(|value| u32::try_from(value).ok());
        if short(Stamp::LEN - 5)? != crc32fast::hash(&bytes[..Stamp::LEN - 5]) {
            return None;
        }
        *near = at;
        let stamp = Stamp {
            run: short(16)?,
            publisher: short(21)?,
            seq: short(26)?,
            late_us: short(31)?,
            planned_ns: get(41, 10)?,
        };
        let tail = &payload[at + Stamp::LEN..];
        let intact = short(36)? == crc32fast::hash(tail) && head_is_ours(&payload[..at]);
        Some(Found { stamp, intact })
    }
}

/// Whether what stands before a stamp is as it was written; what a server put in is its own affair.
fn head_is_ours(head: &[u8]) -> bool {
    match head.len() {
        12 => matches!(head[0], 0x17 | 0x27) && head[1..5] == [1, 0, 0, 0] && head[5..] == VIDEO_LEAD,
        4 => head[..2] == [0xAF, 1] && head[2..] == AUDIO_LEAD,
        _ => true,
    }
}

/// Seven bits a byte with the top bit set: no start code can come of it and no emulation prevention is needed.
fn put7(out: &mut [u8], mut value: u64) {
    for byte in out.iter_mut().rev() {
        *byte = 0x80 | (value & 0x7F) as u8;
        value >>= 7;
    }
}

fn get7(bytes: &[u8]) -> Option<u64> {
    bytes.iter().try_fold(0_u64, |value, &byte| {
        (byte & 0x80 != 0).then_some(value.checked_mul(128)? | u64::from(byte & 0x7F))
    })
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
            let payload = media().frame(kind, 0).stamped(&STAMP);
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
            let payload = media().frame(kind, 1).stamped(&STAMP);
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
                .map(|(kind, seq)| media.frame(kind, seq).bytes.len() as u64)
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
