//! Servers that are no servers: whatever they do, each case ends with a verdict and a reason, soon and in bounded memory.
//! Time is simulated, connections are in memory.

use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use rtmp_bench::net::conn::{Dial, Dialing, Io};
use rtmp_bench::record::Verdict;
use rtmp_bench::scenario::clauses::Clauses;
use rtmp_bench::scenario::suite::{Keeper, Report, Restarting, Selection, Settings, Suite, run};
use rtmp_bench::wire::amf0::Value;
use rtmp_bench::wire::message::{Message, type_id};
use rtmp_bench::wire::session::{Config, Event, Fields, Session};
use rtmp_bench::wire::time::Time;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

/// How a server behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Bad {
    Refuses,
    Silent,
    ClosesAtOnce,
    OnlyS0,
    Garbage,
    GarbageAfterHandshake,
    OneByteASecond,
    Flood,
    FloodOfMessages,
    /// The same from the answer to this command on, and small ones.
    FloodAfter(&'static str),
    ClosesAfterHandshake,
    /// Answers so many commands, then closes.
    ClosesAfter(u32),
    /// Answers this command, then closes.
    ClosesBehind(&'static str),
    /// Answers so many commands, then says nothing more.
    FallsSilentAfter(u32),
    /// Serves so many connections, then none.
    DiesAfter(u32),
    RefusesConnect,
    /// The command `die` ends every connection, and for so long none is accepted.
    Dies(Duration),
}

const SECOND: Duration = Duration::from_secs(1);
const FOR_GOOD: Duration = Duration::from_secs(1 << 20);

/// Bytes that a flood gives at most, so that a reader without a limit fails the test and does not hang it.
const FLOOD: u64 = 2 << 30;

struct Server {
    bad: Bad,
    dialled: AtomicU32,
    /// Bytes that anybody took of a flood.
    taken: Arc<AtomicU64>,
    death: Arc<Death>,
}

#[derive(Debug, Default)]
struct Death {
    until: Mutex<Option<Instant>>,
    comes: Notify,
}

impl Death {
    fn is_now(&self) -> bool {
        self.until.lock().unwrap().is_some_and(|until| Instant::now() < until)
    }

    fn come(&self, lasts: Duration) {
        *self.until.lock().unwrap() = Some(Instant::now() + lasts);
        self.comes.notify_waiters();
    }
}

impl Keeper for Death {
    fn death(&self) -> Option<String> {
        self.is_now().then(|| "signal: 11".into())
    }

    fn restart(&self) -> Restarting<'_> {
        Box::pin(async {
            *self.until.lock().unwrap() = None;
            Ok(7)
        })
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// An in-memory connection.
struct Memory(DuplexStream);

impl AsyncRead for Memory {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Memory {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Io for Memory {
    fn reset(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Dial for Server {
    fn dial(&self) -> Dialing<'_> {
        let n = self.dialled.fetch_add(1, Ordering::Relaxed);
        let (bad, taken, death) = (self.bad, self.taken.clone(), self.death.clone());
        Box::pin(async move {
            let dead = matches!(bad, Bad::DiesAfter(limit) if n >= limit);
            if bad == Bad::Refuses || dead || death.is_now() {
                return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
            }
            let (ours, theirs) = tokio::io::duplex(64 << 10);
            tokio::spawn(async move {
                tokio::select! {
                    () = death.comes.notified() => None,
                    end = serve(theirs, bad, &taken, &death) => end.ok(),
                }
            });
            Ok(Box::new(Memory(ours)) as Box<dyn Io>)
        })
    }
}

async fn serve(mut io: DuplexStream, bad: Bad, taken: &AtomicU64, death: &Arc<Death>) -> io::Result<()> {
    match bad {
        Bad::Silent => hold(io).await,
        Bad::ClosesAtOnce => Ok(()),
        Bad::OnlyS0 => {
            io.write_all(&[3]).await?;
            hold(io).await
        }
        Bad::Garbage => {
            let mut x = 7u32;
            let noise: Vec<u8> = std::iter::repeat_with(|| {
                x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (x >> 24) as u8
            })
            .take(100_000)
            .collect();
            io.write_all(&noise).await?;
            hold(io).await
        }
        Bad::OneByteASecond => loop {
            io.write_all(&[3]).await?;
            sleep(Duration::from_secs(1)).await;
        },
        Bad::Flood => flood(io, &[3; 4096], taken).await,
        _ => speak(io, bad, taken, death).await,
    }
}

async fn hold(mut io: impl Stream) -> io::Result<()> {
    let mut sink = [0; 4096];
    while io.read(&mut sink).await? > 0 {}
    Ok(())
}

async fn flood(mut io: impl Stream, piece: &[u8], taken: &AtomicU64) -> io::Result<()> {
    let mut sent = 0;
    while sent < FLOOD {
        io.write_all(piece).await?;
        sent += piece.len() as u64;
        taken.fetch_add(piece.len() as u64, Ordering::Relaxed);
    }
    hold(io).await
}

/// A server that does what a client asks, up to a point.
async fn speak(mut io: impl Stream, bad: Bad, taken: &AtomicU64, death: &Arc<Death>) -> io::Result<()> {
    let began = Instant::now();
    let pongs = !matches!(bad, Bad::FallsSilentAfter(_));
    let mut session = Session::server(Config { pongs, ..Config::default() });
    let mut commands = 0;
    let mut buffer = vec![0; 16 << 10];
    loop {
        let n = io.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        let mut bytes = &buffer[..n];
        let mut asked = Vec::new();
        let (mut floods, mut closes) = (false, false);
        loop {
            let mut rest = bytes;
            let now = Time::ZERO + began.elapsed();
            let Ok(event) = session.read(now, &mut rest) else { return Ok(()) };
            let more = event.is_some();
            if let Some(Event::Message(header, payload)) = event
                && header.type_id == type_id::COMMAND_AMF0
                && let Ok(Message::Command(command)) = Message::decode(header.type_id, payload)
            {
                asked.push(command);
            }
            bytes = &bytes[bytes.len() - rest.len()..];
            if !more {
                break;
            }
        }
        for command in asked {
            commands += 1;
            floods |= matches!(bad, Bad::FloodAfter(name) if command.name == name);
            closes |= matches!(bad, Bad::ClosesBehind(name) if command.name == name);
            let answer = match (&command.name[..], bad) {
                (_, Bad::ClosesAfter(n)) if commands > n => return Ok(()),
                (_, Bad::FallsSilentAfter(n)) if commands > n => continue,
                (b"dieLate", Bad::Dies(lasts)) => {
                    let death = death.clone();
                    tokio::spawn(async move {
                        sleep(Duration::from_millis(300)).await;
                        death.come(lasts);
                    });
                    continue;
                }
                (b"die", Bad::Dies(lasts)) => {
                    death.come(lasts);
                    continue;
                }
                (b"connect", Bad::RefusesConnect) => Message::command("_error", 1.0, vec![Value::Null]),
                (b"publish", _) => status("NetStream.Publish.Start"),
                (b"play", _) => status("NetStream.Play.Start"),
                (_, _) => {
                    let id = command.transaction_id.unwrap_or(0.0);
                    Message::command("_result", id, vec![Value::Null, Value::Number(1.0)])
                }
            };
            session.send(&answer, Fields { msid: Some(0), ..Fields::default() });
        }
        io.write_all(&session.output()).await?;
        if closes {
            // A close that comes a moment behind the answer is one too.
            sleep(Duration::from_millis(50)).await;
            return Ok(());
        }
        let spoken = session.reached() >= rtmp_bench::wire::session::Goal::Handshaken;
        match bad {
            Bad::ClosesAfterHandshake if spoken => return Ok(()),
            Bad::GarbageAfterHandshake if spoken => {
                io.write_all(&[0xC7; 5000]).await?;
                return hold(io).await;
            }
            Bad::FloodOfMessages if spoken => {
                let audio = Message::Audio(vec![0xAF; 60_000].into());
                let piece = session.encode(&audio, Fields::default());
                return flood(io, &piece, taken).await;
            }
            Bad::FloodAfter(_) if floods => {
                let audio = Message::Audio(vec![0xAF; 20].into());
                let piece: Vec<u8> =
                    (0..1000).flat_map(|_| session.encode(&audio, Fields::default())).collect();
                return flood(io, &piece, taken).await;
            }
            _ => {}
        }
    }
}

fn status(code: &str) -> Message {
    let info = Value::object([("level", "status".into()), ("code", code.into())]);
    Message::command("onStatus", 0.0, vec![Value::Null, info])
}

const CASES: [(&str, &str); 6] = [
    ("handshake/echo", "reach open\n> C0 3\n> C1\nexpect < S2 echo\nalive"),
    (
        "handshake/quiet",
        "reach open\n> C0 3\n> C1\nnever < message for quiet\nexpect received 3073..3073 within quiet",
    ),
    ("command/connect", "reach connected\nin step\nnever < closed for quiet"),
    (
        "command/create",
        "reach created\n> createStream(9, null)\none of {\n pass < _result(9, ...)\n fail < closed\n otherwise broken \"hangs\"\n}\ncontrolled",
    ),
    ("relay/one", "reach publishing\nplay reach playing\n> audio aac.frame(100) ts=40\nrelayed main to play"),
    (
        "relay/stuck",
        "reach publishing\nstop reading\nrepeat 200 { > audio aac.frame(20000) }\none of within close { \n pass < stuck\n otherwise info \"takes it all\" \n}",
    ),
];

fn suite() -> Suite {
    suite_of(&CASES)
}

fn suite_of(cases: &[(&str, &str)]) -> Suite {
    let files: Vec<(String, String, String)> = cases
        .iter()
        .map(|(id, body)| {
            let text = format!("scenario \"{id}\"\nclause rtmp/5.2/1\n\n{body}\n");
            ((*id).to_owned(), format!("{id}.scn"), text)
        })
        .collect();
    Suite::parse(&files, Clauses::built_in()).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Runs the cases against a bad server; also how long it took and how much of a flood was taken.
fn judge(bad: Bad) -> (Result<Report, String>, Duration, u64) {
    judge_by(&suite(), bad)
}

fn judge_by(suite: &Suite, bad: Bad) -> (Result<Report, String>, Duration, u64) {
    judge_kept(suite, bad, false)
}

/// `kept`: whoever started it starts it again.
fn judge_kept(suite: &Suite, bad: Bad, kept: bool) -> (Result<Report, String>, Duration, u64) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let began = Instant::now();
        let taken = Arc::default();
        let dialled = AtomicU32::new(0);
        let death = Arc::new(Death::default());
        let keeper = kept.then(|| death.clone() as Arc<dyn Keeper>);
        let settings = Settings { keeper, ..Settings::default() };
        let server = Arc::new(Server { bad, dialled, taken: Arc::clone(&taken), death });
        let report = run(suite, &settings, server, &mut |_| {}).await;
        (report, began.elapsed(), taken.load(Ordering::Relaxed))
    })
}

#[test]
fn nothing_at_all_is_unreachable() {
    for bad in [Bad::Refuses, Bad::Silent, Bad::ClosesAtOnce] {
        let (report, took, _) = judge(bad);
        let why = report.expect_err("unreachable");
        assert!(!why.is_empty());
        assert!(took < Duration::from_secs(10), "{bad:?}: {took:?}");
    }
}

#[test]
fn every_case_ends_with_a_verdict_and_a_reason() {
    let table = [
        Bad::OnlyS0,
        Bad::Garbage,
        Bad::GarbageAfterHandshake,
        Bad::OneByteASecond,
        Bad::Flood,
        Bad::FloodOfMessages,
        Bad::ClosesAfterHandshake,
        Bad::RefusesConnect,
        Bad::ClosesAfter(0),
        Bad::ClosesAfter(1),
        Bad::ClosesAfter(2),
        Bad::ClosesAfter(3),
        Bad::FallsSilentAfter(0),
        Bad::FallsSilentAfter(1),
        Bad::FallsSilentAfter(2),
        Bad::FallsSilentAfter(3),
        Bad::DiesAfter(8),
    ];
    for bad in table {
        let (report, took, taken) = judge(bad);
        let report = report.unwrap_or_else(|why| panic!("{bad:?}: {why}"));
        assert_eq!(report.outcomes.len(), CASES.len(), "{bad:?}");
        for outcome in &report.outcomes {
            let case = &outcome.case;
            assert!(!case.why.is_empty() && !case.branch.is_empty(), "{bad:?}: {case:?}");
            // None of them relays anything.
            assert!(case.id != "relay/one" || case.verdict > Verdict::Lenient, "{bad:?}: {case:?}");
        }
        assert!(took < Duration::from_secs(60), "{bad:?}: {took:?}");
        assert!(taken < 400 << 20, "{bad:?}: {taken} bytes were taken");
    }
}

#[test]
fn the_whole_suite_is_soon_over_where_nothing_is_answered_any_more() {
    let suite = Suite::select(&Selection::default()).unwrap_or_else(|why| panic!("{why}"));
    for bad in [Bad::FallsSilentAfter(1), Bad::FallsSilentAfter(2), Bad::FloodOfMessages] {
        let (report, took, _) = judge_by(&suite, bad);
        let report = report.unwrap_or_else(|why| panic!("{bad:?}: {why}"));
        assert!(!report.out_of_time && took < Duration::from_secs(60), "{bad:?}: {took:?}");
    }
}

/// The program itself, by the clock and in a process of its own.
#[test]
fn a_flood_of_small_messages_ends_in_bounded_memory() {
    for (command, cases) in [("connect", "control/*"), ("play", "command/connect*")] {
        let (status, said, most) = flooded(command, cases);
        assert_eq!(status, Some(1), "{said}");
        assert!((1..200 << 10).contains(&most), "{command}: {most} KiB");
    }
}

/// Its exit status, what it said, and the most memory that was resident, in KiB.
fn flooded(command: &'static str, cases: &str) -> (Option<i32>, String, u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("rtmp://{}/live", listener.local_addr().unwrap());
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let serving = async move {
                speak(stream, Bad::FloodAfter(command), &AtomicU64::new(0), &Arc::default()).await
            };
            tokio::spawn(serving);
        }
    });
    let mut judged = tokio::process::Command::new(env!("CARGO_BIN_EXE_rtmp-bench"));
    judged.args(["test", &url, "-s", cases, "--max-time", "60s"]);
    judged.stdout(Stdio::piped()).stderr(Stdio::piped());
    runtime.block_on(async {
        let judged = judged.spawn().unwrap();
        let status = format!("/proc/{}/status", judged.id().unwrap());
        let mut output = std::pin::pin!(judged.wait_with_output());
        let mut most = 0;
        loop {
            match timeout(Duration::from_millis(50), &mut output).await {
                Ok(output) => {
                    let output = output.unwrap();
                    let said = [output.stdout, output.stderr].concat();
                    return (output.status.code(), String::from_utf8_lossy(&said).into_owned(), most);
                }
                Err(_) => most = most.max(high_water(&status)),
            }
        }
    })
}

/// What getrusage says of a child is at least what its parent had when it forked: this is the program's own.
fn high_water(status: &str) -> u64 {
    let text = std::fs::read_to_string(status).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[test]
fn what_calibration_could_not_reach_is_blocked_at_once() {
    let (report, took, _) = judge(Bad::RefusesConnect);
    let report = report.expect("reachable");
    // Alive is then what calibration reached: a new connection shakes hands.
    assert!(report.outcomes.iter().all(|o| o.case.verdict != Verdict::Fail), "{report:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(report.fingerprint.reach, "handshaken");
    for outcome in &report.outcomes {
        let case = &outcome.case;
        let needs_more = !case.id.starts_with("handshake/");
        assert_eq!(case.verdict == Verdict::Blocked && case.duration_ms == 0, needs_more, "{case:?}");
    }
}

/// A close where all are closed is no control of what was sent.
#[test]
fn where_everybody_is_closed_nothing_is_judged() {
    let table = [
        ("connect", "connected", &["command/connect", "command/create", "relay/one", "relay/stuck"][..]),
        ("createStream", "created", &["command/create", "relay/one", "relay/stuck"]),
        ("publish", "publishing", &["relay/one", "relay/stuck"]),
        ("play", "playing", &["relay/one"]),
    ];
    for (command, at, blocked) in table {
        let report = judge(Bad::ClosesBehind(command)).0.expect("reachable");
        assert_eq!(report.fingerprint.ends.iter().map(|end| end.name()).collect::<Vec<_>>(), [at]);
        for outcome in &report.outcomes {
            let case = &outcome.case;
            let told =
                case.verdict == Verdict::Blocked && case.why.contains("only waits") && case.why.contains(at);
            assert_eq!(told, blocked.contains(&&case.id[..]), "{command}: {case:?}");
        }
    }
    for bad in [Bad::ClosesAfter(1), Bad::ClosesAfter(2), Bad::RefusesConnect] {
        let report = judge(bad).0.expect("reachable");
        assert!(report.fingerprint.ends.is_empty(), "{bad:?}: a close that answers is a refusal");
    }
}

#[test]
fn a_publisher_that_is_not_answered_is_not_asked() {
    let asks = ("relay/asks", "reach publishing\n> WindowAckSize 0\nin step");
    let report = judge_by(&suite_of(&[asks, CASES[2]]), Bad::FallsSilentAfter(4)).0.expect("reachable");
    assert_eq!(report.fingerprint.answers_publisher, Some(false), "{:?}", report.fingerprint);
    for outcome in &report.outcomes {
        let told = outcome.case.why.contains("a publisher that does nothing wrong gets no answer either");
        assert_eq!(told, outcome.case.id == asks.0, "{:?}", outcome.case);
    }
}

#[test]
fn the_same_seed_gives_the_same_words() {
    for bad in [Bad::ClosesAfter(3), Bad::FallsSilentAfter(2)] {
        let words = || {
            let report = judge(bad).0.expect("reachable");
            report
                .outcomes
                .iter()
                .map(|o| (o.case.id.clone(), o.case.why.clone(), o.case.trace.clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(words(), words(), "{bad:?}");
    }
}

#[test]
fn who_kills_the_target_is_found() {
    let suite = suite_of(&[
        ("a/innocent", "reach connected\nwait 100ms\nin step"),
        ("b/culprit", "reach connected\nwait 50ms\n> die(9, null)\nalive"),
        ("c/late", "reach open\nwait 200ms\nother reach connected\nother in step"),
    ]);
    let report = judge_by(&suite, Bad::Dies(SECOND)).0.expect("reachable");
    let of = |i: usize| (report.outcomes[i].case.verdict, report.outcomes[i].case.notes.join("; "));
    assert_eq!(of(0).0, Verdict::Pass, "{}", of(0).1);
    assert_eq!(of(1).0, Verdict::Fail, "{}", of(1).1);
    assert_eq!(of(2).0, Verdict::Pass, "{}", of(2).1);
    for i in 0..3 {
        assert!(of(i).1.contains("run again"), "{}", of(i).1);
    }
}

/// Cases that do this and that, and in their midst some that kill.
fn many(culprits: &[(&'static str, &'static str)]) -> Suite {
    let innocent = [
        "reach connected\nwait 100ms\nin step",
        "reach open\nwait 200ms\nother reach connected\nother in step",
        "reach created\n> createStream(9, null)\nexpect < _result(9, ...)\nwait 300ms\nalive",
        "reach connected\nnever < closed for quiet",
    ];
    let ids: Vec<String> = (0..40).map(|i| format!("m/{i:02}")).collect();
    let of = |(i, id): (usize, &String)| (id.clone(), innocent[i % innocent.len()]);
    let mut cases: Vec<(String, &str)> = ids.iter().enumerate().map(of).collect();
    cases.extend(culprits.iter().map(|(id, body)| ((*id).to_owned(), *body)));
    cases.sort();
    let cases: Vec<(&str, &str)> = cases.iter().map(|(id, body)| (id.as_str(), *body)).collect();
    suite_of(&cases)
}

const KILLS: &str = "the target answered no more after this case alone";
/// It looks for life; it ends with its deed; it takes the death for an answer.
const KILLERS: [&str; 3] = [
    "reach connected\nwait 50ms\n> die(9, null)\nalive",
    "reach connected\nin step\n> die(9, null)",
    "reach connected\n> die(9, null)\nexpect < closed",
];

#[test]
fn a_killer_among_many_is_named_and_nobody_else_blamed() {
    for (killer, kept) in KILLERS.into_iter().flat_map(|killer| [(killer, false), (killer, true)]) {
        let suite = many(&[("m/15-killer", killer), ("m/31-killer", killer)]);
        let (report, took, _) = judge_kept(&suite, Bad::Dies(if kept { FOR_GOOD } else { SECOND }), kept);
        let report = report.expect("reachable");
        assert_eq!(report.outcomes.len(), 42);
        for outcome in &report.outcomes {
            let case = &outcome.case;
            let kills = case.id.ends_with("killer");
            let is = (case.verdict, case.notes.iter().any(|note| note == KILLS) || case.why == KILLS);
            assert_eq!(is, (if kills { Verdict::Fail } else { Verdict::Pass }, kills), "{case:?}");
            assert_eq!(case.trace.is_empty(), !kills, "{case:?}");
            assert_eq!(case.notes.iter().any(|note| note.contains("signal: 11")), kills && kept, "{case:?}");
        }
        assert_eq!(report.gone, None);
        assert!(took < Duration::from_secs(60), "{took:?}");
    }
}

#[test]
fn nobody_is_blamed_where_the_target_does_not_come_back() {
    for killer in KILLERS {
        let (report, took, _) = judge_by(&many(&[("m/15-killer", killer)]), Bad::Dies(FOR_GOOD));
        let report = report.expect("reachable");
        let gone = report.gone.expect("gone");
        assert!(gone.contains("m/15-killer"), "{gone}");
        assert_eq!(report.outcomes.len(), 41);
        for (i, outcome) in report.outcomes.iter().enumerate() {
            let case = &outcome.case;
            assert!(matches!(case.verdict, Verdict::Pass | Verdict::Blocked), "{case:?}");
            assert!(case.verdict == Verdict::Pass || case.why == gone, "{case:?}");
            assert!(i > 1 || case.verdict == Verdict::Pass, "{case:?}");
            assert!(i < 24 || (case.verdict == Verdict::Blocked && case.duration_ms == 0), "{case:?}");
        }
        assert!(took < Duration::from_secs(20), "{took:?}");
    }
}

#[test]
fn a_killer_that_is_alone_keeps_its_verdict() {
    let suite = suite_of(&[("a/killer", KILLERS[0])]);
    let report = judge_by(&suite, Bad::Dies(FOR_GOOD)).0.expect("reachable");
    assert_eq!(report.outcomes[0].case.verdict, Verdict::Fail);
    assert!(report.gone.expect("gone").contains("a/killer"));
}

#[test]
fn nobody_is_blamed_for_a_death_that_comes_late_or_is_over_at_once() {
    // Two looked for life in vain when it came; the first to run alone after the killer is hit by what that does late.
    let innocent = "reach connected\nwait 310ms\nother reach connected\nin step";
    let killer = "reach connected\n> dieLate(9, null)\nin step\nwait 50ms";
    let few = suite_of(&[("a/killer", killer), ("b/innocent", innocent), ("c/innocent", innocent)]);
    let at_once = |killer| (many(&[("m/15-killer", killer)]), Duration::ZERO);
    for (suite, lasts) in [(few, SECOND), at_once(KILLERS[1]), at_once(KILLERS[2])] {
        let report = judge_by(&suite, Bad::Dies(lasts)).0.expect("reachable");
        for case in report.outcomes.iter().map(|outcome| &outcome.case) {
            assert_eq!(case.verdict, Verdict::Pass, "{case:?}");
            assert!(!case.notes.iter().any(|note| note == KILLS), "{case:?}");
        }
    }
}
