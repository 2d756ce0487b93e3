//! `ringgate serve`.

use std::error::Error;

use crate::config::{self, Flags};
use crate::server::{self, Start};
use crate::telemetry::notice;

/// What `ringgate serve` can be told.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    flags: Flags,
    /// Drain and exit once this many requests were served: instruction counters need a process that ends by itself
    /// (`benches/instructions`). No feature of the gateway, hence not shown.
    #[arg(long, value_name = "N", hide = true)]
    exit_after: Option<u64>,
}

/// Serves until a signal ends it.
pub(super) fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let Options { flags, exit_after } = options;
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
        exit_after,
    })?;
    notice::say(running.summary());
    running.wait().map_err(Into::into)
}
