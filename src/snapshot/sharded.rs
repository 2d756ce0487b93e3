//! A map that is never changed but whose successors share most of it (mechanisms 11).

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use ahash::RandomState;

const SHARDS: usize = 256;

/// 256 shared shards; a change copies one of them.
pub struct Sharded<K, V> {
    shards: Box<[Arc<HashMap<K, V, RandomState>>]>,
    hasher: RandomState,
    keys: usize,
}

impl<K, V> Clone for Sharded<K, V> {
    fn clone(&self) -> Self {
        Self {
            shards: self.shards.clone(),
            hasher: self.hasher.clone(),
            keys: self.keys,
        }
    }
}

impl<K, V> Default for Sharded<K, V> {
    fn default() -> Self {
        let hasher = RandomState::default();
        let empty = Arc::new(HashMap::with_hasher(hasher.clone()));
        Self {
            shards: vec![empty; SHARDS].into(),
            hasher,
            keys: 0,
        }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Sharded<K, V> {
    /// The value of a key.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.shards[self.index(key)].get(key)
    }

    /// Sets or (`None`) removes a key; what was there.
    pub fn set(&mut self, key: K, value: Option<V>) -> Option<V> {
        let index = self.index(&key);
        let shard = Arc::make_mut(&mut self.shards[index]);
        let before = shard.len();
        let replaced = match value {
            Some(value) => shard.insert(key, value),
            None => shard.remove(&key),
        };
        self.keys = self.keys - before + shard.len();
        replaced
    }

    /// Every pair, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.keys
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys == 0
    }

    // The shard comes from the hash's high half: the map below uses the low bits for its bucket.
    fn index<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        (self.hasher.hash_one(key) >> 48) as usize % SHARDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_differs_in_one_shard() {
        let mut first = Sharded::default();
        for number in 0..10_000 {
            first.set(format!("key-{number}"), Some(number));
        }
        assert_eq!((first.len(), first.get("key-77")), (10_000, Some(&77)));
        let mut second = first.clone();
        assert_eq!(second.set("key-77".to_owned(), None), Some(77));
        second.set("new".to_owned(), Some(1));
        assert_eq!((first.get("key-77"), first.get("new")), (Some(&77), None));
        assert_eq!((second.get("key-77"), second.get("new")), (None, Some(&1)));
        let shared = first.shards.iter().zip(&second.shards);
        let shared = shared
            .filter(|(one, other)| Arc::ptr_eq(one, other))
            .count();
        assert!(shared >= SHARDS - 2, "{shared}");
        assert_eq!(second.iter().count(), 10_000);
    }
}
