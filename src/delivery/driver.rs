//! The task around a lane: the room's log in, the bridge's requests out, receipts back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use comity_bridge::delivery::Receipt;
use comity_bridge::{
    Capabilities, Channel, ChannelState, Clock, Content, Delivery, DeliveryKey, Event, EventId,
    Receipts, Refs, Request, Timestamp,
};
use comity_net::Backoff;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::degrade::{Fit, fit};
use super::lane::{Failure, Lane, Note};
use crate::board::ChannelBoard;
use crate::journal::{Journal, JournalError, LaneId, Logged, Tail};
use crate::metrics::NetworkMetrics;
use crate::notice::Addressed;

/// No window is larger: the bridges' request queues are made for that.
pub const WINDOW_LIMIT: usize = 256;

/// How long to wait for a bridge whose queue is full.
const BREATH: Duration = Duration::from_millis(50);

/// Events looked ahead.
const PAGE: usize = 64;

/// The bridge's requests, while there is a bridge.
pub type RequestSlot = watch::Receiver<Option<mpsc::Sender<Request>>>;

/// Fires when lanes shall hand over nothing more and end when all is back.
pub type Drain = CancellationToken;

/// Everything that one lane needs.
pub struct LaneTask {
    /// Where it shows events.
    pub channel: Channel,
    /// Its number in the journal.
    pub id: LaneId,
    /// Where it stood.
    pub start: crate::journal::LaneStart,
    /// The log.
    pub journal: Journal,
    /// The log's end.
    pub tail: Arc<Tail>,
    /// Whether the channel can be written to; depth and age for people.
    pub board: Arc<ChannelBoard>,
    /// What the channel can show.
    pub capabilities: watch::Receiver<Capabilities>,
    /// The bridge.
    pub requests: RequestSlot,
    /// Counters of the network.
    pub metrics: NetworkMetrics,
    /// Wall clock, for dead letters and latency.
    pub clock: Clock,
    /// Ends the lane.
    pub drain: Drain,
}

struct Driver {
    task: LaneTask,
    lane: Lane,
    page: VecDeque<Arc<Event>>,
    /// When the events in the bridge's hands were received.
    received: VecDeque<(u64, Timestamp)>,
    to_lane: mpsc::UnboundedSender<(u64, Receipt)>,
    backoff: Backoff,
    retry_at: Option<Instant>,
    writing: Option<Writing>,
}

struct Writing {
    durable: oneshot::Receiver<()>,
    done: u64,
    tried: u64,
    plans: Vec<oneshot::Sender<()>>,
}

impl LaneTask {
    /// Runs until drained.
    pub async fn run(self) {
        let channel = self.channel.clone();
        let (to_lane, receipts) = mpsc::unbounded_channel();
        let driver = Driver {
            lane: Lane::new(self.start.clone()),
            task: self,
            page: VecDeque::new(),
            received: VecDeque::new(),
            to_lane,
            backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(15 * 60)),
            retry_at: None,
            writing: None,
        };
        if let Err(error) = driver.run(receipts).await {
            tracing::error!(%channel, error = &error as &dyn std::error::Error, "the lane stops: its journal cannot be used");
        }
    }
}

impl Driver {
    async fn run(
        mut self,
        mut receipts: mpsc::UnboundedReceiver<(u64, Receipt)>,
    ) -> Result<(), JournalError> {
        let mut head = self.task.tail.head();
        let mut state = self.task.board.state.subscribe();
        let mut paused = self.task.board.paused.subscribe();
        let mut capabilities = self.task.capabilities.clone();
        let mut requests = self.task.requests.clone();
        let drain = self.task.drain.clone();
        let mut arrived = Vec::new();
        loop {
            let window = capabilities.borrow_and_update().window.min(WINDOW_LIMIT);
            self.lane.set_window(window);
            let joined = *state.borrow_and_update() == ChannelState::Joined;
            let open = paused.borrow_and_update().is_none();
            let bridge = if joined && open && !drain.is_cancelled() {
                requests.borrow_and_update().clone()
            } else {
                None
            };
            let last = *head.borrow_and_update();
            self.fill(last, bridge).await?;
            if self.writing.is_none() {
                self.begin_write().await?;
            }
            self.show(last);
            if drain.is_cancelled() && self.lane.is_idle() && self.writing.is_none() {
                return Ok(());
            }
            let retry_at = self.retry_at;
            tokio::select! {
                count = receipts.recv_many(&mut arrived, WINDOW_LIMIT) => {
                    debug_assert!(count > 0, "the lane holds a sender itself");
                    for (seq, receipt) in arrived.drain(..) {
                        self.receipt(seq, receipt);
                    }
                    self.settle();
                }
                () = durable(&mut self.writing) => {
                    if let Some(writing) = self.writing.take() {
                        self.lane.written(writing.done, writing.tried);
                        for plan in writing.plans {
                            plan.send(()).ok();
                        }
                    }
                }
                changed = head.changed() => {
                    if changed.is_err() { return Err(JournalError::Closed) }
                }
                changed = state.changed() => {
                    if changed.is_err() { return Ok(()) }
                    // The network is back: what it could not take before it may take now.
                    if *state.borrow() == ChannelState::Joined {
                        self.backoff.reset();
                        self.retry_at = None;
                    }
                }
                changed = requests.changed() => {
                    if changed.is_err() { return Ok(()) }
                }
                Ok(()) = capabilities.changed() => {}
                Ok(()) = paused.changed() => {}
                () = wait_until(retry_at) => self.retry_at = None,
                () = drain.cancelled(), if !drain.is_cancelled() => {}
            }
        }
    }

    /// Hands over what may be handed over.
    async fn fill(
        &mut self,
        last: u64,
        bridge: Option<mpsc::Sender<Request>>,
    ) -> Result<(), JournalError> {
        loop {
            while self.lane.step_over_finished() {}
            if self.lane.next() > last {
                return Ok(());
            }
            if self.page.front().map(|event| event.seq) != Some(self.lane.next()) {
                self.turn_page().await?;
            }
            let Some(event) = self
                .page
                .front()
                .filter(|event| event.seq == self.lane.next())
            else {
                // A damaged row; the reader has said so.
                self.lane.pass();
                continue;
            };
            let elsewhere = event.only().is_some_and(|only| only != self.task.channel);
            if elsewhere || event.origin.is(&self.task.channel) {
                self.page.pop_front();
                self.lane.pass();
                continue;
            }
            let Some(bridge) = &bridge else { return Ok(()) };
            if self.retry_at.is_some() || !self.lane.may_hand_over() {
                return Ok(());
            }
            let fitted = fit(event, &self.task.capabilities.borrow());
            match fitted {
                Fit::Pass(reason) => {
                    tracing::debug!(channel = %self.task.channel, event = %event.id, reason, "not shown");
                    self.page.pop_front();
                    self.lane.pass();
                }
                Fit::Show(event) => {
                    let Ok(permit) = bridge.try_reserve() else {
                        // Larger windows than the queue was made for, or a bridge that is just ending.
                        self.retry_at = Some(Instant::now() + BREATH);
                        return Ok(());
                    };
                    let seq = event.seq;
                    let refs = self.refs(&event.content).await?;
                    let plan = if self.lane.attempted_before(seq) {
                        self.task.journal.plan(self.task.id, seq).await?
                    } else {
                        None
                    };
                    let attempt = self.lane.hand_over();
                    self.received.push_back((seq, event.received));
                    self.page.pop_front();
                    permit.send(Request::Deliver(Delivery {
                        key: DeliveryKey {
                            event: event.id,
                            channel: self.task.channel.clone(),
                        },
                        event,
                        refs,
                        late: None,
                        attempt: attempt.number,
                        doubt: attempt.doubt,
                        plan,
                        receipts: Receipts::new(seq, self.to_lane.clone()),
                    }));
                }
            }
        }
    }

    async fn turn_page(&mut self) -> Result<(), JournalError> {
        let after = self.lane.next() - 1;
        self.page = match self.task.tail.after(after, PAGE) {
            Some(events) => events.into(),
            None => {
                let logged = self.task.journal.events(self.task.id, after).await?;
                logged
                    .into_iter()
                    .filter_map(|logged| self.readable(logged))
                    .collect()
            }
        };
        Ok(())
    }

    /// The event, when the disk still has it whole.
    fn readable(&self, logged: Logged) -> Option<Arc<Event>> {
        match logged {
            Logged::Event(event) => Some(event),
            Logged::Damaged { seq, why } => {
                tracing::error!(channel = %self.task.channel, seq, why, "a damaged event in the journal is passed over");
                None
            }
        }
    }

    async fn refs(&self, content: &Content<EventId>) -> Result<Refs, JournalError> {
        let target = match content {
            Content::Message(message) => message.reply_to,
            Content::Edit(edit) => Some(edit.target),
            Content::Redact(redact) => Some(redact.target),
            Content::React(react) => Some(react.target),
            _ => None,
        };
        match target {
            Some(target) => Ok(Refs {
                target: self.task.journal.native_ids(self.task.id, target).await?,
            }),
            None => Ok(Refs::default()),
        }
    }

    fn receipt(&mut self, seq: u64, receipt: Receipt) {
        let now = self.task.clock.now();
        match self.lane.receipt(seq, receipt, now) {
            Some(Note::Shown(seq)) => {
                self.backoff.reset();
                let received = self
                    .received
                    .iter()
                    .find(|(known, _)| *known == seq)
                    .map_or(now, |(_, at)| *at);
                let took = u64::try_from(now.0 - received.0).unwrap_or(0);
                self.task.metrics.event_out(Duration::from_millis(took));
                tracing::trace!(channel = %self.task.channel, seq, took_ms = took, "shown");
            }
            Some(Note::Dead(seq, why)) => {
                tracing::error!(channel = %self.task.channel, seq, %why, "given up, kept as a dead letter");
                self.task.metrics.dead_letter(why.reason());
            }
            None => {}
        }
    }

    fn settle(&mut self) {
        let done = self.lane.done();
        self.received.retain(|(seq, _)| *seq > done);
        let Some(Failure { after, why }) = self.lane.settle() else {
            return;
        };
        self.received.clear();
        self.page.clear();
        let wait = self.backoff.next_wait().max(after);
        self.retry_at = Some(Instant::now() + wait);
        let reason = why.as_ref().map_or("not_attempted", |why| why.reason());
        self.task.metrics.retry(reason);
        let why = why.map_or_else(|| "not attempted".to_owned(), |why| why.to_string());
        tracing::info!(channel = %self.task.channel, why, wait_ms = wait.as_millis() as u64, "will try again");
    }

    async fn begin_write(&mut self) -> Result<(), JournalError> {
        let Some(write) = self.lane.take_write() else {
            return Ok(());
        };
        let (done, tried) = (write.write.done, write.write.tried);
        let durable = self
            .task
            .journal
            .write_lane(self.task.id, write.write)
            .await?;
        self.writing = Some(Writing {
            durable,
            done,
            tried,
            plans: write.plans,
        });
        Ok(())
    }

    fn show(&self, last: u64) {
        self.task
            .board
            .done
            .store(self.lane.done(), Ordering::Relaxed);
        self.task
            .board
            .depth
            .store(last.saturating_sub(self.lane.done()), Ordering::Relaxed);
        let waiting = self.received.front().map(|(_, at)| *at);
        let oldest = waiting.or_else(|| self.page.front().map(|event| event.received));
        self.task
            .board
            .oldest
            .store(oldest.map_or(0, |at| at.0), Ordering::Relaxed);
    }
}

/// Waits for the write that is under way; for ever when there is none.
async fn durable(writing: &mut Option<Writing>) {
    match writing {
        // A journal that ends without an answer is seen by the next write.
        Some(writing) => drop((&mut writing.durable).await),
        None => std::future::pending().await,
    }
}

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
