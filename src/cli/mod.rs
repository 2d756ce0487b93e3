//! The commands, one file each.

mod account;
mod apply;
mod backup;
mod check;
mod client;
mod demo;
mod environment;
mod export;
mod gateway;
mod import;
mod interrupt;
mod key;
mod load;
mod resources;
mod route;
mod serve;
mod sim;
mod token;

use std::error::Error;
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
    /// Create, list, roll and revoke API tokens
    #[command(subcommand)]
    Token(token::Action),
    /// List, create and delete gateways
    #[command(subcommand)]
    Gateway(gateway::Action),
    /// Show the account and what it has
    Account(client::Place),
    /// Try dynamic routes out
    #[command(subcommand)]
    Route(route::Action),
    /// Show or replace the master key that seals stored provider keys
    #[command(subcommand)]
    Key(key::Command),
    /// Copy the configuration database, also while a server runs
    Backup(backup::Options),
    /// Write all configuration that the API holds as one JSON document, without secrets
    Export(export::Options),
    /// Bring an instance to what an exported document says
    Apply(apply::Options),
    /// Take over gateways, routes, custom providers and prices from Cloudflare
    ImportCloudflare(import::Options),
    /// Put load on an OpenAI- or Anthropic-shaped endpoint
    Load(crate::load::Options),
    /// Run the provider simulator alone
    #[command(after_help = crate::sim::directives::HELP)]
    Sim(crate::sim::Options),
}

/// Parses the command line and runs the command. Exit code 2: it could not be started as asked; 1: the API refused.
pub fn run() -> ExitCode {
    let result: Outcome = match Command::parse().command {
        Subcommands::Serve(options) => done(serve::run(options)),
        Subcommands::Demo(options) => done(demo::run(options)),
        Subcommands::Check(flags) => done(check::run(&flags)),
        Subcommands::Token(action) => done(token::run(&action)),
        Subcommands::Gateway(action) => done(gateway::run(&action)),
        Subcommands::Account(place) => done(account::run(&place)),
        Subcommands::Route(action) => route::run(&action),
        Subcommands::Key(command) => done(key::run(command)),
        Subcommands::Backup(options) => done(backup::run(&options)),
        Subcommands::Export(options) => done(export::run(&options)),
        Subcommands::Apply(options) => done(apply::run(&options)),
        Subcommands::ImportCloudflare(options) => done(import::run(&options)),
        Subcommands::Load(options) => load::run(&options),
        Subcommands::Sim(options) => done(sim::run(&options)),
    };
    result.unwrap_or_else(|error| {
        for line in error.to_string().lines() {
            eprintln!("ringgate: {line}");
        }
        match error.is::<client::Failure>() {
            true => ExitCode::from(1),
            false => ExitCode::from(2),
        }
    })
}

type Outcome = Result<ExitCode, Box<dyn Error>>;

fn done(result: Result<(), Box<dyn Error>>) -> Outcome {
    result.map(|()| ExitCode::SUCCESS)
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

/// Rows below a heading, each column as wide as its widest cell.
fn table<const COLUMNS: usize>(heading: [String; COLUMNS], rows: Vec<[String; COLUMNS]>) -> String {
    let mut text = String::new();
    let all: Vec<&[String; COLUMNS]> = std::iter::once(&heading).chain(&rows).collect();
    let width = |column: usize| all.iter().map(|row| row[column].chars().count()).max();
    for row in &all {
        for (column, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if column + 1 < COLUMNS {
                let gap = width(column).unwrap_or(0) - cell.chars().count() + 2;
                text.extend(std::iter::repeat_n(' ', gap));
            }
        }
        text.push('\n');
    }
    text
}
