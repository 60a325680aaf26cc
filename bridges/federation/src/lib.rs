//! The native federation: gateways that find each other by DNS, exchange signed events and share rooms.
//!
//! `PROTOCOL.md` beside this crate says what is spoken; comments cite its sections.
//!
//! | module | what |
//! |---|---|
//! | [`ident`] | names of servers, users, aliases, rooms and events |
//! | [`wire`] | the grammar: canonical form, events, keys, signed requests, bodies |
//! | [`session`] | what events mean: judging those of others, composing our own; no socket, no clock, no SQL |
//! | [`graph`] | where events, queues and marks are kept |
//! | [`discovery`], [`client`] | where a server is, and requests to it |
//! | [`keyring`] | the keys of other servers |
//! | [`server`] | requests of other servers |
//! | [`joining`] | entering rooms |
//! | [`inbound`], [`outbound`] | graph to gateway, gateway to graph |
//! | [`peers`] | one queue for each peer |
//! | [`catch_up`] | what was missed while we or a peer were away |
//! | [`tasks`] | the bridge's tasks, none of which ends unnoticed |
//! | [`bridge`] | the task that holds all of this together |

pub mod bridge;
pub mod catch_up;
pub mod client;
pub mod config;
pub mod discovery;
pub mod graph;
pub mod ident;
pub mod identity;
pub mod inbound;
pub mod joining;
pub mod keyring;
pub mod node;
pub mod outbound;
pub mod peers;
pub mod server;
pub mod session;
pub mod tasks;
mod text;
pub mod wire;

#[cfg(test)]
mod tests;

use std::time::{SystemTime, UNIX_EPOCH};

use comity_bridge::{
    Bridge, BridgeKind, ConfigProblem, ConfigTable, GatewayInfo, NetworkName, Verb,
};

use crate::bridge::FederationBridge;
use crate::config::Config;
use crate::ident::Alias;
use crate::identity::Identity;

/// The protocol `federation`.
pub struct Federation;

impl BridgeKind for Federation {
    fn protocol(&self) -> &'static str {
        "federation"
    }

    fn hosts_rooms(&self) -> bool {
        true
    }

    fn channel(&self, native: &str) -> Result<String, String> {
        match Alias::parse(native) {
            Ok(alias) => Ok(alias.as_str().to_owned()),
            Err(_) => Err(
                "write #name@domain, with a name of 1 to 64 characters of a-z, A-Z, 0-9, \".\", \"_\" and \"-\""
                    .to_owned(),
            ),
        }
    }

    fn configure(
        &self,
        gateway: &GatewayInfo,
        network: &NetworkName,
        table: ConfigTable,
    ) -> Result<Box<dyn Bridge>, Vec<ConfigProblem>> {
        let config = Config::read(gateway, table)?;
        Ok(Box::new(FederationBridge {
            network: network.clone(),
            config,
            transport: None,
            unclaimed: bridge::UNCLAIMED,
        }))
    }

    fn verbs(&self) -> &'static [Verb] {
        &[Verb {
            name: "keys",
            about: "Prints this gateway's key document and the DNS records that go with it",
            run: keys,
        }]
    }
}

/// `comity keys NETWORK`: what to publish.
fn keys(
    gateway: &GatewayInfo,
    _network: &NetworkName,
    table: ConfigTable,
) -> Result<String, Vec<ConfigProblem>> {
    let file = table.file().display().to_string();
    let config = Config::read(gateway, table)?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let now_ms = u64::try_from(now.as_millis()).unwrap_or(0);
    let identity = Identity::open(&gateway.identity_dir(), now_ms).map_err(|error| {
        let instead = "make the gateway's data directory readable and writable for this user";
        vec![ConfigProblem {
            file,
            key: "data_dir".to_owned(),
            found: error.to_string(),
            instead: instead.to_owned(),
        }]
    })?;
    let server = &config.server;
    let document = identity.document(server, now_ms);
    let json = serde_json::to_string_pretty(document.value()).unwrap_or_default();
    Ok(format!(
        "; optional, lets peers compare what they fetch with DNS\n\
         _chat-key.{server}. IN TXT \"{}\"\n\
         ; where this gateway is reached; put in host and port\n\
         _chat._tcp.{server}. IN SRV 10 10 443 {server}.\n\
         \n\
         {json}\n",
        document.txt()
    ))
}
