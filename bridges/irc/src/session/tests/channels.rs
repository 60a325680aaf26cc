use super::*;

#[test]
fn said_in_our_channel_is_heard_and_nothing_else() {
    Play::in_a(8).run(
        "S: :al!a@h PRIVMSG #A :hi
         E: heard #a PRIVMSG al: hi
         S: :al!a@h NOTICE #a :hi
         E: heard #a NOTICE al: hi
         S: :srv 005 comity STATUSMSG=@+ :are supported
         S: :al!a@h PRIVMSG @#a :ops only
         E: skipped private
         S: :al!a@h PRIVMSG comity :psst
         E: skipped private
         S: :al!a@h PRIVMSG #b :elsewhere
         E: skipped other_channel
         S: :comity!~c@h PRIVMSG #a :our own
         S: :srv.example NOTICE #a :from the server",
    );
}

#[test]
fn i6_our_own_line_is_known_in_any_spelling_of_our_nick() {
    Play::in_a(8).run("S: :COMITY!~c@h PRIVMSG #a :our own");
}

#[test]
fn i11_a_refused_join_is_told_and_tried_again_later() {
    Play::in_a(8).run(
        "J: #b
         C: JOIN #b
         C: PING :fence-2
         S: :srv 473 comity #b :Cannot join channel (+i)
         E: not joined #b: Cannot join channel (+i) (473)
         S: :srv PONG srv :fence-2
         +10
         C: JOIN #b
         C: PING :fence-3
         S: :srv 477 comity #b :You need a registered nick
         E: not joined #b: You need a registered nick (477)
         S: :srv PONG srv :fence-3
         +10
         S: :al!a@h NICK :bo
         +10
         C: JOIN #b
         C: PING :fence-4
         S: :comity!~c@host.example JOIN :#B
         E: joined #b
         S: :srv PONG srv :fence-4",
    );
}

#[test]
fn a_kick_is_told_and_the_channel_joined_again_after_a_pause() {
    Play::in_a(8).run(
        "S: :op!o@h KICK #a comity :out
         E: not joined #a: kicked by op: out
         +9
         +1
         C: JOIN #a
         C: PING :fence-2
         S: :comity!~c@host.example JOIN #a
         E: joined #a
         S: :srv PONG srv :fence-2",
    );
}

#[test]
fn a_channel_nobody_asked_for_is_left() {
    Play::in_a(8).run(
        "J: #b
         C: JOIN #b
         C: PING :fence-2
         S: :srv 470 comity #b ##b :Forwarding to another channel
         E: not joined #b: Forwarding to another channel (470)
         S: :comity!~c@host.example JOIN ##b
         C: PART ##b
         S: :srv PONG srv :fence-2",
    );
}

#[test]
fn leaving_is_for_good() {
    Play::in_a(8).run(
        "L: #a
         C: PART #a
         S: :comity!~c@host.example PART #a
         S: :al!a@h PRIVMSG #a :hi
         E: skipped other_channel",
    );
}

#[test]
fn many_joins_keep_to_the_window() {
    Play::in_a(2).run(
        "J: #b
         C: JOIN #b
         C: PING :fence-2
         J: #c
         J: #d
         J: #e
         S: :srv PONG srv :fence-2
         C: JOIN #c
         C: JOIN #d
         C: PING :fence-3
         S: :srv PONG srv :fence-3
         C: JOIN #e
         C: PING :fence-4",
    );
}

#[test]
fn asking_twice_is_answered_twice_and_a_twin_is_refused() {
    Play::in_a(8).run(
        "J: #a
         E: joined #a
         J: #A
         E: not joined #A: the server takes it for another configured channel
         L: #A
         S: :al!a@h PRIVMSG #a :still here
         E: heard #a PRIVMSG al: still here",
    );
}

#[test]
fn a_name_that_the_server_would_cut_is_not_joined() {
    Play::in_a(8).run(
        "S: :srv 005 comity CHANNELLEN=5 :are supported
         J: #abcde
         J: #abcd
         C: JOIN #abcd
         C: PING :fence-2
         E: not joined #abcde: the name is too long for this server",
    );
}
