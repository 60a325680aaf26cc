//! One network's table, typed.

use comity_bridge::config_table::Secret;
use comity_bridge::{ConfigProblem, ConfigTable};
use comity_net::dial::host_and_port;

use crate::ident;

/// Ghosts in one room when nothing else is configured.
const GHOSTS_MAX: u64 = 500;

/// How this network is reached and who speaks there.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The component's domain, in lower case.
    pub(crate) component: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) secret: Secret,
    pub(crate) users: Users,
    pub(crate) nick: String,
    pub(crate) ghosts_max: usize,
}

/// Who is seen to speak.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Users {
    /// One occupant for each remote speaker.
    Ghosts,
    /// Our bot, which names them.
    Relay,
}

impl Config {
    pub(crate) fn read(mut table: ConfigTable) -> Result<Self, Vec<ConfigProblem>> {
        let mut is_account = false;
        for key in ["jid", "password", "password_file"] {
            drop(table.string(key));
            if !table.has(key) {
                continue;
            }
            is_account = true;
            let instead =
                "give component, server and secret; a component (XEP-0114) is what is built";
            table.problem(
                key,
                "is for joining with an account, which is not built yet",
                instead,
            );
        }
        let users = table.choice(
            "users",
            &[("ghosts", Users::Ghosts), ("relay", Users::Relay)],
        );
        let nick = table.string("nick").unwrap_or_else(|| "comity".to_owned());
        if ident::shown_name(&nick) != nick {
            table.problem(
                "nick",
                format!("found {nick:?}"),
                "write a short name on one line, without invisible characters",
            );
        }
        let ghosts_max = table.integer("ghosts_max", 1..=10_000);
        if ghosts_max.is_some() && users == Some(Users::Relay) {
            let found = "has no meaning with users = \"relay\"";
            table.problem(
                "ghosts_max",
                found,
                "remove it, or write users = \"ghosts\"",
            );
        }
        let ghosts_max = ghosts_max.unwrap_or(GHOSTS_MAX);
        // Whoever wants an account need not hear that the component's keys are missing, but what is wrong with those that
        // are there.
        let text = |table: &mut ConfigTable, key| {
            if is_account {
                table.string(key).unwrap_or_default()
            } else {
                table.required_string(key)
            }
        };
        let component = text(&mut table, "component").to_lowercase();
        if !component.is_empty() && !is_domain(&component) {
            table.problem(
                "component",
                format!("found {component:?}"),
                "write the component's domain, e.g. \"bridge.xmpp.example\"",
            );
        }
        let server = text(&mut table, "server");
        let address = host_and_port(&server);
        if !server.is_empty() && address.is_none() {
            table.problem(
                "server",
                format!("found {server:?}"),
                "write host:port, e.g. \"127.0.0.1:5347\"",
            );
        }
        let secret = if is_account {
            table.secret("secret")
        } else {
            table.required_secret("secret")
        };
        table.finish()?;
        let (Some((host, port)), Some(secret)) = (address, secret) else {
            return Err(Vec::new());
        };
        let users = users.unwrap_or(Users::Ghosts);
        Ok(Self {
            component,
            host,
            port,
            secret,
            users,
            nick,
            ghosts_max: ghosts_max as usize,
        })
    }

    /// Whether the link stays on this machine: XEP-0114 has no encryption of its own.
    pub(crate) fn is_local(&self) -> bool {
        self.host == "localhost"
            || self
                .host
                .parse()
                .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
    }
}

fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_needs_four_keys_and_has_ghosts_by_default() {
        let config = read(&[
            ("component", "Bridge.xmpp.example"),
            ("server", "127.0.0.1:5347"),
            ("secret", "s"),
        ])
        .expect("fine");
        assert_eq!(
            (config.component.as_str(), config.port, config.users),
            ("bridge.xmpp.example", 5347, Users::Ghosts)
        );
        assert!(config.is_local());
        assert_eq!(config.nick, "comity");
    }

    #[test]
    fn every_problem_is_reported() {
        let problems = read(&[
            ("component", "not a domain"),
            ("server", "nowhere"),
            ("users", "all"),
            ("sekret", "x"),
        ])
        .expect_err("bad");
        let keys: Vec<&str> = problems
            .iter()
            .map(|problem| problem.key.as_str())
            .collect();
        for key in ["component", "server", "users", "secret", "sekret"] {
            assert!(keys.contains(&key), "{key} in {keys:?}");
        }
    }

    #[test]
    fn a_number_of_ghosts_for_a_network_without_any_is_refused() {
        let keys = |users: &'static str| {
            [
                ("component", "b.example"),
                ("server", "127.0.0.1:1"),
                ("secret", "s"),
                ("users", users),
            ]
        };
        assert!(read_with_ghosts(&keys("ghosts")).is_ok());
        let problems = read_with_ghosts(&keys("relay")).expect_err("bad");
        assert_eq!(
            (problems.len(), problems[0].key.as_str()),
            (1, "ghosts_max")
        );
    }

    #[test]
    fn an_account_is_refused_with_a_message_that_says_so() {
        let problems =
            read(&[("jid", "bot@xmpp.example"), ("password", "x")]).expect_err("not built");
        assert_eq!(problems.len(), 2);
        assert!(
            problems
                .iter()
                .all(|problem| problem.found.contains("not built yet"))
        );
    }

    #[test]
    fn an_account_hides_no_problem_of_the_component() {
        let problems = read(&[
            ("jid", "bot@xmpp.example"),
            ("component", "not a domain"),
            ("secret_file", "no/such/file"),
        ])
        .expect_err("bad");
        let keys: Vec<&str> = problems
            .iter()
            .map(|problem| problem.key.as_str())
            .collect();
        assert_eq!(keys, ["jid", "component", "secret_file"]);
    }

    #[test]
    fn a_nick_of_two_lines_is_refused() {
        let keys = [
            ("component", "b.example"),
            ("server", "127.0.0.1:1"),
            ("secret", "s"),
            ("nick", "a\nb"),
        ];
        assert_eq!(read(&keys).expect_err("bad").len(), 1);
    }

    fn read(keys: &[(&str, &str)]) -> Result<Config, Vec<ConfigProblem>> {
        Config::read(ConfigTable::new("jabber.toml", "", values(keys).collect()))
    }

    fn read_with_ghosts(keys: &[(&str, &str)]) -> Result<Config, Vec<ConfigProblem>> {
        let ghosts = ("ghosts_max".to_owned(), 5.into());
        let values = values(keys).chain([ghosts]).collect();
        Config::read(ConfigTable::new("jabber.toml", "", values))
    }

    fn values(keys: &[(&str, &str)]) -> impl Iterator<Item = (String, serde_json::Value)> {
        keys.iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).into()))
    }
}
