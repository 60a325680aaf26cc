//! The one TLS client configuration: rustls, the machine's certificate authorities, and the operator's own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

/// Why TLS cannot be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A certificate authority file is missing, unreadable or not PEM.
    #[error("{path} cannot be used as a certificate authority file: {why}")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The machine has no certificate authorities and no file names one.
    #[error(
        "this machine has no certificate authorities (Debian: install ca-certificates) and ca_file is not set"
    )]
    NoRoots,
}

/// Trusts the machine's authorities and those in `ca_file`. Certificates are always verified.
pub fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    // Single unreadable certificates of the machine are no reason to trust none of the others.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let refuse = |why: String| TlsError::CaFile {
            path: path.to_owned(),
            why,
        };
        let mut added = 0;
        for certificate in CertificateDer::pem_file_iter(path).map_err(|e| refuse(e.to_string()))? {
            let certificate = certificate.map_err(|e| refuse(e.to_string()))?;
            roots.add(certificate).map_err(|e| refuse(e.to_string()))?;
            added += 1;
        }
        if added == 0 {
            return Err(refuse("it has no certificate".to_owned()));
        }
    }
    if roots.is_empty() {
        return Err(TlsError::NoRoots);
    }
    Ok(Arc::new(
        ClientConfig::builder_with_provider(
            Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
        )
        .with_safe_default_protocol_versions()
        .expect("aws-lc-rs has the suites of TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth(),
    ))
}
