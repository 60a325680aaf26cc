//! Origins whose key document in a room could not be compared yet with the one that they publish (PROTOCOL 4.6).
//!
//! What they say is in the graph, verified with the document in the room, so that others can build on it; it is not
//! shown until the comparison, and nothing of ours builds on it or is sent to its origin until then. A document that turns out not to be the origin's takes its events out of the room again.

use rusqlite::{OptionalExtension as _, params};

use super::damage::readable;
use super::store::{Store, number, parsed};
use crate::ident::{EventId, RoomId, ServerName};
use crate::session::{Shelf as _, ShelfError};
use crate::wire::event::Event;
use crate::wire::keys::KeyDocument;

/// Heads that a room gets back when those that it had were not genuine, or gets from an origin that is.
const MAX_RESTORED: usize = 8;
/// Events that are put into the queue of an origin that turns out to be there; it asks for more (PROTOCOL 11.4).
const MAX_QUEUED: i64 = 10_000;
/// That something genuine, which is shown, builds on an event `e`.
const HAS_CHILD: &str = "EXISTS (
    SELECT 1 FROM parents p JOIN events c ON c.id = p.child
    WHERE p.parent = e.id AND c.hidden = 0 AND NOT EXISTS (
        SELECT 1 FROM unproved u WHERE u.room = c.room AND u.origin = c.origin))";

impl Store<'_> {
    /// The rooms and origins that wait to be compared.
    pub fn unproved(&self) -> Result<Vec<(RoomId, ServerName)>, ShelfError> {
        let mut statement = self
            .db
            .prepare_cached("SELECT room, origin FROM unproved ORDER BY random() LIMIT 1000")?;
        readable("an origin to compare", &mut statement, [], |row| {
            Ok((
                parsed(row, 0, RoomId::parse)?,
                parsed(row, 1, ServerName::parse)?,
            ))
        })
    }

    /// Compares the origin's document in the room with the one fetched from it. Returns false when it contradicts that.
    pub fn settle(
        &self,
        own: &ServerName,
        room: &RoomId,
        origin: &ServerName,
        fetched: &KeyDocument,
    ) -> Result<bool, ShelfError> {
        let posted = self.keys(room, origin, u64::MAX)?;
        let is_genuine = posted.is_some_and(|posted| posted.allows(fetched).is_ok());
        self.db
            .prepare_cached("DELETE FROM unproved WHERE room = ? AND origin = ?")?
            .execute([room.as_str(), origin.as_str()])?;
        if is_genuine {
            if self.is_in_room(room, origin)? {
                self.queue_since(own, room, origin)?;
            }
            self.show_held(room, origin)?;
            self.make_heads(room, origin)?;
        } else {
            self.disown(room, origin)?;
        }
        Ok(is_genuine)
    }

    /// What we have said, and whom we have let in, since the origin is known here: it was not sent to it.
    fn queue_since(
        &self,
        own: &ServerName,
        room: &RoomId,
        origin: &ServerName,
    ) -> Result<(), ShelfError> {
        self.db
            .prepare_cached(
                "INSERT OR IGNORE INTO queues (peer, arrival, since)
                 SELECT ?3, arrival, CAST(unixepoch('subsec') * 1000 AS INTEGER) FROM events
                 WHERE room = ?1 AND hidden = 0 AND origin != ?3
                     AND (origin = ?2 OR id IN (SELECT id FROM members WHERE room = ?1 AND server IS NOT NULL))
                     AND arrival > (SELECT min(arrival) FROM events WHERE room = ?1 AND origin = ?3)
                 ORDER BY arrival DESC LIMIT ?4",
            )?
            .execute(params![
                room.as_str(),
                own.as_str(),
                origin.as_str(),
                MAX_QUEUED
            ])?;
        Ok(())
    }

    /// The ends of what a genuine origin has said are heads now, in place of what they build on. Fragments are none (PROTOCOL 12.4).
    fn make_heads(&self, room: &RoomId, origin: &ServerName) -> Result<(), ShelfError> {
        let whose = params![room.as_str(), origin.as_str()];
        self.db.execute(
            "DELETE FROM heads WHERE room = ?1 AND id IN (
                 SELECT p.parent FROM parents p JOIN events c ON c.id = p.child
                 WHERE c.room = ?1 AND c.origin = ?2 AND c.hidden = 0)",
            whose,
        )?;
        let mut ends = self.db.prepare_cached(&format!(
            "SELECT bytes FROM events e WHERE room = ? AND origin = ? AND hidden = 0 AND NOT {HAS_CHILD}
                 AND depth > (SELECT horizon FROM rooms r WHERE r.id = e.room)
             ORDER BY depth DESC LIMIT ?"
        ))?;
        let ends: Vec<Vec<u8>> = readable(
            "an event of a room",
            &mut ends,
            params![room.as_str(), origin.as_str(), MAX_RESTORED],
            |row| row.get(0),
        )?;
        self.put_heads(&ends)
    }

    /// Whether something genuine, which is shown, builds on an event.
    pub(super) fn has_child(&self, id: &EventId) -> Result<bool, ShelfError> {
        let found = self
            .db
            .prepare_cached(&format!("SELECT {HAS_CHILD} FROM (SELECT ? AS id) e"))?
            .query_row([id.as_str()], |row| row.get(0))?;
        Ok(found)
    }

    pub(super) fn note_unproved(
        &self,
        room: &RoomId,
        origin: &ServerName,
    ) -> Result<(), ShelfError> {
        self.db
            .prepare_cached("INSERT OR IGNORE INTO unproved (room, origin) VALUES (?, ?)")?
            .execute([room.as_str(), origin.as_str()])?;
        Ok(())
    }

    /// What was held arrives only now: reports go by the order of arrival, and may be past its old place.
    fn show_held(&self, room: &RoomId, origin: &ServerName) -> Result<(), ShelfError> {
        let mut held = self.db.prepare_cached(
            "SELECT arrival FROM events WHERE room = ? AND origin = ? AND shown = 2 ORDER BY seq",
        )?;
        let held: Vec<i64> = held
            .query_map([room.as_str(), origin.as_str()], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for arrival in held {
            let now: i64 = self
                .db
                .prepare_cached(
                    "UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'events' RETURNING seq",
                )?
                .query_row([], |row| row.get(0))?;
            self.db
                .prepare_cached("UPDATE events SET shown = 1, arrival = ? WHERE arrival = ?")?
                .execute([now, arrival])?;
        }
        Ok(())
    }

    /// Hides what was said in the origin's name. Its places in the chain are free for the origin itself.
    fn disown(&self, room: &RoomId, origin: &ServerName) -> Result<(), ShelfError> {
        let whose = params![room.as_str(), origin.as_str()];
        for sql in [
            "UPDATE events SET hidden = 1, shown = 0 WHERE room = ?1 AND origin = ?2",
            "DELETE FROM documents WHERE room = ?1 AND origin = ?2",
            "DELETE FROM members WHERE room = ?1
             AND id IN (SELECT id FROM events WHERE room = ?1 AND origin = ?2)",
            "DELETE FROM heads WHERE room = ?1
             AND id IN (SELECT id FROM events WHERE room = ?1 AND origin = ?2)",
        ] {
            self.db.execute(sql, whose)?;
        }
        if self.heads(room)?.is_empty() {
            self.restore_heads(room)?;
        }
        Ok(())
    }

    /// Makes heads of the deepest events that nothing shown builds on.
    fn restore_heads(&self, room: &RoomId) -> Result<(), ShelfError> {
        let mut ends = self.db.prepare_cached(&format!(
            "SELECT bytes FROM events e WHERE room = ? AND hidden = 0 AND NOT {HAS_CHILD} AND NOT EXISTS (
                 SELECT 1 FROM unproved u WHERE u.room = e.room AND u.origin = e.origin)
             ORDER BY depth DESC LIMIT ?"
        ))?;
        let ends: Vec<Vec<u8>> = readable(
            "an event of a room",
            &mut ends,
            params![room.as_str(), MAX_RESTORED],
            |row| row.get(0),
        )?;
        self.put_heads(&ends)
    }

    fn put_heads(&self, ends: &[Vec<u8>]) -> Result<(), ShelfError> {
        for bytes in ends {
            if let Ok(event) = Event::parse(bytes) {
                self.put_head(&event)?;
            }
        }
        Ok(())
    }

    pub(super) fn put_head(&self, event: &Event) -> Result<(), ShelfError> {
        self.db
            .prepare_cached(
                "INSERT OR IGNORE INTO heads (room, id, depth, ms, count) VALUES (?, ?, ?, ?, ?)",
            )?
            .execute(params![
                event.room.as_str(),
                event.id.as_str(),
                number(event.depth)?,
                number(event.hlc.0)?,
                number(event.hlc.1)?
            ])?;
        Ok(())
    }

    pub(super) fn has_unproved(
        &self,
        room: &RoomId,
        origin: &ServerName,
    ) -> Result<bool, ShelfError> {
        let found = self
            .db
            .prepare_cached("SELECT 1 FROM unproved WHERE room = ? AND origin = ?")?
            .query_row([room.as_str(), origin.as_str()], |_| Ok(()))
            .optional()?;
        Ok(found.is_some())
    }

    pub(super) fn count_unproved(&self, room: &RoomId) -> Result<usize, ShelfError> {
        let count: i64 = self
            .db
            .prepare_cached("SELECT count(*) FROM unproved WHERE room = ?")?
            .query_row([room.as_str()], |row| row.get(0))?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }
}
