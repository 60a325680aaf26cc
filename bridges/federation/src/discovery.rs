//! Where a server is: from its name to addresses that may be connected to (PROTOCOL 3).
//!
//! DNS answers are cached by the resolver for their TTL. Nothing here decides who a server *is*; that is the
//! certificate's and the keys' matter.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use comity_net::guard::Guard;
use comity_net::srv::{self, Service, Target};
use hickory_resolver::TokioResolver;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::RData;

use crate::ident::ServerName;

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(8);
/// Addresses of one target beyond these are not tried.
const MAX_ADDRESSES: usize = 8;
const MAX_TARGETS: usize = 16;
pub const HTTPS: u16 = 443;

/// Why a server cannot be found.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DiscoveryError {
    #[error("DNS does not answer for {0}: {1}")]
    Dns(String, String),
    #[error("{0} says that it does not take part (SRV target \".\")")]
    NotOffered(ServerName),
    #[error("no address for {0}")]
    NoAddress(String),
    #[error(
        "{0} leads to {1}, which is not a public address (list it in allow_addresses if that is intended)"
    )]
    Guarded(String, IpAddr),
    #[error("{0} leads to port {1}, which no server of this protocol uses")]
    Port(String, u16),
}

/// Where to connect: a host and a port, not yet resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub host: String,
    pub port: u16,
}

/// Finds servers.
pub struct Discovery {
    resolver: TokioResolver,
    guard: Guard,
}

impl Discovery {
    pub fn new(resolver: TokioResolver, guard: Guard) -> Self {
        Self { resolver, guard }
    }

    /// The places that SRV records name, in the order to try; empty when there are none.
    pub async fn by_srv(&self, server: &ServerName) -> Result<Vec<Place>, DiscoveryError> {
        let name = format!("_chat._tcp.{server}");
        let service = patiently(&name, srv::lookup(&self.resolver, &name)).await?;
        match service {
            Service::Unknown => Ok(Vec::new()),
            Service::NotOffered => Err(DiscoveryError::NotOffered(server.clone())),
            Service::Targets(targets, _) => Ok(targets
                .into_iter()
                .take(MAX_TARGETS)
                .map(|Target { host, port, .. }| Place { host, port })
                .collect()),
        }
    }

    /// The addresses of a place, each of them allowed (attack F8): the caller connects to one of exactly these.
    pub async fn addresses(&self, place: &Place) -> Result<Vec<SocketAddr>, DiscoveryError> {
        check_port(place)?;
        let found: Vec<IpAddr> = match place.host.parse::<IpAddr>() {
            // RFC 2782 wants names as targets; an address here is an attempt to lead us somewhere.
            Ok(_) => return Err(DiscoveryError::NoAddress(place.host.clone())),
            Err(_) => {
                let name = format!("{}.", place.host.trim_end_matches('.'));
                let answer = patiently(&name, self.resolver.lookup_ip(name.clone())).await?;
                answer.iter().take(MAX_ADDRESSES).collect()
            }
        };
        if let Some(refused) = found.iter().find(|address| !self.guard.allows(**address)) {
            return Err(DiscoveryError::Guarded(place.host.clone(), *refused));
        }
        if found.is_empty() {
            return Err(DiscoveryError::NoAddress(place.host.clone()));
        }
        Ok(found
            .into_iter()
            .map(|address| SocketAddr::new(address, place.port))
            .collect())
    }

    /// The TXT record `_chat-key.<server>`, if there is one (PROTOCOL 4.4).
    pub async fn key_record(&self, server: &ServerName) -> Result<Option<String>, DiscoveryError> {
        let name = format!("_chat-key.{server}.");
        let asked = tokio::time::timeout(PATIENCE, self.resolver.txt_lookup(name.clone())).await;
        let answer = match asked {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) if error.is_nx_domain() || error.is_no_records_found() => {
                return Ok(None);
            }
            Ok(Err(error)) => return Err(DiscoveryError::Dns(name, error.to_string())),
            Err(_) => return Err(DiscoveryError::Dns(name, "timed out".to_owned())),
        };
        let text = answer
            .answers()
            .iter()
            .find_map(|record| match &record.data {
                RData::TXT(txt) => Some(
                    txt.txt_data
                        .iter()
                        .map(|part| String::from_utf8_lossy(part))
                        .collect(),
                ),
                _ => None,
            });
        Ok(text)
    }
}

/// Ports of other protocols, to which a stranger's SRV record could send our bytes.
fn check_port(place: &Place) -> Result<(), DiscoveryError> {
    let known = matches!(place.port, 443 | 8448)
        || (place.port >= 1024 && !matches!(place.port, 3306 | 5432 | 6379 | 11211 | 27017));
    if known {
        Ok(())
    } else {
        Err(DiscoveryError::Port(place.host.clone(), place.port))
    }
}

async fn patiently<T>(
    name: &str,
    question: impl Future<Output = Result<T, NetError>>,
) -> Result<T, DiscoveryError> {
    match tokio::time::timeout(PATIENCE, question).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) if error.is_nx_domain() || error.is_no_records_found() => Err(
            DiscoveryError::NoAddress(name.trim_end_matches('.').to_owned()),
        ),
        Ok(Err(error)) => Err(DiscoveryError::Dns(name.to_owned(), error.to_string())),
        Err(_) => Err(DiscoveryError::Dns(name.to_owned(), "timed out".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f8_ports_of_other_protocols_are_refused() {
        let place = |port| Place {
            host: "a.example".into(),
            port,
        };
        for port in [0, 22, 25, 80, 143, 3306, 6379] {
            assert!(check_port(&place(port)).is_err(), "{port}");
        }
        for port in [443, 8448, 3000, 8421, 65535] {
            assert!(check_port(&place(port)).is_ok(), "{port}");
        }
    }
}
