//! The task around a lane: the room's log in, the bridge's requests out, receipts back.
//!
//! What changes seldom (the channel's state, the bridge, a pause) is watched by a small task beside it, so that a wake-up for an event or a
//! receipt looks at nothing else.

mod outside;
mod turn;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use comity_bridge::delivery::Receipt;
use comity_bridge::{
    Capabilities, Channel, Clock, DeliveryError, Event, Outcome, Request, Timestamp,
};
use comity_net::Backoff;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::age::Ages;
use super::budget::{Budget, Share};
use super::handed::HandedOver;
use super::lane::{Failure, Lane, Need, Note, Write};
use super::notice::{Courtesy, Teller};
use crate::board::{ChannelBoard, Step, StepKind};
use crate::config::DeliveryConfig;
use crate::grumbles::{Grumble, Grumbles};
use crate::journal::{Journal, JournalError, LaneId, LaneWrite, Logged, Tail};
use crate::metrics::NetworkMetrics;
use outside::{Now, Outside};

/// No window is larger: the bridges' request queues are made for that.
pub const WINDOW_LIMIT: usize = 256;

/// How long a write may wait for others.
const LINGER: Duration = Duration::from_millis(2);

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
    /// Whether the channel can be written to; depth, age and steps for people.
    pub board: Arc<ChannelBoard>,
    /// What the channel can show.
    pub capabilities: watch::Receiver<Capabilities>,
    /// The bridge.
    pub requests: RequestSlot,
    /// How long things are held, and when they are late.
    pub config: DeliveryConfig,
    /// What it shares with the network's other lanes.
    pub budget: Arc<Budget>,
    /// Who is told of what could not be shown.
    pub courtesy: Arc<Courtesy>,
    /// Counters of the network.
    pub metrics: NetworkMetrics,
    /// Wall clock, for dead letters and ages.
    pub clock: Clock,
    /// Ends the lane.
    pub drain: Drain,
}

struct Driver {
    task: LaneTask,
    lane: Lane,
    /// What is known of the world outside.
    now: Now,
    page: VecDeque<Logged>,
    handed: HandedOver,
    to_lane: mpsc::UnboundedSender<(u64, Receipt)>,
    ages: Ages,
    share: Share,
    teller: Teller,
    grumbles: Grumbles,
    backoff: Backoff,
    retry_at: Option<Instant>,
    again_backoff: Backoff,
    again_at: Option<Instant>,
    /// A letter had the last turn: now it is a message's, if there is one.
    after_letter: bool,
    /// The dead letter that is being tried again, and since when.
    again_since: Option<(u64, Instant)>,
    /// When to look again though nothing has happened.
    look_at: Option<Instant>,
    /// Nothing was shown since.
    stuck_since: Instant,
    /// When what has become of deliveries is written at the latest.
    write_at: Option<Instant>,
    writing: Option<Writing>,
    steps: Vec<Step>,
}

struct Writing {
    durable: oneshot::Receiver<LaneWrite>,
    done: u64,
    tried: u64,
    plans: Vec<oneshot::Sender<()>>,
}

impl LaneTask {
    /// Runs until drained.
    pub async fn run(mut self) {
        let channel = self.channel.clone();
        let (to_lane, receipts) = mpsc::unbounded_channel();
        let start = std::mem::take(&mut self.start);
        let backoff = || Backoff::new(Duration::from_millis(500), Duration::from_secs(15 * 60));
        let driver = Driver {
            lane: Lane::new(start),
            now: Now::default(),
            page: VecDeque::new(),
            handed: HandedOver::default(),
            to_lane,
            ages: Ages::new(self.clock.clone()),
            share: Share::new(Arc::clone(&self.budget)),
            teller: Teller::new(Arc::clone(&self.courtesy), channel.clone()),
            grumbles: Grumbles::default(),
            backoff: backoff(),
            retry_at: None,
            again_backoff: backoff(),
            again_at: None,
            after_letter: false,
            again_since: None,
            look_at: None,
            stuck_since: Instant::now(),
            write_at: None,
            writing: None,
            steps: Vec::new(),
            task: self,
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
        let mut outside = Outside::watch(&self.task);
        let mut head = self.task.tail.head();
        let turn = self.share.wake();
        let mut arrived = Vec::new();
        self.look_outside(&mut outside).await?;
        loop {
            let now = self.ages.now();
            if !arrived.is_empty() {
                for (seq, receipt) in arrived.drain(..) {
                    self.receipt(seq, receipt, now);
                }
                self.settle();
            }
            let last = *head.borrow_and_update();
            self.look_at = None;
            if self.lane.wants_more_letters() {
                self.take_up_letters().await?;
            }
            self.fill(last, now).await?;
            if self.writing.is_none() {
                self.begin_write().await?;
            }
            self.show(last);
            if self.now.drained && self.lane.is_idle() && self.writing.is_none() {
                return self.farewell().await;
            }
            let wake_at = [self.retry_at, self.again_at, self.look_at, self.write_at]
                .into_iter()
                .flatten()
                .min();
            tokio::select! {
                biased;
                written = durable(&mut self.writing) => {
                    written?;
                    self.written();
                }
                count = receipts.recv_many(&mut arrived, WINDOW_LIMIT) => {
                    debug_assert!(count > 0, "the lane holds a sender itself");
                }
                changed = head.changed() => {
                    if changed.is_err() { return Err(JournalError::Closed) }
                }
                () = outside.changed() => {
                    if outside.is_over() { return Ok(()) }
                    self.look_outside(&mut outside).await?;
                }
                () = turn.notified(), if self.share.is_waiting() => {}
                () = wait_until(wake_at), if wake_at.is_some() => self.wake(),
            }
        }
    }

    async fn look_outside(&mut self, outside: &mut Outside) -> Result<(), JournalError> {
        let before = self.now.bridge.is_some();
        self.now = outside.look();
        self.lane.set_window(self.now.capabilities.window);
        if self.now.bridge.is_some() {
            self.share.enter(self.now.capabilities.window);
        } else if before {
            self.share.leave();
        }
        // The network is back: what it could not take before it may take now.
        if self.now.came_back {
            self.backoff.reset();
            self.again_backoff.reset();
            self.retry_at = None;
            self.again_at = None;
        }
        if self.now.again {
            self.take_up_letters().await?;
            self.again_at = None;
        }
        Ok(())
    }

    async fn take_up_letters(&mut self) -> Result<(), JournalError> {
        let letters = self.task.journal.again(self.task.id).await;
        match letters {
            Err(error) if error.is_damage() => {
                tracing::error!(channel = %self.task.channel, %error, "dead letters cannot be read");
                self.lane.try_again(&[]);
            }
            letters => self.lane.try_again(&letters?),
        }
        Ok(())
    }

    fn wake(&mut self) {
        let now = Instant::now();
        self.retry_at = self.retry_at.filter(|at| *at > now);
        self.again_at = self.again_at.filter(|at| *at > now);
    }

    fn step(&mut self, seq: u64, what: StepKind) {
        let at = self.ages.last();
        self.steps.push(Step { seq, at, what });
    }

    fn receipt(&mut self, seq: u64, receipt: Receipt, now: Timestamp) {
        let over = match &receipt {
            Receipt::Plan { parts, .. } => {
                let parts = u32::try_from(parts.len()).unwrap_or(u32::MAX);
                self.step(seq, StepKind::Planned { parts });
                false
            }
            Receipt::Part { index, .. } => {
                self.step(seq, StepKind::Landed { part: *index });
                false
            }
            Receipt::Dropped => {
                self.step(
                    seq,
                    StepKind::Retry {
                        reason: "bridge_died",
                    },
                );
                true
            }
            Receipt::Finish { outcome, .. } => {
                self.say_outcome(seq, outcome);
                true
            }
        };
        let note = self.lane.receipt(seq, receipt, now);
        if over {
            self.share.put_back(matches!(note, Some(Note::Shown(_))));
        }
        match note {
            Some(Note::Shown(seq)) => self.shown(seq, now),
            Some(Note::Dead(seq, why)) => {
                let event = self.handed.get(seq).map(|handed| Arc::clone(&handed.event));
                self.buried(seq, event.as_deref(), &why, now);
            }
            Some(Note::AgainFailed(Failure { after, why })) => {
                let wait = self.again_backoff.next_wait().max(after);
                self.again_at = Some(Instant::now() + wait);
                let reason = why.as_ref().map_or("not_attempted", |why| why.reason());
                self.task.metrics.retry(reason);
            }
            None => {}
        }
    }

    fn say_outcome(&mut self, seq: u64, outcome: &Outcome) {
        let reason = match outcome {
            Outcome::Shown => return self.step(seq, StepKind::Shown),
            // Said when it is buried.
            Outcome::Park(_) | Outcome::GiveUp(_) => return,
            Outcome::NotAttempted => "not_attempted",
            Outcome::Retry { why, .. } => why.reason(),
            Outcome::Ambiguous { .. } => "ambiguous",
        };
        self.step(seq, StepKind::Retry { reason });
    }

    fn shown(&mut self, seq: u64, now: Timestamp) {
        self.backoff.reset();
        self.stuck_since = Instant::now();
        let Some(handed) = self.handed.get(seq) else {
            return;
        };
        let took = u64::try_from(now.0 - handed.event.received.0).unwrap_or(0);
        self.task.metrics.event_out(Duration::from_millis(took));
        tracing::trace!(channel = %self.task.channel, seq, took_ms = took, "shown");
        if self.again_since.is_some_and(|(again, _)| again == seq) {
            self.again_since = None;
            self.again_backoff.reset();
            self.task.metrics.revived();
            tracing::info!(channel = %self.task.channel, seq, "a dead letter was shown after all");
        }
    }

    /// Says that an event was given up, to operator and author.
    fn buried(&mut self, seq: u64, event: Option<&Event>, why: &DeliveryError, now: Timestamp) {
        self.say_buried(seq, why);
        self.task.metrics.dead_letter(why.reason());
        self.step(
            seq,
            StepKind::Dead {
                reason: why.reason(),
            },
        );
        if self.again_since.is_some_and(|(again, _)| again == seq) {
            // Its author knows.
            self.again_since = None;
            return;
        }
        if let Some(event) = event
            && let Some(notice) = self.teller.tell(event, why, now)
        {
            self.task.metrics.told();
            self.lane.say(notice);
        }
    }

    /// Whoever rules a channel may have everything given up there.
    fn say_buried(&self, seq: u64, why: &DeliveryError) {
        let channel = &self.task.channel;
        let reason = why.reason();
        match self
            .grumbles
            .hear(channel.network(), reason, Instant::now())
        {
            Grumble::Silence => return,
            Grumble::Line { left_out: 0 } => {}
            Grumble::Line { left_out } => {
                tracing::error!(%channel, reason, left_out, "more were given up than were logged");
            }
            Grumble::LastLine => {
                tracing::error!(%channel, reason, "more that are given up for this reason are counted, not logged, for a minute");
            }
        }
        tracing::error!(%channel, seq, %why, "given up, kept as a dead letter");
    }

    fn settle(&mut self) {
        let Some(Failure { after, why }) = self.lane.settle() else {
            return;
        };
        self.page.clear();
        let wait = self.backoff.next_wait().max(after);
        self.retry_at = Some(Instant::now() + wait);
        if matches!(why, Some(DeliveryError::RateLimited(_))) {
            self.share.overloaded();
        }
        let reason = why.as_ref().map_or("not_attempted", |why| why.reason());
        self.task.metrics.retry(reason);
        let why = why.map_or_else(|| "not attempted".to_owned(), |why| why.to_string());
        tracing::info!(channel = %self.task.channel, why, wait_ms = wait.as_millis() as u64, "will try again");
    }

    /// What nobody waits for is written a moment later, so that the room's lanes, and perhaps its next event, share one commit.
    async fn begin_write(&mut self) -> Result<(), JournalError> {
        let now = Instant::now();
        let due = match self.lane.needs_write() {
            Need::Nothing => {
                self.write_at = None;
                return Ok(());
            }
            Need::Soon if !self.now.drained => *self.write_at.get_or_insert(now + LINGER),
            Need::Soon | Need::Now => now,
        };
        if due > now {
            return Ok(());
        }
        // What was just handed over is on its way first: a writing thread that wakes may take this one's processor.
        yield_now().await;
        self.write_at = None;
        match self.lane.take_write() {
            Some(write) => self.write(write).await,
            None => Ok(()),
        }
    }

    async fn write(&mut self, write: Write) -> Result<(), JournalError> {
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

    fn written(&mut self) {
        let Some(writing) = self.writing.take() else {
            return;
        };
        self.lane.written(writing.done, writing.tried);
        self.handed.forget_until(self.lane.durable_done());
        for plan in writing.plans {
            plan.send(()).ok();
        }
    }

    async fn farewell(mut self) -> Result<(), JournalError> {
        if let Some(write) = self.lane.take_farewell() {
            self.write(write).await?;
            durable(&mut self.writing).await?;
        }
        Ok(())
    }

    fn show(&mut self, last: u64) {
        let done = self.lane.done();
        let board = &self.task.board;
        board.done.store(done, Ordering::Relaxed);
        board
            .depth
            .store(last.saturating_sub(done), Ordering::Relaxed);
        let oldest = if done == last {
            None
        } else {
            let next = self.page.front().and_then(Logged::event);
            let handed = self.handed.oldest(done);
            handed.or_else(|| next.map(|event| event.received))
        };
        board
            .oldest
            .store(oldest.map_or(0, |at| at.0), Ordering::Relaxed);
        board.steps.add(&mut self.steps);
    }
}

/// Waits for the write that is under way; for ever when there is none. A journal that ends without an answer has not written it.
async fn durable(writing: &mut Option<Writing>) -> Result<(), JournalError> {
    match writing {
        Some(writing) => (&mut writing.durable)
            .await
            .map(drop)
            .map_err(|_| JournalError::Closed),
        None => std::future::pending().await,
    }
}

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_write_that_the_journal_ends_without_answering_is_not_durable() {
        let (done, durable_at) = oneshot::channel();
        let mut writing = Some(Writing {
            durable: durable_at,
            done: 1,
            tried: 1,
            plans: Vec::new(),
        });
        drop(done);
        let answer = durable(&mut writing).await;
        assert!(matches!(answer, Err(JournalError::Closed)), "{answer:?}");
    }
}
