//! The byte stream under a session: a TCP socket read with the kernel's stamps, or any other stream that a dialler gives.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, getsockopt, recvmsg, send, sendmsg, setsockopt, sockopt,
};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::net::conn::{Dial, Io};
use crate::net::tls::Tls;

/// sendmsg(2): pieces of one write.
const PIECES: usize = 1024;

/// How a target is reached.
#[derive(Clone)]
pub enum Way {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Over TLS, to the host of this name.
    Tls(SocketAddr, Tls, String),
    /// As the dialler does it.
    Dial(Arc<dyn Dial>),
}

/// One connection.
pub enum Link {
    /// Read as soon as something is there.
    Tcp {
        /// Nonblocking.
        stream: TcpStream,
        /// The last write was not taken.
        full: bool,
    },
    /// Nobody watches whether something is there.
    Swept(std::net::TcpStream),
    /// Anything else.
    Any(Box<dyn Io>),
}

/// How a connection is to be.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wishes {
    /// The address that it is made from.
    pub source: Option<IpAddr>,
    /// The kernel is to say when bytes came.
    pub stamps: bool,
    /// Bytes that the kernel may hold for us.
    pub room: Option<u32>,
}

/// What one read got.
#[derive(Debug, Clone, Copy)]
pub struct Got {
    /// Bytes; 0: the end.
    pub bytes: usize,
    /// When the kernel had them, in nanoseconds of the real-time clock.
    pub stamp: Option<u64>,
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Way::Tcp(addr) => f.debug_tuple("Tcp").field(addr).finish(),
            Way::Tls(addr, _, host) => f.debug_tuple("Tls").field(addr).field(host).finish(),
            Way::Dial(_) => f.write_str("Dial"),
        }
    }
}

impl Way {
    /// A new connection, yet without TLS.
    ///
    /// # Errors
    /// When there is none to be had.
    pub async fn open(&self, wishes: Wishes) -> io::Result<Link> {
        match self {
            Way::Tcp(addr) | Way::Tls(addr, ..) => {
                let stream = TcpStream::from_std(begin(*addr, wishes)?)?;
                // On a short way it is there already, and to be told so would take a turn of the event loop.
                if stream.peer_addr().is_err() {
                    stream.writable().await?;
                    stream.take_error()?.map_or(Ok(()), Err)?;
                }
                Ok(Link::Tcp { stream, full: false })
            }
            Way::Dial(dial) => Ok(Link::Any(dial.dial().await?)),
        }
    }

    /// Whether TLS comes before RTMP.
    pub fn is_secure(&self) -> bool {
        matches!(self, Way::Tls(..))
    }

    /// TLS over a connection, where it is to be. What the kernel says of receipt is lost with it: bytes come out of whole records.
    ///
    /// # Errors
    /// When its handshake fails.
    pub async fn secure(&self, link: Link) -> io::Result<Link> {
        match (self, link) {
            (Way::Tls(_, tls, host), Link::Tcp { stream, .. }) => {
                Ok(Link::Any(Box::new(tls.connect(host, stream).await?)))
            }
            (_, link) => Ok(link),
        }
    }
}

impl Link {
    /// From here on nothing tells that there is something to be read; whoever reads must come by himself.
    ///
    /// # Errors
    /// When the socket cannot be taken out of the event loop.
    pub fn unwatch(self) -> io::Result<Link> {
        match self {
            Link::Tcp { stream, .. } => Ok(Link::Swept(stream.into_std()?)),
            other => Ok(other),
        }
    }

    /// Its socket, where bytes can be written past it; not for longer than it lives.
    pub fn fd(&self) -> Option<RawFd> {
        match self {
            Link::Tcp { stream, .. } => Some(stream.as_raw_fd()),
            Link::Swept(_) | Link::Any(_) => None,
        }
    }

    /// Bytes that the kernel holds for it at most, what it needs beside them included (socket(7), SO_RCVBUF).
    pub fn room(&self) -> Option<usize> {
        match self {
            Link::Tcp { stream, .. } => getsockopt(stream, sockopt::RcvBuf).ok(),
            Link::Swept(stream) => getsockopt(stream, sockopt::RcvBuf).ok(),
            Link::Any(stream) => stream.room(),
        }
    }

    /// Whether there may be more behind a read that did not fill its buffer.
    pub fn reads_by_pieces(&self) -> bool {
        matches!(self, Link::Any(_))
    }

    /// Reads once. After less than `buffer` holds there is nothing more: asking again costs no system call.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        control: &mut [u8],
    ) -> Poll<io::Result<Got>> {
        match self {
            Link::Tcp { stream, .. } => loop {
                match read_stamped(stream, buffer, control) {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready!(stream.poll_read_ready(cx))?,
                    read => return Poll::Ready(read),
                }
            },
            Link::Swept(stream) => match stream.read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
                read => Poll::Ready(read.map(|bytes| Got { bytes, stamp: None })),
            },
            Link::Any(stream) => {
                let mut into = ReadBuf::new(buffer);
                ready!(Pin::new(stream).poll_read(cx, &mut into))?;
                Poll::Ready(Ok(Got { bytes: into.filled().len(), stamp: None }))
            }
        }
    }

    /// Writes what is taken at once.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Link::Tcp { stream, full } => loop {
                if *full {
                    ready!(stream.poll_write_ready(cx))?;
                }
                let written = write(stream.as_raw_fd(), &[IoSlice::new(bytes)]);
                *full = written == Err(Errno::EAGAIN);
                if !*full {
                    return Poll::Ready(written.map_err(Into::into));
                }
                // What the event loop was told before holds no longer.
                let _ = stream.try_io(Interest::WRITABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
            },
            Link::Swept(stream) => match stream.write(bytes) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
                written => Poll::Ready(written),
            },
            Link::Any(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }
}

/// A socket that connects.
fn begin(addr: SocketAddr, wishes: Wishes) -> io::Result<std::net::TcpStream> {
    let family = if addr.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
    if let Some(source) = wishes.source {
        // The port is chosen when the target is known: one for each target, not one for all.
        let _ = setsockopt(&socket, sockopt::IpBindAddressNoPort, &true);
        bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(source, 0)))?;
    }
    if let Some(room) = wishes.room {
        setsockopt(&socket, sockopt::RcvBuf, &(room as usize))?;
    }
    // Without these two the numbers are worse and the session is as good.
    let _ = setsockopt(&socket, sockopt::TcpNoDelay, &true);
    if wishes.stamps {
        let _ = setsockopt(&socket, sockopt::ReceiveTimestampns, &true);
    }
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(addr)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket.into()),
        Err(e) => Err(e.into()),
    }
}

/// Writes what is taken at once, by the calls of sockets: those of files look at more.
pub fn write(fd: RawFd, slices: &[IoSlice<'_>]) -> nix::Result<usize> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    match slices {
        [one] => send(fd, one, flags),
        _ => sendmsg::<()>(fd, &slices[..slices.len().min(PIECES)], &[], flags, None),
    }
}

fn read_stamped(stream: &TcpStream, buffer: &mut [u8], control: &mut [u8]) -> io::Result<Got> {
    let mut got = None;
    let room = buffer.len();
    let tried = stream.try_io(Interest::READABLE, || {
        let mut slices = [IoSliceMut::new(buffer)];
        let read = recvmsg::<()>(stream.as_raw_fd(), &mut slices, Some(control), MsgFlags::empty())?;
        let stamp = read.cmsgs().ok().into_iter().flatten().find_map(|message| match message {
            ControlMessageOwned::ScmTimestampns(at) => {
                Some(at.tv_sec() as u64 * 1_000_000_000 + at.tv_nsec() as u64)
            }
            _ => None,
        });
        got = Some(Got { bytes: read.bytes, stamp });
        // What came was all there was: without this the next wait would cost another read.
        if (1..room).contains(&read.bytes) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    got.map_or_else(|| Err(tried.err().unwrap_or_else(|| io::ErrorKind::WouldBlock.into())), Ok)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use nix::sys::socket::{Backlog, listen};
    use tokio::net::TcpListener;

    use super::*;

    async fn listener() -> (TcpListener, Way) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let way = Way::Tcp(listener.local_addr().expect("an address"));
        (listener, way)
    }

    #[tokio::test]
    async fn what_is_not_taken_at_once_goes_out_when_it_is_read() {
        let (listener, way) = listener().await;
        let mut link = way.open(Wishes::default()).await.expect("a connection");
        let (peer, _) = listener.accept().await.expect("the same");
        let piece = vec![7; 1 << 20];
        let mut write = async || poll_fn(|cx| link.poll_write(cx, &piece)).await;
        let mut written = 0;
        // As much as the kernel holds.
        while let Some(n) = now(write()).await {
            written += n.expect("a whole connection");
        }
        assert!(now(write()).await.is_none());
        let (mut read, mut buffer) = (0, vec![0; 1 << 20]);
        tokio::join!(async { written += write().await.expect("it is taken") }, async {
            while read < 1 << 20 {
                peer.readable().await.expect("bytes");
                read += peer.try_read(&mut buffer).unwrap_or(0);
            }
        });
        while read < written {
            peer.readable().await.expect("bytes");
            read += peer.try_read(&mut buffer).unwrap_or(0);
        }
        assert_eq!(read, written);
    }

    /// What it comes to, if that is at once.
    async fn now<T>(what: impl Future<Output = T>) -> Option<T> {
        let mut what = std::pin::pin!(what);
        poll_fn(|cx| match what.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    #[tokio::test]
    async fn who_does_not_accept_is_waited_for_and_who_refuses_is_told() {
        let (listener, way) = listener().await;
        // Two have room; of the next the kernel hears nothing until it asks again.
        listen(&listener, Backlog::new(1).expect("a number")).expect("it listens");
        let mut waiting = Vec::new();
        for _ in 0..2 {
            waiting.push(now(way.open(Wishes::default())).await.expect("at once").expect("a connection"));
        }
        let mut third = Box::pin(way.open(Wishes::default()));
        assert!(now(third.as_mut()).await.is_none(), "there is no room");
        for _ in 0..2 {
            listener.accept().await.expect("one of the two");
        }
        assert!(matches!(third.await, Ok(Link::Tcp { .. })));
        drop(listener);
        let refused = way.open(Wishes::default()).await.map(drop).expect_err("nobody listens");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
