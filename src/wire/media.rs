//! The first bytes of audio and video messages: legacy FLV bodies (flv E.4.2, E.4.3) and Enhanced RTMP v2. Nothing is copied and nothing decoded.

use std::fmt;

use super::message::type_id;

/// What a message carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A sequence header: what a decoder needs before the first frame. May be empty (Opus, AV1).
    Header,
    /// A coded frame.
    Frame,
    /// The end of a sequence.
    End,
    /// Video metadata: AMF name and value pairs, such as `colorInfo`.
    Metadata,
    /// Audio MultichannelConfig: which channel is which speaker.
    Channels,
    /// A video command: 0 seek start, 1 seek end.
    Command(u8),
    /// An empty audio message: silence follows (ertmp2, Enhanced Audio).
    Silence,
}

/// Which codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// A SoundFormat of flv E.4.2.1, for example 10, AAC.
    Audio(u8),
    /// A CodecID of flv E.4.3.1, for example 7, AVC.
    Video(u8),
    /// Four ASCII bytes when right.
    FourCc([u8; 4]),
}

impl Codec {
    /// AAC in a legacy body.
    pub const AAC: Codec = Codec::Audio(10);
    /// AVC in a legacy body.
    pub const AVC: Codec = Codec::Video(7);

    // ertmp2, ExVideoTagBody: only these three have the 24-bit offset in CodedFrames.
    fn has_composition_time(self) -> bool {
        matches!(self, Codec::FourCc(cc) if [*b"avc1", *b"hvc1", *b"vvc1"].contains(&cc))
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Codec::Audio(0) => f.write_str("pcm"),
            Codec::Audio(1) => f.write_str("adpcm"),
            Codec::Audio(2 | 14) => f.write_str("mp3"),
            Codec::Audio(3) => f.write_str("pcm-le"),
            Codec::Audio(4..=6) => f.write_str("nellymoser"),
            Codec::Audio(7) => f.write_str("g711-alaw"),
            Codec::Audio(8) => f.write_str("g711-mulaw"),
            Codec::Audio(10) => f.write_str("aac"),
            Codec::Audio(11) => f.write_str("speex"),
            Codec::Audio(n) => write!(f, "audio-{n}"),
            Codec::Video(2) => f.write_str("h263"),
            Codec::Video(3) => f.write_str("screen"),
            Codec::Video(4 | 5) => f.write_str("vp6"),
            Codec::Video(6) => f.write_str("screen2"),
            Codec::Video(7) => f.write_str("avc"),
            Codec::Video(n) => write!(f, "video-{n}"),
            Codec::FourCc(cc) => write!(f, "{}", cc.escape_ascii()),
        }
    }
}

/// How tracks share a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Multitrack {
    /// One track with its id, no size.
    One,
    /// Several of one codec.
    Many,
    /// Several, each with its FourCC.
    ManyCodecs,
}

/// The head of an audio or video message; its tracks are read by [`Media::tracks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Media<'a> {
    /// What it carries, every track of it.
    pub kind: Kind,
    /// Video of frame type 1 (key frame) or 4 (generated key frame); never set for audio. Sequence headers have it too.
    pub key: bool,
    /// The codec; `None` where there is none (silence, commands) or each track has its own.
    pub codec: Option<Codec>,
    /// ModEx TimestampOffsetNano: nanoseconds to add to the timestamp.
    pub nanos: Option<u32>,
    /// Whether the message has tracks with ids.
    pub multitrack: Option<Multitrack>,
    /// Whether coded frames of certain codecs begin with a 24-bit composition time.
    composition: bool,
    rest: Reader<'a>,
}

/// One track of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Track<'a> {
    /// Its id; 0 where the message has no tracks.
    pub id: u8,
    /// Its codec.
    pub codec: Option<Codec>,
    /// Presentation time minus the message's time, in milliseconds; 0 where none is sent.
    pub composition_time: i32,
    /// What follows the heads.
    pub data: &'a [u8],
}

/// Why a message's head does not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("media at byte {offset}: {kind}")]
pub struct Error {
    /// Offset from the start of the payload, in bytes.
    pub offset: usize,
    /// What is wrong there.
    pub kind: ErrorKind,
}

/// What is wrong with a message's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ErrorKind {
    /// The payload ends there.
    #[error("ends inside {0}")]
    Truncated(&'static str),
    /// A reserved packet type, extended or of AVC or AAC.
    #[error("reserved packet type {0}")]
    PacketType(u8),
    /// Only 0, 1 and 2 are defined.
    #[error("reserved multitrack type {0}")]
    MultitrackType(u8),
    /// ertmp2: the packet type inside Multitrack MUST NOT be Multitrack.
    #[error("multitrack inside multitrack")]
    Nested,
    /// ertmp2: the data of TimestampOffsetNano MUST have 3 bytes at least.
    #[error("nanosecond offset of {0} bytes, 3 are needed")]
    NanoOffset(usize),
}

/// Whether this message is one audio or video frame: headers, metadata, commands, silence and what cannot be read are none.
pub fn is_coded_frame(type_id: u8, payload: &[u8]) -> bool {
    kind(type_id, payload) == Some(Kind::Frame)
}

/// Whether this message is a sequence header, audio or video.
pub fn is_sequence_header(type_id: u8, payload: &[u8]) -> bool {
    kind(type_id, payload) == Some(Kind::Header)
}

/// Whether this message is a coded video frame that decoding can begin with.
pub fn is_keyframe(type_id: u8, payload: &[u8]) -> bool {
    type_id == type_id::VIDEO
        && Media::video(payload).is_ok_and(|media| media.kind == Kind::Frame && media.key)
}

/// Where the NAL units of a legacy AVC body begin: behind its head and the composition time (flv E.4.3.1).
pub const AVC_NALS: usize = 5;

/// The NAL units of a legacy AVC frame, where they fill it; each has four bytes of length before it, as the sample header says.
pub fn nal_units(payload: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    let body = payload.get(AVC_NALS..).filter(|_| matches!(payload[0] & 0x0F, 7) && payload[1] == 1)?;
    let mut rest = body;
    while !rest.is_empty() {
        rest = first_nal_unit(rest)?.1;
    }
    let mut rest = body;
    Some(std::iter::from_fn(move || {
        let (nal, behind) = first_nal_unit(rest)?;
        rest = behind;
        Some(nal)
    }))
}

/// And what is behind it.
fn first_nal_unit(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, behind) = bytes.split_first_chunk::<4>()?;
    behind.split_at_checked(u32::from_be_bytes(*len) as usize)
}

/// h264 7.4.1: whether this NAL unit is a slice, of an IDR picture or not.
pub fn is_slice(nal: &[u8]) -> bool {
    nal.first().is_some_and(|head| matches!(head & 0x1F, 1 | 5))
}

/// What the message carries, if it is of audio or video and its head can be read.
pub fn kind(type_id: u8, payload: &[u8]) -> Option<Kind> {
    let media = match type_id {
        type_id::AUDIO => Media::audio(payload),
        type_id::VIDEO => Media::video(payload),
        _ => return None,
    };
    media.ok().map(|media| media.kind)
}

impl<'a> Media<'a> {
    fn new(kind: Kind, codec: Option<Codec>, rest: Reader<'a>) -> Media<'a> {
        Media { kind, key: false, codec, nanos: None, multitrack: None, composition: false, rest }
    }

    /// The head of an audio message.
    ///
    /// # Errors
    /// Where the payload ends too early or a reserved value stands.
    pub fn audio(payload: &'a [u8]) -> Result<Media<'a>, Error> {
        let mut r = Reader { bytes: payload, at: 0 };
        if payload.is_empty() {
            return Ok(Media::new(Kind::Silence, None, r));
        }
        let first = r.u8("the first byte")?;
        match first >> 4 {
            9 => Media::extended(r, first & 0x0F, &AUDIO),
            // flv E.4.2.2: 0 is the AudioSpecificConfig, 1 a raw frame.
            10 => match r.u8("the AAC packet type")? {
                0 => Ok(Media::new(Kind::Header, Some(Codec::AAC), r)),
                1 => Ok(Media::new(Kind::Frame, Some(Codec::AAC), r)),
                other => r.fail_back(1, ErrorKind::PacketType(other)),
            },
            format => Ok(Media::new(Kind::Frame, Some(Codec::Audio(format)), r)),
        }
    }

    /// The head of a video message.
    ///
    /// # Errors
    /// Where the payload ends too early or a reserved value stands.
    pub fn video(payload: &'a [u8]) -> Result<Media<'a>, Error> {
        let mut r = Reader { bytes: payload, at: 0 };
        let first = r.u8("the first byte")?;
        let frame_type = first >> 4 & 0x07;
        let media = if first & 0x80 != 0 {
            Media::extended(r, first & 0x0F, &Extension { command: frame_type == 5, ..VIDEO })?
        } else if frame_type == 5 {
            Media::new(Kind::Command(r.u8("the video command")?), None, r)
        } else if first & 0x0F == 7 {
            let kind = match r.u8("the AVC packet type")? {
                0 => Kind::Header,
                1 => Kind::Frame,
                2 => Kind::End,
                other => return r.fail_back(1, ErrorKind::PacketType(other)),
            };
            // flv E.4.3.1: every AVC body has the field; checked here, read with the track.
            r.ahead(3, "the composition time")?;
            Media { composition: true, ..Media::new(kind, Some(Codec::AVC), r) }
        } else {
            Media::new(Kind::Frame, Some(Codec::Video(first & 0x0F)), r)
        };
        let key = matches!(frame_type, 1 | 4) && matches!(media.kind, Kind::Frame | Kind::Header);
        Ok(Media { key, ..media })
    }

    // ertmp2, ExAudioTagHeader and ExVideoTagHeader: both from behind the first byte.
    fn extended(mut r: Reader<'a>, mut packet: u8, ext: &Extension) -> Result<Media<'a>, Error> {
        let mut nanos = None;
        while packet == MOD_EX {
            let (next, offset) = mod_ex(&mut r)?;
            packet = next;
            nanos = offset.or(nanos);
        }
        // ertmp2: a command has one byte, no FourCC and no body; for Metadata the frame type is ignored.
        if ext.command && packet != VIDEO_METADATA {
            let command = Kind::Command(r.u8("the video command")?);
            return Ok(Media { nanos, ..Media::new(command, None, r) });
        }
        let mut multitrack = None;
        if packet == ext.multitrack {
            let byte = r.u8("the multitrack type")?;
            packet = byte & 0x0F;
            multitrack = Some(match byte >> 4 {
                0 => Multitrack::One,
                1 => Multitrack::Many,
                2 => Multitrack::ManyCodecs,
                other => return r.fail_back(1, ErrorKind::MultitrackType(other)),
            });
            if packet == ext.multitrack {
                return r.fail_back(1, ErrorKind::Nested);
            }
        }
        let Some(kind) = (ext.kind)(packet) else {
            return r.fail_back(1, ErrorKind::PacketType(packet));
        };
        let codec = match multitrack {
            Some(Multitrack::ManyCodecs) => None,
            _ => Some(r.four_cc()?),
        };
        let composition = ext.multitrack == VIDEO.multitrack && packet == CODED_FRAMES;
        let media = Media { nanos, multitrack, composition, ..Media::new(kind, codec, r) };
        if composition && multitrack.is_none() && codec.is_some_and(Codec::has_composition_time) {
            r.ahead(3, "the composition time")?;
        }
        Ok(media)
    }

    /// The id of the one track that the message is of; `None` where it has no ids, or several tracks.
    pub fn only_track(&self) -> Option<u8> {
        let mut tracks = self.tracks();
        (self.multitrack == Some(Multitrack::One))
            .then(|| tracks.next()?.ok())
            .flatten()
            .map(|track| track.id)
    }

    /// The tracks, one after the other; a message without track ids is one. After an error there are no more.
    pub fn tracks(&self) -> Tracks<'a> {
        Tracks { media: *self, done: false }
    }
}

/// What tells the extended head of audio from that of video.
struct Extension {
    multitrack: u8,
    command: bool,
    kind: fn(u8) -> Option<Kind>,
}

const CODED_FRAMES: u8 = 1;
const VIDEO_METADATA: u8 = 4;
const MOD_EX: u8 = 7;

const AUDIO: Extension = Extension {
    multitrack: 5,
    command: false,
    kind: |packet| match packet {
        0 => Some(Kind::Header),
        CODED_FRAMES => Some(Kind::Frame),
        2 => Some(Kind::End),
        4 => Some(Kind::Channels),
        _ => None,
    },
};

const VIDEO: Extension = Extension {
    multitrack: 6,
    command: false,
    kind: |packet| match packet {
        // 5 is the header of AV1 as MPEG-2 TS carries it.
        0 | 5 => Some(Kind::Header),
        // 3 is a frame whose composition time is 0 and not sent.
        CODED_FRAMES | 3 => Some(Kind::Frame),
        2 => Some(Kind::End),
        VIDEO_METADATA => Some(Kind::Metadata),
        _ => None,
    },
};

/// One ModEx block: the packet type that follows it, and the nanosecond offset if it is one.
fn mod_ex(r: &mut Reader<'_>) -> Result<(u8, Option<u32>), Error> {
    let mut size = usize::from(r.u8("the size of ModEx")?) + 1;
    // ertmp2: the largest 8-bit size stands for a 16-bit one behind it.
    if size == 256 {
        size = usize::from(u16::from_be_bytes(r.array("the size of ModEx")?)) + 1;
    }
    let at = r.at;
    let data = r.take(size, "the data of ModEx")?;
    let byte = r.u8("the type of ModEx")?;
    let nanos = match (byte >> 4, data) {
        (0, [a, b, c, ..]) => Some(u32::from_be_bytes([0, *a, *b, *c])),
        (0, short) => return Err(Error { offset: at, kind: ErrorKind::NanoOffset(short.len()) }),
        _ => None,
    };
    Ok((byte & 0x0F, nanos))
}

/// Iterator over the tracks of a message.
#[derive(Debug, Clone)]
pub struct Tracks<'a> {
    media: Media<'a>,
    done: bool,
}

impl<'a> Tracks<'a> {
    fn track(&mut self) -> Result<Track<'a>, Error> {
        let Media { kind, multitrack, mut codec, composition, .. } = self.media;
        let r = &mut self.media.rest;
        let mut id = 0;
        let mut len = r.bytes.len() - r.at;
        if let Some(multitrack) = multitrack {
            if multitrack == Multitrack::ManyCodecs {
                codec = Some(r.four_cc()?);
            }
            id = r.u8("a track's id")?;
            len = r.bytes.len() - r.at;
            if multitrack != Multitrack::One {
                let [a, b, c] = r.array("a track's size")?;
                len = u32::from_be_bytes([0, a, b, c]) as usize;
            }
        }
        let at = r.at;
        let mut data = Reader { bytes: &r.bytes[..at + r.take(len, "a track's data")?.len()], at };
        let mut composition_time = 0;
        if composition && (codec == Some(Codec::AVC) || codec.is_some_and(Codec::has_composition_time)) {
            let [a, b, c] = data.array("the composition time")?;
            // flv E.4.3.1: it is 0 unless NALUs follow.
            if kind == Kind::Frame {
                composition_time = i32::from_be_bytes([a, b, c, 0]) >> 8;
            }
        }
        Ok(Track { id, codec, composition_time, data: &data.bytes[data.at..] })
    }
}

impl<'a> Iterator for Tracks<'a> {
    type Item = Result<Track<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let track = self.track();
        let empty = self.media.rest.at == self.media.rest.bytes.len();
        self.done = track.is_err() || empty || self.media.multitrack.is_none();
        Some(track)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// An error about what lies `back` bytes before here.
    fn fail_back<T>(&self, back: usize, kind: ErrorKind) -> Result<T, Error> {
        Err(Error { offset: self.at - back, kind })
    }

    fn ahead(&self, n: usize, what: &'static str) -> Result<&'a [u8], Error> {
        let ahead = self.bytes[self.at..].get(..n);
        ahead.ok_or(Error { offset: self.at, kind: ErrorKind::Truncated(what) })
    }

    fn take(&mut self, n: usize, what: &'static str) -> Result<&'a [u8], Error> {
        let taken = self.ahead(n, what)?;
        self.at += n;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    fn u8(&mut self, what: &'static str) -> Result<u8, Error> {
        self.array(what).map(|[byte]| byte)
    }

    fn four_cc(&mut self) -> Result<Codec, Error> {
        self.array("the FourCC").map(Codec::FourCc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// kind key codec nanos multitrack [id:codec:composition:data]...
    fn text(media: Result<Media<'_>, Error>) -> String {
        let media = match media {
            Ok(media) => media,
            Err(error) => return error.to_string(),
        };
        let mut text = format!("{:?}", media.kind);
        if media.key {
            text += " key";
        }
        if let Some(nanos) = media.nanos {
            text += &format!(" nanos={nanos}");
        }
        if let Some(multitrack) = media.multitrack {
            text += &format!(" {multitrack:?}");
        }
        for track in media.tracks() {
            text += &match track {
                Ok(Track { id, codec: Some(codec), composition_time, data }) => {
                    format!(" {id}:{codec}:{composition_time}:{data:02x?}")
                }
                Ok(Track { data, .. }) => format!(" {data:02x?}"),
                Err(error) => format!(" {error}"),
            };
        }
        text
    }

    fn check(read: fn(&[u8]) -> Result<Media<'_>, Error>, rows: &[(&[&[u8]], &str)]) {
        for (parts, expected) in rows {
            let payload = parts.concat();
            assert_eq!(&text(read(&payload)), expected, "{payload:02x?}");
        }
    }

    #[test]
    fn codecs_have_the_names_of_the_specification() {
        // flv E.4.2.1 and E.4.3.1; 9 and what is not listed have none.
        let names =
            |codec: fn(u8) -> Codec| (0..16).map(|n| codec(n).to_string()).collect::<Vec<_>>().join(" ");
        let audio = "pcm adpcm mp3 pcm-le nellymoser nellymoser nellymoser g711-alaw g711-mulaw audio-9 aac speex audio-12 audio-13 mp3 audio-15";
        let video = "video-0 video-1 h263 screen vp6 vp6 screen2 avc video-8 video-9 video-10 video-11 video-12 video-13 video-14 video-15";
        assert_eq!((names(Codec::Audio).as_str(), names(Codec::Video).as_str()), (audio, video));
    }

    #[test]
    fn legacy_audio() {
        check(
            |payload| Media::audio(payload),
            &[
                (&[&[]], "Silence []"),
                (&[&[0x2F, 1]], "Frame 0:mp3:0:[01]"),
                (&[&[0xB2]], "Frame 0:speex:0:[]"),
                (&[&[0xAF, 0, 0x12, 0x10]], "Header 0:aac:0:[12, 10]"),
                (&[&[0xAF, 1, 0x21]], "Frame 0:aac:0:[21]"),
                (&[&[0xAF]], "media at byte 1: ends inside the AAC packet type"),
                (&[&[0xAF, 2]], "media at byte 1: reserved packet type 2"),
            ],
        );
    }

    #[test]
    fn legacy_video() {
        check(
            |payload| Media::video(payload),
            &[
                (&[&[]], "media at byte 0: ends inside the first byte"),
                (&[&[0x12, 5]], "Frame key 0:h263:0:[05]"),
                (&[&[0x22]], "Frame 0:h263:0:[]"),
                (&[&[0x32]], "Frame 0:h263:0:[]"),
                (&[&[0x44]], "Frame key 0:vp6:0:[]"),
                (&[&[0x0F]], "Frame 0:video-15:0:[]"),
                (&[&[0x17, 0, 0, 0, 0, 1]], "Header key 0:avc:0:[01]"),
                (&[&[0x17, 0, 0, 0, 9]], "Header key 0:avc:0:[]"),
                (&[&[0x17, 1, 0, 0, 80, 7]], "Frame key 0:avc:80:[07]"),
                (&[&[0x27, 1, 0xFF, 0xFF, 0xFE]], "Frame 0:avc:-2:[]"),
                (&[&[0x17, 2, 0, 0, 0]], "End 0:avc:0:[]"),
                (&[&[0x17, 3, 0, 0, 0]], "media at byte 1: reserved packet type 3"),
                (&[&[0x17]], "media at byte 1: ends inside the AVC packet type"),
                (&[&[0x17, 1, 0, 0]], "media at byte 2: ends inside the composition time"),
                (&[&[0x57, 1]], "Command(1) []"),
                (&[&[0x52]], "media at byte 1: ends inside the video command"),
            ],
        );
    }

    #[test]
    fn extended_audio() {
        check(
            |payload| Media::audio(payload),
            &[
                (&[&[0x90], b"Opus"], "Header 0:Opus:0:[]"),
                (&[&[0x91], b"Opus", &[9]], "Frame 0:Opus:0:[09]"),
                (&[&[0x92], b"mp4a"], "End 0:mp4a:0:[]"),
                (&[&[0x94], b"fLaC", &[1, 2]], "Channels 0:fLaC:0:[01, 02]"),
                (&[&[0x93], b"Opus"], "media at byte 0: reserved packet type 3"),
                (&[&[0x91], b"Opu"], "media at byte 1: ends inside the FourCC"),
                (&[&[0x95, 0x01], b"ac-3", &[2, 7]], "Frame One 2:ac-3:0:[07]"),
                (&[&[0x95, 0x05], b"Opus"], "media at byte 1: multitrack inside multitrack"),
            ],
        );
    }

    #[test]
    fn extended_video() {
        check(
            |payload| Media::video(payload),
            &[
                (&[&[0x90], b"hvc1", &[1]], "Header key 0:hvc1:0:[01]"),
                (&[&[0x91], b"hvc1", &[0, 0, 40, 1]], "Frame key 0:hvc1:40:[01]"),
                (&[&[0xA1], b"avc1", &[0xFF, 0xFF, 0xFF]], "Frame 0:avc1:-1:[]"),
                (&[&[0xA3], b"vvc1", &[1, 2]], "Frame 0:vvc1:0:[01, 02]"),
                (&[&[0x91], b"av01", &[1, 2]], "Frame key 0:av01:0:[01, 02]"),
                (&[&[0x91], b"zzzz"], "Frame key 0:zzzz:0:[]"),
                (&[&[0x92], b"hvc1"], "End 0:hvc1:0:[]"),
                (&[&[0x94], b"hvc1", &[2]], "Metadata 0:hvc1:0:[02]"),
                // The frame type of metadata is ignored, a command's too.
                (&[&[0xD4], b"hvc1", &[2]], "Metadata 0:hvc1:0:[02]"),
                (&[&[0x95], b"av01", &[3]], "Header key 0:av01:0:[03]"),
                (&[&[0xD1, 0x01]], "Command(1) []"),
                (&[&[0xD1]], "media at byte 1: ends inside the video command"),
                (&[&[0x98], b"hvc1"], "media at byte 0: reserved packet type 8"),
                (&[&[0x91], b"hv"], "media at byte 1: ends inside the FourCC"),
                (&[&[0x91], b"hvc1", &[0, 0]], "media at byte 5: ends inside the composition time"),
            ],
        );
    }

    #[test]
    fn mod_ex_blocks() {
        let long = |size: &[u8], n: usize| [&[0x97], size, &vec![0xEE; n], &[0x11], b"av01"].concat();
        check(
            |payload| Media::video(payload),
            &[
                (
                    &[&[0x97, 2, 0x0F, 0x42, 0x3F, 0x01], b"av01", &[7]],
                    "Frame key nanos=999999 0:av01:0:[07]",
                ),
                // Two blocks, of which the second is of an unknown type.
                (&[&[0xA7, 2, 0, 0, 5, 0x07, 0, 0xEE, 0x93], b"hvc1"], "Frame nanos=5 0:hvc1:0:[]"),
                (&[&long(&[0xFE], 255)], "Frame key 0:av01:0:[]"),
                (&[&long(&[0xFF, 0x00, 0xFF], 256)], "Frame key 0:av01:0:[]"),
                (&[&long(&[0xFF, 0x01, 0x2B], 300)], "Frame key 0:av01:0:[]"),
                (&[&long(&[0xFF, 0xFF, 0xFF], 65536)], "Frame key 0:av01:0:[]"),
                (
                    &[&[0x97, 1, 0, 0, 0x01], b"av01"],
                    "media at byte 2: nanosecond offset of 2 bytes, 3 are needed",
                ),
                (&[&[0x97]], "media at byte 1: ends inside the size of ModEx"),
                (&[&[0x97, 0xFF, 1]], "media at byte 2: ends inside the size of ModEx"),
                (&[&[0x97, 3, 1]], "media at byte 2: ends inside the data of ModEx"),
                (&[&[0x97, 0, 1]], "media at byte 3: ends inside the type of ModEx"),
                // A command behind ModEx.
                (&[&[0xD7, 0, 0, 0x11, 0]], "Command(0) []"),
            ],
        );
        let chain = [&[0x97][..], &[0, 0, 0x17].repeat(100_000)].concat();
        assert_eq!(text(Media::video(&chain)), "media at byte 300001: ends inside the size of ModEx");
    }

    #[test]
    fn multitrack_messages() {
        check(
            |payload| Media::video(payload),
            &[
                (&[&[0x96, 0x00], b"hvc1", &[255, 1]], "Header key One 255:hvc1:0:[01]"),
                (&[&[0x96, 0x01], b"hvc1", &[1, 0, 0, 9, 1]], "Frame key One 1:hvc1:9:[01]"),
                (
                    &[&[0xA6, 0x11], b"avc1", &[0, 0, 0, 4, 0, 0, 5, 1], &[1, 0, 0, 3, 0, 0, 6]],
                    "Frame Many 0:avc1:5:[01] 1:avc1:6:[]",
                ),
                (
                    &[&[0x96, 0x21], b"av01", &[0, 0, 0, 1, 7], b"hvc1", &[1, 0, 0, 3, 0, 0, 6]],
                    "Frame key ManyCodecs 0:av01:0:[07] 1:hvc1:6:[]",
                ),
                (&[&[0x96, 0x11], b"av01"], "Frame key Many media at byte 6: ends inside a track's id"),
                (
                    &[&[0x96, 0x11], b"av01", &[0, 0, 0]],
                    "Frame key Many media at byte 7: ends inside a track's size",
                ),
                (
                    &[&[0x96, 0x11], b"av01", &[0, 0xFF, 0xFF, 0xFF, 1]],
                    "Frame key Many media at byte 10: ends inside a track's data",
                ),
                // The composition time may not reach into the next track.
                (
                    &[&[0x96, 0x11], b"hvc1", &[0, 0, 0, 2, 1, 2, 3, 4]],
                    "Frame key Many media at byte 10: ends inside the composition time",
                ),
                (
                    &[&[0x96, 0x13], b"av01", &[0, 0, 0, 0, 9]],
                    "Frame key Many 0:av01:0:[] media at byte 11: ends inside a track's size",
                ),
                (&[&[0x96, 0x06], b"hvc1"], "media at byte 1: multitrack inside multitrack"),
                (&[&[0x96, 0x07], b"hvc1"], "media at byte 1: reserved packet type 7"),
                (&[&[0x96, 0x31], b"hvc1"], "media at byte 1: reserved multitrack type 3"),
                (&[&[0x96]], "media at byte 1: ends inside the multitrack type"),
            ],
        );
    }

    #[test]
    fn nal_units_fill_an_avc_frame() {
        const HEAD: [u8; 5] = [0x17, 1, 0, 0, 0];
        type Row<'a> = (&'a [&'a [u8]], Option<&'a [&'a [u8]]>);
        let rows: [Row<'_>; 8] = [
            (&[&HEAD], Some(&[])),
            (&[&HEAD, &[0, 0, 0, 2, 0x65, 7, 0, 0, 0, 0]], Some(&[&[0x65, 7], &[]])),
            (&[&HEAD, &[0, 0, 0, 1, 0x65, 7]], None),
            (&[&HEAD, &[0, 0, 0, 3, 0x65, 7]], None),
            (&[&HEAD, &[0xFF, 0xFF, 0xFF, 0xFF, 0x65]], None),
            (&[&[0x17, 0, 0, 0, 0]], None),
            (&[&[0x12, 1, 0, 0, 0]], None),
            (&[&HEAD[..4]], None),
        ];
        for (payload, expected) in rows {
            let payload = payload.concat();
            let found: Option<Vec<&[u8]>> = nal_units(&payload).map(Iterator::collect);
            assert_eq!(found.as_deref(), expected, "{payload:02x?}");
        }
    }

    #[test]
    fn frames_headers_and_key_frames() {
        let rows: [(u8, &[u8], [bool; 3]); 13] = [
            (8, &[], [false; 3]),
            (8, &[0xAF, 0, 1], [false, true, false]),
            (8, &[0xAF, 1, 1], [true, false, false]),
            (8, &[0x2F, 0xFF], [true, false, false]),
            (9, &[0x17, 0, 0, 0, 0], [false, true, false]),
            (9, &[0x17, 1, 0, 0, 0], [true, false, true]),
            (9, &[0x27, 1, 0, 0, 0], [true, false, false]),
            (9, &[0x52, 0], [false; 3]),
            (9, &[0x94, b'h', b'v', b'c', b'1'], [false; 3]),
            (9, &[0xA3, b'h', b'v', b'c', b'1'], [true, false, false]),
            (9, &[0x93, b'h', b'v', b'c', b'1'], [true, false, true]),
            (9, &[], [false; 3]),
            (18, &[0x17, 1, 0, 0, 0], [false; 3]),
        ];
        for (type_id, payload, expected) in rows {
            let found = [is_coded_frame, is_sequence_header, is_keyframe].map(|is| is(type_id, payload));
            assert_eq!(found, expected, "{type_id} {payload:02x?}");
        }
    }
}
