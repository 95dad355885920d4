//! Scenarios: the language, its check, the engine, and the suite that is built in.

pub mod ast;
mod board;
mod calibrate;
pub mod check;
pub mod clauses;
mod deaths;
pub mod expect;
mod ground;
mod judge;
mod memory;
mod names;
mod numbers;
pub mod pattern;
mod remux;
mod run;
mod runner;
mod scope;
mod send;
pub mod suite;
pub mod syntax;
mod syntax_judge;
mod syntax_wire;
mod trace;
