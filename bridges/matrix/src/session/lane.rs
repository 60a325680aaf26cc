//! The deliveries of one channel, one after another.
//!
//! One at a time: a homeserver promises no order between two requests of one room, not even between those of one sender.
//! Rooms go beside each other.
//!
//! Each goes the same way: look whether it is there already (in doubt only), make the ghost, give
//! it its name, let it into the room, make the splitting durable, send part by part. What is known
//! to be done is skipped. Only sending can leave a delivery in doubt.
//!
//! `work` goes that way, `look` looks whether a delivery in doubt is there, and `failure` says what a failure means for it.

mod failure;
mod look;
mod work;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use comity_bridge::{DeliveryError, DeliveryKey, Outcome};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};

use super::ghosts::Ghosts;
use super::{Action, Job, Settings};
use crate::ident::Names;
use crate::outbound::Spoken;
use crate::wire::call::{Answer, Call};
use crate::wire::fault::Fault;

/// How long the gateway may take to hear of a failure before successors of it are let through:
/// long enough for a message between two tasks, short enough to hold up nothing for good when
/// the failed one never comes again.
const HOLD: Duration = Duration::from_millis(250);

/// What a lane wants done.
#[derive(Debug)]
pub(super) enum Step {
    Call(Call),
    Plan {
        key: DeliveryKey,
        parts: Vec<String>,
    },
}

#[derive(Clone, Debug, PartialEq)]
enum Asked {
    Nothing,
    Look,
    Probe,
    Register,
    Name,
    Join,
    Invite,
    Plan,
    Send(usize),
}

/// The delivery at the head.
#[derive(Debug)]
struct Work {
    job: Job,
    room: OwnedRoomId,
    spoken: Spoken,
    speaker: OwnedUserId,
    name: String,
    done: BTreeMap<usize, OwnedEventId>,
    planned: bool,
    doubt: bool,
    from: Option<String>,
    pages: u32,
    /// Messages of the speaker that may be this one, and were redacted; newest first.
    redacted: Vec<OwnedEventId>,
    /// The homeserver limits the rate: not before this.
    pause_until: Option<Instant>,
    /// The users by whom an earlier attempt may have spoken.
    speakers: Vec<OwnedUserId>,
    /// A part has been sent in this attempt.
    begun: bool,
    /// The bot is to enter the room anew (relay).
    wants_join: bool,
    /// The bot is to invite the ghost.
    wants_invite: bool,
    invited: bool,
    /// The room was entered anew because sending was forbidden.
    rejoined: bool,
    /// It is to be asked whether the homeserver does anything for us.
    wants_probe: bool,
    /// It does: it has written something down in this attempt.
    served: bool,
    asked: Asked,
}

#[derive(Debug, Default)]
pub(super) struct Lane {
    waiting: VecDeque<Job>,
    work: Option<Work>,
    /// The `seq` of what came back unshown, and until when its successors are not let past it.
    held: Option<(u64, Instant)>,
}

/// The outcome of a delivery that was not begun. Where there was doubt, it stays.
fn untouched(doubt: bool) -> Outcome {
    if doubt {
        Outcome::Ambiguous {
            why: DeliveryError::ConnectionLost("not looked up yet".to_owned()),
        }
    } else {
        Outcome::NotAttempted
    }
}

/// A delivery that can be neither begun nor queued.
pub(super) fn decline(job: &Job) -> Action {
    Action::Finish {
        outcome: untouched(job.doubt),
        key: job.key.clone(),
    }
}

impl Lane {
    /// Queues a delivery. One that was handed over before the gateway heard that its predecessor
    /// had failed comes back at once, or it would be shown out of order.
    pub(super) fn push(&mut self, now: Instant, job: Job, actions: &mut VecDeque<Action>) {
        if let Some((seq, until)) = self.held {
            if job.event.seq > seq && now < until {
                actions.push_back(decline(&job));
                return;
            }
            self.held = None;
        }
        self.waiting.push_back(job);
    }

    /// When the pause of what is at the head is over.
    pub(super) fn due(&self) -> Option<Instant> {
        let work = self.work.as_ref()?;
        work.pause_until.filter(|_| work.asked == Asked::Nothing)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.work.is_none() && self.waiting.is_empty()
    }

    fn give_back_waiting(&mut self, actions: &mut VecDeque<Action>) {
        actions.extend(self.waiting.drain(..).map(|job| decline(&job)));
    }

    /// Gives back everything, at once.
    pub(super) fn abandon(&mut self, actions: &mut VecDeque<Action>) {
        if let Some(work) = self.work.take() {
            let outcome = match work.asked {
                Asked::Send(_) => Outcome::Ambiguous {
                    why: DeliveryError::ConnectionLost("stopped while sending".to_owned()),
                },
                _ => work.interrupted("stopped"),
            };
            actions.push_back(Action::Finish {
                key: work.job.key,
                outcome,
            });
        }
        self.give_back_waiting(actions);
    }

    /// Gives a delivery back that has not begun, and those behind it, since outcomes are a prefix.
    pub(super) fn cancel(
        &mut self,
        now: Instant,
        key: &DeliveryKey,
        actions: &mut VecDeque<Action>,
    ) {
        if let Some(at) = self.waiting.iter().position(|job| job.key == *key) {
            let back = self.waiting.split_off(at);
            self.held = back.front().map(|job| (job.event.seq, now + HOLD));
            actions.extend(back.iter().map(decline));
        }
    }

    /// What to do next. Without a room to `speak_in`, what is at the head ends where it stands
    /// as soon as its call is answered, and the rest follows it.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        speak_in: Option<&OwnedRoomId>,
        settings: &Settings,
        ghosts: &mut Ghosts,
        actions: &mut VecDeque<Action>,
    ) -> Option<Step> {
        loop {
            if self
                .work
                .as_ref()
                .is_some_and(|work| work.asked != Asked::Nothing)
            {
                return None;
            }
            let Some(room) = speak_in else {
                if let Some(work) = &self.work {
                    let outcome = work.interrupted("the room or its homeserver is away");
                    self.finish(now, outcome, actions);
                }
                self.give_back_waiting(actions);
                return None;
            };
            let Some(work) = self.work.as_mut() else {
                let job = self.waiting.pop_front()?;
                match Work::begin(job, room, settings) {
                    Ok(work) => self.work = Some(work),
                    Err((key, outcome)) => actions.push_back(Action::Finish { key, outcome }),
                }
                continue;
            };
            if work.pause_until.is_some_and(|until| now < until) {
                return None;
            }
            match work.next(settings, ghosts) {
                Some(step) => return Some(step),
                None => self.finish(now, Outcome::Shown, actions),
            }
        }
    }

    fn finish(&mut self, now: Instant, outcome: Outcome, actions: &mut VecDeque<Action>) {
        let Some(work) = self.work.take() else { return };
        let is_over = matches!(
            outcome,
            Outcome::Shown | Outcome::Park(_) | Outcome::GiveUp(_)
        );
        actions.push_back(Action::Finish {
            key: work.job.key,
            outcome,
        });
        if !is_over {
            self.held = Some((work.job.event.seq, now + HOLD));
            self.give_back_waiting(actions);
        }
    }

    pub(super) fn handle_planned(
        &mut self,
        now: Instant,
        key: &DeliveryKey,
        durable: bool,
        actions: &mut VecDeque<Action>,
    ) {
        let Some(work) = self
            .work
            .as_mut()
            .filter(|work| work.job.key == *key && work.asked == Asked::Plan)
        else {
            return;
        };
        work.asked = Asked::Nothing;
        work.planned = durable;
        if !durable {
            self.finish(now, Outcome::NotAttempted, actions);
        }
    }

    /// Returns true when it should be checked whether the bot is still in the room.
    pub(super) fn handle_answer(
        &mut self,
        now: Instant,
        result: Result<Answer, Fault>,
        names: &Names,
        ghosts: &mut Ghosts,
        actions: &mut VecDeque<Action>,
    ) -> bool {
        let Some(work) = self.work.as_mut() else {
            return false;
        };
        let asked = std::mem::replace(&mut work.asked, Asked::Nothing);
        let ended = match result {
            Ok(answer) => {
                work.handle_success(&asked, answer, names, ghosts, actions);
                None
            }
            Err(fault) => work.handle_fault(now, &asked, &fault, ghosts),
        };
        let recheck = matches!(
            &ended,
            Some(
                Outcome::Retry {
                    why: DeliveryError::NotJoined(_),
                    ..
                } | Outcome::Ambiguous {
                    why: DeliveryError::NotJoined(_)
                }
            )
        );
        if let Some(outcome) = ended {
            self.finish(now, outcome, actions);
        }
        recheck
    }
}
