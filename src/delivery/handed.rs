//! What the bridge was given: for receipts, for attempts in doubt, which say the same again, and for whatever refers to it.

use std::collections::VecDeque;
use std::sync::Arc;

use comity_bridge::{Event, EventId, Refs, Timestamp};

/// One event as it was handed over.
#[derive(Clone, Debug)]
pub(super) struct Handed {
    pub(super) event: Arc<Event>,
    pub(super) refs: Refs,
    pub(super) late: Option<Timestamp>,
    /// The changes within it.
    pub(super) folded: Vec<u64>,
}

/// By place in the room, until the journal has what became of it.
#[derive(Debug, Default)]
pub(super) struct HandedOver {
    events: VecDeque<Handed>,
    /// A dead letter's retry.
    again: Option<Handed>,
}

impl HandedOver {
    pub(super) fn add(&mut self, handed: Handed) {
        let seq = handed.event.seq;
        match self.events.back() {
            Some(last) if last.event.seq >= seq => match self.place(seq) {
                Ok(index) => self.events[index] = handed,
                Err(index) => self.events.insert(index, handed),
            },
            _ => self.events.push_back(handed),
        }
    }

    pub(super) fn add_again(&mut self, handed: Handed) {
        self.again = Some(handed);
    }

    pub(super) fn get(&self, seq: u64) -> Option<&Handed> {
        let again = self.again.as_ref().filter(|again| again.event.seq == seq);
        again.or_else(|| self.events.get(self.place(seq).ok()?))
    }

    fn place(&self, seq: u64) -> Result<usize, usize> {
        self.events
            .binary_search_by_key(&seq, |handed| handed.event.seq)
    }

    /// The place of an event that was handed over lately.
    pub(super) fn seq_of(&self, event: EventId) -> Option<u64> {
        let mut known = self.events.iter().chain(&self.again);
        known
            .find(|handed| handed.event.id == event)
            .map(|handed| handed.event.seq)
    }

    /// When the first one after `done` was received.
    pub(super) fn oldest(&self, done: u64) -> Option<Timestamp> {
        let index = self.place(done + 1).unwrap_or_else(|index| index);
        self.events.get(index).map(|handed| handed.event.received)
    }

    /// The journal has everything up to here.
    pub(super) fn forget_until(&mut self, done: u64) {
        while self
            .events
            .front()
            .is_some_and(|handed| handed.event.seq <= done)
        {
            self.events.pop_front();
        }
        if self.events.is_empty() && self.events.capacity() > 64 {
            self.events.shrink_to_fit();
        }
    }
}
