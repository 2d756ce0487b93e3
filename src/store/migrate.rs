//! Schemas, one after the other. A step once released is never changed.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, TransactionBehavior};

use super::{StoreError, explain};

const STEPS: [&str; 1] = [include_str!("1.sql")];
/// Tells the file from other programs' (SQLite's `application_id`): "ring".
const APPLICATION: i64 = 0x7269_6e67;

/// Refuses what is damaged, another program's, or of a later version.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let sql = |error| explain(path, error);
    let damaged = |reason: String| StoreError::Damaged {
        path: path.to_owned(),
        reason,
    };
    let health: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(sql)?;
    if health != "ok" {
        return Err(damaged(health));
    }
    let found = version(connection).map_err(sql)?;
    let application: i64 = connection
        .pragma_query_value(None, "application_id", |row| row.get(0))
        .map_err(sql)?;
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(sql)?;
    if application != APPLICATION && (application != 0 || tables > 0) {
        return Err(damaged("it is another program's".to_owned()));
    }
    let known = STEPS.len() as i64;
    if found > known {
        return Err(StoreError::Newer {
            path: path.to_owned(),
            found,
            known,
        });
    }
    Ok(())
}

/// Takes the missing steps, each in one transaction; before the first of them an older file is copied aside.
pub(super) fn run(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let sql = |error| explain(path, error);
    let found = version(connection).map_err(sql)?;
    if found > 0 && found < STEPS.len() as i64 {
        let aside = PathBuf::from(format!("{}.before-{}", path.display(), found + 1));
        let statement = "VACUUM INTO ?1";
        if !aside.exists() {
            connection
                .execute(statement, [aside.display().to_string()])
                .map_err(sql)?;
        }
    }
    for (index, step) in STEPS.iter().enumerate().skip(found as usize) {
        let take = |connection: &mut Connection| -> rusqlite::Result<()> {
            let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            change.execute_batch(step)?;
            change.pragma_update(None, "application_id", APPLICATION)?;
            change.pragma_update(None, "user_version", index as i64 + 1)?;
            change.commit()
        };
        take(connection).map_err(sql)?;
    }
    Ok(())
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}
