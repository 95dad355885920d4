//! Conversations as pcapng, for tools that open captures: the payloads are real, the headers around them are made.

use std::io::{self, Write};

use etherparse::PacketBuilder;

/// Payload bytes in one made segment, at most.
const SEGMENT: usize = 16 * 1024;
const CLIENT: ([u8; 6], [u8; 4]) = ([2, 0, 0, 0, 0, 1], [10, 0, 0, 1]);
const SERVER: ([u8; 6], [u8; 4]) = ([2, 0, 0, 0, 0, 2], [10, 0, 0, 2]);
/// The port that dissectors know.
const PORT: u16 = 1935;
/// The client's port of connection 0.
const FIRST_PORT: u16 = 40_000;

/// The blocks of a pcapng file: one section, little endian.
#[derive(Debug)]
pub struct Blocks<W>(W);

impl<W: Write> Blocks<W> {
    /// Begins the file; `comment` stands in its section header.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(out: W, comment: Option<&str>) -> io::Result<Blocks<W>> {
        let mut section = Vec::new();
        section.extend(0x1A2B_3C4Du32.to_le_bytes()); // byte-order magic
        section.extend(1u16.to_le_bytes()); // version 1.0
        section.extend(0u16.to_le_bytes());
        section.extend(u64::MAX.to_le_bytes()); // section length unknown
        if let Some(comment) = comment {
            option(&mut section, 1, comment.as_bytes());
            option(&mut section, 0, &[]);
        }
        let mut blocks = Blocks(out);
        blocks.block(0x0A0D_0D0A, &section)?;
        Ok(blocks)
    }

    /// Describes the next interface: its link type and how many digits behind the point its times in seconds have.
    ///
    /// # Errors
    /// Those of the output.
    pub fn interface(&mut self, link: u16, digits: u8) -> io::Result<()> {
        let mut body = [link.to_le_bytes(), [0; 2], [0; 2], [0; 2]].concat();
        option(&mut body, 9, &[digits]); // if_tsresol
        option(&mut body, 0, &[]);
        self.block(1, &body)
    }

    /// Appends a packet; `time` in the units of its interface, `wire_len` in bytes.
    ///
    /// # Errors
    /// Those of the output.
    pub fn packet(&mut self, interface: u32, time: u64, wire_len: u32, packet: &[u8]) -> io::Result<()> {
        let mut body = Vec::with_capacity(packet.len() + 24);
        for word in [interface, (time >> 32) as u32, time as u32, packet.len() as u32, wire_len] {
            body.extend(word.to_le_bytes());
        }
        body.extend(packet);
        pad(&mut body);
        self.block(6, &body)
    }

    /// How many packets the capturing side dropped on an interface.
    ///
    /// # Errors
    /// Those of the output.
    pub fn dropped(&mut self, interface: u32, packets: u64) -> io::Result<()> {
        let mut body = [interface.to_le_bytes(), [0; 4], [0; 4]].concat();
        option(&mut body, 5, &packets.to_le_bytes()); // isb_ifdrop
        option(&mut body, 0, &[]);
        self.block(5, &body)
    }

    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        let total = (body.len() as u32 + 12).to_le_bytes();
        self.0.write_all(&kind.to_le_bytes())?;
        self.0.write_all(&total)?;
        self.0.write_all(body)?;
        self.0.write_all(&total)
    }
}

/// A file being written: Ethernet, microseconds.
#[derive(Debug)]
pub struct PcapngWriter<W> {
    out: Blocks<W>,
    /// Next sequence numbers (client's, server's) of each connection.
    connections: Vec<[u32; 2]>,
}

impl<W: Write> PcapngWriter<W> {
    /// Begins the file; `comment` stands in its section header.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(out: W, comment: &str) -> io::Result<PcapngWriter<W>> {
        let mut out = Blocks::new(out, Some(comment))?;
        out.interface(1, 6)?;
        Ok(PcapngWriter { out, connections: Vec::new() })
    }

    /// Appends bytes that the client (`sent`) or the server sent, `at_us` microseconds since 1970 or any origin; a new connection begins with its SYNs.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn payload(&mut self, at_us: u64, connection: u16, sent: bool, bytes: &[u8]) -> io::Result<()> {
        let index = usize::from(connection);
        while self.connections.len() <= index {
            let next = self.connections.len() as u16;
            self.connections.push([1, 1]);
            self.segment(at_us, next, true, Flags::Syn, &[])?;
            self.segment(at_us, next, false, Flags::SynAck, &[])?;
        }
        for piece in bytes.chunks(SEGMENT) {
            self.segment(at_us, connection, sent, Flags::Data, piece)?;
            let next = &mut self.connections[index][usize::from(!sent)];
            *next = next.wrapping_add(piece.len() as u32);
        }
        Ok(())
    }

    fn segment(
        &mut self,
        at_us: u64,
        connection: u16,
        sent: bool,
        flags: Flags,
        payload: &[u8],
    ) -> io::Result<()> {
        let [client, server] = self.connections[usize::from(connection)];
        let port = FIRST_PORT.wrapping_add(connection);
        let (from, to, ports, seq, ack) = match sent {
            true => (CLIENT, SERVER, (port, PORT), client, server),
            false => (SERVER, CLIENT, (PORT, port), server, client),
        };
        let builder = PacketBuilder::ethernet2(from.0, to.0).ipv4(from.1, to.1, 64);
        let builder = match flags {
            Flags::Syn => builder.tcp(ports.0, ports.1, 0, 65_535).syn(),
            Flags::SynAck => builder.tcp(ports.0, ports.1, 0, 65_535).syn().ack(1),
            Flags::Data => builder.tcp(ports.0, ports.1, seq, 65_535).psh().ack(ack),
        };
        let mut packet = Vec::with_capacity(builder.size(payload.len()));
        builder.write(&mut packet, payload).map_err(io::Error::other)?;
        self.out.packet(0, at_us, packet.len() as u32, &packet)
    }
}

#[derive(Clone, Copy)]
enum Flags {
    Syn,
    SynAck,
    Data,
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    out.extend(code.to_le_bytes());
    out.extend((value.len() as u16).to_le_bytes());
    out.extend(value);
    pad(out);
}

/// Everything in pcapng is aligned to 32 bits.
fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::frame::Unwrapper;
    use crate::capture::pcap::{self, Source};
    use crate::capture::stream::{Connection, Direction, Handler, Hole, Streams};
    use crate::wire::time::Time;

    /// Keeps the bytes of every connection.
    #[derive(Default)]
    struct Kept(Vec<[Vec<u8>; 2]>, Vec<Hole>);

    impl Handler for Kept {
        type State = [Vec<u8>; 2];
        fn data(&mut self, s: &mut Self::State, _: &Connection, d: Direction, _: Time, _: u64, bytes: &[u8]) {
            s[d as usize].extend(bytes);
        }
        fn hole(&mut self, _: &mut Self::State, _: &Connection, _: Time, hole: Hole) {
            self.1.push(hole);
        }
        fn end(&mut self, state: Self::State, _: Connection) {
            self.0.push(state);
        }
    }

    #[test]
    fn what_was_written_is_read_back() {
        let large: Vec<u8> = (0..40_000u32).map(|i| i as u8).collect();
        let mut file = Vec::new();
        let mut writer = PcapngWriter::new(&mut file, "why").unwrap();
        writer.payload(10, 0, true, &large).unwrap();
        writer.payload(20, 1, true, b"second").unwrap();
        writer.payload(30, 0, false, b"answer").unwrap();
        writer.payload(40, 0, true, b"more").unwrap();

        let Ok(Source::Packets(mut packets)) = pcap::source(Box::new(io::Cursor::new(file))) else {
            panic!("not a capture")
        };
        let (mut unwrapper, mut streams) = (Unwrapper::default(), Streams::new(Kept::default()));
        while let Some(packet) = packets.packet().unwrap() {
            streams.segment(&unwrapper.segment(packet).expect("a segment"));
        }
        streams.finish_all();
        let Kept(connections, holes) = streams.handler;
        assert_eq!(holes, []);
        assert_eq!(
            connections,
            [[[&large[..], b"more"].concat(), b"answer".to_vec()], [b"second".to_vec(), Vec::new()]]
        );
    }
}
