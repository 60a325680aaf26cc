//! The key document: which keys a server signs with (PROTOCOL 4).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::json;
use super::sign::{OwnKey, PublicKey, Purpose, parse_signature, signature_text};
use crate::ident::{Kid, ServerName, decode_hash};

/// The longest key document, in bytes.
pub const MAX_KEYS: usize = 64 * 1024;
/// The longest time for which a document may promise to be valid.
const MAX_VALIDITY_MS: u64 = 7 * 24 * 3600 * 1000;
/// How far a peer's clock may be ahead of ours.
const CLOCK_SKEW_MS: u64 = 5 * 60 * 1000;
const MAX_KEY_COUNT: usize = 8;

/// Why a key document is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("the key document is not in canonical form: {0}")]
    NotCanonical(#[from] json::CanonicalError),
    #[error("the key document has a field that is missing or not of its form")]
    Malformed,
    #[error("the key document belongs to {0}")]
    OtherServer(ServerName),
    #[error("the key document lacks a valid signature by its key {0}")]
    Signature(Kid),
    #[error("the key document has run out")]
    Expired,
    #[error("the key document promises to be valid for more than seven days")]
    TooLong,
    #[error("the TXT record _chat-key and the key document contradict each other")]
    Txt,
    #[error("the key document contradicts the one pinned before")]
    Changed,
}

/// A key document whose signatures verify against its own keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDocument {
    pub server: ServerName,
    pub recovery: String,
    pub valid_until: u64,
    keys: BTreeMap<Kid, PublicKey>,
    retired: Vec<Kid>,
    value: Value,
}

/// The document as JSON.
#[derive(Serialize, Deserialize)]
struct Wire {
    v: u8,
    server: ServerName,
    keys: BTreeMap<Kid, WireKey>,
    #[serde(default)]
    retired: BTreeMap<Kid, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prev: Option<String>,
    recovery: String,
    valid_until: u64,
    sig: BTreeMap<Kid, String>,
}

#[derive(Serialize, Deserialize)]
struct WireKey {
    ed25519: String,
    nbf: u64,
    exp: u64,
}

impl KeyDocument {
    /// Parses a document that was fetched from `server` at `now_ms` (PROTOCOL 4.3).
    pub fn parse_fetched(bytes: &[u8], server: &ServerName, now_ms: u64) -> Result<Self, KeyError> {
        let document = Self::from_value(json::parse(bytes, MAX_KEYS)?)?;
        if document.server != *server {
            return Err(KeyError::OtherServer(document.server));
        }
        if document.valid_until <= now_ms {
            return Err(KeyError::Expired);
        }
        if document.valid_until > now_ms + MAX_VALIDITY_MS + CLOCK_SKEW_MS {
            return Err(KeyError::TooLong);
        }
        Ok(document)
    }

    /// Parses a document that stands in a room: times are not looked at (PROTOCOL 4.7).
    pub fn from_value(value: Value) -> Result<Self, KeyError> {
        Self::read(value, true)
    }

    /// Reads back a document whose signatures were verified when it was stored.
    pub fn from_store(bytes: &[u8]) -> Result<Self, KeyError> {
        Self::read(json::parse(bytes, MAX_KEYS)?, false)
    }

    fn read(value: Value, verify: bool) -> Result<Self, KeyError> {
        let wire: Wire = serde_json::from_value(value.clone()).map_err(|_| KeyError::Malformed)?;
        let object = value.as_object().ok_or(KeyError::Malformed)?;
        let one_to_eight = (1..=MAX_KEY_COUNT).contains(&wire.keys.len());
        if wire.v != 1
            || !one_to_eight
            || wire.sig.len() != wire.keys.len()
            || decode_hash(&wire.recovery).is_none()
        {
            return Err(KeyError::Malformed);
        }
        let message = Purpose::Keys.message(&json::object_without(object, &["sig"])?);
        let mut keys = BTreeMap::new();
        for (kid, key) in wire.keys {
            let public = PublicKey::parse(&key.ed25519).ok_or(KeyError::Malformed)?;
            let signature = wire.sig.get(&kid).and_then(|text| parse_signature(text));
            if verify && !signature.is_some_and(|signature| public.verify(&message, &signature)) {
                return Err(KeyError::Signature(kid));
            }
            keys.insert(kid, public);
        }
        Ok(Self {
            server: wire.server,
            recovery: wire.recovery,
            valid_until: wire.valid_until,
            keys,
            retired: wire.retired.into_keys().collect(),
            value,
        })
    }

    /// Composes and signs the document of this server, which has one key.
    pub fn compose(
        server: &ServerName,
        key: &OwnKey,
        recovery: &str,
        created_ms: u64,
        now_ms: u64,
    ) -> Self {
        /// Keys of this version are not rotated; ten years keep `exp` out of the way.
        const KEY_LIFE_MS: u64 = 10 * 365 * 24 * 3600 * 1000;
        let public = key.public();
        let mut value = json!({
            "v": 1,
            "server": server,
            "keys": { key.kid.as_str(): { "ed25519": public.to_text(), "nbf": created_ms, "exp": created_ms + KEY_LIFE_MS } },
            "retired": {},
            "recovery": recovery,
            "valid_until": now_ms + MAX_VALIDITY_MS,
        });
        let canonical = json::to_bytes(&value).expect("made of ASCII keys and small integers");
        let signature = signature_text(&key.sign(&Purpose::Keys.message(&canonical)));
        value["sig"] = json!({ key.kid.as_str(): signature });
        Self::from_value(value).expect("signed with its own key")
    }

    pub fn key(&self, kid: &Kid) -> Option<&PublicKey> {
        self.keys.get(kid)
    }

    pub fn value(&self) -> &Value {
        &self.value
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        json::to_bytes(&self.value).expect("it was parsed from its canonical form")
    }

    /// Whether `newer` may take the place of this one without further proof: the same recovery
    /// key, and no key name that changed its key (PROTOCOL 4.5, attack F7).
    pub fn allows(&self, newer: &Self) -> Result<(), KeyError> {
        let same_keys = self
            .keys
            .iter()
            .all(|(kid, key)| match newer.keys.get(kid) {
                Some(other) => other == key,
                None => newer.retired.contains(kid),
            });
        let same_recovery = self.recovery == newer.recovery;
        if self.server == newer.server && same_recovery && same_keys {
            Ok(())
        } else {
            Err(KeyError::Changed)
        }
    }

    /// Whether `newer`, fetched from the server itself, may take the place of this one, which is pinned. Every pinned key has to sign it: a
    /// key goes only with a rotation, which this version refuses (PROTOCOL 14), and whoever holds no more than the server's
    /// web site could otherwise retire it.
    pub fn stays(&self, newer: &Self) -> Result<(), KeyError> {
        self.allows(newer)?;
        if self.keys.keys().all(|kid| newer.keys.contains_key(kid)) {
            Ok(())
        } else {
            Err(KeyError::Changed)
        }
    }

    /// The text of the TXT record `_chat-key.<domain>` that goes with this document.
    pub fn txt(&self) -> String {
        let mut text = format!("v=1; h={}", self.recovery);
        if let Some((kid, key)) = self.keys.first_key_value() {
            text.push_str(&format!("; kid={kid}; p={}", key.to_text()));
        }
        text
    }

    /// Compares the document with the text of a TXT record (PROTOCOL 4.4).
    pub fn check_txt(&self, text: &str) -> Result<(), KeyError> {
        let fields: BTreeMap<&str, &str> = text
            .split(';')
            .filter_map(|field| field.trim().split_once('='))
            .collect();
        let recovery = fields.get("h").is_some_and(|h| *h == self.recovery);
        let key = match (fields.get("kid"), fields.get("p")) {
            (Some(kid), Some(public)) => Kid::parse(kid)
                .ok()
                .and_then(|kid| self.keys.get(&kid).cloned())
                .is_some_and(|key| key.to_text() == *public),
            (_, None) => true,
            (None, Some(public)) => self.keys.values().any(|key| key.to_text() == *public),
        };
        let ok = fields.get("v") == Some(&"1") && recovery && key;
        if ok { Ok(()) } else { Err(KeyError::Txt) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_732_280_000_000;

    fn server(name: &str) -> ServerName {
        ServerName::parse(name).expect("a name")
    }

    fn own(seed: u8) -> OwnKey {
        OwnKey::from_seed(Kid::parse("k1").expect("a name"), &[seed; 32])
    }

    fn document(seed: u8, recovery: u8) -> KeyDocument {
        let recovery = own(recovery).public().hash();
        KeyDocument::compose(&server("a.example"), &own(seed), &recovery, NOW, NOW)
    }

    #[test]
    fn a_document_is_read_back_as_it_was_composed() {
        let document = document(1, 9);
        let read = KeyDocument::parse_fetched(&document.to_bytes(), &server("a.example"), NOW)
            .expect("valid");
        assert_eq!(read, document);
    }

    #[test]
    fn a_document_of_another_server_or_another_time_is_refused() {
        let bytes = document(1, 9).to_bytes();
        let at = |name, now| {
            KeyDocument::parse_fetched(&bytes, &server(name), now).expect_err("refused")
        };
        assert_eq!(
            at("b.example", NOW),
            KeyError::OtherServer(server("a.example"))
        );
        assert_eq!(at("a.example", NOW + MAX_VALIDITY_MS), KeyError::Expired);
        assert_eq!(at("a.example", NOW - CLOCK_SKEW_MS - 1), KeyError::TooLong);
    }

    #[test]
    fn a_document_is_signed_by_each_of_its_keys() {
        let mut value = document(1, 9).value().clone();
        value["keys"]["k2"] = json!({ "ed25519": own(2).public().to_text(), "nbf": 0, "exp": 1 });
        assert_eq!(
            KeyDocument::from_value(value.clone()).expect_err("refused"),
            KeyError::Malformed
        );
        value["sig"]["k2"] = value["sig"]["k1"].clone();
        assert!(matches!(
            KeyDocument::from_value(value),
            Err(KeyError::Signature(_))
        ));
        let mut changed = document(1, 9).value().clone();
        changed["valid_until"] = json!(NOW + 1);
        assert!(matches!(
            KeyDocument::from_value(changed),
            Err(KeyError::Signature(_))
        ));
    }

    #[test]
    fn a_pinned_key_is_not_retired_by_whoever_does_not_have_it() {
        let pinned = document(1, 9);
        let thief = OwnKey::from_seed(Kid::parse("k9").expect("a name"), &[66; 32]);
        let name = server("a.example");
        let mut value = KeyDocument::compose(&name, &thief, &pinned.recovery, NOW, NOW)
            .value()
            .clone();
        value["retired"] = json!({ "k1": { "exp": NOW } });
        let unsigned = json::object_without(value.as_object().expect("an object"), &["sig"]);
        let message = Purpose::Keys.message(&unsigned.expect("canonical"));
        value["sig"]["k9"] = json!(signature_text(&thief.sign(&message)));
        let theirs = KeyDocument::from_value(value).expect("signed by its own key");
        assert_eq!(pinned.stays(&theirs), Err(KeyError::Changed));
        assert_eq!(pinned.stays(&pinned), Ok(()));
    }

    #[test]
    fn f7_a_key_name_never_gets_another_key() {
        let pinned = document(1, 9);
        let again = KeyDocument::compose(
            &server("a.example"),
            &own(1),
            &pinned.recovery,
            NOW,
            NOW + 1000,
        );
        assert_eq!(pinned.allows(&again), Ok(()));
        assert_eq!(pinned.allows(&document(2, 9)), Err(KeyError::Changed));
        assert_eq!(pinned.allows(&document(1, 8)), Err(KeyError::Changed));
    }

    #[test]
    fn f7_a_txt_record_and_the_document_must_agree() {
        let document = document(1, 9);
        assert_eq!(document.check_txt(&document.txt()), Ok(()));
        assert_eq!(
            document.check_txt(&format!("v=1; h={}", document.recovery)),
            Ok(())
        );
        let other = own(3).public();
        assert_eq!(
            document.check_txt(&format!("v=1; h={}", other.hash())),
            Err(KeyError::Txt)
        );
        assert_eq!(
            document.check_txt(&format!(
                "v=1; h={}; kid=k1; p={}",
                document.recovery,
                other.to_text()
            )),
            Err(KeyError::Txt)
        );
        assert_eq!(document.check_txt("nonsense"), Err(KeyError::Txt));
    }
}
