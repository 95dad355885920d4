//! TLS under RTMP (`rtmps`): whom to believe, and a stream that ends as TCP does.

use std::fmt;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use nix::sys::socket::{getsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{self, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::conn::Io;

/// Whose certificates are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust<'a> {
    /// Those of the authorities that this system knows.
    System,
    /// Those of the authorities in a PEM file, or the server's own certificate.
    File(&'a Path),
    /// Any.
    Anyone,
}

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The PEM file.
    #[error("{0}: {1}; expected certificates in PEM form")]
    File(String, String),
    /// The system has none.
    #[error("this system has no certificates to trust ({0}); name some with --tls-ca")]
    NoRoots(String),
    /// What the library says.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

/// Makes TLS of TCP connections. Cheap to clone.
#[derive(Clone)]
pub struct Tls(Arc<ClientConfig>);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Reads what is to be trusted.
    ///
    /// # Errors
    /// When there is nothing to trust.
    pub fn new(trust: &Trust<'_>) -> Result<Tls, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let config =
            ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let config = match trust {
            Trust::System => config.with_root_certificates(system()?),
            Trust::File(path) => config.with_root_certificates(file(path)?),
            Trust::Anyone => config.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider))),
        };
        Ok(Tls(Arc::new(config.with_no_client_auth())))
    }

    /// For one connection without a socket of its own.
    pub fn config(&self) -> Arc<ClientConfig> {
        self.0.clone()
    }

    /// The handshake, with this host's name asked for and checked.
    ///
    /// # Errors
    /// When the host is no name, or the handshake fails.
    pub async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<Secure> {
        let stream = TlsConnector::from(self.0.clone()).connect(server_name(host)?, stream).await;
        stream.map(Secure).map_err(|e| io::Error::new(e.kind(), format!("TLS: {e}")))
    }
}

/// A host as certificates name it.
///
/// # Errors
/// When it can stand in no certificate.
pub fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))
}

fn system() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // What the system has of certificates that cannot be read is no concern of ours as long as others can.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or("none found".into(), |e| e.to_string());
        return Err(TlsError::NoRoots(why));
    }
    Ok(roots)
}

fn file(path: &Path) -> Result<RootCertStore, TlsError> {
    let wrong = |what: String| TlsError::File(path.display().to_string(), what);
    let pem = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots.add(certificate.map_err(|e| wrong(e.to_string()))?).map_err(|e| wrong(e.to_string()))?;
    }
    if roots.is_empty() { Err(wrong("no certificate in it".into())) } else { Ok(roots) }
}

/// Believes every certificate; that the peer holds its key is checked all the same.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A TLS stream. A FIN without the alert that should go ahead of it (common among servers) is an end as any other.
#[derive(Debug)]
pub struct Secure(TlsStream<TcpStream>);

impl AsyncRead for Secure {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.0).poll_read(cx, buffer) {
            Poll::Ready(Err(e)) if e.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            other => other,
        }
    }
}

impl AsyncWrite for Secure {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Io for Secure {
    fn reset(&mut self) -> io::Result<()> {
        self.0.get_ref().0.set_zero_linger()
    }

    fn room(&self) -> Option<usize> {
        getsockopt(self.0.get_ref().0, sockopt::RcvBuf).ok()
    }
}
