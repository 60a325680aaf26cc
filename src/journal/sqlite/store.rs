//! The commit: events, cursors, facts and lane progress in one transaction.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use comity_bridge::report::Refusal;
use comity_bridge::{Channel, Event, EventId, NativeRef, RoomAddress, Verdict};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use tokio::sync::oneshot;

use super::schema::migrate;
use super::{Files, place};
use crate::journal::{Append, Draft, Entry, JournalError, LaneId, LaneWrite};

/// The one that writes.
pub(crate) struct Store {
    connection: Connection,
    rooms: HashMap<RoomAddress, Room>,
    channels: HashMap<Channel, i64>,
}

#[derive(Clone, Copy)]
struct Room {
    id: i64,
    head: u64,
}

/// What a commit has made durable.
pub(crate) struct Committed {
    /// For each report, one verdict an entry.
    pub(crate) verdicts: Vec<Vec<Verdict>>,
    /// New events by room, in order.
    pub(crate) events: BTreeMap<RoomAddress, Vec<Arc<Event>>>,
}

impl Store {
    pub(crate) fn open(files: &Files) -> Result<Store, JournalError> {
        let mut connection = files.writer()?;
        migrate(&mut connection)?;
        let mut rooms = HashMap::new();
        let mut channels = HashMap::new();
        {
            let mut query = connection.prepare("SELECT id, address FROM rooms")?;
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                let id: i64 = row.get(0)?;
                let head = super::reader::head(&connection, id)?;
                if let Ok(address) = row.get::<_, String>(1)?.parse() {
                    rooms.insert(address, Room { id, head });
                }
            }
            let mut query = connection.prepare("SELECT id, name FROM channels")?;
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                if let Ok(channel) = row.get::<_, String>(1)?.parse() {
                    channels.insert(channel, row.get(0)?);
                }
            }
        }
        Ok(Store {
            connection,
            rooms,
            channels,
        })
    }

    /// The `seq` of a room's last event; 0 when it has none.
    pub(crate) fn head(&self, room: &RoomAddress) -> Result<u64, rusqlite::Error> {
        Ok(self.rooms.get(room).map_or(0, |room| room.head))
    }

    /// Commits all of it or nothing. What is in memory changes only when the disk has it.
    pub(crate) fn commit(
        &mut self,
        appends: Vec<Append>,
        lanes: &[(LaneId, LaneWrite, oneshot::Sender<()>)],
    ) -> Result<Committed, rusqlite::Error> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut group = Group {
            transaction: &transaction,
            rooms: &self.rooms,
            channels: &self.channels,
            new_rooms: HashMap::new(),
            new_channels: HashMap::new(),
            events: BTreeMap::new(),
        };
        let mut verdicts = Vec::with_capacity(appends.len());
        for append in appends {
            verdicts.push(group.append(append)?);
        }
        for (lane, write, _) in lanes {
            group.lane(*lane, write)?;
        }
        let Group {
            new_rooms,
            new_channels,
            events,
            ..
        } = group;
        transaction.commit()?;
        self.rooms.extend(new_rooms);
        self.channels.extend(new_channels);
        Ok(Committed { verdicts, events })
    }
}

struct Group<'a> {
    transaction: &'a Transaction<'a>,
    rooms: &'a HashMap<RoomAddress, Room>,
    channels: &'a HashMap<Channel, i64>,
    /// What this commit changes.
    new_rooms: HashMap<RoomAddress, Room>,
    new_channels: HashMap<Channel, i64>,
    events: BTreeMap<RoomAddress, Vec<Arc<Event>>>,
}

impl Group<'_> {
    fn append(&mut self, append: Append) -> Result<Vec<Verdict>, rusqlite::Error> {
        let mut verdicts = Vec::with_capacity(append.entries.len());
        for entry in append.entries {
            verdicts.push(match entry {
                Entry::Refused(refusal) => Verdict::Refused(refusal),
                Entry::Event(draft) => self.event(*draft)?,
                Entry::Receipt(key, native) => {
                    let channel = self.channel(&key.channel)?;
                    let mut find = self
                        .transaction
                        .prepare_cached("SELECT place FROM events WHERE id = ?1")?;
                    let found: Option<i64> = find
                        .query_row([key.event.to_bytes()], |row| row.get(0))
                        .optional()?;
                    if let Some(place) = found {
                        self.part(place, channel, 0, &native.0)?;
                    }
                    Verdict::Receipt
                }
            });
        }
        if let Some(cursor) = append.cursor {
            self.transaction
                .prepare_cached(
                    "INSERT INTO cursors VALUES (?1, ?2) ON CONFLICT DO UPDATE SET cursor = ?2",
                )?
                .execute(params![append.network.as_str(), cursor.0])?;
        }
        for (key, value) in append.writes {
            if value.is_empty() {
                self.transaction
                    .prepare_cached("DELETE FROM facts WHERE network = ?1 AND key = ?2")?
                    .execute(params![append.network.as_str(), key])?;
            } else {
                self.transaction
                    .prepare_cached("INSERT INTO facts VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET value = ?3")?
                    .execute(params![append.network.as_str(), key, value])?;
            }
        }
        Ok(verdicts)
    }

    fn event(&mut self, draft: Draft) -> Result<Verdict, rusqlite::Error> {
        let channel = self.channel(&draft.channel)?;
        let mut room = self.room(&draft.room)?;
        let seq = room.head + 1;
        let address = draft.room.clone();
        let source_id = draft.source_id.0.clone();
        let mut failed = None;
        let event = draft.into_event(seq, |reference| match self.find(channel, reference) {
            Ok(found) => found,
            Err(error) => {
                failed = Some(error);
                None
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        let Ok(event) = event else {
            return Ok(Verdict::Refused(Refusal::UnknownTarget));
        };
        let json = serde_json::to_string(&event)
            .map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
        let place = place(room.id, seq);
        let inserted = self
            .transaction
            .prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (channel, source_id) DO NOTHING")?
            .execute(params![place, event.id.to_bytes(), channel, source_id, json])?;
        if inserted == 0 {
            let id: [u8; 16] = self
                .transaction
                .prepare_cached("SELECT id FROM events WHERE channel = ?1 AND source_id = ?2")?
                .query_row(params![channel, source_id], |row| row.get(0))?;
            return Ok(Verdict::Duplicate(EventId::from_bytes(id)));
        }
        room.head = seq;
        self.new_rooms.insert(address.clone(), room);
        let id = event.id;
        self.events
            .entry(address)
            .or_default()
            .push(Arc::new(event));
        Ok(Verdict::Accepted(id))
    }

    /// The event that a network means by one of its own ids: one that was born there, or one that we showed there.
    fn find(&self, channel: i64, native: &NativeRef) -> Result<Option<EventId>, rusqlite::Error> {
        let id: Option<[u8; 16]> = self
            .transaction
            .prepare_cached(
                "SELECT id FROM events WHERE channel = ?1 AND source_id = ?2
                 UNION ALL
                 SELECT events.id FROM parts JOIN events USING (place) WHERE parts.channel = ?1 AND native_id = ?2
                 LIMIT 1",
            )?
            .query_row(params![channel, native.0], |row| row.get(0))
            .optional()?;
        Ok(id.map(EventId::from_bytes))
    }

    fn lane(&self, lane: LaneId, write: &LaneWrite) -> Result<(), rusqlite::Error> {
        self.transaction
            .prepare_cached("INSERT INTO lanes VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET done = ?3, tried = ?4")?
            .execute(params![lane.room, lane.channel, write.done, write.tried])?;
        for (seq, part, ids) in &write.parts {
            let place = place(lane.room, *seq);
            if ids.is_empty() {
                self.part(place, lane.channel, *part, "")?;
            }
            for id in ids {
                self.part(place, lane.channel, *part, &id.0)?;
            }
        }
        for (seq, parts) in &write.plans {
            let json = serde_json::to_string(parts)
                .map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
            self.transaction
                .prepare_cached(
                    "INSERT INTO plans VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET parts = ?3",
                )?
                .execute(params![lane.channel, place(lane.room, *seq), json])?;
        }
        for letter in &write.dead {
            self.transaction
                .prepare_cached("INSERT OR REPLACE INTO dead VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![
                    lane.channel,
                    place(lane.room, letter.seq),
                    letter.parked,
                    letter.reason,
                    letter.at.0
                ])?;
        }
        Ok(())
    }

    fn part(
        &self,
        place: i64,
        channel: i64,
        part: u32,
        native: &str,
    ) -> Result<(), rusqlite::Error> {
        self.transaction
            .prepare_cached("INSERT OR IGNORE INTO parts VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![place, channel, part, native])?;
        Ok(())
    }

    fn room(&mut self, address: &RoomAddress) -> Result<Room, rusqlite::Error> {
        if let Some(room) = self
            .new_rooms
            .get(address)
            .or_else(|| self.rooms.get(address))
        {
            return Ok(*room);
        }
        let id = numbered(self.transaction, "rooms", "address", &address.to_string())?;
        let room = Room {
            id,
            head: super::reader::head(self.transaction, id)?,
        };
        self.new_rooms.insert(address.clone(), room);
        Ok(room)
    }

    fn channel(&mut self, channel: &Channel) -> Result<i64, rusqlite::Error> {
        if let Some(id) = self
            .new_channels
            .get(channel)
            .or_else(|| self.channels.get(channel))
        {
            return Ok(*id);
        }
        let id = numbered(self.transaction, "channels", "name", &channel.to_string())?;
        self.new_channels.insert(channel.clone(), id);
        Ok(id)
    }
}

/// The number of a room or channel, given at its first appearance.
pub(super) fn numbered(
    connection: &Connection,
    table: &str,
    column: &str,
    name: &str,
) -> Result<i64, rusqlite::Error> {
    connection
        .prepare_cached(&format!(
            "INSERT INTO {table} ({column}) VALUES (?1) ON CONFLICT DO NOTHING"
        ))?
        .execute([name])?;
    connection
        .prepare_cached(&format!("SELECT id FROM {table} WHERE {column} = ?1"))?
        .query_row([name], |row| row.get(0))
}
