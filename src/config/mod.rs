//! The whole configuration, parsed into types.
//!
//! Defaults, then the file, then `bridges.d/*.toml` beside it, then `COMITY_*` variables. Every problem is
//! found in one go: a file that cannot be parsed hides only itself. `comity check` and `comity run` read
//! with the same [`load`]. Reading creates no file, opens no socket, and never shows a secret.
//!
//! | module | what |
//! |---|---|
//! | `sources` | files and environment, merged, each value with where it stands |
//! | `gateway` | `[gateway]`, and what a gateway's DNS name is |
//! | `http` | `[http]` |
//! | `delivery` | `[delivery]` and `[journal]` |
//! | `networks` | `bridges.d`: the bridge of each network, and that their listeners do not collide |
//! | `rooms` | `[[room]]`, and that rooms, channels and networks fit together |

mod delivery;
#[cfg(test)]
mod example_test;
mod gateway;
mod http;
mod networks;
mod rooms;
#[cfg(test)]
pub(crate) mod sample;
mod sources;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::Path;

use comity_bridge::{Bridge, BridgeKind, ConfigProblem, ConfigTable, GatewayInfo};

pub use delivery::{DeliveryConfig, JournalConfig};
pub use http::{HttpConfig, TlsFiles};
pub use networks::NetworkConfig;
pub use rooms::RoomConfig;

use networks::Networks;
use sources::Sources;

/// Where the configuration is when nothing else is said.
pub const DEFAULT_FILE: &str = "/etc/comity/comity.toml";

/// A configuration without problems.
#[derive(Debug)]
pub struct Config {
    /// What every bridge may know.
    pub gateway: GatewayInfo,
    /// The gateway's own listeners.
    pub http: HttpConfig,
    /// What the journal keeps, and how much may wait in it.
    pub journal: JournalConfig,
    /// The rooms, in the order of the file.
    pub rooms: Vec<RoomConfig>,
    /// The networks, by name.
    pub networks: Vec<NetworkConfig>,
}

impl Config {
    /// A bridge for each network, in the order of `networks`. Secret files are read again, so that this can fail later on.
    pub fn bridges(&self) -> Result<Vec<Box<dyn Bridge>>, Vec<ConfigProblem>> {
        let mut bridges = Vec::new();
        let mut problems = Vec::new();
        for network in &self.networks {
            match network.configure(&self.gateway) {
                Ok(bridge) => bridges.push(bridge),
                Err(found) => problems.extend(found),
            }
        }
        if problems.is_empty() {
            Ok(bridges)
        } else {
            Err(problems)
        }
    }
}

/// Reads the configuration from `path`, from `bridges.d` beside it and from the environment.
pub fn load(path: &Path) -> Result<Config, Vec<ConfigProblem>> {
    let environment = std::env::vars_os().collect();
    load_from(path, environment, crate::registry::kinds())
}

/// Gives one network's table to `ask`, without the checks that only a whole configuration can pass: for verbs that
/// prepare what those checks look for.
pub fn with_network<T>(
    path: &Path,
    network: &str,
    ask: impl FnOnce(&GatewayInfo, &NetworkConfig) -> Result<T, Vec<ConfigProblem>>,
) -> Result<T, Vec<ConfigProblem>> {
    let mut sources = Sources::read(path, std::env::vars_os().collect());
    let mut root = ConfigTable::new(path, "", std::mem::take(&mut sources.root));
    let (_, public_url) = http::read(&mut root);
    let gateway = gateway::read(&mut root, public_url);
    let (file, found) = networks::find(&sources, network, crate::registry::kinds());
    let mut problems = std::mem::take(&mut sources.problems);
    let (file, main) = (file.display().to_string(), path.display().to_string());
    problems.retain(|problem| problem.file == file || problem.file == main);
    if sources.main_is_readable {
        let found = root.finish().err().unwrap_or_default().into_iter();
        problems.extend(
            found
                .filter(|problem| problem.key.starts_with("gateway."))
                .map(|problem| sources.place("", problem)),
        );
    }
    match found {
        Ok(config) if problems.is_empty() => ask(&gateway, &config).map_err(|found| {
            let prefix = format!("bridges.{network}.");
            let place = |problem| sources.place(&prefix, problem);
            found.into_iter().map(place).collect()
        }),
        Ok(_) => Err(problems),
        Err(problem) => {
            problems.extend(problem);
            Err(problems)
        }
    }
}

/// Where the daemon of this configuration is asked. Looks at nothing else, so that whoever asks need not be allowed to
/// read secrets.
pub fn admin_address(path: &Path) -> Result<SocketAddr, Vec<ConfigProblem>> {
    let mut sources = Sources::read(path, std::env::vars_os().collect());
    let mut root = ConfigTable::new(path, "", std::mem::take(&mut sources.root));
    let (http, _) = http::read(&mut root);
    let main = path.display().to_string();
    let mut problems = std::mem::take(&mut sources.problems);
    problems.retain(|problem| problem.file == main);
    let found = root.finish().err().unwrap_or_default().into_iter();
    problems.extend(
        found
            .filter(|problem| problem.key == "http.admin")
            .map(|problem| sources.place("", problem)),
    );
    if problems.is_empty() {
        Ok(http.admin)
    } else {
        Err(problems)
    }
}

/// [`load`] with the environment and the bridges given.
fn load_from(
    path: &Path,
    environment: Vec<(std::ffi::OsString, std::ffi::OsString)>,
    kinds: &[&'static dyn BridgeKind],
) -> Result<Config, Vec<ConfigProblem>> {
    let mut sources = Sources::read(path, environment);
    let mut problems = std::mem::take(&mut sources.problems);

    let mut root = ConfigTable::new(path, "", std::mem::take(&mut sources.root));
    let (http, public_url) = http::read(&mut root);
    let gateway = gateway::read(&mut root, public_url);
    let room_tables = root.tables("room");

    let journal = delivery::read_journal(&mut root);
    let delivery = delivery::read(&mut root, &DeliveryConfig::default());

    let mut networks = Networks::read(&sources, &gateway, &delivery, kinds);
    networks.check_listeners(&mut root, &sources, &http);
    let rooms = rooms::read(&mut root, room_tables, &gateway, &networks);

    // Of a file that could not be parsed there is nothing else to say.
    if sources.main_is_readable
        && let Err(found) = root.finish()
    {
        problems.extend(found.into_iter().map(|problem| sources.place("", problem)));
    }
    problems.append(&mut networks.problems);
    if problems.is_empty() {
        Ok(Config {
            gateway,
            http,
            journal,
            rooms,
            networks: networks.configs,
        })
    } else {
        Err(problems)
    }
}
