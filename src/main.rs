//! The binary: parse, call one verb, turn its result into an exit status.

use std::process::ExitCode;

fn main() -> ExitCode {
    rtmp_bench::cli::main()
}
