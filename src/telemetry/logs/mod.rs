//! The store of log entries (design 7, mechanisms 9): segments that one thread writes and two others read. Nothing here is ever
//! waited for by a data thread: what finds no room is dropped and counted.

// Readers and the writer are no data threads: they answer control, whose wakers may be woken from anywhere.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

mod catalog;
pub(super) mod clock;
mod filter;
mod keeper;
mod readable;
mod reader;
mod redact;
mod row;
mod segment;
mod writer;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

pub use filter::{Condition, FilterError, Key, Operator, Value, between, bound, condition};
pub use keeper::Bounds;
pub use reader::{
    Extremes, Form, Found, Log, Order, OrderBy, Place, Query, Selection, StoredBody, Sum, Tally,
    Which,
};
pub use redact::{redact, redact_text};
pub use row::{Details, flag};
pub use segment::Edit;

use crate::limits::{LOG_QUESTIONS_MAX, LOG_READERS, LOG_STOP_WAIT};
use crate::record::{Id, Record};
use crate::snapshot::Published;
use catalog::Catalog;
use keeper::Keeper;
use reader::{Counts, Reader};
use writer::{Job, Queue};

/// The folder of segments in the data directory.
pub const FOLDER: &str = "logs";

/// What became of the entries so far, and how much there is.
#[derive(Debug, Default)]
pub struct Stats {
    /// Written.
    pub stored: AtomicU64,
    /// Lost because the disk did not take them in time.
    pub dropped: AtomicU64,
    /// Not written because their gateway keeps no more (`STOP_INSERTING`).
    pub over_quota: AtomicU64,
    /// Not written because their gateway was gone by then.
    pub ownerless: AtomicU64,
    /// Bodies that are missing from their entries for want of room.
    pub bodies_dropped: AtomicU64,
    /// Bodies that are missing there because they are larger than what is kept of one.
    pub bodies_too_large: AtomicU64,
    /// Deleted by age, by number or for want of disk.
    pub expired: AtomicU64,
    /// Writes that failed.
    pub failures: AtomicU64,
    /// Files of entries.
    pub segments: AtomicU64,
    /// Bytes of all files.
    pub bytes: AtomicU64,
    last_failure: Mutex<String>,
}

impl Stats {
    fn failed(&self, error: &rusqlite::Error) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        *self
            .last_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = error.to_string();
    }

    /// Why the last write failed; empty where none did.
    pub fn last_failure(&self) -> String {
        self.last_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// Too many wait already.
    #[error("the log store is busy")]
    Busy,
    /// It took longer than one may.
    #[error(
        "the logs asked for are too many to be read in time; narrow the question, by time for instance"
    )]
    Late,
    /// The files cannot be read or written.
    #[error("the log store cannot be used: {0}")]
    Broken(String),
}

impl From<rusqlite::Error> for Unread {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::OperationInterrupted) => Self::Late,
            _ => Self::Broken(error.to_string()),
        }
    }
}

type Question = Box<dyn FnOnce(&mut Reader) + Send>;

/// The running store.
pub struct Logs {
    queue: Arc<Queue>,
    stats: Arc<Stats>,
    catalog: Arc<Catalog>,
    questions: SyncSender<Question>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Logs {
    /// Starts its threads on a folder, which need not be there and need not be usable: requests go on without their logs.
    pub fn start(folder: &Path, bounds: Bounds, published: Arc<Published>) -> io::Result<Self> {
        outlive_file_limits();
        let (catalog, stats) = (Arc::new(Catalog::default()), Arc::new(Stats::default()));
        let queue = Arc::new(Queue::default());
        let mut keeper = Keeper::new(folder, bounds, catalog.clone(), stats.clone());
        if let Err(error) = keeper.make_ready() {
            stats.failed(&error);
        }
        let (waiting, counted) = (queue.clone(), stats.clone());
        let writer = std::thread::Builder::new()
            .name("logs".to_owned())
            .spawn(move || writer::run(&waiting, &mut keeper, &published, &counted))?;
        let (questions, asked) = sync_channel::<Question>(LOG_QUESTIONS_MAX);
        let asked = Arc::new(Mutex::new(asked));
        let counts = Arc::new(Counts::default());
        for index in 0..LOG_READERS {
            let reader = Reader::new(catalog.clone(), counts.clone());
            let asked = asked.clone();
            std::thread::Builder::new()
                .name(format!("logs-{index}"))
                .spawn(move || read(&asked, reader))?;
        }
        Ok(Self {
            queue,
            stats,
            catalog,
            questions,
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Takes a record; one without a log entry is none of its business.
    pub fn push(&self, record: Record) {
        self.queue.push(record, &self.stats);
    }

    /// Counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Entries of a gateway that are stored.
    pub fn rows(&self, gateway: &str) -> u64 {
        self.catalog.rows(gateway)
    }

    /// Records that wait to be written.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Takes other bounds.
    pub fn bound(&self, bounds: Bounds) {
        self.queue.order(Job::Bound(bounds));
    }

    /// Deletes all entries of a gateway, soon.
    pub fn forget(&self, gateway: &str) {
        self.queue.order(Job::Forget(gateway.to_owned()));
    }

    /// Finds a page of entries.
    pub async fn find(&self, query: Query) -> Result<Found, Unread> {
        self.ask(move |reader| reader.find(&query)).await
    }

    /// Sums over the next entries of a selection, and where it goes on; `None`: that was all of it.
    pub async fn tally(
        &self,
        selection: Arc<Selection>,
        from: Option<Place>,
    ) -> Result<(Tally, Option<Place>), Unread> {
        self.ask(move |reader| reader.tally(&selection, from.as_ref()))
            .await
    }

    /// Reads one entry and its bodies' heads, of an answer that came as a stream that of its final form; `redacts`: without what
    /// looks like a key in it.
    pub async fn get(&self, gateway: String, id: Id, redacts: bool) -> Result<Option<Log>, Unread> {
        self.ask(move |reader| {
            let Some(mut log) = reader.get(&gateway, id)? else {
                return Ok(None);
            };
            if log.heads[1].is_some()
                && let Some(body) = reader.body(&gateway, id, Which::Response)?
                && body.is_stream()
            {
                log.heads[1] = Some(body.readable(redacts).head());
            }
            Ok(Some(log))
        })
        .await
    }

    /// Reads a body in this form; `None`: there is no such entry, or none is kept.
    pub async fn body(
        &self,
        gateway: String,
        id: Id,
        which: Which,
        form: Form,
    ) -> Result<Option<StoredBody>, Unread> {
        self.ask(move |reader| {
            let body = reader.body(&gateway, id, which)?;
            Ok(match form {
                Form::Raw => body,
                Form::Final { redacts } => body.map(|body| body.readable(redacts)),
            })
        })
        .await
    }

    /// Changes an entry; `false`: there is none.
    pub async fn edit(&self, gateway: String, id: Id, edit: Edit) -> Result<bool, Unread> {
        let (done, outcome) = oneshot::channel();
        let done = Box::new(move |edited| {
            // Who asked may have gone; the change counts all the same.
            let _ = done.send(edited);
        });
        self.queue.order(Job::Edit(gateway, id, edit, done));
        match outcome.await {
            Ok(edited) => Ok(edited?),
            Err(_) => Err(Unread::Busy),
        }
    }

    /// Deletes the entries that a query finds; returns how many these were.
    pub async fn delete(&self, query: Query) -> Result<u64, Unread> {
        let gateway = query.gateway.clone();
        let found = self.ask(move |reader| reader.ids(&query)).await?;
        let (done, outcome) = oneshot::channel();
        let done = Box::new(move |deleted| {
            let _ = done.send(deleted);
        });
        self.queue.order(Job::Delete(gateway, found, done));
        match outcome.await {
            Ok(deleted) => Ok(deleted?),
            Err(_) => Err(Unread::Busy),
        }
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Reader) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, Unread> {
        let (answer, outcome) = oneshot::channel();
        let question: Question = Box::new(move |reader| {
            let _ = answer.send(work(reader));
        });
        match self.questions.try_send(question) {
            Ok(()) => match outcome.await {
                Ok(answer) => Ok(answer?),
                Err(_) => Err(Unread::Broken("the reader failed".to_owned())),
            },
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(Unread::Busy),
        }
    }

    /// Writes what is left and ends the writer. A disk that takes nothing does not hold up the end for long.
    pub fn stop(&self) {
        self.queue.stop();
        let handle = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(handle) = handle else { return };
        let begin = Instant::now();
        while !handle.is_finished() {
            if begin.elapsed() > LOG_STOP_WAIT {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = handle.join();
    }
}

/// A reader's life: it ends with the store.
fn read(asked: &Mutex<Receiver<Question>>, mut reader: Reader) {
    lower_priority();
    loop {
        // Held while waiting: whoever has it takes the next question, and the others come after.
        let next = asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv_timeout(Duration::from_secs(1));
        match next {
            Ok(question) => {
                // A panic is reported by the hook; the next question finds an unharmed reader.
                let work = std::panic::AssertUnwindSafe(|| question(&mut reader));
                let _ = std::panic::catch_unwind(work);
            }
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return,
        }
        reader.close_gone();
    }
}

/// A limit on the size of files is then an error like a full disk, and not the end of the program.
fn outlive_file_limits() {
    // SAFETY: no handler is installed; the signal is ignored from here on, by every thread.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

/// Lets the data threads go first where processors are scarce.
pub fn lower_priority() {
    // SAFETY: setpriority(2) takes no pointers; on Linux 0 means the calling thread. If it may not be lowered, it is not.
    unsafe {
        let _ = libc::setpriority(libc::PRIO_PROCESS, 0, 10);
    }
}

#[cfg(test)]
mod tests;
