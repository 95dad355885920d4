//! What sessions do, told to whoever runs the server.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::mpsc;

/// Lines that wait to be taken; beyond, what is told is dropped.
const WAITING: usize = 4096;

/// Something that a session did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The session's number.
    pub session: u64,
    /// Where it comes from; absent in memory.
    pub from: Option<SocketAddr>,
    /// What it did.
    pub what: What,
}

/// What a session did. Names are as the client said them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It publishes `app/name` from now on.
    Publishes(String),
    /// It plays `app/name` from now on.
    Plays(String),
    /// It is over.
    Ended {
        /// Since the connection was accepted.
        after: Duration,
        /// The app, where it came so far.
        app: Option<String>,
        /// Bytes read.
        received_bytes: u64,
        /// Bytes written.
        sent_bytes: u64,
        /// Why.
        why: String,
    },
}

/// A log, and where it is read: bounded.
pub fn channel() -> (mpsc::Sender<Told>, mpsc::Receiver<Told>) {
    mpsc::channel(WAITING)
}
