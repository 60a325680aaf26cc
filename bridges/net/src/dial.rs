//! Connecting to a host that the operator named.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long one address may take to answer before the next one is tried.
const PER_ADDRESS: Duration = Duration::from_secs(10);

/// Connects to `host` (a name, an IPv4 or a bare IPv6 address), trying every address that it has.
pub async fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    for address in addresses {
        match dial_address(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Connects to exactly this address.
pub async fn dial_address(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = timeout(PER_ADDRESS, TcpStream::connect(address))
        .await
        .map_err(|_| {
            io::Error::new(
                io::ErrorKind::TimedOut,
                format!("{address} did not answer in {PER_ADDRESS:?}"),
            )
        })??;
    // Chat lines are small and must not wait for each other.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Splits `host:port`, `[v6]:port`; the port must be there.
pub fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    let host = match host.strip_prefix('[') {
        Some(rest) => {
            let inner = rest.strip_suffix(']')?;
            inner.parse::<std::net::Ipv6Addr>().ok()?;
            inner
        }
        None if host.contains(':') => return None,
        None => host,
    };
    let fits = !host.is_empty()
        && host.len() <= 253
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b));
    fits.then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_and_a_port() {
        assert_eq!(
            host_and_port("irc.libera.chat:6697"),
            Some(("irc.libera.chat".to_owned(), 6697))
        );
        assert_eq!(host_and_port("[::1]:6667"), Some(("::1".to_owned(), 6667)));
        for bad in [
            "irc.libera.chat",
            "::1:6667",
            ":6667",
            "a b:1",
            "host:0",
            "host:70000",
            "[x]:1",
        ] {
            assert_eq!(host_and_port(bad), None, "{bad}");
        }
    }
}
