//! The reference server over in-memory pipes, in simulated time.

use std::time::Duration;

use bytes::Bytes;
use rtmp_bench::net::conn::{Conn, Dial, Direction, How, Origin, Seen};
use rtmp_bench::net::peer::{AnyFault, HANDSHAKE_TIME, Missing, Options, Peer, Taken, fault_names};
use rtmp_bench::wire::amf0::Value;
use rtmp_bench::wire::message::{Message, SubMessage, UserControl, type_id};
use rtmp_bench::wire::session::{Config, Fields, Goal, Session};
use rtmp_bench::wire::time::Time;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// Long enough for anything, in simulated time.
const LONG: Duration = Duration::from_secs(30);

struct Net {
    peer: Peer,
    origin: Origin,
}

impl Net {
    fn new(options: Options) -> Net {
        Net { peer: Peer::new(options), origin: Origin::default() }
    }

    async fn open(&self, name: &str) -> Conn {
        let io = self.peer.dial().await.expect("the server accepts");
        Conn::start(io, Config { name: name.into(), ..Config::default() }, self.origin.clone())
    }

    async fn reach(&self, name: &str, goal: Goal) -> Conn {
        let conn = self.open(name).await;
        conn.pursue(goal);
        self.until(|| conn.reached() == goal).await;
        conn
    }

    /// Waits until something holds.
    async fn until(&self, holds: impl Fn() -> bool) {
        let wait = async {
            loop {
                let arrival = self.origin.arrival();
                if holds() {
                    return;
                }
                arrival.await;
            }
        };
        timeout(LONG, wait).await.expect("it holds in the end");
    }
}

/// What a connection received, in words.
fn words(conn: &Conn) -> Vec<String> {
    conn.log(|log| {
        let received = log.iter().filter(|entry| entry.direction == Direction::Received);
        received.filter_map(|entry| word(&entry.seen)).collect()
    })
}

fn word(seen: &Seen) -> Option<String> {
    match seen {
        Seen::Message(header, payload) => Some(match Message::decode(header.type_id, payload) {
            Ok(Message::Command(command)) => {
                let code = command.args.get(1).and_then(|info| info.get("code")).and_then(Value::as_text);
                format!("{}{}", command.name, code.map(|code| format!(" {code}")).unwrap_or_default())
            }
            Ok(Message::Data(_, values)) => format!("data {}", values[0].as_text().unwrap()),
            Ok(Message::Audio(payload)) => format!("audio {} {}", header.timestamp, payload.escape_ascii()),
            Ok(Message::Video(payload)) => {
                format!("video {} {}", header.timestamp, payload[..2].escape_ascii())
            }
            Ok(Message::UserControl(event)) => format!("{event:?}"),
            Ok(message) => format!("{message:?}"),
            Err(error) => error.to_string(),
        }),
        Seen::Closed(how) => Some(format!("closed {how:?}")),
        Seen::Broken(error) => Some(error.to_string()),
        _ => None,
    }
}

/// What came behind the confirmation of the goal.
fn media(conn: &Conn) -> Vec<String> {
    let media = |word: &String| ["audio", "video", "data on"].iter().any(|kind| word.starts_with(kind));
    words(conn).into_iter().filter(media).collect()
}

async fn send(conn: &Conn, message: Message, timestamp: u32) {
    let bytes = conn.encode(&message, Fields { timestamp: Some(timestamp), ..Fields::default() });
    conn.write(bytes).await;
}

fn audio(text: &str) -> Message {
    Message::Audio(Bytes::copy_from_slice(text.as_bytes()))
}

fn video(kind: u8, packet: u8, len: usize) -> Message {
    Message::Video([&[kind, packet, 0, 0, 0][..], &vec![7; len]].concat().into())
}

fn simulated(work: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(work);
}

#[test]
fn connect_publish_and_play_are_answered_in_the_order_of_the_text() {
    simulated(async {
        let net = Net::new(Options::default());
        let publisher = net.reach("a", Goal::Publishing).await;
        let connect = [
            "WindowAckSize(2500000)",
            "SetPeerBandwidth { size: 2500000, limit: 2 }",
            "SetChunkSize(4096)",
            "StreamBegin(0)",
            "_result NetConnection.Connect.Success",
            "_result",
        ];
        let publish = ["StreamBegin(1)", "onStatus NetStream.Publish.Start"];
        assert_eq!(words(&publisher), [&connect[..], &publish[..]].concat());
        let player = net.reach("a", Goal::Playing).await;
        net.until(|| words(&player).len() == 10).await;
        let play = [
            "StreamBegin(1)",
            "onStatus NetStream.Play.Reset",
            "onStatus NetStream.Play.Start",
            "data |RtmpSampleAccess",
        ];
        assert_eq!(words(&player), [&connect[..], &play[..]].concat());
    });
}

#[test]
fn media_comes_through_as_it_was_sent() {
    simulated(async {
        let net = Net::new(Options::default());
        let player = net.reach("a", Goal::Playing).await;
        let publisher = net.reach("a", Goal::Publishing).await;
        for (text, time) in [("x", 0), ("y", 4_000_000_000), ("z", 3_999_999_980), ("", 10), ("w", u32::MAX)]
        {
            send(&publisher, audio(text), time).await;
        }
        net.until(|| media(&player).len() == 5).await;
        let expected =
            ["audio 0 x", "audio 4000000000 y", "audio 3999999980 z", "audio 10 ", "audio 4294967295 w"];
        assert_eq!(media(&player), expected);
        publisher.close();
        net.until(|| words(&player).contains(&"onStatus NetStream.Play.UnpublishNotify".into())).await;
        let ends: Vec<String> = words(&player).split_off(words(&player).len() - 2);
        assert_eq!(ends, ["StreamEof(1)", "onStatus NetStream.Play.UnpublishNotify"]);
        // The name is free, and the player hears of the next one.
        let publisher = net.reach("a", Goal::Publishing).await;
        send(&publisher, audio("again"), 0).await;
        net.until(|| media(&player).len() == 6).await;
        let begins: Vec<String> = words(&player).split_off(words(&player).len() - 3);
        assert_eq!(begins, ["StreamBegin(1)", "onStatus NetStream.Play.PublishNotify", "audio 0 again"]);
    });
}

#[test]
fn a_late_player_gets_metadata_headers_and_the_group_of_pictures() {
    simulated(async {
        let net = Net::new(Options::default());
        let early = net.reach("a", Goal::Playing).await;
        let publisher = net.reach("a", Goal::Publishing).await;
        let metadata = vec!["@setDataFrame".into(), "onMetaData".into(), Value::Object(vec![])];
        send(&publisher, Message::Data(Default::default(), metadata), 0).await;
        for (message, time) in [
            (video(0x17, 0, 9), 0),
            (Message::Audio(Bytes::from_static(b"\xaf\x00\x11")), 0),
            (video(0x17, 1, 9), 10),
            (video(0x27, 1, 9), 20),
            (video(0x17, 1, 9), 30),
            (video(0x27, 1, 9), 40),
        ] {
            send(&publisher, message, time).await;
        }
        net.until(|| media(&early).len() == 7).await;
        let late = net.reach("a", Goal::Playing).await;
        net.until(|| media(&late).len() == 5).await;
        let expected = [
            "data onMetaData",
            "video 30 \\x17\\x00",
            "audio 30 \\xaf\\x00\\x11",
            "video 30 \\x17\\x01",
            "video 40 \\'\\x01",
        ];
        assert_eq!(media(&late), expected);
        // receiveVideo false, then true: video begins with a key frame.
        let receive = |on| Message::command("receiveVideo", 0.0, vec![Value::Null, Value::Boolean(on)]);
        send(&late, receive(false), 0).await;
        send(&late, Message::UserControl(UserControl::PingRequest(1)), 0).await;
        net.until(|| words(&late).contains(&"PingResponse(1)".into())).await;
        send(&publisher, video(0x27, 1, 9), 50).await;
        send(&publisher, Message::Audio(Bytes::from_static(b"\xaf\x01")), 50).await;
        net.until(|| media(&late).len() == 6).await;
        send(&late, receive(true), 0).await;
        net.until(|| words(&late).iter().filter(|w| w.ends_with("NetStream.Play.Start")).count() == 2).await;
        for (kind, time) in [(0x27, 60), (0x17, 70), (0x27, 80)] {
            send(&publisher, video(kind, 1, 9), time).await;
        }
        net.until(|| media(&late).last().is_some_and(|last| last.starts_with("video 80"))).await;
        assert_eq!(media(&late)[5], "audio 50 \\xaf\\x01");
        let resumed: Vec<String> = media(&late).split_off(media(&late).len() - 2);
        assert_eq!(resumed, ["video 70 \\x17\\x01", "video 80 \\'\\x01"]);
        assert!(!media(&late).iter().any(|word| word.starts_with("video 60")));
    });
}

#[test]
fn aggregates_are_taken_apart() {
    simulated(async {
        let net = Net::new(Options::default());
        let player = net.reach("a", Goal::Playing).await;
        let publisher = net.reach("a", Goal::Publishing).await;
        let part = |time, text: &'static str| {
            SubMessage::new(type_id::AUDIO, time, Bytes::from_static(text.as_bytes()))
        };
        let nested = SubMessage::new(type_id::AGGREGATE, 0, Bytes::from_static(b"nothing"));
        send(&publisher, Message::Aggregate(vec![part(100, "p"), nested, part(120, "q")]), 7000).await;
        net.until(|| media(&player).len() == 2).await;
        assert_eq!(media(&player), ["audio 7000 p", "audio 7020 q"]);
    });
}

#[test]
fn taken_and_missing_names() {
    simulated(async {
        let net = Net::new(Options::default());
        let first = net.reach("a", Goal::Publishing).await;
        let second = net.open("a").await;
        second.pursue(Goal::Publishing);
        net.until(|| words(&second).contains(&"onStatus NetStream.Publish.BadName".into())).await;
        assert_eq!(second.reached(), Goal::Created);
        // Media behind a refusal is not taken for ever.
        send(&second, audio("mine"), 0).await;
        net.until(|| words(&second).contains(&"closed Fin".into())).await;
        assert!(!words(&first).iter().any(|word| word.starts_with("closed")));

        let net =
            Net::new(Options { taken: Taken::Takeover, missing: Missing::Refuse, ..Options::default() });
        let first = net.reach("a", Goal::Publishing).await;
        let player = net.reach("a", Goal::Playing).await;
        let second = net.reach("a", Goal::Publishing).await;
        net.until(|| words(&first).contains(&"onStatus NetStream.Unpublish.Success".into())).await;
        send(&first, audio("old"), 0).await;
        send(&second, audio("new"), 0).await;
        net.until(|| !media(&player).is_empty()).await;
        assert_eq!(media(&player), ["audio 0 new"]);
        let missing = net.open("b").await;
        missing.pursue(Goal::Playing);
        net.until(|| words(&missing).contains(&"onStatus NetStream.Play.StreamNotFound".into())).await;
    });
}

#[test]
fn unknown_calls_are_answered_with_their_id_and_none_without() {
    simulated(async {
        let net = Net::new(Options::default());
        let conn = net.reach("a", Goal::Connected).await;
        send(&conn, Message::command("noSuchMethod", 0.0, vec![Value::Null]), 0).await;
        send(&conn, Message::command("noSuchMethod", 9.0, vec![Value::Null]), 0).await;
        send(&conn, Message::UserControl(UserControl::PingRequest(5)), 0).await;
        net.until(|| words(&conn).last().is_some_and(|word| word == "PingResponse(5)")).await;
        let errors = words(&conn).iter().filter(|word| *word == "_error NetConnection.Call.Failed").count();
        assert_eq!(errors, 1);
    });
}

#[test]
fn the_handshake_has_a_total_deadline() {
    simulated(async {
        let net = Net::new(Options::default());
        let conn = net.open("a").await;
        let began = net.origin.now();
        for _ in 0..40 {
            conn.write(Bytes::from_static(&[3])).await;
            tokio::time::sleep(HANDSHAKE_TIME / 20).await;
        }
        let closed = conn.log(|log| log.iter().find(|e| e.seen == Seen::Closed(How::Fin)).map(|e| e.at));
        let after = closed.expect("it is closed").since(began);
        assert!((HANDSHAKE_TIME..HANDSHAKE_TIME + Duration::from_secs(1)).contains(&after), "{after:?}");
    });
}

#[test]
fn a_player_that_does_not_read_costs_a_bounded_queue_and_nobody_else_anything() {
    simulated(async {
        // Each has an origin of its own; what the logs of a run keep is bounded.
        let net = Net::new(Options::default());
        let beside = || Net { peer: net.peer.clone(), origin: Origin::default() };
        let (slows, goods) = (beside(), beside());
        let slow = slows.reach("a", Goal::Playing).await;
        let good = goods.reach("a", Goal::Playing).await;
        slow.read_on(false);
        let publisher = net.reach("a", Goal::Publishing).await;
        for i in 0..290u32 {
            let kind = if i % 10 == 0 { 0x17 } else { 0x27 };
            send(&publisher, video(kind, 1, 100_000), i * 40).await;
            goods.until(|| good.received() > u64::from(i + 1) * 100_000).await;
        }
        slow.read_on(true);
        slows.until(|| media(&slow).last().is_some_and(|last| last.starts_with("video 11560"))).await;
        let got: Vec<u32> =
            media(&slow).iter().map(|word| word.split(' ').nth(1).unwrap().parse().unwrap()).collect();
        assert!(got.len() < 100, "old frames were dropped: {}", got.len());
        let gaps: Vec<u32> =
            got.windows(2).filter(|pair| pair[1] != pair[0] + 40).map(|pair| pair[1]).collect();
        assert!(!gaps.is_empty() && gaps.iter().all(|time| time % 400 == 0), "at key frames alone: {gaps:?}");
    });
}

#[test]
fn a_player_that_never_reads_is_let_go() {
    simulated(async {
        let net = Net::new(Options::default());
        let slow = net.reach("a", Goal::Playing).await;
        slow.read_on(false);
        // What is sent is more than a log keeps: this publisher has none.
        let mut io = net.peer.dial().await.unwrap();
        let mut session = Session::client(Config { name: "a".into(), ..Config::default() });
        session.pursue(Time::ZERO, Goal::Publishing);
        let mut buffer = vec![0; 4096];
        while session.reached() < Goal::Publishing {
            io.write_all(&session.output()).await.unwrap();
            let n = io.read(&mut buffer).await.unwrap();
            let mut bytes = &buffer[..n];
            while !bytes.is_empty() {
                let mut rest = bytes;
                assert!(session.read(Time::ZERO, &mut rest).is_ok());
                bytes = &bytes[bytes.len() - rest.len()..];
            }
        }
        assert_eq!(net.peer.sessions(), 2);
        let mut sent = 0;
        while sent < 4000 && net.peer.sessions() == 2 {
            session
                .send(&video(0x17, 1, 100_000), Fields { timestamp: Some(sent * 40), ..Fields::default() });
            io.write_all(&session.output()).await.unwrap();
            sent += 1;
        }
        tokio::time::sleep(LONG).await;
        assert_eq!(net.peer.sessions(), 1, "after {sent} frames");
    });
}

#[test]
fn a_hard_limit_bounds_what_is_unacknowledged() {
    simulated(async {
        let net = Net::new(Options::default());
        let io = net.peer.dial().await.unwrap();
        let config = Config { name: "a".into(), acks: false, ..Config::default() };
        let player = Conn::start(io, config, net.origin.clone());
        player.pursue(Goal::Playing);
        net.until(|| player.reached() == Goal::Playing).await;
        send(&player, Message::SetPeerBandwidth { size: 50_000, limit: 0 }, 0).await;
        net.until(|| words(&player).contains(&"WindowAckSize(50000)".into())).await;
        let publisher = net.reach("a", Goal::Publishing).await;
        for i in 0..200 {
            send(&publisher, audio(&"x".repeat(1000)), i * 20).await;
        }
        tokio::time::sleep(LONG).await;
        let stopped = player.received();
        assert!((50_000..50_000 + 65_536 + 5000).contains(&stopped), "{stopped}");
        send(&player, Message::Acknowledgement(stopped as u32), 0).await;
        tokio::time::sleep(LONG).await;
        assert!(player.received() > stopped + 40_000);
    });
}

#[test]
fn every_fault_is_survived_by_a_client_that_takes_its_time() {
    for name in fault_names() {
        simulated(async {
            let mut options = Options::default();
            options.add(name.parse::<AnyFault>().unwrap());
            let net = Net::new(options);
            for goal in [Goal::Publishing, Goal::Playing] {
                let conn = net.open("a").await;
                conn.pursue(goal);
                tokio::time::sleep(LONG).await;
                send(&conn, audio("x"), 0).await;
                conn.close();
            }
        });
    }
}
