//! The command line.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: ringgate::memory::Allocator = ringgate::memory::Allocator;

fn main() -> ExitCode {
    ringgate::cli::run()
}
