//! The verb `registration`: the file that tells a homeserver about this application service.
//!
//! It prints the tokens that the configuration uses, and makes the token files when they do not
//! exist, so that the two can never differ. It changes nothing else.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use comity_bridge::{ConfigProblem, ConfigTable, GatewayInfo, NetworkName};

use crate::config::{Config, Tokens};

/// Prints the registration of one network.
pub(crate) fn registration(
    gateway: &GatewayInfo,
    network: &NetworkName,
    table: ConfigTable,
) -> Result<String, Vec<ConfigProblem>> {
    Config::read(gateway, network, table, Tokens::Make).map(|config| yaml(&config))
}

/// A JSON string is a YAML string, so nothing here needs to know YAML's quoting.
fn yaml(config: &Config) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    format!(
        "id: {id}\n\
         url: {url}\n\
         as_token: {as_token}\n\
         hs_token: {hs_token}\n\
         sender_localpart: {bot}\n\
         namespaces:\n  \
           users:\n    \
             - exclusive: true\n      \
               regex: {regex}\n  \
           aliases: []\n  \
           rooms: []\n\
         rate_limited: false\n\
         receive_ephemeral: false\n\
         protocols: []\n",
        id = quoted(&config.registration),
        url = quoted(&config.url),
        as_token = quoted(config.as_token.expose()),
        hs_token = quoted(config.hs_token.expose()),
        bot = quoted(config.names.bot().localpart()),
        regex = quoted(&config.names.ghost_regex()),
    )
}

/// Makes a file with a fresh token, readable by its owner only. Never touches one that exists.
pub(crate) fn make_token_file(path: &Path) -> io::Result<()> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(format!("{token}\n").as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use serde_json::{Value, json};

    use super::*;

    fn print(dir: &Path, more: Value) -> Result<String, Vec<ConfigProblem>> {
        let mut values = json!({
            "homeserver": "http://127.0.0.1:8008", "server_name": "hs.test", "appservice": "127.0.0.1:8422",
            "as_token_file": "as", "hs_token_file": "hs",
        });
        for (key, more) in more.as_object().expect("an object") {
            values[key] = more.clone();
        }
        let Value::Object(values) = values else {
            unreachable!("an object")
        };
        let gateway = GatewayInfo {
            domain: "gw1.test".into(),
            public_url: None,
            data_dir: PathBuf::new(),
        };
        let table = ConfigTable::new(dir.join("home.toml"), "", values);
        registration(&gateway, &"home".parse().expect("a name"), table)
    }

    #[test]
    fn it_makes_the_tokens_once_and_prints_the_same_ever_after() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = print(dir.path(), json!({})).expect("prints");
        let token = std::fs::read_to_string(dir.path().join("as")).expect("a token");
        assert_eq!(token.trim().len(), 64);
        let mode = std::fs::metadata(dir.path().join("hs"))
            .expect("a token")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(first.contains(&format!("as_token: \"{}\"\n", token.trim())));
        assert_eq!(print(dir.path(), json!({})).expect("prints"), first);
    }

    #[test]
    fn the_file_has_what_a_homeserver_reads() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("as"), "as-token-of-this-test\n").expect("a file");
        std::fs::write(dir.path().join("hs"), "hs-token-of-this-test\n").expect("a file");
        assert_eq!(
            print(dir.path(), json!({})).expect("prints"),
            r#"id: "comity-gw1.test-home"
url: "http://127.0.0.1:8422"
as_token: "as-token-of-this-test"
hs_token: "hs-token-of-this-test"
sender_localpart: "comity_gw1.test_home"
namespaces:
  users:
    - exclusive: true
      regex: "^@_comity_gw1\\.test_home_.*:hs\\.test$"
  aliases: []
  rooms: []
rate_limited: false
receive_ephemeral: false
protocols: []
"#
        );
    }

    #[test]
    fn a_directory_that_is_not_there_is_a_problem_and_nothing_is_made() {
        let dir = tempfile::tempdir().expect("a directory");
        let problems =
            print(dir.path(), json!({"as_token_file": "no/where"})).expect_err("problems");
        assert!(
            problems[0].to_string().contains("directory that exists"),
            "{problems:?}"
        );
    }
}
