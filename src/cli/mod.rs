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
mod load;
mod resources;
mod serve;
mod sim;
mod token;

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
    /// Create, list, roll and revoke API tokens
    #[command(subcommand)]
    Token(token::Action),
    /// List, create and delete gateways
    #[command(subcommand)]
    Gateway(gateway::Action),
    /// Show the account and what it has
    Account(client::Place),
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
    Sim(crate::sim::Options),
}

/// Parses the command line and runs the command. Exit code 2: it could not be started as asked; 1: the API refused.
pub fn run() -> ExitCode {
    let result = match Command::parse().command {
        Subcommands::Serve(options) => serve::run(options),
        Subcommands::Demo(options) => demo::run(options),
        Subcommands::Check(flags) => check::run(&flags),
        Subcommands::Token(action) => token::run(&action),
        Subcommands::Gateway(action) => gateway::run(&action),
        Subcommands::Account(place) => account::run(&place),
        Subcommands::Backup(options) => backup::run(&options),
        Subcommands::Export(options) => export::run(&options),
        Subcommands::Apply(options) => apply::run(&options),
        Subcommands::ImportCloudflare(options) => import::run(&options),
        Subcommands::Load(options) => load::run(&options),
        Subcommands::Sim(options) => sim::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in error.to_string().lines() {
                eprintln!("ringgate: {line}");
            }
            match error.is::<client::Failure>() {
                true => ExitCode::from(1),
                false => ExitCode::from(2),
            }
        }
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
