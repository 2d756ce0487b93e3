//! The file of counters: what limits have counted outlives the program. Apart from the configuration, as it is written every
//! second and its loss would do little harm.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, Row as Found, TransactionBehavior, params};

use super::{STORE_BUSY_WAIT, StoreError, explain};
use crate::tables::ledger::{Row, Unit};
use crate::tables::{Technique, Window};

/// The file's name in the data directory.
pub const COUNTERS_FILE: &str = "counters.db";
/// Tells the file's form; one of another form is begun anew.
const VERSION: i64 = 1;

/// The open file.
pub struct Counters {
    connection: Connection,
}

impl Counters {
    /// Opens, and where needed makes, the file of a data directory. One that cannot be used is moved aside; then also why.
    pub fn open(folder: &Path) -> Result<(Self, Option<String>), StoreError> {
        let path = folder.join(COUNTERS_FILE);
        match Self::open_at(&path) {
            Ok(counters) => Ok((counters, None)),
            Err(reason) => {
                let aside = move_aside(&path).map_err(|source| StoreError::Io {
                    path: path.clone(),
                    source,
                })?;
                let counters = Self::open_at(&path).map_err(|error| explain(&path, error))?;
                let told = format!(
                    "{} cannot be used ({reason}) and is now {}: limits count from nothing",
                    path.display(),
                    aside.display()
                );
                Ok((counters, Some(told)))
            }
        }
    }

    fn open_at(path: &Path) -> rusqlite::Result<Self> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(STORE_BUSY_WAIT)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // The end of the program loses nothing; that of the machine loses what the system had not written yet.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "trusted_schema", false)?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version != VERSION {
            let begun = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            begun.execute_batch(include_str!("counters.sql"))?;
            begun.pragma_update(None, "user_version", VERSION)?;
            begun.commit()?;
        }
        let counters = Self { connection };
        // Reads every page, and so finds what is damaged.
        counters.read()?;
        Ok(counters)
    }

    /// Everything in it.
    pub fn read(&self) -> rusqlite::Result<Vec<Row>> {
        let query = "SELECT name, unit, technique, length, buckets, until FROM counters";
        let mut statement = self.connection.prepare_cached(query)?;
        let rows = statement.query_map([], row)?;
        rows.collect()
    }

    /// Puts rows in the place of those of the same names, in one transaction.
    pub fn write<'r>(&mut self, rows: impl Iterator<Item = &'r Row>) -> rusqlite::Result<()> {
        let change = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let statement = "INSERT OR REPLACE INTO counters VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            let mut statement = change.prepare_cached(statement)?;
            for row in rows {
                let unit = match row.unit {
                    Unit::Requests => 0,
                    Unit::Cost => 1,
                };
                let technique = match row.window.technique() {
                    Technique::Fixed => 0,
                    Technique::Sliding => 1,
                };
                statement.execute(params![
                    row.name,
                    unit,
                    technique,
                    signed(row.window.length()),
                    packed(&row.buckets),
                    signed(row.until),
                ])?;
            }
        }
        change.commit()
    }

    /// Removes what no longer counts.
    pub fn forget(&self, now: u64) -> rusqlite::Result<()> {
        let statement = "DELETE FROM counters WHERE until <= ?1";
        let mut statement = self.connection.prepare_cached(statement)?;
        statement.execute([signed(now)]).map(|_| ())
    }
}

fn row(found: &Found<'_>) -> rusqlite::Result<Row> {
    let technique = match found.get::<_, i64>(2)? {
        0 => Technique::Fixed,
        _ => Technique::Sliding,
    };
    let length = Duration::from_millis(found.get::<_, i64>(3)?.unsigned_abs());
    Ok(Row {
        name: found.get(0)?,
        unit: match found.get::<_, i64>(1)? {
            0 => Unit::Requests,
            _ => Unit::Cost,
        },
        window: Window::new(technique, length),
        buckets: unpacked(&found.get::<_, Vec<u8>>(4)?),
        until: found.get::<_, i64>(5)?.unsigned_abs(),
    })
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

const BUCKET_BYTES: usize = 8 + 16;

fn packed(buckets: &[(u64, i128)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(buckets.len() * BUCKET_BYTES);
    for (bucket, amount) in buckets {
        bytes.extend_from_slice(&bucket.to_le_bytes());
        bytes.extend_from_slice(&amount.to_le_bytes());
    }
    bytes
}

fn unpacked(bytes: &[u8]) -> Vec<(u64, i128)> {
    let (buckets, _) = bytes.as_chunks::<BUCKET_BYTES>();
    let bucket = |bytes: &[u8; BUCKET_BYTES]| {
        let (mut number, mut amount) = ([0; 8], [0; 16]);
        number.copy_from_slice(&bytes[..8]);
        amount.copy_from_slice(&bytes[8..]);
        (u64::from_le_bytes(number), i128::from_le_bytes(amount))
    };
    buckets.iter().map(bucket).collect()
}

/// Renames the file, and removes what SQLite keeps beside it.
fn move_aside(path: &Path) -> std::io::Result<PathBuf> {
    let beside = |ending: &str| PathBuf::from(format!("{}{ending}", path.display()));
    let aside = beside(".unusable");
    std::fs::rename(path, &aside)?;
    for ending in ["-wal", "-shm"] {
        // Mostly they are not there.
        let _ = std::fs::remove_file(beside(ending));
    }
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> [Row; 2] {
        let window = |technique| Window::new(technique, Duration::from_secs(60));
        [
            Row {
                name: [1; 16],
                unit: Unit::Requests,
                window: window(Technique::Fixed),
                buckets: vec![(28_333_333, 7)],
                until: 1_700_000_040_000,
            },
            Row {
                name: [2; 16],
                unit: Unit::Cost,
                window: window(Technique::Sliding),
                buckets: vec![(1, i128::MAX), (u64::MAX, 2)],
                until: 1_700_000_100_000,
            },
        ]
    }

    #[test]
    fn what_is_written_is_read_again_until_it_is_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let [first, second] = rows();
        {
            let (mut counters, told) = Counters::open(folder.path()).expect("opened");
            assert_eq!((told, counters.read()), (None, Ok(Vec::new())));
            let older = Row {
                buckets: vec![(28_333_333, 6)],
                ..first.clone()
            };
            counters.write([&older].into_iter()).expect("written");
            counters
                .write([&first, &second].into_iter())
                .expect("written");
        }
        let (counters, told) = Counters::open(folder.path()).expect("opened");
        assert_eq!(told, None);
        assert_eq!(counters.read(), Ok(vec![first.clone(), second.clone()]));
        counters.forget(first.until - 1).expect("looked");
        assert_eq!(counters.read().map(|rows| rows.len()), Ok(2));
        counters.forget(first.until).expect("forgotten");
        assert_eq!(counters.read(), Ok(vec![second]));
    }

    #[test]
    fn a_file_that_cannot_be_used_is_moved_aside() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(COUNTERS_FILE);
        let garbage = vec![7; 8192];
        std::fs::write(&path, &garbage).expect("written");
        let (counters, told) = Counters::open(folder.path()).expect("opened");
        assert_eq!(counters.read(), Ok(Vec::new()));
        let told = told.expect("a reason");
        assert!(told.contains("counters.db.unusable"), "{told}");
        let aside = std::fs::read(folder.path().join("counters.db.unusable"));
        assert_eq!(aside.ok(), Some(garbage));
        // One of another program's, or of a later form.
        let (mut counters, _) = Counters::open(folder.path()).expect("opened");
        counters.write(rows().iter()).expect("written");
        let set = counters.connection.pragma_update(None, "user_version", 9);
        set.expect("set");
        drop(counters);
        let (counters, told) = Counters::open(folder.path()).expect("opened");
        assert!(told.is_some() && counters.read() == Ok(Vec::new()));
    }
}
