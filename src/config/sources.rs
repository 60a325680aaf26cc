//! Files and environment, merged, each value with where it stands.
//!
//! Nothing here knows what a key means.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use comity_bridge::{ConfigProblem, NetworkName};
use config::{Environment, FileFormat, Format, Source, Value, ValueKind};
use serde_json::Map;

/// The directory of the networks' files, beside the main file.
const NETWORKS_DIR: &str = "bridges.d";

/// The key under which networks are merged, so that variables can reach them: `COMITY_BRIDGES__LIBERA__NICK`.
const NETWORKS_KEY: &str = "bridges";

const DEFAULTS: [(&str, &str); 2] = [
    ("gateway.data_dir", super::gateway::DEFAULT_DATA_DIR),
    ("http.admin", super::http::DEFAULT_ADMIN),
];

/// All that is written anywhere.
#[derive(Default)]
pub(super) struct Sources {
    /// The main file's tables, with what overrides them.
    pub(super) root: Map<String, serde_json::Value>,
    /// False when the main file could not be parsed, so that nothing is known of it.
    pub(super) main_is_readable: bool,
    /// The networks, by name.
    pub(super) networks: BTreeMap<NetworkName, NetworkSource>,
    /// Where their files are.
    pub(super) directory: PathBuf,
    /// What could not be read.
    pub(super) problems: Vec<ConfigProblem>,
    /// Keys that the environment has set, and the variables that did.
    overrides: BTreeMap<String, String>,
    /// Keys that stand in a file, tables included.
    written: BTreeSet<String>,
}

/// One network's table.
pub(super) struct NetworkSource {
    /// Its file, also when it is not there and the table comes from the environment alone.
    pub(super) file: PathBuf,
    /// None when the file could not be parsed.
    pub(super) values: Option<Map<String, serde_json::Value>>,
}

impl Sources {
    /// Reads everything that there is.
    pub(super) fn read(path: &Path, environment: Vec<(OsString, OsString)>) -> Self {
        let mut sources = Sources::default();
        let mut builder = config::Config::builder();
        for (key, value) in DEFAULTS {
            builder = builder
                .set_default(key, value)
                .expect("the defaults have plain keys");
        }
        if let Some(main) = sources.read_main(path) {
            sources.main_is_readable = true;
            builder = builder.add_source(Layer(main));
        }
        let directory = path
            .parent()
            .unwrap_or_else(|| Path::new(""))
            .join(NETWORKS_DIR);
        let mut broken = BTreeSet::new();
        for (name, file) in sources.network_files(&directory) {
            match sources.read_toml(&file) {
                Some(values) => {
                    let prefix = format!("{NETWORKS_KEY}.{name}.");
                    note_keys(&mut sources.written, &prefix, &values);
                    let network = config::Map::from([(name.to_string(), Value::from(values))]);
                    builder = builder.add_source(Layer(config::Map::from([(
                        NETWORKS_KEY.to_owned(),
                        Value::from(network),
                    )])));
                }
                None => drop(broken.insert(name)),
            }
        }
        let variables = sources.read_environment(environment);
        let merged = builder
            .add_source(Layer(variables))
            .build()
            .and_then(|merged| merged.collect())
            .expect("layers are in memory and hold nothing that cannot be merged");
        sources.split(merged, &directory, broken);
        sources.directory = directory;
        sources
    }

    /// Says of a problem in the table at `prefix` where the key really stands.
    pub(super) fn place(&self, prefix: &str, mut problem: ConfigProblem) -> ConfigProblem {
        let mut key = format!("{prefix}{}", problem.key);
        let full = key.clone();
        loop {
            if let Some(variable) = self.overrides.get(&key) {
                problem.file = format!("environment ({variable})");
                problem.key = full;
                return problem;
            }
            let Some(end) = key.rfind(['.', '[']) else {
                break;
            };
            key.truncate(end);
        }
        // A table that only the environment has made.
        let below = format!("{full}.");
        if !self.written.contains(&full)
            && let Some((_, variable)) = self
                .overrides
                .iter()
                .find(|(key, _)| key.starts_with(&below))
        {
            problem.file = format!("environment ({variable})");
            problem.key = full;
        }
        problem
    }

    fn read_main(&mut self, path: &Path) -> Option<config::Map<String, Value>> {
        let mut values = self.read_toml(path)?;
        if values.remove(NETWORKS_KEY).is_some() {
            self.problem(
                path,
                NETWORKS_KEY,
                "is not a table of this file",
                format!("give each network a file of its own, {NETWORKS_DIR}/NAME.toml"),
            );
        }
        // The config crate takes a key at the top of a source for a path.
        let strange: Vec<String> = values
            .keys()
            .filter(|key| !is_plain(key))
            .cloned()
            .collect();
        for key in strange {
            values.remove(&key);
            self.problem(path, &key, "is not a known key", "remove it");
        }
        note_keys(&mut self.written, "", &values);
        Some(values)
    }

    fn read_toml(&mut self, path: &Path) -> Option<config::Map<String, Value>> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                let found = format!("cannot be read ({error})");
                self.problem(path, "-", found, "name a readable file of UTF-8 text");
                return None;
            }
        };
        match FileFormat::Toml.parse(Some(&path.display().to_string()), &text) {
            Ok(values) => Some(values),
            Err(error) => {
                let (place, fault) = syntax_fault(&*error);
                self.problem(path, place, format!("is not TOML ({fault})"), "correct it");
                None
            }
        }
    }

    /// The networks that have a file, by name. What an editor leaves behind is not one.
    fn network_files(&mut self, directory: &Path) -> BTreeMap<NetworkName, PathBuf> {
        let mut files = BTreeMap::new();
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return files,
            Err(error) => {
                let found = format!("cannot be read ({error})");
                self.problem(directory, "-", found, "make it a readable directory");
                return files;
            }
        };
        let mut paths = Vec::new();
        for entry in entries {
            match entry {
                Ok(entry) => paths.push(entry.path()),
                Err(error) => {
                    let found = format!("cannot be read ({error})");
                    self.problem(directory, "-", found, "make it a readable directory");
                }
            }
        }
        paths.sort();
        for path in paths {
            let is_toml = path
                .extension()
                .is_some_and(|extension| extension == "toml");
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            if !is_toml || stem.starts_with('.') {
                continue;
            }
            match stem.parse::<NetworkName>() {
                Ok(name) => drop(files.insert(name, path.clone())),
                Err(error) => self.problem(
                    &path,
                    "-",
                    "is named after no network",
                    format!("rename it: {error}"),
                ),
            }
        }
        files
    }

    /// The variables that are ours: `COMITY_TABLE__KEY`. Others that begin with `COMITY_` are not configuration.
    fn read_environment(
        &mut self,
        environment: Vec<(OsString, OsString)>,
    ) -> config::Map<String, Value> {
        let mut variables = config::Map::new();
        for (name, value) in environment {
            let Ok(name) = name.into_string() else {
                continue;
            };
            let Some(path) = name.strip_prefix("COMITY_") else {
                continue;
            };
            if !path.contains("__") || !is_plain(path) {
                continue;
            }
            match value.into_string() {
                Ok(value) => drop(variables.insert(name, value)),
                Err(_) => self.problems.push(ConfigProblem {
                    file: format!("environment ({name})"),
                    key: path.to_lowercase().replace("__", "."),
                    found: "is not UTF-8 text".to_owned(),
                    instead: "write it in UTF-8".to_owned(),
                }),
            }
        }
        for name in variables.keys() {
            let path = name
                .trim_start_matches("COMITY_")
                .to_lowercase()
                .replace("__", ".");
            self.overrides.insert(network_key(&path), name.clone());
        }
        let collected = Environment::with_prefix("COMITY")
            .prefix_separator("_")
            .separator("__")
            .source(Some(variables))
            .collect()
            .expect("the variables are UTF-8");
        collected
            .into_iter()
            .map(|(path, value)| (network_key(&path), with_lists(value)))
            .collect()
    }

    /// Parts the merged tree into the main file's tables and the networks'.
    fn split(
        &mut self,
        mut merged: config::Map<String, Value>,
        directory: &Path,
        broken: BTreeSet<NetworkName>,
    ) {
        let networks = merged.remove(NETWORKS_KEY);
        self.root = merged
            .into_iter()
            .map(|(key, value)| (key, json(value)))
            .collect();
        let networks = match networks.map(json) {
            Some(serde_json::Value::Object(networks)) => networks,
            _ => Map::new(),
        };
        for (name, values) in networks {
            let name = match name.parse::<NetworkName>() {
                Ok(name) => name,
                Err(error) => {
                    self.misplaced(&name, error.to_string());
                    continue;
                }
            };
            let serde_json::Value::Object(values) = values else {
                self.misplaced(name.as_str(), "a network is a table".to_owned());
                continue;
            };
            let file = directory.join(format!("{name}.toml"));
            let values = (!broken.contains(&name)).then_some(values);
            self.networks.insert(name, NetworkSource { file, values });
        }
        for name in broken {
            let file = directory.join(format!("{name}.toml"));
            self.networks
                .entry(name)
                .or_insert(NetworkSource { file, values: None });
        }
    }

    /// Notes a variable that names no network's key.
    fn misplaced(&mut self, network: &str, why: String) {
        let key = format!("{NETWORKS_KEY}.{network}");
        let below = format!("{key}.");
        let variables: Vec<&str> = self
            .overrides
            .iter()
            .filter(|(path, _)| **path == key || path.starts_with(&below))
            .map(|(_, variable)| variable.as_str())
            .collect();
        let problem = ConfigProblem {
            file: format!("environment ({})", variables.join(", ")),
            key,
            found: format!("is no network's key ({why})"),
            instead: "write COMITY_BRIDGES__NETWORK__KEY".to_owned(),
        };
        self.problems.push(problem);
    }

    fn problem(
        &mut self,
        path: &Path,
        key: impl Into<String>,
        found: impl Into<String>,
        instead: impl Into<String>,
    ) {
        self.problems.push(ConfigProblem {
            file: path.display().to_string(),
            key: key.into(),
            found: found.into(),
            instead: instead.into(),
        });
    }
}

/// Values in memory, as a source to merge.
#[derive(Clone, Debug)]
struct Layer(config::Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<config::Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

fn note_keys(written: &mut BTreeSet<String>, prefix: &str, values: &config::Map<String, Value>) {
    for (key, value) in values {
        let path = format!("{prefix}{key}");
        if let ValueKind::Table(inner) = &value.kind {
            note_keys(written, &format!("{path}."), inner);
        }
        written.insert(path);
    }
}

fn is_plain(key: &str) -> bool {
    !key.is_empty()
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// A variable's name cannot hold the `-` of a network's name, and a network's name cannot hold `_`.
fn network_key(path: &str) -> String {
    let mut parts: Vec<String> = path.split('.').map(str::to_owned).collect();
    if parts.len() > 1 && parts[0] == NETWORKS_KEY {
        parts[1] = parts[1].replace('_', "-");
    }
    parts.join(".")
}

/// A variable that holds a TOML list is that list; anything else is text.
fn with_lists(value: Value) -> Value {
    let origin = value.origin().map(str::to_owned);
    let ValueKind::String(text) = &value.kind else {
        return value;
    };
    if !text.starts_with('[') {
        return value;
    }
    let parsed = FileFormat::Toml.parse(origin.as_ref(), &format!("list = {text}"));
    match parsed.map(|mut parsed| parsed.remove("list")) {
        Ok(Some(list)) => list,
        // "[::1]:8420" is an address.
        Ok(None) | Err(_) => value,
    }
}

/// The place and the fault, without the line itself: it may hold a secret.
fn syntax_fault(error: &(dyn Error + 'static)) -> (String, String) {
    let text = error.to_string();
    let mut lines = text.lines().filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    match (
        first.strip_prefix("TOML parse error at "),
        lines.next_back(),
    ) {
        (Some(place), Some(fault)) => (place.to_owned(), fault.to_owned()),
        _ => ("-".to_owned(), first.to_owned()),
    }
}

fn json(value: Value) -> serde_json::Value {
    match value.kind {
        ValueKind::Nil => serde_json::Value::Null,
        ValueKind::Boolean(flag) => flag.into(),
        ValueKind::I64(number) => number.into(),
        ValueKind::U64(number) => number.into(),
        ValueKind::I128(number) => number.to_string().into(),
        ValueKind::U128(number) => number.to_string().into(),
        ValueKind::Float(number) => number.into(),
        ValueKind::String(text) => text.into(),
        ValueKind::Table(table) => table
            .into_iter()
            .map(|(key, value)| (key, json(value)))
            .collect::<Map<_, _>>()
            .into(),
        ValueKind::Array(items) => items.into_iter().map(json).collect::<Vec<_>>().into(),
    }
}
