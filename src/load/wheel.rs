//! The times at which a shard's sessions want to be woken: one timer for all of them.

use std::cell::{Cell, RefCell};
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::unix::pipe;
use tokio::task::yield_now;
use tokio::time::{Sleep, sleep};

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
        self.hurry(at);
    }

    /// Turns at this instant at the latest.
    pub fn hurry(&self, at: u64) {
        if at < self.set.get() {
            self.set.set(at);
            self.turner.borrow().iter().for_each(Waker::wake_by_ref);
        }
    }

    /// Wakes all, whose wishes stay: what they waited for may have changed.
    pub fn wake_all(&self) {
        self.wanted.borrow().iter().for_each(|Reverse(wish)| wish.who.wake_by_ref());
    }

    /// Wakes each at its time, without end. `also` does what else is due by an instant and says when it is to be called next.
    pub async fn turn(&self, clock: Clock, mut timer: Timer, mut also: impl FnMut(u64) -> u64) {
        loop {
            self.set.set(u64::MAX);
            let now = clock.now();
            let next = self.wake_due(now).min(also(now)).min(self.set.get());
            self.set.set(next);
            if next <= clock.now() {
                // What came meanwhile has its turn.
                yield_now().await;
            } else {
                poll_fn(|cx| self.wait(cx, &mut timer, clock, next)).await;
            }
        }
    }

    /// Whether it may be this instant, or somebody is in a hurry.
    fn wait(&self, cx: &mut Context<'_>, timer: &mut Timer, clock: Clock, next: u64) -> Poll<()> {
        if self.set.get() < next {
            return Poll::Ready(());
        }
        let mut turner = self.turner.borrow_mut();
        if !turner.as_ref().is_some_and(|turner| turner.will_wake(cx.waker())) {
            *turner = Some(cx.waker().clone());
        }
        timer.poll(cx, clock, next)
    }

    /// Wakes whose time has come; when the next one's comes.
    fn wake_due(&self, now: u64) -> u64 {
        let mut wanted = self.wanted.borrow_mut();
        while wanted.peek().is_some_and(|Reverse(next)| next.at <= now) {
            wanted.pop().into_iter().for_each(|Reverse(wish)| wish.who.wake());
        }
        wanted.peek().map_or(u64::MAX, |Reverse(next)| next.at)
    }
}

/// What a wheel waits by.
pub struct Timer {
    by: By,
    set: u64,
}

enum By {
    /// The kernel's timer, and what is read of it.
    Kernel(TimerFd, pipe::Receiver),
    /// The runtime's, which knows whole milliseconds, and simulated time.
    Runtime(Pin<Box<Sleep>>),
}

impl Timer {
    /// One that is exact. In a runtime.
    ///
    /// # Errors
    /// When the kernel has none for us.
    pub fn exact() -> io::Result<Timer> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        // Whatever can be read and says so, as a pipe does.
        let rings = pipe::Receiver::from_owned_fd_unchecked(timer.as_fd().try_clone_to_owned()?)?;
        let by = By::Kernel(timer, rings);
        Ok(Timer { by, set: u64::MAX })
    }

    /// The runtime's own.
    pub fn coarse() -> Timer {
        Timer { by: By::Runtime(Box::pin(sleep(Duration::ZERO))), set: u64::MAX }
    }

    /// Whether it may be this instant; whoever asked is woken then.
    fn poll(&mut self, cx: &mut Context<'_>, clock: Clock, at: u64) -> Poll<()> {
        let changed = std::mem::replace(&mut self.set, at) != at;
        match &mut self.by {
            By::Kernel(timer, rings) => {
                if changed && at < u64::MAX {
                    let at = Expiration::OneShot(TimeSpec::from_duration(Duration::from_nanos(at)));
                    // With a time that is one it does not fail.
                    let _ = timer.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME);
                }
                // timerfd_create(2): eight bytes. There is room for more, so that it is known that there are none.
                let mut bytes = [0; 16];
                ready!(Pin::new(rings).poll_read(cx, &mut ReadBuf::new(&mut bytes))).unwrap_or_default();
                self.set = u64::MAX;
                Poll::Ready(())
            }
            // Nobody wants anything: whoever will is in a hurry then.
            By::Runtime(_) if at == u64::MAX => Poll::Pending,
            By::Runtime(sleep) => {
                if changed {
                    sleep.as_mut().reset(clock.instant(at));
                }
                sleep.as_mut().poll(cx)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

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
            () = wheel.turn(clock, Timer::coarse(), |_| u64::MAX) => {}
            _ = async { tokio::join!(wait(0, 900), wait(100, 200), wait(150, 180), wait(0, 50)) } => {}
        }
        assert_eq!(*woken.borrow(), [(50, 50), (180, 180), (200, 200), (900, 900)]);
    }

    #[tokio::test]
    async fn the_exact_timer_is_never_early_and_rings_again() {
        let (wheel, clock) = (Wheel::default(), Clock::start());
        tokio::select! {
            () = wheel.turn(clock, Timer::exact().expect("a timer"), |_| u64::MAX) => {}
            // `until` ends when it is time, and sooner never.
            () = async { for at in 1..=5 { until(&wheel, clock, at).await } } => {}
        }
        assert!(clock.now() >= clock.at(Duration::from_millis(5)));
    }
}
