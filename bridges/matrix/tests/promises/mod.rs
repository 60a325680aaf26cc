//! What the bridge promises beyond the rules for every bridge: against a homeserver that forgets, limits and repeats itself.

use comity_bridge::event::MessageKind;
use comity_bridge::test_util::Harness;
use comity_bridge::test_util::harness::Line;
use comity_bridge::{Access, BridgeError, Channel, JoinOptions, Outcome};
use serde_json::json;
use tokio::task::JoinHandle;

use super::configured;
use super::homeserver::{ALIAS, HS_TOKEN, Homeserver, ROOM};

/// A bridge in the room of a scripted homeserver.
struct Stage {
    homeserver: Homeserver,
    harness: Harness,
    channel: Channel,
    _run: JoinHandle<Result<(), BridgeError>>,
}

impl Stage {
    async fn new() -> Self {
        let homeserver = Homeserver::start().await;
        let (harness, link) = Harness::link("far");
        homeserver.push_to(harness.http_caller());
        let bridge = configured(&homeserver, harness.gateway(), harness.network(), "ghosts");
        let run = tokio::spawn(bridge.run(link));
        let channel = harness.channel(ALIAS);
        let options = JoinOptions {
            room: "#rust@gw1.example".parse().expect("a room"),
            hosted: false,
            access: Access::Off,
        };
        harness.join(&channel, options).await;
        harness.wait_for_joined(&channel).await;
        Self {
            homeserver,
            harness,
            channel,
            _run: run,
        }
    }

    fn shown(&self) -> Vec<String> {
        let shown = self.homeserver.record().shown();
        shown.into_iter().map(|shown| shown.text).collect()
    }

    /// Pushes a transaction with these events, as they are.
    async fn push(&self, txn: &str, events: &[String]) -> u16 {
        let path = format!("/_matrix/app/v1/transactions/{txn}");
        let body = format!(r#"{{"events":[{}]}}"#, events.join(","));
        self.homeserver.push_raw(&path, Some(HS_TOKEN), &body).await
    }

    fn heard(&self) -> Vec<String> {
        self.harness.seen(|seen| {
            let texts = seen.events.iter().filter_map(|taken| taken.text());
            texts.map(str::to_owned).collect()
        })
    }
}

fn said(id: &str, text: &str) -> String {
    json!({
        "event_id": id, "room_id": ROOM, "type": "m.room.message", "sender": "@ann:hs.test", "origin_server_ts": 1,
        "content": {"msgtype": "m.text", "body": text},
    })
    .to_string()
}

#[tokio::test]
async fn a_homeserver_that_restarts_and_forgets_its_transaction_ids_shows_a_message_in_doubt_once()
{
    let stage = Stage::new().await;
    // Others talk meanwhile: the message is not on the newest page.
    for n in 0..5 {
        stage.homeserver.say("ann", &n.to_string());
    }
    let (first, ()) = tokio::join!(
        async {
            let delivery = stage
                .harness
                .deliver(&stage.channel, "alice", "once", MessageKind::Text)
                .await;
            (delivery.outcome().await, delivery)
        },
        stage.homeserver.restart_at_next_message(),
    );
    let (outcome, delivery) = first;
    assert!(matches!(outcome, Outcome::Ambiguous { .. }), "{outcome:?}");
    for n in 0..10 {
        stage.homeserver.say("ann", &n.to_string());
    }
    let again = stage.harness.deliver_again(&delivery, true, None).await;
    assert_eq!(again.outcome().await, Outcome::Shown);
    assert_eq!(again.parts().len(), 1);
    assert_eq!(stage.shown(), ["once"]);
}

#[tokio::test]
async fn what_was_taken_back_while_it_was_in_doubt_does_not_come_back() {
    let stage = Stage::new().await;
    let (delivery, ()) = tokio::join!(
        async {
            let delivery = stage
                .harness
                .deliver(&stage.channel, "alice", "spam", MessageKind::Text)
                .await;
            delivery.outcome().await;
            delivery
        },
        stage.homeserver.restart_at_next_message(),
    );
    stage.homeserver.redact_last();
    let again = stage.harness.deliver_again(&delivery, true, None).await;
    assert_eq!(again.outcome().await, Outcome::Shown);
    assert_eq!(stage.shown(), ["spam"]);
}

#[tokio::test]
async fn a_homeserver_that_limits_the_rate_gets_everything_in_order() {
    let stage = Stage::new().await;
    stage.homeserver.limit(7);
    let lines = (0..20)
        .map(|n| Line::new(format!("user{}", n % 3), n.to_string()))
        .collect();
    stage
        .harness
        .show(&stage.channel, lines)
        .await
        .expect("shown");
    let wanted: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    assert_eq!(stage.shown(), wanted);
}

#[tokio::test]
async fn transactions_that_come_again_mixed_up_or_with_bad_events_lose_and_double_nothing() {
    let stage = Stage::new().await;
    let bad = r#"{"event_id":"$bad","type":7}"#.to_owned();
    let first = [said("$1", "one"), bad.clone(), said("$2", "two")];
    assert_eq!(stage.push("x1", &first).await, 200);
    assert_eq!(stage.push("x1", &first).await, 200);
    // The same id with other events, and the same events under another id.
    assert_eq!(stage.push("x1", &[said("$3", "three")]).await, 200);
    assert_eq!(
        stage
            .push("y9", &[said("$3", "three"), bad, said("$4", "four")])
            .await,
        200
    );
    assert_eq!(stage.push("x0", &[said("$5", "five")]).await, 200);
    assert_eq!(stage.heard(), ["one", "two", "three", "four", "five"]);
    stage.harness.wait_for_skip("malformed").await;
}

#[tokio::test]
async fn what_the_homeserver_leaves_behind_at_our_start_is_heard_in_its_place() {
    let stage = Stage::new().await;
    stage.homeserver.say("ann", "0");
    stage.homeserver.all_taken().await;
    // More than the newest page holds, then something that a transaction brings.
    for n in 1..8 {
        stage.homeserver.leave_behind("ann", &n.to_string());
    }
    stage.homeserver.say("ann", "8");
    stage.homeserver.all_taken().await;
    // In a room in which nothing follows.
    stage.homeserver.leave_behind("ann", "9");
    stage.harness.wait_for_text("9").await;
    let wanted: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    assert_eq!(stage.heard(), wanted);
}
