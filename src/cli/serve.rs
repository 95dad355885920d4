//! `serve`: the reference server, faults on request.

use std::io::Write;
use std::net::SocketAddr;

use clap::{Args, ValueEnum};
use tokio::net::TcpListener;

use super::{Exit, Failure, complain, interrupted, output, stopping, value};
use crate::net::peer::log::{self, Told, What};
use crate::net::peer::{self, AnyFault, Fault, Missing, Options, Peer, Taken};
use crate::report::count;
use crate::wire::chunk::Quirks;

/// The reference server: any app and name. The first line on stdout is its URL, then stderr tells what sessions do; it runs until ^C, which is
/// its proper end (exit status 0).
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Where it listens; port 0: a free one.
    #[arg(default_value = "127.0.0.1:1935", value_parser = value::address)]
    addr: SocketAddr,
    /// A misbehaviour, by name; repeatable. Those of every seventh message or twentieth session take another number: relay-drops=100.
    #[arg(long = "fault", value_name = "NAME[=N]", value_delimiter = ',')]
    faults: Vec<AnyFault>,
    /// Print every fault and what it does.
    #[arg(long)]
    list_faults: bool,
    /// What playing a name that nobody publishes does.
    #[arg(long, value_enum, default_value_t = MissingArg::Wait)]
    missing: MissingArg,
    /// What publishing a name that is taken does.
    #[arg(long, value_enum, default_value_t = TakenArg::Refuse)]
    taken: TakenArg,
    /// Seconds between the ping requests to a client.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = value::whole(1_u32..=86_400))]
    ping: u32,
    /// Show stream names, which are often keys.
    #[arg(long)]
    show_secrets: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum MissingArg {
    /// The player waits.
    Wait,
    /// StreamNotFound.
    Refuse,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum TakenArg {
    /// BadName.
    Refuse,
    /// The newcomer takes over.
    Takeover,
}

/// Characters of a name that are shown.
const LONG: usize = 100;

/// Runs the verb.
pub fn run(args: &ServeArgs) -> Result<Exit, Failure> {
    if args.list_faults {
        let number = |every| format!("; =N behind the name: another number than {every}");
        let number = |fault: Fault| fault.every().map_or(String::new(), number);
        let peer = Fault::ALL.iter().map(|fault| (fault.name(), fault.text().to_owned() + &number(*fault)));
        let quirks = Quirks::texts().map(|(name, text)| (name, text.to_owned()));
        let lines = peer.chain(quirks).map(|(name, text)| format!("{name:<28} {text}\n"));
        return output::say(&lines.collect::<String>()).map(|()| Exit::Clean);
    }
    let mut options = Options {
        missing: match args.missing {
            MissingArg::Wait => Missing::Wait,
            MissingArg::Refuse => Missing::Refuse,
        },
        taken: match args.taken {
            TakenArg::Refuse => Taken::Refuse,
            TakenArg::Takeover => Taken::Takeover,
        },
        ping_ms: Some(args.ping * 1000),
        ..Options::default()
    };
    args.faults.iter().for_each(|fault| options.add(*fault));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::internal(format!("no runtime: {e}")))?;
    runtime.block_on(serve(args, options))
}

async fn serve(args: &ServeArgs, mut options: Options) -> Result<Exit, Failure> {
    let addr = args.addr;
    // Taken from the first moment: whoever reads the URL may stop us.
    let stop = stopping(interrupted());
    let listener =
        TcpListener::bind(addr).await.map_err(|e| Failure::usage(format!("cannot listen on {addr}: {e}")))?;
    let addr = listener.local_addr().map_err(|e| Failure::internal(format!("no local address: {e}")))?;
    say(&peer::url(addr))?;
    let (log, mut told) = log::channel();
    options.log = Some(log);
    let peer = Peer::new(options);
    let secrets = args.show_secrets;
    let telling = async {
        while let Some(told) = told.recv().await {
            complain(&line(&told, secrets));
        }
    };
    tokio::select! {
        () = peer.listen(listener) => Err(Failure::internal("a fault ended the server")),
        () = telling => Err(Failure::internal("the log ended")),
        () = stop => {
            complain(&format!("stopped with {} open", count(peer.sessions() as u64, "session")));
            Ok(Exit::Clean)
        }
    }
}

/// What a session did, in a line.
fn line(told: &Told, secrets: bool) -> String {
    let from = told.from.map(|from| from.to_string()).unwrap_or_default();
    let named = |name: &str| {
        let (app, name) = name.split_once('/').unwrap_or((name, ""));
        format!("{}/{}", shown(app), if secrets { shown(name) } else { "***".to_owned() })
    };
    match &told.what {
        What::Publishes(name) => format!("{from} publishes {}", named(name)),
        What::Plays(name) => format!("{from} plays {}", named(name)),
        What::Ended { after, app, received_bytes, sent_bytes, why } => {
            let app = app.as_deref().map_or("before connect".to_owned(), |app| format!("of {}", shown(app)));
            let seconds = after.as_secs_f64();
            format!(
                "{from} {app} ended after {seconds:.1} s: {received_bytes} bytes in, {sent_bytes} out; {why}"
            )
        }
    }
}

/// What a client said, fit for a terminal.
fn shown(text: &str) -> String {
    text.chars().take(LONG).flat_map(char::escape_debug).collect()
}

/// One line on stdout, there at once: scripts wait for the first.
fn say(line: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(|e| Failure::internal(format!("stdout is gone: {e}")))
}
