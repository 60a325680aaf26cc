//! Text as the router sees it: plain characters and spans over them.
//!
//! Bridges convert at the edge. No HTML, no control code of one network and no stanza is ever in here.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Plain text and what is special about parts of it.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Text {
    /// The characters. Line breaks are `\n`; no other control character is allowed.
    pub plain: String,
    /// Styles over `plain`; they may overlap.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spans: Vec<Span>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}

impl Text {
    /// Text without any style. Control characters but the line break are left out, `\r\n` and the other
    /// line separators become `\n`: a bridge can pass on what a stranger wrote.
    pub fn plain(text: impl AsRef<str>) -> Self {
        Text {
            plain: clean(text.as_ref()),
            spans: Vec::new(),
            unknown: BTreeMap::new(),
        }
    }

    /// True when there is nothing to show.
    pub fn is_blank(&self) -> bool {
        self.plain.trim().is_empty()
    }
}

fn clean(text: &str) -> String {
    // Nearly all that is ever said.
    let needs_nothing = |b: u8| matches!(b, b' '..=b'~' | b'\n' | b'\t');
    if text.bytes().all(needs_nothing) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' => {
                if chars.peek() != Some(&'\n') {
                    out.push('\n');
                }
            }
            // NEL, line separator and paragraph separator break lines in some readers only; VT and FF likewise.
            '\n' | '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{b}' | '\u{c}' => out.push('\n'),
            '\t' => out.push('\t'),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// A style over the scalar values `start..end` of the plain text.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Span {
    /// The first Unicode scalar value that the style covers.
    pub start: u32,
    /// The first one that it does not cover any more.
    pub end: u32,
    /// What is special.
    pub style: Style,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}

/// What a span says about its text.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Style {
    /// Bold.
    Bold,
    /// Italic.
    Italic,
    /// Underlined.
    Underline,
    /// Struck through.
    Strike,
    /// Code within a line.
    Code,
    /// A block of code; the value names the language, or is empty.
    CodeBlock(String),
    /// Quoted from elsewhere.
    Quote,
    /// The text is a link to this URL.
    Link(String),
    /// A foreground colour, `#rrggbb`.
    Colour(String),
    /// Hidden until the reader asks; the value is the reason, or empty.
    Spoiler(String),
    /// The text names this user (a `UserAddress`; a string, since another gateway may know more forms).
    Mention(String),
    /// A custom emoji; the value is a media reference.
    Emoji(String),
    /// A style that this version does not know, kept and passed on whole.
    #[serde(untagged)]
    Unknown(serde_json::Value),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_line_break_becomes_one_and_controls_vanish() {
        assert_eq!(
            Text::plain("a\r\nb\rc\u{2028}d\u{0}\u{1}e\tf\u{85}g\u{b}h").plain,
            "a\nb\nc\nde\tf\ng\nh"
        );
    }

    #[test]
    fn an_unknown_style_survives_a_round_trip() {
        let json =
            r#"{"plain":"x","spans":[{"start":0,"end":1,"style":{"wobble":3},"why":"fun"}]}"#;
        let text: Text = serde_json::from_str(json).expect("text");
        assert_eq!(serde_json::to_string(&text).expect("json"), json);
    }
}
