//! Sockets and what stands in for them: the target, a connection with its trace, the in-memory pipe, the reference server,
//! a command that is the target.

pub mod conn;
pub mod peer;
pub mod pipe;
pub mod relay;
pub mod spawn;
pub mod target;
pub mod tls;
