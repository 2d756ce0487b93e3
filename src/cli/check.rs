//! `ringgate check`.

use std::error::Error;
use std::fmt::Write as _;

use super::environment;
use crate::config::{self, Config, Flags};
use crate::manage::Declared;
use crate::server::master_key;
use crate::store::Database;

/// Prints every value with its origin, what deserves a second look, and what a start would make; starts and makes nothing.
pub(super) fn run(flags: &Flags) -> Result<(), Box<dyn Error>> {
    let (config, shown) = config::load(flags, &|name| std::env::var(name).ok())?;
    let width = |of: fn(&config::Shown) -> usize| shown.iter().map(of).max().unwrap_or(0);
    let keys = width(|shown| shown.key.chars().count());
    let values = width(|shown| shown.value.chars().count());
    let mut page = String::new();
    for config::Shown { key, value, origin } in &shown {
        writeln!(page, "{key:keys$}  {value:values$}  {origin}")?;
    }
    for warning in super::warnings(&config) {
        writeln!(page, "warning: {warning}")?;
    }
    print!("{page}");
    // Certificates and keys are read as a start would read them.
    Declared::of(&config).map_err(|error| config::located(&shown, &error.to_string()))?;
    if let Some(files) = &config.data.tls {
        crate::net::tls::ServerTls::load(&files.certificate, &files.key)
            .map_err(|error| format!("data.tls: {error}"))?;
    }
    print!("{}", outlook(&config)?);
    Ok(())
}

/// What a start would find in the data directory, and what it would make there.
fn outlook(config: &Config) -> Result<String, Box<dyn Error>> {
    let folder = &config.data_dir;
    let database = Database::look(folder)?;
    let given = environment::master_key()?;
    let file = folder.join(master_key::FILE);
    let key = match master_key::foresee(folder, given.as_deref(), database.as_ref())? {
        Some(id) if given.is_some() => format!("{id}, of RINGGATE_MASTER_KEY"),
        Some(id) => format!("{id}, in {}", file.display()),
        None => format!("would be made at the start, in {}", file.display()),
    };
    let tokens: i64 = match &database {
        Some(database) => {
            let query = "SELECT count(*) FROM tokens";
            let count = database.connection();
            count.query_row(query, [], |row| row.get(0))?
        }
        None => 0,
    };
    let token = match (tokens, environment::bootstrap_token()?) {
        (0, Some(_)) => "would be made at the start, out of RINGGATE_BOOTSTRAP_TOKEN".to_owned(),
        (0, None) => format!(
            "would be made at the start, printed once and written to {} (unless --no-token-file)",
            folder.join("initial-token").display()
        ),
        (1, _) => "there is 1 token already; none would be made".to_owned(),
        (tokens, _) => format!("there are {tokens} tokens already; none would be made"),
    };
    let logs = crate::server::log_bounds(config);
    let days =
        |days: Option<u32>| days.map_or("for ever".to_owned(), |days| format!("{days} days"));
    let (size, kept, bodies) = (logs.disk >> 20, days(logs.days), days(logs.body_days));
    Ok(format!(
        "\nmaster key   {key}\nfirst token  {token}\nlogs         at most {size} MiB of disk; kept {kept}, their bodies {bodies}\n"
    ))
}
