//! Figures and times as people read them.

use comity_bridge::Timestamp;

use crate::utc;

/// `5s`, `20m`, `6h`, `1d`: in the largest unit that leaves nothing over.
pub(super) fn limit(seconds: u64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "m")];
    let unit = units.iter().find(|(unit, _)| seconds.is_multiple_of(*unit));
    match unit {
        Some((unit, letter)) if seconds > 0 => format!("{}{letter}", seconds / unit),
        _ => format!("{seconds}s"),
    }
}

/// `12s`, `3m`, `5h`, `2d`: in the largest unit that is full.
pub(super) fn age(millis: u64) -> String {
    let seconds = millis / 1000;
    let units = [(86_400, "d"), (3600, "h"), (60, "m")];
    match units.iter().find(|(unit, _)| seconds >= *unit) {
        Some((unit, letter)) => format!("{}{letter}", seconds / unit),
        None => format!("{seconds}s"),
    }
}

/// A time that the daemon gave in milliseconds.
pub(super) fn time(millis: i64) -> String {
    utc::exactly(Timestamp(millis))
}

/// Lines of cells, the first to the left and the others to the right of their columns.
pub(super) fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            if column == 0 {
                line.push_str(&format!("{cell:<width$}"));
            } else {
                line.push_str(&format!("  {cell:>width$}"));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_time_are_short() {
        assert_eq!(limit(5), "5s");
        assert_eq!(limit(1200), "20m");
        assert_eq!(limit(21_600), "6h");
        assert_eq!(limit(86_400), "1d");
        assert_eq!(age(0), "0s");
        assert_eq!(age(61_500), "1m");
        assert_eq!(age(200_000_000), "2d");
    }
}
