//! The `time` tag of IRCv3 server-time: `2011-10-19T16:40:51.620Z`.

use comity_bridge::Timestamp;

/// Returns nothing for anything that is not exactly such a time.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let (date, clock) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-');
    let (year, month, day) = (
        number(date.next()?, 4)?,
        number(date.next()?, 2)?,
        number(date.next()?, 2)?,
    );
    let (clock, millis) = clock.split_once('.').unwrap_or((clock, "000"));
    let mut clock = clock.split(':');
    let (hour, minute, second) = (
        number(clock.next()?, 2)?,
        number(clock.next()?, 2)?,
        number(clock.next()?, 2)?,
    );
    let fits = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !fits || date.next().is_some() || clock.next().is_some() {
        return None;
    }
    let seconds = ((days_since_epoch(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Some(Timestamp(seconds * 1000 + number(millis, 3)?))
}

fn number(text: &str, digits: usize) -> Option<i64> {
    let plain = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// Days from 1970-01-01 in the Gregorian calendar, by counting from a year that begins in March,
/// so that the leap day is the last of its year.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let days =
        365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year;
    // 0000-03-01 is 719,468 days before 1970-01-01.
    days - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_to_the_millisecond() {
        assert_eq!(parse("1970-01-01T00:00:00.000Z"), Some(Timestamp(0)));
        assert_eq!(
            parse("2011-10-19T16:40:51.620Z"),
            Some(Timestamp(1_319_042_451_620))
        );
        assert_eq!(
            parse("2024-02-29T23:59:60Z"),
            Some(Timestamp(1_709_251_200_000))
        );
    }

    #[test]
    fn anything_else_is_no_time() {
        for bad in [
            "",
            "2011-10-19",
            "2011-13-19T16:40:51.620Z",
            "x-10-19T16:40:51.620Z",
            "2011-10-19T16:40:51.620",
            "2011-10-19T16:40:51.6Z",
            "+011-10-19T16:40:51.620Z",
            "2011-10-19-1T16:40:51.620Z",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
