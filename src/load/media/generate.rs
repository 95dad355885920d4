//! Frames made here: H.264 and AAC that decode, without an encoder.

use std::time::Duration;

use super::stamp::{AUDIO_LEAD, VIDEO_LEAD};
use super::{Frame, Media, Pace, Stamp, Track};
use crate::wire::amf0::Value;
use crate::wire::media::Codec;
use crate::wire::message::{Encoding, Message};
use crate::wire::sample;

/// What is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Bits of audio and video payload a second.
    pub bitrate_bps: u64,
    /// Video frames a second; 0: no video.
    pub fps: u32,
    /// Video frames from one key frame to the next.
    pub gop: u32,
    /// How much of the rate is audio; 0: no audio.
    pub audio_bps: u64,
}

impl Shape {
    /// With audio of 64 kbit/s, or of a third of the rate if that is less.
    pub const fn new(bitrate_bps: u64, fps: u32, gop: u32) -> Shape {
        let third = bitrate_bps / 3;
        Shape { bitrate_bps, fps, gop, audio_bps: if third < AUDIO_BPS { third } else { AUDIO_BPS } }
    }

    /// From key frame to key frame; 0: no video.
    pub fn round(&self) -> Duration {
        Duration::from_secs(1) * self.gop / self.fps.max(1)
    }
}

/// The rate does not hold the frames that were asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given} bit/s are too little for {what}: {needed} bit/s are needed")]
pub struct TooLittle {
    pub(super) given: u64,
    what: String,
    pub(super) needed: u64,
}

/// AAC frames have 1024 samples.
const AUDIO_SAMPLES: u64 = 1024;
const AUDIO_RATE: u64 = 44_100;
const AUDIO_BPS: u64 = 64_000;
/// A key frame is as long as so many others.
const KEY_SHARES: u64 = 4;
/// The shortest frames that hold a stamp.
const MIN_VIDEO: u64 = 140;
const MIN_AUDIO: u64 = 80;
/// The rate that audio needs.
const NEEDED_AUDIO: u64 = (MIN_AUDIO + 1) * 8 * AUDIO_RATE / AUDIO_SAMPLES;
/// Bytes that the stamp and what is around it add.
const VIDEO_STAMP: usize = VIDEO_LEAD.len() + Stamp::LEN + 1;
const AUDIO_STAMP: usize = AUDIO_LEAD.len() + Stamp::LEN;
const SECOND_NS: u64 = 1_000_000_000;

/// Frames of two groups of pictures, and one of silence.
pub(super) fn media(shape: Shape) -> Result<Media, TooLittle> {
    let pictures = pictures(shape)?;
    let silence = silence(shape)?;
    let track = |frames: Vec<Frame>, num, den, codec| Track {
        codecs: if frames.is_empty() { Vec::new() } else { vec![codec] },
        frames,
        pace: Pace::Even(num, den),
        ahead: Vec::new(),
        again: Vec::new(),
        contents: None,
    };
    Ok(Media {
        shape,
        tracks: [
            track(pictures, SECOND_NS, u64::from(shape.fps), Codec::AVC),
            track(silence, AUDIO_SAMPLES * SECOND_NS, AUDIO_RATE, Codec::AAC),
        ],
        headers: headers(shape),
        source: None,
    })
}

fn silence(shape: Shape) -> Result<Vec<Frame>, TooLittle> {
    let len = shape.audio_bps * AUDIO_SAMPLES / AUDIO_RATE / 8;
    match len {
        _ if shape.audio_bps == 0 => Ok(Vec::new()),
        MIN_AUDIO.. => Ok(vec![frame(&AUDIO_LEAD, &sample::aac_frame(len as usize - AUDIO_STAMP, 100), 2)]),
        _ => {
            // Of a low rate it is a third.
            let (given, shares) = if shape.audio_bps == shape.bitrate_bps / 3 {
                (shape.bitrate_bps, 3)
            } else {
                (shape.audio_bps, 1)
            };
            Err(TooLittle { given, what: "audio".into(), needed: NEEDED_AUDIO * shares })
        }
    }
}

fn pictures(shape: Shape) -> Result<Vec<Frame>, TooLittle> {
    let Shape { bitrate_bps, fps, gop, audio_bps } = shape;
    if fps == 0 {
        return Ok(Vec::new());
    }
    let shares = u64::from(gop) - 1 + KEY_SHARES;
    let share = bitrate_bps.saturating_sub(audio_bps) / 8 * u64::from(gop) / u64::from(fps) / shares;
    if share < MIN_VIDEO {
        let video = (MIN_VIDEO + 1) * shares * 8 * u64::from(fps) / u64::from(gop);
        let shared = if audio_bps == bitrate_bps / 3 { (video * 3 / 2).max(NEEDED_AUDIO * 3) } else { 0 };
        let needed = (video + audio_bps).max(shared) + 1000;
        return Err(TooLittle { given: bitrate_bps, what: format!("{fps} frames a second"), needed });
    }
    let video = |make: fn(usize, u64) -> Vec<u8>, len: u64, seed| {
        frame(&VIDEO_LEAD, &make(len as usize - VIDEO_STAMP, seed), 5)
    };
    let inters: Vec<Frame> =
        (0..u64::from(gop) - 1).map(|seed| video(sample::avc_inter, share, seed)).collect();
    // h264 7.4.3: neighbouring IDR pictures have different ids.
    let keys = [0, 1].map(|seed| video(sample::avc_key, share * KEY_SHARES, seed));
    Ok(keys.into_iter().flat_map(|key| [&[key], &inters[..]].concat()).collect())
}

/// `whole` with a lead and a place for the stamp behind its first `head` bytes.
fn frame(lead: &[u8], whole: &[u8], head: usize) -> Frame {
    let (head, body) = whole.split_at(head);
    // h264 7.3.2.3: the trailing bits of the SEI unit.
    let trail: &[u8] = if lead == VIDEO_LEAD { &[0x80] } else { &[] };
    Frame::marked([head, lead].concat().into(), [trail, body].concat().into())
}

fn headers(shape: Shape) -> Vec<Message> {
    let (video, audio) = (shape.fps > 0, shape.audio_bps > 0);
    let mut meta = Vec::new();
    if video {
        meta.extend([
            ("width".into(), 64.0.into()),
            ("height".into(), 64.0.into()),
            ("framerate".into(), f64::from(shape.fps).into()),
            ("videocodecid".into(), 7.0.into()),
        ]);
    }
    if audio {
        meta.extend([
            ("audiocodecid".into(), 10.0.into()),
            ("audiosamplerate".into(), (AUDIO_RATE as f64).into()),
            ("stereo".into(), Value::Boolean(false)),
        ]);
    }
    let meta = vec!["@setDataFrame".into(), "onMetaData".into(), Value::EcmaArray(meta)];
    let video = video.then(|| Message::Video(sample::avc_header().into()));
    let audio = audio.then(|| Message::Audio(sample::aac_header().into()));
    [Message::Data(Encoding::Amf0, meta)].into_iter().chain(video).chain(audio).collect()
}
