//! What waits: for peers, for missing events or keys, for the gateway's journal.

use rusqlite::{OptionalExtension as _, params};

use super::damage::{passed_over, readable};
use super::store::{Store, id_at, parsed};
use crate::ident::{Alias, EventId, RoomId, ServerName};
use crate::session::ShelfError;

/// How many answers to pushes are remembered for each peer (PROTOCOL 9).
const KEPT_ANSWERS: i64 = 256;
/// How many events of one origin, and of one sender, may wait for what is missing, of how many bytes, and for how long (PROTOCOL 10).
const MAX_PENDING: i64 = 1000;
const MAX_PENDING_BYTES: i64 = 16 * 1024 * 1024;
/// And of all together: anybody can invent origins.
const MAX_ALL_PENDING: i64 = 10_000;
const MAX_ALL_PENDING_BYTES: i64 = 64 * 1024 * 1024;
const MAX_PENDING_MS: i64 = 24 * 3600 * 1000;

/// An event that waits to be pushed.
#[derive(Debug, Clone)]
pub struct Queued {
    pub arrival: i64,
    pub id: EventId,
    pub room: RoomId,
    pub bytes: Vec<u8>,
}

/// An event that waits for a key or for other events.
#[derive(Debug, Clone)]
pub struct Pending {
    pub bytes: Vec<u8>,
    /// Who pushed it; `None` when it was asked for.
    pub pushed_by: Option<ServerName>,
}

/// An event that the gateway has to hear of.
#[derive(Debug, Clone)]
pub struct Unreported {
    pub arrival: i64,
    pub event: Result<Shown, ShelfError>,
}

/// The room that shows it, and the event.
#[derive(Debug, Clone)]
pub struct Shown {
    pub alias: Alias,
    pub id: EventId,
    pub bytes: Vec<u8>,
}

impl Store<'_> {
    pub fn enqueue(&self, peer: &ServerName, arrival: i64) -> Result<(), ShelfError> {
        self.db
            .prepare_cached(
                "INSERT OR IGNORE INTO queues (peer, arrival, since)
                 VALUES (?, ?, CAST(unixepoch('subsec') * 1000 AS INTEGER))",
            )?
            .execute(params![peer.as_str(), arrival])?;
        Ok(())
    }

    /// The first `count` events that wait for `peer`, oldest first.
    pub fn queue(&self, peer: &ServerName, count: usize) -> Result<Vec<Queued>, ShelfError> {
        let mut first = self
            .db
            .prepare_cached("SELECT arrival FROM queues WHERE peer = ? ORDER BY arrival LIMIT ?")?;
        loop {
            let arrivals: Vec<i64> = first
                .query_map(params![peer.as_str(), count], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            let (mut found, mut lost) = (Vec::with_capacity(arrivals.len()), Vec::new());
            for arrival in &arrivals {
                match passed_over("an event that waits for a peer", self.queued_at(*arrival))? {
                    Some(Some(event)) => found.push(event),
                    _ => lost.push(*arrival),
                }
            }
            // What cannot be read never can be sent: the rest must not wait for it.
            self.dequeue(peer, &lost)?;
            if !found.is_empty() || lost.is_empty() {
                return Ok(found);
            }
        }
    }

    fn queued_at(&self, arrival: i64) -> Result<Option<Queued>, ShelfError> {
        let found = self
            .db
            .prepare_cached("SELECT id, room, bytes FROM events WHERE arrival = ?")?
            .query_row([arrival], |row| {
                Ok(Queued {
                    arrival,
                    id: id_at(row, 0)?,
                    room: parsed(row, 1, RoomId::parse)?,
                    bytes: row.get(2)?,
                })
            })
            .optional()?;
        Ok(found)
    }

    /// The same for events that a peer asks for by name.
    pub fn queued(&self, room: &RoomId, ids: &[EventId]) -> Result<Vec<Queued>, ShelfError> {
        let mut statement = self
            .db
            .prepare_cached("SELECT arrival, bytes FROM events WHERE id = ? AND room = ?")?;
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            let row = statement.query_row([id.as_str(), room.as_str()], |row| {
                Ok(Queued {
                    arrival: row.get(0)?,
                    id: id.clone(),
                    room: room.clone(),
                    bytes: row.get(1)?,
                })
            });
            let row = row.optional().map_err(ShelfError::from);
            found.extend(passed_over("an event that a peer lacks", row)?.flatten());
        }
        Ok(found)
    }

    pub fn dequeue(&self, peer: &ServerName, arrivals: &[i64]) -> Result<(), ShelfError> {
        let mut statement = self
            .db
            .prepare_cached("DELETE FROM queues WHERE peer = ? AND arrival = ?")?;
        for arrival in arrivals {
            statement.execute(params![peer.as_str(), arrival])?;
        }
        Ok(())
    }

    /// Gives up a queue that is longer than `longest` or whose first event was put there before `oldest_ms`. Returns how many events
    /// were in it. The events stay in the graph: the peer asks for them when it is back (PROTOCOL 11.4).
    pub fn drop_queue(
        &self,
        peer: &ServerName,
        longest: usize,
        oldest_ms: u64,
    ) -> Result<usize, ShelfError> {
        let (length, since): (i64, Option<i64>) = self
            .db
            .prepare_cached("SELECT count(*), min(since) FROM queues WHERE peer = ?")?
            .query_row([peer.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let is_old = since
            .and_then(|since| u64::try_from(since).ok())
            .is_some_and(|since| since < oldest_ms);
        if length <= longest && !is_old {
            return Ok(0);
        }
        self.db
            .prepare_cached("DELETE FROM queues WHERE peer = ?")?
            .execute([peer.as_str()])?;
        Ok(length)
    }

    /// The peers for whom something waits.
    pub fn peers(&self) -> Result<Vec<ServerName>, ShelfError> {
        let mut statement = self.db.prepare_cached("SELECT DISTINCT peer FROM queues")?;
        readable("the queue of a peer", &mut statement, [], |row| {
            parsed(row, 0, ServerName::parse)
        })
    }

    /// The answer that a push with this `txn` got, and the last arrival that it stands for.
    pub fn answer(
        &self,
        peer: &ServerName,
        txn: &str,
    ) -> Result<Option<(Vec<u8>, i64)>, ShelfError> {
        let found = self
            .db
            .prepare_cached("SELECT answer, arrival FROM answers WHERE peer = ? AND txn = ?")?
            .query_row([peer.as_str(), txn], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        Ok(found)
    }

    pub fn put_answer(
        &self,
        peer: &ServerName,
        txn: &str,
        answer: &[u8],
        arrival: i64,
    ) -> Result<(), ShelfError> {
        self.db
            .prepare_cached(
                "INSERT OR REPLACE INTO answers (peer, txn, n, answer, arrival)
                 VALUES (?1, ?2, 1 + coalesce((SELECT max(n) FROM answers WHERE peer = ?1), 0), ?3, ?4)",
            )?
            .execute(params![peer.as_str(), txn, answer, arrival])?;
        self.db
            .prepare_cached("DELETE FROM answers WHERE peer = ?1 AND n <= (SELECT max(n) FROM answers WHERE peer = ?1) - ?2")?
            .execute(params![peer.as_str(), KEPT_ANSWERS])?;
        Ok(())
    }

    /// Keeps an event until what it lacks is here. Returns false when too much waits already, and it is not among that.
    pub fn put_pending(
        &self,
        id: &EventId,
        room: &RoomId,
        origin: &ServerName,
        pending: &Pending,
        now: i64,
    ) -> Result<bool, ShelfError> {
        self.db
            .prepare_cached("DELETE FROM pending WHERE since < ?")?
            .execute([now - MAX_PENDING_MS])?;
        let waits_already: bool = self
            .db
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM pending WHERE id = ?)")?
            .query_row([id.as_str()], |row| row.get(0))?;
        if waits_already {
            return Ok(true);
        }
        let pushed_by = pending.pushed_by.as_ref().map(ServerName::as_str);
        let has_place: bool = self
            .db
            .prepare_cached(
                "SELECT count(*) < ?3 AND total(length(bytes)) < ?4
                    AND total(origin = ?1) < ?5 AND total(pushed_by = ?2) < ?5
                    AND total(length(bytes) * (pushed_by = ?2)) < ?6
                 FROM pending",
            )?
            .query_row(
                params![
                    origin.as_str(),
                    pushed_by,
                    MAX_ALL_PENDING,
                    MAX_ALL_PENDING_BYTES,
                    MAX_PENDING,
                    MAX_PENDING_BYTES
                ],
                |row| row.get(0),
            )?;
        if !has_place {
            return Ok(false);
        }
        self.db
            .prepare_cached("INSERT OR IGNORE INTO pending (id, room, origin, pushed_by, since, bytes) VALUES (?, ?, ?, ?, ?, ?)")?
            .execute(params![
                id.as_str(), room.as_str(), origin.as_str(), pushed_by, now, pending.bytes
            ])?;
        Ok(true)
    }

    pub fn forget_pending(&self, id: &EventId) -> Result<(), ShelfError> {
        self.db
            .prepare_cached("DELETE FROM pending WHERE id = ?")?
            .execute([id.as_str()])?;
        Ok(())
    }

    /// Whose events wait in a room.
    pub fn waiting_origins(&self, room: &RoomId) -> Result<Vec<ServerName>, ShelfError> {
        let mut statement = self
            .db
            .prepare_cached("SELECT DISTINCT origin FROM pending WHERE room = ?")?;
        readable(
            "an event that waits",
            &mut statement,
            [room.as_str()],
            |row| parsed(row, 0, ServerName::parse),
        )
    }

    /// The first `count` events of an origin that wait in a room, in the order in which they came.
    pub fn pending(
        &self,
        room: &RoomId,
        origin: &ServerName,
        count: usize,
    ) -> Result<Vec<Pending>, ShelfError> {
        let mut statement = self.db.prepare_cached(
            "SELECT bytes, pushed_by FROM pending WHERE room = ? AND origin = ? ORDER BY rowid LIMIT ?",
        )?;
        readable(
            "an event that waits",
            &mut statement,
            params![room.as_str(), origin.as_str(), count],
            |row| {
                let pushed_by: Option<String> = row.get(1)?;
                Ok(Pending {
                    bytes: row.get(0)?,
                    pushed_by: pushed_by.and_then(|name| ServerName::parse(&name).ok()),
                })
            },
        )
    }

    /// The rooms in which something waits, and whose events they are.
    pub fn pending_origins(&self) -> Result<Vec<(RoomId, ServerName)>, ShelfError> {
        let mut statement = self
            .db
            .prepare_cached("SELECT DISTINCT room, origin FROM pending LIMIT 100")?;
        readable("an event that waits", &mut statement, [], |row| {
            Ok((
                parsed(row, 0, RoomId::parse)?,
                parsed(row, 1, ServerName::parse)?,
            ))
        })
    }

    /// The next events that the gateway has not confirmed yet, in the order of arrival.
    pub fn unreported(&self, count: usize) -> Result<Vec<Unreported>, ShelfError> {
        let mut next = self.db.prepare_cached(
            "SELECT arrival FROM events WHERE shown = 1 AND arrival > ? ORDER BY arrival LIMIT ?",
        )?;
        let arrivals: Vec<i64> = next
            .query_map(params![self.reported()?, count], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let mut load = self.db.prepare_cached(
            "SELECT e.id, e.bytes, r.alias FROM events e LEFT JOIN rooms r ON r.id = e.room
             WHERE e.arrival = ?",
        )?;
        let mut unreported = Vec::with_capacity(arrivals.len());
        for arrival in arrivals {
            let event = load.query_row([arrival], |row| {
                Ok(Shown {
                    id: id_at(row, 0)?,
                    bytes: row.get(1)?,
                    alias: parsed(row, 2, Alias::parse)?,
                })
            });
            match event.map_err(ShelfError::from) {
                Err(error @ (ShelfError::Database(_) | ShelfError::Closed | ShelfError::Fault)) => {
                    return Err(error);
                }
                event => unreported.push(Unreported { arrival, event }),
            }
        }
        Ok(unreported)
    }

    /// Up to which arrival the gateway has confirmed.
    pub fn reported(&self) -> Result<i64, ShelfError> {
        let found = self
            .db
            .prepare_cached("SELECT value FROM marks WHERE name = 'reported'")?
            .query_row([], |row| row.get(0))
            .optional()?;
        Ok(found.unwrap_or(0))
    }

    /// The last arrival of all.
    pub fn last_arrival(&self) -> Result<i64, ShelfError> {
        let found: Option<i64> =
            self.db
                .query_row("SELECT max(arrival) FROM events", [], |row| row.get(0))?;
        Ok(found.unwrap_or(0))
    }

    pub fn put_reported(&self, arrival: i64) -> Result<(), ShelfError> {
        self.db
            .prepare_cached(
                "INSERT INTO marks (name, value) VALUES ('reported', ?)
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            )?
            .execute([arrival])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;
    use crate::graph::Graph;
    use crate::identity::Identity;
    use crate::session::compose::Author;
    use crate::session::judge::Acceptance;

    #[tokio::test]
    async fn a_queue_is_as_old_as_its_first_place_whatever_the_event_says_of_its_time() {
        let server = |name| ServerName::parse(name).expect("a name");
        let (own, peer) = (server("a.example"), server("b.example"));
        let identity = Identity::from_seed(7);
        let author = Author {
            server: own.clone(),
            key: identity.key.clone(),
        };
        let alias = Alias::parse("#rust@a.example").expect("an alias");
        // Of the year 1970, by its own clock.
        let event = author.genesis(&alias, &identity.document(&own, 1), "nonce", 1);
        let event = event.expect("well formed");
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = u64::try_from(now.expect("after 1970").as_millis()).expect("a time");
        let dropped = Graph::in_memory()
            .run(move |store| {
                let arrival = store.put(&event, Acceptance::default())?;
                store.enqueue(&peer, arrival)?;
                let young = store.drop_queue(&peer, 10, now - 60_000)?;
                let old = store.drop_queue(&peer, 10, now + 60_000)?;
                Ok::<_, ShelfError>((young, old))
            })
            .await;
        assert_eq!(dropped, Ok((0, 1)));
    }

    #[tokio::test]
    async fn what_waits_is_bounded_for_each_sender_however_many_origins_it_invents() {
        let room = EventId::from_hash([9; 32]).as_room();
        let counts = Graph::in_memory()
            .run(move |store| {
                let mut number = 0_u64;
                let mut keep = |sender: &str, size: usize| {
                    number += 1;
                    let mut hash = [0; 32];
                    hash[..8].copy_from_slice(&number.to_be_bytes());
                    let origin = ServerName::parse(&format!("s{number}.example")).expect("a name");
                    let pending = Pending {
                        bytes: vec![0; size],
                        pushed_by: Some(ServerName::parse(sender).expect("a name")),
                    };
                    store.put_pending(&EventId::from_hash(hash), &room, &origin, &pending, 1)
                };
                let mut counts = Vec::new();
                for (sender, size) in [("a.example", 10), ("b.example", 65_536)] {
                    let mut count = 0;
                    while keep(sender, size)? {
                        count += 1;
                    }
                    counts.push(count);
                }
                Ok::<_, ShelfError>(counts)
            })
            .await;
        assert_eq!(counts, Ok(vec![1000, 256]));
    }

    #[tokio::test]
    async fn what_waits_already_is_there_when_it_comes_again_though_there_is_no_more_place() {
        let room = EventId::from_hash([9; 32]).as_room();
        let origin = ServerName::parse("a.example").expect("a name");
        let kept = Graph::in_memory()
            .run(move |store| {
                let pending = Pending {
                    bytes: vec![0; 10],
                    pushed_by: Some(origin.clone()),
                };
                let keep = |number: u16| {
                    let mut hash = [0; 32];
                    hash[..2].copy_from_slice(&number.to_be_bytes());
                    store.put_pending(&EventId::from_hash(hash), &room, &origin, &pending, 1)
                };
                for number in 0..1000 {
                    assert!(keep(number)?);
                }
                Ok::<_, ShelfError>((keep(1000)?, keep(7)?))
            })
            .await;
        assert_eq!(kept, Ok((false, true)));
    }
}
