//! The bridge's side of the protocol as a state machine: it opens no socket and reads no clock.
//!
//! Stanzas, jobs and the time go in by `handle_*`, `join`, `leave` and `submit`; what is to be
//! sent and told comes out of [`Session::poll`]. One session outlives many connections: it knows
//! which rooms are wanted and enters them anew on each.
//!
//! In every room there is one *observer*: the bot, whose copy of each message is the one that is
//! read. Ghosts are occupants too, and a room sends each of them everything; those copies are
//! dropped, save that they can serve as a receipt.

mod archive;
mod catch_up;
mod doubt;
mod fault;
mod features;
mod ghosts;
mod hearing;
mod iq;
mod landed;
mod link;
mod mark;
mod occupant;
mod past;
mod queue;
mod room;
mod sending;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use comity_bridge::{NativeId, Outcome};

use self::fault::Fault;
use self::iq::{Asked, Pending};
use self::room::Room;
use crate::ident::{Bare, Jid, PartIds};
use crate::inbound::Said;
use crate::wire::{Element, Skipped, child, element, ns};

pub(crate) use features::Features;
pub(crate) use link::{Handshake, LinkError, Step};
pub(crate) use mark::Mark;
pub(crate) use queue::{Job, Late, Speaker};

/// How often [`Session::handle_time`] wants to be called.
pub(crate) const TICK: Duration = Duration::from_millis(250);
/// How long somebody may take to answer a question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// Questions under way at once; more than rooms and searches ever need.
const MAX_PENDING: usize = 10_000;

/// What the session is configured with.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The component's domain.
    pub(crate) component: String,
    /// The observer's nick.
    pub(crate) nick: String,
    /// Whether speakers get occupants of their own.
    pub(crate) ghosts: bool,
    /// Ghosts in one room; beyond it the bot names the speaker.
    pub(crate) ghosts_max: usize,
    /// Different for each start of the gateway: ids that the session makes begin with it.
    pub(crate) epoch: String,
    /// Ids of what we say.
    pub(crate) ids: PartIds,
}

/// What a room is to the gateway.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum RoomState {
    Joined,
    NotJoined(String),
}

/// What the session wants done or known.
#[derive(Debug, PartialEq)]
pub(crate) enum Output {
    Send(Element),
    Room(Bare, RoomState),
    /// Somebody said something; the mark is to be kept with it.
    Said {
        room: Bare,
        said: Box<Said>,
        mark: Option<Mark>,
    },
    /// Nothing is known of what was said in this time, and nobody can be asked.
    Gap {
        room: Bare,
        from_ms: i64,
        until_ms: i64,
    },
    /// How far the room has been heard, to be kept behind all that was said before.
    Mark {
        room: Bare,
        mark: Mark,
    },
    /// A message of ours came back after its delivery was over: the event, the part, the room's id.
    Own {
        room: Bare,
        event: String,
        id: String,
    },
    /// A part has landed, and this is what the room calls it.
    Landed {
        job: u64,
        part: u32,
        ids: Vec<NativeId>,
    },
    /// A job is over.
    Over(u64, Outcome),
    Skip {
        reason: &'static str,
        detail: String,
    },
}

/// The session.
pub(crate) struct Session {
    rooms: BTreeMap<Bare, Room>,
    online: bool,
    cx: Context,
}

/// What every part of the session may use.
struct Context {
    settings: Settings,
    out: VecDeque<Output>,
    pending: HashMap<String, Pending>,
    counter: u64,
    /// What the clock on the wall says.
    wall_ms: i64,
    /// What it said when the server was last heard.
    alive_ms: i64,
    /// How much more the gateway has a place for.
    free: usize,
    /// Archives that are being read.
    reading: usize,
}

impl Context {
    fn send(&mut self, stanza: Element) {
        self.out.push_back(Output::Send(stanza));
    }

    fn skip(&mut self, reason: &'static str, detail: impl Into<String>) {
        self.out.push_back(Output::Skip {
            reason,
            detail: detail.into(),
        });
    }

    fn next_id(&mut self) -> String {
        self.counter += 1;
        format!("{}-{}", self.settings.epoch, self.counter)
    }

    /// Asks `to` a question and remembers what it was about. False when too many are open.
    fn ask(
        &mut self,
        now: Instant,
        from: &str,
        to: &str,
        kind: &'static str,
        payload: Element,
        asked: Asked,
    ) -> bool {
        let Some(target) = Jid::parse(to) else {
            return false;
        };
        if self.pending.len() >= MAX_PENDING {
            return false;
        }
        let id = self.next_id();
        let iq = element("iq", ns::CLIENT)
            .attr("type", kind)
            .attr("from", from)
            .attr("to", to)
            .attr("id", id.clone());
        self.send(iq.child(payload).build());
        self.pending.insert(
            id,
            Pending {
                asked,
                to: target,
                until: now + ANSWER_TIMEOUT,
            },
        );
        true
    }

    /// The question is not open any more.
    fn close(&mut self, id: &str) -> Option<Pending> {
        let pending = self.pending.remove(id)?;
        if matches!(pending.asked, Asked::CatchUp(..)) {
            self.reading -= 1;
        }
        Some(pending)
    }

    fn over(&mut self, outcomes: Vec<(u64, Outcome)>) {
        self.out.extend(
            outcomes
                .into_iter()
                .map(|(job, outcome)| Output::Over(job, outcome)),
        );
    }
}

impl Session {
    pub(crate) fn new(settings: Settings) -> Self {
        let (out, pending) = (VecDeque::new(), HashMap::new());
        let cx = Context {
            settings,
            out,
            pending,
            counter: 0,
            wall_ms: 0,
            alive_ms: 0,
            free: 0,
            reading: 0,
        };
        Self {
            rooms: BTreeMap::new(),
            online: false,
            cx,
        }
    }

    /// The next thing to do, if there is one.
    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.cx.out.pop_front()
    }

    /// What the clock says, what it said when the server was last heard, and how many messages the gateway has a place for.
    /// To be called before anything is handled.
    pub(crate) fn handle_clock(&mut self, wall_ms: i64, alive_ms: i64, free: usize) {
        (self.cx.wall_ms, self.cx.alive_ms, self.cx.free) = (wall_ms, alive_ms, free);
    }

    /// Be in this room from now on; it was heard up to this mark before, if it was.
    pub(crate) fn join(&mut self, room: &Bare, mark: Option<Mark>, now: Instant) {
        let entry = self
            .rooms
            .entry(room.clone())
            .or_insert_with(|| Room::new(room.clone(), &self.cx.settings, mark, now));
        if self.online {
            entry.enter(&mut self.cx, now);
        }
    }

    /// Leave this room.
    pub(crate) fn leave(&mut self, room: &Bare) {
        if let Some(mut room) = self.rooms.remove(room) {
            room.exit(&mut self.cx, self.online, "left the room");
            self.cx.out.push_back(Output::Room(
                room.jid.clone(),
                RoomState::NotJoined("left the room".to_owned()),
            ));
        }
    }

    /// Say this in this room. Its outcome comes as [`Output::Over`], whatever happens.
    pub(crate) fn submit(&mut self, room: &Bare, job: Job, now: Instant) {
        match self.rooms.get_mut(room) {
            Some(room) if self.online && room.is_joined() => room.submit(&mut self.cx, job, now),
            _ => {
                let why =
                    comity_bridge::DeliveryError::NotJoined("the room is not joined".to_owned());
                let outcome = if job.doubt {
                    Outcome::Ambiguous { why }
                } else {
                    Outcome::NotAttempted
                };
                self.cx.over(vec![(job.id, outcome)]);
            }
        }
    }

    /// The job's plan is durable now.
    pub(crate) fn plan_stored(&mut self, job: u64, now: Instant) {
        for room in self.rooms.values_mut() {
            room.plan_stored(&mut self.cx, job, now);
        }
    }

    /// The job's plan could not be stored: nothing of it may be sent now.
    pub(crate) fn plan_refused(&mut self, job: u64, now: Instant) {
        for room in self.rooms.values_mut() {
            room.plan_refused(&mut self.cx, job, now);
        }
    }

    /// Takes a job back if it has not begun.
    pub(crate) fn cancel(&mut self, job: u64, now: Instant) {
        for room in self.rooms.values_mut() {
            room.cancel(&mut self.cx, job, now);
        }
    }

    /// The component is known to the server: every room can be entered.
    pub(crate) fn handle_connected(&mut self, now: Instant) {
        self.online = true;
        for room in self.rooms.values_mut() {
            room.enter(&mut self.cx, now);
        }
    }

    /// The connection is gone, and every occupant with it.
    pub(crate) fn handle_disconnected(&mut self, why: &str) {
        self.online = false;
        self.cx.pending.clear();
        self.cx.reading = 0;
        self.cx
            .out
            .retain(|output| !matches!(output, Output::Send(_)));
        for room in self.rooms.values_mut() {
            room.handle_disconnected(&mut self.cx, why);
        }
    }

    /// Says goodbye in every room; the connection is going to be closed.
    pub(crate) fn shut_down(&mut self, now: Instant) {
        for room in self.rooms.values_mut() {
            room.keep_mark(&mut self.cx, now);
            room.exit(&mut self.cx, self.online, "the gateway is stopping");
        }
        self.online = false;
    }

    pub(crate) fn handle_time(&mut self, now: Instant) {
        if !self.online {
            return;
        }
        let due: Vec<String> = self
            .cx
            .pending
            .iter()
            .filter(|(_, p)| p.until <= now)
            .map(|(id, _)| id.clone())
            .collect();
        for id in due {
            if let Some(Pending { asked, .. }) = self.cx.close(&id)
                && let Some(room) = self.rooms.get_mut(asked.room())
            {
                room.handle_silence(&mut self.cx, &asked, now);
            }
        }
        for room in self.rooms.values_mut() {
            room.handle_time(&mut self.cx, now);
        }
    }

    /// The gateway has taken something: there is room for more.
    pub(crate) fn handle_room_made(&mut self, now: Instant) {
        for room in self.rooms.values_mut().filter(|room| room.is_joined()) {
            room.resume_catch_up(&mut self.cx, now);
        }
    }

    /// A stanza that the reader did not keep.
    pub(crate) fn handle_skipped(&mut self, skipped: &Skipped) {
        let from = skipped.from.as_deref().and_then(Jid::parse);
        let room = from.and_then(|from| self.rooms.get(&from.bare));
        if room.is_some_and(|room| skipped.to.as_deref() != Some(&room.observer.jid)) {
            // A ghost's copy; the observer's is the one that counts.
            return;
        }
        let reason = if skipped.why == "stanza too large" {
            "oversized"
        } else {
            "malformed"
        };
        let from = skipped.from.as_deref().unwrap_or("nobody");
        self.cx.skip(
            reason,
            format!("{} from {from}: {}", skipped.name, skipped.why),
        );
    }

    pub(crate) fn handle_stanza(&mut self, stanza: &Element, now: Instant) {
        if !stanza.has_ns(ns::CLIENT) {
            return self
                .cx
                .skip("malformed", format!("unknown element {}", stanza.name()));
        }
        match stanza.name() {
            "message" => self.handle_message(stanza, now),
            "presence" => self.handle_presence(stanza, now),
            "iq" => self.handle_iq(stanza, now),
            name => self.cx.skip("malformed", format!("unknown element {name}")),
        }
    }

    fn handle_message(&mut self, message: &Element, now: Instant) {
        let Some(from) = message.attr("from").and_then(Jid::parse) else {
            return self.cx.skip("malformed", "message without a sender");
        };
        let room = self.rooms.get_mut(&from.bare);
        match (message.attr("type"), room) {
            (Some("groupchat"), Some(room)) => {
                room.handle_groupchat(&mut self.cx, &from, message, now)
            }
            // What the room itself sends back has no nick: an occupant can send a private message that looks like an error.
            (Some("error"), Some(room)) if from.resource.is_none() => {
                room.handle_message_error(&mut self.cx, message, now)
            }
            // An error is never answered, and nothing else is known of it.
            (Some("error"), _) => {}
            (_, Some(room)) if child(message, "result", ns::MAM).is_some() => {
                room.handle_archived(&mut self.cx, &from, message)
            }
            // A room takes an error for a sign that the occupant is gone and puts it out (Prosody 0.12), so a private
            // message of an occupant is not answered.
            (_, Some(_)) => self.skip_direct(message, &from),
            (Some("groupchat"), None) => self.cx.skip(
                "unauthorised",
                format!("groupchat message from {}, where we are not", from.bare),
            ),
            (_, None) => {
                self.skip_direct(message, &from);
                self.refuse_direct(message);
            }
        }
    }

    fn skip_direct(&mut self, message: &Element, from: &Jid) {
        if child(message, "body", ns::CLIENT).is_some() {
            self.cx.skip(
                "private",
                format!("direct message from {}: not built yet", from.bare),
            );
        }
    }

    /// Tells somebody who writes to a ghost or to the bot that nobody reads it.
    fn refuse_direct(&mut self, message: &Element) {
        let answerable = !matches!(
            message.attr("type"),
            Some("headline" | "error" | "groupchat")
        );
        let (Some(from), Some(to)) = (message.attr("from"), message.attr("to")) else {
            return;
        };
        if !answerable || child(message, "body", ns::CLIENT).is_none() {
            return;
        }
        let text =
            element("text", ns::STANZA_ERROR).text("direct messages do not cross this gateway yet");
        let error = element("error", ns::CLIENT)
            .attr("type", "cancel")
            .child(element("service-unavailable", ns::STANZA_ERROR))
            .child(text);
        let reply = element("message", ns::CLIENT)
            .attr("type", "error")
            .attr("from", to)
            .attr("to", from);
        let reply = match message.attr("id") {
            Some(id) => reply.attr("id", id),
            None => reply,
        };
        self.cx.send(reply.child(error).build());
    }

    fn handle_presence(&mut self, presence: &Element, now: Instant) {
        let from = presence.attr("from").and_then(Jid::parse);
        let to = presence.attr("to");
        let (Some(from), Some(to)) = (from, to) else {
            return self
                .cx
                .skip("malformed", "presence without sender or recipient");
        };
        // Presence from anywhere else is somebody's subscription or probe: ghosts have none to give.
        if let Some(room) = self.rooms.get_mut(&from.bare) {
            room.handle_presence(&mut self.cx, &from, to, presence, now);
        }
    }

    fn handle_iq(&mut self, iq: &Element, now: Instant) {
        match iq.attr("type") {
            Some("get" | "set") => match iq::answer(iq) {
                Some(answer) => self.cx.send(answer),
                None => self
                    .cx
                    .skip("malformed", "iq without id, sender or recipient"),
            },
            Some("result" | "error") => self.handle_answer(iq, now),
            _ => self.cx.skip("malformed", "iq of no known type"),
        }
    }

    fn handle_answer(&mut self, iq: &Element, now: Instant) {
        let (Some(id), Some(from)) = (iq.attr("id"), iq.attr("from").and_then(Jid::parse)) else {
            return;
        };
        if self
            .cx
            .pending
            .get(id)
            .is_none_or(|pending| pending.to != from)
        {
            return;
        }
        let Some(Pending { asked, .. }) = self.cx.close(id) else {
            return;
        };
        let answer = if iq.attr("type") == Some("result") {
            Ok(iq)
        } else {
            Err(Fault::read(iq))
        };
        if let Some(room) = self.rooms.get_mut(asked.room()) {
            room.handle_answer(&mut self.cx, &asked, answer, now);
        }
    }
}

#[cfg(test)]
mod tests;
