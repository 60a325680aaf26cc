//! Stretches of time of which nothing is known: counted, logged and, where the operator wants it, said.

use comity_bridge::report::Gap;
use comity_bridge::{Channel, Timestamp};

use super::Router;
use crate::journal::Draft;
use crate::notice::Notice;
use crate::utc;

impl Router {
    /// What the gateway says of a gap in the room's other channels. The same gap reported again is the same notice.
    pub(super) fn gap_notice(&self, gap: &Gap, now: Timestamp) -> Option<Draft> {
        let notice = Notice {
            domain: &self.domain,
            room: self.room(&gap.channel)?,
            channel: &gap.channel,
            source_id: format!("gap:{}", gap.until.0),
            only: None,
            text: text(&gap.channel, gap),
            now,
        };
        Some(notice.draft())
    }
}

/// How long a gap is. Seconds; clocks may have been set back in it.
pub(super) fn seconds(gap: &Gap) -> u64 {
    u64::try_from(gap.until.0.saturating_sub(gap.from.0)).unwrap_or(0) / 1000
}

fn text(channel: &Channel, gap: &Gap) -> String {
    let (from, until) = (utc::minute(gap.from), utc::minute(gap.until));
    let when = if utc::date(gap.from) != utc::date(gap.until) {
        format!(
            "between {} {from} and {} {until} UTC",
            utc::date(gap.from),
            utc::date(gap.until)
        )
    } else if from == until {
        format!("at {from} UTC")
    } else {
        format!("between {from} and {until} UTC")
    };
    format!("Messages in {channel} {when} may be missing: that network has not kept them.")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_732_276_800_000;

    fn said(from: i64, until: i64) -> String {
        let channel: Channel = "libera/#rust".parse().expect("a channel");
        let gap = Gap {
            channel: channel.clone(),
            from: Timestamp(from),
            until: Timestamp(until),
        };
        text(&channel, &gap)
    }

    #[test]
    fn a_gap_is_said_with_as_much_of_its_time_as_is_needed() {
        assert_eq!(
            said(NOON, NOON + 300_000),
            "Messages in libera/#rust between 12:00 and 12:05 UTC may be missing: that network has not kept them."
        );
        assert!(said(NOON, NOON + 3_000).contains(" at 12:00 UTC "));
        assert!(
            said(NOON - 86_400_000, NOON)
                .contains(" between 2024-11-21 12:00 and 2024-11-22 12:00 UTC ")
        );
    }
}
