//! What is known to have landed in a room, and the search of its archive for it (XEP-0313).
//!
//! After a crash or a cut a delivery comes back in doubt. Before it is sent again, its stanza id
//! is looked for: among what this connection has seen, then in the room's archive; a room without
//! an archive shows what it has when the observer joins.

use std::collections::{HashMap, VecDeque};

use crate::ident::{Bare, Jid, PartIds};
use crate::wire::{Build, Element, child, element, ns};

/// Ids remembered per room.
const MAX_RECENT: usize = 4_096;
/// Archived messages asked for at a time; a server gives as many as it likes (Prosody 0.12: 50).
const PAGE: u32 = 250;
/// Pages of one search. 200 pages of 50 are more than a busy room says in a day.
const MAX_PAGES: u32 = 200;
/// How far the room's clock may be behind ours.
const SLACK_MS: i64 = 5 * 60 * 1000;

/// Ids of our stanzas, the latest ones, with something known of each.
#[derive(Debug, Default)]
pub(super) struct Recent {
    ids: HashMap<String, Option<String>>,
    order: VecDeque<String>,
}

impl Recent {
    pub(super) fn insert(&mut self, id: &str, what: Option<String>) {
        if self.ids.insert(id.to_owned(), what).is_none() {
            self.order.push_back(id.to_owned());
        }
        if self.order.len() > MAX_RECENT
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }

    pub(super) fn get(&self, id: &str) -> Option<&Option<String>> {
        self.ids.get(id)
    }
}

/// A search under way.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) query: String,
    start_ms: i64,
    pages: u32,
    /// The jobs that it answers for.
    pub(super) jobs: Vec<u64>,
}

/// What one page says about the search.
#[derive(Debug, PartialEq)]
pub(super) enum Page {
    /// There is more after this id.
    Next(String),
    Complete,
    /// More than is worth reading.
    Endless,
}

impl Scan {
    pub(super) fn new(query: String, since_ms: i64, jobs: Vec<u64>) -> Self {
        Self {
            query,
            start_ms: since_ms.saturating_sub(SLACK_MS),
            pages: 0,
            jobs,
        }
    }

    /// The query for the page after `after`.
    pub(super) fn page(&mut self, after: Option<&str>) -> Build {
        self.pages += 1;
        let field = |var: &str, value: String| {
            element("field", DATA)
                .attr("var", var)
                .child(element("value", DATA).text(&value))
        };
        let form = element("x", DATA)
            .attr("type", "submit")
            .child(field("FORM_TYPE", ns::MAM.to_owned()).attr("type", "hidden"))
            .child(field("start", date_time(self.start_ms)));
        let mut set =
            element("set", ns::RSM).child(element("max", ns::RSM).text(&PAGE.to_string()));
        if let Some(after) = after {
            set = set.child(element("after", ns::RSM).text(after));
        }
        element("query", ns::MAM)
            .attr("queryid", self.query.clone())
            .child(form)
            .child(set)
    }

    /// The end of a page.
    pub(super) fn handle_fin(&self, iq: &Element) -> Page {
        let Some(fin) = child(iq, "fin", ns::MAM) else {
            return Page::Complete;
        };
        let last = child(fin, "set", ns::RSM)
            .and_then(|set| child(set, "last", ns::RSM))
            .map(Element::text);
        match last {
            Some(last) if !last.is_empty() && fin.attr("complete") != Some("true") => {
                if self.pages >= MAX_PAGES {
                    Page::Endless
                } else {
                    Page::Next(last)
                }
            }
            _ => Page::Complete,
        }
    }

    /// Our id of an archived message and the archive's own, if it is a message of ours and part of this search.
    /// Only the room itself may answer: anybody can send something that looks like a result (XEP-0313 §8.1).
    pub(super) fn result(
        &self,
        room: &Bare,
        from: &Jid,
        message: &Element,
        ids: &PartIds,
    ) -> Option<(String, String)> {
        let result = child(message, "result", ns::MAM)?;
        if from.bare != *room
            || from.resource.is_some()
            || result.attr("queryid") != Some(&self.query)
        {
            return None;
        }
        let inner = child(
            child(result, "forwarded", ns::FORWARD)?,
            "message",
            ns::CLIENT,
        )?;
        Some((our_id(inner, ids)?, result.attr("id")?.to_owned()))
    }

    /// Lets the search answer for one more job, if it goes back far enough.
    pub(super) fn covers(&mut self, job: u64, since_ms: i64) -> bool {
        let covered = since_ms.saturating_sub(SLACK_MS) >= self.start_ms;
        if covered && !self.jobs.contains(&job) {
            self.jobs.push(job);
        }
        covered
    }
}

const DATA: &str = "jabber:x:data";

/// The id of a message, if it is one that we give: its origin id or, where that was lost, its own.
pub(super) fn our_id(message: &Element, ids: &PartIds) -> Option<String> {
    let origin = child(message, "origin-id", ns::SID).and_then(|origin| origin.attr("id"));
    origin
        .into_iter()
        .chain(message.attr("id"))
        .find(|id| ids.read(id).is_some())
        .map(str::to_owned)
}

/// XEP-0082's form of a time, in UTC.
fn date_time(ms: i64) -> String {
    let (days, rest) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // Days to civil date in the proleptic Gregorian calendar, years beginning in March.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 {
        month_index + 3
    } else {
        month_index - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_xep_0082_wants() {
        assert_eq!(date_time(0), "1970-01-01T00:00:00Z");
        assert_eq!(date_time(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(date_time(1_732_280_000_123), "2024-11-22T12:53:20Z");
        assert_eq!(date_time(-1), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn what_is_recent_is_remembered_in_bounded_memory() {
        let mut recent = Recent::default();
        for n in 0..MAX_RECENT + 10 {
            recent.insert(&n.to_string(), None);
        }
        assert_eq!(recent.ids.len(), MAX_RECENT);
        assert!(recent.get("0").is_none() && recent.get("4100").is_some());
    }
}
