//! Stream keys, passwords and tokens in what peers say: found, and masked before anything is shown.
//!
//! A secret is, also where what separates it is escaped as in a URL (`%3F`):
//! - in a stream's name or a URL, what stands behind `?` or `#`: the value behind each `=`, or all of it; in other texts the values, where there are any;
//! - in them too, a part of the path that is like the keys of the platforms: twelve characters at least, letters and digits;
//! - the password in `USER:PASSWORD@HOST`, where a port or a path follows or it is a name or a URL, and of a URL the user where no password is;
//! - what a field holds whose name says so (`token`, `password`, `streamKey`, …), and what stands behind such a name and `=` or `:` in a text;
//! - each argument of a command whose name says so, texts behind the command object of connect, and keys among the arguments of a service's own commands;
//! - what was one of these before in the session, wherever it is said again.
//!
//! Commands, data, shared objects and messages of unknown types are looked into; a secret that no such rule tells is shown.

mod text;

use bstr::{BStr, BString, ByteSlice};
use bytes::Bytes;

use crate::wire::amf0::{self, Value};
use crate::wire::amf3;
use crate::wire::message::{Command, Message, UserControl};
use crate::wire::shared_object::{Event, SharedObject};

use text::{labelled, masked, repeated, secrets_in, unescaped, wherever_escaped};
pub(super) use text::{logs_in, looks_like_a_key, names_a_secret};

/// What stands where a secret stood.
pub const MASK: &str = "***";
/// The shortest secret that is looked for in other text, as a whole word.
const WORD_LEN: usize = 3;
/// Secrets remembered of one session, at most.
const MAX_SECRETS: usize = 32;
/// Commands whose first argument behind the command object is a stream's name, or has one.
pub(super) const NAMED: [&[u8]; 9] = [
    b"publish",
    b"play",
    b"play2",
    b"releaseStream",
    b"FCPublish",
    b"FCUnpublish",
    b"FCSubscribe",
    b"FCUnsubscribe",
    b"getStreamLength",
];
/// Words of the protocol and of everyday that stand in queries too; a message without them says nothing.
const EVERYDAY: [&[u8]; 18] = [
    b"live", b"record", b"append", b"publish", b"play", b"stream", b"status", b"error", b"warning", b"true",
    b"false", b"yes", b"none", b"null", b"adobe", b"llnw", b"rtmp", b"token",
];

/// The secrets of one session, so that they are masked where the peer repeats them too.
#[derive(Debug, Default)]
pub struct Secrets {
    known: Vec<BString>,
    as_long: bool,
}

impl Secrets {
    /// Those that are masked with as many stars as they have bytes.
    pub fn as_long() -> Secrets {
        Secrets { as_long: true, ..Secrets::default() }
    }

    /// The payload of a message with its secrets masked; `None` where it has none.
    pub fn payload(&mut self, type_id: u8, payload: &[u8]) -> Option<Vec<u8>> {
        let Ok(mut message) = Message::decode(type_id, payload) else {
            // What cannot be decoded may hold a name or a token all the same.
            return self.text(payload.as_bstr(), Place::Name).map(Vec::from);
        };
        let mut out = Vec::new();
        self.mask(&mut message).then(|| message.encode(&mut out)).map(|()| out)
    }

    /// Masks a message's secrets; `true` when there were any. Media, control messages and the like have none.
    pub fn mask(&mut self, message: &mut Message) -> bool {
        match message {
            Message::Command(command) => self.command(command),
            Message::Data(_, values) => self.values(values, Place::Other),
            Message::SharedObject(_, body) => self.shared_object(body),
            Message::UserControl(UserControl::Unknown { data: payload, .. })
            | Message::Unknown { payload, .. } => self.bytes(payload),
            _ => false,
        }
    }

    fn bytes(&mut self, bytes: &mut Bytes) -> bool {
        let masked = self.text(bytes.as_bstr(), Place::Other);
        masked.map(|masked| *bytes = Vec::from(masked).into()).is_some()
    }

    fn shared_object(&mut self, body: &mut Bytes) -> bool {
        let Ok(mut object) = SharedObject::decode(body) else { return self.bytes(body) };
        let mut any = self.string(&mut object.name, Place::Name);
        object.events.iter_mut().for_each(|event| any |= self.event(event));
        if any {
            let mut masked = Vec::new();
            object.encode(&mut masked);
            *body = masked.into();
        }
        any
    }

    fn event(&mut self, event: &mut Event) -> bool {
        // What is set or was: its name and its value. What is said: a message's values.
        let name = match (event.kind, &event.data[..]) {
            (3 | 4, [a, b, rest @ ..]) => rest.get(..usize::from(u16::from_be_bytes([*a, *b]))),
            (6, _) => Some(&[][..]),
            _ => None,
        };
        let head = name.map_or(0, |name| if event.kind == 6 { 0 } else { 2 + name.len() });
        let place = name.map_or(Place::Other, |name| Place::Other.within(name));
        let Some(Ok(mut values)) = name.map(|_| amf0::decode_all(&event.data[head..])) else {
            return self.bytes(&mut event.data);
        };
        let any = self.values(&mut values, place);
        if any {
            let mut masked = event.data[..head].to_vec();
            amf0::encode_all(&values, &mut masked);
            event.data = masked.into();
        }
        any
    }

    fn command(&mut self, command: &mut Command) -> bool {
        self.arguments(command) | self.string(&mut command.name, Place::Other)
    }

    fn arguments(&mut self, command: &mut Command) -> bool {
        let name = command.name.as_slice();
        if name == b"connect" {
            // rtmp 7.2.1.1: behind the command object any arguments may follow; services take tokens there.
            let optional = match command.args.as_mut_slice() {
                [object, optional @ ..] if object.as_text().is_none() => {
                    let any = self.value(object, Place::Other);
                    return self.values(optional, Place::Secret) | any;
                }
                optional => optional,
            };
            return self.values(optional, Place::Secret);
        }
        let place = match () {
            () if NAMED.contains(&name) => Place::Name,
            () if logs_in(name) => Place::Secret,
            () => Place::Other,
        };
        let answers = name.starts_with(b"_") || name.starts_with(b"on");
        command.args.iter_mut().fold(false, |any, arg| {
            // What a service's own commands take has no name that says what it is.
            let is_key =
                place == Place::Other && !answers && arg.as_text().is_some_and(|t| looks_like_a_key(t));
            self.value(arg, if is_key { Place::Secret } else { place }) | any
        })
    }

    fn values(&mut self, values: &mut [Value], place: Place) -> bool {
        values.iter_mut().fold(false, |any, v| self.value(v, place) | any)
    }

    fn value(&mut self, value: &mut Value, place: Place) -> bool {
        match value {
            Value::String(s) | Value::LongString(s) | Value::Xml(s) => self.string(s, place),
            Value::Object(fields) | Value::EcmaArray(fields) | Value::Typed { fields, .. } => {
                fields.iter_mut().fold(false, |any, (name, v)| self.value(v, place.within(name)) | any)
            }
            Value::StrictArray(values) => self.values(values, place),
            Value::Amf3(value) => self.value_3(value, place),
            Value::Number(_) if place == Place::Secret => {
                *value = if self.as_long { Value::Number(0.0) } else { MASK.into() };
                true
            }
            _ => false,
        }
    }

    fn value_3(&mut self, value: &mut amf3::Value, place: Place) -> bool {
        use amf3::Value;
        let mut any = false;
        match value {
            Value::String(s) | Value::XmlDoc(s) | Value::Xml(s) => any = self.string(s, place),
            Value::Array { named, dense } => {
                named.iter_mut().for_each(|(name, v)| any |= self.value_3(v, place.within(name)));
                dense.iter_mut().for_each(|v| any |= self.value_3(v, place));
            }
            Value::VectorObject { items, .. } => {
                items.iter_mut().for_each(|v| any |= self.value_3(v, place));
            }
            Value::ByteArray(bytes) => {
                let masked = self.text(bytes.as_bstr(), place);
                any = masked.map(|masked| *bytes = masked.into()).is_some();
            }
            Value::Integer(_) | Value::Double(_) if place == Place::Secret => {
                *value = if self.as_long { Value::Double(0.0) } else { Value::String(MASK.into()) };
                any = true;
            }
            Value::Object(object) => {
                let fields = object.sealed.iter_mut().chain(object.dynamic.iter_mut().flatten());
                fields.for_each(|(name, v)| any |= self.value_3(v, place.within(name)));
            }
            _ => {}
        }
        any
    }

    fn string(&mut self, text: &mut BString, place: Place) -> bool {
        self.text(text.as_bstr(), place).map(|masked| *text = masked).is_some()
    }

    /// The text with its secrets masked; `None` where it has none.
    pub fn text(&mut self, text: &BStr, place: Place) -> Option<BString> {
        let mut found = wherever_escaped(text, |text| secrets_in(text, place));
        found.iter().for_each(|at| self.learn(&text[at.clone()]));
        if place != Place::Secret {
            // What stands behind a colon may be prose: it is not looked for elsewhere.
            found.extend(wherever_escaped(text, |text| labelled(text, b':')));
        }
        if place == Place::Hidden && !text.is_empty() {
            found.push(0..text.len());
        }
        self.known.iter().for_each(|secret| repeated(text, secret, place, &mut found));
        let out = masked(text, found, self.as_long);
        (out != text).then_some(out)
    }

    /// Remembers a secret, as it stands and as who reads a URL repeats it.
    fn learn(&mut self, secret: &[u8]) {
        self.remember(secret);
        if secret.contains(&b'%') {
            self.remember(&unescaped(secret).0);
        }
    }

    fn remember(&mut self, secret: &[u8]) {
        let known = self.known.len() >= MAX_SECRETS || self.known.iter().any(|k| k == secret);
        let everyday = EVERYDAY.iter().any(|word| word.eq_ignore_ascii_case(secret));
        if !known && !everyday && secret.len() >= WORD_LEN && secret != MASK.as_bytes() {
            self.known.push(secret.into());
        }
    }
}

/// A text that stands alone, its secrets masked.
pub fn shown(text: &str, place: Place) -> String {
    let masked = Secrets::default().text(BStr::new(text), place);
    masked.map_or_else(|| text.to_owned(), |masked| masked.to_string())
}

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A stream name.
    Name,
    /// Holds a secret.
    Secret,
    /// Has a name of its own that says of no secret, among what may be one: masked, and not looked for elsewhere.
    Hidden,
    /// What was asked for or became of it (app, code, …): short secrets are not looked for in it.
    Fact,
    /// Anything else.
    Other,
}

impl Place {
    /// Of a field in an object that is in this place.
    fn within(self, field: &[u8]) -> Place {
        match field {
            _ if names_a_secret(field) => Place::Secret,
            _ if matches!(self, Place::Secret | Place::Hidden) => Place::Hidden,
            b"app" | b"tcUrl" | b"flashVer" | b"fmsVer" | b"level" | b"code" | b"type" | b"videocodecid"
            | b"audiocodecid" => Place::Fact,
            b"swfUrl" | b"pageUrl" => Place::Name,
            _ => Place::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::amf0;
    use crate::wire::message::Encoding;
    use crate::wire::shared_object::{Event, SharedObject};

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
            (
                Place::Other,
                "live/cam?token=abc is now published.",
                Some("live/cam?token=*** is now published."),
            ),
            (Place::Other, "is it? e=1 or so", None),
            (Place::Other, "is it? token=abc ok", Some("is it? token=*** ok")),
            (Place::Other, "user=bob;password=x y", Some("user=bob;password=*** y")),
            (Place::Other, "{\"authKey\": \"a b\", \"n\":1}", Some("{\"authKey\": \"***\", \"n\":1}")),
            (Place::Other, "Authorization: Bearer a.b.c", Some("Authorization: Bearer ***")),
            (Place::Other, "token=token=x&n=1", Some("token=***&n=1")),
            (Place::Other, "password='x", Some("password='***")),
            (Place::Other, "token=", None),
            (Place::Other, "[ AccessManager.Reject ] : [ code=403 need auth; authmod=adobe ]", None),
            (Place::Other, "connected to rtmp://key:1935/live, keyframe=2 author=me", None),
            (Place::Fact, "rtmp://host/live?token=a b", Some("rtmp://host/live?token=***")),
            (Place::Secret, "x", Some("***")),
            (Place::Name, "cam#s3cret?x=1", Some("cam#***?x=***")),
            (Place::Name, "cam?token=s3cret#x", Some("cam?token=***")),
            (Place::Other, "camera #1 of 3", None),
            (Place::Name, "cam%3Ftoken%3Ds3cret%26e%3D1", Some("cam%3Ftoken%3D***%26e%3D***")),
            (Place::Name, "cam%3fs3cret", Some("cam%3f***")),
            (Place::Other, "said cam%3Ftoken%3Ds3cret twice", Some("said cam%3Ftoken%3D*** twice")),
            (Place::Other, "100%25 of it", None),
            (Place::Fact, "joe:s3cret@host:1935/app", Some("joe:***@host:1935/app")),
            (Place::Other, "at joe:s3cret@host/app.", Some("at joe:***@host/app.")),
            (Place::Fact, "rtmp://joe:p@s3cret@host/app", Some("rtmp://joe:***@host/app")),
            (Place::Fact, "host:1935/app@home", None),
            (Place::Other, "joe@host", None),
            (Place::Other, "ask mailto:joe@example.com.", None),
            (Place::Other, "at 12:30@noon", None),
            (Place::Other, "at joe:s3cret@host:1935", Some("at joe:***@host:1935")),
            (Place::Other, "rtmp://joe:s3cret@host", Some("rtmp://joe:***@host")),
            (Place::Fact, "joe:s3cret@host", Some("joe:***@host")),
        ] {
            let got = Secrets::default().text(BStr::new(text), place);
            assert_eq!(got, masked.map(BString::from), "{place:?} {text}");
        }
    }

    #[test]
    fn sessions_of_the_web_and_events_nobody_knows() {
        for (field, masked) in [("sessionId", true), ("cookie", true), ("session", false)] {
            let mut data =
                Message::command("connect", 1.0, vec![Value::object([(field, "sid=a8f3e9".into())])]);
            assert!(Secrets::default().mask(&mut data));
            let whole = Value::object([(field, "***".into())]);
            assert_eq!(data == Message::command("connect", 1.0, vec![whole]), masked, "{field}");
        }
        let event =
            |data: &'static [u8]| Message::UserControl(UserControl::Unknown { event: 99, data: data.into() });
        let mut said = event(b"token=abc");
        assert!(Secrets::default().mask(&mut said));
        assert_eq!(said, event(b"token=***"));
    }

    #[test]
    fn names_of_commands_and_of_data() {
        let masked = Message::command("auth?token=***", 2.0, vec![]);
        assert_eq!(masked_after(&[], Message::command("auth?token=s3cret", 2.0, vec![])), masked);
        let data = |name: &str| Message::Data(Encoding::Amf0, vec![name.into()]);
        assert_eq!(masked_after(&[], data("onCue?token=s3cret")), data("onCue?token=***"));
    }

    #[test]
    fn in_shared_objects() {
        let object = |name: &str, token: Value, said: &str| {
            let named = |name: &str, value: Value| {
                let mut data = [&[0, name.len() as u8][..], name.as_bytes()].concat();
                value.encode(&mut data);
                data
            };
            let mut message = Vec::new();
            amf0::encode_all(&["say".into(), said.into()], &mut message);
            let event = |kind, data: Vec<u8>| Event { kind, data: data.into() };
            let events = vec![
                event(1, vec![]),
                event(4, named("token", token.clone())),
                event(3, named("room", Value::object([("password", "x".into()), ("n", 1.0.into())]))),
                event(6, message),
                event(99, b"\0key=s3cret\x01".to_vec()),
            ];
            let mut body = Vec::new();
            SharedObject { name: name.into(), version: 1, persistence: 2, reserved: 0, events }
                .encode(&mut body);
            body
        };
        let mut secrets = Secrets::default();
        for encoding in [Encoding::Amf0, Encoding::Amf3] {
            let mut message =
                Message::SharedObject(encoding, object("room?key=s3cret", "abc1".into(), "with abc1").into());
            assert!(secrets.mask(&mut message));
            let Message::SharedObject(_, body) = message else { panic!("a shared object") };
            let shown = SharedObject::decode(&body).expect("still one");
            assert_eq!(shown.name, "room?key=***");
            assert_eq!(shown.events.len(), 5);
            assert!(
                [&b"s3cret"[..], b"abc1"].into_iter().all(|secret| !body.contains_str(secret)),
                "{:?}",
                body.as_bstr()
            );
            assert!(shown.events[2].data.contains_str("***") && shown.events[3].data.ends_with(b"with ***"));
        }
        let mut harmless = Message::SharedObject(
            Encoding::Amf0,
            object("room", Value::Null, "nothing")[..40].to_vec().into(),
        );
        assert!(!Secrets::default().mask(&mut harmless));
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

    /// What is said of `message` by someone who has heard `before`.
    fn masked_after(before: &[Message], mut message: Message) -> Message {
        let mut secrets = Secrets::default();
        before.iter().for_each(|m| _ = secrets.mask(&mut m.clone()));
        secrets.mask(&mut message);
        message
    }

    #[test]
    fn optional_arguments_of_connect() {
        let connect = |args: [Value; 3]| Message::command("connect", 1.0, args.to_vec());
        let object = Value::object([("app", "live".into()), ("flashVer", "LNX 9".into())]);
        let inner = |token: &str| Value::object([("who", token.into()), ("n", 1.0.into())]);
        assert_eq!(
            masked_after(&[], connect([object.clone(), "x".into(), inner("abc")])),
            connect([object, "***".into(), inner("***")])
        );
        let bare = |token: &str| Message::command("connect", 1.0, vec![token.into()]);
        assert_eq!(masked_after(&[], bare("x")), bare("***"));
        let last =
            |name: &str, token: &str| Value::object([("videoName", name.into()), ("token", token.into())]);
        let before = [connect([Value::Null, "sesame".into(), last("cam2", "abc")])];
        let play = |name: &str| Message::command("play", 0.0, vec![Value::Null, name.into()]);
        assert_eq!(masked_after(&before, play("cam2")), play("cam2"));
        assert_eq!(masked_after(&before, play("abc/sesame/cam2")), play("***/***/cam2"));
    }

    #[test]
    fn numbers_that_are_secrets() {
        let connect = |pin: Value, last: Value| {
            let object = Value::object([("pin", pin), ("capabilities", 15.0.into())]);
            Message::command("connect", 1.0, vec![object, last])
        };
        let mut message = connect(4711.0.into(), 12.0.into());
        assert_eq!(masked_after(&[], message.clone()), connect("***".into(), "***".into()));
        assert!(Secrets::as_long().mask(&mut message));
        assert_eq!(message, connect(0.0.into(), 0.0.into()));
        let create = Message::command("_result", 2.0, vec![Value::Null, 1.0.into()]);
        assert_eq!(masked_after(&[], create.clone()), create);
    }

    #[test]
    fn what_a_url_escaped_is_masked_where_it_is_repeated_without() {
        let publish = Message::command("publish", 1.0, vec![Value::Null, "cam?sign=a%2Fb%3d9&x=50%".into()]);
        let note = |text: &str| Message::command("onNote", 0.0, vec![Value::Null, text.into()]);
        assert_eq!(masked_after(&[publish], note("a/b=9 or a%2Fb%3d9")), note("*** or ***"));
    }

    #[test]
    fn keys_among_the_arguments_of_a_services_own_commands() {
        let said = |name: &str, text: &str| Message::command(name, 3.0, vec![Value::Null, text.into()]);
        let key = "abcd-1234-efgh-5678";
        assert_eq!(masked_after(&[], said("joinRoom", key)), said("joinRoom", "***"));
        for (name, text) in
            [("joinRoom", "room 12, second floor"), ("joinRoom", "high-quality"), ("onRoom", key)]
        {
            assert_eq!(masked_after(&[], said(name, text)), said(name, text));
        }
    }

    /// A player asks for the length before it plays: its name is as secret there.
    #[test]
    fn keys_stand_in_every_command_that_names_a_stream() {
        for name in ["publish", "play", "getStreamLength"] {
            let command = |text: &str| Message::command(name, 3.0, vec![Value::Null, text.into()]);
            assert_eq!(masked_after(&[], command("live_12345_AbCdEfGh")), command("***"), "{name}");
        }
    }

    #[test]
    fn arguments_of_commands_that_log_in() {
        for (name, masked) in [("custom_login", true), ("setToken", true), ("getStreamLength", false)] {
            let command = |text: &str| Message::command(name, 7.0, vec![Value::Null, text.into()]);
            let want = command(if masked { "***" } else { "abc" });
            assert_eq!(masked_after(&[], command("abc")), want, "{name}");
        }
    }

    #[test]
    fn what_a_query_held_is_masked_in_texts_and_not_in_facts() {
        let connect = Value::object([("app", "studio?token=abc&room=studio&mode=live".into())]);
        let before = [Message::command("connect", 1.0, vec![connect])];
        let status = |description: &str| {
            let info = Value::object([
                ("level", "status".into()),
                ("app", "studio".into()),
                ("description", description.into()),
            ]);
            Message::command("onStatus", 0.0, vec![Value::Null, info])
        };
        for (said, shown) in [("abc", "***"), ("live (abc).", "live (***)."), ("abcd xabc", "abcd xabc")] {
            assert_eq!(masked_after(&before, status(said)), status(shown), "{said}");
        }
        let publish =
            |name: &str| Message::command("publish", 0.0, vec![Value::Null, name.into(), "live".into()]);
        assert_eq!(masked_after(&before, publish("cam-abc")), publish("cam-***"));
        let unread = |payload: &'static [u8]| Message::Unknown { type_id: 99, payload: payload.into() };
        assert_eq!(masked_after(&before, unread(b"\0abc\x01")), unread(b"\0***\x01"));
    }

    #[test]
    fn in_amf3_too() {
        use amf3::{Object, Value as Amf3};
        let command = |text: &str, token: &str| {
            let sealed = vec![("token".into(), Amf3::String(token.into()))];
            let object = Amf3::Object(Box::new(Object { sealed, ..Object::default() }));
            let dense = vec![object, Amf3::String(text.into()), Amf3::ByteArray(text.into())];
            let array = Amf3::Array { named: vec![], dense };
            Message::command("call", 2.0, vec![Value::Null, Value::Amf3(array)])
        };
        assert_eq!(masked_after(&[], command("pwd=x", "abc")), command("pwd=***", "***"));
    }

    #[test]
    fn a_long_text_takes_no_longer_than_its_length() {
        let text = "token=".repeat(100_000);
        assert!(Secrets::default().text(BStr::new(&text), Place::Other).is_some());
    }
}
