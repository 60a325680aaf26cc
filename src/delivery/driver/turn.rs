//! Handing over: the next events of the log, and dead letters between them.

use std::sync::Arc;
use std::time::Duration;

use comity_bridge::{
    Content, Delivery, DeliveryError, DeliveryKey, Event, EventId, Plan, Receipts, Refs, Request,
    Timestamp,
};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::budget::Turn;
use super::super::degrade::{Fit, fit};
use super::super::folding::{self, Change, Folded};
use super::super::handed::Handed;
use super::super::lane::{Attempt, Note};
use super::{Driver, PAGE};
use crate::board::StepKind;
use crate::journal::{JournalError, Logged};
use crate::notice::Addressed;

/// How long to wait for a bridge whose queue is full.
const BREATH: Duration = Duration::from_millis(50);

/// Nothing is given up for having been held too long before the channel has taken nothing at all for so long.
const GRACE: Duration = Duration::from_secs(60 * 60);

/// What becomes of an event whose turn it is.
enum Fate {
    Show(Box<Handed>, Option<Plan>),
    Pass(&'static str),
    /// It was taken back, and these changes of it are settled as well.
    Cancel(Vec<u64>),
    Bury(DeliveryError),
    /// What it refers to is still on its way.
    Wait,
    /// Nobody wants the letter tried again any more.
    Gone,
}

/// What is damaged in the journal costs the event that needs it, not the lane.
fn or_damaged(fate: Result<Fate, JournalError>) -> Result<Fate, JournalError> {
    match fate {
        Err(error) if error.is_damage() => Ok(Fate::Bury(DeliveryError::Damaged(told(&error)))),
        fate => fate,
    }
}

/// An error with its cause.
fn told(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

impl Driver {
    /// Hands over what may be handed over.
    pub(super) async fn fill(&mut self, last: u64, now: Timestamp) -> Result<(), JournalError> {
        // In turn, where there is room for one at a time or the network sets the pace: a pile of letters does not keep the living waiting.
        let living_first = self.after_letter && self.lane.next() <= last;
        let mut line = !living_first || self.go_on(last, now).await?;
        line = line && self.retry_letters(now).await?;
        line = line && (living_first || self.go_on(last, now).await?);
        if line {
            self.share.wait_no_more();
        }
        Ok(())
    }

    /// False when the lane stands in line for the network.
    async fn go_on(&mut self, last: u64, now: Timestamp) -> Result<bool, JournalError> {
        loop {
            while self.lane.step_over_finished() {}
            let seq = self.lane.next();
            if seq > last || self.lane.is_full() {
                return Ok(true);
            }
            if self.page.front().map(Logged::seq) != Some(seq) {
                self.turn_page().await?;
            }
            let event = match self.page.front() {
                Some(Logged::Event(event)) if event.seq == seq => Arc::clone(event),
                Some(Logged::Damaged { seq: place, why }) if *place == seq => {
                    let why = DeliveryError::Damaged(why.clone());
                    self.page.pop_front();
                    self.bury_next(None, why, now);
                    continue;
                }
                _ => {
                    self.pass(seq, "not_in_the_journal");
                    continue;
                }
            };
            if self.is_not_for_us(&event) {
                self.page.pop_front();
                self.lane.pass();
                continue;
            }
            if let Some(why) = self.held_too_long(&event, now) {
                self.page.pop_front();
                self.bury_next(Some(&event), why, now);
                continue;
            }
            let bridge = self.bridge().filter(|_| self.retry_at.is_none());
            let Some(bridge) = bridge else {
                self.look_when_held_too_long(&event, now);
                return Ok(true);
            };
            if !self.lane.may_hand_over() {
                return Ok(true);
            }
            let Ok(permit) = bridge.try_reserve() else {
                // Larger windows than the queue was made for, or a bridge that is just ending.
                self.retry_at = Some(Instant::now() + BREATH);
                return Ok(true);
            };
            if !self.has_turn() {
                return Ok(false);
            }
            match or_damaged(self.fate(&event, now).await)? {
                Fate::Show(handed, plan) => {
                    self.page.pop_front();
                    self.after_letter = false;
                    let attempt = self.lane.hand_over(handed.folded.clone());
                    for change in &handed.folded {
                        self.step(*change, StepKind::Folded);
                    }
                    permit.send(self.delivery(&handed, attempt, plan));
                    self.handed.add(*handed);
                }
                other => {
                    self.share.unused();
                    match other {
                        Fate::Wait => return Ok(true),
                        Fate::Bury(why) => {
                            self.page.pop_front();
                            self.bury_next(Some(&event), why, now);
                        }
                        Fate::Cancel(changes) => {
                            self.page.pop_front();
                            for change in &changes {
                                self.step(*change, StepKind::Folded);
                            }
                            self.count_passed(seq, "taken_back");
                            self.lane.cancel(&changes);
                        }
                        Fate::Pass(reason) => {
                            self.page.pop_front();
                            self.pass(seq, reason);
                        }
                        Fate::Show(..) | Fate::Gone => {}
                    }
                }
            }
        }
    }

    /// A pause holds from the next event on, also before its signal has come round.
    fn bridge(&self) -> Option<mpsc::Sender<Request>> {
        let open = self.task.board.paused.borrow().is_none();
        self.now.bridge.clone().filter(|_| open)
    }

    fn pass(&mut self, seq: u64, reason: &'static str) {
        self.count_passed(seq, reason);
        self.lane.pass();
    }

    fn count_passed(&mut self, seq: u64, reason: &'static str) {
        tracing::debug!(channel = %self.task.channel, seq, reason, "not shown");
        self.task.metrics.passed(reason);
        self.step(seq, StepKind::Passed { reason });
    }

    fn bury_next(&mut self, event: Option<&Event>, why: DeliveryError, now: Timestamp) {
        let parked = !matches!(why, DeliveryError::TooOld);
        if let Note::Dead(seq, why) = self.lane.bury_next(why, parked, now) {
            self.buried(seq, event, &why, now);
        }
    }

    /// Born here, or said to another channel alone.
    fn is_not_for_us(&self, event: &Event) -> bool {
        event.origin.is(&self.task.channel)
            || event.only().is_some_and(|only| only != self.task.channel)
    }

    /// True when the network takes one more now.
    fn has_turn(&mut self) -> bool {
        match self.share.take() {
            Turn::Now => true,
            Turn::Wait(until) => {
                self.look_at = until;
                false
            }
        }
    }

    fn held_too_long(&self, event: &Event, now: Timestamp) -> Option<DeliveryError> {
        let hold = self.task.config.hold;
        let stuck = self.stuck_since.elapsed() >= GRACE.min(hold);
        let over = stuck && self.ages.age(event.received, now) >= hold;
        over.then(|| {
            let last = self
                .lane
                .last_trouble(event.seq)
                .filter(|why| !why.is_empty());
            DeliveryError::HeldTooLong(
                last.unwrap_or("the channel could not be written to")
                    .to_owned(),
            )
        })
    }

    fn look_when_held_too_long(&mut self, event: &Event, now: Timestamp) {
        let hold = self.task.config.hold;
        let stuck = GRACE.min(hold).saturating_sub(self.stuck_since.elapsed());
        let left = hold.saturating_sub(self.ages.age(event.received, now));
        self.look_at = Some(Instant::now() + stuck.max(left) + BREATH);
    }

    async fn turn_page(&mut self) -> Result<(), JournalError> {
        let after = self.lane.next() - 1;
        self.page = match self.task.tail.after(after, PAGE) {
            Some(events) => events.into_iter().map(Logged::Event).collect(),
            None => self.task.journal.events(self.task.id, after).await?.into(),
        };
        Ok(())
    }

    async fn fate(&mut self, event: &Arc<Event>, now: Timestamp) -> Result<Fate, JournalError> {
        let seq = event.seq;
        let doubt = self.lane.is_in_doubt(seq);
        let plan = if self.lane.attempted_before(seq) {
            self.task.journal.plan(self.task.id, seq).await?
        } else {
            None
        };
        if doubt && let Some(handed) = self.handed.get(seq) {
            return Ok(Fate::Show(Box::new(handed.clone()), plan));
        }
        if !doubt && let Some(fate) = self.stale(event, now) {
            return Ok(fate);
        }
        if let Some(target) = folding::target(&event.content) {
            return self.fate_of_change(event, target, plan, now).await;
        }
        // What was split before is not said in another way.
        let fixed = doubt || plan.as_ref().is_some_and(|plan| !plan.done.is_empty());
        let folded = if fixed || self.task.tail.last_change() <= seq {
            Folded::Show(Arc::clone(event), Vec::new())
        } else {
            folding::fold(&self.task.journal, self.task.id, event).await?
        };
        let (event, folded) = match folded {
            Folded::Show(event, folded) => (event, folded),
            Folded::Cancel(changes) => return Ok(Fate::Cancel(changes)),
        };
        let plan = plan.filter(|_| folded.is_empty());
        self.fitted(event, folded, plan, now).await
    }

    async fn fitted(
        &mut self,
        event: Arc<Event>,
        folded: Vec<u64>,
        plan: Option<Plan>,
        now: Timestamp,
    ) -> Result<Fate, JournalError> {
        let event = match fit(&event, &self.now.capabilities) {
            Fit::Pass(reason) => return Ok(Fate::Pass(reason)),
            Fit::Show(event) => event,
        };
        let reply_to = match &event.content {
            Content::Message(message) => message.reply_to,
            _ => None,
        };
        let refs = match reply_to {
            Some(target) if self.is_under_way(target) => return Ok(Fate::Wait),
            Some(target) => Refs {
                target: self.task.journal.native_ids(self.task.id, target).await?,
            },
            None => Refs::default(),
        };
        let late = self.late(&event, now);
        let handed = Handed {
            event,
            refs,
            late,
            folded,
        };
        Ok(Fate::Show(Box::new(handed), plan))
    }

    /// True while it is not durable what became of an event.
    fn is_under_way(&self, event: EventId) -> bool {
        let seq = self.handed.seq_of(event);
        seq.is_some_and(|seq| !self.lane.is_settled(seq))
    }

    async fn fate_of_change(
        &mut self,
        event: &Arc<Event>,
        target: EventId,
        plan: Option<Plan>,
        now: Timestamp,
    ) -> Result<Fate, JournalError> {
        if self.is_under_way(target) {
            return Ok(Fate::Wait);
        }
        let can = &self.now.capabilities;
        let change = folding::follow(&self.task.journal, self.task.id, event, target, can).await?;
        Ok(match change {
            Change::Pass(reason) => Fate::Pass(reason),
            Change::Show(event, refs) => {
                let late = self.late(&event, now);
                let handed = Handed {
                    event,
                    refs,
                    late,
                    folded: Vec::new(),
                };
                Fate::Show(Box::new(handed), plan)
            }
        })
    }

    /// When it was written, if that is long ago.
    fn late(&self, event: &Event, now: Timestamp) -> Option<Timestamp> {
        let said = matches!(event.content, Content::Message(_));
        let late = said && self.ages.age(event.time, now) >= self.task.config.late_after;
        late.then_some(event.time)
    }

    fn stale(&self, event: &Event, now: Timestamp) -> Option<Fate> {
        let limit = self.task.config.stale_after?;
        if self.ages.age(event.received, now) < limit {
            return None;
        }
        match &event.content {
            Content::Message(_) | Content::Edit(_) | Content::Encrypted(_) => {
                Some(Fate::Bury(DeliveryError::TooOld))
            }
            // What was taken back has to go, however late.
            Content::Redact(_) => None,
            _ => Some(Fate::Pass("too_old")),
        }
    }

    fn delivery(&mut self, handed: &Handed, attempt: Attempt, plan: Option<Plan>) -> Request {
        let seq = handed.event.seq;
        self.step(
            seq,
            StepKind::HandedOver {
                attempt: attempt.number,
                doubt: attempt.doubt,
            },
        );
        Request::Deliver(Delivery {
            key: DeliveryKey {
                event: handed.event.id,
                channel: self.task.channel.clone(),
            },
            event: Arc::clone(&handed.event),
            refs: handed.refs.clone(),
            late: handed.late,
            attempt: attempt.number,
            doubt: attempt.doubt,
            plan,
            receipts: Receipts::new(seq, self.to_lane.clone()),
        })
    }

    /// Hands over a dead letter that the operator wants to have tried again, if there is one. False when the lane stands in line for it.
    async fn retry_letters(&mut self, now: Timestamp) -> Result<bool, JournalError> {
        while self.again_at.is_none()
            && let Some(bridge) = self.bridge()
            && let Some(seq) = self.lane.next_again()
        {
            let Ok(permit) = bridge.try_reserve() else {
                self.again_at = Some(Instant::now() + BREATH);
                return Ok(true);
            };
            if !self.has_turn() {
                return Ok(false);
            }
            let fate = self.fate_of_letter(seq, now).await;
            match or_damaged(fate.map(|fate| fate.unwrap_or(Fate::Gone)))? {
                Fate::Show(handed, plan) => {
                    // What has had its turn is not set aside again, and what follows a doubt follows as itself.
                    let folded = if self.lane.is_again_in_doubt(seq) {
                        Vec::new()
                    } else {
                        handed.folded.clone()
                    };
                    self.after_letter = true;
                    let attempt = self.lane.hand_over_again(seq, folded);
                    permit.send(self.delivery(&handed, attempt, plan));
                    self.handed.add_again(*handed);
                    return Ok(true);
                }
                Fate::Wait => {
                    self.share.unused();
                    return Ok(true);
                }
                Fate::Bury(why) => {
                    self.share.unused();
                    if let Note::Dead(seq, why) = self.lane.bury_again(seq, why, now) {
                        self.buried(seq, None, &why, now);
                    }
                }
                Fate::Pass(reason) => {
                    self.share.unused();
                    self.count_passed(seq, reason);
                    self.lane.erase(seq);
                }
                Fate::Cancel(_) => {
                    self.share.unused();
                    self.count_passed(seq, "taken_back");
                    self.lane.erase(seq);
                }
                Fate::Gone => {
                    self.share.unused();
                    self.lane.forget_again(seq);
                }
            }
        }
        Ok(true)
    }

    /// None when it is not asked for any more.
    async fn fate_of_letter(
        &mut self,
        seq: u64,
        now: Timestamp,
    ) -> Result<Option<Fate>, JournalError> {
        if !self.task.journal.is_asked_again(self.task.id, seq).await? {
            return Ok(None);
        }
        let event = match self.task.journal.event_at(self.task.id, seq).await? {
            Some(Logged::Event(event)) => event,
            Some(Logged::Damaged { why, .. }) => {
                return Ok(Some(Fate::Bury(DeliveryError::Damaged(why))));
            }
            None => return Ok(Some(Fate::Pass("not_in_the_journal"))),
        };
        let since = match self.again_since {
            Some((again, since)) if again == seq => since,
            _ => Instant::now(),
        };
        self.again_since = Some((seq, since));
        if since.elapsed() > self.task.config.hold {
            let why = "it was tried again and again".to_owned();
            return Ok(Some(Fate::Bury(DeliveryError::HeldTooLong(why))));
        }
        let plan = self.task.journal.plan(self.task.id, seq).await?;
        if let Some(target) = folding::target(&event.content) {
            return self
                .fate_of_change(&event, target, plan, now)
                .await
                .map(Some);
        }
        // The changes that came before have had their turn, so the letter has to take them along even in doubt.
        let begun = plan.as_ref().is_some_and(|plan| !plan.done.is_empty());
        let folded = if begun {
            Folded::Show(event, Vec::new())
        } else {
            folding::fold(&self.task.journal, self.task.id, &event).await?
        };
        match folded {
            Folded::Cancel(changes) => Ok(Some(Fate::Cancel(changes))),
            Folded::Show(event, folded) => {
                let plan = plan.filter(|_| folded.is_empty());
                self.fitted(event, folded, plan, now).await.map(Some)
            }
        }
    }
}
