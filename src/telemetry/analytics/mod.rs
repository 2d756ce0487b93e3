//! Figures of traffic (spec: control plane 10): taken from the data threads once a second, added up in a file of their own by the
//! minute and the hour, and asked for. One thread has the file. Data threads never wait for it: where the disk does not take
//! what there is, figures wait in memory, with less detail once they are many, and none is lost.

// Its thread is no data thread: it answers control, whose wakers may be woken from anywhere.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

mod file;
mod question;
mod series;

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rusqlite::ErrorCode;
use tokio::sync::oneshot;

use super::logs::clock::Clock;
use super::{logs, notice};
use crate::aggregate::{Block, Cell, Dimensions, Rows};
use crate::limits::{
    ANALYTICS_INTERVAL, ANALYTICS_QUESTIONS_MAX, ANALYTICS_STOP_WAIT, ANALYTICS_SWEEP,
};
use file::File;
use question::TooMany;
pub use question::{Dimension, Filter, Question, Test, Value};
use series::Series;

/// The file's name in the data directory.
pub const FILE: &str = "analytics.db";

/// Groups of a question, each with its values in the order of the question, and its figures.
pub type Answered = Vec<(Vec<Value>, Cell)>;

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// Too many wait already, or it is the end.
    #[error("the figures are busy")]
    Busy,
    /// It would take too long, or too much memory.
    #[error("the figures asked for are too many; ask for a shorter time or for fewer groups")]
    TooMany,
    /// The file cannot be read.
    #[error("the figures cannot be used: {0}")]
    Broken(String),
}

impl From<rusqlite::Error> for Unanswered {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => Self::TooMany,
            _ => Self::Broken(error.to_string()),
        }
    }
}

impl From<TooMany> for Unanswered {
    fn from(_: TooMany) -> Self {
        Self::TooMany
    }
}

/// What became of the figures.
#[derive(Debug, Default)]
pub struct Stats {
    /// Requests counted with less detail than they came with, for want of room.
    pub blurred: AtomicU64,
    /// Writes that failed.
    pub failures: AtomicU64,
    /// Bytes of the file.
    pub bytes: AtomicU64,
}

/// The running figures.
pub struct Analytics {
    shared: Arc<Shared>,
    questions: Mutex<Option<SyncSender<Ask>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

type Ask = Box<dyn FnOnce(&mut Keeper) + Send>;

#[derive(Default)]
struct Shared {
    collected: Mutex<Collected>,
    stats: Stats,
}

#[derive(Default)]
struct Collected {
    blocks: Vec<Arc<Block>>,
    /// On their way to the file.
    pending: Rows,
    series: Series,
}

impl Analytics {
    /// Starts its thread on a data directory, whose file need not be usable: figures then wait in memory. At most so many
    /// series are told to Prometheus.
    pub fn start(folder: &Path, series_max: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        shared.lock().series.bound(series_max);
        let (questions, asked) = sync_channel(ANALYTICS_QUESTIONS_MAX);
        let mut keeper = Keeper::new(folder.join(FILE), shared.clone());
        let thread = std::thread::Builder::new()
            .name("analytics".to_owned())
            .spawn(move || run(&mut keeper, &asked))?;
        Ok(Self {
            shared,
            questions: Mutex::new(Some(questions)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Takes figures from this block too.
    pub fn add(&self, block: Arc<Block>) {
        self.shared.lock().blocks.push(block);
    }

    /// What became of the figures.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// Takes another bound of series; those that are there stay.
    pub fn bound(&self, series_max: usize) {
        self.shared.lock().series.bound(series_max);
    }

    /// The series of the metrics page, up to this moment.
    pub fn write_series(&self, page: &mut String) {
        self.shared.collect().series.write(page);
    }

    /// Answers questions, all of the same moment: this one.
    pub async fn ask(&self, questions: Vec<Question>) -> Result<Vec<Answered>, Unanswered> {
        let (answer, outcome) = oneshot::channel();
        let ask: Ask = Box::new(move |keeper| {
            let answers = questions.iter().map(|question| keeper.answer(question));
            // Who asked may have gone.
            let _ = answer.send(answers.collect());
        });
        let sent = match &*self
            .questions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
        {
            Some(questions) => questions.try_send(ask),
            None => return Err(Unanswered::Busy),
        };
        match sent {
            Ok(()) => outcome.await.unwrap_or(Err(Unanswered::Busy)),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(Unanswered::Busy),
        }
    }

    /// Stores what is left and ends the thread. A disk that takes nothing does not hold up the end for long.
    pub fn stop(&self) {
        let questions = self.questions.lock();
        drop(questions.unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock();
        let Some(thread) = thread.unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        let begin = Instant::now();
        while !thread.is_finished() {
            if begin.elapsed() > ANALYTICS_STOP_WAIT {
                notice::say("the last figures could not be stored in time");
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let _ = thread.join();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Collected> {
        self.collected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the data threads have counted.
    fn collect(&self) -> MutexGuard<'_, Collected> {
        let mut collected = self.lock();
        let Collected {
            blocks,
            pending,
            series,
        } = &mut *collected;
        for block in blocks.iter() {
            let rows = block.take();
            let blurred = rows.blurred();
            self.stats.blurred.fetch_add(blurred, Ordering::Relaxed);
            for (dimensions, cell) in rows.into_rows() {
                let dimensions = clean(dimensions);
                series.count(&dimensions, &cell);
                // Those who were not let in are of no gateway, and in no figures.
                if !dimensions.gateway.is_empty() {
                    pending.cell(&dimensions.plain()).merge(&cell);
                }
            }
        }
        // The block of a thread that is gone, and was taken for the last time.
        blocks.retain(|block| Arc::strong_count(block) > 1);
        collected
    }
}

/// Without what looks like a key in the words of clients, as in log entries.
fn clean(dimensions: Dimensions<'static>) -> Dimensions<'static> {
    let clean = |text: Cow<'static, str>| match logs::redact_text(&text) {
        Cow::Owned(redacted) => Cow::Owned(redacted),
        Cow::Borrowed(_) => text,
    };
    Dimensions {
        model: clean(dimensions.model),
        user_agent: clean(dimensions.user_agent),
        metadata: clean(dimensions.metadata),
        ..dimensions
    }
}

/// The thread's own: the file, and what is not in it yet.
struct Keeper {
    shared: Arc<Shared>,
    path: PathBuf,
    file: Option<File>,
    unsaved: Rows,
    clock: Clock,
    /// Why the file cannot be used; told once.
    complaint: Option<String>,
    swept: Option<Instant>,
}

fn run(keeper: &mut Keeper, asked: &Receiver<Ask>) {
    logs::lower_priority();
    let mut next = Instant::now() + ANALYTICS_INTERVAL;
    loop {
        let asked = asked.recv_timeout(next.saturating_duration_since(Instant::now()));
        keeper.save();
        match asked {
            Ok(ask) => {
                // A panic is reported by the hook; the next question finds an unharmed file.
                let work = std::panic::AssertUnwindSafe(|| ask(keeper));
                let _ = std::panic::catch_unwind(work);
            }
            Err(RecvTimeoutError::Timeout) => keeper.sweep(),
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if Instant::now() >= next {
            next = Instant::now() + ANALYTICS_INTERVAL;
        }
    }
}

impl Keeper {
    fn new(path: PathBuf, shared: Arc<Shared>) -> Self {
        let mut keeper = Self {
            shared,
            path,
            file: None,
            unsaved: Rows::default(),
            clock: Clock::after(None),
            complaint: None,
            swept: None,
        };
        if let Ok(file) = keeper.file()
            && let Ok(Some(last)) = file.last()
        {
            keeper.clock = Clock::after(Some(last * 60_000));
        }
        keeper
    }

    /// The minute that is believed to be now.
    fn now(&mut self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = since.map_or(0, |since| since.as_millis() as u64);
        self.clock.hear(now, Instant::now()).0 / 60_000
    }

    fn file(&mut self) -> Result<&mut File, String> {
        if self.file.is_none() {
            match File::open(&self.path) {
                Ok(file) => self.file = Some(file),
                Err(error) => return Err(self.complain(error)),
            }
        }
        self.file.as_mut().ok_or_else(String::new)
    }

    fn complain(&mut self, error: String) -> String {
        self.shared.stats.failures.fetch_add(1, Ordering::Relaxed);
        if self.complaint.as_ref() != Some(&error) {
            let path = self.path.display();
            notice::say(format_args!(
                "figures are not stored, and wait in memory: {path}: {error}"
            ));
            self.complaint = Some(error.clone());
        }
        error
    }

    /// Takes what there is and stores it; what cannot be stored waits.
    fn save(&mut self) {
        let rows = std::mem::take(&mut self.shared.collect().pending);
        self.blurred(rows.blurred());
        let before = self.unsaved.blurred();
        self.unsaved.merge(rows);
        self.blurred(self.unsaved.blurred() - before);
        if self.unsaved.is_empty() {
            return;
        }
        let rows = std::mem::take(&mut self.unsaved);
        let written = self
            .file()
            .and_then(|file| file.write(&rows).map_err(|error| error.to_string()));
        match written {
            Ok(blurred) => {
                self.blurred(blurred);
                if self.complaint.take().is_some() {
                    notice::say("figures are stored again");
                }
            }
            Err(error) => {
                self.unsaved = rows;
                self.complain(error);
            }
        }
    }

    fn blurred(&self, count: u64) {
        self.shared
            .stats
            .blurred
            .fetch_add(count, Ordering::Relaxed);
    }

    /// Deletes what is too old, now and then.
    fn sweep(&mut self) {
        if self.swept.is_some_and(|at| at.elapsed() < ANALYTICS_SWEEP) {
            return;
        }
        let now = self.now();
        let Ok(file) = self.file() else { return };
        let tidied = file.tidy(now);
        let bytes = file.bytes().unwrap_or(0);
        self.shared.stats.bytes.store(bytes, Ordering::Relaxed);
        match tidied {
            // The rest goes in the next second.
            Ok(true) => {}
            Ok(false) => self.swept = Some(Instant::now()),
            Err(error) => {
                self.swept = Some(Instant::now());
                self.complain(error.to_string());
            }
        }
    }

    fn answer(&mut self, question: &Question) -> Result<Answered, Unanswered> {
        let now = self.now();
        let unsaved = std::mem::take(&mut self.unsaved);
        let answered = match self.file() {
            Ok(file) => file.answer(question, now, &unsaved),
            Err(error) => Err(Unanswered::Broken(error)),
        };
        self.unsaved = unsaved;
        answered
    }
}
