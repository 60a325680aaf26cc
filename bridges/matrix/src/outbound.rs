//! Event -> Matrix: what a message's content looks like, and how a long one is cut.
//!
//! Everything that goes out is text made here; nothing of an event is passed on as JSON.

use comity_bridge::event::MessageKind;
use comity_bridge::{Content, DeliveryKey, Event, EventId, Refs};
use serde_json::{json, value::RawValue};

use crate::config::Users;
use crate::ident::{KEY_FIELD, LATE_FIELD, mark};
use crate::inbound::clean_name;

/// How many bytes of JSON the text of one message may take. The whole event may have 65,536
/// (client-server API, "size limits"), and the servers add ids, hashes and signatures.
const MAX_TEXT_JSON: usize = 56_000;
/// A name before each line in relay mode is cut here, so that it cannot fill the message.
const MAX_RELAY_NAME_CHARS: usize = 64;

/// What is to be said, cut into parts already.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spoken {
    pub(crate) kind: &'static str,
    pub(crate) parts: Vec<String>,
    pub(crate) reply_to: Option<String>,
}

/// Why an event cannot be said here.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum Unspeakable {
    #[error("{0} is not carried to matrix yet")]
    Type(String),
    #[error("a message without text")]
    Blank,
}

/// Puts an event into words. Edits and the rest are refused until they are carried.
pub(crate) fn speak(event: &Event, refs: &Refs, users: Users) -> Result<Spoken, Unspeakable> {
    let Content::Message(message) = &event.content else {
        return Err(Unspeakable::Type(event.content.type_name().to_owned()));
    };
    if message.text.is_blank() {
        return Err(Unspeakable::Blank);
    }
    let text = clean(&message.text.plain);
    let (kind, text) = match (message.kind, users) {
        (MessageKind::Text, Users::Ghosts) => ("m.text", text),
        (MessageKind::Emote, Users::Ghosts) => ("m.emote", text),
        (MessageKind::Notice, Users::Ghosts) => ("m.notice", text),
        (kind, Users::Relay) => relayed(kind, &event.author.name, &text),
    };
    Ok(Spoken {
        kind,
        parts: split(&text, MAX_TEXT_JSON),
        reply_to: reply(message.reply_to.as_ref(), refs),
    })
}

fn reply(reply_to: Option<&EventId>, refs: &Refs) -> Option<String> {
    reply_to?;
    let target = &refs.target.last()?.0;
    <&ruma::EventId>::try_from(target.as_str())
        .is_ok()
        .then(|| target.clone())
}

/// Names the author on every line: a second line without a name could be written to look like
/// somebody else's words.
fn relayed(kind: MessageKind, name: &str, text: &str) -> (&'static str, String) {
    let name: String = clean_name(name)
        .chars()
        .filter(|c| !"<>".contains(*c))
        .take(MAX_RELAY_NAME_CHARS)
        .collect();
    let name = if name.trim().is_empty() {
        "?".to_owned()
    } else {
        name
    };
    let (kind, before) = match kind {
        MessageKind::Text => ("m.text", format!("<{name}> ")),
        MessageKind::Emote => ("m.text", format!("* {name} ")),
        MessageKind::Notice => ("m.notice", format!("<{name}> ")),
    };
    let lines: Vec<String> = text
        .split('\n')
        .map(|line| format!("{before}{line}"))
        .collect();
    (kind, lines.join("\n"))
}

/// Takes out control characters but line break and tab. U+0000 has wedged other bridges' readers.
fn clean(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .collect()
}

/// The content of one part's `m.room.message`.
///
/// `m.mentions` is empty, so that a text which happens to hold somebody's name rings nobody
/// (client-server API, "user and room mentions").
pub(crate) fn content(
    kind: &str,
    text: &str,
    reply_to: Option<&str>,
    key: &DeliveryKey,
    part: usize,
    is_late: bool,
) -> Box<RawValue> {
    let mut content = json!({
        "msgtype": kind,
        "body": text,
        "m.mentions": {},
        KEY_FIELD: mark(key, part),
    });
    if let (Some(reply_to), 0) = (reply_to, part) {
        content["m.relates_to"] = json!({"m.in_reply_to": {"event_id": reply_to}});
    }
    if is_late {
        content[LATE_FIELD] = true.into();
    }
    serde_json::value::to_raw_value(&content).expect("a json value is json")
}

/// Cuts a text so that each part's JSON fits: at a line break or a space where one is near the
/// end, else between characters.
fn split(text: &str, limit: usize) -> Vec<String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(end) = overflow(rest, limit) {
        let (head, _) = rest.split_at(end);
        let near = head.len() * 3 / 4;
        let cut = head
            .rfind('\n')
            .filter(|at| *at >= near)
            .or_else(|| head.rfind(' ').filter(|at| *at >= near))
            .map_or(end, |at| at + 1);
        let (part, tail) = rest.split_at(cut);
        parts.push(part.trim_end().to_owned());
        rest = tail;
    }
    parts.push(rest.to_owned());
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// Where a text exceeds `limit` bytes of JSON; none when it fits.
fn overflow(text: &str, limit: usize) -> Option<usize> {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += match c {
            '"' | '\\' | '\n' | '\t' => 2,
            c => c.len_utf8(),
        };
        if used > limit {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_never_longer_than_it_may_be_and_nothing_but_space_is_lost() {
        let text = "word \"quoted\" ünï 日本語\n".repeat(500);
        for limit in [20, 64, 1000] {
            let parts = split(&text, limit);
            for part in &parts {
                assert!(
                    serde_json::to_string(part).expect("json").len() <= limit + 2,
                    "{part:?}"
                );
            }
            let squeeze = |s: &str| s.split_whitespace().collect::<String>();
            assert_eq!(squeeze(&parts.concat()), squeeze(&text));
        }
        assert_eq!(split("short", 100), ["short"]);
        assert_eq!(split("aaaa bbbb", 5), ["aaaa", "bbbb"]);
    }

    #[test]
    fn a_text_rings_nobody_and_carries_our_mark() {
        let key: DeliveryKey = "01JD9V7R0M8Q4Z3W2T6YB5K1NC:home/#a:hs.test"
            .parse()
            .expect("a key");
        let content = content("m.text", "hi bob", Some("$1"), &key, 0, false);
        let content: serde_json::Value = serde_json::from_str(content.get()).expect("json");
        assert_eq!(
            content,
            json!({"msgtype": "m.text", "body": "hi bob", "m.mentions": {},
                "chat.comity.key": "01JD9V7R0M8Q4Z3W2T6YB5K1NC:home/#a:hs.test.0",
                "m.relates_to": {"m.in_reply_to": {"event_id": "$1"}}})
        );
    }

    #[test]
    fn a_relayed_text_names_its_author_on_every_line() {
        assert_eq!(
            relayed(MessageKind::Text, "al<>ice\n", "one\n<bob> two"),
            ("m.text", "<alice> one\n<alice> <bob> two".to_owned())
        );
        assert_eq!(
            relayed(MessageKind::Emote, "al", "waves"),
            ("m.text", "* al waves".to_owned())
        );
        assert_eq!(
            relayed(MessageKind::Notice, "", "x"),
            ("m.notice", "<?> x".to_owned())
        );
    }

    #[test]
    fn control_characters_are_not_sent() {
        assert_eq!(clean("a\u{0}b\u{7f}c\u{85}\n\td"), "abc\n\td");
    }
}
