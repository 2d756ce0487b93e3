//! The data directory: one instance at a time, and the account's id.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A locked data directory; the lock ends with it.
pub struct DataDir {
    path: PathBuf,
    lock: File,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Something on disk failed.
    #[error("data directory {path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Another instance runs on it.
    #[error(
        "data directory {path} is in use by another ringgate (process {holder}); --data-dir chooses another"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The other's process id.
        holder: String,
        /// Where the other answers management calls, if it does.
        management: Option<String>,
    },
    /// The stored account id is not one.
    #[error("{path} holds {found:?}, which is no account id ([A-Za-z0-9_-]{{1,64}})")]
    AccountId {
        /// The file.
        path: PathBuf,
        /// Its content.
        found: String,
    },
}

impl DataDir {
    /// Makes the directory where it is missing, and locks it.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed(path))?;
        let lock_path = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(failed(&lock_path))?;
        if let Err(error) = lock.try_lock() {
            let std::fs::TryLockError::WouldBlock = error else {
                return Err(failed(&lock_path)(error.into()));
            };
            let mut text = String::new();
            lock.read_to_string(&mut text).map_err(failed(&lock_path))?;
            let mut lines = text.lines().map(str::to_owned);
            return Err(DataDirError::InUse {
                path: path.to_owned(),
                holder: lines.next().unwrap_or_default(),
                management: lines.next(),
            });
        }
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(failed(&lock_path))?;
        Ok(Self {
            path: path.to_owned(),
            lock,
        })
    }

    /// Tells who finds the directory in use where to ask instead.
    pub fn announce(&mut self, management: &str) -> Result<(), DataDirError> {
        let path = self.path.join("lock");
        writeln!(self.lock, "{management}").map_err(failed(&path))
    }

    /// The account's id: 32 hexadecimal digits, made at the first start (resolutions 26).
    pub fn account_id(&self) -> Result<String, DataDirError> {
        let path = self.path.join("account-id");
        match fs::read_to_string(&path) {
            Ok(text) => {
                let id = text.trim().to_owned();
                match is_account_id(&id) {
                    true => Ok(id),
                    false => Err(DataDirError::AccountId { path, found: id }),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let id = make_account_id().map_err(failed(&path))?;
                self.store(&path, &id)?;
                Ok(id)
            }
            Err(error) => Err(failed(&path)(error)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps a first token where its owner alone can read it.
    pub fn store_first_token(&self, token: &str) -> Result<PathBuf, DataDirError> {
        let path = self.path.join("initial-token");
        let write = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            let mut file = options
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&path)?;
            writeln!(file, "{token}")?;
            file.sync_all()
        };
        write().map_err(failed(&path))?;
        Ok(path)
    }

    /// Written beside and renamed, so that a crash leaves no half id.
    fn store(&self, path: &Path, id: &str) -> Result<(), DataDirError> {
        let beside = self.path.join("account-id.new");
        let write = || -> io::Result<()> {
            let mut file = File::create(&beside)?;
            writeln!(file, "{id}")?;
            file.sync_all()?;
            fs::rename(&beside, path)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(failed(path))
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |source| DataDirError::Io {
        path: path.clone(),
        source,
    }
}

fn is_account_id(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

fn make_account_id() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_made_once_and_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("data");
        let first = DataDir::open(&path)
            .expect("opened")
            .account_id()
            .expect("an id");
        assert_eq!(first.len(), 32);
        let second = DataDir::open(&path)
            .expect("opened again")
            .account_id()
            .expect("an id");
        assert_eq!(first, second);
        fs::write(path.join("account-id"), "not an id!").expect("written");
        let error = DataDir::open(&path)
            .expect("opened")
            .account_id()
            .expect_err("refused");
        assert!(error.to_string().contains("not an id!"), "{error}");
    }

    #[test]
    fn a_second_instance_is_told_who_holds_the_directory() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut held = DataDir::open(folder.path()).expect("opened");
        held.announce("http://127.0.0.1:1").expect("announced");
        let error = DataDir::open(folder.path()).err().expect("in use");
        let DataDirError::InUse {
            holder, management, ..
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!(*holder, std::process::id().to_string());
        assert_eq!(management.as_deref(), Some("http://127.0.0.1:1"));
    }
}
