//! What somebody said, as far as the session understands it: where, who, and the bare text.

use super::{Event, Phase, Session};
use crate::{ident::ChannelName, wire::Line};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verb {
    Privmsg,
    Notice,
}

impl Verb {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Privmsg => "PRIVMSG",
            Self::Notice => "NOTICE",
        }
    }
}

/// IRCv3 bot-mode, its draft, and InspIRCd 3's own name for it.
const BOT_TAGS: [&str; 3] = ["bot", "draft/bot", "inspircd.org/bot"];

/// A line said in one of our channels by somebody else.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Heard {
    pub(crate) channel: ChannelName,
    pub(crate) verb: Verb,
    pub(crate) nick: String,
    /// The account that the network vouches for.
    pub(crate) account: Option<String>,
    pub(crate) bot: bool,
    pub(crate) msgid: Option<String>,
    /// The `time` tag, as it came.
    pub(crate) time: Option<String>,
    /// The line's place in the connection, for networks without `msgid`.
    pub(crate) number: u64,
    pub(crate) text: String,
}

impl Session {
    pub(super) fn handle_said(&mut self, verb: Verb, line: &Line) {
        let target = line.param(0);
        // A server's own words are for people who read its window: greetings, warnings, banners.
        let Some(source) = line.source.as_ref().filter(|source| !source.is_server()) else {
            return;
        };
        if self.phase == Phase::Registering || self.is_own(&source.nick) {
            return;
        }
        let Some(channel) = self.channels.find(target, self.isupport.casemapping) else {
            let reason = if self.isupport.is_part_of_channel(target) {
                "private"
            } else if self.isupport.is_channel(target) {
                "other_channel"
            } else {
                "private"
            };
            self.events.push_back(Event::Skipped {
                reason,
                detail: format!("from {} to {target}", source.nick),
            });
            return;
        };
        // Only a negotiated tag is the server's word; others may be a client's.
        let tag = |cap: &str, key: &str| {
            self.caps
                .has(cap)
                .then(|| line.tags.get(key))
                .flatten()
                .map(str::to_owned)
        };
        let heard = Heard {
            channel,
            verb,
            nick: source.nick.clone(),
            account: tag("account-tag", "account"),
            bot: self.caps.has("message-tags") && BOT_TAGS.iter().any(|tag| line.tags.has(tag)),
            msgid: tag("message-tags", "msgid"),
            time: tag("server-time", "time"),
            number: self.received,
            text: line.param(1).to_owned(),
        };
        self.events.push_back(Event::Heard(Box::new(heard)));
    }
}
