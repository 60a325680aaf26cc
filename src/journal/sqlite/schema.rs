//! The tables, and the steps from each format to the next.

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
"];

/// Brings the journal to the newest format.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), JournalError> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(JournalError::Newer { found, known });
    }
    for (format, step) in (1_i64..).zip(STEPS).filter(|(format, _)| *format > found) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", format)?;
        transaction.commit()?;
        tracing::info!(format, "the journal has a new format");
    }
    Ok(())
}
