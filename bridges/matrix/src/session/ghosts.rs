//! What the homeserver already knows of our ghosts, so that it is not told again.
//!
//! A memory and no more: forgetting a ghost costs a few calls that change nothing.

use std::collections::HashSet;

use ruma::{OwnedRoomId, OwnedUserId};

use super::recent::Recent;

/// How many ghosts are remembered, and in how many rooms each.
const MAX_GHOSTS: usize = 5_000;
const MAX_ROOMS_EACH: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Ghost {
    pub(super) registered: bool,
    pub(super) name: Option<String>,
    rooms: HashSet<OwnedRoomId>,
}

#[derive(Debug)]
pub(super) struct Ghosts(Recent<OwnedUserId, Ghost>);

impl Ghosts {
    pub(super) fn new() -> Self {
        Self(Recent::new(MAX_GHOSTS))
    }

    pub(super) fn of(&mut self, user: &OwnedUserId) -> &mut Ghost {
        if self.0.get(user).is_none() {
            self.0.insert(user.clone(), Ghost::default());
        }
        self.0.get(user).expect("there or just put there")
    }

    /// Nothing about a ghost is certain any more: the homeserver may have lost it, or put it out.
    pub(super) fn forget(&mut self, user: &OwnedUserId) {
        self.0.insert(user.clone(), Ghost::default());
    }

    /// A membership event of a ghost: somebody else may have put it out, or in.
    pub(super) fn note_member(&mut self, user: &OwnedUserId, room: &OwnedRoomId, is_in: bool) {
        if let Some(ghost) = self.0.get(user) {
            ghost.note(room, is_in);
        }
    }
}

impl Ghost {
    pub(super) fn is_in(&self, room: &OwnedRoomId) -> bool {
        self.rooms.contains(room)
    }

    pub(super) fn note(&mut self, room: &OwnedRoomId, is_in: bool) {
        if !is_in {
            self.rooms.remove(room);
            return;
        }
        if self.rooms.len() >= MAX_ROOMS_EACH {
            self.rooms.clear();
        }
        self.rooms.insert(room.clone());
    }
}
