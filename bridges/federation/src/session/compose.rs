//! Makes this server's own events: always from its own words and from ids, never from bytes or a
//! template that another server composed (PROTOCOL 7.8, attack F6).

use serde_json::{Value, json};

use super::{Head, Shelf, ShelfError};
use crate::ident::{Alias, EventId, RoomId, ServerName, UserAddress};
use crate::wire::event::{Draft, Event, Hop, MAX_PARENTS, Reject};
use crate::wire::keys::KeyDocument;
use crate::wire::sign::OwnKey;

/// This server, as it signs.
#[derive(Debug, Clone)]
pub struct Author {
    pub server: ServerName,
    pub key: OwnKey,
}

/// Why an event could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComposeError {
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    #[error("it does not fit into an event: {0}")]
    Content(#[from] Reject),
    #[error("this server is not in the room")]
    NotInRoom,
}

/// Where in a room the next event goes.
#[derive(Debug, Clone)]
pub struct Place {
    pub room: RoomId,
    pub parents: Vec<EventId>,
    /// The greatest depth among the parents.
    pub depth: u64,
    /// The latest time among the parents.
    pub hlc: (u64, u64),
    /// The last event of this server in the room.
    pub previous: Option<(u64, EventId)>,
}

impl Place {
    /// After everything that is known of the room.
    pub fn after_all(
        shelf: &impl Shelf,
        room: &RoomId,
        server: &ServerName,
    ) -> Result<Self, ComposeError> {
        let mut heads = shelf.heads(room)?;
        // More heads than an event may name are merged by the events that follow (attack F13).
        heads.truncate(MAX_PARENTS);
        if heads.is_empty() {
            return Err(ComposeError::NotInRoom);
        }
        Ok(Self {
            room: room.clone(),
            depth: heads.iter().map(|head| head.depth).max().unwrap_or(0),
            hlc: heads.iter().map(|head| head.hlc).max().unwrap_or((0, 0)),
            parents: heads.into_iter().map(|head: Head| head.id).collect(),
            previous: shelf.tip(room, server)?,
        })
    }

    /// After `event`, which this server has just made.
    fn after(event: &Event) -> Self {
        Self {
            room: event.room.clone(),
            parents: vec![event.id.clone()],
            depth: event.depth,
            hlc: event.hlc,
            previous: Some((event.seq, event.id.clone())),
        }
    }
}

impl Author {
    /// Begins a room (PROTOCOL 7.1). `nonce` keeps two rooms of one name apart.
    pub fn genesis(
        &self,
        alias: &Alias,
        keys: &KeyDocument,
        nonce: &str,
        now: u64,
    ) -> Result<Event, Reject> {
        let creator = self.server.gateway();
        Draft {
            room: None,
            kind: "genesis",
            origin: self.server.clone(),
            sender: creator.clone(),
            seq: 0,
            previous: None,
            parents: Vec::new(),
            auth: Vec::new(),
            depth: 0,
            hlc: (now, 0),
            body: json!({
                "version": 1,
                "creators": [creator],
                "alias": alias,
                "policy": { "join": "open" },
                "nonce": nonce,
                "keys": keys.value(),
            }),
            prov: Vec::new(),
        }
        .sign(&self.key)
    }

    /// The two events with which this server enters a room of which it knows only a [`Place`]: its
    /// keys and its join (PROTOCOL 12.2).
    pub fn entry(&self, place: &Place, keys: &KeyDocument, now: u64) -> Result<[Event; 2], Reject> {
        let genesis = vec![place.room.genesis()];
        let gateway = self.server.gateway();
        let keys = self
            .draft(
                place,
                "key.doc",
                &gateway,
                genesis.clone(),
                keys.value().clone(),
                now,
            )
            .sign(&self.key)?;
        let join = self.join(&Place::after(&keys), &gateway, genesis, now)?;
        Ok([keys, join])
    }

    /// The join with which this server comes back to a room that it had left; its keys are there already.
    pub fn come_back(&self, place: &Place, now: u64) -> Result<Event, Reject> {
        self.join(
            place,
            &self.server.gateway(),
            vec![place.room.genesis()],
            now,
        )
    }

    /// The join of this server's own room by its own gateway user.
    pub fn first_join(&self, genesis: &Event, now: u64) -> Result<Event, Reject> {
        self.join(
            &Place::after(genesis),
            &self.server.gateway(),
            vec![genesis.id.clone()],
            now,
        )
    }

    fn join(
        &self,
        place: &Place,
        user: &UserAddress,
        auth: Vec<EventId>,
        now: u64,
    ) -> Result<Event, Reject> {
        let body = json!({ "user": user, "membership": "join" });
        self.draft(place, "member", user, auth, body, now)
            .sign(&self.key)
    }

    /// The leave of this server, which ends the membership of all its users.
    pub fn leave(
        &self,
        shelf: &impl Shelf,
        room: &RoomId,
        now: u64,
    ) -> Result<Event, ComposeError> {
        let gateway = self.server.gateway();
        let join = self
            .membership(shelf, room, &gateway)?
            .ok_or(ComposeError::NotInRoom)?;
        let place = Place::after_all(shelf, room, &self.server)?;
        let body = json!({ "user": gateway, "membership": "leave" });
        Ok(self
            .draft(&place, "member", &gateway, vec![join], body, now)
            .sign(&self.key)?)
    }

    /// What `speaker` says, preceded by the membership of the speaker when this is the first time (PROTOCOL 7.4).
    pub fn message(
        &self,
        shelf: &impl Shelf,
        room: &RoomId,
        speaker: &UserAddress,
        said: Said,
        now: u64,
    ) -> Result<Vec<Event>, ComposeError> {
        let gateway = self
            .membership(shelf, room, &self.server.gateway())?
            .ok_or(ComposeError::NotInRoom)?;
        let mut place = Place::after_all(shelf, room, &self.server)?;
        let mut events = Vec::with_capacity(2);
        let membership = match self.membership(shelf, room, speaker)? {
            Some(id) => id,
            None => {
                let join = self.join(&place, speaker, vec![room.genesis(), gateway], now)?;
                place = Place::after(&join);
                let id = join.id.clone();
                events.push(join);
                id
            }
        };
        let mut draft = self.draft(&place, "message", speaker, vec![membership], said.body, now);
        draft.prov = said.prov;
        events.push(draft.sign(&self.key)?);
        Ok(events)
    }

    fn membership(
        &self,
        shelf: &impl Shelf,
        room: &RoomId,
        user: &UserAddress,
    ) -> Result<Option<EventId>, ShelfError> {
        let membership = shelf.membership(room, user, u64::MAX)?;
        Ok(membership
            .filter(|membership| membership.joined)
            .map(|membership| membership.id))
    }

    fn draft(
        &self,
        place: &Place,
        kind: &'static str,
        sender: &UserAddress,
        auth: Vec<EventId>,
        body: Value,
        now: u64,
    ) -> Draft {
        Draft {
            room: Some(place.room.clone()),
            kind,
            origin: self.server.clone(),
            sender: sender.clone(),
            seq: place.previous.as_ref().map_or(0, |(seq, _)| seq + 1),
            previous: place.previous.as_ref().map(|(_, id)| id.clone()),
            parents: place.parents.clone(),
            auth,
            depth: place.depth.saturating_add(1),
            hlc: tick(place.hlc, now),
            body,
            prov: Vec::new(),
        }
    }
}

/// What is said, ready to be signed.
#[derive(Debug, Clone)]
pub struct Said {
    pub body: Value,
    pub prov: Vec<Hop>,
}

/// A hybrid logical clock: never before what it follows, whatever the machine's clock says; but a peer whose clock
/// is far ahead does not drag ours along (attack F11).
fn tick(last: (u64, u64), now: u64) -> (u64, u64) {
    const AHEAD_MS: u64 = 5 * 60 * 1000;
    const MAX_COUNT: u64 = 1 << 32;
    if now > last.0 || last.0 > now.saturating_add(AHEAD_MS) {
        (now, 0)
    } else {
        (last.0, last.1.saturating_add(1).min(MAX_COUNT))
    }
}
