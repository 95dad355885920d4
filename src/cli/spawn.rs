//! `--spawn 'CMD'`: the target is a command that we start, watch and end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Args;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::progress::Progress;
use super::{Failure, complain, value};
use crate::net::spawn::Spawned;
use crate::net::target::Target;
use crate::record;
use crate::scenario::suite::{Keeper, Restarting};

/// Starting the target and waiting for it.
#[derive(Debug, Args)]
pub struct SpawnArgs {
    /// The command that serves TARGET, for `sh -c`: started by us, watched, and ended with the run with all it started. It stays in the foreground.
    #[arg(long, value_name = "CMD", requires = "target")]
    spawn: Option<String>,
    /// Keep trying for so long until the target takes a connection; 30s with --spawn.
    #[arg(long, value_name = "TIME", value_parser = value::time)]
    wait_target: Option<Duration>,
}

/// How long one try to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two tries.
const AGAIN: Duration = Duration::from_millis(100);
/// How long a command that we start may take until it takes connections, where nothing is said of it.
const START: Duration = Duration::from_secs(30);
/// At the end of a run: how long the end of one that has just lost its connections may take to show.
const JUST_NOW: Duration = Duration::from_millis(300);
/// How long it may take to see whether somebody else listens already.
const TAKEN: Duration = Duration::from_secs(1);

impl SpawnArgs {
    /// What serves the target, where we start it.
    pub fn command(&self) -> Option<&str> {
        self.spawn.as_deref()
    }

    /// How long the target may take until it takes connections, where something is said of it or it is ours.
    pub fn patience(&self) -> Duration {
        self.wait_target.or(self.spawn.is_some().then_some(START)).unwrap_or_default()
    }

    /// What was started, in the hands of somebody who starts it again when it dies.
    pub fn keep(&self, spawned: Option<Spawned>) -> Option<Arc<Kept>> {
        let (command, now) = (self.spawn.clone()?, Mutex::new(spawned));
        Some(Arc::new(Kept { command, now, dead: Mutex::default() }))
    }

    /// Starts what is to be started and waits until the target takes a connection; whether it did is told by what follows.
    ///
    /// # Errors
    /// When there is no process to be had, somebody else serves the target already, or `stop` is through.
    pub async fn start(
        &self,
        target: &Target,
        stop: &mut (impl Future<Output = ()> + Unpin),
    ) -> Result<Option<Spawned>, Failure> {
        let address = target.address();
        let mut spawned = match &self.spawn {
            None => None,
            Some(_) if matches!(timeout(TAKEN, TcpStream::connect(&address)).await, Ok(Ok(_))) => {
                return Err(Failure::usage(format!(
                    "--spawn: {address} is served already, by another process"
                )));
            }
            Some(command) => {
                Some(Spawned::start(command).map_err(|e| Failure::internal(format!("--spawn: {e}")))?)
            }
        };
        let Some(patience) = self.wait_target.or(spawned.is_some().then_some(START)) else { return Ok(None) };
        tokio::select! {
            () = wait(&address, patience, &mut spawned) => Ok(spawned),
            () = stop => Err(Failure::interrupted("interrupted before the target took a connection")),
        }
    }
}

/// Tries until a connection opens or the one that is to take it is dead.
async fn wait(address: &str, patience: Duration, spawned: &mut Option<Spawned>) {
    let end = Instant::now() + patience;
    let served = async || matches!(timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await, Ok(Ok(_)));
    let (began, mut progress) = (Instant::now(), Progress::new(None, "{spinner} {wide_msg}"));
    while !served().await && Instant::now() < end {
        progress.step(1, || format!("{} s: {address} takes no connection yet", began.elapsed().as_secs()));
        let Some(spawned) = spawned else {
            sleep(AGAIN).await;
            continue;
        };
        if timeout(AGAIN, spawned.died()).await.is_ok() {
            return;
        }
    }
}

/// Ends what was started. What the record says of it has the target's secrets masked by `mask`.
pub async fn end(spawned: Option<Spawned>, mask: impl Fn(&str) -> String) -> Option<record::Spawned> {
    let mut spawned = spawned?;
    let died = timeout(JUST_NOW, spawned.died()).await.ok();
    let last_lines = spawned.last_lines().await.iter().map(|line| mask(line)).collect();
    let said = record::Spawned { pid: spawned.pid(), died, restarts: None, last_lines };
    spawned.end().await;
    if let Some(died) = &said.died {
        complain(&format!("the target ended by itself: {died}"));
    }
    Some(said)
}

/// What was started, and is again when it dies.
#[derive(Debug)]
pub struct Kept {
    command: String,
    now: Mutex<Option<Spawned>>,
    /// What became of those that died, the first ahead.
    dead: Mutex<Vec<record::Spawned>>,
}

impl Kept {
    /// Its process.
    pub fn pid(&self) -> Option<u32> {
        lock(&self.now).as_ref().map(Spawned::pid)
    }

    /// As [`end`]; where it died more than once, what is said is of the first time, and how often it was started again.
    pub async fn end(&self, mask: impl Fn(&str) -> String) -> Option<record::Spawned> {
        let now = lock(&self.now).take();
        let last = end(now, &mask).await;
        let mut dead = std::mem::take(&mut *lock(&self.dead));
        let restarts = u32::try_from(dead.len()).ok().filter(|n| *n > 0);
        dead.extend(last);
        let mut said = dead.into_iter().min_by_key(|said| said.died.is_none())?;
        said.last_lines = said.last_lines.iter().map(|line| mask(line)).collect();
        Some(record::Spawned { restarts, ..said })
    }
}

impl Keeper for Kept {
    fn death(&self) -> Option<String> {
        lock(&self.now).as_mut().and_then(Spawned::death)
    }

    fn restart(&self) -> Restarting<'_> {
        Box::pin(async move {
            let old = lock(&self.now).take();
            let said = end(old, str::to_owned).await;
            lock(&self.dead).extend(said);
            let new = Spawned::start(&self.command).map_err(|e| e.to_string())?;
            let pid = new.pid();
            *lock(&self.now) = Some(new);
            Ok(pid)
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
