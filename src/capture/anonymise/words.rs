//! Texts in which each word becomes another one.

use std::hash::{BuildHasher, RandomState};

use crate::capture::secrets::names_a_secret;
use crate::wire::amf0::Value;

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
    /// Replaces the texts in a value; `false` where it has parts that are not looked into.
    pub fn replace(&self, value: &mut Value) -> bool {
        match value {
            Value::String(s) | Value::LongString(s) | Value::Xml(s) => {
                self.text(s);
                true
            }
            Value::Object(fields) | Value::EcmaArray(fields) | Value::Typed { fields, .. } => {
                fields.iter_mut().all(|(name, v)| {
                    if names_a_secret(name) {
                        without_number(v);
                    }
                    let is_kept = v.as_text().is_some_and(|text| is_kept(name, text));
                    if !name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_') {
                        self.text(name);
                    }
                    is_kept || self.replace(v)
                })
            }
            Value::StrictArray(values) => values.iter_mut().all(|v| self.replace(v)),
            Value::Date { ms, .. } => {
                *ms = 0.0;
                true
            }
            Value::Amf3(_) => false,
            _ => true,
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
    if let Value::Number(number) = value {
        *number = 0.0;
    }
}

fn is_hex(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_hexdigit)
}

#[cfg(test)]
mod tests {
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
            assert!(words.replace(&mut value));
            assert_eq!(value == before, kept, "{field}: {text}");
        }
        let date = |ms: f64| Value::Date { ms, zone: 60 };
        let mut value = Value::object([("john.doe@example.com", 1.0.into()), ("when", date(1e12))]);
        assert!(words.replace(&mut value));
        let Value::Object(fields) = value else { panic!("an object") };
        let key = fields[0].0.to_string();
        assert!(key.len() == 20 && key.contains('@') && !key.contains("doe"), "{key}");
        assert_eq!(fields[1].1, date(0.0));
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
