//! Sealing every stored secret anew: for another master key, or for another name of the account.

use rusqlite::{Connection, OptionalExtension, params};

use super::answer::Problem;
use super::operation::Call;
use super::secrets::{COLUMNS, Row};
use crate::seal::{SealError, Sealer};
use crate::telemetry::notice;

/// Why stored secrets cannot be sealed anew.
#[derive(Debug, thiserror::Error)]
pub enum ResealError {
    /// The database fails.
    #[error("the configuration database: {0}")]
    Database(#[from] rusqlite::Error),
    /// One cannot be opened or sealed.
    #[error("the secret {name:?}: {source}")]
    Seal {
        /// Its name.
        name: String,
        /// Why not.
        source: SealError,
    },
}

impl From<ResealError> for Problem {
    fn from(error: ResealError) -> Self {
        match error {
            ResealError::Database(error) => error.into(),
            ResealError::Seal { source, .. } => source.into(),
        }
    }
}

/// Seals every secret anew: with another key, or for another account. Within a transaction of the caller's; returns how many.
pub fn reseal(
    database: &Connection,
    from: (&Sealer, &str),
    to: (&Sealer, &str),
) -> Result<usize, ResealError> {
    let query = format!("SELECT {COLUMNS} FROM secrets");
    let rows = database
        .prepare(&query)?
        .query_map([], Row::of)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let mut update =
        database.prepare("UPDATE secrets SET key_id = ?2, sealed = ?3 WHERE id = ?1")?;
    for row in &rows {
        let opened = from.0.open(&row.sealed, row.belonging(from.1));
        let sealed = opened.and_then(|value| to.0.seal(value.expose(), row.belonging(to.1)));
        let sealed = sealed.map_err(|source| ResealError::Seal {
            name: row.name.clone(),
            source,
        })?;
        update.execute(params![row.id, &*sealed.key_id, &*sealed.bytes])?;
    }
    Ok(rows.len())
}

/// The account for which secrets are sealed is kept beside them: where the operator renamed it, they follow.
pub(super) fn follow_account(call: &Call<'_>) -> Result<(), Problem> {
    let (database, account) = (call.database, &*call.office.account);
    let before = sealed_for(database)?;
    if before.as_deref() == Some(account) {
        return Ok(());
    }
    if let Some(before) = before {
        let sealer = &*call.office.sealer;
        let count = reseal(database, (sealer, &before), (sealer, account))?;
        notice::say(format_args!(
            "the account was {before} and is {account}: {count} secrets are sealed for it"
        ));
    }
    database.execute(
        "INSERT OR REPLACE INTO meta VALUES ('account', ?1)",
        [account],
    )?;
    Ok(())
}

/// The account for which the secrets of a database are sealed; `None` before its first start.
pub fn sealed_for(database: &Connection) -> rusqlite::Result<Option<String>> {
    let query = "SELECT value FROM meta WHERE key = 'account'";
    database.query_row(query, [], |row| row.get(0)).optional()
}
