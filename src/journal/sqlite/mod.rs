//! What only SQLite can do: files, schema, the commit, reading, checkpoints.

mod age;
mod checkpoints;
mod erasure;
mod files;
mod group;
mod house;
mod lanes;
mod memory;
mod pages;
mod people;
mod reader;
mod retention;
mod schema;
mod store;
mod waits;

use comity_bridge::{Channel, RoomAddress};
use rusqlite::Connection;

pub(super) use checkpoints::{Log, checkpoints};
pub(super) use files::Files;
pub(super) use pages::is_damage;
pub(super) use people::{DeadAsk, DeadLetters};
pub(super) use reader::Reader;
#[cfg(test)]
pub(super) use schema::make_format_1;
pub(super) use store::{Committed, Fresh, Store};

/// Where an event is: the room's number and `seq` in one integer, so that a room's log is one range of the table.
fn place(room: i64, seq: u64) -> i64 {
    (room << SEQ_BITS) | i64::try_from(seq).unwrap_or(i64::MAX)
}

/// The `seq` in a place.
fn seq_of(place: i64) -> u64 {
    u64::try_from(place & ((1 << SEQ_BITS) - 1)).unwrap_or(0)
}

/// The room's number in a place.
fn room_of(place: i64) -> i64 {
    place >> SEQ_BITS
}

/// The block that a place is in: what one row of `shown` is about.
fn block_of(place: i64) -> i64 {
    place >> BLOCK_BITS
}

/// A million events a second for twelve days, or ten a second for three thousand years.
const SEQ_BITS: u32 = 40;

/// 64 places.
const BLOCK_BITS: u32 = 6;

/// The number of a room or channel, given at its first appearance.
fn numbered(
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

/// The rooms that ever were, by number.
fn room_names(connection: &Connection) -> Result<Vec<(i64, RoomAddress)>, rusqlite::Error> {
    let mut query = connection.prepare_cached("SELECT id, address FROM rooms")?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
    let named = rows.filter_map(|row| {
        row.map(|(id, name)| name.parse().ok().map(|name| (id, name)))
            .transpose()
    });
    named.collect()
}

/// The channels that ever were, by number.
fn channel_names(connection: &Connection) -> Result<Vec<(i64, Channel)>, rusqlite::Error> {
    let mut query = connection.prepare_cached("SELECT id, name FROM channels")?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
    let named = rows.filter_map(|row| {
        row.map(|(id, name)| name.parse().ok().map(|name| (id, name)))
            .transpose()
    });
    named.collect()
}
