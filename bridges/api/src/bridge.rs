//! What a protocol and a configured network are to the gateway.

use std::path::PathBuf;

use async_trait::async_trait;

use crate::config_table::{ConfigProblem, ConfigTable};
use crate::error::BridgeError;
use crate::event::NetworkName;
use crate::http_inbox::Endpoint;
use crate::link::Link;

/// A protocol that this build can speak.
pub trait BridgeKind: Send + Sync {
    /// The `protocol` value that selects this bridge in the configuration.
    fn protocol(&self) -> &'static str;

    /// True when the gateway's own rooms can be offered over this protocol: then each network of this kind gets a
    /// channel named like the room's address (`#name@domain`) for every room that the configuration opens to peers.
    fn hosts_rooms(&self) -> bool {
        false
    }

    /// Checks the native name of a channel, without I/O. Returns its normal form, by which two spellings of one channel
    /// are known to be one; or what to write instead.
    fn channel(&self, native: &str) -> Result<String, String> {
        Ok(native.to_owned())
    }

    /// Checks one network's table. Does no I/O but reading the secret files that the table names. Reports every problem, not the first.
    fn configure(
        &self,
        gateway: &GatewayInfo,
        network: &NetworkName,
        table: ConfigTable,
    ) -> Result<Box<dyn Bridge>, Vec<ConfigProblem>>;

    /// Command line verbs of this protocol's own, each about one network: `comity VERB NETWORK`.
    fn verbs(&self) -> &'static [Verb] {
        &[]
    }
}

/// What every bridge may know of its gateway.
#[derive(Clone, Debug)]
pub struct GatewayInfo {
    /// The gateway's DNS name: the address of its rooms and users.
    pub domain: String,
    /// Where the public listener is reached from outside, without a slash at the end.
    pub public_url: Option<String>,
    /// The gateway's data directory.
    pub data_dir: PathBuf,
}

impl GatewayInfo {
    /// Where the gateway's signing keys are. The bridge that signs creates it.
    pub fn identity_dir(&self) -> PathBuf {
        self.data_dir.join("identity")
    }

    /// Where one network's bridge keeps what is its own. The core never looks inside.
    pub fn state_dir(&self, network: &NetworkName) -> PathBuf {
        self.data_dir.join("networks").join(network.as_str())
    }
}

/// A command of one protocol, run without the daemon.
pub struct Verb {
    /// The subcommand.
    pub name: &'static str,
    /// One line for `--help`.
    pub about: &'static str,
    /// Returns what is printed.
    pub run: fn(&GatewayInfo, &NetworkName, ConfigTable) -> Result<String, Vec<ConfigProblem>>,
}

/// One configured network, run as one task.
#[async_trait]
pub trait Bridge: Send {
    /// The HTTP paths that this network answers. Asked once, before [`Bridge::run`].
    fn endpoints(&self) -> Vec<Endpoint> {
        Vec::new()
    }

    /// Runs until `link.shutdown` fires or the network is lost for good. Reconnecting is the bridge's own work.
    ///
    /// A bridge that panics or returns an error which is temporary is started again with back-off,
    /// from a new `configure`; it never takes another down.
    async fn run(self: Box<Self>, link: Link) -> Result<(), BridgeError>;
}
