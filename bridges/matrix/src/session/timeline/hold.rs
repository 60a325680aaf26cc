//! What a transaction waits for, and what is left of it then.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use comity_bridge::Channel;
use ruma::OwnedRoomId;
use tracing::warn;

use super::{Source, Timeline, Unread};
use crate::ident::Names;
use crate::session::Ticket;
use crate::session::reading::Reading;
use crate::wire::event::RoomEvent;

impl Timeline {
    /// Whether a transaction has to wait until the rooms that it is about are read. Begins to read them.
    pub(in crate::session) fn holds(
        &mut self,
        now: Instant,
        ticket: Ticket,
        events: &[RoomEvent],
        rooms: &HashMap<OwnedRoomId, Channel>,
        names: &Names,
    ) -> bool {
        if events.iter().all(|event| self.is_trusted(&event.room_id)) {
            return false;
        }
        let asking = match &mut self.asking {
            Some((asking, read)) if *asking == ticket => read,
            asking => &mut asking.insert((ticket, HashSet::new())).1,
        };
        let mut holds = false;
        let is_suspicious = self.suspicion.is_there();
        for event in events {
            let room = &event.room_id;
            if !is_suspicious && self.whole.contains(room)
                || event.kind != "m.room.message"
                || event.remarks.soft_failed
                || names.is_ours(&event.sender)
                || !rooms.contains_key(room)
                || self.unread.contains_key(room)
                || self.taken.get(&event.event_id) == Some(&mut Source::Timeline)
            {
                continue;
            }
            if self.readings.contains_key(room) {
                // Begun before the transaction came, it may end before the event.
                holds = true;
            } else if asking.insert(room.clone()) {
                self.readings.insert(room.clone(), Reading::new(now));
                holds = true;
            }
        }
        holds
    }

    /// The transaction has waited long enough for the rooms that it is about.
    pub(in crate::session) fn hold_no_longer(&mut self, events: &[RoomEvent]) {
        for event in events {
            if self.readings.contains_key(&event.room_id)
                && self
                    .unread
                    .insert(event.room_id.clone(), Unread::Slow)
                    .is_none()
            {
                warn!(room = %event.room_id, "the room cannot be read in time; its transactions are taken as they come");
            }
        }
    }

    /// Takes out of a transaction what the timelines have brought.
    pub(in crate::session) fn strip(&mut self, events: &mut Vec<RoomEvent>) {
        events.retain(|event| self.taken.get(&event.event_id) != Some(&mut Source::Timeline));
    }
}
