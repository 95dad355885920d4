//! Sequence headers without what no decoder needs and an encoder may put text into: SEI among the parameter sets of AVC and HEVC, metadata behind
//! the sequence header of AV1, comments and pictures behind the stream info of FLAC. Lengths and all else stay, and what stands there afterwards
//! says nothing and is valid where there is room for it. A header with anything that none needs is not known.

use crate::wire::media::{Codec, Media};

/// Other codecs whose headers are kept, whole, where they have at most [`MAX_WHOLE`] bytes. Of codecs that are not named here nothing is known.
const WHOLE: [&[u8; 4]; 7] = [b"vp08", b"vp09", b"mp4a", b"Opus", b"ac-3", b"ec-3", b".mp3"];
/// Bytes in which these headers, and those of AAC, say all that they have to.
const MAX_WHOLE: usize = 64;

/// The message of a sequence header without texts; `None` where it is not one of a codec that is known.
pub fn without_texts(media: &Media<'_>, payload: &[u8]) -> Option<Vec<u8>> {
    if has_other_extensions(media, payload) {
        return None;
    }
    let mut out = payload.to_vec();
    for track in media.tracks() {
        let track = track.ok()?;
        let at = track.data.as_ptr() as usize - payload.as_ptr() as usize;
        let record = Record(out.get_mut(at..at + track.data.len())?);
        match track.codec? {
            Codec::AVC => avc(record),
            Codec::FourCc(code) if code == *b"avc1" => avc(record),
            Codec::FourCc(code) if code == *b"hvc1" => hevc(record),
            Codec::FourCc(code) if code == *b"av01" => av1(record),
            Codec::FourCc(code) if code == *b"fLaC" => flac(record),
            Codec::FourCc(code) if !WHOLE.contains(&&code) => None,
            Codec::FourCc(_) | Codec::AAC => (track.data.len() <= MAX_WHOLE).then_some(()),
            _ => None,
        }?;
    }
    Some(out)
}

/// Whether it has a ModEx other than one nanosecond offset of three bytes (ertmp2, TimestampOffsetNano).
fn has_other_extensions(media: &Media<'_>, payload: &[u8]) -> bool {
    const MOD_EX: u8 = 7;
    let packet = |byte: u8| byte & 0x0f;
    let is_extended = !matches!(media.codec, Some(Codec::AVC | Codec::AAC));
    is_extended
        && payload.first().is_some_and(|first| packet(*first) == MOD_EX)
        && !matches!(payload, [_, 2, _, _, _, next, ..] if next >> 4 == 0 && packet(*next) != MOD_EX)
}

/// AVCDecoderConfigurationRecord (iso 14496-15 5.3.3.1): two lists of NAL units, and of some profiles three bytes and a third.
fn avc(mut record: Record<'_>) -> Option<()> {
    let &mut [1, _, _, _, _] = record.take(5)? else { return None };
    avc_units(&mut record, 0x1f)?;
    avc_units(&mut record, 0xff)?;
    if record.0.len() > 3 {
        record.take(3)?;
        avc_units(&mut record, 0xff)?;
    }
    (record.0.len() <= 3).then_some(())
}

/// A list of NAL units behind their number, of which these bits count.
fn avc_units(record: &mut Record<'_>, mask: usize) -> Option<()> {
    for _ in 0..record.number(1)? & mask {
        let len = record.number(2)?;
        if let [head, body @ ..] = record.take(len)? {
            // h264 7.3.1, 7.4.1: the last five bits of the first byte are the type: SEI or a parameter set.
            match *head & 0x1f {
                6 => say_nothing(body),
                7 | 8 | 13 | 15 => {}
                _ => return None,
            }
        }
    }
    Some(())
}

/// HEVCDecoderConfigurationRecord (iso 14496-15 8.3.3.1): lists of NAL units, each of one type.
fn hevc(mut record: Record<'_>) -> Option<()> {
    if record.take(22)?[0] != 1 {
        return None;
    }
    for _ in 0..record.number(1)? {
        record.take(1)?;
        for _ in 0..record.number(2)? {
            let len = record.number(2)?;
            if let [head, _, body @ ..] = record.take(len)? {
                // h265 7.3.1.2, 7.4.2.2: six bits of the first byte are the type: a parameter set or SEI.
                match *head >> 1 & 0x3f {
                    32..=34 => {}
                    39 | 40 => say_nothing(body),
                    _ => return None,
                }
            }
        }
    }
    record.0.is_empty().then_some(())
}

/// SEI (h264 7.3.2.3, h265 7.3.5) becomes a filler payload, type 3: bytes 0xff.
fn say_nothing(body: &mut [u8]) {
    body.fill(0xff);
    let Some((stop, messages)) = body.split_last_mut() else { return };
    *stop = 0x80;
    // Where no size fills the room, an empty message stands before.
    let before = if messages.len() > 1 && messages.len() % 256 == 1 { 2 } else { 0 };
    messages[..before].copy_from_slice(&[3, 0][..before]);
    let len = messages.len() - before;
    if let [kind, _, ..] = &mut messages[before..] {
        // The size is the sum of bytes 0xff and a last one that is less.
        let bytes = (len - 2) / 256 + 1;
        *kind = 3;
        messages[before + bytes] = ((len - 1 - bytes) % 255) as u8;
    }
}

/// AV1CodecConfigurationRecord (av1-isobmff 2.3): four bytes, then OBUs.
fn av1(mut record: Record<'_>) -> Option<()> {
    if record.take(4)?[0] != 0x81 {
        return None;
    }
    while !record.0.is_empty() {
        // av1 5.3.2: type, whether there are an extension and a size.
        let head = record.number(1)?;
        record.take(head >> 2 & 1)?;
        let len = if head & 2 == 0 { record.0.len() } else { record.leb128()? };
        let body = record.take(len)?;
        match head >> 3 & 15 {
            1 => {}
            // Metadata becomes one of the reserved type 0, padding remains some.
            5 | 15 => {
                if let Some((stop, body)) = body.split_last_mut() {
                    body.fill(0);
                    *stop = 0x80;
                }
            }
            _ => return None,
        }
    }
    Some(())
}

/// Metadata blocks (rfc 9639 8): of those other than stream info and seek table becomes padding.
fn flac(mut record: Record<'_>) -> Option<()> {
    if record.take(4)? != b"fLaC" {
        return None;
    }
    while let Some(head) = record.take(4) {
        let [kind, a, b, c] = head else { return None };
        let (is_kept, len) = (matches!(*kind & 0x7f, 0 | 3), u32::from_be_bytes([0, *a, *b, *c]));
        if !is_kept {
            *kind = *kind & 0x80 | 1;
        }
        let block = record.take(len as usize)?;
        if !is_kept {
            block.fill(0);
        }
    }
    record.0.is_empty().then_some(())
}

/// What is left of a header.
struct Record<'a>(&'a mut [u8]);

impl<'a> Record<'a> {
    fn take(&mut self, len: usize) -> Option<&'a mut [u8]> {
        self.0.split_off_mut(..len)
    }

    /// Of so many bytes, the high one first.
    fn number(&mut self, bytes: usize) -> Option<usize> {
        Some(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// av1 4.10.5: seven bits a byte, the lower ones first.
    fn leb128(&mut self) -> Option<usize> {
        let mut number = 0;
        for i in 0..4 {
            let byte = self.number(1)?;
            number |= (byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"options: pass=hunter2";

    fn unit(head: &[u8], body: &[u8]) -> Vec<u8> {
        let len = (head.len() + body.len()) as u16;
        [&len.to_be_bytes(), head, body].concat()
    }

    fn shown(head: &[u8], record: &[u8]) -> Option<Vec<u8>> {
        let payload = [head, record].concat();
        let media = if head[1] == b'f' { Media::audio(&payload) } else { Media::video(&payload) };
        without_texts(&media.expect("a header"), &payload)
    }

    /// The types and sizes of SEI messages (h264 7.3.2.3.1), which end in the stop bit.
    fn messages(mut body: &[u8]) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        while body != [0x80] {
            let mut number = || {
                let full = body.iter().position(|b| *b != 0xff).expect("a last byte");
                let number = full * 255 + usize::from(body[full]);
                body = &body[full + 1..];
                number
            };
            let (kind, size) = (number(), number());
            assert!(body[..size].iter().all(|b| *b == 0xff));
            body = &body[size..];
            found.push((kind, size));
        }
        found
    }

    #[test]
    fn sei_of_any_length_becomes_filler() {
        for len in 3..1600 {
            let mut body = TEXT.iter().copied().cycle().take(len).collect::<Vec<_>>();
            say_nothing(&mut body);
            let found = messages(&body);
            assert!(
                (1..=2).contains(&found.len()) && found.iter().all(|(kind, _)| *kind == 3),
                "{len}: {found:?}"
            );
        }
        for len in 0..3 {
            let mut body = TEXT[..len].to_vec();
            say_nothing(&mut body);
            assert_eq!(body, [&[], &[0x80][..], &[0xff, 0x80]][len]);
        }
    }

    #[test]
    fn sets_stay_and_sei_goes() {
        let set = |head: &[u8]| unit(head, b"\x64\0\x0b\xac");
        let avc = [
            &[1, 0x64, 0, 0x0b, 0xff, 0xe2][..],
            &set(&[0x67]),
            &unit(&[6, 5], TEXT),
            &[2],
            &set(&[0x68]),
            &unit(&[6, 5], TEXT),
            &[0xfd, 0xf8, 0xf8, 0],
        ]
        .concat();
        let list = |kind: u8, unit: &[u8]| [&[0x80 | kind, 0, 1][..], unit].concat();
        let hevc = [
            &[1; 22][..],
            &[4],
            &list(33, &set(&[0x42, 1])),
            &list(39, &unit(&[0x4e, 1, 5], TEXT)),
            &list(40, &unit(&[0x50, 1], TEXT)),
            &list(34, &set(&[0x44, 1])),
        ]
        .concat();
        for (head, record) in [
            (&[0x17, 0, 0, 0, 0][..], &avc),
            (b"\x90avc1", &avc),
            (b"\x90hvc1", &hevc),
            // Two tracks of one codec: id and size before each.
            (
                &[&b"\x96\x10hvc1\x00\0\0"[..], &[hevc.len() as u8], &hevc, b"\x01\0\0", &[hevc.len() as u8]]
                    .concat(),
                &hevc,
            ),
        ] {
            let before = [head, record].concat();
            let after = shown(head, record).expect("known");
            assert_eq!(after.len(), before.len());
            let shows = |text: &[u8]| after.windows(text.len()).filter(|w| *w == text).count();
            assert_eq!((shows(b"options"), shows(b"hunter2")), (0, 0));
            let all = before.windows(4).filter(|w| *w == b"\x64\0\x0b\xac").count();
            assert_eq!(shows(b"\x64\0\x0b\xac"), all);
            for cut in head.len()..before.len() - 4 {
                assert_eq!(shown(head, &before[head.len()..cut]), None, "{cut}");
            }
        }
    }

    #[test]
    fn metadata_of_av1_and_comments_of_flac_go() {
        let obu = |kind: u8, body: &[u8]| [&[kind << 3 | 2, body.len() as u8][..], body].concat();
        let config = [0x81, 4, 12, 0];
        let set = obu(1, b"\0\0\0\x24");
        let all = [&config[..], &set, &obu(5, TEXT), &obu(15, TEXT), &[1 << 3 | 4, 0, 1]].concat();
        let mut zeros = vec![0; TEXT.len()];
        zeros[TEXT.len() - 1] = 0x80;
        let want = [&b"\x90av01"[..], &config, &set, &obu(5, &zeros), &obu(15, &zeros), &[1 << 3 | 4, 0, 1]]
            .concat();
        assert_eq!(shown(b"\x90av01", &all), Some(want));
        let block = |kind: u8, body: &[u8]| [&[kind, 0, 0, body.len() as u8][..], body].concat();
        let info = block(0, &[7; 34]);
        let all = [&b"fLaC"[..], &info, &block(4, TEXT), &block(0x80 | 6, TEXT)].concat();
        let zeros = [0; TEXT.len()];
        let want = [&b"\x90fLaCfLaC"[..], &info, &block(1, &zeros), &block(0x81, &zeros)].concat();
        assert_eq!(shown(b"\x90fLaC", &all), Some(want));
    }

    #[test]
    fn of_what_is_not_known_nothing_is_said() {
        assert_eq!(shown(b"\x90what", TEXT), None);
        assert_eq!(shown(b"\x90vvc1", TEXT), None);
        assert_eq!(shown(b"\x90avc1", TEXT), None);
        assert_eq!(shown(b"\x90vp09", b"\x01\0\0\0"), Some(b"\x90vp09\x01\0\0\0".to_vec()));
        assert_eq!(shown(b"\x90av01", b""), None);
    }

    #[test]
    fn what_no_header_needs_makes_it_unknown() {
        let avc = |unit: &[u8], tail: &[u8]| {
            [&[1, 0x64, 0, 0x0b, 0xff, 0xe1, 0, 2, 0x67, 1, 1][..], unit, tail].concat()
        };
        let set = unit(&[0x68], &[1]);
        let hevc = |kind: u8, tail: &[u8]| {
            [&[1; 22][..], &[1, 0x80 | kind, 0, 1], &unit(&[kind << 1, 1], &[7]), tail].concat()
        };
        let av1 = |kind: u8| [&[0x81, 4, 12, 0, kind << 3 | 2, 1][..], &[7]].concat();
        let (extension, vp9) = (unit(&[0x6d], TEXT), &b"vp09\x01\0\0\0"[..]);
        let most = [7; MAX_WHOLE];
        for (head, record, is_kept) in [
            (&[0x17, 0, 0, 0, 0][..], avc(&set, b""), true),
            (&[0x17, 0, 0, 0, 0], avc(&set, b"abc"), true),
            (&[0x17, 0, 0, 0, 0], avc(&set, &[&[0xfd, 0xf8, 0xf8, 1][..], &extension].concat()), true),
            (&[0x17, 0, 0, 0, 0], avc(&set, &[&[0xfd, 0xf8, 0xf8, 0][..], TEXT].concat()), false),
            (&[0x17, 0, 0, 0, 0], avc(&unit(&[24], TEXT), b""), false),
            (b"\x90hvc1", hevc(33, b""), true),
            (b"\x90hvc1", hevc(33, TEXT), false),
            (b"\x90hvc1", hevc(48, b""), false),
            (b"\x90av01", av1(1), true),
            (b"\x90av01", av1(9), false),
            (&[0xaf, 0], most.to_vec(), true),
            (&[0xa7, 0], most.to_vec(), true),
            (&[0xaf, 0], [&most[..], b"x"].concat(), false),
            (b"\x90vp09", most.to_vec(), true),
            (b"\x90vp09", [&most[..], b"x"].concat(), false),
            (&[0x97, 2, 0, 0, 1, 0], vp9.to_vec(), true),
            (&[0x97, 3, 0, 0, 1, b'x', 0], vp9.to_vec(), false),
            (&[0x97, 2, b'a', b'b', b'c', 0x10], vp9.to_vec(), false),
            (&[0x97, 2, 0, 0, 1, 7, 2, 0, 0, 1, 0], vp9.to_vec(), false),
        ] {
            let payload = [head, &record].concat();
            let media = if head[0] & 0xf0 == 0xa0 { Media::audio(&payload) } else { Media::video(&payload) };
            let kept = without_texts(&media.expect("a header"), &payload);
            assert_eq!(kept, is_kept.then_some(payload.clone()), "{head:x?} {record:x?}");
        }
    }
}
