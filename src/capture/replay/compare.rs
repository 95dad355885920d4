//! How what a player got differs from what was published: all of it, by kind, each with the first place.

use std::collections::HashMap;

use bytes::Bytes;

use crate::net::relay::{self, Frame};
use crate::record::replay::Difference;
use crate::wire::media::{Kind, Media};
use crate::wire::message::type_id;

/// A coded frame, and the sequence header that a decoder has for it.
#[derive(Debug, Clone)]
pub struct Coded {
    /// The frame.
    pub frame: Frame,
    /// The last one before it of its kind and track.
    pub header: Option<Bytes>,
}

/// The sequence headers that stand, by message type and track.
#[derive(Debug, Default)]
pub struct Headers(HashMap<(u8, Option<u8>), Bytes>);

/// What an audio or video message is to a decoder.
#[derive(Debug)]
pub enum Part {
    /// A sequence header, which stands from now on.
    Header,
    /// A coded frame, with the header that stands for it.
    Frame(Option<Bytes>),
    /// Anything else.
    Other,
}

impl Headers {
    /// What the message is; `keep`: what is kept of a header.
    pub fn take(&mut self, type_id: u8, payload: &Bytes, keep: impl FnOnce() -> Bytes) -> Part {
        let read = match type_id {
            type_id::AUDIO => Media::audio(payload),
            type_id::VIDEO => Media::video(payload),
            _ => return Part::Other,
        };
        let Ok(media) = read else { return Part::Other };
        let slot = (type_id, media.only_track());
        match media.kind {
            Kind::Header => {
                self.0.insert(slot, keep());
                Part::Header
            }
            Kind::Frame => Part::Frame(self.0.get(&slot).cloned()),
            _ => Part::Other,
        }
    }
}

/// Every difference; none where each coded frame came once, in order within its kind, byte for byte, under the sequence header that it was
/// sent under. Times do not count. What was sent before the frame of the place `from` need not come: how many of these did not.
pub fn differences(sent: &[Coded], came: &[Coded], from: usize) -> (Vec<Difference>, usize) {
    let (mut out, mut unseen) = (Vec::new(), 0);
    for (media, type_id) in [("audio", type_id::AUDIO), ("video", type_id::VIDEO)] {
        let of = |frames: &'_ [Coded]| -> Vec<Coded> {
            frames.iter().filter(|f| f.frame.type_id == type_id).cloned().collect()
        };
        let before = of(&sent[..from]).len();
        let (sent, came) = (of(sent), of(came));
        let mut comparison = Comparison::new(&sent);
        // A player that came late may have missed a header.
        comparison.heeds_headers = from == 0;
        for (i, frame) in came.iter().enumerate() {
            comparison.take(frame, came.get(i + 1));
        }
        unseen += comparison.forgive(before);
        comparison.finish(media, &mut out);
    }
    (out, unseen)
}

/// One entry as a sentence.
pub fn sentence(d: &Difference, sent: usize) -> String {
    let (n, media) = (d.count, &d.media);
    let frames = if n == 1 { "frame" } else { "frames" };
    let what = match &d.kind[..] {
        "header" => {
            let its = if n == 1 { "its" } else { "their" };
            format!("{n} {media} {frames} came without {its} sequence header")
        }
        "missing" => format!("{n} of {sent} {media} frames did not come"),
        "late" => format!("{n} {media} {frames} came out of order"),
        "doubled" => format!("{n} {media} {frames} came twice"),
        "changed" => format!("{n} {media} {frames} changed"),
        _ if n == 1 => format!("1 {media} frame that was never sent came"),
        _ => format!("{n} {media} frames that were never sent came"),
    };
    format!("{what}, the first is {}", d.first)
}

/// The frames of one kind.
struct Comparison<'a> {
    sent: &'a [Coded],
    places: HashMap<&'a [u8], Vec<usize>>,
    seen: Vec<bool>,
    next: usize,
    heeds_headers: bool,
    tallies: [Tally; 5],
}

/// How often, and where first.
#[derive(Default)]
struct Tally(u64, String);

const LATE: usize = 0;
const DOUBLED: usize = 1;
const CHANGED: usize = 2;
const STRANGE: usize = 3;
const HEADER: usize = 4;

impl<'a> Comparison<'a> {
    fn new(sent: &'a [Coded]) -> Comparison<'a> {
        let mut places: HashMap<&[u8], Vec<usize>> = HashMap::new();
        for (at, Coded { frame, .. }) in sent.iter().enumerate() {
            places.entry(&frame.payload).or_default().push(at);
        }
        let (seen, tallies) = (vec![false; sent.len()], Default::default());
        Comparison { sent, places, seen, next: 0, heeds_headers: true, tallies }
    }

    /// `following`: what came behind it, which tells a frame too many from one in the place of another.
    fn take(&mut self, coded: &Coded, following: Option<&Coded>) {
        let (frame, following) = (&coded.frame, following.map(|f| &f.frame));
        let due = self.sent.get(self.next).map(|due| &due.frame);
        if due.is_some_and(|due| due.payload == frame.payload) {
            return self.arrive(self.next, coded);
        }
        let too_many =
            due.is_none() || following.is_some_and(|f| due.is_some_and(|d| d.payload == f.payload));
        let Some(places) = self.places.get(&frame.payload[..]) else {
            let Some(due) = due.filter(|_| !too_many) else {
                return self.tally(STRANGE, || format!("of {} bytes", frame.payload.len()));
            };
            let how = relay::difference(&due.payload, &frame.payload);
            let at = self.next;
            self.tally(CHANGED, || format!("{}: {how}", place(at, due)));
            return self.arrive(at, coded);
        };
        let sent = self.sent;
        let (earlier, ahead) = places.split_at(places.partition_point(|at| *at < self.next));
        let outstanding = earlier.iter().copied().find(|at| !self.seen[*at]);
        let (earlier, ahead) = (earlier.last().copied(), ahead.first().copied());
        match (outstanding, earlier, ahead) {
            (_, None, Some(at)) => self.arrive(at, coded),
            (_, _, Some(at)) if !too_many => self.arrive(at, coded),
            (Some(at), ..) => {
                self.seen[at] = true;
                self.tally(LATE, || place(at, &sent[at].frame));
            }
            (None, Some(at), _) => self.tally(DOUBLED, || place(at, &sent[at].frame)),
            (None, None, None) => {}
        }
    }

    fn arrive(&mut self, at: usize, came: &Coded) {
        self.seen[at] = true;
        self.next = at + 1;
        let sent = &self.sent[at];
        if let Some(header) =
            sent.header.as_ref().filter(|_| self.heeds_headers && sent.header != came.header)
        {
            let how = || match &came.header {
                None => "none had come".into(),
                Some(other) => relay::difference(header, other),
            };
            self.tally(HEADER, || format!("{}: {}", place(at, &sent.frame), how()));
        }
    }

    fn tally(&mut self, kind: usize, first: impl FnOnce() -> String) {
        let Tally(count, text) = &mut self.tallies[kind];
        *count += 1;
        if *count == 1 {
            *text = first();
        }
    }

    /// Counts the first frames as seen; how many of them were not.
    fn forgive(&mut self, first: usize) -> usize {
        let unseen = self.seen[..first].iter().filter(|seen| !**seen).count();
        self.seen[..first].fill(true);
        unseen
    }

    fn finish(self, media: &str, out: &mut Vec<Difference>) {
        let missing = self.seen.iter().filter(|seen| !**seen).count() as u64;
        let first = self.seen.iter().position(|seen| !seen);
        let missing = Tally(missing, first.map(|at| place(at, &self.sent[at].frame)).unwrap_or_default());
        let [late, doubled, changed, strange, header] = self.tallies;
        for (kind, Tally(count, first)) in [
            ("missing", missing),
            ("late", late),
            ("doubled", doubled),
            ("changed", changed),
            ("strange", strange),
            ("header", header),
        ] {
            if count > 0 {
                out.push(Difference { kind: kind.into(), media: media.into(), count, first });
            }
        }
    }
}

fn place(at: usize, frame: &Frame) -> String {
    format!("frame {} ({} bytes, {} ms)", at + 1, frame.payload.len(), frame.timestamp)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// Digits are audio, small letters video, capital letters sequence headers of video.
    fn frames(text: &str) -> Vec<Coded> {
        let (mut headers, mut out) = (Headers::default(), Vec::new());
        for (i, c) in text.chars().enumerate() {
            let type_id = if c.is_ascii_digit() { type_id::AUDIO } else { type_id::VIDEO };
            let (packet, timestamp) = (u8::from(!c.is_ascii_uppercase()), i as u32 * 10);
            let payload = Bytes::from(match type_id {
                type_id::AUDIO => vec![0xAF, 1, c as u8],
                _ => vec![0x17, packet, 0, 0, 0, c as u8],
            });
            if let Part::Frame(header) = headers.take(type_id, &payload, || payload.clone()) {
                out.push(Coded { frame: Frame { type_id, timestamp, payload, order: 0 }, header });
            }
        }
        out
    }

    #[test]
    fn every_difference_is_counted() {
        let sent = "ab1c2def3";
        for (came, want) in [
            ("ab1c2def3", ""),
            ("1ab23cdef", ""),
            ("b1c2df3", "video missing 2 frame 1 (6 bytes, 0 ms)"),
            (
                "aabb11cc2def3",
                "audio doubled 1 frame 1 (3 bytes, 20 ms); video doubled 3 frame 1 (6 bytes, 0 ms)",
            ),
            ("ba1c2fde3", "video late 3 frame 1 (6 bytes, 0 ms)"),
            (
                "ax1cy2def3",
                "video changed 1 frame 2 (6 bytes, 10 ms): changed at byte 5: 0x62 was sent, 0x78 came (6 bytes sent, 6 came); video strange 1 of 6 bytes",
            ),
            ("ab1c2def3zaz", "video doubled 1 frame 1 (6 bytes, 0 ms); video strange 2 of 6 bytes"),
            ("", "audio missing 3 frame 1 (3 bytes, 20 ms); video missing 6 frame 1 (6 bytes, 0 ms)"),
        ] {
            let told = differences(&frames(sent), &frames(came), 0).0;
            let told: Vec<_> =
                told.iter().map(|d| format!("{} {} {} {}", d.media, d.kind, d.count, d.first)).collect();
            assert_eq!(told.join("; "), want, "{came}");
        }
    }

    #[test]
    fn frames_that_are_alike_are_counted_as_often_as_they_are_there() {
        for (sent, came, want) in [
            ("aaab", "aaab", ""),
            ("aaabaa", "aaaabaa", "doubled 1"),
            ("aaabaa", "aabaa", "missing 1"),
            ("aaaa", "aa", "missing 2"),
        ] {
            let told = differences(&frames(sent), &frames(came), 0).0;
            let told: Vec<_> = told.iter().map(|d| format!("{} {}", d.kind, d.count)).collect();
            assert_eq!(told.join("; "), want, "{sent} {came}");
        }
    }

    #[test]
    fn frames_come_behind_their_headers() {
        let none = "none had come";
        let other = "changed at byte 5: 0x41 was sent, 0x42 came (6 bytes sent, 6 came)";
        for (sent, came, want) in [
            ("Aab1Bcd", "Aab1Bcd", String::new()),
            ("Aab1Bcd", "AAab1ABcBd", String::new()),
            // One that nothing needs, one that is said again, one that another takes the place of.
            ("AabAcdB", "Aabcd", String::new()),
            ("BAab", "Aab", String::new()),
            ("ab1", "Aab1", String::new()),
            ("Aab1", "ab1", format!("video header 2 frame 1 (6 bytes, 10 ms): {none}")),
            ("Aab1", "Bab1", format!("video header 2 frame 1 (6 bytes, 10 ms): {other}")),
            ("Aab1", "aAb1", format!("video header 1 frame 1 (6 bytes, 10 ms): {none}")),
            ("AabBcd", "BabBcd", format!("video header 2 frame 1 (6 bytes, 10 ms): {other}")),
        ] {
            let (told, _) = differences(&frames(sent), &frames(came), 0);
            let told: Vec<_> =
                told.iter().map(|d| format!("{} {} {} {}", d.media, d.kind, d.count, d.first)).collect();
            assert_eq!(told.join("; "), want, "{sent} {came}");
        }
        // Who came late may have missed it.
        assert!(differences(&frames("Aabcd"), &frames("cd"), 2).0.is_empty());
    }

    #[test]
    fn what_was_sent_before_the_player_played_is_not_missing() {
        for (came, from, want, unseen) in [
            ("", 9, "", 9),
            ("ef3", 6, "", 6),
            ("def3", 6, "", 5),
            ("df3", 6, "video missing 1", 5),
            ("ef3a", 6, "video late 1", 5),
            ("efe3", 6, "video doubled 1", 6),
        ] {
            let (told, left) = differences(&frames("ab1c2def3"), &frames(came), from);
            let told: Vec<_> = told.iter().map(|d| format!("{} {} {}", d.media, d.kind, d.count)).collect();
            assert_eq!((told.join("; ").as_str(), left), (want, unseen), "{came}");
        }
    }

    #[test]
    fn sentences() {
        let of = |kind: &str, count| {
            let d = Difference { kind: kind.into(), media: "video".into(), count, first: "frame 3".into() };
            sentence(&d, 7)
        };
        assert_eq!(of("missing", 2), "2 of 7 video frames did not come, the first is frame 3");
        assert_eq!(
            of("header", 2),
            "2 video frames came without their sequence header, the first is frame 3"
        );
        assert_eq!(of("doubled", 1), "1 video frame came twice, the first is frame 3");
    }
}
