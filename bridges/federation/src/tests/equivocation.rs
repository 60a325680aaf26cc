//! Servers that say two things at once must not cut honest ones from each other, nor must an answer that was true for a moment.

use serde_json::json;

use super::stranger::Stranger;
use super::{Gateway, Wire};
use crate::ident::EventId;
use crate::wire::api::{self, PUSH_PATH, Push, PushAnswer};
use crate::wire::event::{Draft, Event};

const A: &str = "a.example";

async fn scene() -> (Wire, Gateway, Stranger) {
    let wire = Wire::default();
    let a = Gateway::start(A, &wire);
    a.host("#rust@a.example").await;
    let mut mallory = Stranger::new("m.example", 7, &wire);
    mallory.join(A, "rust").await;
    (wire, a, mallory)
}

fn signed(mallory: &Stranger, draft: Draft) -> Event {
    draft.sign(&mallory.author.key).expect("well formed")
}

/// The joining of one of the stranger's users, as its next event.
fn joining(mallory: &Stranger, room: EventId, name: &str) -> Event {
    let gateway = mallory.membership.clone().expect("joined");
    let user = mallory.user("alice");
    let draft = Draft {
        kind: "member",
        sender: user.clone(),
        auth: vec![room, gateway],
        body: json!({ "membership": "join", "name": name, "user": user.as_str() }),
        ..mallory.draft("")
    };
    signed(mallory, draft)
}

#[tokio::test]
async fn what_relies_on_the_hidden_one_of_two_memberships_is_kept_and_cuts_nobody_off() {
    let (_wire, a, mut mallory) = scene().await;
    let genesis = mallory.place.clone().expect("joined").room.genesis();
    let first = joining(&mallory, genesis.clone(), "one");
    let second = joining(&mallory, genesis, "two");
    assert_eq!(mallory.push(A, &[first.bytes()]).await, ["ok"]);
    assert_eq!(mallory.push(A, &[second.bytes()]).await, ["ok"]);
    // Elsewhere the second came first, so that others build on this.
    mallory.follow(&second);
    let gateway = mallory.membership.clone().expect("joined");
    let said = Draft {
        sender: mallory.user("alice"),
        auth: vec![gateway, second.id.clone()],
        ..mallory.draft("with the other face")
    };
    let said = signed(&mallory, said);
    assert_eq!(mallory.push(A, &[said.bytes()]).await, ["ok"]);
    mallory.follow(&first);
    let honest = mallory.draft("after all that");
    let honest = signed(
        &mallory,
        Draft {
            parents: vec![said.id.clone(), first.id.clone()],
            depth: said.depth + 1,
            ..honest
        },
    );
    assert_eq!(mallory.push(A, &[honest.bytes()]).await, ["ok"]);
    a.harness.wait_for_text("after all that").await;
    assert_eq!(a.heard(), ["after all that"]);
}

#[tokio::test]
async fn an_answer_that_was_true_for_a_moment_is_not_given_again() {
    let (_wire, a, mut mallory) = scene().await;
    let before = signed(&mallory, mallory.draft("before"));
    mallory.follow(&before);
    let after = signed(&mallory, mallory.draft("after"));
    let push = async |event: &Event| {
        let events = vec![api::raw(event.bytes().to_vec()).expect("JSON")];
        let push = Push {
            txn: "the-same".to_owned(),
            events,
        };
        let body = serde_json::to_vec(&push).expect("JSON");
        let request = mallory.request(A, http::Method::POST, PUSH_PATH, body);
        let answer = mallory.send(A, request).await;
        let answer: PushAnswer = serde_json::from_slice(answer.body()).expect("an answer");
        format!("{:?}", answer.results[0].status)
    };
    assert_eq!(push(&after).await, "Need");
    assert_eq!(mallory.push(A, &[before.bytes()]).await, ["ok"]);
    assert_eq!(push(&after).await, "Ok");
    a.harness.wait_for_text("after").await;
    assert_eq!(a.heard(), ["before", "after"]);
}
