//! The newest events of one room, so that lanes which keep up never read the disk.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use comity_bridge::Event;
use tokio::sync::watch;

/// Events kept of one room. A lane that is further behind reads the journal.
const KEPT: usize = 1024;

/// The end of one room's log.
#[derive(Debug)]
pub struct Tail {
    head: watch::Sender<u64>,
    recent: Mutex<VecDeque<Arc<Event>>>,
}

impl Tail {
    /// The tail of a room whose last event is `head`.
    pub(super) fn new(head: u64) -> Self {
        Tail {
            head: watch::Sender::new(head),
            recent: Mutex::new(VecDeque::new()),
        }
    }

    /// Adds events that have just become durable.
    pub(super) fn push(&self, events: Vec<Arc<Event>>) {
        let Some(last) = events.last().map(|event| event.seq) else {
            return;
        };
        let mut recent = self.recent();
        recent.extend(events);
        let surplus = recent.len().saturating_sub(KEPT);
        recent.drain(..surplus);
        drop(recent);
        self.head.send_replace(last);
    }

    /// The `seq` of the last event, and a signal when it grows.
    pub fn head(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    /// Up to `limit` events after `seq`; none when they are not kept here any more (or not there yet).
    pub fn after(&self, seq: u64, limit: usize) -> Option<Vec<Arc<Event>>> {
        let recent = self.recent();
        let first = recent.front()?.seq;
        let skip = usize::try_from((seq + 1).checked_sub(first)?).ok()?;
        let events: Vec<_> = recent.iter().skip(skip).take(limit).cloned().collect();
        (!events.is_empty()).then_some(events)
    }

    fn recent(&self) -> MutexGuard<'_, VecDeque<Arc<Event>>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
