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
fn a_fence_that_never_comes_back_ends_the_connection() {
    Play::in_a(8).run(
        "P: 1 #a one
         C: PRIVMSG #a :one
         C: PING :fence-2
         +59
         S: PING :x
         C: PONG :x
         +59
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
