//! What the events of a transaction mean: for the journal, for our rooms, for our ghosts.

use std::time::{Duration, Instant};

use comity_bridge::Gap;
use ruma::{OwnedRoomId, OwnedUserId};
use tracing::warn;

use super::catch_up::Page;
use super::intake;
use super::room::Room;
use super::{Action, Asker, Session, TRANSACTION_KEY, Ticket};
use crate::wire::call::{Answer, Call, MemberState};
use crate::wire::event::RoomEvent;
use crate::wire::fault::Fault;

/// However many invitations come, aliases are not looked up more often than this.
const RESOLVE_PAUSE: Duration = Duration::from_secs(5);

impl Session {
    pub(super) fn proceed_intake(&mut self, now: Instant) {
        loop {
            let settled = self.rooms.values().all(Room::is_settled);
            let Some(next) = self
                .intake
                .poll(now, settled, &self.by_room, &self.settings.names)
            else {
                return;
            };
            match next {
                intake::Next::Later(ticket) => {
                    self.numbers.remove(&ticket);
                    // One room that cannot be found must not hold up the others again.
                    self.rooms.values_mut().for_each(Room::settle);
                    self.health.ping_soon(now);
                    self.catch_up.watch(now);
                    self.actions.push_back(Action::Answer {
                        ticket,
                        taken: false,
                    });
                }
                intake::Next::Busy(ticket) => {
                    self.numbers.remove(&ticket);
                    self.wakes = true;
                    self.actions.push_back(Action::Answer {
                        ticket,
                        taken: false,
                    });
                }
                intake::Next::Ask(members) => {
                    for (room, user) in members {
                        let call = Call::Member {
                            room: room.clone(),
                            user: user.clone(),
                        };
                        self.ask(Asker::Member(room, user), call);
                    }
                }
                intake::Next::Take(ticket, events) => self.take(now, ticket, &events),
            }
        }
    }

    /// Reads the events of a transaction in order, and what of it is for the journal.
    fn take(&mut self, now: Instant, ticket: Ticket, events: &[RoomEvent]) {
        let number = self.numbers.remove(&ticket);
        let mut incoming = Vec::new();
        for event in events {
            self.catch_up.note(event);
            if event.kind == "m.room.member" {
                self.member_event(now, event);
            }
            let Some(channel) = self.by_room.get(&event.room_id).cloned() else {
                continue;
            };
            if event.kind == "m.room.encryption"
                && event.state_key.as_deref() == Some("")
                && let Some(room) = self.rooms.get_mut(&channel)
            {
                room.check(now);
            }
            let name = self.intake.name(&event.room_id, &event.sender);
            match crate::inbound::read(event, &channel, &self.settings.names, name.as_deref()) {
                crate::inbound::Read::Report(report) => incoming.push(*report),
                crate::inbound::Read::Skip(reason, detail) => {
                    self.actions.push_back(Action::Skip { reason, detail })
                }
                crate::inbound::Read::Ignore => {}
            }
        }
        if incoming.is_empty() {
            // Nothing that the journal has to keep.
            self.intake.handle_committed(ticket);
            self.actions.push_back(Action::Answer {
                ticket,
                taken: true,
            });
        } else {
            let write = number.map(|number| (TRANSACTION_KEY.to_owned(), number));
            self.actions.push_back(Action::Commit {
                ticket,
                incoming,
                write,
            });
        }
    }

    fn member_event(&mut self, now: Instant, event: &RoomEvent) {
        let Some(user) = event
            .state_key
            .as_deref()
            .and_then(|key| OwnedUserId::try_from(key).ok())
        else {
            return;
        };
        let state = MemberState {
            membership: event.text("membership").map(str::to_owned),
            displayname: event.text("displayname").map(str::to_owned),
        };
        let is_in = state.membership.as_deref() == Some("join");
        if user == *self.settings.names.bot() {
            self.bot_member_event(now, &event.room_id, state.membership.as_deref());
        } else if self.settings.names.is_ours(&user) {
            self.ghosts.note_member(&user, &event.room_id, is_in);
        } else if is_in && self.by_room.contains_key(&event.room_id) {
            self.intake
                .handle_member(event.room_id.clone(), user, Some(state));
        }
    }

    /// An invitation to a configured room is taken; all others stay unanswered. That the bot is
    /// out of a room is asked about before it is believed: events may be old.
    fn bot_member_event(&mut self, now: Instant, room_id: &OwnedRoomId, membership: Option<&str>) {
        let room = self
            .by_room
            .get(room_id)
            .and_then(|channel| self.rooms.get_mut(channel));
        match (membership, room) {
            (Some("invite"), Some(room)) => room.hurry(now),
            (Some("invite"), None) => {
                // Perhaps an alias of ours names it since a moment ago.
                for room in self.rooms.values_mut().filter(|room| room.id().is_none()) {
                    room.resolve_soon(now, RESOLVE_PAUSE);
                }
            }
            (Some("leave" | "ban"), Some(room)) => room.check(now),
            _ => {}
        }
    }

    /// A page of a room that is read back, or why there is none.
    pub(super) fn read_back(
        &mut self,
        now: Instant,
        room: OwnedRoomId,
        result: Result<Answer, Fault>,
    ) {
        let (events, next) = match result {
            Ok(Answer::Page { events, next }) => (events, next),
            Ok(_) => return,
            Err(fault) => {
                let pause = match &fault {
                    Fault::Limited(pause) => Some(*pause),
                    _ => None,
                };
                warn!(%fault, %room, "room not read back");
                return self.catch_up.failed(now, &room, pause);
            }
        };
        match self
            .catch_up
            .page(&room, events, next, &self.settings.names)
        {
            Page::More(from) => self.ask_history(room, Some(from)),
            Page::End { missed, gap } => {
                if let (Some((from, until)), Some(channel)) = (gap, self.by_room.get(&room)) {
                    self.actions.push_back(Action::Gap(Gap {
                        channel: channel.clone(),
                        from,
                        until,
                    }));
                }
                // As if a transaction had brought it. Nobody waits for its answer, so its tickets, from the far end of
                // the numbers, belong to no transaction.
                if !missed.is_empty() {
                    let ticket = Ticket(self.next_ticket);
                    self.next_ticket -= 1;
                    self.intake.push(now, ticket, missed);
                }
            }
        }
    }

    pub(super) fn ask_history(&mut self, room: OwnedRoomId, from: Option<String>) {
        let call = Call::History {
            room: room.clone(),
            from,
            senders: Vec::new(),
        };
        self.ask(Asker::CatchUp(room), call);
    }
}
