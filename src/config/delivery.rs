//! `[delivery]` and `[journal]`: how long things are kept, waited for and told.
//!
//! A network's file may have a `[delivery]` table of its own, whose keys win over the gateway's for deliveries into that network.

use std::time::Duration;

use comity_bridge::ConfigTable;

const DAY: u64 = 24 * 60 * 60;

/// How deliveries into one network are treated.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliveryConfig {
    /// A delivery that did not succeed for this long becomes a dead letter. Counted from when the event was received.
    pub hold: Duration,
    /// A message shown this long after it was written says when that was.
    pub late_after: Duration,
    /// A message that old when its turn comes is not shown any more, but becomes a dead letter. None shows everything.
    pub stale_after: Option<Duration>,
    /// Deliveries that the network is given in a second, over all its channels. None leaves the pace to it.
    pub messages_per_second: Option<u32>,
    /// Whether gaps in what was heard on this network are said in the rooms' other channels.
    pub say_gaps: bool,
    /// Whether an author on this network is told when a message of theirs became a dead letter.
    pub tell_authors: bool,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        DeliveryConfig {
            hold: Duration::from_secs(7 * DAY),
            late_after: Duration::from_secs(5 * 60),
            stale_after: None,
            messages_per_second: None,
            say_gaps: false,
            tell_authors: true,
        }
    }
}

/// What the journal keeps, and how much may wait in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JournalConfig {
    /// Events that every channel has finished with are kept for this long. None keeps them for ever.
    pub keep: Option<Duration>,
    /// Events of one network that may wait for other networks; more are refused until some are shown.
    pub waiting_per_network: u64,
    /// The same for all networks together.
    pub waiting: u64,
}

impl Default for JournalConfig {
    fn default() -> Self {
        JournalConfig {
            keep: Some(Duration::from_secs(90 * DAY)),
            waiting_per_network: 1_000_000,
            waiting: 5_000_000,
        }
    }
}

/// Reads `[delivery]` of the gateway or of a network; what is not there is as in `default`.
pub(super) fn read(root: &mut ConfigTable, default: &DeliveryConfig) -> DeliveryConfig {
    let mut table = root.table("delivery");
    let config = DeliveryConfig {
        hold: table
            .integer("hold_days", 1..=365)
            .map_or(default.hold, |days| Duration::from_secs(days * DAY)),
        late_after: table
            .integer("late_after_seconds", 1..=DAY)
            .map_or(default.late_after, Duration::from_secs),
        stale_after: match table.integer("stale_after_minutes", 0..=365 * 24 * 60) {
            None => default.stale_after,
            Some(0) => None,
            Some(minutes) => Some(Duration::from_secs(minutes * 60)),
        },
        messages_per_second: match table.integer("messages_per_second", 0..=1_000_000) {
            None => default.messages_per_second,
            Some(0) => None,
            Some(rate) => u32::try_from(rate).ok(),
        },
        say_gaps: table.flag("say_gaps").unwrap_or(default.say_gaps),
        tell_authors: table.flag("tell_authors").unwrap_or(default.tell_authors),
    };
    root.absorb(table);
    config
}

/// Reads `[journal]`.
pub(super) fn read_journal(root: &mut ConfigTable) -> JournalConfig {
    let default = JournalConfig::default();
    let mut table = root.table("journal");
    let config = JournalConfig {
        keep: match table.integer("keep_days", 0..=36500) {
            None => default.keep,
            Some(0) => None,
            Some(days) => Some(Duration::from_secs(days * DAY)),
        },
        waiting_per_network: table
            .integer("waiting_events_per_network", 1..=1_000_000_000)
            .unwrap_or(default.waiting_per_network),
        waiting: table
            .integer("waiting_events", 1..=1_000_000_000)
            .unwrap_or(default.waiting),
    };
    root.absorb(table);
    config
}
