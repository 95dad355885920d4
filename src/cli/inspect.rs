//! `inspect`: what a capture holds.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use clap::Args;

use super::Exit;
use crate::capture;
use crate::capture::secrets::Secrets;
use crate::capture::session::{Heard, Watch};
use crate::capture::stream::{Connection, Direction};
use crate::notation;
use crate::record::inspect::{Both, Inspect, Media, Session, Track};
use crate::record::{Host, Outcome, Record, SCHEMA, Tool};
use crate::wire::chunk::MessageHeader;
use crate::wire::flv;
use crate::wire::message::{Message, type_id};
use crate::wire::time::Time;

/// What a capture holds: sessions, messages, departures from the specification.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A pcap or pcapng file, gzip'd or not, or the bytes of one direction of one connection.
    capture: PathBuf,
    /// Where the result goes: text or json, and a file behind a colon.
    #[arg(short, long = "output", value_name = "FORMAT[:FILE]")]
    output: Vec<Output>,
    /// Only this TCP connection, by its number.
    #[arg(long, value_name = "N")]
    stream: Option<u64>,
    /// Print every message, in the notation of scenarios.
    #[arg(long)]
    messages: bool,
    /// Print the bytes of every message too.
    #[arg(long)]
    hex: bool,
    /// Write the audio and video of the first session that has any (or of --stream) as FLV.
    #[arg(long, value_name = "FILE")]
    flv: Option<PathBuf>,
    /// Departures from the specification, holes and damage are found (exit 1).
    #[arg(long)]
    strict: bool,
    /// Stream keys, tokens and passwords are shown as they are.
    #[arg(long)]
    show_secrets: bool,
}

/// One `-o`.
#[derive(Debug, Clone)]
struct Output {
    json: bool,
    file: Option<PathBuf>,
}

impl std::str::FromStr for Output {
    type Err = String;

    fn from_str(s: &str) -> Result<Output, String> {
        let (format, file) =
            s.split_once(':').map_or((s, None), |(format, file)| (format, Some(file.into())));
        match format {
            "text" => Ok(Output { json: false, file }),
            "json" => Ok(Output { json: true, file }),
            other => Err(format!("unknown format '{other}'; inspect writes text and json")),
        }
    }
}

/// Runs the verb.
pub fn run(args: &InspectArgs) -> Exit {
    match inspect(args) {
        Ok(exit) => exit,
        // Whoever reads our output may stop reading: that is no error.
        Err(Failure::Write(e)) if e.kind() == io::ErrorKind::BrokenPipe => Exit::Clean,
        Err(e) => {
            eprintln!("rtmp-bench inspect: {}: {e}", args.capture.display());
            Exit::Usage
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Read(#[from] capture::pcap::Error),
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
    #[error("it has no audio or video, so no FLV was written")]
    NoMedia,
    #[error("it has no TCP connection {0}")]
    NoStream(u64),
}

fn inspect(args: &InspectArgs) -> Result<Exit, Failure> {
    let (started, clock) = (SystemTime::now(), Instant::now());
    let mut listener = Listener::new(args)?;
    let mut found = capture::read(&args.capture, args.show_secrets, &mut listener)?;
    let wrote = listener.finish()?;
    if let Some(n) = args.stream {
        found.sessions.retain(|s| s.stream == n);
        found.other.retain(|o| o.stream == n);
        if found.sessions.is_empty() && found.other.is_empty() {
            return Err(Failure::NoStream(n));
        }
    }
    let departs =
        found.damage.is_some() || found.sessions.iter().any(|s| !s.notes.is_empty() || !s.holes.is_empty());
    let exit = if args.strict && departs { Exit::Found } else { Exit::Clean };
    let text = text(&args.capture.display().to_string(), &found);
    let record = Record {
        schema: SCHEMA.into(),
        tool: Tool::default(),
        verb: "inspect".into(),
        args: std::env::args().skip(2).collect(),
        seed: None,
        started_at: humantime::format_rfc3339_millis(started).to_string(),
        duration_ms: clock.elapsed().as_millis() as u64,
        host: Host::default(),
        target: None,
        outcome: if exit == Exit::Found { Outcome::Found } else { Outcome::Clean },
        test: None,
        inspect: Some(found),
    };
    write_outputs(args, &text, &record)?;
    if wrote { Ok(exit) } else { Err(Failure::NoMedia) }
}

fn write_outputs(args: &InspectArgs, text: &str, record: &Record) -> io::Result<()> {
    // Text stays on stdout unless another format without a file takes its place.
    if args.output.iter().all(|o| o.file.is_some()) {
        io::stdout().write_all(text.as_bytes())?;
    }
    for output in &args.output {
        let content =
            if output.json { serde_json::to_string_pretty(record)? + "\n" } else { text.to_string() };
        match &output.file {
            Some(file) => std::fs::write(file, content)?,
            None => io::stdout().write_all(content.as_bytes())?,
        }
    }
    io::stdout().flush()
}

/// Prints messages and writes FLV while the capture is read.
struct Listener<'a> {
    args: &'a InspectArgs,
    out: BufWriter<io::Stdout>,
    secrets: Vec<(u64, Secrets)>,
    origin: Option<Time>,
    flv: Option<Flv>,
    failed: Option<io::Error>,
}

impl<'a> Listener<'a> {
    fn new(args: &'a InspectArgs) -> io::Result<Listener<'a>> {
        let flv = args.flv.as_deref().map(Flv::create).transpose()?;
        Ok(Listener {
            args,
            out: BufWriter::new(io::stdout()),
            secrets: Vec::new(),
            origin: None,
            flv,
            failed: None,
        })
    }

    /// Whether all that was asked for could be written.
    fn finish(mut self) -> io::Result<bool> {
        self.out.flush()?;
        let wrote = self.flv.map_or(Ok(true), Flv::finish)?;
        self.failed.map_or(Ok(wrote), Err)
    }

    fn print(
        &mut self,
        of: &Connection,
        direction: Direction,
        time: Time,
        what: Heard<'_>,
    ) -> io::Result<()> {
        let origin = *self.origin.get_or_insert(time);
        let at = time.since(origin).as_micros();
        let arrow = if direction == Direction::C2s { '>' } else { '<' };
        let mut bytes = Vec::new();
        let said = match what {
            Heard::Version(version) => {
                format!("{}0 {version}", if direction == Direction::C2s { 'C' } else { 'S' })
            }
            Heard::Hello(block) => {
                format!("{}1 time={} version={:#010x}", side(direction), block.time(), block.second_word())
            }
            Heard::Answer(block) => {
                format!("{}2 time={} time2={}", side(direction), block.time(), block.second_word())
            }
            Heard::Message(header, payload) => self.message(of, header, payload, &mut bytes),
            Heard::Note(note) => format!("# {note}"),
            Heard::Hole(hole) => {
                format!("# hole of {} bytes at {} ({})", hole.bytes, hole.offset, hole.cause.name())
            }
            Heard::Broken(why) => format!("# undecodable: {why}"),
        };
        writeln!(self.out, "{:>4}.{:06} {} {arrow} {said}", at / 1_000_000, at % 1_000_000, of.number)?;
        if self.args.hex {
            write_hex(&mut self.out, &bytes)?;
        }
        Ok(())
    }

    /// The message as notation; its bytes into `bytes`, both without secrets.
    fn message(&mut self, of: &Connection, header: MessageHeader, payload: &[u8], bytes: &mut Vec<u8>) -> String {
        if !self.args.show_secrets
            && let Ok(mut message) = Message::decode(header.type_id, payload)
            && self.secrets(of).mask(&mut message)
        {
            message.encode(bytes);
            return notation::brief(&message, &header);
        }
        bytes.extend_from_slice(payload);
        notation::brief_payload(&header, payload)
    }

    fn secrets(&mut self, of: &Connection) -> &mut Secrets {
        let at = self.secrets.iter().position(|(number, _)| *number == of.number).unwrap_or_else(|| {
            self.secrets.push((of.number, Secrets::default()));
            self.secrets.len() - 1
        });
        &mut self.secrets[at].1
    }
}

impl Watch for Listener<'_> {
    fn heard(&mut self, of: &Connection, direction: Direction, time: Time, what: Heard<'_>) {
        if self.failed.is_some() || self.args.stream.is_some_and(|n| n != of.number) {
            return;
        }
        if self.args.messages || self.args.hex {
            self.failed = self.print(of, direction, time, what).err();
        }
        if let (Some(flv), Heard::Message(header, payload)) = (&mut self.flv, what)
            && let Err(e) = flv.message(of.number, direction, header, payload)
        {
            self.failed = Some(e);
        }
    }

    fn ended(&mut self, session: &Session) {
        self.secrets.retain(|(number, _)| *number != session.stream);
    }
}

/// One stream as FLV: the first that brings audio or video.
struct Flv {
    path: PathBuf,
    writer: flv::Writer<BufWriter<File>>,
    chosen: Option<Place>,
    /// Metadata that came before a stream was chosen.
    metadata: Vec<(Place, MessageHeader, Vec<u8>)>,
    wrote: flv::Header,
}

/// Connection, direction and message stream.
type Place = (u64, Direction, u32);

impl Flv {
    fn create(path: &Path) -> io::Result<Flv> {
        let wrote = flv::Header { audio: false, video: false };
        let writer = flv::Writer::new(BufWriter::new(File::create(path)?), wrote)?;
        Ok(Flv { path: path.into(), writer, chosen: None, metadata: Vec::new(), wrote })
    }

    fn message(
        &mut self,
        number: u64,
        direction: Direction,
        header: MessageHeader,
        payload: &[u8],
    ) -> io::Result<()> {
        /// Metadata kept of streams that have brought no media yet.
        const KEPT: usize = 64;
        let place = (number, direction, header.msid);
        match header.type_id {
            type_id::AUDIO | type_id::VIDEO => self.media(place, header.type_id, header.timestamp, payload),
            type_id::AGGREGATE => {
                let Ok(Message::Aggregate(parts)) = Message::decode(header.type_id, payload) else {
                    return Ok(());
                };
                // rtmp 7.1.6: the parts keep their distance to the first, which has the message's timestamp.
                let first = parts.first().map_or(0, |p| p.timestamp);
                for part in parts.iter().filter(|p| matches!(p.type_id, type_id::AUDIO | type_id::VIDEO)) {
                    let timestamp = header.timestamp.wrapping_add(part.timestamp.wrapping_sub(first));
                    self.media(place, part.type_id, timestamp, &part.payload)?;
                }
                Ok(())
            }
            type_id::DATA_AMF0 if self.chosen == Some(place) => self.metadata(header, payload),
            type_id::DATA_AMF0 if self.chosen.is_none() && self.metadata.len() < KEPT => {
                self.metadata.push((place, header, payload.to_vec()));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn media(&mut self, place: Place, type_id: u8, timestamp: u32, payload: &[u8]) -> io::Result<()> {
        if self.chosen.is_none() {
            self.chosen = Some(place);
            for (_, header, payload) in std::mem::take(&mut self.metadata).iter().filter(|m| m.0 == place) {
                self.metadata(*header, payload)?;
            }
        }
        if self.chosen != Some(place) || payload.is_empty() {
            return Ok(());
        }
        self.wrote.audio |= type_id == type_id::AUDIO;
        self.wrote.video |= type_id == type_id::VIDEO;
        self.writer.write(type_id, timestamp, payload)
    }

    /// onMetaData, without the handler's name that tells a server to keep it.
    fn metadata(&mut self, header: MessageHeader, payload: &[u8]) -> io::Result<()> {
        let script = payload.strip_prefix(b"\x02\x00\x0d@setDataFrame").unwrap_or(payload);
        if script.starts_with(b"\x02\x00\x0aonMetaData") {
            self.writer.write(type_id::DATA_AMF0, header.timestamp, script)?;
        }
        Ok(())
    }

    /// Says in the file's header what came; no file is left when nothing did.
    fn finish(self) -> io::Result<bool> {
        let mut file = self.writer.into_inner();
        if self.chosen.is_none() {
            std::fs::remove_file(self.path)?;
            return Ok(false);
        }
        // flv e.2: the fifth byte has a bit for audio and one for video.
        file.seek(SeekFrom::Start(4))?;
        file.write_all(&[u8::from(self.wrote.audio) << 2 | u8::from(self.wrote.video)])?;
        file.flush()?;
        Ok(true)
    }
}

fn side(direction: Direction) -> char {
    if direction == Direction::C2s { 'C' } else { 'S' }
}

fn write_hex(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    for (i, line) in bytes.chunks(16).enumerate() {
        let hex: String = line.iter().map(|b| format!("{b:02x} ")).collect();
        let text: String = line
            .iter()
            .map(|b| if b.is_ascii_graphic() || *b == b' ' { char::from(*b) } else { '.' })
            .collect();
        writeln!(out, "              {:06x}  {hex:<48} {text}", i * 16)?;
    }
    Ok(())
}

/// The whole result as text.
fn text(file: &str, found: &Inspect) -> String {
    let mut t = String::new();
    let _ = write!(t, "{file}: {}", found.format);
    if found.format != "raw" {
        let _ = write!(
            t,
            ", {}, {}",
            count(found.packets, "packet"),
            count(found.tcp_connections, "TCP connection")
        );
    }
    let _ = writeln!(t, ", {}", count(found.sessions.len() as u64, "RTMP session"));
    if found.dropped_packets > 0 {
        let _ = writeln!(t, "the capturing program dropped {}", count(found.dropped_packets, "packet"));
    }
    for (what, n) in &found.passed_over {
        let _ = writeln!(t, "passed over: {} ({what})", count(*n, "packet"));
    }
    for comment in &found.comments {
        let _ = writeln!(t, "comment: {}", plain(comment));
    }
    for s in &found.sessions {
        t.push('\n');
        session(&mut t, s);
    }
    if !found.other.is_empty() {
        t.push_str("\nnot RTMP sessions\n");
    }
    for o in &found.other {
        let _ = writeln!(
            t,
            "  {} {}: {} (c2s {}, s2c {} bytes)",
            o.stream,
            o.key,
            plain(&o.what),
            o.bytes.c2s,
            o.bytes.s2c
        );
    }
    if found.omitted > 0 {
        let _ = writeln!(t, "\nleft out of these lists: {} entries", found.omitted);
    }
    if let Some(damage) = &found.damage {
        let _ = writeln!(t, "\nthe file is damaged {}; what stands before it is shown", plain(damage));
    }
    t
}

fn session(t: &mut String, s: &Session) {
    let _ = writeln!(
        t,
        "{} {} {} {}",
        s.stream,
        s.key,
        s.role,
        plain(s.url.as_deref().unwrap_or("(no connect)"))
    );
    let state = if s.complete { "complete" } else { "not complete" };
    let _ = writeln!(t, "  {}.{:03} s, {state}, end: {}", s.duration_ms / 1000, s.duration_ms % 1000, s.end);
    for (name, d) in [("c2s", Direction::C2s), ("s2c", Direction::S2c)] {
        let sha = of(&s.sha256, d).as_deref().unwrap_or("-");
        let _ = writeln!(t, "  {name} {} bytes, sha256 {sha}", of(&s.bytes, d));
        let messages =
            of(&s.messages, d).iter().map(|(id, n)| format!("{} {n}", type_name(*id))).collect::<Vec<_>>();
        list(t, "messages", &messages);
        list(t, "chunk sizes", &of(&s.chunk_sizes, d).iter().map(u32::to_string).collect::<Vec<_>>());
        list(t, "commands", &of(&s.commands, d).iter().map(|c| plain(c)).collect::<Vec<_>>());
        if let Some(m) = s.media.get(name) {
            media(t, m);
        }
    }
    for h in s.holes.iter().take(SHOWN_HOLES) {
        let _ = writeln!(t, "  hole: {} at {}: {} bytes ({})", h.direction, h.offset, h.bytes, h.cause);
    }
    if let Some(more) = s.holes.get(SHOWN_HOLES..).filter(|more| !more.is_empty()) {
        let bytes: u64 = more.iter().map(|h| h.bytes).sum();
        let _ = writeln!(t, "  and {}, {bytes} bytes", count(more.len() as u64, "more hole"));
    }
    for n in &s.notes {
        let clause = n.clause.as_ref().map(|c| format!(" [{c}]")).unwrap_or_default();
        let (place, value) = (format!("{} at {}", n.direction, n.offset), n.value);
        let _ = writeln!(
            t,
            "  note: {} {}{clause}: {} (value {value:#x}, {})",
            place,
            n.note,
            plain(&n.text),
            count(n.count, "time")
        );
    }
}

fn media(t: &mut String, m: &Media) {
    let track = |track: &Track| {
        let codecs = track
            .codecs
            .iter()
            .map(|(name, n)| format!("{} {n}", plain(name)))
            .collect::<Vec<_>>()
            .join(", ");
        let keys = track.key_frames.map(|n| format!(" ({n} key)")).unwrap_or_default();
        let rate = track.bitrate_bps.map(|b| format!(", {} kbit/s", b / 1000)).unwrap_or_default();
        let span = format!("{}..{} ms", track.first_ms, track.last_ms);
        format!(
            "{codecs}; {}{keys}, {}, {span}{rate}",
            count(track.frames, "frame"),
            count(track.headers, "header")
        )
    };
    for (name, t_) in [("audio", &m.audio), ("video", &m.video)] {
        if let Some(t_) = t_ {
            let _ = writeln!(t, "      {name}: {}", track(t_));
        }
    }
    if let Some((least, most)) = m.skew_ms {
        let _ = writeln!(t, "      video before the audio that came last: {least} to {most} ms");
    }
}

fn of<T>(both: &Both<T>, direction: Direction) -> &T {
    if direction == Direction::C2s { &both.c2s } else { &both.s2c }
}

/// What a terminal can take of a list; the record has all of it.
const SHOWN: usize = 40;
const SHOWN_HOLES: usize = 8;

fn list(t: &mut String, what: &str, items: &[String]) {
    if items.is_empty() {
        return;
    }
    let more =
        if items.len() > SHOWN { format!(", and {} more", items.len() - SHOWN) } else { String::new() };
    let _ = writeln!(t, "      {what}: {}{more}", items[..items.len().min(SHOWN)].join(", "));
}

fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Text from a peer without what a terminal would obey.
fn plain(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}

/// The name of a message type, as the specification has it.
fn type_name(id: u8) -> String {
    match id {
        1 => "SetChunkSize",
        2 => "Abort",
        3 => "Acknowledgement",
        4 => "UserControl",
        5 => "WindowAckSize",
        6 => "SetPeerBandwidth",
        8 => "audio",
        9 => "video",
        15 => "data (AMF3)",
        16 => "shared object (AMF3)",
        17 => "command (AMF3)",
        18 => "data",
        19 => "shared object",
        20 => "command",
        22 => "aggregate",
        other => return format!("type {other}"),
    }
    .into()
}
