//! How far we have read each room: its last event that a reading has brought to the journal, or is bringing there.
//!
//! What transactions bring does not move it: something may have been left out before, by a homeserver that ended with it in
//! its memory, and the next reading has to come past that.
//!
//! Each is kept in the journal with the events that led there, so that it is known after a restart. It is an event that the
//! homeserver's filtered timeline shows, and belongs to the room, not to a channel, since aliases move.

use std::collections::{BTreeMap, HashMap, HashSet};

use comity_bridge::{Channel, Timestamp};
use ruma::{OwnedEventId, OwnedRoomId};

use crate::wire::event::RoomEvent;

/// The key under which it is kept how far we have a room.
const KEY: &str = "place/";

/// An event of a room to which it was read, and when we had the room last.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Place {
    pub(super) event: OwnedEventId,
    /// By our own clock: a time that an event bears is its sender's claim. When it came by a reading, that reading's beginning is
    /// where we were before. What a transaction brings later counts, too.
    pub(super) at: Timestamp,
}

impl Place {
    pub(super) fn of(event: &RoomEvent, at: Timestamp) -> Self {
        Self {
            event: event.event_id.clone(),
            at,
        }
    }

    fn print(&self) -> String {
        format!("{} {}", self.at.0, self.event)
    }

    fn parse(text: &str) -> Option<Self> {
        let (at, event) = text.split_once(' ')?;
        Some(Self {
            event: OwnedEventId::try_from(event).ok()?,
            at: Timestamp(at.parse().ok()?),
        })
    }
}

#[derive(Debug)]
pub(super) struct Places {
    places: HashMap<OwnedRoomId, Place>,
    /// Where we were when suspicion arose, of the rooms that have gone on since.
    floors: HashMap<OwnedRoomId, OwnedEventId>,
}

impl Places {
    pub(super) fn new(remembered: &BTreeMap<String, String>) -> Self {
        let places = remembered.iter().filter_map(|(key, value)| {
            let room = OwnedRoomId::try_from(key.strip_prefix(KEY)?).ok()?;
            Some((room, Place::parse(value)?))
        });
        Self {
            places: places.collect(),
            floors: HashMap::new(),
        }
    }

    pub(super) fn get(&self, room: &OwnedRoomId) -> Option<&Place> {
        self.places.get(room)
    }

    /// Where we were when suspicion arose, if that is known.
    pub(super) fn floor(&self, room: &OwnedRoomId) -> Option<&OwnedEventId> {
        self.floors.get(room)
    }

    /// Goes on to where a reading has come to.
    pub(super) fn arrive(&mut self, room: &OwnedRoomId, place: Place) {
        if let Some(before) = self.places.insert(room.clone(), place) {
            self.floors.entry(room.clone()).or_insert(before.event);
        }
    }

    /// A transaction has brought something of a room, which is where it begins when nothing was there to be read.
    pub(super) fn follow(&mut self, event: &RoomEvent, at: Timestamp) {
        if let Some(place) = self.places.get_mut(&event.room_id) {
            place.at = at;
        } else if event.kind == "m.room.message" && !event.remarks.soft_failed {
            // An invitation, say, may be on no timeline; a message is.
            let place = Place::of(event, at);
            self.places.insert(event.room_id.clone(), place);
        }
    }

    /// The room is whole.
    pub(super) fn forget_floor(&mut self, room: &OwnedRoomId) {
        self.floors.remove(room);
    }

    /// Forgets a room. What is to be forgotten of it.
    pub(super) fn forget(&mut self, room: &OwnedRoomId) -> String {
        self.places.remove(room);
        self.floors.remove(room);
        key(room)
    }

    /// What is to be kept with the commit of these events.
    pub(super) fn of(&self, events: &[RoomEvent]) -> Vec<(String, String)> {
        let named: HashSet<&OwnedRoomId> = events.iter().map(|event| &event.room_id).collect();
        let kept = named.into_iter().filter_map(|room| self.kept(room));
        kept.collect()
    }

    /// What is to be kept of a room.
    pub(super) fn kept(&self, room: &OwnedRoomId) -> Option<(String, String)> {
        Some((key(room), self.places.get(room)?.print()))
    }

    /// Forgets the rooms that no channel shows: what is said there is not said to us. What is to be forgotten of them.
    pub(super) fn forget_others(&mut self, rooms: &HashMap<OwnedRoomId, Channel>) -> Vec<String> {
        let others = self.places.keys().filter(|room| !rooms.contains_key(*room));
        let others: Vec<OwnedRoomId> = others.cloned().collect();
        others.iter().map(|room| self.forget(room)).collect()
    }
}

fn key(room: &OwnedRoomId) -> String {
    format!("{KEY}{room}")
}
