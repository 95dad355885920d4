//! One direction's bytes without packets around them.

use std::net::{Ipv4Addr, SocketAddr};

use super::{Connection, Direction, State};
use crate::wire::chunk::{ChunkReader, Limits, Quirks, ReadEvent};
use crate::wire::handshake::BLOCK_LEN;
use crate::wire::message::Message;
use crate::wire::time::Time;

/// A raw dump while it is read.
pub struct Raw {
    pub(super) state: State,
    pub(super) connection: Connection,
    pub(super) direction: Direction,
}

impl Raw {
    /// `first`: the first bytes, by which a client's side is told from a server's.
    pub fn new(first: &[u8]) -> Raw {
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let connection = Connection { began: [true; 2], ..Connection::new(nowhere, nowhere, Time::ZERO) };
        // Servers answer, and call what their clients named on...
        let server = |name: String| ["_result", "_error"].contains(&&name[..]) || name.starts_with("on");
        let direction =
            if first_command(first).is_some_and(server) { Direction::S2c } else { Direction::C2s };
        Raw { state: State::default(), connection, direction }
    }
}

/// The name of the first command behind the handshake.
fn first_command(bytes: &[u8]) -> Option<String> {
    let mut rest = bytes.get(1 + 2 * BLOCK_LEN..)?;
    let mut reader = ChunkReader::new(Limits::default(), Quirks::default(), 0);
    loop {
        let mut left = rest;
        let Ok(Some(event)) = reader.read(&mut left) else { return None };
        rest = &rest[rest.len() - left.len()..];
        if let ReadEvent::Message(header, payload) = event
            && let Ok(Message::Command(command)) = Message::decode(header.type_id, payload)
        {
            return Some(command.name.to_string());
        }
    }
}
