//! A homeserver that fails, and what stands in its place, cost time and no message.

use super::*;

fn tried(n: u8, attempt: u32) -> Job {
    Job {
        attempt,
        ..job(n, "hi")
    }
}

#[test]
fn the_page_of_a_proxy_is_no_refusal_of_a_message() {
    for status in [301, 403, 404] {
        let mut bench = Bench::joined(Users::Ghosts);
        bench.deliver(job(1, "hi"));
        bench.make_ghost();
        bench.answer("Send", Err(failing(status)));
        assert_eq!(bench.heard(), ["1 ambiguous connection_lost"]);
        bench.answer("Versions", Err(failing(status)));
        assert_eq!(bench.heard(), ["offline"]);
    }
}

#[test]
fn what_a_homeserver_refuses_to_everybody_waits() {
    for (status, code) in [(403, "M_RESOURCE_LIMIT_EXCEEDED"), (404, "M_UNRECOGNIZED")] {
        for attempt in [1, 8, 100] {
            let mut bench = Bench::joined(Users::Relay);
            bench.deliver(tried(1, attempt));
            if attempt >= 8 {
                bench.answer("SetName", Ok(Answer::Done));
            }
            bench.answer("Send", Err(refused(status, code)));
            assert_eq!(bench.heard(), ["1 retry rejected"]);
        }
    }
}

#[test]
fn a_ghost_that_always_fails_is_tried_some_times_and_then_lets_others_past() {
    for (made, kind) in [(0, "Register"), (1, "SetName"), (2, "Join")] {
        let mut bench = Bench::joined(Users::Ghosts);
        for attempt in 1..=9 {
            bench.deliver(tried(1, attempt));
            bench.deliver(tried(2, 1));
            if attempt >= 8 {
                // Does the homeserver take anything of us?
                let result = if attempt == 8 {
                    Err(refused(403, "M_FORBIDDEN"))
                } else {
                    Ok(Answer::Done)
                };
                let probe = bench.answer("SetName", result);
                assert!(matches!(probe, Call::SetName { user, .. } if user == "@bot:hs.test"));
            }
            if attempt == 1 {
                for kind in ["Register", "SetName"].iter().take(made) {
                    bench.answer(kind, Ok(Answer::Done));
                }
            }
            bench.answer(kind, Err(failing(500)));
            if attempt < 9 {
                assert_eq!(bench.heard(), ["1 retry rejected", "2 not attempted"]);
                bench.answer("Versions", Ok(Answer::Done));
                bench.wait(1);
            }
        }
        assert_eq!(bench.heard(), ["1 park rejected"]);
        for kind in ["Register", "SetName", "Join"].iter().skip(made) {
            bench.answer(kind, Ok(Answer::Done));
        }
        bench.sent("$2");
        assert_eq!(bench.heard(), ["part 0 $2", "2 shown"]);
    }
}

#[test]
fn while_the_homeserver_takes_nothing_at_all_nothing_is_parked() {
    let mut bench = Bench::joined(Users::Ghosts);
    for attempt in 8..20 {
        bench.deliver(tried(1, attempt));
        bench.answer("SetName", Err(failing(500)));
        assert_eq!(bench.heard(), ["1 retry rejected"]);
        bench.answer("Versions", Ok(Answer::Done));
        bench.wait(1);
    }
}

#[test]
fn a_proxy_that_never_lets_one_message_past_does_not_hold_up_the_others() {
    let mut bench = Bench::joined(Users::Relay);
    bench.deliver(tried(1, 8));
    bench.deliver(job(2, "hi"));
    bench.answer("SetName", Ok(Answer::Done));
    bench.answer("Send", Err(failing(403)));
    bench.sent("$2");
    assert_eq!(bench.heard(), ["1 park rejected", "part 0 $2", "2 shown"]);
    // A homeserver that fails for messages does so for all of them.
    let mut bench = Bench::joined(Users::Relay);
    bench.deliver(tried(1, 8));
    bench.answer("SetName", Ok(Answer::Done));
    bench.answer("Send", Err(failing(500)));
    assert_eq!(bench.heard(), ["1 ambiguous connection_lost"]);
}
