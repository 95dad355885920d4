//! Whether something that arrived is what a line awaits.

use super::ast::*;
use crate::net::conn::{How, Seen};
use crate::notation::eval::Env;
use crate::notation::expr::Pat;
use crate::notation::matching::{Trial, bind};
use crate::wire::amf0::Value;
use crate::wire::chunk::ChunkHeader;
use crate::wire::handshake::{Block, Schema, Signer};
use crate::wire::message::Message;

/// What a pattern over S1 and S2 compares with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sent<'a> {
    /// The C1 that this connection sent.
    pub c1: Option<&'a Block>,
}

/// Something that arrived, with its payload decoded once.
#[derive(Debug, Clone)]
pub struct Arrival<'a> {
    seen: &'a Seen,
    decoded: Option<Message>,
}

impl<'a> Arrival<'a> {
    /// Decodes a message's payload.
    pub fn new(seen: &'a Seen) -> Arrival<'a> {
        let decoded = match seen {
            Seen::Message(header, payload) => Message::decode(header.type_id, payload).ok(),
            _ => None,
        };
        Arrival { seen, decoded }
    }
}

impl Pattern {
    /// Whether this is what the pattern says; binds in `env` when it is, nothing otherwise.
    pub fn matches(&self, arrival: &Arrival<'_>, sent: Sent<'_>, env: &mut Env) -> bool {
        let mut trial = Trial::new(env);
        let holds = matches(self, arrival, sent, &mut trial);
        let bindings = trial.bindings;
        if holds {
            bind(env, bindings);
        }
        holds
    }

    /// Whether a message of this pattern's type arrived, whatever it says: what `next <` waits for.
    pub fn same_type(&self, arrival: &Arrival<'_>) -> bool {
        match (&self.kind, arrival.seen) {
            (PatternKind::Message(pat), Seen::Message(header, _)) => pat.takes_type(header.type_id),
            (PatternKind::S0(_), Seen::Version(_)) | (PatternKind::Chunk(_), Seen::Chunk(_)) => true,
            (PatternKind::Block { which: 1, .. }, Seen::Hello(_)) => true,
            (PatternKind::Block { .. }, Seen::Answer(_)) => true,
            (PatternKind::Note(_), Seen::Note(_)) => true,
            (PatternKind::Closed(_), Seen::Closed(_)) => true,
            (PatternKind::Or(all), _) => all.iter().any(|pattern| pattern.same_type(arrival)),
            (PatternKind::Not(inner), _) => inner.same_type(arrival),
            _ => false,
        }
    }
}

fn matches(pattern: &Pattern, arrival: &Arrival<'_>, sent: Sent<'_>, trial: &mut Trial<'_>) -> bool {
    match (&pattern.kind, arrival.seen) {
        (PatternKind::Or(all), _) => {
            all.iter().any(|one| trial.attempt(|trial| matches(one, arrival, sent, trial)))
        }
        (PatternKind::Not(inner), _) => {
            let mark = trial.bindings.len();
            let holds = matches(inner, arrival, sent, trial);
            trial.bindings.truncate(mark);
            !holds
        }
        (PatternKind::Message(pat), Seen::Message(header, payload)) => {
            trial.message(pat, header, payload, arrival.decoded.as_ref())
        }
        (PatternKind::S0(pat), Seen::Version(n)) => trial.number(pat, u32::from(*n)),
        (PatternKind::Block { which: 1, tests }, Seen::Hello(block)) => {
            tests.iter().all(|test| hello(test, block, sent, trial))
        }
        (PatternKind::Block { which: 2, tests }, Seen::Answer(block)) => {
            tests.iter().all(|test| answer(test, block, sent, trial))
        }
        (PatternKind::Chunk(fields), Seen::Chunk(header)) => {
            fields.iter().all(|(field, pat)| chunk(*field, pat, header, trial))
        }
        (PatternKind::Note(kind), Seen::Note(note)) => *kind == note.kind,
        (PatternKind::Closed(how), Seen::Closed(found)) => match how {
            None => true,
            Some(CloseHow::Fin) => *found == How::Fin,
            Some(CloseHow::Rst) => *found == How::Rst,
        },
        (PatternKind::Unreadable, Seen::Broken(_)) | (PatternKind::Stuck, Seen::Stuck) => true,
        _ => false,
    }
}

/// A test of S1.
fn hello(test: &BlockTest, block: &Block, sent: Sent<'_>, trial: &mut Trial<'_>) -> bool {
    match test {
        BlockTest::Signed(schema) => {
            let found = block.digest(Signer::Server).map(|(schema, _)| schema);
            found.is_some_and(|found| schema.is_none_or(|wanted| number(found) == wanted))
        }
        BlockTest::Not(inner) => !hello(inner, block, sent, trial),
        test => either(test, block, sent, trial),
    }
}

/// A test of S2.
fn answer(test: &BlockTest, block: &Block, sent: Sent<'_>, trial: &mut Trial<'_>) -> bool {
    match test {
        BlockTest::Signed(schema) => {
            let digest = sent.c1.and_then(|c1| c1.digest(Signer::Client));
            digest.is_some_and(|(found, digest)| {
                schema.is_none_or(|wanted| number(found) == wanted)
                    && block.answer_signed(Signer::Server, &digest)
            })
        }
        BlockTest::Not(inner) => !answer(inner, block, sent, trial),
        test => either(test, block, sent, trial),
    }
}

fn either(test: &BlockTest, block: &Block, sent: Sent<'_>, trial: &mut Trial<'_>) -> bool {
    match test {
        BlockTest::Time(pat) => trial.number(pat, block.time()),
        BlockTest::Word(pat) => trial.number(pat, block.second_word()),
        BlockTest::Random(payload) => {
            let Ok(bytes) = trial.env.payload(payload) else { return false };
            let wanted = Block::new(0, 0, &bytes);
            !bytes.is_empty() && wanted.random() == block.random()
        }
        BlockTest::Echo => sent.c1.is_some_and(|c1| c1.random() == block.random()),
        BlockTest::Copy => sent.c1.is_some_and(|c1| c1.0[4..] == block.0[4..]),
        BlockTest::Signed(_) | BlockTest::Not(_) => false,
    }
}

fn number(schema: Schema) -> u8 {
    match schema {
        Schema::Zero => 0,
        Schema::One => 1,
    }
}

/// A field that the header does not have is like no value.
fn chunk(field: ChunkField, pat: &Pat, header: &ChunkHeader, trial: &mut Trial<'_>) -> bool {
    let n = match field {
        ChunkField::Fmt => Some(header.fmt as u32),
        ChunkField::Csid => Some(header.csid),
        ChunkField::Form => Some(u32::from(header.basic_len)),
        ChunkField::Ts => header.timestamp,
        ChunkField::Len => header.len,
        ChunkField::Type => header.type_id.map(u32::from),
        ChunkField::Msid => header.msid,
        ChunkField::Ext => header.ext,
        ChunkField::Size => Some(header.payload_len),
        ChunkField::First => return trial.value(pat, &Value::Boolean(header.first)),
    };
    n.is_some_and(|n| trial.number(pat, n))
}
