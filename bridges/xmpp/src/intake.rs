//! What was said, on its way into the journal, with how far each room has been heard.
//!
//! A component's link has no acknowledgement and cannot be stopped without losing everything else on it, so reading goes on
//! while a commit is under way. Nothing is lost with it: a room's mark is committed with the message that it stands behind,
//! never before, and what finds no place here is read from the room's archive later on. The session counts the places.

use std::collections::VecDeque;
use std::time::Duration;

use comity_bridge::failpoint::reached;
use comity_bridge::{Answer, Batch, Gap, Incoming, Reports};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// Items that wait for the journal or are on their way into it.
const MAX_WAITING: usize = 1_000;
/// Items of one batch.
const MAX_BATCH: usize = 256;
/// How long a busy gateway is left alone.
const BUSY_WAIT: Duration = Duration::from_millis(250);

/// One thing to be kept.
#[derive(Default)]
pub(crate) struct Item {
    pub(crate) incoming: Option<Incoming>,
    pub(crate) gap: Option<Gap>,
    /// A key and its value; of two for one key in a batch the later one counts.
    pub(crate) write: Option<(String, String)>,
}

/// The queue in front of the journal.
pub(crate) struct Intake {
    reports: Reports,
    waiting: VecDeque<Item>,
    commit: Option<Commit>,
}

/// A batch under way, and when to offer it again once the gateway was busy.
struct Commit {
    batch: Batch,
    items: usize,
    task: JoinHandle<Answer>,
    again: Option<Instant>,
}

impl Intake {
    pub(crate) fn new(reports: Reports) -> Self {
        Self {
            reports,
            waiting: VecDeque::new(),
            commit: None,
        }
    }

    /// How many more items there is a place for.
    pub(crate) fn free(&self) -> usize {
        let under_way = self.commit.as_ref().map_or(0, |commit| commit.items);
        MAX_WAITING.saturating_sub(self.waiting.len() + under_way)
    }

    pub(crate) fn push(&mut self, item: Item) {
        self.waiting.push_back(item);
    }

    /// Hands the next batch over, if none is under way. What came in one wake-up is one batch.
    pub(crate) fn offer(&mut self) {
        if self.commit.is_some() || self.waiting.is_empty() {
            return;
        }
        let items = self.waiting.len().min(MAX_BATCH);
        let mut batch = Batch::default();
        for item in self.waiting.drain(..items) {
            batch.incoming.extend(item.incoming);
            batch.gaps.extend(item.gap);
            if let Some((key, value)) = item.write {
                batch.writes.retain(|(earlier, _)| *earlier != key);
                batch.writes.push((key, value));
            }
        }
        if !batch.incoming.is_empty() {
            reached("xmpp.parsed");
        }
        self.commit = Some(Commit {
            task: self.ask(&batch),
            batch,
            items,
            again: None,
        });
    }

    fn ask(&self, batch: &Batch) -> JoinHandle<Answer> {
        let (reports, batch) = (self.reports.clone(), batch.clone());
        tokio::spawn(async move { reports.commit(batch).await })
    }

    /// Drives the commit under way; returns when there is something to see, never while there is none.
    pub(crate) async fn advance(&mut self) {
        let Some(commit) = &mut self.commit else {
            return std::future::pending().await;
        };
        if let Some(again) = commit.again {
            sleep_until(again).await;
            commit.again = None;
            let batch = commit.batch.clone();
            let reports = self.reports.clone();
            commit.task = tokio::spawn(async move { reports.commit(batch).await });
            return;
        }
        match (&mut commit.task).await {
            Ok(Answer::Committed(_)) => {
                if !commit.batch.incoming.is_empty() {
                    reached("xmpp.committed");
                }
                self.commit = None;
                self.offer();
            }
            // A gateway that dies in a commit has not answered it: the same batch again is safe.
            Ok(Answer::Busy) | Err(_) => commit.again = Some(Instant::now() + BUSY_WAIT),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.commit.is_none() && self.waiting.is_empty()
    }
}
