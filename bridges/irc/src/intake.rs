//! What was heard and is not committed yet. The connection is read on while a commit runs; what
//! does not fit any more is a gap, and counted as one.

use std::{pin::Pin, time::Duration};

use comity_bridge::{Answer, Batch, Incoming, Reports};
use tokio::time::sleep;

/// Messages that may wait for a commit. IRC cannot be told to wait.
const MAX_WAITING: usize = 1000;

/// How long to wait when the gateway is busy.
const BUSY_PAUSE: Duration = Duration::from_millis(200);

type Commit = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(crate) struct Intake {
    reports: Reports,
    waiting: Vec<Incoming>,
    committing: Option<Commit>,
}

impl Intake {
    pub(crate) fn new(reports: Reports) -> Self {
        Self {
            reports,
            waiting: Vec::new(),
            committing: None,
        }
    }

    pub(crate) fn add(&mut self, incoming: Incoming) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push(incoming);
        } else {
            self.reports.skip(
                "gap",
                format!("{}: too much is waiting for the journal", incoming.channel),
            );
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.committing.is_none()
    }

    /// Brings one batch into the journal. Can be dropped and called again at any time; waits
    /// for ever when there is nothing to do.
    pub(crate) async fn progress(&mut self) {
        if self.committing.is_none() && !self.waiting.is_empty() {
            let incoming = std::mem::take(&mut self.waiting);
            self.committing = Some(Box::pin(commit(self.reports.clone(), incoming)));
        }
        match &mut self.committing {
            Some(committing) => committing.await,
            None => std::future::pending().await,
        }
        self.committing = None;
    }
}

async fn commit(reports: Reports, incoming: Vec<Incoming>) {
    loop {
        let batch = Batch {
            incoming: incoming.clone(),
            cursor: None,
            writes: Vec::new(),
            gaps: Vec::new(),
        };
        match reports.commit(batch).await {
            // Whatever the verdicts are, the gateway has counted them, and IRC wants no answer.
            Answer::Committed(_) => return,
            Answer::Busy => sleep(BUSY_PAUSE).await,
        }
    }
}
