//! What the rooms themselves say, while transactions are not to be trusted.
//!
//! Transactions have an order and leave nothing out as long as each arrives. After one that did not, neither holds. Synapse
//! (1.163, `appservice/scheduler.py`) sends the next one before it has noted the failure; what it makes while it notes the end of its
//! recovery, it sends only in its next recovery, hours later; and what it had only in memory when it ended, never. Its
//! transactions are numbered, but other application services draw from the same numbers, so a gap in them means little.
//!
//! A room's timeline has everything in order. So while there is reason for suspicion (`suspicion`), a transaction is only a
//! sign that there is something to read: the room that it is about is read from the last event that we have of it to its
//! newest, that is committed, and then what else the transaction holds. What comes again by a transaction is known by
//! its event id, here or in the journal. When it has been calm for a while, each room is read once more, for in a quiet one
//! nothing tells of what stayed behind. From then on transactions are taken as they come. Nothing tells, either, of a homeserver that
//! ended and began again between two of them; so what was taken on trust is compared with the timeline now and then (`trust`).
//!
//! A timeline only adds: what a transaction brings is dropped only when its very event was read before. For a timeline is ordered by
//! depth, transactions by arrival. What a user of another homeserver said on a branch of the room that is sorted in long
//! before our place comes by its transaction alone.
//!
//! Where a room cannot be read, its transactions are taken as they come, and the time since our place is a gap.

mod commits;
mod hold;
mod trust;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Instant;

use comity_bridge::{Channel, Timestamp};
use ruma::{OwnedEventId, OwnedRoomId};
use tracing::{debug, warn};

use super::Ticket;
use super::places::Places;
use super::reading::{Failed, Known, Reading};
use super::recent::Recent;
use super::suspicion::Suspicion;
use crate::ident::Names;
use crate::wire::call::{Answer, Call};
use crate::wire::event::RoomEvent;
use crate::wire::fault::Fault;
use trust::Trust;

/// Rooms that are read at once.
const MAX_READINGS: usize = 4;
/// Events of which it is known where they came from.
const MAX_TAKEN: usize = 4_096;

/// What has brought an event.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Source {
    Timeline,
    Transaction,
}

/// Why nothing waits for a room.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Unread {
    /// It takes too long, or the homeserver fails. It is tried again when it is calm.
    Slow,
    /// The homeserver does not let us read it.
    Refused,
}

#[derive(Debug)]
pub(super) struct Timeline {
    /// One moment on both clocks.
    epoch: (Instant, Timestamp),
    suspicion: Suspicion,
    /// The rooms that were read since it was calm: what a transaction brings follows what we have of them.
    whole: HashSet<OwnedRoomId>,
    places: Places,
    readings: BTreeMap<OwnedRoomId, Reading>,
    /// What was committed, or is on its way there, since suspicion arose.
    taken: Recent<OwnedEventId, Source>,
    unread: HashMap<OwnedRoomId, Unread>,
    /// What was taken as it came since a room was read.
    trust: HashMap<OwnedRoomId, Trust>,
    /// The transaction that comes next, and the rooms that were read on its behalf.
    asking: Option<(Ticket, HashSet<OwnedRoomId>)>,
}

/// What a reading has brought.
#[derive(Debug, Default)]
pub(super) struct Brought {
    /// To be committed before any transaction, oldest first.
    pub(super) events: Vec<RoomEvent>,
    /// To be kept although nothing is committed.
    pub(super) keep: Option<(String, String)>,
    /// From when to when the room is not known.
    pub(super) gap: Option<(Timestamp, Timestamp)>,
}

impl Timeline {
    pub(super) fn new(
        now: Instant,
        wall: Timestamp,
        remembered: &BTreeMap<String, String>,
    ) -> Self {
        Self {
            epoch: (now, wall),
            suspicion: Suspicion::new(now),
            whole: HashSet::new(),
            places: Places::new(remembered),
            readings: BTreeMap::new(),
            taken: Recent::new(MAX_TAKEN),
            unread: HashMap::new(),
            trust: HashMap::new(),
            asking: None,
        }
    }

    /// Something may have been left behind: the homeserver went away or came back, or we have refused a transaction.
    pub(super) fn suspect(&mut self, now: Instant) {
        self.arise(now);
        self.unread.clear();
        self.readings.values_mut().for_each(Reading::forgive);
    }

    fn arise(&mut self, now: Instant) {
        self.suspicion.arise(now);
        self.whole.clear();
    }

    /// It is not calm yet.
    #[cfg(test)]
    pub(super) fn postpone(&mut self, now: Instant) {
        if self.suspicion.is_there() {
            self.arise(now);
        }
    }

    /// A transaction came.
    pub(super) fn note_transaction(&mut self, now: Instant, events: &[RoomEvent], names: &Names) {
        self.suspicion.go_on(now);
        if Suspicion::is_kept_back(events, names) {
            self.arise(now);
        }
    }

    /// We are in a room. Where nothing of it is known, it begins here; and the last look may have been without it.
    pub(super) fn enter(&mut self, now: Instant, room: &OwnedRoomId) {
        self.unread.remove(room);
        let is_looked_at_later = self.suspicion.due().is_some();
        let is_known = self.places.get(room).is_some();
        if !(is_known && (is_looked_at_later || self.whole.contains(room))) {
            self.begin(now, room);
        }
    }

    /// A room is no channel's, for now: what is said there meanwhile is not taken.
    pub(super) fn lose(&mut self, room: &OwnedRoomId) {
        self.whole.remove(room);
        // What it has brought is not committed, so our place stays where it is.
        self.readings.remove(room);
    }

    /// A room is no channel's any more. What is to be forgotten of it.
    pub(super) fn leave(&mut self, room: &OwnedRoomId) -> String {
        self.whole.remove(room);
        self.unread.remove(room);
        self.readings.remove(room);
        self.trust.remove(room);
        self.places.forget(room)
    }

    /// An event of a timeline is not committed, since its room is no channel's any more.
    pub(super) fn drop_event(&mut self, event: &RoomEvent) {
        self.taken.remove(&event.event_id);
    }

    /// Whether what a transaction brings of a room follows what we have of it.
    fn is_trusted(&self, room: &OwnedRoomId) -> bool {
        !self.suspicion.is_there() && self.whole.contains(room)
    }

    // The rooms on their way.

    fn begin(&mut self, now: Instant, room: &OwnedRoomId) {
        self.trust.remove(room);
        self.readings
            .entry(room.clone())
            .or_insert_with(|| Reading::new(now));
    }

    /// When [`Timeline::poll_call`] has something to say.
    pub(super) fn call_due(&self) -> Option<Instant> {
        if self.under_way() >= MAX_READINGS {
            return None;
        }
        self.readings.values().filter_map(Reading::due).min()
    }

    /// When [`Timeline::look`] has something to do.
    pub(super) fn look_due(&self) -> Option<Instant> {
        self.suspicion.due().or_else(|| self.comparison_due())
    }

    fn under_way(&self) -> usize {
        let busy = |reading: &&Reading| reading.due().is_none();
        self.readings.values().filter(busy).count()
    }

    /// It is calm: looks at the rooms for the last time, when it is time for that.
    pub(super) fn look<'a>(&mut self, now: Instant, rooms: impl Iterator<Item = &'a OwnedRoomId>) {
        if !self.suspicion.poll(now) {
            self.compare(now);
            return;
        }
        let readings = &self.readings;
        self.unread
            .retain(|room, why| *why == Unread::Refused || readings.contains_key(room));
        for room in rooms {
            if !self.unread.contains_key(room) {
                // One that is under way has not seen that it is calm.
                let under_way = self.readings.entry(room.clone());
                under_way.and_modify(Reading::repeat);
                self.begin(now, room);
            }
        }
    }

    /// Whether the last look is over, and transactions are taken as they come from now on.
    pub(super) fn poll_end(&mut self) -> bool {
        let is_end = self.readings.is_empty() && self.suspicion.looked();
        if is_end {
            debug!("the rooms are whole; transactions are taken as they come");
            self.asking = None;
            self.unread.retain(|_, why| *why == Unread::Refused);
        }
        is_end
    }

    /// What is to be asked next.
    pub(super) fn poll_call(&mut self, now: Instant) -> Option<(OwnedRoomId, Call)> {
        if self.under_way() >= MAX_READINGS {
            return None;
        }
        self.readings
            .iter_mut()
            .find_map(|(room, reading)| Some((room.clone(), reading.poll(now, room)?)))
    }

    /// A page of a room, or why there is none. What it brings is committed under the ticket.
    pub(super) fn handle_answer(
        &mut self,
        now: Instant,
        room: &OwnedRoomId,
        result: Result<Answer, Fault>,
        ticket: Ticket,
        names: &Names,
    ) -> Brought {
        let gap = self.gap(now, room);
        let wall = self.wall(now);
        let Some(reading) = self.readings.get_mut(room) else {
            return Brought::default();
        };
        let mut brought = Brought::default();
        let taken = &mut self.taken;
        let mut is_new = |event: &RoomEvent| {
            let is_new = taken.get(&event.event_id).is_none();
            if is_new {
                taken.insert(event.event_id.clone(), Source::Timeline);
            }
            is_new
        };
        let known = Known {
            place: self.places.get(room),
            floor: self.places.floor(room),
            names,
            wall,
        };
        let fault = match result {
            Ok(Answer::Page { mut events, next }) => {
                // An event of another room has its own timeline.
                events.retain(|event| event.room_id == *room);
                let page = reading.page(now, &known, events, next, &mut is_new);
                if page.is_cut {
                    brought.gap = gap;
                }
                brought.events = page.events;
                None
            }
            Ok(_) => Some(Fault::Unreadable("no page".to_owned())),
            Err(fault) => Some(fault),
        };
        if let Some(fault) = fault {
            match reading.failed(now, &fault, known.place) {
                Failed::Later => debug!(%fault, %room, "room not read yet"),
                Failed::Lost => {
                    warn!(%fault, %room, "the homeserver does not know any more what it sent us last; the room goes on from here");
                    brought.events = reading.begin_again(now, &known, &mut is_new);
                    brought.gap = gap;
                }
                failed => {
                    warn!(%fault, %room, "room not read");
                    self.readings.remove(room);
                    // Else it is tried once more when it is calm; and while transactions are trusted, nothing says that they left anything out.
                    let is_suspicious = self.suspicion.is_there();
                    if is_suspicious && failed == Failed::Refused || self.suspicion.is_last() {
                        brought.gap = gap;
                    }
                    let why = if failed == Failed::Refused {
                        Unread::Refused
                    } else {
                        Unread::Slow
                    };
                    self.unread.insert(room.clone(), why);
                }
            }
        }
        if let Some(reading) = self.readings.get_mut(room)
            && !brought.events.is_empty()
        {
            reading.commits(ticket);
        } else {
            brought.keep = self.arrive(room);
        }
        self.end(now, room);
        brought
    }

    /// The time since the last event that we have of a room.
    fn gap(&self, now: Instant, room: &OwnedRoomId) -> Option<(Timestamp, Timestamp)> {
        let now = self.wall(now);
        let at = self.places.get(room)?.at;
        Some((at.min(now), now))
    }

    fn wall(&self, now: Instant) -> Timestamp {
        let (begun, wall) = self.epoch;
        let since = now.saturating_duration_since(begun).as_millis();
        let since = i64::try_from(since).unwrap_or(i64::MAX);
        Timestamp(wall.0.saturating_add(since))
    }

    /// Goes on from where a reading has come to. What is to be kept of it.
    fn arrive(&mut self, room: &OwnedRoomId) -> Option<(String, String)> {
        let reached = self.readings.get_mut(room)?.reached.take()?;
        self.places.arrive(room, reached);
        self.places.kept(room)
    }

    fn end(&mut self, now: Instant, room: &OwnedRoomId) {
        let Some(reading) = self.readings.get(room).filter(|it| it.is_over()) else {
            return;
        };
        let is_repeated = reading.is_repeated();
        self.readings.remove(room);
        self.unread.remove(room);
        if is_repeated {
            self.begin(now, room);
        } else if self.suspicion.due().is_none() {
            self.whole.insert(room.clone());
            self.places.forget_floor(room);
        }
    }

    /// Forgets the rooms that no channel shows. What is to be forgotten of them.
    pub(super) fn forget_others(&mut self, rooms: &HashMap<OwnedRoomId, Channel>) -> Vec<String> {
        self.places.forget_others(rooms)
    }
}
