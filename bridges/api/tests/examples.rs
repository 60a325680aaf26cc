//! What EVENTS.md shows is what the types take.

use comity_bridge::Event;
use comity_bridge::event::{CONTENT_TYPES, Content, EventId, Text};
use serde_json::{Deserializer, Value};

const PAGE: &str = include_str!("../EVENTS.md");

#[test]
fn every_example_of_the_page_parses() {
    for example in examples() {
        let read = if example.get("id").is_some() {
            serde_json::from_value::<Event>(example.clone()).map(drop)
        } else if example.get("plain").is_some() {
            serde_json::from_value::<Text>(example.clone()).map(drop)
        } else {
            serde_json::from_value::<Content<EventId>>(example.clone()).map(drop)
        };
        if let Err(error) = read {
            panic!("{error}: {example}");
        }
    }
}

#[test]
fn every_content_type_has_an_example() {
    let examples = examples();
    for known in CONTENT_TYPES {
        assert!(
            examples.iter().any(|example| example["type"] == known),
            "no example of {known:?}"
        );
    }
}

fn examples() -> Vec<Value> {
    PAGE.split("```json\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap_or_default())
        .flat_map(|block| Deserializer::from_str(block).into_iter::<Value>())
        .map(|example| example.expect("JSON"))
        .collect()
}
