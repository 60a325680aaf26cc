//! What was said while nobody listened, from the room's archive.

use std::time::Duration;

use super::ROOM;
use super::script::{self, COMPLETE, FEATURES, Script, WALL_MS, archived_line, line, more};
use crate::session::Mark;

#[test]
fn a_room_that_is_heard_for_the_first_time_begins_at_its_end() {
    let mut s = Script::new(true);
    s.join(ROOM);
    s.let_in();
    s.clear();
    s.answer("disco#info", FEATURES);
    s.sent(
        "<iq",
        &[
            "type='set'",
            "to='rust@muc.example'",
            "<max>1</max>",
            "<before/>",
        ],
    );
    let query = s.last_query();
    s.server(&archived_line(&query, "bob", "sid-7", "long ago", -9_000));
    s.answer("mam:2", &more("sid-7"));
    assert_eq!(s.told(), ["joined"]);
    assert_eq!(last(&s).last, "sid-7");
    assert_eq!(last(&s).heard_ms, WALL_MS);
}

#[test]
fn what_is_said_before_the_end_is_known_is_told_and_is_the_end() {
    let mut s = Script::new(true);
    s.join(ROOM);
    s.let_in();
    s.answer("disco#info", FEATURES);
    s.server(&line("bob", "sid-8", "hi"));
    let query = s.last_query();
    s.server(&archived_line(&query, "bob", "sid-7", "long ago", -9_000));
    s.answer("mam:2", &more("sid-7"));
    assert_eq!(s.told(), ["joined", "said by bob: hi"]);
    assert_eq!(last(&s).last, "sid-8");
}

#[test]
fn what_was_missed_comes_page_by_page_before_what_is_said_now_and_each_once() {
    let mut s = missed("sid-1", -60);
    s.sent("<iq", &["<after>sid-1</after>"]);
    let query = s.last_query();
    s.server(&archived_line(&query, "bob", "sid-2", "two", -50));
    // Said while the archive is read, and there already; and one that is not yet.
    s.server(&line("bob", "sid-3", "three"));
    s.server(&line("eve", "sid-4", "four"));
    s.answer("mam:2", &more("sid-2"));
    s.sent("<iq", &["<after>sid-2</after>"]);
    let query = s.last_query();
    s.server(&archived_line(&query, "bob", "sid-3", "three", 0));
    assert_eq!(
        s.told(),
        ["joined", "said by bob: two", "said by bob: three"]
    );
    s.answer("mam:2", COMPLETE);
    s.server(&line("bob", "sid-5", "five"));
    assert_eq!(s.told(), ["said by eve: four", "said by bob: five"]);
    let places: Vec<&str> = s.marks.iter().map(|mark| mark.last.as_str()).collect();
    assert_eq!(places, ["sid-2", "sid-3", "sid-4", "sid-4", "sid-5"]);
}

#[test]
fn the_mark_stands_behind_what_is_told_with_it_and_its_time_moves_only_at_the_end() {
    let mut s = missed("sid-1", -60);
    let query = s.last_query();
    s.server(&archived_line(&query, "bob", "sid-2", "two", -50));
    s.told();
    assert_eq!(
        *last(&s),
        Mark {
            heard_ms: WALL_MS - 60_000,
            last: "sid-2".to_owned(),
            sure: None
        }
    );
    s.answer("mam:2", COMPLETE);
    assert_eq!(last(&s).heard_ms, WALL_MS);
}

#[test]
fn only_the_room_itself_answers_for_its_archive() {
    let mut s = missed("sid-1", -60);
    let query = s.last_query();
    let forged = archived_line(&query, "bob", "sid-2", "forged", -50);
    s.server(&forged.replacen("from='rust@muc.example'", "from='rust@muc.example/eve'", 1));
    s.server(&archived_line("other", "bob", "sid-2", "forged", -50));
    let elsewhere = archived_line(&query, "bob", "sid-2", "forged", -50);
    s.server(&elsewhere.replace("rust@muc.example/bob", "other@muc.example/bob"));
    s.answer("mam:2", COMPLETE);
    assert_eq!(s.told(), ["joined"]);
}

#[test]
fn our_own_in_the_archive_is_no_event_and_is_known_to_have_landed() {
    let mut s = missed("sid-1", -60);
    let query = s.last_query();
    s.server(&script::archived(&query, ROOM, "E1-0-4c2f2a46", "sid-2"));
    s.answer("mam:2", COMPLETE);
    s.clear();
    s.say_in_doubt(1, "al", "x");
    assert_eq!(s.told(), ["joined", "landed 1/0 sid-2", "over 1: Shown"]);
    assert!(s.nothing_sent());
}

#[test]
fn a_place_that_the_archive_has_lost_is_found_again_by_time_and_what_is_missing_is_a_gap() {
    // The oldest message is from before we were last there: nothing is missing.
    let mut s = missed("gone", -60);
    s.answer_error("mam:2", "item-not-found");
    s.sent("<iq", &["<max>1</max>"]);
    let query = s.last_query();
    s.server(&archived_line(&query, "bob", "new-1", "old", -500));
    s.answer("mam:2", &more("new-1"));
    s.sent("<iq", &["<value>2024-11-22T12:51:20Z</value>"]);
    s.answer("mam:2", COMPLETE);
    assert_eq!(s.told(), ["joined"]);

    // The oldest message is younger: there is a gap up to it, and everything after it is told.
    let mut s = missed("gone", -60);
    s.answer_error("mam:2", "item-not-found");
    let query = s.last_query();
    s.server(&archived_line(&query, "bob", "new-1", "first", -20));
    s.answer("mam:2", &more("new-1"));
    let query = s.last_query();
    s.server(&archived_line(&query, "bob", "new-1", "first", -20));
    s.answer("mam:2", COMPLETE);
    assert_eq!(
        s.told(),
        ["joined", "gap -60000+40000", "said by bob: first"]
    );

    // The archive is empty: everything up to now is missing, once.
    let mut s = missed("gone", -60);
    s.answer_error("mam:2", "item-not-found");
    s.answer("mam:2", COMPLETE);
    assert_eq!(s.told(), ["joined", "gap -60000+60000"]);
    s.reconnect();
    s.pass(Duration::from_secs(2));
    s.let_in();
    s.answer("disco#info", FEATURES);
    s.sent("<iq", &["<value>2024-11-22T12:52:20Z</value>"]);
    s.answer("mam:2", COMPLETE);
    assert!(!s.told().concat().contains("gap"));
}

#[test]
fn an_archive_that_begins_anew_for_a_place_it_does_not_know_is_not_imported() {
    let mut s = missed("gone", -60);
    let query = s.last_query();
    for day in [9, 8] {
        let id = format!("old-{day}");
        s.server(&archived_line(&query, "bob", &id, "old", -day * 86_400));
    }
    s.answer("mam:2", &more("old-8"));
    s.sent("<iq", &["<max>1</max>", "<before>old-9</before>"]);
    s.answer("mam:2", COMPLETE);
    s.sent("<iq", &["<max>1</max>"]);
    let query = s.last_query();
    s.server(&archived_line(&query, "bob", "old-9", "old", -9 * 86_400));
    s.answer("mam:2", &more("old-9"));
    s.sent("<iq", &["<value>2024-11-22T12:51:20Z</value>"]);
    let query = s.last_query();
    s.server(&archived_line(&query, "bob", "new", "missed", -20));
    s.answer("mam:2", COMPLETE);
    assert_eq!(s.told(), ["joined", "said by bob: missed"]);
}

#[test]
fn a_clock_that_has_jumped_by_a_year_costs_nothing_while_the_place_is_known() {
    let mut s = missed("sid-1", -60);
    let year = 365 * 86_400;
    let query = s.last_query();
    s.server(&archived_line(&query, "bob", "sid-2", "two", -year));
    s.answer("mam:2", COMPLETE);
    s.sent("<iq", &["<before>sid-2</before>"]);
    let query = s.last_query();
    s.server(&archived_line(&query, "bob", "sid-1", "one", -year - 9));
    s.answer("mam:2", COMPLETE);
    s.sent("<iq", &["<after>sid-1</after>"]);
    let query = s.last_query();
    s.server(&archived_line(&query, "bob", "sid-2", "two", -year));
    s.answer("mam:2", COMPLETE);
    assert_eq!(s.told(), ["joined", "said by bob: two"]);
}

#[test]
fn an_archive_that_does_not_answer_is_asked_again_and_then_on_the_next_entry() {
    for fault in [None, Some("service-unavailable")] {
        let mut s = missed("sid-1", -60);
        s.server(&line("bob", "sid-9", "now"));
        s.told();
        fail(&mut s, fault);
        let told = s.told();
        assert!(told.len() == 1 && told[0].starts_with("not joined: the room's archive"));
        s.pass(Duration::from_secs(2));
        s.let_in();
        s.clear();
        s.answer("disco#info", FEATURES);
        s.sent("<iq", &["<after>sid-1</after>"]);
        let query = s.last_query();
        s.server(&archived_line(&query, "bob", "sid-9", "now", 0));
        s.answer("mam:2", COMPLETE);
        assert_eq!(s.told(), ["joined", "said by bob: now"]);
    }
}

#[test]
fn an_archive_that_has_failed_for_an_hour_is_given_up_and_what_it_has_is_a_gap() {
    let mut s = missed("sid-1", -60);
    let begin = s.wall_ms;
    let mut told = String::new();
    while !told.contains("gap ") {
        assert!(s.wall_ms - begin < 7_200_000, "never given up");
        fail(&mut s, Some("internal-server-error"));
        told = s.told().concat();
        if told.contains("not joined") {
            while !s.all_sent().contains("<presence") {
                s.pass(Duration::from_secs(10));
            }
            s.let_in();
            s.answer("disco#info", FEATURES);
        }
    }
    assert!(s.wall_ms - begin >= 3_600_000);
    s.server(&line("bob", "sid-9", "now"));
    assert_eq!(s.told(), ["said by bob: now"]);
}

#[test]
fn an_archive_that_fails_keeps_nobody_out_of_a_room_that_is_heard_for_the_first_time() {
    let mut s = Script::new(true);
    s.join(ROOM);
    s.let_in();
    s.answer("disco#info", FEATURES);
    fail(&mut s, Some("internal-server-error"));
    s.server(&line("bob", "sid-1", "hi"));
    assert_eq!(s.told(), ["joined", "said by bob: hi"]);
    assert_eq!(last(&s).last, "sid-1");
}

#[test]
fn an_archive_that_is_not_for_us_is_a_gap_at_once() {
    let mut s = missed("sid-1", -60);
    s.server(&line("bob", "sid-9", "now"));
    s.answer_error("mam:2", "forbidden");
    assert_eq!(s.told(), ["joined", "gap -60000+60000", "said by bob: now"]);
}

#[test]
fn without_a_place_in_the_gateway_the_archive_is_read_later() {
    let mut s = Script::joined(true);
    s.server(&line("bob", "sid-1", "one"));
    s.places(0);
    for (id, text) in [("sid-2", "two"), ("sid-3", "three")] {
        s.server(&line("bob", id, text));
    }
    assert_eq!(s.told(), ["said by bob: one"]);
    s.pass(Duration::from_secs(1));
    assert!(s.nothing_sent(), "no page is asked for without a place");
    s.places(1_000);
    s.pass(Duration::from_millis(250));
    s.sent("<iq", &["<after>sid-1</after>"]);
    s.server(&line("bob", "sid-4", "four"));
    let query = s.last_query();
    for (id, text) in [("sid-2", "two"), ("sid-3", "three")] {
        s.server(&archived_line(&query, "bob", id, text, 0));
    }
    s.answer("mam:2", COMPLETE);
    assert_eq!(
        s.told(),
        [
            "said by bob: two",
            "said by bob: three",
            "said by bob: four"
        ]
    );
}

#[test]
fn a_page_that_does_not_fit_is_read_on_from_the_last_that_did() {
    let mut s = missed("sid-1", -60);
    s.clear();
    let query = s.last_query();
    s.places(1);
    s.server(&archived_line(&query, "bob", "sid-2", "two", -50));
    s.server(&archived_line(&query, "bob", "sid-3", "three", -40));
    s.answer("mam:2", COMPLETE);
    assert!(s.nothing_sent());
    s.places(1_000);
    s.pass(Duration::from_millis(250));
    s.sent("<iq", &["<after>sid-2</after>"]);
    let query = s.last_query();
    s.server(&archived_line(&query, "bob", "sid-3", "three", -40));
    s.answer("mam:2", COMPLETE);
    assert_eq!(
        s.told(),
        ["joined", "said by bob: two", "said by bob: three"]
    );
}

#[test]
fn more_than_can_be_held_back_is_read_from_the_archive() {
    let mut s = missed("sid-1", -60);
    for n in 0..1_010 {
        s.server(&line("bob", &format!("live-{n}"), "x"));
    }
    s.told();
    s.answer("mam:2", COMPLETE);
    s.sent("<iq", &["<after>sid-1</after>"]);
    let query = s.last_query();
    s.server(&archived_line(&query, "bob", "live-0", "first", 0));
    s.answer("mam:2", COMPLETE);
    assert_eq!(s.told(), ["said by bob: first"]);
}

#[test]
fn what_could_not_be_held_back_is_no_gap_while_the_archive_is_read() {
    for free in [1_000, 1] {
        let mut s = missed("sid-1", -60);
        let query = s.last_query();
        for n in 0..1_010 {
            s.server(&line("bob", &format!("live-{n}"), "x"));
        }
        s.places(free);
        s.server(&archived_line(&query, "bob", "sid-2", "two", -50));
        assert_eq!(s.told(), ["joined", "said by bob: two"], "{free}");
        s.places(1_000);
        s.answer("mam:2", COMPLETE);
        s.sent("<iq", &["<after>sid-2</after>"]);
    }
}

#[test]
fn an_id_that_no_mark_can_hold_is_left_out() {
    let mut s = missed("sid-1", -60);
    let query = s.last_query();
    for id in ["sid&#10;2", &"x".repeat(513)] {
        s.server(&archived_line(&query, "eve", id, "broken", -50));
    }
    s.server(&archived_line(&query, "bob", "sid-3", "three", -40));
    s.answer("mam:2", COMPLETE);
    assert_eq!(s.told(), ["joined", "said by bob: three"]);
    let kept = last(&s);
    assert_eq!(Mark::read(&kept.write()).as_ref(), Some(kept));
}

#[test]
fn an_archive_that_goes_round_in_circles_is_left() {
    let mut s = missed("sid-1", -60);
    s.answer("mam:2", &more("sid-1"));
    s.server(&line("bob", "sid-2", "now"));
    assert_eq!(s.told(), ["joined", "said by bob: now"]);
}

#[test]
fn after_a_cut_the_room_is_read_on_from_the_last_message_heard() {
    let mut s = Script::joined(true);
    s.server(&line("bob", "sid-1", "one"));
    s.reconnect();
    s.pass(Duration::from_secs(2));
    s.let_in();
    s.answer("disco#info", FEATURES);
    s.sent("<iq", &["<after>sid-1</after>"]);
}

#[test]
fn a_quiet_room_keeps_when_it_was_last_heard() {
    let mut s = Script::joined(true);
    s.server(&line("bob", "sid-1", "one"));
    let before = s.marks.len();
    for _ in 0..60 {
        s.pass(Duration::from_secs(1));
    }
    assert_eq!(s.marks.len(), before + 1);
    assert!(last(&s).heard_ms > WALL_MS + 50_000);
    assert_eq!(last(&s).last, "sid-1");
}

/// The archive fails, as often as it is asked on one entry: by this error, or by saying nothing.
fn fail(s: &mut Script, fault: Option<&str>) {
    for _ in 0..5 {
        match fault {
            Some(fault) => s.answer_error("mam:2", fault),
            None => s.pass(Duration::from_secs(16)),
        }
        s.pass(Duration::from_secs(60));
    }
}

/// A room that was last heard up to this message, so many seconds ago, entered again.
fn missed(last: &str, seconds: i64) -> Script {
    let mut s = Script::new(true);
    s.join_from(
        ROOM,
        Some(Mark {
            heard_ms: WALL_MS + seconds * 1_000,
            last: last.to_owned(),
            sure: None,
        }),
    );
    s.let_in();
    s.answer("disco#info", FEATURES);
    s
}

fn last(s: &Script) -> &Mark {
    s.marks.last().expect("a mark")
}
