//! Ports for what a test listens on.

use std::net::TcpListener;

use anyhow::{Result, bail};

/// A port that nobody listens on at `ip`.
///
/// Below the range from which the system takes the near ends of connections, so that it is still
/// free a moment later, when the daemon under test binds it, and after each of its restarts.
pub fn free_port(ip: &str) -> Result<u16> {
    for _ in 0..1000 {
        let port = rand::random_range(20_000..32_000);
        if TcpListener::bind((ip, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port at {ip}");
}
