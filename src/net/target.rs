//! What the user typed as TARGET: `rtmp[s]://[user:password@]host[:port]/app[/prefix][?query]`.

use std::io;
use std::str::FromStr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::conn::{Dial, Dialing, Io};
use super::tls::Tls;

/// The port of RTMP over TCP.
pub const DEFAULT_PORT: u16 = 1935;
/// The port of RTMP over TLS, as other clients have it.
pub const DEFAULT_TLS_PORT: u16 = 443;

/// A server's application, and what stream names begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    secure: bool,
    credentials: Option<String>,
    /// Without brackets.
    host: String,
    port: u16,
    app: String,
    prefix: String,
    query: Option<String>,
}

/// Why a text is no TARGET.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}; expected rtmp[s]://host[:port]/app[/prefix][?query]")]
pub struct TargetError(&'static str);

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(given: &str) -> Result<Target, TargetError> {
        let error = TargetError;
        let (secure, rest) = match given.split_once("://") {
            Some(("rtmp", rest)) => (false, rest),
            Some(("rtmps", rest)) => (true, rest),
            Some(_) => return Err(error("the scheme is neither rtmp nor rtmps")),
            None => return Err(error("it does not begin with rtmp://")),
        };
        if given.chars().any(|c| c.is_control() || c == ' ') {
            return Err(error("it has a space or a control character in it"));
        }
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query.to_owned())),
            None => (rest, None),
        };
        let (authority, path) = rest.split_once('/').ok_or_else(|| error("the app is missing"))?;
        let (credentials, address) = match authority.rsplit_once('@') {
            Some((credentials, address)) => (Some(credentials.to_owned()), address),
            None => (None, authority),
        };
        let (host, port) = host_and_port(address).map_err(error)?;
        let port = port.unwrap_or(if secure { DEFAULT_TLS_PORT } else { DEFAULT_PORT });
        let (app, prefix) = path.split_once('/').unwrap_or((path, ""));
        if app.is_empty() {
            return Err(error("the app is missing"));
        }
        let (app, prefix) = (app.to_owned(), prefix.to_owned());
        Ok(Target { secure, credentials, host, port, app, prefix, query })
    }
}

fn host_and_port(address: &str) -> Result<(String, Option<u16>), &'static str> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("the bracket of the address is not closed")?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| "no IPv6 address stands in the brackets")?;
            (host, port)
        }
        None => match address.find(':') {
            Some(at) => address.split_at(at),
            None => (address, ""),
        },
    };
    if host.is_empty() {
        return Err("the host is missing");
    }
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        None => return Err("something stands behind the address"),
        Some(port) => {
            Some(port.parse().ok().filter(|p| *p != 0).ok_or("the port is no number from 1 to 65535")?)
        }
    };
    Ok((host.to_owned(), port))
}

impl Target {
    /// The application, as connect names it: with the query where no prefix stands before it, as other clients read such a URL.
    pub fn app(&self) -> String {
        match &self.query {
            Some(query) if self.prefix.is_empty() => format!("{}?{query}", self.app),
            _ => self.app.clone(),
        }
    }

    /// What stream names begin with; empty: anything.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What stream names end with: the query behind a prefix, with its `?`.
    pub fn suffix(&self) -> String {
        match &self.query {
            Some(query) if !self.prefix.is_empty() => format!("?{query}"),
            _ => String::new(),
        }
    }

    /// The URL that connect names as `tcUrl`: without credentials and stream names.
    pub fn tc_url(&self) -> String {
        format!("{}://{}/{}", self.scheme(), self.address(), self.app())
    }

    fn scheme(&self) -> &'static str {
        if self.secure { "rtmps" } else { "rtmp" }
    }

    /// Whether it speaks TLS.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The host, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// `host:port`, with brackets where the host is an IPv6 address.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Whether the host is this machine by its address or name.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// For people: credentials, the prefix (often a stream key) and the query's values are masked unless `secrets`.
    pub fn display(&self, secrets: bool) -> String {
        let mask = |text: &str| if secrets { text.to_owned() } else { MASK.to_owned() };
        let mut out = format!("{}://", self.scheme());
        if let Some(credentials) = &self.credentials {
            out += &format!("{}@", mask(credentials));
        }
        out += &format!("{}/{}", self.address(), self.app);
        if !self.prefix.is_empty() {
            out += &format!("/{}", mask(&self.prefix));
        }
        if let Some(query) = &self.query {
            out += "?";
            out += &if secrets { query.clone() } else { masked_query(query) };
        }
        out
    }

    /// What of it is secret as it stands in stream names and messages, with what masks it.
    fn secrets(&self) -> Vec<(String, String)> {
        let ending = if self.prefix.contains('{') { "" } else { "-" };
        secrets_of(&self.prefix, ending, self.query.as_deref())
    }

    /// The text with the stream key and the query's values masked.
    pub fn mask(&self, text: &str) -> String {
        masked(text, &self.secrets())
    }

    /// What one side of a connection sent, with the same overwritten, lengths kept: also where headers of chunks stand inside, and where the
    /// bytes end within a secret.
    pub fn mask_bytes(&self, bytes: &mut [u8]) {
        for (secret, _) in self.secrets() {
            for from in 0..bytes.len() {
                places_of(secret.as_bytes(), bytes, from).into_iter().for_each(|at| bytes[at] = b'*');
            }
        }
    }

    /// Opens connections to it, each within `timeout`; with `tls` what passes is encrypted.
    pub fn dialer(&self, timeout: Duration, tls: Option<Tls>) -> TcpDial {
        TcpDial { host: self.host.clone(), port: self.port, timeout, tls }
    }
}

/// The shortest secret that is looked for within words too.
pub const KEY_LEN: usize = 12;
/// Stands for what is not shown.
const MASK: &str = "***";
/// Stands in texts where what is longer is cut off.
const CUT: &str = "…";

/// A stream's name, by pattern or not, with its query as a URL with them is displayed: masked but for the fields' names.
pub fn masked_name(name: &str) -> String {
    match name.split_once('?') {
        Some((_, query)) => format!("{MASK}?{}", masked_query(query)),
        None => MASK.to_owned(),
    }
}

/// The text with this stream's name and its query's values masked.
pub fn mask_name(text: &str, name: &str) -> String {
    let (stem, query) = name.split_once('?').map_or((name, None), |(stem, query)| (stem, Some(query)));
    masked(text, &secrets_of(stem, "", query))
}

/// What was meant for a TARGET and may be none, with all masked that would be secret in one.
pub fn masked_url(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), text),
    };
    if rest.find(['/', '?', '#']).is_some_and(|at| rest[at..].contains('@')) {
        // Where a password ends, and where the rest begins, cannot be told.
        return scheme + MASK;
    }
    let (rest, query) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
    let (credentials, rest) =
        rest.rsplit_once('@').map_or((None, rest), |(secret, rest)| (Some(secret), rest));
    let mut parts = rest.splitn(3, '/');
    let place = parts.by_ref().take(2).collect::<Vec<_>>().join("/");
    let prefix = parts.next().filter(|prefix| !prefix.is_empty());
    [
        Some(scheme),
        credentials.map(|_| format!("{MASK}@")),
        Some(place),
        prefix.map(|_| format!("/{MASK}")),
        query.split_at_checked(1).map(|(sign, query)| format!("{sign}{}", masked_query(query))),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn masked_query(query: &str) -> String {
    let fields = query.split('&').map(|field| match field.split_once('=') {
        Some((name, _)) => format!("{name}={MASK}"),
        None => MASK.to_owned(),
    });
    fields.collect::<Vec<_>>().join("&")
}

/// Each secret of a name, which ends so where it is used, and of its query, with what masks it.
fn secrets_of(name: &str, ending: &str, query: Option<&str>) -> Vec<(String, String)> {
    // Where a number is put into a pattern, what stands before it is the secret.
    let fixed = |text: &str| text.split_once('{').map_or(text, |(before, _)| before).to_owned();
    let stem = Some(fixed(name)).filter(|stem| !stem.is_empty());
    let stem = stem.map(|stem| (stem + ending, format!("{MASK}{ending}")));
    let fields = query.into_iter().flat_map(|query| query.split('&')).filter(|field| !field.is_empty());
    let fields = fields.filter_map(|field| match (fixed(field), field.split_once('=')) {
        (secret, _) if secret.is_empty() => None,
        (secret, Some((name, _))) => Some((secret, format!("{name}={MASK}"))),
        (secret, None) => Some((secret, MASK.to_owned())),
    });
    stem.into_iter().chain(fields).collect()
}

/// Where the bytes of the secret stand that begins here; none where none does.
fn places_of(secret: &[u8], bytes: &[u8], from: usize) -> Vec<usize> {
    /// Of a secret that is cut off: fewer may be anything.
    const TOLD: usize = 4;
    let (mut places, mut at) = (Vec::new(), from);
    for wanted in secret {
        if !places.is_empty() && bytes.get(at) != Some(wanted) {
            at += header_len(&bytes[at.min(bytes.len())..], *wanted);
        }
        match bytes.get(at) {
            Some(byte) if byte == wanted => places.push(at),
            None if places.len() >= TOLD => break,
            _ => return Vec::new(),
        }
        at += 1;
    }
    places
}

/// The length of a type 3 chunk's header that stands here, before this byte of its payload; 0: none does.
fn header_len(bytes: &[u8], next: u8) -> usize {
    // rtmp 5.3.1.1, 5.3.1.3: one to three bytes, and the extended timestamp where the message has one.
    let basic = match bytes.first() {
        Some(0xC0) => 2,
        Some(0xC1) => 3,
        Some(0xC2..) => 1,
        _ => return 0,
    };
    if bytes.get(basic).is_none_or(|byte| *byte == next) { basic } else { basic + 4 }
}

fn masked(text: &str, secrets: &[(String, String)]) -> String {
    let whole = |text: String, (secret, mask): &(String, String)| replaced(&text, secret, mask);
    let cut_off = |text: String, (secret, mask): &(String, String)| {
        let parts = text.split_inclusive(CUT).map(|part| match part.strip_suffix(CUT) {
            Some(shown) => match shown.split_at(shown.len() - begun(secret, shown)) {
                (before, begun) if !begun.is_empty() && is_told(secret, before, "") => {
                    format!("{before}{mask}{CUT}")
                }
                _ => part.to_owned(),
            },
            None => part.to_owned(),
        });
        parts.collect()
    };
    secrets.iter().fold(secrets.iter().fold(text.to_owned(), whole), cut_off)
}

fn replaced(text: &str, secret: &str, mask: &str) -> String {
    let (mut out, mut done) = (String::new(), 0);
    for (at, _) in text.match_indices(secret) {
        let end = at + secret.len();
        if is_told(secret, &text[..at], &text[end..]) {
            out += &text[done..at];
            out += mask;
            done = end;
        }
    }
    out + &text[done..]
}

/// Whether what stands between these texts is the secret: a short one may stand in other words by chance. Behind a pattern's, numbers follow.
fn is_told(secret: &str, before: &str, after: &str) -> bool {
    let in_word = |c: char| c.is_ascii_alphanumeric();
    let escaped = |len: usize, by: &str| {
        before.len().checked_sub(len).is_some_and(|at| before.as_bytes()[at..].starts_with(by.as_bytes()))
    };
    let begins = !secret.starts_with(in_word)
        || !before.ends_with(in_word)
        || escaped(2, "\\")
        || escaped(4, "\\x")
        || escaped(3, "%");
    let ends = !secret.ends_with(in_word) || !after.starts_with(|c: char| c.is_ascii_alphabetic());
    secret.len() >= KEY_LEN || begins && ends
}

/// How many bytes of the secret the text ends with; fewer than four may be anything.
fn begun(secret: &str, text: &str) -> usize {
    let ends = |len: &usize| text.as_bytes().ends_with(&secret.as_bytes()[..*len]);
    (4..=secret.len()).rev().filter(|len| secret.is_char_boundary(*len)).find(ends).unwrap_or(0)
}

/// Opens TCP connections, and TLS over them where asked for.
#[derive(Debug, Clone)]
pub struct TcpDial {
    host: String,
    port: u16,
    timeout: Duration,
    tls: Option<Tls>,
}

impl TcpDial {
    async fn open(&self) -> io::Result<Box<dyn Io>> {
        let end = Instant::now() + self.timeout;
        let late =
            |what: &str| io::Error::new(io::ErrorKind::TimedOut, format!("{what} within {:?}", self.timeout));
        let connecting = TcpStream::connect((self.host.as_str(), self.port));
        let stream = timeout_at(end, connecting).await.map_err(|_| late("no connection"))??;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let securing = tls.connect(&self.host, stream);
        Ok(Box::new(timeout_at(end, securing).await.map_err(|_| late("TLS: no answer"))??))
    }
}

impl Dial for TcpDial {
    fn dial(&self) -> Dialing<'_> {
        Box::pin(self.open())
    }
}

impl Io for TcpStream {
    fn reset(&mut self) -> io::Result<()> {
        self.set_zero_linger()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(s: &str) -> Target {
        s.parse().unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn parts() {
        let t = parse("rtmp://host/live");
        assert_eq!((t.address().as_str(), t.app().as_str(), t.prefix()), ("host:1935", "live", ""));
        let t = parse("rtmp://u:p@[::1]:2000/live/a/b?k=v");
        assert_eq!((t.address().as_str(), t.app().as_str(), t.prefix()), ("[::1]:2000", "live", "a/b"));
        assert_eq!(t.suffix(), "?k=v");
        assert_eq!(t.tc_url(), "rtmp://[::1]:2000/live");
        assert!(t.is_loopback());
        let t = parse("rtmp://host/live?k=v");
        assert_eq!((t.app().as_str(), t.suffix().as_str()), ("live?k=v", ""));
        let t = parse("rtmps://host/live/key");
        assert_eq!((t.is_secure(), t.tc_url().as_str()), (true, "rtmps://host:443/live"));
        assert_eq!(t.display(false), "rtmps://host:443/live/***");
    }

    #[test]
    fn secrets_are_masked() {
        let t = parse("rtmp://user:pw@host/live/key?token=abc&flag");
        assert_eq!(t.display(false), "rtmp://***@host:1935/live/***?token=***&***");
        assert_eq!(t.display(true), "rtmp://user:pw@host:1935/live/key?token=abc&flag");
        assert_eq!(t.mask("publish(\"key-07?token=abc&flag\") abc"), "publish(\"***-07?token=***&***\") abc");
        assert_eq!(t.mask("play(\"key-07?token=ab… flag… tok…"), "play(\"***-07?token=***… ***… tok…");
        let pattern = parse("rtmp://host/live/key{i:02}?token=abc{n}");
        assert_eq!(pattern.mask("publish(\"key07?token=abc9\")"), "publish(\"***07?token=***9\")");
        assert_eq!(parse("rtmp://host/live/{i}?{n}").mask("7?8"), "7?8");
        let mut bytes = *b"x key-07?token=abc&flag";
        t.mask_bytes(&mut bytes);
        assert_eq!(&bytes, b"x ****07?*********&****");
    }

    #[test]
    fn secrets_in_chunks_are_masked() {
        let t = parse("rtmp://host/live/key?token=abcdef");
        for (sent, shown) in [
            ("k\u{1}y-07?token=abcdef", "k\u{1}y-07?************"),
            ("?token=abc\u{C3}def!", "?*********\u{C3}***!"),
            ("tok\u{C0}\x05en=\u{C1}\x05\x06abcdef", "***\u{C0}\x05***\u{C1}\x05\x06******"),
            ("token\u{C3}\x01\x02\x03\x04=abcdef.", "*****\u{C3}\x01\x02\x03\x04*******."),
            (
                "t\u{C3}o\u{C3}k\u{C3}e\u{C3}n\u{C3}=\u{C3}a\u{C3}b\u{C3}c\u{C3}d\u{C3}e\u{C3}f",
                "*\u{C3}*\u{C3}*\u{C3}*\u{C3}*\u{C3}*\u{C3}*\u{C3}*\u{C3}*\u{C3}*\u{C3}*\u{C3}*",
            ),
            ("token=ab", "********"),
            ("token=ab\u{C3}", "********\u{C3}"),
            ("token=ab+", "token=ab+"),
            ("tok", "tok"),
        ] {
            let bytes = |text: &str| -> Vec<u8> { text.chars().map(|c| c as u8).collect() };
            let mut masked = bytes(sent);
            t.mask_bytes(&mut masked);
            assert_eq!(masked, bytes(shown), "{sent}");
        }
    }

    #[test]
    fn a_name_by_itself_is_masked_as_in_a_url() {
        for (name, shown) in
            [("key", "***"), ("key{i:02}?token=abc&flag", "***?token=***&***"), ("a/key?t=", "***?t=***")]
        {
            assert_eq!(masked_name(name), shown);
            assert!(parse(&format!("rtmp://host/live/{name}")).display(false).ends_with(shown), "{name}");
        }
        for (name, text, masked) in [
            ("key", "no such stream: key", "no such stream: ***"),
            ("key{i:02}?token=abc", "play(\"key07?token=abc\")", "play(\"***07?token=***\")"),
            ("{i}", "no such stream: 7", "no such stream: 7"),
            ("a", "/live/a: refused by the target", "/live/***: refused by the target"),
            ("a{i}", "a7, a target", "***7, *** target"),
            ("a", "%2Fa%3F \\x00a \\na \"a\"", "%2F***%3F \\x00*** \\n*** \"***\""),
            ("live", "play(\"live…, alive…", "play(\"***…, alive…"),
            ("abcdefghijkl", "xabcdefghijklx", "x***x"),
            ("key?{n}=5", "key", "***"),
        ] {
            assert_eq!(mask_name(text, name), masked, "{name}");
        }
    }

    #[test]
    fn what_is_no_target_is_masked_too() {
        for (text, shown) in [
            ("rtmp://u:pw@host:x/live/key?token=abc&flag", "rtmp://***@host:x/live/***?token=***&***"),
            ("http://u:p@w@host", "http://***@host"),
            ("rtmp://u:p?w@host/live/key", "rtmp://***"),
            ("rtmp://u:p/w@host/live/key", "rtmp://***"),
            ("rtmp://host:x/live/key?token=a@bc", "rtmp://***"),
            ("rtmp://host:x/live#abc", "rtmp://host:x/live#***"),
            ("rtmp://host:x/live/key?", "rtmp://host:x/live/***?***"),
            ("u:pw@host/live/a/b", "***@host/live/***"),
            ("127.0.0.1:1935/live", "127.0.0.1:1935/live"),
            ("rtmp:/host/live/", "rtmp:/host/***"),
            ("", ""),
        ] {
            assert_eq!(masked_url(text), shown, "{text}");
        }
    }

    #[test]
    fn mistakes_say_what_was_expected() {
        let table = [
            ("host/live", "does not begin with rtmp://"),
            ("http://host/live", "the scheme is neither rtmp nor rtmps"),
            ("rtmp://host", "the app is missing"),
            ("rtmp://host/", "the app is missing"),
            ("rtmp:///live", "the host is missing"),
            ("rtmp://host:0/live", "the port is no number"),
            ("rtmp://host:x/live", "the port is no number"),
            ("rtmp://[::1/live", "bracket"),
            ("rtmp://[x]/live", "IPv6"),
            ("rtmp://[::1]x/live", "something stands behind"),
            ("rtmp://host/a b", "space"),
        ];
        for (text, want) in table {
            let got = text.parse::<Target>().expect_err(text).to_string();
            assert!(got.contains(want) && got.contains("expected rtmp[s]://host"), "{text}: {got}");
        }
    }
}
