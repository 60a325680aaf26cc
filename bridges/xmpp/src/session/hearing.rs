//! What is said in a room: whose it is, whether it is new, and what the gateway is told of it.
//!
//! Everything that the observer hears comes through here in the room's order: as it is said, from what was held back
//! while the archive was read, from the archive, or from the past that a room shows on entry. Each message moves the
//! room's mark, and the mark is committed with it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use comity_bridge::Timestamp;

use super::archive::{self, Archived};
use super::mark::Mark;
use super::room::{Phase, Room};
use super::{Context, Output};
use crate::ident::{Bare, Jid};
use crate::inbound;
use crate::wire::{self, Element, child, ns};

/// Messages held back in one room, and their size.
const MAX_HELD: usize = 1_000;
const MAX_HELD_BYTES: usize = 2 * 1024 * 1024;
/// How often a mark that has moved is kept though nothing was told.
const MARK_MOVED: Duration = Duration::from_secs(10);
/// How often the last moment at which a quiet room was heard is kept.
const MARK_QUIET: Duration = Duration::from_secs(60);

/// Messages that wait until what was said before them has been told.
#[derive(Debug, Default)]
pub(super) struct Held {
    messages: VecDeque<Element>,
    bytes: usize,
}

impl Held {
    /// False when there is no place.
    fn push(&mut self, message: &Element) -> bool {
        let bytes = wire::size(message);
        let fits = self.messages.len() < MAX_HELD && self.bytes + bytes <= MAX_HELD_BYTES;
        if fits {
            self.bytes += bytes;
            self.messages.push_back(message.clone());
        }
        fits
    }

    fn take(&mut self) -> VecDeque<Element> {
        self.bytes = 0;
        std::mem::take(&mut self.messages)
    }
}

/// A message on its way, with what is known of it from around it.
struct Heard<'a> {
    message: &'a Element,
    nick: &'a str,
    /// Our own id, when it is one of ours.
    own: Option<String>,
    /// What tells it from all others.
    id: Option<String>,
    claimed_ms: Option<i64>,
}

impl Room {
    pub(super) fn handle_groupchat(
        &mut self,
        cx: &mut Context,
        from: &Jid,
        message: &Element,
        now: Instant,
    ) {
        if matches!(self.phase, Phase::Out { .. }) {
            return;
        }
        // Ghosts may be in the room when the observer is not.
        if message.attr("to") == Some(&self.observer.jid) {
            self.seen(cx, now);
        }
        let own = archive::our_id(message, &cx.settings.ids);
        // Any occupant's copy will do as a receipt; the rest is for the observer's.
        if let (Some(nick), Some(own)) = (from.resource.as_deref(), &own) {
            self.handle_reflection(cx, nick, own, message, now);
        }
        if message.attr("to") != Some(&self.observer.jid) {
            return;
        }
        if inbound::is_history(message, &self.jid, self.phase != Phase::In) {
            return self.handle_past(cx, from, message, own);
        }
        if self.is_holding() {
            return self.hold(cx, message);
        }
        self.hear_live(cx, from, message, now);
    }

    /// Whether what is said now must wait: it is not known yet what was said before it.
    fn is_holding(&self) -> bool {
        self.phase != Phase::In
            || self.catch_up.as_ref().is_some_and(|it| it.holds())
            || (self.lost.is_some() && self.features.archive)
    }

    fn hold(&mut self, cx: &mut Context, message: &Element) {
        if self.lost.is_some() || !self.held.push(message) {
            self.leave_out(cx, message);
        }
    }

    /// There is no place for this. A room with an archive is read later on; in another one it is a gap.
    fn leave_out(&mut self, cx: &mut Context, message: &Element) {
        self.lost.get_or_insert(cx.wall_ms);
        let is_kept = self.features.archive
            && inbound::stanza_id(message, &self.jid, self.features).is_some();
        if !is_kept && child(message, "body", ns::CLIENT).is_some() {
            cx.skip("gap", format!("{}: the journal is behind", self.jid));
        }
    }

    /// Tells what was held back.
    pub(super) fn release(&mut self, cx: &mut Context, now: Instant) {
        for message in self.held.take() {
            if self.is_holding() {
                self.leave_out(cx, &message);
                continue;
            }
            if let Some(from) = message.attr("from").and_then(Jid::parse) {
                self.hear_live(cx, &from, &message, now);
            }
        }
    }

    /// Forgets what was held back: the archive has it.
    pub(super) fn drop_held(&mut self, cx: &mut Context) {
        for message in self.held.take() {
            self.leave_out(cx, &message);
        }
        self.lost = None;
    }

    /// What is held back is left: a room with an archive has it, and in another one it is within the gap that begins where
    /// the mark stands.
    pub(super) fn stop_hearing(&mut self, cx: &mut Context) {
        self.heard_now(cx);
        if self.phase == Phase::In
            && !self.features.archive
            && let Some(since) = self.lost
        {
            self.gap(cx, since, cx.wall_ms);
        }
        self.lost = None;
        self.catch_up = None;
        self.held = Held::default();
        self.past.clear();
        self.told.clear();
    }

    fn hear_live(&mut self, cx: &mut Context, from: &Jid, message: &Element, now: Instant) {
        let Some(nick) = from.resource.as_deref() else {
            // The room itself: the end of its past is an empty subject, the rest is notices.
            if child(message, "body", ns::CLIENT).is_some() {
                cx.skip(
                    "unsupported",
                    format!("a notice of the room {} itself", self.jid),
                );
            }
            return;
        };
        let own = archive::our_id(message, &cx.settings.ids);
        let id = inbound::source_id(message, &self.jid, nick, self.features);
        if let Some(id) = &id
            && self.told.get(id).is_some()
        {
            return;
        }
        if self.is_ours(nick, own.as_deref()) {
            self.advance(cx, id);
            return match own {
                Some(own) => self.handle_own(cx, &own, message),
                None => self.handle_unmarked_reflection(cx, nick, message, now),
            };
        }
        if let Some(own) = own {
            // What an earlier connection of ours said just before it ended, or a forgery: no event, and a receipt only
            // when a delivery in doubt has a speaker of that nick.
            self.advance(cx, id);
            return self.handle_stray(cx, nick, &own, message);
        }
        self.hear(
            cx,
            Heard {
                message,
                nick,
                own,
                id,
                claimed_ms: None,
            },
        );
    }

    /// Whether an occupant of ours has said something with this id of ours, or has this nick now.
    pub(super) fn is_ours(&self, nick: &str, own: Option<&str>) -> bool {
        let by = own.and_then(|own| self.spoken.get(own));
        self.observer.holds(nick) || self.ghosts.holds(nick) || by.is_some_and(|by| by == nick)
    }

    /// A message from the archive: its id there is the one that the room gave it.
    /// False when there is no place for it: it is to be asked for again.
    pub(super) fn hear_archived(
        &mut self,
        cx: &mut Context,
        from: &Jid,
        archived: &Archived<'_>,
    ) -> bool {
        let is_told = match from.resource.as_deref() {
            Some(nick) => self.hear(
                cx,
                Heard {
                    message: archived.message,
                    nick,
                    own: archive::our_id(archived.message, &cx.settings.ids),
                    id: Some(archived.id.to_owned()),
                    claimed_ms: archived.stamp_ms,
                },
            ),
            None => {
                self.advance(cx, Some(archived.id.to_owned()));
                true
            }
        };
        if is_told {
            self.told.insert(archived.id, ());
        }
        is_told
    }

    /// A message of the room's past that was said after the last one we heard.
    pub(super) fn hear_past(&mut self, cx: &mut Context, from: &Jid, message: &Element) {
        let Some(nick) = from.resource.as_deref() else {
            return;
        };
        self.hear(
            cx,
            Heard {
                message,
                nick,
                own: archive::our_id(message, &cx.settings.ids),
                id: inbound::source_id(message, &self.jid, nick, self.features),
                claimed_ms: inbound::stamp(message),
            },
        );
    }

    /// Tells the gateway what somebody else has said; what we have said is noted. False when there is no place for it.
    fn hear(&mut self, cx: &mut Context, heard: Heard<'_>) -> bool {
        let Heard {
            message,
            nick,
            own,
            id,
            claimed_ms,
        } = heard;
        if own.is_some() || self.observer.holds(nick) || self.ghosts.holds(nick) {
            if let Some(own) = own {
                self.note_landed_id(cx, &own, nick, id.clone());
            }
            self.advance(cx, id);
            return true;
        }
        let mut said = match inbound::read(message, nick, self.features) {
            Ok(said) => said,
            Err(unsaid) => {
                cx.skip(unsaid.reason, format!("{}: {}", self.jid, unsaid.detail));
                self.advance(cx, id);
                return true;
            }
        };
        // What an archive has is read later on, and no gap.
        let gap_due = self.lost.filter(|_| !self.features.archive);
        if cx.free < 1 + usize::from(gap_due.is_some()) {
            self.leave_out(cx, message);
            return false;
        }
        if let Some(since) = gap_due {
            self.lost = None;
            self.gap(cx, since, cx.wall_ms);
        }
        said.claimed = claimed_ms.map(Timestamp);
        self.advance(cx, id.clone());
        said.source_id = id.map_or_else(|| self.unnamed_id(cx), Into::into);
        self.dirty = false;
        cx.free -= 1;
        cx.out.push_back(Output::Said {
            room: self.jid.clone(),
            said: Box::new(said),
            mark: self.mark.clone(),
        });
        true
    }

    /// A room without ids: the messages of this run are counted.
    fn unnamed_id(&mut self, cx: &Context) -> comity_bridge::SourceId {
        self.unnamed += 1;
        format!("{}:{}", cx.settings.epoch, self.unnamed).into()
    }

    /// A message of ours whose delivery is over already, e.g. after its time-out: a receipt, not an event.
    fn handle_own(&mut self, cx: &mut Context, own: &str, message: &Element) {
        let id = inbound::stanza_id(message, &self.jid, self.features);
        if !self.landed.insert(own, id.clone()) {
            return;
        }
        if let Some((event, _)) = cx.settings.ids.read(own)
            && cx.free > 0
        {
            cx.free -= 1;
            let (room, event) = (self.jid.clone(), event.to_owned());
            let id = id.unwrap_or_else(|| own.to_owned());
            cx.out.push_back(Output::Own { room, event, id });
        }
    }

    /// The last message heard is this one.
    fn advance(&mut self, cx: &Context, id: Option<String>) {
        let reads_archive = self.catch_up.is_some();
        let Some(mark) = &mut self.mark else {
            // Before the end of the archive is known, what is said is newer than it.
            if let Some(last) = id {
                let heard_ms = cx.wall_ms;
                self.mark = Some(Mark {
                    heard_ms,
                    last,
                    sure: None,
                });
                self.dirty = true;
            }
            return;
        };
        if !reads_archive {
            mark.heard_ms = cx.wall_ms;
        }
        match id {
            Some(id) => mark.last = id,
            // The archive does not have it, so it is no place in it.
            None if self.features.archive => {}
            None => mark.last.clear(),
        }
        self.dirty = true;
    }

    /// A room that is heard for the first time begins here.
    pub(super) fn begin(&mut self, cx: &mut Context, last: String, now: Instant) {
        self.mark = Some(Mark {
            heard_ms: cx.wall_ms,
            last,
            sure: None,
        });
        self.keep_mark(cx, now);
    }

    /// The room has shown that the observer is in it.
    pub(super) fn seen(&mut self, cx: &Context, now: Instant) {
        self.asked = now;
        self.seen_ms = cx.wall_ms;
    }

    /// The room is being heard at this moment.
    pub(super) fn heard_now(&mut self, cx: &Context) {
        if self.phase == Phase::In
            && self.catch_up.is_none()
            && self.lost.is_none()
            && let Some(mark) = &mut self.mark
        {
            // A clock that was set back has taken an hour, or a year, back with it.
            mark.heard_ms = mark
                .heard_ms
                .min(cx.wall_ms)
                .max(cx.alive_ms.min(cx.wall_ms));
        }
    }

    /// The observer has been out for nobody knows how long: nothing is known to have been heard since it was last seen.
    pub(super) fn unhear(&mut self, cx: &mut Context, now: Instant) {
        if let Some(mark) = &mut self.mark
            && mark.heard_ms > self.seen_ms
        {
            mark.heard_ms = self.seen_ms;
            self.keep_mark(cx, now);
        }
    }

    /// Keeps the mark, now and then, when no message has carried it.
    pub(super) fn keep_mark_in_time(&mut self, cx: &mut Context, now: Instant) {
        let wait = if self.dirty { MARK_MOVED } else { MARK_QUIET };
        if now.duration_since(self.kept) >= wait && cx.free > 0 {
            self.keep_mark(cx, now);
        }
    }

    /// Keeps the mark as it stands.
    pub(super) fn keep_mark(&mut self, cx: &mut Context, now: Instant) {
        self.kept = now;
        self.heard_now(cx);
        self.make_sure(now);
        let Some(mark) = &self.mark else { return };
        self.dirty = false;
        cx.free = cx.free.saturating_sub(1);
        cx.out.push_back(Output::Mark {
            room: self.jid.clone(),
            mark: mark.clone(),
        });
    }

    /// Says what is missing once there is a place for it.
    pub(super) fn tell_lost(&mut self, cx: &mut Context) {
        if !self.features.archive
            && self.phase == Phase::In
            && cx.free > 1
            && let Some(since) = self.lost.take()
        {
            self.gap(cx, since, cx.wall_ms);
        }
    }
}

/// The room that a message says it is from.
pub(super) fn is_of(message: &Element, room: &Bare) -> Option<Jid> {
    let from = message.attr("from").and_then(Jid::parse)?;
    (from.bare == *room).then_some(from)
}
