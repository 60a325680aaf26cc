//! How old what waits is, without reading all of it: a room's log is in the order of its commits.

use comity_bridge::{RoomAddress, Timestamp};
use rusqlite::{OptionalExtension, params};

use super::reader::Reader;
use super::{place, seq_of};

impl Reader {
    /// For each of these times, latest first, how many of the events after `after` up to `head` came in before it; and when the first of them
    /// came in. A few dozen rows are read, however many there are.
    pub(crate) fn older_than(
        &mut self,
        room: &RoomAddress,
        (after, head): (u64, u64),
        times: &[Timestamp],
    ) -> Result<(Vec<u64>, Option<Timestamp>), rusqlite::Error> {
        let number: Option<i64> = self
            .connection
            .prepare_cached("SELECT id FROM rooms WHERE address = ?1")?
            .query_row([room.to_string()], |row| row.get(0))
            .optional()?;
        let Some(number) = number else {
            return Ok((vec![0; times.len()], None));
        };
        let first = self.next_after(number, after, head)?;
        let mut counts = Vec::with_capacity(times.len());
        let mut until = head;
        for time in times {
            // None of these is older than what comes first in time.
            until = self.last_before(number, (after, until), *time)?;
            counts.push(until - after);
        }
        Ok((counts, first.map(|(_, at)| at)))
    }

    /// The last place up to `head` whose event came in before a time; `after` when none did.
    fn last_before(
        &self,
        room: i64,
        (after, head): (u64, u64),
        time: Timestamp,
    ) -> Result<u64, rusqlite::Error> {
        let (mut before, mut end) = (after, head);
        while before < end {
            let middle = before + (end - before) / 2;
            match self.next_after(room, middle, end)? {
                Some((seq, at)) if at < time => before = seq,
                _ => end = middle,
            }
        }
        Ok(before)
    }

    /// The next event that can be read, and when it came in.
    fn next_after(
        &self,
        room: i64,
        after: u64,
        head: u64,
    ) -> Result<Option<(u64, Timestamp)>, rusqlite::Error> {
        // Journals of the first format do not tell when an event was committed.
        self.connection
            .prepare_cached(
                "SELECT place, CASE committed WHEN 0 THEN coalesce(json_extract(json, '$.received'), 0) ELSE committed END
                 FROM events WHERE place > ?1 AND place <= ?2 ORDER BY place LIMIT 1",
            )?
            .query_row(params![place(room, after), place(room, head)], |row| {
                Ok((seq_of(row.get(0)?), Timestamp(row.get(1)?)))
            })
            .optional()
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::journal::sqlite::Files;
    use crate::journal::sqlite::schema::migrate;

    #[test]
    fn ages_are_told_of_a_long_log_with_a_few_looks() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = Files::open(dir.path()).expect("the files");
        let mut writer = files.writer().expect("a connection");
        migrate(&mut writer).expect("the tables");
        writer
            .execute(
                "INSERT INTO rooms (id, address) VALUES (7, '#r@gw1.example')",
                [],
            )
            .expect("a room");
        fill(&writer);
        let mut reader = Reader::open(&files).expect("a reader");
        let room = "#r@gw1.example".parse().expect("a room");
        let mut ask = |after, head, times: &[i64]| {
            let times: Vec<Timestamp> = times.iter().map(|at| Timestamp(*at)).collect();
            let found = reader.older_than(&room, (after, head), &times);
            let (counts, first) = found.expect("an answer");
            (counts, first.map(|at| at.0))
        };
        // Event n came in at n seconds; 3,001 to 4,000 were let go of.
        assert_eq!(
            ask(0, 10_000, &[20_000_000, 9_000_001, 9_000_000, 1_000, 0]),
            (vec![10_000, 9_000, 8_999, 0, 0], Some(1_000))
        );
        assert_eq!(
            ask(3_500, 10_000, &[5_000_001]),
            (vec![1_500], Some(4_001_000))
        );
        assert_eq!(ask(10_000, 10_000, &[20_000_000]), (vec![0], None));
        let other = "#other@gw1.example".parse().expect("a room");
        let found = reader.older_than(&other, (0, 5), &[Timestamp(1)]);
        assert_eq!(found.expect("an answer"), (vec![0], None));
    }

    fn fill(connection: &Connection) {
        let insert = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
            INSERT INTO events (place, id, channel, source_id, json, committed)
            SELECT (7 << 40) | i, CAST(i AS BLOB), 1, i, json_object('received', i * 1000), iif(i < 2000, 0, i * 1000)
            FROM n WHERE i NOT BETWEEN 3001 AND 4000";
        connection.execute(insert, []).expect("events");
    }
}
