//! `ringgate sim`.

use std::error::Error;

use crate::sim;

/// Starts the simulator, says where it is, and blocks.
pub(super) fn run(options: &sim::Options) -> Result<(), Box<dyn Error>> {
    let running = sim::start(options)?;
    println!("simulator on http://{}", running.addr());
    running.join();
    Ok(())
}
