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
    bench.wait(1000);
    assert!(bench.calls.is_empty());
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
    bench.session.health.ping_soon(bench.now);
    bench.wait(1);
    bench.answer("Ping", Err(Fault::Limited(Duration::from_secs(20))));
    bench.wait(10);
    assert!(!bench.kinds().contains(&"Ping".to_owned()));
    bench.wait(10);
    bench.answer("Ping", Ok(Answer::Done));
}
