//! Times as people write them, in UTC: `2026-11-22 18:02:07`.

use comity_bridge::Timestamp;
use comity_bridge::event::Civil;

/// `18:02`.
pub(crate) fn minute(at: Timestamp) -> String {
    let Civil { hour, minute, .. } = at.civil();
    format!("{hour:02}:{minute:02}")
}

/// `2026-11-22`.
pub(crate) fn date(at: Timestamp) -> String {
    let Civil {
        year, month, day, ..
    } = at.civil();
    format!("{year:04}-{month:02}-{day:02}")
}

/// `2026-11-22 18:02:07.123`.
pub(crate) fn exactly(at: Timestamp) -> String {
    let Civil { second, milli, .. } = at.civil();
    format!("{} {}:{second:02}.{milli:03}", date(at), minute(at))
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
