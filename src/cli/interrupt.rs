//! Ctrl-C and SIGTERM for the commands that are no server.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Calls `act` at the first signal; a second one ends the program at once. Heard from before this returns.
pub(super) fn on_interrupt(act: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let entered = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    drop(entered);
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let mut next = || {
                runtime.block_on(async {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                });
            };
            next();
            act();
            next();
            // What a shell reports of a program that Ctrl-C ended.
            std::process::exit(130);
        })?;
    Ok(())
}
