//! `--spawn 'CMD'`: the target is a command that we start, watch and end.

use std::time::Duration;

use clap::Args;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::{Failure, complain};
use crate::net::spawn::Spawned;
use crate::net::target::Target;
use crate::record;

/// Starting the target and waiting for it.
#[derive(Debug, Args)]
pub struct SpawnArgs {
    /// The command that serves TARGET, for `sh -c`: started by us, watched, and ended with the run with all it started. It stays in the foreground.
    #[arg(long, value_name = "CMD", requires = "target")]
    spawn: Option<String>,
    /// Keep trying for so long until the target takes a connection; 30s with --spawn.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
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
    /// How long the target may take until it takes connections, where something is said of it or it is ours.
    pub fn patience(&self) -> Duration {
        self.wait_target.or(self.spawn.is_some().then_some(START)).unwrap_or_default()
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
    while !served().await && Instant::now() < end {
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
    let last_lines = spawned.last_lines().iter().map(|line| mask(line)).collect();
    let said = record::Spawned { pid: spawned.pid(), died, last_lines };
    spawned.end().await;
    if let Some(died) = &said.died {
        complain(&format!("the target ended by itself: {died}"));
    }
    Some(said)
}
