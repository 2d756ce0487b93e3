//! Counters by key, bounded; and which of them changed.

use std::collections::VecDeque;
use std::mem::take;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use super::key::{Key, Name};
use crate::limits::{KEYED_LOOKS, KEYED_MAX};

/// A counter of a table.
pub(super) trait Kept {
    /// What it is found by.
    fn name(&self) -> Name;
    /// Whether nothing would be lost with it.
    fn is_over(&self, now: u64) -> bool;
}

/// Counters by name. Each one that is added makes a few others be looked at, which go if nothing counts in them any more.
pub(super) struct Table<T> {
    map: DashMap<Name, Arc<T>, ahash::RandomState>,
    /// Names in the order in which they are looked at.
    order: Mutex<VecDeque<Name>>,
    count: AtomicUsize,
    /// Counters of values, beyond which there is one for each rule.
    most: usize,
    /// Counters that changed since they were last taken.
    pub changed: Arc<Changed<T>>,
}

impl<T: Kept> Table<T> {
    pub fn new() -> Self {
        Self::bounded(KEYED_MAX)
    }

    fn bounded(most: usize) -> Self {
        Self {
            map: DashMap::default(),
            order: Mutex::default(),
            count: AtomicUsize::new(0),
            most,
            changed: Arc::default(),
        }
    }

    /// The counter of a key, made where there is none. At the bound that of the key's rule.
    pub fn get(&self, key: Key, now: u64, make: impl FnOnce(Name) -> T) -> Arc<T> {
        if let Some(found) = self.find(key.own()) {
            return found;
        }
        self.look(now);
        let is_full = self.count.load(Ordering::Relaxed) >= self.most;
        let name = if is_full { key.shared() } else { key.own() };
        let (counter, added) = match self.map.entry(name) {
            Entry::Occupied(there) => (there.get().clone(), false),
            Entry::Vacant(place) => (place.insert(Arc::new(make(name))).clone(), true),
        };
        if added {
            self.count.fetch_add(1, Ordering::Relaxed);
            lock(&self.order).push_back(name);
        }
        counter
    }

    /// Puts another counter in the place of this one, where nobody did before.
    pub fn renew(&self, old: &Arc<T>, make: impl FnOnce(&T) -> T) -> Arc<T> {
        match self.map.get_mut(&old.name()) {
            Some(mut place) => {
                if Arc::ptr_eq(&place, old) {
                    *place = Arc::new(make(old));
                }
                place.clone()
            }
            None => {
                let counter = Arc::new(make(old));
                self.replace(old.name(), counter.clone());
                counter
            }
        }
    }

    /// Puts a counter in the place of another.
    pub fn replace(&self, name: Name, counter: Arc<T>) {
        if self.map.insert(name, counter).is_none() {
            self.count.fetch_add(1, Ordering::Relaxed);
            lock(&self.order).push_back(name);
        }
    }

    /// Looks whether some counters may go.
    fn look(&self, now: u64) {
        for _ in 0..KEYED_LOOKS {
            let Some(name) = lock(&self.order).pop_front() else {
                return;
            };
            // Whoever holds it may be about to count: nobody can begin to while the map has it.
            let goes = |_: &Name, counter: &Arc<T>| {
                Arc::strong_count(counter) == 1 && counter.is_over(now)
            };
            match self.map.remove_if(&name, goes) {
                Some(_) => {
                    self.count.fetch_sub(1, Ordering::Relaxed);
                }
                None => lock(&self.order).push_back(name),
            }
        }
    }

    fn find(&self, name: Name) -> Option<Arc<T>> {
        self.map.get(&name).map(|found| found.clone())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

/// Counters that changed, each once.
pub(super) struct Changed<T>(Mutex<Vec<Arc<T>>>);

impl<T> Default for Changed<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Changed<T> {
    /// Takes them away.
    pub fn take(&self) -> Vec<Arc<T>> {
        take(&mut *lock(&self.0))
    }
}

/// Whether a counter stands in the list of those that changed. The mark is set after a change and taken away before the counter
/// is read; both in one order over all threads, so that no change is missed.
#[derive(Debug, Default)]
pub(super) struct Mark(AtomicBool);

impl Mark {
    /// After a change.
    pub fn set<T>(&self, counter: &Arc<T>, changed: &Changed<T>) {
        if !self.0.load(Ordering::SeqCst) && !self.0.swap(true, Ordering::SeqCst) {
            lock(&changed.0).push(counter.clone());
        }
    }

    /// Before the counter is read.
    pub fn clear(&self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// What is done under these locks is short, and a panic in it leaves nothing half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Until(u64);

    impl Kept for Until {
        fn name(&self) -> Name {
            Name::default()
        }

        fn is_over(&self, now: u64) -> bool {
            self.0 <= now
        }
    }

    fn key(number: u64) -> Key {
        Key::rule(&["r"]).of([&number.to_le_bytes()[..]])
    }

    #[test]
    fn what_is_over_makes_room_and_the_rest_stays() {
        let table = Table::new();
        let held = table.get(key(0), 0, |_| Until(1));
        for number in 1..10_000 {
            // Every hundredth lives for ever, the others for ten more.
            let until = if number % 100 == 0 {
                u64::MAX
            } else {
                number + 10
            };
            table.get(key(number), number, |_| Until(until));
        }
        assert!(table.len() < 300, "{}", table.len());
        assert!(Arc::ptr_eq(&held, &table.get(key(0), 10_000, |_| Until(0))));
        for number in (100..10_000).step_by(100) {
            let found = table.get(key(number), 10_000, |_| Until(0));
            assert_eq!(found.0, u64::MAX);
        }
        assert_eq!(table.len(), table.map.len());
    }

    #[test]
    fn beyond_the_bound_values_share_the_counter_of_their_rule() {
        let table = Table::bounded(5);
        let get = |number| table.get(key(number), 0, |_| Until(u64::MAX));
        let first: Vec<_> = (0..5).map(get).collect();
        let others: Vec<_> = (5..100).map(get).collect();
        assert!(others.iter().all(|other| Arc::ptr_eq(other, &others[0])));
        assert!(first.iter().all(|each| !Arc::ptr_eq(each, &others[0])));
        assert!(Arc::ptr_eq(&get(3), &first[3]));
        assert_eq!(table.len(), 6);
    }

    #[test]
    fn each_change_is_listed_once_until_it_is_taken() {
        let (changed, mark) = (Changed::default(), Mark::default());
        let counter = Arc::new(Until(1));
        mark.set(&counter, &changed);
        mark.set(&counter, &changed);
        assert_eq!(changed.take().len(), 1);
        mark.set(&counter, &changed);
        assert_eq!(changed.take().len(), 0);
        mark.clear();
        mark.set(&counter, &changed);
        assert_eq!(changed.take().len(), 1);
    }
}
