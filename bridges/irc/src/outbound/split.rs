//! Text in pieces that fit, with no character cut in two.

use std::{borrow::Cow, str};

use unicode_segmentation::UnicodeSegmentation;

/// Returns the lines of a text that show something, free of control characters.
pub(super) fn source_lines(text: &str) -> impl Iterator<Item = Cow<'_, str>> {
    // All of Unicode's line ends: a reader's client may break at any of them.
    let lines = text.split([
        '\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}',
    ]);
    lines.map(clean).filter(|line| !line.is_empty())
}

/// Drops control characters: mIRC's colours, CTCP's delimiter, NUL, escape sequences.
fn clean(line: &str) -> Cow<'_, str> {
    // Nearly every line.
    if line.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return line.trim_end().into();
    }
    let cleaned: String = line
        .chars()
        .map(|c| if c == '\t' { ' ' } else { c })
        .filter(|c| !c.is_control())
        .collect();
    cleaned.trim_end().to_owned().into()
}

/// Cuts `line` into pieces of at most `room` bytes, between words where that wastes little.
pub(super) fn pieces(line: &str, room: usize) -> impl Iterator<Item = &str> {
    let mut rest = line;
    std::iter::from_fn(move || {
        if rest.is_empty() || room == 0 {
            return None;
        }
        let (piece, after) = rest.split_at(cut(rest, room));
        // The space between two pieces has become a line end.
        rest = if after.is_empty() {
            after
        } else {
            after.trim_start_matches(' ')
        };
        Some(piece.trim_end_matches(' '))
    })
    .filter(|piece| !piece.is_empty())
}

/// Returns how many bytes of `text` make the next piece; at least one character.
fn cut(text: &str, room: usize) -> usize {
    if text.len() <= room {
        return text.len();
    }
    let mut end = 0;
    let mut word_end = 0;
    for (at, grapheme) in text.grapheme_indices(true) {
        if grapheme == " " && at <= room {
            word_end = at;
        }
        if at + grapheme.len() > room {
            break;
        }
        end = at + grapheme.len();
    }
    // A piece that would be less than half full is better cut inside a word.
    if word_end > room / 2 {
        return word_end;
    }
    if end > 0 {
        return end;
    }
    // One grapheme alone is too long: a stack of marks. It is cut between characters.
    let first = text.chars().next().map_or(0, char::len_utf8);
    text.char_indices()
        .map(|(at, c)| at + c.len_utf8())
        .take_while(|end| *end <= room)
        .last()
        .unwrap_or(first)
}
