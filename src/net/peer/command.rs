//! What the reference server answers to commands (rtmp 7.2).

use bstr::ByteSlice;

use super::Missing;
use super::board::Wants;
use super::client::Client;
use super::fault::Fault;
use super::log::What;
use super::misbehave;
use crate::wire::amf0::Value;
use crate::wire::amf3;
use crate::wire::message::{Command, Message, UserControl};
use crate::wire::session::Fields;

/// Message streams that one session may have.
pub const MAX_STREAMS: usize = 64;
/// What the server announces: the window, and what it asks of the client.
pub const WINDOW: u32 = 2_500_000;
/// The chunk size that the server announces and writes.
pub const CHUNK_SIZE: u32 = 4096;
/// The longest stream name, in bytes.
const MAX_NAME: usize = 4096;

/// What a message stream does.
#[derive(Debug, Default)]
pub(super) enum NetStream {
    /// Nothing yet.
    #[default]
    Idle,
    /// Its publish was refused.
    Refused,
    /// It publishes this `app/name`.
    Publishing {
        /// The name on the board.
        name: String,
    },
    /// It plays this `app/name`.
    Playing {
        /// The name on the board.
        name: String,
        /// What is wanted.
        wants: Wants,
        /// Stream Begin was sent for the publication that runs or is awaited, and the next needs its own.
        announced: bool,
    },
}

/// Answers one command.
pub(super) fn answer(client: &mut Client, msid: u32, command: &Command) {
    let name = &command.name[..];
    if name == b"connect" {
        return connect(client, command);
    }
    if matches!(name, b"_result" | b"_error" | b"onStatus") {
        return;
    }
    if client.app.is_none() {
        // rtmp 7.2.1.1: connect comes first.
        return fail(client, command, "connect first");
    }
    match name {
        b"createStream" => create_stream(client, command),
        b"deleteStream" => {
            // rtmp 7.2.2.3: the server sends no response.
            if let Some(id) = command.args.get(1).and_then(Value::as_number)
                && let Some(id) = whole(id)
            {
                client.leave(id);
                client.streams.remove(&id);
            }
        }
        b"close" => client.end("closed by the client"),
        b"releaseStream" | b"FCPublish" | b"FCUnpublish" | b"FCSubscribe" | b"FCUnsubscribe"
        | b"_checkbw" | b"checkBandwidth" => result(client, command, vec![Value::Null]),
        b"getStreamLength" => result(client, command, vec![Value::Null, Value::Number(0.0)]),
        b"publish" => publish(client, msid, command),
        b"play" => play(client, msid, command),
        b"play2" => {
            client.status(msid, "error", "NetStream.Play.Failed", "There is one rendition of a live stream");
        }
        b"closeStream" => client.leave(msid),
        b"receiveAudio" | b"receiveVideo" => receive(client, msid, command),
        b"pause" => pause(client, msid, command),
        b"seek" => {
            client.status(msid, "error", "NetStream.Seek.Failed", "A live stream cannot be sought");
        }
        _ => {
            client.wrong.hung |= client.faults().has(Fault::UnknownCallHangs);
            fail(client, command, "no such method");
        }
    }
}

fn whole(number: f64) -> Option<u32> {
    (0.0..4_294_967_296.0).contains(&number).then_some(number as u32)
}

/// rtmp 7.2.1.2: an answer has the id of the call; a call with id 0 wants none.
fn respond(client: &mut Client, command: &Command, name: &str, args: Vec<Value>) {
    let faults = client.faults();
    let wants = |id: &f64| *id != 0.0 || faults.has(Fault::CallAnsweredWithoutId);
    if let Some(id) = command.transaction_id.filter(wants) {
        let id = if faults.has(Fault::ResultIdWrong) { id + 1.0 } else { id };
        let answer = Message::Command(Command {
            encoding: command.encoding,
            name: name.into(),
            transaction_id: Some(id),
            args,
        });
        let msid = u32::from(faults.has(Fault::AnswersOnStream1));
        client.session.send(&answer, Fields { csid: Some(3), msid: Some(msid), ..Fields::default() });
    }
}

fn result(client: &mut Client, command: &Command, args: Vec<Value>) {
    respond(client, command, "_result", args);
}

fn fail(client: &mut Client, command: &Command, why: &str) {
    let info = information("error", "NetConnection.Call.Failed", why);
    respond(client, command, "_error", vec![Value::Null, info]);
}

fn information(level: &str, code: &str, description: &str) -> Value {
    Value::object([("level", level.into()), ("code", code.into()), ("description", description.into())])
}

fn connect(client: &mut Client, command: &Command) {
    // connect is always answered; its id is 1 (rtmp 7.2.1.1).
    let id = command.transaction_id.filter(|id| *id != 0.0).unwrap_or(1.0);
    let command = &Command { transaction_id: Some(id), ..command.clone() };
    let object = command.args.first();
    let app = object.and_then(|o| o.get("app")).and_then(Value::as_text);
    let app = app.map(|app| app_name(&app.to_str_lossy())).filter(|app| !app.is_empty());
    let refusal = match (&app, &client.app) {
        (None, _) => Some(("NetConnection.Connect.InvalidApp", "No app is named")),
        (_, Some(_)) => Some(("NetConnection.Connect.Failed", "Connected already")),
        _ if misbehave::refuses(client) => Some(("NetConnection.Connect.Rejected", "No more sessions")),
        _ => None,
    };
    if let Some((code, why)) = refusal {
        return respond(client, command, "_error", vec![Value::Null, information("error", code, why)]);
    }
    let faults = client.faults();
    if faults.has(Fault::ConnectOddHangs) && misbehave::is_odd(command) {
        client.wrong.hung = true;
        return;
    }
    client.app = app;
    // The order of rtmp 7.2.1.1's figure.
    if !faults.has(Fault::WindowAfterResult) {
        announce(client);
    }
    if !faults.has(Fault::NoConnectResult) {
        welcome(client, command);
    }
    if faults.has(Fault::WindowAfterResult) {
        announce(client);
    }
}

fn announce(client: &mut Client) {
    for message in [
        Message::WindowAckSize(WINDOW),
        Message::SetPeerBandwidth { size: WINDOW, limit: 2 },
        Message::SetChunkSize(CHUNK_SIZE),
    ] {
        if client.faults().one_of(misbehave::ANNOUNCE_FAULTS).is_some() {
            misbehave::announce(client, message);
        } else {
            client.session.send(&message, Fields::default());
        }
    }
    client.event(UserControl::StreamBegin(0));
}

/// The result of connect.
fn welcome(client: &mut Client, command: &Command) {
    let object = command.args.first();
    let mut properties =
        vec![("fmsVer".into(), "FMS/3,5,7,7009".into()), ("capabilities".into(), Value::Number(31.0))];
    properties.extend(enhanced(object));
    let asked = object.and_then(|o| o.get("objectEncoding")).and_then(Value::as_number);
    let mut info = information("status", "NetConnection.Connect.Success", "Connection succeeded.");
    if let Value::Object(fields) = &mut info {
        let always = client.faults().has(Fault::EncodingAlways3);
        let encoding = if asked == Some(3.0) || always { 3.0 } else { 0.0 };
        fields.push(("objectEncoding".into(), Value::Number(encoding)));
    }
    result(client, command, vec![Value::Object(properties), info]);
}

/// The app without what clients hang behind it.
fn app_name(app: &str) -> String {
    app.split('?').next().unwrap_or("").trim_matches('/').to_owned()
}

/// ertmp2, NetConnection connect: every codec is forwarded, in any of the shapes. Said only to clients that speak of it.
fn enhanced(object: Option<&Value>) -> Vec<(bstr::BString, Value)> {
    const CAN_FORWARD: f64 = 4.0;
    // Multitrack, ModEx and TimestampNanoOffset.
    const CAPS: f64 = (2 | 4 | 8) as f64;
    let names = ["fourCcList", "videoFourCcInfoMap", "audioFourCcInfoMap", "capsEx"];
    let has = |name: &str| object.is_some_and(|o| o.get(name).is_some());
    if !names.iter().any(|name| has(name)) {
        return Vec::new();
    }
    let all = Value::object([("*", Value::Number(CAN_FORWARD))]);
    let mut fields: Vec<(bstr::BString, Value)> = vec![
        ("capsEx".into(), Value::Number(CAPS)),
        ("videoFourCcInfoMap".into(), all.clone()),
        ("audioFourCcInfoMap".into(), all),
    ];
    if has("fourCcList") {
        fields.push(("fourCcList".into(), Value::StrictArray(vec!["*".into()])));
    }
    fields
}

fn create_stream(client: &mut Client, command: &Command) {
    if client.streams.len() >= MAX_STREAMS {
        return fail(client, command, "too many streams");
    }
    client.last_stream = if client.faults().has(Fault::SameStreamId) { 1 } else { client.last_stream + 1 };
    client.streams.insert(client.last_stream, NetStream::Idle);
    result(client, command, vec![Value::Null, Value::Number(f64::from(client.last_stream))]);
}

/// `app/name` without query and file type, and the name as it was said.
fn stream_name(client: &Client, command: &Command) -> Option<(String, String)> {
    let said = match command.args.get(1)? {
        Value::String(name) | Value::LongString(name) => name,
        Value::Amf3(amf3::Value::String(name)) => name,
        _ => return None,
    };
    // Bytes that are no UTF-8 are escaped, so that different names stay different.
    let text = said.to_str().map_or_else(|_| said.as_bytes().escape_ascii().to_string(), str::to_owned);
    let plain = text.split('?').next().unwrap_or("");
    let plain = ["mp4:", "flv:", "mp3:"].iter().find_map(|kind| plain.strip_prefix(kind)).unwrap_or(plain);
    let app = client.app.as_deref()?;
    (!plain.is_empty() && said.len() <= MAX_NAME).then(|| (format!("{app}/{plain}"), plain.to_owned()))
}

fn publish(client: &mut Client, msid: u32, command: &Command) {
    let name = stream_name(client, command);
    let (Some(stream), Some((name, plain))) = (client.streams.get(&msid), name) else {
        return client.status(msid, "error", "NetStream.Publish.BadName", "No stream or no name");
    };
    if !matches!(stream, NetStream::Idle | NetStream::Refused) {
        return client.status(msid, "error", "NetStream.Publish.BadName", "The stream is in use");
    }
    let taken = client.shared.options.taken;
    if !client.shared.board.publish(&name, client.place(msid), &client.mailbox, taken) {
        client.streams.insert(msid, NetStream::Refused);
        let text = format!("{plain} is already published");
        return client.status(msid, "error", "NetStream.Publish.BadName", &text);
    }
    client.tell(What::Publishes(name.clone()));
    client.streams.insert(msid, NetStream::Publishing { name });
    client.event(UserControl::StreamBegin(msid));
    if !client.faults().has(Fault::PublishUnanswered) {
        client.status(msid, "status", "NetStream.Publish.Start", &format!("{plain} is now published"));
    }
}

fn play(client: &mut Client, msid: u32, command: &Command) {
    let name = stream_name(client, command);
    let (Some(stream), Some((name, plain))) = (client.streams.get(&msid), name) else {
        return client.status(msid, "error", "NetStream.Play.Failed", "No stream or no name");
    };
    if matches!(stream, NetStream::Publishing { .. }) {
        return client.status(msid, "error", "NetStream.Play.Failed", "The stream publishes");
    }
    // rtmp 7.2.2.1: 0 and above ask for a recorded stream.
    let recorded = command.args.get(2).and_then(Value::as_number).is_some_and(|start| start >= 0.0);
    let refuses = recorded || client.shared.options.missing == Missing::Refuse;
    let live = client.shared.board.is_live(&name);
    if refuses && !live {
        let text = format!("{plain} is not published");
        return client.status(msid, "error", "NetStream.Play.StreamNotFound", &text);
    }
    client.leave(msid);
    let reset = match command.args.get(4) {
        Some(Value::Boolean(reset)) => *reset,
        Some(Value::Number(reset)) => *reset != 0.0,
        _ => true,
    };
    client.event(UserControl::StreamBegin(msid));
    if reset {
        client.status(msid, "status", "NetStream.Play.Reset", &format!("Playing and resetting {plain}"));
    }
    client.status(msid, "status", "NetStream.Play.Start", &format!("Started playing {plain}"));
    sample_access(client, msid);
    let wants = Wants { audio: true, video: true, paused: false };
    client.shared.board.play(&name, client.place(msid), &client.mailbox, wants);
    client.tell(What::Plays(name.clone()));
    client.streams.insert(msid, NetStream::Playing { name, wants, announced: live });
}

/// The customary word that players may look at samples.
fn sample_access(client: &mut Client, msid: u32) {
    let values = vec!["|RtmpSampleAccess".into(), Value::Boolean(true), Value::Boolean(true)];
    let message = Message::Data(Default::default(), values);
    client.session.send(&message, Fields { msid: Some(client.msid_on_wire(msid)), ..Fields::default() });
}

/// Changes what the player on this stream wants; false: there is none.
fn want(client: &mut Client, msid: u32, change: impl FnOnce(&mut Wants)) -> bool {
    let place = client.place(msid);
    let Some(NetStream::Playing { name, wants, .. }) = client.streams.get_mut(&msid) else { return false };
    change(wants);
    client.shared.board.want(name, place, *wants);
    if wants.paused {
        client.mailbox.forget(msid);
    }
    true
}

fn flag(command: &Command) -> Option<bool> {
    match command.args.get(1) {
        Some(Value::Boolean(flag)) => Some(*flag),
        _ => None,
    }
}

fn receive(client: &mut Client, msid: u32, command: &Command) {
    let Some(on) = flag(command) else { return fail(client, command, "true or false is missing") };
    let audio = command.name == "receiveAudio";
    let change = |wants: &mut Wants| *(if audio { &mut wants.audio } else { &mut wants.video }) = on;
    // rtmp 7.2.2.4, 7.2.2.5: false gets no response, true gets both statuses.
    if want(client, msid, change) && on {
        client.status(msid, "status", "NetStream.Seek.Notify", "Receiving again");
        client.status(msid, "status", "NetStream.Play.Start", "Receiving again");
    }
}

fn pause(client: &mut Client, msid: u32, command: &Command) {
    let Some(on) = flag(command) else { return fail(client, command, "true or false is missing") };
    if !want(client, msid, |wants| wants.paused = on) {
        return client.status(msid, "error", "NetStream.Failed", "Nothing is played on this stream");
    }
    let code = if on { "NetStream.Pause.Notify" } else { "NetStream.Unpause.Notify" };
    client.status(msid, "status", code, "Live");
}
