//! The streams of the server: who publishes, who plays, and what a late player is given first.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::wire::media::{self, Kind, Media};
use crate::wire::message::type_id;

/// What may wait for one player, in bytes: above it the oldest frames go, up to the next key frame.
pub const QUEUE_BYTES: usize = 24 << 20;
/// How often that may happen without the player ever catching up, before it is disconnected.
pub const QUEUE_OVERFLOWS: u32 = 8;
/// What is kept of a group of pictures for late players, in bytes; a longer one is not kept.
pub const GOP_BYTES: usize = 16 << 20;
/// Sequence headers and the like that are kept of one stream.
const HEADERS: usize = 64;

/// One audio, video or data message on its way from a publisher to its players; the payload is shared.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Message type id.
    pub type_id: u8,
    /// Milliseconds, as published.
    pub timestamp: u32,
    /// The message's payload.
    pub payload: Bytes,
    /// What the stream does with it.
    pub role: Role,
}

/// What a frame is for the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// onMetaData.
    Metadata,
    /// A sequence header or the like: late players need the latest of each slot.
    Header(Slot),
    /// A video frame that decoding can begin with.
    Key,
    /// Any other video.
    Video,
    /// Audio.
    Audio,
    /// Any other data.
    Data,
}

/// Headers of one slot replace each other: message type, kind, and the track where the message has one.
pub type Slot = (u8, u8, Option<u8>);

impl Frame {
    /// An audio or video message.
    pub fn media(type_id: u8, timestamp: u32, payload: Bytes) -> Frame {
        let read = match type_id {
            type_id::AUDIO => Media::audio(&payload),
            _ => Media::video(&payload),
        };
        let track = read.as_ref().ok().and_then(Media::only_track);
        let slot = |kind| Role::Header((type_id, kind, track));
        let role = match read.as_ref().map(|media| media.kind) {
            Ok(Kind::Header) => slot(0),
            Ok(Kind::Metadata) => slot(1),
            Ok(Kind::Channels) => slot(2),
            _ if media::is_keyframe(type_id, &payload) => Role::Key,
            _ if type_id == type_id::VIDEO => Role::Video,
            _ => Role::Audio,
        };
        Frame { type_id, timestamp, payload, role }
    }

    /// Whether decoding can begin with it.
    pub fn is_key(&self) -> bool {
        self.role == Role::Key
    }

    fn is_video(&self) -> bool {
        matches!(self.role, Role::Key | Role::Video)
    }

    fn is_coded(&self) -> bool {
        matches!(self.role, Role::Key | Role::Video | Role::Audio)
    }
}

/// What waits for one session.
#[derive(Debug, Default)]
pub struct Mailbox {
    waiting: Mutex<Waiting>,
    /// Notified when something was put in.
    pub arrival: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    mail: VecDeque<Mail>,
    bytes: usize,
    overflows: u32,
    too_slow: bool,
}

/// What a session is told.
#[derive(Debug, Clone)]
pub enum Mail {
    /// For the player on this message stream.
    Frame(u32, Frame),
    /// The stream that this message stream plays begins.
    Begin(u32),
    /// It ended.
    End(u32),
    /// Another publisher took the name of this message stream over.
    TakenOver(u32),
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next.
    pub fn take(&self) -> Option<Mail> {
        let mut waiting = self.lock();
        let mail = waiting.mail.pop_front();
        if let Some(Mail::Frame(_, frame)) = &mail {
            waiting.bytes -= frame.payload.len();
        }
        if waiting.mail.is_empty() {
            waiting.overflows = 0;
        }
        mail
    }

    /// Drops what waits for the player on this message stream.
    pub fn forget(&self, msid: u32) {
        let mut waiting = self.lock();
        waiting.mail.retain(|mail| !matches!(mail, Mail::Frame(of, _) if *of == msid));
        waiting.count();
    }

    /// Puts something in.
    fn put(&self, mail: Mail) {
        let mut waiting = self.lock();
        if let Mail::Frame(_, frame) = &mail {
            waiting.bytes += frame.payload.len();
        }
        waiting.mail.push_back(mail);
        drop(waiting);
        self.arrival.notify_one();
    }

    /// Drops the coded frames that wait when there are too many; whether there were.
    fn relieve(&self) -> bool {
        let mut waiting = self.lock();
        if waiting.bytes <= QUEUE_BYTES {
            return false;
        }
        waiting.mail.retain(|mail| !matches!(mail, Mail::Frame(_, frame) if frame.is_coded()));
        waiting.count();
        waiting.overflows += 1;
        waiting.too_slow |= waiting.overflows >= QUEUE_OVERFLOWS;
        true
    }

    /// Whether the player is to be let go: dropping what waits did not help, again and again.
    pub fn is_too_slow(&self) -> bool {
        self.lock().too_slow
    }
}

impl Waiting {
    fn count(&mut self) {
        let size = |mail: &Mail| if let Mail::Frame(_, frame) = mail { frame.payload.len() } else { 0 };
        self.bytes = self.mail.iter().map(size).sum();
    }
}

/// A message stream of a session.
pub type Place = (u64, u32);

/// What a player wants of a stream.
#[derive(Debug, Clone, Copy)]
pub struct Wants {
    /// receiveAudio.
    pub audio: bool,
    /// receiveVideo.
    pub video: bool,
    /// pause.
    pub paused: bool,
}

#[derive(Debug)]
struct Player {
    place: Place,
    mailbox: Arc<Mailbox>,
    wants: Wants,
    /// Nothing coded is sent before the next key frame.
    until_key: bool,
}

#[derive(Debug, Default)]
struct Stream {
    publisher: Option<(Place, Arc<Mailbox>)>,
    players: Vec<Player>,
    metadata: Option<Frame>,
    headers: Vec<(Slot, Frame)>,
    /// The headers that the group of pictures began with.
    gop_headers: Vec<Frame>,
    gop: Vec<Frame>,
    gop_bytes: usize,
    has_video: bool,
    last: u32,
}

/// All streams, by `app/name`.
#[derive(Debug, Default)]
pub struct Board(Mutex<HashMap<String, Stream>>);

/// What publishing a name that is taken does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Taken {
    /// The newcomer gets NetStream.Publish.BadName.
    #[default]
    Refuse,
    /// The newcomer takes over, the earlier one is told.
    Takeover,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Stream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody publishes this name.
    pub fn is_live(&self, name: &str) -> bool {
        self.lock().get(name).is_some_and(|stream| stream.publisher.is_some())
    }

    /// Players of this name, waiting ones included.
    pub fn players(&self, name: &str) -> usize {
        self.lock().get(name).map_or(0, |stream| stream.players.len())
    }

    /// Begins a publication; false: the name is taken.
    pub fn publish(&self, name: &str, place: Place, mailbox: &Arc<Mailbox>, taken: Taken) -> bool {
        let mut streams = self.lock();
        let stream = streams.entry(name.to_owned()).or_default();
        if let Some((earlier, box_)) = &stream.publisher {
            if taken == Taken::Refuse {
                return false;
            }
            box_.put(Mail::TakenOver(earlier.1));
        }
        let players = std::mem::take(&mut stream.players);
        *stream = Stream { publisher: Some((place, mailbox.clone())), players, ..Stream::default() };
        for player in &mut stream.players {
            player.until_key = false;
            player.mailbox.put(Mail::Begin(player.place.1));
        }
        true
    }

    /// Ends the publication, if it is still this one's.
    pub fn unpublish(&self, name: &str, place: Place) {
        let mut streams = self.lock();
        let Some(stream) = streams.get_mut(name) else { return };
        if stream.publisher.as_ref().is_some_and(|(publisher, _)| *publisher == place) {
            let players = std::mem::take(&mut stream.players);
            for player in &players {
                player.mailbox.put(Mail::End(player.place.1));
            }
            *stream = Stream { players, ..Stream::default() };
        }
        streams.retain(|_, stream| stream.publisher.is_some() || !stream.players.is_empty());
    }

    /// Adds a player: what it needs first waits for it then.
    pub fn play(&self, name: &str, place: Place, mailbox: &Arc<Mailbox>, wants: Wants) {
        let mut streams = self.lock();
        let stream = streams.entry(name.to_owned()).or_default();
        let mut player = Player { place, mailbox: mailbox.clone(), wants, until_key: false };
        if stream.publisher.is_some() {
            stream.greet(&mut player, true);
        }
        stream.players.push(player);
    }

    /// Changes what a player wants; video begins again with a key frame.
    pub fn want(&self, name: &str, place: Place, wants: Wants) {
        let mut streams = self.lock();
        let Some(stream) = streams.get_mut(name) else { return };
        let Some(at) = stream.players.iter().position(|player| player.place == place) else { return };
        let mut player = stream.players.swap_remove(at);
        let resumes = (player.wants.paused && !wants.paused) || (!player.wants.video && wants.video);
        player.wants = wants;
        if resumes && stream.publisher.is_some() {
            stream.greet(&mut player, false);
        }
        stream.players.push(player);
    }

    /// Takes a player away.
    pub fn leave(&self, name: &str, place: Place) {
        let mut streams = self.lock();
        if let Some(stream) = streams.get_mut(name) {
            stream.players.retain(|player| player.place != place);
        }
        streams.retain(|_, stream| stream.publisher.is_some() || !stream.players.is_empty());
    }

    /// A frame from the publisher, to all its players; `everywhere`: to those of every other stream too.
    pub fn feed(&self, name: &str, place: Place, frame: &Frame, everywhere: bool) {
        let mut streams = self.lock();
        let Some(stream) = streams.get_mut(name) else { return };
        if stream.publisher.as_ref().is_none_or(|(publisher, _)| *publisher != place) {
            return;
        }
        stream.keep(frame);
        let has_video = stream.has_video;
        stream.players.iter_mut().for_each(|player| player.offer(frame, has_video));
        if everywhere {
            let others = streams.iter_mut().filter(|(of, _)| *of != name);
            others.flat_map(|(_, stream)| &mut stream.players).for_each(|player| player.offer(frame, false));
        }
    }

    /// Forgets the metadata of a stream.
    pub fn clear_metadata(&self, name: &str) {
        if let Some(stream) = self.lock().get_mut(name) {
            stream.metadata = None;
        }
    }
}

impl Stream {
    fn keep(&mut self, frame: &Frame) {
        self.last = frame.timestamp;
        self.has_video |= frame.is_video();
        match frame.role {
            Role::Metadata => self.metadata = Some(frame.clone()),
            Role::Header(slot) => match self.headers.iter().position(|(known, _)| *known == slot) {
                Some(at) => self.headers[at].1 = frame.clone(),
                None if self.headers.len() < HEADERS => self.headers.push((slot, frame.clone())),
                None => {}
            },
            Role::Key => {
                self.gop_headers = self.headers.iter().map(|(_, header)| header.clone()).collect();
                self.gop.clear();
                self.gop_bytes = 0;
            }
            _ => {}
        }
        let begins = frame.role == Role::Key;
        if (begins || !self.gop.is_empty()) && !matches!(frame.role, Role::Metadata | Role::Data) {
            self.gop.push(frame.clone());
            self.gop_bytes += frame.payload.len();
            if self.gop_bytes > GOP_BYTES {
                self.gop = Vec::new();
                self.gop_bytes = 0;
            }
        }
    }

    /// Metadata, headers and the group of pictures that is running. What came long ago is stamped with the time that the media begins at.
    fn greet(&self, player: &mut Player, with_gop: bool) {
        let msid = player.place.1;
        let gop = if with_gop { &self.gop[..] } else { &[] };
        let time = gop.first().map_or(self.last, |frame| frame.timestamp);
        let headers: Vec<&Frame> = if gop.is_empty() {
            self.headers.iter().map(|(_, header)| header).collect()
        } else {
            self.gop_headers.iter().collect()
        };
        for frame in self.metadata.iter().chain(headers) {
            player.mailbox.put(Mail::Frame(msid, Frame { timestamp: time, ..frame.clone() }));
        }
        for frame in gop {
            player.mailbox.put(Mail::Frame(msid, frame.clone()));
        }
        player.until_key = self.has_video && gop.is_empty();
    }
}

impl Player {
    fn offer(&mut self, frame: &Frame, has_video: bool) {
        let wanted = match frame.role {
            Role::Audio => self.wants.audio,
            Role::Key | Role::Video => self.wants.video,
            _ => true,
        };
        if !wanted || (self.wants.paused && frame.is_coded()) {
            return;
        }
        // rtmp is silent; real servers begin again at a key frame.
        self.until_key |= self.mailbox.relieve() && has_video;
        if frame.role == Role::Key {
            self.until_key = false;
        } else if self.until_key && frame.role == Role::Video {
            return;
        }
        self.mailbox.put(Mail::Frame(self.place.1, frame.clone()));
    }
}
