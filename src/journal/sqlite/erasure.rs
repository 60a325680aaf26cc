//! Empties what was taken back, once every lane is past the redaction: until then a lane may still have to show it, or to know that it need not.

use std::sync::atomic::Ordering;

use comity_bridge::{Content, Event, Text};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::place;
use super::store::Store;

/// Redactions carried out in one room in one step.
const STEP: i64 = 64;

/// The key in `ext` that says why an event is empty.
const REDACTED: &str = "redacted";

impl Store {
    /// Empties a few events; says how many redactions were carried out.
    pub(super) fn erase(&mut self) -> Result<u64, rusqlite::Error> {
        let some: bool = self
            .connection
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM redactions)")?
            .query_row([], |row| row.get(0))?;
        if !some {
            return Ok(0);
        }
        let mut ready: Vec<(i64, i64)> = Vec::new();
        for room in self.memory.rooms.values() {
            let mut query = self.connection.prepare_cached(
                "SELECT place, target FROM redactions WHERE place BETWEEN ?1 AND ?2 ORDER BY place LIMIT ?3",
            )?;
            let range = [
                place(room.id, 0),
                place(room.id, self.finished(room.id)?),
                STEP,
            ];
            let mut rows = query.query(range)?;
            while let Some(row) = rows.next()? {
                ready.push((row.get(0)?, row.get(1)?));
            }
        }
        if ready.is_empty() {
            return Ok(0);
        }
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (place, target) in &ready {
            let mut edits = transaction
                .prepare_cached("SELECT place FROM changes WHERE target = ?1 AND kind = 1")?;
            let places: Vec<i64> = edits
                .query_map([target], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            for place in places.iter().chain([target]) {
                empty(&transaction, *place)?;
            }
            transaction
                .prepare_cached("DELETE FROM redactions WHERE place = ?1")?
                .execute([place])?;
        }
        transaction.commit()?;
        self.rewritten.fetch_add(1, Ordering::Release);
        Ok(ready.len() as u64)
    }
}

fn empty(connection: &Connection, place: i64) -> Result<(), rusqlite::Error> {
    let json: Option<String> = connection
        .prepare_cached("SELECT json FROM events WHERE place = ?1")?
        .query_row([place], |row| row.get(0))
        .optional()?;
    // A row that nobody can read has nothing to hide.
    let Some(mut event) = json.and_then(|json| serde_json::from_str::<Event>(&json).ok()) else {
        return Ok(());
    };
    match &mut event.content {
        Content::Message(message) => {
            message.text = Text::default();
            message.attachments.clear();
            message.unknown.clear();
        }
        Content::Edit(edit) => {
            edit.text = Text::default();
            edit.unknown.clear();
        }
        _ => return Ok(()),
    }
    event.ext.insert(REDACTED.to_owned(), true.into());
    let json = serde_json::to_string(&event)
        .map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
    connection
        .prepare_cached("UPDATE events SET json = ?2 WHERE place = ?1")?
        .execute(params![place, json])?;
    Ok(())
}
