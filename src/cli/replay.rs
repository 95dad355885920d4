//! `replay`: a captured session, sent again.

use std::convert::Infallible;
use std::iter;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;

use super::embedded;
use super::envelope::{self, Envelope};
use super::output::{self, Format, Output};
use super::progress::{Progress, each_second};
use super::tls::TlsArgs;
use super::{Exit, Failure, complain, interrupted, value};
use crate::capture::replay::pace::Pace;
use crate::capture::replay::{self, MAX_SESSIONS, Recorded, Settings};
use crate::net::target::{self, Target};
use crate::record::replay::{End, Replay, Session};
use crate::record::{self, Outcome, Record};
use crate::report;

/// A captured session, sent again: fresh handshake, the target's stream ids, waiting where the recording waited for an answer.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// A pcap or pcapng file, gzip'd or not, or the bytes of the client's direction of one connection.
    #[arg(value_parser = value::capture())]
    capture: PathBuf,
    /// rtmp[s]://host[:port]/app[/name][?query]; without it the built-in reference server. Its app and name stand in place of the recorded ones.
    target: Option<Target>,
    /// Only one of the sessions, by the key (or the number) that inspect shows.
    #[arg(long, value_name = "KEY")]
    session: Option<String>,
    /// capture: as recorded; media: audio and video by their timestamps; asap; or a factor, as 2x. Without times in the capture it is media.
    #[arg(long, value_name = "PACE")]
    pace: Option<Pace>,
    /// Send the media so many times, timestamps going on.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value::whole(1_u32..=1_000_000))]
    r#loop: u32,
    /// So many at once, with -1, -2 and so on behind the streams' names.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value::whole(1_u32..=10_000))]
    copies: u32,
    /// Bytes of a chunk, or as recorded.
    #[arg(long, value_name = "N|recorded", default_value = "4096")]
    chunk_size: ChunkSize,
    /// The app, in place of the target's or the recorded one.
    #[arg(long, value_name = "APP")]
    app: Option<String>,
    /// The stream's name, with its query if it is to have one, in place of the target's or the recorded one.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A player waits on each name before it is published, up to 10 s for each answer; what it gets is compared with the recording.
    #[arg(long)]
    verify: bool,
    /// Send what stands before a hole in the capture, and no more.
    #[arg(long)]
    allow_holes: bool,
    /// For the whole run.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = value::time)]
    max_time: Duration,
    /// Where results go: text or json, and a file behind a colon. Repeatable.
    #[arg(short = 'o', long = "output", value_name = "FORMAT[:FILE]", value_parser = output::one_of(FORMATS))]
    output: Vec<Output>,
    /// Show stream keys and passwords.
    #[arg(long)]
    show_secrets: bool,
    #[command(flatten)]
    tls: TlsArgs,
}

/// `--chunk-size`: bytes; `None` as recorded.
#[derive(Debug, Clone, Copy)]
struct ChunkSize(Option<u32>);

impl std::str::FromStr for ChunkSize {
    type Err = String;

    fn from_str(s: &str) -> Result<ChunkSize, String> {
        let size = s.parse().ok().filter(|n| (1..=0xFF_FFFF).contains(n));
        match s {
            "recorded" => Ok(ChunkSize(None)),
            _ => size.map(|n| ChunkSize(Some(n))).ok_or_else(|| "expected 1 to 16777215, or recorded".into()),
        }
    }
}

/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A pause that is said before it is sat out.
const LONG_PAUSE: Duration = Duration::from_secs(10);

/// What can be written.
const FORMATS: &[Format] = &[Format::Text, Format::Json];

/// Runs the verb.
///
/// # Errors
/// When it could not run: with the exit status and what to say.
pub fn run(args: &ReplayArgs) -> Result<Exit, Failure> {
    let envelope = Envelope::begin("replay");
    output::keep_apart([("the capture", args.capture.as_path())], output::files(&args.output))
        .map_err(Failure::usage)?;
    let outputs = output::resolve(&args.output).map_err(Failure::usage)?;
    let recorded = read(args)?;
    let stopped = interrupted();
    let target = match &args.target {
        Some(target) => target.clone(),
        None => embedded::start()?,
    };
    let tls = args.tls.for_target(&target)?;
    let settings = settings(args, &target, &recorded)?;
    say_pauses(args, &recorded, settings.pace);
    let mut replay = Replay {
        capture: args.capture.display().to_string(),
        pace: settings.pace.to_string(),
        loops: settings.loops,
        copies: settings.copies,
        left_out: recorded.left_out,
        ..Replay::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::internal(format!("no runtime: {e}")))?;
    replay.sessions = runtime.block_on(async {
        let dial = Arc::new(target.dialer(CONNECT_TIMEOUT, tls));
        tokio::select! {
            sessions = replay::run(recorded.sessions, &settings, dial, stopped) => sessions,
            never = tell(&settings.sent) => match never {},
        }
    });
    if let Some(target) = args.target.as_ref().filter(|_| !args.show_secrets) {
        replay.sessions.iter_mut().for_each(|session| mask(session, target));
    }
    let (exit, outcome) = judge(&replay.sessions);
    let verified = replay.sessions.iter().flat_map(|session| &session.verify).any(|v| v.held.is_some());
    let url = target.display(args.show_secrets);
    write(&record(args, &envelope, outcome, &url, replay), &outputs)?;
    if args.verify && exit == Exit::Clean && !verified {
        return Err(Failure::usage("--verify: nothing of what was replayed publishes a coded frame"));
    }
    if exit == Exit::Unreachable {
        complain(&format!("{url}: unreachable"));
    }
    Ok(exit)
}

/// What there is to send.
fn read(args: &ReplayArgs) -> Result<Recorded, Failure> {
    let file = args.capture.display();
    let recorded = replay::record(&args.capture, args.session.clone())
        .map_err(|e| Failure::usage(format!("{file}: {e}")))?;
    if let Some(damage) = &recorded.damage {
        complain(&format!("{file}: damaged {damage}; what stands before it is replayed"));
    }
    for left in &recorded.left_out {
        complain(&format!("{file}: {} is not replayed: {}", left.key, left.why));
    }
    if recorded.sessions.is_empty() {
        let which = args.session.as_ref().map(|key| format!(" of the key '{key}'")).unwrap_or_default();
        return Err(Failure::usage(format!("{file}: no client's session{which} to replay")));
    }
    let holes = recorded.sessions.iter().filter_map(|s| s.hole.as_ref().map(|hole| (&s.key, hole)));
    for (key, hole) in holes {
        if !args.allow_holes {
            return Err(Failure::usage(format!(
                "{file}: {key}: {hole}; --allow-holes sends what stands before it, --session chooses another"
            )));
        }
        complain(&format!("{file}: {key}: {hole}; what stands before it is replayed"));
    }
    if recorded.sessions.iter().all(|s| s.steps.is_empty()) {
        return Err(Failure::usage(format!("{file}: no whole message stands before the hole")));
    }
    Ok(recorded)
}

/// Says how long nothing will be sent.
fn say_pauses(args: &ReplayArgs, recorded: &Recorded, pace: Pace) {
    for session in &recorded.sessions {
        let (pauses, sum) = session.long_pauses(pace, LONG_PAUSE);
        if pauses > 0 {
            let (file, key, sum) = (args.capture.display(), &session.key, sum.as_secs());
            let (least, s) = (LONG_PAUSE.as_secs(), if pauses == 1 { "" } else { "s" });
            complain(&format!(
                "{file}: {key}: sits out {pauses} pause{s} of {least} s or more, {sum} s together; --pace media, asap or a factor such as 10x \
                 does not"
            ));
        }
    }
}

fn settings(args: &ReplayArgs, target: &Target, recorded: &Recorded) -> Result<Settings, Failure> {
    let pace = match args.pace {
        Some(Pace::Capture(_)) if recorded.untimed => {
            let file = args.capture.display();
            return Err(Failure::usage(format!("{file}: the dump has no times; use --pace media or asap")));
        }
        Some(pace) => pace,
        None if recorded.untimed => Pace::Media,
        None => Pace::Capture(1.0),
    };
    if recorded.sessions.len() * args.copies as usize > MAX_SESSIONS {
        return Err(Failure::usage(format!(
            "{} sessions, {} copies of each: more than {MAX_SESSIONS}",
            recorded.sessions.len(),
            args.copies
        )));
    }
    let given = args.target.as_ref();
    let name = given.filter(|t| !t.prefix().is_empty()).map(|t| t.prefix().to_owned() + &t.suffix());
    Ok(Settings {
        address: target.address(),
        app: args.app.clone().or(given.map(Target::app)),
        name: args.name.clone().or(name),
        pace,
        loops: args.r#loop,
        copies: args.copies,
        chunk_size: args.chunk_size.0,
        verify: args.verify,
        show_secrets: args.show_secrets,
        max_time: args.max_time,
        sent: Arc::default(),
    })
}

/// How it goes, on stderr.
async fn tell(sent: &AtomicU64) -> Infallible {
    let mut progress = Progress::new(None, "{spinner} {wide_msg}");
    let began = Instant::now();
    let standing =
        || format!("{} s: {} messages sent", began.elapsed().as_secs(), sent.load(Ordering::Relaxed));
    each_second(|| progress.step(1, standing)).await
}

/// Hides what is hidden of the target's URL.
fn mask(session: &mut Session, target: &Target) {
    let name = target.prefix().to_owned() + &target.suffix();
    let names = session.names.iter_mut().map(|name| &mut name.target);
    let came = session.departures.iter_mut().filter_map(|departure| departure.came.as_mut());
    let verified = session.verify.iter_mut().flat_map(|v| iter::once(&mut v.name).chain(&mut v.why));
    let texts = names.chain(&mut session.why).chain(came).chain(&mut session.notes).chain(verified);
    texts.for_each(|text| *text = target::mask_name(&target.mask(text), &name));
}

fn judge(sessions: &[Session]) -> (Exit, Outcome) {
    if sessions.iter().any(|s| s.end == End::Interrupted) {
        (Exit::Interrupted, Outcome::Interrupted)
    } else if sessions.iter().all(|s| matches!(s.end, End::Unreachable | End::Waiting)) {
        (Exit::Unreachable, Outcome::Unreachable)
    } else if sessions.iter().any(Session::is_found) {
        (Exit::Found, Outcome::Found)
    } else {
        (Exit::Clean, Outcome::Clean)
    }
}

fn record(args: &ReplayArgs, envelope: &Envelope, outcome: Outcome, url: &str, replay: Replay) -> Record {
    let arguments = envelope::arguments(args.show_secrets, args.target.as_ref());
    let mut record = envelope.end(outcome, arguments);
    record.target = Some(record::Target {
        url: url.to_owned(),
        embedded: args.target.is_none(),
        ..record::Target::default()
    });
    record.replay = Some(replay);
    record
}

fn write(record: &Record, outputs: &[Output]) -> Result<(), Failure> {
    output::write_all(outputs, |output| match output.format {
        Format::Json => output.write(&output::json(record)?),
        _ => output.write(&report::replay::text(record)),
    })
}
