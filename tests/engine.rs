//! What each form of a scenario says of a server that does one thing: a table of scripts, steps and verdicts. Time is simulated.

mod memory;

use std::time::Duration;

use memory::{Act, Script, Scripted, say, status};
use rtmp_bench::record::{Case, Verdict};
use rtmp_bench::scenario::clauses::{Clauses, Level, Severity};
use rtmp_bench::scenario::suite::{Settings, Suite, run};
use rtmp_bench::wire::amf0::Value;
use rtmp_bench::wire::chunk::MessageHeader;
use rtmp_bench::wire::message::{Command, Message};

fn poke(message: &Message) -> Option<&Command> {
    match message {
        Message::Command(command) if command.name == "poke" => Some(command),
        _ => None,
    }
}

fn answer(name: &str, command: &Command, n: f64) -> Act {
    let id = command.transaction_id.unwrap_or(0.0);
    say(Message::command(name, id, vec![Value::Null, Value::Number(n)]))
}

fn plain(_: &Message, _: MessageHeader) -> Option<Vec<Act>> {
    None
}

fn error_then_close(message: &Message, _: MessageHeader) -> Option<Vec<Act>> {
    poke(message).map(|c| vec![answer("_error", c, 0.0), Act::Close])
}

fn closes(message: &Message, _: MessageHeader) -> Option<Vec<Act>> {
    poke(message).map(|_| vec![Act::Close])
}

fn mutes(message: &Message, _: MessageHeader) -> Option<Vec<Act>> {
    poke(message).map(|_| vec![Act::Mute])
}

fn answers(message: &Message, _: MessageHeader) -> Option<Vec<Act>> {
    poke(message).map(|c| vec![answer("_result", c, 5.0)])
}

fn answers_twice(message: &Message, _: MessageHeader) -> Option<Vec<Act>> {
    poke(message).map(|c| vec![answer("_result", c, 5.0), Act::Wait(300), answer("_result", c, 6.0)])
}

fn answers_late(message: &Message, _: MessageHeader) -> Option<Vec<Act>> {
    poke(message).map(|c| vec![Act::Wait(2_500), answer("_result", c, 5.0)])
}

fn status_then_answer(message: &Message, _: MessageHeader) -> Option<Vec<Act>> {
    poke(message).map(|c| vec![status("status", "A.B"), Act::Wait(1_500), answer("_result", c, 5.0)])
}

/// Confirms a publisher, and closes it soon after.
fn drops_publishers(message: &Message, _: MessageHeader) -> Option<Vec<Act>> {
    match message {
        Message::Command(c) if c.name == "publish" => {
            Some(vec![status("status", "NetStream.Publish.Start"), Act::Wait(400), Act::Close])
        }
        _ => None,
    }
}

/// Closes a publisher whose first frame comes.
fn closes_at_media(message: &Message, _: MessageHeader) -> Option<Vec<Act>> {
    matches!(message, Message::Audio(_)).then(|| vec![Act::Close])
}

fn echoes_media(message: &Message, header: MessageHeader) -> Option<Vec<Act>> {
    let Message::Audio(_) = message else { return None };
    let fields = rtmp_bench::wire::session::Fields {
        timestamp: Some(header.timestamp.wrapping_add(1_000)),
        msid: Some(1),
        ..Default::default()
    };
    Some(vec![Act::Say(message.clone(), fields)])
}

fn echoes_media_twice(message: &Message, header: MessageHeader) -> Option<Vec<Act>> {
    echoes_media(message, header).map(|acts| [acts.clone(), acts].concat())
}

const ORDER: &str =
    "one of {\n pass < closed\n lenient \"error first\" < _error(7, ...)\n otherwise fail \"neither\"\n}";

/// Name, server, level of the row, steps behind `reach connected` and `> poke(7, null)`, verdict, and what the reason holds.
type Row = (&'static str, Script, Level, &'static str, Verdict, &'static str);

fn table() -> Vec<Row> {
    use Level::{Defacto, May, Must, Should};
    use Verdict::{Blocked, Fail, Info, Lenient, Pass};
    vec![
        ("arrival order, not branch order", error_then_close, Must, ORDER, Lenient, "error first"),
        ("also after a wait", error_then_close, Must, concat_wait(), Lenient, "error first"),
        (
            "branch order where one arrival suits both",
            answers,
            Must,
            "one of {\n info < _result(...)\n pass < _result(7, ...)\n otherwise fail \"no\"\n}",
            Info,
            "_result",
        ),
        ("otherwise", mutes, Must, ORDER, Fail, "neither"),
        (
            "broken under SHOULD",
            mutes,
            Should,
            "one of {\n pass < _result(...)\n otherwise broken \"hangs\"\n}",
            Fail,
            "hangs",
        ),
        (
            "its own time",
            answers_late,
            Must,
            "one of {\n lenient within 1s < closed\n pass within close < _result(...)\n otherwise fail \"no\"\n}",
            Pass,
            "",
        ),
        (
            "a block in order",
            status_then_answer,
            Must,
            "one of {\n pass {\n < onStatus(...)\n < _result(...)\n }\n otherwise fail \"no\"\n}",
            Pass,
            "onStatus",
        ),
        (
            "a block the wrong way round",
            status_then_answer,
            Must,
            "one of {\n pass {\n < _result(...)\n next < onStatus(...)\n }\n otherwise fail \"wrong way\"\n}",
            Fail,
            "wrong way",
        ),
        ("a precondition", mutes, Must, "< _result(...)\nin step", Blocked, "expected `< _result(...)`"),
        ("expect, MUST", mutes, Must, "expect < _result(...)", Fail, "last came"),
        ("expect, SHOULD", mutes, Should, "expect < _result(...)", Lenient, "expected"),
        ("expect, MAY", mutes, May, "expect < _result(...)", Info, "expected"),
        ("expect, de facto", mutes, Defacto, "expect < _result(...)", Lenient, "expected"),
        ("too late", answers_late, Must, "expect < _result(...) within reply", Fail, "expected"),
        ("in time", answers_late, Must, "expect < _result(...) within close", Pass, ""),
        (
            "the worst is the verdict",
            mutes,
            Should,
            "expect < _result(...)\nexpect < S0 3\nin step",
            Lenient,
            "expected",
        ),
        (
            "a failed precondition outweighs lenient",
            mutes,
            Should,
            "expect < _result(...)\n< _result(...)",
            Blocked,
            "line 8",
        ),
        ("never, quiet", answers, Must, "< _result(...)\nnever < _result(...) for quiet", Pass, ""),
        (
            "never, it came",
            answers_twice,
            Must,
            "< _result(...)\nnever < _result(...) for quiet",
            Fail,
            "came",
        ),
        (
            "never until, in order",
            status_then_answer,
            Must,
            "never < _result(...) until < onStatus(...)",
            Pass,
            "",
        ),
        (
            "never until, before it",
            status_then_answer,
            Must,
            "never < onStatus(...) until < _result(...)",
            Fail,
            "came",
        ),
        (
            "never until, which never came",
            mutes,
            Must,
            "never < _error(...) until < _result(...)",
            Fail,
            "did not come",
        ),
        ("count", answers_twice, Must, "expect count 2..2 < _result(7, ...) within reply", Pass, ""),
        (
            "count, too many",
            answers_twice,
            Must,
            "expect count 0..1 < _result(7, ...) within reply",
            Fail,
            "2 came",
        ),
        ("all are", answers_twice, Must, "wait 1s\nall < _result(7, ...) are _result(_, _, 5..6)", Pass, ""),
        (
            "all are not",
            answers_twice,
            Must,
            "wait 1s\nall < _result(7, ...) are _result(_, _, 5)",
            Fail,
            "6",
        ),
        (
            "next",
            answers_twice,
            Must,
            "next < _result(7, null, 5)\nnext < _result(7, null, 6)\nin step",
            Pass,
            "",
        ),
        ("next is another", answers_twice, Must, "next < _result(7, null, 6)\nin step", Blocked, "next"),
        (
            "what is taken is gone",
            answers,
            Must,
            "< _result(7, ...)\n< _result(7, ...)\nin step",
            Blocked,
            "line 8",
        ),
        ("what reach used up is gone", answers, Must, "< _result(1, ...)\nin step", Blocked, "line 7"),
        ("states stay", closes, Must, "< closed\nexpect < closed\nexpect < S0 3\nexpect < S0 3", Pass, ""),
        (
            "a name is bound once",
            answers_twice,
            Must,
            "< _result(7, null, $n)\nexpect < _result(7, null, $n)",
            Fail,
            "",
        ),
        (
            "arithmetic",
            answers_twice,
            Must,
            "< _result(7, null, $n)\nexpect < _result(7, null, $n+1)",
            Pass,
            "",
        ),
        ("in step", answers, Must, "in step", Pass, ""),
        ("not in step", closes, Must, "in step", Fail, "sentinel"),
        ("controlled by a close", closes, Must, "controlled", Pass, ""),
        ("controlled by an error", error_then_close, Must, "controlled", Pass, ""),
        ("not controlled", mutes, May, "controlled", Fail, "not controlled"),
        ("received", plain, Must, "expect received 3074..9999 within quiet", Pass, ""),
        ("received too little", plain, Must, "expect received 9000..9999 within quiet", Fail, "bytes came"),
        (
            "relayed",
            echoes_media,
            Must,
            "reach publishing\n> audio aac.frame(99) ts=40\n> audio aac.frame(98) ts=80\nrelayed main to main spacing",
            Pass,
            "",
        ),
        (
            "relayed twice",
            echoes_media_twice,
            Must,
            "reach publishing\n> audio aac.frame(99) ts=40\nrelayed main to main",
            Fail,
            "came twice",
        ),
        (
            "not relayed",
            plain,
            Must,
            "reach publishing\n> audio aac.frame(99) ts=40\nrelayed main to main",
            Fail,
            "did not come",
        ),
        (
            "a send to the dead judges nothing",
            closes,
            Must,
            "< closed\n> poke(8, null)\nexpect < closed by fin",
            Pass,
            "",
        ),
        ("again", closes, Must, "expect again reach connected", Pass, ""),
        ("memory of nobody", answers, Must, "memory < 64MiB {\n > poke(9, null)\n}", Lenient, "not measured"),
        (
            "times of a loop",
            answers,
            Must,
            "repeat 3 as i every 500ms {\n > poke($i+20, null)\n < _result($i+20, ...)\n}\nin step",
            Pass,
            "",
        ),
    ]
}

const fn concat_wait() -> &'static str {
    "wait 1s\none of {\n pass < closed\n lenient \"error first\" < _error(7, ...)\n otherwise fail \"neither\"\n}"
}

fn clause(level: Level) -> &'static str {
    let clauses = Clauses::built_in();
    let fits =
        |c: &&rtmp_bench::scenario::clauses::Clause| c.level == level && c.severity != Severity::Security;
    &clauses.iter().find(fits).expect("a clause of each level").id
}

fn judge(script: Script, level: Level, steps: &str) -> (Case, Duration) {
    judge_steps(script, level, &format!("reach connected\n> poke(7, null)\n\n{steps}"))
}

fn judge_steps(script: Script, level: Level, steps: &str) -> (Case, Duration) {
    let text = format!("scenario \"x\"\nclause {}\n\n{steps}\n", clause(level));
    let file = ("x".to_owned(), "x.scn".to_owned(), text);
    let suite = Suite::parse(&[file], Clauses::built_in()).unwrap_or_else(|errors| panic!("{errors}"));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let began = tokio::time::Instant::now();
        let report =
            run(&suite, &Settings::default(), Scripted::new(script), &mut |_| {}).await.expect("reachable");
        (report.outcomes[0].case.clone(), began.elapsed())
    })
}

#[test]
fn every_form_says_what_it_should() {
    let mut wrong = Vec::new();
    for (name, script, level, steps, verdict, why) in table() {
        let (case, _) = judge(script, level, steps);
        if case.verdict != verdict || !case.why.contains(why) {
            wrong.push(format!(
                "{name}: {} instead of {}: {}",
                case.verdict.name(),
                verdict.name(),
                case.why
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Where a publisher is closed before the file asks anything, nothing is judged; behind anything that may be why, it is.
#[test]
fn a_publisher_cut_off_is_no_loss() {
    let relayed = "play reach playing\nwait 1s\npub > audio aac.frame(40)\nrelayed pub to play";
    let one_of = "play reach playing\nwait 1s\npub > audio aac.frame(40)\none of {\n pass relayed pub to play\n otherwise fail \"lost\"\n}";
    let (cut, why) = (Verdict::Blocked, "pub was closed by the target before anything was asked");
    for (script, before, verdict, why) in [
        (drops_publishers as Script, "pub reach publishing", cut, why),
        (closes_at_media, "pub reach publishing", Verdict::Fail, ""),
        (drops_publishers, "pub reach publishing with {a: 1}", Verdict::Fail, ""),
        (
            drops_publishers,
            "pub reach created\npub > WindowAckSize 7\npub reach publishing",
            Verdict::Fail,
            "",
        ),
        (drops_publishers, "reach connected\n> WindowAckSize 7\npub reach publishing", Verdict::Fail, ""),
        (drops_publishers, "reach connected\nreset\npub reach publishing", Verdict::Fail, ""),
        (drops_publishers, "pub reach publishing\nother reach publishing", Verdict::Fail, ""),
        (
            drops_publishers,
            "pub reach publishing\nwait 1s\nother reach connected\nother > WindowAckSize 7",
            cut,
            why,
        ),
    ] {
        for after in [relayed, one_of] {
            let (case, _) = judge_steps(script, Level::Must, &format!("{before}\n{after}"));
            assert!(case.verdict == verdict && case.why.contains(why), "{before}: {}", case.why);
        }
    }
}

#[test]
fn nothing_is_awaited_from_the_dead() {
    let (case, _) = judge(closes, Level::Must, "expect < _result(...) within idle");
    assert_eq!((case.verdict, case.duration_ms), (Verdict::Fail, 0));
    let (case, _) = judge(closes, Level::Must, "never < _result(...) for idle");
    assert_eq!((case.verdict, case.duration_ms), (Verdict::Pass, 0));
}

#[test]
fn a_case_that_does_not_end_is_ended() {
    let (case, took) = judge(plain, Level::Must, "wait 500s\nin step");
    assert_eq!((case.verdict, case.branch.as_str()), (Verdict::Blocked, "out of time"));
    assert!(took < Duration::from_secs(60), "{took:?}");
}

#[test]
fn what_is_needed_and_missing_is_skipped() {
    let text =
        format!("scenario \"x\"\nclause {}\nneeds vod\n\nreach connected\nin step\n", clause(Level::Must));
    let files = [("x".to_owned(), "x.scn".to_owned(), text)];
    let suite = Suite::parse(&files, Clauses::built_in()).unwrap_or_else(|errors| panic!("{errors}"));
    for (profile, verdict) in [(vec![], Verdict::Skip), (vec!["vod".parse().unwrap()], Verdict::Pass)] {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let settings = Settings { profile, ..Settings::default() };
        let report =
            runtime.block_on(run(&suite, &settings, Scripted::new(plain), &mut |_| {})).expect("reachable");
        assert_eq!(report.outcomes[0].case.verdict, verdict, "{:?}", report.outcomes[0].case);
    }
}

#[test]
fn what_did_not_run_is_told() {
    let file = |id: &str, steps: &str| {
        let text = format!("scenario \"x\"\nclause {}\n\nreach connected\n{steps}\n", clause(Level::Must));
        (id.to_owned(), format!("{id}.scn"), text)
    };
    let files = [file("a", "expect < closed"), file("b", "wait 20s\nin step"), file("c", "in step")];
    let suite = Suite::parse(&files, Clauses::built_in()).unwrap_or_else(|errors| panic!("{errors}"));
    let table = [
        (Settings { jobs: 1, fail_fast: true, ..Settings::default() }, ["fail", "skip", "skip"]),
        (
            Settings { jobs: 1, max_time: Duration::from_secs(10), ..Settings::default() },
            ["fail", "blocked", "blocked"],
        ),
        (Settings::default(), ["fail", "pass", "pass"]),
    ];
    for (settings, want) in table {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let mut told = 0;
        let server = Scripted::new(plain);
        let report = runtime.block_on(run(&suite, &settings, server, &mut |_| told += 1)).expect("reachable");
        let verdicts: Vec<&str> = report.outcomes.iter().map(|o| o.case.verdict.name()).collect();
        assert_eq!((verdicts, told), (want.to_vec(), 3));
    }
}

/// Steps against the reference server, and the verdict.
const AGAINST_THE_PEER: [(&str, &str, Verdict); 17] = [
    (
        "by hand",
        "reach open\n> C0 3\n> C1 time=7\nexpect < S2 echo time=7\n> C2\nreach connected\nin step",
        Verdict::Pass,
    ),
    (
        "another echo",
        "reach open\n> C0 3\n> C1 random=fill(9, 1)\nexpect < S2 random=fill(9, 1)",
        Verdict::Pass,
    ),
    (
        "no such echo",
        "reach open\n> C0 3\n> C1 random=fill(9, 1)\nexpect < S2 random=fill(8, 1)",
        Verdict::Fail,
    ),
    (
        "signed 0",
        "reach open\n> C0 3\n> C1 digest=client schema=0\nexpect < S1 digest=server schema=0\nexpect < S2 digest=server",
        Verdict::Pass,
    ),
    (
        "signed 1",
        "reach open\n> C0 3\n> C1 digest=client schema=1\nexpect < S1 digest=server schema=1\n> C2 signed\nreach connected",
        Verdict::Pass,
    ),
    ("unsigned", "reach open\n> C0 3\n> C1\nexpect < S1 digest=server", Verdict::Fail),
    ("signed by the session", "reach connected signed=1\nexpect < S2 digest=server\nin step", Verdict::Pass),
    ("in step before connect", "reach handshaken\nin step", Verdict::Pass),
    ("half-close", "reach connected\nhalf-close\nexpect < closed within close", Verdict::Pass),
    ("reset", "reach connected\nreset\nalive", Verdict::Pass),
    (
        "stuck",
        "play reach playing\npub reach publishing\nplay stop reading\nrepeat 400 as i { pub > audio aac.frame(60000) ts=$i }\npub in step",
        Verdict::Pass,
    ),
    ("again", "reach publishing\nclose\nexpect again reach publishing\nin step", Verdict::Pass),
    ("a second stream", "reach publishing\nreach publishing \"{name}-2\"\nin step", Verdict::Pass),
    ("taken", "a reach publishing\nb reach publishing\nalive", Verdict::Blocked),
    (
        "together",
        "reach connected\ntogether {\n > createStream(20, null)\n > createStream(21, null)\n}\nexpect < _result(20, ...)\nexpect < _result(21, ...)",
        Verdict::Pass,
    ),
    (
        "pieces",
        "reach created\n> createStream(20, null) split random gap 1ms\nexpect < _result(20, ...)\n> createStream(21, null) split 1,5 gap 1ms\nexpect < _result(21, ...)",
        Verdict::Pass,
    ),
    (
        "aggregates are frames",
        "pub reach publishing\nplay reach playing\npub > aggregate { audio aac.frame(30) ts=0 ; audio aac.frame(31) ts=20 } ts=40\nrelayed pub to play spacing",
        Verdict::Pass,
    ),
];

#[test]
fn forms_against_the_reference_server() {
    let file = |(name, steps, _): &(&str, &str, Verdict)| {
        let text = format!("scenario \"x\"\nclause {}\n\n{steps}\n", clause(Level::Must));
        (name.replace(' ', "-"), format!("{name}.scn"), text)
    };
    let files: Vec<_> = AGAINST_THE_PEER.iter().map(file).collect();
    let suite = Suite::parse(&files, Clauses::built_in()).unwrap_or_else(|errors| panic!("{errors}"));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let report = runtime.block_on(async {
        let peer = std::sync::Arc::new(rtmp_bench::net::peer::Peer::new(Default::default()));
        run(&suite, &Settings::default(), peer, &mut |_| {}).await.expect("reachable")
    });
    assert_eq!(report.fingerprint.facts.iter().filter(|fact| *fact == "relay=passthrough").count(), 1);
    let mut wrong = Vec::new();
    for (name, _, verdict) in AGAINST_THE_PEER {
        let id = name.replace(' ', "-");
        let case = &report.outcomes.iter().find(|outcome| outcome.case.id == id).expect(name).case;
        if case.verdict != verdict {
            wrong.push(format!(
                "{name}: {} instead of {}: {}",
                case.verdict.name(),
                verdict.name(),
                case.why
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
