//! `rtmp-bench`: a protocol conformance tester, fuzzer, capture replayer and load generator for RTMP.
//!
//! The layers and who may use whom stand in `ARCHITECTURE.md`; `tests/layers.rs` keeps them so.

pub mod capture;
pub mod cli;
pub mod fuzzing;
pub mod load;
pub mod net;
pub mod notation;
pub mod record;
pub mod report;
pub mod scenario;
pub mod wire;
