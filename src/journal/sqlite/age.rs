//! The journal's own clock, by which events grow old.
//!
//! The machine's clock may jump by a year, forward while somebody mends it or back when a battery dies, and a journal that believed it would
//! throw away what is a day old, or keep everything for ever. This one goes on with the time that the gateway has really been running, follows the
//! machine's clock slowly when that is ahead (the gateway was off, or was wrong before), and never goes back.

/// When the machine's clock is ahead, this one goes so many times faster until it has caught up: a day an hour.
const HASTE: i64 = 24;

/// Milliseconds; only differences mean anything.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Age(pub(super) i64);

impl Age {
    /// So much time has passed for this process; the machine's clock says `wall`.
    pub(super) fn advance(&mut self, wall: i64, elapsed: i64) {
        let elapsed = elapsed.max(0);
        self.0 = self.0.saturating_add(elapsed);
        let behind = wall.saturating_sub(self.0).max(0);
        self.0 += behind.min(elapsed.saturating_mul(HASTE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    const YEAR: i64 = 365 * 24 * HOUR;

    #[test]
    fn it_goes_with_the_machines_clock_when_that_goes_as_it_should() {
        let mut age = Age(1_000);
        age.advance(1_000 + HOUR, HOUR);
        assert_eq!(age, Age(1_000 + HOUR));
    }

    #[test]
    fn a_jump_of_a_year_forward_ages_nothing_by_more_than_a_day_an_hour() {
        let mut age = Age(0);
        age.advance(YEAR, 1_000);
        assert_eq!(age, Age(25_000));
        age.advance(YEAR + HOUR, HOUR);
        assert!(age.0 <= 26 * HOUR);
        // Mended: it goes on, and is no more than that ahead.
        age.advance(2 * HOUR, HOUR);
        assert!(age.0 <= 27 * HOUR);
    }

    #[test]
    fn a_jump_back_neither_stops_it_nor_turns_it_round() {
        let mut age = Age(YEAR);
        age.advance(0, HOUR);
        assert_eq!(age, Age(YEAR + HOUR));
        age.advance(HOUR, -HOUR);
        assert_eq!(age, Age(YEAR + HOUR));
    }

    #[test]
    fn after_a_month_off_it_catches_up_within_days() {
        let mut age = Age(0);
        let mut wall = 30 * 24 * HOUR;
        for _ in 0..31 {
            wall += HOUR;
            age.advance(wall, HOUR);
        }
        assert_eq!(age, Age(wall));
    }
}
