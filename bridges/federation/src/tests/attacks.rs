//! What a stranger may try, and what comes of it. Names begin with the line of the list of attacks.

use http::Method;
use serde_json::{Value, json};

use super::stranger::{Stranger, build, now_ms};
use super::{Gateway, ROOM, Wire, options, server};
use crate::ident::{Alias, EventId};
use crate::session::compose::{Author, Place};
use crate::wire::api::{
    self, AliasAnswer, GET_PATH, Get, HEADS_PATH, JOIN_PATH, JoinAnswer, PUSH_PATH, Status,
};
use crate::wire::event::Event;
use crate::wire::json;
use comity_bridge::Access;

const A: &str = "a.example";

async fn scene() -> (Wire, Gateway, Stranger) {
    let wire = Wire::default();
    let a = Gateway::start(A, &wire);
    a.host(ROOM).await;
    let mallory = Stranger::new("m.example", 7, &wire);
    (wire, a, mallory)
}

/// A message of the stranger, after some change of the finished JSON; the signature stays.
fn bent(mallory: &Stranger, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let event = mallory
        .draft("bent")
        .sign(&mallory.author.key)
        .expect("well formed");
    let mut value: Value = serde_json::from_slice(event.bytes()).expect("JSON");
    change(&mut value);
    json::to_bytes(&value).expect("canonical")
}

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
async fn f4_a_request_in_the_receivers_own_name_is_refused() {
    let (_wire, _a, mallory) = scene().await;
    let mut liar = mallory;
    liar.author.server = server(A);
    let (status, _) = liar
        .ask::<Value>(A, Method::POST, GET_PATH, json!({}))
        .await;
    assert_eq!(status, 401);
}

#[tokio::test]
async fn f5_a_request_is_good_once_and_for_a_short_time() {
    let (_wire, _a, mallory) = scene().await;
    let body = serde_json::to_vec(&json!({ "rooms": [] })).expect("JSON");
    let send = |created| {
        let signed = mallory.sign(A, &Method::POST, HEADS_PATH, &body, created);
        let request = || build(Method::POST, HEADS_PATH, body.clone(), &signed);
        let (first, second) = (request(), request());
        let mallory = &mallory;
        async move {
            (
                mallory.send(A, first).await.status().as_u16(),
                mallory.send(A, second).await.status().as_u16(),
            )
        }
    };
    let now = now_ms() / 1000;
    assert_eq!(send(now).await, (200, 401));
    assert_eq!(send(now - 301).await, (401, 401));
    assert_eq!(send(now + 302).await, (401, 401));

    let signed = mallory.sign("b.example", &Method::POST, HEADS_PATH, &body, now);
    let elsewhere = mallory
        .send(A, build(Method::POST, HEADS_PATH, body.clone(), &signed))
        .await;
    assert_eq!(elsewhere.status(), 401);
}

#[tokio::test]
async fn f15_a_room_that_one_is_not_in_and_a_room_that_is_not_there_are_the_same() {
    let (wire, _a, mut mallory) = scene().await;
    let real = {
        let mut member = Stranger::new("e.example", 8, &wire);
        member.join(A, "rust").await;
        member.place.expect("joined").room
    };
    let unknown = EventId::from_hash([1; 32]).as_room();
    let mut answers = Vec::new();
    for room in [&real, &unknown] {
        let body = serde_json::to_value(Get {
            room: room.clone(),
            ids: vec![real.genesis()],
        })
        .expect("JSON");
        answers.push(mallory.ask::<Value>(A, Method::POST, GET_PATH, body).await);
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].0, 403);
    let (_, heads) = mallory
        .ask::<Value>(
            A,
            Method::POST,
            HEADS_PATH,
            json!({ "rooms": [real, unknown] }),
        )
        .await;
    assert_eq!(heads, Some(json!({ "rooms": {} })));

    // An event for either gets the same code.
    mallory.join(A, "rust").await;
    let other = bent(&mallory, |value| value["room"] = json!(unknown));
    let outsider = Stranger::new("o.example", 9, &wire);
    let inside = bent(&mallory, |_| {});
    assert_eq!(
        outsider.push(A, &[&other, &inside]).await,
        ["forbidden", "forbidden"]
    );
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

#[tokio::test]
async fn f6_nobody_joins_a_room_for_another() {
    let (wire, _a, mut mallory) = scene().await;
    let eve = Stranger::new("e.example", 8, &wire);
    mallory.join(A, "rust").await;
    let place = mallory.place.clone().expect("joined");
    let document = eve.identity.document(&eve.author.server, now_ms());
    let [keys, join] = eve
        .author
        .entry(
            &Place {
                previous: None,
                ..place.clone()
            },
            &document,
            now_ms(),
        )
        .expect("well formed");
    let events: Vec<Value> = [keys, join]
        .iter()
        .map(|event| serde_json::from_slice(event.bytes()).expect("JSON"))
        .collect();
    let (status, _) = mallory
        .ask::<Value>(
            A,
            Method::POST,
            JOIN_PATH,
            json!({ "room": place.room, "events": events }),
        )
        .await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn f7_keys_that_change_or_that_dns_contradicts_are_refused() {
    let (wire, a, mut mallory) = scene().await;
    mallory.join(A, "rust").await;
    // The same name, another key: somebody else has the domain now, or its server.
    let impostor = Stranger::new("m.example", 66, &wire);
    let (status, _) = impostor
        .ask::<Value>(A, Method::POST, HEADS_PATH, json!({ "rooms": [] }))
        .await;
    assert_eq!(status, 401);

    let doubted = Stranger::new("d.example", 9, &wire);
    let record = format!("v=1; h={}", impostor.identity.public().hash());
    wire.records
        .lock()
        .expect("no panic")
        .insert(server("d.example"), record);
    let (status, _) = doubted
        .ask::<Value>(A, Method::POST, HEADS_PATH, json!({ "rooms": [] }))
        .await;
    assert_eq!(status, 401);
    drop(a);
}

/// A room of the stranger's, with an alias, a genesis and further events of its own choice.
fn offer(mallory: &Stranger, alias_room: &Event, genesis: &Event, more: &[&Event]) {
    let alias = Alias::parse("#trap@m.example").expect("an alias");
    let found = AliasAnswer {
        room: alias_room.room.clone(),
        alias,
        join: "open".to_owned(),
        servers: vec![mallory.author.server.clone()],
        heads: vec![alias_room.id.clone()],
        depth: 0,
        auth: vec![alias_room.id.clone()],
    };
    let raw = |event: &Event| api::raw(event.bytes().to_vec()).expect("JSON");
    let answer = JoinAnswer {
        genesis: raw(genesis),
        state: more.iter().map(|event| raw(event)).collect(),
        auth: Vec::new(),
        edge: Vec::new(),
        heads: vec![genesis.id.clone()],
        servers: vec![mallory.author.server.clone()],
    };
    let mut routes = mallory.routes.lock().expect("no panic");
    routes.insert(
        "/_chat/v1/alias/trap".to_owned(),
        serde_json::to_vec(&found).expect("JSON"),
    );
    routes.insert(
        JOIN_PATH.to_owned(),
        serde_json::to_vec(&answer).expect("JSON"),
    );
}

/// The genesis of a room by `author`, whoever that claims to be, and the join of its gateway.
fn room_of(author: &Author, mallory: &Stranger) -> (Event, Event) {
    let alias = Alias::parse("#trap@m.example").expect("an alias");
    let keys = mallory.identity.document(&author.server, now_ms());
    let genesis = author
        .genesis(&alias, &keys, "nonce", now_ms())
        .expect("well formed");
    let join = author.first_join(&genesis, now_ms()).expect("well formed");
    (genesis, join)
}

async fn is_told(gateway: &Gateway, wanted: &str) {
    gateway
        .harness
        .wait_for(wanted, |seen| {
            seen.told
                .iter()
                .any(|told| format!("{told:?}").contains(wanted))
                .then_some(())
        })
        .await;
}

#[tokio::test]
async fn f21_a_room_with_another_genesis_than_the_pinned_one_is_not_entered() {
    let (wire, _a, mallory) = scene().await;
    let b = Gateway::start("b.example", &wire);
    let channel = b.channel("#trap@m.example");
    b.harness.join(&channel, options(false, Access::Off)).await;
    is_told(&b, "m.example answers 404").await;

    let (genesis, join) = room_of(&mallory.author, &mallory);
    let other = mallory.author.first_join(&genesis, 1).expect("well formed");
    offer(&mallory, &genesis, &other, &[&join]);
    is_told(&b, "its genesis").await;

    // A room that another server is said to have made, which has not.
    let victim = Author {
        server: server(A),
        key: mallory.author.key.clone(),
    };
    let (forged, forged_join) = room_of(&victim, &mallory);
    let c = Gateway::start("c.example", &wire);
    offer(&mallory, &forged, &forged, &[&forged_join]);
    c.harness
        .join(&c.channel("#trap@m.example"), options(false, Access::Off))
        .await;
    is_told(&c, "contradict").await;
}

#[tokio::test]
async fn the_answer_to_a_join_cannot_speak_for_other_servers() {
    let (wire, _a, mallory) = scene().await;
    let (genesis, join) = room_of(&mallory.author, &mallory);
    // The victim's keys and membership, made by the stranger.
    let victim = Author {
        server: server(A),
        key: mallory.author.key.clone(),
    };
    let place = Place {
        room: genesis.room.clone(),
        parents: vec![join.id.clone()],
        depth: join.depth,
        hlc: (0, 0),
        previous: None,
    };
    let document = mallory.identity.document(&victim.server, now_ms());
    let [keys, member] = victim
        .entry(&place, &document, now_ms())
        .expect("well formed");
    offer(&mallory, &genesis, &genesis, &[&join, &keys, &member]);
    let b = Gateway::start("b.example", &wire);
    b.join("#trap@m.example").await;
    let is_refused = |detail: &str| detail.contains("refused: key");
    b.harness
        .wait_for("the refusal of the forged keys", |seen| {
            seen.skips
                .iter()
                .any(|skip| is_refused(&skip.detail))
                .then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_server_that_has_lost_its_copy_of_a_room_is_told_so() {
    let (wire, _a, mut mallory) = scene().await;
    mallory.join(A, "rust").await;
    let room = mallory.place.clone().expect("joined").room;
    let forgetful = Stranger::new("m.example", 7, &wire);
    let place = Place {
        room: room.clone(),
        parents: vec![room.genesis()],
        depth: 0,
        hlc: (0, 0),
        previous: None,
    };
    let document = forgetful
        .identity
        .document(&forgetful.author.server, now_ms());
    let entry = forgetful
        .author
        .entry(&place, &document, now_ms() + 1)
        .expect("well formed");
    let events: Vec<Value> = entry
        .iter()
        .map(|event| serde_json::from_slice(event.bytes()).expect("JSON"))
        .collect();
    let (status, problem) = forgetful
        .ask::<Value>(
            A,
            Method::POST,
            JOIN_PATH,
            json!({ "room": room, "events": events }),
        )
        .await;
    assert_eq!(status, 409);
    assert!(
        problem.expect("a reason")["reason"]
            .as_str()
            .expect("text")
            .starts_with("chain")
    );
}

#[tokio::test]
async fn bodies_that_are_no_requests_are_refused() {
    let (_wire, a, mallory) = scene().await;
    for (path, body) in [
        (PUSH_PATH, b"[".as_slice()),
        (PUSH_PATH, b"{}"),
        (PUSH_PATH, br#"{"txn":"","events":[]}"#),
        (PUSH_PATH, br#"{"txn":"a","txn":"b","events":[]}"#),
        (PUSH_PATH, b"\xff\xfe"),
        (JOIN_PATH, br#"{"room":"!x","events":[]}"#),
        (GET_PATH, br#"{"room":3}"#),
    ] {
        let answer = mallory
            .send(A, mallory.request(A, Method::POST, path, body.to_vec()))
            .await;
        assert_eq!(
            answer.status(),
            400,
            "{path} {}",
            String::from_utf8_lossy(body)
        );
    }
    let many = json!({ "txn": "x", "events": vec![json!({}); 51] });
    let (status, _) = mallory.ask::<Value>(A, Method::POST, PUSH_PATH, many).await;
    assert_eq!(status, 400);
    let big = mallory.request(A, Method::POST, GET_PATH, vec![b' '; 300 << 10]);
    assert_eq!(mallory.send(A, big).await.status(), 413);
    let bare = http::Request::post(PUSH_PATH)
        .body(bytes::Bytes::new())
        .expect("well formed");
    assert_eq!(mallory.send(A, bare).await.status(), 401);
    a.harness.wait_for_skip("malformed").await;
    a.harness.wait_for_skip("unauthorised").await;
}

#[tokio::test]
async fn with_the_journal_frozen_no_push_is_acknowledged() {
    let (_wire, a, mut mallory) = scene().await;
    mallory.join(A, "rust").await;
    let event: Event = mallory
        .draft("frozen")
        .sign(&mallory.author.key)
        .expect("well formed");
    a.harness.freeze();
    let events = [event.bytes()];
    let push = mallory.push(A, &events);
    tokio::pin!(push);
    tokio::select! {
        answer = &mut push => panic!("acknowledged before the commit: {answer:?}"),
        () = a.harness.wait_for_hanging_commits(1) => {}
    }
    a.harness.thaw();
    assert_eq!(push.await, ["ok"]);
    assert_eq!(a.heard(), ["frozen"]);
}

#[tokio::test]
async fn what_the_gateway_had_not_confirmed_is_reported_again_after_a_restart() {
    let (wire, mut a, mut mallory) = scene().await;
    let channel = a.channel(ROOM);
    mallory.join(A, "rust").await;
    let event = mallory
        .draft("in the graph")
        .sign(&mallory.author.key)
        .expect("well formed");
    a.harness.freeze();
    {
        let events = [event.bytes()];
        let push = mallory.push(A, &events);
        tokio::pin!(push);
        tokio::select! {
            answer = &mut push => panic!("acknowledged before the commit: {answer:?}"),
            () = a.harness.wait_for_hanging_commits(1) => {}
        }
    }
    a.restart().await;
    a.harness.thaw();
    a.harness.wait_for_text("in the graph").await;
    // The peer has no answer and comes again; that is no second event.
    wire.connect(&server(A), a.harness.http_caller());
    assert_eq!(mallory.push(A, &[event.bytes()]).await, ["dup"]);
    a.harness.join(&channel, options(true, Access::Open)).await;
    a.harness.wait_for_joined(&channel).await;
    assert_eq!(a.heard(), ["in the graph"]);
}
