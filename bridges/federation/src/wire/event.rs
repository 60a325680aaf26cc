//! The event envelope: fields, id and signatures (PROTOCOL 6).
//!
//! [`Event::parse`] looks at one event alone. Whether its room, parents and permissions exist is
//! the session's question.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::json::{self, CanonicalError};
use super::keys::KeyDocument;
use super::sign::{OwnKey, PublicKey, Purpose, hash, hash_text, parse_signature, signature_text};
use crate::ident::{EventId, Kid, RoomId, ServerName, UserAddress};

/// The longest event, in bytes as sent.
pub const MAX_EVENT: usize = 64 * 1024;
pub const MAX_PARENTS: usize = 8;
pub const MAX_AUTH: usize = 6;
pub const MAX_HOPS: usize = 8;
const MAX_SIGNATURES: usize = 4;

/// Why an event is refused; the codes of PROTOCOL 15.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    #[error("longer than {MAX_EVENT} bytes")]
    TooLarge,
    #[error("the bytes are not in canonical form")]
    NotCanonical,
    #[error("a field is missing, or not of its form")]
    Malformed,
    #[error("of another version")]
    Version,
    #[error("a critical field is not understood")]
    Crit,
    #[error("bears this server's own name and did not come from here")]
    OwnName,
    #[error("the origin is not the sender's server")]
    Origin,
    #[error("unknown room, or not a member of it")]
    Forbidden,
    #[error("the key is not the origin's")]
    Key,
    #[error("a signature does not verify")]
    Signature,
    #[error("the body is not the one that was signed")]
    BodyHash,
    #[error("the depth does not follow from the parents")]
    Depth,
    #[error("does not continue the origin's chain")]
    Chain,
    #[error("not authorised by the events it relies on")]
    Auth,
    #[error("of a kind that this version does not implement")]
    Unsupported,
    #[error("too many events wait for something that is missing")]
    Quota,
}

impl Reject {
    pub fn code(self) -> &'static str {
        match self {
            Self::TooLarge => "too-large",
            Self::NotCanonical => "not-canonical",
            Self::Malformed => "malformed",
            Self::Version => "version",
            Self::Crit => "crit",
            Self::OwnName => "own-name",
            Self::Origin => "origin",
            Self::Forbidden => "forbidden",
            Self::Key => "key",
            Self::Signature => "signature",
            Self::BodyHash => "body-hash",
            Self::Depth => "depth",
            Self::Chain => "chain",
            Self::Auth => "auth",
            Self::Unsupported => "unsupported",
            Self::Quota => "quota",
        }
    }
}

/// One hop of where an event came from (PROTOCOL 6.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    pub network: String,
    pub id: String,
    pub via: ServerName,
}

/// An event whose envelope is well formed. Nothing is known about its signatures yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub id: EventId,
    /// Of a genesis: the room that it begins.
    pub room: RoomId,
    pub kind: String,
    pub origin: ServerName,
    pub sender: UserAddress,
    pub seq: u64,
    /// The field `self`: the origin's event before this one.
    pub previous: Option<EventId>,
    pub parents: Vec<EventId>,
    pub auth: Vec<EventId>,
    pub depth: u64,
    pub hlc: (u64, u64),
    /// `None` when the body was erased or is encrypted.
    pub body: Option<Value>,
    pub encrypted: bool,
    pub prov: Vec<Hop>,
    signatures: BTreeMap<Kid, [u8; 64]>,
    signed: Vec<u8>,
    bytes: Vec<u8>,
    verified: Verified,
}

/// Which keys have made which signatures of an event: the same question has the same answer, whoever asks it again.
#[derive(Debug, Clone, Default)]
struct Verified(Vec<(Kid, PublicKey, bool)>);

impl PartialEq for Verified {
    /// What was asked about an event is no part of it.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Event {
    /// Parses the bytes of one event as they came over the wire.
    pub fn parse(bytes: &[u8]) -> Result<Self, Reject> {
        let value = json::parse(bytes, MAX_EVENT).map_err(|error| match error {
            CanonicalError::TooLarge(_) => Reject::TooLarge,
            _ => Reject::NotCanonical,
        })?;
        let Value::Object(object) = value else {
            return Err(Reject::Malformed);
        };
        Self::from_object(object, bytes)
    }

    fn from_object(mut object: Map<String, Value>, bytes: &[u8]) -> Result<Self, Reject> {
        if object.get("v") != Some(&json!(1)) {
            return Err(Reject::Version);
        }
        let signed = json::object_without(&object, &["sig", "body", "enc"])
            .map_err(|_| Reject::NotCanonical)?;
        let signed = Purpose::Event.message(&signed);
        let id = EventId::from_hash(hash(&signed));
        check_crit(&object)?;

        let kind = text(&object, "type")?.to_owned();
        let is_genesis = kind == "genesis";
        let room = match object.get("room") {
            None if is_genesis => id.as_room(),
            Some(Value::String(room)) if !is_genesis => {
                RoomId::parse(room).map_err(|_| Reject::Malformed)?
            }
            _ => return Err(Reject::Malformed),
        };
        let origin = ServerName::parse(text(&object, "origin")?).map_err(|_| Reject::Malformed)?;
        let sender = UserAddress::parse(text(&object, "sender")?).map_err(|_| Reject::Malformed)?;
        if !sender.is_of(&origin) {
            return Err(Reject::Origin);
        }
        let seq = integer(object.get("seq"))?;
        let previous = match object.get("self") {
            None if seq == 0 => None,
            Some(Value::String(id)) if seq > 0 => {
                Some(EventId::parse(id).map_err(|_| Reject::Malformed)?)
            }
            _ => return Err(Reject::Chain),
        };
        let parents = ids(object.get("parents"), MAX_PARENTS)?;
        let auth = ids(object.get("auth"), MAX_AUTH)?;
        let depth = integer(object.get("depth"))?;
        if parents.is_empty() != is_genesis || (depth == 0) != is_genesis {
            return Err(Reject::Depth);
        }
        if is_genesis && (seq != 0 || !auth.is_empty()) {
            return Err(Reject::Malformed);
        }
        let hlc = match object.get("hlc") {
            Some(Value::Array(pair)) if pair.len() == 2 => {
                (integer(pair.first())?, integer(pair.get(1))?)
            }
            _ => return Err(Reject::Malformed),
        };
        let prov = hops(object.get("prov"))?;
        let signatures = signatures(object.get("sig"), &origin)?;
        let body_hash = text(&object, "bh")?.to_owned();
        crate::ident::decode_hash(&body_hash).ok_or(Reject::Malformed)?;
        let encrypted = object.contains_key("enc");
        let body = object.remove("body");
        if encrypted && body.is_some() || body.as_ref().is_some_and(|body| !body.is_object()) {
            return Err(Reject::Malformed);
        }
        let content = body.as_ref().or_else(|| object.get("enc"));
        if let Some(content) = content {
            let canonical = json::to_bytes(content).map_err(|_| Reject::NotCanonical)?;
            if hash_text(&canonical) != body_hash {
                return Err(Reject::BodyHash);
            }
        }
        Ok(Self {
            id,
            room,
            kind,
            origin,
            sender,
            seq,
            previous,
            parents,
            auth,
            depth,
            hlc,
            body,
            encrypted,
            prov,
            signatures,
            signed,
            bytes: bytes.to_vec(),
            verified: Verified::default(),
        })
    }

    /// The bytes as signed and sent; never printed anew.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Verifies every signature against `keys`, which are the origin's (PROTOCOL 6.4).
    pub fn verify(&self, keys: &KeyDocument) -> Result<(), Reject> {
        if keys.server != self.origin {
            return Err(Reject::Key);
        }
        for (kid, signature) in &self.signatures {
            let key = keys.key(kid).ok_or(Reject::Key)?;
            let mut known = self.verified.0.iter();
            let is_genuine = known
                .find(|(name, with, _)| name == kid && with == key)
                .map_or_else(
                    || key.verify(&self.signed, signature),
                    |(_, _, is_genuine)| *is_genuine,
                );
            if !is_genuine {
                return Err(Reject::Signature);
            }
        }
        Ok(())
    }

    /// Does the work of [`Event::verify`] with these keys before it is asked for.
    pub fn verify_ahead(&mut self, keys: &KeyDocument) {
        if keys.server != self.origin {
            return;
        }
        for (kid, signature) in &self.signatures {
            let Some(key) = keys.key(kid) else {
                continue;
            };
            let known = &mut self.verified.0;
            if !known
                .iter()
                .any(|(name, with, _)| name == kid && with == key)
            {
                known.push((
                    kid.clone(),
                    key.clone(),
                    key.verify(&self.signed, signature),
                ));
            }
        }
    }

    /// Every event that this one names: what has to be there before it can be judged.
    pub fn references(&self) -> impl Iterator<Item = &EventId> {
        self.parents.iter().chain(&self.auth).chain(&self.previous)
    }
}

/// An event that this server is about to sign. Always composed here, from our own words only:
/// a server that signs what another composed can be made to say anything (attack F6).
#[derive(Debug, Clone)]
pub struct Draft {
    /// `None` for a genesis.
    pub room: Option<RoomId>,
    pub kind: &'static str,
    pub origin: ServerName,
    pub sender: UserAddress,
    pub seq: u64,
    pub previous: Option<EventId>,
    pub parents: Vec<EventId>,
    pub auth: Vec<EventId>,
    pub depth: u64,
    pub hlc: (u64, u64),
    pub body: Value,
    pub prov: Vec<Hop>,
}

impl Draft {
    /// Signs the event. Fails when the content cannot stand in an event: too large, too deep, not integers.
    pub fn sign(mut self, key: &OwnKey) -> Result<Event, Reject> {
        self.parents.sort_unstable();
        self.auth.sort_unstable();
        let body = json::to_bytes(&self.body).map_err(|_| Reject::NotCanonical)?;
        let mut object = Map::new();
        let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
        put("v", json!(1));
        put("type", json!(self.kind));
        put("origin", json!(self.origin));
        put("sender", json!(self.sender));
        put("seq", json!(self.seq));
        put("parents", json!(self.parents));
        put("auth", json!(self.auth));
        put("depth", json!(self.depth));
        put("hlc", json!([self.hlc.0, self.hlc.1]));
        put("bh", json!(hash_text(&body)));
        put("crit", json!([]));
        let prov: Vec<Value> = self.prov.iter().map(Hop::to_json).collect();
        put("prov", Value::Array(prov));
        if let Some(room) = &self.room {
            put("room", json!(room));
        }
        if let Some(previous) = &self.previous {
            put("self", json!(previous));
        }
        let signed = json::object_without(&object, &[]).map_err(|_| Reject::NotCanonical)?;
        let signature = key.sign(&Purpose::Event.message(&signed));
        let kids = BTreeMap::from([(key.kid.as_str(), signature_text(&signature))]);
        object.insert("sig".to_owned(), json!({ self.origin.as_str(): kids }));
        object.insert("body".to_owned(), self.body);
        let bytes = json::object_without(&object, &[]).map_err(|_| Reject::NotCanonical)?;
        // Read back as a stranger would: nothing leaves that we would refuse.
        Event::parse(&bytes)
    }
}

impl Hop {
    fn to_json(&self) -> Value {
        json!({ "network": self.network, "id": self.id, "via": self.via })
    }
}

fn text<'a>(object: &'a Map<String, Value>, key: &str) -> Result<&'a str, Reject> {
    object
        .get(key)
        .and_then(Value::as_str)
        .ok_or(Reject::Malformed)
}

fn integer(value: Option<&Value>) -> Result<u64, Reject> {
    value.and_then(Value::as_u64).ok_or(Reject::Malformed)
}

fn check_crit(object: &Map<String, Value>) -> Result<(), Reject> {
    const KNOWN: [&str; 17] = [
        "v", "room", "type", "origin", "sender", "seq", "self", "parents", "auth", "depth", "hlc",
        "bh", "body", "enc", "prov", "crit", "sig",
    ];
    let Some(Value::Array(crit)) = object.get("crit") else {
        return Err(Reject::Malformed);
    };
    let known = |name: &Value| name.as_str().is_some_and(|name| KNOWN.contains(&name));
    if crit.iter().all(known) {
        Ok(())
    } else {
        Err(Reject::Crit)
    }
}

/// Parses a strictly ascending list of ids.
fn ids(value: Option<&Value>, most: usize) -> Result<Vec<EventId>, Reject> {
    let Some(Value::Array(items)) = value else {
        return Err(Reject::Malformed);
    };
    if items.len() > most {
        return Err(Reject::Malformed);
    }
    let mut ids: Vec<EventId> = Vec::with_capacity(items.len());
    for item in items {
        let id = item
            .as_str()
            .and_then(|id| EventId::parse(id).ok())
            .ok_or(Reject::Malformed)?;
        if ids.last().is_some_and(|last| *last >= id) {
            return Err(Reject::Malformed);
        }
        ids.push(id);
    }
    Ok(ids)
}

fn hops(value: Option<&Value>) -> Result<Vec<Hop>, Reject> {
    let Some(Value::Array(items)) = value else {
        return Err(Reject::Malformed);
    };
    if items.len() > MAX_HOPS {
        return Err(Reject::Malformed);
    }
    items
        .iter()
        .map(|item| {
            let object = item.as_object().ok_or(Reject::Malformed)?;
            Ok(Hop {
                network: text(object, "network")?.to_owned(),
                id: text(object, "id")?.to_owned(),
                via: ServerName::parse(text(object, "via")?).map_err(|_| Reject::Malformed)?,
            })
        })
        .collect()
}

/// `{origin: {kid: signature}}`, the origin and nobody else.
fn signatures(
    value: Option<&Value>,
    origin: &ServerName,
) -> Result<BTreeMap<Kid, [u8; 64]>, Reject> {
    let servers = value.and_then(Value::as_object).ok_or(Reject::Malformed)?;
    let keys = servers
        .get(origin.as_str())
        .and_then(Value::as_object)
        .ok_or(Reject::Signature)?;
    if servers.len() != 1 || keys.is_empty() || keys.len() > MAX_SIGNATURES {
        return Err(Reject::Signature);
    }
    keys.iter()
        .map(|(kid, signature)| {
            let kid = Kid::parse(kid).map_err(|_| Reject::Malformed)?;
            let signature = signature
                .as_str()
                .and_then(parse_signature)
                .ok_or(Reject::Signature)?;
            Ok((kid, signature))
        })
        .collect()
}

#[cfg(test)]
mod tests;
