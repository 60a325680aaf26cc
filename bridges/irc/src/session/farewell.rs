//! Why a connection is lost, and how soon another may be tried.

use std::time::Duration;

/// What a lost connection means for the next one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Farewell {
    pub(crate) why: String,
    pub(crate) kind: FarewellKind,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum FarewellKind {
    /// The path or the server failed.
    Cut,
    /// We come too often, or say too much.
    Throttled,
    /// We are not wanted there; an operator has to act.
    Refused,
}

impl Farewell {
    /// Reads the text of an ERROR, which is made for people and differs from server to server.
    pub(crate) fn of_server(words: &str) -> Self {
        let lower = words.to_lowercase();
        let says = |any: &[&str]| any.iter().any(|word| lower.contains(word));
        let banned = [
            "k-line",
            "g-line",
            "z-line",
            "k:line",
            "g:line",
            "z:line",
            "klined",
            "banned",
            "dnsbl",
            "bad password",
            "password mismatch",
        ];
        let throttled = [
            "throttl",
            "too fast",
            "too many",
            "flood",
            "sendq",
            "recvq",
            "try again later",
            "session limit",
        ];
        let kind = if says(&banned) {
            FarewellKind::Refused
        } else if says(&throttled) {
            FarewellKind::Throttled
        } else {
            FarewellKind::Cut
        };
        Self {
            why: words.to_owned(),
            kind,
        }
    }

    pub(super) fn refused(why: &str) -> Self {
        Self {
            why: why.to_owned(),
            kind: FarewellKind::Refused,
        }
    }

    pub(super) fn silent(why: &str) -> Self {
        Self {
            why: why.to_owned(),
            kind: FarewellKind::Cut,
        }
    }

    /// Returns the least pause before the next attempt.
    pub(crate) fn pause(&self) -> Duration {
        match self.kind {
            FarewellKind::Cut => Duration::ZERO,
            FarewellKind::Throttled => Duration::from_secs(60),
            FarewellKind::Refused => Duration::from_secs(5 * 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i10_what_the_server_says_decides_how_soon_we_come_back() {
        let pause = |words: &str| Farewell::of_server(words).pause().as_secs();
        assert_eq!(
            pause("Closing Link: 10.0.0.1 (Ping timeout: 120 seconds)"),
            0
        );
        assert_eq!(pause("Trying to reconnect too fast."), 60);
        assert_eq!(pause("Closing Link: comity (Excess Flood)"), 60);
        assert_eq!(
            pause("Your host is trying to (re)connect too fast -- throttled"),
            60
        );
        assert_eq!(
            pause("Closing Link: (Too many user connections (global))"),
            60
        );
        assert_eq!(pause("Closing Link: [K-Lined: go away]"), 300);
        assert_eq!(pause("Closing Link: (Bad Password)"), 300);
    }
}
