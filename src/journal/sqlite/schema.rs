//! The tables, and the steps from each format to the next.

use comity_bridge::failpoint;
use rusqlite::{Connection, TransactionBehavior};

use crate::journal::JournalError;

/// One step each, in order; a journal of format n has had the first n. A step and its number commit together, so a kill between two leaves a
/// whole journal of the earlier format.
const STEPS: &[&str] = &["
    CREATE TABLE rooms (id INTEGER PRIMARY KEY, address TEXT NOT NULL UNIQUE);
    CREATE TABLE channels (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

    -- The rooms' logs. place = room << 40 | seq. json has everything; the other columns are for finding.
    CREATE TABLE events (
        place INTEGER PRIMARY KEY,
        id BLOB NOT NULL,
        channel INTEGER NOT NULL,
        source_id TEXT NOT NULL,
        json TEXT NOT NULL
    );
    CREATE UNIQUE INDEX events_by_source ON events (channel, source_id);
    CREATE UNIQUE INDEX events_by_id ON events (id);

    -- How far each lane has come. Between done and tried an event may have been handed over.
    CREATE TABLE lanes (
        room INTEGER NOT NULL,
        channel INTEGER NOT NULL,
        done INTEGER NOT NULL,
        tried INTEGER NOT NULL,
        PRIMARY KEY (room, channel)
    ) WITHOUT ROWID;

    -- What a network calls the parts of an event that it shows; native_id is '' where it has no name for them.
    CREATE TABLE parts (
        place INTEGER NOT NULL,
        channel INTEGER NOT NULL,
        part INTEGER NOT NULL,
        native_id TEXT NOT NULL,
        PRIMARY KEY (place, channel, part, native_id)
    ) WITHOUT ROWID;
    CREATE INDEX parts_by_native ON parts (channel, native_id) WHERE native_id <> '';

    -- How deliveries of several parts were split: a JSON list.
    CREATE TABLE plans (
        channel INTEGER NOT NULL,
        place INTEGER NOT NULL,
        parts TEXT NOT NULL,
        PRIMARY KEY (channel, place)
    ) WITHOUT ROWID;

    -- Deliveries given up.
    CREATE TABLE dead (
        channel INTEGER NOT NULL,
        place INTEGER NOT NULL,
        parked INTEGER NOT NULL,
        reason TEXT NOT NULL,
        at INTEGER NOT NULL,
        PRIMARY KEY (channel, place)
    ) WITHOUT ROWID;

    -- What bridges keep: their position, their own small facts.
    CREATE TABLE cursors (network TEXT PRIMARY KEY, cursor TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE facts (
        network TEXT NOT NULL,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (network, key)
    ) WITHOUT ROWID;
", "
    -- What each network calls what it reported: the same thing reported twice is one event, even when the event itself was let go
    -- of long ago. place is 0 while the report waits for what it refers to.
    CREATE TABLE sources (
        channel INTEGER NOT NULL,
        source_id TEXT NOT NULL,
        place INTEGER NOT NULL,
        id BLOB NOT NULL,
        PRIMARY KEY (channel, source_id)
    ) WITHOUT ROWID;
    INSERT INTO sources SELECT channel, source_id, place, id FROM events ORDER BY channel, source_id;
    DROP INDEX events_by_source;
    ALTER TABLE events ADD COLUMN committed INTEGER NOT NULL DEFAULT 0;

    -- What networks call what we have shown there, to find it by; and the same by event: one row for 64 places of the log
    -- and one write of a lane. block = place >> 6, parts = [[seq, part, [native ids]], ...].
    CREATE TABLE natives (
        channel INTEGER NOT NULL,
        native_id TEXT NOT NULL,
        place INTEGER NOT NULL,
        PRIMARY KEY (channel, native_id, place)
    ) WITHOUT ROWID;
    INSERT INTO natives
        SELECT DISTINCT channel, native_id, place FROM parts WHERE native_id <> '' ORDER BY 1, 2, 3;
    CREATE TABLE shown (
        channel INTEGER NOT NULL,
        block INTEGER NOT NULL,
        at INTEGER NOT NULL,
        parts TEXT NOT NULL,
        PRIMARY KEY (channel, block, at)
    ) WITHOUT ROWID;
    INSERT INTO shown
        SELECT channel, block, 0, json_group_array(json(entry)) FROM (
            SELECT channel, place >> 6 AS block, json_array(
                place & 0xffffffffff, part, json_group_array(native_id) FILTER (WHERE native_id <> '')
            ) AS entry FROM parts GROUP BY place, channel, part
        ) GROUP BY channel, block;
    DROP TABLE parts;

    -- since: the lane began behind this event.
    ALTER TABLE lanes ADD COLUMN since INTEGER NOT NULL DEFAULT 0;

    -- head: the last event that was ever in the room. gone: events up to here may have been let go of.
    ALTER TABLE rooms ADD COLUMN head INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE rooms ADD COLUMN gone INTEGER NOT NULL DEFAULT 0;

    -- again: another attempt was asked for. dropped: of no interest any more, but never shown.
    ALTER TABLE dead ADD COLUMN again INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE dead ADD COLUMN dropped INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX dead_by_place ON dead (place);

    -- Edits (1), redactions (2) and reactions (3), by what they change.
    CREATE TABLE changes (
        target INTEGER NOT NULL,
        place INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        PRIMARY KEY (target, place)
    ) WITHOUT ROWID;

    -- Redactions whose target is still to be emptied, once every lane is past them.
    CREATE TABLE redactions (place INTEGER PRIMARY KEY, target INTEGER NOT NULL);

    -- Deliveries that failed and will be tried again.
    CREATE TABLE troubles (
        channel INTEGER NOT NULL,
        place INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        deaths INTEGER NOT NULL,
        doubt INTEGER NOT NULL,
        why TEXT NOT NULL,
        at INTEGER NOT NULL,
        PRIMARY KEY (channel, place)
    ) WITHOUT ROWID;

    -- Changes that a lane has shown within the message that they change.
    CREATE TABLE folded (
        channel INTEGER NOT NULL,
        place INTEGER NOT NULL,
        PRIMARY KEY (channel, place)
    ) WITHOUT ROWID;

    -- Reports whose target is not in the journal yet. target: what their network calls it.
    CREATE TABLE waiting (
        id INTEGER PRIMARY KEY,
        network TEXT NOT NULL,
        channel INTEGER NOT NULL,
        target TEXT NOT NULL,
        draft TEXT NOT NULL
    );

    -- The journal's own clock, and how far each room was at some moments of it.
    CREATE TABLE age (one INTEGER PRIMARY KEY CHECK (one = 1), now INTEGER NOT NULL);
    CREATE TABLE marks (
        room INTEGER NOT NULL,
        at INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        PRIMARY KEY (room, at)
    ) WITHOUT ROWID;
"];

/// Looks whether this version can read it, and changes nothing.
pub(super) fn refuse_newer(connection: &Connection) -> Result<(), JournalError> {
    let found = format(connection)?;
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(JournalError::Newer { found, known });
    }
    Ok(())
}

fn format(connection: &Connection) -> Result<i64, rusqlite::Error> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Brings the journal to the newest format.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), JournalError> {
    let found = format(connection)?;
    if found == 1 {
        make_shrinkable(connection);
    }
    for (format, step) in (1_i64..).zip(STEPS).filter(|(format, _)| *format > found) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(step)?;
        failpoint::reached("journal.migrating");
        transaction.pragma_update(None, "user_version", format)?;
        transaction.commit()?;
        tracing::info!(format, "the journal has a new format");
    }
    Ok(())
}

/// Journals of format 1 could not give pages back to the file system. Where there is no space for a second copy, they never will, and work all the same:
/// free pages are used again. A kill leaves the file as it was before or as it is to be.
fn make_shrinkable(connection: &Connection) {
    let mode: Result<i64, _> = connection.pragma_query_value(None, "auto_vacuum", |row| row.get(0));
    if mode == Ok(2) {
        return;
    }
    let rewritten = connection
        .pragma_update(None, "auto_vacuum", "INCREMENTAL")
        .and_then(|()| connection.execute_batch("VACUUM"));
    if let Err(error) = rewritten {
        tracing::warn!(%error, "the journal's file cannot be made to shrink when events are let go of");
    }
    failpoint::reached("journal.migrating");
}

/// A journal as the first version made it.
#[cfg(test)]
pub(crate) fn make_format_1(connection: &Connection) {
    connection.execute_batch(STEPS[0]).expect("step 1");
    connection
        .pragma_update(None, "user_version", 1)
        .expect("the format");
}
