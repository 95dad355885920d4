//! What a relay does to frames: hands them on, writes them anew, or loses a kind. Frames that are lost, doubled or damaged make no remuxer.

use crate::net::relay::Frame;
use crate::wire::media::{AVC_NALS, is_slice, nal_units};
use crate::wire::message::type_id;

/// What a relay does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// Frames come as they were sent, as far as they come right.
    Passthrough,
    /// Frames come in other bytes, but all pictures among them are of those sent: they are judged by these.
    Remux,
    /// Frames come in other bytes, some pictures too: nobody is judged by bytes then.
    Transcode,
    /// Only audio or only video comes, and most of it.
    Partial,
}

impl How {
    /// As the fact says it.
    pub(super) fn name(self) -> &'static str {
        match self {
            How::Passthrough => "passthrough",
            How::Remux => "remux",
            How::Transcode => "transcode",
            How::Partial => "partial",
        }
    }
}

/// What became of frames of ours, audio and video; `None` where nothing came. `packed`: they came in aggregates, which keep them, but not the
/// messages that scenarios await.
pub(super) fn how_relayed(sent: &[Frame], came: &[Frame], packed: bool) -> Option<How> {
    let anew = || if keeps_pictures(sent, came) { How::Remux } else { How::Transcode };
    let of = |frames: &[Frame], kind: u8| frames.iter().filter(|frame| frame.type_id == kind).count();
    let is_most = |kind: u8| 2 * of(came, kind) > of(sent, kind);
    let others = || came.iter().filter(|frame| !sent.iter().any(|s| s.payload == frame.payload));
    let is_damaged = |frame: &Frame| {
        sent.iter().any(|s| s.type_id == frame.type_id && s.payload.len() == frame.payload.len())
    };
    Some(match (of(came, type_id::AUDIO), of(came, type_id::VIDEO)) {
        (0, 0) => return None,
        (_, 0) if is_most(type_id::AUDIO) => How::Partial,
        _ if packed && others().next().is_none() => How::Remux,
        _ if packed => anew(),
        _ if others().any(|frame| sent.iter().any(|s| is_anew(&s.payload, &frame.payload))) => anew(),
        (0, _) if is_most(type_id::VIDEO) => How::Partial,
        // All of it is unknown.
        _ if others().count() == came.len() && !others().all(is_damaged) => anew(),
        _ => How::Passthrough,
    })
}

/// Whether this is the same picture in other bytes: whole NAL units, and its slice among them unchanged.
fn is_anew(sent: &[u8], came: &[u8]) -> bool {
    let Some(slice) = nal_units(sent).and_then(|mut nals| nals.find(|nal| is_slice(nal))) else {
        return false;
    };
    let Some(mut nals) = nal_units(came) else { return false };
    // The frame type, the codec and what the packet is stay.
    let same_head = sent[..2] == came[..2];
    let moved = sent[2..AVC_NALS] != came[2..AVC_NALS];
    same_head && (moved || sent.len() != came.len()) && nals.any(|nal| nal == slice)
}

/// The pictures of AVC frames: each slice as a frame without all that may be written anew around it. Others have none.
/// Made one at a time: a message of the target may be full of the smallest.
pub(super) fn pictures(frames: &[Frame]) -> impl Iterator<Item = Frame> {
    videos(frames).flat_map(|frame| {
        let slices = nal_units(&frame.payload).into_iter().flatten().filter(|nal| is_slice(nal));
        slices.map(move |slice| picture(frame, slice))
    })
}

fn picture(frame: &Frame, slice: &[u8]) -> Frame {
    Frame { payload: [&frame.payload[..2], &[0, 0, 0], slice].concat().into(), ..frame.clone() }
}

/// Whether all video that came is made of pictures that were sent.
fn keeps_pictures(sent: &[Frame], came: &[Frame]) -> bool {
    let known: Vec<Frame> = pictures(sent).collect();
    pictures(came).next().is_some()
        && videos(came).all(|frame| nal_units(&frame.payload).is_some())
        && pictures(came).all(|frame| known.iter().any(|sent| sent.payload == frame.payload))
}

fn videos(frames: &[Frame]) -> impl Iterator<Item = &Frame> {
    frames.iter().filter(|frame| frame.type_id == type_id::VIDEO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sample;

    fn frame(type_id: u8, payload: Vec<u8>) -> Frame {
        Frame { type_id, timestamp: 0, payload: payload.into(), order: 0 }
    }

    /// Everything sent, but for what `change` makes of the second picture.
    fn changed(change: impl Fn(&mut Vec<u8>)) -> Vec<Frame> {
        let mut all = sent();
        let mut payload = all[2].payload.to_vec();
        change(&mut payload);
        all[2].payload = payload.into();
        all
    }

    fn sent() -> Vec<Frame> {
        let video = |i: u64| {
            frame(9, if i == 0 { sample::avc_key(400, i) } else { sample::avc_inter(400 + i as usize, i) })
        };
        (0..3).flat_map(|i| [video(i), frame(8, sample::aac_frame(100 + i as usize, i))]).collect()
    }

    fn put(nal: &[u8], payload: &mut Vec<u8>) {
        payload.extend((nal.len() as u32).to_be_bytes());
        payload.extend(nal);
    }

    #[test]
    fn only_whole_pictures_in_other_bytes_make_a_remuxer() {
        let all = sent();
        let without = |gone: &dyn Fn(usize, &Frame) -> bool| {
            all.iter()
                .enumerate()
                .filter(|(i, frame)| !gone(*i, frame))
                .map(|(_, frame)| frame.clone())
                .collect()
        };
        let alone = |payload: &mut Vec<u8>| {
            let nal = nal_units(payload).unwrap().find(|nal| is_slice(nal)).unwrap().to_vec();
            payload.truncate(AVC_NALS);
            put(&nal, payload);
        };
        let every = |change: &dyn Fn(&mut Vec<u8>)| -> Vec<Frame> {
            let change = |f: &Frame| {
                let mut payload = f.payload.to_vec();
                change(&mut payload);
                frame(f.type_id, payload)
            };
            all.iter().map(change).collect()
        };
        let (passthrough, remux) = (Some(How::Passthrough), Some(How::Remux));
        let transcode = Some(How::Transcode);
        let mut one_damaged = changed(alone);
        let mut payload = one_damaged[0].payload.to_vec();
        *payload.last_mut().unwrap() ^= 1;
        one_damaged[0].payload = payload.into();
        let lost = changed(alone).split_off(1);
        let mut joined = changed(|p| p.extend(&all[4].payload[AVC_NALS..]));
        joined.remove(4);
        let table: [(&str, Vec<Frame>, Option<How>); 19] = [
            ("nothing", vec![], None),
            ("all", all.clone(), passthrough),
            ("one lost", without(&|i, _| i == 2), passthrough),
            ("one twice", [&all[..], &all[2..3]].concat(), passthrough),
            ("its last byte is damaged", changed(|p| *p.last_mut().unwrap() ^= 1), passthrough),
            ("a byte before the picture is damaged", changed(|p| p[20] ^= 1), passthrough),
            ("its head is damaged", changed(|p| p[0] ^= 0x30), passthrough),
            ("a byte too long", changed(|p| p.push(7)), passthrough),
            ("a byte too short", changed(|p| _ = p.pop()), passthrough),
            ("each is damaged", every(&|p| *p.last_mut().unwrap() ^= 1), passthrough),
            ("each is other, and longer", every(&|p| *p = vec![7; p.len() + 9]), transcode),
            ("the picture alone", changed(alone), remux),
            ("the picture alone, and one lost", lost, remux),
            ("the picture alone, and another damaged", one_damaged, transcode),
            (
                "parameter sets before it",
                changed(|p| {
                    let rest = p.split_off(AVC_NALS);
                    put(&[0x67, 1], p);
                    p.extend(rest);
                }),
                remux,
            ),
            ("two pictures in one message", joined, remux),
            ("another composition time", changed(|p| p[4] = 80), remux),
            ("it stops", all[..1].to_vec(), passthrough),
            ("no audio", without(&|_, frame| frame.type_id == 8), Some(How::Partial)),
        ];
        for (name, came, want) in table {
            assert_eq!(how_relayed(&all, &came, false), want, "{name}");
        }
        assert_eq!(how_relayed(&all, &all, true), remux, "packed");
        let audio = without(&|_, frame| frame.type_id == 9);
        assert_eq!(how_relayed(&all, &audio, true), Some(How::Partial), "packed, audio only");
        assert_eq!(how_relayed(&all, &audio[..1], true), remux, "packed, and then nothing");
    }
}
