//! Acknowledgements, bandwidth and pings (rtmp 5.4, 7.1.7).

use std::time::Duration;

use super::{At, Lint, other};
use crate::capture::stream::Direction;
use crate::wire::message::{Message, UserControl};
use crate::wire::note::NoteKind;
use crate::wire::time::Time;

/// What may wait in the buffers of kernels between two programs, in bytes: what came beyond that was read.
const BUFFERED: u64 = 16 << 20;
/// What a program may read at once before it acknowledges, in bytes, and generously so.
const READ: u64 = 1 << 20;
/// Programs begin the count of what they received anew before it wraps; some at 0xF0000000.
const NEAR_WRAP: u64 = 0xF000_0000;
/// Pings that wait, at most; further ones are not judged.
const MAX_PINGS: usize = 16;
/// How long a peer must have gone on before it is said that it did not answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the sender of a direction announced and asked.
#[derive(Debug, Default)]
pub(super) struct Control {
    /// Bytes after which it wants to hear an acknowledgement.
    window: Option<u32>,
    /// Its bytes that count as acknowledged.
    acknowledged: u64,
    /// The number in its own last acknowledgement.
    last_number: Option<u32>,
    /// Its last Set Peer Bandwidth was hard.
    hard: bool,
    bandwidth: Option<Question>,
    pings: Vec<Question>,
    pings_left_out: bool,
}

/// What waits for an answer.
#[derive(Debug, Clone, Copy)]
struct Question {
    value: u32,
    /// Where it ends.
    end: u64,
    time: Time,
    /// Where the answer could stand first.
    due: u64,
}

impl Lint {
    pub(super) fn control(&mut self, at: &At, message: &Message) {
        match message {
            Message::Acknowledgement(number) => self.acknowledges(at, *number),
            Message::WindowAckSize(size) => self.announces(at, *size),
            Message::SetPeerBandwidth { size, limit } => self.limits(at, *size, *limit),
            Message::UserControl(event) => self.event(at, event),
            _ => {}
        }
    }

    /// The sender of `at` has read the other direction up to `end`.
    pub(super) fn has_read(&mut self, at: &At, end: u64) {
        let side = self.side(other(at.direction));
        side.read = side.read.max(end);
        if let Some(more) = self.overdue(other(at.direction)) {
            self.say_of_both(at, NoteKind::AckMissing, more);
        }
    }

    /// So much was sent that some of it must have been read.
    pub(super) fn outran_buffers(&mut self, direction: Direction, time: Time) {
        let side = self.side(direction);
        side.read = side.read.max(side.passed.saturating_sub(BUFFERED));
        if let Some(more) = self.overdue(direction) {
            let offset = self.side(other(direction)).passed;
            self.suspect(&nowhere(other(direction), offset, time), NoteKind::AckMissing, more);
        }
    }

    /// rtmp 5.4.3: the bytes read since the last acknowledgement, where these are more than the window; counted once.
    fn overdue(&mut self, direction: Direction) -> Option<u64> {
        let side = self.side(direction);
        let window = u64::from(side.control.window.filter(|window| *window > 0)?);
        let more = side.read.saturating_sub(side.control.acknowledged);
        if more < window + READ {
            return None;
        }
        side.control.acknowledged = side.read;
        Some(more)
    }

    fn acknowledges(&mut self, at: &At, number: u32) {
        let of = self.side(other(at.direction));
        let passed = of.passed;
        of.control.acknowledged = passed;
        self.clear(&[NoteKind::AckMissing], |s| s.found.direction == at.direction);
        let before = self.side(at.direction).control.last_number.replace(number);
        if before.is_some_and(|before| number < before && u64::from(before) < NEAR_WRAP) {
            self.say(at, NoteKind::AckBackward, u64::from(number));
        }
        if u64::from(number) > passed {
            self.suspect(at, NoteKind::AckNumber, u64::from(number));
        }
    }

    fn announces(&mut self, at: &At, size: u32) {
        let control = &mut self.side(at.direction).control;
        control.window = Some(size);
        control.acknowledged = control.acknowledged.max(at.end);
        self.side(other(at.direction)).control.bandwidth = None;
    }

    /// rtmp 5.4.5
    fn limits(&mut self, at: &At, size: u32, limit: u8) {
        let (answered, due) = {
            let peer = self.side(other(at.direction));
            (peer.control.window == Some(size), peer.passed)
        };
        let control = &mut self.side(at.direction).control;
        match limit {
            0 | 1 => control.hard = limit == 0,
            // Dynamic is hard after a hard one, and ignored otherwise.
            2 if control.hard => {}
            2 => return,
            _ => return self.say(at, NoteKind::BandwidthLimit, u64::from(limit)),
        }
        let question = Question { value: size, end: at.end, time: at.time, due };
        control.bandwidth = (!answered).then_some(question);
    }

    /// rtmp 7.1.7
    fn event(&mut self, at: &At, event: &UserControl) {
        match event {
            UserControl::PingRequest(value) => self.pings(at, *value),
            UserControl::PingResponse(value) => self.answers_ping(at, *value),
            UserControl::Unknown { event, .. } => {
                self.say(at, NoteKind::UserControlEvent, u64::from(*event));
            }
            UserControl::SetBufferLength { .. } if at.direction == Direction::S2c => {
                self.say(at, NoteKind::UserControlEvent, u64::from(event.event()));
            }
            _ => {}
        }
    }

    fn pings(&mut self, at: &At, value: u32) {
        let due = self.side(other(at.direction)).passed;
        let control = &mut self.side(at.direction).control;
        if control.pings.len() < MAX_PINGS {
            control.pings.push(Question { value, end: at.end, time: at.time, due });
        } else {
            control.pings_left_out = true;
        }
        self.clear(&[NoteKind::PingDiffers], |s| s.found.note.value == u64::from(value));
    }

    fn answers_ping(&mut self, at: &At, value: u32) {
        let control = &mut self.side(other(at.direction)).control;
        if let Some(i) = control.pings.iter().position(|ping| ping.value == value) {
            let end = control.pings.remove(i).end;
            self.has_read(at, end);
        } else if !control.pings.is_empty() && !control.pings_left_out {
            // Wrong as it is, it answers one.
            control.pings.remove(0);
            self.suspect(at, NoteKind::PingDiffers, u64::from(value));
        }
    }

    /// What the sender of `direction` asked and the other side, which went on, did not answer.
    pub(super) fn never_answered(&mut self, direction: Direction) {
        let side = self.side(direction);
        let (read, pings, bandwidth) =
            (side.read, std::mem::take(&mut side.control.pings), side.control.bandwidth.take());
        let heard = self.side(other(direction)).heard;
        let place = |q: &Question| nowhere(other(direction), q.due, q.time);
        for ping in pings.iter().filter(|ping| heard.since(ping.time) >= PATIENCE) {
            self.say_of_both(&place(ping), NoteKind::PingUnanswered, u64::from(ping.value));
        }
        let asked = bandwidth.filter(|q| q.end <= read && heard.since(q.time) >= PATIENCE);
        if let Some(asked) = asked {
            self.say_of_both(&place(&asked), NoteKind::BandwidthUnanswered, u64::from(asked.value));
        }
    }
}

/// The place where a message is missing.
fn nowhere(direction: Direction, offset: u64, time: Time) -> At {
    let header = crate::wire::chunk::MessageHeader { csid: 0, timestamp: 0, len: 0, type_id: 0, msid: 0 };
    At { direction, time, offset, end: offset, header }
}
