//! Conversations, captured.

use bytes::Bytes;
use rtmp_bench::capture;
use rtmp_bench::record::inspect::{Inspect, Session};
use rtmp_bench::wire::amf0::Value;
use rtmp_bench::wire::chunk::{ChunkWriter, MessageHeader};
use rtmp_bench::wire::handshake::Block;
use rtmp_bench::wire::message::{Message, UserControl};

use crate::capture_gen::{ACK, FIN, Packet, SYN, pcap};

/// Who sends.
pub const CLIENT: usize = 0;
pub const SERVER: usize = 1;

/// A conversation, captured.
pub struct Talk {
    pub packets: Vec<(u64, Packet)>,
    pub seq: [u32; 2],
    pub writers: [ChunkWriter; 2],
    /// Microseconds from the first packet.
    pub now: u64,
    /// Microseconds from packet to packet.
    pub step: u64,
    pub captured: bool,
}

impl Talk {
    /// Both SYNs.
    pub fn open() -> Talk {
        let mut t = Talk {
            packets: Vec::new(),
            seq: [100, 500],
            writers: [ChunkWriter::default(), ChunkWriter::default()],
            now: 0,
            step: 10_000,
            captured: true,
        };
        t.packet(CLIENT, SYN, 99, &[]);
        t.packet(SERVER, SYN | ACK, 499, &[]);
        t
    }

    /// Both handshakes.
    pub fn new() -> Talk {
        Talk::shaken(&[CLIENT, SERVER, CLIENT])
    }

    /// The handshake, each side saying what it has to say next in this order.
    pub fn shaken(order: &[usize]) -> Talk {
        let mut t = Talk::open();
        let (c1, s1) = (Block::new(1, 0, b"client"), Block::new(2, 0, b"server"));
        let (c2, s2) = (s1.echo(3), c1.echo(4));
        let mut client = [[&[3], &c1.0[..]].concat(), c2.0.to_vec()].into_iter();
        let mut server = [[&[3], &s1.0[..], &s2.0[..]].concat()].into_iter();
        for side in order {
            let piece = if *side == CLIENT { client.next() } else { server.next() };
            t.bytes(*side, &piece.expect("a piece"));
        }
        t
    }

    pub fn packet(&mut self, side: usize, flags: u8, seq: u32, payload: &[u8]) {
        self.now += self.step;
        if self.captured {
            let packet = Packet { ack: self.seq[1 - side], ..Packet::new(side, seq, flags, payload) };
            self.packets.push((self.now, packet));
        }
    }

    pub fn bytes(&mut self, side: usize, bytes: &[u8]) {
        for piece in bytes.chunks(1400) {
            self.packet(side, ACK, self.seq[side], piece);
            self.seq[side] += piece.len() as u32;
        }
    }

    pub fn wait_s(&mut self, seconds: u64) -> &mut Talk {
        self.now += seconds * 1_000_000;
        self
    }

    /// A message at a timestamp.
    pub fn at(&mut self, side: usize, msid: u32, timestamp: u32, message: &Message) -> &mut Talk {
        let mut payload = Vec::new();
        message.encode(&mut payload);
        let csid = match message.type_id() {
            1..=6 => 2,
            8 => 4,
            9 => 6,
            _ => 3,
        };
        let header = MessageHeader { csid, timestamp, len: 0, type_id: message.type_id(), msid };
        let mut out = Vec::new();
        self.writers[side].write(&mut out, header, &payload, None);
        self.bytes(side, &out);
        self
    }

    pub fn message(&mut self, side: usize, message: &Message) -> &mut Talk {
        self.at(side, 0, 0, message)
    }

    /// A command whose command object is null.
    pub fn command(&mut self, side: usize, msid: u32, name: &str, id: f64, args: Vec<Value>) -> &mut Talk {
        let args = [vec![Value::Null], args].concat();
        self.at(side, msid, 0, &Message::command(name, id, args))
    }

    pub fn audio(&mut self, side: usize, msid: u32, timestamp: u32, body: &'static [u8]) -> &mut Talk {
        self.at(side, msid, timestamp, &Message::Audio(Bytes::from_static(body)))
    }

    pub fn connect(&mut self, id: f64) -> &mut Talk {
        let app = Value::object([("app", "live".into())]);
        self.message(CLIENT, &Message::command("connect", id, vec![app]))
    }

    pub fn connect_result(&mut self, id: f64) -> &mut Talk {
        let about = Value::object([("fmsVer", "x".into())]);
        let info = info("NetConnection.Connect.Success");
        self.message(SERVER, &Message::command("_result", id, vec![about, info]))
    }

    pub fn connected(&mut self) -> &mut Talk {
        self.message(SERVER, &Message::WindowAckSize(2_500_000));
        self.connect(1.0).connect_result(1.0)
    }

    pub fn create(&mut self, id: f64) -> &mut Talk {
        self.command(CLIENT, 0, "createStream", id, vec![])
    }

    pub fn create_result(&mut self, id: f64, msid: f64) -> &mut Talk {
        self.command(SERVER, 0, "_result", id, vec![msid.into()])
    }

    pub fn created(&mut self) -> &mut Talk {
        self.connected().create(2.0).create_result(2.0, 1.0)
    }

    pub fn publish(&mut self, msid: u32) -> &mut Talk {
        self.command(CLIENT, msid, "publish", 0.0, vec!["cam".into(), "live".into()])
    }

    pub fn play(&mut self, msid: u32) -> &mut Talk {
        self.command(CLIENT, msid, "play", 0.0, vec!["cam".into()])
    }

    pub fn status(&mut self, msid: u32, code: &str) -> &mut Talk {
        self.command(SERVER, msid, "onStatus", 0.0, vec![info(code)])
    }

    pub fn publishing(&mut self) -> &mut Talk {
        self.created().publish(1).status(1, PUBLISHED)
    }

    pub fn playing(&mut self) -> &mut Talk {
        self.created().play(1).status(1, PLAYED)
    }

    /// The next packets are not captured.
    pub fn unseen(&mut self, what: impl FnOnce(&mut Talk)) -> &mut Talk {
        self.captured = false;
        what(self);
        self.captured = true;
        self
    }

    pub fn close(&mut self) -> &mut Talk {
        for side in [CLIENT, SERVER] {
            self.packet(side, FIN | ACK, self.seq[side], &[]);
        }
        self
    }

    pub fn read(&self) -> Inspect {
        let packets: Vec<Packet> = self.packets.iter().map(|(_, p)| p.clone()).collect();
        let mut file = pcap(&packets);
        let mut at = 24;
        for (time, packet) in &self.packets {
            let time = 1_700_000_000_000_000 + time;
            file[at..at + 4].copy_from_slice(&((time / 1_000_000) as u32).to_le_bytes());
            file[at + 4..at + 8].copy_from_slice(&((time % 1_000_000) as u32).to_le_bytes());
            at += 16 + packet.ipv4().len();
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("talk.pcap");
        std::fs::write(&path, file).expect("written");
        capture::read(&path, false, &mut ()).expect("a capture")
    }

    /// The notes of the one session.
    pub fn notes(&self) -> String {
        let found = self.read();
        assert_eq!(found.sessions.len(), 1);
        notes(&found.sessions[0])
    }
}

pub const PUBLISHED: &str = "NetStream.Publish.Start";
pub const PLAYED: &str = "NetStream.Play.Start";

pub fn info(code: &str) -> Value {
    Value::object([("level", "status".into()), ("code", code.into()), ("description", "x".into())])
}

/// Each note as direction, name, value and, where it is more than one, count.
pub fn notes(session: &Session) -> String {
    let one = |n: &rtmp_bench::record::inspect::Note| {
        let seen = n.seen.as_ref().map(|seen| format!(" '{seen}'")).unwrap_or_default();
        let count = if n.count == 1 { String::new() } else { format!(" x{}", n.count) };
        format!("{} {} {}{seen}{count}", n.direction, n.note, n.value)
    };
    session.notes.iter().map(one).collect::<Vec<_>>().join("; ")
}

pub type Row = (&'static str, fn(&mut Talk));

/// A frame that needs no header.
pub const MP3: &[u8] = b"\x2F frame";

pub fn ping(t: &mut Talk, side: usize, number: u32) {
    t.message(side, &Message::UserControl(UserControl::PingRequest(number)));
    t.message(1 - side, &Message::UserControl(UserControl::PingResponse(number)));
}
