//! Bytes derived by hand from the specifications, in `tests/golden/`, with what they are.

use std::fs;
use std::path::Path;

use rtmp_bench::wire::{amf0, message::Message};

/// What the bytes are, as text, and the same encoded again. A new kind is a new arm.
fn read(kind: &str, bytes: &[u8]) -> Result<(String, Vec<u8>), String> {
    let (kind, arg) = kind.split_once(' ').unwrap_or((kind, ""));
    let mut again = Vec::new();
    let text = match kind {
        "amf0" => {
            let values = amf0::decode_all(bytes).map_err(|e| e.to_string())?;
            amf0::encode_all(&values, &mut again);
            format!("{values:?}")
        }
        "message" => {
            let type_id = arg.parse().expect("a message type id");
            let message = Message::decode(type_id, bytes).map_err(|e| e.to_string())?;
            message.encode(&mut again);
            assert_eq!(message.type_id(), type_id);
            format!("{message:?}")
        }
        _ => panic!("unknown kind '{kind}'"),
    };
    Ok((text, again))
}

struct Case {
    line: usize,
    kind: String,
    bytes: Vec<u8>,
    mark: char,
    expected: String,
}

fn parse(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(kind) = line.strip_prefix("case ") {
            let kind = kind.split('#').next().unwrap_or_default().trim().to_string();
            cases.push(Case { line: i + 1, kind, bytes: vec![], mark: ' ', expected: String::new() });
        } else if !line.is_empty() && !line.starts_with('#') {
            let case = cases.last_mut().expect("a case begins with 'case'");
            case.add(line, i + 1);
        }
    }
    cases
}

impl Case {
    fn add(&mut self, line: &str, number: usize) {
        if let Some(mark) = line.chars().next().filter(|c| "=~!".contains(*c)) {
            assert!(self.mark == ' ' || self.mark == mark, "line {number}: a second mark");
            let gap = if self.mark == ' ' { "" } else { " " };
            self.mark = mark;
            self.expected += gap;
            self.expected += line[1..].trim();
            return;
        }
        assert!(self.mark == ' ', "line {number}: hex behind the expectation");
        for byte in line.split('#').next().unwrap_or_default().split_whitespace() {
            self.bytes
                .push(u8::from_str_radix(byte, 16).unwrap_or_else(|_| panic!("line {number}: '{byte}'")));
        }
    }

    fn run(&self) -> Result<(), String> {
        let differs = |what: &str, found: &dyn std::fmt::Debug| Err(format!("{what}\n   found {found:?}"));
        match (self.mark, read(&self.kind, &self.bytes)) {
            ('!', Err(error)) if error == self.expected => Ok(()),
            ('=' | '~', Ok((text, _))) if text != self.expected => differs(&self.expected, &text),
            ('=', Ok((_, again))) if again != self.bytes => differs("encoded again it differs", &again),
            ('~', Ok((_, again))) if again == self.bytes => {
                Err("encoded again it is the same: '=' is right".into())
            }
            ('~', Ok((text, again))) if read(&self.kind, &again).map(|r| r.0).as_ref() != Ok(&text) => {
                differs("encoded and read again it differs", &again)
            }
            ('=' | '~', Ok(_)) => Ok(()),
            (' ', _) => Err("no expectation".into()),
            (_, found) => differs(&self.expected, &found),
        }
    }
}

#[test]
fn golden_bytes_are_read_and_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut failures = Vec::new();
    let mut cases = 0;
    for entry in fs::read_dir(folder).expect("the folder of golden files") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|e| e != "hex") {
            continue;
        }
        for case in parse(&fs::read_to_string(&path).expect("a golden file")) {
            cases += 1;
            if let Err(failure) = case.run() {
                failures.push(format!("{}:{}: {failure}", path.display(), case.line));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {cases}\n{}", failures.len(), failures.join("\n"));
    assert!(cases > 50, "only {cases} cases");
}
