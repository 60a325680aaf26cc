//! What may be there already is looked for before it is sent.

use super::*;

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

fn in_doubt(text: &str) -> Job {
    let mut doubted = job(1, text);
    doubted.doubt = true;
    doubted
}

const GHOST: &str = "@_x_alice=40libera.gw1.test:hs.test";

fn answer_page(bench: &mut Bench, events: Vec<RoomEvent>, next: Option<&str>) -> Call {
    let next = next.map(str::to_owned);
    bench.answer("History", Ok(Answer::Page { events, next }))
}

#[test]
fn only_what_the_speaker_said_is_read_back_however_much_others_say() {
    let mut bench = Bench::joined(Users::Ghosts);
    bench.deliver(in_doubt("hi"));
    let Call::History { senders, .. } = answer_page(&mut bench, vec![], None) else {
        panic!("not looked for")
    };
    // The ghost, and the bot, who may have spoken for it in an earlier configuration.
    assert_eq!(senders, [GHOST, "@bot:hs.test"]);
}

#[test]
fn of_two_parts_only_the_one_that_did_not_land_is_sent() {
    let mut bench = Bench::joined(Users::Ghosts);
    let mut doubted = in_doubt("one two");
    doubted.plan = Some(Plan {
        parts: vec!["one".into(), "two".into()],
        done: BTreeMap::new(),
    });
    let first = format!("{}.0", doubted.key);
    bench.deliver(doubted);
    // Nothing of the ghost is known after a restart, and it need not be in the room for the look.
    answer_page(&mut bench, page(&[("$one", GHOST, &first)]), None);
    bench.make_ghost();
    let Call::Send { content, .. } = bench.sent("$two") else {
        panic!("not sent")
    };
    assert!(content.get().contains("\"two\""));
    assert_eq!(bench.heard(), ["part 0 $one", "part 1 $two", "1 shown"]);
}

fn sent_at(id: &str, ms: i64, more: Value) -> RoomEvent {
    let mut value = json!({
        "event_id": id, "room_id": "!r:hs.test", "type": "m.room.message", "sender": GHOST, "origin_server_ts": ms,
        "content": {"msgtype": "m.text", "body": "x"},
    });
    for (key, field) in more.as_object().expect("an object") {
        value[key] = field.clone();
    }
    RoomEvent::parse(&RawValue::from_string(value.to_string()).expect("json")).expect("an event")
}

#[test]
fn late_messages_do_not_end_the_look_by_their_old_times() {
    let mut bench = Bench::joined(Users::Ghosts);
    let doubted = in_doubt("hi");
    let mark = format!("{}.0", doubted.key);
    bench.deliver(doubted);
    let late = json!({"content": {"msgtype": "m.text", "body": "x", "chat.comity.late": true}});
    let events = vec![
        sent_at("$a", 1_000, late.clone()),
        sent_at("$b", 2_000, late),
    ];
    answer_page(&mut bench, events, Some("t"));
    answer_page(&mut bench, page(&[("$mine", GHOST, &mark)]), None);
    assert_eq!(bench.heard(), ["part 0 $mine", "1 shown"]);
}

#[test]
fn a_page_of_older_messages_ends_the_look() {
    let mut bench = Bench::joined(Users::Ghosts);
    bench.deliver(in_doubt("hi"));
    answer_page(&mut bench, vec![sent_at("$a", 1_000, json!({}))], Some("t"));
    bench.make_ghost();
    bench.sent("$1");
    assert_eq!(bench.heard(), ["part 0 $1", "1 shown"]);
}

#[test]
fn what_a_moderator_took_away_is_not_said_again() {
    let redacted =
        json!({"content": {}, "unsigned": {"redacted_because": {"type": "m.room.redaction"}}});
    let mut bench = Bench::joined(Users::Ghosts);
    bench.deliver(in_doubt("spam"));
    answer_page(
        &mut bench,
        vec![sent_at("$gone", 10_000_100, redacted.clone())],
        None,
    );
    assert_eq!(bench.heard(), ["part 0 $gone", "1 shown"]);

    // One that was taken away before this was said at all is another one.
    let mut bench = Bench::joined(Users::Ghosts);
    bench.deliver(in_doubt("hi"));
    answer_page(&mut bench, vec![sent_at("$old", 9_000_000, redacted)], None);
    bench.make_ghost();
    bench.sent("$1");
    assert_eq!(bench.heard(), ["part 0 $1", "1 shown"]);
}

#[test]
fn a_limited_look_is_repeated_when_the_homeserver_allows_it_and_not_before() {
    let mut bench = Bench::joined(Users::Ghosts);
    bench.deliver(in_doubt("hi"));
    bench.answer("History", Err(Fault::Limited(Duration::from_secs(30))));
    bench.wait(29);
    assert!(bench.calls.is_empty() && bench.heard().is_empty());
    bench.wait(1);
    answer_page(&mut bench, vec![], None);
    bench.make_ghost();
    bench.sent("$1");
    assert_eq!(bench.heard(), ["part 0 $1", "1 shown"]);
}
