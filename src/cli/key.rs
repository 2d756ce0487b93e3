//! `ringgate key`.

use std::error::Error;
use std::path::Path;

use super::environment;
use crate::config::{self, Flags};
use crate::server::{DataDir, DataDirError, master_key};
use crate::store::{self, Database};

/// What can be done with the master key. No server may run on the data directory meanwhile.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Print the master key's id and how many secrets it seals
    Show(Flags),
    /// Seal all stored secrets with a new master key: a file of the data directory, or RINGGATE_NEW_MASTER_KEY where the
    /// old one is in RINGGATE_MASTER_KEY
    Rotate(Flags),
}

/// Does it, and says what was done.
pub(super) fn run(command: Command) -> Result<(), Box<dyn Error>> {
    let (Command::Show(flags) | Command::Rotate(flags)) = &command;
    let (config, _) = config::load(flags, &|name| std::env::var(name).ok())?;
    let folder = &config.data_dir;
    let (_lock, mut database) = enter(folder)?;
    let given = environment::master_key()?;
    let whence = match &given {
        Some(_) => "RINGGATE_MASTER_KEY".to_owned(),
        None => folder.join(master_key::FILE).display().to_string(),
    };
    match command {
        Command::Show(_) => {
            let shown = master_key::show(folder, given.as_deref(), &database)?;
            let master_key::Shown { id, seals } = shown;
            println!("master key {id} ({whence}) seals {seals} secrets");
        }
        Command::Rotate(_) => {
            let new = environment::new_master_key()?;
            let rotated =
                master_key::rotate(folder, given.as_deref(), new.as_deref(), &mut database)?;
            let master_key::Rotated { from, to, sealed } = rotated;
            println!(
                "master key {to} took the place of {from}: {sealed} secrets are sealed anew. Backups made before open with {from} only."
            );
            if new.is_some() {
                println!("From now on start with the new key in RINGGATE_MASTER_KEY.");
            }
        }
    }
    Ok(())
}

/// The locked directory and its database; nothing is made where there is none.
fn enter(folder: &Path) -> Result<(DataDir, Database), Box<dyn Error>> {
    if !folder.join(store::FILE).try_exists()? {
        let folder = folder.display();
        return Err(
            format!("{folder} is no data directory of ringgate; --data-dir names it").into(),
        );
    }
    let lock = match DataDir::open(folder) {
        Err(DataDirError::InUse { path, holder, .. }) => {
            let path = path.display();
            return Err(format!("a server runs on {path} (process {holder}): stop it first; it keeps the old key in memory").into());
        }
        opened => opened?,
    };
    Ok((lock, Database::open(folder)?))
}
