//! Audio and video (rtmp 4, 7.2.2; flv E.4).

use super::command::Asked;
use super::{At, Lint};
use crate::capture::stream::Direction;
use crate::wire::media::{Codec, Kind, Media};
use crate::wire::message::type_id;
use crate::wire::note::NoteKind;

/// What matters of the head of an audio or video message.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    kind: Kind,
    codec: Option<Codec>,
}

impl Head {
    /// `None` where it cannot be read, or has tracks: those of one message stream may be timed apart.
    pub(super) fn of(type_id: u8, payload: &[u8]) -> Option<Head> {
        let media = if type_id == type_id::VIDEO { Media::video(payload) } else { Media::audio(payload) };
        let media = media.ok().filter(|media| media.multitrack.is_none())?;
        Some(Head { kind: media.kind, codec: media.codec })
    }
}

impl Lint {
    /// An audio, video or aggregate message; the last is not looked into.
    pub(super) fn media(&mut self, at: &At, head: Option<Head>) {
        let msid = u64::from(at.header.msid);
        let clear = self.talk.is_clear();
        let Some(stream) = self.talk.stream(at.header.msid) else { return };
        match (at.direction, stream.publish, stream.play) {
            (Direction::C2s, Asked::No, _) if clear => self.say(at, NoteKind::MediaEarly, msid),
            (Direction::C2s, Asked::Open, _) => self.suspect(at, NoteKind::MediaEarly, msid),
            (Direction::S2c, _, Asked::No) if clear => self.suspect(at, NoteKind::MediaUnplayed, msid),
            (Direction::S2c, _, Asked::Open) => self.say_of_both(at, NoteKind::MediaUnconfirmed, msid),
            _ => {}
        }
        if let Some(head) = head.filter(|_| at.direction == Direction::C2s) {
            self.frame(at, head);
        }
    }

    fn frame(&mut self, at: &At, head: Head) {
        let video = at.header.type_id == type_id::VIDEO;
        let Some(stream) = self.talk.stream(at.header.msid) else { return };
        let (last, header) = (&mut stream.last[usize::from(video)], &mut stream.header[usize::from(video)]);
        let needs_header = matches!(head.codec, Some(Codec::AAC | Codec::AVC));
        match head.kind {
            Kind::Header => *header |= needs_header,
            Kind::Frame => {
                let before = last.replace(at.header.timestamp);
                let headless = needs_header && !*header;
                self.in_order(at, before);
                if headless {
                    // flv E.4.2.1 and E.4.3.1
                    let kind = if video { NoteKind::AvcFrameFirst } else { NoteKind::AacFrameFirst };
                    self.say(at, kind, u64::from(at.header.msid));
                }
            }
            _ => {}
        }
    }

    /// rtmp 4: times are compared as serial numbers.
    fn in_order(&mut self, at: &At, before: Option<u32>) {
        let back = before.map_or(0, |before| before.wrapping_sub(at.header.timestamp) as i32);
        if back > 0 {
            self.say(at, NoteKind::TimeBack, u64::from(back.unsigned_abs()));
        }
    }
}
