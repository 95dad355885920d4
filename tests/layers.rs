//! Imports point one way: reads the `crate::` paths of every source file and holds them against the table of `ARCHITECTURE.md`.

use std::fs;
use std::path::{Path, PathBuf};

/// What each layer may use, beside itself.
const MAY_USE: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("record", &[]),
    ("notation", &["wire"]),
    ("net", &["wire"]),
    ("scenario", &["wire", "notation", "net", "record"]),
    ("capture", &["wire", "notation", "net", "record"]),
    ("load", &["wire", "net", "capture", "record"]),
    ("fuzz", &["wire", "notation", "net", "scenario", "capture", "record"]),
    ("report", &["record", "notation"]),
    ("fuzzing", &["wire", "notation", "scenario", "capture"]),
    ("cli", &["wire", "notation", "net", "scenario", "capture", "load", "fuzz", "record", "report"]),
];

/// Modules that touch neither sockets nor clocks nor files.
const SANS_IO: &[&str] = &["wire", "notation", "report"];

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("src is there") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// The layer of a file: the first component below `src`.
fn layer(path: &Path) -> String {
    let below = path.strip_prefix("src").expect("below src");
    let first = below.components().next().expect("a name").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The layers that a line names behind `crate::`.
fn named(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    })
}

#[test]
fn imports_point_one_way() {
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    assert!(files.len() > 20, "only {} files found", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let own = layer(&file);
        if own == "lib" || own == "main" {
            continue;
        }
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == own) else {
            wrong.push(format!("{}: the layer '{own}' is not in the table", file.display()));
            continue;
        };
        let text = fs::read_to_string(&file).expect("a readable file");
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for used in
                named(line).filter(|used| *used != own && MAY_USE.iter().any(|(name, _)| name == used))
            {
                if !allowed.contains(&used) {
                    wrong.push(format!("{}:{number}: {own} may not use {used}", file.display()));
                }
            }
            let io = ["std::net", "std::fs", "tokio::", "Instant::now", "SystemTime::now"];
            if SANS_IO.contains(&own.as_str()) && io.iter().any(|word| line.contains(word)) {
                wrong.push(format!("{}:{number}: {own} touches no socket, clock or file", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
