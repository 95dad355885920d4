//! Frames made here: H.264 and AAC that decode, without an encoder.

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
    /// Video frames a second.
    pub fps: u32,
    /// Video frames from one key frame to the next.
    pub gop: u32,
}

/// The rate does not hold the frames that were asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given} bit/s is too little for {fps} frames a second: {needed} bit/s are needed")]
pub struct TooLittle {
    pub(super) given: u64,
    fps: u32,
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
/// Bytes that the stamp and what is around it add.
const VIDEO_STAMP: usize = VIDEO_LEAD.len() + Stamp::LEN + 1;
const AUDIO_STAMP: usize = AUDIO_LEAD.len() + Stamp::LEN;
const SECOND_NS: u64 = 1_000_000_000;

/// Frames of two groups of pictures, and one of silence.
pub(super) fn media(shape: Shape) -> Result<Media, TooLittle> {
    let Shape { bitrate_bps, fps, gop } = shape;
    let audio_bps = AUDIO_BPS.min(bitrate_bps / 3);
    let audio_len = audio_bps * AUDIO_SAMPLES / AUDIO_RATE / 8;
    let shares = u64::from(gop) - 1 + KEY_SHARES;
    let share = (bitrate_bps - audio_bps) / 8 * u64::from(gop) / u64::from(fps) / shares;
    if audio_len < MIN_AUDIO || share < MIN_VIDEO {
        let video = MIN_VIDEO * shares * 8 * u64::from(fps) / u64::from(gop) * 3 / 2;
        let audio = (MIN_AUDIO + 1) * 8 * 44_100 / 1024 * 3;
        return Err(TooLittle { given: bitrate_bps, fps, needed: video.max(audio) + 1000 });
    }
    let video = |make: fn(usize, u64) -> Vec<u8>, len: u64, seed| {
        frame(&VIDEO_LEAD, &make(len as usize - VIDEO_STAMP, seed), 5)
    };
    let inters: Vec<Frame> =
        (0..u64::from(gop) - 1).map(|seed| video(sample::avc_inter, share, seed)).collect();
    // h264 7.4.3: neighbouring IDR pictures have different ids.
    let keys = [0, 1].map(|seed| video(sample::avc_key, share * KEY_SHARES, seed));
    let pictures = keys.into_iter().flat_map(|key| [&[key], &inters[..]].concat()).collect();
    let silence = frame(&AUDIO_LEAD, &sample::aac_frame(audio_len as usize - AUDIO_STAMP, 100), 2);
    let track = |frames, num, den, codec| Track {
        frames,
        pace: Pace::Even(num, den),
        ahead: Vec::new(),
        again: Vec::new(),
        contents: None,
        codecs: vec![codec],
    };
    Ok(Media {
        shape,
        tracks: [
            track(pictures, SECOND_NS, u64::from(fps), Codec::AVC),
            track(vec![silence], AUDIO_SAMPLES * SECOND_NS, AUDIO_RATE, Codec::AAC),
        ],
        headers: headers(shape),
        source: None,
    })
}

/// `whole` with a lead and a place for the stamp behind its first `head` bytes.
fn frame(lead: &[u8], whole: &[u8], head: usize) -> Frame {
    let (head, body) = whole.split_at(head);
    // h264 7.3.2.3: the trailing bits of the SEI unit.
    let trail: &[u8] = if lead == VIDEO_LEAD { &[0x80] } else { &[] };
    Frame::marked([head, lead].concat().into(), [trail, body].concat().into())
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
