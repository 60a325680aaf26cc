//! How much one peer may ask at once, and what it has asked before.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::ident::ServerName;
use crate::wire::requests::MAX_SKEW;

/// Requests of one peer under way at once.
const MAX_CONCURRENT: usize = 8;
/// Nonces of one peer remembered; a peer that uses more within ten minutes has to wait.
const MAX_NONCES: usize = 20_000;
/// Peers remembered at once.
const MAX_PEERS: usize = 10_000;

/// Counts and remembers, for each peer.
#[derive(Default)]
pub struct Gate {
    peers: Mutex<HashMap<ServerName, Peer>>,
}

struct Peer {
    turns: Arc<Semaphore>,
    /// Nonce and when it may be forgotten, in seconds.
    nonces: HashMap<String, u64>,
}

impl Gate {
    /// A turn for a request, until it is dropped; none when too many are under way.
    pub fn enter(&self, peer: &ServerName) -> Option<OwnedSemaphorePermit> {
        self.with(peer, |peer| {
            Arc::clone(&peer.turns).try_acquire_owned().ok()
        })?
    }

    /// Notes a nonce. Returns false for one that was here before (attack F5), or when there is no place to note it.
    pub fn is_new(&self, peer: &ServerName, nonce: &str, now: u64) -> bool {
        let noted = self.with(peer, |peer| {
            if peer.nonces.len() >= MAX_NONCES {
                peer.nonces.retain(|_, until| *until > now);
            }
            // A request is valid from `MAX_SKEW` before `created` to as long after it.
            peer.nonces.len() < MAX_NONCES
                && peer
                    .nonces
                    .insert(nonce.to_owned(), now + 2 * MAX_SKEW)
                    .is_none()
        });
        noted.unwrap_or(false)
    }

    fn with<T>(&self, name: &ServerName, use_it: impl FnOnce(&mut Peer) -> T) -> Option<T> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= MAX_PEERS && !peers.contains_key(name) {
            return None;
        }
        let peer = peers.entry(name.clone()).or_insert_with(|| Peer {
            turns: Arc::new(Semaphore::new(MAX_CONCURRENT)),
            nonces: HashMap::new(),
        });
        Some(use_it(peer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f5_a_nonce_counts_once_for_each_peer() {
        let gate = Gate::default();
        let (a, b) = (
            ServerName::parse("a.example").expect("a name"),
            ServerName::parse("b.example").expect("a name"),
        );
        assert!(gate.is_new(&a, "one", 0));
        assert!(!gate.is_new(&a, "one", 5));
        assert!(gate.is_new(&b, "one", 5));
    }

    #[test]
    fn one_peer_has_a_bounded_number_of_turns() {
        let gate = Gate::default();
        let a = ServerName::parse("a.example").expect("a name");
        let turns: Vec<_> = (0..MAX_CONCURRENT)
            .map(|_| gate.enter(&a).expect("a turn"))
            .collect();
        assert!(gate.enter(&a).is_none());
        drop(turns);
        assert!(gate.enter(&a).is_some());
    }
}
