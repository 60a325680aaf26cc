//! Events for the tests of this module.

use std::sync::Arc;

use comity_bridge::Event;

/// One of this content.
pub(super) fn event(content: &str) -> Arc<Event> {
    let json = format!(
        r##"{{"id":"01JD9V7R0M8Q4Z3W2T6YB5K1NC","room":"#r@gw1.example",
            "origin":{{"network":"libera","channel":"#r","native_id":"1"}},
            "author":{{"id":"libera/a","address":"a@libera.gw1.example","name":"a","avatar":null,"bot":false}},
            "seq":1,"time":1,"received":1,"content":{content},"via":["gw1.example"],"ext":{{}}}}"##
    );
    Arc::new(serde_json::from_str(&json).expect("an event"))
}
