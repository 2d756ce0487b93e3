//! The place of the current snapshot.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};

use super::Snapshot;

/// The current snapshot, read without a lock and replaced by one writer at a time.
pub struct Published {
    current: ArcSwap<Snapshot>,
    /// Kept until no request reads them any more, so that none of them is freed on a data thread.
    retired: Mutex<Vec<Arc<Snapshot>>>,
    count: AtomicU64,
}

impl Published {
    /// Publishes the first one.
    pub fn new(first: Snapshot) -> Self {
        Self {
            current: ArcSwap::from_pointee(first),
            retired: Mutex::default(),
            count: AtomicU64::new(1),
        }
    }

    /// The current one, for a moment.
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// The current one, for as long as it is needed.
    pub fn load_full(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Publishes the successor of the current one; when this returns, every load sees it.
    pub fn replace(&self, successor: impl FnOnce(&Snapshot) -> Snapshot) {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        let next = successor(&self.current.load());
        retired.push(self.current.swap(Arc::new(next)));
        retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were published.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}
