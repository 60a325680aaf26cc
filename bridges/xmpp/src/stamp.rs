//! Times as XMPP writes them (XEP-0082), and as people read them in front of a late message.

/// XEP-0082's form of a time, in UTC.
pub(crate) fn write(ms: i64) -> String {
    let Civil {
        year,
        month,
        day,
        hour,
        minute,
    } = Civil::of(ms);
    let second = ms.rem_euclid(60_000) / 1_000;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Reads XEP-0082's form, with or without a fraction, and the older one of XEP-0091 (`20020910T23:08:25`).
pub(crate) fn read(text: &str) -> Option<i64> {
    let (date, time) = text.trim().split_once('T')?;
    let compact: String = date.chars().filter(|c| *c != '-').collect();
    let number = |text: &str, range: std::ops::Range<usize>| -> Option<i64> {
        let digits = text.get(range)?;
        digits
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| digits.parse().ok())?
    };
    if compact.len() != 8 {
        return None;
    }
    let (year, month, day) = (
        number(&compact, 0..4)?,
        number(&compact, 4..6)?,
        number(&compact, 6..8)?,
    );
    let (hour, minute, second) = (
        number(time, 0..2)?,
        number(time, 3..5)?,
        number(time, 6..8)?,
    );
    let fits = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60
        && time.get(2..3) == Some(":")
        && time.get(5..6) == Some(":");
    if !fits {
        return None;
    }
    let mut rest = time.get(8..)?;
    let mut ms = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let (fraction, after) = fraction.split_at_checked(digits)?;
        ms = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
        rest = after;
    }
    let offset = match rest.split_at_checked(1) {
        None | Some(("Z", "")) => 0,
        Some((sign @ ("+" | "-"), offset)) => {
            let minutes = number(offset, 0..2)? * 60 + number(offset, 3..5)?;
            if sign == "-" { -minutes } else { minutes }
        }
        Some(_) => return None,
    };
    let minutes = (days(year, month, day) * 24 + hour) * 60 + minute - offset;
    Some(minutes * 60_000 + second * 1_000 + ms)
}

/// When something was written, for people who read it at `now`: the time, and the day unless it is the same.
pub(crate) fn spoken(ms: i64, now: i64) -> String {
    let Civil {
        year,
        month,
        day,
        hour,
        minute,
    } = Civil::of(ms);
    if ms.div_euclid(DAY) == now.div_euclid(DAY) {
        format!("[{hour:02}:{minute:02}]")
    } else {
        format!("[{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}]")
    }
}

const DAY: i64 = 86_400_000;

struct Civil {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
}

impl Civil {
    /// Days to civil date in the proleptic Gregorian calendar, years beginning in March.
    fn of(ms: i64) -> Self {
        let (days, rest) = (ms.div_euclid(DAY), ms.rem_euclid(DAY));
        let z = days + 719_468;
        let era = z.div_euclid(146_097);
        let day_of_era = z.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_index = (5 * day_of_year + 2) / 153;
        let month = if month_index < 10 {
            month_index + 3
        } else {
            month_index - 9
        };
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * month_index + 2) / 5 + 1,
            hour: rest / 3_600_000,
            minute: rest / 60_000 % 60,
        }
    }
}

/// Days since 1970.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_index = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_index + 2) / 5 + day - 1;
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_xep_0082_wants() {
        assert_eq!(write(0), "1970-01-01T00:00:00Z");
        assert_eq!(write(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(write(1_732_280_000_123), "2024-11-22T12:53:20Z");
        assert_eq!(write(-1), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn times_are_read_in_every_form_that_servers_write() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2024-11-22T12:53:20Z", 1_732_280_000_000),
            ("2024-11-22T12:53:20.123456Z", 1_732_280_000_123),
            ("2024-11-22T12:53:20.1Z", 1_732_280_000_100),
            ("2024-11-22T13:53:20+01:00", 1_732_280_000_000),
            ("20241122T12:53:20", 1_732_280_000_000),
        ] {
            assert_eq!(read(text), Some(ms), "{text}");
        }
        for bad in [
            "",
            "T",
            "yesterday",
            "2024-13-01T00:00:00Z",
            "2024-11-22T12:53",
            "2024-11-22T12:53:20Q",
            "2024-11-22T+2:53:20Z",
            "2024-11-22T\u{661}2:53:20Z",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for day in -1_000..60_000 {
            let ms = day * DAY + day * 1_000;
            assert_eq!(read(&write(ms)), Some(ms));
        }
    }

    #[test]
    fn the_day_is_said_unless_it_is_today() {
        let late = 1_732_280_000_000;
        assert_eq!(spoken(late, late + 60_000), "[12:53]");
        assert_eq!(spoken(late, late + DAY), "[2024-11-22 12:53]");
    }
}
