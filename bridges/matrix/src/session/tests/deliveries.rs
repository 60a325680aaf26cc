//! What is sent, in which order, and what becomes of it.

use super::*;

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

#[test]
fn a_message_that_comes_late_keeps_its_time() {
    let mut bench = Bench::joined(Users::Relay);
    let mut late = job(1, "hi");
    late.late = Some(Timestamp(5_000_000));
    bench.deliver(late);
    let Call::Send {
        written, content, ..
    } = bench.sent("$1")
    else {
        panic!("not sent")
    };
    assert_eq!(written, Some(Timestamp(5_000_000)));
    assert!(content.get().contains("chat.comity.late"));
}

#[test]
fn a_rate_limit_delays_its_room_and_no_other() {
    let mut bench = Bench::joined(Users::Relay);
    bench.join("home/!other:hs.test");
    bench.answer("Join", Ok(Answer::Done));
    bench.answer("Encryption", Err(refused(404, "M_NOT_FOUND")));
    bench.heard();
    let mut elsewhere = job(2, "elsewhere");
    elsewhere.key.channel = "home/!other:hs.test".parse().expect("a channel");
    bench.deliver(job(1, "here"));
    bench.deliver(elsewhere);
    bench.answer("Send", Err(Fault::Limited(Duration::from_secs(47))));
    bench.sent("$2");
    assert_eq!(
        bench.heard(),
        ["1 retry rate_limited", "part 0 $2", "2 shown"]
    );
}
