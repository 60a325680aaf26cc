//! Staying in a room, and coming back into it.

use std::time::Duration;

use super::ROOM;
use super::script::{COMPLETE, FEATURES, Script, WALL_MS, message};
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

fn heard(last: &str) -> Mark {
    Mark {
        heard_ms: WALL_MS - 60_000,
        last: last.to_owned(),
        sure: None,
    }
}
