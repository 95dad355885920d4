//! A server that costs next to nothing: it takes any name, sends a stream of its own or passes on a publisher's, and knows when it sent what.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSliceMut, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use clap::Args;
use hdrhistogram::Histogram;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, SockaddrIn};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId as Timer, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId, clock_gettime};
use serde_json::json;

use crate::wire::{self, AUDIO, Amf, COMMAND, HANDSHAKE, Head, LOOP, Shape, Stream, VIDEO, Walker};

#[derive(Debug, Args)]
pub struct StubArgs {
    /// 0: a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Pass on what publishers send and look at their stamps, in place of a stream of its own.
    #[arg(long)]
    relay: bool,
    /// What is passed on waits up to so many milliseconds, now more and now less.
    #[arg(long, default_value_t = 0)]
    delay: u64,
    /// Send no stream.
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    shape: Shape,
}

const LISTENER: u64 = u64::MAX;
const STDIN: u64 = u64::MAX - 1;
const TIMER: u64 = u64::MAX - 2;
const SIGNAL: u64 = u64::MAX - 3;
const BUFFER: usize = 64 << 10;
/// What a connection that takes no more may owe.
const MAX_PENDING: usize = 16 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Hello,
    Commands,
    Playing,
    Publishing,
}

struct Conn {
    stream: TcpStream,
    stage: Stage,
    walker: Walker,
    /// The handshake, or the messages that are on their way, by chunk stream.
    input: Vec<u8>,
    partial: [Vec<u8>; 8],
    name: Vec<u8>,
    /// When it was told that it plays.
    playing: u64,
    /// What the socket did not take.
    pending: VecDeque<u8>,
}

/// What a publisher sent, chunked again.
struct Frame {
    due: u64,
    publisher: Vec<u8>,
    bytes: Vec<u8>,
    stamp: Option<Stamp>,
}

/// When a frame was to be sent and when it was, in nanoseconds of the monotonic clock.
#[derive(Debug, Clone, Copy)]
struct Stamp {
    planned: u64,
    written: u64,
}

/// Since the last report.
struct Measured {
    /// Own sends behind their time.
    late: Histogram<u64>,
    /// Planned to sent on.
    frame: Histogram<u64>,
    /// Written to sent on.
    frame_raw: Histogram<u64>,
    /// Planned to arrived here.
    arrival: Histogram<u64>,
    planned: Vec<u64>,
}

#[derive(Default)]
struct Counts {
    bytes_out: u64,
    messages_out: u64,
    bytes_in: u64,
    accepts: u64,
    publishes: u64,
    plays: u64,
    first_accept: u64,
    last_accept: u64,
    last_play: u64,
}

struct Stub {
    args: StubArgs,
    epoll: Epoll,
    listener: TcpListener,
    conns: Vec<Option<Conn>>,
    free: Vec<usize>,
    players: HashMap<Vec<u8>, Vec<usize>>,
    delayed: VecDeque<Frame>,
    buffer: Vec<u8>,
    control: Vec<u8>,
    counts: Counts,
    measured: Measured,
    /// The real-time clock less the monotonic one.
    offset: u64,
}

/// Runs until standard input ends or SIGTERM comes. The first line tells the port; a line on standard input is answered with a report.
pub fn run(args: StubArgs) -> io::Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let listener = listen(args.port)?;
    println!("{}", json!({ "port": listener.local_addr()?.port() }));
    let mask = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    mask.thread_block()?;
    let signals = SignalFd::new(&mask)?;
    let timer = TimerFd::new(Timer::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    epoll.add(io::stdin().as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, STDIN))?;
    epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
    epoll.add(&signals, EpollEvent::new(EpollFlags::EPOLLIN, SIGNAL))?;
    let mut own = (!args.relay && !args.quiet).then(|| Own::new(args.shape));
    let mut stub = Stub {
        args,
        epoll,
        listener,
        conns: vec![],
        free: vec![],
        players: HashMap::new(),
        delayed: VecDeque::new(),
        buffer: vec![0; BUFFER],
        control: nix::cmsg_space!(TimeSpec),
        counts: Counts::default(),
        measured: Measured::new(),
        offset: 0,
    };
    let mut armed = 0;
    loop {
        let now = now();
        let next = match &mut own {
            Some(own) => {
                stub.send_own(own, now);
                Some(own.due())
            }
            None => stub.send_delayed(now),
        };
        if let Some(next) = next.filter(|next| *next != armed) {
            armed = next;
            let at = TimeSpec::from_duration(Duration::from_nanos(next));
            timer.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        }
        if !stub.turn(&timer)? {
            stub.report();
            return Ok(());
        }
    }
}

/// With the longest queue there is: that of the standard library is too short for a fast ramp.
fn listen(port: u16) -> io::Result<TcpListener> {
    let listener = socket::socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_NONBLOCK, None)?;
    setsockopt(&listener, sockopt::ReuseAddr, &true)?;
    socket::bind(listener.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)))?;
    socket::listen(&listener, Backlog::MAXCONN)?;
    Ok(listener.into())
}

fn now() -> u64 {
    clock(ClockId::CLOCK_MONOTONIC)
}

fn clock(id: ClockId) -> u64 {
    clock_gettime(id).map_or(0, |t| t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64)
}

/// The stub's own stream.
struct Own {
    stream: Stream,
    next: usize,
    begin: u64,
    /// Of the loop.
    base: u64,
}

impl Own {
    fn new(shape: Shape) -> Own {
        let begin = now();
        Own { stream: Stream::new(shape), next: 0, begin, base: begin }
    }

    fn due(&self) -> u64 {
        self.base + self.stream.pieces[self.next].at
    }
}

impl Stub {
    fn send_own(&mut self, own: &mut Own, now: u64) {
        while own.due() <= now {
            let due = own.due();
            own.stream.stamp(own.next, (due - own.begin) / 1_000_000);
            let bytes = &own.stream.bytes[own.stream.pieces[own.next].bytes.clone()];
            for players in self.players.values() {
                for &i in players {
                    let sent = self::now();
                    self.measured.late.saturating_record(sent.saturating_sub(due));
                    send(&mut self.conns, &self.epoll, &mut self.counts, i, bytes);
                }
            }
            own.next += 1;
            if own.next == own.stream.pieces.len() {
                (own.next, own.base) = (0, own.base + LOOP);
            }
        }
    }

    /// Sends what has waited long enough; when to look again.
    fn send_delayed(&mut self, now: u64) -> Option<u64> {
        while let Some(frame) = self.delayed.pop_front_if(|frame| frame.due <= now) {
            self.measured.planned.extend(frame.stamp.map(|stamp| stamp.planned));
            for &i in self.players.get(&frame.publisher).into_iter().flatten() {
                // What was planned before a player was there is not measured at it.
                let there =
                    |stamp: &Stamp| self.conns[i].as_ref().is_some_and(|conn| conn.playing <= stamp.planned);
                if let Some(stamp) = frame.stamp.filter(there) {
                    let sent = self::now();
                    self.measured.frame.saturating_record(sent.saturating_sub(stamp.planned));
                    self.measured.frame_raw.saturating_record(sent.saturating_sub(stamp.written));
                }
                send(&mut self.conns, &self.epoll, &mut self.counts, i, &frame.bytes);
            }
        }
        self.delayed.front().map(|frame| frame.due)
    }

    /// Waits, and does what is to be done; false when all is over.
    fn turn(&mut self, timer: &TimerFd) -> io::Result<bool> {
        let mut events = [EpollEvent::empty(); 512];
        let n = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => return Ok(true),
            n => n?,
        };
        self.offset = clock(ClockId::CLOCK_REALTIME) - now();
        for event in &events[..n] {
            match event.data() {
                LISTENER => self.accept()?,
                TIMER => drop(timer.wait()),
                SIGNAL => return Ok(false),
                STDIN if io::stdin().read(&mut [0; 64])? == 0 => return Ok(false),
                STDIN => self.report(),
                token => {
                    let i = token as usize;
                    if event.events().contains(EpollFlags::EPOLLOUT) {
                        send(&mut self.conns, &self.epoll, &mut self.counts, i, &[]);
                    }
                    if self.conns[i].is_some() && self.read(i).is_err() {
                        self.close(i);
                    }
                }
            }
        }
        Ok(true)
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                accepted => accepted?.0,
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            if self.args.relay {
                setsockopt(&stream, sockopt::ReceiveTimestampns, &true)?;
            }
            self.counts.last_accept = now();
            if self.counts.accepts == 0 {
                self.counts.first_accept = self.counts.last_accept;
            }
            self.counts.accepts += 1;
            let i = self.free.pop().unwrap_or_else(|| {
                self.conns.push(None);
                self.conns.len() - 1
            });
            self.epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, i as u64))?;
            self.conns[i] = Some(Conn {
                stream,
                stage: Stage::Hello,
                walker: Walker::default(),
                input: Vec::new(),
                partial: Default::default(),
                name: Vec::new(),
                playing: 0,
                pending: VecDeque::new(),
            });
        }
    }

    fn close(&mut self, i: usize) {
        if let Some(conn) = self.conns[i].take() {
            // Closing takes it out of the epoll too.
            if let Some(players) = self.players.get_mut(&conn.name)
                && let Some(at) = players.iter().position(|player| *player == i)
            {
                players.swap_remove(at);
            }
            self.free.push(i);
        }
    }

    fn read(&mut self, i: usize) -> io::Result<()> {
        let Some(conn) = &mut self.conns[i] else { return Ok(()) };
        let stamped = self.args.relay && conn.stage == Stage::Publishing;
        let (n, at) = match stamped {
            true => receive(&conn.stream, &mut self.buffer, &mut self.control, self.offset)?,
            false => match conn.stream.read(&mut self.buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                n => (n?, 0),
            },
        };
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.counts.bytes_in += n as u64;
        let buffer = std::mem::take(&mut self.buffer);
        let done = match conn.stage {
            Stage::Hello => self.hello(i, &buffer[..n]),
            Stage::Commands => self.commands(i, &buffer[..n], 0),
            Stage::Publishing if stamped => self.commands(i, &buffer[..n], at),
            Stage::Playing | Stage::Publishing => Ok(()),
        };
        self.buffer = buffer;
        done
    }

    fn hello(&mut self, i: usize, bytes: &[u8]) -> io::Result<()> {
        let Some(conn) = &mut self.conns[i] else { return Ok(()) };
        let before = conn.input.len();
        conn.input.extend(bytes);
        if before <= HANDSHAKE && conn.input.len() > HANDSHAKE {
            let mut answer = vec![0; 1 + HANDSHAKE];
            answer[0] = 3;
            answer.extend(&conn.input[1..=HANDSHAKE]);
            conn.stream.write_all(&answer)?;
        }
        if conn.input.len() <= 2 * HANDSHAKE {
            return Ok(());
        }
        conn.stage = Stage::Commands;
        let rest = std::mem::take(&mut conn.input).split_off(1 + 2 * HANDSHAKE);
        self.commands(i, &rest, 0)
    }

    /// Answers commands, and passes on what was published and arrived at this instant.
    fn commands(&mut self, i: usize, bytes: &[u8], at: u64) -> io::Result<()> {
        let Some(conn) = &mut self.conns[i] else { return Ok(()) };
        let mut came: Vec<(Head, Vec<u8>)> = Vec::new();
        let Conn { walker, partial, .. } = conn;
        walker.walk(bytes, |head, piece, last| {
            partial[head.csid].extend(piece);
            if last {
                came.push((*head, std::mem::take(&mut partial[head.csid])));
            }
        });
        for (head, payload) in came {
            match head.type_id {
                COMMAND => self.answer(i, &payload)?,
                AUDIO | VIDEO => self.pass_on(i, head, &payload, at),
                _ => {}
            }
        }
        Ok(())
    }

    fn pass_on(&mut self, i: usize, head: Head, payload: &[u8], at: u64) {
        let Some(conn) = &self.conns[i] else { return };
        let stamp = Stamp::find(payload);
        if let Some(stamp) = stamp {
            self.measured.arrival.saturating_record(at.saturating_sub(stamp.planned));
        }
        if self.players.get(&conn.name).is_none_or(Vec::is_empty) {
            return;
        }
        let mut due = 0;
        if self.args.delay > 0 {
            // Anything that looks irregular and is the same each time.
            let wait = u64::from(head.time).wrapping_mul(2_654_435_761) % (self.args.delay * 1000) * 1000;
            due = (now() + wait).max(self.delayed.back().map_or(0, |frame| frame.due));
        }
        let mut bytes = Vec::with_capacity(payload.len() + 64);
        wire::message(&mut bytes, wire::media_csid(head.type_id), head.type_id, head.time, 1, payload);
        self.delayed.push_back(Frame { due, publisher: conn.name.clone(), bytes, stamp });
    }

    fn answer(&mut self, i: usize, body: &[u8]) -> io::Result<()> {
        let Some(conn) = &mut self.conns[i] else { return Ok(()) };
        let Some((verb, transaction, name)) = wire::parse_command(body) else { return Ok(()) };
        let mut out = Vec::new();
        let result = [Amf::Text("_result"), Amf::Number(transaction)];
        match verb {
            b"connect" => {
                wire::message(&mut out, 2, 5, 0, 0, &2_500_000_u32.to_be_bytes());
                wire::message(&mut out, 2, 6, 0, 0, &[0, 0x26, 0x25, 0xA0, 2]);
                wire::set_chunk_size(&mut out);
                let server = Amf::Object(&[("fmsVer", "FMS/3,0,1,123")]);
                let [a, b] = result;
                wire::command(&mut out, 0, &[a, b, server, Amf::Status("NetConnection.Connect.Success")]);
            }
            b"createStream" => {
                let [a, b] = result;
                wire::command(&mut out, 0, &[a, b, Amf::Null, Amf::Number(1.0)]);
            }
            b"play" | b"publish" => {
                let play = verb == b"play";
                let code = if play { "NetStream.Play.Start" } else { "NetStream.Publish.Start" };
                wire::command(
                    &mut out,
                    1,
                    &[Amf::Text("onStatus"), Amf::Number(0.0), Amf::Null, Amf::Status(code)],
                );
                conn.name = name.to_vec();
                conn.input = Vec::new();
                conn.stage = if play { Stage::Playing } else { Stage::Publishing };
                if play {
                    self.players.entry(conn.name.clone()).or_default().push(i);
                    conn.playing = now();
                    (self.counts.plays, self.counts.last_play) = (self.counts.plays + 1, conn.playing);
                } else {
                    self.counts.publishes += 1;
                }
            }
            _ => return Ok(()),
        }
        conn.stream.write_all(&out)
    }

    /// Prints the counts, and what was measured since the last time.
    fn report(&mut self) {
        let Counts { bytes_out, messages_out, bytes_in, accepts, .. } = self.counts;
        let Counts { publishes, plays, first_accept, last_accept, last_play, .. } = self.counts;
        let measured = std::mem::replace(&mut self.measured, Measured::new());
        let pending: usize = self.conns.iter().flatten().map(|conn| conn.pending.len()).sum();
        println!(
            "{}",
            json!({
                "bytes_out": bytes_out, "messages_out": messages_out, "bytes_in": bytes_in, "pending": pending,
                "accepts": accepts, "publishes": publishes, "plays": plays,
                "first_accept_ns": first_accept, "last_accept_ns": last_accept, "last_play_ns": last_play,
                "late": brief(&measured.late), "frame": brief(&measured.frame),
                "frame_raw": brief(&measured.frame_raw), "arrival": brief(&measured.arrival),
                "planned_ns": measured.planned,
            })
        );
    }
}

/// Reads with the kernel's stamp, as the monotonic clock had it.
fn receive(
    stream: &TcpStream,
    buffer: &mut [u8],
    control: &mut [u8],
    offset: u64,
) -> io::Result<(usize, u64)> {
    let mut slices = [IoSliceMut::new(buffer)];
    let got = recvmsg::<()>(stream.as_raw_fd(), &mut slices, Some(control), MsgFlags::empty())?;
    let at = got.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::ScmTimestampns(at) => Some(Duration::from(at).as_nanos() as u64),
        _ => None,
    });
    Ok((got.bytes, at.map_or_else(now, |at| at - offset)))
}

/// Sends, and remembers what the socket does not take.
#[inline]
fn send(conns: &mut [Option<Conn>], epoll: &Epoll, counts: &mut Counts, i: usize, bytes: &[u8]) {
    let Some(conn) = &mut conns[i] else { return };
    counts.messages_out += u64::from(!bytes.is_empty());
    // A connection that is broken shows when it is read.
    if conn.pending.is_empty() {
        let n = conn.stream.write(bytes).unwrap_or(0);
        counts.bytes_out += n as u64;
        if n == bytes.len() {
            return;
        }
        conn.pending.extend(&bytes[n..]);
    } else {
        conn.pending.extend(bytes);
        let n = conn.stream.write(conn.pending.make_contiguous()).unwrap_or(0);
        counts.bytes_out += n as u64;
        conn.pending.drain(..n);
    }
    assert!(conn.pending.len() < MAX_PENDING, "a client reads no more");
    let out = if conn.pending.is_empty() { EpollFlags::empty() } else { EpollFlags::EPOLLOUT };
    let _ = epoll.modify(&conn.stream, &mut EpollEvent::new(EpollFlags::EPOLLIN | out, i as u64));
}

impl Measured {
    fn new() -> Measured {
        let new = || Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("good bounds");
        Measured { late: new(), frame: new(), frame_raw: new(), arrival: new(), planned: vec![] }
    }
}

fn brief(histogram: &Histogram<u64>) -> serde_json::Value {
    let us = |q: f64| histogram.value_at_quantile(q) as f64 / 1e3;
    let second = histogram.count_between(1_000_000_000, u64::MAX);
    json!({
        "count": histogram.len(), "second_late": second,
        "p50_us": us(0.5), "p99_us": us(0.99), "max_us": us(1.0),
    })
}

/// What the tool writes into each frame: behind its name four numbers of seven bits a byte, the planned instant, a check sum.
const NAME: &[u8] = b"rtmp-bench stamp";
const LATE_US: usize = 31;
const PLANNED_NS: usize = 36;

impl Stamp {
    fn find(payload: &[u8]) -> Option<Stamp> {
        let front = &payload[..payload.len().min(64)];
        let at = front.windows(NAME.len()).position(|window| window == NAME)?;
        let number = |from: usize, len: usize| {
            let bytes = payload.get(at + from..at + from + len)?;
            Some(bytes.iter().fold(0_u64, |value, byte| value << 7 | u64::from(byte & 0x7F)))
        };
        let planned = number(PLANNED_NS, 10)?;
        Some(Stamp { planned, written: planned + number(LATE_US, 5)? * 1000 })
    }
}
