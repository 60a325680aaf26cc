//! What is done when there is nothing else to do: reports whose target never came are let go of.

use std::time::{Duration, Instant};

use comity_bridge::NetworkName;
use rusqlite::{TransactionBehavior, params};

use super::store::Store;

/// How long a report may wait for what it refers to.
const PATIENCE: Duration = Duration::from_secs(60);

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
        Ok(kept)
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
