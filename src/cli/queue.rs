//! `comity queue [NETWORK]`: what waits, by age, as mail administrators know it from qshape.

use std::path::Path;
use std::process::ExitCode;

use serde::Deserialize;

use super::daemon::AskError;
use super::{daemon, printable, table, with_daemon};

const PAGE: &str = "/v1/queue";

#[derive(Deserialize)]
struct Queue {
    limits_s: Vec<u64>,
    networks: Vec<Network>,
}

#[derive(Deserialize)]
struct Network {
    network: String,
    status: String,
    why: Option<String>,
    #[serde(flatten)]
    waits: Waits,
    channels: Vec<Channel>,
}

#[derive(Deserialize)]
struct Channel {
    channel: String,
    joined: bool,
    why: Option<String>,
    paused_ms: Option<u64>,
    #[serde(flatten)]
    waits: Waits,
}

#[derive(Clone, Default, Deserialize)]
struct Waits {
    waiting: u64,
    oldest_ms: u64,
    ages: Vec<u64>,
}

/// Prints what waits for each network, or for each channel of one.
pub(super) fn queue(path: &Path, network: Option<&str>, json: bool) -> ExitCode {
    with_daemon(path, |address| {
        if json {
            return daemon::raw(address, PAGE);
        }
        let queue: Queue = daemon::ask(address, PAGE)?;
        let Some(name) = network else {
            return Ok(of_networks(&queue));
        };
        match queue.networks.iter().find(|known| known.network == name) {
            Some(network) => Ok(of_channels(&queue, network)),
            None => Err(AskError::Denied(format!("there is no network {name:?}"))),
        }
    })
}

fn of_networks(queue: &Queue) -> String {
    let mut total = Waits::default();
    let mut rows = vec![head(queue)];
    let mut lines = Vec::new();
    for network in &queue.networks {
        total.add(&network.waits);
        let state = match (&*network.status, &network.why) {
            ("online", _) => String::new(),
            (status, Some(why)) => format!("{status}: {why}"),
            (status, None) => status.to_owned(),
        };
        lines.push(row(&network.network, &network.waits, &state));
    }
    rows.push(row("TOTAL", &total, ""));
    rows.extend(lines);
    table::aligned(&rows)
}

fn of_channels(queue: &Queue, network: &Network) -> String {
    let mut rows = vec![head(queue), row(&network.network, &network.waits, "")];
    for channel in &network.channels {
        let state = match (channel.paused_ms, &channel.why, channel.joined) {
            (Some(left), _, _) => format!("paused for {}", table::age(left)),
            (_, Some(why), false) => format!("not joined: {why}"),
            (_, None, false) => "not joined".to_owned(),
            _ => String::new(),
        };
        rows.push(row(&channel.channel, &channel.waits, &state));
    }
    table::aligned(&rows)
}

/// Each column is for what is younger than its limit and not in the one before; the last for all that is older.
fn head(queue: &Queue) -> Vec<String> {
    let mut cells = vec![String::new(), "waiting".to_owned(), "oldest".to_owned()];
    cells.extend(queue.limits_s.iter().map(|limit| table::limit(*limit)));
    if let Some(last) = queue.limits_s.last() {
        cells.push(format!("{}+", table::limit(*last)));
    }
    cells
}

fn row(name: &str, waits: &Waits, state: &str) -> Vec<String> {
    let oldest = if waits.waiting == 0 {
        "-".to_owned()
    } else {
        table::age(waits.oldest_ms)
    };
    let mut cells = vec![printable(name), waits.waiting.to_string(), oldest];
    cells.extend(waits.ages.iter().map(ToString::to_string));
    if !state.is_empty() {
        cells.push(printable(state));
    }
    cells
}

impl Waits {
    fn add(&mut self, more: &Waits) {
        self.waiting += more.waiting;
        self.oldest_ms = self.oldest_ms.max(more.oldest_ms);
        self.ages.resize(self.ages.len().max(more.ages.len()), 0);
        for (sum, age) in self.ages.iter_mut().zip(&more.ages) {
            *sum += age;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Queue {
        let page = serde_json::json!({"limits_s": [5, 60, 3600], "networks": [
            {"network": "home", "status": "online", "why": null, "waiting": 0, "oldest_ms": 0, "ages": [0, 0, 0, 0], "channels": []},
            {"network": "libera", "status": "offline", "why": "re\u{7}fused", "waiting": 12, "oldest_ms": 7_300_000, "ages": [1, 2, 0, 9],
             "channels": [{"channel": "libera/#rust", "room": "#rust@gw1.example", "joined": false, "why": "the network is away",
                           "paused_ms": null, "waiting": 12, "oldest_ms": 7_300_000, "ages": [1, 2, 0, 9]}]},
        ]});
        serde_json::from_value(page).expect("a page")
    }

    #[test]
    fn each_network_has_a_line_with_what_waits_by_age() {
        assert_eq!(
            of_networks(&sample()),
            "        waiting  oldest  5s  1m  1h  1h+\n\
             TOTAL        12      2h   1   2   0    9\n\
             home          0       -   0   0   0    0\n\
             libera       12      2h   1   2   0    9  offline: re\u{fffd}fused\n"
        );
    }

    #[test]
    fn each_channel_of_a_network_has_a_line() {
        let queue = sample();
        let text = of_channels(&queue, &queue.networks[1]);
        assert!(
            text.ends_with(
                "libera/#rust       12      2h   1   2   0    9  not joined: the network is away\n"
            ),
            "{text}"
        );
    }
}
