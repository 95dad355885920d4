//! A client's connection that keeps nothing of what passes: what comes is told, what is sent is counted.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncWriteExt, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::net::conn::Io;
use crate::record::replay::End;
use crate::wire::session::{Config, Event, Session};
use crate::wire::time::Time;

/// How long a write may make no progress.
pub const STUCK_AFTER: Duration = Duration::from_secs(10);
/// How long what still comes is read after FIN, so that no RST overtakes what was sent.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes that one read takes.
const READ_SIZE: usize = 64 << 10;

/// Why a connection cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The target ended its side in order.
    #[error("the target closed the connection")]
    Closed,
    /// The target reset the connection, takes no more, does not speak, or what it sends cannot be read.
    #[error("{0}")]
    Broken(String),
    /// The whole run is to end: its time is up.
    #[error("the time for the whole run was up")]
    Late,
    /// The user ends it.
    #[error("interrupted")]
    Interrupted,
}

/// When everything must end.
#[derive(Debug, Clone)]
pub struct Limit {
    /// At this time.
    pub at: Instant,
    /// Or when this becomes true.
    pub interrupt: watch::Receiver<bool>,
}

impl Limit {
    /// Returns, with what the end is called, so long after it has come.
    pub async fn over(&self, grace: Duration) -> End {
        let mut interrupt = self.interrupt.clone();
        let end = tokio::select! {
            Ok(_) = interrupt.wait_for(|stop| *stop) => End::Interrupted,
            () = sleep_until(self.at) => End::Late,
        };
        sleep_until(Instant::now() + grace).await;
        end
    }
}

/// A connection.
pub struct Line {
    io: Box<dyn Io>,
    /// Its RTMP side.
    pub session: Session,
    buffer: Vec<u8>,
    out: Bytes,
    stuck_at: Instant,
    origin: Instant,
    limit: Limit,
    /// Bytes that the socket took.
    pub sent: u64,
}

impl Line {
    /// Runs a client over a byte stream.
    pub fn new(io: Box<dyn Io>, config: Config, limit: Limit) -> Line {
        let now = Instant::now();
        Line {
            io,
            session: Session::client(config),
            buffer: vec![0; READ_SIZE],
            out: Bytes::new(),
            stuck_at: now + STUCK_AFTER,
            origin: now,
            limit,
            sent: 0,
        }
    }

    /// The session's time.
    pub fn now(&self) -> Time {
        Time::ZERO + self.origin.elapsed()
    }

    /// Bytes that came.
    pub fn received(&self) -> u64 {
        self.session.received()
    }

    /// Reads or writes once, or returns when it is `until`: `false`. May be dropped at any time.
    ///
    /// # Errors
    /// When it cannot go on.
    pub async fn turn(&mut self, until: Instant, hear: &mut impl FnMut(Event<'_>)) -> Result<bool, Stop> {
        self.fill();
        let until = until.min(self.limit.at);
        let until = if self.out.is_empty() { until } else { until.min(self.stuck_at) };
        if *self.limit.interrupt.borrow() {
            return Err(Stop::Interrupted);
        }
        let mut interrupt = self.limit.interrupt.clone();
        let Line { io, buffer, out, .. } = self;
        let moved = tokio::select! {
            moved = poll_fn(|cx| poll_once(io, buffer, out, cx)) => moved,
            Ok(_) = interrupt.wait_for(|stop| *stop) => return Err(Stop::Interrupted),
            () = sleep_until(until) => return self.timed_out(),
        };
        self.moved(moved, hear)
    }

    fn timed_out(&self) -> Result<bool, Stop> {
        let now = Instant::now();
        if now >= self.limit.at {
            Err(Stop::Late)
        } else if !self.out.is_empty() && now >= self.stuck_at {
            Err(Stop::Broken(format!("the target took nothing for {STUCK_AFTER:?}")))
        } else {
            Ok(false)
        }
    }

    fn moved(&mut self, moved: Moved, hear: &mut impl FnMut(Event<'_>)) -> Result<bool, Stop> {
        match moved {
            Moved::Wrote(Ok(n @ 1..)) => {
                self.out.advance(n);
                self.sent += n as u64;
                self.stuck_at = Instant::now() + STUCK_AFTER;
                Ok(true)
            }
            Moved::Wrote(_) => Err(Stop::Broken("the connection broke: the target takes no more".into())),
            Moved::Read(Ok(0)) => Err(Stop::Closed),
            Moved::Read(Ok(n)) => self.receive(n, hear).map(|()| true),
            Moved::Read(Err(e)) => Err(Stop::Broken(format!("the connection broke: {e}"))),
        }
    }

    /// Returns when all that the session has to say was taken.
    ///
    /// # Errors
    /// When it cannot go on.
    pub async fn flush(&mut self, hear: &mut impl FnMut(Event<'_>)) -> Result<(), Stop> {
        loop {
            self.fill();
            if self.out.is_empty() {
                return Ok(());
            }
            self.turn(self.limit.at, hear).await?;
        }
    }

    /// FIN; what still comes is read for a while.
    pub async fn close(mut self, hear: &mut impl FnMut(Event<'_>)) {
        let _ = timeout(LINGER, async {
            let _ = self.flush(hear).await;
            let _ = self.io.shutdown().await;
            while self.turn(self.limit.at, hear).await.is_ok() {}
        })
        .await;
    }

    fn fill(&mut self) {
        if self.out.is_empty() {
            self.out = self.session.output();
            self.stuck_at = Instant::now() + STUCK_AFTER;
        }
    }

    fn receive(&mut self, n: usize, hear: &mut impl FnMut(Event<'_>)) -> Result<(), Stop> {
        let now = self.now();
        let mut rest = n;
        while let Some(left) = next(&mut self.session, now, &self.buffer[n - rest..n], hear)? {
            rest = left;
        }
        Ok(())
    }
}

/// Tells the next event; how many bytes are left behind it.
fn next<'a>(
    session: &'a mut Session,
    now: Time,
    mut bytes: &'a [u8],
    hear: &mut impl FnMut(Event<'_>),
) -> Result<Option<usize>, Stop> {
    match session.read(now, &mut bytes) {
        Ok(Some(event)) => hear(event),
        Ok(None) => return Ok(None),
        Err(e) => return Err(Stop::Broken(format!("what the target sends cannot be read: {e}"))),
    }
    Ok(Some(bytes.len()))
}

/// What one turn did.
enum Moved {
    Read(io::Result<usize>),
    Wrote(io::Result<usize>),
}

/// Writes before it reads, so that a peer that never pauses does not keep our side from getting on.
fn poll_once(io: &mut Box<dyn Io>, buffer: &mut [u8], out: &Bytes, cx: &mut Context<'_>) -> Poll<Moved> {
    if !out.is_empty()
        && let Poll::Ready(wrote) = Pin::new(&mut **io).poll_write(cx, out)
    {
        return Poll::Ready(Moved::Wrote(wrote));
    }
    let mut read = ReadBuf::new(buffer);
    Pin::new(&mut **io).poll_read(cx, &mut read).map(|done| Moved::Read(done.map(|()| read.filled().len())))
}
