//! The session against a homeserver that is nothing but answers. Time is passed in.

mod coming_up;
mod deliveries;
mod doubt;
mod failures;
mod rooms;
mod timeline;
mod transactions;

use std::sync::Arc;
use std::time::Duration;

use comity_bridge::event::{Author, Message, MessageKind, Origin};
use comity_bridge::{Content, DeliveryError, EventId, Text, UserAddress};
use ruma::{owned_event_id, owned_room_id, owned_server_name, owned_user_id};
use serde_json::{Value, json, value::RawValue};

use super::*;
use crate::wire::call::MemberState;

const ALIAS: &str = "home/#rust:hs.test";
/// Near the time of the events.
const WALL: Timestamp = Timestamp(10_000_000);

struct Bench {
    session: Session,
    now: Instant,
    /// Calls that wait for an answer.
    calls: VecDeque<(CallId, Call)>,
    /// Everything else, printed.
    heard: Vec<String>,
    commits: VecDeque<(Ticket, Vec<Incoming>)>,
    /// What was to be kept with the last commit.
    kept: Vec<(String, String)>,
}

fn settings(users: Users) -> Settings {
    Settings {
        names: Names::new(owned_server_name!("hs.test"), "bot", "_x_").expect("fit"),
        bot_name: "Comity".into(),
        registration: "comity-x".into(),
        users,
    }
}

fn room() -> OwnedRoomId {
    owned_room_id!("!r:hs.test")
}

fn refused(status: u16, errcode: &str) -> Fault {
    Fault::Refused {
        status,
        errcode: errcode.into(),
        error: "no".into(),
    }
}

/// What a proxy, or a homeserver in trouble, answers.
fn failing(status: u16) -> Fault {
    Fault::Failing {
        status,
        error: String::new(),
    }
}

impl Bench {
    fn new(users: Users, remembered: &[(&str, &str)]) -> Self {
        let now = Instant::now();
        let remembered = remembered
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let session = Session::new(now, WALL, settings(users), remembered);
        let mut bench = Self {
            session,
            now,
            calls: VecDeque::new(),
            heard: Vec::new(),
            commits: VecDeque::new(),
            kept: Vec::new(),
        };
        bench.drain();
        bench
    }

    /// A session that is online and in its room.
    fn joined(users: Users) -> Self {
        let mut bench = Self::new(users, &[]);
        bench.join(ALIAS);
        bench.come_up();
        bench.enter();
        bench.settle(vec![]);
        bench.heard.clear();
        bench
    }

    /// Past the time in which other rooms may be asked for, the second ping and the last look at the room, whose newest page this is.
    fn settle(&mut self, events: Vec<RoomEvent>) {
        self.wait(3);
        self.answer("Ping", Ok(Answer::Done));
        while self.kinds().contains(&"History".to_owned()) {
            let events = events.clone();
            self.answer("History", Ok(Answer::Page { events, next: None }));
        }
    }

    fn join(&mut self, channel: &str) {
        self.session
            .handle_join(self.now, channel.parse().expect("a channel"));
        self.drain();
    }

    fn come_up(&mut self) {
        self.answer("Versions", Ok(Answer::Done));
        self.answer("Register", Ok(Answer::Done));
        self.answer("Whoami", Ok(Answer::User(owned_user_id!("@bot:hs.test"))));
        self.answer("SetName", Ok(Answer::Done));
        // While a transaction is in our hands, nothing is pinged.
        if self.kinds().contains(&"Ping".to_owned()) {
            self.answer("Ping", Ok(Answer::Done));
        }
    }

    fn enter(&mut self) {
        self.answer(
            "Resolve",
            Ok(Answer::Room {
                room: room(),
                via: vec![],
            }),
        );
        self.answer("Join", Ok(Answer::Done));
        self.answer("Encryption", Err(refused(404, "M_NOT_FOUND")));
    }

    fn drain(&mut self) {
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Call { id, call } => self.calls.push_back((id, call)),
                Action::Commit {
                    ticket,
                    incoming,
                    writes,
                } => {
                    self.commits.push_back((ticket, incoming));
                    self.kept = writes;
                }
                Action::Online => self.heard.push("online".into()),
                Action::Offline(_) => self.heard.push("offline".into()),
                Action::Channel(_, ChannelState::Joined) => self.heard.push("joined".into()),
                Action::Channel(_, ChannelState::NotJoined { why }) => {
                    self.heard.push(format!("not joined: {why}"))
                }
                Action::Remember { key, value } => self.heard.push(format!("keep {key}={value}")),
                Action::Plan { parts, .. } => self.heard.push(format!("plan {}", parts.len())),
                Action::Part { index, id, .. } => self.heard.push(format!("part {index} {id}")),
                Action::Finish { key, outcome } => {
                    self.heard.push(format!(
                        "{} {}",
                        key.event.to_bytes()[0],
                        outcome_word(&outcome)
                    ));
                }
                Action::Answer { ticket, taken } => {
                    self.heard.push(format!("answer {} {taken}", ticket.0))
                }
                Action::Skip { reason, .. } => self.heard.push(format!("skip {reason}")),
                Action::Gap(gap) => {
                    self.heard
                        .push(format!("gap {} to {}", gap.from.0, gap.until.0));
                }
            }
        }
    }

    /// Answers the oldest call of a kind, and returns it.
    #[track_caller]
    fn answer(&mut self, kind: &str, result: Result<Answer, Fault>) -> Call {
        let at = self
            .calls
            .iter()
            .position(|(_, call)| kind_of(call) == kind);
        let at = at.unwrap_or_else(|| {
            panic!("no {kind} among {:?}; heard {:?}", self.kinds(), self.heard)
        });
        let (id, call) = self.calls.remove(at).expect("there");
        self.session.handle_answer(self.now, id, result);
        self.drain();
        call
    }

    fn kinds(&self) -> Vec<String> {
        self.calls.iter().map(|(_, call)| kind_of(call)).collect()
    }

    fn heard(&mut self) -> Vec<String> {
        std::mem::take(&mut self.heard)
    }

    fn wait(&mut self, secs: u64) {
        self.now += Duration::from_secs(secs);
        self.session.handle_timeout(self.now);
        self.drain();
    }

    fn deliver(&mut self, job: Job) {
        self.session.handle_delivery(self.now, job);
        self.drain();
    }

    fn push(&mut self, ticket: u64, events: Vec<RoomEvent>) {
        self.session
            .handle_transaction(self.now, Ticket(ticket), events);
        self.drain();
    }

    /// Commits what is to be committed next; the ids of it.
    #[track_caller]
    fn commit(&mut self) -> Vec<String> {
        let (ticket, incoming) = self.commits.pop_front().expect("a commit");
        self.session.handle_committed(self.now, ticket);
        self.drain();
        incoming.into_iter().map(|it| it.source_id.0).collect()
    }

    /// Makes the ghost and lets it into the room.
    fn make_ghost(&mut self) {
        self.answer("Register", Ok(Answer::Done));
        self.answer("SetName", Ok(Answer::Done));
        self.answer("Join", Ok(Answer::Done));
    }

    fn sent(&mut self, id: &str) -> Call {
        self.answer(
            "Send",
            Ok(Answer::Sent(id.try_into().expect("an event id"))),
        )
    }
}

fn kind_of(call: &Call) -> String {
    format!("{call:?}")
        .split([' ', '{'])
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn outcome_word(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Shown => "shown".into(),
        Outcome::NotAttempted => "not attempted".into(),
        Outcome::Retry { why, .. } => format!("retry {}", why.reason()),
        Outcome::Ambiguous { why } => format!("ambiguous {}", why.reason()),
        Outcome::Park(why) => format!("park {}", why.reason()),
        Outcome::GiveUp(why) => format!("give up {}", why.reason()),
    }
}

fn job(n: u8, text: &str) -> Job {
    let event = Event {
        id: EventId::from_bytes([n; 16]),
        room: "#rust@gw1.test".parse().expect("a room"),
        origin: Origin {
            network: "libera".parse().expect("a name"),
            channel: "#rust".into(),
            native_id: "1".into(),
            unknown: Default::default(),
        },
        author: Author {
            id: "libera/alice".into(),
            address: UserAddress::of("alice", "libera.gw1.test"),
            name: "alice".into(),
            avatar: None,
            bot: false,
            unknown: Default::default(),
        },
        seq: n.into(),
        time: Timestamp(10_000_000),
        received: Timestamp(10_000_000),
        content: Content::Message(Message::of(MessageKind::Text, Text::plain(text))),
        via: vec![],
        ext: Default::default(),
        unknown: Default::default(),
    };
    Job {
        key: DeliveryKey {
            event: event.id,
            channel: ALIAS.parse().expect("a channel"),
        },
        event: Arc::new(event),
        refs: Refs::default(),
        late: None,
        attempt: 1,
        doubt: false,
        plan: None,
    }
}

fn event(id: &str, kind: &str, sender: &str, state_key: Option<&str>, content: Value) -> RoomEvent {
    let mut json = json!({
        "event_id": id, "room_id": "!r:hs.test", "type": kind, "sender": sender,
        "origin_server_ts": 10_000_000, "content": content,
    });
    if let Some(key) = state_key {
        json["state_key"] = key.into();
    }
    RoomEvent::parse(&RawValue::from_string(json.to_string()).expect("json")).expect("an event")
}

fn said(id: &str, text: &str) -> RoomEvent {
    event(
        id,
        "m.room.message",
        "@bob:hs.test",
        None,
        json!({"msgtype": "m.text", "body": text}),
    )
}

fn member(user: &str, membership: &str) -> RoomEvent {
    event(
        "$m",
        "m.room.member",
        user,
        Some(user),
        json!({"membership": membership, "displayname": "Bob B."}),
    )
}

fn page(marks: &[(&str, &str, &str)]) -> Vec<RoomEvent> {
    marks
        .iter()
        .map(|(id, sender, mark)| {
            let content = json!({"msgtype": "m.text", "body": "x", "chat.comity.key": mark});
            event(id, "m.room.message", sender, None, content)
        })
        .collect()
}
