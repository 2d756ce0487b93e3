//! Warm upstream connections, one pool per data thread.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use quanta::Instant;

use super::deadlines::every_second;
use super::http1::Connection;
use super::origin::Origin;
use crate::limits::{POOL_RETRY, POOL_WAITERS_MAX};

/// Bounds of a pool.
#[derive(Debug, Clone, Copy)]
pub struct PoolLimits {
    /// Connections open to one origin at once, in use or idle.
    pub per_origin: usize,
    /// The same over the pools of all threads.
    pub per_origin_total: usize,
    /// How long an unused connection is kept, give or take a second; below what providers keep theirs, so that they seldom close first.
    pub idle: Duration,
}

/// Which connections may stand for one another: those that lead to one origin and were opened under the same settings.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PoolKey {
    /// Where they lead.
    pub origin: Arc<Origin>,
    /// Stands for trust anchors and proxy: see [`super::connect::generation`].
    pub generation: u64,
}

/// How many connections the threads together have open, by origin.
#[derive(Debug, Default)]
pub struct Occupancy(Mutex<HashMap<PoolKey, Arc<Occupied>, ahash::RandomState>>);

#[derive(Debug, Default)]
struct Occupied {
    open: AtomicUsize,
    /// Requests that wait for another thread's connections to go.
    wanted: AtomicUsize,
}

/// The idle connections of one thread, newest used first.
pub struct Pool {
    shelves: RefCell<HashMap<PoolKey, Shelf, ahash::RandomState>>,
    limits: PoolLimits,
    occupancy: Arc<Occupancy>,
    waits: Cell<u64>,
    /// When idle connections were last looked at.
    swept: Cell<Instant>,
}

struct Shelf {
    idle: Vec<Idle>,
    open: usize,
    waiting: VecDeque<(u64, Waker)>,
    everywhere: Arc<Occupied>,
}

struct Idle {
    /// Boxed: it moves between here and a request, and a pointer is all that is copied.
    connection: Box<Connection>,
    /// The last sweep before it came back: no clock is read and no deadline set for each request.
    since: Instant,
}

/// What a request gets from the pool.
pub enum Checkout {
    /// A connection that served before and is still open.
    Warm(Box<Connection>, Slot),
    /// Leave to open a new one.
    Open(Slot),
}

/// The right to one connection of an origin; gives it up when dropped.
pub struct Slot {
    pool: Rc<Pool>,
    key: PoolKey,
    returned: bool,
}

/// The origin has all the connections it may have, and enough requests wait for them.
#[derive(Debug, thiserror::Error)]
#[error("all connections to {0} that are allowed are in use")]
pub struct PoolFull(pub Arc<Origin>);

impl Occupancy {
    fn lock(&self) -> MutexGuard<'_, HashMap<PoolKey, Arc<Occupied>, ahash::RandomState>> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn join(&self, key: &PoolKey) -> Arc<Occupied> {
        self.lock().entry(key.clone()).or_default().clone()
    }

    /// Forgets an origin that only the caller's shelf still knows of.
    fn leave(&self, key: &PoolKey) {
        let mut known = self.lock();
        if known
            .get(key)
            .is_some_and(|occupied| Arc::strong_count(occupied) <= 2)
        {
            known.remove(key);
        }
    }
}

impl Occupied {
    fn enter(&self, limit: usize) -> bool {
        self.open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
                (open < limit).then_some(open + 1)
            })
            .is_ok()
    }
}

impl Pool {
    /// An empty pool, swept each second for connections that their peers closed.
    pub fn new(limits: PoolLimits, occupancy: Arc<Occupancy>) -> Rc<Self> {
        let pool = Rc::new(Self {
            shelves: RefCell::default(),
            limits,
            occupancy,
            waits: Cell::new(0),
            swept: Cell::new(Instant::now()),
        });
        let swept = Rc::downgrade(&pool);
        every_second(move || match swept.upgrade() {
            Some(pool) => {
                pool.sweep();
                true
            }
            None => false,
        });
        pool
    }

    /// A warm connection, or leave to open one, waiting at most `patience` while the origin is at its bound.
    pub async fn checkout(
        self: &Rc<Self>,
        key: &PoolKey,
        patience: Duration,
    ) -> Result<Checkout, PoolFull> {
        let begin = Instant::now();
        loop {
            if let Some(checkout) = self.at_once(key) {
                return Ok(checkout);
            }
            let left = patience.saturating_sub(begin.elapsed());
            if left.is_zero() || !self.wait(key, left).await {
                return Err(PoolFull(key.origin.clone()));
            }
        }
    }

    /// Idle connections over all origins.
    pub fn idle(&self) -> usize {
        self.shelves
            .borrow()
            .values()
            .map(|shelf| shelf.idle.len())
            .sum()
    }

    /// A warm connection, or leave to open one; `None` while the origin is at its bound.
    pub fn at_once(self: &Rc<Self>, key: &PoolKey) -> Option<Checkout> {
        let mut shelves = self.shelves.borrow_mut();
        let shelf = match shelves.get_mut(key) {
            Some(shelf) => shelf,
            None => {
                let shelf = Shelf {
                    idle: Vec::new(),
                    open: 0,
                    waiting: VecDeque::new(),
                    everywhere: self.occupancy.join(key),
                };
                shelves.entry(key.clone()).or_insert(shelf)
            }
        };
        let slot = || Slot {
            pool: self.clone(),
            key: key.clone(),
            returned: false,
        };
        let mut unfit = Vec::new();
        let mut warm = None;
        while let Some(mut idle) = shelf.idle.pop() {
            if !is_fit(&mut idle.connection) {
                shelf.closed();
                unfit.push(idle.connection);
                continue;
            }
            let place = idle.connection.place();
            if place.is_some_and(|place| place.probe_due()) && shelf.may_open(&self.limits) {
                // What serves stays here: a new connection finds out whether another address works again.
                shelf.idle.push(idle);
                shelf.open += 1;
                return Some(Checkout::Open(slot()));
            }
            warm = Some(idle.connection);
            break;
        }
        if let Some(connection) = warm {
            return Some(Checkout::Warm(connection, slot()));
        }
        shelf.may_open(&self.limits).then(|| {
            shelf.open += 1;
            Checkout::Open(slot())
        })
    }

    /// Waits until a connection may be free; false when there is no room to wait.
    async fn wait(&self, key: &PoolKey, patience: Duration) -> bool {
        let (id, everywhere, pause) = {
            let mut shelves = self.shelves.borrow_mut();
            let Some(shelf) = shelves.get_mut(key) else {
                return true;
            };
            if shelf.waiting.len() >= POOL_WAITERS_MAX {
                return false;
            }
            self.waits.set(self.waits.get() + 1);
            // Other threads do not ring here when they close a connection.
            let pause = match shelf.open < self.limits.per_origin {
                true => patience.min(POOL_RETRY),
                false => patience,
            };
            (self.waits.get(), shelf.everywhere.clone(), pause)
        };
        everywhere.wanted.fetch_add(1, Ordering::Relaxed);
        let mut waiting = Waiting {
            pool: self,
            key,
            id,
            everywhere,
            resumed: false,
        };
        let mut expiry = std::pin::pin!(monoio::time::sleep(pause));
        let mut queued = false;
        poll_fn(|cx| {
            if queued {
                // Woken: by a slot or by the timer. Either way the caller looks again.
                waiting.resumed = true;
                return Poll::Ready(());
            }
            if let Some(shelf) = self.shelves.borrow_mut().get_mut(key) {
                shelf.waiting.push_back((id, cx.waker().clone()));
            }
            queued = true;
            expiry.as_mut().poll(cx)
        })
        .await;
        true
    }

    fn sweep(&self) {
        let mut unfit = Vec::new();
        let now = Instant::now();
        self.swept.set(now);
        let mut shelves = self.shelves.borrow_mut();
        for shelf in shelves.values_mut() {
            let mut index = 0;
            while index < shelf.idle.len() {
                let wanted = shelf.is_wanted_elsewhere();
                let idle = &mut shelf.idle[index];
                let old = now.saturating_duration_since(idle.since) >= self.limits.idle;
                if wanted || old || !is_fit(&mut idle.connection) {
                    unfit.push(shelf.idle.remove(index));
                    shelf.closed();
                } else {
                    index += 1;
                }
            }
        }
        shelves.retain(|key, shelf| {
            let used = shelf.open > 0 || !shelf.waiting.is_empty();
            if !used {
                self.occupancy.leave(key);
            }
            used
        });
        drop(shelves);
    }

    fn release(&self, key: &PoolKey, connection: Option<Box<Connection>>) {
        let (unwanted, waker) = {
            let mut shelves = self.shelves.borrow_mut();
            let Some(shelf) = shelves.get_mut(key) else {
                return;
            };
            let unwanted = match connection {
                Some(connection) if !shelf.is_wanted_elsewhere() => {
                    let since = self.swept.get();
                    shelf.idle.push(Idle { connection, since });
                    None
                }
                connection => {
                    shelf.closed();
                    connection
                }
            };
            (unwanted, shelf.waiting.pop_front())
        };
        drop(unwanted);
        if let Some((_, waker)) = waker {
            waker.wake();
        }
    }
}

impl Shelf {
    /// Whether one more may be open; it counts as such among all threads' then.
    fn may_open(&self, limits: &PoolLimits) -> bool {
        self.open < limits.per_origin && self.everywhere.enter(limits.per_origin_total)
    }

    fn closed(&mut self) {
        self.open -= 1;
        self.everywhere.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether requests of other threads alone wait for this origin: what is idle here keeps them from it.
    fn is_wanted_elsewhere(&self) -> bool {
        self.waiting.is_empty() && self.everywhere.wanted.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        self.everywhere.open.fetch_sub(self.open, Ordering::Relaxed);
    }
}

/// One request's place in the queue.
struct Waiting<'a> {
    pool: &'a Pool,
    key: &'a PoolKey,
    id: u64,
    everywhere: Arc<Occupied>,
    resumed: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.everywhere.wanted.fetch_sub(1, Ordering::Relaxed);
        let passed_on = {
            let mut shelves = self.pool.shelves.borrow_mut();
            let Some(shelf) = shelves.get_mut(self.key) else {
                return;
            };
            match shelf.waiting.iter().position(|(id, _)| *id == self.id) {
                Some(index) => {
                    shelf.waiting.remove(index);
                    None
                }
                // Woken and given up before it could look: the next one's turn.
                None if !self.resumed => shelf.waiting.pop_front(),
                None => None,
            }
        };
        if let Some((_, waker)) = passed_on {
            waker.wake();
        }
    }
}

impl Slot {
    /// Puts a connection back for the next request. Its read is armed at once, so that a close is seen.
    pub fn give_back(mut self, mut connection: Box<Connection>) {
        if !connection.reusable() || !is_fit(&mut connection) {
            return;
        }
        self.returned = true;
        self.pool.release(&self.key, Some(connection));
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.returned {
            self.pool.release(&self.key, None);
        }
    }
}

/// Whether the next request may have it: it is open, and its address is not left out.
fn is_fit(connection: &mut Connection) -> bool {
    is_quiet(connection) && connection.place().is_none_or(|place| !place.is_out())
}

/// Arms the idle read, or looks at it, without anyone to wake.
fn is_quiet(connection: &mut Connection) -> bool {
    connection.poll_quiet(&mut Context::from_waker(Waker::noop()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::driver::{DriverChoice, Runtime};
    use crate::net::task;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn pool(per_origin: usize, per_origin_total: usize, occupancy: &Arc<Occupancy>) -> Rc<Pool> {
        let limits = PoolLimits {
            per_origin,
            per_origin_total,
            idle: PATIENCE,
        };
        Pool::new(limits, occupancy.clone())
    }

    fn key(generation: u64) -> PoolKey {
        PoolKey {
            origin: Arc::new(Origin::new(false, "127.0.0.1", 9)),
            generation,
        }
    }

    fn on_both_drivers(test: impl AsyncFn()) {
        for choice in [DriverChoice::Epoll, DriverChoice::Auto] {
            let (mut runtime, _) = Runtime::build(choice).expect("a runtime");
            runtime.block_on(test());
        }
    }

    async fn open(pool: &Rc<Pool>, key: &PoolKey) -> Slot {
        match pool.checkout(key, PATIENCE).await {
            Ok(Checkout::Open(slot)) => slot,
            _ => panic!("leave to open"),
        }
    }

    #[test]
    fn one_that_gave_up_waiting_takes_no_turn() {
        on_both_drivers(async || {
            let pool = pool(1, 9, &Arc::default());
            let held = open(&pool, &key(0)).await;
            let patient = pool.clone();
            let served = Rc::new(Cell::new(false));
            let told = served.clone();
            // Queued before the patient one, and gone before the connection is.
            let impatient = pool.clone();
            task::spawn("impatient", async move {
                let brief = Duration::from_millis(30);
                assert!(impatient.checkout(&key(0), brief).await.is_err());
            });
            monoio::time::sleep(Duration::from_millis(5)).await;
            task::spawn("patient", async move {
                let _slot = open(&patient, &key(0)).await;
                told.set(true);
            });
            monoio::time::sleep(Duration::from_millis(80)).await;
            let begin = Instant::now();
            drop(held);
            while !served.get() && begin.elapsed() < PATIENCE / 2 {
                monoio::time::sleep(Duration::from_millis(1)).await;
            }
            assert!(served.get(), "the turn went to one that had left");
        });
    }

    #[test]
    fn other_settings_share_neither_connections_nor_bounds() {
        on_both_drivers(async || {
            let pool = pool(1, 1, &Arc::default());
            let _old = open(&pool, &key(0)).await;
            let _new = open(&pool, &key(1)).await;
        });
    }

    #[test]
    fn the_threads_together_keep_the_bound() {
        on_both_drivers(async || {
            let occupancy = Arc::new(Occupancy::default());
            let (first, second) = (pool(9, 2, &occupancy), pool(9, 2, &occupancy));
            let one = open(&first, &key(0)).await;
            let _two = open(&second, &key(0)).await;
            let brief = Duration::from_millis(30);
            assert!(second.checkout(&key(0), brief).await.is_err());
            assert!(first.checkout(&key(0), Duration::ZERO).await.is_err());
            drop(one);
            let _three = open(&second, &key(0)).await;
            drop((first, second));
            drop((_two, _three));
            let known = occupancy.lock();
            let left: usize = known
                .values()
                .map(|occupied| occupied.open.load(Ordering::Relaxed))
                .sum();
            assert_eq!(left, 0);
        });
    }
}
