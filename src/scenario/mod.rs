//! Scenarios: the language, its check, the engine, and the suite that is built in.

pub mod ast;
pub mod check;
pub mod clauses;
pub mod expect;
mod names;
pub mod pattern;
pub mod relay;
pub mod suite;
pub mod syntax;
mod syntax_wire;
