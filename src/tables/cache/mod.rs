//! Stored answers: in memory, bounded in bytes, and behind that on disk where it is given room (spec: data plane 4).

mod answer;
mod disk;
mod frame;
mod key;
mod shard;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;

pub use answer::{Answer, Filling, Told};
pub use disk::DiskStats;
pub use key::{Key, Keying, Of, Parts};

use self::disk::Disk;
use self::shard::Shard;
use crate::limits::{
    CACHE_ANSWER_SHARE, CACHE_EVICTIONS_MAX, CACHE_RESERVED_BYTES, CACHE_RESERVED_MAX,
    CACHE_SHARD_BYTES_MIN, CACHE_SHARDS,
};
use crate::net::mailbox::ReplyAddress;

/// The stored answers of all gateways. Not a map with shards of its own: each shard's queues belong under the lock of its map.
pub struct Cache {
    shards: Box<[Mutex<Shard<Arc<Answer>>>]>,
    bound: usize,
    bytes: AtomicUsize,
    filling: Arc<AtomicUsize>,
    disk: Option<Disk>,
    evictions: AtomicU64,
    refusals: AtomicU64,
}

/// What a look into the cache finds.
pub enum Found {
    /// The answer.
    Here(Arc<Answer>),
    /// It is to be asked of the disk: [`Cache::read`].
    OnDisk,
    /// Nothing.
    Nowhere,
}

/// Figures for the metrics page.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stats {
    /// Answers in memory.
    pub answers: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Answers let go for others.
    pub evictions: u64,
    /// Answers for which there was no room.
    pub refusals: u64,
    /// Of the second tier.
    pub disk: DiskStats,
}

impl Cache {
    /// In memory alone, with room for so many bytes.
    pub fn new(bound: usize) -> Self {
        // A shard of few answers would choose badly which of them to let go.
        let shards = (bound / CACHE_SHARD_BYTES_MIN).clamp(1, CACHE_SHARDS);
        let shards = 1 << shards.ilog2();
        let each = bound / shards / CACHE_RESERVED_BYTES;
        let shard = || Mutex::new(Shard::with_capacity(each.min(CACHE_RESERVED_MAX)));
        Self {
            shards: (0..shards).map(|_| shard()).collect(),
            bound,
            bytes: AtomicUsize::new(0),
            filling: Arc::default(),
            disk: None,
            evictions: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
        }
    }

    /// With so many bytes of disk in a folder behind it; `now` in milliseconds since the Unix epoch.
    pub fn with_disk(self, folder: PathBuf, bound: u64, now: u64) -> io::Result<Self> {
        Ok(Self {
            disk: Some(Disk::start(folder, bound, now)?),
            ..self
        })
    }

    /// Looks for the answer of a key that is not over at `now`, milliseconds since the Unix epoch. One that is over stays in its
    /// place until another takes it or its turn to go comes.
    pub fn get(&self, key: &Key, now: u64) -> Found {
        let found = self.shard(key).get(key).cloned();
        match found {
            Some(answer) if answer.until > now => Found::Here(answer),
            _ if self.disk.as_ref().is_some_and(|disk| disk.knows(key, now)) => Found::OnDisk,
            _ => Found::Nowhere,
        }
    }

    /// Asks the disk. What it sends is an `Option<Arc<Answer>>`; false: it has too much to do and will not answer.
    pub fn read(&self, key: Key, to: ReplyAddress) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.read(key, to))
    }

    /// Takes what the disk sent into memory.
    pub fn promote(&self, key: Key, answer: Arc<Answer>) {
        self.insert(key, answer);
    }

    /// Stores an answer.
    pub fn store(&self, key: Key, answer: Arc<Answer>) {
        if let Some(disk) = &self.disk {
            disk.write(key, answer.clone());
        }
        self.insert(key, answer);
    }

    /// Gathers an answer whose length may be known.
    pub fn gather(&self, length: Option<u64>) -> Filling {
        Filling::begin(&self.filling, length)
    }

    /// Lets go of all answers that are not to be kept. It walks over everything: not for a data thread.
    pub fn sweep(&self, keep: impl Fn(&Answer) -> bool) {
        for shard in &self.shards {
            let (gone, freed) = {
                let mut shard = lock(shard);
                let before = shard.bytes();
                let gone = shard.sweep(|answer| keep(answer));
                (gone, before - shard.bytes())
            };
            self.bytes.fetch_sub(freed, Ordering::Relaxed);
            drop(gone);
        }
    }

    /// Figures as of now.
    pub fn stats(&self) -> Stats {
        Stats {
            answers: self
                .shards
                .iter()
                .map(|shard| lock(shard).len() as u64)
                .sum(),
            bytes: self.bytes.load(Ordering::Relaxed) as u64,
            evictions: self.evictions.load(Ordering::Relaxed),
            refusals: self.refusals.load(Ordering::Relaxed),
            disk: self.disk.as_ref().map(Disk::stats).unwrap_or_default(),
        }
    }

    /// Writes what waits for the disk and ends its thread.
    pub fn stop(&self) {
        if let Some(disk) = &self.disk {
            disk.stop();
        }
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard<Arc<Answer>>> {
        lock(&self.shards[key.shard(self.shards.len())])
    }

    /// Makes room first, as far as the work of one insertion goes; where that is not enough the answer stays out, so that the bound
    /// holds. Its own shard gives way before others. What goes is dropped after the locks.
    fn insert(&self, key: Key, answer: Arc<Answer>) {
        let weight = answer.weight();
        if weight > self.bound / CACHE_ANSWER_SHARE {
            self.refusals.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut gone: SmallVec<[Arc<Answer>; 4]> = SmallVec::new();
        let all = self.bytes.fetch_add(weight, Ordering::Relaxed) + weight;
        let mut excess = all.saturating_sub(self.bound);
        let own = key.shard(self.shards.len());
        let mut evicted = 0;
        for step in 0..self.shards.len() {
            if excess == 0 || evicted == CACHE_EVICTIONS_MAX {
                break;
            }
            let mut shard = lock(&self.shards[(own + step) % self.shards.len()]);
            while excess > 0 && evicted < CACHE_EVICTIONS_MAX {
                let Some((value, bytes)) = shard.evict() else {
                    break;
                };
                gone.push(value);
                evicted += 1;
                excess = excess.saturating_sub(bytes);
                self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            }
        }
        self.evictions.fetch_add(evicted as u64, Ordering::Relaxed);
        if excess > 0 {
            self.bytes.fetch_sub(weight, Ordering::Relaxed);
            self.refusals.fetch_add(1, Ordering::Relaxed);
        } else {
            let replaced = lock(&self.shards[own]).insert(key, answer, weight);
            if let Some((value, bytes)) = replaced {
                self.bytes.fetch_sub(bytes, Ordering::Relaxed);
                gone.push(value);
            }
        }
        drop(gone);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
