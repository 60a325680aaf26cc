//! Reading beside the writer.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use comity_bridge::{
    Channel, Cursor, Event, EventId, NativeId, NetworkName, Plan, Remembered, RoomAddress,
    Timestamp,
};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::store::numbered;
use super::{Files, place, seq_of};
use crate::journal::{DeadLetter, LaneId, LaneStart};

/// A connection that reads (and gives numbers to rooms and channels when a lane is opened).
pub(crate) struct Reader {
    connection: Connection,
    /// The pages read last, newest first.
    pages: VecDeque<Page>,
}

struct Page {
    room: i64,
    /// The page has the events after this one.
    before: u64,
    events: Arc<[Arc<Event>]>,
}

/// Events in a page.
const PAGE: u64 = 128;

/// Pages kept.
const PAGES: usize = 16;

/// The `seq` of a room's last event; 0 when it has none.
pub(super) fn head(connection: &Connection, room: i64) -> Result<u64, rusqlite::Error> {
    let last: Option<i64> = connection
        .prepare_cached("SELECT max(place) FROM events WHERE place BETWEEN ?1 AND ?2")?
        .query_row([place(room, 0), place(room + 1, 0) - 1], |row| row.get(0))?;
    Ok(last.map_or(0, seq_of))
}

impl Reader {
    pub(crate) fn open(files: &Files) -> Result<Reader, rusqlite::Error> {
        Ok(Reader {
            connection: files.another()?,
            pages: VecDeque::new(),
        })
    }

    pub(crate) fn lane(
        &mut self,
        room: &RoomAddress,
        channel: &Channel,
    ) -> Result<(LaneId, LaneStart), rusqlite::Error> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let id = LaneId {
            room: numbered(&transaction, "rooms", "address", &room.to_string())?,
            channel: numbered(&transaction, "channels", "name", &channel.to_string())?,
        };
        let head = head(&transaction, id.room)?;
        // A channel that is new to the room begins at its end, and says so at once: what comes from now on is its own.
        transaction.execute(
            "INSERT INTO lanes VALUES (?1, ?2, ?3, ?3) ON CONFLICT DO NOTHING",
            params![id.room, id.channel, head],
        )?;
        let (done, tried) = transaction.query_row(
            "SELECT done, tried FROM lanes WHERE room = ?1 AND channel = ?2",
            params![id.room, id.channel],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        transaction.commit()?;
        Ok((id, LaneStart { done, tried, head }))
    }

    /// Lanes that are behind in the same room read the same pages, so a page is parsed once for all of them.
    pub(crate) fn events(
        &mut self,
        room: i64,
        after: u64,
    ) -> Result<Vec<Arc<Event>>, rusqlite::Error> {
        let before = after - after % PAGE;
        let known = self
            .pages
            .iter()
            .find(|page| page.room == room && page.before == before);
        let page = match known {
            Some(page) => Arc::clone(&page.events),
            None => self.load(room, before)?,
        };
        Ok(page
            .iter()
            .filter(|event| event.seq > after)
            .cloned()
            .collect())
    }

    fn load(&mut self, room: i64, before: u64) -> Result<Arc<[Arc<Event>]>, rusqlite::Error> {
        let mut query = self.connection.prepare_cached(
            "SELECT place, json FROM events WHERE place > ?1 AND place <= ?2 ORDER BY place",
        )?;
        let mut rows = query.query([place(room, before), place(room, before + PAGE)])?;
        let mut events = Vec::new();
        while let Some(row) = rows.next()? {
            match serde_json::from_str::<Event>(row.get_ref(1)?.as_str().unwrap_or_default()) {
                Ok(event) => events.push(Arc::new(event)),
                Err(error) => {
                    let seq = seq_of(row.get(0)?);
                    tracing::error!(room, seq, %error, "a damaged event in the journal is passed over");
                }
            }
        }
        let events: Arc<[Arc<Event>]> = events.into();
        // Only a page to which nothing can be added is kept.
        if events.len() == PAGE as usize {
            self.pages.truncate(PAGES - 1);
            self.pages.push_front(Page {
                room,
                before,
                events: Arc::clone(&events),
            });
        }
        Ok(events)
    }

    pub(crate) fn plan(&mut self, lane: LaneId, seq: u64) -> Result<Option<Plan>, rusqlite::Error> {
        let place = place(lane.room, seq);
        let parts: Option<String> = self
            .connection
            .prepare_cached("SELECT parts FROM plans WHERE channel = ?1 AND place = ?2")?
            .query_row(params![lane.channel, place], |row| row.get(0))
            .optional()?;
        let Some(parts) = parts.and_then(|json| serde_json::from_str(&json).ok()) else {
            return Ok(None);
        };
        let mut done: BTreeMap<u32, Vec<NativeId>> = BTreeMap::new();
        let mut query = self.connection.prepare_cached(
            "SELECT part, native_id FROM parts WHERE place = ?1 AND channel = ?2 ORDER BY part",
        )?;
        let mut rows = query.query(params![place, lane.channel])?;
        while let Some(row) = rows.next()? {
            let ids = done.entry(row.get(0)?).or_default();
            let native: String = row.get(1)?;
            if !native.is_empty() {
                ids.push(NativeId(native));
            }
        }
        Ok(Some(Plan { parts, done }))
    }

    pub(crate) fn native_ids(
        &mut self,
        channel: i64,
        event: EventId,
    ) -> Result<Vec<NativeId>, rusqlite::Error> {
        let mut query = self.connection.prepare_cached(
            "SELECT source_id, 0 AS part FROM events WHERE id = ?1 AND channel = ?2
             UNION ALL
             SELECT native_id, part FROM parts JOIN events USING (place)
                 WHERE events.id = ?1 AND parts.channel = ?2 AND native_id <> ''
             ORDER BY part",
        )?;
        let rows = query.query_map(params![event.to_bytes(), channel], |row| {
            Ok(NativeId(row.get(0)?))
        })?;
        rows.collect()
    }

    pub(crate) fn remembered(
        &mut self,
        network: &NetworkName,
    ) -> Result<Remembered, rusqlite::Error> {
        let cursor: Option<String> = self
            .connection
            .prepare_cached("SELECT cursor FROM cursors WHERE network = ?1")?
            .query_row([network.as_str()], |row| row.get(0))
            .optional()?;
        let mut query = self
            .connection
            .prepare_cached("SELECT key, value FROM facts WHERE network = ?1")?;
        let writes = query
            .query_map([network.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        Ok(Remembered {
            cursor: cursor.map(Cursor),
            writes,
        })
    }

    pub(crate) fn dead_letters(
        &mut self,
        lane: LaneId,
    ) -> Result<Vec<DeadLetter>, rusqlite::Error> {
        let mut query = self.connection.prepare_cached(
            "SELECT place, parked, reason, at FROM dead WHERE channel = ?1 AND place BETWEEN ?2 AND ?3 ORDER BY place",
        )?;
        let rows = query.query_map(
            params![
                lane.channel,
                place(lane.room, 0),
                place(lane.room + 1, 0) - 1
            ],
            |row| {
                Ok(DeadLetter {
                    seq: seq_of(row.get(0)?),
                    parked: row.get(1)?,
                    reason: row.get(2)?,
                    at: Timestamp(row.get(3)?),
                })
            },
        )?;
        rows.collect()
    }
}
