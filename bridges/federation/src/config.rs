//! One federation network's table of the configuration.

use std::net::SocketAddr;
use std::path::PathBuf;

use comity_bridge::{ConfigProblem, ConfigTable, GatewayInfo};
use ipnet::IpNet;

use crate::ident::ServerName;

/// How this gateway federates.
#[derive(Debug, Clone)]
pub struct Config {
    pub server: ServerName,
    /// Another resolver than the machine's; it then resolves the targets, too.
    pub dns: Option<SocketAddr>,
    /// A certificate authority to trust beside the machine's.
    pub ca_file: Option<PathBuf>,
    /// Networks that the guard would refuse.
    pub allow_addresses: Vec<IpNet>,
    pub lists: Lists,
}

/// Which servers this gateway talks to: decided by name, before anything else is looked at.
#[derive(Debug, Clone)]
pub struct Lists {
    allow: Vec<String>,
    deny: Vec<String>,
}

impl Config {
    pub fn read(gateway: &GatewayInfo, mut table: ConfigTable) -> Result<Self, Vec<ConfigProblem>> {
        let server = ServerName::parse(&gateway.domain);
        if server.is_err() {
            table.problem(
                "protocol",
                format!("\"federation\" needs a gateway with a DNS name, and gateway.domain is {:?}", gateway.domain),
                "set gateway.domain to a name such as \"gw1.example\": lower case, no port, no IP address",
            );
        }
        let dns = table.string("dns").and_then(|text| {
            let parsed = text.parse().ok();
            if parsed.is_none() {
                table.problem(
                    "dns",
                    format!("found {text:?}"),
                    "write an address and a port, \"127.0.0.1:53\"",
                );
            }
            parsed
        });
        let ca_file = table.path("ca_file");
        if let Some(Err(error)) = ca_file
            .as_deref()
            .map(|path| comity_net::tls::client_config(Some(path)))
        {
            table.problem(
                "ca_file",
                error.to_string(),
                "name a readable PEM file with at least one certificate",
            );
        }
        let mut allow_addresses = Vec::new();
        for text in table.strings("allow_addresses").unwrap_or_default() {
            match parse_network(&text) {
                Some(network) => allow_addresses.push(network),
                None => table.problem(
                    "allow_addresses",
                    format!("found {text:?}"),
                    "write networks, \"127.0.0.0/8\"",
                ),
            }
        }
        let allow = globs(&mut table, "allow").unwrap_or_else(|| vec!["*".to_owned()]);
        let deny = globs(&mut table, "deny").unwrap_or_default();
        table.finish()?;
        // A bad name is a problem of the table, so that `finish` has returned already.
        let server = server.map_err(|_| Vec::new())?;
        Ok(Self {
            server,
            dns,
            ca_file,
            allow_addresses,
            lists: Lists { allow, deny },
        })
    }
}

impl Lists {
    #[cfg(test)]
    pub fn open() -> Self {
        Self {
            allow: vec!["*".to_owned()],
            deny: Vec::new(),
        }
    }

    /// Whether this gateway has to do with `server`. A denied name wins over an allowed one.
    pub fn admit(&self, server: &ServerName) -> bool {
        let matches =
            |globs: &[String]| globs.iter().any(|glob| glob_matches(glob, server.as_str()));
        matches(&self.allow) && !matches(&self.deny)
    }
}

fn parse_network(text: &str) -> Option<IpNet> {
    text.parse()
        .ok()
        .or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from))
}

fn globs(table: &mut ConfigTable, key: &str) -> Option<Vec<String>> {
    let globs = table.strings(key)?;
    for glob in &globs {
        let fits = !glob.is_empty()
            && glob
                .bytes()
                .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'*'));
        if !fits {
            table.problem(
                key,
                format!("found {glob:?}"),
                "write domains in lower case, \"*\" for any characters",
            );
        }
    }
    Some(globs)
}

/// `*` stands for any characters, dots too: `*.example` is every name below `example`.
fn glob_matches(glob: &str, name: &str) -> bool {
    match glob.split_once('*') {
        None => glob == name,
        Some((head, tail)) => name.strip_prefix(head).is_some_and(|rest| {
            rest.char_indices()
                .map(|(at, _)| at)
                .chain([rest.len()])
                .any(|at| rest.get(at..).is_some_and(|rest| glob_matches(tail, rest)))
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(values: serde_json::Value) -> Result<Config, Vec<ConfigProblem>> {
        let serde_json::Value::Object(values) = values else {
            panic!("a table")
        };
        let gateway = GatewayInfo {
            domain: "gw1.example".into(),
            public_url: None,
            data_dir: "/nowhere".into(),
        };
        Config::read(&gateway, ConfigTable::new("peers.toml", "", values))
    }

    #[test]
    fn an_empty_table_admits_everybody_on_public_addresses() {
        let config = read(json!({})).expect("valid");
        assert!(config.allow_addresses.is_empty() && config.dns.is_none());
        assert!(
            config
                .lists
                .admit(&ServerName::parse("any.example").expect("a name"))
        );
    }

    #[test]
    fn every_problem_is_reported_with_its_key() {
        let problems = read(json!({
            "dns": "nonsense", "allow_addresses": ["10.0.0.0/99"], "deny": ["Bad.Example"], "ca_file": "/missing.pem", "alow": []
        }))
        .expect_err("refused");
        let keys: Vec<&str> = problems
            .iter()
            .map(|problem| problem.key.as_str())
            .collect();
        assert_eq!(keys, ["dns", "ca_file", "allow_addresses", "deny", "alow"]);
    }

    #[test]
    fn a_denied_server_is_refused_though_it_is_allowed() {
        let config = read(json!({ "allow": ["*.example"], "deny": ["evil.*", "*.spam.example"] }))
            .expect("valid");
        let admit = |name: &str| {
            config
                .lists
                .admit(&ServerName::parse(name).expect("a name"))
        };
        assert!(admit("good.example"));
        assert!(!admit("evil.example"));
        assert!(!admit("a.spam.example"));
        assert!(!admit("good.test"));
    }
}
