//! The commands, one file each.

mod check;
mod demo;
mod load;
mod serve;
mod sim;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    Sim(crate::sim::Options),
}

/// Parses the command line and runs the command. Exit code 2: it could not be started as asked.
pub fn run() -> ExitCode {
    let result = match Command::parse().command {
        Subcommands::Serve(flags) => serve::run(flags),
        Subcommands::Demo(options) => demo::run(options),
        Subcommands::Check(flags) => check::run(&flags),
        Subcommands::Load(options) => load::run(&options),
        Subcommands::Sim(options) => sim::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringgate: {error}");
            ExitCode::from(2)
        }
    }
}
