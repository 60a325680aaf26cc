//! What somebody said, as far as the session understands it: where, who, and the bare text.

use super::{Event, Phase, Session};
use crate::{
    ident::ChannelName,
    wire::{KEY_TAG, Label, Line},
};

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
    /// The server names accounts, so that somebody without one has none.
    pub(crate) names_accounts: bool,
    pub(crate) bot: bool,
    pub(crate) msgid: Option<String>,
    /// The `time` tag, as it came.
    pub(crate) time: Option<String>,
    /// The line's place in the connection, for networks without `msgid`.
    pub(crate) number: u64,
    pub(crate) text: String,
}

impl Heard {
    /// What it takes in memory, and what whoever keeps it takes for that: about what the allocator rounds up to.
    pub(crate) fn bytes(&self) -> usize {
        const ROUNDED: usize = 128;
        let of = |text: &Option<String>| text.as_ref().map_or(0, String::capacity);
        size_of::<Self>()
            + ROUNDED
            + self.channel.as_str().len()
            + self.nick.capacity()
            + self.text.capacity()
            + of(&self.account)
            + of(&self.msgid)
            + of(&self.time)
    }
}

impl Session {
    pub(super) fn handle_said(&mut self, verb: Verb, line: &Line<'_>) {
        let target = line.param(0);
        // A server's own words are for people who read its window: greetings, warnings, banners.
        let Some(source) = line.source.as_ref().filter(|source| !source.is_server()) else {
            return;
        };
        if self.phase == Phase::Registering {
            return;
        }
        let batch = self.batches.of(line);
        let (replayed, in_batch) = match batch {
            Some(batch) => (batch.history_of.is_some(), true),
            None => (false, false),
        };
        if self.is_own(&source.nick) && !replayed {
            // An echo with our label proves the line. Without one it tells us nothing.
            if let Some(Label::Sent(label)) = self.batches.label(line) {
                let msgid = self.tag(line, "message-tags", "msgid").map(str::to_owned);
                self.sends.handle_answer(label, Ok(msgid));
            }
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
        let tag = |cap: &str, key: &str| self.tag(line, cap, key).map(str::to_owned);
        let heard = Heard {
            channel,
            verb,
            nick: source.nick.to_string(),
            account: tag("account-tag", "account"),
            names_accounts: self.caps.has("account-tag"),
            bot: self.caps.has("message-tags") && BOT_TAGS.iter().any(|tag| line.tags.has(tag)),
            msgid: tag("message-tags", "msgid"),
            time: tag("server-time", "time"),
            number: self.received,
            text: line.param(1).to_owned(),
        };
        if replayed {
            let is_own = self.is_own(&source.nick) || self.is_former(&source.nick);
            let key = tag("message-tags", KEY_TAG);
            let answers = in_batch.then(|| self.batches.label(line)).flatten();
            self.handle_replayed(heard, key, is_own, answers);
        } else if let Some(heard) = self.hold_back(heard) {
            self.events.push_back(Event::Heard(Box::new(heard)));
        }
    }

    /// Only a negotiated tag is the server's word; others may be a client's.
    fn tag<'a>(&self, line: &'a Line<'_>, cap: &str, key: &str) -> Option<&'a str> {
        self.caps.has(cap).then(|| line.tags.get(key)).flatten()
    }

    /// A nick that we had on an earlier connection: lines said under it then are ours.
    fn is_former(&self, nick: &str) -> bool {
        let map = self.isupport.casemapping;
        self.settings
            .former_nicks
            .iter()
            .any(|former| map.same(former, nick))
    }
}
