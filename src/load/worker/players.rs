//! Players that are up: their shard turns to those that have something to do, many one behind the other, without the runtime's way through a task of
//! each. Memory that they need is waited for once for many, not for each piece of each.

use std::cell::RefCell;
use std::future::poll_fn;
use std::hint::black_box;
use std::rc::Weak;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio::task::yield_now;

use super::Worker;
use crate::load::Run;

/// Players that are turned to before others have their turn. What they need is fetched for all of them before the first one reads.
const TURN: usize = 32;

/// A shard's players.
#[derive(Debug, Default)]
pub struct Players {
    /// By the number that they ring with.
    members: Vec<Option<Member>>,
    free: Vec<usize>,
    bell: Arc<Bell>,
    /// Those that rang, and how many of them were turned to.
    rang: Vec<usize>,
    heard: usize,
    /// How many were turned to in this round of sweeps, and when it began or is to begin.
    swept: usize,
    due: u64,
}

#[derive(Debug)]
struct Member {
    worker: Weak<RefCell<Worker>>,
    ring: Waker,
    /// Woken when it is through.
    task: Waker,
}

/// What players ring when they have something to do.
#[derive(Debug, Default)]
struct Bell(Mutex<Rung>);

#[derive(Debug, Default)]
struct Rung {
    numbers: Vec<usize>,
    /// Who waits for the next one.
    hears: Option<Waker>,
}

/// A player's hand on the bell.
#[derive(Debug)]
struct Ring {
    bell: Arc<Bell>,
    number: usize,
}

impl Wake for Ring {
    fn wake(self: Arc<Ring>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Ring>) {
        let mut rung = self.bell.rung();
        rung.numbers.push(self.number);
        rung.hears.take().into_iter().for_each(Waker::wake);
    }
}

impl Bell {
    fn rung(&self) -> MutexGuard<'_, Rung> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Players {
    /// Turns to the player from here on whenever it rings, and at each tick if it sweeps; its task is woken when it is through. It has rung already.
    /// When the next tick is.
    pub(super) fn join(&mut self, run: &Run, worker: Weak<RefCell<Worker>>, task: &Waker) -> u64 {
        if self.members.len() == self.free.len() {
            (self.swept, self.due) = (0, run.next_tick(run.clock.now()).unwrap_or(u64::MAX));
        }
        let number = self.free.pop().unwrap_or(self.members.len());
        let ring = Waker::from(Arc::new(Ring { bell: self.bell.clone(), number }));
        ring.wake_by_ref();
        let member = Some(Member { worker, ring, task: task.clone() });
        match self.members.get_mut(number) {
            Some(place) => *place = member,
            None => self.members.push(member),
        }
        self.due
    }

    /// Turns to those that ring, without end.
    pub async fn serve(players: &RefCell<Players>) {
        loop {
            poll_fn(|cx| players.borrow_mut().hear(cx)).await;
            // What came meanwhile, and others, have their turn.
            yield_now().await;
        }
    }

    /// Turns to those that rang, or to some of them; ready when there are more.
    fn hear(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.heard == self.rang.len() {
            self.rang.clear();
            self.heard = 0;
            std::mem::swap(&mut self.bell.rung().numbers, &mut self.rang);
        }
        let rang = std::mem::take(&mut self.rang);
        let end = rang.len().min(self.heard + TURN);
        self.turn_to(rang[self.heard..end].iter().copied());
        (self.rang, self.heard) = (rang, end);
        let mut rung = self.bell.rung();
        if self.heard < self.rang.len() || !rung.numbers.is_empty() {
            return Poll::Ready(());
        }
        rung.hears = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Lets the next ones read if the tick has come round; when it is to be called next.
    pub fn sweep(&mut self, run: &Run, now: u64) -> u64 {
        if self.members.len() == self.free.len() {
            return u64::MAX;
        }
        if now < self.due {
            return self.due;
        }
        let end = self.members.len().min(self.swept + TURN);
        let next = std::mem::replace(&mut self.swept, end)..end;
        self.turn_to(next);
        if self.swept < self.members.len() {
            return now;
        }
        self.swept = 0;
        self.due = run.next_tick(run.clock.now()).unwrap_or(u64::MAX);
        self.due
    }

    fn turn_to(&mut self, numbers: impl Iterator<Item = usize> + Clone) {
        let there = numbers.clone().filter_map(|number| self.members[number].as_ref()?.worker.upgrade());
        black_box(there.map(|worker| worker.borrow().touch()).fold(0, u64::wrapping_add));
        for number in numbers {
            let Some(member) = &self.members[number] else { continue };
            if member.worker.upgrade().is_none_or(|worker| worker.borrow_mut().turn(&member.ring)) {
                member.task.wake_by_ref();
                self.members[number] = None;
                self.free.push(number);
            }
        }
    }
}

impl Run {
    /// When the tick comes round next, if there is one.
    pub(super) fn next_tick(&self, now: u64) -> Option<u64> {
        let tick = self.plan.tick?.as_nanos() as u64;
        // Two fifths of a tick behind the run's beginning: for a tick of 100 ms and pictures of ours each 33 ms that is while the target is busy with one. What
        // it has just touched is warm, and it need not be woken to free what was read.
        let since = now - self.clock.origin_ns + tick * 3 / 5;
        Some(now - since % tick + tick)
    }
}

impl Worker {
    /// Whether its shard is to turn to it.
    pub(super) fn is_player(&self) -> bool {
        self.up && !self.publishes() && self.slow.is_none()
    }

    /// What its task did before; whether it is through.
    fn turn(&mut self, ring: &Waker) -> bool {
        if let Poll::Ready(result) = self.poll(&mut Context::from_waker(ring)) {
            self.done = Some(result);
        }
        self.done.is_some()
    }

    /// Brings what a read needs into the caches; the number means nothing.
    fn touch(&self) -> u64 {
        let receiver = self.receiver.as_ref().map_or(0, |receiver| receiver.borrow().touch());
        let own = [self.since, self.moved, self.armed, self.out.len() as u64, self.held as u64, receiver];
        self.session.touch() ^ self.next_read.unwrap_or(0) ^ own.into_iter().fold(0, u64::wrapping_add)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Count>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Count {
        fn take(&self) -> usize {
            self.0.swap(0, Ordering::Relaxed)
        }
    }

    #[test]
    fn all_that_ring_are_turned_to_some_at_a_time_and_leave_when_they_are_through() {
        let (run, _) = Run::of_one();
        let (through, heard) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let (task, server) = (Waker::from(through.clone()), Waker::from(heard.clone()));
        let (mut players, cx) = (Players::default(), Context::from_waker(&server));
        assert!(players.hear(&cx).is_pending());
        // Those that are gone are through.
        let gone = Weak::new();
        let joined = 2 * TURN + 7;
        for _ in 0..joined {
            players.join(&run, gone.clone(), &task);
        }
        // Whoever serves is woken by the first.
        assert_eq!((heard.take(), players.members.len()), (1, joined));
        for (turn, more) in [(TURN, true), (TURN, true), (7, false)] {
            assert_eq!(players.hear(&cx).is_ready(), more);
            assert_eq!(through.take(), turn);
        }
        assert_eq!(players.free.len(), joined);
        // Their places are taken again.
        players.join(&run, gone, &task);
        assert!(players.hear(&cx).is_pending());
        assert_eq!((heard.take(), through.take(), players.members.len()), (1, 1, joined));
    }
}
