//! What a room shows of its past when the observer enters (XEP-0045 §7.2.13).
//!
//! It is never new to a room with an archive. A room without one can fill the time that nobody listened with it: when the
//! last message heard is in it, everything after that one was missed and is told. Otherwise there is a gap, unless the
//! past reaches back beyond the moment at which the room was last heard.

use std::collections::VecDeque;
use std::time::Instant;

use super::Context;
use super::hearing::is_of;
use super::room::Room;
use crate::ident::Jid;
use crate::inbound;
use crate::wire::{self, Element};

/// Messages of the past that are kept while the room shows it, and their size.
const MAX_PAST: usize = 250;
const MAX_PAST_BYTES: usize = 2 * 1024 * 1024;
/// How far the room's clock may be from ours.
const SLACK_MS: i64 = 60 * 1_000;

/// The latest messages that the room has shown.
#[derive(Debug, Default)]
pub(super) struct Past {
    messages: VecDeque<Element>,
    bytes: usize,
}

impl Past {
    /// The oldest ones make room for it.
    fn push(&mut self, message: &Element) {
        self.bytes += wire::size(message);
        self.messages.push_back(message.clone());
        while self.messages.len() > MAX_PAST || self.bytes > MAX_PAST_BYTES {
            let Some(oldest) = self.messages.pop_front() else {
                return;
            };
            self.bytes -= wire::size(&oldest);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

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
        self.past.push(message);
    }

    /// Tells what was said since the room was last heard, as far as its past has it, and what is missing.
    pub(super) fn fill_from_past(&mut self, cx: &mut Context, now: Instant) {
        let mut past: Vec<Before> = Vec::new();
        for message in std::mem::take(&mut self.past).messages {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{element, ns};

    #[test]
    fn of_a_long_past_the_latest_is_kept_in_bounded_memory() {
        let message = |id: usize, size: usize| {
            element("message", ns::CLIENT)
                .attr("id", id.to_string())
                .child(element("body", ns::CLIENT).text(&"x".repeat(size)))
                .build()
        };
        for (size, count, most) in [(500_000, 8, 4), (10, 300, MAX_PAST)] {
            let mut past = Past::default();
            for id in 0..count {
                past.push(&message(id, size));
            }
            let kept = past.messages.iter().map(wire::size).sum::<usize>();
            assert_eq!(past.messages.len(), most);
            assert!(past.bytes == kept && kept <= MAX_PAST_BYTES);
            assert_eq!(past.messages.back(), Some(&message(count - 1, size)));
        }
    }
}
