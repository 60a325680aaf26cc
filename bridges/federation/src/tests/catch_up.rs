//! What was missed is fetched: from whoever has it, once, in order; and nobody can use that against us.

use std::path::Path;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::stranger::Stranger;
use super::{Gateway, ROOM, Wire, options};
use crate::ident::EventId;
use crate::wire::api::{HEADS_PATH, HeadsAnswer, MISSED_PATH, MissedAnswer, PUSH_PATH, Status};
use comity_bridge::{Access, Gap};

const A: &str = "a.example";

fn lose_queues(state: &Path) {
    let graph = rusqlite::Connection::open(state.join("graph.sqlite")).expect("the graph");
    let lost = graph.execute("DELETE FROM queues", []).expect("deleted");
    assert!(lost > 0, "nothing waited");
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|n| n.to_string()).collect()
}

/// The gaps that a gateway was told of.
fn gaps(gateway: &Gateway) -> Vec<Gap> {
    gateway.harness.seen(|seen| {
        let batches = seen.batches.iter();
        batches.flat_map(|batch| batch.gaps.clone()).collect()
    })
}

#[tokio::test]
async fn what_a_peer_has_no_queue_for_any_more_is_fetched_by_heads() {
    let wire = Wire::default();
    let (mut a, b) = (
        Gateway::start("a.example", &wire),
        Gateway::start("b.example", &wire),
    );
    let on_a = a.host(ROOM).await;
    b.join(ROOM).await;
    wire.cut("b.example");
    // More than two pages, from several speakers.
    for n in 0..250 {
        a.say(&on_a, &format!("user{}", n % 3), &n.to_string())
            .await;
    }
    a.restart_after(lose_queues).await;
    a.host(ROOM).await;
    wire.mend("b.example");
    // What is said next builds on what b lacks.
    for n in 250..320 {
        a.say(&on_a, "alice", &n.to_string()).await;
    }
    b.harness.wait_for_text("319").await;
    assert_eq!(b.heard(), numbers(320));
    assert_eq!(gaps(&b), []);
}

#[tokio::test]
async fn a_gateway_that_was_away_asks_when_it_starts_and_need_not_be_pushed_to() {
    let wire = Wire::default();
    let (mut a, mut b) = (
        Gateway::start("a.example", &wire),
        Gateway::start("b.example", &wire),
    );
    let on_a = a.host(ROOM).await;
    let on_b = b.join(ROOM).await;
    wire.cut("b.example");
    for n in numbers(120) {
        a.say(&on_a, "alice", &n).await;
    }
    a.restart_after(lose_queues).await;
    a.host(ROOM).await;
    wire.mend("b.example");
    b.restart().await;
    b.harness.join(&on_b, options(false, Access::Off)).await;
    b.harness.wait_for_text("119").await;
    assert_eq!(b.heard(), numbers(120));
}

#[tokio::test]
async fn what_one_said_who_is_gone_is_had_from_a_third() {
    let wire = Wire::default();
    let (a, mut b, c) = (
        Gateway::start("a.example", &wire),
        Gateway::start("b.example", &wire),
        Gateway::start("c.example", &wire),
    );
    a.host(ROOM).await;
    let on_b = b.join(ROOM).await;
    let on_c = c.join(ROOM).await;
    // Until b knows c, c's words are not for it.
    c.say(&on_c, "cleo", "hello").await;
    b.harness.wait_for_text("hello").await;
    wire.cut("b.example");
    for n in numbers(30) {
        c.say(&on_c, "cleo", &n).await;
    }
    a.harness.wait_for_text("29").await;
    wire.cut("c.example");
    c.harness.shutdown();
    wire.mend("b.example");
    b.restart().await;
    b.harness.join(&on_b, options(false, Access::Off)).await;
    b.harness.wait_for_text("29").await;
    let mut said = numbers(30);
    said.insert(0, "hello".to_owned());
    assert_eq!(b.heard(), said);
}

/// A room at a, with a stranger in it who answers what the test says.
async fn scene() -> (Wire, Gateway, Stranger) {
    let wire = Wire::default();
    let a = Gateway::start(A, &wire);
    a.host(ROOM).await;
    let mut mallory = Stranger::new("m.example", 7, &wire);
    mallory.join(A, "rust").await;
    (wire, a, mallory)
}

impl Stranger {
    fn answer(&self, path: &str, body: Value) {
        let body = serde_json::to_vec(&body).expect("JSON");
        let mut routes = self.routes.lock().expect("no panic");
        routes.insert(path.to_owned(), body);
    }
}

#[tokio::test]
async fn a_peer_that_names_what_it_does_not_give_is_a_gap_told_once() {
    let (_wire, a, mallory) = scene().await;
    let room = mallory.place.clone().expect("joined").room;
    let heads: Vec<EventId> = (0..100).map(|n| EventId::from_hash([n; 32])).collect();
    mallory.answer(
        HEADS_PATH,
        json!({ "rooms": { room.as_str(): { "heads": heads, "count": 1000 } } }),
    );
    mallory.answer(MISSED_PATH, json!({ "events": [], "more": true }));
    let ask = json!({ "rooms": [room] });
    for _ in 0..5 {
        let (status, _) = mallory
            .ask::<HeadsAnswer>(A, Method::POST, HEADS_PATH, ask.clone())
            .await;
        assert_eq!(status, 200);
    }
    a.harness
        .wait_for("a gap", |seen| {
            let batches = seen.batches.iter();
            (batches.flat_map(|batch| &batch.gaps).count() > 0).then_some(())
        })
        .await;
    // What goes on in the room goes on.
    let event = mallory
        .draft("still here")
        .sign(&mallory.author.key)
        .expect("well formed");
    assert_eq!(mallory.push(A, &[event.bytes()]).await, ["ok"]);
    assert_eq!(gaps(&a).len(), 1);
}

#[tokio::test]
async fn pages_without_end_and_without_anything_new_are_not_read_on() {
    let (_wire, a, mallory) = scene().await;
    let room = mallory.place.clone().expect("joined").room;
    let elsewhere = EventId::from_hash([8; 32]).as_room();
    let mut draft = mallory.draft("another room");
    draft.room = Some(elsewhere);
    let stray = draft.sign(&mallory.author.key).expect("well formed");
    let good = mallory
        .draft("good")
        .sign(&mallory.author.key)
        .expect("well formed");
    let raw = |event: &crate::wire::event::Event| -> Value {
        serde_json::from_slice(event.bytes()).expect("JSON")
    };
    mallory.answer(
        HEADS_PATH,
        json!({ "rooms": { room.as_str(): { "heads": [good.id], "count": 9 } } }),
    );
    mallory.answer(
        MISSED_PATH,
        json!({ "events": [raw(&stray), {"v": 7}, 1, raw(&good)], "more": true }),
    );
    let ask = json!({ "rooms": [room] });
    mallory
        .ask::<HeadsAnswer>(A, Method::POST, HEADS_PATH, ask)
        .await;
    a.harness.wait_for_text("good").await;
    assert_eq!(a.heard(), ["good"]);
}

#[tokio::test]
async fn f15_what_was_missed_is_given_to_members_only() {
    let (wire, _a, mallory) = scene().await;
    let room = mallory.place.clone().expect("joined").room;
    let ask = json!({ "room": room, "have": {} });
    let (status, page) = mallory
        .ask::<MissedAnswer>(A, Method::POST, MISSED_PATH, ask.clone())
        .await;
    // The genesis, the join of a, and mallory's own keys and join.
    assert_eq!((status, page.expect("a page").events.len()), (200, 4));
    let outsider = Stranger::new("o.example", 9, &wire);
    let (status, _) = outsider
        .ask::<MissedAnswer>(A, Method::POST, MISSED_PATH, ask)
        .await;
    assert_eq!(status, 403);
    let nowhere = json!({ "room": EventId::from_hash([8; 32]).as_room(), "have": {} });
    let (status, _) = outsider
        .ask::<MissedAnswer>(A, Method::POST, MISSED_PATH, nowhere)
        .await;
    assert_eq!(status, 403);
    let many: serde_json::Map<_, _> = (0..1001)
        .map(|n| (format!("s{n}.example"), json!(1)))
        .collect();
    let (status, _) = mallory
        .ask::<MissedAnswer>(
            A,
            Method::POST,
            MISSED_PATH,
            json!({ "room": room, "have": many }),
        )
        .await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn a_room_that_is_named_often_is_one_room() {
    let (_wire, _a, mallory) = scene().await;
    let room = mallory.place.clone().expect("joined").room;
    let ask = json!({ "rooms": vec![&room; 300] });
    let (status, answer) = mallory
        .ask::<HeadsAnswer>(A, Method::POST, HEADS_PATH, ask)
        .await;
    assert_eq!(status, 200);
    assert_eq!(answer.expect("an answer").rooms.len(), 1);
}

#[tokio::test]
async fn what_comes_while_a_join_is_under_way_is_not_refused_and_taken_afterwards() {
    let wire = Wire::default();
    let (a, mut b) = (Gateway::start(A, &wire), Gateway::start("b.example", &wire));
    a.host(ROOM).await;
    let mut mallory = Stranger::new("m.example", 7, &wire);
    mallory.join(A, "rust").await;
    let on_b = b.join(ROOM).await;
    // As if it had been killed before the answer to its join came, and a is gone meanwhile.
    wire.cut(A);
    b.restart_after(|state| {
        let graph = rusqlite::Connection::open(state.join("graph.sqlite")).expect("the graph");
        let changed = graph.execute("UPDATE rooms SET stage = 0", []);
        assert_eq!(changed, Ok(1));
    })
    .await;
    b.harness.join(&on_b, options(false, Access::Off)).await;
    let event = mallory.draft("meanwhile").sign(&mallory.author.key);
    let event = event.expect("well formed");
    let answer = mallory.push_raw("b.example", &[event.bytes()]).await;
    let result = &answer.results[0];
    assert_eq!((result.status, &result.need[..]), (Status::Need, &[][..]));
    wire.mend(A);
    b.harness.wait_for_joined(&on_b).await;
    assert_eq!(mallory.push("b.example", &[event.bytes()]).await, ["ok"]);
    b.harness.wait_for_text("meanwhile").await;
}

#[tokio::test]
async fn an_event_that_a_peer_has_no_place_for_is_pushed_again() {
    let (_wire, a, mallory) = scene().await;
    let mut pushed = mallory.pushed.subscribe();
    let all = |status: Value| {
        // The membership of the speaker, and what is said.
        mallory.answer(PUSH_PATH, json!({ "results": [status, status] }));
    };
    all(json!({ "status": "reject", "code": "quota" }));
    a.say(&a.channel(ROOM), "alice", "is there room?").await;
    let again = pushed.wait_for(|count| *count >= 2);
    let again = tokio::time::timeout(Duration::from_secs(60), again).await;
    drop(again.expect("pushed again").expect("the stranger is there"));
    all(json!({ "status": "ok" }));
    let skipped = a.harness.seen(|seen| seen.skips.len());
    assert_eq!(skipped, 0);
}
