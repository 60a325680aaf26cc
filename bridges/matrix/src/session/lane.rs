//! The deliveries of one channel, one after another.
//!
//! One at a time: a homeserver promises no order between two requests of one room, not even between those of one sender.
//! Rooms go beside each other.
//!
//! Each goes the same way: look whether it is there already (in doubt only), make the ghost, give
//! it its name, let it into the room, make the splitting durable, send part by part. What is known
//! to be done is skipped. Only sending can leave a delivery in doubt.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use comity_bridge::{DeliveryError, DeliveryKey, Outcome, failpoint};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};

use super::ghosts::Ghosts;
use super::{Action, Job, Settings};
use crate::config::Users;
use crate::ident::{KEY_FIELD, LATE_FIELD, Names, parse_mark, transaction_id};
use crate::inbound::clean_name;
use crate::outbound::{self, Spoken};
use crate::wire::call::{Answer, Call};
use crate::wire::event::RoomEvent;
use crate::wire::fault::Fault;

/// How far a room is read back for a message that may be there. Only the speaker's own messages are on the pages, and the one in
/// doubt is among the newest of them, since nothing of this room is sent before its doubt is resolved.
const MAX_PAGES: u32 = 10;
/// A message of the speaker that was redacted has lost our mark. It is taken for the one in doubt when it was sent after that was
/// received, less this, in milliseconds: to say again what a moderator took away would be worse than the rare mistake.
const REDACTED_MARGIN: i64 = 1000;
/// The homeserver's clock and ours may differ by this much, in milliseconds.
const CLOCK_MARGIN: i64 = 5 * 60 * 1000;
/// How long to wait after a failure that says nothing about it.
const PAUSE: Duration = Duration::from_secs(1);
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

impl Work {
    fn begin(
        job: Job,
        room: &OwnedRoomId,
        settings: &Settings,
    ) -> Result<Self, (DeliveryKey, Outcome)> {
        let mut spoken = match outbound::speak(&job.event, &job.refs, settings.users) {
            Ok(spoken) => spoken,
            Err(error) => {
                return Err((
                    job.key,
                    Outcome::GiveUp(DeliveryError::Unsupported(error.to_string())),
                ));
            }
        };
        let mut done = BTreeMap::new();
        if let Some(plan) = &job.plan {
            spoken.parts.clone_from(&plan.parts);
            for (index, ids) in &plan.done {
                let id = ids
                    .first()
                    .and_then(|id| OwnedEventId::try_from(id.0.as_str()).ok());
                if let (Ok(index), Some(id)) = (usize::try_from(*index), id) {
                    done.insert(index, id);
                }
            }
        }
        let ghost = settings.names.ghost(&job.event.author.address);
        let speaker = match settings.users {
            Users::Ghosts => ghost.clone(),
            Users::Relay => settings.names.bot().clone(),
        };
        let name = clean_name(&job.event.author.name);
        let name = if name.is_empty() {
            job.event.author.address.user().to_owned()
        } else {
            name
        };
        Ok(Self {
            planned: job.plan.is_some() || spoken.parts.len() <= 1,
            doubt: job.doubt,
            job,
            room: room.clone(),
            spoken,
            speaker,
            name,
            done,
            from: None,
            pages: 0,
            redacted: Vec::new(),
            pause_until: None,
            speakers: vec![ghost, settings.names.bot().clone()],
            begun: false,
            wants_join: false,
            wants_invite: false,
            invited: false,
            rejoined: false,
            asked: Asked::Nothing,
        })
    }

    /// The next thing to ask; none when everything has been sent.
    fn next(&mut self, settings: &Settings, ghosts: &mut Ghosts) -> Option<Step> {
        let part = (0..self.spoken.parts.len()).find(|part| !self.done.contains_key(part))?;
        let (user, room) = (self.speaker.clone(), self.room.clone());
        if self.doubt {
            return self.call(
                Asked::Look,
                Call::History {
                    room,
                    from: self.from.clone(),
                    senders: self.speakers.clone(),
                },
            );
        }
        if settings.users == Users::Ghosts {
            let ghost = ghosts.of(&user);
            if !ghost.registered {
                return self.call(
                    Asked::Register,
                    Call::Register {
                        localpart: user.localpart().to_owned(),
                    },
                );
            }
            if ghost.name.as_deref() != Some(&self.name) {
                return self.call(
                    Asked::Name,
                    Call::SetName {
                        user,
                        name: self.name.clone(),
                    },
                );
            }
            self.wants_join = !ghost.is_in(&room);
        }
        if self.wants_invite {
            return self.call(Asked::Invite, Call::Invite { user, room });
        }
        if self.wants_join {
            return self.call(
                Asked::Join,
                Call::Join {
                    user,
                    room,
                    via: Vec::new(),
                },
            );
        }
        if !self.planned {
            self.asked = Asked::Plan;
            return Some(Step::Plan {
                key: self.job.key.clone(),
                parts: self.spoken.parts.clone(),
            });
        }
        if part > 0 {
            failpoint::reached("matrix.between_parts");
        }
        let content = outbound::content(
            self.spoken.kind,
            &self.spoken.parts[part],
            self.spoken.reply_to.as_deref(),
            &self.job.key,
            part,
            self.job.late.is_some(),
        );
        let txn = transaction_id(&self.job.key, part);
        self.call(
            Asked::Send(part),
            Call::Send {
                user,
                room,
                txn,
                written: self.job.late,
                content,
            },
        )
    }

    fn call(&mut self, asked: Asked, call: Call) -> Option<Step> {
        self.asked = asked;
        self.pause_until = None;
        Some(Step::Call(call))
    }

    fn handle_success(
        &mut self,
        asked: &Asked,
        answer: Answer,
        names: &Names,
        ghosts: &mut Ghosts,
        actions: &mut VecDeque<Action>,
    ) {
        match (asked, answer) {
            (Asked::Look, Answer::Page { events, next }) => {
                self.look(&events, next, names, actions)
            }
            (Asked::Register, _) => ghosts.of(&self.speaker).registered = true,
            (Asked::Name, _) => ghosts.of(&self.speaker).name = Some(self.name.clone()),
            (Asked::Invite, _) => self.wants_invite = false,
            (Asked::Join, _) => {
                self.wants_join = false;
                ghosts.of(&self.speaker).note(&self.room, true);
            }
            (Asked::Send(part), Answer::Sent(id)) => {
                self.begun = true;
                self.landed(*part, id, actions);
            }
            _ => {}
        }
    }

    fn landed(&mut self, part: usize, id: OwnedEventId, actions: &mut VecDeque<Action>) {
        if part < self.spoken.parts.len() && !self.done.contains_key(&part) {
            self.done.insert(part, id.clone());
            actions.push_back(Action::Part {
                key: self.job.key.clone(),
                index: part,
                id,
            });
        }
    }

    /// Looks for our mark on a page of the room. Only our own users are believed to carry it.
    fn look(
        &mut self,
        events: &[RoomEvent],
        next: Option<String>,
        names: &Names,
        actions: &mut VecDeque<Action>,
    ) {
        self.pages += 1;
        let oldest_of_interest = self.job.received().0.saturating_sub(CLOCK_MARGIN);
        let (mut is_past, mut old) = (true, 0);
        for event in events.iter().filter(|event| names.is_ours(&event.sender)) {
            let sent = event.origin_server_ts.and_then(|ts| i64::try_from(ts).ok());
            if event.remarks.redacted {
                if sent.is_some_and(|sent| self.may_be_this(sent)) {
                    self.redacted.push(event.event_id.clone());
                }
                continue;
            }
            if let Some((key, part)) = event.text(KEY_FIELD).and_then(parse_mark)
                && key == self.job.key
            {
                self.landed(part, event.event_id.clone(), actions);
            }
            // A message that was sent late bears an older time than the one at which it was sent.
            if !event.content.contains_key(LATE_FIELD) {
                let is_old = sent.is_some_and(|sent| sent < oldest_of_interest);
                is_past &= is_old;
                old += u32::from(is_old);
            }
        }
        if next.is_none() || (is_past && old > 0) || self.pages >= MAX_PAGES {
            self.doubt = false;
            self.take_redacted(actions);
        }
        self.from = next;
    }

    /// Whether a redacted message of the speaker, sent at this time, may be the one in doubt.
    fn may_be_this(&self, sent: i64) -> bool {
        match self.job.late {
            Some(written) => sent == written.0,
            None => sent >= self.job.received().0.saturating_sub(REDACTED_MARGIN),
        }
    }

    /// What was redacted are the parts that are not there otherwise, in their order.
    fn take_redacted(&mut self, actions: &mut VecDeque<Action>) {
        for part in 0..self.spoken.parts.len() {
            if !self.done.contains_key(&part)
                && let Some(id) = self.redacted.pop()
            {
                self.landed(part, id, actions);
            }
        }
    }

    /// Returns the outcome, or none to go on.
    fn handle_fault(
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
            Fault::Broken(_) | Fault::Unreadable(_) if matches!(asked, Asked::Send(_)) => {
                return Some(Outcome::Ambiguous {
                    why: DeliveryError::ConnectionLost(fault.to_string()),
                });
            }
            Fault::Refused { .. } if !fault.is_bad_token() => {}
            _ => return Some(self.interrupted(&fault.to_string())),
        }
        match asked {
            // The bot may not read the room: then it is not in it.
            Asked::Look => Some(Outcome::Ambiguous {
                why: DeliveryError::NotJoined(fault.to_string()),
            }),
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

    fn refused(&self, asked: &Asked, fault: &Fault) -> Outcome {
        let why = fault.to_string();
        if matches!(fault, Fault::Refused { status: 413, .. })
            || fault.errcode() == Some("M_TOO_LARGE")
        {
            return Outcome::GiveUp(DeliveryError::TooLarge(why));
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
    fn interrupted(&self, why: &str) -> Outcome {
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
