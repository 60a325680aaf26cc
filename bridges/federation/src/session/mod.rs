//! What a room's events mean: which are valid, who may say what, how the next one is made.
//!
//! Nothing here opens a socket, reads a clock or knows SQL. What is already known of a room is
//! asked of a [`Shelf`]; the time, where it is written down, is handed in.
//!
//! The rule of rules (PROTOCOL 7.7): validity is a function of an event and its closure. Whatever depends on
//! today (lists, limits, the reachability of a key) may delay or hide, never invalidate.

pub mod compose;
pub mod judge;

#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::ident::{Alias, EventId, RoomId, ServerName, UserAddress};
use crate::wire::event::Event;
use crate::wire::keys::KeyDocument;

/// What is known of rooms and events; implemented by the graph, inside one transaction.
pub trait Shelf {
    fn room(&self, room: &RoomId) -> Result<Option<Room>, ShelfError>;
    /// What is remembered of an accepted event.
    fn kept(&self, id: &EventId) -> Result<Option<Kept>, ShelfError>;
    /// The whole of an accepted event.
    fn event(&self, id: &EventId) -> Result<Option<Event>, ShelfError>;
    /// The event that took this place in the origin's chain, if one has.
    fn at_seq(
        &self,
        room: &RoomId,
        origin: &ServerName,
        seq: u64,
    ) -> Result<Option<EventId>, ShelfError>;
    /// The last event of the origin's chain.
    fn tip(&self, room: &RoomId, origin: &ServerName)
    -> Result<Option<(u64, EventId)>, ShelfError>;
    /// The origin's latest key document before `seq` of its chain.
    fn keys(
        &self,
        room: &RoomId,
        origin: &ServerName,
        before: u64,
    ) -> Result<Option<KeyDocument>, ShelfError>;
    /// Whether the origin's document in the room waits to be compared with the one that it publishes.
    fn is_unproved(&self, room: &RoomId, origin: &ServerName) -> Result<bool, ShelfError>;
    /// How many origins of the room wait for that.
    fn unproved_in(&self, room: &RoomId) -> Result<usize, ShelfError>;
    /// The latest `member` event about `user` in the chain of its origin, before `seq`.
    fn membership(
        &self,
        room: &RoomId,
        user: &UserAddress,
        before: u64,
    ) -> Result<Option<Membership>, ShelfError>;
    /// The accepted events that no accepted event names as a parent, deepest first. Nothing of an unproved origin is among
    /// them, or takes another one's place: what we say builds on what is genuine.
    fn heads(&self, room: &RoomId) -> Result<Vec<Head>, ShelfError>;
    /// The servers whose gateway user is joined.
    fn servers(&self, room: &RoomId) -> Result<Vec<ServerName>, ShelfError>;

    /// Whether `server` is in the room now.
    fn is_in_room(&self, room: &RoomId, server: &ServerName) -> Result<bool, ShelfError> {
        let membership = self.membership(room, &server.gateway(), u64::MAX)?;
        Ok(membership.is_some_and(|membership| membership.joined))
    }
}

/// The place where the graph is kept does not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShelfError {
    #[error("the graph's database: {0}")]
    Database(String),
    /// What was written is not there any more, or is not what was written: trying again does not help.
    #[error("the graph's database is damaged: {0}")]
    Damaged(String),
    #[error("the graph is closed")]
    Closed,
    /// A fault of this program. What was done is undone, and the graph goes on.
    #[error("a fault in what was done with the graph")]
    Fault,
}

/// A room that this server has, or is about to enter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    pub id: RoomId,
    pub alias: Alias,
    pub hosted: bool,
    pub stage: Stage,
    /// The depth at which this server came in (PROTOCOL 12.4); 0 in a room of its own.
    pub horizon: u64,
}

/// How far the entry into a room has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The id is pinned and our join is signed; the answer is not here yet.
    Joining,
    In,
    Left,
}

/// What judging needs of an accepted event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub room: RoomId,
    pub origin: ServerName,
    pub seq: u64,
    pub depth: u64,
    pub hidden: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    pub id: EventId,
    pub joined: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub id: EventId,
    pub depth: u64,
    pub hlc: (u64, u64),
}

/// The body of a `member` event (PROTOCOL 6.10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberBody {
    pub user: UserAddress,
    pub membership: String,
}

impl MemberBody {
    pub fn of(event: &Event) -> Option<Self> {
        let body = event.body.as_ref()?;
        Some(Self {
            user: UserAddress::parse(body.get("user")?.as_str()?).ok()?,
            membership: body.get("membership")?.as_str()?.to_owned(),
        })
    }
}

/// What a genesis says of its room (PROTOCOL 7.1).
#[derive(Debug, Clone)]
pub struct Genesis {
    pub alias: Alias,
    pub open: bool,
    pub keys: KeyDocument,
}

impl Genesis {
    /// Reads the body of a genesis; nothing when this version cannot hold such a room.
    pub fn of(event: &Event) -> Option<Self> {
        let body = event.body.as_ref()?;
        let creators = body.get("creators")?.as_array()?;
        let is_creator = creators
            .iter()
            .any(|creator| creator.as_str() == Some(event.sender.as_str()));
        let first_version = body.get("version").and_then(Value::as_u64) == Some(1);
        if event.kind != "genesis" || !is_creator || !first_version {
            return None;
        }
        Some(Self {
            alias: Alias::parse(body.get("alias")?.as_str()?).ok()?,
            open: body.get("policy")?.get("join")?.as_str()? == "open",
            keys: KeyDocument::from_value(body.get("keys")?.clone()).ok()?,
        })
    }
}
