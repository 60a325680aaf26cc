//! Where reports come in: each network's [`Reports`](comity_bridge::Reports) end here.

use std::sync::Arc;

use async_trait::async_trait;
use comity_bridge::report::Intake;
use comity_bridge::{
    Answer, Batch, Capabilities, Channel, ChannelState, Clock, NetworkName, NetworkStatus,
    Remembered, Skip, Verdict,
};
use tokio::time::Instant;

use super::Router;
use super::grumbles::{Grumble, Grumbles};
use crate::board::Board;
use crate::journal::{Append, Journal};
use crate::metrics::Metrics;

/// The gateway's side of every bridge's reports.
pub struct Gate {
    /// Makes entries of reports.
    pub router: Router,
    /// Makes them durable.
    pub journal: Journal,
    /// Has the states.
    pub board: Arc<Board>,
    /// Counts.
    pub metrics: Metrics,
    /// Says what `received` is.
    pub clock: Clock,
    grumbles: Grumbles,
}

impl Gate {
    /// The gate to a journal.
    pub fn new(router: Router, journal: Journal, board: Arc<Board>, metrics: Metrics) -> Self {
        Gate {
            router,
            journal,
            board,
            metrics,
            clock: Clock::System,
            grumbles: Grumbles::default(),
        }
    }

    /// Counts what cannot be taken, and logs it while it is little.
    fn grumble(&self, network: &NetworkName, reason: &'static str, detail: &str) {
        self.metrics.refused(network, reason);
        match self.grumbles.hear(network, reason, Instant::now()) {
            Grumble::Line { left_out: 0 } => tracing::info!(%network, reason, detail, "skipped"),
            Grumble::Line { left_out } => {
                tracing::info!(%network, reason, left_out, "more were skipped than were logged");
                tracing::info!(%network, reason, detail, "skipped");
            }
            Grumble::LastLine => {
                tracing::info!(%network, reason, detail, "skipped; more for this reason are counted, not logged, for a minute");
            }
            Grumble::Silence => tracing::debug!(%network, reason, detail, "skipped"),
        }
    }
}

#[async_trait]
impl Intake for Gate {
    async fn commit(&self, network: &NetworkName, batch: Batch) -> Answer {
        let received = self.clock.now();
        let entries = batch
            .incoming
            .into_iter()
            .map(|i| self.router.admit(network, i, received))
            .collect();
        let append = Append {
            network: network.clone(),
            entries,
            cursor: batch.cursor,
            writes: batch.writes,
        };
        let Some(verdicts) = self.journal.append(append).await else {
            return Answer::Busy;
        };
        for verdict in &verdicts {
            match verdict {
                Verdict::Accepted(event) => {
                    tracing::trace!(%network, %event, "accepted");
                    self.metrics.event_in(network);
                }
                Verdict::Duplicate(_) => self.metrics.duplicate(network),
                Verdict::Receipt => {}
                Verdict::Refused(refusal) => {
                    self.grumble(network, refusal.as_str(), "refused by the router");
                }
            }
        }
        Answer::Committed(verdicts)
    }

    fn skip(&self, network: &NetworkName, skip: Skip) {
        self.grumble(network, skip.reason, &skip.detail);
    }

    fn network(&self, network: &NetworkName, status: NetworkStatus) {
        match &status {
            NetworkStatus::Connecting => tracing::debug!(%network, "connecting"),
            NetworkStatus::Online => {
                tracing::info!(%network, "online");
                self.metrics.network_online(network, true);
            }
            NetworkStatus::Offline { why } => {
                tracing::warn!(%network, why, "offline");
                self.metrics.network_online(network, false);
                self.metrics.reconnect(network);
            }
        }
        self.board.set_network(network, status);
    }

    fn channel(&self, channel: &Channel, state: ChannelState) {
        self.board.set_channel(channel, state);
    }

    fn capabilities(&self, network: &NetworkName, capabilities: Capabilities) {
        if let Some(board) = self.board.network(network) {
            board.capabilities.send_replace(capabilities);
        }
    }

    async fn remembered(&self, network: &NetworkName) -> Remembered {
        match self.journal.remembered(network).await {
            Ok(remembered) => remembered,
            Err(error) => {
                tracing::error!(%network, error = &error as &dyn std::error::Error, "what was kept for the network cannot be read");
                Remembered::default()
            }
        }
    }
}
