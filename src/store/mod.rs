//! The configuration database: one SQLite file, one thread that owns it (design 7; mechanisms 7 and B11).

// Its thread is no data thread: it answers control, whose wakers may be woken from anywhere.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

mod counters;
mod id;
mod migrate;

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior,
};
use tokio::sync::oneshot;

pub use counters::{COUNTERS_FILE, Counters};
pub use id::{hex32, uuid};

use crate::limits::{STORE_BUSY_WAIT, STORE_QUEUE_MAX};

/// The file's name in the data directory.
pub const FILE: &str = "ringgate.db";

/// The open database.
pub struct Database {
    connection: Connection,
    path: PathBuf,
}

/// Why the database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be made.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Another program holds a lock on it.
    #[error("{0} is locked by another program")]
    Locked(PathBuf),
    /// It is no database, or a damaged one.
    #[error(
        "{path} is damaged or no database of ringgate's ({reason}); restore a backup, or move the file away to begin anew"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// A later ringgate wrote it.
    #[error(
        "{path} has schema {found}, and this ringgate knows only {known} and before: run the version that wrote it, or a later one"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The last one known here.
        known: i64,
    },
    /// Anything else that SQLite says.
    #[error("{path}: {source}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
}

impl Database {
    /// Opens, and where needed makes, the database of a data directory, and brings it to the current schema.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(FILE);
        let made = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        made.map_err(|source| StoreError::Io {
            path: path.clone(),
            source,
        })?;
        let open = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(&path)?;
            connection.busy_timeout(STORE_BUSY_WAIT)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "foreign_keys", true)?;
            connection.pragma_update(None, "trusted_schema", false)?;
            // A deleted secret leaves nothing behind, sealed as it was.
            connection.pragma_update(None, "secure_delete", true)?;
            connection.set_prepared_statement_cache_capacity(128);
            Ok(connection)
        };
        let mut connection = open().map_err(|error| explain(&path, error))?;
        migrate::check(&connection, &path)?;
        migrate::run(&mut connection, &path)?;
        Ok(Self { connection, path })
    }

    /// Opens the database of a data directory as it is, to look at it; `None` where there is none.
    pub fn look(folder: &Path) -> Result<Option<Self>, StoreError> {
        let path = folder.join(FILE);
        let there = path.try_exists();
        let there = there.map_err(|source| StoreError::Io {
            path: path.clone(),
            source,
        })?;
        if !there {
            return Ok(None);
        }
        let connection = open_existing(&path)?;
        migrate::check(&connection, &path)?;
        Ok(Some(Self { connection, path }))
    }

    /// The connection, for reading.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The account that last used it.
    pub fn account(&self) -> rusqlite::Result<Option<String>> {
        account(&self.connection)
    }

    /// Begins a change; dropped without a commit it leaves nothing behind.
    pub fn begin(&mut self) -> rusqlite::Result<Transaction<'_>> {
        self.connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
    }

    /// Brings everything into the file itself and empties the write-ahead log, so that what was replaced is in neither.
    pub fn checkpoint(&self) -> rusqlite::Result<()> {
        let query = "PRAGMA wal_checkpoint(TRUNCATE)";
        self.connection.query_row(query, [], |_| Ok(()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Copies the database of a data directory to a new file, also while a server uses it: a connection of its own reads one
/// state of it, and hinders no write. The master key is not in it.
pub fn backup(folder: &Path, to: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Io {
        path: to.to_owned(),
        source,
    };
    let path = folder.join(FILE);
    let source = open_existing(&path)?;
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to);
    let file = made.map_err(failed)?;
    let outcome = copy(&source, &path, to).and_then(|()| file.sync_all().map_err(failed));
    if outcome.is_err() {
        // A half copy must not be taken for a whole one; if it cannot go, the error is told all the same.
        let _ = std::fs::remove_file(to);
    }
    outcome
}

fn open_existing(path: &Path) -> Result<Connection, StoreError> {
    let open = || -> rusqlite::Result<Connection> {
        // Not read-only: where no server runs, the file's shared memory has to be made.
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.busy_timeout(STORE_BUSY_WAIT)?;
        Ok(connection)
    };
    open().map_err(|error| explain(path, error))
}

/// All pages in one step: with several, each write in between would begin the copy anew.
fn copy(source: &Connection, path: &Path, to: &Path) -> Result<(), StoreError> {
    let copied = || -> rusqlite::Result<(Connection, StepResult)> {
        let mut target = Connection::open(to)?;
        let backup = Backup::new(source, &mut target)?;
        let done = backup.step(-1)?;
        drop(backup);
        Ok((target, done))
    };
    let (target, done) = copied().map_err(|error| explain(path, error))?;
    if done != StepResult::Done {
        return Err(StoreError::Locked(path.to_owned()));
    }
    migrate::check(&target, to)?;
    // One file that needs none beside it; a server that opens it sets its own mode again.
    let set = target.pragma_update(None, "journal_mode", "DELETE");
    set.map_err(|error| explain(to, error))
}

fn explain(path: &Path, source: rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Locked(path),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged {
            path,
            reason: source.to_string(),
        },
        _ => StoreError::Sqlite { path, source },
    }
}

type Job = Box<dyn FnOnce(&mut Database) + Send>;

/// Sends work to the thread that owns the database.
#[derive(Clone)]
pub struct Store {
    jobs: SyncSender<Job>,
}

/// Why work was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Undone {
    /// Too much waits already, or the thread is gone: try again later.
    #[error("the configuration database is busy")]
    Busy,
    /// The work panicked; nothing of it was kept.
    #[error("the work on the configuration database failed")]
    Failed,
}

impl Store {
    /// Gives the database a thread of its own, which ends with the last handle.
    pub fn start(mut database: Database) -> io::Result<Self> {
        let (jobs, waiting) = sync_channel::<Job>(STORE_QUEUE_MAX);
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || {
                for job in waiting {
                    // A panic rolls its transaction back and is reported by the hook; the next piece of work is unharmed.
                    let _ = catch_unwind(AssertUnwindSafe(|| job(&mut database)));
                }
            })?;
        Ok(Self { jobs })
    }

    /// Does work on the database's thread, after what was sent before.
    pub async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Database) -> T + Send + 'static,
    ) -> Result<T, Undone> {
        let (done, outcome) = oneshot::channel();
        let job: Job = Box::new(move |database| {
            // The caller may have gone; the work counts all the same.
            let _ = done.send(work(database));
        });
        match self.jobs.try_send(job) {
            Ok(()) => outcome.await.map_err(|_| Undone::Failed),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(Undone::Busy),
        }
    }
}

/// The account for which a database's secrets are sealed and its policies written; `None` before its first start.
pub fn account(database: &Connection) -> rusqlite::Result<Option<String>> {
    let query = "SELECT value FROM meta WHERE key = 'account'";
    database.query_row(query, [], |row| row.get(0)).optional()
}

/// Now, in milliseconds since the Unix epoch.
pub fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_committed_is_there_and_a_dropped_change_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut database = Database::open(folder.path()).expect("opened");
        let set = |database: &mut Database, value: &str, keep: bool| {
            let change = database.begin().expect("begun");
            change
                .execute("INSERT OR REPLACE INTO meta VALUES ('x', ?1)", [value])
                .expect("set");
            if keep {
                change.commit().expect("committed");
            }
        };
        set(&mut database, "1", true);
        set(&mut database, "2", false);
        drop(database);
        let database = Database::open(folder.path()).expect("opened again");
        let read = |database: &Database| -> String {
            let query = "SELECT value FROM meta WHERE key = 'x'";
            let value = database.connection().query_row(query, [], |row| row.get(0));
            value.expect("a value")
        };
        assert_eq!(read(&database), "1");
        let copy = folder.path().join("copy").join(FILE);
        std::fs::create_dir(copy.parent().expect("a folder")).expect("made");
        backup(folder.path(), &copy).expect("copied");
        let again = backup(folder.path(), &copy);
        assert!(again.is_err(), "a backup overwrites nothing");
        let restored = Database::open(copy.parent().expect("a folder")).expect("opened");
        assert_eq!(read(&restored), "1");
    }

    #[test]
    fn what_cannot_be_opened_says_why() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILE);
        std::fs::write(
            &path,
            "this is no database, but long enough to look like one".repeat(100),
        )
        .expect("written");
        let error = Database::open(folder.path()).err().expect("refused");
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        std::fs::remove_file(&path).expect("removed");
        drop(Database::open(folder.path()).expect("made"));
        let later = Connection::open(&path).expect("opened");
        later.pragma_update(None, "user_version", 99).expect("set");
        let error = Database::open(folder.path()).err().expect("refused");
        assert!(
            matches!(error, StoreError::Newer { found: 99, .. }),
            "{error}"
        );
        later.pragma_update(None, "user_version", 1).expect("set");
        later.pragma_update(None, "application_id", 7).expect("set");
        let error = Database::open(folder.path()).err().expect("refused");
        assert!(error.to_string().contains("another program's"), "{error}");
    }

    #[test]
    fn a_panic_in_one_piece_of_work_leaves_the_next_unharmed() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::start(Database::open(folder.path()).expect("opened")).expect("started");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let failed = runtime.block_on(store.call(|database| {
            let change = database.begin().expect("begun");
            change
                .execute("INSERT INTO meta VALUES ('x', '1')", [])
                .expect("set");
            panic!("on purpose");
        }));
        assert_eq!(failed, Err::<(), _>(Undone::Failed));
        let count = runtime.block_on(store.call(|database| {
            let count = database
                .connection()
                .query_row("SELECT count(*) FROM meta", [], |row| row.get(0));
            count.expect("a count")
        }));
        assert_eq!(count, Ok(0_i64));
    }
}
