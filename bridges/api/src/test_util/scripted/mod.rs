//! A network in memory, and a bridge to it that does what the contract says, or breaks one rule on purpose.
//!
//! The gateway's own tests and its benchmark use it in place of a real protocol: [`ScriptedKind`] is a
//! [`BridgeKind`], and [`ScriptedNetwork`] is the handle on what happens at the far end.
//!
//! ```
//! use comity_bridge::test_util::scripted::{Reaction, ScriptedKind};
//!
//! let kind = ScriptedKind::new();
//! let network = kind.network("alpha");
//! network.say("#rust", "ann", "hello");      // kept until a bridge acknowledges it
//! network.next(Reaction::Panic);             // what becomes of the next delivery
//! assert_eq!(network.acknowledged(), 0);
//! ```
//!
//! The queues of the network are not bounded: a test puts in what it wants to see come out.

mod bridge;
mod far_side;
mod fault;
mod network;
mod wire;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::bridge::{Bridge, BridgeKind, GatewayInfo};
use crate::config_table::{ConfigProblem, ConfigTable};
use crate::event::NetworkName;

use bridge::ScriptedBridge;
pub use far_side::ScriptedFarSide;
pub use fault::Fault;
pub use network::{Attempt, Reaction, ScriptedNetwork};

/// The protocol `scripted`: its networks are in memory, and each is made when it is first named.
#[derive(Debug, Default)]
pub struct ScriptedKind {
    networks: Mutex<BTreeMap<String, ScriptedNetwork>>,
}

impl ScriptedKind {
    /// Without any network yet.
    pub fn new() -> Self {
        ScriptedKind::default()
    }

    /// The network of this name. It outlives the bridges that are connected to it, and the gateway.
    pub fn network(&self, name: &str) -> ScriptedNetwork {
        self.networks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(name.to_owned())
            .or_default()
            .clone()
    }
}

impl BridgeKind for ScriptedKind {
    fn protocol(&self) -> &'static str {
        "scripted"
    }

    /// Knows no key.
    fn configure(
        &self,
        _gateway: &GatewayInfo,
        network: &NetworkName,
        table: ConfigTable,
    ) -> Result<Box<dyn Bridge>, Vec<ConfigProblem>> {
        table.finish()?;
        let network = self.network(network.as_str());
        Ok(Box::new(ScriptedBridge::new(network, None)))
    }
}
