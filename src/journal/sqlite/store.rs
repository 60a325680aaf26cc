//! The commit: events, cursors, facts and lane progress in one transaction.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use comity_bridge::{Channel, Clock, RoomAddress, Verdict, failpoint};
use rusqlite::{Connection, TransactionBehavior};

use super::Files;
use super::group::Group;
use super::memory::Memory;
use super::people::DeadAsk;
use super::retention::Retention;
use super::schema::migrate;
use crate::config::JournalConfig;
use crate::journal::report::Prepared;
use crate::journal::{JournalError, LaneId, LaneWrite};

pub(crate) use super::memory::Fresh;

/// The one that writes.
pub(crate) struct Store {
    pub(super) connection: Connection,
    pub(super) memory: Memory,
    pub(super) retention: Retention,
    /// See [`Files::rewritten`].
    pub(super) rewritten: Arc<AtomicU64>,
    pub(super) clock: Clock,
}

/// What a commit has made durable.
pub(crate) struct Committed {
    /// For each report, one verdict an entry.
    pub(crate) verdicts: Vec<Vec<Verdict>>,
    /// New events by room.
    pub(crate) fresh: BTreeMap<RoomAddress, Fresh>,
    /// For each question of people, the lanes of the letters that it concerns.
    pub(crate) dead: Vec<Vec<LaneId>>,
}

impl Store {
    pub(crate) fn open(
        files: &Files,
        rooms: &[(RoomAddress, Vec<Channel>)],
        config: &JournalConfig,
    ) -> Result<Store, JournalError> {
        let path: PathBuf = files.database().to_owned();
        let open = || -> Result<Store, JournalError> {
            let mut connection = files.writer()?;
            migrate(&mut connection)?;
            let clock = Clock::System;
            let wall = clock.now().0;
            Ok(Store {
                retention: Retention::load(&connection, config.keep, rooms, wall)?,
                memory: Memory::load(&connection)?,
                connection,
                clock,
                rewritten: files.rewritten(),
            })
        };
        open().map_err(|error| error.at(&path))
    }

    /// The `seq` of a room's last event, and of the last one that may change another; 0 when there is none.
    pub(crate) fn head(&self, room: &RoomAddress) -> Result<(u64, u64), rusqlite::Error> {
        let Some(room) = self.memory.rooms.get(room) else {
            return Ok((0, 0));
        };
        let changes = Memory::has_changes(&self.connection, room.id)?;
        Ok((room.head, if changes { room.head } else { 0 }))
    }

    /// Commits all of it or nothing. What is in memory changes only when the disk has it. `late` adds what lanes have asked for meanwhile;
    /// `early` sees the verdicts just before the commit.
    pub(crate) fn commit<'a, D>(
        &mut self,
        appends: impl Iterator<Item = &'a mut Prepared>,
        lanes: &mut Vec<(LaneId, LaneWrite, D)>,
        asks: impl Iterator<Item = &'a DeadAsk>,
        mut late: impl FnMut(&mut Vec<(LaneId, LaneWrite, D)>),
        early: impl FnOnce(&[Vec<Verdict>]),
    ) -> Result<Committed, rusqlite::Error> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut group = Group::new(&transaction, &self.memory, self.clock.now())?;
        let dead = asks
            .map(|ask| group.dead(ask))
            .collect::<Result<_, rusqlite::Error>>()?;
        let mut verdicts = Vec::new();
        for append in appends {
            verdicts.push(group.append(append)?);
        }
        let mut written = 0;
        loop {
            for (lane, write, _) in lanes.iter().skip(written) {
                group.lane(*lane, write)?;
            }
            written = lanes.len();
            late(lanes);
            // Each lane has one at the most, so this ends.
            if lanes.len() == written {
                break;
            }
        }
        let delta = group.finish();
        if !verdicts.is_empty() {
            failpoint::reached("journal.inserted");
        }
        early(&verdicts);
        transaction.commit()?;
        if !verdicts.is_empty() {
            failpoint::reached("journal.committed");
        }
        if written > 0 {
            failpoint::reached("journal.lane_committed");
        }
        Ok(Committed {
            verdicts,
            fresh: self.memory.absorb(delta),
            dead,
        })
    }
}

/// What tests of the journal need to reach.
#[cfg(test)]
impl Store {
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// True when the lane's next write has nothing to look for.
    pub(crate) fn is_tidy(&self, lane: LaneId) -> bool {
        !self.memory.untidy.contains(&lane)
    }

    pub(crate) fn set_clock(&mut self, clock: Clock) {
        self.clock = clock;
    }

    /// So much time has passed; everything that is old enough is let go of.
    pub(crate) fn pass(&mut self, elapsed: std::time::Duration) {
        let mut elapsed = elapsed;
        while self
            .forget_after(elapsed)
            .expect("the file can be written")
            .1
        {
            elapsed = std::time::Duration::ZERO;
        }
        self.erase().expect("the file can be written");
        while self.keep_house().expect("the file can be written").more {}
    }

    /// A minute has passed for whatever waits.
    pub(crate) fn lose_patience(&mut self) -> usize {
        let later = std::time::Instant::now() + std::time::Duration::from_secs(1);
        self.expire(later).expect("the file can be written").len()
    }
}
