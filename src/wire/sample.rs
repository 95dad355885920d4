//! Small valid media to send: message payloads of a chosen length, each told apart by its seed. Equal arguments give equal bytes.

/// An AVC sequence header: 64x64 pixels, baseline profile, one SPS and one PPS.
pub fn avc_header() -> Vec<u8> {
    let (sps, pps) = (avc_sps(), avc_pps());
    let mut out = vec![0x17, 0, 0, 0, 0];
    // iso14496-15 5.2.4.1: version, profile, compatibility, level of the SPS, 4-byte NAL lengths, one SPS, one PPS.
    out.extend_from_slice(&[1, sps[1], sps[2], sps[3], 0xFF, 0xE1]);
    out.extend_from_slice(&[0, sps.len() as u8]);
    out.extend_from_slice(&sps);
    out.extend_from_slice(&[1, 0, pps.len() as u8]);
    out.extend_from_slice(&pps);
    out
}

/// A grey AVC key frame of exactly `n` bytes that decodes behind [`avc_header`]; the shortest is below 48 bytes, a smaller `n` gives it, and the first few
/// lengths above it are rounded up (padding has 6 bytes at least). Seeds that differ modulo 65536 give other bytes at any length.
pub fn avc_key(n: usize, seed: u64) -> Vec<u8> {
    avc_frame(0x17, avc_idr_slice(seed), n, seed)
}

/// An AVC inter frame of exactly `n` bytes that repeats the picture of the last key frame; nothing refers to it. As [`avc_key`], and seeds that differ modulo
/// 16383 give other bytes at any length. The seed is the frame's place in the order of display: count from 0 behind each key frame where a server that derives
/// times from it is to keep those that were sent.
pub fn avc_inter(n: usize, seed: u64) -> Vec<u8> {
    avc_frame(0x27, avc_skip_slice(seed), n, seed)
}

/// An AAC sequence header: LC, 44100 Hz, mono.
pub fn aac_header() -> Vec<u8> {
    // iso14496-3 1.6.2.1: object type 2 (5 bits), rate index 4 (4 bits), 1 channel (4 bits), 3 flags.
    vec![0xAF, 0, 0x12, 0x08]
}

/// A silent AAC frame of exactly `n` bytes that decodes behind [`aac_header`]; 6 at least, and 7 gives 8. Filled with data stream elements. Seeds that differ
/// modulo 256 give other bytes at any length.
pub fn aac_frame(n: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0xAF, 1];
    let mut noise = Noise::new(seed);
    let mut rest = match n.saturating_sub(6) {
        1 => 2,
        rest => rest,
    };
    while rest > 0 {
        // iso14496-3 4.4.2.7: id 4 (3 bits), tag (4 bits), no alignment (1 bit), an 8-bit count below 255, the bytes.
        let take = if rest == 257 { 255 } else { rest.min(256) };
        out.extend_from_slice(&[0x80, (take - 2) as u8]);
        out.extend(noise.by_ref().take(take - 2));
        rest -= take;
    }
    // One channel without a spectrum: id 0 (3), tag (4), global gain (8), a long window with no bands (11), three flags; then id 7, the end.
    let mut bits = Bits::default();
    bits.put(0, 7).put(seed & 0xFF, 8).put(0, 14).put(7, 3);
    out.extend(bits.0);
    out
}

/// An MP3 message of exactly `n` bytes, 5 at least: the FLV head, the header of an MPEG-1 layer III frame (128 kbit/s, 44100 Hz, stereo) and bytes of the seed.
/// 418 bytes are one whole frame; from 45 up the side information says that it is silent.
pub fn mp3(n: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0x2F, 0xFF, 0xFB, 0x90, 0x00];
    if n >= 45 {
        out.extend_from_slice(&[0; 32]);
    }
    fill(out, n, seed)
}

/// A Sorenson H.263 key frame message of exactly `n` bytes, 9 at least: the FLV head, a picture header (128x96) and bytes of the seed, which are no picture.
pub fn h263_key(n: usize, seed: u64) -> Vec<u8> {
    // swf 10, H.263 video: start code (17), version (5), temporal reference (8), size 4, intra, no deblocking, quantizer 10, no extra.
    let mut bits = Bits::default();
    bits.put(1, 17).put(0, 5).put(seed & 0xFF, 8).put(4, 3).put(0, 2).put(0, 1).put(10, 5).put(0, 1);
    let mut out = vec![0x12];
    out.extend(bits.0);
    out.resize(out.len().max(9), 0);
    fill(out, n, seed)
}

/// Bytes of a seed: printable, so that no start code and no emulation prevention can come of them.
struct Noise(u64);

impl Noise {
    fn new(seed: u64) -> Noise {
        Noise(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x2545_F491_4F6C_DD1D)
    }
}

impl Iterator for Noise {
    type Item = u8;

    // Steele, Lea, Flood: SplitMix64.
    fn next(&mut self) -> Option<u8> {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        Some(0x20 + (z >> 58) as u8)
    }
}

fn fill(mut out: Vec<u8>, n: usize, seed: u64) -> Vec<u8> {
    out.extend(Noise::new(seed).take(n.saturating_sub(out.len())));
    out
}

/// Bits, the most significant first; the last byte is filled with zeros.
#[derive(Default)]
struct Bits(Vec<u8>, u32);

impl Bits {
    fn put(&mut self, value: u64, bits: u32) -> &mut Bits {
        for i in (0..bits).rev() {
            if self.1.is_multiple_of(8) {
                self.0.push(0);
            }
            if let Some(last) = self.0.last_mut() {
                *last |= ((value >> i & 1) as u8) << (7 - self.1 % 8);
            }
            self.1 += 1;
        }
        self
    }

    /// h264 9.1: an Exp-Golomb code.
    fn ue(&mut self, value: u64) -> &mut Bits {
        let len = (value + 1).ilog2();
        self.put(0, len).put(value + 1, len + 1)
    }

    /// h264 7.3.1: behind the NAL header, with the stop bit and emulation prevention.
    fn nal(&mut self, header: u8) -> Vec<u8> {
        self.put(1, 1);
        let mut out = vec![header];
        let mut zeros = 0;
        for &byte in &self.0 {
            if zeros >= 2 && byte <= 3 {
                out.push(3);
                zeros = 0;
            }
            out.push(byte);
            zeros = if byte == 0 { zeros + 1 } else { 0 };
        }
        out
    }
}

/// Macroblocks of a picture, 4 by 4.
const MACROBLOCKS: u64 = 16;

// h264 7.3.2.1.1
fn avc_sps() -> Vec<u8> {
    let mut bits = Bits::default();
    bits.put(66, 8).put(0xC0, 8).put(10, 8); // baseline, also constrained; level 1
    bits.ue(0).ue(0); // id; 4 bits of frame_num
    bits.ue(0).ue(12); // order count type 0, 16 bits of it
    bits.ue(1).put(0, 1); // one reference frame, no gaps
    bits.ue(3).ue(3).put(1, 1); // 4 by 4 macroblocks, frames only
    bits.put(1, 1).put(0, 1).put(0, 1); // direct 8x8, no cropping, no VUI
    bits.nal(0x67)
}

// h264 7.3.2.2: CAVLC, one slice group, one reference, no weights, QP 26, no further control.
fn avc_pps() -> Vec<u8> {
    let mut bits = Bits::default();
    bits.ue(0).ue(0).put(0, 2).ue(0).ue(0).ue(0).put(0, 3).ue(0).ue(0).ue(0).put(0, 3);
    bits.nal(0x68)
}

// h264 7.3.3: the picture from macroblock 0, all I; the seed is idr_pic_id.
fn avc_idr_slice(seed: u64) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.ue(0).ue(7).ue(0).put(0, 4).ue(seed & 0xFFFF).put(0, 16);
    bits.put(0, 2).ue(0); // reference marking, QP delta
    for _ in 0..MACROBLOCKS {
        // I_16x16 predicted from the mean, chroma too, no QP delta, no coefficients.
        bits.ue(3).ue(0).ue(0).put(1, 1);
    }
    bits.nal(0x65)
}

// Not a reference, so that frame_num is 1 in each; the seed is the order count, behind the key frame's 0 and below half its range.
fn avc_skip_slice(seed: u64) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.ue(0).ue(5).ue(0).put(1, 4).put(2 + 2 * (seed % 16383), 16);
    bits.put(0, 2).ue(0); // number of references, their order, QP delta
    bits.ue(MACROBLOCKS);
    bits.nal(0x01)
}

fn avc_frame(head: u8, slice: Vec<u8>, n: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![head, 1, 0, 0, 0];
    let rest = n.saturating_sub(out.len() + 4 + slice.len());
    let filler = match rest {
        0 => 0,
        // Too little for an SEI message: filler data alone.
        1..32 => rest.max(6),
        _ if sei_len(rest).is_some() => 0,
        _ => 6,
    };
    if let Some(len) = sei_len(rest.saturating_sub(filler)) {
        put_nal(&mut out, &sei(len, seed));
    }
    put_nal(&mut out, &slice);
    if filler > 0 {
        // h264 7.3.2.7: 0xFF bytes and the stop bit.
        let nal = [&[0x0C], &vec![0xFF; filler - 6][..], &[0x80]].concat();
        put_nal(&mut out, &nal);
    }
    out
}

fn put_nal(out: &mut Vec<u8>, nal: &[u8]) {
    out.extend_from_slice(&(nal.len() as u32).to_be_bytes());
    out.extend_from_slice(nal);
}

/// The payload length of an SEI message that has exactly `total` bytes with its NAL length: 8 bytes around it and one more for each 255.
fn sei_len(total: usize) -> Option<usize> {
    let rest = total.checked_sub(8)?;
    let len = rest - rest / 256;
    (len >= 16 && len + len / 255 == rest).then_some(len)
}

// h264 7.3.2.3.1, D.1.7: user data unregistered, a UUID of 16 bytes and what one likes.
fn sei(len: usize, seed: u64) -> Vec<u8> {
    let mut nal = vec![0x06, 0x05];
    nal.extend(std::iter::repeat_n(0xFF, len / 255));
    nal.push((len % 255) as u8);
    nal.extend_from_slice(b"rtmp-bench media");
    nal.extend(Noise::new(seed).take(len - 16));
    nal.push(0x80);
    nal
}

#[cfg(test)]
mod tests {
    use super::super::media::{Codec, Media};
    use super::*;

    /// The NAL units of an AVC message.
    fn nals(payload: &[u8]) -> Vec<&[u8]> {
        let media = Media::video(payload).expect("a head");
        assert_eq!(media.codec, Some(Codec::AVC));
        let mut rest = media.tracks().next().expect("a track").expect("its data").data;
        let mut nals = Vec::new();
        while let Some((len, tail)) = rest.split_first_chunk() {
            let (nal, tail) = tail.split_at(u32::from_be_bytes(*len) as usize);
            nals.push(nal);
            rest = tail;
        }
        assert!(rest.is_empty());
        nals
    }

    type Make = fn(usize, u64) -> Vec<u8>;
    const ALL: [(Make, usize); 5] = [(avc_key, 53), (avc_inter, 30), (aac_frame, 8), (mp3, 5), (h263_key, 9)];

    #[test]
    fn lengths_are_exact() {
        for (i, (make, from)) in ALL.into_iter().enumerate() {
            for n in (from..1200).chain([65535, 65536, 65537, 300_000]) {
                assert_eq!(make(n, 7).len(), n, "{i}");
            }
            assert!(make(0, 7).len() <= from);
        }
    }

    #[test]
    fn seeds_tell_frames_apart() {
        for (i, (make, from)) in ALL.into_iter().enumerate() {
            for n in [from, 100, 4000] {
                if i < 3 || n > 10 {
                    let mut frames: Vec<_> = (0..256).map(|seed| make(n, seed)).collect();
                    frames.sort();
                    frames.dedup();
                    assert_eq!(frames.len(), 256, "{i} {n}");
                }
            }
            assert_eq!(make(100, 5), make(100, 5));
        }
    }

    #[test]
    fn avc_frames_are_whole_nal_units() {
        for n in 0..2000 {
            for (frame, slice) in [(avc_key(n, n as u64), 0x65), (avc_inter(n, n as u64), 0x01)] {
                let types: Vec<u8> = nals(&frame).iter().map(|nal| nal[0]).collect();
                assert!(
                    types.contains(&slice) && types.iter().all(|t| [0x06, slice, 0x0C].contains(t)),
                    "{types:?}"
                );
            }
        }
    }

    #[test]
    fn the_avc_header_by_hand() {
        // SPS: 66, C0, 10, then 1 1 | 1 0001101 | 010 0 | 00100 00100 1 | 1 0 0 and the stop bit.
        let sps = [0x67, 0x42, 0xC0, 0x0A, 0b1110_0011, 0b0101_0000, 0b1000_0100, 0b1100_1000];
        // PPS: 1 1 00 1 1 1 000 1 1 1 000 and the stop bit.
        let pps = [0x68, 0b1100_1110, 0b0011_1000, 0b1000_0000];
        let record = [&[1, 0x42, 0xC0, 0x0A, 0xFF, 0xE1, 0, 8], &sps[..], &[1, 0, 4], &pps].concat();
        assert_eq!(avc_header(), [&[0x17, 0, 0, 0, 0], &record[..]].concat());
    }

    #[test]
    fn emulation_is_prevented() {
        let mut bits = Bits::default();
        assert_eq!(bits.put(0, 32).put(1, 24).nal(1), [1, 0, 0, 3, 0, 0, 3, 0, 0, 3, 1, 0x80]);
    }

    #[test]
    fn an_aac_frame_by_hand() {
        assert_eq!(aac_frame(6, 0xFF), [0xAF, 1, 0b0000_0001, 0b1111_1110, 0, 0b0000_0111]);
        assert_eq!(aac_frame(8, 0), [0xAF, 1, 0x80, 0, 0, 0, 0, 7]);
    }
}
