//! A scripted server over connections in memory.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use rtmp_bench::net::conn::{Dial, Dialing, Io};
use rtmp_bench::wire::amf0::Value;
use rtmp_bench::wire::chunk::MessageHeader;
use rtmp_bench::wire::message::{Message, UserControl};
use rtmp_bench::wire::session::{Config, Event, Fields, Session};
use rtmp_bench::wire::time::Time;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::time::{Instant, sleep};

/// What a scripted server does about a message.
#[derive(Debug, Clone)]
pub enum Act {
    /// Sends, as one write with what follows until the next wait.
    Say(Message, Fields),
    Wait(u64),
    Close,
    /// Reads and says nothing more.
    Mute,
}

/// What a server does about the message that came; `None`: what a good one does.
pub type Script = fn(&Message, MessageHeader) -> Option<Vec<Act>>;

/// Opens connections to a scripted server.
pub struct Scripted {
    pub script: Script,
    pub dialled: AtomicU32,
}

impl Scripted {
    pub fn new(script: Script) -> Arc<Scripted> {
        Arc::new(Scripted { script, dialled: AtomicU32::new(0) })
    }
}

/// One end of an in-memory connection.
pub struct Memory(pub DuplexStream);

impl AsyncRead for Memory {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Memory {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Io for Memory {
    fn reset(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Dial for Scripted {
    fn dial(&self) -> Dialing<'_> {
        self.dialled.fetch_add(1, Ordering::Relaxed);
        let script = self.script;
        Box::pin(async move {
            let (ours, theirs) = tokio::io::duplex(64 << 10);
            tokio::spawn(async move { serve(theirs, script).await.ok() });
            Ok(Box::new(Memory(ours)) as Box<dyn Io>)
        })
    }
}

async fn serve(mut io: DuplexStream, script: Script) -> io::Result<()> {
    let began = Instant::now();
    let mut session = Session::server(Config::default());
    let mut buffer = vec![0; 16 << 10];
    loop {
        let n = io.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        let mut bytes = &buffer[..n];
        let mut came = Vec::new();
        loop {
            let mut rest = bytes;
            let event = session.read(Time::ZERO + began.elapsed(), &mut rest).map_err(io::Error::other)?;
            let more = event.is_some();
            if let Some(Event::Message(header, payload)) = event
                && let Ok(message) = Message::decode(header.type_id, payload)
            {
                came.push((message, header));
            }
            bytes = &bytes[bytes.len() - rest.len()..];
            if !more {
                break;
            }
        }
        for (message, header) in came {
            for act in script(&message, header).unwrap_or_else(|| good(&message)) {
                match act {
                    Act::Say(message, fields) => session.send(&message, fields),
                    Act::Wait(ms) => {
                        io.write_all(&session.output()).await?;
                        sleep(Duration::from_millis(ms)).await;
                    }
                    Act::Close => {
                        io.write_all(&session.output()).await?;
                        return Ok(());
                    }
                    Act::Mute => {
                        io.write_all(&session.output()).await?;
                        while io.read(&mut buffer).await? > 0 {}
                        return Ok(());
                    }
                }
            }
        }
        io.write_all(&session.output()).await?;
    }
}

/// What a good server that relays nothing does.
pub fn good(message: &Message) -> Vec<Act> {
    let Message::Command(command) = message else { return Vec::new() };
    let id = command.transaction_id.unwrap_or(0.0);
    match &command.name[..] {
        b"connect" => vec![
            say(Message::WindowAckSize(2_500_000)),
            say(Message::UserControl(UserControl::StreamBegin(0))),
            say(Message::command("_result", id, vec![Value::Null, Value::Null])),
        ],
        b"createStream" => vec![say(Message::command("_result", id, vec![Value::Null, Value::Number(1.0)]))],
        b"publish" => vec![status("status", "NetStream.Publish.Start")],
        b"play" => vec![status("status", "NetStream.Play.Start")],
        _ => Vec::new(),
    }
}

/// On message stream 0.
pub fn say(message: Message) -> Act {
    Act::Say(message, Fields { msid: Some(0), ..Fields::default() })
}

pub fn status(level: &str, code: &str) -> Act {
    let info = Value::object([("level", level.into()), ("code", code.into())]);
    Act::Say(
        Message::command("onStatus", 0.0, vec![Value::Null, info]),
        Fields { msid: Some(1), ..Fields::default() },
    )
}
