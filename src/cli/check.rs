//! `ringgate check`.

use std::error::Error;
use std::fmt::Write as _;

use crate::config::{self, Flags};
use crate::manage::Declared;

/// Prints every value with its origin and what deserves a second look; starts nothing.
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
    Ok(())
}
