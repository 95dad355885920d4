//! A session as its user drives it: bytes and time in, events and bytes out.

use rtmp_bench::wire::amf0::Value;
use rtmp_bench::wire::handshake::{Block, Schema, Signer};
use rtmp_bench::wire::message::{Message, UserControl};
use rtmp_bench::wire::session::{
    Config, Error, Event, Fields, Goal, HANDSHAKE_LEN, Refusal, Session, connect_payload,
};
use rtmp_bench::wire::time::Time;

const NOW: Time = Time::from_micros(5_000_000);

/// What a session says of what it read, in words.
fn read(session: &mut Session, mut bytes: &[u8], piece: usize) -> Vec<String> {
    let mut events = Vec::new();
    loop {
        let (now, rest) = bytes.split_at(bytes.len().min(piece));
        let mut at = 0;
        loop {
            let mut left = &now[at..];
            let event = match session.read(NOW, &mut left) {
                Ok(None) => break,
                Ok(Some(event)) => words(&event),
                Err(error) => {
                    events.push(error.to_string());
                    return events;
                }
            };
            at = now.len() - left.len();
            events.extend(event);
        }
        bytes = rest;
        if bytes.is_empty() {
            return events;
        }
    }
}

fn words(event: &Event<'_>) -> Option<String> {
    match event {
        Event::Version(n) => Some(format!("version {n}")),
        Event::Reached(goal) => Some(format!("reached {goal:?}")),
        Event::Refused(refusal) => Some(format!("refused {refusal:?}")),
        Event::Message(header, payload) => Some(match Message::decode(header.type_id, payload) {
            Ok(Message::Command(command)) => command.name.to_string(),
            Ok(message) => format!("{message:?}"),
            Err(error) => error.to_string(),
        }),
        _ => None,
    }
}

/// Lets two sessions talk, `piece` bytes at a time, until neither has anything to say.
fn talk(a: &mut Session, b: &mut Session, piece: usize) -> (Vec<String>, Vec<String>) {
    let (mut heard_a, mut heard_b) = (Vec::new(), Vec::new());
    loop {
        let (to_b, to_a) = (a.output(), b.output());
        if to_a.is_empty() && to_b.is_empty() {
            return (heard_a, heard_b);
        }
        heard_b.extend(read(b, &to_b, piece));
        heard_a.extend(read(a, &to_a, piece));
    }
}

fn answer(name: &str, id: f64, args: Vec<Value>) -> Message {
    Message::command(name, id, args)
}

fn status(level: &str, code: &str) -> Message {
    let info = Value::object([("level", level.into()), ("code", code.into())]);
    answer("onStatus", 0.0, vec![Value::Null, info])
}

/// A client on its way to `goal`, handshake and connect behind it, that asked for a stream and got the id 7.
fn with_stream(goal: Goal) -> (Session, Session) {
    let mut client = Session::client(Config::default());
    let mut server = Session::server(Config::default());
    client.pursue(NOW, goal);
    assert_eq!(talk(&mut client, &mut server, 4096).1, ["version 3", "reached Handshaken", "connect"]);
    server.send(&answer("_result", 1.0, vec![Value::Null, Value::Null]), Fields::default());
    assert_eq!(talk(&mut client, &mut server, 4096).1, ["createStream"]);
    let fields = Fields { csid: Some(6), msid: Some(3), ..Fields::default() };
    server.send(&answer("_result", 2.0, vec![Value::Null, Value::Number(7.0)]), fields);
    let (heard, asked) = talk(&mut client, &mut server, 4096);
    assert_eq!(heard, ["_result", "reached Created"]);
    assert_eq!(asked[0], if goal == Goal::Playing { "play" } else { "publish" });
    assert_eq!(client.msid(), Some(7));
    (client, server)
}

#[test]
fn the_handshake_completes_in_any_pieces_plain_and_signed() {
    for digest in [None, Some(Schema::Zero), Some(Schema::One)] {
        for piece in [1, 2, 1535, 1536, 1537, 3073, 8000] {
            let mut client = Session::client(Config { digest, ..Config::default() });
            let mut server = Session::server(Config { seed: 2, ..Config::default() });
            client.pursue(NOW, Goal::Handshaken);
            let (a, b) = talk(&mut client, &mut server, piece);
            assert_eq!(a, ["version 3", "reached Handshaken"], "{digest:?} {piece}");
            assert_eq!(b, ["version 3", "reached Handshaken"], "{digest:?} {piece}");
            let s1 = client.peer_hello().unwrap();
            assert_eq!(s1.digest(Signer::Server).map(|(schema, _)| schema), digest, "the client's schema");
            assert_eq!(s1.second_word() == 0, digest.is_none());
            assert_eq!((client.received(), server.received()), (HANDSHAKE_LEN, HANDSHAKE_LEN));
        }
    }
}

#[test]
fn a_connect_spelled_ahead_of_time_is_the_same_connect() {
    for goal in [Goal::Playing, Goal::Publishing] {
        let fields = Config {
            app: "app".into(),
            connect_with: vec![("flashVer".into(), "other".into()), ("more".into(), Value::Null)],
            window: Some(1000),
            ..Config::default()
        };
        let connect = Some(connect_payload(&fields, goal));
        let [spelled, ahead] =
            [fields, Config { connect, window: Some(1000), ..Config::default() }].map(|config| {
                let (mut client, mut server) = (Session::client(config), Session::server(Config::default()));
                client.pursue(NOW, goal);
                let mut said = Vec::new();
                for id in 1..=2 {
                    while !client.is_silent() {
                        let bytes = client.output();
                        read(&mut server, &bytes, 4096);
                        said.extend_from_slice(&bytes);
                        read(&mut client, &server.output(), 4096);
                    }
                    server.send(
                        &answer("_result", id.into(), vec![Value::Null, Value::Number(7.0)]),
                        Fields::default(),
                    );
                    read(&mut client, &server.output(), 4096);
                }
                assert_eq!(client.reached(), Goal::Created);
                said.extend_from_slice(&client.output());
                said
            });
        assert!(spelled == ahead, "{goal:?}");
        assert!(spelled.windows(5).any(|five| five == b"other"));
    }
}

#[test]
fn s2_and_c2_answer_c1_and_s1() {
    for digest in [None, Some(Schema::One)] {
        let mut client = Session::client(Config { digest, ..Config::default() });
        let mut server = Session::server(Config { hello_time: 77, ..Config::default() });
        client.pursue(NOW, Goal::Handshaken);
        let hello = client.output();
        assert_eq!(hello[0], 3);
        read(&mut server, &hello, 9000);
        let reply = server.output();
        assert_eq!(reply.len() as u64, HANDSHAKE_LEN);
        let block = |bytes: &[u8]| Block(Box::new(bytes.try_into().unwrap()));
        let (c1, s1, s2) = (block(&hello[1..]), block(&reply[1..1537]), block(&reply[1537..]));
        assert_eq!((s2.time(), s2.second_word()), (c1.time(), 77), "read at once");
        read(&mut client, &reply, 9000);
        let c2 = block(&client.output());
        match digest {
            None => {
                assert_eq!(s2.random(), c1.random());
                assert_eq!((c2.time(), c2.random()), (77, s1.random()));
            }
            Some(_) => {
                let (_, of_c1) = c1.digest(Signer::Client).unwrap();
                let (_, of_s1) = s1.digest(Signer::Server).unwrap();
                assert!(s2.answer_signed(Signer::Server, &of_c1) && c2.answer_signed(Signer::Client, &of_s1));
            }
        }
    }
}

#[test]
fn versions_are_met_as_the_text_says() {
    for c0 in 0..=255u8 {
        let mut server = Session::server(Config::default());
        let c0c1 = [&[c0][..], &[0; 1536]].concat();
        let events = read(&mut server, &c0c1, 9000);
        let sent = server.output();
        match c0 {
            // rtmp 5.2.2: 6, 8 and 9 are RTMPE; 32 and above are not RTMP.
            6 | 8 | 9 | 32.. => {
                assert!(events[1].starts_with(&format!("version byte {c0:#04x}: ")), "{events:?}");
                assert!(sent.is_empty());
                let mut none = &[][..];
                assert!(matches!(server.read(NOW, &mut none), Err(Error::Version(..))), "and stays so");
            }
            _ => assert_eq!((sent[0], sent.len() as u64), (3, HANDSHAKE_LEN), "{c0}"),
        }
    }
}

#[test]
fn what_was_done_by_hand_is_not_done_again() {
    let mut client = Session::client(Config::default());
    let mut server = Session::server(Config::default());
    let by_hand = [&[3][..], &client.hello().0[..]].concat();
    client.sent_handshake(&by_hand[..900]);
    read(&mut server, &by_hand[..900], 9000);
    client.sent_handshake(&by_hand[900..]);
    read(&mut server, &by_hand[900..], 9000);
    assert!(client.output().is_empty());
    talk(&mut client, &mut server, 9000);
    assert!(client.output().is_empty(), "the goal is open: C2 is not sent by itself");
    let connect = client.encode(&Message::command("connect", 5.0, vec![]), Fields::default());
    client.pursue(NOW, Goal::Created);
    assert_eq!(read(&mut server, &client.output(), 9000), ["reached Handshaken"], "C2 and no second connect");
    assert_eq!(read(&mut server, &connect, 9000), ["connect"]);
    server.send(&answer("_result", 5.0, vec![]), Fields::default());
    let (heard, asked) = talk(&mut client, &mut server, 9000);
    assert_eq!(heard, ["reached Handshaken", "_result", "reached Connected"]);
    assert_eq!(asked, ["createStream"]);
}

#[test]
fn answers_count_by_what_they_say() {
    let publishing = Goal::Publishing;
    let start = "NetStream.Publish.Start";
    let refused = |what: Refusal| format!("refused {what:?}");
    let error = |id| answer("_error", id, vec![Value::Null]);
    for (goal, message, msid, outcome) in [
        (publishing, status("status", start), 7, "reached Publishing".to_string()),
        (publishing, status("status", start), 0, "reached Publishing".to_string()),
        (publishing, answer("_result", 3.0, vec![]), 0, "reached Publishing".to_string()),
        (publishing, answer("_result", 9.0, vec![]), 0, String::new()),
        (publishing, error(3.0), 0, refused(Refusal::Publish)),
        (publishing, error(2.0), 0, String::new()),
        (publishing, status("error", "Some.Thing"), 7, refused(Refusal::Publish)),
        (publishing, status("status", "NetStream.Publish.BadName"), 7, refused(Refusal::Publish)),
        (publishing, status("status", "NetStream.Play.Start"), 7, String::new()),
        (Goal::Playing, status("status", "NetStream.Play.Start"), 7, "reached Playing".to_string()),
        (Goal::Playing, status("status", "NetStream.Play.Reset"), 7, String::new()),
        (Goal::Playing, Message::Audio("a".into()), 0, "reached Playing".to_string()),
        (Goal::Playing, Message::Video("v".into()), 1, "reached Playing".to_string()),
        (Goal::Playing, status("status", "NetStream.Play.StreamNotFound"), 7, refused(Refusal::Play)),
        (Goal::Playing, error(3.0), 0, refused(Refusal::Play)),
    ] {
        let (mut client, mut server) = with_stream(goal);
        let fields = Fields { msid: Some(msid), csid: Some(9), ..Fields::default() };
        server.send(&message, fields);
        let (heard, _) = talk(&mut client, &mut server, 50);
        let expected: Vec<&str> = Some(outcome.as_str()).into_iter().filter(|o| !o.is_empty()).collect();
        assert_eq!(heard[1..], expected, "{message:?} on {msid}");
    }
}

#[test]
fn a_refusal_ends_the_pursuit_and_another_may_follow() {
    let mut client = Session::client(Config::default());
    let mut server = Session::server(Config::default());
    client.pursue(NOW, Goal::Connected);
    talk(&mut client, &mut server, 4096);
    server.send(&answer("_error", 1.0, vec![]), Fields::default());
    let (heard, asked) = talk(&mut client, &mut server, 4096);
    assert_eq!(heard, ["_error", "refused Connect"]);
    assert!(asked.is_empty() && client.reached() == Goal::Handshaken);
    client.pursue(NOW, Goal::Connected);
    assert_eq!(talk(&mut client, &mut server, 4096).1, ["connect"]);
}

#[test]
fn another_name_is_another_stream_and_old_statuses_do_not_confirm_it() {
    let (mut client, mut server) = with_stream(Goal::Publishing);
    let on = |msid| Fields { msid: Some(msid), ..Fields::default() };
    server.send(&status("status", "NetStream.Publish.Start"), on(7));
    talk(&mut client, &mut server, 4096);
    client.rename("second".into());
    client.pursue(NOW, Goal::Publishing);
    assert_eq!(talk(&mut client, &mut server, 4096).1, ["createStream"]);
    server.send(&answer("_result", 4.0, vec![Value::Null, Value::Number(8.0)]), on(0));
    assert_eq!(talk(&mut client, &mut server, 4096).1, ["publish"]);
    server.send(&status("status", "NetStream.Publish.Start"), on(7));
    assert_eq!(talk(&mut client, &mut server, 4096).0, ["onStatus"]);
    server.send(&status("status", "NetStream.Publish.Start"), on(8));
    assert_eq!(talk(&mut client, &mut server, 4096).0, ["onStatus", "reached Publishing"]);
}

#[test]
fn acknowledgements_count_all_that_came_and_repeat_by_the_window() {
    let (mut client, mut server) = with_stream(Goal::Publishing);
    client.send(&Message::WindowAckSize(10_000), Fields::default());
    talk(&mut client, &mut server, 9000);
    let mut numbers = Vec::new();
    for _ in 0..40 {
        client.send(&Message::Audio(vec![0xAF; 1000].into()), Fields::default());
        let bytes = client.output();
        read(&mut server, &bytes, 9000);
        let heard = read(&mut client, &server.output(), 9000);
        for word in heard {
            let number = word.strip_prefix("Acknowledgement(").and_then(|w| w.strip_suffix(')')).unwrap();
            assert_eq!(number.parse::<u64>().unwrap(), server.received());
            numbers.push(server.received());
        }
    }
    assert!(
        numbers.len() == 4 && numbers.windows(2).all(|n| (10_000..11_100).contains(&(n[1] - n[0]))),
        "{numbers:?}"
    );
}

#[test]
fn windows_of_nothing_ask_for_nothing() {
    for (window, most) in [(0, 0), (1, 21), (u32::MAX, 0)] {
        let (mut client, mut server) = with_stream(Goal::Publishing);
        client.send(&Message::WindowAckSize(window), Fields::default());
        let mut heard = talk(&mut client, &mut server, 9000).0;
        for _ in 0..20 {
            client.send(&Message::Audio(vec![0xAF; 1000].into()), Fields::default());
            heard.extend(talk(&mut client, &mut server, 9000).0);
        }
        assert!(heard.len() <= most && (most == 0 || !heard.is_empty()), "{window}: {heard:?}");
    }
}

#[test]
fn pings_are_asked_and_answered_and_bandwidth_is() {
    let (mut client, mut server) = with_stream(Goal::Publishing);
    server.config_mut().ping_ms = Some(1000);
    let due = server.deadline().unwrap();
    server.timeout(Time::from_micros(due.as_micros() - 1));
    assert!(server.output().is_empty(), "not yet");
    server.timeout(due);
    let ping = UserControl::PingResponse(due.as_rtmp_millis());
    assert_eq!(talk(&mut client, &mut server, 9000).1, [format!("{:?}", Message::UserControl(ping))]);
    assert!(server.deadline() > Some(due));
    client.config_mut().pongs = false;
    server.send(&Message::UserControl(UserControl::PingRequest(1)), Fields::default());
    assert!(talk(&mut client, &mut server, 9000).1.is_empty());
    // rtmp 5.4.5
    for (size, limit, answers) in
        [(5000, 0, true), (5000, 0, false), (0, 0, false), (6000, 3, false), (7000, 2, true)]
    {
        server.send(&Message::SetPeerBandwidth { size, limit }, Fields::default());
        let heard = talk(&mut client, &mut server, 9000).1;
        assert_eq!(heard == [format!("WindowAckSize({size})")], answers, "{size} {limit}: {heard:?}");
    }
}
