//! Whether what was published came to a player: every coded frame once, in order within its kind, byte for byte.

use bytes::Bytes;

use crate::wire::chunk::MessageHeader;
use crate::wire::media;
use crate::wire::message::{Message, normalised, type_id};

/// One coded frame that passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// 8 or 9.
    pub type_id: u8,
    /// Milliseconds, modulo 2^32.
    pub timestamp: u32,
    /// The whole message.
    pub payload: Bytes,
    /// Its place among everything that passed.
    pub order: u64,
}

/// How a relay is to be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rules {
    /// Frames sent before this place may be missing (they were sent before the receiver played), but only up to the first that came.
    pub since: u64,
    /// Timestamps' differences are equal too, modulo 2^32.
    pub spacing: bool,
    /// Frames may be missing before a key frame.
    pub gaps_at_key: bool,
    /// The last frames sent, so many of all kinds, need not come.
    pub tail: usize,
}

/// What a comparison says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relayed {
    /// All of it came.
    Whole,
    /// So far nothing is wrong: what is outstanding.
    Outstanding(String),
    /// Something came that no later arrival mends: what.
    Wrong(String),
}

/// Adds the coded frames that a message carries; an aggregate carries several.
pub fn frames_of(header: &MessageHeader, payload: &Bytes, order: u64, out: &mut Vec<Frame>) {
    each_of(header, payload, |type_id, timestamp, payload| {
        if media::is_coded_frame(type_id, payload) {
            out.push(Frame { type_id, timestamp, payload: payload.clone(), order });
        }
    });
}

/// Calls with type, timestamp and payload of a message, or of each that an aggregate carries.
pub fn each_of(header: &MessageHeader, payload: &Bytes, mut each: impl FnMut(u8, u32, &Bytes)) {
    if header.type_id != type_id::AGGREGATE {
        return each(header.type_id, header.timestamp, payload);
    }
    let Ok(Message::Aggregate(subs)) = Message::decode(header.type_id, payload) else { return };
    for (timestamp, sub) in normalised(header.timestamp, &subs) {
        each(sub.type_id, timestamp, &sub.payload);
    }
}

/// Compares what was sent with what came.
pub fn compare(sent: &[Frame], received: &[Frame], rules: Rules) -> Relayed {
    let mut outstanding = None;
    let tail = sent.len().saturating_sub(rules.tail);
    for kind in [type_id::AUDIO, type_id::VIDEO] {
        let needed = sent[..tail].iter().filter(|f| f.type_id == kind).count();
        let sent: Vec<&Frame> = sent.iter().filter(|f| f.type_id == kind).collect();
        let received: Vec<&Frame> = received.iter().filter(|f| f.type_id == kind).collect();
        let name = if kind == type_id::AUDIO { "audio" } else { "video" };
        match (Kind { name, sent, needed, rules }).compare(&received) {
            Relayed::Wrong(why) => return Relayed::Wrong(why),
            Relayed::Outstanding(why) => outstanding = outstanding.or(Some(why)),
            Relayed::Whole => {}
        }
    }
    match outstanding {
        Some(why) => Relayed::Outstanding(why),
        None if sent.is_empty() => Relayed::Outstanding("no coded frame was sent".into()),
        None => Relayed::Whole,
    }
}

/// The frames of one kind.
struct Kind<'a> {
    name: &'static str,
    sent: Vec<&'a Frame>,
    /// So many from the front must come.
    needed: usize,
    rules: Rules,
}

impl Kind<'_> {
    fn compare(&self, received: &[&Frame]) -> Relayed {
        let required = self.sent.partition_point(|f| f.order < self.rules.since);
        let mut next = match received.first() {
            Some(first) => self.join(first, required),
            None => required,
        };
        let mut shift = None;
        for (i, frame) in received.iter().enumerate() {
            match self.place(frame, next) {
                Ok(at) => next = at + 1,
                Err(why) => {
                    return Relayed::Wrong(format!(
                        "{} frame {} of {}: {why}",
                        self.name,
                        i + 1,
                        self.sent.len()
                    ));
                }
            }
            let sent = self.sent[next - 1];
            let moved = frame.timestamp.wrapping_sub(sent.timestamp);
            let before = *shift.get_or_insert(moved);
            if self.rules.spacing && before != moved {
                let (a, b) = (self.sent[next.saturating_sub(2)], received[i.saturating_sub(1)]);
                return Relayed::Wrong(format!(
                    "{} frame {}: {} ms after the one before it when sent, {} ms when it came",
                    self.name,
                    i + 1,
                    sent.timestamp.wrapping_sub(a.timestamp) as i32,
                    frame.timestamp.wrapping_sub(b.timestamp) as i32,
                ));
            }
        }
        match self.needed.saturating_sub(next.max(required)) {
            0 => Relayed::Whole,
            missing => Relayed::Outstanding(format!(
                "{missing} of {} {} frames did not come, the first is frame {}",
                self.needed - required.min(next).min(self.needed),
                self.name,
                next.max(required) + 1
            )),
        }
    }

    /// Where the received ones begin: at the first that is required, or, with what a server keeps for late joiners, before it.
    fn join(&self, first: &Frame, required: usize) -> usize {
        let at = |i: &usize| self.sent[*i].payload == first.payload;
        if self.sent.get(required).is_some_and(|f| f.payload == first.payload) {
            return required;
        }
        (0..required.min(self.sent.len())).find(at).unwrap_or(required)
    }

    /// Which sent frame this is, when `next` is due.
    fn place(&self, frame: &Frame, next: usize) -> Result<usize, String> {
        let same = |f: &&&Frame| f.payload == frame.payload;
        let Some(due) = self.sent.get(next) else {
            return Err(match self.sent.iter().find(same) {
                Some(_) => "came twice".into(),
                None => format!("{} bytes that were never sent", frame.payload.len()),
            });
        };
        if due.payload == frame.payload {
            return Ok(next);
        }
        if let Some(ahead) = self.sent[next..].iter().position(|f| f.payload == frame.payload) {
            let at = next + ahead;
            if self.rules.gaps_at_key && media::is_keyframe(frame.type_id, &frame.payload) {
                return Ok(at);
            }
            return Err(format!("frames {} to {at} are missing before it", next + 1));
        }
        if self.sent[..next].iter().any(|f| f.payload == frame.payload) {
            return Err(format!("came twice or too late, frame {} was due", next + 1));
        }
        Err(difference(&due.payload, &frame.payload))
    }
}

/// Where two payloads differ first.
pub fn difference(sent: &[u8], came: &[u8]) -> String {
    let at = sent.iter().zip(came).position(|(a, b)| a != b).unwrap_or(sent.len().min(came.len()));
    let byte = |bytes: &[u8]| bytes.get(at).map_or_else(|| "the end".into(), |b| format!("{b:#04x}"));
    format!(
        "changed at byte {at}: {} was sent, {} came ({} bytes sent, {} came)",
        byte(sent),
        byte(came),
        sent.len(),
        came.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(spec: &[(u32, u8)]) -> Vec<Frame> {
        let frame = |(i, (timestamp, byte)): (usize, &(u32, u8))| Frame {
            type_id: type_id::VIDEO,
            timestamp: *timestamp,
            payload: Bytes::from(vec![if *byte < 10 { 0x17 } else { 0x27 }, 1, 0, 0, 0, *byte]),
            order: i as u64,
        };
        spec.iter().enumerate().map(frame).collect()
    }

    #[test]
    fn each_departure_has_its_words() {
        let sent = frames(&[(0, 1), (40, 12), (80, 13), (120, 2), (160, 14)]);
        let plain = Rules::default();
        let spacing = Rules { spacing: true, ..plain };
        let gaps = Rules { gaps_at_key: true, ..plain };
        let late = Rules { since: 3, ..plain };
        let tail = Rules { tail: 2, ..plain };
        type Row<'a> = (&'a str, &'a [(u32, u8)], Rules, &'a str);
        let table: [Row<'_>; 14] = [
            ("tail", &[(0, 1), (40, 12), (80, 13)], tail, ""),
            ("tail changed", &[(0, 1), (40, 12), (80, 13), (80, 9)], tail, "changed at byte 5"),
            ("whole", &[(7, 1), (47, 12), (87, 13), (127, 2), (167, 14)], spacing, ""),
            ("smoothed", &[(0, 1), (40, 12), (70, 13), (120, 2), (160, 14)], plain, ""),
            (
                "smoothed",
                &[(0, 1), (40, 12), (70, 13)],
                spacing,
                "40 ms after the one before it when sent, 30 ms",
            ),
            ("missing", &[(0, 1), (80, 13)], plain, "frames 2 to 2 are missing"),
            ("doubled", &[(0, 1), (40, 12), (40, 12)], plain, "came twice"),
            ("changed", &[(0, 1), (40, 99)], plain, "changed at byte 5: 0x0c was sent, 0x63 came"),
            ("more", &[(0, 1), (0, 12), (0, 13), (0, 2), (0, 14), (0, 99)], plain, "never sent"),
            ("gap at key", &[(0, 1), (120, 2), (160, 14)], gaps, ""),
            ("gap elsewhere", &[(0, 1), (80, 13)], gaps, "are missing"),
            ("late", &[(120, 2), (160, 14)], late, ""),
            ("late with a burst", &[(0, 1), (0, 12), (0, 13), (0, 2), (0, 14)], late, ""),
            ("late with holes", &[(0, 1), (120, 2)], late, "are missing"),
        ];
        for (name, received, rules, want) in table {
            match compare(&sent, &frames(received), rules) {
                Relayed::Whole => assert_eq!(want, "", "{name}"),
                Relayed::Wrong(why) => assert!(!want.is_empty() && why.contains(want), "{name}: {why}"),
                Relayed::Outstanding(why) => panic!("{name}: {why}"),
            }
        }
        let some = compare(&sent, &frames(&[(0, 1), (40, 12)]), plain);
        assert_eq!(
            some,
            Relayed::Outstanding("3 of 5 video frames did not come, the first is frame 3".into())
        );
        assert!(matches!(compare(&[], &[], plain), Relayed::Outstanding(_)));
    }
}
