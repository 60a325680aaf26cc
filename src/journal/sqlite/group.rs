//! One transaction in the making: what reports and lanes ask for, statement by statement.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use comity_bridge::report::Refusal;
use comity_bridge::{
    Channel, Content, Event, EventId, NativeRef, NetworkName, RoomAddress, Timestamp, Verdict,
};
use rusqlite::{CachedStatement, OptionalExtension, Statement, Transaction, params};

use super::memory::{Delta, Held, Memory, Room};
use super::{numbered, place, room_of, seq_of};
use crate::journal::report::{Prepared, PreparedEntry, Whole};
use crate::journal::{ChangeKind, Draft};

/// Reports of one network that may wait for what they refer to.
const WAITING: usize = 1000;

/// Native ids that one statement takes. Each statement begins at the root of its tree and ends with its cursors closed.
const ROWS: usize = 16;

/// See [`ROWS`].
static INSERT_ROWS: LazyLock<String> = LazyLock::new(|| {
    let rows = (2..).step_by(2).take(ROWS);
    let rows: Vec<String> = rows.map(|at| format!("(?1, ?{at}, ?{})", at + 1)).collect();
    format!("INSERT OR IGNORE INTO natives VALUES {}", rows.join(", "))
});

pub(super) struct Group<'a> {
    pub(super) transaction: &'a Transaction<'a>,
    pub(super) memory: &'a Memory,
    pub(super) delta: Delta,
    /// When this is committed.
    pub(super) now: Timestamp,
    hot: Hot<'a>,
    /// What was looked up last: reports are about one channel, mostly.
    last_channel: Option<(Channel, i64)>,
    /// What is known by name since, and may have been waited for; None when nobody goes through it.
    named: Option<VecDeque<(i64, String)>>,
}

/// The statements that most rows need, looked up once a group.
struct Hot<'a> {
    source: CachedStatement<'a>,
    event: CachedStatement<'a>,
    native: CachedStatement<'a>,
}

/// What an event refers to, looked up.
struct Target {
    place: i64,
    id: EventId,
}

impl<'a> Group<'a> {
    pub(super) fn new(
        transaction: &'a Transaction<'a>,
        memory: &'a Memory,
        now: Timestamp,
    ) -> Result<Self, rusqlite::Error> {
        let hot = Hot {
            source: transaction.prepare_cached(
                "INSERT INTO sources VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            )?,
            event: transaction
                .prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?,
            native: transaction
                .prepare_cached("INSERT OR IGNORE INTO natives VALUES (?1, ?2, ?3)")?,
        };
        Ok(Group {
            transaction,
            memory,
            delta: Delta::default(),
            now,
            hot,
            last_channel: None,
            named: None,
        })
    }

    /// What it changes in memory, once it is committed.
    pub(super) fn finish(self) -> Delta {
        self.delta
    }

    pub(super) fn append(
        &mut self,
        append: &mut Prepared,
    ) -> Result<Vec<Verdict>, rusqlite::Error> {
        let mut verdicts = Vec::with_capacity(append.entries.len());
        for entry in &mut append.entries {
            verdicts.push(match entry {
                PreparedEntry::Refused(refusal) => Verdict::Refused(*refusal),
                PreparedEntry::Whole(whole) => self.whole(whole, None)?,
                PreparedEntry::Draft(draft) => self.draft(&append.network, draft)?,
                PreparedEntry::Receipt(key, native) => {
                    let channel = self.channel(&key.channel)?;
                    if let Some(place) = self.place_of(key.event)? {
                        self.shown(
                            channel,
                            &[(seq_of(place), 0, vec![native.clone()])],
                            room_of(place),
                        )?;
                    }
                    Verdict::Receipt
                }
            });
        }
        if let Some(cursor) = &append.cursor {
            self.transaction
                .prepare_cached(
                    "INSERT INTO cursors VALUES (?1, ?2) ON CONFLICT DO UPDATE SET cursor = ?2",
                )?
                .execute(params![append.network.as_str(), cursor.0])?;
        }
        for (key, value) in &append.writes {
            if value.is_empty() {
                self.transaction
                    .prepare_cached("DELETE FROM facts WHERE network = ?1 AND key = ?2")?
                    .execute(params![append.network.as_str(), key])?;
            } else {
                self.transaction
                    .prepare_cached("INSERT INTO facts VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET value = ?3")?
                    .execute(params![append.network.as_str(), key, value])?;
            }
        }
        Ok(verdicts)
    }

    /// An event whose references are still in its network's words.
    pub(super) fn draft(
        &mut self,
        network: &NetworkName,
        draft: &Draft,
    ) -> Result<Verdict, rusqlite::Error> {
        let channel = self.channel(&draft.channel)?;
        let (event, found) = self.resolved(channel, draft)?;
        match event {
            Ok(event) => {
                let change = kind_of(&event.content).zip(found);
                match Whole::new(event, draft.channel.clone()) {
                    Ok(mut whole) => self.whole(&mut whole, change),
                    Err(_) => Ok(Verdict::Refused(Refusal::Malformed)),
                }
            }
            Err(unknown) => self.hold(network, channel, draft, &unknown),
        }
    }

    /// The event with its references looked up, or the first that is not known; and what was found last.
    fn resolved(
        &self,
        channel: i64,
        draft: &Draft,
    ) -> Result<(Result<Event, NativeRef>, Option<Target>), rusqlite::Error> {
        let mut failed = None;
        let mut found = None;
        let event = draft
            .clone()
            .into_event(0, |reference| match self.find(channel, reference) {
                Ok(target) => target.map(|target| {
                    let id = target.id;
                    found = Some(target);
                    id
                }),
                Err(error) => {
                    failed = Some(error);
                    None
                }
            });
        match failed {
            Some(error) => Err(error),
            None => Ok((event, found)),
        }
    }

    /// Gives an event its place.
    fn whole(
        &mut self,
        whole: &mut Whole,
        change: Option<(ChangeKind, Target)>,
    ) -> Result<Verdict, rusqlite::Error> {
        let channel = self.channel(&whole.channel)?;
        let room = self.room(&whole.event.room)?;
        let seq = room.head + 1;
        let place = place(room.id, seq);
        let id = whole.event.id;
        let source_id = &whole.event.origin.native_id.0;
        if self
            .hot
            .source
            .execute(params![channel, source_id, place, id.to_bytes()])?
            == 0
        {
            let first = self.first_of(channel, source_id)?;
            return Ok(Verdict::Duplicate(first));
        }
        self.insert(
            whole,
            Room {
                id: room.id,
                head: seq,
            },
            channel,
            change,
        )?;
        Ok(Verdict::Accepted(id))
    }

    /// Writes the row of an event whose source is noted already.
    fn insert(
        &mut self,
        whole: &mut Whole,
        room: Room,
        channel: i64,
        change: Option<(ChangeKind, Target)>,
    ) -> Result<(), rusqlite::Error> {
        let place = place(room.id, room.head);
        match Arc::get_mut(&mut whole.event) {
            Some(event) => event.seq = room.head,
            // An earlier attempt to commit it has left a copy somewhere.
            None => {
                let mut event = Event::clone(&whole.event);
                event.seq = room.head;
                whole.event = Arc::new(event);
            }
        }
        let event = &whole.event;
        self.hot.event.execute(params![
            place,
            event.id.to_bytes(),
            channel,
            event.origin.native_id.0,
            whole.json,
            self.now.0
        ])?;
        let fresh = match self.delta.events.get_mut(&event.room) {
            Some(fresh) => fresh,
            None => self.delta.events.entry(event.room.clone()).or_default(),
        };
        fresh.events.push((Arc::clone(event), whole.json.size()));
        match self.delta.rooms.get_mut(&event.room) {
            Some(known) => known.head = room.head,
            None => {
                self.delta.rooms.insert(event.room.clone(), room);
            }
        }
        // What another room holds is not changed from here.
        if let Some((kind, target)) = change
            && room_of(target.place) == room.id
        {
            fresh.last_change = room.head;
            self.change(place, target.place, kind)?;
        }
        if !self.memory.waiting.is_empty() || !self.delta.held.is_empty() {
            let source_id = whole.event.origin.native_id.0.clone();
            self.release(channel, &source_id)?;
        }
        Ok(())
    }

    fn change(&self, place: i64, target: i64, kind: ChangeKind) -> Result<(), rusqlite::Error> {
        let number = match kind {
            ChangeKind::Edit => 1,
            ChangeKind::Redact => 2,
            ChangeKind::React => 3,
        };
        self.transaction
            .prepare_cached("INSERT OR IGNORE INTO changes VALUES (?1, ?2, ?3)")?
            .execute(params![target, place, number])?;
        if kind == ChangeKind::Redact {
            self.transaction
                .prepare_cached("INSERT OR IGNORE INTO redactions VALUES (?1, ?2)")?
                .execute([place, target])?;
            // Whoever took it back does not want to see it again.
            self.transaction
                .prepare_cached("UPDATE dead SET dropped = 1, again = 0 WHERE place = ?1")?
                .execute([target])?;
        }
        Ok(())
    }

    /// Keeps a report until what it names is committed.
    fn hold(
        &mut self,
        network: &NetworkName,
        channel: i64,
        draft: &Draft,
        target: &NativeRef,
    ) -> Result<Verdict, rusqlite::Error> {
        let held = self
            .delta
            .held
            .values()
            .filter(|held| held.network == *network);
        if self.memory.waiting.of(network) + held.count() >= WAITING {
            return Ok(Verdict::Refused(Refusal::UnknownTarget));
        }
        let source_id = &draft.source_id.0;
        if self
            .hot
            .source
            .execute(params![channel, source_id, 0, draft.id.to_bytes()])?
            == 0
        {
            return Ok(Verdict::Duplicate(self.first_of(channel, source_id)?));
        }
        let json = serde_json::to_string(draft)
            .map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
        let here = self.delta.held.last_key_value().map_or(0, |(id, _)| *id);
        let id = self.memory.waiting.last().max(here) + 1;
        self.transaction
            .prepare_cached(
                "INSERT INTO waiting (id, network, channel, target, draft) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![id, network.as_str(), channel, target.0, json])?;
        self.delta.held.insert(
            id,
            Held {
                network: network.clone(),
                channel,
                target: target.0.clone(),
                since: Instant::now(),
            },
        );
        Ok(Verdict::Accepted(draft.id))
    }

    /// What waited for this may go on, and then what waited for that: a chain may be as long as everything that waits.
    pub(super) fn release(&mut self, channel: i64, native: &str) -> Result<(), rusqlite::Error> {
        if let Some(named) = &mut self.named {
            named.push_back((channel, native.to_owned()));
            return Ok(());
        }
        self.named = Some(VecDeque::new());
        self.release_one(channel, native)?;
        while let Some((channel, native)) = self.named.as_mut().and_then(VecDeque::pop_front) {
            self.release_one(channel, &native)?;
        }
        self.named = None;
        Ok(())
    }

    fn release_one(&mut self, channel: i64, native: &str) -> Result<(), rusqlite::Error> {
        let mut ids = self.memory.waiting.naming(channel, native);
        let fresh = self.delta.held.iter();
        ids.extend(
            fresh
                .filter(|(_, held)| held.channel == channel && held.target == native)
                .map(|(id, _)| *id),
        );
        for id in ids {
            if self.delta.released.contains(&id) {
                continue;
            }
            self.delta.released.push(id);
            let json: String = self
                .transaction
                .prepare_cached("DELETE FROM waiting WHERE id = ?1 RETURNING draft")?
                .query_row([id], |row| row.get(0))?;
            let Ok(draft) = serde_json::from_str::<Draft>(&json) else {
                tracing::error!(
                    id,
                    "a damaged report that waited for its target is passed over"
                );
                continue;
            };
            self.released(&draft)?;
        }
        Ok(())
    }

    fn released(&mut self, draft: &Draft) -> Result<(), rusqlite::Error> {
        let channel = self.channel(&draft.channel)?;
        let room = self.room(&draft.room)?;
        let seq = room.head + 1;
        let (event, found) = self.resolved(channel, draft)?;
        let whole = event
            .ok()
            .and_then(|event| Whole::new(event, draft.channel.clone()).ok());
        let Some(mut whole) = whole else {
            return Ok(());
        };
        self.transaction
            .prepare_cached("UPDATE sources SET place = ?3 WHERE channel = ?1 AND source_id = ?2")?
            .execute(params![channel, draft.source_id.0, place(room.id, seq)])?;
        let change = kind_of(&whole.event.content).zip(found);
        self.insert(
            &mut whole,
            Room {
                id: room.id,
                head: seq,
            },
            channel,
            change,
        )
    }

    /// Notes what a network calls parts of events.
    pub(super) fn natives(
        &mut self,
        channel: i64,
        natives: &[(&str, i64)],
    ) -> Result<(), rusqlite::Error> {
        let (many, rest) = natives.as_chunks::<ROWS>();
        if !many.is_empty() {
            let mut insert = self.transaction.prepare_cached(&INSERT_ROWS)?;
            for rows in many {
                insert_natives(&mut insert, channel, rows)?;
            }
        }
        for row in rest {
            insert_natives(&mut self.hot.native, channel, std::slice::from_ref(row))?;
        }
        if !self.memory.waiting.is_empty() || !self.delta.held.is_empty() {
            for (native, _) in natives {
                self.release(channel, native)?;
            }
        }
        Ok(())
    }

    fn first_of(&self, channel: i64, source_id: &str) -> Result<EventId, rusqlite::Error> {
        let id = self
            .transaction
            .prepare_cached("SELECT id FROM sources WHERE channel = ?1 AND source_id = ?2")?
            .query_row(params![channel, source_id], |row| row.get(0))?;
        Ok(EventId::from_bytes(id))
    }

    pub(super) fn place_of(&self, event: EventId) -> Result<Option<i64>, rusqlite::Error> {
        self.transaction
            .prepare_cached("SELECT place FROM events WHERE id = ?1")?
            .query_row([event.to_bytes()], |row| row.get(0))
            .optional()
    }

    /// The event that a network means by one of its own ids: one that was born there, or one that we showed there.
    fn find(&self, channel: i64, native: &NativeRef) -> Result<Option<Target>, rusqlite::Error> {
        self.transaction
            .prepare_cached(
                "SELECT events.place, events.id FROM sources JOIN events USING (place)
                     WHERE sources.channel = ?1 AND sources.source_id = ?2
                 UNION ALL
                 SELECT events.place, events.id FROM natives JOIN events USING (place)
                     WHERE natives.channel = ?1 AND native_id = ?2
                 LIMIT 1",
            )?
            .query_row(params![channel, native.0], |row| {
                Ok(Target {
                    place: row.get(0)?,
                    id: EventId::from_bytes(row.get(1)?),
                })
            })
            .optional()
    }

    fn room(&mut self, address: &RoomAddress) -> Result<Room, rusqlite::Error> {
        if let Some(room) = self
            .delta
            .rooms
            .get(address)
            .or_else(|| self.memory.rooms.get(address))
        {
            return Ok(*room);
        }
        let id = numbered(self.transaction, "rooms", "address", &address.to_string())?;
        let room = Room {
            id,
            head: super::reader::head(self.transaction, id)?,
        };
        self.delta.rooms.insert(address.clone(), room);
        Ok(room)
    }

    pub(super) fn channel(&mut self, channel: &Channel) -> Result<i64, rusqlite::Error> {
        if let Some((last, id)) = &self.last_channel
            && last == channel
        {
            return Ok(*id);
        }
        let known: [&HashMap<Channel, i64>; 2] = [&self.memory.channels, &self.delta.channels];
        let id = match known.iter().find_map(|names| names.get(channel)) {
            Some(id) => *id,
            None => {
                let id = numbered(self.transaction, "channels", "name", &channel.to_string())?;
                self.delta.channels.insert(channel.clone(), id);
                id
            }
        };
        self.last_channel = Some((channel.clone(), id));
        Ok(id)
    }
}

/// As many rows as the statement has places for.
fn insert_natives(
    statement: &mut Statement<'_>,
    channel: i64,
    rows: &[(&str, i64)],
) -> Result<(), rusqlite::Error> {
    statement.raw_bind_parameter(1, channel)?;
    for (at, (native, place)) in (2..).step_by(2).zip(rows) {
        statement.raw_bind_parameter(at, native)?;
        statement.raw_bind_parameter(at + 1, place)?;
    }
    statement.raw_execute()?;
    Ok(())
}

fn kind_of(content: &Content<EventId>) -> Option<ChangeKind> {
    match content {
        Content::Edit(_) => Some(ChangeKind::Edit),
        Content::Redact(_) => Some(ChangeKind::Redact),
        Content::React(_) => Some(ChangeKind::React),
        _ => None,
    }
}
