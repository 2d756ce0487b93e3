//! `ringgate load`.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::interrupt;
use crate::load::{self, Live, Options};

/// Runs the load, shows a line a second, and reports; Ctrl-C ends it early. Exit code 1: nothing was answered.
pub(super) fn run(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = stop.clone();
    interrupt::on_interrupt(move || stopping.store(true, Ordering::Relaxed))?;
    let mut last = Live::default();
    let report = load::run(options, &stop, |live| {
        if !options.json {
            let rate =
                (live.requests - last.requests) as f64 / (live.seconds - last.seconds).max(0.001);
            eprintln!(
                "{:5.0} s  {:8.0} requests/s  {} events  {} errors",
                live.seconds, rate, live.events, live.errors
            );
        }
        last = live;
    })?;
    if !options.json {
        eprint!("{report}");
    }
    println!("{}", serde_json::to_string(&report)?);
    Ok(match report.requests {
        0 => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}
