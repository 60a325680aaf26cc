//! Keeps a message from going round for ever.
//!
//! An *echo* is our own delivery reported by the network that showed it: its bridge knows it by id and marks it `own`. A *loop* is an
//! event that left this gateway and returns through a peer: our name is in `via`, or its author's address is one of ours.
//!
//! Both are known by ids and names, never by the text: two people may well say "yes" in the same second. Only for circles through
//! foreign bridges, which strip every id, is the text looked at (`breaker`).

mod breaker;
mod memory;

use std::collections::HashSet;

use comity_bridge::report::Refusal;
use comity_bridge::{Author, NetworkName};

pub(super) use breaker::{Breaker, Finding};

/// Gateways that an event may have passed. Nobody's rooms are that far apart.
const LONGEST_WAY: usize = 16;

/// The longest DNS name. Bytes.
const LONGEST_NAME: usize = 253;

/// The way of an event including this gateway, or why it has gone far enough.
pub(super) fn way(domain: &str, mut via: Vec<String>) -> Result<Vec<String>, Refusal> {
    let named = |gateway: &String| !gateway.is_empty() && gateway.len() <= LONGEST_NAME;
    if !via.iter().all(named) {
        return Err(Refusal::Malformed);
    }
    let been_here = via
        .iter()
        .any(|gateway| gateway.eq_ignore_ascii_case(domain));
    if been_here || via.len() >= LONGEST_WAY {
        return Err(Refusal::Loop);
    }
    via.push(domain.to_owned());
    Ok(via)
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn gateways(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn each_gateway_adds_its_name_to_the_way() {
        let way = way("gw1.example", gateways(&["gw3.example", "gw2.example"]));
        assert_eq!(
            way,
            Ok(gateways(&["gw3.example", "gw2.example", "gw1.example"]))
        );
    }

    #[test]
    fn what_has_been_here_before_or_everywhere_goes_no_further() {
        let back = gateways(&["GW1.example", "gw2.example"]);
        assert_eq!(way("gw1.example", back), Err(Refusal::Loop));
        let far = (0..16).map(|n| format!("gw{n}.test")).collect();
        assert_eq!(way("gw1.example", far), Err(Refusal::Loop));
    }

    #[test]
    fn a_way_of_things_that_are_no_names_is_malformed() {
        for bad in [String::new(), "x".repeat(254)] {
            assert_eq!(way("gw1.example", vec![bad]), Err(Refusal::Malformed));
        }
    }
}
