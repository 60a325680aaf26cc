//! A server's part, spoken line by line.

use std::time::{Duration, Instant};

use comity_bridge::event::Content;

use super::super::{Job, Mark, Output, RoomState, Session, Settings, Speaker};
use crate::ident::{Bare, PartIds};
use crate::wire::{self, Read, Reader};

/// What the room can do, as its answer says it.
pub(super) const FEATURES: &str = "<query xmlns='http://jabber.org/protocol/disco#info'>\
    <feature var='urn:xmpp:sid:0'/><feature var='urn:xmpp:mam:2'/></query>";
/// The end of an archive.
pub(super) const COMPLETE: &str = "<fin xmlns='urn:xmpp:mam:2' complete='true'/>";
/// What the clock on the wall says when a script begins.
pub(super) const WALL_MS: i64 = 1_732_280_000_000;
const HEADER: &[u8] =
    b"<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' id='1'>";

/// A session, what it has said and told, and the time.
pub(super) struct Script {
    pub(super) session: Session,
    pub(super) now: Instant,
    /// The clock on the wall.
    pub(super) wall_ms: i64,
    /// What the gateway has a place for.
    pub(super) free: usize,
    /// The marks that were to be kept.
    pub(super) marks: Vec<Mark>,
    sent: Vec<String>,
    told: Vec<String>,
    presence: String,
    questions: Vec<String>,
}

impl Script {
    pub(super) fn new(ghosts: bool) -> Self {
        let settings = Settings {
            component: "bridge.example".to_owned(),
            nick: "comity".to_owned(),
            ghosts,
            ghosts_max: 2,
            epoch: "epoch".to_owned(),
            ids: PartIds::new("bridge.example"),
        };
        let mut session = Session::new(settings);
        let now = Instant::now();
        session.handle_clock(WALL_MS, WALL_MS, 1_000);
        session.handle_connected(now);
        Self {
            session,
            now,
            wall_ms: WALL_MS,
            free: 1_000,
            marks: Vec::new(),
            sent: Vec::new(),
            told: Vec::new(),
            presence: String::new(),
            questions: Vec::new(),
        }
    }

    /// A session whose observer is in `rust@muc.example`, and nothing said yet.
    pub(super) fn joined(ghosts: bool) -> Self {
        let mut script = Self::new(ghosts);
        script.join(super::ROOM);
        script.let_in();
        script.answer("disco#info", FEATURES);
        script.answer("mam:2", COMPLETE);
        script.pass(Duration::from_secs(1));
        script.clear();
        script.told.clear();
        script
    }

    pub(super) fn join(&mut self, room: &str) {
        self.join_from(room, None);
    }

    /// Joins a room that an earlier run has heard up to here.
    pub(super) fn join_from(&mut self, room: &str, mark: Option<Mark>) {
        self.session
            .join(&Bare::room(room).expect("a room"), mark, self.now);
        self.drain();
    }

    /// The room lets the observer in.
    pub(super) fn let_in(&mut self) {
        self.server(&self_presence(
            "comity",
            "comity@bridge.example/gateway",
            &["110"],
        ));
    }

    /// The connection is cut, and there is a new one.
    pub(super) fn reconnect(&mut self) {
        self.session.handle_disconnected("cut");
        self.session.handle_connected(self.now);
        self.drain();
    }

    /// The gateway has a place for so many.
    pub(super) fn places(&mut self, free: usize) {
        self.free = free;
        self.session
            .handle_clock(self.wall_ms, self.wall_ms, self.free);
    }

    /// The server sends this.
    pub(super) fn server(&mut self, stanza: &str) {
        let (mut reader, mut reads) = (Reader::new(), Vec::new());
        reader.feed(HEADER, &mut reads).expect("a header");
        reader.feed(stanza.as_bytes(), &mut reads).expect(stanza);
        for read in reads {
            match read {
                Read::Stanza(stanza) => self.session.handle_stanza(&stanza, self.now),
                Read::Skipped(skipped) => self.session.handle_skipped(&skipped),
                Read::Open { .. } | Read::Close => {}
            }
        }
        self.drain();
    }

    /// The room answers our last question about this with this payload.
    pub(super) fn answer(&mut self, about: &str, payload: &str) {
        let (id, from, to) = self.question(about);
        self.server(&format!(
            "<iq type='result' id='{id}' from='{to}' to='{from}'>{payload}</iq>"
        ));
    }

    pub(super) fn answer_error(&mut self, about: &str, condition: &str) {
        let (id, from, to) = self.question(about);
        self.server(&format!(
            "<iq type='error' id='{id}' from='{to}' to='{from}'>{}</iq>",
            error(condition, "cancel")
        ));
    }

    /// The room refuses the last presence that we sent.
    pub(super) fn refuse(&mut self, condition: &str, kind: &str) {
        let presence = self.presence.clone();
        let (id, from, to) = (
            attribute(&presence, "id"),
            attribute(&presence, "from"),
            attribute(&presence, "to"),
        );
        self.server(&format!(
            "<presence type='error' id='{id}' from='{to}' to='{from}'>{}</presence>",
            error(condition, kind)
        ));
    }

    /// The room sends one of our messages back.
    pub(super) fn bounce(&mut self, to: &str, id: &str, condition: &str, kind: &str) {
        self.server(&format!(
            "<message type='error' id='{id}' from='{}' to='{to}'>{}</message>",
            super::ROOM,
            error(condition, kind)
        ));
    }

    /// The room lets this ghost in.
    pub(super) fn ghost_in(&mut self, name: &str) {
        self.server(&self_presence(
            name,
            &format!("net\\2f{name}@bridge.example/ghost"),
            &["110"],
        ));
    }

    /// The room shows the observer a message with this id.
    pub(super) fn reflect(&mut self, nick: &str, id: &str, stanza_id: Option<&str>) {
        let sid = stanza_id.map(|id| {
            format!(
                "<stanza-id xmlns='urn:xmpp:sid:0' by='{}' id='{id}'/>",
                super::ROOM
            )
        });
        self.server(&format!(
            "<message type='groupchat' from='{}/{nick}' to='comity@bridge.example/gateway' id='{id}'><body>echo</body>\
             <origin-id xmlns='urn:xmpp:sid:0' id='{id}'/>{}</message>",
            super::ROOM,
            sid.unwrap_or_default()
        ));
    }

    pub(super) fn say(&mut self, id: u64, name: &str, text: &str) {
        self.submit(job(id, name, text));
    }

    pub(super) fn say_in_doubt(&mut self, id: u64, name: &str, text: &str) {
        self.submit(Job {
            doubt: true,
            ..job(id, name, text)
        });
    }

    pub(super) fn submit(&mut self, job: Job) {
        self.session
            .submit(&Bare::room(super::ROOM).expect("a room"), job, self.now);
        self.drain();
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.wall_ms += i64::try_from(time.as_millis()).expect("a short time");
        self.places(self.free);
        self.session.handle_time(self.now);
        self.drain();
    }

    /// The last stanza of this name since the last look holds all this. What was sent before it is looked at, too.
    pub(super) fn sent(&mut self, name: &str, holds: &[&str]) {
        self.drain();
        let sent = std::mem::take(&mut self.sent);
        let last = sent.iter().rfind(|stanza| stanza.starts_with(name));
        let last = last.unwrap_or_else(|| panic!("no {name} in {sent:#?}"));
        for part in holds {
            assert!(last.contains(part), "no {part} in {last}");
        }
    }

    /// Nothing has been sent since the last look.
    pub(super) fn nothing_sent(&mut self) -> bool {
        self.drain();
        self.sent.is_empty()
    }

    pub(super) fn all_sent(&mut self) -> String {
        self.drain();
        std::mem::take(&mut self.sent).concat()
    }

    pub(super) fn told(&mut self) -> Vec<String> {
        self.drain();
        std::mem::take(&mut self.told)
    }

    pub(super) fn clear(&mut self) {
        self.drain();
        self.sent.clear();
    }

    /// The id of our last question of an archive.
    pub(super) fn last_query(&self) -> String {
        let last = self
            .questions
            .iter()
            .rfind(|question| question.contains("queryid"));
        attribute(last.expect("a query"), "queryid")
    }

    /// The id of our last question about this.
    pub(super) fn question_id(&self, about: &str) -> String {
        let last = self.questions.iter().rfind(|it| it.contains(about));
        attribute(last.expect("a question"), "id")
    }

    fn question(&mut self, about: &str) -> (String, String, String) {
        let index = self
            .questions
            .iter()
            .rposition(|question| question.contains(about));
        let question = self
            .questions
            .remove(index.unwrap_or_else(|| panic!("no question about {about}")));
        (
            attribute(&question, "id"),
            attribute(&question, "from"),
            attribute(&question, "to"),
        )
    }

    fn drain(&mut self) {
        while let Some(output) = self.session.poll() {
            match output {
                Output::Send(stanza) => {
                    let mut bytes = Vec::new();
                    wire::write(&stanza, &mut bytes);
                    let stanza = String::from_utf8(bytes).expect("UTF-8");
                    if stanza.starts_with("<presence") {
                        self.presence.clone_from(&stanza);
                    } else if stanza.starts_with("<iq")
                        && (stanza.contains("type='get'") || stanza.contains("type='set'"))
                    {
                        self.questions.push(stanza.clone());
                    }
                    self.sent.push(stanza);
                }
                Output::Room(_, RoomState::Joined) => self.told.push("joined".to_owned()),
                Output::Room(_, RoomState::NotJoined(why)) => {
                    self.told.push(format!("not joined: {why}"))
                }
                Output::Said { said, mark, .. } => {
                    let Content::Message(message) = &said.content else {
                        panic!("not a message")
                    };
                    self.marks.extend(mark);
                    self.told.push(format!(
                        "said by {}: {}",
                        said.author.name, message.text.plain
                    ));
                }
                Output::Gap {
                    from_ms, until_ms, ..
                } => self
                    .told
                    .push(format!("gap {}+{}", from_ms - WALL_MS, until_ms - from_ms)),
                Output::Mark { mark, .. } => self.marks.push(mark),
                Output::Own { event, id, .. } => self.told.push(format!("own {event} {id}")),
                Output::Landed { job, part, ids } => {
                    let ids: Vec<String> = ids.into_iter().map(|id| id.0).collect();
                    self.told
                        .push(format!("landed {job}/{part} {}", ids.join(",")));
                }
                Output::Over(job, outcome) => self.told.push(format!("over {job}: {outcome:?}")),
                Output::Skip { .. } => {}
            }
        }
    }
}

pub(super) fn job(id: u64, name: &str, text: &str) -> Job {
    Job {
        id,
        event: format!("E{id}"),
        speaker: Speaker {
            id: format!("net/{name}"),
            name: name.to_owned(),
            label: "net".to_owned(),
        },
        emote: false,
        parts: vec![(0, text.to_owned())],
        doubt: false,
        since_ms: WALL_MS,
        ready: true,
        late: None,
    }
}

pub(super) fn self_presence(nick: &str, to: &str, codes: &[&str]) -> String {
    let codes: String = codes
        .iter()
        .map(|code| format!("<status code='{code}'/>"))
        .collect();
    format!(
        "<presence from='{}/{nick}' to='{to}'><x xmlns='http://jabber.org/protocol/muc#user'>\
         <item affiliation='none' role='participant'/>{codes}</x></presence>",
        super::ROOM
    )
}

/// The room puts the observer out.
pub(super) fn self_presence_gone() -> String {
    format!(
        "<presence type='unavailable' from='{}/comity' to='comity@bridge.example/gateway'>\
         <x xmlns='http://jabber.org/protocol/muc#user'><status code='110'/><status code='307'/></x></presence>",
        super::ROOM
    )
}

/// A message as the room passes it on.
pub(super) fn message(nick: &str, to: &str, id: &str, body: &str) -> String {
    format!(
        "<message type='groupchat' from='{}/{nick}' to='{to}' id='{id}'><body>{body}</body></message>",
        super::ROOM
    )
}

/// A message as an archive shows it.
pub(super) fn archived(query: &str, from: &str, id: &str, archive_id: &str) -> String {
    format!(
        "<message from='{from}' to='comity@bridge.example/gateway'><result xmlns='urn:xmpp:mam:2' queryid='{query}' id='{archive_id}'>\
         <forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' type='groupchat' from='{}/al' id='{id}'>\
         <body>x</body></message></forwarded></result></message>",
        super::ROOM
    )
}

/// Somebody's message as an archive shows it, said some seconds after the script began.
pub(super) fn archived_line(query: &str, nick: &str, id: &str, body: &str, second: i64) -> String {
    let stamp = crate::stamp::write(WALL_MS + second * 1_000);
    format!(
        "<message from='{room}' to='comity@bridge.example/gateway'><result xmlns='urn:xmpp:mam:2' queryid='{query}' id='{id}'>\
         <forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='{stamp}'/>\
         <message xmlns='jabber:client' type='groupchat' from='{room}/{nick}' id='m1'>\
         <body>{body}</body></message></forwarded></result></message>",
        room = super::ROOM
    )
}

/// Somebody's message as the room passes it on to the observer, with the room's id.
pub(super) fn line(nick: &str, id: &str, body: &str) -> String {
    format!(
        "<message type='groupchat' from='{room}/{nick}' to='comity@bridge.example/gateway' id='m1'><body>{body}</body>\
         <stanza-id xmlns='urn:xmpp:sid:0' by='{room}' id='{id}'/></message>",
        room = super::ROOM
    )
}

/// The end of a page after which there is more.
pub(super) fn more(last: &str) -> String {
    format!(
        "<fin xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'><last>{last}</last></set></fin>"
    )
}

fn error(condition: &str, kind: &str) -> String {
    format!(
        "<error type='{kind}'><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
    )
}

fn attribute(stanza: &str, name: &str) -> String {
    let (_, rest) = stanza
        .split_once(&format!(" {name}='"))
        .unwrap_or_else(|| panic!("no {name} in {stanza}"));
    rest.split('\'').next().unwrap_or_default().to_owned()
}
