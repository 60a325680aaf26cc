//! Reads the rooms back after coming up, for what no transaction has brought.
//!
//! What is said while the homeserver ends its recovery from our absence can stay behind in it (see `gaps`), and
//! while nothing follows, no gap in the numbers tells. So a while after coming up, and once more, each
//! room is read: what the journal has already, it knows by its event id.
//!
//! Only when the homeserver has ended its recovery, since what it has not sent yet is not left behind, and would be shown before
//! what was said earlier: not before it is known to reach us, and not while it sends what is old.
//!
//! Never further back than our own joining, and never further than [`REACH`]: what was said before we were there was not
//! said to us. More than [`MAX_PAGES`] in that time are a gap.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use comity_bridge::Timestamp;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};

use super::recent::Recent;
use crate::ident::Names;
use crate::wire::event::RoomEvent;

/// How long after coming up the rooms are read.
const LOOKS: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(12)];
/// A homeserver that has sent old events is taken to have more of them for this long, and events are old after this long.
const QUIET: Duration = Duration::from_secs(3);
const OLD: Duration = Duration::from_secs(5);
/// How far before coming up something may have been said. The homeserver keeps what is older in order.
const REACH: Duration = Duration::from_secs(120);
/// How many pages of a hundred events are read.
const MAX_PAGES: usize = 10;
/// A reading that fails is tried again, this often and after this time.
const MAX_RETRIES: u32 = 5;
const RETRY: Duration = Duration::from_secs(5);
/// Events of which it is known that they came.
const MAX_SEEN: usize = 4_096;

#[derive(Debug)]
pub(super) struct CatchUp {
    /// One moment on both clocks, to compare an event's time with.
    epoch: (Instant, Timestamp),
    looks: VecDeque<Instant>,
    since: Timestamp,
    seen: Recent<OwnedEventId, ()>,
    readings: HashMap<OwnedRoomId, Reading>,
    retries: u32,
}

/// One room on its way back.
#[derive(Debug, Default)]
struct Reading {
    /// What may have been left behind, newest first.
    missed: Vec<RoomEvent>,
    pages: usize,
}

/// What a page of a room leads to.
#[derive(Debug)]
pub(super) enum Page {
    /// The next page is wanted.
    More(String),
    /// Everything is read, or as much as is read at all.
    End {
        /// What may have been left behind, oldest first.
        missed: Vec<RoomEvent>,
        /// From when to when the room is not known.
        gap: Option<(Timestamp, Timestamp)>,
    },
}

impl CatchUp {
    pub(super) fn new(now: Instant, wall: Timestamp) -> Self {
        Self {
            epoch: (now, wall),
            looks: VecDeque::new(),
            since: wall,
            seen: Recent::new(MAX_SEEN),
            readings: HashMap::new(),
            retries: 0,
        }
    }

    /// The time on the wall, in milliseconds.
    fn wall(&self, now: Instant) -> i64 {
        let (begun, wall) = self.epoch;
        wall.0 + millis(now.saturating_duration_since(begun))
    }

    /// Nothing is read before the homeserver has had time to send what it has.
    pub(super) fn postpone(&mut self, now: Instant) {
        for look in &mut self.looks {
            *look = (*look).max(now + QUIET);
        }
    }

    /// A transaction came. When all of it is old, more like it will follow.
    pub(super) fn note_transaction(&mut self, now: Instant, events: &[RoomEvent]) {
        let recent = self.wall(now) - millis(OLD);
        let times = events.iter().filter_map(|event| event.origin_server_ts);
        let newest = times.max().and_then(|ts| i64::try_from(ts).ok());
        if newest.is_some_and(|newest| newest < recent) {
            self.postpone(now);
        }
    }

    /// We came up.
    pub(super) fn watch(&mut self, now: Instant) {
        self.since = Timestamp(self.wall(now) - millis(REACH));
        self.looks = LOOKS.iter().map(|after| now + *after).collect();
        self.retries = 0;
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.looks.front().copied()
    }

    /// Whether the rooms are to be read now.
    pub(super) fn poll(&mut self, now: Instant) -> bool {
        let is_due = self.due().is_some_and(|due| due <= now);
        if is_due {
            self.looks.pop_front();
        }
        is_due
    }

    /// A transaction has brought it.
    pub(super) fn note(&mut self, event: &RoomEvent) {
        self.seen.insert(event.event_id.clone(), ());
    }

    /// Begins to read a room. False when that is under way.
    pub(super) fn begin(&mut self, room: &OwnedRoomId) -> bool {
        if self.readings.contains_key(room) {
            return false;
        }
        self.readings.insert(room.clone(), Reading::default());
        true
    }

    /// A page of a room, newest first.
    pub(super) fn page(
        &mut self,
        room: &OwnedRoomId,
        events: Vec<RoomEvent>,
        next: Option<String>,
        ours: &Names,
    ) -> Page {
        let mut reading = self.readings.remove(room).unwrap_or_default();
        reading.pages += 1;
        let mut is_read = next.is_none();
        let mut oldest = None;
        for event in events {
            if is_our_joining(&event, ours.bot()) {
                is_read = true;
                break;
            }
            // A time may be anybody's claim, so one that is old ends nothing; a page on which all are does.
            let said = event.origin_server_ts.and_then(|ts| i64::try_from(ts).ok());
            let Some(said) = said.filter(|said| *said >= self.since.0) else {
                continue;
            };
            oldest = Some(oldest.map_or(said, |oldest: i64| oldest.min(said)));
            let is_message =
                event.kind == "m.room.message" && !event.redacted && !ours.is_ours(&event.sender);
            if is_message && self.seen.get(&event.event_id).is_none() {
                reading.missed.push(event);
            }
        }
        is_read |= oldest.is_none();
        match next {
            Some(next) if !is_read && reading.pages < MAX_PAGES => {
                self.readings.insert(room.clone(), reading);
                Page::More(next)
            }
            _ => Page::End {
                missed: reading.missed.into_iter().rev().collect(),
                gap: oldest
                    .filter(|_| !is_read)
                    .map(|oldest| (self.since, Timestamp(oldest))),
            },
        }
    }

    /// A page could not be had: the room is read again, a bounded number of times.
    pub(super) fn failed(&mut self, now: Instant, room: &OwnedRoomId, pause: Option<Duration>) {
        self.readings.remove(room);
        if self.retries < MAX_RETRIES {
            self.retries += 1;
            self.looks
                .push_back(now + pause.unwrap_or(RETRY).max(RETRY));
            self.looks.make_contiguous().sort();
        }
    }
}

fn is_our_joining(event: &RoomEvent, bot: &OwnedUserId) -> bool {
    event.kind == "m.room.member"
        && event.state_key.as_deref() == Some(bot.as_str())
        && event.text("membership") == Some("join")
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
