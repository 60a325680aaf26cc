//! `config.example.toml` is the manual, so it must be right: as it stands, with every key switched on, and complete.

use std::collections::BTreeSet;

use super::load_from;

const EXAMPLE: &str = include_str!("../../config.example.toml");

/// Where keys are asked for.
const SOURCES: &[&str] = &[
    include_str!("delivery.rs"),
    include_str!("gateway.rs"),
    include_str!("http.rs"),
    include_str!("rooms.rs"),
    #[cfg(feature = "irc")]
    include_str!("../../bridges/irc/src/config.rs"),
    #[cfg(feature = "xmpp")]
    include_str!("../../bridges/xmpp/src/config.rs"),
    #[cfg(feature = "matrix")]
    include_str!("../../bridges/matrix/src/config.rs"),
    #[cfg(feature = "federation")]
    include_str!("../../bridges/federation/src/config.rs"),
];

/// Asked for only to be refused with a message that says more than "unknown".
const NOT_BUILT: &[&str] = &["jid", "user"];

#[test]
fn the_example_is_a_configuration_as_it_stands() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("comity.toml");
    std::fs::write(&path, EXAMPLE).expect("write");
    let config = load_from(&path, Vec::new(), crate::registry::kinds()).expect("no problems");
    assert_eq!(config.gateway.domain, "gw1.example");
    assert_eq!((config.networks.len(), config.rooms.len()), (0, 0));
}

#[test]
fn every_key_that_is_asked_for_is_in_the_example() {
    let shown: BTreeSet<&str> = EXAMPLE
        .lines()
        .filter_map(|line| line.trim_start_matches('#').split_once(" = "))
        .map(|(key, _)| key)
        .collect();
    let asked: BTreeSet<String> = SOURCES.iter().flat_map(|source| keys(source)).collect();
    assert!(asked.len() > 8, "{asked:?}");
    for key in asked {
        let file_key = format!("{key}_file");
        assert!(
            shown.contains(key.as_str()) || shown.contains(file_key.as_str()),
            "{key} is not explained"
        );
    }
}

/// The keys in calls like `table.string("nick")` and `read(&mut table, "allow")`.
fn keys(source: &str) -> BTreeSet<String> {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let code: String = code.split_whitespace().collect();
    let mut keys = BTreeSet::new();
    for (start, skip) in [
        ("table.required_string(", ""),
        ("table.string(", ""),
        ("table.flag(", ""),
        ("table.integer(", ""),
        ("table.strings(", ""),
        ("table.choice(", ""),
        ("table.path(", ""),
        ("table.secret(", ""),
        ("table.required_secret(", ""),
        ("(&muttable,", ""),
        ("(&muttable,", "network,"),
    ] {
        for rest in code.split(start).skip(1) {
            let Some(rest) = rest.strip_prefix(skip).and_then(|r| r.strip_prefix('"')) else {
                continue;
            };
            keys.extend(rest.split_once('"').map(|(key, _)| key.to_owned()));
        }
    }
    keys.retain(|key| !NOT_BUILT.contains(&key.as_str()));
    keys
}

/// With all bridges, since the networks of the page speak all protocols.
#[cfg(all(
    feature = "irc",
    feature = "xmpp",
    feature = "matrix",
    feature = "federation"
))]
mod switched_on {
    use std::path::{Path, PathBuf};

    use super::EXAMPLE;
    use crate::config::{Config, DeliveryConfig, JournalConfig, load_from};

    #[test]
    fn the_example_is_a_configuration_with_every_key_switched_on() {
        let dir = Switched::new();
        let config = dir.load();
        let protocols: Vec<&str> = config
            .networks
            .iter()
            .map(|network| network.kind.protocol())
            .collect();
        assert_eq!(protocols, ["matrix", "xmpp", "irc", "federation"]);
        assert_eq!(config.rooms.len(), 2);
        // What the page says of the defaults of [gateway] and [http] is so.
        assert_eq!(config.gateway.data_dir, Path::new("/var/lib/comity"));
        assert_eq!(config.http.admin.to_string(), "127.0.0.1:8420");
        // And of [journal] and [delivery], once for the gateway and once for a network.
        assert_eq!(config.journal, JournalConfig::default());
        for network in &config.networks {
            assert_eq!(network.delivery, DeliveryConfig::default());
        }
    }

    /// The example with every key switched on, each part in its file.
    struct Switched {
        dir: tempfile::TempDir,
    }

    impl Switched {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            let pair =
                rcgen::generate_simple_self_signed(["gw1.example".to_owned()]).expect("a pair");
            let secret = |name: &str| format!("0123456789abcdef0123456789-{name}");
            for (name, text) in [
                ("cert.pem", pair.cert.pem()),
                ("key.pem", pair.signing_key.serialize_pem()),
                ("ca.pem", pair.cert.pem()),
                ("libera.password", secret("password")),
                ("jabber.secret", secret("secret")),
                ("home.as_token", secret("as")),
                ("home.hs_token", secret("hs")),
            ] {
                std::fs::write(dir.path().join(name), text).expect("write");
            }
            std::fs::create_dir(dir.path().join("bridges.d")).expect("a directory");
            let switched = Switched { dir };
            let here = format!("{}/", switched.dir.path().display());
            let mut file = "comity.toml".to_owned();
            let mut text = String::new();
            for line in EXAMPLE.lines() {
                if let Some(next) = line
                    .strip_prefix("# == ")
                    .and_then(|rest| rest.strip_suffix(" =="))
                {
                    std::fs::write(switched.path(&file), &text).expect("write");
                    file = next.to_owned();
                    text.clear();
                }
                text.push_str(&switched_on(line).replace("/etc/comity/", &here));
                text.push('\n');
            }
            std::fs::write(switched.path(&file), &text).expect("write");
            switched
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn load(&self) -> Config {
            load_from(
                &self.path("comity.toml"),
                Vec::new(),
                crate::registry::kinds(),
            )
            .expect("no problems")
        }
    }

    fn switched_on(line: &str) -> &str {
        match line.strip_prefix('#') {
            Some(key) if key.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => key,
            _ => line,
        }
    }
}
