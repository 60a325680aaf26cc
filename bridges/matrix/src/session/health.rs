//! Is the homeserver there, and does it know us?
//!
//! Coming up is always the same sequence: `/versions`, register the bot, whoami, its display
//! name. Only then are we online. Whether the homeserver reaches us is another question (`reach`).

use std::time::{Duration, Instant};

use ruma::OwnedUserId;
use tracing::warn;

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
    phase: Phase,
    due: Option<Instant>,
    backoff: Backoff,
}

impl Health {
    pub(super) fn new(now: Instant, settings: &Settings) -> Self {
        Self {
            bot: settings.names.bot().clone(),
            bot_name: settings.bot_name.clone(),
            phase: Phase::Down,
            due: Some(now),
            // A homeserver on this machine or near it: asking is cheap, and messages wait for the answer.
            backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(4)),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up | Phase::Doubtful(_))
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
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
                self.rise()
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
            (Step::Name, _) => return self.rise(),
        };
        self.phase = Phase::Rising(next, false);
        None
    }

    fn rise(&mut self) -> Option<Turn> {
        self.phase = Phase::Up;
        self.backoff.reset();
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
}
