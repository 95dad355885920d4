//! One session of the reference server: its socket, its timers, what comes in and what waits for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep_until, timeout};

use super::board::{Frame, Mail, Mailbox, Place, Role};
use super::command::{self, NetStream};
use super::fault::{Fault, Faults};
use super::log::{Told, What};
use super::misbehave::{self, Misbehaviour};
use super::{HANDSHAKE_TIME, MAX_HELD, Shared, Streams};
use crate::net::conn::Io;
use crate::wire::amf0::{self, Value};
use crate::wire::chunk::{Limits, MessageHeader};
use crate::wire::media;
use crate::wire::message::{Command, Encoding, Message, UserControl, normalised, type_id};
use crate::wire::session::{Config, Event, Fields, Goal, Session};
use crate::wire::time::Time;

/// Bytes that one read takes.
const READ_SIZE: usize = 16 << 10;
/// With so many bytes waiting to be written no media is added.
const MEDIA_AHEAD: usize = 64 << 10;
/// With so many bytes waiting to be written nothing is read: who does not take answers asks no more.
const ANSWERS_AHEAD: usize = 1 << 20;
/// After FIN what still comes is read for so long, so that the client sees the last answer and no RST.
const LINGER: Duration = Duration::from_secs(1);
/// How long media behind a refused publish is taken.
const REFUSED_MEDIA: Duration = Duration::from_secs(5);
/// How long a client that must be told may take the last answers.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// What a session may hold of unfinished messages: the longest there is, and some more.
const LIMITS: Limits =
    Limits { open_messages: 64, held_bytes: 20 << 20, message_len: 0xFF_FFFF, chunk_streams: 1024 };
/// Ping requests, in milliseconds.
const PING_MS: u32 = 60_000;

/// Serves one connection until it ends.
pub(super) async fn serve(shared: Arc<Shared>, io: Box<dyn Io>, from: Option<SocketAddr>) {
    let (mut reader, mut writer) = tokio::io::split(io);
    let mut client = Client::new(shared.clone(), from);
    let died = shared.died.notified();
    tokio::pin!(died);
    let alive = tokio::select! {
        () = &mut died => false,
        () = client.run(&mut reader, &mut writer) => true,
    };
    client.leave_all();
    client.ended(alive);
    if alive && !shared.is_dead() {
        let _ = timeout(LAST_WORDS, writer.write_all(&client.out)).await;
        let _ = writer.shutdown().await;
        let _ = timeout(LINGER, async { while matches!(reader.read(&mut client.buffer).await, Ok(1..)) {} })
            .await;
    }
    shared.held.fetch_sub(client.held, Ordering::Relaxed);
}

/// The state of one session.
pub(super) struct Client {
    pub shared: Arc<Shared>,
    pub id: u64,
    from: Option<SocketAddr>,
    pub session: Session,
    pub mailbox: Arc<Mailbox>,
    /// The app, once connected.
    pub app: Option<String>,
    pub streams: Streams,
    pub last_stream: u32,
    /// It ends as soon as what is queued has been written.
    pub ending: bool,
    /// Bytes written.
    pub sent: u64,
    /// Whether the client acknowledged anything.
    pub acked: bool,
    pub wrong: Misbehaviour,
    /// Why it ends, where it is known.
    why: Option<String>,
    received: u64,
    accepted: Instant,
    close_at: Option<Instant>,
    buffer: Vec<u8>,
    out: Bytes,
    held: usize,
}

/// What a session found, free of its buffers.
enum Found {
    Nothing,
    Media(MessageHeader, Bytes),
    Command(u32, Command),
    /// Any message, for the faults to look at.
    Any(MessageHeader, Bytes),
    Ended(String),
}

impl Found {
    fn of(header: MessageHeader, payload: &[u8]) -> Found {
        match header.type_id {
            type_id::AUDIO
            | type_id::VIDEO
            | type_id::DATA_AMF0
            | type_id::DATA_AMF3
            | type_id::AGGREGATE => Found::Media(header, Bytes::copy_from_slice(payload)),
            type_id::COMMAND_AMF0 | type_id::COMMAND_AMF3 => {
                match Message::decode(header.type_id, payload) {
                    Ok(Message::Command(command)) => Found::Command(header.msid, command),
                    // What does not decode names nothing that could be answered.
                    _ => Found::Nothing,
                }
            }
            _ => Found::Nothing,
        }
    }
}

impl Client {
    fn new(shared: Arc<Shared>, from: Option<SocketAddr>) -> Client {
        let id = shared.next_session.fetch_add(1, Ordering::Relaxed);
        let options = &shared.options;
        let mut config = Config {
            hello_time: shared.now().as_rtmp_millis().max(1),
            seed: id.wrapping_mul(0x9E37_79B9),
            limits: LIMITS,
            quirks: options.quirks,
            ping_ms: Some(options.ping_ms.unwrap_or(PING_MS)),
            ..Config::default()
        };
        misbehave::configure(options.faults, &mut config);
        Client {
            shared,
            id,
            from,
            session: Session::server(config),
            mailbox: Arc::default(),
            app: None,
            streams: Streams::default(),
            last_stream: 0,
            ending: false,
            sent: 0,
            acked: false,
            wrong: Misbehaviour::default(),
            why: None,
            received: 0,
            accepted: Instant::now(),
            close_at: None,
            buffer: vec![0; READ_SIZE],
            out: Bytes::new(),
            held: 0,
        }
    }

    async fn run(&mut self, reader: &mut ReadHalf<Box<dyn Io>>, writer: &mut WriteHalf<Box<dyn Io>>) {
        let mailbox = self.mailbox.clone();
        misbehave::accepted(self);
        while !(self.ending && self.out.is_empty()) {
            let arrival = mailbox.arrival.notified();
            if mailbox.is_too_slow() {
                self.end("the player is too slow");
                return;
            }
            if !self.wrong.hung {
                self.deliver();
                self.collect();
            }
            let reads = self.out.len() < ANSWERS_AHEAD && !self.ending;
            let out = self.out.clone();
            let deadline = self.deadline();
            tokio::select! {
                read = reader.read(&mut self.buffer), if reads => match read {
                    Ok(n @ 1..) => self.receive(n),
                    Ok(_) => return self.end("closed by the client"),
                    Err(e) => return self.end(e.to_string()),
                },
                written = writer.write(&out), if !out.is_empty() => match written {
                    Ok(n @ 1..) => {
                        self.sent += n as u64;
                        self.out.advance(n);
                    }
                    Ok(_) => return self.end("the client takes no more"),
                    Err(e) => return self.end(e.to_string()),
                },
                () = arrival => {}
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => self.timeout(),
            }
        }
    }

    fn now(&self) -> Time {
        self.shared.now()
    }

    fn deadline(&self) -> Option<Instant> {
        let session = self.session.deadline().map(|at| self.shared.began + at.since(Time::ZERO));
        let late = misbehave::due(self);
        [self.handshake_deadline(), session, self.close_at, late].into_iter().flatten().min()
    }

    fn handshake_deadline(&self) -> Option<Instant> {
        let shaking = self.session.reached() < Goal::Handshaken && !misbehave::patient(self.faults());
        shaking.then_some(self.accepted + HANDSHAKE_TIME)
    }

    fn timeout(&mut self) {
        let now = Instant::now();
        let late = self.handshake_deadline().is_some_and(|at| at <= now);
        if late {
            self.end("no handshake in time");
        }
        self.ending |= self.close_at.is_some_and(|at| at <= now);
        self.session.timeout(self.now());
    }

    /// It ends as soon as what is queued has been written.
    pub fn end(&mut self, why: impl Into<String>) {
        self.ending = true;
        self.why.get_or_insert_with(|| why.into());
    }

    /// Tells whoever runs the server. One that does not keep up is told less.
    pub fn tell(&self, what: What) {
        if let Some(log) = &self.shared.options.log {
            let _ = log.try_send(Told { session: self.id, from: self.from, what });
        }
    }

    fn ended(&mut self, alive: bool) {
        let why = self.why.take();
        let fault = if alive { "ended by a fault" } else { "the server died of a fault" };
        self.tell(What::Ended {
            after: self.accepted.elapsed(),
            app: self.app.clone(),
            received_bytes: self.received,
            sent_bytes: self.sent,
            why: why.unwrap_or_else(|| fault.to_owned()),
        });
    }

    /// Feeds what was read to the session.
    fn receive(&mut self, n: usize) {
        self.received += n as u64;
        let buffer = std::mem::take(&mut self.buffer);
        let mut changed = Vec::new();
        let mut bytes = &buffer[..n];
        if !self.faults().is_empty() {
            changed.extend_from_slice(bytes);
            misbehave::incoming(self, &mut changed);
            bytes = &changed;
        }
        while !self.ending && !self.wrong.hung {
            let (rest, found) = self.read(bytes);
            bytes = &bytes[bytes.len() - rest..];
            match found {
                Some(found) => self.take(found),
                None => break,
            }
        }
        self.buffer = buffer;
        if !self.faults().is_empty() {
            misbehave::acknowledge(self);
        }
        self.count_held();
    }

    /// What it does wrong.
    pub fn faults(&self) -> Faults {
        self.shared.options.faults
    }

    /// Bytes that the session knows nothing of.
    pub fn say(&mut self, bytes: &[u8]) {
        self.out = [&self.out[..], bytes].concat().into();
    }

    /// The next that was found, and how many bytes are left behind it.
    fn read<'a>(&'a mut self, mut bytes: &'a [u8]) -> (usize, Option<Found>) {
        let now = self.shared.now();
        let faults = !self.faults().is_empty();
        let found = match self.session.read(now, &mut bytes) {
            Ok(None) => None,
            Ok(Some(Event::Message(header, payload))) if faults => {
                Some(Found::Any(header, Bytes::copy_from_slice(payload)))
            }
            Ok(Some(Event::Message(header, payload))) => Some(Found::of(header, payload)),
            Ok(Some(_)) => Some(Found::Nothing),
            Err(e) => Some(Found::Ended(e.to_string())),
        };
        (bytes.len(), found)
    }

    fn take(&mut self, found: Found) {
        match found {
            Found::Nothing => {}
            Found::Media(header, payload) => self.media(header, payload),
            Found::Command(msid, command) => command::answer(self, msid, &command),
            Found::Any(mut header, payload) => {
                misbehave::message(self, header, &payload);
                header.msid = self.msid_on_wire(header.msid);
                if !self.wrong.hung {
                    self.take(Found::of(header, &payload));
                }
            }
            Found::Ended(why) => self.end(why),
        }
    }

    /// Bytes of unfinished messages count against what all sessions may hold.
    fn count_held(&mut self) {
        let held = self.session.held_bytes();
        let all = self.shared.held.fetch_add(held, Ordering::Relaxed) + held - self.held;
        self.shared.held.fetch_sub(self.held, Ordering::Relaxed);
        if held > self.held && all > MAX_HELD {
            self.end("too many bytes of unfinished messages");
        }
        self.held = held;
    }

    /// Moves what the session has to say behind what is being written.
    fn collect(&mut self) {
        let mut output = self.session.output();
        if !self.faults().is_empty() && !output.is_empty() {
            output = misbehave::outgoing(self, output);
        }
        if self.out.is_empty() {
            self.out = output;
        } else if !output.is_empty() {
            self.out = [&self.out[..], &output[..]].concat().into();
        }
    }

    /// Sends what waits, as much as the player takes.
    fn deliver(&mut self) {
        misbehave::release(self);
        let mut ahead = self.out.len();
        while ahead < MEDIA_AHEAD && self.session.may_send_media() {
            match self.mailbox.take() {
                None => return,
                Some(Mail::Frame(msid, mut frame)) => {
                    if self.shared.options.remuxes {
                        frame.payload = slices_alone(&frame.payload).unwrap_or(frame.payload);
                    }
                    ahead += frame.payload.len() + 12;
                    if self.faults().is_empty() {
                        self.send_frame(msid, &frame);
                    } else {
                        for frame in misbehave::relay(self, frame) {
                            misbehave::send(self, msid, frame);
                        }
                    }
                }
                Some(Mail::Begin(msid)) => self.publication_began(msid),
                Some(Mail::End(msid)) => self.publication_ended(msid),
                Some(Mail::TakenOver(msid)) => {
                    self.status(msid, "status", "NetStream.Unpublish.Success", "Another publisher took over");
                    self.leave(msid);
                }
            }
        }
    }

    /// Sends a message of a publisher to this player.
    pub fn send_frame(&mut self, msid: u32, frame: &Frame) {
        let message = match frame.type_id {
            type_id::AUDIO => Message::Audio(frame.payload.clone()),
            type_id::VIDEO => Message::Video(frame.payload.clone()),
            type_id => Message::Unknown { type_id, payload: frame.payload.clone() },
        };
        let csid = match frame.role {
            Role::Metadata | Role::Data => Some(5),
            _ => None,
        };
        let msid = if self.faults().has(Fault::MediaOnStream1) { 1 } else { self.msid_on_wire(msid) };
        let msid = Some(msid);
        let fields = Fields { timestamp: Some(frame.timestamp), msid, csid, fmt: None };
        self.session.send(&message, fields);
    }

    fn publication_began(&mut self, msid: u32) {
        let Some(NetStream::Playing { name, announced, .. }) = self.streams.get_mut(&msid) else { return };
        let (name, again) = (name.clone(), std::mem::replace(announced, true));
        if again {
            // rtmp 7.1.7: the stream has become functional again.
            self.event(UserControl::StreamBegin(msid));
        }
        self.status(msid, "status", "NetStream.Play.PublishNotify", &format!("{name} is now published"));
    }

    fn publication_ended(&mut self, msid: u32) {
        let Some(NetStream::Playing { name, .. }) = self.streams.get(&msid) else { return };
        let text = format!("{name} is no longer published");
        self.event(UserControl::StreamEof(msid));
        self.status(msid, "status", "NetStream.Play.UnpublishNotify", &text);
    }

    /// A user control event.
    pub fn event(&mut self, event: UserControl) {
        let unsaid = match event {
            UserControl::StreamBegin(_) => self.faults().has(Fault::NoStreamBegin),
            UserControl::StreamEof(_) => self.faults().has(Fault::NoStreamEof),
            _ => false,
        };
        if !unsaid {
            misbehave::event_out(self, event);
        }
    }

    /// rtmp 7.2.2: onStatus with transaction id 0 on the message stream concerned.
    pub fn status(&mut self, msid: u32, level: &str, code: &str, description: &str) {
        let info = Value::object([
            ("level", level.into()),
            ("code", code.into()),
            ("description", description.into()),
        ]);
        let message = Message::command("onStatus", 0.0, vec![Value::Null, info]);
        let msid = if self.faults().has(Fault::StatusOnStream0) { 0 } else { self.msid_on_wire(msid) };
        self.session.send(&message, Fields { msid: Some(msid), ..Fields::default() });
    }

    /// rtmp 5.1: message stream ids are little-endian, which the session sees to.
    pub fn msid_on_wire(&self, msid: u32) -> u32 {
        if self.faults().has(Fault::MsidBigEndian) { msid.swap_bytes() } else { msid }
    }

    /// The place of one of its message streams on the board.
    pub fn place(&self, msid: u32) -> Place {
        (self.id, msid)
    }

    fn media(&mut self, header: MessageHeader, payload: Bytes) {
        match self.streams.get(&header.msid) {
            Some(NetStream::Publishing { .. }) => self.published(header.msid, header, payload),
            // Who goes on sending behind a refusal is not read for ever.
            Some(NetStream::Refused) => {
                self.close_at.get_or_insert(Instant::now() + REFUSED_MEDIA);
            }
            _ => {}
        }
    }

    fn published(&mut self, msid: u32, header: MessageHeader, payload: Bytes) {
        match header.type_id {
            type_id::AUDIO | type_id::VIDEO => {
                self.feed(msid, &Frame::media(header.type_id, header.timestamp, payload));
            }
            type_id::AGGREGATE => {
                let Ok(Message::Aggregate(parts)) = Message::decode(header.type_id, &payload) else { return };
                for (timestamp, part) in normalised(header.timestamp, &parts) {
                    // Parts are media and data; control inside an aggregate means nothing, and an aggregate inside one neither.
                    if matches!(part.type_id, type_id::AUDIO | type_id::VIDEO | type_id::DATA_AMF0) {
                        let header = MessageHeader { type_id: part.type_id, timestamp, ..header };
                        self.published(msid, header, part.payload.clone());
                    }
                }
            }
            _ => self.data(msid, header, payload),
        }
    }

    /// Data goes to the players as it came; `@setDataFrame` is taken off, metadata is an ECMA array.
    fn data(&mut self, msid: u32, header: MessageHeader, payload: Bytes) {
        let Ok(Message::Data(encoding, mut values)) = Message::decode(header.type_id, &payload) else {
            return;
        };
        let is = |value: Option<&Value>, name: &str| {
            value.and_then(Value::as_text).is_some_and(|text| text == name)
        };
        if is(values.first(), "@clearDataFrame") {
            if let Some(NetStream::Publishing { name, .. }) = self.streams.get(&msid) {
                self.shared.board.clear_metadata(name);
            }
            return;
        }
        let mut changed = encoding == Encoding::Amf3;
        if is(values.first(), "@setDataFrame") {
            values.remove(0);
            changed = true;
        }
        let metadata = is(values.first(), "onMetaData");
        if metadata && let Some(Value::Object(fields)) = values.get_mut(1) {
            values[1] = Value::EcmaArray(std::mem::take(fields));
            changed = true;
        }
        let payload = if changed {
            let mut out = Vec::new();
            amf0::encode_all(&values, &mut out);
            out.into()
        } else {
            payload
        };
        let role = if metadata { Role::Metadata } else { Role::Data };
        let frame = Frame { type_id: type_id::DATA_AMF0, timestamp: header.timestamp, payload, role };
        self.feed(msid, &frame);
    }

    fn feed(&mut self, msid: u32, frame: &Frame) {
        if let Some(NetStream::Publishing { name, .. }) = self.streams.get(&msid) {
            let everywhere = self.faults().has(Fault::RelayMixes);
            self.shared.board.feed(name, self.place(msid), frame, everywhere);
        }
    }

    /// Ends what a message stream does; the stream stays.
    pub fn leave(&mut self, msid: u32) {
        let Some(stream) = self.streams.get_mut(&msid) else { return };
        match std::mem::replace(stream, NetStream::Idle) {
            NetStream::Publishing { name } => self.shared.board.unpublish(&name, (self.id, msid)),
            NetStream::Playing { name, .. } => {
                self.shared.board.leave(&name, (self.id, msid));
                self.mailbox.forget(msid);
            }
            NetStream::Idle | NetStream::Refused => {}
        }
    }

    fn leave_all(&mut self) {
        let ids: Vec<u32> = self.streams.keys().copied().collect();
        ids.into_iter().for_each(|msid| self.leave(msid));
    }
}

/// An AVC frame of its slices alone.
fn slices_alone(payload: &[u8]) -> Option<Bytes> {
    let slices = media::nal_units(payload)?.filter(|nal| media::is_slice(nal));
    let units = slices.flat_map(|nal| [&(nal.len() as u32).to_be_bytes()[..], nal].concat());
    Some(payload[..media::AVC_NALS].iter().copied().chain(units).collect())
}
