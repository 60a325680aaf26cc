//! What may enter at all: limits that hold on every network.

use comity_bridge::report::Refusal;
use comity_bridge::{Content, Incoming, Timestamp};

/// The longest text that an event holds. Bytes. What a Matrix event can carry is less, an XMPP stanza's default limit about this.
const LONGEST_TEXT: usize = 256 * 1024;

/// The longest id that a network may give to a message. Bytes.
const LONGEST_ID: usize = 2048;

/// How far ahead of us a source's clock may be. Milliseconds.
const AHEAD: i64 = 5 * 60 * 1000;

/// Refuses what no room should hold.
pub(super) fn check(incoming: &Incoming) -> Result<(), Refusal> {
    if incoming.content.is_ephemeral() {
        return Err(Refusal::Ephemeral);
    }
    let id = incoming.source_id.0.len();
    if id == 0 || id > LONGEST_ID {
        return Err(Refusal::Malformed);
    }
    let (text, empty) = match &incoming.content {
        Content::Message(message) => (
            message.text.plain.len(),
            message.text.is_blank() && message.attachments.is_empty(),
        ),
        Content::Edit(edit) => (edit.text.plain.len(), edit.text.is_blank()),
        Content::Topic(topic) => (topic.text.plain.len(), false),
        _ => (0, false),
    };
    if empty || text > LONGEST_TEXT {
        Err(Refusal::Malformed)
    } else {
        Ok(())
    }
}

/// The source's time, or ours where it is missing or cannot be.
pub(super) fn plausible(claimed: Option<Timestamp>, received: Timestamp) -> Timestamp {
    match claimed {
        Some(claimed) if claimed.0 > 0 && claimed.0 <= received.0 + AHEAD => claimed,
        _ => received,
    }
}
