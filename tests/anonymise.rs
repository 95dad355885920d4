//! What an anonymised capture must not show.

mod capture_gen;

use std::io::Cursor;

use capture_gen::{ACK, Packet, RST, SYN, pcap};
use rtmp_bench::capture;
use rtmp_bench::capture::pcap::source;
use rtmp_bench::record::inspect::Inspect;
use rtmp_bench::wire::amf0::Value;
use rtmp_bench::wire::chunk::{ChunkWriter, MessageHeader};
use rtmp_bench::wire::message::Message;

fn anonymised(packets: &[Packet]) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("any.pcap");
    std::fs::write(&path, pcap(packets)).expect("written");
    let mut shared = Vec::new();
    capture::anonymise::anonymise(&path, || Ok(&mut shared), || false).expect("anonymised");
    shared
}

fn inspect(file: Vec<u8>) -> Inspect {
    source(Box::new(Cursor::new(file))).and_then(|s| capture::read_source(s, false, &mut ())).expect("read")
}

/// The packets of a connection whose sides say these bytes, each segment of at most `size` bytes, the sides in turn.
fn connection(said: [&[u8]; 2], size: usize) -> Vec<Packet> {
    let mut packets = vec![Packet::new(0, 99, SYN, &[])];
    packets.push(Packet { ack: 100, ..Packet::new(1, 499, SYN | ACK, &[]) });
    let segments = |side: usize, start: u32| {
        let parts = said[side].chunks(size).enumerate();
        parts
            .map(move |(n, part)| Packet::new(side, start + (n * size) as u32, ACK, part))
            .collect::<Vec<_>>()
    };
    let (client, server) = (segments(0, 100), segments(1, 500));
    let turns = client.len().max(server.len());
    packets.extend((0..turns).flat_map(|n| client.get(n).into_iter().chain(server.get(n))).cloned());
    packets
}

/// A handshake in which the answers repeat what they answer, and no byte stands for itself by chance.
fn handshakes() -> [Vec<u8>; 2] {
    let hello = |n: usize| (0..1536).map(|i| if i < 8 { 0 } else { (i * 7 + n) as u8 }).collect::<Vec<u8>>();
    let (c1, s1) = (hello(1), hello(2));
    [[&[3][..], &c1, &s1].concat(), [&[3][..], &s1, &c1].concat()]
}

/// A publish up to its first frames, at the default chunk size.
fn publish() -> [Vec<u8>; 2] {
    let connect = Value::object([("app", "live".into()), ("tcUrl", "rtmp://server/live".into())]);
    let says = [
        vec![
            Message::command("connect", 1.0, vec![connect]),
            Message::command("createStream", 2.0, vec![Value::Null]),
            Message::command("publish", 3.0, vec![Value::Null, "cam".into(), "live".into()]),
            Message::Video([&[0x17, 1, 0, 0, 0][..], &[9; 700]].concat().into()),
        ],
        vec![
            Message::WindowAckSize(2_500_000),
            Message::command("_result", 1.0, vec![Value::Null, Value::Null]),
            Message::command("_result", 2.0, vec![Value::Null, 1.0.into()]),
        ],
    ];
    let mut out = handshakes();
    for (out, messages) in out.iter_mut().zip(says) {
        let mut writer = ChunkWriter::default();
        for message in messages {
            let mut payload = Vec::new();
            message.encode(&mut payload);
            let csid = if message.type_id() < 7 { 2 } else { 3 };
            let header = MessageHeader { csid, timestamp: 0, len: 0, type_id: message.type_id(), msid: 0 };
            writer.write(out, header, &payload, None);
        }
    }
    out
}

#[track_caller]
fn shows_none(file: &[u8]) {
    let shows = |secret: &&[u8]| file.windows(secret.len()).any(|w| w == *secret);
    assert_eq!([&b"SECRET"[..], b"hunter2", b"john.doe"].into_iter().find(shows), None);
}

#[test]
fn other_bytes_at_the_place_of_those_that_came_before() {
    let [client, server] = publish();
    let packets = connection([&client, &server], 400);
    let whole = inspect(anonymised(&packets)).sessions;
    assert_eq!(whole.len(), 1);
    let text = b"SECRETSECRETSECRETSECRET";
    for at in [1, 700, 1600, 3073, 3085, 3150, client.len() - 20] {
        for flags in [ACK, RST | ACK] {
            for first in [false, true] {
                let mut packets = packets.clone();
                let last =
                    packets.iter().rposition(|p| p.side == 0 && p.seq as usize - 100 <= at).expect("one");
                // In front of the whole, at the end, or right behind what it contradicts.
                let place = if first { last + 1 } else { packets.len() };
                packets.insert(place, Packet::new(0, 100 + at as u32, flags, text));
                let shared = anonymised(&packets);
                shows_none(&shared);
                if !first {
                    assert_eq!(
                        inspect(shared).sessions[0].commands,
                        whole[0].commands,
                        "at {at}, flags {flags}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_begins_as_rtmp_does_and_is_something_else() {
    // TPKT (rfc 1006) begins with 03: RDP.
    let request = b"\x03\0\0\x2f\x2a\xe0\0\0\0\0\0Cookie: mstshash=john.doe\r\n\x01\0\x08\0\x0b\0\0\0";
    let long: Vec<u8> =
        b"\x03\0\0\x30user=john.doe password=hunter2;".iter().copied().cycle().take(9000).collect();
    let confirm = b"\x03\0\0\x13\x0e\xd0\0\0\x124\0\x02\x1f\x08\0\x02\0\0\0".to_vec();
    let [client, _] = handshakes();
    let refused = b"HTTP/1.1 403 Forbidden\r\nX-Debug: user=admin:hunter2\r\n\r\n".to_vec();
    for said in [
        [request.to_vec(), confirm.clone()],
        [long.clone(), confirm],
        [long.clone(), long.clone()],
        [client[..1537].to_vec(), refused],
        [publish()[0].clone(), long],
    ] {
        for size in [100, 1460] {
            let packets = connection([&said[0], &said[1]], size);
            let (before, after) = (inspect(pcap(&packets)), anonymised(&packets));
            shows_none(&after);
            let after = inspect(after);
            assert_eq!(before.sessions.len(), after.sessions.len());
            let named = |found: &Inspect| found.other.iter().map(|o| o.what.clone()).collect::<Vec<_>>();
            assert_eq!(named(&before), named(&after));
        }
    }
}

#[test]
fn handshakes_are_kept_where_answers_belong_to_them() {
    let [client, server] = handshakes();
    for (sides, is_kept) in [
        ([&client[..], &server[..]], true),
        ([&client[..1537], &server[..]], true),
        ([&client[..1537], &server[..1537]], false),
    ] {
        let packets = connection(sides, 1460);
        let shared = anonymised(&packets);
        let kept = shared.windows(200).any(|w| w == &server[1000..1200]);
        assert_eq!(kept, is_kept);
        let notes = |file| inspect(file).sessions.iter().map(|s| s.notes.len()).collect::<Vec<_>>();
        assert_eq!(notes(shared), notes(pcap(&packets)));
    }
}
