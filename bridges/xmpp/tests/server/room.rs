//! The room: who is in it, what was said, and the answers that a room gives.

use comity_bridge::test_util::conformance::Record;
use minidom::Element;

use super::{ROOM, escape};

const MUC: &str = "http://jabber.org/protocol/muc";
const COMPONENT: &str = "jabber:component:accept";
const PAGE: usize = 5;

pub(crate) struct Room {
    record: Record,
    archives: bool,
    /// Nick and full JID; they stay when the component's connection is cut, as in a real room.
    occupants: Vec<(String, String)>,
    archive: Vec<Line>,
}

#[derive(Clone)]
struct Line {
    nick: String,
    id: String,
    /// Escaped.
    body: String,
}

impl Room {
    pub(crate) fn new(record: Record, archives: bool) -> Self {
        Self {
            record,
            archives,
            occupants: Vec::new(),
            archive: Vec::new(),
        }
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
            let delay = format!(
                "<delay xmlns='urn:xmpp:delay' from='{ROOM}' stamp='2024-01-01T00:00:00Z'/>"
            );
            let past = self.archive.iter().enumerate().rev().take(20).rev();
            answers.extend(past.map(|(n, line)| self.copy(n, line, &f, &delay)));
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
            Some(query) if self.archives => {
                let rsm = "http://jabber.org/protocol/rsm";
                let after = query
                    .get_child("set", rsm)
                    .and_then(|set| set.get_child("after", rsm))
                    .map(Element::text);
                let from_index = after
                    .and_then(|after| after.strip_prefix("sid-")?.parse::<usize>().ok())
                    .map_or(0, |n| n + 1);
                let queryid = escape(query.attr("queryid").unwrap_or_default());
                let end = (from_index + PAGE).min(self.archive.len());
                let mut answers: Vec<String> = (from_index..end)
                    .map(|n| {
                        let line = &self.archive[n];
                        let inner = self.copy(n, line, "", "").replacen("<message", "<message xmlns='jabber:client'", 1);
                        format!(
                            "<message from='{ROOM}' to='{from}'><result xmlns='urn:xmpp:mam:2' queryid='{queryid}' id='sid-{n}'>\
                             <forwarded xmlns='urn:xmpp:forward:0'>{inner}</forwarded></result></message>"
                        )
                    })
                    .collect();
                let complete = if end == self.archive.len() {
                    " complete='true'"
                } else {
                    ""
                };
                let last = end
                    .checked_sub(1)
                    .map(|n| format!("<last>sid-{n}</last>"))
                    .unwrap_or_default();
                answers.push(result(&format!(
                    "<fin xmlns='urn:xmpp:mam:2'{complete}><set xmlns='{rsm}'>{last}</set></fin>"
                )));
                answers
            }
            _ => vec![result("")],
        }
    }

    fn add(&mut self, nick: &str, id: &str, body: &str) -> Vec<String> {
        self.archive.push(Line {
            nick: nick.to_owned(),
            id: id.to_owned(),
            body: body.to_owned(),
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
        let Line { nick, id, body } = line;
        format!(
            "<message type='groupchat' from='{ROOM}/{}' to='{to}' id='{id}'><body>{body}</body>\
             <stanza-id xmlns='urn:xmpp:sid:0' by='{ROOM}' id='sid-{n}'/>{delay}</message>",
            escape(nick)
        )
    }
}

fn available(nick: &str, to: &str, status: &str) -> String {
    format!(
        "<presence from='{ROOM}/{nick}' to='{to}'><x xmlns='{MUC}#user'><item affiliation='none' role='participant'/>{status}</x></presence>"
    )
}
