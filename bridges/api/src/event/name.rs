//! What may not be in a name that people are to tell from another.

/// Whether a character takes no place or turns the reading direction around. With such characters two names look the same,
/// or one changes how its neighbours look. White space is not hidden, whatever its kind: it is for the caller to fold.
///
/// The joiners are among them, though some writing needs them: a name without is still read, and one that differs only in
/// them is another's.
pub fn is_hidden(c: char) -> bool {
    (c.is_control() && !c.is_whitespace())
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_no_place_is_hidden_and_what_is_seen_is_not() {
        for hidden in
            "\0\u{7f}\u{200b}\u{200d}\u{202e}\u{2066}\u{2800}\u{3164}\u{feff}\u{e0041}".chars()
        {
            assert!(is_hidden(hidden), "{hidden:?}");
        }
        for seen in "a\u{e9}\u{301}\u{4e2d}\u{5d0}\u{1f600} \n\u{a0}\u{2028}".chars() {
            assert!(!is_hidden(seen), "{seen:?}");
        }
    }
}
