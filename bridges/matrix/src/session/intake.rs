//! Transactions, one at a time and in order, up to their commit.
//!
//! Three things can hold a transaction back, each for a short time: it is not yet known which rooms
//! the configured aliases are (after a start, when the homeserver pushes at once what it kept for
//! us), its rooms are to be read first (`timeline`), and a sender's display name is not known. What is read from a room goes
//! before the transaction on whose behalf it was read. The answer leaves only after the commit.
//!
//! When the journal takes nothing for longer than [`PATIENCE`], the homeserver is asked to come again; the commit goes on being
//! tried all the same, and when it succeeds, the homeserver is to be woken from the pause that it makes then.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use comity_bridge::Channel;
use ruma::{OwnedRoomId, OwnedUserId};

use super::Ticket;
use super::recent::Recent;
use super::timeline::Timeline;
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
/// How long the rooms of a transaction may take to be read, from one page to the next and in all.
const READ_PATIENCE: Duration = Duration::from_secs(5);
const LONGEST_READ: Duration = Duration::from_secs(15);
/// How long display names may take.
const NAME_PATIENCE: Duration = Duration::from_secs(2);
/// How many display names are asked for one transaction.
const MAX_NAME_CALLS: usize = 16;
/// How many display names are remembered.
const MAX_NAMES: usize = 20_000;

#[derive(Debug)]
enum Stage {
    /// Not begun.
    Waiting,
    Settling,
    Reading,
    /// Its names are wanted next.
    Read,
    Naming(HashSet<(OwnedRoomId, OwnedUserId)>),
    Committing {
        /// The homeserver was asked to come again meanwhile.
        answered: bool,
    },
}

/// What is to be committed: a transaction, or what a room's timeline has brought.
#[derive(Debug)]
struct Entry {
    ticket: Ticket,
    events: Vec<RoomEvent>,
    stage: Stage,
    /// When the stage is over, whatever is missing.
    until: Instant,
    /// When the homeserver has waited long enough; nobody waits for what was read.
    answer_by: Option<Instant>,
}

impl Entry {
    /// Whether what is read from a room comes too late to go before it.
    fn is_ahead(&self) -> bool {
        self.answer_by.is_none()
            || matches!(self.stage, Stage::Naming(_) | Stage::Committing { .. })
    }
}

/// What became of a commit.
#[derive(Debug, PartialEq)]
pub(super) enum Committed {
    /// The homeserver waits for the answer.
    InTime,
    /// Nobody does: the homeserver was asked to come again already, or it was read from a room.
    Unasked,
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

/// What the intake has to know to go on.
pub(super) struct Known<'a> {
    /// Whether it is known which rooms are ours.
    pub(super) settled: bool,
    pub(super) rooms: &'a HashMap<OwnedRoomId, Channel>,
    pub(super) ours: &'a Names,
    pub(super) timeline: &'a mut Timeline,
}

#[derive(Debug)]
pub(super) struct Intake {
    started: Instant,
    /// The time in which rooms are still asked for is over.
    graced: bool,
    /// The first is being worked on.
    queue: VecDeque<Entry>,
    names: Recent<(OwnedRoomId, OwnedUserId), Option<String>>,
}

impl Intake {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            started: now,
            graced: false,
            queue: VecDeque::new(),
            names: Recent::new(MAX_NAMES),
        }
    }

    pub(super) fn push(&mut self, now: Instant, ticket: Ticket, events: Vec<RoomEvent>) {
        self.queue.push_back(Entry {
            ticket,
            events,
            stage: Stage::Waiting,
            until: now,
            answer_by: Some(now + PATIENCE),
        });
    }

    /// Takes what was read from a room. It goes before the transactions whose rooms are still looked at.
    pub(super) fn push_read(&mut self, now: Instant, ticket: Ticket, events: Vec<RoomEvent>) {
        let ahead = self.queue.iter().take_while(|entry| entry.is_ahead());
        let entry = Entry {
            ticket,
            events,
            stage: Stage::Read,
            until: now,
            answer_by: None,
        };
        self.queue.insert(ahead.count(), entry);
    }

    pub(super) fn due(&self) -> Option<Instant> {
        let first = self.queue.front()?;
        match first.stage {
            Stage::Waiting | Stage::Read => Some(first.until),
            Stage::Settling if !self.graced => Some(first.until.min(self.started + START_GRACE)),
            Stage::Settling | Stage::Reading | Stage::Naming(_) => Some(first.until),
            Stage::Committing { answered } => {
                let own = first.answer_by.filter(|_| !answered);
                let others = self.queue.iter().skip(1).filter_map(|it| it.answer_by);
                others.chain(own).min()
            }
        }
    }

    /// Whether nothing that came waits for anything.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn is_committing(&self) -> bool {
        let first = self.queue.front();
        first.is_some_and(|it| matches!(it.stage, Stage::Committing { .. }))
    }

    pub(super) fn poll(&mut self, now: Instant, known: Known<'_>) -> Option<Next> {
        self.graced |= now >= self.started + START_GRACE;
        let graced = self.graced;
        let first = self.queue.front_mut()?;
        if matches!(first.stage, Stage::Waiting) {
            first.stage = Stage::Settling;
            first.until = now + SETTLE_PATIENCE;
        }
        if matches!(first.stage, Stage::Settling) {
            let is_known = |event: &RoomEvent| known.rooms.contains_key(&event.room_id);
            if !(first.events.iter().all(is_known) || (known.settled && graced)) {
                if now < first.until {
                    return None;
                }
                let ticket = first.ticket;
                self.queue.pop_front();
                return Some(Next::Later(ticket));
            }
            first.stage = Stage::Reading;
            first.until = now + READ_PATIENCE;
        }
        if matches!(first.stage, Stage::Reading) {
            let (ticket, events) = (first.ticket, &mut first.events);
            let holds = known
                .timeline
                .holds(now, ticket, events, known.rooms, known.ours);
            if holds && now < first.until {
                return None;
            }
            if holds {
                known.timeline.hold_no_longer(events);
            }
            known.timeline.strip(events);
            first.stage = Stage::Read;
        }
        match &mut first.stage {
            Stage::Read => {
                let missing =
                    missing_names(&first.events, known.rooms, known.ours, &mut self.names);
                first.stage = Stage::Naming(missing.iter().cloned().collect());
                first.until = now + NAME_PATIENCE;
                if missing.is_empty() {
                    self.take()
                } else {
                    Some(Next::Ask(missing))
                }
            }
            Stage::Naming(missing) if missing.is_empty() || now >= first.until => self.take(),
            Stage::Committing { answered } => {
                if !*answered && first.answer_by.is_some_and(|by| by <= now) {
                    *answered = true;
                    return Some(Next::Busy(first.ticket));
                }
                let is_late = |it: &Entry| it.answer_by.is_some_and(|by| by <= now);
                let late = self.queue.iter().skip(1).position(is_late)?;
                self.queue
                    .remove(late + 1)
                    .map(|late| Next::Busy(late.ticket))
            }
            _ => None,
        }
    }

    fn take(&mut self) -> Option<Next> {
        let first = self.queue.front_mut()?;
        first.stage = Stage::Committing { answered: false };
        Some(Next::Take(first.ticket, std::mem::take(&mut first.events)))
    }

    /// A transaction that waits for rooms waits on while they come: a newer message must not go before them.
    fn go_on_reading(&mut self, now: Instant) {
        if let Some(first) = self.queue.front_mut()
            && matches!(first.stage, Stage::Reading)
            && let Some(by) = first.answer_by
        {
            first.until = (now + READ_PATIENCE).min(by - PATIENCE + LONGEST_READ);
        }
    }

    /// The journal has what [`Next::Take`] gave.
    pub(super) fn handle_committed(&mut self, now: Instant, ticket: Ticket) -> Committed {
        let committed = match self.queue.front() {
            Some(Entry {
                ticket: first,
                stage: Stage::Committing { answered },
                answer_by,
                ..
            }) if *first == ticket => match answer_by {
                Some(_) if !answered => Committed::InTime,
                _ => Committed::Unasked,
            },
            _ => return Committed::Unknown,
        };
        self.queue.pop_front();
        self.go_on_reading(now);
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
        if let Some(Entry {
            stage: Stage::Naming(missing),
            ..
        }) = self.queue.front_mut()
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
