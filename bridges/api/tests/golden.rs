//! The JSON of events stays as it is: `golden/` has one event for each content type and for each way in which an event
//! can be newer than this version, and `event.schema.json` describes them all.
//!
//! `COMITY_BLESS=1 cargo test -p comity-bridge --test golden` writes the schema, and the golden files as this
//! version prints them. Look at the difference before it is committed: bots and other gateways see it too.

use std::fs;
use std::path::{Path, PathBuf};

use boon::{Compiler, Draft, SchemaIndex, Schemas};
use comity_bridge::Event;
use comity_bridge::event::{CONTENT_TYPES, Content, Style, schema};
use serde_json::{Value, json};

#[test]
fn every_content_type_has_a_golden_event() {
    let found: Vec<String> = golden().into_iter().map(|event| event.type_name).collect();
    for known in CONTENT_TYPES {
        assert!(
            found.iter().any(|name| name == known),
            "no golden event of type {known:?}"
        );
    }
}

#[test]
fn a_golden_event_is_printed_as_it_was_read() {
    for golden in golden() {
        let event = golden.event();
        let printed = serde_json::to_value(&event).expect("an event is JSON");
        assert_eq!(printed, golden.value, "{}", golden.name);
        let text = print(&event);
        if blessing() {
            fs::write(&golden.path, &text).expect("write the golden file");
        } else {
            assert_eq!(text, golden.text, "{}: order or layout", golden.name);
        }
    }
}

#[test]
fn a_golden_event_is_what_its_tag_says() {
    for golden in golden() {
        let event = golden.event();
        assert_eq!(
            event.content.type_name(),
            golden.type_name,
            "{}",
            golden.name
        );
        let known = CONTENT_TYPES.contains(&golden.type_name.as_str());
        assert_eq!(
            matches!(event.content, Content::Unknown(_)),
            !known,
            "{}",
            golden.name
        );
    }
}

#[test]
fn unknown_fields_are_kept_at_every_level() {
    let event = named("unknown_fields").event();
    let Content::Message(message) = &event.content else {
        panic!("a message")
    };
    assert_eq!(event.unknown["signature"], "not of this version");
    assert_eq!(event.origin.unknown["shard"], 3);
    assert_eq!(event.author.unknown["pronouns"], json!(["she", "her"]));
    assert_eq!(message.unknown["urgency"], json!({"level": 1}));
    assert_eq!(message.text.unknown["language"], "en");
    assert_eq!(message.text.spans[0].unknown["weight"], 700);
    assert_eq!(message.attachments[0].unknown["width"], 640);
    assert_eq!(event.ext["bot.example/score"], 7);
}

#[test]
fn an_unknown_style_does_not_cost_the_message() {
    let Content::Message(message) = named("unknown_style").event().content else {
        panic!("a message")
    };
    let unknown = |style: &Style| matches!(style, Style::Unknown(_));
    assert!(message.text.spans.iter().all(|span| unknown(&span.style)));
    let Content::Message(message) = named("message_styles").event().content else {
        panic!("a message")
    };
    assert!(!message.text.spans.iter().any(|span| unknown(&span.style)));
}

#[test]
fn a_malformed_known_type_is_refused_by_the_types_and_by_the_schema() {
    let schema = Validator::new();
    for golden in golden() {
        if golden.type_name == "poll" || golden.name.starts_with("unknown") {
            continue;
        }
        for field in golden.fields() {
            let mut broken = golden.value.clone();
            // No field of any type is a list of truth values.
            broken["content"][&field] = json!([true]);
            let refused = serde_json::from_value::<Event>(broken.clone()).is_err();
            assert!(refused, "{}: {field} of a wrong type", golden.name);
            assert!(
                !schema.allows(&broken),
                "{}: {field} in the schema",
                golden.name
            );

            let mut missing = golden.value.clone();
            remove(&mut missing["content"], &field);
            let refused = serde_json::from_value::<Event>(missing.clone()).is_err();
            assert_eq!(
                refused,
                !schema.allows(&missing),
                "{}: without {field} types and schema disagree",
                golden.name
            );
        }
    }
}

#[test]
fn an_envelope_without_one_of_its_fields_is_refused() {
    let schema = Validator::new();
    let golden = named("message");
    for field in [
        "id", "room", "origin", "author", "seq", "time", "received", "content", "via",
    ] {
        let mut broken = golden.value.clone();
        remove(&mut broken, field);
        assert!(
            serde_json::from_value::<Event>(broken.clone()).is_err(),
            "without {field}"
        );
        assert!(!schema.allows(&broken), "without {field} in the schema");
    }
    for (field, wrong) in [
        ("id", json!("01JD9V7R0M8Q4Z3W2T6YB5K1NU")),
        ("room", json!("rust@gw1.example")),
        ("seq", json!(-1)),
        ("time", json!("2024-11-22")),
    ] {
        let mut broken = golden.value.clone();
        broken[field] = wrong;
        assert!(
            serde_json::from_value::<Event>(broken.clone()).is_err(),
            "{field}"
        );
        assert!(!schema.allows(&broken), "{field} in the schema");
    }
}

#[test]
fn the_published_schema_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("event.schema.json");
    let printed = print(&schema());
    if blessing() {
        fs::write(&path, &printed).expect("write the schema");
    }
    let published = fs::read_to_string(&path).expect("event.schema.json");
    assert!(
        published == printed,
        "event.schema.json is not what the types say; see the head of this file"
    );
}

#[test]
fn every_golden_event_is_valid_under_the_schema() {
    let schema = Validator::new();
    for golden in golden() {
        schema.check(&golden.value, &golden.name);
    }
}

struct Golden {
    name: String,
    path: PathBuf,
    text: String,
    value: Value,
    type_name: String,
}

impl Golden {
    fn read(path: PathBuf) -> Golden {
        let text = fs::read_to_string(&path).expect("a golden file");
        let value: Value = serde_json::from_str(&text).expect("JSON");
        Golden {
            name: path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .expect("a plain name")
                .to_owned(),
            type_name: value["content"]["type"]
                .as_str()
                .expect("content has a type")
                .to_owned(),
            path,
            text,
            value,
        }
    }

    fn event(&self) -> Event {
        match serde_json::from_str(&self.text) {
            Ok(event) => event,
            Err(error) => panic!("{}: {error}", self.name),
        }
    }

    /// The fields of the content, without the tag.
    fn fields(&self) -> Vec<String> {
        let content = self.value["content"].as_object().expect("an object");
        content
            .keys()
            .filter(|key| *key != "type")
            .cloned()
            .collect()
    }
}

fn golden() -> Vec<Golden> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the golden files")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths.into_iter().map(Golden::read).collect()
}

fn named(name: &str) -> Golden {
    golden()
        .into_iter()
        .find(|golden| golden.name == name)
        .expect("a golden file of this name")
}

fn print(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).expect("JSON") + "\n"
}

fn blessing() -> bool {
    std::env::var_os("COMITY_BLESS").is_some()
}

fn remove(object: &mut Value, field: &str) {
    object.as_object_mut().expect("an object").remove(field);
}

/// The schema as another implementation reads it.
struct Validator {
    schemas: Schemas,
    event: SchemaIndex,
}

impl Validator {
    fn new() -> Self {
        let mut schemas = Schemas::new();
        let mut compiler = Compiler::new();
        compiler.set_default_draft(Draft::V2020_12);
        compiler
            .add_resource("event.schema.json", schema())
            .expect("a schema");
        let event = compiler
            .compile("event.schema.json", &mut schemas)
            .expect("a schema that compiles");
        Validator { schemas, event }
    }

    fn allows(&self, value: &Value) -> bool {
        self.schemas.validate(value, self.event).is_ok()
    }

    fn check(&self, value: &Value, name: &str) {
        if let Err(error) = self.schemas.validate(value, self.event) {
            panic!("{name}: {error:#}");
        }
    }
}
