//! Channels on their way into their rooms.

use super::*;

#[test]
fn a_room_that_is_not_public_waits_for_its_invitation() {
    let mut bench = Bench::new(Users::Ghosts, &[]);
    bench.join(ALIAS);
    bench.come_up();
    bench.answer(
        "Resolve",
        Ok(Answer::Room {
            room: room(),
            via: vec![],
        }),
    );
    bench.answer("Join", Err(refused(403, "M_FORBIDDEN")));
    let heard = bench.heard().join("\n");
    assert!(
        heard.contains(
            "not joined: M_FORBIDDEN: no; if the room is not public, invite @bot:hs.test"
        ),
        "{heard}"
    );
    bench.push(
        0,
        vec![event(
            "$i",
            "m.room.member",
            "@bob:hs.test",
            Some("@bot:hs.test"),
            json!({"membership": "invite"}),
        )],
    );
    bench.answer("Join", Ok(Answer::Done));
    bench.answer("Encryption", Err(refused(404, "M_NOT_FOUND")));
    assert!(bench.heard().contains(&"joined".to_owned()));
}

#[test]
fn an_invitation_to_any_other_room_is_left_alone() {
    let mut bench = Bench::joined(Users::Ghosts);
    let mut invite = event(
        "$i",
        "m.room.member",
        "@eve:hs.test",
        Some("@bot:hs.test"),
        json!({"membership": "invite"}),
    );
    invite.room_id = owned_room_id!("!other:hs.test");
    bench.push(0, vec![invite]);
    assert_eq!(bench.heard(), ["answer 0 true"]);
    assert!(bench.calls.is_empty());
}

#[test]
fn a_kept_room_is_entered_without_asking_the_alias_and_asked_when_it_is_closed() {
    let mut bench = Bench::new(Users::Ghosts, &[("room/#rust:hs.test", "!old:hs.test")]);
    bench.join(ALIAS);
    bench.come_up();
    bench.answer("Join", Err(refused(404, "M_NOT_FOUND")));
    bench.enter();
    assert!(bench.heard().contains(&"joined".to_owned()));
}

#[test]
fn an_encrypted_room_is_not_joined_for_business() {
    let mut bench = Bench::new(Users::Ghosts, &[]);
    bench.join(ALIAS);
    bench.come_up();
    bench.answer(
        "Resolve",
        Ok(Answer::Room {
            room: room(),
            via: vec![],
        }),
    );
    bench.answer("Join", Ok(Answer::Done));
    bench.answer("Encryption", Ok(Answer::Done));
    assert!(bench.heard().join("\n").contains("not built yet"));
}

#[test]
fn an_old_leave_event_is_asked_about_before_it_is_believed() {
    let mut bench = Bench::joined(Users::Ghosts);
    bench.push(0, vec![member("@bot:hs.test", "leave")]);
    let state = MemberState {
        membership: Some("join".into()),
        displayname: None,
    };
    bench.answer("Member", Ok(Answer::Member(state)));
    bench.answer("Encryption", Err(refused(404, "M_NOT_FOUND")));
    assert_eq!(bench.heard(), ["answer 0 true"]);
    bench.push(1, vec![member("@bot:hs.test", "ban")]);
    bench.answer("Member", Err(refused(403, "M_FORBIDDEN")));
    assert!(
        bench
            .heard()
            .join("\n")
            .contains("not joined: @bot:hs.test is not in the room any more")
    );
}

#[test]
fn two_channels_cannot_show_one_room() {
    let mut bench = Bench::joined(Users::Ghosts);
    bench.join("home/#alt:hs.test");
    bench.answer(
        "Resolve",
        Ok(Answer::Room {
            room: room(),
            via: vec![],
        }),
    );
    assert!(bench.heard().join("\n").contains("another channel"));
}
