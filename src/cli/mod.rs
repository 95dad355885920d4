//! The arguments; the only place that prints.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A verb's result as the exit status that the contract names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: nothing found.
    Clean,
    /// 1: something found.
    Found,
    /// 2: could not run: bad arguments, a bad file, nothing selected.
    Usage,
    /// 3: target unreachable, or refused before any check.
    Unreachable,
    /// 4: our own error.
    Internal,
    /// 130: interrupted.
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Clean => 0,
            Exit::Found => 1,
            Exit::Usage => 2,
            Exit::Unreachable => 3,
            Exit::Internal => 4,
            Exit::Interrupted => 130,
        })
    }
}

/// Conformance tester, fuzzer, capture replayer and load generator for RTMP.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {}

/// Runs the program: parses the arguments and runs the verb they name.
pub fn main() -> ExitCode {
    match Cli::parse().verb {}
}
