//! The application service as a state machine: it opens no socket and reads no clock.
//!
//! Input comes by `handle_*`, output is taken by `poll_action`, and `poll_timeout` says when to
//! call `handle_timeout`. The parts, one file each:
//!
//! - `health`: is the homeserver there, and does it know us?
//! - `reach`: does it reach us?
//! - `room`: one configured channel, from its name to "joined".
//! - `lane`: the deliveries of one channel, one after another.
//! - `ghosts`: what the homeserver already knows of our ghosts.
//! - `intake`: transactions, one at a time, up to their commit.
//! - `events`: what the events of a transaction mean for rooms, ghosts and the journal.
//! - `suspicion`: whether transactions can be taken as they come.
//! - `timeline`: what the rooms themselves say, where they cannot.
//! - `places`: how far we have each room.
//! - `reading`: one room on its way from what we have of it to its newest event.

mod events;
mod ghosts;
mod health;
mod intake;
mod lane;
mod places;
mod reach;
mod reading;
mod recent;
mod room;
mod suspicion;
#[cfg(test)]
mod tests;
mod timeline;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Instant;

use comity_bridge::event::Timestamp;
use comity_bridge::{
    Channel, ChannelState, Delivery, DeliveryKey, Event, Gap, Incoming, Outcome, Plan, Refs,
};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use tracing::info;

use crate::config::Users;
use crate::ident::{Names, RoomName};
use crate::wire::call::{Answer, Call};
use crate::wire::event::RoomEvent;
use crate::wire::fault::Fault;

use ghosts::Ghosts;
use health::{Health, Turn};
use intake::Intake;
use lane::{Lane, Step};
use reach::Reach;
use room::Room;
use timeline::Timeline;

/// What a session needs to know of its network's configuration.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) names: Names,
    pub(crate) bot_name: String,
    pub(crate) registration: String,
    pub(crate) users: Users,
}

/// Names a call while it is under way.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct CallId(u64);

/// Names a transaction until it is answered.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Ticket(pub(crate) u64);

/// What the driver shall do.
#[derive(Debug)]
pub(crate) enum Action {
    /// Ask the homeserver, then [`Session::handle_answer`].
    Call { id: CallId, call: Call },
    /// The homeserver is usable.
    Online,
    /// It is not.
    Offline(String),
    /// A channel can or cannot be written to.
    Channel(Channel, ChannelState),
    /// Keep this across restarts.
    Remember { key: String, value: String },
    /// Make a splitting durable, then [`Session::handle_planned`].
    Plan {
        key: DeliveryKey,
        parts: Vec<String>,
    },
    /// A part has landed.
    Part {
        key: DeliveryKey,
        index: usize,
        id: OwnedEventId,
    },
    /// A delivery is over.
    Finish { key: DeliveryKey, outcome: Outcome },
    /// Commit, then [`Session::handle_committed`].
    Commit {
        ticket: Ticket,
        incoming: Vec<Incoming>,
        /// Facts to be kept with it.
        writes: Vec<(String, String)>,
    },
    /// Report that something was said that nobody here will see.
    Gap(Gap),
    /// Answer a transaction: 200 when it is taken, 503 when it is to come again.
    Answer { ticket: Ticket, taken: bool },
    /// Count what could not be taken.
    Skip {
        reason: &'static str,
        detail: String,
    },
}

/// Whom an answer is for.
#[derive(Debug)]
enum Asker {
    Health,
    Ping,
    Room(Channel),
    Lane(Channel),
    Member(OwnedRoomId, OwnedUserId),
    Timeline(OwnedRoomId),
    Nobody,
}

/// One delivery, as far as the session needs it.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) key: DeliveryKey,
    pub(crate) event: std::sync::Arc<Event>,
    pub(crate) refs: Refs,
    pub(crate) late: Option<Timestamp>,
    pub(crate) attempt: u32,
    pub(crate) doubt: bool,
    pub(crate) plan: Option<Plan>,
}

impl Job {
    /// What of a delivery is not its receipts.
    pub(crate) fn of(delivery: &Delivery) -> Self {
        Self {
            key: delivery.key.clone(),
            event: delivery.event.clone(),
            refs: delivery.refs.clone(),
            late: delivery.late,
            attempt: delivery.attempt,
            doubt: delivery.doubt,
            plan: delivery.plan.clone(),
        }
    }

    fn received(&self) -> Timestamp {
        self.event.received
    }
}

/// The key under which the room of an alias is kept.
const ROOM_KEY: &str = "room/";

/// One application service on one homeserver.
pub(crate) struct Session {
    settings: Settings,
    health: Health,
    reach: Reach,
    rooms: BTreeMap<Channel, Room>,
    lanes: BTreeMap<Channel, Lane>,
    by_room: HashMap<OwnedRoomId, Channel>,
    ghosts: Ghosts,
    intake: Intake,
    timeline: Timeline,
    /// Counts down: the tickets of transactions count up.
    next_ticket: u64,
    /// The homeserver was asked to come again and makes a pause, which a ping ends.
    wakes: bool,
    remembered: BTreeMap<String, String>,
    calls: HashMap<CallId, Asker>,
    next_call: u64,
    actions: VecDeque<Action>,
    stopping: bool,
}

impl Session {
    pub(crate) fn new(
        now: Instant,
        wall: Timestamp,
        settings: Settings,
        remembered: BTreeMap<String, String>,
    ) -> Self {
        let mut session = Self {
            health: Health::new(now, &settings),
            reach: Reach::new(&settings.registration),
            intake: Intake::new(now),
            timeline: Timeline::new(now, wall, &remembered),
            next_ticket: u64::MAX,
            wakes: false,
            settings,
            rooms: BTreeMap::new(),
            lanes: BTreeMap::new(),
            by_room: HashMap::new(),
            ghosts: Ghosts::new(),
            remembered,
            calls: HashMap::new(),
            next_call: 0,
            actions: VecDeque::new(),
            stopping: false,
        };
        session.proceed(now);
        session
    }

    /// What to do next; none when there is nothing to do until something is handled.
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Session::handle_timeout`] wants to be called, at the latest.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let lanes = self.lanes.values().filter_map(Lane::due);
        let may_ask = self.health.is_up() && !self.stopping;
        let rooms = self.rooms.values().filter(|_| may_ask);
        let rooms = rooms.filter_map(Room::due);
        let ping = self.reach.due().filter(|_| self.health.is_up());
        self.health
            .due()
            .into_iter()
            .chain(ping)
            .chain(rooms)
            .chain(lanes)
            .chain(self.intake.due())
            .chain(self.timeline.call_due().filter(|_| may_ask))
            .chain(
                self.timeline
                    .look_due()
                    .filter(|_| may_ask && self.is_calm()),
            )
            .min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.proceed(now);
    }

    /// Whether nothing is under way any more; asked when stopping.
    pub(crate) fn is_idle(&self) -> bool {
        self.lanes.values().all(Lane::is_empty) && !self.intake.is_committing()
    }

    // Requests of the gateway.

    pub(crate) fn handle_join(&mut self, now: Instant, channel: Channel) {
        let Some(name) = RoomName::parse(channel.native()) else {
            let why = "a matrix channel is #alias:server or !room-id".to_owned();
            self.actions
                .push_back(Action::Channel(channel, ChannelState::NotJoined { why }));
            return;
        };
        if self.rooms.contains_key(&channel) {
            return;
        }
        let known = match &name {
            RoomName::Id(id) => Some(id.clone()),
            RoomName::Alias(alias) => self
                .remembered
                .get(&format!("{ROOM_KEY}{alias}"))
                .and_then(|id| OwnedRoomId::try_from(id.as_str()).ok()),
        };
        let mut room = Room::new(now, name, known.clone());
        if let Some(id) = known
            && !self.claim(&id, &channel)
        {
            room.clash(now);
        }
        self.rooms.insert(channel.clone(), room);
        self.lanes.entry(channel).or_default();
        self.proceed(now);
    }

    pub(crate) fn handle_leave(&mut self, now: Instant, channel: &Channel) {
        if let Some(room) = self.rooms.remove(channel)
            && let Some(id) = room.id()
            && self.by_room.get(id) == Some(channel)
        {
            self.by_room.remove(id);
            let (key, value) = (self.timeline.leave(id), String::new());
            self.actions.push_back(Action::Remember { key, value });
            let (user, room) = (self.settings.names.bot().clone(), id.clone());
            self.ask(Asker::Nobody, Call::Leave { user, room });
        }
        if let Some(mut lane) = self.lanes.remove(channel) {
            lane.abandon(&mut self.actions);
        }
        self.proceed(now);
    }

    pub(crate) fn handle_delivery(&mut self, now: Instant, job: Job) {
        match self.lanes.get_mut(&job.key.channel) {
            Some(lane) => lane.push(now, job, &mut self.actions),
            None => self.actions.push_back(lane::decline(&job)),
        }
        self.proceed(now);
    }

    pub(crate) fn handle_cancel(&mut self, now: Instant, key: &DeliveryKey) {
        if let Some(lane) = self.lanes.get_mut(&key.channel) {
            lane.cancel(now, key, &mut self.actions);
        }
        self.proceed(now);
    }

    /// No new work: what is under way may end, the rest is given back.
    pub(crate) fn handle_shutdown(&mut self, now: Instant) {
        self.stopping = true;
        self.proceed(now);
    }

    /// The time is over: what is still under way may or may not have arrived.
    pub(crate) fn handle_end(&mut self) {
        for lane in self.lanes.values_mut() {
            lane.abandon(&mut self.actions);
        }
    }

    // What the homeserver sends.

    /// Takes the events of a transaction. It is answered by [`Action::Answer`].
    pub(crate) fn handle_transaction(
        &mut self,
        now: Instant,
        ticket: Ticket,
        events: Vec<RoomEvent>,
    ) {
        self.reach.note_transaction(now);
        self.timeline
            .note_transaction(now, &events, &self.settings.names);
        self.intake.push(now, ticket, events);
        self.proceed(now);
    }

    /// A transaction was answered that it shall come again.
    pub(crate) fn handle_turned_away(&mut self, now: Instant) {
        self.timeline.suspect(now);
        self.reach.ask_soon(now);
        self.proceed(now);
    }

    /// Nobody has waited for the answer to a transaction: the homeserver has ended, or the way to it is lost.
    pub(crate) fn handle_hung_up(&mut self, now: Instant) {
        self.timeline.suspect(now);
        self.proceed(now);
    }

    /// The journal has what [`Action::Commit`] asked for.
    pub(crate) fn handle_committed(&mut self, now: Instant, ticket: Ticket) {
        self.settle(now, ticket);
        if std::mem::take(&mut self.wakes) {
            info!("the journal takes events again; the homeserver is asked to go on");
            self.reach.ask_soon(now);
            self.timeline.suspect(now);
        }
        self.proceed(now);
    }

    // What became of our own actions.

    pub(crate) fn handle_planned(&mut self, now: Instant, key: &DeliveryKey, durable: bool) {
        if let Some(lane) = self.lanes.get_mut(&key.channel) {
            lane.handle_planned(now, key, durable, &mut self.actions);
        }
        self.proceed(now);
    }

    pub(crate) fn handle_answer(
        &mut self,
        now: Instant,
        id: CallId,
        result: Result<Answer, Fault>,
    ) {
        let Some(asker) = self.calls.remove(&id) else {
            return;
        };
        // First whether the homeserver is there at all, so that nothing is handed over to it
        // in answer to a failure.
        if !matches!(asker, Asker::Health)
            && let Err(fault) = &result
        {
            let turn = self.health.handle_fault(now, fault);
            self.turn(now, turn);
            if matches!(fault, Fault::Broken(_)) && !matches!(asker, Asker::Timeline(_)) {
                self.timeline.suspect(now);
            }
        }
        match asker {
            Asker::Health => {
                let turn = self.health.handle_answer(now, result);
                self.turn(now, turn);
            }
            Asker::Ping => {
                let before = self.reach.is_reached();
                self.reach.handle_answer(now, result);
                if !before && self.reach.is_reached() {
                    // Perhaps this has ended a pause.
                    self.timeline.suspect(now);
                }
            }
            Asker::Room(channel) => self.room_answer(now, &channel, result),
            Asker::Lane(channel) => self.lane_answer(now, &channel, result),
            Asker::Member(room, user) => {
                let state = match result {
                    Ok(Answer::Member(state)) => Some(state),
                    _ => None,
                };
                self.intake.handle_member(room, user, state);
            }
            Asker::Timeline(room) => self.timeline_answer(now, &room, result),
            Asker::Nobody => {}
        }
        self.proceed(now);
    }

    fn turn(&mut self, now: Instant, turn: Option<Turn>) {
        match turn {
            Some(Turn::Up) => {
                self.reach.rise(now);
                self.timeline.suspect(now);
                self.actions.push_back(Action::Online);
                for (channel, room) in &mut self.rooms {
                    if room.is_joined() {
                        self.actions
                            .push_back(Action::Channel(channel.clone(), ChannelState::Joined));
                    } else {
                        room.hurry(now);
                    }
                }
            }
            Some(Turn::Down(why)) => {
                // What comes before we are up again may be only a part of what there is.
                self.timeline.suspect(now);
                self.actions.push_back(Action::Offline(why));
            }
            None => {}
        }
    }

    fn room_answer(&mut self, now: Instant, channel: &Channel, result: Result<Answer, Fault>) {
        let Some(room) = self.rooms.get_mut(channel) else {
            return;
        };
        let before = room.id().cloned();
        let state = room.handle_answer(now, result, &self.settings.names);
        let after = room.id().cloned();
        if before != after {
            if let Some(id) = before
                && self.by_room.get(&id) == Some(channel)
            {
                self.by_room.remove(&id);
                self.timeline.lose(&id);
            }
            if let Some(id) = after
                && !self.claim(&id, channel)
                && let Some(room) = self.rooms.get_mut(channel)
            {
                let state = room.clash(now);
                self.actions
                    .push_back(Action::Channel(channel.clone(), state));
                return;
            }
        }
        let Some(state) = state else { return };
        if state == ChannelState::Joined {
            self.remember_room(channel);
            if let Some(room) = self.rooms.get(channel).and_then(Room::id) {
                self.timeline.enter(now, room);
            }
        }
        self.actions
            .push_back(Action::Channel(channel.clone(), state));
    }

    /// Notes that a room belongs to a channel, unless another channel has it.
    fn claim(&mut self, room: &OwnedRoomId, channel: &Channel) -> bool {
        self.by_room
            .entry(room.clone())
            .or_insert_with(|| channel.clone())
            == channel
    }

    fn remember_room(&mut self, channel: &Channel) {
        let Some((RoomName::Alias(alias), Some(id))) =
            self.rooms.get(channel).map(|room| (room.name(), room.id()))
        else {
            return;
        };
        let (key, value) = (format!("{ROOM_KEY}{alias}"), id.to_string());
        if self.remembered.get(&key) != Some(&value) {
            self.remembered.insert(key.clone(), value.clone());
            self.actions.push_back(Action::Remember { key, value });
        }
    }

    fn lane_answer(&mut self, now: Instant, channel: &Channel, result: Result<Answer, Fault>) {
        let Some(lane) = self.lanes.get_mut(channel) else {
            return;
        };
        let recheck = lane.handle_answer(
            now,
            result,
            &self.settings.names,
            &mut self.ghosts,
            &mut self.actions,
        );
        if recheck && let Some(room) = self.rooms.get_mut(channel) {
            room.check(now);
        }
    }

    /// Lets every part say what it wants next.
    fn proceed(&mut self, now: Instant) {
        // Events first: they may hold an invitation, or that somebody is out of a room.
        self.proceed_intake(now);
        if let Some(call) = self.health.poll(now) {
            self.ask(Asker::Health, call);
        }
        if self.health.is_up()
            && let Some(call) = self.reach.poll(now, self.intake.is_idle())
        {
            self.ask(Asker::Ping, call);
        }
        if self.health.is_up() && !self.stopping {
            let wanted: Vec<(Channel, Call)> = self
                .rooms
                .iter_mut()
                .filter_map(|(channel, room)| {
                    Some((channel.clone(), room.poll(now, &self.settings.names)?))
                })
                .collect();
            for (channel, call) in wanted {
                self.ask(Asker::Room(channel), call);
            }
        }
        self.proceed_timeline(now);
        self.proceed_lanes(now);
    }

    fn proceed_lanes(&mut self, now: Instant) {
        let mut wanted = Vec::new();
        let may_speak = self.health.is_up() && !self.stopping;
        for (channel, lane) in &mut self.lanes {
            let room = self
                .rooms
                .get(channel)
                .filter(|room| may_speak && room.is_joined())
                .and_then(Room::id);
            match lane.poll(
                now,
                room,
                &self.settings,
                &mut self.ghosts,
                &mut self.actions,
            ) {
                Some(Step::Call(call)) => wanted.push((channel.clone(), call)),
                Some(Step::Plan { key, parts }) => {
                    self.actions.push_back(Action::Plan { key, parts })
                }
                None => {}
            }
        }
        for (channel, call) in wanted {
            self.ask(Asker::Lane(channel), call);
        }
    }

    fn ask(&mut self, asker: Asker, call: Call) {
        let id = CallId(self.next_call);
        self.next_call += 1;
        self.calls.insert(id, asker);
        self.actions.push_back(Action::Call { id, call });
    }
}
