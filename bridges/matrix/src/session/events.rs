//! What the events of a transaction mean: for the journal, for our rooms, for our ghosts.

use std::time::{Duration, Instant};

use comity_bridge::Gap;
use ruma::{OwnedRoomId, OwnedUserId};

use super::intake::{self, Committed};
use super::room::Room;
use super::{Action, Asker, Session, Ticket};
use crate::wire::call::{Answer, Call, MemberState};
use crate::wire::event::RoomEvent;
use crate::wire::fault::Fault;

/// However many invitations come, aliases are not looked up more often than this.
const RESOLVE_PAUSE: Duration = Duration::from_secs(5);

impl Session {
    pub(super) fn proceed_intake(&mut self, now: Instant) {
        loop {
            let known = intake::Known {
                settled: self.rooms.values().all(Room::is_settled),
                rooms: &self.by_room,
                ours: &self.settings.names,
                timeline: &mut self.timeline,
            };
            let Some(next) = self.intake.poll(now, known) else {
                return;
            };
            match next {
                intake::Next::Later(ticket) => {
                    // One room that cannot be found must not hold up the others again.
                    self.rooms.values_mut().for_each(Room::settle);
                    self.reach.ask_soon(now);
                    self.timeline.suspect(now);
                    self.actions.push_back(Action::Answer {
                        ticket,
                        taken: false,
                    });
                }
                intake::Next::Busy(ticket) => {
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
        let writes = self.timeline.commits(now, ticket, events, &self.by_room);
        let mut incoming = Vec::new();
        for event in events {
            if event.remarks.soft_failed {
                let detail = format!("{} is shown to nobody by the homeserver", event.event_id);
                let reason = "forbidden";
                self.actions.push_back(Action::Skip { reason, detail });
                continue;
            }
            if event.kind == "m.room.member" {
                self.member_event(now, event);
            }
            let Some(channel) = self.by_room.get(&event.room_id).cloned() else {
                self.timeline.drop_event(event);
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
            self.settle(now, ticket);
        } else {
            self.actions.push_back(Action::Commit {
                ticket,
                incoming,
                writes,
            });
        }
    }

    /// A transaction, or what was read from a room, is in the journal.
    pub(super) fn settle(&mut self, now: Instant, ticket: Ticket) {
        self.timeline.committed(now, ticket);
        if self.intake.handle_committed(now, ticket) == Committed::InTime {
            self.actions.push_back(Action::Answer {
                ticket,
                taken: true,
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

    /// A page of a room's timeline, or why there is none.
    pub(super) fn timeline_answer(
        &mut self,
        now: Instant,
        room: &OwnedRoomId,
        result: Result<Answer, Fault>,
    ) {
        // From the far end of the numbers: nobody waits for the answer.
        let ticket = Ticket(self.next_ticket);
        self.next_ticket -= 1;
        let names = &self.settings.names;
        let brought = self
            .timeline
            .handle_answer(now, room, result, ticket, names);
        if let (Some((from, until)), Some(channel)) = (brought.gap, self.by_room.get(room)) {
            self.actions.push_back(Action::Gap(Gap {
                channel: channel.clone(),
                from,
                until,
            }));
        }
        if let Some((key, value)) = brought.keep {
            self.actions.push_back(Action::Remember { key, value });
        }
        if !brought.events.is_empty() {
            self.intake.push_read(now, ticket, brought.events);
        }
    }

    /// Looks at the rooms, as far as there is reason to.
    pub(super) fn proceed_timeline(&mut self, now: Instant) {
        if self.stopping {
            return;
        }
        if self.is_calm() {
            let joined = self.rooms.values().filter(|room| room.is_joined());
            self.timeline.look(now, joined.filter_map(Room::id));
        }
        if self.health.is_up() {
            while let Some((room, call)) = self.timeline.poll_call(now) {
                self.ask(Asker::Timeline(room), call);
            }
        }
        if self.timeline.poll_end() && self.rooms.values().all(Room::is_settled) {
            for key in self.timeline.forget_others(&self.by_room) {
                let value = String::new();
                self.actions.push_back(Action::Remember { key, value });
            }
        }
    }

    /// Whether the homeserver reaches us, and nothing that came is waiting.
    pub(super) fn is_calm(&self) -> bool {
        self.health.is_up() && self.reach.is_reached() && self.intake.is_idle()
    }
}
