//! Deadlines of the sockets of one data thread.
//!
//! A deadline never cancels an operation: cancelling loses bytes on io_uring and poisons the descriptor on epoll. It shuts
//! the socket down, and whatever is armed on it ends by itself. One coarse ticker serves all sockets of a thread. It alone looks
//! at the clock: most deadlines are taken back before it does, so that setting one is a matter of a few stores.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::os::fd::RawFd;
use std::time::Duration;

use quanta::Instant;

use super::task;
use crate::limits::DEADLINE_TICK;

/// What a passed deadline does to the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExpiry {
    /// Ends reads; an answer can still be written.
    ShutRead,
    /// Ends both directions.
    ShutBoth,
}

/// The place of one socket in its thread's table. Leaves it when dropped.
pub struct Deadline {
    index: usize,
    /// The table is the thread's own.
    _not_send: PhantomData<*const ()>,
}

impl Deadline {
    /// Enters a socket, with no deadline set.
    pub fn register(fd: RawFd) -> Self {
        TABLE.with_borrow_mut(|table| {
            let entry = Entry {
                fd,
                due: Due::Never,
                fresh: false,
                on: OnExpiry::ShutBoth,
                idle: false,
                expired: false,
            };
            let index = match table.free.pop() {
                Some(index) => {
                    // One that was left in the list of fresh ones stays there.
                    let fresh = table.entries[index].fresh;
                    table.entries[index] = Entry { fresh, ..entry };
                    index
                }
                None => {
                    table.entries.push(entry);
                    table.entries.len() - 1
                }
            };
            Self {
                index,
                _not_send: PhantomData,
            }
        })
    }

    /// Sets the deadline `after` from now, in place of an earlier one. It passes at most two ticks late.
    pub fn arm(&self, after: Duration, on: OnExpiry) {
        self.set(after, on, false);
    }

    /// [`Deadline::arm`] for a wait in which nothing is lost when it ends early: see [`hasten_idle`].
    pub fn arm_idle(&self, after: Duration) {
        self.set(after, OnExpiry::ShutRead, true);
    }

    fn set(&self, after: Duration, on: OnExpiry, idle: bool) {
        let start = TABLE.with_borrow_mut(|table| {
            let entry = &mut table.entries[self.index];
            if entry.due == Due::Never {
                table.armed += 1;
            }
            entry.due = Due::After(after);
            entry.on = on;
            entry.idle = idle;
            entry.expired = false;
            if !std::mem::replace(&mut entry.fresh, true) {
                table.fresh.push(self.index);
            }
            !std::mem::replace(&mut table.ticking, true)
        });
        if start {
            task::spawn("deadline ticker", tick());
        }
    }

    /// Takes the deadline back.
    pub fn disarm(&self) {
        TABLE.with_borrow_mut(|table| {
            let entry = &mut table.entries[self.index];
            entry.expired = false;
            if std::mem::replace(&mut entry.due, Due::Never) != Due::Never {
                table.armed -= 1;
            }
        });
    }

    /// Whether the deadline has passed; true until another is set or this one is taken back.
    pub fn expired(&self) -> bool {
        TABLE.with_borrow(|table| table.entries[self.index].expired)
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        // The thread's table may be gone before the last socket when the thread ends.
        let _ = TABLE.try_with(|table| {
            let mut table = table.borrow_mut();
            let entry = &mut table.entries[self.index];
            entry.fd = -1;
            if std::mem::replace(&mut entry.due, Due::Never) != Due::Never {
                table.armed -= 1;
            }
            table.free.push(self.index);
        });
    }
}

/// Ends every wait set by [`Deadline::arm_idle`] on this thread after at most `after`: a drain.
pub fn hasten_idle(after: Duration) {
    let now = Instant::now();
    TABLE.with_borrow_mut(|table| {
        table.start_clocks(now);
        let at = now + after;
        let waiting = table.entries.iter_mut().filter(|entry| entry.idle);
        for entry in waiting {
            if matches!(entry.due, Due::At(due) if at < due) {
                entry.due = Due::At(at);
                table.earliest = Some(table.earliest.map_or(at, |earliest| earliest.min(at)));
            }
        }
    });
}

/// Shuts every registered socket down, for a thread that ends: monoio does not drop all of its tasks, and their peers would
/// wait for them.
pub fn shut_all() {
    TABLE.with_borrow(|table| {
        for entry in table.entries.iter().filter(|entry| entry.fd >= 0) {
            shut(entry.fd, OnExpiry::ShutBoth);
        }
    });
}

/// Calls `f` about once a second on this thread until it answers false.
pub fn every_second(f: impl FnMut() -> bool + 'static) {
    HOOKS.with_borrow_mut(|hooks| hooks.push(Box::new(f)));
    let start = TABLE.with_borrow_mut(|table| !std::mem::replace(&mut table.ticking, true));
    if start {
        task::spawn("deadline ticker", tick());
    }
}

/// Tells the table that a new runtime begins on this thread: the ticker of one before it ended with it.
pub(super) fn begin_runtime() {
    TABLE.with_borrow_mut(|table| table.ticking = false);
    HOOKS.take();
}

#[derive(Default)]
struct Table {
    entries: Vec<Entry>,
    free: Vec<usize>,
    /// Entries whose deadline may have been set since the last tick.
    fresh: Vec<usize>,
    /// No entry is due before this; it may be earlier than the earliest entry.
    earliest: Option<Instant>,
    armed: usize,
    ticking: bool,
}

struct Entry {
    fd: RawFd,
    due: Due,
    /// Whether it is in the list of fresh ones.
    fresh: bool,
    on: OnExpiry,
    idle: bool,
    expired: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Never,
    /// So long after the next tick: it was set since the last one.
    After(Duration),
    At(Instant),
}

impl Table {
    /// Lets the deadlines that were set since the last tick count from `now`.
    fn start_clocks(&mut self, now: Instant) {
        for index in self.fresh.drain(..) {
            let entry = &mut self.entries[index];
            entry.fresh = false;
            if let Due::After(after) = entry.due {
                let at = now + after;
                entry.due = Due::At(at);
                self.earliest = Some(self.earliest.map_or(at, |earliest| earliest.min(at)));
            }
        }
    }
}

type Hook = Box<dyn FnMut() -> bool>;

thread_local! {
    static TABLE: RefCell<Table> = RefCell::default();
    static HOOKS: RefCell<Vec<Hook>> = const { RefCell::new(Vec::new()) };
    static LAST_SECOND: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Says that the ticker stopped, also when a hook panicked: the next deadline then starts another.
struct Ticking;

impl Drop for Ticking {
    fn drop(&mut self) {
        let _ = TABLE.try_with(|table| table.borrow_mut().ticking = false);
    }
}

async fn tick() {
    let _ticking = Ticking;
    loop {
        let (armed, hooks) = (
            TABLE.with_borrow(|table| table.armed),
            HOOKS.with_borrow(|hooks| !hooks.is_empty()),
        );
        if armed == 0 && !hooks {
            return;
        }
        // With only hooks to run a second is soon enough, but a deadline may be set meanwhile: it must not wait for that.
        monoio::time::sleep(DEADLINE_TICK).await;
        let now = Instant::now();
        expire(now);
        run_hooks(now);
    }
}

fn expire(now: Instant) {
    TABLE.with_borrow_mut(|table| {
        table.start_clocks(now);
        if table.earliest.is_none_or(|earliest| now < earliest) {
            return;
        }
        let mut earliest = None;
        let mut passed = 0;
        for entry in &mut table.entries {
            let Due::At(at) = entry.due else { continue };
            if now < at {
                earliest = Some(earliest.map_or(at, |other: Instant| other.min(at)));
                continue;
            }
            entry.due = Due::Never;
            entry.expired = true;
            passed += 1;
            shut(entry.fd, entry.on);
        }
        table.armed -= passed;
        table.earliest = earliest;
    });
}

fn run_hooks(now: Instant) {
    let due = LAST_SECOND
        .get()
        .is_none_or(|last| now.saturating_duration_since(last) >= Duration::from_secs(1));
    if !due {
        return;
    }
    LAST_SECOND.set(Some(now));
    // Taken out while they run: a hook may close sockets or add a hook.
    let mut hooks = HOOKS.take();
    hooks.retain_mut(|hook| hook());
    HOOKS.with_borrow_mut(|added| hooks.append(added));
    HOOKS.set(hooks);
}

fn shut(fd: RawFd, on: OnExpiry) {
    let how = match on {
        OnExpiry::ShutRead => libc::SHUT_RD,
        OnExpiry::ShutBoth => libc::SHUT_RDWR,
    };
    // SAFETY: shutdown(2) takes any integer; a registered descriptor is open, since a transport leaves the table before it
    // closes, and a socket the peer already reset answers ENOTCONN, which changes nothing.
    unsafe {
        libc::shutdown(fd, how);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::driver::{DriverChoice, Runtime};
    use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
    use monoio::net::TcpStream;
    use std::os::fd::AsRawFd;

    fn on_both_drivers(test: impl AsyncFn()) {
        for choice in [DriverChoice::Epoll, DriverChoice::Auto] {
            let (mut runtime, _) = Runtime::build(choice).expect("a runtime");
            runtime.block_on(test());
        }
    }

    fn pair() -> (TcpStream, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let far =
            std::net::TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
        let (near, _) = listener.accept().expect("accept");
        near.set_nonblocking(true).expect("non-blocking");
        (TcpStream::from_std(near).expect("from std"), far)
    }

    #[test]
    fn a_passed_deadline_ends_an_armed_read_and_leaves_writing() {
        on_both_drivers(async || {
            let (mut near, mut far) = pair();
            let deadline = Deadline::register(near.as_raw_fd());
            deadline.arm(Duration::from_millis(30), OnExpiry::ShutRead);
            let (read, _) = near.read(vec![0; 16]).await;
            assert_eq!(read.expect("an end, not an error"), 0);
            assert!(deadline.expired());
            near.write_all(b"late".to_vec())
                .await
                .0
                .expect("still writable");
            let mut received = [0; 4];
            std::io::Read::read_exact(&mut far, &mut received).expect("received");
            assert_eq!(&received, b"late");
        });
    }

    #[test]
    fn a_passed_deadline_ends_a_write_that_is_stuck() {
        on_both_drivers(async || {
            let (mut near, _far) = pair();
            let deadline = Deadline::register(near.as_raw_fd());
            deadline.arm(Duration::from_millis(50), OnExpiry::ShutBoth);
            // More than both sockets' buffers hold, and nobody reads.
            let (result, _) = near.write_all(vec![0; 64 << 20]).await;
            assert!(result.is_err() && deadline.expired());
            let (read, _) = near.read(vec![0; 16]).await;
            assert_eq!(read.expect("an end"), 0);
        });
    }

    #[test]
    fn a_thread_that_ends_leaves_no_peer_waiting() {
        on_both_drivers(async || {
            let (near, mut far) = pair();
            let _deadline = Deadline::register(near.as_raw_fd());
            shut_all();
            let read = std::io::Read::read(&mut far, &mut [0; 1]);
            assert_eq!(read.expect("an end"), 0);
        });
    }

    #[test]
    fn a_deadline_taken_back_or_moved_does_not_fire() {
        on_both_drivers(async || {
            let (mut near, mut far) = pair();
            let deadline = Deadline::register(near.as_raw_fd());
            deadline.arm(Duration::from_millis(20), OnExpiry::ShutBoth);
            deadline.disarm();
            monoio::time::sleep(Duration::from_millis(60)).await;
            assert!(!deadline.expired());
            deadline.arm(Duration::from_millis(20), OnExpiry::ShutBoth);
            deadline.arm(Duration::from_secs(60), OnExpiry::ShutBoth);
            monoio::time::sleep(Duration::from_millis(60)).await;
            assert!(!deadline.expired());
            std::io::Write::write_all(&mut far, b"x").expect("write");
            assert_eq!(near.read(vec![0; 16]).await.0.expect("read"), 1);
        });
    }

    #[test]
    fn a_drain_hastens_idle_waits_alone() {
        on_both_drivers(async || {
            let (mut idle, _far) = pair();
            let (busy, _other) = pair();
            let waiting = Deadline::register(idle.as_raw_fd());
            waiting.arm_idle(Duration::from_secs(600));
            let working = Deadline::register(busy.as_raw_fd());
            working.arm(Duration::from_secs(600), OnExpiry::ShutRead);
            hasten_idle(Duration::from_millis(10));
            let (read, _) = idle.read(vec![0; 16]).await;
            assert_eq!(read.expect("an end"), 0);
            assert!(waiting.expired() && !working.expired());
        });
    }

    #[test]
    fn a_dropped_entry_is_reused_and_hooks_run_until_they_decline() {
        on_both_drivers(async || {
            let first = Deadline::register(-1);
            let index = first.index;
            drop(first);
            assert_eq!(Deadline::register(-1).index, index);
            let calls = std::rc::Rc::new(Cell::new(0));
            let counted = calls.clone();
            LAST_SECOND.set(None);
            every_second(move || {
                counted.set(counted.get() + 1);
                false
            });
            while calls.get() == 0 {
                monoio::time::sleep(DEADLINE_TICK).await;
            }
            assert_eq!(calls.get(), 1);
        });
    }
}
