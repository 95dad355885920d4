//! The verb `check` as a user runs it: output and exit status.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Exit status, stdout and stderr of `check` with these arguments.
fn check(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rtmp-bench"));
    let output = command.current_dir(folder).arg("check").args(args).output().expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("an exit status"), text(output.stdout), text(output.stderr))
}

const RIGHT: &str =
    "scenario \"x\"\nclause rtmp/4/1\nfor n in { 1; 2 }\nreach connected\n> WindowAckSize $n\nin step\n";
const WRONG: &str = "scenario \"x\"\nreach conected\nin step\n";
const CLAUSES: &str = "id\tlevel\trole\tseverity\trequirement\tanswer\n";
const ROW: &str = "rtmp/4/1\tSHOULD\tserver\tinterop\tIt wraps.\t\n";

#[test]
fn what_is_right_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("chunk")).unwrap();
    fs::write(dir.path().join("chunk/a.scn"), RIGHT).unwrap();
    fs::write(dir.path().join("chunk/notes.txt"), WRONG).unwrap();
    let all = (0, "1 scenario, 2 cases checked\n".to_owned(), String::new());
    assert_eq!(check(dir.path(), &["."]), all);
    assert_eq!(check(dir.path(), &["chunk/a.scn"]), all);
    fs::write(dir.path().join("clauses.tsv"), format!("{CLAUSES}{ROW}")).unwrap();
    assert_eq!(check(dir.path(), &["."]), all);
}

#[test]
fn all_mistakes_of_all_files_are_told() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.scn"), RIGHT).unwrap();
    fs::write(dir.path().join("b.scn"), WRONG).unwrap();
    fs::write(dir.path().join("c.scn"), WRONG).unwrap();
    let (status, out, err) = check(dir.path(), &["b.scn", "a.scn", "c.scn"]);
    assert_eq!((status, out.as_str()), (2, ""));
    let mistake = |file: &str| {
        format!(
            "{file}:2:7: unknown goal 'conected'; did you mean 'connected'?\n  reach conected\n        ^\n"
        )
    };
    assert_eq!(err, format!("{}{}2 mistakes\n", mistake("b.scn"), mistake("c.scn")));
}

#[test]
fn rows_that_nothing_answers_are_told() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.scn"), RIGHT).unwrap();
    let other = ROW.replace("rtmp/4/1", "rtmp/4/2");
    fs::write(dir.path().join("clauses.tsv"), format!("{CLAUSES}{ROW}{other}")).unwrap();
    let (status, out, err) = check(dir.path(), &["."]);
    assert_eq!((status, out.as_str()), (2, ""));
    assert!(err.starts_with("./clauses.tsv:3:1: nothing answers rtmp/4/2: It wraps.\n"), "{err}");
    fs::write(dir.path().join("clauses.tsv"), format!("{CLAUSES}{}", ROW.replace("SHOULD", "should")))
        .unwrap();
    let (status, _, err) = check(dir.path(), &["."]);
    assert_eq!(status, 2);
    assert!(err.contains("clauses.tsv:2:10: unknown level 'should'; did you mean 'SHOULD'?"), "{err}");
}

#[test]
fn nothing_to_check_is_a_mistake() {
    let dir = tempfile::tempdir().unwrap();
    for (args, message) in [
        (&["."][..], "rtmp-bench: .: no file ends with .scn\n"),
        (&["none.scn"][..], "rtmp-bench: none.scn: No such file"),
    ] {
        let (status, out, err) = check(dir.path(), args);
        assert_eq!((status, out.as_str()), (2, ""));
        assert!(err.starts_with(message), "{err}");
    }
}

#[test]
fn what_is_no_text_is_told_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.scn"), [RIGHT.as_bytes(), "# é".as_bytes(), &[0xff, b'x']].concat())
        .unwrap();
    let (status, _, err) = check(dir.path(), &["a.scn"]);
    assert_eq!((status, err.as_str()), (2, "rtmp-bench: a.scn:7:4: byte 0xff is no UTF-8 text\n"));
}
