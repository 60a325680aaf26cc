//! Events that are forged, bent, or not for us to take.

use http::Method;
use serde_json::{Value, json};

use super::{A, bent, scene};
use crate::ident::EventId;
use crate::tests::stranger::Stranger;
use crate::tests::{ROOM, server};
use crate::wire::api::Status;
use crate::wire::json;

#[tokio::test]
async fn one_bad_event_does_not_spoil_the_others_of_its_push() {
    let (_wire, a, mut mallory) = scene().await;
    mallory.join(A, "rust").await;
    let good = mallory
        .draft("good")
        .sign(&mallory.author.key)
        .expect("well formed");
    let broken = bent(&mallory, |value| value["depth"] = json!(999));
    let not_canonical = String::from_utf8(good.bytes().to_vec())
        .expect("UTF-8")
        .replacen("{", "{ ", 1);
    let codes = mallory
        .push(
            A,
            &[&broken, b"[1,2]", not_canonical.as_bytes(), good.bytes()],
        )
        .await;
    assert_eq!(codes, ["signature", "malformed", "not-canonical", "ok"]);
    a.harness.wait_for_text("good").await;
    assert_eq!(a.heard(), ["good"]);
    a.harness.wait_for_skip("rejected").await;
    assert_eq!(mallory.push(A, &[good.bytes()]).await, ["dup"]);
}

#[tokio::test]
async fn f1_f4_a_forged_event_is_refused_whoever_pushes_it() {
    let (wire, a, mut mallory) = scene().await;
    mallory.join(A, "rust").await;
    let mut eve = Stranger::new("e.example", 8, &wire);
    eve.join(A, "rust").await;

    // In somebody else's name, with the own key.
    let mut draft = mallory.draft("as eve");
    (draft.origin, draft.sender) = (eve.author.server.clone(), eve.user("eve"));
    let as_eve = draft.sign(&mallory.author.key).expect("well formed");
    // Of somebody else's user.
    let other_user = bent(&mallory, |value| value["sender"] = json!("eve@e.example"));
    // In the receiver's own name (hole L1).
    let mut draft = mallory.draft("as the receiver");
    (draft.origin, draft.sender) = (server(A), server(A).gateway());
    let as_receiver = draft.sign(&mallory.author.key).expect("well formed");
    // Another body under the same id.
    let other_body = bent(&mallory, |value| {
        value["body"]["content"]["text"]["plain"] = json!("changed")
    });

    let codes = mallory
        .push(
            A,
            &[
                as_eve.bytes(),
                &other_user,
                as_receiver.bytes(),
                &other_body,
            ],
        )
        .await;
    assert_eq!(codes, ["signature", "origin", "own-name", "body-hash"]);
    assert!(a.heard().is_empty());
}

#[tokio::test]
async fn f10_an_event_on_parents_that_nobody_has_is_not_taken() {
    let (_wire, a, mut mallory) = scene().await;
    mallory.join(A, "rust").await;
    let mut draft = mallory.draft("bait");
    draft.parents.push(EventId::from_hash([9; 32]));
    let event = draft.sign(&mallory.author.key).expect("well formed");
    let answer = mallory.push_raw(A, &[event.bytes()]).await;
    assert_eq!(answer.results[0].status, Status::Need);
    assert_eq!(answer.results[0].need, [EventId::from_hash([9; 32])]);
    assert!(a.heard().is_empty());
}

#[tokio::test]
async fn f11_depth_and_clock_are_not_what_an_event_says() {
    let (_wire, a, mut mallory) = scene().await;
    mallory.join(A, "rust").await;
    for depth in [1, 2, 1000, json::MAX_INTEGER.unsigned_abs()] {
        let mut draft = mallory.draft("deep");
        if draft.depth == depth {
            continue;
        }
        draft.depth = depth;
        let event = draft.sign(&mallory.author.key).expect("well formed");
        assert_eq!(mallory.push(A, &[event.bytes()]).await, ["depth"]);
    }
    // A clock of the year 3000 is somebody's claim; what is said afterwards does not inherit it.
    let mut draft = mallory.draft("from the future");
    draft.hlc = (
        json::MAX_INTEGER.unsigned_abs(),
        json::MAX_INTEGER.unsigned_abs(),
    );
    let event = draft.sign(&mallory.author.key).expect("well formed");
    assert_eq!(mallory.push(A, &[event.bytes()]).await, ["ok"]);
    a.harness.wait_for_text("from the future").await;
    a.say(&a.channel(ROOM), "alice", "still today").await;
}

#[tokio::test]
async fn f12_the_second_of_two_events_with_one_number_is_kept_and_not_shown() {
    let (_wire, a, mut mallory) = scene().await;
    mallory.join(A, "rust").await;
    let first = mallory
        .draft("first face")
        .sign(&mallory.author.key)
        .expect("well formed");
    let second = mallory
        .draft("second face")
        .sign(&mallory.author.key)
        .expect("well formed");
    assert_eq!(
        mallory.push(A, &[first.bytes(), second.bytes()]).await,
        ["ok", "ok"]
    );
    mallory.follow(&second);
    let built_on_it = mallory
        .draft("on the second")
        .sign(&mallory.author.key)
        .expect("well formed");
    assert_eq!(mallory.push(A, &[built_on_it.bytes()]).await, ["ok"]);
    mallory.follow(&first);
    let honest = mallory.draft("on the first");
    // Its number is taken by the hidden chain's event, which does not count.
    let honest = honest.sign(&mallory.author.key).expect("well formed");
    assert_eq!(mallory.push(A, &[honest.bytes()]).await, ["ok"]);
    a.harness.wait_for_text("on the first").await;
    assert_eq!(a.heard(), ["first face", "on the first"]);
}

#[tokio::test]
async fn a_speaker_who_is_no_member_says_nothing() {
    let (_wire, a, mut mallory) = scene().await;
    mallory.join(A, "rust").await;
    let mut draft = mallory.draft("who am i");
    draft.sender = mallory.user("nobody");
    let event = draft.sign(&mallory.author.key).expect("well formed");
    assert_eq!(mallory.push(A, &[event.bytes()]).await, ["auth"]);
    let mut draft = mallory.draft("no reason");
    draft.auth = vec![];
    let event = draft.sign(&mallory.author.key).expect("well formed");
    assert_eq!(mallory.push(A, &[event.bytes()]).await, ["auth"]);
    assert!(a.heard().is_empty());
}

#[tokio::test]
async fn what_is_not_implemented_is_refused_and_says_so() {
    let (_wire, a, mut mallory) = scene().await;
    mallory.join(A, "rust").await;
    for kind in [
        "edit",
        "redact",
        "react",
        "role",
        "policy",
        "acl",
        "tombstone",
        "key.revoke",
    ] {
        let mut draft = mallory.draft("x");
        draft.kind = kind;
        let event = draft.sign(&mallory.author.key).expect("well formed");
        assert_eq!(
            mallory.push(A, &[event.bytes()]).await,
            ["unsupported"],
            "{kind}"
        );
    }
    let mut ban = mallory.draft("x");
    (ban.kind, ban.body) = (
        "member",
        json!({ "user": "alice@a.example", "membership": "ban" }),
    );
    let ban = ban.sign(&mallory.author.key).expect("well formed");
    assert_eq!(mallory.push(A, &[ban.bytes()]).await, ["unsupported"]);
    for endpoint in [
        "reconcile",
        "backfill",
        "invite",
        "knock",
        "user/alice",
        "media/x",
    ] {
        let (status, problem) = mallory
            .ask::<Value>(
                A,
                Method::POST,
                &format!("/_chat/v1/{endpoint}"),
                Value::Null,
            )
            .await;
        assert_eq!(status, 501, "{endpoint}");
        assert!(
            problem.expect("a reason")["reason"]
                .as_str()
                .expect("text")
                .contains("does not implement")
        );
    }
    // An unknown type is stored and passed on.
    let mut unknown = mallory.draft("x");
    unknown.kind = "moon.phase";
    let unknown = unknown.sign(&mallory.author.key).expect("well formed");
    assert_eq!(mallory.push(A, &[unknown.bytes()]).await, ["ok"]);
    assert!(a.heard().is_empty());
}
