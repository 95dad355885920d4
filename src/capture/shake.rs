//! How a captured handshake departs from the specification (rtmp 5.2), both sides together.
//!
//! Only what the bytes prove is said: an answer may echo or, where the hello was signed, be signed; random bytes may be any; and
//! what came too early is told by the capture's clock alone, where that leaves no doubt ([`SURE`]).

use std::time::Duration;

use super::lint::Found;
use super::stream::Direction;
use crate::wire::handshake::{BLOCK_LEN, Block, Signer};
use crate::wire::note::{Note, NoteKind};
use crate::wire::time::Time;

/// By how much something came too early before it is said: the clocks of several queues of one capture differ by less.
pub const SURE: Duration = Duration::from_millis(1);
/// Where the pieces lie in their direction.
const HELLO: u64 = 1;
const ANSWER: u64 = HELLO + BLOCK_LEN as u64;
const DATA: u64 = ANSWER + BLOCK_LEN as u64;

/// Both sides of a handshake, as far as they came.
#[derive(Debug, Default)]
pub struct Shake {
    sides: [Side; 2],
    told: bool,
    /// Both sides' first bytes are known for what they are, or an answer belongs to the other side's hello.
    met: bool,
}

#[derive(Debug, Default)]
struct Side {
    version: Option<u8>,
    hello: Option<(Time, Block)>,
    answer: Option<(Time, Block)>,
    /// When the first byte behind the handshake came.
    data: Option<Time>,
}

impl Shake {
    /// C0 or S0.
    pub fn version(&mut self, from: Direction, version: u8) {
        self.sides[from as usize].version = Some(version);
    }

    /// C1 or S1, complete at this time.
    pub fn hello(&mut self, from: Direction, time: Time, block: &Block) {
        self.sides[from as usize].hello = Some((time, block.clone()));
    }

    /// C2 or S2, complete at this time.
    pub fn answer(&mut self, from: Direction, time: Time, block: &Block) {
        self.sides[from as usize].answer = Some((time, block.clone()));
    }

    /// The first byte behind the handshake.
    pub fn data(&mut self, from: Direction, time: Time) {
        self.sides[from as usize].data.get_or_insert(time);
    }

    /// Whether all pieces are there and were not judged yet.
    pub fn is_whole(&self) -> bool {
        !self.told && self.sides.iter().all(|side| side.answer.is_some())
    }

    /// Whether what was read as a handshake is one, known when its departures were asked for.
    pub fn is_met(&self) -> bool {
        self.met
    }

    /// What departs from what is there, each with the time of its piece; once. Of a side whose first byte is not `known` for what it is, the
    /// pieces count where answers show that they are a handshake's.
    pub fn departures(&mut self, known: [bool; 2]) -> Vec<Found> {
        let mut notes = Vec::new();
        if std::mem::replace(&mut self.told, true) {
            return notes;
        }
        let mut sides = std::mem::take(&mut self.sides);
        self.met = known == [true; 2] || Side::meet(&sides);
        for (side, known) in sides.iter_mut().zip(known) {
            if !known && !self.met {
                *side = Side::default();
            }
        }
        let [client, server] = sides;
        let times = [client.times(), server.times()];
        let mut say = |from, kind, offset, value| {
            let [hello, answer, data] = times[from as usize];
            let time = match offset {
                0 | HELLO => hello,
                ANSWER => answer,
                _ => data,
            };
            notes.push(Found::new(from, time, Note { kind, offset, csid: 0, value }));
        };
        // rtmp 5.2.2: the server answers with the version that both will speak.
        if let Some(version) = server.version.filter(|v| client.version.is_some_and(|c| c != *v)) {
            say(Direction::S2c, NoteKind::ServerVersion, 0, u64::from(version));
        }
        let c1 = Hello::of(client.hello, Signer::Client);
        let s1 = Hello::of(server.hello, Signer::Server);
        for (from, hello, kind) in
            [(Direction::C2s, &c1, NoteKind::ClientWord), (Direction::S2c, &s1, NoteKind::ServerWord)]
        {
            // rtmp 5.2.3: four zero bytes; a signed hello has its sender's version there.
            if let Some(hello) = hello.as_ref().filter(|h| h.digest.is_none() && h.block.second_word() != 0) {
                say(from, kind, HELLO, u64::from(hello.block.second_word()));
            }
        }
        // rtmp 5.2.3: random enough to be told from the other side's; bytes that are all the same say nothing.
        if let (Some(c1), Some(s1)) = (&c1, &s1)
            && differs(&s1.block, &c1.block).is_none()
            && s1.block.random().iter().any(|byte| *byte != s1.block.random()[0])
        {
            say(Direction::S2c, NoteKind::ServerCopy, HELLO, u64::from(s1.block.time()));
        }
        for (from, answer, to, signer, [other, time]) in [
            (
                Direction::C2s,
                &client.answer,
                &s1,
                Signer::Client,
                [NoteKind::ClientEcho, NoteKind::ClientEchoTime],
            ),
            (
                Direction::S2c,
                &server.answer,
                &c1,
                Signer::Server,
                [NoteKind::ServerEcho, NoteKind::ServerEchoTime],
            ),
        ] {
            let (Some((_, answer)), Some(to)) = (answer, to) else { continue };
            match differs(answer, &to.block) {
                // rtmp 5.2.4: the first word repeats the other side's time.
                None if answer.time() != to.block.time() => say(from, time, ANSWER, u64::from(answer.time())),
                None => {}
                Some(_) if to.digest.is_some_and(|digest| answer.answer_signed(signer, &digest)) => {}
                Some(at) => say(from, other, ANSWER, at),
            }
        }
        let late = |early: Option<Time>, needed: Option<Time>| {
            let ahead = needed?.since(early?);
            (ahead >= SURE).then_some(ahead.as_micros() as u64)
        };
        let done = |piece: &Option<(Time, Block)>| piece.as_ref().map(|(time, _)| *time);
        let [c2, s2] = [&client.answer, &server.answer].map(done);
        if let Some(us) = late(c2, s1.map(|s1| s1.time)) {
            say(Direction::C2s, NoteKind::EarlyAnswer, ANSWER, us);
        } else if let Some(us) = late(client.data, s2) {
            say(Direction::C2s, NoteKind::ClientEarly, DATA, us);
        }
        if let Some(us) = late(server.data, c2) {
            say(Direction::S2c, NoteKind::ServerEarly, DATA, us);
        }
        notes
    }
}

/// Whether an answer belongs to the other side's hello, in the first bytes of client and server.
pub fn is_met(sides: [&[u8]; 2]) -> bool {
    let block =
        |bytes: &[u8], at: usize| Some((Time::ZERO, Block(Box::new(*bytes.get(at..)?.first_chunk()?))));
    Side::meet(&sides.map(|bytes| Side {
        hello: block(bytes, 1),
        answer: block(bytes, 1 + BLOCK_LEN),
        ..Side::default()
    }))
}

impl Side {
    /// Whether an answer belongs to the other side's hello.
    fn meet([client, server]: &[Side; 2]) -> bool {
        [(server, client, Signer::Server, Signer::Client), (client, server, Signer::Client, Signer::Server)]
            .into_iter()
            .any(|(asks, answers, signs, answer_signs)| {
                let (Some(asked), Some((_, answer))) =
                    (Hello::of(asks.hello.clone(), signs), &answers.answer)
                else {
                    return false;
                };
                let signed = |digest: [u8; 32]| answer.answer_signed(answer_signs, &digest);
                differs(answer, &asked.block).is_none() || asked.digest.is_some_and(signed)
            })
    }

    /// When the hello was there, the answer, and data; the version comes with the hello.
    fn times(&self) -> [Time; 3] {
        let of = |piece: &Option<(Time, Block)>| piece.as_ref().map(|(time, _)| *time).unwrap_or_default();
        [of(&self.hello), of(&self.answer), self.data.unwrap_or_default()]
    }
}

/// C1 or S1.
struct Hello {
    time: Time,
    block: Block,
    digest: Option<[u8; 32]>,
}

impl Hello {
    fn of(hello: Option<(Time, Block)>, signer: Signer) -> Option<Hello> {
        let (time, block) = hello?;
        // All that sign say a version.
        let signed = (block.second_word() != 0).then(|| block.digest(signer)).flatten();
        Some(Hello { time, digest: signed.map(|(_, digest)| digest), block })
    }
}

/// Where the random bytes of an answer first differ from those of the hello.
fn differs(answer: &Block, hello: &Block) -> Option<u64> {
    let at = answer.random().iter().zip(hello.random()).position(|(a, b)| a != b)?;
    Some(at as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::handshake::Schema;

    /// What stands in the pieces of a handshake.
    struct Pieces {
        versions: [u8; 2],
        hellos: [Block; 2],
        answers: [Block; 2],
        /// C1, S1, C2, S2, then the data of both; milliseconds.
        at: [u64; 6],
    }

    impl Pieces {
        fn plain() -> Pieces {
            let hellos = [Block::new(5, 0, b"the client's"), Block::new(70, 0, b"the server's")];
            let answers = [hellos[1].echo(80), hellos[0].echo(60)];
            Pieces { versions: [3, 3], hellos, answers, at: [0, 20, 40, 30, 50, 60] }
        }

        fn signed() -> Pieces {
            let mut p = Pieces::plain();
            p.hellos[0] = Block::new(5, 0x0900_7c02, b"the client's");
            p.hellos[1] = Block::new(70, 0x0d0e_0a0d, b"the server's");
            let c1 = p.hellos[0].sign(Signer::Client, Schema::One);
            let s1 = p.hellos[1].sign(Signer::Server, Schema::Zero);
            p.answers = [Block::new(1, 2, b"random"), Block::new(3, 4, b"other")];
            p.answers[0].sign_answer(Signer::Client, &s1);
            p.answers[1].sign_answer(Signer::Server, &c1);
            p
        }

        fn shake(&self) -> Shake {
            let mut shake = Shake::default();
            let at = |n: usize| Time::from_micros(self.at[n] * 1000);
            for (i, from) in Direction::BOTH.into_iter().enumerate() {
                shake.version(from, self.versions[i]);
                shake.hello(from, at(i), &self.hellos[i]);
                shake.answer(from, at(2 + i), &self.answers[i]);
                shake.data(from, at(4 + i));
            }
            shake
        }

        fn notes(&self) -> String {
            let mut shake = self.shake();
            assert!(shake.is_whole());
            let notes = shake.departures([true; 2]);
            assert!(!shake.is_whole() && shake.departures([true; 2]).is_empty(), "told once");
            let told = notes.iter().map(|f| {
                format!("{} {} {} {}", f.direction, f.note.kind.name(), f.note.offset, f.note.value)
            });
            told.collect::<Vec<_>>().join("; ")
        }
    }

    #[test]
    fn each_departure_has_its_note() {
        type Row = (&'static str, fn(&mut Pieces), &'static str);
        let plain: [Row; 12] = [
            ("right", |_| {}, ""),
            ("S0", |p| p.versions[1] = 6, "s2c s0-version 0 6"),
            ("C1's word", |p| p.hellos[0].0[7] = 9, "c2s c1-word 1 9"),
            ("S1's word", |p| p.hellos[1].0[7] = 9, "s2c s1-word 1 9"),
            (
                "C1's copy",
                |p| (p.hellos[1], p.answers[0]) = (p.hellos[0].clone(), p.answers[1].clone()),
                "s2c s1-copy 1 5",
            ),
            ("S2 changed", |p| p.answers[1].0[1535] ^= 1, "s2c s2-echo 1537 1527"),
            ("C2 changed", |p| p.answers[0].0[8] ^= 1, "c2s c2-echo 1537 0"),
            ("S2's time", |p| p.answers[1].0[3] = 6, "s2c s2-time 1537 6"),
            ("C2's time", |p| p.answers[0].0[3] = 71, "c2s c2-time 1537 71"),
            ("all at once", |p| p.at = [0, 20, 0, 30, 0, 60], "c2s c2-early 1537 20000"),
            ("connect with C2", |p| p.at = [0, 20, 25, 30, 25, 60], "c2s c2-data-early 3073 5000"),
            ("the server goes on", |p| p.at = [0, 20, 40, 30, 50, 30], "s2c s2-data-early 3073 10000"),
        ];
        for (what, change, want) in plain {
            let mut pieces = Pieces::plain();
            change(&mut pieces);
            assert_eq!(pieces.notes(), want, "{what}");
        }
        let signed: [Row; 5] = [
            ("right", |_| {}, ""),
            // Many clients answer a signed S1 with its bytes.
            ("C2 is S1", |p| p.answers[0] = p.hellos[1].echo(0), ""),
            ("S2's signature", |p| p.answers[1].0[1535] ^= 1, "s2c s2-echo 1537 0"),
            ("C2's signature", |p| p.answers[0].0[1535] ^= 1, "c2s c2-echo 1537 0"),
            ("C1's digest", |p| p.hellos[0].0[1535] ^= 1, "c2s c1-word 1 151026690; s2c s2-echo 1537 0"),
        ];
        for (what, change, want) in signed {
            let mut pieces = Pieces::signed();
            change(&mut pieces);
            assert_eq!(pieces.notes(), want, "{what}");
        }
    }

    #[test]
    fn what_begins_anywhere_counts_where_an_answer_shows_a_handshake() {
        for pieces in [Pieces::plain, Pieces::signed] {
            for (break_it, says) in [(false, true), (true, false)] {
                let mut p = pieces();
                p.hellos[0].0[7] = 9;
                if break_it {
                    // Neither answer is one.
                    p.answers.iter_mut().for_each(|answer| answer.0[8..].fill(7));
                }
                let mut shake = p.shake();
                assert_eq!((!shake.departures([false; 2]).is_empty(), shake.is_met()), (says, says));
            }
        }
    }

    #[test]
    fn what_did_not_come_or_came_at_no_certain_time_is_not_said() {
        let mut shake = Shake::default();
        shake.version(Direction::C2s, 3);
        shake.hello(Direction::C2s, Time::ZERO, &Block::new(1, 7, b"x"));
        let kinds: Vec<_> = shake.departures([true; 2]).iter().map(|f| f.note.kind).collect();
        assert_eq!(kinds, [NoteKind::ClientWord]);
        let mut pieces = Pieces::plain();
        pieces.at = [0; 6];
        assert_eq!(pieces.notes(), "");
    }
}
