//! Does the homeserver reach us?
//!
//! We let it ping us when we come up, when it was asked to come again, and when it has sent nothing for a while. That tells the
//! operator when the registration's `url` is wrong or the way from there is lost, and it ends the pause which a homeserver makes
//! after it could not reach us (Synapse 1.163: up to nine minutes).
//!
//! But never while it sends: a ping makes Synapse (1.163, `appservice/scheduler.py`, `force_retry`) begin its recovery without
//! asking whether one is under way, and two of them fall over each other, so that it sends nothing any more.

use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use crate::wire::call::{Answer, Call};
use crate::wire::fault::Fault;
use comity_net::backoff::Backoff;

/// How long after a transaction the next one may be on its way.
const SENDING: Duration = Duration::from_secs(1);
/// How long we wait for the end of a transaction that is in hand.
const IN_HAND: Duration = Duration::from_millis(300);
/// How soon the homeserver has noted that we refused a transaction.
const NOTED: Duration = Duration::from_millis(300);
/// How long it may send nothing before it is asked whether it still reaches us.
const SILENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Reason {
    /// We came up, it has refused us, or we have refused a transaction.
    News,
    /// The homeserver may have begun a pause just while the first ping was on its way, for what it had sent a moment too early.
    Again,
    Silence,
}

#[derive(Debug)]
pub(super) struct Reach {
    registration: String,
    due: Option<(Instant, Reason)>,
    /// What the ping under way is for.
    asked: Reason,
    backoff: Backoff,
    pinged_at: Option<Instant>,
    pushed_at: Option<Instant>,
    /// Since we came up, the homeserver has shown that it reaches us, or that it cannot show it.
    reached: bool,
}

impl Reach {
    pub(super) fn new(registration: &str) -> Self {
        Self {
            registration: registration.to_owned(),
            due: None,
            asked: Reason::News,
            backoff: Backoff::new(Duration::from_secs(1), SILENCE),
            pinged_at: None,
            pushed_at: None,
            reached: false,
        }
    }

    pub(super) fn is_reached(&self) -> bool {
        self.reached
    }

    pub(super) fn due(&self) -> Option<Instant> {
        Some(self.due?.0)
    }

    /// We came up.
    pub(super) fn rise(&mut self, now: Instant) {
        self.backoff.reset();
        self.due = Some((now, Reason::News));
        self.reached = false;
    }

    /// A transaction was refused: a ping ends the pause which the homeserver makes then, as soon as it has begun it.
    pub(super) fn ask_soon(&mut self, now: Instant) {
        self.due = Some((now + NOTED, Reason::News));
    }

    /// A transaction came.
    pub(super) fn note_transaction(&mut self, now: Instant) {
        self.pushed_at = Some(now);
        self.reached = true;
    }

    /// `is_idle`: no transaction is in our hands.
    pub(super) fn poll(&mut self, now: Instant, is_idle: bool) -> Option<Call> {
        let (_, reason) = self.due.filter(|(due, _)| *due <= now)?;
        let since_push = self.pushed_at.map(|at| now.saturating_duration_since(at));
        if !is_idle {
            self.due = Some((now + IN_HAND, reason));
            return None;
        }
        let (quiet, reason) = match reason {
            Reason::News => (SENDING, reason),
            // It has sent something since, so there is no pause.
            Reason::Again if self.pushed_at >= self.pinged_at => (SILENCE, Reason::Silence),
            Reason::Again => (SENDING, reason),
            Reason::Silence => (SILENCE, reason),
        };
        if let Some(since) = since_push.filter(|since| *since < quiet) {
            self.due = Some((now + (quiet - since), reason));
            return None;
        }
        self.due = None;
        self.asked = reason;
        self.pinged_at = Some(now);
        Some(Call::Ping {
            registration: self.registration.clone(),
        })
    }

    pub(super) fn handle_answer(&mut self, now: Instant, result: Result<Answer, Fault>) {
        let next = match result {
            Ok(Answer::NotReached(why)) => {
                warn!(%why, "the homeserver cannot reach us: look at `url` in the registration that it has read");
                self.reached = false;
                (now + self.backoff.next_wait(), Reason::News)
            }
            Ok(_) => {
                self.backoff.reset();
                if !std::mem::replace(&mut self.reached, true) {
                    info!("the homeserver reaches us");
                }
                match self.asked {
                    Reason::News => (now + SENDING, Reason::Again),
                    Reason::Again | Reason::Silence => (now + SILENCE, Reason::Silence),
                }
            }
            Err(Fault::Refused {
                status: 404 | 405, ..
            }) => {
                self.reached = true;
                info!("this homeserver has no ping; it will find us by itself");
                return;
            }
            Err(fault @ Fault::Refused { .. }) if !fault.is_bad_token() => {
                self.reached = true;
                warn!(%fault, "the homeserver does not ping us; does the configuration name the registration that it has read?");
                (now + SILENCE, Reason::Silence)
            }
            Err(Fault::Limited(pause)) => (now + pause, self.asked),
            // The homeserver itself did not answer, which says nothing about its way to us.
            Err(fault) => {
                debug!(%fault, "not pinged");
                (now + self.backoff.next_wait(), self.asked)
            }
        };
        // What became due meanwhile comes first.
        self.due.get_or_insert(next);
    }
}
