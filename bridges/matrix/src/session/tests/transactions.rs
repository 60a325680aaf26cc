//! What the homeserver pushes, up to its commit, and what it has left behind.

use super::*;

#[test]
fn a_transaction_is_answered_after_its_commit_and_not_before() {
    let mut bench = Bench::joined(Users::Ghosts);
    bench.push(0, vec![member("@bob:hs.test", "join"), said("$1", "hi")]);
    bench.push(1, vec![said("$2", "ho")]);
    assert!(bench.heard().is_empty());
    let (ticket, incoming) = bench.commits.pop_front().expect("a commit");
    assert_eq!(incoming[0].author.name, "Bob B.");
    assert!(bench.commits.is_empty(), "one at a time, in order");
    bench.session.handle_committed(bench.now, ticket);
    bench.drain();
    assert_eq!(bench.heard(), ["answer 0 true"]);
    let (ticket, incoming) = bench.commits.pop_front().expect("a commit");
    assert_eq!(incoming[0].source_id.0, "$2");
    bench.session.handle_committed(bench.now, ticket);
    bench.drain();
    assert_eq!(bench.heard(), ["answer 1 true"]);
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
    bench.session.handle_committed(bench.now, ticket);
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

#[test]
fn a_journal_that_takes_nothing_is_waited_for_and_the_homeserver_woken_afterwards() {
    let mut bench = Bench::joined(Users::Ghosts);
    bench.push(0, vec![member("@bob:hs.test", "join"), said("$1", "hi")]);
    let (ticket, _) = bench.commits.pop_front().expect("a commit");
    bench.wait(19);
    assert!(bench.heard().is_empty());
    bench.wait(1);
    assert_eq!(bench.heard(), ["answer 0 false"]);
    // It comes again, in vain; one commit is under way, and it is the same one.
    bench.push(0, vec![member("@bob:hs.test", "join"), said("$1", "hi")]);
    bench.wait(20);
    assert_eq!(bench.heard(), ["answer 0 false"]);
    assert!(bench.commits.is_empty());
    bench.session.handle_committed(bench.now, ticket);
    bench.drain();
    bench.wait(1);
    bench.answer("Ping", Ok(Answer::Done));
    bench.push(0, vec![member("@bob:hs.test", "join"), said("$1", "hi")]);
    let (ticket, incoming) = bench.commits.pop_front().expect("a commit");
    assert_eq!(incoming[0].source_id.0, "$1");
    bench.session.handle_committed(bench.now, ticket);
    bench.drain();
    assert_eq!(bench.heard(), ["answer 0 true"]);
}

/// What is said by a number of people within the reach of a reading.
fn many(from: usize, count: usize) -> Vec<RoomEvent> {
    (from..from + count)
        .rev()
        .map(|n| said(&format!("$n{n}:hs.test"), "x"))
        .collect()
}

#[test]
fn a_room_is_read_back_over_several_pages_in_order() {
    let mut bench = Bench::joined(Users::Ghosts);
    bench.wait(9);
    for (from, next) in [
        (20, Some("b".to_owned())),
        (10, Some("a".to_owned())),
        (0, None),
    ] {
        let events = many(from, 10);
        bench.answer("History", Ok(Answer::Page { events, next }));
    }
    // Names are asked for and not waited for long.
    bench.wait(3);
    let (_, incoming) = bench.commits.pop_front().expect("a commit");
    let ids: Vec<&str> = incoming.iter().map(|i| i.source_id.0.as_str()).collect();
    let said: Vec<String> = (0..30).map(|n| format!("$n{n}:hs.test")).collect();
    assert_eq!(ids, said);
    assert!(!bench.heard().iter().any(|heard| heard.starts_with("gap")));
}

#[test]
fn more_than_can_be_read_back_is_a_gap() {
    let mut bench = Bench::joined(Users::Ghosts);
    bench.wait(9);
    for n in (0..10).rev() {
        let events = many(n * 10, 10);
        let next = Some(format!("p{n}"));
        bench.answer("History", Ok(Answer::Page { events, next }));
    }
    assert!(
        bench
            .calls
            .iter()
            .all(|(_, call)| kind_of(call) != "History")
    );
    let gaps: Vec<String> = bench
        .heard()
        .into_iter()
        .filter(|heard| heard.starts_with("gap"))
        .collect();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
}

#[test]
fn a_room_that_cannot_be_read_back_is_tried_again_and_not_for_ever() {
    let mut bench = Bench::joined(Users::Ghosts);
    let mut tries = 0;
    for _ in 0..100 {
        bench.wait(10);
        while bench.kinds().contains(&"History".to_owned()) {
            tries += 1;
            bench.answer("History", Err(Fault::Limited(Duration::from_secs(7))));
        }
    }
    assert_eq!(tries, 6, "the second look of two, and five more");
}

#[test]
fn nothing_is_read_back_while_the_homeserver_still_sends_what_it_kept() {
    let mut bench = Bench::joined(Users::Ghosts);
    bench.session.catch_up.watch(bench.now);
    bench.drain();
    // Half a minute of recovery, by transactions whose events are old.
    for n in 1..=30 {
        bench.now += Duration::from_secs(1);
        bench.push(
            n,
            vec![
                member("@bob:hs.test", "join"),
                said(&format!("$k{n}:hs.test"), "kept"),
            ],
        );
        let (ticket, _) = bench.commits.pop_front().expect("a commit");
        bench.session.handle_committed(bench.now, ticket);
        bench.drain();
        let is_read = bench.kinds().contains(&"History".to_owned());
        assert!(!is_read, "read back after {n} s");
    }
    bench.wait(3);
    bench.answer(
        "History",
        Ok(Answer::Page {
            events: vec![],
            next: None,
        }),
    );
}

#[test]
fn nothing_is_read_back_before_the_homeserver_reaches_us() {
    let mut bench = Bench::new(Users::Ghosts, &[]);
    bench.join(ALIAS);
    bench.answer("Versions", Ok(Answer::Done));
    bench.answer("Register", Ok(Answer::Done));
    bench.answer("Whoami", Ok(Answer::User(owned_user_id!("@bot:hs.test"))));
    bench.answer("SetName", Ok(Answer::Done));
    bench.enter();
    bench.answer("Ping", Ok(Answer::NotReached("refused".into())));
    bench.wait(2);
    bench.wait(2);
    assert_eq!(bench.kinds(), ["Ping"]);
    bench.answer("Ping", Ok(Answer::Done));
    bench.wait(2);
    assert!(!bench.kinds().contains(&"History".to_owned()));
    bench.wait(1);
    assert!(bench.kinds().contains(&"History".to_owned()));
}
