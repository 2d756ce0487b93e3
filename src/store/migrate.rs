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
    take(connection, path, &STEPS)
}

fn take(connection: &mut Connection, path: &Path, steps: &[&str]) -> Result<(), StoreError> {
    let sql = |error| explain(path, error);
    let found = version(connection).map_err(sql)?;
    if found > 0 && found < steps.len() as i64 {
        let aside = PathBuf::from(format!("{}.before-{}", path.display(), found + 1));
        let statement = "VACUUM INTO ?1";
        if !aside.exists() {
            connection
                .execute(statement, [aside.display().to_string()])
                .map_err(sql)?;
        }
    }
    for (index, step) in steps.iter().enumerate().skip(found as usize) {
        let one = |connection: &mut Connection| -> rusqlite::Result<()> {
            let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            change.execute_batch(step)?;
            change.pragma_update(None, "application_id", APPLICATION)?;
            change.pragma_update(None, "user_version", index as i64 + 1)?;
            change.commit()
        };
        one(connection).map_err(sql)?;
    }
    Ok(())
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_file_is_brought_up_and_kept_aside_and_a_step_that_fails_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ringgate.db");
        let mut connection = Connection::open(&path).expect("opened");
        run(&mut connection, &path).expect("the released schema");
        connection
            .execute("INSERT INTO meta VALUES ('kept', '1')", [])
            .expect("a row");
        let later = [STEPS[0], "ALTER TABLE meta ADD COLUMN more TEXT"];
        let broken = [
            later[0],
            later[1],
            "CREATE TABLE half (x); SELECT * FROM nowhere",
        ];
        let error = take(&mut connection, &path, &broken).expect_err("the third step");
        assert!(error.to_string().contains("nowhere"), "{error}");
        assert_eq!(version(&connection).expect("a version"), 2);
        let half = connection.prepare("SELECT * FROM half").is_ok();
        assert!(!half, "a step that failed is rolled back whole");
        let more: Option<String> = connection
            .query_row("SELECT more FROM meta WHERE key = 'kept'", [], |row| {
                row.get(0)
            })
            .expect("the row of before");
        assert_eq!(more, None);
        let aside = Connection::open(format!("{}.before-2", path.display())).expect("a copy");
        assert_eq!(version(&aside).expect("a version"), 1);
        take(&mut connection, &path, &later).expect("nothing left to do");
    }
}
