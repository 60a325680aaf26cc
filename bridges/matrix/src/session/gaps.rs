//! Notices a transaction that the homeserver has left behind.
//!
//! Synapse (1.163, `appservice/scheduler.py`) has a race at the end of its recovery from our
//! absence: a transaction made while it notes that we are back is stored, but sent only after the
//! *next* failure; those after it are sent at once. What is in it would come out of order, hours
//! late. Its transactions are numbered, so a gap shows it. Then we refuse one transaction: that
//! begins a new recovery, which sends what is oldest first.
//!
//! The same happens when a transaction fails half way: the next one may leave before the failure is noted.
//!
//! Numbers are a hint and no more. Other application services of the homeserver draw from the same
//! sequence, and then most gaps mean nothing: the first one that does ends the watch, until we come up again. Only for a
//! while after coming up, when the race is likely, each gap is looked into, at the price of one repetition.

use std::time::{Duration, Instant};

/// How long after coming up each gap is looked into.
const CLOSELY: Duration = Duration::from_secs(20);

/// A wider gap is not a gap but another numbering.
const WIDEST: u64 = 50;
/// What follows a refused transaction is refused, too, but not for ever.
const MOST_REFUSALS: u32 = 5;

#[derive(Debug, Default)]
pub(super) struct Gaps {
    last: Option<u64>,
    /// What was refused and has not come again.
    refused: Option<Refused>,
    watching: bool,
    closely_until: Option<Instant>,
}

#[derive(Debug)]
struct Refused {
    number: u64,
    times: u32,
    /// Something came that was before it.
    filled: bool,
}

impl Gaps {
    /// What was kept of an earlier run: `last` is the last transaction that was committed. What came while we were down has the numbers
    /// after it, and without it a transaction that overtakes another at our start could not be told.
    pub(super) fn after(last: Option<&str>, now: Instant) -> Self {
        Self {
            last: last.and_then(|last| last.parse().ok()),
            refused: None,
            watching: true,
            closely_until: Some(now + CLOSELY),
        }
    }

    /// We came up: the homeserver recovers.
    pub(super) fn watch(&mut self, now: Instant) {
        self.watching = true;
        self.closely_until = Some(now + CLOSELY);
    }

    /// Whether a transaction may be taken, rather than refused for what should have come first.
    pub(super) fn admits(&mut self, now: Instant, id: &str) -> bool {
        let Ok(number) = id.parse::<u64>() else {
            return true;
        };
        let Some(last) = self.last.filter(|last| number.abs_diff(*last) <= WIDEST) else {
            self.last = Some(number);
            self.refused = None;
            return true;
        };
        if number <= last {
            return true;
        }
        let closely = self.closely_until.is_some_and(|until| now < until);
        match &mut self.refused {
            Some(refused) if number < refused.number => refused.filled = true,
            Some(refused) if number > refused.number && refused.times < MOST_REFUSALS => {
                refused.times += 1;
                return false;
            }
            Some(refused) => {
                // It comes again: the gap was real, or was none.
                self.watching = refused.filled;
                self.refused = None;
            }
            None if number > last + 1 && (self.watching || closely) => {
                self.refused = Some(Refused {
                    number,
                    times: 1,
                    filled: false,
                });
                return false;
            }
            None => {}
        }
        self.last = Some(number);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_that_was_left_behind_is_fetched_before_its_successors() {
        let now = Instant::now();
        let mut gaps = Gaps::after(None, now);
        let admitted: Vec<bool> = ["41", "42", "44", "43", "44", "45", "47", "46", "47"]
            .iter()
            .map(|id| gaps.admits(now, id))
            .collect();
        assert_eq!(
            admitted,
            [true, true, false, true, true, true, false, true, true]
        );
    }

    #[test]
    fn a_gap_that_means_nothing_costs_one_refusal() {
        let now = Instant::now();
        let mut gaps = Gaps::after(None, now);
        let now = now + CLOSELY;
        let admitted: Vec<bool> = ["1", "5", "5", "9", "12"]
            .iter()
            .map(|id| gaps.admits(now, id))
            .collect();
        assert_eq!(admitted, [true, false, true, true, true]);
    }

    #[test]
    fn a_transaction_that_overtakes_another_at_our_start_waits_for_it() {
        let now = Instant::now();
        let mut gaps = Gaps::after(Some("41"), now);
        let admitted: Vec<bool> = ["43", "42", "43", "44"]
            .iter()
            .map(|id| gaps.admits(now, id))
            .collect();
        assert_eq!(admitted, [false, true, true, true]);
    }

    #[test]
    fn what_follows_a_refused_transaction_waits_for_it_but_not_for_ever() {
        let now = Instant::now();
        let mut gaps = Gaps::after(Some("1"), now);
        let admitted: Vec<bool> = ["3", "4", "2", "3", "4"]
            .iter()
            .map(|id| gaps.admits(now, id))
            .collect();
        assert_eq!(admitted, [false, false, true, true, true]);
        assert!(!gaps.admits(now, "6"));
        let later: Vec<bool> = (7..12)
            .map(|id| gaps.admits(now, &id.to_string()))
            .collect();
        assert_eq!(later, [false, false, false, false, true]);
    }

    #[test]
    fn after_coming_up_each_gap_is_looked_into() {
        let now = Instant::now();
        let mut gaps = Gaps::after(Some("1"), now);
        let admitted: Vec<bool> = ["3", "3", "7", "5", "7"]
            .iter()
            .map(|id| gaps.admits(now, id))
            .collect();
        assert_eq!(admitted, [false, true, false, true, true]);
    }

    #[test]
    fn what_fills_a_gap_may_have_a_gap_before_it() {
        let now = Instant::now();
        let mut gaps = Gaps::after(None, now);
        let admitted: Vec<bool> = ["1", "9", "5", "9"]
            .iter()
            .map(|id| gaps.admits(now, id))
            .collect();
        assert_eq!(admitted, [true, false, true, true]);
    }

    #[test]
    fn repeats_and_other_numberings_are_let_through() {
        let now = Instant::now();
        let mut gaps = Gaps::after(None, now);
        for id in [
            "7",
            "7",
            "6",
            "1795363550",
            "3",
            "word",
            "",
            "4",
            "99999999999999999999999",
        ] {
            assert!(gaps.admits(now, id), "{id}");
        }
    }
}
