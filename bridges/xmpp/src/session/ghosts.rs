//! The ghosts of one room: one occupant for each speaker.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use comity_bridge::failpoint::reached;

use super::fault::Fault;
use super::occupant::{Change, Loss, Occupant};
use super::queue::Speaker;
use super::{Context, Settings};
use crate::ident::{self, Bare, Jid};
use crate::wire::Element;

/// How long a room's refusal of one ghost, or its silence, is remembered.
const BARRED: Duration = Duration::from_secs(10 * 60);

/// One speaker's occupant.
#[derive(Debug)]
struct Ghost {
    occupant: Occupant,
    barred: Option<Barred>,
}

#[derive(Clone, Debug)]
struct Barred {
    until: Instant,
    why: String,
    /// A ban is meant for the person: the bot does not speak for somebody who is banned.
    banned: bool,
}

/// By the speaker's id.
#[derive(Debug, Default)]
pub(super) struct Ghosts {
    ghosts: HashMap<String, Ghost>,
    /// The speaker's id by the ghost's full JID.
    jids: HashMap<String, String>,
}

/// Who can say it now.
#[derive(Debug, PartialEq)]
pub(super) enum Voice {
    /// This occupant can.
    Ready { jid: String, nick: String },
    /// The ghost is on its way in.
    Wait,
    /// The bot must, naming the speaker.
    Bot,
    /// Nobody may.
    Banned(String),
}

impl Ghosts {
    pub(super) fn holds(&self, nick: &str) -> bool {
        self.ghosts.values().any(|ghost| ghost.occupant.holds(nick))
    }

    /// Who speaks for `speaker`. Lets a ghost join, or take a new name, when there is none yet.
    pub(super) fn voice(
        &mut self,
        cx: &mut Context,
        room: &Bare,
        speaker: &Speaker,
        now: Instant,
    ) -> Voice {
        if !self.ghosts.contains_key(&speaker.id) {
            if self.ghosts.len() >= cx.settings.ghosts_max && !self.make_place(now) {
                return Voice::Bot;
            }
            self.add(&cx.settings, speaker);
        }
        let Some(ghost) = self.ghosts.get_mut(&speaker.id) else {
            return Voice::Bot;
        };
        if let Some(barred) = ghost.barred.take_if(|barred| barred.until <= now) {
            drop(barred);
        }
        match &ghost.barred {
            Some(Barred {
                banned: true, why, ..
            }) => return Voice::Banned(why.clone()),
            Some(_) => return Voice::Bot,
            None => {}
        }
        let base = ident::nick(&speaker.name, &speaker.id);
        if ghost.occupant.is_joining() {
            return Voice::Wait;
        }
        if ghost.occupant.is_joined() && ghost.occupant.is_named(&base) {
            return Voice::Ready {
                jid: ghost.occupant.jid.clone(),
                nick: ghost.occupant.nick().to_owned(),
            };
        }
        if !ghost.occupant.is_named(&base) {
            ghost
                .occupant
                .rename(base, speaker.label.clone(), &speaker.id);
        }
        let id = cx.next_id();
        let presence = ghost.occupant.join(room, id, now, 0);
        cx.send(presence);
        Voice::Wait
    }

    fn add(&mut self, settings: &Settings, speaker: &Speaker) {
        let jid = format!(
            "{}@{}/ghost",
            ident::ghost_node(&speaker.id),
            settings.component
        );
        let base = ident::nick(&speaker.name, &speaker.id);
        let occupant = Occupant::new(jid.clone(), base, speaker.label.clone(), &speaker.id);
        self.jids.insert(jid, speaker.id.clone());
        self.ghosts.insert(
            speaker.id.clone(),
            Ghost {
                occupant,
                barred: None,
            },
        );
    }

    /// Forgets one ghost that is not in the room. False when all are.
    fn make_place(&mut self, now: Instant) -> bool {
        let is_idle = |ghost: &Ghost| {
            !ghost.occupant.is_joined()
                && !ghost.occupant.is_joining()
                && ghost.barred.as_ref().is_none_or(|b| b.until <= now)
        };
        let Some(id) = self
            .ghosts
            .iter()
            .find(|(_, ghost)| is_idle(ghost))
            .map(|(id, _)| id.clone())
        else {
            return false;
        };
        if let Some(ghost) = self.ghosts.remove(&id) {
            self.jids.remove(&ghost.occupant.jid);
        }
        true
    }

    /// A presence to a ghost. True when a message that waits may be said now.
    pub(super) fn handle(
        &mut self,
        cx: &mut Context,
        room: &Bare,
        from: &Jid,
        to: &str,
        presence: &Element,
        now: Instant,
    ) -> bool {
        let Some(ghost) = self.jids.get(to).and_then(|id| self.ghosts.get_mut(id)) else {
            return false;
        };
        match ghost.occupant.handle(from, presence) {
            Change::Nothing => return false,
            Change::Joined { .. } => reached("xmpp.joining"),
            Change::AskAgain => {
                let id = cx.next_id();
                let presence = ghost.occupant.join(room, id, now, 0);
                cx.send(presence);
                return false;
            }
            Change::Refused(fault) => ghost.barred = Some(Barred::refused(&fault, now)),
            Change::Lost { why, by: Loss::Ban } => {
                ghost.barred = Some(Barred::new(why, true, now));
            }
            Change::Lost { .. } => {}
        }
        true
    }

    /// Forgets ghosts whose join was not answered. The bot speaks for them, or one join would hold the whole room up again
    /// and again. True when there was one.
    pub(super) fn handle_overdue(&mut self, now: Instant) -> bool {
        let mut any = false;
        for ghost in self.ghosts.values_mut() {
            if ghost.occupant.is_overdue(now) {
                ghost.occupant.forget();
                let why = "the room does not answer the join".to_owned();
                ghost.barred = Some(Barred::new(why, false, now));
                any = true;
            }
        }
        any
    }

    /// The room does not know this occupant: it joins anew with its next message.
    pub(super) fn forget_one(&mut self, jid: &str) {
        if let Some(ghost) = self.jids.get(jid).and_then(|id| self.ghosts.get_mut(id)) {
            ghost.occupant.forget();
        }
    }

    pub(super) fn forget(&mut self) {
        self.ghosts.clear();
        self.jids.clear();
    }

    /// The presences with which all leave.
    pub(super) fn leave(&mut self, room: &Bare) -> Vec<Element> {
        let gone = self
            .ghosts
            .values_mut()
            .filter_map(|ghost| ghost.occupant.leave(room))
            .collect();
        self.forget();
        gone
    }
}

impl Barred {
    fn new(why: String, banned: bool, now: Instant) -> Self {
        Self {
            until: now + BARRED,
            why,
            banned,
        }
    }

    fn refused(fault: &Fault, now: Instant) -> Self {
        Self::new(fault.why(), fault.condition == "forbidden", now)
    }
}
