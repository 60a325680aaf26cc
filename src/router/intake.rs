//! Where reports come in: each network's [`Reports`](comity_bridge::Reports) end here.

use std::sync::Arc;

use async_trait::async_trait;
use comity_bridge::report::Intake;
use comity_bridge::{
    Answer, Batch, Capabilities, Channel, ChannelState, Clock, NetworkName, NetworkStatus,
    Remembered, Skip, Verdict,
};

use super::Router;
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
                    tracing::info!(%network, reason = refusal.as_str(), "refused an incoming item");
                    self.metrics.refused(network, refusal.as_str());
                }
            }
        }
        Answer::Committed(verdicts)
    }

    fn skip(&self, network: &NetworkName, skip: Skip) {
        tracing::info!(%network, reason = skip.reason, detail = skip.detail, "skipped");
        self.metrics.refused(network, skip.reason);
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
                tracing::error!(%network, %error, "what was kept for the network cannot be read");
                Remembered::default()
            }
        }
    }
}
