//! Our own `nick!user@host` as others see it: the server puts it before every line of ours.

use super::{isupport::Isupport, nick::Nick};

/// `~` and ten characters of user name.
const LONGEST_USER: usize = 11;

/// A host name as the servers keep it.
const LONGEST_HOST: usize = 63;

#[derive(Debug, Default)]
pub(super) struct Mask {
    known: Option<(String, String)>,
}

impl Mask {
    pub(super) fn set(&mut self, user: &str, host: &str) {
        self.known = Some((user.to_owned(), host.to_owned()));
    }

    /// Numeric 396: `host`, or `user@host`.
    pub(super) fn handle_host(&mut self, shown: &str) {
        match (shown.split_once('@'), &mut self.known) {
            (Some((user, host)), _) => self.set(user, host),
            (None, Some((_, host))) => shown.clone_into(host),
            // Without the user name the host alone does not tell the length.
            (None, None) => {}
        }
    }

    /// Returns the bytes of the mask, or the most that they can be while it is not known.
    pub(super) fn longest(&self, nick: &Nick, isupport: &Isupport) -> usize {
        // We may have our wished nick back by the time the line goes out.
        let nick_bytes = nick.current().len().max(nick.wished().len());
        let rest = match &self.known {
            Some((user, host)) => user.len() + host.len(),
            None => LONGEST_USER + LONGEST_HOST,
        };
        // A server may cut a nick that we asked for, never lengthen it.
        let nick_bytes = isupport.nicklen.map_or(nick_bytes, |limit| {
            nick_bytes.min(limit.max(nick.current().len()))
        });
        nick_bytes + "!".len() + rest + "@".len()
    }
}
