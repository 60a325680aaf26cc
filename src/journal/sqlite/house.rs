//! What is done when there is nothing else to do: reports whose target never came are let go of, what was taken back is emptied, old events
//! go, and the file shrinks.

use std::time::{Duration, Instant};

use comity_bridge::NetworkName;
use rusqlite::{TransactionBehavior, params};

use super::pages::is_damage;
use super::store::Store;

/// How long a report may wait for what it refers to.
const PATIENCE: Duration = Duration::from_secs(60);

/// Free pages given back to the file system in one step.
const PAGES: u64 = 256;

/// One step of keeping house.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// For each report that was let go of, who had made it.
    pub(crate) expired: Vec<NetworkName>,
    /// How much was written.
    pub(crate) pages: u64,
    /// True when there is more to do.
    pub(crate) more: bool,
}

impl Store {
    /// Does a little.
    pub(crate) fn keep_house(&mut self) -> Result<Kept, rusqlite::Error> {
        let mut kept = Kept::default();
        if let Some(limit) = Instant::now().checked_sub(PATIENCE) {
            kept.expired = self.expire(limit)?;
            kept.pages += kept.expired.len() as u64;
        }
        let erased = match self.erase() {
            Err(error) if is_damage(&error) => {
                // Retention and the rest go on.
                if !std::mem::replace(&mut self.retention.erasure_fails, true) {
                    tracing::error!(%error, "what was taken back cannot be emptied: the journal is damaged there");
                }
                0
            }
            erased => erased?,
        };
        let (forgotten, more) = self.forget_old()?;
        let shrunk = if more { 0 } else { self.shrink()? };
        kept.pages += erased + forgotten + shrunk;
        kept.more = more || shrunk > 0;
        Ok(kept)
    }

    /// Gives free pages back, unless they are so few that new events soon need them.
    fn shrink(&self) -> Result<u64, rusqlite::Error> {
        let pragma = |name: &str| -> Result<u64, rusqlite::Error> {
            self.connection
                .pragma_query_value(None, name, |row| row.get(0))
        };
        let free = pragma("freelist_count")?;
        if free <= (pragma("page_count")? / 10).max(PAGES) {
            return Ok(0);
        }
        let mut query = self
            .connection
            .prepare(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
        let mut rows = query.query([])?;
        // One row a page.
        while rows.next()?.is_some() {}
        Ok(free - pragma("freelist_count")?)
    }

    /// Lets go of the reports that have waited since before `limit`. The same report may come again.
    pub(super) fn expire(&mut self, limit: Instant) -> Result<Vec<NetworkName>, rusqlite::Error> {
        let old = self.memory.waiting.before(limit);
        if old.is_empty() {
            return Ok(Vec::new());
        }
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (id, held) in &old {
            transaction
                .prepare_cached(
                    "DELETE FROM sources WHERE channel = ?1 AND source_id =
                         (SELECT draft ->> '$.source_id' FROM waiting WHERE id = ?2)",
                )?
                .execute(params![held.channel, id])?;
            transaction
                .prepare_cached("DELETE FROM waiting WHERE id = ?1")?
                .execute([id])?;
        }
        transaction.commit()?;
        let expired = old.into_iter().map(|(id, held)| {
            self.memory.waiting.remove(id);
            held.network
        });
        Ok(expired.collect())
    }
}
