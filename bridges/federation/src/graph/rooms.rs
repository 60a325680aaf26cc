//! Rooms, our own entries into them, and the events that we made for deliveries.

use rusqlite::{OptionalExtension as _, params};

use super::damage::{passed_over, readable};
use super::store::{Store, id_at, number, parsed, room_at};
use crate::ident::{Alias, EventId, RoomId, ServerName};
use crate::session::{Room, ShelfError, Stage};
use crate::wire::keys::KeyDocument;

impl Store<'_> {
    pub fn room_by_alias(&self, alias: &Alias) -> Result<Option<Room>, ShelfError> {
        let found = self
            .db
            .prepare_cached("SELECT id, alias, hosted, stage, horizon FROM rooms WHERE alias = ?")?
            .query_row([alias.as_str()], room_at)
            .optional()?;
        Ok(found)
    }

    /// The rooms that we are in, or are entering.
    pub fn aliases(&self) -> Result<Vec<Alias>, ShelfError> {
        let mut statement = self
            .db
            .prepare_cached("SELECT alias FROM rooms WHERE stage != 2")?;
        readable("a room", &mut statement, [], |row| {
            parsed(row, 0, Alias::parse)
        })
    }

    /// Writes down a room, or what has changed of it.
    pub fn put_room(&self, room: &Room) -> Result<(), ShelfError> {
        let stage = match room.stage {
            Stage::Joining => 0,
            Stage::In => 1,
            Stage::Left => 2,
        };
        self.db.execute(
            "INSERT INTO rooms (id, alias, hosted, stage, horizon) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (id) DO UPDATE SET stage = excluded.stage, horizon = excluded.horizon",
            params![
                room.id.as_str(),
                room.alias.as_str(),
                room.hosted,
                stage,
                number(room.horizon)?
            ],
        )?;
        Ok(())
    }

    /// Keeps our signed keys and join, so that a repetition sends the same bytes (PROTOCOL 12.2).
    pub fn put_entry(&self, room: &RoomId, events: &[Vec<u8>]) -> Result<(), ShelfError> {
        self.db
            .execute("DELETE FROM entries WHERE room = ?", [room.as_str()])?;
        for (n, bytes) in events.iter().enumerate() {
            self.db.execute(
                "INSERT INTO entries (room, n, bytes) VALUES (?, ?, ?)",
                params![room.as_str(), n, bytes],
            )?;
        }
        Ok(())
    }

    pub fn entry(&self, room: &RoomId) -> Result<Vec<Vec<u8>>, ShelfError> {
        let mut statement = self
            .db
            .prepare("SELECT bytes FROM entries WHERE room = ? ORDER BY n")?;
        let rows = statement.query_map([room.as_str()], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The event that was made for a delivery, if one was.
    pub fn delivered(&self, key: &str) -> Result<Option<EventId>, ShelfError> {
        let found = self
            .db
            .prepare_cached("SELECT id FROM deliveries WHERE key = ?")?
            .query_row([key], |row| id_at(row, 0))
            .optional()?;
        Ok(found)
    }

    pub fn put_delivered(&self, key: &str, id: &EventId) -> Result<(), ShelfError> {
        self.db
            .prepare_cached("INSERT INTO deliveries (key, id) VALUES (?, ?)")?
            .execute([key, id.as_str()])?;
        Ok(())
    }

    /// The key document of a server that we have seen before.
    pub fn pin(&self, server: &ServerName) -> Result<Option<KeyDocument>, ShelfError> {
        let bytes: Option<Vec<u8>> = self
            .db
            .query_row(
                "SELECT document FROM pins WHERE server = ?",
                [server.as_str()],
                |row| row.get(0),
            )
            .optional()?;
        let document = bytes.map(|bytes| {
            KeyDocument::from_store(&bytes).map_err(|error| {
                ShelfError::Damaged(format!("the pinned keys of {server}: {error}"))
            })
        });
        // They are pinned anew, as those of a server that was never met.
        Ok(passed_over("a key document", document.transpose())?.flatten())
    }

    pub fn put_pin(&self, document: &KeyDocument) -> Result<(), ShelfError> {
        self.db.execute(
            "INSERT INTO pins (server, document) VALUES (?, ?)
             ON CONFLICT (server) DO UPDATE SET document = excluded.document",
            params![document.server.as_str(), document.to_bytes()],
        )?;
        Ok(())
    }
}
