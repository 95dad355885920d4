//! What arrived on a case's connections, looked at one arrival at a time.
//!
//! Which branch of a `one of` holds first must not depend on how reads were batched. So conditions never look at a log as it is, but up to a horizon
//! that moves over the arrivals of all connections one by one, in the order in which they were logged, and only while somebody watches.
//! Times are up only when the horizon has caught up with the logs.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll};

use tokio::time::{Instant, sleep_until};

use crate::net::conn::{Conn, Entry, Origin};

/// A future of one case.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Entries that a pattern took already, by their order.
pub type Taken = BTreeSet<u64>;

/// The connections of a case and how far they were looked at.
pub struct Board {
    origin: Origin,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    links: Vec<Link>,
    /// The order of the last entry that conditions may see.
    horizon: u64,
    /// Whether somebody waits for arrivals.
    watched: bool,
    /// Whether the horizon is at the end of all logs.
    caught_up: bool,
}

struct Link {
    name: String,
    conn: Conn,
    /// Entries of its log that are not behind the horizon.
    seen: usize,
}

/// What a look at a log says.
pub enum Look<T> {
    /// It holds.
    Found(T),
    /// It cannot hold any more.
    Never,
    /// Not yet.
    Wait,
}

impl Board {
    /// No connection yet; those that come must be of this origin.
    pub fn new(origin: Origin) -> Board {
        Board { origin, inner: Mutex::default() }
    }

    /// The clock and counter that the connections share.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Adds a connection; one of the same name is closed when nobody else has it, and its log goes with it.
    pub fn add(&self, name: &str, conn: Conn) {
        let mut inner = self.lock();
        let link = Link { name: name.to_owned(), conn, seen: 0 };
        match inner.links.iter_mut().find(|link| link.name == name) {
            Some(old) => *old = link,
            None => inner.links.push(link),
        }
    }

    /// The connection of this name.
    pub fn conn(&self, name: &str) -> Option<Conn> {
        self.lock().links.iter().find(|link| link.name == name).map(|link| link.conn.clone())
    }

    /// Takes a connection off the board.
    pub fn forget(&self, name: &str) -> Option<Conn> {
        let mut inner = self.lock();
        let at = inner.links.iter().position(|link| link.name == name)?;
        Some(inner.links.remove(at).conn)
    }

    /// All connections, in the order in which they came.
    pub fn conns(&self) -> Vec<(String, Conn)> {
        self.lock().links.iter().map(|link| (link.name.clone(), link.conn.clone())).collect()
    }

    /// The order of the last entry that conditions have seen.
    pub fn horizon(&self) -> u64 {
        self.lock().horizon
    }

    /// Calls `look` with what of one connection's log is not behind the horizon, again after each arrival on any connection, until it decides or
    /// the time is up. Only inside [`Board::drive`].
    pub async fn watch<T>(
        &self,
        name: &str,
        deadline: Instant,
        mut look: impl FnMut(&[Entry]) -> Look<T>,
    ) -> Option<T> {
        self.watch_all(deadline, |view| view.log(name, &mut look)).await
    }

    /// As [`Board::watch`], over several connections.
    pub async fn watch_all<T>(
        &self,
        deadline: Instant,
        mut look: impl FnMut(&View<'_>) -> Look<T>,
    ) -> Option<T> {
        let mut timer = pin!(sleep_until(deadline));
        poll_fn(|cx| {
            let mut inner = self.lock();
            match look(&View { links: &inner.links }) {
                Look::Found(found) => return Poll::Ready(Some(found)),
                Look::Never => return Poll::Ready(None),
                Look::Wait => {}
            }
            if inner.caught_up && timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            inner.watched = true;
            Poll::Pending
        })
        .await
    }

    /// Runs a case: moves the horizon while it watches.
    pub async fn drive<T>(&self, mut case: Boxed<'_, T>) -> T {
        loop {
            let arrival = self.origin.arrival();
            let mut arrival = pin!(arrival);
            let done = poll_fn(|cx| self.poll_case(&mut case, cx, arrival.as_mut())).await;
            if let Some(done) = done {
                return done;
            }
        }
    }

    fn poll_case<T>(
        &self,
        case: &mut Boxed<'_, T>,
        cx: &mut Context<'_>,
        mut arrival: Pin<&mut impl Future<Output = ()>>,
    ) -> Poll<Option<T>> {
        // Whatever woke us, perhaps a timer: arrivals that are logged already come first.
        self.lock().caught_up = false;
        loop {
            self.lock().watched = false;
            if let Poll::Ready(done) = case.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            let mut inner = self.lock();
            if !inner.watched {
                return Poll::Pending;
            }
            if inner.advance() {
                inner.caught_up = false;
                continue;
            }
            if !inner.caught_up {
                inner.caught_up = true;
                continue;
            }
            drop(inner);
            if arrival.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            return Poll::Ready(None);
        }
    }
}

impl Inner {
    /// Moves the horizon over the next entry of all logs; false when there is none.
    fn advance(&mut self) -> bool {
        let next = |link: &Link| link.conn.log(|log| log.get(link.seen).map(|entry| entry.order));
        let first = self.links.iter().enumerate().filter_map(|(i, link)| Some((next(link)?, i))).min();
        let Some((order, i)) = first else { return false };
        self.links[i].seen += 1;
        self.horizon = order;
        true
    }
}

/// What may be seen now.
pub struct View<'a> {
    links: &'a [Link],
}

impl View<'_> {
    /// Calls `look` with what may be seen of one connection's log; a connection that does not exist never decides anything.
    pub fn log<T>(&self, name: &str, look: &mut dyn FnMut(&[Entry]) -> Look<T>) -> Look<T> {
        match self.links.iter().find(|link| link.name == name) {
            Some(link) => link.conn.log(|log| look(&log[..link.seen.min(log.len())])),
            None => Look::Never,
        }
    }
}

/// Polls futures in their order until one gives something: that one's place and what it gave; `None` when none did.
pub async fn first_of<T>(mut branches: Vec<Option<Boxed<'_, Option<T>>>>) -> Option<(usize, T)> {
    poll_fn(|cx| {
        for (i, slot) in branches.iter_mut().enumerate() {
            let Some(branch) = slot else { continue };
            match branch.as_mut().poll(cx) {
                Poll::Ready(Some(found)) => return Poll::Ready(Some((i, found))),
                Poll::Ready(None) => *slot = None,
                Poll::Pending => {}
            }
        }
        if branches.iter().all(Option::is_none) { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}
