//! The byte stream under a session: a TCP socket read with the kernel's stamps, or any other stream that a dialler gives.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};

use crate::net::conn::{Dial, Io};
use crate::net::tls::Tls;

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
    Tcp(TcpStream),
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
                let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
                if let Some(source) = wishes.source {
                    // The port is chosen when the target is known: one for each target, not one for all.
                    let _ = setsockopt(&socket, sockopt::IpBindAddressNoPort, &true);
                    socket.bind((source, 0).into())?;
                }
                if let Some(room) = wishes.room {
                    socket.set_recv_buffer_size(room)?;
                }
                let stream = socket.connect(*addr).await?;
                // Without these two the numbers are worse and the session is as good.
                let _ = stream.set_nodelay(true);
                if wishes.stamps {
                    let _ = setsockopt(&stream, sockopt::ReceiveTimestampns, &true);
                }
                Ok(Link::Tcp(stream))
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
            (Way::Tls(_, tls, host), Link::Tcp(stream)) => {
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
            Link::Tcp(stream) => Ok(Link::Swept(stream.into_std()?)),
            other => Ok(other),
        }
    }

    /// Reads once. After less than `buffer` holds there is nothing more: asking again costs no system call.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        control: &mut [u8],
    ) -> Poll<io::Result<Got>> {
        match self {
            Link::Tcp(stream) => loop {
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
    pub fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Link::Tcp(stream) => loop {
                let written = match slices {
                    [one] => stream.try_write(one),
                    _ => stream.try_write_vectored(slices),
                };
                match written {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready!(stream.poll_write_ready(cx))?,
                    written => return Poll::Ready(written),
                }
            },
            Link::Swept(stream) => match stream.write_vectored(slices) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
                written => Poll::Ready(written),
            },
            Link::Any(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
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
