//! This network's table, typed.
//!
//! The same keys serve `run` and the verb `registration`; only what happens when a token file is
//! missing differs.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use comity_bridge::config_table::Secret;
use comity_bridge::{ConfigProblem, ConfigTable, GatewayInfo, NetworkName};
use ruma::OwnedServerName;

use crate::ident::{Names, sanitise_localpart};

/// How remote authors appear.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Users {
    /// Each author is a Matrix user of ours.
    #[default]
    Ghosts,
    /// The bot speaks and names the author.
    Relay,
}

/// One Matrix network, checked.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Where the client-server API is.
    pub(crate) homeserver: String,
    /// The bot, the ghosts and their server.
    pub(crate) names: Names,
    pub(crate) bot_name: String,
    pub(crate) users: Users,
    pub(crate) as_token: Secret,
    pub(crate) hs_token: Secret,
    /// Where the homeserver pushes to; none: a path under the public listener.
    pub(crate) appservice: Option<SocketAddr>,
    /// The `id` of the registration.
    pub(crate) registration: String,
    /// The `url` of the registration.
    pub(crate) url: String,
    /// Where the bridge's paths begin.
    pub(crate) prefix: String,
    pub(crate) ca_file: Option<PathBuf>,
    /// Plain HTTP to a machine that is not this one.
    pub(crate) in_clear: bool,
}

/// Where tokens come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Tokens {
    /// They must be there.
    Read,
    /// Files that do not exist are made.
    Make,
}

/// A token shorter than this can be guessed.
const MIN_TOKEN: usize = 16;

impl Config {
    /// Reads the table. Every problem is reported.
    pub(crate) fn read(
        gateway: &GatewayInfo,
        network: &NetworkName,
        mut table: ConfigTable,
        tokens: Tokens,
    ) -> Result<Self, Vec<ConfigProblem>> {
        let homeserver = table.required_string("homeserver");
        let in_clear = check_homeserver(&mut table, &homeserver);
        let server_name = table.required_string("server_name");
        refuse_account_mode(&mut table, network);

        let users = table
            .choice(
                "users",
                &[("ghosts", Users::Ghosts), ("relay", Users::Relay)],
            )
            .unwrap_or_default();
        let stem = sanitise_localpart(&format!("comity_{}_{network}", gateway.domain));
        let bot = table.string("bot").unwrap_or_else(|| stem.clone());
        let prefix = table
            .string("ghost_prefix")
            .unwrap_or_else(|| format!("_{stem}_"));
        let bot_name = table
            .string("bot_name")
            .unwrap_or_else(|| "Comity".to_owned());
        let names = read_names(&mut table, &server_name, &bot, &prefix);

        let as_token = read_token(&mut table, network, "as_token", tokens);
        let hs_token = read_token(&mut table, network, "hs_token", tokens);
        if let (Some(a), Some(b)) = (&as_token, &hs_token)
            && a == b
        {
            table.problem(
                "hs_token",
                "is the same as as_token",
                "write two different tokens",
            );
        }
        let appservice = read_appservice(&mut table);
        let prefix = if appservice.is_some() {
            "/".to_owned()
        } else {
            format!("/net/{network}/")
        };
        let url = match (appservice, &gateway.public_url) {
            (Some(address), _) => format!("http://{address}"),
            (None, Some(public)) => format!("{}/net/{network}", public.trim_end_matches('/')),
            (None, None) => {
                table.problem(
                    "appservice",
                    "is missing, and so is http.public_url",
                    "write the address that the homeserver pushes to, like \"127.0.0.1:8422\"",
                );
                String::new()
            }
        };
        let ca_file = table.path("ca_file");
        table.finish()?;
        let (Some(names), Some(as_token), Some(hs_token)) = (names, as_token, hs_token) else {
            // Every missing value has been noted as a problem, and `finish` has returned it.
            return Err(Vec::new());
        };
        Ok(Self {
            homeserver,
            names,
            bot_name,
            users,
            as_token,
            hs_token,
            appservice,
            registration: format!("comity-{}-{network}", gateway.domain),
            url,
            prefix,
            ca_file,
            in_clear,
        })
    }
}

/// Returns whether the tokens would cross a network in clear.
fn check_homeserver(table: &mut ConfigTable, homeserver: &str) -> bool {
    if homeserver.is_empty() {
        return false;
    }
    let instead = "write its address, like \"http://127.0.0.1:8008\" or \"https://matrix.example\"";
    let Ok(uri) = homeserver.parse::<http::Uri>() else {
        table.problem("homeserver", format!("found {homeserver:?}"), instead);
        return false;
    };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_bare = uri.path() == "/" && uri.query().is_none();
    if !matches!(uri.scheme_str(), Some("http" | "https")) || host.is_empty() || !is_bare {
        table.problem("homeserver", format!("found {homeserver:?}"), instead);
        return false;
    }
    let is_local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    uri.scheme_str() == Some("http") && !is_local
}

fn read_names(
    table: &mut ConfigTable,
    server_name: &str,
    bot: &str,
    prefix: &str,
) -> Option<Names> {
    let Ok(server) = OwnedServerName::try_from(server_name) else {
        if !server_name.is_empty() {
            let instead =
                "write the part after \":\" of the homeserver's user ids, like \"hs.example\"";
            table.problem("server_name", format!("found {server_name:?}"), instead);
        }
        return None;
    };
    match Names::new(server, bot, prefix) {
        Ok(names) => Some(names),
        Err(error) => {
            let key = if table.has("ghost_prefix") {
                "ghost_prefix"
            } else {
                "bot"
            };
            let instead = "write local parts of user ids, like bot = \"comity\" and ghost_prefix = \"_comity_\"";
            table.problem(
                key,
                format!("found bot {bot:?} and ghost_prefix {prefix:?}: {error}"),
                instead,
            );
            None
        }
    }
}

fn refuse_account_mode(table: &mut ConfigTable, network: &NetworkName) {
    for key in ["user", "password", "password_file"] {
        if table.has(key) {
            // Asked for, so that it is not reported as unknown as well.
            drop(table.string(key));
            table.problem(
                key,
                "speaking through an ordinary account is not built yet",
                format!("remove it and use an application service: comity registration {network}"),
            );
        }
    }
}

fn read_token(
    table: &mut ConfigTable,
    network: &NetworkName,
    key: &str,
    tokens: Tokens,
) -> Option<Secret> {
    let file_key = format!("{key}_file");
    if !table.has(key) && table.has(&file_key) {
        let path = table.path(&file_key)?;
        if !path.exists() {
            match tokens {
                Tokens::Read => {
                    table.problem(
                        &file_key,
                        format!("{} does not exist", path.display()),
                        format!("run `comity registration {network}`, which makes it"),
                    );
                    return None;
                }
                Tokens::Make => {
                    if let Err(error) = crate::registration::make_token_file(&path) {
                        let instead =
                            "name a file in a directory that exists and can be written to";
                        table.problem(
                            &file_key,
                            format!("{} cannot be made ({error})", path.display()),
                            instead,
                        );
                        return None;
                    }
                }
            }
        }
    }
    let token = table.required_secret(key)?;
    let text = token.expose();
    if text.len() < MIN_TOKEN || !text.bytes().all(|b| b.is_ascii_graphic()) {
        let key = if table.has(key) {
            key
        } else {
            file_key.as_str()
        };
        table.problem(
            key,
            format!("holds a token that is shorter than {MIN_TOKEN} characters or not plain ascii"),
            "leave the file away and run `comity registration` to make a good one",
        );
        return None;
    }
    Some(token)
}

fn read_appservice(table: &mut ConfigTable) -> Option<SocketAddr> {
    let text = table.string("appservice")?;
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    table.problem(
        "appservice",
        format!("found {text:?}"),
        "write an address and a port, like \"127.0.0.1:8422\"",
    );
    None
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn gateway() -> GatewayInfo {
        GatewayInfo {
            domain: "gw1.test".into(),
            public_url: None,
            data_dir: PathBuf::from("/nonexistent"),
        }
    }

    fn read(gateway: &GatewayInfo, value: Value) -> Result<Config, Vec<String>> {
        let Value::Object(values) = value else {
            unreachable!("tests give objects")
        };
        let table = ConfigTable::new("bridges.d/home.toml", "", values);
        Config::read(
            gateway,
            &"home".parse().expect("a name"),
            table,
            Tokens::Read,
        )
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    fn good() -> Value {
        json!({
            "homeserver": "http://127.0.0.1:8008", "server_name": "hs.test", "appservice": "127.0.0.1:8422",
            "as_token": "0123456789abcdef-as", "hs_token": "0123456789abcdef-hs",
        })
    }

    fn with(more: Value) -> Value {
        let mut value = good();
        for (key, more) in more.as_object().expect("an object") {
            if more.is_null() {
                value.as_object_mut().expect("an object").remove(key);
            } else {
                value[key] = more.clone();
            }
        }
        value
    }

    #[test]
    fn the_least_configuration_gives_names_that_no_other_gateway_has() {
        let config = read(&gateway(), good()).expect("fits");
        assert_eq!(config.names.bot(), "@comity_gw1.test_home:hs.test");
        assert_eq!(config.names.ghost_prefix(), "_comity_gw1.test_home_");
        assert_eq!(config.users, Users::Ghosts);
        assert_eq!(
            (config.url.as_str(), config.prefix.as_str()),
            ("http://127.0.0.1:8422", "/")
        );
        assert_eq!(config.registration, "comity-gw1.test-home");
        assert!(!config.in_clear);
    }

    #[test]
    fn without_an_address_of_its_own_it_sits_under_the_public_one() {
        let gateway = GatewayInfo {
            public_url: Some("https://gw1.test".into()),
            ..gateway()
        };
        let config = read(&gateway, with(json!({"appservice": null}))).expect("fits");
        assert_eq!(
            (config.url.as_str(), config.prefix.as_str()),
            ("https://gw1.test/net/home", "/net/home/")
        );
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let problems = read(
            &gateway(),
            json!({"homeserver": "127.0.0.1:8008", "appservice": "8422", "as_token": "short", "users": "puppets"}),
        )
        .expect_err("problems");
        for key in [
            "homeserver",
            "server_name",
            "appservice",
            "as_token",
            "hs_token",
            "users",
        ] {
            assert!(
                problems.iter().any(|p| p.contains(&format!(": {key}:"))),
                "{key}: {problems:#?}"
            );
        }
    }

    #[test]
    fn a_missing_token_file_names_the_command_that_makes_it() {
        let value = with(json!({"as_token": null, "as_token_file": "/nonexistent/as"}));
        let problems = read(&gateway(), value).expect_err("problems");
        assert!(
            problems[0].contains("comity registration home"),
            "{problems:?}"
        );
    }

    #[test]
    fn an_account_is_refused_with_a_reason() {
        let problems = read(
            &gateway(),
            with(json!({"user": "@bot:hs.test", "password": "x"})),
        )
        .expect_err("problems");
        assert_eq!(problems.len(), 2);
        assert!(problems[0].contains("not built yet"), "{problems:?}");
    }

    #[test]
    fn plain_http_is_noticed_unless_it_stays_on_this_machine() {
        for (homeserver, in_clear) in [
            ("http://localhost:1", false),
            ("http://[::1]:1", false),
            ("https://hs.test", false),
            ("http://hs.test", true),
        ] {
            let config = read(&gateway(), with(json!({"homeserver": homeserver}))).expect("fits");
            assert_eq!(config.in_clear, in_clear, "{homeserver}");
        }
    }

    #[test]
    fn names_that_would_clash_are_refused() {
        for more in [
            json!({"bot": "Bot"}),
            json!({"bot": "_x_y", "ghost_prefix": "_x_"}),
            json!({"ghost_prefix": "ä"}),
        ] {
            assert!(read(&gateway(), with(more)).is_err());
        }
    }
}
