//! The one resolver.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;

/// A resolver on the machine's own settings.
pub fn system() -> Result<TokioResolver, NetError> {
    let mut builder = TokioResolver::builder_tokio()?;
    limits(builder.options_mut());
    builder.build()
}

/// A resolver that asks one server, over UDP and TCP: for tests and split horizons.
pub fn at(server: SocketAddr) -> Result<TokioResolver, NetError> {
    let mut udp = ConnectionConfig::udp();
    udp.port = server.port();
    let mut tcp = ConnectionConfig::tcp();
    tcp.port = server.port();
    let server = NameServerConfig::new(server.ip(), true, vec![udp, tcp]);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    limits(builder.options_mut());
    builder.build()
}

fn limits(options: &mut hickory_resolver::config::ResolverOpts) {
    options.timeout = Duration::from_secs(3);
    options.attempts = 2;
    options.positive_max_ttl = Some(Duration::from_secs(24 * 3600));
    // A name that is missing now may be there soon: a peer that is being set up should not wait for long.
    options.negative_max_ttl = Some(Duration::from_secs(60));
    options.ndots = 0;
}
