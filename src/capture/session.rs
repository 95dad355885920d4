//! RTMP sessions out of streams: both directions read as far as they are whole, and summed up.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;

use bstr::{BStr, ByteSlice};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::lint::{At, Content, Found, Lint};
use super::media::Media;
use super::secrets::{Place, Secrets};
use super::shake::Shake;
use super::stream::{Cause, Connection, Direction, Handler, Hole};
use crate::record::inspect::{self, Both, Spooled};
use crate::record::spool::Spool;
use crate::wire::amf0::Value;
use crate::wire::chunk::{ChunkReader, Limits, MessageHeader, Quirks, ReadEvent};
use crate::wire::handshake::{BLOCK_LEN, Block};
use crate::wire::message::{Command, Message};
use crate::wire::note::{Note, NoteKind};
use crate::wire::time::Time;

mod naming;
mod raw;

use naming::name;
pub(super) use naming::naming;
pub use raw::Raw;

/// Entries of all lists together (sessions, other connections; while they last, their holes, commands, chunk sizes), at most.
pub const MAX_LISTED: usize = 1_000_000;
/// Bytes of the sessions that ended, as JSON, at most.
pub const MAX_SPOOLED: u64 = 1 << 30;
/// Bytes of unfinished messages over all sessions, at most; a direction that goes beyond is read no further.
pub const MAX_UNFINISHED: usize = 256 << 20;
/// Bytes of C0 and C1, by which a session is known.
pub const HELLO_LEN: u64 = 1 + BLOCK_LEN as u64;
/// Bytes kept of the beginning of each direction, to name what is not RTMP.
const HEAD: usize = 64;
/// Bytes kept of a name that the peer chose.
const MAX_NAME: usize = 256;

/// Hears a session while it is read. What the peers say is not masked here.
pub trait Watch {
    /// Something came whole, at the time of the packet that completed it. Only of flows that begin like RTMP; whether a flow is a
    /// session is certain with its first 1537 bytes.
    fn heard(&mut self, of: &Connection, direction: Direction, time: Time, what: Heard<'_>);

    /// Whether nothing more is to be read.
    fn is_over(&self) -> bool {
        false
    }

    /// A session ended, and this is its sum, before it is kept.
    fn ended(&mut self, session: &mut inspect::Session) {
        let _ = session;
    }
}

/// Hears nothing.
impl Watch for () {
    fn heard(&mut self, _: &Connection, _: Direction, _: Time, _: Heard<'_>) {}
}

/// What is heard.
#[derive(Debug, Clone, Copy)]
pub enum Heard<'a> {
    /// C0 or S0.
    Version(u8),
    /// C1 or S1.
    Hello(&'a Block),
    /// C2 or S2.
    Answer(&'a Block),
    /// A message.
    Message(MessageHeader, &'a [u8]),
    /// A departure from the specification.
    Note(Note),
    /// A gap; after the first one only gaps are heard of this direction.
    Hole(Hole),
    /// The direction cannot be read further.
    Broken(&'a str),
}

/// Takes streams and makes sessions of them.
pub struct Sessions<'w> {
    watch: &'w mut dyn Watch,
    show_secrets: bool,
    sessions: Spool<inspect::Session>,
    other: Spool<inspect::Other>,
    budget: Budget,
    unfinished: usize,
    /// Why what was found could not be kept.
    failed: Option<io::Error>,
}

/// How much more lists may take.
struct Budget {
    left: usize,
    /// Bytes of each list of what ended.
    spooled: u64,
    omitted: u64,
}

impl Budget {
    /// Appends an entry, or counts it among the `omitted` ones of its side and of all.
    fn push<T>(&mut self, list: &mut Vec<T>, omitted: &mut u64, entry: impl FnOnce() -> T) {
        if self.left == 0 {
            *omitted += 1;
            self.omitted += 1;
        } else {
            self.left -= 1;
            list.push(entry());
        }
    }

    /// Keeps what is known of a connection that ended.
    fn keep<T: Serialize>(&mut self, list: &mut Spool<T>, number: u64, entry: &T) -> io::Result<()> {
        if self.left == 0 || list.bytes() > self.spooled {
            self.omitted += 1;
            return Ok(());
        }
        self.left -= 1;
        list.push(number, entry)
    }
}

/// What is kept of a connection while it lasts.
#[derive(Default)]
pub struct State {
    sides: [Side; 2],
    shake: Shake,
    // Only of what speaks RTMP.
    lint: Option<Box<Lint>>,
    said: Said,
    secrets: Secrets,
}

/// What the client said that names the session.
#[derive(Default)]
struct Said {
    connected: bool,
    tc_url: Option<String>,
    name: Option<String>,
    publishes: bool,
    plays: bool,
}

#[derive(Default)]
struct Side {
    head: Vec<u8>,
    /// Bytes so far, holes included.
    bytes: u64,
    holes: Vec<Hole>,
    rtmp: Option<Box<Rtmp>>,
    /// Entries of its lists that had no room.
    omitted: u64,
}

/// A direction that begins as RTMP does.
struct Rtmp {
    sha256: Sha256,
    phase: Phase,
    block: Vec<u8>,
    reader: ChunkReader,
    messages: BTreeMap<u8, u64>,
    chunk_sizes: Vec<u32>,
    commands: Vec<String>,
    media: Media,
    notes: Vec<inspect::Note>,
    unfinished: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Version,
    Hello,
    Answer,
    Chunks,
    /// Behind a hole, or undecodable.
    Lost,
}

impl<'w> Sessions<'w> {
    /// None yet.
    pub fn new(show_secrets: bool, watch: &'w mut dyn Watch) -> Sessions<'w> {
        let budget = Budget { left: MAX_LISTED, spooled: MAX_SPOOLED, omitted: 0 };
        let (sessions, other) = Default::default();
        Sessions { watch, show_secrets, sessions, other, budget, unfinished: 0, failed: None }
    }

    /// Whether nothing more is to be read.
    pub fn is_over(&self) -> bool {
        self.watch.is_over()
    }

    /// Sessions and other connections, in the order of their first packets.
    ///
    /// # Errors
    /// When not all of them could be kept.
    pub fn finish(mut self) -> io::Result<Spooled> {
        self.sessions.sort();
        self.other.sort();
        self.failed.map_or(Ok(()), Err)?;
        Ok(Spooled {
            sessions: self.sessions,
            other: self.other,
            omitted: self.budget.omitted,
            ..Spooled::default()
        })
    }

    /// More bytes of a raw dump.
    pub fn raw(&mut self, raw: &mut Raw, bytes: &[u8]) {
        let offset = raw.state.sides[raw.direction as usize].bytes;
        self.data(&mut raw.state, &raw.connection, raw.direction, Time::ZERO, offset, bytes);
    }

    /// The end of a raw dump: one session, one side of it.
    pub fn end_raw(&mut self, raw: Raw) {
        let key = || "raw".to_string();
        if raw.state.sides[raw.direction as usize].bytes < HELLO_LEN {
            let other = self.other(raw.state, &raw.connection);
            self.add_other(&inspect::Other { key: key(), what: "shorter than a handshake".into(), ..other });
        } else {
            let mut session = self.session(raw.state, &raw.connection);
            session.notes.iter_mut().for_each(|note| note.time_us = None);
            let (client, server) = Default::default();
            self.add_session(inspect::Session { key: key(), client, server, ..session });
        }
    }

    /// Reads bytes of a direction that begins as RTMP does.
    fn read(&mut self, state: &mut State, of: &Connection, direction: Direction, time: Time, bytes: &[u8]) {
        let State { sides, shake, lint, said, secrets } = state;
        let side = &mut sides[direction as usize];
        let at = side.bytes;
        let Some(rtmp) = &mut side.rtmp else { return };
        let lint = lint.get_or_insert_default();
        lint.bytes(direction, time, at + bytes.len() as u64);
        rtmp.sha256.update(bytes);
        let mut rest = bytes;
        if rtmp.phase < Phase::Chunks {
            rest = rtmp.handshake(bytes, &mut |what| {
                match what {
                    Heard::Version(version) => shake.version(direction, version),
                    Heard::Hello(block) => shake.hello(direction, time, block),
                    Heard::Answer(block) => shake.answer(direction, time, block),
                    _ => {}
                }
                self.watch.heard(of, direction, time, what);
            });
        }
        if rtmp.phase == Phase::Chunks && !rest.is_empty() {
            shake.data(direction, time);
        }
        while rtmp.phase == Phase::Chunks {
            let mut left = rest;
            let event = rtmp.reader.read(&mut left);
            rest = &rest[rest.len() - left.len()..];
            let end = at + (bytes.len() - rest.len()) as u64;
            match event {
                Ok(Some(ReadEvent::Message(header, payload))) => {
                    self.watch.heard(of, direction, time, Heard::Message(header, payload));
                    *rtmp.messages.entry(header.type_id).or_default() += 1;
                    rtmp.media.message(header.type_id, header.timestamp, payload);
                    let content = Content::of(header.type_id, payload);
                    let at = At { direction, time, offset: rtmp.reader.chunk_offset(), end, header };
                    lint.message(&at, &content);
                    let sums = Sums {
                        chunk_sizes: &mut rtmp.chunk_sizes,
                        commands: &mut rtmp.commands,
                        budget: &mut self.budget,
                        omitted: &mut side.omitted,
                        said: (direction == Direction::C2s).then_some(&mut *said),
                        secrets: (!self.show_secrets).then_some(&mut *secrets),
                    };
                    sums.message(content);
                }
                // rtmp 5.4.1: such a size is allowed.
                Ok(Some(ReadEvent::Note(note))) if note.kind == NoteKind::ChunkSizeLarge => {}
                Ok(Some(ReadEvent::Note(note))) => {
                    self.watch.heard(of, direction, time, Heard::Note(note));
                    add_note(&mut rtmp.notes, Found::new(direction, time, note), of.first);
                }
                Ok(Some(ReadEvent::Chunk(_))) => {}
                Ok(None) => break,
                Err(e) => {
                    let text = e.to_string();
                    self.watch.heard(of, direction, time, Heard::Broken(&text));
                    rtmp.notes.push(remark(direction, "undecodable", e.offset, text));
                    rtmp.phase = Phase::Lost;
                    lint.lost(direction);
                }
            }
        }
        let held = rtmp.reader.held_bytes();
        self.unfinished = self.unfinished - rtmp.unfinished + held;
        rtmp.unfinished = held;
        if self.unfinished > MAX_UNFINISHED {
            rtmp.notes.push(remark(
                direction,
                "limit",
                at,
                format!("more than {MAX_UNFINISHED} bytes of unfinished messages"),
            ));
            self.lose(rtmp);
            lint.lost(direction);
        }
        if shake.is_whole() {
            lint.shaken(shake.departures(of.began));
        }
        let found = lint.take();
        self.note_down(state, of, found);
    }

    fn note_down(&mut self, state: &mut State, of: &Connection, found: Vec<Found>) {
        let State { sides, secrets, .. } = state;
        for mut found in found {
            self.watch.heard(of, found.direction, found.time, Heard::Note(found.note));
            if !self.show_secrets
                && let Some(masked) =
                    found.seen.as_ref().and_then(|s| secrets.text(BStr::new(s), Place::Name))
            {
                found.seen = Some(masked.to_string());
            }
            if let Some(rtmp) = &mut sides[found.direction as usize].rtmp {
                add_note(&mut rtmp.notes, found, of.first);
            }
        }
    }

    /// Reads a direction no further.
    fn lose(&mut self, rtmp: &mut Rtmp) {
        rtmp.phase = Phase::Lost;
        self.unfinished -= std::mem::take(&mut rtmp.unfinished);
        rtmp.reader = ChunkReader::new(Limits::default(), Quirks::default(), 0);
        rtmp.block = Vec::new();
    }

    /// Sums a session up.
    fn session(&mut self, mut state: State, of: &Connection) -> inspect::Session {
        if let Some(lint) = &mut state.lint {
            lint.shaken(state.shake.departures(of.began));
            lint.end(of.fin, of.disordered || of.began != [true; 2]);
            let found = lint.take();
            self.note_down(&mut state, of, found);
        }
        let url = state.said.url(of, (!self.show_secrets).then_some(&mut state.secrets));
        let mut s = inspect::Session {
            stream: of.number,
            key: of.key(),
            client: of.client.to_string(),
            server: of.server.to_string(),
            role: state.said.role().into(),
            url,
            complete: true,
            end: if of.rst {
                "rst"
            } else if of.fin.contains(&true) {
                "fin"
            } else {
                "open"
            }
            .into(),
            started_us: of.first.as_micros(),
            duration_ms: of.last.since(of.first).as_millis() as u64,
            ..inspect::Session::default()
        };
        for direction in Direction::BOTH {
            self.add_side(&mut s, std::mem::take(&mut state.sides[direction as usize]), direction);
        }
        // Where no SYN was seen, what looks like a handshake may be anything.
        let certain = Direction::BOTH.map(|direction| of.began[direction as usize] || state.shake.is_met());
        s.notes.retain(|note| note.clause.is_none() || certain[usize::from(note.direction == "s2c")]);
        if let Some((direction, offset)) = of.first_conflict {
            let text = "bytes that came again differ from the first copy";
            s.notes.push(inspect::Note {
                count: of.conflicts,
                ..remark(direction, "tcp-conflict", offset, text)
            });
        }
        if of.implausible > 0 {
            let text = "segments too far ahead to belong to the connection";
            s.notes.push(inspect::Note {
                count: of.implausible,
                ..remark(Direction::C2s, "tcp-implausible", 0, text)
            });
        }
        self.budget.left += s.holes.len() + listed(&s.chunk_sizes) + listed(&s.commands);
        s
    }

    fn add_session(&mut self, mut s: inspect::Session) {
        self.watch.ended(&mut s);
        let kept = self.budget.keep(&mut self.sessions, s.stream, &s);
        self.failed = self.failed.take().or(kept.err());
    }

    /// Names what is no session.
    fn other(&mut self, state: State, of: &Connection) -> inspect::Other {
        let [client, server] = &state.sides;
        self.budget.left += client.holes.len() + server.holes.len();
        self.unfinished -=
            state.sides.iter().filter_map(|s| s.rtmp.as_ref()).map(|r| r.unfinished).sum::<usize>();
        inspect::Other {
            stream: of.number,
            key: of.key(),
            what: name(client, server, of),
            bytes: Both { c2s: client.bytes, s2c: server.bytes },
        }
    }

    fn add_other(&mut self, other: &inspect::Other) {
        let kept = self.budget.keep(&mut self.other, other.stream, other);
        self.failed = self.failed.take().or(kept.err());
    }

    fn add_side(&mut self, s: &mut inspect::Session, side: Side, direction: Direction) {
        fn of<T>(both: &mut Both<T>, direction: Direction) -> &mut T {
            if direction == Direction::C2s { &mut both.c2s } else { &mut both.s2c }
        }
        *of(&mut s.bytes, direction) = side.bytes;
        s.omitted += side.omitted;
        let whole = side.holes.is_empty();
        s.holes.extend(side.holes.iter().map(|h| inspect::Hole {
            direction: direction.name().into(),
            offset: h.offset,
            bytes: h.bytes,
            cause: h.cause.name().into(),
        }));
        let Some(mut rtmp) = side.rtmp else {
            s.complete = false;
            return;
        };
        s.complete &= whole && rtmp.phase == Phase::Chunks && rtmp.reader.held_bytes() == 0;
        self.lose(&mut rtmp);
        if whole && side.bytes > 0 {
            *of(&mut s.sha256, direction) =
                Some(rtmp.sha256.finalize().iter().map(|b| format!("{b:02x}")).collect());
        }
        *of(&mut s.messages, direction) = rtmp.messages;
        *of(&mut s.chunk_sizes, direction) = rtmp.chunk_sizes;
        *of(&mut s.commands, direction) = rtmp.commands;
        s.media.extend(rtmp.media.finish().map(|m| (direction.name().to_string(), Box::new(m))));
        s.notes.extend(rtmp.notes);
    }
}

impl Handler for Sessions<'_> {
    type State = State;

    fn data(
        &mut self,
        state: &mut State,
        of: &Connection,
        direction: Direction,
        time: Time,
        offset: u64,
        bytes: &[u8],
    ) {
        let client_speaks_rtmp = state.sides[0].rtmp.is_some();
        let side = &mut state.sides[direction as usize];
        if side.head.len() < HEAD && side.bytes == side.head.len() as u64 {
            side.head.extend(bytes.iter().take(HEAD - side.head.len()));
        }
        // A server is read whatever S0 it answers with; what does not begin with its first byte cannot be read.
        let begins =
            bytes.first() == Some(&3) || (direction == Direction::S2c && client_speaks_rtmp && of.began[1]);
        if offset == 0 && side.bytes == 0 && begins {
            side.rtmp = Some(Box::default());
        }
        self.read(state, of, direction, time, bytes);
        state.sides[direction as usize].bytes = offset + bytes.len() as u64;
    }

    fn hole(&mut self, state: &mut State, of: &Connection, time: Time, hole: Hole) {
        let side = &mut state.sides[hole.direction as usize];
        side.bytes = hole.offset + hole.bytes;
        match side.holes.last_mut() {
            // Packets cut before their payload leave holes side by side: they are one.
            Some(last) if last.offset + last.bytes == hole.offset && last.cause == hole.cause => {
                last.bytes += hole.bytes
            }
            _ => self.budget.push(&mut side.holes, &mut side.omitted, || hole),
        }
        if let Some(mut rtmp) = side.rtmp.take() {
            self.lose(&mut rtmp);
            side.rtmp = Some(rtmp);
            state.lint.iter_mut().for_each(|lint| lint.lost(hole.direction));
            self.watch.heard(of, hole.direction, time, Heard::Hole(hole));
        }
    }

    fn end(&mut self, mut state: State, of: Connection) {
        if state.sides[0].rtmp.is_some() && state.sides[0].bytes >= HELLO_LEN {
            let server = &mut state.sides[1];
            if server.rtmp.is_none() && server.bytes > 0 && server.holes.is_empty() && !of.began[1] {
                let hole = Hole { direction: Direction::S2c, offset: 0, bytes: 0, cause: Cause::MidStream };
                self.budget.push(&mut server.holes, &mut server.omitted, || hole);
            }
            let session = self.session(state, &of);
            return self.add_session(session);
        }
        let other = self.other(state, &of);
        self.add_other(&other);
    }
}

fn listed<T>(both: &Both<Vec<T>>) -> usize {
    both.c2s.len() + both.s2c.len()
}

impl Default for Rtmp {
    fn default() -> Rtmp {
        Rtmp {
            sha256: Sha256::new(),
            phase: Phase::Version,
            block: Vec::new(),
            reader: ChunkReader::new(Limits::default(), Quirks::default(), 1 + 2 * BLOCK_LEN as u64),
            messages: BTreeMap::new(),
            chunk_sizes: Vec::new(),
            commands: Vec::new(),
            media: Media::default(),
            notes: Vec::new(),
            unfinished: 0,
        }
    }
}

impl Rtmp {
    /// Takes the bytes of the handshake; what is behind it.
    fn handshake<'a>(&mut self, mut bytes: &'a [u8], heard: &mut dyn FnMut(Heard<'_>)) -> &'a [u8] {
        if self.phase == Phase::Version
            && let Some((version, rest)) = bytes.split_first()
        {
            heard(Heard::Version(*version));
            (bytes, self.phase) = (rest, Phase::Hello);
        }
        while matches!(self.phase, Phase::Hello | Phase::Answer) {
            let (take, rest) = bytes.split_at(bytes.len().min(BLOCK_LEN - self.block.len()));
            self.block.extend_from_slice(take);
            bytes = rest;
            let Ok(block) = <Box<[u8; BLOCK_LEN]>>::try_from(std::mem::take(&mut self.block))
                .map_err(|part| self.block = part)
            else {
                break;
            };
            let hello = self.phase == Phase::Hello;
            self.phase = if hello { Phase::Answer } else { Phase::Chunks };
            let block = Block(block);
            heard(if hello { Heard::Hello(&block) } else { Heard::Answer(&block) });
        }
        bytes
    }
}

/// Where a message is counted.
struct Sums<'a> {
    chunk_sizes: &'a mut Vec<u32>,
    commands: &'a mut Vec<String>,
    budget: &'a mut Budget,
    omitted: &'a mut u64,
    said: Option<&'a mut Said>,
    secrets: Option<&'a mut Secrets>,
}

impl Sums<'_> {
    fn message(self, content: Content) {
        match content {
            Content::Message(Message::SetChunkSize(size)) => {
                self.budget.push(self.chunk_sizes, self.omitted, || size);
            }
            Content::Message(Message::Data(_, values)) => {
                let name = values.first().and_then(Value::as_text).unwrap_or_default();
                self.budget.push(self.commands, self.omitted, || format!("[{}]", short(name)));
            }
            Content::Message(Message::Command(command)) => {
                if let Some(said) = self.said {
                    said.hear(&command);
                }
                let mut message = Message::Command(command);
                if let Some(secrets) = self.secrets {
                    secrets.mask(&mut message);
                }
                let Message::Command(command) = message else { return };
                self.budget.push(self.commands, self.omitted, || label(&command));
            }
            _ => {}
        }
    }
}

impl Said {
    fn hear(&mut self, command: &Command) {
        let text = |v: &Value| v.as_text().map(short);
        match command.name.as_slice() {
            b"connect" => {
                self.connected = true;
                self.tc_url = command.args.first().and_then(|o| o.get("tcUrl")).and_then(text);
            }
            b"publish" => {
                self.publishes = true;
                self.name = command.args.get(1).and_then(text);
            }
            b"play" | b"play2" => {
                self.plays = true;
                self.name = command.args.get(1).and_then(text).or(self.name.take());
            }
            _ => {}
        }
    }

    fn role(&self) -> &'static str {
        match (self.publishes, self.plays, self.connected) {
            (true, true, _) => "publish+play",
            (true, false, _) => "publish",
            (false, true, _) => "play",
            (false, false, true) => "connect only",
            (false, false, false) => "unknown",
        }
    }

    fn url(&self, of: &Connection, secrets: Option<&mut Secrets>) -> Option<String> {
        if !self.connected {
            return None;
        }
        let mut base = self.tc_url.clone().unwrap_or_else(|| format!("rtmp://{}", of.server));
        let mut name = self.name.clone();
        if let Some(secrets) = secrets {
            let mut mask = |text: &str, place| {
                secrets.text(BStr::new(text), place).map_or(text.into(), |t| t.to_string())
            };
            name = name.map(|n| mask(&n, Place::Name));
            base = mask(&base, Place::Fact);
        }
        Some(name.map_or(base.clone(), |name| format!("{}/{name}", base.trim_end_matches('/'))))
    }
}

/// A name that the peer chose, cut to a length that can be shown.
fn short(text: &BStr) -> String {
    text.as_bytes().get(..MAX_NAME).unwrap_or(text).to_str_lossy().into_owned()
}

/// A command's name, and in angle brackets the status code that an answer carries.
fn label(command: &Command) -> String {
    let code = command.args.iter().find_map(|arg| arg.get("code")).and_then(Value::as_text);
    match code {
        Some(code) => format!("{}<{}>", short(command.name.as_bstr()), short(code)),
        None => short(command.name.as_bstr()),
    }
}

/// `began`: when the session's first packet came.
fn add_note(notes: &mut Vec<inspect::Note>, found: Found, began: Time) {
    let Note { kind, offset, value, .. } = found.note;
    if let Some(known) = notes.iter_mut().find(|n| n.note == kind.name()) {
        known.count += found.count;
        return;
    }
    let client = found.direction == Direction::C2s;
    notes.push(inspect::Note {
        clause: Some(if client { kind.client_clause() } else { kind.clause() }.into()),
        time_us: Some(found.time.since(began).as_micros() as u64),
        value,
        seen: found.seen,
        count: found.count,
        ..remark(found.direction, kind.name(), offset, kind.text())
    });
}

fn remark(
    direction: Direction,
    note: &'static str,
    offset: u64,
    text: impl Into<Cow<'static, str>>,
) -> inspect::Note {
    inspect::Note {
        direction: direction.name().into(),
        note: note.into(),
        offset,
        count: 1,
        text: text.into(),
        ..inspect::Note::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_says_what_its_lists_had_no_room_for() {
        let mut watch = ();
        let mut all = Sessions::new(true, &mut watch);
        all.budget.left = 3;
        let mut raw = Raw::new(&[]);
        all.raw(&mut raw, &[&[3][..], &[0; 2 * BLOCK_LEN]].concat());
        let (message, mut call) = (Message::command("call", 0.0, vec![]), Vec::new());
        message.encode(&mut call);
        let chunk = [&[3, 0, 0, 0, 0, 0, call.len() as u8, 20, 0, 0, 0, 0][..], &call].concat();
        all.raw(&mut raw, &chunk.repeat(5));
        all.end_raw(raw);
        let found = all.finish().unwrap().load().unwrap();
        let [session] = &found.sessions[..] else { panic!("one session") };
        assert_eq!((session.commands.c2s.len(), session.omitted, found.omitted), (3, 2, 2));
    }

    #[test]
    fn what_is_kept_of_those_that_ended_is_bounded() {
        let mut watch = ();
        let mut all = Sessions::new(true, &mut watch);
        assert_eq!(all.budget.spooled, MAX_SPOOLED);
        all.budget.spooled = 2000;
        for number in 0..100 {
            let mut state = State::default();
            if number % 2 == 0 {
                state.sides[0] = Side { bytes: HELLO_LEN, rtmp: Some(Box::default()), ..Side::default() };
            }
            all.end(state, Connection { number, ..Raw::new(&[]).connection });
        }
        let found = all.finish().unwrap();
        let one = |bytes: u64, entries: usize| bytes / entries as u64;
        for (bytes, entries) in
            [(found.sessions.bytes(), found.sessions.len()), (found.other.bytes(), found.other.len())]
        {
            assert!(
                bytes > 2000 && bytes <= 2000 + 2 * one(bytes, entries),
                "{entries} entries of {bytes} bytes"
            );
        }
        assert_eq!((found.sessions.len() + found.other.len()) as u64 + found.omitted, 100);
        assert!(found.omitted > 0);
    }
}
