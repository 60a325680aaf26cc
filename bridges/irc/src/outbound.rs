//! From an event to the lines that show it. The author stands on every line, and no text and no
//! name can look like another author's, end a line or be taken for a control code.

mod name;
mod split;

use std::collections::BTreeMap;

use comity_bridge::{
    DeliveryError, Event, NativeId,
    event::{Content, Message, MessageKind},
};

use crate::{
    ident::ChannelName,
    session::{SendLine, Verb},
    wire::{Command, Trailing},
};

/// What limits the lines to one channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes for the author and the text of one line.
    pub(crate) line_bytes: usize,
    /// Lines for one message.
    pub(crate) lines: usize,
}

/// With less than this a line could not hold a name and a word.
const LEAST_LINE: usize = 48;

/// Returns the command that shows this kind of message.
pub(crate) fn verb(event: &Event) -> Verb {
    match &event.content {
        Content::Message(Message {
            kind: MessageKind::Notice,
            ..
        }) => Verb::Notice,
        _ => Verb::Privmsg,
    }
}

/// Splits an event into parts, each the whole text of one line.
pub(crate) fn parts(event: &Event, limits: Limits) -> Result<Vec<String>, DeliveryError> {
    let Content::Message(message) = &event.content else {
        return Err(DeliveryError::Unsupported(
            event.content.type_name().to_owned(),
        ));
    };
    if limits.line_bytes < LEAST_LINE {
        let why = format!("a line has room for {} bytes only", limits.line_bytes);
        return Err(DeliveryError::TooLarge(why));
    }
    let author = author(event, message, limits);
    let room = limits.line_bytes - author.len();
    let mut pieces: Vec<String> = Vec::new();
    let mut left_out = 0;
    for line in split::source_lines(&message.text.plain) {
        for piece in split::pieces(&line, room) {
            match pieces.len() < limits.lines.max(1) {
                true => pieces.push(format!("{author}{piece}")),
                false => left_out += 1,
            }
        }
    }
    if left_out > 0 {
        // The last place belongs to the line that says so.
        pieces.pop();
        pieces.push(format!("{author}[{} more lines not shown]", left_out + 1));
    }
    if pieces.is_empty() {
        return Err(DeliveryError::Unsupported(
            "a message without text".to_owned(),
        ));
    }
    Ok(pieces)
}

/// Makes the lines for those parts that have not landed yet.
///
/// A plan of an earlier connection may have been made for a shorter mask of ours; a part that no
/// longer fits is cut again, with the author on each piece.
pub(crate) fn lines(
    event: &Event,
    parts: &[String],
    done: &BTreeMap<u32, Vec<NativeId>>,
    channel: &ChannelName,
    limits: Limits,
) -> Result<Vec<SendLine>, DeliveryError> {
    let author = match &event.content {
        Content::Message(message) => author(event, message, limits),
        _ => String::new(),
    };
    let verb = verb(event).as_str();
    let mut lines = Vec::new();
    for (part, text) in (0u32..)
        .zip(parts)
        .filter(|(part, _)| !done.contains_key(part))
    {
        let body = text.strip_prefix(author.as_str());
        let pieces = match body {
            Some(body) if text.len() > limits.line_bytes => {
                let room = limits.line_bytes.saturating_sub(author.len());
                split::pieces(body, room)
                    .map(|piece| format!("{author}{piece}"))
                    .collect()
            }
            _ => vec![text.clone()],
        };
        let count = pieces.len();
        for (at, piece) in pieces.into_iter().enumerate() {
            let command = Command::new(verb, [channel.middle()], Some(Trailing::new(&piece)))
                .map_err(|error| DeliveryError::TooLarge(error.to_string()))?;
            lines.push(SendLine {
                command,
                completes: (at + 1 == count).then_some(part),
            });
        }
    }
    Ok(lines)
}

/// Returns what stands before the text on every line.
fn author<R>(event: &Event, message: &Message<R>, limits: Limits) -> String {
    // The longer the name, the less is left for the text.
    let longest = limits.line_bytes / 3;
    let name = name::shown(&event.author.name, longest)
        .or_else(|| name::shown(event.author.address.user(), longest))
        .unwrap_or_else(|| "?".to_owned());
    match message.kind {
        // A name of several words would run into the text, and could say something by itself.
        MessageKind::Emote if name.contains(' ') => format!("* <{name}> "),
        MessageKind::Emote => format!("* {name} "),
        MessageKind::Text | MessageKind::Notice => format!("<{name}> "),
    }
}

#[cfg(test)]
mod tests;
