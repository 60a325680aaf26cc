//! Questions: answering those of others, and remembering ours.

use std::time::Instant;

use xmpp_parsers::disco::{DiscoInfoResult, Identity};

use crate::ident::{Bare, Jid};
use crate::wire::{Element, element, ns};

/// What a question of ours was about.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Asked {
    /// What the room can do; its answer also ends the join.
    Features(Bare),
    /// The default configuration of a room that did not exist.
    Unlock(Bare),
    /// A page of the room's archive, in search of deliveries in doubt; with the query's id.
    Archive(Bare, String),
    /// A page of the room's archive, for what was missed; with the query's id.
    CatchUp(Bare, String),
    /// Whether we are still in the room (XEP-0410).
    Present(Bare),
}

impl Asked {
    pub(super) fn room(&self) -> &Bare {
        match self {
            Self::Features(room)
            | Self::Unlock(room)
            | Self::Archive(room, _)
            | Self::CatchUp(room, _)
            | Self::Present(room) => room,
        }
    }
}

/// A question under way.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) asked: Asked,
    /// Who has been asked; an answer from anybody else is none.
    pub(super) to: Jid,
    pub(super) until: Instant,
}

/// The answer to a question of others: every `get` and `set` has one (RFC 6120 §8.2.3), nothing else.
pub(super) fn answer(iq: &Element) -> Option<Element> {
    if !matches!(iq.attr("type"), Some("get" | "set")) {
        return None;
    }
    let (id, from, to) = (iq.attr("id")?, iq.attr("from")?, iq.attr("to")?);
    let is_get = iq.attr("type") == Some("get");
    let payload = iq.children().next();
    let reply = element("iq", ns::CLIENT)
        .attr("from", to)
        .attr("to", from)
        .attr("id", id);
    let reply = match payload {
        Some(ping) if is_get && ping.is("ping", ns::PING) => reply.attr("type", "result"),
        Some(query)
            if is_get && query.is("query", ns::DISCO_INFO) && query.attr("node").is_none() =>
        {
            reply.attr("type", "result").child(who_we_are(to))
        }
        _ => {
            let condition = element("service-unavailable", ns::STANZA_ERROR);
            reply.attr("type", "error").child(
                element("error", ns::CLIENT)
                    .attr("type", "cancel")
                    .child(condition),
            )
        }
    };
    Some(reply.build())
}

fn who_we_are(jid: &str) -> Element {
    let is_occupant = jid.contains('@');
    let (category, kind) = if is_occupant {
        ("client", "bot")
    } else {
        ("gateway", "xmpp")
    };
    let result = DiscoInfoResult {
        node: None,
        identities: vec![Identity::new(category, kind, "en", "Comity")],
        features: [ns::DISCO_INFO, ns::PING].map(str::to_owned).into(),
        extensions: Vec::new(),
    };
    result.into()
}
