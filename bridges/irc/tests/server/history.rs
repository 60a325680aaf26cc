//! What a server with IRCv3 history does: echoes with labels, and `CHATHISTORY`.

use std::time::{SystemTime, UNIX_EPOCH};

use super::Client;

/// Lines in one answer.
const PAGE: usize = 50;

/// One line that was said, as it is shown again.
#[derive(Clone)]
pub(super) struct Logged {
    channel: String,
    /// `msgid`, `time`, and the client's own tags.
    tags: String,
    line: String,
}

impl Logged {
    pub(super) fn new(channel: &str, tags: String, line: String) -> Self {
        Logged {
            channel: channel.to_owned(),
            tags,
            line,
        }
    }

    /// Tells whether `reference` names this line, or a time before it.
    fn is_at(&self, reference: &str) -> bool {
        match reference.split_once('=') {
            Some(("timestamp", at)) => tag(&self.tags, "time").is_some_and(|time| time > at),
            _ => self.tags.split(';').any(|tag| tag == reference),
        }
    }
}

fn tag<'a>(tags: &'a str, key: &str) -> Option<&'a str> {
    tags.split(';')
        .find_map(|tag| tag.strip_prefix(key)?.strip_prefix('='))
}

impl Client {
    pub(super) fn log_and_echo(&self, tags: &str, channel: &str, line: &str) {
        let mut state = self.server.state();
        state.said += 1;
        let mut shown = format!("msgid=m{};time={}", state.said, now());
        for own in tags.split(';').filter(|tag| tag.starts_with('+')) {
            shown = format!("{shown};{own}");
        }
        let logged = Logged::new(channel, shown.clone(), line.to_owned());
        state.log.push(logged);
        drop(state);
        if self.server.manners().silent {
            return;
        }
        match tag(tags, "label") {
            Some(label) => self.reply(&format!("@label={label};{shown} {line}")),
            None => self.reply(&format!("@{shown} {line}")),
        }
    }

    pub(super) fn chathistory(&self, tags: &str, words: &[&str]) {
        let [_, kind, channel, reference, limit] = words else {
            return self.surprise("not a question", &words.join(" "));
        };
        let label = tag(tags, "label").unwrap_or_default();
        let limit = limit.parse().unwrap_or(PAGE).min(PAGE);
        let log: Vec<_> = {
            let state = self.server.state();
            let of_channel = state
                .log
                .iter()
                .filter(|logged| logged.channel == **channel);
            of_channel.cloned().collect()
        };
        let at = log.iter().position(|logged| logged.is_at(reference));
        let by_time = reference.starts_with("timestamp=");
        let found = match (*kind, at) {
            ("LATEST", _) => &log[log.len().saturating_sub(limit)..],
            ("AFTER", Some(at)) => {
                let from = at + usize::from(!by_time);
                &log[from..log.len().min(from + limit)]
            }
            ("AFTER", None) if by_time => &[],
            ("BEFORE", Some(at)) => &log[at.saturating_sub(limit)..at],
            _ => {
                return self.reply(&format!("@label={label} :irc.example FAIL CHATHISTORY INVALID_MSGREFTYPE {kind} {channel} :no such line"));
            }
        };
        self.reply(&format!(
            "@label={label} :irc.example BATCH +h chathistory {channel}"
        ));
        for logged in found {
            self.reply(&format!("@batch=h;{} {}", logged.tags, logged.line));
        }
        self.reply(":irc.example BATCH -h");
    }
}

/// The time as the `time` tag has it.
pub(super) fn now() -> String {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (mut year, mut day) = (1970, days);
    let length = |year: u64| 365 + u64::from(year.is_multiple_of(4));
    while day >= length(year) {
        day -= length(year);
        year += 1;
    }
    let february = 28 + u64::from(year.is_multiple_of(4));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    format!(
        "{year}-{month:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        day + 1,
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        since.subsec_millis()
    )
}
