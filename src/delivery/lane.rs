//! One lane's decisions: what may be handed over, what has become of it, what must be made durable. No clock, no disk.
//!
//! `done` is the end of what is finished with. `tried` is committed before anything up to it is handed over, so that after a
//! crash exactly the events between the two are in doubt. To keep that commit off a message's way, `tried` is
//! moved ahead of need, by up to two windows beyond `done`.

use std::collections::BTreeMap;

use comity_bridge::delivery::Receipt;
use comity_bridge::{DeliveryError, Outcome, Timestamp};
use std::time::Duration;
use tokio::sync::oneshot;

use crate::journal::{DeadLetter, LaneStart, LaneWrite};

/// A bridge may die this often with the same delivery first in its hands; then the delivery is parked.
const LIVES: u32 = 3;

/// A lane that only passes over events says so to the journal after this many.
const PASSED_UNSAID: u64 = 256;

/// One channel's place in its room's log.
#[derive(Debug)]
pub(super) struct Lane {
    done: u64,
    next: u64,
    /// What the journal holds.
    durable_done: u64,
    durable_tried: u64,
    doubt_until: u64,
    window: u64,
    flights: BTreeMap<u64, Flight>,
    /// How many of the flights are in the bridge's hands.
    out: u64,
    /// Of events that did not get through yet.
    past: BTreeMap<u64, Past>,
    failure: Option<Failure>,
    /// After a death, one at a time, so that the one which kills is found.
    cautious: bool,
    finished: bool,
    pending: LaneWrite,
    plans_asked: Vec<oneshot::Sender<()>>,
}

#[derive(Debug)]
enum Flight {
    Out,
    Finished,
}

#[derive(Debug, Default)]
struct Past {
    attempts: u32,
    deaths: u32,
    doubt: bool,
}

/// How an event is to be handed over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Attempt {
    pub(super) number: u32,
    pub(super) doubt: bool,
}

/// What went wrong first; the lane stands still until everything handed over has come back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Failure {
    /// Wait at least this long.
    pub(super) after: Duration,
    /// None when nothing was attempted.
    pub(super) why: Option<DeliveryError>,
}

/// What the driver shall count.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Note {
    Shown(u64),
    Dead(u64, DeliveryError),
}

/// What the lane asks to have committed, and who waits for it.
pub(super) struct Write {
    pub(super) write: LaneWrite,
    pub(super) plans: Vec<oneshot::Sender<()>>,
}

impl Lane {
    pub(super) fn new(start: LaneStart) -> Self {
        Lane {
            done: start.done,
            next: start.done + 1,
            durable_done: start.done,
            durable_tried: start.tried,
            // What was tried beyond the log's end never existed.
            doubt_until: start.tried.min(start.head),
            window: 1,
            flights: BTreeMap::new(),
            out: 0,
            past: BTreeMap::new(),
            failure: None,
            cautious: false,
            finished: false,
            pending: LaneWrite::default(),
            plans_asked: Vec::new(),
        }
    }

    /// How many deliveries the channel takes at once.
    pub(super) fn set_window(&mut self, window: usize) {
        self.window = u64::try_from(window.max(1)).unwrap_or(u64::MAX);
    }

    pub(super) fn done(&self) -> u64 {
        self.done
    }

    /// The event to look at next, whether or not it may be handed over now.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// True when the next event may be handed over.
    pub(super) fn may_hand_over(&self) -> bool {
        let window = if self.cautious { 1 } else { self.window };
        self.failure.is_none() && self.out < window && self.next <= self.durable_tried
    }

    /// True when nothing is in the bridge's hands.
    pub(super) fn is_idle(&self) -> bool {
        self.out == 0
    }

    /// The next event is not for this channel.
    pub(super) fn pass(&mut self) {
        self.flights.insert(self.next, Flight::Finished);
        self.next += 1;
        self.advance();
    }

    /// The next event is in the bridge's hands from now on.
    pub(super) fn hand_over(&mut self) -> Attempt {
        let seq = self.next;
        self.flights.insert(seq, Flight::Out);
        self.out += 1;
        self.next += 1;
        Attempt {
            number: self.past.get(&seq).map_or(0, |past| past.attempts) + 1,
            doubt: self.is_in_doubt(seq),
        }
    }

    /// What an earlier attempt or an earlier run left in doubt stays so until it is finished.
    fn is_in_doubt(&self, seq: u64) -> bool {
        self.past
            .get(&seq)
            .map_or(seq <= self.doubt_until, |past| past.doubt)
    }

    /// True when an earlier attempt may have left a plan.
    pub(super) fn attempted_before(&self, seq: u64) -> bool {
        seq <= self.doubt_until || self.past.contains_key(&seq)
    }

    /// Takes what the bridge says about a delivery.
    pub(super) fn receipt(&mut self, seq: u64, receipt: Receipt, now: Timestamp) -> Option<Note> {
        if !matches!(self.flights.get(&seq), Some(Flight::Out)) {
            return None;
        }
        match receipt {
            Receipt::Plan { parts, durable } => {
                self.pending.plans.push((seq, parts));
                self.plans_asked.push(durable);
                None
            }
            Receipt::Part { index, ids } => {
                self.pending.parts.push((seq, index, ids));
                None
            }
            Receipt::Dropped => self.died(seq, now),
            Receipt::Finish { outcome, parts } => {
                // A delivery of one part needs no record of it where the network has no name for it.
                let named = parts.into_iter().filter(|(_, ids)| !ids.is_empty());
                self.pending
                    .parts
                    .extend(named.map(|(part, ids)| (seq, part, ids)));
                self.outcome(seq, outcome, now)
            }
        }
    }

    fn outcome(&mut self, seq: u64, outcome: Outcome, now: Timestamp) -> Option<Note> {
        match outcome {
            Outcome::Shown => {
                self.finish(seq);
                self.cautious = false;
                Some(Note::Shown(seq))
            }
            Outcome::NotAttempted => {
                self.fail(seq, self.is_in_doubt(seq), Duration::ZERO, None);
                None
            }
            Outcome::Retry { after, why } => {
                self.fail(seq, self.is_in_doubt(seq), after, Some(why));
                None
            }
            Outcome::Ambiguous { why } => {
                self.fail(seq, true, Duration::ZERO, Some(why));
                None
            }
            Outcome::Park(why) => Some(self.bury(seq, why, true, now)),
            Outcome::GiveUp(why) => Some(self.bury(seq, why, false, now)),
        }
    }

    fn died(&mut self, seq: u64, now: Timestamp) -> Option<Note> {
        let is_first = self
            .flights
            .iter()
            .find(|(_, flight)| matches!(flight, Flight::Out))
            .map(|(seq, _)| *seq)
            == Some(seq);
        let deaths = {
            let past = self.past.entry(seq).or_default();
            past.deaths += u32::from(is_first);
            past.deaths
        };
        self.cautious = true;
        if deaths >= LIVES {
            return Some(self.bury(seq, DeliveryError::Poison(deaths), true, now));
        }
        let why = DeliveryError::ConnectionLost("the bridge ended with it in hand".to_owned());
        self.fail(seq, true, Duration::ZERO, Some(why));
        None
    }

    fn bury(&mut self, seq: u64, why: DeliveryError, parked: bool, now: Timestamp) -> Note {
        self.pending.dead.push(DeadLetter {
            seq,
            parked,
            reason: why.to_string(),
            at: now,
        });
        self.finish(seq);
        Note::Dead(seq, why)
    }

    fn finish(&mut self, seq: u64) {
        self.flights.insert(seq, Flight::Finished);
        self.out -= 1;
        self.past.remove(&seq);
        self.finished = true;
        self.advance();
    }

    fn fail(&mut self, seq: u64, doubt: bool, after: Duration, why: Option<DeliveryError>) {
        let past = self.past.entry(seq).or_default();
        past.attempts += u32::from(why.is_some());
        past.doubt |= doubt;
        self.flights.remove(&seq);
        self.out -= 1;
        let failure = self.failure.get_or_insert(Failure { after, why: None });
        failure.after = failure.after.max(after);
        if failure.why.is_none() {
            failure.why = why;
        }
        self.advance();
    }

    fn advance(&mut self) {
        while let Some(Flight::Finished) = self.flights.get(&(self.done + 1)) {
            self.done += 1;
            self.flights.remove(&self.done);
        }
    }

    /// Once everything has come back after a failure: says what it was and begins again at the first event that is not finished. What
    /// was shown out of turn stays finished.
    pub(super) fn settle(&mut self) -> Option<Failure> {
        if self.failure.is_none() || !self.is_idle() {
            return None;
        }
        self.next = self.done + 1;
        self.failure.take()
    }

    /// Steps over the next event when an earlier attempt has finished it out of turn.
    pub(super) fn step_over_finished(&mut self) -> bool {
        let finished = matches!(self.flights.get(&self.next), Some(Flight::Finished));
        if finished {
            self.next += 1;
            self.advance();
        }
        finished
    }

    /// What has to be committed now, if anything. Call it again only when the last one is durable.
    pub(super) fn take_write(&mut self) -> Option<Write> {
        let facts = !(self.pending.parts.is_empty()
            && self.pending.plans.is_empty()
            && self.pending.dead.is_empty());
        let room = self.durable_tried < self.done + self.window;
        let passed = self.done >= self.durable_done + PASSED_UNSAID;
        if !(facts || room || passed || self.finished) {
            return None;
        }
        self.finished = false;
        let mut write = std::mem::take(&mut self.pending);
        write.done = self.done;
        write.tried = (self.done + 2 * self.window).max(self.next.saturating_sub(1));
        Some(Write {
            write,
            plans: std::mem::take(&mut self.plans_asked),
        })
    }

    /// The journal holds what was taken.
    pub(super) fn written(&mut self, done: u64, tried: u64) {
        self.durable_done = done;
        self.durable_tried = tried;
    }
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
