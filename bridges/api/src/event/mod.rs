//! The event model, version 1: the envelope.
//!
//! It is what the HTTP API speaks and what bots see; its content and author profile are what a federation
//! signs. Fields that this version does not know survive a round trip. `id` and `origin` never change
//! after entry, and no secret is ever in an event.
//!
//! `EVENTS.md` beside this crate's manifest is the page for bot authors, `event.schema.json` the exact grammar.

mod civil;
mod content;
mod ident;
mod name;
mod schema;
mod text;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use civil::Civil;
pub use content::{
    Attachment, Ban, CONTENT_TYPES, Content, Edit, Encrypted, Join, Kick, Leave, LeaveKind,
    Message, MessageKind, Presence, PresenceState, Profile, React, ReactAction, Read, Redact,
    Rename, RoomAvatar, RoomName, Topic, Typing, UnknownContent,
};
pub use ident::{
    Channel, DeliveryKey, EventId, NameError, NativeId, NativeRef, NetworkName, RoomAddress,
    SourceId, Timestamp, UserAddress,
};
pub use name::is_hidden;
pub use schema::schema;
pub use text::{Span, Style, Text};

/// One thing that happened in a room.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Event {
    /// Unique on this gateway; orders nothing.
    pub id: EventId,
    /// The room that it happened in.
    pub room: RoomAddress,
    /// Where it was born.
    pub origin: Origin,
    /// Who did it.
    pub author: Author,
    /// The room's local order, without gaps, from 1. Assigned when the event is committed.
    pub seq: u64,
    /// When the source says that it happened, clamped to what is plausible.
    pub time: Timestamp,
    /// When this gateway got it: what retention and staleness use.
    pub received: Timestamp,
    /// What happened.
    pub content: Content<EventId>,
    /// The gateways that it passed, this one last.
    pub via: Vec<String>,
    /// Free fields of bots and bridges; ASCII keys only.
    #[serde(default)]
    pub ext: BTreeMap<String, serde_json::Value>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}

/// Where an event was born.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Origin {
    /// The network that reported it.
    pub network: NetworkName,
    /// The native name of the channel.
    pub channel: String,
    /// What tells it from all others of that channel.
    pub native_id: SourceId,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}

impl Origin {
    /// True when this is the channel that the event was born in.
    pub fn is(&self, channel: &Channel) -> bool {
        self.network == *channel.network() && self.channel == channel.native()
    }
}

/// Who did it, as the source shows them.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Author {
    /// `network/stable native id`: unique on this gateway.
    pub id: String,
    /// The identity to write down; bound to the gateway that signed it.
    pub address: UserAddress,
    /// The name that people see. Anybody may choose any: never an identity.
    pub name: String,
    /// A media reference.
    pub avatar: Option<String>,
    /// True when the source says that this is a program.
    pub bot: bool,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}
