//! Stream keys, passwords and tokens in what peers say: found, and masked before anything is shown.

use bstr::{BStr, BString, ByteSlice};

use crate::wire::amf0::Value;
use crate::wire::message::{Command, Message};

/// What stands where a secret stood.
pub const MASK: &str = "***";
/// The shortest token that is taken for a stream key, and the shortest secret that is looked for in other text.
const KEY_LEN: usize = 12;
/// Secrets remembered of one session, at most.
const MAX_SECRETS: usize = 32;

/// The secrets of one session, so that they are masked where the peer repeats them too.
#[derive(Debug, Default)]
pub struct Secrets {
    known: Vec<BString>,
}

impl Secrets {
    /// Masks a message's secrets; `true` when there were any. Media, control messages and the like have none.
    pub fn mask(&mut self, message: &mut Message) -> bool {
        match message {
            Message::Command(command) => self.command(command),
            Message::Data(_, values) => {
                values.iter_mut().fold(false, |any, v| self.value(v, Place::Other) | any)
            }
            _ => false,
        }
    }

    fn command(&mut self, command: &mut Command) -> bool {
        let names = [
            &b"publish"[..],
            b"play",
            b"play2",
            b"releaseStream",
            b"FCPublish",
            b"FCUnpublish",
            b"FCSubscribe",
            b"FCUnsubscribe",
        ];
        let place = if names.contains(&command.name.as_slice()) { Place::Name } else { Place::Other };
        command.args.iter_mut().fold(false, |any, v| self.value(v, place) | any)
    }

    fn value(&mut self, value: &mut Value, place: Place) -> bool {
        match value {
            Value::String(s) | Value::LongString(s) | Value::Xml(s) => {
                let masked = self.text(s.as_bstr(), place);
                let any = masked.is_some();
                if let Some(masked) = masked {
                    *s = masked;
                }
                any
            }
            Value::Object(fields) | Value::EcmaArray(fields) | Value::Typed { fields, .. } => {
                fields.iter_mut().fold(false, |any, (name, v)| {
                    let inner = if names_a_secret(name) { Place::Secret } else { Place::Other };
                    self.value(v, inner) | any
                })
            }
            Value::StrictArray(values) => values.iter_mut().fold(false, |any, v| self.value(v, place) | any),
            _ => false,
        }
    }

    /// The text with its secrets masked; `None` where it has none.
    pub fn text(&mut self, text: &BStr, place: Place) -> Option<BString> {
        for secret in secrets_in(text, place) {
            if secret.len() >= KEY_LEN
                && self.known.len() < MAX_SECRETS
                && !self.known.iter().any(|k| k == secret)
            {
                self.known.push(secret.into());
            }
        }
        let mut out = BString::from(text);
        for secret in secrets_in(text, place) {
            // Between the characters that delimit it, so that a short value does not hit other text.
            out = replace(&out, secret, place);
        }
        for secret in &self.known {
            out = out.replace(secret, MASK).into();
        }
        (out != text).then_some(out)
    }
}

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A stream name.
    Name,
    /// The value of a field that holds a secret.
    Secret,
    /// Anything else.
    Other,
}

fn replace(text: &BString, secret: &[u8], place: Place) -> BString {
    if place == Place::Secret || text == secret {
        return MASK.into();
    }
    let mut out = BString::default();
    let mut rest = text.as_bytes();
    while let Some(at) = rest.find(secret) {
        let delimited = at == 0 || !is_token(rest[at - 1]) || rest[at - 1] == b'=';
        let end = rest.get(at + secret.len()).is_none_or(|b| !is_token(*b));
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(if delimited && end { MASK.as_bytes() } else { secret });
        rest = &rest[at + secret.len()..];
    }
    out.extend_from_slice(rest);
    out
}

/// The secret parts of a text: the values of a query, the password of a URL, tokens that look like stream keys.
fn secrets_in(text: &[u8], place: Place) -> Vec<&[u8]> {
    if place == Place::Secret {
        return if text.is_empty() { Vec::new() } else { vec![text] };
    }
    let mut found = Vec::new();
    let is_url = text.find("://").is_some();
    let (path, query) = text.split_once_str("?").map_or((text, None), |(path, query)| (path, Some(query)));
    if place == Place::Name || is_url {
        found.extend(path.split(|b| *b == b'/').filter(|token| looks_like_a_key(token)));
    }
    if let Some((_, after)) = path.split_once_str("://")
        && let Some((user, _)) = after.split(|b| *b == b'/').next().unwrap_or_default().split_once_str("@")
    {
        found.push(user.split_once_str(":").map_or(user, |(_, password)| password));
    }
    if place == Place::Name || is_url || query.is_some_and(|q| q.contains(&b'=') && !q.contains(&b' ')) {
        found.extend(
            query
                .unwrap_or_default()
                .split(|b| *b == b'&')
                .map(|p| p.split_once_str("=").map_or(p, |(_, v)| v)),
        );
    }
    found.retain(|s| !s.is_empty());
    found
}

fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-_.~%+=".contains(&b)
}

/// At least [`KEY_LEN`] characters, letters and digits mixed, as the platforms' stream keys are.
fn looks_like_a_key(token: &[u8]) -> bool {
    token.len() >= KEY_LEN
        && token.iter().all(|b| b.is_ascii_alphanumeric() || b"-_+=".contains(b))
        && token.iter().any(u8::is_ascii_digit)
        && token.iter().any(u8::is_ascii_alphabetic)
}

fn names_a_secret(field: &[u8]) -> bool {
    let field = field.to_ascii_lowercase();
    ["pass", "token", "secret", "auth", "streamkey"].iter().any(|word| field.contains_str(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_what_cannot_be_decoded_too() {
        let cut = b"\x02\0\x07publish\0\x40\x14\0\0\0\0\0\0\x05\x02\0\x17cam?token=hunter2secret\x02\0\x04li";
        let masked = Secrets::default().text(cut.as_bstr(), Place::Name).expect("a secret");
        assert!(!masked.contains_str("hunter2secret") && masked.contains_str("publish"), "{masked:?}");
    }

    #[test]
    fn texts() {
        for (place, text, masked) in [
            (Place::Name, "cam2", None),
            (Place::Name, "room-1/camera", None),
            (Place::Name, "cam2?token=abc&e=1", Some("cam2?token=***&e=***")),
            (Place::Name, "cam2?abc", Some("cam2?***")),
            (Place::Name, "live_12345_AbCdEfGh", Some("***")),
            (Place::Name, "abcd-1234-efgh-5678", Some("***")),
            (Place::Other, "abcd-1234-efgh-5678", None),
            (Place::Other, "rtmp://user:pw@host/app/cam2", Some("rtmp://user:***@host/app/cam2")),
            (Place::Other, "rtmp://host:1935/live/a1b2c3d4e5f6", Some("rtmp://host:1935/live/***")),
            (Place::Other, "rtmp://host/live?sig=a%2Fb", Some("rtmp://host/live?sig=***")),
            (Place::Other, "started cam2?sig=a", Some("started cam2?sig=***")),
            (Place::Other, "is it? e=1 or so", None),
            (Place::Secret, "x", Some("***")),
        ] {
            let got = Secrets::default().text(BStr::new(text), place);
            assert_eq!(got, masked.map(BString::from), "{place:?} {text}");
        }
    }

    #[test]
    fn what_a_session_called_secret_is_masked_where_it_is_repeated() {
        let mut secrets = Secrets::default();
        let mut publish = Message::command("publish", 1.0, vec![Value::Null, "abcd-1234-efgh".into()]);
        assert!(secrets.mask(&mut publish));
        let said = Value::object([("details", "abcd-1234-efgh is live".into()), ("level", "status".into())]);
        let mut status = Message::command("onStatus", 0.0, vec![Value::Null, said]);
        assert!(secrets.mask(&mut status));
        let want = Value::object([("details", "*** is live".into()), ("level", "status".into())]);
        assert_eq!(status, Message::command("onStatus", 0.0, vec![Value::Null, want]));
    }

    #[test]
    fn fields_that_hold_secrets() {
        let mut connect = Message::command(
            "connect",
            1.0,
            vec![Value::object([("authToken", "x".into()), ("app", "live".into())])],
        );
        assert!(Secrets::default().mask(&mut connect));
        let want = Value::object([("authToken", "***".into()), ("app", "live".into())]);
        assert_eq!(connect, Message::command("connect", 1.0, vec![want]));
    }
}
