//! Which channels we want to be in, and how far each has come.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::{Duration, Instant},
};

use crate::ident::{Casemapping, ChannelName};

/// The first pause before a channel that did not let us in is asked again; doubled each time.
const FIRST_RETRY: Duration = Duration::from_secs(10);
const LAST_RETRY: Duration = Duration::from_secs(15 * 60);

/// A channel that kept us for this long forgets earlier failures and kicks.
const SETTLED: Duration = Duration::from_secs(10 * 60);

/// How long the server may take to answer a JOIN.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(crate) struct Channels {
    by_fold: BTreeMap<String, Membership>,
}

#[derive(Debug)]
struct Membership {
    name: ChannelName,
    state: State,
    failures: u32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Due,
    Asked { since: Instant },
    In { since: Instant },
    Out { retry_at: Instant },
}

impl Channels {
    /// Adds a channel that is not there yet in any spelling.
    pub(crate) fn want(&mut self, name: &ChannelName, map: Casemapping) {
        let membership = Membership {
            name: name.clone(),
            state: State::Due,
            failures: 0,
        };
        let fold = map.fold(name.as_str()).into_owned();
        self.by_fold.insert(fold, membership);
    }

    /// Removes a channel and tells whether we are, or may soon be, in it.
    pub(crate) fn unwant(&mut self, name: &ChannelName, map: Casemapping) -> bool {
        let fold = map.fold(name.as_str());
        // Another spelling is another's channel.
        if self.by_fold.get(&*fold).is_none_or(|m| m.name != *name) {
            return false;
        }
        let gone = self.by_fold.remove(&*fold);
        gone.is_some_and(|m| matches!(m.state, State::In { .. } | State::Asked { .. }))
    }

    /// Applies another case mapping. Returns the channels that have become another one's twin.
    pub(crate) fn refold(&mut self, map: Casemapping) -> Vec<ChannelName> {
        let mut twins = Vec::new();
        for (_, membership) in std::mem::take(&mut self.by_fold) {
            let fold = map.fold(membership.name.as_str()).into_owned();
            match self.by_fold.entry(fold) {
                Entry::Vacant(free) => {
                    free.insert(membership);
                }
                Entry::Occupied(_) => twins.push(membership.name),
            }
        }
        twins
    }

    /// Returns our spelling of a channel that we want.
    pub(crate) fn find(&self, name: &str, map: Casemapping) -> Option<ChannelName> {
        self.by_fold.get(&*map.fold(name)).map(|m| m.name.clone())
    }

    pub(crate) fn is_in(&self, name: &str, map: Casemapping) -> bool {
        self.by_fold
            .get(&*map.fold(name))
            .is_some_and(|m| matches!(m.state, State::In { .. }))
    }

    /// Tells whether a JOIN of this channel has no answer yet.
    pub(crate) fn is_asked(&self, name: &str, map: Casemapping) -> bool {
        self.by_fold
            .get(&*map.fold(name))
            .is_some_and(|m| matches!(m.state, State::Asked { .. }))
    }

    /// Takes the next channel to ask for, and notes that it has been.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<ChannelName> {
        let due = self.by_fold.values_mut().find(|m| m.state == State::Due)?;
        due.state = State::Asked { since: now };
        Some(due.name.clone())
    }

    pub(crate) fn has_due(&self) -> bool {
        self.by_fold.values().any(|m| m.state == State::Due)
    }

    /// We are in. Returns our spelling, or `None` if we never wanted to be there.
    pub(crate) fn handle_joined(
        &mut self,
        name: &str,
        now: Instant,
        map: Casemapping,
    ) -> Option<ChannelName> {
        let membership = self.by_fold.get_mut(&*map.fold(name))?;
        membership.state = State::In { since: now };
        Some(membership.name.clone())
    }

    /// We are not in: refused, kicked, or made to leave. Asks again later.
    pub(crate) fn handle_out(
        &mut self,
        name: &str,
        now: Instant,
        map: Casemapping,
    ) -> Option<ChannelName> {
        let membership = self.by_fold.get_mut(&*map.fold(name))?;
        membership.fail(now);
        Some(membership.name.clone())
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let timeouts = self.by_fold.values().filter_map(|m| match m.state {
            State::Asked { since } => Some(since + ANSWER_WITHIN),
            State::Out { retry_at } => Some(retry_at),
            State::Due | State::In { .. } => None,
        });
        timeouts.min()
    }

    /// Makes channels due again, and gives up on answers that do not come. Returns the channels
    /// given up.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Vec<ChannelName> {
        let mut silent = Vec::new();
        for membership in self.by_fold.values_mut() {
            match membership.state {
                State::Out { retry_at } if retry_at <= now => membership.state = State::Due,
                State::Asked { since } if since + ANSWER_WITHIN <= now => {
                    membership.fail(now);
                    silent.push(membership.name.clone());
                }
                _ => {}
            }
        }
        silent
    }
}

impl Membership {
    fn fail(&mut self, now: Instant) {
        if matches!(self.state, State::In { since } if now.duration_since(since) >= SETTLED) {
            self.failures = 0;
        }
        let pause = FIRST_RETRY
            .saturating_mul(1 << self.failures.min(10))
            .min(LAST_RETRY);
        self.failures += 1;
        self.state = State::Out {
            retry_at: now + pause,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: Casemapping = Casemapping::Rfc1459;

    fn name(name: &str) -> ChannelName {
        ChannelName::parse(name).expect("a channel name")
    }

    #[test]
    fn a_channel_that_refuses_is_asked_ever_more_slowly() {
        let mut now = Instant::now();
        let mut channels = Channels::default();
        channels.want(&name("#a"), MAP);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            assert!(channels.handle_timeout(now).is_empty());
            assert_eq!(channels.take_due(now), Some(name("#a")));
            assert!(!channels.has_due());
            channels.handle_out("#A", now, MAP);
            let retry_at = channels.next_timeout().expect("a retry");
            pauses.push((retry_at - now).as_secs());
            now = retry_at;
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 900, 900]);
    }

    #[test]
    fn i6_twins_under_the_servers_case_mapping_are_one() {
        let mut channels = Channels::default();
        channels.want(&name("#a[]"), Casemapping::Ascii);
        channels.want(&name("#a{}"), Casemapping::Ascii);
        assert_eq!(channels.refold(Casemapping::Rfc1459), [name("#a{}")]);
        assert!(!channels.unwant(&name("#a{}"), Casemapping::Rfc1459));
        assert_eq!(
            channels.find("#A{}", Casemapping::Rfc1459),
            Some(name("#a[]"))
        );
    }

    #[test]
    fn a_join_without_an_answer_counts_as_refused() {
        let now = Instant::now();
        let mut channels = Channels::default();
        channels.want(&name("#a"), MAP);
        channels.take_due(now);
        assert!(channels.handle_timeout(now).is_empty());
        assert_eq!(channels.handle_timeout(now + ANSWER_WITHIN), [name("#a")]);
        channels.handle_timeout(now + ANSWER_WITHIN + FIRST_RETRY);
        assert!(channels.has_due());
    }
}
