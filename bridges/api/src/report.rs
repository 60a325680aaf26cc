//! Inbound: what a bridge tells the gateway.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::capabilities::Capabilities;
use crate::event::{
    Channel, Content, DeliveryKey, EventId, NativeRef, NetworkName, SourceId, Timestamp,
    UserAddress,
};

/// What happened on a network, to be committed together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// In the order in which the network showed them.
    pub incoming: Vec<Incoming>,
    /// Where to go on after a restart, once this batch is committed.
    pub cursor: Option<Cursor>,
    /// The bridge's own small facts; an empty value forgets the key.
    pub writes: Vec<(String, String)>,
    /// Stretches of time of which nothing is known and nothing can be fetched.
    pub gaps: Vec<Gap>,
}

/// Messages may have been said in a channel that nobody here will ever see: the network keeps no history, or less than was
/// missed. Counted, logged and, if configured, said in the room's other channels. A gap is reported with the batch that begins after it, so
/// that it is known for as long as its cursor is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Gap {
    /// Where.
    pub channel: Channel,
    /// The last moment at which the channel was heard.
    pub from: Timestamp,
    /// The first moment at which it was heard again.
    pub until: Timestamp,
}

/// A network's own position, opaque to the gateway.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cursor(pub String);

/// One thing that happened in one channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Incoming {
    /// Where.
    pub channel: Channel,
    /// Unique within the channel, for ever: the same thing reported twice is one event.
    pub source_id: SourceId,
    /// Who.
    pub author: NativeAuthor,
    /// When, as the network says; decides nothing.
    pub claimed: Option<Timestamp>,
    /// This is one of ours coming back: a receipt (its `source_id` is the native id), not an event.
    pub own: Option<DeliveryKey>,
    /// What.
    pub content: Content<NativeRef>,
    /// The gateways that it passed before this one, oldest first. Empty where networks have no such thing.
    pub via: Vec<String>,
}

/// Who did it, in the words of the network.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NativeAuthor {
    /// The stable native id where there is one (account, occupant id, MXID), without the server part where that is the network's own.
    pub id: String,
    /// The name that people see.
    pub name: String,
    /// A media reference.
    pub avatar: Option<String>,
    /// The account that the network vouches for.
    pub account: Option<String>,
    /// True when the network says that this is a program.
    pub bot: bool,
    /// The address, when another gateway has given it; otherwise the router makes it of `id`.
    pub address: Option<UserAddress>,
}

impl NativeAuthor {
    /// An author of whom only id and name are known.
    pub fn named(id: impl Into<String>, name: impl Into<String>) -> Self {
        NativeAuthor {
            id: id.into(),
            name: name.into(),
            ..NativeAuthor::default()
        }
    }
}

/// What the gateway says to a batch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// Durable: the bridge may acknowledge upstream. One verdict for each incoming item, in order.
    Committed(Vec<Verdict>),
    /// Not taken, nothing stored: keep it, let upstream wait, ask again.
    Busy,
}

/// What became of one incoming item.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is this event now.
    Accepted(EventId),
    /// It was this event already.
    Duplicate(EventId),
    /// It was one of ours coming back, and is noted as such.
    Receipt,
    /// It is no event, for good; counted and logged.
    Refused(Refusal),
}

/// Why an incoming item is no event.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Refusal {
    /// The channel belongs to no room.
    UnknownChannel,
    /// It names an earlier message that nobody here has seen.
    UnknownTarget,
    /// It has been through this gateway before.
    Loop,
    /// Its fields are longer than the gateway takes, or empty where they must not be.
    Malformed,
    /// Ephemeral content has no place in a batch.
    Ephemeral,
}

impl Refusal {
    /// A word for counters.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::UnknownChannel => "unknown_channel",
            Refusal::UnknownTarget => "unknown_target",
            Refusal::Loop => "loop",
            Refusal::Malformed => "malformed",
            Refusal::Ephemeral => "ephemeral",
        }
    }
}

/// Something that a stranger sent and that did not become a report. The link goes on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Skip {
    /// A word for the counter: `malformed`, `oversized`, `unauthorised`, `unsupported`, `private`, `gap`, ...
    pub reason: &'static str,
    /// What it was, for the log: names and sizes, never message text or secrets.
    pub detail: String,
}

/// Whether the network is there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NetworkStatus {
    /// On the way.
    Connecting,
    /// Registered and usable.
    Online,
    /// Cut off; the bridge tries again by itself.
    Offline {
        /// For the operator.
        why: String,
    },
}

/// Whether a channel can be written to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ChannelState {
    /// Deliveries may be handed over.
    Joined,
    /// They wait.
    NotJoined {
        /// For the operator.
        why: String,
    },
}

/// What the gateway has kept for a bridge since earlier runs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Remembered {
    /// The last committed cursor.
    pub cursor: Option<Cursor>,
    /// The bridge's own writes.
    pub writes: BTreeMap<String, String>,
}

/// The gateway's side of [`Reports`]: the router, or a test's harness.
#[async_trait]
pub trait Intake: Send + Sync {
    /// Commits a batch, or says that it cannot now.
    async fn commit(&self, network: &NetworkName, batch: Batch) -> Answer;
    /// Counts and logs what could not be taken.
    fn skip(&self, network: &NetworkName, skip: Skip);
    /// Notes whether the network is there.
    fn network(&self, network: &NetworkName, status: NetworkStatus);
    /// Notes whether a channel can be written to.
    fn channel(&self, channel: &Channel, state: ChannelState);
    /// Notes what the network's channels can show.
    fn capabilities(&self, network: &NetworkName, capabilities: Capabilities);
    /// What was kept since earlier runs.
    async fn remembered(&self, network: &NetworkName) -> Remembered;
}

/// What a bridge tells. Cheap to clone.
#[derive(Clone)]
pub struct Reports {
    network: NetworkName,
    intake: Arc<dyn Intake>,
}

impl fmt::Debug for Reports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reports")
            .field("network", &self.network)
            .finish_non_exhaustive()
    }
}

impl Reports {
    /// Reports of this network, into this intake.
    pub fn new(network: NetworkName, intake: Arc<dyn Intake>) -> Self {
        Reports { network, intake }
    }

    /// The network that reports.
    pub fn network_name(&self) -> &NetworkName {
        &self.network
    }

    /// Commits a batch. Returns when it is durable, and only then may the bridge acknowledge upstream. A batch whose
    /// answer was not waited for may or may not be committed; reporting it again is safe, since source ids are unique.
    pub async fn commit(&self, batch: Batch) -> Answer {
        self.intake.commit(&self.network, batch).await
    }

    /// Counts and logs something that a stranger sent and that cannot be taken.
    pub fn skip(&self, reason: &'static str, detail: impl Into<String>) {
        self.intake.skip(
            &self.network,
            Skip {
                reason,
                detail: detail.into(),
            },
        );
    }

    /// Says whether the network is there. All its channels are not joined while it is offline.
    pub fn network(&self, status: NetworkStatus) {
        self.intake.network(&self.network, status);
    }

    /// Says whether a channel can be written to.
    pub fn channel(&self, channel: &Channel, state: ChannelState) {
        self.intake.channel(channel, state);
    }

    /// Says what the network's channels can show; may change at any time.
    pub fn capabilities(&self, capabilities: Capabilities) {
        self.intake.capabilities(&self.network, capabilities);
    }

    /// What was kept since earlier runs: to be asked once, at the start of `run`.
    pub async fn remembered(&self) -> Remembered {
        self.intake.remembered(&self.network).await
    }
}
