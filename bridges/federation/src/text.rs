//! What a text and a name may hold when they cross between gateways, in either direction.
//!
//! A text keeps its lines and loses every other control character; a name is one line.

use comity_bridge::Text;
use comity_bridge::event::Span;

/// The longest name that a profile may have, in characters (attack B6).
const MAX_NAME: usize = 64;

/// Cleans a text, and leaves out spans that do not fit it.
pub(crate) fn clean(text: Text) -> Text {
    let clean = Text::plain(&text.plain);
    if clean.plain != text.plain {
        // Spans count characters: with other characters they would cover something else.
        return clean;
    }
    let length = u32::try_from(text.plain.chars().count()).unwrap_or(u32::MAX);
    let fits = |span: &Span| span.start < span.end && span.end <= length;
    Text {
        spans: text.spans.into_iter().filter(fits).collect(),
        ..text
    }
}

/// Cleans a name: one line, not too long, no white space around it. May be left with nothing.
pub(crate) fn name(name: &str) -> String {
    let line = Text::plain(name).plain.replace(['\n', '\t'], " ");
    let short: String = line.trim().chars().take(MAX_NAME).collect();
    short.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b1_a_name_is_one_line() {
        assert_eq!(name(" mal\r\nlo\u{0}ry\u{2028}x "), "mal lory x");
        assert_eq!(name("\n \t"), "");
        assert_eq!(name(&"x".repeat(100)).len(), MAX_NAME);
    }
}
