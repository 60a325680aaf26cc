//! Ed25519 and SHA-256 as the federation uses them: with a prefix for each purpose, and strictly.
//!
//! The prefix keeps a signature made for one purpose from being valid for another (attack F5).
//! Verification is `verify_strict` everywhere: servers that differed here would split rooms.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

use crate::ident::{Kid, decode_hash};

/// What a signature or a hash is for (PROTOCOL 4.2, 6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Event,
    Keys,
}

impl Purpose {
    fn prefix(self) -> &'static [u8] {
        match self {
            Self::Event => b"CHAT1-EVENT\0",
            Self::Keys => b"CHAT1-KEYS\0",
        }
    }

    /// The bytes that are hashed or signed for this purpose.
    pub fn message(self, canonical: &[u8]) -> Vec<u8> {
        [self.prefix(), canonical].concat()
    }
}

/// A public key that somebody showed us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Parses unpadded base64url of 32 bytes that are a point of the curve.
    pub fn parse(text: &str) -> Option<Self> {
        let key = VerifyingKey::from_bytes(&decode_hash(text)?).ok()?;
        // A key of small order verifies signatures over many messages at once.
        (!key.is_weak()).then_some(Self(key))
    }

    pub fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0.as_bytes())
    }

    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature)
            .is_ok_and(|signature| self.0.verify_strict(message, &signature).is_ok())
    }

    /// The hash under which a key can be announced without being shown.
    pub fn hash(&self) -> String {
        hash_text(self.0.as_bytes())
    }
}

/// This gateway's signing key.
#[derive(Clone)]
pub struct OwnKey {
    pub kid: Kid,
    key: SigningKey,
}

impl OwnKey {
    pub fn from_seed(kid: Kid, seed: &[u8; 32]) -> Self {
        Self {
            kid,
            key: SigningKey::from_bytes(seed),
        }
    }

    pub fn public(&self) -> PublicKey {
        PublicKey(self.key.verifying_key())
    }

    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

impl std::fmt::Debug for OwnKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OwnKey({})", self.kid)
    }
}

pub fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

pub fn hash_text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(hash(bytes))
}

pub fn signature_text(signature: &[u8; 64]) -> String {
    URL_SAFE_NO_PAD.encode(signature)
}

/// Decodes a signature as it stands in an event or a key document.
pub fn parse_signature(text: &str) -> Option<[u8; 64]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> OwnKey {
        OwnKey::from_seed(Kid::parse("k1").expect("a name"), &[seed; 32])
    }

    #[test]
    fn a_signature_for_one_purpose_is_worth_nothing_for_another() {
        let key = key(1);
        let signature = key.sign(&Purpose::Event.message(b"{}"));
        assert!(
            key.public()
                .verify(&Purpose::Event.message(b"{}"), &signature)
        );
        assert!(
            !key.public()
                .verify(&Purpose::Keys.message(b"{}"), &signature)
        );
    }

    #[test]
    fn f1_malleable_and_small_order_signatures_are_refused() {
        // The order of the group, little endian: S + L verifies in lenient implementations.
        const L: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9,
            0xde, 0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let key = key(2);
        let mut signature = key.sign(b"x");
        let mut carry = 0_u16;
        for (byte, add) in signature.iter_mut().skip(32).zip(L) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            *byte = (sum & 0xff) as u8;
            carry = sum >> 8;
        }
        assert!(!key.public().verify(b"x", &signature));

        // The identity is a point of order one; with R = identity and S = 0 it signs everything.
        let mut identity = [0_u8; 32];
        identity[0] = 1;
        assert!(PublicKey::parse(&URL_SAFE_NO_PAD.encode(identity)).is_none());
    }
}
