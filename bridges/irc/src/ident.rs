//! This network's ids: channel names, the case mapping that tells which of them are one, and authors.

use std::borrow::Cow;

use crate::wire::Middle;

/// How a server compares names (ISUPPORT `CASEMAPPING`). Every name in our state goes through it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Casemapping {
    Ascii,
    /// `{}|^` are the lower case of `[]\~`. What RFC 1459 servers use without saying so.
    #[default]
    Rfc1459,
    /// As above without `^` and `~`.
    Rfc1459Strict,
    /// Any other mapping, all of which fold Unicode (`rfc8265`, `rfc7613`).
    Unicode,
}

impl Casemapping {
    pub(crate) fn from_token(token: &str) -> Self {
        match token.to_ascii_lowercase().as_str() {
            "ascii" => Self::Ascii,
            "rfc1459" => Self::Rfc1459,
            "rfc1459-strict" | "strict-rfc1459" => Self::Rfc1459Strict,
            _ => Self::Unicode,
        }
    }

    /// Returns the one spelling that all equal names share.
    pub(crate) fn fold(self, name: &str) -> Cow<'_, str> {
        // Nearly every name, and a name is folded with each line.
        let is_folded =
            |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'#' | b'-' | b'_' | b'.');
        if name.bytes().all(is_folded) {
            return Cow::Borrowed(name);
        }
        match self {
            Self::Unicode => name.to_lowercase().into(),
            _ => name.chars().map(|c| self.fold_char(c)).collect(),
        }
    }

    pub(crate) fn same(self, a: &str, b: &str) -> bool {
        match self {
            Self::Unicode => a == b || self.fold(a) == self.fold(b),
            // Asked about every line that is heard.
            _ => a
                .chars()
                .map(|c| self.fold_char(c))
                .eq(b.chars().map(|c| self.fold_char(c))),
        }
    }

    fn fold_char(self, c: char) -> char {
        match (self, c) {
            (Self::Rfc1459 | Self::Rfc1459Strict, '[') => '{',
            (Self::Rfc1459 | Self::Rfc1459Strict, ']') => '}',
            (Self::Rfc1459 | Self::Rfc1459Strict, '\\') => '|',
            (Self::Rfc1459, '~') => '^',
            _ => c.to_ascii_lowercase(),
        }
    }
}

/// A channel's name as the operator wrote it. Unique on its network up to the case mapping.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct ChannelName(Middle);

/// This can be no channel's name on any IRC server.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{0:?} is no IRC channel name: those start with #, &, + or ! and hold no space, comma or control character"
)]
pub(crate) struct NotAChannelName(pub(crate) String);

impl ChannelName {
    /// The longest name that we accept (RFC 2812 allows 50; live servers up to 64 or more).
    pub(crate) const MAX_BYTES: usize = 200;

    pub(crate) fn parse(name: &str) -> Result<Self, NotAChannelName> {
        // A comma would make JOIN and PRIVMSG act on two channels, ^G is a separator in RFC 2812.
        let allowed = name.starts_with(['#', '&', '+', '!'])
            && name.len() > 1
            && name.len() <= Self::MAX_BYTES
            && !name.contains(|c: char| c == ',' || c.is_control() || c.is_whitespace());
        let middle = allowed.then(|| Middle::parse(name)).flatten();
        middle
            .map(Self)
            .ok_or_else(|| NotAChannelName(name.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub(crate) fn middle(&self) -> Middle {
        self.0.clone()
    }
}

impl std::fmt::Display for ChannelName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What the id of somebody without an account begins with, where others have one. No nick and no account can hold `=`
/// (RFC 2812 section 2.3.1; services take the same names), and an address needs no escape for it.
const NICK: &str = "nick=";

/// Returns the id of an author, unique within the network.
///
/// It is the account where the network vouches for one. On a network that names accounts a nick alone proves nothing: anybody may
/// take the name of an account as nick while its owner is away. There the id of somebody without an account is `nick=` and the nick.
/// On a network without accounts, the nick is the id.
pub(crate) fn author_id(account: Option<&str>, nick: &str, names_accounts: bool) -> String {
    match account.filter(|account| !account.contains('=')) {
        Some(account) => account.to_owned(),
        None if names_accounts => format!("{NICK}{nick}"),
        None => nick.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use comity_bridge::BridgeKind;

    use super::*;
    use crate::Irc;

    #[test]
    fn i6_the_configuration_knows_two_spellings_of_a_channel() {
        assert_eq!(Irc.channel("#Rust[~]"), Ok("#rust{^}".to_owned()));
        assert_eq!(Irc.channel("#rust{^}"), Ok("#rust{^}".to_owned()));
        let long = format!("#{}", "x".repeat(ChannelName::MAX_BYTES));
        for bad in ["rust", "#", "#a b", "#a,#b", "#a\u{7}", long.as_str()] {
            let instead = Irc.channel(bad).expect_err(bad);
            assert!(instead.contains("network/#name"), "{instead}");
        }
    }

    #[test]
    fn a_nick_is_not_the_account_of_the_same_name() {
        assert_eq!(author_id(Some("alice"), "al", true), "alice");
        assert_eq!(author_id(None, "alice", true), "nick=alice");
        assert_eq!(author_id(Some("nick=alice"), "mal", true), "nick=mal");
        assert_eq!(author_id(None, "alice", false), "alice");
    }

    #[test]
    fn i6_casemapping_twins_are_one_channel() {
        let same = |mapping: Casemapping| mapping.same("#Rust[~]", "#rUST{^}");
        assert!(same(Casemapping::Rfc1459));
        assert!(!same(Casemapping::Rfc1459Strict));
        assert!(!same(Casemapping::Ascii));
        assert!(Casemapping::Rfc1459Strict.same("#A[\\]~", "#a{|}~"));
        assert!(Casemapping::Unicode.same("#CAFÉ", "#café"));
        assert!(!Casemapping::Ascii.same("#CAFÉ", "#café"));
    }

    #[test]
    fn b1_a_channel_name_cannot_carry_a_second_one_or_a_command() {
        for bad in [
            "#a,#b",
            "#a b",
            "#a\r\nQUIT",
            "#a\0",
            "#a\x07",
            "#",
            "",
            "rust",
            "#a\u{85}",
        ] {
            assert!(ChannelName::parse(bad).is_err(), "{bad:?}");
        }
        for good in [
            "#rust",
            "&local",
            "+modeless",
            "!SAFEx",
            "#caf\u{e9}",
            "##c++",
            "#a:b",
        ] {
            assert!(ChannelName::parse(good).is_ok(), "{good:?}");
        }
    }
}
