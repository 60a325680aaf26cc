//! The published JSON Schema, generated from the types.

use super::Event;

/// The JSON Schema of an event, version 1. `event.schema.json` beside this crate's manifest is this value, kept by a test.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Event).to_value()
}
