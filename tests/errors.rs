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
