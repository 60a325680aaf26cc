//! `comity rooms`: where each room is shown, and what waits; `comity rooms resume CHANNEL`: it may be shown again.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use serde::Deserialize;

use super::{daemon, printable, with_daemon};

#[derive(Deserialize)]
struct Page {
    rooms: Vec<Room>,
}

#[derive(Deserialize)]
struct Room {
    room: String,
    channels: Vec<Channel>,
}

#[derive(Deserialize)]
struct Channel {
    channel: String,
    joined: bool,
    why: Option<String>,
    depth: u64,
    age_ms: u64,
    #[serde(default)]
    paused_ms: Option<u64>,
}

#[derive(Deserialize)]
struct Resumed {
    was_paused: bool,
}

/// Prints the rooms of the running daemon.
pub(super) fn rooms(path: &Path) -> ExitCode {
    with_daemon(path, |address| {
        Ok(table(&daemon::ask::<Page>(address, "/v1/rooms")?))
    })
}

/// Ends the loop breaker's pause of a channel.
pub(super) fn resume(path: &Path, channel: &str) -> ExitCode {
    with_daemon(path, |address| {
        let path = format!("/v1/channels/{}/resume", daemon::segment(channel));
        let Resumed { was_paused } = daemon::tell(address, &path)?;
        let channel = printable(channel);
        Ok(if was_paused {
            format!("{channel} goes on\n")
        } else {
            format!("{channel} was not paused\n")
        })
    })
}

fn table(page: &Page) -> String {
    let channels = page.rooms.iter().flat_map(|room| &room.channels);
    let width = channels
        .map(|channel| channel.channel.chars().count())
        .max()
        .unwrap_or_default();
    let mut text = String::new();
    for room in &page.rooms {
        line(&mut text, format_args!("{}", printable(&room.room)));
        for channel in &room.channels {
            let name = printable(&channel.channel);
            line(
                &mut text,
                format_args!("  {name:width$}  {}", state(channel)),
            );
        }
    }
    text
}

fn state(channel: &Channel) -> String {
    let mut state = match (&channel.why, channel.joined) {
        (_, true) => "joined".to_owned(),
        (Some(why), false) => format!("not joined: {}", printable(why)),
        (None, false) => "not joined".to_owned(),
    };
    if let Some(left) = channel.paused_ms {
        state.push_str(&format!(
            "; paused for {} s: a foreign bridge sends messages back",
            left / 1000
        ));
    }
    if channel.depth > 0 {
        let seconds = channel.age_ms / 1000;
        state.push_str(&format!(
            "; {} waiting, the oldest for {seconds} s",
            channel.depth
        ));
    }
    state
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a String takes all that is written to it");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_channel_has_a_line_with_what_waits() {
        let page = serde_json::json!({"rooms": [{"room": "#rust@gw1.example", "channels": [
            {"channel": "libera/#rust", "joined": true, "why": null, "depth": 0, "age_ms": 0, "paused_ms": 61_000},
            {"channel": "home/#rust:hs.example", "joined": false, "why": "ba\u{7}nned", "depth": 3, "age_ms": 12_500},
        ]}]});
        let page: Page = serde_json::from_value(page).expect("a page");
        assert_eq!(
            table(&page),
            "#rust@gw1.example\n\
             \x20 libera/#rust           joined; paused for 61 s: a foreign bridge sends messages back\n\
             \x20 home/#rust:hs.example  not joined: ba\u{fffd}nned; 3 waiting, the oldest for 12 s\n"
        );
    }
}
