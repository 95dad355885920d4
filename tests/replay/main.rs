//! `replay`: captures sent again, against the reference server, against servers that are odd or hostile, and against other real ones where they are.

#[path = "../capture_gen/mod.rs"]
mod capture_gen;
mod command;
mod foreign;
mod odd;
mod recorded;
mod simulated;
mod verify;

use std::path::{Path, PathBuf};

/// A capture of the folder `captures/`.
pub fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("captures").join(name)
}

/// Every capture of `captures/` and of the folder that `RTMP_BENCH_CAPTURES` names.
pub fn captures() -> Vec<PathBuf> {
    let elsewhere = std::env::var_os("RTMP_BENCH_CAPTURES").map(PathBuf::from);
    let folders = [Some(shipped("")), elsewhere];
    let mut files: Vec<PathBuf> = folders
        .into_iter()
        .flatten()
        .flat_map(|folder| std::fs::read_dir(folder).expect("a folder of captures"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            path.extension().is_some_and(|e| ["pcap", "pcapng", "cap"].iter().any(|known| e == *known))
        })
        .collect();
    files.sort();
    files
}
