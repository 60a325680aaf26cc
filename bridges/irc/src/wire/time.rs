//! The `time` tag of IRCv3 server-time: `2011-10-19T16:40:51.620Z`.

use comity_bridge::Timestamp;

/// Returns nothing for anything that is not exactly such a time.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
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

/// Prints a time as the tag has it.
pub(crate) fn print(at: Timestamp) -> String {
    let (year, month, day) = date(at.0.div_euclid(MILLIS_A_DAY));
    let millis = at.0.rem_euclid(MILLIS_A_DAY);
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Prints a time for people, in UTC: the hour, and the day unless it is `now`'s.
pub(crate) fn print_short(at: Timestamp, now: Timestamp) -> String {
    let day = at.0.div_euclid(MILLIS_A_DAY);
    let minutes = at.0.rem_euclid(MILLIS_A_DAY) / 60_000;
    let clock = format!("{:02}:{:02}", minutes / 60, minutes % 60);
    if day == now.0.div_euclid(MILLIS_A_DAY) {
        return clock;
    }
    let (year, month, day) = date(day);
    format!("{year:04}-{month:02}-{day:02} {clock}")
}

const MILLIS_A_DAY: i64 = 24 * 60 * 60 * 1000;

/// Year, month and day of a day counted from 1970-01-01: the way of [`days_since_epoch`] back.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
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
    fn a_time_is_printed_as_it_is_read() {
        let mut at = Timestamp(-62_135_596_800_000);
        while at.0 < 4_000_000_000_000 {
            assert_eq!(parse(&print(at)), Some(at), "{at:?}");
            at.0 += 12_345_678_901;
        }
    }

    #[test]
    fn people_are_told_the_day_unless_it_is_today() {
        let at = Timestamp(1_709_251_140_000);
        assert_eq!(print_short(at, Timestamp(at.0 + 50_000)), "23:59");
        assert_eq!(
            print_short(at, Timestamp(at.0 + 60_000)),
            "2024-02-29 23:59"
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
