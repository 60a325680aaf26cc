//! Reading beside the writer: what lanes and bridges ask.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use comity_bridge::{
    Channel, Cursor, EventId, NativeId, NetworkName, Plan, Remembered, RoomAddress, Timestamp,
};
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use super::pages::{Pages, event_at, is_damage};
use super::{Files, block_of, numbered, place, room_of, seq_of};
use crate::journal::{
    AGAIN, Change, ChangeKind, DeadLetter, LaneId, LaneStart, Logged, Standing, Trouble,
};

/// A connection that reads (and gives numbers to rooms and channels when a lane is opened).
pub(crate) struct Reader {
    pub(super) connection: Connection,
    pages: Pages,
    /// See [`Files::rewritten`], and how much of it the pages know.
    rewritten: Arc<AtomicU64>,
    seen: u64,
}

/// What one part of a delivery is called: `seq`, part, native ids.
pub(super) type Part = (u64, u32, Vec<NativeId>);

/// The `seq` of the last event that was ever in a room; 0 when there was none.
pub(super) fn head(connection: &Connection, room: i64) -> Result<u64, rusqlite::Error> {
    let last = |sql: &str| -> Result<Option<i64>, rusqlite::Error> {
        connection
            .prepare_cached(sql)?
            .query_row([place(room, 0), place(room + 1, 0) - 1], |row| row.get(0))
    };
    let last = match last("SELECT max(place) FROM events WHERE place BETWEEN ?1 AND ?2") {
        // The end of the log itself may be damaged; the index has the places, too.
        Err(error) if is_damage(&error) => last(
            "SELECT max(place) FROM events INDEXED BY events_by_id WHERE +place BETWEEN ?1 AND ?2",
        )?,
        last => last?,
    };
    let noted: Option<u64> = connection
        .prepare_cached("SELECT head FROM rooms WHERE id = ?1")?
        .query_row([room], |row| row.get(0))
        .optional()?;
    Ok(last.map_or(0, seq_of).max(noted.unwrap_or(0)))
}

/// What a channel calls the parts of an event, in order; the same part may be there twice.
pub(super) fn parts_of(
    connection: &Connection,
    channel: i64,
    place: i64,
) -> Result<Vec<(Timestamp, Part)>, rusqlite::Error> {
    let mut query = connection.prepare_cached(
        "SELECT at, parts FROM shown WHERE channel = ?1 AND block = ?2 ORDER BY at",
    )?;
    let mut rows = query.query([channel, block_of(place)])?;
    let mut parts = Vec::new();
    while let Some(row) = rows.next()? {
        let at = Timestamp(row.get(0)?);
        let text = row.get_ref(1)?.as_str().unwrap_or_default();
        let Ok(block) = serde_json::from_str::<Vec<Part>>(text) else {
            tracing::error!(
                channel,
                block = block_of(place),
                "damaged native ids in the journal are passed over"
            );
            continue;
        };
        let seq = seq_of(place);
        parts.extend(
            block
                .into_iter()
                .filter(|part| part.0 == seq)
                .map(|part| (at, part)),
        );
    }
    parts.sort_by_key(|(_, part)| part.1);
    Ok(parts)
}

impl Reader {
    pub(crate) fn open(files: &Files) -> Result<Reader, rusqlite::Error> {
        Ok(Reader {
            connection: files.another()?,
            pages: Pages::default(),
            rewritten: files.rewritten(),
            seen: 0,
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
            "INSERT INTO lanes (room, channel, done, tried, since) VALUES (?1, ?2, ?3, ?3, ?3)
             ON CONFLICT DO NOTHING",
            params![id.room, id.channel, head],
        )?;
        // One that comes back after a long time has missed what was let go of meanwhile.
        let (done, tried, gone): (u64, u64, u64) = transaction.query_row(
            "SELECT done, tried, gone FROM lanes JOIN rooms ON rooms.id = room WHERE room = ?1 AND channel = ?2",
            params![id.room, id.channel],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )?;
        transaction.commit()?;
        if done < gone {
            tracing::warn!(%room, %channel, missed = gone - done, "the channel comes back after its room's old events were let go of");
        }
        let done = done.max(gone);
        let start = LaneStart {
            done,
            tried: tried.max(done),
            head,
            troubles: unless_damaged(channel, self.troubles(id))?,
            again: unless_damaged(channel, self.again(id))?,
            folded: unless_damaged(channel, self.folded(id, done))?,
        };
        Ok((id, start))
    }

    pub(crate) fn events(
        &mut self,
        room: i64,
        after: u64,
        head: u64,
    ) -> Result<Vec<Logged>, rusqlite::Error> {
        let rewritten = self.rewritten.load(Ordering::Acquire);
        if rewritten != std::mem::replace(&mut self.seen, rewritten) {
            self.pages = Pages::default();
        }
        self.pages.events(&self.connection, room, after, head)
    }

    pub(crate) fn event_at(
        &mut self,
        lane: LaneId,
        seq: u64,
    ) -> Result<Option<Logged>, rusqlite::Error> {
        event_at(&self.connection, place(lane.room, seq))
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
        for (_, (_, part, ids)) in parts_of(&self.connection, lane.channel, place)? {
            let known = done.entry(part).or_default();
            for id in ids {
                if !known.contains(&id) {
                    known.push(id);
                }
            }
        }
        Ok(Some(Plan { parts, done }))
    }

    pub(crate) fn changes(
        &mut self,
        lane: LaneId,
        targets: &RangeInclusive<u64>,
    ) -> Result<Vec<Change>, rusqlite::Error> {
        let mut query = self.connection.prepare_cached(
            "SELECT target, place, kind FROM changes WHERE target BETWEEN ?1 AND ?2 ORDER BY target, place",
        )?;
        let range = [
            place(lane.room, *targets.start()),
            place(lane.room, *targets.end()),
        ];
        let rows = query.query_map(range, |row| {
            Ok(Change {
                target_seq: seq_of(row.get(0)?),
                seq: seq_of(row.get(1)?),
                kind: match row.get(2)? {
                    1 => ChangeKind::Edit,
                    2 => ChangeKind::Redact,
                    _ => ChangeKind::React,
                },
            })
        })?;
        rows.collect()
    }

    pub(crate) fn standing(
        &mut self,
        lane: LaneId,
        event: EventId,
    ) -> Result<Standing, rusqlite::Error> {
        let found: Option<(i64, i64, String)> = self
            .connection
            .prepare_cached("SELECT place, channel, source_id FROM events WHERE id = ?1")?
            .query_row([event.to_bytes()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?;
        let Some((place, origin, source_id)) = found.filter(|found| room_of(found.0) == lane.room)
        else {
            return Ok(Standing::NeverShown);
        };
        if origin == lane.channel {
            return Ok(Standing::Origin(NativeId(source_id)));
        }
        let dropped: Option<bool> = self
            .connection
            .prepare_cached("SELECT dropped FROM dead WHERE channel = ?1 AND place = ?2")?
            .query_row([lane.channel, place], |row| row.get(0))
            .optional()?;
        match dropped {
            Some(true) => return Ok(Standing::NeverShown),
            Some(false) => return Ok(Standing::Dead),
            None => {}
        }
        let (done, since): (u64, u64) = self
            .connection
            .prepare_cached("SELECT done, since FROM lanes WHERE room = ?1 AND channel = ?2")?
            .query_row([lane.room, lane.channel], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        let ids = ids_of(parts_of(&self.connection, lane.channel, place)?);
        let seq = seq_of(place);
        Ok(if !ids.is_empty() {
            Standing::Shown(ids)
        } else if seq > done {
            Standing::Waiting
        } else if seq <= since {
            Standing::NeverShown
        } else {
            Standing::Shown(ids)
        })
    }

    pub(crate) fn is_taken_back(&mut self, event: EventId) -> Result<bool, rusqlite::Error> {
        self.connection
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM changes WHERE kind = 2
                 AND target = (SELECT place FROM events WHERE id = ?1))",
            )?
            .query_row([event.to_bytes()], |row| row.get(0))
    }

    pub(crate) fn native_ids(
        &mut self,
        channel: i64,
        event: EventId,
    ) -> Result<Vec<NativeId>, rusqlite::Error> {
        let found: Option<(i64, i64, String)> = self
            .connection
            .prepare_cached("SELECT place, channel, source_id FROM events WHERE id = ?1")?
            .query_row([event.to_bytes()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?;
        let Some((place, origin, source_id)) = found else {
            return Ok(Vec::new());
        };
        let mut ids = Vec::new();
        if origin == channel {
            ids.push(NativeId(source_id));
        }
        ids.extend(ids_of(parts_of(&self.connection, channel, place)?));
        Ok(ids)
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

    /// The first dead letters for which another attempt was asked.
    pub(crate) fn again(&mut self, lane: LaneId) -> Result<Vec<DeadLetter>, rusqlite::Error> {
        let mut query = self.connection.prepare_cached(
            "SELECT place, parked, reason, at FROM dead
             WHERE channel = ?1 AND place BETWEEN ?2 AND ?3 AND again AND NOT dropped ORDER BY place LIMIT ?4",
        )?;
        let [channel, first, last] = of_lane(lane);
        let rows = query.query_map(params![channel, first, last, AGAIN as i64], |row| {
            Ok(DeadLetter {
                seq: seq_of(row.get(0)?),
                parked: row.get(1)?,
                reason: row.get(2)?,
                at: Timestamp(row.get(3)?),
            })
        })?;
        rows.collect()
    }

    pub(crate) fn is_asked_again(
        &mut self,
        lane: LaneId,
        seq: u64,
    ) -> Result<bool, rusqlite::Error> {
        let asked: Option<bool> = self
            .connection
            .prepare_cached(
                "SELECT again AND NOT dropped FROM dead WHERE channel = ?1 AND place = ?2",
            )?
            .query_row([lane.channel, place(lane.room, seq)], |row| row.get(0))
            .optional()?;
        Ok(asked.unwrap_or(false))
    }

    fn troubles(&self, lane: LaneId) -> Result<Vec<Trouble>, rusqlite::Error> {
        let mut query = self.connection.prepare_cached(
            "SELECT place, attempts, deaths, doubt, why, at FROM troubles
             WHERE channel = ?1 AND place BETWEEN ?2 AND ?3 ORDER BY place",
        )?;
        let rows = query.query_map(of_lane(lane), trouble)?;
        rows.collect()
    }

    fn folded(&self, lane: LaneId, done: u64) -> Result<Vec<u64>, rusqlite::Error> {
        let mut query = self.connection.prepare_cached(
            "SELECT place FROM folded WHERE channel = ?1 AND place BETWEEN ?2 AND ?3 ORDER BY place",
        )?;
        let range = [
            lane.channel,
            place(lane.room, done + 1),
            place(lane.room + 1, 0) - 1,
        ];
        let rows = query.query_map(range, |row| row.get(0).map(seq_of))?;
        rows.collect()
    }
}

/// A lane goes on without what is known of single events; then everything that it may have handed over is in doubt.
fn unless_damaged<T>(
    channel: &Channel,
    rows: Result<Vec<T>, rusqlite::Error>,
) -> Result<Vec<T>, rusqlite::Error> {
    match rows {
        Err(error) if is_damage(&error) => {
            tracing::error!(%channel, %error, "the journal is damaged where it says what failed in the channel: what may have been tried there is looked for first");
            Ok(Vec::new())
        }
        rows => rows,
    }
}

/// A lane's part of a table by `(channel, place)`.
fn of_lane(lane: LaneId) -> [i64; 3] {
    [
        lane.channel,
        place(lane.room, 0),
        place(lane.room + 1, 0) - 1,
    ]
}

/// `place, attempts, deaths, doubt, why, at`
pub(super) fn trouble(row: &Row<'_>) -> Result<Trouble, rusqlite::Error> {
    Ok(Trouble {
        seq: seq_of(row.get(0)?),
        attempts: row.get(1)?,
        deaths: row.get(2)?,
        doubt: row.get(3)?,
        why: row.get(4)?,
        at: Timestamp(row.get(5)?),
    })
}

fn ids_of(parts: Vec<(Timestamp, Part)>) -> Vec<NativeId> {
    let mut ids = Vec::new();
    for id in parts.into_iter().flat_map(|(_, (_, _, ids))| ids) {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids
}
