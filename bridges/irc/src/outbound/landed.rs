//! Which lines of a delivery in doubt are in the channel already.
//!
//! A server that keeps client-only tags gives each line back with its key: then the key decides, and nothing else.
//! From others we know our lines by their text alone. Two people may say the same, so each line found counts for one line
//! of ours, and none that is older than the event itself.

use comity_bridge::{Event, NativeId, Timestamp};

use super::{AGAIN, Limits, author_of};
use crate::{
    session::{OwnLine, SendLine},
    wire::time,
};

/// How far the server's clock may be behind ours.
const SLACK_MILLIS: i64 = 60_000;

/// Our lines in one channel, as its history has them.
#[derive(Debug, Default)]
pub(crate) struct Landed {
    lines: Vec<OwnLine>,
}

impl Landed {
    pub(crate) fn new(lines: Vec<OwnLine>) -> Self {
        Self { lines }
    }

    /// The earliest time of a line that could be this event's, as the server writes it.
    pub(crate) fn earliest(event: &Event) -> String {
        time::print(Timestamp(event.received.0 - SLACK_MILLIS))
    }

    /// Takes the line out that is this one, and returns the id that the network gave it.
    pub(crate) fn take(
        &mut self,
        event: &Event,
        line: &SendLine,
        limits: Limits,
    ) -> Option<Vec<NativeId>> {
        let key = line.key.to_string();
        let found = self
            .lines
            .iter()
            .position(|own| own.key.as_deref() == Some(key.as_str()))
            .or_else(|| self.by_text(event, line.command.text(), limits))?;
        let own = self.lines.remove(found);
        Some(own.msgid.into_iter().map(NativeId::from).collect())
    }

    fn by_text(&self, event: &Event, text: &str, limits: Limits) -> Option<usize> {
        let earliest = event.received.0 - SLACK_MILLIS;
        let author = author_of(event, limits);
        let wanted = bare(text, &author);
        self.lines.iter().position(|own| {
            let said = own.time.as_deref().and_then(time::parse);
            own.key.is_none()
                && said.is_none_or(|said| said.0 >= earliest)
                && bare(&own.text, &author) == wanted
        })
    }
}

/// A line without what another attempt may have put differently: how late it is, and that it comes again.
fn bare<'a>(text: &'a str, author: &str) -> &'a str {
    let mut body = text.strip_prefix(author).unwrap_or(text);
    body = body.strip_prefix(AGAIN).unwrap_or(body);
    if let Some((stamp, rest)) = body
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
        && matches!(stamp.len(), 5 | 16)
        && stamp
            .bytes()
            .all(|b| b.is_ascii_digit() || b"-: ".contains(&b))
    {
        body = rest;
    }
    body.trim_end()
}
