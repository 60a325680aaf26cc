//! What a stranger may try, and what comes of it. Names begin with the line of the list of attacks.

mod events;
mod requests;
mod rooms;

use serde_json::Value;

use super::stranger::Stranger;
use super::{Gateway, ROOM, Wire};
use crate::wire::json;

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
