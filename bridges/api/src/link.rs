//! What a running bridge may touch: nothing else.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::delivery::Delivery;
use crate::event::{Channel, DeliveryKey, RoomAddress, Timestamp};
use crate::failpoint;
use crate::http_inbox::HttpExchange;
use crate::report::Reports;

/// Everything that a running bridge has of the gateway.
pub struct Link {
    /// What the bridge tells.
    pub reports: Reports,
    /// What the bridge is asked. It always drains this, also while its network is away: the capacity is at least the
    /// sum of its channels' windows, so the gateway never waits for a bridge.
    pub requests: mpsc::Receiver<Request>,
    /// Rooms and channels, to look up.
    pub directory: Directory,
    /// HTTP requests for the endpoints that the bridge declared.
    pub http: mpsc::Receiver<HttpExchange>,
    /// Clock and directories.
    pub env: Env,
    /// Fires when the bridge shall end: flush what is written, say goodbye, return within two seconds.
    pub shutdown: CancellationToken,
}

/// What the gateway asks of a bridge.
#[derive(Debug)]
pub enum Request {
    /// Be in this channel from now on, also after reconnecting. Answered by `Reports::channel`.
    Join(Channel, JoinOptions),
    /// Leave it.
    Leave(Channel),
    /// Show an event in a channel.
    Deliver(Delivery),
    /// The delivery is not wanted any more, if it has not begun.
    Cancel(DeliveryKey),
}

/// How a channel is joined.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JoinOptions {
    /// The room that the channel shows.
    pub room: RoomAddress,
    /// True when the channel is this gateway's own room, offered to peers.
    pub hosted: bool,
    /// Who of the peers may join a hosted room.
    pub access: Access,
}

/// Who of the peers may join a room.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Access {
    /// Nobody.
    #[default]
    Off,
    /// Who was invited.
    Invite,
    /// Anybody.
    Open,
}

/// Read-only: which room is shown where.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    rooms: Arc<Vec<(RoomAddress, Vec<Channel>)>>,
}

impl Directory {
    /// A directory of these rooms.
    pub fn new(rooms: Vec<(RoomAddress, Vec<Channel>)>) -> Self {
        Directory {
            rooms: Arc::new(rooms),
        }
    }

    /// The room that a channel shows.
    pub fn room_of(&self, channel: &Channel) -> Option<&RoomAddress> {
        self.rooms
            .iter()
            .find(|(_, channels)| channels.contains(channel))
            .map(|(room, _)| room)
    }

    /// The channels that show a room.
    pub fn channels(&self, room: &RoomAddress) -> &[Channel] {
        self.rooms
            .iter()
            .find(|(known, _)| known == room)
            .map_or(&[], |(_, channels)| channels)
    }
}

/// Clock and directories of one bridge.
#[derive(Clone, Debug)]
pub struct Env {
    /// Wall clock time.
    pub clock: Clock,
    /// Exists, belongs to this network alone, survives restarts.
    pub state_dir: PathBuf,
    /// The gateway's signing keys; created by the bridge that signs.
    pub identity_dir: PathBuf,
}

/// Where wall clock time comes from. Intervals use tokio's clock, which tests can pause.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The machine's.
    #[default]
    System,
    /// A test's.
    Fixed(Arc<AtomicI64>),
}

impl Clock {
    /// The time now.
    pub fn now(&self) -> Timestamp {
        match self {
            Clock::System => {
                let since = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                let millis = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
                Timestamp(millis.saturating_add(failpoint::clock_offset()))
            }
            Clock::Fixed(millis) => Timestamp(millis.load(Ordering::Relaxed)),
        }
    }
}
