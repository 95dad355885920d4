//! The cheapest programs that do what `load` does: players that read at once or in sweeps, publishers that write on time or in bursts.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use clap::Args;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use serde_json::json;

use crate::wire::{self, Amf, COMMAND, HANDSHAKE, LOOP, Shape, Stream, VIDEO, Walker};

#[derive(Debug, Args)]
pub struct FloorArgs {
    /// Of an RTMP server.
    address: SocketAddr,
    #[arg(long, default_value_t = 1)]
    n: usize,
    /// Send, do not play.
    #[arg(long)]
    publish: bool,
    /// Players read each time this has gone by, in milliseconds; 0: at once.
    #[arg(long, default_value_t = 0)]
    tick: u64,
    /// Publishers send what has become due each time this has gone by, in milliseconds; 0: every frame on its time.
    #[arg(long, default_value_t = 0)]
    burst: u64,
    /// Sessions on their way at a time.
    #[arg(long, default_value_t = 256)]
    window: usize,
    #[command(flatten)]
    shape: Shape,
}

/// The token of standard input.
const STDIN: u64 = u64::MAX;
const BUFFER: usize = 64 << 10;
/// How far behind the beginning of a picture sweeps begin.
const BEHIND_PICTURE: Duration = Duration::from_millis(5);

struct Session {
    stream: TcpStream,
    walker: Walker,
    /// Of the handshake.
    missing: usize,
    /// Command messages that came.
    answers: u32,
}

struct Floor {
    args: FloorArgs,
    epoll: Epoll,
    sessions: Vec<Session>,
    buffer: Vec<u8>,
    playing: usize,
    bytes: u64,
    messages: u64,
    /// When the first session last got a picture.
    picture: Instant,
}

/// Runs until standard input ends; a line there is answered with the counts.
pub fn run(args: FloorArgs) -> io::Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(io::stdin().as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, STDIN))?;
    let begin = Instant::now();
    let (sessions, buffer) = (vec![], vec![0; BUFFER]);
    let mut floor =
        Floor { args, epoll, sessions, buffer, playing: 0, bytes: 0, messages: 0, picture: begin };
    while floor.playing < floor.args.n {
        while floor.sessions.len() < floor.args.n.min(floor.playing + floor.args.window) {
            floor.connect()?;
        }
        if !floor.turn(1000)? {
            return Ok(());
        }
    }
    println!("{}", json!({ "up": floor.playing, "ms": begin.elapsed().as_secs_f64() * 1e3 }));
    match (floor.args.publish, floor.args.tick) {
        (true, _) => floor.publish(),
        (false, 0) => {
            while floor.turn(1000)? {}
            Ok(())
        }
        (false, tick) => floor.sweep(Duration::from_millis(tick)),
    }
}

impl Floor {
    fn connect(&mut self) -> io::Result<()> {
        let mut stream = TcpStream::connect(self.args.address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut hello = [0; 1 + HANDSHAKE];
        hello[0] = 3;
        stream.write_all(&hello)?;
        self.epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, self.sessions.len() as u64))?;
        let missing = 1 + 2 * HANDSHAKE;
        self.sessions.push(Session { stream, walker: Walker::default(), missing, answers: 0 });
        Ok(())
    }

    /// Waits, and reads what came; false when standard input has ended.
    fn turn(&mut self, wait_ms: u16) -> io::Result<bool> {
        let mut events = [EpollEvent::empty(); 1024];
        let n = match self.epoll.wait(&mut events, EpollTimeout::from(wait_ms)) {
            Err(nix::errno::Errno::EINTR) => return Ok(true),
            n => n?,
        };
        for event in &events[..n] {
            match event.data() {
                STDIN if io::stdin().read(&mut [0; 64])? == 0 => return Ok(false),
                STDIN => println!("{}", json!({ "bytes": self.bytes, "messages": self.messages })),
                token => self.read(token as usize)?,
            }
        }
        Ok(true)
    }

    #[inline]
    fn read(&mut self, i: usize) -> io::Result<()> {
        let Floor { sessions, buffer, .. } = self;
        let session = &mut sessions[i];
        loop {
            let n = match session.stream.read(buffer) {
                Ok(0) => return Err(io::Error::other("closed by the server")),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                n => n?,
            };
            let mut bytes = &buffer[..n];
            self.bytes += n as u64;
            if session.missing > 0 {
                bytes = &bytes[n.min(session.missing)..];
                session.missing -= n - bytes.len();
                if session.missing == 0 {
                    session.stream.write_all(&connect())?;
                }
            }
            let answers = session.answers;
            session.walker.walk(bytes, |head, _, last| {
                self.messages += u64::from(last);
                session.answers += u32::from(last && head.type_id == COMMAND);
                if i == 0 && last && head.type_id == VIDEO {
                    self.picture = Instant::now();
                }
            });
            for answer in answers + 1..=session.answers {
                match answer {
                    1 => session.stream.write_all(&create_stream())?,
                    2 => session.stream.write_all(&begin(self.args.publish, i))?,
                    3 => self.playing += 1,
                    _ => {}
                }
            }
            if n < BUFFER {
                return Ok(());
            }
        }
    }

    /// Sweeps come, as those of `load`, while the server is busy with a picture: what they cost depends on it.
    fn sweep(&mut self, tick: Duration) -> io::Result<()> {
        let begun = self.picture;
        while self.picture == begun && self.turn(1000)? {}
        for session in &self.sessions {
            self.epoll.delete(&session.stream)?;
        }
        let mut next = self.picture + BEHIND_PICTURE;
        while self.turn(0)? {
            next += tick;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            for i in 0..self.sessions.len() {
                self.read(i)?;
            }
        }
        Ok(())
    }

    fn publish(&mut self) -> io::Result<()> {
        let stream = Stream::new(self.args.shape);
        let mut wheel = Wheel::new(&stream, self.args.n, self.args.burst);
        loop {
            let now = wheel.begin.elapsed().as_millis() as u64;
            while wheel.now <= now {
                if wheel.now.is_multiple_of(100) && !self.turn(0)? {
                    return Ok(());
                }
                let Floor { sessions, bytes, messages, .. } = self;
                wheel.turn(&stream, |i, piece, count| {
                    let n = sessions[i].stream.write(piece)?;
                    if n < piece.len() {
                        return Err(io::Error::other("the server takes no more"));
                    }
                    (*bytes, *messages) = (*bytes + n as u64, *messages + count as u64);
                    Ok(())
                })?;
            }
            let next = wheel.begin + Duration::from_millis(wheel.now);
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }
}

/// Which publisher sends in which millisecond.
struct Wheel {
    begin: Instant,
    now: u64,
    burst: u64,
    slots: Vec<Vec<u32>>,
    publishers: Vec<Publisher>,
    spare: VecDeque<Vec<u32>>,
}

struct Publisher {
    next: usize,
    /// What the stream's beginning is behind the wheel's, in nanoseconds.
    base: i64,
}

const SLOTS: usize = 4096;

impl Wheel {
    /// Publishers begin anywhere in the stream, and anywhere in the first 100 ms.
    fn new(stream: &Stream, n: usize, burst: u64) -> Wheel {
        let mut slots = vec![Vec::new(); SLOTS];
        let publishers = (0..n).map(|i| {
            let next = i * 7919 % stream.pieces.len();
            let base = (i * 100_000_000 / n) as i64 - stream.pieces[next].at as i64;
            slots[i * 100 / n].push(i as u32);
            Publisher { next, base }
        });
        let publishers = publishers.collect();
        Wheel { begin: Instant::now(), now: 0, burst, slots, publishers, spare: VecDeque::new() }
    }

    /// Everything of this millisecond.
    fn turn(
        &mut self,
        stream: &Stream,
        mut send: impl FnMut(usize, &[u8], usize) -> io::Result<()>,
    ) -> io::Result<()> {
        let slot = self.now as usize % SLOTS;
        let mut due = std::mem::replace(&mut self.slots[slot], self.spare.pop_front().unwrap_or_default());
        for i in due.drain(..) {
            let publisher = &mut self.publishers[i as usize];
            let position = self.now as i64 * 1_000_000 - publisher.base;
            let from = publisher.next;
            while stream.pieces.get(publisher.next).is_some_and(|piece| piece.at as i64 <= position) {
                publisher.next += 1;
            }
            publisher.next = publisher.next.max(from + 1);
            let to = publisher.next;
            let bytes = stream.pieces[from].bytes.start..stream.pieces[to - 1].bytes.end;
            send(i as usize, &stream.bytes[bytes], to - from)?;
            if to == stream.pieces.len() {
                publisher.next = 0;
                publisher.base += LOOP as i64;
            }
            let next = publisher.base + stream.pieces[publisher.next].at as i64;
            let next = (next as u64).div_ceil(1_000_000).max(self.now + self.burst.max(1));
            self.slots[next as usize % SLOTS].push(i);
        }
        self.spare.push_back(due);
        self.now += 1;
        Ok(())
    }
}

fn connect() -> Vec<u8> {
    let mut out = vec![0; HANDSHAKE];
    wire::set_chunk_size(&mut out);
    let object = [("app", "live"), ("tcUrl", "rtmp://127.0.0.1/live"), ("flashVer", "floor")];
    wire::command(&mut out, 0, &[Amf::Text("connect"), Amf::Number(1.0), Amf::Object(&object)]);
    out
}

fn create_stream() -> Vec<u8> {
    let mut out = Vec::new();
    wire::command(&mut out, 0, &[Amf::Text("createStream"), Amf::Number(2.0), Amf::Null]);
    out
}

fn begin(publish: bool, i: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let name = if publish { format!("s-{i}") } else { "s".into() };
    let verb = Amf::Text(if publish { "publish" } else { "play" });
    wire::command(&mut out, 1, &[verb, Amf::Number(3.0), Amf::Null, Amf::Text(&name)]);
    out
}
