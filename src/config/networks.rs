//! `bridges.d`: the bridge of each network, and that their listeners do not collide.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use comity_bridge::{
    Bridge, BridgeKind, ConfigProblem, ConfigTable, Endpoint, GatewayInfo, Listener, NetworkName,
};
use serde_json::{Map, Value};

use super::delivery::{self, DeliveryConfig};
use super::http::HttpConfig;
use super::sources::Sources;
use crate::registry::PROTOCOLS;

/// One network.
pub struct NetworkConfig {
    /// Its name, which is its file's.
    pub name: NetworkName,
    /// What speaks its protocol.
    pub kind: &'static dyn BridgeKind,
    /// Its file.
    pub file: PathBuf,
    /// Its bridge's keys: without `protocol` and `delivery`.
    pub table: ConfigTable,
    /// How deliveries into it are treated.
    pub delivery: DeliveryConfig,
}

impl NetworkConfig {
    /// A bridge for this network; a new one for each start. Secret files are read again.
    pub fn configure(&self, gateway: &GatewayInfo) -> Result<Box<dyn Bridge>, Vec<ConfigProblem>> {
        self.kind.configure(gateway, &self.name, self.table.clone())
    }
}

impl fmt::Debug for NetworkConfig {
    // Without the table, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetworkConfig")
            .field("name", &self.name)
            .field("protocol", &self.kind.protocol())
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// All networks, also those that have problems.
pub(super) struct Networks {
    pub(super) configs: Vec<NetworkConfig>,
    pub(super) problems: Vec<ConfigProblem>,
    /// None where the protocol is not known.
    kinds: BTreeMap<NetworkName, Option<&'static dyn BridgeKind>>,
    endpoints: Vec<(NetworkName, Endpoint)>,
}

impl Networks {
    /// Finds the bridge of each network and lets it check its table.
    pub(super) fn read(
        sources: &Sources,
        gateway: &GatewayInfo,
        defaults: &DeliveryConfig,
        kinds: &[&'static dyn BridgeKind],
    ) -> Self {
        let mut networks = Networks {
            configs: Vec::new(),
            problems: Vec::new(),
            kinds: BTreeMap::new(),
            endpoints: Vec::new(),
        };
        for (name, source) in &sources.networks {
            networks.kinds.insert(name.clone(), None);
            let Some(values) = &source.values else {
                continue;
            };
            let place =
                |problem: ConfigProblem| sources.place(&format!("bridges.{name}."), problem);
            let mut values = values.clone();
            let delivery = match of_network(&mut values, &source.file, defaults) {
                Ok(delivery) => delivery,
                Err(found) => {
                    networks.problems.extend(found.into_iter().map(place));
                    defaults.clone()
                }
            };
            let config = match config(name, &source.file, values, kinds) {
                Ok(config) => NetworkConfig { delivery, ..config },
                Err(problem) => {
                    networks.problems.push(place(problem));
                    continue;
                }
            };
            networks.kinds.insert(name.clone(), Some(config.kind));
            match config.configure(gateway) {
                Ok(bridge) => {
                    let endpoints = bridge.endpoints();
                    networks.endpoints.extend(
                        endpoints
                            .into_iter()
                            .map(|endpoint| (name.clone(), endpoint)),
                    );
                }
                Err(found) => {
                    // Never pass for correct what a bridge refused without a word.
                    if found.is_empty() {
                        networks.problems.push(ConfigProblem {
                            file: source.file.display().to_string(),
                            key: "-".to_owned(),
                            found: "is refused by its bridge, which does not say why".to_owned(),
                            instead: "report this as a bug".to_owned(),
                        });
                    }
                    networks.problems.extend(found.into_iter().map(place));
                }
            }
            networks.configs.push(config);
        }
        networks
    }

    /// The networks of this name, if there is one: its bridge, if that is known.
    pub(super) fn kind(&self, name: &NetworkName) -> Option<Option<&'static dyn BridgeKind>> {
        self.kinds.get(name).copied()
    }

    /// The networks on which the gateway's own rooms can be offered.
    pub(super) fn hosting(&self) -> impl Iterator<Item = &NetworkName> {
        self.kinds
            .iter()
            .filter(|(_, kind)| kind.is_some_and(|kind| kind.hosts_rooms()))
            .map(|(name, _)| name)
    }

    /// True when the protocol of some network is not known, so that it might be any.
    pub(super) fn some_unknown(&self) -> bool {
        self.kinds.values().any(Option::is_none)
    }

    /// Checks that each address has one listener, and each path of the public one goes to one network.
    pub(super) fn check_listeners(
        &mut self,
        root: &mut ConfigTable,
        sources: &Sources,
        http: &HttpConfig,
    ) {
        if let Some(public) = http.public
            && collide(public, http.admin)
        {
            root.problem(
                "http.public",
                format!("{public} is the admin listener's address"),
                "give it another port",
            );
        }
        let mut taken: Vec<(SocketAddr, String)> = vec![(http.admin, "http.admin".to_owned())];
        taken.extend(http.public.map(|public| (public, "http.public".to_owned())));
        let mut paths: BTreeMap<&str, &NetworkName> = BTreeMap::new();
        for (network, endpoint) in &self.endpoints {
            match endpoint.listener {
                Listener::Own(address) => {
                    let own = format!("network {network:?}", network = network.as_str());
                    let other = taken
                        .iter()
                        .find(|(other, owner)| collide(*other, address) && *owner != own);
                    if let Some((_, owner)) = other {
                        let source = &sources.networks[network];
                        let key = key_of(source.values.as_ref(), address);
                        let problem = ConfigProblem {
                            file: source.file.display().to_string(),
                            key,
                            found: format!("{address} is the address of {owner} already"),
                            instead: "give each listener an address of its own".to_owned(),
                        };
                        let prefix = format!("bridges.{network}.");
                        self.problems.push(sources.place(&prefix, problem));
                    }
                    taken.push((address, own));
                }
                Listener::Public => {
                    if http.public.is_none() && sources.main_is_readable {
                        root.problem(
                            "http.public",
                            format!(
                                "is missing, but network {:?} answers {} there",
                                network.as_str(),
                                endpoint.prefix
                            ),
                            "give it an address, e.g. \"0.0.0.0:8421\"",
                        );
                    }
                    let first = *paths.entry(&endpoint.prefix).or_insert(network);
                    if first != network {
                        self.problems.push(ConfigProblem {
                            file: sources.networks[network].file.display().to_string(),
                            key: "protocol".to_owned(),
                            found: format!(
                                "answers {} on the public listener, as network {:?} does",
                                endpoint.prefix,
                                first.as_str()
                            ),
                            instead: "keep one of the two networks".to_owned(),
                        });
                    }
                }
            }
        }
    }
}

/// One network and its file, looked at alone. No problem at all when its file could not be parsed: that is said already.
pub(super) fn find(
    sources: &Sources,
    network: &str,
    kinds: &[&'static dyn BridgeKind],
) -> (PathBuf, Result<NetworkConfig, Option<ConfigProblem>>) {
    let found = sources
        .networks
        .iter()
        .find(|(name, _)| name.as_str() == network);
    let Some((name, source)) = found else {
        let names: Vec<&str> = sources.networks.keys().map(NetworkName::as_str).collect();
        let file = sources.directory.join(format!("{network}.toml"));
        let problem = ConfigProblem {
            file: file.display().to_string(),
            key: "-".to_owned(),
            found: format!("there is no network {network:?}"),
            instead: match names.as_slice() {
                [] => "write its file first".to_owned(),
                names => format!("name one of {}", names.join(", ")),
            },
        };
        return (file, Err(Some(problem)));
    };
    let config = match &source.values {
        Some(values) => {
            let mut values = values.clone();
            // Checked with the whole configuration; verbs have nothing to do with it.
            values.remove("delivery");
            config(name, &source.file, values, kinds).map_err(Some)
        }
        None => Err(None),
    };
    (source.file.clone(), config)
}

/// Takes the network's own `[delivery]` out of its values.
fn of_network(
    values: &mut Map<String, Value>,
    file: &Path,
    defaults: &DeliveryConfig,
) -> Result<DeliveryConfig, Vec<ConfigProblem>> {
    let own = values.remove("delivery").into_iter();
    let own = own.map(|table| ("delivery".to_owned(), table)).collect();
    let mut table = ConfigTable::new(file, "", own);
    let delivery = delivery::read(&mut table, defaults);
    table.finish().map(|()| delivery)
}

fn config(
    name: &NetworkName,
    file: &Path,
    mut values: Map<String, Value>,
    kinds: &[&'static dyn BridgeKind],
) -> Result<NetworkConfig, ConfigProblem> {
    let protocol = values.remove("protocol");
    match find_kind(kinds, protocol) {
        Ok(kind) => Ok(NetworkConfig {
            name: name.clone(),
            kind,
            file: file.to_owned(),
            table: ConfigTable::new(file, "", values),
            delivery: DeliveryConfig::default(),
        }),
        Err((found, instead)) => Err(ConfigProblem {
            file: file.display().to_string(),
            key: "protocol".to_owned(),
            found,
            instead,
        }),
    }
}

/// The bridge of a `protocol` value, or what is wrong with it and what to write.
fn find_kind(
    kinds: &[&'static dyn BridgeKind],
    protocol: Option<Value>,
) -> Result<&'static dyn BridgeKind, (String, String)> {
    let words: Vec<String> = kinds
        .iter()
        .map(|kind| format!("{:?}", kind.protocol()))
        .collect();
    let one_of_these = match words.as_slice() {
        [] => "this build has no bridges; build it with the feature of a protocol".to_owned(),
        words => format!("write one of {}", words.join(", ")),
    };
    let protocol = match protocol {
        None => return Err(("is missing".to_owned(), one_of_these)),
        Some(Value::String(protocol)) => protocol,
        Some(other) => return Err((format!("found {other}"), one_of_these)),
    };
    let found = kinds.iter().find(|kind| kind.protocol() == protocol);
    found.copied().ok_or_else(|| {
        if PROTOCOLS.contains(&protocol.as_str()) {
            (
                format!("this build was made without {protocol:?}"),
                format!("build it with the cargo feature {protocol:?}, or {one_of_these}"),
            )
        } else {
            (format!("found {protocol:?}"), one_of_these)
        }
    })
}

/// The key whose value is this address. What a protocol calls it is its bridge's affair.
fn key_of(values: Option<&Map<String, Value>>, address: SocketAddr) -> String {
    let is_it = |value: &Value| {
        value
            .as_str()
            .and_then(|text| text.parse::<SocketAddr>().ok())
            == Some(address)
    };
    values
        .into_iter()
        .flatten()
        .find(|(_, value)| is_it(value))
        .map_or_else(|| "-".to_owned(), |(key, _)| key.clone())
}

/// True when both cannot be listened on. Port 0 is any free port.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() != 0
        && a.port() == b.port()
        && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_collide_on_the_same_port_where_one_covers_the_other() {
        let both = |a: &str, b: &str| {
            let parse = |text: &str| text.parse::<SocketAddr>().expect("an address");
            collide(parse(a), parse(b))
        };
        assert!(both("127.0.0.1:8420", "127.0.0.1:8420"));
        assert!(both("0.0.0.0:8420", "127.0.0.1:8420"));
        assert!(both("127.0.0.1:8420", "[::]:8420"));
        assert!(!both("127.0.0.1:8420", "127.0.0.2:8420"));
        assert!(!both("127.0.0.1:8420", "127.0.0.1:8421"));
        assert!(!both("127.0.0.1:0", "127.0.0.1:0"));
    }
}
