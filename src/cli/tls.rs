//! What of TLS can be said on the command line.

use std::path::{Path, PathBuf};

use clap::Args;

use super::Failure;
use super::output::quoted;
use crate::net::target::Target;
use crate::net::tls::{Tls, Trust};

/// Whom to believe at rtmps://.
#[derive(Debug, Args)]
pub struct TlsArgs {
    /// At rtmps://: trust the certificates in this PEM file in place of the system's
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    tls_ca: Option<PathBuf>,
    /// At rtmps://: take any certificate
    #[arg(long)]
    insecure: bool,
}

impl TlsArgs {
    /// As they were typed, for a command that does the same.
    pub fn arguments(&self) -> impl Iterator<Item = String> {
        let ca = self.tls_ca.iter().map(|file| format!("--tls-ca {}", quoted(&file.to_string_lossy())));
        ca.chain(self.insecure.then(|| "--insecure".into()))
    }

    /// What is read, named by its argument.
    pub fn file(&self) -> Option<(&'static str, &Path)> {
        Some(("--tls-ca", self.tls_ca.as_deref()?))
    }

    /// `None` where the target speaks plain TCP.
    ///
    /// # Errors
    /// When there is nothing to trust.
    pub fn for_target(&self, target: &Target) -> Result<Option<Tls>, Failure> {
        if !target.is_secure() {
            return Ok(None);
        }
        let trust = match &self.tls_ca {
            Some(file) => Trust::File(file),
            None if self.insecure => Trust::Anyone,
            None => Trust::System,
        };
        let what = if self.tls_ca.is_some() { "--tls-ca " } else { "" };
        Tls::new(&trust).map(Some).map_err(|e| Failure::usage(format!("{what}{e}")))
    }
}
