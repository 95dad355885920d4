//! The times at which a shard's sessions want to be woken: one timer for all of them.

use std::cell::{Cell, RefCell};
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use tokio::time::sleep_until;

use super::Clock;

/// Who wants to be woken when, the next first.
#[derive(Debug, Default)]
pub struct Wheel {
    wanted: RefCell<BinaryHeap<Reverse<Wish>>>,
    /// What its timer is set for, and who turns it.
    set: Cell<u64>,
    turner: RefCell<Option<Waker>>,
}

#[derive(Debug)]
struct Wish {
    at: u64,
    who: Waker,
}

impl PartialEq for Wish {
    fn eq(&self, other: &Wish) -> bool {
        self.at == other.at
    }
}

impl Eq for Wish {}

impl PartialOrd for Wish {
    fn partial_cmp(&self, other: &Wish) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Wish {
    fn cmp(&self, other: &Wish) -> Ordering {
        self.at.cmp(&other.at)
    }
}

impl Wheel {
    /// Wakes `who` at this instant, in nanoseconds; wishes are never taken back.
    pub fn wake_at(&self, at: u64, who: &Waker) {
        self.wanted.borrow_mut().push(Reverse(Wish { at, who: who.clone() }));
        if at < self.set.get()
            && let Some(turner) = &*self.turner.borrow()
        {
            turner.wake_by_ref();
        }
    }

    /// Wakes all, whose wishes stay: what they waited for may have changed.
    pub fn wake_all(&self) {
        self.wanted.borrow().iter().for_each(|Reverse(wish)| wish.who.wake_by_ref());
    }

    /// Wakes each at its time, without end.
    pub async fn turn(&self, clock: Clock) {
        let mut timer = std::pin::pin!(sleep_until(clock.instant(clock.now())));
        poll_fn(|cx| {
            loop {
                let now = clock.now();
                let mut wanted = self.wanted.borrow_mut();
                while wanted.peek().is_some_and(|Reverse(next)| next.at <= now) {
                    wanted.pop().into_iter().for_each(|Reverse(wish)| wish.who.wake());
                }
                self.set.set(wanted.peek().map_or(u64::MAX, |Reverse(next)| next.at));
                *self.turner.borrow_mut() = Some(cx.waker().clone());
                if wanted.is_empty() {
                    return Poll::Pending;
                }
                timer.as_mut().reset(clock.instant(self.set.get()));
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;

    /// Waits until the wheel wakes it at `at` milliseconds.
    async fn until(wheel: &Wheel, clock: Clock, at: u64) {
        let at = clock.at(Duration::from_millis(at));
        poll_fn(|cx| {
            if clock.now() >= at {
                return Poll::Ready(());
            }
            wheel.wake_at(at, cx.waker());
            Poll::Pending
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn each_is_woken_at_its_time() {
        let (wheel, clock) = (Wheel::default(), Clock::start());
        let woken = Rc::new(RefCell::new(Vec::new()));
        let wait = async |after: u64, at: u64| {
            until(&wheel, clock, after).await;
            until(&wheel, clock, at).await;
            woken.borrow_mut().push((at, (clock.now() - clock.at(Duration::ZERO)) / 1_000_000));
        };
        tokio::select! {
            () = wheel.turn(clock) => {}
            _ = async { tokio::join!(wait(0, 900), wait(100, 200), wait(150, 180), wait(0, 50)) } => {}
        }
        assert_eq!(*woken.borrow(), [(50, 50), (180, 180), (200, 200), (900, 900)]);
    }
}
