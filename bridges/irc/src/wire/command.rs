//! Outgoing lines. A [`Command`] always fits in one line of 512 bytes and is always one line.

use std::fmt::Write;

use bytes::BytesMut;

use super::{MAX_LINE, Middle, Trailing};

/// The client-only tag that says which line of ours this is, for when we look it up in a channel's history.
pub(crate) const KEY_TAG: &str = "+comity/key";

/// One line to send.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Command {
    tags: OutTags,
    verb: &'static str,
    target: Option<Middle>,
    middles: Vec<Middle>,
    trailing: Option<Trailing>,
}

/// The tags of a line of ours. They have a budget of their own (4,094 bytes), which these never reach.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct OutTags {
    /// Repeated by the server in its answer (IRCv3 labeled-response).
    pub(crate) label: Option<Label>,
    /// Letters, digits and dots.
    pub(crate) key: Option<Box<str>>,
}

/// What an answer is to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Label {
    /// A line to a channel.
    Sent(u64),
    /// A question about a channel's history.
    Asked(u64),
}

impl Label {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let number = |rest: &str| rest.parse().ok();
        match text.strip_prefix('s') {
            Some(rest) => number(rest).map(Self::Sent),
            None => text.strip_prefix('h').and_then(number).map(Self::Asked),
        }
    }
}

/// The line would have more than 512 bytes. Nothing is ever cut here: whoever makes the line
/// knows where it may be cut.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the line has {bytes} bytes, 512 are allowed")]
pub(crate) struct LineTooLong {
    pub(crate) bytes: usize,
}

impl Command {
    pub(crate) fn new(
        verb: &'static str,
        middles: impl IntoIterator<Item = Middle>,
        trailing: Option<Trailing>,
    ) -> Result<Self, LineTooLong> {
        let mut middles = middles.into_iter();
        let command = Self {
            tags: OutTags::default(),
            verb,
            target: middles.next(),
            middles: middles.collect(),
            trailing,
        };
        match command.len() {
            0..=MAX_LINE => Ok(command),
            bytes => Err(LineTooLong { bytes }),
        }
    }

    /// The tags, to be set where the server takes them.
    pub(crate) fn tags_mut(&mut self) -> &mut OutTags {
        &mut self.tags
    }

    /// The text of the last parameter.
    pub(crate) fn text(&self) -> &str {
        self.trailing.as_ref().map_or("", Trailing::as_str)
    }

    /// Bytes on the wire, CR LF included, tags not.
    pub(crate) fn len(&self) -> usize {
        let middles: usize = self.middles().map(|m| 1 + m.as_str().len()).sum();
        let trailing = self.trailing.as_ref().map_or(0, |t| 2 + t.as_str().len());
        self.verb.len() + middles + trailing + 2
    }

    pub(crate) fn write_to(&self, out: &mut BytesMut) {
        self.tags.write_to(out);
        out.extend_from_slice(self.verb.as_bytes());
        for middle in self.middles() {
            out.extend_from_slice(b" ");
            out.extend_from_slice(middle.as_str().as_bytes());
        }
        if let Some(trailing) = &self.trailing {
            out.extend_from_slice(b" :");
            out.extend_from_slice(trailing.as_str().as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }

    pub(crate) fn verb(&self) -> &'static str {
        self.verb
    }

    fn middles(&self) -> impl Iterator<Item = &Middle> {
        self.target.iter().chain(&self.middles)
    }
}

impl OutTags {
    fn write_to(&self, out: &mut BytesMut) {
        let mut before = "@";
        let label = self.label.map(|label| match label {
            Label::Sent(number) => ('s', number),
            Label::Asked(number) => ('h', number),
        });
        if let Some((kind, number)) = label {
            // Writing into a buffer that grows cannot go wrong.
            write!(out, "{before}label={kind}{number}").ok();
            before = ";";
        }
        if let Some(key) = &self.key {
            write!(out, "{before}{KEY_TAG}={key}").ok();
            before = ";";
        }
        if before == ";" {
            out.extend_from_slice(b" ");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(command: &Command) -> Vec<u8> {
        let mut out = BytesMut::new();
        command.write_to(&mut out);
        out.to_vec()
    }

    #[test]
    fn b1_a_command_is_one_line_whatever_the_text() {
        let channel = Middle::parse("#c").expect("no space in it");
        let text = Trailing::new("a\r\nQUIT :bye\0");
        let command = Command::new("PRIVMSG", [channel], Some(text)).expect("short");
        assert_eq!(written(&command), b"PRIVMSG #c :a  QUIT :bye \r\n");
        assert_eq!(written(&command).len(), command.len());
    }

    #[test]
    fn i1_a_command_never_has_more_than_512_bytes() {
        let of = |n: usize| Command::new("PING", [], Some(Trailing::new(&"x".repeat(n))));
        assert_eq!(of(504).map(|c| written(&c).len()), Ok(512));
        assert_eq!(of(505), Err(LineTooLong { bytes: 513 }));
    }

    #[test]
    fn tags_stand_before_the_line_and_do_not_count() {
        let mut command = Command::new("PING", [], Some(Trailing::new("x"))).expect("short");
        let bytes = command.len();
        command.tags_mut().key = Some("01A.0".into());
        assert_eq!(written(&command), b"@+comity/key=01A.0 PING :x\r\n");
        command.tags_mut().label = Some(Label::Sent(7));
        assert_eq!(
            written(&command),
            b"@label=s7;+comity/key=01A.0 PING :x\r\n"
        );
        assert_eq!(command.len(), bytes);
        assert_eq!(Label::parse("s7"), Some(Label::Sent(7)));
        assert_eq!(Label::parse("h8"), Some(Label::Asked(8)));
        assert_eq!(Label::parse("x8"), None);
    }
}
