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

/// The pages read last, newest first. Lanes that are behind in the same room read the same pages, so a page is parsed once for all of them.
#[derive(Debug, Default)]
pub(super) struct Pages(VecDeque<Page>);

#[derive(Debug)]
struct Page {
    room: i64,
    /// The page has the events after this one.
    before: u64,
    events: Arc<[Logged]>,
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
        let found = match range(connection, room, before) {
            Err(error) if is_damage(&error) => one_by_one(connection, room, before, head)?,
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
            });
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

fn range(connection: &Connection, room: i64, before: u64) -> Result<Vec<Logged>, rusqlite::Error> {
    let mut query = connection.prepare_cached(
        "SELECT place, json FROM events WHERE place > ?1 AND place <= ?2 ORDER BY place",
    )?;
    let mut rows = query.query([place(room, before), place(room, before + PAGE)])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push(parsed(seq_of(row.get(0)?), row.get_ref(1)?));
    }
    Ok(events)
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
