//! What people ask: dead letters, and what became of one event.

use std::fmt;
use std::str::FromStr;

use comity_bridge::{Channel, EventId, NativeId, NetworkName, RoomAddress, Timestamp};

use super::{Logged, Trouble};

/// Which dead letters.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DeadFilter {
    /// Only those of this network.
    pub network: Option<NetworkName>,
    /// Only those of this channel.
    pub channel: Option<Channel>,
    /// Only those of this room.
    pub room: Option<RoomAddress>,
}

/// A place in the list of dead letters: where the next page begins.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct DeadPlace {
    pub(super) channel: i64,
    pub(super) place: i64,
}

impl fmt::Display for DeadPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.channel, self.place)
    }
}

impl FromStr for DeadPlace {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (channel, place) = text.split_once('.').unwrap_or((text, ""));
        Ok(DeadPlace {
            channel: channel.parse()?,
            place: place.parse()?,
        })
    }
}

/// A dead letter as people see it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeadEntry {
    /// Where it is in the list.
    pub place: DeadPlace,
    /// Where it could not be shown.
    pub channel: Channel,
    /// The room.
    pub room: RoomAddress,
    /// The event; None when it is damaged beyond its id.
    pub event: Option<EventId>,
    /// Its place in the room.
    pub seq: u64,
    /// True when it may be tried again as it is.
    pub parked: bool,
    /// Why it was given up.
    pub reason: String,
    /// When.
    pub at: Timestamp,
    /// True when another attempt was asked for and has not ended yet.
    pub again: bool,
}

/// What became of one event.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// The event, with the times that its source claims and at which it came in.
    pub event: Logged,
    /// Its room.
    pub room: RoomAddress,
    /// Where it was born.
    pub origin: Channel,
    /// When it was committed; None where an earlier version did that.
    pub committed: Option<Timestamp>,
    /// What became of it in each channel that has a lane in the room, but for the one that it was born in.
    pub channels: Vec<ChannelTrace>,
}

/// What became of one event in one channel.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelTrace {
    /// The channel.
    pub channel: Channel,
    /// How far the channel's lane is.
    pub done: u64,
    /// How it stands there.
    pub step: ChannelStep,
    /// What the network calls its parts.
    pub parts: Vec<PartTrace>,
    /// What went wrong last, while it is being tried.
    pub trouble: Option<Trouble>,
}

/// How one event stands in one channel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ChannelStep {
    /// The lane has finished with it.
    Finished,
    /// The lane has not come to it, or is trying.
    Waiting,
    /// Given up.
    Dead(DeadEntry),
    /// Given up, and of no interest any more: dropped by the operator, or taken back.
    Dropped(DeadEntry),
    /// The channel's lane began behind it.
    Before,
}

/// One part of an event in one channel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PartTrace {
    /// Which, from 0.
    pub part: u32,
    /// What the network calls it.
    pub ids: Vec<NativeId>,
    /// When that was known; None where an earlier version wrote it down.
    pub at: Option<Timestamp>,
}
