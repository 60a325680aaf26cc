//! From a line that somebody said to a report. mIRC's control codes end here.

mod formatting;

use std::fmt::Write;

use comity_bridge::{
    Channel, Incoming, NativeAuthor, SourceId,
    event::{Content, Message, MessageKind},
};

use crate::{
    ident,
    session::{Heard, Verb},
    wire::time,
};

/// Makes a report of what was heard; the error is the reason why it is none.
pub(crate) fn report(
    heard: &Heard,
    channel: Channel,
    epoch: &str,
) -> Result<Incoming, &'static str> {
    let (kind, text) = match heard.text.strip_prefix('\x01') {
        // The closing delimiter may be missing: the server may have cut it off.
        Some(ctcp) => match (heard.verb, ctcp.trim_end_matches('\x01').split_once(' ')) {
            (Verb::Privmsg, Some((command, text))) if command.eq_ignore_ascii_case("ACTION") => {
                (MessageKind::Emote, text)
            }
            // Requests of clients to clients. Not even an answer is due in a channel.
            _ => return Err("unsupported"),
        },
        None if heard.verb == Verb::Notice => (MessageKind::Notice, heard.text.as_str()),
        None => (MessageKind::Text, heard.text.as_str()),
    };
    let text = formatting::parse(text);
    if text.is_blank() {
        return Err("empty");
    }
    // Where the network has no ids of its own, the connection and the line's place in it tell two
    // lines apart. Never the text: two people may well say the same.
    let source_id = match &heard.msgid {
        Some(msgid) => SourceId::from(msgid.as_str()),
        None => SourceId(numbered(epoch, heard.number)),
    };
    let author = NativeAuthor {
        id: ident::author_id(heard.account.as_deref(), &heard.nick, heard.names_accounts),
        name: heard.nick.clone(),
        account: heard.account.clone(),
        bot: heard.bot,
        ..NativeAuthor::default()
    };
    let claimed = heard.time.as_deref().and_then(time::parse);
    let content = Content::Message(Message::of(kind, text));
    Ok(Incoming {
        channel,
        source_id,
        author,
        claimed,
        own: None,
        content,
        via: Vec::new(),
    })
}

fn numbered(epoch: &str, number: u64) -> String {
    let mut id = String::with_capacity(epoch.len() + "-18446744073709551615".len());
    // Writing into a string cannot go wrong.
    write!(id, "{epoch}-{number}").ok();
    id
}

#[cfg(test)]
mod tests;
