//! The verb `test` as a user runs it: output and exit status.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_rtmp-bench");
/// A case that takes milliseconds, and the fault that breaks it.
const CASE: &str = "chunk/type-3-after-type-0";
const FAULT: &str = "type-3-after-type-0-zero";

fn run(args: &[&str]) -> Output {
    Command::new(BINARY).arg("test").args(args).output().expect("the program runs")
}

fn status(output: &Output) -> i32 {
    output.status.code().expect("an exit status")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {} {}", out(output), err(output)))
}

/// `serve` with these arguments, ended when it is dropped, and its URL.
struct Server(Child, String);

impl Server {
    fn start(args: &[&str]) -> Server {
        let mut child = Command::new(BINARY)
            .args(["serve", "127.0.0.1:0"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program runs");
        let mut url = String::new();
        BufReader::new(child.stdout.as_mut().expect("stdout is piped")).read_line(&mut url).expect("a line");
        Server(child, url.trim().to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A URL where nobody listens.
fn nobody() -> String {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("rtmp://127.0.0.1:{port}/live")
}

#[test]
fn without_a_target_the_reference_server_is_judged_clean() {
    let output = run(&["-s", "chunk/type-*"]);
    assert_eq!(status(&output), 0, "{}{}", out(&output), err(&output));
    let text = out(&output);
    assert!(text.contains("the built-in reference server") && text.contains("nothing found"), "{text}");
}

#[test]
fn a_finding_names_clause_trace_and_the_command_that_runs_it_again() {
    let server = Server::start(&["--fault", FAULT]);
    let output = run(&[&server.1, "-s", CASE, "--strict", "-o", "json"]);
    assert_eq!(status(&output), 1, "{}", err(&output));
    let record = json(&output);
    let cases = record["test"]["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 1);
    let case = &cases[0];
    assert_eq!(record["schema"], "rtmp-bench/record/1");
    assert_eq!(record["outcome"], "found");
    assert_eq!(case["id"], CASE);
    assert_eq!(case["verdict"], "lenient");
    assert_eq!(case["clause"][0], "rtmp/5.3.1.2.4/4");
    assert!(!case["trace"].as_array().expect("a trace").is_empty());
    let repeat = case["repeat"].as_str().expect("a command").to_owned();
    let again =
        Command::new("sh").arg("-c").arg(repeat.replacen("rtmp-bench", BINARY, 1)).output().expect("sh runs");
    let text = out(&again);
    assert!(status(&again) == 1 && text.contains(CASE) && text.contains("\n1 case in "), "{text}");
    assert!(
        text.contains("clause    rtmp/5.3.1.2.4/4") && text.contains("  again     rtmp-bench test"),
        "{text}"
    );
}

#[test]
fn expectations_are_written_held_and_outgrown() {
    let server = Server::start(&["--fault", FAULT]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("expect.txt");
    let name = file.to_str().unwrap();
    let judged = |more: &[&str]| {
        let mut args = vec![server.1.as_str(), "-s", CASE, "--strict"];
        args.extend(more);
        run(&args)
    };
    assert_eq!(status(&judged(&["--write-expect", name])), 1);
    let written = fs::read_to_string(&file).unwrap();
    assert!(written.starts_with(&format!("{CASE} lenient \"")), "{written}");
    assert_eq!(status(&judged(&["--expect", name])), 0);
    // Better than expected is a finding too.
    fs::write(&file, format!("{CASE} fail \"why\"\n")).unwrap();
    let output = judged(&["--expect", name]);
    assert_eq!(status(&output), 1, "{}", out(&output));
    // So is an id that no case has.
    fs::write(&file, format!("{CASE} lenient \"why\"\nchunk/gone fail \"why\"\n")).unwrap();
    let output = judged(&["--expect", name]);
    let text = out(&output);
    assert!(
        status(&output) == 1 && text.contains("FAIL     chunk/gone") && text.contains("- 1 found"),
        "{text}"
    );
    let junit = out(&judged(&["--expect", name, "-o", "junit"]));
    assert!(junit.contains("failures=\"1\"") && junit.contains("chunk/gone"), "{junit}");
    // Reasons that hold are kept.
    fs::write(&file, format!("# mine\n{CASE} lenient \"our reason\"\n")).unwrap();
    assert_eq!(status(&judged(&["--write-expect", name])), 0);
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("# mine\n{CASE} lenient \"our reason\"\n"));
}

#[test]
fn what_cannot_run_says_place_and_expectation() {
    let dir = tempfile::tempdir().unwrap();
    let scenario = dir.path().join("x.scn");
    fs::write(&scenario, "scenario \"x\"\nclause rtmp/4/1\nreach conected\nin step\n").unwrap();
    let expect = dir.path().join("expect.txt");
    fs::write(&expect, "chunk/x fial \"why\"\n").unwrap();
    let twice = dir.path().join("twice");
    for folder in ["a", "b"] {
        fs::create_dir_all(twice.join(folder).join("scenarios")).unwrap();
        let text = "scenario \"x\"\nclause rtmp/4/1\nreach connected\nin step\n";
        fs::write(twice.join(folder).join("scenarios/x.scn"), text).unwrap();
    }
    let empty = tempfile::tempdir().unwrap();
    let table: [(&[&str], &str); 17] = [
        (&["http://host/live"], "the scheme is neither rtmp nor rtmps; expected rtmp[s]://host[:port]/app"),
        (
            &["-s", scenario.to_str().unwrap()],
            "x.scn:3:7: unknown goal 'conected'; did you mean 'connected'?",
        ),
        (&["-s", "no/such"], "no scenario is selected by -s no/such"),
        (
            &["-s", CASE, "-s", "chunk/type-3-after-type-9"],
            "type-3-after-type-9; did you mean 'chunk/type-3-after-type-",
        ),
        (&["-s", CASE, "--severity", "security"], "is left out by --severity"),
        (&["-s", CASE, "-s", empty.path().to_str().unwrap()], "no file in it ends with .scn"),
        (&["-s", "handshake"], "did you mean 'handshake/*'?"),
        (&["-s", CASE, "--pid", "999999999"], "no such process"),
        (
            &["--profile", "relay=x"],
            "expected relay=passthrough or relay=remux or relay=transcode or relay=partial",
        ),
        (&["-s", "scenarios/chunk/no-header-yet.scn:type-9"], "the file has no row 'type-9'"),
        (&["-s", twice.to_str().unwrap()], "are both 'x'"),
        (&["-s", CASE, "--write-expect", "/nonexistent/x"], "/nonexistent/x: No such file"),
        (&["-o", "xml"], "unknown format 'xml'; expected text, json, junit or pcapng:DIR"),
        (&["-o", "json", "-o", "junit"], "only one can be on stdout"),
        (&["--expect", expect.to_str().unwrap()], "expect.txt:1:9: expected pass"),
        (&["--jobs", "0"], "0"),
        (&["--max-time", "soon"], "soon"),
    ];
    for (args, want) in table {
        let output = run(args);
        assert_eq!(status(&output), 2, "{args:?}: {}", err(&output));
        assert!(err(&output).contains(want), "{args:?}: {}", err(&output));
    }
}

/// A job that nobody watches must not be green because little of it ran.
#[test]
fn what_did_not_run_in_time_is_blocked() {
    let dir = tempfile::tempdir().unwrap();
    let expect = dir.path().join("expect.txt");
    fs::write(&expect, format!("{CASE} lenient \"mine\"\n")).unwrap();
    for time in ["1ms", "2s"] {
        let output = run(&["--max-time", time, "--write-expect", expect.to_str().unwrap(), "-o", "json"]);
        assert_eq!(status(&output), 1, "{time}: {}", err(&output));
        assert!(err(&output).contains("not all cases ran"), "{time}: {}", err(&output));
        let record = json(&output);
        assert_eq!(record["outcome"], "found");
        let cases = record["test"]["cases"].as_array().unwrap();
        let not_run = cases.iter().filter(|case| case["branch"] == "not run");
        assert!(
            not_run.clone().count() > 0 && not_run.clone().all(|case| case["verdict"] == "blocked"),
            "{time}"
        );
    }
    assert_eq!(fs::read_to_string(&expect).unwrap(), format!("{CASE} lenient \"mine\"\n"));
}

#[test]
fn a_target_that_is_down_is_exit_3_and_a_record_says_so() {
    let output = run(&[&nobody(), "-o", "json"]);
    assert_eq!(status(&output), 3, "{}", err(&output));
    assert_eq!(json(&output)["outcome"], "unreachable");
    let output = run(&[&nobody(), "--probe"]);
    assert_eq!(status(&output), 3);
    let output = run(&[&nobody(), "--wait-target", "300ms", "-s", CASE]);
    assert_eq!(status(&output), 3);
}

#[test]
fn a_list_has_an_entry_a_case() {
    let listed = json(&run(&["--list", "-s", CASE, "-o", "json"]));
    let entry = &listed.as_array().expect("a list")[0];
    assert_eq!(entry["id"], CASE);
    assert_eq!(entry["clause"][0], "rtmp/5.3.1.2.4/4");
    assert_eq!(entry["level"], "implied");
    assert!(entry["title"].as_str().is_some_and(|t| !t.is_empty()));
}

#[test]
fn a_probe_is_one_screen() {
    let text = out(&run(&["--probe"]));
    assert!(text.lines().count() <= 25, "{text}");
    for row in ["handshake", "chunk size", "sentinel", "relay", "name taken", "idle latency"] {
        assert!(text.lines().any(|line| line.trim_start().starts_with(row)), "{row} is missing:\n{text}");
    }
}

#[test]
fn what_answers_like_http_has_no_handshake() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtmp://{}/live", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], &[b'x'; 2000]].concat();
            let _ = std::io::Write::write_all(&mut &stream, &answer);
        }
    });
    let text = out(&run(&[&url, "--probe"]));
    let row = |name: &str| text.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_default();
    assert!(row("handshake").ends_with("not found out"), "{text}");
    assert!(row("refusal").contains("version 72: not RTMP; HTTP begins so"), "{text}");
}

#[test]
fn junit_and_captures_hold_the_findings() {
    let server = Server::start(&["--fault", FAULT]);
    let dir = tempfile::tempdir().unwrap();
    let (xml, caps) = (dir.path().join("j.xml"), dir.path().join("caps"));
    let (junit, pcapng) = (format!("junit:{}", xml.display()), format!("pcapng:{}", caps.display()));
    let output = run(&[&server.1, "-s", CASE, "-s", "chunk/type-1", "--strict", "-o", &junit, "-o", &pcapng]);
    assert_eq!(status(&output), 1);
    assert!(out(&output).contains("1 found"), "text stays on stdout");
    let xml = fs::read_to_string(xml).unwrap();
    assert!(xml.contains("tests=\"2\" skipped=\"0\" failures=\"1\""), "{xml}");
    let names: Vec<_> = fs::read_dir(&caps).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, [format!("{}.pcapng", CASE.replace('/', "-")).as_str()]);
    let capture = caps.join(&names[0]);
    let inspected = Command::new(BINARY).args(["inspect", "-o", "json"]).arg(&capture).output().unwrap();
    let sessions = &json(&inspected)["inspect"]["sessions"];
    assert_eq!(
        sessions.as_array().expect("sessions").len(),
        2,
        "the publisher's and the player's: {sessions}"
    );
}

#[test]
fn flags_come_from_the_environment_too() {
    let output = Command::new(BINARY)
        .arg("test")
        .args(["-s", CASE])
        .env("RTMP_BENCH_LIST", "1")
        .env("RTMP_BENCH_OUTPUT", "json")
        .output()
        .unwrap();
    assert_eq!(json(&output).as_array().map(Vec::len), Some(1));
}

#[test]
fn a_variable_that_says_no_is_as_none_and_one_that_is_in_the_way_is_named() {
    let with = |value: &str| {
        let mut command = Command::new(BINARY);
        let args = ["test", "--list", "-s", CASE, "--tls-ca", "none.pem"];
        command.args(args).env("RTMP_BENCH_INSECURE", value).output().expect("the program runs")
    };
    assert_eq!(status(&with("false")), 0, "{}", err(&with("false")));
    let refused = with("true");
    assert_eq!(status(&refused), 2);
    assert!(err(&refused).contains("RTMP_BENCH_INSECURE of the environment says so"), "{}", err(&refused));
    assert!(!err(&refused).contains("TLS_CA of the environment"), "{}", err(&refused));
}

#[test]
fn secrets_are_masked_in_every_output() {
    let server = Server::start(&["--fault", FAULT]);
    let url = format!("{}/secretkey?token=tellnobody", server.1);
    for format in ["text", "json"] {
        let output = run(&[&url, "-s", CASE, "--strict", "-o", format]);
        assert_eq!(status(&output), 1, "{}", err(&output));
        let all = out(&output) + &err(&output);
        assert!(!all.contains("tellnobody") && !all.contains("secretkey"), "{format}: {all}");
        assert!(all.contains("token=***"), "{format}: {all}");
    }
    // Where nobody listens, the command dies.
    let spawn = "echo secretkey-1 rtmp://me:tellnobody@h/live/a?token=tellnobody; exit 1";
    let url = nobody() + "/secretkey?token=tellnobody";
    for format in ["text", "json"] {
        let output = run(&[&url, "-s", CASE, "--spawn", spawn, "-o", format]);
        let all = out(&output) + &err(&output);
        assert!(!all.contains("tellnobody") && !all.contains("secretkey"), "{format}: {all}");
    }
}

#[test]
fn secrets_are_masked_where_the_target_is_wrong_or_out_of_place() {
    let tests: [(&[&str], &str); 6] = [
        (
            &["test", "rtmp://u:tellnobody@h:x/live/tellnobody?k=tellnobody"],
            "'rtmp://***@h:x/live/***?k=***'",
        ),
        (&["load", "u:tellnobody@h/live"], "'***@h/live'"),
        (&["test", "rtmp://h/live", "rtmp://h/live/tellnobody"], "argument 'rtmp://h/live/***'"),
        (&["rtmp://h/live/tellnobody"], "subcommand 'rtmp://h/live/***'"),
        (&["replay", "rtmp://h/live/tellnobody"], "a URL stands where the file of a capture is expected"),
        (&["inspect", "rtmp://h/live/tellnobody"], "a URL stands where the file of a capture is expected"),
    ];
    for (args, told) in tests {
        let output = Command::new(BINARY).args(args).output().expect("the program runs");
        let said = err(&output);
        assert_eq!(status(&output), 2, "{said}");
        assert!(said.contains(told) && !said.contains("tellnobody"), "{args:?}: {said}");
    }
}

/// The names of both streams would be one if the second's were behind the query.
#[test]
fn a_query_stays_behind_the_name_of_each_stream() {
    let server = Server::start(&[]);
    let url = format!("{}/secretkey?token=tellnobody", server.1);
    let two_streams = ["control/stream-eof", "chunk/csid-after-delete-stream"];
    let output = run(&[&url, "-s", two_streams[0], "-s", two_streams[1], "--strict"]);
    assert_eq!(status(&output), 0, "{}", out(&output));
}

/// At chunk size 128 the header of a chunk stands inside the token.
#[test]
fn secrets_are_masked_in_captures_wherever_they_are_cut() {
    let server = Server::start(&["--fault", FAULT]);
    let (dir, token) = (tempfile::tempdir().unwrap(), "tellnobody".repeat(20));
    let url = format!("{}/secretkey?token={token}", server.1);
    let pcapng = format!("pcapng:{}", dir.path().display());
    let output = run(&[&url, "-s", CASE, "--strict", "-o", &pcapng]);
    assert_eq!(status(&output), 1, "{}", out(&output));
    let capture = dir.path().join(CASE.replace('/', "-") + ".pcapng");
    let args = ["inspect", "--show-secrets", "--messages"];
    let inspected = Command::new(BINARY).args(args).arg(capture).output().unwrap();
    let names = out(&inspected).lines().filter(|line| line.contains("publish(")).collect::<String>();
    assert!(names.contains("***") && !names.contains("nobody"), "{names}");
}

#[test]
fn the_first_interrupt_reports() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtmp://{}/live", silent.local_addr().unwrap());
    for more in [&[][..], &["--probe"]] {
        let child = Command::new(BINARY)
            .args(["test", &url, "-o", "json"])
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        // It waits for an answer that never comes.
        let held = silent.accept().expect("it connects");
        kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
        let output = child.wait_with_output().unwrap();
        drop(held);
        assert_eq!(status(&output), 130);
        assert_eq!(json(&output)["outcome"], "interrupted");
    }
}

#[test]
fn what_cannot_be_is_said_before_anything_runs() {
    let nowhere = run(&["-s", CASE, "-o", "json:/nonexistent/x.json"]);
    assert_eq!(status(&nowhere), 2);
    assert!(err(&nowhere).contains("/nonexistent/x.json: No such file") && out(&nowhere).is_empty());
    let fact = run(&["-s", CASE, "--profile", "realy=passthrough"]);
    assert_eq!(status(&fact), 2);
    assert!(err(&fact).contains("did you mean 'relay'?"), "{}", err(&fact));
}

#[test]
fn an_unreachable_target_is_so_in_words_and_in_the_record() {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let url = format!("rtmp://127.0.0.1:{port}/live");
    let told = run(&[&url]);
    assert_eq!(status(&told), 3);
    assert!(out(&told).contains("nothing was judged: main: no connection"), "{}", out(&told));
    let record = json(&run(&[&url, "-o", "json"]));
    assert_eq!(record["outcome"], "unreachable");
    assert!(record["why"].as_str().is_some_and(|why| why.contains("refused")), "{record}");
    let xml = out(&run(&[&url, "-o", "junit"]));
    assert!(xml.contains("errors=\"1\"") && xml.contains("Connection refused"), "{xml}");
}

#[test]
fn the_trace_shows_chunks_as_they_were_written() {
    let server = Server::start(&["--fault", FAULT]);
    let told = run(&[&server.1, "-s", CASE, "--strict"]);
    assert_eq!(status(&told), 1);
    assert!(out(&told).contains("> a write of "), "{}", out(&told));
    assert!(out(&told).contains("` would pass; last came: "), "{}", out(&told));
}

#[test]
fn a_case_of_a_file_can_be_run_again_by_the_command_that_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("own.scn");
    let text = "scenario \"own\"\nclause rtmp/5.2.1/1\nfor n in { one: 1 ; two: 2 }\n\n\
                reach connected\nnever < PingRequest $n for 1ms\n";
    fs::write(&file, text).expect("written");
    let place = file.display().to_string();
    let all = json(&run(&["-s", &place, "-o", "json"]));
    let cases = all["test"]["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 2);
    let repeat = cases[1]["repeat"].as_str().expect("a command");
    assert!(repeat.ends_with(&format!("-s '{place}:two'")), "{repeat}");
    let one = json(&run(&["-s", &format!("{place}:two"), "-o", "json"]));
    assert_eq!(one["test"]["cases"].as_array().expect("cases").len(), 1);
    assert_eq!(one["test"]["cases"][0]["id"], cases[1]["id"]);
    let none = run(&["-s", &format!("{place}:three")]);
    assert_eq!(status(&none), 2, "{}", out(&none));
}
