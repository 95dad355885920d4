//! Frames that can carry no stamp, told by their content and order.
//!
//! What can be said so is less than what a stamp says. Equal frames are told apart by their order alone. A frame that came with other bytes is
//! taken for the one that is due, or, where those are the bytes of another, for that one; frames of another of our streams, which are the same,
//! are taken for the player's own. A join is placed at the newest frame of its content that can have been sent: one that the target held back
//! until the file had come round again is misread by a round.

use std::collections::HashMap;

use super::Frame;

/// The contents of one kind's frames.
#[derive(Debug)]
pub(super) struct Contents {
    keys: Vec<u64>,
    /// Ascending.
    places: HashMap<u64, Vec<u32>>,
}

/// What is known of a payload without a stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Likeness {
    /// It is this frame.
    Frame(u32),
    /// It is one of several and nothing before it says which.
    Several,
    /// No frame that can have been sent is like it.
    None,
}

/// How many equal frames that came before are looked through for one that is missing.
const LOOKED_BACK: usize = 64;

fn key(parts: [&[u8]; 2]) -> u64 {
    let mut hash = crc32fast::Hasher::new();
    parts.iter().for_each(|part| hash.update(part));
    (parts[0].len() + parts[1].len()) as u64 | u64::from(hash.finalize()) << 32
}

impl Contents {
    /// Of frames one of which has no stamp.
    pub fn new(frames: &[Frame]) -> Option<Contents> {
        frames.iter().any(|frame| !frame.marked).then(|| {
            let keys: Vec<u64> = frames.iter().map(|frame| key([&frame.before, &frame.after])).collect();
            let mut places: HashMap<u64, Vec<u32>> = HashMap::new();
            for (at, key) in keys.iter().enumerate().filter(|(at, _)| !frames[*at].marked) {
                places.entry(*key).or_default().push(at as u32);
            }
            Contents { keys, places }
        })
    }

    /// Which frame this is where the first `sent` were sent; `next` is due, if any came yet, and some before it are missing.
    pub fn like(
        &self,
        payload: &[u8],
        next: Option<u32>,
        sent: u32,
        missing: impl Fn(u32) -> bool,
    ) -> Likeness {
        let key = key([payload, &[]]);
        let len = self.keys.len() as u32;
        let Some(places) = self.places.get(&key) else { return Likeness::None };
        let Some(next) = next else {
            let known = places.len() == 1 || self.places.len() == 1;
            let newest = back(places, len, sent).next();
            return newest
                .map_or(Likeness::None, |seq| if known { Likeness::Frame(seq) } else { Likeness::Several });
        };
        let at = places.partition_point(|place| *place < next % len);
        let ahead = match places.get(at) {
            Some(place) => next - next % len + place,
            None => (next - next % len).saturating_add(len).saturating_add(places[0]),
        };
        if ahead < sent {
            return Likeness::Frame(ahead);
        }
        let behind = || back(places, len, next);
        let absent = behind().take(LOOKED_BACK).find(|seq| missing(*seq));
        absent.or_else(|| behind().next()).map_or(Likeness::None, Likeness::Frame)
    }
}

/// The frames of these places before `end`, the newest first.
fn back(places: &[u32], len: u32, end: u32) -> impl Iterator<Item = u32> {
    let mut at = places.partition_point(|place| *place < end % len);
    let mut round = end / len;
    std::iter::from_fn(move || {
        if at == 0 {
            (round, at) = (round.checked_sub(1)?, places.len());
        }
        at -= 1;
        Some(round * len + places[at])
    })
}

#[cfg(test)]
mod tests {
    use super::Likeness::{Frame as Is, None as Nothing, Several};
    use super::*;

    #[test]
    fn contents_tell_frames() {
        // Twice the same in the middle.
        let frames: Vec<Frame> =
            [b"a", b"b", b"s", b"s", b"c"].map(|text| Frame::plain(text[..].into())).into();
        let contents = Contents::new(&frames).expect("no stamps");
        let none = |_: u32| false;
        let at = |text: &str, next, sent, missing: &dyn Fn(u32) -> bool| {
            contents.like(text.as_bytes(), next, sent, missing)
        };
        for (text, next, sent, want) in [
            // Joining: the newest that was sent.
            ("b", None, 12, Is(11)),
            ("c", None, 12, Is(9)),
            ("c", None, 4, Nothing),
            ("s", None, 12, Several),
            ("z", None, 12, Nothing),
            // In order, over the end and past a gap.
            ("c", Some(4), 12, Is(4)),
            ("a", Some(5), 12, Is(5)),
            ("s", Some(3), 12, Is(3)),
            ("c", Some(6), 12, Is(9)),
            // Not sent yet: it came again.
            ("b", Some(7), 8, Is(6)),
            ("s", Some(9), 10, Is(8)),
        ] {
            assert_eq!(at(text, next, sent, &none), want, "{text} {next:?} {sent}");
        }
        assert_eq!(at("s", Some(9), 10, &|seq| seq == 7), Is(7));
        let one = Contents::new(&[Frame::plain(b"s"[..].into())]).expect("no stamps");
        assert_eq!(one.like(b"s", None, 9, none), Is(8));
    }
}
