//! How long to wait before trying again.

use std::time::Duration;

use rand::Rng;

/// A connection on which the server did something for us, and that lasted this long, was a good one: the next wait is short again. With
/// a longer time, cuts that come every few seconds would make each wait, in which things may be missed, longer than what is between.
pub const STABLE: Duration = Duration::from_secs(10);

/// Doubles from one second to fifteen minutes, each time with 20 % jitter, so that many who lost the same server do
/// not come back in the same second.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    limit: Duration,
    tries: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff::new(Duration::from_secs(1), Duration::from_secs(15 * 60))
    }
}

impl Backoff {
    /// Begins at `first`, never above `limit` (before jitter).
    pub fn new(first: Duration, limit: Duration) -> Self {
        Backoff {
            first,
            limit,
            tries: 0,
        }
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self
            .first
            .saturating_mul(1 << self.tries.min(16))
            .min(self.limit);
        self.tries = self.tries.saturating_add(1);
        wait.mul_f64(rand::rng().random_range(0.8..1.2))
    }

    /// Begins anew: the other side is there.
    pub fn reset(&mut self) {
        self.tries = 0;
    }

    /// How often it was asked since the beginning.
    pub fn tries(&self) -> u32 {
        self.tries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_begin_anew() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(8));
        let waits: Vec<u64> = (0..6)
            .map(|_| backoff.next_wait().as_secs_f64().round() as u64)
            .collect();
        for (wait, wanted) in waits.iter().zip([1.0, 2.0, 4.0, 8.0, 8.0, 8.0]) {
            let wait = *wait as f64;
            assert!(
                wait >= (wanted * 0.8_f64).floor() && wait <= (wanted * 1.2_f64).ceil(),
                "{waits:?}"
            );
        }
        backoff.reset();
        assert!(backoff.next_wait() < Duration::from_secs(2));
    }
}
