//! `inspect`: what a capture holds.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bstr::ByteSlice;
use clap::Args;
use serde::Serialize;
use tokio::sync::watch;

use super::envelope::{self, Envelope};
use super::output::{self, Format, Output};
use super::{Exit, Failure, complain, interrupted, value};
use crate::capture;
use crate::capture::script::Script;
use crate::capture::secrets::{self, Secrets};
use crate::capture::session::{Heard, Watch};
use crate::capture::stream::{Connection, Direction};
use crate::notation;
use crate::record::inspect::{Note, Session, Spooled};
use crate::record::{Outcome, Record};
use crate::report;
use crate::scenario::clauses::Clauses;
use crate::wire::chunk::MessageHeader;
use crate::wire::flv;
use crate::wire::message::{Message, type_id};
use crate::wire::time::Time;

/// What a capture holds: sessions, messages, departures from the specification.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A pcap or pcapng file, gzip'd or not, or the bytes of one direction of one connection.
    #[arg(value_parser = value::capture())]
    capture: PathBuf,
    /// Where the result goes: text or json, and a file behind a colon.
    #[arg(short, long = "output", value_name = "FORMAT[:FILE]", value_parser = output::one_of(FORMATS))]
    output: Vec<Output>,
    /// Only this TCP connection, by its number.
    #[arg(long, value_name = "N", value_parser = value::whole(0_u64..=u64::MAX))]
    stream: Option<u64>,
    /// Print every message, in the notation of scenarios.
    #[arg(long)]
    messages: bool,
    /// Print the bytes of every message too.
    #[arg(long)]
    hex: bool,
    /// Write the audio and video of the first session that has any (or of --stream) as FLV.
    #[arg(long, value_name = "FILE", value_parser = output::file())]
    flv: Option<PathBuf>,
    /// Write the client's side of the first session that connects (or of --stream) as a scenario.
    #[arg(long, value_name = "FILE", value_parser = output::file())]
    scn: Option<PathBuf>,
    /// Write the packets again so that the capture can be shown to others: addresses, names, keys, tokens and media are replaced, comments left
    /// out and what is not understood becomes zeros (stderr says in how many packets); lengths, times and headers stay, and so do the bytes of
    /// handshakes and the sequence headers of codecs that are known, but not the SEI, metadata and comments that some have. In commands and data stay the
    /// numbers (but not of fields named as secrets, nor of a service's own commands), the names of commands and fields that are one plain word
    /// and not like a stream key, and what names programs, formats and status codes.
    #[arg(long, value_name = "FILE", value_parser = output::file())]
    anonymise: Option<PathBuf>,
    /// Departures from the specification, holes and damage are found (exit 1).
    #[arg(long)]
    strict: bool,
    /// Stream keys, tokens and passwords are shown as they are. Else is masked what stands behind '?' or '#' in names and URLs, behind a label like
    /// 'token=', as password of a URL, in fields and commands named as secrets, or is like a stream key: twelve letters and digits at least; and
    /// what was one of these before.
    #[arg(long)]
    show_secrets: bool,
}

/// What can be written.
const FORMATS: &[Format] = &[Format::Text, Format::Json];

/// Runs the verb.
///
/// # Errors
/// When nothing could be read, or what was asked for not be written.
pub fn run(args: &InspectArgs) -> Result<Exit, Failure> {
    let envelope = Envelope::begin("inspect");
    let named = [("--flv", &args.flv), ("--scn", &args.scn), ("--anonymise", &args.anonymise)];
    let named = named.into_iter().filter_map(|(name, path)| Some((name, path.as_deref()?)));
    let files = output::files(&args.output);
    output::keep_apart([("the capture", args.capture.as_path())], named.chain(files))
        .map_err(Failure::usage)?;
    let outputs = output::resolve(&args.output).map_err(Failure::usage)?;
    let text_on_stdout = outputs.iter().any(|o| o.file.is_none() && o.format == Format::Text);
    if (args.messages || args.hex) && !text_on_stdout {
        return Err(Failure::usage(
            "messages are printed on stdout, where JSON was asked for; give it a file: -o json:FILE",
        ));
    }
    let file = args.capture.display().to_string();
    let of_file = |e: &dyn std::fmt::Display| Failure::usage(format!("{file}: {e}"));
    let read_once = std::fs::metadata(&args.capture).is_ok_and(|capture| !capture.is_file());
    if args.anonymise.is_some() && read_once {
        return Err(of_file(&"it can be read only once, and --anonymise reads it again; expected a file"));
    }
    let stopped = interrupted();
    let mut listener = Listener::new(args, stopped.clone()).map_err(|e| Failure::usage(e.to_string()))?;
    let mut found =
        capture::read_spooled(&args.capture, args.show_secrets, &mut listener).map_err(|e| of_file(&e))?;
    let missing = listener.finish().map_err(|e| Failure::internal(e.to_string()))?;
    if let Some(n) = args.stream {
        found.sessions.retain(|number| number == n);
        found.other.retain(|number| number == n);
        if found.sessions.is_empty() && found.other.is_empty() && !*stopped.borrow() {
            return Err(of_file(&format!("it has no TCP connection {n}")));
        }
    }
    let anonymised = match &args.anonymise {
        Some(to) if !*stopped.borrow() => anonymise(&args.capture, to, &stopped),
        _ => Ok(()),
    };
    let stopped = *stopped.borrow();
    let (exit, outcome) = if stopped {
        (Exit::Interrupted, Outcome::Interrupted)
    } else if args.strict && departs(&found).map_err(|e| of_file(&e))? {
        (Exit::Found, Outcome::Found)
    } else {
        (Exit::Clean, Outcome::Clean)
    };
    let record = envelope.end(outcome, envelope::arguments(args.show_secrets, None));
    output::write_all(&outputs, |output| {
        output.write_by(|out| match output.format {
            Format::Json => json(out, &record, &found),
            _ => report::inspect::text(out, &file, &found),
        })
    })?;
    anonymised.map_err(|e| of_file(&e))?;
    if stopped {
        complain(&format!("{file}: interrupted; what was read until then is told"));
        return Ok(exit);
    }
    missing.map_or(Ok(exit), |what| Err(of_file(&what)))
}

/// How binding the row is that a note cites.
fn say_level(note: &mut Note) {
    let row = note.clause.as_ref().and_then(|clause| Clauses::built_in().get(clause));
    note.level = row.map(|row| row.level.name().into());
}

/// Whether there is a note, a hole or damage.
fn departs(found: &Spooled) -> io::Result<bool> {
    for session in found.sessions.iter() {
        let session = session?;
        if !session.notes.is_empty() || !session.holes.is_empty() {
            return Ok(true);
        }
    }
    Ok(found.damage.is_some())
}

/// The record, its sessions one at a time.
fn json(out: &mut dyn Write, record: &Record, inspect: &Spooled) -> io::Result<()> {
    #[derive(Serialize)]
    struct Whole<'a> {
        #[serde(flatten)]
        record: &'a Record,
        inspect: &'a Spooled,
    }
    serde_json::to_writer_pretty(&mut *out, &Whole { record, inspect })?;
    writeln!(out)
}

fn anonymise(
    from: &Path,
    to: &Path,
    stopped: &watch::Receiver<bool>,
) -> Result<(), capture::anonymise::Error> {
    let create = || File::create(to).map(BufWriter::new).map_err(|e| of(to, &e));
    let written = capture::anonymise::anonymise(from, create, || *stopped.borrow())?;
    let to = to.display();
    let Some(capture::anonymise::Written { packets, fragments, others }) = written else {
        complain(&format!("{to}: interrupted; not written"));
        return Ok(());
    };
    if *stopped.borrow() {
        complain(&format!("{to}: interrupted; {packets} packets are written"));
    }
    if fragments + others > 0 {
        let zeros = fragments + others;
        complain(&format!(
            "{to}: {zeros} of {packets} packets have only zeros behind their headers: {fragments} of datagrams not put together, {others} without TCP"
        ));
    }
    Ok(())
}

/// An error that says which file it is about.
fn of(path: &Path, e: &io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{}: {e}", path.display()))
}

/// Prints messages and writes FLV while the capture is read.
struct Listener<'a> {
    args: &'a InspectArgs,
    stopped: watch::Receiver<bool>,
    out: BufWriter<io::Stdout>,
    /// By the number of the connection.
    secrets: HashMap<u64, Secrets>,
    origin: Option<Time>,
    flv: Option<Flv>,
    script: Option<Script>,
    failed: Option<io::Error>,
}

impl<'a> Listener<'a> {
    fn new(args: &'a InspectArgs, stopped: watch::Receiver<bool>) -> io::Result<Listener<'a>> {
        let flv = args
            .flv
            .as_deref()
            .map(|path| Flv::create(path, args.show_secrets).map_err(|e| of(path, &e)))
            .transpose()?;
        Ok(Listener {
            args,
            stopped,
            out: BufWriter::new(io::stdout()),
            secrets: HashMap::new(),
            origin: None,
            flv,
            script: args.scn.is_some().then(|| Script::new(args.stream, args.show_secrets)),
            failed: None,
        })
    }

    /// Writes what is to be written at the end; what was asked for and is not there.
    fn finish(mut self) -> io::Result<Option<&'static str>> {
        let flushed = self.out.flush();
        let mut missing = None;
        if let (Some(flv), Some(to)) = (self.flv, &self.args.flv)
            && !flv.finish().map_err(|e| of(to, &e))?
        {
            missing = Some("it has no audio or video, so no FLV was written");
        }
        if let (Some(script), Some(to)) = (self.script, &self.args.scn) {
            match script.finish() {
                Some(text) => std::fs::write(to, text).map_err(|e| of(to, &e))?,
                None => missing = Some("no client connects in it, so no scenario was written"),
            }
        }
        match self.failed.map_or(flushed, Err) {
            // Whoever reads our output may stop reading: that is no error.
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e),
            _ => Ok(missing),
        }
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
        let mut bytes = Shown::default();
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
            Heard::Note(note) => {
                let client = direction == Direction::C2s;
                let clause = if client { note.kind.client_clause() } else { note.kind.clause() };
                let (name, value, offset) = (note.kind.name(), note.value, note.offset);
                format!("# note {name} csid={} value={value:#x} at {offset} ({clause})", note.csid)
            }
            Heard::Hole(hole) => {
                format!("# hole of {} bytes at {} ({})", hole.bytes, hole.offset, hole.cause.name())
            }
            Heard::Broken(why) => format!("# undecodable: {why}"),
        };
        writeln!(self.out, "{:>4}.{:06} {} {arrow} {said}", at / 1_000_000, at % 1_000_000, of.number)?;
        if self.args.hex {
            bytes.write_hex(&mut self.out)?;
        }
        Ok(())
    }

    /// The message as notation; its bytes into `shown`, both without secrets.
    fn message(
        &mut self,
        of: &Connection,
        header: MessageHeader,
        payload: &[u8],
        shown: &mut Shown,
    ) -> String {
        let masked = match self.args.show_secrets {
            false => self.secrets.entry(of.number).or_default().payload(header.type_id, payload),
            true => None,
        };
        shown.instead_of = masked.as_ref().map(|_| payload.len());
        shown.bytes = masked.unwrap_or_else(|| payload.to_vec());
        notation::brief_payload(&header, &shown.bytes)
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
        if let Some(script) = &mut self.script {
            script.heard(of, direction, time, what);
        }
        if let (Some(flv), Heard::Message(header, payload)) = (&mut self.flv, what)
            && let Err(e) = flv.message(of.number, direction, header, payload)
        {
            self.failed = Some(e);
        }
    }

    fn is_over(&self) -> bool {
        *self.stopped.borrow()
    }

    fn ended(&mut self, session: &mut Session) {
        session.notes.iter_mut().for_each(say_level);
        self.secrets.remove(&session.stream);
        self.flv.iter_mut().for_each(|flv| drop(flv.secrets.remove(&session.stream)));
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
    /// By the number of the connection, where they are not to be seen.
    secrets: HashMap<u64, Secrets>,
    show_secrets: bool,
}

/// Connection, direction and message stream.
type Place = (u64, Direction, u32);

impl Flv {
    fn create(path: &Path, show_secrets: bool) -> io::Result<Flv> {
        let wrote = flv::Header { audio: false, video: false };
        let writer = flv::Writer::new(BufWriter::new(File::create(path)?), wrote)?;
        let (metadata, secrets) = (Vec::new(), HashMap::new());
        Ok(Flv { path: path.into(), writer, chosen: None, metadata, wrote, secrets, show_secrets })
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
            _ if self.chosen.is_some_and(|(chosen, ..)| chosen != number) => Ok(()),
            type_id::DATA_AMF0 => {
                let payload = self.masked(number, header.type_id, payload);
                if self.chosen == Some(place) {
                    return self.metadata(header, &payload);
                }
                if self.chosen.is_none() && self.metadata.len() < KEPT {
                    self.metadata.push((place, header, payload));
                }
                Ok(())
            }
            // What a client logs in with may stand in its metadata too.
            type_id::COMMAND_AMF0 | type_id::COMMAND_AMF3 => {
                self.masked(number, header.type_id, payload);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The payload with its secrets masked, each as long as it was.
    fn masked(&mut self, number: u64, type_id: u8, payload: &[u8]) -> Vec<u8> {
        let secrets = self.secrets.entry(number).or_insert_with(Secrets::as_long);
        let masked = if self.show_secrets { None } else { secrets.payload(type_id, payload) };
        masked.unwrap_or_else(|| payload.to_vec())
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

/// The bytes of a message as they are shown.
#[derive(Default)]
struct Shown {
    bytes: Vec<u8>,
    /// Secrets are masked in it: how many bytes there were.
    instead_of: Option<usize>,
}

impl Shown {
    /// What stands for a secret has no value: `**`.
    fn write_hex(&self, out: &mut impl Write) -> io::Result<()> {
        let mut masked = vec![false; self.bytes.len()];
        for at in self.bytes.find_iter(secrets::MASK).filter(|_| self.instead_of.is_some()) {
            masked[at..at + secrets::MASK.len()].fill(true);
        }
        for (i, (line, masked)) in self.bytes.chunks(16).zip(masked.chunks(16)).enumerate() {
            let hex = |(b, masked): (&u8, &bool)| if *masked { "** ".into() } else { format!("{b:02x} ") };
            let hex: String = line.iter().zip(masked).map(hex).collect();
            let text: String = line
                .iter()
                .map(|b| if b.is_ascii_graphic() || *b == b' ' { char::from(*b) } else { '.' })
                .collect();
            writeln!(out, "              {:06x}  {hex:<48} {text}", i * 16)?;
        }
        if let Some(len) = self.instead_of {
            writeln!(out, "              ** is masked; as sent these are {len} bytes")?;
        }
        Ok(())
    }
}
