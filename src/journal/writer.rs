//! The writing thread: gathers while a commit runs, commits once for all, then answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use comity_bridge::{Event, RoomAddress, Verdict};
use tokio::sync::{mpsc, oneshot};

use super::sqlite::{Files, Store};
use super::{Append, Ask, LaneId, LaneWrite, Tails};
use crate::metrics::Metrics;

/// Asks gathered for one commit at the most, so that a commit stays a matter of milliseconds.
const GROUP: usize = 512;

/// How long to wait before trying again when the disk does not take it.
const PATIENCE: Duration = Duration::from_secs(1);

type LaneAsk = (LaneId, LaneWrite, oneshot::Sender<()>);
type AppendAsk = (Append, oneshot::Sender<Option<Vec<Verdict>>>);

pub(super) fn start(
    store: Store,
    files: Files,
    asks: mpsc::Receiver<Ask>,
    tails: Tails,
    pages: Arc<AtomicU64>,
    metrics: Metrics,
) -> JoinHandle<()> {
    thread::Builder::new()
        .name("journal".to_owned())
        .spawn(move || {
            Writer {
                store,
                tails,
                pages,
                metrics,
                lanes: Vec::new(),
                failing: false,
            }
            .run(asks);
            drop(files);
        })
        .expect("a thread can be started at start-up")
}

struct Writer {
    store: Store,
    tails: Tails,
    pages: Arc<AtomicU64>,
    metrics: Metrics,
    /// Lane writes that are not durable yet. At most one a lane: a lane waits for its last one.
    lanes: Vec<LaneAsk>,
    failing: bool,
}

impl Writer {
    fn run(mut self, mut asks: mpsc::Receiver<Ask>) {
        let mut group = Vec::with_capacity(GROUP);
        loop {
            if self.lanes.is_empty() {
                if asks.blocking_recv_many(&mut group, GROUP) == 0 {
                    return;
                }
            } else {
                // The last commit failed: lanes must not lose what they know, so try again.
                thread::sleep(PATIENCE);
                while group.len() < GROUP
                    && let Ok(ask) = asks.try_recv()
                {
                    group.push(ask);
                }
                if group.is_empty() && asks.is_closed() {
                    self.commit(Vec::new());
                    return;
                }
            }
            let mut appends = Vec::new();
            let mut closing = false;
            for ask in group.drain(..) {
                match ask {
                    Ask::Append(append, reply) => appends.push((append, reply)),
                    Ask::Lane(lane, write, durable) => self.lanes.push((lane, write, durable)),
                    Ask::Close => closing = true,
                    #[cfg(test)]
                    Ask::Hold(thaw) => drop(thaw.recv()),
                }
            }
            self.commit(appends);
            if closing {
                return;
            }
        }
    }

    fn commit(&mut self, appends: Vec<AppendAsk>) {
        let begun = Instant::now();
        let (appends, replies): (Vec<_>, Vec<_>) = appends.into_iter().unzip();
        match self.store.commit(appends, &self.lanes) {
            Ok(committed) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the journal takes writes again");
                }
                let events: usize = committed.events.values().map(Vec::len).sum();
                self.metrics.journal_commit(begun.elapsed(), events);
                self.pages.fetch_add(events as u64 + 1, Ordering::Relaxed);
                self.publish(committed.events);
                for (reply, verdicts) in replies.into_iter().zip(committed.verdicts) {
                    // A bridge that has gone reports again when it is back; the source ids tell.
                    drop(reply.send(Some(verdicts)));
                }
                for (_, _, durable) in self.lanes.drain(..) {
                    durable.send(()).ok();
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(%error, "the journal cannot write: new input is refused until it can");
                }
                for reply in replies {
                    drop(reply.send(None));
                }
            }
        }
    }

    fn publish(&self, events: BTreeMap<RoomAddress, Vec<Arc<Event>>>) {
        for (room, events) in events {
            if let Some(tail) = self.tails.get(&room) {
                tail.push(events);
            }
        }
    }
}
