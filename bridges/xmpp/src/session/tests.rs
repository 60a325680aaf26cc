//! Transcripts: what the server says, what we say, by the session alone.

mod catch_up;
mod doubt;
mod past;
mod script;
mod staying;

use std::time::Duration;

use self::script::{Script, message};

const ROOM: &str = "rust@muc.example";

#[test]
fn a_room_is_joined_once_it_has_shown_its_past_and_said_what_it_can_do() {
    let mut s = Script::new(true);
    s.join(ROOM);
    s.sent(
        "<presence",
        &[
            "from='comity@bridge.example/gateway'",
            "to='rust@muc.example/comity'",
            "maxstanzas='200'",
        ],
    );
    s.server("<presence from='rust@muc.example/alice' to='comity@bridge.example/gateway'><x xmlns='http://jabber.org/protocol/muc#user'><item role='participant'/></x></presence>");
    s.server(&script::self_presence(
        "comity",
        "comity@bridge.example/gateway",
        &["110"],
    ));
    s.server("<message type='groupchat' from='rust@muc.example/bob' to='comity@bridge.example/gateway'><body>long ago</body><delay xmlns='urn:xmpp:delay' stamp='2020-01-01T00:00:00Z'/></message>");
    assert!(s.told().is_empty());
    s.answer("disco#info", script::FEATURES);
    assert_eq!(s.told(), ["joined"]);
}

#[test]
fn a_taken_nick_gets_a_suffix_and_a_refusal_is_told_and_tried_again() {
    let mut s = Script::new(true);
    s.join(ROOM);
    s.refuse("conflict", "cancel");
    s.sent("<presence", &["to='rust@muc.example/comity [gateway]'"]);
    s.refuse("registration-required", "auth");
    assert_eq!(
        s.told(),
        ["not joined: the room is for members only: registration-required"]
    );
    s.pass(Duration::from_secs(20));
    assert!(s.nothing_sent());
    s.pass(Duration::from_secs(20));
    s.sent("<presence", &["<x xmlns='http://jabber.org/protocol/muc'>"]);
}

#[test]
fn a_new_room_is_unlocked() {
    let mut s = Script::new(true);
    s.join(ROOM);
    s.server(&script::self_presence(
        "comity",
        "comity@bridge.example/gateway",
        &["110", "201"],
    ));
    s.answer("muc#owner", "");
    s.answer("disco#info", script::FEATURES);
    assert_eq!(s.told(), ["joined"]);
}

#[test]
fn being_put_out_gives_everything_back_and_comes_in_again() {
    let mut s = Script::joined(true);
    s.say(1, "al", "one");
    s.sent(
        "<presence",
        &[
            "from='net\\2fal@bridge.example/ghost'",
            "to='rust@muc.example/al'",
        ],
    );
    s.server("<presence type='unavailable' from='rust@muc.example/comity' to='comity@bridge.example/gateway'><x xmlns='http://jabber.org/protocol/muc#user'><status code='110'/><status code='307'/><status code='333'/></x></presence>");
    assert_eq!(
        s.told(),
        ["over 1: NotAttempted", "not joined: put out of the room"]
    );
    s.pass(Duration::from_secs(2));
    s.sent(
        "<presence",
        &[
            "from='comity@bridge.example/gateway'",
            "rust@muc.example/comity",
        ],
    );
}

#[test]
fn a_ghost_speaks_once_it_is_in_and_its_reflection_is_the_receipt() {
    let mut s = Script::joined(true);
    s.say(1, "al", "hello");
    s.sent("<presence", &["<history maxstanzas='0'/>"]);
    assert!(s.nothing_sent());
    s.ghost_in("al");
    s.sent(
        "<message",
        &[
            "from='net\\2fal@bridge.example/ghost'",
            "to='rust@muc.example'",
            "type='groupchat'",
            "id='E1-0-4c2f2a46'",
            "<body>hello</body>",
            "<origin-id xmlns='urn:xmpp:sid:0' id='E1-0-4c2f2a46'/>",
        ],
    );
    assert!(s.told().is_empty());
    s.reflect("al", "E1-0-4c2f2a46", Some("sid-1"));
    assert_eq!(s.told(), ["landed 1/0 sid-1", "over 1: Shown"]);
}

#[test]
fn x6_somebody_elses_message_with_our_id_is_no_receipt() {
    let mut s = Script::joined(true);
    s.say(1, "al", "hello");
    s.ghost_in("al");
    s.reflect("mallory", "E1-0-4c2f2a46", Some("sid-1"));
    assert!(s.told().is_empty());
    s.reflect("al", "E1-0-4c2f2a46", Some("sid-2"));
    assert_eq!(s.told(), ["landed 1/0 sid-2", "over 1: Shown"]);
}

#[test]
fn x6_an_error_from_an_occupant_is_no_answer_of_the_room() {
    // Prosody 0.12 passes errors that are not about a lost recipient on, as private messages.
    for condition in ["forbidden", "not-acceptable"] {
        let mut s = Script::joined(true);
        s.say(1, "al", "hello");
        s.ghost_in("al");
        s.clear();
        s.server(&format!(
            "<message type='error' id='E1-0-4c2f2a46' from='{ROOM}/mallory' to='net\\2fal@bridge.example/ghost'>\
             <error type='auth'><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"
        ));
        assert!(s.told().is_empty() && s.nothing_sent(), "{condition}");
        s.reflect("al", "E1-0-4c2f2a46", Some("sid-2"));
        assert_eq!(s.told(), ["landed 1/0 sid-2", "over 1: Shown"]);
    }
}

#[test]
fn a_later_message_never_overtakes_one_whose_ghost_is_not_in_yet() {
    let mut s = Script::joined(true);
    s.say(1, "al", "first");
    s.ghost_in("al");
    s.clear();
    s.say(2, "bea", "second");
    s.say(3, "al", "third");
    assert!(!s.all_sent().contains("third"));
    s.ghost_in("bea");
    let sent = s.all_sent();
    assert!(sent.find("second").expect("second") < sent.find("third").expect("third"));
    for (nick, id) in [
        ("al", "E3-0-4c2f2a46"),
        ("al", "E1-0-4c2f2a46"),
        ("bea", "E2-0-4c2f2a46"),
    ] {
        s.reflect(nick, id, None);
    }
    let over: Vec<String> = s
        .told()
        .into_iter()
        .filter(|told| told.starts_with("over"))
        .collect();
    assert_eq!(over, ["over 1: Shown", "over 2: Shown", "over 3: Shown"]);
}

#[test]
fn two_of_one_name_are_told_apart() {
    let mut s = Script::joined(true);
    s.say(1, "al", "hi");
    s.refuse("conflict", "cancel");
    s.sent("<presence", &["to='rust@muc.example/al [net]'"]);
    s.refuse("conflict", "cancel");
    s.sent("<presence", &["to='rust@muc.example/al [net] 2'"]);
    s.server(&script::self_presence(
        "al [net] 2",
        "net\\2fal@bridge.example/ghost",
        &["110"],
    ));
    s.sent("<message", &["<body>hi</body>"]);
}

#[test]
fn a_nick_that_the_server_cannot_prepare_is_made_plain() {
    let mut s = Script::joined(true);
    s.say(1, "al\u{1fae0}", "hi");
    s.refuse("jid-malformed", "modify");
    s.sent("<presence", &["to='rust@muc.example/al'"]);
}

#[test]
fn a_ghost_that_may_not_enter_is_spoken_for_and_one_that_is_banned_is_not() {
    let mut s = Script::joined(true);
    s.say(1, "al", "hi");
    s.refuse("registration-required", "auth");
    s.sent(
        "<message",
        &[
            "from='comity@bridge.example/gateway'",
            "<body>&lt;al&gt; hi</body>",
        ],
    );
    s.reflect("comity", "E1-0-4c2f2a46", None);
    s.say(2, "bea", "hi");
    s.clear();
    s.refuse("forbidden", "auth");
    assert!(s.nothing_sent());
    assert_eq!(
        s.told().last().map(String::as_str),
        Some("over 2: GiveUp(Forbidden(\"forbidden\"))")
    );
}

#[test]
fn beyond_the_limit_of_ghosts_the_bot_speaks() {
    let mut s = Script::joined(true);
    for n in 1..=3 {
        let name = format!("p{n}");
        s.say(n, &name, "hi");
        if n <= 2 {
            s.ghost_in(&name);
        }
    }
    s.sent(
        "<message",
        &[
            "from='comity@bridge.example/gateway'",
            "<body>&lt;p3&gt; hi</body>",
        ],
    );
}

#[test]
fn the_bot_names_everybody_when_there_are_no_ghosts() {
    let mut s = Script::joined(false);
    s.say(1, "al", "one\ntwo");
    s.sent(
        "<message",
        &[
            "from='comity@bridge.example/gateway'",
            "<body>&lt;al&gt; one\n&lt;al&gt; two</body>",
        ],
    );
    s.reflect("comity", "E1-0-4c2f2a46", Some("sid"));
    assert_eq!(s.told(), ["landed 1/0 sid", "over 1: Shown"]);
}

#[test]
fn a_cut_leaves_doubt_about_what_was_written_and_none_about_the_rest() {
    let mut s = Script::joined(true);
    s.say(1, "al", "written");
    s.ghost_in("al");
    s.say(2, "bea", "waiting");
    s.session.handle_disconnected("cut");
    let told = s.told();
    assert!(told[0].starts_with("over 1: Ambiguous"), "{told:?}");
    assert_eq!(told[1], "over 2: NotAttempted");
}

#[test]
fn doubt_is_resolved_by_the_rooms_archive_before_anything_is_said() {
    let mut s = Script::joined(true);
    s.say_in_doubt(1, "al", "was it said?");
    s.say_in_doubt(2, "al", "and this?");
    s.sent(
        "<iq",
        &[
            "type='set'",
            "from='comity@bridge.example/gateway'",
            "to='rust@muc.example'",
            "<value>2024-11-22T12:48:20Z</value>",
        ],
    );
    let query = s.last_query();
    s.server(&script::archived(
        &query,
        "rust@muc.example",
        "E1-0-4c2f2a46",
        "sid-1",
    ));
    // Only the room itself answers for its archive.
    s.server(&script::archived(
        &query,
        "rust@muc.example/mallory",
        "E2-0-4c2f2a46",
        "forged",
    ));
    s.answer("mam:2", "<fin xmlns='urn:xmpp:mam:2' complete='true'/>");
    assert_eq!(s.told(), ["landed 1/0 sid-1", "over 1: Shown"]);
    s.ghost_in("al");
    s.sent("<message", &["<body>and this?</body>"]);
}

#[test]
fn the_archive_is_read_page_by_page_to_its_end() {
    let mut s = Script::joined(true);
    s.say_in_doubt(1, "al", "x");
    let page = "<fin xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'><last>m50</last></set></fin>";
    s.answer("mam:2", page);
    s.sent("<iq", &["type='set'", "<after>m50</after>"]);
    s.answer("mam:2", "<fin xmlns='urn:xmpp:mam:2' complete='true'/>");
    s.sent("<presence", &["rust@muc.example/al"]);
}

#[test]
fn an_archive_that_does_not_answer_keeps_the_doubt() {
    let mut s = Script::joined(true);
    s.say_in_doubt(1, "al", "x");
    s.pass(Duration::from_secs(16));
    assert!(s.told()[0].starts_with("over 1: Ambiguous"));
}

#[test]
fn a_room_without_archive_tells_by_its_past() {
    let mut s = Script::new(true);
    s.join(ROOM);
    s.server(&script::self_presence(
        "comity",
        "comity@bridge.example/gateway",
        &["110"],
    ));
    s.server("<message type='groupchat' from='rust@muc.example/al' to='comity@bridge.example/gateway' id='E1-0-4c2f2a46'><body>x</body><delay xmlns='urn:xmpp:delay' from='rust@muc.example' stamp='2024-01-01T00:00:00Z'/></message>");
    s.answer("disco#info", "");
    s.pass(Duration::from_secs(1));
    s.clear();
    s.say_in_doubt(1, "al", "x");
    s.say_in_doubt(2, "al", "y");
    assert_eq!(
        s.told(),
        ["joined", "landed 1/0 E1-0-4c2f2a46", "over 1: Shown"]
    );
    s.answer("disco#info", "");
    s.ghost_in("al");
    s.sent("<message", &["<body>y</body>"]);
}

#[test]
fn a_message_that_does_not_come_back_is_in_doubt_after_a_while() {
    let mut s = Script::joined(true);
    s.say(1, "al", "x");
    s.ghost_in("al");
    s.clear();
    s.pass(Duration::from_secs(21));
    assert!(s.told()[0].starts_with("over 1: Ambiguous"));
    s.sent(
        "<iq",
        &[
            "type='get'",
            "from='comity@bridge.example/gateway'",
            "to='rust@muc.example/comity'",
            "urn:xmpp:ping",
        ],
    );
    s.reflect("al", "E1-0-4c2f2a46", Some("late"));
    assert_eq!(s.told(), ["own E1 late"]);
}

#[test]
fn without_voice_the_message_is_given_up_and_its_successors_go_on() {
    let mut s = Script::joined(true);
    s.say(1, "al", "x");
    s.ghost_in("al");
    s.say(2, "al", "y");
    s.bounce(
        "net\\2fal@bridge.example/ghost",
        "E1-0-4c2f2a46",
        "forbidden",
        "auth",
    );
    s.reflect("al", "E2-0-4c2f2a46", None);
    assert_eq!(
        s.told(),
        [
            "over 1: GiveUp(Forbidden(\"forbidden\"))",
            "landed 2/0 E2-0-4c2f2a46",
            "over 2: Shown"
        ]
    );
}

#[test]
fn a_ghost_that_the_room_has_forgotten_comes_in_again_and_says_it_again() {
    let mut s = Script::joined(true);
    s.say(1, "al", "x");
    s.ghost_in("al");
    s.clear();
    s.bounce(
        "net\\2fal@bridge.example/ghost",
        "E1-0-4c2f2a46",
        "not-acceptable",
        "cancel",
    );
    s.sent("<presence", &["rust@muc.example/al"]);
    s.ghost_in("al");
    s.sent("<message", &["id='E1-0-4c2f2a46'"]);
}

#[test]
fn after_a_failure_what_was_written_behind_it_comes_back_in_doubt() {
    let mut s = Script::joined(true);
    for n in 1..=3 {
        s.say(n, "al", "x");
    }
    s.ghost_in("al");
    s.reflect("al", "E2-0-4c2f2a46", Some("sid-2"));
    s.bounce(
        "net\\2fal@bridge.example/ghost",
        "E1-0-4c2f2a46",
        "resource-constraint",
        "wait",
    );
    let told = s.told();
    assert!(
        told[1].starts_with("over 1: Retry")
            && told[2].starts_with("over 2: Ambiguous")
            && told[3].starts_with("over 3: Ambiguous"),
        "{told:?}"
    );
    s.clear();
    s.say_in_doubt(2, "al", "x");
    assert_eq!(s.told(), ["landed 2/0 sid-2", "over 2: Shown"]);
}

#[test]
fn only_the_observers_copy_is_read_and_ours_is_never_somebody_elses() {
    let mut s = Script::joined(true);
    s.say(1, "al", "x");
    s.ghost_in("al");
    s.server(&message(
        "bob",
        "net\\2fal@bridge.example/ghost",
        "m1",
        "hi",
    ));
    s.server(&message("bob", "comity@bridge.example/gateway", "m1", "hi"));
    s.server(&message(
        "al",
        "comity@bridge.example/gateway",
        "unknown",
        "hi",
    ));
    s.server(&message(
        "comity",
        "comity@bridge.example/gateway",
        "unknown",
        "hi",
    ));
    assert_eq!(s.told(), ["said by bob: hi"]);
}

#[test]
fn x10_questions_are_answered_and_errors_never() {
    let mut s = Script::joined(true);
    s.server("<iq type='get' id='q1' from='eve@x.example/y' to='bridge.example'><ping xmlns='urn:xmpp:ping'/></iq>");
    s.sent(
        "<iq",
        &[
            "from='bridge.example'",
            "to='eve@x.example/y'",
            "id='q1'",
            "type='result'",
        ],
    );
    s.server("<iq type='get' id='q2' from='eve@x.example/y' to='bridge.example'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>");
    s.sent("<iq", &["<identity category='gateway'"]);
    s.server("<iq type='set' id='q3' from='eve@x.example/y' to='bridge.example'><query xmlns='jabber:iq:roster'/></iq>");
    s.sent("<iq", &["<service-unavailable"]);
    s.server("<message from='eve@x.example/y' to='net\\2fal@bridge.example' type='chat' id='m1'><body>psst</body></message>");
    s.sent("<message", &["type='error'", "service-unavailable"]);
    s.clear();
    for quiet in [
        "<iq type='error' id='q3' from='eve@x.example/y' to='bridge.example'/>",
        "<iq type='bogus' id='q3' from='eve@x.example/y' to='bridge.example'/>",
        "<iq type='get' from='eve@x.example/y' to='bridge.example'/>",
        "<message from='eve@x.example/y' to='bridge.example' type='error'><body>x</body></message>",
        "<message from='rust@muc.example/bob' to='comity@bridge.example/gateway' type='chat'><body>psst</body></message>",
        "<message from='other@muc.example/bob' to='comity@bridge.example/gateway' type='groupchat'><body>x</body></message>",
        "<presence from='eve@x.example' to='bridge.example' type='subscribe'/>",
        "<presence from='@@@' to='bridge.example'/>",
        "<foo xmlns='urn:x'/>",
        "<message type='bogus' from='' to=''/>",
    ] {
        s.server(quiet);
        assert!(s.nothing_sent(), "{quiet}");
    }
}

#[test]
fn shutting_down_says_goodbye_for_everybody() {
    let mut s = Script::joined(true);
    s.say(1, "al", "x");
    s.ghost_in("al");
    s.clear();
    s.session.shut_down(s.now);
    let sent = s.all_sent();
    assert_eq!(sent.matches("type='unavailable'").count(), 2);
    assert!(s.told()[0].starts_with("over 1: Ambiguous"));
}

#[test]
fn a_delivery_for_a_room_that_is_not_joined_comes_back_untouched() {
    let mut s = Script::new(true);
    s.join(ROOM);
    s.clear();
    s.say(1, "al", "x");
    assert_eq!(s.told(), ["over 1: NotAttempted"]);
    assert!(s.nothing_sent());
}

#[test]
fn a_silent_room_is_asked_and_one_that_has_forgotten_us_is_entered_again() {
    let mut s = Script::joined(true);
    s.pass(Duration::from_secs(601));
    s.sent(
        "<iq",
        &[
            "type='get'",
            "to='rust@muc.example/comity'",
            "urn:xmpp:ping",
        ],
    );
    s.answer_error("urn:xmpp:ping", "not-acceptable");
    assert!(s.told()[0].starts_with("not joined: the room does not know us any more"));
    s.pass(Duration::from_secs(2));
    s.sent("<presence", &["rust@muc.example/comity"]);
}

#[test]
fn a_plan_that_is_not_stored_yet_holds_its_successors() {
    let mut s = Script::joined(false);
    let mut job = script::job(1, "al", "x");
    job.ready = false;
    s.submit(job);
    s.say(2, "al", "y");
    assert!(s.nothing_sent());
    let now = s.now;
    s.session.plan_stored(1, now);
    assert_eq!(s.all_sent().matches("<message").count(), 2);
}
