//! Events: keeping them, and what the session asks about them.

use rusqlite::types::Type;
use rusqlite::{OptionalExtension as _, Row, Transaction, params};

use super::damage::{passed_over, readable};
use crate::ident::{Alias, EventId, RoomId, ServerName, UserAddress};
use crate::session::judge::Acceptance;
use crate::session::{Genesis, Head, Kept, MemberBody, Membership, Room, Shelf, ShelfError, Stage};
use crate::wire::event::Event;
use crate::wire::json;
use crate::wire::keys::KeyDocument;

/// The graph inside one transaction.
pub struct Store<'a> {
    pub(super) db: &'a Transaction<'a>,
}

impl<'a> Store<'a> {
    pub(super) fn new(db: &'a Transaction<'a>) -> Self {
        Self { db }
    }

    /// Keeps an accepted event. Returns its place in the order of arrival, which queues and reports go by.
    pub fn put(&self, event: &Event, how: Acceptance) -> Result<i64, ShelfError> {
        let Event {
            id, room, origin, ..
        } = event;
        let shown = match (how.shown, how.unproved) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => 2,
        };
        self.db
            .prepare_cached(
                "INSERT INTO events (id, room, origin, seq, depth, hidden, shown, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![
                id.as_str(), room.as_str(), origin.as_str(), number(event.seq)?, number(event.depth)?, how.hidden,
                shown, event.bytes()
            ])?;
        let arrival = self.db.last_insert_rowid();
        for parent in &event.parents {
            self.db
                .prepare_cached("INSERT OR IGNORE INTO parents (parent, child) VALUES (?, ?)")?
                .execute([parent.as_str(), id.as_str()])?;
        }
        if !how.hidden {
            self.note_member(event)?;
            self.note_keys(event)?;
            if how.unproved {
                self.note_unproved(room, origin)?;
            } else {
                self.move_heads(event)?;
            }
        }
        self.db
            .prepare_cached("DELETE FROM pending WHERE id = ?")?
            .execute([id.as_str()])?;
        Ok(arrival)
    }

    fn move_heads(&self, event: &Event) -> Result<(), ShelfError> {
        for parent in &event.parents {
            self.db
                .prepare_cached("DELETE FROM heads WHERE room = ? AND id = ?")?
                .execute([event.room.as_str(), parent.as_str()])?;
        }
        // A fragment that was asked for because a later event names it is no head.
        if !self.has_child(&event.id)? {
            self.put_head(event)?;
        }
        Ok(())
    }

    /// Takes an event out of the heads: the end of an origin's chain that others have already built on.
    pub fn not_a_head(&self, id: &EventId) -> Result<(), ShelfError> {
        self.db
            .execute("DELETE FROM heads WHERE id = ?", [id.as_str()])?;
        Ok(())
    }

    fn note_member(&self, event: &Event) -> Result<(), ShelfError> {
        let Some(body) = MemberBody::of(event).filter(|_| event.kind == "member") else {
            return Ok(());
        };
        // Membership of the gateway's user is what makes a server a member: kept findable by server.
        let server = (body.user == event.origin.gateway()).then(|| event.origin.as_str());
        self.db
            .prepare_cached("INSERT OR IGNORE INTO members (room, user, seq, id, joined, server) VALUES (?, ?, ?, ?, ?, ?)")?
            .execute(params![
                event.room.as_str(), body.user.as_str(), number(event.seq)?, event.id.as_str(), body.membership == "join",
                server
            ])?;
        Ok(())
    }

    fn note_keys(&self, event: &Event) -> Result<(), ShelfError> {
        let document = match event.kind.as_str() {
            "genesis" => Genesis::of(event).map(|genesis| genesis.keys.to_bytes()),
            "key.doc" => event
                .body
                .as_ref()
                .and_then(|body| json::to_bytes(body).ok()),
            _ => None,
        };
        if let Some(document) = document {
            self.db.execute(
                "INSERT OR IGNORE INTO documents (room, origin, seq, document) VALUES (?, ?, ?, ?)",
                params![
                    event.room.as_str(),
                    event.origin.as_str(),
                    number(event.seq)?,
                    document
                ],
            )?;
        }
        Ok(())
    }

    /// The bytes of the events of `room` among `ids`, those that are there.
    pub fn bytes_of(&self, room: &RoomId, ids: &[EventId]) -> Result<Vec<Vec<u8>>, ShelfError> {
        let mut statement = self
            .db
            .prepare_cached("SELECT bytes FROM events WHERE id = ? AND room = ?")?;
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            let row = statement
                .query_row([id.as_str(), room.as_str()], |row| row.get(0))
                .optional();
            let row = passed_over("an event that is asked for", row.map_err(ShelfError::from))?;
            found.extend(row.flatten());
        }
        Ok(found)
    }

    /// When an event came, in the order of arrival; 0 for one that is not here.
    pub fn arrival(&self, id: &EventId) -> Result<i64, ShelfError> {
        let found = self
            .db
            .prepare_cached("SELECT arrival FROM events WHERE id = ?")?
            .query_row([id.as_str()], |row| row.get(0))
            .optional()?;
        Ok(found.unwrap_or(0))
    }

    /// How many events of the room are here.
    pub fn count(&self, room: &RoomId) -> Result<u64, ShelfError> {
        let count: i64 = self.db.query_row(
            "SELECT count(*) FROM events WHERE room = ?",
            [room.as_str()],
            |row| row.get(0),
        )?;
        Ok(count.unsigned_abs())
    }

    /// Each origin's last event in the room, and each server's keys and join: what a joiner needs (PROTOCOL 12.3).
    pub fn chain_ends(&self, room: &RoomId) -> Result<Vec<EventId>, ShelfError> {
        let mut statement = self.db.prepare_cached(
            "SELECT id, max(seq) FROM events WHERE room = ? AND hidden = 0 GROUP BY origin",
        )?;
        readable(
            "the end of a chain",
            &mut statement,
            [room.as_str()],
            |row| id_at(row, 0),
        )
    }

    /// The event that carries the origin's key document, unless that is the genesis.
    pub fn keys_event(
        &self,
        room: &RoomId,
        origin: &ServerName,
    ) -> Result<Option<EventId>, ShelfError> {
        let seq: Option<i64> = self
            .db
            .prepare_cached(
                "SELECT seq FROM documents WHERE room = ? AND origin = ? ORDER BY seq DESC LIMIT 1",
            )?
            .query_row([room.as_str(), origin.as_str()], |row| row.get(0))
            .optional()?;
        match seq {
            Some(seq) => self.at_seq(room, origin, seq.unsigned_abs()),
            None => Ok(None),
        }
    }
}

impl Shelf for Store<'_> {
    fn room(&self, room: &RoomId) -> Result<Option<Room>, ShelfError> {
        let found = self
            .db
            .prepare_cached("SELECT id, alias, hosted, stage, horizon FROM rooms WHERE id = ?")?
            .query_row([room.as_str()], room_at)
            .optional()?;
        Ok(found)
    }

    fn kept(&self, id: &EventId) -> Result<Option<Kept>, ShelfError> {
        let found = self
            .db
            .prepare_cached("SELECT room, origin, seq, depth, hidden FROM events WHERE id = ?")?
            .query_row([id.as_str()], |row| {
                Ok(Kept {
                    room: parsed(row, 0, RoomId::parse)?,
                    origin: parsed(row, 1, ServerName::parse)?,
                    seq: row.get::<_, i64>(2)?.unsigned_abs(),
                    depth: row.get::<_, i64>(3)?.unsigned_abs(),
                    hidden: row.get(4)?,
                })
            })
            .optional()?;
        Ok(found)
    }

    fn event(&self, id: &EventId) -> Result<Option<Event>, ShelfError> {
        let bytes: Option<Vec<u8>> = self
            .db
            .prepare_cached("SELECT bytes FROM events WHERE id = ?")?
            .query_row([id.as_str()], |row| row.get(0))
            .optional()?;
        bytes
            .map(|bytes| {
                Event::parse(&bytes)
                    .map_err(|reject| ShelfError::Damaged(format!("event {id}: {reject}")))
            })
            .transpose()
    }

    fn at_seq(
        &self,
        room: &RoomId,
        origin: &ServerName,
        seq: u64,
    ) -> Result<Option<EventId>, ShelfError> {
        let found = self
            .db
            .prepare_cached(
                "SELECT id FROM events WHERE room = ? AND origin = ? AND seq = ? AND hidden = 0",
            )?
            .query_row(
                params![room.as_str(), origin.as_str(), number(seq)?],
                |row| id_at(row, 0),
            )
            .optional()?;
        Ok(found)
    }

    fn tip(
        &self,
        room: &RoomId,
        origin: &ServerName,
    ) -> Result<Option<(u64, EventId)>, ShelfError> {
        let found = self
            .db
            .prepare_cached("SELECT seq, id FROM events WHERE room = ? AND origin = ? AND hidden = 0 ORDER BY seq DESC LIMIT 1")?
            .query_row([room.as_str(), origin.as_str()], |row| Ok((row.get::<_, i64>(0)?.unsigned_abs(), id_at(row, 1)?)))
            .optional()?;
        Ok(found)
    }

    fn keys(
        &self,
        room: &RoomId,
        origin: &ServerName,
        before: u64,
    ) -> Result<Option<KeyDocument>, ShelfError> {
        let bytes: Option<Vec<u8>> = self
            .db
            .prepare_cached("SELECT document FROM documents WHERE room = ? AND origin = ? AND seq < ? ORDER BY seq DESC LIMIT 1")?
            .query_row(params![room.as_str(), origin.as_str(), number(before)?], |row| row.get(0))
            .optional()?;
        bytes
            .map(|bytes| {
                KeyDocument::from_store(&bytes)
                    .map_err(|error| ShelfError::Damaged(format!("the keys of {origin}: {error}")))
            })
            .transpose()
    }

    fn is_unproved(&self, room: &RoomId, origin: &ServerName) -> Result<bool, ShelfError> {
        self.has_unproved(room, origin)
    }

    fn unproved_in(&self, room: &RoomId) -> Result<usize, ShelfError> {
        self.count_unproved(room)
    }

    fn membership(
        &self,
        room: &RoomId,
        user: &UserAddress,
        before: u64,
    ) -> Result<Option<Membership>, ShelfError> {
        let found = self
            .db
            .prepare_cached("SELECT id, joined FROM members WHERE room = ? AND user = ? AND seq < ? ORDER BY seq DESC LIMIT 1")?
            .query_row(params![room.as_str(), user.as_str(), number(before)?], |row| {
                Ok(Membership { id: id_at(row, 0)?, joined: row.get(1)? })
            })
            .optional()?;
        Ok(found)
    }

    fn heads(&self, room: &RoomId) -> Result<Vec<Head>, ShelfError> {
        let mut statement = self
            .db
            .prepare_cached("SELECT id, depth, ms, count FROM heads WHERE room = ? ORDER BY depth DESC, id LIMIT 100")?;
        let mut damage = None;
        let rows = statement.query_map([room.as_str()], |row| {
            Ok(Head {
                id: id_at(row, 0)?,
                depth: row.get::<_, i64>(1)?.unsigned_abs(),
                hlc: (
                    row.get::<_, i64>(2)?.unsigned_abs(),
                    row.get::<_, i64>(3)?.unsigned_abs(),
                ),
            })
        })?;
        let mut heads = Vec::new();
        for row in rows {
            match row.map_err(ShelfError::from) {
                Ok(head) => heads.push(head),
                Err(ShelfError::Damaged(why)) => damage = Some(why),
                Err(error) => return Err(error),
            }
        }
        match damage {
            // A room has heads: without one, what is damaged must not pass for a room that we are not in.
            Some(why) if heads.is_empty() => Err(ShelfError::Damaged(why)),
            Some(why) => {
                tracing::error!(%room, why, "a head of the room is damaged; passed over");
                Ok(heads)
            }
            None => Ok(heads),
        }
    }

    fn servers(&self, room: &RoomId) -> Result<Vec<ServerName>, ShelfError> {
        // SQLite takes the other columns from the row that has the maximum.
        let mut statement = self.db.prepare_cached(
            "SELECT server, joined, max(seq) FROM members WHERE room = ? AND server IS NOT NULL GROUP BY server",
        )?;
        // A server that is passed over gets nothing pushed, and asks for it (PROTOCOL 16).
        let servers = readable(
            "a server in a room",
            &mut statement,
            [room.as_str()],
            |row| Ok((parsed(row, 0, ServerName::parse)?, row.get::<_, bool>(1)?)),
        )?;
        Ok(servers
            .into_iter()
            .filter(|(_, joined)| *joined)
            .map(|(server, _)| server)
            .collect())
    }
}

pub(super) fn room_at(row: &Row<'_>) -> rusqlite::Result<Room> {
    Ok(Room {
        id: parsed(row, 0, RoomId::parse)?,
        alias: parsed(row, 1, Alias::parse)?,
        hosted: row.get(2)?,
        stage: match row.get::<_, i64>(3)? {
            0 => Stage::Joining,
            1 => Stage::In,
            _ => Stage::Left,
        },
        horizon: row.get::<_, i64>(4)?.unsigned_abs(),
    })
}

pub(super) fn id_at(row: &Row<'_>, column: usize) -> rusqlite::Result<EventId> {
    parsed(row, column, EventId::parse)
}

/// Reads a name back; what was checked when it was written can only be wrong when the file is damaged.
pub(super) fn parsed<T, E: std::error::Error + Send + Sync + 'static>(
    row: &Row<'_>,
    column: usize,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    parse(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
    })
}

/// SQLite's integers are signed; `u64::MAX` stands for "no limit".
pub(super) fn number(value: u64) -> Result<i64, ShelfError> {
    Ok(i64::try_from(value).unwrap_or(i64::MAX))
}
