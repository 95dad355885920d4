//! `rtmps`: whom is believed, and that what is under RTMP changes nothing of what is judged.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use rtmp_bench::net::peer::{Options, Peer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// The reference server behind TLS, its certificate for `localhost` in a file. Ends when it is dropped.
struct Server {
    _runtime: Runtime,
    folder: tempfile::TempDir,
    secure: u16,
    plain: u16,
}

impl Server {
    fn start() -> Server {
        let runtime = Runtime::new().expect("a runtime");
        let folder = tempfile::tempdir().expect("a folder");
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        std::fs::write(folder.path().join("ca.pem"), made.cert.pem()).expect("written");
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("the key of the certificate");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (secure, plain) = runtime.block_on(async {
            let behind = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let front = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let (plain, secure) =
                (behind.local_addr().expect("bound").port(), front.local_addr().expect("bound").port());
            tokio::spawn(async move { Peer::new(Options::default()).listen(behind).await });
            tokio::spawn(async move {
                while let Ok((stream, _)) = front.accept().await {
                    let acceptor = acceptor.clone();
                    tokio::spawn(async move {
                        let Ok(mut outer) = acceptor.accept(stream).await else { return };
                        let Ok(mut inner) = TcpStream::connect(("127.0.0.1", plain)).await else { return };
                        // How one side ended is told by the end of both.
                        let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
                    });
                }
            });
            (secure, plain)
        });
        Server { _runtime: runtime, folder, secure, plain }
    }

    fn url(&self) -> String {
        format!("rtmps://localhost:{}/live", self.secure)
    }

    fn ca(&self) -> String {
        self.folder.path().join("ca.pem").display().to_string()
    }
}

fn bench(args: &[&str]) -> (i32, String) {
    let output: Output =
        Command::new(env!("CARGO_BIN_EXE_rtmp-bench")).args(args).output().expect("the program runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("a status"), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn a_suite_is_judged_over_tls_as_without() {
    let server = Server::start();
    let (status, said) = bench(&["test", &server.url(), "--tls-ca", &server.ca(), "-s", "relay/*"]);
    assert_eq!(status, 0, "{said}");
    let ip = format!("rtmps://127.0.0.1:{}/live", server.secure);
    let (status, said) = bench(&["test", &ip, "--insecure", "-s", "chunk/type-3-after-type-0"]);
    assert_eq!(status, 0, "{said}");
}

#[test]
fn a_capture_is_replayed_over_tls() {
    let server = Server::start();
    let capture = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures/loc-ffmpeg-publish.pcapng");
    let capture = capture.display().to_string();
    let args = ["replay", &capture, &server.url(), "--tls-ca", &server.ca(), "--verify", "--pace", "asap"];
    let (status, said) = bench(&args);
    assert_eq!(status, 0, "{said}");
}

#[test]
fn a_certificate_that_nobody_vouches_for_ends_it_with_the_reason() {
    let server = Server::start();
    let (status, said) = bench(&["test", &server.url(), "-s", "chunk/type-3-after-type-0"]);
    assert!(status == 3 || (status == 2 && said.contains("--tls-ca")), "{status}: {said}");
    assert!(said.contains("certificate"), "{said}");
    // The certificate is for the name and not for the address.
    let ip = format!("rtmps://127.0.0.1:{}/live", server.secure);
    let (status, said) = bench(&["test", &ip, "--tls-ca", &server.ca()]);
    assert!(status == 3 && said.contains("TLS"), "{status}: {said}");
}

#[test]
fn a_server_without_tls_is_unreachable_by_it() {
    let server = Server::start();
    let url = format!("rtmps://localhost:{}/live", server.plain);
    let (status, said) = bench(&["test", &url, "--insecure"]);
    assert_eq!(status, 3, "{said}");
}

#[test]
fn a_file_without_certificates_is_refused() {
    let server = Server::start();
    let (status, said) = bench(&["test", &server.url(), "--tls-ca", "Cargo.toml"]);
    assert!(status == 2 && said.contains("Cargo.toml: no certificate in it; expected"), "{status}: {said}");
}

#[test]
fn load_over_tls_loses_nothing_and_tells_the_time_of_tls_apart() {
    let server = Server::start();
    let args = ["load", &server.url(), "--tls-ca", &server.ca(), "--players", "4", "--hold", "2s"];
    let (status, said) = bench(&[&args[..], &["--ramp", "0s", "--allow-limited", "-o", "json"]].concat());
    assert_eq!(status, 0, "{said}");
    let record: serde_json::Value =
        serde_json::Deserializer::from_str(&said[said.find('{').expect("a record")..])
            .into_iter()
            .next()
            .expect("a record")
            .expect("JSON");
    let load = &record["load"];
    assert_eq!(load["latency"]["tls"]["count"], 5, "{said}");
    assert_eq!(load["frames"]["lost"], 0, "{said}");
    assert!(load["frames"]["received"].as_u64() > Some(200), "{said}");
    let ip = format!("rtmps://127.0.0.1:{}/live", server.secure);
    let (status, said) = bench(&["load", &ip, "--tls-ca", &server.ca(), "--hold", "1s", "--ramp", "0s"]);
    assert!(status == 3 && said.contains("certificate"), "{status}: {said}");
}
