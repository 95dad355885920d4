//! What `inspect` notes of sessions: one session a rule, made here, that has exactly that note; sessions that have none; and the notes of
//! every capture of `captures/` and of the folder that `RTMP_BENCH_CAPTURES` names, each of which was read against its bytes.

#[path = "../capture_gen/mod.rs"]
mod capture_gen;
mod right;
mod rules;
mod talk;

use std::path::Path;

use capture_gen::{Packet, SYN};
use right::{CLEAN, SILENT, UNCERTAIN};
use rtmp_bench::capture;
use rtmp_bench::record::inspect::Inspect;
use rtmp_bench::scenario::clauses::Clauses;
use rtmp_bench::wire::message::Message;
use rtmp_bench::wire::note::NoteKind;
use rules::{LIMITS, RULES};
use talk::{CLIENT, MP3, PUBLISHED, Row, SERVER, Talk, notes};

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
