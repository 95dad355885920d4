//! `--verify`: what a player got, held against the recording.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rtmp_bench::capture;
use rtmp_bench::capture::replay::Settings;
use rtmp_bench::capture::replay::pace::Pace;
use rtmp_bench::net::conn::{Dial, Dialing, Io};
use rtmp_bench::net::peer::{Missing, Options, Peer};
use rtmp_bench::net::pipe;
use rtmp_bench::record::inspect::Media;
use rtmp_bench::record::replay::End;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::captures;
use crate::odd::{Odd, Ways};
use crate::simulated::{peer, plain, read, replay, verifying};

#[test]
fn every_whole_publish_comes_to_a_player() {
    let (mut publishes, mut played) = (0, 0);
    for path in captures() {
        let found = capture::read(&path, true, &mut ()).expect("a capture");
        let recorded = read(&path);
        if recorded.sessions.iter().any(|s| s.hole.is_some()) {
            continue;
        }
        let (sessions, _) = replay(recorded, &verifying(), peer(&[]));
        for session in &sessions {
            let before = found.sessions.iter().find(|s| s.key == session.key).expect("the recorded session");
            let frames =
                |m: &Media| -> u64 { m.audio.iter().chain(&m.video).map(|track| track.frames).sum() };
            let sent = before.media.get("c2s").map_or(0, |m| frames(m));
            assert_eq!(session.sent.frames, sent, "{}: {session:?}", path.display());
            if before.role != "publish" {
                played += 1;
                continue;
            }
            assert_eq!(session.end, End::Done, "{}: {session:?}", path.display());
            // The one that was refused when recorded published nothing.
            if sent > 0 {
                publishes += 1;
                let [verify] = &session.verify[..] else { panic!("{}: {session:?}", path.display()) };
                assert_eq!(verify.held, Some(true), "{}: {verify:?}", path.display());
                assert_eq!((verify.sent, verify.came), (sent, sent), "{}", path.display());
            }
            for (type_id, n) in &before.messages.c2s {
                // Chunk sizes and acknowledgements are made anew.
                if ![1, 3].contains(type_id) {
                    assert_eq!(session.sent.messages.get(type_id), Some(n), "{} {type_id}", path.display());
                }
            }
        }
    }
    assert!(publishes >= 14 && played >= 4, "{publishes} publishes, {played} others");
}

#[test]
fn what_a_server_does_to_frames_is_found() {
    for (fault, kind, why) in [
        ("relay-drops", "missing", "did not come, the first is frame "),
        ("relay-doubles", "doubled", "came twice, the first is frame "),
        ("relay-swaps", "late", "came out of order, the first is frame "),
        ("relay-damages", "changed", "changed at byte"),
        ("relay-stops", "missing", "did not come, the first is frame "),
    ] {
        let (sessions, _) = replay(plain(), &verifying(), peer(&[fault]));
        let [session] = &sessions[..] else { panic!("{sessions:?}") };
        let [verify] = &session.verify[..] else { panic!("{fault}: {session:?}") };
        assert!(verify.held == Some(false) && session.is_found(), "{fault}: {verify:?}");
        assert!(verify.why.as_ref().is_some_and(|w| w.contains(why)), "{fault}: {verify:?}");
        assert!(verify.differences.iter().all(|d| d.kind == kind && d.count > 0), "{fault}: {verify:?}");
        let missing: u64 = verify.differences.iter().filter(|d| d.kind == "missing").map(|d| d.count).sum();
        let doubled: u64 = verify.differences.iter().filter(|d| d.kind == "doubled").map(|d| d.count).sum();
        assert_eq!(verify.came + missing, verify.sent + doubled, "{fault}: all of them: {verify:?}");
        assert_eq!(verify.differences.len() == 2, fault != "relay-swaps", "{fault}: both kinds: {verify:?}");
    }
    // What only concerns times is none of these.
    for fault in ["times-smoothed", "times-stretched"] {
        let (sessions, _) = replay(plain(), &verifying(), peer(&[fault]));
        assert!(!sessions[0].is_found(), "{fault}: {sessions:?}");
    }
}

#[test]
fn a_player_that_cannot_wait_joins_before_the_first_frame() {
    let options = Options { missing: Missing::Refuse, ..Options::default() };
    let (sessions, _) = replay(plain(), &verifying(), Peer::new(options));
    assert_eq!(sessions[0].verify[0].held, Some(true), "{sessions:?}");
}

/// The reference server; from the second connection on it takes notice of one only after this long.
struct Late(Peer, Duration, AtomicUsize);

impl Dial for Late {
    fn dial(&self) -> Dialing<'_> {
        Box::pin(async move {
            if self.2.fetch_add(1, Ordering::Relaxed) == 0 {
                return self.0.dial().await;
            }
            let ((ours, mut theirs), peer, late) = (pipe::pipe(pipe::CAPACITY), self.0.clone(), self.1);
            tokio::spawn(async move {
                tokio::time::sleep(late).await;
                let mut io = peer.dial().await.expect("a connection");
                let _ = tokio::io::copy_bidirectional(&mut io, &mut theirs).await;
            });
            Ok(Box::new(ours) as Box<dyn Io>)
        })
    }
}

#[test]
fn a_server_that_lets_players_in_late_is_not_said_to_lose_frames() {
    for (late, pace, held, why) in [
        (4, Pace::Asap, Some(true), None),
        (9, Pace::Media, Some(true), None),
        // Answered when the stream was there, before the first frame.
        (19, Pace::Asap, Some(true), None),
        (
            23,
            Pace::Media,
            Some(false),
            Some(
                "handshake was not answered within 10s; 112 frames that were sent before it was did not come",
            ),
        ),
        (60, Pace::Asap, Some(false), Some("handshake was not answered within 10s, and no frame came")),
    ] {
        let dial = Late(peer(&[]), Duration::from_secs(late), AtomicUsize::new(0));
        let (sessions, _) = replay(plain(), &Settings { pace, ..verifying() }, dial);
        assert_eq!(sessions[0].end, End::Done, "{late} s: {sessions:?}");
        let verify = &sessions[0].verify[0];
        assert_eq!(verify.held, held, "{late} s: {verify:?}");
        assert!(verify.differences.is_empty() && verify.sent == 235, "{late} s: {verify:?}");
        let said = verify.why.as_deref();
        assert!(
            said.is_some() == why.is_some() && said.unwrap_or("").contains(why.unwrap_or("")),
            "{late} s: {verify:?}"
        );
    }
    // Play is never answered, and nothing relayed.
    let (sessions, _) = replay(plain(), &verifying(), Odd::new(Ways::Sevens));
    let verify = &sessions[0].verify[0];
    let why = "the player's play was not answered within 10s, and no frame came: nothing is compared";
    assert_eq!((verify.held, verify.why.as_deref()), (Some(false), Some(why)));
    assert!(verify.differences.is_empty(), "{verify:?}");
}

/// The reference server, of which some bytes come as others wherever they stand.
struct Altered(Peer, Vec<u8>, Vec<u8>);

impl Dial for Altered {
    fn dial(&self) -> Dialing<'_> {
        Box::pin(async move {
            let (ours, theirs) = pipe::pipe(pipe::CAPACITY);
            let (io, from, to) = (self.0.dial().await?, self.1.clone(), self.2.clone());
            tokio::spawn(async move {
                let (mut peer, mut up) = tokio::io::split(io);
                let (mut client, mut down) = tokio::io::split(theirs);
                let altered = async {
                    let mut buffer = vec![0; 1 << 20];
                    while let Ok(n @ 1..) = peer.read(&mut buffer).await {
                        for at in 0..n {
                            if buffer[at..n].starts_with(&from) {
                                buffer[at..at + to.len()].copy_from_slice(&to);
                            }
                        }
                        let _ = down.write_all(&buffer[..n]).await;
                    }
                };
                tokio::select! { _ = tokio::io::copy(&mut client, &mut up) => {}, () = altered => {} }
            });
            Ok(Box::new(ours) as Box<dyn Io>)
        })
    }
}

#[test]
fn a_sequence_header_that_is_lost_or_changed_is_found() {
    let header = plain().sessions[0]
        .steps
        .iter()
        .find(|s| s.payload.starts_with(&[0x17, 0]))
        .unwrap()
        .payload
        .to_vec();
    let (mut lost, mut changed) = (header.clone(), header.clone());
    // The end of a sequence is no header.
    lost[1] = 2;
    *changed.last_mut().unwrap() ^= 1;
    let all = "62 video frames came without their sequence header, the first is frame 1 (";
    for (to, why) in [(lost, "none had come"), (changed, "changed at byte"), (header.clone(), "")] {
        let (sessions, _) = replay(plain(), &verifying(), Altered(peer(&[]), header.clone(), to));
        let verify = &sessions[0].verify[0];
        assert_eq!((verify.held, verify.came), (Some(why.is_empty()), 235), "{verify:?}");
        let said = verify.why.as_deref().unwrap_or_default();
        assert!(why.is_empty() || (said.starts_with(all) && said.contains(why)), "{verify:?}");
        assert!(verify.differences.iter().all(|d| d.kind == "header" && d.media == "video"), "{verify:?}");
    }
}

#[test]
fn where_nothing_was_published_nothing_is_verified() {
    for (ways, end) in [(Ways::BadName, End::Refused), (Ways::PublishMute, End::Refused)] {
        let (sessions, _) = replay(plain(), &verifying(), Odd::new(ways));
        let verify = &sessions[0].verify[0];
        assert_eq!((sessions[0].end, verify.held, verify.sent), (end, None, 0), "{ways:?}: {sessions:?}");
        assert!(verify.why.as_ref().is_some_and(|why| why.contains("nothing is compared")), "{verify:?}");
    }
}

/// What was on its way when the user ended it is not missing.
#[test]
fn what_an_interrupted_run_left_is_not_compared() {
    let slow = Settings { pace: Pace::Capture(0.1), max_time: Duration::from_secs(10), ..verifying() };
    let (sessions, _) = replay(plain(), &slow, peer(&["relay-late"]));
    let verify = &sessions[0].verify[0];
    assert!(sessions[0].end == End::Late && verify.sent > verify.came, "{sessions:?}");
    assert_eq!((verify.held, verify.differences.len()), (None, 0), "{verify:?}");
}
