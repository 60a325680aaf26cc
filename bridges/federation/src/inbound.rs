//! From the graph to the gateway: what others said, reported in the order in which it arrived.
//!
//! The graph has it already. The mark moves when the gateway has committed; what lies beyond the mark after a crash is
//! reported again, and the gateway knows it by its source id.

use std::sync::Arc;
use std::time::Duration;

use comity_bridge::event::Message;
use comity_bridge::{
    Answer, Batch, Content, Incoming, NativeAuthor, NativeRef, SourceId, Timestamp, UserAddress,
    Verdict, failpoint,
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::graph::{Shown, Unreported};
use crate::node::{Node, Progress};
use crate::session::ShelfError;
use crate::text;
use crate::wire::event::Event;

/// Events in one report.
const MAX_BATCH: usize = 50;
/// How long a gateway that takes nothing is left alone before it is asked again.
const BUSY_WAIT: Duration = Duration::from_millis(500);

/// Reports until the bridge ends.
pub async fn report(node: Arc<Node>, shutdown: CancellationToken) {
    loop {
        let wait = match round(&node).await {
            Ok(Round::More) => continue,
            Ok(Round::Nothing) => None,
            Ok(Round::Busy) => Some(BUSY_WAIT),
            Err(error) => {
                tracing::error!(%error, "graph not readable");
                Some(Duration::from_secs(5))
            }
        };
        let woken = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => node.arrived.notified().await,
            }
        };
        tokio::select! {
            () = woken => {}
            () = shutdown.cancelled() => return,
        }
    }
}

enum Round {
    More,
    Nothing,
    Busy,
}

async fn round(node: &Node) -> Result<Round, ShelfError> {
    let (unreported, end) = node
        .graph
        .run(move |store| {
            Ok::<_, ShelfError>((store.unreported(MAX_BATCH)?, store.last_arrival()?))
        })
        .await?;
    let Some(last) = unreported.last().map(|event| event.arrival) else {
        // Nothing to show up to the end of what is there: members, keys and our own events are confirmed by being kept.
        note(node, end, false);
        return Ok(Round::Nothing);
    };
    let incoming: Vec<Incoming> = unreported
        .iter()
        .filter_map(|event| to_incoming(node, event))
        .collect();
    if !incoming.is_empty() {
        let ids: Vec<SourceId> = incoming
            .iter()
            .map(|incoming| incoming.source_id.clone())
            .collect();
        failpoint::reached("federation.parsed");
        match node
            .reports
            .commit(Batch {
                incoming,
                ..Batch::default()
            })
            .await
        {
            Answer::Committed(verdicts) => {
                failpoint::reached("federation.committed");
                for (id, verdict) in ids.iter().zip(&verdicts) {
                    if let Verdict::Refused(refusal) = verdict {
                        tracing::debug!(event = %id, reason = refusal.as_str(), "event refused by the gateway");
                    }
                }
            }
            Answer::Busy => {
                let reported = node.progress.borrow().reported;
                note(node, reported, true);
                return Ok(Round::Busy);
            }
        }
    }
    node.graph
        .run(move |store| store.put_reported(last))
        .await?;
    note(node, last, false);
    Ok(Round::More)
}

fn note(node: &Node, reported: i64, busy: bool) {
    node.progress.send_if_modified(|progress| {
        let next = Progress {
            reported: reported.max(progress.reported),
            busy,
        };
        let modified = *progress != next;
        *progress = next;
        modified
    });
}

/// What the gateway is told; nothing for what it cannot take, which is counted.
fn to_incoming(node: &Node, unreported: &Unreported) -> Option<Incoming> {
    let found = unreported.event.as_ref().map_err(ToString::to_string);
    let found = found.and_then(|shown| Ok((shown, intact(shown)?)));
    let (shown, event) = match found {
        Ok(found) => found,
        Err(why) => {
            let arrival = unreported.arrival;
            tracing::error!(
                arrival,
                why,
                "an event is damaged in the graph and not shown"
            );
            let detail = format!("the event that arrived as number {arrival}: {why}");
            node.reports.skip("damaged", detail);
            return None;
        }
    };
    let skip = |reason, why: &str| {
        node.reports
            .skip(reason, format!("event {}: {why}", event.id))
    };
    // It came from here and has been round: other gateways show the same room (PROTOCOL 6.7).
    if event.prov.iter().any(|hop| hop.via == *node.server()) {
        skip("loop", "it has been through this gateway");
        return None;
    }
    let Some(body) = event.body.as_ref() else {
        skip("unsupported", "its body was erased");
        return None;
    };
    let Some(content) = read_content(body) else {
        skip(
            "unsupported",
            "its content is not a message that this version shows",
        );
        return None;
    };
    Some(Incoming {
        channel: node.channel(&shown.alias)?,
        source_id: SourceId(event.id.as_str().to_owned()),
        author: read_author(&event, body),
        claimed: i64::try_from(event.hlc.0).ok().map(Timestamp),
        own: None,
        content,
        via: path(&event),
    })
}

/// The event, if it is the one that was kept: its id covers all of it.
fn intact(shown: &Shown) -> Result<Event, String> {
    let event = Event::parse(&shown.bytes).map_err(|reject| format!("{}: {reject}", shown.id))?;
    if event.id == shown.id {
        Ok(event)
    } else {
        Err(format!("{} is another event now", shown.id))
    }
}

/// The gateways that the event has passed, oldest first: what its path names, and the one that signed it.
fn path(event: &Event) -> Vec<String> {
    let mut via: Vec<String> = event.prov.iter().map(|hop| hop.via.to_string()).collect();
    via.push(event.origin.to_string());
    via.dedup();
    via
}

fn read_author(event: &Event, body: &Value) -> NativeAuthor {
    let sender = event.sender.as_str();
    let profile = body.get("author");
    let name = profile
        .and_then(|profile| profile.get("name"))
        .and_then(Value::as_str)
        .map_or_else(String::new, text::name);
    let local = sender.split('@').next().unwrap_or(sender);
    NativeAuthor {
        id: sender.to_owned(),
        name: if name.is_empty() {
            local.to_owned()
        } else {
            name
        },
        bot: profile
            .and_then(|profile| profile.get("bot"))
            .and_then(Value::as_bool)
            .unwrap_or(false),
        address: sender.parse::<UserAddress>().ok(),
        ..NativeAuthor::default()
    }
}

/// Reads the content of a message, cleaned of what a text must not hold.
fn read_content(body: &Value) -> Option<Content<NativeRef>> {
    let content: Content<NativeRef> = serde_json::from_value(body.get("content")?.clone()).ok()?;
    let Content::Message(message) = content else {
        return None;
    };
    let attachments = message
        .attachments
        .into_iter()
        .map(|mut attachment| {
            // A place in the other gateway's store means nothing here.
            attachment.media = None;
            attachment.name = text::name(&attachment.name);
            attachment
        })
        .collect();
    Some(Content::Message(Message {
        text: text::clean(message.text),
        attachments,
        ..message
    }))
}

#[cfg(test)]
mod tests {
    use comity_bridge::Text;
    use serde_json::json;

    use super::*;

    fn read(content: Value) -> Option<Text> {
        match read_content(&json!({ "content": content })) {
            Some(Content::Message(message)) => Some(message.text),
            _ => None,
        }
    }

    #[test]
    fn b1_a_text_from_a_stranger_has_no_control_characters() {
        let text = read(
            json!({ "type": "message", "kind": "text", "text": { "plain": "a\r\nb\u{0}\u{2028}c", "spans": [{ "start": 0, "end": 1, "style": "bold" }] } }),
        );
        assert_eq!(text, Some(Text::plain("a\nb\nc")));
    }

    #[test]
    fn spans_outside_of_the_text_are_left_out() {
        let text = read(
            json!({ "type": "message", "kind": "text", "text": { "plain": "abc", "spans": [
            { "start": 0, "end": 2, "style": "bold" }, { "start": 2, "end": 9, "style": "bold" }, { "start": 2, "end": 1, "style": "bold" }
        ] } }),
        );
        assert_eq!(text.expect("a message").spans.len(), 1);
    }

    #[test]
    fn what_is_no_message_is_not_reported() {
        assert_eq!(
            read(json!({ "type": "topic", "text": { "plain": "x" } })),
            None
        );
        assert_eq!(read(json!({ "type": "message", "kind": "shout" })), None);
        assert_eq!(read_content(&json!({})), None);
    }
}
