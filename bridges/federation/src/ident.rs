//! The names of the federation: servers, users, aliases, rooms and events (PROTOCOL 2).
//!
//! Every type here can only be made by a parser that accepts exactly one spelling of each name.
//! Nothing is normalised: two spellings of one server would be two identities.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The local part that stands for a server itself in a room (PROTOCOL 2.2).
const GATEWAY: &str = "gateway";

/// A name that is not written as PROTOCOL 2 demands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("not a server name: {0:?}")]
    Server(String),
    #[error("not a user address: {0:?}")]
    User(String),
    #[error("not an alias: {0:?} (expected #name@domain)")]
    Alias(String),
    #[error("not an event id: {0:?}")]
    Event(String),
    #[error("not a room id: {0:?}")]
    Room(String),
    #[error("not a key name: {0:?}")]
    Kid(String),
}

/// A newtype over a checked string, with the traits that all of them need.
macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(String);

        impl $type {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

name! {
    /// A server: its DNS name, lower case A-labels. Unique in the world.
    ServerName
}
name! {
    /// A user as gateways and people write it down, `local@domain` or `local@network.domain`.
    UserAddress
}
name! {
    /// `#name@domain`: a way to find a room, not its identity.
    Alias
}
name! {
    /// The hash of an event. Unique in the world.
    EventId
}
name! {
    /// `!` and the id of the genesis event. Unique in the world.
    RoomId
}
name! {
    /// The name of a key; unique within its server, for ever.
    Kid
}

impl ServerName {
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let labels: Vec<&str> = text.split('.').collect();
        let ok = text.len() <= 253
            && labels.len() >= 2
            && labels.iter().all(|label| is_label(label))
            && labels
                .last()
                .is_some_and(|top| !top.bytes().all(|b| b.is_ascii_digit()));
        if ok {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Server(clip(text)))
        }
    }

    /// The server's own user in a room (PROTOCOL 7.3).
    pub fn gateway(&self) -> UserAddress {
        UserAddress(format!("{GATEWAY}@{}", self.0))
    }
}

impl UserAddress {
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let refused = || NameError::User(clip(text));
        let (local, host) = text.split_once('@').ok_or_else(refused)?;
        ServerName::parse(host).map_err(|_| refused())?;
        if is_local(local) {
            Ok(Self(text.to_owned()))
        } else {
            Err(refused())
        }
    }

    /// A user of `network` at `server`; `local` is percent-encoded where the grammar demands it.
    ///
    /// Returns `None` when the result would be too long to be a name.
    pub fn of_network(local: &str, network: &str, server: &ServerName) -> Option<Self> {
        Self::parse(&format!("{}@{network}.{server}", encode_local(local))).ok()
    }

    fn host(&self) -> &str {
        self.0.split_once('@').map_or("", |(_, host)| host)
    }

    /// Whether `server` is the one that speaks for this user: `domain` or `network.domain`.
    pub fn is_of(&self, server: &ServerName) -> bool {
        let host = self.host();
        host == server.as_str()
            || host
                .strip_suffix(server.as_str())
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(is_label)
    }
}

impl Alias {
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let refused = || NameError::Alias(clip(text));
        let (name, domain) = text
            .strip_prefix('#')
            .and_then(|rest| rest.split_once('@'))
            .ok_or_else(refused)?;
        if !is_room_name(name) || ServerName::parse(domain).is_err() {
            return Err(refused());
        }
        Ok(Self(text.to_owned()))
    }

    /// `#name@server`, or nothing when `name` cannot be part of an alias.
    pub fn new(name: &str, server: &ServerName) -> Option<Self> {
        is_room_name(name).then(|| Self(format!("#{name}@{server}")))
    }

    pub fn name(&self) -> &str {
        self.0
            .trim_start_matches('#')
            .split('@')
            .next()
            .unwrap_or("")
    }

    pub fn server(&self) -> ServerName {
        ServerName(
            self.0
                .split_once('@')
                .map_or("", |(_, domain)| domain)
                .to_owned(),
        )
    }
}

impl EventId {
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let hash = decode_hash(text).ok_or_else(|| NameError::Event(clip(text)))?;
        Ok(Self::from_hash(hash))
    }

    pub fn from_hash(hash: [u8; 32]) -> Self {
        Self(URL_SAFE_NO_PAD.encode(hash))
    }

    /// The room that this event begins, if it is a genesis.
    pub fn as_room(&self) -> RoomId {
        RoomId(format!("!{}", self.0))
    }
}

impl RoomId {
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let refused = || NameError::Room(clip(text));
        let hash = text.strip_prefix('!').ok_or_else(refused)?;
        EventId::parse(hash).map_err(|_| refused())?;
        Ok(Self(text.to_owned()))
    }

    /// The id of the room's first event.
    pub fn genesis(&self) -> EventId {
        EventId(self.0.trim_start_matches('!').to_owned())
    }
}

impl Kid {
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let ok = (1..=32).contains(&text.len())
            && text
                .bytes()
                .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'));
        if ok {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Kid(clip(text)))
        }
    }
}

/// Decodes 32 bytes of unpadded base64url; exactly one text stands for each value.
pub fn decode_hash(text: &str) -> Option<[u8; 32]> {
    if text.len() != 43 {
        return None;
    }
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

/// Percent-encodes everything that a local part cannot hold (PROTOCOL 2.2).
pub fn encode_local(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'=' | b'-') {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("a string takes whatever is written");
        }
    }
    out
}

fn is_local(local: &str) -> bool {
    let bytes = local.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'=' | b'-' => at += 1,
            b'%' => {
                let hex = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_hexdigit);
                if !hex(at + 1) || !hex(at + 2) {
                    return false;
                }
                at += 3;
            }
            _ => return false,
        }
    }
    (1..=255).contains(&bytes.len())
}

fn is_label(label: &str) -> bool {
    let bytes = label.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes
            .iter()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && bytes.first() != Some(&b'-')
        && bytes.last() != Some(&b'-')
}

fn is_room_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// What a stranger called a name, short enough for a log line.
fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use comity_bridge::BridgeKind;

    use super::*;
    use crate::Federation;

    #[test]
    fn f23_a_server_name_has_one_spelling() {
        for good in [
            "a.example",
            "xn--bcher-kva.example",
            "gw-1.test",
            "1.2.3.4.example",
        ] {
            assert!(ServerName::parse(good).is_ok(), "{good}");
        }
        let long = format!("{}.example", "a.".repeat(130));
        for bad in [
            "",
            "localhost",
            "A.example",
            "a.example.",
            ".a.example",
            "a..example",
            "a.example:443",
            "127.0.0.1",
            "[::1]",
            "a_b.example",
            "bücher.example",
            "-a.example",
            "a-.example",
            "a.example/x",
            "a.example\n",
            long.as_str(),
        ] {
            assert!(ServerName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_user_belongs_to_the_domain_or_to_one_network_below_it() {
        let server = ServerName::parse("a.example").expect("a name");
        let of = |user: &str| UserAddress::parse(user).expect("an address").is_of(&server);
        assert!(of("alice@a.example"));
        assert!(of("alice@libera.a.example"));
        assert!(!of("alice@x.libera.a.example"));
        assert!(!of("alice@ba.example"));
        assert!(!of("alice@example.org"));
        assert!(!of("alice@a.example.org"));
    }

    #[test]
    fn anything_that_a_network_calls_a_user_becomes_an_address() {
        let server = ServerName::parse("a.example").expect("a name");
        let user = UserAddress::of_network("[bob]@home|", "libera", &server).expect("an address");
        assert_eq!(user.as_str(), "%5Bbob%5D%40home%7C@libera.a.example");
        assert!(UserAddress::of_network(&"é".repeat(100), "libera", &server).is_none());
        assert!(UserAddress::of_network("", "libera", &server).is_none());
    }

    #[test]
    fn an_id_with_stray_bits_or_padding_is_refused() {
        let id = EventId::from_hash([7; 32]);
        assert_eq!(EventId::parse(id.as_str()), Ok(id.clone()));
        assert_eq!(
            RoomId::parse(id.as_room().as_str())
                .expect("a room")
                .genesis(),
            id
        );
        let mut stray = id.as_str().to_owned();
        stray.pop();
        stray.push('d');
        assert!(EventId::parse(&stray).is_err());
        assert!(EventId::parse(&format!("{id}=")).is_err());
        assert!(RoomId::parse(id.as_str()).is_err());
    }

    #[test]
    fn an_alias_is_a_name_and_a_server() {
        let alias = Alias::parse("#go@gw2.example").expect("an alias");
        assert_eq!(
            (alias.name(), alias.server().as_str()),
            ("go", "gw2.example")
        );
        for bad in [
            "go@gw2.example",
            "#@gw2.example",
            "#go",
            "#a b@gw2.example",
            "#go@GW2.example",
            "#a/b@x.example",
        ] {
            assert!(Alias::parse(bad).is_err(), "{bad}");
            let instead = Federation.channel(bad).expect_err(bad);
            assert!(instead.contains("#name@domain"), "{instead}");
        }
        assert_eq!(
            Federation.channel("#go@gw2.example"),
            Ok("#go@gw2.example".to_owned())
        );
    }
}
