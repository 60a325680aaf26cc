//! An author's name, made fit to stand in angle brackets before a line.

use comity_bridge::event::is_hidden;
use unicode_segmentation::UnicodeSegmentation;

const MAX_GRAPHEMES: usize = 64;

/// A letter with all marks that any writing system needs. More is a stack of marks.
const MAX_GRAPHEME_BYTES: usize = 32;

/// Returns `name` without anything that could end it early, hide in it or reach beyond it, in at
/// most `max_bytes`; or nothing, if nothing visible is left.
pub(super) fn shown(name: &str, max_bytes: usize) -> Option<String> {
    // Most names are plain, and most lines are said by them.
    let is_plain = |b: u8| b.is_ascii_graphic() && b != b'<' && b != b'>';
    if (1..=max_bytes.min(MAX_GRAPHEMES)).contains(&name.len()) && name.bytes().all(is_plain) {
        return Some(name.to_owned());
    }
    let mut cleaned = String::with_capacity(name.len().min(1024));
    for grapheme in name.graphemes(true) {
        for c in grapheme
            .chars()
            .take(if grapheme.len() > MAX_GRAPHEME_BYTES {
                1
            } else {
                usize::MAX
            })
        {
            match c {
                c if c.is_whitespace() => {
                    if !cleaned.ends_with(' ') {
                        cleaned.push(' ');
                    }
                }
                c if is_hidden(c) => {}
                // The brackets are ours, so that what stands between them is the name.
                '<' | '‹' | '〈' | '⟨' | '＜' | '﹤' | '❮' | '❰' => cleaned.push('('),
                '>' | '›' | '〉' | '⟩' | '＞' | '﹥' | '❯' | '❱' => cleaned.push(')'),
                c => cleaned.push(c),
            }
        }
        if cleaned.len() > 4 * max_bytes {
            break;
        }
    }
    let mut out = String::new();
    for grapheme in cleaned.trim().graphemes(true).take(MAX_GRAPHEMES) {
        if out.len() + grapheme.len() > max_bytes {
            break;
        }
        out.push_str(grapheme);
    }
    out.truncate(out.trim_end().len());
    (!out.is_empty()).then_some(out)
}
