//! What one server has of a room and another has not (PROTOCOL 16).
//!
//! Each origin numbers its events, and none is accepted before its predecessor: so the last number of each origin says
//! which events are here, however many they are.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension as _, params};

use super::damage::{passed_over, readable};
use super::store::{Store, number, parsed, room_at};
use crate::ident::{EventId, RoomId, ServerName};
use crate::session::{Room, Shelf as _, ShelfError};
use crate::wire::api::MAX_ORIGINS;

/// Events to give, and whether there are more.
pub struct Page {
    pub events: Vec<Vec<u8>>,
    pub more: bool,
}

impl Store<'_> {
    /// The rooms that we are in together with `peer`.
    pub fn rooms_with(&self, peer: &ServerName) -> Result<Vec<Room>, ShelfError> {
        let mut statement = self.db.prepare_cached(
            "SELECT id, alias, hosted, stage, horizon FROM rooms WHERE stage = 1 ORDER BY id",
        )?;
        let rooms = readable("a room", &mut statement, [], room_at)?;
        let mut shared = Vec::new();
        for room in rooms {
            let is_in_room = self.is_in_room(&room.id, peer);
            if passed_over("a membership", is_in_room)? == Some(true) {
                shared.push(room);
            }
        }
        Ok(shared)
    }

    /// All servers with which we share a room.
    pub fn neighbours(&self) -> Result<Vec<ServerName>, ShelfError> {
        let mut statement = self.db.prepare_cached(
            "SELECT DISTINCT m.server FROM members m JOIN rooms r ON r.id = m.room WHERE m.server IS NOT NULL AND r.stage = 1",
        )?;
        readable("a server in a room", &mut statement, [], |row| {
            parsed(row, 0, ServerName::parse)
        })
    }

    /// The number of each origin's last event in the room.
    pub fn tips(&self, room: &RoomId) -> Result<BTreeMap<ServerName, u64>, ShelfError> {
        let mut tips = BTreeMap::new();
        // From one origin to the next through the index: a room has few origins and may have millions of events.
        let mut next = self.db.prepare_cached(
            "SELECT origin FROM events WHERE room = ? AND origin > ? ORDER BY origin LIMIT 1",
        )?;
        let mut last = String::new();
        while tips.len() < MAX_ORIGINS
            && let Some(origin) = next
                .query_row([room.as_str(), last.as_str()], |row| row.get(0))
                .optional()?
        {
            last = origin;
            let origin = ServerName::parse(&last).map_err(|_| damaged_origin(&last));
            let Some(origin) = passed_over("the origin of an event", origin)? else {
                continue;
            };
            let tip = passed_over("the end of a chain", self.tip(room, &origin))?;
            if let Some((seq, _)) = tip.flatten() {
                tips.insert(origin, seq);
            }
        }
        Ok(tips)
    }

    /// The first events, ancestors before descendants, that whoever has `have` lacks: at most `count`, of at most `bytes` together.
    pub fn missed(
        &self,
        room: &RoomId,
        have: &BTreeMap<ServerName, u64>,
        count: usize,
        bytes: usize,
    ) -> Result<Page, ShelfError> {
        let mut lacking: Vec<(i64, i64, i64)> = Vec::new();
        let mut chain = self.db.prepare_cached(
            "SELECT depth, seq, arrival FROM events
             WHERE room = ? AND origin = ? AND seq > ? AND hidden = 0 ORDER BY seq LIMIT ?",
        )?;
        for (origin, tip) in self.tips(room)? {
            let after = match have.get(&origin) {
                Some(seq) if *seq >= tip => continue,
                Some(seq) => number(*seq)?,
                None => -1,
            };
            let rows = chain.query_map(
                params![room.as_str(), origin.as_str(), after, count + 1],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )?;
            for row in rows {
                lacking.push(row?);
            }
        }
        lacking.sort_unstable();
        let mut more = lacking.len() > count;
        lacking.truncate(count);
        let mut load = self
            .db
            .prepare_cached("SELECT bytes FROM events WHERE arrival = ?")?;
        let (mut events, mut size) = (Vec::with_capacity(lacking.len()), 0);
        for (_, _, arrival) in lacking {
            let event = load.query_row([arrival], |row| row.get(0));
            let event: Option<Vec<u8>> = passed_over(
                "an event that a peer missed",
                event.map_err(ShelfError::from),
            )?;
            let Some(event) = event else {
                continue;
            };
            size += event.len() + 1;
            if size > bytes {
                more = true;
                break;
            }
            events.push(event);
        }
        Ok(Page { events, more })
    }

    /// Those of `ids` that are neither kept nor waiting for a key.
    pub fn unknown(&self, ids: &[EventId]) -> Result<Vec<EventId>, ShelfError> {
        let mut waits = self
            .db
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM pending WHERE id = ?)")?;
        let mut unknown = Vec::new();
        for id in ids {
            let is_waiting: bool = waits.query_row([id.as_str()], |row| row.get(0))?;
            if !is_waiting && self.kept(id)?.is_none() {
                unknown.push(id.clone());
            }
        }
        Ok(unknown)
    }
}

fn damaged_origin(name: &str) -> ShelfError {
    ShelfError::Damaged(format!("{name:?} is no server"))
}
