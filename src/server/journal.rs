//! The thread that keeps what limits have counted, and makes their clock follow the wall clock.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quanta::Instant;

use crate::limits::{COUNTERS_FORGET_ROUNDS, COUNTERS_INTERVAL};
use crate::store::{Counters, StoreError};
use crate::tables::{Clock, Follower, Ledger, Row};
use crate::telemetry::{logs, notice};

/// The running thread.
pub(super) struct Journal {
    stopping: Arc<AtomicBool>,
    handle: JoinHandle<()>,
}

/// The counters of a data directory as its last server left them.
pub(super) fn open(folder: &Path) -> Result<(Arc<Ledger>, Counters), StoreError> {
    let (counters, told) = Counters::open(folder)?;
    if let Some(told) = told {
        notice::say(told);
    }
    let ledger = Ledger::new(Clock::new(Instant::now(), wall_clock()));
    match counters.read() {
        Ok(rows) => ledger.restore(rows),
        Err(error) => notice::say(format_args!("limits count from nothing: {error}")),
    }
    Ok((Arc::new(ledger), counters))
}

impl Journal {
    /// Writes what changes, every [`COUNTERS_INTERVAL`].
    pub fn start(ledger: Arc<Ledger>, counters: Counters) -> io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = stopping.clone();
        let mut keeping = Keeping {
            ledger,
            counters,
            waiting: HashMap::new(),
            is_failing: false,
        };
        let handle = std::thread::Builder::new()
            .name("counters".to_owned())
            .spawn(move || {
                logs::lower_priority();
                keeping.run(&stop);
            })?;
        Ok(Self { stopping, handle })
    }

    /// Writes the last changes and ends the thread. The data threads have ended before.
    pub fn stop(self) {
        self.stopping.store(true, Ordering::Release);
        self.handle.thread().unpark();
        // A panic there is reported by the hook.
        let _ = self.handle.join();
    }
}

struct Keeping {
    ledger: Arc<Ledger>,
    counters: Counters,
    /// What is not written yet, by name: while the file cannot be written each counter waits once.
    waiting: HashMap<[u8; 16], Row>,
    is_failing: bool,
}

impl Keeping {
    fn run(&mut self, stopping: &AtomicBool) {
        let mut follower = Follower::default();
        for round in 1_u32.. {
            // Read before the counters: what was counted before the stop is still written.
            let stops = stopping.load(Ordering::Acquire);
            follower.hear(&self.ledger.clock, wall_clock(), Instant::now());
            self.write();
            if stops {
                return;
            }
            if round % COUNTERS_FORGET_ROUNDS == 0 {
                // It is tried again; what is left over is not read at the next start.
                let _ = self.counters.forget(self.ledger.now());
            }
            std::thread::park_timeout(COUNTERS_INTERVAL);
        }
    }

    fn write(&mut self) {
        let changes = self.ledger.changes().into_iter();
        self.waiting.extend(changes.map(|row| (row.name, row)));
        if self.waiting.is_empty() {
            return;
        }
        match self.counters.write(self.waiting.values()) {
            Ok(()) => {
                self.waiting.clear();
                if std::mem::take(&mut self.is_failing) {
                    notice::say("limits: counts are kept again");
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    notice::say(format_args!(
                        "limits: counts cannot be written: {error}; they go on in memory, and are lost at a restart"
                    ));
                }
            }
        }
    }
}

fn wall_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_millis() as u64
}
