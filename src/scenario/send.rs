//! What a scenario sends: the bytes of each form, and how they are cut into writes.

use bytes::{Bytes, BytesMut};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::sleep;

use super::ast::{ChunkExpr, Send, SendWhat, Split};
use super::run::Run;
use super::scope::Scope;
use crate::net::conn::{Conn, Direction, Seen};
use crate::notation::expr::{MessageExpr, SendFields, TsExpr};
use crate::wire::chunk::{Fmt, RawChunk};
use crate::wire::handshake::{Block, Schema, Signer};
use crate::wire::message::{Message, type_id};
use crate::wire::session::Fields;

/// The version word of a signed C1 where none is given (spec notes 2.2).
const SIGNED_VERSION: u32 = 0x8000_0702;

/// Pieces of a write that the trace shows.
const ANNOUNCED: usize = 8;

/// The schema of a number in a file.
pub(super) fn schema(n: u8) -> Schema {
    if n == 0 { Schema::Zero } else { Schema::One }
}

impl Run<'_> {
    /// Sends these as one write, or as the first one says.
    pub(super) async fn send(&self, name: &str, sends: &[Send], scope: &mut Scope) -> Result<(), String> {
        let Some(conn) = self.ground.board.conn(name) else { return Err(format!("{name} was never opened")) };
        let mut bytes = BytesMut::new();
        for send in sends {
            self.given(name, scope);
            bytes.extend_from_slice(&self.bytes_of(&conn, &send.what, scope)?);
        }
        let Some(first) = sends.first() else { return Ok(()) };
        if !conn.log(|log| log.iter().any(|entry| matches!(entry.seen, Seen::Closed(_)))) {
            self.asks();
        }
        let gap = first.gap.map(|time| self.ground.cx.times.of(time));
        let pieces = self.pieces(bytes.freeze(), &first.split, scope)?;
        // What a message in one write decodes to says it all.
        let plain = pieces.len() == 1
            && sends.iter().all(|send| !matches!(send.what, SendWhat::Chunk(_) | SendWhat::Bytes(_)));
        let mut pieces = pieces.into_iter().enumerate().peekable();
        while let Some((i, piece)) = pieces.next() {
            if !plain && i < ANNOUNCED {
                conn.announce(&piece);
            }
            self.ground.write(&conn, piece).await;
            if let (Some(gap), Some(_)) = (gap, pieces.peek()) {
                sleep(gap).await;
            }
        }
        Ok(())
    }

    fn bytes_of(&self, conn: &Conn, what: &SendWhat, scope: &mut Scope) -> Result<Bytes, String> {
        match what {
            SendWhat::Message(message, fields) => message_bytes(conn, message, fields, scope),
            SendWhat::Chunk(chunk) => chunk_bytes(chunk, scope),
            SendWhat::Bytes(payload) => scope.bytes(payload),
            SendWhat::C0(version) => Ok(Bytes::copy_from_slice(&[scope.u32(version)? as u8])),
            SendWhat::C1 { time, version, random, schema: signed } => {
                let mut c1 = conn.hello();
                if let Some(random) = random {
                    c1 = Block::new(c1.time(), c1.second_word(), &scope.bytes(random)?);
                }
                let customary = if signed.is_some() { SIGNED_VERSION } else { 0 };
                let version = scope.maybe(version)?.unwrap_or(customary);
                c1 = Block::new(scope.maybe(time)?.unwrap_or(0x0102_0304), version, c1.random());
                if let Some(signed) = signed {
                    c1.sign(Signer::Client, schema(*signed));
                }
                Ok(Bytes::copy_from_slice(&c1.0[..]))
            }
            SendWhat::C2 { signed, time, version, random, flip } => {
                let s1 = conn.peer_hello().ok_or("C2 answers S1, which did not come")?;
                let read_at = self.ground.board.origin().now().as_rtmp_millis();
                let mut c2 = s1.echo(scope.maybe(version)?.unwrap_or(read_at));
                if let Some(random) = random {
                    c2 = Block::new(c2.time(), c2.second_word(), &scope.bytes(random)?);
                }
                if let Some(time) = scope.maybe(time)? {
                    c2 = Block::new(time, c2.second_word(), c2.random());
                }
                if *signed {
                    let (_, digest) =
                        s1.digest(Signer::Server).ok_or("C2 signed needs a digest in S1, there is none")?;
                    c2.sign_answer(Signer::Client, &digest);
                }
                if let Some(bit) = scope.maybe(flip)? {
                    let bit = bit as usize % (c2.0.len() * 8);
                    c2.0[bit / 8] ^= 0x80 >> (bit % 8);
                }
                Ok(Bytes::copy_from_slice(&c2.0[..]))
            }
        }
    }

    fn pieces(&self, mut bytes: Bytes, split: &Split, scope: &Scope) -> Result<Vec<Bytes>, String> {
        let cuts: Vec<usize> = match split {
            Split::Whole => Vec::new(),
            Split::At(offsets) => {
                let offsets = offsets.iter().map(|n| Ok(scope.u32(n)? as usize));
                offsets.collect::<Result<_, String>>()?
            }
            Split::Each(n) => {
                let each = scope.u32(n)?.max(1) as usize;
                (each..bytes.len()).step_by(each).collect()
            }
            Split::Random => {
                let mut rng = StdRng::seed_from_u64(self.ground.seed ^ bytes.len() as u64);
                let mut cuts: Vec<usize> =
                    (0..8.min(bytes.len())).map(|_| rng.random_range(0..bytes.len())).collect();
                cuts.sort_unstable();
                cuts
            }
        };
        let mut pieces = Vec::new();
        let mut at = 0;
        for cut in cuts {
            if cut > at && cut - at < bytes.len() {
                pieces.push(bytes.split_to(cut - at));
                at = cut;
            }
        }
        pieces.push(bytes);
        Ok(pieces)
    }
}

fn message_bytes(
    conn: &Conn,
    message: &MessageExpr,
    fields: &SendFields,
    scope: &mut Scope,
) -> Result<Bytes, String> {
    let (type_id, payload) = scope.env.message(message).map_err(|error| error.to_string())?;
    let timestamp = match &fields.ts {
        None => None,
        Some(TsExpr::At(n)) => Some(scope.u32(n)?),
        Some(TsExpr::After(n)) => Some(last_timestamp(conn, type_id).wrapping_add(scope.u32(n)?)),
    };
    let fields = Fields {
        csid: scope.maybe(&fields.csid)?,
        timestamp,
        msid: scope.maybe(&fields.msid)?,
        fmt: scope.maybe(&fields.fmt)?.map(fmt),
    };
    Ok(conn.encode(&Message::Unknown { type_id, payload: payload.into() }, fields))
}

/// The timestamp of the last message of this type that was sent; 0 where there was none.
fn last_timestamp(conn: &Conn, type_id: u8) -> u32 {
    conn.log(|log| {
        let timestamp = log.iter().rev().find_map(|entry| match &entry.seen {
            Seen::Message(header, _) if entry.direction == Direction::Sent && header.type_id == type_id => {
                Some(header.timestamp)
            }
            _ => None,
        });
        timestamp.unwrap_or(0)
    })
}

fn fmt(n: u32) -> Fmt {
    match n {
        0 => Fmt::Type0,
        1 => Fmt::Type1,
        2 => Fmt::Type2,
        _ => Fmt::Type3,
    }
}

/// Exactly these fields. `ts` at 0xFFFFFF and above without `ext` is the marker and an extended timestamp.
fn chunk_bytes(chunk: &ChunkExpr, scope: &mut Scope) -> Result<Bytes, String> {
    let (mut timestamp, mut ext) = (scope.maybe(&chunk.ts)?, scope.maybe(&chunk.ext)?);
    if let (Some(ts), None) = (timestamp, ext)
        && ts >= 0xFF_FFFF
    {
        (timestamp, ext) = (Some(0xFF_FFFF), Some(ts));
    }
    let raw = RawChunk {
        fmt: scope.maybe(&chunk.fmt)?.unwrap_or(0) as u8,
        csid: scope.maybe(&chunk.csid)?.unwrap_or(3),
        basic_len: scope.maybe(&chunk.form)?.map(|n| n as u8),
        timestamp,
        len: scope.maybe(&chunk.len)?,
        type_id: scope.maybe(&chunk.type_id)?.map(|n| n as u8),
        msid: scope.maybe(&chunk.msid)?,
        ext,
        payload: scope.bytes(&chunk.payload)?.to_vec(),
    };
    let mut out = Vec::new();
    raw.write(&mut out);
    Ok(out.into())
}

impl Run<'_> {
    /// Binds what is given for a connection: `$msid $window $sent $received`.
    /// Gives the C1 that was sent.
    pub(super) fn given(&self, name: &str, scope: &mut Scope) -> Option<Block> {
        let conn = self.ground.board.conn(name)?;
        let window = conn.log(|log| {
            log.iter().rev().find_map(|entry| match &entry.seen {
                Seen::Message(header, payload)
                    if entry.direction == Direction::Received
                        && header.type_id == type_id::WINDOW_ACK_SIZE =>
                {
                    match Message::decode(header.type_id, payload) {
                        Ok(Message::WindowAckSize(n)) => Some(f64::from(n)),
                        _ => None,
                    }
                }
                _ => None,
            })
        });
        scope.bind_number("msid", conn.msid().map(f64::from));
        scope.bind_number("window", window);
        scope.bind_number("sent", Some(conn.sent() as f64));
        scope.bind_number("received", Some(conn.received() as f64));
        conn.log(|log| {
            log.iter().find_map(|entry| match &entry.seen {
                Seen::Hello(block) if entry.direction == Direction::Sent => Some(block.clone()),
                _ => None,
            })
        })
    }
}
