//! Asking a room's archive (XEP-0313), a page at a time (XEP-0059).

use super::fault::Fault;
use crate::ident::{Bare, Jid, PartIds};
use crate::inbound;
use crate::stamp;
use crate::wire::{Build, Element, child, element, ns};

/// Archived messages asked for at a time; a server gives as many as it likes (Prosody 0.12: 50).
pub(super) const PAGE: usize = 250;

const DATA: &str = "jabber:x:data";

/// Where a page begins.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum From {
    /// After the message that the archive calls this.
    After(String),
    /// With what was said at this time.
    Since(i64),
    /// With the oldest message.
    Beginning,
    /// The last messages: a page that ends with the newest.
    End,
    /// The messages in front of this one: a page that ends with the last of them.
    Before(String),
}

/// The query for one page of at most `max` messages.
///
/// A place and a time are never combined: Prosody 0.12 does not find a place that the time leaves out.
pub(super) fn query(id: &str, from: &From, max: usize) -> Build {
    let mut form = element("x", DATA)
        .attr("type", "submit")
        .child(field("FORM_TYPE", ns::MAM).attr("type", "hidden"));
    let mut set = element("set", ns::RSM).child(element("max", ns::RSM).text(&max.to_string()));
    match from {
        From::After(last) => set = set.child(element("after", ns::RSM).text(last)),
        From::Since(ms) => form = form.child(field("start", &stamp::write(*ms))),
        From::Beginning => {}
        From::End => set = set.child(element("before", ns::RSM)),
        From::Before(next) => set = set.child(element("before", ns::RSM).text(next)),
    }
    element("query", ns::MAM)
        .attr("queryid", id)
        .child(form)
        .child(set)
}

fn field(var: &str, value: &str) -> Build {
    element("field", DATA)
        .attr("var", var)
        .child(element("value", DATA).text(value))
}

/// What the end of a page says.
#[derive(Debug, PartialEq)]
pub(super) enum Fin {
    /// There is more after this id.
    Next(String),
    Complete,
}

/// Reads the end of a page that began at `from`.
pub(super) fn fin(iq: &Element, from: &From) -> Fin {
    let fin = child(iq, "fin", ns::MAM);
    let last = fin
        .and_then(|fin| child(fin, "set", ns::RSM))
        .and_then(|set| child(set, "last", ns::RSM))
        .map(Element::text);
    let complete = fin.is_none_or(|fin| fin.attr("complete") == Some("true"));
    match last {
        // A page that ends where it began would be asked for for ever.
        Some(last) if !complete && !last.is_empty() && *from != From::After(last.clone()) => {
            Fin::Next(last)
        }
        _ => Fin::Complete,
    }
}

/// One archived message.
pub(super) struct Archived<'a> {
    /// The archive's id, which is the room's id of the message.
    pub(super) id: &'a str,
    /// When the room got it.
    pub(super) stamp_ms: Option<i64>,
    pub(super) message: &'a Element,
}

/// Reads a result of the query `id`. Only the room itself may answer: anybody can send something that looks like a
/// result (XEP-0313 §8.1).
pub(super) fn result<'a>(
    id: &str,
    room: &Bare,
    from: &Jid,
    message: &'a Element,
) -> Option<Archived<'a>> {
    let result = child(message, "result", ns::MAM)?;
    if from.bare != *room || from.resource.is_some() || result.attr("queryid") != Some(id) {
        return None;
    }
    let forwarded = child(result, "forwarded", ns::FORWARD)?;
    let stamp_ms = child(forwarded, "delay", ns::DELAY)
        .and_then(|delay| delay.attr("stamp"))
        .and_then(stamp::read);
    Some(Archived {
        id: result.attr("id").filter(|id| inbound::fits(id))?,
        stamp_ms,
        message: child(forwarded, "message", ns::CLIENT)?,
    })
}

/// Whether an error says that the archive will never answer us. Anything else may be over soon, or on the next entry.
pub(super) fn is_final(fault: &Fault) -> bool {
    matches!(
        fault.condition.as_str(),
        "feature-not-implemented" | "forbidden" | "not-allowed" | "bad-request"
    )
}

/// The id of a message, if it is one that we give: its origin id or, where that was lost, its own.
pub(super) fn our_id(message: &Element, ids: &PartIds) -> Option<String> {
    let origin = child(message, "origin-id", ns::SID).and_then(|origin| origin.attr("id"));
    origin
        .into_iter()
        .chain(message.attr("id"))
        .find(|id| inbound::fits(id) && ids.read(id).is_some())
        .map(str::to_owned)
}
