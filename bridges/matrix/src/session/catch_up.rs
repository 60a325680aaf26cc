//! Reads the rooms back after coming up, for what no transaction has brought.
//!
//! What is said while the homeserver ends its recovery from our absence can stay behind in it (see `gaps`), and
//! while nothing follows, no gap in the numbers tells. So a while after coming up, and once more, each
//! room's newest page is read: what the journal has already, it knows by its event id.
//!
//! Never further back than our own joining, and never further than [`REACH`]: what was said before we were there was not
//! said to us.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use comity_bridge::Timestamp;
use ruma::{OwnedEventId, OwnedUserId};

use super::recent::Recent;
use crate::ident::Names;
use crate::wire::event::RoomEvent;

/// How long after coming up the rooms are read.
const LOOKS: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(12)];
/// How far before coming up something may have been said. The homeserver keeps what is older in order.
const REACH: Duration = Duration::from_secs(120);
/// Events of which it is known that they came.
const MAX_SEEN: usize = 4_096;

#[derive(Debug)]
pub(super) struct CatchUp {
    /// One moment on both clocks, to compare an event's time with.
    epoch: (Instant, Timestamp),
    looks: VecDeque<Instant>,
    since: Timestamp,
    seen: Recent<OwnedEventId, ()>,
}

impl CatchUp {
    pub(super) fn new(now: Instant, wall: Timestamp) -> Self {
        Self {
            epoch: (now, wall),
            looks: VecDeque::new(),
            since: wall,
            seen: Recent::new(MAX_SEEN),
        }
    }

    /// We came up.
    pub(super) fn watch(&mut self, now: Instant) {
        let (begun, wall) = self.epoch;
        let up = wall.0 + millis(now.saturating_duration_since(begun));
        self.since = Timestamp(up - millis(REACH));
        self.looks = LOOKS.iter().map(|after| now + *after).collect();
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.looks.front().copied()
    }

    /// Whether the rooms are to be read now.
    pub(super) fn poll(&mut self, now: Instant) -> bool {
        let is_due = self.due().is_some_and(|due| due <= now);
        if is_due {
            self.looks.pop_front();
        }
        is_due
    }

    /// A transaction has brought it.
    pub(super) fn note(&mut self, event: &RoomEvent) {
        self.seen.insert(event.event_id.clone(), ());
    }

    /// Of a room's newest page (newest first), what may have been left behind, oldest first.
    pub(super) fn missed(&mut self, page: Vec<RoomEvent>, ours: &Names) -> Vec<RoomEvent> {
        let mut missed: Vec<RoomEvent> = page
            .into_iter()
            .take_while(|event| self.is_ours_to_hear(event, ours.bot()))
            .filter(|event| event.kind == "m.room.message" && !ours.is_ours(&event.sender))
            .collect();
        missed.retain(|event| self.seen.get(&event.event_id).is_none());
        missed.reverse();
        missed
    }

    fn is_ours_to_hear(&self, event: &RoomEvent, bot: &OwnedUserId) -> bool {
        let is_our_joining = event.kind == "m.room.member"
            && event.state_key.as_deref() == Some(bot.as_str())
            && event.text("membership") == Some("join");
        let said = event.origin_server_ts.and_then(|ts| i64::try_from(ts).ok());
        !is_our_joining && said.is_some_and(|said| said >= self.since.0)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
