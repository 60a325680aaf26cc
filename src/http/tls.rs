//! TLS of the public listener.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

use crate::config::TlsFiles;

/// Why the certificate or its key cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The certificate's file cannot be read, or is not PEM.
    #[error("{path} cannot be read: {fault}")]
    Cert {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: PemFault,
    },
    /// The key's file cannot be read, or is not PEM.
    #[error("{path} cannot be read: {fault}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: PemFault,
    },
    /// Each is fine, but they are not of one pair.
    #[error("{key} is not the key of the certificate in {cert}")]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// They are of a kind that we do not speak.
    #[error("the certificate and its key cannot be used: {0}")]
    Unusable(rustls::Error),
}

/// What is wrong with a file that should be PEM. Never quotes it.
#[derive(Debug, Error)]
pub enum PemFault {
    /// The file is not there, or not for us.
    #[error("{0}")]
    Io(std::io::Error),
    /// The file holds nothing of what it should.
    #[error("it holds no PEM of the right kind")]
    Nothing,
}

impl TlsError {
    /// The key of `[http]` that names the file.
    pub fn key(&self) -> &'static str {
        match self {
            TlsError::Cert { .. } | TlsError::Unusable(_) => "tls_cert",
            TlsError::Key { .. } | TlsError::Mismatch { .. } => "tls_key",
        }
    }

    /// What the operator can do.
    pub fn advice(&self) -> &'static str {
        match self {
            TlsError::Cert { .. } | TlsError::Key { .. } => "name a file in PEM",
            TlsError::Mismatch { .. } => "give the key that belongs to the certificate",
            TlsError::Unusable(_) => "give a certificate for an RSA, ECDSA or Ed25519 key",
        }
    }
}

/// Reads both files and checks that they go together.
pub fn server_config(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let (chain, key) = (chain(&files.cert)?, key(&files.key)?);
    let unusable = |error| match error {
        rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch) => {
            TlsError::Mismatch {
                cert: files.cert.clone(),
                key: files.key.clone(),
            }
        }
        other => TlsError::Unusable(other),
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Reads the certificate and those that vouch for it.
pub fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let cert_error = |error| TlsError::Cert {
        path: path.to_owned(),
        fault: fault(error),
    };
    let chain = CertificateDer::pem_file_iter(path)
        .map_err(cert_error)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(cert_error)?;
    if chain.is_empty() {
        return Err(cert_error(pem::Error::NoItemsFound));
    }
    Ok(chain)
}

/// Reads the private key.
pub fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| TlsError::Key {
        path: path.to_owned(),
        fault: fault(error),
    })
}

fn fault(error: pem::Error) -> PemFault {
    match error {
        pem::Error::Io(error) => PemFault::Io(error),
        _ => PemFault::Nothing,
    }
}
