//! One IRC network's table.

use std::{num::NonZeroUsize, path::PathBuf, sync::Arc, time::Duration};

use comity_bridge::{ConfigProblem, ConfigTable};
use comity_net::{dial::host_and_port, tls};
use rustls::{ClientConfig, pki_types::ServerName};

use crate::{
    session::Identity,
    wire::{Middle, Trailing},
};

/// The window between two fences. More would be read as a flood by servers with default limits:
/// solanum drops a client with 20 lines unread.
const BURST_LINES: u64 = 8;

/// Lines that one message may take.
const MAX_LINES: u64 = 20;

/// Lines that may wait for the journal: a burst as long as the daemon needs two seconds for, some 25 MB of memory.
const WAITING_LINES: u64 = 65_536;

/// What `PASS` and a margin leave of 512 bytes.
const MAX_PASSWORD: usize = 400;

/// A network's configuration, checked.
pub(crate) struct Config {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// None: plain text, which the operator asked for in so many words.
    pub(crate) tls: Option<Tls>,
    pub(crate) identity: Identity,
    pub(crate) burst_lines: usize,
    pub(crate) min_line_interval: Duration,
    /// A limit on author and text of one line, beside the protocol's own.
    pub(crate) max_text_bytes: Option<usize>,
    pub(crate) max_lines: NonZeroUsize,
    pub(crate) waiting_lines: usize,
    pub(crate) ambiguous: Ambiguous,
}

/// What becomes of a line of which nobody can say whether it was shown.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Ambiguous {
    /// It is sent again: it may be seen twice.
    #[default]
    Duplicate,
    /// It is given up: it may never be seen.
    Drop,
    /// It is sent again and says so.
    Mark,
}

#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) client: Arc<ClientConfig>,
    /// The name that the server's certificate must be for.
    pub(crate) name: ServerName<'static>,
}

impl Config {
    /// Reads the table and reports every problem in it.
    pub(crate) fn read(mut table: ConfigTable) -> Result<Self, Vec<ConfigProblem>> {
        let server = server(&mut table);
        let tls = tls(&mut table, server.as_ref().map(|(host, _)| host.as_str()));
        let identity = identity(&mut table);
        let users = table.choice("users", &[("relay", true), ("ghosts", false)]);
        if users == Some(false) {
            let found = "\"ghosts\" is not built yet for IRC";
            table.problem(
                "users",
                found,
                "write \"relay\": one connection that names each author",
            );
        }
        let burst_lines = table
            .integer("burst_lines", 1..=1024)
            .unwrap_or(BURST_LINES);
        let interval = table
            .integer("min_line_interval_ms", 0..=60_000)
            .unwrap_or(0);
        let max_text_bytes = table.integer("max_text_bytes", 64..=512);
        let max_lines = table.integer("max_lines", 1..=1000).unwrap_or(MAX_LINES);
        let waiting_lines = table
            .integer("waiting_lines", 100..=WAITING_LINES)
            .unwrap_or(WAITING_LINES);
        let ambiguous = table.choice(
            "ambiguous",
            &[
                ("duplicate", Ambiguous::Duplicate),
                ("drop", Ambiguous::Drop),
                ("mark", Ambiguous::Mark),
            ],
        );
        table.finish()?;
        // Whatever is missing has been reported as a problem.
        let (Some((host, port)), Some(tls), Some(identity)) = (server, tls, identity) else {
            return Err(Vec::new());
        };
        Ok(Self {
            host,
            port,
            tls,
            identity,
            burst_lines: count(burst_lines).get(),
            min_line_interval: Duration::from_millis(interval),
            max_text_bytes: max_text_bytes.map(|bytes| count(bytes).get()),
            max_lines: count(max_lines),
            waiting_lines: count(waiting_lines).get(),
            ambiguous: ambiguous.unwrap_or_default(),
        })
    }
}

fn server(table: &mut ConfigTable) -> Option<(String, u16)> {
    let text = table.required_string("server");
    if text.is_empty() {
        return None;
    }
    let server = host_and_port(&text);
    if server.is_none() {
        let instead = "write \"host:port\", for example \"irc.libera.chat:6697\"";
        table.problem("server", format!("found {text:?}"), instead);
    }
    server
}

/// Returns nothing when there is a problem, `Some(None)` for plain text.
fn tls(table: &mut ConfigTable, host: Option<&str>) -> Option<Option<Tls>> {
    let required = table
        .choice("tls", &[("required", true), ("none", false)])
        .unwrap_or(true);
    let ca_file: Option<PathBuf> = table.path("ca_file");
    if !required {
        if ca_file.is_some() {
            let found = "has no meaning with tls = \"none\"";
            table.problem("ca_file", found, "remove it, or write tls = \"required\"");
        }
        return Some(None);
    }
    let client = match tls::client_config(ca_file.as_deref()) {
        Ok(client) => client,
        Err(error) => {
            let key = if ca_file.is_some() { "ca_file" } else { "tls" };
            table.problem(key, error.to_string(), "name a file of PEM certificates");
            return None;
        }
    };
    match ServerName::try_from(host?.to_owned()) {
        Ok(name) => Some(Some(Tls { client, name })),
        Err(_) => {
            let found = "no certificate can be for this host name";
            table.problem("server", found, "write a DNS name or an address");
            None
        }
    }
}

fn identity(table: &mut ConfigTable) -> Option<Identity> {
    let nick = table.string("nick").unwrap_or_else(|| "comity".to_owned());
    if !is_nick(&nick) {
        let instead = "write letters, digits and any of -_[]{}\\|^`, starting with a letter";
        table.problem("nick", format!("found {nick:?}"), instead);
    }
    let username = table
        .string("username")
        .unwrap_or_else(|| "comity".to_owned());
    let user = Middle::parse(&username).filter(|name| {
        let plain = |b: u8| b.is_ascii_graphic() && !b"@!:".contains(&b);
        name.as_str().len() <= 32 && name.as_str().bytes().all(plain)
    });
    if user.is_none() {
        let instead = "write up to 32 letters and digits";
        table.problem("username", format!("found {username:?}"), instead);
    }
    let realname = table
        .string("realname")
        .unwrap_or_else(|| "Comity bridge".to_owned());
    if realname.len() > 200 || realname.chars().any(char::is_control) {
        table.problem(
            "realname",
            "is too long or not one line",
            "write up to 200 bytes of text",
        );
    }
    let password = table.secret("password");
    let fits = |text: &str| text.len() <= MAX_PASSWORD && !text.contains(['\r', '\n', '\0']);
    if password
        .as_ref()
        .is_some_and(|password| !fits(password.expose()))
    {
        table.problem(
            "password",
            "is too long or not one line",
            "write up to 400 bytes of text",
        );
    }
    Some(Identity {
        nick,
        username: user?,
        realname: Trailing::new(&realname),
        password: password.map(|password| Trailing::new(password.expose())),
    })
}

/// RFC 2812 section 2.3.1, and letters of any script for servers that allow them.
fn is_nick(nick: &str) -> bool {
    let special = |c: char| "[]\\`_^{|}".contains(c);
    let starts = nick.starts_with(|c: char| c.is_alphabetic() || special(c));
    starts
        && nick.len() <= 64
        && nick
            .chars()
            .all(|c| c.is_alphanumeric() || special(c) || c == '-')
}

fn count(number: u64) -> NonZeroUsize {
    usize::try_from(number)
        .ok()
        .and_then(NonZeroUsize::new)
        .unwrap_or(NonZeroUsize::MIN)
}

#[cfg(test)]
mod tests {
    use comity_bridge::config_table::Secret;

    use super::*;

    fn read(toml: &[(&str, &str)]) -> Result<Config, String> {
        let values = toml
            .iter()
            .map(|(key, value)| ((*key).to_owned(), serde_json::Value::from(*value)));
        let table = ConfigTable::new("libera.toml", "", values.collect());
        let joined =
            |problems: Vec<ConfigProblem>| problems.iter().map(|p| format!("{p}\n")).collect();
        Config::read(table).map_err(joined)
    }

    #[test]
    fn the_example_is_complete_and_tls_is_the_default() {
        let config = read(&[("server", "irc.libera.chat:6697")]).expect("a configuration");
        assert_eq!(
            (config.host.as_str(), config.port),
            ("irc.libera.chat", 6697)
        );
        assert!(config.tls.is_some());
        assert_eq!(config.identity.nick, "comity");
        assert_eq!((config.burst_lines, config.max_lines.get()), (8, 20));
    }

    #[test]
    fn plain_text_has_to_be_asked_for() {
        let config =
            read(&[("server", "127.0.0.1:6667"), ("tls", "none")]).expect("a configuration");
        assert!(config.tls.is_none());
    }

    #[test]
    fn what_is_not_built_is_refused_with_a_message() {
        let problems = read(&[("server", "a:1"), ("users", "ghosts"), ("sasl", "plain")])
            .err()
            .unwrap_or_default();
        assert!(
            problems.contains("users: \"ghosts\" is not built yet for IRC"),
            "{problems}"
        );
        assert!(problems.contains("sasl: is not a known key"), "{problems}");
    }

    #[test]
    fn all_problems_are_reported_together() {
        let problems = read(&[
            ("server", "irc.libera.chat"),
            ("nick", "9 lives\r\nQUIT"),
            ("username", "a b"),
            ("realname", "a\nb"),
            ("password", "a\nb"),
            ("tls", "none"),
            ("ca_file", "/nowhere"),
            ("burst_lines", "0"),
        ]);
        let problems = problems.err().unwrap_or_default();
        assert_eq!(problems.lines().count(), 7, "{problems}");
    }

    #[test]
    fn b17_the_password_is_never_printed() {
        let config = read(&[("server", "a:1"), ("tls", "none"), ("password", "hunter2")])
            .expect("a configuration");
        assert_eq!(Secret::new("hunter2").expose(), "hunter2");
        assert!(!format!("{:?}", config.identity).contains("hunter2"));
    }
}
