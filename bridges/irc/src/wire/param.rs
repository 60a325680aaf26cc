//! Parameters of outgoing lines. Neither type can hold CR, LF or NUL; a [`Middle`] cannot hold
//! a space or look like the start of a trailing parameter either.

use std::{fmt, sync::Arc};

/// Text for the last parameter of a line: anything but CR, LF and NUL.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Trailing(String);

impl Trailing {
    /// Makes a parameter of `text`; each forbidden character becomes a space.
    pub(crate) fn new(text: &str) -> Self {
        let forbidden = ['\r', '\n', '\0'];
        if text.contains(forbidden) {
            Self(text.replace(forbidden, " "))
        } else {
            Self(text.to_owned())
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Trailing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A parameter that is not the last: not empty, no space, no leading colon, no CR, LF or NUL. Shared text:
/// a clone costs nothing.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Middle(Arc<str>);

impl Middle {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let allowed =
            !text.is_empty() && !text.starts_with(':') && !text.contains(['\r', '\n', '\0', ' ']);
        allowed.then(|| Self(text.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Middle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b1_no_parameter_can_hold_a_line_end() {
        assert_eq!(Trailing::new("a\r\nQUIT\0b").as_str(), "a  QUIT b");
        assert_eq!(Middle::parse("#a\nQUIT"), None);
        assert_eq!(Middle::parse("#a\rQUIT"), None);
        assert_eq!(Middle::parse("#a\0"), None);
    }

    #[test]
    fn a_middle_parameter_cannot_become_two() {
        assert_eq!(Middle::parse("#a #b"), None);
        assert_eq!(Middle::parse(":#a"), None);
        assert_eq!(Middle::parse(""), None);
        assert_eq!(
            Middle::parse("#a,b").map(|m| m.to_string()),
            Some("#a,b".to_owned())
        );
    }
}
