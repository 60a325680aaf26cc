use super::*;

#[test]
fn registration_asks_for_capabilities_first_and_ends_them() {
    Play::new(8).run(
        "C: CAP LS 302
         C: NICK comity
         C: USER comity 0 * :Comity
         S: :srv NOTICE * :*** Looking up your hostname...
         S: PING :cookie
         C: PONG :cookie
         S: :srv CAP * LS * :multi-prefix message-tags
         S: :srv CAP * LS :server-time account-tag echo-message
         C: CAP REQ :account-tag message-tags server-time
         S: :srv CAP comity ACK :account-tag message-tags server-time
         C: CAP END
         S: :srv 001 comity :Welcome
         E: registered comity
         C: PING :ready
         S: :srv PONG srv :ready
         E: ready
         S: :srv 376 comity :End of MOTD",
    );
}

#[test]
fn i6_a_taken_nick_gets_a_suffix_and_the_wished_one_is_regained() {
    Play::new(8).run(
        "C: CAP LS 302
         C: NICK comity
         C: USER comity 0 * :Comity
         S: :srv 421 * CAP :Unknown command
         S: :srv 433 * comity :Nickname is already in use
         C: NICK comity_
         S: :srv 432 * comity_ :Erroneous nickname
         C: NICK comity2
         S: :srv 001 comity2 :Welcome
         E: registered comity2
         C: PING :ready
         S: :srv 376 comity2 :End of MOTD
         E: ready
         S: :COMITY!x@y QUIT :bye
         +0
         C: NICK comity
         C: PING :fence-1
         S: :srv 433 comity2 comity :Nickname is already in use
         S: :srv PONG srv :fence-1
         S: :comity2!~c@h NICK :comity
         E: renamed comity
         +19",
    );
}

#[test]
fn i6_nick_tries_are_bounded() {
    let mut play = Play::new(8);
    play.run("C: CAP LS 302\nC: NICK comity\nC: USER comity 0 * :Comity");
    for suffix in ["_", "2", "3", "4", "5", "6", "7", "8"] {
        play.run(&format!("S: :srv 433 * x :in use\nC: NICK comity{suffix}"));
    }
    play.run("S: :srv 433 * x :in use\nE: lost Refused: no nick to be had: in use");
}

#[test]
fn a_server_that_does_not_register_us_is_given_up() {
    Play::new(8).run(
        "C: CAP LS 302
         C: NICK comity
         C: USER comity 0 * :Comity
         +20
         C: PING :still-there
         +39
         S: PING :x
         C: PONG :x
         +20
         C: PING :still-there
         +11
         E: lost Cut: no registration within the time allowed",
    );
}

#[test]
fn a_server_whose_welcome_never_ends_is_given_up() {
    let mut play = Play::new(8);
    play.run(
        "C: CAP LS 302
         C: NICK comity
         C: USER comity 0 * :Comity
         S: :srv 001 comity :Welcome
         E: registered comity
         C: PING :ready",
    );
    for _ in 0..8 {
        play.run("+10\nS: :srv 372 comity :- and another thing");
    }
    play.run("+10\nE: lost Cut: no registration within the time allowed");
}

#[test]
fn i10_what_the_server_says_at_the_end_is_the_reason() {
    Play::new(8).run(
        "C: CAP LS 302
         C: NICK comity
         C: USER comity 0 * :Comity
         S: ERROR :Trying to reconnect too fast.
         X: end of stream
         E: lost Throttled: Trying to reconnect too fast.",
    );
}

#[test]
fn a_wrong_password_is_a_refusal() {
    Play::new(8).run(
        "C: CAP LS 302
         C: NICK comity
         C: USER comity 0 * :Comity
         S: :srv 464 * :Password incorrect
         E: lost Refused: Password incorrect",
    );
}

#[test]
fn a_silent_server_is_pinged_and_then_given_up() {
    let mut play = Play::in_a(8);
    play.run(
        "+20
         C: PING :still-there
         +30
         S: :srv PONG srv :still-there
         +19
         +1
         C: PING :still-there
         +60
         E: lost Cut: the server does not answer",
    );
    assert_eq!(play.session.poll_timeout(), None);
}

#[test]
fn i5_a_server_that_wants_answers_and_does_not_read_them_is_given_up() {
    for line in ["PING :x", ":comity!~c@h JOIN #z", "CAP comity NEW :batch"] {
        let mut play = Play::in_a(8);
        for _ in 0..100_000 {
            let line = Line::parse(line.as_bytes()).expect("a line");
            play.session.handle_line(&line, play.now);
        }
        let told: Vec<String> = std::iter::from_fn(|| play.session.poll_event())
            .map(|event| told(&event))
            .collect();
        let said = std::iter::from_fn(|| play.transmit()).count();
        match line.starts_with("CAP") {
            true => assert!(told.is_empty() && said == 1),
            false => {
                assert_eq!(told, ["lost Cut: the server does not read"]);
                assert_eq!(said, MAX_URGENT);
            }
        }
    }
}

#[test]
fn i5_endless_chatter_of_the_server_leaves_no_trace() {
    let mut play = Play::in_a(8);
    for n in 0..100_000 {
        for text in [
            format!(":srv 353 comity = #a :u{n} v{n}"),
            format!(":srv 005 comity TOKEN{n}=x :are supported"),
        ] {
            let line = Line::parse(text.as_bytes()).expect("a line");
            play.session.handle_line(&line, play.now);
        }
    }
    play.run("");
}

#[test]
fn an_endless_ping_token_does_not_make_an_endless_line() {
    Play::in_a(8).run(&format!("S: PING :{}", "x".repeat(600)));
}

#[test]
fn any_line_in_any_state_is_survived() {
    let verbs = [
        "001", "005", "332", "404", "433", "437", "442", "471", "CAP", "CHGHOST", "ERROR", "JOIN",
        "KICK", "MODE", "NICK", "NOTICE", "PART", "PING", "PONG", "PRIVMSG", "QUIT", "XYZZY",
    ];
    let words = [
        "",
        "comity",
        "#a",
        "#A",
        "@#a",
        "*",
        "LS",
        "ACK",
        "NAK",
        "NEW",
        "message-tags",
        ":fence-2",
        ":x y",
        "al",
    ];
    let sources = ["", ":srv ", ":comity!~c@h ", ":al!a@h ", "@msgid=1 :al "];
    let mut seed = 7u64;
    let mut pick = |n: usize| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 40).expect("24 bits") % n
    };
    for start in 0..200 {
        let mut play = if start % 2 == 0 {
            Play::in_a(3)
        } else {
            Play::new(3)
        };
        for step in 0..200u64 {
            let mut text = format!("{}{}", sources[pick(5)], verbs[pick(22)]);
            for _ in 0..pick(4) {
                text = format!("{text} {}", words[pick(14)]);
            }
            if let Ok(line) = Line::parse(text.as_bytes()) {
                play.session.handle_line(&line, play.now);
            }
            if pick(5) == 0 {
                play.submit(&format!("{} #a x|y", start * 1000 + step));
            }
            play.now += Duration::from_millis(u64::try_from(pick(9000)).expect("small"));
            play.session.handle_timeout(play.now);
            while let Some(line) = play.transmit() {
                assert!(
                    line.len() <= 510 && !line.contains(['\r', '\n', '\0']),
                    "{line:?}"
                );
            }
            while play.session.poll_event().is_some() {}
            assert!(
                play.session.poll_timeout().is_none_or(|at| at > play.now),
                "no busy loop after {text:?}"
            );
        }
    }
}
