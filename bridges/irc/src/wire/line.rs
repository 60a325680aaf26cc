//! One incoming line, taken apart. Nothing is copied that is valid text as it came.

use std::borrow::Cow;

use super::{decode::decode, tags::Tags};

/// An incoming line: `[@tags] [:source] command params`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Line<'a> {
    pub(crate) tags: Tags,
    pub(crate) source: Option<Source<'a>>,
    /// The verb in upper case, or a numeric.
    pub(crate) command: Cow<'a, str>,
    pub(crate) params: Vec<Cow<'a, str>>,
}

/// Who a line comes from: `nick!user@host`, or a server's name in `nick` alone.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Source<'a> {
    pub(crate) nick: Cow<'a, str>,
    pub(crate) user: Option<Cow<'a, str>>,
    pub(crate) host: Option<Cow<'a, str>>,
}

/// These bytes are no IRC line.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum ParseError {
    #[error("no command at byte {offset}")]
    NoCommand { offset: usize },
    #[error("the command at byte {offset} is neither letters nor a numeric")]
    BadCommand { offset: usize },
}

impl<'a> Line<'a> {
    /// Parses one line without its CR LF.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let mut rest = Rest { bytes, offset: 0 };
        rest.skip_spaces();
        let tags = match rest.strip(b'@') {
            true => Tags::parse(rest.word()),
            false => Tags::default(),
        };
        let source = rest.strip(b':').then(|| Source::parse(decode(rest.word())));
        let offset = rest.offset;
        let command = rest.word();
        if command.is_empty() {
            return Err(ParseError::NoCommand { offset });
        }
        if !command.iter().all(u8::is_ascii_alphanumeric) {
            return Err(ParseError::BadCommand { offset });
        }
        let mut command = decode(command);
        if command.bytes().any(|byte| byte.is_ascii_lowercase()) {
            command.to_mut().make_ascii_uppercase();
        }
        let mut params = Vec::new();
        while !rest.is_empty() {
            if rest.strip(b':') {
                params.push(decode(rest.bytes));
                break;
            }
            params.push(decode(rest.word()));
        }
        Ok(Self {
            tags,
            source,
            command,
            params,
        })
    }

    /// Returns the parameter at `index`, or an empty string: a server that leaves one out is
    /// treated as if it had sent nothing in it.
    pub(crate) fn param(&self, index: usize) -> &str {
        self.params.get(index).map_or("", |param| param.as_ref())
    }

    pub(crate) fn last_param(&self) -> &str {
        self.params.last().map_or("", |param| param.as_ref())
    }

    /// Returns the numeric of a reply.
    pub(crate) fn numeric(&self) -> Option<u16> {
        (self.command.len() == 3)
            .then(|| self.command.parse().ok())
            .flatten()
    }

    /// Returns the nick, or the server's name, that the line comes from.
    pub(crate) fn nick(&self) -> &str {
        self.source
            .as_ref()
            .map_or("", |source| source.nick.as_ref())
    }
}

impl<'a> Source<'a> {
    pub(crate) fn parse(text: Cow<'a, str>) -> Self {
        let Cow::Borrowed(text) = text else {
            // Bytes that are no UTF-8: seldom, and not worth a second way.
            return Source::of(&text).into_owned();
        };
        Self::of(text)
    }

    fn of(text: &'a str) -> Self {
        let (rest, host) = match text.split_once('@') {
            Some((rest, host)) => (rest, Some(Cow::Borrowed(host))),
            None => (text, None),
        };
        let (nick, user) = match rest.split_once('!') {
            Some((nick, user)) => (nick, Some(Cow::Borrowed(user))),
            None => (rest, None),
        };
        Self {
            nick: Cow::Borrowed(nick),
            user,
            host,
        }
    }
}

impl Source<'_> {
    fn into_owned<'b>(self) -> Source<'b> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Source {
            nick: owned(self.nick),
            user: self.user.map(owned),
            host: self.host.map(owned),
        }
    }

    /// Tells whether this names a server. A nick cannot hold a dot, and a user has a mask.
    pub(crate) fn is_server(&self) -> bool {
        self.user.is_none() && self.host.is_none() && self.nick.contains('.')
    }
}

struct Rest<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Rest<'a> {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn strip(&mut self, byte: u8) -> bool {
        let Some(rest) = self.bytes.strip_prefix(&[byte]) else {
            return false;
        };
        self.bytes = rest;
        self.offset += 1;
        true
    }

    fn skip_spaces(&mut self) {
        while self.strip(b' ') {}
    }

    /// Takes what comes before the next space, and the spaces.
    fn word(&mut self) -> &'a [u8] {
        let end = self
            .bytes
            .iter()
            .position(|&b| b == b' ')
            .unwrap_or(self.bytes.len());
        let (word, rest) = self.bytes.split_at(end);
        self.bytes = rest;
        self.offset += end;
        self.skip_spaces();
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Line<'_> {
        Line::parse(line.as_bytes()).expect("a line")
    }

    #[test]
    fn a_line_has_tags_source_command_and_parameters() {
        let line = parse("@msgid=a\\sb;time=x :al!a@h privmsg  #c   :hi  :there ");
        assert_eq!(line.tags.get("msgid"), Some("a b"));
        let source = Source {
            nick: "al".into(),
            user: Some("a".into()),
            host: Some("h".into()),
        };
        assert_eq!(line.source, Some(source));
        assert_eq!(line.command, "PRIVMSG");
        assert_eq!(line.params, ["#c", "hi  :there "]);
    }

    #[test]
    fn parameters_may_be_empty_or_missing() {
        assert_eq!(parse("PRIVMSG #c :").params, ["#c", ""]);
        assert_eq!(parse("PING").param(0), "");
        assert_eq!(parse("MODE #c +o al ").params, ["#c", "+o", "al"]);
        assert_eq!(parse(":srv 001 me hi").numeric(), Some(1));
        assert_eq!(parse("ABC").numeric(), None);
    }

    #[test]
    fn a_source_may_be_a_server_or_a_bare_nick() {
        assert!(
            parse(":irc.example 001 a")
                .source
                .is_some_and(|s| s.is_server())
        );
        assert!(!parse(":al 001 a").source.is_some_and(|s| s.is_server()));
        assert!(
            !parse(":a.b!u@h 001 a")
                .source
                .is_some_and(|s| s.is_server())
        );
    }

    #[test]
    fn i2_each_parameter_is_decoded_for_itself() {
        let line = Line::parse(b":al!a@h PRIVMSG #caf\xc3\xa9 :cr\xe8me").expect("a line");
        assert_eq!(line.params, ["#café", "crème"]);
    }

    #[test]
    fn what_is_no_line_is_an_error_with_its_place() {
        assert_eq!(Line::parse(b""), Err(ParseError::NoCommand { offset: 0 }));
        assert_eq!(
            Line::parse(b"@a=b :src  "),
            Err(ParseError::NoCommand { offset: 11 })
        );
        assert_eq!(
            Line::parse(b":s \xff\xfe x"),
            Err(ParseError::BadCommand { offset: 3 })
        );
    }

    #[test]
    fn any_bytes_parse_or_fail_without_a_panic() {
        let alphabet = b"@:;=\\ !a1\xc3\xa9\x01\x00,#";
        let mut seed = 1u32;
        for _ in 0..50_000 {
            let mut line = Vec::new();
            for _ in 0..(seed >> 8) % 24 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                line.push(alphabet[(seed >> 16) as usize % alphabet.len()]);
            }
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if let Ok(line) = Line::parse(&line) {
                assert!(!line.command.is_empty());
            }
        }
    }
}
