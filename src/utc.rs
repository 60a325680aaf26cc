//! Times as people write them, in UTC: `2026-11-22 18:02:07`.

use comity_bridge::Timestamp;

const DAY: i64 = 24 * 60 * 60 * 1000;

/// `18:02`.
pub(crate) fn minute(at: Timestamp) -> String {
    let minutes = at.0.rem_euclid(DAY) / 60_000;
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

/// `2026-11-22`.
pub(crate) fn date(at: Timestamp) -> String {
    let (year, month, day) = civil(at.0.div_euclid(DAY));
    format!("{year:04}-{month:02}-{day:02}")
}

/// `2026-11-22 18:02:07.123`.
pub(crate) fn exactly(at: Timestamp) -> String {
    let millis = at.0.rem_euclid(60_000);
    format!(
        "{} {}:{:02}.{:03}",
        date(at),
        minute(at),
        millis / 1000,
        millis % 1000
    )
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar. Years are taken to begin in
/// March, so that the leap day is the last of its year.
fn civil(days: i64) -> (i64, i64, i64) {
    // 0000-03-01 is 719,468 days before 1970-01-01; 400 years have 146,097 days.
    let days = days.saturating_add(719_468);
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_people_do() {
        assert_eq!(exactly(Timestamp(0)), "1970-01-01 00:00:00.000");
        assert_eq!(
            exactly(Timestamp(1_732_280_000_123)),
            "2024-11-22 12:53:20.123"
        );
        assert_eq!(date(Timestamp(1_709_164_800_000)), "2024-02-29");
        assert_eq!(date(Timestamp(1_709_251_200_000)), "2024-03-01");
        assert_eq!(date(Timestamp(-1)), "1969-12-31");
        assert_eq!(minute(Timestamp(-60_000)), "23:59");
    }

    #[test]
    fn no_time_is_too_far_away_to_be_written() {
        for at in [i64::MIN, i64::MAX] {
            assert!(!exactly(Timestamp(at)).is_empty());
        }
    }
}
