//! A damaged row of the graph costs what it is; the rest goes on, and the operator hears of it.

use std::path::Path;

use comity_bridge::event::MessageKind;
use comity_bridge::{DeliveryError, Outcome};

use super::stranger::Stranger;
use super::{Gateway, ROOM, Wire};

const OTHER: &str = "#go@a.example";

/// Changes the graph as a failing disk might.
fn damage(state: &Path, sql: &str) {
    let graph = rusqlite::Connection::open(state.join("graph.sqlite")).expect("the graph");
    let changed = graph.execute(sql, []).expect("changed");
    assert!(changed > 0, "nothing to damage");
}

async fn two() -> (Wire, Gateway, Gateway) {
    let wire = Wire::default();
    let (a, b) = (
        Gateway::start("a.example", &wire),
        Gateway::start("b.example", &wire),
    );
    (wire, a, b)
}

#[tokio::test]
async fn a_room_with_damaged_heads_costs_its_own_deliveries_and_no_others() {
    let (_wire, mut a, b) = two().await;
    let (rust, go) = (a.host(ROOM).await, a.host(OTHER).await);
    b.join(OTHER).await;
    a.restart_after(|state| {
        let sql = "UPDATE heads SET id = 'damaged'
                   WHERE room = (SELECT id FROM rooms WHERE alias = '#rust@a.example')";
        damage(state, sql);
    })
    .await;
    a.host(ROOM).await;
    a.host(OTHER).await;
    let deliver = async |channel, text| {
        let kind = MessageKind::Text;
        a.harness.deliver(channel, "alice", text, kind).await
    };
    // Handed over together, so that they share a transaction.
    let (lost, first) = (deliver(&rust, "lost").await, deliver(&go, "one").await);
    let second = deliver(&go, "two").await;
    let outcome = lost.outcome().await;
    assert!(
        matches!(&outcome, Outcome::GiveUp(DeliveryError::Damaged(_))),
        "{outcome:?}"
    );
    assert_eq!(first.outcome().await, Outcome::Shown);
    assert_eq!(second.outcome().await, Outcome::Shown);
    b.harness.wait_for_text("two").await;
    assert_eq!(b.heard(), ["one", "two"]);
}

#[tokio::test]
async fn a_damaged_event_is_not_reported_and_counted_and_the_rest_is_reported() {
    let (_wire, a, mut b) = two().await;
    let (rust, go) = (a.host(ROOM).await, a.host(OTHER).await);
    b.join(ROOM).await;
    b.join(OTHER).await;
    a.say(&rust, "alice", "one").await;
    a.say(&go, "alice", "two").await;
    a.say(&go, "alice", "three").await;
    b.harness.wait_for_text("one").await;
    b.harness.wait_for_text("three").await;
    b.restart_after(|state| {
        // As if nothing of it had been confirmed yet.
        damage(
            state,
            "UPDATE events SET arrival = arrival + 1000 WHERE shown = 1",
        );
        damage(
            state,
            "UPDATE rooms SET alias = 'damaged' WHERE alias = '#rust@a.example'",
        );
        let first = "(SELECT min(arrival) FROM events JOIN rooms ON rooms.id = room
                      WHERE shown = 1 AND alias = '#go@a.example')";
        damage(
            state,
            &format!("UPDATE events SET bytes = x'00' WHERE arrival = {first}"),
        );
    })
    .await;
    b.join(OTHER).await;
    b.harness.wait_for_skip("damaged").await;
    a.say(&go, "alice", "four").await;
    b.harness.wait_for_text("four").await;
}

#[tokio::test]
async fn a_damaged_event_in_a_queue_is_left_out_and_the_rest_is_sent() {
    let (wire, mut a, b) = two().await;
    let rust = a.host(ROOM).await;
    b.join(ROOM).await;
    let go = a.host(OTHER).await;
    b.join(OTHER).await;
    a.say(&rust, "alice", "before").await;
    a.say(&go, "alice", "zero").await;
    b.harness.wait_for_text("zero").await;
    wire.cut("b.example");
    a.say(&rust, "alice", "one").await;
    a.say(&rust, "alice", "two").await;
    a.say(&go, "alice", "three").await;
    a.restart_after(|state| {
        let waiting = |n: usize| {
            format!(
                "(SELECT arrival FROM queues ORDER BY arrival DESC LIMIT 1 OFFSET {})",
                2 - n
            )
        };
        let (first, second) = (waiting(0), waiting(1));
        damage(
            state,
            &format!("UPDATE events SET bytes = x'00' WHERE arrival = {first}"),
        );
        damage(
            state,
            &format!("UPDATE events SET id = 'damaged' WHERE arrival = {second}"),
        );
        damage(
            state,
            "INSERT INTO queues (peer, arrival, since) VALUES ('Not a server', 1, 0)",
        );
    })
    .await;
    a.host(ROOM).await;
    a.host(OTHER).await;
    wire.mend("b.example");
    a.say(&go, "alice", "four").await;
    b.harness.wait_for_text("four").await;
    assert!(b.heard().contains(&"three".to_owned()));
    a.harness.wait_for_skip("damaged").await;
    // The second is whole but for its name: it may be had by its number.
    let heard = b.heard();
    assert!(!heard.contains(&"one".to_owned()), "{heard:?}");
}

#[tokio::test]
async fn a_pushed_event_that_touches_damage_keeps_no_other_from_being_taken() {
    let wire = Wire::default();
    let mut a = Gateway::start("a.example", &wire);
    a.host(ROOM).await;
    a.host(OTHER).await;
    let mut mallory = Stranger::new("m.example", 7, &wire);
    let say = |mallory: &Stranger, text| {
        let event = mallory.draft(text).sign(&mallory.author.key);
        event.expect("well formed").into_bytes()
    };
    mallory.join("a.example", "rust").await;
    let kept_back = say(&mallory, "kept back");
    mallory.join("a.example", "go").await;
    let good = say(&mallory, "good");
    a.restart_after(|state| {
        let sql = "UPDATE members SET id = 'damaged' WHERE server = 'm.example' AND
                   room = (SELECT id FROM rooms WHERE alias = '#rust@a.example')";
        damage(state, sql);
    })
    .await;
    a.host(ROOM).await;
    a.host(OTHER).await;
    let codes = mallory.push("a.example", &[&kept_back, &good]).await;
    assert_eq!(codes, ["need", "ok"]);
    a.harness.wait_for_text("good").await;
}

#[tokio::test]
async fn a_pushed_event_of_a_damaged_room_keeps_no_other_from_being_taken() {
    let wire = Wire::default();
    let mut a = Gateway::start("a.example", &wire);
    a.host(ROOM).await;
    a.host(OTHER).await;
    let mut mallory = Stranger::new("m.example", 7, &wire);
    let say = |mallory: &Stranger, text| {
        let event = mallory.draft(text).sign(&mallory.author.key);
        event.expect("well formed").into_bytes()
    };
    mallory.join("a.example", "rust").await;
    let kept_back = say(&mallory, "kept back");
    mallory.join("a.example", "go").await;
    let good = say(&mallory, "good");
    a.restart_after(|state| {
        let sql = "UPDATE rooms SET alias = 'damaged' WHERE alias = '#rust@a.example'";
        damage(state, sql);
    })
    .await;
    a.host(OTHER).await;
    let codes = mallory.push("a.example", &[&kept_back, &good]).await;
    assert_eq!(codes, ["need", "ok"]);
    a.harness.wait_for_text("good").await;
}

#[tokio::test]
async fn a_gateway_that_runs_on_an_older_graph_is_told_of_it() {
    let wire = Wire::default();
    let mut a = Gateway::start("a.example", &wire);
    let mut mallory = Stranger::new("m.example", 7, &wire);
    let on_a = a.host(ROOM).await;
    mallory.join("a.example", "rust").await;
    a.say(&on_a, "alice", "said and lost").await;
    let mut lost = Vec::new();
    a.restart_after(|state| {
        let graph = rusqlite::Connection::open(state.join("graph.sqlite")).expect("the graph");
        let last = "arrival = (SELECT max(arrival) FROM events)";
        lost = graph
            .query_row(
                &format!("SELECT bytes FROM events WHERE {last}"),
                [],
                |row| row.get(0),
            )
            .expect("an event");
        damage(state, &format!("DELETE FROM events WHERE {last}"));
    })
    .await;
    a.host(ROOM).await;
    assert_eq!(mallory.push("a.example", &[&lost]).await, ["own-name"]);
    a.harness.wait_for_skip("own_event_lost").await;
}
