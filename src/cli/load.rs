//! `ringgate load`.

use std::error::Error;

use crate::load::{self, Live, Options};

/// Runs the load, shows a line a second, and reports.
pub(super) fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let mut last = Live::default();
    let report = load::run(options, |live| {
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
    Ok(())
}
