//! The load path in simulated time: everything of it but the sockets, against the reference server through pipes. What the report says is
//! held against exact arithmetic.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use rtmp_bench::load::media::{Kind, Media, Shape};
use rtmp_bench::load::plan::{Plan, Stage};
use rtmp_bench::load::slo::Slo;
use rtmp_bench::load::{Found, simulate};
use rtmp_bench::net::conn::{Dial, Dialing, Io};
use rtmp_bench::net::peer::{Options, Peer};
use rtmp_bench::net::target::Target;
use rtmp_bench::record::load::Latency;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);
const SHAPE: Shape = Shape::new(300_000, 30, 30);

/// So many publishers, and stages of whole seconds.
fn plan(publishers: u32, stages: &[(u32, u32)]) -> Plan {
    Plan {
        publishers,
        stages: stages.iter().map(|&(s, players)| Stage { time: SECOND * s, players }).collect(),
        rate: 1000,
        shape: SHAPE,
        tick: None,
        play: None,
        max_time: SECOND * 3600,
        shards: 0,
    }
}

/// When a connection was opened and closed, since the run began.
type Life = (Duration, Option<Duration>);

/// The reference server, with the lives of its connections in the order in which they began.
struct Watched {
    peer: Peer,
    began: Instant,
    lives: Arc<Mutex<Vec<Life>>>,
}

struct Alive {
    io: Box<dyn Io>,
    began: Instant,
    number: usize,
    lives: Arc<Mutex<Vec<Life>>>,
}

impl Dial for Watched {
    fn dial(&self) -> Dialing<'_> {
        Box::pin(async {
            let (io, began, lives) = (self.peer.dial().await?, self.began, self.lives.clone());
            let mut all = lives.lock().unwrap();
            all.push((began.elapsed(), None));
            let number = all.len() - 1;
            drop(all);
            Ok(Box::new(Alive { io, began, number, lives }) as Box<dyn Io>)
        })
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.lives.lock().unwrap()[self.number].1 = Some(self.began.elapsed());
    }
}

impl Io for Alive {
    fn reset(&mut self) -> io::Result<()> {
        self.io.reset()
    }
}

impl AsyncRead for Alive {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Alive {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Runs the plan until `stop`, against a server with these faults.
fn stopped(plan: Plan, faults: &[&str], stop: Duration) -> (Found, Vec<Life>) {
    let mut options = Options::default();
    faults.iter().for_each(|fault| options.add(fault.parse().expect("a fault")));
    let media = Media::new(plan.shape).expect("enough");
    let target: Target = "rtmp://simulated/live/s".parse().expect("a target");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let lives = Arc::default();
        let dial = Watched { peer: Peer::new(options), began: Instant::now(), lives: Arc::clone(&lives) };
        let found = simulate(plan, media, &target, Arc::new(dial), sleep(stop), &mut |_, _| {}).await;
        let lives = lives.lock().unwrap().clone();
        (found, lives)
    })
}

fn run(plan: Plan, faults: &[&str]) -> (Found, Vec<Life>) {
    stopped(plan, faults, SECOND * 86_400)
}

/// Frames that a publisher plans in this time.
fn frames_in(time: Duration) -> u64 {
    let media = Media::new(SHAPE).expect("enough");
    Kind::ALL.into_iter().map(|kind| u64::from(media.count_before(kind, time.as_nanos() as u64))).sum()
}

fn histogram(latency: &Latency) -> Histogram<u64> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(&latency.hdr).expect("base64");
    Deserializer::new().deserialize(&mut &bytes[..]).expect("a histogram")
}

/// Sessions that are up at the end of each second.
fn up(found: &Found) -> Vec<u64> {
    found.load.intervals.iter().map(|row| row.sessions_up).collect()
}

/// The value of a promise, and whether it held.
fn judged(found: &Found, promise: &str) -> (bool, f64) {
    let slo = promise.parse::<Slo>().expect("a promise").judge(&found.stats);
    (slo.held, slo.value.expect("a value"))
}

#[test]
fn players_come_and_go_as_the_stages_say() {
    let (found, _) = run(plan(2, &[(4, 20), (2, 20), (3, 5), (0, 5)]), &[]);
    // The first player comes when the publishers have, 2 ms behind the start: so does all else.
    assert_eq!(up(&found)[..9], [7, 12, 17, 22, 22, 22, 18, 13, 8]);
    assert_eq!((found.load.sessions.started, found.load.sessions.ended), (22, 22));
    let frames = &found.load.frames;
    assert!(frames.lost == 0 && frames.received == frames.expected + frames.join_burst, "{frames:?}");
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
    assert_eq!((found.load.frames.lost, found.load.sessions.ended), (0, 4));
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
    assert_eq!((late.len(), frames.lost), (frames.expected, 0));
    let oldest = found.load.intervals.iter().filter_map(|row| row.oldest_outstanding_us).max();
    assert!(oldest.is_some_and(|us| us > 900_000), "{oldest:?}");
}

#[test]
fn a_run_that_is_stopped_drains_and_reports() {
    let (found, lives) = stopped(plan(1, &[(0, 2), (60, 2)]), &[], SECOND * 3);
    assert!(found.interrupted);
    assert_eq!((found.load.sessions.ended, found.load.frames.lost), (3, 0));
    assert_eq!(found.load.frames.sent, frames_in(SECOND * 3));
    let last = lives.iter().filter_map(|life| life.1).max().expect("closed");
    assert!(last < SECOND * 4, "{last:?}");
}

#[test]
fn sweeps_read_when_the_tick_comes_round() {
    let swept = Plan { tick: Some(SECOND / 10), ..plan(1, &[(0, 3), (4, 3)]) };
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
