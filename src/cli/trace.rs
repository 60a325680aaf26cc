//! `comity trace EVENT`: every step of one message, with times.

use std::path::Path;
use std::process::ExitCode;

use serde::Deserialize;

use super::{daemon, printable, table, with_daemon};

#[derive(Deserialize)]
struct Page {
    event: String,
    room: String,
    seq: u64,
    origin: String,
    native_id: Option<String>,
    author: Option<String>,
    kind: Option<String>,
    damaged: Option<String>,
    claimed: Option<i64>,
    received: Option<i64>,
    committed: Option<i64>,
    channels: Vec<Channel>,
}

#[derive(Deserialize)]
struct Channel {
    channel: String,
    state: String,
    before_it: u64,
    #[serde(default)]
    steps: Vec<Step>,
    parts: Vec<Part>,
    trouble: Option<Trouble>,
    dead: Option<Dead>,
}

#[derive(Deserialize)]
struct Step {
    at: i64,
    says: String,
}

#[derive(Deserialize)]
struct Part {
    part: u32,
    native_ids: Vec<String>,
    at: Option<i64>,
}

#[derive(Deserialize)]
struct Trouble {
    attempts: u32,
    why: String,
    at: i64,
}

#[derive(Deserialize)]
struct Dead {
    reason: String,
    at: i64,
    again: bool,
}

/// Prints what became of an event.
pub(super) fn trace(path: &Path, event: &str, json: bool) -> ExitCode {
    with_daemon(path, |address| {
        let path = format!("/v1/events/{}/trace", daemon::segment(event));
        if json {
            return daemon::raw(address, &path);
        }
        Ok(story(&daemon::ask(address, &path)?))
    })
}

fn story(page: &Page) -> String {
    let mut lines = Vec::new();
    let kind = page.kind.as_deref().unwrap_or("event");
    lines.push(format!(
        "{}: {kind} {} of {}{}",
        page.event,
        page.seq,
        page.room,
        page.author
            .as_ref()
            .map_or_else(String::new, |author| format!(", by {author}"))
    ));
    if let Some(why) = &page.damaged {
        lines.push(format!("damaged in the journal: {why}"));
    }
    let native = page.native_id.as_deref().unwrap_or("?");
    lines.push(format!("{}  (where it was born, as {native})", page.origin));
    let times = [
        ("written, as its network says", page.claimed),
        ("received", page.received),
        ("on the disk", page.committed),
    ];
    for (what, at) in times {
        lines.extend(at.map(|at| at_time(at, what)));
    }
    for channel in &page.channels {
        lines.push(format!("{}  {}", channel.channel, state(channel)));
        lines.extend(steps(channel));
    }
    lines.iter().map(|line| printable(line) + "\n").collect()
}

fn state(channel: &Channel) -> String {
    match &*channel.state {
        "waiting" if channel.before_it > 0 => {
            format!("waiting, {} events are before it", channel.before_it)
        }
        "waiting" => "waiting, it is the next".to_owned(),
        "dropped" => "given up, and dropped".to_owned(),
        "before" => "the channel came to the room later".to_owned(),
        "finished" => "finished".to_owned(),
        other => other.to_owned(),
    }
}

/// In the order of time; what has none comes last.
fn steps(channel: &Channel) -> Vec<String> {
    let mut steps: Vec<(i64, String)> = channel
        .steps
        .iter()
        .map(|step| (step.at, step.says.clone()))
        .collect();
    for part in &channel.parts {
        let ids = part.native_ids.join(" ");
        let says = format!(
            "part {} is there{}{ids}",
            part.part + 1,
            if ids.is_empty() { "" } else { ", as " }
        );
        steps.push((part.at.unwrap_or(i64::MAX), says));
    }
    if let Some(trouble) = &channel.trouble {
        let says = format!("failed, attempt {}: {}", trouble.attempts, trouble.why);
        steps.push((trouble.at, says));
    }
    if let Some(dead) = &channel.dead {
        // The journal knows the whole reason, the lane's step only its kind.
        steps.retain(|(at, says)| *at != dead.at || !says.starts_with("given up: "));
        let again = if dead.again {
            "; to be tried again"
        } else {
            ""
        };
        steps.push((dead.at, format!("given up: {}{again}", dead.reason)));
    }
    // Stable: the lane's own order holds within a millisecond.
    steps.sort_by_key(|(at, _)| *at);
    steps
        .into_iter()
        .map(|(at, says)| match at {
            i64::MAX => format!("  {:23}  {says}", ""),
            at => at_time(at, &says),
        })
        .collect()
}

fn at_time(at: i64, what: &str) -> String {
    format!("  {}  {what}", table::time(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_tells_the_story_in_the_order_of_time() {
        let page = serde_json::json!({"event": "01JD9V7R0M8Q4Z3W2T6YB5K1NC", "room": "#rust@gw1.example", "seq": 7,
            "origin": "libera/#rust", "native_id": "k3", "author": "alice@libera.gw1.example", "kind": "message", "damaged": null,
            "claimed": null, "received": 1_732_280_000_123_i64, "committed": 1_732_280_000_125_i64, "channels": [
            {"channel": "home/!r", "state": "shown", "before_it": 0, "trouble": null, "dead": null,
             "steps": [{"at": 1_732_280_000_126_i64, "says": "handed over"}],
             "parts": [{"part": 0, "native_ids": ["$x"], "at": 1_732_280_000_140_i64}]},
            {"channel": "oftc/#rust", "state": "dead", "before_it": 0, "trouble": null, "parts": [],
             "steps": [{"at": 1_732_280_000_127_i64, "says": "handed over"}, {"at": 1_732_280_000_127_i64, "says": "given up: forbidden"}],
             "dead": {"reason": "forbidden: no voice", "at": 1_732_280_000_127_i64, "again": false}},
            {"channel": "jabber/r@x", "state": "waiting", "before_it": 3, "parts": [], "trouble": null, "dead": null}]});
        let page: Page = serde_json::from_value(page).expect("a page");
        assert_eq!(
            story(&page),
            "01JD9V7R0M8Q4Z3W2T6YB5K1NC: message 7 of #rust@gw1.example, by alice@libera.gw1.example\n\
             libera/#rust  (where it was born, as k3)\n\
             \x20 2024-11-22 12:53:20.123  received\n\
             \x20 2024-11-22 12:53:20.125  on the disk\n\
             home/!r  shown\n\
             \x20 2024-11-22 12:53:20.126  handed over\n\
             \x20 2024-11-22 12:53:20.140  part 1 is there, as $x\n\
             oftc/#rust  dead\n\
             \x20 2024-11-22 12:53:20.127  handed over\n\
             \x20 2024-11-22 12:53:20.127  given up: forbidden: no voice\n\
             jabber/r@x  waiting, 3 events are before it\n"
        );
    }
}
