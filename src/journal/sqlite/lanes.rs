//! What lanes have committed: their place, what networks call what they showed, what failed.

use comity_bridge::{NativeId, failpoint};
use rusqlite::params;

use super::group::Group;
use super::{block_of, place};
use crate::journal::{LaneId, LaneWrite};

impl Group<'_> {
    pub(super) fn lane(&mut self, lane: LaneId, write: &LaneWrite) -> Result<(), rusqlite::Error> {
        let at = |seq: u64| place(lane.room, seq);
        self.transaction
            .prepare_cached(
                "INSERT INTO lanes (room, channel, done, tried) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET done = ?3, tried = ?4",
            )?
            .execute(params![lane.room, lane.channel, write.done, write.tried])?;
        self.shown(lane.channel, &write.parts, lane.room)?;
        for (seq, parts) in &write.plans {
            let json = serde_json::to_string(parts)
                .map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
            self.transaction
                .prepare_cached(
                    "INSERT INTO plans VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET parts = ?3",
                )?
                .execute(params![lane.channel, at(*seq), json])?;
        }
        for trouble in &write.troubles {
            self.transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO troubles VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![
                    lane.channel,
                    at(trouble.seq),
                    trouble.attempts,
                    trouble.deaths,
                    trouble.doubt,
                    trouble.why,
                    trouble.at.0
                ])?;
        }
        for seq in &write.folded {
            self.transaction
                .prepare_cached("INSERT OR IGNORE INTO folded VALUES (?1, ?2)")?
                .execute(params![lane.channel, at(*seq)])?;
        }
        for seq in &write.revived {
            self.forget(lane, *seq, "dead")?;
            self.forget(lane, *seq, "plans")?;
        }
        for letter in &write.dead {
            // A letter that was dropped meanwhile, since its event was taken back, stays dropped.
            self.transaction
                .prepare_cached(
                    "INSERT INTO dead (channel, place, parked, reason, at) VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT DO UPDATE SET parked = ?3, reason = ?4, at = ?5, again = 0",
                )?
                .execute(params![
                    lane.channel,
                    at(letter.seq),
                    letter.parked,
                    letter.reason,
                    letter.at.0
                ])?;
            failpoint::reached("journal.burying");
            self.forget(lane, letter.seq, "troubles")?;
        }
        for notice in &write.notices {
            let network = notice.channel.network().clone();
            self.draft(&network, notice)?;
        }
        self.tidy(lane, write)
    }

    fn forget(&self, lane: LaneId, seq: u64, table: &str) -> Result<(), rusqlite::Error> {
        self.transaction
            .prepare_cached(&format!(
                "DELETE FROM {table} WHERE channel = ?1 AND place = ?2"
            ))?
            .execute(params![lane.channel, place(lane.room, seq)])?;
        Ok(())
    }

    /// Rows about single events go when the lane has passed them.
    fn tidy(&mut self, lane: LaneId, write: &LaneWrite) -> Result<(), rusqlite::Error> {
        let adds =
            !(write.plans.is_empty() && write.troubles.is_empty() && write.folded.is_empty());
        let untidy =
            adds || self.delta.untidy.contains(&lane) || self.memory.untidy.contains(&lane);
        if !untidy {
            return Ok(());
        }
        let range = [place(lane.room, 0), place(lane.room, write.done)];
        // What stays below, the plans of dead letters, is not looked through again by every write.
        let beyond = [range[1] + 1, place(lane.room + 1, 0) - 1];
        let mut left = false;
        for table in ["troubles", "folded", "plans"] {
            // The plan of a dead letter is needed when it is tried again.
            let dead = if table == "plans" {
                "AND NOT EXISTS (SELECT 1 FROM dead WHERE dead.channel = ?1 AND dead.place = plans.place AND NOT dropped)"
            } else {
                ""
            };
            self.transaction
                .prepare_cached(&format!(
                    "DELETE FROM {table} WHERE channel = ?1 AND place BETWEEN ?2 AND ?3 {dead}"
                ))?
                .execute(params![lane.channel, range[0], range[1]])?;
            left |= self
                .transaction
                .prepare_cached(&format!(
                    "SELECT EXISTS (SELECT 1 FROM {table} WHERE channel = ?1 AND place BETWEEN ?2 AND ?3)"
                ))?
                .query_row(
                    params![lane.channel, beyond[0], beyond[1]],
                    |row| row.get::<_, bool>(0),
                )?;
        }
        if left {
            self.delta.tidy.retain(|known| *known != lane);
            self.delta.untidy.push(lane);
        } else {
            self.delta.untidy.retain(|known| *known != lane);
            self.delta.tidy.push(lane);
        }
        Ok(())
    }

    /// Notes what the network calls what it shows, block by block.
    pub(super) fn shown(
        &mut self,
        channel: i64,
        parts: &[(u64, u32, Vec<NativeId>)],
        room: i64,
    ) -> Result<(), rusqlite::Error> {
        let named = parts
            .iter()
            .flat_map(|(seq, _, ids)| ids.iter().map(|id| (id.0.as_str(), place(room, *seq))));
        self.natives(channel, &named.collect::<Vec<_>>())?;
        let mut rest = parts;
        while let Some((first, _, _)) = rest.first() {
            let block = block_of(place(room, *first));
            let length = rest
                .iter()
                .take_while(|(seq, _, _)| block_of(place(room, *seq)) == block)
                .count();
            let (row, after) = rest.split_at(length);
            rest = after;
            let json = serde_json::to_string(row)
                .map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
            self.transaction
                .prepare_cached(
                    "INSERT INTO shown VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE
                     SET parts = substr(parts, 1, length(parts) - 1) || ',' || substr(?4, 2)",
                )?
                .execute(params![channel, block, self.now.0, json])?;
        }
        Ok(())
    }
}
