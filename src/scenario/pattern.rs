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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notation::eval::Bound;
    use crate::notation::parse::Parser;
    use crate::wire::chunk::{Fmt, MessageHeader};
    use crate::wire::note::{Note, NoteKind};

    fn pattern(text: &str) -> Pattern {
        Parser::new(text).and_then(|mut p| p.pattern()).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    fn arrivals() -> Vec<(&'static str, Seen)> {
        let header = |type_id| MessageHeader { csid: 4, timestamp: 9, len: 2, type_id, msid: 1 };
        let chunk = ChunkHeader {
            offset: 0,
            fmt: Fmt::Type1,
            csid: 64,
            basic_len: 2,
            timestamp: Some(20),
            len: Some(2),
            type_id: Some(8),
            msid: None,
            ext: None,
            first: true,
            payload_len: 2,
        };
        let note = Note { kind: NoteKind::BackwardDelta, offset: 0, csid: 3, value: 1 };
        vec![
            ("S0", Seen::Version(3)),
            ("S1", Seen::Hello(Block::new(1, 0, &[7]))),
            ("S2", Seen::Answer(Block::new(5, 6, &[1, 2]))),
            ("chunk", Seen::Chunk(chunk)),
            ("audio", Seen::Message(header(8), vec![0xaf, 1].into())),
            ("note", Seen::Note(note)),
            ("fin", Seen::Closed(How::Fin)),
            ("rst", Seen::Closed(How::Rst)),
            ("stuck", Seen::Stuck),
        ]
    }

    #[test]
    fn each_pattern_takes_what_it_says() {
        let rows = [
            ("S0", "S0"),
            ("S0 3", "S0"),
            ("S0 4", ""),
            ("S1", "S1"),
            ("S1 time=1 zero=0 random=hex \"07\"", "S1"),
            ("S1 random=hex \"0708\"", ""),
            ("S1 echo", ""),
            ("S1 !copy", "S1"),
            ("S1 digest=server", ""),
            ("S1 !digest=server", "S1"),
            ("S2 echo", "S2"),
            ("S2 copy", ""),
            ("S2 !copy", "S2"),
            ("S2 !echo", ""),
            ("S2 time=5 zero=1..9", "S2"),
            ("chunk", "chunk"),
            ("chunk fmt=1 csid=64 form=2 ts=20 len=2 type=8 first=true size=2", "chunk"),
            ("chunk msid=0", ""),
            ("chunk ext=_", ""),
            ("audio | video", "audio"),
            ("audio ts=9", "audio"),
            ("note backward-delta", "note"),
            ("note fresh-csid-fmt", ""),
            ("closed", "fin rst"),
            ("closed by fin", "fin"),
            ("closed by rst", "rst"),
            ("stuck", "stuck"),
            ("unreadable", ""),
            ("closed by rst | S0", "S0 rst"),
            ("!(closed | chunk | S1 | S2 | note backward-delta)", "S0 audio stuck"),
        ];
        let c1 = Block::new(9, 9, &[1, 2]);
        for (text, wanted) in rows {
            let pattern = pattern(text);
            let holds =
                |seen: &Seen| pattern.matches(&Arrival::new(seen), Sent { c1: Some(&c1) }, &mut Env::new(1));
            let taken: Vec<_> =
                arrivals().iter().filter(|(_, seen)| holds(seen)).map(|(name, _)| *name).collect();
            assert_eq!(taken.join(" "), wanted, "{text}");
        }
    }

    #[test]
    fn signatures_of_the_digest_handshake() {
        let mut c1 = Block::new(1, 0x8000_0702, &[3]);
        let digest = c1.sign(Signer::Client, Schema::One);
        let mut s1 = Block::new(1, 0x0400_0001, &[4]);
        s1.sign(Signer::Server, Schema::One);
        let mut s2 = Block::new(1, 2, &[5]);
        s2.sign_answer(Signer::Server, &digest);
        let (s1, s2) = (Seen::Hello(s1), Seen::Answer(s2));
        let holds = |text: &str, seen: &Seen| {
            pattern(text).matches(&Arrival::new(seen), Sent { c1: Some(&c1) }, &mut Env::new(1))
        };
        assert!(holds("S1 digest=server", &s1) && holds("S1 digest=server schema=1", &s1));
        assert!(!holds("S1 digest=server schema=0", &s1));
        assert!(
            holds("S2 digest=server", &s2)
                && !holds("S2 digest=server", &Seen::Answer(Block::new(1, 2, &[5])))
        );
    }

    #[test]
    fn alternatives_bind_alone() {
        let mut env = Env::new(1);
        let seen = Seen::Hello(Block::new(77, 1, &[7]));
        let first = pattern("S1 time=$t zero=0 | S1 zero=$z");
        assert!(first.matches(&Arrival::new(&seen), Sent::default(), &mut env));
        assert_eq!((env.get("t"), env.get("z")), (None, Some(&Bound::from(1u32))));
    }

    #[test]
    fn the_next_of_a_type() {
        let message = |type_id| {
            Seen::Message(MessageHeader { csid: 4, timestamp: 0, len: 0, type_id, msid: 0 }, vec![].into())
        };
        let rows = [
            ("audio len=100", 8, true),
            ("audio", 9, false),
            ("coded", 9, true),
            ("f(1)", 17, true),
            ("f(1)", 18, false),
            ("StreamBegin 1", 4, true),
            ("message type=3", 3, true),
            ("message type=3", 5, false),
            ("audio | video", 9, true),
        ];
        for (text, type_id, same) in rows {
            assert_eq!(pattern(text).same_type(&Arrival::new(&message(type_id))), same, "{text} {type_id}");
        }
    }
}
