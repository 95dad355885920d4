//! How a captured session departs from the specification above its chunks (rtmp 5.4, 6 and 7), both directions together.
//!
//! Only what the bytes prove is said, since a note accuses somebody's program. That something was *not* sent by the other side is proved when
//! bytes that the other side sent later have come, without a gap before them: until then it is a [`Suspicion`], which a hole, or the
//! capture's end, silences. That one side sent before the other is told by the capture's clock, where that leaves no doubt ([`SURE`]), and
//! only when the session is over, since nothing of the kind is true of a file whose directions are out of order (an answer before its
//! call shows that, and a TCP acknowledgement before its bytes). What a side has *read* is known from what it answers, for bytes in its kernel's buffers are acknowledged by nobody.

mod command;
mod control;
mod media;

use super::shake::SURE;
use super::stream::Direction;
use crate::wire::chunk::MessageHeader;
use crate::wire::message::{Message, type_id};
use crate::wire::note::{Note, NoteKind};
use crate::wire::time::Time;
use command::Talk;
use control::Control;
use media::Head;

/// Suspicions kept of a session, at most; what is suspected beyond is not said.
pub const MAX_SUSPICIONS: usize = 16;

/// A departure, with its first place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Whose bytes depart.
    pub direction: Direction,
    /// Which departure, where and with which value.
    pub note: Note,
    /// When.
    pub time: Time,
    /// The text that shows it, where it is text.
    pub seen: Option<String>,
    /// How often.
    pub count: u64,
}

/// A message's place.
#[derive(Debug, Clone, Copy)]
pub struct At {
    /// Who sent it.
    pub direction: Direction,
    /// When it was complete.
    pub time: Time,
    /// Where the chunk that completed it begins, from the first byte of the direction.
    pub offset: u64,
    /// Where it ends.
    pub end: u64,
    /// Its header.
    pub header: MessageHeader,
}

/// What a message holds.
#[derive(Debug)]
pub enum Content {
    /// Audio or video: its head, where it has one track and can be read.
    Coded(Option<Head>),
    /// Anything else.
    Message(Message),
    /// It does not decode.
    Broken,
}

/// A session as far as it was read. Bounded: lists have fixed limits, and what would need more than they hold is not judged.
#[derive(Debug, Default)]
pub struct Lint {
    sides: [Side; 2],
    talk: Talk,
    suspicions: Vec<Suspicion>,
    /// What is certain if the directions are in order; one entry a kind and direction.
    certain: Vec<Found>,
    disordered: bool,
    /// What is certain.
    found: Vec<Found>,
}

/// What is known of one direction.
#[derive(Debug, Default)]
struct Side {
    state: Reading,
    /// Bytes that came, at least.
    passed: u64,
    /// Bytes that the other side has surely read.
    read: u64,
    /// When the last message came.
    heard: Time,
    control: Control,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// No byte came.
    #[default]
    Unseen,
    /// All came, from the first byte on.
    Whole,
    /// Not all came, or not all could be read.
    Lost,
}

/// What is true unless this direction shows otherwise.
#[derive(Debug)]
struct Suspicion {
    needs: Direction,
    found: Found,
}

impl Content {
    /// What this payload holds.
    pub fn of(type_id: u8, payload: &[u8]) -> Content {
        match type_id {
            type_id::AUDIO | type_id::VIDEO => Content::Coded(Head::of(type_id, payload)),
            _ => Message::decode(type_id, payload).map_or(Content::Broken, Content::Message),
        }
    }
}

impl Lint {
    /// The bytes up to offset `to` came, in order; to be called before their messages.
    pub fn bytes(&mut self, direction: Direction, time: Time, to: u64) {
        self.settle(|s| s.needs == direction && time.since(s.found.time) >= SURE);
        let side = self.side(direction);
        side.passed = to;
        if side.state == Reading::Unseen {
            side.state = Reading::Whole;
        }
        self.clear(&[NoteKind::AckNumber], |s| s.needs == direction && s.found.note.value <= to);
        self.outran_buffers(direction, time);
    }

    /// What departs in the handshakes. What came too early did if the directions are in order.
    pub fn shaken(&mut self, departures: Vec<Found>) {
        let timed = [NoteKind::EarlyAnswer, NoteKind::ClientEarly, NoteKind::ServerEarly];
        for found in departures {
            if timed.contains(&found.note.kind) { self.keep(found) } else { self.found.push(found) }
        }
    }

    /// A message.
    pub fn message(&mut self, at: &At, content: &Content) {
        self.side(at.direction).heard = at.time;
        match content {
            Content::Coded(head) => self.media(at, *head),
            Content::Message(Message::Aggregate(_)) => self.media(at, None),
            Content::Message(message) => self.says(at, message),
            Content::Broken => self.broken(at),
        }
        let amf3 = [type_id::DATA_AMF3, type_id::SHARED_OBJECT_AMF3, type_id::COMMAND_AMF3];
        if amf3.contains(&at.header.type_id) && at.direction == Direction::S2c && self.talk.answered_amf0 {
            // ertmp2, AMF3 clarification.
            self.say(at, NoteKind::Amf3Unasked, u64::from(at.header.type_id));
        }
    }

    /// A direction cannot be read further: a gap, or what does not decode.
    pub fn lost(&mut self, direction: Direction) {
        self.side(direction).state = Reading::Lost;
        self.suspicions.retain(|s| s.needs != direction);
    }

    /// The session is over; `closed` says of which directions the end was seen, `disordered` as of [`super::stream::Connection`].
    pub fn end(&mut self, closed: [bool; 2], disordered: bool) {
        self.settle(|s| closed[s.needs as usize]);
        Direction::BOTH.into_iter().for_each(|direction| self.never_answered(direction));
        let certain = std::mem::take(&mut self.certain);
        if !disordered && !self.disordered {
            self.found.extend(certain);
        }
    }

    /// What was found since the last call.
    pub fn take(&mut self) -> Vec<Found> {
        std::mem::take(&mut self.found)
    }

    fn says(&mut self, at: &At, message: &Message) {
        match message {
            Message::Command(command) if at.direction == Direction::C2s => self.client_says(at, command),
            Message::Command(command) => self.server_says(at, command),
            Message::Unknown { type_id, .. } => self.say(at, NoteKind::MessageType, u64::from(*type_id)),
            _ => self.control(at, message),
        }
    }

    /// What a command that does not decode said is not known: nothing is said any more that depends on it.
    fn broken(&mut self, at: &At) {
        self.found.push(at.found(NoteKind::Payload, u64::from(at.header.type_id)));
        let harmless = [type_id::DATA_AMF0, type_id::DATA_AMF3, type_id::AGGREGATE];
        if !harmless.contains(&at.header.type_id) {
            self.lost(at.direction);
        }
    }

    fn side(&mut self, direction: Direction) -> &mut Side {
        &mut self.sides[direction as usize]
    }

    fn whole(&self, direction: Direction) -> bool {
        self.sides[direction as usize].state == Reading::Whole
    }

    fn say(&mut self, at: &At, kind: NoteKind, value: u64) {
        self.say_seen(at, kind, value, None);
    }

    fn say_seen(&mut self, at: &At, kind: NoteKind, value: u64, seen: Option<String>) {
        if self.whole(at.direction) {
            self.found.push(Found { seen, ..at.found(kind, value) });
        }
    }

    /// Says it if the directions are in order.
    fn say_of_both(&mut self, at: &At, kind: NoteKind, value: u64) {
        if self.whole(at.direction) {
            self.keep(at.found(kind, value));
        }
    }

    fn keep(&mut self, found: Found) {
        let same = |f: &&mut Found| f.note.kind == found.note.kind && f.direction == found.direction;
        match self.certain.iter_mut().find(same) {
            Some(known) => known.count += found.count,
            None => self.certain.push(found),
        }
    }

    /// Says it if the directions are in order and the other one shows nothing else.
    fn suspect(&mut self, at: &At, kind: NoteKind, value: u64) {
        let needs = other(at.direction);
        if !self.whole(at.direction) || !self.whole(needs) {
            return;
        }
        let same = |s: &&mut Suspicion| s.found.note.kind == kind && s.found.note.value == value;
        if let Some(known) = self.suspicions.iter_mut().find(same) {
            known.found.count += 1;
        } else if self.suspicions.len() < MAX_SUSPICIONS {
            self.suspicions.push(Suspicion { needs, found: at.found(kind, value) });
        }
    }

    /// What is suspected no longer.
    fn clear(&mut self, kinds: &[NoteKind], which: impl Fn(&Suspicion) -> bool) {
        if !self.suspicions.is_empty() {
            self.suspicions.retain(|s| !(kinds.contains(&s.found.note.kind) && which(s)));
        }
    }

    /// What is certain now.
    fn settle(&mut self, certain: impl Fn(&Suspicion) -> bool) {
        if self.suspicions.is_empty() {
            return;
        }
        let (certain, open): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.suspicions).into_iter().partition(certain);
        self.suspicions = open;
        certain.into_iter().for_each(|s| self.keep(s.found));
    }
}

impl Found {
    /// Seen once.
    pub fn new(direction: Direction, time: Time, note: Note) -> Found {
        Found { direction, note, time, seen: None, count: 1 }
    }
}

impl At {
    fn found(&self, kind: NoteKind, value: u64) -> Found {
        let note = Note { kind, offset: self.offset, csid: self.header.csid, value };
        Found::new(self.direction, self.time, note)
    }
}

fn other(direction: Direction) -> Direction {
    match direction {
        Direction::C2s => Direction::S2c,
        Direction::S2c => Direction::C2s,
    }
}
