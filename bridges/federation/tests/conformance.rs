//! The contract's rules, with a scripted peer that speaks the wire: DNS, TLS, signed requests, signed events.

mod gateways;
mod peer;
mod wire;

comity_bridge::conformance_tests!(peer::Peer::start());
