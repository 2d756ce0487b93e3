//! `ringgate sim`.

use std::error::Error;
use std::sync::mpsc;

use super::interrupt;
use crate::sim;

/// Starts the simulator, says where it is, and serves until a signal ends it.
pub(super) fn run(options: &sim::Options) -> Result<(), Box<dyn Error>> {
    let (ended, end) = mpsc::channel();
    interrupt::on_interrupt(move || {
        // The receiver is only gone when the program ends by itself.
        let _ = ended.send(());
    })?;
    let running = sim::start(options)?;
    let address = running.addr();
    print!(
        "simulator on http://{address}
OpenAI SDK       base URL  http://{address}/v1
Anthropic SDK    base URL  http://{address}
Faults           model     gpt-4o+sim-status-429, or the header x-sim; `ringgate sim --help` lists them
Received         http://{address}/sim/requests, counters http://{address}/sim/stats
Ctrl-C ends it.
"
    );
    // An error would mean that nothing can end it any more but a kill.
    let _ = end.recv();
    running.stop();
    Ok(())
}
