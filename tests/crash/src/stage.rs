//! A gateway with one room between scripted networks.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::Result;
use comity::config::{Config, HttpConfig, NetworkConfig, RoomConfig};
use comity::gateway::Gateway;
use comity_bridge::{
    Access, Bridge, BridgeKind, ConfigProblem, ConfigTable, GatewayInfo, NetworkName, RoomAddress,
};

/// Starts the gateway of `dir`. `networks` are their names and what makes a bridge, each time that one is started.
pub(crate) async fn gateway(
    dir: &Path,
    networks: Vec<(&str, Kind)>,
    channels: &[&str],
) -> Result<Gateway> {
    let network = |(name, kind): (&str, Kind)| -> Result<NetworkConfig> {
        Ok(NetworkConfig {
            name: name.parse()?,
            kind: Box::leak(Box::new(kind)),
            file: PathBuf::new(),
            table: ConfigTable::new("crash", "", serde_json::Map::new()),
            delivery: comity::config::DeliveryConfig::default(),
        })
    };
    let channels = channels.iter().map(|channel| channel.parse());
    let config = Config {
        gateway: GatewayInfo {
            domain: "crash.example".to_owned(),
            public_url: None,
            data_dir: dir.join("data"),
        },
        http: HttpConfig {
            admin: "127.0.0.1:0".parse()?,
            public: None,
            tls: None,
        },
        rooms: vec![RoomConfig {
            address: RoomAddress::new("room", "crash.example")?,
            channels: channels.collect::<Result<_, _>>()?,
            hosted: Vec::new(),
            access: Access::Off,
        }],
        networks: networks.into_iter().map(network).collect::<Result<_>>()?,
        journal: comity::config::JournalConfig::default(),
    };
    Gateway::start(config)
        .await
        .map_err(|error| anyhow::anyhow!("{error}"))
}

/// A scripted network: makes its bridges.
pub(crate) struct Kind(Box<dyn Fn() -> Box<dyn Bridge> + Send + Sync>);

impl Kind {
    pub(crate) fn new<B: Bridge + 'static>(bridge: impl Fn() -> B + Send + Sync + 'static) -> Kind {
        Kind(Box::new(move || Box::new(bridge())))
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kind")
    }
}

impl BridgeKind for Kind {
    fn protocol(&self) -> &'static str {
        "scripted"
    }

    fn configure(
        &self,
        _: &GatewayInfo,
        _: &NetworkName,
        _: ConfigTable,
    ) -> Result<Box<dyn Bridge>, Vec<ConfigProblem>> {
        Ok((self.0)())
    }
}

pub(crate) fn append_to(path: &Path) -> File {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .expect("the test's directory can be written")
}
