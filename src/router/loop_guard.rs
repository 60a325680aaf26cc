//! Keeps a message from going round for ever.
//!
//! An *echo* is our own delivery reported by the network that showed it: its bridge knows it by id and marks it `own`. A *loop* is an
//! event that left this gateway and returns through a peer: its author's address is one of ours.

use std::collections::HashSet;

use comity_bridge::report::Refusal;
use comity_bridge::{Author, NetworkName};

/// Refuses an author of this gateway who comes in as somebody of another one: an address at our domain, or at one of our
/// networks that is not the one which reports. Other names below our domain are gateways of their own.
pub(super) fn check(
    domain: &str,
    networks: &HashSet<NetworkName>,
    author: &Author,
    network: &NetworkName,
) -> Result<(), Refusal> {
    let host = author.address.host();
    let label = host
        .strip_suffix(domain)
        .and_then(|rest| rest.strip_suffix('.'));
    let other_network = label.is_some_and(|label| {
        label != network.as_str() && networks.iter().any(|n| n.as_str() == label)
    });
    if host == domain || other_network {
        Err(Refusal::Loop)
    } else {
        Ok(())
    }
}
