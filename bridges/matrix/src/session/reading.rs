//! One room on its way from the last event that we have of it to its newest.
//!
//! Mostly little is missing, and the newest page has both. When it has not, the homeserver is asked where the room goes on
//! after our event, and the room is read forwards from there, page by page, each committed before the next is asked
//! for: however much was missed, one page of it is in the memory.
//!
//! What is said while the bot is out of the room is not said to us.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use comity_bridge::Timestamp;
use ruma::{OwnedEventId, OwnedRoomId};

use super::Ticket;
use super::places::Place;
use crate::ident::Names;
use crate::wire::call::Call;
use crate::wire::event::RoomEvent;
use crate::wire::fault::Fault;

/// Pages read in one go. More, from an honest homeserver, is a hundred thousand messages.
const MAX_PAGES: u32 = 1_000;
/// What says that it is older than what we have by more than this, in milliseconds, is not taken for news. Who may write history into a
/// room (an event with a small depth, from another homeserver, that becomes the last one that we have) would have us show all of it.
const OLDEST: i64 = 24 * 60 * 60 * 1000;
/// A page that cannot be had is asked for again, this often and after this time.
const MAX_TRIES: u32 = 5;
const RETRY: Duration = Duration::from_secs(1);

/// What is known of the room that is read.
pub(super) struct Known<'a> {
    /// The last event that we have.
    pub(super) place: Option<&'a Place>,
    /// The last one that we had when suspicion arose.
    pub(super) floor: Option<&'a OwnedEventId>,
    pub(super) names: &'a Names,
    pub(super) wall: Timestamp,
}

#[derive(Debug)]
enum Step {
    Newest,
    After(OwnedEventId),
    Onward(String),
    /// Nothing more is wanted.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Wait {
    /// Until then.
    Due(Instant),
    Answer,
    Commit(Ticket),
}

#[derive(Debug)]
pub(super) struct Reading {
    step: Step,
    wait: Wait,
    /// The newest page, oldest first, as long as it is not known whether the room can be read from our event on.
    newest: Vec<RoomEvent>,
    /// Where we are when the page under way is committed.
    pub(super) reached: Option<Place>,
    /// Where pages began.
    visited: HashSet<String>,
    pages: u32,
    tries: u32,
    is_out: bool,
    /// The room is to be read once more when this is over.
    is_repeated: bool,
}

/// What a page leads to.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// What follows what we have, oldest first.
    pub(super) events: Vec<RoomEvent>,
    /// More than can be read follows, or something was too old to be believed.
    pub(super) is_cut: bool,
}

/// What a failure leads to.
#[derive(Debug, PartialEq)]
pub(super) enum Failed {
    /// It is asked again.
    Later,
    /// The homeserver fails too often.
    Unread,
    /// The homeserver does not let us read the room.
    Refused,
    /// The homeserver does not know the event that we have any more: see [`Reading::begin_again`].
    Lost,
}

impl Reading {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            step: Step::Newest,
            wait: Wait::Due(now),
            newest: Vec::new(),
            reached: None,
            visited: HashSet::new(),
            pages: 0,
            tries: 0,
            is_out: false,
            is_repeated: false,
        }
    }

    /// Whether it wants something of the homeserver's, now or later.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.wait {
            Wait::Due(at) => Some(at),
            Wait::Answer | Wait::Commit(_) => None,
        }
    }

    /// Failures that were before do not count any more.
    pub(super) fn forgive(&mut self) {
        self.tries = 0;
    }

    /// What this reading finds may not be all.
    pub(super) fn repeat(&mut self) {
        let is_begun = !matches!((&self.step, self.wait), (Step::Newest, Wait::Due(_)));
        self.is_repeated = is_begun;
    }

    pub(super) fn is_repeated(&self) -> bool {
        self.is_repeated
    }

    pub(super) fn poll(&mut self, now: Instant, room: &OwnedRoomId) -> Option<Call> {
        if self.due().is_none_or(|due| due > now) {
            return None;
        }
        let room = room.clone();
        let call = match &self.step {
            Step::Newest => Call::History {
                room,
                from: None,
                senders: Vec::new(),
            },
            Step::After(event) => Call::After {
                room,
                event: event.clone(),
            },
            Step::Onward(from) => Call::Onward {
                room,
                from: from.clone(),
            },
            Step::End => return None,
        };
        self.wait = Wait::Answer;
        Some(call)
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.step, Step::End) && !matches!(self.wait, Wait::Commit(_))
    }

    /// A page has come, with events of this room only. `is_new` says what we have not got yet.
    pub(super) fn page(
        &mut self,
        now: Instant,
        known: &Known<'_>,
        mut events: Vec<RoomEvent>,
        next: Option<String>,
        is_new: impl FnMut(&RoomEvent) -> bool,
    ) -> Page {
        self.wait = Wait::Due(now);
        self.tries = 0;
        self.pages += 1;
        let mut next = next;
        let mut stragglers = 0;
        self.newest.clear();
        if matches!(self.step, Step::Newest) {
            next = None;
            events.reverse();
            match begin(&events, known) {
                Some(at) => {
                    if known.place.is_none() {
                        self.reached = events.last().map(|it| Place::of(it, known.wall));
                    }
                    events.drain(..at.first);
                    stragglers = at.place - at.first;
                }
                None => {
                    if let Some(place) = known.place {
                        self.step = Step::After(place.event.clone());
                    }
                    self.newest = events;
                    return Page::default();
                }
            }
        }
        if matches!((&self.step, &next), (Step::Onward(from), Some(next)) if from == next) {
            next = None;
        }
        let is_cut = next.as_ref().is_some_and(|next| {
            // A homeserver that leads in circles is not followed.
            self.pages >= MAX_PAGES || !self.visited.insert(next.clone())
        });
        self.step = match next {
            Some(next) if !is_cut => Step::Onward(next),
            _ => Step::End,
        };
        let (events, left_out) = self.take(events, stragglers, known, is_new);
        Page {
            events,
            is_cut: is_cut || left_out > 0,
        }
    }

    /// What of some events is for us. The first of them may be before our place, which they do not change then.
    fn take(
        &mut self,
        mut events: Vec<RoomEvent>,
        stragglers: usize,
        known: &Known<'_>,
        mut is_new: impl FnMut(&RoomEvent) -> bool,
    ) -> (Vec<RoomEvent>, usize) {
        let (mut at, mut left_out) = (0, 0);
        // While pages follow, we have the room as of when the reading began.
        let begun = known.place.map_or(known.wall, |place| place.at);
        let is_end = matches!(self.step, Step::End);
        let reached_at = if is_end { known.wall } else { begun };
        events.retain(|event| {
            at += 1;
            if let Some(is_in) = bot_is_in(event, known.names) {
                self.is_out = !is_in;
            }
            // While we are out, our place stays before our leaving, so that the next reading knows of it.
            if !self.is_out && at > stragglers {
                self.reached = Some(Place::of(event, reached_at));
            }
            let is_for_us = event.state_key.is_some() || !(self.is_out || event.remarks.redacted);
            let is_old = event.state_key.is_none()
                && known.place.is_some()
                && !known.names.is_ours(&event.sender)
                && said(event).0 < begun.0.saturating_sub(OLDEST);
            left_out += usize::from(is_for_us && is_old);
            // Its transaction may bring it all the same, so it does not count as taken.
            is_for_us && !is_old && is_new(event)
        });
        (events, left_out)
    }

    /// The event that we have is gone: the room begins again with the newest page, as far as that was said later, or since our joining.
    pub(super) fn begin_again(
        &mut self,
        now: Instant,
        known: &Known<'_>,
        is_new: impl FnMut(&RoomEvent) -> bool,
    ) -> Vec<RoomEvent> {
        self.step = Step::End;
        self.wait = Wait::Due(now);
        let mut events = std::mem::take(&mut self.newest);
        let joined = events.iter().rposition(|it| joins(it, known.names));
        events.drain(..joined.unwrap_or(0));
        let newest = events.last().map(|it| Place::of(it, known.wall));
        let later = |event: &RoomEvent| known.place.is_none_or(|place| said(event) > place.at);
        // Nothing else is left to go by. A claim that is wrong costs what the gap tells of anyway.
        events.retain(later);
        let (events, _) = self.take(events, 0, known, is_new);
        self.reached = newest.or_else(|| self.reached.take());
        events
    }

    /// The page is being committed under this ticket.
    pub(super) fn commits(&mut self, ticket: Ticket) {
        self.wait = Wait::Commit(ticket);
    }

    pub(super) fn is_committing(&self, ticket: Ticket) -> bool {
        self.wait == Wait::Commit(ticket)
    }

    pub(super) fn committed(&mut self, now: Instant) {
        self.wait = Wait::Due(now);
    }

    pub(super) fn failed(&mut self, now: Instant, fault: &Fault, place: Option<&Place>) -> Failed {
        self.tries += 1;
        let pause = match fault {
            Fault::Limited(pause) => *pause,
            _ => RETRY,
        };
        let is_final = matches!(fault.errcode(), Some("M_FORBIDDEN" | "M_NOT_FOUND"));
        if !is_final && self.tries < MAX_TRIES {
            self.wait = Wait::Due(now + pause.max(RETRY));
            // For the newest page, Synapse (1.163, `handlers/pagination.py`) may ask other homeservers first; not for what follows an event.
            if let (Step::Newest, Some(place)) = (&self.step, place)
                && !matches!(fault, Fault::Limited(_))
            {
                self.step = Step::After(place.event.clone());
            }
            return Failed::Later;
        }
        match self.step {
            Step::After(_) if is_final => Failed::Lost,
            _ if is_final => Failed::Refused,
            _ => Failed::Unread,
        }
    }
}

/// Where on the newest page that begins which is for us.
struct Begin {
    first: usize,
    /// What is before this is sorted in before our place.
    place: usize,
}

/// What of the newest page, oldest first, follows what we have; none when that is not on it.
///
/// A timeline is ordered by depth, and what was said at the same time as our place may be sorted in before it. As far as the page is
/// later than the event that we had when suspicion arose, it is looked through for that.
///
/// Where we have nothing yet, the room begins for us with our own joining or, when that is not on the page either, after it.
fn begin(events: &[RoomEvent], known: &Known<'_>) -> Option<Begin> {
    let Some(place) = known.place else {
        let joined = events.iter().rposition(|it| joins(it, known.names));
        let first = joined.unwrap_or(events.len());
        return Some(Begin {
            first,
            place: first,
        });
    };
    let of = |id: &OwnedEventId| events.iter().position(|event| event.event_id == *id);
    let after = of(&place.event)? + 1;
    let first = match known.floor {
        Some(floor) => of(floor).map_or(0, |at| at + 1).min(after),
        None => after,
    };
    Some(Begin {
        first,
        place: after,
    })
}

/// When an event was said, by its sender's clock.
fn said(event: &RoomEvent) -> Timestamp {
    let said = event.origin_server_ts.and_then(|ts| i64::try_from(ts).ok());
    Timestamp(said.unwrap_or_default())
}

/// Whether the bot is in the room after this event, if it is about that.
fn bot_is_in(event: &RoomEvent, names: &Names) -> Option<bool> {
    let is_about_us =
        event.kind == "m.room.member" && event.state_key.as_deref() == Some(names.bot().as_str());
    is_about_us.then(|| event.text("membership") == Some("join"))
}

/// Whether the bot comes into the room by this event, and does not only change its name.
fn joins(event: &RoomEvent, names: &Names) -> bool {
    bot_is_in(event, names) == Some(true) && !event.remarks.was_in
}
