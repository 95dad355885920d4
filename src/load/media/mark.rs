//! Where a stamp can stand in a coded frame so that relays keep it and decoders pass over it.

use super::stamp::{AUDIO_LEAD, Stamp, VIDEO_LEAD};
use crate::wire::media::{Codec, Kind, Media};
use crate::wire::message::type_id;

/// A stamp further in is not looked for.
const FURTHEST: usize = 400;
// av1 5.3.1, 5.8.2: a metadata OBU with a size, of ITU-T T.35 with a country code of the extension table that nobody has. One byte of trailing bits ends it.
const AV1_LEAD: [u8; 5] = [5 << 3 | 2, Stamp::LEN as u8 + 4, 4, 0xFF, 0xFF];
/// h264 7.3.2.3, h265 7.3.2.4, av1 5.3.4: what ends the unit around the stamp.
const TRAIL: &[u8] = &[0x80];

/// What sequence headers said that a stamp depends on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Marker {
    /// Bytes of a NAL unit's length.
    nal_length: Option<usize>,
    /// Frames of it begin with syntactic elements.
    aac: bool,
}

/// A place: behind so many bytes of the payload, this goes before the stamp and that behind it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub at: usize,
    pub lead: Vec<u8>,
    pub trail: &'static [u8],
}

impl Marker {
    /// Learns from a sequence header.
    pub fn learn(&mut self, type_id: u8, payload: &[u8]) {
        let Some((codec, data)) = body(type_id, payload, Kind::Header) else { return };
        match codec {
            // iso14496-15 5.3.3.1.2, 8.3.3.1.2: lengthSizeMinusOne.
            Codec::AVC | AVC1 => self.nal_length = data.get(4).map(|byte| usize::from(byte & 3) + 1),
            HEVC => self.nal_length = data.get(21).map(|byte| usize::from(byte & 3) + 1),
            // iso14496-3 1.6.2.1: main, LC, SSR, LTP, with SBR, with PS; others have other frames.
            Codec::AAC | MP4A => {
                self.aac = data.first().is_some_and(|byte| matches!(byte >> 3, 1..=5 | 29));
            }
            _ => {}
        }
    }

    /// Where a stamp goes in this frame; `None` where its codec has no place for one.
    pub fn place(&self, type_id: u8, payload: &[u8]) -> Option<Place> {
        let (codec, data) = body(type_id, payload, Kind::Frame)?;
        let head = payload.len() - data.len();
        let place = match codec {
            Codec::AVC | AVC1 => avc(data, self.nal_length?)?,
            HEVC => hevc(data, self.nal_length?)?,
            AV1 => Place { at: av1(data)?, lead: AV1_LEAD.to_vec(), trail: TRAIL },
            // iso14496-3 4.4.2.1: a program config element (5) has to come first.
            Codec::AAC | MP4A if self.aac && data.first().is_some_and(|byte| byte >> 5 != 5) => {
                Place { at: 0, lead: AUDIO_LEAD.to_vec(), trail: &[] }
            }
            _ => return None,
        };
        let place = Place { at: head + place.at, ..place };
        (place.at + place.lead.len() <= FURTHEST).then_some(place)
    }
}

const AVC1: Codec = Codec::FourCc(*b"avc1");
const HEVC: Codec = Codec::FourCc(*b"hvc1");
const AV1: Codec = Codec::FourCc(*b"av01");
const MP4A: Codec = Codec::FourCc(*b"mp4a");

/// Codec and data of a message that is of one track.
fn body(type_id: u8, payload: &[u8], kind: Kind) -> Option<(Codec, &[u8])> {
    let media = match type_id {
        type_id::VIDEO => Media::video(payload),
        _ => Media::audio(payload),
    };
    let media = media.ok().filter(|media| media.kind == kind && media.multitrack.is_none())?;
    let track = media.tracks().next()?.ok()?;
    Some((track.codec?, track.data))
}

// h264 7.4.1.2.3: behind the access unit delimiter and parameter sets; an SEI unit with a buffering period is the first of its kind.
fn avc(data: &[u8], length: usize) -> Option<Place> {
    let at = nals(data, length).take_while(|nal| match nal.bytes[0] & 0x1F {
        7..=9 => true,
        6 => nal.bytes.get(1) == Some(&0),
        _ => false,
    });
    let at = at.last().map_or(0, |nal| nal.end);
    let lead =
        [&length_of(VIDEO_LEAD.len() - 4 + Stamp::LEN + TRAIL.len(), length), &VIDEO_LEAD[4..]].concat();
    vcl(data, length, |byte| matches!(byte & 0x1F, 1..=5))?;
    Some(Place { at, lead, trail: TRAIL })
}

// h265 7.4.2.4.4: as in h264. The unit is of the access unit's temporal layer (7.4.2.2), which its first slice says.
fn hevc(data: &[u8], length: usize) -> Option<Place> {
    let at = nals(data, length).take_while(|nal| match nal.bytes[0] >> 1 & 0x3F {
        32..=35 => true,
        39 => nal.bytes.get(2) == Some(&0),
        _ => false,
    });
    let at = at.last().map_or(0, |nal| nal.end);
    let layer = *vcl(data, length, |byte| byte >> 1 & 0x3F < 32)?.get(1)? & 7;
    let unit = [39 << 1, layer, 5, Stamp::LEN as u8];
    let lead = [&length_of(unit.len() + Stamp::LEN + TRAIL.len(), length), &unit[..]].concat();
    Some(Place { at, lead, trail: TRAIL })
}

/// The first unit of a coded picture.
fn vcl(data: &[u8], length: usize, is_one: fn(u8) -> bool) -> Option<&[u8]> {
    nals(data, length).find(|nal| is_one(nal.bytes[0])).map(|nal| nal.bytes)
}

struct Nal<'a> {
    bytes: &'a [u8],
    end: usize,
}

/// The units of an access unit, as far as they are whole and not empty.
fn nals(data: &[u8], length: usize) -> impl Iterator<Item = Nal<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let head = data.get(at..at + length)?;
        let len = head.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
        let bytes = data.get(at + length..)?.get(..len).filter(|bytes| !bytes.is_empty())?;
        at += length + len;
        Some(Nal { bytes, end: at })
    })
}

fn length_of(len: usize, length: usize) -> Vec<u8> {
    (len as u32).to_be_bytes()[4 - length..].to_vec()
}

// av1 7.5: behind the temporal delimiter (2) and the sequence header (1).
fn av1(data: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(&head) = data.get(at) {
        // av1 5.3.2: type, extension flag, size flag.
        if !matches!(head >> 3 & 0x0F, 1 | 2) || head & 2 == 0 {
            break;
        }
        let mut size_at = at + 1 + usize::from(head >> 2 & 1);
        let (mut size, mut shift) = (0, 0);
        loop {
            let byte = *data.get(size_at)?;
            size |= usize::from(byte & 0x7F) << shift;
            (size_at, shift) = (size_at + 1, shift + 7);
            if byte & 0x80 == 0 {
                break;
            }
            if shift > 28 {
                return None;
            }
        }
        at = size_at.checked_add(size)?;
    }
    (at < data.len()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AVC_HEADER: &[u8] = &[0x17, 0, 0, 0, 0, 1, 66, 0, 10, 0xFF, 0xE0, 0];
    const AAC_HEADER: &[u8] = &[0xAF, 0, 0x12, 0x08];

    fn place(header: &[u8], type_id: u8, frame: &[u8]) -> Option<(usize, Vec<u8>)> {
        let mut marker = Marker::default();
        marker.learn(type_id, header);
        marker.place(type_id, frame).map(|place| (place.at, place.lead))
    }

    #[test]
    fn stamps_stand_where_each_codec_has_them() {
        let hevc_header = [&[0x90][..], b"hvc1", &[0; 21], &[0xFD, 0]].concat();
        let hevc = |nals: &[u8]| [&[0xA3][..], b"hvc1", nals].concat();
        let av1 = |obus: &[u8]| [&[0xA1][..], b"av01", obus].concat();
        let sei = vec![0, 0, 0, 55, 6, 5, 51];
        let obu = AV1_LEAD.to_vec();
        let none = &[][..];
        type Row<'a> = (&'a str, &'a [u8], u8, Vec<u8>, Option<(usize, Vec<u8>)>);
        let rows: Vec<Row<'_>> = vec![
            ("slice", AVC_HEADER, 9, vec![0x27, 1, 0, 0, 0, 0, 0, 0, 2, 0x41, 9], Some((5, sei.clone()))),
            (
                "delimiter, SPS, PPS, buffering period, slice",
                AVC_HEADER,
                9,
                [&[0x17, 1, 0, 0, 0][..], &[0, 0, 0, 2, 9, 0xF0], &[0, 0, 0, 1, 7], &[0, 0, 0, 1, 8]]
                    .iter()
                    .chain(&[&[0, 0, 0, 2, 6, 0][..], &[0, 0, 0, 1, 0x65]])
                    .flat_map(|part| part.iter().copied())
                    .collect(),
                Some((27, sei.clone())),
            ),
            (
                "another SEI",
                AVC_HEADER,
                9,
                vec![0x17, 1, 0, 0, 0, 0, 0, 0, 2, 6, 5, 0, 0, 0, 1, 0x65],
                Some((5, sei)),
            ),
            ("no slice", AVC_HEADER, 9, vec![0x17, 1, 0, 0, 0, 0, 0, 0, 1, 7], None),
            ("no header", none, 9, vec![0x27, 1, 0, 0, 0, 0, 0, 0, 2, 0x41, 9], None),
            (
                "lengths of two bytes, the third temporal layer",
                &hevc_header,
                9,
                hevc(&[0, 3, 35 << 1, 1, 0x50, 0, 3, 2, 3, 9]),
                Some((10, vec![0, 56, 78, 3, 5, 51])),
            ),
            ("tracks", &hevc_header, 9, [&[0xA6, 0x01][..], b"hvc1", &[0, 0, 3, 2, 3, 9]].concat(), None),
            ("sequence header OBU", none, 9, av1(&[0x0A, 1, 0, 0x32, 1, 0]), Some((8, obu.clone()))),
            ("no size", none, 9, av1(&[0x30, 1]), Some((5, obu))),
            ("a size without end", none, 9, av1(&[0x0A, 255, 255, 255, 255, 255, 255, 1]), None),
            ("aac", AAC_HEADER, 8, vec![0xAF, 1, 1, 2], Some((2, AUDIO_LEAD.to_vec()))),
            ("a program config first", AAC_HEADER, 8, vec![0xAF, 1, 0xA0, 2], None),
            ("aac of another kind", &[0xAF, 0, 0xB8, 0], 8, vec![0xAF, 1, 1, 2], None),
            ("mp3", none, 8, vec![0x2F, 0xFF, 0xFB], None),
            ("vp9", none, 9, [&[0xA1][..], b"vp09", &[1]].concat(), None),
        ];
        for (name, header, type_id, frame, want) in rows {
            assert_eq!(place(header, type_id, &frame), want, "{name}");
            for len in 0..frame.len() {
                place(header, type_id, &frame[..len]);
            }
        }
    }
}
