//! Replays against nginx with the nginx-rtmp module, where both are installed.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::captures;

const MODULE: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";

/// An nginx of our own, which ends with this.
struct Nginx {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Nginx {
    /// `None`, with a line that says so, where it is not installed.
    fn start() -> Option<Nginx> {
        let program = ["/usr/sbin/nginx", "/usr/bin/nginx"].into_iter().find(|p| Path::new(p).exists());
        let Some(program) = program.filter(|_| Path::new(MODULE).exists()) else {
            #[allow(clippy::print_stdout)]
            {
                println!("skipped: nginx with the nginx-rtmp module is not installed");
            }
            return None;
        };
        let folder = tempfile::tempdir().expect("a folder");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        std::fs::create_dir(folder.path().join("logs")).expect("logs/");
        let config = format!(
            "load_module {MODULE}; daemon off; pid nginx.pid; error_log logs/error.log; events {{}}
            rtmp {{ access_log off; server {{ listen 127.0.0.1:{port}; application live {{ live on; }} }} }}"
        );
        std::fs::write(folder.path().join("nginx.conf"), config).expect("written");
        let child = Command::new(program)
            .arg("-p")
            .arg(folder.path())
            .args(["-c", "nginx.conf", "-e", "logs/error.log"])
            .spawn()
            .expect("nginx runs");
        let patience = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < patience, "nginx does not listen");
            std::thread::yield_now();
        }
        Some(Nginx { child, port, _folder: folder })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its worker ends with it when it is told to, not when it is killed.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

#[test]
fn whole_publishes_go_through_nginx() {
    let Some(nginx) = Nginx::start() else { return };
    let verified = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for (i, path) in captures().into_iter().enumerate() {
            let (target, verified) = (format!("rtmp://127.0.0.1:{}/live/c{i}", nginx.port), &verified);
            scope.spawn(move || verified.fetch_add(verify(&path, &target), Ordering::Relaxed));
        }
    });
    assert!(verified.into_inner() >= 12);
}

/// How many publishes of the capture came whole to a player.
fn verify(path: &Path, target: &str) -> usize {
    let out = Command::new(env!("CARGO_BIN_EXE_rtmp-bench"))
        .arg("replay")
        .arg(path)
        .args([target, "--pace", "asap", "--verify", "--max-time", "60s", "-o", "json"])
        .output()
        .expect("rtmp-bench runs");
    let Ok(record) = serde_json::from_slice::<Value>(&out.stdout) else {
        assert_eq!(out.status.code(), Some(2), "{}", path.display());
        return 0;
    };
    // nginx-rtmp reads the first byte of an enhanced video message as a frame type that is no key frame, and relays no video
    // before a key frame.
    let enhanced = path.to_string_lossy().contains("ertmp-hevc");
    let mut held = 0;
    for session in record["replay"]["sessions"].as_array().expect("sessions") {
        for verify in session["verify"].as_array().into_iter().flatten() {
            let why = verify["why"].as_str().unwrap_or_default();
            if enhanced {
                assert!(
                    why.starts_with("45 of 45 video frames did not come"),
                    "{}: {verify}",
                    path.display()
                );
            } else {
                assert_eq!(verify["held"], true, "{}: {session}", path.display());
                held += 1;
            }
        }
    }
    held
}
