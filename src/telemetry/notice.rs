//! Lines about the program itself, on standard error.

use std::fmt::Display;
use std::io::Write;
use std::time::SystemTime;

/// Prints one line with the time before it. Never called on a data thread, which must not wait for a terminal.
pub fn say(text: impl Display) {
    let now = humantime::format_rfc3339_millis(SystemTime::now());
    // In one write, so that who reads along never sees half a line.
    let line = format!("{now} {text}\n");
    // Standard error may be closed; there is nowhere else to complain.
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}
