//! The arguments; the only place that prints.

use std::io::Write;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;

use clap::builder::{BoolishValueParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

mod check;
mod embedded;
mod envelope;
mod inspect;
mod load;
mod output;
mod progress;
mod replay;
mod serve;
mod spawn;
mod test;
mod tls;
mod value;

use crate::net::target;

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

/// Why a verb could not run: the exit status and what to say on stderr.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    /// Bad arguments or a bad file.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure { exit: Exit::Usage, message: message.into() }
    }

    /// Stopped by the user before there was anything to report.
    pub fn interrupted(message: impl Into<String>) -> Failure {
        Failure { exit: Exit::Interrupted, message: message.into() }
    }

    /// The target was not reached.
    pub fn unreachable(message: impl Into<String>) -> Failure {
        Failure { exit: Exit::Unreachable, message: message.into() }
    }

    /// Our own error.
    pub fn internal(message: impl Into<String>) -> Failure {
        Failure { exit: Exit::Internal, message: message.into() }
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
enum Verb {
    Check(check::CheckArgs),
    Inspect(inspect::InspectArgs),
    Load(Box<load::LoadArgs>),
    Replay(replay::ReplayArgs),
    Serve(serve::ServeArgs),
    Test(test::TestArgs),
}

/// Runs the program: parses the arguments and runs the verb they name.
pub fn main() -> ExitCode {
    let matches = from_environment(Cli::command()).try_get_matches();
    let cli = matches.and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = cli.unwrap_or_else(|e| masked(with_origin(e)).exit());
    let result: Result<Exit, Failure> = match cli.verb {
        Verb::Check(args) => check::run(&args),
        Verb::Inspect(args) => inspect::run(&args),
        Verb::Load(args) => load::run(&args),
        Verb::Replay(args) => replay::run(&args),
        Verb::Serve(args) => serve::run(&args),
        Verb::Test(args) => test::run(&args),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => {
            complain(&failure.message);
            failure.exit.into()
        }
    }
}

/// Lets every flag of every verb be set as `RTMP_BENCH_NAME`.
fn from_environment(command: Command) -> Command {
    command.mut_subcommands(|verb| {
        verb.mut_args(|arg| {
            let Some(long) = arg.get_long().filter(|l| !["help", "version"].contains(l)) else { return arg };
            let name = variable(long);
            match arg.get_action() {
                // clap would take it for one that stands there, and refuse what conflicts with it.
                ArgAction::SetTrue if denies(&name) => arg,
                ArgAction::SetTrue => told_by(arg, name).value_parser(BoolishValueParser::new()),
                // A wrong number is told as such, not as another argument.
                _ => told_by(arg, name).allow_negative_numbers(true),
            }
        })
    })
}

fn told_by(arg: Arg, variable: String) -> Arg {
    arg.env(variable).hide_env_values(true)
}

/// Whether this variable of the environment says no.
fn denies(variable: &str) -> bool {
    let said = std::env::var_os(variable).unwrap_or_default();
    matches!(BoolishValueParser::new().parse_ref(&Command::new(""), None, &said), Ok(false))
}

fn variable(long: &str) -> String {
    format!("RTMP_BENCH_{}", long.replace('-', "_").to_uppercase())
}

/// An error with the variable of the environment that what is wrong came from, if it did: a value, or an argument that does not go with
/// others.
fn with_origin(mut error: clap::Error) -> clap::Error {
    let typed = |flag: &str| std::env::args().any(|arg| arg.split('=').next() == Some(flag));
    let told = |flag: &str| match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) => std::env::var(variable(&flag[2..])).as_ref() == Ok(value),
        _ => std::env::var_os(variable(&flag[2..])).is_some() && !typed(flag),
    };
    let flags = [ContextKind::InvalidArg, ContextKind::PriorArg].map(|kind| match error.get(kind) {
        Some(ContextValue::String(argument)) => vec![argument.clone()],
        Some(ContextValue::Strings(arguments)) => arguments.clone(),
        _ => Vec::new(),
    });
    let flags = flags.iter().flatten().filter_map(|argument| argument.split([' ', '=']).next());
    let flags = flags.filter(|flag| flag.starts_with("--") && told(flag));
    let tips: Vec<_> =
        flags.map(|flag| format!("{} of the environment says so", variable(&flag[2..])).into()).collect();
    if !tips.is_empty() {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    }
    error
}

/// An error without the secrets of a TARGET that is wrong or in a wrong place.
fn masked(mut error: clap::Error) -> clap::Error {
    let of_target = error.get(ContextKind::InvalidArg) == Some(&ContextValue::String("[TARGET]".into()));
    for kind in [ContextKind::InvalidValue, ContextKind::InvalidArg, ContextKind::InvalidSubcommand] {
        if let Some(ContextValue::String(text)) = error.get(kind)
            && ((of_target && kind == ContextKind::InvalidValue) || text.contains("://"))
        {
            let text = target::masked_url(text);
            error.insert(kind, ContextValue::String(text));
        }
    }
    error
}

/// One line on stderr that says who complains.
fn complain(what: &str) {
    warn(&format!("rtmp-bench: {what}\n"));
}

/// The text on stderr, in one write: others may write there too. Where nobody reads it, nobody is told.
fn warn(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// True from the first ^C or SIGTERM after the call on; the next one kills, whatever is being done then.
fn interrupted() -> watch::Receiver<bool> {
    let (stop, stopped) = watch::channel(false);
    let (ready, is_ready) = mpsc::channel();
    // A thread of its own: results may be written to somebody who does not read them.
    thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return };
        runtime.block_on(async {
            let (Ok(mut int), Ok(mut term)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            let _ = ready.send(());
            for killing in [false, true] {
                tokio::select! { _ = int.recv() => (), _ = term.recv() => () }
                stop.send_replace(true);
                if killing {
                    std::process::exit(130);
                }
            }
        });
    });
    let _ = is_ready.recv();
    stopped
}

/// Ready when it is true.
async fn stopping(mut stopped: watch::Receiver<bool>) {
    if stopped.wait_for(|stopped| *stopped).await.is_err() {
        std::future::pending().await
    }
}
