//! Sessions that have no note: as they should be, with a hole where it would be shown, or not certain.

use bytes::Bytes;
use rtmp_bench::wire::message::{Message, UserControl};

use crate::talk::{CLIENT, MP3, PLAYED, PUBLISHED, Row, SERVER, ping};

/// Sessions as they should be, or with what the text is silent about.
pub const CLEAN: &[Row] = &[
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

/// Sessions that would have a note if all bytes were there.
pub const SILENT: &[Row] = &[
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

/// Sessions whose note is not certain, since it happened at once or the capture ends before more came.
pub const UNCERTAIN: &[Row] = &[
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
