//! The record's JSON Schema is the one that is published, and records hold to it. `BLESS=1` writes it anew.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

#[test]
fn the_published_schema_is_the_records_own() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("reports/record.schema.json");
    if std::env::var_os("BLESS").is_some() {
        let text = serde_json::to_string_pretty(&rtmp_bench::record::schema()).unwrap() + "\n";
        fs::write(&file, text).expect("reports is there");
    }
    let text = fs::read_to_string(file).expect("the schema is there");
    let published: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(published, rtmp_bench::record::schema(), "run with BLESS=1 when the change is meant");
}

#[test]
fn records_hold_to_it() {
    let validator = jsonschema::validator_for(&rtmp_bench::record::schema()).expect("a schema");
    let runs: [&[&str]; 4] = [
        &["test", "-s", "chunk/type-1", "-o", "json"],
        &["test", "--probe", "-o", "json"],
        &["load", "--players", "2", "--ramp", "0s", "--hold", "1s", "-o", "json"],
        &["inspect", "captures/loc-gst-rtmpsink-librtmp-publish.pcapng", "-o", "json"],
    ];
    for args in runs {
        let output = Command::new(env!("CARGO_BIN_EXE_rtmp-bench"))
            .args(args)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("the program runs");
        let record: Value = serde_json::from_slice(&output.stdout).expect("a record");
        let errors: Vec<String> =
            validator.iter_errors(&record).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{args:?}: {}", errors.join("\n"));
        // The schema says something: a record without its verb is none.
        let mut wrong = record.clone();
        wrong.as_object_mut().expect("an object").remove("verb");
        assert!(!validator.is_valid(&wrong));
    }
}
