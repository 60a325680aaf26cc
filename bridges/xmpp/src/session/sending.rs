//! Saying what is queued in a room, and learning what became of it.

use std::time::{Duration, Instant};

use comity_bridge::{DeliveryError, NativeId, Outcome};

use super::archive::Scan;
use super::fault::Fault;
use super::ghosts::Voice;
use super::iq::Asked;
use super::queue::{Entry, Job, REFLECTION_TIMEOUT, Stage};
use super::room::Room;
use super::{Context, Output};
use crate::ident::Jid;
use crate::outbound::{self, Mouth};
use crate::wire::{self, Element, element, ns};

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
        let entry = &mut self.queue.entries[index];
        let job = &entry.job;
        let mouth = if is_ghost {
            Mouth::Ghost
        } else {
            Mouth::Bot(&job.speaker.name)
        };
        let mut stanzas = Vec::new();
        for (part, text) in &job.parts {
            let body = outbound::body(text, job.emote, mouth);
            let stanza = outbound::message(
                &jid,
                self.jid.as_str(),
                &cx.settings.ids.make(&job.event, *part),
                &body,
            )
            .build();
            if wire::size(&stanza) > wire::MAX_STANZA_OUT {
                let why =
                    DeliveryError::TooLarge(format!("part {part} is larger than a stanza may be"));
                entry.stage = Stage::Over(Outcome::GiveUp(why));
                return;
            }
            stanzas.push(stanza);
        }
        for stanza in stanzas {
            self.spoken
                .insert(stanza.attr("id").unwrap_or_default(), Some(nick.clone()));
            cx.send(stanza);
        }
        let left = job.parts.iter().map(|(part, _)| *part).collect();
        let until = now + REFLECTION_TIMEOUT;
        entry.stage = Stage::Sent {
            nick,
            jid,
            left,
            until,
        };
    }

    /// Takes out of a job the parts that are known to have landed.
    fn note_landed(&mut self, cx: &mut Context, index: usize) {
        let job = &mut self.queue.entries[index].job;
        job.parts.retain(|(part, _)| {
            let own = cx.settings.ids.make(&job.event, *part);
            let Some(id) = self.landed.get(&own) else {
                return true;
            };
            let ids = vec![NativeId(id.clone().unwrap_or(own))];
            cx.out.push_back(Output::Landed {
                job: job.id,
                part: *part,
                ids,
            });
            false
        });
    }

    /// Looks for every doubtful job in one search.
    fn start_scan(&mut self, cx: &mut Context, now: Instant) {
        if self.scan.is_some() {
            return;
        }
        let doubtful = || {
            self.queue
                .entries
                .iter()
                .filter(|e| matches!(e.stage, Stage::Waiting) && e.job.doubt)
        };
        let since = doubtful()
            .map(|entry| entry.job.since_ms)
            .min()
            .unwrap_or_default();
        let jobs = doubtful().map(|entry| entry.job.id).collect();
        self.scan = Some(Scan::new(cx.next_id(), since, jobs));
        self.ask_archive(cx, None, now);
    }

    /// Asks for a page. A room without an archive has shown what it has when the observer came, and shows what is said
    /// since; there any question will do, for its answer comes after what was said before it.
    pub(super) fn ask_archive(&mut self, cx: &mut Context, after: Option<&str>, now: Instant) {
        let Some(scan) = &mut self.scan else { return };
        let (kind, query) = match self.features.archive {
            true => ("set", scan.page(after).build()),
            false => ("get", element("query", ns::DISCO_INFO).build()),
        };
        let (from, room) = (self.observer.jid.clone(), self.jid.clone());
        cx.ask(
            now,
            &from,
            room.as_str(),
            kind,
            query,
            Asked::Archive(room.clone()),
        );
    }

    /// The search is over; `whole` when it would have found what is there.
    pub(super) fn scanned(&mut self, cx: &mut Context, whole: bool, now: Instant) {
        let Some(scan) = self.scan.take() else { return };
        for entry in self
            .queue
            .entries
            .iter_mut()
            .filter(|entry| scan.jobs.contains(&entry.job.id))
        {
            if whole {
                entry.job.doubt = false;
            } else if matches!(entry.stage, Stage::Waiting) {
                let why = DeliveryError::ConnectionLost(
                    "the room's archive could not be searched".to_owned(),
                );
                entry.stage = Stage::Over(Outcome::Ambiguous { why });
            }
        }
        self.pump(cx, now);
    }

    /// A message from `nick`: true when it is a part under way that has come back. A copy to any
    /// occupant of ours will do; but only the speaker's own nick makes it ours, for anybody can reuse an id.
    pub(super) fn handle_reflection(
        &mut self,
        cx: &mut Context,
        nick: &str,
        own: &str,
        id: Option<&String>,
        now: Instant,
    ) -> bool {
        let found = cx
            .settings
            .ids
            .read(own)
            .and_then(|part| self.queue.find_sent(part));
        let Some((index, part)) = found else {
            return false;
        };
        let Entry { job, stage, .. } = &mut self.queue.entries[index];
        let Stage::Sent {
            nick: speaker,
            left,
            ..
        } = stage
        else {
            return false;
        };
        if speaker != nick {
            return false;
        }
        left.retain(|sent| *sent != part);
        job.parts.retain(|(sent, _)| *sent != part);
        let ids = vec![NativeId(id.cloned().unwrap_or_else(|| own.to_owned()))];
        cx.out.push_back(Output::Landed {
            job: job.id,
            part,
            ids,
        });
        if left.is_empty() {
            *stage = Stage::Over(Outcome::Shown);
        }
        self.landed.insert(own, id.cloned());
        self.settle(cx);
        self.pump(cx, now);
        true
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
            return self.out(
                cx,
                "the room does not know us any more".to_owned(),
                Duration::ZERO,
                now,
            );
        }
        self.ghosts.forget_one(jid);
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
            match &entry.stage {
                Stage::Waiting if unanswered.contains(&entry.job.speaker.id) => {
                    let why = DeliveryError::NotJoined(
                        "the room does not answer the speaker's join".to_owned(),
                    );
                    entry.stage = Stage::Over(Outcome::Retry { after: SOON, why });
                }
                Stage::Sent { until, jid, .. } if *until <= now => {
                    silent.push(jid.clone());
                    let why = DeliveryError::ConnectionLost(
                        "the room did not show the message in time".to_owned(),
                    );
                    entry.stage = Stage::Over(Outcome::Ambiguous { why });
                }
                _ => {}
            }
        }
        if !silent.is_empty() {
            silent.iter().for_each(|jid| self.ghosts.forget_one(jid));
            self.ask_present(cx, now);
        }
        if !silent.is_empty() || !unanswered.is_empty() {
            self.settle(cx);
            self.pump(cx, now);
        }
    }

    fn settle(&mut self, cx: &mut Context) {
        let mut outcomes = Vec::new();
        self.queue.settle(&mut outcomes);
        cx.over(outcomes);
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
