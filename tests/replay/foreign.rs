//! Whole publishes through real servers over loopback: ours, nginx with the nginx-rtmp module, node-media-server, where they are installed.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rtmp_bench::capture;
use rtmp_bench::record::inspect::Session;
use serde_json::Value;

use crate::captures;
use crate::command::Served;

const MODULE: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";

/// A server of our own, which ends with this.
struct Foreign {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Foreign {
    fn nginx() -> Option<Foreign> {
        let program = ["/usr/sbin/nginx", "/usr/bin/nginx"].into_iter().find(|p| Path::new(p).exists());
        let Some(program) = program.filter(|_| Path::new(MODULE).exists()) else {
            return skipped("nginx with the nginx-rtmp module");
        };
        Some(Foreign::start(|port, folder| {
            std::fs::create_dir(folder.join("logs")).expect("logs/");
            let config = format!(
                "load_module {MODULE}; daemon off; pid nginx.pid; error_log logs/error.log; events {{}}
                rtmp {{ access_log off; server {{ listen 127.0.0.1:{port}; application live {{ live on; }} }} }}"
            );
            std::fs::write(folder.join("nginx.conf"), config).expect("written");
            let mut command = Command::new(program);
            command.arg("-p").arg(folder).args(["-c", "nginx.conf", "-e", "logs/error.log"]);
            command
        }))
    }

    /// From where `tests/run` installs it.
    fn node_media_server() -> Option<Foreign> {
        let module: PathBuf =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("target/npm/node_modules/node-media-server");
        if !module.exists() || Command::new("node").arg("--version").output().is_err() {
            return skipped("node-media-server");
        }
        Some(Foreign::start(|port, folder| {
            let script = format!(
                "const NMS = require('{}');
                new NMS({{ bind: '127.0.0.1', rtmp: {{ port: {port}, chunk_size: 60000, gop_cache: true, ping: 30, \
                 ping_timeout: 60 }}, logType: 0 }}).run();",
                module.display()
            );
            std::fs::write(folder.join("run.js"), script).expect("written");
            let mut command = Command::new("node");
            command.arg("run.js").current_dir(folder).stdout(std::process::Stdio::null());
            command
        }))
    }

    fn start(command: impl FnOnce(u16, &Path) -> Command) -> Foreign {
        let folder = tempfile::tempdir().expect("a folder");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let child = command(port, folder.path()).spawn().expect("a server that starts");
        let patience = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < patience, "the server does not listen");
            std::thread::yield_now();
        }
        Foreign { child, port, _folder: folder }
    }
}

fn skipped(what: &str) -> Option<Foreign> {
    #[allow(clippy::print_stdout)]
    {
        println!("SKIPPED: {what} is not installed");
    }
    None
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // The worker of nginx ends with it when it is told to, not when it is killed.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

#[test]
fn whole_publishes_go_through_the_reference_server() {
    let served = Served::with(&[]);
    replay_all(&served.1, &[]);
}

#[test]
fn whole_publishes_go_through_nginx() {
    let Some(nginx) = Foreign::nginx() else { return };
    // nginx-rtmp reads the first byte of an enhanced video message as a frame type that is no key frame, and relays no video
    // before a key frame.
    let enhanced = ("ertmp-hevc", "45 of 45 video frames did not come, the first is frame 1 ");
    replay_all(&format!("rtmp://127.0.0.1:{}/live", nginx.port), &[enhanced]);
}

#[test]
fn whole_publishes_go_through_node_media_server() {
    let Some(node) = Foreign::node_media_server() else { return };
    replay_all(&format!("rtmp://127.0.0.1:{}/live", node.port), &[]);
}

/// Every capture at once, each under a name of its own; `except`: what is known not to hold, by a part of the file's name and with what is said.
fn replay_all(server: &str, except: &[(&str, &str)]) {
    let publishes = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for (i, path) in captures().into_iter().enumerate() {
            let (target, publishes) = (format!("{server}/c{i}"), &publishes);
            let except = except.iter().find(|(part, _)| path.to_string_lossy().contains(part));
            scope.spawn(move || {
                let whole = whole_publishes(&path);
                let looked_at = verify(&path, &target, except.map(|(_, why)| *why));
                assert_eq!(looked_at, whole, "whole publishes of {}", path.display());
                publishes.fetch_add(whole, Ordering::Relaxed);
            });
        }
    });
    let publishes = publishes.into_inner();
    assert!(publishes >= 15, "{publishes}");
}

/// How many sessions of the capture publish coded frames, and without a hole in what the client sends.
fn whole_publishes(path: &Path) -> usize {
    let found = capture::read(path, false, &mut ()).expect("a capture");
    let whole = |s: &&Session| {
        let media = s.media.get("c2s").map(|m| [&m.audio, &m.video]);
        let frames: u64 = media.into_iter().flatten().flatten().map(|track| track.frames).sum();
        s.role.starts_with("publish") && frames > 0 && s.holes.iter().all(|h| h.direction != "c2s")
    };
    found.sessions.iter().filter(whole).count()
}

/// How many publishes of the capture came whole to a player, or not as `except` says.
fn verify(path: &Path, target: &str, except: Option<&str>) -> usize {
    let out = Command::new(env!("CARGO_BIN_EXE_rtmp-bench"))
        .arg("replay")
        .arg(path)
        .args([target, "--pace", "asap", "--verify", "--max-time", "60s", "-o", "json"])
        .output()
        .expect("rtmp-bench runs");
    let Ok(record) = serde_json::from_slice::<Value>(&out.stdout) else {
        // Nothing in it can be replayed; whoever calls knows whether that is so.
        assert_eq!(out.status.code(), Some(2), "{}", path.display());
        return 0;
    };
    let mut looked_at = 0;
    for session in record["replay"]["sessions"].as_array().expect("sessions") {
        for verify in session["verify"].as_array().into_iter().flatten() {
            let why = verify["why"].as_str().unwrap_or_default();
            assert!(
                except.map_or(verify["held"] == true, |except| why.starts_with(except)),
                "{}: {session}",
                path.display()
            );
            looked_at += 1;
        }
    }
    looked_at
}
