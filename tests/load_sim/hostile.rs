//! Targets that are late, deaf, say half of everything or never stop.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use rtmp_bench::load::plan::Plan;
use rtmp_bench::net::conn::{Dial, Dialing, Io};
use rtmp_bench::net::peer::{Options, Peer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::lab::{Life, SECOND, Watched, against, plan};

/// Connections take half of three seconds to open.
pub struct Late(pub Peer);

impl Dial for Late {
    fn dial(&self) -> Dialing<'_> {
        Box::pin(async {
            tokio::time::sleep(SECOND * 3 / 2).await;
            self.0.dial().await
        })
    }
}

/// Every other connection behind the first never opens.
pub struct Deaf(pub Peer, pub Mutex<usize>);

impl Dial for Deaf {
    fn dial(&self) -> Dialing<'_> {
        let mut number = self.1.lock().unwrap();
        *number += 1;
        if number.is_multiple_of(2) { Box::pin(std::future::pending()) } else { self.0.dial() }
    }
}

/// A target that sends most of a long message, once it was greeted, and then nothing.
struct Half(usize, Arc<Mutex<Vec<Life>>>, Instant);

/// What it still has to say, when it was dialled.
struct Halved(Vec<u8>, usize, Arc<Mutex<Vec<Life>>>, Instant);

impl Dial for Half {
    fn dial(&self) -> Dialing<'_> {
        Box::pin(async {
            // S0, S1, S2; chunks of 5,000,000 bytes; the head of a video message of 4,000,000.
            let mut said = vec![3];
            said.resize(1 + 2 * 1536, 0);
            said.extend([2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0]);
            said.extend(5_000_000_u32.to_be_bytes());
            said.extend([6, 0, 0, 0, 0x3D, 0x09, 0, 9, 1, 0, 0, 0]);
            said.resize(said.len() + self.0, 0);
            said.reverse();
            let mut lives = self.1.lock().unwrap();
            lives.push((self.2.elapsed(), None));
            Ok(Box::new(Halved(said, lives.len() - 1, self.1.clone(), self.2)) as Box<dyn Io>)
        })
    }
}

impl Drop for Halved {
    fn drop(&mut self) {
        self.2.lock().unwrap()[self.1].1 = Some(self.3.elapsed());
    }
}

impl Io for Halved {
    fn reset(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Halved {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.0.is_empty() {
            return Poll::Pending;
        }
        let left = self.0.len().saturating_sub(buf.remaining());
        buf.put_slice(&self.0.split_off(left).into_iter().rev().collect::<Vec<_>>());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Halved {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_target_that_never_stops_sending_ends_no_sweep_late() {
    let foreign = Plan { play: Some("theirs".into()), tick: Some(SECOND / 2), ..plan(0, &[(0, 2), (1, 2)]) };
    let peer = Peer::new(Options::default());
    let floods = Some(SECOND / 2);
    let dial = || Watched { floods, ..Watched::new(peer, Arc::default()) };
    let (found, took) = against(foreign, dial, std::future::pending());
    assert!(found.load.sessions.ended == 2 && found.load.frames.foreign > 100_000, "{:?}", found.load.frames);
    assert!(took < SECOND * 11 / 10, "{took:?}");
}

#[test]
fn what_a_target_leaves_half_said_is_bounded_for_all_sessions_together() {
    let plan = Plan { held_bytes: 8 << 20, rate: 1, ..plan(20, &[(0, 0), (1, 0)]) };
    let lives = Arc::default();
    let dial = || Half(3_000_000, Arc::clone(&lives), Instant::now());
    let (found, _) = against(plan, dial, std::future::pending());
    let lives = lives.lock().unwrap().clone();
    let sessions = &found.load.sessions;
    let failed = &sessions.failed_by_phase["connect"];
    assert!(
        failed.count + sessions.unfinished_by_phase["connect"].count == 20
            && failed.sample.contains("the 8 MiB that all sessions may hold"),
        "{failed:?}"
    );
    // Two hold three million bytes each and wait ten seconds for the end of it; who comes meanwhile goes at once, and then two more wait.
    let waited: Vec<bool> = lives.iter().map(|life| life.1.expect("closed") - life.0 > SECOND).collect();
    assert_eq!(waited.iter().filter(|waited| **waited).count(), 4, "{lives:?}");
}
