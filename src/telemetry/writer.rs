//! The thread that takes the records from the data threads, prints them and hands them on to the log store.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rtrb::Consumer;

use super::access::{Format, write_line};
use super::logs::Logs;
use super::notice;
use crate::limits::{WRITER_BATCH_BYTES, WRITER_PAUSE};
use crate::net::task;
use crate::record::Record;

/// The running writer.
pub struct Writer {
    shared: Arc<Shared>,
    handle: Option<JoinHandle<()>>,
}

struct Shared {
    rings: Mutex<Vec<Consumer<Record>>>,
    stopping: AtomicBool,
    lost: AtomicU64,
    logs: Arc<Logs>,
}

impl Writer {
    /// Starts the thread; without a format it prints nothing.
    pub fn start(format: Option<Format>, logs: Arc<Logs>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            rings: Mutex::default(),
            stopping: AtomicBool::new(false),
            lost: AtomicU64::new(0),
            logs,
        });
        let running = shared.clone();
        let handle = std::thread::Builder::new()
            .name("writer".to_owned())
            .spawn(move || run(&running, format))?;
        Ok(Self {
            shared,
            handle: Some(handle),
        })
    }

    /// Takes the reading end of a data thread's ring.
    pub fn add(&self, ring: Consumer<Record>) {
        self.shared.lock().push(ring);
    }

    /// Bytes of access lines that standard output did not take.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Writes what is left and ends the thread.
    pub fn stop(mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        if let Some(handle) = self.handle.take() {
            // It holds no lock while it prints, so even a panic there loses lines at most.
            let _ = handle.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Consumer<Record>>> {
        self.rings
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn run(shared: &Shared, format: Option<Format>) {
    let mut batch = String::new();
    loop {
        // Read before the rings: what was pushed before the stop is still seen.
        let stopping = shared.stopping.load(Ordering::Acquire);
        let more = collect(shared, format, &mut batch);
        if !batch.is_empty() {
            print(shared, &batch);
            batch.clear();
        }
        for report in task::take_panic_reports() {
            notice::say(format_args!("panic contained: {report}"));
        }
        if !more {
            if stopping {
                return;
            }
            std::thread::park_timeout(WRITER_PAUSE);
        }
    }
}

/// Fills a batch; true when there may be more.
fn collect(shared: &Shared, format: Option<Format>, batch: &mut String) -> bool {
    let mut rings = shared.lock();
    rings.retain(|ring| !(ring.is_abandoned() && ring.is_empty()));
    for ring in rings.iter_mut() {
        while let Ok(record) = ring.pop() {
            if let Some(format) = format {
                write_line(batch, &record, format);
            }
            shared.logs.push(record);
            if batch.len() >= WRITER_BATCH_BYTES {
                return true;
            }
        }
    }
    false
}

fn print(shared: &Shared, batch: &str) {
    let mut out = io::stdout().lock();
    if out
        .write_all(batch.as_bytes())
        .and_then(|()| out.flush())
        .is_err()
    {
        shared.lost.fetch_add(batch.len() as u64, Ordering::Relaxed);
    }
}
