//! Where reports come in: each network's [`Reports`](comity_bridge::Reports) end here.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use comity_bridge::report::{Gap, Intake, Refusal};
use comity_bridge::{
    Answer, Batch, Capabilities, Channel, ChannelState, Clock, Incoming, NetworkName,
    NetworkStatus, Remembered, RoomAddress, Skip, Timestamp, Verdict,
};
use tokio::time::Instant;

use super::Router;
use super::gaps;
use super::loop_guard::{Breaker, Finding};
use super::pace::Pace;
use super::pauses::Pauses;
use super::quota::{Quota, Turn};
use crate::board::Board;
use crate::config::Config;
use crate::grumbles::{Grumble, Grumbles};
use crate::journal::{Append, Entry, Journal};
use crate::metrics::Metrics;

/// How long to wait before reading again what could not be read.
const UNREADABLE: Duration = Duration::from_secs(5);

/// The gateway's side of every bridge's reports.
pub struct Gate {
    router: Router,
    journal: Journal,
    board: Arc<Board>,
    metrics: Metrics,
    clock: Clock,
    quota: Quota,
    breaker: Arc<Breaker>,
    pauses: Pauses,
    pace: Pace,
    /// Networks whose gaps are said in the rooms' other channels.
    say_gaps: HashSet<NetworkName>,
    grumbles: Grumbles,
}

impl Gate {
    /// The gate to a journal. Nothing may come in before [`Gate::begin`].
    pub fn new(config: &Config, journal: Journal, board: Arc<Board>, metrics: Metrics) -> Self {
        let rooms: Vec<(RoomAddress, Vec<Channel>)> = config
            .rooms
            .iter()
            .map(|room| (room.address.clone(), room.channels.clone()))
            .collect();
        let networks: Vec<NetworkName> = config
            .networks
            .iter()
            .map(|network| network.name.clone())
            .collect();
        let say_gaps = config.networks.iter().filter(|n| n.delivery.say_gaps);
        let say_gaps = say_gaps.map(|network| network.name.clone()).collect();
        let router = Router::new(&config.gateway.domain, &rooms);
        let breaker = Arc::new(Breaker::new(&rooms));
        let mut pace = Pace::default();
        for (room, channels) in &rooms {
            if let Some(tail) = journal.tail(room) {
                let lanes = channels.iter().filter_map(|channel| board.channel(channel));
                pace.add(room.clone(), tail.head(), lanes.cloned());
            }
        }
        let logs = rooms.into_iter().filter_map(|(room, channels)| {
            let head = journal.tail(&room)?.head();
            Some((room, channels, head))
        });
        Gate {
            quota: Quota::new(&config.journal, &board, &networks, logs),
            pauses: Pauses::new(Arc::clone(&board), metrics.clone()),
            breaker,
            pace,
            router,
            journal,
            board,
            metrics,
            clock: Clock::System,
            say_gaps,
            grumbles: Grumbles::default(),
        }
    }

    /// Every lane has its place now.
    pub fn begin(&self) {
        self.quota.begin();
    }

    /// The operator says that no foreign bridge sends a channel's messages back any more. False when none did.
    pub fn resume(&self, channel: &Channel) -> bool {
        if let Some(room) = self.router.room(channel) {
            self.breaker.forget(room, channel);
        }
        self.pauses.end(channel)
    }

    /// Refuses what comes back through a foreign bridge, and pauses the channel that it comes back in.
    fn break_circles(&self, entry: Entry, received: Timestamp) -> Entry {
        let Entry::Event(draft) = &entry else {
            return entry;
        };
        match self.breaker.hear(draft, Instant::now()) {
            Finding::Pass => return entry,
            Finding::Refuse => {}
            Finding::Open(length) => {
                tracing::error!(
                    channel = %draft.channel,
                    author = draft.author.id,
                    pause_s = length.as_secs(),
                    "a foreign bridge sends our messages back; the channel is paused and nothing is taken from that author"
                );
                self.pauses.begin(&draft.channel, received, length);
            }
        }
        Entry::Refused(Refusal::Loop)
    }

    /// Brings the figures of what waits up to date.
    pub fn count_waiting(&self) {
        let (networks, all) = self.quota.waiting();
        for (network, events) in networks {
            self.metrics.network(network).waiting(events);
        }
        self.metrics.waiting_in_all(all);
    }

    /// Asks whether a network may send more, and says so when that has changed.
    fn may_send(&self, network: &NetworkName) -> bool {
        let leave = self.quota.ask(network);
        match leave.network {
            Some(Turn::Reached) => {
                self.metrics.network(network).quota_reached(true);
                tracing::warn!(%network, "so many of the network's events wait that no more are taken");
            }
            Some(Turn::Left) => {
                self.metrics.network(network).quota_reached(false);
                tracing::info!(%network, "the network's events are taken again");
            }
            None => {}
        }
        match leave.all {
            Some(Turn::Reached) => {
                tracing::warn!("so many events wait that no more are taken from any network");
            }
            Some(Turn::Left) => tracing::info!("events are taken again"),
            None => {}
        }
        leave.granted
    }

    /// Puts a batch off. What it says of our own messages is stored all the same: that makes nothing wait, it ends waiting.
    async fn put_off(&self, network: &NetworkName, incoming: Vec<Incoming>) {
        let own = incoming.into_iter().filter(|i| i.own.is_some());
        let now = self.clock.now();
        let entries: Vec<Entry> = own.map(|i| self.router.admit(network, i, now)).collect();
        if !entries.is_empty() {
            let append = Append {
                network: network.clone(),
                entries,
                cursor: None,
                writes: Vec::new(),
            };
            // The batch comes again with all of it.
            self.journal.append(append).await;
        }
    }

    /// What is said of a batch's gaps.
    fn gap_notices(&self, network: &NetworkName, gaps: &[Gap], now: Timestamp) -> Vec<Entry> {
        if !self.say_gaps.contains(network) {
            return Vec::new();
        }
        let ours = gaps.iter().filter(|gap| gap.channel.network() == network);
        ours.filter_map(|gap| self.router.gap_notice(gap, now))
            .map(|draft| Entry::Event(Box::new(draft)))
            .collect()
    }

    /// Counts what waits from now on, room by room.
    fn count_accepted(&self, network: &NetworkName, runs: &[Run], verdicts: &[Verdict]) {
        let mut verdicts = verdicts.iter();
        for (room, length) in runs {
            let of_run = verdicts.by_ref().take(*length);
            let accepted = of_run.filter(|verdict| matches!(verdict, Verdict::Accepted(_)));
            let accepted = accepted.count() as u64;
            if let Some(room) = room.as_ref().filter(|_| accepted > 0) {
                self.quota.committed(network, room, accepted);
            }
        }
    }

    fn count_gaps(&self, network: &NetworkName, gaps: &[Gap]) {
        for gap in gaps {
            self.metrics.network(network).gap();
            tracing::warn!(
                channel = %gap.channel,
                from = crate::utc::exactly(gap.from),
                until = crate::utc::exactly(gap.until),
                seconds = gaps::seconds(gap),
                "messages of this time may be missing"
            );
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

/// So many entries in turn of one room, or of none.
type Run = (Option<RoomAddress>, usize);

fn runs(entries: &[Entry]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for entry in entries {
        let room = match entry {
            Entry::Event(draft) => Some(&draft.room),
            Entry::Receipt(..) | Entry::Refused(_) => None,
        };
        match runs.last_mut() {
            Some((known, length)) if known.as_ref() == room => *length += 1,
            _ => runs.push((room.cloned(), 1)),
        }
    }
    runs
}

#[async_trait]
impl Intake for Gate {
    async fn commit(&self, network: &NetworkName, batch: Batch) -> Answer {
        let brings_events = batch.incoming.iter().any(|i| i.own.is_none());
        if brings_events && !self.may_send(network) {
            self.metrics.network(network).busy("quota");
            self.put_off(network, batch.incoming).await;
            return Answer::Busy;
        }
        let received = self.clock.now();
        // A gap is before what the batch brings.
        let mut entries = self.gap_notices(network, &batch.gaps, received);
        let notices = entries.len();
        entries.extend(
            batch
                .incoming
                .into_iter()
                .map(|i| self.break_circles(self.router.admit(network, i, received), received)),
        );
        let runs = runs(&entries);
        let append = Append {
            network: network.clone(),
            entries,
            cursor: batch.cursor,
            writes: batch.writes,
        };
        let Some(mut verdicts) = self.journal.append(append).await else {
            self.metrics.network(network).busy("journal");
            return Answer::Busy;
        };
        self.count_gaps(network, &batch.gaps);
        self.count_accepted(network, &runs, &verdicts);
        verdicts.drain(..notices);
        let counters = self.metrics.network(network);
        for verdict in &verdicts {
            match verdict {
                Verdict::Accepted(event) => {
                    tracing::trace!(%network, %event, "accepted");
                    counters.event_in();
                }
                Verdict::Duplicate(_) => counters.duplicate(),
                Verdict::Receipt => {}
                Verdict::Refused(refusal) => {
                    self.grumble(network, refusal.as_str(), "refused by the router");
                }
            }
        }
        let until = Pace::limit();
        for room in runs.iter().filter_map(|(room, _)| room.as_ref()) {
            self.pace.keep(room, until).await;
        }
        Answer::Committed(verdicts)
    }

    fn skip(&self, network: &NetworkName, skip: Skip) {
        self.grumble(network, skip.reason, &skip.detail);
    }

    fn network(&self, network: &NetworkName, status: NetworkStatus) {
        match &status {
            NetworkStatus::Connecting => {}
            NetworkStatus::Online => self.metrics.network_online(network, true),
            NetworkStatus::Offline { .. } => {
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
        let mut said = false;
        loop {
            // A bridge that knew nothing would begin at its network's end, and keep that in the place of what it knew.
            let error = match self.journal.remembered(network).await {
                Ok(remembered) => return remembered,
                Err(error) => error,
            };
            if !std::mem::replace(&mut said, true) {
                tracing::error!(%network, error = &error as &dyn std::error::Error, "what was kept for the network cannot be read: its bridge does not begin");
                let why = "what was kept for it in the journal cannot be read".to_owned();
                self.network(network, NetworkStatus::Offline { why });
            }
            tokio::time::sleep(UNREADABLE).await;
        }
    }
}

#[cfg(test)]
#[path = "intake_tests.rs"]
mod tests;
