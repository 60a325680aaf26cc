//! Is the homeserver there, does it know us, can it reach us?
//!
//! Coming up is always the same sequence: `/versions`, register the bot, whoami, its display
//! name. Only then are we online. Then we let the homeserver ping us: that ends the pause which it
//! makes after it could not reach us (Synapse 1.163: up to nine minutes), and tells the operator when the
//! registration's `url` is wrong.

use std::time::{Duration, Instant};

use ruma::OwnedUserId;
use tracing::{debug, info, warn};

use super::Settings;
use crate::wire::call::{Answer, Call};
use crate::wire::fault::Fault;
use comity_net::backoff::Backoff;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Versions,
    Register,
    Whoami,
    Name,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Waiting for `due`.
    Down,
    /// A step of coming up is wanted (`false`) or asked (`true`).
    Rising(Step, bool),
    Up,
    /// Up, but a call broke: `/versions` is wanted (`false`) or asked (`true`).
    Doubtful(bool),
}

/// A change that the gateway hears of.
#[derive(Debug, PartialEq)]
pub(super) enum Turn {
    Up,
    Down(String),
}

#[derive(Debug)]
pub(super) struct Health {
    bot: OwnedUserId,
    bot_name: String,
    registration: String,
    phase: Phase,
    due: Option<Instant>,
    backoff: Backoff,
    ping_due: Option<Instant>,
    ping_backoff: Backoff,
    /// One more ping follows: the homeserver may begin a pause just while we come up, for what it
    /// had sent a moment too early.
    ping_again: bool,
    /// Since we came up, the homeserver has shown that it reaches us, or that it cannot show it.
    reached: bool,
}

impl Health {
    pub(super) fn new(now: Instant, settings: &Settings) -> Self {
        Self {
            bot: settings.names.bot().clone(),
            bot_name: settings.bot_name.clone(),
            registration: settings.registration.clone(),
            phase: Phase::Down,
            due: Some(now),
            // A homeserver on this machine or near it: asking is cheap, and messages wait for the answer.
            backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(4)),
            ping_due: None,
            ping_backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(300)),
            ping_again: false,
            reached: false,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up | Phase::Doubtful(_))
    }

    /// Whether the homeserver is there and sends us what it has for us.
    pub(super) fn is_reached(&self) -> bool {
        self.is_up() && self.reached
    }

    pub(super) fn due(&self) -> Option<Instant> {
        let ping = if self.is_up() { self.ping_due } else { None };
        self.due.into_iter().chain(ping).min()
    }

    pub(super) fn poll(&mut self, now: Instant) -> Option<Call> {
        if self.phase == Phase::Down && self.due.is_some_and(|due| due <= now) {
            self.due = None;
            self.phase = Phase::Rising(Step::Versions, false);
        }
        match &mut self.phase {
            Phase::Rising(step, asked @ false) => {
                *asked = true;
                Some(match step {
                    Step::Versions => Call::Versions,
                    Step::Register => Call::Register {
                        localpart: self.bot.localpart().to_owned(),
                    },
                    Step::Whoami => Call::Whoami,
                    Step::Name => Call::SetName {
                        user: self.bot.clone(),
                        name: self.bot_name.clone(),
                    },
                })
            }
            Phase::Doubtful(asked @ false) => {
                *asked = true;
                Some(Call::Versions)
            }
            _ => None,
        }
    }

    pub(super) fn poll_ping(&mut self, now: Instant) -> Option<Call> {
        if !self.is_up() || self.ping_due.is_none_or(|due| due > now) {
            return None;
        }
        self.ping_due = None;
        Some(Call::Ping {
            registration: self.registration.clone(),
        })
    }

    pub(super) fn handle_answer(
        &mut self,
        now: Instant,
        result: Result<Answer, Fault>,
    ) -> Option<Turn> {
        match (self.phase, result) {
            (Phase::Doubtful(true), Ok(_)) => {
                self.phase = Phase::Up;
                None
            }
            (Phase::Doubtful(true), Err(fault)) => self.fall(now, &fault),
            (Phase::Rising(step, true), Ok(answer)) => self.climb(now, step, &answer),
            // A display name is a nicety (and Synapse forbids to change it where it is told to).
            (Phase::Rising(Step::Name, true), Err(fault @ Fault::Refused { .. }))
                if !fault.is_bad_token() =>
            {
                warn!(%fault, "the bot's display name was refused");
                self.rise(now)
            }
            (Phase::Rising(_, true), Err(fault)) => self.fall(now, &fault),
            _ => None,
        }
    }

    fn climb(&mut self, now: Instant, step: Step, answer: &Answer) -> Option<Turn> {
        let next = match (step, answer) {
            (Step::Versions, _) => Step::Register,
            (Step::Register, _) => Step::Whoami,
            (Step::Whoami, Answer::User(user)) if *user != self.bot => {
                let (found, wanted) = (user.clone(), self.bot.clone());
                return self.stay_down(
                    now,
                    format!("the homeserver takes our as_token for {found}, not {wanted}; is the registration that it has read still this network's?"),
                );
            }
            (Step::Whoami, _) => Step::Name,
            (Step::Name, _) => return self.rise(now),
        };
        self.phase = Phase::Rising(next, false);
        None
    }

    fn rise(&mut self, now: Instant) -> Option<Turn> {
        self.phase = Phase::Up;
        self.backoff.reset();
        self.ping_backoff.reset();
        self.ping_due = Some(now);
        self.ping_again = true;
        self.reached = false;
        Some(Turn::Up)
    }

    /// Another call failed: does that say anything about the homeserver?
    pub(super) fn handle_fault(&mut self, now: Instant, fault: &Fault) -> Option<Turn> {
        if !self.is_up() {
            return None;
        }
        match fault {
            Fault::Unreachable(_) => self.fall(now, fault),
            Fault::Broken(_) | Fault::Failing { .. } => {
                if self.phase == Phase::Up {
                    self.phase = Phase::Doubtful(false);
                }
                None
            }
            Fault::Refused { .. } if fault.is_bad_token() => self.fall(now, fault),
            _ => None,
        }
    }

    fn fall(&mut self, now: Instant, fault: &Fault) -> Option<Turn> {
        let why = if fault.is_bad_token() {
            format!(
                "the homeserver does not know our as_token ({fault}); has it read this network's registration?"
            )
        } else {
            fault.to_string()
        };
        let pause = if let Fault::Limited(pause) = fault {
            *pause
        } else {
            Duration::ZERO
        };
        self.due = Some(now + pause);
        self.stay_down(now, why)
    }

    fn stay_down(&mut self, now: Instant, why: String) -> Option<Turn> {
        self.phase = Phase::Down;
        let next = now + self.backoff.next_wait();
        self.due = Some(self.due.map_or(next, |due| due.max(next)));
        Some(Turn::Down(why))
    }

    /// A transaction was refused: a ping ends the pause which the homeserver makes then, as soon
    /// as it has begun it.
    pub(super) fn ping_soon(&mut self, now: Instant) {
        self.ping_due = Some(now + Duration::from_millis(300));
        self.ping_again = true;
    }

    pub(super) fn handle_ping(&mut self, now: Instant, result: Result<Answer, Fault>) {
        match result {
            Ok(Answer::NotReached(why)) => {
                warn!(%why, "the homeserver cannot reach us: look at `url` in the registration that it has read");
                self.ping_due = Some(now + self.ping_backoff.next_wait());
            }
            Ok(_) => {
                self.reached = true;
                self.ping_backoff.reset();
                if std::mem::take(&mut self.ping_again) {
                    info!("the homeserver reaches us");
                    self.ping_due = Some(now + Duration::from_secs(1));
                }
            }
            Err(Fault::Refused {
                status: 404 | 405, ..
            }) => {
                self.reached = true;
                info!("this homeserver has no ping; it will find us by itself");
            }
            Err(Fault::Limited(pause)) => self.ping_due = Some(now + pause),
            // The homeserver itself did not answer, which says nothing about its way to us.
            Err(fault) => {
                debug!(%fault, "not pinged");
                self.ping_due = Some(now + self.ping_backoff.next_wait());
            }
        }
    }
}
