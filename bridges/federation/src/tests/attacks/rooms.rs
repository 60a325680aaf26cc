//! Rooms that are entered for others, or are not what they are said to be.

use comity_bridge::Access;
use http::Method;
use serde_json::{Value, json};

use super::{A, scene};
use crate::ident::Alias;
use crate::session::compose::{Author, Place};
use crate::tests::stranger::{Stranger, now_ms};
use crate::tests::{Gateway, options, server};
use crate::wire::api::{self, AliasAnswer, JOIN_PATH, JoinAnswer};
use crate::wire::event::Event;

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
