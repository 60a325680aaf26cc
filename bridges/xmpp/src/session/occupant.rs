//! One of our occupants in one room, the observer or a ghost: joining, the nick it gets, losing its place.

use std::time::{Duration, Instant};

use super::fault::Fault;
use super::queue::Speaker;
use crate::ident::{self, Bare, Jid};
use crate::wire::{Element, child, element, ns};

/// How long a room may take to answer a join.
pub(super) const JOIN_TIMEOUT: Duration = Duration::from_secs(20);
/// How many nicks are tried when others have them.
const MAX_NICKS: u32 = 12;

/// Where an occupant stands.
#[derive(Clone, Debug, PartialEq)]
enum State {
    Absent,
    /// Asked to be in the room as `nick`; `held` is the nick kept meanwhile, when only the nick is new.
    Joining {
        id: String,
        until: Instant,
        held: Option<String>,
    },
    Joined,
}

/// One of our full JIDs in one room.
#[derive(Debug)]
pub(super) struct Occupant {
    pub(super) jid: String,
    nicks: Nicks,
    /// The nick asked for or, once joined, the one that the room gave.
    nick: String,
    state: State,
}

/// What a presence changed for an occupant.
#[derive(Debug, PartialEq)]
pub(super) enum Change {
    Nothing,
    /// The room has let it in, or has given it its new nick; `created` when the room did not exist before.
    Joined {
        created: bool,
    },
    /// The nick is not to be had; there is another one to ask for.
    AskAgain,
    Refused(Fault),
    Lost {
        why: String,
        by: Loss,
    },
}

/// What a place was lost by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Loss {
    Ban,
    /// Somebody has put the occupant out.
    Kick,
    /// The service, or an error.
    Other,
}

impl Occupant {
    pub(super) fn new(jid: String, base: String, label: String, id: &str) -> Self {
        let nicks = Nicks::new(base, label, id);
        Self {
            jid,
            nick: nicks.current(),
            nicks,
            state: State::Absent,
        }
    }

    pub(super) fn is_joined(&self) -> bool {
        self.state == State::Joined
    }

    pub(super) fn is_joining(&self) -> bool {
        matches!(self.state, State::Joining { .. })
    }

    pub(super) fn nick(&self) -> &str {
        &self.nick
    }

    /// Whether this nick is ours through this occupant.
    pub(super) fn holds(&self, nick: &str) -> bool {
        match &self.state {
            State::Absent => false,
            State::Joined => self.nick == nick,
            State::Joining { held, .. } => held.as_deref() == Some(nick),
        }
    }

    /// Whether this occupant would take this nick, or one like it when others have it.
    pub(super) fn may_be(&self, nick: &str) -> bool {
        self.nicks.may_be(nick)
    }

    pub(super) fn is_named(&self, base: &str) -> bool {
        self.nicks.base == base
    }

    pub(super) fn rename(&mut self, base: String, label: String, id: &str) {
        self.nicks = Nicks::new(base, label, id);
    }

    /// Forgets the room's answer: the next message joins anew.
    pub(super) fn forget(&mut self) {
        self.state = State::Absent;
    }

    /// The presence that asks for the place, or for the nick (XEP-0045 §7.2, §7.6).
    pub(super) fn join(&mut self, room: &Bare, id: String, now: Instant, history: u32) -> Element {
        let held = self.is_joined().then(|| self.nick.clone());
        let held = match &self.state {
            State::Joining { held, .. } => held.clone(),
            _ => held,
        };
        self.nick = self.nicks.current();
        self.state = State::Joining {
            id: id.clone(),
            until: now + JOIN_TIMEOUT,
            held,
        };
        let history = element("history", ns::MUC).attr("maxstanzas", history.to_string());
        element("presence", ns::CLIENT)
            .attr("from", self.jid.clone())
            .attr("to", format!("{room}/{}", self.nick))
            .attr("id", id)
            .child(element("x", ns::MUC).child(history))
            .build()
    }

    /// The presence that gives the place up; none when there is no place.
    pub(super) fn leave(&mut self, room: &Bare) -> Option<Element> {
        let nick = match &self.state {
            State::Absent => return None,
            State::Joining { held, .. } => held.clone().unwrap_or_else(|| self.nick.clone()),
            State::Joined => self.nick.clone(),
        };
        self.state = State::Absent;
        let gone = element("presence", ns::CLIENT)
            .attr("from", self.jid.clone())
            .attr("to", format!("{room}/{nick}"))
            .attr("type", "unavailable");
        Some(gone.build())
    }

    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        matches!(&self.state, State::Joining { until, .. } if *until <= now)
    }

    /// A presence from the room to this occupant's JID.
    pub(super) fn handle(&mut self, from: &Jid, presence: &Element) -> Change {
        let user = child(presence, "x", ns::MUC_USER);
        let codes: Vec<&str> = user
            .iter()
            .flat_map(|x| x.children())
            .filter(|c| c.name() == "status")
            .filter_map(|c| c.attr("code"))
            .collect();
        match presence.attr("type") {
            None if codes.contains(&"110") && self.state != State::Absent => {
                // The room may have changed what we asked for (status 210, or its own preparation of the nick).
                self.nick = from.resource.clone().unwrap_or_default();
                self.state = State::Joined;
                Change::Joined {
                    created: codes.contains(&"201"),
                }
            }
            Some("unavailable") => self.handle_gone(from, user, &codes),
            Some("error") => self.handle_error(presence),
            _ => Change::Nothing,
        }
    }

    fn handle_gone(&mut self, from: &Jid, user: Option<&Element>, codes: &[&str]) -> Change {
        let ours = from
            .resource
            .as_deref()
            .is_some_and(|nick| self.holds(nick));
        if !ours {
            return Change::Nothing;
        }
        if codes.contains(&"303") {
            // Only the nick goes; the presence under the new one follows.
            let new = user
                .and_then(|x| child(x, "item", ns::MUC_USER))
                .and_then(|item| item.attr("nick"));
            if let (State::Joined, Some(new)) = (&self.state, new) {
                self.nick = new.to_owned();
            }
            return Change::Nothing;
        }
        self.state = State::Absent;
        let destroyed = user.is_some_and(|x| child(x, "destroy", ns::MUC_USER).is_some());
        let why = codes.iter().find_map(|code| reason(code));
        let why = why.unwrap_or(if destroyed {
            "the room was destroyed"
        } else {
            "the room let us go"
        });
        Change::Lost {
            why: why.to_owned(),
            by: loss(codes),
        }
    }

    fn handle_error(&mut self, presence: &Element) -> Change {
        let State::Joining { id, held, .. } = &self.state else {
            return Change::Nothing;
        };
        if presence.attr("id").is_some_and(|answered| answered != id) {
            return Change::Nothing;
        }
        let fault = Fault::read(presence);
        match fault.condition.as_str() {
            "conflict" if self.nicks.step + 1 < MAX_NICKS => {
                self.nicks.step += 1;
                Change::AskAgain
            }
            "jid-malformed" if !self.nicks.plain => {
                self.nicks.plain = true;
                self.nicks.step = 0;
                Change::AskAgain
            }
            // A room that refuses a new nick leaves us the old one (XEP-0045 §7.6).
            _ if held.is_some() && fault.condition == "not-allowed" => {
                self.nick = held.clone().unwrap_or_default();
                self.state = State::Joined;
                Change::Joined { created: false }
            }
            _ => {
                self.state = State::Absent;
                Change::Refused(fault)
            }
        }
    }
}

/// Whether the occupant of this speaker would take this nick.
pub(super) fn may_be(speaker: &Speaker, nick: &str) -> bool {
    let base = ident::nick(&speaker.name, &speaker.id);
    Nicks::new(base, speaker.label.clone(), &speaker.id).may_be(nick)
}

fn loss(codes: &[&str]) -> Loss {
    if codes.contains(&"301") {
        Loss::Ban
    } else if codes.contains(&"307") && !codes.contains(&"333") {
        // With 333 it was an error, and nobody's will (XEP-0045).
        Loss::Kick
    } else {
        Loss::Other
    }
}

fn reason(code: &str) -> Option<&'static str> {
    Some(match code {
        "301" => "banned from the room",
        "307" => "put out of the room",
        "321" => "lost the affiliation that the room asks for",
        "322" => "the room is for members only now",
        "332" => "the room's service shut down",
        "333" => "removed after an error",
        _ => return None,
    })
}

/// The nicks to try, one after the other: the name, the name with where it is from, then numbers.
#[derive(Debug)]
struct Nicks {
    base: String,
    plain_base: String,
    /// As a room would make it (RFC 7622 §3.4): what it shows need not be what was asked for.
    prepared_base: String,
    label: String,
    plain: bool,
    step: u32,
}

impl Nicks {
    fn new(base: String, label: String, id: &str) -> Self {
        Self {
            plain_base: ident::plain_nick(&base, id),
            prepared_base: ident::prepared_nick(&base),
            base,
            label,
            plain: false,
            step: 0,
        }
    }

    fn may_be(&self, nick: &str) -> bool {
        [&self.base, &self.plain_base, &self.prepared_base]
            .into_iter()
            .any(|base| {
                nick.strip_prefix(base.as_str()).is_some_and(|rest| {
                    rest.is_empty() || rest.starts_with(&format!(" [{}]", self.label))
                })
            })
    }

    fn current(&self) -> String {
        let base = if self.plain {
            &self.plain_base
        } else {
            &self.base
        };
        match self.step {
            0 => base.clone(),
            1 => format!("{base} [{}]", self.label),
            n => format!("{base} [{}] {n}", self.label),
        }
    }
}
