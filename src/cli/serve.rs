//! `ringgate serve`.

use std::error::Error;

use crate::config::{self, Flags};
use crate::server::{self, Start};
use crate::telemetry::notice;

/// Serves until a signal ends it.
pub(super) fn run(flags: Flags) -> Result<(), Box<dyn Error>> {
    let environment = |name: &str| std::env::var(name).ok();
    let (config, shown) = config::load(&flags, &environment)?;
    super::warn(&config);
    let running = server::start(Start {
        config,
        reload: Box::new(move || {
            let (config, _) =
                config::load(&flags, &environment).map_err(|error| error.to_string())?;
            super::warn(&config);
            Ok(config)
        }),
        tokens: environment(config::TOKEN_VARIABLE)
            .into_iter()
            .filter(|token| !token.is_empty())
            .collect(),
    })
    .map_err(|error| config::located(&shown, &error.to_string()))?;
    notice::say(running.summary());
    running.wait().map_err(Into::into)
}
