//! What of ours is known to be in a room.

use std::collections::{HashMap, VecDeque};

/// Ids remembered per room.
const MAX_RECENT: usize = 4_096;
/// Messages remembered that bear the same id of ours, each from another nick.
const MAX_CLAIMS: usize = 4;

/// Ids, the latest ones, with something known of each.
#[derive(Debug)]
pub(super) struct Recent<T> {
    ids: HashMap<String, T>,
    order: VecDeque<String>,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self {
            ids: HashMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<T> Recent<T> {
    /// False when it was there before.
    pub(super) fn insert(&mut self, id: &str, what: T) -> bool {
        let is_new = self.ids.insert(id.to_owned(), what).is_none();
        if is_new {
            self.order.push_back(id.to_owned());
        }
        if self.order.len() > MAX_RECENT
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        is_new
    }

    pub(super) fn get(&self, id: &str) -> Option<&T> {
        self.ids.get(id)
    }

    pub(super) fn clear(&mut self) {
        self.ids.clear();
        self.order.clear();
    }
}

/// Messages in a room with ids of ours. Whoever has seen such an id in another room can say it here, so each is
/// remembered with its nick, until the delivery says whose it would be.
#[derive(Debug, Default)]
pub(super) struct Landed(Recent<Vec<Claim>>);

/// One message with an id of ours.
#[derive(Debug)]
struct Claim {
    /// None when an occupant of ours is known to have said it.
    nick: Option<String>,
    /// What the room calls it.
    id: Option<String>,
}

impl Landed {
    /// An occupant of ours has said it. False when that was known.
    pub(super) fn insert(&mut self, own: &str, id: Option<String>) -> bool {
        let is_known = |claims: &Vec<Claim>| claims.iter().any(|claim| claim.nick.is_none());
        let is_new = !self.0.get(own).is_some_and(is_known);
        self.0.insert(own, vec![Claim { nick: None, id }]);
        is_new
    }

    /// Somebody of this nick has said it.
    pub(super) fn claim(&mut self, own: &str, nick: &str, id: Option<String>) {
        let by = |claim: &Claim| claim.nick.as_deref().is_none_or(|known| known == nick);
        match self.0.ids.get_mut(own) {
            Some(claims) if claims.iter().any(by) => {}
            Some(claims) => {
                if claims.len() == MAX_CLAIMS {
                    claims.remove(0);
                }
                claims.push(Claim {
                    nick: Some(nick.to_owned()),
                    id,
                });
            }
            None => {
                let nick = Some(nick.to_owned());
                self.0.insert(own, vec![Claim { nick, id }]);
            }
        }
    }

    /// What the room calls it, if it was said by us or by somebody whose nick is ours.
    pub(super) fn find(
        &self,
        own: &str,
        is_ours: impl Fn(&str) -> bool,
    ) -> Option<&Option<String>> {
        let claims = self.0.get(own)?;
        let ours = |claim: &&Claim| claim.nick.as_deref().is_none_or(&is_ours);
        claims.iter().find(ours).map(|claim| &claim.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recent_is_remembered_in_bounded_memory() {
        let mut recent = Recent::default();
        for n in 0..MAX_RECENT + 10 {
            assert!(recent.insert(&n.to_string(), ()));
        }
        assert!(!recent.insert("4100", ()));
        assert_eq!(recent.ids.len(), MAX_RECENT);
        assert!(recent.get("0").is_none() && recent.get("4100").is_some());
    }

    #[test]
    fn what_many_claim_is_remembered_in_bounded_memory_and_what_is_ours_is_not_forgotten() {
        let mut landed = Landed::default();
        for n in 0..100 {
            landed.claim("own", &format!("nick {n}"), None);
        }
        landed.claim("own", "al", Some("sid".to_owned()));
        assert_eq!(landed.0.ids["own"].len(), MAX_CLAIMS);
        assert_eq!(
            landed.find("own", |nick| nick == "al"),
            Some(&Some("sid".to_owned()))
        );
        assert!(landed.insert("own", None));
        landed.claim("own", "al", Some("sid".to_owned()));
        assert_eq!(landed.find("own", |_| false), Some(&None));
        assert!(!landed.insert("own", None));
    }
}
