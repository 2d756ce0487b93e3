//! Warm upstream connections, one pool per data thread.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use quanta::Instant;

use super::deadlines::{OnExpiry, every_second};
use super::http1::Connection;
use super::origin::Origin;
use crate::limits::POOL_WAITERS_MAX;

/// Bounds of a pool.
#[derive(Debug, Clone, Copy)]
pub struct PoolLimits {
    /// Connections open to one origin at once, in use or idle.
    pub per_origin: usize,
    /// How long an unused connection is kept; below what providers keep theirs, so that they seldom close first.
    pub idle: Duration,
}

/// The idle connections of one thread, newest used first.
pub struct Pool {
    origins: RefCell<HashMap<Arc<Origin>, Shelf, ahash::RandomState>>,
    limits: PoolLimits,
}

#[derive(Default)]
struct Shelf {
    /// Boxed: they move between here and a request, and a pointer is all that is copied.
    #[allow(clippy::vec_box)]
    idle: Vec<Box<Connection>>,
    open: usize,
    waiting: VecDeque<Waker>,
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
    origin: Arc<Origin>,
    returned: bool,
}

/// The origin has all the connections it may have, and enough requests wait for them.
#[derive(Debug, thiserror::Error)]
#[error("all {limit} connections to {origin} are in use")]
pub struct PoolFull {
    /// The configured bound.
    pub limit: usize,
    /// Whose it is.
    pub origin: Arc<Origin>,
}

impl Pool {
    /// An empty pool, swept each second for connections that their peers closed.
    pub fn new(limits: PoolLimits) -> Rc<Self> {
        let pool = Rc::new(Self {
            origins: RefCell::default(),
            limits,
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
        origin: &Arc<Origin>,
        patience: Duration,
    ) -> Result<Checkout, PoolFull> {
        let begin = Instant::now();
        loop {
            if let Some(checkout) = self.try_checkout(origin) {
                return Ok(checkout);
            }
            if !self
                .wait(origin, patience.saturating_sub(begin.elapsed()))
                .await
            {
                return Err(PoolFull {
                    limit: self.limits.per_origin,
                    origin: origin.clone(),
                });
            }
        }
    }

    /// Idle connections over all origins.
    pub fn idle(&self) -> usize {
        self.origins
            .borrow()
            .values()
            .map(|shelf| shelf.idle.len())
            .sum()
    }

    fn try_checkout(self: &Rc<Self>, origin: &Arc<Origin>) -> Option<Checkout> {
        let mut origins = self.origins.borrow_mut();
        if !origins.contains_key(origin) {
            origins.insert(origin.clone(), Shelf::default());
        }
        let shelf = origins.get_mut(origin)?;
        let mut unfit = Vec::new();
        let mut warm = None;
        while let Some(mut connection) = shelf.idle.pop() {
            if is_quiet(&mut connection) {
                connection.transport().disarm_deadline();
                warm = Some(connection);
                break;
            }
            shelf.open -= 1;
            unfit.push(connection);
        }
        let slot = || Slot {
            pool: self.clone(),
            origin: origin.clone(),
            returned: false,
        };
        match warm {
            Some(connection) => Some(Checkout::Warm(connection, slot())),
            None if shelf.open < self.limits.per_origin => {
                shelf.open += 1;
                Some(Checkout::Open(slot()))
            }
            None => None,
        }
    }

    /// Waits for a connection of `origin` to be returned or closed; false when patience or the queue's room ran out.
    async fn wait(&self, origin: &Arc<Origin>, patience: Duration) -> bool {
        if patience.is_zero() {
            return false;
        }
        let mut expiry = std::pin::pin!(monoio::time::sleep(patience));
        let mut queued = false;
        std::future::poll_fn(|cx| {
            use std::future::Future;
            use std::task::Poll;
            if queued {
                // Woken: by a slot or by the timer. Either way the caller looks again, or gives up.
                return Poll::Ready(expiry.as_mut().poll(cx).is_pending());
            }
            let mut origins = self.origins.borrow_mut();
            let Some(shelf) = origins.get_mut(origin) else {
                return Poll::Ready(true);
            };
            if shelf.waiting.len() >= POOL_WAITERS_MAX {
                return Poll::Ready(false);
            }
            shelf.waiting.push_back(cx.waker().clone());
            queued = true;
            expiry.as_mut().poll(cx).map(|()| false)
        })
        .await
    }

    fn sweep(&self) {
        let mut unfit = Vec::new();
        let mut origins = self.origins.borrow_mut();
        for shelf in origins.values_mut() {
            let mut index = 0;
            while index < shelf.idle.len() {
                if is_quiet(&mut shelf.idle[index]) {
                    index += 1;
                } else {
                    unfit.push(shelf.idle.remove(index));
                    shelf.open -= 1;
                }
            }
        }
        origins.retain(|_, shelf| shelf.open > 0 || !shelf.waiting.is_empty());
        drop(origins);
    }

    fn release(&self, origin: &Arc<Origin>, connection: Option<Box<Connection>>) {
        let waker = {
            let mut origins = self.origins.borrow_mut();
            let Some(shelf) = origins.get_mut(origin) else {
                return;
            };
            match connection {
                Some(connection) => shelf.idle.push(connection),
                None => shelf.open -= 1,
            }
            shelf.waiting.pop_front()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Slot {
    /// Puts a connection back for the next request. Its read is armed at once, so that a close is seen.
    pub fn give_back(mut self, mut connection: Box<Connection>) {
        if !connection.reusable() || !is_quiet(&mut connection) {
            return;
        }
        connection
            .transport()
            .arm_deadline(self.pool.limits.idle, OnExpiry::ShutBoth);
        self.returned = true;
        self.pool.release(&self.origin, Some(connection));
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.returned {
            self.pool.release(&self.origin, None);
        }
    }
}

/// Arms the idle read, or looks at it, without anyone to wake.
fn is_quiet(connection: &mut Connection) -> bool {
    connection.poll_quiet(&mut Context::from_waker(Waker::noop()))
}
