//! The client side of captured sessions, sent again: fresh handshakes, the target's ids, waiting where the recording waited for an answer.

pub mod answer;
mod compare;
mod ears;
mod line;
mod order;
pub mod pace;
mod perform;
pub mod recording;
mod verify;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bstr::{BStr, BString, ByteSlice};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::pcap::Error;
use super::secrets::{self, Place};
use crate::net::conn::Dial;
use crate::record::replay::{LeftOut, Session};
use line::Limit;
use order::Turn;
use pace::{LONGEST_PAUSE, Pace};
use perform::Stage;
use recording::{Collector, Kind, MAX_KEPT, Recording, base};

/// Sessions of all copies together, at most.
pub const MAX_SESSIONS: usize = 10_000;

/// How long an answer that all else stands on may take, a player's too.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// What a session that was told to end may take for that.
const GRACE: Duration = Duration::from_secs(5);

/// What is sent, and how.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `host:port` of the target, as tcUrl has it.
    pub address: String,
    /// The app; `None`: as recorded.
    pub app: Option<String>,
    /// The stream's name, with what is to be its query; `None`: as recorded. Of several recorded names the second gets `-2`, and so on.
    pub name: Option<String>,
    /// How fast.
    pub pace: Pace,
    /// How often the media is sent, at least 1.
    pub loops: u32,
    /// How many of each session there are at once, at least 1; more than one have `-1`, `-2` and so on behind their names.
    pub copies: u32,
    /// The chunk size in bytes; `None`: as recorded.
    pub chunk_size: Option<u32>,
    /// Whether players compare what comes.
    pub verify: bool,
    /// Whether names are shown with their secrets.
    pub show_secrets: bool,
    /// For the whole run.
    pub max_time: Duration,
    /// Counts the messages that all sessions have sent.
    pub sent: Arc<AtomicU64>,
}

/// A stream's name, its secrets masked unless they are to be shown.
pub fn shown(name: &str, secrets: bool) -> String {
    if secrets { name.to_owned() } else { secrets::shown(name, Place::Name) }
}

/// What a capture has to send.
#[derive(Debug)]
pub struct Recorded {
    /// Sessions that can be replayed, in the order in which they began.
    pub sessions: Vec<Recording>,
    /// The others.
    pub left_out: Vec<LeftOut>,
    /// Whether the packets had no times: a raw dump.
    pub untimed: bool,
    /// Where the file could not be read to its end.
    pub damage: Option<String>,
}

/// Why there is nothing to send.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// The file cannot be read.
    #[error(transparent)]
    Capture(#[from] Error),
    /// More than is kept. All is kept, because only the end of a session shows its names and which answers were waited for.
    #[error(
        "the client's side of the sessions to replay has more than {most} bytes, the most that is kept in memory; choose one of \
         several with --session, or cut the capture"
    )]
    TooMuch {
        /// Bytes.
        most: usize,
    },
}

/// Reads the client's side of all sessions, or of the one with this key (or number).
///
/// # Errors
/// When nothing can be read or it is too much.
pub fn record(path: &Path, only: Option<String>) -> Result<Recorded, Unfit> {
    record_within(path, only, MAX_KEPT)
}

/// As [`record`], keeping at most so many bytes.
///
/// # Errors
/// As [`record`].
pub fn record_within(path: &Path, only: Option<String>, most: usize) -> Result<Recorded, Unfit> {
    let mut collector = Collector::new(only, most);
    let found = super::read(path, true, &mut collector)?;
    if collector.is_full() {
        return Err(Unfit::TooMuch { most });
    }
    let (mut sessions, mut left_out) = (Vec::new(), Vec::new());
    for session in &found.sessions {
        let Some(recording) = collector.take(session) else { continue };
        let connects = recording.calls.iter().any(|c| c.kind == Kind::Connect);
        if connects || recording.hole.is_some() {
            sessions.push(recording);
        } else {
            left_out.push(LeftOut { key: recording.key, why: "the client does not connect".into() });
        }
    }
    let others = found.other.iter().map(|o| LeftOut { key: o.key.clone(), why: o.what.clone() });
    left_out.extend(others.filter(|_| sessions.is_empty()));
    sessions.sort_by_key(|s| s.span.0);
    Ok(Recorded { sessions, left_out, untimed: found.format == "raw", damage: found.damage })
}

/// Sends all recordings, each `copies` times, and tells what became of them; ends at the latest when `max_time` is up, or soon after
/// `interrupt` becomes true.
pub async fn run(
    recordings: Vec<Recording>,
    settings: &Settings,
    dial: Arc<dyn Dial>,
    interrupt: watch::Receiver<bool>,
) -> Vec<Session> {
    let recordings = Arc::new(recordings);
    let limit = Limit { at: Instant::now() + settings.max_time, interrupt };
    let mut tasks = JoinSet::new();
    for copy in 1..=settings.copies {
        let stage = Arc::new(Stage {
            settings: settings.clone(),
            dial: dial.clone(),
            names: Names::new(&recordings, settings, copy),
            limit: limit.clone(),
            copy,
        });
        let turns = Turn::each(recordings.iter().map(|r| r.span.0));
        for (at, mut turn) in turns.into_iter().enumerate() {
            let (stage, recordings) = (stage.clone(), recordings.clone());
            tasks.spawn(async move {
                let recording = &recordings[at];
                let session = async {
                    tokio::time::sleep_until(begins_at(&recordings[..=at], stage.settings.pace)).await;
                    turn.come().await;
                    stage.perform(recording, &mut turn).await
                };
                // A session that runs ends by itself when it must; one that waits does not.
                let session = tokio::select! {
                    biased;
                    session = session => session,
                    end = stage.limit.over(GRACE) => Session { end, ..stage.blank(recording) },
                };
                (copy, at, session)
            });
        }
    }
    let mut done = Vec::new();
    while let Some(session) = tasks.join_next().await {
        done.extend(session.ok());
    }
    done.sort_by_key(|(copy, at, _)| (*copy, *at));
    done.into_iter().map(|(_, _, session)| session).collect()
}

/// When the last of these is to begin at this pace, if the first does now.
fn begins_at(sessions: &[Recording], pace: Pace) -> Instant {
    let gaps = sessions.windows(2).map(|two| two[1].span.0.since(two[0].span.0).min(LONGEST_PAUSE));
    Instant::now() + pace.pauses(gaps)
}

/// What streams are called at the target.
#[derive(Debug, Clone)]
pub struct Names {
    /// Recorded base, and what stands in its place.
    list: Vec<(BString, Named)>,
}

#[derive(Debug, Clone)]
struct Named {
    base: BString,
    /// Takes the place of the recorded query.
    query: Option<BString>,
    /// Whether one of the sessions publishes it.
    published: bool,
}

impl Names {
    fn new(recordings: &[Recording], settings: &Settings, copy: u32) -> Names {
        let mut list: Vec<(BString, Named)> = Vec::new();
        for name in recordings.iter().flat_map(|r| &r.names) {
            let recorded = base(name.as_bstr());
            if list.iter().any(|(known, _)| known == recorded) {
                continue;
            }
            let mut named = match &settings.name {
                Some(name) => {
                    let (base, query) = name.split_once('?').map_or((&name[..], ""), |(b, q)| (b, q));
                    let more = if list.is_empty() { String::new() } else { format!("-{}", list.len() + 1) };
                    Named {
                        base: format!("{base}{more}").into(),
                        query: Some(query.into()),
                        published: false,
                    }
                }
                None => Named { base: recorded.into(), query: None, published: false },
            };
            named.published = recordings.iter().any(|r| r.publishes(recorded));
            if settings.copies > 1 {
                named.base.extend_from_slice(format!("-{copy}").as_bytes());
            }
            list.push((recorded.into(), named));
        }
        Names { list }
    }

    /// Whether one of the sessions publishes what is recorded under this name.
    pub fn is_published(&self, recorded: &BStr) -> bool {
        self.list.iter().any(|(known, named)| known == base(recorded) && named.published)
    }

    /// What a recorded name is at the target; `None`: it is no stream's name.
    pub fn of(&self, recorded: &BStr) -> Option<BString> {
        let (_, named) = self.list.iter().find(|(known, _)| known == base(recorded))?;
        let (_, query) = recorded.split_once_str("?").unwrap_or((recorded, b""));
        let query = named.query.as_ref().map_or(query, |q| q.as_slice());
        let mut name = named.base.clone();
        if !query.is_empty() {
            name.push(b'?');
            name.extend_from_slice(query);
        }
        Some(name)
    }
}
