//! The master key of a data directory, and how it is replaced.

use std::path::{Path, PathBuf};

use crate::manage::{self, ResealError};
use crate::seal::{SealError, Sealer, remove, rename};
use crate::store::{self, Database};

/// The key file's name in the data directory.
pub const FILE: &str = "master-key";
/// The file of the key that a rotation goes over to, until it stands in the place of the old one.
const NEXT: &str = "master-key.next";
/// The variables that hold keys.
const GIVEN: &str = "RINGGATE_MASTER_KEY";
const NEW_GIVEN: &str = "RINGGATE_NEW_MASTER_KEY";

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
    /// There is none, and nothing is sealed.
    #[error("there is no master key: {0} is not there, and RINGGATE_MASTER_KEY is not set")]
    None(PathBuf),
    /// A key comes from the environment, and the other does not.
    #[error("{set} is set and {unset} is not: {about}")]
    HalfGiven {
        /// The variable that is set.
        set: &'static str,
        /// The one that is not.
        unset: &'static str,
        /// What to do.
        about: &'static str,
    },
    /// Old and new key are the same.
    #[error("the new master key is the old one")]
    Same,
    /// A stored secret cannot be sealed anew.
    #[error("nothing was changed: {0}")]
    Reseal(#[from] ResealError),
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
    let sealed_with = sealed_with(database)?;
    let path = folder.join(FILE);
    match present(folder, given, &sealed_with)? {
        Some(sealer) => Ok(sealer),
        None if sealed_with.is_empty() => Ok(Sealer::create(&path)?),
        None => Err(MasterKeyError::Missing(path)),
    }
}

/// The id of the key that a start will use, `None` where it will make one; makes and changes nothing. Where no start will
/// succeed, why.
pub fn foresee(
    folder: &Path,
    given: Option<&str>,
    database: Option<&Database>,
) -> Result<Option<String>, MasterKeyError> {
    let sealed_with = database.map_or_else(|| Ok(Vec::new()), sealed_with)?;
    let path = folder.join(FILE);
    let sealer = match given {
        Some(text) => Some(Sealer::of_text(text, GIVEN)?),
        None => Sealer::of_file(&path)?,
    };
    let sealer = match sealer {
        // A rotation that broke off may have come so far that the start goes over to its key.
        before if given.is_none() && !sealed_with.is_empty() => {
            let next = Sealer::of_file(&folder.join(NEXT))?;
            let seals = |sealer: &Sealer| sealed_with.iter().all(|id| id == sealer.id());
            next.filter(seals).or(before)
        }
        sealer => sealer,
    };
    match &sealer {
        Some(sealer) => refuse_other(&sealed_with, sealer)?,
        None if sealed_with.is_empty() => {}
        None => return Err(MasterKeyError::Missing(path)),
    }
    Ok(sealer.map(|sealer| sealer.id().to_owned()))
}

/// What a master key is for.
pub struct Shown {
    /// Its id, which says nothing about it.
    pub id: String,
    /// Secrets under it.
    pub seals: usize,
}

/// Looks at the key without making one.
pub fn show(
    folder: &Path,
    given: Option<&str>,
    database: &Database,
) -> Result<Shown, MasterKeyError> {
    let sealer = needed(folder, given, database)?;
    let query =
        "SELECT (SELECT count(*) FROM secrets) + (SELECT count(headers) FROM custom_providers)";
    let seals: i64 = database
        .connection()
        .query_row(query, [], |row| row.get(0))?;
    Ok(Shown {
        id: sealer.id().to_owned(),
        seals: seals as usize,
    })
}

/// What a rotation did.
#[derive(Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The id of the key before.
    pub from: String,
    /// The id of the key now.
    pub to: String,
    /// Secrets that were sealed anew.
    pub sealed: usize,
}

/// Replaces the key: by a new file, or by the key of `RINGGATE_NEW_MASTER_KEY` where it comes from the environment.
///
/// Files: the new key is written beside, everything is sealed anew in one transaction, and the new file takes the place of
/// the old one. Wherever this breaks off, the rows tell which of the two files is the key ([`of_folder`]).
pub fn rotate(
    folder: &Path,
    given: Option<&str>,
    new_given: Option<&str>,
    database: &mut Database,
) -> Result<Rotated, MasterKeyError> {
    let half = |set, unset, about| MasterKeyError::HalfGiven { set, unset, about };
    match (given, new_given) {
        (None, None) => {
            let old = needed(folder, None, database)?;
            let next = folder.join(NEXT);
            let new = Sealer::create(&next)?;
            let sealed = go_over(database, &old, &new)?;
            take_place(folder)?;
            Ok(Rotated {
                from: old.id().to_owned(),
                to: new.id().to_owned(),
                sealed,
            })
        }
        (Some(given), Some(new_given)) => {
            let (old, new) = (
                Sealer::of_text(given, GIVEN)?,
                Sealer::of_text(new_given, NEW_GIVEN)?,
            );
            if old.id() == new.id() {
                return Err(MasterKeyError::Same);
            }
            let stored = sealed_with(database)?;
            // It may have been done before, and the answer lost.
            let done = !stored.is_empty() && stored.iter().all(|id| id == new.id());
            let sealed = match done {
                true => 0,
                false => {
                    refuse_other(&stored, &old)?;
                    go_over(database, &old, &new)?
                }
            };
            Ok(Rotated {
                from: old.id().to_owned(),
                to: new.id().to_owned(),
                sealed,
            })
        }
        (Some(_), None) => Err(half(GIVEN, NEW_GIVEN, "give the new key there")),
        (None, Some(_)) => {
            let about = "without it the key is a file of the data directory, and a new one is made";
            Err(half(NEW_GIVEN, GIVEN, about))
        }
    }
}

/// Seals everything anew, in one transaction.
fn go_over(database: &mut Database, old: &Sealer, new: &Sealer) -> Result<usize, MasterKeyError> {
    let change = database.begin()?;
    let account = store::account(&change)?.unwrap_or_default();
    let sealed = manage::reseal(&change, (old, &account), (new, &account))?;
    change.commit()?;
    database.checkpoint()?;
    Ok(sealed)
}

/// The new key file becomes the key file; the old key goes with that.
fn take_place(folder: &Path) -> Result<(), MasterKeyError> {
    let path = folder.join(FILE);
    rename(&folder.join(NEXT), &path).map_err(|source| SealError::Io { path, source })?;
    Ok(())
}

/// The key that must be there.
fn needed(
    folder: &Path,
    given: Option<&str>,
    database: &Database,
) -> Result<Sealer, MasterKeyError> {
    let sealed_with = sealed_with(database)?;
    let path = folder.join(FILE);
    match present(folder, given, &sealed_with)? {
        Some(sealer) => Ok(sealer),
        None if sealed_with.is_empty() => Err(MasterKeyError::None(path)),
        None => Err(MasterKeyError::Missing(path)),
    }
}

/// The key given or of the directory, if it is the one that sealed what is stored.
fn present(
    folder: &Path,
    given: Option<&str>,
    sealed_with: &[String],
) -> Result<Option<Sealer>, MasterKeyError> {
    let sealer = match given {
        Some(text) => Some(Sealer::of_text(text, GIVEN)?),
        None => of_folder(folder, sealed_with)?,
    };
    if let Some(sealer) = &sealer {
        refuse_other(sealed_with, sealer)?;
    }
    Ok(sealer)
}

/// The directory's key; a rotation that broke off is undone or finished first, as the rows say: their change is one
/// transaction, so that they are all under the key before or all under the next one.
fn of_folder(folder: &Path, sealed_with: &[String]) -> Result<Option<Sealer>, MasterKeyError> {
    let (path, next) = (folder.join(FILE), folder.join(NEXT));
    let failed = |source| SealError::Io {
        path: next.clone(),
        source,
    };
    let current = Sealer::of_file(&path)?;
    if !next.try_exists().map_err(failed)? {
        return Ok(current);
    }
    let seals = |sealer: &Sealer| sealed_with.iter().all(|id| id == sealer.id());
    if sealed_with.is_empty() || current.as_ref().is_some_and(seals) {
        remove(&next).map_err(failed)?;
        return Ok(current);
    }
    match Sealer::of_file(&next)?.filter(seals) {
        Some(sealer) => {
            take_place(folder)?;
            Ok(Some(sealer))
        }
        None => Ok(current),
    }
}

fn refuse_other(sealed_with: &[String], sealer: &Sealer) -> Result<(), MasterKeyError> {
    match sealed_with.iter().find(|id| *id != sealer.id()) {
        Some(stored) => Err(MasterKeyError::Other {
            stored: stored.clone(),
            given: sealer.id().to_owned(),
        }),
        None => Ok(()),
    }
}

/// The ids of the keys that sealed what is stored: one, unless somebody mixed two databases.
fn sealed_with(database: &Database) -> rusqlite::Result<Vec<String>> {
    let query = "SELECT key_id FROM secrets UNION SELECT headers_key_id FROM custom_providers WHERE headers IS NOT NULL";
    let mut statement = database.connection().prepare(query)?;
    statement.query_map([], |row| row.get(0))?.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::{Belonging, Sealed};

    const VALUE: &[u8] = b"sk-of-the-provider";

    /// A directory whose database holds a secret under its key file.
    fn directory() -> (tempfile::TempDir, Database) {
        let folder = tempfile::tempdir().expect("a folder");
        let database = Database::open(folder.path()).expect("opened");
        let sealer = obtain(folder.path(), None, &database).expect("made");
        let belonging = Belonging {
            account: "a",
            id: "1",
            name: "n",
        };
        let sealed = sealer.seal(VALUE, belonging).expect("sealed");
        let connection = database.connection();
        connection
            .execute_batch("INSERT INTO meta VALUES ('account', 'a'); INSERT INTO stores VALUES ('s', 's', 0, 0);")
            .expect("set");
        connection
            .execute(
                "INSERT INTO secrets VALUES ('1', 's', 'n', NULL, 'ai_gateway', ?1, ?2, '****', 0, 0)",
                rusqlite::params![&*sealed.key_id, &*sealed.bytes],
            )
            .expect("set");
        (folder, database)
    }

    fn opens(database: &Database, sealer: &Sealer) -> bool {
        let query = "SELECT key_id, sealed FROM secrets";
        let sealed = database.connection().query_row(query, [], |row| {
            Ok(Sealed {
                key_id: row.get::<_, String>(0)?.into(),
                bytes: row.get::<_, Vec<u8>>(1)?.into(),
            })
        });
        let belonging = Belonging {
            account: "a",
            id: "1",
            name: "n",
        };
        sealer
            .open(&sealed.expect("a row"), belonging)
            .is_ok_and(|value| value.expose() == VALUE)
    }

    #[test]
    fn a_rotation_leaves_one_key_that_opens_everything() {
        let (folder, mut database) = directory();
        let before = obtain(folder.path(), None, &database).expect("there");
        let rotated = rotate(folder.path(), None, None, &mut database).expect("rotated");
        assert_eq!((&*rotated.from, rotated.sealed), (before.id(), 1));
        let after = obtain(folder.path(), None, &database).expect("there");
        assert_eq!(after.id(), rotated.to);
        assert!(opens(&database, &after) && !opens(&database, &before));
        assert!(!folder.path().join(NEXT).exists());
        let foreseen = foresee(folder.path(), None, Some(&database)).expect("there");
        assert_eq!(foreseen.as_ref(), Some(&rotated.to));
        let shown = show(folder.path(), None, &database).expect("shown");
        assert_eq!((shown.id, shown.seals), (rotated.to, 1));
    }

    #[test]
    fn a_rotation_that_breaks_off_is_undone_or_finished() {
        type Break = fn(&Path, &mut Database);
        let breaks: [(&str, Break, bool); 4] = [
            (
                "while the new key is written",
                |folder, _| {
                    std::fs::write(folder.join("master-key.next.part"), "0123").expect("written");
                },
                false,
            ),
            (
                "once it is written",
                |folder, _| {
                    Sealer::create(&folder.join(NEXT)).expect("made");
                },
                false,
            ),
            (
                "within the transaction",
                |folder, database| {
                    let new = Sealer::create(&folder.join(NEXT)).expect("made");
                    let old = Sealer::of_file(&folder.join(FILE))
                        .expect("read")
                        .expect("there");
                    let change = database.begin().expect("begun");
                    manage::reseal(&change, (&old, "a"), (&new, "a")).expect("sealed");
                },
                false,
            ),
            (
                "behind the transaction",
                |folder, database| {
                    let new = Sealer::create(&folder.join(NEXT)).expect("made");
                    let old = Sealer::of_file(&folder.join(FILE))
                        .expect("read")
                        .expect("there");
                    go_over(database, &old, &new).expect("sealed");
                },
                true,
            ),
        ];
        for (when, break_off, finished) in breaks {
            for rotate_again in [false, true] {
                let (folder, mut database) = directory();
                let before = obtain(folder.path(), None, &database).expect("there");
                break_off(folder.path(), &mut database);
                if rotate_again {
                    let rotated = rotate(folder.path(), None, None, &mut database).expect(when);
                    assert_eq!(rotated.from == before.id(), !finished, "{when}");
                }
                let after = obtain(folder.path(), None, &database).expect(when);
                assert!(opens(&database, &after), "{when}");
                assert_eq!(
                    after.id() != before.id(),
                    finished || rotate_again,
                    "{when}"
                );
                assert!(!folder.path().join(NEXT).exists(), "{when}");
            }
        }
    }

    #[test]
    fn a_key_that_does_not_fit_is_neither_made_nor_removed() {
        let (folder, mut database) = directory();
        let path = folder.path();
        std::fs::rename(path.join(FILE), path.join("away")).expect("moved");
        let obtained = obtain(path, None, &database);
        assert!(matches!(obtained, Err(MasterKeyError::Missing(_))));
        let rotated = rotate(path, None, None, &mut database);
        assert!(matches!(rotated, Err(MasterKeyError::Missing(_))));
        assert!(!path.join(FILE).exists() && !path.join(NEXT).exists());
        // Neither file is the key of the rows: both stay.
        Sealer::create(&path.join(FILE)).expect("made");
        Sealer::create(&path.join(NEXT)).expect("made");
        assert!(matches!(
            obtain(path, None, &database),
            Err(MasterKeyError::Other { .. })
        ));
        assert!(path.join(FILE).exists() && path.join(NEXT).exists());
    }

    #[test]
    fn keys_of_the_environment_are_replaced_by_one_given_there() {
        let (folder, mut database) = directory();
        let path = folder.path();
        let text = std::fs::read_to_string(path.join(FILE)).expect("a key");
        remove(&path.join(FILE)).expect("removed");
        let new = "ab".repeat(32);
        let half = rotate(path, Some(&text), None, &mut database);
        assert!(matches!(half, Err(MasterKeyError::HalfGiven { .. })));
        let half = rotate(path, None, Some(&new), &mut database);
        assert!(matches!(half, Err(MasterKeyError::HalfGiven { .. })));
        let same = rotate(path, Some(&text), Some(&text), &mut database);
        assert!(matches!(same, Err(MasterKeyError::Same)));
        let other = rotate(path, Some(&"cd".repeat(32)), Some(&new), &mut database);
        assert!(matches!(other, Err(MasterKeyError::Other { .. })));
        for sealed in [1, 0] {
            let rotated = rotate(path, Some(&text), Some(&new), &mut database).expect("rotated");
            assert_eq!(rotated.sealed, sealed, "the second time it is done already");
        }
        let after = obtain(path, Some(&new), &database).expect("fits");
        assert!(opens(&database, &after));
        assert!(obtain(path, Some(&text), &database).is_err());
        assert!(!path.join(FILE).exists());
    }

    #[test]
    fn nothing_is_changed_where_one_secret_does_not_open() {
        let (folder, mut database) = directory();
        let change = "UPDATE secrets SET name = 'other'";
        database.connection().execute(change, []).expect("set");
        let rotated = rotate(folder.path(), None, None, &mut database);
        let error = rotated.expect_err("refused").to_string();
        assert!(error.contains("nothing was changed") && error.contains("other"));
        let back = "UPDATE secrets SET name = 'n'";
        database.connection().execute(back, []).expect("set");
        let sealer = obtain(folder.path(), None, &database).expect("there");
        assert!(opens(&database, &sealer));
    }
}
