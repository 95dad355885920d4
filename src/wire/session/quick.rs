//! Quick ways for those who move much: messages read without detours, media written without being copied.

use super::{Config, Core, Error, Phase, Session, customary};
use crate::wire::chunk::{ChunkError, ChunkErrorKind, ChunkWriter, MessageHeader, Slice};
use crate::wire::message::{Message, type_id};
use crate::wire::time::Time;

/// What [`Session::skim`] found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Skimmed<'a> {
    /// A message; the payload is lent.
    Message(MessageHeader, &'a [u8]),
    /// A piece of one that is not whole yet.
    Part,
}

/// Writes the media of a session whose owner sends them himself: see [`Session::media_writer`].
#[derive(Debug)]
pub struct MediaWriter {
    writer: ChunkWriter,
    msid: u32,
}

/// What stands before the chunks of a message whose payload the caller writes: see [`MediaWriter::head`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Bytes of the first chunk's header; those behind it are every other chunk's.
    pub first: usize,
    /// Payload bytes of each chunk but the last.
    pub chunk_size: usize,
}

/// Messages that come in pieces.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// By chunk stream.
    open: Vec<(u32, Vec<u8>)>,
    /// The one that is lent.
    whole: Vec<u8>,
}

impl Session {
    /// As [`Session::read`], but quicker: chunk headers are not judged, nothing is noted and no buffer is kept for later messages. Nothing
    /// is read before the handshake is done. A message of which a part was read otherwise is lost.
    ///
    /// # Errors
    /// When the peer's bytes cannot be read further.
    pub fn skim<'a, 'i: 'a>(
        &'a mut self,
        now: Time,
        bytes: &mut &'i [u8],
    ) -> Result<Option<Skimmed<'a>>, Error> {
        let Session { reader, core } = self;
        if let Some(error) = &core.failed {
            return Err(error.clone());
        }
        core.let_go();
        if core.phase != Phase::Chunks {
            return Ok(None);
        }
        let before = bytes.len();
        let slice = reader.skim(bytes).map_err(|error| core.failed.insert(error.into()).clone())?;
        core.flow.received += (before - bytes.len()) as u64;
        let Some(slice) = slice else {
            core.acknowledge();
            return Ok(None);
        };
        let header = slice.header;
        if slice.at == 0 && slice.last {
            core.heed(now, header, slice.bytes);
            return Ok(Some(Skimmed::Message(header, slice.bytes)));
        }
        let Some(whole) = core.gather(&slice)? else { return Ok(Some(Skimmed::Part)) };
        core.heed(now, header, &whole);
        let gathering = core.gathering.get_or_insert_default();
        gathering.whole = whole;
        Ok(Some(Skimmed::Message(header, &gathering.whole)))
    }

    /// Brings what [`Session::skim`] needs into the caches; the number means nothing.
    pub fn touch(&self) -> u64 {
        let Core { flow, out, pending, failed, gathering, .. } = &self.core;
        let flags = [failed.is_some(), gathering.is_some(), self.core.phase == Phase::Chunks];
        let flags = flags.into_iter().map(u64::from).fold(0, u64::wrapping_add);
        self.reader.touch() ^ flow.received ^ (out.len() + pending.len()) as u64 ^ flags
    }

    /// Frees what only the way to the goal needed: nothing further can be pursued, and the peer's handshake is forgotten.
    pub fn settle(&mut self) {
        let Session { reader, core } = self;
        reader.free_idle();
        (core.peer_hello, core.peer_answer) = (None, None);
        core.pending.shrink_to_fit();
        core.pursuit.settle();
        let Config { app, tc_url, name, connect_with, .. } = &mut core.config;
        (*app, *tc_url, *name, *connect_with) = Default::default();
    }

    /// Whether there is nothing to be sent: see [`Session::output`].
    pub fn is_silent(&self) -> bool {
        self.core.out.is_empty()
    }

    /// A writer for what is sent on the session's message stream beside commands: from here on the caller sends all audio, video and data with it, and
    /// the session none. It goes on from what the session sent, which does not count what it writes.
    pub fn media_writer(&self) -> MediaWriter {
        MediaWriter { writer: self.core.writer.clone(), msid: self.core.pursuit.msid.unwrap_or_default() }
    }
}

impl MediaWriter {
    /// Appends the chunk headers of an audio or video message of `len` payload bytes, which the caller writes with the payload. A payload is at most
    /// [`MAX_MESSAGE_LEN`](crate::wire::chunk::MAX_MESSAGE_LEN) bytes.
    pub fn head(&mut self, out: &mut Vec<u8>, type_id: u8, timestamp: u32, len: u32) -> Heads {
        let (csid, _) = customary(&match type_id {
            type_id::AUDIO => Message::Audio(Default::default()),
            _ => Message::Video(Default::default()),
        });
        let header = MessageHeader { csid, timestamp, len, type_id, msid: self.msid };
        let first = self.writer.head(out, header);
        Heads { first, chunk_size: self.writer.chunk_size() as usize }
    }

    /// Appends the chunks of a message of audio, video or data.
    pub fn write(&mut self, out: &mut Vec<u8>, message: &Message, timestamp: u32) {
        let mut payload = Vec::new();
        message.encode(&mut payload);
        let (csid, type_id) = (customary(message).0, message.type_id());
        let header = MessageHeader { csid, timestamp, len: 0, type_id, msid: self.msid };
        self.writer.write(out, header, &payload, None);
    }

    /// Brings it into the caches; the number means nothing.
    pub fn touch(&self) -> u64 {
        self.writer.touch()
    }
}

impl Core {
    /// What a message asks of the session itself.
    fn heed(&mut self, now: Time, header: MessageHeader, payload: &[u8]) {
        if !matches!(header.type_id, type_id::AUDIO | type_id::VIDEO) {
            self.message(now, header, payload);
        }
    }

    /// What was lent is lent no longer.
    fn let_go(&mut self) {
        if let Some(gathering) = &mut self.gathering {
            gathering.whole = Vec::new();
            if gathering.open.is_empty() {
                self.gathering = None;
            }
        }
    }

    /// Puts the slice to those before it; the message, if it is whole.
    fn gather(&mut self, slice: &Slice<'_>) -> Result<Option<Vec<u8>>, Error> {
        let (csid, at) = (slice.header.csid, slice.at as usize);
        let open = &mut self.gathering.get_or_insert_default().open;
        let held: usize = open.iter().map(|(_, bytes)| bytes.len()).sum();
        let (value, limit) = (held + slice.bytes.len(), self.config.limits.held_bytes);
        if value > limit {
            let (value, limit) = (value as u64, limit as u64);
            let kind = ChunkErrorKind::Limit { what: "number of held bytes", value, limit };
            let error = ChunkError { offset: self.flow.received, kind };
            return Err(self.failed.insert(error.into()).clone());
        }
        let place = match open.iter().position(|(known, _)| *known == csid) {
            Some(place) => place,
            None if at > 0 => return Ok(None),
            None => {
                open.push((csid, Vec::new()));
                open.len() - 1
            }
        };
        let bytes = &mut open[place].1;
        if at == 0 {
            bytes.clear();
        }
        // Of a message that was not seen from its beginning, or was cut short, there is no whole.
        if bytes.len() == at {
            bytes.extend_from_slice(slice.bytes);
        }
        if !slice.last {
            return Ok(None);
        }
        let (_, bytes) = open.swap_remove(place);
        Ok((bytes.len() == slice.header.len as usize).then_some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::chunk::Limits;
    use crate::wire::message::UserControl;
    use crate::wire::session::{Event, HANDSHAKE_LEN};

    const NOW: Time = Time::ZERO;

    /// A server that has the client's handshake.
    fn session(held_bytes: usize) -> Session {
        let limits = Limits { held_bytes, ..Limits::default() };
        let mut session = Session::server(Config { limits, ..Config::default() });
        let mut hello = vec![7; HANDSHAKE_LEN as usize];
        hello[0] = 3;
        let mut hello = &hello[..];
        loop {
            let mut rest = hello;
            let more = session.read(NOW, &mut rest).expect("a handshake").is_some();
            hello = &hello[hello.len() - rest.len()..];
            if !more {
                break;
            }
        }
        session.output();
        session
    }

    fn header(csid: u32, type_id: u8, timestamp: u32) -> MessageHeader {
        MessageHeader { csid, timestamp, len: 0, type_id, msid: 1 }
    }

    /// Media of many lengths and what is to be answered between.
    fn stream() -> Vec<u8> {
        let (mut out, mut writer) = (Vec::new(), ChunkWriter::default());
        let mut control = |out: &mut Vec<u8>, message: &Message| {
            let mut payload = Vec::new();
            message.encode(&mut payload);
            writer.write(out, header(2, message.type_id(), 0), &payload, None);
        };
        control(&mut out, &Message::WindowAckSize(2000));
        let mut media = ChunkWriter::default();
        for (i, len) in [0, 1, 127, 128, 129, 300, 5000, 40, 256, 3000].into_iter().enumerate() {
            let (csid, kind) = if i % 2 == 0 { (6, type_id::VIDEO) } else { (4, type_id::AUDIO) };
            media.write(&mut out, header(csid, kind, i as u32 * 20), &vec![i as u8; len], None);
            control(&mut out, &Message::UserControl(UserControl::PingRequest(i as u32)));
        }
        out
    }

    /// The messages, by payload, and what was answered.
    fn taken(bytes: &[u8], piece: usize, skim: bool) -> (Vec<(MessageHeader, Vec<u8>)>, Vec<u8>) {
        let mut session = session(1 << 20);
        let (mut messages, mut answers) = (Vec::new(), Vec::new());
        for mut piece in bytes.chunks(piece) {
            loop {
                let mut rest = piece;
                let found = if skim {
                    session.skim(NOW, &mut rest).expect("readable")
                } else {
                    let event = session.read(NOW, &mut rest).expect("readable");
                    event.map(|event| match event {
                        Event::Message(header, payload) => Skimmed::Message(header, payload),
                        _ => Skimmed::Part,
                    })
                };
                piece = &piece[piece.len() - rest.len()..];
                match found {
                    Some(Skimmed::Message(header, payload)) => messages.push((header, payload.to_vec())),
                    Some(Skimmed::Part) => {}
                    None => break,
                }
            }
            answers.extend_from_slice(&session.output());
        }
        if skim {
            assert!(session.core.gathering.is_none(), "nothing is kept");
        }
        (messages, answers)
    }

    #[test]
    fn skimming_takes_what_reading_takes_however_it_is_cut() {
        let bytes = stream();
        for piece in [1, 2, 3, 11, 100, 128, 1000, 5001, bytes.len()] {
            let (read, skimmed) = (taken(&bytes, piece, false), taken(&bytes, piece, true));
            assert_eq!(read.0.len(), 21);
            assert!(read == skimmed, "pieces of {piece}: {} and {}", read.0.len(), skimmed.0.len());
            // Ten pongs of at least 1 + 6 bytes, and acknowledgements.
            assert!(read.1.len() > 70);
        }
    }

    #[test]
    fn what_is_gathered_is_bounded() {
        let mut session = session(1000);
        let mut bytes = Vec::new();
        ChunkWriter::default().write(&mut bytes, header(6, type_id::VIDEO, 0), &[1; 2000], None);
        let mut input = &bytes[..];
        let end = loop {
            match session.skim(NOW, &mut input) {
                Ok(Some(_)) => {}
                end => break end.map(|found| found.is_none()),
            }
        };
        assert!(
            matches!(end, Err(Error::Chunk(ChunkError { kind: ChunkErrorKind::Limit { .. }, .. }))),
            "{end:?}"
        );
    }

    #[test]
    fn heads_are_those_of_messages_that_are_sent_whole() {
        let mut one = session(1 << 20).media_writer();
        let mut whole = session(1 << 20).media_writer();
        let mut other = session(1 << 20);
        for (i, len) in [100_u32, 100, 128, 129, 1000, 256, 5].into_iter().enumerate() {
            for (kind, timestamp) in [(type_id::VIDEO, i as u32 * 33), (type_id::AUDIO, 0xFF_FFFF + i as u32)]
            {
                let payload = vec![i as u8; len as usize];
                let mut heads = Vec::new();
                let Heads { first, chunk_size } = one.head(&mut heads, kind, timestamp, len);
                let mut got = heads[..first].to_vec();
                for (n, chunk) in payload.chunks(chunk_size).enumerate() {
                    got.extend_from_slice(if n == 0 { &[] } else { &heads[first..] });
                    got.extend_from_slice(chunk);
                }
                let message = match kind {
                    type_id::VIDEO => Message::Video(payload.into()),
                    _ => Message::Audio(payload.into()),
                };
                let fields =
                    crate::wire::session::Fields { timestamp: Some(timestamp), ..Default::default() };
                let want = other.encode(&message, fields);
                assert_eq!(got, want, "{kind} {len}");
                got.clear();
                whole.write(&mut got, &message, timestamp);
                assert_eq!(got, want, "{kind} {len}");
            }
        }
    }
}
