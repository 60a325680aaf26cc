//! The civil calendar, for the protocols' own forms of a time and for people.

use super::Timestamp;

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// 0000-03-01 is so many days before 1970-01-01.
const DAYS_TO_1970: i64 = 719_468;
/// Days of 400 years, after which the Gregorian calendar repeats itself.
const ERA: i64 = 146_097;

/// A moment as a calendar and a clock show it: Gregorian, in UTC.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Civil {
    /// The year; there is a year 0, and there are years before it.
    pub year: i64,
    /// From 1 to 12.
    pub month: i64,
    /// From 1 to 31.
    pub day: i64,
    /// From 0 to 23.
    pub hour: i64,
    /// From 0 to 59.
    pub minute: i64,
    /// From 0 to 59; a leap second may be read as 60.
    pub second: i64,
    /// From 0 to 999.
    pub milli: i64,
}

impl Civil {
    /// The moment, or `None` when it is none: a month 13, an hour 24, a year of more than four digits. Every month may have
    /// 31 days, of which those that it does not have belong to the next one.
    pub fn timestamp(self) -> Option<Timestamp> {
        let fits = (0..=9_999).contains(&self.year)
            && (1..=12).contains(&self.month)
            && (1..=31).contains(&self.day)
            && (0..24).contains(&self.hour)
            && (0..60).contains(&self.minute)
            && (0..=60).contains(&self.second)
            && (0..1_000).contains(&self.milli);
        fits.then(|| {
            let clock = self.hour * HOUR + self.minute * MINUTE + self.second * SECOND + self.milli;
            Timestamp(days(self.year, self.month, self.day) * DAY + clock)
        })
    }
}

impl Timestamp {
    /// What a calendar and a clock show then.
    pub fn civil(self) -> Civil {
        let (year, month, day) = date(self.0.div_euclid(DAY));
        let clock = self.0.rem_euclid(DAY);
        Civil {
            year,
            month,
            day,
            hour: clock / HOUR,
            minute: clock % HOUR / MINUTE,
            second: clock % MINUTE / SECOND,
            milli: clock % SECOND,
        }
    }

    /// For people who read it at `now`: hour and minute, in UTC, after the day unless that is `now`'s.
    pub fn short(self, now: Timestamp) -> String {
        let Civil {
            year,
            month,
            day,
            hour,
            minute,
            ..
        } = self.civil();
        if self.is_same_day(now) {
            format!("{hour:02}:{minute:02}")
        } else {
            format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}")
        }
    }

    /// Whether both are on the same day, in UTC.
    pub fn is_same_day(self, other: Timestamp) -> bool {
        self.0.div_euclid(DAY) == other.0.div_euclid(DAY)
    }
}

/// Year, month and day of a day counted from 1970-01-01. Years are taken to begin in March, so that the leap day is the
/// last of its year.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + DAYS_TO_1970;
    let era = days.div_euclid(ERA);
    let of_era = days.rem_euclid(ERA);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

/// The way of [`date`] back.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap_days + of_year - DAYS_TO_1970
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(year: i64, month: i64, day: i64) -> Civil {
        let midnight = Timestamp(0).civil();
        Civil {
            year,
            month,
            day,
            ..midnight
        }
    }

    #[test]
    fn a_moment_is_what_calendar_and_clock_show() {
        let moment = Civil {
            hour: 12,
            minute: 53,
            second: 20,
            milli: 123,
            ..at(2024, 11, 22)
        };
        assert_eq!(Timestamp(1_732_280_000_123).civil(), moment);
        assert_eq!(moment.timestamp(), Some(Timestamp(1_732_280_000_123)));
        assert_eq!(
            at(2000, 2, 29).timestamp(),
            Some(Timestamp(951_782_400_000))
        );
        assert_eq!(Timestamp(-1).civil().year, 1969);
    }

    #[test]
    fn every_day_is_read_as_it_is_written_and_follows_the_one_before() {
        assert_eq!(Timestamp(-62_167_219_200_000).civil(), at(0, 1, 1));
        assert_eq!(Timestamp(253_402_214_400_000).civil(), at(9_999, 12, 31));
        // From 1586 to 2408: every day of two of the calendar's periods.
        let mut before = (0, 0, 0);
        for day in -140_000..160_000 {
            let moment = Timestamp(day * DAY + 12_345_678);
            let civil = moment.civil();
            assert_eq!(civil.timestamp(), Some(moment), "{civil:?}");
            let date = (civil.year, civil.month, civil.day);
            assert!(date > before, "{civil:?}");
            before = date;
        }
    }

    #[test]
    fn what_no_clock_shows_is_no_moment() {
        let good = at(2024, 11, 22);
        for bad in [
            Civil { month: 13, ..good },
            Civil { month: 0, ..good },
            Civil { day: 32, ..good },
            Civil { hour: 24, ..good },
            Civil { minute: 60, ..good },
            Civil { second: 61, ..good },
            Civil { milli: -1, ..good },
            Civil {
                year: i64::MAX,
                ..good
            },
        ] {
            assert_eq!(bad.timestamp(), None, "{bad:?}");
        }
    }

    #[test]
    fn no_moment_is_too_far_away_to_be_shown() {
        for far in [i64::MIN, i64::MAX] {
            let civil = Timestamp(far).civil();
            assert!((1..=12).contains(&civil.month) && (0..24).contains(&civil.hour));
        }
    }

    #[test]
    fn people_are_told_the_day_unless_it_is_today() {
        let at = Timestamp(1_709_251_140_000);
        assert_eq!(at.short(Timestamp(at.0 + 50_000)), "23:59");
        assert_eq!(at.short(Timestamp(at.0 + 60_000)), "2024-02-29 23:59");
    }

    #[test]
    fn a_day_ends_at_midnight() {
        assert!(Timestamp(0).is_same_day(Timestamp(DAY - 1)));
        assert!(
            !Timestamp(0).is_same_day(Timestamp(DAY)) && !Timestamp(0).is_same_day(Timestamp(-1))
        );
    }
}
