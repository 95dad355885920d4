//! A recording made here: a client that does what the shipped ones do not.

use std::ops::Range;

use rtmp_bench::wire::amf0::Value;
use rtmp_bench::wire::chunk::{ChunkWriter, MessageHeader};
use rtmp_bench::wire::message::{Message, UserControl, type_id};

use crate::capture_gen::{ACK, FIN, Packet, SYN, pcap, pcap_frames};

/// Both sides of a connection as packets, one a message, a millisecond apart.
pub struct Conversation {
    packets: Vec<Packet>,
    seq: [u32; 2],
    writers: [ChunkWriter; 2],
}

const CLIENT: usize = 0;
const SERVER: usize = 1;

impl Conversation {
    /// With handshake and connect.
    pub fn connected() -> Conversation {
        let mut c = Conversation {
            packets: vec![
                Packet::new(CLIENT, 99, SYN, &[]),
                Packet { ack: 100, ..Packet::new(SERVER, 499, SYN | ACK, &[]) },
            ],
            seq: [100, 500],
            writers: [ChunkWriter::default(), ChunkWriter::default()],
        };
        let hello = |n: usize| [&[3][..], &vec![0; n]].concat();
        c.bytes(CLIENT, &hello(1536));
        c.bytes(SERVER, &hello(3072));
        c.bytes(CLIENT, &[0; 1536]);
        let object = Value::object([("app", "live".into()), ("tcUrl", "rtmp://10.0.0.2/live".into())]);
        c.client(0, 0, &Message::command("connect", 1.0, vec![object]));
        c.server(
            0,
            &Message::command("_result", 1.0, vec![Value::Null, status("NetConnection.Connect.Success")]),
        );
        c
    }

    /// A client that uses two streams, is called by the server and answers, and publishes on the second stream.
    pub fn rich() -> Conversation {
        let mut c = Conversation::connected();
        let create = |id| Message::command("createStream", id, vec![Value::Null]);
        let created = |id, n| Message::command("_result", id, vec![Value::Null, Value::Number(n)]);
        c.server(0, &Message::command("whoAreYou", 5.0, vec![Value::Null]));
        c.client(0, 0, &Message::command("_result", 5.0, vec![Value::Null, "a client".into()]));
        c.client(0, 0, &create(2.0));
        c.client(0, 0, &create(3.0));
        c.server(0, &created(2.0, 1.0));
        c.server(0, &created(3.0, 2.0));
        c.client(0, 0, &Message::Acknowledgement(4000));
        c.client(0, 0, &Message::UserControl(UserControl::SetBufferLength { msid: 1, ms: 500 }));
        c.client(
            2,
            0,
            &Message::command("publish", 4.0, vec![Value::Null, "cam?key=abc".into(), "live".into()]),
        );
        c.server(2, &Message::command("onStatus", 0.0, vec![Value::Null, status("NetStream.Publish.Start")]));
        c.client(0, 0, &Message::command("deleteStream", 5.0, vec![Value::Null, Value::Number(1.0)]));
        c
    }

    /// Adds key frames, each of so many bytes and so many milliseconds behind the one before it.
    pub fn frames(mut self, msid: u32, n: u8, len: usize, step: u32) -> Conversation {
        for i in 0..n {
            let payload = [&[0x17, 1, 0, 0, 0, i][..], &vec![0xAA; len]].concat();
            self.client(msid, u32::from(i) * step, &Message::Video(payload.into()));
        }
        self
    }

    pub fn client(&mut self, msid: u32, timestamp: u32, message: &Message) {
        self.message(CLIENT, msid, timestamp, message);
    }

    pub fn server(&mut self, msid: u32, message: &Message) {
        self.message(SERVER, msid, 0, message);
    }

    fn message(&mut self, side: usize, msid: u32, timestamp: u32, message: &Message) {
        let mut payload = Vec::new();
        message.encode(&mut payload);
        let csid = if message.type_id() == type_id::VIDEO { 6 } else { 3 };
        let header = MessageHeader { csid, timestamp, len: 0, type_id: message.type_id(), msid };
        let mut out = Vec::new();
        self.writers[side].write(&mut out, header, &payload, None);
        self.bytes(side, &out);
    }

    fn bytes(&mut self, side: usize, bytes: &[u8]) {
        for piece in bytes.chunks(1400) {
            self.packets.push(Packet::new(side, self.seq[side], ACK, piece));
            self.seq[side] += piece.len() as u32;
        }
    }

    /// The client ends it.
    pub fn ended(mut self) -> Conversation {
        self.packets.push(Packet::new(CLIENT, self.seq[CLIENT], FIN | ACK, &[]));
        self
    }

    /// How many packets it has so far.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// As a capture, without the packets of these places from the end.
    pub fn without(mut self, from_end: usize) -> Vec<u8> {
        let at = self.packets.len() - 1 - from_end;
        self.packets.remove(at);
        pcap(&self.packets)
    }

    /// As a capture.
    pub fn pcap(&self) -> Vec<u8> {
        pcap(&self.packets)
    }

    /// The client's bytes alone.
    pub fn client_bytes(&self) -> Vec<u8> {
        self.packets.iter().filter(|p| p.side == CLIENT).flat_map(|p| p.payload.clone()).collect()
    }
}

/// A capture of several conversations: of each the packets of these places, one part behind the other. The number is that of its client.
pub fn interleaved(parts: &[(u16, &Conversation, Range<usize>)]) -> Vec<u8> {
    let packet = |client: &u16, packet: &Packet| {
        let mut ip = packet.ipv4();
        let at = if packet.side == CLIENT { 20 } else { 22 };
        ip[at..at + 2].copy_from_slice(&(40_000 + client).to_be_bytes());
        ip
    };
    let of_part = |(client, c, range): &(u16, &Conversation, Range<usize>)| -> Vec<Vec<u8>> {
        c.packets[range.clone()].iter().map(|p| packet(client, p)).collect()
    };
    let frames: Vec<_> = parts.iter().flat_map(of_part).collect();
    pcap_frames(101, frames.iter().map(|f| (&f[..], f.len())))
}

/// An information object.
pub fn status(code: &str) -> Value {
    Value::object([("level", "status".into()), ("code", code.into()), ("description", "".into())])
}
