//! The load generator: open loop. What is due is sent when it is due, whether or not anything sent before was answered, and
//! latency counts from then. A system that stalls is charged for everything that it kept waiting (no coordinated omission).

use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Above this rate, items that are due within a millisecond are sent together, at its end.
const OFTEN: f64 = 2000.0;

/// Below it, the generator wakes so much before an item is due and watches the clock: how late the system wakes somebody who sleeps is
/// nothing that a message from outside waits for.
const EARLY: Duration = Duration::from_micros(200);

/// When a steady stream's items are due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// When the first is due.
    pub(crate) start: Instant,
    /// A second.
    pub(crate) rate: f64,
    /// In all.
    pub(crate) count: u64,
}

impl Schedule {
    fn due(&self, number: u64) -> Instant {
        self.start + Duration::from_secs_f64(number as f64 / self.rate)
    }

    /// Calls `send` with the numbers and times of everything that is due, until all is sent, on this thread. Returns how late
    /// the generator itself was, in microseconds: what it cannot do better than the operating system wakes it.
    pub(crate) fn run<E>(
        &self,
        mut send: impl FnMut(&[(u64, Instant)]) -> Result<(), E>,
    ) -> Result<Histogram<u64>, E> {
        let mut late = histogram();
        let mut due = Vec::new();
        let mut next = 0;
        while next < self.count {
            let mut wait = self.due(next).saturating_duration_since(Instant::now());
            if self.rate > OFTEN {
                // One wake for many: the generator shares its processors with what is measured.
                wait = wait.max(Duration::from_millis(1));
                thread::sleep(wait);
            } else {
                thread::sleep(wait.saturating_sub(EARLY));
                while Instant::now() < self.due(next) {
                    std::hint::spin_loop();
                }
            }
            let now = Instant::now();
            due.clear();
            while next < self.count && self.due(next) <= now && due.len() < 1024 {
                record(&mut late, now - self.due(next));
                due.push((next, self.due(next)));
                next += 1;
            }
            send(&due)?;
        }
        Ok(late)
    }
}

/// A histogram with three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are allowed")
}

/// Notes one duration, in microseconds. The histogram grows as it must.
pub(crate) fn record(histogram: &mut Histogram<u64>, duration: Duration) {
    histogram
        .record(micros(duration))
        .expect("the histogram grows");
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stalled_system_kept_waiting_is_charged_to_it() {
        let schedule = Schedule {
            start: Instant::now(),
            rate: 1000.0,
            count: 100,
        };
        let mut latencies = histogram();
        let mut stalled = false;
        let late: Result<_, ()> = schedule.run(|due| {
            // The system under test blocks its caller once, for as long as fifty items take to become due.
            if !std::mem::replace(&mut stalled, true) {
                thread::sleep(Duration::from_millis(50));
            }
            for (_, due) in due {
                record(&mut latencies, due.elapsed());
            }
            Ok(())
        });
        assert!(late.is_ok());
        assert_eq!(latencies.len(), 100);
        let slow = latencies.count_between(10_000, u64::MAX);
        assert!(
            (30..=70).contains(&slow),
            "{slow} of 100 waited ten milliseconds and more"
        );
    }
}
