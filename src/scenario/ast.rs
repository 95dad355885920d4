//! A checked scenario: what the syntax makes and the engine runs.

use std::time::Duration;

use crate::notation::expr::{Expr, MessageExpr, MessagePat, Pat, Payload, Pos, SendFields, Text};
use crate::wire::note::NoteKind;
use crate::wire::session::Goal;

/// One file. Its id is its path without the suffix (`chunk/extended-timestamp`); a case of a table adds `:row`.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Path below the scenarios' folder, without `.scn`.
    pub id: String,
    /// What it says.
    pub title: String,
    /// Rows of `clauses.tsv`; the first one's level caps the verdict.
    pub clauses: Vec<String>,
    /// Rows of the list of field bugs.
    pub bugs: Vec<String>,
    /// Faults of the reference server that must worsen the verdict.
    pub bites: Vec<String>,
    /// Facts about the target without which it is skipped.
    pub needs: Vec<Fact>,
    /// Runs only with `--slow`.
    pub slow: bool,
    /// No other case runs meanwhile (`memory` implies it).
    pub alone: bool,
    /// One without a row name, or one a row of its `for` table.
    pub cases: Vec<Case>,
    /// What is done.
    pub steps: Vec<Step>,
}

/// One row of a `for` table.
#[derive(Debug, Clone, Default)]
pub struct Case {
    /// The row's name; `None` where there is no table.
    pub row: Option<String>,
    /// The variables and what they stand for.
    pub vars: Vec<(String, CaseValue)>,
}

/// What a variable of a table stands for.
#[derive(Debug, Clone)]
pub enum CaseValue {
    /// A value.
    Value(Expr),
    /// Bytes.
    Payload(Payload),
}

/// What calibration found or `--profile` said.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fact {
    /// `publish play ping acks amf3 ertmp relay streams taken missing pid vod one-shot`.
    pub name: String,
    /// `relay=passthrough`, `streams=many`, `taken=refuse`, `missing=wait`.
    pub value: Option<String>,
}

/// One line, on one connection.
#[derive(Debug, Clone)]
pub struct Step {
    /// Where it stands.
    pub pos: Pos,
    /// The connection it is about: `main` unless named; `c{i}` inside `repeat … as i`.
    pub conn: Text,
    /// What is done.
    pub kind: StepKind,
}

/// What a line does.
#[derive(Debug, Clone)]
pub enum StepKind {
    /// `let v = PAYLOAD`.
    Let(String, Payload),
    /// `reach GOAL [NAME] [with {…}] [acks=off pongs=off window=N chunk=N]`; not reached: blocked.
    Reach(Reach),
    /// `close`: FIN both ways, the socket is given back.
    Close,
    /// `half-close`: FIN, reading goes on.
    HalfClose,
    /// `reset`: RST.
    Reset,
    /// `stop reading`.
    StopReading,
    /// `resume reading`.
    ResumeReading,
    /// `wait TIME`.
    Wait(TimeSpec),
    /// `> …`.
    Send(Send),
    /// `together { … }`: the sends inside as one write.
    Together(Vec<Send>),
    /// `repeat N [as i] [every TIME] { … }`.
    Repeat {
        /// How often.
        count: Expr,
        /// Counts from 0.
        var: Option<String>,
        /// Time between beginnings.
        every: Option<TimeSpec>,
        /// What is repeated.
        body: Vec<Step>,
    },
    /// `< P [within TIME]`: the first not yet taken that matches; missing: blocked. `next < P`: the next message of P's type must match.
    Await(Await),
    /// `expect < P within TIME`, `never …`, `all …`, `in step`, `alive`, `controlled`, `relayed …`: pass, or what the row's level costs.
    Judge(Condition, Option<TimeSpec>),
    /// `one of [within TIME] { VERDICT ["label"] [within TIME] BRANCH … otherwise VERDICT "why" }`.
    OneOf {
        /// For all branches that say nothing else.
        within: Option<TimeSpec>,
        /// Tried in this order whenever something arrives.
        branches: Vec<Branch>,
        /// When time is up.
        otherwise: (Judgement, String),
    },
    /// `memory < N MiB { … }`: growth of the target's resident memory.
    Memory {
        /// Bytes.
        below: u64,
        /// What is done meanwhile.
        body: Vec<Step>,
    },
}

impl Step {
    /// Whether this holds of the step or of one inside it.
    pub fn any(&self, holds: &mut dyn FnMut(&Step) -> bool) -> bool {
        if holds(self) {
            return true;
        }
        let mut any = |steps: &[Step]| steps.iter().any(|step| step.any(holds));
        match &self.kind {
            StepKind::Repeat { body, .. } | StepKind::Memory { body, .. } => any(body),
            StepKind::Judge(Condition { kind: ConditionKind::Steps(body), .. }, _) => any(body),
            StepKind::OneOf { branches, .. } => branches.iter().any(|branch| match &branch.condition.kind {
                ConditionKind::Steps(body) => any(body),
                _ => false,
            }),
            _ => false,
        }
    }

    /// Whether the step itself sends this text as a value or the name of a command, or makes the bytes to send.
    pub fn says(&self, text: &str) -> bool {
        match &self.kind {
            StepKind::Let(_, payload) => payload.says(text),
            StepKind::Send(send) => send.says(text),
            StepKind::Together(sends) => sends.iter().any(|send| send.says(text)),
            _ => false,
        }
    }

    /// The conditions that the step itself states.
    pub fn conditions(&self) -> impl Iterator<Item = &Condition> {
        let (one, branches): (Option<&Condition>, &[Branch]) = match &self.kind {
            StepKind::Judge(condition, _) => (Some(condition), &[]),
            StepKind::OneOf { branches, .. } => (None, branches),
            _ => (None, &[]),
        };
        one.into_iter().chain(branches.iter().map(|branch| &branch.condition))
    }

    /// Whether it measures the target's memory.
    pub fn measures_memory(&self) -> bool {
        self.any(&mut |step| matches!(step.kind, StepKind::Memory { .. }))
    }

    /// Whether it asks a connection if it is in step.
    pub fn asks_in_step(&self) -> bool {
        let asks = |condition: &Condition| {
            matches!(condition.kind, ConditionKind::InStep | ConditionKind::Controlled)
        };
        self.any(&mut |step| step.conditions().any(asks))
    }
}

impl Reach {
    /// Whether the connection is as those of others, whatever its stream's name.
    pub fn is_customary(&self) -> bool {
        let Reach { goal: _, name: _, with, acks, pongs, window, chunk, signed } = self;
        with.is_none() && *acks && *pongs && window.is_none() && chunk.is_none() && signed.is_none()
    }
}

impl Send {
    fn says(&self, text: &str) -> bool {
        match &self.what {
            SendWhat::Message(message, _) => message.says(text),
            SendWhat::Chunk(chunk) => chunk.payload.says(text),
            SendWhat::Bytes(payload) => payload.says(text),
            SendWhat::C0(_) | SendWhat::C1 { .. } | SendWhat::C2 { .. } => false,
        }
    }
}

/// How a connection is brought to a goal.
#[derive(Debug, Clone)]
pub struct Reach {
    /// How far.
    pub goal: Goal,
    /// The stream name; `None`: the case's fresh random `$name`.
    pub name: Option<Text>,
    /// Fields of connect to add or replace.
    pub with: Option<Expr>,
    /// `acks=off`.
    pub acks: bool,
    /// `pongs=off`.
    pub pongs: bool,
    /// `window=N`.
    pub window: Option<Expr>,
    /// `chunk=N`.
    pub chunk: Option<Expr>,
    /// `signed=0|1`: C1 with a digest in this schema.
    pub signed: Option<u8>,
}

/// Something to send, and in which pieces.
#[derive(Debug, Clone)]
pub struct Send {
    /// Where it stands.
    pub pos: Pos,
    /// What.
    pub what: SendWhat,
    /// How it is cut into writes.
    pub split: Split,
    /// Time between the writes.
    pub gap: Option<TimeSpec>,
}

/// What is sent.
#[derive(Debug, Clone)]
pub enum SendWhat {
    /// `> MESSAGE [csid= ts= msid= fmt=]`, chunked by the connection's writer.
    Message(MessageExpr, SendFields),
    /// `> chunk FIELD=… PAYLOAD`: exactly these fields.
    Chunk(ChunkExpr),
    /// `> bytes PAYLOAD`.
    Bytes(Payload),
    /// `> C0 3`.
    C0(Expr),
    /// `> C1 [time= version= random= digest=client schema=0|1]`.
    C1 {
        /// The first word; default 0x01020304.
        time: Option<Expr>,
        /// The second word; default 0 (0x80000702 when signed).
        version: Option<Expr>,
        /// The other bytes, repeated to fit; default random from the seed.
        random: Option<Payload>,
        /// Signed in this schema.
        schema: Option<u8>,
    },
    /// `> C2 [echo] [signed] [time= version=] [random PAYLOAD] [flip=BIT]`; default: the echo of S1.
    C2 {
        /// Signed for S1's digest instead of an echo.
        signed: bool,
        /// The first word.
        time: Option<Expr>,
        /// The second word; default the time of reading.
        version: Option<Expr>,
        /// The other bytes.
        random: Option<Payload>,
        /// The bit of the whole block that is flipped last.
        flip: Option<Expr>,
    },
}

/// The fields of a raw chunk; see [`RawChunk`](crate::wire::chunk::RawChunk).
#[derive(Debug, Clone, Default)]
pub struct ChunkExpr {
    /// `fmt=`.
    pub fmt: Option<Expr>,
    /// `csid=`.
    pub csid: Option<Expr>,
    /// `form=1|2|3`: bytes of the basic header.
    pub form: Option<Expr>,
    /// `ts=`: the 24-bit field, or, at 0xFFFFFF and above without `ext=`, the marker and an extended timestamp.
    pub ts: Option<Expr>,
    /// `len=`.
    pub len: Option<Expr>,
    /// `type=`.
    pub type_id: Option<Expr>,
    /// `msid=`.
    pub msid: Option<Expr>,
    /// `ext=`.
    pub ext: Option<Expr>,
    /// The payload of this chunk.
    pub payload: Payload,
}

/// How bytes are cut into writes.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Split {
    /// One write.
    #[default]
    Whole,
    /// `split 1,9`: after these offsets.
    At(Vec<Expr>),
    /// `split each N`: pieces of N bytes.
    Each(Expr),
    /// `split random`: from the seed.
    Random,
}

/// A time: a kind that calibration fits to the target, or a literal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeSpec {
    /// `reply quiet close relay idle slow`.
    Kind(TimeKind),
    /// `5ms`, `2s`.
    Exactly(Duration),
}

/// The kinds of waits; defaults 2 s, 0.7 s, 5 s, 3 s, 70 s, 120 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum TimeKind {
    Reply,
    Quiet,
    Close,
    Relay,
    Idle,
    Slow,
}

/// `< P`.
#[derive(Debug, Clone)]
pub struct Await {
    /// What must come.
    pub pattern: Pattern,
    /// Default `reply`.
    pub within: Option<TimeSpec>,
    /// `next`: the next message of its type, no other in between.
    pub next: bool,
}

/// A pattern over what arrives on a connection.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// Where it stands.
    pub pos: Pos,
    /// What it takes.
    pub kind: PatternKind,
}

/// What a pattern takes.
#[derive(Debug, Clone)]
pub enum PatternKind {
    /// A message.
    Message(MessagePat),
    /// `S0 p`.
    S0(Pat),
    /// `S1 […]`, `S2 […]`.
    Block {
        /// 1 or 2.
        which: u8,
        /// What must hold of it.
        tests: Vec<BlockTest>,
    },
    /// `chunk fmt=p csid=p …`: a chunk header.
    Chunk(Vec<(ChunkField, Pat)>),
    /// `note KIND`.
    Note(NoteKind),
    /// `closed [by fin|rst]`.
    Closed(Option<CloseHow>),
    /// `unreadable`: the peer's bytes cannot be read further.
    Unreadable,
    /// `stuck`: a write of ours did not complete.
    Stuck,
    /// `a | b`.
    Or(Vec<Pattern>),
    /// `!a`: any arrival that a does not take.
    Not(Box<Pattern>),
}

/// What must hold of S1 or S2.
#[derive(Debug, Clone)]
pub enum BlockTest {
    /// `time=p`: the first word.
    Time(Pat),
    /// `zero=p`: the second word.
    Word(Pat),
    /// `random=PAYLOAD`: the other bytes, repeated to fit.
    Random(Payload),
    /// `echo`: the last 1528 bytes are C1's.
    Echo,
    /// `copy`: all but the first word equals C1 (S1 that is a copy).
    Copy,
    /// `digest=server` or `digest=server schema=n`: S1 has a valid digest; S2 a valid signature.
    Signed(Option<u8>),
    /// `!test`.
    Not(Box<BlockTest>),
}

/// A field of a chunk header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum ChunkField {
    Fmt,
    Csid,
    Form,
    Ts,
    Len,
    Type,
    Msid,
    Ext,
    /// `first=true`: a message begins here.
    First,
    /// Payload bytes of this chunk.
    Size,
}

/// How a peer closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseHow {
    /// End of stream.
    Fin,
    /// Connection reset.
    Rst,
}

/// A branch of `one of`.
#[derive(Debug, Clone)]
pub struct Branch {
    /// Where it stands.
    pub pos: Pos,
    /// What it costs when it holds.
    pub judgement: Judgement,
    /// Why, for people.
    pub label: Option<String>,
    /// Its own time.
    pub within: Option<TimeSpec>,
    /// When it holds.
    pub condition: Condition,
}

/// Something that holds or does not.
#[derive(Debug, Clone)]
pub struct Condition {
    /// Where it stands.
    pub pos: Pos,
    /// The connection it is about.
    pub conn: Text,
    /// What must hold.
    pub kind: ConditionKind,
}

/// What must hold.
#[derive(Debug, Clone)]
pub enum ConditionKind {
    /// `< P`.
    Seen(Pattern),
    /// `never < P for TIME`.
    NeverFor(Pattern, TimeSpec),
    /// `never < P until < Q`.
    NeverUntil(Pattern, Pattern),
    /// `all < P are Q`: of all that arrived so far; holds also when none did.
    All(Pattern, Pattern),
    /// `count a..b < P`: at the end of the time, so many matched.
    Count(Expr, Expr, Pattern),
    /// `received a..b`: bytes of this connection at the end of the time.
    Received(Expr, Expr),
    /// `in step`: this connection answers the sentinel that calibration found for this target.
    InStep,
    /// `alive`: a new connection reaches connected within the reply time.
    Alive,
    /// `controlled`: an error answer, a close or `in step`; and then `alive`.
    Controlled,
    /// `relayed a to b [spacing] [gaps at key] [tail N]`.
    Relayed {
        /// The sender.
        from: Text,
        /// The receiver.
        to: Text,
        /// Timestamps' differences are equal too.
        spacing: bool,
        /// Frames may be missing before a key frame (slow players).
        gaps_at_key: bool,
        /// The last frames sent, so many, need not come: filler that pushes the others out of servers that batch.
        tail: u32,
    },
    /// `again reach …`: tried anew on fresh connections until its time is up.
    Again(Box<Reach>),
    /// `{ several lines }`, all in this order.
    Steps(Vec<Step>),
}

/// What is said of a target at one point; the worst is the case's verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Judgement {
    /// Conformant.
    Pass,
    /// The text is silent; recorded.
    Info,
    /// Conformant, but not as a SHOULD or common practice says.
    Lenient,
    /// Not conformant; only where the row's level allows it.
    Fail,
    /// A crash, a hang, wrong bytes, harm to others: fail under every level.
    Broken,
}
