//! Transactions, one at a time and in order, up to their commit.
//!
//! Two things can hold a transaction back, both for a short time: it is not yet known which rooms
//! the configured aliases are (after a start, when the homeserver pushes at once what it kept for
//! us), and a sender's display name is not known. The answer leaves only after the commit.
//!
//! When the journal takes nothing for longer than [`PATIENCE`], the homeserver is asked to come again; the commit goes on being
//! tried all the same, and when it succeeds, the homeserver is to be woken from the pause that it makes then.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use comity_bridge::Channel;
use ruma::{OwnedRoomId, OwnedUserId};

use super::Ticket;
use super::recent::Recent;
use crate::ident::Names;
use crate::wire::call::MemberState;
use crate::wire::event::RoomEvent;

/// How long a homeserver is kept waiting for an answer before it is asked to come again. Synapse (1.163, `http/client.py`)
/// hangs up after 60 seconds, and a proxy between us may be quicker.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the aliases may take before the homeserver is asked to come again.
const SETTLE_PATIENCE: Duration = Duration::from_secs(15);
/// How long after the start an unknown room is taken for one that will be asked for.
const START_GRACE: Duration = Duration::from_secs(2);
/// How long display names may take.
const NAME_PATIENCE: Duration = Duration::from_secs(2);
/// How many display names are asked for one transaction.
const MAX_NAME_CALLS: usize = 16;
/// How many display names are remembered.
const MAX_NAMES: usize = 20_000;

#[derive(Debug)]
enum Stage {
    Settling,
    Naming(HashSet<(OwnedRoomId, OwnedUserId)>),
    Committing {
        /// The homeserver was asked to come again meanwhile.
        answered: bool,
    },
}

/// A transaction that is not begun.
#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    events: Vec<RoomEvent>,
    /// When the homeserver has waited long enough.
    until: Instant,
}

#[derive(Debug)]
struct Current {
    ticket: Ticket,
    events: Vec<RoomEvent>,
    stage: Stage,
    /// When the stage is over, whatever is missing.
    until: Instant,
    /// When the homeserver has waited long enough.
    answer_by: Instant,
}

/// What became of a commit.
#[derive(Debug, PartialEq)]
pub(super) enum Committed {
    /// The homeserver waits for the answer.
    InTime,
    /// It was asked to come again already.
    Late,
    /// Nothing was being committed under this ticket.
    Unknown,
}

/// What the session shall do for the intake.
#[derive(Debug)]
pub(super) enum Next {
    /// The rooms are not known in time: come again.
    Later(Ticket),
    /// The journal takes nothing in time: come again.
    Busy(Ticket),
    Ask(Vec<(OwnedRoomId, OwnedUserId)>),
    Take(Ticket, Vec<RoomEvent>),
}

#[derive(Debug)]
pub(super) struct Intake {
    started: Instant,
    /// The time in which rooms are still asked for is over.
    graced: bool,
    current: Option<Current>,
    waiting: VecDeque<Waiting>,
    names: Recent<(OwnedRoomId, OwnedUserId), Option<String>>,
}

impl Intake {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            started: now,
            graced: false,
            current: None,
            waiting: VecDeque::new(),
            names: Recent::new(MAX_NAMES),
        }
    }

    pub(super) fn push(&mut self, now: Instant, ticket: Ticket, events: Vec<RoomEvent>) {
        self.waiting.push_back(Waiting {
            ticket,
            events,
            until: now + PATIENCE,
        });
        self.begin(now);
    }

    fn begin(&mut self, now: Instant) {
        if self.current.is_none()
            && let Some(next) = self.waiting.pop_front()
        {
            self.current = Some(Current {
                ticket: next.ticket,
                events: next.events,
                stage: Stage::Settling,
                until: now + SETTLE_PATIENCE,
                answer_by: next.until,
            });
        }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        let current = self.current.as_ref()?;
        match current.stage {
            Stage::Settling if !self.graced => Some(current.until.min(self.started + START_GRACE)),
            Stage::Settling => Some(current.until),
            Stage::Naming(_) => Some(current.until),
            Stage::Committing { answered: false } => {
                let waiting = self.waiting.front().map(|next| next.until);
                waiting.into_iter().chain([current.answer_by]).min()
            }
            Stage::Committing { answered: true } => self.waiting.front().map(|next| next.until),
        }
    }

    /// Whether nothing that came waits for anything.
    pub(super) fn is_idle(&self) -> bool {
        self.current.is_none() && self.waiting.is_empty()
    }

    pub(super) fn is_committing(&self) -> bool {
        matches!(
            self.current,
            Some(Current {
                stage: Stage::Committing { .. },
                ..
            })
        )
    }

    pub(super) fn poll(
        &mut self,
        now: Instant,
        settled: bool,
        rooms: &HashMap<OwnedRoomId, Channel>,
        ours: &Names,
    ) -> Option<Next> {
        self.begin(now);
        self.graced |= now >= self.started + START_GRACE;
        let current = self.current.as_mut()?;
        match &mut current.stage {
            Stage::Committing { answered } => {
                if !*answered && now >= current.answer_by {
                    *answered = true;
                    return Some(Next::Busy(current.ticket));
                }
                let expired = self.waiting.pop_front_if(|next| next.until <= now)?;
                Some(Next::Busy(expired.ticket))
            }
            Stage::Settling => {
                let all_known = current
                    .events
                    .iter()
                    .all(|event| rooms.contains_key(&event.room_id));
                let nothing_missing = all_known || (settled && self.graced);
                if !nothing_missing {
                    if now < current.until {
                        return None;
                    }
                    let ticket = current.ticket;
                    self.current = None;
                    return Some(Next::Later(ticket));
                }
                let missing = missing_names(&current.events, rooms, ours, &mut self.names);
                current.stage = Stage::Naming(missing.iter().cloned().collect());
                current.until = now + NAME_PATIENCE;
                if missing.is_empty() {
                    self.take()
                } else {
                    Some(Next::Ask(missing))
                }
            }
            Stage::Naming(missing) if missing.is_empty() || now >= current.until => self.take(),
            Stage::Naming(_) => None,
        }
    }

    fn take(&mut self) -> Option<Next> {
        let current = self.current.as_mut()?;
        current.stage = Stage::Committing { answered: false };
        Some(Next::Take(
            current.ticket,
            std::mem::take(&mut current.events),
        ))
    }

    /// The journal has what [`Next::Take`] gave.
    pub(super) fn handle_committed(&mut self, ticket: Ticket) -> Committed {
        let committed = match &self.current {
            Some(Current {
                ticket: current,
                stage: Stage::Committing { answered },
                ..
            }) if *current == ticket => match answered {
                true => Committed::Late,
                false => Committed::InTime,
            },
            _ => return Committed::Unknown,
        };
        self.current = None;
        committed
    }

    /// A member's state, from an event or an answer; none when the answer was a failure.
    pub(super) fn handle_member(
        &mut self,
        room: OwnedRoomId,
        user: OwnedUserId,
        state: Option<MemberState>,
    ) {
        let member = (room, user);
        if let Some(Current {
            stage: Stage::Naming(missing),
            ..
        }) = &mut self.current
        {
            missing.remove(&member);
        }
        if let Some(state) = state {
            self.names.insert(member, state.displayname);
        }
    }

    pub(super) fn name(&mut self, room: &OwnedRoomId, user: &OwnedUserId) -> Option<String> {
        self.names.get(&(room.clone(), user.clone()))?.clone()
    }
}

/// The senders of messages whose names neither we nor the transaction itself knows.
fn missing_names(
    events: &[RoomEvent],
    rooms: &HashMap<OwnedRoomId, Channel>,
    ours: &Names,
    names: &mut Recent<(OwnedRoomId, OwnedUserId), Option<String>>,
) -> Vec<(OwnedRoomId, OwnedUserId)> {
    let mut seen = HashSet::new();
    let mut missing = Vec::new();
    for event in events {
        let member = (event.room_id.clone(), event.sender.clone());
        if event.kind == "m.room.member"
            && event.state_key.as_deref() == Some(event.sender.as_str())
        {
            seen.insert(member);
        } else if event.kind == "m.room.message"
            && rooms.contains_key(&event.room_id)
            && !ours.is_ours(&event.sender)
            && names.get(&member).is_none()
            && missing.len() < MAX_NAME_CALLS
            && seen.insert(member.clone())
        {
            missing.push(member);
        }
    }
    missing
}
