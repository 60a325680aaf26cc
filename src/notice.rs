//! What the gateway itself says in a room: that messages may be missing, or that one could not be shown.
//!
//! A notice is an event like any other. It is committed together with what it is about, and its source id says what that is, so that
//! nothing is said twice.

use std::collections::BTreeMap;

use comity_bridge::event::{Message, MessageKind};
use comity_bridge::{
    Author, Channel, Content, Event, EventId, RoomAddress, SourceId, Text, Timestamp, UserAddress,
};
use serde_json::Value;
use ulid::Ulid;

use crate::journal::Draft;

/// The user part of the gateway's own address.
const NAME: &str = "comity";

/// The key in `ext` that names the one channel in which an event is shown.
const ONLY: &str = "only";

/// One notice: where it is born (it is shown in the room's other channels), what tells it from all others of that channel, and
/// what it says.
#[derive(Clone, Debug)]
pub(crate) struct Notice<'a> {
    /// The gateway's.
    pub(crate) domain: &'a str,
    pub(crate) room: &'a RoomAddress,
    pub(crate) channel: &'a Channel,
    pub(crate) source_id: String,
    /// The one channel in which it is shown; None shows it in all others.
    pub(crate) only: Option<&'a Channel>,
    pub(crate) text: String,
    pub(crate) now: Timestamp,
}

impl Notice<'_> {
    /// The event that it is to become.
    pub(crate) fn draft(self) -> Draft {
        let only = self
            .only
            .map(|channel| (ONLY.to_owned(), Value::String(channel.to_string())));
        let address = UserAddress::of(NAME, self.domain);
        Draft {
            id: new_id(self.now),
            room: self.room.clone(),
            channel: self.channel.clone(),
            source_id: SourceId(self.source_id),
            author: Author {
                id: address.to_string(),
                address,
                name: NAME.to_owned(),
                avatar: None,
                bot: true,
                unknown: BTreeMap::new(),
            },
            time: self.now,
            received: self.now,
            content: Content::Message(Message::of(MessageKind::Notice, Text::plain(self.text))),
            via: vec![self.domain.to_owned()],
            ext: only.into_iter().collect(),
        }
    }
}

/// An id that no other event has got.
pub(crate) fn new_id(now: Timestamp) -> EventId {
    EventId::from_ulid(Ulid::from_parts(
        u64::try_from(now.0).unwrap_or(0),
        rand::random(),
    ))
}

/// Events that are for one channel only.
pub(crate) trait Addressed {
    /// The one channel in which it is shown; None for all.
    fn only(&self) -> Option<Channel>;
}

impl Addressed for Event {
    fn only(&self) -> Option<Channel> {
        self.ext.get(ONLY)?.as_str()?.parse().ok()
    }
}
