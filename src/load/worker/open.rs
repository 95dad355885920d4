//! The way to a connection: which stream it is for, TCP and TLS.

use std::cell::RefCell;
use std::io;
use std::ops::RangeInclusive;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{sleep, timeout_at};

use super::{Allowance, Failure, LOOK_NS, PHASE_NS, SLOW_ROOM, Worker};
use crate::load::link::{Link, Wishes};
use crate::load::plan::{Job, Role};
use crate::load::shard::Shard;
use crate::load::stats::{Metric, Phase};
use crate::load::{Run, Slot};

/// Opens the connection; `None` when there is nothing to play, the attempt failed or the run is over.
pub(super) async fn open(shard: &Rc<Shard>, job: Job) -> Option<Rc<RefCell<Worker>>> {
    let run = &shard.run;
    let (publisher, name) = stream_of(run, job.role).await?;
    shard.stats.borrow_mut().counts.attempted += 1;
    match connect(shard, job).await {
        Ok(Some(opened)) => {
            let worker = Worker::new(shard, job, publisher, name, opened);
            return Some(Rc::new(RefCell::new(worker)));
        }
        Ok(None) => {}
        Err((phase, why)) => shard.stats.borrow_mut().fail(phase, why),
    }
    if let Role::Publisher(number) = job.role {
        run.slots[number as usize].ended_ns.store(run.clock.now(), Ordering::Release);
    }
    None
}

/// A connection, when it was begun and since when it is open.
pub(super) struct Opened {
    pub(super) link: Link,
    pub(super) began: u64,
    pub(super) since: u64,
}

/// TCP and, where it is to be, TLS. `None`: the run was over before.
async fn connect(shard: &Rc<Shard>, job: Job) -> Result<Option<Opened>, Failure> {
    let run = &shard.run;
    let passed = |metric, since| {
        let now = run.clock.now();
        shard.stats.borrow_mut().record_ns(metric, since, now);
        now
    };
    let began = run.clock.now();
    let slow = Allowance::of(run, job.role).is_some();
    let wishes = Wishes {
        source: run.source(),
        stamps: matches!(job.role, Role::Player(_)) && run.plan.tick.is_none() && !slow,
        room: if slow { Some(SLOW_ROOM) } else { swept_room(run, job.role) },
    };
    let Some(link) = in_time(shard, Phase::Tcp, [began; 2], pin!(run.way.open(wishes))).await? else {
        return Ok(None);
    };
    let open = passed(Metric::Tcp, began);
    if !run.way.is_secure() {
        return Ok(Some(Opened { link, began, since: open }));
    }
    // Apart: without TLS no room is to be had for it.
    let tls = in_time(shard, Phase::Tls, [began, open], Box::pin(run.way.secure(link)).as_mut()).await?;
    Ok(tls.map(|link| Opened { link, began, since: passed(Metric::Tls, open) }))
}

/// Bytes of a tick below which sockets hold them as they are, and what nobody may ask for more than (socket(7), rmem_max, as it comes).
const TICK_BYTES: RangeInclusive<u64> = 32 << 10..=208 << 10;

/// What the kernel is to hold for a player that sweeps, by the bitrate of what we publish; `None` where that goes by itself, or by its own growing alone.
fn swept_room(run: &Run, role: Role) -> Option<u32> {
    let tick = run.plan.tick.filter(|_| matches!(role, Role::Player(_)) && run.plan.play.is_none())?;
    room_for(run.media.shape().bitrate_bps, tick)
}

/// Half as much again as comes in a tick on average: key frames are larger than others.
fn room_for(bitrate_bps: u64, tick: Duration) -> Option<u32> {
    let bytes = bitrate_bps.saturating_mul(tick.as_millis() as u64) / 8000;
    TICK_BYTES.contains(&bytes).then(|| (bytes * 3 / 2).min(*TICK_BYTES.end()) as u32)
}

/// What a phase that began at `since` came to, of a session that began at `began`; `None` when the run was over before, which is accounted for.
async fn in_time(
    shard: &Shard,
    phase: Phase,
    [began, since]: [u64; 2],
    mut opening: Pin<&mut impl Future<Output = io::Result<Link>>>,
) -> Result<Option<Link>, Failure> {
    let (run, end) = (&shard.run, since + PHASE_NS / 2);
    loop {
        let now = run.clock.now();
        if now >= end {
            return Err((phase, format!("nothing within {:?}", Duration::from_nanos(end - since))));
        }
        if now >= run.silence() {
            shard.stats.borrow_mut().cut_off(phase, now - began, false);
            return Ok(None);
        }
        // The run's end may come nearer.
        let look = end.min(run.silence()).min(now + LOOK_NS);
        if let Ok(opened) = timeout_at(run.clock.instant(look), &mut opening).await {
            return opened.map(Some).map_err(|e| (phase, e.to_string()));
        }
    }
}

/// What it publishes or plays: players are spread over the streams that are there. `None` when there will be none.
async fn stream_of(run: &Run, role: Role) -> Option<(Option<u32>, String)> {
    let number = match (role, &run.plan.play) {
        (Role::Publisher(i), _) => return Some((Some(i), run.name(i, i))),
        (Role::Player(number), Some(name)) => return Some((None, run.foreign_name(name, number))),
        (Role::Player(number), None) => number,
    };
    let count = run.plan.publishers;
    let mut tried = 0;
    while tried < count && run.clock.now() < run.silence() {
        let wanted = (number % count + tried) % count;
        match run.slots[wanted as usize].state() {
            State::Live => return Some((Some(wanted), run.name(wanted, number))),
            State::Gone => tried += 1,
            State::Coming => sleep(Duration::from_millis(5)).await,
        }
    }
    None
}

enum State {
    Coming,
    Live,
    Gone,
}

impl Slot {
    fn state(&self) -> State {
        match (self.began_ns.load(Ordering::Acquire), self.ended_ns.load(Ordering::Acquire)) {
            (_, 1..) => State::Gone,
            (0, _) => State::Coming,
            _ => State::Live,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_have_room_for_what_comes_in_a_tick_where_they_may() {
        let room = |mbit: u64, ms| room_for(mbit * 1_000_000, Duration::from_millis(ms));
        // 12.5 kB, 100 kB, 150 kB, 500 kB.
        assert_eq!(
            [room(1, 100), room(8, 100), room(12, 100), room(8, 500)],
            [None, Some(150_000), Some(208 << 10), None]
        );
    }
}
