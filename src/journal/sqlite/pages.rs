//! Reading the rooms' logs page by page, damaged places included.

use std::collections::VecDeque;
use std::sync::Arc;

use comity_bridge::Event;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OptionalExtension};

use super::{place, seq_of};
use crate::journal::Logged;

/// Events in a page.
const PAGE: u64 = 128;

/// Pages kept.
const PAGES: usize = 16;

/// Bytes of JSON in the pages that are kept: one message may be as long as a whole page of others.
const KEPT: usize = 4 << 20;

/// The pages read last, newest first. Lanes that are behind in the same room read the same pages, so a page is parsed once for all of them.
#[derive(Debug, Default)]
pub(super) struct Pages(VecDeque<Page>);

#[derive(Debug)]
struct Page {
    room: i64,
    /// The page has the events after this one.
    before: u64,
    events: Arc<[Logged]>,
    bytes: usize,
}

impl Pages {
    /// Events of a room after `after`, in order, none missing up to `head`: at least one if there is one, at most a page.
    pub(super) fn events(
        &mut self,
        connection: &Connection,
        room: i64,
        after: u64,
        head: u64,
    ) -> Result<Vec<Logged>, rusqlite::Error> {
        let before = after - after % PAGE;
        let known = self
            .0
            .iter()
            .find(|page| page.room == room && page.before == before);
        let page = match known {
            Some(page) => Arc::clone(&page.events),
            None => self.load(connection, room, before, head)?,
        };
        let left = page.iter().filter(|logged| logged.seq() > after);
        Ok(left.cloned().collect())
    }

    fn load(
        &mut self,
        connection: &Connection,
        room: i64,
        before: u64,
        head: u64,
    ) -> Result<Arc<[Logged]>, rusqlite::Error> {
        let (found, bytes) = match range(connection, room, before) {
            // Damaged pages of the file are few; their events are not counted.
            Err(error) if is_damage(&error) => (one_by_one(connection, room, before, head)?, 0),
            found => found?,
        };
        let events: Arc<[Logged]> = if found.len() < PAGE as usize {
            with_the_missing(found, before, head, gone(connection, room)?).into()
        } else {
            found.into()
        };
        // Only a page to which nothing can be added is kept.
        if events.len() == PAGE as usize {
            self.0.truncate(PAGES - 1);
            self.0.push_front(Page {
                room,
                before,
                events: Arc::clone(&events),
                bytes,
            });
            while self.0.iter().map(|page| page.bytes).sum::<usize>() > KEPT {
                self.0.pop_back();
            }
        }
        Ok(events)
    }
}

/// The event at one place.
pub(super) fn event_at(
    connection: &Connection,
    place: i64,
) -> Result<Option<Logged>, rusqlite::Error> {
    let found = connection
        .prepare_cached("SELECT json FROM events WHERE place = ?1")?
        .query_row([place], |row| Ok(parsed(seq_of(place), row.get_ref(0)?)))
        .optional();
    match found {
        Err(error) if is_damage(&error) => Ok(Some(Logged::Damaged {
            seq: seq_of(place),
            why: error.to_string(),
        })),
        found => found,
    }
}

/// True when it is the file that is at fault, not the machine's state.
pub(in crate::journal) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

/// A page, and how many bytes of JSON that is.
fn range(
    connection: &Connection,
    room: i64,
    before: u64,
) -> Result<(Vec<Logged>, usize), rusqlite::Error> {
    let mut query = connection.prepare_cached(
        "SELECT place, json FROM events WHERE place > ?1 AND place <= ?2 ORDER BY place",
    )?;
    let mut rows = query.query([place(room, before), place(room, before + PAGE)])?;
    let (mut events, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let json = row.get_ref(1)?;
        bytes += json
            .as_bytes_or_null()
            .ok()
            .flatten()
            .map_or(0, <[u8]>::len);
        events.push(parsed(seq_of(row.get(0)?), json));
    }
    Ok((events, bytes))
}

/// Around a damaged page of the file: what can be read is read.
fn one_by_one(
    connection: &Connection,
    room: i64,
    before: u64,
    head: u64,
) -> Result<Vec<Logged>, rusqlite::Error> {
    let mut events = Vec::new();
    for seq in before + 1..=head.min(before + PAGE) {
        events.extend(event_at(connection, place(room, seq))?);
    }
    Ok(events)
}

/// Every place has had an event, so one without is damage, too, unless it was let go of.
fn with_the_missing(found: Vec<Logged>, before: u64, head: u64, gone: u64) -> Vec<Logged> {
    let mut found = found.into_iter().peekable();
    let mut events = Vec::new();
    for seq in before + 1..=before + PAGE {
        match found.next_if(|logged| logged.seq() == seq) {
            Some(logged) => events.push(logged),
            None if seq > gone && seq <= head => events.push(Logged::Damaged {
                seq,
                why: "its row is missing".to_owned(),
            }),
            None => {}
        }
    }
    events
}

fn gone(connection: &Connection, room: i64) -> Result<u64, rusqlite::Error> {
    let gone = connection
        .prepare_cached("SELECT gone FROM rooms WHERE id = ?1")?
        .query_row([room], |row| row.get(0))
        .optional()?;
    Ok(gone.unwrap_or(0))
}

fn parsed(seq: u64, json: ValueRef<'_>) -> Logged {
    let text = json.as_str().map_err(|error| error.to_string());
    let event = text
        .and_then(|text| serde_json::from_str::<Event>(text).map_err(|error| error.to_string()));
    match event {
        Ok(mut event) => {
            event.seq = seq;
            Logged::Event(Arc::new(event))
        }
        Err(why) => Logged::Damaged { seq, why },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::sqlite::Files;
    use crate::journal::sqlite::schema::migrate;

    #[test]
    fn pages_of_long_events_are_kept_up_to_a_number_of_bytes() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = Files::open(dir.path()).expect("the files");
        let mut connection = files.writer().expect("a connection");
        migrate(&mut connection).expect("the tables");
        let insert = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 640)
            INSERT INTO events (place, id, channel, source_id, json)
            SELECT (1 << 40) | i, CAST(i AS BLOB), 1, i, hex(zeroblob(iif(i <= 128, 100, 6000))) FROM n";
        connection.execute(insert, []).expect("events");
        let mut pages = Pages::default();
        let kept: Vec<usize> = (0..5)
            .map(|page| {
                let events = pages.events(&connection, 1, page * PAGE, 640);
                assert_eq!(events.expect("read").len(), PAGE as usize);
                pages.0.len()
            })
            .collect();
        // 12,000 bytes an event: two such pages, beside the short one as long as there is room.
        assert_eq!(kept, [1, 2, 3, 2, 2]);
    }
}
