//! The seeds and regressions of every fuzz target, on stable.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rtmp_bench::fuzzing;

type Target = (&'static str, fn(&[u8]));

const TARGETS: &[Target] = &[
    ("amf0", fuzzing::amf0),
    ("capture", fuzzing::capture),
    ("chunk_split", fuzzing::chunk_split),
    ("scenario_text", fuzzing::scenario_text),
];

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The files of a folder but those whose names begin with a dot.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| !path.file_name().expect("a name").to_string_lossy().starts_with('.'));
    files.sort();
    files
}

#[test]
fn seeds_and_regressions_hold() {
    for (target, run) in TARGETS {
        let seeds = files(&fuzz().join("seeds").join(target));
        assert!(seeds.len() >= 5, "{target} has {} seeds", seeds.len());
        for path in seeds.iter().chain(&files(&fuzz().join("regressions").join(target))) {
            let bytes = fs::read(path).expect("a readable file");
            assert!(bytes.len() <= 4096, "{}: longer than what tests/run tries", path.display());
            if std::panic::catch_unwind(|| run(&bytes)).is_err() {
                panic!("{} fails", path.display());
            }
        }
    }
}

#[test]
fn every_target_is_among_them() {
    let stem = |path: &PathBuf| path.file_stem().expect("a name").to_string_lossy().into_owned();
    let listed: BTreeSet<String> = TARGETS.iter().map(|(name, _)| name.to_string()).collect();
    for folder in ["fuzz_targets", "seeds", "regressions"] {
        let found: BTreeSet<String> = files(&fuzz().join(folder)).iter().map(stem).collect();
        assert_eq!(found, listed, "{folder}");
    }
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).expect("the manifest");
    for target in &listed {
        assert!(manifest.contains(&format!("name = \"{target}\"")), "{target} is not in fuzz/Cargo.toml");
        let source = fs::read_to_string(fuzz().join(format!("fuzz_targets/{target}.rs"))).expect("a target");
        assert!(source.contains(&format!("fuzzing::{target}(")), "{target} calls another function");
    }
}
