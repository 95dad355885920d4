//! What is no RTMP session, by its first bytes.

use super::{Connection, HELLO_LEN, Side};
use crate::wire::handshake::Version;

/// What a connection is that is no RTMP session.
pub(super) fn name(client: &Side, server: &Side, of: &Connection) -> String {
    let head =
        |side: &Side| side.head.iter().take(8).map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ");
    if client.bytes + server.bytes == 0 {
        return if of.rst { "no payload, refused or reset" } else { "no payload" }.into();
    }
    if client.head.is_empty() && !client.holes.is_empty() {
        return "the first bytes are missing from the capture".into();
    }
    let first = client.head.first().copied();
    match &client.head[..] {
        [0x16 | 0x15, 3, ..] => return "TLS (RTMPS, if it is RTMP), encrypted, not decoded".into(),
        h if begins(h, &RTMPT).is_some() => return "RTMPT, RTMP inside HTTP, not decoded".into(),
        h if [h, &server.head].iter().any(|head| begins(head, &HTTP).is_some()) => return "HTTP".into(),
        _ => {}
    }
    let version = first.map(Version::from);
    match version {
        Some(Version::Rtmpe(version)) if client.bytes >= HELLO_LEN => {
            format!("RTMPE (C0 = {version}), encrypted, not decoded")
        }
        _ if !of.began[0] => {
            "starts mid-stream: neither SYN nor a handshake was captured, not decoded".into()
        }
        Some(Version::Plain) => {
            format!("begins with C0 = 3 and ends after {} bytes, before a handshake's length", client.bytes)
        }
        Some(_) => format!("not RTMP: the client begins with {}", head(client)),
        None => format!("not RTMP: the server speaks first, with {}", head(server)),
    }
}

/// What RTMP inside HTTP begins with.
const RTMPT: [&[u8]; 5] = [b"POST /open/", b"POST /send/", b"POST /idle/", b"POST /close/", b"POST /fcs/"];
/// What requests and answers of HTTP begin with.
const HTTP: [&[u8]; 10] = [
    b"GET ",
    b"POST ",
    b"HEAD ",
    b"PUT ",
    b"OPTIONS ",
    b"CONNECT ",
    b"DELETE ",
    b"PATCH ",
    b"PRI * HTTP/2",
    b"HTTP/",
];

fn begins(head: &[u8], names: &[&[u8]]) -> Option<usize> {
    names.iter().find(|name| head.starts_with(name)).map(|name| name.len())
}

/// How many of a direction's first bytes name what it is; 0 where they name nothing.
pub(in crate::capture) fn naming(head: &[u8]) -> usize {
    match head {
        // TLS: type, version and length of a record.
        [0x14..=0x17, 3, ..] => 5,
        _ => begins(head, &RTMPT).or(begins(head, &HTTP)).unwrap_or(0),
    }
}
