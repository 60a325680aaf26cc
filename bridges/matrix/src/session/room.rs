//! One configured channel on its way into its Matrix room.
//!
//! An alias is resolved once and then kept: whoever may move an alias must not thereby move a
//! conversation. Only when the kept room does not let us in is the alias asked again. A room that
//! is not public waits for an invitation. An encrypted room is not joined for business: what is
//! said there would be shown in clear elsewhere.

use std::time::{Duration, Instant};

use comity_bridge::ChannelState;
use ruma::{OwnedRoomId, OwnedServerName};
use tracing::warn;

use crate::ident::{Names, RoomName};
use crate::wire::call::{Answer, Call};
use crate::wire::fault::Fault;
use comity_net::backoff::Backoff;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Standing {
    /// Until `due`, then from the beginning.
    Out,
    Resolving,
    Joining,
    /// In, and asking whether the room is encrypted.
    Inspecting,
    In,
    /// In, as far as we know, and asking whether that is still so.
    Checking,
}

#[derive(Debug)]
pub(super) struct Room {
    name: RoomName,
    id: Option<OwnedRoomId>,
    via: Vec<OwnedServerName>,
    /// The id is from an earlier run and has not been tried yet.
    kept: bool,
    standing: Standing,
    asked: bool,
    joined: bool,
    due: Option<Instant>,
    backoff: Backoff,
    /// It is known which room this is, or that nobody knows.
    settled: bool,
    resolved_at: Option<Instant>,
    /// Ask again when the call under way is answered.
    again: bool,
}

impl Room {
    pub(super) fn new(now: Instant, name: RoomName, id: Option<OwnedRoomId>) -> Self {
        Self {
            kept: id.is_some() && matches!(name, RoomName::Alias(_)),
            settled: id.is_some(),
            name,
            id,
            via: Vec::new(),
            standing: Standing::Out,
            asked: false,
            joined: false,
            due: Some(now),
            backoff: Backoff::new(Duration::from_secs(5), Duration::from_secs(600)),
            resolved_at: None,
            again: false,
        }
    }

    pub(super) fn name(&self) -> &RoomName {
        &self.name
    }

    pub(super) fn id(&self) -> Option<&OwnedRoomId> {
        self.id.as_ref()
    }

    pub(super) fn is_joined(&self) -> bool {
        self.joined
    }

    pub(super) fn is_settled(&self) -> bool {
        self.settled
    }

    pub(super) fn due(&self) -> Option<Instant> {
        if self.standing == Standing::Out {
            self.due
        } else {
            None
        }
    }

    /// Takes it that nobody knows, for now, which room this is.
    pub(super) fn settle(&mut self) {
        self.settled = true;
    }

    /// Tries now what would be tried later.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.due = Some(now);
        self.again = self.standing != Standing::Out && !self.joined;
    }

    /// Resolves the alias again, but not within `pause` of the last time.
    pub(super) fn resolve_soon(&mut self, now: Instant, pause: Duration) {
        let earliest = self.resolved_at.map_or(now, |at| at + pause);
        self.due = Some(self.due.map_or(earliest, |due| due.min(earliest)));
    }

    /// Asks whether we are still in, and whether the room is still in clear.
    pub(super) fn check(&mut self, now: Instant) {
        match self.standing {
            Standing::In => self.step(Standing::Checking),
            Standing::Out => self.due = Some(now),
            _ => self.again = true,
        }
    }

    /// Another channel has this room already.
    pub(super) fn clash(&mut self, now: Instant) -> ChannelState {
        self.id = None;
        self.settled = true;
        self.out(
            now,
            Duration::from_secs(600),
            "another channel of this network shows the same room".to_owned(),
        )
    }

    pub(super) fn poll(&mut self, now: Instant, names: &Names) -> Option<Call> {
        if self.standing == Standing::Out && self.due.is_some_and(|due| due <= now) {
            self.due = None;
            self.step(if self.id.is_some() {
                Standing::Joining
            } else {
                Standing::Resolving
            });
        }
        if self.asked {
            return None;
        }
        let call = match (self.standing, &self.name, &self.id) {
            (Standing::Resolving, RoomName::Alias(alias), _) => {
                self.resolved_at = Some(now);
                Call::Resolve {
                    alias: alias.clone(),
                }
            }
            (Standing::Joining, _, Some(room)) => Call::Join {
                user: names.bot().clone(),
                room: room.clone(),
                via: self.via.clone(),
            },
            (Standing::Inspecting, _, Some(room)) => Call::Encryption { room: room.clone() },
            (Standing::Checking, _, Some(room)) => Call::Member {
                room: room.clone(),
                user: names.bot().clone(),
            },
            _ => return None,
        };
        self.asked = true;
        Some(call)
    }

    fn step(&mut self, standing: Standing) {
        self.standing = standing;
        self.asked = false;
    }

    /// Returns what the gateway shall hear, if anything.
    pub(super) fn handle_answer(
        &mut self,
        now: Instant,
        result: Result<Answer, Fault>,
        names: &Names,
    ) -> Option<ChannelState> {
        let again = std::mem::take(&mut self.again);
        let state = match (self.standing, result) {
            (Standing::Resolving, Ok(Answer::Room { room, via })) => {
                self.settled = true;
                self.via = via;
                self.via.truncate(5);
                self.id = Some(room);
                self.step(Standing::Joining);
                None
            }
            (Standing::Resolving, Err(fault)) if fault.is_not_found() => {
                self.settled = true;
                let pause = self.backoff.next_wait();
                Some(self.out(
                    now,
                    pause,
                    "the homeserver knows no room of this alias".to_owned(),
                ))
            }
            (Standing::Joining, Ok(_)) => {
                self.kept = false;
                self.step(Standing::Inspecting);
                None
            }
            (Standing::Joining, Err(fault @ Fault::Refused { .. })) if self.kept => {
                warn!(%fault, room = ?self.id, "the room that this alias named earlier does not let us in; asking again which it names");
                self.kept = false;
                self.id = None;
                self.settled = false;
                self.step(Standing::Resolving);
                None
            }
            (Standing::Joining, Err(fault @ Fault::Refused { .. })) => {
                let why = format!("{fault}; if the room is not public, invite {}", names.bot());
                let pause = self.backoff.next_wait();
                if let RoomName::Alias(_) = self.name {
                    // The alias may name another room by then. The id stays known until it does,
                    // so that an invitation to it is recognised.
                    self.kept = true;
                }
                Some(self.out(now, pause, why))
            }
            (Standing::Inspecting, Ok(_)) => Some(self.out(
                now,
                Duration::from_secs(600),
                "the room is encrypted, and encrypted rooms are not built yet".to_owned(),
            )),
            (Standing::Inspecting, Err(Fault::Refused { .. })) => {
                // Not found: not encrypted. Whoever may not read the state may not be in the room
                // either, which the next message shows.
                self.standing = Standing::In;
                self.backoff.reset();
                let is_news = !std::mem::replace(&mut self.joined, true);
                is_news.then_some(ChannelState::Joined)
            }
            (Standing::Checking, Ok(Answer::Member(state)))
                if state.membership.as_deref() == Some("join") =>
            {
                self.step(Standing::Inspecting);
                None
            }
            (Standing::Checking, Ok(_) | Err(Fault::Refused { .. })) => {
                let why = format!("{} is not in the room any more", names.bot());
                Some(self.out(now, Duration::from_secs(30), why))
            }
            (_, Err(Fault::Limited(pause))) => {
                Some(self.out(now, pause, "the homeserver limits the rate".to_owned()))
            }
            (_, Err(fault)) => {
                let pause = self.backoff.next_wait();
                Some(self.out(now, pause, fault.to_string()))
            }
            (_, Ok(_)) => None,
        };
        if again {
            match self.standing {
                Standing::Out => self.due = Some(now),
                Standing::In => self.step(Standing::Checking),
                _ => {}
            }
        }
        state
    }

    fn out(&mut self, now: Instant, pause: Duration, why: String) -> ChannelState {
        self.standing = Standing::Out;
        self.asked = false;
        self.joined = false;
        self.due = Some(now + pause);
        ChannelState::NotJoined { why }
    }
}
