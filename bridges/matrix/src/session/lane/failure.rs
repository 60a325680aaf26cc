//! What a failure means for a delivery: is it over, is it to be tried again, or may it have arrived?

use std::time::{Duration, Instant};

use comity_bridge::{DeliveryError, Outcome};

use super::{Asked, Work, untouched};
use crate::session::ghosts::Ghosts;
use crate::wire::fault::Fault;

/// How long to wait after a failure that says nothing about it.
const PAUSE: Duration = Duration::from_secs(1);

impl Work {
    /// Returns the outcome, or none to go on.
    pub(super) fn handle_fault(
        &mut self,
        now: Instant,
        asked: &Asked,
        fault: &Fault,
        ghosts: &mut Ghosts,
    ) -> Option<Outcome> {
        match fault {
            // Given back, it would be asked about again at once: doubt has no time to wait for.
            Fault::Limited(after) if self.doubt => {
                self.pause_until = Some(now + *after);
                return None;
            }
            Fault::Limited(after) => {
                return Some(Outcome::Retry {
                    after: *after,
                    why: DeliveryError::RateLimited(*after),
                });
            }
            // A page of a proxy, for this message and not for another call just now.
            Fault::Failing { status, .. }
                if self.served && *status < 500 && matches!(asked, Asked::Send(_)) =>
            {
                return Some(Outcome::Park(DeliveryError::Rejected(fault.to_string())));
            }
            Fault::Broken(_) | Fault::Failing { .. } | Fault::Unreadable(_)
                if matches!(asked, Asked::Send(_)) =>
            {
                return Some(Outcome::Ambiguous {
                    why: DeliveryError::ConnectionLost(fault.to_string()),
                });
            }
            Fault::Refused { .. } if !fault.is_bad_token() => {}
            Fault::Failing { .. } if !self.doubt => return Some(self.failing(fault)),
            _ => return Some(self.interrupted(&fault.to_string())),
        }
        match asked {
            // The bot may not read the room: then it is not in it.
            Asked::Look => Some(Outcome::Ambiguous {
                why: DeliveryError::NotJoined(fault.to_string()),
            }),
            Asked::Probe => {
                self.wants_probe = false;
                None
            }
            // The name is a nicety; the message is not.
            Asked::Name => {
                ghosts.of(&self.speaker).name = Some(self.name.clone());
                None
            }
            // Perhaps it is invited already; joining shows it.
            Asked::Invite => {
                self.wants_invite = false;
                None
            }
            Asked::Join if fault.is_forbidden() && !self.invited => {
                self.invited = true;
                self.wants_invite = true;
                None
            }
            Asked::Send(_) if fault.is_forbidden() && !self.rejoined => {
                self.rejoined = true;
                self.wants_join = true;
                ghosts.forget(&self.speaker);
                None
            }
            _ => Some(self.refused(asked, fault)),
        }
    }

    /// The homeserver fails before the message itself is sent.
    fn failing(&self, fault: &Fault) -> Outcome {
        let why = DeliveryError::Rejected(fault.to_string());
        // Nothing is wrong with the homeserver otherwise: others must not wait for this ghost.
        if self.served && !self.begun {
            return Outcome::Park(why);
        }
        Outcome::Retry { after: PAUSE, why }
    }

    fn refused(&self, asked: &Asked, fault: &Fault) -> Outcome {
        let why = fault.to_string();
        if matches!(fault, Fault::Refused { status: 413, .. })
            || fault.errcode() == Some("M_TOO_LARGE")
        {
            return Outcome::GiveUp(DeliveryError::TooLarge(why));
        }
        if fault.is_everybodys() {
            return Outcome::Retry {
                after: PAUSE,
                why: DeliveryError::Rejected(why),
            };
        }
        if fault.is_forbidden() {
            // The first time it may be the bot that is out of the room, which is looked into.
            return if self.job.attempt <= 1 {
                Outcome::Retry {
                    after: PAUSE,
                    why: DeliveryError::NotJoined(why),
                }
            } else {
                Outcome::GiveUp(DeliveryError::Forbidden(why))
            };
        }
        match asked {
            // A ghost that cannot be made is the registration's fault, not the message's.
            Asked::Register => Outcome::Park(DeliveryError::Rejected(why)),
            _ => Outcome::GiveUp(DeliveryError::Rejected(why)),
        }
    }

    /// The outcome of something that was cut off between two sendings.
    pub(super) fn interrupted(&self, why: &str) -> Outcome {
        if self.done.len() == self.spoken.parts.len() {
            Outcome::Shown
        } else if self.doubt {
            untouched(true)
        } else if self.begun {
            Outcome::Retry {
                after: PAUSE,
                why: DeliveryError::ConnectionLost(why.to_owned()),
            }
        } else {
            Outcome::NotAttempted
        }
    }
}
