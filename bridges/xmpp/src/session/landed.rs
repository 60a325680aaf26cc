//! What of ours is known to be in a room.

use std::collections::{HashMap, VecDeque};

/// Ids remembered per room.
const MAX_RECENT: usize = 4_096;

/// Ids of our stanzas, the latest ones, with something known of each.
#[derive(Debug, Default)]
pub(super) struct Recent {
    ids: HashMap<String, Option<String>>,
    order: VecDeque<String>,
}

impl Recent {
    /// False when it was there before.
    pub(super) fn insert(&mut self, id: &str, what: Option<String>) -> bool {
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

    pub(super) fn get(&self, id: &str) -> Option<&Option<String>> {
        self.ids.get(id)
    }

    pub(super) fn clear(&mut self) {
        self.ids.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recent_is_remembered_in_bounded_memory() {
        let mut recent = Recent::default();
        for n in 0..MAX_RECENT + 10 {
            assert!(recent.insert(&n.to_string(), None));
        }
        assert!(!recent.insert("4100", None));
        assert_eq!(recent.ids.len(), MAX_RECENT);
        assert!(recent.get("0").is_none() && recent.get("4100").is_some());
    }
}
