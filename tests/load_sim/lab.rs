//! Runs against the reference server through pipes, and what is known of its connections.

use std::cell::RefCell;
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

/// rfc 8446 5.1: bytes of a record of TLS at most.
const RECORD: usize = 16 << 10;
pub const SECOND: Duration = Duration::from_secs(1);
pub const SHAPE: Shape = Shape::new(300_000, 30, 30);

/// So many publishers, and stages of whole seconds.
pub fn plan(publishers: u32, stages: &[(u32, u32)]) -> Plan {
    Plan {
        publishers,
        stages: stages.iter().map(|&(s, players)| Stage { time: SECOND * s, players }).collect(),
        shape: SHAPE,
        ..Plan::default()
    }
}

thread_local! {
    /// What was written on each connection of this test, in the order in which they began.
    pub static SAID: RefCell<Vec<Vec<u8>>> = RefCell::default();
}

/// When a connection was opened and closed, since the run began.
pub type Life = (Duration, Option<Duration>);

/// The reference server, with the lives of its connections in the order in which they began.
pub struct Watched {
    pub peer: Peer,
    pub began: Instant,
    pub lives: Arc<Mutex<Vec<Life>>>,
    /// So long behind the beginning it floods whoever reads.
    pub floods: Option<Duration>,
    /// Bytes that a socket holds, as the kernel would say.
    pub room: Option<usize>,
}

impl Watched {
    pub fn new(peer: Peer, lives: Arc<Mutex<Vec<Life>>>) -> Watched {
        Watched { peer, began: Instant::now(), lives, floods: None, room: None }
    }
}

pub struct Alive {
    io: Box<dyn Io>,
    began: Instant,
    number: usize,
    lives: Arc<Mutex<Vec<Life>>>,
    floods: Option<Duration>,
    room: Option<usize>,
    /// Bytes of the flood that were read.
    flooded: usize,
}

impl Alive {
    /// Interframes of a hundred bytes, each in one chunk, without end.
    pub fn flood(&mut self, buf: &mut ReadBuf<'_>) {
        let mut frame = [0; 112];
        frame[..14].copy_from_slice(&[6, 0, 0, 0, 0, 0, 100, 9, 1, 0, 0, 0, 0x27, 1]);
        let bytes: Vec<u8> =
            frame.into_iter().cycle().skip(self.flooded % frame.len()).take(buf.remaining()).collect();
        self.flooded += bytes.len();
        buf.put_slice(&bytes);
    }
}

impl Dial for Watched {
    fn dial(&self) -> Dialing<'_> {
        Box::pin(async {
            let Watched { began, floods, room, .. } = *self;
            let (io, lives) = (self.peer.dial().await?, self.lives.clone());
            let mut all = lives.lock().unwrap();
            all.push((began.elapsed(), None));
            SAID.with_borrow_mut(|said| said.push(Vec::new()));
            let number = all.len() - 1;
            drop(all);
            Ok(Box::new(Alive { io, began, number, lives, floods, room, flooded: 0 }) as Box<dyn Io>)
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

    fn room(&self) -> Option<usize> {
        self.room
    }
}

impl AsyncRead for Alive {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.floods.is_some_and(|at| self.began.elapsed() >= at) {
            self.flood(buf);
            return Poll::Ready(Ok(()));
        }
        // As TLS does, a record at a time.
        let mut record = buf.take(RECORD);
        let read = Pin::new(&mut self.io).poll_read(cx, &mut record);
        let n = record.filled().len();
        buf.advance(n);
        read
    }
}

impl AsyncWrite for Alive {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        if let Poll::Ready(Ok(n)) = written {
            SAID.with_borrow_mut(|said| said[self.number].extend_from_slice(&bytes[..n]));
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// A server with these faults.
pub fn peer(faults: &[&str]) -> Peer {
    let mut options = Options::default();
    faults.iter().for_each(|fault| options.add(fault.parse().expect("a fault")));
    Peer::new(options)
}

/// Runs the plan until `stop`, against a server with these faults.
pub fn stopped(plan: Plan, faults: &[&str], stop: Duration) -> (Found, Vec<Life>) {
    until(plan, faults, async move { sleep(stop).await })
}

/// The same until whatever is through.
pub fn until(plan: Plan, faults: &[&str], stop: impl Future<Output = ()>) -> (Found, Vec<Life>) {
    let lives = Arc::default();
    let (peer, lives_too) = (peer(faults), Arc::clone(&lives));
    let dial = || Watched::new(peer, lives_too);
    let (found, _) = against(plan, dial, stop);
    let lives = lives.lock().unwrap().clone();
    (found, lives)
}

/// The plan with this media, to its end.
pub fn sent(plan: Plan, media: Media, faults: &[&str]) -> Found {
    let peer = peer(faults);
    let dial = || Watched::new(peer, Arc::default());
    sending(media, plan, dial, std::future::pending()).0
}

/// The same over whatever is dialled; and how long it took.
pub fn against<D: Dial + 'static>(
    plan: Plan,
    dial: impl FnOnce() -> D,
    stop: impl Future<Output = ()>,
) -> (Found, Duration) {
    sending(Media::new(plan.shape).expect("enough"), plan, dial, stop)
}

pub fn sending<D: Dial + 'static>(
    media: Media,
    plan: Plan,
    dial: impl FnOnce() -> D,
    stop: impl Future<Output = ()>,
) -> (Found, Duration) {
    let target: Target = "rtmp://simulated/live/s".parse().expect("a target");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let began = Instant::now();
        let found = simulate(plan, media, &target, Arc::new(dial()), stop, &mut |_, _| {}).await;
        (found, began.elapsed())
    })
}

pub fn run(plan: Plan, faults: &[&str]) -> (Found, Vec<Life>) {
    stopped(plan, faults, SECOND * 86_400)
}

/// Frames that a publisher plans in this time.
pub fn frames_in(time: Duration) -> u64 {
    let media = Media::new(SHAPE).expect("enough");
    Kind::ALL.into_iter().map(|kind| u64::from(media.count_before(kind, time.as_nanos() as u64))).sum()
}

pub fn histogram(latency: &Latency) -> Histogram<u64> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(&latency.hdr).expect("base64");
    Deserializer::new().deserialize(&mut &bytes[..]).expect("a histogram")
}

/// Sessions that are up at the end of each second.
pub fn up(found: &Found) -> Vec<u64> {
    found.load.intervals.iter().map(|row| row.sessions_up).collect()
}

/// The value of a promise, and whether it held.
pub fn judged(found: &Found, promise: &str) -> (bool, f64) {
    let slo = promise.parse::<Slo>().expect("a promise").judge(&Plan::default(), &found.stats);
    (slo.held.expect("a verdict"), slo.value.expect("a value"))
}
