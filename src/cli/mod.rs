//! The commands, one file each.

mod check;
mod demo;
mod environment;
mod interrupt;
mod load;
mod serve;
mod sim;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{self, Config};
use crate::telemetry::notice;

/// A self-hosted AI gateway for bare-metal Linux.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Command {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Run the gateway
    Serve(serve::Options),
    /// Run the gateway with the simulator behind every provider
    Demo(demo::Options),
    /// Print the configuration that would run, each value with its origin
    Check(crate::config::Flags),
    /// Put load on an OpenAI- or Anthropic-shaped endpoint
    Load(crate::load::Options),
    /// Run the provider simulator alone
    #[command(after_help = crate::sim::directives::HELP)]
    Sim(crate::sim::Options),
}

/// Parses the command line and runs the command. Exit code 2: it could not be started as asked.
pub fn run() -> ExitCode {
    let result = match Command::parse().command {
        Subcommands::Serve(options) => serve::run(options).map(|()| ExitCode::SUCCESS),
        Subcommands::Demo(options) => demo::run(options).map(|()| ExitCode::SUCCESS),
        Subcommands::Check(flags) => check::run(&flags).map(|()| ExitCode::SUCCESS),
        Subcommands::Load(options) => load::run(&options),
        Subcommands::Sim(options) => sim::run(&options).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("ringgate: {error}");
        ExitCode::from(2)
    })
}

/// What deserves a second look in a configuration and in the environment beside it.
fn warnings(config: &Config) -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut warnings = config::unknown_variables(names);
    warnings.extend(config.warnings.iter().cloned());
    warnings
}

fn warn(config: &Config) {
    for warning in warnings(config) {
        notice::say(format_args!("warning: {warning}"));
    }
}
