use super::{delivery::with_labels, *};

const HISTORY: &str = " draft/chathistory";

#[test]
fn what_was_missed_is_fetched_in_pages_before_anything_new() {
    with_labels(8, HISTORY).run(
        "M: #a m0 2026-11-22T14:00:00.000Z
         C: @label=h1 CHATHISTORY AFTER #a msgid=m0 2
         C: PING :fence-2
         S: @msgid=m9 :al!a@h PRIVMSG #a :new
         S: :srv PONG srv :fence-2
         S: @label=h1 :srv BATCH +x chathistory #a
         S: @batch=x;msgid=m1;time=2026-11-22T14:30:00.000Z :al!a@h PRIVMSG #a :one
         E: heard #a PRIVMSG al: one
         S: @batch=x;msgid=m2 :comity!c@h PRIVMSG #a :<Bo> ours
         S: @batch=x;msgid=m3 :al!a@h JOIN #a
         S: :srv BATCH -x
         C: @label=h2 CHATHISTORY AFTER #a msgid=m3 2
         C: PING :fence-3
         S: @label=h2 :srv BATCH +y chathistory #a
         S: :srv BATCH -y
         E: caught up #a
         E: heard #a PRIVMSG al: new
         S: @msgid=m10 :al!a@h PRIVMSG #a :newer
         E: heard #a PRIVMSG al: newer
         S: :srv PONG srv :fence-3",
    );
}

#[test]
fn a_server_that_has_forgotten_the_line_is_asked_by_time_and_leaves_a_gap() {
    with_labels(8, HISTORY).run(
        "M: #a m0 2026-11-22T14:00:00.000Z
         C: @label=h1 CHATHISTORY AFTER #a msgid=m0 2
         C: PING :fence-2
         S: :srv PONG srv :fence-2
         S: @label=h1 :srv FAIL CHATHISTORY MESSAGE_ERROR AFTER #a m0 :no such message
         C: @label=h2 CHATHISTORY AFTER #a timestamp=2026-11-22T14:00:00.000Z 2
         C: PING :fence-3
         S: :srv PONG srv :fence-3
         S: @label=h2 :srv ACK
         E: caught up #a with a gap",
    );
}

#[test]
fn a_replay_that_nobody_asked_for_is_told_only_as_far_as_it_is_known_to_be_new() {
    with_labels(8, "").run(
        "M: #a m0 2026-11-22T14:00:00.000Z
         C: PING :joined-1
         S: :srv BATCH +x chathistory #a
         S: @batch=x;msgid=l1;time=2026-11-22T13:59:59.999Z :al!a@h PRIVMSG #a :long ago
         S: @batch=x;msgid=m0;time=2026-11-22T14:00:00.000Z :al!a@h PRIVMSG #a :last heard
         E: heard #a PRIVMSG al: last heard
         S: @batch=x;msgid=m1;time=2026-11-22T14:10:00.000Z :al!a@h PRIVMSG #a :missed
         E: heard #a PRIVMSG al: missed
         S: @batch=x;time=2026-11-22T14:20:00.000Z :al!a@h PRIVMSG #a :without an id
         E: skipped replayed
         S: @msgid=m9 :al!a@h PRIVMSG #a :new
         S: :srv BATCH -x
         S: :srv PONG srv :joined-1
         E: caught up #a
         E: heard #a PRIVMSG al: new
         S: :srv BATCH +y chathistory #a
         S: @batch=y;msgid=m1 :al!a@h PRIVMSG #a :missed
         E: skipped replayed
         S: :srv BATCH -y",
    );
}

#[test]
fn a_channel_that_keeps_nothing_has_a_gap() {
    Play::in_a(8).run(
        "M: #a - -
         C: PING :joined-1
         S: :al!a@h PRIVMSG #a :new
         S: :srv PONG srv :joined-1
         E: caught up #a with a gap
         E: heard #a PRIVMSG al: new",
    );
}

#[test]
fn our_own_lines_are_looked_for_back_to_a_time() {
    with_labels(8, HISTORY).run(
        "B: #a 2026-11-22T14:00:00.000Z
         C: @label=h1 CHATHISTORY LATEST #a * 2
         C: PING :fence-2
         S: :srv PONG srv :fence-2
         S: @label=h1 :srv BATCH +x chathistory #a
         S: @batch=x;msgid=m3;time=2026-11-22T14:30:00.000Z :al!a@h PRIVMSG #a :three
         S: @batch=x;msgid=m4;time=2026-11-22T14:31:00.000Z :comity!a@h PRIVMSG #a :four
         S: :srv BATCH -x
         C: @label=h2 CHATHISTORY BEFORE #a msgid=m3 2
         C: PING :fence-3
         S: :srv PONG srv :fence-3
         S: @label=h2 :srv BATCH +y chathistory #a
         S: @batch=y;msgid=m1;time=2026-11-22T13:59:00.000Z :comity!a@h PRIVMSG #a :one
         S: @batch=y;msgid=m2;time=2026-11-22T14:00:00.000Z :comity!a@h PRIVMSG #a :two
         S: :srv BATCH -y
         E: looked back #a: one|two|four
         P: 1 #a five
         C: @label=s0;+comity/key=00000000000000000000000000.0 PRIVMSG #a :five
         C: PING :fence-4",
    );
}

#[test]
fn a_channel_that_is_lost_while_it_is_asked_for_is_asked_again_from_the_same_line() {
    with_labels(8, HISTORY).run(
        "M: #a m0 -
         B: #a 2026-11-22T14:00:00.000Z
         C: @label=h1 CHATHISTORY AFTER #a msgid=m0 2
         C: PING :fence-2
         S: @msgid=m9 :al!a@h PRIVMSG #a :the server keeps it
         S: :al!a@h PRIVMSG #a :nobody keeps it
         S: :op!o@h KICK #a comity :out
         E: heard #a PRIVMSG al: nobody keeps it
         E: looked back #a: unknown
         E: not joined #a: kicked by op: out",
    );
}

#[test]
fn a_channel_that_is_lost_before_the_joins_fence_tells_what_it_held() {
    with_labels(8, "").run(
        "M: #a m0 -
         C: PING :joined-1
         S: @msgid=m9 :al!a@h PRIVMSG #a :new
         S: :op!o@h KICK #a comity :out
         E: heard #a PRIVMSG al: new
         E: not joined #a: kicked by op: out",
    );
}

#[test]
fn a_look_back_that_does_not_reach_far_enough_proves_nothing() {
    let pages: String = (1..=10)
        .map(|page| {
            let (minute, fence) = (40 - page, page + 1);
            let kind = match page {
                1 => "LATEST #a *".to_owned(),
                _ => format!("BEFORE #a msgid=m{}", page - 1),
            };
            format!(
                "C: @label=h{page} CHATHISTORY {kind} 2
                 C: PING :fence-{fence}
                 S: :srv PONG srv :fence-{fence}
                 S: @label=h{page} :srv BATCH +x chathistory #a
                 S: @batch=x;msgid=m{page};time=2026-11-22T14:{minute}:00.000Z :comity!a@h PRIVMSG #a :ours
                 S: :srv BATCH -x\n"
            )
        })
        .collect();
    with_labels(8, HISTORY).run(&format!(
        "B: #a 2026-11-22T14:00:00.000Z\n{pages}E: looked back #a: unknown"
    ));
}

#[test]
fn a_failure_that_comes_too_late_is_not_about_the_next_question() {
    with_labels(8, HISTORY).run(
        "M: #a m0 -
         C: @label=h1 CHATHISTORY AFTER #a msgid=m0 2
         C: PING :fence-2
         S: :srv PONG srv :fence-2
         +20
         C: PING :still-there
         S: :srv PONG srv :still-there
         +20
         C: PING :still-there
         S: :srv PONG srv :still-there
         +20
         E: caught up #a with a gap
         C: PING :still-there
         B: #a 2026-11-22T14:00:00.000Z
         C: @label=h2 CHATHISTORY LATEST #a * 2
         C: PING :fence-3
         S: @label=h1 :srv FAIL CHATHISTORY MESSAGE_ERROR AFTER #a m0 :busy
         S: @label=h2 :srv BATCH +x chathistory #a
         S: @batch=x;msgid=m1;time=2026-11-22T13:00:00.000Z :comity!a@h PRIVMSG #a :ours
         S: :srv BATCH -x
         E: looked back #a: ours",
    );
}

#[test]
fn what_did_not_fit_and_cannot_be_fetched_is_in_the_gap() {
    let mut play = with_labels(8, HISTORY);
    play.run(
        "M: #a m0 -
         C: @label=h1 CHATHISTORY AFTER #a msgid=m0 2
         C: PING :fence-2
         S: :srv PONG srv :fence-2",
    );
    for n in 1..=2001 {
        play.run(&format!("S: @msgid=n{n} :al!a@h PRIVMSG #a :{n}"));
    }
    let held: String = (1..=2000)
        .map(|n| format!("E: heard #a PRIVMSG al: {n}\n"))
        .collect();
    play.run(&format!(
        "S: @label=h1 :srv FAIL CHATHISTORY MESSAGE_ERROR AFTER #a m0 :no such message
         E: caught up #a with a gap until now\n{held}"
    ));
}

#[test]
fn a_join_whose_ping_is_never_answered_holds_nothing_for_ever() {
    let mut play = Play::in_a(8);
    play.run("M: #a - -\nC: PING :joined-1");
    for n in 0..9 {
        play.run(&format!("S: :al!a@h PRIVMSG #a :{n}\n+9"));
    }
    let held: String = (0..9)
        .map(|n| format!("E: heard #a PRIVMSG al: {n}\n"))
        .collect();
    play.run(&format!(
        "+9
         E: caught up #a with a gap\n{held}
         S: :srv PONG srv :joined-1
         S: :al!a@h PRIVMSG #a :new
         E: heard #a PRIVMSG al: new"
    ));
}

#[test]
fn more_than_can_be_held_behind_a_join_is_told_at_once_and_nothing_is_lost() {
    let mut play = Play::in_a(8);
    play.run("M: #a - -\nC: PING :joined-1");
    for n in 0..2000 {
        play.run(&format!("S: :al!a@h PRIVMSG #a :{n}"));
    }
    let all: String = (0..=2000)
        .map(|n| format!("E: heard #a PRIVMSG al: {n}\n"))
        .collect();
    play.run(&format!(
        "S: :al!a@h PRIVMSG #a :2000
         E: caught up #a with a gap\n{all}
         S: :srv PONG srv :joined-1"
    ));
}
