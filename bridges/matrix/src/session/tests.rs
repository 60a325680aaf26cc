//! The session against a homeserver that is nothing but answers. Time is passed in.

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
        // Past the time in which other rooms may be asked for, the second ping and the first look back.
        bench.wait(3);
        bench.answer("Ping", Ok(Answer::Done));
        bench.answer(
            "History",
            Ok(Answer::Page {
                events: vec![],
                next: None,
            }),
        );
        bench.heard.clear();
        bench
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
        self.answer("Ping", Ok(Answer::Done));
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
                Action::Commit { ticket, incoming } => self.commits.push_back((ticket, incoming)),
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
            .handle_transaction(self.now, Ticket(ticket), &ticket.to_string(), events);
        self.drain();
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

// Coming up.

#[test]
fn it_is_online_only_after_the_homeserver_knows_the_bot() {
    let mut bench = Bench::new(Users::Ghosts, &[]);
    bench.answer("Versions", Ok(Answer::Done));
    bench.answer("Register", Ok(Answer::Done));
    bench.answer("Whoami", Ok(Answer::User(owned_user_id!("@bot:hs.test"))));
    assert!(bench.heard().is_empty());
    bench.answer("SetName", Err(refused(403, "M_FORBIDDEN")));
    assert_eq!(bench.heard(), ["online"]);
    assert_eq!(bench.kinds(), ["Ping"]);
}

#[test]
fn a_homeserver_that_is_down_at_the_start_is_tried_again_and_ends_nothing() {
    let mut bench = Bench::new(Users::Ghosts, &[]);
    bench.join(ALIAS);
    for _ in 0..5 {
        bench.answer("Versions", Err(Fault::Unreachable("refused".into())));
        assert_eq!(bench.heard(), ["offline"]);
        assert!(bench.calls.is_empty());
        bench.wait(20);
    }
    bench.come_up();
    bench.enter();
    assert_eq!(
        bench.heard(),
        ["online", "keep room/#rust:hs.test=!r:hs.test", "joined"]
    );
}

#[test]
fn a_token_for_somebody_else_keeps_it_offline() {
    let mut bench = Bench::new(Users::Ghosts, &[]);
    bench.answer("Versions", Ok(Answer::Done));
    bench.answer("Register", Ok(Answer::Done));
    bench.answer("Whoami", Ok(Answer::User(owned_user_id!("@other:hs.test"))));
    assert_eq!(bench.heard(), ["offline"]);
}

#[test]
fn a_homeserver_that_does_not_reach_us_is_pinged_again() {
    let mut bench = Bench::new(Users::Ghosts, &[]);
    bench.answer("Versions", Ok(Answer::Done));
    bench.answer("Register", Ok(Answer::Done));
    bench.answer("Whoami", Ok(Answer::User(owned_user_id!("@bot:hs.test"))));
    bench.answer("SetName", Ok(Answer::Done));
    bench.answer("Ping", Err(Fault::Broken("status 502".into())));
    bench.wait(5);
    bench.answer("Ping", Ok(Answer::Done));
    bench.wait(2);
    bench.answer("Ping", Ok(Answer::Done));
    bench.wait(1000);
    assert!(bench.calls.is_empty());
}

// Rooms.

#[test]
fn a_room_that_is_not_public_waits_for_its_invitation() {
    let mut bench = Bench::new(Users::Ghosts, &[]);
    bench.join(ALIAS);
    bench.come_up();
    bench.answer(
        "Resolve",
        Ok(Answer::Room {
            room: room(),
            via: vec![],
        }),
    );
    bench.answer("Join", Err(refused(403, "M_FORBIDDEN")));
    let heard = bench.heard().join("\n");
    assert!(
        heard.contains(
            "not joined: M_FORBIDDEN: no; if the room is not public, invite @bot:hs.test"
        ),
        "{heard}"
    );
    bench.push(
        0,
        vec![event(
            "$i",
            "m.room.member",
            "@bob:hs.test",
            Some("@bot:hs.test"),
            json!({"membership": "invite"}),
        )],
    );
    bench.answer("Join", Ok(Answer::Done));
    bench.answer("Encryption", Err(refused(404, "M_NOT_FOUND")));
    assert!(bench.heard().contains(&"joined".to_owned()));
}

#[test]
fn an_invitation_to_any_other_room_is_left_alone() {
    let mut bench = Bench::joined(Users::Ghosts);
    let mut invite = event(
        "$i",
        "m.room.member",
        "@eve:hs.test",
        Some("@bot:hs.test"),
        json!({"membership": "invite"}),
    );
    invite.room_id = owned_room_id!("!other:hs.test");
    bench.push(0, vec![invite]);
    assert_eq!(bench.heard(), ["answer 0 true"]);
    assert!(bench.calls.is_empty());
}

#[test]
fn a_kept_room_is_entered_without_asking_the_alias_and_asked_when_it_is_closed() {
    let mut bench = Bench::new(Users::Ghosts, &[("room/#rust:hs.test", "!old:hs.test")]);
    bench.join(ALIAS);
    bench.come_up();
    bench.answer("Join", Err(refused(404, "M_NOT_FOUND")));
    bench.enter();
    assert!(bench.heard().contains(&"joined".to_owned()));
}

#[test]
fn an_encrypted_room_is_not_joined_for_business() {
    let mut bench = Bench::new(Users::Ghosts, &[]);
    bench.join(ALIAS);
    bench.come_up();
    bench.answer(
        "Resolve",
        Ok(Answer::Room {
            room: room(),
            via: vec![],
        }),
    );
    bench.answer("Join", Ok(Answer::Done));
    bench.answer("Encryption", Ok(Answer::Done));
    assert!(bench.heard().join("\n").contains("not built yet"));
}

#[test]
fn an_old_leave_event_is_asked_about_before_it_is_believed() {
    let mut bench = Bench::joined(Users::Ghosts);
    bench.push(0, vec![member("@bot:hs.test", "leave")]);
    let state = MemberState {
        membership: Some("join".into()),
        displayname: None,
    };
    bench.answer("Member", Ok(Answer::Member(state)));
    bench.answer("Encryption", Err(refused(404, "M_NOT_FOUND")));
    assert_eq!(bench.heard(), ["answer 0 true"]);
    bench.push(1, vec![member("@bot:hs.test", "ban")]);
    bench.answer("Member", Err(refused(403, "M_FORBIDDEN")));
    assert!(
        bench
            .heard()
            .join("\n")
            .contains("not joined: @bot:hs.test is not in the room any more")
    );
}

#[test]
fn two_channels_cannot_show_one_room() {
    let mut bench = Bench::joined(Users::Ghosts);
    bench.join("home/#alt:hs.test");
    bench.answer(
        "Resolve",
        Ok(Answer::Room {
            room: room(),
            via: vec![],
        }),
    );
    assert!(bench.heard().join("\n").contains("another channel"));
}

// Deliveries.

#[test]
fn a_ghost_is_made_named_and_let_in_at_its_first_message_and_only_then() {
    let mut bench = Bench::joined(Users::Ghosts);
    bench.deliver(job(1, "hi"));
    bench.make_ghost();
    let Call::Send {
        user, txn, content, ..
    } = bench.sent("$1")
    else {
        panic!("no send")
    };
    assert_eq!(user, "@_x_alice=40libera.gw1.test:hs.test");
    assert!(content.get().contains(r#""body":"hi""#));
    assert_eq!(bench.heard(), ["part 0 $1", "1 shown"]);
    bench.deliver(job(2, "again"));
    let Call::Send { txn: second, .. } = bench.sent("$2") else {
        panic!("no send")
    };
    assert_ne!(txn, second);
}

#[test]
fn a_room_by_invitation_lets_the_ghost_in_because_the_bot_invites_it() {
    let mut bench = Bench::joined(Users::Ghosts);
    bench.deliver(job(1, "hi"));
    bench.answer("Register", Ok(Answer::Done));
    bench.answer("SetName", Ok(Answer::Done));
    bench.answer("Join", Err(refused(403, "M_FORBIDDEN")));
    bench.answer("Invite", Ok(Answer::Done));
    bench.answer("Join", Ok(Answer::Done));
    bench.sent("$1");
    assert_eq!(bench.heard(), ["part 0 $1", "1 shown"]);
}

#[test]
fn a_relay_needs_no_ghost() {
    let mut bench = Bench::joined(Users::Relay);
    bench.deliver(job(1, "hi"));
    let Call::Send { user, content, .. } = bench.sent("$1") else {
        panic!("no send")
    };
    assert_eq!(user, "@bot:hs.test");
    assert!(content.get().contains(r#""body":"<alice> hi""#));
}

#[test]
fn a_ghost_that_was_put_out_enters_once_more_and_then_gives_up() {
    let mut bench = Bench::joined(Users::Ghosts);
    let mut second_try = job(1, "hi");
    second_try.attempt = 2;
    bench.deliver(second_try);
    bench.make_ghost();
    bench.answer("Send", Err(refused(403, "M_FORBIDDEN")));
    // From the beginning: the homeserver may have forgotten the ghost as a whole.
    bench.make_ghost();
    bench.answer("Send", Err(refused(403, "M_FORBIDDEN")));
    assert_eq!(bench.heard(), ["1 give up forbidden"]);
}

#[test]
fn forbidden_at_the_first_try_looks_whether_the_bot_is_out() {
    let mut bench = Bench::joined(Users::Ghosts);
    bench.deliver(job(1, "hi"));
    bench.answer("Register", Ok(Answer::Done));
    bench.answer("SetName", Ok(Answer::Done));
    bench.answer("Join", Err(refused(403, "M_FORBIDDEN")));
    bench.answer("Invite", Err(refused(403, "M_FORBIDDEN")));
    bench.answer("Join", Err(refused(403, "M_FORBIDDEN")));
    assert_eq!(bench.heard(), ["1 retry not_joined"]);
    assert_eq!(bench.kinds(), ["Member"]);
}

#[test]
fn a_failure_gives_the_rest_of_the_window_back_and_a_late_one_too() {
    let mut bench = Bench::joined(Users::Ghosts);
    for n in 1..=3 {
        bench.deliver(job(n, "hi"));
    }
    bench.make_ghost();
    bench.sent("$1");
    bench.answer("Send", Err(Fault::Limited(Duration::from_secs(3))));
    bench.deliver(job(4, "handed over before the failure was heard of"));
    assert_eq!(
        bench.heard(),
        [
            "part 0 $1",
            "1 shown",
            "2 retry rate_limited",
            "3 not attempted",
            "4 not attempted"
        ]
    );
    bench.deliver(job(2, "again"));
    bench.deliver(job(3, "again"));
    bench.sent("$2");
    bench.sent("$3");
    assert_eq!(
        bench.heard(),
        ["part 0 $2", "2 shown", "part 0 $3", "3 shown"]
    );
}

#[test]
fn a_refused_message_is_given_up_and_its_successor_goes_on() {
    let mut bench = Bench::joined(Users::Ghosts);
    bench.deliver(job(1, "hi"));
    bench.deliver(job(2, "hi"));
    bench.make_ghost();
    bench.answer("Send", Err(refused(413, "M_TOO_LARGE")));
    bench.sent("$2");
    assert_eq!(
        bench.heard(),
        ["1 give up too_large", "part 0 $2", "2 shown"]
    );
}

#[test]
fn a_homeserver_that_is_gone_takes_nothing_and_the_network_is_offline_first() {
    let mut bench = Bench::joined(Users::Ghosts);
    bench.deliver(job(1, "hi"));
    bench.deliver(job(2, "hi"));
    bench.make_ghost();
    bench.answer("Send", Err(Fault::Unreachable("refused".into())));
    assert_eq!(
        bench.heard(),
        ["offline", "1 not attempted", "2 not attempted"]
    );
    bench.deliver(job(1, "hi"));
    assert_eq!(bench.heard(), ["1 not attempted"]);
    bench.wait(20);
    bench.come_up();
    assert_eq!(bench.heard(), ["online", "joined"]);
}

#[test]
fn a_call_that_broke_while_sending_leaves_doubt_and_asks_whether_anybody_is_there() {
    let mut bench = Bench::joined(Users::Ghosts);
    bench.deliver(job(1, "hi"));
    bench.make_ghost();
    bench.answer("Send", Err(Fault::Broken("timeout".into())));
    assert_eq!(bench.heard(), ["1 ambiguous connection_lost"]);
    bench.answer("Versions", Ok(Answer::Done));
    assert!(bench.heard().is_empty());
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

#[test]
fn in_doubt_the_room_is_read_back_and_what_is_there_is_not_sent_again() {
    let mut bench = Bench::joined(Users::Ghosts);
    let mut doubted = job(1, "hi");
    doubted.doubt = true;
    let mark = format!("{}.0", doubted.key);
    bench.deliver(doubted);
    let events = page(&[
        ("$eve", "@eve:hs.test", &mark),
        ("$other", "@_x_a:hs.test", "junk"),
    ]);
    bench.answer(
        "History",
        Ok(Answer::Page {
            events,
            next: Some("t".into()),
        }),
    );
    let events = page(&[("$mine", "@_x_alice=40libera.gw1.test:hs.test", &mark)]);
    let call = bench.answer(
        "History",
        Ok(Answer::Page {
            events,
            next: Some("u".into()),
        }),
    );
    assert!(matches!(call, Call::History { from: Some(from), .. } if from == "t"));
    assert_eq!(bench.heard(), ["part 0 $mine", "1 shown"]);
    assert!(bench.calls.is_empty());
}

#[test]
fn in_doubt_what_is_not_there_is_sent() {
    let mut bench = Bench::joined(Users::Ghosts);
    let mut doubted = job(1, "hi");
    doubted.doubt = true;
    bench.deliver(doubted);
    bench.answer(
        "History",
        Ok(Answer::Page {
            events: vec![],
            next: None,
        }),
    );
    bench.make_ghost();
    bench.sent("$1");
    assert_eq!(bench.heard(), ["part 0 $1", "1 shown"]);
}

#[test]
fn doubt_is_not_forgotten_when_the_homeserver_goes_away() {
    let mut bench = Bench::joined(Users::Ghosts);
    let mut doubted = job(1, "hi");
    doubted.doubt = true;
    bench.deliver(doubted);
    bench.answer("History", Err(Fault::Unreachable("refused".into())));
    assert_eq!(bench.heard(), ["offline", "1 ambiguous connection_lost"]);
}

#[test]
fn a_long_text_is_planned_before_its_first_part_is_sent_and_goes_on_where_it_stopped() {
    let mut bench = Bench::joined(Users::Ghosts);
    let text = "word ".repeat(30_000);
    bench.deliver(job(1, &text));
    bench.make_ghost();
    assert_eq!(bench.heard(), ["plan 3"]);
    assert!(bench.calls.is_empty());
    let key = job(1, "").key;
    bench.session.handle_planned(bench.now, &key, true);
    bench.drain();
    bench.sent("$1");
    bench.answer("Send", Err(Fault::Broken("timeout".into())));
    assert_eq!(bench.heard(), ["part 0 $1", "1 ambiguous connection_lost"]);

    let mut again = job(1, &text);
    again.doubt = true;
    again.plan = Some(Plan {
        parts: vec!["a".into(), "b".into(), "c".into()],
        done: [(0, vec!["$1".into()])].into(),
    });
    let mark = format!("{}.1", again.key);
    bench.answer("Versions", Ok(Answer::Done));
    bench.deliver(again);
    let events = page(&[("$2", "@_x_alice=40libera.gw1.test:hs.test", &mark)]);
    bench.answer("History", Ok(Answer::Page { events, next: None }));
    let Call::Send { content, .. } = bench.sent("$3") else {
        panic!("no send")
    };
    assert!(content.get().contains(r#""body":"c""#));
    assert_eq!(bench.heard(), ["part 1 $2", "part 2 $3", "1 shown"]);
}

#[test]
fn stopping_ends_what_is_under_way_and_gives_back_the_rest() {
    let mut bench = Bench::joined(Users::Ghosts);
    for n in 1..=3 {
        bench.deliver(job(n, "hi"));
    }
    bench.make_ghost();
    bench.session.handle_shutdown(bench.now);
    assert!(!bench.session.is_idle());
    bench.sent("$1");
    assert_eq!(
        bench.heard(),
        ["part 0 $1", "1 shown", "2 not attempted", "3 not attempted"]
    );
    assert!(bench.session.is_idle());
}

#[test]
fn what_is_under_way_when_time_is_over_is_in_doubt() {
    let mut bench = Bench::joined(Users::Ghosts);
    bench.deliver(job(1, "hi"));
    bench.deliver(job(2, "hi"));
    bench.make_ghost();
    bench.session.handle_shutdown(bench.now);
    bench.session.handle_end();
    bench.drain();
    assert_eq!(
        bench.heard(),
        ["1 ambiguous connection_lost", "2 not attempted"]
    );
}

#[test]
fn what_is_not_carried_is_given_up_with_a_reason() {
    let mut bench = Bench::joined(Users::Ghosts);
    let blank = job(1, " ");
    bench.deliver(blank);
    assert_eq!(bench.heard(), ["1 give up unsupported"]);
    assert_eq!(
        DeliveryError::Unsupported(String::new()).reason(),
        "unsupported"
    );
}

// Transactions.

#[test]
fn a_transaction_is_answered_after_its_commit_and_not_before() {
    let mut bench = Bench::joined(Users::Ghosts);
    bench.push(0, vec![member("@bob:hs.test", "join"), said("$1", "hi")]);
    bench.push(1, vec![said("$2", "ho")]);
    assert!(bench.heard().is_empty());
    let (ticket, incoming) = bench.commits.pop_front().expect("a commit");
    assert_eq!(incoming[0].author.name, "Bob B.");
    assert!(bench.commits.is_empty(), "one at a time, in order");
    bench.session.handle_committed(bench.now, ticket, true);
    bench.drain();
    assert_eq!(bench.heard(), ["answer 0 true"]);
    let (ticket, incoming) = bench.commits.pop_front().expect("a commit");
    assert_eq!(incoming[0].source_id.0, "$2");
    bench.session.handle_committed(bench.now, ticket, false);
    bench.drain();
    assert_eq!(bench.heard(), ["answer 1 false"]);
}

#[test]
fn a_name_that_is_not_known_is_asked_for_and_not_waited_for_long() {
    let mut bench = Bench::joined(Users::Ghosts);
    bench.push(0, vec![said("$1", "hi")]);
    let state = MemberState {
        membership: Some("join".into()),
        displayname: Some("Bobby".into()),
    };
    bench.answer("Member", Ok(Answer::Member(state)));
    assert_eq!(bench.commits[0].1[0].author.name, "Bobby");

    let mut slow = Bench::joined(Users::Ghosts);
    slow.push(0, vec![said("$1", "hi")]);
    slow.wait(3);
    assert_eq!(slow.commits[0].1[0].author.name, "bob");
}

#[test]
fn what_arrives_before_the_alias_is_resolved_waits_for_it() {
    let mut bench = Bench::new(Users::Ghosts, &[]);
    bench.join(ALIAS);
    bench.push(0, vec![member("@bob:hs.test", "join"), said("$1", "hi")]);
    bench.come_up();
    assert!(bench.commits.is_empty());
    assert!(!bench.heard().iter().any(|line| line.starts_with("answer")));
    bench.enter();
    assert_eq!(bench.commits[0].1[0].source_id.0, "$1");

    let mut never = Bench::new(Users::Ghosts, &[]);
    never.join(ALIAS);
    never.push(0, vec![said("$1", "hi")]);
    never.wait(16);
    assert_eq!(never.heard(), ["answer 0 false"]);
    never.push(1, vec![said("$1", "hi")]);
    assert_eq!(
        never.heard(),
        ["answer 1 true"],
        "a room that cannot be found holds up the others once"
    );
}

#[test]
fn just_after_the_start_an_unknown_room_may_still_be_asked_for() {
    let mut bench = Bench::new(Users::Ghosts, &[("room/#rust:hs.test", "!r:hs.test")]);
    bench.push(0, vec![member("@bob:hs.test", "join"), said("$1", "hi")]);
    assert!(bench.heard().is_empty());
    bench.join(ALIAS);
    assert_eq!(bench.commits[0].1[0].source_id.0, "$1");
}

#[test]
fn nothing_is_due_in_the_past_while_a_transaction_waits() {
    let mut bench = Bench::new(Users::Ghosts, &[]);
    bench.join(ALIAS);
    bench.push(0, vec![said("$1", "hi")]);
    bench.wait(3);
    assert!(
        bench
            .session
            .poll_timeout()
            .is_some_and(|due| due > bench.now)
    );
}

#[test]
fn a_room_that_nobody_asked_for_is_acknowledged_and_left() {
    let mut bench = Bench::joined(Users::Ghosts);
    let mut other = said("$1", "hi");
    other.room_id = owned_room_id!("!other:hs.test");
    bench.push(0, vec![other]);
    assert_eq!(bench.heard(), ["answer 0 true"]);
    assert!(bench.commits.is_empty());
}

#[test]
fn a_transaction_behind_a_gap_is_refused_and_the_homeserver_woken() {
    let mut bench = Bench::joined(Users::Ghosts);
    bench.push(0, vec![]);
    bench.push(2, vec![member("@bob:hs.test", "join"), said("$2", "later")]);
    assert_eq!(bench.heard(), ["answer 0 true", "answer 2 false"]);
    bench.wait(1);
    bench.answer("Ping", Ok(Answer::Done));
    bench.push(
        1,
        vec![member("@bob:hs.test", "join"), said("$1", "sooner")],
    );
    assert_eq!(bench.commits[0].1[0].source_id.0, "$1");
}

#[test]
fn our_own_echo_is_a_receipt() {
    let mut bench = Bench::joined(Users::Ghosts);
    let mark = format!("{}.0", job(1, "").key);
    bench.push(
        0,
        page(&[("$1", "@_x_alice=40libera.gw1.test:hs.test", &mark)]),
    );
    assert_eq!(bench.commits[0].1[0].own, Some(job(1, "").key));
    assert_eq!(
        owned_event_id!("$1").as_str(),
        bench.commits[0].1[0].source_id.0
    );
}

#[test]
fn what_no_transaction_has_brought_is_read_back_after_coming_up() {
    let mut bench = Bench::joined(Users::Ghosts);
    bench.push(
        1,
        vec![
            member("@bob:hs.test", "join"),
            said("$came:hs.test", "came"),
        ],
    );
    let (ticket, _) = bench.commits.pop_front().expect("a commit");
    bench.session.handle_committed(bench.now, ticket, true);
    bench.drain();
    bench.wait(9);
    let joining = event(
        "$us:hs.test",
        "m.room.member",
        "@bot:hs.test",
        Some("@bot:hs.test"),
        json!({"membership": "join"}),
    );
    // Newest first.
    let events = vec![
        said("$late:hs.test", "late"),
        said("$came:hs.test", "came"),
        said("$behind:hs.test", "behind"),
        joining,
        said("$before:hs.test", "before us"),
    ];
    bench.answer("History", Ok(Answer::Page { events, next: None }));
    let (_, incoming) = bench.commits.pop_front().expect("a commit");
    let ids: Vec<&str> = incoming.iter().map(|i| i.source_id.0.as_str()).collect();
    assert_eq!(ids, ["$behind:hs.test", "$late:hs.test"]);
}
