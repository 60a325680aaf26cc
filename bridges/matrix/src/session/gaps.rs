//! Notices a transaction that the homeserver has left behind.
//!
//! Synapse (1.163, `appservice/scheduler.py`) has a race at the end of its recovery from our
//! absence: a transaction made while it notes that we are back is stored, but sent only after the
//! *next* failure; those after it are sent at once. What is in it would come out of order, hours
//! late. Its transactions are numbered, so a gap shows it. Then we refuse one transaction: that
//! begins a new recovery, which sends what is oldest first.
//!
//! Numbers are a hint and no more. Other application services of the homeserver draw from the same
//! sequence, so most gaps mean nothing: one is looked into only within [`WATCH`] after we came up,
//! and the first that means nothing ends the watch.

use std::time::{Duration, Instant};

/// How long after coming up a gap is looked into.
const WATCH: Duration = Duration::from_secs(60);
/// A wider gap is not a gap but another numbering.
const WIDEST: u64 = 50;

#[derive(Debug, Default)]
pub(super) struct Gaps {
    last: Option<u64>,
    refused: Option<u64>,
    filled: bool,
    watch_until: Option<Instant>,
}

impl Gaps {
    /// What was kept of an earlier run: `last` is the last transaction that was committed. What came while we were down has the numbers
    /// after it, and without it a transaction that overtakes another at our start could not be told.
    pub(super) fn after(last: Option<&str>, now: Instant) -> Self {
        let last = last.and_then(|last| last.parse().ok());
        Self {
            last,
            watch_until: last.map(|_| now + WATCH),
            ..Self::default()
        }
    }

    /// We came up: the homeserver recovers.
    pub(super) fn watch(&mut self, now: Instant) {
        self.watch_until = Some(now + WATCH);
    }

    /// Whether a transaction may be taken, rather than refused for what should have come first.
    pub(super) fn admits(&mut self, now: Instant, id: &str) -> bool {
        let Ok(number) = id.parse::<u64>() else {
            return true;
        };
        let Some(last) = self.last.filter(|last| number.abs_diff(*last) <= WIDEST) else {
            self.last = Some(number);
            return true;
        };
        if number <= last {
            return true;
        }
        match self.refused {
            Some(refused) if number < refused => self.filled = true,
            Some(refused) => {
                // It comes again (or it was left behind itself): the gap was real, or was none.
                let is_real = self.filled || number > refused;
                self.watch_until = is_real.then(|| now + WATCH);
                self.refused = None;
                self.filled = false;
            }
            None if number > last + 1 && self.watch_until.is_some_and(|until| now < until) => {
                self.refused = Some(number);
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

    fn gaps(now: Instant) -> Gaps {
        let mut gaps = Gaps::default();
        gaps.watch(now);
        gaps
    }

    #[test]
    fn a_transaction_that_was_left_behind_is_fetched_before_its_successors() {
        let now = Instant::now();
        let mut gaps = gaps(now);
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
        let mut gaps = gaps(now);
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
    fn what_fills_a_gap_may_have_a_gap_before_it() {
        let now = Instant::now();
        let mut gaps = gaps(now);
        let admitted: Vec<bool> = ["1", "9", "5", "9"]
            .iter()
            .map(|id| gaps.admits(now, id))
            .collect();
        assert_eq!(admitted, [true, false, true, true]);
    }

    #[test]
    fn repeats_other_numberings_and_quiet_times_are_let_through() {
        let now = Instant::now();
        let mut gaps = gaps(now);
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
        assert!(gaps.admits(now + WATCH, "6"));
    }
}
