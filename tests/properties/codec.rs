//! AMF0, AMF3, message payloads, media heads and FLV files: round trips, truncations, random bytes.

use bstr::BString;
use bytes::Bytes;
use proptest::prelude::*;

use rtmp_bench::wire::amf0::{self, Value};
use rtmp_bench::wire::amf3::{self, Object};
use rtmp_bench::wire::flv;
use rtmp_bench::wire::media::{self, Media};
use rtmp_bench::wire::message::{Command, Encoding, Message, SubMessage, UserControl};

fn text() -> impl Strategy<Value = BString> + Clone {
    prop_oneof![
        "[a-z]{0,6}".prop_map(BString::from),
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(BString::from)
    ]
}

/// Any double but those that differ from themselves; the table in amf0.rs has NaN.
fn number() -> impl Strategy<Value = f64> {
    any::<f64>().prop_filter("NaN differs from itself", |n| !n.is_nan())
}

fn bytes() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn amf3_fields(v: impl Strategy<Value = amf3::Value>) -> impl Strategy<Value = amf3::Fields> {
    let name = text().prop_filter("an empty name ends the fields", |name| !name.is_empty());
    proptest::collection::vec((name, v), 0..4)
}

fn amf3_value() -> impl Strategy<Value = amf3::Value> {
    use amf3::Value;
    let leaf = prop_oneof![
        Just(Value::Undefined),
        Just(Value::Null),
        any::<bool>().prop_map(Value::Boolean),
        (-(1 << 28)..1 << 28).prop_map(Value::Integer),
        number().prop_map(Value::Double),
        text().prop_map(Value::String),
        text().prop_map(Value::XmlDoc),
        number().prop_map(Value::Date),
        text().prop_map(Value::Xml),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Value::ByteArray),
        (any::<bool>(), proptest::collection::vec(any::<i32>(), 0..4))
            .prop_map(|(fixed, items)| Value::VectorInt { fixed, items }),
        (any::<bool>(), proptest::collection::vec(any::<u32>(), 0..4))
            .prop_map(|(fixed, items)| Value::VectorUint { fixed, items }),
        (any::<bool>(), proptest::collection::vec(number(), 0..4))
            .prop_map(|(fixed, items)| Value::VectorDouble { fixed, items }),
        (7u8..0x11, 0u32..1 << 28).prop_map(|(marker, index)| Value::Reference { marker, index }),
    ];
    leaf.prop_recursive(5, 32, 4, |v| {
        let values = proptest::collection::vec(v.clone(), 0..4);
        let sealed = proptest::collection::vec((text(), v.clone()), 0..4);
        prop_oneof![
            (amf3_fields(v.clone()), values.clone()).prop_map(|(named, dense)| Value::Array { named, dense }),
            (text(), sealed, proptest::option::of(amf3_fields(v))).prop_map(|(class, sealed, dynamic)| {
                Value::Object(Box::new(Object { class, sealed, dynamic }))
            }),
            (any::<bool>(), text(), values).prop_map(|(fixed, class, items)| Value::VectorObject {
                fixed,
                class,
                items
            }),
        ]
    })
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        number().prop_map(Value::Number),
        any::<bool>().prop_map(Value::Boolean),
        text().prop_map(Value::String),
        Just(Value::MovieClip),
        Just(Value::Null),
        Just(Value::Undefined),
        any::<u16>().prop_map(Value::Reference),
        (number(), any::<i16>()).prop_map(|(ms, zone)| Value::Date { ms, zone }),
        text().prop_map(Value::LongString),
        Just(Value::Unsupported),
        Just(Value::RecordSet),
        text().prop_map(Value::Xml),
        amf3_value().prop_map(Value::Amf3),
    ];
    leaf.prop_recursive(6, 48, 5, |v| {
        let fields = proptest::collection::vec((text(), v.clone()), 0..5);
        prop_oneof![
            fields.clone().prop_map(Value::Object),
            fields.clone().prop_map(Value::EcmaArray),
            proptest::collection::vec(v, 0..5).prop_map(Value::StrictArray),
            (text(), fields).prop_map(|(class, fields)| Value::Typed { class, fields }),
        ]
    })
}

fn user_control() -> impl Strategy<Value = UserControl> {
    let known = any::<(u32, u32)>().prop_flat_map(|(n, ms)| {
        proptest::sample::select(vec![
            UserControl::StreamBegin(n),
            UserControl::StreamEof(n),
            UserControl::StreamDry(n),
            UserControl::SetBufferLength { msid: n, ms },
            UserControl::StreamIsRecorded(n),
            UserControl::PingRequest(n),
            UserControl::PingResponse(n),
        ])
    });
    let unknown = (prop_oneof![Just(5u16), 8u16..], bytes());
    prop_oneof![known, unknown.prop_map(|(event, data)| UserControl::Unknown { event, data })]
}

pub(crate) fn message() -> impl Strategy<Value = Message> {
    let encoding = || prop_oneof![Just(Encoding::Amf0), Just(Encoding::Amf3)];
    let values = || proptest::collection::vec(value(), 0..4);
    let command = (encoding(), text(), proptest::option::of(number()), values()).prop_map(
        |(encoding, name, transaction_id, args)| {
            let args = if transaction_id.is_some() { args } else { vec![] };
            Message::Command(Command { encoding, name, transaction_id, args })
        },
    );
    let part = (any::<u8>(), any::<u32>(), 0u32..1 << 24, bytes(), any::<u32>()).prop_map(
        |(type_id, timestamp, msid, payload, back_pointer)| SubMessage {
            type_id,
            timestamp,
            msid,
            payload,
            back_pointer,
        },
    );
    prop_oneof![
        any::<u32>().prop_map(Message::SetChunkSize),
        any::<u32>().prop_map(Message::Abort),
        any::<u32>().prop_map(Message::Acknowledgement),
        user_control().prop_map(Message::UserControl),
        any::<u32>().prop_map(Message::WindowAckSize),
        any::<(u32, u8)>().prop_map(|(size, limit)| Message::SetPeerBandwidth { size, limit }),
        bytes().prop_map(Message::Audio),
        bytes().prop_map(Message::Video),
        (encoding(), values()).prop_map(|(encoding, values)| Message::Data(encoding, values)),
        (encoding(), bytes()).prop_map(|(encoding, body)| Message::SharedObject(encoding, body)),
        command,
        proptest::collection::vec(part, 0..4).prop_map(Message::Aggregate),
        (23u8.., bytes()).prop_map(|(type_id, payload)| Message::Unknown { type_id, payload }),
    ]
}

fn encoded(message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(&mut out);
    out
}

proptest! {
    #[test]
    fn values_come_back(values in proptest::collection::vec(value(), 0..4)) {
        let mut out = Vec::new();
        amf0::encode_all(&values, &mut out);
        prop_assert_eq!(amf0::decode_all(&out), Ok(values));
    }

    #[test]
    fn a_value_cut_anywhere_is_an_error(value in value()) {
        let mut out = Vec::new();
        value.encode(&mut out);
        for cut in 1..out.len() {
            let error = amf0::decode_all(&out[..cut]);
            prop_assert!(error.as_ref().is_err_and(|e| e.offset <= cut), "cut at {}: {:?}", cut, error);
        }
    }

    #[test]
    fn messages_come_back(message in message()) {
        prop_assert_eq!(Message::decode(message.type_id(), &encoded(&message)), Ok(message));
    }

    #[test]
    fn a_payload_cut_anywhere_never_gives_the_same_message(message in message()) {
        let payload = encoded(&message);
        for cut in 0..payload.len() {
            if let Ok(other) = Message::decode(message.type_id(), &payload[..cut]) {
                prop_assert_ne!(&other, &message, "cut at {}", cut);
            }
        }
    }

    #[test]
    fn random_payloads_are_read_or_refused(type_id in 0u8..24, payload in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(message) = Message::decode(type_id, &payload) {
            // What was read can be written, and reads alike; NaN is equal in its text only.
            let again = Message::decode(type_id, &encoded(&message));
            prop_assert_eq!(format!("{:?}", again), format!("{:?}", Ok::<_, ()>(message)));
        }
    }

    #[test]
    fn values_with_a_few_bytes_changed_are_read_or_refused(
        values in proptest::collection::vec(value(), 0..4),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), 0u8..0x13), 0..3)
    ) {
        let mut payload = vec![5];
        amf0::encode_all(&values, &mut payload);
        for (index, byte) in changes {
            *index.get_mut(&mut payload) = byte;
        }
        rtmp_bench::fuzzing::amf0(&payload);
    }

    #[test]
    fn random_media_is_read_or_refused(head in any::<u8>(), bytes in proptest::collection::vec(0u8..0x20, 0..60)) {
        let payload = [&[head], &bytes[..]].concat();
        for (type_id, media) in [(8, Media::audio(&payload)), (9, Media::video(&payload))] {
            prop_assert_eq!(media.ok().map(|m| m.kind), media::kind(type_id, &payload));
            let Ok(media) = media else { continue };
            // Each track costs a byte, and their data lies in the payload.
            let tracks: Vec<_> = media.tracks().collect();
            prop_assert!(tracks.len() <= payload.len().max(1));
            let data: usize = tracks.iter().flatten().map(|track| track.data.len()).sum();
            prop_assert!(data < payload.len());
        }
    }

    #[test]
    fn flv_files_come_back_and_cut_ones_have_fewer_tags(
        tags in proptest::collection::vec((8u8..10, any::<u32>(), proptest::collection::vec(any::<u8>(), 0..30)), 0..4)
    ) {
        let header = flv::Header { audio: true, video: false };
        let mut writer = flv::Writer::new(Vec::new(), header).expect("a header");
        for (type_id, timestamp, data) in &tags {
            writer.write(*type_id, *timestamp, data).expect("a tag");
        }
        let file = writer.into_inner();
        for cut in 0..=file.len() {
            let Ok(reader) = flv::Reader::new(&file[..cut]) else {
                prop_assert!(cut < 13);
                continue;
            };
            let read: Vec<_> = reader.collect();
            let whole = read.iter().flatten().map(|tag| (tag.type_id, tag.timestamp, tag.data.clone()));
            prop_assert!(whole.eq(tags.iter().take(read.iter().flatten().count()).cloned()));
            prop_assert!(cut < file.len() || read.iter().flatten().count() == tags.len());
        }
    }

    #[test]
    fn random_files_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let file = [b"FLV\x01\x05\0\0\0\x09\0\0\0\0", &bytes[..]].concat();
        let tags = flv::Reader::new(&file[..]).expect("a header").flatten();
        prop_assert!(tags.map(|tag| tag.data.len() + 15).sum::<usize>() <= bytes.len());
    }
}
