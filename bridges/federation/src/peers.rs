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
use tokio_util::sync::CancellationToken;

use crate::graph::Queued;
use crate::ident::{EventId, ServerName};
use crate::node::{Node, RequestError};
use crate::session::ShelfError;
use crate::wire::api::{
    self, EventResult, MAX_ANSWER, MAX_PUSH, MAX_PUSH_EVENTS, PUSH_PATH, Push, PushAnswer, Status,
};
use crate::wire::sign::hash_text;

/// How often an event is tried that the peer calls forbidden: it may not have heard of our join yet.
const MAX_FORBIDDEN: u32 = 10;
/// How often an event is tried of which the peer lacks the beginnings. It asks for those itself, and for the event with them.
const MAX_LACKING: u32 = 10;

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
            tokio::spawn(async move {
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
    forbidden: bool,
    lacking: bool,
}

/// Why a round ended without everything being taken.
enum Setback {
    /// Try again after the back-off, or after what the peer asked for.
    Later(String, Option<Duration>),
    /// The peer does not let us into the room of this event.
    Forbidden,
    /// The peer lacks more than can be given it with a push.
    Lacking,
    Shelf(ShelfError),
}

async fn empty(node: &Node, peer: &ServerName, task: &Task) {
    let mut backoff = Backoff::default();
    let (mut forbidden, mut lacking) = (0, 0);
    loop {
        let given_up = GivenUp {
            forbidden: forbidden >= MAX_FORBIDDEN,
            lacking: lacking >= MAX_LACKING,
        };
        let wait = match round(node, peer, given_up).await {
            Ok(true) => {
                if backoff.tries() > 0 {
                    // It was away, or we were: what it could not push to us in that time is asked for.
                    node.catch_up.owe(peer);
                }
                backoff.reset();
                (forbidden, lacking) = (0, 0);
                continue;
            }
            Ok(false) if node.peers.end(peer, task) => return,
            Ok(false) => continue,
            Err(Setback::Forbidden) => {
                forbidden += 1;
                backoff.next_wait()
            }
            Err(Setback::Lacking) => {
                lacking += 1;
                // Heard from it is all the time now: every page that it asks for.
                tokio::time::sleep(backoff.next_wait()).await;
                continue;
            }
            Err(Setback::Later(why, after)) => {
                if backoff.tries() == 0 {
                    tracing::info!(%peer, why, "peer not reached, its queue waits");
                }
                give_up_long_queue(node, peer).await;
                backoff.next_wait().max(after.unwrap_or_default())
            }
            Err(Setback::Shelf(error)) => {
                tracing::error!(%peer, %error, "queue of a peer not readable");
                backoff.next_wait()
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = task.heard.notified() => backoff.reset(),
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
async fn round(node: &Node, peer: &ServerName, given_up: GivenUp) -> Result<bool, Setback> {
    if !node.lists.admit(peer) {
        return Err(Setback::Later("shut out by allow or deny".to_owned(), None));
    }
    let batch = load(node, peer).await?;
    if batch.is_empty() {
        return Ok(false);
    }
    let results = push(node, peer, &batch).await?;
    failpoint::reached("federation.written");
    let mut done = Vec::with_capacity(batch.len());
    let mut setback = None;
    for (event, result) in batch.iter().zip(results) {
        let forbidden = result.code.as_deref() == Some("forbidden");
        match result.status {
            Status::Ok | Status::Dup | Status::Pending => done.push(event.arrival),
            Status::Need if supply(node, peer, event, result.need).await? => {
                done.push(event.arrival);
            }
            Status::Need if given_up.lacking => {
                tracing::info!(%peer, event = %event.id, "the peer lacks what it builds on, and is left to ask for both");
                done.push(event.arrival);
            }
            Status::Need => setback = setback.or(Some(Setback::Lacking)),
            Status::Reject if forbidden && !given_up.forbidden => {
                setback = setback.or(Some(Setback::Forbidden))
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

async fn load(node: &Node, peer: &ServerName) -> Result<Vec<Queued>, Setback> {
    let name = peer.clone();
    let mut batch = node
        .graph
        .run(move |store| store.queue(&name, MAX_PUSH_EVENTS))
        .await
        .map_err(Setback::Shelf)?;
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
        .map_err(|error| {
            let after = match &error {
                RequestError::Refused { retry_after, .. } => {
                    retry_after.map(|secs| Duration::from_secs(secs.min(900)))
                }
                _ => None,
            };
            Setback::Later(error.to_string(), after)
        })?;
    if answer.results.len() != batch.len() {
        return Err(Setback::Later(
            "the answer has another number of results".to_owned(),
            None,
        ));
    }
    Ok(answer.results)
}

/// Gives the peer what an event of ours builds on, as it could not fetch that itself, and then the event again. Returns false when
/// the peer lacks more than that: then it asks for all of it (PROTOCOL 16.2).
async fn supply(
    node: &Node,
    peer: &ServerName,
    event: &Queued,
    mut need: Vec<EventId>,
) -> Result<bool, Setback> {
    need.truncate(MAX_PUSH_EVENTS - 1);
    let room = event.room.clone();
    let mut events = node
        .graph
        .run(move |store| store.queued(&room, &need))
        .await
        .map_err(Setback::Shelf)?;
    if events.is_empty() {
        return Ok(false);
    }
    events.push(event.clone());
    let results = push(node, peer, &events).await?;
    Ok(results
        .last()
        .is_some_and(|last| last.status != Status::Need))
}
