//! The chunk layer: any cut of the bytes, truncations, bounds, round trips.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use rtmp_bench::fuzzing::{Seen, chunk_events, chunks_alike};
use rtmp_bench::wire::chunk::{
    ChunkReader, ChunkWriter, Fmt, Limits, MAX_MESSAGE_LEN, MessageHeader, Miswrite, Quirks, RawChunk,
    ReadEvent, Type3Delta, Type3Ext,
};
use rtmp_bench::wire::message::type_id;
use rtmp_bench::wire::note::NoteKind;

const SMALL: Limits = Limits { open_messages: 4, held_bytes: 600, message_len: 500, chunk_streams: 8 };

fn csid() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 2u32..6, 1 => select(vec![63u32, 64, 319, 320, 65599])]
}

/// Times around every border, and steps forward and back between them.
fn time() -> impl Strategy<Value = u32> {
    let borders = select(vec![0u32, 1, 0x7F_FFFF, 0xFF_FFFE, 0xFF_FFFF, 1 << 24, 0x7FFF_FFFF, 1 << 31, !0]);
    prop_oneof![3 => 0u32..100, 3 => (borders, 0u32..40).prop_map(|(t, n)| t.wrapping_sub(20).wrapping_add(n)), 1 => any::<u32>()]
}

fn fmt() -> impl Strategy<Value = Option<Fmt>> {
    proptest::option::of(select(vec![Fmt::Type0, Fmt::Type1, Fmt::Type2, Fmt::Type3]))
}

/// A message and the type that its first chunk should have.
type Written = (MessageHeader, Vec<u8>, Option<Fmt>);

/// Lengths of few kinds, so that headers can be short; a chunk size now and then.
fn message() -> impl Strategy<Value = Written> {
    let len = prop_oneof![Just(0usize), Just(1), Just(128), 100usize..140, 250usize..260];
    let media = (csid(), time(), select(vec![8u8, 9, 18, 20]), 0u32..3, len, any::<u8>(), fmt()).prop_map(
        |(csid, timestamp, type_id, msid, len, byte, fmt)| {
            let payload = (0..len).map(|i| byte.wrapping_add(i as u8)).collect();
            (MessageHeader { csid, timestamp, len: 0, type_id, msid }, payload, fmt)
        },
    );
    let size = prop_oneof![1u32..200, 100u32..70_000, 1u32 << 23..1 << 31];
    let set = (size, time()).prop_map(|(size, timestamp)| {
        let header = MessageHeader { csid: 2, timestamp, len: 0, type_id: type_id::SET_CHUNK_SIZE, msid: 0 };
        (header, size.to_be_bytes().to_vec(), None)
    });
    prop_oneof![8 => media, 1 => set]
}

/// A chunk that may be wrong in every field.
fn raw() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![4 => (0u32..260).prop_map(Some), 1 => any::<u32>().prop_map(Some), 2 => Just(None)];
    let type_id = prop_oneof![4 => select(vec![8u8, 9, 20]), 2 => 1u8..7, 1 => any::<u8>()];
    let payload = prop_oneof![4 => (0usize..200, any::<u8>()).prop_map(|(n, b)| vec![b; n]), 1 => vec(any::<u8>(), 0..8)];
    let ext = proptest::option::weighted(0.2, select(vec![5u32, 0x100_0000, 0x0808_0808]));
    let fields = (0u8..4, csid(), proptest::option::weighted(0.1, 1u8..4), proptest::option::of(time()));
    (fields, len, type_id, 0u32..3, ext, payload).prop_map(
        |((fmt, csid, basic_len, timestamp), len, type_id, msid, ext, payload)| {
            let timestamp = timestamp.filter(|_| ext.is_none());
            let chunk = RawChunk {
                fmt,
                csid,
                basic_len,
                timestamp,
                len,
                type_id: Some(type_id),
                msid: Some(msid),
                ext,
                payload,
            };
            let mut out = Vec::new();
            chunk.write(&mut out);
            out
        },
    )
}

/// Set Chunk Size or Abort, in any place and of any length.
fn control() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![0u32..8, select(vec![128u32, 1 << 31, (1 << 31) + 100, 1 << 24])];
    (select(vec![2u32, 2, 2, 5]), select(vec![1u8, 2]), 3usize..6, value).prop_map(
        |(csid, type_id, len, value)| {
            let mut payload = value.to_be_bytes().to_vec();
            payload.resize(len, 0);
            let mut out = Vec::new();
            RawChunk { csid, type_id: Some(type_id), payload, ..RawChunk::default() }.write(&mut out);
            out
        },
    )
}

fn write(messages: &[Written], miswrite: Option<Miswrite>) -> Vec<u8> {
    let (mut out, mut writer) = (Vec::new(), ChunkWriter::new(miswrite));
    for (header, payload, fmt) in messages {
        writer.write(&mut out, *header, payload, *fmt);
    }
    out
}

/// What a good peer writes, chunks right and wrong, bytes of any kind, and these one after another.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let good = || vec(message(), 0..12).prop_map(|messages| write(&messages, None));
    let mixed = || vec(prop_oneof![5 => raw(), 1 => control()], 0..12).prop_map(|chunks| chunks.concat());
    let garbage = || vec(prop_oneof![any::<u8>(), 0u8..9], 0..300);
    prop_oneof![good(), mixed(), (good(), mixed(), garbage()).prop_map(|(a, b, c)| [a, b, c].concat())]
}

fn quirks() -> impl Strategy<Value = Quirks> {
    let ext = select(vec![Type3Ext::Present, Type3Ext::Absent, Type3Ext::Peeked]);
    (ext, select(vec![Type3Delta::Timestamp, Type3Delta::Zero])).prop_map(|(type3_ext, type3_after_type0)| {
        Quirks { type3_ext, type3_after_type0, ..Quirks::default() }
    })
}

fn limits() -> impl Strategy<Value = Limits> {
    prop_oneof![Just(Limits::default()), Just(SMALL)]
}

fn events(stream: &[u8], quirks: Quirks) -> Vec<Seen> {
    chunk_events(stream, quirks, Limits::default(), std::iter::once(stream.len()))
}

fn messages(seen: &[Seen]) -> Vec<(MessageHeader, Vec<u8>)> {
    let message = |seen: &Seen| match seen {
        Seen::Message(header, payload) => Some((*header, payload.clone())),
        _ => None,
    };
    seen.iter().filter_map(message).collect()
}

fn sent(messages: &[Written]) -> Vec<(MessageHeader, Vec<u8>)> {
    let whole = |(header, payload, _): &Written| {
        (MessageHeader { len: payload.len() as u32, ..*header }, payload.clone())
    };
    messages.iter().map(whole).collect()
}

fn note_kinds(seen: &[Seen]) -> Vec<NoteKind> {
    let kind = |seen: &Seen| match seen {
        Seen::Note(note) => Some(note.kind),
        _ => None,
    };
    seen.iter().filter_map(kind).collect()
}

proptest! {
    #[test]
    fn any_cut_gives_the_same(stream in stream(), quirks in quirks(), limits in limits(), cuts in vec(0usize..80, 1..20)) {
        chunks_alike(&stream, quirks, limits, || cuts.iter().copied().chain([1]).cycle());
    }

    #[test]
    fn a_truncation_gives_the_events_before_it(stream in stream(), quirks in quirks(), at in any::<Index>()) {
        let whole = events(&stream, quirks);
        let part = events(&stream[..at.index(stream.len() + 1)], quirks);
        prop_assert!(whole.starts_with(&part), "{part:?}\nof {whole:?}");
    }

    #[test]
    fn what_is_written_is_read(messages in vec(message(), 0..30)) {
        let seen = events(&write(&messages, None), Quirks::default());
        prop_assert_eq!(self::messages(&seen), sent(&messages));
        prop_assert!(!seen.iter().any(|seen| matches!(seen, Seen::Error(_))));
    }

    #[test]
    fn what_is_written_departs_in_nothing(mut messages in vec(message(), 0..30)) {
        for (header, _, fmt) in &mut messages {
            *fmt = None;
            header.csid += u32::from(header.csid == 2 && header.type_id != type_id::SET_CHUNK_SIZE);
        }
        let kinds = note_kinds(&events(&write(&messages, None), Quirks::default()));
        let size = |kind: &NoteKind| matches!(kind, NoteKind::ChunkSizeSmall | NoteKind::ChunkSizeLarge);
        prop_assert!(kinds.iter().all(size), "{kinds:?}");
        // The shortest headers mean the same to readers that differ in what the text leaves open.
        for quirk in [Quirks { type3_after_type0: Type3Delta::Zero, ..Quirks::default() }, Quirks { type3_ext: Type3Ext::Peeked, ..Quirks::default() }] {
            prop_assert_eq!(self::messages(&events(&write(&messages, None), quirk)), sent(&messages));
        }
    }

    #[test]
    fn interleaved_messages_come_apart(messages in vec(message(), 0..20), size in 1u32..200, order in vec(any::<Index>(), 1..60)) {
        let (mut rows, mut stream) = (Vec::new(), Vec::new());
        let set = RawChunk { csid: 2, type_id: Some(1), payload: size.to_be_bytes().to_vec(), ..RawChunk::default() };
        set.write(&mut stream);
        let mut csids: Vec<u32> = messages.iter().map(|(header, ..)| header.csid).filter(|csid| *csid > 2).collect();
        csids.sort_unstable();
        csids.dedup();
        for &csid in &csids {
            let own: Vec<Written> = messages.iter().filter(|(header, ..)| header.csid == csid).cloned().collect();
            rows.push(chunks(&own, size));
        }
        let mut order = order.iter().cycle();
        while !rows.is_empty() {
            let row = order.next().unwrap().index(rows.len());
            match rows[row].pop() {
                Some(chunk) => stream.extend(chunk),
                None => drop(rows.swap_remove(row)),
            }
        }
        let found = self::messages(&events(&stream, Quirks::default()));
        for csid in csids {
            let of = |all: &[(MessageHeader, Vec<u8>)]| -> Vec<_> { all.iter().filter(|(header, _)| header.csid == csid).cloned().collect() };
            prop_assert_eq!(of(&found), of(&sent(&messages)));
        }
    }

    #[test]
    fn reading_and_skimming_by_turns(stream in stream(), quirks in quirks(), limits in limits(), turns in vec((0usize..60, any::<bool>()), 1..20)) {
        let whole = self::messages(&chunk_events(&stream, quirks, limits, std::iter::once(stream.len())));
        let mut reader = ChunkReader::new(limits, quirks, 0);
        let (mut at, mut next, mut came) = (0, 0, 0);
        // Each message that is told is the next of those that reading alone would tell, or a later one.
        let mut told = |header: MessageHeader, payload: Option<&[u8]>| {
            while let Some((expected, bytes)) = whole.get(next) {
                next += 1;
                if *expected == header && payload.is_none_or(|payload| payload == bytes) {
                    return;
                }
            }
            assert!(limits == SMALL && next >= whole.len(), "{header:?} is not among {whole:?}");
        };
        'pieces: for &(cut, skim) in turns.iter().chain(&[(1, true), (1, false)]).cycle() {
            let end = stream.len().min(at + cut);
            loop {
                let mut rest = &stream[at..end];
                let more = match skim {
                    true => reader.skim(&mut rest).map(|slice| slice.map(|slice| if slice.last { told(slice.header, None) })),
                    false => reader.read(&mut rest).map(|event| event.map(|event| {
                        if let ReadEvent::Message(header, payload) = event { told(header, Some(payload)) }
                    })),
                };
                at = end - rest.len();
                came = came.max(end);
                let (held, allocated) = (reader.held_bytes(), reader.allocated_bytes());
                prop_assert!(held <= limits.held_bytes.min(came), "{held} held");
                prop_assert!(allocated <= 2 * limits.held_bytes.min(came), "{allocated} allocated");
                match more {
                    Ok(Some(())) => {}
                    Ok(None) => break,
                    Err(_) => break 'pieces,
                }
            }
            if at == stream.len() {
                break;
            }
        }
    }

    #[test]
    fn a_raw_chunk_is_its_fields(fmt in 0u8..4, csid in prop_oneof![2u32..64, 64u32..320, 320u32..65600], long in any::<bool>(), timestamp in 0u32..0xFF_FFFF, len in 0u32..0x100_0000, type_id in any::<u8>(), msid in any::<u32>(), ext in proptest::option::of(any::<u32>()), payload in vec(any::<u8>(), 0..20)) {
        let basic_len = (long && csid >= 64).then_some(3);
        let chunk = RawChunk { fmt, csid, basic_len, timestamp: ext.is_none().then_some(timestamp), len: Some(len), type_id: Some(type_id), msid: Some(msid), ext, payload };
        let mut bytes = Vec::new();
        // Before it, an empty message for types 2 and 3 to inherit from; its extended timestamp is what type 3 has.
        RawChunk { csid, ext, len: Some(0), ..RawChunk::default() }.write(&mut bytes);
        let before = bytes.len();
        chunk.write(&mut bytes);
        let seen = events(&bytes, Quirks::default());
        let headers: Vec<_> = seen.iter().filter_map(|seen| match seen { Seen::Chunk(header) => Some(*header), _ => None }).collect();
        let header = headers[1];
        prop_assert_eq!(header.offset as usize, before);
        prop_assert_eq!((header.fmt as u8, header.csid), (fmt, csid));
        prop_assert_eq!(u32::from(header.basic_len), if csid < 64 { 1 } else if long || csid >= 320 { 3 } else { 2 });
        prop_assert_eq!(header.timestamp, (fmt < 3).then_some(if ext.is_some() { 0xFF_FFFF } else { timestamp }));
        prop_assert_eq!((header.len, header.type_id), if fmt < 2 { (Some(len), Some(type_id)) } else { (None, None) });
        prop_assert_eq!(header.msid, (fmt == 0).then_some(msid));
        prop_assert_eq!(header.ext, ext);
        let fields = usize::from(header.basic_len) + [11, 7, 3, 0][usize::from(fmt)] + if ext.is_some() { 4 } else { 0 };
        prop_assert_eq!(&bytes[before + fields..], &chunk.payload[..]);
    }

    #[test]
    fn type_3_without_the_extended_timestamp(times in vec(0u32..1 << 30, 1..6), len in 1usize..500) {
        let message = |(i, t): (usize, &u32)| {
            let header = MessageHeader { csid: 4, timestamp: t + (1 << 24), len: 0, type_id: 9, msid: 1 };
            (header, vec![0x80 + i as u8; len], Some(Fmt::Type0)) // no time begins with these bytes
        };
        let messages: Vec<Written> = times.iter().enumerate().map(message).collect();
        let absent = write(&messages, Some(Miswrite::ContinuationNoExtended));
        let of = |type3_ext| Quirks { type3_ext, ..Quirks::default() };
        prop_assert_eq!(self::messages(&events(&absent, of(Type3Ext::Absent))), sent(&messages));
        prop_assert_eq!(self::messages(&events(&write(&messages, None), of(Type3Ext::Peeked))), sent(&messages));
        let peeked = chunks_alike(&absent, of(Type3Ext::Peeked), Limits::default(), || std::iter::repeat(3));
        prop_assert_eq!(self::messages(&peeked), sent(&messages));
        let continuations = times.len() * ((len - 1) / 128);
        prop_assert_eq!(note_kinds(&peeked), vec![NoteKind::ExtendedTimestampAbsent; continuations]);
    }
}

/// The chunks of messages of one chunk stream at a chunk size, the last first.
fn chunks(messages: &[Written], size: u32) -> Vec<Vec<u8>> {
    let set =
        RawChunk { csid: 2, type_id: Some(1), payload: size.to_be_bytes().to_vec(), ..RawChunk::default() };
    let mut stream = Vec::new();
    set.write(&mut stream);
    let begin = stream.len();
    let mut writer = ChunkWriter::default();
    let header = MessageHeader { csid: 2, timestamp: 0, len: 0, type_id: type_id::SET_CHUNK_SIZE, msid: 0 };
    writer.write(&mut Vec::new(), header, &size.to_be_bytes(), None);
    for (header, payload, fmt) in messages {
        writer.write(&mut stream, *header, payload, *fmt);
    }
    let offset = |seen: &Seen| match seen {
        Seen::Chunk(header) => Some(header.offset as usize).filter(|offset| *offset >= begin),
        _ => None,
    };
    let mut ends: Vec<usize> = events(&stream, Quirks::default()).iter().filter_map(offset).collect();
    ends.push(stream.len());
    ends.windows(2).rev().map(|chunk| stream[chunk[0]..chunk[1]].to_vec()).collect()
}

#[test]
fn the_longest_message_is_written_and_longer_ones_are_cut() {
    let header = MessageHeader { csid: 3, timestamp: 0, len: 0, type_id: 9, msid: 1 };
    let messages = [(header, vec![7; MAX_MESSAGE_LEN as usize + 5], None)];
    let found = self::messages(&events(&write(&messages, None), Quirks::default()));
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].0.len, found[0].1.len()), (MAX_MESSAGE_LEN, MAX_MESSAGE_LEN as usize));
}

#[test]
fn a_length_off_the_wire_allocates_nothing() {
    let mut reader = ChunkReader::new(Limits::default(), Quirks::default(), 0);
    let mut stream = Vec::new();
    let set =
        RawChunk { csid: 2, type_id: Some(1), payload: vec![0x7F, 0xFF, 0xFF, 0xFF], ..RawChunk::default() };
    set.write(&mut stream);
    RawChunk { csid: 3, len: Some(MAX_MESSAGE_LEN), payload: vec![1; 10], ..RawChunk::default() }
        .write(&mut stream);
    let mut rest = &stream[..];
    while reader.read(&mut rest).unwrap().is_some() {
        rest = &stream[stream.len() - rest.len()..];
    }
    assert_eq!(reader.held_bytes(), 10);
    assert!(reader.allocated_bytes() <= 20);
}

/// Buffers of long messages that are over do not stay with short ones that are not.
#[test]
fn buffers_that_are_kept_for_reuse_stay_within_the_bound() {
    let limits = Limits { held_bytes: 2600, ..Limits::default() };
    let mut stream = Vec::new();
    for csid in 3..15 {
        let chunk =
            |fmt, len| RawChunk { fmt, csid, len: Some(1000), payload: vec![1; len], ..RawChunk::default() };
        chunk(0, 128).write(&mut stream);
        (0..6).for_each(|_| chunk(3, 128).write(&mut stream));
        chunk(3, 1000 - 7 * 128).write(&mut stream);
        chunk(3, 128).write(&mut stream); // the next message begins
    }
    let seen = chunk_events(&stream, Quirks::default(), limits, std::iter::repeat(64));
    assert_eq!(messages(&seen).len(), 12);
}

/// What is held when skimming begins is let go, allocated bytes too.
#[test]
fn skimming_lets_go_of_what_was_read() {
    let mut reader = ChunkReader::new(Limits::default(), Quirks::default(), 0);
    let mut stream = Vec::new();
    let chunk =
        |fmt, len| RawChunk { fmt, csid: 3, len: Some(300), payload: vec![1; len], ..RawChunk::default() };
    chunk(0, 128).write(&mut stream);
    chunk(3, 100).write(&mut stream);
    let mut rest = &stream[..];
    assert_eq!(reader.read(&mut rest), Ok(None));
    assert_eq!(reader.held_bytes(), 228);
    assert!(reader.allocated_bytes() >= 228);
    let slice = reader.skim(&mut &[2u8; 28][..]).unwrap().unwrap();
    assert_eq!((slice.at, slice.bytes.len(), slice.last), (228, 28, false));
    assert_eq!((reader.held_bytes(), reader.allocated_bytes()), (0, 0));
}

#[test]
fn each_limit_ends_the_stream() {
    let begin = |csid, len| RawChunk {
        csid,
        len: Some(len),
        payload: vec![1; len.min(128) as usize],
        ..RawChunk::default()
    };
    for (csids, len, expected) in [
        (3..8, 129, "number of unfinished messages 5 is above the limit of 4"),
        (3..7, 500, "nothing"),
        (3..4, 501, "message length 501 is above the limit of 500"),
        (3..12, 100, "number of chunk streams 9 is above the limit of 8"),
        (3..11, 100, "nothing"),
    ] {
        let mut stream = Vec::new();
        csids.for_each(|csid| begin(csid, len).write(&mut stream));
        let seen = chunk_events(&stream, Quirks::default(), SMALL, std::iter::repeat(50));
        let found = seen.iter().find_map(|seen| match seen {
            Seen::Error(error) => Some(error.kind.to_string()),
            _ => None,
        });
        assert_eq!(found.as_deref().unwrap_or("nothing"), expected);
    }
    let mut stream = Vec::new();
    (3..7).for_each(|csid| begin(csid, 500).write(&mut stream));
    RawChunk { fmt: 3, csid: 3, payload: vec![1; 128], ..RawChunk::default() }.write(&mut stream);
    let seen = chunk_events(&stream, Quirks::default(), SMALL, std::iter::repeat(50));
    assert!(
        format!("{:?}", seen.last()).contains("\"number of held bytes\", value: 640, limit: 600"),
        "{seen:?}"
    );
}

/// A message whose header was skimmed is not told by reading, wherever the change falls.
#[test]
fn what_skimming_began_reading_does_not_tell() {
    let mut stream = Vec::new();
    let chunk = RawChunk { csid: 3, len: Some(10), payload: vec![1; 10], ..RawChunk::default() };
    chunk.write(&mut stream);
    for cut in 12..stream.len() {
        let mut reader = ChunkReader::new(Limits::default(), Quirks::default(), 0);
        let mut head = &stream[..cut];
        while reader.skim(&mut head).unwrap().is_some() {
            head = &stream[cut..cut];
        }
        assert_eq!(reader.read(&mut &stream[cut..]), Ok(None), "{cut}");
        assert!(matches!(reader.read(&mut &stream[..]), Ok(Some(ReadEvent::Message(..)))));
    }
}
