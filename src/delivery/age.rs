//! How old things are, whatever the machine's clock does.
//!
//! Ages come from the wall clock, since events of earlier runs have no other time. A jump of the wall clock while the gateway runs is seen
//! by comparing it with the monotonic one, and taken out of every age that reaches back behind it.

use std::time::Duration;

use comity_bridge::{Clock, Timestamp};
use tokio::time::Instant;

/// What the two clocks may differ by without a jump: time servers correct by less.
const SLACK: i64 = 60_000;

/// Jumps that are remembered.
const JUMPS: usize = 16;

/// The two clocks.
#[derive(Debug)]
pub(super) struct Ages {
    clock: Clock,
    start: Instant,
    /// Wall clock time at `start`, if the wall clock had always shown what it shows now.
    offset: i64,
    last: Timestamp,
    /// By how much the clock has jumped, each time.
    jumps: Vec<i64>,
}

impl Ages {
    pub(super) fn new(clock: Clock) -> Self {
        Ages {
            offset: clock.now().0,
            last: clock.now(),
            clock,
            start: Instant::now(),
            jumps: Vec::new(),
        }
    }

    /// The time now. Looks for jumps.
    pub(super) fn now(&mut self) -> Timestamp {
        let now = self.clock.now();
        let expected = self.offset + millis(self.start.elapsed());
        let off = now.0 - expected;
        if off.abs() > SLACK {
            tracing::warn!(
                by_seconds = off / 1000,
                "the clock of this machine has jumped"
            );
            if self.jumps.len() == JUMPS {
                self.jumps.remove(0);
            }
            self.jumps.push(off);
        }
        self.offset += off;
        self.last = now;
        now
    }

    /// What [`Ages::now`] said last.
    pub(super) fn last(&self) -> Timestamp {
        self.last
    }

    /// How old something is at `now` that had the wall clock time `at`. Where a jump leaves that open, the younger age.
    pub(super) fn age(&self, at: Timestamp, now: Timestamp) -> Duration {
        let seen = now.0.saturating_sub(at.0);
        let mut jumped: i64 = 0;
        // It was before the last n jumps, for any n.
        let ages = self.jumps.iter().rev().map(|by| {
            jumped = jumped.saturating_add(*by);
            seen.saturating_sub(jumped)
        });
        let youngest = std::iter::once(seen)
            .chain(ages)
            .filter(|age| *age >= 0)
            .min();
        Duration::from_millis(youngest.map_or(0, |age| age.unsigned_abs()))
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    const YEAR: i64 = 365 * 24 * 3600 * 1000;

    #[tokio::test(start_paused = true)]
    async fn a_jump_of_a_year_ages_nothing() {
        let wall = Arc::new(AtomicI64::new(10 * YEAR));
        let mut ages = Ages::new(Clock::Fixed(Arc::clone(&wall)));
        let before = ages.now();
        for by in [YEAR, -2 * YEAR] {
            wall.fetch_add(by + 1000, Ordering::Relaxed);
            tokio::time::advance(Duration::from_secs(1)).await;
            ages.now();
        }
        let now = ages.now();
        assert_eq!(ages.age(before, now), Duration::from_secs(2));
        assert_eq!(ages.age(now, now), Duration::ZERO);
        wall.fetch_add(5000, Ordering::Relaxed);
        tokio::time::advance(Duration::from_secs(5)).await;
        let later = ages.now();
        assert_eq!(ages.age(now, later), Duration::from_secs(5));
    }
}
