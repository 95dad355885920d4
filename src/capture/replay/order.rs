//! The order in which the sessions of a recording did things: what one of them does waits for what the others had done and been answered before.
//!
//! Each session says when that was recorded which it is at: a message that it is to send, or an answer that it waits for. The earliest
//! of all goes on. It waits for the target alone, and never without end, so that no two sessions wait for each other.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::wire::time::Time;

/// What the sessions are at: time and session, the earliest first.
#[derive(Debug)]
struct Order {
    at: Mutex<BTreeSet<(Time, usize)>>,
    turns: Vec<Notify>,
}

/// What one session is at; it is over when this goes away.
#[derive(Debug)]
pub struct Turn {
    order: Arc<Order>,
    at: (Time, usize),
}

impl Turn {
    /// One for each session, at the time that it began.
    pub fn each(began: impl Iterator<Item = Time>) -> Vec<Turn> {
        let at: BTreeSet<_> = began.enumerate().map(|(session, time)| (time, session)).collect();
        let mut each: Vec<_> = at.iter().copied().collect();
        each.sort_unstable_by_key(|(_, session)| *session);
        let turns = each.iter().map(|_| Notify::new()).collect();
        let order = Arc::new(Order { at: Mutex::new(at), turns });
        each.into_iter().map(|at| Turn { order: order.clone(), at }).collect()
    }

    /// Goes on to what was recorded at this time.
    pub fn set(&mut self, time: Time) {
        let next = (time, self.at.1);
        self.order.change(|at| {
            at.remove(&self.at);
            at.insert(next);
        });
        self.at = next;
    }

    /// Returns when no other session is at anything earlier. May be dropped at any time.
    pub async fn come(&self) {
        while self.order.lock().first() != Some(&self.at) {
            self.order.turns[self.at.1].notified().await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.order.change(|at| {
            at.remove(&self.at);
        });
    }
}

impl Order {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<(Time, usize)>> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever is the first then is told.
    fn change(&self, change: impl FnOnce(&mut BTreeSet<(Time, usize)>)) {
        let mut at = self.lock();
        change(&mut at);
        if let Some((_, first)) = at.first() {
            self.turns[*first].notify_one();
        }
    }
}
