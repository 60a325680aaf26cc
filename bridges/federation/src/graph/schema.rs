//! The tables, and how they came to be.

use rusqlite::Connection;

use crate::session::ShelfError;

/// One step for each version of the schema, in order; a step is never changed once it was released.
const STEPS: [&str; 3] = ["
    CREATE TABLE rooms (
        id TEXT PRIMARY KEY, alias TEXT NOT NULL UNIQUE, hosted INTEGER NOT NULL,
        stage INTEGER NOT NULL, horizon INTEGER NOT NULL
    ) STRICT;
    -- Our own keys and join, signed, until the answer to our join is here.
    CREATE TABLE entries (room TEXT NOT NULL, n INTEGER NOT NULL, bytes BLOB NOT NULL, PRIMARY KEY (room, n)) STRICT;
    CREATE TABLE events (
        arrival INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE, room TEXT NOT NULL, origin TEXT NOT NULL, seq INTEGER NOT NULL,
        depth INTEGER NOT NULL, hidden INTEGER NOT NULL, shown INTEGER NOT NULL, bytes BLOB NOT NULL
    ) STRICT;
    CREATE INDEX events_by_chain ON events (room, origin, seq);
    CREATE INDEX events_to_show ON events (arrival) WHERE shown = 1;
    CREATE TABLE parents (parent TEXT NOT NULL, child TEXT NOT NULL, PRIMARY KEY (parent, child)) STRICT, WITHOUT ROWID;
    CREATE TABLE heads (
        room TEXT NOT NULL, id TEXT NOT NULL, depth INTEGER NOT NULL, ms INTEGER NOT NULL, count INTEGER NOT NULL,
        PRIMARY KEY (room, id)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE members (
        room TEXT NOT NULL, user TEXT NOT NULL, seq INTEGER NOT NULL, id TEXT NOT NULL, joined INTEGER NOT NULL,
        server TEXT,
        PRIMARY KEY (room, user, seq)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX members_by_server ON members (room, server, seq) WHERE server IS NOT NULL;
    CREATE TABLE documents (
        room TEXT NOT NULL, origin TEXT NOT NULL, seq INTEGER NOT NULL, document BLOB NOT NULL,
        PRIMARY KEY (room, origin, seq)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE pending (
        id TEXT PRIMARY KEY, room TEXT NOT NULL, origin TEXT NOT NULL, pushed_by TEXT, since INTEGER NOT NULL,
        bytes BLOB NOT NULL
    ) STRICT;
    CREATE INDEX pending_by_room ON pending (room);
    CREATE TABLE queues (peer TEXT NOT NULL, arrival INTEGER NOT NULL, PRIMARY KEY (peer, arrival)) STRICT, WITHOUT ROWID;
    CREATE TABLE answers (
        peer TEXT NOT NULL, txn TEXT NOT NULL, n INTEGER NOT NULL, answer BLOB NOT NULL, arrival INTEGER NOT NULL,
        PRIMARY KEY (peer, txn)
    ) STRICT;
    CREATE TABLE deliveries (key TEXT PRIMARY KEY, id TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE pins (server TEXT PRIMARY KEY, document BLOB NOT NULL) STRICT;
    CREATE TABLE marks (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
", "
    -- When it was put there, in milliseconds: an event's own clock is whatever its origin says.
    ALTER TABLE queues ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
    UPDATE queues SET since = CAST(unixepoch('subsec') * 1000 AS INTEGER);
", "
    -- Origins whose keys in a room are not compared with their own yet; their messages have `shown` 2 until then.
    CREATE TABLE unproved (room TEXT NOT NULL, origin TEXT NOT NULL, PRIMARY KEY (room, origin)) STRICT, WITHOUT ROWID;
"];

/// Brings the database to the present schema; refuses one that a later version has written.
pub(super) fn prepare(connection: &mut Connection) -> Result<(), ShelfError> {
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    let found: usize = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > STEPS.len() {
        return Err(ShelfError::Database(format!(
            "its schema is version {found}, this program knows {}",
            STEPS.len()
        )));
    }
    for (index, step) in STEPS.iter().enumerate().skip(found) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", index + 1)?;
        transaction.commit()?;
    }
    Ok(())
}
