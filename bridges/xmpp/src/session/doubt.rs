//! Whether a delivery that is in doubt has landed.
//!
//! After a crash or a cut a delivery comes back in doubt. Before it is said again, its stanza id is looked for: among what
//! this connection has seen, and in the room's archive from the last place on before which nothing of ours is in doubt. A
//! room without an archive shows what it has when the observer joins; what that does not reach may be shown twice.

use std::time::{Duration, Instant};

use comity_bridge::{DeliveryError, NativeId, Outcome};

use super::archive::{self, Archived, Fin, From};
use super::fault::Fault;
use super::hearing::is_of;
use super::iq::Asked;
use super::occupant;
use super::queue::Stage;
use super::room::Room;
use super::{Context, Output};
use crate::inbound;
use crate::wire::{Element, element, ns};

/// How far the room's clock may be behind ours.
const SLACK_MS: i64 = 5 * 60 * 1000;
/// What was written before a crash may still be on its way through the server, and an archive may be a moment behind its
/// room: only this long after we came in, what is not there is taken for lost.
const GRACE: Duration = Duration::from_secs(1);
/// An archive's place is trusted this long after the delivery there was over: by then its end is durable, too.
const SURE_AFTER: Duration = Duration::from_secs(10);
/// Messages of ours that one search may pass before another delivery joins it.
const MAX_PASSED: usize = 1_000;

/// A search under way.
#[derive(Debug)]
pub(super) struct Scan {
    query: String,
    /// Nothing that the jobs are about can have landed before.
    start_ms: i64,
    from: From,
    /// Messages of ours that were found.
    passed: usize,
    /// The jobs that it answers for.
    jobs: Vec<u64>,
}

/// Places in the archive on their way to being sure.
#[derive(Debug, Default)]
pub(super) struct Certainty {
    /// Nothing of ours has been left in doubt since the last delivery that was shown.
    clear: bool,
    fresh: Option<String>,
    waiting: Option<(String, Instant)>,
}

impl Scan {
    pub(super) fn is_query(&self, id: &str) -> bool {
        self.query == id
    }

    /// Lets the search answer for one more job, if it goes back far enough.
    pub(super) fn covers(&mut self, job: u64, since_ms: i64) {
        let reaches = match self.from {
            From::Since(_) => since_ms.saturating_sub(SLACK_MS) >= self.start_ms,
            _ => true,
        };
        if reaches && self.passed < MAX_PASSED && !self.jobs.contains(&job) {
            self.jobs.push(job);
        }
    }
}

impl Room {
    /// Looks for every doubtful job in one search.
    pub(super) fn start_scan(&mut self, cx: &mut Context, now: Instant) {
        if self.scan.is_some() || now.duration_since(self.entered) < GRACE {
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
        let start_ms = since.saturating_sub(SLACK_MS);
        let sure = self.mark.as_ref().and_then(|mark| mark.sure.clone());
        self.scan = Some(Scan {
            query: cx.next_id(),
            start_ms,
            from: sure.map_or(From::Since(start_ms), From::After),
            passed: 0,
            jobs: doubtful().map(|entry| entry.job.id).collect(),
        });
        self.ask_archive(cx, now);
    }

    /// Asks for a page. A room without an archive has shown what it has when the observer came, and shows what is said
    /// since; there any question will do, for its answer comes after what was said before it.
    fn ask_archive(&mut self, cx: &mut Context, now: Instant) {
        let Some(scan) = &self.scan else { return };
        let (kind, query) = match self.features.archive {
            true => (
                "set",
                archive::query(&scan.query, &scan.from, archive::PAGE).build(),
            ),
            false => ("get", element("query", ns::DISCO_INFO).build()),
        };
        let (from, room) = (self.observer.jid.clone(), self.jid.clone());
        let asked = Asked::Archive(room.clone(), scan.query.clone());
        if !cx.ask(now, &from, room.as_str(), kind, query, asked) {
            self.scan = None;
        }
    }

    /// A message that the search has come upon.
    pub(super) fn handle_searched(&mut self, cx: &mut Context, archived: &Archived<'_>) {
        let from = is_of(archived.message, &self.jid).and_then(|from| from.resource);
        let own = archive::our_id(archived.message, &cx.settings.ids);
        let (Some(own), Some(nick)) = (own, from) else {
            return;
        };
        if let Some(scan) = &mut self.scan {
            scan.passed += 1;
        }
        self.note_landed_id(cx, &own, &nick, Some(archived.id.to_owned()));
    }

    /// The end of a page of the search, or why there is none.
    pub(super) fn handle_search_end(
        &mut self,
        cx: &mut Context,
        id: &str,
        answer: Result<&Element, Fault>,
        now: Instant,
    ) {
        let Some(scan) = self.scan.as_mut().filter(|scan| scan.is_query(id)) else {
            return;
        };
        match answer {
            Ok(iq) => match archive::fin(iq, &scan.from) {
                Fin::Next(last) if self.features.archive => {
                    scan.from = From::After(last);
                    self.ask_archive(cx, now);
                }
                _ => self.searched(cx, true, now),
            },
            // The place is gone; the time is not.
            Err(fault)
                if fault.condition == "item-not-found" && matches!(scan.from, From::After(_)) =>
            {
                scan.from = From::Since(scan.start_ms);
                self.ask_archive(cx, now);
            }
            Err(fault) => {
                // An archive that is not for us: what the room has shown us must do.
                let is_final = archive::is_final(&fault);
                self.features.archive &= !is_final;
                self.searched(cx, is_final, now);
            }
        }
    }

    /// The search is over; `whole` when it would have found what is there.
    pub(super) fn searched(&mut self, cx: &mut Context, whole: bool, now: Instant) {
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

    /// A message with an id of ours is in the room, from somebody of this nick, and the room calls it `id`.
    pub(super) fn note_landed_id(
        &mut self,
        cx: &mut Context,
        own: &str,
        nick: &str,
        id: Option<String>,
    ) {
        if self.is_ours(nick, Some(own)) {
            self.landed.insert(own, id);
        } else {
            self.landed.claim(own, nick, id);
        }
        let found = cx
            .settings
            .ids
            .read(own)
            .and_then(|part| self.queue.find_doubtful(part));
        if let Some(index) = found {
            self.note_landed(cx, index);
        }
    }

    /// Takes out of a job the parts that are known to have landed: said by a nick that its speaker, or the bot, would have.
    pub(super) fn note_landed(&mut self, cx: &mut Context, index: usize) {
        let job = &mut self.queue.entries[index].job;
        let (observer, speaker) = (&self.observer, &job.speaker);
        let is_ours = |nick: &str| observer.may_be(nick) || occupant::may_be(speaker, nick);
        job.parts.retain(|(part, _)| {
            let own = cx.settings.ids.make(&job.event, *part);
            let Some(id) = self.landed.find(&own, is_ours) else {
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

    /// A message with an id of ours from a nick that none of our occupants has. What an earlier connection said just before
    /// it ended may come late; but anybody can reuse an id, so the nick must be one that its speaker would have.
    pub(super) fn handle_stray(
        &mut self,
        cx: &mut Context,
        nick: &str,
        own: &str,
        message: &Element,
    ) {
        let found = cx
            .settings
            .ids
            .read(own)
            .and_then(|part| self.queue.find_doubtful(part));
        let is_ours = found.is_some_and(|index| {
            let speaker = &self.queue.entries[index].job.speaker;
            self.observer.may_be(nick) || occupant::may_be(speaker, nick)
        });
        if is_ours {
            let id = inbound::stanza_id(message, &self.jid, self.features);
            return self.note_landed_id(cx, own, nick, id);
        }
        cx.skip(
            "unauthorised",
            format!(
                "{}: a message with an id of ours, not from an occupant of ours",
                self.jid
            ),
        );
    }

    /// A delivery is over.
    pub(super) fn note_over(&mut self, outcome: &Outcome, place: Option<String>) {
        match outcome {
            Outcome::Shown => {
                self.certainty.clear = true;
                if self.features.archive && place.is_some() {
                    self.certainty.fresh = place;
                }
            }
            Outcome::Ambiguous { .. } => self.certainty.clear = false,
            _ => {}
        }
    }

    /// Moves the place from which a search must begin. A delivery is over in order: nothing before one that was shown is in
    /// doubt, and with none in hand nothing at all is.
    pub(super) fn make_sure(&mut self, now: Instant) {
        let Some(mark) = &mut self.mark else { return };
        if !self.features.archive {
            return;
        }
        if let Some((place, _)) = self
            .certainty
            .waiting
            .take_if(|(_, since)| now.duration_since(*since) >= SURE_AFTER)
        {
            mark.sure = Some(place);
        }
        let is_idle = self.certainty.clear
            && self.queue.entries.is_empty()
            && self.catch_up.is_none()
            && !mark.last.is_empty();
        let place = match is_idle {
            true => Some(mark.last.clone()),
            false => self.certainty.fresh.take(),
        };
        if self.certainty.waiting.is_none() {
            self.certainty.waiting = place.map(|place| (place, now));
        }
    }
}
