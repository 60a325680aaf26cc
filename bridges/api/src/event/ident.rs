//! Names and ids. Each type says in which scope it is unique; none is opened outside the part that made it. Those that every
//! delivery carries are shared text, so that a clone costs nothing.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use ulid::Ulid;

/// Why a name cannot be used.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum NameError {
    /// A network name is `[a-z0-9-]+`, at most 32 characters.
    #[error("a network name is 1 to 32 characters of a-z, 0-9 and \"-\", not {0:?}")]
    Network(String),
    /// A channel is `network/native name`.
    #[error("a channel is written network/native-name, not {0:?}")]
    Channel(String),
    /// A room address is `#name@domain`.
    #[error("a room address is written #name@domain, not {0:?}")]
    Room(String),
    /// A user address is `user@domain`.
    #[error("a user address is written user@domain, not {0:?}")]
    User(String),
    /// An event id is a ULID.
    #[error("an event id is 26 characters of Crockford's base 32, not {0:?}")]
    Event(String),
    /// A delivery key is `event id/channel`.
    #[error("a delivery key is an event id, \":\" and a channel, not {0:?}")]
    Delivery(String),
}

macro_rules! string_serde {
    ($name:ident, $pattern:literal) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", "pattern": $pattern})
            }
        }
    };
}

/// One configured place to connect, e.g. `libera`. Unique within a gateway's configuration.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NetworkName(Arc<str>);

impl NetworkName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NetworkName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let fits = (1..=32).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits {
            Ok(NetworkName(text.into()))
        } else {
            Err(NameError::Network(text.to_owned()))
        }
    }
}

impl fmt::Display for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
string_serde!(NetworkName, r"^[a-z0-9-]{1,32}$");

/// A place on one network where messages appear, written `network/native name` and split at the
/// first `/`. Unique within a gateway; the native part is opaque outside its bridge.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Channel {
    network: NetworkName,
    native: Arc<str>,
}

impl Channel {
    /// Joins a network and a native name. The native name must not be empty or hold control characters.
    pub fn new(network: NetworkName, native: impl Into<Arc<str>>) -> Result<Self, NameError> {
        let native = native.into();
        if native.is_empty() || native.len() > 1024 || native.chars().any(char::is_control) {
            return Err(NameError::Channel(format!("{network}/{native}")));
        }
        Ok(Channel { network, native })
    }

    /// The network that the channel is on.
    pub fn network(&self) -> &NetworkName {
        &self.network
    }

    /// What the network itself calls the channel.
    pub fn native(&self) -> &str {
        &self.native
    }
}

impl FromStr for Channel {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (network, native) = text
            .split_once('/')
            .ok_or_else(|| NameError::Channel(text.to_owned()))?;
        Channel::new(network.parse()?, native).map_err(|_| NameError::Channel(text.to_owned()))
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.native)
    }
}
string_serde!(Channel, r"^[a-z0-9-]{1,32}/.+$");

/// The gateway's own conversation, `#name@domain`. Unique in the world as far as DNS is.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RoomAddress {
    name: Arc<str>,
    domain: Arc<str>,
}

impl RoomAddress {
    /// Joins a room's name and its gateway's domain.
    pub fn new(name: &str, domain: &str) -> Result<Self, NameError> {
        let fits = |part: &str| {
            !part.is_empty()
                && part.len() <= 255
                && !part
                    .chars()
                    .any(|c| c.is_control() || c.is_whitespace() || c == '@')
        };
        if !fits(name) || !fits(domain) || name.starts_with('#') {
            return Err(NameError::Room(format!("#{name}@{domain}")));
        }
        Ok(RoomAddress {
            name: name.into(),
            domain: domain.into(),
        })
    }

    /// The part between `#` and `@`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The DNS name of the gateway that the address belongs to.
    pub fn domain(&self) -> &str {
        &self.domain
    }
}

impl FromStr for RoomAddress {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let bad = || NameError::Room(text.to_owned());
        let (name, domain) = text
            .strip_prefix('#')
            .and_then(|t| t.split_once('@'))
            .ok_or_else(bad)?;
        RoomAddress::new(name, domain)
    }
}

impl fmt::Display for RoomAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}@{}", self.name, self.domain)
    }
}
string_serde!(RoomAddress, r"^#[^#@\s][^@\s]*@[^@\s]+$");

/// The one identity that people and gateways can write down: `user@network.domain`, or `user@domain` for
/// a user of the gateway itself. The user part is percent-encoded outside `[A-Za-z0-9._=-]`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct UserAddress {
    user: String,
    host: String,
}

impl UserAddress {
    /// Makes the address of a native user, encoding what needs it.
    pub fn of(native_user: &str, host: &str) -> Self {
        let mut user = String::with_capacity(native_user.len());
        for byte in native_user.bytes() {
            if byte.is_ascii_alphanumeric() || b"._=-".contains(&byte) {
                user.push(char::from(byte));
            } else {
                user.push_str(&format!("%{byte:02X}"));
            }
        }
        UserAddress {
            user,
            host: host.to_owned(),
        }
    }

    /// The encoded user part.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The part after `@`: `network.domain`, or `domain`.
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl FromStr for UserAddress {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let bad = || NameError::User(text.to_owned());
        let (user, host) = text.split_once('@').ok_or_else(bad)?;
        let user_fits = !user.is_empty()
            && user
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._=-%".contains(&b));
        let host_fits = !host.is_empty()
            && host
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-".contains(&b));
        if user_fits && host_fits && text.len() <= 1024 {
            Ok(UserAddress {
                user: user.to_owned(),
                host: host.to_owned(),
            })
        } else {
            Err(bad())
        }
    }
}

impl fmt::Display for UserAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.user, self.host)
    }
}
string_serde!(UserAddress, r"^[A-Za-z0-9._=%-]+@[a-z0-9.-]+$");

/// An event's id on this gateway: a ULID, for people and logs. It orders nothing; `seq` does.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EventId(Ulid);

impl EventId {
    /// The id with these 128 bits.
    pub fn from_ulid(ulid: Ulid) -> Self {
        EventId(ulid)
    }

    /// The 128 bits, for stores.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_bytes()
    }

    /// The id that [`EventId::to_bytes`] gave.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        EventId(Ulid::from_bytes(bytes))
    }
}

impl FromStr for EventId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Ulid::from_string(text)
            .map(EventId)
            .map_err(|_| NameError::Event(text.to_owned()))
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
string_serde!(EventId, r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$");

/// Event times channel: the same for every attempt to show one event in one channel, across restarts.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct DeliveryKey {
    /// The event to show.
    pub event: EventId,
    /// Where to show it.
    pub channel: Channel,
}

impl FromStr for DeliveryKey {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (event, channel) = text
            .split_once(':')
            .ok_or_else(|| NameError::Delivery(text.to_owned()))?;
        Ok(DeliveryKey {
            event: event.parse()?,
            channel: channel.parse()?,
        })
    }
}

impl fmt::Display for DeliveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.event, self.channel)
    }
}
string_serde!(
    DeliveryKey,
    r"^[0-7][0-9A-HJKMNP-TV-Z]{25}:[a-z0-9-]{1,32}/.+$"
);

macro_rules! opaque_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                $name(text.to_owned())
            }
        }
        impl From<String> for $name {
            fn from(text: String) -> Self {
                $name(text)
            }
        }
    };
}

opaque_id! {
    /// What tells one inbound event from all others of its channel, for ever. Never a hash of the text.
    SourceId
}
opaque_id! {
    /// A network's own id of one part of a message, unique within its channel.
    NativeId
}
opaque_id! {
    /// How a report names an earlier message: by the native id that its network gave to it.
    NativeRef
}

/// Milliseconds since 1970-01-01T00:00Z.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    Deserialize,
    Eq,
    Hash,
    JsonSchema,
    Ord,
    PartialEq,
    PartialOrd,
    Serialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_split_at_the_first_slash() {
        let channel: Channel = "jabber/rust@conference.xmpp.example/x"
            .parse()
            .expect("a channel");
        assert_eq!(channel.network().as_str(), "jabber");
        assert_eq!(channel.native(), "rust@conference.xmpp.example/x");
        assert_eq!(channel.to_string(), "jabber/rust@conference.xmpp.example/x");
    }

    #[test]
    fn names_that_would_break_a_line_are_refused() {
        for bad in ["libera/#a\r\nQUIT", "libera/", "Libera/#a", "/#a", "libera"] {
            assert!(bad.parse::<Channel>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_user_address_encodes_what_is_not_plain() {
        let address = UserAddress::of("al ice/ü", "libera.gw1.example");
        assert_eq!(address.to_string(), "al%20ice%2F%C3%BC@libera.gw1.example");
        assert_eq!(address.to_string().parse::<UserAddress>(), Ok(address));
    }

    #[test]
    fn a_delivery_key_survives_its_text_form() {
        let key = DeliveryKey {
            event: EventId::from_bytes([7; 16]),
            channel: "home/#rust:hs.example".parse().expect("a channel"),
        };
        assert_eq!(key.to_string().parse::<DeliveryKey>(), Ok(key));
    }
}
