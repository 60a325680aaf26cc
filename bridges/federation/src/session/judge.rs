//! Whether an event from outside is valid (PROTOCOL 10).
//!
//! The answer is one of five; nothing is stored here. Checks stand in the order of the section, cheap ones first.

use super::{Genesis, Kept, MemberBody, Room, Shelf, ShelfError, Stage};
use crate::ident::{EventId, ServerName};
use crate::wire::event::{Event, Reject};
use crate::wire::keys::KeyDocument;

/// How an event came here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via<'a> {
    /// A peer sent it, unasked.
    Push(&'a ServerName),
    /// It was asked for, because a later event names it.
    Get,
    /// It is part of the answer to our join; what lies before it is not here.
    Join,
}

/// Finds the key document that was fetched from its server, if there is one; never waits.
pub type Fetched<'a> = Box<dyn Fn(&ServerName) -> Option<KeyDocument> + 'a>;

/// What judging may know beside the room.
pub struct Context<'a> {
    pub own: &'a ServerName,
    pub via: Via<'a>,
    /// The key document fetched from its server, if there is one.
    pub fetched: Fetched<'a>,
    /// The keys of strangers were asked for, and what is not here is not to be had now.
    pub asked: bool,
}

/// Origins of one room that are taken from a push without having been compared with what they publish: more are strangers who want
/// to fill our room with servers that nobody can reach. What is asked for, since something else builds on it, is taken all the same:
/// how many others were here first must not decide what can be (PROTOCOL 7.7).
const MAX_UNPROVED: usize = 100;

/// The verdict on one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    Accept(Acceptance),
    Duplicate,
    /// These are missing, and it cannot be judged without them.
    Need(Vec<EventId>),
    /// The key document of this server is missing, and so are these events, among which it may be.
    NeedKeys(ServerName, Vec<EventId>),
    Reject(Reject),
}

/// How an accepted event is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Acceptance {
    /// Proof of equivocation, or built on it: kept and not shown (PROTOCOL 6.11).
    pub hidden: bool,
    /// Taken without what lies before it (PROTOCOL 12.4).
    pub edge: bool,
    /// The gateway hears of it.
    pub shown: bool,
    /// But not before the origin's keys were compared with what it publishes (PROTOCOL 4.6).
    pub unproved: bool,
}

/// Judges an event of a room that this server has.
pub fn judge(
    event: &Event,
    shelf: &impl Shelf,
    context: &Context<'_>,
) -> Result<Judgement, ShelfError> {
    match try_judge(event, shelf, context) {
        Ok(acceptance) => Ok(Judgement::Accept(acceptance)),
        Err(Stop::Verdict(judgement)) => Ok(judgement),
        Err(Stop::Shelf(error)) => Err(error),
    }
}

/// The end of judging before acceptance.
enum Stop {
    Verdict(Judgement),
    Shelf(ShelfError),
}

impl From<ShelfError> for Stop {
    fn from(error: ShelfError) -> Self {
        Self::Shelf(error)
    }
}

impl From<Reject> for Stop {
    fn from(reject: Reject) -> Self {
        Self::Verdict(Judgement::Reject(reject))
    }
}

fn try_judge(event: &Event, shelf: &impl Shelf, context: &Context<'_>) -> Result<Acceptance, Stop> {
    // The same refusal whether we lack the room or the sender is not in it: no oracle (attack F15).
    let room = shelf.room(&event.room)?.ok_or(Reject::Forbidden)?;
    let allowed = match context.via {
        Via::Push(sender) => room.stage == Stage::In && shelf.is_in_room(&room.id, sender)?,
        Via::Get => room.stage == Stage::In,
        Via::Join => true,
    };
    if !allowed {
        return Err(Reject::Forbidden.into());
    }
    if shelf.kept(&event.id)?.is_some() {
        return Err(Stop::Verdict(Judgement::Duplicate));
    }
    if event.origin == *context.own && context.via != Via::Join {
        return Err(Reject::OwnName.into());
    }
    check_kind(event)?;

    let edge = match context.via {
        Via::Join => true,
        Via::Get => event.depth <= room.horizon,
        Via::Push(_) => false,
    };
    let missing = missing(event, shelf, edge)?;
    let unproved = check_keys(event, shelf, context, &room, edge, &missing)?;
    if !missing.is_empty() {
        return Err(Stop::Verdict(Judgement::Need(missing)));
    }
    let mut hidden = shelf.at_seq(&room.id, &event.origin, event.seq)?.is_some();
    hidden |= check_place(event, shelf, edge)?;
    // What is hidden is never shown, never a head and never a membership. It has to be kept all the same, also where it relies on the
    // other one of two memberships with one number: others build on it, and would be cut off from whoever refused it.
    if !hidden && (!edge || event.kind == "member") {
        authorise(event, shelf, &room)?;
    }
    Ok(Acceptance {
        hidden,
        edge,
        shown: event.kind == "message" && !edge && !hidden,
        unproved,
    })
}

/// What this version has no rules for it must not let in: a server with rules would see another room (PROTOCOL 14).
fn check_kind(event: &Event) -> Result<(), Reject> {
    let implemented = match event.kind.as_str() {
        "member" => MemberBody::of(event)
            .ok_or(Reject::Malformed)
            .map(|body| matches!(body.membership.as_str(), "join" | "leave"))?,
        "key.doc" => event.seq == 0,
        "genesis" => return Err(Reject::Forbidden),
        "edit" | "redact" | "react" | "role" | "policy" | "acl" | "meta" | "alias"
        | "key.revoke" | "tombstone" => false,
        _ => true,
    };
    let has_keys_first = event.seq > 0 || event.kind == "key.doc";
    match (implemented && !event.encrypted, has_keys_first) {
        (false, _) => Err(Reject::Unsupported),
        (true, false) => Err(Reject::Chain),
        (true, true) => Ok(()),
    }
}

/// The events that this one names and that are not here.
fn missing(event: &Event, shelf: &impl Shelf, edge: bool) -> Result<Vec<EventId>, ShelfError> {
    let mut missing = Vec::new();
    let references: Vec<&EventId> = match (edge, event.kind.as_str()) {
        (false, _) => event.references().collect(),
        (true, "member") => event.auth.iter().collect(),
        (true, _) => Vec::new(),
    };
    for id in references {
        if !missing.contains(id) && shelf.kept(id)?.is_none() {
            missing.push(id.clone());
        }
    }
    Ok(missing)
}

/// Finds the origin's keys and verifies the signatures (PROTOCOL 4.6 to 4.8, 6.4). Returns whether the keys are still to be compared
/// with what the origin publishes: that it cannot be reached now says nothing about the event (PROTOCOL 7.7).
fn check_keys(
    event: &Event,
    shelf: &impl Shelf,
    context: &Context<'_>,
    room: &Room,
    edge: bool,
    missing: &[EventId],
) -> Result<bool, Stop> {
    let fetched = (context.fetched)(&event.origin);
    let need_keys = || {
        let judgement = Judgement::NeedKeys(event.origin.clone(), missing.to_vec());
        Stop::Verdict(judgement)
    };
    // Whose document is in the room then is not known: nothing that disagrees with it is decided before the comparison.
    let is_unproved = shelf.is_unproved(&room.id, &event.origin)?;
    if event.kind == "key.doc" {
        let body = event.body.clone().ok_or(Reject::Malformed)?;
        let posted = KeyDocument::from_value(body).map_err(|_| Reject::Key)?;
        event.verify(&posted)?;
        return match fetched {
            Some(fetched) => {
                posted.allows(&fetched).map_err(|_| Reject::Key)?;
                Ok(false)
            }
            None if is_unproved => Err(need_keys()),
            None if !context.asked => Err(need_keys()),
            None if !matches!(context.via, Via::Push(_)) => Ok(true),
            None if shelf.unproved_in(&room.id)? < MAX_UNPROVED => Ok(true),
            None => Err(need_keys()),
        };
    }
    if let Some(keys) = shelf.keys(&event.room, &event.origin, event.seq)? {
        return match event.verify(&keys) {
            Err(_) if is_unproved => Err(need_keys()),
            Err(reject) => Err(reject.into()),
            Ok(()) => Ok(is_unproved),
        };
    }
    if !edge && missing.is_empty() {
        // What it continues may lie below our horizon, and the document with it; else there is none.
        let previous = event.previous.as_ref().ok_or(Reject::Chain)?;
        let previous = kept_in_room(event, previous, shelf)?;
        if previous.origin != event.origin {
            return Err(Reject::Chain.into());
        }
        if previous.depth > room.horizon {
            return Err(Reject::Key.into());
        }
    }
    // The document may be among what is missing: until then the fetched one keeps forgeries from costing more.
    event.verify(&fetched.ok_or_else(need_keys)?)?;
    Ok(false)
}

/// Checks depth and chain; says whether the event builds on a hidden one.
fn check_place(event: &Event, shelf: &impl Shelf, edge: bool) -> Result<bool, Stop> {
    if edge {
        return Ok(false);
    }
    let mut deepest = 0;
    for parent in &event.parents {
        let parent = kept_in_room(event, parent, shelf)?;
        deepest = deepest.max(parent.depth);
    }
    if event.depth != deepest + 1 {
        return Err(Reject::Depth.into());
    }
    let Some(previous) = &event.previous else {
        return Ok(false);
    };
    let previous = kept_in_room(event, previous, shelf)?;
    if previous.origin != event.origin || previous.seq + 1 != event.seq {
        return Err(Reject::Chain.into());
    }
    Ok(previous.hidden)
}

fn kept_in_room(event: &Event, id: &EventId, shelf: &impl Shelf) -> Result<Kept, Stop> {
    let kept = shelf
        .kept(id)?
        .ok_or_else(|| Judgement::Need(vec![id.clone()]))
        .map_err(Stop::Verdict)?;
    if kept.room == event.room {
        Ok(kept)
    } else {
        Err(Reject::Malformed.into())
    }
}

/// Whether the events relied on allow this one (PROTOCOL 7.2 to 7.6).
fn authorise(event: &Event, shelf: &impl Shelf, room: &Room) -> Result<(), Stop> {
    for id in &event.auth {
        kept_in_room(event, id, shelf)?;
    }
    let gateway = event.origin.gateway();
    let relies_on = |id: &EventId| event.auth.contains(id);
    let is_current = |user| -> Result<bool, ShelfError> {
        let membership = shelf.membership(&room.id, user, event.seq)?;
        Ok(membership.is_some_and(|membership| membership.joined && relies_on(&membership.id)))
    };
    let in_room = || -> Result<bool, ShelfError> {
        let membership = shelf.membership(&room.id, &gateway, event.seq)?;
        Ok(membership.is_some_and(|membership| membership.joined))
    };
    let genesis = room.id.genesis();
    let allowed = match event.kind.as_str() {
        "key.doc" => event.sender == gateway && event.auth == [genesis],
        "member" => {
            let body = MemberBody::of(event).ok_or(Reject::Malformed)?;
            let by_itself = body.user == event.sender;
            let allowed = match (body.membership.as_str(), body.user == gateway) {
                ("join", true) => event.auth == [genesis.clone()] && is_open(shelf, &genesis)?,
                ("join", false) => relies_on(&genesis) && is_current(&gateway)?,
                (_, _) => is_current(&body.user)?,
            };
            by_itself && allowed
        }
        _ => in_room()? && is_current(&event.sender)?,
    };
    if allowed {
        Ok(())
    } else {
        Err(Reject::Auth.into())
    }
}

fn is_open(shelf: &impl Shelf, genesis: &EventId) -> Result<bool, ShelfError> {
    let event = shelf.event(genesis)?;
    Ok(event
        .as_ref()
        .and_then(Genesis::of)
        .is_some_and(|genesis| genesis.open))
}
