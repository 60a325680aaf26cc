//! One room: the observer's place in it, and what comes from it.

use std::time::{Duration, Instant};

use comity_bridge::failpoint::reached;
use comity_net::Backoff;

use super::archive;
use super::catch_up::CatchUp;
use super::doubt::{Certainty, Scan};
use super::fault::Fault;
use super::features::Features;
use super::ghosts::Ghosts;
use super::hearing::Held;
use super::iq::Asked;
use super::landed::{Landed, Recent};
use super::mark::Mark;
use super::occupant::{Change, Loss, Occupant};
use super::past::Past;
use super::queue::Queue;
use super::{Context, Output, RoomState, Settings};
use crate::ident::{self, Bare, Jid};
use crate::wire::{Element, child, element, ns};

/// Messages of the room's past that the observer asks for: not to relay, but to know which of ours are there.
const HISTORY: u32 = 200;
/// A room that has been silent for so long is asked whether we are still in it (XEP-0410 §3.2).
const SILENCE: Duration = Duration::from_secs(10 * 60);
/// A refusal that only people can lift is tried again after this long at the earliest.
const REFUSED_WAIT: Duration = Duration::from_secs(30);
/// A room is tried again after this, and twice as long each time,
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// up to this.
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);
/// Somebody who puts the bot out is heeded for this long, and twice as long each time.
const KICKED_WAIT: Duration = Duration::from_secs(10);
/// A room in which we have been for so long has forgotten earlier failures.
const SETTLED: Duration = Duration::from_secs(10 * 60);

/// How far the observer has come.
#[derive(Debug, PartialEq)]
pub(super) enum Phase {
    /// Out, until then.
    Out {
        retry: Instant,
    },
    /// Asked to be let in.
    Entering,
    /// In, but the room still shows its past: until it has said what it can do.
    Settling,
    In,
}

pub(super) struct Room {
    pub(super) jid: Bare,
    pub(super) observer: Occupant,
    pub(super) ghosts: Ghosts,
    pub(super) queue: Queue,
    /// What has landed, with the room's id for it.
    pub(super) landed: Landed,
    /// What was said on this connection, with the nick that said it.
    pub(super) spoken: Recent<String>,
    pub(super) scan: Option<Scan>,
    pub(super) features: Features,
    pub(super) phase: Phase,
    /// How far it has been heard; none before it has been heard at all.
    pub(super) mark: Option<Mark>,
    /// Whether the mark has moved since it was kept.
    pub(super) dirty: bool,
    /// When the mark was last kept by itself.
    pub(super) kept: Instant,
    pub(super) certainty: Certainty,
    pub(super) catch_up: Option<CatchUp>,
    /// Since when the archive has failed, on one entry after the other.
    pub(super) archive_fails: Option<Instant>,
    /// What the archive has told in this catching up.
    pub(super) told: Recent<()>,
    /// What waits until what was said before it is known.
    pub(super) held: Held,
    /// What the room showed of its past when the observer came.
    pub(super) past: Past,
    /// Since when there has been no place for what is said.
    pub(super) lost: Option<i64>,
    /// Whether the room passes on when a late message was written.
    pub(super) keeps_delay: Option<bool>,
    /// When the observer was let in.
    pub(super) entered: Instant,
    backoff: Backoff,
    /// When the room last showed that the observer is in it, or was last asked.
    pub(super) asked: Instant,
    /// What the clock on the wall said when it last showed it.
    pub(super) seen_ms: i64,
    asked_presence: bool,
    pub(super) unnamed: u64,
}

impl Room {
    pub(super) fn new(jid: Bare, settings: &Settings, mark: Option<Mark>, now: Instant) -> Self {
        let observer = format!(
            "{}@{}/gateway",
            ident::ghost_node(&settings.nick),
            settings.component
        );
        let observer = Occupant::new(
            observer,
            ident::nick(&settings.nick, "comity"),
            "gateway".to_owned(),
            "comity",
        );
        Self {
            jid,
            observer,
            ghosts: Ghosts::default(),
            queue: Queue::default(),
            landed: Landed::default(),
            spoken: Recent::default(),
            scan: None,
            features: Features::default(),
            phase: Phase::Out { retry: now },
            mark,
            dirty: false,
            kept: now,
            certainty: Certainty::default(),
            catch_up: None,
            archive_fails: None,
            told: Recent::default(),
            held: Held::default(),
            past: Past::default(),
            lost: None,
            keeps_delay: None,
            entered: now,
            backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
            asked: now,
            seen_ms: 0,
            asked_presence: false,
            unnamed: 0,
        }
    }

    pub(super) fn is_joined(&self) -> bool {
        self.phase == Phase::In
    }

    /// Asks to be let in, if that has not happened yet.
    pub(super) fn enter(&mut self, cx: &mut Context, now: Instant) {
        if matches!(self.phase, Phase::Out { .. }) {
            self.phase = Phase::Entering;
            self.ask_to_enter(cx, now);
        }
    }

    fn ask_to_enter(&mut self, cx: &mut Context, now: Instant) {
        let id = cx.next_id();
        let presence = self.observer.join(&self.jid, id, now, HISTORY);
        cx.send(presence);
    }

    /// Leaves with everybody.
    pub(super) fn exit(&mut self, cx: &mut Context, online: bool, why: &str) {
        let mut goodbyes = self.ghosts.leave(&self.jid);
        goodbyes.extend(self.observer.leave(&self.jid));
        if online {
            goodbyes.into_iter().for_each(|presence| cx.send(presence));
        }
        self.give_back(cx, why);
    }

    pub(super) fn handle_disconnected(&mut self, cx: &mut Context, why: &str) {
        self.stop_hearing(cx);
        self.archive_fails = None;
        self.observer.forget();
        self.ghosts.forget();
        self.give_back(cx, why);
        self.phase = Phase::Out {
            retry: self.entered,
        };
        self.backoff.reset();
    }

    /// Ends what is under way: deliveries wait for the room to be joined again.
    pub(super) fn give_back(&mut self, cx: &mut Context, why: &str) {
        self.scan = None;
        self.asked_presence = false;
        let mut ends = Vec::new();
        self.queue.give_back(why, false, &mut ends);
        self.end(cx, ends);
    }

    pub(super) fn handle_presence(
        &mut self,
        cx: &mut Context,
        from: &Jid,
        to: &str,
        presence: &Element,
        now: Instant,
    ) {
        if to != self.observer.jid {
            return self.handle_ghost_presence(cx, from, to, presence, now);
        }
        match self.observer.handle(from, presence) {
            Change::Nothing => {}
            Change::Joined { created } => {
                reached("xmpp.joining");
                self.seen(cx, now);
                if self.phase == Phase::Entering {
                    self.settle_in(cx, created, now);
                }
            }
            Change::AskAgain => self.ask_to_enter(cx, now),
            Change::Refused(fault) => {
                let floor = if is_passing(&fault) {
                    Duration::ZERO
                } else {
                    REFUSED_WAIT
                };
                self.out(cx, refusal(&fault), floor, now);
            }
            Change::Lost { why, by } => {
                self.forget_failures(now);
                let floor = match by {
                    Loss::Ban => REFUSED_WAIT,
                    Loss::Kick => KICKED_WAIT
                        .saturating_mul(1 << self.backoff.tries().min(16))
                        .min(LONGEST_WAIT),
                    Loss::Other => Duration::ZERO,
                };
                self.out(cx, why, floor, now);
            }
        }
    }

    /// The observer is in. A new room may be locked until its configuration is accepted (XEP-0045 §10.1.2).
    fn settle_in(&mut self, cx: &mut Context, created: bool, now: Instant) {
        self.phase = Phase::Settling;
        if created {
            let form = element("x", "jabber:x:data").attr("type", "submit");
            let query = element("query", ns::MUC_OWNER).child(form).build();
            let (from, room) = (self.observer.jid.clone(), self.jid.clone());
            cx.ask(
                now,
                &from,
                room.as_str(),
                "set",
                query,
                Asked::Unlock(room.clone()),
            );
        } else {
            self.ask_features(cx, now);
        }
    }

    /// Also a barrier: a room answers after it has shown its past.
    fn ask_features(&mut self, cx: &mut Context, now: Instant) {
        let query = element("query", ns::DISCO_INFO).build();
        let (from, room) = (self.observer.jid.clone(), self.jid.clone());
        let asked = Asked::Features(room.clone());
        if !cx.ask(now, &from, room.as_str(), "get", query, asked) {
            self.unsettled(cx, "too many questions are open", now);
        }
    }

    fn settled(&mut self, cx: &mut Context, features: Features, now: Instant) {
        self.features = features;
        self.phase = Phase::In;
        self.entered = now;
        cx.out
            .push_back(Output::Room(self.jid.clone(), RoomState::Joined));
        if features.archive {
            self.start_catch_up(cx, now);
        } else {
            self.fill_from_past(cx, now);
        }
        if self.catch_up.as_ref().is_none_or(|it| !it.holds()) {
            self.release(cx, now);
        }
    }

    /// What the room can do is not known now. To guess would be to give up its archive, and the ids by which what is told
    /// twice is known.
    fn unsettled(&mut self, cx: &mut Context, why: &str, now: Instant) {
        let why = format!("the room does not say what it can do: {why}");
        self.out(cx, why, Duration::ZERO, now);
    }

    /// Out of the room, or not let in: everything comes back, and we try again later.
    pub(super) fn out(&mut self, cx: &mut Context, why: String, floor: Duration, now: Instant) {
        self.forget_failures(now);
        self.stop_hearing(cx);
        self.observer.forget();
        self.give_back(cx, &why);
        self.phase = Phase::Out {
            retry: now + self.backoff.next_wait().max(floor),
        };
        cx.out
            .push_back(Output::Room(self.jid.clone(), RoomState::NotJoined(why)));
    }

    /// A room that lets us in and out again is not entered again every second.
    fn forget_failures(&mut self, now: Instant) {
        if self.phase == Phase::In && now.duration_since(self.entered) >= SETTLED {
            self.backoff.reset();
        }
    }

    pub(super) fn handle_archived(&mut self, cx: &mut Context, from: &Jid, message: &Element) {
        let id = child(message, "result", ns::MAM).and_then(|result| result.attr("queryid"));
        let Some(id) = id else { return };
        let Some(archived) = archive::result(id, &self.jid, from, message) else {
            let detail = format!("{}: no message of its archive from {from}", self.jid);
            return cx.skip("malformed", detail);
        };
        if self.scan.as_ref().is_some_and(|scan| scan.is_query(id)) {
            self.handle_searched(cx, &archived);
        } else if self.catch_up.as_ref().is_some_and(|it| it.is_query(id)) {
            self.handle_caught_up(cx, &archived);
        }
    }

    pub(super) fn handle_answer(
        &mut self,
        cx: &mut Context,
        asked: &Asked,
        answer: Result<&Element, Fault>,
        now: Instant,
    ) {
        match (asked, answer) {
            (Asked::Features(_), answer) if self.phase == Phase::Settling => match answer {
                Ok(answer) => self.settled(cx, Features::read(answer), now),
                Err(fault) if is_passing(&fault) => self.unsettled(cx, &fault.why(), now),
                // A room that cannot say it is taken for one that can do nothing.
                Err(_) => self.settled(cx, Features::default(), now),
            },
            (Asked::Unlock(_), Ok(_)) if self.phase == Phase::Settling => {
                self.ask_features(cx, now)
            }
            (Asked::Unlock(_), Err(fault)) if self.phase == Phase::Settling => {
                self.out(
                    cx,
                    format!("the new room stays locked: {}", fault.why()),
                    REFUSED_WAIT,
                    now,
                );
            }
            (Asked::Archive(_, id), answer) => self.handle_search_end(cx, id, answer, now),
            (Asked::CatchUp(_, id), answer) => self.handle_page_end(cx, id, answer, now),
            // An answer from before we came in again says nothing.
            (Asked::Present(_), answer) if std::mem::take(&mut self.asked_presence) => {
                self.asked = now;
                match answer {
                    Err(fault) if is_absent(&fault) => self.was_out(cx, &fault.why(), now),
                    // Nobody could be asked.
                    Err(fault) if fault.condition.starts_with("remote-server-") => {}
                    // A service that does not know the question says so only to who is in the room.
                    _ => self.seen(cx, now),
                }
            }
            _ => {}
        }
    }

    /// Nobody has answered in time.
    pub(super) fn handle_silence(&mut self, cx: &mut Context, asked: &Asked, now: Instant) {
        match asked {
            Asked::Features(_) if self.phase == Phase::Settling => {
                self.unsettled(cx, "no answer", now);
            }
            Asked::Unlock(_) if self.phase == Phase::Settling => self.ask_features(cx, now),
            Asked::Archive(_, id) if self.scan.as_ref().is_some_and(|it| it.is_query(id)) => {
                self.searched(cx, false, now)
            }
            Asked::CatchUp(_, id) if self.catch_up.as_ref().is_some_and(|it| it.is_query(id)) => {
                self.page_failed(cx, "no answer", now)
            }
            Asked::Present(_) if std::mem::take(&mut self.asked_presence) => {
                self.was_out(cx, "it does not answer", now);
            }
            _ => {}
        }
    }

    pub(super) fn handle_time(&mut self, cx: &mut Context, now: Instant) {
        match self.phase {
            Phase::Out { retry } if retry <= now => self.enter(cx, now),
            Phase::Entering if self.observer.is_overdue(now) => {
                self.out(
                    cx,
                    "the room does not answer our join".to_owned(),
                    Duration::ZERO,
                    now,
                );
            }
            Phase::In => {
                self.handle_overdue(cx, now);
                self.resume_catch_up(cx, now);
                self.tell_lost(cx);
                self.keep_mark_in_time(cx, now);
                // A delivery in doubt may be waiting for the time to look for it.
                self.pump(cx, now);
                if now.duration_since(self.asked) > SILENCE {
                    self.ask_present(cx, now);
                }
            }
            _ => {}
        }
    }

    /// The room has let the observer go without a word, some time since it was last seen there.
    pub(super) fn was_out(&mut self, cx: &mut Context, why: &str, now: Instant) {
        let why = format!("the room does not know us any more: {why}");
        self.out(cx, why, Duration::ZERO, now);
        self.unhear(cx, now);
    }

    /// Asks the room whether the observer is in it still (XEP-0410).
    pub(super) fn ask_present(&mut self, cx: &mut Context, now: Instant) {
        if self.asked_presence || !self.observer.is_joined() {
            return;
        }
        let to = format!("{}/{}", self.jid, self.observer.nick());
        let from = self.observer.jid.clone();
        self.asked_presence = cx.ask(
            now,
            &from,
            &to,
            "get",
            element("ping", ns::PING).build(),
            Asked::Present(self.jid.clone()),
        );
    }
}

/// Whether an error will pass by itself.
fn is_passing(fault: &Fault) -> bool {
    fault.kind == "wait"
        || matches!(
            fault.condition.as_str(),
            "remote-server-timeout"
                | "remote-server-not-found"
                | "internal-server-error"
                | "resource-constraint"
                | "recipient-unavailable"
        )
}

/// XEP-0410 §3.2: which errors say that we are not in the room.
fn is_absent(fault: &Fault) -> bool {
    !matches!(
        fault.condition.as_str(),
        "service-unavailable"
            | "feature-not-implemented"
            | "item-not-found"
            | "remote-server-not-found"
            | "remote-server-timeout"
    )
}

/// What an error to our join means (XEP-0045 §7.2).
fn refusal(fault: &Fault) -> String {
    let meaning = match fault.condition.as_str() {
        "not-authorized" => "the room asks for a password",
        "forbidden" => "banned from the room",
        "registration-required" => "the room is for members only",
        "item-not-found" => "there is no such room, or it is locked",
        "not-allowed" => "the room cannot be made or entered",
        "not-acceptable" => "the room wants another nick",
        "service-unavailable" => "the room is full, or there is no such service",
        _ => "the room refuses us",
    };
    format!("{meaning}: {}", fault.why())
}
