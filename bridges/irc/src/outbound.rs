//! From an event to the lines that show it. The author stands on every line, and no text and no
//! name can look like another author's, end a line or be taken for a control code.

mod landed;
mod name;
mod split;

use std::{collections::BTreeMap, fmt};

use comity_bridge::{
    DeliveryError, Event, EventId, NativeId, Timestamp,
    event::{Content, Message, MessageKind},
};

use crate::{
    ident::ChannelName,
    session::{SendLine, Verb},
    wire::{Command, Trailing},
};

pub(crate) use landed::Landed;

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

/// What stands between the author and the text, beside nothing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Notes {
    /// When it was written and what time it is, if people would take it for new.
    pub(crate) late: Option<(Timestamp, Timestamp)>,
    /// It may have been shown already.
    pub(crate) again: bool,
}

/// What stands before a line that may have been shown already, if the operator wants it said.
const AGAIN: &str = "[again?] ";

/// Which line of ours a line is: what we look for in a channel's history.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct LineKey {
    pub(crate) event: EventId,
    pub(crate) part: u32,
    /// The piece of the part, if it had to be cut once more.
    pub(crate) piece: u32,
}

impl fmt::Display for LineKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.event, self.part)?;
        match self.piece {
            0 => Ok(()),
            piece => write!(f, ".{piece}"),
        }
    }
}

/// Splits an event into parts, each the whole text of one line.
pub(crate) fn parts(
    event: &Event,
    limits: Limits,
    notes: Notes,
) -> Result<Vec<String>, DeliveryError> {
    let Content::Message(message) = &event.content else {
        return Err(DeliveryError::Unsupported(
            event.content.type_name().to_owned(),
        ));
    };
    if limits.line_bytes < LEAST_LINE {
        let why = format!("a line has room for {} bytes only", limits.line_bytes);
        return Err(DeliveryError::TooLarge(why));
    }
    let mut author = author(event, message, limits);
    if let Some((written, now)) = notes.late {
        author += &format!("[{}] ", written.short(now));
    }
    let room = limits.line_bytes.saturating_sub(author.len());
    let mut pieces: Vec<String> = Vec::new();
    let mut left_out = 0;
    for line in split::source_lines(&message.text.plain) {
        for piece in split::pieces(&line, room) {
            match pieces.len() < limits.lines.max(1) {
                true => pieces.push([&author, piece].concat()),
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
    notes: Notes,
) -> Result<Vec<SendLine>, DeliveryError> {
    let verb = verb(event).as_str();
    let mut lines = Vec::with_capacity(parts.len());
    let missing = (0u32..).zip(parts);
    for (part, text) in missing.filter(|(part, _)| !done.contains_key(part)) {
        if text.len() <= limits.line_bytes && !notes.again {
            lines.push(line(event, verb, channel, text, part, (0, 1))?);
            continue;
        }
        let author = author_of(event, limits);
        let Some(body) = text.strip_prefix(author.as_str()) else {
            lines.push(line(event, verb, channel, text, part, (0, 1))?);
            continue;
        };
        let head = match notes.again {
            true => author + AGAIN,
            false => author,
        };
        let room = limits.line_bytes.saturating_sub(head.len());
        let pieces: Vec<&str> = split::pieces(body, room).collect();
        for (at, piece) in (0u32..).zip(&pieces) {
            let text = [&head, *piece].concat();
            lines.push(line(event, verb, channel, &text, part, (at, pieces.len()))?);
        }
    }
    Ok(lines)
}

/// Makes one line, piece `at` of `count` of its part.
fn line(
    event: &Event,
    verb: &'static str,
    channel: &ChannelName,
    text: &str,
    part: u32,
    (at, count): (u32, usize),
) -> Result<SendLine, DeliveryError> {
    let command = Command::new(verb, [channel.middle()], Some(Trailing::new(text)))
        .map_err(|error| DeliveryError::TooLarge(error.to_string()))?;
    Ok(SendLine {
        command,
        completes: (at as usize + 1 == count).then_some(part),
        key: LineKey {
            event: event.id,
            part,
            piece: at,
        },
    })
}

fn author_of(event: &Event, limits: Limits) -> String {
    match &event.content {
        Content::Message(message) => author(event, message, limits),
        _ => String::new(),
    }
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
