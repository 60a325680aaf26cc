//! Whether there is reason to suspect that transactions come out of order, or leave something out.
//!
//! There is when the homeserver has not been able to send us something: when it was away, when a connection broke, since we have
//! refused a transaction, and when one brings what a user of this homeserver said a while ago, for then it was kept back. (What a
//! user of another homeserver said a while ago may have taken its time on the way between the two.)
//!
//! Suspicion ends when nothing of that has happened for [`CALM`], and nothing at all has come, for what comes may be part of a recovery,
//! and what was said at its end is left behind; but a room that is never quiet keeps it for [`LONGEST`] only. Then every room is looked
//! at once more. While the homeserver cannot reach us there is no calm.

use std::time::{Duration, Instant};

use crate::ident::Names;
use crate::wire::event::RoomEvent;

/// How long nothing may be amiss before the rooms are looked at for the last time.
const CALM: Duration = Duration::from_secs(3);
/// How long what comes without anything amiss may put that off.
const LONGEST: Duration = Duration::from_secs(20);
/// What was said longer ago than this, in milliseconds, was kept back: after a failure, Synapse (1.163) waits two seconds at least.
const OLD: i64 = 1_900;

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Since something was amiss last, until then at least.
    Watchful {
        since: Instant,
        until: Instant,
    },
    /// The last look is under way.
    Last,
    None,
}

#[derive(Debug)]
pub(super) struct Suspicion {
    state: State,
}

impl Suspicion {
    pub(super) fn new(now: Instant) -> Self {
        let mut suspicion = Self { state: State::None };
        suspicion.arise(now);
        suspicion
    }

    /// Something is amiss.
    pub(super) fn arise(&mut self, now: Instant) {
        self.state = State::Watchful {
            since: now,
            until: now + CALM,
        };
    }

    /// A transaction came.
    pub(super) fn go_on(&mut self, now: Instant) {
        if let State::Watchful { since, until } = &mut self.state {
            *until = (now + CALM).min(*since + LONGEST).max(*until);
        }
    }

    /// Whether a transaction shows that it was kept back.
    pub(super) fn is_kept_back(events: &[RoomEvent], names: &Names) -> bool {
        events.iter().any(|event| {
            names.is_local(&event.sender) && event.remarks.age.is_some_and(|age| age > OLD)
        })
    }

    pub(super) fn is_there(&self) -> bool {
        self.state != State::None
    }

    pub(super) fn is_last(&self) -> bool {
        self.state == State::Last
    }

    /// When it is calm at last, unless something happens.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.state {
            State::Watchful { until, .. } => Some(until),
            State::Last | State::None => None,
        }
    }

    /// Whether the last look is to be begun now.
    pub(super) fn poll(&mut self, now: Instant) -> bool {
        let is_calm = self.due().is_some_and(|due| due <= now);
        if is_calm {
            self.state = State::Last;
        }
        is_calm
    }

    /// Nothing is being looked at. True when that was the last look.
    pub(super) fn looked(&mut self) -> bool {
        let is_last = self.state == State::Last;
        if is_last {
            self.state = State::None;
        }
        is_last
    }
}
