//! Requests that are not their sender's, not for it to make, or not to be answered yet.

use comity_bridge::Access;
use http::Method;
use serde_json::{Value, json};

use super::{A, bent, scene};
use crate::ident::EventId;
use crate::tests::stranger::{Stranger, build, now_ms};
use crate::tests::{ROOM, options, server};
use crate::wire::api::{GET_PATH, Get, HEADS_PATH, JOIN_PATH, PUSH_PATH};
use crate::wire::event::Event;

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
    let record = format!("v=1; h={}", impostor.identity.key.public().hash());
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
