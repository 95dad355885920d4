//! Where secrets stand in a text.

use std::ops::Range;

use bstr::{BString, ByteSlice};

use super::{MASK, Place};
use crate::net::target::KEY_LEN;

/// The text with these parts masked.
pub(super) fn masked(text: &[u8], mut parts: Vec<Range<usize>>, as_long: bool) -> BString {
    parts.sort_by_key(|part| (part.start, part.end));
    let (mut out, mut done) = (BString::default(), 0);
    for part in parts {
        if part.start >= done {
            out.extend_from_slice(&text[done..part.start]);
            out.extend_from_slice(if as_long { b"" } else { MASK.as_bytes() });
        }
        let new = part.end.saturating_sub(part.start.max(done));
        out.extend(std::iter::repeat_n(b'*', if as_long { new } else { 0 }));
        done = done.max(part.end);
    }
    out.extend_from_slice(&text[done..]);
    out
}

/// What is found in the text as it stands, and in the one that a URL's escapes stand for; where each stands in the text.
pub(super) fn wherever_escaped(text: &[u8], find: impl Fn(&[u8]) -> Vec<Range<usize>>) -> Vec<Range<usize>> {
    let mut found = find(text);
    if text.contains(&b'%') {
        let (plain, places) = unescaped(text);
        found.extend(find(&plain).into_iter().map(|part| places[part.start]..places[part.end]));
    }
    found
}

/// Without the escapes of a URL (rfc 3986 2.1); and where each byte, and the end, stands in the text.
pub(super) fn unescaped(text: &[u8]) -> (Vec<u8>, Vec<usize>) {
    let digit = |byte: Option<&u8>| byte.and_then(|b| char::from(*b).to_digit(16));
    let (mut out, mut places, mut at) = (Vec::new(), Vec::new(), 0);
    while let Some(byte) = text.get(at) {
        let escaped = digit(text.get(at + 1)).zip(digit(text.get(at + 2))).filter(|_| *byte == b'%');
        out.push(escaped.map_or(*byte, |(high, low)| (high * 16 + low) as u8));
        places.push(at);
        at += if escaped.is_some() { 3 } else { 1 };
    }
    places.push(text.len());
    (out, places)
}

/// Where a known secret stands; short ones only as whole words, so that they do not hit other text.
pub(super) fn repeated(text: &[u8], secret: &[u8], place: Place, found: &mut Vec<Range<usize>>) {
    let long = secret.len() >= KEY_LEN;
    if !long && place == Place::Fact {
        return;
    }
    let alone = |at: usize| text.get(at).is_none_or(|b| !b.is_ascii_alphanumeric());
    for at in text.find_iter(secret) {
        let end = at + secret.len();
        if long || (at == 0 || alone(at - 1)) && alone(end) {
            found.push(at..end);
        }
    }
}

/// The secret parts of a text: the values of a query, the password of a URL, tokens that look like stream keys, what `NAME=` says to be secret.
pub(super) fn secrets_in(text: &[u8], place: Place) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    if place == Place::Secret {
        found.extend((!text.is_empty()).then_some(0..text.len()));
        return found;
    }
    // Names and URLs may have spaces; in what people write they are between the words.
    let apart = |b: &u8| match place {
        Place::Other => b.is_ascii_whitespace() || b.is_ascii_control() || b"\"'<>".contains(b),
        _ => b.is_ascii_control(),
    };
    for word in text.split(apart) {
        let word = if place == Place::Other { word.trim_end_with(|c| ".,;:)]}".contains(c)) } else { word };
        found.extend(secrets_in_word(word, place).into_iter().map(|secret| range_in(text, secret)));
    }
    found.retain(|part| !part.is_empty());
    found.extend(labelled(text, b'='));
    found
}

fn secrets_in_word(word: &[u8], place: Place) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let (path, query) = match word.iter().position(|b| b"?#".contains(b)) {
        Some(at) => (&word[..at], Some(&word[at + 1..])),
        None => (word, None),
    };
    let (scheme, after) =
        path.split_once_str("://").map_or((None, path), |(scheme, after)| (Some(scheme), after));
    let authority = after.split(|b| *b == b'/').next().unwrap_or_default();
    let login = authority.rsplit_once_str("@").filter(|(_, host)| {
        // In what people write, `mailto:joe@host` and `12:30@noon` are none.
        place != Place::Other || scheme.is_some() || host.contains(&b':') || after.len() > authority.len()
    });
    let user = login.map(|(user, _)| user);
    let password = user.and_then(|user| user.split_once_str(":")).map(|(_, password)| password);
    let is_url = word.find("://").is_some() || password.is_some();
    if place == Place::Name || is_url {
        found.extend(path.split(|b| *b == b'/').filter(|token| looks_like_a_key(token)));
    }
    found.extend(password.or(user.filter(|_| scheme.is_some())));
    if place == Place::Name || is_url || query.is_some_and(|q| q.contains(&b'=')) {
        let values = query.unwrap_or_default().split(|b| b"&?#".contains(b));
        found.extend(values.map(|p| p.split_once_str("=").map_or(p, |(_, v)| v)));
    }
    found
}

/// Where a part of a text stands in it; nothing where it is empty.
fn range_in(text: &[u8], part: &[u8]) -> Range<usize> {
    if part.is_empty() {
        return 0..0;
    }
    let start = part.as_ptr() as usize - text.as_ptr() as usize;
    start..start + part.len()
}

/// What stands behind the name of a secret: `password=…`, `"token": "…"`, `Authorization: Bearer …`.
pub(super) fn labelled(text: &[u8], sign: u8) -> Vec<Range<usize>> {
    let (mut found, mut done) = (Vec::new(), 0);
    for at in text.find_iter(&[sign]) {
        if at < done {
            continue;
        }
        let before = text[..at].trim_end_with(|c| " \"'".contains(c));
        let in_label = |b: &u8| b.is_ascii_alphanumeric() || b"_-".contains(b);
        let label = &before[before.iter().rposition(|b| !in_label(b)).map_or(0, |i| i + 1)..];
        let host = sign == b':' && before[..before.len() - label.len()].ends_with_str("/");
        if !host && names_a_secret(label) {
            let value = value_at(text, at + 1);
            done = value.end;
            found.push(value);
        }
    }
    found.retain(|part| !part.is_empty());
    found
}

/// The value that begins here, behind blanks, quotes and the name of a scheme.
fn value_at(text: &[u8], from: usize) -> Range<usize> {
    let rest = text[from..].trim_start_with(|c| c == ' ');
    let quote = rest.first().copied().filter(|b| b"\"'".contains(b));
    let value = match quote {
        Some(quote) => rest[1..].split(|b| *b == quote).next(),
        None => {
            let scheme = [&b"Bearer "[..], b"Basic "].into_iter().find(|scheme| {
                rest.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme))
            });
            let ends = |b: &u8| b.is_ascii_whitespace() || b.is_ascii_control() || b"&;,)]}\"'<>".contains(b);
            rest[scheme.map_or(0, <[u8]>::len)..].split(ends).next()
        }
    };
    range_in(text, value.unwrap_or_default())
}

/// At least [`KEY_LEN`] characters, letters and digits mixed, as the platforms' stream keys are.
pub fn looks_like_a_key(token: &[u8]) -> bool {
    token.len() >= KEY_LEN
        && token.iter().all(|b| b.is_ascii_alphanumeric() || b"-_+=".contains(b))
        && token.iter().any(u8::is_ascii_digit)
        && token.iter().any(u8::is_ascii_alphabetic)
}

/// Whether a field of this name holds a secret.
pub fn names_a_secret(field: &[u8]) -> bool {
    let field = field.to_ascii_lowercase();
    let harmless = [&b"author"[..], b"authors", b"authmod", b"authentication", b"passed"];
    let parts = ["pass", "pwd", "token", "secret", "auth", "signature", "credential"];
    let ends = [&b"key"[..], b"_sig", b"-sig"];
    let whole = [
        &b"sig"[..],
        b"sign",
        b"hmac",
        b"jwt",
        b"pw",
        b"pin",
        b"sid",
        b"sessionid",
        b"session_id",
        b"cookie",
    ];
    !harmless.contains(&field.as_slice())
        && (parts.iter().any(|word| field.contains_str(word))
            || ends.iter().any(|end| field.ends_with(end))
            || whole.contains(&field.as_slice()))
}

/// Whether a command of this name carries what it logs in with.
pub fn logs_in(command: &[u8]) -> bool {
    let words = ["login", "logon", "signin", "authent"];
    names_a_secret(command) || words.iter().any(|word| command.to_ascii_lowercase().contains_str(word))
}
