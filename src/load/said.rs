//! What a target said when it refused, or of a stream that is played.

use bstr::ByteSlice;

use crate::wire::amf0::Value;
use crate::wire::message::{Message, UserControl, type_id};

/// A command is kept up to so many bytes: a target may say anything.
const KEPT: usize = 4096;
/// Characters that are told of a code or description.
const TOLD: usize = 200;
/// Statuses that tell how it is with the stream that is played.
const STATUSES: [(&str, bool); 4] = [
    ("NetStream.Play.PublishNotify", false),
    ("NetStream.Play.UnpublishNotify", true),
    ("NetStream.Play.Stop", true),
    ("NetStream.Play.Complete", true),
];

/// What a target said of the stream that is played, and whether by that it is over.
pub type StreamStatus = (&'static str, bool);

/// That, if this message says something of it.
pub fn stream_status(type_id: u8, payload: &[u8]) -> Option<StreamStatus> {
    if payload.len() > KEPT {
        return None;
    }
    let values = match Message::decode(type_id, payload).ok()? {
        // rtmp 7.1.7: the stream is functional; the playback is over; there is no more data for a while.
        Message::UserControl(UserControl::StreamBegin(_)) => return Some(("Stream Begin", false)),
        Message::UserControl(UserControl::StreamEof(_)) => return Some(("Stream EOF", true)),
        Message::UserControl(UserControl::StreamDry(_)) => return Some(("StreamDry", true)),
        Message::Command(command) => command.args,
        Message::Data(_, values) => values,
        _ => return None,
    };
    let code = values.iter().find_map(|value| value.get("code")?.as_text())?;
    STATUSES.into_iter().find(|(known, _)| *code == known.as_bytes())
}

/// The last command that came.
#[derive(Debug, Default)]
pub struct Said {
    type_id: u8,
    payload: Vec<u8>,
}

impl Said {
    /// Keeps it, if it is a command of moderate length.
    pub fn keep(&mut self, type_id: u8, payload: &[u8]) {
        if matches!(type_id, type_id::COMMAND_AMF0 | type_id::COMMAND_AMF3) {
            self.payload.clear();
            self.type_id = type_id;
            self.payload.extend_from_slice(if payload.len() <= KEPT { payload } else { &[] });
        }
    }

    /// A refusal by it: with code and description as far as it has them.
    pub fn refusal(&self) -> String {
        let mut text = "refused by the target".to_owned();
        let Ok(Message::Command(command)) = Message::decode(self.type_id, &self.payload) else { return text };
        let Some(info) = command.args.iter().rev().find(|value| value.get("code").is_some()) else {
            return text;
        };
        for name in ["code", "description"] {
            let told = info.get(name).and_then(Value::as_text).map(|told| told.to_str_lossy());
            if let Some(told) = told.filter(|told| !told.is_empty()) {
                text += ": ";
                text.extend(told.chars().filter(|c| !c.is_control()).take(TOLD));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::{Command, Encoding};

    fn refusal(name: &str, args: Vec<Value>) -> String {
        let command =
            Command { encoding: Encoding::Amf0, name: name.into(), transaction_id: Some(1.0), args };
        let (mut said, mut payload) = (Said::default(), Vec::new());
        Message::Command(command).encode(&mut payload);
        said.keep(type_id::COMMAND_AMF0, &payload);
        said.refusal()
    }

    #[test]
    fn how_it_is_with_a_stream_is_told_by_status_or_event() {
        let status = |code: &str| {
            let info = Value::object([("code", code.into())]);
            Message::command("onStatus", 0.0, vec![Value::Null, info])
        };
        let complete =
            vec!["onPlayStatus".into(), Value::object([("code", "NetStream.Play.Complete".into())])];
        for (message, want) in [
            (Message::UserControl(UserControl::StreamEof(1)), Some(("Stream EOF", true))),
            (Message::UserControl(UserControl::StreamDry(1)), Some(("StreamDry", true))),
            (Message::UserControl(UserControl::StreamBegin(1)), Some(("Stream Begin", false))),
            (status("NetStream.Play.UnpublishNotify"), Some(("NetStream.Play.UnpublishNotify", true))),
            (status("NetStream.Play.PublishNotify"), Some(("NetStream.Play.PublishNotify", false))),
            (status("NetStream.Play.Start"), None),
            (Message::Data(Encoding::Amf0, complete), Some(("NetStream.Play.Complete", true))),
            (Message::Video(vec![0x17, 1].into()), None),
        ] {
            let mut payload = Vec::new();
            message.encode(&mut payload);
            assert_eq!(stream_status(message.type_id(), &payload), want, "{message:?}");
            assert!(
                (0..payload.len()).all(|len| stream_status(message.type_id(), &payload[..len]).is_none())
            );
        }
    }

    #[test]
    fn a_refusal_is_told_as_far_as_it_goes() {
        let info = |description: &str| {
            Value::object([("code", "NetStream.Publish.BadName".into()), ("description", description.into())])
        };
        let told = "refused by the target: NetStream.Publish.BadName";
        assert_eq!(refusal("onStatus", vec![Value::Null, info("in use\n")]), format!("{told}: in use"));
        assert_eq!(refusal("onStatus", vec![Value::Null, info("")]), told);
        assert_eq!(refusal("_error", vec![Value::Null]), "refused by the target");
        assert_eq!(refusal("_error", vec![info(&"x".repeat(300))]), format!("{told}: {}", "x".repeat(TOLD)));
        assert_eq!(refusal("_error", vec![info(&"x".repeat(KEPT))]), "refused by the target");
        assert_eq!(Said::default().refusal(), "refused by the target");
    }
}
