//! What the writing thread knows without asking the disk. It changes only when a commit has ended well.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use comity_bridge::{Channel, Event, NetworkName, RoomAddress};
use rusqlite::{Connection, OptionalExtension};

use super::pages::is_damage;
use super::reader::head;
use super::{channel_names, room_names};
use crate::journal::LaneId;

#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) id: i64,
    pub(super) head: u64,
}

#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) rooms: HashMap<RoomAddress, Room>,
    pub(super) channels: HashMap<Channel, i64>,
    pub(super) waiting: Waiting,
    /// Lanes that have rows about single events beyond their place. The others have nothing to tidy when they move on.
    pub(super) untidy: HashSet<LaneId>,
}

/// Reports that wait for what they refer to.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    by_id: BTreeMap<i64, Held>,
    by_target: BTreeMap<(i64, String), BTreeSet<i64>>,
    by_network: HashMap<NetworkName, usize>,
    /// The highest number given: SQLite would give the number of one that is gone again.
    last: i64,
}

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) network: NetworkName,
    pub(super) channel: i64,
    pub(super) target: String,
    /// By the clock that nobody sets.
    pub(super) since: Instant,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(super) fn last(&self) -> i64 {
        self.last
    }

    pub(super) fn of(&self, network: &NetworkName) -> usize {
        self.by_network.get(network).copied().unwrap_or(0)
    }

    /// Those that name this, in the order in which they came.
    pub(super) fn naming(&self, channel: i64, native: &str) -> Vec<i64> {
        if self.is_empty() {
            return Vec::new();
        }
        let ids = self.by_target.get(&(channel, native.to_owned()));
        ids.into_iter().flatten().copied().collect()
    }

    pub(super) fn add(&mut self, id: i64, held: Held) {
        self.last = self.last.max(id);
        let target = (held.channel, held.target.clone());
        self.by_target.entry(target).or_default().insert(id);
        *self.by_network.entry(held.network.clone()).or_default() += 1;
        self.by_id.insert(id, held);
    }

    pub(super) fn remove(&mut self, id: i64) {
        let Some(held) = self.by_id.remove(&id) else {
            return;
        };
        let target = (held.channel, held.target);
        if let Some(ids) = self.by_target.get_mut(&target) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_target.remove(&target);
            }
        }
        if let Some(count) = self.by_network.get_mut(&held.network) {
            *count -= 1;
        }
    }

    /// Those that came before `limit`.
    pub(super) fn before(&self, limit: Instant) -> Vec<(i64, Held)> {
        let old = self.by_id.iter().filter(|(_, held)| held.since < limit);
        old.map(|(id, held)| (*id, held.clone())).collect()
    }
}

/// What one commit changes in [`Memory`], and whom it concerns.
#[derive(Debug, Default)]
pub(super) struct Delta {
    /// Seldom more than one.
    pub(super) rooms: BTreeMap<RoomAddress, Room>,
    pub(super) channels: HashMap<Channel, i64>,
    pub(super) events: BTreeMap<RoomAddress, Fresh>,
    pub(super) held: BTreeMap<i64, Held>,
    pub(super) released: Vec<i64>,
    pub(super) untidy: Vec<LaneId>,
    pub(super) tidy: Vec<LaneId>,
}

/// What a commit has added to one room.
#[derive(Debug, Default)]
pub(crate) struct Fresh {
    /// In order, each with how many bytes it takes.
    pub(crate) events: Vec<(Arc<Event>, usize)>,
    /// The last of them that changes an earlier one; 0 when none does.
    pub(crate) last_change: u64,
}

impl Memory {
    pub(super) fn load(connection: &Connection) -> Result<Memory, rusqlite::Error> {
        let mut memory = Memory::default();
        for (id, address) in room_names(connection)? {
            let head = head(connection, id)?;
            memory.rooms.insert(address, Room { id, head });
        }
        for (id, channel) in channel_names(connection)? {
            memory.channels.insert(channel, id);
        }
        let mut query =
            connection.prepare("SELECT id, network, channel, target FROM waiting ORDER BY id")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let Ok(network) = row.get::<_, String>(1)?.parse() else {
                continue;
            };
            let held = Held {
                network,
                channel: row.get(2)?,
                target: row.get(3)?,
                since: Instant::now(),
            };
            memory.waiting.add(row.get(0)?, held);
        }
        match untidy(connection) {
            Ok(lanes) => memory.untidy = lanes,
            // What cannot be read cannot be tidied either; the lanes say what they miss.
            Err(error) if is_damage(&error) => {
                tracing::error!(%error, "the journal is damaged where it says what is known of single events");
            }
            Err(error) => return Err(error),
        }
        Ok(memory)
    }

    /// Takes over what is durable now.
    pub(super) fn absorb(&mut self, delta: Delta) -> BTreeMap<RoomAddress, Fresh> {
        self.rooms.extend(delta.rooms);
        self.channels.extend(delta.channels);
        for (id, held) in delta.held {
            self.waiting.add(id, held);
        }
        for id in delta.released {
            self.waiting.remove(id);
        }
        self.untidy.extend(delta.untidy);
        for lane in delta.tidy {
            self.untidy.remove(&lane);
        }
        delta.events
    }

    /// True when something in the room changes something else in it.
    pub(super) fn has_changes(connection: &Connection, room: i64) -> Result<bool, rusqlite::Error> {
        let found: Result<Option<i64>, _> = connection
            .query_row(
                "SELECT 1 FROM changes WHERE target BETWEEN ?1 << 40 AND ((?1 + 1) << 40) - 1 LIMIT 1",
                [room],
                |row| row.get(0),
            )
            .optional();
        match found {
            Err(error) if is_damage(&error) => Ok(true),
            found => Ok(found?.is_some()),
        }
    }
}

/// Lanes that have rows about single events.
fn untidy(connection: &Connection) -> Result<HashSet<LaneId>, rusqlite::Error> {
    let mut query = connection.prepare(
        "SELECT DISTINCT place >> 40, channel FROM
            (SELECT place, channel FROM troubles UNION ALL SELECT place, channel FROM folded
             UNION ALL SELECT place, channel FROM plans)",
    )?;
    let rows = query.query_map([], |row| {
        Ok(LaneId {
            room: row.get(0)?,
            channel: row.get(1)?,
        })
    })?;
    rows.collect()
}
