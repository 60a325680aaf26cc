//! Real sockets on loopback: names, TLS and HTTP as peers see them.

pub(crate) mod dns;
pub(crate) mod https;

use std::path::PathBuf;

use comity_bridge::{Bridge, BridgeKind as _, ConfigTable, GatewayInfo, NetworkName};
use comity_federation::Federation;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;

use dns::Dns;

/// An authority for certificates that nobody else trusts, and a resolver: a small internet.
pub(crate) struct World {
    pub(crate) dns: Dns,
    issuer: Issuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

/// A certificate with its key.
pub(crate) struct Certificate {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("random numbers");
        let root = params.self_signed(&key).expect("a certificate");
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("ca.pem"), root.pem()).expect("written");
        Self {
            dns: Dns::start().await,
            issuer: Issuer::new(params, key),
            directory,
        }
    }

    pub(crate) fn certificate(&self, name: &str) -> Certificate {
        let key = KeyPair::generate().expect("random numbers");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let der = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        Certificate {
            chain: vec![certificate.der().clone()],
            key: der,
        }
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// A bridge that lives in this world.
    pub(crate) fn bridge(
        &self,
        gateway: &GatewayInfo,
        network: &str,
        allow_loopback: bool,
    ) -> Box<dyn Bridge> {
        let allowed = if allow_loopback {
            vec!["127.0.0.0/8"]
        } else {
            Vec::new()
        };
        let serde_json::Value::Object(values) = json!({
            "dns": self.dns.address().to_string(), "ca_file": self.ca_file(), "allow_addresses": allowed,
        }) else {
            unreachable!("an object was written")
        };
        let network: NetworkName = network.parse().expect("a name");
        let table = ConfigTable::new("peers.toml", "", values);
        Federation
            .configure(gateway, &network, table)
            .expect("a valid table")
    }
}
