//! Comparing what transactions have brought with what the room says, now and then, while all is calm.
//!
//! What a homeserver had only in its memory when it ended, it never sends (Synapse 1.163, `handlers/appservice.py`: the position in the
//! stream goes on before anything is sent). When it is back soon, and nothing of ours was under way to it meanwhile, we do not know that it
//! was away. A room in which nothing is said costs nothing.

use std::time::{Duration, Instant};

use super::{Timeline, Unread};
use crate::wire::event::RoomEvent;

/// A room is read this long after something was taken on trust,
const LATEST: Duration = Duration::from_secs(10 * 60);
/// or when there is so much of it.
const MOST: u32 = 200;

/// What was taken as it came since a room was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trust {
    since: Instant,
    messages: u32,
}

impl Timeline {
    /// An event is taken as it came.
    pub(super) fn trusted(&mut self, now: Instant, event: &RoomEvent) {
        let room = &event.room_id;
        if event.kind != "m.room.message" || self.unread.get(room) == Some(&Unread::Refused) {
            return;
        }
        let trust = self.trust.entry(room.clone()).or_insert(Trust {
            since: now,
            messages: 0,
        });
        trust.messages += 1;
        if trust.messages >= MOST {
            self.begin(now, &room.clone());
        }
    }

    /// When [`Timeline::compare`] has something to do.
    pub(super) fn comparison_due(&self) -> Option<Instant> {
        let oldest = self.trust.values().map(|trust| trust.since).min()?;
        Some(oldest + LATEST)
    }

    /// Reads the rooms whose time has come.
    pub(super) fn compare(&mut self, now: Instant) {
        if self.comparison_due().is_none_or(|due| due > now) {
            return;
        }
        let due: Vec<_> = self
            .trust
            .iter()
            .filter(|(_, trust)| trust.since + LATEST <= now)
            .map(|(room, _)| room.clone())
            .collect();
        for room in due {
            self.begin(now, &room);
        }
    }
}
