//! What was said, on its way into the journal.
//!
//! A component's link has no acknowledgement and cannot be stopped without losing everything else
//! on it, so reading goes on while a commit is under way; what then does not fit is a gap, counted and logged.

use std::collections::VecDeque;
use std::time::Duration;

use comity_bridge::{Answer, Batch, Incoming, Reports};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// Messages that wait for the journal.
const MAX_WAITING: usize = 1_000;
/// Messages of one batch.
const MAX_BATCH: usize = 256;
/// How long a busy gateway is left alone.
const BUSY_WAIT: Duration = Duration::from_millis(250);

/// The queue in front of the journal.
pub(crate) struct Intake {
    reports: Reports,
    waiting: VecDeque<Incoming>,
    commit: Option<Commit>,
    /// Messages left out since the last one that fitted.
    gap: u64,
}

/// A batch under way, and when to offer it again once the gateway was busy.
struct Commit {
    batch: Batch,
    task: JoinHandle<Answer>,
    again: Option<Instant>,
}

impl Intake {
    pub(crate) fn new(reports: Reports) -> Self {
        Self {
            reports,
            waiting: VecDeque::new(),
            commit: None,
            gap: 0,
        }
    }

    pub(crate) fn push(&mut self, incoming: Incoming) {
        if self.waiting.len() >= MAX_WAITING {
            self.gap += 1;
            self.reports.skip(
                "gap",
                format!(
                    "{}: the journal is behind, {} left out",
                    incoming.channel, self.gap
                ),
            );
            return;
        }
        self.gap = 0;
        self.waiting.push_back(incoming);
        self.offer();
    }

    fn offer(&mut self) {
        if self.commit.is_some() || self.waiting.is_empty() {
            return;
        }
        let count = self.waiting.len().min(MAX_BATCH);
        let batch = Batch {
            incoming: self.waiting.drain(..count).collect(),
            ..Batch::default()
        };
        self.commit = Some(Commit {
            task: self.ask(&batch),
            batch,
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
            let batch = commit.batch.clone();
            let task = self.ask(&batch);
            self.commit = Some(Commit {
                batch,
                task,
                again: None,
            });
            return;
        }
        match (&mut commit.task).await {
            Ok(Answer::Committed(_)) => {
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
