//! What a target said when it refused.

use bstr::ByteSlice;

use crate::wire::amf0::Value;
use crate::wire::message::{Message, type_id};

/// A command is kept up to so many bytes: a target may say anything.
const KEPT: usize = 4096;
/// Characters that are told of a code or description.
const TOLD: usize = 200;

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
