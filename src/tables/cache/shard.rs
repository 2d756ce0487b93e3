//! One shard: S3-FIFO (Yang and others, SOSP 2023) over values of different sizes. A new value waits in a small queue; one that
//! is asked for again while it waits goes on to the main queue, and of the others only a fingerprint stays, by which it is known
//! when it comes back. Nothing moves when a value is read.

use std::collections::{HashMap, HashSet, VecDeque};

use super::key::Key;
use crate::limits::{CACHE_GHOSTS_MAX, CACHE_PASSES_MAX};

pub(super) struct Shard<V> {
    places: HashMap<Key, u32, ahash::RandomState>,
    slots: Vec<Option<Held<V>>>,
    free: Vec<u32>,
    small: VecDeque<u32>,
    main: VecDeque<u32>,
    ghosts: Ghosts,
    small_bytes: usize,
    main_bytes: usize,
}

struct Held<V> {
    key: Key,
    value: V,
    bytes: usize,
    /// Reads since it was last looked at, up to [`USES_MAX`].
    uses: u8,
    in_main: bool,
}

const USES_MAX: u8 = 3;
/// The small queue's share of all bytes: one in so many.
const SMALL_SHARE: usize = 10;

impl<V> Shard<V> {
    /// With room for so many values before anything has to grow.
    pub fn with_capacity(values: usize) -> Self {
        Self {
            places: HashMap::with_capacity_and_hasher(values, ahash::RandomState::new()),
            slots: Vec::with_capacity(values),
            free: Vec::new(),
            small: VecDeque::with_capacity(values / SMALL_SHARE),
            main: VecDeque::with_capacity(values),
            ghosts: Ghosts::default(),
            small_bytes: 0,
            main_bytes: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn bytes(&self) -> usize {
        self.small_bytes + self.main_bytes
    }

    /// The value of a key.
    pub fn get(&mut self, key: &Key) -> Option<&V> {
        let slot = *self.places.get(key)?;
        let held = self.slots[slot as usize].as_mut()?;
        held.uses = (held.uses + 1).min(USES_MAX);
        Some(&held.value)
    }

    /// Sets the value of a key and gives back the one before it, with its bytes.
    pub fn insert(&mut self, key: Key, value: V, bytes: usize) -> Option<(V, usize)> {
        if let Some(slot) = self.places.get(&key)
            && let Some(held) = &mut self.slots[*slot as usize]
        {
            let queue = match held.in_main {
                true => &mut self.main_bytes,
                false => &mut self.small_bytes,
            };
            *queue = *queue - held.bytes + bytes;
            let before = std::mem::replace(&mut held.bytes, bytes);
            return Some((std::mem::replace(&mut held.value, value), before));
        }
        let in_main = self.ghosts.take(&key);
        let held = Held {
            key,
            value,
            bytes,
            uses: 0,
            in_main,
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(held);
                slot
            }
            None => {
                self.slots.push(Some(held));
                (self.slots.len() - 1) as u32
            }
        };
        self.places.insert(key, slot);
        match in_main {
            true => {
                self.main.push_back(slot);
                self.main_bytes += bytes;
            }
            false => {
                self.small.push_back(slot);
                self.small_bytes += bytes;
            }
        }
        None
    }

    /// Lets one value go, and tells its bytes.
    pub fn evict(&mut self) -> Option<(V, usize)> {
        let mut passes = 0;
        loop {
            let from_small = self.main_bytes == 0 || self.small_bytes * SMALL_SHARE >= self.bytes();
            let slot = match from_small {
                true => self.small.pop_front()?,
                false => self.main.pop_front()?,
            };
            let held = self.slots[slot as usize].as_mut()?;
            // What is spared for long is let go in the end: the work of one insertion is bounded.
            passes += 1;
            let spared = passes < CACHE_PASSES_MAX;
            if from_small && held.uses > 1 && spared {
                (held.uses, held.in_main) = (0, true);
                self.small_bytes -= held.bytes;
                self.main_bytes += held.bytes;
                self.main.push_back(slot);
            } else if !from_small && held.uses > 0 && spared {
                held.uses -= 1;
                self.main.push_back(slot);
            } else {
                let gone = self.let_go(slot)?;
                if from_small {
                    let most = self.places.len().clamp(64, CACHE_GHOSTS_MAX);
                    self.ghosts.remember(&gone.key, most);
                }
                return Some((gone.value, gone.bytes));
            }
        }
    }

    /// Lets all values go that are not to be kept, whatever their number.
    pub fn sweep(&mut self, mut keep: impl FnMut(&V) -> bool) -> Vec<V> {
        let mut gone = Vec::new();
        for slot in 0..self.slots.len() {
            if self.slots[slot]
                .as_ref()
                .is_some_and(|held| !keep(&held.value))
            {
                gone.extend(self.let_go(slot as u32).map(|held| held.value));
            }
        }
        let slots = &self.slots;
        let lives = |slot: &u32| slots[*slot as usize].is_some();
        self.small.retain(lives);
        self.main.retain(lives);
        gone
    }

    /// Out of the map; its queue has let go of it already.
    fn let_go(&mut self, slot: u32) -> Option<Held<V>> {
        let held = self.slots[slot as usize].take()?;
        self.free.push(slot);
        self.places.remove(&held.key);
        match held.in_main {
            true => self.main_bytes -= held.bytes,
            false => self.small_bytes -= held.bytes,
        }
        Some(held)
    }
}

/// Fingerprints of what the small queue let go, the oldest first.
#[derive(Default)]
struct Ghosts {
    order: VecDeque<u64>,
    known: HashSet<u64, ahash::RandomState>,
}

impl Ghosts {
    fn remember(&mut self, key: &Key, most: usize) {
        let print = key.fingerprint();
        if self.known.insert(print) {
            self.order.push_back(print);
        }
        while self.order.len() > most {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }

    /// Whether it was let go not long ago. Its place in the order stays until its turn comes.
    fn take(&mut self, key: &Key) -> bool {
        self.known.remove(&key.fingerprint())
    }
}
