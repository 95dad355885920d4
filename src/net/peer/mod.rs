//! The reference server: any app, any name, as the text says; each [`Fault`] makes it misbehave in one way.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::conn::{Dial, Dialing, Io};
use super::pipe;
use super::target::Target;
use crate::wire::chunk::Quirks;
use crate::wire::time::Time;

mod board;
mod client;
mod command;
mod fault;
pub mod log;
mod misbehave;

pub use board::Taken;
pub use fault::{AnyFault, Fault, FaultError, Faults, fault_names};

use board::Board;

/// Sessions at a time; a further one is closed at once.
pub const MAX_SESSIONS: usize = 20_000;
/// Bytes of unfinished messages of all sessions together; the session that goes above is closed.
pub const MAX_HELD: usize = 512 << 20;
/// From accept to the end of the handshake.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// What the reference server does where the text leaves it open.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Misbehaviours.
    pub faults: Faults,
    /// Every how many messages or sessions those do wrong that count, where it is not as [`Fault::every`] says.
    pub every: BTreeMap<Fault, NonZeroU32>,
    /// How chunks are read and written.
    pub quirks: Quirks,
    /// What playing a name that nobody publishes does.
    pub missing: Missing,
    /// What publishing a name that is taken does.
    pub taken: Taken,
    /// Pictures are written anew, without the NAL units around them that a decoder can do without.
    pub remuxes: bool,
    /// Ping requests, each time so many milliseconds passed; `None`: one a minute.
    pub ping_ms: Option<u32>,
    /// Who is told what sessions do.
    pub log: Option<mpsc::Sender<log::Told>>,
}

impl Options {
    /// Adds a misbehaviour. Of wrong ways to read chunks the last one counts, of those to write too.
    pub fn add(&mut self, fault: AnyFault) {
        match fault {
            AnyFault::Peer(fault, every) => {
                self.faults.add(fault);
                self.every.extend(every.map(|every| (fault, every)));
            }
            AnyFault::Chunk(new) => {
                let default = Quirks::default();
                let quirks = &mut self.quirks;
                if new.type3_after_type0 != default.type3_after_type0 {
                    quirks.type3_after_type0 = new.type3_after_type0;
                }
                if new.type3_ext != default.type3_ext {
                    quirks.type3_ext = new.type3_ext;
                }
                quirks.misread = new.misread.or(quirks.misread);
                quirks.miswrite = new.miswrite.or(quirks.miswrite);
            }
        }
    }

    /// Whether it is this fault's turn when so many messages or sessions were counted.
    fn is_turn(&self, fault: Fault, count: u64) -> bool {
        let every = self.every.get(&fault).map(|every| every.get()).or(fault.every());
        self.faults.has(fault) && every.is_some_and(|every| count.is_multiple_of(every.into()))
    }
}

/// What playing a name that nobody publishes does, unless a recorded stream is asked for, which there never is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Missing {
    /// The player waits for the publisher.
    #[default]
    Wait,
    /// NetStream.Play.StreamNotFound.
    Refuse,
}

/// The reference server. Clones are handles of the same one; as [`Dial`] it is reached through in-memory pipes.
#[derive(Debug, Clone)]
pub struct Peer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: Options,
    board: Board,
    began: Instant,
    sessions: AtomicUsize,
    held: AtomicUsize,
    next_session: AtomicU64,
    /// It "crashed": every session is gone and none is accepted.
    dead: AtomicBool,
    died: Notify,
}

impl Peer {
    /// A server without sessions; its clock is the runtime's.
    pub fn new(options: Options) -> Peer {
        Peer(Arc::new(Shared {
            options,
            board: Board::default(),
            began: Instant::now(),
            sessions: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            next_session: AtomicU64::new(1),
            dead: AtomicBool::new(false),
            died: Notify::new(),
        }))
    }

    /// Serves one connection until it ends.
    pub async fn serve(&self, io: Box<dyn Io>) {
        self.serve_from(io, None).await;
    }

    async fn serve_from(&self, io: Box<dyn Io>, from: Option<SocketAddr>) {
        let shared = self.0.clone();
        if shared.sessions.fetch_add(1, Ordering::Relaxed) < MAX_SESSIONS && !shared.is_dead() {
            client::serve(shared.clone(), io, from).await;
        }
        shared.sessions.fetch_sub(1, Ordering::Relaxed);
    }

    /// Accepts connections until the server dies of a fault.
    pub async fn listen(&self, listener: TcpListener) {
        loop {
            let died = self.0.died.notified();
            if self.0.is_dead() {
                return;
            }
            tokio::select! {
                () = died => return,
                accepted = listener.accept() => match accepted {
                    Ok((socket, from)) => {
                        // Small messages are sent as they come.
                        let _ = socket.set_nodelay(true);
                        let peer = self.clone();
                        tokio::spawn(async move { peer.serve_from(Box::new(socket), Some(from)).await });
                    }
                    // Out of descriptors, or the connection went away again.
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                },
            }
        }
    }

    /// Players of `app/name`, waiting ones included.
    pub fn players(&self, name: &str) -> usize {
        self.0.board.players(name)
    }

    /// Sessions there are.
    pub fn sessions(&self) -> usize {
        self.0.sessions.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn now(&self) -> Time {
        Time::ZERO + self.began.elapsed()
    }

    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// Ends every session and accepts no more, as a crashed process does.
    fn die(&self) {
        self.dead.store(true, Ordering::Relaxed);
        self.died.notify_waiters();
    }
}

impl Dial for Peer {
    fn dial(&self) -> Dialing<'_> {
        Box::pin(async move {
            if self.0.is_dead() {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (ours, theirs) = pipe::pipe(pipe::CAPACITY);
            let peer = self.clone();
            tokio::spawn(async move { peer.serve(Box::new(theirs)).await });
            Ok(Box::new(ours) as Box<dyn Io>)
        })
    }
}

/// Starts the reference server on a free loopback port, on a thread of its own that ends with the process.
///
/// # Errors
/// When no port can be had.
pub async fn embedded() -> io::Result<Target> {
    let listener = std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("reference server".into()).spawn(move || {
        runtime.block_on(async move {
            if let Ok(listener) = TcpListener::from_std(listener) {
                Peer::new(Options::default()).listen(listener).await;
            }
        });
    })?;
    url(address).parse().map_err(io::Error::other)
}

/// The URL that reaches the reference server at this address.
pub fn url(address: SocketAddr) -> String {
    format!("rtmp://{address}/live")
}

/// Message streams of a session, by id.
type Streams = HashMap<u32, command::NetStream>;
