//! One line of IRC as a client needs it: tags dropped, source's nick, command, parameters.
//!
//! Written for this client alone, so that a fault in the bridge's grammar cannot hide itself.

use std::fmt;

/// A parsed line from the server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ServerLine {
    /// Nick (or server name) in front of the line.
    pub(crate) nick: String,
    /// `PRIVMSG`, `001`.
    pub(crate) command: String,
    /// Parameters, the trailing one last.
    pub(crate) params: Vec<String>,
}

impl ServerLine {
    /// Parses one line without its line end.
    pub(crate) fn parse(line: &str) -> Self {
        let mut rest = line;
        if rest.starts_with('@') {
            rest = rest.split_once(' ').map_or("", |(_, after)| after);
        }
        let mut nick = String::new();
        if let Some(sourced) = rest.trim_start().strip_prefix(':') {
            let (source, after) = sourced.split_once(' ').unwrap_or((sourced, ""));
            nick = source.split('!').next().unwrap_or_default().to_owned();
            rest = after;
        }
        let (middle, trailing) = match rest.split_once(" :") {
            Some((middle, trailing)) => (middle, Some(trailing)),
            None => (rest, None),
        };
        let mut words = middle.split_ascii_whitespace().map(str::to_owned);
        let command = words.next().unwrap_or_default();
        let params = words.chain(trailing.map(str::to_owned)).collect();
        Self {
            nick,
            command,
            params,
        }
    }

    /// The parameter at `index`, or nothing.
    pub(crate) fn param(&self, index: usize) -> &str {
        self.params.get(index).map_or("", String::as_str)
    }
}

impl fmt::Display for ServerLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            ":{} {} {}",
            self.nick,
            self.command,
            self.params.join(" ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_tags_source_and_trailing_text_is_taken_apart() {
        let line = ServerLine::parse("@time=x;msgid=y :alice!a@host PRIVMSG #room :hi: there ");
        assert_eq!(line.nick, "alice");
        assert_eq!(line.command, "PRIVMSG");
        assert_eq!(line.params, ["#room", "hi: there "]);
    }

    #[test]
    fn a_line_without_source_or_trailing_text_is_taken_apart() {
        let line = ServerLine::parse("PING token");
        assert_eq!((line.nick.as_str(), line.command.as_str()), ("", "PING"));
        assert_eq!(line.param(0), "token");
        assert_eq!(line.param(1), "");
    }
}
