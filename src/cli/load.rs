//! `load`: publishers and players; latency, start-up time, throughput. Its arguments; `run` does it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::output::{self, Format, Output};
use super::spawn::SpawnArgs;
use super::tls::TlsArgs;
use super::{Exit, Failure, value};
use crate::load::media::{Media, Shape, TooLittle};
use crate::load::plan::{Plan, Stage};
use crate::load::slo::Slo;
use crate::net::target::Target;
use crowd::CrowdArgs;

mod crowd;
mod preflight;
mod run;

/// Publishers and players; latency, start-up time, throughput.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// rtmp[s]://host[:port]/app[/prefix][?query]; without it the built-in reference server is used.
    target: Option<Target>,
    // clap takes a plain {n} for the end of a line.
    #[arg(help = format!("Streams to publish, named PREFIX-0, PREFIX-1, …; where the target's prefix or query holds {{i}}, {{i:04}} or {{1..20}}, the \
        stream's number is put there instead, and at {SESSION} the session's. By default 1"))]
    #[arg(long, value_name = "N", value_parser = value::whole(0_u32..=MAX_SESSIONS))]
    publishers: Option<u32>,
    /// Players, spread over the published streams; by default 10.
    #[arg(long, value_name = "N", value_parser = value::whole(0_u32..=MAX_SESSIONS))]
    players: Option<u32>,
    #[arg(help = format!("Play this name, which somebody else publishes; with --publishers 0. Several by pattern: cam-{{1..20}}, with {SESSION} the \
        player's number. Players that got nothing more of it for 2 s or longer before their end are told, and gap counts that time"))]
    #[arg(long, value_name = "NAME")]
    play: Option<String>,
    /// From no player to all; with --players 0: from no publisher.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = value::time)]
    ramp: Duration,
    /// How long all are kept, from the end of the ramp.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = value::time)]
    hold: Duration,
    /// The whole run instead of --hold: from the first connection to where publishers fall silent, ramp included.
    #[arg(long, value_name = "TIME", value_parser = value::time, conflicts_with_all = ["hold", "stage"])]
    duration: Option<Duration>,
    /// A stage: so long, and the players wanted at its end, reached evenly. Repeatable; in place of --players, --ramp and --hold.
    #[arg(long, value_name = "TIME:PLAYERS", value_parser = stage, conflicts_with_all = ["players", "ramp", "hold"])]
    stage: Vec<Stage>,
    /// New sessions a second at most.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = value::whole(1_u32..=100_000))]
    rate: u32,
    /// What a publisher sends, in bit/s: 800k, 2.5M.
    #[arg(long, value_name = "RATE", default_value = "1M", value_parser = bitrate)]
    bitrate: u64,
    /// Video frames a second; 0: audio alone, at the rate of --audio.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = value::whole(0_u32..=240))]
    fps: u32,
    /// From key frame to key frame.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = value::time)]
    gop: Duration,
    /// How much of --bitrate is audio, silent AAC filled up to the rate, or none: 96k. By default 64k, or a third of --bitrate if that is less.
    #[arg(long, value_name = "RATE|none", value_parser = audio)]
    audio: Option<u64>,
    /// What publishers send instead: this FLV file, over and over with continuing timestamps, each frame at its own time.
    #[arg(long, value_name = "FILE.flv", conflicts_with_all = ["bitrate", "fps", "gop", "audio"])]
    media: Option<PathBuf>,
    /// Put no stamp into the frames of the file: they are told by their content, which says less.
    #[arg(long, requires = "media")]
    media_untouched: bool,
    /// What must hold: `frame.p99 < 500ms`, `failed < 1%`, `lost = 0`. Repeatable; failed, corrupt and lost = 0 hold where nothing is said of
    /// them. What was not measured is not kept, and what we publish nothing for (first_keyframe with --fps 0) is refused; where no player plays what
    /// we publish, corrupt and lost hold only if asked for. A session that the end of the run cuts off on its way has not failed, but counts as failed
    /// here if it had waited for 2 s or longer.
    #[arg(long, value_name = "EXPR")]
    slo: Vec<Slo>,
    /// Players read each time this comes round, not at once: cheaper, and latencies are up to that much longer. Beside that what is read late is acknowledged
    /// late: a target that waits for acknowledgements (Nagle's algorithm), as nginx-rtmp does, sends some 40 ms later than to players that read at once. Where
    /// sockets are full at a tick, the time is too long for the bitrate, and the run is said to be limited by us.
    #[arg(long, value_name = "TIME", value_parser = value::time_in(Duration::from_millis(1)..=Duration::from_secs(1)))]
    tick: Option<Duration>,
    /// Search the most players (with --players 0: streams), up to those given or else to what this machine can make, with which this still holds, beside what holds anyway: doubled until
    /// it does not, then halved, a run of --ramp and --hold each. A run that we were the limit of is made once more and then is no answer; with
    /// --allow-limited it is one, and the limit is said to be ours where it did not hold.
    #[arg(long, value_name = "EXPR", conflicts_with = "stage")]
    find: Option<Slo>,
    /// From the first connection to where publishers fall silent, at most, however long --hold, --stage or a search would take.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = value::time)]
    max_time: Duration,
    /// Event loops, each on a thread of its own; 0: one a core.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = value::whole(0_u16..=256))]
    shards: u16,
    /// Where results go: text, json, csv or hlog[:FILE]. Repeatable.
    #[arg(short = 'o', long = "output", value_name = "FORMAT[:FILE]", value_parser = output::one_of(FORMATS))]
    output: Vec<Output>,
    /// Judge also a run that we were the limit of: our own lateness p99 above 50 ms in any second, or the machine above 95 % busy over the run or
    /// for three seconds on end. Otherwise its promises are neither kept nor missed, and the exit status is 1.
    #[arg(long)]
    allow_limited: bool,
    /// Tell Prometheus how the run goes, at http://ADDR/metrics while it lasts; port 0: a free one.
    #[arg(long, value_name = "ADDR", value_parser = value::address)]
    metrics: Option<SocketAddr>,
    #[command(flatten)]
    crowd: CrowdArgs,
    #[command(flatten)]
    spawn: SpawnArgs,
    /// The target's process: the processor time and memory that it and its children take are recorded too. With --spawn: that one.
    #[arg(long, value_name = "PID", value_parser = value::whole(0_u32..=u32::MAX))]
    watch_pid: Option<u32>,
    /// Show stream keys and passwords.
    #[arg(long)]
    show_secrets: bool,
    #[command(flatten)]
    tls: TlsArgs,
}

/// `{n}` as clap leaves it alone: an escape sequence that changes nothing stands inside.
const SESSION: &str = "{\u{1b}[0mn}";
/// Where nothing is said of them.
const PUBLISHERS: u32 = 1;
const PLAYERS: u32 = 10;
/// Sessions of one run and role, at most.
const MAX_SESSIONS: u32 = 20_000;
/// AAC of one channel, in bit/s.
const MAX_AUDIO: u64 = 256_000;
/// Video frames from key frame to key frame, at most: each is prepared.
const MAX_GOP: u32 = 2400;

fn stage(s: &str) -> Result<Stage, String> {
    let (time, players) = s.split_once(':').ok_or("expected TIME:PLAYERS, for example 30s:200")?;
    let time = value::time(time).map_err(|e| format!("'{time}': {e}"))?;
    let players = value::whole(0..=MAX_SESSIONS)(players).map_err(|e| format!("'{players}': {e}"))?;
    Ok(Stage { time, players })
}

fn bitrate(s: &str) -> Result<u64, String> {
    let bits = value::bits(s).filter(|bits| (1e4..=2e8).contains(bits));
    bits.map(|bits| bits as u64).ok_or_else(|| "expected bit/s from 10k to 200M".into())
}

/// 0: none.
fn audio(s: &str) -> Result<u64, String> {
    match (s, bitrate(s)) {
        ("none", _) => Ok(0),
        (_, Ok(rate @ ..=MAX_AUDIO)) => Ok(rate),
        _ => Err("expected none, or bit/s from 10k to 256k".into()),
    }
}

/// What can be written.
const FORMATS: &[Format] = &[Format::Text, Format::Json, Format::Csv, Format::Hlog];

/// Runs the verb.
///
/// # Errors
/// When it could not run: with the exit status and what to say.
pub fn run(args: &LoadArgs) -> Result<Exit, Failure> {
    let read = args.media.iter().map(|file| ("--media", file.as_path())).chain(args.tls.file());
    output::keep_apart(read, output::files(&args.output)).map_err(Failure::usage)?;
    let outputs = output::resolve(&args.output).map_err(Failure::usage)?;
    let media = media(args)?;
    let plan = plan(args, media.shape())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::internal(format!("no runtime: {e}")))?;
    runtime.block_on(run::drive(args, plan, media, &outputs))
}

/// What publishers send, made or out of a file.
fn media(args: &LoadArgs) -> Result<Media, Failure> {
    if let Some(file) = &args.media {
        return Media::file(file, args.media_untouched)
            .map_err(|e| Failure::usage(format!("--media {}: {e}", file.display())));
    }
    let too_little = |option: &str, e: TooLittle| Failure::usage(format!("{option}: {e}"));
    if args.fps == 0 {
        let audio_bps = args.audio.unwrap_or(Shape::new(args.bitrate, 0, 0).audio_bps);
        if audio_bps == 0 {
            return Err(Failure::usage("--fps 0 and --audio none: nothing to send"));
        }
        let shape = Shape { bitrate_bps: audio_bps, fps: 0, gop: 0, audio_bps };
        return Media::new(shape).map_err(|e| too_little("--audio", e));
    }
    let frames = args.gop.as_millis() * u128::from(args.fps) / 1000;
    let gop = u32::try_from(frames).ok().filter(|n| (1..=MAX_GOP).contains(n));
    let gop = gop.ok_or_else(|| {
        let (time, fps) = (humantime::format_duration(args.gop), args.fps);
        Failure::usage(format!("--gop {time}: {frames} frames at --fps {fps}; expected 1 to {MAX_GOP}"))
    })?;
    let mut shape = Shape::new(args.bitrate, args.fps, gop);
    shape.audio_bps = args.audio.unwrap_or(shape.audio_bps);
    Media::new(shape).map_err(|e| too_little("--bitrate", e))
}

fn plan(args: &LoadArgs, shape: Shape) -> Result<Plan, Failure> {
    let hold = match args.duration {
        Some(whole) => left_of(whole, args.ramp, args.crowd.late(shape))?,
        None => args.hold,
    };
    let stages = match args.stage.is_empty() {
        true => {
            [args.ramp, hold].map(|time| Stage { time, players: args.players.unwrap_or(PLAYERS) }).to_vec()
        }
        false => args.stage.clone(),
    };
    let mut plan = Plan {
        publishers: args.publishers.unwrap_or(PUBLISHERS),
        stages,
        rate: args.rate,
        shape,
        tick: args.tick,
        play: args.play.clone(),
        max_time: args.max_time.min(args.duration.unwrap_or(Duration::MAX)),
        shards: usize::from(args.shards),
        ..Plan::default()
    };
    args.crowd.apply(&mut plan, args.target.as_ref())?;
    match (plan.publishers, plan.players(), &args.play) {
        (0, 0, _) => Err(Failure::usage("no publishers and no players: nothing to do")),
        (1.., _, Some(_)) => Err(Failure::usage("--play plays what others publish: it needs --publishers 0")),
        (0, _, None) => Err(Failure::usage("without publishers --play must say what is played")),
        _ => measurable(args, plan),
    }
}

/// What a run of this duration has to hold, behind its ramp and what late players take.
fn left_of(whole: Duration, ramp: Duration, late: Duration) -> Result<Duration, Failure> {
    let hold = whole.checked_sub(ramp).and_then(|left| left.checked_sub(late)).filter(|hold| !hold.is_zero());
    hold.ok_or_else(|| {
        let [whole, ramp, both] = [whole, ramp, late].map(humantime::format_duration);
        let late = if late.is_zero() { String::new() } else { format!(" and the {both} of --late-join") };
        Failure::usage(format!("--duration {whole}: nothing is left of it behind the ramp of {ramp}{late}"))
    })
}

/// The plan, unless what is searched for could not be measured in it, or what is promised not in what is published.
fn measurable(args: &LoadArgs, plan: Plan) -> Result<Plan, Failure> {
    let secure = args.target.as_ref().is_some_and(Target::is_secure);
    let found = args.find.iter().map(|slo| ("--find", slo, slo.lacks(&plan, secure)));
    let mut promised = found.chain(args.slo.iter().map(|slo| ("--slo", slo, slo.lacks_media(&plan))));
    match promised.find_map(|(option, slo, why)| Some((option, slo.text(), why?))) {
        Some((option, text, why)) => {
            Err(Failure::usage(format!("{option} '{text}': nothing could be measured for it: {why}")))
        }
        None => Ok(plan),
    }
}
