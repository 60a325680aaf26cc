//! What only SQLite can do: files, schema, the commit, reading, checkpoints.

mod checkpoints;
mod files;
mod reader;
mod schema;
mod store;

pub(super) use checkpoints::checkpoints;
pub(super) use files::Files;
pub(super) use reader::Reader;
pub(super) use store::Store;

/// Where an event is: the room's number and `seq` in one integer, so that a room's log is one range of the table.
fn place(room: i64, seq: u64) -> i64 {
    (room << SEQ_BITS) | i64::try_from(seq).unwrap_or(i64::MAX)
}

/// The `seq` in a place.
fn seq_of(place: i64) -> u64 {
    u64::try_from(place & ((1 << SEQ_BITS) - 1)).unwrap_or(0)
}

/// A million events a second for twelve days, or ten a second for three thousand years.
const SEQ_BITS: u32 = 40;
