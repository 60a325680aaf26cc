//! Whether a delivery in doubt is in the room already.

use std::collections::VecDeque;

use super::Work;
use crate::ident::{KEY_FIELD, LATE_FIELD, Names, parse_mark};
use crate::session::Action;
use crate::wire::event::RoomEvent;

/// How far a room is read back for a message that may be there. Only the speaker's own messages are on the pages, and the one in
/// doubt is among the newest of them, since nothing of this room is sent before its doubt is resolved.
const MAX_PAGES: u32 = 10;
/// A message of the speaker that was redacted has lost our mark. It is taken for the one in doubt when it was sent after that was
/// received, less this, in milliseconds: to say again what a moderator took away would be worse than the rare mistake.
const REDACTED_MARGIN: i64 = 1000;
/// The homeserver's clock and ours may differ by this much, in milliseconds.
const CLOCK_MARGIN: i64 = 5 * 60 * 1000;

impl Work {
    /// Looks for our mark on a page of the room. Only our own users are believed to carry it.
    pub(super) fn look(
        &mut self,
        events: &[RoomEvent],
        next: Option<String>,
        names: &Names,
        actions: &mut VecDeque<Action>,
    ) {
        self.pages += 1;
        let oldest_of_interest = self.job.received().0.saturating_sub(CLOCK_MARGIN);
        let (mut is_past, mut old) = (true, 0);
        for event in events.iter().filter(|event| names.is_ours(&event.sender)) {
            let sent = event.origin_server_ts.and_then(|ts| i64::try_from(ts).ok());
            if event.remarks.redacted {
                if sent.is_some_and(|sent| self.may_be_this(sent)) {
                    self.redacted.push(event.event_id.clone());
                }
                continue;
            }
            if let Some((key, part)) = event.text(KEY_FIELD).and_then(parse_mark)
                && key == self.job.key
            {
                self.landed(part, event.event_id.clone(), actions);
            }
            // A message that was sent late bears an older time than the one at which it was sent.
            if !event.content.contains_key(LATE_FIELD) {
                let is_old = sent.is_some_and(|sent| sent < oldest_of_interest);
                is_past &= is_old;
                old += u32::from(is_old);
            }
        }
        if next.is_none() || (is_past && old > 0) || self.pages >= MAX_PAGES {
            self.doubt = false;
            self.take_redacted(actions);
        }
        self.from = next;
    }

    /// Whether a redacted message of the speaker, sent at this time, may be the one in doubt.
    fn may_be_this(&self, sent: i64) -> bool {
        match self.job.late {
            Some(written) => sent == written.0,
            None => sent >= self.job.received().0.saturating_sub(REDACTED_MARGIN),
        }
    }

    /// What was redacted are the parts that are not there otherwise, in their order.
    fn take_redacted(&mut self, actions: &mut VecDeque<Action>) {
        for part in 0..self.spoken.parts.len() {
            if !self.done.contains_key(&part)
                && let Some(id) = self.redacted.pop()
            {
                self.landed(part, id, actions);
            }
        }
    }
}
