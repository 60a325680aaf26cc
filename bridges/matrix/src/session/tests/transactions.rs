//! What the homeserver pushes, up to its commit.

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
    bench.answer("History", Err(refused(403, "M_FORBIDDEN")));
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
    bench.come_up();
    bench.answer("History", Err(refused(403, "M_FORBIDDEN")));
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
    let events = vec![said("$1", "hi")];
    bench.answer("History", Ok(Answer::Page { events, next: None }));
    let (ticket, incoming) = bench.commits.pop_front().expect("a commit");
    assert_eq!(incoming[0].source_id.0, "$1");
    bench.session.handle_committed(bench.now, ticket);
    bench.drain();
    assert_eq!(bench.heard(), ["answer 0 true"]);
}
