//! What the operator sees: access lines, notices and metrics. All of it is written by control threads.

mod access;
pub mod analytics;
pub mod logs;
pub mod notice;
pub mod prometheus;
mod writer;

pub use access::Format;
pub use writer::Writer;
