//! Saying what is queued in a room, and learning what became of it.

use std::time::{Duration, Instant};

use comity_bridge::failpoint::reached;
use comity_bridge::{DeliveryError, NativeId, Outcome};

use super::fault::Fault;
use super::ghosts::Voice;
use super::queue::{End, Entry, Job, REFLECTION_TIMEOUT, Stage};
use super::room::Room;
use super::{Context, Output};
use crate::ident::Jid;
use crate::inbound;
use crate::outbound::{self, Mouth};
use crate::wire::{self, Element};

/// How often a message is said again, within one attempt, after the room did not know its speaker.
const MAX_RESENT: u32 = 2;
const SOON: Duration = Duration::from_secs(5);

impl Room {
    pub(super) fn submit(&mut self, cx: &mut Context, job: Job, now: Instant) {
        if let Some(scan) = self.scan.as_mut().filter(|_| job.doubt) {
            scan.covers(job.id, job.since_ms);
        }
        self.queue.push(job);
        self.pump(cx, now);
    }

    pub(super) fn plan_stored(&mut self, cx: &mut Context, job: u64, now: Instant) {
        if let Some(entry) = self.queue.get_mut(job) {
            entry.job.ready = true;
            self.pump(cx, now);
        }
    }

    pub(super) fn plan_refused(&mut self, cx: &mut Context, job: u64, now: Instant) {
        if let Some(entry) = self.queue.get_mut(job) {
            let why = DeliveryError::ConnectionLost("the plan could not be stored".to_owned());
            let doubt = entry.job.doubt;
            entry.stage = Stage::Over(match doubt {
                true => Outcome::Ambiguous { why },
                false => Outcome::NotAttempted,
            });
            self.settle(cx);
            self.pump(cx, now);
        }
    }

    pub(super) fn cancel(&mut self, cx: &mut Context, job: u64, now: Instant) {
        if let Some(entry) = self.queue.get_mut(job)
            && matches!(entry.stage, Stage::Waiting)
            && entry.resent == 0
            && !entry.job.doubt
        {
            entry.stage = Stage::Over(Outcome::NotAttempted);
            self.settle(cx);
            self.pump(cx, now);
        }
    }

    /// Says what can be said, in order, up to the first job that has to wait.
    pub(super) fn pump(&mut self, cx: &mut Context, now: Instant) {
        while self.is_joined()
            && let Some(index) = self.queue.next_waiting()
        {
            if !self.step(cx, index, now) {
                break;
            }
        }
        self.settle(cx);
    }

    /// Takes the job at `index` one step on. False when it, and all after it, must wait.
    fn step(&mut self, cx: &mut Context, index: usize, now: Instant) -> bool {
        if !self.queue.entries[index].job.ready {
            return false;
        }
        self.note_landed(cx, index);
        let entry = &mut self.queue.entries[index];
        if entry.job.parts.is_empty() {
            entry.stage = Stage::Over(Outcome::Shown);
            return true;
        }
        if entry.job.doubt {
            self.start_scan(cx, now);
            return false;
        }
        let voice = match cx.settings.ghosts {
            true => self.ghosts.voice(cx, &self.jid, &entry.job.speaker, now),
            false => Voice::Bot,
        };
        match voice {
            Voice::Wait => return false,
            Voice::Ready { jid, nick } => self.say(cx, index, jid, nick, true, now),
            Voice::Bot => {
                let (jid, nick) = (self.observer.jid.clone(), self.observer.nick().to_owned());
                self.say(cx, index, jid, nick, false, now);
            }
            Voice::Banned(why) => {
                entry.stage = Stage::Over(Outcome::GiveUp(DeliveryError::Forbidden(why)))
            }
        }
        true
    }

    fn say(
        &mut self,
        cx: &mut Context,
        index: usize,
        jid: String,
        nick: String,
        is_ghost: bool,
        now: Instant,
    ) {
        let mut stanzas = Vec::new();
        for (part, _) in &self.queue.entries[index].job.parts {
            let job = &self.queue.entries[index].job;
            let Some(body) = self.body(job, *part, is_ghost) else {
                continue;
            };
            let stamp = match &job.late {
                Some(late) if self.keeps_delay != Some(false) => Some(late.stamp.as_str()),
                _ => None,
            };
            let id = cx.settings.ids.make(&job.event, *part);
            let stanza = outbound::message(&jid, self.jid.as_str(), &id, &body);
            let stanza = outbound::stamped(stanza, &cx.settings.component, stamp).build();
            if wire::size(&stanza) > wire::MAX_STANZA_OUT {
                let why =
                    DeliveryError::TooLarge(format!("part {part} is larger than a stanza may be"));
                self.queue.entries[index].stage = Stage::Over(Outcome::GiveUp(why));
                return;
            }
            stanzas.push(stanza);
        }
        let entry = &mut self.queue.entries[index];
        for stanza in stanzas {
            self.spoken
                .insert(stanza.attr("id").unwrap_or_default(), nick.clone());
            cx.send(stanza);
        }
        let left = entry.job.parts.iter().map(|(part, _)| *part).collect();
        let until = now + REFLECTION_TIMEOUT;
        entry.stage = Stage::Sent {
            nick,
            jid,
            left,
            until,
        };
    }

    /// What one part says in the room. A late one says when it was written, unless the room is known to pass the stamp on.
    fn body(&self, job: &Job, part: u32, is_ghost: bool) -> Option<String> {
        let (_, text) = job.parts.iter().find(|(index, _)| *index == part)?;
        let mouth = if is_ghost {
            Mouth::Ghost
        } else {
            Mouth::Bot(&job.speaker.name)
        };
        let spoken = match &job.late {
            Some(late) if part == 0 && self.keeps_delay != Some(true) => Some(late.spoken.as_str()),
            _ => None,
        };
        Some(outbound::body(text, job.emote, mouth, spoken))
    }

    /// A message from `nick` with an id of ours: a receipt, if that part is under way. A copy to any occupant of ours will do;
    /// but only the speaker's own nick makes it ours, for anybody can reuse an id.
    pub(super) fn handle_reflection(
        &mut self,
        cx: &mut Context,
        nick: &str,
        own: &str,
        message: &Element,
        now: Instant,
    ) {
        let found = cx
            .settings
            .ids
            .read(own)
            .and_then(|part| self.queue.find_sent(part));
        if let Some((index, part)) = found
            && matches!(&self.queue.entries[index].stage, Stage::Sent { nick: speaker, .. } if speaker == nick)
        {
            self.came_back(cx, index, part, message, now);
        }
    }

    /// A message from the nick of an occupant of ours, without an id of ours: there are rooms that keep neither kind of id.
    /// Nobody else speaks as that nick, and a room keeps the order, so it is the first that has not come back, if it says the
    /// same.
    pub(super) fn handle_unmarked_reflection(
        &mut self,
        cx: &mut Context,
        nick: &str,
        message: &Element,
        now: Instant,
    ) {
        let first =
            self.queue.entries.iter().position(
                |entry| matches!(&entry.stage, Stage::Sent { nick: by, .. } if by == nick),
            );
        let Some(index) = first else { return };
        let Entry { job, stage, .. } = &self.queue.entries[index];
        let Stage::Sent { left, jid, .. } = stage else {
            return;
        };
        let Some(part) = left.first().copied() else {
            return;
        };
        let sent = self.body(job, part, *jid != self.observer.jid);
        if sent.is_some() && sent == inbound::body(message) {
            self.came_back(cx, index, part, message, now);
        }
    }

    /// The room has shown a part that is under way.
    fn came_back(
        &mut self,
        cx: &mut Context,
        index: usize,
        part: u32,
        message: &Element,
        now: Instant,
    ) {
        reached("xmpp.receipt");
        let id = inbound::stanza_id(message, &self.jid, self.features);
        let entry = &mut self.queue.entries[index];
        let own = cx.settings.ids.make(&entry.job.event, part);
        if let Some(late) = &entry.job.late
            && self.keeps_delay != Some(false)
        {
            self.keeps_delay = Some(inbound::has_stamp(message, &late.stamp));
        }
        let Stage::Sent { left, .. } = &mut entry.stage else {
            return;
        };
        left.retain(|sent| *sent != part);
        let is_last = left.is_empty();
        entry.job.parts.retain(|(sent, _)| *sent != part);
        entry.place.clone_from(&id);
        cx.out.push_back(Output::Landed {
            job: entry.job.id,
            part,
            ids: vec![NativeId(id.clone().unwrap_or_else(|| own.clone()))],
        });
        if is_last {
            entry.stage = Stage::Over(Outcome::Shown);
        }
        self.landed.insert(&own, id);
        self.settle(cx);
        self.pump(cx, now);
    }

    fn sent_by_us(&self, cx: &Context, message: &Element) -> Option<(usize, u32)> {
        self.queue
            .find_sent(cx.settings.ids.read(message.attr("id")?)?)
    }

    /// The room, or the server, has sent a message of ours back.
    pub(super) fn handle_message_error(
        &mut self,
        cx: &mut Context,
        message: &Element,
        now: Instant,
    ) {
        let Some((index, _)) = self.sent_by_us(cx, message) else {
            return;
        };
        let entry = &mut self.queue.entries[index];
        let Stage::Sent { jid, .. } = &entry.stage else {
            return;
        };
        if message.attr("to") != Some(jid) {
            return;
        }
        let jid = jid.clone();
        let fault = Fault::read(message);
        if fault.condition == "not-acceptable" {
            return self.handle_unknown_speaker(cx, index, &jid, &fault, now);
        }
        entry.stage = Stage::Over(rejected(&fault));
        self.settle(cx);
        self.pump(cx, now);
    }

    /// The room says that the speaker is not in it (XEP-0045 §7.4).
    fn handle_unknown_speaker(
        &mut self,
        cx: &mut Context,
        index: usize,
        jid: &str,
        fault: &Fault,
        now: Instant,
    ) {
        let entry = &mut self.queue.entries[index];
        entry.resent += 1;
        let why = DeliveryError::NotJoined(fault.why());
        entry.stage = match entry.resent {
            n if n > MAX_RESENT => Stage::Over(Outcome::Retry { after: SOON, why }),
            _ => Stage::Waiting,
        };
        if *jid == self.observer.jid {
            return self.was_out(cx, &fault.why(), now);
        }
        self.ghosts.forget_one(jid);
        // A room that was made anew, or could not reach our server, knows none of us.
        self.ask_present(cx, now);
        self.pump(cx, now);
    }

    pub(super) fn handle_ghost_presence(
        &mut self,
        cx: &mut Context,
        from: &Jid,
        to: &str,
        presence: &Element,
        now: Instant,
    ) {
        if self.ghosts.handle(cx, &self.jid, from, to, presence, now) {
            self.pump(cx, now);
        }
    }

    /// Ends what the room has not answered in time.
    pub(super) fn handle_overdue(&mut self, cx: &mut Context, now: Instant) {
        let unanswered = self.ghosts.handle_overdue(now);
        let mut silent = Vec::new();
        for entry in &mut self.queue.entries {
            if let Stage::Sent { until, jid, .. } = &entry.stage
                && *until <= now
            {
                silent.push(jid.clone());
                let why = DeliveryError::ConnectionLost(
                    "the room did not show the message in time".to_owned(),
                );
                entry.stage = Stage::Over(Outcome::Ambiguous { why });
            }
        }
        if !silent.is_empty() {
            silent.iter().for_each(|jid| self.ghosts.forget_one(jid));
            self.ask_present(cx, now);
        }
        if !silent.is_empty() || unanswered {
            self.settle(cx);
            self.pump(cx, now);
        }
    }

    fn settle(&mut self, cx: &mut Context) {
        let mut ends = Vec::new();
        self.queue.settle(&mut ends);
        self.end(cx, ends);
    }

    /// Tells what has become of these jobs.
    pub(super) fn end(&mut self, cx: &mut Context, ends: Vec<End>) {
        for End {
            job,
            outcome,
            place,
        } in ends
        {
            self.note_over(&outcome, place);
            cx.out.push_back(Output::Over(job, outcome));
        }
    }
}

/// What an error to a message of ours means (XEP-0045 §7.4, RFC 6120 §8.3.3).
fn rejected(fault: &Fault) -> Outcome {
    let why = fault.why();
    match fault.condition.as_str() {
        "forbidden" => Outcome::GiveUp(DeliveryError::Forbidden(why)),
        "item-not-found"
        | "gone"
        | "service-unavailable"
        | "recipient-unavailable"
        | "remote-server-not-found"
        | "remote-server-timeout"
        | "internal-server-error" => Outcome::Retry {
            after: SOON,
            why: DeliveryError::ConnectionLost(why),
        },
        "resource-constraint" | "policy-violation" => {
            let after = Duration::from_secs(10);
            Outcome::Retry {
                after,
                why: DeliveryError::RateLimited(after),
            }
        }
        _ if fault.kind == "wait" => Outcome::Retry {
            after: SOON,
            why: DeliveryError::Rejected(why),
        },
        _ => Outcome::GiveUp(DeliveryError::Rejected(why)),
    }
}
