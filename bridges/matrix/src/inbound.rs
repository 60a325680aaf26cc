//! Matrix -> event: what one room event says, in the gateway's words.
//!
//! Works on what strangers wrote. It decides from the event alone; where a display name is needed
//! the caller gives it. It never looks at the text to tell an echo from a message.

use comity_bridge::event::{Attachment, Message, MessageKind, is_hidden};
use comity_bridge::{
    Channel, Content, Incoming, NativeAuthor, NativeRef, SourceId, Text, Timestamp,
};
use ruma::{EventId, UserId};
use serde_json::Value;

use crate::ident::{KEY_FIELD, Names, parse_mark};
use crate::wire::event::RoomEvent;

/// The longest name that people see, in characters.
const MAX_NAME_CHARS: usize = 100;
/// The longest file name, in characters.
const MAX_FILE_NAME_CHARS: usize = 200;

/// What became of one event of a configured room.
#[derive(Debug, PartialEq)]
pub(crate) enum Read {
    /// To be reported.
    Report(Box<Incoming>),
    /// Counted, with a reason.
    Skip(&'static str, String),
    /// Not for us: state, or our own doing without our mark.
    Ignore,
}

/// Reads one event of `channel`. `name` is its sender's display name in the room, if known.
pub(crate) fn read(
    event: &RoomEvent,
    channel: &Channel,
    names: &Names,
    name: Option<&str>,
) -> Read {
    if event.state_key.is_some() {
        return match event.kind.as_str() {
            "m.room.topic" | "m.room.name" | "m.room.avatar" | "m.room.tombstone" => {
                not_carried(event)
            }
            _ => Read::Ignore,
        };
    }
    if event.kind != "m.room.message" {
        return if names.is_ours(&event.sender) {
            Read::Ignore
        } else {
            not_carried(event)
        };
    }
    // A message of a ghost or the bot is never a new event, whatever it holds: nobody else can
    // send as them, since the namespace is exclusively ours.
    let own = if names.is_ours(&event.sender) {
        match event.text(KEY_FIELD).and_then(parse_mark) {
            Some((key, _)) if key.channel == *channel => Some(key),
            _ => return Read::Ignore,
        }
    } else {
        None
    };
    let content = match message(event) {
        Ok(message) => Content::Message(message),
        Err(skip) => return skip,
    };
    Read::Report(Box::new(Incoming {
        channel: channel.clone(),
        source_id: SourceId(event.event_id.to_string()),
        author: NativeAuthor {
            account: Some(event.sender.to_string()),
            ..NativeAuthor::named(
                names.author_id(&event.sender),
                shown_name(name, &event.sender),
            )
        },
        claimed: event
            .origin_server_ts
            .and_then(|ts| i64::try_from(ts).ok())
            .map(Timestamp),
        own,
        content,
        via: Vec::new(),
    }))
}

fn not_carried(event: &RoomEvent) -> Read {
    Read::Skip(
        "unsupported",
        format!(
            "{} {} is not carried yet",
            printable(&event.kind),
            event.event_id
        ),
    )
}

fn message(event: &RoomEvent) -> Result<Message<NativeRef>, Read> {
    let malformed = |what: &str| Read::Skip("malformed", format!("{what} in {}", event.event_id));
    let relation = event.content.get("m.relates_to").and_then(Value::as_object);
    let relation_text = |key: &str| relation.and_then(|fields| fields.get(key)?.as_str());
    if relation_text("rel_type") == Some("m.replace") {
        return Err(Read::Skip(
            "unsupported",
            format!("the edit {} is not carried yet", event.event_id),
        ));
    }
    let body = event.text("body").ok_or_else(|| malformed("no body"))?;
    let msgtype = event
        .text("msgtype")
        .ok_or_else(|| malformed("no msgtype"))?;
    let reply_to = relation
        .and_then(|fields| {
            fields
                .get("m.in_reply_to")?
                .as_object()?
                .get("event_id")?
                .as_str()
        })
        .filter(|id| <&EventId>::try_from(*id).is_ok());
    let body = if reply_to.is_some() {
        without_reply_fallback(body)
    } else {
        body
    };

    let (kind, text, attachments) = match msgtype {
        "m.emote" => (MessageKind::Emote, body, Vec::new()),
        "m.notice" | "m.server_notice" => (MessageKind::Notice, body, Vec::new()),
        "m.image" | "m.file" | "m.audio" | "m.video" => {
            let (file, caption) = attachment(event, body);
            (MessageKind::Text, caption, vec![file])
        }
        "m.key.verification.request" => return Err(not_carried(event)),
        // The body of a type that is not known is made to be read instead of it (specification, 11.2.1).
        _ => (MessageKind::Text, body, Vec::new()),
    };
    let text = Text::plain(text);
    if text.is_blank() && attachments.is_empty() {
        return Err(malformed("nothing to show"));
    }
    let mut message = Message::of(kind, text);
    message.attachments = attachments;
    if relation_text("rel_type") == Some("m.thread") {
        message.thread = relation_text("event_id").map(NativeRef::from);
        // Clients without threads show the last message of the thread as what is answered.
        let falls_back = relation
            .and_then(|fields| fields.get("is_falling_back")?.as_bool())
            .unwrap_or(false);
        message.reply_to = reply_to.filter(|_| !falls_back).map(NativeRef::from);
    } else {
        message.reply_to = reply_to.map(NativeRef::from);
    }
    Ok(message)
}

/// The file of a message, and its caption: the body, where a file name is given beside it (Matrix 1.10).
fn attachment<'a>(event: &RoomEvent, body: &'a str) -> (Attachment, &'a str) {
    let info = event.content.get("info").and_then(Value::as_object);
    let (name, caption) = match event.text("filename") {
        Some(name) if name != body => (name, body),
        _ => (body, ""),
    };
    let file = Attachment {
        name: file_name(name),
        mime: info
            .and_then(|info| info.get("mimetype")?.as_str())
            .and_then(mime_type),
        size: info.and_then(|info| info.get("size")?.as_u64()),
        media: None,
        unknown: Default::default(),
    };
    (file, caption)
}

fn file_name(text: &str) -> String {
    let last = text.rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String = last
        .chars()
        .filter(|c| !is_hidden(*c))
        .take(MAX_FILE_NAME_CHARS)
        .collect();
    let name = name.trim();
    if name.is_empty() || name.chars().all(|c| c == '.') {
        "file".to_owned()
    } else {
        name.to_owned()
    }
}

fn mime_type(text: &str) -> Option<String> {
    let fits = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b))
    };
    let (main, sub) = text.split_once('/')?;
    (text.len() <= 127 && fits(main) && fits(sub)).then(|| text.to_ascii_lowercase())
}

/// Takes off the lines that older clients put before a reply, `> ` each, and the empty one after them.
fn without_reply_fallback(body: &str) -> &str {
    let mut rest = body;
    while rest.starts_with("> ") || rest.starts_with(">\n") {
        rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
    }
    let rest = if rest.len() < body.len() {
        rest.strip_prefix('\n').unwrap_or(rest)
    } else {
        rest
    };
    // Nothing but a quotation: then it is what was said.
    if rest.trim().is_empty() { body } else { rest }
}

/// The name that people see: the display name, or else the local part of the user id.
pub(crate) fn shown_name(name: Option<&str>, user: &UserId) -> String {
    name.map(clean_name)
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| clean_name(user.localpart()))
}

/// Takes out of a name what would not be seen, or would change how its neighbours are seen.
pub(crate) fn clean_name(name: &str) -> String {
    let visible: String = name
        .chars()
        .filter(|c| !is_hidden(*c))
        .take(MAX_NAME_CHARS)
        .collect();
    visible.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests {
    use ruma::owned_server_name;
    use serde_json::{json, value::RawValue};

    use super::*;
    use crate::ident::mark;

    fn names() -> Names {
        Names::new(owned_server_name!("hs.test"), "bot", "_x_").expect("fit")
    }

    fn channel() -> Channel {
        "home/#rust:hs.test".parse().expect("a channel")
    }

    fn event(sender: &str, kind: &str, content: Value) -> RoomEvent {
        let json = json!({
            "event_id": "$e", "room_id": "!r:hs.test", "type": kind, "sender": sender,
            "origin_server_ts": 1_732_280_000_123_u64, "content": content,
        });
        RoomEvent::parse(&RawValue::from_string(json.to_string()).expect("json")).expect("an event")
    }

    fn said(content: Value) -> Incoming {
        match read(
            &event("@alice:hs.test", "m.room.message", content),
            &channel(),
            &names(),
            Some("Alice"),
        ) {
            Read::Report(incoming) => *incoming,
            other => panic!("{other:?}"),
        }
    }

    fn message(content: Value) -> Message<NativeRef> {
        match said(content).content {
            Content::Message(message) => message,
            other => panic!("{other:?}"),
        }
    }

    fn skipped(kind: &str, content: Value) -> &'static str {
        match read(
            &event("@alice:hs.test", kind, content),
            &channel(),
            &names(),
            None,
        ) {
            Read::Skip(reason, _) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_text_names_its_author_and_its_source() {
        let incoming = said(json!({"msgtype": "m.text", "body": "hi"}));
        assert_eq!(incoming.source_id.0, "$e");
        assert_eq!(incoming.author.id, "alice");
        assert_eq!(incoming.author.name, "Alice");
        assert_eq!(incoming.claimed, Some(Timestamp(1_732_280_000_123)));
        assert_eq!(incoming.own, None);
        assert_eq!(
            message(json!({"msgtype": "m.text", "body": "hi"})),
            Message::of(MessageKind::Text, Text::plain("hi"))
        );
    }

    #[test]
    fn emotes_and_notices_keep_their_kind() {
        assert_eq!(
            message(json!({"msgtype": "m.emote", "body": "waves"})).kind,
            MessageKind::Emote
        );
        assert_eq!(
            message(json!({"msgtype": "m.notice", "body": "x"})).kind,
            MessageKind::Notice
        );
        assert_eq!(
            message(json!({"msgtype": "org.new", "body": "x"})).kind,
            MessageKind::Text
        );
    }

    #[test]
    fn a_file_becomes_an_attachment_and_its_caption_the_text() {
        let plain = message(
            json!({"msgtype": "m.image", "body": "../../cat.png", "url": "mxc://x/y",
            "info": {"mimetype": "image/PNG", "size": 12345}}),
        );
        assert_eq!(plain.text.plain, "");
        assert_eq!(plain.attachments[0].name, "cat.png");
        assert_eq!(plain.attachments[0].mime.as_deref(), Some("image/png"));
        assert_eq!(plain.attachments[0].size, Some(12345));
        let captioned = message(
            json!({"msgtype": "m.file", "body": "look", "filename": "a.pdf",
            "info": {"mimetype": "x\ny", "size": -1}}),
        );
        assert_eq!(captioned.text.plain, "look");
        assert_eq!(captioned.attachments[0].name, "a.pdf");
        assert_eq!(
            (
                &captioned.attachments[0].mime,
                captioned.attachments[0].size
            ),
            (&None, None)
        );
    }

    #[test]
    fn a_reply_loses_the_quotation_that_old_clients_add_and_nothing_else() {
        let relates = json!({"m.in_reply_to": {"event_id": "$0"}});
        let reply = |body: &str| {
            message(json!({"msgtype": "m.text", "body": body, "m.relates_to": relates}))
        };
        assert_eq!(reply("> <@a:b> one\n> two\n\nyes").text.plain, "yes");
        assert_eq!(reply("yes").text.plain, "yes");
        assert_eq!(reply("> only this").text.plain, "> only this");
        assert_eq!(reply("x").reply_to, Some(NativeRef::from("$0")));
        assert_eq!(
            message(json!({"msgtype": "m.text", "body": "> said\n\nhe"}))
                .text
                .plain,
            "> said\n\nhe"
        );
    }

    #[test]
    fn control_characters_do_not_get_through() {
        assert_eq!(
            message(json!({"msgtype": "m.text", "body": "a\u{0}b\u{1}c\r\nd"}))
                .text
                .plain,
            "abc\nd"
        );
        assert_eq!(clean_name(" a\u{0}\u{202e}b \n c "), "ab c");
        assert_eq!(shown_name(Some("\u{200b}"), ruma::user_id!("@al:x")), "al");
    }

    #[test]
    fn what_is_not_carried_yet_is_skipped_with_a_reason() {
        let edit = json!({"msgtype": "m.text", "body": "* x", "m.relates_to": {"rel_type": "m.replace", "event_id": "$0"}});
        assert_eq!(skipped("m.room.message", edit), "unsupported");
        for kind in [
            "m.reaction",
            "m.room.redaction",
            "m.room.encrypted",
            "m.sticker",
            "org.x",
        ] {
            assert_eq!(skipped(kind, json!({})), "unsupported", "{kind}");
        }
    }

    #[test]
    fn a_message_of_wrong_types_is_skipped_as_malformed() {
        for content in [
            json!({}),
            json!({"msgtype": "m.text", "body": {}}),
            json!({"msgtype": 1, "body": "x"}),
            json!({"msgtype": "m.text", "body": " \u{0} "}),
        ] {
            assert_eq!(
                skipped("m.room.message", content.clone()),
                "malformed",
                "{content}"
            );
        }
        // Odd relations are no reason to lose what was said.
        let odd = json!({"msgtype": "m.text", "body": "x", "m.relates_to": {"m.in_reply_to": {"event_id": 7}, "rel_type": []}});
        assert_eq!(message(odd).text.plain, "x");
    }

    #[test]
    fn our_own_ghosts_are_receipts_and_never_events() {
        let key = format!("01JD9V7R0M8Q4Z3W2T6YB5K1NC:{}", channel())
            .parse()
            .expect("a key");
        let from = |sender: &str, mark: String| {
            let content = json!({"msgtype": "m.text", "body": "x", KEY_FIELD: mark});
            read(
                &event(sender, "m.room.message", content),
                &channel(),
                &names(),
                None,
            )
        };
        let Read::Report(echo) = from("@_x_ghost:hs.test", mark(&key, 2)) else {
            panic!("no report")
        };
        assert_eq!(echo.own, Some(key.clone()));
        assert_eq!(from("@_x_ghost:hs.test", "junk".into()), Read::Ignore);
        assert_eq!(from("@bot:hs.test", String::new()), Read::Ignore);
        let elsewhere = mark(&key, 2).replace("#rust", "#other");
        assert_eq!(from("@_x_ghost:hs.test", elsewhere), Read::Ignore);
        // Anybody can write our mark into a message; only a ghost's is believed.
        let Read::Report(forged) = from("@eve:hs.test", mark(&key, 0)) else {
            panic!("no report")
        };
        assert_eq!(forged.own, None);
    }
}
