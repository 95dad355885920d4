//! Replays in simulated time, over connections in memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rtmp_bench::capture::replay::pace::Pace;
use rtmp_bench::capture::replay::recording::Act;
use rtmp_bench::capture::replay::{Recorded, Settings, Unfit, record, record_within, run};
use rtmp_bench::net::conn::Dial;
use rtmp_bench::net::peer::{AnyFault, Missing, Options, Peer};
use rtmp_bench::record::replay::{End, Session};
use rtmp_bench::wire::amf0::Value;
use rtmp_bench::wire::amf3;
use rtmp_bench::wire::message::{Command, Encoding, Message, UserControl};
use rtmp_bench::wire::time::Time;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::odd::{NARROW, Odd, Ways};
use crate::recorded::{Conversation, interleaved, status};
use crate::shipped;

fn settings() -> Settings {
    Settings {
        address: "target:1935".into(),
        app: None,
        name: None,
        pace: Pace::Asap,
        loops: 1,
        copies: 1,
        chunk_size: Some(4096),
        verify: false,
        show_secrets: true,
        max_time: Duration::from_secs(600),
        sent: Arc::default(),
    }
}

pub fn verifying() -> Settings {
    Settings { verify: true, ..settings() }
}

/// What became of the sessions, and the simulated time it took.
pub fn replay(
    recorded: Recorded,
    settings: &Settings,
    dial: impl Dial + 'static,
) -> (Vec<Session>, Duration) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (_go_on, interrupt) = watch::channel(false);
        let began = Instant::now();
        let sessions = run(recorded.sessions, settings, Arc::new(dial), interrupt).await;
        (sessions, began.elapsed())
    })
}

pub fn read(path: &Path) -> Recorded {
    record(path, None).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A recording of these bytes.
fn of_bytes(bytes: &[u8]) -> Recorded {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("capture");
    std::fs::write(&path, bytes).expect("written");
    read(&path)
}

pub fn plain() -> Recorded {
    read(&shipped("loc-ffmpeg-publish.pcapng"))
}

pub fn peer(faults: &[&str]) -> Peer {
    let mut options = Options::default();
    for fault in faults {
        options.add(fault.parse::<AnyFault>().expect("a fault's name"));
    }
    Peer::new(options)
}

#[test]
fn what_was_sent_so_far_is_counted() {
    let settings = settings();
    let (sessions, _) = replay(plain(), &settings, peer(&[]));
    let messages = &sessions[0].sent.messages;
    let video = messages[&9];
    let counted = settings.sent.load(std::sync::atomic::Ordering::Relaxed);
    assert!((video..=messages.values().sum()).contains(&counted), "{counted}: {messages:?}");
}

#[test]
fn ids_are_those_of_the_target() {
    let odd = Odd::new(Ways::Sevens);
    let recorded = of_bytes(&Conversation::rich().frames(2, 3, 10, 40).pcap());
    let named = Settings { name: Some("other?k=1".into()), app: Some("app2".into()), ..settings() };
    let (sessions, _) = replay(recorded, &named, odd.clone());
    let session = &sessions[0];
    assert_eq!(session.end, End::Done, "{session:?}");
    assert_eq!(session.streams.iter().map(|m| (m.recorded, m.target)).collect::<Vec<_>>(), [(1, 7), (2, 14)]);
    assert_eq!(session.calls.iter().map(|m| (m.recorded, m.target)).collect::<Vec<_>>(), [(5.0, 50.0)]);
    let got = odd.messages();
    let command = |name: &str| {
        let found = got.iter().find_map(|(msid, _, m)| match m {
            Message::Command(c) if c.name == name => Some((*msid, c.clone())),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("{name} did not come: {got:?}"))
    };
    let (_, connect) = command("connect");
    let field = |name| connect.args[0].get(name).and_then(Value::as_text).map(ToString::to_string);
    assert_eq!((field("app"), field("tcUrl")), (Some("app2".into()), Some("rtmp://target:1935/app2".into())));
    let (msid, publish) = command("publish");
    assert_eq!((msid, &publish.args[1]), (14, &"other?k=1".into()));
    assert_eq!(command("deleteStream").1.args[1], Value::Number(7.0));
    assert_eq!(command("_result").1.transaction_id, Some(50.0));
    let buffer = Message::UserControl(UserControl::SetBufferLength { msid: 7, ms: 500 });
    assert!(got.iter().any(|(_, _, m)| *m == buffer), "{got:?}");
    assert!(!got.iter().any(|(_, _, m)| matches!(m, Message::Acknowledgement(4000))), "{got:?}");
    let video: Vec<_> = got.iter().filter(|(_, _, m)| matches!(m, Message::Video(_))).collect();
    assert_eq!(
        video.iter().map(|(msid, ts, _)| (*msid, *ts)).collect::<Vec<_>>(),
        [(14, 0), (14, 40), (14, 80)]
    );
}

/// Who does not wait for the answer to createStream guesses the stream's id.
#[test]
fn a_stream_that_is_used_before_its_answer_is_mapped_once() {
    let mut c = Conversation::connected();
    c.client(0, 0, &Message::command("createStream", 2.0, vec![Value::Null]));
    c.client(1, 0, &Message::command("publish", 3.0, vec![Value::Null, "cam".into()]));
    c.server(0, &Message::command("_result", 2.0, vec![Value::Null, Value::Number(1.0)]));
    c.server(1, &Message::command("onStatus", 0.0, vec![Value::Null, status("NetStream.Publish.Start")]));
    let (sessions, _) = replay(of_bytes(&c.pcap()), &settings(), Odd::new(Ways::Sevens));
    let mapped: Vec<_> = sessions[0].streams.iter().map(|m| (m.recorded, m.target)).collect();
    assert_eq!((sessions[0].end, mapped), (End::Done, vec![(1, 7)]));
}

#[test]
fn a_dump_of_the_clients_bytes_is_replayed_by_its_meaning() {
    let odd = Odd::new(Ways::Sevens);
    let recorded = of_bytes(&Conversation::rich().frames(2, 3, 10, 40).client_bytes());
    assert!(recorded.untimed);
    let (sessions, took) = replay(recorded, &Settings { pace: Pace::Media, ..settings() }, odd.clone());
    assert_eq!(sessions[0].end, End::Done, "{sessions:?}");
    let on = odd
        .messages()
        .iter()
        .filter(|(_, _, m)| matches!(m, Message::Video(_)))
        .map(|m| m.0)
        .collect::<Vec<_>>();
    assert_eq!(on.len(), 3);
    assert!(on.iter().all(|msid| [7, 14].contains(msid)), "{on:?}");
    assert!(took >= Duration::from_millis(80), "{took:?}");
    let dump = read(&shipped("loc-rtmpdump-live-play-client.bin"));
    let (sessions, _) = replay(dump, &settings(), peer(&[]));
    assert_eq!(sessions[0].end, End::Done, "{sessions:?}");
    assert!(sessions[0].notes.iter().any(|n| n.contains("235 acknowledgements")), "{sessions:?}");
}

#[test]
fn rounds_go_on_in_time() {
    let odd = Odd::new(Ways::Sevens);
    let recorded = || of_bytes(&Conversation::rich().frames(2, 3, 10, 40).pcap());
    replay(recorded(), &Settings { loops: 3, ..settings() }, odd.clone());
    let times: Vec<u32> =
        odd.messages().iter().filter(|(_, _, m)| matches!(m, Message::Video(_))).map(|m| m.1).collect();
    assert_eq!(times, [0, 40, 80, 120, 160, 200, 240, 280, 320]);
    // At the media's own pace nine frames last as long as their timestamps say.
    let (_, took) =
        replay(recorded(), &Settings { loops: 3, pace: Pace::Media, ..settings() }, Odd::new(Ways::Sevens));
    assert!(took >= Duration::from_millis(320), "{took:?}");
    let (sessions, _) = replay(plain(), &Settings { loops: 2, ..verifying() }, peer(&[]));
    let verify = &sessions[0].verify[0];
    assert!(verify.held == Some(true) && verify.sent == 2 * 235, "{verify:?}");
    // Header and frames at far times, audio and video.
    let far = read(&shipped("loc-exttimestamp-chunk128-ffmpeg-publish.pcapng"));
    let (sessions, _) = replay(far, &Settings { loops: 3, ..verifying() }, peer(&[]));
    assert!(
        sessions[0].verify[0].held == Some(true) && sessions[0].verify[0].sent == 3 * 177,
        "{sessions:?}"
    );
}

#[test]
fn copies_have_names_of_their_own() {
    let (sessions, _) = replay(plain(), &Settings { copies: 3, ..verifying() }, peer(&[]));
    let names: Vec<_> = sessions.iter().map(|s| s.names[0].target.as_str()).collect();
    assert_eq!(names, ["cam1-1", "cam1-2", "cam1-3"]);
    assert!(
        sessions.iter().all(|s| s.verify[0].held == Some(true) && s.verify[0].came == 235),
        "{sessions:?}"
    );
    let token = read(&shipped("loc-ffmpeg-publish-token.pcapng"));
    let (sessions, _) = replay(token, &Settings { copies: 2, ..settings() }, peer(&[]));
    let name = sessions[1].names[0].target.as_str();
    assert_eq!(name, "cam2-2?token=s3cr%20et&expires=1700000000&sign=a%2Fb%3D%3D");
    // Two names in one capture stay two under one name of the user's.
    let several = read(&shipped("loc-rejected-and-aborted.pcapng"));
    let (sessions, _) = replay(several, &Settings { name: Some("x".into()), ..settings() }, peer(&[]));
    let names: Vec<_> = sessions.iter().flat_map(|s| s.names.iter().map(|n| n.target.as_str())).collect();
    assert_eq!(names, ["x", "x", "x-2", "x-3"]);
}

#[test]
fn paces() {
    let (_, asap) = replay(plain(), &settings(), peer(&[]));
    let paced = |pace| replay(plain(), &Settings { pace, ..settings() }, peer(&[])).1;
    let (capture, double, media) = (paced(Pace::Capture(1.0)), paced(Pace::Capture(2.0)), paced(Pace::Media));
    // Four seconds of media.
    assert!(asap <= Duration::from_secs(2), "{asap:?}");
    assert!((3500..5500).contains(&capture.as_millis()), "{capture:?}");
    assert!((1750..3000).contains(&double.as_millis()), "{double:?}");
    assert!((3500..5500).contains(&media.as_millis()), "{media:?}");
}

#[test]
fn chunk_sizes_are_ours_or_the_recorded_ones() {
    for (chunk_size, want) in [(Some(4096), vec![4096]), (Some(1), vec![1]), (None, vec![128])] {
        let odd = Odd::new(Ways::Sevens);
        let recorded = read(&shipped("loc-gst-rtmp2sink-publish.pcap"));
        replay(recorded, &Settings { chunk_size, ..settings() }, odd.clone());
        let sizes: Vec<u32> = odd
            .messages()
            .iter()
            .filter_map(|(_, _, m)| if let Message::SetChunkSize(n) = m { Some(*n) } else { None })
            .collect();
        assert_eq!(sizes, want);
        assert_eq!(odd.messages().iter().filter(|(_, _, m)| matches!(m, Message::Video(_))).count(), 92);
    }
}

#[test]
fn hostile_targets_end_a_replay_within_bounds() {
    for (ways, end, why) in [
        (Ways::Silent, End::Unreachable, "no handshake within"),
        (Ways::ClosesEarly, End::Closed, "closed the connection"),
        (Ways::Encrypted, End::Refused, "version 6: RTMPE is not spoken"),
        (Ways::Mute, End::Refused, "connect was not answered within"),
        (Ways::ClosesAtConnect, End::Closed, "closed the connection"),
        (Ways::Refuses, End::Refused, "connect was refused: _error NetConnection.Connect.Rejected"),
        (Ways::BadName, End::Refused, "publish was refused: onStatus NetStream.Publish.BadName"),
        (Ways::ClosesAtMedia, End::Closed, "the connection broke"),
        (Ways::Garbage, End::Closed, "cannot be read"),
        (Ways::StopsReading, End::Refused, "connect was not answered within"),
        (Ways::Floods, End::Refused, "connect was not answered within"),
    ] {
        let odd = Odd::new(ways);
        let (sessions, took) = replay(plain(), &settings(), odd);
        let session = &sessions[0];
        assert_eq!(session.end, end, "{ways:?}: {session:?}");
        assert!(session.why.as_ref().is_some_and(|w| w.contains(why)), "{ways:?}: {session:?}");
        assert!(took < Duration::from_secs(30), "{ways:?}: {took:?}");
        let (sessions, took) = replay(plain(), &verifying(), Odd::new(ways));
        assert!(sessions[0].is_found() && took < Duration::from_secs(60), "{ways:?}: {took:?}, {sessions:?}");
    }
}

#[test]
fn what_is_answered_otherwise_is_told() {
    let (sessions, _) = replay(plain(), &settings(), peer(&[]));
    let told: Vec<String> = sessions[0]
        .departures
        .iter()
        .map(|d| format!("{} {} {}", d.kind, d.about, d.recorded.as_ref().or(d.came.as_ref()).unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            "added releaseStream(2) _result",
            "added FCPublish(3) _result",
            "added FCUnpublish(6) _result",
            "missing status onStatus NetStream.Unpublish.Success",
        ]
    );
}

#[test]
fn what_the_recording_lacks_is_not_called_another_answer() {
    let replayed = |capture: &[u8]| {
        let (sessions, _) = replay(of_bytes(capture), &settings(), peer(&[]));
        assert_eq!(sessions[0].end, End::Done, "{sessions:?}");
        let told = sessions[0].departures.iter().map(|d| format!("{} {}", d.kind, d.about));
        (told.collect::<Vec<_>>().join(", "), sessions[0].notes.join("; "))
    };
    let call = Message::command("FCUnpublish", 4.0, vec![Value::Null, "cam".into()]);
    // What stands before a hole is compared, what stands behind it is not: publish is answered in the hole.
    let mut c = Conversation::connected();
    c.server(0, &Message::command("onStatus", 0.0, vec![Value::Null, status("NetConnection.Odd")]));
    do_on_a_stream(&mut c, "publish", "NetStream.Publish.Start");
    c.client(0, 0, &call);
    c.server(0, &Message::command("_result", 4.0, vec![Value::Null]));
    let (told, notes) = replayed(&c.ended().without(3));
    assert_eq!(told, "missing status");
    let aside =
        "bytes are missing (capture drop)): FCUnpublish(4) _result, status onStatus NetStream.Publish.Start";
    assert!(notes.contains(aside), "{notes}");
    // A call is open when the capture ends, or stays without an answer until the connection does.
    let unanswered = || {
        let mut c = on_a_stream("publish", "NetStream.Publish.Start");
        c.client(0, 0, &call);
        c
    };
    let (told, notes) = replayed(&unanswered().pcap());
    assert_eq!(told, "");
    assert!(notes.contains("ends while the connection is open): FCUnpublish(4) _result"), "{notes}");
    let (told, notes) = replayed(&unanswered().ended().pcap());
    assert_eq!((told.as_str(), notes.contains("not compared")), ("added FCUnpublish(4)", false), "{notes}");
}

#[test]
fn the_run_ends_when_its_time_is_up_or_the_user_says_so() {
    let slow = Settings { pace: Pace::Capture(0.001), max_time: Duration::from_secs(20), ..verifying() };
    let (sessions, took) = replay(plain(), &slow, peer(&[]));
    assert_eq!(sessions[0].end, End::Late, "{sessions:?}");
    assert!(took < Duration::from_secs(30), "{took:?}");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let sessions = runtime.block_on(async {
        let (stop, interrupt) = watch::channel(false);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(2)).await;
            stop.send_replace(true);
            std::future::pending::<()>().await;
        });
        let both = read(&shipped("loc-rejected-and-aborted.pcapng")).sessions;
        let settings = Settings { pace: Pace::Capture(1.0), ..settings() };
        run(both, &settings, Arc::new(peer(&[])), interrupt).await
    });
    let [first, others @ ..] = &sessions[..] else { panic!("no session") };
    assert_eq!((first.end, others.len()), (End::Interrupted, 4), "{sessions:?}");
    assert!(first.sent.frames > 0 && others.iter().all(|s| s.end != End::Done || s.sent.bytes > 0));
}

#[test]
fn a_player_is_played_to() {
    let mut both = read(&shipped("loc-gst-rtmp2src-play.pcapng"));
    let mut publish = plain().sessions.remove(0);
    // As if the publisher had begun when the player was there already.
    let begun = both.sessions[0].span.0 + Duration::from_millis(1);
    both.sessions[0].span.1 = begun + Duration::from_secs(9);
    (publish.span, publish.names) = ((begun, begun + Duration::from_secs(9)), vec!["base.flv".into()]);
    let late = begun.since(publish.steps[0].time);
    let early = publish.steps[0].time.since(begun);
    for step in &mut publish.steps {
        step.time = Time::ZERO + (step.time + late).since(Time::ZERO + early);
        if let Act::Call(command, _) = &mut step.act
            && let Some(Value::String(name)) = command.args.get_mut(1)
            && name == "cam1"
        {
            *name = "base.flv".into();
        }
    }
    both.sessions.push(publish);
    let named = Settings { app: Some("live".into()), name: Some("cam".into()), ..settings() };
    let (sessions, _) = replay(both, &named, peer(&[]));
    assert_eq!((sessions[0].end, sessions[1].end), (End::Done, End::Done));
    assert_eq!(sessions[0].received.frames, 235, "{sessions:?}");
}

#[test]
fn more_than_is_kept_is_refused_with_its_reason() {
    let path = shipped("loc-ffmpeg-publish.pcapng");
    assert_eq!(record_within(&path, None, 200_000).map(|r| r.sessions.len()).ok(), Some(1));
    match record_within(&path, None, 60_000) {
        Err(e @ Unfit::TooMuch { most: 60_000 }) => {
            assert!(
                e.to_string().contains("choose one of several with --session, or cut the capture"),
                "{e}"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_are_replaced_in_every_command_and_in_amf3() {
    let text3 = |text: &str| Value::Amf3(amf3::Value::String(text.into()));
    let mut c = Conversation::connected();
    let mut call = |name: &str, id: f64, encoding: Encoding, args: Vec<Value>| {
        let args = [vec![Value::Null], args].concat();
        let command = Command { encoding, name: name.into(), transaction_id: Some(id), args };
        c.client(u32::from(id > 4.0), 0, &Message::Command(command));
        if name == "createStream" {
            c.server(0, &Message::command("_result", id, vec![Value::Null, Value::Number(1.0)]));
        }
    };
    use Encoding::{Amf0, Amf3};
    call("releaseStream", 2.0, Amf3, vec![text3("cam?k=1")]);
    call("FCPublish", 3.0, Amf0, vec!["cam".into()]);
    call("createStream", 4.0, Amf3, vec![]);
    call("getStreamLength", 5.0, Amf3, vec![text3("cam")]);
    call("play", 6.0, Amf3, vec![text3("old"), Value::Amf3(amf3::Value::Integer(-1))]);
    let options =
        [("oldStreamName", "old".into()), ("streamName", "cam".into()), ("transition", "switch".into())];
    call("play2", 7.0, Amf0, vec![Value::object(options)]);
    let sealed = vec![("streamName".into(), amf3::Value::String("old".into()))];
    let options = amf3::Object { class: "flash.net.NetStreamPlayOptions".into(), sealed, dynamic: None };
    call("play2", 8.0, Amf3, vec![Value::Amf3(amf3::Value::Object(Box::new(options)))]);
    call("closeStream", 9.0, Amf3, vec![Value::Amf3(amf3::Value::Integer(1))]);
    call("FCUnpublish", 10.0, Amf3, vec![text3("cam")]);
    call("deleteStream", 11.0, Amf3, vec![Value::Amf3(amf3::Value::Double(1.0))]);
    let odd = Odd::new(Ways::Sevens);
    let named = Settings { name: Some("new?q=2".into()), ..settings() };
    replay(of_bytes(&c.pcap()), &named, odd.clone());
    let got: Vec<String> = odd
        .messages()
        .iter()
        .filter_map(|(_, _, m)| if let Message::Command(c) = m { Some(c.clone()) } else { None })
        .skip(1)
        .map(|c| {
            let said = match c.args.get(1) {
                Some(Value::Amf3(amf3::Value::Object(o))) => format!("{:?}", o.sealed[0].1),
                Some(o @ Value::Object(_)) => {
                    format!("{:?} {:?}", o.get("oldStreamName"), o.get("streamName"))
                }
                Some(v) => v.as_text().map_or_else(|| format!("{:?}", v.as_number()), |t| t.to_string()),
                None => String::new(),
            };
            format!("{:?} {} {said}", c.encoding, c.name)
        })
        .collect();
    assert_eq!(
        got,
        [
            "Amf3 releaseStream new?q=2",
            "Amf0 FCPublish new?q=2",
            "Amf3 createStream ",
            "Amf3 getStreamLength new?q=2",
            "Amf3 play new-2?q=2",
            r#"Amf0 play2 Some(String("new-2?q=2")) Some(String("new?q=2"))"#,
            r#"Amf3 play2 String("new-2?q=2")"#,
            "Amf3 closeStream Some(7.0)",
            "Amf3 FCUnpublish new?q=2",
            "Amf3 deleteStream Some(7.0)",
        ]
    );
}

/// What the recorded server said of what stands behind a hole is no difference.
#[test]
fn behind_a_hole_nothing_is_missed() {
    let mut c = Conversation::rich().frames(2, 6, 50, 40);
    c.client(0, 0, &Message::command("deleteStream", 6.0, vec![Value::Null, Value::Number(2.0)]));
    c.server(2, &Message::command("onStatus", 0.0, vec![Value::Null, status("NetStream.Unpublish.Success")]));
    let (sessions, _) = replay(of_bytes(&c.without(3)), &settings(), peer(&[]));
    assert_eq!(sessions[0].sent.frames, 4, "{sessions:?}");
    let about: Vec<_> = sessions[0].departures.iter().map(|d| (&d.kind[..], &d.about[..])).collect();
    assert!(!about.iter().any(|(_, about)| *about == "status"), "{:?}", sessions[0].departures);
}

/// The same name twice on one connection: a player hears both.
#[test]
fn a_name_that_is_published_again_is_compared_once() {
    let mut c = Conversation::connected();
    for (id, msid) in [(2.0, 1), (5.0, 1), (8.0, 2)] {
        c.client(0, 0, &Message::command("createStream", id, vec![Value::Null]));
        let created = vec![Value::Null, Value::Number(f64::from(msid))];
        c.server(0, &Message::command("_result", id, created));
        let publish = vec![Value::Null, "cam".into(), "live".into()];
        c.client(msid, 0, &Message::command("publish", id + 1.0, publish));
        c.server(
            msid,
            &Message::command("onStatus", 0.0, vec![Value::Null, status("NetStream.Publish.Start")]),
        );
        c = c.frames(msid, 5, 50 + id as usize, 40);
        let stream = vec![Value::Null, Value::Number(f64::from(msid))];
        c.client(0, 0, &Message::command("deleteStream", id + 2.0, stream));
    }
    for pace in [Pace::Asap, Pace::Media] {
        let (sessions, _) = replay(of_bytes(&c.pcap()), &Settings { pace, ..verifying() }, peer(&[]));
        let told: Vec<_> = sessions[0].verify.iter().map(|v| (v.sent, v.came, v.held, &v.why)).collect();
        assert_eq!(told, [(15, 15, Some(true), &None)], "{pace}");
    }
}

#[test]
fn a_players_later_commands_wait_for_the_media_that_stood_before_them() {
    let mut c = Conversation::connected();
    c.client(0, 0, &Message::command("createStream", 2.0, vec![Value::Null]));
    c.server(0, &Message::command("_result", 2.0, vec![Value::Null, Value::Number(1.0)]));
    c.client(1, 0, &Message::command("play", 3.0, vec![Value::Null, "cam".into()]));
    c.server(1, &Message::command("onStatus", 0.0, vec![Value::Null, status("NetStream.Play.Start")]));
    (0..3).for_each(|_| c.server(1, &Message::Video(vec![0x17, 1, 0, 0, 0].into())));
    c.client(
        1,
        0,
        &Message::command("pause", 4.0, vec![Value::Null, Value::Boolean(true), Value::Number(0.0)]),
    );
    (0..2).for_each(|_| c.server(1, &Message::Video(vec![0x17, 1, 0, 0, 0].into())));
    c.client(1, 0, &Message::command("closeStream", 0.0, vec![Value::Null]));
    for pace in [Pace::Asap, Pace::Media] {
        let odd = Odd::new(Ways::PlaysSlowly);
        let (sessions, _) = replay(of_bytes(&c.pcap()), &Settings { pace, ..settings() }, odd.clone());
        assert_eq!(sessions[0].end, End::Done, "{sessions:?}");
        let before = |name: &str| odd.played_before(name);
        assert_eq!(
            (before("play"), before("pause"), before("closeStream")),
            (Some(0), Some(3), Some(5)),
            "{pace}"
        );
    }
    // A target that sends less is not waited for without end.
    let (sessions, took) = replay(of_bytes(&c.pcap()), &settings(), Odd::new(Ways::Sevens));
    assert!(took < Duration::from_secs(20), "{took:?}, {sessions:?}");
}

/// A client with one stream that does this on it.
fn on_a_stream(command: &str, code: &str) -> Conversation {
    let mut c = Conversation::connected();
    do_on_a_stream(&mut c, command, code);
    c
}

fn do_on_a_stream(c: &mut Conversation, command: &str, code: &str) {
    c.client(0, 0, &Message::command("createStream", 2.0, vec![Value::Null]));
    c.server(0, &Message::command("_result", 2.0, vec![Value::Null, Value::Number(1.0)]));
    c.client(1, 0, &Message::command(command, 3.0, vec![Value::Null, "cam".into()]));
    c.server(1, &Message::command("onStatus", 0.0, vec![Value::Null, status(code)]));
}

/// A publisher of three times three frames. Between the first two a player comes, whom the next three are sent, and who leaves without a word;
/// when all is published another one comes and is refused.
fn publisher_and_players() -> Vec<u8> {
    let video = |n: u8| Message::Video(vec![0x17, 1, 0, 0, 0, n].into());
    let mut publisher = on_a_stream("publish", "NetStream.Publish.Start");
    let mut ends = vec![];
    for third in 0..3 {
        (0..3).for_each(|n| publisher.client(1, third * 120 + u32::from(n) * 40, &video(n)));
        ends.push(publisher.len());
    }
    publisher.client(1, 0, &Message::command("closeStream", 0.0, vec![Value::Null]));
    let closed = publisher.len();
    publisher.client(0, 0, &Message::command("note", 0.0, vec![Value::Null]));
    let mut player = on_a_stream("play", "NetStream.Play.Start");
    let asked = player.len();
    (0..3).for_each(|n| player.server(1, &video(n)));
    let late = on_a_stream("play", "NetStream.Play.StreamNotFound");
    interleaved(&[
        (0, &publisher, 0..ends[0]),
        (1, &player, 0..asked),
        (0, &publisher, ends[0]..ends[1]),
        (1, &player, asked..player.len()),
        (0, &publisher, ends[1]..closed),
        (2, &late, 0..late.len()),
        (0, &publisher, closed..publisher.len()),
    ])
}

#[test]
fn sessions_keep_their_order() {
    let paces = [Pace::Asap, Pace::Media, Pace::Capture(1.0), Pace::Capture(1000.0)];
    let commands = ["publish", "play", "closeStream", "note", "onStatus"];
    // Players are answered at once, after a while, and not at all.
    let ways = [(Ways::PlaysSlowly, ""), (Ways::AnswersPlayLate, " onStatus"), (Ways::Sevens, "")];
    for (pace, (ways, answer)) in paces.into_iter().flat_map(|p| ways.map(|w| (p, w))) {
        let odd = Odd::new(ways);
        let settings = Settings { pace, ..settings() };
        let (sessions, took) = replay(of_bytes(&publisher_and_players()), &settings, odd.clone());
        assert!(sessions.iter().all(|s| s.end == End::Done), "{pace} {ways:?}: {sessions:?}");
        assert!(took < Duration::from_secs(60), "{pace} {ways:?}: {took:?}");
        let said = odd.messages().into_iter().filter_map(|(_, _, message)| match message {
            Message::Video(_) => Some("frame".to_owned()),
            Message::Command(c) => commands.contains(&&*c.name.to_string()).then(|| c.name.to_string()),
            _ => None,
        });
        let want = format!(
            "publish frame frame frame play{answer} frame frame frame frame frame frame closeStream play{answer} note"
        );
        assert_eq!(said.collect::<Vec<_>>().join(" "), want, "{pace} {ways:?}");
    }
    let options = Options { missing: Missing::Refuse, ..Options::default() };
    for pace in paces {
        let (sessions, _) = replay(
            of_bytes(&publisher_and_players()),
            &Settings { pace, ..settings() },
            Peer::new(options.clone()),
        );
        let [_, player, late] = &sessions[..] else { panic!("{sessions:?}") };
        assert!(player.received.frames > 0 && late.end == End::Done, "{pace}: {sessions:?}");
        // None of what follows from another order: no media, the publisher's end, a stream that is there.
        let told = sessions.iter().flat_map(|s| &s.departures).map(|d| format!("{d:?}"));
        let wrong = |d: &String| ["media", "Unpublish", "NotFound"].iter().any(|word| d.contains(word));
        assert_eq!(told.filter(wrong).collect::<Vec<_>>(), [""; 0], "{pace}");
    }
}

#[test]
fn acknowledgements_and_pings_are_those_of_the_target() {
    let odd = Odd::new(Ways::Asks);
    let recorded = of_bytes(&Conversation::rich().frames(2, 3, 10, 40).pcap());
    replay(recorded, &settings(), odd.clone());
    let got = odd.messages();
    let said: Vec<_> = got.iter().map(|(_, _, m)| m).collect();
    assert!(said.contains(&&Message::UserControl(UserControl::PingResponse(77))), "{said:?}");
    let acks: Vec<u32> = said
        .iter()
        .filter_map(|m| if let Message::Acknowledgement(n) = m { Some(*n) } else { None })
        .collect();
    // The recorded client acknowledged 4000 bytes; here the handshake and a few answers came.
    assert!(!acks.is_empty() && acks.iter().all(|n| (3073..3900).contains(n)), "{acks:?}");
}

#[test]
fn no_more_is_unacknowledged_than_the_target_asks() {
    let note =
        |s: &Session| s.notes.iter().any(|n| n.starts_with("not heeded: the target's Set Peer Bandwidth"));
    let odd = Odd::new(Ways::Narrow { acks: true });
    let (sessions, took) = replay(plain(), &settings(), odd.clone());
    assert!(sessions[0].end == End::Done && !note(&sessions[0]), "{sessions:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    // One that says how much and acknowledges nothing gets so much, and after a while the rest.
    let odd = Odd::new(Ways::Narrow { acks: false });
    let (sessions, took) = replay(plain(), &settings(), odd.clone());
    assert!(sessions[0].end == End::Done && note(&sessions[0]), "{sessions:?}");
    assert!((3..10).contains(&took.as_secs()), "{took:?}");
    let early = odd.received_within(Duration::from_secs(2));
    assert!((NARROW..NARROW + 10_000).contains(&early), "{early} bytes came at once");
    assert!(odd.messages().iter().filter(|(_, _, m)| matches!(m, Message::Audio(_))).count() == 174);
}
