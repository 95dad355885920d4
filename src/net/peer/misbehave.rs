//! What the faults of the reference server do to a session. Without a fault nothing here is called.

use std::collections::VecDeque;
use std::time::Duration;

use super::board::Frame;
use super::client::Client;
use super::command::{CHUNK_SIZE, WINDOW};
use super::fault::{Fault, Faults};
use crate::wire::amf0::Value;
use crate::wire::chunk::{MAX_MESSAGE_LEN, MessageHeader};
use crate::wire::handshake::BLOCK_LEN;
use crate::wire::message::{Command, Message, UserControl, type_id};
use crate::wire::session::{Config, Fields, HANDSHAKE_LEN};
use bstr::{BString, ByteSlice};
use bytes::Bytes;
use tokio::time::Instant;

const HELLO_LEN: u64 = 1 + BLOCK_LEN as u64;
/// By how much [`Fault::RelayLate`] is late.
const LATE: Duration = Duration::from_millis(200);
/// How long [`Fault::RelayStalls`] lasts, and which message begins it.
const STALL: Duration = Duration::from_secs(2);
const STALLED_MESSAGE: u64 = 50;
/// Messages that are late at a time, at most; the player behind more is dropped.
const MAX_LATE: usize = 4096;

/// What the faults remember of a session.
#[derive(Debug, Default)]
pub(super) struct Misbehaviour {
    /// It reads and answers no more.
    pub hung: bool,
    /// Handshake bytes as they came.
    came: Vec<u8>,
    /// Handshake bytes as they went.
    went: Vec<u8>,
    held_back: Vec<u8>,
    chattered: bool,
    window: Option<u32>,
    last_ack: u64,
    acks: u32,
    chunk_sizes: u32,
    hard: bool,
    limit: Option<u32>,
    event_time: u32,
    relayed: u64,
    key_dropped: bool,
    swapped: Option<Frame>,
    batch: VecDeque<Frame>,
    last_time: Option<(u32, u32)>,
    stalled: bool,
    /// What comes late to a player, and when.
    late: VecDeque<(Instant, u32, Frame)>,
    stalled_until: Option<Instant>,
}

/// What the session is not to do by itself, so that the faults can do it wrongly.
pub(super) fn configure(faults: Faults, config: &mut Config) {
    config.acks = faults.one_of(ACK_FAULTS).is_none();
    config.bandwidth = faults.one_of(BANDWIDTH_FAULTS).is_none();
    config.pongs = !faults.has(Fault::NoPongs);
}

/// Looks at what came before the session does, and changes it.
pub(super) fn incoming(client: &mut Client, bytes: &mut Vec<u8>) {
    let faults = client.faults();
    let before = client.wrong.came.len() as u64;
    if before >= HANDSHAKE_LEN {
        return;
    }
    let total = before + bytes.len() as u64;
    let kept = bytes.len().min((HANDSHAKE_LEN - before) as usize);
    client.wrong.came.extend_from_slice(&bytes[..kept]);
    if before == 0 {
        version(client, bytes);
    }
    let has = |fault| faults.has(fault);
    if has(Fault::Silent) || (has(Fault::HandshakeInOneRead) && before < HELLO_LEN && total < HELLO_LEN) {
        client.wrong.hung = true;
    }
    client.ending |= has(Fault::ClosesAt1536) && total == HELLO_LEN - 1;
    if before < HELLO_LEN && total >= HELLO_LEN {
        client.ending |= c1_refused(faults, &client.wrong.came[1..]);
    }
    if total > HELLO_LEN && before < HANDSHAKE_LEN {
        if has(Fault::ChattyInC2) && total < HANDSHAKE_LEN {
            chatter(client);
        }
        if has(Fault::EatsAfterC2) && total > HANDSHAKE_LEN {
            bytes.truncate((HANDSHAKE_LEN - before) as usize);
        }
    }
    if total >= HANDSHAKE_LEN {
        let (c2, s1) =
            (&client.wrong.came[HELLO_LEN as usize + 8..], client.wrong.went.get(9..HELLO_LEN as usize));
        client.ending |= has(Fault::C2MustEcho) && s1 != Some(c2);
        let late = std::mem::take(&mut client.wrong.held_back);
        client.say(&late);
    }
}

fn version(client: &mut Client, bytes: &mut [u8]) {
    let faults = client.faults();
    let c0 = bytes[0];
    client.ending |= faults.has(Fault::VersionStrict) && c0 != 3;
    client.wrong.hung |= faults.has(Fault::VersionHangs) && c0 != 3;
    if (faults.has(Fault::TextCrashes) && c0.is_ascii_alphabetic())
        || (faults.has(Fault::TlsCrashes) && c0 == 0x16)
    {
        client.shared.die();
    }
    if faults.has(Fault::VersionEchoed) {
        bytes[0] = 3;
    }
    if faults.has(Fault::EarlyS2) {
        let mut early = vec![0x55; HANDSHAKE_LEN as usize];
        early[0] = 3;
        early[5..9].fill(0);
        client.say(&early);
    }
}

fn c1_refused(faults: Faults, c1: &[u8]) -> bool {
    let (time, random) = (&c1[..4], &c1[8..BLOCK_LEN]);
    (faults.has(Fault::C1TimeLimited) && time[0] >= 0x80)
        || (faults.has(Fault::C1TimeZero) && time == [0; 4])
        || (faults.has(Fault::C1RandomChecked) && random.iter().all(|byte| *byte == random[0]))
}

fn chatter(client: &mut Client) {
    if !std::mem::replace(&mut client.wrong.chattered, true) {
        client.say(&[2, 0, 0, 0, 0, 0, 4, 5, 0, 0, 0, 0, 0, 0x26, 0x25, 0xA0]);
    }
}

/// Before any byte came.
pub(super) fn accepted(client: &mut Client) {
    if client.faults().has(Fault::SpeaksFirst) {
        client.say(&[3]);
    }
}

/// Changes what goes out: the handshake, and chunks that are built by hand.
pub(super) fn outgoing(client: &mut Client, output: Bytes) -> Bytes {
    if !client.wrong.went.is_empty() || output.len() < HANDSHAKE_LEN as usize {
        return output;
    }
    let faults = client.faults();
    let mut bytes = output.to_vec();
    let (c0, c1) = client.wrong.came.split_at(1);
    let c1 = &c1[..BLOCK_LEN.min(c1.len())];
    shake_wrongly(faults, c0[0], c1, &mut bytes);
    client.wrong.went = bytes.clone();
    let s2 = HELLO_LEN as usize;
    let has = |fault| faults.has(fault);
    if has(Fault::ExtraByte) {
        bytes.insert(s2, 0);
    }
    if has(Fault::MissingByte) {
        bytes.remove(HANDSHAKE_LEN as usize - 1);
    }
    if has(Fault::SpeaksFirst) {
        bytes.remove(0);
    }
    if has(Fault::EarlyS2) {
        bytes.clear();
    }
    if has(Fault::LateS2) {
        client.wrong.held_back = bytes.split_off(s2);
    }
    client.say(&bytes);
    if has(Fault::ChattyBeforeC2) {
        chatter(client);
    }
    Bytes::new()
}

fn shake_wrongly(faults: Faults, c0: u8, c1: &[u8], bytes: &mut [u8]) {
    let (s0s1, s2) = bytes.split_at_mut(HELLO_LEN as usize);
    let (s0, s1) = s0s1.split_at_mut(1);
    let has = |fault| faults.has(fault);
    if has(Fault::VersionEchoed) {
        s0[0] = c0;
    }
    if has(Fault::VersionFour) {
        s0[0] = 4;
    }
    if has(Fault::S1CopiesC1) {
        s1.copy_from_slice(c1);
    }
    if has(Fault::S1ZeroField) {
        s1[4..8].copy_from_slice(&c1[..4]);
    }
    if has(Fault::S1Version) {
        s1[4..8].copy_from_slice(&[4, 5, 0, 1]);
    }
    if has(Fault::DigestWrong) && s1[4] != 0 {
        // Every byte that is not the pointer's is signed.
        s1[700] ^= 1;
    }
    if has(Fault::S2TimeZero) {
        s2[..4].fill(0);
    }
    if has(Fault::S2ReadTimeZero) {
        s2[4..8].fill(0);
    }
    if has(Fault::S2RandomWrong) {
        s2[BLOCK_LEN - 1] ^= 1;
    }
}

/// After each read: acknowledgements that the session does not send by itself.
pub(super) fn acknowledge(client: &mut Client) {
    let faults = client.faults();
    let received = client.session.received();
    if faults.has(Fault::AckUnasked) && received - client.wrong.last_ack > 100_000 {
        return ack(client, received, received as u32 ^ 0x4000_0000);
    }
    let Some(fault) = faults.one_of(ACK_FAULTS) else { return };
    let Some(window) = client.wrong.window.filter(|window| *window > 0) else { return };
    let due = match fault {
        Fault::AckLate => u64::from(window) * 30,
        _ => u64::from(window),
    };
    if received - client.wrong.last_ack < due {
        return;
    }
    match fault {
        Fault::NoAcks => {}
        Fault::AckOnce if client.wrong.acks > 0 => {}
        Fault::AckTooHigh => ack(client, received, (received * 2) as u32),
        Fault::AckConstant => ack(client, received, 5000),
        _ => ack(client, received, received as u32),
    }
    if fault == Fault::WindowOneStorm && window == 1 {
        (0..4).for_each(|_| ack(client, received, received as u32));
    }
}

fn ack(client: &mut Client, received: u64, number: u32) {
    client.wrong.last_ack = received;
    client.wrong.acks += 1;
    client.session.send(&Message::Acknowledgement(number), Fields::default());
}

/// Every message before it is answered.
pub(super) fn message(client: &mut Client, header: MessageHeader, payload: &[u8]) {
    let faults = client.faults();
    let has = |fault| faults.has(fault);
    match header.type_id {
        type_id::SET_CHUNK_SIZE
        | type_id::ABORT
        | type_id::ACKNOWLEDGEMENT
        | type_id::WINDOW_ACK_SIZE
        | type_id::SET_PEER_BANDWIDTH => control(client, header, payload),
        type_id::USER_CONTROL => event(client, header, payload),
        type_id::AUDIO | type_id::VIDEO if storms(client) => {
            let received = client.session.received();
            ack(client, received, received as u32);
        }
        0 | 7 | 10..=14 | 21 | 23.. => {
            client.ending |= has(Fault::TypeUnknownCloses);
            client.wrong.hung |= has(Fault::TypeUnknownHangs);
        }
        _ => {}
    }
}

/// Whether every message is acknowledged.
fn storms(client: &Client) -> bool {
    let window = client.wrong.window;
    let faults = client.faults();
    (faults.has(Fault::WindowZeroStorm) && window == Some(0))
        || (faults.has(Fault::WindowTopStorm) && window.is_some_and(|window| window >= 1 << 31))
}

fn control(client: &mut Client, header: MessageHeader, payload: &[u8]) {
    let faults = client.faults();
    let has = |fault| faults.has(fault);
    let layout = if header.type_id == type_id::SET_PEER_BANDWIDTH { 5 } else { 4 };
    if has(Fault::ControlShortCrashes) && payload.len() < layout {
        client.shared.die();
    }
    client.wrong.hung |= (has(Fault::ControlLongHangs) && payload.len() > layout)
        || (has(Fault::ControlElsewhereHangs) && (header.csid, header.msid) != (2, 0))
        || (has(Fault::ControlTimeHangs) && header.timestamp > MAX_MESSAGE_LEN);
    match Message::decode(header.type_id, payload) {
        Ok(Message::SetChunkSize(size)) => chunk_size(client, size),
        Ok(Message::Abort(csid)) => {
            client.wrong.hung |= has(Fault::AbortHangs) || (has(Fault::AbortUnknownHangs) && csid == 777);
            if has(Fault::AbortTwoCrashes) && csid == 2 {
                client.shared.die();
            }
        }
        Ok(Message::Acknowledgement(number)) => acknowledged(client, number),
        Ok(Message::WindowAckSize(window)) => new_window(client, window),
        Ok(Message::SetPeerBandwidth { size, limit }) => bandwidth(client, size, limit),
        _ => {}
    }
}

fn chunk_size(client: &mut Client, size: u32) {
    let faults = client.faults();
    let has = |fault| faults.has(fault);
    client.wrong.chunk_sizes += 1;
    if (has(Fault::ChunkSizeZeroCrashes) && size == 0) || (has(Fault::ChunkSizeTopCrashes) && size >= 1 << 31)
    {
        client.shared.die();
    }
    client.ending |= has(Fault::ChunkSizeOneCloses) && (1..128).contains(&size);
    client.wrong.hung |= (has(Fault::ChunkSizeOneHangs) && (1..128).contains(&size))
        || (has(Fault::ChunkSizeHugeHangs) && (MAX_MESSAGE_LEN + 1..1 << 31).contains(&size))
        || (has(Fault::ChunkSizeOften) && client.wrong.chunk_sizes == 100);
    if has(Fault::ChunksAsClient) {
        write_chunks_of(client, size);
    }
}

/// From here on chunks are of this size, which nobody is told.
fn write_chunks_of(client: &mut Client, size: u32) {
    let fields = Fields { csid: Some(62), ..Fields::default() };
    drop(client.session.encode(&Message::SetChunkSize(size), fields));
}

fn acknowledged(client: &mut Client, number: u32) {
    // More than any test sends, or smaller than nothing.
    let nonsense = u64::from(number) > client.sent + 1_000_000;
    if nonsense && client.faults().has(Fault::AckNonsenseCrashes) {
        client.shared.die();
    }
    client.wrong.stalled |= nonsense && client.faults().has(Fault::AckNonsenseStalls);
    client.acked = true;
}

fn new_window(client: &mut Client, window: u32) {
    let faults = client.faults();
    if (faults.has(Fault::WindowZeroCrashes) && window == 0)
        || (faults.has(Fault::WindowOneCrashes) && window == 1)
    {
        client.shared.die();
    }
    client.ending |= faults.has(Fault::WindowSigned) && window >= i32::MAX as u32;
    if client.wrong.window.is_none() || !faults.has(Fault::WindowFirst) {
        client.wrong.window = Some(window);
    }
}

fn bandwidth(client: &mut Client, size: u32, limit_type: u8) {
    let faults = client.faults();
    let has = |fault| faults.has(fault);
    client.wrong.hung |= has(Fault::BandwidthTypeHangs) && limit_type > 2;
    if has(Fault::BandwidthZeroCrashes) && size == 0 {
        client.shared.die();
    }
    if faults.one_of(BANDWIDTH_FAULTS).is_none() || size == 0 || limit_type > 2 {
        return;
    }
    if !has(Fault::BandwidthUnanswered) && (size != WINDOW || has(Fault::BandwidthAlwaysAnswered)) {
        client.session.send(&Message::WindowAckSize(size), Fields::default());
    }
    let now = client.wrong.limit;
    let (limit, hard) = match limit_type {
        0 => (Some(size), true),
        1 if has(Fault::BandwidthSoftReplaces) => (Some(size), false),
        1 => (Some(now.map_or(size, |now| now.min(size))), false),
        _ if has(Fault::BandwidthDynamicHard) => (Some(size), true),
        _ if client.wrong.hard && !has(Fault::BandwidthDynamicIgnored) => (Some(size), true),
        _ => (now, client.wrong.hard),
    };
    (client.wrong.limit, client.wrong.hard) = (limit, hard);
    client.session.limit_output(limit.filter(|_| !has(Fault::BandwidthUnlimited)));
}

fn event(client: &mut Client, header: MessageHeader, payload: &[u8]) {
    let faults = client.faults();
    let has = |fault| faults.has(fault);
    let earlier = std::mem::replace(&mut client.wrong.event_time, header.timestamp);
    client.wrong.hung |= (has(Fault::EventElsewhereHangs) && (header.csid, header.msid) != (2, 0))
        || (has(Fault::EventTimeHangs) && (header.timestamp > MAX_MESSAGE_LEN || header.timestamp < earlier));
    match Message::decode(header.type_id, payload) {
        Ok(Message::UserControl(UserControl::Unknown { .. })) => {
            client.ending |= has(Fault::EventUnknownCloses);
            client.wrong.hung |= has(Fault::EventUnknownHangs);
        }
        Ok(Message::UserControl(
            UserControl::StreamBegin(_) | UserControl::StreamEof(_) | UserControl::StreamDry(_),
        )) => client.wrong.hung |= has(Fault::EventStrayHangs),
        Err(_) if has(Fault::EventShortCrashes) => client.shared.die(),
        _ => {}
    }
}

/// Whether connect says other than four plain strings.
pub(super) fn is_odd(command: &Command) -> bool {
    let Some(Value::Object(fields)) = command.args.first() else { return true };
    let plain = |(name, value): &(BString, Value)| match (name.as_slice(), value.as_text()) {
        (b"app", Some(app)) => !app.contains_str("/") && !app.contains_str("?"),
        (b"tcUrl", Some(url)) => url.starts_with_str("rtmp://") && !url.contains_str("[") && url.len() < 1000,
        (b"type" | b"flashVer", Some(_)) => true,
        _ => false,
    };
    command.args.len() > 1 || fields.len() < 4 || !fields.iter().all(plain)
}

/// The announcements after connect, and the chunk size in force.
pub(super) fn announce(client: &mut Client, message: Message) {
    let faults = client.faults();
    let has = |fault| faults.has(fault);
    let size = match message {
        Message::SetChunkSize(size) if has(Fault::ChunksUnannounced) => {
            return write_chunks_of(client, size);
        }
        Message::SetChunkSize(_) if has(Fault::ChunkSizeZeroOut) => 0,
        Message::SetChunkSize(_) if has(Fault::ChunkSizeSmallOut) => 64,
        Message::SetChunkSize(size) => size,
        _ => 0,
    };
    let (type_id, mut payload) = match message {
        Message::SetChunkSize(_) => (type_id::SET_CHUNK_SIZE, size.to_be_bytes().to_vec()),
        other => {
            let mut payload = Vec::new();
            other.encode(&mut payload);
            (other.type_id(), payload)
        }
    };
    if has(Fault::LittleEndian) {
        payload[..4].reverse();
    }
    let fields = Fields {
        csid: Some(if has(Fault::ControlOnCsid3) { 3 } else { 2 }),
        msid: Some(u32::from(has(Fault::ControlOnStream1))),
        ..Fields::default()
    };
    client.session.send(&Message::Unknown { type_id, payload: payload.into() }, fields);
    if type_id != type_id::SET_CHUNK_SIZE {
        return;
    }
    match faults.one_of(&[Fault::ChunksLonger, Fault::ChunksShorter, Fault::LittleEndian]) {
        Some(Fault::ChunksLonger) => write_chunks_of(client, 65_536),
        Some(Fault::ChunksShorter) => write_chunks_of(client, 128),
        Some(_) => write_chunks_of(client, CHUNK_SIZE),
        None => {}
    }
}

/// Sends a user control event, wrongly.
pub(super) fn event_out(client: &mut Client, event: UserControl) {
    let fields = Fields { csid: client.faults().has(Fault::EventsOnCsid3).then_some(3), ..Fields::default() };
    let split = client.faults().has(Fault::EventsSplit);
    if split {
        client.session.send(&Message::SetChunkSize(4), Fields::default());
    }
    client.session.send(&Message::UserControl(event), fields);
    if split {
        client.session.send(&Message::SetChunkSize(CHUNK_SIZE), Fields::default());
    }
}

/// Whether the session that comes now is not to connect.
pub(super) fn refuses(client: &Client) -> bool {
    client.shared.options.is_turn(Fault::ConnectsRefused, client.id)
}

/// What a player gets in place of a frame.
pub(super) fn relay(client: &mut Client, frame: Frame) -> Vec<Frame> {
    let faults = client.faults();
    let has = |fault| faults.has(fault);
    let mut frame = smooth(client, frame);
    if !matches!(frame.type_id, type_id::AUDIO | type_id::VIDEO) {
        return vec![frame];
    }
    client.wrong.relayed += 1;
    let count = client.wrong.relayed;
    let turn = |client: &Client, fault| client.shared.options.is_turn(fault, count);
    if turn(client, Fault::TimesBack) {
        frame.timestamp = frame.timestamp.wrapping_sub(1000);
    }
    if has(Fault::AudioLater) && frame.type_id == type_id::AUDIO {
        frame.timestamp = frame.timestamp.wrapping_add(80);
    }
    if has(Fault::AudioWithheld) && frame.type_id == type_id::AUDIO {
        return Vec::new();
    }
    if has(Fault::FirstKeyDropped)
        && frame.is_key()
        && !std::mem::replace(&mut client.wrong.key_dropped, true)
    {
        return Vec::new();
    }
    if client.wrong.stalled
        || has(Fault::RelayNothing)
        || (has(Fault::RelayStops) && count > 3)
        || turn(client, Fault::RelayDrops)
    {
        return Vec::new();
    }
    if has(Fault::AcksDemanded) && client.sent > 200_000 && !client.acked {
        client.ending = true;
    }
    if turn(client, Fault::RelayDamages) && !frame.payload.is_empty() {
        let mut payload = frame.payload.to_vec();
        if let Some(last) = payload.last_mut() {
            *last ^= 1;
        }
        frame.payload = payload.into();
    }
    if turn(client, Fault::RelayDoubles) {
        return vec![frame.clone(), frame];
    }
    if has(Fault::RelaySwaps) {
        let waits = client.wrong.swapped.is_none() && turn(client, Fault::RelaySwaps);
        let before = std::mem::replace(&mut client.wrong.swapped, waits.then(|| frame.clone()));
        return Some(frame).filter(|_| !waits).into_iter().chain(before).collect();
    }
    if has(Fault::Batching) {
        client.wrong.batch.push_back(frame);
        let whole = client.wrong.batch.len() >= 9;
        return if whole { client.wrong.batch.drain(..).collect() } else { Vec::new() };
    }
    vec![frame]
}

/// Sends a frame, or keeps it until later.
pub(super) fn send(client: &mut Client, msid: u32, frame: Frame) {
    let now = Instant::now();
    if client.faults().has(Fault::RelayStalls) && client.wrong.relayed == STALLED_MESSAGE {
        client.wrong.stalled_until.get_or_insert(now + STALL);
    }
    let late = client.faults().has(Fault::RelayLate).then_some(now + LATE);
    let at = late.max(client.wrong.stalled_until).unwrap_or(now);
    // Behind what is late all is late.
    if at > now || !client.wrong.late.is_empty() {
        client.wrong.late.push_back((at, msid, frame));
    } else {
        client.send_frame(msid, &frame);
    }
    client.ending |= client.wrong.late.len() > MAX_LATE;
}

/// When the next late frame is to be sent.
pub(super) fn due(client: &Client) -> Option<Instant> {
    client.wrong.late.front().map(|(at, ..)| *at)
}

/// Sends the frames that are late enough.
pub(super) fn release(client: &mut Client) {
    while let Some((_, msid, frame)) = client.wrong.late.pop_front_if(|(at, ..)| *at <= Instant::now()) {
        client.send_frame(msid, &frame);
    }
}

/// Times that are not those that were published.
fn smooth(client: &mut Client, frame: Frame) -> Frame {
    let faults = client.faults();
    let step = |last: (u32, u32)| frame.timestamp.wrapping_sub(last.0);
    let timestamp = match client.wrong.last_time {
        Some(last) if faults.has(Fault::TimesSmoothed) && step(last) > 250 => last.1.wrapping_add(10),
        Some(last) if faults.has(Fault::TimesSmoothed) => last.1.wrapping_add(step(last)),
        _ if faults.has(Fault::TimesShifted) => frame.timestamp.wrapping_add(frame.timestamp / 100),
        _ => frame.timestamp,
    };
    client.wrong.last_time = Some((frame.timestamp, timestamp));
    Frame { timestamp, ..frame }
}

/// Whether the session waits for the handshake without end.
pub(super) fn patient(faults: Faults) -> bool {
    faults.has(Fault::NoHandshakeTimer) || faults.has(Fault::Silent) || faults.has(Fault::VersionHangs)
}

/// Those that need acknowledgements not to be sent by the session.
const ACK_FAULTS: &[Fault] = &[
    Fault::NoAcks,
    Fault::AckOnce,
    Fault::AckLate,
    Fault::AckTooHigh,
    Fault::AckConstant,
    Fault::WindowFirst,
    Fault::WindowOneStorm,
];

/// Those that need Set Peer Bandwidth not to be heeded by the session.
const BANDWIDTH_FAULTS: &[Fault] = &[
    Fault::BandwidthUnanswered,
    Fault::BandwidthAlwaysAnswered,
    Fault::BandwidthUnlimited,
    Fault::BandwidthSoftReplaces,
    Fault::BandwidthDynamicIgnored,
    Fault::BandwidthDynamicHard,
];

/// Those that announce wrongly.
pub(super) const ANNOUNCE_FAULTS: &[Fault] = &[
    Fault::LittleEndian,
    Fault::ControlOnCsid3,
    Fault::ControlOnStream1,
    Fault::ChunkSizeZeroOut,
    Fault::ChunkSizeSmallOut,
    Fault::ChunksLonger,
    Fault::ChunksShorter,
    Fault::ChunksUnannounced,
];
