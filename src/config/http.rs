//! `[http]`: the gateway's own listeners.

use std::net::SocketAddr;
use std::path::PathBuf;

use comity_bridge::ConfigTable;

use super::gateway::NOT_READABLE_URL;
use crate::http::tls::{self, TlsError};

pub(super) const DEFAULT_ADMIN: &str = "127.0.0.1:8420";

/// The gateway's own listeners.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Health, metrics and API. Loopback only.
    pub admin: SocketAddr,
    /// What strangers reach.
    pub public: Option<SocketAddr>,
    /// For the public listener. Without it that speaks plain HTTP, for a reverse proxy in front.
    pub tls: Option<TlsFiles>,
}

/// A certificate chain and its key, in PEM.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsFiles {
    /// The certificate, then those that vouch for it.
    pub cert: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
}

/// Reads the table. The URL is where the public listener is reached from outside, without a slash at the end.
pub(super) fn read(root: &mut ConfigTable) -> (HttpConfig, Option<String>) {
    let mut table = root.table("http");
    let default = DEFAULT_ADMIN.parse().expect("the default is an address");
    let admin = address(&mut table, "admin").unwrap_or(default);
    if !admin.ip().is_loopback() {
        table.problem(
            "admin",
            format!("found {admin}, which others can reach"),
            "write a loopback address, e.g. \"127.0.0.1:8420\"",
        );
    }
    let public = address(&mut table, "public");
    let mut public_url = table.string("public_url");
    if let Some(url) = &public_url
        && let Err(fault) = check_url(url)
    {
        table.problem(
            "public_url",
            format!("found {url:?}: {fault}"),
            "write e.g. \"https://gw1.example\"",
        );
        public_url = Some(NOT_READABLE_URL.to_owned());
    }
    let tls = tls_files(&mut table, public.is_some());
    root.absorb(table);
    let http = HttpConfig { admin, public, tls };
    (http, public_url)
}

fn address(table: &mut ConfigTable, key: &str) -> Option<SocketAddr> {
    let text = table.string(key)?;
    let address = text.parse().ok();
    if address.is_none() {
        table.problem(
            key,
            format!("found {text:?}"),
            "write an IP address and a port, \"127.0.0.1:8420\" or \"[::1]:8420\"",
        );
    }
    address
}

fn tls_files(table: &mut ConfigTable, has_public: bool) -> Option<TlsFiles> {
    let cert = table.path("tls_cert");
    let key = table.path("tls_key");
    // Each file is looked at, whatever is wrong with the other.
    let faults: Vec<TlsError> = [
        cert.as_deref().and_then(|path| tls::chain(path).err()),
        key.as_deref().and_then(|path| tls::key(path).err()),
    ]
    .into_iter()
    .flatten()
    .collect();
    for fault in &faults {
        table.problem(fault.key(), fault.to_string(), fault.advice());
    }
    if cert.is_some() && !table.has("tls_key") {
        table.problem("tls_key", "is missing", "tls_cert needs its key");
    }
    if key.is_some() && !table.has("tls_cert") {
        table.problem("tls_cert", "is missing", "tls_key needs its certificate");
    }
    let given = match (&cert, &key) {
        (Some(_), _) => Some("tls_cert"),
        (None, Some(_)) => Some("tls_key"),
        (None, None) => None,
    };
    if let Some(given) = given
        && !has_public
        && !table.has("public")
    {
        table.problem(
            given,
            "is given, but there is no public listener to use it",
            "give public an address, or remove tls_cert and tls_key",
        );
    }
    let files = TlsFiles {
        cert: cert?,
        key: key?,
    };
    if faults.is_empty()
        && let Err(error) = tls::server_config(&files)
    {
        table.problem(error.key(), error.to_string(), error.advice());
    }
    Some(files)
}

fn check_url(url: &str) -> Result<(), &'static str> {
    let Some(rest) = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"))
    else {
        return Err("it begins with https://");
    };
    if rest.ends_with('/') {
        return Err("it has no slash at its end");
    }
    if rest.contains(['/', '?', '#']) {
        return Err("it has no path");
    }
    match rest.parse::<http::uri::Authority>() {
        Ok(authority) if !authority.as_str().contains('@') && !authority.host().is_empty() => {
            Ok(())
        }
        _ => Err("after https:// comes a host name, and perhaps a port"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_is_scheme_and_host_alone() {
        for good in [
            "https://gw1.example",
            "https://gw1.example:8443",
            "http://127.0.0.1:8421",
        ] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for bad in [
            "gw1.example",
            "ftp://gw1.example",
            "https://",
            "https://gw1.example/",
            "https://gw1.example/chat",
            "https://user@gw1.example",
            "https://gw1 .example",
        ] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
    }
}
