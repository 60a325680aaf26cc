//! Times as XMPP writes them (XEP-0082), and as people read them in front of a late message.

use comity_bridge::Timestamp;
use comity_bridge::event::Civil;

/// XEP-0082's form of a time, in UTC.
pub(crate) fn write(ms: i64) -> String {
    let Civil {
        year,
        month,
        day,
        hour,
        minute,
        second,
        ..
    } = Timestamp(ms).civil();
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
    if time.get(2..3) != Some(":") || time.get(5..6) != Some(":") {
        return None;
    }
    let mut rest = time.get(8..)?;
    let mut milli = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let (fraction, after) = fraction.split_at_checked(digits)?;
        milli = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
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
    let civil = Civil {
        year,
        month,
        day,
        hour,
        minute,
        second,
        milli,
    };
    Some(civil.timestamp()?.0 - offset * 60_000)
}

/// When something was written, for people who read it at `now`: the time, and the day unless it is the same.
pub(crate) fn spoken(at: Timestamp, now: Timestamp) -> String {
    format!("[{}]", at.short(now))
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
            let ms = day * 86_401_000;
            assert_eq!(read(&write(ms)), Some(ms));
        }
    }

    #[test]
    fn the_day_is_said_unless_it_is_today() {
        let late = |ms: i64| {
            spoken(
                Timestamp(1_732_280_000_000),
                Timestamp(1_732_280_000_000 + ms),
            )
        };
        assert_eq!(late(60_000), "[12:53]");
        assert_eq!(late(86_400_000), "[2024-11-22 12:53]");
    }
}
