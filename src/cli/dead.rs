//! `comity dead list|show|retry|drop`: what was given up, why, and what to do about it.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use serde::Deserialize;
use serde_json::Value;

use super::{daemon, printable, table, with_daemon};

/// Which letters.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Which {
    /// Of this event.
    pub event: Option<String>,
    /// Of this channel.
    pub channel: Option<String>,
    /// Of this network.
    pub network: Option<String>,
    /// Of all.
    pub all: bool,
}

/// What to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Dead {
    /// Print them, this many.
    List(Which, u64),
    /// Print one with all that is known.
    Show(Which),
    /// Try them again.
    Retry(Which),
    /// Take them out of the list.
    Drop(Which),
}

#[derive(Deserialize)]
struct Page {
    dead: Vec<Letter>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct Letter {
    event: Option<String>,
    channel: String,
    room: String,
    reason: String,
    at: i64,
    parked: bool,
    again: bool,
}

#[derive(Deserialize)]
struct One {
    letter: Letter,
    event: Value,
}

#[derive(Deserialize)]
struct Done {
    count: u64,
}

/// Asks the running daemon, and prints what it says.
pub(super) fn dead(path: &Path, dead: &Dead, json: bool) -> ExitCode {
    with_daemon(path, |address| match dead {
        Dead::List(which, limit) => {
            let path = format!("/v1/dead?{}limit={limit}", which.query());
            if json {
                return daemon::raw(address, &path);
            }
            Ok(list(&daemon::ask(address, &path)?))
        }
        Dead::Show(which) => {
            let page: Page = daemon::ask(address, &format!("/v1/dead?{}", which.query()))?;
            if page.dead.is_empty() {
                return Err(daemon::AskError::Denied(format!(
                    "{} is no dead letter",
                    which.event.as_deref().unwrap_or_default()
                )));
            }
            let mut text = String::new();
            for letter in page.dead {
                let event = letter.event.unwrap_or_default();
                let path = format!("/v1/dead/{}/{event}", daemon::segment(&letter.channel));
                if json {
                    text.push_str(&daemon::raw(address, &path)?);
                } else {
                    text.push_str(&show(&daemon::ask(address, &path)?));
                }
            }
            Ok(text)
        }
        Dead::Retry(which) => {
            let path = format!("/v1/dead/retry?{}", which.query());
            let Done { count } = daemon::tell(address, &path)?;
            Ok(format!("{} will be tried again\n", deliveries(count)))
        }
        Dead::Drop(which) => {
            let path = format!("/v1/dead/drop?{}", which.query());
            let Done { count } = daemon::tell(address, &path)?;
            Ok(format!("{} dropped\n", deliveries(count)))
        }
    })
}

impl Which {
    /// Each part with the sign that sets it apart from the next.
    fn query(&self) -> String {
        let mut query = String::new();
        let parts = [
            ("event", &self.event),
            ("channel", &self.channel),
            ("network", &self.network),
        ];
        for (name, value) in parts {
            if let Some(value) = value {
                query.push_str(&format!("{name}={}&", daemon::segment(value)));
            }
        }
        if self.all {
            query.push_str("all=true&");
        }
        query
    }
}

fn deliveries(count: u64) -> String {
    match count {
        1 => "1 delivery".to_owned(),
        _ => format!("{count} deliveries"),
    }
}

fn list(page: &Page) -> String {
    if page.dead.is_empty() {
        return "no dead letters\n".to_owned();
    }
    let mut text = String::new();
    for letter in &page.dead {
        let again = if letter.again {
            " (to be tried again)"
        } else {
            ""
        };
        line(
            &mut text,
            format_args!(
                "{}  {}  {}  {}{again}",
                table::time(letter.at),
                letter.event.as_deref().unwrap_or("(damaged)"),
                printable(&letter.channel),
                printable(&letter.reason),
            ),
        );
    }
    if page.next.is_some() {
        text.push_str("there are more: use --limit, --network or --channel\n");
    }
    text
}

fn show(one: &One) -> String {
    let mut text = String::new();
    let letter = &one.letter;
    let mut field = |name: &str, value: &str| {
        line(&mut text, format_args!("{name:10}{}", printable(value)));
    };
    field("event", letter.event.as_deref().unwrap_or("(damaged)"));
    field("channel", &letter.channel);
    field("room", &letter.room);
    field("given up", &table::time(letter.at));
    field("reason", &letter.reason);
    let next = match (letter.again, letter.parked) {
        (true, _) => "to be tried again",
        (false, true) => "may well be shown once the reason is gone: comity dead retry",
        (false, false) => "will fail again as it is",
    };
    field("next", next);
    if let Some(why) = one.event["damaged"].as_str() {
        field("damaged", why);
    }
    if let Some(author) = one.event["author"]["address"].as_str() {
        field("author", author);
    }
    if let Some(received) = one.event["received"].as_i64() {
        field("received", &table::time(received));
    }
    if let Some(kind) = one.event["content"]["type"].as_str() {
        field("kind", kind);
    }
    if let Some(said) = one.event["content"]["text"]["plain"].as_str() {
        field("text", said);
    }
    text
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a String takes all that is written to it");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_letter_has_a_line_with_its_reason() {
        let page = serde_json::json!({"next": null, "dead": [{"event": "01JD9V7R0M8Q4Z3W2T6YB5K1NC", "channel": "libera/#rust",
            "room": "#rust@gw1.example", "seq": 7, "reason": "forbidden: +m\u{1b}", "at": 1_732_280_000_123_i64, "parked": true, "again": false}]});
        let page: Page = serde_json::from_value(page).expect("a page");
        assert_eq!(
            list(&page),
            "2024-11-22 12:53:20.123  01JD9V7R0M8Q4Z3W2T6YB5K1NC  libera/#rust  forbidden: +m\u{fffd}\n"
        );
    }

    #[test]
    fn what_is_asked_for_survives_the_way_to_the_daemon() {
        let which = Which {
            channel: Some("libera/#rust&all=true".to_owned()),
            ..Which::default()
        };
        assert_eq!(which.query(), "channel=libera%2F%23rust%26all%3Dtrue&");
    }
}
