//! The `time` tag of IRCv3 server-time: `2011-10-19T16:40:51.620Z`.

use comity_bridge::Timestamp;
use comity_bridge::event::Civil;

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
    if date.next().is_some() || clock.next().is_some() {
        return None;
    }
    let civil = Civil {
        year,
        month,
        day,
        hour,
        minute,
        second,
        milli: number(millis, 3)?,
    };
    civil.timestamp()
}

/// Prints a time as the tag has it.
pub(crate) fn print(at: Timestamp) -> String {
    let Civil {
        year,
        month,
        day,
        hour,
        minute,
        second,
        milli,
    } = at.civil();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

fn number(text: &str, digits: usize) -> Option<i64> {
    let plain = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
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
