//! The client's side of a captured session as a scenario: app, URL and stream names become the target's, stream ids what the target
//! answers, and where the recording had an answer the scenario awaits one. Acknowledgements and pongs are left to the engine.

use bstr::{BString, ByteSlice};

use super::secrets::{Place, Secrets};
use super::session::{Heard, Watch};
use super::stream::{Connection, Direction};
use crate::notation::{self, print};
use crate::wire::amf0::Value;
use crate::wire::chunk::MessageHeader;
use crate::wire::message::{Command, Message, UserControl};
use crate::wire::time::Time;

/// The longest scenario that is written, in bytes; the language's own limit is a little above.
pub const MAX_TEXT: usize = 1_000_000;
/// Pauses shorter than this are not written, in microseconds.
const PAUSE: u128 = 1000;
/// Longer ones are cut to this, in microseconds: what paused for so long was idle, or the times are damaged.
const LONGEST_PAUSE: u128 = 60_000_000;
/// Commands whose first argument behind the command object is a stream's name.
const NAMED: [&[u8]; 6] =
    [b"publish", b"play", b"releaseStream", b"FCPublish", b"FCUnpublish", b"FCSubscribe"];
/// Stand in for what the target is to fill in, until the text is made.
const APP: &str = "@app@";
const URL: &str = "@url@";
const NAME: &str = "@name@";

/// Writes down the first session that connects, or the one of a number.
pub struct Script {
    stream: Option<u64>,
    show_secrets: bool,
    chosen: Option<u64>,
    secrets: Secrets,
    text: String,
    /// Messages that had no room.
    left_out: u64,
    /// Transaction ids of createStream.
    creates: Vec<f64>,
    /// Stream ids as recorded, in the order of `$stream1`, `$stream2`, ….
    streams: Vec<u32>,
    names: Vec<BString>,
    /// When the client sent last, where nothing was awaited since.
    sent: Option<Time>,
}

impl Script {
    /// `stream`: the number of the TCP connection; `None`: the first that connects.
    pub fn new(stream: Option<u64>, show_secrets: bool) -> Script {
        Script {
            stream,
            show_secrets,
            chosen: None,
            secrets: Secrets::default(),
            text: String::new(),
            left_out: 0,
            creates: Vec::new(),
            streams: Vec::new(),
            names: Vec::new(),
            sent: None,
        }
    }

    /// The scenario; `None` when no client connected.
    pub fn finish(mut self) -> Option<String> {
        self.chosen?;
        if self.left_out > 0 {
            self.text
                .push_str(&format!("# {} more messages of the recording had no room here\n", self.left_out));
        }
        self.text.push_str("alive\n");
        Some(self.text)
    }

    fn line(&mut self, line: &str) {
        if self.left_out > 0 || self.text.len() + line.len() > MAX_TEXT {
            self.left_out += 1;
        } else {
            self.text.push_str(line);
            self.text.push('\n');
        }
    }

    fn sent(&mut self, time: Time, header: MessageHeader, payload: &[u8]) {
        let decoded = Message::decode(header.type_id, payload);
        if matches!(
            decoded,
            Ok(Message::Acknowledgement(_) | Message::UserControl(UserControl::PingResponse(_)))
        ) {
            return;
        }
        let pause = self.sent.replace(time).map_or(0, |before| time.since(before).as_micros());
        if pause >= PAUSE {
            self.line(&format!("wait {}ms", pause.min(LONGEST_PAUSE) / 1000));
        }
        let text = match decoded {
            Ok(mut message) => match self.adapt(&mut message) {
                true => notation::print(&message, &header),
                false => notation::print_payload(&header, payload),
            },
            // What cannot be decoded may hold a name or a token all the same.
            Err(_) => {
                let masked = self.secrets.text(payload.as_bstr(), Place::Name).filter(|_| !self.show_secrets);
                notation::print_payload(&header, masked.as_ref().map_or(payload, |masked| masked))
            }
        };
        let text = self.with_streams(text, header.msid);
        self.line(&format!("> {}", text.replace(APP, "{app}").replace(URL, "{url}").replace(NAME, "{name}")));
    }

    /// Puts in what the target is to fill in; whether anything changed.
    fn adapt(&mut self, message: &mut Message) -> bool {
        let masked = !self.show_secrets && self.secrets.mask(message);
        let Message::Command(command) = message else { return masked };
        if command.name == "createStream" {
            self.creates.extend(command.transaction_id);
        }
        let named = NAMED.contains(&command.name.as_slice());
        let connects = command.name == "connect";
        match command.args.as_mut_slice() {
            [Value::Object(fields), ..] if connects => {
                for (name, value) in fields {
                    match name.as_slice() {
                        b"app" => *value = APP.into(),
                        b"tcUrl" => *value = URL.into(),
                        _ => {}
                    }
                }
                true
            }
            [_, Value::String(name), ..] => match self.names.iter().position(|n| n == name) {
                None if !named => masked,
                known => {
                    let at = known.unwrap_or(self.names.len());
                    if known.is_none() {
                        self.names.push(name.clone());
                    }
                    *name = if at == 0 { NAME.into() } else { format!("{NAME}-{}", at + 1).into() };
                    true
                }
            },
            _ => masked,
        }
    }

    /// The target's stream ids for the recorded ones: in the fields, in deleteStream and in user control messages.
    fn with_streams(&self, text: String, msid: u32) -> String {
        let variable = |id: &str| {
            let at = self.streams.iter().rposition(|s| s.to_string() == id)?;
            Some(format!("$stream{}", at + 1))
        };
        let (body, fields) = text.rsplit_once(" csid=").unwrap_or((&text, ""));
        let fields = match (variable(&msid.to_string()), fields.strip_suffix(&format!(" msid={msid}"))) {
            (Some(stream), Some(others)) => format!("{others} msid={stream}"),
            _ => fields.to_string(),
        };
        let mut body = body.to_string();
        if let Some((head, id)) = body.strip_suffix(')').and_then(|b| b.rsplit_once(", null, "))
            && (head.starts_with("deleteStream(") || head.starts_with("closeStream("))
            && let Some(stream) = variable(id)
        {
            body = format!("{head}, null, {stream})");
        } else if let Some(rest) = body.strip_prefix("SetBufferLength ")
            && let Some((id, length)) = rest.split_once(' ')
            && let Some(stream) = variable(id)
        {
            body = format!("SetBufferLength {stream} {length}");
        }
        format!("{body} csid={fields}")
    }

    fn received(&mut self, command: &Command) {
        let id = command.transaction_id.unwrap_or(0.0);
        let code = command.args.iter().find_map(|a| a.get("code")).and_then(Value::as_text);
        match command.name.as_slice() {
            name @ (b"_result" | b"_error") if id != 0.0 => {
                let created =
                    command.args.get(1).and_then(Value::as_number).filter(|_| self.creates.contains(&id));
                let rest = match created {
                    Some(stream) => {
                        self.streams.push(stream as u32);
                        format!("_, $stream{}", self.streams.len())
                    }
                    None => "...".into(),
                };
                let line = format!("< {}({}, {rest})", String::from_utf8_lossy(name), print::number(id));
                self.line(&line);
                self.sent = None;
            }
            b"onStatus" => {
                let code = code.unwrap_or_default();
                let pattern = format!("onStatus(_, _, {{code: {}, ...}}, ...)", print::quoted(code));
                // What follows a start waits for it; other statuses are a server's own choice.
                if code.ends_with(b".Start") {
                    self.line(&format!("< {pattern}"));
                    self.sent = None;
                } else {
                    self.line(&format!("# recorded here: {pattern}"));
                }
            }
            _ => {}
        }
    }

    fn begin(&mut self, of: &Connection) {
        self.chosen = Some(of.number);
        let title = print::quoted(format!("recorded from {}", of.key()).as_bytes());
        self.text = format!("scenario {title}\nclause   rtmp/7.2.1.1/1\n\nreach handshaken\n");
    }
}

impl Watch for Script {
    fn heard(&mut self, of: &Connection, direction: Direction, time: Time, what: Heard<'_>) {
        let Heard::Message(header, payload) = what else { return };
        if self.stream.is_some_and(|n| n != of.number) || self.chosen.is_some_and(|n| n != of.number) {
            return;
        }
        if self.chosen.is_none() {
            let connects = direction == Direction::C2s
                && matches!(Message::decode(header.type_id, payload), Ok(Message::Command(c)) if c.name == "connect");
            if !connects {
                return;
            }
            self.begin(of);
        }
        if direction == Direction::C2s {
            self.sent(time, header, payload);
        } else if let Ok(mut message) = Message::decode(header.type_id, payload) {
            if !self.show_secrets {
                self.secrets.mask(&mut message);
            }
            if let Message::Command(command) = message {
                self.received(&command);
            }
        }
    }
}
