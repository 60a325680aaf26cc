//! The newest events of one room, so that lanes which keep up never read the disk.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use comity_bridge::{Event, Timestamp};
use tokio::sync::watch;

/// Events kept of one room at the most. A lane that is further behind reads the journal.
const KEPT: usize = 2560;

/// Bytes of JSON kept of one room, so that long messages cost no more than short ones.
const KEPT_BYTES: usize = 2 << 20;

/// Events left to a reader to let go of, at the most, and how large one of them may be.
const SPENT: usize = 256;
const SPENT_BYTES: usize = 4096;

/// The end of one room's log.
#[derive(Debug)]
pub struct Tail {
    head: watch::Sender<u64>,
    last_change: AtomicU64,
    recent: Mutex<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    /// Each with how many bytes it takes.
    events: VecDeque<(Arc<Event>, usize)>,
    bytes: usize,
    /// Not kept any more. Whoever reads next lets go of them: that is work, and whoever adds has enough.
    spent: Vec<Arc<Event>>,
}

impl Recent {
    fn drop_oldest(&mut self) {
        if let Some((event, bytes)) = self.events.pop_front() {
            self.bytes -= bytes;
            if self.spent.len() < SPENT && bytes <= SPENT_BYTES {
                self.spent.push(event);
            }
        }
    }

    fn after(&self, seq: u64, limit: usize) -> Option<Vec<Arc<Event>>> {
        let first = self.events.front()?.0.seq;
        let skip = usize::try_from((seq + 1).checked_sub(first)?).ok()?;
        let events = self.events.iter().skip(skip).take(limit);
        Some(events.map(|(event, _)| Arc::clone(event)).collect())
    }
}

impl Tail {
    /// The tail of a room whose last event is `head`, and in which nothing after `last_change` changes anything.
    pub(super) fn new(head: u64, last_change: u64) -> Self {
        Tail {
            head: watch::Sender::new(head),
            last_change: AtomicU64::new(last_change),
            recent: Mutex::new(Recent::default()),
        }
    }

    /// Adds events that have just become durable.
    pub(super) fn push(&self, events: Vec<(Arc<Event>, usize)>, last_change: u64) {
        // Whoever sees the new head sees its changes.
        self.last_change.fetch_max(last_change, Ordering::Release);
        let Some(last) = events.last().map(|(event, _)| event.seq) else {
            return;
        };
        let mut recent = self.recent();
        recent.bytes += events.iter().map(|(_, bytes)| bytes).sum::<usize>();
        recent.events.extend(events);
        while recent.events.len() > KEPT || recent.bytes > KEPT_BYTES {
            recent.drop_oldest();
        }
        drop(recent);
        self.head.send_replace(last);
    }

    /// Lets go of what lanes that keep up have shown long ago.
    pub(super) fn forget_before(&self, received: Timestamp) {
        let mut recent = self.recent();
        while recent
            .events
            .front()
            .is_some_and(|(event, _)| event.received < received)
        {
            recent.drop_oldest();
        }
        if recent.events.is_empty() {
            recent.events.shrink_to_fit();
        }
        recent.spent = Vec::new();
    }

    /// The `seq` of the room's newest edit, redaction or reaction: a lane that is past it has nothing to look up. Never too small.
    pub fn last_change(&self) -> u64 {
        self.last_change.load(Ordering::Acquire)
    }

    /// The `seq` of the last event, and a signal when it grows.
    pub fn head(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    /// Up to `limit` events after `seq`; none when they are not kept here any more (or not there yet).
    pub fn after(&self, seq: u64, limit: usize) -> Option<Vec<Arc<Event>>> {
        let mut recent = self.recent();
        let spent = std::mem::take(&mut recent.spent);
        let events = recent.after(seq, limit);
        drop(recent);
        drop(spent);
        events.filter(|events| !events.is_empty())
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
