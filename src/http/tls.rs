//! TLS of the public listener.

use std::path::PathBuf;
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
    /// The two do not go together, or are of a kind that we do not speak.
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
            TlsError::Key { .. } => "tls_key",
        }
    }
}

/// Reads both files and checks that they go together.
pub fn server_config(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let cert_error = |error| TlsError::Cert {
        path: files.cert.clone(),
        fault: fault(error),
    };
    let chain = CertificateDer::pem_file_iter(&files.cert)
        .map_err(cert_error)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(cert_error)?;
    if chain.is_empty() {
        return Err(cert_error(pem::Error::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| TlsError::Key {
        path: files.key.clone(),
        fault: fault(error),
    })?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(TlsError::Unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn fault(error: pem::Error) -> PemFault {
    match error {
        pem::Error::Io(error) => PemFault::Io(error),
        _ => PemFault::Nothing,
    }
}
