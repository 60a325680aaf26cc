//! What lanes write and ask.

use std::sync::Arc;

use comity_bridge::{Event, NativeId, Timestamp};

use super::Draft;

/// Which lane.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LaneId {
    pub(crate) room: i64,
    pub(crate) channel: i64,
}

/// What one lane asks to have committed.
#[derive(Clone, Debug, Default)]
pub struct LaneWrite {
    /// The lane has finished with everything up to here.
    pub done: u64,
    /// Nothing beyond this has been handed over.
    pub tried: u64,
    /// Native ids: `seq`, part, id.
    pub parts: Vec<(u64, u32, Vec<NativeId>)>,
    /// How a delivery was split.
    pub plans: Vec<(u64, Vec<String>)>,
    /// Deliveries given up.
    pub dead: Vec<DeadLetter>,
    /// Deliveries that failed and will be tried again. A row goes when its event is finished or given up.
    pub troubles: Vec<Trouble>,
    /// Changes that were shown within the message that they change. A row goes when the lane has passed the change.
    pub folded: Vec<u64>,
    /// What the gateway itself says about this lane, each once: `(channel, source_id)` tells.
    pub notices: Vec<Draft>,
    /// Dead letters whose second chance ended well.
    pub revived: Vec<u64>,
}

/// A delivery given up.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DeadLetter {
    /// The event.
    pub seq: u64,
    /// True when it may be tried again as it is, once something else was mended.
    pub parked: bool,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// A delivery that failed and waits for its next attempt.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trouble {
    /// The event.
    pub seq: u64,
    /// How often it was attempted.
    pub attempts: u32,
    /// How often the bridge died with it first in its hands.
    pub deaths: u32,
    /// True when an attempt may have reached the network.
    pub doubt: bool,
    /// What went wrong last.
    pub why: String,
    /// When.
    pub at: Timestamp,
}

/// Where a lane stood when the journal was opened.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LaneStart {
    /// Finished up to here.
    pub done: u64,
    /// What lies between `done` and this may have been handed over.
    pub tried: u64,
    /// The last event of the room.
    pub head: u64,
    /// What failed and was not finished.
    pub troubles: Vec<Trouble>,
    /// Dead letters for which a second chance was asked.
    pub again: Vec<DeadLetter>,
    /// Changes beyond `done` that were shown within their message.
    pub folded: Vec<u64>,
}

/// One place of a room's log.
#[derive(Clone, Debug, PartialEq)]
pub enum Logged {
    /// What happened.
    Event(Arc<Event>),
    /// What happened cannot be read any more: this machine's disk has damaged it.
    Damaged {
        /// The place.
        seq: u64,
        /// What is wrong with it.
        why: String,
    },
}

impl Logged {
    /// The place.
    pub fn seq(&self) -> u64 {
        match self {
            Logged::Event(event) => event.seq,
            Logged::Damaged { seq, .. } => *seq,
        }
    }

    /// The event, when it can be read.
    pub fn event(&self) -> Option<&Arc<Event>> {
        match self {
            Logged::Event(event) => Some(event),
            Logged::Damaged { .. } => None,
        }
    }
}

/// A later event that changes an earlier one of the same room.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Change {
    /// What is changed.
    pub target_seq: u64,
    /// The change.
    pub seq: u64,
    /// How.
    pub kind: ChangeKind,
}

/// How an event changes an earlier one.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ChangeKind {
    /// It has a new text.
    Edit,
    /// It is taken back.
    Redact,
    /// A reaction is put on it or taken off.
    React,
}

/// What an event is to a lane's channel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Standing {
    /// The lane has finished with it. The native ids are those of its parts; none where the network has no names, or where an event of
    /// this kind shows nothing.
    Shown(Vec<NativeId>),
    /// It was given up, and lies with the dead letters.
    Dead,
    /// The lane has not finished with it.
    Waiting,
    /// It was never shown here: the channel was not in the room yet, or it was given up and dropped, or it is not in the journal.
    NeverShown,
    /// It was born here.
    Origin(NativeId),
}
