//! `ringgate backup`.

use std::error::Error;
use std::path::PathBuf;

use super::client::Home;
use crate::server::MASTER_KEY_FILE;
use crate::store;

/// What `backup` can be told.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    home: Home,
    /// The file to make; one that is there is not overwritten
    file: PathBuf,
}

/// Copies the configuration database, whether a server uses it or not, and says what else a restore needs.
pub(super) fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let folder = options.home.data_dir()?;
    store::backup(&folder, &options.file)?;
    let key = folder.join(MASTER_KEY_FILE);
    let key = match key.exists() {
        true => format!("in {}", key.display()),
        false => "where RINGGATE_MASTER_KEY comes from".to_owned(),
    };
    eprintln!(
        "{} is a copy of {}",
        options.file.display(),
        folder.join(store::FILE).display()
    );
    eprintln!(
        "The master key, without which stored provider keys cannot be read, is not in it; it is {key}: keep it elsewhere."
    );
    eprintln!(
        "To restore: put the copy as {} and the master key as {MASTER_KEY_FILE} into an empty data directory.",
        store::FILE
    );
    Ok(())
}
