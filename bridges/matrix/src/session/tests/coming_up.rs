//! Is the homeserver there, and does it reach us?

use super::*;

#[test]
fn it_is_online_only_after_the_homeserver_knows_the_bot() {
    let mut bench = Bench::new(Users::Ghosts, &[]);
    bench.answer("Versions", Ok(Answer::Done));
    bench.answer("Register", Ok(Answer::Done));
    bench.answer("Whoami", Ok(Answer::User(owned_user_id!("@bot:hs.test"))));
    assert!(bench.heard().is_empty());
    bench.answer("SetName", Err(refused(403, "M_FORBIDDEN")));
    assert_eq!(bench.heard(), ["online"]);
    assert_eq!(bench.kinds(), ["Ping"]);
}

#[test]
fn a_homeserver_that_is_down_at_the_start_is_tried_again_and_ends_nothing() {
    let mut bench = Bench::new(Users::Ghosts, &[]);
    bench.join(ALIAS);
    for _ in 0..5 {
        bench.answer("Versions", Err(Fault::Unreachable("refused".into())));
        assert_eq!(bench.heard(), ["offline"]);
        assert!(bench.calls.is_empty());
        bench.wait(20);
    }
    bench.come_up();
    bench.enter();
    assert_eq!(
        bench.heard(),
        ["online", "keep room/#rust:hs.test=!r:hs.test", "joined"]
    );
}

#[test]
fn a_token_for_somebody_else_keeps_it_offline() {
    let mut bench = Bench::new(Users::Ghosts, &[]);
    bench.answer("Versions", Ok(Answer::Done));
    bench.answer("Register", Ok(Answer::Done));
    bench.answer("Whoami", Ok(Answer::User(owned_user_id!("@other:hs.test"))));
    assert_eq!(bench.heard(), ["offline"]);
}

#[test]
fn a_homeserver_that_does_not_reach_us_is_pinged_again() {
    let mut bench = Bench::new(Users::Ghosts, &[]);
    bench.answer("Versions", Ok(Answer::Done));
    bench.answer("Register", Ok(Answer::Done));
    bench.answer("Whoami", Ok(Answer::User(owned_user_id!("@bot:hs.test"))));
    bench.answer("SetName", Ok(Answer::Done));
    bench.answer("Ping", Ok(Answer::NotReached("status 502".into())));
    bench.wait(5);
    bench.answer("Ping", Ok(Answer::Done));
    bench.wait(2);
    bench.answer("Ping", Ok(Answer::Done));
    bench.wait(59);
    assert!(bench.calls.is_empty());
}

/// Seconds, one by one.
fn pass(bench: &mut Bench, secs: u64) {
    for _ in 0..secs {
        bench.wait(1);
    }
}

#[test]
fn a_homeserver_that_sends_nothing_for_a_minute_is_asked_whether_it_reaches_us() {
    let mut bench = Bench::joined(Users::Ghosts);
    for n in 0..10 {
        pass(&mut bench, 30);
        assert!(bench.calls.is_empty(), "it sends: {:?}", bench.kinds());
        bench.push(n, vec![member("@bob:hs.test", "join")]);
    }
    pass(&mut bench, 59);
    assert!(bench.calls.is_empty());
    pass(&mut bench, 1);
    bench.answer("Ping", Ok(Answer::NotReached("no".into())));
    // The way is lost, in this direction alone: as soon as it is back, the pause is ended, and the rooms are looked at.
    for _ in 0..20 {
        pass(&mut bench, 75);
        bench.answer("Ping", Ok(Answer::NotReached("no".into())));
    }
    pass(&mut bench, 75);
    bench.answer("Ping", Ok(Answer::Done));
    pass(&mut bench, 3);
    assert!(bench.kinds().contains(&"History".to_owned()));
}

#[test]
fn a_homeserver_that_refuses_to_ping_is_believed_to_reach_us() {
    let mut bench = Bench::new(
        Users::Ghosts,
        &[
            ("room/#rust:hs.test", "!r:hs.test"),
            ("place/!r:hs.test", "1 $have"),
        ],
    );
    bench.join(ALIAS);
    bench.answer("Versions", Ok(Answer::Done));
    bench.answer("Register", Ok(Answer::Done));
    bench.answer("Whoami", Ok(Answer::User(owned_user_id!("@bot:hs.test"))));
    bench.answer("SetName", Ok(Answer::Done));
    bench.answer("Ping", Err(refused(403, "M_FORBIDDEN")));
    bench.answer("Join", Ok(Answer::Done));
    bench.answer("Encryption", Err(refused(404, "M_NOT_FOUND")));
    pass(&mut bench, 3);
    assert!(bench.kinds().contains(&"History".to_owned()));
}

#[test]
fn a_homeserver_that_is_sending_is_not_pinged() {
    // Nothing in our hands, and nothing just now.
    let mut bench = Bench::joined(Users::Ghosts);
    bench.push(1, vec![member("@bob:hs.test", "join"), said("$1", "x")]);
    bench.session.reach.ask_soon(bench.now);
    pass(&mut bench, 10);
    assert!(bench.calls.is_empty(), "{:?}", bench.kinds());
    bench.commit();
    bench.push(2, vec![member("@bob:hs.test", "join")]);
    bench.now += Duration::from_millis(900);
    bench.wait(0);
    assert!(bench.calls.is_empty(), "{:?}", bench.kinds());
    bench.wait(1);
    assert_eq!(bench.kinds(), ["Ping"]);
}

#[test]
fn a_homeserver_that_sends_after_a_ping_is_not_pinged_again() {
    let mut bench = Bench::new(Users::Ghosts, &[]);
    bench.come_up();
    bench.wait(2);
    assert_eq!(bench.kinds(), ["Ping"], "it has sent nothing");
    let mut bench = Bench::new(Users::Ghosts, &[]);
    bench.come_up();
    bench.push(1, vec![]);
    pass(&mut bench, 30);
    assert!(bench.calls.is_empty(), "{:?}", bench.kinds());
}

#[test]
fn a_homeserver_that_fails_itself_is_not_said_to_be_unable_to_reach_us() {
    let mut bench = Bench::new(Users::Ghosts, &[]);
    bench.answer("Versions", Ok(Answer::Done));
    bench.answer("Register", Ok(Answer::Done));
    bench.answer("Whoami", Ok(Answer::User(owned_user_id!("@bot:hs.test"))));
    bench.answer("SetName", Ok(Answer::Done));
    // A proxy's error page: is the homeserver there at all?
    bench.answer("Ping", Err(Fault::Broken("status 502".into())));
    bench.answer("Versions", Err(Fault::Broken("status 502".into())));
    assert_eq!(bench.heard(), ["online", "offline"]);
}

#[test]
fn a_ping_that_is_limited_comes_later() {
    let mut bench = Bench::joined(Users::Ghosts);
    bench.session.reach.ask_soon(bench.now);
    bench.wait(1);
    bench.answer("Ping", Err(Fault::Limited(Duration::from_secs(20))));
    bench.wait(10);
    assert!(!bench.kinds().contains(&"Ping".to_owned()));
    bench.wait(10);
    bench.answer("Ping", Ok(Answer::Done));
}
