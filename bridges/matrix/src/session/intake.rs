//! Transactions, one at a time and in order, up to their commit.
//!
//! Two things can hold a transaction back, both for a short time: it is not yet known which rooms
//! the configured aliases are (after a start, when the homeserver pushes at once what it kept for
//! us), and a sender's display name is not known. The answer leaves only after the commit.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use comity_bridge::Channel;
use ruma::{OwnedRoomId, OwnedUserId};

use super::Ticket;
use super::recent::Recent;
use crate::ident::Names;
use crate::wire::call::MemberState;
use crate::wire::event::RoomEvent;

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
    Committing,
}

#[derive(Debug)]
struct Current {
    ticket: Ticket,
    events: Vec<RoomEvent>,
    stage: Stage,
    until: Instant,
}

/// What the session shall do for the intake.
#[derive(Debug)]
pub(super) enum Next {
    Later(Ticket),
    Ask(Vec<(OwnedRoomId, OwnedUserId)>),
    Take(Ticket, Vec<RoomEvent>),
}

#[derive(Debug)]
pub(super) struct Intake {
    started: Instant,
    /// The time in which rooms are still asked for is over.
    graced: bool,
    current: Option<Current>,
    waiting: VecDeque<(Ticket, Vec<RoomEvent>)>,
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
        self.waiting.push_back((ticket, events));
        self.begin(now);
    }

    fn begin(&mut self, now: Instant) {
        if self.current.is_none()
            && let Some((ticket, events)) = self.waiting.pop_front()
        {
            self.current = Some(Current {
                ticket,
                events,
                stage: Stage::Settling,
                until: now + SETTLE_PATIENCE,
            });
        }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        let current = self.current.as_ref()?;
        match current.stage {
            Stage::Settling if !self.graced => Some(current.until.min(self.started + START_GRACE)),
            Stage::Settling => Some(current.until),
            Stage::Naming(_) => Some(current.until),
            Stage::Committing => None,
        }
    }

    pub(super) fn is_committing(&self) -> bool {
        matches!(
            self.current,
            Some(Current {
                stage: Stage::Committing,
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
            Stage::Naming(_) | Stage::Committing => None,
        }
    }

    fn take(&mut self) -> Option<Next> {
        let current = self.current.as_mut()?;
        current.stage = Stage::Committing;
        Some(Next::Take(
            current.ticket,
            std::mem::take(&mut current.events),
        ))
    }

    /// Returns whether this was the one that is being committed.
    pub(super) fn handle_committed(&mut self, ticket: Ticket) -> bool {
        let is_current = self.is_committing()
            && self
                .current
                .as_ref()
                .is_some_and(|current| current.ticket == ticket);
        if is_current {
            self.current = None;
        }
        is_current
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
