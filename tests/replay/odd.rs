//! Servers that are not the reference server: odd ones, and hostile ones.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rtmp_bench::net::conn::{Dial, Dialing, Io};
use rtmp_bench::net::pipe;
use rtmp_bench::wire::amf0::Value;
use rtmp_bench::wire::chunk::MessageHeader;
use rtmp_bench::wire::message::{Command, Message, UserControl};
use rtmp_bench::wire::session::{Config, Event, Fields, Session};
use rtmp_bench::wire::time::Time;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::recorded::status;

/// What an odd server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ways {
    /// Its stream ids are 7, 14, 21, …; it calls the client with transaction id 50.
    Sevens,
    /// Takes connections and says nothing.
    Silent,
    /// Closes behind S0.
    ClosesEarly,
    /// Its S0 says RTMPE.
    Encrypted,
    /// The handshake, and nothing more.
    Mute,
    /// Closes when connect comes.
    ClosesAtConnect,
    /// Answers connect with `_error`.
    Refuses,
    /// Answers publish with BadName.
    BadName,
    /// Does not answer publish.
    PublishMute,
    /// Closes at the third audio or video message.
    ClosesAtMedia,
    /// Answers connect with bytes that are no chunks.
    Garbage,
    /// Reads nothing behind connect.
    StopsReading,
    /// Sends [`SLOWLY`] between two frames, five of them, to who plays.
    PlaysSlowly,
    /// Answers play after [`SLOWLY`]; the answer stands among what it got.
    AnswersPlayLate,
    /// Asks for acknowledgements and a ping's answer.
    Asks,
    /// Sets a bandwidth of [`NARROW`] bytes.
    Narrow { acks: bool },
    /// Sends acknowledgements, four million bytes of them.
    Floods,
}

/// A bandwidth, in bytes.
pub const NARROW: u64 = 10_000;
/// In simulated time.
const SLOWLY: Duration = Duration::from_millis(700);

/// A server reached through in-memory connections, and all messages that it got.
#[derive(Clone)]
pub struct Odd {
    ways: Ways,
    pub got: Arc<Mutex<Vec<(MessageHeader, Bytes)>>>,
    /// Each command with how many frames were played before it came.
    played: Arc<Mutex<Vec<(String, u32)>>>,
    /// When how many bytes were there.
    received: Arc<Mutex<Vec<(Instant, u64)>>>,
}

impl Odd {
    pub fn new(ways: Ways) -> Odd {
        Odd { ways, got: Arc::default(), played: Arc::default(), received: Arc::default() }
    }

    /// How many frames were played before this command came.
    pub fn played_before(&self, name: &str) -> Option<u32> {
        let played = self.played.lock().expect("not poisoned");
        played.iter().find(|(n, _)| n == name).map(|(_, frames)| *frames)
    }

    /// Bytes that came within so much time from the first.
    pub fn received_within(&self, time: Duration) -> u64 {
        let received = self.received.lock().expect("not poisoned");
        let early = received.iter().take_while(|(at, _)| *at < received[0].0 + time);
        early.last().map_or(0, |(_, bytes)| *bytes)
    }

    /// The messages that decode, with their streams and timestamps.
    pub fn messages(&self) -> Vec<(u32, u32, Message)> {
        let got = self.got.lock().expect("not poisoned");
        let decode = |(header, payload): &(MessageHeader, Bytes)| {
            Some((header.msid, header.timestamp, Message::decode(header.type_id, payload).ok()?))
        };
        got.iter().filter_map(decode).collect()
    }
}

impl Dial for Odd {
    fn dial(&self) -> Dialing<'_> {
        Box::pin(async move {
            let (ours, theirs) = pipe::pipe(pipe::CAPACITY);
            tokio::spawn(self.clone().serve(theirs));
            Ok(Box::new(ours) as Box<dyn Io>)
        })
    }
}

/// Until the other side goes away.
async fn forever() {
    std::future::pending().await
}

impl Odd {
    async fn serve(self, mut io: pipe::Pipe) {
        match self.ways {
            Ways::Silent => return forever().await,
            Ways::ClosesEarly => return drop(io.write_all(&[3]).await),
            Ways::Encrypted => {
                let _ = io.write_all(&[6]).await;
                return forever().await;
            }
            _ => {}
        }
        let acks = self.ways != Ways::Narrow { acks: false };
        let mut session = Session::server(Config { acks, ..Config::default() });
        let mut buffer = vec![0; 4096];
        let (mut streams, mut media, mut frames) = (0.0, 0, None);
        loop {
            let pause = if frames.is_some_and(|n| n < 5) { SLOWLY } else { Duration::from_secs(3600) };
            let n = match tokio::time::timeout(pause, io.read(&mut buffer)).await {
                Ok(Ok(n @ 1..)) => n,
                Ok(_) => return,
                Err(_) => {
                    frames = frames.map(|n| n + 1);
                    let mut late = Message::Video(vec![0x17, 1, 0, 0, 0].into());
                    if self.ways == Ways::AnswersPlayLate {
                        (late, frames) = (
                            Message::command(
                                "onStatus",
                                0.0,
                                vec![Value::Null, status("NetStream.Play.Start")],
                            ),
                            None,
                        );
                        self.note(&late);
                    }
                    session.send(&late, Fields { msid: Some(7), ..Fields::default() });
                    if io.write_all(&session.output()).await.is_err() {
                        return;
                    }
                    continue;
                }
            };
            let mut at = 0;
            loop {
                let (left, found) = next(&mut session, &buffer[at..n]);
                at = n - left;
                let Some(found) = found else { break };
                let Some((header, payload)) = found else { continue };
                self.got.lock().expect("not poisoned").push((header, payload.clone()));
                media += u32::from(matches!(header.type_id, 8 | 9));
                if self.ways == Ways::ClosesAtMedia && media == 3 {
                    // As a socket does that is closed with bytes unread.
                    return drop(io.reset());
                }
                if let Ok(Message::Command(command)) = Message::decode(header.type_id, &payload) {
                    if command.name == "connect" && !self.connect(&mut io).await {
                        return;
                    }
                    let played = (command.name.to_string(), frames.unwrap_or(0));
                    self.played.lock().expect("not poisoned").push(played);
                    if command.name == "play"
                        && matches!(self.ways, Ways::PlaysSlowly | Ways::AnswersPlayLate)
                    {
                        frames = Some(0);
                    }
                    self.answer(&mut session, header.msid, &command, &mut streams);
                }
            }
            self.received.lock().expect("not poisoned").push((Instant::now(), session.received()));
            if io.write_all(&session.output()).await.is_err() {
                return;
            }
        }
    }

    /// Puts down what is said as if it were heard.
    fn note(&self, message: &Message) {
        let mut payload = Vec::new();
        message.encode(&mut payload);
        let header = MessageHeader {
            csid: 3,
            timestamp: 0,
            len: payload.len() as u32,
            type_id: message.type_id(),
            msid: 7,
        };
        self.got.lock().expect("not poisoned").push((header, payload.into()));
    }

    /// Whether to go on behind connect.
    async fn connect(&self, io: &mut pipe::Pipe) -> bool {
        match self.ways {
            Ways::ClosesAtConnect => return false,
            Ways::Garbage => {
                let _ = io.write_all(&[0xFF; 4096]).await;
            }
            Ways::StopsReading => forever().await,
            Ways::Floods => {
                let acknowledgements = [2, 0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0, 0, 0, 0, 9].repeat(256);
                for _ in 0..1000 {
                    let _ = io.write_all(&acknowledgements).await;
                }
            }
            _ => {}
        }
        true
    }

    fn answer(&self, session: &mut Session, msid: u32, command: &Command, streams: &mut f64) {
        let id = command.transaction_id.unwrap_or(0.0);
        let mut say = |msid: u32, name: &str, id: f64, args: Vec<Value>| {
            session.send(&Message::command(name, id, args), Fields { msid: Some(msid), ..Fields::default() });
        };
        match &command.name[..] {
            _ if matches!(self.ways, Ways::Mute | Ways::Floods) => {}
            b"connect" if self.ways == Ways::Refuses => {
                say(0, "_error", id, vec![Value::Null, status("NetConnection.Connect.Rejected")]);
            }
            b"connect" if self.ways == Ways::Asks => {
                say(0, "_result", id, vec![Value::Null, status("NetConnection.Connect.Success")]);
                session.send(&Message::UserControl(UserControl::PingRequest(77)), Fields::default());
                session.send(&Message::WindowAckSize(1000), Fields::default());
            }
            b"connect" if matches!(self.ways, Ways::Narrow { .. }) => {
                say(0, "_result", id, vec![Value::Null, status("NetConnection.Connect.Success")]);
                session.send(&Message::SetPeerBandwidth { size: NARROW as u32, limit: 0 }, Fields::default());
            }
            b"play" if self.ways == Ways::PlaysSlowly => {
                say(msid, "onStatus", 0.0, vec![Value::Null, status("NetStream.Play.Start")]);
            }
            b"connect" => {
                say(0, "whoAreYou", 50.0, vec![Value::Null]);
                say(0, "_result", id, vec![Value::Null, status("NetConnection.Connect.Success")]);
            }
            b"createStream" => {
                *streams += 7.0;
                say(0, "_result", id, vec![Value::Null, Value::Number(*streams)]);
            }
            b"publish" if self.ways == Ways::PublishMute => {}
            b"publish" => {
                let code = if self.ways == Ways::BadName { "BadName" } else { "Start" };
                say(msid, "onStatus", 0.0, vec![Value::Null, status(&format!("NetStream.Publish.{code}"))]);
            }
            _ => {}
        }
    }
}

/// How many bytes are left; what was found, and in it a message if it is one.
#[allow(clippy::type_complexity)]
fn next<'a>(
    session: &'a mut Session,
    mut bytes: &'a [u8],
) -> (usize, Option<Option<(MessageHeader, Bytes)>>) {
    let found = match session.read(Time::ZERO, &mut bytes) {
        Ok(Some(Event::Message(header, payload))) => Some(Some((header, Bytes::copy_from_slice(payload)))),
        Ok(Some(_)) => Some(None),
        Ok(None) | Err(_) => None,
    };
    (bytes.len(), found)
}
