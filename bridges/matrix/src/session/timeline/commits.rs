//! How far we have the rooms, once what has come of them is committed.

use std::collections::HashMap;
use std::time::Instant;

use comity_bridge::Channel;
use ruma::OwnedRoomId;

use super::{Source, Timeline};
use crate::session::Ticket;
use crate::wire::event::RoomEvent;

impl Timeline {
    /// Events are being committed, and with them how far we have their rooms: what is to be kept.
    pub(in crate::session) fn commits(
        &mut self,
        now: Instant,
        ticket: Ticket,
        events: &[RoomEvent],
        rooms: &HashMap<OwnedRoomId, Channel>,
    ) -> Vec<(String, String)> {
        let wall = self.wall(now);
        if let Some(room) = self.committing(ticket) {
            self.arrive(&room);
        } else {
            for event in events {
                let id = event.event_id.clone();
                self.taken.insert(id, Source::Transaction);
                if self.is_trusted(&event.room_id) && rooms.contains_key(&event.room_id) {
                    self.places.follow(event, wall);
                    self.trusted(now, event);
                }
            }
        }
        self.places.of(events)
    }

    /// What was being committed under this ticket is there.
    pub(in crate::session) fn committed(&mut self, now: Instant, ticket: Ticket) {
        if let Some(room) = self.committing(ticket) {
            if let Some(reading) = self.readings.get_mut(&room) {
                reading.committed(now);
            }
            self.end(now, &room);
        }
    }

    /// The room of which a page is being committed under this ticket.
    fn committing(&self, ticket: Ticket) -> Option<OwnedRoomId> {
        let mut readings = self.readings.iter();
        let (room, _) = readings.find(|(_, reading)| reading.is_committing(ticket))?;
        Some(room.clone())
    }
}
