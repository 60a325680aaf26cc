//! Lets go of old events, never of what a lane, a dead letter or a change that is still under way needs.
//!
//! How old an event is, is not read off it: a network or a clock that was wrong may have said anything. From time to time the journal marks how far each
//! room is, by a clock of its own ([`Age`](super::age::Age)); what lies before a mark that is old enough is old.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use comity_bridge::{Channel, RoomAddress};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::age::Age;
use super::memory::Room;
use super::pages::is_damage;
use super::reader::Part;
use super::store::Store;
use super::{BLOCK_BITS, block_of, channel_names, place, seq_of};

/// Events let go of in one step.
const STEP: u64 = 512;

/// The clock is written down when it has gone on by this much. Milliseconds.
const UNSAID: i64 = 60_000;

/// How often to look.
const ROUND: Duration = Duration::from_secs(10);

/// Marks in the time for which events are kept: so much of it is the error of an event's age.
const MARKS: i64 = 100;

/// What retention knows between two steps.
#[derive(Debug)]
pub(super) struct Retention {
    keep: Option<i64>,
    /// The configuration's rooms and channels: what others have not finished with holds nothing up.
    rooms: Vec<(RoomAddress, Vec<Channel>)>,
    age: Age,
    written: i64,
    looked: Instant,
    /// The last look has left something to do.
    more: bool,
    /// Rooms that nothing can be let go of in, since the file is damaged there.
    damaged: HashSet<i64>,
    /// It was said that what was taken back cannot be emptied.
    pub(super) erasure_fails: bool,
}

impl Retention {
    pub(super) fn load(
        connection: &Connection,
        keep: Option<Duration>,
        rooms: &[(RoomAddress, Vec<Channel>)],
        wall: i64,
    ) -> Result<Self, rusqlite::Error> {
        connection.execute(
            "INSERT INTO age VALUES (1, ?1) ON CONFLICT DO NOTHING",
            [wall],
        )?;
        let now = connection.query_row("SELECT now FROM age", [], |row| row.get(0))?;
        Ok(Retention {
            keep: keep.map(|keep| i64::try_from(keep.as_millis()).unwrap_or(i64::MAX)),
            rooms: rooms.to_vec(),
            age: Age(now),
            written: now,
            looked: Instant::now(),
            more: false,
            damaged: HashSet::new(),
            erasure_fails: false,
        })
    }
}

/// How far the lanes of one room are.
#[derive(Clone, Copy, Debug)]
struct Progress {
    room: i64,
    head: u64,
    gone: u64,
    /// Every lane of the configuration has finished with everything up to here.
    finished: u64,
}

impl Store {
    /// Every lane of the configuration has finished with everything in the room up to this place.
    pub(super) fn finished(&self, room: i64) -> Result<u64, rusqlite::Error> {
        let known = self.memory.rooms.iter().find(|(_, known)| known.id == room);
        let head = known.map_or(0, |(_, known)| known.head);
        let configured = known.and_then(|(address, _)| {
            let rooms = &self.retention.rooms;
            rooms.iter().find(|(known, _)| known == address)
        });
        let mut query = self.connection.prepare_cached(
            "SELECT name, done FROM lanes JOIN channels ON channels.id = channel WHERE room = ?1",
        )?;
        let mut rows = query.query([room])?;
        let mut finished = head;
        while let Some(row) = rows.next()? {
            let name: String = row.get(0)?;
            let counts = configured
                .is_some_and(|(_, channels)| channels.iter().any(|c| c.to_string() == name));
            if counts {
                finished = finished.min(row.get(1)?);
            }
        }
        Ok(finished)
    }

    /// Lets go of a few events; says how much was written, and whether there are more.
    pub(super) fn forget_old(&mut self) -> Result<(u64, bool), rusqlite::Error> {
        let elapsed = self.retention.looked.elapsed();
        if elapsed < ROUND && !self.retention.more {
            return Ok((0, false));
        }
        self.retention.looked = Instant::now();
        let done = self.forget_after(elapsed)?;
        self.retention.more = done.1;
        Ok(done)
    }

    /// The same, when so much time has passed since the last look.
    pub(super) fn forget_after(
        &mut self,
        elapsed: Duration,
    ) -> Result<(u64, bool), rusqlite::Error> {
        let wall = self.clock.now().0;
        let elapsed = i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX);
        self.retention.age.advance(wall, elapsed);
        let now = self.retention.age.0;
        let marks = match self.retention.keep {
            Some(keep) => self.rooms_to_mark(now, keep)?,
            None => Vec::new(),
        };
        let mut written = 0;
        if !marks.is_empty() || now - self.retention.written >= UNSAID {
            let transaction = self
                .connection
                .transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute("UPDATE age SET now = ?1", [now])?;
            for (room, head) in marks {
                transaction.execute(
                    "INSERT OR REPLACE INTO marks VALUES (?1, ?2, ?3)",
                    params![room, now, head],
                )?;
            }
            transaction.commit()?;
            self.retention.written = now;
            written = 1;
        }
        let Some(keep) = self.retention.keep else {
            return Ok((written, false));
        };
        let rooms: Vec<_> = self.memory.rooms.values().copied().collect();
        for room in rooms {
            if self.retention.damaged.contains(&room.id) {
                continue;
            }
            match self.forget_in(room, now.saturating_sub(keep), written > 0) {
                Ok(0) => {}
                Ok(forgotten) => return Ok((written + forgotten, true)),
                // It is that room's alone.
                Err(error) if is_damage(&error) => {
                    tracing::error!(room = room.id, %error, "the journal is damaged where a room's old events are: they are kept");
                    self.retention.damaged.insert(room.id);
                }
                Err(error) => return Err(error),
            }
        }
        Ok((written, false))
    }

    /// Lets go of a few things in one room that were there before `limit`.
    fn forget_in(&mut self, room: Room, limit: i64, letters: bool) -> Result<u64, rusqlite::Error> {
        let gone = self
            .connection
            .prepare_cached("SELECT gone FROM rooms WHERE id = ?1")?
            .query_row([room.id], |row| row.get(0))?;
        // Their events are gone but for theirs; a minute more or less does not matter.
        if letters {
            let forgotten = self.forget_letters(room.id, gone, limit)?;
            if forgotten > 0 {
                return Ok(forgotten);
            }
        }
        let old: Option<u64> = self
            .connection
            .prepare_cached("SELECT max(seq) FROM marks WHERE room = ?1 AND at <= ?2")?
            .query_row([room.id, limit], |row| row.get(0))?;
        let Some(old) = old else { return Ok(0) };
        let progress = Progress {
            room: room.id,
            head: room.head,
            gone,
            finished: self.finished(room.id)?,
        };
        self.forget(progress, old)
    }

    /// Lets go of dead letters that were given up before `limit` and whose events would have been let go of, a step of it.
    fn forget_letters(&mut self, room: i64, gone: u64, limit: i64) -> Result<u64, rusqlite::Error> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let range = [place(room, 0), place(room, gone)];
        let letters = transaction
            .prepare_cached(
                "UPDATE dead SET dropped = 1 WHERE (channel, place) IN
                     (SELECT channel, place FROM dead
                      WHERE place BETWEEN ?1 AND ?2 AND at <= ?3 AND NOT again AND NOT dropped LIMIT ?4)",
            )?
            .execute(params![range[0], range[1], limit, STEP])?;
        if letters == 0 {
            return Ok(0);
        }
        let_go(&transaction, room, gone)?;
        transaction.commit()?;
        self.rewritten.fetch_add(1, Ordering::Release);
        tracing::info!(room, letters, "old dead letters were let go of");
        Ok(u64::try_from(letters).unwrap_or(0))
    }

    fn rooms_to_mark(&self, now: i64, keep: i64) -> Result<Vec<(i64, u64)>, rusqlite::Error> {
        let interval = (keep / MARKS).clamp(1, 3_600_000);
        let mut marks = Vec::new();
        for room in self.memory.rooms.values() {
            let last: Option<(i64, u64)> = self
                .connection
                .prepare_cached(
                    "SELECT at, seq FROM marks WHERE room = ?1 ORDER BY at DESC LIMIT 1",
                )?
                .query_row([room.id], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let (at, seq) = last.unwrap_or((i64::MIN / 2, 0));
            if room.head > seq && now - at >= interval {
                marks.push((room.id, room.head));
            }
        }
        Ok(marks)
    }

    /// Lets go of what lies up to `old`, a step of it.
    fn forget(&mut self, progress: Progress, old: u64) -> Result<u64, rusqlite::Error> {
        let Progress {
            room,
            head,
            gone,
            finished,
        } = progress;
        let whole_blocks = |seq: u64| (seq + 1) >> BLOCK_BITS << BLOCK_BITS;
        let end = old.min(finished).min(gone + STEP);
        // All of it, where nothing is younger; a quiet room has no next block for a long time.
        let end = if end == head {
            head + 1
        } else {
            whole_blocks(end)
        };
        let Some(mut upto) = end.checked_sub(1).filter(|upto| *upto > gone) else {
            return Ok(0);
        };
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        // An edit that a lane has not shown yet needs to know what its message is called there.
        let needed: Option<i64> = transaction
            .prepare_cached(
                "SELECT min(target) FROM changes WHERE target BETWEEN ?1 AND ?2 AND place > ?3",
            )?
            .query_row(
                [place(room, 0), place(room, upto), place(room, finished)],
                |row| row.get(0),
            )?;
        if let Some(needed) = needed {
            match whole_blocks(seq_of(needed).saturating_sub(1)).checked_sub(1) {
                Some(before) if before > gone => upto = before,
                _ => return Ok(0),
            }
        }
        let forgotten = let_go(&transaction, room, upto)?;
        transaction
            .prepare_cached("DELETE FROM marks WHERE room = ?1 AND seq <= ?2")?
            .execute(params![room, upto])?;
        transaction
            .prepare_cached("UPDATE rooms SET gone = ?2, head = ?3 WHERE id = ?1")?
            .execute(params![room, upto, head])?;
        transaction.commit()?;
        self.rewritten.fetch_add(1, Ordering::Release);
        tracing::debug!(room, upto, forgotten, "old events were let go of");
        Ok(u64::try_from(forgotten).unwrap_or(0).max(1))
    }
}

/// Everything up to a place but dead letters; how many events that were.
fn let_go(connection: &Connection, room: i64, upto: u64) -> Result<usize, rusqlite::Error> {
    let range = [place(room, 0), place(room, upto)];
    let held = held(connection, range)?;
    for (channel, _) in channel_names(connection)? {
        forget_names(connection, channel, range, &held)?;
    }
    let forgotten = connection
            .prepare_cached(
                "DELETE FROM events WHERE place BETWEEN ?1 AND ?2
                     AND place NOT IN (SELECT place FROM dead WHERE place BETWEEN ?1 AND ?2 AND NOT dropped)",
            )?
            .execute(range)?;
    for statement in [
        "DELETE FROM changes WHERE target BETWEEN ?1 AND ?2",
        "DELETE FROM redactions WHERE place BETWEEN ?1 AND ?2",
        "DELETE FROM dead WHERE place BETWEEN ?1 AND ?2 AND dropped",
    ] {
        connection.prepare_cached(statement)?.execute(range)?;
    }
    Ok(forgotten)
}

/// Places of dead letters, by channel: what is written about them stays.
fn held(connection: &Connection, range: [i64; 2]) -> Result<BTreeSet<(i64, i64)>, rusqlite::Error> {
    let mut query = connection.prepare_cached(
        "SELECT channel, place FROM dead WHERE place BETWEEN ?1 AND ?2 AND NOT dropped",
    )?;
    let rows = query.query_map(range, |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// Forgets what one channel calls the events of this range, and how they were split.
fn forget_names(
    connection: &Connection,
    channel: i64,
    range: [i64; 2],
    held: &BTreeSet<(i64, i64)>,
) -> Result<(), rusqlite::Error> {
    let blocks = [block_of(range[0]), block_of(range[1])];
    let mut query = connection.prepare_cached(
        "SELECT block, at, parts FROM shown WHERE channel = ?1 AND block BETWEEN ?2 AND ?3",
    )?;
    let mut rows = query.query([channel, blocks[0], blocks[1]])?;
    let mut old = Vec::new();
    while let Some(row) = rows.next()? {
        let block: i64 = row.get(0)?;
        let first = block << BLOCK_BITS;
        let last = first + (1 << BLOCK_BITS) - 1;
        if held
            .range((channel, first)..=(channel, last))
            .next()
            .is_some()
        {
            continue;
        }
        old.push((block, row.get::<_, i64>(1)?, row.get::<_, String>(2)?));
    }
    for (block, at, parts) in old {
        // What cannot be read leaves names behind that lead nowhere.
        for (seq, _, ids) in serde_json::from_str::<Vec<Part>>(&parts).unwrap_or_default() {
            let place = place(super::room_of(range[0]), seq);
            for id in ids {
                connection
                    .prepare_cached(
                        "DELETE FROM natives WHERE channel = ?1 AND native_id = ?2 AND place = ?3",
                    )?
                    .execute(params![channel, id.0, place])?;
            }
        }
        connection
            .prepare_cached("DELETE FROM shown WHERE channel = ?1 AND block = ?2 AND at = ?3")?
            .execute([channel, block, at])?;
    }
    connection
        .prepare_cached(
            "DELETE FROM plans WHERE channel = ?1 AND place BETWEEN ?2 AND ?3 AND NOT EXISTS
                 (SELECT 1 FROM dead WHERE dead.channel = ?1 AND dead.place = plans.place AND NOT dropped)",
        )?
        .execute([channel, range[0], range[1]])?;
    Ok(())
}
