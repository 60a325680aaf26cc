//! Taking events in: judged one by one, kept in one transaction, what is missing fetched from the sender (PROTOCOL 10).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::{StreamExt as _, stream};
use http::Method;
use tokio::time::Instant;

use crate::graph::{Pending, Store, passed_over};
use crate::ident::{EventId, RoomId, ServerName};
use crate::node::Node;
use crate::session::judge::{Acceptance, Context, Fetched, Judgement, Via, judge};
use crate::session::{MemberBody, Room, Shelf as _, ShelfError, Stage};
use crate::wire::api::{EventResult, GET_PATH, Get, GetAnswer, MAX_ANSWER, MAX_GET_IDS, Status};
use crate::wire::event::{Event, Reject};
use crate::wire::keys::KeyDocument;

/// How often the sender is asked for what is missing.
const MAX_ROUNDS: usize = 10;
/// Events that waited and are judged again in one transaction; the others stay where they are until the room is looked at again.
const MAX_RETRIED: usize = 1000;
/// Servers asked for their keys at once.
const KEYS_AT_ONCE: usize = 8;
/// What an event touches that cannot be read any more.
const DAMAGE: &str = "what an event builds on";

/// What became of the events of one push.
pub(super) struct Taken {
    pub(super) results: Vec<EventResult>,
    /// The last arrival among what was accepted; 0 if nothing was.
    pub(super) arrival: i64,
}

/// Takes what `peer` pushed. One bad event never spoils the others.
pub(super) async fn receive(
    node: &Arc<Node>,
    peer: &ServerName,
    pushed: Vec<Result<Event, Reject>>,
) -> Result<Taken, ShelfError> {
    let mut work = Work {
        results: pushed
            .iter()
            .map(|event| {
                event
                    .as_ref()
                    .err()
                    .map(|reject| EventResult::rejected(None, *reject))
            })
            .collect(),
        pushed,
        ..Work::default()
    };
    for round in 0..=MAX_ROUNDS {
        work.last = round == MAX_ROUNDS;
        work = run(node, peer, work).await?;
        if work.is_done() {
            break;
        }
        // What it builds on may be part of what this peer is being asked for now: no need to go there step by step.
        let is_asked = node.catch_up.is_asking(peer);
        let keys = fetch_keys(node, &mut work).await;
        let progress = keys | (!is_asked && fetch_events(node, peer, &mut work).await);
        if !progress {
            work.last = true;
            work = run(node, peer, work).await?;
            break;
        }
    }
    let results: Vec<EventResult> = work.results.into_iter().flatten().collect();
    if results.iter().any(|result| result.status == Status::Need) {
        // More is missing than can be fetched while the peer waits.
        node.catch_up.lacks(peer, Instant::now());
    }
    Ok(Taken {
        results,
        arrival: work.arrival,
    })
}

/// Takes in events that were asked for because we missed them; what they name and is not among them is fetched as for a push.
/// Returns how many were accepted, and the last arrival.
pub async fn take_given(
    node: &Arc<Node>,
    peer: &ServerName,
    room: &RoomId,
    given: Vec<Event>,
) -> Result<(usize, i64), ShelfError> {
    let fetched = given
        .into_iter()
        .map(|event| (event.id.clone(), event))
        .collect();
    let work = Work {
        room: Some(room.clone()),
        fetched,
        ..Work::default()
    };
    take_rounds(node, peer, work).await
}

/// The same for events of which only the names are known: from them backwards, as far as ten rounds reach.
pub async fn take_named(
    node: &Arc<Node>,
    peer: &ServerName,
    room: &RoomId,
    names: Vec<EventId>,
) -> Result<(usize, i64), ShelfError> {
    let mut work = Work {
        room: Some(room.clone()),
        missing: names.into_iter().collect(),
        ..Work::default()
    };
    fetch_events(node, peer, &mut work).await;
    take_rounds(node, peer, work).await
}

async fn take_rounds(
    node: &Arc<Node>,
    peer: &ServerName,
    mut work: Work,
) -> Result<(usize, i64), ShelfError> {
    for round in 0..=MAX_ROUNDS {
        work.last = round == MAX_ROUNDS;
        work = run(node, peer, work).await?;
        if work.fetched.is_empty() || work.last {
            break;
        }
        let progress =
            fetch_keys(node, &mut work).await | fetch_events(node, peer, &mut work).await;
        if !progress {
            work.last = true;
            work = run(node, peer, work).await?;
            break;
        }
    }
    Ok((work.taken, work.arrival))
}

/// The state of one push between rounds.
#[derive(Default)]
struct Work {
    /// The room of what was asked for.
    room: Option<RoomId>,
    pushed: Vec<Result<Event, Reject>>,
    /// Filled as events are decided; `None` while something is missing.
    results: Vec<Option<EventResult>>,
    /// What was asked for and not accepted yet.
    fetched: HashMap<EventId, Event>,
    missing: BTreeSet<EventId>,
    unknown_keys: BTreeSet<ServerName>,
    /// Servers that were not asked for their keys, for want of a place: whether they are there is not known.
    unasked: BTreeSet<ServerName>,
    arrival: i64,
    /// How many of `fetched` were accepted.
    taken: usize,
    /// Nothing more will be fetched: what cannot be decided now waits or is refused.
    last: bool,
}

impl Work {
    /// Whether the event's origin was asked for its keys, as far as it will be.
    fn asked(&self, event: &Event) -> bool {
        self.last && !self.unasked.contains(&event.origin)
    }

    fn is_done(&self) -> bool {
        self.results.iter().all(Option::is_some)
    }
}

async fn run(node: &Arc<Node>, peer: &ServerName, work: Work) -> Result<Work, ShelfError> {
    let mut work = verify_ahead(node, work).await?;
    let (node_inside, peer) = (Arc::clone(node), peer.clone());
    node.graph
        .run(move |store| {
            one_round(&node_inside, store, &peer, &mut work)?;
            Ok(work)
        })
        .await
}

/// Compares signatures with the keys that are at hand. That is most of the work that an event makes, and one thread has the graph.
async fn verify_ahead(node: &Arc<Node>, mut work: Work) -> Result<Work, ShelfError> {
    let node = Arc::clone(node);
    let verified = tokio::task::spawn_blocking(move || {
        let undecided = work.pushed.iter_mut().zip(&work.results);
        let undecided = undecided.filter(|(_, result)| result.is_none());
        let pushed = undecided.filter_map(|(event, _)| event.as_mut().ok());
        for event in pushed.chain(work.fetched.values_mut()) {
            if let Some(keys) = node.keyring.cached(&event.origin) {
                event.verify_ahead(&keys);
            }
        }
        work
    });
    // It is cancelled when everything ends; a panic is that of whoever asked.
    verified
        .await
        .map_err(|error| match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => ShelfError::Closed,
        })
}

fn one_round(
    node: &Node,
    store: &Store<'_>,
    peer: &ServerName,
    work: &mut Work,
) -> Result<(), ShelfError> {
    work.missing.clear();
    work.unknown_keys.clear();
    let mut rooms = BTreeSet::new();
    if take_fetched(node, store, work)? {
        rooms.extend(work.room.clone());
    }
    for index in 0..work.pushed.len() {
        if work.results.get(index).is_some_and(Option::is_some) {
            continue;
        }
        let Some(Ok(event)) = work.pushed.get(index) else {
            continue;
        };
        // A room that cannot be read is judged below, where that costs its own events alone.
        let room = passed_over(DAMAGE, store.room(&event.room))?.flatten();
        if room.is_some_and(|room| room.stage == Stage::Joining) {
            // Our own join of the room is under way: what comes meanwhile is asked for when it is done (PROTOCOL 12.5).
            let joining = EventResult::of(Some(event.id.clone()), Status::Need);
            if let Some(slot) = work.results.get_mut(index) {
                *slot = Some(joining);
            }
            continue;
        }
        let id = Some(event.id.clone());
        let via = Via::Push(peer);
        let judgement = take(node, store, event, context(node, via, work.asked(event)));
        let Some(judgement) = passed_over(DAMAGE, judgement)? else {
            // Kept by the sender for a while, and asked for again: one room's damage is not the others'.
            if let Some(slot) = work.results.get_mut(index) {
                *slot = Some(EventResult::of(id, Status::Need));
            }
            continue;
        };
        let result = match judgement {
            Judgement::Accept(how) => {
                work.arrival = work.arrival.max(store.arrival(&event.id)?);
                rooms.insert(event.room.clone());
                let status = if how.unproved {
                    Status::Pending
                } else {
                    Status::Ok
                };
                Some(EventResult::of(id, status))
            }
            Judgement::Duplicate => {
                // It may be here and not confirmed by the gateway yet: this answer has to wait for it, too.
                work.arrival = work.arrival.max(store.arrival(&event.id)?);
                Some(EventResult::of(id, Status::Dup))
            }
            Judgement::Reject(reject) => {
                if reject == Reject::OwnName {
                    look_for_lost(node, event);
                }
                Some(EventResult::rejected(id, reject))
            }
            Judgement::Need(missing) => {
                let result = work.last.then(|| EventResult {
                    need: missing.clone(),
                    ..EventResult::of(id, Status::Need)
                });
                work.missing.extend(missing);
                result
            }
            Judgement::NeedKeys(server, missing) => {
                work.unknown_keys.insert(server);
                // What waits for the same keys is missing, and does not have to be sent again.
                let result = match (work.last, store.unknown(&missing)?.is_empty()) {
                    (false, _) => None,
                    (true, true) => Some(keep_waiting(node, store, event, peer)?),
                    (true, false) => Some(EventResult {
                        need: missing.clone(),
                        ..EventResult::of(id, Status::Need)
                    }),
                };
                work.missing.extend(missing);
                result
            }
        };
        if let Some(slot) = work.results.get_mut(index) {
            *slot = result;
        }
    }
    for room in rooms {
        work.arrival = work.arrival.max(retry_pending(node, store, &room)?);
    }
    Ok(())
}

/// Judges an event and keeps it, if it is accepted; what is damaged undoes nothing but that.
fn take(
    node: &Node,
    store: &Store<'_>,
    event: &Event,
    context: Context<'_>,
) -> Result<Judgement, ShelfError> {
    if settle(node, store, event)? {
        // What disagreed with the document in the room waited for the comparison.
        retry_pending(node, store, &event.room)?;
    }
    let judgement = judge(event, store, &context)?;
    if let Judgement::Accept(how) = &judgement {
        store.apart(|store| store.put(event, *how))?;
    }
    Ok(judgement)
}

/// Compares the keys under which the event's origin speaks in the room with what it publishes, when that was not possible before and
/// is now. First of all: the places of a forger's events in the chain belong to the origin. Returns whether it did.
pub(super) fn settle(node: &Node, store: &Store<'_>, event: &Event) -> Result<bool, ShelfError> {
    Ok(store.is_unproved(&event.room, &event.origin)?
        && settle_origin(node, store, &event.room, &event.origin)?)
}

fn settle_origin(
    node: &Node,
    store: &Store<'_>,
    room: &RoomId,
    origin: &ServerName,
) -> Result<bool, ShelfError> {
    let Some(fetched) = fetched(node)(origin) else {
        return Ok(false);
    };
    let settled = store.apart(|store| store.settle(node.server(), room, origin, &fetched))?;
    if settled {
        // It hears from us now, and may ask for more.
        node.catch_up.owe(origin);
        tracing::info!(%room, %origin, "the keys of a server are compared: what it said is shown");
    } else {
        tracing::warn!(%room, %origin, "somebody has spoken in the name of a server that was out of reach");
        let detail = format!("events in {room} that bear the name of {origin}, and not its keys");
        node.reports.skip("rejected", detail);
    }
    node.arrived.notify_one();
    Ok(true)
}

/// The same for one of many: damage to one origin's keys delays no other.
fn settle_one(
    node: &Node,
    store: &Store<'_>,
    room: &RoomId,
    origin: &ServerName,
) -> Result<(), ShelfError> {
    passed_over(DAMAGE, settle_origin(node, store, room, origin)).map(drop)
}

/// Takes in what was fetched, ancestors first: what lies deeper in the graph needs what does not.
/// Returns whether anything was.
fn take_fetched(node: &Node, store: &Store<'_>, work: &mut Work) -> Result<bool, ShelfError> {
    let before = work.taken;
    let mut order: Vec<EventId> = work.fetched.keys().cloned().collect();
    order.sort_by_key(|id| work.fetched.get(id).map(|event| (event.depth, event.seq)));
    for id in order {
        let Some(event) = work.fetched.get(&id) else {
            continue;
        };
        let judgement = take(
            node,
            store,
            event,
            context(node, Via::Get, work.asked(event)),
        );
        let Some(judgement) = passed_over(DAMAGE, judgement)? else {
            work.fetched.remove(&id);
            continue;
        };
        match judgement {
            Judgement::Accept(_) => {
                work.arrival = work.arrival.max(store.arrival(&id)?);
                work.taken += 1;
                work.fetched.remove(&id);
            }
            Judgement::Need(missing) => work.missing.extend(missing),
            Judgement::NeedKeys(server, missing) => {
                work.unknown_keys.insert(server);
                let lacks_keys_alone = store.unknown(&missing)?.is_empty();
                work.missing.extend(missing);
                if work.last && work.room.is_some() && lacks_keys_alone {
                    wait_for_keys(node, store, event, None)?;
                }
            }
            Judgement::Duplicate => {
                work.fetched.remove(&id);
            }
            Judgement::Reject(reject) => {
                if reject == Reject::OwnName {
                    look_for_lost(node, event);
                }
                tracing::debug!(event = %id, code = reject.code(), "fetched event refused");
                work.fetched.remove(&id);
            }
        }
    }
    Ok(work.taken > before)
}

/// Judges again what waited in a room, as long as that brings something. Events whose origin's keys are still not here cost nothing
/// but the look at whose they are: strangers may have left them. Returns the last arrival.
pub(super) fn retry_pending(
    node: &Node,
    store: &Store<'_>,
    room: &RoomId,
) -> Result<i64, ShelfError> {
    let (mut arrival, mut left) = (0, MAX_RETRIED);
    let mut progress = true;
    while std::mem::take(&mut progress) {
        for origin in store.waiting_origins(room)? {
            // What waits although there is a document, not compared yet, waits for the comparison.
            let is_decidable = || -> Result<bool, ShelfError> {
                let posted = passed_over(DAMAGE, store.keys(room, &origin, u64::MAX))?.flatten();
                Ok(posted.is_some() && !store.is_unproved(room, &origin)?)
            };
            if node.keyring.cached(&origin).is_none() && !is_decidable()? {
                continue;
            }
            let waiting = store.pending(room, &origin, left)?;
            left -= waiting.len();
            for pending in waiting {
                if let Some(accepted) = retry(node, store, &pending)? {
                    arrival = arrival.max(accepted);
                    progress = true;
                }
            }
        }
    }
    Ok(arrival)
}

/// Judges one event that waited. Returns its arrival when it is accepted.
fn retry(node: &Node, store: &Store<'_>, pending: &Pending) -> Result<Option<i64>, ShelfError> {
    let Ok(event) = Event::parse(&pending.bytes) else {
        return Ok(None);
    };
    let via = pending.pushed_by.as_ref().map_or(Via::Get, Via::Push);
    let judgement = take(node, store, &event, context(node, via, true));
    match passed_over(DAMAGE, judgement)? {
        Some(Judgement::Accept(_)) => return Ok(Some(store.arrival(&event.id)?)),
        Some(Judgement::Duplicate | Judgement::Reject(_)) => store.forget_pending(&event.id)?,
        Some(Judgement::Need(_) | Judgement::NeedKeys(..)) | None => {}
    }
    Ok(None)
}

/// An event with our name and our signature that is not here was said by us and lost: the graph is an older copy. What we say now
/// has numbers that are taken, and others hide it as they hide a forger's.
fn look_for_lost(node: &Node, event: &Event) {
    if event.verify(&node.document()).is_err() {
        return;
    }
    node.reports.skip(
        "own_event_lost",
        format!("event {} of {}", event.id, event.room),
    );
    if !node.is_behind.swap(true, Ordering::Relaxed) {
        tracing::error!(
            room = %event.room, event = %event.id, seq = event.seq,
            "the federation's graph lacks what this gateway has said: it is an older copy, or somebody else has the signing key; others hide what is said now, so stop the gateway and put the last graph.sqlite back"
        );
    }
}

fn keep_waiting(
    node: &Node,
    store: &Store<'_>,
    event: &Event,
    peer: &ServerName,
) -> Result<EventResult, ShelfError> {
    let id = Some(event.id.clone());
    if wait_for_keys(node, store, event, Some(peer))? {
        Ok(EventResult::of(id, Status::Pending))
    } else {
        Ok(EventResult::rejected(id, Reject::Quota))
    }
}

fn wait_for_keys(
    node: &Node,
    store: &Store<'_>,
    event: &Event,
    pushed_by: Option<&ServerName>,
) -> Result<bool, ShelfError> {
    let pending = Pending {
        bytes: event.bytes().to_vec(),
        pushed_by: pushed_by.cloned(),
    };
    let now = i64::try_from(node.now_ms()).unwrap_or(i64::MAX);
    store.put_pending(&event.id, &event.room, &event.origin, &pending, now)
}

/// Fetches the key documents that were missing. Returns whether one was got.
async fn fetch_keys(node: &Node, work: &mut Work) -> bool {
    let mut progress = false;
    for server in std::mem::take(&mut work.unknown_keys) {
        if !node.lists.admit(&server) {
            continue;
        }
        match node.keyring.get(&server, None, node.now_ms()).await {
            Ok(_) => progress = true,
            Err(error) => {
                tracing::debug!(%server, %error, "keys missing");
                if error.is_ours() {
                    work.unasked.insert(server);
                } else {
                    work.unasked.remove(&server);
                }
            }
        }
    }
    progress
}

/// Asks the sender for what its events name. Returns whether something new came.
async fn fetch_events(node: &Node, peer: &ServerName, work: &mut Work) -> bool {
    let undecided = work
        .pushed
        .iter()
        .zip(&work.results)
        .find_map(|(event, result)| match (event, result) {
            (Ok(event), None) => Some(event.room.clone()),
            _ => None,
        });
    let Some(room) = work.room.clone().or(undecided) else {
        return false;
    };
    let ids: Vec<EventId> = work
        .missing
        .iter()
        .filter(|id| !work.fetched.contains_key(*id))
        .take(MAX_GET_IDS)
        .cloned()
        .collect();
    if ids.is_empty() {
        return false;
    }
    let asked: BTreeSet<EventId> = ids.iter().cloned().collect();
    let body = serde_json::to_vec(&Get { room, ids }).expect("names only");
    let answer: GetAnswer = match node
        .ask(peer, Method::POST, GET_PATH, body, MAX_ANSWER)
        .await
    {
        Ok(answer) => answer,
        Err(error) => {
            tracing::debug!(%peer, %error, "missing events not fetched");
            return false;
        }
    };
    let before = work.fetched.len();
    for raw in answer.events.into_iter().take(MAX_GET_IDS) {
        // Only what was asked for: the answer is no way to push past the checks of a push.
        if let Ok(event) = Event::parse(raw.get().as_bytes())
            && asked.contains(&event.id)
        {
            work.fetched.insert(event.id.clone(), event);
        }
    }
    work.fetched.len() > before
}

fn context<'a>(node: &'a Node, via: Via<'a>, asked: bool) -> Context<'a> {
    Context {
        own: node.server(),
        via,
        fetched: fetched(node),
        asked,
    }
}

fn fetched(node: &Node) -> Fetched<'_> {
    Box::new(|server| {
        // Our own events come back to us in the answer to a join.
        if server == node.server() {
            return Some(node.document());
        }
        node.keyring
            .cached(server)
            .map(|document| KeyDocument::clone(&document))
    })
}

/// What a joiner got in answer to its join.
pub struct Entry {
    pub room: Room,
    pub genesis: Event,
    /// Authorisation, state and edges, in any order.
    pub events: Vec<Event>,
    pub heads: Vec<EventId>,
    /// Our own keys and join.
    pub own: Vec<Event>,
}

/// Why an answer to our join is not believed.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    #[error("an event of the answer is refused: {0}")]
    Refused(#[from] Reject),
    #[error("the answer lacks {0}")]
    Lacks(&'static str),
}

/// Takes in the answer to our join (PROTOCOL 12.3). The genesis was checked by the caller. What cannot be verified
/// yet, since its origin's keys are out of reach, waits.
pub fn take_entry(node: &Node, store: &Store<'_>, entry: &Entry) -> Result<(), EntryError> {
    let edge = Acceptance {
        edge: true,
        ..Acceptance::default()
    };
    if store.kept(&entry.genesis.id)?.is_none() {
        store.put(&entry.genesis, edge)?;
    }
    let mut left: Vec<&Event> = entry
        .events
        .iter()
        .filter(|event| event.room == entry.room.id)
        .collect();
    left.sort_by_key(|event| (event.kind != "key.doc", event.depth, event.seq));
    // In as many rounds as bring something: a membership waits for what it relies on.
    loop {
        let mut waiting = Vec::new();
        for event in &left {
            // The keys were asked for before.
            let judgement = settle(node, store, event)
                .and_then(|_| judge(event, store, &context(node, Via::Join, true)));
            let Some(judgement) = passed_over(DAMAGE, judgement)? else {
                continue;
            };
            match judgement {
                Judgement::Accept(Acceptance { unproved, .. }) => {
                    store.put(event, Acceptance { unproved, ..edge })?;
                }
                Judgement::Duplicate => {}
                Judgement::Need(_) | Judgement::NeedKeys(..) => waiting.push(*event),
                // The server that we joined at vouches for its own events at least.
                Judgement::Reject(reject) => {
                    tracing::warn!(event = %event.id, code = reject.code(), "event in the answer to a join refused");
                    node.reports.skip(
                        "malformed",
                        format!(
                            "an event in the answer to a join is refused: {}",
                            reject.code()
                        ),
                    );
                }
            }
        }
        if waiting.len() == left.len() || waiting.is_empty() {
            left = waiting;
            break;
        }
        left = waiting;
    }
    for event in left {
        wait_for_keys(node, store, event, None)?;
    }
    for event in &entry.own {
        if store.kept(&event.id)?.is_none() {
            store.put(event, edge)?;
        }
    }
    // The ends of chains that others have built on are known, but are no heads.
    let own: Vec<&EventId> = entry.own.iter().map(|event| &event.id).collect();
    for head in store.heads(&entry.room.id)? {
        let is_own_last = own.last().is_some_and(|last| **last == head.id);
        if !is_own_last && !entry.heads.contains(&head.id) {
            store.not_a_head(&head.id)?;
        }
    }
    let resident_is_in = entry.events.iter().any(|event| {
        event.kind == "member"
            && MemberBody::of(event).is_some_and(|body| body.user == event.origin.gateway())
    });
    if !resident_is_in {
        return Err(EntryError::Lacks("a server that is in the room"));
    }
    store.put_room(&entry.room)?;
    Ok(())
}

/// Asks for the keys that were not to be had before, shows what was held for them, and judges again what waits.
pub async fn retry_all_pending(node: &Arc<Node>) -> Result<(), ShelfError> {
    let unproved = node.graph.run(|store| store.unproved()).await?;
    for (room, origin) in with_keys(node, unproved).await {
        let inside = Arc::clone(node);
        node.graph
            .run(move |store| settle_one(&inside, store, &room, &origin))
            .await?;
    }
    let waiting = node.graph.run(|store| store.pending_origins()).await?;
    for (room, _) in with_keys(node, waiting).await {
        let inside = Arc::clone(node);
        node.graph
            .run(move |store| passed_over(DAMAGE, retry_pending(&inside, store, &room)))
            .await?;
        node.arrived.notify_one();
    }
    Ok(())
}

/// Those whose keys are to be had. A server that does not answer is asked less and less often; each attempt keeps one place of a few
/// for its five seconds, and the answer is there when the last one is.
async fn with_keys(
    node: &Arc<Node>,
    origins: Vec<(RoomId, ServerName)>,
) -> Vec<(RoomId, ServerName)> {
    stream::iter(origins)
        .map(|(room, origin)| async move {
            let is_admitted = node.lists.admit(&origin);
            let has_keys =
                is_admitted && node.keyring.get(&origin, None, node.now_ms()).await.is_ok();
            has_keys.then_some((room, origin))
        })
        .buffer_unordered(KEYS_AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await
}
