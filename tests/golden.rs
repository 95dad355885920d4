//! Bytes derived by hand from the specifications, in `tests/golden/`, with what they are.

use std::fs;
use std::path::Path;

use rtmp_bench::fuzzing::{Seen, chunks_alike, cuts};
use rtmp_bench::wire::chunk::{ChunkHeader, ChunkWriter, Limits, Quirks, RawChunk, Type3Ext};
use rtmp_bench::wire::handshake::{BLOCK_LEN, Block, Schema, Signer};
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
        "chunks" | "written" => {
            let quirks = match arg {
                "" => Quirks::default(),
                "type-3-ext-peeked" => Quirks { type3_ext: Type3Ext::Peeked, ..Quirks::default() },
                name => Quirks::named(name).expect("a quirk"),
            };
            let seen = chunks_alike(bytes, quirks, Limits::default(), || cuts(7));
            let text = if kind == "chunks" {
                again = rewritten(&seen, bytes);
                seen.iter().map(event).collect::<Vec<_>>().join(" ")
            } else {
                write_again(&seen, &mut again)
            };
            if matches!(seen.last(), Some(Seen::Error(_))) {
                return Err(text);
            }
            text
        }
        "block" => {
            let mut block = block(bytes);
            let found = [Signer::Client, Signer::Server].map(|signer| block.digest(signer));
            let text =
                format!("{block:?} client={} server={}", place(&block, found[0]), place(&block, found[1]));
            for (signer, found) in [Signer::Client, Signer::Server].into_iter().zip(found) {
                if let Some((schema, _)) = found {
                    let place = block.digest_place(schema);
                    block.0[place].fill(0);
                    block.sign(signer, schema);
                }
            }
            again = block.0.to_vec();
            text
        }
        "answer" => {
            let digest: Vec<u8> =
                (0..32).map(|i| u8::from_str_radix(&arg[2 * i..2 * i + 2], 16).unwrap()).collect();
            let digest = digest.try_into().expect("32 bytes");
            let mut block = block(bytes);
            let signed = [Signer::Client, Signer::Server].map(|signer| block.answer_signed(signer, &digest));
            let text = format!("{block:?} client={} server={}", signed[0], signed[1]);
            if signed != [false; 2] {
                block.0[BLOCK_LEN - 32..].fill(0);
                block.sign_answer(if signed[0] { Signer::Client } else { Signer::Server }, &digest);
            }
            again = block.0.to_vec();
            text
        }
        _ => panic!("unknown kind '{kind}'"),
    };
    Ok((text, again))
}

fn block(bytes: &[u8]) -> Block {
    Block(Box::new(bytes.try_into().expect("1536 bytes")))
}

/// Where the digest is and its first four bytes.
fn place(block: &Block, found: Option<(Schema, [u8; 32])>) -> String {
    found.map_or("none".into(), |(schema, digest)| {
        let [a, b, c, d, ..] = digest;
        format!("{schema:?}@{}:{a:02x}{b:02x}{c:02x}{d:02x}", block.digest_place(schema).start)
    })
}

/// Each chunk written field by field.
fn rewritten(seen: &[Seen], bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for seen in seen {
        let Seen::Chunk(header) = *seen else { continue };
        let ChunkHeader { csid, timestamp, len, type_id, msid, ext, .. } = header;
        let fields = [11, 7, 3, 0][header.fmt as usize] + if ext.is_some() { 4 } else { 0 };
        let from = header.offset as usize + usize::from(header.basic_len) + fields;
        let payload = bytes[from..bytes.len().min(from + header.payload_len as usize)].to_vec();
        let (fmt, basic_len) = (header.fmt as u8, Some(header.basic_len));
        RawChunk { fmt, csid, basic_len, timestamp, len, type_id, msid, ext, payload }.write(&mut out);
    }
    out
}

/// The messages alone, and what the writer makes of them.
fn write_again(seen: &[Seen], again: &mut Vec<u8>) -> String {
    let mut writer = ChunkWriter::default();
    let messages = seen.iter().filter(|seen| matches!(seen, Seen::Message(..)));
    let text = messages.map(|seen| {
        if let Seen::Message(header, payload) = seen {
            writer.write(again, *header, payload, None);
        }
        event(seen)
    });
    text.collect::<Vec<_>>().join(" ")
}

fn event(seen: &Seen) -> String {
    match seen {
        Seen::Chunk(h) => {
            let mut text = format!("chunk {}: fmt={} csid={}", h.offset, h.fmt as u8, h.csid);
            if h.basic_len > 1 {
                text += &format!(" basic={}", h.basic_len);
            }
            let fields =
                [("time", h.timestamp), ("len", h.len), ("type", h.type_id.map(u32::from)), ("msid", h.msid)];
            for (name, value) in fields.into_iter().chain([("ext", h.ext)]).filter_map(|(n, v)| Some((n, v?)))
            {
                text +=
                    &if value < 1 << 20 { format!(" {name}={value}") } else { format!(" {name}={value:#x}") };
            }
            text + if h.first { " first +" } else { " more +" } + &h.payload_len.to_string()
        }
        Seen::Message(h, payload) => {
            let time =
                if h.timestamp < 1 << 20 { h.timestamp.to_string() } else { format!("{:#x}", h.timestamp) };
            let payload: Vec<String> =
                payload.chunk_by(|a, b| a == b).map(|run| format!("{:02X}*{}", run[0], run.len())).collect();
            format!(
                "message csid={} time={time} type={} msid={}: {}",
                h.csid,
                h.type_id,
                h.msid,
                payload.join(" ")
            )
            .trim_end()
            .into()
        }
        Seen::Note(note) => note.to_string(),
        Seen::Error(error) => error.to_string(),
    }
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
            let (hex, times) = byte.split_once('*').unwrap_or((byte, "1"));
            let wrong = |_| panic!("line {number}: '{byte}'");
            let times = times.parse().unwrap_or_else(|_| panic!("line {number}: '{byte}'"));
            self.bytes.extend(std::iter::repeat_n(u8::from_str_radix(hex, 16).unwrap_or_else(wrong), times));
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
