//! Outgoing lines. A [`Command`] always fits in one line of 512 bytes and is always one line.

use bytes::BytesMut;

use super::{MAX_LINE, Middle, Trailing};

/// One line to send.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Command {
    verb: &'static str,
    middles: Vec<Middle>,
    trailing: Option<Trailing>,
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
        let command = Self {
            verb,
            middles: middles.into_iter().collect(),
            trailing,
        };
        match command.len() {
            0..=MAX_LINE => Ok(command),
            bytes => Err(LineTooLong { bytes }),
        }
    }

    /// Bytes on the wire, CR LF included.
    pub(crate) fn len(&self) -> usize {
        let middles: usize = self.middles.iter().map(|m| 1 + m.as_str().len()).sum();
        let trailing = self.trailing.as_ref().map_or(0, |t| 2 + t.as_str().len());
        self.verb.len() + middles + trailing + 2
    }

    pub(crate) fn write_to(&self, out: &mut BytesMut) {
        out.extend_from_slice(self.verb.as_bytes());
        for middle in &self.middles {
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
}
