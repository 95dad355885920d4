//! Foreign programs publish to and play from the reference server, and foreign servers are probed and judged. What is not installed is
//! skipped with a line that says so.
#![allow(clippy::print_stdout)]

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rtmp_bench::net::peer::{Options, Peer};
use serde_json::Value;
use tokio::process::{Child, Command as AsyncCommand};
use tokio::time::{sleep, timeout};

/// No program of these tests may take longer.
const PATIENCE: Duration = Duration::from_secs(40);

fn installed(programs: &[&str]) -> bool {
    let found = |name: &&&str| {
        let on_path = |dir: PathBuf| dir.join(name).is_file();
        !std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(on_path))
    };
    let missing: Vec<_> = programs.iter().filter(found).collect();
    if !missing.is_empty() {
        println!("SKIPPED: not installed: {missing:?}");
    }
    missing.is_empty()
}

/// Three seconds of H.264 with B pictures and AAC.
fn clip(dir: &Path) -> PathBuf {
    let file = dir.join("clip.flv");
    let made = Command::new("ffmpeg")
        .args([
            "-hide_banner",
            "-loglevel",
            "error",
            "-y",
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=320x240:rate=25",
        ])
        .args([
            "-f",
            "lavfi",
            "-i",
            "sine=frequency=440",
            "-t",
            "3",
            "-c:v",
            "libx264",
            "-preset",
            "veryfast",
        ])
        .args(["-g", "25", "-bf", "2", "-pix_fmt", "yuv420p", "-c:a", "aac"])
        .arg(&file)
        .status()
        .expect("ffmpeg runs");
    assert!(made.success());
    file
}

/// The hash of every packet, video then audio, each in its order.
fn packets(file: &Path) -> Vec<String> {
    let of = |kind: &str| {
        let output = Command::new("ffmpeg")
            .args(["-hide_banner", "-loglevel", "error", "-i"])
            .arg(file)
            .args(["-map", kind, "-c", "copy", "-f", "framehash", "-hash", "sha256", "-"])
            .output()
            .expect("ffmpeg runs");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .filter_map(|line| Some(format!("{kind} {}", line.rsplit(',').next()?.trim())))
            .collect::<Vec<_>>()
    };
    [of("0:v"), of("0:a")].concat()
}

/// The reference server on a free port, in this process: its handle and URL.
async fn serve() -> (Peer, String) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("rtmp://{}/live", listener.local_addr().expect("an address"));
    let peer = Peer::new(Options::default());
    let serving = peer.clone();
    tokio::spawn(async move { serving.listen(listener).await });
    (peer, url)
}

fn start(command: &str, home: &Path) -> Child {
    AsyncCommand::new("sh")
        .arg("-c")
        .arg(format!("exec {command}"))
        .env("HOME", home)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("sh runs")
}

async fn end(what: &str, mut child: Child) {
    let status = timeout(PATIENCE, child.wait()).await.unwrap_or_else(|_| panic!("{what} does not end"));
    assert!(status.expect("it was started").success(), "{what} failed");
}

/// Publishes the clip with `publisher` when all `players` wait for it; what each saved equals the clip packet for packet.
async fn relay(publisher: &str, players: &[(&str, &str)]) {
    let dir = tempfile::tempdir().expect("a folder");
    // VLC refuses to run as root and is run as nobody.
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("own folder");
    let clip = clip(dir.path());
    let want = packets(&clip);
    assert!(want.len() > 150, "{} packets", want.len());
    let (peer, url) = serve().await;
    let fill = |command: &str, out: &Path| {
        let command = command.replace("{url}", &url).replace("{clip}", &clip.display().to_string());
        command.replace("{out}", &out.display().to_string())
    };
    let mut running = Vec::new();
    for (name, command) in players {
        let out = dir.path().join(format!("{name}.flv"));
        running.push((*name, start(&fill(command, &out), dir.path()), out));
    }
    let all_wait = async {
        while peer.players("live/x") < players.len() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, all_wait).await.expect("all players play");
    end("the publisher", start(&fill(publisher, Path::new("")), dir.path())).await;
    for (name, child, out) in running {
        end(name, child).await;
        let got = packets(&out);
        let same = got.iter().zip(&want).take_while(|(got, want)| got == want).count();
        // rtmp2src drops the message it holds when the end of the stream comes right behind it: a capture shows it on the wire.
        let least = want.len() - usize::from(name == GSTREAMER.0);
        let whole = same == got.len() && (least..=want.len()).contains(&same);
        assert!(
            whole,
            "{name}: {} packets, the first {same} as in the clip, which has {}",
            got.len(),
            want.len()
        );
    }
}

const FFMPEG: (&str, &str) = ("ffmpeg", "ffmpeg -hide_banner -loglevel error -y -i {url}/x -c copy {out}");
const GSTREAMER: (&str, &str) =
    ("gstreamer", "gst-launch-1.0 -q rtmp2src location={url}/x ! filesink location={out}");
const RTMPDUMP: (&str, &str) = ("rtmpdump", "rtmpdump -q -r {url} -y x --live -o {out}");
/// Dumps what its FLV demuxer would get; root may not run VLC.
const VLC: (&str, &str) = (
    "vlc",
    "$([ $(id -u) = 0 ] && echo setpriv --reuid=65534 --regid=65534 --clear-groups) cvlc -q --no-interact --play-and-exit \
     --demux=dump --demuxdump-file={out} {url}/x vlc://quit",
);

#[tokio::test]
async fn ffmpeg_publishes_and_four_programs_play_every_packet() {
    if installed(&["ffmpeg", "gst-launch-1.0", "rtmpdump", "cvlc"]) {
        relay(
            "ffmpeg -hide_banner -loglevel error -re -i {clip} -c copy -f flv {url}/x",
            &[FFMPEG, GSTREAMER, RTMPDUMP, VLC],
        )
        .await;
    }
}

#[tokio::test]
async fn gstreamer_publishes_and_ffmpeg_plays_every_packet() {
    if installed(&["ffmpeg", "gst-launch-1.0"]) {
        relay(
            "gst-launch-1.0 -q filesrc location={clip} ! flvdemux name=d d.video ! queue ! h264parse ! \
             flvmux name=m streamable=true ! rtmp2sink location={url}/x d.audio ! queue ! aacparse ! m.",
            &[FFMPEG],
        )
        .await;
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port()
}

/// A foreign server that is ended when it is dropped.
struct Server {
    child: std::process::Child,
    url: String,
    _dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(command: &mut Command, port: u16, dir: tempfile::TempDir) -> Server {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        Server { child, url: format!("rtmp://127.0.0.1:{port}/live"), _dir: dir }
    }

    /// nginx with its RTMP module: `live on`, all else default.
    fn nginx() -> Option<Server> {
        let module =
            ["/usr/lib/nginx/modules/ngx_rtmp_module.so", "/usr/lib64/nginx/modules/ngx_rtmp_module.so"];
        let module = module.into_iter().find(|m| Path::new(m).exists());
        let Some(module) = module.filter(|_| installed(&["nginx"])) else {
            println!("SKIPPED: nginx or its RTMP module is not installed");
            return None;
        };
        let (dir, port) = (tempfile::tempdir().expect("a folder"), free_port());
        let config = dir.path().join("nginx.conf");
        let text = format!(
            "load_module {module};\ndaemon off;\nmaster_process off;\npid {0}/pid;\nerror_log {0}/log;\nevents {{}}\n\
             rtmp {{ server {{ listen 127.0.0.1:{port}; application live {{ live on; }} }} }}\n",
            dir.path().display()
        );
        fs::write(&config, text).expect("own folder");
        let mut command = Command::new("nginx");
        command.arg("-p").arg(dir.path()).arg("-e").arg(dir.path().join("log")).arg("-c").arg(&config);
        Some(Server::start(&mut command, port, dir))
    }

    /// node-media-server, where `tests/run` installed it.
    fn node_media_server() -> Option<Server> {
        let (dir, port) = node_media_server()?;
        let mut command = Command::new("node");
        command.arg("run.js").current_dir(dir.path());
        Some(Server::start(&mut command, port, dir))
    }

    /// ffmpeg waiting for one publisher.
    fn ffmpeg() -> Option<Server> {
        if !installed(&["ffmpeg"]) {
            return None;
        }
        let (dir, port) = (tempfile::tempdir().expect("a folder"), free_port());
        let mut command = Command::new("ffmpeg");
        command.args(["-hide_banner", "-loglevel", "error", "-listen", "1", "-timeout", "20", "-i"]);
        command.arg(format!("rtmp://127.0.0.1:{port}/live/x")).args(["-f", "null", "-"]);
        Some(Server::start(&mut command, port, dir))
    }
}

/// A folder with `run.js`, which serves this port, where `tests/run` installed node-media-server.
fn node_media_server() -> Option<(tempfile::TempDir, u16)> {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/npm/node_modules");
    if !modules.join("node-media-server").exists() || !installed(&["node"]) {
        println!("SKIPPED: node-media-server is not installed");
        return None;
    }
    let (dir, port) = (tempfile::tempdir().expect("a folder"), free_port());
    let script = format!(
        "const NMS = require('{}/node-media-server');\nconst config = {{ bind: '127.0.0.1', rtmp: {{ port: {port}, chunk_size: 60000, \
         gop_cache: true, ping: 30, ping_timeout: 60 }}, logType: 0 }};\nnew NMS(config).run();\n",
        modules.display()
    );
    fs::write(dir.path().join("run.js"), script).expect("own folder");
    Some((dir, port))
}

fn rtmp_bench(args: &[&str]) -> (i32, Value) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_rtmp-bench")).args(args).output().expect("the program runs");
    let record = serde_json::from_slice(&output.stdout);
    let record = record.unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().expect("an exit status"), record)
}

fn probe(server: &Server) -> Value {
    let (status, record) =
        rtmp_bench(&["test", &server.url, "--probe", "--wait-target", "20s", "-o", "json"]);
    assert_eq!(status, 0, "{record}");
    record["target"]["fingerprint"].clone()
}

#[test]
fn nginx_is_told_by_its_probe() {
    let Some(server) = Server::nginx() else { return };
    let print = probe(&server);
    assert_eq!(print["handshake"], "plain, S1 is a copy of C1", "{print}");
    assert_eq!(print["sentinel"], "ping", "{print}");
    assert_eq!(print["relay"], "passthrough", "{print}");
    assert_eq!(print["taken"], "refuse", "{print}");
    assert_eq!(print["missing"], "wait", "{print}");
    assert_eq!(print["acks"], true, "{print}");
}

#[test]
fn node_media_server_is_told_by_its_probe() {
    let Some(server) = Server::node_media_server() else { return };
    let print = probe(&server);
    assert_eq!((&print["publish"], &print["play"]), (&Value::Bool(true), &Value::Bool(true)), "{print}");
    assert_eq!(print["handshake"], "plain, S1 is a copy of C1", "{print}");
    assert!(print["chunk_size"].as_u64().is_some_and(|size| size > 128), "{print}");
}

/// An empty command ends its process.
#[test]
fn what_kills_node_media_server_is_named_and_the_rest_judged() {
    let Some((dir, port)) = node_media_server() else { return };
    let url = format!("rtmp://127.0.0.1:{port}/live");
    let spawn = format!("cd '{}' && exec node run.js", dir.path().display());
    let mut args = vec!["test", &url, "--spawn", &spawn, "-o", "json"];
    for cases in ["chunk/command-on*", "chunk/empty-message*", "chunk/equal-times", "command/connect-any*"] {
        args.extend(["-s", cases]);
    }
    let (status, record) = rtmp_bench(&args);
    assert_eq!(status, 1, "{record}");
    assert!(record["target"]["spawned"]["restarts"].as_u64().is_some_and(|n| n > 0), "{record}");
    for case in record["test"]["cases"].as_array().expect("cases") {
        let notes = case["notes"].to_string();
        let kills = notes.contains("answered no more after this case alone");
        let empty = case["id"].as_str().is_some_and(|id| id.starts_with("chunk/empty-message"));
        assert_eq!(case["verdict"] == "fail", kills, "{case}");
        assert!(case["verdict"] != "blocked" && (empty || !kills), "{case}");
        assert!(kills || case["id"] != "chunk/empty-message:command", "{case}");
    }
}

#[test]
fn ffmpeg_is_told_by_its_probe_though_it_takes_one_connection() {
    let Some(server) = Server::ffmpeg() else { return };
    // No --wait-target: a first connection would be the only one.
    let mut tries = 0;
    let print = loop {
        let (status, record) = rtmp_bench(&["test", &server.url, "--probe", "-o", "json"]);
        if status == 0 {
            break record["target"]["fingerprint"].clone();
        }
        tries += 1;
        assert!(tries < 100, "{record}");
    };
    assert_eq!(print["one_shot"], true, "{print}");
    assert_eq!(print["publish"], true, "{print}");
}

#[test]
fn nginx_deviates_as_expected_and_no_further() {
    let Some(server) = Server::nginx() else { return };
    let expect = Path::new(env!("CARGO_MANIFEST_DIR")).join("reports/expected/nginx-rtmp.txt");
    let pid = server.child.id().to_string();
    let args =
        ["test", &server.url, "--wait-target", "20s", "-o", "json", "--pid", &pid, "--strict", "--expect"];
    let (status, record) = rtmp_bench(&[&args[..], &[expect.to_str().expect("UTF-8")]].concat());
    let cases = record["test"]["cases"].as_array().expect("cases");
    let unexpected: Vec<_> = cases
        .iter()
        .filter(|case| match (case["verdict"].as_str(), case["expected"].as_str()) {
            (Some("pass" | "info" | "skip"), None) => false,
            (verdict, expected) => verdict != expected,
        })
        .map(|case| format!("{} {}: {}", case["id"], case["verdict"], case["why"]))
        .collect();
    assert!(unexpected.is_empty() && status == 0, "{}", unexpected.join("\n"));
}

/// Fifty players of a clip that goes round, and ffmpeg beside them, which decodes it for three seconds.
fn carries_all(server: &Server) {
    let probed = probe(server);
    assert_eq!(probed["relay"], "passthrough", "{probed}");
    let dir = tempfile::tempdir().expect("a folder");
    let clip = clip(dir.path());
    let player = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-xerror", "-rw_timeout", "20000000", "-i"])
        .arg(format!("{}/x-0", server.url))
        .args(["-t", "3", "-f", "null", "-"])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ffmpeg runs");
    let target = format!("{}/x", server.url);
    let args = ["load", &target, "--players", "50", "--ramp", "2s", "--hold", "5s", "--allow-limited"];
    let media = ["-o", "json", "--media", clip.to_str().expect("UTF-8")];
    let (status, record) = rtmp_bench(&[&args[..], &media].concat());
    let load = &record["load"];
    assert_eq!(status, 0, "{load}");
    assert_eq!(
        (&load["sessions"]["started"], &load["sessions"]["ended"]),
        (&51.into(), &51.into()),
        "{load}"
    );
    let frames = |what: &str| load["frames"][what].as_u64().expect("a count");
    for what in ["lost", "duplicated", "reordered", "corrupt"] {
        assert_eq!(frames(what), 0, "{what}: {load}");
    }
    // At least the hold: 25 pictures and 43 frames of audio a second.
    assert!(frames("expected") > 50 * 5 * 60, "{load}");
    assert_eq!(frames("expected") + frames("join_burst"), frames("received"), "{load}");
    assert_eq!(load["latency"]["frame"]["count"], load["frames"]["expected"]);
    assert_eq!(load["timestamps_back"], serde_json::json!({ "video": 0, "audio": 0 }));
    let played = player.wait_with_output().expect("it was started");
    assert!(played.status.success(), "{}", String::from_utf8_lossy(&played.stderr));
    assert_eq!(String::from_utf8_lossy(&played.stderr), "");
}

#[test]
fn nginx_carries_every_stamp_to_fifty_players() {
    if let Some(server) = Server::nginx().filter(|_| installed(&["ffmpeg"])) {
        carries_all(&server);
    }
}

#[test]
fn node_media_server_carries_every_stamp_to_fifty_players() {
    if let Some(server) = Server::node_media_server().filter(|_| installed(&["ffmpeg"])) {
        carries_all(&server);
    }
}
