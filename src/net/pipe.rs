//! An in-memory connection with a capacity, half-close and reset, as TCP has them.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::conn::{How, Io};

/// What one direction holds before its writer must wait, in bytes: about what loopback sockets hold.
pub const CAPACITY: usize = 256 << 10;

/// One end. Dropping it ends the other's reading (FIN, or RST after [`Io::reset`]) and breaks its writing.
#[derive(Debug)]
pub struct Pipe {
    from: Arc<Mutex<Direction>>,
    to: Arc<Mutex<Direction>>,
    reset: bool,
}

#[derive(Debug, Default)]
struct Direction {
    bytes: VecDeque<u8>,
    capacity: usize,
    ended: Option<How>,
    unread: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Direction {
    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }
}

/// Two connected ends; each direction holds `capacity` bytes.
pub fn pipe(capacity: usize) -> (Pipe, Pipe) {
    let direction = || Arc::new(Mutex::new(Direction { capacity, ..Direction::default() }));
    let (one, two) = (direction(), direction());
    (Pipe { from: one.clone(), to: two.clone(), reset: false }, Pipe { from: two, to: one, reset: false })
}

fn lock(direction: &Mutex<Direction>) -> MutexGuard<'_, Direction> {
    direction.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Io for Pipe {
    fn reset(&mut self) -> io::Result<()> {
        self.reset = true;
        Ok(())
    }
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut from = lock(&self.from);
        if !from.bytes.is_empty() {
            let (front, _) = from.bytes.as_slices();
            let n = front.len().min(buf.remaining());
            buf.put_slice(&front[..n]);
            from.bytes.drain(..n);
            from.wake();
            return Poll::Ready(Ok(()));
        }
        match from.ended {
            Some(How::Fin) => Poll::Ready(Ok(())),
            Some(How::Rst) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            None => {
                from.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut to = lock(&self.to);
        if to.unread || to.ended.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let n = bytes.len().min(to.capacity - to.bytes.len());
        if n == 0 && !bytes.is_empty() {
            to.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        to.bytes.extend(&bytes[..n]);
        to.wake();
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut to = lock(&self.to);
        to.ended.get_or_insert(How::Fin);
        to.wake();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let how = if self.reset { How::Rst } else { How::Fin };
        let mut to = lock(&self.to);
        if how == How::Rst {
            to.ended = Some(how);
        }
        to.ended.get_or_insert(how);
        to.wake();
        drop(to);
        let mut from = lock(&self.from);
        from.unread = true;
        from.bytes = VecDeque::new();
        from.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn a_full_direction_makes_its_writer_wait() {
        let (mut a, mut b) = pipe(4);
        assert_eq!(a.write(b"abcdef").await.unwrap(), 4);
        assert!(timeout(SOON, a.write(b"ef")).await.is_err());
        let writer = tokio::spawn(async move { a.write_all(b"ef").await.map(|()| a) });
        let mut got = [0; 6];
        b.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"abcdef");
        writer.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn half_closed_the_other_direction_goes_on() {
        let (mut a, mut b) = pipe(16);
        a.write_all(b"last").await.unwrap();
        a.shutdown().await.unwrap();
        let mut got = Vec::new();
        b.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"last");
        b.write_all(b"answer").await.unwrap();
        let mut got = [0; 6];
        a.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"answer");
        assert_eq!(a.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test(start_paused = true)]
    async fn fin_and_rst_are_told_apart() {
        let (a, mut b) = pipe(16);
        drop(a);
        assert_eq!(b.read(&mut [0; 4]).await.unwrap(), 0);
        assert_eq!(b.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        let (mut a, mut b) = pipe(16);
        let reader = tokio::spawn(async move { b.read(&mut [0; 4]).await });
        tokio::task::yield_now().await;
        a.reset().unwrap();
        drop(a);
        assert_eq!(reader.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
