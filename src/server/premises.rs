//! A data directory taken into use: by a server, or by a command where none runs.

use std::sync::Arc;

use super::{DataDir, StartError, master_key};
use crate::config::Config;
use crate::manage::{self, Declared, Office};
use crate::store::{Database, StoreError};

/// The locked directory, its database, and what calls of the management API need to know.
pub struct Premises {
    /// Holds the lock.
    pub data_dir: DataDir,
    /// Open, on the current schema.
    pub database: Database,
    /// Account, master key, declared gateways.
    pub office: Office,
}

impl Premises {
    /// Takes the lock, opens the database, reads or makes account id and master key. A configured account is remembered for
    /// commands that are not told it: stored keys and policies name it.
    pub fn enter(config: &Config, master_key: Option<&str>) -> Result<Self, StartError> {
        let data_dir = DataDir::open(&config.data_dir)?;
        let database = Database::open(data_dir.path())?;
        let stored = |source| StoreError::Sqlite {
            path: database.path().to_owned(),
            source,
        };
        let account = match (&config.account_id, database.account().map_err(stored)?) {
            (Some(id), _) => id.clone(),
            (None, Some(id)) => id,
            (None, None) => data_dir.account_id()?,
        };
        database.remember_account(&account).map_err(stored)?;
        let sealer = Arc::new(master_key::obtain(data_dir.path(), master_key, &database)?);
        let office = manage::office(&account, sealer, Declared::of(config)?);
        Ok(Self {
            data_dir,
            database,
            office,
        })
    }
}
