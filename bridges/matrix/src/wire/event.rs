//! Room events as they arrive: the fields that every event has, the rest untouched.
//!
//! Homeservers pass on what other servers sent them, so nothing about an event can be taken for
//! granted. One that does not hold what an event must hold is an error of that event alone.

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, value::RawValue};

/// A homeserver refuses events above 65,536 bytes; what it adds (`unsigned`) may double that.
const MAX_EVENT_BYTES: usize = 256 * 1024;
/// The largest integer that canonical JSON allows.
const MAX_INTEGER: i64 = (1 << 53) - 1;

/// One event of a room.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RoomEvent {
    pub(crate) event_id: OwnedEventId,
    pub(crate) room_id: OwnedRoomId,
    pub(crate) sender: OwnedUserId,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) state_key: Option<String>,
    #[serde(default)]
    pub(crate) origin_server_ts: Option<u64>,
    pub(crate) content: serde_json::Map<String, Value>,
    /// What the homeserver itself says of the event.
    #[serde(default, rename = "unsigned", deserialize_with = "remarks")]
    pub(crate) remarks: Remarks,
}

/// What the homeserver adds to an event.
#[derive(Clone, Debug, Default)]
pub(crate) struct Remarks {
    /// Somebody has taken it back: its content is gone.
    pub(crate) redacted: bool,
    /// The homeserver has it and shows it to nobody else: somebody who may not speak any more has smuggled it in (server-server
    /// API, "Soft failure"). Synapse (1.163, `appservice/api.py`) sends it to application services all the same, and says so.
    pub(crate) soft_failed: bool,
    /// It is about a member who was in the room before it, too.
    pub(crate) was_in: bool,
    /// How long ago it was said, in milliseconds, by the clock of its sender's server.
    pub(crate) age: Option<i64>,
}

/// Reads `unsigned`, which may hold anything else, too.
fn remarks<'de, D: Deserializer<'de>>(from: D) -> Result<Remarks, D::Error> {
    let unsigned = Value::deserialize(from)?;
    Ok(Remarks {
        redacted: unsigned
            .get("redacted_because")
            .is_some_and(|because| !because.is_null()),
        soft_failed: unsigned["io.element.synapse.soft_failed"] == true,
        was_in: unsigned["prev_content"]["membership"] == "join",
        age: unsigned.get("age").and_then(Value::as_i64),
    })
}

/// Why an event cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EventError {
    #[error("event of {0} bytes")]
    TooLarge(usize),
    /// The parser's own words would repeat what was said, so only the place is kept.
    #[error("not an event, at byte {0}")]
    Malformed(usize),
    #[error("an id longer than 255 bytes")]
    LongId,
    #[error("a number that canonical json forbids")]
    Number,
}

impl RoomEvent {
    /// Reads one event.
    ///
    /// Nesting is limited by the JSON parser (128 levels); floats and integers beyond 2^53 are
    /// refused because no server of a current room version would have let them in.
    pub(crate) fn parse(raw: &RawValue) -> Result<Self, EventError> {
        let json = raw.get();
        if json.len() > MAX_EVENT_BYTES {
            return Err(EventError::TooLarge(json.len()));
        }
        let event: Self =
            serde_json::from_str(json).map_err(|error| EventError::Malformed(error.column()))?;
        let ids = [
            event.event_id.as_str(),
            event.room_id.as_str(),
            event.sender.as_str(),
        ];
        if ids.iter().any(|id| id.len() > 255) {
            return Err(EventError::LongId);
        }
        if event
            .origin_server_ts
            .is_some_and(|ts| ts > MAX_INTEGER.unsigned_abs())
            || !event.content.values().all(is_canonical)
        {
            return Err(EventError::Number);
        }
        Ok(event)
    }

    /// A string in the content, if it is one.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.content.get(key)?.as_str()
    }
}

fn is_canonical(value: &Value) -> bool {
    match value {
        Value::Number(number) => number
            .as_i64()
            .is_some_and(|n| (-MAX_INTEGER..=MAX_INTEGER).contains(&n)),
        Value::Array(items) => items.iter().all(is_canonical),
        Value::Object(fields) => fields.values().all(is_canonical),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

/// Takes a string and turns anything else into none, for fields that strangers fill.
pub(crate) fn lenient_string<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::String(text) => Some(text),
        _ => None,
    })
}

/// The body of `PUT /_matrix/app/v1/transactions/{txnId}`: its events, not yet looked at.
///
/// Ephemeral events, to-device messages and device lists are not asked for in the registration;
/// they are left alone when they come nevertheless.
#[derive(Debug, Deserialize)]
pub(crate) struct Transaction {
    pub(crate) events: Vec<Box<RawValue>>,
}

impl Transaction {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).expect("valid json")
    }

    fn event(more: &str) -> Box<RawValue> {
        raw(&format!(
            r#"{{"event_id":"$e","room_id":"!r:hs.test","type":"m.room.message",
                "origin_server_ts":1,"sender":"@a:hs.test",{more}}}"#
        ))
    }

    #[test]
    fn an_event_gives_its_fields() {
        let event = RoomEvent::parse(&event(r#""content":{"body":"hi"}"#)).unwrap();
        assert_eq!(event.sender, "@a:hs.test");
        assert_eq!(event.text("body"), Some("hi"));
    }

    #[test]
    fn the_homeservers_remarks_are_read_where_they_are_what_they_should_be() {
        let of = |unsigned: &str| {
            RoomEvent::parse(&event(&format!(r#""content":{{}},"unsigned":{unsigned}"#)))
                .unwrap()
                .remarks
        };
        let known =
            of(r#"{"age":1200,"redacted_because":{},"prev_content":{"membership":"join"}}"#);
        assert!(known.redacted && known.was_in && !known.soft_failed);
        assert!(of(r#"{"io.element.synapse.soft_failed":true}"#).soft_failed);
        assert_eq!(known.age, Some(1200));
        for odd in [
            r#"{"age":"old","prev_content":7}"#,
            r#"{"age":1e300,"prev_content":{"membership":"leave"}}"#,
            "[]",
            "null",
            "{}",
        ] {
            let unknown = of(odd);
            assert!(
                !unknown.redacted && !unknown.was_in && unknown.age.is_none(),
                "{odd}"
            );
        }
    }

    #[test]
    fn what_a_stranger_may_put_into_an_event_spoils_that_event_only() {
        let deep = format!("{}1{}", "[".repeat(300), "]".repeat(300));
        let long = "x".repeat(300);
        for bad in [
            r#"{}"#.to_owned(),
            r#"[]"#.to_owned(),
            r#"null"#.to_owned(),
            event(r#""content":{"n":1.5}"#).get().to_owned(),
            event(r#""content":{"n":9007199254740993}"#).get().to_owned(),
            event(r#""content":{"n":99999999999999999999999}"#).get().to_owned(),
            event(r#""content":[]"#).get().to_owned(),
            event(&format!(r#""content":{{"d":{deep}}}"#)).get().to_owned(),
            event(r#""content":{},"content":{}"#).get().to_owned(),
            r#"{"event_id":"$e","room_id":"!r:h","type":"t","content":{}}"#.to_owned(),
            format!(
                r#"{{"event_id":"$e","room_id":"!r:h","type":"t","sender":"@{long}:h","content":{{}}}}"#
            ),
            r#"{"event_id":"$e","room_id":"!r:h","type":"t","sender":{"x":1},"content":{}}"#.into(),
            r#"{"event_id":"$e","room_id":"!r:h","type":"t","sender":"@a:h","origin_server_ts":1.5,"content":{}}"#.into(),
        ] {
            assert!(RoomEvent::parse(&raw(&bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_deeply_nested_event_does_not_spoil_its_transaction() {
        let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
        let body = format!(r#"{{"events":[{deep},{{"fine":true}}],"org.matrix.msc3202.x":{{}}}}"#);
        let transaction = Transaction::parse(body.as_bytes()).expect("parses");
        assert_eq!(transaction.events.len(), 2);
        assert!(RoomEvent::parse(&transaction.events[0]).is_err());
    }

    #[test]
    fn a_body_that_is_no_transaction_is_refused() {
        for bad in ["", "{", "[]", "{}", r#"{"events":{}}"#, "\u{0}"] {
            assert!(Transaction::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
