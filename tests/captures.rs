//! Every capture of a folder is read as its TRUTH.json says, which has a line for each: those of captures/, and those of `RTMP_BENCH_CAPTURES`.

use std::collections::BTreeMap;
use std::path::Path;

use rtmp_bench::capture;
use rtmp_bench::record::inspect::{Both, Inspect, Session};
use serde_json::Value;

/// The names of message types in TRUTH.json.
const TYPES: [(&str, u8); 10] = [
    ("SetChunkSize", 1),
    ("Ack", 3),
    ("UserCtl", 4),
    ("WinAck", 5),
    ("SetPeerBW", 6),
    ("Audio", 8),
    ("Video", 9),
    ("Data0", 18),
    ("Cmd0", 20),
    ("Aggregate", 22),
];

#[test]
fn shipped_captures_are_as_their_truth_says() {
    let checked = check_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("captures"));
    assert!(checked >= 15, "only {checked} captures are shipped");
}

#[test]
fn captures_elsewhere_are_as_their_truth_says() {
    if let Some(folder) = std::env::var_os("RTMP_BENCH_CAPTURES") {
        assert!(check_folder(Path::new(&folder)) > 0);
    }
}

/// How many files were checked.
fn check_folder(folder: &Path) -> usize {
    let truth = std::fs::read_to_string(folder.join("TRUTH.json")).expect("TRUTH.json");
    let truth: BTreeMap<String, Value> = serde_json::from_str(&truth).expect("TRUTH.json is JSON");
    let mut wrong = Vec::new();
    let files = std::fs::read_dir(folder).expect("a folder");
    let names = files.map(|f| f.expect("an entry").file_name().to_string_lossy().into_owned());
    let no_captures = ["README.md", "INDEX.md", "TRUTH.json", "notes.tsv"];
    for name in names.filter(|name| !no_captures.contains(&&name[..]) && !truth.contains_key(name)) {
        wrong.push(format!("{name}: TRUTH.json says nothing of it"));
    }
    for (file, truth) in &truth {
        match capture::read(&folder.join(file), false, &mut ()) {
            Ok(found) => check_file(&mut Differences { file, all: &mut wrong }, truth, &found),
            Err(e) => wrong.push(format!("{file}: {e}")),
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    truth.len()
}

struct Differences<'a> {
    file: &'a str,
    all: &'a mut Vec<String>,
}

impl Differences<'_> {
    fn equal<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, got: T, truth: T) {
        if got != truth {
            self.all.push(format!("{}: {what}: {got:?}, truth {truth:?}", self.file));
        }
    }
}

fn check_file(d: &mut Differences<'_>, truth: &Value, found: &Inspect) {
    assert_eq!(found.damage, None, "{}", d.file);
    if let Some(raw) = truth.get("raw") {
        let [session] = &found.sessions[..] else { return d.equal("sessions", found.sessions.len(), 1) };
        let direction = if session.bytes.c2s > 0 { "c2s" } else { "s2c" };
        d.equal("sha256", of(&session.sha256, direction).as_deref(), truth["sha256"].as_str());
        d.equal("bytes", Some(*of(&session.bytes, direction)), raw["bytes"].as_u64());
        return check_direction(d, direction, session, raw);
    }
    d.equal("packets", Some(found.packets), truth["packets"].as_u64());
    d.equal("TCP connections", Some(found.tcp_connections), truth["tcp_connections"].as_u64());
    d.equal("sessions", Some(found.sessions.len() as u64), truth["rtmp_sessions"].as_u64());
    for t in truth["sessions"].as_array().into_iter().flatten() {
        let stream = t["stream"].as_u64().unwrap_or(u64::MAX);
        if t["rtmp"] != true {
            let other = found.other.iter().find(|o| o.stream == stream);
            let conn = t["conn"].as_str().unwrap_or_default().replace('#', "");
            d.equal(&format!("other {stream}"), other.map(|o| o.key.as_str()), Some(&conn[..]));
            let bytes = |direction: &str| t[direction]["tcp_payload_bytes"].as_u64();
            d.equal("other bytes", other.map(|o| o.bytes.c2s), bytes("c2s"));
            d.equal("other bytes", other.map(|o| o.bytes.s2c), bytes("s2c"));
            continue;
        }
        let Some(s) = found.sessions.iter().find(|s| s.stream == stream) else {
            d.equal(&format!("session {stream}"), "missing", "there");
            continue;
        };
        if t["role"] != "?" {
            d.equal("role", s.role.as_str(), t["role"].as_str().unwrap_or_default());
        }
        for direction in ["c2s", "s2c"] {
            let side = &t[direction];
            let name = |what: &str| format!("session {stream} {direction} {what}");
            d.equal(&name("bytes"), Some(*of(&s.bytes, direction)), side["tcp_payload_bytes"].as_u64());
            d.equal(&name("sha256"), of(&s.sha256, direction).as_deref(), side["sha256"].as_str());
            let holes: Vec<_> =
                s.holes.iter().filter(|h| h.direction == direction).map(|h| (h.offset, h.bytes)).collect();
            d.equal(&name("holes"), Some(holes.len() as u64), side["holes"].as_u64());
            let first: Vec<(u64, u64)> =
                serde_json::from_value(side["first_holes"].clone()).unwrap_or_default();
            d.equal(&name("first holes"), &holes[..holes.len().min(first.len())], &first[..]);
            let cut: u64 = s
                .holes
                .iter()
                .filter(|h| h.direction == direction && h.cause == "snaplen")
                .map(|h| h.bytes)
                .sum();
            d.equal(&name("bytes cut"), Some(cut), side["bytes_cut_by_snaplen"].as_u64());
            check_direction(d, direction, s, side);
        }
        let holes =
            ["c2s", "s2c"].iter().filter_map(|direction| t[*direction]["holes"].as_u64()).sum::<u64>();
        d.equal(&format!("session {stream} complete"), s.complete, holes == 0);
    }
}

fn check_direction(d: &mut Differences<'_>, direction: &str, s: &Session, truth: &Value) {
    let messages: BTreeMap<u8, u64> = truth["messages"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, n)| {
            (TYPES.iter().find(|t| t.0 == name).map_or(0, |t| t.1), n.as_u64().unwrap_or_default())
        })
        .collect();
    let name = |what: &str| format!("session {} {direction} {what}", s.stream);
    d.equal(&name("messages"), of(&s.messages, direction), &messages);
    let sizes: Vec<u32> = serde_json::from_value(truth["set_chunk_size"].clone()).unwrap_or_default();
    d.equal(&name("chunk sizes"), of(&s.chunk_sizes, direction), &sizes);
    let commands: Vec<String> = serde_json::from_value(truth["commands"].clone()).unwrap_or_default();
    d.equal(&name("commands"), of(&s.commands, direction), &commands);
}

fn of<'a, T>(both: &'a Both<T>, direction: &str) -> &'a T {
    if direction == "c2s" { &both.c2s } else { &both.s2c }
}
