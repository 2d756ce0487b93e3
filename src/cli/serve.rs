//! `ringgate serve`.

use std::error::Error;

use crate::config::{self, Flags};
use crate::server::{self, Start};
use crate::telemetry::notice;

/// Serves until a signal ends it.
pub(super) fn run(flags: Flags) -> Result<(), Box<dyn Error>> {
    let environment = |name: &str| std::env::var(name).ok();
    let (config, _) = config::load(&flags, &environment)?;
    for warning in &config.warnings {
        notice::say(format_args!("warning: {warning}"));
    }
    let running = server::start(Start {
        config,
        reload: Box::new(move || {
            config::load(&flags, &environment)
                .map(|(config, _)| config)
                .map_err(|error| error.to_string())
        }),
        tokens: environment("RINGGATE_BOOTSTRAP_TOKEN")
            .into_iter()
            .filter(|token| !token.is_empty())
            .collect(),
    })?;
    notice::say(running.summary());
    running.wait().map_err(Into::into)
}
