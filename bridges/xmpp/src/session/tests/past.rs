//! What was said while nobody listened, in a room without an archive.

use std::time::Duration;

use super::ROOM;
use super::script::{Script, WALL_MS};
use crate::session::Mark;

const PLAIN: &str = "<query xmlns='http://jabber.org/protocol/disco#info'/>";

#[test]
fn a_room_that_is_heard_for_the_first_time_begins_at_its_end() {
    let s = entered(None, &[("bob", Some("m1"), "old", -100)]);
    assert_eq!(s.marks.last().expect("a mark").last, "bob m1");
}

#[test]
fn what_came_after_the_last_message_heard_is_told_and_there_is_no_gap() {
    let mut s = entered(
        Some(("bob m1", -60)),
        &[
            ("bob", Some("m0"), "older", -90),
            ("bob", Some("m1"), "heard", -61),
            ("eve", Some("m2"), "missed", -30),
            ("old", None, "missed too", -20),
        ],
    );
    assert_eq!(
        s.told(),
        ["joined", "said by eve: missed", "said by old: missed too"]
    );
}

#[test]
fn a_past_that_does_not_reach_back_leaves_a_gap_up_to_where_it_begins() {
    let mut s = entered(Some(("bob m1", -600)), &[("eve", Some("m7"), "late", -30)]);
    assert_eq!(
        s.told(),
        ["joined", "gap -600000+570000", "said by eve: late"]
    );
}

#[test]
fn a_room_that_shows_nothing_leaves_a_gap() {
    let mut s = entered(Some(("bob m1", -60)), &[]);
    assert_eq!(s.told(), ["joined", "gap -60000+60000"]);
    let mark = s.marks.last().expect("a mark kept with the gap");
    assert_eq!(mark.heard_ms, WALL_MS);
}

#[test]
fn a_past_that_reaches_back_beyond_the_last_moment_heard_leaves_no_gap() {
    // The last message heard had no id: time decides, and ids keep what was heard already from being told twice.
    let mut s = entered(
        Some(("", -600)),
        &[
            ("bob", None, "heard", -700),
            ("bob", Some("m1"), "missed", -300),
            ("old", None, "missed too", -200),
        ],
    );
    assert_eq!(
        s.told(),
        ["joined", "said by bob: missed", "said by old: missed too"]
    );
}

#[test]
fn without_a_place_in_the_gateway_there_is_a_counted_gap() {
    let mut s = entered(None, &[]);
    s.told();
    s.places(0);
    s.server(&live("bob", "m1", "lost"));
    s.pass(Duration::from_secs(5));
    assert!(s.told().is_empty());
    s.places(1_000);
    s.server(&live("bob", "m2", "heard"));
    assert_eq!(s.told(), ["gap 0+5000", "said by bob: heard"]);
}

#[test]
fn a_gap_is_told_though_nobody_says_any_more() {
    let mut s = entered(None, &[]);
    s.told();
    s.places(0);
    s.server(&live("bob", "m1", "lost"));
    s.places(1_000);
    s.pass(Duration::from_millis(250));
    assert_eq!(s.told(), ["gap 0+250"]);
}

/// A room without an archive, last heard up to this message, so many seconds ago, which shows this of its past:
/// nick, origin id, text and second.
fn entered(mark: Option<(&str, i64)>, past: &[(&str, Option<&str>, &str, i64)]) -> Script {
    let mut s = Script::new(true);
    let mark = mark.map(|(last, seconds)| Mark {
        heard_ms: WALL_MS + seconds * 1_000,
        last: last.to_owned(),
        sure: None,
    });
    s.join_from(ROOM, mark);
    s.let_in();
    for (nick, id, text, seconds) in past {
        let stamp = crate::stamp::write(WALL_MS + seconds * 1_000);
        let origin = id.map(|id| format!("<origin-id xmlns='urn:xmpp:sid:0' id='{id}'/>"));
        s.server(&format!(
            "<message type='groupchat' from='{ROOM}/{nick}' to='comity@bridge.example/gateway'><body>{text}</body>{}\
             <delay xmlns='urn:xmpp:delay' from='{ROOM}' stamp='{stamp}'/></message>",
            origin.unwrap_or_default()
        ));
    }
    s.answer("disco#info", PLAIN);
    s
}

fn live(nick: &str, id: &str, text: &str) -> String {
    format!(
        "<message type='groupchat' from='{ROOM}/{nick}' to='comity@bridge.example/gateway'><body>{text}</body>\
         <origin-id xmlns='urn:xmpp:sid:0' id='{id}'/></message>"
    )
}
