//! One question to one peer, and the fetching of what its answer shows to be missing.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use comity_bridge::{Answer, Batch, Gap, Timestamp};
use http::Method;

use crate::ident::{EventId, RoomId, ServerName};
use crate::node::{Node, RequestError};
use crate::server::{take_given, take_named};
use crate::session::{Room, Shelf as _, ShelfError};
use crate::wire::api::{
    HEADS_PATH, Heads, HeadsAnswer, MAX_ANSWER, MAX_HEADS_ROOMS, MAX_MISSED, MISSED_PATH, Missed,
    MissedAnswer,
};
use crate::wire::event::Event;

/// Heads of one room that are looked at.
const MAX_HEADS: usize = 100;
/// Pages fetched of one room in one round.
const MAX_PAGES: usize = 1000;
/// Events of one round that may be refused before the peer is not believed any more.
const MAX_REFUSED: usize = 1000;
/// How long one round may take.
const MAX_ROUND: Duration = Duration::from_secs(15 * 60);
/// How long a gateway that takes nothing is left alone before it is told of a gap again.
const BUSY_WAIT: Duration = Duration::from_millis(500);

/// Why a peer was not asked to the end.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    #[error("shut out by allow or deny")]
    ShutOut,
    #[error("it took too long")]
    Slow,
}

/// Asks `peer` for the heads of the rooms that we share, and fetches what we lack.
pub(super) async fn ask(node: &Arc<Node>, peer: &ServerName) -> Result<(), AskError> {
    if !node.lists.admit(peer) {
        return Err(AskError::ShutOut);
    }
    tokio::time::timeout(MAX_ROUND, ask_all(node, peer))
        .await
        .unwrap_or(Err(AskError::Slow))
}

async fn ask_all(node: &Arc<Node>, peer: &ServerName) -> Result<(), AskError> {
    let name = peer.clone();
    let shared = node.graph.run(move |store| store.rooms_with(&name)).await?;
    let mut first = Ok(());
    for rooms in shared.chunks(MAX_HEADS_ROOMS) {
        let ids = rooms.iter().map(|room| room.id.clone()).collect();
        let body = serde_json::to_vec(&Heads { rooms: ids }).expect("names only");
        let mut answer: HeadsAnswer = node
            .ask(peer, Method::POST, HEADS_PATH, body, MAX_ANSWER)
            .await?;
        for room in rooms {
            if let Some(mut told) = answer.rooms.remove(&room.id) {
                told.heads.truncate(MAX_HEADS);
                // One room's trouble is not the others'; it is asked about again with the next question.
                let caught_up = catch_up(node, peer, room, told.heads).await;
                first = first.and(caught_up);
            }
        }
    }
    first
}

async fn catch_up(
    node: &Arc<Node>,
    peer: &ServerName,
    room: &Room,
    heads: Vec<EventId>,
) -> Result<(), AskError> {
    let lacking = unknown(node, heads).await?;
    if lacking.is_empty() {
        return Ok(());
    }
    let last_heard = last_heard(node, &room.id).await?;
    let mut fetch = Fetch {
        node,
        peer,
        room: &room.id,
        given: HashSet::new(),
        taken: 0,
    };
    fetch.pages().await?;
    // What was given and refused is no gap: it is known what it is.
    let mut still = unknown(node, lacking).await?;
    still.retain(|head| !fetch.given.contains(head));
    if !still.is_empty() {
        fetch.by_name(still.clone()).await?;
        still = unknown(node, still).await?;
    }
    if fetch.taken > 0 {
        tracing::info!(%peer, room = %room.alias, events = fetch.taken, "caught up");
    }
    if !still.is_empty() {
        tracing::warn!(%peer, room = %room.alias, "the peer names events that it does not give");
        tell_gap(node, room, last_heard).await;
    }
    Ok(())
}

async fn unknown(node: &Node, ids: Vec<EventId>) -> Result<Vec<EventId>, ShelfError> {
    node.graph.run(move |store| store.unknown(&ids)).await
}

/// When something was last said in the room, as far as we know.
async fn last_heard(node: &Node, room: &RoomId) -> Result<u64, ShelfError> {
    let room = room.clone();
    let heads = node.graph.run(move |store| store.heads(&room)).await?;
    let now = node.now_ms();
    let last = heads.iter().map(|head| head.hlc.0).max();
    Ok(last.unwrap_or(now).min(now))
}

/// What nobody gives us is a gap. One that is told once need not be told again by every peer, or at every question.
async fn tell_gap(node: &Node, room: &Room, last_heard: u64) {
    if !node.catch_up.may_tell_gap(&room.id) {
        return;
    }
    let Some(channel) = node.channel(&room.alias) else {
        return;
    };
    let batch = Batch {
        gaps: vec![Gap {
            channel,
            from: Timestamp(i64::try_from(last_heard).unwrap_or(i64::MAX)),
            until: node.clock.now(),
        }],
        ..Batch::default()
    };
    while node.reports.commit(batch.clone()).await == Answer::Busy {
        tokio::time::sleep(BUSY_WAIT).await;
    }
}

/// The fetching of one room's events from one peer.
struct Fetch<'a> {
    node: &'a Arc<Node>,
    peer: &'a ServerName,
    room: &'a RoomId,
    /// What the peer gave, taken or not.
    given: HashSet<EventId>,
    taken: usize,
}

impl Fetch<'_> {
    async fn pages(&mut self) -> Result<(), AskError> {
        let room = self.room.clone();
        let mut have = self.node.graph.run(move |store| store.tips(&room)).await?;
        for _ in 0..MAX_PAGES {
            let answer = match self.page(&have).await {
                Ok(answer) => answer,
                // An older version, which can only be asked by name.
                Err(RequestError::Refused {
                    status: 404 | 501, ..
                }) => break,
                Err(error) => return Err(error.into()),
            };
            let events = self.read(&answer, &mut have);
            if events.is_empty() {
                break;
            }
            let (taken, arrival) = take_given(self.node, self.peer, self.room, events).await?;
            self.taken += taken;
            self.confirmed(arrival).await?;
            let refused = self.given.len().saturating_sub(self.taken);
            if !answer.more || refused > MAX_REFUSED {
                break;
            }
        }
        Ok(())
    }

    /// What is named and does not come with a page, as the second of two events with one number: by name, and from there backwards.
    async fn by_name(&mut self, names: Vec<EventId>) -> Result<(), AskError> {
        let (taken, arrival) = take_named(self.node, self.peer, self.room, names).await?;
        self.taken += taken;
        self.confirmed(arrival).await
    }

    async fn page(&self, have: &BTreeMap<ServerName, u64>) -> Result<MissedAnswer, RequestError> {
        let missed = Missed {
            room: self.room.clone(),
            have: have.clone(),
        };
        let body = serde_json::to_vec(&missed).expect("names and numbers");
        let (method, path) = (Method::POST, MISSED_PATH);
        self.node
            .ask(self.peer, method, path, body, MAX_ANSWER)
            .await
    }

    /// The events of a page that go beyond what was had before, whatever becomes of them: so that every page is further on.
    fn read(&mut self, answer: &MissedAnswer, have: &mut BTreeMap<ServerName, u64>) -> Vec<Event> {
        let before = have.clone();
        let mut events = Vec::new();
        for raw in answer.events.iter().take(MAX_MISSED) {
            let Ok(event) = Event::parse(raw.get().as_bytes()) else {
                let why = format!("an event that {} says we missed", self.peer);
                self.node.reports.skip("malformed", why);
                continue;
            };
            let is_further = before.get(&event.origin).is_none_or(|seq| event.seq > *seq);
            if event.room == *self.room && is_further && self.given.insert(event.id.clone()) {
                let last = have.entry(event.origin.clone()).or_insert(event.seq);
                *last = event.seq.max(*last);
                events.push(event);
            }
        }
        events
    }

    /// Wakes the reporter and lets the gateway take what there is before more is fetched.
    async fn confirmed(&self, arrival: i64) -> Result<(), AskError> {
        self.node.arrived.notify_one();
        let mut progress = self.node.progress.subscribe();
        let confirmed = progress.wait_for(|progress| progress.reported >= arrival);
        confirmed.await.map_err(|_| ShelfError::Closed)?;
        Ok(())
    }
}
