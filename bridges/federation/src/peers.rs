//! One durable queue for each peer, and the task that empties it (PROTOCOL 11).
//!
//! The queue itself is in the graph. A task exists only while something waits, so that thousands of peers cost
//! nothing while they are quiet. A peer may be away for a week; it gets everything, once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use comity_bridge::failpoint;
use comity_net::Backoff;
use http::Method;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::graph::Queued;
use crate::ident::{EventId, ServerName};
use crate::node::{Node, RequestError};
use crate::session::ShelfError;
use crate::wire::api::{
    self, EventResult, MAX_ANSWER, MAX_PUSH, MAX_PUSH_EVENTS, PUSH_PATH, Push, PushAnswer, Status,
};
use crate::wire::event::Event;
use crate::wire::sign::hash_text;

/// How often an event is tried that the peer does not take now: it may not have heard of our join yet, or have no place for it.
const MAX_NOT_NOW: u32 = 10;
/// How often an event is tried of which the peer lacks the beginnings. It asks for those itself, and for the event with them.
const MAX_LACKING: u32 = 10;

/// The longest that one room's trouble keeps the others from being sent.
const ONE_ROOM: Duration = Duration::from_secs(10);
/// However often a peer is heard, it is tried no sooner than this after a failure: two gateways must not wake each other for ever.
const BREATH: Duration = Duration::from_secs(1);

/// How many events wait for a peer, and for how long, before it is left to ask for them itself.
const MAX_QUEUED: usize = 10_000;
const HOLD_MS: u64 = 7 * 24 * 3600 * 1000;

/// The tasks under way.
#[derive(Default)]
pub struct Peers {
    tasks: Mutex<HashMap<ServerName, Arc<Task>>>,
}

#[derive(Default)]
struct Task {
    /// Something came in from this peer: it is there.
    heard: Notify,
    /// Something new waits. Set under the lock of `tasks`, so that a task never ends with work in its queue.
    work: std::sync::atomic::AtomicBool,
}

impl Peers {
    /// Something waits for `peer`: makes sure that a task works on it.
    pub fn wake(&self, node: &Arc<Node>, peer: &ServerName, shutdown: &CancellationToken) {
        let mut tasks = self.lock();
        let task = tasks.entry(peer.clone()).or_insert_with(|| {
            let task = Arc::new(Task::default());
            let (node, peer, shutdown) = (Arc::clone(node), peer.clone(), shutdown.clone());
            let run = Arc::clone(&task);
            let watched = Arc::clone(&node);
            watched.tasks.spawn("the queue of a peer", async move {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = empty(&node, &peer, &run) => {}
                }
            });
            task
        });
        task.work.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    /// Ends the waiting after a failure (PROTOCOL 11.2).
    pub fn heard_from(&self, peer: &ServerName) {
        if let Some(task) = self.lock().get(peer) {
            task.heard.notify_one();
        }
    }

    /// Ends a task unless something new came in meanwhile.
    fn end(&self, peer: &ServerName, task: &Task) -> bool {
        let mut tasks = self.lock();
        let ended = !task.work.swap(false, std::sync::atomic::Ordering::SeqCst);
        if ended {
            tasks.remove(peer);
        }
        ended
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ServerName, Arc<Task>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is not tried again.
#[derive(Clone, Copy)]
struct GivenUp {
    not_now: bool,
    lacking: bool,
}

/// Why a round ended without everything being taken.
enum Setback {
    /// Try again after the back-off, or after what the peer asked for.
    Later(String, Option<Duration>),
    /// So many events were too much for one push.
    TooLarge(usize),
    /// The peer does not let us into the room of this event, or has no place for it: both may change (PROTOCOL 9).
    NotNow,
    /// The peer lacks more than can be given it with a push.
    Lacking,
    Shelf(ShelfError),
}

async fn empty(node: &Node, peer: &ServerName, task: &Task) {
    let mut backoff = Backoff::default();
    let (mut not_now, mut lacking) = (0, 0);
    let mut most = MAX_PUSH_EVENTS;
    let mut was_away = false;
    loop {
        let given_up = GivenUp {
            not_now: not_now >= MAX_NOT_NOW,
            lacking: lacking >= MAX_LACKING,
        };
        let tried = round(node, peer, most, given_up).await;
        let failed = Instant::now();
        let (wait, soonest) = match tried {
            Ok(true) => {
                if std::mem::take(&mut was_away) {
                    // It was away, or we were: what it could not push to us in that time is asked for.
                    node.catch_up.owe(peer);
                }
                backoff.reset();
                (not_now, lacking) = (0, 0);
                continue;
            }
            Ok(false) if node.peers.end(peer, task) => return,
            Ok(false) => continue,
            Err(Setback::TooLarge(sent)) if most > 1 => {
                tracing::debug!(%peer, events = sent, "too large for one push");
                most = (most.min(sent) / 2).max(1);
                continue;
            }
            Err(Setback::TooLarge(_)) => {
                tracing::warn!(%peer, "something on the way to the peer takes not even one event in a push");
                (backoff.next_wait(), BREATH)
            }
            Err(Setback::NotNow) => {
                not_now += 1;
                (backoff.next_wait().min(ONE_ROOM), BREATH)
            }
            Err(Setback::Lacking) => {
                lacking += 1;
                // Heard from it is all the time now: every page that it asks for.
                sleep(backoff.next_wait().min(ONE_ROOM)).await;
                continue;
            }
            Err(Setback::Later(why, after)) => {
                if !was_away {
                    tracing::info!(%peer, why, "peer not reached, its queue waits");
                }
                was_away = true;
                give_up_long_queue(node, peer).await;
                let after = after.unwrap_or_default().max(BREATH);
                (backoff.next_wait().max(after), after)
            }
            Err(Setback::Shelf(error)) => {
                tracing::error!(%peer, %error, "queue of a peer not readable");
                (backoff.next_wait(), BREATH)
            }
        };
        tokio::select! {
            () = sleep(wait) => {}
            () = task.heard.notified() => {
                sleep_until(failed + soonest).await;
                backoff.reset();
            }
        }
    }
}

/// A queue does not grow for ever: beyond a bound, the peer gets nothing pushed and asks for all of it when it is back.
async fn give_up_long_queue(node: &Node, peer: &ServerName) {
    let (name, oldest) = (peer.clone(), node.now_ms().saturating_sub(HOLD_MS));
    let dropped = node
        .graph
        .run(move |store| store.drop_queue(&name, MAX_QUEUED, oldest))
        .await;
    match dropped {
        Ok(0) => {}
        Ok(events) => {
            tracing::warn!(%peer, events, "peer away for too long; it will ask for what it missed");
            node.catch_up.owe(peer);
        }
        Err(error) => tracing::error!(%peer, %error, "queue of a peer not readable"),
    }
}

/// Pushes what comes first in the queue. Returns false when the queue is empty.
async fn round(
    node: &Node,
    peer: &ServerName,
    most: usize,
    given_up: GivenUp,
) -> Result<bool, Setback> {
    if !node.lists.admit(peer) {
        return Err(Setback::Later("shut out by allow or deny".to_owned(), None));
    }
    let batch = load(node, peer, most).await?;
    if batch.is_empty() {
        return Ok(false);
    }
    let results = push(node, peer, &batch).await?;
    failpoint::reached("federation.written");
    let mut done = Vec::with_capacity(batch.len());
    let mut setback = None;
    for (event, mut result) in batch.iter().zip(results) {
        if result.status == Status::Need
            && let Some(second) = supply(node, peer, event, &result.need).await?
        {
            result = second;
        }
        let not_now = matches!(result.code.as_deref(), Some("forbidden" | "quota"));
        match result.status {
            Status::Ok | Status::Dup | Status::Pending => done.push(event.arrival),
            Status::Need if given_up.lacking => {
                tracing::info!(%peer, event = %event.id, "the peer lacks what it builds on, and is left to ask for both");
                done.push(event.arrival);
            }
            Status::Need => setback = setback.or(Some(Setback::Lacking)),
            Status::Reject if not_now && !given_up.not_now => {
                setback = setback.or(Some(Setback::NotNow))
            }
            Status::Reject => {
                let code = result.code.unwrap_or_default();
                tracing::warn!(%peer, event = %event.id, code, "peer rejects an event of ours");
                node.reports.skip(
                    "rejected_by_peer",
                    format!("{peer} rejects {} ({code})", event.id),
                );
                done.push(event.arrival);
            }
        }
    }
    let name = peer.clone();
    node.graph
        .run(move |store| store.dequeue(&name, &done))
        .await
        .map_err(Setback::Shelf)?;
    setback.map_or(Ok(true), Err)
}

async fn load(node: &Node, peer: &ServerName, most: usize) -> Result<Vec<Queued>, Setback> {
    let mut batch = loop {
        let name = peer.clone();
        let queue = node
            .graph
            .run(move |store| store.queue(&name, most))
            .await
            .map_err(Setback::Shelf)?;
        let (sound, damaged): (Vec<_>, Vec<_>) = queue.into_iter().partition(is_sound);
        if damaged.is_empty() {
            break sound;
        }
        for event in &damaged {
            tracing::error!(%peer, event = %event.id, "an event is damaged in the graph and not sent");
            let detail = format!("event {}, which waited for {peer}", event.id);
            node.reports.skip("damaged", detail);
        }
        let name = peer.clone();
        let lost: Vec<i64> = damaged.iter().map(|event| event.arrival).collect();
        node.graph
            .run(move |store| store.dequeue(&name, &lost))
            .await
            .map_err(Setback::Shelf)?;
    };
    let mut size = 0;
    // Half of the limit leaves room for the JSON around the events.
    let fits = batch
        .iter()
        .take_while(|event| {
            size += event.bytes.len();
            size <= MAX_PUSH / 2
        })
        .count();
    batch.truncate(fits.max(1));
    Ok(batch)
}

/// Whether the bytes are still the event that was kept: its id covers all of it.
fn is_sound(queued: &Queued) -> bool {
    Event::parse(&queued.bytes).is_ok_and(|event| event.id == queued.id)
}

/// Pushes events and returns one result for each.
async fn push(
    node: &Node,
    peer: &ServerName,
    batch: &[Queued],
) -> Result<Vec<EventResult>, Setback> {
    let ids: String = batch.iter().map(|event| event.id.as_str()).collect();
    // The same events have the same name, whenever they are sent again.
    let txn = hash_text(ids.as_bytes());
    let events = batch
        .iter()
        .filter_map(|event| api::raw(event.bytes.clone()))
        .collect();
    let body = serde_json::to_vec(&Push { txn, events })
        .map_err(|error| Setback::Later(error.to_string(), None))?;
    let answer: PushAnswer = node
        .ask(peer, Method::POST, PUSH_PATH, body, MAX_ANSWER)
        .await
        .map_err(|error| match &error {
            RequestError::Refused { status: 413, .. } => Setback::TooLarge(batch.len()),
            RequestError::Refused { retry_after, .. } => {
                let after = retry_after.map(|secs| Duration::from_secs(secs.min(900)));
                Setback::Later(error.to_string(), after)
            }
            _ => Setback::Later(error.to_string(), None),
        })?;
    if answer.results.len() != batch.len() {
        return Err(Setback::Later(
            "the answer has another number of results".to_owned(),
            None,
        ));
    }
    Ok(answer.results)
}

/// Gives the peer what an event of ours builds on, as it could not fetch that itself, and then the event again. Returns what became
/// of it; none when the peer lacks more than we can name: then it asks for all of it (PROTOCOL 16.2).
async fn supply(
    node: &Node,
    peer: &ServerName,
    event: &Queued,
    need: &[EventId],
) -> Result<Option<EventResult>, Setback> {
    let need: Vec<EventId> = need.iter().take(MAX_PUSH_EVENTS - 1).cloned().collect();
    let room = event.room.clone();
    let mut events = node
        .graph
        .run(move |store| store.queued(&room, &need))
        .await
        .map_err(Setback::Shelf)?;
    if events.is_empty() {
        return Ok(None);
    }
    events.retain(is_sound);
    events.push(event.clone());
    Ok(push(node, peer, &events).await?.pop())
}
