//! The master key of a data directory.

use std::path::{Path, PathBuf};

use crate::seal::{SealError, Sealer};
use crate::store::Database;

/// The key file's name in the data directory.
pub const FILE: &str = "master-key";

/// Why there is no master key to work with.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// It cannot be read or made.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Keys are stored that only another one opens.
    #[error(
        "provider keys are stored in the database, and {0} is not there: put the master key back (or set RINGGATE_MASTER_KEY); a new one would not open them"
    )]
    Missing(PathBuf),
    /// The key that is here is not the one that sealed what is stored.
    #[error(
        "provider keys are stored under master key {stored}, and the one given is {given}: give the one that sealed them"
    )]
    Other {
        /// The id of the key that sealed them.
        stored: String,
        /// The id of the key given.
        given: String,
    },
    /// The database cannot be asked.
    #[error("the configuration database cannot be read: {0}")]
    Database(#[from] rusqlite::Error),
}

/// The key from the environment, else from the directory's file, which is made where nothing is sealed yet (mechanisms B8).
pub fn obtain(
    folder: &Path,
    given: Option<&str>,
    database: &Database,
) -> Result<Sealer, MasterKeyError> {
    let path = folder.join(FILE);
    let sealed_with = sealed_with(database)?;
    let sealer = match given {
        Some(text) => Sealer::of_text(text, "RINGGATE_MASTER_KEY")?,
        None => match (Sealer::of_file(&path)?, &sealed_with) {
            (Some(sealer), _) => sealer,
            (None, None) => return Ok(Sealer::create(&path)?),
            (None, Some(_)) => return Err(MasterKeyError::Missing(path)),
        },
    };
    match sealed_with {
        Some(stored) if stored != sealer.id() => Err(MasterKeyError::Other {
            stored,
            given: sealer.id().to_owned(),
        }),
        _ => Ok(sealer),
    }
}

fn sealed_with(database: &Database) -> rusqlite::Result<Option<String>> {
    use rusqlite::OptionalExtension;
    let query = "SELECT key_id FROM secrets LIMIT 1";
    database
        .connection()
        .query_row(query, [], |row| row.get(0))
        .optional()
}
