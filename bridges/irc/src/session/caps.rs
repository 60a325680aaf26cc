//! Capability negotiation (IRCv3 `CAP`, version 302). Asks only for what this bridge acts on.

use std::collections::BTreeSet;

use crate::wire::{Command, Line, LineTooLong, Middle, Trailing};

/// What we use where it is offered.
const WANTED: [&str; 9] = [
    "message-tags",
    "server-time",
    "account-tag",
    "chghost",
    "batch",
    ECHO,
    LABELS,
    HISTORY,
    PLAYBACK,
];

const ECHO: &str = "echo-message";
const LABELS: &str = "labeled-response";
const HISTORY: &str = "draft/chathistory";

/// Without it Ergo puts joins and the like into the history as lines that somebody says.
const PLAYBACK: &str = "draft/event-playback";

/// What another one needs to be of use. Without labels an echo tells nothing that a fence does not.
const NEEDS: [(&str, &[&str]); 4] = [
    (LABELS, &["batch", "message-tags"]),
    (ECHO, &[LABELS, "batch", "message-tags"]),
    (HISTORY, &["batch", "message-tags", "server-time"]),
    (PLAYBACK, &[HISTORY, "batch", "message-tags", "server-time"]),
];

#[derive(Debug, Default)]
pub(crate) struct Caps {
    offered: BTreeSet<&'static str>,
    enabled: BTreeSet<&'static str>,
    /// Requests without an answer yet.
    asked: Vec<Vec<&'static str>>,
    /// `CAP END` is out, or the server has no capabilities at all.
    ended: bool,
}

impl Caps {
    /// Asks for the list. Goes out before NICK and USER, so that the server waits for our END.
    pub(crate) fn begin() -> Result<Command, LineTooLong> {
        subcommand("LS", Some("302"))
    }

    /// The server does not know the command: there is nothing to wait for.
    pub(crate) fn handle_unknown_command(&mut self) {
        self.ended = true;
    }

    /// Registration went through, so whatever answer is missing does not matter any more.
    pub(crate) fn handle_welcome(&mut self) {
        self.ended = true;
        self.asked.clear();
    }

    /// Takes one `CAP` line and returns what to say to it.
    pub(crate) fn handle_line(&mut self, line: &Line<'_>) -> Vec<Command> {
        let names: Vec<&str> = line.last_param().split_ascii_whitespace().collect();
        let mut say = Vec::new();
        match line.param(1).to_ascii_uppercase().as_str() {
            "LS" => {
                self.offered.extend(known(&names));
                // `CAP * LS * :...` says that more lines of the list follow.
                if line.params.len() < 4 && !self.ended {
                    say.extend(self.request(self.useful()));
                }
            }
            "ACK" => {
                for name in &names {
                    match name.strip_prefix('-') {
                        Some(gone) => self.enabled.retain(|cap| *cap != gone),
                        None => self.enabled.extend(known(&[name])),
                    }
                }
                self.answered(&names);
            }
            "NAK" => {
                // A request is refused as a whole, even if only one of its names is unwelcome.
                let refused = self.answered(&names);
                if refused.len() > 1 {
                    say.extend(refused.into_iter().flat_map(|cap| self.request(vec![cap])));
                }
            }
            "NEW" => say.extend(self.request(known(&names).collect())),
            "DEL" => self.enabled.retain(|cap| !names.contains(cap)),
            _ => {}
        }
        if self.asked.is_empty() && !self.ended && line.params.len() < 4 {
            self.ended = true;
            say.extend(subcommand("END", None));
        }
        say
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.enabled.contains(name)
    }

    /// What is offered together with all that it needs.
    fn useful(&self) -> Vec<&'static str> {
        let needs = |cap: &str| {
            let found = NEEDS.iter().find(|(name, _)| *name == cap);
            found.map_or(&[][..], |(_, needs)| needs)
        };
        let offered = self.offered.iter().copied();
        offered
            .filter(|cap| needs(cap).iter().all(|need| self.offered.contains(need)))
            .collect()
    }

    /// Asks for what is not asked for yet, so that no more requests are open than there are names.
    fn request(&mut self, mut caps: Vec<&'static str>) -> Option<Command> {
        caps.retain(|cap| !self.asked.iter().flatten().any(|asked| asked == cap));
        if caps.is_empty() {
            return None;
        }
        let command = Middle::parse("REQ").and_then(|req| {
            Command::new("CAP", [req], Some(Trailing::new(&caps.join(" ")))).ok()
        })?;
        self.asked.push(caps);
        Some(command)
    }

    /// Removes the request that `names` answer, and returns it.
    fn answered(&mut self, names: &[&str]) -> Vec<&'static str> {
        let at = self
            .asked
            .iter()
            .position(|asked| names.iter().any(|name| asked.contains(name)));
        at.map(|at| self.asked.remove(at)).unwrap_or_default()
    }
}

fn known<'a>(names: &'a [&'a str]) -> impl Iterator<Item = &'static str> + 'a {
    // A name may carry a value (`sts=port=6697`); ours have none.
    let bare = names
        .iter()
        .map(|name| name.split('=').next().unwrap_or_default());
    bare.filter_map(|name| WANTED.into_iter().find(|wanted| *wanted == name))
}

fn subcommand(name: &str, argument: Option<&str>) -> Result<Command, LineTooLong> {
    let middles = [Some(name), argument]
        .into_iter()
        .flatten()
        .filter_map(Middle::parse);
    Command::new("CAP", middles, None)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    fn hear(caps: &mut Caps, line: &str) -> Vec<String> {
        let line = Line::parse(line.as_bytes()).expect("a line");
        let said = caps.handle_line(&line);
        said.iter().map(printed).collect()
    }

    fn printed(command: &Command) -> String {
        let mut out = BytesMut::new();
        command.write_to(&mut out);
        String::from_utf8_lossy(&out).trim_end().to_owned()
    }

    #[test]
    fn a_list_in_several_lines_is_read_to_its_end() {
        let mut caps = Caps::default();
        assert!(
            hear(
                &mut caps,
                ":s CAP * LS * :multi-prefix sasl=PLAIN message-tags"
            )
            .is_empty()
        );
        let said = hear(&mut caps, ":s CAP * LS :server-time inspircd.org/poison");
        assert_eq!(said, ["CAP REQ :message-tags server-time"]);
        assert_eq!(
            hear(&mut caps, ":s CAP me ACK :message-tags server-time "),
            ["CAP END"]
        );
        assert!(caps.has("message-tags") && !caps.has("account-tag"));
    }

    #[test]
    fn a_refused_request_is_repeated_name_by_name() {
        let mut caps = Caps::default();
        hear(&mut caps, ":s CAP * LS :message-tags server-time");
        let said = hear(&mut caps, ":s CAP * NAK :message-tags server-time");
        assert_eq!(said, ["CAP REQ :message-tags", "CAP REQ :server-time"]);
        assert!(hear(&mut caps, ":s CAP * ACK :message-tags").is_empty());
        assert_eq!(hear(&mut caps, ":s CAP * NAK :server-time"), ["CAP END"]);
        assert!(caps.has("message-tags") && !caps.has("server-time"));
    }

    #[test]
    fn a_server_with_nothing_for_us_gets_the_end_at_once() {
        let mut caps = Caps::default();
        assert_eq!(hear(&mut caps, ":s CAP * LS :multi-prefix"), ["CAP END"]);
    }

    #[test]
    fn what_is_offered_in_a_loop_is_asked_for_once() {
        let mut caps = Caps::default();
        hear(&mut caps, ":s CAP * LS :message-tags");
        hear(&mut caps, ":s CAP * ACK :message-tags");
        let new = ":s CAP me NEW :server-time";
        assert_eq!(hear(&mut caps, new), ["CAP REQ :server-time"]);
        for _ in 0..1000 {
            assert!(hear(&mut caps, new).is_empty());
        }
        assert_eq!(caps.asked.len(), 1);
    }

    #[test]
    fn a_capability_may_come_and_go_later() {
        let mut caps = Caps::default();
        hear(&mut caps, ":s CAP * LS :");
        assert_eq!(
            hear(&mut caps, ":s CAP me NEW :account-tag"),
            ["CAP REQ :account-tag"]
        );
        assert!(hear(&mut caps, ":s CAP me ACK :account-tag").is_empty());
        assert!(caps.has("account-tag"));
        hear(&mut caps, ":s CAP me DEL :account-tag");
        assert!(!caps.has("account-tag"));
    }
}
