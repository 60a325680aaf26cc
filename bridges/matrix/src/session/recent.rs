//! A map that forgets what was not used for longest, so that strangers cannot fill the memory.

use std::{collections::HashMap, hash::Hash};

/// At most `capacity` entries. Making room is done for a quarter of them at once, so that a
/// look-up and an insertion stay cheap.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    entries: HashMap<K, (u64, V)>,
    capacity: usize,
    uses: u64,
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            entries: HashMap::new(),
            capacity: capacity.max(1),
            uses: 0,
        }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<&mut V> {
        self.uses += 1;
        let entry = self.entries.get_mut(key)?;
        entry.0 = self.uses;
        Some(&mut entry.1)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.uses += 1;
        self.entries.insert(key, (self.uses, value));
        if self.entries.len() > self.capacity {
            self.make_room();
        }
    }

    pub(crate) fn remove(&mut self, key: &K) {
        self.entries.remove(key);
    }

    fn make_room(&mut self) {
        let mut ages: Vec<u64> = self.entries.values().map(|(used, _)| *used).collect();
        ages.sort_unstable();
        let oldest_kept = ages[(self.capacity / 4).min(ages.len() - 1).max(1)];
        self.entries.retain(|_, (used, _)| *used >= oldest_kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_holds_more_than_it_may_and_keeps_what_is_used() {
        let mut recent = Recent::new(8);
        recent.insert(0, 0);
        for n in 1..1000 {
            assert_eq!(recent.get(&0), Some(&mut 0));
            recent.insert(n, n);
            assert!(recent.entries.len() <= 8);
            assert!(recent.get(&n).is_some());
        }
        let mut one = Recent::new(1);
        one.insert(1, 1);
        one.insert(2, 2);
        assert_eq!(one.get(&2), Some(&mut 2));
        assert_eq!(one.get(&1), None);
    }
}
