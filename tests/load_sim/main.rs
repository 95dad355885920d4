//! The load path in simulated time: everything of it but the sockets, against the reference server through pipes. What the report says is
//! held against exact arithmetic.

mod hostile;
mod lab;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rtmp_bench::load::Found;
use rtmp_bench::load::media::{Media, Shape};
use rtmp_bench::load::plan::{Plan, Slow};
use rtmp_bench::load::slo::{Slo, judge, with_defaults};
use rtmp_bench::net::conn::{Conn, Dial, Origin};
use rtmp_bench::net::peer::{Options, Peer};
use rtmp_bench::record::load::Load;
use rtmp_bench::wire::flv;
use rtmp_bench::wire::message::Message;
use rtmp_bench::wire::sample;
use rtmp_bench::wire::session::{Config, Fields, Goal};
use tokio::time::{Instant, sleep, sleep_until};

use hostile::{Deaf, Late};
use lab::{
    SAID, SECOND, Watched, against, frames_in, histogram, judged, peer, plan, run, sent, stopped, until, up,
};

#[test]
fn players_come_and_go_as_the_stages_say() {
    let (found, _) = run(plan(2, &[(4, 20), (2, 20), (3, 5), (0, 5)]), &[]);
    // The first player comes when the publishers have, 2 ms behind the start: so does all else.
    assert_eq!(up(&found)[..9], [7, 12, 17, 22, 22, 22, 18, 13, 8]);
    assert_eq!((found.load.sessions.started, found.load.sessions.ended), (22, 22));
    let frames = &found.load.frames;
    assert!(frames.lost == Some(0) && frames.received == frames.expected + frames.join_burst, "{frames:?}");
}

#[test]
fn new_sessions_keep_to_the_rate_and_hold_counts_from_the_end_of_the_ramp() {
    let rated = Plan { rate: 10, ..plan(10, &[(0, 25), (2, 25)]) };
    let (found, lives) = run(rated, &[]);
    for (i, (opened, _)) in lives.iter().enumerate() {
        assert_eq!(*opened, SECOND * i as u32 / 10, "{i}");
    }
    let attempted: Vec<u64> = found.load.intervals.iter().map(|row| row.attempted).collect();
    assert_eq!(attempted[..4], [10, 10, 10, 5]);
    // Publishers fall silent at 1 s + 2.5 s + 2 s, each having begun a tenth of a second behind the one before.
    let sent: u64 = (0..10).map(|i| frames_in(SECOND * 55 / 10 - SECOND * i / 10)).sum();
    assert_eq!(found.load.frames.sent, sent);
}

#[test]
fn publishers_fall_silent_first_and_close_last() {
    // What was sent is 200 ms on its way: players wait for it.
    let (found, lives) = run(plan(1, &[(0, 3), (2, 3)]), &["relay-late"]);
    let silence = SECOND * 2 + Duration::from_millis(4);
    let closed: Vec<Duration> = lives.iter().map(|life| life.1.expect("closed")).collect();
    for player in &closed[1..] {
        let drained = *player - silence;
        assert!((150..250).contains(&drained.as_millis()), "{drained:?}");
        assert!(closed[0] >= *player && closed[0] < *player + SECOND / 10, "{closed:?}");
    }
    assert_eq!((found.load.frames.lost, found.load.sessions.ended), (Some(0), 4));
    assert_eq!(found.load.frames.sent, frames_in(silence));
}

#[test]
fn promises_are_judged_by_what_was_measured() {
    let (found, _) = run(plan(1, &[(1, 4), (2, 4)]), &["relay-late"]);
    assert!(!judged(&found, "frame.p99 < 100ms").0);
    let (held, value) = judged(&found, "frame.p99 < 210ms");
    assert!(held && (200_000.0..202_000.0).contains(&value), "{value}");
    assert_eq!(judged(&found, "lost = 0"), (true, 0.0));
    let (found, _) = run(plan(1, &[(0, 2), (3, 2)]), &["relay-drops"]);
    let (held, lost) = judged(&found, "lost = 0");
    let expected = found.load.frames.expected as f64;
    assert!(!held && (lost - expected / 7.0).abs() <= 2.0, "{lost} of {expected}");
}

#[test]
fn a_second_in_which_we_were_late_keeps_and_misses_no_promise() {
    // We, not the server, get no time for so long, at 2.2 s.
    let held_up = |time| {
        let stop = async move {
            sleep(SECOND * 22 / 10).await;
            tokio::time::advance(time).await;
            std::future::pending().await
        };
        until(plan(1, &[(1, 4), (5, 4)]), &[], stop).0
    };
    let judged = |found: &Found, promise: &str, allow_limited| {
        let promises = with_defaults(&[promise.parse().expect("a promise")]);
        let judged = judge(&promises, &plan(1, &[(6, 4)]), found, allow_limited);
        judged.iter().map(|slo| (slo.held, slo.missed(), slo.limited)).collect::<Vec<_>>()
    };
    let (kept, missed, no_answer) =
        ((Some(true), false, false), (Some(false), true, false), (Some(false), false, true));
    let found = held_up(Duration::from_millis(200));
    let limited: Vec<bool> = found.load.intervals.iter().map(|row| row.limited).collect();
    assert_eq!(limited, [false, false, true, false, false, false, false]);
    let generator = &found.load.generator;
    assert!(
        generator.limited && generator.reasons[0].starts_with("in 1 of 7 seconds: own lateness p99 up to ")
    );
    // Neither what was kept nor what was missed is the target's; what is allowed is judged as it was measured.
    assert_eq!(judged(&found, "frame.p50 < 1s", false), [no_answer; 4]);
    assert_eq!(judged(&found, "frame.max < 100ms", false), [no_answer; 4]);
    assert_eq!(judged(&found, "frame.max < 100ms", true), [missed, kept, kept, kept]);
    // What passes unnoticed limits nothing.
    let found = held_up(Duration::from_millis(45));
    assert!(!found.load.generator.limited && found.load.latency["lag"].max_us > 40_000);
    assert_eq!(judged(&found, "frame.max < 100ms", false), [kept; 4]);
}

#[test]
fn a_stall_is_charged_in_full() {
    let (found, _) = run(plan(1, &[(0, 1), (8, 1)]), &["relay-stalls"]);
    let late = histogram(&found.load.latency["frame"]);
    // Frames of the stall's first second come between 2 and 1 s late, those of its second one in less.
    for (at_least, planned_in) in [(1_000_000, SECOND), (500_000, SECOND * 3 / 2), (20_000, SECOND * 99 / 50)]
    {
        let share = late.count_between(at_least, late.max());
        assert!(share.abs_diff(frames_in(planned_in)) <= 1, "{share} frames were {at_least} us late");
    }
    assert!((1_990_000..=2_002_000).contains(&late.max()), "{}", late.max());
    let frames = &found.load.frames;
    assert_eq!((late.len(), frames.lost), (frames.expected, Some(0)));
    let oldest = found.load.intervals.iter().filter_map(|row| row.oldest_outstanding_us).max();
    assert!(oldest.is_some_and(|us| us > 900_000), "{oldest:?}");
}

#[test]
fn a_run_that_is_stopped_drains_and_reports() {
    // Between two frames: nothing that comes would wake a player.
    let stop = SECOND * 3 + Duration::from_millis(12);
    let (found, lives) = stopped(plan(1, &[(0, 2), (60, 2)]), &[], stop);
    assert!(found.interrupted);
    assert_eq!((found.load.sessions.ended, found.load.frames.lost), (3, Some(0)));
    assert_eq!(found.load.frames.sent, frames_in(stop));
    let last = lives.iter().filter_map(|life| life.1).max().expect("closed");
    assert!(last < SECOND * 4, "{last:?}");
}

#[test]
fn sweeps_read_when_the_tick_comes_round() {
    // More than read one behind the other.
    let swept = Plan { tick: Some(SECOND / 10), ..plan(1, &[(0, 70), (4, 70)]) };
    let (found, _) = run(swept, &[]);
    let frame = histogram(&found.load.latency["frame"]);
    assert!(frame.len() == found.load.frames.expected && frame.max() <= 102_000, "{}", frame.max());
    assert!((40_000.0..60_000.0).contains(&frame.mean()), "{}", frame.mean());
    assert_eq!(found.load.plan.read_mode, "sweep");
}

#[test]
fn a_target_that_says_nothing_costs_a_bounded_time() {
    let (found, lives) = run(plan(2, &[(0, 2), (60, 2)]), &["silent"]);
    let handshake = &found.load.sessions.failed_by_phase["handshake"];
    assert_eq!((handshake.count, found.load.sessions.started), (2, 0));
    for (opened, closed) in &lives {
        assert_eq!(closed.expect("closed") - *opened, SECOND * 10);
    }
}

#[test]
fn the_end_of_the_run_cuts_off_who_is_on_the_way() {
    for (faults, phase, cut_off) in [
        (&["silent"][..], "handshake", &[0, 1][..]),
        (&["no-connect-result"], "connect", &[0, 1]),
        (&["publish-unanswered"], "publish", &[0, 1]),
    ] {
        for (seconds, late) in [(1, 0), (3, 2)] {
            let (found, lives) = run(plan(2, &[(0, 0), (seconds, 0)]), faults);
            let sessions = &found.load.sessions;
            let unfinished = sessions.unfinished_by_phase[phase];
            assert_eq!((unfinished.count, unfinished.late), (2, late), "{phase}: {sessions:?}");
            assert!(unfinished.longest_ms.abs_diff(u64::from(seconds) * 1000) <= 10, "{phase}: {sessions:?}");
            assert_eq!((found.stats.failed(), sessions.ended), (0, 0), "{sessions:?}");
            for i in cut_off {
                assert!(lives[*i].1.expect("closed") < SECOND * seconds + SECOND / 100, "{phase}: {lives:?}");
            }
        }
    }
    // Connections that never open: players of a stream that is there.
    let dial = || Deaf(Peer::new(Options::default()), Mutex::new(0));
    let (found, took) = against(plan(1, &[(0, 4), (3, 4)]), dial, std::future::pending());
    let sessions = &found.load.sessions;
    assert_eq!((sessions.attempted, sessions.started, sessions.ended), (5, 3, 3), "{sessions:?}");
    assert_eq!(sessions.unfinished_by_phase["tcp"].count, 2, "{sessions:?}");
    assert!(took < SECOND * 3 + SECOND / 10, "{took:?}");
    // Nobody knows whether they failed; a promise is not kept by it.
    assert_eq!(judged(&found, "failed = 0"), (false, 2.0));
    assert_eq!(judged(&found, "failed < 41%"), (true, 40.0));
}

#[test]
fn who_waits_long_in_all_has_waited_long() {
    let mut options = Options::default();
    options.add("no-connect-result".parse().expect("a fault"));
    let dial = || Late(Peer::new(options));
    let (found, _) = against(plan(2, &[(0, 0), (3, 0)]), dial, std::future::pending());
    let unfinished = found.load.sessions.unfinished_by_phase["connect"];
    assert_eq!((unfinished.count, unfinished.late), (2, 2), "{unfinished:?}");
    assert_eq!(judged(&found, "failed = 0"), (false, 2.0));
}

#[test]
fn players_of_others_streams_end_on_time_whether_or_not_anything_came() {
    let foreign =
        |players, time| Plan { play: Some("theirs".into()), ..plan(0, &[(0, players), (time, players)]) };
    // Nobody publishes it. What is too short to say is in no percentage, and of nothing but that there is no data.
    let (found, lives) = run(foreign(3, 1), &[]);
    let sessions = &found.load.sessions;
    assert_eq!((sessions.started, sessions.ended, found.stats.failed()), (3, 0, 0), "{sessions:?}");
    assert_eq!(sessions.unfinished_by_phase["first_frame"].count, 3, "{sessions:?}");
    let slo = "failed = 0".parse::<Slo>().expect("a promise").judge(&foreign(3, 1), &found.stats);
    assert!(slo.missed() && slo.value.is_none(), "{slo:?}");
    assert!(lives.iter().all(|life| life.1.expect("closed") < SECOND * 11 / 10), "{lives:?}");
    let (found, _) = run(foreign(3, 4), &[]);
    assert_eq!(judged(&found, "failed = 0"), (false, 3.0), "{:?}", found.load.sessions);
    // That another stream is there excuses nobody.
    let name = Some("s-{i}".parse().expect("a pattern"));
    let ours = Plan { name, play: Some("s-{i}".into()), ..plan(1, &[(0, 3), (6, 3)]) };
    let (found, _) = run(ours, &[]);
    assert_eq!(judged(&found, "failed = 0"), (false, 2.0), "{:?}", found.load.sessions);
    let (found, lives) = run(foreign(3, 20), &[]);
    let sessions = &found.load.sessions;
    assert_eq!((sessions.failed_by_phase["first_frame"].count, sessions.ended), (3, 0), "{sessions:?}");
    assert!(lives.iter().all(|life| life.1.expect("closed") < SECOND * 101 / 10), "{lives:?}");
}

/// Sends sound as a publisher of somebody else would, between these milliseconds of the run.
async fn publish_theirs(peer: &Peer, began: Instant, times: Range<u32>) {
    sleep_until(began + Duration::from_millis(times.start.into())).await;
    let io = peer.dial().await.expect("the server accepts");
    let config = Config { app: "live".into(), name: "theirs".into(), ..Config::default() };
    let conn = Conn::start(io, config, Origin::default());
    conn.pursue(Goal::Publishing);
    for ms in times.step_by(20) {
        sleep_until(began + Duration::from_millis(ms.into())).await;
        let fields = Fields { timestamp: Some(ms), ..Fields::default() };
        conn.write(conn.encode(&Message::Audio(sample::aac_frame(50, 0).into()), fields)).await;
    }
    conn.close();
}

/// Two players, for so long, of a stream that somebody else publishes for ten seconds, coming back once.
fn played(seconds: u32, faults: &[&str]) -> Found {
    let peer = peer(faults);
    let theirs = peer.clone();
    let publisher = async move {
        let began = Instant::now();
        publish_theirs(&theirs, began, 0..4000).await;
        publish_theirs(&theirs, began, 5000..10_000).await;
        std::future::pending::<()>().await;
    };
    let foreign = Plan { play: Some("theirs".into()), ..plan(0, &[(0, 2), (seconds, 2)]) };
    let dial = || Watched::new(peer, Arc::default());
    against(foreign, dial, publisher).0
}

#[test]
fn players_that_get_nothing_more_of_a_stream_of_others_are_told() {
    let found = played(9, &[]);
    assert_eq!(found.load.sessions.silent_by_status, BTreeMap::new());
    assert_eq!(found.load.sessions.ended, 2);
    assert!(found.load.latency["gap"].max_us < 2_000_000);
    for (seconds, faults, word) in [
        // At once where the server says so, and else when it lasts.
        (11, &[][..], Some("NetStream.Play.UnpublishNotify")),
        (30, &[], Some("NetStream.Play.UnpublishNotify")),
        (30, &["relay-stops"], Some("NetStream.Play.UnpublishNotify")),
        (9, &["relay-stops"], Some("nothing")),
        (1, &["relay-stops"], None),
    ] {
        let found = played(seconds, faults);
        let Load { sessions, latency, .. } = &found.load;
        let silent: Vec<_> = sessions.silent_by_status.iter().map(|(word, of)| (&**word, of.count)).collect();
        assert_eq!(silent, Vec::from_iter(word.map(|word| (word, 2))), "{seconds} {faults:?}");
        assert_eq!((sessions.ended, found.stats.failed()), (2, 0), "{sessions:?}");
        // No stall that outlasts the stream is in no gap.
        let longest_ms = sessions.silent_by_status.values().map(|of| of.longest_ms).max().unwrap_or(0);
        assert!(latency["gap"].max_us >= longest_ms * 1000, "{latency:?}");
        assert!(longest_ms >= u64::from(seconds.saturating_sub(10) * 1000), "{longest_ms}");
    }
}

#[test]
fn churn_keeps_the_number_and_loses_nothing() {
    let churned = Plan { churn: Some(SECOND / 4), ..plan(2, &[(0, 8), (6, 8)]) };
    let (found, lives) = run(churned, &[]);
    // One comes back each quarter of a second, for six seconds and the hundredth that it took to begin.
    assert_eq!((lives.len(), found.load.sessions.started, found.load.sessions.ended), (34, 34, 34));
    for second in &up(&found)[..6] {
        assert!((10..=11).contains(second), "{:?}", up(&found));
    }
    let attempted: Vec<u64> = found.load.intervals.iter().map(|row| row.attempted).collect();
    assert_eq!(attempted[1..6], [4; 5]);
    let frames = &found.load.frames;
    assert!(frames.lost == Some(0) && frames.expected > 2000, "{frames:?}");
    // The first to come is the first to leave.
    assert!(lives[2].1 < lives[3].1 && lives[3].1 < lives[4].1, "{lives:?}");
}

#[test]
fn publishers_without_players_leave_and_come_back() {
    let plan = Plan { churn: Some(SECOND / 2), ..plan(4, &[(0, 0), (10, 0)]) };
    let (found, lives) = run(plan, &[]);
    let sessions = &found.load.sessions;
    assert_eq!(
        (sessions.planned, sessions.started, sessions.ended, lives.len()),
        (23, 23, 23, 23),
        "{sessions:?}"
    );
    // Each is away for a tenth of a second of each two that it is there.
    let (sent, all) = (found.load.frames.sent, 4 * frames_in(10 * SECOND));
    assert!((all * 93 / 100..all * 97 / 100).contains(&sent), "{sent} of {all}");
}

#[test]
fn slow_players_take_no_more_than_they_may_and_spoil_no_number() {
    let slow = Slow { per_cent: 25.0, rate_bps: 40_000 };
    let (found, _) = run(Plan { slow: Some(slow), ..plan(1, &[(0, 4), (8, 4)]) }, &[]);
    let apart = found.load.slow.expect("slow players");
    let bytes = found.load.bytes.received;
    let others = 3.0 * 300_000.0 / 8.0 * 8.0;
    // One reads 40 kbit/s for eight seconds, three get all; headers come on top.
    let expected = others + 40_000.0 / 8.0 * 8.0;
    assert!((bytes as f64 / expected - 1.0).abs() < 0.1, "{bytes} bytes, not {expected}");
    assert_eq!((apart.ended, apart.dropped, found.load.sessions.ended), (1, 0, 5));
    assert!(apart.frames.lost > Some(100) && found.load.frames.lost == Some(0), "{apart:?}");
    assert!(found.load.latency["frame"].max_us < 5_000 && apart.latency["frame"].max_us > 4_000_000);
}

#[test]
fn slow_players_take_as_much_as_they_may() {
    let slow = Slow { per_cent: 50.0, rate_bps: 20_000_000 };
    let (found, _) = run(
        Plan { slow: Some(slow), shape: Shape::new(8_000_000, 30, 30), ..plan(1, &[(0, 2), (4, 2)]) },
        &[],
    );
    let apart = found.load.slow.expect("slow players");
    assert_eq!((apart.frames.lost, found.load.frames.lost), (Some(0), Some(0)), "{apart:?}");
}

#[test]
fn sockets_that_are_full_at_each_tick_are_our_limit() {
    let limited = |room, stalls: &[&str]| {
        let swept =
            Plan { tick: Some(SECOND), shape: Shape::new(800_000, 30, 30), ..plan(1, &[(0, 2), (6, 2)]) };
        let dial = || Watched { room: Some(room), ..Watched::new(peer(stalls), Arc::default()) };
        let (found, _) = against(swept, dial, std::future::pending());
        let seconds = found.load.intervals.iter().filter(|row| row.full_sweeps > 0 && row.limited).count();
        (seconds, found.load.generator.limited)
    };
    // 100 kB come a second.
    assert_eq!(limited(200_000, &[]), (0, false));
    let (seconds, whole) = limited(130_000, &[]);
    assert!(seconds >= 3 && whole, "{seconds}");
    // What the target held back comes at one tick: that is not our doing.
    assert_eq!(limited(200_000, &["relay-stalls"]), (0, false));
}

#[test]
fn late_players_are_spread_over_the_time_between_key_frames() {
    let late = Plan { late_join: true, shape: Shape::new(300_000, 30, 60), ..plan(1, &[(0, 200), (3, 200)]) };
    let (found, _) = run(late, &[]);
    // The reference server begins with the latest key frame: it is of any age up to two seconds.
    let age = histogram(&found.load.latency["key_age"]);
    assert!((190..=200).contains(&age.len()), "{}", age.len());
    let halves = [age.count_between(0, 1_000_000), age.count_between(1_000_001, 2_000_000)];
    assert!(halves.iter().all(|half| (70..130).contains(half)), "{halves:?}");
}

#[test]
fn bursts_are_on_time_by_their_plan() {
    let (found, _) = run(Plan { burst: Some(SECOND * 3 / 10), ..plan(1, &[(0, 2), (4, 2)]) }, &[]);
    let frames = &found.load.frames;
    assert!(frames.lost == Some(0) && frames.received == frames.expected + frames.join_burst, "{frames:?}");
    assert!(found.load.latency["frame"].max_us < 5_000, "{:?}", found.load.latency["frame"]);
    // Between two frames there is nothing, or three tenths of a second.
    let gap = histogram(&found.load.latency["gap"]);
    let apart = gap.count_between(290_000, 310_000);
    assert_eq!(gap.count_between(0, 5_000) + apart, gap.len());
    assert!((24..=28).contains(&apart), "{apart}");
    // What fell due behind the last burst before the end was not sent.
    assert_eq!(frames.sent, frames_in(SECOND * 39 / 10 + Duration::from_nanos(1)));
}

#[test]
fn names_and_tokens_are_made_by_their_patterns() {
    let (name, suffix) = ("cam-{i:02}".parse().unwrap(), "?token=t{n}".parse().unwrap());
    let named = Plan { name: Some(name), suffix: Some(suffix), ..plan(2, &[(0, 4), (1, 4)]) };
    let (found, _) = run(named, &[]);
    assert_eq!(found.load.sessions.ended, 6);
    for (line, name) in [
        (0, "cam-00?token=t0"),
        (1, "cam-01?token=t1"),
        (2, "cam-00?token=t0"),
        (3, "cam-01?token=t1"),
        (5, "cam-01?token=t3"),
    ] {
        let said = SAID.with_borrow(|said| said[line].clone());
        assert!(said.windows(name.len()).any(|word| word == name.as_bytes()), "{line}: no {name}");
    }
}

#[test]
fn a_kind_that_never_comes_is_missed() {
    let (found, _) = run(plan(1, &[(0, 2), (6, 2)]), &["audio-withheld"]);
    let failed = &found.load.sessions.failed_by_phase["first_frame"];
    assert_eq!(failed.count, 2);
    assert!(failed.sample.starts_with("no audio came"), "{}", failed.sample);
}

#[test]
fn only_players_that_had_to_get_frames_miss_them() {
    // One comes each tenth of a second for four; with key frames a second apart two seconds may pass before anything must come.
    let (found, lives) = run(plan(1, &[(4, 40)]), &["relay-nothing"]);
    let failed = &found.load.sessions.failed_by_phase["first_frame"];
    assert_eq!((failed.count, found.load.sessions.ended), (20, 21), "{failed:?}");
    let silence = SECOND * 4 + Duration::from_millis(4);
    for (opened, closed) in &lives[1..] {
        let waited = closed.expect("closed") - silence;
        let had_to = *opened < SECOND * 2;
        assert_eq!(waited >= SECOND * 49 / 10, had_to, "{opened:?}: {waited:?}");
        assert!(had_to || waited < Duration::from_millis(600), "{opened:?}: {waited:?}");
    }
}

#[test]
fn players_that_we_end_before_anything_had_to_come_are_no_failures() {
    let churned = Plan { churn: Some(SECOND / 100), ..plan(1, &[(0, 10), (3, 10)]) };
    let (found, _) = run(churned, &["relay-nothing"]);
    assert!(found.stats.failed() == 0 && found.load.sessions.ended > 300, "{:?}", found.load.sessions);
    // Each stays for what may be under way, half a second at most.
    assert!(up(&found)[..3].iter().all(|up| (11..=62).contains(up)), "{:?}", up(&found));
    let stop = Duration::from_millis(1500);
    let (found, lives) = stopped(plan(1, &[(3, 30), (60, 30)]), &["relay-nothing"], stop);
    assert_eq!((found.stats.failed(), found.load.sessions.ended), (0, lives.len() as u64));
    let last = lives.iter().filter_map(|life| life.1).max().expect("closed");
    assert!(last < stop + Duration::from_millis(700), "{last:?}");
}

/// A second of sound and pictures of which many are alike, and some but for their last bit; no frame has a stamp.
fn alike() -> Media {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let mut flv = flv::Writer::new(file.as_file(), flv::Header { audio: true, video: true }).expect("a file");
    flv.write(9, 0, &sample::avc_header()).expect("a file");
    flv.write(8, 0, &sample::aac_header()).expect("a file");
    for i in 0..50_u8 {
        let ms = u32::from(i) * 20;
        let picture = if i == 0 { sample::avc_key(200, 0) } else { sample::avc_inter(80, (i / 5).into()) };
        flv.write(9, ms, &picture).expect("a file");
        flv.write(8, ms, &[&[0xAF, 1][..], &[i.is_multiple_of(3).into(); 9]].concat()).expect("a file");
    }
    flv.into_inner().sync_all().expect("a file");
    Media::file(file.path(), true).expect("an FLV")
}

/// Whether the counts of frames add up: each that came is in one of them.
fn adds_up(found: &Found, what: &str) {
    let frames = &found.load.frames;
    let [lost, duplicated] = [frames.lost, frames.duplicated].map(Option::unwrap_or_default);
    let came = frames.expected - lost + duplicated + frames.join_burst + frames.foreign + frames.unplaced;
    assert_eq!(frames.received, came, "{what}: {frames:?}");
    let corrupt = frames.corrupt.unwrap_or_default();
    assert!(frames.strayed <= corrupt.min(frames.unplaced), "{what}: {frames:?}");
    let frame = found.load.latency.get("frame").cloned().unwrap_or_default();
    let measured = frames.expected - lost + frame.censored.unwrap_or_default();
    assert_eq!(frame.count, measured, "{what}: {frames:?}");
}

#[test]
fn every_frame_that_came_is_accounted_for() {
    let mut untold = 0;
    for fault in [
        "no-acks",
        "relay-late",
        "relay-drops",
        "relay-doubles",
        "relay-swaps",
        "relay-stalls",
        "relay-damages",
        "relay-mixes",
        "relay-stops",
        "first-key-dropped",
        "audio-withheld",
        "times-back",
    ] {
        // Each stays for a tenth of a second, and for what is under way.
        let churned = || Plan { churn: Some(SECOND / 100), ..plan(2, &[(0, 10), (3, 10)]) };
        let (found, _) = run(churned(), &[fault]);
        let frames = &found.load.frames;
        assert!(found.stats.failed() == 0 && frames.received > 100, "{fault}: {frames:?}");
        adds_up(&found, fault);
        let found = sent(churned(), alike(), &[fault]);
        adds_up(&found, &format!("{fault}, told by content"));
        let frames = &found.load.frames;
        untold += frames.unplaced;
        if ["no-acks", "relay-stalls", "times-back"].contains(&fault) {
            let wrong = [frames.lost, frames.duplicated, frames.reordered, frames.corrupt];
            assert_eq!(wrong, [Some(0); 4], "{fault}: {frames:?}");
        }
    }
    assert!(untold > 100, "{untold}");
}

#[test]
fn what_comes_of_another_stream_of_ours_is_told_as_that() {
    let (found, _) = run(plan(3, &[(0, 3), (4, 3)]), &["relay-mixes"]);
    let frames = &found.load.frames;
    assert_eq!((frames.lost, frames.duplicated, frames.reordered), (Some(0), Some(0), Some(0)), "{frames:?}");
    // Each player gets two other streams beside its own.
    assert_eq!((frames.corrupt, frames.unplaced), (Some(frames.strayed), frames.strayed));
    assert_eq!(frames.strayed, 2 * frames.expected, "{frames:?}");
    assert!(!judged(&found, "corrupt = 0").0);
    let (found, _) = run(plan(1, &[(0, 3), (4, 3)]), &["relay-mixes"]);
    assert_eq!((found.load.frames.corrupt, found.load.frames.strayed), (Some(0), 0));
}
