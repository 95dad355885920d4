//! The stamp inside each frame: which frame it is, when it was to be sent, when it was.

use bstr::ByteSlice;

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

/// The UUID of SEI user data and what begins the data stream element.
const UUID: [u8; 16] = *b"rtmp-bench stamp";
/// h264 7.3.2.3: the NAL length, an SEI unit, user data unregistered, 55 bytes. One byte of trailing bits ends the unit.
pub(super) const VIDEO_LEAD: [u8; 7] = [0, 0, 0, Stamp::LEN as u8 + 4, 0x06, 0x05, Stamp::LEN as u8];
/// iso14496-3 4.4.2.7: a data stream element, tag 0, byte-aligned; its count.
pub(super) const AUDIO_LEAD: [u8; 2] = [0x81, Stamp::LEN as u8];
/// How far into a payload a stamp is looked for: a server may put parameter sets before it.
const SEARCHED: usize = 512;

impl Stamp {
    /// Bytes: the UUID, four numbers of five bytes, one of ten and a check sum of five, seven bits each.
    pub const LEN: usize = 16 + 4 * 5 + 10 + 5;

    pub(super) fn encode(&self) -> [u8; Stamp::LEN] {
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
        put(self.planned_ns, 10);
        let own = crc32fast::hash(&out[..Stamp::LEN - 5]);
        put7(&mut out[Stamp::LEN - 5..], u64::from(own));
        out
    }

    /// The stamp in a payload, if there is a whole one, and where. `near` is where the one before stood; it is moved.
    pub(super) fn find(payload: &[u8], near: &mut usize) -> Option<(Stamp, usize)> {
        let there = payload.get(*near..).and_then(|rest| rest.first_chunk());
        let at = match there {
            Some(&UUID) => *near,
            _ => payload[..payload.len().min(SEARCHED)].find(UUID)?,
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
            planned_ns: get(36, 10)?,
        };
        Some((stamp, at))
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
