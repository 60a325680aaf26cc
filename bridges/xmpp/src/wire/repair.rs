//! Replaces what XML 1.0 forbids by U+FFFD before the parser sees it.
//!
//! A server that passes on `&#x1;`, a raw control character or broken UTF-8 would otherwise let
//! one stranger end the stream for everybody. The replacement is never markup, so it cannot
//! change where a stanza begins or ends; inside a name it stays an error.

/// `&#x10FFFF;` with room for leading zeros; a longer reference is left to the parser.
const MAX_REFERENCE: usize = 16;

/// The filter's state between two reads.
#[derive(Debug, Default)]
pub(super) struct Repair {
    /// The bytes of a character that the last read cut.
    cut: Vec<u8>,
    /// A character reference that has begun: `&`, `&#` and digits.
    reference: String,
}

impl Repair {
    /// Appends to `out` what may be given to the parser.
    pub(super) fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) {
        let mut bytes = std::mem::take(&mut self.cut);
        bytes.extend_from_slice(input);
        for chunk in bytes.utf8_chunks() {
            self.text(chunk.valid(), out);
            let invalid = chunk.invalid();
            if invalid.is_empty() {
                continue;
            }
            // Only the last chunk can be the beginning of a character still to come.
            let last = invalid.as_ptr_range().end == bytes.as_ptr_range().end;
            if last && is_beginning(invalid) {
                self.cut = invalid.to_vec();
                return;
            }
            self.text("\u{fffd}", out);
        }
    }

    fn text(&mut self, text: &str, out: &mut Vec<u8>) {
        for char in text.chars() {
            if self.reference.is_empty() {
                match char {
                    '&' => self.reference.push('&'),
                    _ => push(char, out),
                }
                continue;
            }
            match char {
                '#' if self.reference.len() == 1 => self.reference.push('#'),
                ';' if self.reference.len() > 2 => {
                    self.reference.push(';');
                    let reference = std::mem::take(&mut self.reference);
                    match denoted(&reference) {
                        Some(number) if is_forbidden(number) => push('\u{fffd}', out),
                        _ => out.extend_from_slice(reference.as_bytes()),
                    }
                }
                'x' | '0'..='9' | 'a'..='f' | 'A'..='F'
                    if self.reference.len() >= 2 && self.reference.len() < MAX_REFERENCE =>
                {
                    self.reference.push(char);
                }
                _ => {
                    out.extend_from_slice(self.reference.as_bytes());
                    self.reference.clear();
                    match char {
                        '&' => self.reference.push('&'),
                        _ => push(char, out),
                    }
                }
            }
        }
    }
}

/// Whether XML 1.0 §2.2 leaves this code point out.
pub(super) fn is_forbidden(number: u32) -> bool {
    !matches!(number, 0x9 | 0xA | 0xD | 0x20..=0xD7FF | 0xE000..=0xFFFD | 0x1_0000..=0x10_FFFF)
}

fn push(char: char, out: &mut Vec<u8>) {
    let char = if is_forbidden(char.into()) {
        '\u{fffd}'
    } else {
        char
    };
    out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Whether more bytes could still make these a character.
fn is_beginning(bytes: &[u8]) -> bool {
    matches!(std::str::from_utf8(bytes), Err(error) if error.error_len().is_none())
}

/// The number in `&#123;` or `&#x7b;`; none when it is not a reference, which is the parser's business.
fn denoted(reference: &str) -> Option<u32> {
    let digits = reference.strip_prefix("&#")?.strip_suffix(';')?;
    match digits.strip_prefix('x') {
        Some(hex) if !hex.is_empty() => Some(u32::from_str_radix(hex, 16).unwrap_or(u32::MAX)),
        Some(_) => None,
        None if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse().unwrap_or(u32::MAX))
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repaired(parts: &[&[u8]]) -> String {
        let mut repair = Repair::default();
        let mut out = Vec::new();
        for part in parts {
            repair.feed(part, &mut out);
        }
        String::from_utf8(out).expect("the filter yields UTF-8")
    }

    #[test]
    fn what_xml_allows_passes_unchanged() {
        let text = "<a b='&#x9;&#10;&amp;&lt;'>caf\u{e9} \u{1fae0}\t\r\n&#128512;</a>";
        assert_eq!(repaired(&[text.as_bytes()]), text);
    }

    #[test]
    fn forbidden_references_and_characters_are_replaced() {
        assert_eq!(
            repaired(&[b"a&#x1;b&#0;c&#xFFFE;d&#xD800;"]),
            "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}"
        );
        assert_eq!(
            repaired(&[b"a\x01b\x00c\xef\xbf\xbf"]),
            "a\u{fffd}b\u{fffd}c\u{fffd}"
        );
    }

    #[test]
    fn broken_utf8_is_replaced_and_overlong_forms_never_become_markup() {
        assert_eq!(
            repaired(&[b"a\xffb\xc0\xbcc"]),
            "a\u{fffd}b\u{fffd}\u{fffd}c"
        );
    }

    #[test]
    fn any_cut_between_two_reads_gives_the_same_text() {
        let whole = "x\u{1fae0}&#x1;y&&#65;\u{e9}&#zz;".as_bytes();
        let expected = repaired(&[whole]);
        for at in 0..whole.len() {
            let (left, right) = whole.split_at(at);
            assert_eq!(repaired(&[left, right]), expected, "cut at {at}");
        }
    }
}
