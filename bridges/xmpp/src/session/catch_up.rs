//! What was said while nobody here was listening, read from the room's archive (XEP-0313).
//!
//! The archive is read from the last message heard on, a page at a time, and a page is asked for only when the gateway
//! has room for it. What is said meanwhile is held back, so that everything is told in the room's order. A room that is
//! entered for the first time begins at its end: nothing is imported.
//!
//! An archive that does not know the last message (it has expired, the room was made anew, the server is another one) is
//! read by time; what it has lost is a gap.

use std::time::{Duration, Instant};

use super::archive::{self, Archived, Fin, From};
use super::doubt::Certainty;
use super::fault::Fault;
use super::iq::Asked;
use super::room::Room;
use super::{Context, Output};
use crate::ident::Jid;
use crate::wire::Element;

/// Rooms of one network that are read at the same time.
const MAX_READING: usize = 4;
/// Places in front of the journal without which no page is asked for.
const MIN_FREE: usize = 100;
/// How often an archive is asked that does not answer, before the room is entered anew.
const MAX_FAILURES: u32 = 5;
/// How long that goes on before the room is heard without its archive.
const PATIENCE: Duration = Duration::from_secs(60 * 60);
/// How far the room's clock may be from ours.
const SLACK_MS: i64 = 60 * 1_000;
/// What is so much older than the last moment heard may not be after it.
const DOUBTFUL_MS: i64 = 5 * 60 * 1_000;

/// An archive being read.
#[derive(Debug)]
pub(super) struct CatchUp {
    /// The id of the query; none between two pages.
    query: Option<String>,
    goal: Goal,
    from: From,
    /// Not before this.
    next: Instant,
    failures: u32,
    /// The gateway had no place for all of this page.
    overflowed: bool,
    /// The first message of a page that may not begin where it should.
    doubtful: Option<String>,
    /// The place is known to be in the archive.
    is_sure: bool,
    /// The last message of this page that was told.
    told: Option<String>,
    /// The one message that was asked for, to know where the archive begins or ends.
    probe: Option<(String, Option<i64>)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Goal {
    /// Everything from a place on.
    Read,
    /// The newest message, to begin after it.
    Newest,
    /// The oldest message, since our place is not known.
    Oldest,
    /// The message in front of one that should be the first after our place: it is the one at our place, if that is known.
    Check,
}

impl CatchUp {
    fn new(goal: Goal, from: From, next: Instant) -> Self {
        Self {
            query: None,
            goal,
            from,
            next,
            failures: 0,
            overflowed: false,
            doubtful: None,
            is_sure: false,
            told: None,
            probe: None,
        }
    }

    /// Whether what is said now must wait.
    pub(super) fn holds(&self) -> bool {
        self.goal != Goal::Newest
    }

    /// What has been told of a page that broke off is not asked for again.
    fn go_on(&mut self) {
        if let Some(told) = self.told.take() {
            self.from = From::After(told);
        }
    }

    pub(super) fn is_query(&self, id: &str) -> bool {
        self.query.as_deref() == Some(id)
    }
}

impl Room {
    /// The observer is in, and the room keeps an archive.
    pub(super) fn start_catch_up(&mut self, cx: &mut Context, now: Instant) {
        let (goal, from) = match &self.mark {
            None => (Goal::Newest, From::End),
            Some(mark) if mark.last.is_empty() => (Goal::Read, From::Since(self.since(cx))),
            Some(mark) => (Goal::Read, From::After(mark.last.clone())),
        };
        self.catch_up = Some(CatchUp::new(goal, from, now));
        self.ask_page(cx, now);
    }

    /// A moment before which everything was heard, by the room's clock.
    fn since(&self, cx: &Context) -> i64 {
        let heard = self.mark.as_ref().map_or(cx.wall_ms, |mark| mark.heard_ms);
        heard.min(cx.wall_ms) - SLACK_MS
    }

    /// Asks for the next page, when it is time and there is a place for it.
    pub(super) fn ask_page(&mut self, cx: &mut Context, now: Instant) {
        let Some(catch_up) = &mut self.catch_up else {
            return;
        };
        let is_probe = catch_up.goal != Goal::Read;
        if catch_up.query.is_some()
            || catch_up.next > now
            || cx.reading >= MAX_READING
            || (!is_probe && cx.free < MIN_FREE)
        {
            return;
        }
        let max = if is_probe {
            1
        } else {
            archive::PAGE.min(cx.free)
        };
        let id = cx.next_id();
        catch_up.query = Some(id.clone());
        catch_up.overflowed = false;
        catch_up.told = None;
        let query = archive::query(&id, &catch_up.from, max).build();
        cx.reading += 1;
        let (from, room) = (self.observer.jid.clone(), self.jid.clone());
        let asked = Asked::CatchUp(room.clone(), id);
        if !cx.ask(now, &from, room.as_str(), "set", query, asked) {
            cx.reading -= 1;
            catch_up.query = None;
        }
    }

    /// A message of the page that was asked for.
    pub(super) fn handle_caught_up(&mut self, cx: &mut Context, archived: &Archived<'_>) {
        let Some(catch_up) = &mut self.catch_up else {
            return;
        };
        if catch_up.goal != Goal::Read {
            catch_up.probe = Some((archived.id.to_owned(), archived.stamp_ms));
            return;
        }
        let heard = self.mark.as_ref().map_or(i64::MIN, |mark| mark.heard_ms);
        let is_old = |ms| ms < heard.saturating_sub(DOUBTFUL_MS);
        if matches!(catch_up.from, From::After(_))
            && !catch_up.is_sure
            && archived.stamp_ms.is_some_and(is_old)
        {
            // ejabberd 23.01 does not say that it does not know a place: it begins at its beginning. Or a clock is wrong.
            catch_up.doubtful = Some(archived.id.to_owned());
        }
        catch_up.is_sure = true;
        if catch_up.overflowed || catch_up.doubtful.is_some() {
            return;
        }
        let from = archived.message.attr("from").and_then(Jid::parse);
        let Some(from) = from.filter(|from| from.bare == self.jid) else {
            return cx.skip(
                "malformed",
                format!("{}: archived from elsewhere", self.jid),
            );
        };
        if cx.free == 0 {
            catch_up.overflowed = true;
            return;
        }
        let is_told = self.hear_archived(cx, &from, archived);
        if let Some(catch_up) = &mut self.catch_up {
            match is_told {
                true => catch_up.told = Some(archived.id.to_owned()),
                false => catch_up.overflowed = true,
            }
        }
    }

    pub(super) fn handle_page_end(
        &mut self,
        cx: &mut Context,
        id: &str,
        answer: Result<&Element, Fault>,
        now: Instant,
    ) {
        let Some(catch_up) = self.catch_up.as_mut().filter(|it| it.is_query(id)) else {
            return;
        };
        catch_up.query = None;
        match (catch_up.goal, answer) {
            (Goal::Read, Ok(_)) if catch_up.doubtful.is_some() => {
                let next = catch_up.doubtful.take().unwrap_or_default();
                self.catch_up = Some(CatchUp::new(Goal::Check, From::Before(next), now));
                self.ask_page(cx, now);
            }
            (Goal::Check, Ok(_)) => {
                let place = catch_up.probe.take().map(|(id, _)| id);
                match (place, &self.mark) {
                    (Some(place), Some(mark)) if place == mark.last => {
                        let mut read = CatchUp::new(Goal::Read, From::After(place), now);
                        read.is_sure = true;
                        self.catch_up = Some(read);
                        self.ask_page(cx, now);
                    }
                    _ => self.look_for_oldest(cx, now),
                }
            }
            (Goal::Read, Ok(iq)) => {
                catch_up.failures = 0;
                let fin = archive::fin(iq, &catch_up.from);
                match fin {
                    _ if catch_up.overflowed => {
                        catch_up.go_on();
                        self.ask_page(cx, now);
                    }
                    Fin::Next(last) => {
                        catch_up.from = From::After(last);
                        self.ask_page(cx, now);
                    }
                    Fin::Complete => self.caught_up(cx, now),
                }
            }
            (Goal::Newest, Ok(_)) => {
                let last = catch_up.probe.take().map(|(id, _)| id);
                self.catch_up = None;
                self.archive_fails = None;
                self.past.clear();
                // What was said meanwhile is newer.
                if self.mark.is_none() {
                    self.begin(cx, last.unwrap_or_default(), now);
                }
            }
            (Goal::Oldest, Ok(_)) => {
                let oldest = catch_up.probe.take();
                self.read_what_is_left(cx, oldest, now);
            }
            (Goal::Read | Goal::Check, Err(fault))
                if fault.condition == "item-not-found"
                    && matches!(catch_up.from, From::After(_) | From::Before(_)) =>
            {
                self.look_for_oldest(cx, now);
            }
            (_, Err(fault)) if archive::is_final(&fault) => {
                self.give_archive_up(cx, &fault.why(), now);
            }
            (_, Err(fault)) => self.page_failed(cx, &fault.why(), now),
        }
    }

    fn look_for_oldest(&mut self, cx: &mut Context, now: Instant) {
        self.catch_up = Some(CatchUp::new(Goal::Oldest, From::Beginning, now));
        self.ask_page(cx, now);
    }

    /// Our place is not in the archive. With the oldest message it is known whether anything is missing between.
    fn read_what_is_left(
        &mut self,
        cx: &mut Context,
        oldest: Option<(String, Option<i64>)>,
        now: Instant,
    ) {
        let heard = self.mark.as_ref().map_or(cx.wall_ms, |mark| mark.heard_ms);
        self.certainty = Certainty::default();
        if let Some(mark) = &mut self.mark {
            mark.last.clear();
            mark.sure = None;
        }
        let from = match oldest {
            // An empty archive has lost everything up to now.
            None => {
                self.gap(cx, heard, cx.wall_ms);
                return self.caught_up(cx, now);
            }
            Some((_, Some(stamp))) if stamp > heard => {
                self.gap(cx, heard, stamp);
                From::Beginning
            }
            Some(_) => From::Since(self.since(cx)),
        };
        self.catch_up = Some(CatchUp::new(Goal::Read, from, now));
        self.ask_page(cx, now);
    }

    /// Nobody has answered, or the archive cannot now.
    pub(super) fn page_failed(&mut self, cx: &mut Context, why: &str, now: Instant) {
        let Some(catch_up) = &mut self.catch_up else {
            return;
        };
        catch_up.query = None;
        catch_up.failures += 1;
        if catch_up.failures >= MAX_FAILURES && catch_up.goal == Goal::Newest {
            // Nothing was missed yet. The next reading begins at this moment.
            self.catch_up = None;
            if self.mark.is_none() {
                self.begin(cx, String::new(), now);
            }
            return;
        }
        if catch_up.failures >= MAX_FAILURES {
            let since = *self.archive_fails.get_or_insert(now);
            if now.duration_since(since) >= PATIENCE {
                return self.give_archive_up(cx, why, now);
            }
            // To go on without it would be to leave out what it has. The next entry begins where this one did.
            let why = format!("the room's archive cannot be read: {why}");
            return self.out(cx, why, Duration::ZERO, now);
        }
        catch_up.next = now + Duration::from_secs(1 << catch_up.failures);
        catch_up.go_on();
    }

    /// The archive is not for us, at least until the next entry. What the room showed when the observer came may do instead;
    /// what not is a gap.
    fn give_archive_up(&mut self, cx: &mut Context, why: &str, now: Instant) {
        cx.skip("gap", format!("{}: the archive: {why}", self.jid));
        self.features.archive = false;
        self.catch_up = None;
        self.fill_from_past(cx, now);
        self.release(cx, now);
    }

    /// The archive has been read to its end: what was held back is told, and the room is heard as it speaks.
    fn caught_up(&mut self, cx: &mut Context, now: Instant) {
        self.catch_up = None;
        self.archive_fails = None;
        self.past.clear();
        if self.lost.take().is_some() {
            // More was said than could be held back; the archive has it by now.
            self.drop_held(cx);
            return self.start_catch_up(cx, now);
        }
        self.release(cx, now);
        self.told.clear();
        self.keep_mark(cx, now);
    }

    /// Reads on after the gateway had no place.
    pub(super) fn resume_catch_up(&mut self, cx: &mut Context, now: Instant) {
        if self.catch_up.is_some() {
            self.ask_page(cx, now);
        } else if self.lost.is_some() && self.features.archive && cx.free >= MIN_FREE {
            self.lost = None;
            self.start_catch_up(cx, now);
        }
    }

    pub(super) fn gap(&mut self, cx: &mut Context, from_ms: i64, until_ms: i64) {
        cx.free = cx.free.saturating_sub(1);
        cx.out.push_back(Output::Gap {
            room: self.jid.clone(),
            from_ms: from_ms.min(until_ms),
            until_ms,
        });
    }
}
