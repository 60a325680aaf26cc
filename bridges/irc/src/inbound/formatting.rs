//! mIRC formatting codes as spans. Colours are dropped, and so is every other control character.

use std::iter::Peekable;

use comity_bridge::event::{Span, Style, Text};

const BOLD: char = '\x02';
const COLOUR: char = '\x03';
const HEX_COLOUR: char = '\x04';
const RESET: char = '\x0f';
const MONOSPACE: char = '\x11';
const ITALIC: char = '\x1d';
const STRIKE: char = '\x1e';
const UNDERLINE: char = '\x1f';

/// Styles that a line may have open at a time: each code turns one on or off.
const TOGGLES: [(char, Style); 5] = [
    (BOLD, Style::Bold),
    (ITALIC, Style::Italic),
    (UNDERLINE, Style::Underline),
    (STRIKE, Style::Strike),
    (MONOSPACE, Style::Code),
];

/// Takes the codes out of a line and makes spans of them.
pub(super) fn parse(line: &str) -> Text {
    // Nearly all that is ever said.
    if line.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Text {
            plain: line.to_owned(),
            ..Text::default()
        };
    }
    let mut plain = String::with_capacity(line.len());
    let mut spans = Vec::new();
    let mut open: [Option<u32>; TOGGLES.len()] = [None; TOGGLES.len()];
    // Offsets count characters. A line is far too short for them to overflow.
    let mut at = 0u32;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        if let Some(toggle) = TOGGLES.iter().position(|(code, _)| *code == c) {
            match open.get_mut(toggle) {
                Some(open) if open.is_none() => *open = Some(at),
                Some(open) => close(&mut spans, open, at, toggle),
                None => {}
            }
            continue;
        }
        match c {
            RESET => close_all(&mut spans, &mut open, at),
            COLOUR => skip_colour(&mut chars, 2, |c| c.is_ascii_digit()),
            HEX_COLOUR => skip_colour(&mut chars, 6, |c| c.is_ascii_hexdigit()),
            // An IRC message is one line, whatever a reader makes of these.
            '\u{2028}' | '\u{2029}' | '\t' => {
                plain.push(' ');
                at += 1;
            }
            c if c.is_control() => {}
            c => {
                plain.push(c);
                at += 1;
            }
        }
    }
    close_all(&mut spans, &mut open, at);
    spans.sort_by_key(|span| (span.start, span.end));
    Text {
        plain,
        spans,
        ..Text::default()
    }
}

fn close_all(spans: &mut Vec<Span>, open: &mut [Option<u32>; TOGGLES.len()], at: u32) {
    for (toggle, open) in open.iter_mut().enumerate() {
        close(spans, open, at, toggle);
    }
}

fn close(spans: &mut Vec<Span>, open: &mut Option<u32>, end: u32, toggle: usize) {
    if let (Some(start), Some((_, style))) = (open.take(), TOGGLES.get(toggle))
        && start < end
    {
        spans.push(Span {
            start,
            end,
            style: style.clone(),
            unknown: Default::default(),
        });
    }
}

/// Skips `N[,M]` after a colour code. A comma without a digit behind it is text.
fn skip_colour(
    chars: &mut Peekable<std::str::Chars<'_>>,
    digits: usize,
    is_digit: fn(&char) -> bool,
) {
    let skip = |chars: &mut Peekable<std::str::Chars<'_>>| {
        (0..digits)
            .take_while(|_| chars.next_if(is_digit).is_some())
            .count()
    };
    if skip(chars) > 0 {
        let mut ahead = chars.clone();
        if ahead.next() == Some(',') && ahead.next().is_some_and(|c| is_digit(&c)) {
            chars.next();
            skip(chars);
        }
    }
}
