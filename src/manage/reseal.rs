//! Sealing every stored secret anew: for another master key, or for another name of the account.

use rusqlite::{Connection, params};

use super::answer::Problem;
use super::custom_providers::SealedHeaders;
use super::operation::Office;
use super::secrets::{COLUMNS, Row};
use crate::seal::{Belonging, SealError, Sealed, Sealer};
use crate::store;
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

/// Seals every secret anew, and the headers of custom providers: with another key, or for another account. Within a
/// transaction of the caller's; returns how many.
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
        let from = (from.0, row.belonging(from.1));
        let sealed = seal_anew(&row.sealed, from, (to.0, row.belonging(to.1)), &row.name)?;
        update.execute(params![row.id, &*sealed.key_id, &*sealed.bytes])?;
    }
    Ok(rows.len() + reseal_headers(database, from, to)?)
}

fn reseal_headers(
    database: &Connection,
    from: (&Sealer, &str),
    to: (&Sealer, &str),
) -> Result<usize, ResealError> {
    let query =
        "SELECT id, slug, headers_key_id, headers FROM custom_providers WHERE headers IS NOT NULL";
    let rows = database
        .prepare(query)?
        .query_map([], |row| {
            let names: (String, String) = (row.get(0)?, row.get(1)?);
            Ok((names, SealedHeaders::of(row, 2)?))
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let mut update = database
        .prepare("UPDATE custom_providers SET headers_key_id = ?2, headers = ?3 WHERE id = ?1")?;
    let mut count = 0;
    for ((id, slug), headers) in &rows {
        let Some(headers) = headers else { continue };
        let from = (from.0, SealedHeaders::belonging(from.1, id));
        let to = (to.0, SealedHeaders::belonging(to.1, id));
        let name = format!("headers of custom-{slug}");
        let sealed = seal_anew(&headers.0, from, to, &name)?;
        update.execute(params![id, &*sealed.key_id, &*sealed.bytes])?;
        count += 1;
    }
    Ok(count)
}

fn seal_anew(
    sealed: &Sealed,
    from: (&Sealer, Belonging<'_>),
    to: (&Sealer, Belonging<'_>),
    name: &str,
) -> Result<Sealed, ResealError> {
    let opened = from.0.open(sealed, from.1);
    let sealed = opened.and_then(|value| to.0.seal(value.expose(), to.1));
    sealed.map_err(|source| ResealError::Seal {
        name: name.to_owned(),
        source,
    })
}

/// The account for which secrets are sealed is kept beside them: where the operator renamed it, they follow.
pub(super) fn follow_account(office: &Office, database: &Connection) -> Result<(), Problem> {
    let account = &*office.account;
    let before = store::account(database)?;
    if before.as_deref() == Some(account) {
        return Ok(());
    }
    if let Some(before) = before {
        let sealer = &*office.sealer;
        rename_in_policies(database, &before, account)?;
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

/// Policies name the account in their resources: without this every token would open nothing any more.
fn rename_in_policies(database: &Connection, before: &str, account: &str) -> rusqlite::Result<()> {
    let resource = |account: &str, end: &str| format!("com.cloudflare.api.account.{account}{end}");
    // A resource is a member's name, which ends here or goes on to a gateway.
    for end in ["\"", ".ai-gateway"] {
        database.execute(
            "UPDATE tokens SET policies = replace(policies, ?1, ?2)",
            [resource(before, end), resource(account, end)],
        )?;
    }
    Ok(())
}
