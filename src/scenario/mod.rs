//! Scenarios: the language, its check, the engine, and the suite that is built in.

pub mod ast;
pub mod expect;
pub mod pattern;
pub mod suite;
pub mod syntax;
mod syntax_wire;
