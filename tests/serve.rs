//! The verb `serve` as a user runs it: its first line, what it says of sessions, and its end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rtmp_bench::net::peer::fault_names;

const BINARY: &str = env!("CARGO_BIN_EXE_rtmp-bench");

/// A server, its URL, and what it says.
struct Server {
    child: Child,
    url: String,
    said: BufReader<ChildStderr>,
}

impl Server {
    fn start(more: &[&str]) -> Server {
        let mut child = Command::new(BINARY)
            .args(["serve", "127.0.0.1:0"])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let mut url = String::new();
        BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut url).expect("a line");
        let said = BufReader::new(child.stderr.take().expect("piped"));
        Server { child, url: url.trim_end().to_owned(), said }
    }

    fn address(&self) -> &str {
        self.url.strip_prefix("rtmp://").and_then(|rest| rest.strip_suffix("/live")).expect("a URL")
    }

    /// The lines until so many sessions have ended.
    fn until_ended(&mut self, sessions: usize) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        while lines.iter().filter(|line| line.contains(" ended after ")).count() < sessions {
            let mut line = String::new();
            assert_ne!(self.said.read_line(&mut line).expect("UTF-8"), 0, "{lines:?}");
            lines.push(line.trim_end().to_owned());
        }
        lines
    }

    fn stop(mut self, signal: Signal) -> (Option<i32>, String) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("a signal");
        let mut rest = String::new();
        self.said.read_to_string(&mut rest).expect("UTF-8");
        (self.child.wait().expect("an end").code(), rest)
    }
}

/// One publisher and one player of `key`, with a token.
fn load(server: &Server) {
    let url = format!("{}/sesame?token=tellnobody", server.url);
    let args = ["load", &url, "--players", "1", "--ramp", "0s", "--hold", "500ms", "--allow-limited"];
    let output = Command::new(BINARY).args(args).output().expect("the program runs");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_sessions_do_is_told_without_their_keys() {
    let mut server = Server::start(&[]);
    load(&server);
    let lines = server.until_ended(2);
    let all = lines.join("\n");
    let ends = |end: &str| lines.iter().filter(|line| line.ends_with(end)).count();
    assert_eq!((ends(" publishes live/***"), ends(" plays live/***")), (1, 1), "{all}");
    assert_eq!(ends("; closed by the client"), 2, "{all}");
    assert!(!all.contains("sesame") && !all.contains("tellnobody"), "{all}");
    // Where it comes from stands in each of its lines, and the publisher's bytes are what came.
    let publisher = lines.iter().find(|line| line.contains("publishes")).expect("one");
    let from = publisher.split(' ').nth(1).expect("an address");
    let end = lines.iter().find(|line| line.contains(from) && line.contains("ended")).expect("its end");
    assert!(end.contains(" of live ended after ") && from.starts_with("127.0.0.1:"), "{all}");
    let bytes = end.split(": ").last().and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    assert!(bytes > Some(40_000), "{end}");
    let (status, rest) = server.stop(Signal::SIGINT);
    assert!(status == Some(0) && rest.contains("stopped with 0 sessions open"), "{status:?} {rest}");
}

#[test]
fn keys_are_told_where_that_is_wanted() {
    let mut server = Server::start(&["--show-secrets"]);
    load(&server);
    let all = server.until_ended(2).join("\n");
    assert!(all.contains(" publishes live/sesame-0") && !all.contains("***"), "{all}");
    assert_eq!(server.stop(Signal::SIGTERM).0, Some(0));
}

#[test]
fn one_that_is_no_client_is_told_too() {
    let mut server = Server::start(&[]);
    drop(TcpStream::connect(server.address()).expect("it listens"));
    let all = server.until_ended(1).join("\n");
    assert!(
        all.contains(" before connect ended after ")
            && all.ends_with("0 bytes in, 0 out; closed by the client"),
        "{all}"
    );
    let mut socket = TcpStream::connect(server.address()).expect("it listens");
    // A handshake of zeros, and a chunk that continues what never began.
    let bytes = [&[3][..], &[0; 2 * 1536], &[0xC3; 100]].concat();
    socket.write_all(&bytes).expect("it reads");
    let all = server.until_ended(1).join("\n");
    assert!(all.contains(": 3173 bytes in, ") && !all.contains("closed by the client"), "{all}");
    assert_eq!(server.stop(Signal::SIGINT).0, Some(0));
}

#[test]
fn faults_are_listed_by_the_names_that_are_taken() {
    let output = Command::new(BINARY).args(["serve", "--list-faults"]).output().expect("the program runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let names: Vec<_> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, fault_names());
    let drops = text.lines().find(|line| line.starts_with("relay-drops ")).expect("one");
    assert!(drops.ends_with("; =N behind the name: another number than 7"), "{drops}");
}
