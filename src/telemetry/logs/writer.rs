//! The thread that writes log entries, and the queue before it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::catalog::Segment;
use super::keeper::{Bounds, Keeper, Quota};
use super::row::{Compressor, Row};
use super::segment::Edit;
use super::{Stats, lower_priority};
use crate::limits::{
    DEFAULT_GATEWAY, LOG_BATCH_MAX, LOG_BATCH_WAIT, LOG_QUEUE_BYTES_MAX, LOG_QUEUE_MAX,
    LOG_RETRY_WAIT, RETENTION_INTERVAL,
};
use crate::record::{Captured, Id, Loss, Record};
use crate::snapshot::{LogSettings, Published, Snapshot};
use crate::telemetry::notice;

/// What a caller hears of its change.
pub type Done<T> = Box<dyn FnOnce(rusqlite::Result<T>) + Send>;

/// A change of what is stored.
pub enum Job {
    /// Of one entry.
    Edit(String, Id, Edit, Done<bool>),
    /// Deletes what a reader found.
    Delete(String, Vec<(Arc<Segment>, Vec<Id>)>, Done<u64>),
    /// Deletes all that a gateway has.
    Forget(String),
    /// Takes other bounds.
    Bound(Bounds),
}

/// Records on their way to the writer: bounded, and never waited for.
#[derive(Default)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    bell: Condvar,
}

#[derive(Default)]
struct Waiting {
    records: VecDeque<Record>,
    /// Bytes of their bodies.
    held: usize,
    jobs: VecDeque<Job>,
    is_stopping: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a record; what finds no room is counted. Bodies go before the entry that they belong to.
    pub fn push(&self, mut record: Record, stats: &Stats) {
        let Some(log) = &mut record.log else { return };
        let held = log.captured.as_ref().map_or(0, Captured::held);
        let mut lost = log.captured.as_ref().map_or([0, 0], losses);
        let mut waiting = self.lock();
        if waiting.records.len() >= LOG_QUEUE_MAX {
            stats.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if waiting.held + held > LOG_QUEUE_BYTES_MAX
            && let Some(captured) = log.captured.take()
        {
            lost[0] += [captured.request, captured.response]
                .iter()
                .filter(|body| body.held() > 0)
                .count() as u64;
        } else {
            waiting.held += held;
        }
        waiting.records.push_back(record);
        if waiting.records.len() == LOG_BATCH_MAX {
            self.bell.notify_one();
        }
        drop(waiting);
        let counters = [&stats.bodies_dropped, &stats.bodies_too_large];
        for (counter, lost) in counters.into_iter().zip(lost) {
            if lost > 0 {
                counter.fetch_add(lost, Ordering::Relaxed);
            }
        }
    }

    /// Adds a change.
    pub fn order(&self, job: Job) {
        self.lock().jobs.push_back(job);
        self.bell.notify_one();
    }

    /// Asks the thread to write what is there, and to end.
    pub fn stop(&self) {
        self.lock().is_stopping = true;
        self.bell.notify_one();
    }

    /// Waits for a batch's time and takes one, unless the writer still has one in hand.
    fn take(&self, records: &mut Vec<Record>, has_batch: bool) -> (VecDeque<Job>, bool) {
        let waiting = self.lock();
        let idle = |waiting: &mut Waiting| {
            let full = waiting.records.len() >= LOG_BATCH_MAX && !has_batch;
            waiting.jobs.is_empty() && !waiting.is_stopping && !full
        };
        let waited = self.bell.wait_timeout_while(waiting, LOG_BATCH_WAIT, idle);
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if !has_batch {
            let count = waiting.records.len().min(LOG_BATCH_MAX);
            records.extend(waiting.records.drain(..count));
            for record in records.iter() {
                let captured = record.log.as_ref().and_then(|log| log.captured.as_ref());
                waiting.held -= captured.map_or(0, Captured::held);
            }
        }
        let stopping = waiting.is_stopping && waiting.records.is_empty();
        (std::mem::take(&mut waiting.jobs), stopping)
    }

    /// How many records wait.
    pub fn len(&self) -> usize {
        self.lock().records.len()
    }
}

/// Bodies that are not there: for want of room, and for their size.
fn losses(captured: &Captured) -> [u64; 2] {
    let losses = [captured.request.loss(), captured.response.loss()];
    [Loss::NoRoom, Loss::TooLarge]
        .map(|which| losses.iter().filter(|loss| **loss == Some(which)).count() as u64)
}

/// The thread's life.
pub fn run(queue: &Queue, keeper: &mut Keeper, published: &Published, stats: &Stats) {
    lower_priority();
    let mut batch = Batch {
        keeper,
        stats,
        rows: Vec::new(),
        compressor: Compressor::default(),
        tried: None,
        is_failing: false,
    };
    let mut forgotten: Vec<String> = Vec::new();
    let mut looked: Option<Instant> = None;
    loop {
        let mut records = Vec::new();
        let (jobs, stopping) = queue.take(&mut records, !batch.rows.is_empty());
        let now = Instant::now();
        batch.keeper.tick(wall_clock(), now);
        let snapshot = published.load_full();
        let settings = |gateway: &str| settings_of(&snapshot, gateway);
        batch.take(records, &settings);
        batch.write(&settings, now, stopping || !jobs.is_empty());
        for job in jobs {
            match job {
                Job::Edit(gateway, id, edit, done) => done(batch.keeper.edit(&gateway, id, &edit)),
                Job::Delete(gateway, found, done) => done(batch.keeper.delete(&gateway, &found)),
                Job::Forget(gateway) => forgotten.push(gateway),
                Job::Bound(bounds) => batch.keeper.bounds = bounds,
            }
        }
        // A part at a time, so that entries go on being written.
        forgotten.retain(|gateway| match batch.keeper.forget(gateway) {
            Ok(done) => !done,
            Err(error) => {
                stats.failed(&error);
                true
            }
        });
        if looked.is_none_or(|at| now.duration_since(at) >= RETENTION_INTERVAL) {
            looked = Some(now);
            batch.keeper.look_after();
        }
        if stopping {
            let lost = batch.rows.len() as u64;
            stats.dropped.fetch_add(lost, Ordering::Relaxed);
            if lost > 0 {
                notice::say(format_args!("logs: {lost} entries could not be written"));
            }
            return batch.keeper.settle();
        }
    }
}

/// What is being written.
struct Batch<'a> {
    keeper: &'a mut Keeper,
    stats: &'a Stats,
    rows: Vec<Row>,
    compressor: Compressor,
    /// When it last failed.
    tried: Option<Instant>,
    is_failing: bool,
}

impl Batch<'_> {
    fn take(&mut self, records: Vec<Record>, settings: &dyn Fn(&str) -> Option<LogSettings>) {
        for record in records {
            let gateway = record.gateway.clone().unwrap_or_default();
            let Some(settings) = settings(&gateway) else {
                self.stats.ownerless.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            match Row::of(record, &settings, &mut self.compressor) {
                Some(row) => self.rows.push(row),
                // It failed before a provider was known.
                None => {
                    self.stats.ownerless.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Writes what there is, and tries again what failed a while ago.
    fn write(
        &mut self,
        settings: &dyn Fn(&str) -> Option<LogSettings>,
        now: Instant,
        at_once: bool,
    ) {
        let waits = self
            .tried
            .is_some_and(|at| now.duration_since(at) < LOG_RETRY_WAIT);
        if self.rows.is_empty() || waits && !at_once {
            return;
        }
        let mut quotas: HashMap<Arc<str>, Quota> = HashMap::new();
        for row in &self.rows {
            if quotas.contains_key(&row.gateway) {
                continue;
            }
            if let Some(LogSettings { most, stops, .. }) = settings(&row.gateway) {
                quotas.insert(row.gateway.clone(), Quota { most, stops });
            }
        }
        match self.keeper.store(&mut self.rows, &quotas) {
            Ok(()) => {
                self.tried = None;
                if std::mem::take(&mut self.is_failing) {
                    notice::say("logs: entries are written again");
                }
            }
            Err(error) => {
                self.tried = Some(now);
                self.stats.failed(&error);
                if !std::mem::replace(&mut self.is_failing, true) {
                    notice::say(format_args!(
                        "logs: entries cannot be written: {error}; requests go on, and what finds no room is counted"
                    ));
                }
            }
        }
    }
}

/// The settings of a gateway that is there, or that an authenticated request is about to make.
fn settings_of(snapshot: &Snapshot, gateway: &str) -> Option<LogSettings> {
    if let Some(gateway) = snapshot.gateways.get(gateway) {
        return Some(gateway.logs);
    }
    let default = snapshot.settings.default_gateway.as_ref();
    default
        .filter(|_| gateway == DEFAULT_GATEWAY)
        .map(|gateway| gateway.logs)
}

fn wall_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_millis() as u64
}
