//! What this network's bridge knows from earlier connections and runs: how far each channel was heard, when we were last
//! there, and under which nicks.
//!
//! It is kept in the journal, in the same transaction as the lines that it speaks of. A channel has a row, written with the
//! last of its lines in a batch where the network gives lines ids; the network has one, `present`, written
//! with a batch when it has become old, and by itself while nothing is said.

use std::collections::BTreeMap;

use comity_bridge::{Channel, Timestamp};

use crate::{
    session::{Heard, Since},
    wire::time,
};

/// The network's own row.
pub(crate) const PRESENT: &str = "present";

/// What the key of a channel's row begins with.
const CHANNEL: &str = "channel ";

/// How old the network's row may be when something is committed anyway: so much longer than the truth is the gap after a kill.
const STALE_MILLIS: u64 = 1_000;

/// How old it may be when nothing is: the watchdog asks the server that often.
const OLD_MILLIS: u64 = 20_000;

/// Nicks of ours that are remembered.
const MAX_NICKS: usize = 4;

/// How far a channel was heard.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Mark {
    /// By our clock.
    pub(crate) at: Timestamp,
    /// False when we have been out of it since then, with the network still there.
    pub(crate) inside: bool,
    pub(crate) since: Since,
}

#[derive(Debug, Default)]
pub(crate) struct Memory {
    channels: BTreeMap<Channel, Mark>,
    present: Timestamp,
    /// What `present` was when this connection was made.
    before: Timestamp,
    /// What `present` was when it was last written.
    written: Timestamp,
    nicks: Vec<String>,
}

impl Memory {
    /// Reads the rows of earlier runs. A row that cannot be read is none.
    pub(crate) fn read(
        rows: &BTreeMap<String, String>,
        channel: impl Fn(&str) -> Option<Channel>,
    ) -> Self {
        let mut memory = Self::default();
        for (key, value) in rows {
            if key == PRESENT {
                let mut words = value.split(' ');
                let at = words.next().and_then(|at| at.parse().ok()).map(Timestamp);
                memory.present = at.unwrap_or_default();
                memory.before = memory.present;
                memory.written = memory.present;
                memory.nicks = words.take(MAX_NICKS).map(str::to_owned).collect();
            } else if let Some(name) = key.strip_prefix(CHANNEL)
                && let (Some(channel), Some(mark)) = (channel(name), Mark::parse(value))
            {
                memory.channels.insert(channel, mark);
            }
        }
        memory
    }

    /// Another connection is made.
    pub(crate) fn begin_connection(&mut self) {
        self.before = self.present;
    }

    /// The server was heard, and we are wherever we were before.
    pub(crate) fn note_present(&mut self, now: Timestamp) {
        self.present = now;
    }

    pub(crate) fn note_nick(&mut self, nick: &str) {
        self.nicks.retain(|known| known != nick);
        self.nicks.insert(0, nick.to_owned());
        self.nicks.truncate(MAX_NICKS);
        self.written = Timestamp::default();
    }

    pub(crate) fn nicks(&self) -> &[String] {
        &self.nicks
    }

    pub(crate) fn mark(&self, channel: &Channel) -> Option<&Mark> {
        self.channels.get(channel)
    }

    /// Returns the channels that are remembered and not `wanted`.
    pub(crate) fn unclaimed<'a>(
        &'a self,
        wanted: impl Fn(&Channel) -> bool + 'a,
    ) -> impl Iterator<Item = &'a Channel> {
        self.channels.keys().filter(move |known| !wanted(known))
    }

    /// Returns when the channel was last heard before this connection, or before it put us out.
    pub(crate) fn last_heard(&self, channel: &Channel) -> Option<Timestamp> {
        let mark = self.channels.get(channel)?;
        Some(match mark.inside {
            true => mark.at.max(self.before),
            false => mark.at,
        })
    }

    /// Sets how far a channel was heard; returns the row.
    pub(crate) fn set(&mut self, channel: &Channel, mark: Mark) -> (String, String) {
        let row = (row_key(channel), mark.print());
        self.channels.insert(channel.clone(), mark);
        row
    }

    /// Returns the row that forgets a channel.
    pub(crate) fn forget(&mut self, channel: &Channel) -> Option<(String, String)> {
        self.channels.remove(channel)?;
        Some((row_key(channel), String::new()))
    }

    /// Returns the network's row if it should be written: with something else, or `alone`.
    pub(crate) fn poll_present(&mut self, alone: bool) -> Option<(String, String)> {
        let limit = if alone { OLD_MILLIS } else { STALE_MILLIS };
        // A clock that was set back counts too: the row must not lie in the future until it has caught up.
        (self.present.0.abs_diff(self.written.0) >= limit).then(|| self.present_row())
    }

    pub(crate) fn present_row(&mut self) -> (String, String) {
        self.written = self.present;
        let mut value = self.present.0.to_string();
        for nick in &self.nicks {
            value.push(' ');
            value += nick;
        }
        (PRESENT.to_owned(), value)
    }
}

fn row_key(channel: &Channel) -> String {
    format!("{CHANNEL}{}", channel.native())
}

impl Mark {
    /// How far a channel is heard with a line of it that was heard at `now`, where the network gives lines ids.
    pub(crate) fn of(heard: &Heard, now: Timestamp) -> Option<Self> {
        heard.msgid.as_ref()?;
        let claimed = heard.time.as_deref().and_then(time::parse);
        Some(Self {
            at: claimed.map_or(now, |claimed| claimed.min(now)),
            inside: true,
            since: Since {
                msgid: heard.msgid.clone(),
                time: heard.time.clone(),
            },
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.splitn(4, ' ');
        let at = Timestamp(words.next()?.parse().ok()?);
        let inside = words.next()? == "in";
        let mut known = || {
            words
                .next()
                .filter(|word| !word.is_empty() && *word != "-")
                .map(str::to_owned)
        };
        let since = Since {
            time: known(),
            msgid: known(),
        };
        Some(Self { at, inside, since })
    }

    fn print(&self) -> String {
        let word = |word: &Option<String>| word.clone().unwrap_or_else(|| "-".to_owned());
        let inside = if self.inside { "in" } else { "out" };
        format!(
            "{} {inside} {} {}",
            self.at.0,
            word(&self.since.time),
            word(&self.since.msgid)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> Option<Channel> {
        format!("libera/{name}").parse().ok()
    }

    #[test]
    fn what_is_written_is_known_to_the_next_run() {
        let mut memory = Memory::default();
        let rust = channel("#rust").expect("a channel");
        let mark = Mark {
            at: Timestamp(1000),
            inside: true,
            since: Since {
                msgid: Some("m 1".to_owned()),
                time: Some("2026-11-22T15:00:00.000Z".to_owned()),
            },
        };
        let mut rows = BTreeMap::from([memory.set(&rust, mark.clone())]);
        memory.note_nick("comity");
        memory.note_nick("comity_");
        memory.note_present(Timestamp(70_000));
        rows.extend(memory.poll_present(true));
        assert_eq!(memory.poll_present(true), None);
        rows.insert("channel #x".to_owned(), "nonsense".to_owned());
        let again = Memory::read(&rows, channel);
        assert_eq!(again.mark(&rust), Some(&mark));
        assert_eq!(again.nicks(), ["comity_", "comity"]);
        assert_eq!(again.last_heard(&rust), Some(Timestamp(70_000)));
        assert_eq!(again.last_heard(&channel("#x").expect("a channel")), None);
    }

    #[test]
    fn a_channel_that_nobody_asks_for_is_not_remembered_for_ever() {
        let mut memory = Memory::default();
        let (rust, old) = (
            channel("#rust").expect("one"),
            channel("#old").expect("one"),
        );
        memory.set(&rust, Mark::default());
        memory.set(&old, Mark::default());
        let unclaimed: Vec<&Channel> = memory.unclaimed(|known| *known == rust).collect();
        assert_eq!(unclaimed, [&old]);
    }

    #[test]
    fn after_a_kill_a_gap_begins_within_a_second_of_the_last_line() {
        let mut memory = Memory::default();
        let rust = channel("#rust").expect("a channel");
        let mark = Mark {
            at: Timestamp(42_000),
            inside: true,
            since: Since::default(),
        };
        let mut rows = BTreeMap::from([memory.set(&rust, mark)]);
        // A line each quarter of a second, of which the server keeps nothing.
        for line in 0..20 {
            memory.note_present(Timestamp(42_000 + line * 250));
            rows.extend(memory.poll_present(false));
        }
        let mut again = Memory::read(&rows, channel);
        again.begin_connection();
        let from = again.last_heard(&rust).expect("known").0;
        assert!((45_750..=46_750).contains(&from), "{from}");
    }

    #[test]
    fn a_clock_that_is_set_back_is_followed() {
        let mut memory = Memory::default();
        memory.note_present(Timestamp(100_000));
        memory.poll_present(true);
        memory.note_present(Timestamp(50_000));
        let row = memory.poll_present(true);
        assert_eq!(row.map(|(_, value)| value).as_deref(), Some("50000"));
    }

    #[test]
    fn a_channel_that_put_us_out_was_heard_until_then_only() {
        let mut memory = Memory::default();
        let rust = channel("#rust").expect("a channel");
        let mark = Mark {
            at: Timestamp(1000),
            ..Mark::default()
        };
        let (key, value) = memory.set(&rust, mark);
        memory.note_present(Timestamp(7000));
        assert_eq!(memory.last_heard(&rust), Some(Timestamp(1000)));
        let again = Memory::read(&BTreeMap::from([(key, value)]), channel);
        assert_eq!(again.last_heard(&rust), Some(Timestamp(1000)));
        assert_eq!(
            memory.forget(&rust).map(|(_, value)| value),
            Some(String::new())
        );
    }
}
