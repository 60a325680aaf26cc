//! Whom we owe a question, and when it may be asked.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use comity_net::Backoff;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::ident::{RoomId, ServerName};

/// A peer that asks us is asked in turn, but not again within this time: two servers must not ask each other for ever.
const ASKED_LATELY: Duration = Duration::from_secs(60);
/// A peer that pushes what we lack the beginnings of is asked no more often than this.
const LACKING_PAUSE: Duration = Duration::from_secs(10);
/// How long the others in a room may take to hear that we have entered it.
const ENTERED_PAUSE: Duration = Duration::from_secs(5);
/// A peer that is heard from is asked at once, but no more often than this when that does not succeed.
const HEARD_PAUSE: Duration = Duration::from_secs(1);
/// A peer that names what nobody has makes us tell of a gap no more often than this.
const GAP_PAUSE: Duration = Duration::from_secs(3600);
/// Peers remembered; those to whom nothing is owed are forgotten first.
const MAX_PEERS: usize = 10_000;

/// The questions that are owed.
#[derive(Default)]
pub struct CatchUp {
    peers: Mutex<HashMap<ServerName, Debt>>,
    changed: Notify,
    /// When a gap was last told, for each room with one.
    gaps: Mutex<HashMap<RoomId, Instant>>,
}

#[derive(Default)]
struct Debt {
    /// When it may be asked; nothing is owed when there is no time.
    due: Option<Instant>,
    running: bool,
    backoff: Backoff,
    /// The last attempt, and the last one that succeeded.
    tried: Option<Instant>,
    done: Option<Instant>,
}

impl CatchUp {
    /// Something may have been missed: asks as soon as the peer can be reached.
    pub fn owe(&self, peer: &ServerName) {
        self.due(peer, |_| Some(Instant::now()));
    }

    /// We have entered a room in which the peer is. What it said before it heard of that is not pushed to us.
    pub fn entered_with(&self, peer: &ServerName, now: Instant) {
        self.due(peer, |_| Some(now + ENTERED_PAUSE));
    }

    /// The peer has asked us. Perhaps it could not reach us before.
    pub fn asked_by(&self, peer: &ServerName, now: Instant) {
        self.due(peer, |debt| {
            let lately = debt.done.is_some_and(|done| now < done + ASKED_LATELY);
            (!debt.running && !lately).then_some(now)
        });
    }

    /// The peer has pushed something that builds on what is not here.
    pub fn lacks(&self, peer: &ServerName, now: Instant) {
        self.due(peer, |debt| {
            let next = debt.tried.map(|tried| tried + LACKING_PAUSE);
            Some(next.map_or(now, |next| next.max(now)))
        });
    }

    /// Something came in from the peer: it is there, whatever was tried before.
    pub fn heard_from(&self, peer: &ServerName, now: Instant) {
        let mut peers = self.lock();
        if let Some(debt) = peers.get_mut(peer).filter(|debt| debt.backoff.tries() > 0)
            && let Some(due) = &mut debt.due
        {
            let next = debt.tried.map(|tried| tried + HEARD_PAUSE);
            *due = next.map_or(now, |next| next.max(now)).min(*due);
            self.changed.notify_one();
        }
    }

    /// Whether the peer is being asked now, or about to be.
    pub fn is_asking(&self, peer: &ServerName) -> bool {
        let peers = self.lock();
        let debt = peers.get(peer);
        debt.is_some_and(|debt| debt.running || debt.due.is_some_and(|due| due <= Instant::now()))
    }

    /// Waits for the next peer to ask, and takes it that it is asked now.
    pub(super) async fn next(&self) -> ServerName {
        loop {
            let changed = self.changed.notified();
            let earliest = match self.take_due(Instant::now()) {
                Ok(peer) => return peer,
                Err(earliest) => earliest,
            };
            match earliest {
                Some(at) => {
                    tokio::select! {
                        () = sleep_until(at) => {}
                        () = changed => {}
                    }
                }
                None => changed.await,
            }
        }
    }

    /// The question was answered, or not.
    pub(super) fn ended(&self, peer: &ServerName, now: Instant, is_answered: bool) {
        let mut peers = self.lock();
        let Some(debt) = peers.get_mut(peer) else {
            return;
        };
        debt.running = false;
        if is_answered {
            debt.done = Some(now);
            debt.backoff.reset();
        } else {
            debt.due = Some(now + debt.backoff.next_wait());
        }
        self.changed.notify_one();
    }

    /// Whether a gap of this room may be told now. Notes that it is.
    pub(super) fn may_tell_gap(&self, room: &RoomId) -> bool {
        let mut gaps = self.gaps.lock().unwrap_or_else(PoisonError::into_inner);
        gaps.retain(|_, told| told.elapsed() < GAP_PAUSE);
        let is_news = !gaps.contains_key(room);
        gaps.entry(room.clone()).or_insert_with(Instant::now);
        is_news
    }

    fn due(&self, peer: &ServerName, when: impl FnOnce(&Debt) -> Option<Instant>) {
        let mut peers = self.lock();
        if peers.len() >= MAX_PEERS && !peers.contains_key(peer) {
            peers.retain(|_, debt| debt.running || debt.due.is_some());
            if peers.len() >= MAX_PEERS {
                return;
            }
        }
        let debt = peers.entry(peer.clone()).or_default();
        if let Some(at) = when(debt) {
            debt.due = Some(debt.due.map_or(at, |due| due.min(at)));
            self.changed.notify_one();
        }
    }

    /// A peer that may be asked now, or when the next one may.
    fn take_due(&self, now: Instant) -> Result<ServerName, Option<Instant>> {
        let mut peers = self.lock();
        let next = peers
            .iter_mut()
            .filter(|(_, debt)| !debt.running)
            .filter_map(|(peer, debt)| Some((debt.due?, peer, debt)))
            .min_by_key(|(due, ..)| *due);
        match next {
            Some((due, peer, debt)) if due <= now => {
                debt.due = None;
                debt.running = true;
                debt.tried = Some(now);
                Ok(peer.clone())
            }
            Some((due, ..)) => Err(Some(due)),
            None => Err(None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ServerName, Debt>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::EventId;

    fn peer(name: &str) -> ServerName {
        ServerName::parse(name).expect("a name")
    }

    #[test]
    fn two_servers_do_not_ask_each_other_for_ever() {
        let (debts, b, start) = (CatchUp::default(), peer("b.example"), Instant::now());
        debts.asked_by(&b, start);
        assert_eq!(debts.take_due(start), Ok(b.clone()));
        debts.asked_by(&b, start);
        debts.ended(&b, start, true);
        debts.asked_by(&b, start);
        assert_eq!(debts.take_due(start), Err(None));
        let later = start + ASKED_LATELY;
        debts.asked_by(&b, later);
        assert_eq!(debts.take_due(later), Ok(b));
    }

    #[test]
    fn a_peer_that_is_away_is_asked_less_and_less_until_it_is_heard_from() {
        let (debts, b, start) = (CatchUp::default(), peer("b.example"), Instant::now());
        let mut now = start + Duration::from_secs(1);
        debts.lacks(&b, now);
        for _ in 0..8 {
            assert_eq!(debts.take_due(now), Ok(b.clone()));
            debts.ended(&b, now, false);
            let Err(Some(next)) = debts.take_due(now) else {
                panic!("not owed any more")
            };
            now = next;
        }
        let heard = start + Duration::from_secs(160);
        assert!(now > heard, "{:?}", now - start);
        debts.heard_from(&b, heard);
        assert_eq!(debts.take_due(heard + HEARD_PAUSE), Ok(b));
    }

    #[test]
    fn a_gap_is_told_once_in_a_while_however_often_it_is_claimed() {
        let debts = CatchUp::default();
        let room = EventId::from_hash([7; 32]).as_room();
        assert!(debts.may_tell_gap(&room));
        assert!(!debts.may_tell_gap(&room));
    }
}
