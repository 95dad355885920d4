//! Players that read when the tick comes round: a shard's all one behind the other.

use std::cell::RefCell;
use std::hint::black_box;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use super::Worker;
use crate::load::Run;

/// Players that read before others have their turn. What they need is fetched for all of them before the first one reads.
const TURN: usize = 32;

/// Who reads when the tick comes round.
#[derive(Debug, Default)]
pub struct Sweeps {
    swept: Vec<(Weak<RefCell<Worker>>, Waker)>,
    /// How many of them have read in this round, and when it began or is to begin.
    done: usize,
    due: u64,
}

impl Sweeps {
    /// Lets the player read from the next round on; its task is woken when it is through. When that round begins.
    pub(super) fn join(&mut self, run: &Run, worker: &Rc<RefCell<Worker>>, task: &Waker) -> u64 {
        if self.swept.is_empty() {
            self.due = run.next_tick(run.clock.now()).unwrap_or(u64::MAX);
        }
        self.swept.push((Rc::downgrade(worker), task.clone()));
        self.due
    }

    /// Lets the next ones read if it is time; when it is to be called next.
    pub fn turn(&mut self, run: &Run, now: u64) -> u64 {
        if self.swept.is_empty() {
            return u64::MAX;
        }
        if now < self.due {
            return self.due;
        }
        let some = &self.swept[self.done..self.swept.len().min(self.done + TURN)];
        let some: Vec<_> = some.iter().filter_map(|(worker, task)| Some((worker.upgrade()?, task))).collect();
        black_box(some.iter().map(|(worker, _)| worker.borrow().touch()).fold(0, u64::wrapping_add));
        some.iter().for_each(|(worker, task)| worker.borrow_mut().sweep(task));
        self.done += TURN;
        if self.done < self.swept.len() {
            return now;
        }
        self.swept.retain(|(worker, _)| worker.strong_count() > 0);
        self.done = 0;
        self.due = run.next_tick(run.clock.now()).unwrap_or(u64::MAX);
        self.due
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
    /// Whether it reads only when the tick comes round.
    pub(super) fn is_swept(&self) -> bool {
        self.next_read.is_some() && self.slow.is_none()
    }

    /// What its task would do, without the way through the runtime.
    fn sweep(&mut self, task: &Waker) {
        if self.done.is_none()
            && let Poll::Ready(result) = self.poll(&mut Context::from_waker(task))
        {
            self.done = Some(result);
            task.wake_by_ref();
        }
    }

    /// Brings what a read needs into the caches; the number means nothing.
    fn touch(&self) -> u64 {
        let receiver = self.receiver.as_ref().map_or(0, |receiver| receiver.borrow().touch());
        let own = [self.since, self.moved, self.armed, self.out.len() as u64, self.held as u64, receiver];
        self.session.touch() ^ self.next_read.unwrap_or(0) ^ own.into_iter().fold(0, u64::wrapping_add)
    }
}
