//! Bytes from the network as text. Loses nothing readable and never fails.

use std::{borrow::Cow, str};

/// What Windows code page 1252 has where Latin-1 has control characters. Text that is no UTF-8 is
/// most often this.
const WINDOWS: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}',
    '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// Decodes `bytes` as UTF-8 where they are valid, else as Latin-1 with Windows's additions.
///
/// A server that cuts lines at 512 bytes may cut the last character in two. Where the text before
/// it shows that this is UTF-8, such a tail is dropped instead of taking the whole for Latin-1.
pub(super) fn decode(bytes: &[u8]) -> Cow<'_, str> {
    let error = match str::from_utf8(bytes) {
        Ok(text) => return Cow::Borrowed(text),
        Err(error) => error,
    };
    let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
    if error.error_len().is_none() && !valid.is_ascii() {
        return String::from_utf8_lossy(valid);
    }
    let one = |byte: u8| {
        byte.checked_sub(0x80)
            .and_then(|at| WINDOWS.get(usize::from(at)).copied())
    };
    bytes
        .iter()
        .map(|&byte| one(byte).unwrap_or_else(|| char::from(byte)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i2_bad_utf8_is_read_as_latin_1() {
        assert_eq!(decode(b"caf\xe9 cr\xe8me"), "café crème");
        assert_eq!(decode("café".as_bytes()), "café");
        assert_eq!(decode(b"\x93caf\xe9\x94 5 \x80"), "“café” 5 €");
        assert_eq!(decode(b"\xff\xfeh\x00i\x00"), "ÿþh\0i\0");
    }

    #[test]
    fn a_character_cut_by_the_server_loses_only_itself() {
        assert_eq!(decode(b"caf\xc3\xa9 \xe2\x82"), "café ");
    }

    #[test]
    fn a_lone_latin_1_letter_is_not_an_unfinished_character() {
        assert_eq!(decode(b"caf\xe9"), "café");
    }
}
