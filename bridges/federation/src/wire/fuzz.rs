//! Any bytes at all: every parser refuses them with an error, and none panics.

use http::{HeaderMap, HeaderValue};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::event::Event;
use super::keys::{KeyDocument, MAX_KEYS};
use super::requests::{self, Covered};
use super::{api, json};
use crate::ident::{Alias, EventId, Kid, RoomId, ServerName, UserAddress};

const GOLDEN: &str = include_str!("../../tests/data/event.json");
const ROUNDS: u64 = 20_000;

/// The golden event with a few bytes changed, cut out or doubled.
fn mutated(random: &mut StdRng) -> Vec<u8> {
    let mut bytes = GOLDEN.trim_end().as_bytes().to_vec();
    for _ in 0..random.random_range(1..8) {
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..4) {
            0 => bytes[at] = random.random(),
            1 => bytes[at] = b"{}[]\",:0-e.\\ \0"[random.random_range(0..14)],
            2 => drop(bytes.drain(at..(at + random.random_range(1..40)).min(bytes.len()))),
            _ => {
                let end = (at + random.random_range(1..40)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

#[test]
fn no_bytes_make_a_parser_panic() {
    for seed in 0..ROUNDS {
        let mut random = StdRng::seed_from_u64(seed);
        let bytes = mutated(&mut random);
        if let Ok(event) = Event::parse(&bytes) {
            assert_eq!(event.bytes(), bytes, "seed {seed}");
        }
        if let Ok(value) = json::parse(&bytes, MAX_KEYS) {
            assert_eq!(
                json::to_bytes(&value).expect("canonical"),
                bytes,
                "seed {seed}"
            );
            drop(KeyDocument::from_value(value));
        }
        drop(serde_json::from_slice::<api::Push>(&bytes));
        drop(serde_json::from_slice::<api::JoinAnswer>(&bytes));
        let text = String::from_utf8_lossy(&bytes);
        let text = text
            .get(..text.floor_char_boundary(random.random_range(0..120)))
            .unwrap_or("");
        drop((
            ServerName::parse(text),
            UserAddress::parse(text),
            Alias::parse(text),
        ));
        drop((EventId::parse(text), RoomId::parse(text), Kid::parse(text)));
        let mut headers = HeaderMap::new();
        for name in ["content-digest", "signature-input", "signature"] {
            if let Ok(value) = HeaderValue::from_str(text) {
                headers.insert(name, value);
            }
        }
        let covered = Covered {
            method: "POST",
            authority: "a.example",
            path: "/",
            query: None,
            body: &bytes,
        };
        drop(requests::parse(covered, &headers));
    }
}
