//! A [`Session`](crate::wire::session::Session) over any byte stream, with everything that passed kept in order.
//!
//! A pump task reads, feeds the session, writes what it answers by itself and appends to the log; whoever drives the
//! connection waits for log entries and writes bytes.
