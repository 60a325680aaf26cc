use super::*;

#[test]
fn a_line_counts_as_shown_when_the_fence_comes_back() {
    Play::in_a(8).run(
        "P: 1 #a hello
         C: PRIVMSG #a :hello
         C: PING :fence-2
         S: :al!a@h PONG comity :fence-2
         S: :srv PONG srv :other
         S: :srv PONG srv :fence-2
         E: part 1 0
         E: done 1 Shown",
    );
}

#[test]
fn no_more_than_a_window_is_unfenced() {
    Play::in_a(2).run(
        "P: 1 #a one|two|three
         C: PRIVMSG #a :one
         C: PRIVMSG #a :two
         C: PING :fence-2
         P: 2 #a four
         S: :srv PONG srv :fence-2
         E: part 1 0
         E: part 1 1
         C: PRIVMSG #a :three
         C: PRIVMSG #a :four
         C: PING :fence-3
         S: :srv PONG srv :fence-3
         E: part 1 2
         E: done 1 Shown
         E: part 2 0
         E: done 2 Shown",
    );
}

#[test]
fn channels_take_turns() {
    let mut play = Play::in_a(8);
    play.run(
        "J: #b
         C: JOIN #b
         C: PING :fence-2
         S: :comity!~c@h JOIN #b
         E: joined #b
         P: 1 #a one|two|three
         P: 2 #b four
         S: :srv PONG srv :fence-2
         C: PRIVMSG #a :one
         C: PRIVMSG #b :four
         C: PRIVMSG #a :two
         C: PRIVMSG #a :three
         C: PING :fence-3
         S: :srv PONG srv :fence-3
         E: part 1 0
         E: part 2 0
         E: done 2 Shown
         E: part 1 1
         E: part 1 2
         E: done 1 Shown",
    );
}

#[test]
fn i11_a_line_that_the_channel_refuses_is_told() {
    Play::in_a(8).run(
        "P: 1 #a hello
         C: PRIVMSG #a :hello
         C: PING :fence-2
         S: :srv 404 comity #a :Cannot send to channel (+m)
         S: :srv PONG srv :fence-2
         E: done 1 Refused(\"Cannot send to channel (+m)\")",
    );
}

#[test]
fn a_channel_that_turns_moderated_refuses_the_last_lines() {
    Play::in_a(8).run(
        "P: 1 #a one
         P: 2 #a two|three
         C: PRIVMSG #a :one
         C: PRIVMSG #a :two
         C: PRIVMSG #a :three
         C: PING :fence-2
         S: :srv 404 comity #a :no
         S: :srv PONG srv :fence-2
         E: part 1 0
         E: done 1 Shown
         E: part 2 0
         E: done 2 Refused(\"no\")",
    );
}

#[test]
fn the_rest_of_a_refused_message_is_not_sent() {
    Play::in_a(2).run(
        "P: 1 #a one|two|three
         P: 2 #a four
         C: PRIVMSG #a :one
         C: PRIVMSG #a :two
         C: PING :fence-2
         S: :srv 404 comity #a :no
         S: :srv 404 comity #a :no
         S: :srv PONG srv :fence-2
         E: done 1 Refused(\"no\")
         C: PRIVMSG #a :four
         C: PING :fence-3",
    );
}

#[test]
fn a_kick_gives_back_in_order_what_was_not_shown() {
    Play::in_a(2).run(
        "P: 1 #a one|two|three
         P: 2 #a four
         P: 3 #a five
         C: PRIVMSG #a :one
         C: PRIVMSG #a :two
         C: PING :fence-2
         S: :op!o@h KICK #a comity :out
         E: not joined #a: kicked by op: out
         S: :srv 442 comity #a :You're not on that channel
         S: :srv PONG srv :fence-2
         E: part 1 0
         E: done 1 Interrupted
         E: done 2 NotAttempted
         E: done 3 NotAttempted
         P: 4 #a six
         E: done 4 NotAttempted",
    );
}

#[test]
fn a_kick_refuses_nothing_that_was_in_flight() {
    Play::in_a(2).run(
        "P: 1 #a one
         P: 2 #a two
         P: 3 #a three
         C: PRIVMSG #a :one
         C: PRIVMSG #a :two
         C: PING :fence-2
         S: :op!o@h KICK #a comity :out
         E: not joined #a: kicked by op: out
         S: :srv 404 comity #A :Cannot send to channel (+n)
         S: :srv 404 comity #a :Cannot send to channel (+n)
         S: :srv PONG srv :fence-2
         E: done 1 NotAttempted
         E: done 2 NotAttempted
         E: done 3 NotAttempted",
    );
    with_labels(2, "").run(
        "P: 1 #a one
         P: 2 #a two
         C: @label=s0 PRIVMSG #a :one
         C: @label=s1 PRIVMSG #a :two
         C: PING :fence-2
         S: :op!o@h KICK #a comity :out
         E: not joined #a: kicked by op: out
         S: @label=s0 :srv 404 comity #a :Cannot send to channel (+n)
         E: done 1 NotAttempted
         S: @label=s1 :srv 417 comity :Input line was too long
         E: done 2 Refused(\"Input line was too long\")
         S: :srv PONG srv :fence-2",
    );
}

#[test]
fn a_cut_connection_leaves_one_window_in_doubt() {
    Play::in_a(2).run(
        "P: 1 #a one|two|three
         P: 2 #a four|five
         P: 3 #a six
         C: PRIVMSG #a :one
         C: PRIVMSG #a :two
         C: PING :fence-2
         S: :srv PONG srv :fence-2
         E: part 1 0
         E: part 1 1
         C: PRIVMSG #a :three
         C: PRIVMSG #a :four
         C: PING :fence-3
         X: connection reset
         E: lost Cut: connection reset
         E: done 1 Ambiguous
         E: done 2 Ambiguous
         E: done 3 NotAttempted",
    );
}

#[test]
fn a_cut_between_two_windows_leaves_nothing_in_doubt() {
    Play::in_a(1).run(
        "P: 1 #a one|two
         C: PRIVMSG #a :one
         C: PING :fence-2
         L: #a
         C: PART #a
         S: :srv PONG srv :fence-2
         E: part 1 0
         E: done 1 Interrupted",
    );
}

#[test]
fn a_message_taken_back_before_it_begins_is_not_sent() {
    Play::in_a(1).run(
        "P: 1 #a one|two
         P: 2 #a three
         C: PRIVMSG #a :one
         C: PING :fence-2
         U: 1
         U: 2
         E: done 2 NotAttempted
         S: :srv PONG srv :fence-2
         E: part 1 0
         C: PRIVMSG #a :two
         C: PING :fence-3
         S: :srv PONG srv :fence-3
         E: part 1 1
         E: done 1 Shown",
    );
}

#[test]
fn goodbye_fences_what_is_written_and_gives_back_the_rest() {
    Play::in_a(3).run(
        "P: 1 #a one|two|three|four
         P: 2 #a five
         C: PRIVMSG #a :one
         C: PRIVMSG #a :two
         C: PRIVMSG #a :three
         C: PING :fence-2
         Q: back soon
         C: QUIT :back soon
         S: :srv PONG srv :fence-2
         E: part 1 0
         E: part 1 1
         E: part 1 2
         E: done 1 Interrupted
         E: done 2 NotAttempted
         S: ERROR :Closing Link: comity (Quit: back soon)
         X: end of stream
         E: lost Cut: Closing Link: comity (Quit: back soon)",
    );
}

#[test]
fn a_pause_between_lines_is_kept() {
    let mut play = Play::with_interval(8, Duration::from_secs(2));
    play.run(
        "C: CAP LS 302
         C: NICK comity
         C: USER comity 0 * :Comity
         S: :srv 001 comity :Welcome
         E: registered comity
         C: PING :ready
         S: :srv 422 comity :No MOTD
         E: ready
         J: #a
         J: #b
         C: JOIN #a",
    );
    assert!(
        play.session
            .poll_timeout()
            .is_some_and(|at| at == play.now + Duration::from_secs(2))
    );
    play.run("+2\nC: JOIN #b\n+1\n+1\nC: PING :fence-1");
}

#[test]
fn a_pause_that_is_over_wakes_nobody() {
    let mut play = Play::with_interval(32, Duration::from_secs(2));
    play.run(
        "C: CAP LS 302
         C: NICK comity
         C: USER comity 0 * :Comity
         S: :srv 001 comity :Welcome
         E: registered comity
         C: PING :ready
         S: :srv 422 comity :No MOTD
         E: ready
         J: #a
         C: JOIN #a
         +2
         C: PING :fence-1
         +2",
    );
    let next = play.session.poll_timeout();
    assert!(next.is_none_or(|at| at > play.now), "no busy loop");
}

#[test]
fn a_fence_that_never_comes_back_ends_the_connection() {
    Play::in_a(8).run(
        "P: 1 #a one
         C: PRIVMSG #a :one
         C: PING :fence-2
         +20
         C: PING :still-there
         +39
         S: PING :x
         C: PONG :x
         +20
         C: PING :still-there
         +39
         S: PING :x
         C: PONG :x
         +2
         E: lost Cut: the server does not answer
         E: done 1 Ambiguous",
    );
}

#[test]
fn what_has_no_lines_waits_for_what_was_before_it() {
    Play::in_a(8).run(
        "P: 1 #a
         P: 2 #a one
         P: 3 #a
         P: 4 #a two
         C: PRIVMSG #a :one
         C: PRIVMSG #a :two
         C: PING :fence-2
         E: done 1 Shown
         S: :srv 404 comity #a :no
         S: :srv PONG srv :fence-2
         E: part 2 0
         E: done 2 Shown
         E: done 3 Shown
         E: done 4 Refused(\"no\")",
    );
}

/// A session with labels and echoes, and with history where `more` says so, in `#a`.
pub(super) fn with_labels(burst_lines: usize, more: &str) -> Play {
    let mut play = Play::new(burst_lines);
    let caps = format!("batch echo-message labeled-response message-tags server-time{more}");
    let asked = match more.is_empty() {
        true => &caps,
        false => "batch draft/chathistory echo-message labeled-response message-tags server-time",
    };
    play.run(&format!(
        "C: CAP LS 302
         C: NICK comity
         C: USER comity 0 * :Comity
         S: :srv CAP * LS :{caps}
         C: CAP REQ :{asked}
         S: :srv CAP * ACK :{caps}
         C: CAP END
         S: :srv 001 comity :Welcome
         E: registered comity
         C: PING :ready
         S: :srv 005 comity CHATHISTORY=2 :are supported
         S: :srv 422 comity :No MOTD
         E: ready
         J: #a
         C: JOIN #a
         C: PING :fence-1
         S: @time=2026-11-22T15:00:00.000Z :comity!~c@host.example JOIN #a
         E: joined #a
         S: :srv PONG srv :fence-1"
    ));
    play
}

#[test]
fn an_echo_with_our_label_is_the_receipt_and_brings_the_id() {
    with_labels(8, "").run(
        "P: 1 #a one|two
         C: @label=s0 PRIVMSG #a :one
         C: @label=s1 PRIVMSG #a :two
         C: PING :fence-2
         S: @msgid=m7 :comity!~c@h PRIVMSG #a :one
         S: @label=s0;msgid=m8 :comity!~c@h PRIVMSG #a :one
         E: part 1 0 m8
         S: :srv BATCH +b labeled-response
         S: @label=s1 :srv BATCH +c labeled-response
         S: @batch=c;msgid=m9 :comity!~c@h PRIVMSG #a :two
         E: part 1 1 m9
         E: done 1 Shown
         S: :srv BATCH -c
         S: :srv PONG srv :fence-2",
    );
}

#[test]
fn a_refusal_with_our_label_is_about_that_line() {
    with_labels(8, "").run(
        "P: 1 #a one
         P: 2 #a two|three
         P: 3 #a four
         C: @label=s0 PRIVMSG #a :one
         C: @label=s1 PRIVMSG #a :two
         C: @label=s2 PRIVMSG #a :three
         C: @label=s3 PRIVMSG #a :four
         C: PING :fence-2
         S: @label=s0 :srv 404 comity #a :no
         E: done 1 Refused(\"no\")
         S: @label=s1 :srv FAIL PRIVMSG NOT_NOW #a :later
         E: done 2 Refused(\"later\")
         S: @label=s2;msgid=m1 :comity!~c@h PRIVMSG #a :three
         S: @label=s3 :srv ACK
         E: part 3 0
         E: done 3 Shown
         S: :srv PONG srv :fence-2",
    );
}

#[test]
fn a_cut_leaves_nothing_in_doubt_that_has_come_back() {
    with_labels(8, "").run(
        "P: 1 #a one
         P: 2 #a two
         C: @label=s0 PRIVMSG #a :one
         C: @label=s1 PRIVMSG #a :two
         C: PING :fence-2
         S: @label=s0;msgid=m1 :comity!~c@h PRIVMSG #a :one
         E: part 1 0 m1
         E: done 1 Shown
         X: connection reset
         E: lost Cut: connection reset
         E: done 2 Ambiguous",
    );
}

#[test]
fn a_large_window_has_two_fences() {
    let mut play = Play::in_a(32);
    let texts: Vec<String> = (0..40).map(|n| format!("t{n}")).collect();
    let lines = |from: usize, to: usize| -> String {
        texts[from..to]
            .iter()
            .map(|text| format!("C: PRIVMSG #a :{text}\n"))
            .collect()
    };
    let parts = |from: usize, to: usize| -> String {
        (from..to).map(|n| format!("E: part 1 {n}\n")).collect()
    };
    play.run(&format!(
        "P: 1 #a {}\n{}C: PING :fence-2\n{}C: PING :fence-3
         S: :srv PONG srv :fence-2\n{}{}C: PING :fence-4
         S: :srv PONG srv :fence-3\n{}
         S: :srv PONG srv :fence-4\n{}E: done 1 Shown",
        texts.join("|"),
        lines(0, 16),
        lines(16, 32),
        parts(0, 16),
        lines(32, 40),
        parts(16, 32),
        parts(32, 40),
    ));
}
