//! Where a test kills the process within a write: half way through a message, behind one, between two parts of one.
//!
//! Without the feature `failpoints` everything is written at once and nothing is remembered here.

use std::collections::VecDeque;

use comity_bridge::failpoint::{is_set, reached};

use crate::wire::Element;

const HALF: &str = "xmpp.half";
const WRITTEN: &str = "xmpp.written";
const BETWEEN: &str = "xmpp.between_parts";

/// The stanzas that wait to be written, when a test wants a place among them.
#[derive(Default)]
pub(super) struct Places {
    pieces: VecDeque<Piece>,
}

struct Piece {
    bytes: usize,
    /// The event that a message of ours shows.
    event: Option<String>,
    is_begun: bool,
}

impl Places {
    fn is_wanted() -> bool {
        is_set(HALF) || is_set(WRITTEN) || is_set(BETWEEN)
    }

    pub(super) fn queued(&mut self, stanza: &Element, bytes: usize) {
        if Self::is_wanted() {
            let is_message = stanza.name() == "message";
            let id = stanza.attr("id").unwrap_or_default();
            let event = id.split('-').next().filter(|_| is_message);
            self.pieces.push_back(Piece {
                bytes,
                event: event.map(str::to_owned),
                is_begun: false,
            });
        }
    }

    /// How much of what waits is to be written now.
    pub(super) fn portion(&self, unsent: usize) -> usize {
        let Some(first) = self.pieces.front() else {
            return unsent;
        };
        let before = unsent - self.pieces.iter().map(|piece| piece.bytes).sum::<usize>();
        if before > 0 {
            before
        } else if is_set(HALF) && first.event.is_some() && !first.is_begun {
            first.bytes.div_ceil(2)
        } else {
            first.bytes
        }
    }

    pub(super) fn written(&mut self, bytes: usize, unsent: usize) {
        let waiting = self.pieces.iter().map(|piece| piece.bytes).sum::<usize>();
        if waiting <= unsent {
            // It was something in front of the first piece.
            return;
        }
        let Some(first) = self.pieces.front_mut() else {
            return;
        };
        first.bytes -= bytes;
        first.is_begun = true;
        if first.bytes > 0 {
            return reached(HALF);
        }
        let done = self.pieces.pop_front().and_then(|piece| piece.event);
        let Some(event) = done else { return };
        reached(WRITTEN);
        let next = self.pieces.front().and_then(|piece| piece.event.as_ref());
        if next == Some(&event) {
            reached(BETWEEN);
        }
    }
}
