//! Sessions that have notes: one a rule, and those of which more is said than is kept.

use bytes::Bytes;
use rtmp_bench::wire::amf0::Value;
use rtmp_bench::wire::message::{Message, UserControl};

use crate::talk::{CLIENT, MP3, PLAYED, PUBLISHED, Row, SERVER, info, ping};

/// What each session must be noted for, and the session behind both handshakes.
pub const RULES: &[Row] = &[
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

/// More than is kept of a session: what is beyond has no note, and nothing is said that would need it.
pub const LIMITS: &[Row] = &[
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
