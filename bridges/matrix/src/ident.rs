//! Makes and parses this network's ids: users, rooms, transaction ids, our mark on messages.
//!
//! A ghost is found by its author's address and nothing else, so the way from address to user id
//! must never change and never make two authors one.

use comity_bridge::{DeliveryKey, UserAddress};
use ruma::{
    OwnedRoomAliasId, OwnedRoomId, OwnedServerName, OwnedTransactionId, OwnedUserId, UserId,
};
use sha2::{Digest, Sha256};

/// The whole of a Matrix user id may have 255 bytes (Matrix specification, appendices 4.2.1).
const MAX_USER_ID: usize = 255;
/// The field of a message's content that says which delivery it is.
pub(crate) const KEY_FIELD: &str = "chat.comity.key";
/// The field of a message's content that says that its time is when it was written, not when it was sent.
pub(crate) const LATE_FIELD: &str = "chat.comity.late";
/// A shortened ghost's name begins with this; the encoding never makes two `=` in a row.
const SHORTENED: &str = "==";

/// The users that are ours on one homeserver.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    server: OwnedServerName,
    bot: OwnedUserId,
    ghost_prefix: String,
}

/// Why a local part cannot be used.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum NameError {
    #[error("only a-z, 0-9 and ._=/+- may be in the local part of a user id")]
    Characters,
    #[error("too long for a user id of 255 bytes")]
    Long,
    #[error("empty")]
    Empty,
    #[error("the bot's name begins with the prefix of the ghosts, so a ghost could take its place")]
    Overlap,
}

impl Names {
    /// Checks both local parts. The prefix leaves at least half of a user id to the author.
    pub(crate) fn new(
        server: OwnedServerName,
        bot: &str,
        ghost_prefix: &str,
    ) -> Result<Self, NameError> {
        for part in [bot, ghost_prefix] {
            if part.is_empty() {
                return Err(NameError::Empty);
            }
            if !part.chars().all(is_localpart_char) {
                return Err(NameError::Characters);
            }
            if part.len() + server.as_str().len() + 2 > MAX_USER_ID - 64 {
                return Err(NameError::Long);
            }
        }
        if bot.starts_with(ghost_prefix) {
            return Err(NameError::Overlap);
        }
        let bot = UserId::parse(format!("@{bot}:{server}")).map_err(|_| NameError::Characters)?;
        Ok(Self {
            server,
            bot,
            ghost_prefix: ghost_prefix.to_owned(),
        })
    }

    pub(crate) fn bot(&self) -> &OwnedUserId {
        &self.bot
    }

    #[cfg(test)]
    pub(crate) fn ghost_prefix(&self) -> &str {
        &self.ghost_prefix
    }

    /// The ghost that stands for an author. One author, one ghost, for ever.
    pub(crate) fn ghost(&self, author: &UserAddress) -> OwnedUserId {
        let room = MAX_USER_ID - self.ghost_prefix.len() - self.server.as_str().len() - 2;
        let local = readable(author)
            .filter(|local| local.len() <= room)
            .unwrap_or_else(|| {
                let digest = Sha256::digest(author.to_string().as_bytes());
                format!("{SHORTENED}{}", hex(&digest[..16]))
            });
        UserId::parse(format!("@{}{local}:{}", self.ghost_prefix, self.server))
            .expect("the prefix was checked and the encoding uses local part characters only")
    }

    /// Whether a user is a ghost or the bot of this network.
    pub(crate) fn is_ours(&self, user: &UserId) -> bool {
        *user == self.bot
            || (user.server_name() == self.server
                && user.localpart().starts_with(&self.ghost_prefix))
    }

    /// Whether a user's account is on this homeserver.
    pub(crate) fn is_local(&self, user: &UserId) -> bool {
        user.server_name() == self.server
    }

    /// The id that a Matrix user has as an author: without `@`, and without the server's name
    /// where that is our own homeserver's.
    pub(crate) fn author_id(&self, user: &UserId) -> String {
        if user.server_name() == self.server {
            user.localpart().to_owned()
        } else {
            user.as_str().trim_start_matches('@').to_owned()
        }
    }

    /// The namespace of the ghosts, for the registration: anchored, since homeservers differ in
    /// whether they anchor it.
    pub(crate) fn ghost_regex(&self) -> String {
        let (prefix, server) = (escape(&self.ghost_prefix), escape(self.server.as_str()));
        format!("^@{prefix}.*:{server}$")
    }
}

/// Makes a text fit for a local part; for defaults made of domain and network names.
pub(crate) fn sanitise_localpart(text: &str) -> String {
    let fit = |c: char| if is_localpart_char(c) { c } else { '-' };
    text.to_lowercase().chars().map(fit).collect()
}

fn is_localpart_char(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || "._=/+-".contains(c)
}

/// A local part that people can read: the author's own name, `=40` for the `@`, the host.
///
/// None when the address is not written in the one way in which the gateway writes it: two such
/// addresses could have one reading.
fn readable(author: &UserAddress) -> Option<String> {
    let user = percent_decode(author.user())?;
    (UserAddress::of(&user, author.host()) == *author)
        .then(|| encode(&format!("{user}@{}", author.host())))
}

/// Keeps `a-z 0-9 . - _` and writes every other byte as `=xx`, as the specification suggests for
/// mapping foreign names (appendices 4.2.1.2).
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_' => out.push(char::from(byte)),
            other => {
                out.push('=');
                out.push_str(&hex(&[other]));
            }
        }
    }
    out
}

/// Undoes percent-encoding; none when it is broken or not UTF-8.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            out.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if !c.is_ascii_alphanumeric() && !"_=-:/".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// How a channel of a Matrix network is written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RoomName {
    /// `#alias:server`, resolved once and then kept.
    Alias(OwnedRoomAliasId),
    /// `!id` or `!id:server`.
    Id(OwnedRoomId),
}

impl RoomName {
    pub(crate) fn parse(native: &str) -> Option<Self> {
        if native.len() > MAX_USER_ID || native.len() < 2 {
            return None;
        }
        match native.chars().next()? {
            '#' => OwnedRoomAliasId::try_from(native).ok().map(Self::Alias),
            // The grammar lets an id be nearly anything; no server makes one with white space.
            '!' if native.contains(char::is_whitespace) => None,
            '!' => OwnedRoomId::try_from(native).ok().map(Self::Id),
            _ => None,
        }
    }
}

/// The transaction id of one part of a delivery.
///
/// Synapse's idempotency key for an application service is path and service, *not* the ghost
/// (`synapse/rest/client/transactions.py`): two ghosts that use one id lose a message. So it is
/// made of what is unique for the gateway, and it is the same after a restart.
pub(crate) fn transaction_id(key: &DeliveryKey, part: usize) -> OwnedTransactionId {
    let channel = Sha256::digest(key.channel.to_string().as_bytes());
    format!("comity.{}.{}.{part}", key.event, hex(&channel[..8])).into()
}

/// What is written into a message so that it can be known again: which delivery, which part.
pub(crate) fn mark(key: &DeliveryKey, part: usize) -> String {
    format!("{key}.{part}")
}

/// Reads a [`mark`].
pub(crate) fn parse_mark(text: &str) -> Option<(DeliveryKey, usize)> {
    let (key, part) = text.rsplit_once('.')?;
    Some((key.parse().ok()?, part.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use comity_bridge::{BridgeKind, EventId};
    use ruma::{owned_server_name, user_id};

    use super::*;
    use crate::KIND;

    fn names() -> Names {
        Names::new(
            owned_server_name!("hs.test"),
            "comity_gw1.test_home",
            "_comity_gw1.test_home_",
        )
        .expect("fit")
    }

    /// The author that a ghost stands for: the way back, which shows that the way there loses nothing.
    fn author_of(names: &Names, ghost: &UserId) -> Option<UserAddress> {
        let author = decode(ghost.localpart().strip_prefix(&names.ghost_prefix)?)?;
        let (user, host) = author.rsplit_once('@')?;
        Some(UserAddress::of(user, host))
    }

    fn decode(text: &str) -> Option<String> {
        let mut bytes = text.bytes();
        let mut out = Vec::with_capacity(text.len());
        while let Some(byte) = bytes.next() {
            if byte == b'=' {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                out.push(u8::try_from(high * 16 + low).ok()?);
            } else {
                out.push(byte);
            }
        }
        String::from_utf8(out).ok()
    }

    fn key(event: u8, channel: &str) -> DeliveryKey {
        DeliveryKey {
            event: EventId::from_bytes([event; 16]),
            channel: channel.parse().unwrap(),
        }
    }

    #[test]
    fn a_ghosts_name_leads_back_to_its_author() {
        for user in [
            "alice", "Alice", "al ice", "ünï", "_=x", "a.b-c", "x%40y", "{}|\\^`",
        ] {
            let author = UserAddress::of(user, "libera.gw1.test");
            let ghost = names().ghost(&author);
            assert!(ghost.localpart().chars().all(is_localpart_char), "{ghost}");
            assert!(names().is_ours(&ghost));
            assert_eq!(author_of(&names(), &ghost), Some(author));
        }
    }

    #[test]
    fn authors_that_differ_in_case_or_network_are_different_ghosts() {
        let ghost = |user, host| names().ghost(&UserAddress::of(user, host));
        let all = HashSet::from([
            ghost("alice", "libera.gw1.test"),
            ghost("Alice", "libera.gw1.test"),
            ghost("alice", "oftc.gw1.test"),
            ghost("alice=40x", "gw1.test"),
            ghost(&"long".repeat(100), "gw1.test"),
            ghost(&"long".repeat(101), "gw1.test"),
        ]);
        assert_eq!(all.len(), 6);
    }

    #[test]
    fn an_address_that_is_written_oddly_is_nobody_elses_ghost() {
        let ghost = |address: &str| names().ghost(&address.parse().expect("an address"));
        let all = HashSet::from([
            ghost("alice@gw2.test"),
            ghost("%61lice@gw2.test"),
            ghost("%zz@gw2.test"),
            ghost("%25zz@gw2.test"),
            ghost("%C3@gw2.test"),
            ghost("%c3%ab@gw2.test"),
            ghost("%C3%AB@gw2.test"),
        ]);
        assert_eq!(all.len(), 7);
        assert_eq!(
            ghost("%C3%AB.x@gw2.test").localpart(),
            "_comity_gw1.test_home_=c3=ab.x=40gw2.test"
        );
    }

    #[test]
    fn a_very_long_author_still_fits_a_user_id() {
        let ghost = names().ghost(&UserAddress::of(&"ü".repeat(400), "libera.gw1.test"));
        assert!(ghost.as_str().len() <= 255);
        assert!(names().is_ours(&ghost));
        assert_eq!(author_of(&names(), &ghost), None);
    }

    #[test]
    fn only_our_own_server_makes_a_user_ours() {
        assert!(names().is_ours(user_id!("@comity_gw1.test_home:hs.test")));
        assert!(!names().is_ours(user_id!("@_comity_gw1.test_home_alice:evil.test")));
        assert!(!names().is_ours(user_id!("@alice:hs.test")));
        assert!(!names().is_ours(user_id!("@comity_gw1.test_home2:hs.test")));
    }

    #[test]
    fn a_local_users_id_has_no_server_part_and_a_remote_one_has() {
        assert_eq!(names().author_id(user_id!("@alice:hs.test")), "alice");
        assert_eq!(
            names().author_id(user_id!("@alice:other.test")),
            "alice:other.test"
        );
    }

    #[test]
    fn transaction_ids_differ_by_event_channel_and_part_and_are_the_same_again() {
        let mut seen = HashSet::new();
        for event in 0..20 {
            for channel in ["home/#a:hs.test", "home/#b:hs.test", "home/!c:hs.test"] {
                for part in 0..12 {
                    assert!(seen.insert(transaction_id(&key(event, channel), part)));
                }
            }
        }
        let again = transaction_id(&key(3, "home/#b:hs.test"), 11);
        assert!(seen.contains(&again));
        assert!(
            again
                .as_str()
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'.'),
            "{again}"
        );
    }

    #[test]
    fn our_mark_can_be_read_again_and_a_strangers_cannot_hurt() {
        let key = key(1, "home/#rust.x:hs.test");
        assert_eq!(parse_mark(&mark(&key, 7)), Some((key, 7)));
        for bad in ["", ".", "x.1", "01JD9V7R0M8Q4Z3W2T6YB5K1NC.1", "\u{0}"] {
            assert_eq!(parse_mark(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_namespace_matches_nothing_by_accident() {
        assert_eq!(
            names().ghost_regex(),
            r"^@_comity_gw1\.test_home_.*:hs\.test$"
        );
    }

    #[test]
    fn unfit_local_parts_are_refused() {
        let new = |bot, prefix| Names::new(owned_server_name!("hs.test"), bot, prefix).err();
        assert_eq!(new("Bot", "_x_"), Some(NameError::Characters));
        assert_eq!(new("bot", ""), Some(NameError::Empty));
        assert_eq!(new("_x_bot", "_x_"), Some(NameError::Overlap));
        assert_eq!(new("bot", &"x".repeat(250)), Some(NameError::Long));
        assert_eq!(
            sanitise_localpart("Comity_GW.example_my net"),
            "comity_gw.example_my-net"
        );
    }

    #[test]
    fn a_channel_is_an_alias_or_a_room_id() {
        assert!(matches!(
            RoomName::parse("#rust:hs.test"),
            Some(RoomName::Alias(_))
        ));
        assert!(matches!(
            RoomName::parse("!abc:hs.test"),
            Some(RoomName::Id(_))
        ));
        let v12 = "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM";
        assert!(matches!(RoomName::parse(v12), Some(RoomName::Id(_))));
        for bad in ["", "rust", "#rust", "@a:hs.test", "#", "!", "!a b"] {
            assert_eq!(RoomName::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_configuration_is_told_what_a_channel_is() {
        for good in ["#Rust:hs.test", "!abc:hs.test", "!x"] {
            assert_eq!(KIND.channel(good), Ok(good.to_owned()));
        }
        for bad in ["rust:hs.test", "#rust", "@a:hs.test", "!", "! "] {
            let instead = KIND.channel(bad).expect_err(bad);
            assert!(instead.contains("network/#alias:server"), "{instead}");
        }
    }
}
