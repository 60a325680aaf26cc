//! What the server says of itself in numeric 005. Only what we act on is kept, so that a server
//! which sends thousands of tokens costs nothing.

use crate::{ident::Casemapping, wire::MAX_LINE};

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Isupport {
    pub(crate) casemapping: Casemapping,
    pub(crate) chantypes: String,
    /// Prefixes that address a part of a channel: `@#channel` means its operators.
    pub(crate) statusmsg: String,
    pub(crate) nicklen: Option<usize>,
    pub(crate) channellen: Option<usize>,
    /// The most lines that one answer about history may have; 0 says that there is no limit.
    pub(crate) chathistory: Option<usize>,
    /// The longest line in bytes. A server that allows more than 512 gets no more: other
    /// servers of its network may cut there.
    pub(crate) linelen: usize,
}

impl Default for Isupport {
    fn default() -> Self {
        Self {
            casemapping: Casemapping::default(),
            chantypes: "#&".to_owned(),
            statusmsg: String::new(),
            nicklen: None,
            channellen: None,
            chathistory: None,
            linelen: MAX_LINE,
        }
    }
}

impl Isupport {
    /// Takes the tokens of one 005 line. A token in parts that do not parse changes nothing.
    pub(crate) fn handle_tokens<'a>(&mut self, tokens: impl IntoIterator<Item = &'a str>) {
        for token in tokens {
            match token.split_once('=') {
                Some((key, value)) => self.set(key, value),
                None => match token.strip_prefix('-') {
                    Some(key) => self.unset(key),
                    None => self.set(token, ""),
                },
            }
        }
    }

    fn set(&mut self, key: &str, value: &str) {
        match key {
            "CASEMAPPING" => self.casemapping = Casemapping::from_token(value),
            // An empty value is meant so: this server has no channels of any kind.
            "CHANTYPES" => self.chantypes = value.chars().take(16).collect(),
            "STATUSMSG" => self.statusmsg = value.chars().take(16).collect(),
            "NICKLEN" | "MAXNICKLEN" => self.nicklen = value.parse().ok().or(self.nicklen),
            "CHANNELLEN" => self.channellen = value.parse().ok().or(self.channellen),
            "CHATHISTORY" | "draft/CHATHISTORY" => {
                self.chathistory = value.parse().ok().or(self.chathistory);
            }
            "LINELEN" => {
                // Less than this leaves no room for a name and a word of text.
                let told = value.parse().unwrap_or(MAX_LINE);
                self.linelen = told.clamp(MAX_LINE / 2, MAX_LINE);
            }
            _ => {}
        }
    }

    fn unset(&mut self, key: &str) {
        let default = Self::default();
        match key {
            "CASEMAPPING" => self.casemapping = default.casemapping,
            "CHANTYPES" => self.chantypes = default.chantypes,
            "STATUSMSG" => self.statusmsg = default.statusmsg,
            "NICKLEN" => self.nicklen = None,
            "CHANNELLEN" => self.channellen = None,
            "CHATHISTORY" | "draft/CHATHISTORY" => self.chathistory = default.chathistory,
            "LINELEN" => self.linelen = default.linelen,
            _ => {}
        }
    }

    pub(crate) fn is_channel(&self, target: &str) -> bool {
        target.starts_with(|c| self.chantypes.contains(c))
    }

    /// Tells whether `target` is a channel behind a status prefix, such as `@#channel`.
    pub(crate) fn is_part_of_channel(&self, target: &str) -> bool {
        let channel = target.trim_start_matches(|c| self.statusmsg.contains(c));
        channel.len() < target.len() && self.is_channel(channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_set_and_unset() {
        let mut isupport = Isupport::default();
        let tokens = "CASEMAPPING=ascii NICKLEN=16 LINELEN=400 STATUSMSG=@+ CHANTYPES=# FOO=1 BAR";
        isupport.handle_tokens(tokens.split(' '));
        assert_eq!(isupport.casemapping, Casemapping::Ascii);
        assert_eq!((isupport.nicklen, isupport.linelen), (Some(16), 400));
        assert!(isupport.is_channel("#a") && !isupport.is_channel("&a"));
        assert!(isupport.is_part_of_channel("@#a") && !isupport.is_part_of_channel("#a"));
        isupport.handle_tokens(["-CASEMAPPING", "NICKLEN=x", "LINELEN=9999"]);
        assert_eq!(isupport.casemapping, Casemapping::Rfc1459);
        assert_eq!((isupport.nicklen, isupport.linelen), (Some(16), 512));
    }
}
