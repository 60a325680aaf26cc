//! Ports for what a test listens on.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};

/// Ports that were handed out here: nobody may be listening on them yet.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port that nobody listens on at `ip`, never the same twice.
///
/// Below the range from which the system takes the near ends of connections, so that it is still
/// free a moment later, when the daemon under test binds it, and after each of its restarts.
pub fn free_port(ip: &str) -> Result<u16> {
    for _ in 0..1000 {
        let port = rand::random_range(20_000..32_000);
        if TcpListener::bind((ip, port)).is_ok()
            && GIVEN
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(port)
        {
            return Ok(port);
        }
    }
    bail!("no free port at {ip}");
}
