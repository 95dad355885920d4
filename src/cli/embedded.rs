//! The reference server for verbs that were given no TARGET: on a free loopback port, on a thread of its own.

use std::net::TcpListener;
use std::thread;

use super::Failure;
use crate::net::peer::{self, Options, Peer};
use crate::net::target::Target;

/// Starts it; it ends with the process.
///
/// # Errors
/// When no loopback port or no thread is to be had.
pub fn start() -> Result<Target, Failure> {
    let failed = |what: &dyn std::fmt::Display| Failure::internal(format!("the reference server: {what}"));
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| failed(&e))?;
    listener.set_nonblocking(true).map_err(|e| failed(&e))?;
    let addr = listener.local_addr().map_err(|e| failed(&e))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| failed(&e))?;
    thread::Builder::new()
        .name("reference server".into())
        .spawn(move || {
            runtime.block_on(async {
                if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
                    Peer::new(Options::default()).listen(listener).await;
                }
            });
        })
        .map_err(|e| failed(&e))?;
    peer::url(addr).parse().map_err(|e| failed(&e))
}
