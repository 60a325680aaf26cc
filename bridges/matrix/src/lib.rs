//! The Matrix bridge: an application service with ghosts.
//!
//! | module | what |
//! |---|---|
//! | `config` | this network's table, typed |
//! | `registration` | the verb that prints the file for the homeserver |
//! | `bridge` | the task: link, sockets and timers around the session |
//! | `session` | the application service as a state machine |
//! | `inbound`, `outbound` | Matrix's words -> the gateway's, and back |
//! | `ident` | users, rooms, transaction ids, our mark on messages |
//! | `wire` | requests and answers of both APIs |
//!
//! See `README.md` for what is spoken and what is left out.

mod bridge;
mod config;
mod ident;
mod inbound;
mod outbound;
mod registration;
mod session;
mod wire;

use comity_bridge::{
    Bridge, BridgeKind, ConfigProblem, ConfigTable, GatewayInfo, NetworkName, Verb,
};

use crate::bridge::MatrixBridge;
use crate::config::{Config, Tokens};
use crate::ident::RoomName;

/// Networks with `protocol = "matrix"`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Matrix;

/// Networks with `protocol = "matrix"`.
pub static KIND: Matrix = Matrix;

static VERBS: [Verb; 1] = [Verb {
    name: "registration",
    about: "Print the file that tells a Matrix homeserver about this network, making its tokens if need be",
    run: registration::registration,
}];

impl BridgeKind for Matrix {
    fn protocol(&self) -> &'static str {
        "matrix"
    }

    fn channel(&self, native: &str) -> Result<String, String> {
        match RoomName::parse(native) {
            Some(_) => Ok(native.to_owned()),
            None => Err(
                "write \"network/#alias:server\", or the room's id, \"network/!...\"".to_owned(),
            ),
        }
    }

    fn configure(
        &self,
        gateway: &GatewayInfo,
        network: &NetworkName,
        table: ConfigTable,
    ) -> Result<Box<dyn Bridge>, Vec<ConfigProblem>> {
        let config = Config::read(gateway, network, table, Tokens::Read)?;
        Ok(Box::new(MatrixBridge::new(config)))
    }

    fn verbs(&self) -> &'static [Verb] {
        &VERBS
    }
}
