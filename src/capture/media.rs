//! What the audio and video of one direction amount to.

use std::collections::BTreeMap;

use crate::record::inspect;
use crate::wire::media::{Codec, Kind, Media as Head};
use crate::wire::message::{Message, type_id};

/// Codecs told apart in one track; the names of others, which the wire may invent, are counted as one.
pub const MAX_CODECS: usize = 16;

/// Counts audio and video messages.
#[derive(Debug, Default)]
pub struct Media {
    audio: Option<Track>,
    video: Option<Track>,
    last_audio: Option<u32>,
    skew: Option<(i64, i64)>,
}

#[derive(Debug, Default)]
struct Track {
    /// `None`: undecodable.
    codecs: Vec<(Option<Codec>, u64)>,
    /// Messages of codecs beyond these.
    others: u64,
    frames: u64,
    key_frames: u64,
    headers: u64,
    bytes: u64,
    first: Option<u32>,
    last: u32,
}

impl Media {
    /// Takes a message; others than audio, video and aggregates of them are ignored.
    pub fn message(&mut self, type_id: u8, timestamp: u32, payload: &[u8]) {
        match type_id {
            type_id::AUDIO => {
                let head = Head::audio(payload).ok();
                if is_frame(head) {
                    self.last_audio = Some(timestamp);
                }
                self.audio.get_or_insert_default().count(head, timestamp, payload.len());
            }
            type_id::VIDEO => {
                let head = Head::video(payload).ok();
                if let (true, Some(audio)) = (is_frame(head), self.last_audio) {
                    let skew = i64::from(timestamp.wrapping_sub(audio).cast_signed());
                    let (least, most) = self.skew.unwrap_or((skew, skew));
                    self.skew = Some((least.min(skew), most.max(skew)));
                }
                self.video.get_or_insert_default().count(head, timestamp, payload.len());
            }
            type_id::AGGREGATE => {
                let Ok(Message::Aggregate(parts)) = Message::decode(type_id, payload) else { return };
                // rtmp 7.1.6: the message's timestamp is that of the first part, the others keep their distance to it.
                let first = parts.first().map_or(0, |p| p.timestamp);
                for part in parts.iter().filter(|p| p.type_id != type_id::AGGREGATE) {
                    let shifted = timestamp.wrapping_add(part.timestamp.wrapping_sub(first));
                    self.message(part.type_id, shifted, &part.payload);
                }
            }
            _ => {}
        }
    }

    /// As records have it; `None` where no audio or video came.
    pub fn finish(self) -> Option<inspect::Media> {
        if self.audio.is_none() && self.video.is_none() {
            return None;
        }
        let audio = self.audio.map(|t| t.finish(false));
        Some(inspect::Media { audio, video: self.video.map(|t| t.finish(true)), skew_ms: self.skew })
    }
}

impl Track {
    fn count(&mut self, head: Option<Head<'_>>, timestamp: u32, len: usize) {
        self.bytes += len as u64;
        let codec = head.map_or(Some(None), |head| head.codec.map(Some));
        if let Some(codec) = codec {
            let room = self.codecs.len() < MAX_CODECS;
            match self.codecs.iter_mut().find(|(known, _)| *known == codec) {
                Some((_, n)) => *n += 1,
                None if room => self.codecs.push((codec, 1)),
                None => self.others += 1,
            }
        }
        if is_frame(head) {
            self.frames += 1;
            self.key_frames += u64::from(head.is_some_and(|h| h.key));
            self.first.get_or_insert(timestamp);
            self.last = timestamp;
        } else {
            self.headers += 1;
        }
    }

    fn finish(self, video: bool) -> inspect::Track {
        let first_ms = self.first.unwrap_or(0);
        let span = u64::from(self.last.wrapping_sub(first_ms));
        let mut codecs = BTreeMap::new();
        for (codec, n) in self.codecs {
            let name = codec.map_or_else(|| "undecodable".into(), |codec| codec.to_string());
            *codecs.entry(name).or_default() += n;
        }
        if self.others > 0 {
            codecs.insert("others".into(), self.others);
        }
        inspect::Track {
            codecs,
            frames: self.frames,
            key_frames: video.then_some(self.key_frames),
            headers: self.headers,
            bytes: self.bytes,
            first_ms,
            last_ms: self.last,
            bitrate_bps: (self.bytes * 8000).checked_div(span),
        }
    }
}

fn is_frame(head: Option<Head<'_>>) -> bool {
    head.is_some_and(|h| h.kind == Kind::Frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums() {
        let mut media = Media::default();
        for (type_id, timestamp, payload) in [
            (9, 1000, &[0x17, 0, 0, 0, 0, 1][..]),
            (8, 1000, &[0xaf, 0, 0x12, 0x10]),
            (8, 1010, &[0xaf, 1, 0x21]),
            (9, 1040, &[0x17, 1, 0, 0, 0, 1]),
            (8, 1050, &[0xaf, 1, 0x21]),
            (9, 1020, &[0x27, 1, 0, 0, 0, 1]),
            (9, 2040, &[0x27, 1, 0, 0, 0, 1]),
        ] {
            media.message(type_id, timestamp, payload);
        }
        let sums = media.finish().unwrap();
        let (audio, video) = (sums.audio.unwrap(), sums.video.unwrap());
        assert_eq!((audio.frames, audio.headers, audio.key_frames), (2, 1, None));
        assert_eq!((video.frames, video.headers, video.key_frames, video.bytes), (3, 1, Some(1), 24));
        assert_eq!((video.first_ms, video.last_ms, video.bitrate_bps), (1040, 2040, Some(192)));
        assert_eq!(video.codecs, BTreeMap::from([("avc".to_string(), 4)]));
        assert_eq!(sums.skew_ms, Some((-30, 990)));
    }
}
