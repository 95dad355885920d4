//! Messages as text: what is printed reads back as the same bytes, and no text is too strange to be read.

use proptest::prelude::*;

use rtmp_bench::fuzzing;
use rtmp_bench::notation::{self, eval::Env, expr::TsExpr};
use rtmp_bench::wire::chunk::MessageHeader;
use rtmp_bench::wire::message::Message;

use crate::codec::message;

fn header() -> impl Strategy<Value = MessageHeader> {
    (any::<u32>(), any::<u32>(), any::<u32>(), any::<u8>())
        .prop_map(|(csid, timestamp, msid, type_id)| MessageHeader { csid, timestamp, len: 0, type_id, msid })
}

/// What a text says: the header's fields and the payload.
fn read(text: &str) -> (MessageHeader, Vec<u8>) {
    let (message, fields) =
        notation::parse(text).unwrap_or_else(|error| panic!("{}", error.render("text", text)));
    let mut env = Env::new(1);
    let (type_id, payload) = env.message(&message).expect("bytes");
    let number = |expr: &Option<_>| env.u32(expr.as_ref().expect("printed")).expect("a number");
    let timestamp = match &fields.ts {
        Some(TsExpr::At(n)) => env.u32(n).expect("a number"),
        other => panic!("{other:?}"),
    };
    let (csid, msid) = (number(&fields.csid), number(&fields.msid));
    (MessageHeader { csid, timestamp, len: 0, type_id, msid }, payload)
}

proptest! {
    #[test]
    fn printed_messages_read_back(message in message(), header in header()) {
        let header = MessageHeader { type_id: message.type_id(), ..header };
        let mut payload = Vec::new();
        message.encode(&mut payload);
        let text = notation::print(&message, &header);
        prop_assert_eq!(read(&text), (header, payload.clone()), "{}", text);
        prop_assert_eq!(notation::print_payload(&header, &payload), text);
    }

    #[test]
    fn printed_payloads_read_back(
        header in header(),
        payload in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..60),
            message().prop_map(|message| { let mut bytes = Vec::new(); message.encode(&mut bytes); bytes }),
        ],
    ) {
        let text = notation::print_payload(&header, &payload);
        prop_assert_eq!(read(&text), (header, payload.clone()), "{}", text);
        prop_assert!(notation::brief_payload(&header, &payload).len() < 1000);
    }

    #[test]
    fn any_text_is_read_or_refused(text in strange_text()) {
        fuzzing::scenario_text(text.as_bytes());
    }
}

/// Words of the language in any order, and other text.
fn strange_text() -> impl Strategy<Value = String> {
    let words: Vec<&str> =
        include_str!("../../scenarios/README.md").split_inclusive(char::is_whitespace).collect();
    let words = proptest::collection::vec(proptest::sample::select(words), 0..40);
    prop_oneof![
        words.clone().prop_map(|words| format!("scenario \"x\"\n{}", words.concat())),
        (proptest::sample::select(vec!["f(", "audio ", "data(", "aggregate {"]), words)
            .prop_map(|(head, words)| format!("{head}{}", words.concat())),
        any::<String>(),
    ]
}

#[test]
fn spellings() {
    let rows: &[(u8, &[u8], &str)] = &[
        (1, &[0, 0, 16, 0], "SetChunkSize 4096"),
        (6, &[0, 0, 0, 9, 2], "SetPeerBandwidth 9 dynamic"),
        (6, &[0, 0, 0, 9, 7], "SetPeerBandwidth 9 7"),
        (4, &[0, 3, 0, 0, 0, 1, 0, 0, 11, 184], "SetBufferLength 1 3000"),
        (4, &[0, 26, 7], "UserControl 26 hex \"07\""),
        (4, &[0], "message type=4 hex \"00\""),
        (8, &[0xaf, 1, 2, 3, 4], "audio hex \"af010203 04\""),
        (9, &[], "video hex \"\""),
        (
            18,
            b"\x02\0\x01a\x08\0\0\0\x01\0\x01b\x00\xbf\xe0\0\0\0\0\0\0\0\0\x09",
            "data(\"a\", ecma{b: -0.5})",
        ),
        (20, b"\x02\0\x01f\x00\x3f\xf0\0\0\0\0\0\0\x05", "f(1, null)"),
        (20, b"\x02\0\x04data", "command(\"data\")"),
        (20, b"\x02\0\x02\xff\n\x06", "command(\"\\xff\\n\", undefined)"),
        (20, b"\x02\0\x01f\x05\x02\0\x04{a}*", "f(null, \"\\{a}*\")"),
        (17, b"\0\x02\0\x01f\x05\x11\x04\x05", "amf3 f(null, amf3(5))"),
        (17, b"\0\x02\0\x01f\x05\x11\x0c\x03\x07", "amf3 f(null, amf3(hex \"0c0307\"))"),
        (22, b"\x08\0\0\x01\0\0\x05\0\0\0\0\xaf\0\0\0\x0c", "aggregate { audio hex \"af\" ts=5 msid=0 }"),
        (99, &[1], "message type=99 hex \"01\""),
    ];
    for (type_id, payload, text) in rows {
        let header = MessageHeader { csid: 3, timestamp: 4, len: 0, type_id: *type_id, msid: 5 };
        let text = format!("{text} csid=3 ts=4 msid=5");
        assert_eq!(notation::print_payload(&header, payload), text);
        assert_eq!(read(&text), (header, payload.to_vec()));
    }
    let header = MessageHeader { csid: 4, timestamp: 0, len: 20, type_id: 8, msid: 1 };
    assert_eq!(
        notation::brief(&Message::Audio(vec![0xab; 20].into()), &header),
        "audio hex \"abababab abababab abababab abababab …\" (20 bytes) csid=4 ts=0 msid=1"
    );
}
