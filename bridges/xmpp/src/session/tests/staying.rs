//! Staying in a room, and coming back into it.

use std::time::Duration;

use super::ROOM;
use super::script::{self, COMPLETE, FEATURES, Script, WALL_MS, message};
use crate::session::Mark;

const PLAIN: &str = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
const GHOST: &str = "net\\2fal@bridge.example/ghost";

#[test]
fn a_ghosts_copies_do_not_show_that_the_observer_is_in() {
    let mut s = Script::joined(true);
    s.say(1, "al", "x");
    s.ghost_in("al");
    s.reflect("al", "E1-0-4c2f2a46", Some("sid-1"));
    for minute in 1..=10 {
        assert!(!s.all_sent().contains("urn:xmpp:ping"), "{minute}");
        s.pass(Duration::from_secs(60));
        s.server(&message("al", GHOST, &format!("m{minute}"), "hi"));
    }
    s.pass(Duration::from_secs(1));
    s.sent("<iq", &["to='rust@muc.example/comity'", "urn:xmpp:ping"]);
}

#[test]
fn a_room_that_has_forgotten_a_ghost_is_asked_for_the_observer_whose_absence_is_a_gap() {
    let mut s = Script::new(true);
    s.join(ROOM);
    s.let_in();
    s.answer("disco#info", PLAIN);
    s.say(1, "al", "x");
    s.ghost_in("al");
    s.reflect("al", "E1-0-4c2f2a46", None);
    // From here on the room knows nobody of ours any more.
    for _ in 0..4 {
        s.pass(Duration::from_secs(60));
    }
    s.say(2, "al", "y");
    s.told();
    s.clear();
    s.bounce(GHOST, "E2-0-4c2f2a46", "not-acceptable", "cancel");
    s.sent("<iq", &["to='rust@muc.example/comity'", "urn:xmpp:ping"]);
    s.answer_error("urn:xmpp:ping", "not-acceptable");
    let told = s.told();
    assert!(
        told.iter().any(|told| told.starts_with("not joined")),
        "{told:?}"
    );
    assert_eq!(s.marks.last().expect("a mark").heard_ms, WALL_MS);
    s.pass(Duration::from_secs(2));
    s.let_in();
    s.answer("disco#info", PLAIN);
    assert_eq!(s.told(), ["joined", "gap 0+242000"]);
}

#[test]
fn a_room_that_does_not_say_what_it_can_do_is_entered_again() {
    for fault in [None, Some("remote-server-timeout")] {
        let mut s = Script::new(true);
        s.join_from(ROOM, Some(heard("sid-1")));
        s.let_in();
        match fault {
            None => s.pass(Duration::from_secs(16)),
            Some(fault) => s.answer_error("disco#info", fault),
        }
        let told = s.told();
        assert!(
            told.len() == 1 && told[0].starts_with("not joined: "),
            "{told:?}"
        );
        s.clear();
        s.pass(Duration::from_secs(2));
        s.sent("<presence", &["rust@muc.example/comity"]);
        s.let_in();
        s.answer("disco#info", FEATURES);
        s.sent("<iq", &["<after>sid-1</after>"]);
        s.answer("mam:2", COMPLETE);
        assert_eq!(s.told(), ["joined"]);
    }
}

#[test]
fn a_room_that_cannot_say_what_it_can_do_is_taken_for_one_that_can_do_nothing() {
    let mut s = Script::new(true);
    s.join(ROOM);
    s.let_in();
    s.answer_error("disco#info", "feature-not-implemented");
    assert_eq!(s.told(), ["joined"]);
}

#[test]
fn a_room_that_puts_us_out_again_and_again_is_entered_less_and_less_often() {
    let mut s = Script::joined(true);
    for (round, seconds) in [10.0, 20.0, 40.0, 80.0].into_iter().enumerate() {
        let waited = kicked(&mut s);
        assert!(
            waited >= seconds * 0.8 && waited <= seconds * 1.2 + 1.0,
            "{waited} in round {round}"
        );
    }
    for _ in 0..11 {
        s.pass(Duration::from_secs(60));
        s.server(&message("bob", "comity@bridge.example/gateway", "m", "hi"));
    }
    let waited = kicked(&mut s);
    assert!(waited <= 13.0, "{waited} after ten minutes in the room");
}

#[test]
fn a_ghost_whose_join_is_not_answered_holds_nobody_up() {
    let mut s = Script::joined(true);
    s.say(1, "al", "x");
    s.say(2, "bea", "y");
    s.pass(Duration::from_secs(21));
    assert!(s.told().is_empty());
    let sent = s.all_sent();
    assert!(
        sent.contains("<body>&lt;al&gt; x</body>"),
        "the bot does not speak in {sent}"
    );
    s.ghost_in("bea");
    s.sent("<message", &["<body>y</body>"]);
    s.reflect("comity", "E1-0-4c2f2a46", None);
    s.reflect("bea", "E2-0-4c2f2a46", None);
    s.say(3, "al", "z");
    s.sent("<message", &["<body>&lt;al&gt; z</body>"]);
    s.reflect("comity", "E3-0-4c2f2a46", None);
    s.pass(Duration::from_secs(601));
    s.say(4, "al", "again");
    s.sent("<presence", &["rust@muc.example/al"]);
}

#[test]
fn a_clock_that_was_set_back_takes_the_moment_last_heard_with_it() {
    let mut s = Script::joined(true);
    s.wall_ms -= 3_600_000;
    for _ in 0..61 {
        s.pass(Duration::from_secs(1));
    }
    let heard = s.marks.last().expect("a mark").heard_ms;
    assert!(heard <= s.wall_ms, "{} ahead", heard - s.wall_ms);
}

/// Puts the observer out, lets it in again, and says how many seconds it stayed away.
fn kicked(s: &mut Script) -> f64 {
    s.server(&script::self_presence_gone());
    s.clear();
    let mut waited = 0.0;
    while s.nothing_sent() {
        s.pass(Duration::from_millis(250));
        waited += 0.25;
        assert!(waited < 600.0, "never entered again");
    }
    s.let_in();
    s.answer("disco#info", FEATURES);
    s.answer("mam:2", COMPLETE);
    waited
}

fn heard(last: &str) -> Mark {
    Mark {
        heard_ms: WALL_MS - 60_000,
        last: last.to_owned(),
        sure: None,
    }
}
