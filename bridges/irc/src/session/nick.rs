//! Which nick we have, which one we wish, and how we come from one to the other.

use std::time::{Duration, Instant};

use crate::ident::Casemapping;

/// How many nicks are tried in one registration before the attempt is given up.
const MAX_TRIES: usize = 8;

/// Every server takes a nick of this length (RFC 2812 section 1.2.1; ngircd's default).
const SAFE_LENGTH: usize = 9;

/// How long to leave a wished nick to its holder before asking again. InspIRCd 3 charges four
/// seconds of flood penalty for each NICK.
const REGAIN_EVERY: Duration = Duration::from_secs(90);

#[derive(Debug)]
pub(crate) struct Nick {
    wished: String,
    current: String,
    tries: usize,
    registered: bool,
    regain_at: Option<Instant>,
}

impl Nick {
    pub(crate) fn new(wished: &str) -> Self {
        Self {
            wished: wished.to_owned(),
            current: wished.to_owned(),
            tries: 0,
            registered: false,
            regain_at: None,
        }
    }

    pub(crate) fn current(&self) -> &str {
        &self.current
    }

    pub(crate) fn wished(&self) -> &str {
        &self.wished
    }

    /// The server refused a nick. Returns the next one to try, or `None`: before registration
    /// because the tries are used up, afterwards because a change that failed is no reason to
    /// take yet another nick.
    pub(crate) fn handle_refused(&mut self, nicklen: Option<usize>) -> Option<&str> {
        if self.registered || self.tries >= MAX_TRIES {
            return None;
        }
        self.tries += 1;
        let suffix = match self.tries {
            1 => "_".to_owned(),
            n => n.to_string(),
        };
        // Before registration the server has not said how long a nick may be, and one that is
        // too long is refused like one that is taken.
        let length = nicklen.unwrap_or(SAFE_LENGTH).max(suffix.len() + 1);
        let base: String = self.wished.chars().take(length - suffix.len()).collect();
        self.current = base + &suffix;
        Some(&self.current)
    }

    /// The server took us in as `given`.
    pub(crate) fn handle_welcome(&mut self, given: &str, now: Instant) {
        self.registered = true;
        self.set_current(given, now);
    }

    /// Somebody is called `to` now; returns whether it is us.
    pub(crate) fn handle_change(
        &mut self,
        from: &str,
        to: &str,
        now: Instant,
        map: Casemapping,
    ) -> bool {
        if self.is_own(from, map) && !to.is_empty() {
            self.set_current(to, now);
            return true;
        }
        self.handle_gone(from, now, map);
        false
    }

    /// Somebody gave up `nick`: if it is the one we wish, the moment to ask has come.
    pub(crate) fn handle_gone(&mut self, nick: &str, now: Instant, map: Casemapping) {
        if self.regain_at.is_some() && map.same(nick, &self.wished) {
            self.regain_at = Some(now);
        }
    }

    pub(crate) fn is_own(&self, nick: &str, map: Casemapping) -> bool {
        map.same(nick, &self.current)
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.regain_at
    }

    /// Returns the nick to ask for, if it is time to and the server could give it.
    pub(crate) fn handle_timeout(&mut self, now: Instant, nicklen: Option<usize>) -> Option<&str> {
        if self.regain_at.is_none_or(|at| at > now) {
            return None;
        }
        self.regain_at = Some(now + REGAIN_EVERY);
        nicklen
            .is_none_or(|limit| self.wished.len() <= limit)
            .then_some(self.wished.as_str())
    }

    fn set_current(&mut self, nick: &str, now: Instant) {
        nick.clone_into(&mut self.current);
        self.regain_at = (self.current != self.wished).then_some(now + REGAIN_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i6_tries_are_bounded_different_and_short_enough() {
        let mut nick = Nick::new("comity-relay");
        let mut tried = vec![nick.current().to_owned()];
        while let Some(next) = nick.handle_refused(None) {
            tried.push(next.to_owned());
        }
        assert_eq!(tried.len(), 1 + MAX_TRIES);
        assert_eq!(tried[1], "comity-r_");
        assert!(tried[1..].iter().all(|nick| nick.len() <= SAFE_LENGTH));
        tried.sort_unstable();
        tried.dedup();
        assert_eq!(tried.len(), 1 + MAX_TRIES);
    }

    #[test]
    fn i6_a_refusal_after_registration_is_a_failed_change() {
        let now = Instant::now();
        let mut nick = Nick::new("comity");
        nick.handle_refused(None);
        nick.handle_welcome("comity_", now);
        assert_eq!(nick.handle_refused(None), None);
        assert_eq!(nick.current(), "comity_");
    }

    #[test]
    fn the_wished_nick_is_asked_for_again_until_we_have_it() {
        let now = Instant::now();
        let map = Casemapping::Rfc1459;
        let mut nick = Nick::new("comity");
        nick.handle_welcome("comity_", now);
        assert_eq!(nick.handle_timeout(now, None), None);
        assert_eq!(
            nick.handle_timeout(now + REGAIN_EVERY, Some(6)),
            Some("comity")
        );
        assert_eq!(nick.handle_timeout(now + 2 * REGAIN_EVERY, Some(5)), None);
        nick.handle_gone("COMITY", now + REGAIN_EVERY, map);
        assert_eq!(
            nick.handle_timeout(now + REGAIN_EVERY, Some(6)),
            Some("comity")
        );
        assert!(nick.handle_change("comity_", "comity", now, map));
        assert_eq!(nick.next_timeout(), None);
    }

    #[test]
    fn i6_a_forced_change_is_followed_and_undone_later() {
        let now = Instant::now();
        let mut nick = Nick::new("comity");
        nick.handle_welcome("comity", now);
        assert!(nick.handle_change("Comity", "Guest123", now, Casemapping::Ascii));
        assert_eq!(nick.current(), "Guest123");
        assert!(nick.next_timeout().is_some());
    }
}
