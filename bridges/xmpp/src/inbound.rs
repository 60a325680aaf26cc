//! A room's message to what was said: who, what, and the id that tells it from all others.
//!
//! Believes nothing that the room does not vouch for: ids and occupant ids count only where the
//! room's features say that it strips forged ones.

use comity_bridge::event::{Message, MessageKind};
use comity_bridge::{Content, NativeAuthor, NativeRef, SourceId, Text, Timestamp};

use crate::ident::{self, Bare};
use crate::session::Features;
use crate::stamp;
use crate::wire::{Element, child, ns};

/// The largest id kept as it is; a longer one is a reason to make our own.
const MAX_ID: usize = 512;

/// One message of somebody else.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Said {
    /// Set by the caller, which knows where the message is from.
    pub(crate) source_id: SourceId,
    pub(crate) author: NativeAuthor,
    /// When it was said, if it comes from the room's past.
    pub(crate) claimed: Option<Timestamp>,
    pub(crate) content: Content<NativeRef>,
}

/// Why a message is not shown elsewhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Unsaid {
    /// A word for the counter.
    pub(crate) reason: &'static str,
    pub(crate) detail: &'static str,
}

const fn unsupported(detail: &'static str) -> Unsaid {
    Unsaid {
        reason: "unsupported",
        detail,
    }
}

/// Payloads that make a message something other than new text, or its body something other than its text.
const NOT_TEXT: &[(&str, &str, &str)] = &[
    (
        "replace",
        "urn:xmpp:message-correct:0",
        "corrections are not built yet",
    ),
    (
        "retract",
        "urn:xmpp:message-retract:0",
        "retractions are not built yet",
    ),
    (
        "retract",
        "urn:xmpp:message-retract:1",
        "retractions are not built yet",
    ),
    (
        "retracted",
        "urn:xmpp:message-retract:0",
        "retractions are not built yet",
    ),
    (
        "retracted",
        "urn:xmpp:message-retract:1",
        "retractions are not built yet",
    ),
    (
        "moderated",
        "urn:xmpp:message-moderate:0",
        "moderation is not built yet",
    ),
    (
        "moderated",
        "urn:xmpp:message-moderate:1",
        "moderation is not built yet",
    ),
    (
        "apply-to",
        "urn:xmpp:fasten:0",
        "retractions are not built yet",
    ),
    (
        "reactions",
        "urn:xmpp:reactions:0",
        "reactions are not built yet",
    ),
    (
        "encryption",
        "urn:xmpp:eme:0",
        "an encrypted message: its body is a stand-in",
    ),
    (
        "encrypted",
        "eu.siacs.conversations.axolotl",
        "an encrypted message: its body is a stand-in",
    ),
    (
        "encrypted",
        "urn:xmpp:omemo:1",
        "an encrypted message: its body is a stand-in",
    ),
    (
        "encrypted",
        "urn:xmpp:omemo:2",
        "an encrypted message: its body is a stand-in",
    ),
    (
        "openpgp",
        "urn:xmpp:openpgp:0",
        "an encrypted message: its body is a stand-in",
    ),
    (
        "x",
        "jabber:x:encrypted",
        "an encrypted message: its body is a stand-in",
    ),
];

/// Reads a message that `room` passes on for the occupant called `nick`.
pub(crate) fn read(message: &Element, nick: &str, features: Features) -> Result<Said, Unsaid> {
    for (name, namespace, detail) in NOT_TEXT {
        if child(message, name, namespace).is_some() {
            return Err(unsupported(detail));
        }
    }
    let Some(body) = body(message) else {
        let is_subject = child(message, "subject", ns::CLIENT).is_some();
        return Err(unsupported(if is_subject {
            "subjects are not built yet"
        } else {
            "a message without a body"
        }));
    };
    // XEP-0245 §3: exactly these four characters.
    let (kind, text) = match body.strip_prefix("/me ") {
        Some(rest) => (MessageKind::Emote, rest),
        None => (MessageKind::Text, body.as_str()),
    };
    let text = Text::plain(text);
    if text.is_blank() {
        return Err(unsupported("a blank message"));
    }
    let occupant = occupant_id(message, features).unwrap_or_else(|| nick.to_owned());
    let name = ident::nick(nick, nick);
    Ok(Said {
        source_id: SourceId(String::new()),
        author: NativeAuthor::named(occupant, name),
        claimed: None,
        content: Content::Message(Message::of(kind, text)),
    })
}

/// What tells a message from all others of its room: the room's own id, else its sender's, who must not repeat it.
pub(crate) fn source_id(
    message: &Element,
    room: &Bare,
    nick: &str,
    features: Features,
) -> Option<String> {
    stanza_id(message, room, features).or_else(|| {
        let occupant = occupant_id(message, features).unwrap_or_else(|| nick.to_owned());
        let id = format!("{occupant} {}", origin_id(message)?);
        (!id.chars().any(char::is_control)).then_some(id)
    })
}

/// The id that the room gave to a message (XEP-0359 §5: only the room's own counts).
pub(crate) fn stanza_id(message: &Element, room: &Bare, features: Features) -> Option<String> {
    features.stanza_ids.then(|| any_stanza_id(message, room))?
}

/// The id that claims to be the room's, wherever it is from.
pub(crate) fn any_stanza_id(message: &Element, room: &Bare) -> Option<String> {
    let ids = message
        .children()
        .filter(|child| child.is("stanza-id", ns::SID));
    let by_room = |id: &&Element| {
        id.attr("by")
            .is_some_and(|by| by.to_lowercase() == room.as_str())
    };
    ids.filter(by_room)
        .find_map(|id| id.attr("id"))
        .filter(|id| fits(id))
        .map(str::to_owned)
}

/// Whether a message comes from the room's past: stamped by the room, or by anybody while the
/// room still shows what was said before we came (XEP-0045 §7.2.13).
pub(crate) fn is_history(message: &Element, room: &Bare, joining: bool) -> bool {
    let delays = message
        .children()
        .filter(|child| child.is("delay", ns::DELAY) || child.is("x", ns::DELAY_LEGACY));
    delays.into_iter().any(|delay| {
        let from = delay.attr("from").map(str::to_lowercase);
        joining || from.is_some_and(|from| from.split('/').next() == Some(room.as_str()))
    })
}

/// When a message of the room's past was said.
pub(crate) fn stamp(message: &Element) -> Option<i64> {
    let stamps = message
        .children()
        .filter(|child| child.is("delay", ns::DELAY) || child.is("x", ns::DELAY_LEGACY));
    // The room's own stamp is the last one: a sender's may be in front of it.
    stamps
        .filter_map(|delay| delay.attr("stamp").and_then(stamp::read))
        .last()
}

/// Whether a message still carries this stamp of ours.
pub(crate) fn has_stamp(message: &Element, stamp: &str) -> bool {
    message
        .children()
        .any(|child| child.is("delay", ns::DELAY) && child.attr("stamp") == Some(stamp))
}

fn occupant_id(message: &Element, features: Features) -> Option<String> {
    let id = features
        .occupant_ids
        .then(|| child(message, "occupant-id", ns::OCCUPANT_ID))??;
    id.attr("id").filter(|id| fits(id)).map(str::to_owned)
}

fn origin_id(message: &Element) -> Option<&str> {
    child(message, "origin-id", ns::SID)?
        .attr("id")
        .filter(|id| fits(id))
}

/// Whether an id is one that is kept as it is.
pub(crate) fn fits(id: &str) -> bool {
    !id.is_empty() && id.len() <= MAX_ID && !id.chars().any(char::is_control)
}

/// The body without a language, or the first one.
pub(crate) fn body(message: &Element) -> Option<String> {
    let mut bodies = message
        .children()
        .filter(|child| child.is("body", ns::CLIENT))
        .peekable();
    let first = *bodies.peek()?;
    let plain = bodies.find(|body| body.attr_ns(rxml::XMLNS_XML, "lang").is_none());
    Some(plain.unwrap_or(first).text())
}

#[cfg(test)]
mod tests;
