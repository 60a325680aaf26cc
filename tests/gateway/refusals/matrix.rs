//! What may come to the application service's address, from the homeserver or from anyone.

use comity_people::reqwest::{self, StatusCode};
use comity_people::{Person, World, world::tag};
use serde_json::{Value, json};

use super::{counted, refused};
use crate::{PATIENCE, world};

/// Puts a transaction to the bridge as a homeserver would; `None` shows no token.
async fn transaction(world: &World, token: Option<&str>, body: String) -> StatusCode {
    transaction_called(&tag(), world, token, body).await
}

/// The same with an id of the caller's.
async fn transaction_called(
    id: &str,
    world: &World,
    token: Option<&str>,
    body: String,
) -> StatusCode {
    let (address, _) = world.slot.appservice(&world.lab).unwrap();
    let url = format!("http://{address}/_matrix/app/v1/transactions/{id}");
    let mut request = reqwest::Client::new().put(url).body(body);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    request.send().await.unwrap().status()
}

fn message(world: &World, body: &str) -> Value {
    json!({
        "type": "m.room.message",
        "event_id": format!("${}", tag()),
        "room_id": world.synapse.room_id(),
        "sender": "@mallory:hs.test",
        "origin_server_ts": 1_700_000_000_000_u64,
        "content": { "msgtype": "m.text", "body": body },
    })
}

#[tokio::test]
async fn a_wrong_hs_token_is_refused_and_what_it_carried_is_shown_nowhere() {
    let world = world().await;
    let forged = format!("forged {}", tag());
    let body = json!({ "events": [message(&world, &forged)] }).to_string();
    let (_, right) = world.slot.appservice(&world.lab).unwrap();
    let mut almost = right.clone();
    almost.pop();
    almost.push('x');
    for token in [None, Some(""), Some("wrong"), Some(almost.as_str())] {
        let status = transaction(&world, token, body.clone()).await;
        assert!(
            matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN),
            "{token:?}: {status}"
        );
    }
    world.connected().await.unwrap();
    for person in world.people() {
        assert!(
            !person.heard().iter().any(|heard| heard.says(&forged)),
            "{}",
            person.network()
        );
    }
}

#[tokio::test]
async fn a_malformed_transaction_is_refused_and_the_link_goes_on() {
    let world = world().await;
    let (_, token) = world.slot.appservice(&world.lab).unwrap();
    for body in ["", "not json", "[]", "{\"events\": 5}", "{\"events\": ["] {
        let status = transaction(&world, Some(&token), body.to_owned()).await;
        assert!(status.is_client_error(), "{body}: {status}");
    }
    world.connected().await.unwrap();
}

#[tokio::test]
async fn a_transaction_nested_too_deeply_harms_nobody() {
    let world = world().await;
    let (_, token) = world.slot.appservice(&world.lab).unwrap();
    let before = refused(&world.first.metrics().await.unwrap(), "synapse");
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    // Refused, or skipped: a homeserver repeats for ever what is not answered with 200.
    let status = transaction(&world, Some(&token), format!("{{\"events\": [{deep}]}}")).await;
    assert!(
        status == StatusCode::OK || status.is_client_error(),
        "{status}"
    );
    counted(&world.first, "synapse", before, 1).await;
    world.connected().await.unwrap();
}

#[tokio::test]
async fn a_malformed_event_is_skipped_and_counted_and_its_neighbours_arrive() {
    let world = world().await;
    let (_, token) = world.slot.appservice(&world.lab).unwrap();
    let before = refused(&world.first.metrics().await.unwrap(), "synapse");
    let (one, other) = (format!("one {}", tag()), format!("other {}", tag()));
    let mut bad = Vec::new();
    for (field, value) in [
        ("sender", json!(5)),
        ("sender", json!("not a user id")),
        ("content", json!("words")),
        (
            "content",
            json!({ "msgtype": "m.text", "body": { "a": 1.5 } }),
        ),
        ("event_id", json!(null)),
        ("room_id", json!([])),
    ] {
        let mut event = message(&world, "bad");
        event[field] = value;
        bad.push(event);
    }
    let count = bad.len();
    let mut events = vec![message(&world, &one)];
    events.append(&mut bad);
    events.extend([json!(17), json!({}), message(&world, &other)]);
    let status = transaction(
        &world,
        Some(&token),
        json!({ "events": events }).to_string(),
    )
    .await;
    assert_eq!(status, StatusCode::OK);
    for text in [&one, &other] {
        let heard = world.ngircd.hears(text, PATIENCE).await.unwrap();
        assert!(heard.names("mallory", text), "{heard}");
    }
    counted(&world.first, "synapse", before, count).await;
    world.connected().await.unwrap();
}

#[tokio::test]
async fn a_transaction_sent_again_and_an_event_in_two_transactions_are_shown_once() {
    let world = world().await;
    let (_, token) = world.slot.appservice(&world.lab).unwrap();
    let texts = [0, 1, 2].map(|n| format!("again {n} {}", tag()));
    let [one, both, other] = texts.each_ref().map(|text| message(&world, text));
    let first = json!({ "events": [one, both] }).to_string();
    let second = json!({ "events": [both, other] }).to_string();
    let (a, b) = (tag(), tag());
    for (id, body) in [
        (&a, &first),
        (&a, &first),
        (&b, &second),
        (&a, &first),
        (&b, &second),
    ] {
        let status = transaction_called(id, &world, Some(&token), body.clone()).await;
        assert_eq!(status, StatusCode::OK, "transaction {id}");
    }
    world.ngircd.hears(&texts[2], PATIENCE).await.unwrap();
    world.connected().await.unwrap();
    for person in [
        &world.ngircd as &dyn Person,
        &world.prosody,
        &world.inspircd,
    ] {
        let heard = person.heard();
        let places = texts.each_ref().map(|text| {
            let at: Vec<usize> = (0..heard.len())
                .filter(|at| heard[*at].says(text))
                .collect();
            assert_eq!(at.len(), 1, "{} saw {text:?} that often", person.network());
            at[0]
        });
        assert!(places.is_sorted(), "{}", person.network());
    }
}
