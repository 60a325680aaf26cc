//! A configuration for tests: one room, shown in a channel of each of some scripted networks.

use std::path::{Path, PathBuf};

use comity_bridge::test_util::scripted::ScriptedKind;
use comity_bridge::{Access, ConfigTable, GatewayInfo};

use super::{Config, DeliveryConfig, HttpConfig, JournalConfig, NetworkConfig, RoomConfig};

/// `#room@gw1.example` in `NAME/#room` for each name.
pub(crate) fn scripted(kind: &'static ScriptedKind, data_dir: &Path, names: &[&str]) -> Config {
    Config {
        gateway: GatewayInfo {
            domain: "gw1.example".to_owned(),
            public_url: None,
            data_dir: data_dir.to_owned(),
        },
        http: HttpConfig {
            admin: "127.0.0.1:0".parse().expect("an address"),
            public: None,
            tls: None,
        },
        rooms: vec![RoomConfig {
            address: "#room@gw1.example".parse().expect("a room"),
            channels: names
                .iter()
                .map(|name| format!("{name}/#room").parse().expect("a channel"))
                .collect(),
            hosted: Vec::new(),
            access: Access::Off,
        }],
        networks: names
            .iter()
            .map(|name| NetworkConfig {
                name: name.parse().expect("a name"),
                kind,
                file: PathBuf::new(),
                table: ConfigTable::new("test", "", serde_json::Map::new()),
                delivery: DeliveryConfig::default(),
            })
            .collect(),
        journal: JournalConfig::default(),
    }
}
