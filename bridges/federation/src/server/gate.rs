//! How much one peer may ask at once, and what it has asked before.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::ident::ServerName;
use crate::wire::requests::MAX_SKEW;

/// Requests of one peer under way at once.
const MAX_CONCURRENT: usize = 8;
/// Nonces of one peer remembered, for ten minutes: more than three hundred requests a second.
const MAX_NONCES: usize = 200_000;
/// Nonces of one peer that are not worth looking through.
const FEW_NONCES: usize = 1024;
/// Peers remembered at once.
const MAX_PEERS: usize = 10_000;

/// Counts and remembers, for each peer.
#[derive(Default)]
pub struct Gate {
    peers: Mutex<HashMap<ServerName, Peer>>,
    /// Of this run alone, so that nobody can make nonces that look the same.
    hasher: RandomState,
}

struct Peer {
    turns: Arc<Semaphore>,
    /// The nonces' hashes and when each may be forgotten, in seconds.
    nonces: HashMap<u64, u64>,
    /// With how many nonces they are looked through.
    tidy_at: usize,
}

impl Peer {
    fn forget_old(&mut self, now: u64) {
        self.nonces.retain(|_, until| *until > now);
        self.nonces.shrink_to(FEW_NONCES);
        self.tidy_at = (2 * self.nonces.len()).clamp(FEW_NONCES, MAX_NONCES);
    }

    fn is_idle(&self) -> bool {
        self.nonces.is_empty() && self.turns.available_permits() == MAX_CONCURRENT
    }
}

impl Gate {
    /// A turn for a request, until it is dropped; none when too many are under way.
    pub fn enter(&self, peer: &ServerName, now: u64) -> Option<OwnedSemaphorePermit> {
        self.with(peer, now, |peer| {
            Arc::clone(&peer.turns).try_acquire_owned().ok()
        })?
    }

    /// Notes a nonce. Returns false for one that was here before (attack F5), or when there is no place to note it.
    pub fn is_new(&self, peer: &ServerName, nonce: &str, now: u64) -> bool {
        let nonce = self.hasher.hash_one(nonce);
        let noted = self.with(peer, now, |peer| {
            if peer.nonces.len() >= peer.tidy_at {
                peer.forget_old(now);
            }
            // A request is valid from `MAX_SKEW` before `created` to as long after it.
            peer.nonces.len() < MAX_NONCES
                && peer.nonces.insert(nonce, now + 2 * MAX_SKEW).is_none()
        });
        noted.unwrap_or(false)
    }

    fn with<T>(
        &self,
        name: &ServerName,
        now: u64,
        use_it: impl FnOnce(&mut Peer) -> T,
    ) -> Option<T> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= MAX_PEERS && !peers.contains_key(name) {
            peers.retain(|_, peer| {
                peer.forget_old(now);
                !peer.is_idle()
            });
            if peers.len() >= MAX_PEERS {
                return None;
            }
        }
        let peer = peers.entry(name.clone()).or_insert_with(|| Peer {
            turns: Arc::new(Semaphore::new(MAX_CONCURRENT)),
            nonces: HashMap::new(),
            tidy_at: FEW_NONCES,
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
    fn a_busy_peer_is_not_shut_out_and_its_old_nonces_cost_nothing() {
        let gate = Gate::default();
        let a = ServerName::parse("a.example").expect("a name");
        // A hundred requests a second, for half an hour.
        for request in 0..180_000_u64 {
            assert!(gate.is_new(&a, &request.to_string(), request / 100));
        }
        let kept = gate.with(&a, 1800, |peer| peer.nonces.len());
        assert!(kept < Some(130_000), "{kept:?}");
    }

    #[test]
    fn servers_that_are_gone_make_room_for_new_ones() {
        let gate = Gate::default();
        let server = |n: usize| ServerName::parse(&format!("s{n}.example")).expect("a name");
        for n in 0..MAX_PEERS {
            assert!(gate.is_new(&server(n), "one", 0));
        }
        assert!(!gate.is_new(&server(MAX_PEERS), "one", 1));
        assert!(gate.is_new(&server(MAX_PEERS), "one", 2 * MAX_SKEW));
    }

    #[test]
    fn one_peer_has_a_bounded_number_of_turns() {
        let gate = Gate::default();
        let a = ServerName::parse("a.example").expect("a name");
        let turns: Vec<_> = (0..MAX_CONCURRENT)
            .map(|_| gate.enter(&a, 0).expect("a turn"))
            .collect();
        assert!(gate.enter(&a, 0).is_none());
        drop(turns);
        assert!(gate.enter(&a, 0).is_some());
    }
}
