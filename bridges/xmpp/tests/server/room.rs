//! The room: who is in it, what was said, and the answers that a room gives.

use comity_bridge::test_util::conformance::Record;
use minidom::Element;

use super::{ROOM, escape};

const MUC: &str = "http://jabber.org/protocol/muc";
const COMPONENT: &str = "jabber:component:accept";
const RSM: &str = "http://jabber.org/protocol/rsm";
const PAGE: usize = 50;

pub(crate) struct Room {
    record: Record,
    archives: bool,
    /// Nick and full JID; they stay when the component's connection is cut, as in a real room.
    occupants: Vec<(String, String)>,
    archive: Vec<Line>,
    /// Differs for each room of this name: ids of an earlier one mean nothing.
    incarnation: u32,
    /// Messages that it shows of its past.
    history: usize,
}

#[derive(Clone)]
struct Line {
    nick: String,
    id: String,
    /// Escaped.
    body: String,
    stamp: String,
}

impl Room {
    pub(crate) fn new(record: Record, archives: bool) -> Self {
        Self {
            record,
            archives,
            occupants: Vec::new(),
            archive: Vec::new(),
            incarnation: 0,
            history: 20,
        }
    }

    /// The room is destroyed and made anew: nothing of it is left but its name.
    pub(crate) fn make_anew(&mut self) {
        self.archive.clear();
        self.incarnation += 1;
    }

    /// How much of its past it shows.
    pub(crate) fn show_past(&mut self, messages: usize) {
        self.history = messages;
    }

    /// A stranger's line, with an id as bad clients make them: the same each time.
    pub(crate) fn say(&mut self, nick: &str, body: &str) -> Vec<String> {
        self.add(nick, "m1", body)
    }

    pub(crate) fn repeat(&mut self) -> Vec<String> {
        self.show(self.archive.len().saturating_sub(1))
    }

    pub(crate) fn presence(&mut self, presence: &Element) -> Vec<String> {
        let (Some(from), Some(to)) = (presence.attr("from"), presence.attr("to")) else {
            self.record
                .surprise("a presence without sender or recipient");
            return Vec::new();
        };
        let Some(nick) = to.strip_prefix(&format!("{ROOM}/")) else {
            self.record.surprise(format!("a presence to {to}"));
            return Vec::new();
        };
        let (f, n) = (escape(from), escape(nick));
        if presence.attr("type") == Some("unavailable") {
            self.occupants.retain(|(_, jid)| jid != from);
            return vec![format!(
                "<presence type='unavailable' from='{ROOM}/{n}' to='{f}'><x xmlns='{MUC}#user'><item role='none'/><status code='110'/></x></presence>"
            )];
        }
        if self
            .occupants
            .iter()
            .any(|(held, jid)| held == nick && jid != from)
        {
            let id = escape(presence.attr("id").unwrap_or_default());
            return vec![format!(
                "<presence type='error' id='{id}' from='{ROOM}/{n}' to='{f}'><error type='cancel'><conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>"
            )];
        }
        self.occupants.retain(|(_, jid)| jid != from);
        let mut answers: Vec<String> = self
            .occupants
            .iter()
            .map(|(other, _)| available(&escape(other), &f, ""))
            .collect();
        self.occupants.push((nick.to_owned(), from.to_owned()));
        answers.push(available(&n, &f, "<status code='110'/>"));
        let history = presence
            .get_child("x", MUC)
            .and_then(|x| x.get_child("history", MUC))
            .and_then(|h| h.attr("maxstanzas"));
        if history != Some("0") {
            let past = self.archive.iter().enumerate().rev().take(self.history);
            answers.extend(past.rev().map(|(n, line)| {
                let delay = format!(
                    "<delay xmlns='urn:xmpp:delay' from='{ROOM}' stamp='{}'/>",
                    line.stamp
                );
                self.copy(n, line, &f, &delay)
            }));
        }
        answers.push(format!(
            "<message type='groupchat' from='{ROOM}' to='{f}'><subject/></message>"
        ));
        answers
    }

    pub(crate) fn message(&mut self, message: &Element) -> Vec<String> {
        let (from, id) = (
            message.attr("from").unwrap_or_default(),
            message.attr("id").unwrap_or_default(),
        );
        if message.attr("type") == Some("error") {
            return Vec::new();
        }
        if message.attr("type") != Some("groupchat") || message.attr("to") != Some(ROOM) {
            self.record
                .surprise(format!("a message that is not for the room: {message:?}"));
            return Vec::new();
        }
        let Some((nick, _)) = self.occupants.iter().find(|(_, jid)| jid == from) else {
            let (f, id) = (escape(from), escape(id));
            return vec![format!(
                "<message type='error' id='{id}' from='{ROOM}' to='{f}'><error type='cancel'><not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"
            )];
        };
        let bodies: Vec<String> = message
            .children()
            .filter(|child| child.is("body", COMPONENT))
            .map(Element::text)
            .collect();
        let [body] = &bodies[..] else {
            self.record
                .surprise(format!("a message of {} bodies", bodies.len()));
            return Vec::new();
        };
        self.record.show(nick.clone(), body.clone());
        let (nick, body) = (nick.clone(), escape(body));
        self.add(&nick, &escape(id), &body)
    }

    pub(crate) fn iq(&mut self, iq: &Element) -> Vec<String> {
        if !matches!(iq.attr("type"), Some("get" | "set")) {
            return Vec::new();
        }
        let [from, to, id] =
            ["from", "to", "id"].map(|name| escape(iq.attr(name).unwrap_or_default()));
        let result = |payload: &str| {
            format!("<iq type='result' id='{id}' from='{to}' to='{from}'>{payload}</iq>")
        };
        if iq.has_child("query", "http://jabber.org/protocol/disco#info") {
            let features = match self.archives {
                true => "<feature var='urn:xmpp:sid:0'/><feature var='urn:xmpp:mam:2'/>",
                false => "<feature var='urn:xmpp:sid:0'/>",
            };
            return vec![result(&format!(
                "<query xmlns='http://jabber.org/protocol/disco#info'>{features}</query>"
            ))];
        }
        match iq.get_child("query", "urn:xmpp:mam:2") {
            Some(query) if self.archives => self.answer_query(query, &from, &to, &id),
            _ => vec![result("")],
        }
    }

    /// A page of the archive (XEP-0313): from the place after `after`, or the last ones for an empty `before`.
    fn answer_query(&self, query: &Element, from: &str, to: &str, id: &str) -> Vec<String> {
        let set = query.get_child("set", RSM);
        let field = |name| {
            set.and_then(|set| set.get_child(name, RSM))
                .map(Element::text)
        };
        let max = field("max")
            .and_then(|max| max.parse().ok())
            .unwrap_or(PAGE);
        let max = PAGE.min(max);
        let start = query
            .get_child("x", "jabber:x:data")
            .into_iter()
            .flat_map(|form| form.children())
            .find(|field| field.attr("var") == Some("start"))
            .and_then(|field| field.get_child("value", "jabber:x:data"))
            .map(Element::text);
        let count = self.archive.len();
        let first = match (field("after"), field("before"), start) {
            (Some(after), ..) => match self.place(&after) {
                Some(place) => place + 1,
                None => {
                    return vec![format!(
                        "<iq type='error' id='{id}' from='{to}' to='{from}'><error type='modify'>\
                         <item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
                    )];
                }
            },
            (None, Some(_), _) => count.saturating_sub(max),
            (None, None, Some(start)) => self.archive.partition_point(|line| line.stamp < start),
            (None, None, None) => 0,
        };
        let queryid = escape(query.attr("queryid").unwrap_or_default());
        let end = (first + max).min(count);
        let mut answers: Vec<String> = (first..end)
            .map(|n| {
                let line = &self.archive[n];
                let (stanza_id, stamp) = (self.id(n), &line.stamp);
                let inner = self.copy(n, line, "", "").replacen("<message", "<message xmlns='jabber:client'", 1);
                format!(
                    "<message from='{ROOM}' to='{from}'><result xmlns='urn:xmpp:mam:2' queryid='{queryid}' id='{stanza_id}'>\
                     <forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='{stamp}'/>{inner}</forwarded></result></message>"
                )
            })
            .collect();
        let complete = if end == count { " complete='true'" } else { "" };
        let last = if end > first {
            format!("<last>{}</last>", self.id(end - 1))
        } else {
            String::new()
        };
        answers.push(format!(
            "<iq type='result' id='{id}' from='{to}' to='{from}'>\
             <fin xmlns='urn:xmpp:mam:2'{complete}><set xmlns='{RSM}'>{last}</set></fin></iq>"
        ));
        answers
    }

    fn id(&self, n: usize) -> String {
        format!("sid-{}-{n}", self.incarnation)
    }

    fn place(&self, id: &str) -> Option<usize> {
        let n = id.strip_prefix(&format!("sid-{}-", self.incarnation))?;
        n.parse().ok().filter(|n| *n < self.archive.len())
    }

    fn add(&mut self, nick: &str, id: &str, body: &str) -> Vec<String> {
        self.archive.push(Line {
            nick: nick.to_owned(),
            id: id.to_owned(),
            body: body.to_owned(),
            stamp: now(),
        });
        self.show(self.archive.len() - 1)
    }

    /// The copies of a line, one for each occupant.
    fn show(&self, n: usize) -> Vec<String> {
        self.occupants
            .iter()
            .map(|(_, jid)| self.copy(n, &self.archive[n], &escape(jid), ""))
            .collect()
    }

    fn copy(&self, n: usize, line: &Line, to: &str, delay: &str) -> String {
        let Line { nick, id, body, .. } = line;
        format!(
            "<message type='groupchat' from='{ROOM}/{}' to='{to}' id='{id}'><body>{body}</body>\
             <stanza-id xmlns='urn:xmpp:sid:0' by='{ROOM}' id='{}'/>{delay}</message>",
            escape(nick),
            self.id(n)
        )
    }
}

/// The time, as a stamp with a fraction, so that stamps sort as times do.
fn now() -> String {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (mut year, mut day) = (1970, days);
    // Good until the year 2100.
    let is_leap = |year: u64| year.is_multiple_of(4);
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [
        31,
        28 + u64::from(is_leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
    ] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    format!(
        "{year:04}-{month:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        day + 1,
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60,
        since.subsec_millis()
    )
}

fn available(nick: &str, to: &str, status: &str) -> String {
    format!(
        "<presence from='{ROOM}/{nick}' to='{to}'><x xmlns='{MUC}#user'><item affiliation='none' role='participant'/>{status}</x></presence>"
    )
}
