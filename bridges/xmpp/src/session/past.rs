//! What a room shows of its past when the observer enters (XEP-0045 §7.2.13).
//!
//! It is never new to a room with an archive. A room without one can fill the time that nobody listened with it: when the
//! last message heard is in it, everything after that one was missed and is told. Otherwise there is a gap, unless the
//! past reaches back beyond the moment at which the room was last heard.

use std::time::Instant;

use super::Context;
use super::hearing::is_of;
use super::room::Room;
use crate::ident::Jid;
use crate::inbound;
use crate::wire::Element;

/// Messages of the past that are kept while the room shows it, and with what it can do.
const MAX_PAST: usize = 250;
/// How far the room's clock may be from ours.
const SLACK_MS: i64 = 60 * 1_000;

/// One message of the past.
struct Before {
    from: Jid,
    message: Element,
    id: Option<String>,
    stamp_ms: i64,
}

impl Room {
    /// Never told as it comes; but what of ours is there has landed.
    pub(super) fn handle_past(
        &mut self,
        cx: &mut Context,
        from: &Jid,
        message: &Element,
        own: Option<String>,
    ) {
        if let (Some(own), Some(nick)) = (own, from.resource.as_deref()) {
            let id = inbound::any_stanza_id(message, &self.jid);
            self.note_landed_id(cx, &own, nick, id);
        }
        if self.past.len() >= MAX_PAST {
            self.past.pop_front();
        }
        self.past.push_back(message.clone());
    }

    /// Tells what was said since the room was last heard, as far as its past has it, and what is missing.
    pub(super) fn fill_from_past(&mut self, cx: &mut Context, now: Instant) {
        let mut past: Vec<Before> = Vec::new();
        for message in std::mem::take(&mut self.past) {
            let Some(from) = is_of(&message, &self.jid) else {
                continue;
            };
            let nick = from.resource.clone().unwrap_or_default();
            let id = inbound::source_id(&message, &self.jid, &nick, self.features);
            let stamp_ms = inbound::stamp(&message).unwrap_or(cx.wall_ms);
            past.push(Before {
                from,
                message,
                id,
                stamp_ms,
            });
        }
        let Some(mark) = self.mark.clone() else {
            let last = past.last().and_then(|it| it.id.clone());
            return self.begin(cx, last.unwrap_or_default(), now);
        };
        let known = |it: &Before| !mark.last.is_empty() && it.id.as_ref() == Some(&mark.last);
        let heard = mark.heard_ms.min(cx.wall_ms);
        let missed = match past.iter().rposition(known) {
            Some(place) => past.split_off(place + 1),
            None => {
                let reaches_back = past
                    .first()
                    .is_some_and(|oldest| oldest.stamp_ms <= heard - SLACK_MS);
                let is_new = |it: &Before| {
                    let margin = if it.id.is_some() { -SLACK_MS } else { SLACK_MS };
                    it.stamp_ms > heard + margin
                };
                // Without an id, what was said around the last moment heard may have been heard or not.
                let is_unclear =
                    |it: &Before| it.id.is_none() && (it.stamp_ms - heard).abs() <= SLACK_MS;
                let unclear = past.iter().any(is_unclear);
                let missed: Vec<Before> = past.into_iter().filter(is_new).collect();
                if !reaches_back || unclear {
                    let until = missed.first().map_or(cx.wall_ms, |it| it.stamp_ms);
                    self.gap(cx, heard, until.max(heard));
                }
                missed
            }
        };
        for Before { from, message, .. } in missed {
            self.hear_past(cx, &from, &message);
        }
        self.keep_mark(cx, now);
    }
}
