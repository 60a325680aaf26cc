//! Servers whose keys cannot be had: what they say waits for that, and what others say does not.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use super::stranger::{Stranger, now_ms};
use super::{Gateway, ROOM, Wire, server};
use crate::ident::EventId;
use crate::session::compose::Author;
use crate::wire::api::ALIAS_PREFIX;
use crate::wire::event::{Draft, Event};

const A: &str = "a.example";
const OTHER: &str = "#go@a.example";

#[tokio::test]
async fn a_server_that_cannot_be_reached_takes_the_room_from_nobody() {
    let wire = Wire::default();
    let (a, c) = (Gateway::start(A, &wire), Gateway::start("c.example", &wire));
    let on_a = a.host(ROOM).await;
    let on_c = c.join(ROOM).await;
    c.say(&on_c, "cleo", "before").await;
    a.harness.wait_for_text("before").await;
    wire.cut("c.example");

    let b = Gateway::start("b.example", &wire);
    let on_b = b.join(ROOM).await;
    a.say(&on_a, "alice", "one").await;
    b.harness.wait_for_text("one").await;
    // What others say builds on it; that is known, and not shown.
    c.say(&on_c, "cleo", "held").await;
    a.harness.wait_for_text("held").await;
    a.say(&on_a, "alice", "two").await;
    b.harness.wait_for_text("two").await;
    assert_eq!(b.heard(), ["one", "two"]);
    b.say(&on_b, "bea", "for all").await;
    a.harness.wait_for_text("for all").await;

    wire.mend("c.example");
    c.say(&on_c, "cleo", "there again").await;
    b.harness.wait_for_text("there again").await;
    assert_eq!(b.heard(), ["one", "two", "held", "there again"]);
    // It was not sent to a server that nobody could ask whether it is there.
    c.harness.wait_for_text("for all").await;
}

#[tokio::test]
async fn the_keys_of_an_earlier_run_are_enough_to_show_what_was_said() {
    let wire = Wire::default();
    let (a, c) = (Gateway::start(A, &wire), Gateway::start("c.example", &wire));
    let mut b = Gateway::start("b.example", &wire);
    a.host(ROOM).await;
    let go = a.host(OTHER).await;
    let (on_c, go_on_c) = (c.join(ROOM).await, c.join(OTHER).await);
    b.join(ROOM).await;
    c.say(&on_c, "cleo", "before").await;
    b.harness.wait_for_text("before").await;
    wire.cut("c.example");
    b.restart().await;
    b.join(ROOM).await;
    b.join(OTHER).await;
    c.say(&go_on_c, "cleo", "one").await;
    a.harness.wait_for_text("one").await;
    a.say(&go, "alice", "two").await;
    b.harness.wait_for_text("two").await;
    assert_eq!(b.heard(), ["before", "one", "two"]);
}

#[tokio::test]
async fn f4_whoever_speaks_for_a_server_out_of_reach_is_not_shown_and_keeps_it_out_of_nothing() {
    let wire = Wire::default();
    let a = Gateway::start(A, &wire);
    let on_a = a.host(ROOM).await;
    let mut mallory = Stranger::new("m.example", 7, &wire);
    mallory.join(A, "rust").await;
    let mut eve = Stranger::new("e.example", 8, &wire);
    wire.cut("e.example");

    let (forger, [document, join]) = forged(&mallory, "e.example");
    let said = Draft {
        origin: forger.server.clone(),
        sender: forger.server.gateway(),
        seq: 2,
        previous: Some(join.id.clone()),
        parents: vec![join.id.clone()],
        auth: vec![join.id.clone()],
        depth: join.depth + 1,
        body: json!({ "author": { "name": "eve" }, "content": { "type": "message", "kind": "text", "text": { "plain": "forged" } } }),
        ..mallory.draft("")
    };
    let said = said.sign(&forger.key).expect("well formed");
    let forged: Vec<&[u8]> = [&document, &join, &said].map(Event::bytes).to_vec();
    assert_eq!(mallory.push(A, &forged).await, ["pending"; 3]);
    a.say(&on_a, "alice", "the room goes on").await;

    wire.mend("e.example");
    // Until a asks for its keys again.
    let alias = format!("{ALIAS_PREFIX}rust");
    let ask = async || {
        let answer = eve.ask::<Value>(A, Method::GET, &alias, Value::Null);
        answer.await.0
    };
    while [401, 429].contains(&ask().await) {}
    eve.join(A, "rust").await;
    let honest = eve.draft("it is me").sign(&eve.author.key);
    let honest = honest.expect("well formed");
    assert_eq!(eve.push(A, &[honest.bytes()]).await, ["ok"]);
    a.harness.wait_for_text("it is me").await;
    assert_eq!(a.heard(), ["it is me"]);
    a.harness.wait_for_skip("rejected").await;
}

/// The entry of a server with keys of mallory's making, under another one's name.
fn forged(mallory: &Stranger, name: &str) -> (Author, [Event; 2]) {
    let forger = Author {
        server: server(name),
        key: mallory.author.key.clone(),
    };
    let keys = mallory.identity.document(&forger.server, now_ms());
    let mut place = mallory.place.clone().expect("joined");
    place.previous = None;
    let entry = forger.entry(&place, &keys, now_ms()).expect("well formed");
    (forger, entry)
}

#[tokio::test]
async fn f4_a_forgery_that_came_first_decides_nothing_about_the_origins_own_keys_and_join() {
    let wire = Wire::default();
    // The same wire, on which b alone cannot reach eve.
    let from_b = Wire {
        cut: Arc::default(),
        ..wire.clone()
    };
    from_b.cut("e.example");
    let (a, b) = (
        Gateway::start(A, &wire),
        Gateway::start("b.example", &from_b),
    );
    let on_a = a.host(ROOM).await;
    b.join(ROOM).await;
    let mut mallory = Stranger::new("m.example", 7, &wire);
    mallory.join(A, "rust").await;
    a.say(&on_a, "alice", "mallory is in").await;
    b.harness.wait_for_text("mallory is in").await;
    let (_, [document, join]) = forged(&mallory, "e.example");
    let forgery = [document.bytes(), join.bytes()];
    assert_eq!(mallory.push("b.example", &forgery).await, ["pending"; 2]);

    // Her own ones come by way of a, and cannot be compared either.
    let mut eve = Stranger::new("e.example", 8, &wire);
    eve.join(A, "rust").await;
    a.say(&on_a, "alice", "welcome").await;
    let (genuine, theirs) = (eve.entry.clone(), &mallory);
    let genuine: Vec<&[u8]> = genuine.iter().map(Event::bytes).collect();
    assert_eq!(theirs.push("b.example", &genuine).await, ["pending"; 2]);

    from_b.mend("e.example");
    let honest = eve.draft("it is me").sign(&eve.author.key);
    let honest = honest.expect("well formed");
    let alias = format!("{ALIAS_PREFIX}nowhere");
    let ask = async || {
        let answer = eve.ask::<Value>("b.example", Method::GET, &alias, Value::Null);
        answer.await.0
    };
    // Until b asks for her keys again.
    while [401, 429].contains(&ask().await) {}
    assert_eq!(eve.push("b.example", &[honest.bytes()]).await, ["ok"]);
    b.harness.wait_for_text("it is me").await;
    // What others have built on her join was only delayed.
    b.harness.wait_for_text("welcome").await;
    let mut heard = b.heard();
    heard.sort();
    assert_eq!(heard, ["it is me", "mallory is in", "welcome"]);
}

#[tokio::test]
async fn invented_servers_split_no_room_however_many_they_are() {
    let wire = Wire::default();
    let (a, b) = (Gateway::start(A, &wire), Gateway::start("b.example", &wire));
    let on_a = a.host(ROOM).await;
    b.join(ROOM).await;
    let mut mallory = Stranger::new("m.example", 7, &wire);
    mallory.join(A, "rust").await;
    a.say(&on_a, "alice", "mallory is in").await;
    b.harness.wait_for_text("mallory is in").await;
    let invented = |n: usize| {
        let (_, [document, _]) = forged(&mallory, &format!("s{n}.example"));
        document
    };
    // As many as b takes, and some that only a has.
    for first in [0, 50] {
        let events: Vec<Event> = (first..first + 50).map(invented).collect();
        let events: Vec<&[u8]> = events.iter().map(Event::bytes).collect();
        assert_eq!(mallory.push("b.example", &events).await, ["pending"; 50]);
    }
    let others: Vec<Event> = (100..108).map(invented).collect();
    let events: Vec<&[u8]> = others.iter().map(Event::bytes).collect();
    assert_eq!(mallory.push(A, &events).await, ["pending"; 8]);
    let said = a.say(&on_a, "alice", "one").await;
    b.harness.wait_for_text("one").await;
    let said = kept(&a, &said);
    let builds_on = |event: &Event| others.iter().any(|other| event.parents.contains(&other.id));
    assert!(!builds_on(&said), "{:?}", said.parents);

    // A member, whose keys are known, builds on them; and others on that.
    let mut parents: Vec<EventId> = others.iter().map(|event| event.id.clone()).collect();
    parents.sort();
    let onto = Draft {
        parents,
        depth: others[0].depth + 1,
        ..mallory.draft("onto that")
    };
    let onto = onto.sign(&mallory.author.key).expect("well formed");
    assert_eq!(mallory.push(A, &[onto.bytes()]).await, ["ok"]);
    a.say(&on_a, "alice", "two").await;
    b.harness.wait_for_text("two").await;
    let heard = b.heard();
    assert_eq!(heard, ["mallory is in", "one", "onto that", "two"]);
}

/// An event as a gateway has it.
fn kept(gateway: &Gateway, id: &str) -> Event {
    let graph = gateway.harness.state_dir().join("graph.sqlite");
    let graph = rusqlite::Connection::open(graph).expect("the graph");
    let sql = "SELECT bytes FROM events WHERE id = ?";
    let bytes: Vec<u8> = graph
        .query_row(sql, [id], |row| row.get(0))
        .expect("the event");
    Event::parse(&bytes).expect("an event")
}
