use super::*;
use crate::wire::{Build, element};

const ALL: Features = Features {
    stanza_ids: true,
    occupant_ids: true,
    archive: true,
};
const NONE: Features = Features {
    stanza_ids: false,
    occupant_ids: false,
    archive: false,
};

#[test]
fn a_message_is_read_with_the_rooms_id_and_the_occupants() {
    let message = || {
        message("hello")
            .child(sid("room@muc.example", "s1"))
            .child(occupant("o1"))
    };
    let said = said(message(), ALL).expect("said");
    assert_eq!(source(message(), "alice", ALL).as_deref(), Some("s1"));
    assert_eq!(
        (said.author.id.as_str(), said.author.name.as_str()),
        ("o1", "alice")
    );
    assert_eq!(text(&said), (MessageKind::Text, "hello"));
}

#[test]
fn slash_me_becomes_an_emote_and_only_with_its_space() {
    assert_eq!(
        text(&said(message("/me waves"), ALL).expect("said")),
        (MessageKind::Emote, "waves")
    );
    assert_eq!(
        text(&said(message("/meh"), ALL).expect("said")),
        (MessageKind::Text, "/meh")
    );
    assert_eq!(
        text(&said(message(" /me x"), ALL).expect("said")),
        (MessageKind::Text, " /me x")
    );
}

#[test]
fn x6_a_forged_stanza_id_counts_for_nothing() {
    let forged = || message("x").child(sid("other@muc.example", "s1"));
    assert_eq!(source(forged(), "alice", ALL), None);
    let unstripped = || {
        message("x")
            .child(sid("room@muc.example", "s1"))
            .child(occupant("o1"))
    };
    assert_eq!(source(unstripped(), "alice", NONE), None);
    assert_eq!(said(unstripped(), NONE).expect("said").author.id, "alice");
}

#[test]
fn an_origin_id_counts_with_its_occupant_only() {
    let origin = || message("x").child(element("origin-id", ns::SID).attr("id", "q1"));
    let alice = source(origin(), "alice", NONE);
    assert!(alice.is_some());
    assert_ne!(alice, source(origin(), "bob", NONE));
    assert_eq!(alice, source(origin(), "alice", NONE));
    assert_eq!(source(origin(), "a\nb", NONE), None);
}

#[test]
fn the_last_stamp_of_a_message_is_the_rooms() {
    let delay = |stamp: &str| element("delay", ns::DELAY).attr("stamp", stamp);
    let forged = message("x")
        .child(delay("1980-01-01T00:00:00Z"))
        .child(delay("2024-11-22T12:53:20Z"))
        .build();
    assert_eq!(stamp(&forged), Some(1_732_280_000_000));
    assert!(has_stamp(&forged, "1980-01-01T00:00:00Z"));
    assert_eq!(stamp(&message("x").build()), None);
}

#[test]
fn what_is_not_new_text_is_never_shown_as_new_text() {
    for (name, namespace, _) in NOT_TEXT {
        let unsaid =
            said(message("a fallback").child(element(name, namespace)), ALL).expect_err(name);
        assert_eq!(unsaid.reason, "unsupported", "{name}");
    }
}

#[test]
fn nothing_to_show_is_nothing() {
    for empty in [
        bare(),
        bare().child(element("subject", ns::CLIENT).text("x")),
        message(" \n"),
        message("/me  "),
    ] {
        assert!(said(empty, ALL).is_err());
    }
}

#[test]
fn x7_history_is_known_whatever_its_stamp() {
    let delay = |from: Option<&str>, stamp: &str| {
        let delay = element("delay", ns::DELAY).attr("stamp", stamp);
        message("old")
            .child(match from {
                Some(from) => delay.attr("from", from),
                None => delay,
            })
            .build()
    };
    for stamp in ["1970-01-01T00:00:00Z", "2099-01-01T00:00:00Z", "yesterday"] {
        assert!(is_history(
            &delay(Some("Room@MUC.example"), stamp),
            &room(),
            false
        ));
        assert!(is_history(&delay(None, stamp), &room(), true));
        assert!(!is_history(
            &delay(Some("alice@home.example/phone"), stamp),
            &room(),
            false
        ));
    }
    assert!(!is_history(&message("new").build(), &room(), true));
}

fn room() -> Bare {
    Bare::room("room@muc.example").expect("a room")
}

fn bare() -> Build {
    element("message", ns::CLIENT).attr("type", "groupchat")
}

fn message(body: &str) -> Build {
    bare().child(element("body", ns::CLIENT).text(body))
}

fn sid(by: &str, id: &str) -> Build {
    element("stanza-id", ns::SID).attr("by", by).attr("id", id)
}

fn occupant(id: &str) -> Build {
    element("occupant-id", ns::OCCUPANT_ID).attr("id", id)
}

fn said(message: Build, features: Features) -> Result<Said, Unsaid> {
    read(&message.build(), "alice", features)
}

fn source(message: Build, nick: &str, features: Features) -> Option<String> {
    source_id(&message.build(), &room(), nick, features)
}

fn text(said: &Said) -> (MessageKind, &str) {
    let Content::Message(message) = &said.content else {
        panic!("not a message")
    };
    (message.kind, &message.text.plain)
}
