//! Texts in which each word becomes another one.

use std::hash::{BuildHasher, RandomState};

use crate::capture::secrets::{looks_like_a_key, names_a_secret};
use crate::wire::amf0::{self, Value};
use crate::wire::amf3;

/// Fields that name programs and formats; of their text is kept what cannot be a key.
const PROGRAMS: [&[u8]; 6] = [b"flashVer", b"fmsVer", b"encoder", b"mode", b"videocodecid", b"audiocodecid"];
/// How long a word of such a text may be, and how many digits it may have.
const PROGRAM_WORD: (usize, usize) = (12, 4);
/// What the codes of the protocol begin with (rtmp 7.2).
const CODES: [&[u8]; 4] = [b"NetConnection.", b"NetStream.", b"NetGroup.", b"SharedObject."];
/// Words that are kept wherever they stand.
const KEPT_WORDS: [&[u8]; 9] =
    [b"rtmp", b"rtmps", b"rtmpt", b"rtmpe", b"http", b"https", b"live", b"record", b"append"];

/// Other words for words: the same for the same in one run, and not to be guessed from outside.
#[derive(Debug, Default)]
pub struct Words {
    key: RandomState,
}

impl Words {
    /// Replaces the texts in a value.
    pub fn replace(&self, value: &mut Value) {
        match value {
            Value::String(s) | Value::LongString(s) | Value::Xml(s) => self.text(s),
            Value::Object(fields) | Value::EcmaArray(fields) => self.fields(fields),
            Value::Typed { class, fields } => {
                self.name(class);
                self.fields(fields);
            }
            Value::StrictArray(values) => values.iter_mut().for_each(|v| self.replace(v)),
            Value::Date { ms, .. } => *ms = 0.0,
            Value::Amf3(value) => self.replace_3(value),
            _ => {}
        }
    }

    fn fields(&self, fields: &mut amf0::Fields) {
        for (name, value) in fields {
            if names_a_secret(name) {
                without_number(value);
            }
            let is_kept = value.as_text().is_some_and(|text| is_kept(name, text));
            self.name(name);
            if !is_kept {
                self.replace(value);
            }
        }
    }

    fn replace_3(&self, value: &mut amf3::Value) {
        use amf3::Value;
        match value {
            Value::String(s) | Value::XmlDoc(s) | Value::Xml(s) => self.text(s),
            Value::Date(ms) => *ms = 0.0,
            Value::Array { named, dense } => {
                self.fields_3(named);
                dense.iter_mut().for_each(|v| self.replace_3(v));
            }
            Value::Object(object) => {
                self.name(&mut object.class);
                self.fields_3(&mut object.sealed);
                object.dynamic.iter_mut().for_each(|fields| self.fields_3(fields));
            }
            Value::VectorObject { class, items, .. } => {
                self.name(class);
                items.iter_mut().for_each(|v| self.replace_3(v));
            }
            // Bytes and rows of numbers may be anything.
            Value::ByteArray(bytes) => bytes.fill(0),
            Value::VectorInt { items, .. } => items.fill(0),
            Value::VectorUint { items, .. } => items.fill(0),
            Value::VectorDouble { items, .. } => items.fill(0.0),
            _ => {}
        }
    }

    fn fields_3(&self, fields: &mut amf3::Fields) {
        for (name, value) in fields {
            if names_a_secret(name) {
                without_number_3(value);
            }
            let is_kept = matches!(value, amf3::Value::String(text) if is_kept(name, text));
            self.name(name);
            if !is_kept {
                self.replace_3(value);
            }
        }
    }

    /// The name of a command, of data, of a class or of a field is kept where it can be one of a program's: letters, digits and `_`, with one sign
    /// in front, and not like a stream key.
    pub fn name(&self, name: &mut [u8]) {
        let bare = name.strip_prefix(b"@").or(name.strip_prefix(b"|")).unwrap_or(name);
        let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        if name != b"*" && (!bare.iter().all(is_name) || looks_like_a_key(bare)) {
            self.text(name);
        }
    }

    /// Words of letters and digits: letters become letters and digits digits, so that an address stays an address and a URL a URL.
    fn text(&self, text: &mut [u8]) {
        let mut rest = text;
        while !rest.is_empty() {
            let escaped = rest.first() == Some(&b'%') && rest.get(1..3).is_some_and(is_hex);
            let is_word = |b: &u8| b.is_ascii_alphanumeric() || !b.is_ascii();
            let start = rest.iter().position(is_word).unwrap_or(rest.len()).max(usize::from(escaped));
            let end = rest[start..].iter().position(|b| !is_word(b)).map_or(rest.len(), |n| start + n);
            let end = if escaped { start + 2 } else { end };
            self.word(&mut rest[start..end]);
            rest = &mut rest[end..];
        }
    }

    fn word(&self, word: &mut [u8]) {
        if KEPT_WORDS.contains(&&*word) {
            return;
        }
        // The parts of an IPv6 address, and escaped bytes in a URL.
        let letters = if word.len() <= 4 && is_hex(word) { 6 } else { 26 };
        let number = word.iter().all(u8::is_ascii_digit).then_some(word.len());
        let was = word.to_vec();
        let mut state = self.key.hash_one(&was);
        for (i, byte) in word.iter_mut().enumerate() {
            state = self.key.hash_one(state);
            let (first, n) = match number {
                // A port and a part of an IPv4 address have no zero in front and stay below 65536 and 256.
                Some(3..) if i == 0 => (b'1', 1),
                Some(1..) if i == 0 => (b'1', 9),
                _ if byte.is_ascii_digit() => (b'0', 10),
                _ => (b'a', letters),
            };
            *byte = first + (state % n) as u8;
        }
        // No word becomes itself.
        if let Some(last) = word.last_mut()
            && was.last() == Some(last)
        {
            *last =
                if last.is_ascii_digit() { b'1' + (*last - b'0') % 9 } else { b'a' + (*last - b'a' + 1) % 6 };
        }
    }
}

/// Whether the text of a field belongs to the protocol or to programs, and not to people.
fn is_kept(field: &[u8], text: &[u8]) -> bool {
    let is_plain = |word: &[u8]| {
        let digits = word.iter().filter(|b| b.is_ascii_digit()).count();
        word.len() <= PROGRAM_WORD.0 && digits <= PROGRAM_WORD.1
    };
    match field {
        b"code" => CODES.iter().any(|begin| text.starts_with(begin)),
        b"level" => [&b"status"[..], b"error", b"warning"].contains(&text),
        b"type" => text == b"nonprivate",
        _ => PROGRAMS.contains(&field) && text.split(|b| !b.is_ascii_alphanumeric()).all(is_plain),
    }
}

/// A number that may be a secret becomes 0.
pub fn without_number(value: &mut Value) {
    match value {
        Value::Number(number) => *number = 0.0,
        Value::Amf3(value) => without_number_3(value),
        _ => {}
    }
}

/// As [`without_number`]; an integer becomes the least that takes as many bytes (amf3 1.3.1).
fn without_number_3(value: &mut amf3::Value) {
    match value {
        amf3::Value::Double(number) => *number = 0.0,
        amf3::Value::Integer(number) => {
            *number = match *number {
                0..0x80 => 0,
                0x80..0x4000 => 0x80,
                0x4000..0x20_0000 => 0x4000,
                _ => 0x20_0000,
            };
        }
        _ => {}
    }
}

fn is_hex(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_hexdigit)
}

#[cfg(test)]
mod tests {
    use bstr::BString;

    use super::*;

    #[test]
    fn of_fields_is_kept_what_is_of_the_protocol_or_a_program() {
        let words = Words::default();
        for (field, text, kept) in [
            ("code", "NetStream.Publish.Start", true),
            ("code", "invite-4711-abcd", false),
            ("level", "status", true),
            ("level", "john", false),
            ("type", "nonprivate", true),
            ("type", "serial", false),
            ("flashVer", "FMLE/3.0 (compatible; FMSc/1.0)", true),
            ("flashVer", "LNX 9,0,124,2", true),
            ("encoder", "Lavf59.27.100", true),
            ("encoder", "obs 7f3a9c41d2", false),
            ("flashVer", "serial0123456789", false),
            ("app", "studio", false),
        ] {
            let mut value = Value::object([(field, text.into())]);
            let before = value.clone();
            words.replace(&mut value);
            assert_eq!(value == before, kept, "{field}: {text}");
        }
        let date = |ms: f64| Value::Date { ms, zone: 60 };
        let mut value = Value::object([("john.doe@example.com", 1.0.into()), ("when", date(1e12))]);
        words.replace(&mut value);
        let Value::Object(fields) = value else { panic!("an object") };
        let key = fields[0].0.to_string();
        assert!(key.len() == 20 && key.contains('@') && !key.contains("doe"), "{key}");
        assert_eq!(fields[1].1, date(0.0));
    }

    #[test]
    fn names_are_kept_that_are_no_texts() {
        let words = Words::default();
        for (name, kept) in [
            ("onMetaData", true),
            ("@setDataFrame", true),
            ("|RtmpSampleAccess", true),
            ("_result", true),
            ("auth?token=s3cret", false),
            ("john.doe", false),
            ("live_12345_AbCdEfGh", false),
        ] {
            let mut other = BString::from(name);
            words.name(&mut other);
            assert_eq!(other == name, kept, "{other}");
            assert_eq!(other.len(), name.len());
        }
        let mut value = Value::Typed { class: "s3cret-12".into(), fields: vec![] };
        words.replace(&mut value);
        assert!(!matches!(value, Value::Typed { class, .. } if class == "s3cret-12"));
    }

    #[test]
    fn in_amf3_as_in_amf0() {
        use amf3::{Object, Value as Amf3};
        let object = |app: &str, pin: Amf3, code: &str, at: f64, n: i32, key: &str| {
            let sealed = vec![("app".into(), Amf3::String(app.into())), ("pin".into(), pin)];
            let dynamic = vec![("code".into(), Amf3::String(code.into())), (key.into(), Amf3::Date(at))];
            let object = Object { class: "".into(), sealed, dynamic: Some(dynamic) };
            let dense = vec![
                Amf3::ByteArray(app.as_bytes().to_vec()),
                Amf3::Xml(app.into()),
                Amf3::VectorInt { fixed: true, items: vec![n] },
                Amf3::Integer(7),
                Amf3::Reference { marker: 10, index: 0 },
            ];
            let items = vec![Amf3::Array { named: vec![(key.into(), Amf3::XmlDoc(app.into()))], dense }];
            let vector = Amf3::VectorObject { fixed: false, class: "*".into(), items };
            Value::StrictArray(vec![Value::Amf3(Amf3::Object(Box::new(object))), Value::Amf3(vector)])
        };
        let code = "NetConnection.Connect.Success";
        let encoded = |value: &Value| {
            let mut bytes = Vec::new();
            value.encode(&mut bytes);
            bytes
        };
        for pin in [Amf3::Integer(4711), Amf3::Integer(-1), Amf3::Integer(5), Amf3::Double(4711.0)] {
            let before = object("sekret", pin, code, 1e12, 4711, "joe@doe");
            let mut value = before.clone();
            Words::default().replace(&mut value);
            let bytes = encoded(&value);
            assert_eq!(bytes.len(), encoded(&before).len());
            let shows = |text: &[u8]| bytes.windows(text.len()).any(|w| w == text);
            let gone = [&b"sekret"[..], b"joe", b"doe", &4711i32.to_be_bytes(), &1e12f64.to_be_bytes()];
            assert_eq!(gone.into_iter().find(|text| shows(text)), None);
            assert!(shows(b"app") && shows(b"pin") && shows(code.as_bytes()) && shows(&[4, 7, 10]));
            let pins = [&[4, 0xa4, 0x67][..], &[4, 0xff, 0xff, 0xff, 0xff], &[4, 5], &4711f64.to_be_bytes()];
            assert_eq!(pins.into_iter().find(|pin| shows(pin)), None);
        }
    }

    #[test]
    fn words_of_the_same_kind_and_length() {
        // Which words come is chance.
        for _ in 0..200 {
            let words = Words::default();
            let other = |text: &str| {
                let mut bytes = text.as_bytes().to_vec();
                words.text(&mut bytes);
                assert_eq!(bytes.len(), text.len());
                String::from_utf8(bytes).unwrap()
            };
            let said = other("rtmp://cam.example:1935/live/secret99?t=secret99");
            let secret = &said[said.len() - 8..];
            assert!(said.starts_with("rtmp://") && said.contains("/live/"), "{said}");
            assert_eq!(said.matches(secret).count(), 2, "the same word for the same word: {said}");
            assert!(
                !said.contains("secret") && !said.contains("1935") && !said.contains("example"),
                "{said}"
            );
            for address in ["192.168.255.7:65535", "[::1]:19399", "[fe80::0db8:a]:80", "8.8.8.8:1"] {
                let said = other(address);
                assert!(said.parse::<std::net::SocketAddr>().is_ok() && said != address, "{said}");
            }
            let escaped = other("%C3%9Fx%2fab");
            assert!(escaped.starts_with('%') && is_hex(&escaped.as_bytes()[1..3]), "{escaped}");
            assert!(is_hex(&escaped.as_bytes()[4..6]) && is_hex(&escaped.as_bytes()[8..10]), "{escaped}");
            assert!(!escaped.contains("C3") && !escaped.contains("9F"), "{escaped}");
        }
    }
}
