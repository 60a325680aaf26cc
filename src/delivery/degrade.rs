//! Rewrites an event for a channel that cannot show it as it is. The one place that does.

use std::sync::Arc;

use comity_bridge::event::{Attachment, Message};
use comity_bridge::{Capabilities, Content, Event, EventId, Text};

/// What becomes of an event in one channel.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fit {
    /// It is handed over, as it is or rewritten.
    Show(Arc<Event>),
    /// It is not shown there; the word is for the counter.
    Pass(&'static str),
}

/// Fits an event to a channel.
pub(super) fn fit(event: &Arc<Event>, can: &Capabilities) -> Fit {
    if can.everything {
        return Fit::Show(Arc::clone(event));
    }
    match &event.content {
        Content::Message(message) if message.attachments.is_empty() || can.files => {
            Fit::Show(Arc::clone(event))
        }
        Content::Message(message) => {
            let mut rewritten = Event::clone(event);
            rewritten.content = Content::Message(without_files(message));
            Fit::Show(Arc::new(rewritten))
        }
        Content::Edit(_) if can.edits => Fit::Show(Arc::clone(event)),
        Content::Redact(_) if can.redactions => Fit::Show(Arc::clone(event)),
        Content::React(_) if can.reactions => Fit::Show(Arc::clone(event)),
        Content::Encrypted(_) if can.encrypted => Fit::Show(Arc::clone(event)),
        // A payload that only its readers can open is never bridged to a network that would show it in clear.
        Content::Encrypted(_) => Fit::Pass("encrypted"),
        other if other.is_ephemeral() => Fit::Pass("ephemeral"),
        Content::Unknown(_) => Fit::Pass("unknown_type"),
        _ => Fit::Pass("not_shown_here"),
    }
}

/// The message with a line of text for each of its files.
fn without_files(message: &Message<EventId>) -> Message<EventId> {
    let mut lines: Vec<String> = Vec::new();
    if !message.text.is_blank() {
        lines.push(message.text.plain.clone());
    }
    lines.extend(message.attachments.iter().map(file_line));
    let mut text = Text::plain(lines.join("\n"));
    // The text stands at the beginning, so its spans still cover what they did.
    text.spans.clone_from(&message.text.spans);
    Message {
        attachments: Vec::new(),
        text,
        ..message.clone()
    }
}

fn file_line(file: &Attachment) -> String {
    let name = if file.name.trim().is_empty() {
        "without a name"
    } else {
        file.name.trim()
    };
    match file.size {
        Some(size) => format!(
            "[file: {name}, {} kB, not carried over]",
            size.div_ceil(1000)
        ),
        None => format!("[file: {name}, not carried over]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::samples::event;

    #[test]
    fn a_file_becomes_a_line_of_text_where_files_do_not_travel() {
        let event = event(
            r#"{"type":"message","kind":"text","text":{"plain":"look"},"reply_to":null,"thread":null,
                "attachments":[{"name":"cat.png","mime":null,"size":12345,"media":null}]}"#,
        );
        let Fit::Show(shown) = fit(&event, &Capabilities::default()) else {
            panic!("passed over")
        };
        let Content::Message(message) = &shown.content else {
            panic!("not a message")
        };
        assert_eq!(
            message.text.plain,
            "look\n[file: cat.png, 13 kB, not carried over]"
        );
        let files = Capabilities {
            files: true,
            ..Capabilities::default()
        };
        assert_eq!(fit(&event, &files), Fit::Show(event));
    }

    #[test]
    fn what_only_its_readers_can_open_is_never_shown_in_clear() {
        let event = event(r#"{"type":"encrypted","algorithm":"mls10","payload":"xyz"}"#);
        assert_eq!(
            fit(&event, &Capabilities::default()),
            Fit::Pass("encrypted")
        );
    }

    #[test]
    fn another_gateway_gets_everything_as_it_is() {
        let event = event(r#"{"type":"poll","question":"?"}"#);
        assert_eq!(
            fit(&event, &Capabilities::default()),
            Fit::Pass("unknown_type")
        );
        let everything = Capabilities {
            everything: true,
            ..Capabilities::default()
        };
        assert_eq!(fit(&event, &everything), Fit::Show(event));
    }
}
