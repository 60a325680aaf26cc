//! One lane's decisions: what may be handed over, what has become of it, what must be made durable. No clock, no disk.
//!
//! `done` is the end of what is finished with. `tried` is committed before anything up to it is handed over, so that after a
//! crash exactly the events between the two are in doubt. To keep that commit off a message's way, `tried` is
//! moved ahead of need, by up to two windows beyond `done`.
//!
//! What is finished beyond `done` is an exception: a change that was shown within its message, or an event that got through while an
//! earlier one did not. Exceptions are written only when a failure holds `done` back, since only then can much time pass until `done`
//! tells the same. What went wrong with an event is written as its [`Trouble`], so that a count of deaths and a doubt outlive a
//! restart; the row goes with the event's end.

mod again;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use comity_bridge::delivery::Receipt;
use comity_bridge::{DeliveryError, Outcome, Timestamp};
use tokio::sync::oneshot;

use crate::journal::{DeadLetter, Draft, LaneStart, LaneWrite, Trouble};
use again::Again;

/// A bridge may die this often with the same delivery first in its hands; then the delivery is parked.
const LIVES: u32 = 3;

/// A lane that only passes over events says so to the journal after this many.
const PASSED_UNSAID: u64 = 256;

/// How far a lane looks beyond an event that is not finished. Bounds what it remembers.
const SPAN: usize = 1024;

/// One channel's place in its room's log.
#[derive(Debug)]
pub(super) struct Lane {
    done: u64,
    next: u64,
    /// What the journal holds.
    durable_done: u64,
    durable_tried: u64,
    doubt_until: u64,
    window: usize,
    /// From `done + 1` to `next - 1`.
    flights: VecDeque<Flight>,
    /// How many of the flights are in the bridge's hands.
    out: usize,
    /// Finished with, from `next` on.
    ahead: BTreeMap<u64, Ahead>,
    /// Of events that did not get through yet.
    past: BTreeMap<u64, Past>,
    failure: Option<Failure>,
    /// After a death, one at a time, so that the one which kills is found.
    cautious: bool,
    finished: bool,
    again: Again,
    pending: LaneWrite,
    plans_asked: Vec<oneshot::Sender<()>>,
    /// Events whose native ids are in the write under way.
    writing: Vec<u64>,
    /// A message was not shown since it was taken back, and the journal does not hold that yet.
    cancelled: Cancelled,
}

/// Where the word of it is.
#[derive(Debug, Default)]
struct Cancelled {
    pending: bool,
    writing: bool,
}

#[derive(Debug)]
enum Flight {
    /// In the bridge's hands, with the changes that it carries within it.
    Out(Vec<u64>),
    /// Not for this channel; can be found out again.
    Passed,
    Finished {
        recorded: bool,
    },
    /// Back, to be handed over again.
    Failed {
        /// It came back since the bridge ended.
        died: bool,
    },
}

/// Why an event is skipped when its turn comes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ahead {
    Passed,
    /// The journal has it as an exception, or will with the next write.
    Recorded,
}

#[derive(Debug, Default)]
struct Past {
    attempts: u32,
    deaths: u32,
    doubt: bool,
    why: String,
    /// When it failed last.
    at: Timestamp,
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
    /// A dead letter's retry did not succeed.
    AgainFailed(Failure),
}

/// Whether the lane has something to be committed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Need {
    Nothing,
    /// Nobody waits for it.
    Soon,
    Now,
}

/// What the lane asks to have committed, and who waits for it.
pub(super) struct Write {
    pub(super) write: LaneWrite,
    pub(super) plans: Vec<oneshot::Sender<()>>,
}

impl Lane {
    pub(super) fn new(start: LaneStart) -> Self {
        // What was tried beyond the log's end never existed.
        let doubt_until = start.tried.min(start.head);
        let past = start.troubles.into_iter().map(|trouble| {
            let past = Past {
                attempts: trouble.attempts,
                deaths: trouble.deaths,
                doubt: trouble.doubt || (trouble.seq > start.done && trouble.seq <= doubt_until),
                why: trouble.why,
                at: trouble.at,
            };
            (trouble.seq, past)
        });
        let ahead = start.folded.into_iter().filter(|seq| *seq > start.done);
        Lane {
            done: start.done,
            next: start.done + 1,
            durable_done: start.done,
            durable_tried: start.tried,
            doubt_until,
            window: 1,
            flights: VecDeque::new(),
            out: 0,
            ahead: ahead.map(|seq| (seq, Ahead::Recorded)).collect(),
            past: past.collect(),
            failure: None,
            cautious: false,
            finished: false,
            again: Again::new(start.again),
            pending: LaneWrite::default(),
            plans_asked: Vec::new(),
            writing: Vec::new(),
            cancelled: Cancelled::default(),
        }
    }

    /// How many deliveries the channel takes at once.
    pub(super) fn set_window(&mut self, window: usize) {
        self.window = window.max(1);
    }

    pub(super) fn done(&self) -> u64 {
        self.done
    }

    /// The event to look at next, whether or not it may be handed over now.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// True when events must be finished, or be written, before another is looked at.
    pub(super) fn is_full(&self) -> bool {
        self.flights.len() >= SPAN || self.pending.dead.len() >= SPAN
    }

    pub(super) fn durable_done(&self) -> u64 {
        self.durable_done
    }

    /// True when the next event may be handed over.
    pub(super) fn may_hand_over(&self) -> bool {
        // After a crash a message that is not known to have been cancelled is in doubt, and may be shown behind those that follow.
        let told = !self.cancelled.pending && !self.cancelled.writing;
        told && self.has_room() && self.failure.is_none() && self.next <= self.durable_tried
    }

    fn has_room(&self) -> bool {
        let window = if self.cautious { 1 } else { self.window };
        self.out + usize::from(self.again.is_out()) < window
    }

    /// True when nothing is in the bridge's hands.
    pub(super) fn is_idle(&self) -> bool {
        self.out == 0 && !self.again.is_out()
    }

    /// True when what became of an event in this channel, its native ids included, can be read in the journal; until then whatever
    /// refers to it has to wait.
    pub(super) fn is_settled(&self, seq: u64) -> bool {
        let finished = if seq >= self.next {
            self.ahead.contains_key(&seq)
        } else {
            !matches!(
                self.flight(seq),
                Some(Flight::Out(_) | Flight::Failed { .. })
            )
        };
        finished
            && self.again.out() != Some(seq)
            && !self.writing.contains(&seq)
            && self
                .pending
                .parts
                .iter()
                .all(|(part_of, ..)| *part_of != seq)
            && self.pending.dead.iter().all(|letter| letter.seq != seq)
            && !self.pending.revived.contains(&seq)
    }

    fn flight(&self, seq: u64) -> Option<&Flight> {
        let index = seq.checked_sub(self.done + 1)?;
        self.flights.get(usize::try_from(index).ok()?)
    }

    fn flight_mut(&mut self, seq: u64) -> Option<&mut Flight> {
        let index = seq.checked_sub(self.done + 1)?;
        self.flights.get_mut(usize::try_from(index).ok()?)
    }

    /// The next event is not for this channel.
    pub(super) fn pass(&mut self) {
        self.flights.push_back(Flight::Passed);
        self.next += 1;
        self.advance();
    }

    /// The next event has been taken back before it was shown: neither it nor these changes of it are.
    pub(super) fn cancel(&mut self, changes: &[u64]) {
        let seq = self.next;
        self.forget_past(seq);
        self.set_aside(changes);
        self.cancelled.pending = true;
        self.pending.folded.push(seq);
        self.flights.push_back(Flight::Finished { recorded: true });
        self.next += 1;
        self.advance();
    }

    /// The next event is given up without having been handed over.
    pub(super) fn bury_next(&mut self, why: DeliveryError, parked: bool, now: Timestamp) -> Note {
        let seq = self.next;
        self.flights.push_back(Flight::Out(Vec::new()));
        self.out += 1;
        self.next += 1;
        self.bury(seq, why, parked, now)
    }

    /// The next event is in the bridge's hands from now on, with the text of these changes in it.
    pub(super) fn hand_over(&mut self, folded: Vec<u64>) -> Attempt {
        let seq = self.next;
        self.flights.push_back(Flight::Out(folded));
        self.out += 1;
        self.next += 1;
        self.attempt(seq)
    }

    fn attempt(&self, seq: u64) -> Attempt {
        Attempt {
            number: self.past.get(&seq).map_or(0, |past| past.attempts) + 1,
            doubt: self.is_in_doubt(seq),
        }
    }

    /// What an earlier attempt or an earlier run left in doubt stays so until it is finished.
    pub(super) fn is_in_doubt(&self, seq: u64) -> bool {
        if self.again.out() == Some(seq) {
            return self.is_again_in_doubt(seq);
        }
        let from_start = seq > self.done && seq <= self.doubt_until;
        self.past.get(&seq).map_or(from_start, |past| past.doubt)
    }

    /// True when an earlier attempt may have left a plan.
    pub(super) fn attempted_before(&self, seq: u64) -> bool {
        self.is_in_doubt(seq) || self.past.contains_key(&seq)
    }

    /// What went wrong with an event last, if anything did.
    pub(super) fn last_trouble(&self, seq: u64) -> Option<&str> {
        self.past.get(&seq).map(|past| past.why.as_str())
    }

    /// Something that the gateway itself says, to be committed with what it is about.
    pub(super) fn say(&mut self, notice: Draft) {
        self.pending.notices.push(notice);
    }

    /// A dead letter that is not wanted any more.
    pub(super) fn erase(&mut self, seq: u64) {
        self.again.forget(seq);
        self.pending.revived.push(seq);
    }

    /// Takes what the bridge says about a delivery.
    pub(super) fn receipt(&mut self, seq: u64, receipt: Receipt, now: Timestamp) -> Option<Note> {
        if !matches!(self.flight(seq), Some(Flight::Out(_))) && self.again.out() != Some(seq) {
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
                self.shown(seq);
                Some(Note::Shown(seq))
            }
            Outcome::NotAttempted => {
                self.fail(seq, self.is_in_doubt(seq), Duration::ZERO, None, now)
            }
            Outcome::Retry { after, why } => {
                self.fail(seq, self.is_in_doubt(seq), after, Some(why), now)
            }
            Outcome::Ambiguous { why } => self.fail(seq, true, Duration::ZERO, Some(why), now),
            Outcome::Park(why) => Some(self.bury(seq, why, true, now)),
            Outcome::GiveUp(why) => Some(self.bury(seq, why, false, now)),
        }
    }

    fn died(&mut self, seq: u64, now: Timestamp) -> Option<Note> {
        // Those that have come back from the same death already count as well, for they come back in any order.
        let in_hand =
            |flight: &Flight| matches!(flight, Flight::Out(_) | Flight::Failed { died: true });
        let first = self.flights.iter().position(in_hand);
        let first = first.map(|index| self.done + 1 + index as u64);
        self.cautious = true;
        let again = self.again.out() == Some(seq);
        let past = self.past_of(seq);
        past.deaths += u32::from(again || first == Some(seq));
        past.doubt = true;
        let deaths = past.deaths;
        if deaths >= LIVES {
            return Some(self.bury(seq, DeliveryError::Poison(deaths), true, now));
        }
        let why = DeliveryError::ConnectionLost("the bridge ended with it in hand".to_owned());
        let note = self.fail(seq, true, Duration::ZERO, Some(why), now);
        if let Some(Flight::Failed { died }) = self.flight_mut(seq) {
            *died = true;
        }
        note
    }

    /// What is known of one that is in the bridge's hands.
    fn past_of(&mut self, seq: u64) -> &mut Past {
        match self.again.past(seq) {
            Some(past) => past,
            None => self.past.entry(seq).or_default(),
        }
    }

    fn shown(&mut self, seq: u64) {
        self.cautious = false;
        let folded = if self.again.out() == Some(seq) {
            self.pending.revived.push(seq);
            self.again.finish()
        } else {
            self.forget_past(seq);
            self.finish(seq)
        };
        // A restart must not find the message unfinished, and its changes finished.
        if !folded.is_empty()
            && let Some(Flight::Finished { recorded }) = self.flight_mut(seq)
            && !std::mem::replace(recorded, true)
        {
            self.pending.folded.push(seq);
        }
        self.set_aside(&folded);
    }

    /// What went wrong before does not matter any more.
    fn forget_past(&mut self, seq: u64) {
        if self.past.remove(&seq).is_some() {
            self.pending.troubles.retain(|trouble| trouble.seq != seq);
        }
    }

    fn bury(&mut self, seq: u64, why: DeliveryError, parked: bool, now: Timestamp) -> Note {
        // Parked, too, when some of it may have been shown: whoever tries it again has to look first.
        let parked = parked || self.is_in_doubt(seq);
        self.pending.dead.push(DeadLetter {
            seq,
            parked,
            reason: why.to_string(),
            at: now,
        });
        if self.again.out() == Some(seq) {
            self.again.finish();
        } else {
            self.forget_past(seq);
            self.finish(seq);
            // A restart must not find it unfinished, and a dead letter at the same time.
            if let Some(flight) = self.flight_mut(seq) {
                *flight = Flight::Finished { recorded: true };
                self.pending.folded.push(seq);
            }
        }
        Note::Dead(seq, why)
    }

    /// Returns the changes that it carried.
    fn finish(&mut self, seq: u64) -> Vec<u64> {
        let finished = Flight::Finished { recorded: false };
        let flight = self
            .flight_mut(seq)
            .map(|flight| std::mem::replace(flight, finished));
        self.out -= 1;
        self.finished = true;
        self.advance();
        match flight {
            Some(Flight::Out(folded)) => folded,
            _ => Vec::new(),
        }
    }

    fn fail(
        &mut self,
        seq: u64,
        doubt: bool,
        after: Duration,
        why: Option<DeliveryError>,
        now: Timestamp,
    ) -> Option<Note> {
        let again = self.again.out() == Some(seq);
        let past = self.past_of(seq);
        past.attempts += u32::from(why.is_some());
        past.doubt |= doubt;
        if let Some(why) = &why {
            past.why = why.to_string();
            past.at = now;
        }
        if again {
            self.again.failed();
            return Some(Note::AgainFailed(Failure { after, why }));
        }
        // Without either, it is as if it had never been handed over.
        if doubt || why.is_some() {
            let trouble = past.trouble(seq);
            self.pending.troubles.retain(|known| known.seq != seq);
            self.pending.troubles.push(trouble);
        }
        if let Some(flight) = self.flight_mut(seq) {
            *flight = Flight::Failed { died: false };
        }
        self.out -= 1;
        let failure = self.failure.get_or_insert(Failure { after, why: None });
        failure.after = failure.after.max(after);
        if failure.why.is_none() {
            failure.why = why;
        }
        None
    }

    fn advance(&mut self) {
        while matches!(
            self.flights.front(),
            Some(Flight::Passed | Flight::Finished { .. })
        ) {
            self.flights.pop_front();
            self.done += 1;
        }
    }

    /// Changes that are finished with before their turn, since they were shown or taken back together with their message.
    fn set_aside(&mut self, changes: &[u64]) {
        for change in changes.iter().filter(|change| **change >= self.next) {
            self.ahead.insert(*change, Ahead::Recorded);
            self.pending.folded.push(*change);
        }
    }

    /// Once everything has come back after a failure: says what it was and begins again at the first event that is not finished. What
    /// was shown out of turn stays finished.
    pub(super) fn settle(&mut self) -> Option<Failure> {
        if self.failure.is_none() || self.out > 0 {
            return None;
        }
        self.record_exceptions();
        for (seq, flight) in (self.done + 1..).zip(self.flights.drain(..)) {
            match flight {
                Flight::Passed => self.ahead.insert(seq, Ahead::Passed),
                Flight::Finished { .. } => self.ahead.insert(seq, Ahead::Recorded),
                Flight::Failed { .. } | Flight::Out(_) => None,
            };
        }
        self.next = self.done + 1;
        self.failure.take()
    }

    fn record_exceptions(&mut self) {
        for (seq, flight) in (self.done + 1..).zip(&mut self.flights) {
            if let Flight::Finished { recorded } = flight
                && !std::mem::replace(recorded, true)
            {
                self.pending.folded.push(seq);
            }
        }
    }

    /// Steps over the next event when it is finished with already.
    pub(super) fn step_over_finished(&mut self) -> bool {
        let Some(ahead) = self.ahead.remove(&self.next) else {
            return false;
        };
        self.flights.push_back(match ahead {
            Ahead::Passed => Flight::Passed,
            Ahead::Recorded => Flight::Finished { recorded: true },
        });
        self.next += 1;
        self.advance();
        true
    }

    /// Whether anything has to be committed, and whether somebody waits for it.
    pub(super) fn needs_write(&mut self) -> Need {
        if self.failure.is_some() {
            self.record_exceptions();
        }
        let pending = &self.pending;
        let facts = !(pending.parts.is_empty()
            && pending.dead.is_empty()
            && pending.folded.is_empty()
            && pending.troubles.is_empty()
            && pending.notices.is_empty()
            && pending.revived.is_empty());
        let room = self.durable_tried < self.done + self.window as u64;
        let passed = self.done >= self.durable_done + PASSED_UNSAID;
        let some = facts || passed || self.finished;
        let waits = self.cancelled.pending || self.failure.is_some();
        if room || !pending.plans.is_empty() || (some && waits) {
            Need::Now
        } else if some {
            Need::Soon
        } else {
            Need::Nothing
        }
    }

    /// What has to be committed now, if anything. Call it again only when the last one is durable.
    pub(super) fn take_write(&mut self) -> Option<Write> {
        if self.needs_write() == Need::Nothing {
            return None;
        }
        let window = self.window as u64;
        let tried = (self.done + 2 * window).max(self.next - 1);
        Some(self.write(tried.max(self.doubt_until)))
    }

    /// The last thing to commit, when nothing is in the bridge's hands and nothing more will be: that only what is known to be in
    /// doubt is.
    pub(super) fn take_farewell(&mut self) -> Option<Write> {
        let tried = self.done.max(self.doubt_until);
        let said = self.durable_done == self.done && self.durable_tried == tried;
        (self.is_idle() && self.failure.is_none() && !said).then(|| self.write(tried))
    }

    fn write(&mut self, tried: u64) -> Write {
        self.finished = false;
        self.cancelled.writing = std::mem::take(&mut self.cancelled.pending);
        // A window that has shrunk draws the line nearer, and the disk may have that before it says so.
        self.durable_tried = self.durable_tried.min(tried);
        let mut write = std::mem::take(&mut self.pending);
        write.done = self.done;
        write.tried = tried;
        let told = write.parts.iter().map(|(seq, ..)| *seq);
        let dead = write.dead.iter().map(|letter| letter.seq);
        self.writing = told
            .chain(dead)
            .chain(write.revived.iter().copied())
            .collect();
        Write {
            write,
            plans: std::mem::take(&mut self.plans_asked),
        }
    }

    /// The journal holds what was taken.
    pub(super) fn written(&mut self, done: u64, tried: u64) {
        self.durable_done = done;
        self.durable_tried = tried;
        self.writing.clear();
        self.cancelled.writing = false;
    }
}

impl Past {
    fn trouble(&self, seq: u64) -> Trouble {
        Trouble {
            seq,
            attempts: self.attempts,
            deaths: self.deaths,
            doubt: self.doubt,
            why: self.why.clone(),
            at: self.at,
        }
    }
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "lane_properties.rs"]
mod properties;
