//! Dead letters that the operator wants to have tried again: handed over out of turn, one at a time.
//!
//! Their place does not say after a crash whether one was in the bridge's hands, so one that was asked for in an earlier run is in
//! doubt; and so is one that was not refused by its network but parked.

use std::collections::BTreeMap;

use comity_bridge::{DeliveryError, Timestamp};

use super::{Attempt, Lane, Note, Past};
use crate::journal::{AGAIN, DeadLetter};

#[derive(Debug, Default)]
pub(super) struct Again {
    asked: BTreeMap<u64, Past>,
    /// The journal may have more than it told.
    more: bool,
    /// What an earlier run was asked for is not known to its end yet.
    earlier: bool,
    out: Option<(u64, Vec<u64>)>,
}

impl Again {
    /// What an earlier run was asked for.
    pub(super) fn new(letters: Vec<DeadLetter>) -> Self {
        let more = letters.len() >= AGAIN;
        let mut again = Again {
            more,
            earlier: more,
            ..Again::default()
        };
        for letter in letters {
            again.ask(letter.seq, true);
        }
        again
    }

    fn ask(&mut self, seq: u64, doubt: bool) {
        self.asked.entry(seq).or_insert_with(|| Past {
            doubt,
            ..Past::default()
        });
    }

    pub(super) fn is_out(&self) -> bool {
        self.out.is_some()
    }

    pub(super) fn out(&self) -> Option<u64> {
        self.out.as_ref().map(|(seq, _)| *seq)
    }

    /// What is known of the one that is in the bridge's hands.
    pub(super) fn past(&mut self, seq: u64) -> Option<&mut Past> {
        let is_out = self.out() == Some(seq);
        self.asked.get_mut(&seq).filter(|_| is_out)
    }

    /// It is over, well or not. Returns the changes that it carried.
    pub(super) fn finish(&mut self) -> Vec<u64> {
        let Some((seq, folded)) = self.out.take() else {
            return Vec::new();
        };
        self.asked.remove(&seq);
        folded
    }

    pub(super) fn failed(&mut self) {
        self.out = None;
    }

    pub(super) fn forget(&mut self, seq: u64) {
        self.asked.remove(&seq);
    }
}

impl Lane {
    /// The operator wants these dead letters tried again.
    pub(in crate::delivery) fn try_again(&mut self, letters: &[DeadLetter]) {
        for letter in letters {
            // One that has just ended is still on the list until the journal has heard of it.
            let ended = self.writing.contains(&letter.seq)
                || self.pending.revived.contains(&letter.seq)
                || self.pending.dead.iter().any(|dead| dead.seq == letter.seq);
            if !ended {
                let doubt = letter.parked || self.again.earlier;
                self.again.ask(letter.seq, doubt);
            }
        }
        self.again.more = letters.len() >= AGAIN;
        self.again.earlier &= self.again.more;
    }

    /// True when the journal has to be asked for more of them.
    pub(in crate::delivery) fn wants_more_letters(&self) -> bool {
        self.again.more && self.again.asked.is_empty()
    }

    /// The dead letter to be handed over now, if one may be.
    pub(in crate::delivery) fn next_again(&self) -> Option<u64> {
        let may = self.has_room() && !self.again.is_out();
        self.again.asked.keys().next().copied().filter(|_| may)
    }

    /// Whether a dead letter may have been shown.
    pub(in crate::delivery) fn is_again_in_doubt(&self, seq: u64) -> bool {
        self.again.asked.get(&seq).is_some_and(|past| past.doubt)
    }

    /// It is in the bridge's hands from now on.
    pub(in crate::delivery) fn hand_over_again(&mut self, seq: u64, folded: Vec<u64>) -> Attempt {
        self.again.out = Some((seq, folded));
        let past = self.again.asked.get(&seq);
        Attempt {
            number: past.map_or(0, |past| past.attempts) + 1,
            doubt: past.is_some_and(|past| past.doubt),
        }
    }

    /// Nobody wants it tried again any more.
    pub(in crate::delivery) fn forget_again(&mut self, seq: u64) {
        self.again.forget(seq);
    }

    /// It is given up once more, without having been handed over.
    pub(in crate::delivery) fn bury_again(
        &mut self,
        seq: u64,
        why: DeliveryError,
        now: Timestamp,
    ) -> Note {
        self.again.out = Some((seq, Vec::new()));
        self.bury(seq, why, true, now)
    }
}
