//! Deliveries that may have landed, and late ones.

use std::time::Duration;

use super::ROOM;
use super::script::{self, COMPLETE, FEATURES, Script, WALL_MS, job, line, more};
use crate::session::{Job, Late, Mark};

#[test]
fn the_search_begins_where_nothing_of_ours_was_in_doubt() {
    let mut s = known_to("sid-1", Some("sid-0"));
    s.say_in_doubt(1, "al", "x");
    s.sent("<iq", &["<after>sid-0</after>"]);
    s.answer_error("mam:2", "item-not-found");
    s.sent("<iq", &["<value>2024-11-22T12:48:20Z</value>"]);
    s.answer("mam:2", COMPLETE);
    s.sent("<presence", &["rust@muc.example/al"]);
}

#[test]
fn a_place_is_sure_only_some_time_after_a_delivery_was_over_there() {
    let mut s = Script::joined(true);
    s.say(1, "al", "x");
    s.ghost_in("al");
    s.reflect("al", "E1-0-4c2f2a46", Some("sid-5"));
    s.pass(Duration::from_secs(11));
    let mark = s.marks.last().expect("a mark");
    assert_eq!((mark.last.as_str(), &mark.sure), ("sid-5", &None));
    s.server(&line("bob", "sid-6", "hi"));
    s.pass(Duration::from_secs(61));
    assert_eq!(
        s.marks.last().expect("a mark").sure.as_deref(),
        Some("sid-5")
    );
}

#[test]
fn what_is_in_doubt_is_never_behind_the_sure_place() {
    let mut s = known_to("sid-1", None);
    // The delivery in doubt has not been handed over again; meanwhile the room goes on.
    for n in 2..9 {
        s.server(&line("bob", &format!("sid-{n}"), "hi"));
        s.pass(Duration::from_secs(61));
    }
    assert!(s.marks.iter().all(|mark| mark.sure.is_none()));
}

#[test]
fn nothing_is_looked_for_before_what_was_on_its_way_has_had_time_to_land() {
    let mut s = Script::new(true);
    s.join(ROOM);
    s.let_in();
    s.answer("disco#info", FEATURES);
    s.answer("mam:2", COMPLETE);
    s.clear();
    s.say_in_doubt(1, "al", "x");
    assert!(s.nothing_sent());
    // It lands late, from the nick that its speaker would have.
    s.server(&said_late("al [net]"));
    let told = s.told();
    assert_eq!(told, ["joined", "landed 1/0 E1-0-4c2f2a46"]);
    s.pass(Duration::from_millis(1_000));
    assert_eq!(s.told(), ["over 1: Shown"]);
    assert!(s.nothing_sent());
}

#[test]
fn x6_a_strangers_message_with_our_id_settles_no_doubt() {
    let mut s = Script::joined(true);
    s.say_in_doubt(1, "al", "x");
    s.server(&said_late("mallory"));
    s.answer("mam:2", COMPLETE);
    s.clear();
    s.ghost_in("al");
    assert!(s.told().is_empty());
    s.sent("<message", &["<body>x</body>"]);
}

#[test]
fn x6_an_id_of_ours_in_the_archive_counts_only_from_a_nick_of_its_speaker() {
    for first in ["mallory", "al"] {
        let second = if first == "al" { "mallory" } else { "al" };
        let mut s = Script::joined(true);
        s.say_in_doubt(1, "al", "x");
        let query = s.last_query();
        let by = |nick: &str, id: &str| {
            script::archived(&query, ROOM, "E1-0-4c2f2a46", id)
                .replace(&format!("{ROOM}/al"), &format!("{ROOM}/{nick}"))
        };
        s.server(&by(first, "sid-1"));
        s.server(&by(second, "sid-2"));
        s.answer("mam:2", COMPLETE);
        let place = if first == "al" { "sid-1" } else { "sid-2" };
        assert_eq!(
            s.told(),
            [format!("landed 1/0 {place}"), "over 1: Shown".to_owned()]
        );
    }
}

#[test]
fn x6_an_id_of_ours_that_somebody_else_said_before_us_counts_for_nothing() {
    // Live, in what the room shows of its past, and in its archive.
    let forged = said_late("mallory");
    let past = forged.replace(
        "<body>",
        "<delay xmlns='urn:xmpp:delay' from='rust@muc.example' stamp='2024-11-22T12:53:00Z'/><body>",
    );
    let mut s = Script::new(true);
    s.join_from(
        ROOM,
        Some(Mark {
            heard_ms: WALL_MS - 5_000,
            last: "sid-1".to_owned(),
            sure: None,
        }),
    );
    s.let_in();
    s.server(&past);
    s.answer("disco#info", FEATURES);
    let query = s.last_query();
    s.server(
        &script::archived(&query, ROOM, "E1-0-4c2f2a46", "sid-2")
            .replace(&format!("{ROOM}/al"), &format!("{ROOM}/mallory")),
    );
    s.answer("mam:2", COMPLETE);
    s.server(&forged);
    s.say(1, "al", "x");
    s.ghost_in("al");
    assert_eq!(s.told(), ["joined"]);
    s.sent("<message", &["<body>x</body>"]);
}

#[test]
fn x6_a_speaker_whose_nick_the_room_prepared_is_known_again() {
    let mut s = Script::joined(true);
    let mut job = job(1, "al", "x");
    job.doubt = true;
    job.speaker.name = "\u{fb01}nn".to_owned();
    s.submit(job);
    let query = s.last_query();
    s.server(
        &script::archived(&query, ROOM, "E1-0-4c2f2a46", "sid-1")
            .replace(&format!("{ROOM}/al"), &format!("{ROOM}/finn")),
    );
    s.answer("mam:2", COMPLETE);
    assert_eq!(s.told(), ["landed 1/0 sid-1", "over 1: Shown"]);
}

#[test]
fn a_search_that_the_archive_cannot_answer_now_says_nothing_again() {
    let mut s = Script::joined(true);
    s.say_in_doubt(1, "al", "x");
    s.clear();
    s.answer_error("mam:2", "service-unavailable");
    assert!(s.told()[0].starts_with("over 1: Ambiguous"));
    assert!(s.nothing_sent());
}

#[test]
fn a_search_over_many_pages_goes_on_to_the_end() {
    let mut s = Script::joined(true);
    s.say_in_doubt(1, "al", "x");
    for n in 0..500 {
        s.answer("mam:2", &more(&format!("sid-{n}")));
        s.sent("<iq", &[&format!("<after>sid-{n}</after>")]);
    }
    let query = s.last_query();
    s.server(&script::archived(&query, ROOM, "E1-0-4c2f2a46", "sid-501"));
    s.answer("mam:2", COMPLETE);
    assert_eq!(s.told(), ["landed 1/0 sid-501", "over 1: Shown"]);
}

#[test]
fn only_the_parts_that_are_missing_are_said_again() {
    let mut s = Script::joined(true);
    let parts = vec![(0, "one".to_owned()), (1, "two".to_owned())];
    s.submit(Job {
        doubt: true,
        parts,
        ..job(1, "al", "")
    });
    let query = s.last_query();
    s.server(&script::archived(&query, ROOM, "E1-0-4c2f2a46", "sid-1"));
    s.answer("mam:2", COMPLETE);
    s.ghost_in("al");
    let sent = s.all_sent();
    assert!(!sent.contains("one") && sent.contains("<body>two</body>"));
}

#[test]
fn the_answer_to_an_earlier_search_settles_nothing() {
    let mut s = Script::joined(true);
    s.say_in_doubt(1, "al", "x");
    let stale = s.question_id("mam:2");
    s.server(&script::self_presence_gone());
    s.pass(Duration::from_secs(13));
    s.let_in();
    s.answer("disco#info", FEATURES);
    s.answer("mam:2", COMPLETE);
    s.pass(Duration::from_secs(2));
    s.say_in_doubt(1, "al", "x");
    s.clear();
    s.server(&format!(
        "<iq type='result' id='{stale}' from='{ROOM}' to='comity@bridge.example/gateway'>{COMPLETE}</iq>"
    ));
    assert!(s.nothing_sent(), "the search is still under way");
}

#[test]
fn a_room_that_keeps_no_ids_shows_what_was_said_by_its_order() {
    let mut s = Script::joined(true);
    s.say(1, "al", "yes");
    s.ghost_in("al");
    s.say(2, "al", "yes");
    for _ in 0..2 {
        s.server("<message type='groupchat' from='rust@muc.example/al' to='comity@bridge.example/gateway'><body>yes</body></message>");
    }
    let told = s.told();
    assert!(
        told.contains(&"over 1: Shown".to_owned()) && told.contains(&"over 2: Shown".to_owned()),
        "{told:?}"
    );
}

#[test]
fn a_late_message_says_when_it_was_written_until_the_room_is_known_to_say_it() {
    let late = |id: u64| Job {
        late: Some(Late {
            stamp: "2024-11-22T08:00:00Z".to_owned(),
            spoken: "[08:00]".to_owned(),
        }),
        ..job(id, "al", "hi")
    };
    const DELAY: &str =
        "<delay xmlns='urn:xmpp:delay' from='bridge.example' stamp='2024-11-22T08:00:00Z'/>";
    for keeps in [true, false] {
        let mut s = Script::joined(true);
        s.submit(late(1));
        s.ghost_in("al");
        s.sent("<message", &["<body>[08:00] hi</body>", DELAY]);
        let kept = if keeps { DELAY } else { "" };
        s.server(&format!(
            "<message type='groupchat' from='{ROOM}/al' to='comity@bridge.example/gateway' id='E1-0-4c2f2a46'>\
             <body>[08:00] hi</body>{kept}</message>"
        ));
        assert!(s.told().contains(&"over 1: Shown".to_owned()));
        s.submit(late(2));
        if keeps {
            s.sent("<message", &["<body>hi</body>", DELAY]);
        } else {
            s.sent("<message", &["<body>[08:00] hi</body><origin-id"]);
        }
    }
}

/// What an earlier connection said, passed on only now.
fn said_late(nick: &str) -> String {
    format!(
        "<message type='groupchat' from='{ROOM}/{nick}' to='comity@bridge.example/gateway' id='E1-0-4c2f2a46'>\
         <body>x</body><origin-id xmlns='urn:xmpp:sid:0' id='E1-0-4c2f2a46'/></message>"
    )
}

/// A session in a room that an earlier run has heard.
fn known_to(last: &str, sure: Option<&str>) -> Script {
    let mut s = Script::new(true);
    s.join_from(
        ROOM,
        Some(Mark {
            heard_ms: WALL_MS - 5_000,
            last: last.to_owned(),
            sure: sure.map(str::to_owned),
        }),
    );
    s.let_in();
    s.answer("disco#info", FEATURES);
    s.answer("mam:2", COMPLETE);
    s.pass(Duration::from_secs(1));
    s.clear();
    s.told();
    s
}
