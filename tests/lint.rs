//! What `inspect` notes of sessions: one session a rule, made here, that has exactly that note; sessions that have none; and the notes of
//! every capture of `captures/` and of the folder that `RTMP_BENCH_CAPTURES` names, each of which was read against its bytes.

mod capture_gen;

use std::path::Path;

use bytes::Bytes;
use capture_gen::{ACK, FIN, Packet, SYN, pcap};
use rtmp_bench::capture;
use rtmp_bench::record::inspect::{Inspect, Session};
use rtmp_bench::scenario::clauses::Clauses;
use rtmp_bench::wire::amf0::Value;
use rtmp_bench::wire::chunk::{ChunkWriter, MessageHeader};
use rtmp_bench::wire::handshake::Block;
use rtmp_bench::wire::message::{Message, UserControl};
use rtmp_bench::wire::note::NoteKind;

/// Who sends.
const CLIENT: usize = 0;
const SERVER: usize = 1;

/// A conversation, captured.
struct Talk {
    packets: Vec<(u64, Packet)>,
    seq: [u32; 2],
    writers: [ChunkWriter; 2],
    /// Microseconds from the first packet.
    now: u64,
    /// Microseconds from packet to packet.
    step: u64,
    captured: bool,
}

impl Talk {
    /// Both SYNs.
    fn open() -> Talk {
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
    fn new() -> Talk {
        Talk::shaken(&[CLIENT, SERVER, CLIENT])
    }

    /// The handshake, each side saying what it has to say next in this order.
    fn shaken(order: &[usize]) -> Talk {
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

    fn packet(&mut self, side: usize, flags: u8, seq: u32, payload: &[u8]) {
        self.now += self.step;
        if self.captured {
            let packet = Packet { ack: self.seq[1 - side], ..Packet::new(side, seq, flags, payload) };
            self.packets.push((self.now, packet));
        }
    }

    fn bytes(&mut self, side: usize, bytes: &[u8]) {
        for piece in bytes.chunks(1400) {
            self.packet(side, ACK, self.seq[side], piece);
            self.seq[side] += piece.len() as u32;
        }
    }

    fn wait_s(&mut self, seconds: u64) -> &mut Talk {
        self.now += seconds * 1_000_000;
        self
    }

    /// A message at a timestamp.
    fn at(&mut self, side: usize, msid: u32, timestamp: u32, message: &Message) -> &mut Talk {
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

    fn message(&mut self, side: usize, message: &Message) -> &mut Talk {
        self.at(side, 0, 0, message)
    }

    /// A command whose command object is null.
    fn command(&mut self, side: usize, msid: u32, name: &str, id: f64, args: Vec<Value>) -> &mut Talk {
        let args = [vec![Value::Null], args].concat();
        self.at(side, msid, 0, &Message::command(name, id, args))
    }

    fn audio(&mut self, side: usize, msid: u32, timestamp: u32, body: &'static [u8]) -> &mut Talk {
        self.at(side, msid, timestamp, &Message::Audio(Bytes::from_static(body)))
    }

    fn connect(&mut self, id: f64) -> &mut Talk {
        let app = Value::object([("app", "live".into())]);
        self.message(CLIENT, &Message::command("connect", id, vec![app]))
    }

    fn connect_result(&mut self, id: f64) -> &mut Talk {
        let about = Value::object([("fmsVer", "x".into())]);
        let info = info("NetConnection.Connect.Success");
        self.message(SERVER, &Message::command("_result", id, vec![about, info]))
    }

    fn connected(&mut self) -> &mut Talk {
        self.message(SERVER, &Message::WindowAckSize(2_500_000));
        self.connect(1.0).connect_result(1.0)
    }

    fn create(&mut self, id: f64) -> &mut Talk {
        self.command(CLIENT, 0, "createStream", id, vec![])
    }

    fn create_result(&mut self, id: f64, msid: f64) -> &mut Talk {
        self.command(SERVER, 0, "_result", id, vec![msid.into()])
    }

    fn created(&mut self) -> &mut Talk {
        self.connected().create(2.0).create_result(2.0, 1.0)
    }

    fn publish(&mut self, msid: u32) -> &mut Talk {
        self.command(CLIENT, msid, "publish", 0.0, vec!["cam".into(), "live".into()])
    }

    fn play(&mut self, msid: u32) -> &mut Talk {
        self.command(CLIENT, msid, "play", 0.0, vec!["cam".into()])
    }

    fn status(&mut self, msid: u32, code: &str) -> &mut Talk {
        self.command(SERVER, msid, "onStatus", 0.0, vec![info(code)])
    }

    fn publishing(&mut self) -> &mut Talk {
        self.created().publish(1).status(1, PUBLISHED)
    }

    fn playing(&mut self) -> &mut Talk {
        self.created().play(1).status(1, PLAYED)
    }

    /// The next packets are not captured.
    fn unseen(&mut self, what: impl FnOnce(&mut Talk)) -> &mut Talk {
        self.captured = false;
        what(self);
        self.captured = true;
        self
    }

    fn close(&mut self) -> &mut Talk {
        for side in [CLIENT, SERVER] {
            self.packet(side, FIN | ACK, self.seq[side], &[]);
        }
        self
    }

    fn read(&self) -> Inspect {
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
    fn notes(&self) -> String {
        let found = self.read();
        assert_eq!(found.sessions.len(), 1);
        notes(&found.sessions[0])
    }
}

const PUBLISHED: &str = "NetStream.Publish.Start";
const PLAYED: &str = "NetStream.Play.Start";

fn info(code: &str) -> Value {
    Value::object([("level", "status".into()), ("code", code.into()), ("description", "x".into())])
}

/// Each note as direction, name, value and, where it is more than one, count.
fn notes(session: &Session) -> String {
    let one = |n: &rtmp_bench::record::inspect::Note| {
        let seen = n.seen.as_ref().map(|seen| format!(" '{seen}'")).unwrap_or_default();
        let count = if n.count == 1 { String::new() } else { format!(" x{}", n.count) };
        format!("{} {} {}{seen}{count}", n.direction, n.note, n.value)
    };
    session.notes.iter().map(one).collect::<Vec<_>>().join("; ")
}

type Row = (&'static str, fn(&mut Talk));

/// What each session must be noted for, and the session behind both handshakes.
const RULES: &[Row] = &[
    ("c2s connect-id 2", |t| _ = t.connect(2.0).connect_result(2.0)),
    ("c2s connect-id 0 'none'", |t| {
        let connect = Message::Command(rtmp_bench::wire::message::Command {
            encoding: Default::default(),
            name: "connect".into(),
            transaction_id: None,
            args: vec![],
        });
        t.message(CLIENT, &connect);
    }),
    ("c2s connect-place 1", |t| {
        t.at(CLIENT, 1, 0, &Message::command("connect", 1.0, vec![])).connect_result(1.0);
    }),
    ("c2s connect-again 1", |t| {
        t.connected();
        t.connect(1.0).connect_result(1.0);
    }),
    ("c2s create-early 2", |t| _ = t.connect(1.0).create(2.0).connect_result(1.0).create_result(2.0, 1.0)),
    ("c2s create-early 2", |t| _ = t.create(2.0).create_result(2.0, 1.0)),
    ("c2s create-place 7", |t| {
        t.connected().command(CLIENT, 7, "createStream", 2.0, vec![]).create_result(2.0, 1.0);
    }),
    ("c2s stream-early 1", |t| {
        t.connected().create(2.0).publish(1).create_result(2.0, 1.0).status(1, PUBLISHED);
    }),
    ("c2s stream-unknown 9", |t| _ = t.created().play(9).status(9, PLAYED)),
    ("c2s stream-unknown 1", |t| _ = t.connected().publish(1).status(1, PUBLISHED)),
    ("c2s stream-command-place 0", |t| _ = t.created().publish(0).status(0, PUBLISHED)),
    ("c2s stream-command-id 5", |t| {
        t.created().command(CLIENT, 1, "play", 5.0, vec!["cam".into()]).status(1, PLAYED);
    }),
    ("c2s stream-command-id 3 x2", |t| {
        t.publishing().command(CLIENT, 1, "deleteStream", 3.0, vec![1.0.into()]);
        t.command(CLIENT, 0, "deleteStream", 4.0, vec![1.0.into()]);
    }),
    ("c2s stream-command-object 1", |t| {
        let play = Message::command("play", 0.0, vec![Value::object([]), "cam".into()]);
        t.created().at(CLIENT, 1, 0, &play).status(1, PLAYED);
    }),
    ("c2s publish-type 1 'lve'", |t| {
        let name = vec!["cam".into(), "lve".into()];
        t.created().command(CLIENT, 1, "publish", 0.0, name).status(1, PUBLISHED);
    }),
    ("c2s publish-type 1 '***'", |t| {
        let name = vec!["live".into(), "abcd-1234-efgh-5678".into()];
        t.created().command(CLIENT, 1, "publish", 0.0, name).status(1, PUBLISHED);
    }),
    ("c2s media-early 1 x2", |t| {
        t.created().publish(1).audio(CLIENT, 1, 0, MP3).audio(CLIENT, 1, 26, MP3);
        t.status(1, PUBLISHED).audio(CLIENT, 1, 52, MP3);
    }),
    ("c2s media-early 2", |t| _ = t.publishing().audio(CLIENT, 2, 0, MP3)),
    ("c2s time-back 6", |t| {
        t.publishing().audio(CLIENT, 1, 0xFFFF_FFF0, MP3).audio(CLIENT, 1, 10, MP3).audio(CLIENT, 1, 4, MP3);
    }),
    ("c2s aac-frame-first 1", |t| _ = t.publishing().audio(CLIENT, 1, 0, b"\xAF\x01frame")),
    ("c2s avc-frame-first 1", |t| {
        let frame = Message::Video(Bytes::from_static(b"\x17\x01\0\0\0\0\0\0\x01e"));
        t.publishing().at(CLIENT, 1, 0, &frame);
    }),
    ("s2c answer-unknown 9", |t| {
        t.connected().command(SERVER, 0, "_error", 9.0, vec![]).create(2.0);
        t.create_result(2.0, 1.0);
    }),
    ("s2c answer-twice 2", |t| {
        t.created().command(SERVER, 0, "_result", 2.0, vec![]).publish(1).status(1, PUBLISHED);
    }),
    ("s2c answer-unasked 0", |t| {
        t.created().command(CLIENT, 0, "FCPublish", 0.0, vec![]).command(SERVER, 0, "_result", 0.0, vec![]);
    }),
    ("s2c answer-place 1", |t| {
        t.connected().create(2.0).command(SERVER, 1, "_result", 2.0, vec![1.0.into()]);
    }),
    ("s2c create-result 2 '0'", |t| _ = t.connected().create(2.0).create_result(2.0, 0.0)),
    ("s2c create-same-id 1", |t| {
        t.created().create(3.0).create_result(3.0, 1.0);
        t.publish(1).status(1, PUBLISHED);
    }),
    ("s2c status-id 4", |t| {
        t.created().publish(1).command(SERVER, 1, "onStatus", 4.0, vec![info(PUBLISHED)]);
    }),
    ("s2c status-object 1", |t| {
        let status = Message::command("onStatus", 0.0, vec![0.0.into(), info(PUBLISHED)]);
        t.created().publish(1).at(SERVER, 1, 0, &status);
    }),
    ("s2c status-info 1 'no level, no description'", |t| {
        let info = Value::object([("code", PUBLISHED.into())]);
        t.created().publish(1).command(SERVER, 1, "onStatus", 0.0, vec![info]);
    }),
    ("s2c status-level 1 'fine'", |t| {
        let info =
            Value::object([("level", "fine".into()), ("code", PUBLISHED.into()), ("description", "".into())]);
        t.created().publish(1).command(SERVER, 1, "onStatus", 0.0, vec![info]);
    }),
    ("s2c status-place 1", |t| _ = t.created().publish(1).status(0, PUBLISHED)),
    ("s2c media-unplayed 0", |t| _ = t.playing().audio(SERVER, 0, 0, MP3).audio(SERVER, 1, 0, MP3)),
    ("s2c media-unplayed 1", |t| {
        t.created().audio(SERVER, 1, 0, MP3).play(1).status(1, PLAYED);
    }),
    ("s2c media-unconfirmed 1", |t| {
        t.created().play(1).audio(SERVER, 1, 0, MP3).status(1, PLAYED).audio(SERVER, 1, 26, MP3);
    }),
    ("s2c amf3-unasked 17", |t| {
        let info = Value::object([
            ("code", "NetConnection.Connect.Success".into()),
            ("level", "status".into()),
            ("objectEncoding", 0.0.into()),
        ]);
        t.connect(1.0).message(SERVER, &Message::command("_result", 1.0, vec![Value::Null, info]));
        let Message::Command(command) = Message::command("onBWDone", 0.0, vec![Value::Null]) else { return };
        let encoding = rtmp_bench::wire::message::Encoding::Amf3;
        let done = Message::Command(rtmp_bench::wire::message::Command { encoding, ..command });
        t.message(SERVER, &done);
    }),
    ("c2s ack-missing 1209536", |t| {
        // What the client has read is proved by the ping that it answers.
        t.connected().message(SERVER, &Message::WindowAckSize(20_000)).create(2.0);
        t.create_result(2.0, 1.0).play(1).status(1, PLAYED);
        t.audio(SERVER, 1, 0, &[0x2F; 1_200_000]);
        ping(t, SERVER, 7);
    }),
    ("s2c ack-missing 1209423", |t| {
        t.publishing().message(CLIENT, &Message::WindowAckSize(20_000));
        t.audio(CLIENT, 1, 0, &[0x2F; 1_200_000]).create(5.0).create_result(5.0, 2.0);
    }),
    ("c2s ack-number 90000", |t| _ = t.publishing().message(CLIENT, &Message::Acknowledgement(90_000))),
    ("c2s ack-backward 3100", |t| {
        t.publishing();
        for number in [3300, 3300, 3100, 3200] {
            t.message(CLIENT, &Message::Acknowledgement(number));
        }
    }),
    ("s2c bandwidth-limit 3", |t| {
        t.connected().message(SERVER, &Message::SetPeerBandwidth { size: 9, limit: 3 });
    }),
    ("c2s bandwidth-unanswered 9", |t| {
        t.connected().message(SERVER, &Message::SetPeerBandwidth { size: 9, limit: 0 }).create(2.0);
        t.create_result(2.0, 1.0).publish(1).status(1, PUBLISHED).wait_s(11).audio(CLIENT, 1, 0, MP3);
    }),
    ("c2s bandwidth-unanswered 8", |t| {
        // Dynamic is hard after hard.
        t.connected().message(SERVER, &Message::SetPeerBandwidth { size: 9, limit: 0 });
        t.message(CLIENT, &Message::WindowAckSize(9));
        t.message(SERVER, &Message::SetPeerBandwidth { size: 8, limit: 2 }).create(2.0);
        t.create_result(2.0, 1.0).publish(1).status(1, PUBLISHED).wait_s(11).audio(CLIENT, 1, 0, MP3);
    }),
    ("c2s message-type 99", |t| {
        t.connected().message(CLIENT, &Message::Unknown { type_id: 99, payload: Bytes::from_static(b"x") });
    }),
    ("s2c user-control-event 31", |t| {
        let data = Bytes::from_static(&[0, 0, 0, 1]);
        t.connected().message(SERVER, &Message::UserControl(UserControl::Unknown { event: 31, data }));
    }),
    ("s2c user-control-event 3", |t| {
        t.connected().message(SERVER, &Message::UserControl(UserControl::SetBufferLength { msid: 0, ms: 9 }));
    }),
    ("c2s ping-unanswered 77", |t| {
        t.publishing().message(SERVER, &Message::UserControl(UserControl::PingRequest(77)));
        t.wait_s(11).audio(CLIENT, 1, 0, MP3);
    }),
    ("c2s ping-differs 78", |t| {
        t.publishing().message(SERVER, &Message::UserControl(UserControl::PingRequest(77)));
        t.message(CLIENT, &Message::UserControl(UserControl::PingResponse(78)));
        t.wait_s(11).audio(CLIENT, 1, 0, MP3);
    }),
    ("c2s payload 20", |t| {
        let broken = Message::Unknown { type_id: 20, payload: Bytes::from_static(b"\x05") };
        t.connected().message(CLIENT, &broken).wait_s(1).audio(CLIENT, 1, 0, MP3);
    }),
];

/// A frame that needs no header.
const MP3: &[u8] = b"\x2F frame";

fn ping(t: &mut Talk, side: usize, number: u32) {
    t.message(side, &Message::UserControl(UserControl::PingRequest(number)));
    t.message(1 - side, &Message::UserControl(UserControl::PingResponse(number)));
}

#[test]
fn each_rule_has_its_note() {
    let mut wrong = Vec::new();
    for (want, talk) in RULES {
        let mut t = Talk::new();
        talk(&mut t);
        let got = t.close().notes();
        if got != *want {
            wrong.push(format!("want {want}\n got {got}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for kind in NoteKind::SESSION {
        let has = |(want, _): &Row| want.split(' ').nth(1) == Some(kind.name());
        assert!(RULES.iter().any(has), "no session for {}", kind.name());
    }
}

/// Sessions as they should be, or with what the text is silent about.
const CLEAN: &[Row] = &[
    ("another call is answered with the number of a stream to come", |t| {
        t.connected().command(CLIENT, 0, "login", 2.0, vec![]);
        t.create_result(2.0, 1.0);
        t.create(3.0).create_result(3.0, 1.0).publish(1).status(1, PUBLISHED);
    }),
    ("createStream with transaction id 0 is answered", |t| {
        t.connected().create(0.0).create_result(0.0, 1.0).publish(1).status(1, PUBLISHED);
    }),
    ("nothing", |_| {}),
    ("publish", |t| {
        t.publishing().message(CLIENT, &Message::SetChunkSize(4096));
        t.audio(CLIENT, 1, 0, b"\xAF\x00head").audio(CLIENT, 1, 0, b"\xAF\x01a").audio(
            CLIENT,
            1,
            23,
            b"\xAF\x01b",
        );
        t.at(CLIENT, 1, 0, &Message::Video(Bytes::from_static(b"\x17\x00\0\0\0head")));
        t.at(CLIENT, 1, 0, &Message::Video(Bytes::from_static(b"\x17\x01\0\0\0\0\0\0\x01e")));
        // What the end of a stream, silence and headers say has no place in the order of frames.
        t.at(CLIENT, 1, 0, &Message::Video(Bytes::from_static(b"\x17\x02\0\0\0")));
        ping(t, SERVER, 5);
        ping(t, CLIENT, 6);
        t.command(CLIENT, 0, "deleteStream", 0.0, vec![1.0.into()]);
    }),
    ("play", |t| {
        t.playing().message(CLIENT, &Message::UserControl(UserControl::SetBufferLength { msid: 1, ms: 9 }));
        t.audio(SERVER, 1, 50, MP3).audio(SERVER, 1, 20, MP3).play(1).audio(SERVER, 1, 0, MP3);
    }),
    ("publish again on the same stream, from the start", |t| {
        t.publishing().audio(CLIENT, 1, 500, MP3).publish(1).status(1, PUBLISHED).audio(CLIENT, 1, 0, MP3);
    }),
    ("refused and tried again", |t| {
        t.connect(1.0).command(SERVER, 0, "_error", 1.0, vec![]).connected();
    }),
    ("the id of a deleted stream is given again", |t| {
        t.created().command(CLIENT, 0, "deleteStream", 0.0, vec![1.0.into()]).create(3.0);
        t.create_result(3.0, 1.0).publish(1).status(1, PUBLISHED);
    }),
    ("no publishing type", |t| {
        t.created().command(CLIENT, 1, "publish", 0.0, vec!["cam".into()]).status(1, PUBLISHED);
    }),
    ("another answer with the stream's number", |t| {
        t.connected().command(CLIENT, 0, "initStream", 2.0, vec![]).create_result(2.0, 4.0).play(4);
        t.status(4, PLAYED);
    }),
    ("acknowledged in time", |t| {
        t.connected().message(SERVER, &Message::WindowAckSize(20_000)).create(2.0);
        t.create_result(2.0, 1.0).play(1).status(1, PLAYED);
        t.audio(SERVER, 1, 0, &[0x2F; 600_000]).message(CLIENT, &Message::Acknowledgement(600_000));
        t.audio(SERVER, 1, 0, &[0x2F; 600_000]);
        ping(t, SERVER, 7);
    }),
    ("less than a window and a read", |t| {
        t.playing().message(SERVER, &Message::WindowAckSize(200_000));
        t.audio(SERVER, 1, 0, &[0x2F; 1_200_000]);
        ping(t, SERVER, 7);
    }),
    ("a window, and nothing shows that it was read", |t| {
        t.playing().message(SERVER, &Message::WindowAckSize(20_000));
        t.audio(SERVER, 1, 0, &[0x2F; 3_000_000]);
    }),
    ("a window of 0", |t| {
        t.playing().message(SERVER, &Message::WindowAckSize(0)).audio(SERVER, 1, 0, &[0x2F; 1_200_000]);
        ping(t, SERVER, 7);
    }),
    ("the count begins anew near its end", |t| {
        t.connected();
        t.seq[SERVER] += 1;
        t.unseen(|t| t.bytes(SERVER, &[0])).message(CLIENT, &Message::Acknowledgement(0xF000_0001));
        t.message(CLIENT, &Message::Acknowledgement(5));
    }),
    ("a bandwidth that is dynamic, or announced already", |t| {
        t.connected().message(SERVER, &Message::SetPeerBandwidth { size: 9, limit: 2 });
        t.message(CLIENT, &Message::WindowAckSize(8));
        t.message(SERVER, &Message::SetPeerBandwidth { size: 8, limit: 0 }).create(2.0);
        t.create_result(2.0, 1.0).publish(1).status(1, PUBLISHED).wait_s(11).audio(CLIENT, 1, 0, MP3);
    }),
    ("a bandwidth that is answered", |t| {
        t.connected().message(SERVER, &Message::SetPeerBandwidth { size: 9, limit: 0 }).create(2.0);
        t.create_result(2.0, 1.0).publish(1).status(1, PUBLISHED).wait_s(9).audio(CLIENT, 1, 0, MP3);
        t.message(CLIENT, &Message::WindowAckSize(9));
    }),
    ("a bandwidth that was not read for certain", |t| {
        t.publishing().message(SERVER, &Message::SetPeerBandwidth { size: 9, limit: 0 }).wait_s(11);
        t.audio(CLIENT, 1, 0, MP3);
    }),
    ("a ping that may still be answered", |t| {
        t.publishing().message(SERVER, &Message::UserControl(UserControl::PingRequest(77)));
        t.wait_s(9).audio(CLIENT, 1, 0, MP3);
    }),
    ("an answer to no ping", |t| {
        t.publishing().message(CLIENT, &Message::UserControl(UserControl::PingResponse(78)));
    }),
    ("the largest chunk size", |t| _ = t.publishing().message(CLIENT, &Message::SetChunkSize(0x7FFF_FFFF))),
];

#[test]
fn what_is_right_has_no_note() {
    let mut wrong = Vec::new();
    for (what, talk) in CLEAN {
        let mut t = Talk::new();
        talk(&mut t);
        let got = t.close().notes();
        if !got.is_empty() {
            wrong.push(format!("{what}: {got}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Sessions that would have a note if all bytes were there.
const SILENT: &[Row] = &[
    ("the connect result is missing", |t| {
        t.connect(1.0).unseen(|t| _ = t.connect_result(1.0)).create(2.0).create_result(2.0, 1.0);
    }),
    ("createStream's result is missing", |t| {
        t.connected().create(2.0).unseen(|t| _ = t.create_result(2.0, 1.0)).publish(1).status(1, PUBLISHED);
    }),
    ("Publish.Start is missing", |t| {
        t.created().publish(1).unseen(|t| _ = t.status(1, PUBLISHED)).audio(CLIENT, 1, 0, MP3);
        t.status(1, "NetStream.Publish.Other");
    }),
    ("the call is missing", |t| {
        t.connected().unseen(|t| _ = t.create(2.0)).create_result(2.0, 1.0).publish(1).status(1, PUBLISHED);
    }),
    ("play is missing", |t| {
        t.created().unseen(|t| _ = t.play(1)).status(1, PLAYED).audio(SERVER, 1, 0, MP3);
        t.message(CLIENT, &Message::Acknowledgement(9));
    }),
    ("deleteStream is missing", |t| {
        t.created().unseen(|t| _ = t.command(CLIENT, 0, "deleteStream", 0.0, vec![1.0.into()]));
        t.create(3.0).create_result(3.0, 1.0);
    }),
    ("what was acknowledged is missing", |t| {
        t.playing().unseen(|t| _ = t.audio(SERVER, 1, 0, &[0x2F; 90_000]));
        t.message(CLIENT, &Message::Acknowledgement(90_000)).audio(SERVER, 1, 0, MP3);
    }),
    ("an acknowledgement is missing", |t| {
        t.playing().message(SERVER, &Message::WindowAckSize(20_000)).audio(SERVER, 1, 0, &[0x2F; 1_200_000]);
        t.unseen(|t| _ = t.message(CLIENT, &Message::Acknowledgement(1_200_000)));
        ping(t, SERVER, 7);
    }),
    ("the answer to a ping is missing", |t| {
        t.publishing().message(SERVER, &Message::UserControl(UserControl::PingRequest(77)));
        t.unseen(|t| _ = t.message(CLIENT, &Message::UserControl(UserControl::PingResponse(77))));
        t.wait_s(11).audio(CLIENT, 1, 0, MP3);
    }),
    ("a command that does not decode may be the call", |t| {
        let broken = Message::Unknown { type_id: 20, payload: Bytes::from_static(b"\x05") };
        t.connected().message(CLIENT, &broken).create_result(9.0, 1.0).audio(SERVER, 1, 0, MP3);
        t.message(CLIENT, &Message::Acknowledgement(9));
    }),
];

#[test]
fn what_may_stand_in_a_hole_is_not_missed() {
    let mut wrong = Vec::new();
    for (what, talk) in SILENT {
        let mut t = Talk::new();
        talk(&mut t);
        let got = t.close().notes();
        if !got.is_empty() && got != "c2s payload 20" {
            wrong.push(format!("{what}: {got}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Direction and name of each note that cites a clause.
fn names(found: &Inspect) -> Vec<(String, String)> {
    let all = found.sessions.iter().flat_map(|s| &s.notes).filter(|n| n.clause.is_some());
    all.map(|n| (n.direction.to_string(), n.note.to_string())).collect()
}

#[test]
fn a_capture_that_lacks_packets_has_no_note_that_the_whole_has_not() {
    let mut wrong = Vec::new();
    let mut read = 0;
    for (what, talk) in RULES.iter().chain(CLEAN).chain(UNCERTAIN) {
        let mut t = Talk::new();
        talk(&mut t);
        t.close();
        let (whole, known) = (t.packets.clone(), names(&t.read()));
        let mut check = |how: String, packets: Vec<(u64, Packet)>| {
            t.packets = packets;
            read += 1;
            let more: Vec<_> = names(&t.read()).into_iter().filter(|n| !known.contains(n)).collect();
            if !more.is_empty() {
                wrong.push(format!("{what}: {how}: {more:?}"));
            }
        };
        // Of what a large message is sent in, the first packets and the last ones are enough.
        let places = (0..whole.len()).filter(|i| *i < 30 || whole.len() - i < 15);
        for i in places {
            check(format!("without packet {i}"), [&whole[..i], &whole[i + 1..]].concat());
            check(format!("up to packet {i}"), whole[..=i].to_vec());
            check(format!("from packet {i} on"), whole[i..].to_vec());
            let late = whole.iter().filter(|(_, p)| p.side == SERVER).skip(i).cloned();
            let other = whole.iter().filter(|(_, p)| p.side == CLIENT).cloned();
            let mut half: Vec<_> = other.chain(late).collect();
            half.sort_by_key(|(time, _)| *time);
            check(format!("without the server's first {i}"), half);
        }
    }
    assert!(wrong.is_empty(), "{} of {read}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(read > 3000, "{read}");
}

/// Sessions of [`RULES`] whose note needs the other direction.
fn of_both() -> impl Iterator<Item = &'static Row> {
    let alone = [
        "connect-id",
        "connect-place",
        "create-place",
        "stream-command",
        "publish-type",
        "time-back",
        "-frame-first",
    ];
    let alone = alone.into_iter().chain(["status-id", "status-object", "status-info", "status-level"]);
    let alone: Vec<_> = alone
        .chain([
            "ack-backward",
            "bandwidth-limit",
            "message-type",
            "user-control",
            "payload",
            "answer-place",
            "amf3-unasked",
        ])
        .collect();
    RULES.iter().filter(move |(want, _)| {
        !alone.iter().any(|name| want.contains(name)) && *want != "c2s media-early 2"
    })
}

#[test]
fn one_direction_alone_has_no_note_that_needs_the_other() {
    let mut wrong = Vec::new();
    for (want, talk) in of_both() {
        let mut t = Talk::new();
        talk(&mut t);
        t.close();
        let side = usize::from(want.starts_with("s2c"));
        let all = std::mem::take(&mut t.packets);
        t.packets = all
            .into_iter()
            .filter(|(_, p)| {
                p.side == side
                    || side == 1 && p.flags & SYN != 0
                    || side == 1 && p.payload.len() > 1000 && p.seq < 3000
            })
            .collect();
        let got = t.read().sessions.first().map(notes).unwrap_or_default();
        if !got.is_empty() {
            wrong.push(format!("{want}: {got}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn directions_out_of_order_have_no_note_that_needs_both() {
    let mut wrong = Vec::new();
    for (want, talk) in of_both() {
        // The clock of one direction is late: TCP acknowledges what stands behind it in the file.
        for (side, late) in [(CLIENT, 15_000), (SERVER, 15_000), (CLIENT, 5_000_000), (SERVER, 5_000_000)] {
            let mut t = Talk::new();
            talk(&mut t);
            t.close();
            t.packets.iter_mut().filter(|(_, p)| p.side == side).for_each(|(time, _)| *time += late);
            t.packets.sort_by_key(|(time, _)| *time);
            let got = t.notes();
            if !got.is_empty() {
                wrong.push(format!("{want}: {side} by {late}: {got}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(of_both().count() > 20);
}

#[test]
fn an_answer_before_its_call_shows_that_the_directions_are_out_of_order() {
    let mut t = Talk::new();
    t.connected()
        .create_result(2.0, 1.0)
        .create(2.0)
        .publish(1)
        .audio(CLIENT, 1, 0, MP3)
        .status(1, PUBLISHED);
    assert_eq!(t.close().notes(), "");
}

/// Sessions whose note is not certain, since it happened at once or the capture ends before more came.
const UNCERTAIN: &[Row] = &[
    ("createStream right before the answer to connect", |t| {
        t.message(SERVER, &Message::WindowAckSize(2_500_000)).step = 400;
        t.connect(1.0).create(2.0).connect_result(1.0).create_result(2.0, 1.0).close();
    }),
    ("media right before Publish.Start", |t| {
        t.created().publish(1).step = 400;
        t.audio(CLIENT, 1, 0, MP3).status(1, PUBLISHED).audio(CLIENT, 1, 9, MP3).close();
    }),
    ("media, and the answer to publish did not come yet", |t| {
        t.created().publish(1).audio(CLIENT, 1, 0, MP3);
    }),
    ("createStream, and the answer to connect did not come yet", |t| {
        t.message(SERVER, &Message::WindowAckSize(2_500_000)).connect(1.0).create(2.0);
    }),
    ("media, and the play did not come yet", |t| _ = t.created().audio(SERVER, 1, 0, MP3)),
];

#[test]
fn what_is_not_certain_is_not_said() {
    let mut wrong = Vec::new();
    for (what, talk) in UNCERTAIN {
        let mut t = Talk::new();
        talk(&mut t);
        let got = t.notes();
        if !got.is_empty() {
            wrong.push(format!("{what}: {got}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// More than is kept of a session: what is beyond has no note, and nothing is said that would need it.
const LIMITS: &[Row] = &[
    ("c2s media-early 2 x15", |t| {
        t.publishing();
        (2..40).for_each(|msid| _ = t.audio(CLIENT, msid, 0, MP3));
    }),
    ("", |t| {
        t.connected();
        (10..80).for_each(|id| _ = t.command(CLIENT, 0, "call", f64::from(id), vec![]));
        t.command(SERVER, 0, "_result", 999.0, vec![]);
    }),
    ("s2c answer-unknown 100 x16", |t| {
        t.connected();
        (100..130).for_each(|id| _ = t.command(SERVER, 0, "_result", f64::from(id), vec![]));
        t.create(2.0).create_result(2.0, 1.0);
    }),
    ("c2s ping-unanswered 0 x16", |t| {
        t.publishing();
        (0..30).for_each(|n| _ = t.message(SERVER, &Message::UserControl(UserControl::PingRequest(n))));
        t.message(CLIENT, &Message::UserControl(UserControl::PingResponse(25)));
        t.wait_s(11).audio(CLIENT, 1, 0, MP3);
    }),
];

#[test]
fn what_is_kept_of_a_session_has_limits() {
    for (want, talk) in LIMITS {
        let mut t = Talk::new();
        talk(&mut t);
        assert_eq!(t.close().notes(), *want);
    }
}

#[test]
fn what_overran_every_buffer_was_read() {
    let mut t = Talk::new();
    t.playing().message(SERVER, &Message::WindowAckSize(20_000));
    for _ in 0..7 {
        t.audio(SERVER, 1, 0, &[0x2F; 3_000_000]);
    }
    t.message(CLIENT, &Message::SetChunkSize(4096));
    assert!(t.notes().starts_with("c2s ack-missing 1"), "{}", t.notes());
}

#[test]
fn a_handshake_out_of_order_has_its_note_where_the_directions_are_in_order() {
    let mut t = Talk::shaken(&[CLIENT, CLIENT, SERVER]);
    assert_eq!(t.connected().close().notes(), "c2s c2-early 20000");
    // The client acknowledges what comes later in the file.
    t.packets.iter_mut().filter(|(_, p)| p.side == CLIENT).for_each(|(_, p)| p.ack += 1);
    assert_eq!(t.notes(), "");
}

#[test]
fn notes_say_where_and_when() {
    let mut t = Talk::new();
    t.publishing().command(CLIENT, 1, "deleteStream", 3.0, vec![1.0.into()]).close();
    let found = t.read();
    let [note] = &found.sessions[0].notes[..] else { panic!("{:?}", found.sessions[0].notes) };
    // Behind the handshake stand connect, createStream and publish; sixteen packets came before.
    let offset = 3073 + (12 + 35) + (8 + 25) + (12 + 33);
    assert_eq!(
        (note.offset, note.time_us, note.clause.as_deref()),
        (offset, Some(160_000), Some("rtmp/7.2.2/11"))
    );
}

#[test]
fn each_note_cites_a_row() {
    for kind in NoteKind::ALL {
        for clause in [kind.clause(), kind.client_clause()] {
            assert!(Clauses::built_in().get(clause).is_some(), "{}: no row {clause}", kind.name());
        }
        // Of two rows each is about its own side.
        if kind.clause() != kind.client_clause()
            && *kind != NoteKind::UserControlEvent
            && *kind != NoteKind::PingUnanswered
            && *kind != NoteKind::PingDiffers
        {
            let role = |clause| Clauses::built_in().get(clause).map(|row| row.role.as_str());
            assert_eq!(
                (role(kind.clause()), role(kind.client_clause())),
                (Some("server"), Some("client")),
                "{}",
                kind.name()
            );
        }
    }
}

#[test]
fn captures_have_the_notes_that_were_read_against_their_bytes() {
    let elsewhere = std::env::var_os("RTMP_BENCH_CAPTURES").map(std::path::PathBuf::from);
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures");
    let pinned = std::fs::read_to_string(shipped.join("notes.tsv")).expect("captures/notes.tsv");
    let mut files: Vec<&str> = pinned.lines().skip(1).filter_map(|line| line.split('\t').next()).collect();
    files.dedup();
    for entry in std::fs::read_dir(&shipped).expect("captures/") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        let other = ["README.md", "TRUTH.json", "notes.tsv"].contains(&&name[..]);
        assert!(other || files.contains(&&name[..]), "{name} has no line in notes.tsv");
    }
    let (mut checked, mut text) =
        (0, String::from("file\tstream\tdirection\tnote\tclause\toffset\tvalue\tcount\n"));
    for file in files {
        let folders = [Some(&shipped), elsewhere.as_ref()].into_iter().flatten();
        let found = folders.map(|folder| folder.join(file)).find(|path| path.exists());
        let want: String =
            pinned.lines().filter(|l| l.split('\t').next() == Some(file)).map(|l| format!("{l}\n")).collect();
        let Some(path) = found else {
            text += &want;
            continue;
        };
        let got = table(file, &capture::read(&path, true, &mut ()).expect("a capture"));
        text += &got;
        checked += 1;
        if std::env::var_os("BLESS").is_none() {
            assert_eq!(got, want, "read them against the bytes, then run with BLESS=1");
        }
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(shipped.join("notes.tsv"), text).expect("written");
    }
    assert!(checked >= 22, "{checked} captures");
}

/// A line a note; of a capture without notes one line says so.
fn table(file: &str, found: &Inspect) -> String {
    let mut lines = String::new();
    for s in &found.sessions {
        for n in &s.notes {
            let clause = n.clause.as_deref().unwrap_or("-");
            lines += &format!(
                "{file}\t{}\t{}\t{}\t{clause}\t{}\t{}\t{}\n",
                s.stream, n.direction, n.note, n.offset, n.value, n.count
            );
        }
    }
    if lines.is_empty() { format!("{file}\t-\t-\tnone\t-\t-\t-\t-\n") } else { lines }
}
