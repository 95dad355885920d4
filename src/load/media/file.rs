//! Frames out of an FLV file, over and over with continuing timestamps.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use bytes::Bytes;

use super::content::Contents;
use super::mark::Marker;
use super::{Frame, Kind, Media, Pace, Shape, Stamp, Track};
use crate::wire::flv::{self, Tag};
use crate::wire::media::{self, Codec};
use crate::wire::message::{Message, type_id};

/// The longest file.
pub const MAX_BYTES: u64 = 512 << 20;
/// The most frames.
pub const MAX_FRAMES: usize = 1 << 21;
/// The longest message: players hold no longer one.
const MAX_MESSAGE: usize = (4 << 20) - 1024;
/// How far timestamps of one kind may step back, in milliseconds: further it is another recording.
const MAX_BACK: u32 = 1000;
/// How long a frame is where there is only one, in milliseconds.
const LONE_FRAME: u64 = 40;

/// Why a file cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be opened.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is no FLV file or is broken.
    #[error(transparent)]
    Flv(#[from] flv::Error),
    /// Above 512 MiB.
    #[error("{0} bytes; at most {MAX_BYTES} are held in memory")]
    TooLong(u64),
    /// Above 2^21.
    #[error("flv at byte {0}: more than {MAX_FRAMES} frames")]
    TooMany(u64),
    /// A message of 4 MiB or so.
    #[error("flv at byte {0}: a message of {1} bytes; at most {MAX_MESSAGE} can be")]
    LongMessage(u64, usize),
    /// A timestamp that is far before the one before it.
    #[error("flv at byte {0}: the timestamp steps back by {1} ms")]
    Back(u64, u32),
    /// Nothing to be sent.
    #[error("no audio or video frame")]
    Empty,
}

/// Frames of a file; `untouched`: none gets a stamp.
pub(super) fn media(path: &Path, untouched: bool) -> Result<Media, Error> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    if len > MAX_BYTES {
        return Err(Error::TooLong(len));
    }
    read(BufReader::new(file).take(MAX_BYTES), &path.display().to_string(), untouched)
}

fn read(input: impl Read, name: &str, untouched: bool) -> Result<Media, Error> {
    let mut loader = Loader { untouched, ..Loader::default() };
    for tag in flv::Reader::new(input)? {
        loader.take(tag?)?;
    }
    loader.end(name.to_owned())
}

/// What takes another's place: a sequence header and the like, by type, kind and track.
type Slot = (u8, Option<media::Kind>, u8);

#[derive(Default)]
struct Loader {
    untouched: bool,
    headers: Vec<Message>,
    marker: Marker,
    kinds: [Loading; 2],
    /// What is in force and what was at first.
    now: BTreeMap<Slot, Bytes>,
    first: BTreeMap<Slot, Bytes>,
    /// Data that goes ahead of the next frame.
    data: Vec<Message>,
    keys: u64,
}

/// One kind.
#[derive(Default)]
struct Loading {
    frames: Vec<Frame>,
    times: Vec<u32>,
    ahead: Vec<(usize, Vec<Message>)>,
    waiting: Vec<Message>,
    codecs: Vec<Codec>,
    bytes: u64,
}

impl Loader {
    fn take(&mut self, tag: Tag) -> Result<(), Error> {
        if tag.data.len() > MAX_MESSAGE {
            return Err(Error::LongMessage(tag.offset, tag.data.len()));
        }
        match (tag.type_id, Kind::of(tag.type_id)) {
            (_, Some(kind)) => self.coded(kind, tag),
            (type_id::DATA_AMF0, None) => {
                self.script(tag.data);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn coded(&mut self, kind: Kind, tag: Tag) -> Result<(), Error> {
        let carries = media::kind(tag.type_id, &tag.data);
        if !matches!(carries, Some(media::Kind::Frame) | None) {
            let payload = Bytes::from(tag.data);
            if carries == Some(media::Kind::Header) {
                self.marker.learn(tag.type_id, &payload);
                self.kinds[kind as usize].know(tag.type_id, &payload);
            }
            let message = match kind {
                Kind::Video => Message::Video(payload.clone()),
                Kind::Audio => Message::Audio(payload.clone()),
            };
            use media::Kind::{Channels, Header, Metadata};
            let stays = matches!(carries, Some(Header | Metadata | Channels));
            let slot = (tag.type_id, carries, track_of(tag.type_id, &payload));
            if !stays || self.changes(slot, payload) {
                self.ahead(Some(kind), message);
            }
            return Ok(());
        }
        self.keys += u64::from(media::is_keyframe(tag.type_id, &tag.data));
        let place = match self.untouched || tag.filter {
            true => None,
            false => self.marker.place(tag.type_id, &tag.data),
        };
        let data = std::mem::take(&mut self.data);
        let own = &mut self.kinds[kind as usize];
        own.know(tag.type_id, &tag.data);
        own.bytes += tag.data.len() as u64 + if place.is_some() { Stamp::LEN as u64 } else { 0 };
        let last = own.times.last().copied().unwrap_or(tag.timestamp);
        if tag.timestamp < last.saturating_sub(MAX_BACK) {
            return Err(Error::Back(tag.offset, last - tag.timestamp));
        }
        if own.frames.len() >= MAX_FRAMES {
            return Err(Error::TooMany(tag.offset));
        }
        let waiting: Vec<Message> = data.into_iter().chain(own.waiting.drain(..)).collect();
        if !waiting.is_empty() {
            own.ahead.push((own.frames.len(), waiting));
        }
        own.times.push(tag.timestamp.max(last));
        let payload = Bytes::from(tag.data);
        own.frames.push(match place {
            Some(place) => Frame::marked(
                [&payload[..place.at], &place.lead].concat().into(),
                [place.trail, &payload[place.at..]].concat().into(),
            ),
            None => Frame::plain(payload),
        });
        Ok(())
    }

    /// Script data: metadata stays in force, all else is of its moment.
    fn script(&mut self, data: Vec<u8>) {
        const METADATA: &[u8] = b"\x02\x00\x0AonMetaData";
        const SET: &[u8] = b"\x02\x00\x0D@setDataFrame";
        let rest = data.strip_prefix(SET).unwrap_or(&data);
        if !rest.starts_with(METADATA) {
            let message = Message::Unknown { type_id: type_id::DATA_AMF0, payload: data.into() };
            return self.ahead(None, message);
        }
        let payload = Bytes::from([SET, rest].concat());
        if self.changes((type_id::DATA_AMF0, None, 0), payload.clone()) {
            self.ahead(None, Message::Unknown { type_id: type_id::DATA_AMF0, payload });
        }
    }

    /// Whether this differs from what was in force.
    fn changes(&mut self, slot: Slot, payload: Bytes) -> bool {
        self.first.entry(slot).or_insert_with(|| payload.clone());
        self.now.insert(slot, payload.clone()).is_none_or(|before| before != payload)
    }

    /// Ahead of all, if there is no frame yet, or of the next of this kind.
    fn ahead(&mut self, kind: Option<Kind>, message: Message) {
        match kind {
            _ if self.kinds.iter().all(|kind| kind.frames.is_empty()) => self.headers.push(message),
            Some(kind) => self.kinds[kind as usize].waiting.push(message),
            None => self.data.push(message),
        }
    }

    fn end(self, name: String) -> Result<Media, Error> {
        let first = self.kinds.iter().filter_map(|kind| kind.times.first()).min();
        let start = u64::from(*first.ok_or(Error::Empty)?);
        let ends = self.kinds.iter().filter_map(Loading::end);
        let again_ms = ends.max().unwrap_or(start + LONE_FRAME) - start;
        let bytes: u64 = self.kinds.iter().map(|kind| kind.bytes).sum();
        let pictures = self.kinds[Kind::Video as usize].frames.len() as u64;
        let sound = &self.kinds[Kind::Audio as usize];
        // Only what is not there at all is 0.
        let shape = Shape {
            bitrate_bps: bytes * 8000 / again_ms,
            fps: ((pictures * 1000 + again_ms / 2) / again_ms).max(pictures.min(1)) as u32,
            gop: (pictures / self.keys.max(1)) as u32,
            audio_bps: (sound.bytes * 8000 / again_ms).max(sound.bytes.min(1)),
        };
        let changed: Vec<(u8, Message)> = self
            .first
            .iter()
            .filter(|(slot, payload)| self.now.get(slot) != Some(payload))
            .map(|((type_id, ..), payload)| {
                (*type_id, Message::Unknown { type_id: *type_id, payload: payload.clone() })
            })
            .collect();
        let data_by = if pictures > 0 { Kind::Video } else { Kind::Audio };
        let mut kinds = self.kinds.into_iter();
        let tracks = Kind::ALL.map(|kind| {
            let loading = kinds.next().unwrap_or_default();
            let back = changed.iter().filter(|(type_id, _)| Kind::of(*type_id).unwrap_or(data_by) == kind);
            loading.track(start, again_ms, back.map(|(_, message)| message.clone()).collect())
        });
        Ok(Media { shape, tracks, headers: self.headers, source: Some((name, again_ms)) })
    }
}

impl Loading {
    /// Notes the codecs of a message.
    fn know(&mut self, type_id: u8, payload: &[u8]) {
        let read = if type_id == type_id::VIDEO {
            media::Media::video(payload)
        } else {
            media::Media::audio(payload)
        };
        for codec in read.iter().flat_map(|media| media.tracks()).filter_map(|track| track.ok()?.codec) {
            if !self.codecs.contains(&codec) {
                self.codecs.push(codec);
            }
        }
    }

    /// The last timestamp and a frame's length more.
    fn end(&self) -> Option<u64> {
        let (first, last) = (u64::from(*self.times.first()?), u64::from(*self.times.last()?));
        let steps = self.times.len() as u64 - 1;
        Some(last + (last - first).checked_div(steps).unwrap_or(LONE_FRAME).max(1))
    }

    fn track(self, start: u64, again_ms: u64, back: Vec<Message>) -> Track {
        let times = self.times.iter().map(|time| u64::from(*time) - start).collect();
        let at_first = self.ahead.first().filter(|(at, _)| *at == 0);
        Track {
            again: back.into_iter().chain(at_first.into_iter().flat_map(|(_, all)| all.clone())).collect(),
            contents: Contents::new(&self.frames),
            pace: Pace::Listed(times, again_ms),
            frames: self.frames,
            ahead: self.ahead,
            codecs: self.codecs,
        }
    }
}

/// The id of a message's first track.
fn track_of(type_id: u8, payload: &[u8]) -> u8 {
    let read =
        if type_id == type_id::VIDEO { media::Media::video(payload) } else { media::Media::audio(payload) };
    read.ok().and_then(|media| media.tracks().next()?.ok()).map_or(0, |track| track.id)
}

#[cfg(test)]
mod tests {
    use super::super::Likeness;
    use super::*;
    use crate::wire::amf0::Value;

    /// (type, timestamp, payload)
    fn file(tags: &[(u8, u32, &[u8])]) -> Vec<u8> {
        let header = flv::Header { audio: true, video: true };
        let mut writer = flv::Writer::new(Vec::new(), header).expect("memory");
        for (type_id, timestamp, payload) in tags {
            writer.write(*type_id, *timestamp, payload).expect("memory");
        }
        writer.into_inner()
    }

    fn bytes_of(messages: &[Message]) -> Vec<Vec<u8>> {
        let encoded = messages.iter().map(|message| {
            let mut out = Vec::new();
            message.encode(&mut out);
            out
        });
        encoded.collect()
    }

    const META: &[u8] = b"\x02\x00\x0AonMetaData\x05";
    const HEADER: &[u8] = &[0x17, 0, 0, 0, 0, 1, 66, 0, 10, 0xFF, 0xE0, 0];
    const OTHER: &[u8] = &[0x17, 0, 0, 0, 0, 1, 77, 0, 10, 0xFF, 0xE0, 0];
    const KEY: &[u8] = &[0x17, 1, 0, 0, 0, 0, 0, 0, 2, 0x65, 9];
    const INTER: &[u8] = &[0x27, 1, 0, 0, 0, 0, 0, 0, 2, 0x41, 9];
    const MP3: &[u8] = &[0x2F, 0xFF, 0xFB];

    #[test]
    fn a_file_goes_round_with_continuing_timestamps() {
        let tags: &[(u8, u32, &[u8])] = &[
            (9, 500, HEADER),
            (9, 500, KEY),
            (8, 510, MP3),
            (9, 540, INTER),
            (8, 536, MP3),
            (9, 580, INTER),
        ];
        let media = read(&file(tags)[..], "x.flv", false).expect("a file");
        let times = |kind, seqs: [u32; 5]| seqs.map(|seq| media.timestamp(kind, seq));
        // 80 ms from first to last and a frame of 40 more; audio keeps its place beside video.
        assert_eq!(times(Kind::Video, [0, 1, 2, 3, 7]), [0, 40, 80, 120, 280]);
        assert_eq!(times(Kind::Audio, [0, 1, 2, 3, 4]), [10, 36, 130, 156, 250]);
        for kind in Kind::ALL {
            for seq in 0..20 {
                let at = media.offset_ns(kind, seq);
                assert_eq!((media.count_before(kind, at), media.count_before(kind, at + 1)), (seq, seq + 1));
            }
        }
        assert_eq!((media.shape().fps, media.shape().gop), (25, 3));
        // As slow as it may be, there is video.
        let slow = read(&file(&[(9, 0, KEY), (9, 9000, KEY)])[..], "x.flv", false).expect("a file");
        assert_eq!((slow.shape().fps, slow.shape().audio_bps), (1, 0));
        assert!(
            media.frame(Kind::Video, 4).expect("a frame").marked && media.contents(Kind::Video).is_none()
        );
        assert!(
            !media.frame(Kind::Audio, 4).expect("a frame").marked && media.contents(Kind::Audio).is_some()
        );
        let untouched = read(&file(tags)[..], "x.flv", true).expect("a file");
        assert_eq!(untouched.frame(Kind::Video, 4).expect("a frame").before(), INTER);
    }

    #[test]
    fn headers_are_sent_once_and_again_only_where_they_change() {
        let same: &[(u8, u32, &[u8])] =
            &[(18, 0, META), (9, 0, HEADER), (9, 0, KEY), (18, 40, META), (9, 40, HEADER), (9, 40, INTER)];
        let media = read(&file(same)[..], "x.flv", false).expect("a file");
        let set = [b"\x02\x00\x0D@setDataFrame", META].concat();
        assert_eq!(bytes_of(media.headers()), [&set[..], HEADER]);
        assert!((0..6).all(|seq| media.ahead(Kind::Video, seq).is_empty()));

        let changing: &[(u8, u32, &[u8])] = &[
            (9, 0, HEADER),
            (9, 0, KEY),
            (9, 40, OTHER),
            (9, 40, KEY),
            (18, 50, b"\x02\x00\x03cue"),
            (9, 80, INTER),
        ];
        let media = read(&file(changing)[..], "x.flv", false).expect("a file");
        let ahead = |seq| bytes_of(media.ahead(Kind::Video, seq));
        assert_eq!(
            (ahead(0), ahead(1), ahead(2)),
            (vec![], vec![OTHER.to_vec()], vec![b"\x02\x00\x03cue".to_vec()])
        );
        assert_eq!((ahead(3), ahead(4)), (vec![HEADER.to_vec()], vec![OTHER.to_vec()]));
    }

    #[test]
    fn encrypted_frames_are_not_touched() {
        let mut bytes = file(&[(9, 0, HEADER), (9, 0, KEY), (9, 40, KEY)]);
        // flv E.4.1: the filter bit of the second tag.
        bytes[13 + 11 + HEADER.len() + 4] |= 0x20;
        let media = read(&bytes[..], "x.flv", false).expect("a file");
        assert_eq!(media.counts(Kind::Video), (2, 1));
        assert_eq!(media.frame(Kind::Video, 0).expect("a frame").before(), KEY);
    }

    #[test]
    fn tracks_pass_as_they_are_and_connect_names_the_codecs() {
        // ertmp2: multitrack, one track, hvc1: headers of two tracks, a frame of each.
        let message =
            |packet: u8, track: u8, data: &[u8]| [&[0x96, packet][..], b"hvc1", &[track], data].concat();
        let [first, second] = [0, 1].map(|track| message(0, track, &[0; 23]));
        let [key, other] = [0, 1].map(|track| message(3, track, &[0, 0, 0, 3, 2, 3, 9, track]));
        let opus = [&[0x91][..], b"Opus", &[1, 2, 3]].concat();
        let bytes = file(&[(9, 0, &first), (9, 0, &second), (9, 0, &key), (9, 0, &other), (8, 0, &opus)]);
        let media = read(&bytes[..], "x.flv", false).expect("a file");
        assert_eq!(bytes_of(media.headers()), [first, second]);
        assert_eq!((media.counts(Kind::Video), media.counts(Kind::Audio)), ((2, 0), (1, 0)));
        // Neither header takes the other's place.
        assert!((0..4).all(|seq| media.ahead(Kind::Video, seq).is_empty()));
        assert_eq!(media.frame(Kind::Video, 1).expect("a frame").before(), &other);
        assert_eq!(media.like(Kind::Video, &other, Some(0), 2, |_| false), Likeness::Frame(1));
        let said = media.connect_with();
        assert_eq!(said[0], ("fourCcList".into(), Value::StrictArray(vec!["hvc1".into(), "Opus".into()])));
        assert_eq!(said[2].1, Value::Object(vec![("Opus".into(), 3.0.into())]));
        let plain = read(&file(&[(9, 0, HEADER), (9, 0, KEY)])[..], "x.flv", false).expect("a file");
        assert!(plain.connect_with().is_empty());
    }

    #[test]
    fn no_bytes_panic() {
        let hevc = [&[0x90][..], b"hvc1", &[0; 21], &[0xFF, 0]].concat();
        let frame = [&[0xA3][..], b"hvc1", &[0, 0, 0, 3, 2, 3, 9]].concat();
        let whole =
            file(&[(18, 0, META), (9, 0, HEADER), (9, 0, KEY), (8, 5, MP3), (9, 40, &hevc), (9, 40, &frame)]);
        let walk = |bytes: &[u8]| {
            let Ok(media) = read(bytes, "x.flv", false) else { return };
            for (kind, seq) in
                Kind::ALL.into_iter().flat_map(|kind| [0, 1, 2, u32::MAX].map(|seq| (kind, seq)))
            {
                let _ = (media.frame(kind, seq), media.ahead(kind, seq), media.timestamp(kind, seq));
                let _ = media.count_before(kind, media.offset_ns(kind, seq));
                let _ = media.like(kind, MP3, Some(seq), u32::MAX, |_| false);
            }
        };
        for at in 0..whole.len() {
            walk(&whole[..at]);
            for value in [0, 1, 0x7F, 0x80, 0xFF] {
                let mut changed = whole.clone();
                changed[at] = value;
                walk(&changed);
            }
        }
    }

    #[test]
    fn files_that_cannot_be_sent_say_why() {
        let whole = file(&[(9, 0, HEADER), (9, 5000, KEY), (9, 100, KEY)]);
        let long = vec![0; MAX_MESSAGE + 1];
        for (bytes, want) in [
            (&whole[..], "flv at byte 66: the timestamp steps back by 4900 ms"),
            (&whole[..whole.len() - 30], "flv at byte 62: ends inside a back pointer"),
            (b"\0\0\0 ftyp", "flv at byte 0: begins with [00, 00, 00] instead of \"FLV\""),
            (&file(&[(9, 0, HEADER)]), "no audio or video frame"),
            (&file(&[(9, 0, &long)]), "flv at byte 13: a message of 4193281 bytes; at most 4193280 can be"),
        ] {
            assert_eq!(read(bytes, "x.flv", false).expect_err("wrong").to_string(), want);
        }
    }
}
