//! The language of scenarios: every example of its reference is right, and each mistake has its message.

use rtmp_bench::scenario::check::{Known, read};
use rtmp_bench::scenario::clauses::Clauses;

fn known() -> Known<'static> {
    Known { clauses: Clauses::built_in(), faults: &["no-acks", "ext-timestamp-lost"] }
}

/// The fenced blocks of the reference as whole files: `scn` is one, `scn steps` are lines of one.
fn examples() -> Vec<(usize, String)> {
    let reference = include_str!("../scenarios/README.md");
    let mut examples = Vec::new();
    let mut lines = (1..).zip(reference.lines());
    while let Some((number, line)) = lines.next() {
        let head = match line {
            "```scn" => "",
            "```scn steps" => {
                "scenario \"example\"\nclause rtmp/5.3.1.3/4\nreach publishing\nplay reach playing\n"
            }
            _ => continue,
        };
        let body: Vec<&str> =
            lines.by_ref().map(|(_, line)| line).take_while(|line| !line.starts_with("```")).collect();
        examples.push((number, format!("{head}{}\n", body.join("\n"))));
    }
    examples
}

#[test]
fn examples_of_the_reference_are_right() {
    let examples = examples();
    assert!(examples.len() >= 10, "{} examples", examples.len());
    let mut wrong = String::new();
    for (line, text) in examples {
        let file = format!("README.md, the block of line {line}");
        for error in read("example", &text, known()).err().into_iter().flatten() {
            wrong.push_str(&error.render(&file, &text));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Each `.scn` of `tests/errors` has its messages in the `.err` beside it. `BLESS=1` writes them.
#[test]
fn each_mistake_has_its_message() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/errors");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "scn"));
    files.sort();
    assert!(files.len() >= 60, "{} mistakes", files.len());
    let mut differ = Vec::new();
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let errors = read("x", &text, known()).err().unwrap_or_default();
        let found: String = errors.iter().map(|error| error.render(name, &text)).collect();
        let expected = path.with_extension("err");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&expected, &found).unwrap();
        }
        if found.is_empty() || std::fs::read_to_string(&expected).unwrap_or_default() != found {
            differ.push(format!("{name}:\n{found}"));
        }
    }
    assert!(differ.is_empty(), "other messages than expected:\n{}", differ.join("\n"));
}

/// The first message of a file that is made to be too much of something.
fn first_message(steps: &str) -> String {
    let text = format!("scenario \"x\"\nclause rtmp/5.3.1.3/4\n{steps}\nin step\n");
    let errors = read("x", &text, known()).expect_err("too much");
    assert!(errors.len() <= 50, "{} messages", errors.len());
    errors[0].to_string()
}

#[test]
fn sizes_are_bounded() {
    let reach = "reach connected\n";
    let rows = [
        (format!("#{}", "x".repeat(8 << 20)), "1:1: 8388653 bytes where a scenario has at most 8388608"),
        (
            format!("{reach}> call({})", "1,".repeat(60_000)),
            "4:99996: more than 100000 words, strings, numbers and signs",
        ),
        (format!("{reach}> call({}1{})", "[".repeat(100), "]".repeat(100)), "4:108: nested deeper than 100"),
        (format!("{reach}< {}audio", "!".repeat(101)), "4:104: nested deeper than 100"),
        (
            format!("for n in {{ {} }}", (0..1001).map(|n| format!("{n};")).collect::<String>()),
            "3:3902: more than 1000 rows",
        ),
        (
            format!("{reach}< call({})", (0..200).map(|n| format!("$x{n},")).collect::<String>()),
            "4:1: more than 200 names",
        ),
        (format!("{reach}> call({})", "$x,".repeat(1000)), "4:8: unbound name '$x'"),
    ];
    for (steps, message) in rows {
        assert_eq!(first_message(&steps), message);
    }
}
