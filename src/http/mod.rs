//! Owns the listeners: the admin one, the public one, and those that networks ask for.
//!
//! A bridge declares paths and gets whole requests through its inbox; nothing here knows a protocol. Everything
//! that a stranger can make us keep has a limit: connections, headers, bodies, requests that wait, and time.
//!
//! | module | what |
//! |---|---|
//! | `admin` | health, metrics and the API, for this machine alone |
//! | `exchange` | one request on its way to the network that answers it |
//! | `connection` | accepts connections and speaks HTTP on them, until shutdown |
//! | `limits` | how many connections, and how many of one address |
//! | [`tls`] | the public listener's certificate |

mod admin;
mod connection;
mod exchange;
mod limits;
#[cfg(test)]
mod tests;
pub mod tls;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use comity_bridge::{Endpoint, HttpExchange, Listener, NetworkName};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use admin::{Admin, Readiness};

use crate::config::HttpConfig;
use crate::metrics::Metrics;
use connection::{Server, Timeouts};
use exchange::{Exchanges, Route};

/// Why a listener cannot be had.
#[derive(Debug, Error)]
pub enum BindError {
    /// The address is taken, not ours, or not allowed to us.
    #[error("{key}: cannot listen on {address}")]
    Address {
        /// The key of the configuration, or the network.
        key: String,
        /// What was asked for.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The certificate was there at the check and cannot be used any more.
    #[error("http.{key}: {0}", key = .0.key())]
    Tls(#[from] tls::TlsError),
}

/// Where the requests for one endpoint go.
pub type Inbox = (NetworkName, Endpoint, mpsc::Sender<HttpExchange>);

/// Listeners that are bound and not served yet: connections wait.
pub struct Listeners {
    admin: TcpListener,
    others: Vec<Bound>,
    metrics: Metrics,
}

/// A listener whose requests networks answer.
struct Bound {
    name: String,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    timeouts: Timeouts,
    routes: Vec<Route>,
}

impl Listeners {
    /// Binds every listener that the configuration and the networks ask for. Binds all or none.
    pub async fn bind(
        config: &HttpConfig,
        endpoints: Vec<Inbox>,
        metrics: Metrics,
    ) -> Result<Self, BindError> {
        let mut public = Vec::new();
        let mut own: BTreeMap<SocketAddr, (NetworkName, Vec<Route>)> = BTreeMap::new();
        for (network, endpoint, inbox) in endpoints {
            let route = Route::new(network.clone(), &endpoint, inbox);
            match endpoint.listener {
                Listener::Public => public.push(route),
                Listener::Own(address) => {
                    let (_, routes) = own.entry(address).or_insert_with(|| (network, Vec::new()));
                    routes.push(route);
                }
            }
        }
        let admin_listener = bind("http.admin", config.admin).await?;
        let mut others = Vec::new();
        if let Some(address) = config.public {
            let tls = config.tls.as_ref().map(tls::server_config).transpose()?;
            if tls.is_none() && !address.ip().is_loopback() {
                warn!(%address, "the public listener speaks plain http, so it needs a reverse proxy with tls");
            }
            others.push(Bound {
                name: "public".to_owned(),
                listener: bind("http.public", address).await?,
                tls: tls.map(TlsAcceptor::from),
                timeouts: Timeouts::STRANGERS,
                routes: public,
            });
        }
        for (address, (network, routes)) in own {
            if !address.ip().is_loopback() {
                warn!(%address, %network, "the network's listener speaks plain http and others can reach it");
            }
            others.push(Bound {
                name: network.to_string(),
                listener: bind(&format!("network {network}"), address).await?,
                tls: None,
                timeouts: Timeouts::NEIGHBOURS,
                routes,
            });
        }
        Ok(Listeners {
            admin: admin_listener,
            others,
            metrics,
        })
    }

    /// Where each listener is, by its name: what port 0 has become.
    pub fn addresses(&self) -> Vec<(&str, SocketAddr)> {
        let others = self
            .others
            .iter()
            .map(|bound| (bound.name.as_str(), &bound.listener));
        std::iter::once(("admin", &self.admin))
            .chain(others)
            .filter_map(|(name, listener)| Some((name, listener.local_addr().ok()?)))
            .collect()
    }

    /// Serves until `shutdown`, then lets requests in hand be answered for a few seconds. Connections that came since the
    /// listeners were bound have waited.
    pub async fn serve(self, admin: Admin, shutdown: CancellationToken) {
        for (listener, address) in self.addresses() {
            info!(listener, %address, "listening");
        }
        let mut servers = tokio::task::JoinSet::new();
        let pages = admin::service(admin);
        let server = Server::new("admin", self.admin, None, Timeouts::OURSELVES);
        let stop = shutdown.clone();
        servers.spawn(async move { server.run(move |_| pages.clone(), stop).await });
        for bound in self.others {
            let exchanges = Arc::new(Exchanges::new(bound.routes, self.metrics.clone()));
            let server = Server::new(&bound.name, bound.listener, bound.tls, bound.timeouts);
            let stop = shutdown.clone();
            servers.spawn(async move {
                server
                    .run(
                        move |client| exchange::service(Arc::clone(&exchanges), client),
                        stop,
                    )
                    .await;
            });
        }
        while servers.join_next().await.is_some() {}
    }
}

async fn bind(key: &str, address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| BindError::Address {
            key: key.to_owned(),
            address,
            source,
        })
}

impl Timeouts {
    /// Anybody may come, and come slowly.
    const STRANGERS: Timeouts = Timeouts {
        header: Duration::from_secs(10),
        idle: Some(Duration::from_secs(60)),
    };

    /// A homeserver on this machine keeps its connections for up to two minutes and takes it for a failed push when
    /// we close one that it is about to use: so let it close first.
    const NEIGHBOURS: Timeouts = Timeouts {
        header: Duration::from_secs(180),
        idle: Some(Duration::from_secs(300)),
    };

    /// Streams of events stay open for as long as their readers like.
    const OURSELVES: Timeouts = Timeouts {
        header: Duration::from_secs(60),
        idle: None,
    };
}
