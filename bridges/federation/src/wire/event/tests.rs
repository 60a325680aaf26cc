use serde_json::{Value, json};

use super::*;

/// Seed, key and bytes of the golden event. They must never change: ids are for ever.
const GOLDEN: &str = include_str!("../../../tests/data/event.json");
const GOLDEN_ID: &str = include_str!("../../../tests/data/event.id");

fn server(name: &str) -> ServerName {
    ServerName::parse(name).expect("a name")
}

fn key(kid: &str, seed: u8) -> OwnKey {
    OwnKey::from_seed(Kid::parse(kid).expect("a name"), &[seed; 32])
}

fn keys_of(name: &str, key: &OwnKey) -> KeyDocument {
    KeyDocument::compose(&server(name), key, &key.public().hash(), 0, 0)
}

fn draft() -> Draft {
    Draft {
        room: Some(EventId::from_hash([1; 32]).as_room()),
        kind: "message",
        origin: server("a.example"),
        sender: UserAddress::parse("alice@libera.a.example").expect("an address"),
        seq: 417,
        previous: Some(EventId::from_hash([2; 32])),
        parents: vec![EventId::from_hash([4; 32]), EventId::from_hash([3; 32])],
        auth: vec![EventId::from_hash([5; 32])],
        depth: 1234,
        hlc: (1_732_280_000_123, 0),
        body: json!({ "author": { "name": "alice" }, "content": { "type": "message", "kind": "text", "text": { "plain": "grüezi" } } }),
        prov: vec![Hop {
            network: "libera".into(),
            id: "k3j2".into(),
            via: server("a.example"),
        }],
    }
}

fn golden() -> Event {
    draft().sign(&key("k1", 1)).expect("well formed")
}

/// The golden event with one field changed and printed canonically again, signature untouched.
fn with(change: impl FnOnce(&mut Value)) -> Result<Event, Reject> {
    let mut value: Value = serde_json::from_slice(golden().bytes()).expect("JSON");
    change(&mut value);
    Event::parse(&json::to_bytes(&value).expect("canonical"))
}

#[test]
fn bytes_id_and_signature_of_the_golden_event_never_change() {
    let event = golden();
    assert_eq!(String::from_utf8_lossy(event.bytes()), GOLDEN.trim_end());
    assert_eq!(event.id.as_str(), GOLDEN_ID.trim_end());
    assert_eq!(event.verify(&keys_of("a.example", &key("k1", 1))), Ok(()));
}

#[test]
fn f1_one_changed_byte_never_verifies() {
    let keys = keys_of("a.example", &key("k1", 1));
    let bytes = golden().into_bytes();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let accepted = Event::parse(&changed).is_ok_and(|event| event.verify(&keys).is_ok());
        assert!(
            !accepted,
            "byte {at} of {}",
            String::from_utf8_lossy(&changed)
        );
    }
}

#[test]
fn f1_the_key_name_alone_proves_nothing() {
    let event = golden();
    assert_eq!(
        event.verify(&keys_of("b.example", &key("k1", 1))),
        Err(Reject::Key)
    );
    assert_eq!(
        event.verify(&keys_of("a.example", &key("k1", 2))),
        Err(Reject::Signature)
    );
    assert_eq!(
        event.verify(&keys_of("a.example", &key("k2", 1))),
        Err(Reject::Key)
    );
}

#[test]
fn f1_of_two_signatures_both_must_be_good() {
    let event =
        with(|value| value["sig"]["a.example"]["k2"] = value["sig"]["a.example"]["k1"].clone())
            .expect("well formed");
    assert!(event.verify(&keys_of("a.example", &key("k1", 1))).is_err());
    assert_eq!(
        with(|value| value["sig"]["b.example"] = value["sig"]["a.example"].clone()),
        Err(Reject::Signature)
    );
    assert_eq!(
        with(|value| value["sig"] = json!({})),
        Err(Reject::Signature)
    );
}

#[test]
fn f4_the_origin_is_the_senders_server() {
    assert_eq!(
        with(|value| value["origin"] = json!("b.example")),
        Err(Reject::Origin)
    );
    assert_eq!(
        with(|value| value["sender"] = json!("alice@x.libera.a.example")),
        Err(Reject::Origin)
    );
    assert_eq!(
        with(|value| value["sender"] = json!("alice@a.example.org")),
        Err(Reject::Origin)
    );
}

#[test]
fn f22_an_unknown_critical_field_rejects_and_an_unknown_field_is_kept() {
    assert_eq!(
        with(|value| value["crit"] = json!(["moon"])),
        Err(Reject::Crit)
    );
    let event = with(|value| value["moon"] = json!("full")).expect("kept");
    assert_ne!(event.id, golden().id);
    assert_eq!(with(|value| value["v"] = json!(2)), Err(Reject::Version));
}

#[test]
fn an_erased_body_leaves_id_and_signature_valid() {
    let event = with(|value| {
        value.as_object_mut().expect("an object").remove("body");
    })
    .expect("well formed");
    assert_eq!((event.id.clone(), event.body.clone()), (golden().id, None));
    assert_eq!(event.verify(&keys_of("a.example", &key("k1", 1))), Ok(()));
    assert_eq!(
        with(|value| value["body"]["content"] = json!({})),
        Err(Reject::BodyHash)
    );
}

#[test]
fn the_structure_of_an_event_is_fixed() {
    let id = |n: u8| json!(EventId::from_hash([n; 32]));
    assert_eq!(with(|v| v["parents"] = json!([])), Err(Reject::Depth));
    assert_eq!(
        with(|v| v["parents"] = json!([id(4), id(3)])),
        Err(Reject::Malformed)
    );
    assert_eq!(
        with(|v| v["parents"] = json!([id(3), id(3)])),
        Err(Reject::Malformed)
    );
    assert_eq!(
        with(|v| v["parents"] = json!((10..19).map(id).collect::<Vec<_>>())),
        Err(Reject::Malformed)
    );
    assert_eq!(
        with(|v| v["auth"] = json!((10..17).map(id).collect::<Vec<_>>())),
        Err(Reject::Malformed)
    );
    assert_eq!(with(|v| v["seq"] = json!(0)), Err(Reject::Chain));
    assert_eq!(with(|v| v["seq"] = json!(-1)), Err(Reject::Malformed));
    assert_eq!(
        with(|v| v["type"] = json!("genesis")),
        Err(Reject::Malformed)
    );
    assert_eq!(with(|v| v["body"] = json!("text")), Err(Reject::Malformed));
    assert_eq!(with(|v| v["hlc"] = json!([1])), Err(Reject::Malformed));
    assert_eq!(
        with(|v| v["prov"] = json!([{ "network": "x", "id": "y", "via": "127.0.0.1" }])),
        Err(Reject::Malformed)
    );
}

#[test]
fn f3_ten_megabytes_are_not_parsed() {
    assert_eq!(Event::parse(&vec![b'['; 10 << 20]), Err(Reject::TooLarge));
    let mut long = draft();
    long.body = json!({ "text": "x".repeat(MAX_EVENT) });
    assert_eq!(long.sign(&key("k1", 1)), Err(Reject::TooLarge));
}

#[test]
fn f5_an_event_is_bound_to_its_room() {
    let other = with(|value| value["room"] = json!(EventId::from_hash([9; 32]).as_room()))
        .expect("well formed");
    assert_eq!(
        other.verify(&keys_of("a.example", &key("k1", 1))),
        Err(Reject::Signature)
    );
}

#[test]
fn what_was_verified_ahead_has_the_verdict_that_it_would_have_without() {
    let right = keys_of("a.example", &key("k1", 1));
    let same_name_other_key = keys_of("a.example", &key("k1", 2));
    let other_name = keys_of("a.example", &key("k2", 1));
    let other_server = keys_of("b.example", &key("k1", 1));
    let documents = [right, same_name_other_key, other_name, other_server];
    let verdicts = [
        Ok(()),
        Err(Reject::Signature),
        Err(Reject::Key),
        Err(Reject::Key),
    ];
    for ahead in &documents {
        let mut event = golden();
        event.verify_ahead(ahead);
        for (document, verdict) in documents.iter().zip(verdicts) {
            assert_eq!(event.verify(document), verdict);
        }
    }
}
